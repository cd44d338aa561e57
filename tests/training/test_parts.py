"""The parts of a training run, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.geometry import Box
from art_ext.storage.store import LocalStore
from art_ext.tracking import Trackers
from art_ext.training import Free, Natural, Pgd, TrainingOptions
from art_ext.training.averaging import WeightAverage
from art_ext.training.batches import LoaderBatches, TensorBatches
from art_ext.training.engine import Engine
from art_ext.training.folder import RunFolder
from art_ext.training.length import Length
from art_ext.training.rates import Rate, check_schedule
from art_ext.training.reporting import Reporter
from art_ext.training.saving import Checkpointing
from art_ext.training.sources import make_sources
from art_ext.training.state import Losses, TrainState
from art_ext.training.validation import better

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]


def alone(**more: Any) -> Any:
    """Accelerate of one process on the CPU."""
    return SimpleNamespace(
        mixed_precision="no",
        num_processes=1,
        process_index=0,
        is_main_process=True,
        scaler=None,
        autocast=nullcontext,
        wait_for_everyone=lambda: None,
        **more,
    )


def make_engine(model: nn.Module) -> Engine:
    cpu = torch.device("cpu")
    box = Box.of((0.0, 1.0), torch.Size([1, 4, 4]), cpu)
    return Engine(alone(), model, model, box, cpu, False)


# --- length ---


def test_length_counts_replays_and_places_updates(data: Samples) -> None:
    batches = TensorBatches(*data, batch_size=6, seed=0)
    length = Length.of(TrainingOptions(epochs=2), Free(num_replays=3), batches, 1)
    assert (length.per_epoch, length.total, length.epochs) == (9, 18, 2.0)
    assert [length.place(update) for update in (0, 2, 3, 8, 9)] == [
        *((0, 0), (0, 0), (0, 1), (0, 2), (1, 0))
    ]
    assert length.time(3) == pytest.approx(1 / 3)
    assert length.room(6, 10**9) == (True, True)


def test_a_budget_has_room_for_whole_updates_only(data: Samples) -> None:
    batches = TensorBatches(*data, batch_size=14, seed=0)
    recipe = Pgd(num_steps=1)  # 2 + 2 rows a sample
    length = Length.of(TrainingOptions(passes=10.0), recipe, batches, 1)
    assert length.total == 2
    assert length.room(14, 6 * 14) == (True, True)
    assert length.room(14, 6 * 14 + 1) == (False, False)


# --- losses and state ---


def test_losses_are_checked_from_the_last_check_on(data: Samples) -> None:
    length = Length(Natural(), per_epoch=3, total=9)
    losses = Losses(torch.tensor([1.0, 2.0]).unbind())
    losses.append(torch.tensor(float("nan")))
    losses.check(2, length)  # not yet
    losses.append(torch.tensor(4.0))
    with pytest.raises(ValueError, match=r"the loss is nan in batch 2 of epoch 0.*update 2\)"):
        losses.check(2, length)


def test_the_mean_is_that_of_the_last_losses(network: Build) -> None:
    losses = Losses()
    for value in (1.0, 2.0, 4.0):
        losses.append(torch.tensor(value))
    losses.average(make_engine(network()))
    assert len(losses) == 3
    assert losses.mean(2) == 3.0
    assert losses.stacked().tolist() == [1, 2, 4]


def test_the_state_knows_the_updates_of_the_epoch() -> None:
    state = TrainState(update=7, history=[{"epoch_updates": 3}, {"epoch_updates": 2}])
    assert state.epoch_updates == 2
    state.log({"a": torch.tensor(1.0)})
    state.log({"a": torch.tensor(2.0), "b": torch.tensor(5.0)})
    assert {name: float(value) for name, value in state.logged.items()} == {"a": 3, "b": 5}
    assert TrainState(earlier=100.0).seconds >= 100.0


# --- rate ---


def test_a_rate_is_a_factor_of_the_optimisers_own(network: Build) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    options = TrainingOptions(
        epochs=4, schedule="piecewise", schedule_args={"milestones": (2, 3)}, warmup_epochs=1
    )
    rate = Rate(options, optimizer)
    found = []
    for time in (0.0, 0.5, 1.0, 2.0, 3.5):
        rate.set(time, 4.0)
        found.append(rate.current)
    assert found == pytest.approx([0, 0.1, 0.2, 0.02, 0.002])
    assert rate.state_dict() is None
    row = {"loss": 1.0}
    rate.end_epoch(row, 1, make_engine(model))
    assert row == {"loss": 1.0}


@pytest.mark.parametrize("every", ["epoch", "update"])
def test_a_schedule_with_step_is_stepped_and_restored(network: Build, every: str) -> None:
    def make() -> Rate:
        optimizer = torch.optim.SGD(network().parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        options = TrainingOptions(
            epochs=4, optimizer=optimizer, schedule=schedule, schedule_every=every
        )
        return Rate(options, optimizer)

    rate = make()
    rate.optimizer.step()
    rate.set(0.0, 4.0)  # leaves the rate to the schedule
    rate.end_update()
    assert rate.current == (0.5 if every == "update" else 1.0)
    row: dict[str, float] = {}
    rate.end_epoch(row, 1, make_engine(network()))
    assert row == ({} if every == "update" else {"learning_rate": 0.5})
    other = make()
    other.load_state_dict(rate.state_dict())
    assert other.schedule.last_epoch == 1
    with pytest.raises(ValueError, match="must have state_dict"):
        other.load_state_dict(None)


def test_a_schedule_of_another_optimiser(network: Build) -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="one of the optimiser that trains"):
        check_schedule(TrainingOptions(epochs=1, schedule=schedule), None)


# --- weight average, best epoch ---


def test_the_average_follows_the_weights_and_is_restored(network: Build) -> None:
    model = network("linear")
    average = WeightAverage(model, 0.75)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    average.update()  # the first update copies
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    average.update()
    for found, start in zip(average.current.parameters(), before, strict=True):
        torch.testing.assert_close(found, start + 0.25)
    twin = network("linear", seed=3)
    other = WeightAverage(twin, 0.75)
    other.load_state_dict(average.state_dict())
    other.load_into_model()
    for found, start in zip(twin.parameters(), before, strict=True):
        torch.testing.assert_close(found, start + 0.25)


def test_without_a_decay_the_network_is_its_own_average(network: Build) -> None:
    model = network()
    average = WeightAverage(model, None)
    assert average.current is model
    assert average.state_dict() is None


def test_the_best_epoch_counts_robust_accuracy_first(network: Build) -> None:
    model = network("linear")
    first = better(None, {"validation_clean": 0.9, "validation_robust": 0.5}, 1, model)
    with torch.no_grad():
        model[1].weight.add_(1.0)  # type: ignore[index]
    assert better(first, {"validation_clean": 1.0, "validation_robust": 0.4}, 2, model) is first
    second = better(first, {"validation_clean": 0.95, "validation_robust": 0.5}, 3, model)
    assert (second["epoch"], second["score"]) == (3, [0.5, 0.95])
    assert not torch.equal(first["weights"]["1.weight"], second["weights"]["1.weight"])


# --- sources ---

CPU = torch.device("cpu")


def test_tensors_are_split_and_loaders_are_not(data: Samples) -> None:
    options = TrainingOptions(epochs=1, validation=4, batch_size=5)
    batches, validation, box = make_sources(data, options, Natural(), CPU)
    assert isinstance(batches, TensorBatches)
    assert validation is not None
    assert (batches.samples(), validation.held.count) == (10, 4)
    assert box.upper.max() == 1
    loader = [(data[0][:7], data[1][:7]), (data[0][7:], data[1][7:])]
    found = make_sources(loader, TrainingOptions(epochs=1), Natural(), CPU)
    assert isinstance(found.batches, LoaderBatches)
    assert found.validation is None
    with pytest.raises(ValueError, match="a loader cannot be split"):
        make_sources(loader, options, Natural(), CPU)


# --- checkpointing ---


def test_a_state_comes_back_from_its_checkpoint(
    network: Build, data: Samples, tmp_path: Path
) -> None:
    def make(seed: int) -> Checkpointing:
        model = network("norm", seed=seed)
        optimizer = torch.optim.Adam(model.parameters())
        rate = Rate(TrainingOptions(epochs=1), optimizer)
        folder = RunFolder(LocalStore(tmp_path), {})
        average = WeightAverage(model, 0.5)
        return Checkpointing(folder, model, optimizer, rate, average, make_engine(model))

    first = make(0)
    assert first.resume().update == 0
    first.model(data[0]).sum().backward()
    first.optimizer.step()
    first.average.update()
    first.engine.forwards = 14
    state = TrainState(update=1, batch=1, carried={"delta": data[0]}, earlier=5.0)
    state.losses.append(torch.tensor(2.5))
    state.log({"a": torch.tensor(3.0)})
    first.save(state)
    second = make(1)
    found = second.resume()
    assert (found.update, found.epoch, found.batch) == (1, 0, 1)
    assert torch.equal(found.carried["delta"], data[0])
    assert found.losses.stacked().tolist() == [2.5]
    assert float(found.logged["a"]) == 3
    assert found.seconds >= 5
    assert second.engine.forwards == 14
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value)
    step = next(iter(second.optimizer.state.values()))["step"]
    assert float(step) == 1


def test_nothing_is_saved_without_a_folder(network: Build) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rate = Rate(TrainingOptions(epochs=1), optimizer)
    average = WeightAverage(model, None)
    checkpointing = Checkpointing(None, model, optimizer, rate, average, make_engine(model))
    checkpointing.save(TrainState())
    assert checkpointing.resume().update == 0


# --- reporting ---


def test_a_bar_shows_updates_and_validation(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("pgd", True, Trackers((), None, None))
    with reporter.bar(4, 1):
        reporter.advance(3)
        reporter.report({"loss": 0.25, "eps": 0.1, "validation_clean": 0.5}, 3)
        reporter.advance(4)
    shown = capsys.readouterr().err
    assert "pgd: 100%" in shown
    assert "4/4" in shown
    assert "loss=0.25, validation_clean=0.5" in shown
