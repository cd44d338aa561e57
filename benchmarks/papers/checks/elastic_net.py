"""Tables 4 to 6 of the EAD thesis: grids of radii, and each metric of three cases by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from art_ext.benchmarks.common import classified_right, network
from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.checks.common import NORMS, Cells, attacked, cells_of_cases
from art_ext.core.attacks import i_fgm
from art_ext.core.result import AttackResult


def cases(
    name: str, n: int, common: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Any]
) -> Cells:
    """Attack the first images that are classified right, towards all wrong classes.

    Args:
        name: of the network.
        n: number of images.
        common: arguments by the name of the attack.
        rows: for each row ``attack`` and its arguments.
    """
    model, _ = network(name)
    x, y = classified_right("cifar10" if name.startswith("cifar") else "mnist", n, model)
    return {
        row: cells_of_cases(attacked(model, x, y, setting, common, targets="all"), x)
        for row, setting in rows.items()
    }


def grids(name: str, n: int, steps: Mapping[str, int]) -> Cells:
    """Measure the radii that FGM and I-FGM try, and whether bisection finds the same.

    ``lowest``, ``highest`` and ``resolution`` are distances of the rows that the attack asks of a
    model that it cannot fool. ``grid`` and ``bisection`` are the mean radii that succeed on a
    network, in the average case.

    Args:
        name: of the network.
        n: number of images.
        steps: of an attack at one radius, by the first part of the names of its rows.
    """
    model, _ = network(name)
    x, y = classified_right("mnist", n, model)
    found: Cells = {}
    for attack, number in steps.items():
        for norm in NORMS:
            row: dict[str, Cell | float] = dict(_tried(norm, number))
            for search in ("grid", "bisection"):
                result = i_fgm(
                    model,
                    x,
                    y,
                    norm=norm,
                    num_steps=number,
                    search=search,
                    targets="average",
                    seed=0,
                )
                row |= _radii(search, result)
            found[f"{attack}_{norm}"] = row
    return found


def _tried(norm: str, steps: int) -> dict[str, float]:
    """Return the range of the radii that are tried, and the distance of two of them."""
    lengths: list[float] = []

    def stubborn(rows: Tensor) -> Tensor:
        lengths.append(
            float(torch.linalg.vector_norm(rows.detach(), {"l1": 1, "l2": 2}.get(norm, torch.inf)))
        )
        sums = rows.sum(1)
        return torch.stack([10 - 1e-4 * sums, torch.zeros_like(sums)], dim=1)

    i_fgm(stubborn, torch.zeros(1, 4096), None, norm=norm, num_steps=steps, search="grid")
    radii = torch.tensor(lengths[1:][steps - 1 :: steps], dtype=torch.float64)
    return {
        "lowest": round(float(radii[0]), 6),
        "highest": round(float(radii[-1]), 3),
        "resolution": round(float(radii.diff().median()), 6),
    }


def _radii(search: str, result: AttackResult) -> dict[str, Cell | float]:
    """Return success and mean radius of a search."""
    success = result.success
    places = success.nonzero().squeeze(1).numpy()
    radius = (result.trace or {})["radius"][0]
    return {
        f"{search}_success": Cell(
            "share", torch.arange(len(success)).numpy(), success.double().numpy()
        ),
        search: Cell("mean", places, radius[success].double().numpy()),
    }
