"""The Square attack: schedule, windows, and the facts that hold for every candidate."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import square
from art_ext.core.attacks.engine.square_search import Layout, SquareL2, SquareLinf, bumps

WIDE = (-1.0, 2.0)  # nothing is cut


class Recorder(nn.Module):
    """A smooth model of two classes that never changes its mind, and the rows that it was sent."""

    weight: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("weight", torch.randn(features, generator=generator))
        self.rows: list[Tensor] = []

    def gains(self, rows: Tensor) -> Tensor:
        """(R,) the margin, always negative."""
        return (rows.flatten(1) * self.weight).sum(1).tanh() - 2

    def forward(self, rows: Tensor) -> Tensor:
        self.rows.append(rows.clone())
        return torch.stack([torch.zeros(len(rows)), self.gains(rows)], dim=1)


def run(shape: tuple[int, ...], norm: str, eps: float, **options: Any) -> tuple[Recorder, Tensor]:
    """Attack three inputs of this shape, and return the model and its inputs."""
    model = Recorder(math.prod(shape))
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    result = square(
        model, x, torch.zeros(3, dtype=torch.int64), eps=eps, norm=norm, seed=0, **options
    )
    assert not bool(result.success.any())
    assert result.queries.tolist() == [options["max_queries"]] * 3
    assert len(model.rows) == options["max_queries"]
    return model, x


def changes(model: Recorder) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Best points, candidates and where they differ, by an independent account of the search."""
    best = model.rows[1]
    found = []
    for candidate in model.rows[2:]:
        found.append((best, candidate, candidate != best))
        better = model.gains(candidate) > model.gains(best)
        best = torch.where(better.view(-1, *[1] * (best.dim() - 1)), candidate, best)
    return found


@pytest.mark.parametrize(
    ("number", "share"),
    [
        *((1, 0.8), (9, 0.8), (10, 0.4), (49, 0.4), (50, 0.2), (200, 0.1), (499, 0.1)),
        *((500, 0.05), (1000, 0.025), (2000, 0.0125), (4000, 0.00625), (5999, 0.00625)),
        *((6000, 0.003125), (8000, 0.0015625), (9998, 0.0015625)),
    ],
)
def test_schedule(number: int, share: float) -> None:
    method = SquareLinf(layout=Layout(1, 28, 28), p_init=0.8, max_queries=10_000)
    assert method.share(number) == pytest.approx(share, rel=1e-12)
    for scale in (2, 5, 10):
        if number % scale == 0:
            shorter = SquareLinf(layout=Layout(1, 28, 28), p_init=0.8, max_queries=10_000 // scale)
            assert shorter.share(number // scale) == method.share(number)


@pytest.mark.parametrize(
    ("shape", "share", "window", "odd"),
    [
        ((1, 28, 28), 0.8, (25, 25), (25, 25)),
        ((3, 32, 32), 0.8, (29, 29), (29, 29)),
        ((28, 28), 0.05, (6, 6), (7, 7)),
        ((1, 28, 28), 0.0015625, (1, 1), (3, 3)),
        ((3, 4, 8), 0.8, (4, 6), (4, 7)),
        ((3, 8, 4), 0.8, (6, 4), (7, 4)),
        ((40,), 0.5, (1, 20), (1, 21)),
        ((40,), 0.01, (1, 1), (1, 3)),
        ((2,), 1.0, (1, 2), (1, 2)),
    ],
)
def test_windows(
    shape: tuple[int, ...], share: float, window: tuple[int, int], odd: tuple[int, int]
) -> None:
    layout = Layout.of(torch.Size(shape))
    assert layout.channels * layout.height * layout.width == math.prod(shape)
    assert layout.window(share) == window
    assert layout.window(share, odd=True) == odd


@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 12, 12), (5, 8), (30,)])
@pytest.mark.parametrize("p_init", [0.05, 0.8])
def test_linf_candidates_are_corners_that_differ_in_one_window(
    shape: tuple[int, ...], p_init: float
) -> None:
    eps, budget = 0.2, 120
    model, x = run(shape, "linf", eps, p_init=p_init, max_queries=budget)
    upper, lower = (x + eps).clamp(0, 1), (x - eps).clamp(0, 1)
    layout = Layout.of(torch.Size(shape))
    method = SquareLinf(layout=layout, p_init=p_init, max_queries=budget)
    planes = (3, layout.channels, layout.height, layout.width)
    stripes = ((model.rows[1] == upper) & (upper != lower)).view(planes)
    assert torch.equal(stripes, stripes[:, :, :1].expand(planes)), "one sign a column"
    for number, (_, candidate, changed) in enumerate(changes(model), 1):
        assert bool(((candidate == upper) | (candidate == lower)).all())
        assert bool(changed.flatten(1).any(1).all()), "a query is lost on no change"
        height, width = layout.window(method.share(number))
        rows, columns = (changed.view(planes).any(1).any(axis) for axis in (2, 1))
        for spread, most in ((rows, height), (columns, width)):
            for one in spread:
                places = one.nonzero()
                assert int(places.max() - places.min()) < most
        risen = ((candidate == upper) & changed).view(planes).flatten(2).any(2)
        fallen = ((candidate == lower) & changed).view(planes).flatten(2).any(2)
        assert not bool((risen & fallen).any()), "one sign for each channel"


