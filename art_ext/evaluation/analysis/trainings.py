"""Reading of the run folders of trainings: history, figures and configuration."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from art_ext.configuration.repeating import parsed
from art_ext.core.wording import counted
from art_ext.storage.store import Place, Store, store_of
from art_ext.storage.training import (
    CONFIGURATION,
    HISTORY,
    VALIDATIONS,
    WEIGHTS,
    configuration_of,
    is_training,
    read_run,
)

NOT_DRAWN = ("epoch", "phase", "updates", "epoch_updates", "forwards", "backwards", "seconds")


@dataclass(frozen=True)
class Point:
    """Values of a training at one moment.

    Attributes:
        epoch: epochs done. A fraction within an epoch.
        updates: weight updates done.
        rows: rows sent so far, forward and backward.
        values: by column of the history.
    """

    epoch: float
    updates: int
    rows: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class LoadedTraining:
    """A training, read from its folder.

    Attributes:
        folder: its path.
        name: by which figures and tables call it.
        points: at the ends of the epochs, and at the validations between them, in their order.
        run: content of ``run.json``. None: it is not finished, or was not one of the command line.
        options: its configuration, by the names of the options.
        text: ``config.toml``. Empty: it has none.
    """

    folder: Path
    name: str
    points: Sequence[Point]
    run: Mapping[str, Any] | None
    options: Mapping[str, Any]
    text: str

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        named = self.options.get("recipe", "")
        return str(named["name"] if isinstance(named, Mapping) else named)

    @property
    def data(self) -> str:
        """Name of the data. Empty: it is not recorded."""
        return str(self.options.get("data", ""))

    @property
    def state(self) -> str:
        """Progress of the training, in words."""
        last = self.points[-1]
        ended = not self.text and (self.folder / WEIGHTS).is_file()  # run.json is the command's
        done = f"{counted(int(last.epoch), 'epoch')}{'' if ended else ' so far'}"
        return f"{done}, {counted(last.updates, 'update')}"

    @property
    def held(self) -> int | None:
        """Number of samples of the validation, if it is known."""
        found = (self.run or {}).get("validation_samples")
        share = self.options.get("validation", 0)
        return found or (int(share) if share >= 1 else None)

    def column(self, name: str) -> list[tuple[Point, float]]:
        """Return the points that have a value of a column, with it."""
        return [
            (point, point.values[name])
            for point in self.points
            if math.isfinite(point.values.get(name, math.nan))
        ]


def load_training(folder: Place, partial: bool = False) -> LoadedTraining:
    """Read the folder of a training.

    Args:
        folder: of ``art-ext train``, or the ``checkpoint_dir`` of ``train``.
        partial: allow a training of ``art-ext train`` that is not finished.

    Raises:
        ValueError: for another folder, a training without a complete epoch, one that is not
            finished, and damaged files.
    """
    store = store_of(folder)
    if not is_training(store):
        raise ValueError(f"{store.path} holds no training of art-ext")
    run = read_run(store)
    commanded = store.exists(CONFIGURATION)
    if run is None and commanded and not partial:
        raise ValueError(
            f"{store.path} holds a training that is not finished: go on with art-ext train --resume"
            f" --out {store.path}, or pass --partial for the epochs so far"
        )
    text = store.read(CONFIGURATION).decode("utf-8") if commanded else ""
    history = _rows(store, HISTORY)
    if not history:
        raise ValueError(f"no epoch of the training in {store.path} is complete yet")
    return LoadedTraining(
        store.path,
        Path(store.path).resolve().name,
        _points([*history, *_rows(store, VALIDATIONS)]),
        run,
        parsed(text) if commanded else _recorded(store),
        text,
    )


def named_apart(loaded: Sequence[LoadedTraining]) -> list[LoadedTraining]:
    """Return trainings with names that differ: those of their folders, or else their paths.

    Raises:
        ValueError: if a folder is given twice.
    """
    folders = [Path(one.folder).resolve() for one in loaded]
    for folder, count in Counter(folders).items():
        if count > 1:
            raise ValueError(f"folders must differ, got {folder} {count} times")
    short = Counter(one.name for one in loaded)
    return [one if short[one.name] == 1 else replace(one, name=str(one.folder)) for one in loaded]


def columns_of(loaded: Iterable[LoadedTraining]) -> list[str]:
    """Return the columns that some training has, in the order of the history."""
    names = (name for one in loaded for point in one.points for name in point.values)
    return list(dict.fromkeys(names))


def _recorded(store: Store) -> dict[str, Any]:
    """Return the configuration of a training that was started from Python."""
    found = configuration_of(store)
    options = found.pop("options", {})
    recipe = found.pop("recipe", {})
    arguments = {name: value for name, value in recipe.items() if name != "name"}
    return {"recipe": recipe.get("name", ""), "recipe_args": arguments, **options}


def _rows(store: Store, name: str) -> list[dict[str, float]]:
    """Return the rows of a file of JSON lines. None where it does not exist.

    Raises:
        ValueError: if it is damaged.
    """
    if not store.exists(name):
        return []
    try:
        rows = [json.loads(line) for line in store.read(name).decode("utf-8").splitlines()]
        for row in rows:
            for key in ("epoch", "updates", "forwards", "backwards"):
                float(row[key])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{store.path / name} must hold a row of the history in each line, but it is damaged:"
            f" {type(error).__name__}: {error}"
        ) from error
    return rows


def _points(rows: Iterable[Mapping[str, float]]) -> list[Point]:
    points = [
        Point(
            float(row["epoch"]),
            int(row["updates"]),
            int(row["forwards"] + row["backwards"]),
            {name: value for name, value in row.items() if name not in NOT_DRAWN},
        )
        for row in rows
    ]
    return sorted(points, key=lambda point: point.updates)
