"""Bandits beside a port of the formulas that takes one image at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from art_ext.benchmarks.common import stored_network
from art_ext.core.attacks import bandits
from art_ext.core.attacks.bandits import PRESETS, Bandits, Grid
from art_ext.data import load_data
from tests.test_signhunter import NETWORKS
from tests.toys import Recorder, never, samples, waves

SHAPE = (2, 7, 6)
NOWHERE = torch.tensor(False)


def check_one(
    model: Any, x: Tensor, label: Tensor, noise: Tensor, asked: Tensor, eps: float, norm: str,
    copies: int, **s: Any,
) -> None:  # fmt: skip
    """Assert that the rows that were asked for one image (C, H, W) are those of the formulas.

    Args:
        model, x, label, eps, norm: of the attack.
        noise: (T, P) of e = noise[t] / sqrt(dim v).
        asked: (3 T, C, H, W). The losses are those of these rows, and the next step begins at
            them, because differences of losses make rounding errors larger.
        copies: rows of a call.
        **s: settings of the attack.
    """
    rows = iter(asked)

    def same(image: Tensor, uncertain: Tensor = NOWHERE) -> Tensor:
        row = next(rows)
        torch.testing.assert_close(torch.where(uncertain, image, row), image, rtol=0, atol=1e-5)
        return row

    def lose(image: Tensor) -> float:
        row = same(image)
        with torch.no_grad():
            scores = model(row.expand(copies, *x.shape))[:1]
        return float(functional.cross_entropy(scores, label.view(1)))

    def up(prior: Tensor) -> Tensor:
        return functional.interpolate(prior[None], x.shape[1:], mode="nearest")[0].float()

    prior = torch.zeros(len(x), s["tile"], s["tile"], dtype=torch.float64)
    image = x
    for numbers in noise:
        e = numbers.view_as(prior) / math.sqrt(prior.numel())
        q1, q2 = up(prior + s["exploration"] * e), up(prior - s["exploration"] * e)
        l1 = lose(image + s["delta"] * q1 / q1.norm())
        l2 = lose(image + s["delta"] * q2 / q2.norm())
        gradient = (l1 - l2) / (s["delta"] * s["exploration"]) * e
        if norm == "linf":
            share = (prior + 1) / 2  # exponentiated gradient of two weights
            risen = share * (s["prior_step_size"] * gradient).exp()
            fallen = (1 - share) * (-s["prior_step_size"] * gradient).exp()
            prior = 2 * risen / (risen + fallen) - 1
            image = x + (image + s["step_size"] * up(prior).sign() - x).clamp(-eps, eps)
        else:
            prior = prior + s["prior_step_size"] * gradient
            image = (image + s["step_size"] * up(prior) / up(prior).norm()).clamp(0, 1)
            length = float((image - x).norm())
            image = x + (image - x) * min(1.0, eps / length)
        # rounding decides the sign of next to nothing, and a sure network has flat losses
        uncertain = (up(prior).abs() < 1e-6) & (norm == "linf")
        assert copies > 1 or int(uncertain.sum()) <= 4
        image = same(image.clamp(0, 1), uncertain)
    assert next(rows, None) is None


def check_against_port(
    model: Any, x: Tensor, y: Tensor, monkeypatch: pytest.MonkeyPatch, *, steps: int, eps: float,
    norm: str, pad: int = 0, **settings: Any,
) -> None:  # fmt: skip
    """Assert that the rows of every image are those of the port, given the same noise."""
    cells = x.shape[1] * settings["tile"] ** 2
    noise = torch.randn(steps, len(x), cells, generator=torch.Generator().manual_seed(4))
    with monkeypatch.context() as patch:
        patch.setattr(
            Bandits,
            "direction",
            lambda self, problem, t: noise[t, problem.index] / math.sqrt(cells),
        )
        recorder = Recorder(model)
        bandits(
            recorder, x, y, eps=eps, norm=norm, criterion=never, max_queries=1 + 3 * steps, seed=0,
            pad_rows=pad, **settings,
        )  # fmt: skip
    calls = [rows.view(-1, *x.shape[1:]) for rows in recorder.rows[1:]]
    assert len(calls) == 2 * steps
    for k in range(len(x)):
        probes, iterates = (
            torch.stack([one[k::count] for one in calls[part::2]])
            for part, count in ((0, len(x)), (1, max(len(x), pad)))
        )
        asked = torch.cat([probes[:, :2], iterates[:, :1]], dim=1).flatten(0, 1)
        check_one(model, x[k], y[k], noise[:, k], asked, eps, norm, max(pad, 1), **settings)


CASES: list[tuple[str, float, dict[str, Any]]] = [
    ("linf", 0.1, {"step_size": 0.02, "delta": 0.1, "prior_step_size": 0.2, "exploration": 1.0}),
    ("l2", 0.5, {"step_size": 0.1, "delta": 0.01, "prior_step_size": 0.05, "exploration": 0.1}),
]


@pytest.mark.parametrize(("norm", "eps", "settings"), CASES)
@pytest.mark.parametrize("tile", [6, 4, 1])
def test_every_row_is_that_of_the_port(
    norm: str, eps: float, settings: dict[str, Any], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = samples(5, math.prod(SHAPE)).view(5, *SHAPE)
    steep = waves(math.prod(SHAPE))

    def model(rows: Tensor) -> Tensor:
        return 0.1 * steep(rows)  # the cross-entropy of the other is flat

    y = model(x).argmax(1)
    check_against_port(
        model, x, y, monkeypatch, steps=166, eps=eps, norm=norm, tile=tile, **settings
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data", "eps"), NETWORKS)
def test_every_row_is_that_of_the_port_on_networks(
    name: str, data: str, eps: float, art_ext_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = load_data(data).first(20).rows(0, 20)
    given: Any = {**PRESETS["mnist"]["linf"], "prior_step_size": 0.1}
    check_against_port(
        stored_network(name), x, y, monkeypatch, steps=20, eps=eps, norm="linf", pad=8, **given
    )


@pytest.mark.parametrize(("size", "tile"), [(28, 8), (32, 5), (7, 7), (9, 1), (299, 50)])
def test_the_grid_covers_the_plane_as_nearest_neighbours(size: int, tile: int) -> None:
    grid = Grid.of(torch.Size((2, size, size)), tile, 50)
    prior = torch.arange(2.0 * tile * tile).expand(3, -1)
    wanted = functional.interpolate(prior.view(3, 2, tile, tile), (size, size), mode="nearest")
    assert torch.equal(grid.spread(prior), wanted.flatten(1))


@pytest.mark.parametrize(
    ("shape", "cells"),
    [
        ((3, 299, 299), 7500),
        ((3, 32, 32), 3072),
        ((1, 60, 50), 3000),
        ((51, 60), 2500),
        ((90,), 90),
    ],
)
def test_the_grid_of_the_preset_serves_every_shape(shape: tuple[int, ...], cells: int) -> None:
    assert Grid.of(torch.Size(shape), None, 50).cells == cells


def test_the_prior_finds_the_slope_of_a_linear_loss() -> None:
    weight = torch.linspace(-1, 1, 16)
    x = samples(30, 16, low=0.4, high=0.6)

    def slope(outputs: Tensor, index: Tensor) -> Tensor:
        return (outputs * weight).sum(1)

    result = bandits(
        lambda rows: rows.flatten(1), x, torch.zeros(30, dtype=torch.int64), eps=0.3, loss=slope,
        step_size=0.02, prior_step_size=1.0, criterion=never, max_queries=901, seed=0,
        on_failure="last",
    )  # fmt: skip
    gained = ((result.x_adv - x) * weight).sum(1)
    assert float(gained.min()) > 0.9 * 0.3 * float(weight.abs().sum())
    assert result.queries.tolist() == [901] * 30


def test_a_large_prior_is_left_again() -> None:
    """tanh of the prior rounds to 1, and a later slope of the other sign still turns it."""
    signs = iter([1.0, -1.0, -1.0, -1.0])
    x = samples(2, 4, low=0.4, high=0.6)
    recorder = Recorder(lambda rows: rows.flatten(1))
    sign = 1.0

    def slope(outputs: Tensor, index: Tensor) -> Tensor:
        return 1000 * sign * outputs.sum(1)

    def turn(progress: Any) -> None:
        nonlocal sign
        sign = next(signs, -1.0)

    bandits(
        recorder, x, torch.zeros(2, dtype=torch.int64), eps=0.4, loss=slope, criterion=never,
        max_queries=13, seed=0, callback=turn,
    )  # fmt: skip
    assert all(bool(rows.isfinite().all()) for rows in recorder.rows)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_masked_coordinates_stay(norm: str) -> None:
    mask = torch.zeros(SHAPE[1:])
    mask[1:4, 2:5] = 1
    x = samples(3, math.prod(SHAPE)).view(3, *SHAPE)
    recorder = Recorder(waves(math.prod(SHAPE)))
    y = waves(math.prod(SHAPE))(x).argmax(1)
    bandits(recorder, x, y, eps=0.2, norm=norm, mask=mask, tile=3, max_queries=31, criterion=never)
    kept = ~mask.bool().expand(SHAPE)
    assert all(
        torch.equal(rows[:, kept], x[:1, kept].expand_as(rows[:, kept]))
        or all(bool((row[kept] == x[k % 3][kept]).all()) for k, row in enumerate(rows))
        for rows in recorder.rows
    )
    assert bool((recorder.rows[-1] != x).any())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 7}, r"tile must be at most 6, the shorter side of samples \(2, 7, 6\), got 7"),
        ({"tile": 0}, "tile must be an integer >= 1, got 0"),
        ({"preset": "minst"}, r"preset must be one of .*did you mean 'mnist'"),
        ({"preset": "mnist", "norm": "l2"}, "has values for norm='linf' only, got norm='l2'"),
        ({"exploration": 0}, "exploration must be > 0, got 0"),
        ({"prior_step_size": math.nan}, "prior_step_size must be > 0"),
        ({"norm": "l1"}, "norm must be one of 'linf', 'l2', got 'l1'"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    x = samples(2, math.prod(SHAPE)).view(2, *SHAPE)
    with pytest.raises(ValueError, match=message):
        bandits(waves(math.prod(SHAPE)), x, eps=0.1, **options)


def test_a_tile_needs_images() -> None:
    with pytest.raises(ValueError, match=r"tile needs images \(C, H, W\), got samples of shape"):
        bandits(waves(12), samples(2, 12), eps=0.1, tile=3)
