"""Bandits: projected steps along a gradient prior that an online search keeps up to date."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions, affordable
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.square_search import Layout
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count, check_flag, check_positive
from art_ext.core.geometry import unit
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.core.streams import normal

# by name and norm; those of ImageNet are the authors', those of MNIST SignHunter's authors'
# the authors' step of the prior in L2 is 0.1 times the exploration
PRESETS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "imagenet": {
        "linf": {
            "step_size": 0.01,
            "delta": 0.1,
            "prior_step_size": 100.0,
            "exploration": 1.0,
            "tile": 50,
        },
        "l2": {
            "step_size": 0.5,
            "delta": 0.01,
            "prior_step_size": 0.001,
            "exploration": 0.01,
            "tile": 50,
        },
    },
    "mnist": {
        "linf": {
            "step_size": 0.03,
            "delta": 0.1,
            "prior_step_size": 0.001,
            "exploration": 0.01,
            "tile": 8,
        }
    },
}
NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Grid:
    """The prior's cells: in each channel ``height x width`` of them cover the plane.

    Attributes:
        layout: of the inputs.
        height, width: cells along each axis.
    """

    layout: Layout
    height: int
    width: int

    @staticmethod
    def of(shape: torch.Size, tile: int | None, preset: int) -> Grid:
        """Return the grid of samples of shape (*S).

        Args:
            shape: (*S).
            tile: cells along each axis. None takes the preset's, and a cell for each feature where
                the samples are no images, or not larger.
            preset: that of the preset.

        Raises:
            ValueError: for a tile, if the samples are no images or smaller.
        """
        layout = Layout.of(shape)
        least = min(layout.height, layout.width)
        if tile is None:
            if len(shape) < 2 or least <= preset:
                return Grid(layout, layout.height, layout.width)
            return Grid(layout, preset, preset)
        check_count("tile", tile)
        if len(shape) < 2:
            raise ValueError(f"tile needs images (C, H, W), got samples of shape {tuple(shape)}")
        if tile > least:
            raise ValueError(
                f"tile must be at most {least}, the shorter side of samples {tuple(shape)}, got"
                f" {tile}"
            )
        return Grid(layout, tile, tile)

    @property
    def cells(self) -> int:
        """P, the cells of all channels."""
        return self.layout.channels * self.height * self.width

    def spread(self, prior: Tensor) -> Tensor:
        """(R, D) the cell's value at each coordinate, from (R, P): nearest neighbours."""
        if (self.height, self.width) == (self.layout.height, self.layout.width):
            return prior
        return prior.index_select(1, _cells(self, prior.device))


@functools.lru_cache(maxsize=16)
def _cells(grid: Grid, device: torch.device) -> Tensor:
    """(D,) int64, the cell of each coordinate."""
    layout = grid.layout
    rows = torch.arange(layout.height, device=device) * grid.height // layout.height
    columns = torch.arange(layout.width, device=device) * grid.width // layout.width
    plane = rows.unsqueeze(1) * grid.width + columns
    channels = torch.arange(layout.channels, device=device) * (grid.height * grid.width)
    return (channels[:, None, None] + plane).flatten()


@dataclass(eq=False)
class BanditState(State):
    """The iterates, and the prior of the gradient.

    Attributes:
        x: (R, D).
        prior: (R, P) v in L2. In L-inf ``artanh v``, along which the exponentiated gradient is a
            plain step.
    """

    prior: Tensor


@dataclass(frozen=True, kw_only=True)
class Bandits(Method[BanditState]):
    """``v_t`` follows the slope of the loss along a random direction, and x moves along ``v_t``.

    Attributes:
        grid: of the prior.
        num_steps: that the budget allows.
        step_size: of the image.
        delta: length of a probe.
        prior_step_size: of the prior.
        exploration: factor of the random direction.
        clip_probes: True clips the probes to the box.
    """

    grid: Grid
    num_steps: int
    step_size: float
    delta: float
    prior_step_size: float
    exploration: float
    clip_probes: bool
    needs_gradient = False
    queries_per_step = 2

    def __post_init__(self) -> None:
        for name in ("step_size", "delta", "prior_step_size", "exploration"):
            check_positive(name, getattr(self, name))
        check_flag("clip_probes", self.clip_probes)

    def init(self, problem: Problem, trajectory: int) -> BanditState:
        """Return the inputs, with a prior of 0."""
        return BanditState(problem.x, problem.x.new_zeros(len(problem.x), self.grid.cells))

    def step(self, problem: Problem, state: BanditState, answers: Answers, t: int) -> BanditState:
        """Return the next iterates and priors."""
        linf = problem.norm == "linf"
        prior = state.prior.tanh() if linf else state.prior
        direction = self.direction(problem, t)
        slope = self.slope(problem, state.x, prior, direction)
        moved = state.prior + self.prior_step_size * slope.unsqueeze(1) * direction
        ascent = problem.masked(self.grid.spread(moved))
        ascent = ascent.sign() if linf else unit(ascent, "l2")
        return BanditState(problem.feasible(state.x + self.step_size * ascent), moved)

    def direction(self, problem: Problem, t: int) -> Tensor:
        """(R, P) ``e = N(0, I) / sqrt(P)``."""
        cells = self.grid.cells
        return normal(problem.seed, problem.ids, t, (cells,)) / max(cells, 1) ** 0.5

    def slope(self, problem: Problem, rows: Tensor, prior: Tensor, direction: Tensor) -> Tensor:
        """(R,) ``(l1 - l2) / (delta exploration)``, from the losses of two probes."""
        explored = self.exploration * direction
        probes = torch.stack(
            [
                self.probe(problem, rows, prior + explored),
                self.probe(problem, rows, prior - explored),
            ]
        )
        owner = problem.index.repeat(2)
        _, gains = problem.scores.evaluate(problem.shaped(probes), owner, problem.gain)
        first, second = gains.view(2, -1)
        slope = (first - second).to(torch.float32) / (self.delta * self.exploration)
        # probes that say nothing must not spoil the prior for good
        return torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)

    def probe(self, problem: Problem, rows: Tensor, prior: Tensor) -> Tensor:
        """(R, D) the points at the distance delta from the iterates along a prior."""
        step = unit(problem.masked(self.grid.spread(prior)), "l2")
        probe = torch.add(rows, step, alpha=self.delta)
        return problem.clip_(probe) if self.clip_probes else probe


