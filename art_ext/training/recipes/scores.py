"""Recipes that minimise a loss of the class scores of a head, with the craft of any recipe."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from art_ext.core.checks import check_choice, check_flag
from art_ext.training.cost import Cost
from art_ext.training.craft import Clean, Craft
from art_ext.training.craft.ascent import CrossEntropyAscent
from art_ext.training.craft.scores import TARGETS, ScoreAscent, gain_loss
from art_ext.training.heads import Head, ReverseLogitsHead
from art_ext.training.objectives import OfScores, ScoreLoss, rce
from art_ext.training.recipes.base import Composition, CraftingRecipe
from art_ext.training.step import Step

NONE = "none"
# composed recipes by name, whose craft these recipes can use; the catalogue enters them
CRAFTS: dict[str, type[Composition]] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreRecipe(CraftingRecipe):
    """Recipe that minimises the mean of a loss of class scores at crafted examples.

    Attributes:
        craft: ``"none"`` trains on the inputs. The name of a composed recipe, such as ``"pgd"``,
            trains on its examples.
        num_steps: steps of the craft. None: those of its recipe.
        step_size: in the units of x. None: that of its recipe.
        boxed_start: as of ``Fast``, for crafts that have it.
        gain: what ``"pgd"`` and ``"fast"`` ascend: ``"ce"``, ``"margin"``, the lead of the best
            other class, or ``"objective"``, the loss of this recipe.
        target: ``"none"`` leaves the label. ``"random"`` descends the loss of a wrong class, drawn
            for each sample and update.
    """

    needs: ClassVar[str] = "labels, eps with a craft"
    smooths: ClassVar[bool] = False
    craft: str = NONE
    num_steps: int | None = None
    step_size: float | None = None
    boxed_start: bool = True
    gain: str = "ce"
    target: str = NONE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("boxed_start", self.boxed_start)
        self.cost()  # makes both parts, which check their arguments

    @property
    @abstractmethod
    def score_loss(self) -> ScoreLoss:
        """Loss of a row, from class scores (r, C) and labels (r,) to (r,)."""

    @cached_property
    def crafting(self) -> Craft:
        """Way to craft the examples."""
        check_choice("craft", self.craft, (NONE, *CRAFTS))
        check_choice("target", self.target, TARGETS)
        loss = gain_loss(self.gain, self.score_loss)
        options = {"num_steps": self.num_steps, "step_size": self.step_size}
        given = {name: value for name, value in options.items() if value is not None}
        follows = {"gain": self.gain, "target": self.target}
        ours = {name: value for name, value in follows.items() if value not in ("ce", NONE)}
        if self.craft == NONE:
            if given or ours:
                raise ValueError(
                    f"{', '.join({**given, **ours})} belong to a craft: pass craft, one of"
                    f" {', '.join(CRAFTS)}"
                )
            return Clean()
        kind: Any = CRAFTS[self.craft]
        if "boxed_start" in {one.name for one in fields(kind)}:
            given["boxed_start"] = self.boxed_start
        theirs: Craft = kind(eps=self.eps, norm=self.norm, bn_mode=self.bn_mode, **given).crafting
        if not ours:
            return theirs
        if not isinstance(theirs, CrossEntropyAscent):
            raise ValueError(
                "gain and target belong to a craft that ascends the cross-entropy, such as pgd, got"
                f" gain={self.gain!r} and target={self.target!r} beside craft={self.craft!r}"
            )
        settings = {one.name: getattr(theirs, one.name) for one in fields(theirs)}
        return ScoreAscent(**settings, loss=loss, target=self.target)

    @property
    def ascends_labels(self) -> bool:
        """True if the craft does."""
        return self.crafting.ascends_labels

    @property
    def radius(self) -> float:
        """eps with a craft, else 0."""
        return 0.0 if self.craft == NONE else self.eps

    def cost(self) -> Cost:
        """Return the rows of the craft, and 1 forward and 1 backward."""
        return self.crafting.cost().plus(OfScores(self.score_loss).cost())

    def loss(self, step: Step) -> Tensor:
        """Return the mean of the loss over the minibatch."""
        return step.mean(OfScores(self.score_loss)(step, self.crafting(step)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Rce(ScoreRecipe):
    """Reverse cross-entropy: ``min_w mean -1/(L-1) sum_{j != y} log softmax(z_w(x))_j``.

    The network learns to make the output of the label the smallest, and the others equal. The head
    ``ReverseLogits`` returns ``-z``, so that the largest score decides. The recipe prepares a
    network for detection by the entropy of the other classes. An update costs 1 forward and 1
    backward per sample, and the rows of the craft.

    References:
        Pang, Du, Dong, Zhu, "Towards robust detection of adversarial examples", NeurIPS 2018.
    """

    name: ClassVar[str] = "rce"
    paper: ClassVar[str] = (
        "Pang, Du, Dong, Zhu. Towards robust detection of adversarial examples. NeurIPS 2018."
    )
    head: ClassVar[Head] = ReverseLogitsHead()

    @property
    def score_loss(self) -> ScoreLoss:
        """Reverse cross-entropy."""
        return rce
