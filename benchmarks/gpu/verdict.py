"""Part of a card that runs the panel ``standard`` beside AutoAttack, image by image."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from art_ext.benchmarks.common import autoattack_stages, right
from art_ext.benchmarks.gpu.card import OUT_OF_TIME, Deadline, Figures, Sheet
from art_ext.benchmarks.gpu.subject import EPS, Subject, importable, synchronize, without_none
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.evaluation import AttackRequest, Settings
from art_ext.evaluation.panel.panels import find_panel

PANEL = "standard"


@dataclass
class Outcome:
    """Outcome of a panel on N images.

    Attributes:
        success: (N,) bool, misclassified images among them.
        seconds: wall time.
        stages: by member, the robust accuracy after it, and the seconds so far.
        stopped: True if the time ended before the panel did.
        name: of a panel with its version.
    """

    success: Tensor
    seconds: float = 0.0
    stages: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    name: str = ""

    @property
    def robust(self) -> float:
        """Robust accuracy in %."""
        return 100 * float((~self.success).double().mean())

    def figures(self) -> dict[str, Any]:
        """Return the figures of a row."""
        return {
            "panel": self.name or None,
            "images_per_s": len(self.success) / self.seconds,
            "seconds": self.seconds,
            "robust_accuracy_at_most" if self.stopped else "robust_accuracy": self.robust,
            "after_each_member": "; ".join(f"{name} {text}" for name, text in self.stages.items()),
            "stopped": OUT_OF_TIME if self.stopped else None,
        }


def cascade(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Outcome:
    """Run the members of ``standard``, each on the images without a success of an earlier one."""
    settings = Settings(
        eps=(EPS,),
        max_queries=1500,
        norm="linf",
        stop_on_success=True,
        outputs="logits",
        clip_values=(0.0, 1.0),
        batch_size=subject.sizes.batch,
        device=None,
        seed=0,
    )
    synchronize(subject.device)
    begun = time.perf_counter()
    outcome = Outcome(~right(x, y, model))
    panel = find_panel(PANEL)
    outcome.name = panel.full_name
    for attack in panel.attacks(norm="linf"):
        rows = (~outcome.success).nonzero().squeeze(1)
        if not len(rows) or outcome.stopped:
            break
        try:
            found = attack.run(AttackRequest(model, x[rows], y[rows], EPS, settings))
        except AttackInterrupted as stop:
            found = stop.result
            outcome.stopped = True
        outcome.success[rows] = found.success.to(outcome.success.device)
        outcome.seconds = time.perf_counter() - begun
        outcome.stages[attack.name] = f"{outcome.robust:.1f} ({outcome.seconds:.1f} s)"
    synchronize(subject.device)
    outcome.seconds = time.perf_counter() - begun
    return outcome


def compare_with_autoattack(subject: Subject, network: nn.Module, sheet: Sheet) -> None:
    """Add rows of ``standard`` and of AutoAttack on the same images, and of their differences."""
    x, y = subject.test_data(subject.sizes.compared)
    model = Deadline(network, time.perf_counter() + 0.4 * sheet.left)
    outcomes: list[Outcome] = []

    def run(panel: Callable[[Subject, nn.Module, Tensor, Tensor], Outcome]) -> Figures:
        outcomes.append(panel(subject, model, x, y))
        return without_none(outcomes[-1].figures())

    sheet.measure("panel standard", functools.partial(run, cascade))
    if not importable("pyautoattack"):
        sheet.note("AutoAttack standard", skipped="pyautoattack is not importable")
        return
    model.end = sheet.end
    sheet.measure("AutoAttack standard", functools.partial(run, autoattack))
    if len(outcomes) == 2 and not any(outcome.stopped for outcome in outcomes):
        ours, theirs = (outcome.success for outcome in outcomes)
        sheet.note(
            "panel standard over AutoAttack",
            over_other=outcomes[0].seconds / outcomes[1].seconds,
            success_of_both=int((ours & theirs).sum()),
            success_of_standard_only=int((ours & ~theirs).sum()),
            success_of_AutoAttack_only=int((theirs & ~ours).sum()),
        )


def autoattack(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Outcome:
    """Run AutoAttack standard of the package pyautoattack."""
    theirs: Any = import_module("pyautoattack").AutoAttack(
        model, norm="Linf", eps=EPS, seed=0, version="standard", device=subject.device
    )
    outcome = Outcome(~right(x, y, model))
    synchronize(subject.device)
    begun = time.perf_counter()

    def ended(stage: str | None, robust: float) -> None:
        outcome.seconds = time.perf_counter() - begun
        if stage is not None:
            outcome.stages[stage] = f"{robust:.2f} ({outcome.seconds:.1f} s)"

    try:
        with autoattack_stages(ended):
            adversarial, _ = theirs.run_standard_evaluation(x, y, batch_size=subject.sizes.batch)
        outcome.success = ~right(adversarial.to(x.device), y, model)
    except ModelStopped:
        outcome.stopped = True
    synchronize(subject.device)
    outcome.seconds = time.perf_counter() - begun
    return outcome
