"""The L2 attack of Carlini and Wagner: Adam on the inverse hyperbolic tangent of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.adam import BETA1, BETA2, adam_step
from art_ext.core.attacks.engine.cases import with_cases
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Optimiser
from art_ext.core.attacks.engine.options import MinimumNormOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.engine.tanh_space import TanhSpace
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_not_negative, check_positive
from art_ext.core.geometry import row_norms
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult


@dataclass(eq=False)
class AdamState(State):
    """The variable w of Adam, and its moments.

    Attributes:
        anchor: (R, D) w of the inputs.
        w, first, second: (R, D).
    """

    anchor: Tensor
    w: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True, kw_only=True)
class TanhAdam(Optimiser[AdamState]):
    """Adam on w, with each row at an iteration of its own.

    Attributes:
        beta: weight of an L1 term, >= 0. 0 is the attack of Carlini and Wagner. Default: 0.
        step_size: of Adam, > 0. Default: 1e-2.
    """

    beta: float
    step_size: float
    needs_clean_gradient = False

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)
        check_positive("step_size", self.step_size)

    def init(self, problem: Problem, slope: Tensor) -> AdamState:
        """Return the inputs."""
        anchor = TanhSpace(problem.low, problem.high).inverse(problem.x)
        zero = torch.zeros_like(problem.x)
        return AdamState(self._image(problem, anchor), anchor, anchor, zero, zero)

    def step(
        self, problem: Problem, state: AdamState, answers: Answers | None, search: ConstantSearch
    ) -> AdamState:
        """One step of Adam on the objective. Rows that begin again are at their inputs."""
        if answers is None:
            return state
        w, anchor = state.w, state.anchor
        gradient = answers.gradient * search.weight + 2 * (state.x - problem.x)
        # the sign of x' - x, and 0 at the start, where rounding would make it a random one
        if self.beta:
            gradient = gradient + self.beta * (w - anchor).sign()
        gradient = gradient * TanhSpace(problem.low, problem.high).slope(w)
        first = torch.lerp(gradient, state.first, BETA1)
        second = torch.lerp(gradient.square(), state.second, BETA2)
        t = search.at.iteration.to(search.at.const.dtype).unsqueeze(1)
        w = w + adam_step(first, second, t, self.step_size)
        if search.begun is not None:
            begun = search.begun.unsqueeze(1)
            w = torch.where(begun, anchor, w)
            first = first.masked_fill(begun, 0.0)
            second = second.masked_fill(begun, 0.0)
        return AdamState(self._image(problem, w), anchor, w, first, second)

    def measure(self, problem: Problem, state: AdamState) -> tuple[Tensor, Tensor]:
        """``||x' - x||_2^2 + beta ||x' - x||_1``, by which the rule chooses too."""
        offset = state.x - problem.x
        distortion = row_norms(offset, "l2").square()
        if self.beta:
            distortion = distortion + self.beta * row_norms(offset, "l1")
        return distortion, distortion

    def _image(self, problem: Problem, w: Tensor) -> Tensor:
        image = TanhSpace(problem.low, problem.high).image(w)
        return image if problem.mask is None else torch.where(problem.mask != 0, image, problem.x)


@public(MinimumNormOptions, TanhAdam, ConstantSearch, MinimumNorm)
@with_cases
def cw(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l2",
    beta: float = 0.0,
    confidence: float = 0.0,
    step_size: float = 1e-2,
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 1e-3,
    abort_early: bool | str = True,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Any,
) -> AttackResult:
    """Carlini and Wagner's L2 attack: the least distortion, found in a space without a box.

    Solves ``min_w c f(x') + ||x' - x||_2^2`` with ``x' = (1 + tanh w) / 2``, stretched to the box,
    and the f of ``ead``, by Adam, with a search over c per sample. It is the comparator of ``ead``,
    whose ``beta=0`` minimises the same objective. With ``beta > 0`` the objective is that of
    ``ead``, ``beta ||x' - x||_1`` included, and so is the rule that chooses x_adv: the change of
    variable (COV) of the thesis' Table 5, which finds no sparse perturbations.

    Where a value of x lies on the edge of the box, w starts at ``atanh(.9999995)`` = 7.6, where the
    slope of tanh is 1e-6. Give such images, MNIST among them, several hundred iterations.

    Args:
        norm: of ``distance`` and eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default: l2.
        num_steps: iterations of each optimisation, >= 1. Default: 1000.
        initial_const: the first c, > 0. Default: 1e-3.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one for each iteration,
        whose forward checks the iterate and serves its gradient. ``trace`` is as in ``ead``.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The distortion is measured to x itself, where the reference implementation measures it to
        the image of x under tanh, which differs by 1e-6. An optimisation is given up per sample, as
        in ``ead``.

    References:
        Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
    """
    method = TanhAdam(beta=beta, step_size=step_size)
    search = ConstantSearch(
        num_steps=num_steps,
        search_steps=search_steps,
        initial_const=initial_const,
        abort_early=abort_early,
    )
    driver = MinimumNorm(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        confidence=confidence,
        targets=targets,
        max_queries=max_queries,
        **options,
    )
    return driver.run(method, search)


register(
    AttackSpec(
        "cw",
        cw,
        title="C&W",
        access="gradients",
        family="minimum-norm",
        summary=(
            "Minimises the L2 distortion with Adam in tanh space, where the box needs no clipping."
        ),
        paper=(
            "Carlini, Wagner. Towards evaluating the robustness of neural networks. IEEE S&P 2017."
        ),
        page="attacks/ead.md",
        tanh=True,
        url="https://arxiv.org/abs/1608.04644",
        hosts={
            "art": Shell(name="CarliniWagner"),
            "torchattacks": Shell(reason="torchattacks has CW itself"),
        },
    )
)
