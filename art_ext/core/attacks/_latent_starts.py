"""Latents from which an attack on the images of a generator starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.attacks._latent_images import LatentImages
from art_ext.core.attacks.engine.adam import BETA1, BETA2, adam_step
from art_ext.core.attacks.engine.problem import PHASES, START_BLOCK, Problem
from art_ext.core.checks import SampleError, check_choice, check_count, check_positive
from art_ext.core.geometry import row_norms
from art_ext.core.streams import normal

INITIALISATIONS = ("both", "optimise", "given")
SAME_IMAGE = 1e-3  # of the width of the box, between a sample and the image of its given latents


@dataclass(frozen=True, kw_only=True)
class Starts:
    """The choice of the starting latents.

    Attributes:
        initialisation: ``"optimise"``: the latents whose image is nearest to x, of
            ``num_restarts`` searches from random ones. ``"given"``: those in ``latents``.
            ``"both"``: an attack from each, of which each sample keeps the better outcome. Samples
            without given latents have the first only. Default: both.
        num_restarts: searches for starting latents, each from a standard Gaussian draw, >= 1.
            Default: 3.
        init_steps: steps of Adam of each, down ``||G(z, y) - x||_2``, >= 0. Default: 300.
        init_step_size: their length, > 0. Default: 0.05.
    """

    initialisation: str
    num_restarts: int
    init_steps: int
    init_step_size: float

    def __post_init__(self) -> None:
        check_choice("initialisation", self.initialisation, INITIALISATIONS)
        check_count("num_restarts", self.num_restarts)
        check_count("init_steps", self.init_steps, least=0)
        check_positive("init_step_size", self.init_step_size)

    def optimised(self, images: LatentImages, problem: Problem) -> tuple[Tensor, Tensor]:
        """Return the latents (R, d) whose images are nearest to x, and their distances (R,).

        Args:
            images: of the generator.
            problem: the active rows.
        """
        best = torch.zeros(len(problem.x), images.latent_dim, device=problem.x.device)
        least = problem.x.new_full((len(best),), torch.inf)
        for restart in range(self.num_restarts if len(best) else 0):
            block = START_BLOCK + restart * PHASES
            z = normal(problem.seed, problem.ids, block, (images.latent_dim,))
            best, least = self._descended(images, problem, z, best, least)
        return best, least

    def _descended(
        self, images: LatentImages, problem: Problem, z: Tensor, best: Tensor, least: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest latents (R, d) of a search from z, and their distances (R,).

        Args:
            images: of the generator.
            problem: the active rows.
            z: (R, d) where the search begins.
            best, least: the nearest so far, and their distances.
        """
        first = torch.zeros_like(z)
        second = torch.zeros_like(z)
        exact = geometry.exact_dtype(z.device)
        number = torch.arange(1, self.init_steps + 1, dtype=exact, device=z.device)

        lengths: list[Tensor] = []

        def slope(made: Tensor, part: slice) -> Tensor:
            found, length = direction(made - problem.x[part])
            lengths.append(length)
            return found

        for t in range(self.init_steps + 1):
            lengths.clear()
            if t < self.init_steps:
                _, gradient = images.pull(z, problem.index, slope)
                distance = torch.cat(lengths)
            else:
                distance = row_norms(images.images(z, problem.index) - problem.x, "l2")
            nearer = distance < least
            best = torch.where(nearer.unsqueeze(1), z, best)
            least = torch.where(nearer, distance, least)
            if t < self.init_steps:
                first = torch.lerp(gradient, first, BETA1)
                second = torch.lerp(gradient.square(), second, BETA2)
                z = z + adam_step(first, second, number[t : t + 1], self.init_step_size)
        return best, least


def direction(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient ``offset / ||offset||_2`` of the length of each row, 0 for length 0, and
    the lengths (R,).
    """
    length = row_norms(offset, "l2")
    return offset / length.clamp(min=torch.finfo(offset.dtype).tiny).unsqueeze(1), length


def read_latents(
    latents: Tensor | None, initialisation: str, shape: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Return given latents (N, d) as float32 on a device. None if there are none to start from.

    Args:
        latents: (N, d), with rows of NaN for samples without latents. None: no sample has any.
        initialisation: of ``INITIALISATIONS``.
        shape: (N, d).
        device: of the samples.

    Raises:
        ValueError: if they have another shape or type, or hold infinity, or are missing where
            ``initialisation="given"`` needs them.
    """
    if latents is None:
        if initialisation == "given":
            raise ValueError(
                "initialisation='given' needs the latents of the samples: give latents=, or take"
                " 'optimise'"
            )
        return None
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(f"latents must be a tensor of floats, got {kind}")
    if latents.shape != shape:
        raise ValueError(
            f"latents must have shape {shape}, one row for each sample and one"
            f" column for each coordinate of the generator, got {tuple(latents.shape)}"
        )
    if initialisation == "optimise":
        return None
    latents = latents.detach().to(device=device, dtype=torch.float32)
    absent = latents.isnan().all(dim=1)
    wrong = ~latents.isfinite().all(dim=1) & ~(absent & (initialisation == "both"))
    if bool(wrong.any()):
        raise SampleError(
            "latents must be finite, got NaN or infinity first in sample {sample}",
            int(wrong.nonzero()[0]),
        )
    return latents


def check_images(made: Tensor, x: Tensor, index: Tensor, width: float) -> None:
    """Raise ValueError unless the images of given latents are the samples.

    Args:
        made: (R, D) the images.
        x: (R, D) the samples.
        index: (R,) their positions, for the message.
        width: of the box.
    """
    if not len(x):
        return
    difference = (made - x).abs().amax(dim=1)
    largest, place = difference.max(dim=0)
    if not float(largest) <= SAME_IMAGE * width:
        raise SampleError(
            "the images of the latents must be the samples x, got images that differ from them by"
            f" up to {float(largest):.3g}, most in sample {{sample}}: give the latents and"
            " classes that made x, or initialisation='optimise'",
            int(index[place]),
        )
