"""Samples with pseudo-labels fill a share of each minibatch, with a weight of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.data import as_dataset
from art_ext.trainers import AdversarialTrainerWARPyTorch
from art_ext.training import TrainingOptions, make_recipe, pseudo_labels, train
from art_ext.training.batches import OrderedBatches
from art_ext.training.extra import ExtraRows
from art_ext.training.recipes.catalogue import CATALOGUE
from art_ext.training.runs import resolve, run_training
from art_ext.training.runs.defaults import takes_radius
from art_ext.training.sources import make_sources

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]
CPU = torch.device("cpu")
# the teacher of a distillation would learn from both kinds, and an ensemble has networks of its own
RECIPES = [one.name for one in CATALOGUE if one.name not in ("distillation", "adp")]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "mmlda": {"centre_norm": 2.0},
    "mmc": {"centre_norm": 2.0},
    "grad-align": {"weight": 0.2},
}


@pytest.fixture
def extra() -> Samples:
    """Five images (5, 1, 4, 4) with pseudo-labels."""
    generator = torch.Generator().manual_seed(8)
    return torch.rand(5, 1, 4, 4, generator=generator), torch.arange(5) % 3


def one_update(
    network: nn.Module, data: Samples, recipe: str, size: int, **options: Any
) -> dict[str, Tensor]:
    """Return the loss and the weights after one update of SGD in float64."""
    radius = {"eps": 0.125} if takes_radius(recipe) else {}
    rates = {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    method = make_recipe(recipe, **radius, **ARGUMENTS.get(recipe, {}))
    given: dict[str, Any] = {"updates": 1, "batch_size": size, "seed": 3, **rates, **options}
    result = train(network.double(), data, method, **given)
    return {"losses": result.losses, **result.model.state_dict()}


def check_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("recipe", RECIPES)
def test_weight_0_gives_the_gradients_of_the_other_rows(
    recipe: str, network: Build, data: Samples, extra: Samples
) -> None:
    options: dict[str, Any] = {"extra_data": extra, "extra_weight": 0.0}
    alone = one_update(network(), data, recipe, 4)
    check_equal(one_update(network(), data, recipe, 8, **options), alone)


@pytest.mark.parametrize("recipe", RECIPES)
def test_weight_1_gives_those_of_the_joined_minibatch(
    recipe: str, network: Build, data: Samples, extra: Samples
) -> None:
    few = data[0][:5], data[1][:5]
    joined = torch.cat([few[0], extra[0]]), torch.cat([few[1], extra[1]])
    found = one_update(network(), few, recipe, 10, extra_data=extra)
    check_equal(found, one_update(network(), joined, recipe, 10))


def test_another_weight_is_that_of_the_formula(
    network: Build, data: Samples, extra: Samples
) -> None:
    """``sum(w l) / sum(w)``, from the losses of each kind alone."""
    few = data[0][:5], data[1][:5]
    options: dict[str, Any] = {"extra_data": extra, "extra_weight": 0.25}
    own, more = (
        float(one_update(network(), part, "natural", 5)["losses"]) for part in (few, extra)
    )
    found = float(one_update(network(), few, "natural", 10, **options)["losses"])
    assert found == pytest.approx((5 * own + 0.25 * 5 * more) / (5 + 0.25 * 5), rel=1e-6)


class TestMinibatches:
    def test_all_are_drawn_before_one_is_drawn_again(self) -> None:
        places = ExtraRows.of(20, 7, 8, 0.5, 1.0)
        assert places is not None
        drawn = places.positions(3, 0, 70)
        for cycle in drawn.split(7):
            assert sorted(cycle.tolist()) == list(range(20, 27))
        assert len({tuple(cycle.tolist()) for cycle in drawn.split(7)}) > 1
        assert torch.equal(places.positions(3, 16, 30), drawn[16:46])
        assert not torch.equal(places.positions(4, 0, 70), drawn)

    def test_an_epoch_is_a_pass_over_the_others(self) -> None:
        places = ExtraRows.of(20, 7, 8, 0.25, 0.5)
        batches = OrderedBatches(27, 8, 3, extra=places)
        order = batches.order(0, 0, 1)
        assert [len(one) for one in order] == batches.sizes(1) == [8, 8, 8, 3]
        own = torch.cat([one[one < 20] for one in order])
        assert sorted(own.tolist()) == list(range(20))
        assert [int((one >= 20).sum()) for one in order] == [2, 2, 2, 1]
        later = batches.order(1, 2, 1)
        assert all(map(torch.equal, later, batches.order(1, 0, 1)[2:]))
        assert len(batches.order(1, 4, 1)) == 0
        whole = batches.batch(torch.zeros(8), torch.zeros(8), order[0], order[0])
        assert whole.weights is not None
        assert whole.weights.tolist() == [1.0] * 6 + [0.5] * 2
        assert whole.weight == 7

    def test_counted_rows_are_those_that_went_through(
        self, network: Build, data: Samples, extra: Samples, count_rows: Any
    ) -> None:
        model = network()
        rows = count_rows(model)
        result = train(
            model, data, "trades", epochs=2, batch_size=6, extra_data=extra, extra_share=0.3
        )
        # 14 images by 4, and 2 extra rows beside them, 1 beside the last two
        assert (rows.forwards, rows.backwards) == (result.forwards, result.backwards)
        assert rows.forwards == 2 * (14 + 3 * 2 + 1) * 13

    def test_none_is_held_out_and_a_dataset_trains_as_tensors_do(
        self, network: Build, data: Samples, extra: Samples
    ) -> None:
        options: dict[str, Any] = {"epochs": 2, "batch_size": 4, "validation": 4}
        runs = [
            train(network(), source, "natural", extra_data=extra, append=extra, **options)
            for source in (data, as_dataset(TensorDataset(*data), workers=1))
        ]
        assert torch.equal(runs[0].losses, runs[1].losses)
        settings = TrainingOptions(**options, extra_data=extra, seed=3)
        found = make_sources(data, settings, make_recipe("natural"), CPU)
        assert found.validation is not None
        held = torch.cat([x for x, _ in found.validation.held.read([torch.arange(4)])])
        assert all(any(torch.equal(x, own) for own in data[0]) for x in held)

    def test_they_belong_to_the_identity_of_a_run(
        self, network: Build, data: Samples, extra: Samples, tmp_path: Path
    ) -> None:
        def go(**options: Any) -> None:
            given: dict[str, Any] = {"epochs": 1, "batch_size": 4, "checkpoint_dir": tmp_path}
            train(network(), data, "natural", **given, **options)

        go(extra_data=extra)
        go(extra_data=extra, resume=True)
        with pytest.raises(ValueError, match=r"another configuration .*extra_weight"):
            go(extra_data=extra, extra_weight=0.5, resume=True)


class TestPseudoLabels:
    def test_they_are_the_predictions_above_a_confidence(self, network: Build) -> None:
        model = network(scale=4.0).train()
        x = torch.rand(11, 1, 4, 4, generator=torch.Generator().manual_seed(2))
        p, y = model(x).detach().softmax(dim=1).max(dim=1)
        kept, labels = pseudo_labels(model, x, batch_size=4)
        assert torch.equal(kept, x)
        assert torch.equal(labels, y)
        least = float(p.sort().values[5])
        kept, labels = pseudo_labels(model, x, min_confidence=least - 1e-6)
        assert torch.equal(kept, x[p >= least - 1e-6])
        assert torch.equal(labels, y[p >= least - 1e-6])
        assert model.training

    def test_each_sample_costs_one_row(self, network: Build, count_rows: Any) -> None:
        model = network("norm").train()
        rows = count_rows(model)
        pseudo_labels(model, torch.rand(11, 1, 4, 4), batch_size=4)
        assert (rows.forwards, rows.backwards) == (11, 0)

    def test_bad_input(self, network: Build) -> None:
        x = torch.rand(3, 1, 4, 4)
        with pytest.raises(ValueError, match=r"^min_confidence must lie in \[0, 1\], got 2"):
            pseudo_labels(network(), x, min_confidence=2)
        with pytest.raises(
            ValueError, match=r"^min_confidence must be at most 0\.\d+, the largest"
        ):
            pseudo_labels(network(), x, min_confidence=1.0)
        with pytest.raises(ValueError, match=r"^x must hold at least one sample, got none"):
            pseudo_labels(network(), x[:0])
        with pytest.raises(
            ValueError, match=r"^model must be an nn\.Module or a callable, got int"
        ):
            pseudo_labels(3, x)
        with pytest.raises(TypeError, match=r"^x must be a torch tensor, got list"):
            pseudo_labels(network(), x.tolist())  # type: ignore[arg-type]
        x[1] = torch.nan
        with pytest.raises(
            ValueError, match=r"^the model returns no finite logits, first in sa.* 1$"
        ):
            pseudo_labels(network(), x)

    def test_arrays_are_taken_like_tensors(self, network: Build) -> None:
        x = torch.rand(3, 1, 4, 4)
        found = pseudo_labels(network(), x.numpy())  # type: ignore[arg-type]
        for one, other in zip(found, pseudo_labels(network(), x), strict=True):
            assert torch.equal(one, other)


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra_share": 0}, r"^extra_share must lie in \(0, 1\), got 0$"),
        ({"extra_share": 1.0}, r"^extra_share must lie in \(0, 1\), got 1.0$"),
        ({"extra_share": 0.01}, r"^extra_share must leave rows of both kinds in a minibatch of 4"),
        ({"extra_weight": -1}, "^extra_weight must be a finite number >= 0"),
        ({"extra_data": None, "extra_share": 0.3}, "^extra_share belongs to extra_data, got 0.3"),
        (
            {"extra_data": (torch.rand(2, 1, 5, 5), torch.zeros(2).long())},
            r"^extra_data must hold sam",
        ),
        ({"extra_data": (torch.rand(2, 1, 4, 4), torch.zeros(3).long())}, "^y of extra_data must"),
        ({"extra_data": ("no.npz",)}, "^extra_data must name an existing .npz file, got 'no.npz'"),
        (
            {"extra_data": torch.rand(2, 1, 4, 4)},
            "^extra_data must be a pair .* files, got Tensor$",
        ),
        (
            {"extra_data": (np.zeros((2, 1, 4, 4)), [0, 1])},
            r"^extra_data must be a pair .* files, got \['ndarray', 'list'\]$",
        ),
        (
            {"extra_data": (torch.rand(0, 1, 4, 4), torch.zeros(0).long())},
            "^extra_data must hold at least one sample, got none$",
        ),
    ],
)
def test_errors_name_the_option(
    options: dict[str, Any], message: str, network: Build, data: Samples, extra: Samples
) -> None:
    given: dict[str, Any] = {"epochs": 1, "batch_size": 4, "extra_data": extra, **options}
    with pytest.raises(ValueError, match=message):
        train(network(), data, "natural", **given)


def test_a_loader_cannot_be_mixed(network: Build, data: Samples, extra: Samples) -> None:
    loader = DataLoader(TensorDataset(*data), batch_size=4)
    with pytest.raises(ValueError, match=r"^extra_data is for data in tensors and datasets"):
        train(network(), loader, "natural", epochs=1, extra_data=extra)


# --- the other hosts ---


def test_the_command_takes_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.random((12, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "more.npz", x=x, y=np.arange(12) % 10)
    given = {
        "recipe": "natural",
        "data": "digits",
        "n": 32,
        "test_n": 8,
        "updates": 3,
        "batch_size": 8,
        "validation": 0,
        "device": "cpu",
        "extra_data": str(tmp_path / "more.npz"),
        "extra_share": 0.25,
    }
    run = run_training(resolve(given), tmp_path / "run")
    assert run is not None
    assert run["forwards"] == 3 * 8
    file = tmp_path / "run" / "config.toml"
    assert resolve({}, file) == resolve(given)
    wrong = resolve({**given, "extra_share": 0.01})
    with pytest.raises(ValueError, match=r"^extra_share must leave rows of both kinds"):
        run_training(wrong, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_art_trainer_takes_arrays(network: Build, data: Samples, extra: Samples) -> None:
    model = network()
    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        (1, 4, 4),
        3,
        torch.optim.SGD(model.parameters(), 0.1),
        clip_values=(0, 1),
    )
    trainer = AdversarialTrainerWARPyTorch(classifier, eps=0.1, max_iter=1)
    pair = (extra[0].numpy(), np.eye(3)[extra[1].numpy()])
    trainer.fit(data[0].numpy(), data[1].numpy(), nb_epochs=1, batch_size=8, extra_data=pair)
    assert trainer.last_result is not None
    # 14 images by 4, and as many extra rows beside them
    assert trainer.last_result.forwards == 2 * 14 * trainer.recipe.cost().forwards
