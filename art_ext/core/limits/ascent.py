"""Local Lipschitz constants by gradient ascent inside the ball around a latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_ext.core.limits.generator import GeneratorOracle
from art_ext.core.limits.neighbours import row_bytes

_GRAPH = 8  # a row with its graph takes this many times the bytes of a row without
_NEAREST = 0.1  # length of a short offset, as a share of the radius
_STEP = 0.5  # first step as a share of the offset's length
_GROW = 1.2
_SHRINK = 0.5
_SMALLEST = 1e-30


def climb(
    oracle: GeneratorOracle,
    z: Tensor,
    y: Tensor,
    starts: Sequence[Tensor],
    *,
    radius: float,
    num_steps: int,
) -> Tensor:
    """Return (S,) the largest ratio ``||g(z') - g(z)|| / ||z' - z||`` found by projected ascent.

    A step follows the gradient of the log ratio. Its length is a share of ``||z' - z||``, which
    grows after a step that raised the ratio. The other steps are taken back and halved. Each start
    costs num_steps + 1 forward and backward rows. Each latent costs one forward row more.

    Args:
        oracle: of the generator, entered.
        z: (S, d) latents.
        y: (S,) classes.
        starts: offsets (S, d) at which an ascent begins. Those that are 0 stay there.
        radius: of the ball.
        num_steps: number of steps.
    """
    size = oracle.block_rows(_GRAPH * len(starts) * row_bytes(oracle))
    found = []
    columns = [z, y, *starts]
    for latents, classes, *offsets in zip(*(one.split(size) for one in columns), strict=True):
        with torch.no_grad():
            images = oracle(latents, classes).flatten(1)
        ratio = _Ratio(
            oracle,
            latents.repeat(len(starts), 1),
            classes.repeat(len(starts)),
            images.repeat(len(starts), 1),
        )
        best = _ascend(ratio, torch.cat(offsets), radius, num_steps)
        found.append(best.unflatten(0, (len(starts), len(latents))).amax(dim=0))
    return torch.cat(found)


class _Ratio:
    """The ratio of R offsets, and the gradient of its logarithm.

    Args:
        oracle: of the generator, entered.
        z: (R, d) latents.
        y: (R,) classes.
        images: (R, D) of the latents.
    """

    def __init__(self, oracle: GeneratorOracle, z: Tensor, y: Tensor, images: Tensor) -> None:
        self._oracle = oracle
        self._z = z
        self._y = y
        self._images = images

    def __call__(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ratios (R,) of offsets (R, d), and their gradients (R, d)."""
        points = (self._z + offsets).requires_grad_()
        with torch.enable_grad():
            change = self._oracle(points, self._y).flatten(1) - self._images
            distance = _norms(points - self._z).clamp_min(_SMALLEST)
            ratios = _norms(change) / distance
            total = ratios.clamp_min(_SMALLEST).log().sum()
        self._oracle.backward_rows += len(points)
        (gradient,) = torch.autograd.grad(total, points)
        return ratios.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)


def _ascend(ratio: _Ratio, offsets: Tensor, radius: float, num_steps: int) -> Tensor:
    """Return the best ratios (R,) from offsets (R, d)."""
    offsets = _inside(offsets, radius)
    best, gradient = ratio(offsets)
    share = torch.full_like(best, _STEP)
    for _ in range(num_steps):
        length = share * _norms(offsets) / _norms(gradient).clamp_min(_SMALLEST)
        moved = _inside(offsets + length.unsqueeze(1) * gradient, radius)
        value, slope = ratio(moved)
        better = value > best
        column = better.unsqueeze(1)
        offsets = torch.where(column, moved, offsets)
        gradient = torch.where(column, slope, gradient)
        best = torch.where(better, value, best)
        share = share * torch.where(better, _GROW, _SHRINK)
    return best


def _inside(offsets: Tensor, radius: float) -> Tensor:
    """Shorten or stretch offsets (R, d) to lengths that can be measured inside the ball."""
    length = _norms(offsets)
    wanted = length.clamp(_NEAREST * radius, radius)
    return offsets * (wanted / length.clamp_min(_SMALLEST)).unsqueeze(1)


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)
