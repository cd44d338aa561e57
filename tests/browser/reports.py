"""Five reports that differ in what they show, for tests in a browser and for pictures of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.data import Dataset, load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.demo import run_demo
from art_ext.evaluation.report.page import write_report
from art_ext.storage.evaluation import REPORT, read_run
from art_ext.training import Natural, train
from art_ext.training.recipes import BackwardSmoothing
from art_ext.training.runs import make_network

SIDE = 224


def build(name: str, folder: Path) -> Path:
    """Make one of the five reports in a folder, and return its page.

    Complete runs that the folder already holds are kept, and only their report is written anew.
    """
    REPORTS[name](folder)
    return folder / REPORT


def _run(folder: Path, start: Callable[[], Any]) -> None:
    """Run an evaluation in a folder, or write the report of the complete one that is there."""
    if _complete(folder):
        write_report(folder, [load_run(folder)])
    else:
        start()


def _complete(folder: Path) -> bool:
    run = read_run(folder)
    return run is not None and run["state"] == "complete"


def demo(folder: Path) -> None:
    """Two models of digits under one attack of every family."""
    _run(folder, lambda: run_demo(folder))


def cascade(folder: Path) -> None:
    """The panel ``standard`` as a cascade at three eps."""
    networks = {"digits_cnn": _network(0.2)}
    _run(
        folder,
        lambda: evaluate(
            networks,
            load_data("digits"),
            folder,
            eps=(0.05, 0.1, 0.2),
            panel="standard",
            max_queries=500,
        ),
    )


def compared(folder: Path) -> None:
    """Three runs with one model each, in one report."""
    runs = {"natural": 0.0, "smoothed at 0.1": 0.1, "smoothed at 0.2": 0.2}
    folders = []
    for name, eps in runs.items():
        own = folder.with_name(f"{folder.name}-{name.replace(' ', '-')}")
        folders.append(own)
        if not _complete(own):
            evaluate(
                {name: _network(eps)},
                load_data("digits"),
                own,
                eps=(0.1, 0.2),
                attacks=("rays", "pgd", "fgsm"),
                max_queries=300,
                stop_on_success=False,
                save_images=True,
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, [load_run(own) for own in folders])


def unbroken(folder: Path) -> None:
    """A run in which no attack succeeded."""
    _run(
        folder,
        lambda: evaluate(
            {"constant on patches": _network(0.2)},
            load_data("digits"),
            folder,
            eps=0.0005,
            attacks=("pgd", "fgsm"),
        ),
    )


def photographs(folder: Path) -> None:
    """Photographs of 224 pixels, cut from the two sample images of scikit-learn."""
    data = _photographs(24)
    _run(
        folder,
        lambda: evaluate(
            {"textures": _Textures(data).eval()},
            data,
            folder,
            eps=4 / 255,
            attacks=("pgd", "square", "rays"),
            max_queries=200,
        ),
    )


REPORTS: dict[str, Callable[[Path], None]] = {
    "demo": demo,
    "cascade": cascade,
    "compared": compared,
    "unbroken": unbroken,
    "photographs": photographs,
}


def _network(eps: float) -> nn.Module:
    """Return a network of digits that is trained for a radius."""
    data = load_data("digits", split="train").in_memory()
    model = make_network("digits-cnn", {}, 0)
    recipe = BackwardSmoothing(eps=eps) if eps else Natural()
    train(model, (data.x, data.y), recipe, epochs=10, seed=0)
    return model.eval()


def _photographs(count: int) -> Dataset:
    """Return squares of two photographs at random places, in turn."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    random = np.random.default_rng(0)
    squares = []
    for number in range(count):
        image = images[number % 2]
        top, left = (int(random.integers(0, size - SIDE)) for size in image.shape[:2])
        squares.append(image[top : top + SIDE, left : left + SIDE])
    x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return Dataset("squares", x, torch.arange(count) % 2, class_names=("palace", "dahlia"))


class _Textures(nn.Module):
    """Classifies by the strength of random textures in the quarters of an image."""

    weight: Tensor
    bias: Tensor
    filters: Tensor

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        filters = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        filters = filters - filters.mean(dim=(1, 2, 3), keepdim=True)
        self.register_buffer("filters", filters / filters.abs().sum(dim=(1, 2, 3), keepdim=True))
        features = torch.cat([self._features(data.x), torch.ones(len(data.x), 1)], dim=1)
        ridge = features.T @ features + 10 * torch.eye(features.shape[1])
        fitted = torch.linalg.solve(ridge, features.T @ (2.0 * data.y - 1))
        self.register_buffer("weight", fitted[:-1])
        self.register_buffer("bias", fitted[-1])

    def _features(self, x: Tensor) -> Tensor:
        textures = nn.functional.conv2d(x, self.filters, stride=2).abs()
        return 100 * nn.functional.adaptive_avg_pool2d(textures, 2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        side = self._features(x) @ self.weight + self.bias
        return torch.stack([-side, side], dim=1)
