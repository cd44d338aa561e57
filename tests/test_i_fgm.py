"""I-FGM at the smallest radius against closed forms on linear models and a plain reading of its
loop.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import i_fgm
from art_ext.core.geometry import NORMS, distances
from tests.toys import Recorder

SETTINGS = {"linf": (1.0, 1e-3), "l2": (10.0, 1e-2), "l1": (1000.0, 1.0)}
COARSE = {"linf": (0.6, 0.01), "l2": (3.0, 0.1), "l1": (20.0, 0.5)}


def succeeds(model, x, label, targeted, norm, radius, steps):
    """One input (1, *S) at one radius, read from the paper: the step that reaches the goal or 0,
    and that iterate.
    """
    rows = x
    for step in range(steps):
        point = rows.clone().requires_grad_(True)
        loss = functional.cross_entropy(model(point), label)
        (slope,) = torch.autograd.grad(-loss if targeted else loss, point)
        if norm == "linf":
            direction = slope.sign()
        else:
            direction = slope / (slope.abs().sum() if norm == "l1" else slope.norm())
        rows = (rows + radius / steps * direction).clamp(0, 1)
        if (model(rows).argmax(1) == label).item() == targeted:
            return step + 1, rows
    return 0, rows


@pytest.fixture
def halves():
    """Two classes, the second from a margin on; inputs in the middle of the box, their margins
    and the slope.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, generator=generator)
    x = 0.5 + 0.02 * torch.randn(6, 20, generator=generator)
    margin = torch.tensor([0.05, 0.1, 0.3, 0.5, 0.8, 1.0])
    bias = margin + x @ weight  # of each sample: its margin is known
    return weight, x, margin, bias


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("search", ["bisection", "grid"])
def test_the_radius_of_a_linear_model(norm, search, halves):
    """margin / ||w||_1 in L-inf and margin / ||w||_2 in L2, to the resolution.

    In L1 the step g / ||g||_1 spreads over all coordinates: margin ||w||_1 / ||w||_2^2.
    """
    weight, x, margin, bias = halves
    largest, finest = SETTINGS[norm]
    if search == "grid":
        largest, finest = largest / 2, finest / 2
    options = {"max_radius": largest, "resolution": finest} if search == "grid" else {}
    for sample in range(6):

        def model(rows, own=float(bias[sample])):
            total = rows @ weight
            return torch.stack([own - total + 3, 0 * total + 3], dim=1)

        result = i_fgm(
            model, x[sample : sample + 1], norm=norm, search=search, num_steps=7, **options
        )
        size = {
            "linf": weight.abs().sum(),
            "l2": weight.norm(),
            "l1": weight.square().sum() / weight.abs().sum(),
        }[norm]
        exact, found = float(margin[sample] / size), float(result.trace["radius"])
        assert exact - 1e-6 <= found <= exact + finest + 1e-6
        # a success at any step ends the run: never beyond the radius, and at most a step beyond the
        # boundary
        assert (
            exact - 1e-6 <= float(result.nearest_distance) <= min(found, exact + found / 7) + 1e-6
        )
        if search == "grid":
            assert found == pytest.approx(math.ceil((exact - 1e-7) / finest) * finest, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [False, True])
def test_the_grid_ends_at_the_first_multiple_that_succeeds(norm, targeted, digits, linear_net):
    """Against trying every multiple in turn, sample by sample."""
    right = (linear_net(digits[0]).argmax(1) == digits[1]).nonzero().squeeze(1)[:4]
    x, y = digits[0][right], digits[1][right]
    y = (y + 4) % 10 if targeted else y
    largest, finest = COARSE[norm]
    result = i_fgm(
        linear_net,
        x,
        y,
        targeted=targeted,
        norm=norm,
        search="grid",
        num_steps=4,
        max_radius=largest,
        resolution=finest,
    )
    hits = 0
    for sample in range(4):
        expected, rows = math.nan, None
        for number in range(1, round(largest / finest) + 1):
            won, rows = succeeds(
                linear_net,
                x[sample : sample + 1],
                y[sample : sample + 1],
                targeted,
                norm,
                number * finest,
                4,
            )
            if won:
                expected = number * finest
                break
        assert float(result.trace["radius"][0, sample]) == pytest.approx(
            expected, rel=1e-6, nan_ok=True
        )
        assert bool(result.success[sample]) == (not math.isnan(expected))
        if bool(result.success[sample]):
            hits += 1
            torch.testing.assert_close(result.x_adv[sample], rows[0], rtol=0, atol=1e-5)
    assert hits >= 2