@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 12, 12), (5, 8), (30,)])
def test_l2_candidates_keep_the_length_until_the_box_cuts(shape: tuple[int, ...]) -> None:
    eps = 0.7
    model, x = run(shape, "l2", eps, p_init=0.1, max_queries=150, clip_values=WIDE)
    lengths = torch.stack([(rows - x).double().flatten(1).norm(dim=1) for rows in model.rows[1:]])
    assert float(lengths.max()) <= eps + 1e-6
    assert float(lengths.min()) >= eps * (1 - 2e-5)
    cut, x = run(shape, "l2", 2.5, p_init=0.1, max_queries=150)
    lengths = torch.stack([(rows - x).double().flatten(1).norm(dim=1) for rows in cut.rows[1:]])
    assert float(lengths.max()) <= 2.5 + 1e-6
    assert float(torch.stack(cut.rows).min()) >= 0
    assert float(torch.stack(cut.rows).max()) <= 1


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_l2_candidates_keep_the_length_at_a_bound_of_the_box(ground: float) -> None:
    eps = 0.4
    model = Recorder(144)
    x = torch.full((3, 1, 12, 12), ground)
    labels = torch.zeros(3, dtype=torch.int64)
    square(
        model, x, labels, eps=eps, norm="l2", max_queries=100, seed=0, sample_ids=torch.arange(3)
    )
    lengths = torch.stack([(rows - x).double().flatten(1).norm(dim=1) for rows in model.rows[2:]])
    assert float(lengths.min()) >= eps * (1 - 2e-5), "the box has cut a bump"
    assert float(lengths.max()) <= eps + 1e-6


@pytest.mark.parametrize(("shape", "middle"), [((1, 28, 28), 0.75), ((40,), 0.5)])
def test_l2_windows_prefer_the_middle_of_planes(shape: tuple[int, ...], middle: float) -> None:
    method = SquareL2(layout=Layout.of(torch.Size(shape)), p_init=0.1, max_queries=100)
    generator = torch.Generator().manual_seed(0)
    places = method.places(torch.rand(50, 100, method.num_draws, generator=generator))
    assert places.shape == (50, 100, 2, 2)
    inner = (places - 0.5).abs() < 0.25
    torch.testing.assert_close(
        inner.float().mean(dim=(0, 1)), torch.full((2, 2), middle), rtol=0, atol=0.03
    )
    assert float(places.min()) < 0.05, "every place is possible"
    assert float(places.max()) > 0.95


def test_l2_tiles_lie_in_the_middle() -> None:
    model, x = run((1, 28, 28), "l2", 0.7, p_init=0.1, max_queries=10, clip_values=WIDE)
    changed = (model.rows[1] != x).squeeze(1)
    assert bool(changed[:, 1:26, 1:26].all())
    assert int(changed.flatten(1).sum(1).max()) == 25 * 25


def test_l2_candidates_differ_in_two_windows() -> None:
    model, x = run((2, 11, 11), "l2", 0.7, p_init=0.1, max_queries=120, clip_values=WIDE)
    layout = Layout(2, 11, 11)
    method = SquareLinf(layout=layout, p_init=0.1, max_queries=120)
    for number, (best, candidate, changed) in enumerate(changes(model), 1):
        side, _ = layout.window(method.share(number), odd=True)
        filled = changed & (candidate != x)
        rows, columns = (filled.any(1).any(axis) for axis in (2, 1))
        for spread in (*rows, *columns):
            places = spread.nonzero()  # none where both windows were empty
            assert not len(places) or int(places.max() - places.min()) < side
        assert int(changed.flatten(2).sum(2).max()) <= 2 * side**2
        energy = (candidate - x).square().flatten(2).sum(2) - (best - x).square().flatten(2).sum(2)
        assert float(energy.abs().max()) < 1e-5, "each channel keeps its share"


@pytest.mark.parametrize("window", [(3, 3), (7, 7), (1, 9), (4, 6), (1, 1)])
def test_bump(window: tuple[int, int]) -> None:
    def pyramid(height: int, width: int) -> Tensor:
        half = max(height, width) // 2
        values = torch.zeros(height, width)
        for r in range(1, height + 1):
            for s in range(1, width + 1):
                steps = half - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
                values[r - 1, s - 1] = sum(1 / (half + 1 - k) ** 2 for k in range(steps + 1))
        return values

    height, width = window
    top, left = height // 2, width // 2
    wanted = (
        torch.cat([pyramid(top, width), -pyramid(height - top, width)]),
        torch.cat([pyramid(height, left), -pyramid(height, width - left)], dim=1),
    )
    found = bumps(window, torch.device("cpu")).view(2, 2, height, width)
    assert torch.equal(found[0], -found[1])
    for one, other in zip(found[1], wanted, strict=True):
        torch.testing.assert_close(one, other / other.norm())


