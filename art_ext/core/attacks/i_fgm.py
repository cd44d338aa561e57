"""The iterated fast gradient method at the smallest radius that succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.calling import outside_inference_mode
from art_ext.core.cases import with_cases
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import row_norms, unit
from art_ext.core.losses import make_gain
from art_ext.core.nearest import NearestOptions, NearestRun, spelled_out
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.run import RunKeywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

SEARCHES = ("bisection", "grid")
LARGEST = {"linf": 1.0, "l2": 10.0, "l1": 1e3}  # Table 4, for a box of width 1
RADII = 1000  # of a grid there


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[RunKeywords],
) -> AttackResult:
    """Find the smallest radius at which a few normalised gradient steps succeed, per sample.

    Approximates ``min r`` such that ``x_{k+1} = clip(x_k + (r / T) d(grad J(x_k)))`` from x meets
    the goal within T steps, J being the cross-entropy to leave (or minus that of the target) and d
    its gradient's sign in L-inf, ``g / ||g||_p`` in L2 and L1: steps that never leave the ball of
    radius r. ``num_steps=1`` is FGM.

    The published comparator looks at the last iterate of each r only; here a success at any step
    ends the run at r, which is cheaper and at most as far.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius within which an adversarial counts as success, in the units of x; None counts
            any.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, of the steps, of ``distance`` and of eps.
        num_steps: T.
        search: ``"bisection"``: the resolution and its doubles, upwards, until one succeeds, and
            then the midpoint of a failure and a success, down to the resolution; ``"grid"``: every
            multiple of the resolution, upwards, until one succeeds.
        max_radius: None takes that of Table 4, times the width of the box: 1 in L-inf, 10 in L2,
            1000 in L1.
        resolution: None takes a thousandth of max_radius, as Table 4 does.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have.
        targets: as in ``ead``.
        max_queries: most forward rows per sample, the clean check included; None for no limit.
        **options: the keywords of ``art_ext.core.nearest.NearestOptions``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, whose gradient begins
            every run, and the check
        of each iterate. ``trace["radius"]`` (1, N) holds the smallest radius that succeeded, NaN if
        none did.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017. Sharma, master's thesis, 2018, section 4.3.1 (Table 4).
    """
    check_count("num_steps", num_steps)
    check_choice("search", search, SEARCHES)
    for name, value in (("max_radius", max_radius), ("resolution", resolution)):
        if value is not None:
            check_positive(name, value)
    run = NearestRun(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        confidence=confidence,
        options=NearestOptions(targets=targets, max_queries=max_queries, **options),
    )
    gain = make_gain("ce", run.goal, targeted=run.targeted, outputs=run.outputs)
    largest = max_radius or LARGEST[norm] * run.box.width
    step_width = resolution or largest / RADII
    if step_width > largest:
        raise ValueError(f"resolution must be at most max_radius={largest:g}, got {step_width:g}")
    with run.oracle:
        known = run.open(gain, differentiate=max_queries != 1)
        radii = _Radii(run, search, largest, step_width)
        # the slope from which every run begins
        first = torch.zeros_like(run.x) if known is None else known
        rows, slope, step = run.x, first, torch.zeros_like(run.index)
        while len(run.index):
            direction = slope.sign() if norm == "linf" else unit(slope, norm)
            rows = run.clip(
                rows + direction * (radii.radius / num_steps).to(torch.float32).unsqueeze(1)
            )
            met, _, gradient = run.look(rows, gain, differentiate=True)
            slope = first if gradient is None else gradient
            run.record(rows, met, row_norms(rows - run.x, norm))
            step = step + 1
            ended = met | (step == num_steps)
            stay = run.drop(radii.close(ended, met) | run.short_of(1))
            if stay is not None:
                rows, step, first, slope, ended = (
                    one[stay] for one in (rows, step, first, slope, ended)
                )
                radii.select(stay)
            again = ended.unsqueeze(1)
            rows, slope = torch.where(again, run.x, rows), torch.where(again, first, slope)
            step = step.masked_fill(ended, 0)
    return run.result(value=run.trace["radius"][0])


class _Radii:
    """The radius that each live sample tries, and the ends of its search.

    Attributes:
        radius: (R,) the present one, in the exact dtype.
    """

    def __init__(self, run: NearestRun, search: str, largest: float, resolution: float) -> None:
        self.run, self.search, self.largest, self.resolution = run, search, largest, resolution
        self.lower = torch.zeros_like(run.near_distance[run.index])
        self.upper = torch.full_like(self.lower, torch.inf)
        self.radius = torch.full_like(self.lower, resolution)
        run.trace = {"radius": run.samples.new_full((1, len(run.samples)), torch.nan)}

    def close(self, ended: Tensor, met: Tensor) -> Tensor:
        """Choose the next radius where the run at this one has ended (R,); (R,) bool, whose
        search is over.
        """
        won = ended & met
        self.run.trace["radius"][0, self.run.index[won]] = self.radius[won].to(torch.float32)
        if self.search == "grid":
            self.radius = torch.where(ended, self.radius + self.resolution, self.radius)
            return won | (self.radius > self.largest * (1 + 1e-9))
        self.upper = torch.where(won, self.radius, self.upper)
        self.lower = torch.where(ended & ~met, self.radius, self.lower)
        bounded = self.upper.isfinite()
        upwards = (2 * self.radius).clamp(max=self.largest)
        self.radius = torch.where(
            ended, torch.where(bounded, (self.lower + self.upper) / 2, upwards), self.radius
        )
        narrow = self.upper - self.lower <= self.resolution
        return ended & torch.where(bounded, narrow, self.lower >= self.largest)

    def select(self, stay: Tensor) -> None:
        """Keep the samples at these positions."""
        self.lower, self.upper, self.radius = self.lower[stay], self.upper[stay], self.radius[stay]


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
        page="ead.md",
        lengths=("num_steps",),
        hosts={"art": Shell(name="IFGM"), "torchattacks": Shell(name="IFGM")},
    )
)
