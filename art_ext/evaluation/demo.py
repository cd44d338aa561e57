"""The demonstration: train a natural and a robust digits network, attack both, write the report. Deterministic."""

from __future__ import annotations

import importlib
import logging
import os
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core.geometry import Box, distances, within_ball
from art_ext.core.oracle import GradientOracle, LabelOracle, Model
from art_ext.core.problem import admit, pose
from art_ext.core.result import AttackResult, Callback
from art_ext.core.streams import fingerprint, uniform
from art_ext.data import Dataset, load_data
from art_ext.evaluation.panel import ATTACKS, Attack, Settings
from art_ext.evaluation.records import RunFolder, read_run, require_report
from art_ext.evaluation.runner import Outcome, Watcher, evaluate
from art_ext.models import digits_cnn

logger = logging.getLogger("art_ext")

EPS = 0.2
MAX_QUERIES = 1000
BATCH = 64
NATURAL_EPOCHS, ROBUST_EPOCHS = 15, 30
TRAINING_STEPS, TRAINING_STEP = 5, 0.06
PGD_STEPS, PGD_STEP = 40, 0.02


def run_demo(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Outcome:
    """Train two networks on scikit-learn's digits and run RayS, and torchattacks' PGD where installed, on both.

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
    for name, eps, epochs in (("natural", 0.0, NATURAL_EPOCHS), ("adversarially trained", EPS, ROBUST_EPOCHS)):
        watcher.training(name, len(train))
        models[name] = train_digits(train, eps=eps, epochs=epochs, seed=seed)
    panel = [ATTACKS["rays"]]
    if _has_torchattacks():
        panel.append(TORCHATTACKS_PGD)
    return evaluate(
        models, test, out, eps=EPS, attacks=panel, max_queries=MAX_QUERIES, early_stop=False, seed=seed,
        arguments=arguments, overwrite=ours, watcher=watcher,
    )  # fmt: skip


def _has_torchattacks() -> bool:
    """Whether torchattacks is there and can be imported: beside another torch's torchvision it cannot."""
    if find_spec("torchattacks") is None:
        return False
    try:
        importlib.import_module("torchattacks")
    except Exception as error:  # whatever a half-built extension raises
        logger.warning("torchattacks is installed but cannot be imported (`art-ext doctor` says more): %s", error)
        return False
    return True


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
                start = (2 * uniform(seed, ids[batch], epoch, tuple(x.shape[1:])) - 1) * eps
                x = pgd(model, x, y, start, eps=eps, step=TRAINING_STEP, steps=TRAINING_STEPS)
            model.train()
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def pgd(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, *, eps: float, step: float, steps: int) -> Tensor:
    """Images (N, *S) in [0, 1] after so many steps up the sign of the loss gradient, kept within eps of x.

    Args:
        model: returns logits.
        x: (N, *S) in [0, 1].
        y: (N,) true classes.
        start: (N, *S) added to x before the first step.
        eps: L-infinity radius.
        step: length of one step.
        steps: how many.
    """
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    moved = torch.clamp(x + start, low, high)
    index = torch.arange(len(x), device=x.device)
    with GradientOracle(model, len(x)) as oracle:
        for _ in range(steps):
            _, gradient = oracle.gradient(
                moved, index, lambda outputs, rows: functional.cross_entropy(outputs, y[rows], reduction="none")
            )
            moved = torch.clamp(moved + step * gradient.sign(), low, high)
    return moved


def _torchattacks_pgd(
    model: Model, x: Tensor, y: Tensor, eps: float, settings: Settings, callback: Callback
) -> AttackResult:
    """torchattacks' PGD, its forwards and backwards counted; our oracle makes the checks before and after."""
    import torchattacks

    with LabelOracle(model, len(x), batch_size=settings.batch_size) as oracle:
        samples, box = admit(oracle, x)
        problem = pose(oracle, samples, box, y, None)
        already = problem.met(problem.clean, torch.arange(len(x)))
        index = (~already).nonzero().squeeze(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # its random start draws from the global stream
            attack = torchattacks.PGD(model, eps=eps, alpha=PGD_STEP, steps=PGD_STEPS)
            moved = attack(samples[index], y[index]) if len(index) else samples[index]
        oracle.queries[index] += PGD_STEPS
        oracle.gradients[index] += PGD_STEPS
        met = problem.met(oracle.labels(moved, index), index)
    return _filled_ball(samples, box, already, index, moved, met, eps, oracle, settings)


def _filled_ball(
    x: Tensor, box: Box, already: Tensor, index: Tensor, moved: Tensor, met: Tensor, eps: float, oracle: LabelOracle,
    settings: Settings,
) -> AttackResult:  # fmt: skip
    """The result of an attack within a given ball: moved (M, *S) are the tensors that the samples in index ended at."""
    length = distances(moved, x[index], settings.norm)
    inside = (box.clamp(moved) == moved).flatten(1).all(dim=1)
    hit = met & within_ball(length, eps) & inside
    success, distance, x_adv = already.clone(), torch.where(already, 0.0, torch.inf), x.clone()
    success[index] = hit
    distance[index] = torch.where(hit, length, torch.inf).to(distance.dtype)
    x_adv[index[hit]] = moved[hit]
    return AttackResult(
        x_adv=x_adv, success=success, already_adversarial=already, distance=distance, x_nearest=None,
        queries=oracle.queries, queries_to_success=torch.where(success, oracle.queries, -1),
        gradients=oracle.gradients, wasted_rows=oracle.wasted_rows, norm=settings.norm, eps=eps, seed=settings.seed,
        early_stop=False,
    )  # fmt: skip


TORCHATTACKS_PGD = Attack(
    name="torchattacks PGD",
    run=_torchattacks_pgd,
    nearest=False,
    about=f"torchattacks' PGD takes {PGD_STEPS} gradient steps of length {PGD_STEP} within the ball, from a random "
    "start; a step is one query and one gradient, a clean check before and a check of the outcome one query each.",
)
