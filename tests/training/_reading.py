"""Trains on a data set that augments at random, on one process or on those of ``torchrun``.

Usage: FOLDER WORKERS [loader]. Losses go to FOLDER/losses-P-WORKERS.pt for P processes, and the
index of each item that is read to a file of its process in FOLDER/read-P-WORKERS.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from art_ext.data import as_dataset
from art_ext.training import Pgd, train

SAMPLES = 90
EPOCHS = 4
BATCH_SIZE = 18  # 5 minibatches an epoch, 20 updates


class Augmented(Dataset[Any]):
    """Images of bytes, flipped, shifted and with noise of three random streams."""

    def __init__(self, log: Path) -> None:
        self.log = log
        generator = np.random.default_rng(0)
        self.kinds = generator.integers(0, 3, SAMPLES)
        self.images = generator.integers(0, 200, (SAMPLES, 8, 8, 1), dtype=np.uint8)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with (self.log / str(os.getpid())).open("a") as file:
            file.write(f"{index}\n")
        image = self.images[index]
        if torch.rand(()) < 0.5:
            image = image[:, ::-1]
        image = np.roll(image, random.randint(-1, 1), axis=0)
        noise = np.random.randint(0, 40, image.shape)  # noqa: NPY002
        return (image + noise).astype(np.uint8), int(self.kinds[index])


class Plain(Augmented):
    """The images as they are, as tensors."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        super().__getitem__(index)
        return torch.from_numpy(self.images[index].copy()).movedim(2, 0) / 255, int(
            self.kinds[index]
        )


def loader_of(log: Path, workers: int) -> Any:
    """A loader that shuffles, whose last batch is short."""
    return DataLoader(Plain(log), BATCH_SIZE, shuffle=True, num_workers=workers)


def go(folder: Path, workers: int, loader: bool = False, **options: Any) -> Any:
    processes = os.environ.get("WORLD_SIZE", "1")
    log = folder / f"read-{processes}-{workers}"
    log.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)
        )
    data: Any = loader_of(log, workers) if loader else as_dataset(Augmented(log), workers=workers)
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "learning_rate": 0.05, "seed": 3}
    return train(model, data, Pgd(eps=0.05, num_steps=2), epochs=EPOCHS, **settings, **options)


def note_the_group(folder: Path) -> None:
    """Write whether the group of processes still exists, as one of the last acts of a process.

    The names of its threads follow. One that lives may abort the process when it drops a tensor.
    """
    name = f"group-{os.environ['RANK']}-{sys.argv[2]}"
    tasks = Path("/proc/self/task").glob("*/comm")  # none where there is no such folder
    threads = [one for task in tasks if "gloo" in (one := task.read_text().strip())]
    (folder / name).write_text(" ".join([str(torch.distributed.is_initialized()), *threads]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        atexit.register(note_the_group, Path(sys.argv[1]))  # runs after what is registered later
    result = go(Path(sys.argv[1]), int(sys.argv[2]), loader="loader" in sys.argv)
    if os.environ.get("RANK", "0") == "0":
        name = f"losses-{os.environ.get('WORLD_SIZE', '1')}-{sys.argv[2]}.pt"
        torch.save(result.losses, Path(sys.argv[1]) / name)
