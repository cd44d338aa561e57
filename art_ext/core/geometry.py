"""Boxes, balls and norms: input checks, projections and linear minimisation over a ball."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from art_ext.core.calling import ordinary
from art_ext.core.checks import SampleError, check_choice, check_positive
from art_ext.core.streams import normal, uniform, uniform_pairs

NORMS = ("linf", "l2", "l1")
DISTORTIONS = ("l0", "l1", "l2", "linf")
_MEASURED_AT_ONCE = 1 << 21  # features: 16 MiB in float64
WITHOUT_FLOAT64 = frozenset({"mps"})  # types of devices
BOX_TOLERANCE = 1e-4
BALL_TOLERANCE = 1e-6


class Array(Protocol):
    """A NumPy array, for type checkers."""

    def __array__(self) -> Any: ...


Bound = float | Tensor | Sequence[float] | Array
ClipValues = tuple[Bound, Bound]


@dataclass(frozen=True, eq=False)
class Box:
    """Valid inputs ``lower <= x <= upper``. Both bounds broadcast to one sample's shape S."""

    lower: Tensor
    upper: Tensor

    @staticmethod
    def of(clip_values: ClipValues | None, sample_shape: torch.Size, device: torch.device) -> Box:
        """Build the box of ``clip_values`` = (lower, upper).

        Each bound is a number or one value per feature.

        Raises:
            ValueError: if ``clip_values`` is not a pair, a bound does not fit the samples, or lower
                < upper fails somewhere.
        """
        if clip_values is None or len(clip_values) != 2:
            raise ValueError(
                f"clip_values must be a pair (lower, upper) such as (0, 1), got {clip_values!r}"
            )
        bounds = []
        for name, bound in zip(("lower", "upper"), clip_values, strict=True):
            # copied, because a view of a read-only array draws a warning
            copied = ordinary(bound.detach()) if isinstance(bound, Tensor) else torch.tensor(bound)
            bound = copied.to(device=device, dtype=torch.float32)
            try:
                bound.expand(sample_shape)
            except RuntimeError as error:
                raise ValueError(
                    f"the {name} clip value must be a number or broadcast to a sample's shape"
                    f" {tuple(sample_shape)}, got shape {tuple(bound.shape)}"
                ) from error
            bounds.append(bound)
        lower, upper = bounds
        wrong = ~((lower < upper) & lower.isfinite() & upper.isfinite())
        if bool(wrong.any()):
            given = (
                repr(clip_values) if not wrong.dim() else _first_wrong(lower, upper, sample_shape)
            )
            raise ValueError(
                f"clip_values must be finite with lower < upper everywhere, got {given}"
            )
        return Box(lower, upper)

    @property
    def width(self) -> float:
        """Length of the longest side."""
        return float((self.upper - self.lower).max())

    @functools.cached_property
    def _bounds(self) -> tuple[Any, Any]:
        """Both bounds, as numbers where these serve all coordinates.

        Clamping to numbers is many times faster.
        """
        if self.lower.dim() == self.upper.dim() == 0:
            return float(self.lower), float(self.upper)
        return self.lower, self.upper

    def clamp(self, x: Tensor) -> Tensor:
        """Return the nearest point of the box."""
        return torch.clamp(x, *self._bounds)

    def contains(self, x: Tensor) -> Tensor:
        """Return (N,) bool: samples of x (N, *S) that are valid inputs. NaN is not."""
        lower, upper = self._bounds
        return (x >= lower).logical_and_(x <= upper).flatten(1).all(dim=1)

    def flat_bounds(self, sample_shape: torch.Size) -> tuple[float | Tensor, float | Tensor]:
        """Return both bounds for samples flattened to (D,).

        They are numbers if these serve all coordinates.
        """
        if isinstance(self._bounds[0], float):
            return self._bounds
        return self.lower.expand(sample_shape).flatten(), self.upper.expand(sample_shape).flatten()

    def admit(self, x: Tensor, name: str = "x") -> Tensor:
        """Return a float32 copy of x inside the box. Small rounding outside it is clamped.

        Raises:
            TypeError: for integers and bool. For bytes the message suggests dividing by 255.
            ValueError: if x holds NaN or infinity, or leaves the box by more than 1e-4. The message
                names the first sample with NaN or infinity.
        """
        if not x.is_floating_point():
            remedy = "pass x.float(), with clip_values in the same units"
            if x.dtype == torch.uint8:
                remedy = "for 8-bit images pass x.float() / 255 with clip_values=(0, 1)"
            raise TypeError(f"{name} must be floating point, got {x.dtype}; {remedy}")
        x = x.detach().to(torch.float32)
        if not x.numel():
            return x.clone()
        not_finite = ~x.isfinite().flatten(1).all(dim=1)
        if bool(not_finite.any()):
            raise SampleError(
                f"{name} must be finite, got NaN or infinity first in sample {{sample}}",
                int(not_finite.nonzero()[0]),
            )
        clamped = self.clamp(x)
        if float((clamped - x).abs_().max()) > BOX_TOLERANCE:
            raise ValueError(
                f"{name} must lie in [{float(self.lower.min()):g}, {float(self.upper.max()):g}]; "
                f"got min={float(x.min()):.4g}, max={float(x.max()):.4g}. "
                "Put normalisation inside the model or set clip_values."
            )
        return clamped


