"""Rows and time of the cells of a sweep, before any of them runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.configuration.files import toml_value
from art_ext.core.wording import duration
from art_ext.errors import describe
from art_ext.sweeps.plan import Cell, Sweep

FEW, MORE = 2, 6  # weight updates of the two runs that are timed


@dataclass(frozen=True)
class Estimate:
    """Rows and time of a cell.

    Attributes:
        forwards, backwards: rows. None: unknown.
        seconds: None: unknown.
        reason: why that is unknown.
    """

    forwards: int | None = None
    backwards: int | None = None
    seconds: float | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """Rows and time as text."""
        if self.forwards is None:
            return f"rows and time unknown ({self.reason})"
        rows = f"{self.forwards:,} forward and {self.backwards:,} backward rows"
        return f"{rows}, {'time unknown' if self.seconds is None else duration(self.seconds)}"


def estimates(sweep: Sweep, cells: Sequence[Cell]) -> list[Estimate]:
    """Return what cells take. Cells that differ in the seed only are measured once."""
    known: dict[str, Estimate] = {}
    found = []
    for cell in cells:
        values = {name: toml_value(one) for name, one in cell.values.items() if name != "seed"}
        key = json.dumps(values, sort_keys=True)
        if key not in known:
            known[key] = _estimate(sweep.command.name, cell.config)
        found.append(known[key])
    return found


def _estimate(command: str, config: Any) -> Estimate:
    try:
        return _of_evaluation(config) if command == "evaluate" else _of_training(config)
    except Exception as error:  # of the user's code: the cell itself will tell
        return Estimate(reason=describe(error))


def _of_training(config: Any) -> Estimate:
    """Time a few weight updates on one minibatch, and multiply."""
    import torch

    from art_ext.configuration.data import data_keywords
    from art_ext.data import load_data
    from art_ext.training import TrainingOptions
    from art_ext.training.runs.networks import build_network
    from art_ext.training.validation import hold_out

    recipe = config.make_recipe()
    loaded, model = build_network(config, recipe)
    options = {**data_keywords(config), "model": loaded.facts}
    data = load_data(config.data, split="train", **options).first(config.n)
    recipe = recipe.fitted(model, data.rows(0, 2)[0], config.seed)
    samples = len(data)
    if config.validation:
        places = torch.arange(samples)
        samples = len(hold_out(places, places, config.validation, config.seed)[0][0])
    size = min(config.batch_size, samples)
    whole, rest = divmod(samples, size)
    sizes = [size] * whole + ([rest] if rest and not config.drop_last else [])
    updates = TrainingOptions(**config.options()).total(recipe, sizes, samples)
    rows = data.rows(0, size)
    _timed(config, model, recipe, rows, FEW)  # the first run imports and allocates more
    short = _timed(config, model, recipe, rows, FEW)
    long = _timed(config, model, recipe, rows, MORE)
    each = sum(sizes) / len(sizes) / size * updates / (MORE - FEW)
    forwards, backwards, seconds = (
        each * (last - first) for first, last in zip(short, long, strict=True)
    )
    return Estimate(round(forwards), round(backwards), max(seconds, 0.0))


def _timed(
    config: Any, model: Any, recipe: Any, rows: tuple[Any, Any], updates: int
) -> tuple[float, float, float]:
    """Return rows forward and backward, and seconds, of a training of a few updates."""
    from art_ext.configuration.training import LENGTHS
    from art_ext.training import train

    apart = {**dict.fromkeys(LENGTHS), "updates": updates, "validation": 0.0, "append": None}
    options = {**config.options(), **apart, "eps_warmup_epochs": 0.0}
    began = time.perf_counter()
    result = train(model, rows, recipe, device=config.device, **options)
    return result.forwards, result.backwards, time.perf_counter() - began


def _of_evaluation(config: Any) -> Estimate:
    """Plan an evaluation, which times a row of its model."""
    from dataclasses import replace

    from art_ext.cli.evaluate import run_evaluation
    from art_ext.evaluation import Watcher
    from art_ext.evaluation.execution.estimate import Estimate as Planned

    found: list[Planned] = []

    class Plan(Watcher):
        """Keeps the plan."""

        def planned(self, estimate: Planned) -> None:
            found.append(estimate)

    run_evaluation(replace(config, dry_run=True), Plan())
    (plan,) = found
    if any(run.rows is None for run in plan.runs):
        return Estimate(reason="an attack states no plan")
    rows = [run.rows for run in plan.runs if run.rows is not None]
    forwards, backwards = (
        plan.samples * sum(getattr(one, kind) for one in rows) for kind in ("forward", "backward")
    )
    known = all(run.seconds is not None for run in plan.runs)
    return Estimate(forwards, backwards, plan.seconds if known else None)
