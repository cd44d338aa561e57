"""Demonstration: train a natural and a robust digits network, attack both, write the report.

The result is deterministic.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Any

from art_ext.core.oracle import Model
from art_ext.data import load_data
from art_ext.evaluation.analysis.records import RunFolder, read_run, require_report
from art_ext.evaluation.execution.finish import Outcome
from art_ext.evaluation.execution.job import Watcher
from art_ext.evaluation.execution.runner import evaluate
from art_ext.evaluation.panel.attack import Attack
from art_ext.evaluation.panel.members import find_attack
from art_ext.examples import EPS, NATURAL_EPOCHS, ROBUST_EPOCHS, one_thread, train_digits
from art_ext.training.runs import require_training

logger = logging.getLogger("art_ext")

MAX_QUERIES = 500
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
    with one_thread():
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
