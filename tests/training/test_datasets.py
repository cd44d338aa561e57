"""Map-style datasets: the same training as by tensors, whatever process or worker reads them."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from art_ext.data import LazyDataset, as_dataset
from art_ext.training import Pgd, TrainingResult, train
from art_ext.training.batches import LoaderBatches
from art_ext.training.datasets import DatasetBatches
from art_ext.training.loaders import SharedLoaderBatches, can_be_shared
from art_ext.training.runs import resolve, run_training
from tests.training._stopping import stop_at_save
from tests.training.test_processes import launch

_SPEC = importlib.util.spec_from_file_location("_reading", Path(__file__).with_name("_reading.py"))
READING: Any = importlib.util.module_from_spec(_SPEC)  # type: ignore[arg-type]
_SPEC.loader.exec_module(READING)  # type: ignore[union-attr]
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
    dataset = as_dataset(TensorDataset(*data), workers=workers)
    by_dataset = train(network("norm"), dataset, recipe, **settings)
    assert same(by_tensors, by_dataset)
    columns = ("loss", "validation_clean", "validation_robust", "validation_loss")
    for ours, theirs in zip(by_dataset.history, by_tensors.history, strict=True):
        assert [ours[name] for name in columns] == [theirs[name] for name in columns]


def test_draws_of_a_dataset_depend_on_seed_epoch_and_index_only(
    network: Build, data: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(workers: int = 0, **options: Any) -> TrainingResult:
        dataset = as_dataset(Noisy(*data), workers=workers)
        settings: dict[str, Any] = {"epochs": 3, "batch_size": 4, "checkpoint_every": 2}
        return train(network(), dataset, "natural", **settings, **options)

    whole = go()
    assert same(whole, go(workers=1))
    assert not same(whole, train(network(), data, "natural", epochs=3, batch_size=4))
    with monkeypatch.context() as patch:
        stop_at_save(patch, 3, KeyboardInterrupt)  # within the second epoch
        with pytest.raises(KeyboardInterrupt):
            go(checkpoint_dir=tmp_path)
    assert same(whole, go(workers=2, checkpoint_dir=tmp_path, resume=True))


def test_each_process_reads_its_own_rows(data: Samples) -> None:
    read, rows = [], []
    for process in range(2):
        dataset = Noisy(*data)
        source = as_dataset(dataset)
        assert isinstance(source, LazyDataset)
        batches = DatasetBatches(source, torch.arange(14), (0.0, 1.0), batch_size=6, seed=1)
        dataset.read.clear()
        rows.append([batch.ids.tolist() for batch in batches.epoch(0, 0, process, 2)])
        read.append(dataset.read)
    assert sorted(read[0] + read[1]) == list(range(14))
    assert [[one for part in parts for one in part] for parts in rows] == read
    whole = next(batches.epoch(0, 0, 0, 1)).ids.tolist()
    assert whole == [one for pair in zip(rows[0][0], rows[1][0], strict=True) for one in pair]


class Places(Noisy):
    """Samples that hold their index, and noise of three streams."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        x[0, 0] = index / 100
        x[0, 1, 0] = random.random()
        x[0, 1, 1] = float(np.random.random())  # noqa: NPY002
        return x, y


