"""ART trainers of our recipes.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_ext.trainers.headed import EnsembleTrainer, HeadTrainer
from art_ext.trainers.shell import CoreTrainer
from art_ext.training import (
    Adp,
    Atcd,
    BackwardSmoothing,
    Cat,
    Distillation,
    Fast,
    Free,
    GradAlign,
    Mmc,
    Mmlda,
    Rce,
    Recipe,
    War,
    Yopo,
)

__all__ = [
    "AdversarialTrainerATCDPyTorch",
    "AdversarialTrainerBackwardSmoothingPyTorch",
    "AdversarialTrainerCATPyTorch",
    "AdversarialTrainerFastPyTorch",
    "AdversarialTrainerFreePyTorch",
    "AdversarialTrainerGradAlignPyTorch",
    "AdversarialTrainerWARPyTorch",
    "AdversarialTrainerYOPOPyTorch",
    "TrainerADPPyTorch",
    "TrainerDistillationPyTorch",
    "TrainerMaxMahalanobisPyTorch",
    "TrainerReverseCrossEntropyPyTorch",
]


class AdversarialTrainerCATPyTorch(CoreTrainer):
    """Contrastive adversarial training: a Hamiltonian chain over several weight updates.

    ``art_ext.training.Cat`` documents the method. One pass over the data is ``nb_replays *
    max_iter`` epochs as the paper counts them.

    | Paper link: https://arxiv.org/abs/2010.07849
    """

    _recipe = Cat

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        nb_replays: int = 4,
        max_iter: int = 2,
        eps_step: float | None = None,
        lam: float = 2.0,
        rho: float = 1.0,
        alpha: float | None = None,
        momentum: bool = True,
        order: str = "free",
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius of the L-inf ball, in the units of x.
            nb_replays: T, weight updates of a minibatch.
            max_iter: K, steps of the chain before each update.
            eps_step: length of a step of theta, in the units of x. None: eps.
            lam: weight of the loss at the present state of the chain.
            rho: weight of the loss at its previous state. 0 is plain cross-entropy.
            alpha: rate at which v follows the normalised gradient. None: eps.
            momentum: True lets v accumulate.
            order: ``"free"``, ``"printed"`` or ``"fresh"``.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            nb_replays=nb_replays,
            max_iter=max_iter,
            eps_step=eps_step,
            lam=lam,
            rho=rho,
            alpha=alpha,
            momentum=momentum,
            order=order,
            bn_mode=bn_mode,
        )


class AdversarialTrainerATCDPyTorch(CoreTrainer):
    """Adversarial training by contrastive divergence: CAT with a Metropolis-Hastings test.

    ``art_ext.training.Atcd`` documents the method. One pass over the data is ``nb_replays *
    max_iter`` epochs as the paper counts them.

    | Paper link: https://openreview.net/forum?id=Fn5wiAq2SR
    """

    _recipe = Atcd

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        nb_replays: int = 4,
        max_iter: int = 2,
        eps_step: float | None = None,
        lam: float = 2.0,
        rho: float = 1.0,
        alpha: float | None = None,
        momentum: bool = True,
        order: str = "free",
        metropolis: bool = True,
        shared_test: bool = True,
        temperature: float = 1.0,
        kinetic: bool = False,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius of the L-inf ball, in the units of x.
            nb_replays: T, weight updates of a minibatch.
            max_iter: K, steps of the chain before each update.
            eps_step: length of a step of theta, in the units of x. None: eps.
            lam: weight of the loss at the present state of the chain.
            rho: weight of the loss at its previous state. 0 is plain cross-entropy.
            alpha: rate at which v follows the normalised gradient. None: eps.
            momentum: True lets v accumulate.
            order: ``"free"``, ``"printed"`` or ``"fresh"``.
            metropolis: True tests the chain's moves.
            shared_test: with ``order="free"``, take CE(theta) of the test from the training
                forward.
            temperature: divisor of the exponent of the test.
            kinetic: add ``mean |v_new| - mean |v_old|`` to the exponent.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            nb_replays=nb_replays,
            max_iter=max_iter,
            eps_step=eps_step,
            lam=lam,
            rho=rho,
            alpha=alpha,
            momentum=momentum,
            order=order,
            metropolis=metropolis,
            shared_test=shared_test,
            temperature=temperature,
            kinetic=kinetic,
            bn_mode=bn_mode,
        )


class AdversarialTrainerBackwardSmoothingPyTorch(CoreTrainer):
    """Backward Smoothing: TRADES in two steps, the first of which approaches a random output.

    ``art_ext.training.BackwardSmoothing`` documents the method.

    | Paper link: https://arxiv.org/abs/2010.01278
    """

    _recipe = BackwardSmoothing

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        eps_step: float | None = None,
        beta: float = 10.0,
        gamma: float = 1.0,
        max_iter: int = 1,
        points: int = 1,
        variant: str = "trades",
        start: str = "backward",
        target: str = "printed",
        boxed_start: bool = True,
        norm: int | float | str = np.inf,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            eps_step: alpha, in the units of x. None: eps.
            beta: weight of the divergence.
            gamma: scale of the random target.
            max_iter: S, steps of ascent. 0 is the initialisation "alone".
            points: number of random targets. The first step follows the mean of their losses, which
                costs no further pass (our reading of Table 6.10).
            variant: ``"trades"`` or ``"pgd"``. With ``"pgd"`` xi minimises ``([f(x + xi) - gamma
                psi]_y)^2`` (6.7.5), and ascent and training use the cross-entropy.
            start: ``"backward"`` or the comparator ``"odi"``, which maximises ``f(x + xi)^T psi``.
            target: target of the PGD variant: ``"printed"``, or ``"shifted"`` for ``[f(x) + gamma
                psi]_y`` instead of ``gamma psi_y``, as (6.4.3) suggests.
            boxed_start: True brings the first step to ball and box, as the reference implementation
                does. False brings it to the ball only, and the steps of ascent to both. Pass False
                if many pixels lie on a face of the box. On MNIST, training with True failed in two
                of three seeds.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            eps_step=eps_step,
            beta=beta,
            gamma=gamma,
            max_iter=max_iter,
            points=points,
            variant=variant,
            start=start,
            target=target,
            boxed_start=boxed_start,
            norm=norm,
            bn_mode=bn_mode,
        )


class AdversarialTrainerWARPyTorch(CoreTrainer):
    """Width adjusted regularisation: TRADES with a weight lambda that is adapted.

    ``art_ext.training.War`` documents the method. ``history`` holds lambda.

    | Paper link: https://arxiv.org/abs/2010.01279
    """

    _recipe = War

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        eps_step: float | None = None,
        max_iter: int = 10,
        regulariser: str = "trades",
        zeta: float = 30.0,
        rule: str = "log",
        lambda_0: float | None = None,
        hold_epochs: float | None = None,
        gain: float | None = None,
        alpha: float | None = None,
        cap: float | None = None,
        ema: float | None = None,
        fixed: float | None = None,
        start: float = 0.001,
        norm: int | float | str = np.inf,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            eps_step: length of each step. None: ``2.5 eps / max_iter``.
            max_iter: steps of crafting.
            regulariser: ``"trades"`` or ``"at"``.
            zeta: the ratio to reach. It depends on data, network, radius and regulariser, and is 30
                for CIFAR-10. 0 is natural training, with the printed rule only.
            rule: ``"log"`` or ``"printed"``.
            lambda_0: initial lambda. None: 6 for the log rule, which needs a value > 0, and 0 for
                the printed rule.
            hold_epochs: epochs over which lambda stays at lambda_0 before the rule moves it. None:
                1 (log) or 0 (printed).
            gain: log rule: the largest change of log(lambda) in an update. None: .02.
            alpha: printed rule: step size of lambda. None: .1.
            cap: printed rule: bound of the ratio in multiples of zeta. None: 10. Infinity: no
                bound.
            ema: printed rule: decay of an average of the ratio that replaces the ratio. None: 0.
            fixed: a constant lambda. This is TRADES with that beta, or, with "at", generalised
                adversarial training.
            start: standard deviation of the initial noise of crafting, with ``"trades"``.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            eps_step=eps_step,
            max_iter=max_iter,
            regulariser=regulariser,
            zeta=zeta,
            rule=rule,
            lambda_0=lambda_0,
            hold_epochs=hold_epochs,
            gain=gain,
            alpha=alpha,
            cap=cap,
            ema=ema,
            fixed=fixed,
            start=start,
            norm=norm,
            bn_mode=bn_mode,
        )


class AdversarialTrainerFreePyTorch(CoreTrainer):
    """Free adversarial training: one backward for the weights and for the perturbation.

    ``art_ext.training.Free`` documents the method. One pass over the data is ``nb_replays`` epochs
    as the paper counts them.

    | Paper link: https://arxiv.org/abs/1904.12843
    """

    _recipe = Free

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        eps_step: float | None = None,
        nb_replays: int = 8,
        norm: int | float | str = np.inf,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            eps_step: in the units of x. None: eps.
            nb_replays: m.
            norm: np.inf, "inf", 1 or 2.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier, seed, verbose, eps=eps, eps_step=eps_step, nb_replays=nb_replays, norm=norm
        )


class AdversarialTrainerFastPyTorch(CoreTrainer):
    """Fast adversarial training: one long step of crafting, or a few.

    ``art_ext.training.Fast`` documents the method.

    | Paper link: https://arxiv.org/abs/2001.03994
    """

    _recipe = Fast

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        eps_step: float | None = None,
        max_iter: int = 1,
        start: str = "uniform",
        boxed_start: bool = True,
        norm: int | float | str = np.inf,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            eps_step: in the units of x. None: ``1.25 eps`` for one step, and eps for each of
                several. The end is projected onto ball and box, so a step from ``"zero"`` reaches
                eps.
            max_iter: n.
            start: ``"uniform"`` is a point drawn uniformly from the ball, as in the paper.
                ``"zero"`` is the input itself. ``"previous"`` adds the perturbation that row i of
                the previous minibatch ended with, 0 at first, as ``Free`` does.
            boxed_start: True clips the starting point to the box, as the authors do on CIFAR-10. On
                MNIST they do not. Most pixels lie there on a face of the box, where clipped starts
                all step to a corner of the ball.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            eps_step=eps_step,
            max_iter=max_iter,
            start=start,
            boxed_start=boxed_start,
            norm=norm,
            bn_mode=bn_mode,
        )


class AdversarialTrainerGradAlignPyTorch(CoreTrainer):
    """GradAlign: one step of crafting, and input gradients that agree around x.

    ``art_ext.training.GradAlign`` documents the method. ``weight`` must be given unless eps is 4 to
    12 of 255. ``history`` holds the mean cosine of the gradients.

    | Paper link: https://arxiv.org/abs/2007.02617
    """

    _recipe = GradAlign

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        eps_step: float | None = None,
        weight: float | None = None,
        variant: str = "detached",
        boxed_start: bool = False,
        norm: int | float | str = np.inf,
        bn_mode: str | None = None,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            eps_step: in the units of x. None: ``1.25 eps`` for ``"detached"``, eps for ``"both"``.
            weight: of the penalty. None: that of the authors' table (.063, .2, .356 and .632 at 4,
                8, 10 and 12 of 255), with straight lines between. It must be given for other radii
                and for norms other than L-inf.
            variant: ``"detached"``, the authors', or ``"both"``, that of Chen et al.
            boxed_start: True clamps the random points to the box: x + eta, and the start of
                ``"both"``. The authors do not.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting, as of other recipes. None: ``"train"`` for
                ``"detached"``, ``"eval"`` for ``"both"``.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            eps_step=eps_step,
            weight=weight,
            variant=variant,
            boxed_start=boxed_start,
            norm=norm,
            bn_mode=bn_mode,
        )


class AdversarialTrainerYOPOPyTorch(CoreTrainer):
    """YOPO: the perturbation moves by passes through the first layer only.

    ``art_ext.training.Yopo`` documents the method. ``history`` and ``last_result`` hold
    ``first_layer_rows``.

    | Paper link: https://arxiv.org/abs/1905.00877
    """

    _recipe = Yopo

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        nb_outer: int = 5,
        nb_inner: int = 3,
        eps_step: float | None = None,
        first: str | None = None,
        first_gradient: str = "adjoint",
        boxed_start: bool = False,
        norm: int | float | str = np.inf,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            nb_outer: m.
            nb_inner: n.
            eps_step: in the units of x. None: ``eps / 4``. 0 is natural training on noisy inputs.
            first: name of the module whose output is that of the first layer, such as ``"conv1"``.
                None: the first module that is called and holds parameters itself. All paths from x
                must pass it, and the part of the network up to it must compute row by row in train
                mode.
            first_gradient: ``"adjoint"`` gives the weights of the first layer the gradient at the
                new eta only. ``"both"`` adds that of the training pass.
            boxed_start: True clamps the random start to the box too. The steps always stay inside.
            norm: np.inf, "inf", 1 or 2.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            eps=eps,
            nb_outer=nb_outer,
            nb_inner=nb_inner,
            eps_step=eps_step,
            first=first,
            first_gradient=first_gradient,
            boxed_start=boxed_start,
            norm=norm,
        )


class TrainerReverseCrossEntropyPyTorch(HeadTrainer):
    """Reverse cross-entropy: the output of the label becomes the smallest.

    ``art_ext.training.Rce`` documents the method. The passed classifier is not changed:
    ``get_classifier()`` is a new one. The head returns minus the outputs.

    | Paper link: https://arxiv.org/abs/1706.00633
    """

    _recipe = Rce

    def __init__(
        self,
        classifier: PyTorchClassifier,
        craft: str = "none",
        eps: float = 8 / 255,
        max_iter: int | None = None,
        eps_step: float | None = None,
        boxed_start: bool = True,
        gain: str = "ce",
        target: str = "none",
        norm: int | float | str = np.inf,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            craft: ``"none"`` trains on the inputs. The name of a composed recipe, such as
                ``"pgd"``, trains on its examples.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            max_iter: steps of the craft. None: those of its recipe.
            eps_step: in the units of x. None: that of its recipe.
            boxed_start: as of ``Fast``, for crafts that have it.
            gain: what ``"pgd"`` and ``"fast"`` ascend: ``"ce"``, ``"margin"``, the lead of the best
                other class, or ``"objective"``, the loss of this recipe.
            target: ``"none"`` leaves the label. ``"random"`` descends the loss of a wrong class,
                drawn for each sample and update.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            craft=craft,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            boxed_start=boxed_start,
            gain=gain,
            target=target,
            norm=norm,
            bn_mode=bn_mode,
        )


class TrainerMaxMahalanobisPyTorch(HeadTrainer):
    """Max-Mahalanobis training: features of a class gather around a fixed centre.

    ``art_ext.training.Mmc`` documents the method. The passed classifier is not changed:
    ``get_classifier()`` is a new one. The head returns minus the squared distances to the centres.
    Attack the margin of these scores: their cross-entropy has no gradient.

    | Paper link: https://arxiv.org/abs/1905.10626
    """

    _recipe = Mmc
    _objectives: ClassVar[Mapping[str, type[Recipe]]] = {"mmc": Mmc, "mmlda": Mmlda}

    def __init__(
        self,
        classifier: PyTorchClassifier,
        objective: str = "mmc",
        dim: int | None = None,
        centre_norm: float = 10.0,
        centres: str | Tensor = "simplex",
        centre_seed: int = 0,
        factor: float = 1.0,
        craft: str = "none",
        eps: float = 8 / 255,
        max_iter: int | None = None,
        eps_step: float | None = None,
        boxed_start: bool = True,
        gain: str = "ce",
        target: str = "none",
        norm: int | float | str = np.inf,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            objective: ``"mmc"``, the squared distance to the centre of the label, or ``"mmlda"``,
                the cross-entropy of the scores.
            dim: d, length of z. None: the number of outputs of the network. If the network has
                another number, its last linear layer is replaced.
            centre_norm: C, norm of the centres.
            centres: ``"simplex"``, which needs ``dim >= num_classes - 1``, ``"random"`` (MMC-rand),
                ``"optimised"``, or a tensor (L, d).
            centre_seed: seed of random and optimised centres.
            factor: of the scores in the loss. 1: the reference implementation. 1/2: their text.
            craft: ``"none"`` trains on the inputs. The name of a composed recipe, such as
                ``"pgd"``, trains on its examples.
            eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
            max_iter: steps of the craft. None: those of its recipe.
            eps_step: in the units of x. None: that of its recipe.
            boxed_start: as of ``Fast``, for crafts that have it.
            gain: what ``"pgd"`` and ``"fast"`` ascend: ``"ce"``, ``"margin"``, the lead of the best
                other class, or ``"objective"``, the loss of this recipe.
            target: ``"none"`` leaves the label. ``"random"`` descends the loss of a wrong class,
                drawn for each sample and update.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and
                does not change them. ``"train"`` uses the batch's statistics and updates the
                running ones. ``"batch"`` uses the batch's statistics and updates nothing.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            objective=objective,
            dim=dim,
            centre_norm=centre_norm,
            centres=centres,
            centre_seed=centre_seed,
            factor=factor,
            craft=craft,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            boxed_start=boxed_start,
            gain=gain,
            target=target,
            norm=norm,
            bn_mode=bn_mode,
        )


class TrainerDistillationPyTorch(HeadTrainer):
    """Defensive distillation: a student that learns the soft labels of a teacher.

    ``art_ext.training.Distillation`` documents the method. The passed classifier is not changed:
    ``get_classifier()`` is a new one. It is the student. ``nb_epochs`` are those of the teacher,
    and again of the student. ``last_result.teacher`` holds the weights of the teacher. Attack the
    margin of the scores: their cross-entropy has no gradient. ``fit_generator`` raises an error,
    because the teacher labels samples by their positions.

    | Paper link: https://arxiv.org/abs/1511.04508
    """

    _recipe = Distillation

    def __init__(
        self,
        classifier: PyTorchClassifier,
        temperature: float = 100.0,
        warm_epochs: int = 1,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            temperature: T.
            warm_epochs: passes over the data of the warm start. 0: teacher and student begin with
                the initial weights.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier, seed, verbose, temperature=temperature, warm_epochs=warm_epochs
        )


class TrainerADPPyTorch(EnsembleTrainer):
    """Adaptive diversity promoting: an ensemble whose members disagree on the wrong classes.

    ``art_ext.training.Adp`` documents the method. The passed classifier is not changed:
    ``get_classifier()`` is a new one. Its members are copies of the network with new weights, drawn
    by ``reset_parameters`` and the seed. The head returns the logarithm of their mean probability.
    Attack its margin, and that of the mean logits.

    | Paper link: https://arxiv.org/abs/1901.08846
    """

    _recipe = Adp

    def __init__(
        self,
        classifier: PyTorchClassifier,
        alpha: float = 2.0,
        beta: float = 0.5,
        nb_members: int = 3,
        det_offset: float = 1e-06,
        adversarial: str = "none",
        eps_range: tuple[float, float] = (0.01, 0.05),
        max_iter: int = 10,
        step_fraction: float | None = None,
        bn_mode: str = "eval",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Create the trainer.

        Args:
            classifier: a ``PyTorchClassifier`` with optimizer, clip_values and
                ``torch.nn.CrossEntropyLoss``.
            alpha: weight of the entropy of the mean.
            beta: weight of the logarithm of the determinant.
            nb_members: K, from 2 to the number of classes - 1.
            det_offset: added to the diagonal of M M^T.
            adversarial: ``"none"``, ``"regularised"`` or ``"plain"``. ``"regularised"`` adds the
                whole loss at examples that PGD crafts against the log of the mean probabilities, as
                the authors do. ``"plain"`` adds ``sum_k CE(p_k(x'), y)`` only, as a later port
                does.
            eps_range: smallest and largest radius of crafting, in the units of x. Each update draws
                one radius uniformly from this range, by the seed and the number of the update. The
                norm is L-inf. Unused without examples.
            max_iter: S, steps of crafting.
            step_fraction: length of a step as a fraction of the radius. None: ``1 / S``, as the
                authors.
            bn_mode: mode of BatchNorm while crafting, as of ``Pgd``.
            seed: seed of the order and the noise.
            verbose: show a progress bar.
        """
        super().__init__(
            classifier,
            seed,
            verbose,
            alpha=alpha,
            beta=beta,
            nb_members=nb_members,
            det_offset=det_offset,
            adversarial=adversarial,
            eps_range=eps_range,
            max_iter=max_iter,
            step_fraction=step_fraction,
            bn_mode=bn_mode,
        )
