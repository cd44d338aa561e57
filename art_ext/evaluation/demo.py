"""Demonstration: train a natural and a robust digits network, attack both, write the report.

The result is deterministic.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from art_ext.core.oracle import Model
from art_ext.data import Dataset, load_data
from art_ext.evaluation.analysis.records import RunFolder, read_run, require_report
from art_ext.evaluation.execution.finish import Outcome
from art_ext.evaluation.execution.job import Watcher
from art_ext.evaluation.execution.runner import evaluate
from art_ext.evaluation.panel.attack import Attack
from art_ext.evaluation.panel.members import find_attack
from art_ext.training import BackwardSmoothing, Natural, train
from art_ext.training.runs import make_network, require_training
from art_ext.training.runs.defaults import DEFAULTS

logger = logging.getLogger("art_ext")

EPS = 0.2
MAX_QUERIES = 500
NATURAL_EPOCHS = 15
ROBUST_EPOCHS = 30
PANEL: dict[str, dict[str, Any]] = {
    "rays": {},
    "frank_wolfe": {},
    "frank_wolfe_black_box": {},
    "nes": {"step_size": 0.05},
    "hmcam": {},
    "ai_fgsm": {},
    "fgsm": {},
    "i_fgsm": {},
    "mi_fgsm": {},
    "pgd": {},
    "m_pgd": {},
    "ead": {"beta": 0.01, "num_steps": 40, "search_steps": 3, "initial_const": 3.0},
    "i_fgm": {},
    "zoo": {"coordinates": 32, "step_size": 0.09, "search_steps": 1, "initial_const": 3.0},
}
EXTERNAL_ATTACKS: dict[str, dict[str, Any]] = {"torchattacks:PGD": {"alpha": 0.02, "steps": 40}}


def run_demo(
    out: str | os.PathLike[str], *, seed: int = 0, watcher: Watcher | None = None
) -> Outcome:
    """Train two networks on scikit-learn's digits and run one attack of every family on both.

    Args:
        out: the run folder. An earlier demo in it is replaced.
        seed: of weights, order of batches, random starts and attacks.
        watcher: observer of training, clean accuracies and progress.

    Raises:
        ValueError: if the folder holds anything but an earlier demo.
        ImportError: without the extras ``report`` and ``train``.
    """
    require_report()
    require_training()
    watcher = watcher or Watcher()
    samples = load_data("digits", split="train").in_memory()
    test = load_data("digits")
    arguments = {"command": "demo", "seed": seed}
    earlier = read_run(out)
    ours = earlier is not None and earlier.get("arguments", {}).get("command") == "demo"
    # raises before the training, not after it
    RunFolder(out, {"arguments": arguments}).check(overwrite=ours)
    models: dict[str, Model] = {}
    with _one_thread():
        for name, eps, epochs in (
            ("natural", 0.0, NATURAL_EPOCHS),
            ("adversarially trained", EPS, ROBUST_EPOCHS),
        ):
            watcher.training(name, len(samples))
            models[name] = train_digits(samples, eps=eps, epochs=epochs, seed=seed)
        return evaluate(
            models,
            test,
            out,
            eps=EPS,
            attacks=_panel(),
            max_queries=MAX_QUERIES,
            stop_on_success=False,
            seed=seed,
            arguments=arguments,
            overwrite=ours,
            watcher=watcher,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread, so that sums round alike on every number of cores.

    For networks this small, one thread is as fast as several.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _panel() -> list[Attack]:
    """One attack of every family, and torchattacks' PGD if it is installed and can be imported."""
    panel = [find_attack(name, arguments) for name, arguments in PANEL.items()]
    if find_spec("torchattacks") is None:
        return panel
    try:
        return [
            *panel,
            *(find_attack(name, arguments) for name, arguments in EXTERNAL_ATTACKS.items()),
        ]
    except ImportError as error:  # beside another torch's torchvision
        logger.warning("%s", error)
        return panel


def train_digits(data: Dataset, *, eps: float, epochs: int, seed: int) -> nn.Module:
    """Train the digits network: naturally with eps = 0, else by Backward Smoothing.

    The radius eps is in L-infinity. Optimiser, rate, schedule and batch size are those of ``art-ext
    train --data digits``. No global random stream is touched, and the same seed gives the same
    weights.

    Raises:
        ImportError: without the extra ``train``.
    """
    recipe = BackwardSmoothing(eps=eps) if eps else Natural()
    names = ("optimizer", "learning_rate", "weight_decay", "schedule", "batch_size")
    updates = {name: getattr(DEFAULTS["digits"], name) for name in names}
    model = make_network("digits-cnn", {}, seed)
    train(model, (data.x, data.y), recipe, epochs=epochs, seed=seed, **updates)
    return model.eval()
