"""The commands of which a sweep makes a grid: their options, their runs, and their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from art_ext.configuration.evaluation import EvaluationConfig, resolve_evaluation
from art_ext.configuration.files import read_values, toml_value
from art_ext.configuration.options import default_of, kind_of, options_of
from art_ext.configuration.parsing import parse_value, read_value
from art_ext.configuration.training import LENGTHS, TrainingConfig
from art_ext.core.checks import check_positive, nearest
from art_ext.storage import evaluation, training
from art_ext.storage.store import LocalStore
from art_ext.sweeps.grid import Settings

Values = Mapping[str, Any]  # of the options of a command, by name
TABLES = ("Mapping[str, Any]", "Mapping[str, str]", "Mapping[str, Mapping[str, Any]]")
MACHINE = ("device", "quiet")  # these decide no result, besides options that say so


@dataclass(frozen=True)
class Command:
    """A command of which a sweep makes a grid.

    Attributes:
        name: of the command.
        config: its options.
        other: the options of the command whose file may be given by mistake.
        exclusive: groups of options. A grid over one of a group drops the others.
        resolve: function of values and the run folder that returns the configuration.
        finished: function of a run folder and the configuration. True for a complete run.
    """

    name: str
    config: type
    other: type
    exclusive: tuple[tuple[str, ...], ...]
    resolve: Callable[[Values, Path], Any]
    finished: Callable[[Path, Any], bool]

    def values_of(self, base: Values, settings: Settings) -> dict[str, Any]:
        """Return the options of a cell: those of the base, with the settings of the grid over them.

        Raises:
            ValueError: for a key that is no option (the nearest one is named), or a value of
                another kind.
        """
        kinds = {name: kind_of(one) for name, (one, _) in options_of(self.config, "toml").items()}
        top: dict[str, Any] = {}
        inner: list[tuple[str, list[str], Any]] = []
        for key, value in settings.items():
            name, *path = key.split(".")
            if name not in kinds:
                raise ValueError(
                    f"grid: unknown key {key!r}{nearest(name, kinds)}: wanted an option of art-ext"
                    f" {self.name} that a configuration file holds"
                )
            if path and kinds[name] not in TABLES:
                raise ValueError(f"grid: {name} holds no further keys, got {key!r}")
            if path:
                inner.append((name, path, _inner(kinds[name], value)))
            else:
                top[name] = _top(kinds[name], value)
        found = {**base, **read_values(self.config, top, lambda name: "given", self.other)}
        for group in self.exclusive:
            if any(name in top for name in group):
                found = {
                    name: one for name, one in found.items() if name in top or name not in group
                }
        for name, path, value in inner:
            found[name] = _with(found.get(name, {}), path, value)
        return found

    def digest(self, config: Any) -> str:
        """Return a digest of everything that decides the result of a run.

        Defaults are left out, so that an option that a later version adds changes no digest.
        """
        decisive = {
            name: toml_value(getattr(config, name))
            for name, (one, about) in options_of(self.config, "toml").items()
            if about.decides
            and name not in MACHINE
            and getattr(config, name) not in (about.off, default_of(one))
        }
        text = json.dumps([self.name, decisive], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def _top(kind: str, value: Any) -> Any:
    """Return a value of the grid for an option: a number or truth value, if it wants one."""
    if not isinstance(value, str):
        return value
    plain = kind.startswith(("int", "bool")) or value.startswith(("(", "["))
    return parse_value(value) if plain else value


def _inner(kind: str, value: Any) -> Any:
    """Return a value of the grid for a key of a table."""
    if kind == "Mapping[str, str]":
        return value if isinstance(value, str) else str(value)
    return read_value(value)


def _with(table: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return a table with one value replaced."""
    first, *rest = path
    return {**table, first: _with(table.get(first, {}), rest, value) if rest else value}


# --- the two commands ---


def _resolve_training(values: Values, folder: Path) -> Any:
    from art_ext.training.runs import resolve

    return resolve(values)


def _training_finished(folder: Path, config: Any) -> bool:
    from art_ext.training.runs.record import has_figures

    run = training.read_run(LocalStore(folder))
    return run is not None and has_figures(run, config)


def _resolve_evaluation(values: Values, folder: Path) -> EvaluationConfig:
    from art_ext.cli.sources import training_defaults

    config = resolve_evaluation(values, defaults=training_defaults, out=str(folder))
    for name, found in (("eps", config.eps), ("model", config.model)):
        if len(found) > 1:
            raise ValueError(
                f"{name} of a cell must be one, got {', '.join(map(str, found))}: give --grid"
                f" {name}=VALUE,VALUE"
            )
    _check_evaluation(config)
    return config


def _check_evaluation(config: EvaluationConfig) -> None:
    """Raise ValueError for attacks and arguments that do not exist, before anything runs."""
    from art_ext.evaluation.execution.runner import members_of
    from art_ext.evaluation.panel.panels import resolve_panel

    check_positive("eps", config.eps[0])
    panel = None if config.panel is None else resolve_panel(config.panel)
    members_of(
        config.attacks,
        panel,
        config.mode,
        config.attack_args,
        config.norm,
        config.targeted is not None,
    )


def _evaluation_finished(folder: Path, config: Any) -> bool:
    run = evaluation.read_run(folder)
    return run is not None and run.get("state") == "complete"


COMMANDS = {
    "train": Command(
        "train", TrainingConfig, EvaluationConfig, (LENGTHS,), _resolve_training, _training_finished
    ),
    "evaluate": Command(
        "evaluate",
        EvaluationConfig,
        TrainingConfig,
        (("attacks", "panel"), ("model", "models")),
        _resolve_evaluation,
        _evaluation_finished,
    ),
}
