"""Defensive distillation: a shared warm start, a teacher, its soft labels, and a student."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from art_ext.data import as_dataset, load_data
from art_ext.models import digits_cnn, load_model, load_weights
from art_ext.storage.store import LocalStore
from art_ext.training import Distillation, TrainingResult, make_recipe, train
from art_ext.training.checkpoints import checkpoints
from art_ext.training.heads import adaptive_attacks
from art_ext.training.objectives import soft_cross_entropy
from art_ext.training.recipes.distillation import TemperedCrossEntropy, soft_labels
from art_ext.training.runs import resolve, run_training
from tests.training._stopping import Stopped, stop_at_save

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]
ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 6, "learning_rate": 0.05, "seed": 2}


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([one.detach().flatten() for one in model.state_dict().values()])


class Certain(nn.Module):
    """A teacher whose soft labels are the labels themselves: it finds each sample again."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.register_buffer("known", x.flatten(1))
        self.register_buffer("scores", 1e6 * functional.one_hot(y, 3).float())

    def forward(self, rows: Tensor) -> Tensor:
        place = torch.cdist(rows.flatten(1), self.get_buffer("known")).argmin(1)
        return self.get_buffer("scores")[place]


def columns(result: TrainingResult) -> list[dict[str, float]]:
    return [{key: one for key, one in row.items() if key != "seconds"} for row in result.history]


# --- closed forms ---


def test_hard_labels_at_temperature_one_are_natural_training_bit_for_bit(
    network: Build, data: Samples
) -> None:
    natural = network("norm")
    plain = train(natural, data, "natural", **SETTINGS)
    recipe = Distillation(temperature=1.0, warm_epochs=0)
    student = network("norm")
    result = train(student, data, recipe, teacher=Certain(*data), **SETTINGS)
    assert torch.equal(weights_of(student), weights_of(natural))
    assert torch.equal(result.losses, plain.losses)
    assert result.teacher is None
    # a teacher of the run learns the labels
    result = train(network("norm"), data, recipe, **SETTINGS)
    assert result.teacher is not None
    named = natural.state_dict()
    assert all(torch.equal(one, named[name]) for name, one in result.teacher.items())
    assert torch.equal(result.losses[: len(plain.losses)], plain.losses)


def test_a_temperature_divides_the_scores_and_leaves_the_loss_of_scaled_weights(
    network: Build, batch: Samples, make_step: Any
) -> None:
    """The loss at T of scores z is that at 1 of scores z / T."""
    model = network("linear").double()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for one in scaled.parameters():
            one.div_(8)
    q = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    for targets in (None, q):
        hot = make_step(model, *batch, eps=0.0, targets=targets)
        plain = make_step(scaled, *batch, eps=0.0, targets=targets)
        torch.testing.assert_close(
            TemperedCrossEntropy(8.0)(hot, batch[0]), TemperedCrossEntropy(1.0)(plain, batch[0])
        )


def test_soft_labels_are_the_softmax_of_the_tempered_scores() -> None:
    z = torch.tensor([[0.0, 100.0, 200.0]])
    expected = torch.tensor([[1.0, torch.e, torch.e**2]]) / (1 + torch.e + torch.e**2)
    torch.testing.assert_close(soft_labels(z, 100.0), expected)


def test_the_loss_of_a_student_is_least_at_the_soft_labels() -> None:
    q = torch.tensor([[0.2, 0.3, 0.5]])
    entropy = -(q * q.log()).sum()
    torch.testing.assert_close(soft_cross_entropy(q.log() + 4.0, q).squeeze(), entropy)
    assert soft_cross_entropy(q.log() * 1.1, q) > entropy


# --- the phases ---


