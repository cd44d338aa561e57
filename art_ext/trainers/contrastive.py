"""ART trainers of contrastive adversarial training (CAT) and of ATCD, its form with a test."""

from __future__ import annotations

from art.estimators.classification import PyTorchClassifier

from art_ext.trainers.shell import CoreTrainer
from art_ext.training import Atcd, Cat


class AdversarialTrainerCATPyTorch(CoreTrainer):
    """Contrastive adversarial training: a Hamiltonian chain over several weight updates.

    ``art_ext.training.Cat`` documents the method and its differences from the paper. One pass
    over the data is ``nb_replays * max_iter`` epochs as the paper counts them.

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
            eps_step: length of each step. None: eps.
            lam, rho: weights of the contrast. ``rho=0`` is plain cross-entropy.
            alpha: rate at which the momentum follows the normalised gradient. None: eps.
            momentum: True lets it accumulate.
            order: place of the gradient, ``"free"``, ``"printed"`` or ``"fresh"``.
            bn_mode: BatchNorm while crafting, ``"eval"``, ``"train"`` or ``"batch"``.
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

    ``art_ext.training.Atcd`` documents the method and its differences from the paper. One pass
    over the data is ``nb_replays * max_iter`` epochs as the paper counts them.

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
            eps_step: length of each step. None: eps.
            lam, rho: weights of the contrast. ``rho=0`` is plain cross-entropy.
            alpha: rate at which the momentum follows the normalised gradient. None: eps.
            momentum: True lets it accumulate.
            order: place of the gradient, ``"free"``, ``"printed"`` or ``"fresh"``.
            metropolis: True tests the chain's moves. False is CAT.
            shared_test: with ``order="free"``, take the test's cross-entropy from the training
                forward.
            temperature: divides the exponent of the test.
            kinetic: add ``mean |v_new| - mean |v_old|`` to the exponent.
            bn_mode: BatchNorm while crafting, ``"eval"``, ``"train"`` or ``"batch"``.
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
