"""Adam on the latents of a generator, down a distortion of the image and the attack's hinge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks._latent_images import LatentImages
from art_ext.core.attacks._latent_starts import direction
from art_ext.core.attacks.engine.adam import BETA1, BETA2, adam_step
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Optimiser
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.checks import check_choice, check_flag, check_positive
from art_ext.core.geometry import distances

DISTANCES = ("squared", "plain")


@dataclass(eq=False)
class LatentState(State):
    """The latents of the candidates, and the moments of Adam.

    Attributes:
        z: (R, d) latents of the candidates.
        first, second: (R, d) moments.
        start: (R, d) where each optimisation begins.
        gradient: (R, d) of the objective at z, after the candidates were queried.
    """

    z: Tensor
    first: Tensor
    second: Tensor
    start: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentAdam(Optimiser[LatentState]):
    """Adam on z, with each row at an iteration of its own.

    Attributes:
        distance: D in the objective, ``"squared"`` for ``||G(z, y) - x||_2^2`` or ``"plain"`` for
            ``||G(z, y) - x||_2``. Default: squared.
        step_size: of Adam, > 0, in the units of z. Default: 5e-2.
        warm_start: True begins each optimisation of the search at the latents where the last one
            ended, as the reference implementation. Default: False, at the starting latents.
        images: of the generator.
        start: (R, d) starting latents of the active rows.
    """

    distance: str
    step_size: float
    warm_start: bool
    images: LatentImages
    start: Tensor

    def __post_init__(self) -> None:
        check_choice("distance", self.distance, DISTANCES)
        check_positive("step_size", self.step_size)
        check_flag("warm_start", self.warm_start)

    def init(self, problem: Problem, slope: Tensor) -> LatentState:
        """Return the starting latents. Their images are made when they are queried."""
        zero = torch.zeros_like(self.start)
        return LatentState(problem.x, self.start, zero, zero, self.start, zero)

    def step(
        self, problem: Problem, state: LatentState, answers: Answers | None, search: ConstantSearch
    ) -> LatentState:
        """One step of Adam on the objective. Rows that begin again return to their start."""
        if answers is None:
            return state
        first = torch.lerp(state.gradient, state.first, BETA1)
        second = torch.lerp(state.gradient.square(), state.second, BETA2)
        t = search.at.iteration.to(search.at.const.dtype).unsqueeze(1)
        z = state.z + adam_step(first, second, t, self.step_size)
        if search.begun is not None:
            begun = search.begun.unsqueeze(1)
            z = torch.where(begun, state.z if self.warm_start else state.start, z)
            first = first.masked_fill(begun, 0.0)
            second = second.masked_fill(begun, 0.0)
        return LatentState(state.x, z, first, second, state.start, state.gradient)

    def visit(self, driver: MinimumNorm, state: LatentState, search: ConstantSearch) -> Answers:
        """Make the images of the latents, query them, and pull the gradient back to the latents."""
        problem = driver.problem
        weight = search.weight
        losses: list[Tensor] = []
        successes: list[Tensor] = []

        def slope(made: Tensor, part: slice) -> Tensor:
            index = problem.index[part]
            outputs, loss, gradient = problem.query(made, index, problem.gain, True)
            losses.append(loss)
            successes.append(driver.judge(outputs, index))
            if gradient is None:
                raise RuntimeError("the query returned no gradient")
            return gradient * weight[part] + self._slope(made - problem.x[part])

        state.x, state.gradient = self.images.pull(state.z, problem.index, slope)
        return Answers(torch.cat(losses), torch.cat(successes), None)

    def measure(self, problem: Problem, state: LatentState) -> tuple[Tensor, Tensor]:
        """Return D, and the L2 distance, by which the rule chooses."""
        distance = distances(state.x, problem.x, "l2")
        return distance if self.distance == "plain" else distance.square(), distance

    def _slope(self, offset: Tensor) -> Tensor:
        """Return the gradient of D at images (r, D) with this offset from x."""
        return direction(offset)[0] if self.distance == "plain" else 2 * offset
