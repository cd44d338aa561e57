"""The models of a command: sources from options and TOML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.limits import LimitsConfig
from art_ext.configuration.parsing import parse_arguments, read_toml
from art_ext.configuration.places import place_of

if TYPE_CHECKING:
    from art_ext.models.sources import ModelSource

ModelOptions = EvaluationConfig | LimitsConfig
ABSENT = "-"  # stands for an option that one of several models does not have


def model_sources(config: ModelOptions, device: str | None = None) -> list[ModelSource]:
    """Return the sources of the models of a configuration, each with its name.

    Raises:
        ValueError: if ``name``, ``weights`` or ``normalize`` are not given as often as ``model``,
            or for an invalid TOML file.
    """
    from dataclasses import replace

    from art_ext.core.geometry import norm_name
    from art_ext.evaluation.execution.models import distinct
    from art_ext.models.sources import ModelSource

    if config.models is not None:
        found = _of_file(config.models, device)
    else:
        if len(config.model) > 1 and config.model_args:
            raise ValueError(
                "model_args of several models belong into a file: --models FILE.toml, with one"
                " table for each model"
            )
        every = {name: _each(config, name) for name in ("name", "weights", "normalize")}
        found = [
            ModelSource(
                source,
                config.model_args,
                every["weights"][place],
                every["normalize"][place],
                every["name"][place],
                config.checkpoint,
                config.trust_checkpoint,
                device,
                config.untrained,
                config.seed,
            )
            for place, source in enumerate(config.model)
        ]
    named = [one.for_run(config.data or "", norm_name(config.norm)) for one in found]
    names = distinct(one.name or one.default_name for one in named)
    return [replace(one, name=name) for one, name in zip(named, names, strict=True)]


def _each(config: ModelOptions, option: str) -> Sequence[str | None]:
    """Return the value of an option for each model."""
    given = getattr(config, option)
    count = len(config.model)
    if not given:
        return [None] * count
    if len(given) != count:
        raise ValueError(
            f"{option} must be given as often as model, {count} times, or not at all, got"
            f" {len(given)} times"
        )
    return [None if one == ABSENT else one for one in given]


def _of_file(file: Path, device: str | None) -> list[ModelSource]:
    """Return the sources of a TOML file.

    Raises:
        ValueError: for a file without tables, an unknown key, or a table without a model.
    """
    from art_ext.core.checks import nearest
    from art_ext.models.sources import ModelSource

    content = read_toml(file)
    known = [one.name for one in fields(ModelSource) if one.name not in ("source", "device")]
    known = ["model", *known]
    found = []
    for name, table in content.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"{place_of(file, name)}: {name!r} must be a table of one model")
        values: dict[str, Any] = {key.replace("-", "_"): value for key, value in table.items()}
        for key in values:
            if key not in known:
                raise ValueError(
                    f"{place_of(file, name)}: unknown key {key!r} of the model"
                    f" {name!r}{nearest(key, known)}. Known keys: {', '.join(known)}"
                )
        if not isinstance(values.get("model"), str):
            raise ValueError(f"{place_of(file, name)}: the table {name!r} must hold model")
        arguments = values.pop("model_args", {})
        if isinstance(arguments, str):
            arguments = parse_arguments(arguments)
        found.append(
            ModelSource(
                values.pop("model"), **{"name": name, **values}, model_args=arguments, device=device
            )
        )
    if not found:
        raise ValueError(f"{file} must hold one table for each model, got none")
    return found


def training_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return data, norm, eps and box of the trainings among the models, where they agree.

    Detectors that learn, learn from the same data.

    Args:
        values: options that are given, by name.

    Raises:
        ValueError: for a folder that holds no finished training.
    """
    folders = [Path(source) for source in values.get("model", ()) if _is_folder(source)]
    if not folders:
        return {}
    from art_ext.training.runs.source import run_defaults

    first, *others = [run_defaults(folder) for folder in folders]
    found = {name: one for name, one in first.items() if all(o.get(name) == one for o in others)}
    if "data" in found and any(map(_learns, values.get("detectors", ()))):
        found["fit_data"] = found["data"]
    return found


def tell_training_defaults(used: Mapping[str, Any]) -> None:
    """Say in one line on stderr which defaults of a training are used. Nothing without any."""
    if used:
        told = ", ".join(f"{name} {_shown(one)}" for name, one in used.items())
        typer.echo(f"from the training: {told}", err=True)


def _shown(value: Any) -> str:
    every = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in every)


def _learns(detector: str) -> bool:
    """Return True if a detector learns from training data."""
    from art_ext.evaluation.panel.user_detectors import find_detector

    return find_detector(detector).kind.needs_data


def _is_folder(source: str) -> bool:
    from art_ext.models.sources import is_run_folder

    return is_run_folder(source)
