"""Common parts of check functions: networks, cells of attacks and of seeds, attacks by settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from art_ext.benchmarks.papers.cells import Cell
from art_ext.core.attacks.registry import get
from art_ext.core.metrics import case_distortions
from art_ext.core.result import AttackResult
from art_ext.models import digits_cnn, mnist_two_conv

Cells = dict[str, dict[str, Cell | float]]
OfSeeds = dict[str, dict[str, Cell]]
Values = dict[tuple[str, str], list[float]]  # of the seeds, by row and column
NORMS = ("l1", "l2", "linf")
NETWORKS: dict[str, Callable[[], nn.Module]] = {"digits": digits_cnn, "mnist": mnist_two_conv}


def attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    setting: Mapping[str, Any],
    common: Mapping[str, Mapping[str, Any]],
    **more: Any,
) -> AttackResult:
    """Run the attack of a setting.

    Args:
        model: to attack.
        x, y: samples and true classes.
        setting: ``attack`` and its arguments.
        common: arguments by the name of the attack.
        **more: further arguments.
    """
    given = {**common.get(setting["attack"], {}), **setting, **more}
    result: AttackResult = get(given.pop("attack")).function(model, x, y, seed=0, **given)
    return result


def cells_of(
    success: Tensor, lengths: Mapping[str, Tensor], keys: Tensor | None = None, prefix: str = ""
) -> dict[str, Cell | float]:
    """Return the share of successes, and the mean distortions of the successes.

    Args:
        success: (N,) bool.
        lengths: (N,) distortions by norm.
        keys: (N,) positions of the samples. None: 0 to N - 1.
        prefix: of the names of the columns.
    """
    places = np.arange(len(success)) if keys is None else keys.numpy()
    found: dict[str, Cell | float] = {
        f"{prefix}success": Cell("share", places, success.double().numpy())
    }
    for norm in NORMS:
        values = lengths[norm][success].double().numpy()
        found[f"{prefix}{norm}"] = Cell("mean", places[success.numpy()], values)
    return found


def cells_of_cases(result: AttackResult, x: Tensor) -> dict[str, Cell | float]:
    """Return ``best_success``, ``best_l1`` and so on of an attack on all wrong classes."""
    found: dict[str, Cell | float] = {}
    for case in ("best", "average", "worst"):
        measured = case_distortions(result, x, case)
        found |= cells_of(measured["success"], measured, prefix=f"{case}_")
    return found


def by_seed(values: Values, seeds: Sequence[int]) -> OfSeeds:
    """Return cells of the values that each row and column has for the seeds.

    NaN leaves a seed out.
    """
    found: OfSeeds = {}
    for (row, column), numbers in values.items():
        measured = np.array(numbers)
        known = ~np.isnan(measured)
        cell = Cell("seeds", np.array(seeds, np.int64)[known], measured[known])
        found.setdefault(row, {})[column] = cell
    return found


def over_seeds(
    seeds: Sequence[int], measure: Callable[[int], Mapping[str, Mapping[str, float]]]
) -> OfSeeds:
    """Return the cells of what a measurement finds with each seed."""
    values: Values = {}
    for seed in seeds:
        for row, columns in measure(seed).items():
            for column, value in columns.items():
                values.setdefault((row, column), []).append(value)
    return by_seed(values, seeds)