def test_teacher_and_student_share_the_warm_start(
    network: Build, data: Samples, tmp_path: Path
) -> None:
    """The first loss of both is that of the warm start's weights, at the temperature."""
    recipe = Distillation(temperature=20.0, warm_epochs=2)
    warm = network()
    train(warm, data, "natural", **{**SETTINGS, "epochs": 2})
    taught = network()
    result = train(taught, data, recipe, **SETTINGS, checkpoint_dir=tmp_path)
    assert [row["phase"] for row in result.history] == [0, 0, 1, 1, 1, 2, 2, 2]
    order = torch.randperm(14, generator=torch.Generator().manual_seed(2 * 1_000_003))[:6]
    x, y = data[0][order], data[1][order]
    assert result.teacher is not None
    teacher = network()
    teacher.load_state_dict(result.teacher)
    with torch.no_grad():
        z = warm(x) / 20
        first = functional.cross_entropy(z, y)
        soft = soft_cross_entropy(z, soft_labels(teacher(x), 20.0)).mean()
    torch.testing.assert_close(result.losses[6], first)
    torch.testing.assert_close(result.losses[15], soft)
    # what lies in the folder
    stored = load_file(tmp_path / "teacher.safetensors")
    assert all(torch.equal(stored[name], one) for name, one in result.teacher.items())
    table = load_file(tmp_path / "soft_labels.safetensors")["targets"]
    torch.testing.assert_close(table, soft_labels(teacher(data[0]).detach(), 20.0))
    final = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(final[name], one) for name, one in taught.state_dict().items())


def test_a_given_teacher_leaves_out_its_training_and_gives_the_same_student(
    network: Build, data: Samples
) -> None:
    recipe = Distillation(temperature=5.0)
    whole = network("norm")
    first = train(whole, data, recipe, **SETTINGS)
    teacher = network("norm")
    assert first.teacher is not None
    teacher.load_state_dict(first.teacher)
    flags = [module.training for module in teacher.modules()]
    again = network("norm")
    second = train(again, data, recipe, teacher=teacher, **SETTINGS)
    assert torch.equal(weights_of(whole), weights_of(again))
    assert [row["phase"] for row in second.history] == [0, 1, 1, 1]
    assert [module.training for module in teacher.modules()] == flags
    assert all(torch.equal(one, first.teacher[name]) for name, one in teacher.state_dict().items())


def test_a_dataset_distils_as_its_samples_in_tensors(network: Build, data: Samples) -> None:
    by_tensors, by_dataset = network(), network()
    recipe = Distillation(temperature=5.0)
    options = {**SETTINGS, "validation": 4}
    train(by_tensors, data, recipe, **options)
    train(by_dataset, as_dataset(TensorDataset(*data)), recipe, **options)
    assert torch.equal(weights_of(by_tensors), weights_of(by_dataset))


def test_soft_labels_belong_to_the_samples_without_augmentation(
    network: Build, data: Samples
) -> None:
    seen: list[Tensor] = []

    class Watched(Certain):
        def forward(self, rows: Tensor) -> Tensor:
            seen.append(rows.clone())
            return super().forward(rows)

    def darker(x: Tensor, ids: Tensor, seed: int, epoch: int) -> Tensor:
        return x / 2

    train(network(), data, Distillation(), teacher=Watched(*data), augmentation=darker, **SETTINGS)
    assert torch.equal(torch.cat(seen), data[0])


def test_each_phase_begins_with_optimizer_schedule_and_best_anew(
    network: Build, data: Samples
) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    result = train(
        model,
        data,
        Distillation(warm_epochs=1),
        epochs=2,
        batch_size=6,
        optimizer=optimizer,
        schedule=schedule,
        validation_data=data,
        ema=0.5,
    )
    rates = [row["learning_rate"] for row in result.history]
    assert rates == [0.01, 0.01, 0.005, 0.01, 0.005]
    assert result.best_epoch in (4, 5)  # the best of the student
    steps = {int(state["step"]) for state in optimizer.state.values()}
    assert steps == {6}


