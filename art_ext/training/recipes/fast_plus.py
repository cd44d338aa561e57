"""Fast AT+: Fast training that is monitored on held-out samples, and repaired by PGD training."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import check_count, check_flag, check_not_negative
from art_ext.training.cost import Cost
from art_ext.training.craft import CrossEntropyAscent, start_named
from art_ext.training.craft.starts import UniformStart
from art_ext.training.objectives import CrossEntropy
from art_ext.training.recipes.base import BallRecipe
from art_ext.training.step import Step

logger = logging.getLogger("art_ext")
ROWS = "held_rows"
CHECKED = "checked"
BEST = "best_accuracy"
REPAIRING = "repairing"


@dataclass(frozen=True, kw_only=True, eq=False)
class FastPlus(BallRecipe):
    """Fast AT+ (experimental): Fast training that PGD training repairs when it fails.

    Every ``check_every`` updates, the PGD accuracy of the network in eval mode is measured on the
    first held-out samples, always the same ones with the same starts, at most a minibatch. When it
    is more than ``drop`` below its maximum so far, the following updates train on examples of PGD,
    until a check finds it within ``drop`` again. The paper describes the method in words. This is
    our reading of it. It has no published program.

    The held-out samples are those of the run's validation. Without them nothing is monitored, and
    the log says so.

    An update costs 2 forwards and 2 backwards per sample, and K + 1 of each while it repairs. With
    K = num_steps, a check costs K + 1 forwards and K backwards per held-out sample. The counters
    hold both, ``cost()`` neither. A budget of passes has no check or repair that does not fit. The
    history holds ``repairing``, the share of such updates in the epoch.

    Attributes:
        step_size: of the single step, in the units of x. None: ``1.25 eps``.
        start: of the single step, as of ``Fast``.
        boxed_start: of the single step, as of ``Fast``.
        num_steps: K, steps of PGD in checks and repairs, each of ``2.5 eps / K``.
        check_every: updates between checks.
        drop: largest distance of the accuracy from its maximum that needs no repair, in [0, 1].

    References:
        Li, Wang, Jana, Carin, "Towards understanding fast adversarial training", 2020.
    """

    name: ClassVar[str] = "fast-plus"
    needs: ClassVar[str] = "labels, eps, validation"
    paper: ClassVar[str] = (
        "Li, Wang, Jana, Carin. Towards understanding fast adversarial training. 2020."
    )
    step_size: float | None = None
    start: str = "uniform"
    boxed_start: bool = True
    num_steps: int = 10
    check_every: int = 100
    drop: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("boxed_start", self.boxed_start)
        check_count("check_every", self.check_every)
        check_not_negative("drop", self.drop)
        self.largest_cost()  # makes both parts, which check their arguments
        self.cost()

    @cached_property
    def single(self) -> CrossEntropyAscent:
        """The single step."""
        return replace(
            self.repair,
            num_steps=1,
            step_size=self.step_size,
            radii=1.25,
            start=start_named(self.start, self.boxed_start),
        )

    @cached_property
    def repair(self) -> CrossEntropyAscent:
        """PGD of checks and repairs."""
        return CrossEntropyAscent(
            norm=self.norm, bn_mode="eval", num_steps=self.num_steps, start=UniformStart()
        )

    def cost(self) -> Cost:
        """Return the rows of an update that repairs nothing."""
        return self.single.cost().plus(CrossEntropy().cost())

    def largest_cost(self) -> Cost:
        """Return the rows of a check of a whole minibatch, and of an update that repairs."""
        check = self.repair.cost().plus(Cost(1, 0))
        return check.plus(self.repair.cost()).plus(CrossEntropy().cost())

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy at the examples of the single step, or of PGD."""
        if step.held is None and not step.update:
            logger.warning("fast-plus monitors nothing without held-out samples: pass validation")
        repairing = step.held is not None and self._repairing(step)
        ascent = self.repair if repairing and step.spare else self.single
        if step.held is not None:
            now = float(ascent is self.repair)
            step.log[REPAIRING] = torch.tensor(now, device=step.x.device)
        return step.mean(CrossEntropy()(step, ascent(step)))

    def _repairing(self, step: Step) -> bool:
        """Check if it is time to, and return True if the update is to repair."""
        carried = step.carried
        if CHECKED not in carried:
            carried.update({ROWS: _number(step.rows), CHECKED: _number(step.update)})
            carried.update({BEST: _number(0.0), REPAIRING: _number(0.0)})
        rows = int(_value(carried, ROWS))
        due = step.update - _value(carried, CHECKED) >= self.check_every
        # a shorter minibatch leaves the check to the next one, for the sake of the budget
        if due and step.spare and step.held is not None and step.rows >= rows:
            accuracy = self._accuracy(step.held(rows))
            best = max(accuracy, _value(carried, BEST))
            before = _value(carried, REPAIRING)
            now = float(accuracy < best - self.drop)
            if now != before:
                logger.info(
                    "fast-plus: PGD accuracy %.3f, at most %.3f so far: %s from update %d on",
                    accuracy,
                    best,
                    "PGD training" if now else "single steps",
                    step.update,
                )
            carried.update({CHECKED: _number(step.update), BEST: _number(best)})
            carried[REPAIRING] = _number(now)
        return bool(_value(carried, REPAIRING))

    def _accuracy(self, held: Step) -> float:
        """Return the PGD accuracy on held-out samples. All processes take part."""
        logits = held.crafting_logits(self.repair(held), "eval")
        return float(held.total_mean((logits.argmax(dim=1) == held.y).to(torch.float32)))


def _number(value: float) -> Tensor:
    """Return a number as a carried value, on the CPU, where it is read in each update."""
    return torch.tensor(value, dtype=torch.float64, device="cpu")


def _value(carried: dict[str, Tensor], name: str) -> float:
    """Return a carried number. A resume puts it on the device, once."""
    carried[name] = carried[name].cpu()
    return float(carried[name])
