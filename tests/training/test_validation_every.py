"""Validations within an epoch: points of curves, which change nothing of the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from art_ext.evaluation.analysis.trainings import load_training
from art_ext.models import digits_cnn
from art_ext.training import TrainingResult, make_recipe, train

SECONDS = "seconds"


def run(samples: tuple[Tensor, Tensor], recipe: str = "pgd", **options: Any) -> TrainingResult:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"eps": 0.1}
    if recipe == "free":
        arguments["num_replays"] = 4
    chosen: dict[str, Any] = {"epochs": 2, "batch_size": 8, "validation": 8, "validation_steps": 2}
    return train(digits_cnn(), samples, make_recipe(recipe, **arguments), **{**chosen, **options})


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != SECONDS} for row in rows]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_training_does_not_change(digits: tuple[Tensor, Tensor], ema: float | None) -> None:
    plain = run(digits, ema=ema)
    more = run(digits, ema=ema, validation_every=1)
    assert torch.equal(plain.losses, more.losses)
    assert untimed(plain.history) == untimed(more.history)
    assert plain.best_epoch == more.best_epoch
    for own, other in zip(plain.model.parameters(), more.model.parameters(), strict=True):
        assert torch.equal(own, other)
    assert not plain.validations


def test_points_lie_within_the_epochs(digits: tuple[Tensor, Tensor]) -> None:
    found = run(digits, validation_every=2)  # four updates an epoch
    assert [(row["updates"], row["epoch"]) for row in found.validations] == [(2, 0.5), (6, 1.5)]
    assert {"validation_clean", "validation_robust", "validation_loss"} <= {*found.validations[0]}
    # the rows of two of four updates
    assert 2 * found.validations[0]["forwards"] == found.history[0]["forwards"]


def test_the_values_are_those_of_a_training_that_ends_there(digits: tuple[Tensor, Tensor]) -> None:
    found = run(digits, validation_every=2).validations[0]
    ended = run(digits, epochs=None, updates=2).history[-1]
    names = [name for name in found if name.startswith("validation")]
    assert [found[name] for name in names] == [ended[name] for name in names]


def test_a_replayed_minibatch_is_completed_first(digits: tuple[Tensor, Tensor]) -> None:
    found = run(digits, "free", epochs=1, validation_every=4)
    assert [row["updates"] for row in found.validations] == [4, 8, 12]
    found = run(digits, "free", epochs=1, validation_every=5)
    assert [row["updates"] for row in found.validations] == [8, 12]


def test_a_resumed_training_has_the_same_points(
    digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    whole = run(digits, validation_every=1)

    def stop(end: object) -> dict[str, float]:
        raise KeyboardInterrupt

    kept: dict[str, Any] = {"checkpoint_dir": tmp_path, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt):
        run(digits, validation_every=1, callbacks=[stop], **kept)
    written = (tmp_path / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["updates"] for line in written] == [1, 2, 3]
    again = run(digits, validation_every=1, resume=True, **kept)
    assert untimed(again.validations) == untimed(whole.validations)
    points = load_training(tmp_path).column("validation_clean")
    assert [point.updates for point, _ in points] == list(range(1, 9))


def test_it_needs_held_out_samples(digits: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="validation_every=2 needs held-out samples"):
        run(digits, validation=0, validation_every=2)
    with pytest.raises(ValueError, match="validation_every must be an integer >= 1"):
        run(digits, validation_every=0)
