"""The demonstration: train a natural and a robust digits network, attack both, write the report. Deterministic."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core.attacks import pgd
from art_ext.core.oracle import Model
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset, load_data
from art_ext.evaluation.panel import Attack, find_attack
from art_ext.evaluation.records import RunFolder, read_run, require_report
from art_ext.evaluation.runner import Outcome, Watcher, evaluate
from art_ext.models import digits_cnn

logger = logging.getLogger("art_ext")

EPS = 0.2
MAX_QUERIES = 500
BATCH = 64
NATURAL_EPOCHS, ROBUST_EPOCHS = 15, 30
TRAINING_STEPS, TRAINING_STEP = 5, 0.06
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
    "ead": {"beta": 0.01, "max_iter": 40, "search_steps": 3, "initial_const": 3.0},
    "i_fgm": {},
    "zoo": {"coordinates": 32, "step_size": 0.09, "search_steps": 1, "initial_const": 3.0},
}
PEERS: dict[str, dict[str, Any]] = {"torchattacks:PGD": {"alpha": 0.02, "steps": 40}}


def run_demo(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Outcome:
    """Train two networks on scikit-learn's digits and run one attack of every family on both.

    Args:
        out: the run folder; an earlier demo in it is replaced.
        seed: of weights, order of batches, random starts and attacks.
        watcher: is told of trainings, clean accuracies and progress.

    Raises:
        ValueError: if the folder holds anything but an earlier demo.
        ImportError: without the extra ``report``.
    """
    require_report()
    watcher = watcher or Watcher()
    train, test = load_data("digits", split="train"), load_data("digits")
    arguments = {"command": "demo", "seed": seed}
    earlier = read_run(out)
    ours = earlier is not None and earlier.get("arguments", {}).get("command") == "demo"
    RunFolder(out, arguments, overwrite=ours)  # refuses before the training, not after it
    models: dict[str, Model] = {}
    with _one_thread():
        for name, eps, epochs in (("natural", 0.0, NATURAL_EPOCHS), ("adversarially trained", EPS, ROBUST_EPOCHS)):
            watcher.training(name, len(train))
            models[name] = train_digits(train, eps=eps, epochs=epochs, seed=seed)
        return evaluate(
            models, test, out, eps=EPS, attacks=_panel(), max_queries=MAX_QUERIES, early_stop=False, seed=seed,
            arguments=arguments, overwrite=ours, watcher=watcher,
        )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: for networks this small it is as fast, and sums then round alike on every number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _panel() -> list[Attack]:
    """One attack of every family, and torchattacks' PGD where it is installed and can be imported."""
    panel = [find_attack(name, arguments) for name, arguments in PANEL.items()]
    if find_spec("torchattacks") is None:
        return panel
    try:
        return [*panel, *(find_attack(name, arguments) for name, arguments in PEERS.items())]
    except ImportError as error:  # beside another torch's torchvision
        logger.warning("%s", error)
        return panel


def train_digits(data: Dataset, *, eps: float, epochs: int, seed: int) -> nn.Module:
    """Train the digits network, on PGD examples (Madry et al., 2018) within L-infinity radius eps if eps > 0.

    No global random stream is touched, and the same seed gives the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = digits_cnn()
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    ids = fingerprint(data.x)
    for epoch in range(epochs):
        for batch in torch.randperm(len(data), generator=order).split(BATCH):
            x, y = data.x[batch], data.y[batch]
            if eps:
                x = pgd(
                    model, x, y, eps=eps, num_steps=TRAINING_STEPS, step_size=TRAINING_STEP, criterion=_never,
                    on_failure="last", seed=seed, sample_ids=ids[batch] + epoch,  # other starting points in each epoch
                ).x_adv  # fmt: skip
            model.train()
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def _never(outputs: Tensor, index: Tensor) -> Tensor:
    """No row is a success: so all of them, the misclassified ones too, come back as the last iterate."""
    return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