@pytest.mark.parametrize(("norm", "share"), [("linf", 1.0), ("l2", 0.6)])
def test_reaches_the_optimum_of_a_linear_model(norm: str, share: float) -> None:
    model = Recorder(36)
    model.weight = 0.01 * torch.cos(torch.linspace(0, 3, 6).unsqueeze(1) + torch.zeros(6)).flatten()
    x = torch.full((4, 1, 6, 6), 0.5)
    ids = torch.arange(4)
    options: dict[str, Any] = {"sample_ids": ids, "seed": 0, "on_failure": "last", "eps": 0.3}
    labels = torch.zeros(4, dtype=torch.int64)
    result = square(model, x, labels, norm=norm, max_queries=1000, p_init=0.5, **options)
    gained = ((result.x_adv - x).flatten(1) * model.weight).sum(1)
    dual = model.weight.abs().sum() if norm == "linf" else model.weight.norm()
    assert float(gained.min()) >= share * 0.3 * float(dual) * (1 - 1e-5)
    assert float(gained.max()) <= 0.3 * float(dual) * (1 + 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batches_and_neighbours_change_no_bit(norm: str) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(12, 2, 6, 6, generator=generator)
    weight = torch.randn(3, 72, generator=generator)

    def model(rows: Tensor) -> Tensor:
        return (rows.flatten(1)[:, None] * weight).sum(-1)

    y = model(x).argmax(1)
    eps = {"linf": 0.03, "l2": 0.2}[norm]
    options: dict[str, Any] = {"eps": eps, "norm": norm, "max_queries": 80, "seed": 2}
    whole = square(model, x, y, **options)
    assert 0 < int(whole.success.sum()) < 12
    few = square(model, x, y, batch_size=5, **options)
    assert torch.equal(whole.x_adv, few.x_adv)
    for k in range(12):
        alone = square(model, x[k : k + 1], y[k : k + 1], **options)
        assert torch.equal(alone.x_adv[0], whole.x_adv[k])
        assert alone.queries.tolist() == [int(whole.queries[k])]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_masked_coordinates_stay(norm: str) -> None:
    mask = torch.zeros(9, 9)
    mask[2:7, 3:8] = 1
    model, x = run((3, 9, 9), norm, 0.3, max_queries=60, mask=mask)
    kept = ~mask.bool().expand_as(x)
    assert all(torch.equal(rows[kept], x[kept]) for rows in model.rows)
    assert bool((model.rows[-1] != x).any())


def test_default_losses(digits: tuple[Tensor, Tensor], digits_net: nn.Module) -> None:
    x, y = digits
    goals = (y + 1) % 10
    options: dict[str, Any] = {"eps": 0.3, "max_queries": 60, "seed": 0}
    cases: list[tuple[dict[str, Any], str]] = [({"y": y}, "margin"), ({"targets": goals}, "ce")]
    for given, loss in cases:
        default = square(digits_net, x, **given, **options)
        assert torch.equal(
            default.x_adv, square(digits_net, x, **given, loss=loss, **options).x_adv
        )
    targeted = square(digits_net, x, goals, targeted=True, **options)
    assert torch.equal(targeted.x_adv, default.x_adv)
    assert bool(targeted.success.any())


def test_reports_the_point_of_highest_loss(
    digits: tuple[Tensor, Tensor], digits_net: nn.Module
) -> None:
    x, y = digits
    options: dict[str, Any] = {"eps": 0.2, "max_queries": 80, "seed": 0}
    first, last = (
        square(digits_net, x, y, stop_on_success=stop, **options) for stop in (True, False)
    )
    assert torch.equal(first.success, last.success)
    found = first.success & ~first.already_adversarial

    def margins(rows: Tensor) -> Tensor:
        scores = digits_net(rows)
        own = scores.gather(1, y.unsqueeze(1)).squeeze(1)
        return scores.scatter(1, y.unsqueeze(1), -torch.inf).amax(1) - own

    with torch.no_grad():
        gained = (margins(last.x_adv) - margins(first.x_adv))[found]
    assert float(gained.min()) >= 0
    assert float(gained.max()) > 0


@pytest.mark.parametrize("p_init", [0, -0.1, 1.5, math.nan, True])
def test_share_out_of_range(p_init: float) -> None:
    with pytest.raises(ValueError, match="p_init must"):
        square(Recorder(4), torch.rand(1, 4), eps=0.1, p_init=p_init)


@pytest.mark.parametrize("shape", [(1, 0, 4), (0, 4, 4), (0,)])
def test_an_empty_axis_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="square needs inputs without an empty axis, got shape"):
        square(Recorder(4), torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64), eps=0.1)