@pytest.mark.parametrize(
    ("workers", "persistent", "own_generator"),
    # how much a generator of its own has drawn after a look depends on what workers read ahead
    [(0, False, False), (0, False, True), (2, False, False), (2, True, False)],
)
def test_each_process_reads_its_own_rows_of_a_loader(
    workers: int, persistent: bool, own_generator: bool, data: Samples
) -> None:
    def loader_of(dataset: Any) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(8) if own_generator else None
        return DataLoader(
            dataset,
            6,
            shuffle=True,
            num_workers=workers,
            persistent_workers=persistent,
            generator=generator,
        )

    def epochs(batches: LoaderBatches, process: int, processes: int) -> list[list[Tensor]]:
        return [[one.x for one in batches.epoch(epoch, 0, process, processes)] for epoch in (0, 1)]

    parts: list[list[list[Tensor]]] = []
    for process in range(2):
        dataset = Places(*data)
        batches = SharedLoaderBatches(loader_of(dataset), (0.0, 1.0), seed=1)
        assert workers or len(dataset.read) == 2, "the example"
        dataset.read.clear()
        parts.append(epochs(batches, process, 2))
        own = [
            round(100 * float(x[0, 0, 0])) for epoch in parts[-1] for part in epoch for x in part
        ]
        assert workers or dataset.read == own
        later = batches.epoch(1, 1, process, 2)
        if not own_generator:  # whose state an epoch changes
            assert torch.equal(next(later).x, parts[-1][1][1]), "after a resume"
    whole = epochs(LoaderBatches(loader_of(Places(*data)), (0.0, 1.0), seed=1), 0, 1)
    for epoch in (0, 1):
        for place, batch in enumerate(whole[epoch]):
            order = [parts[row % 2][epoch][place][row // 2] for row in range(len(batch))]
            assert torch.equal(torch.stack(order)[:, 0, 0], batch[:, 0, 0]), "one process' order"
    drawn = torch.cat([x[:, 0, 1, :2] for epochs in parts for epoch in epochs for x in epoch])
    assert len(drawn.unique(dim=0)) == len(drawn) == 2 * len(data[0])


def test_loaders_that_processes_cannot_share(data: Samples) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    dataset = TensorDataset(*data)
    assert can_be_shared(DataLoader(dataset, 4))
    for loader in (DataLoader(dataset, None), DataLoader(Stream(), 4), [(data[0], data[1])]):
        assert not can_be_shared(loader)
    split: Any = DistributedSampler(dataset, 2, 0)
    with pytest.raises(ValueError, match="leave out the DistributedSampler"):
        SharedLoaderBatches(DataLoader(dataset, 4, sampler=split), (0.0, 1.0), 0)

    def first_only(items: list[Any]) -> tuple[Tensor, Tensor]:
        return items[0][0][None], torch.tensor([items[0][1]])

    kept = SharedLoaderBatches(DataLoader(dataset, 4, collate_fn=first_only), (0.0, 1.0), 0)
    with pytest.raises(ValueError, match="got 1 rows of 2 items in batch 0"):
        next(kept.epoch(0, 0, 0, 2))
    with pytest.raises(ValueError, match=r"a row for each of the 5 processes, got 4 rows in bat"):
        next(kept.epoch(0, 0, 0, 5))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [(torch.zeros(1, 4, 4), 0), torch.zeros(1, 4, 4)],
            "must give pairs of an image and a label, got Tensor",
        ),
        ([(torch.zeros(1, 4, 4).int(), 0)] * 2, r"must be uint8 .* got torch\.int32"),
        ([("image", 0)] * 2, "x must be a Pillow image or an array of bytes or floats, got str"),
        (
            [(torch.zeros(4), 0), (torch.zeros(5), 0)],
            r"must have the shape \(4,\) of the first, got \(5,\)",
        ),
        ([(torch.full((1, 4, 4), 2.0), 0)] * 2, "x of the first samples"),
        ([(torch.zeros(1, 4, 4), 0.5)] * 2, "must be one class index"),
        ([(torch.zeros(1, 4, 4), 7)] * 2, "labels must be class indices below 3"),
        ([], "at least one sample, got none"),
    ],
)
def test_datasets_that_do_not_fit(
    items: list[Any], message: str, network: Build, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        train(network(), as_dataset(items), "natural", epochs=1)


def test_arguments_of_a_map_dataset(data: Samples) -> None:
    with pytest.raises(ValueError, match="workers must be an integer >= 0, got -1"):
        as_dataset(TensorDataset(*data), workers=-1)


def reads(folder: Path, processes: int, workers: int) -> Counter[int]:
    files = (folder / f"read-{processes}-{workers}").iterdir()
    return Counter(int(line) for file in files for line in file.read_text().split())


def numpy_state() -> Any:
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1]


