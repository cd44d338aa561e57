"""Several runs in one report: distinct model names, and groups of comparable runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import (
    CUSTOM,
    NORMS,
    fingerprints,
    in_cascade,
    panel_name,
    samples_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from art_ext.evaluation.analysis.records import LoadedRun


def name_apart(loaded: Sequence[LoadedRun]) -> list[LoadedRun]:
    """Return runs with models that all have different names.

    If two runs use the same name, the folder's name is appended.

    Raises:
        ValueError: if a folder is given twice.
    """
    folders = [one.folder.resolve() for one in loaded]
    for folder, count in Counter(folders).items():
        if count > 1:
            raise ValueError(f"folders must differ, got {folder} {count} times")
    short = Counter(folder.name for folder in folders)
    shared = {
        model
        for model, count in Counter(name for one in loaded for name in models_of(one)).items()
        if count > 1
    }
    named = []
    for one, folder in zip(loaded, folders, strict=True):
        place = folder.name if short[folder.name] == 1 else str(folder)
        named.append(
            renamed(
                one, {model: f"{model} ({place})" for model in models_of(one) if model in shared}
            )
        )
    return named


def models_of(one: LoadedRun) -> list[str]:
    """Names of a run's models, in the order in which they ran."""
    return list(one.run["clean_accuracy"])


def renamed(one: LoadedRun, names: Mapping[str, str]) -> LoadedRun:
    """Return a run with other names of models."""
    if not names:
        return one

    def new(model: str) -> str:
        return names.get(model, model)

    run = {
        **one.run,
        "clean_accuracy": {
            new(model): accuracy for model, accuracy in one.run["clean_accuracy"].items()
        },
        "warnings": [
            {**warning, "model": new(warning["model"])} for warning in one.run["warnings"]
        ],
    }
    if "detectors" in run:
        run["detectors"] = [{**facts, "model": new(facts["model"])} for facts in run["detectors"]]
    examples = one.examples and replace(
        one.examples,
        found={(new(model), attack): kept for (model, attack), kept in one.examples.found.items()},
        chosen={new(model): chosen for model, chosen in one.examples.chosen.items()},
    )
    rows = [replace(row, model=new(row.model)) for row in one.rows]
    blocks = one.blocks.renamed(names)
    states = [replace(own, model=new(own.model)) for own in one.states]
    return replace(one, run=run, blocks=blocks, rows=rows, examples=examples, states=states)


def matched(a: LoadedRun, b: LoadedRun) -> pd.DataFrame:
    """Match the samples of two runs by their fingerprints. Repeated images match in their order.

    Returns:
        One row for each sample in both runs, by its position in ``a``: ``id``, and with the endings
        ``_a`` and ``_b`` ``index``, its position in the run, and ``label``.
    """
    numbered = []
    for one in (a, b):
        own = samples_of(one.blocks, ["id", "label"]).sort_index().reset_index()
        numbered.append(own.assign(occurrence=own.groupby("id").cumcount()))
    joined = numbered[0].merge(numbered[1], on=["id", "occurrence"], suffixes=("_a", "_b"))
    return joined.sort_values("index_a", ignore_index=True)


def comparable(loaded: Sequence[LoadedRun]) -> list[list[LoadedRun]]:
    """Return runs in groups whose distances are comparable: the same samples, norm and targets."""
    if len(loaded) == 1:
        return [list(loaded)]
    groups: dict[tuple[Any, ...], list[LoadedRun]] = {}
    for one in loaded:
        groups.setdefault(_conditions(one), []).append(one)
    return list(groups.values())


def _conditions(one: LoadedRun) -> tuple[Any, ...]:
    """Return samples, norm and targets of a run. Runs with the same are comparable."""
    ids = np.unique(fingerprints(one.blocks).to_numpy()).tobytes()
    return (ids, one.run["settings"]["norm"], one.run["settings"]["targeted"])


def describe(run: Mapping[str, Any]) -> str:
    """Return data, settings and panel of a run in a few words."""
    settings = run["settings"]
    panel = panel_name(run) or CUSTOM
    targets = "" if settings["targeted"] is None else f", targets {settings['targeted']}"
    return (
        f"{run['data']['name']}, {counted(run['data']['samples'], 'sample')},"
        f" {NORMS[settings['norm']]}, eps {', '.join(map(radius, settings['eps']))}{targets}; panel"
        f" {panel} ({run['panel']['mode']}){', ' + run['partial'] if 'partial' in run else ''}"
    )


def _panel(run: Mapping[str, Any]) -> str:
    """Return the panel of a run and its attacks."""
    name = panel_name(run)
    attacks = ", ".join(run["attacks"])
    return attacks if name is None else f"{name} ({attacks})"


def meaning(runs: Sequence[Mapping[str, Any]]) -> str:
    """Meaning of the robust accuracy of a row in these runs."""
    cascades = [in_cascade(run) for run in runs]
    one_by_one = "Each attack was given all samples, and its robust accuracy is its own."
    in_turn = (
        "Each attack was given only the samples without a success of an earlier attack, and its"
        " robust accuracy is that after this attack and all before it."
    )
    if all(cascades):
        return f"The attacks ran as a cascade. {in_turn}"
    if not any(cascades):
        return one_by_one if any(len(run["attacks"]) > 1 for run in runs) else ""
    return (
        f"In the runs whose panel is a cascade: {_lowered(in_turn)} In the others:"
        f" {_lowered(one_by_one)}"
    )


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def notes(loaded: Sequence[LoadedRun]) -> list[str]:
    """Reasons why numbers of several runs are not comparable. Empty for one run."""
    found = []
    groups = comparable(loaded)
    if len(groups) > 1:
        listed = " | ".join(", ".join(one.folder.name for one in group) for group in groups)
        each = zip(*(_conditions(group[0]) for group in groups), strict=True)
        differ = [
            name
            for name, own in zip(("samples", "norm", "targets"), each, strict=True)
            if len(set(own)) > 1
        ]
        found.append(
            f"These runs differ in their {' and '.join(differ)} ({listed}): numbers of different"
            " groups are not comparable."
        )
    for group in groups:
        radii = {tuple(one.run["settings"]["eps"]) for one in group}
        if len(radii) > 1:
            listed = "; ".join(
                f"{one.folder.name}: {', '.join(map(radius, one.run['settings']['eps']))}"
                for one in group
            )
            found.append(
                f"Runs at different eps ({listed}): compare robust accuracies at the same eps only."
            )
        panels = {
            json.dumps([one.run["panel"]["mode"], one.run["attacks"]], sort_keys=True)
            for one in group
        }
        if len(panels) > 1:
            listed = "; ".join(f"{one.folder.name}: {_panel(one.run)}" for one in group)
            found.append(
                f"Runs of different panels ({listed}): a worst case over more or stronger attacks"
                " is lower, whatever the model."
            )
    return found
