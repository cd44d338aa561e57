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
from art_ext.cli.showing import note_reading, show, watching
from art_ext.cli.sources import model_sources, tell_training_defaults, training_defaults
from art_ext.configuration.data import data_keywords, recorded, samples_wanted
from art_ext.configuration.evaluation import EvaluationConfig, evaluation_toml, resolve_evaluation
from art_ext.configuration.parsing import parse_arguments, parse_value
from art_ext.configuration.places import placed

if TYPE_CHECKING:
    from art_ext.data import ModelFacts, Samples
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
        defaults = partial(_training_defaults, quiet=options["quiet"])
        config = resolve_evaluation(given, options["config"], defaults=defaults, **own)
        from art_ext.evaluation.analysis.records import require_report
        from art_ext.evaluation.report.card import check_figure
        from art_ext.storage.ownership import check_place
        from art_ext.storage.store import store_of

        # before anything that takes time
        require_report()
        store = store_of(config.out)
        if config.figure is not None:
            check_figure(config.figure, overwrite=config.overwrite, made=store)
        check_place(store, "out must name a folder")
        store.names()  # an object store answers, or tells what is missing
        write = partial(_write_config, config.out, evaluation_toml(_with_version(config)))
        with (
            watching(config.quiet, write, dry_run=config.dry_run) as watcher,
            _stopped(),
            placed(options["config"], given=given, attack="attacks"),
        ):
            outcome = _run(config, watcher)
        if config.dry_run:
            return
        write()  # also where nothing was left to do
        if config.figure is not None:
            _write_figure(config.out, config.figure, outcome.missing)
        show(outcome, config.quiet, least)


def run_evaluation(config: EvaluationConfig, watcher: Watcher) -> Outcome:
    """Evaluate as the command does, with nothing on the screen. The run folder goes on."""
    outcome = _run(config, watcher)
    if not config.dry_run:
        _write_config(config.out, evaluation_toml(_with_version(config)))
    return outcome


def _with_version(config: EvaluationConfig) -> EvaluationConfig:
    """Return a configuration that names the version of its panel, so that it repeats this run."""
    from art_ext.evaluation.panel.panels import with_version

    return config if config.panel is None else replace(config, panel=with_version(config.panel))


@contextmanager
def _stopped() -> Iterator[None]:
    """End a command with exit code 3 and one line on stderr where a model gives no answers."""
    from art_ext.evaluation import RunStopped

    try:
        yield
    except RunStopped as stop:
        typer.echo(f"stopped: {stop}", err=True)
        raise typer.Exit(3) from stop


def _load(config: EvaluationConfig) -> tuple[dict[str, Any], Samples, dict[str, Any]]:
    """Return the loaded models, by their names in the report, the samples, and those of detectors.

    The last are by the names of the arguments of ``evaluate``.
    """
    from art_ext.data import load_data
    from art_ext.evaluation.execution.models import facts_of
    from art_ext.evaluation.execution.services import with_answers
    from art_ext.models.sources import load_source

    _, device = shard_and_device(config.shard, config.device)
    models = {str(one.name): load_source(one) for one in model_sources(config, device)}
    models = with_answers(models, _service_options(config), config.outputs)
    options = data_keywords(config)
    facts = facts_of(models, sized=options["transform"] is not None)
    every = load_data(config.data, **options, model=facts)
    samples = every.first(samples_wanted(config.n))
    return models, samples, _data_of_detectors(config, every, samples, facts)


def _data_of_detectors(
    config: EvaluationConfig, every: Samples, samples: Samples, facts: ModelFacts
) -> dict[str, Any]:
    """Return training and calibration data of the detectors, by the arguments of ``evaluate``."""
    from art_ext.data import load_data

    found: dict[str, Any] = {}
    if not (config.detectors or config.detector_files):
        if config.fit_data is not None:
            raise ValueError("fit-data are of detectors: give --detector too")
        return found
    options = data_keywords(config)
    if config.fit_data is not None:
        found["fit_data"] = load_data(config.fit_data, split="train", **options, model=facts)
    if config.calibration_data is not None:
        found["calibration_data"] = load_data(config.calibration_data, **options, model=facts)
    elif len(samples) < len(every):
        found["calibration_data"] = every.take(slice(len(samples), None))
    return found


