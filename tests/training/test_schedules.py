"""Schedules with ``.step()``: what each gets, which column it follows, and that a resumed run
goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ReduceLROnPlateau

from art_ext.training import EpochEnd, Pgd, TrainingResult, train
from tests.training._stopping import Stopped, stop_at_save

X = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
DATA = (X[:40], Y[:40])
HELD = (X[40:], Y[40:])


def build() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3)
        )


def run(schedule: Callable[..., Any], **options: Any) -> tuple[TrainingResult, Any]:
    """Train with a schedule over the optimiser of the run."""
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    made = schedule(optimizer)
    settings = {"epochs": 4, "batch_size": 16, "optimizer": optimizer, "schedule": made, **options}
    return train(model, DATA, "natural", **settings), made


class Recorder:
    """Keeps the arguments of each ``.step()``."""

    def __init__(self, optimizer: Any = None) -> None:
        self.calls: list[Any] = []


class WithMetrics(Recorder):
    def step(self, metrics: float, epoch: int | None = None) -> None:
        self.calls.append((metrics, epoch))


class WithMetric(Recorder):
    def step(self, metric: float) -> None:
        self.calls.append(metric)


class WithEpoch(Recorder):
    def step(self, epoch: int) -> None:
        self.calls.append(epoch)


class LikeTimm(Recorder):
    def step(self, epoch: int, metric: float | None = None) -> None:
        self.calls.append((epoch, metric))


class PositionalOnly(Recorder):
    def step(self, epoch: int, /, *, metrics: float) -> None:
        self.calls.append((epoch, metrics))


class Optional(Recorder):
    def step(self, epoch: int | None = None, metrics: float = 7.0, *rest: Any, **more: Any) -> None:
        self.calls.append((epoch, metrics, rest, more))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (WithMetrics, lambda loss: [(one, None) for one in loss]),
        (WithMetric, lambda loss: loss),
        (WithEpoch, lambda loss: [1, 2, 3, 4]),
        (LikeTimm, lambda loss: list(zip([1, 2, 3, 4], loss, strict=True))),
        (PositionalOnly, lambda loss: list(zip([1, 2, 3, 4], loss, strict=True))),
        (Optional, lambda loss: [(None, 7.0, (), {})] * 4),
    ],
)
def test_step_gets_what_it_needs(kind: Any, expected: Any) -> None:
    result, schedule = run(kind, validation_data=HELD)
    assert schedule.calls == expected([row["validation_loss"] for row in result.history])
    result, schedule = run(kind)  # without validation, the training loss
    assert schedule.calls == expected([row["loss"] for row in result.history])


def test_validation_loss_is_the_mean_cross_entropy_of_the_clean_samples() -> None:
    expected = []

    def measure(end: EpochEnd) -> dict[str, float]:
        with torch.no_grad():
            expected.append(float(cross_entropy(end.model.eval()(HELD[0]), HELD[1])))
        return {}

    for recipe, robust in ((Pgd(eps=0.1, num_steps=2), True), ("natural", False)):
        expected.clear()
        result = train(
            build(),
            DATA,
            recipe,
            epochs=2,
            batch_size=16,
            validation_data=HELD,
            callbacks=[measure],
            label_smoothing=0.2,
            ema=0.5,
        )
        assert [row["validation_loss"] for row in result.history] == pytest.approx(
            expected, rel=1e-6
        )
        assert [("validation_robust" in row) for row in result.history] == [robust] * 2
        assert expected[0] != expected[1]
    assert "validation_loss" not in train(build(), DATA, "natural", epochs=1).history[0]


def test_validation_loss_of_more_samples_than_a_slice_holds() -> None:
    held = (torch.rand(600, 1, 4, 4), torch.arange(600) % 3)
    model = build()
    result = train(model, DATA, "natural", epochs=1, validation_data=held)
    with torch.no_grad():
        expected = float(cross_entropy(model.eval()(held[0]), held[1]))
    assert result.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["loss", "validation_clean", "validation_loss", "mine", "learning_rate"]
)
def test_any_column_may_be_followed(name: str) -> None:
    result, schedule = run(
        WithMetrics,
        validation_data=HELD,
        schedule_metric=name,
        callbacks=[lambda end: {"mine": end.epoch**2}],
    )
    assert [metric for metric, _ in schedule.calls] == [row[name] for row in result.history]
    if name == "mine":
        assert [metric for metric, _ in schedule.calls] == [1, 4, 9, 16]


def test_the_rate_falls_where_the_column_no_longer_does() -> None:
    """The right value of a09. The history names the rate after the step."""
    result, _ = run(
        lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
        epochs=5,
        schedule_metric="worse",
        callbacks=[lambda end: {"worse": [1.0, 2.0, 0.5, 3.0, 4.0][end.epoch - 1]}],
    )
    assert [row["learning_rate"] for row in result.history] == [0.5, 0.25, 0.25, 0.125, 0.0625]
    result, plateau = run(
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=0), validation_data=HELD
    )
    assert plateau.best == min(row["validation_loss"] for row in result.history)


def test_timms_schedules() -> None:
    timm = pytest.importorskip("timm.scheduler", reason="timm is not installed")

    def rates(factor: Callable[..., Any], **options: Any) -> list[float]:
        return [row["learning_rate"] for row in run(factor, **options)[0].history]

    def drops(optimizer: Any) -> Any:
        return timm.StepLRScheduler(optimizer, decay_t=2, decay_rate=0.1)

    assert rates(drops) == pytest.approx([0.5, 0.05, 0.05, 0.005])


# --- refusals ---


class WantsRate(Recorder):
    def step(self, rate: float) -> None:
        raise AssertionError("never called")


class WantsTwo(Recorder):
    def step(self, metrics: float, closure: Any) -> None:
        raise AssertionError("never called")


class WantsKeyword(Recorder):
    def step(self, *, loss: float) -> None:
        raise AssertionError("never called")


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (
        WantsRate,
        {},
        r"must take no argument, 'metrics' or 'epoch', but WantsRate.step\(\) needs 'rate'",
    ),
    (WantsTwo, {}, r"WantsTwo.step\(\) needs 'closure'"),
    (WantsKeyword, {}, r"WantsKeyword.step\(\) needs 'loss'"),
    (
        WithMetrics,
        {"schedule_every": "update"},
        r"WithMetrics.step\(\) needs 'metrics'.*schedule_every='epoch'",
    ),
    (
        WithEpoch,
        {"schedule_every": "update"},
        r"WithEpoch.step\(\) needs 'epoch'.*schedule_every='epoch'",
    ),
    (
        WithEpoch,
        {"schedule_metric": "loss"},
        "schedule_metric belongs to a schedule whose .* takes a metric",
    ),
    (WithMetrics, {"schedule_metric": 3}, "schedule_metric must be the name of a column, got 3"),
    (
        WithMetrics,
        {"schedule_metric": "validation_clean"},
        "'validation_clean' needs held-out samples",
    ),
    (
        WithMetrics,
        {"schedule_metric": "validation_robust", "validation_data": HELD, "validation_eps": 0},
        "'validation_robust' needs an attack on the held-out samples: pass validation_eps > 0",
    ),
    (WithMetrics, {"warmup_epochs": 1.0}, "warmup_epochs needs a named schedule or a function"),
]


@pytest.mark.parametrize(("kind", "options", "message"), REFUSED)
def test_what_a_schedule_cannot_get_is_refused_before_the_first_update(
    kind: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model, folder = build(), tmp_path / "run"
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=message):
        train(model, DATA, "natural", epochs=1, schedule=kind(), checkpoint_dir=folder, **options)
    assert not folder.exists()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_column_that_does_not_exist_is_named() -> None:
    message = "schedule_metric must be a column of the history, one of epoch, .*got 'los' .did you mean 'loss'"
    with pytest.raises(ValueError, match=message):
        run(WithMetrics, schedule_metric="los")


# --- resuming ---


def make(kind: str, optimizer: Any) -> Any:
    if kind == "plateau":
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    timm = pytest.importorskip("timm.scheduler", reason="timm is not installed")
    return timm.CosineLRScheduler(optimizer, t_initial=6, warmup_t=2, warmup_lr_init=0.01)


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("kind", ["plateau", "timm"])
def test_a_resumed_run_goes_on_with_the_schedule(
    kind: str, every: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = {"schedule_metric": "up", "callbacks": [lambda end: {"up": 1.0 + end.epoch % 3}]}

    def go(folder: str, **options: Any) -> TrainingResult:
        settings = {**(column if kind == "plateau" else {}), **options}
        return run(
            lambda optimizer: make(kind, optimizer),
            epochs=6,
            checkpoint_dir=tmp_path / folder,
            checkpoint_every=every,
            validation_data=HELD,
            **settings,
        )[0]

    whole = go("whole")
    with monkeypatch.context() as patch:
        stop_at_save(patch, 4)
        with pytest.raises(Stopped):
            go("parts")
    parts = go("parts", resume=True)
    assert torch.equal(whole.losses, parts.losses)
    pairs = zip(whole.model.parameters(), parts.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [row | {"seconds": 0} for row in parts.history] == [
        row | {"seconds": 0} for row in whole.history
    ]
    assert len({row["learning_rate"] for row in whole.history}) > 2  # the schedule is at work


def test_a_tensor_may_be_what_a_schedule_keeps(tmp_path: Path) -> None:
    """A best value that is a tensor is saved and loaded as one."""

    class Keeps:
        best: Tensor | None = None

        def step(self, metrics: float) -> None:
            self.best = torch.tensor(metrics)

        def state_dict(self) -> dict[str, Any]:
            return {"best": self.best}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.best = state["best"]

    first = Keeps()
    result = train(build(), DATA, "natural", epochs=2, schedule=first, checkpoint_dir=tmp_path)
    second = Keeps()
    train(build(), DATA, "natural", epochs=2, schedule=second, checkpoint_dir=tmp_path, resume=True)
    assert second.best is not None
    assert float(second.best) == pytest.approx(result.history[-1]["loss"])
