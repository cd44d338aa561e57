"""The iterated fast gradient method at the smallest radius that succeeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.cases import with_cases
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Optimiser, Search
from art_ext.core.attacks.engine.options import MinimumNormOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State, keep
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import row_norms, unit
from art_ext.core.keywords import public
from art_ext.core.losses import make_gain
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

SEARCH_RULES = ("bisection", "grid")
LARGEST = {"linf": 1.0, "l2": 10.0, "l1": 1e3}  # Table 4, for a box of width 1
RADII = 1000  # of a grid there


@dataclass(eq=False)
class Radii:
    """The radius that each of the R active rows tries, and the ends of its search.

    Attributes:
        radius: (R,) the present one, in the exact dtype.
        lower, upper: (R,) the largest that failed, and the smallest that succeeded.
        iteration: (R,) int64, steps made at this radius.
        begun: (R,) bool, rows that begin at a new radius.
    """

    radius: Tensor
    lower: Tensor
    upper: Tensor
    iteration: Tensor
    begun: Tensor


class RadiusSearch(Search):
    """Look for the smallest radius at which ``num_steps`` steps succeed.

    Attributes:
        search: ``"bisection"``: the resolution and its doubles, upwards, until one succeeds, and
            then the midpoint of a failure and a success, down to the resolution. ``"grid"``: every
            multiple of the resolution, upwards, until one succeeds. Default: bisection.
        max_radius: the largest radius, in the units of x. Default: None, that of Table 4 times the
            width of the box: 1 in L-inf, 10 in L2, 1000 in L1.
        resolution: of the radius, in the units of x. Default: None, a thousandth of max_radius, as
            in Table 4.
        at: the state for the active rows.
    """

    at: Radii

    def __init__(self, search: str, num_steps: int, largest: float, resolution: float) -> None:
        self.search = search
        self.num_steps = num_steps
        self.largest = largest
        self.resolution = resolution

    def open(self, driver: MinimumNorm) -> None:
        """Begin the search of each active row."""
        self.driver = driver
        index = driver.problem.index
        lower = torch.zeros_like(driver.found.distance[index])
        self.at = Radii(
            radius=torch.full_like(lower, self.resolution),
            lower=lower,
            upper=torch.full_like(lower, torch.inf),
            iteration=torch.zeros_like(index),
            begun=torch.ones_like(index, dtype=torch.bool),
        )
        driver.open_trace(1, "radius")

    @property
    def most_optimisations(self) -> int:
        """Most radii that are tried: upwards to the largest, then down to the resolution."""
        radii = self.largest / self.resolution
        if self.search == "grid":
            return math.ceil(radii)
        doublings = math.ceil(math.log2(radii))
        return 1 + 2 * doublings

    @property
    def most_steps(self) -> int:
        """Steps at all radii."""
        return self.most_optimisations * self.num_steps

    @property
    def begun(self) -> Tensor:
        """(R,) bool, rows that begin at a new radius."""
        return self.at.begun

    def enter(self, answers: Answers, distortion: Tensor) -> Tensor:
        """Choose the next radius where the steps at this one have ended.

        Returns:
            (R,) bool, True for rows whose search is over.
        """
        at = self.at
        iteration = at.iteration + 1
        ended = answers.success | (iteration == self.num_steps)
        at.begun = ended
        at.iteration = iteration.masked_fill(ended, 0)
        success = answers.success
        problem = self.driver.problem
        problem.trace["radius"][0, problem.index[success]] = at.radius[success].to(torch.float32)
        if self.search == "grid":
            at.radius = torch.where(ended, at.radius + self.resolution, at.radius)
            return success | (at.radius > self.largest * (1 + 1e-9))
        at.upper = torch.where(success, at.radius, at.upper)
        at.lower = torch.where(ended & ~success, at.radius, at.lower)
        bounded = at.upper.isfinite()
        upwards = (2 * at.radius).clamp(max=self.largest)
        following = torch.where(bounded, (at.lower + at.upper) / 2, upwards)
        at.radius = torch.where(ended, following, at.radius)
        narrow = at.upper - at.lower <= self.resolution
        return ended & torch.where(bounded, narrow, at.lower >= self.largest)

    def keep(self, rows: Tensor) -> None:
        """Keep the active rows at these positions."""
        self.at = keep(self.at, rows)

    def value(self) -> Tensor:
        """(N,) the smallest radius that succeeded, NaN if none did."""
        return self.driver.whole.trace["radius"][0]


@dataclass(eq=False)
class FastGradientState(State):
    """The iterates.

    Attributes:
        clean_slope: (R, D) the gradient at the clean inputs, from which every run begins.
    """

    clean_slope: Tensor


class FastGradient(Optimiser[FastGradientState]):
    """``x_{k+1} = clip(x_k + (r / T) d(grad J(x_k)))``.

    Args:
        num_steps: T.
    """

    def __init__(self, num_steps: int) -> None:
        check_count("num_steps", num_steps)
        self.num_steps = num_steps

    def init(self, problem: Problem, slope: Tensor) -> FastGradientState:
        """Return the inputs."""
        return FastGradientState(problem.x, slope)

    def step(
        self,
        problem: Problem,
        state: FastGradientState,
        answers: Answers | None,
        search: RadiusSearch,
    ) -> FastGradientState:
        """Return the next iterates. Rows at a new radius begin at their inputs."""
        begun = search.begun.unsqueeze(1)
        slope = state.clean_slope
        if answers is not None:
            slope = torch.where(begun, slope, answers.gradient)
        x = torch.where(begun, problem.x, state.x)
        direction = slope.sign() if problem.norm == "linf" else unit(slope, problem.norm)
        length = (search.at.radius / self.num_steps).to(torch.float32).unsqueeze(1)
        return FastGradientState(problem.clip(x + direction * length), state.clean_slope)

    def measure(self, problem: Problem, state: FastGradientState) -> tuple[Tensor, Tensor]:
        """Return the distance, by which the rule chooses too."""
        length = row_norms(state.x - problem.x, problem.norm)
        return length, length


@public(MinimumNormOptions, RadiusSearch, MinimumNorm)
@with_cases
def i_fgm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "linf",
    num_steps: int = 10,
    search: str = "bisection",
    max_radius: float | None = None,
    resolution: float | None = None,
    confidence: float = 0.0,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Any,
) -> AttackResult:
    """Find the smallest radius at which a few normalised steps succeed: iterated FGM.

    Approximates ``min r`` such that ``x_{k+1} = clip(x_k + (r / T) d(grad J(x_k)))`` from x meets
    the goal within T steps, J being the cross-entropy to leave (or minus that of the target) and d
    its gradient's sign in L-inf, ``g / ||g||_p`` in L2 and L1: steps that never leave the ball of
    radius r. ``num_steps=1`` is FGM.

    Args:
        norm: of the steps, of ``distance`` and of eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default:
            linf.
        num_steps: T, the most steps at a radius. Default: 10.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, whose gradient begins
        every run, and the check of each iterate. ``trace["radius"]`` (1, N) holds the smallest
        radius that succeeded, NaN if none did.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The published comparator checks the last iterate of each r only. Here a success at any step
        ends the run at r, which is cheaper and at most as far.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017. Sharma, master's thesis, 2018, section 4.3.1 (Table 4).
    """
    method = FastGradient(num_steps)
    check_choice("search", search, SEARCH_RULES)
    for name, value in (("max_radius", max_radius), ("resolution", resolution)):
        if value is not None:
            check_positive(name, value)
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
    whole = driver.whole
    gain = make_gain("ce", whole.goal.labels, targeted=whole.goal.targeted, outputs=driver.outputs)
    largest = max_radius or LARGEST[norm] * whole.box.width
    width = resolution or largest / RADII
    if width > largest:
        raise ValueError(f"resolution must be at most max_radius={largest:g}, got {width:g}")
    return driver.run(method, RadiusSearch(search, num_steps, largest, width), gain)


register(
    AttackSpec(
        "i_fgm",
        i_fgm,
        title="I-FGM",
        access="gradients",
        family="minimum-norm",
        summary=("Searches the smallest radius at which a few normalised gradient steps succeed."),
        paper=(
            "Kurakin, Goodfellow, Bengio. Adversarial examples in the physical world. "
            "ICLR workshop 2017."
        ),
        page="attacks/ead.md",
        hosts={"art": Shell(name="IFGM"), "torchattacks": Shell(name="IFGM")},
    )
)
