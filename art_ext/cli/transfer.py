"""The command ``art-ext transfer``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import (
    command_values,
    explained,
    given_values,
    shard_and_device,
    with_options,
)
from art_ext.cli.showing import note_reading, watching
from art_ext.cli.terminal import fitted_markdown, say
from art_ext.configuration.data import data_keywords, recorded, samples_wanted
from art_ext.configuration.parsing import parse_arguments, parse_value, split_outside_brackets
from art_ext.configuration.places import placed
from art_ext.configuration.transfer import TransferConfig, resolve_transfer, transfer_toml

if TYPE_CHECKING:
    from art_ext.data import Samples
    from art_ext.evaluation import TransferOutcome, Watcher
    from art_ext.models.sources import ModelSource

# columns that a narrow terminal shows too
KEPT = ("source", "target", "attack", "setting", "success")


@with_options(TransferConfig)
def transfer(context: typer.Context, **options: Any) -> None:
    """Make examples once per source and attack, and try them on every target.

    A run that was killed goes on when the same command is given again. With a further target it
    makes no example again.
    """
    out = options["out"]
    with explained(f"run the same command again: what is finished lies in {out}"):
        given = given_values(context, TransferConfig)
        config = resolve_transfer(
            given, options["config"], **command_values(options, TransferConfig)
        )
        from art_ext.evaluation.analysis.records import require_report

        require_report()  # before anything that takes time
        write = partial(_write_config, config.out, transfer_toml(config))
        with (
            watching(config.quiet, write, dry_run=config.dry_run, units="crafting") as watcher,
            placed(options["config"], given=given, attack="attacks"),
        ):
            outcome = run_transfer(config, watcher)
        if config.dry_run:
            return
        write()  # also where nothing was left to do
        _show(outcome, config.quiet)


def sources_of(
    texts: Sequence[str], config: TransferConfig, kind: str, device: str | None
) -> dict[str, ModelSource]:
    """Return the models of ``--source`` or ``--target``, by name.

    Raises:
        ValueError: for a text of another form, or two models of one name.
    """
    from art_ext.core.geometry import norm_name
    from art_ext.models.sources import ModelSource

    found: dict[str, ModelSource] = {}
    for text in texts:
        matched = re.fullmatch(r"(?:([^=@:/\\]+)=)?([^@=]+)(?:@(.+))?", text)
        if matched is None:
            raise ValueError(f"{kind} must be [NAME=]MODEL[@WEIGHTS], got {text!r}")
        name, model, weights = matched.groups()
        source = ModelSource(
            model, {}, weights, None, name, config.checkpoint, config.trust_checkpoint, device
        )
        name = name or source.default_name
        if name in found:
            raise ValueError(f"{kind} {name!r} is given twice: give names by NAME=MODEL")
        arguments = dict(config.model_args.get(name, {}))
        own = replace(source, name=name, model_args=arguments, normalize=config.normalize.get(name))
        found[name] = own.for_run(config.data, norm_name(config.norm))
    return found


def _check_names(config: TransferConfig, names: Sequence[str]) -> None:
    """Raise ValueError for arguments of a model that is not there."""
    from art_ext.core.checks import check_choice

    for option in ("model_args", "normalize", "outputs"):
        for name in getattr(config, option):
            check_choice(f"{option}: the model", name, tuple(names))


def _load(
    config: TransferConfig,
) -> tuple[dict[str, ModelSource], dict[str, ModelSource] | None, dict[str, Any], Samples]:
    """Return sources, targets, all loaded models by name, and the samples."""
    from art_ext.data import load_data
    from art_ext.evaluation.execution.models import facts_of
    from art_ext.evaluation.execution.transfer.models import united
    from art_ext.models.sources import load_source

    _, device = shard_and_device(config.shard, config.device)
    sources = sources_of(config.source, config, "source", device)
    targets = sources_of(config.target, config, "target", device) or None
    every = {**sources, **united(sources, targets or {})}
    _check_names(config, list(every))
    loaded = {name: load_source(one) for name, one in every.items()}
    options = data_keywords(config)
    facts = facts_of(loaded, sized=options["transform"] is not None)
    samples = load_data(config.data, **options, model=facts).first(samples_wanted(config.n))
    return sources, targets, loaded, samples


def build_in_worker(config: TransferConfig) -> tuple[dict[str, Any], Samples]:
    """Return callable models by name, and samples, in a worker process."""
    from art_ext.evaluation.execution.models import callable_model

    if config.gpus_per_worker and config.device is None:
        config = replace(config, device="cuda")
    _, _, loaded, samples = _load(config)
    return {name: callable_model(model) for name, model in loaded.items()}, samples


def run_transfer(config: TransferConfig, watcher: Watcher) -> TransferOutcome:
    """Run the transfers of a configuration."""
    from art_ext.evaluation import transfer as run
    from art_ext.evaluation.execution.engines import device_of_driver

    part, device = shard_and_device(config.shard, config.device)
    vary = dict(_varied(text) for text in config.vary)
    ensembles = dict(_named(text) for text in config.ensemble)
    engine_args = parse_arguments(config.engine_args or "", "engine-args")
    here = device_of_driver(config.device, config.engine)
    sources, targets, loaded, samples = _load(replace(config, device=here))
    note_reading(watcher, samples, config.n, TransferConfig.n)
    return run(
        {name: loaded[name] for name in sources},
        None if targets is None else {name: loaded[name] for name in targets},
        samples,
        config.attacks if config.attacks or config.panel else ("pgd",),
        config.out,
        eps=config.eps,
        panel=config.panel,
        attack_args=config.attack_args,
        norm=config.norm,
        targeted=config.targeted,
        seeds=config.seeds,
        kappa=config.kappa,
        vary=vary,
        at=config.at,
        ensembles=ensembles,
        average=config.average,
        hold_out=config.hold_out,
        baseline=config.baseline,
        max_queries=config.max_queries,
        outputs=config.outputs or None,
        clip_values=config.clip_values,
        batch_size=config.batch_size,
        chunk_size=config.chunk_size,
        device=device,
        shard=part,
        save_images=config.save_images,
        save_states=config.save_states,
        arguments=_told(config),
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


def _varied(text: str) -> tuple[str, list[Any]]:
    """Return argument and values of ``ATTACK.KEY=V1,V2``."""
    matched = re.fullmatch(r"\s*([A-Za-z_][\w:.-]*\.\w+)\s*=(.+)", text)
    if matched is None:
        raise ValueError(f"vary must be ATTACK.KEY=V1,V2, got {text!r}")
    return matched[1], [parse_value(one.strip()) for one in split_outside_brackets(matched[2])]


def _named(text: str) -> tuple[str, str]:
    """Return name and members of ``NAME=A+B``."""
    name, equals, members = text.partition("=")
    if not equals or not name.strip() or not members.strip():
        raise ValueError(f"ensemble must be NAME=A+B, got {text!r}")
    return name.strip(), members.strip()


def _told(config: TransferConfig) -> Mapping[str, Any]:
    """Return what ``run.json`` tells of the command."""
    return {
        "command": "transfer",
        "source": list(config.source),
        "target": list(config.target),
        "path": config.data,
        "n": config.n,
        **recorded(config),
    }


def _show(outcome: TransferOutcome, quiet: bool) -> None:
    """Print the table of a complete run."""
    from art_ext.core.wording import counted
    from art_ext.evaluation.analysis.transfer import transfer_text

    if outcome.missing:
        typer.echo(
            f"{outcome.folder}: {counted(outcome.missing, 'unit')} of the work missing, so there is"
            " no table yet. A unit is one attack on one source over one chunk of the samples"
        )
        return
    typer.echo(fitted_markdown(transfer_text(outcome.rows), KEPT))
    if not quiet:
        say(f"records: {outcome.folder / 'records.parquet'}")
        say(f"report: {outcome.folder / 'index.html'}")


def _write_config(folder: str, text: str) -> None:
    """Write the configuration into a run folder."""
    from art_ext.storage.evaluation import CONFIGURATION
    from art_ext.storage.store import store_of

    store_of(folder).write(CONFIGURATION, text.encode())
