"""The command ``art-ext submit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import (
    Checkpoint,
    ClassFile,
    ClassOrder,
    Device,
    ModelArgs,
    Normalize,
    TrustCheckpoint,
    Weights,
    explained,
)
from art_ext.configuration.parsing import parse_arguments, parse_number, read_toml
from art_ext.configuration.places import place_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from art_ext.adapters.robustbench import Check, Evidence, Metadata
    from art_ext.evaluation.analysis.records import LoadedRun
    from art_ext.models import LoadedModel

RUN = "Folder of a complete run, evaluated with --save-images."
MODEL = (
    "The model as it was evaluated: FILE.py:FACTORY, whose file is submitted, or the folder of a"
    " training, timm/NAME, torchvision/NAME or a short name, for which a file is written. An"
    " external evaluation may leave it out."
)
NAME = "Model id: <Name><Year><FirstWordOfTitle>, or for --external that in the model zoo."
METADATA = "TOML file with the options of this group by their names. The command line wins over it."
DATA = "Data of the samples, as for evaluate. By default those of the run."
DATASET = "cifar10, cifar100 or imagenet. By default that of the run, or cifar10 for a file."
_said = partial(typer.Option, rich_help_panel="What the records cannot know")
ROWS = 8  # samples on which a written file is compared with the model
_TYPES: dict[str, type] = {"str": str, "bool": bool, "bool | None": bool, "int": int}


def submit(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help=RUN)] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of the submission: new or empty.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Check a submission instead.")
    ] = None,
    external: Annotated[
        bool, typer.Option("--external", help="An evaluation of a model in the zoo.")
    ] = False,
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    model_args: ModelArgs = "",
    weights: Weights = None,
    normalize: Normalize = None,
    checkpoint: Checkpoint = "best",
    trust_checkpoint: TrustCheckpoint = False,
    run_model: Annotated[
        str | None, typer.Option(help="Model of the run, if it has several.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Radius of the run, if it has several: 8/255.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    class_order: ClassOrder = None,
    classes: ClassFile = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept a part of the test set.")
    ] = False,
    sample: Annotated[int, typer.Option(help="Samples to submit for the check.")] = 200,
    model_dir: Annotated[Path, typer.Option(help="The zoo's checkpoints, for --external.")] = Path(
        "models"
    ),
    device: Device = None,
    metadata: Annotated[Path | None, _said(metavar="FILE.toml", help=METADATA)] = None,
    name: Annotated[str | None, _said(help=NAME)] = None,
    dataset: Annotated[str | None, _said(help=DATASET)] = None,
    authors: Annotated[
        str | None, _said(help="Authors of the paper, or of the external evaluation.")
    ] = None,
    paper_title: Annotated[str | None, _said()] = None,
    paper_link: Annotated[str | None, _said()] = None,
    venue: Annotated[str | None, _said(help="Venue, such as ICLR 2026.")] = None,
    architecture: Annotated[
        str | None, _said(help="Architecture, such as WideResNet-28-10.")
    ] = None,
    additional_data: Annotated[bool | None, _said("--additional-data/--no-additional-data")] = None,
    forward_passes: Annotated[
        int | None, _said(help="Forward passes of one prediction (default 1).")
    ] = None,
    footnote: Annotated[str | None, _said()] = None,
    method: Annotated[str | None, _said(help="Evaluation method: a link or a sentence.")] = None,
    url: Annotated[
        str | None, _said(help="Address of checkpoint and code, or of the adversarial images.")
    ] = None,
    model_zoo: Annotated[
        bool | None, _said("--model-zoo/--no-model-zoo", help="Request a place in the zoo.")
    ] = None,
    new_architecture: Annotated[
        bool | None, _said("--new-architecture/--known-architecture")
    ] = None,
    license: Annotated[str | None, _said(help="MIT, or the URL of another one.")] = None,
) -> None:
    """Make a folder to submit to RobustBench from a run, and check it. Exit with 1 if a check
    fails.
    """
    with explained():
        from art_ext.adapters.robustbench import (
            check_submission,
            check_submitted,
            submission,
            submitted,
        )
        from art_ext.evaluation.analysis.records import load_run
        from art_ext.models import load_model
        from art_ext.storage.store import local_folder

        if (run is None) == (check is None):
            raise ValueError("submit takes either a RUN and --out, or --check FOLDER")
        if run is not None:
            if out is None:
                raise ValueError("out must be given: --out FOLDER")
            folder = local_folder(out, "submit")
            measured = load_run(run)
            said = _metadata(context.params, metadata, measured.run["arguments"].get("path"))
            if external and model is None and weights is not None:
                raise ValueError("weights need a model: --model SOURCE")
            loaded = None
            if model is not None:
                check_submitted(model)
                loaded = load_model(
                    model,
                    model_args=parse_arguments(model_args),
                    weights=weights,
                    normalize=normalize,
                    checkpoint=checkpoint,
                    trust_checkpoint=trust_checkpoint,
                )
            radius = None if eps is None else parse_number("eps", eps)
            places = {"path": data, "class_order": class_order, "classes": classes}
            evidence = _evidence(measured, run_model, radius, places, loaded)
            source = None if loaded is None else submitted(loaded, evidence.x[:ROWS])
            check = submission(
                folder,
                said,
                evidence,
                source,
                external=external,
                allow_partial=allow_partial,
                sample=sample,
            )
            typer.echo(f"submission: {check}, open an issue with the text of issue.md")
        _show(check_submission(Path(check or ""), model_dir=model_dir, device=device))


def _show(checks: list[Check]) -> None:
    words = {True: "ok", False: "FAILED", None: "not checked"}
    width = max(len(one.name) for one in checks)
    for one in checks:
        typer.echo(f"{words[one.ok]:11}  {one.name:{width}}  {one.detail}")
    if any(one.ok is False for one in checks):
        raise typer.Exit(1)


def _metadata(given: Mapping[str, Any], file: Path | None, data: str | None) -> Metadata:
    """Metadata from the command line, then from the TOML file, then from the data of the run.

    Raises:
        ValueError: for unknown names, values of another type, a missing name, or data of another
            leaderboard or of none.
    """
    from art_ext.adapters.robustbench import Metadata

    kinds = {one.name: _TYPES[str(one.type)] for one in fields(Metadata)}
    behind = {} if file is None else _of_file(file, kinds)
    values = behind | {key: given[key] for key in kinds if given.get(key) is not None}
    if "name" not in values:
        raise ValueError("name must be given, by --name or in the file that --metadata names")
    return Metadata(**values | _leaderboard(data, values.get("dataset")))


def _leaderboard(data: str | None, given: str | None) -> dict[str, str]:
    """Return the data set of the run's leaderboard, if its data have a name and none is given.

    Args:
        data: name or path of the data of the run.
        given: the data set that the user names.

    Raises:
        ValueError: for data that no leaderboard measures, or another data set than the run's.
    """
    from art_ext.adapters.robustbench.info import FULL
    from art_ext.data.loading import data_name

    name = (data_name(data) if data else None) or ""
    known = name.partition(":")[0]
    if name and known not in FULL:
        raise ValueError(
            f"RobustBench has leaderboards of {', '.join(FULL)}, but the run is on {known}"
        )
    if given and known and given != known:
        raise ValueError(f"dataset must be that of the run, {known}, got {given!r}")
    return {"dataset": known} if known and not given else {}


def _of_file(file: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the content of a metadata file. Dashes in names count as underscores."""
    from art_ext.core.checks import nearest

    found = {key.replace("-", "_"): value for key, value in read_toml(file).items()}
    for key, value in found.items():
        place = place_of(file, key)
        if key not in kinds:
            raise ValueError(
                f"{place}: unknown option {key!r}{nearest(key, kinds)}. Known options:"
                f" {', '.join(kinds)}"
            )
        if type(value) is not kinds[key]:
            raise ValueError(f"{place}: {key} must be of type {kinds[key].__name__}, got {value!r}")
    return found


