"""SignHunter beside a port of the rules that takes one image at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import stored_network
from art_ext.core.attacks import signhunter
from art_ext.core.attacks.signhunter import Blocks
from art_ext.core.losses import LOSSES
from art_ext.data import load_data
from tests.toys import Recorder, linear, never, samples, waves

Lose = Callable[[Tensor], float]
NETWORKS = (
    ("mnist_carlini_cnn_fw", "mnist", 0.3),
    ("mnist_smallcnn_bn_rays_nat", "mnist", 0.3),
    ("mnist_conv2_fast_pgd", "mnist", 0.3),
    ("cifar_resnet20_nat", "cifar10", 8 / 255),
)


def placed(x: Tensor, centre: Tensor, signs: Tensor, eps: float, norm: str) -> Tensor:
    """The point a step along the signs from the centre, in ball and box around x."""
    if norm == "linf":
        return (x + (centre - x + eps * signs).clamp(-eps, eps)).clamp(0, 1)
    point = (centre + eps * signs / math.sqrt(len(x))).clamp(0, 1)
    length = float((point - x).norm())
    return x + (point - x) * min(1.0, eps / length)


def port(x: Tensor, lose: Lose, eps: float, norm: str) -> Any:
    """The rows (D,) that are asked for one image, without an end, and the signs after each."""
    count = len(x)
    centre = x
    while True:
        signs = torch.ones(count)
        row = placed(x, centre, signs, eps, norm)
        yield row, signs.clone()
        best = lose(row)
        for level in range(math.ceil(math.log2(count)) + 1):
            length = math.ceil(count / 2**level)
            for start in range(0, count, length):
                signs[start : start + length] *= -1
                row = placed(x, centre, signs, eps, norm)
                yield row, signs.clone()
                loss = lose(row)
                if loss < best:
                    signs[start : start + length] *= -1
                else:
                    best = loss
        centre = placed(x, centre, signs, eps, norm)


def loss_of(model: Any, label: Tensor, name: str, shape: torch.Size, copies: int) -> Lose:
    """The loss of one row, from a call with so many copies of it."""

    def lose(row: Tensor) -> float:
        with torch.no_grad():
            scores = model(row.expand(copies, -1).reshape(copies, *shape))[:1]
        return float(LOSSES[name](scores, label.view(1)))

    return lose


def check_against_port(
    model: Any, x: Tensor, y: Tensor, *, eps: float, norm: str, loss: str, asked: int, pad: int = 0
) -> None:
    """Assert that the first queries of every image are those of the port."""
    recorder = Recorder(model)
    options: dict[str, Any] = {"eps": eps, "norm": norm, "loss": loss, "seed": 0}
    signhunter(
        recorder, x, y, criterion=never, max_queries=asked + 1, batch_size=256, pad_rows=pad,
        **options,
    )  # fmt: skip
    found = torch.stack([rows[: len(x)].flatten(1) for rows in recorder.rows[1:]])
    assert len(found) == asked
    for k in range(len(x)):
        lose = loss_of(model, y[k], loss, x.shape[1:], max(pad, 1))
        wanted = [row for row, _ in islice(port(x[k].flatten(), lose, eps, norm), asked)]
        if norm == "linf":
            assert torch.equal(found[:, k], torch.stack(wanted)), f"image {k}"
        else:
            torch.testing.assert_close(found[:, k], torch.stack(wanted), rtol=0, atol=2e-6)


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3)])
def test_every_query_is_that_of_the_port(norm: str, eps: float, loss: str) -> None:
    x = samples(5, 13)  # a round has 40 candidates
    model = waves(13)
    check_against_port(model, x, model(x).argmax(1), eps=eps, norm=norm, loss=loss, asked=130)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data", "eps"), NETWORKS)
def test_every_query_is_that_of_the_port_on_networks(
    name: str, data: str, eps: float, art_ext_data: Path
) -> None:
    model: nn.Module = stored_network(name)
    x, y = load_data(data).first(20).rows(0, 20)
    for loss in ("ce", "margin"):
        check_against_port(model, x, y, eps=eps, norm="linf", loss=loss, asked=150, pad=8)


@pytest.mark.parametrize("features", [1, 2, 3, 4, 5, 13, 64, 784])
def test_blocks(features: int) -> None:
    blocks = Blocks(features)
    found = [blocks.block(number) for number in range(blocks.count)]
    with pytest.raises(IndexError):
        blocks.block(blocks.count)
    starts = [number for number, one in enumerate(found) if one.start == 0]
    assert len(starts) == blocks.levels == math.ceil(math.log2(features)) + 1
    for level, (first, last) in enumerate(pairwise([*starts, len(found)])):
        length = math.ceil(features / 2**level)
        covered = [one.stop - one.start for one in found[first:last]]
        assert sum(covered) == features, "each coordinate is flipped once in a level"
        assert all(size == length for size in covered[:-1])
    assert all(one.stop - one.start == 1 for one in found[starts[-1] :])


def test_a_round_finds_the_signs_of_a_linear_model() -> None:
    weight = torch.cos(3 * torch.arange(24.0))
    x = samples(6, 24, low=0.4, high=0.6)
    labels = torch.zeros(6, dtype=torch.int64)
    result = signhunter(
        linear(weight), x, labels, eps=0.3, loss="margin", criterion=never, on_failure="last",
        max_queries=2 + Blocks(24).count,
    )  # fmt: skip
    assert torch.equal((result.x_adv - x).sign(), weight.sign().expand(6, -1))
    assert result.queries.tolist() == [2 + Blocks(24).count] * 6


def test_later_rounds_never_lose_the_best_point() -> None:
    model = waves(10)
    x = samples(8, 10)
    labels = model(x).argmax(1)
    options: dict[str, Any] = {"eps": 0.2, "criterion": never, "on_failure": "last"}
    budgets = range(3, 3 * Blocks(10).count)
    losses = torch.stack(
        [
            LOSSES["ce"](
                model(signhunter(model, x, labels, max_queries=b, **options).x_adv), labels
            )
            for b in budgets
        ]
    )
    assert bool((losses.diff(dim=0) >= -1e-6).all())
    assert bool((losses[-1] > losses[Blocks(10).count]).any()), "a later round gains"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_masked_coordinates_stay(norm: str) -> None:
    recorder = Recorder(waves(12))
    mask = torch.arange(12) % 3 == 0
    x = samples(4, 12)
    labels = waves(12)(x).argmax(1)
    signhunter(
        recorder, x, labels, eps=0.2, norm=norm, mask=mask, max_queries=60, criterion=never,
        clip_values=(-2, 3),
    )  # fmt: skip
    for rows in recorder.rows[1:]:
        assert torch.equal(rows[:, ~mask], x[:, ~mask])
    length = (recorder.rows[1] - x).norm(dim=1) if norm == "l2" else (recorder.rows[1] - x).amax(1)
    torch.testing.assert_close(length, torch.full((4,), 0.2))


def test_norm_and_budget_are_checked() -> None:
    x = samples(2, 4)
    with pytest.raises(ValueError, match="norm must be one of 'linf', 'l2', got 'l1'"):
        signhunter(waves(4), x, eps=0.1, norm="l1")
    with pytest.raises(ValueError, match="max_queries must be an integer >= 1, got None"):
        signhunter(waves(4), x, eps=0.1, max_queries=cast(int, None))
