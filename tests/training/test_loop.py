"""The training loop: length, rates, precision, averages, validation, history, randomness, and
what it leaves behind.
"""

from __future__ import annotations

import copy
import csv
import inspect
import json
import math
import random
from dataclasses import dataclass, fields
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from art_ext.training import EpochEnd, Free, Pgd, TrainingOptions, train
from art_ext.training.recipes import BallRecipe, Cost
from art_ext.training.step import Step

Samples = tuple[Tensor, Tensor]


def build(seed: int = 0, norm: bool = False) -> nn.Sequential:
    """A small network from (r, 1, 4, 4) to three logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        middle = [nn.BatchNorm2d(4)] if norm else []
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            *middle,
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2 if norm else 0.0),
            nn.Linear(64, 3),
        )


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.fixture
def samples() -> Samples:
    """Forty distinct images (40, 1, 4, 4) in [0, 1] of three classes that can be told apart."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(40) % 3
    x = 0.6 * torch.rand(40, 1, 4, 4, generator=generator)
    x[torch.arange(40), 0, y] += 0.4
    return x, y


class Recording(torch.optim.SGD):
    """SGD that keeps the rate of each step and the weights after it."""

    def __init__(self, model: nn.Module, lr: float, **options: Any) -> None:
        self.rates: list[float] = []
        self.after: list[list[Tensor]] = []
        super().__init__(model.parameters(), lr, **options)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.rates.append(self.param_groups[0]["lr"])
        self.after.append(
            [one.detach().clone() for group in self.param_groups for one in group["params"]]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe(BallRecipe):
    """Natural training that keeps what each of its updates was shown."""

    name: ClassVar[str] = "probe"
    copies: int = 1
    seen: list[dict[str, Any]] = dataclass_field(default_factory=list)

    @property
    def replays(self) -> int:
        return self.copies

    def cost(self) -> Cost:
        return Cost(1, 1)

    def loss(self, step: Step) -> Tensor:
        self.seen.append(
            {
                "x": step.x,
                "y": step.y,
                "ids": step.ids,
                "eps": step.eps,
                "update": step.update,
                "replay": step.replay,
                "rows": step.rows,
                "noise": step.uniform((2,)),
                "training": step._engine.plain.training,
            }
        )
        step.log["tenth"] = torch.tensor(0.1 * (step.update % 3))
        step.count_backward(step.x)
        return step.mean(step.cross_entropy(step.forward(step.x)))


# --- length ---


def test_length_by_epochs_updates_and_equivalent_epochs(samples: Samples) -> None:
    by_epochs = train(build(), samples, "natural", epochs=2, batch_size=16)
    assert by_epochs.updates == len(by_epochs.losses) == 6  # minibatches of 16, 16 and 8
    assert [row["epoch_updates"] for row in by_epochs.history] == [3, 3]
    assert (by_epochs.forwards, by_epochs.backwards) == (80, 80)

    by_updates = train(build(), samples, "natural", updates=4, batch_size=16)
    assert [row["epoch_updates"] for row in by_updates.history] == [3, 1]
    assert torch.equal(by_updates.losses, by_epochs.losses[:4])

    free = Free(eps=0.1, num_replays=4)  # the paper counts four epochs for a pass
    assert train(build(), samples, free, equivalent_epochs=8, batch_size=16).updates == 2 * 3 * 4
    assert train(build(), samples, free, epochs=2, batch_size=16).updates == 2 * 3 * 4
    # the last minibatch' replays are cut short
    assert train(build(), samples, free, updates=14, batch_size=16).updates == 14


def test_batches_cover_the_data_once_an_epoch_in_another_order(samples: Samples) -> None:
    probe = Probe()
    train(build(), samples, probe, epochs=2, batch_size=16, learning_rate=1e-3)
    assert [len(one["x"]) for one in probe.seen] == [16, 16, 8] * 2
    assert [one["rows"] for one in probe.seen] == [16, 16, 8] * 2
    orders = [torch.cat([one["ids"] for one in probe.seen[at : at + 3]]) for at in (0, 3)]
    assert all(torch.equal(order.sort().values, torch.arange(40)) for order in orders)
    assert not torch.equal(*orders)
    for one in probe.seen:
        assert torch.equal(one["x"], samples[0][one["ids"]])
        assert torch.equal(one["y"], samples[1][one["ids"]])
        assert one["training"]


def test_replays_share_a_minibatch(samples: Samples) -> None:
    probe = Probe(copies=3)
    train(build(), samples, probe, epochs=1, batch_size=16)
    assert [(one["update"], one["replay"]) for one in probe.seen] == [(u, u % 3) for u in range(9)]
    assert torch.equal(probe.seen[3]["x"], probe.seen[5]["x"])
    assert not torch.equal(probe.seen[2]["x"], probe.seen[3]["x"])


# --- optimisers and rates ---

OPTIMISERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "sgd": (
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        {"optimizer": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    "adam": (torch.optim.Adam, {"weight_decay": 0.01}, {"optimizer": "adam", "weight_decay": 0.01}),
    "adamw": (
        torch.optim.AdamW,
        {"weight_decay": 0.1},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ),
    "own": (torch.optim.RMSprop, {}, {}),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_step_as_in_a_loop_by_hand(name: str, samples: Samples) -> None:
    kind, by_hand, options = OPTIMISERS[name]
    model, reference = build(), build()
    optimiser = kind(reference.parameters(), lr=0.02, **by_hand)
    for _ in range(5):
        optimiser.zero_grad()
        cross_entropy(reference(samples[0]), samples[1]).backward()
        optimiser.step()
    if name == "own":
        options = {"optimizer": kind(model.parameters(), lr=0.02)}
    train(model, samples, "natural", updates=5, batch_size=40, learning_rate=0.02, **options)
    for mine, theirs in zip(weights(model), weights(reference), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert not same(model, build())


def rates_of(samples: Samples, **options: Any) -> list[float]:
    model = build()
    optimiser = Recording(model, 0.5)
    train(model, samples, "natural", epochs=4, batch_size=16, optimizer=optimiser, **options)
    return optimiser.rates


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, lambda t: 1.0),
        (
            {"schedule": "piecewise", "schedule_args": {"milestones": (1, 3)}},
            lambda t: 0.1 ** ((t >= 1) + (t >= 3)),
        ),
        ({"schedule": "cosine"}, lambda t: (1 + math.cos(math.pi * t / 4)) / 2),
        (
            {"schedule": "cyclic", "schedule_args": {"peak": 0.25}},
            lambda t: t if t < 1 else (4 - t) / 3,
        ),
        (
            {"schedule": "halving", "schedule_args": {"after": 0.5}},
            lambda t: 1.0 if t < 2 else 0.5 if t < 3 else 0.25,
        ),
        ({"schedule": lambda t, total: (1 + t) / total}, lambda t: (1 + t) / 4),
        (
            {"schedule": "cosine", "warmup_epochs": 2},
            lambda t: (1 + math.cos(math.pi * t / 4)) / 2 * min(1, t / 2),
        ),
    ],
)
def test_rates_that_the_optimiser_uses(
    options: dict[str, Any], factor: Any, samples: Samples
) -> None:
    assert rates_of(samples, **options) == pytest.approx(
        [0.5 * factor(update / 3) for update in range(12)]
    )


def test_every_option_is_a_keyword_of_train(samples: Samples) -> None:
    """Also those with a default that is made anew, such as ``schedule_args``."""
    own = set(inspect.signature(train).parameters) - {"model", "data", "recipe"}
    assert own == {field.name for field in fields(TrainingOptions)}
    with pytest.raises(TypeError, match="did you mean 'schedule_args'"):
        train(build(), samples, "natural", epochs=1, schedule_arg={})  # type: ignore[call-arg]


def test_history_names_the_last_rate_of_an_epoch(samples: Samples) -> None:
    result = train(
        build(), samples, "natural", epochs=2, batch_size=16, learning_rate=0.5, schedule="cosine"
    )
    wanted = [0.25 * (1 + math.cos(math.pi * t / 2)) for t in (2 / 3, 5 / 3)]
    assert [row["learning_rate"] for row in result.history] == pytest.approx(wanted)


@pytest.mark.parametrize(("every", "drops"), [("epoch", lambda u: u // 3), ("update", lambda u: u)])
def test_schedule_objects_step_when_asked(every: str, drops: Any, samples: Samples) -> None:
    model = build()
    optimiser = Recording(model, 0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=1, gamma=0.5)
    train(
        model,
        samples,
        "natural",
        updates=7,
        batch_size=16,
        optimizer=optimiser,
        schedule=schedule,
        schedule_every=every,
    )
    assert optimiser.rates == pytest.approx([0.5 * 0.5 ** drops(update) for update in range(7)])


def test_anything_with_step_is_a_schedule(samples: Samples) -> None:
    class Counter:
        calls = 0

        def step(self) -> None:
            self.calls += 1

    counter = Counter()
    train(build(), samples, "natural", updates=7, batch_size=16, schedule=counter)
    assert counter.calls == 3  # at the end of each epoch, a last and shorter one included


def test_radius_warms_up_as_recipes_see_it(samples: Samples) -> None:
    probe = Probe(eps=0.2, copies=2)
    result = train(
        build(), samples, probe, epochs=3, batch_size=16, eps_warmup_epochs=1.5, learning_rate=1e-3
    )
    assert [one["eps"] for one in probe.seen] == pytest.approx(
        [0.2 * min(1, u / 6 / 1.5) for u in range(18)]
    )
    assert [row["eps"] for row in result.history] == pytest.approx([0.2 * 5 / 9, 0.2, 0.2])


def test_logged_values_enter_the_history_as_means_over_the_epoch(samples: Samples) -> None:
    result = train(build(), samples, Probe(), updates=4, batch_size=16)
    assert [row["tenth"] for row in result.history] == pytest.approx([0.1, 0.0])
    assert [row["loss"] for row in result.history] == pytest.approx(
        [float(result.losses[:3].mean()), float(result.losses[3])]
    )


# --- precision, memory layout, EMA ---


def test_bf16_leaves_no_wrapper_and_another_precision_may_follow(samples: Samples) -> None:
    model, plain = build(), build()
    names, method = set(model.__dict__), type(model).forward
    result = train(
        model, samples, Pgd(eps=0.1, num_steps=2), epochs=2, batch_size=16, precision="bf16"
    )
    assert set(model.__dict__) == names
    assert model.forward.__func__ is method  # type: ignore[attr-defined]
    clone = copy.deepcopy(model)
    assert same(clone, model)
    assert list(model.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert clone(samples[0]).dtype == torch.float32
        assert torch.equal(clone(samples[0]), model(samples[0]))
    exact = train(plain, samples, Pgd(eps=0.1, num_steps=2), epochs=2, batch_size=16)
    assert not torch.equal(exact.losses, result.losses)  # autocast was on
    torch.testing.assert_close(exact.losses, result.losses, rtol=0.05, atol=0.05)
    again = train(build(), samples, Pgd(eps=0.1, num_steps=2), epochs=2, batch_size=16)
    assert torch.equal(again.losses, exact.losses)


def test_a_forward_of_the_models_own_stays(samples: Samples) -> None:
    model = build()
    original = model.forward
    model.forward = lambda x: original(x)  # type: ignore[method-assign]
    patched = model.forward
    train(model, samples, "natural", updates=1, precision="bf16")
    assert model.forward is patched


def test_accelerate_is_left_as_it_was(samples: Samples) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    try:
        train(build(), samples, "natural", updates=1)
        # would be refused if the run above were remembered
        mine = Accelerator(cpu=True, mixed_precision="bf16")
        train(build(), samples, "natural", updates=1)
        assert mine.mixed_precision == "bf16"
        assert mine.num_processes == 1
    finally:
        AcceleratorState._shared_state.clear()
        PartialState._shared_state.clear()


def test_channels_last_changes_rounding_only(samples: Samples) -> None:
    plain, last = build(norm=True), build(norm=True)
    # dropout draws in the order of memory, so it is left out
    plain[4], last[4] = nn.Identity(), nn.Identity()
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16, "learning_rate": 0.02}
    one = train(plain, samples, Free(eps=0.1, num_replays=2), **options)
    other = train(last, samples, Free(eps=0.1, num_replays=2), channels_last=True, **options)
    torch.testing.assert_close(one.losses, other.losses, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_networks_train_alike_and_come_back_plain(samples: Samples) -> None:
    try:
        torch.compile(nn.Linear(2, 2))(torch.zeros(1, 2))
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {str(error)[:80]}")
    plain, compiled = build(), build()
    one = train(
        plain, samples, Pgd(eps=0.1, num_steps=2), epochs=2, batch_size=16, learning_rate=0.02
    )
    other = train(
        compiled,
        samples,
        Pgd(eps=0.1, num_steps=2),
        epochs=2,
        batch_size=16,
        learning_rate=0.02,
        compile=True,
    )
    torch.testing.assert_close(one.losses, other.losses, rtol=1e-3, atol=1e-3)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert set(compiled.__dict__) == set(plain.__dict__)
    assert copy.deepcopy(compiled)(samples[0]).shape == (40, 3)


def test_average_of_the_weights_is_the_one_by_hand_and_is_left_in_the_model(
    samples: Samples,
) -> None:
    model = build()
    optimiser = Recording(model, 0.1)
    shown: list[list[Tensor]] = []

    def keep(end: EpochEnd) -> dict[str, float]:
        shown.append([one.detach().clone() for one in end.model.parameters()])
        return {}

    train(
        model,
        samples,
        "natural",
        epochs=2,
        batch_size=16,
        optimizer=optimiser,
        ema=0.7,
        callbacks=[keep],
    )
    average = optimiser.after[0]  # starts at the weights after the first update
    for step, after in enumerate(optimiser.after[1:], 1):
        average = [0.7 * a + 0.3 * w for a, w in zip(average, after, strict=True)]
        if step == 2:
            for mine, theirs in zip(shown[0], average, strict=True):
                torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(model.parameters(), average, strict=True):
        torch.testing.assert_close(mine.detach(), theirs)
    assert not torch.allclose(average[0], optimiser.after[-1][0])


# --- validation ---


def test_held_out_samples_are_never_trained_on(samples: Samples) -> None:
    probes = [Probe(), Probe(), Probe()]
    for probe, seed in zip(probes, (0, 0, 1), strict=True):
        train(
            build(),
            samples,
            probe,
            epochs=3,
            batch_size=16,
            validation=0.25,
            seed=seed,
            learning_rate=1e-3,
        )
    trained = [
        {tuple(row.flatten().tolist()) for one in probe.seen for row in one["x"]}
        for probe in probes
    ]
    assert [len(rows) for rows in trained] == [30, 30, 30]  # the other ten appear in no epoch
    assert trained[0] == trained[1] != trained[2]
    by_count = Probe()
    train(build(), samples, by_count, epochs=1, batch_size=40, validation=4)
    assert len(by_count.seen[0]["x"]) == 36


def test_robust_accuracy_has_the_closed_form_of_a_linear_model() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(200, 1, 4, 4, generator=generator)  # the ball lies inside the box
    y = ((x.flatten(1) - 0.5) @ torch.randn(16, generator=generator) > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    held = (x[:80], y[:80])
    result = train(
        model,
        (x[80:], y[80:]),
        Pgd(eps=0.01, num_steps=1),
        epochs=10,
        batch_size=32,
        validation_data=held,
        validation_eps=0.03,
    )
    weight, bias = (tensor.detach() for tensor in model[1].parameters())
    sign = 2 * held[1] - 1
    margin = sign * (held[0].flatten(1) @ (weight[1] - weight[0]) + bias[1] - bias[0])
    robust = margin - 0.03 * (weight[1] - weight[0]).abs().sum() > 0
    last = result.history[-1]
    assert last["validation_clean"] == pytest.approx(float((margin > 0).float().mean()))
    assert last["validation_robust"] == pytest.approx(float(robust.float().mean()))
    assert 0 < last["validation_robust"] < last["validation_clean"]


def test_best_weights_are_those_of_the_best_epoch(samples: Samples) -> None:
    states: list[dict[str, Tensor]] = []

    def keep(end: EpochEnd) -> dict[str, float]:
        states.append(copy.deepcopy(end.model.state_dict()))
        return {}

    model = build()
    result = train(
        model,
        samples,
        Pgd(eps=0.1, num_steps=2),
        epochs=6,
        batch_size=8,
        learning_rate=0.5,
        validation=0.3,
        callbacks=[keep],
    )
    scores = [(row["validation_robust"], row["validation_clean"]) for row in result.history]
    assert len(set(scores)) > 1
    best = scores.index(max(scores))  # the first of equals
    assert result.best_epoch == best + 1
    assert result.best is not None
    assert all(torch.equal(result.best[name], states[best][name]) for name in states[best])
    assert all(torch.equal(tensor, states[-1][name]) for name, tensor in model.state_dict().items())


def test_without_a_radius_clean_accuracy_decides(samples: Samples) -> None:
    result = train(build(), samples, "natural", epochs=2, batch_size=8, validation=0.3)
    assert "validation_robust" not in result.history[0]
    assert result.best_epoch is not None
    without = train(build(), samples, "natural", epochs=1)
    assert without.best is None
    assert without.best_epoch is None


def test_validation_leaves_training_alone(samples: Samples) -> None:
    models = [build(norm=True), build(norm=True)]
    recipe = Pgd(eps=0.1, num_steps=2)
    train(models[0], samples, recipe, epochs=2, batch_size=16)
    train(models[1], samples, recipe, epochs=2, batch_size=16, validation_data=samples)
    assert same(*models)


# --- history and callbacks ---


def test_history_in_memory_and_in_both_files_agree(samples: Samples, tmp_path: Path) -> None:
    def half(end: EpochEnd) -> dict[str, float]:
        return {"half": end.epoch / 2} if end.epoch != 2 else {}

    result = train(
        build(),
        samples,
        Free(eps=0.1, num_replays=2),
        epochs=3,
        batch_size=16,
        validation=0.2,
        checkpoint_dir=tmp_path,
        callbacks=[half],
    )
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == result.history
    with (tmp_path / "history.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    for row, cells in zip(result.history, table, strict=True):
        assert {name: float(cell) for name, cell in cells.items() if cell} == row
    assert [row.get("half") for row in result.history] == [0.5, None, 1.5]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[-1]["updates"] == result.updates


def test_callbacks_see_the_row_and_what_they_return_enters_it(samples: Samples) -> None:
    def keep(end: EpochEnd) -> dict[str, Any]:
        assert end.row["updates"] == 3 * end.epoch
        end.model.eval()  # the next epoch trains all the same
        return {"again": end.row["loss"], "tensor": torch.tensor(2.0)}

    probe = Probe()
    result = train(
        build(), samples, probe, epochs=2, batch_size=16, callbacks=(one for one in [keep])
    )
    assert [row["again"] for row in result.history] == [row["loss"] for row in result.history]
    assert [row["tensor"] for row in result.history] == [2.0, 2.0]
    assert all(one["training"] for one in probe.seen)
    with pytest.raises(ValueError, match="values of its own, got updates"):
        train(build(), samples, "natural", epochs=2, callbacks=[lambda end: {"updates": 0.0}])


def test_tensorboard_is_written_when_asked(samples: Samples, tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    result = train(
        build(),
        samples,
        "natural",
        epochs=3,
        batch_size=16,
        checkpoint_dir=tmp_path,
        trackers=("tensorboard",),
    )
    (written,) = (tmp_path / "art_ext").glob("events.out.tfevents.*")
    reader = events.EventAccumulator(str(written.parent))
    reader.Reload()
    points = reader.Scalars("loss")
    assert [point.step for point in points] == [3, 6, 9]
    assert [point.value for point in points] == pytest.approx(
        [row["loss"] for row in result.history]
    )
    (settings,) = (tmp_path / "art_ext").rglob("hparams.yml")
    recorded = settings.read_text().splitlines()
    for line in ("recipe.name: natural", "options.epochs: 3", "options.batch_size: 16"):
        assert line in recorded


# --- what a run leaves behind ---


def test_global_random_streams_modes_flags_and_gradients_are_left_alone(samples: Samples) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002

    loader = DataLoader(TensorDataset(*samples), batch_size=16, shuffle=True)
    for data in (samples, loader):
        model = build(norm=True)
        model.train()
        model[1].eval()
        model[0].get_parameter("bias").requires_grad_(False)
        frozen = model[0].get_parameter("bias").clone()
        flags = [one.requires_grad for one in model.parameters()]
        modes = [module.training for module in model.modules()]
        before = states()
        train(model, data, Pgd(eps=0.1, num_steps=2, bn_mode="batch"), epochs=2, batch_size=16)
        assert states() == before
        assert [module.training for module in model.modules()] == modes
        assert [one.requires_grad for one in model.parameters()] == flags
        assert all(one.grad is None for one in model.parameters())
        assert torch.equal(model[0].get_parameter("bias"), frozen)


def test_all_comes_back_after_an_error_too(samples: Samples) -> None:
    def fail(end: EpochEnd) -> dict[str, float]:
        raise KeyError("from a callback")

    model = build(norm=True).eval()
    state, names = torch.get_rng_state(), set(model.__dict__)
    with pytest.raises(KeyError, match="from a callback"):
        train(
            model, samples, Pgd(eps=0.1, num_steps=2), epochs=2, callbacks=[fail], precision="bf16"
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())
    assert set(model.__dict__) == names


def test_weights_outside_the_callers_optimiser_stay_and_keep_no_gradient(samples: Samples) -> None:
    model = build()
    first = model[0].get_parameter("weight").detach().clone()
    optimiser = torch.optim.SGD(model[-1].parameters(), lr=0.1)
    train(model, samples, "natural", epochs=2, batch_size=16, optimizer=optimiser)
    assert torch.equal(model[0].get_parameter("weight"), first)
    assert all(one.grad is None for one in model.parameters())
    assert not torch.equal(model[-1].get_parameter("weight"), build()[-1].get_parameter("weight"))


def test_nothing_is_written_without_a_folder(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(build(), samples, Pgd(eps=0.1, num_steps=1), epochs=2, validation=0.2, ema=0.9)
    assert list(tmp_path.rglob("*")) == []


def test_the_data_are_left_alone(samples: Samples) -> None:
    x, y = samples[0].clone(), samples[1].clone()
    train(
        build(),
        samples,
        Free(eps=0.3, num_replays=2),
        epochs=1,
        augmentation=lambda x, *rest: x.add_(0.0),
    )
    assert torch.equal(samples[0], x)
    assert torch.equal(samples[1], y)


# --- randomness ---


def test_the_seed_decides_and_nothing_else_does(samples: Samples) -> None:
    models = []
    for seed, noise in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise)
        model = build(norm=True)
        torch.rand(noise + 1)
        train(model, samples, Pgd(eps=0.1, num_steps=2), epochs=2, batch_size=16, seed=seed)
        models.append(model)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_noise_belongs_to_the_sample_not_to_its_place(samples: Samples) -> None:
    whole, half = Probe(), Probe()
    train(build(), samples, whole, updates=1, batch_size=40, seed=7)
    train(build(), samples, half, updates=1, batch_size=20, seed=7)
    by_id = dict(zip(whole.seen[0]["ids"].tolist(), whole.seen[0]["noise"], strict=True))
    assert len(half.seen[0]["ids"]) == 20
    for identity, noise in zip(half.seen[0]["ids"].tolist(), half.seen[0]["noise"], strict=True):
        assert torch.equal(noise, by_id[identity])
    later = Probe()
    train(build(), samples, later, updates=2, batch_size=40, seed=7)
    mine = later.seen[1]["noise"][later.seen[1]["ids"].argsort()]
    # another one each update
    assert not torch.equal(mine, whole.seen[0]["noise"][whole.seen[0]["ids"].argsort()])


# --- loaders ---


@pytest.mark.parametrize("recipe", ["natural", Free(eps=0.1, num_replays=2)])
def test_a_loader_gives_what_tensors_give_in_the_same_order(recipe: Any, samples: Samples) -> None:
    probe = Probe()
    train(build(), samples, probe, epochs=1, batch_size=16)
    loader = [(one["x"], one["y"]) for one in probe.seen]
    models = [build(), build()]
    by_tensors = train(models[0], samples, recipe, epochs=1, batch_size=16)
    by_loader = train(models[1], loader, recipe, epochs=1)
    assert torch.equal(by_tensors.losses, by_loader.losses)
    assert same(*models)


def test_a_shuffling_loader_repeats_itself_by_the_seed(samples: Samples) -> None:
    def order(seed: int, noise: int) -> list[Tensor]:
        torch.manual_seed(noise)
        probe = Probe()
        train(
            build(),
            DataLoader(TensorDataset(*samples), batch_size=16, shuffle=True),
            probe,
            epochs=2,
            seed=seed,
        )
        return [one["ids"] for one in probe.seen]

    first, again, other = order(0, 0), order(0, 1), order(1, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[3])  # another order in each epoch
    assert torch.equal(torch.cat(first[:3]).sort().values, torch.cat(first[3:]).sort().values)


def test_minibatches_of_a_loader_may_grow(samples: Samples) -> None:
    x, y = samples
    loader = [(x[:6], y[:6]), (x[6:20], y[6:20]), (x[20:], y[20:])]
    result = train(build(), loader, Free(eps=0.1, num_replays=2), epochs=2)
    assert result.forwards == 2 * 2 * 40
    assert result.losses.isfinite().all()


def test_label_smoothing_and_augmentation_reach_the_loss(samples: Samples) -> None:
    probe = Probe()
    smoothed = train(build(), samples, probe, updates=1, batch_size=40, label_smoothing=0.3)
    log_p = torch.log_softmax(build()(probe.seen[0]["x"]), dim=1).detach()
    target = torch.full((40, 3), 0.15).scatter(1, probe.seen[0]["y"][:, None], 0.7)
    assert float(smoothed.losses[0]) == pytest.approx(
        float(-(target * log_p).sum(dim=1).mean()), rel=1e-5
    )

    calls: list[tuple[int, int]] = []

    def mirror(x: Tensor, ids: Tensor, seed: int, epoch: int) -> Tensor:
        calls.append((seed, epoch))
        return x.flip(3)

    probe = Probe()
    train(build(), samples, probe, epochs=2, batch_size=40, augmentation=mirror, seed=2)
    assert calls == [(2, 0), (2, 1)]
    assert torch.equal(probe.seen[0]["x"], samples[0][probe.seen[0]["ids"]].flip(3))