def _evidence(
    loaded: LoadedRun,
    name: str | None,
    eps: float | None,
    data: Mapping[str, str | None],
    model: LoadedModel | None,
) -> Evidence:
    """Results of one model of a run at one radius.

    Args:
        loaded: the run.
        name, eps: of the model and the radius, if the run has several.
        data: ``path``, ``class_order`` and ``classes`` of the data. None stands for the run's own
            argument.
        model: the model, if it is part of the submission.

    Raises:
        ValueError: if the run does not contain this model or radius, or if data or model differ.
    """
    from art_ext.adapters.robustbench import Evidence
    from art_ext.data import Transform, load_data
    from art_ext.evaluation.analysis.records import load_images

    run = loaded.folder
    facts = loaded.run
    settings = facts["settings"]
    name = _one_of("run-model", "models", name, list(facts["clean_accuracy"]))
    eps = _one_of("eps", "radii", eps, settings["eps"])
    _check_settings(run, settings)
    given = {key: value or facts["arguments"].get(key) for key, value in data.items()}
    path = given["path"]
    if not path:
        raise ValueError(f"{run} does not say where its data are: give --data")
    order: dict[str, Any] = {
        "class_order": given["class_order"] or "numeric",
        "classes": given["classes"],
    }
    transform = facts["data"].get("transform")
    samples = load_data(
        path,
        root=facts["arguments"].get("root"),
        data_args=facts["arguments"].get("data_args"),
        transform=None if transform is None else Transform(**transform),
        model=None if model is None else replace(model.facts, transform=None),
        **order,
    ).first(facts["data"]["samples"])
    if samples.identity != facts["identity"]["data"]:
        raise ValueError(f"data must be those of the run, but {path} holds others")
    if model is not None:
        _check_model(name, facts["identity"]["models"][name], model)
    wrong, successes, attacked = _verdicts(loaded, name, eps)
    kept = bool(facts["arguments"].get("save_images"))
    told = (
        "protocol",
        "attacks",
        "panel",
        "settings",
        "versions",
        "warnings",
        "started",
        "seconds",
    )
    details = {"data": str(path), **order, "run_model": name, "seed": settings["seed"]}
    details["run_arguments"] = facts["arguments"]
    if left_out := facts.get("left_out", {}).get(name):
        details["left_out"] = left_out
    return Evidence(
        x=samples.x,
        y=samples.y,
        wrong=wrong,
        broken=successes,
        attacked=attacked,
        norm=settings["norm"],
        eps=eps,
        # a leaderboard knows no detector
        images=load_images(run, name, eps, rejected=True) if kept else None,
        details=details | {key: facts[key] for key in told if key in facts},
    )


