"""The command ``art-ext evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import (
    command_values,
    explained,
    given_values,
    parse_fail_under,
    shard_and_device,
    with_options,
)
from art_ext.cli.showing import show, watching
from art_ext.configuration.data import data_keywords, recorded, samples_wanted
from art_ext.configuration.evaluation import EvaluationConfig, evaluation_toml, resolve_evaluation
from art_ext.configuration.parsing import parse_arguments, parse_value
from art_ext.configuration.places import placed

if TYPE_CHECKING:
    from art_ext.core.oracle import Model
    from art_ext.data import Samples
    from art_ext.evaluation import Outcome, Watcher

SERVICE_OPTIONS = (
    "rows_per_request",
    "concurrency",
    "rate",
    "timeout",
    "retries",
    "max_rows",
    "cost_per_row",
    "max_cost",
    "reuse_answers",
)


@with_options(EvaluationConfig)
def evaluate(context: typer.Context, **options: Any) -> None:
    """Attack your own model and write a report: table, plots, and a record of every sample.

    A run that was killed goes on when the same command is given again. Under torchrun or accelerate
    launch the processes divide the work.
    """
    out = options["out"]
    with explained(f"run the same command again: what is finished lies in {out}"):
        least = parse_fail_under(options["fail_under"])
        given = given_values(context, EvaluationConfig)
        own = command_values(options, EvaluationConfig)
        config = resolve_evaluation(given, options["config"], **own)
        if config.name is not None and not config.name.strip():
            raise ValueError("name must hold at least one letter, got an empty text")
        from art_ext.evaluation.analysis.records import require_report
        from art_ext.storage.ownership import check_place
        from art_ext.storage.store import store_of

        # before anything that takes time
        require_report()
        check_place(store_of(config.out), "out must name a folder")
        write = partial(_write_config, config.out, evaluation_toml(config))
        with (
            watching(config.quiet, write) as watcher,
            _stopped(),
            placed(options["config"], given=given, attack="attacks"),
        ):
            outcome = _run(config, watcher)
        if config.dry_run:
            return
        write()  # also where nothing was left to do
        show(outcome, config.quiet, least)


@contextmanager
def _stopped() -> Iterator[None]:
    """End a command with exit code 3 and one line on stderr where a model gives no answers."""
    from art_ext.evaluation import RunStopped

    try:
        yield
    except RunStopped as stop:
        typer.echo(f"stopped: {stop}", err=True)
        raise typer.Exit(3) from stop


def build(config: EvaluationConfig) -> tuple[dict[str, Model], Samples]:
    """Return the model, by its name in the report, and the samples of a configuration."""
    from art_ext.data import load_data
    from art_ext.evaluation.execution.services import wrapped

    _, device = shard_and_device(config.shard, config.device)
    samples = load_data(config.data, **data_keywords(config)).first(samples_wanted(config.n))
    model = _model(config.model, config.model_args, config.weights, device)
    model = wrapped(model, _service_options(config), config.outputs)
    return {config.name or _name(config.model, config.weights): model}, samples


def build_in_worker(config: EvaluationConfig) -> tuple[dict[str, Model], Samples]:
    """Return models and samples as ``build``, in a worker, on the GPUs that it was given."""
    if config.gpus_per_worker and config.device is None:
        config = replace(config, device="cuda")
    return build(config)


def _service_options(config: EvaluationConfig) -> dict[str, Any]:
    """Return the options of a service by the names of ``RemoteClassifier``.

    Raises:
        ValueError: if one is given without ``answers``.
    """
    own = {field.name: field.default for field in fields(EvaluationConfig)}
    given = {name: getattr(config, name) for name in SERVICE_OPTIONS}
    lone = [name for name, value in given.items() if value != own[name]]
    if config.answers is None and lone:
        raise ValueError(
            f"{lone[0]} is of a service: give --answers FOLDER too, or let the factory return a"
            " RemoteClassifier with it"
        )
    given["reuse"] = given.pop("reuse_answers")
    return {"answers": config.answers, **given}


def _run(config: EvaluationConfig, watcher: Watcher) -> Outcome:
    """Evaluate the model of a configuration."""
    from art_ext.evaluation import evaluate as run

    part, device = shard_and_device(config.shard, config.device)
    engine_args = parse_arguments(config.engine_args or "", "engine-args")
    models, samples = build(config)
    note = getattr(samples, "note", "")
    if note and not config.quiet:
        typer.echo(note, err=True)
    return run(
        models,
        samples,
        config.out,
        eps=config.eps,
        attacks=config.attacks,
        panel=config.panel,
        mode=config.mode,
        attack_args=config.attack_args,
        targeted=config.targeted,
        max_queries=config.max_queries,
        norm=config.norm,
        stop_on_success=config.stop_on_success,
        outputs=config.outputs,
        clip_values=config.clip_values,
        batch_size=config.batch_size,
        chunk_size=config.chunk_size,
        shard=part,
        save_images=config.save_images,
        device=device,
        seed=config.seed,
        arguments={
            "command": "evaluate",
            "model": config.model,
            "model_args": dict(config.model_args),
            "weights": config.weights,
            "path": config.data,
            "n": config.n,
            "class_order": config.class_order,
            "classes": config.classes,
            **recorded(config),
        },
        overwrite=config.overwrite,
        watcher=watcher,
        engine=config.engine,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
        threads_per_worker=config.threads_per_worker,
        engine_args={name: parse_value(text) for name, text in engine_args.items()},
        rebuild=partial(build_in_worker, config),
        dry_run=config.dry_run,
    )


def _write_config(folder: str, text: str) -> None:
    """Write the configuration into a run folder."""
    from art_ext.storage.evaluation import CONFIGURATION
    from art_ext.storage.store import store_of

    store_of(folder).write(CONFIGURATION, text.encode())


def _model(
    spec: str, arguments: Mapping[str, str], weights: str | None, device: str | None
) -> Model:
    """Return the user's model with its weights, on the device."""
    from torch import nn

    from art_ext.models import load_weights, resolve_factory

    model = resolve_factory(spec, dict(arguments))
    if not isinstance(model, nn.Module):
        if weights is not None:
            raise ValueError(
                f"weights need an nn.Module, but {spec!r} made a {type(model).__name__}"
            )
        return model
    if weights is not None:
        load_weights(model, weights)
    if device is not None:
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:  # no such device, or a build without it
            raise ValueError(
                f"device must be one that this machine has, got {device!r}: {error}"
            ) from error
    return model


def _name(spec: str, weights: str | None) -> str:
    """Return the name of the model in the report: its checkpoint, or its factory without one."""
    return Path(weights).stem if weights is not None else spec.rpartition(":")[2]