@public(FixedRadiusOptions, FixedRadius, without=NEEDS_GRADIENTS)
def bandits(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    preset: str = "imagenet",
    step_size: float | None = None,
    delta: float | None = None,
    prior_step_size: float | None = None,
    exploration: float | None = None,
    tile: int | None = None,
    clip_probes: bool = False,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    **options: Any,
) -> AttackResult:
    """Bandits score-based attack: projected ascent along a prior of the gradient.

    Solves ``max_x J(x) s.t. ||x - x_ori||_p <= eps``. The prior v has a value for each cell of a
    grid over the image, and begins at 0. With a random direction ``e = N(0, I) / sqrt(P)`` of the P
    cells, ``q_i = up(v +- c e)`` at the size of the image (nearest neighbours) and
    ``l_i = J(x_t + delta q_i / ||q_i||_2)``, the estimate is ``g = (l_1 - l_2) / (delta c) e``. In
    L-inf ``artanh v`` moves by h g, which is the exponentiated gradient on (v + 1) / 2, and
    ``x_{t+1} = P(x_t + alpha sgn(up(v)))``. In L2 v moves by h g, and
    ``x_{t+1} = P(x_t + alpha up(v) / ||up(v)||_2)``.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``. The last two axes of S are height and
            width, all before them channels.
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        preset: of the next five arguments. ``"imagenet"``: those of the authors. ``"mnist"``: those
            of the authors of SignHunter, for L-inf. Default: imagenet.
        step_size: alpha, in the units of x. Default: None, the preset's.
        delta: length of a probe, in the units of x. Default: None, the preset's.
        prior_step_size: h, of the prior. Default: None, the preset's.
        exploration: c, the factor of the random direction. Default: None, the preset's.
        tile: cells along each axis, at most the shorter side. Default: None, the preset's, and a
            cell for each feature where x is no image, or not larger than this.
        clip_probes: True clips the probes to the box, for a model that takes nothing else. Default:
            False.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Default: True.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + 3 k``: two probes and the check
        of the iterate.

    Raises:
        ValueError: if an argument is out of range, the samples are no images for a ``tile``, x
            leaves the box, x or the clean outputs hold NaN, a label has no column in the outputs,
            or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The check of the iterate is charged. The authors count two queries an iteration. The last
        factor of their estimate is c e, and here e, as in the code of the authors of SignHunter.
        Multiply their step of the prior by c to get ``prior_step_size``, as the presets do. In
        L-inf the prior leaves +-1 again, where the authors' update in float32 does not.

    References:
        Ilyas, Engstrom, Madry, "Prior convictions: black-box adversarial attacks with bandits and
        priors", ICLR 2019. Al-Dujaili, O'Reilly, "Sign bits are all you need for black-box
        attacks", ICLR 2020 (settings for MNIST).
    """
    check_count("max_queries", max_queries)
    check_choice("norm", norm, NORMS)
    given = {
        "step_size": step_size,
        "delta": delta,
        "prior_step_size": prior_step_size,
        "exploration": exploration,
    }
    values = preset_values(preset, norm)
    driver = FixedRadius(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        oracle=ScoreOracle,
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    method = Bandits(
        grid=Grid.of(x.shape[1:], tile, int(values["tile"])),
        num_steps=(affordable(max_queries, options.get("detector")) - 1) // 3,
        clip_probes=clip_probes,
        **{name: values[name] if value is None else value for name, value in given.items()},
    )
    return driver.run(method)


def preset_values(preset: str, norm: str) -> Mapping[str, float]:
    """Return the values of a preset in a norm.

    Raises:
        ValueError: for an unknown preset, or one without values for the norm.
    """
    check_choice("preset", preset, tuple(PRESETS))
    known = PRESETS[preset]
    if norm not in known:
        raise ValueError(
            f"preset={preset!r} has values for norm={', '.join(map(repr, known))} only, got"
            f" norm={norm!r}"
        )
    return known[norm]


register(
    AttackSpec(
        "bandits",
        bandits,
        title="Bandits",
        access="scores",
        family="fixed-radius",
        summary="Takes projected steps along a gradient prior that it learns from pairs of scores.",
        paper=(
            "Ilyas, Engstrom, Madry. Prior convictions: black-box adversarial attacks with bandits "
            "and priors. ICLR 2019."
        ),
        url="https://arxiv.org/abs/1807.07978",
        page="attacks/bandits.md",
        norms=NORMS,
        random=True,
        hosts={"art": Shell(name="Bandits"), "torchattacks": Shell(name="Bandits")},
    )
)