@pytest.mark.parametrize("norm", NORMS)
def test_bisection_keeps_a_failure_below_and_a_success_above(norm, digits, linear_net):
    """The radii it tries, by hand: doubles until one succeeds, then midpoints, until both ends
    are near.
    """
    right = (linear_net(digits[0]).argmax(1) == digits[1]).nonzero().squeeze(1)[:5]
    largest, finest = COARSE[norm]
    for sample in right:
        x, y = digits[0][sample : sample + 1], digits[1][sample : sample + 1]
        result = i_fgm(
            linear_net, x, y, norm=norm, num_steps=4, max_radius=largest, resolution=finest
        )
        lower, upper, radius, nearest, found, queries = 0.0, math.inf, finest, math.inf, math.nan, 1
        while True:
            won, rows = succeeds(linear_net, x, y, False, norm, radius, 4)
            queries += won or 4
            if won:
                upper = found = radius
                nearest = min(nearest, float(distances(rows, x, norm)))
            else:
                lower = radius
            if lower == largest or upper - lower <= finest:
                break
            radius = min(2 * radius, largest) if upper == math.inf else (lower + upper) / 2
        assert float(result.trace["radius"]) == pytest.approx(found, rel=1e-6, nan_ok=True)
        assert float(result.nearest_distance) == pytest.approx(nearest, rel=1e-4)
        assert int(result.queries) == queries


def test_grid_and_bisection_agree_where_the_verdict_is_monotone(digits, linear_net):
    x, y = digits[0][:20], digits[1][:20]
    options = {"num_steps": 5, "max_radius": 0.64, "resolution": 0.01}
    grid, half = (
        i_fgm(linear_net, x, y, search=search, **options) for search in ("grid", "bisection")
    )
    assert torch.equal(grid.success, half.success)
    live = ~grid.already_adversarial
    assert bool(((grid.trace["radius"] - half.trace["radius"]).abs()[0, live] <= 0.01 + 1e-6).all())
    assert int(half.queries.sum()) < int(grid.queries.sum())


@pytest.mark.parametrize("norm", NORMS)
def test_no_iterate_leaves_the_ball_of_its_radius_nor_the_box(norm, digits, digits_net):
    x, y = digits[0][:1], digits[1][:1]
    recorder = Recorder(digits_net)
    largest, finest = COARSE[norm]
    i_fgm(
        recorder, x, y, norm=norm, search="grid", num_steps=3, max_radius=largest, resolution=finest
    )
    radius, step = finest, 0
    assert len(recorder.rows) > 4
    for rows in recorder.rows[1:]:
        step += 1
        assert float(distances(rows, x, norm)) <= radius * step / 3 + 1e-5
        assert float(rows.min()) >= 0
        assert float(rows.max()) <= 1
        if step == 3:
            radius, step = radius + finest, 0


def test_one_step_is_fgm_at_its_smallest_radius(digits, digits_net):
    """The boundary along x + r sgn(grad) is passed between the last failure and the first
    success of the grid.
    """
    x, y = digits[0][:10], digits[1][:10]
    result = i_fgm(digits_net, x, y, num_steps=1, search="grid", resolution=0.01)
    point = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(
        functional.cross_entropy(digits_net(point), y, reduction="sum"), point
    )
    live = result.success & ~result.already_adversarial
    assert int(live.sum()) >= 5
    for sample in live.nonzero().squeeze(1):
        radius = float(result.trace["radius"][0, sample])
        for offset, wrong in ((0.0, True), (-0.01, False)):
            rows = (x[sample] + (radius + offset) * slope[sample].sign()).clamp(0, 1)
            assert bool(digits_net(rows[None]).argmax(1) != y[sample]) == wrong
        assert float(result.nearest_distance[sample]) <= radius + 1e-6


def test_where_the_largest_radius_fails_bisection_stops(halves):
    weight, x, _, _ = halves

    def never(rows):
        return torch.stack([100 - rows @ weight, 0 * rows[:, 0]], dim=1)

    result = i_fgm(never, x, num_steps=5)
    assert result.queries.tolist() == [1 + 5 * 11] * 6  # .001, .002, ..., .512, and 1, the largest
    assert result.gradients.tolist() == [1 + 5 * 11] * 6
    assert bool(result.trace["radius"].isnan().all())
    grid = i_fgm(never, x, num_steps=5, search="grid", max_radius=0.05, resolution=0.01)
    assert grid.queries.tolist() == [1 + 5 * 5] * 6  # the largest radius among them
    assert not bool(grid.success.any())


def test_default_radii_grow_with_the_box(digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]
    for norm in NORMS:
        unit = i_fgm(digits_net, x, y, norm=norm)
        wide = i_fgm(lambda rows: digits_net(rows / 4), x * 4, y, norm=norm, clip_values=(0.0, 4.0))
        torch.testing.assert_close(wide.trace["radius"], 4 * unit.trace["radius"], equal_nan=True)
        torch.testing.assert_close(
            wide.nearest_distance, 4 * unit.nearest_distance, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"search": "binary"}, "search must be one of 'bisection', 'grid', got 'binary'"),
        ({"max_radius": 0.0}, r"max_radius must be > 0, got 0\.0"),
        ({"resolution": math.inf}, "resolution must be finite, got inf"),
        (
            {"max_radius": 0.1, "resolution": 0.5},
            r"resolution must be at most max_radius=0\.1, got 0\.5",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, digits, digits_net):
    with pytest.raises(ValueError, match=message):
        i_fgm(digits_net, *digits, **options)
