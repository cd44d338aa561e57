"""Samples appended to the training part: they are trained on, and never held out."""

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
from art_ext.training import TrainingOptions, make_recipe, train
from art_ext.training.runs import resolve, run_training
from art_ext.training.sources import make_sources

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]
CPU = torch.device("cpu")


@pytest.fixture
def more() -> Samples:
    """Five images (5, 1, 4, 4) of 64ths, which no training image is."""
    generator = torch.Generator().manual_seed(8)
    return torch.randint(0, 64, (5, 1, 4, 4), generator=generator) / 64, torch.arange(5) % 3


def write(path: Path, **arrays: Any) -> str:
    held: dict[str, Any] = {name: np.asarray(one) for name, one in arrays.items()}
    np.savez(path, **held)
    return str(path)


def rows_of(data: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Return the samples of an epoch, and those held out, sorted by their sums."""
    settings = TrainingOptions(epochs=1, batch_size=4, seed=3, **options)
    found = make_sources(data, settings, make_recipe("natural"), CPU)
    trained = torch.cat([batch.x for batch in found.batches.epoch(0, 0, 0, 1)])
    held = torch.zeros(0, 1, 4, 4)
    if found.validation is not None:
        source = found.validation.held
        held = torch.cat([x for x, _ in source.read([torch.arange(source.count)])])
    return trained[trained.flatten(1).sum(1).argsort()], held


@pytest.mark.parametrize("kind", ["tensors", "dataset"])
def test_none_of_them_is_held_out(kind: str, data: Samples, more: Samples) -> None:
    source = data if kind == "tensors" else as_dataset(TensorDataset(*data))
    plain, held = rows_of(source, validation=4)
    trained, again = rows_of(source, validation=4, append=more)
    assert torch.equal(held, again)
    assert len(trained) == len(plain) + 5 == 15
    both = torch.cat([plain, more[0]])
    assert torch.equal(trained, both[both.flatten(1).sum(1).argsort()])


def test_a_dataset_with_them_trains_as_tensors_do(
    network: Build, data: Samples, more: Samples
) -> None:
    runs = []
    for source in (data, as_dataset(TensorDataset(*data), workers=1)):
        options: dict[str, Any] = {"epochs": 2, "batch_size": 4, "validation": 4}
        runs.append(train(network(), source, "natural", append=more, **options))
    assert torch.equal(runs[0].losses, runs[1].losses)
    joined = (torch.cat([data[0], more[0]]), torch.cat([data[1], more[1]]))
    plain = train(network(), joined, "natural", epochs=2, batch_size=4)
    without = train(network(), data, "natural", epochs=2, batch_size=4, append=more)
    assert torch.equal(plain.losses, without.losses), "as if they were training data"


def test_files_in_their_order(data: Samples, more: Samples, tmp_path: Path) -> None:
    x, y = more
    first = write(tmp_path / "a.npz", x=x[:2].numpy(), y=y[:2].numpy(), success=np.ones(2, bool))
    second = write(
        tmp_path / "b.npz",
        x_train=x[2:].numpy(),
        y_train=y[2:].numpy(),
        x_test=data[0].numpy(),
        y_test=data[1].numpy(),
    )
    by_files, _ = rows_of(data, append=(first, second))
    by_tensors, _ = rows_of(data, append=more)
    assert torch.equal(by_files, by_tensors)


def test_they_belong_to_the_identity_of_a_run(
    network: Build, data: Samples, more: Samples, tmp_path: Path
) -> None:
    def go(append: Any, **options: Any) -> None:
        train(
            network(),
            data,
            "natural",
            epochs=1,
            batch_size=4,
            append=append,
            checkpoint_dir=tmp_path,
            **options,
        )

    go(more)
    go(more, resume=True)
    other = (more[0], (more[1] + 1) % 3)
    for source in (other, None):
        with pytest.raises(ValueError, match=r"another configuration .*data: .* there"):
            go(source, resume=True)


# --- bad input ---

FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"x": np.zeros((3, 1, 8, 8), "f4"), "y": [0, 1, 2]},
        r"bad.npz must hold samples of shape \(1,",
    ),
    (
        {"x": np.zeros((3, 1, 4, 4), "f4"), "y": [0, -1, 2]},
        "labels of .*bad.npz must be at least 0",
    ),
    ({"x": np.zeros((3, 1, 4, 4), "f4"), "y": [0, 1]}, "must have one label for each row"),
    ({"x": np.full((3, 1, 4, 4), 2.0), "y": [0, 1, 2]}, r"x of .*bad.npz must lie in \[0, 1\]"),
    ({"x": np.full((3, 1, 4, 4), np.nan), "y": [0, 1, 2]}, "bad.npz must be finite"),
    ({"x_test": np.zeros((3, 1, 4, 4)), "y_test": [0, 1, 2]}, "to be appended, got x_test, y_test"),
    ({"x": np.zeros((3, 1, 4, 4), "f4")}, "must hold x_train and y_train or x and y"),
]


@pytest.mark.parametrize(("arrays", "message"), FAULTS)
def test_files_that_do_not_fit(
    arrays: dict[str, Any], message: str, network: Build, data: Samples, tmp_path: Path
) -> None:
    file = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        train(network(), data, "natural", epochs=1, append=[file], checkpoint_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"no archive", b"", b"PK\x03\x04 cut"], ids=str)
def test_a_damaged_file_gets_no_advice_to_unpickle_it(
    content: bytes, network: Build, data: Samples, tmp_path: Path
) -> None:
    file = tmp_path / "bad.npz"
    file.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"bad\.npz must be an \.npz file of plain arrays"
    ) as found:
        train(network(), data, "natural", epochs=1, append=[str(file)])
    assert "pickle" not in str(found.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("set.npz", r"append must be a pair of tensors \(x, y\) or a list of files, got 'set.npz'"),
        (["none.npz"], "append must name an existing .npz file, got 'none.npz'"),
        ([], "append must be a pair of tensors"),
        ((torch.zeros(2, 1, 4, 4),), "append must be a pair of tensors"),
        ((torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64)), r"y of append must have sh"),
        ((torch.zeros(2, 1, 5, 5), torch.zeros(2, dtype=torch.int64)), r"append must hold samples"),
    ],
)
def test_what_is_no_set_of_samples(
    given: Any, message: str, network: Build, data: Samples, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(network(), data, "natural", epochs=1, append=given, checkpoint_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_label_beyond_the_classes(network: Build, data: Samples, more: Samples) -> None:
    with pytest.raises(ValueError, match=r"labels must be class indices below 3, .* got 7"):
        train(network(), data, "natural", epochs=1, append=(more[0], more[1] + 5))


def test_a_loader_takes_none(network: Build, data: Samples, more: Samples) -> None:
    loader = DataLoader(TensorDataset(*data), 4)
    with pytest.raises(
        ValueError, match="append is for data in tensors and datasets, got a loader"
    ):
        train(network(), loader, "natural", epochs=1, append=more)


# --- the command's run, and ART ---


def test_a_run_of_the_command(tmp_path: Path) -> None:
    good = write(tmp_path / "a.npz", x=np.zeros((7, 1, 8, 8), "f4"), y=np.arange(7))
    given = {"recipe": "natural", "data": "digits", "n": 100, "test_n": 20, "epochs": 1}
    configuration = resolve({**given, "append": f"{good},{good}"})
    assert configuration.append == (good, good)
    found = run_training(configuration, tmp_path / "run")
    assert found is not None
    assert found["forwards"] == 95 + 14
    (tmp_path / "again.toml").write_text(configuration.to_toml())
    assert resolve({}, tmp_path / "again.toml") == configuration
    bad = write(tmp_path / "b.npz", x=np.zeros((2, 1, 8, 8), "f4"), y=[3, 10])
    with pytest.raises(ValueError, match=r"labels of .*b.npz must be below 10, .* got 10"):
        run_training(resolve({**given, "append": f"{good},{bad}"}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_art_trainer(network: Build, data: Samples, more: Samples, tmp_path: Path) -> None:
    x, y = (one.numpy() for one in data)
    file = write(tmp_path / "a.npz", x=more[0].numpy(), y=more[1].numpy())
    losses = []
    one_hot = np.eye(3, dtype=np.float32)[more[1].numpy()]
    for append in ((more[0].numpy(), one_hot), [file]):
        model = network()
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            (1, 4, 4),
            3,
            torch.optim.SGD(model.parameters(), 0.05),
            clip_values=(0, 1),
            device_type="cpu",
        )
        trainer = AdversarialTrainerWARPyTorch(classifier, eps=0.1, max_iter=1, verbose=False)
        trainer.fit(x, y, nb_epochs=1, batch_size=4, append=append)
        assert trainer.last_result is not None
        losses.append(trainer.last_result.losses)
    assert len(losses[0]) == 5
    assert torch.equal(*losses)
    wrong: list[Any] = [[], (more[0].numpy(),), (more[0].numpy(), one_hot, one_hot)]
    for append in wrong:
        with pytest.raises(ValueError, match="append must be a pair of tensors"):
            trainer.fit(x, y, nb_epochs=1, batch_size=4, append=append)