def check_reads(folder: Path, processes: int, workers: int) -> None:
    """Each item is read once in each epoch, besides the first two, which every process probes."""
    found = reads(folder, processes, workers)
    found.subtract({0: 2 * processes, 1: processes})
    wanted = Counter(dict.fromkeys(range(READING.SAMPLES), READING.EPOCHS))
    assert found == wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_read_once_an_epoch_and_global_streams_are_put_back(
    workers: int, tmp_path: Path
) -> None:
    before: tuple[Any, ...] = (torch.get_rng_state(), random.getstate(), numpy_state())
    losses = READING.go(tmp_path, workers).losses
    check_reads(tmp_path, 1, workers)
    assert torch.equal(losses, READING.go(tmp_path / "again", 1 - workers // 2).losses)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == numpy_state()).all()
    if workers:  # they stay from epoch to epoch
        assert len(list((tmp_path / f"read-1-{workers}").iterdir())) == workers + 1


@pytest.mark.slow
def test_losses_are_equal_for_one_and_two_processes_and_any_workers(tmp_path: Path) -> None:
    for workers in (0, 2):
        losses = {1: READING.go(tmp_path, workers).losses}
        outcome = launch(Path(READING.__file__), str(tmp_path), str(workers))
        assert outcome.returncode == 0, outcome.stderr[-4000:]
        losses[2] = torch.load(tmp_path / f"losses-2-{workers}.pt", weights_only=True)
        assert len(losses[1]) == 20
        assert float((losses[1] - losses[2]).abs().max()) < 1e-4
        check_reads(tmp_path, 2, workers)


@pytest.mark.slow
def test_processes_share_a_loader(tmp_path: Path) -> None:
    for workers in (0, 2):
        losses = READING.go(tmp_path, workers, loader=True).losses
        outcome = launch(Path(READING.__file__), str(tmp_path), str(workers), "loader")
        assert outcome.returncode == 0, outcome.stderr[-4000:]
        shared = torch.load(tmp_path / f"losses-2-{workers}.pt", weights_only=True)
        # a group that outlives the interpreter aborts some processes after their work
        for rank in (0, 1):
            assert (tmp_path / f"group-{rank}-{workers}").read_text() == "False"
        assert len(losses) == 20
        assert float((losses - shared).abs().max()) < 1e-4
        found = reads(tmp_path, 2, workers)
        # both processes look at the first two rows before the first epoch
        assert sum(found.values()) == READING.SAMPLES * READING.EPOCHS + 4
        assert set(found.values()) <= {READING.EPOCHS, READING.EPOCHS + 2}


def test_a_killed_run_with_workers_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"validation": 12, "checkpoint_every": 3}
    whole = READING.go(tmp_path, 2, **options)
    with monkeypatch.context() as patch:
        stop_at_save(patch, 3, KeyboardInterrupt)  # within the second epoch
        with pytest.raises(KeyboardInterrupt):
            READING.go(tmp_path, 0, checkpoint_dir=tmp_path / "run", **options)
    resumed = READING.go(tmp_path, 2, checkpoint_dir=tmp_path / "run", resume=True, **options)
    assert same(whole, resumed)
    drop = ("seconds",)
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }


def test_sources_of_other_libraries_train_as_their_tensors(network: Build, data: Samples) -> None:
    x, y = data
    pillow = pytest.importorskip("PIL.Image")
    pixels = (x[:, 0] * 255).to(torch.uint8)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 5, "seed": 4}
    wanted = train(network(), (pixels[:, None] / 255, y), "natural", **settings)
    pictures = [
        (pillow.fromarray(row.numpy()), int(label)) for row, label in zip(pixels, y, strict=True)
    ]
    maite = type("Maite", (list,), {"metadata": {"id": "mine"}})(pictures)
    for source in (as_dataset(pictures), maite, as_dataset((pixels[:, None] / 255, y))):
        assert same(wanted, train(network(), source, "natural", **settings))


def test_the_command_trains_on_folders_as_on_their_arrays(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 30), ("test", 12)):
        y = np.arange(count) * 3 // count
        x = generator.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        arrays |= {f"x_{split}": x, f"y_{split}": y}
        for number, (row, label) in enumerate(zip(x, y, strict=True)):
            file = tmp_path / "folders" / split / str(label) / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(row).save(file)
    np.savez(tmp_path / "arrays.npz", **arrays)
    found: list[Any] = []
    for name, more in (
        ("arrays.npz", {}),
        ("folders", {"data_workers": 2}),
        ("folders", {"resize": 8}),
    ):
        given = {"recipe": "pgd", "data": str(tmp_path / name), "model": "digits-cnn", "eps": 0.1}
        given |= {"epochs": 2, "batch_size": 8, "validation": 6, "rays": 20, "n": 29, **more}
        run = run_training(resolve(given), tmp_path / f"run{len(found)}")
        weights = (tmp_path / f"run{len(found)}" / "model.safetensors").read_bytes()
        assert run is not None
        figures = {key: value for key, value in run["final"].items() if key != "seconds"}
        found.append((weights, figures))
    assert found[0] == found[1] == found[2]
