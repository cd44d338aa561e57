"""Parts of a card on training: the time of weight updates, and a network trained in minutes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks import training as passes
from art_ext.benchmarks.common import right
from art_ext.benchmarks.gpu.card import Deadline, Figures, Sheet
from art_ext.benchmarks.gpu.subject import EPS, Autocast, Subject, peak_memory, timed, without_none
from art_ext.benchmarks.gpu.verdict import cascade
from art_ext.core.attacks import pgd, rays
from art_ext.core.metrics import adbd, robust_accuracy
from art_ext.models import load_weights, save_weights
from art_ext.training import Recipe, make_recipe, train
from art_ext.training.result import TrainingResult

RECIPE_NAMES = ("pgd", "trades", "fast", "free", "atcd", "backward-smoothing")
FAST: dict[str, Any] = {"precision": "bf16", "channels_last": True}
# of the networks of the literature on such a schedule
OPTIONS: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "weight_decay": 5e-4,
    "schedule": "cyclic",
    "augmentation": "crop_flip",
}
TRAINING_SHARE = 0.83  # of the time of a part, for training. The rest is for attacks
DISTANCE_QUERIES = 1000


def measure_training(subject: Subject, sheet: Sheet) -> None:
    """Add a row for each recipe."""
    x, y = subject.noise(subject.sizes.training_images)
    for number, name in enumerate(RECIPE_NAMES):
        seconds = sheet.left / (len(RECIPE_NAMES) - number)
        sheet.measure(name, functools.partial(update_cost, subject, name, x, y, seconds))


def update_cost(subject: Subject, name: str, x: Tensor, y: Tensor, seconds: float) -> Figures:
    """Return the speed of a recipe over some seconds, and its ratio to bare passes and step."""
    arguments, needed = passes.RECIPES[name]
    recipe = make_recipe(name, eps=EPS, **arguments)
    model = subject.network()
    one = _update_seconds(subject, model, recipe, x, y)
    floor = _bare_seconds(subject, name, needed, x, y)
    updates = _whole(0.5 * seconds / one, recipe)
    outcomes: list[TrainingResult] = []
    took, peak = peak_memory(
        subject.device, lambda: outcomes.append(_train(subject, model, recipe, x, y, updates))
    )
    result = outcomes[0]
    rows = result.updates * min(subject.sizes.training_batch, len(x))
    return without_none(
        {
            "images_per_s": rows / took,
            "seconds": took,
            "over_bare": took / result.updates / floor,
            "updates": result.updates,
            "loss": float(result.losses[-1]),
            "peak_GB": peak,
        }
    )


def _whole(updates: float, recipe: Recipe) -> int:
    """Return a number of updates that fills the replays of a recipe's minibatches."""
    return max(1, int(updates) // recipe.replays) * recipe.replays


def _train(
    subject: Subject,
    model: nn.Module,
    recipe: Recipe,
    x: Tensor,
    y: Tensor,
    updates: int,
    **options: Any,
) -> TrainingResult:
    """Train for so many updates in bfloat16 and the channels-last layout."""
    batch = subject.sizes.training_batch
    keywords = {"learning_rate": 1e-3, "seed": 0, **FAST, **options}
    return train(model, (x, y), recipe, updates=updates, batch_size=batch, **keywords)


def _update_seconds(
    subject: Subject, model: nn.Module, recipe: Recipe, x: Tensor, y: Tensor, **options: Any
) -> float:
    """Return the seconds of one update, after some that warm up."""
    few = _whole(subject.sizes.trial_updates, recipe)
    work = functools.partial(_train, subject, model, recipe, x, y, few, **options)
    work()
    return timed(subject.device, work)[0] / few


def _bare_seconds(
    subject: Subject, name: str, needed: passes.Passes, x: Tensor, y: Tensor
) -> float:
    """Return the seconds of the bare passes of one update, with the optimiser's step."""
    model = subject.network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    batch = subject.sizes.training_batch
    rows = x[:batch].contiguous(memory_format=torch.channels_last)
    batches = [(rows, y[:batch])] * subject.sizes.trial_updates
    network = Autocast(model, subject.device)
    separate = name in ("cat", "atcd")
    work = functools.partial(passes.bare, network, batches, needed, separate, optimizer)
    work()
    return timed(subject.device, work)[0] / len(batches)


# --- a trained network ---


def train_and_judge(subject: Subject, sheet: Sheet) -> None:
    """Train a network for most of the part, save its weights, and add a row for each figure."""
    seconds = TRAINING_SHARE * sheet.left
    trained = sheet.measure(subject.recipe, functools.partial(train_for, subject, seconds))
    if trained is None:
        return
    model = Deadline(trained_network(subject), sheet.end)
    x, y = subject.test_data(subject.sizes.judged)
    few = slice(0, subject.sizes.distances)
    figures: dict[str, Callable[[], Figures]] = {
        "clean": functools.partial(_clean, subject, model, x, y),
        "PGD-20": functools.partial(_pgd, subject, model, x, y),
        "ADBD": functools.partial(_distance, subject, model, x[few], y[few]),
        "panel standard": functools.partial(_panel, subject, model, x, y),
    }
    for name, work in figures.items():
        sheet.measure(name, work)


def train_for(subject: Subject, seconds: float) -> Figures:
    """Train for so many seconds at most, and save the weights."""
    begun = time.perf_counter()
    x, y = subject.training_data()
    recipe = make_recipe(subject.recipe, eps=EPS)
    trial = {**OPTIONS, "learning_rate": 1e-3}  # on so short a schedule the full one is too high
    one = _update_seconds(subject, subject.network(), recipe, x, y, **trial)
    left = seconds - (time.perf_counter() - begun)
    model = subject.network()
    updates = _whole(0.95 * left / one, recipe)
    work = functools.partial(_train, subject, model, recipe, x, y, updates, **OPTIONS)
    took, result = timed(subject.device, work)
    save_weights(model, subject.weights)
    rows = result.updates * min(subject.sizes.training_batch, len(x))
    return {
        "images_per_s": rows / took,
        "seconds": took,
        "updates": result.updates,
        "epochs": rows / len(x) / recipe.replays,
        "training_images": len(x),
        "loss": float(result.losses[-1]),
    }


def trained_network(subject: Subject) -> nn.Module:
    """Return the network of the part ``trained``, on the device.

    Raises:
        ValueError: if that part has left no weights.
    """
    if not subject.weights.is_file():
        raise ValueError(
            f"this row needs the network that the part trained makes, {subject.weights}"
        )
    return load_weights(subject.untrained(), subject.weights).to(subject.device)


def _clean(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Figures:
    took, verdicts = timed(subject.device, functools.partial(right, x, y, model))
    return {"images_per_s": len(x) / took, "seconds": took, "accuracy": _percent(verdicts)}


def _pgd(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Figures:
    attack = functools.partial(
        pgd,
        model,
        x,
        y,
        eps=EPS,
        num_steps=20,
        step_size=2 / 255,
        stop_on_success=True,
        batch_size=subject.sizes.batch,
        seed=0,
    )
    took, result = timed(subject.device, attack)
    robust = 100 * robust_accuracy(result)
    return {"images_per_s": len(x) / took, "seconds": took, "robust_accuracy": robust}


def _distance(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Figures:
    attack = functools.partial(
        rays,
        model,
        x,
        y,
        eps=EPS,
        max_queries=DISTANCE_QUERIES,
        stop_on_success=False,
        batch_size=subject.sizes.batch,
    )
    took, result = timed(subject.device, attack)
    found = adbd(result)
    return {
        "images_per_s": len(x) / took,
        "seconds": took,
        "ADBD": found.value,
        "images": found.count,
        "left_out": found.left_out,
        "queries_per_image": DISTANCE_QUERIES,
    }


def _panel(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Figures:
    return without_none(cascade(subject, model, x, y).figures())


def _percent(verdicts: Tensor) -> float:
    return 100 * float(verdicts.double().mean())