def _training_defaults(values: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    """Return defaults of the trainings among the models, and say in one line which are used."""
    found = training_defaults(values)
    if not quiet:
        tell_training_defaults({name: one for name, one in found.items() if name not in values})
    return found


def _model_arguments(config: EvaluationConfig) -> dict[str, Any]:
    """Return the options of the models that a run records. Those not given are left out."""
    found: dict[str, Any] = {
        "model": _single(config.model),
        "model_args": dict(config.model_args),
        "weights": _single(config.weights),
    }
    if config.models is not None:
        found["models_file"] = config.models.read_text(encoding="utf-8")
    if config.normalize:
        found["normalize"] = _single(config.normalize)
    if config.checkpoint != "best":
        found["checkpoint"] = config.checkpoint
    if config.untrained:
        found["untrained"] = True
    return found


def _single(values: tuple[str, ...]) -> str | list[str] | None:
    """Return the only value, None without any."""
    return list(values) if len(values) > 1 else next(iter(values), None)


def build_in_worker(config: EvaluationConfig) -> tuple[dict[str, Any], Samples]:
    """Return callable models, by their names in the report, and samples, in a worker process.

    A worker uses the GPUs that it was given.
    """
    from art_ext.evaluation.execution.models import callable_model

    if config.gpus_per_worker and config.device is None:
        config = replace(config, device="cuda")
    config = replace(config, detectors=(), detector_files=(), fit_data=None)  # fitted already
    models, samples, _ = _load(config)
    return {name: callable_model(model) for name, model in models.items()}, samples


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
    from art_ext.evaluation.execution.engines import device_of_driver
    from art_ext.tracking import check_trackers

    part, device = shard_and_device(config.shard, config.device)
    check_trackers(config.trackers, config.tracker_args, config.out)
    engine_args = parse_arguments(config.engine_args or "", "engine-args")
    here = device_of_driver(config.device, config.engine)
    models, samples, of_detectors = _load(replace(config, device=here))
    note_reading(watcher, samples, config.n, EvaluationConfig.n)
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
        draws=config.draws,
        stability=config.stability,
        max_queries=config.max_queries,
        norm=config.norm,
        stop_on_success=config.stop_on_success,
        outputs=config.outputs,
        clip_values=config.clip_values,
        batch_size=config.batch_size,
        amp=config.amp,
        channels_last=config.channels_last,
        compile=config.compile,
        chunk_size=config.chunk_size,
        shard=part,
        save_images=config.save_images,
        save_states=config.save_states,
        picture=config.picture,
        device=device,
        seed=config.seed,
        arguments={
            "command": "evaluate",
            **_model_arguments(config),
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
        trackers=config.trackers,
        tracker_args=config.tracker_args,
        detectors=config.detectors,
        detector_args=config.detector_args,
        detector_files=config.detector_files,
        fpr=config.fpr,
        calibration=config.calibration,
        adaptive=config.adaptive,
        members=config.members,
        generator=config.generator,
        **of_detectors,
    )


def _write_figure(folder: str, figure: Path, missing: int) -> None:
    """Write the card of a complete run. If units are missing, say who writes it."""
    from art_ext.evaluation import load_run
    from art_ext.evaluation.report.card import write_figure
    from art_ext.evaluation.report.material import Material

    if missing:
        typer.echo(
            "figure: not written yet. The run that completes the folder writes it, or `art-ext"
            f" report {folder} --figure {figure}` after it",
            err=True,
        )
        return
    write_figure(Material([load_run(folder)]), figure)
    typer.echo(f"figure: {figure}", err=True)


def _write_config(folder: str, text: str) -> None:
    """Write the configuration into a run folder."""
    from art_ext.storage.evaluation import CONFIGURATION
    from art_ext.storage.store import store_of

    store_of(folder).write(CONFIGURATION, text.encode())
