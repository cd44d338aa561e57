"""ART trainers whose network gets a head: the passed classifier stays, the new one is right."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art import config
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.defences.preprocessor import CutoutPyTorch
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from art_ext.data import load_data
from art_ext.models import digits_cnn, members
from art_ext.models.joint import redrawn
from art_ext.trainers import (
    TrainerADPPyTorch,
    TrainerDistillationPyTorch,
    TrainerMaxMahalanobisPyTorch,
    TrainerReverseCrossEntropyPyTorch,
)
from art_ext.training import Adp, Distillation, Mmc, Mmlda, Rce, train
from art_ext.training.heads import heads_of

Arrays = tuple[np.ndarray, np.ndarray]
# trainer, its arguments, and the recipe of the core
CASES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "rce": (TrainerReverseCrossEntropyPyTorch, {}, Rce()),
    "rce-pgd": (
        TrainerReverseCrossEntropyPyTorch,
        {"craft": "pgd", "eps": 0.1, "max_iter": 2, "eps_step": 0.06, "gain": "margin"},
        Rce(craft="pgd", eps=0.1, num_steps=2, step_size=0.06, gain="margin"),
    ),
    "mmc": (TrainerMaxMahalanobisPyTorch, {}, Mmc()),
    "mmc-16": (TrainerMaxMahalanobisPyTorch, {"dim": 16}, Mmc(dim=16)),
    "mmlda": (
        TrainerMaxMahalanobisPyTorch,
        {"objective": "mmlda", "factor": 0.5, "centres": "random", "centre_seed": 2},
        Mmlda(factor=0.5, centres="random", centre_seed=2),
    ),
    "distillation": (
        TrainerDistillationPyTorch,
        {"temperature": 5.0},
        Distillation(temperature=5.0),
    ),
    "adp": (TrainerADPPyTorch, {}, Adp()),
    "adp-pgd": (
        TrainerADPPyTorch,
        {"nb_members": 2, "adversarial": "regularised", "max_iter": 2, "beta": 1.0},
        Adp(members=2, adversarial="regularised", num_steps=2, beta=1.0),
    ),
}


@pytest.fixture(scope="module")
def data() -> Arrays:
    first = load_data("digits", split="train").first(96)
    return first.x.numpy(), first.y.numpy()


@pytest.fixture(autouse=True)
def _art_writes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # deepcopy of a classifier writes files
    monkeypatch.setattr(config, "ART_DATA_PATH", str(tmp_path / "art"))


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return digits_cnn()


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=4e-3)


def estimator(module: nn.Module | None = None, **options: Any) -> PyTorchClassifier:
    module = network() if module is None else module
    settings: dict[str, Any] = {"optimizer": adam(module), "clip_values": (0.0, 1.0), **options}
    loss = nn.CrossEntropyLoss()
    return PyTorchClassifier(module, loss, (1, 8, 8), 10, device_type="cpu", **settings)


def made(name: str, classifier: PyTorchClassifier) -> Any:
    kind, arguments, _ = CASES[name]
    return kind(classifier, **arguments, seed=4, verbose=False)


@pytest.mark.parametrize("name", CASES)
def test_the_new_classifier_is_that_of_the_core_and_the_passed_one_stays(
    name: str, data: Arrays
) -> None:
    classifier = estimator()
    trainer = made(name, classifier)
    trainer.fit(*data, batch_size=32, nb_epochs=2)
    recipe = CASES[name][2]
    # the members of an ensemble are drawn anew, from copies of the network
    draw = functools.partial(redrawn, network())
    module = recipe.build(draw, 4) if recipe.networks > 1 else network()
    if getattr(recipe, "dim", None):
        recipe = recipe.fitted(module, torch.zeros(2, 1, 8, 8), 4)
    samples = tuple(map(torch.from_numpy, data))
    result = train(module, samples, recipe, epochs=2, batch_size=32, seed=4, optimizer=adam(module))
    found = trainer.get_classifier()
    x = data[0]
    with torch.no_grad():
        wanted = result.model.eval()(samples[0]).numpy()
    np.testing.assert_array_equal(found.predict(x), wanted)
    np.testing.assert_array_equal(trainer.predict(x), wanted)
    assert torch.equal(trainer.last_result.losses, result.losses)
    assert trainer.last_result.model is found.model
    assert isinstance(trainer, Trainer)
    assert found is not classifier
    before = network().state_dict()
    after = classifier.model.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert not classifier.optimizer.state


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_copies_of_the_new_classifier(name: str, data: Arrays) -> None:
    trainer = made(name, estimator())
    trainer.fit(*data, batch_size=32, nb_epochs=1)
    found = trainer.get_classifier()
    x, y = data[0][:7], data[1][:7]
    rows = torch.from_numpy(x).requires_grad_(True)
    head = heads_of(found.model)[0]
    scores = head.scores(found.model.model.eval()(rows))
    loss = functional.cross_entropy(scores, torch.from_numpy(y))
    (gradient,) = torch.autograd.grad(loss, rows)
    np.testing.assert_allclose(
        found.loss_gradient(x, np.eye(10, dtype=np.float32)[y]), gradient.numpy(), atol=1e-6
    )
    twin = copy.deepcopy(found)
    np.testing.assert_array_equal(twin.predict(x), found.predict(x))
    assert twin.model is not found.model
    first = next(twin.model.parameters())
    with torch.no_grad():
        first.zero_()
    assert float(next(found.model.parameters()).detach().abs().max()) > 0
    attack = ProjectedGradientDescentPyTorch(found, eps=0.1, max_iter=2, verbose=False)
    assert attack.generate(x, y).shape == x.shape


def test_the_arg_max_decides() -> None:
    learned, held = load_data("digits", split="train"), load_data("digits")
    trainer = made("rce", estimator())
    trainer.fit(learned.x.numpy(), learned.y.numpy(), batch_size=64, nb_epochs=4)
    y = held.y.numpy()
    found = trainer.get_classifier()
    assert (found.predict(held.x.numpy()).argmax(1) == y).mean() > 0.9
    inner = found.model.model(held.x).argmax(1).numpy()
    assert (inner == y).mean() < 0.02


def test_preprocessing_and_settings_are_kept() -> None:
    defence = CutoutPyTorch(2, apply_fit=True, apply_predict=False, device_type="cpu")
    classifier = estimator(preprocessing=(0.1, 0.5), preprocessing_defences=defence)
    found = made("mmc", classifier).get_classifier()
    assert found.clip_values is not None
    np.testing.assert_array_equal(found.clip_values, classifier.clip_values)
    assert [type(one) for one in found.preprocessing_operations] == [
        type(one) for one in classifier.preprocessing_operations
    ]
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    scores = found.model((torch.from_numpy(x) - 0.1) / 0.5).detach().numpy()
    np.testing.assert_allclose(found.predict(x), scores, rtol=1e-5)


def test_the_state_of_the_optimizer_is_copied(data: Arrays) -> None:
    module = network()
    classifier = estimator(module)
    classifier.fit(*data, batch_size=32, nb_epochs=1)
    trainer = made("mmc-16", classifier)
    optimizer = trainer.get_classifier().optimizer
    own = set(trainer.get_classifier().model.parameters())
    assert {one for group in optimizer.param_groups for one in group["params"]} == own
    assert len(optimizer.state) == len(own) - 2  # the new layer has none
    assert set(classifier.optimizer.state) == set(module.parameters())


def test_a_schedule_is_that_of_the_new_optimizer(data: Arrays) -> None:
    schedule: Callable[..., Any] = torch.optim.lr_scheduler.StepLR
    classifier = estimator()
    trainer = made("rce", classifier)
    wrong = schedule(classifier.optimizer, 1, 0.5)
    with pytest.raises(ValueError, match=r"must be one of get_classifier\(\).optimizer"):
        trainer.fit(*data, nb_epochs=1, scheduler=wrong)
    right = schedule(trainer.get_classifier().optimizer, 1, 0.5)
    trainer.fit(*data, nb_epochs=3, scheduler=right)
    assert trainer.history[-1]["learning_rate"] == pytest.approx(5e-4)


def test_the_folder_names_the_head(data: Arrays, tmp_path: Path) -> None:
    from art_ext.models.weights import read_heads

    trainer = made("mmc", estimator())
    trainer.fit(*data, nb_epochs=1, batch_size=32, checkpoint_dir=tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    assert [record["name"] for record in read_heads(file)] == ["max-mahalanobis"]
    assert set(load_file(file)) == {"head.centres", *digits_cnn().state_dict()}


def test_a_student_of_a_teacher_with_further_samples(data: Arrays, tmp_path: Path) -> None:
    trainer = made("distillation", estimator())
    x, y = data
    settings: dict[str, Any] = {
        "nb_epochs": 2,
        "batch_size": 32,
        "checkpoint_dir": tmp_path / "run",
    }
    trainer.fit(x[:64], y[:64], append=(x[64:], y[64:]), **settings)
    assert [row["phase"] for row in trainer.history] == [0, 1, 1, 2, 2]
    assert trainer.last_result.forwards == 96 * 6
    teacher = digits_cnn()
    teacher.load_state_dict(trainer.last_result.teacher)
    assert set(load_file(tmp_path / "run" / "teacher.safetensors")) == set(teacher.state_dict())
    with pytest.raises(ValueError, match="soft labels need samples that are read by their pos"):
        trainer.fit_generator([(x[:32], y[:32])], nb_epochs=1)
    with pytest.raises(ValueError, match="passes must not be given with the recipe distillation"):
        trainer.fit(x, y, passes=10.0)
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        TrainerDistillationPyTorch(estimator(), temperature=0.0, verbose=False)


def test_an_ensemble_of_new_members_with_the_settings_of_the_optimizer(data: Arrays) -> None:
    module = network()
    groups: list[dict[str, Any]] = [
        {"params": module.get_submodule("0").parameters(), "lr": 0.02},
        {"params": module.get_submodule("6").parameters()},
        {"params": module.get_submodule("8").parameters(), "weight_decay": 0.1},
        {"params": module.get_submodule("2").parameters(), "lr": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=4e-3)
    classifier = estimator(module, optimizer=optimizer)
    classifier.fit(*data, batch_size=32, nb_epochs=1)
    trainer = made("adp", classifier)
    found = trainer.get_classifier()
    networks = members(found)
    assert len(networks) == 3
    firsts = [next(one.parameters()) for one in (module, *networks)]
    assert len({float(one.detach().sum()) for one in firsts}) == 4
    assert type(found.optimizer) is torch.optim.AdamW
    assert not found.optimizer.state
    for place, layer in enumerate((0, 6, 8, 2)):
        own, given = found.optimizer.param_groups[place], optimizer.param_groups[place]
        assert {name: own[name] for name in ("lr", "weight_decay")} == {
            name: given[name] for name in ("lr", "weight_decay")
        }
        wanted = {
            one for member in networks for one in member.get_submodule(str(layer)).parameters()
        }
        assert set(own["params"]) == wanted
    trainer.fit(*data, batch_size=32, nb_epochs=1)
    kept = [one for member in networks for one in member.get_submodule("2").parameters()]
    fresh = [redrawn(module, seed) for seed in (4 * 1_000_003 + place for place in range(3))]
    before = [one for member in fresh for one in member.get_submodule("2").parameters()]
    assert all(torch.equal(one, two) for one, two in zip(kept, before, strict=True))
    assert trainer.last_result.forwards == 3 * 96


def test_members_that_cannot_be_drawn_anew() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, 10))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.flatten(1) @ self.weight

    with pytest.raises(ValueError, match=r"modules with reset_parameters, but .*\(Own\) has none"):
        made("adp", estimator(Own()))
    with pytest.raises(ValueError, match="members must be at most 9 for 10 classes"):
        TrainerADPPyTorch(estimator(), nb_members=10, verbose=False)
    with pytest.raises(ValueError, match="members must be an integer >= 2, got 1"):
        TrainerADPPyTorch(estimator(), nb_members=1, verbose=False)


def test_arguments_that_make_no_sense() -> None:
    for options, message in (
        ({"objective": "mcc"}, "objective must be one of 'mmc', 'mmlda', got 'mcc'"),
        ({"dim": 8}, "dim must be >= num_classes - 1 = 9"),
        ({"craft": "pgd", "gain": "kl"}, "gain must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainerMaxMahalanobisPyTorch(estimator(), verbose=False, **options)
    first = made("rce", estimator()).get_classifier()
    with pytest.raises(ValueError, match="around a network with ReverseLogitsHead"):
        made("rce", first)