def test_rows_are_counted_with_those_of_the_soft_labels(
    network: Build, data: Samples, count_rows: Any
) -> None:
    model = network("norm")
    rows = count_rows(model)
    recipe = Distillation(warm_epochs=1)
    assert recipe.cost() == (1, 1)
    assert recipe.largest_cost() == (2, 1)
    result = train(model, data, recipe, epochs=2, batch_size=6)
    assert result.updates == len(result.losses) == 5 * 3
    assert (rows.forwards, rows.backwards) == (result.forwards, result.backwards) == (84, 70)
    by_updates = train(network(), data, recipe, updates=4, batch_size=6)
    assert by_updates.updates == 3 + 4 + 4
    assert [row["epoch_updates"] for row in by_updates.history] == [3, 3, 1, 3, 1]


# --- resume ---


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("save", range(1, 9))
def test_a_stop_after_any_checkpoint(
    save: int,
    every: int | None,
    network: Build,
    data: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def go(model: nn.Module, folder: Path, **options: Any) -> TrainingResult:
        return train(
            model,
            data,
            Distillation(temperature=5.0),
            epochs=3,
            batch_size=6,
            validation_data=data,
            ema=0.5,
            checkpoint_every=every,
            checkpoint_dir=folder,
            **options,
        )

    whole, parts = network("norm"), network("norm")
    first = go(whole, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at_save(patch, save)
        try:
            go(parts, tmp_path / "parts")
        except Stopped:
            assert save < 8 or every
        else:
            assert save == 8  # seven epochs
    again = network("norm", seed=9)  # its weights are those of the checkpoint
    second = go(again, tmp_path / "parts", resume=True)
    assert torch.equal(weights_of(whole), weights_of(again))
    assert torch.equal(first.losses, second.losses)
    assert columns(first) == columns(second)
    for name in ("model", "best", "teacher", "soft_labels"):
        files = [tmp_path / part / f"{name}.safetensors" for part in ("whole", "parts")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_a_stop_between_teacher_and_soft_labels(
    network: Build, data: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(model: nn.Module, folder: Path, **options: Any) -> TrainingResult:
        return train(model, data, "distillation", **SETTINGS, checkpoint_dir=folder, **options)

    whole, parts = network("norm"), network("norm")
    first = go(whole, tmp_path / "whole")
    write = LocalStore.write

    def stop(store: LocalStore, name: str, content: bytes) -> None:
        if name == "soft_labels.safetensors":
            raise Stopped
        write(store, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", stop)
        with pytest.raises(Stopped):
            go(parts, tmp_path / "parts")
    assert (tmp_path / "parts" / "teacher.safetensors").exists()
    again = network("norm", seed=9)
    second = go(again, tmp_path / "parts", resume=True)
    assert torch.equal(weights_of(whole), weights_of(again))
    assert columns(first) == columns(second)


def test_soft_labels_that_are_gone_are_named(
    network: Build, data: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> None:
        train(network(), data, "distillation", **SETTINGS, checkpoint_dir=tmp_path, **options)

    with monkeypatch.context() as patch:
        stop_at_save(patch, 6)
        with pytest.raises(Stopped):
            go()
    (tmp_path / "soft_labels.safetensors").unlink()
    kept = [path.name for path in checkpoints(tmp_path / "checkpoints")]
    with pytest.raises(ValueError, match=r"must hold soft_labels.safetensors, the soft labels"):
        go(resume=True)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == kept


def test_another_teacher_is_another_run(network: Build, data: Samples, tmp_path: Path) -> None:
    options = {**SETTINGS, "epochs": 1, "checkpoint_dir": tmp_path}
    train(network(), data, "distillation", teacher=network(seed=1), **options)
    with pytest.raises(ValueError, match=r"another configuration .teacher: another value there"):
        train(network(), data, "distillation", teacher=network(seed=2), resume=True, **options)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0, got 0"),
        ({"temperature": -1.0}, "temperature must be > 0, got -1"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"warm_epochs": -1}, "warm_epochs must be an integer >= 0, got -1"),
        ({"temperatur": 3.0}, "did you mean 'temperature'"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe("distillation", **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 10.0}, "passes must not be given with the recipe distillation, whose phases"),
        ({"epochs": 1, "teacher": "runs/x"}, "teacher must be an nn.Module, got 'runs/x'"),
        (
            {"epochs": 1, "schedule": type("Own", (), {"step": lambda self: None})()},
            "a schedule must have state_dict",
        ),
    ],
)
def test_options(
    options: dict[str, Any], message: str, network: Build, data: Samples, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(network(), data, "distillation", checkpoint_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_teacher_for_a_recipe_without_one(network: Build, data: Samples) -> None:
    with pytest.raises(
        ValueError, match=r"teacher is for a recipe with soft labels, got .* natural"
    ):
        train(network(), data, "natural", epochs=1, teacher=network())


def test_a_teacher_of_other_classes(network: Build, data: Samples) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    with pytest.raises(ValueError, match=r"the teacher must have the 3 classes .*, got 5"):
        train(network(), data, "distillation", epochs=1, teacher=teacher)


def test_a_loader_has_no_samples_to_label(network: Build, data: Samples, tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(*data), 6)
    with pytest.raises(ValueError, match="soft labels need samples that are read by their pos"):
        train(network(), loader, "distillation", epochs=1, checkpoint_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the command's run ---


def run(folder: Path, **given: Any) -> dict[str, Any]:
    settings = {"recipe": "distillation", "data": "digits", "n": 200, "test_n": 50, "epochs": 2}
    found = run_training(resolve({**settings, **given}), folder)
    assert found is not None
    return found


def test_the_teacher_of_a_run_teaches_the_same_student(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    assert first["recipe"] == {
        "name": "distillation",
        "temperature": 100.0,
        "warm_epochs": 1,
        "head": "DistilledHead()",
    }
    bare = load_weights(digits_cnn(), tmp_path / "first" / "model.safetensors").eval()
    loaded = load_model(tmp_path / "first", checkpoint="final").model
    assert adaptive_attacks(loaded) == (("pgd", {"num_steps": 50, "loss": "margin"}),)
    x = load_data("digits").first(9).x
    assert torch.equal(bare(x), loaded(x)), "the scores are the outputs of the network"
    assert first["final"]["epoch"] == 5
    run(tmp_path / "second", teacher=str(tmp_path / "first"))
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert files[0] == files[1]
    # a run without a teacher of its own teaches by its best weights
    run(tmp_path / "natural", recipe="natural")
    run(tmp_path / "third", teacher=str(tmp_path / "natural"), epochs=1)
    assert not (tmp_path / "third" / "teacher.safetensors").exists()


def test_faults_of_a_run_are_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="passes must not be given"):
        run(tmp_path / "run", epochs=None, passes=10)
    with pytest.raises(ValueError, match="teacher is for a recipe with soft labels"):
        run(tmp_path / "run", recipe="pgd", teacher="digits-cnn")
    with pytest.raises(ValueError, match="did you mean 'digits-cnn'"):
        run(tmp_path / "run", teacher="digits-cn")
    own = tmp_path / "own.py"
    own.write_text("from torch import nn\ndef make():\n    return nn.Linear(3, 10)\n")
    with pytest.raises(ValueError, match="the teacher fails on inputs of shape"):
        run(tmp_path / "run", teacher=f"{own}:make")
    own.write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
    )
    with pytest.raises(ValueError, match=r"the teacher must have the 10 classes .*, got 4"):
        run(tmp_path / "run", teacher=f"{own}:make")
    assert not (tmp_path / "run").exists()


def test_the_setting_of_the_authors_is_a_file() -> None:
    found = resolve({}, ROOT / "benchmarks" / "papers" / "configurations" / "distillation.toml")
    assert found.make_recipe().settings()["temperature"] == 100.0
    assert (found.epochs, found.batch_size, found.validation) == (50, 128, 5000)
    assert (found.optimizer, found.learning_rate, found.momentum) == ("sgd", 0.01, 0.9)
    assert found.nesterov
    assert found.model_args == {"dropout": "0.5", "mean": "0.5"}
