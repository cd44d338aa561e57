"""The command ``art-ext limits``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import command_values, explained, given_values, with_options
from art_ext.cli.showing import watching
from art_ext.cli.sources import model_sources
from art_ext.cli.terminal import fitted_markdown, say
from art_ext.configuration.data import data_keywords, samples_wanted
from art_ext.configuration.limits import LimitsConfig, limits_toml, resolve_limits
from art_ext.configuration.parsing import parse_arguments, parse_value
from art_ext.configuration.places import placed

if TYPE_CHECKING:
    from art_ext.data import Samples
    from art_ext.evaluation import Watcher
    from art_ext.evaluation.analysis.limits import Limits
    from art_ext.models.sources import ModelSource

# columns that a narrow terminal shows too
KEPT = ("Class", "Model", "eps", "Unconstrained", "In-distribution", "Bound")


@with_options(LimitsConfig)
def limits(context: typer.Context, **options: Any) -> None:
    """Measure robustness on a generator's images beside the bounds for any classifier.

    A run that was killed goes on when the same command is given again.
    """
    out = options["out"]
    with explained(f"run the same command again: what is finished lies in {out}"):
        given = given_values(context, LimitsConfig)
        config = resolve_limits(given, options["config"], **command_values(options, LimitsConfig))
        from art_ext.evaluation.analysis.records import require_report

        require_report()  # before anything that takes time
        write = partial(_write_config, config.out, limits_toml(config))
        with watching(config.quiet, write) as watcher, placed(options["config"], given=given):
            found = _run(config, watcher)
        write()  # also where nothing was left to do
        _show(found, config)


def _sources(config: LimitsConfig) -> dict[str, ModelSource]:
    """Return the sources of the models, by their names in the report."""
    return {str(one.name): one for one in model_sources(config, config.device)}


def _data(config: LimitsConfig, models: dict[str, Any]) -> Samples | None:
    """Return the samples to attack. None: images of the generator."""
    from art_ext.data import load_data
    from art_ext.evaluation.execution.models import facts_of, resolve_models

    if config.data is None:
        return None
    options = data_keywords(config)
    facts = facts_of(resolve_models(models), sized=options["transform"] is not None)
    return load_data(config.data, **options, model=facts)


def build_in_worker(config: LimitsConfig) -> tuple[dict[str, Any], Samples]:
    """Return callable models, by their names in the report, and samples, in a worker process."""
    from art_ext.evaluation.execution.limits.checkpoints import with_checkpoints
    from art_ext.evaluation.execution.limits.samples import stored
    from art_ext.evaluation.execution.models import callable_model, resolve_models
    from art_ext.storage.limits import LimitsFolder

    if config.gpus_per_worker and config.device is None:
        config = replace(config, device="cuda")
    sources = _sources(config)
    if config.checkpoints:
        sources, _ = with_checkpoints(sources)
    models = resolve_models(sources, norm=config.norm)
    data = _data(config, models)
    samples = stored(LimitsFolder(config.out)) if data is None else data
    if samples is None:
        raise ValueError(f"{config.out} holds no samples: run the same command again")
    named = {name: callable_model(model) for name, model in models.items()}
    return named, samples.first(samples_wanted(config.n))


def _run(config: LimitsConfig, watcher: Watcher) -> Limits:
    """Run the limits of a configuration."""
    from art_ext.evaluation import limits as run

    engine_args = parse_arguments(config.engine_args or "", "engine-args")
    sources = _sources(config)
    return run(
        sources,
        config.generator,
        config.out,
        data=_data(config, sources),
        eps=config.eps,
        n=samples_wanted(config.n),
        alpha=config.alpha,
        checkpoints=config.checkpoints,
        full=config.full,
        estimators=config.estimators,
        radius=config.radius,
        delta=config.delta,
        num_latents=config.num_latents,
        num_neighbours=config.num_neighbours,
        num_iterations=config.num_iterations,
        repeats=config.repeats,
        neighbours=config.neighbours,
        lipschitz_units=config.lipschitz_units,
        image_range=config.image_range,
        num_samples=config.num_samples,
        priors=config.priors,
        attack_args=config.attack_args,
        outputs=config.outputs,
        clip_values=config.clip_values,
        batch_size=config.batch_size,
        chunk_size=config.chunk_size,
        memory_mb=config.memory_mb,
        device=config.device,
        seed=config.seed,
        save_images=config.save_images,
        arguments={
            "command": "limits",
            "generator": config.generator,
            "model": ", ".join(config.model),
            "data": config.data,
            "n": config.n,
        },
        overwrite=config.overwrite,
        watcher=watcher,
        engine=config.engine,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
        threads_per_worker=config.threads_per_worker,
        engine_args={name: parse_value(text) for name, text in engine_args.items()},
        rebuild=partial(build_in_worker, config),
    )


def _show(found: Limits, config: LimitsConfig) -> None:
    """Print tables, verdicts and warnings."""
    from art_ext.evaluation.analysis.limits import LOWER_ESTIMATE
    from art_ext.evaluation.report.limits_text import to_markdown

    for heading, text in to_markdown(found).items():
        typer.echo(f"{heading}\n{fitted_markdown(text, KEPT)}\n")
    for sentence in found.verdicts:
        if LOWER_ESTIMATE not in sentence:  # those on bounds stand in the table
            say(sentence)
    for warning in found.warnings:
        if warning.level == "warning" or not config.quiet:
            say(warning.line, err=True)
    if not config.quiet:
        typer.echo(f"report: {config.out.rstrip('/')}/index.html")


def _write_config(folder: str, text: str) -> None:
    """Write the configuration into a run folder."""
    from art_ext.storage.evaluation import CONFIGURATION
    from art_ext.storage.store import store_of

    store_of(folder).write(CONFIGURATION, text.encode())