def _check_model(name: str, evaluated: Mapping[str, Any], model: LoadedModel) -> None:
    """Raise ValueError unless a model is the one that was evaluated."""
    from art_ext.evaluation.execution.job import identity_of_model

    found = identity_of_model(model.model)
    if evaluated.get("normalize") != found.get("normalize"):
        told = [one.get("normalize", "none") for one in (evaluated, found)]
        raise ValueError(
            f"{name} was evaluated with the normalisation {told[0]}, got {told[1]}: give --model"
            " and --normalize as for evaluate"
        )
    if evaluated["state"] != found["state"]:
        raise ValueError(
            f"model and weights must be those of the run, but their parameters differ from {name}'s"
        )


def _verdicts(
    loaded: LoadedRun, model: str, eps: float
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """(N,) bool: misclassified samples, then by attack the successes up to eps and the attacked
    ones.
    """
    import torch

    from art_ext.evaluation.analysis.radii import smallest_radii

    def by_sample(rows: pd.DataFrame, column: str) -> Tensor:
        # in the order of the index
        return torch.from_numpy(rows.groupby("index")[column].any().to_numpy(copy=True))

    own = loaded.records[loaded.records["model"] == model]
    inside = {
        name: own[(own["attack"] == name) & (own["eps"] <= eps)] for name in loaded.run["attacks"]
    }
    positions = loaded.blocks.samples(model).index.to_numpy()
    radii = {
        name: smallest_radii(loaded.blocks, model, [name], rejected=True)[positions]
        for name in inside
    }
    successes = {name: torch.from_numpy((one > 0) & (one <= eps)) for name, one in radii.items()}
    attacked = {name: by_sample(rows, "attacked") for name, rows in inside.items()}
    return by_sample(own, "already_adversarial"), successes, attacked


def _check_settings(run: Path, settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless the settings of a run are those of a leaderboard."""
    wanted = {"targeted": (None,), "outputs": ("logits",), "norm": ("linf", "l2")}
    for key, allowed in wanted.items():
        if settings[key] not in allowed:
            raise ValueError(
                f"{run} has {key}={settings[key]!r}, leaderboards require"
                f" {' or '.join(map(str, allowed))}"
            )
    if list(settings["clip_values"]) != [0, 1]:
        raise ValueError(
            f"{run} has clip_values={settings['clip_values']}, leaderboards require [0, 1]"
        )


def _one_of(option: str, kind: str, given: Any, known: list[Any]) -> Any:
    """Return the given value, or the only known one if none was given."""
    if given is None and len(known) == 1:
        return known[0]
    if given not in known:
        raise ValueError(
            f"{option} must be one of the run's {kind}, {', '.join(map(str, known))}, got {given}"
        )
    return given
