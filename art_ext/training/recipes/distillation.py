"""Defensive distillation: a teacher, its soft labels, and a student that learns them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from art_ext.core.checks import check_count, check_positive
from art_ext.training.cost import Cost
from art_ext.training.craft import Clean
from art_ext.training.heads import DistilledHead, Head
from art_ext.training.objectives.base import CrossEntropy, Objective
from art_ext.training.objectives.losses import soft_cross_entropy
from art_ext.training.recipes.base import Composition
from art_ext.training.recipes.phase import INITIAL, Phase
from art_ext.training.step import Step


@dataclass(frozen=True)
class TemperedCrossEntropy(Objective):
    """Cross-entropy of the class scores divided by a temperature, ``CE(softmax(z / T), q)``.

    q are the targets of the step. Without targets it is the label, with the run's label smoothing.

    Attributes:
        temperature: T.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward."""
        return Cost(1, 1)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) cross-entropies.

        Raises:
            ValueError: if the targets have another number of classes than the network.
        """
        step.count_backward(x_adv)
        scores = step.forward(x_adv)
        tempered = scores / self.temperature
        if step.targets is None:
            return step.cross_entropy(tempered)
        if step.targets.shape != scores.shape:
            raise ValueError(
                f"the teacher must have the {scores.shape[1]} classes of the network, got"
                f" {step.targets.shape[1]}"
            )
        return soft_cross_entropy(tempered, step.targets)


def soft_labels(scores: Tensor, temperature: float) -> Tensor:
    """Return (r, C) ``softmax(z / T)`` of class scores z (r, C)."""
    return functional.softmax(scores / temperature, dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Natural(Composition):
    """Natural training, of the shared warm start."""

    name: ClassVar[str] = "warm"
    crafting = Clean()
    objective = CrossEntropy()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tempered(Composition):
    """Training at a temperature, of the teacher."""

    name: ClassVar[str] = "teacher"
    crafting = Clean()
    temperature: float = 1.0

    @property
    def objective(self) -> TemperedCrossEntropy:
        """Cross-entropy at the temperature."""
        return TemperedCrossEntropy(self.temperature)


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation(Composition):
    """Defensive distillation: ``min_w mean CE(softmax(z_w(x) / T), softmax(z_teacher(x) / T))``.

    A run has three phases. A warm start of ``warm_epochs`` by natural training, then the teacher,
    which minimises ``CE(softmax(z / T), y)``, then the student, which begins with the weights of
    the warm start. The soft labels are those of the training samples without augmentation. The
    result is the student, whose scores are used as they are, at T = 1. They are about T times as
    large as those of natural training.

    The length of a run is that of the teacher and again of the student: 50 epochs are 50 of each.
    Each phase begins with the optimiser and the schedule in their first state. An update costs 1
    forward and 1 backward per sample, and the soft labels 1 forward per training sample of the run.

    Attributes:
        temperature: T.
        warm_epochs: passes over the data of the warm start. 0: teacher and student begin with the
            initial weights.

    References:
        Papernot, McDaniel, Wu, Jha, Swami, "Distillation as a defense to adversarial perturbations
        against deep neural networks", IEEE S&P 2016. Carlini, Wagner, "Towards evaluating the
        robustness of neural networks", IEEE S&P 2017 (the attack, and the shared warm start of
        their program).
    """

    name: ClassVar[str] = "distillation"
    paper: ClassVar[str] = (
        "Papernot, McDaniel, Wu, Jha, Swami. Distillation as a defense to adversarial perturbations"
        " against deep neural networks. IEEE S&P 2016."
    )
    head: ClassVar[Head] = DistilledHead()
    crafting = Clean()
    temperature: float = 100.0
    warm_epochs: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("warm_epochs", self.warm_epochs, least=0)

    @property
    def objective(self) -> TemperedCrossEntropy:
        """Cross-entropy with the soft labels, both at the temperature."""
        return TemperedCrossEntropy(self.temperature)

    def largest_cost(self) -> Cost:
        """Return the cost of an update whose samples a teacher labels."""
        return self.cost().plus(Cost(1, 0))

    def phases(self, taught: bool = False) -> tuple[Phase, ...]:
        """Return the warm start, the teacher unless the caller has one, and the student."""
        warm = (Phase("warm", _Natural(), epochs=self.warm_epochs),) if self.warm_epochs else ()
        targets = partial(soft_labels, temperature=self.temperature)
        if taught:
            return (*warm, Phase("student", self, targets=targets))
        start = "warm" if self.warm_epochs else INITIAL
        teacher = Phase("teacher", _Tempered(temperature=self.temperature))
        return (*warm, teacher, Phase("student", self, start=start, targets=targets))
