"""Local Lipschitz constants from sampled neighbours of a latent (Algorithm 7)."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.core.limits.generator import GeneratorOracle
from art_ext.core.streams import fingerprint, normal, uniform

NEIGHBOURS = ("ball", "orthant")
# float32 images that differ less than this share of the radius would be rounding noise
LEAST_DISTANCE = 1e-3
_RADII = 1 << 16  # distances from the latent that a neighbour can have
_DRAWN = 4096  # most neighbours drawn at once
_LATENTS = 16  # rows of latents that a draw holds, with its random words
_COPIES = 6  # images of a row at one time: the generator's last layers, mapped, the difference


class Neighbourhood(NamedTuple):
    """The neighbours of a latent.

    Attributes:
        radius: of the ball around the latent.
        kind: ``"ball"``, uniform in the ball, or ``"orthant"``, in its positive orthant only.
        size: N, the number of neighbours.
        seed: key of the draws.
    """

    radius: float
    kind: str
    size: int
    seed: int

    def offsets(self, z: Tensor, numbers: Tensor) -> Tensor:
        """Draw offsets (S, n, d) from latents (S, d) to their neighbours of some numbers (n,).

        An offset is keyed by (seed, latent, number).
        """
        dimension = z.shape[1]
        owner = fingerprint(z).repeat_interleave(len(numbers))
        number = numbers.repeat(len(z))
        draw = normal if self.kind == "ball" else uniform
        direction = draw(self.seed, owner, 2 * number, (dimension,))
        place = (uniform(self.seed, owner, 2 * number + 1) * _RADII).to(torch.int64)
        share = _radius_quantiles(dimension, z.device).index_select(0, place)
        length = torch.linalg.vector_norm(direction, dim=1).clamp_min_(1e-30)
        direction.mul_((self.radius * share / length).unsqueeze(1))
        return direction.unflatten(0, (len(z), len(numbers)))


@functools.lru_cache(maxsize=8)
def _radius_quantiles(dimension: int, device: torch.device) -> Tensor:
    """Return (65536,) float32 quantiles of the distance from the centre of a uniform unit ball.

    A power is rounded in another way where a batch ends. A table makes the bits equal everywhere.
    """
    cells = (torch.arange(_RADII, dtype=torch.float64, device="cpu") + 0.5) / _RADII
    return cells.pow(1 / dimension).to(torch.float32).to(device)


class Nearby(NamedTuple):
    """The best neighbours of S latents.

    Attributes:
        values: (S,) their ratios, 0 if no neighbour was far enough to measure.
        offsets: (S, d) from the latents to them.
    """

    values: Tensor
    offsets: Tensor


def best_neighbours(oracle: GeneratorOracle, z: Tensor, y: Tensor, hood: Neighbourhood) -> Nearby:
    """Find the largest ratio ``||g(z') - g(z)|| / ||z' - z||`` over N neighbours of each latent.

    A neighbour nearer than 0.001 of the radius is left out. One generator row per latent and
    neighbour, and one per latent.

    Args:
        oracle: of the generator, entered.
        z: (S, d) latents.
        y: (S,) classes.
        hood: the neighbours.
    """
    with torch.no_grad():
        drawn = min(_DRAWN, oracle.fitting_rows(_LATENTS * oracle.latent_dim * 4))
        # of one draw, with all neighbours if they fit
        latents = max(1, min(drawn // hood.size, oracle.block_rows(row_bytes(oracle))))
        numbers = torch.arange(hood.size, device=z.device).split(max(1, drawn // latents))
        found = [
            _best_of_block(oracle, part, classes, hood, numbers)
            for part, classes in zip(z.split(latents), y.split(latents), strict=True)
        ]
    return Nearby(*(torch.cat(column) for column in zip(*found, strict=True)))


def _best_of_block(
    oracle: GeneratorOracle, z: Tensor, y: Tensor, hood: Neighbourhood, numbers: tuple[Tensor, ...]
) -> Nearby:
    """Find the best neighbours of a block of latents, for some numbers at a time."""
    images = oracle(z, y)
    values = z.new_zeros(len(z))
    offsets = torch.zeros_like(z)
    for some in numbers:
        points = z.unsqueeze(1) + hood.offsets(z, some)
        owner = torch.arange(len(z), device=z.device).repeat_interleave(len(some))
        changes = _changes(oracle, points.flatten(0, 1), y, images, owner)
        steps = points - z.unsqueeze(1)  # exact, unlike the offsets that were drawn
        ratios = ratios_of(changes.unflatten(0, points.shape[:2]), steps, hood.radius)
        largest, place = ratios.max(dim=1)
        chosen = steps.take_along_dim(place.view(-1, 1, 1), dim=1).squeeze(1)
        offsets = torch.where((largest > values).unsqueeze(1), chosen, offsets)
        values = torch.maximum(values, largest)
    return Nearby(values, offsets)


def _changes(
    oracle: GeneratorOracle, points: Tensor, y: Tensor, images: Tensor, owner: Tensor
) -> Tensor:
    """Return (R,) the lengths ``||g(z') - g(z)||`` for neighbours z' (R, d), block by block.

    Args:
        oracle: of the generator, entered.
        points: the neighbours.
        y: (S,) classes of the latents.
        images: (S, *S) of the latents.
        owner: (R,) the latent that each neighbour belongs to.
    """
    size = oracle.block_rows(row_bytes(oracle))
    lengths = []
    for part, latents in zip(points.split(size), owner.split(size), strict=True):
        moved = oracle(part, y[latents])
        lengths.append(torch.linalg.vector_norm((moved - images[latents]).flatten(1), dim=1))
    return torch.cat(lengths)


def ratios_of(changes: Tensor, steps: Tensor, radius: float) -> Tensor:
    """Return the ratios (S, n) of lengths of image changes (S, n) and of latent steps (S, n, d).

    The ratio of a step too short to measure is 0.
    """
    distances = torch.linalg.vector_norm(steps, dim=2)
    return torch.where(distances >= LEAST_DISTANCE * radius, changes / distances, 0.0)


def row_bytes(oracle: GeneratorOracle) -> int:
    """Return the bytes that one neighbour takes. The oracle has made images before."""
    features = math.prod(oracle.sample_shape or ())
    return 4 * (_COPIES * features + 16 * oracle.latent_dim)
