"""Adaptive diversity promoting: an ensemble whose members disagree on the wrong classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_count, check_not_negative, check_positive
from art_ext.core.geometry import Box, check_ball
from art_ext.models.joint import LEAST, JointEnsemble, make_ensemble
from art_ext.training.cost import Cost
from art_ext.training.craft import Clean, CrossEntropyAscent, UniformStart
from art_ext.training.craft.ascent import RandomRadius
from art_ext.training.heads import Head, apply_head
from art_ext.training.heads.mean_probability import MeanProbabilityHead
from art_ext.training.modes import BN_MODES
from art_ext.training.objectives.diversity import PromotedDiversity, check_members
from art_ext.training.recipes.base import Composition, Recipe
from art_ext.training.trial import raw_output


@dataclass(frozen=True, kw_only=True, eq=False)
class Adp(Composition):
    """Adaptive diversity promoting: K networks that are trained together to differ.

        ``min_w mean sum_k CE(p_k, y) - alpha H(mean_k p_k) - beta log det(M M^T + det_offset I)``

    H is the entropy of the mean over all classes. Row k of M holds the probabilities of member k
    without the true class, divided by their norm. The class of the largest mean probability
    decides. It trains a ``JointEnsemble``. The members start from seeds of their own. With
    alpha = beta = 0 each member is trained as if it were alone.

    A row through the ensemble counts K rows. An update costs K forwards and K backwards per sample.
    With examples and S = num_steps it costs K (S + 2) of each: S passes of crafting, and the clean
    and the perturbed forward of the loss, which BatchNorm sees separately. The history holds the
    means of determinant and entropy and, with examples, of the radius.

    Attributes:
        alpha: weight of the entropy of the mean.
        beta: weight of the logarithm of the determinant.
        members: K, from 2 to the number of classes - 1.
        det_offset: added to the diagonal of M M^T.
        adversarial: ``"none"``, ``"regularised"`` or ``"plain"``. ``"regularised"`` adds the whole
            loss at examples that PGD crafts against the log of the mean probabilities, as the
            authors do. ``"plain"`` adds ``sum_k CE(p_k(x'), y)`` only, as a later port does.
        eps_range: smallest and largest radius of crafting, in the units of x. Each update draws one
            radius uniformly from this range, by the seed and the number of the update. The norm is
            L-inf. Unused without examples.
        num_steps: S, steps of crafting.
        step_fraction: length of a step as a fraction of the radius. None: ``1 / S``, as the
            authors.
        bn_mode: mode of BatchNorm while crafting, as of ``Pgd``.

    References:
        Pang, Xu, Du, Chen, Zhu, "Improving adversarial robustness via promoting ensemble
        diversity", ICML 2019.
    """

    name: ClassVar[str] = "adp"
    needs: ClassVar[str] = "labels, members"
    paper: ClassVar[str] = (
        "Pang, Xu, Du, Chen, Zhu. Improving adversarial robustness via promoting ensemble"
        " diversity. ICML 2019."
    )
    alpha: float = 2.0
    beta: float = 0.5
    members: int = 3
    det_offset: float = 1e-6
    adversarial: str = "none"
    eps_range: tuple[float, float] = (0.01, 0.05)
    num_steps: int = 10
    step_fraction: float | None = None
    bn_mode: str = "eval"

    def __post_init__(self) -> None:
        check_count("members", self.members, least=LEAST)
        check_count("num_steps", self.num_steps)
        check_choice("bn_mode", self.bn_mode, BN_MODES)
        if self.step_fraction is not None:
            check_positive("step_fraction", self.step_fraction)
        given = self.eps_range
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(f"eps_range must be (smallest, largest), got {given!r}")
        for radius in given:
            check_not_negative("each radius of eps_range", radius)
        if given[0] > given[1]:
            raise ValueError(f"eps_range must be (smallest, largest), got {given!r}")
        object.__setattr__(self, "eps_range", tuple(given))
        super().__post_init__()

    @property
    def head(self) -> Head:  # type: ignore[override]  # it depends on an argument
        """Logarithm of the mean probability of K members."""
        return MeanProbabilityHead(self.members)

    @property
    def networks(self) -> int:
        """K."""
        return self.members

    @property
    def radius(self) -> float:
        """Largest radius of crafting, 0 without examples."""
        return 0.0 if self.adversarial == "none" else self.eps_range[1]

    @property
    def crafting(self) -> Clean | CrossEntropyAscent:
        """Ascent of the cross-entropy of the mean probabilities, in a ball of random radius."""
        if self.adversarial == "none":
            return Clean()
        return CrossEntropyAscent(
            norm="linf",
            bn_mode=self.bn_mode,
            num_steps=self.num_steps,
            radii=1 / self.num_steps if self.step_fraction is None else self.step_fraction,
            start=UniformStart(),
            radius=RandomRadius(*self.eps_range),
        )

    @property
    def objective(self) -> PromotedDiversity:
        """The members' cross-entropies and the two terms of diversity."""
        return PromotedDiversity(self.alpha, self.beta, self.det_offset, self.adversarial)

    def cost(self) -> Cost:
        """Return the rows of all members."""
        return super().cost().times(self.members)

    def check(self, box: Box) -> None:
        """Raise ValueError for a radius that covers the box."""
        if self.radius:
            check_ball("linf", self.radius, box)

    def fitted(self, model: nn.Module, rows: Tensor, seed: int) -> Recipe:
        """Return the recipe.

        Raises:
            ValueError: if the network is no ensemble of K members, or K exceeds the number of wrong
                classes.
        """
        scores = apply_head(self.head, raw_output(model, rows), len(rows))
        check_members(self.members, scores.shape[1])
        return self

    def build(self, make: Callable[[int], nn.Module], seed: int) -> JointEnsemble:
        """Return K networks with seeds of their own, as one."""
        return make_ensemble(make, self.members, seed)