def number_bounds(clip_values: ClipValues | None) -> tuple[float, float] | None:
    """Return the box as two numbers. None without a box, or for bounds of each feature."""
    if clip_values is not None:
        low, high = clip_values
        if isinstance(low, (int, float)) and isinstance(high, (int, float)):
            return float(low), float(high)
    return None


def _first_wrong(lower: Tensor, upper: Tensor, sample_shape: torch.Size, shown: int = 3) -> str:
    """List the first features whose bounds do not fit, and count the rest."""
    lower = lower.expand(sample_shape)
    upper = upper.expand(sample_shape)
    places = (~((lower < upper) & lower.isfinite() & upper.isfinite())).nonzero().tolist()
    named = [
        f"({float(lower[tuple(place)]):g}, {float(upper[tuple(place)]):g}) in feature "
        f"{place[0] if len(place) == 1 else tuple(place)}"
        for place in places[:shown]
    ]
    more = f" and {len(places) - shown} more" if len(places) > shown else ""
    return ", ".join(named) + more


def free_coordinates(mask: Tensor, x: Tensor) -> Tensor:
    """Return (N or 1, D) bool: coordinates of x (N, *S) where the mask is not zero.

    An attack may change these coordinates only.

    Raises:
        ValueError: if the mask does not broadcast to x, or holds a negative value or NaN.
    """
    mask = torch.as_tensor(mask, device=x.device)
    if not bool((mask >= 0).all()):
        raise ValueError(
            f"mask must hold no negative value and no NaN, got min={float(mask.min())}"
        )
    try:
        mask.expand(x.shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask must broadcast to x's shape {tuple(x.shape)}, got {tuple(mask.shape)}"
        ) from error
    shared = mask.dim() < x.dim() or len(mask) == 1
    return mask.expand(1 if shared else len(x), *x.shape[1:]).flatten(1) != 0


def norm_name(norm: object) -> str:
    """Return ``"linf"``, ``"l2"`` or ``"l1"`` for a norm in any usual spelling.

    Args:
        norm: ``"linf"``, ``"Linf"``, ``"inf"``, ``np.inf``, ``"l2"``, ``"L2"``, ``"2"``, 2, and so
            on.

    Raises:
        ValueError: for anything else.
    """
    number = isinstance(norm, numbers.Real) and not isinstance(norm, bool)
    found = re.fullmatch(
        r"(?:l[-_]?)?(inf|2|1)", f"{norm:g}" if number else str(norm).strip().lower()
    )
    if found is None or not (number or isinstance(norm, str)):
        raise ValueError(
            f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r} (np.inf, 'Linf', 2,"
            " 'L2', 1, 'L1' and the like are read too)"
        )
    return f"l{found[1]}"


def check_ball(norm: str, eps: float | None, box: Box) -> None:
    """Raise ValueError unless norm and eps describe a ball inside the box.

    Raises:
        ValueError: for an unknown norm, an eps that is not a finite number > 0, or an L-inf radius
            above the width of the box.
    """
    check_choice("norm", norm, NORMS)
    if eps is None:
        return
    check_positive("eps", eps)
    if norm == "linf" and eps > box.width:
        raise ValueError(
            f"eps must not exceed the box width {box.width:g} for norm='linf', got {eps!r}; "
            "eps is in the units of x: 8/255 for images in [0, 1]"
        )


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the widest float type of the device: float32 on Apple's GPUs, float64 elsewhere."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def exact_mean(values: Tensor) -> float:
    """Return the mean of numbers or flags in their device's widest float type. NaN for none."""
    return float(values.to(exact_dtype(values.device)).mean()) if values.numel() else math.nan


