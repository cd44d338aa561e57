"""The catalogue of recipes. Each composed recipe is a class that names its craft and objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from art_ext.training.craft import (
    BackwardSmoothedAscent,
    Clean,
    CrossEntropyAscent,
    DivergenceAscent,
    NormalStart,
    UniformStart,
    start_named,
)
from art_ext.training.craft.tolerance import Tolerance
from art_ext.training.objectives import (
    CrossEntropy,
    Mixture,
    Objective,
    Regularised,
    divergence_terms,
)
from art_ext.training.recipes.adp import Adp
from art_ext.training.recipes.atcd import Atcd, Cat
from art_ext.training.recipes.base import Composition, CraftingRecipe, Recipe
from art_ext.training.recipes.distillation import Distillation
from art_ext.training.recipes.fast_plus import FastPlus
from art_ext.training.recipes.free import Free
from art_ext.training.recipes.grad_align import GradAlign
from art_ext.training.recipes.max_mahalanobis import Mmc, Mmlda
from art_ext.training.recipes.scores import CRAFTS, Rce
from art_ext.training.recipes.war import War
from art_ext.training.recipes.yopo import Yopo, YopoTrades


@dataclass(frozen=True, kw_only=True, eq=False)
class Natural(Composition):
    """Natural training: ``min_w mean CE(f_w(x), y)``.

    An update costs 1 forward and 1 backward per sample.
    """

    name: ClassVar[str] = "natural"
    crafting = Clean()
    objective = CrossEntropy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pgd(Composition, CraftingRecipe):
    """Adversarial training: ``min_w mean max_{||x' - x|| <= eps} CE(f_w(x'), y)``.

    The maximum is approximated by projected ascent. With K = num_steps, an update costs K + 1
    forwards and K + 1 backwards per sample. Crafting ascends the loss of the unsmoothed label from
    a point drawn uniformly from the ball, whatever label smoothing the outer loss has.

    Attributes:
        num_steps: K.
        step_size: in the units of x. None: ``2.5 eps / K``.
        tolerance: a sample is frozen once it was found misclassified before tolerance + 1 steps
            (early-stopped PGD). With 0, a sample misclassified at its start is never moved. None
            never freezes a sample. A schedule ``{epoch: tolerance}`` begins at epoch 0, and each
            entry holds from its epoch on.
        mixture: alpha of the loss ``alpha CE(f(x'), y) + (1 - alpha) CE(f(x), y)``, in [0, 1],
            which costs 1 forward and 1 backward more. None: the examples alone.

    References:
        Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to
        adversarial attacks", ICLR 2018. Pang, Yang, Dong, Su, Zhu, "Bag of tricks for adversarial
        training", ICLR 2021 (tolerance, where theirs, counted down to 0, is ours + 1).
    """

    name: ClassVar[str] = "pgd"
    paper: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras, Vladu. Towards deep learning models resistant to"
        " adversarial attacks. ICLR 2018."
    )
    num_steps: int = 10
    step_size: float | None = None
    tolerance: Tolerance = None
    mixture: float | None = None

    @property
    def objective(self) -> Objective:
        """Cross-entropy of the examples, or its mean with that of the inputs."""
        return CrossEntropy() if self.mixture is None else Mixture(self.mixture)

    @property
    def crafting(self) -> CrossEntropyAscent:
        """Ascent of the cross-entropy from a random point of ball and box."""
        return CrossEntropyAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            num_steps=self.num_steps,
            step_size=self.step_size,
            start=UniformStart(),
            tolerance=self.tolerance,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fast(Composition, CraftingRecipe):
    """Fast adversarial training (FGSM-RS): PGD training with one long step, or a few.

    With n = num_steps, an update costs n + 1 forwards and n + 1 backwards per sample.

    Attributes:
        num_steps: n.
        start: ``"uniform"`` is a point drawn uniformly from the ball, as in the paper. ``"zero"``
            is the input itself. ``"previous"`` adds the perturbation that row i of the previous
            minibatch ended with, 0 at first, as ``Free`` does.
        step_size: in the units of x. None: ``1.25 eps`` for one step, and eps for each of
            several. The end is projected onto ball and box, so a step from ``"zero"`` reaches eps.
        tolerance: as of ``Pgd``.
        boxed_start: True clips the starting point to the box, as the authors do on CIFAR-10. On
            MNIST they do not. Most pixels lie there on a face of the box, where clipped starts all
            step to a corner of the ball.

    References:
        Wong, Rice, Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020.
    """

    name: ClassVar[str] = "fast"
    paper: ClassVar[str] = (
        "Wong, Rice, Kolter. Fast is better than free: revisiting adversarial training. ICLR 2020."
    )
    objective = CrossEntropy()
    num_steps: int = 1
    start: str = "uniform"
    step_size: float | None = None
    tolerance: Tolerance = None
    boxed_start: bool = True

    @property
    def crafting(self) -> CrossEntropyAscent:
        """Ascent of the cross-entropy from a point of the ball."""
        return CrossEntropyAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            num_steps=self.num_steps,
            step_size=self.step_size,
            radii=1.25 if self.num_steps == 1 else 1.0,
            start=start_named(self.start, self.boxed_start),
            tolerance=self.tolerance,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trades(Composition, CraftingRecipe):
    """TRADES: ``min_w mean CE(f_w(x), y) + beta max_{||x' - x|| <= eps} KL(p_w(x) || p_w(x'))``.

    With K = num_steps, an update costs 1 + K + 2 forwards and K + 2 backwards per sample. These are
    the clean outputs that crafting compares with, K passes of crafting, and the clean and the
    perturbed forward of the loss, both differentiated by one call. (The reference implementation
    runs the clean forward of the loss twice.) BatchNorm sees the two separately.

    Attributes:
        beta: weight of the divergence. 0 is natural training.
        num_steps: K.
        step_size: in the units of x. None: ``2.5 eps / K``.
        start: standard deviation of the normal noise that crafting starts from.
        tolerance: as of ``Pgd``: a sample is not moved any further once it was misclassified before
            tolerance + 1 steps. None, an integer, or a schedule ``{epoch: tolerance}``.

    References:
        Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically principled trade-off between
        robustness and accuracy", ICML 2019.
    """

    name: ClassVar[str] = "trades"
    paper: ClassVar[str] = (
        "Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan. Theoretically principled trade-off between"
        " robustness and accuracy. ICML 2019."
    )
    beta: float = 6.0
    num_steps: int = 10
    step_size: float | None = None
    start: float = 1e-3
    tolerance: Tolerance = None

    @property
    def crafting(self) -> DivergenceAscent:
        """Ascent of the divergence from the input with normal noise."""
        return DivergenceAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            num_steps=self.num_steps,
            step_size=self.step_size,
            start=NormalStart(self.start),
            tolerance=self.tolerance,
        )

    @property
    def objective(self) -> Regularised:
        """Cross-entropy plus beta times the divergence."""
        return Regularised(divergence_terms, self.beta)


@dataclass(frozen=True, kw_only=True, eq=False)
class FastTrades(Composition, CraftingRecipe):
    """Fast TRADES: TRADES with one step, or a few, from a random point of the ball.

    The point is drawn uniformly. With n = num_steps, an update costs 1 + n + 2 forwards and n + 2
    backwards per sample.

    Attributes:
        beta: weight of the divergence. 0 is natural training.
        num_steps: n.
        step_size: in the units of x. None: eps.
        tolerance: as of ``Pgd``.
        boxed_start: True clamps the random start to the box too. False projects it onto the ball
            only, as the reference implementation does. The steps of ascent always stay inside both.
            The choice matters if many pixels lie on a face of the box.

    References:
        Chen, Cheng, Gan, Gu, Liu, "Efficient robust training via backward smoothing", AAAI 2022
        (the comparator).
    """

    name: ClassVar[str] = "fast-trades"
    paper: ClassVar[str] = (
        "Chen, Cheng, Gan, Gu, Liu. Efficient robust training via backward smoothing. AAAI 2022."
    )
    beta: float = 6.0
    num_steps: int = 1
    step_size: float | None = None
    tolerance: Tolerance = None
    boxed_start: bool = True

    @property
    def crafting(self) -> DivergenceAscent:
        """Ascent of the divergence from a random point of the ball."""
        return DivergenceAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            num_steps=self.num_steps,
            step_size=self.step_size,
            radii=1.0,
            start=UniformStart(self.boxed_start),
            tolerance=self.tolerance,
        )

    @property
    def objective(self) -> Regularised:
        """Cross-entropy plus beta times the divergence."""
        return Regularised(divergence_terms, self.beta)


@dataclass(frozen=True, kw_only=True, eq=False)
class BackwardSmoothing(Composition, CraftingRecipe):
    """Backward Smoothing: TRADES in two steps, the first of which approaches a random output.

        ``xi = argmin KL(s(f(x) + gamma psi) || s(f(x + xi)))`` (6.4.4), ``psi ~ U(-1, 1)`` for each
        logit, ``delta = argmax KL(s(f(x)) || s(f(x + xi + delta)))`` (6.4.5), both by steps of sign
        gradient from xi = 0, ``min_w mean CE(f_w(x), y) + beta KL(p_w(x) || p_w(x + xi + delta))``.

    With alpha = eps, a pixel that lies at least eps from both faces of the box is moved by -eps, 0
    or +eps. It is 0 if the two signs differ. Nearer to a face the box has an effect. A pixel at 0
    ends at eps if the last sign is +, whatever the first one was, because the box undoes a first
    step downwards. The first step has no effect there. With ``boxed_start=False`` it ends at eps
    only if both signs are +.

    gamma = 0 gives x itself. Both gradients are zero there, exactly as in exact arithmetic, where
    rounding would give them random signs. The same holds for the first step of the PGD variant with
    ``target="shifted"``.

    An update costs per sample, with S = num_steps, 1 forward for f(x), 1 + S passes of crafting (a
    forward and a backward each), then 2 forwards, differentiated by one call. That is 4 + S
    forwards and 3 + S backwards. The PGD variant takes 1 + S passes and 1 training forward, which
    is 2 + S of each, and 1 forward more with ``target="shifted"``.

    Attributes:
        beta: weight of the divergence.
        gamma: scale of the random target.
        num_steps: S, steps of ascent. 0 is the initialisation "alone".
        step_size: alpha, in the units of x. None: eps.
        points: number of random targets. The first step follows the mean of their losses, which
            costs no further pass (our reading of Table 6.10).
        variant: ``"trades"`` or ``"pgd"``. With ``"pgd"`` xi minimises ``([f(x + xi) - gamma
            psi]_y)^2`` (6.7.5), and ascent and training use the cross-entropy.
        start: ``"backward"`` or the comparator ``"odi"``, which maximises ``f(x + xi)^T psi``.
        target: target of the PGD variant: ``"printed"``, or ``"shifted"`` for ``[f(x) + gamma
            psi]_y`` instead of ``gamma psi_y``, as (6.4.3) suggests.
        boxed_start: True brings the first step to ball and box, as the reference implementation
            does. False brings it to the ball only, and the steps of ascent to both. Pass False if
            many pixels lie on a face of the box. On MNIST, training with True failed in two of
            three seeds.

    References:
        Chen, Cheng, Gan, Gu, Liu, "Efficient robust training via backward smoothing", AAAI 2022.
        Equation numbers are those of Chen's dissertation, 2021, chapter 6. Tashiro, Song, Ermon,
        "Diversity can be transferred: output diversification for white- and black-box attacks",
        NeurIPS 2020 (ODI).
    """

    name: ClassVar[str] = "backward-smoothing"
    paper: ClassVar[str] = (
        "Chen, Cheng, Gan, Gu, Liu. Efficient robust training via backward smoothing. AAAI 2022."
    )
    beta: float = 10.0
    gamma: float = 1.0
    num_steps: int = 1
    step_size: float | None = None
    points: int = 1
    variant: str = "trades"
    start: str = "backward"
    target: str = "printed"
    boxed_start: bool = True

    @property
    def crafting(self) -> BackwardSmoothedAscent:
        """One step towards a random output, then ascent."""
        return BackwardSmoothedAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            gamma=self.gamma,
            num_steps=self.num_steps,
            step_size=self.step_size,
            points=self.points,
            variant=self.variant,
            start=self.start,
            target=self.target,
            boxed_start=self.boxed_start,
        )

    @property
    def objective(self) -> Objective:
        """The loss of TRADES, or of adversarial training."""
        regularised = Regularised(divergence_terms, self.beta)
        return regularised if self.variant == "trades" else CrossEntropy()


# the recipes of art-ext, in the order of listings
CATALOGUE: tuple[type[Recipe], ...] = (
    Natural,
    Pgd,
    Trades,
    Fast,
    FastTrades,
    Free,
    GradAlign,
    FastPlus,
    Yopo,
    YopoTrades,
    Cat,
    Atcd,
    BackwardSmoothing,
    War,
    Distillation,
    Rce,
    Mmlda,
    Mmc,
    Adp,
)
CRAFTS.update(
    (one.name, one)
    for one in CATALOGUE
    if issubclass(one, Composition)
    and issubclass(one, CraftingRecipe)
    and one.fitted is Recipe.fitted  # what depends on the network stays with its recipe
)
