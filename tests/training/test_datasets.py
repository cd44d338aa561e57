"""Map-style datasets: the same training as by tensors, whatever process or worker reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from art_ext.training import MapDataset, Pgd, TrainingResult, saving, train
from art_ext.training.checkpoints import save_checkpoint
from art_ext.training.datasets import DatasetBatches

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]


class Noisy(Dataset[Any]):
    """Samples with noise of torch's stream, and a record of what was read."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read.append(index)
        noise = 0.01 * torch.rand(self.x.shape[1:])
        return (self.x[index] + noise).clamp(0, 1), int(self.y[index])


def same(one: TrainingResult, other: TrainingResult) -> bool:
    weights = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return torch.equal(one.losses, other.losses) and all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_of_tensors_trains_as_the_tensors(
    workers: int, network: Build, data: Samples
) -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 5, "validation": 4, "seed": 4}
    recipe = Pgd(eps=0.1, num_steps=2)
    by_tensors = train(network("norm"), data, recipe, **settings)
    dataset = MapDataset(TensorDataset(*data), workers=workers)
    by_dataset = train(network("norm"), dataset, recipe, **settings)
    assert same(by_tensors, by_dataset)
    columns = ("loss", "validation_clean", "validation_robust", "validation_loss")
    for ours, theirs in zip(by_dataset.history, by_tensors.history, strict=True):
        assert [ours[name] for name in columns] == [theirs[name] for name in columns]


def test_draws_of_a_dataset_depend_on_seed_epoch_and_index_only(
    network: Build, data: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(workers: int = 0, **options: Any) -> TrainingResult:
        dataset = MapDataset(Noisy(*data), workers)
        settings: dict[str, Any] = {"epochs": 3, "batch_size": 4, "checkpoint_every": 2}
        return train(network(), dataset, "natural", **settings, **options)

    whole = go()
    assert same(whole, go(workers=1))
    assert not same(whole, train(network(), data, "natural", epochs=3, batch_size=4))
    saves = []

    def save(*arguments: Any) -> Path:
        saves.append(save_checkpoint(*arguments))
        if len(saves) == 3:  # within the second epoch
            raise KeyboardInterrupt
        return saves[-1]

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", save)
        with pytest.raises(KeyboardInterrupt):
            go(checkpoint_dir=tmp_path)
    assert same(whole, go(workers=2, checkpoint_dir=tmp_path, resume=True))


def test_each_process_reads_its_own_rows(data: Samples) -> None:
    read, rows = [], []
    for process in range(2):
        dataset = Noisy(*data)
        source = MapDataset(dataset)
        batches = DatasetBatches(source, torch.arange(14), (0.0, 1.0), batch_size=6, seed=1)
        dataset.read.clear()
        rows.append([batch.ids.tolist() for batch in batches.epoch(0, 0, process, 2)])
        read.append(dataset.read)
    assert sorted(read[0] + read[1]) == list(range(14))
    assert [[one for part in parts for one in part] for parts in rows] == read
    whole = next(batches.epoch(0, 0, 0, 1)).ids.tolist()
    assert whole == [one for pair in zip(rows[0][0], rows[1][0], strict=True) for one in pair]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [(torch.zeros(1, 4, 4), 0), torch.zeros(1, 4, 4)],
            r"must give pairs \(x, y\), got Tensor",
        ),
        (
            [(torch.zeros(1, 4, 4).byte(), 0)] * 2,
            "must be a floating-point tensor, got torch.uint8",
        ),
        ([("image", 0)] * 2, "x of a sample must be a floating-point tensor, got str"),
        ([(torch.zeros(4), 0), (torch.zeros(5), 0)], r"one shape, got \(4,\), \(5,\)"),
        ([(torch.full((1, 4, 4), 2.0), 0)] * 2, "x of the first samples"),
        ([(torch.zeros(1, 4, 4), 0.5)] * 2, "y of the first samples"),
        ([(torch.zeros(1, 4, 4), 7)] * 2, "labels must be class indices below 3"),
        ([], "at least one sample, got none"),
    ],
)
def test_datasets_that_do_not_fit(
    items: list[Any], message: str, network: Build, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        train(network(), MapDataset(items), "natural", epochs=1)


def test_arguments_of_a_map_dataset(data: Samples) -> None:
    with pytest.raises(ValueError, match="workers must be an integer >= 0, got -1"):
        MapDataset(TensorDataset(*data), workers=-1)
    with pytest.raises(ValueError, match="must have __len__ and __getitem__, got generator"):
        MapDataset(one for one in range(3))