def row_norms(delta: Tensor, norm: str) -> Tensor:
    """Return (N,) norms of the rows of delta (N, *S), in delta's own precision."""
    flat = delta.flatten(1)
    if not flat.shape[1]:
        return flat.new_zeros(len(flat))
    if norm == "linf" and not flat.requires_grad:
        return flat.abs().amax(dim=1)  # the same numbers in a tenth of the time
    return torch.linalg.vector_norm(flat, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)


def dual_norms(slope: Tensor, norm: str) -> Tensor:
    """Return (N,) how much each row of slope (N, D) gains along a step of length 1 in a norm."""
    return row_norms(slope, {"linf": "l1", "l2": "l2", "l1": "linf"}[norm])


def distances(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return (N,) distances ``||x_adv - x||``, measured in float64.

    The ball can then be checked to 1e-6. A few rows at a time, for the memory.
    """
    exact = exact_dtype(x.device)
    # the difference is taken in the wider type
    return _in_parts(lambda one, other: row_norms(one.to(exact) - other, norm), x_adv, x)


def _in_parts(measure: Callable[[Tensor, Tensor], Tensor], x_adv: Tensor, x: Tensor) -> Tensor:
    """Return what a function of x_adv and x returns, a few rows at a time if they are large."""
    if x.numel() <= _MEASURED_AT_ONCE:
        return measure(x_adv, x)
    rows = max(1, _MEASURED_AT_ONCE // x[0:1].numel())
    pairs = zip(x_adv.split(rows), x.split(rows), strict=True)
    return torch.cat([measure(*pair) for pair in pairs])


def distortions(x_adv: Tensor, x: Tensor) -> Tensor:
    """Measure ``x_adv - x`` of each row in L0, L1, L2 and L-inf, in the exact dtype.

    L0 is the number of features that differ.

    Args:
        x_adv, x: (N, *S) or (N, D).

    Returns:
        (N, 4), in the order of ``DISTORTIONS``.
    """
    return _in_parts(_distortions, x_adv, x)


def _distortions(x_adv: Tensor, x: Tensor) -> Tensor:
    delta = x_adv.to(exact_dtype(x.device)) - x
    changed = (delta != 0).flatten(1).sum(dim=1).to(delta.dtype)
    return torch.stack([changed, *(row_norms(delta, norm) for norm in DISTORTIONS[1:])], dim=1)


def within_ball(distance: Tensor, eps: float | None) -> Tensor:
    """Return True where ``distance <= eps + 1e-6``. With eps=None, every finite distance counts."""
    return distance.isfinite() if eps is None else distance <= eps + BALL_TOLERANCE


def attainable_radius(norm: str, eps: float, box: Box, features: int) -> float:
    """Return a radius at which ``x + delta``, rounded to float32, lies within ``eps + 1e-6``.

    The distance is measured in float64. The radius is eps itself for an L-inf ball in [0, 1]. In L1
    the rounding errors of all coordinates add up. The radius is then smaller by about 1e-7 per
    coordinate, and never less than half of eps.
    """
    magnitude = float(torch.maximum(box.lower.abs().max(), box.upper.abs().max()))
    rounding = (
        magnitude * 2.0**-23 * {"linf": 1.0, "l2": math.sqrt(features), "l1": float(features)}[norm]
    )
    return max(eps - max(0.0, rounding - BALL_TOLERANCE / 2), eps / 2)


def project(delta: Tensor, norm: str, radius: float) -> Tensor:
    """Return the Euclidean projection of each row of delta (N, D) onto ``||delta|| <= radius``."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    if norm == "l2":
        return delta * (radius / row_norms(delta, "l2").clamp(min=radius)).unsqueeze(1)
    # L1: soft thresholding; the threshold makes the sorted magnitudes sum to the radius (Duchi et
    # al., 2008)
    magnitude = delta.abs()
    ordered = magnitude.sort(dim=1, descending=True).values
    excess = ordered.cumsum(dim=1) - radius
    count = torch.arange(1, delta.shape[1] + 1, device=delta.device)
    active = (ordered * count > excess).sum(dim=1, keepdim=True).clamp(min=1)
    threshold = (excess.gather(1, active - 1) / active).clamp(min=0)
    return delta.sign() * (magnitude - threshold).clamp(min=0)


def largest_entries(values: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest entries of each row of values (N, D), in descending order, and where they
    are.

    Args:
        values: (N, D).
        count: (N,) how many are needed. On the CPU all rows give as many as the one that needs
            most. Elsewhere they give all, because a look at the numbers would wait for the device.
    """
    if not values.is_cpu or not len(values):
        return values.sort(dim=1, descending=True)
    return values.topk(min(int(count.max()), values.shape[1]), dim=1)


def project_l1_box(delta: Tensor, radius: float, room: Tensor) -> Tensor:
    """Project each row of delta (N, D) onto the intersection of an L1 ball and a box.

    The projection is ``sgn(delta) min(max(|delta| - t, 0), room)`` with the smallest t >= 0 at
    which its L1 norm is at most the radius (Croce, Hein, 2021, proposition 1). The norm falls
    piecewise linearly in t. Its slope changes where a coordinate leaves the face of the box or
    becomes 0. The sorted breakpoints give the right piece.

    Args:
        delta: (N, D).
        radius: of the ball.
        room: (N, D) >= 0, how far each coordinate may move in the direction of delta.
    """
    magnitude = delta.abs()
    # at least one coordinate that does not move, if there is one: its breakpoint is t = 0
    largest, order = largest_entries(magnitude, (delta != 0).sum(dim=1) + 1)
    # downwards from the largest t: each coordinate starts to move at |delta|, and stops at |delta|
    # - room
    stops = (largest - room.gather(1, order)).clamp(min=0)
    breakpoints, order = torch.cat([largest, stops], dim=1).sort(dim=1, descending=True)
    slope = torch.where(order < largest.shape[1], 1.0, -1.0).cumsum(dim=1)
    norms = (slope[:, :-1] * (breakpoints[:, :-1] - breakpoints[:, 1:])).cumsum(dim=1)
    norms = torch.cat([torch.zeros_like(norms[:, :1]), norms], dim=1)  # at each breakpoint
    # the last breakpoint within the ball
    piece = ((norms < radius).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    t = breakpoints.gather(1, piece) - (radius - norms.gather(1, piece)) / slope.gather(
        1, piece
    ).clamp(min=1)
    return delta.sign() * torch.minimum((magnitude - t.clamp(min=0)).clamp(min=0), room)


def unit(direction: Tensor, norm: str) -> Tensor:
    """Scale the rows of direction (N, D) to norm 1. Rows of zeros stay zeros."""
    # first to largest entry 1: the squares of the tiny gradients of a confident model would
    # underflow
    largest = direction.abs().amax(dim=1, keepdim=True) if direction.shape[1] else direction
    scaled = torch.where(largest > 0, direction / largest, 0.0)
    return scaled / row_norms(scaled, norm).clamp(min=1).unsqueeze(1)


def linear_minimiser(m: Tensor, norm: str, radius: float, room: Tensor | None = None) -> Tensor:
    """Return ``argmin <delta, m>`` over ``||delta|| <= radius``, per row of m (N, D).

    Coordinates where m is zero stay zero. In L1 the whole radius goes to the coordinate of largest
    ``|m|``, the first one of several.

    Args:
        m: (N, D).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        radius: of the ball.
        room: (N, D) >= 0, how far each coordinate may move against the sign of m. The minimum is
            then taken over the intersection of ball and box.
    """
    down = -m.sign()
    if norm == "linf":
        return down * (radius if room is None else room.clamp(max=radius))
    if norm == "l2":
        return -radius * unit(m, "l2") if room is None else down * _fill_l2(m.abs(), radius, room)
    if room is None:
        best = m.abs().argmax(dim=1, keepdim=True)
        return torch.zeros_like(m).scatter_(1, best, radius * down.gather(1, best))
    # spend the radius on the coordinates of largest |m| first, each as far as it may move
    order = m.abs().sort(dim=1, descending=True, stable=True).indices
    space = room.gather(1, order)
    spent = torch.minimum(space, (radius - (space.cumsum(dim=1) - space)).clamp(min=0))
    return down * torch.zeros_like(m).scatter_(1, order, spent)


def _fill_l2(slope: Tensor, radius: float, room: Tensor) -> Tensor:
    """Return ``min(t slope, room)`` with the t >= 0 at which its L2 norm is the radius.

    Return room itself if it is shorter. The squared norm grows with t and changes its form where a
    coordinate reaches its room. The sorted breakpoints give the right piece, on which t has a
    closed form.
    """
    exact = exact_dtype(slope.device)
    slope = slope.to(exact)
    room = room.to(exact)
    breakpoints = torch.where(slope > 0, room / slope, torch.inf)
    ordered, order = breakpoints.sort(dim=1)
    square = slope.gather(1, order).square()
    full = torch.where(ordered.isfinite(), room.gather(1, order), 0.0).square().cumsum(dim=1)
    # squares of the coordinates still moving, summed from the end: a difference of sums would
    # cancel
    moving = torch.cat(
        [square.flip(1).cumsum(dim=1).flip(1), torch.zeros_like(square[:, :1])], dim=1
    )
    finite = ordered.isfinite()
    norms = torch.where(
        finite, full + torch.where(finite, ordered, 0.0).square() * moving[:, 1:], torch.inf
    )
    # coordinates that have used up their room
    reached = (norms <= radius**2).sum(dim=1, keepdim=True)
    full = torch.cat([torch.zeros_like(full[:, :1]), full], dim=1).gather(1, reached)
    # inf or NaN where nothing moves any more
    t = ((radius**2 - full).clamp(min=0) / moving.gather(1, reached)).sqrt()
    moved = torch.where(breakpoints.isfinite(), t.nan_to_num(nan=torch.inf) * slope, 0.0)
    return torch.minimum(moved, room).to(torch.float32)


def uniform_in_ball(
    norm: str, radius: float, seed: int, ids: Tensor, step: int, features: int
) -> Tensor:
    """Draw (N, features) points uniformly from the ball, one per sample.

    The streams' blocks step and step + 1 are used.
    """
    if norm == "linf":
        return (2 * uniform(seed, ids, step, (features,)) - 1) * radius
    if norm == "l2":
        # the power in the wider type, where it does not depend on a row's place among the others
        share = uniform(seed, ids, step + 1, (1,)).to(exact_dtype(ids.device)) ** (1 / features)
        return unit(normal(seed, ids, step, (features,)), "l2") * (radius * share).to(torch.float32)
    # L1: exponential magnitudes over a sum of one more of them lie uniformly under the simplex
    spacing = -torch.log1p(-uniform(seed, ids, step, (features + 1,)))
    signs = 1 - 2 * (uniform(seed, ids, step + 1, (features,)) < 0.5).to(torch.float32)
    return radius * signs * spacing[:, :-1] / spacing.sum(dim=1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Ball:
    """Allowed perturbed inputs around x: ``||x' - x||_p <= eps`` within the box.

    Attributes:
        x: (N, *S) the clean inputs.
        eps: the radius. 0 leaves only x.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        box: the valid inputs.
    """

    x: Tensor
    eps: float
    norm: str
    box: Box

    def unboxed(self) -> Ball:
        """Return the same ball with every input valid."""
        return dataclasses.replace(self, box=Box(torch.tensor(-torch.inf), torch.tensor(torch.inf)))

    def into(self, rows: Tensor) -> Tensor:
        """Project rows (N, *S) onto the ball, then clamp them to the box.

        Clamping to the box never increases the distance to x.
        """
        if not self.eps:
            return self.x
        moved = rows - self.x
        if self.norm == "linf":
            return self.box.clamp(moved.clamp_(-self.eps, self.eps).add_(self.x))
        return self.box.clamp(
            self.x + project(moved.flatten(1), self.norm, self.eps).view_as(moved)
        )

    def steepest(self, direction: Tensor) -> Tensor:
        """Return ``sgn(g)`` in L-inf, ``g / ||g||_p`` otherwise."""
        return (
            direction.sign()
            if self.norm == "linf"
            else unit(direction.flatten(1), self.norm).view_as(direction)
        )

    def step(self, rows: Tensor, direction: Tensor, length: float) -> Tensor:
        """Return ``P(x' + length steepest(g))``."""
        return self.into(rows + length * self.steepest(direction))

    def draw(self, seed: int, ids: Tensor, step: int) -> Tensor:
        """Draw (N, *S) a point uniformly from each sample's ball, ignoring the box.

        The streams' blocks step and step + 1 are used.
        """
        if self.norm == "linf":
            return self.x + self.eps * (
                2 * uniform_pairs(seed, ids, step, tuple(self.x.shape[1:])) - 1
            )
        offset = uniform_in_ball(self.norm, self.eps, seed, ids, step, math.prod(self.x.shape[1:]))
        return self.x + offset.view_as(self.x)
