"""Table 3 and Figures 2 and 5 of the ZOO paper: its techniques on a widened MNIST network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import classified_right, network
from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.checks.common import Cells
from art_ext.core.attacks import zoo
from art_ext.core.attacks.engine.attack_space import ScaledImage
from art_ext.core.result import Progress


class Widened(nn.Module):
    """An MNIST network for larger images, each of whose pixels is a mean over scale x scale."""

    def __init__(self, inner: nn.Module, scale: int) -> None:
        super().__init__()
        self.inner = inner
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """(R, 10) logits."""
        logits: Tensor = self.inner(functional.avg_pool2d(images, self.scale))
        return logits


def widened(name: str, n: int, scale: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a widened network with images that it classifies right, and their classes."""
    inner, _ = network(name)
    x, y = classified_right("mnist", n, inner)
    return Widened(inner, scale), functional.interpolate(x, scale_factor=scale, mode="nearest"), y


def techniques(
    name: str, n: int, scale: int, common: Mapping[str, Any], rows: Mapping[str, Any]
) -> Cells:
    """Run ZOO with and without each technique, in the average case.

    ``half`` and ``l2_half`` are success and mean L2 after half of the iterations. ``first`` is the
    iteration of the first success.

    Args:
        name: of the network.
        n: number of images.
        scale: side of the square of pixels that the network takes the mean of.
        common: arguments of all rows. ``growth`` lists pairs of an iteration and a side.
        rows: arguments of each row, over those of all.
    """
    model, x, y = widened(name, n, scale)
    return {row: _technique(model, x, y, {**common, **setting}) for row, setting in rows.items()}


def _technique(
    model: nn.Module, x: Tensor, y: Tensor, given: dict[str, Any]
) -> dict[str, Cell | float]:
    """Return the cells of a row."""
    growth = given.pop("growth")
    steps = given["num_steps"]
    half = torch.full((len(x),), torch.inf)

    def watch(progress: Progress) -> None:
        if progress.step <= steps // 2:
            half[progress.index] = progress.distance

    resize = dict(growth) if len(growth) > 1 else (growth[0][1] if growth else None)
    result = zoo(model, x, y, targets="average", resize=resize, callback=watch, seed=0, **given)
    success, early = result.success, half.isfinite()
    row = 2 * given["coordinates"] + 1  # queries of an iteration
    every = torch.arange(len(x)).numpy()

    def mean(values: Tensor, there: Tensor) -> Cell:
        return Cell("mean", every[there.numpy()], values[there].double().numpy())

    return {
        "success": Cell("share", every, success.double().numpy()),
        "first": mean(result.queries_to_success / row, success),
        "l2": mean(result.distance, success),
        "half": Cell("share", every, early.double().numpy()),
        "l2_half": mean(half, early),
    }


def importance(
    name: str, n: int, scale: int, sides: Sequence[int], common: Mapping[str, Any]
) -> Cells:
    """Measure where importance sampling draws: the share of the draws that fall near the digit.

    An attack in a small space leaves changes, and those give the shares of a larger space. A pixel
    is near the digit if its region of 8 x 8 holds a bright pixel.

    Args:
        name: of the network.
        n: number of images.
        scale: side of the square of pixels that the network takes the mean of.
        sides: of the small and the larger space.
        common: arguments of the attack.
    """
    model, x, y = widened(name, n, scale)
    _, channels, height, width = x.shape
    small, large = (ScaledImage((channels, height, width), side, x.device) for side in sides)
    result = zoo(model, x, y, targets="average", resize=sides[0], seed=0, **common)
    change = functional.adaptive_avg_pool2d(result.x_adv - x, sides[0]).flatten(1)
    shares = large.image(small.importance(change, large))
    regions = functional.adaptive_max_pool2d(x, 8) > 0.5
    around = functional.interpolate(regions.float(), size=sides[1], mode="nearest")
    found = result.success
    places = found.nonzero().squeeze(1).numpy()

    def cell(values: Tensor) -> Cell:
        return Cell("mean", places, 100 * values[found].double().numpy())

    return {
        "drawn": {"share": cell((shares * around).flatten(1).sum(1))},
        "area": {"share": cell(around.flatten(1).mean(1))},
    }
