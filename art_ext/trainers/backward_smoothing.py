"""The ART trainer of Backward Smoothing."""

from __future__ import annotations

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_ext.trainers.shell import CoreTrainer
from art_ext.training import BackwardSmoothing


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
            eps: radius of the ball in the units of x.
            eps_step: length of each step. None: eps.
            beta: weight of the divergence.
            gamma: scale of the random target.
            max_iter: steps of ascent after the first step.
            points: number of random targets, whose mean is approached.
            variant: ``"trades"`` or ``"pgd"``.
            start: ``"backward"``, or the comparator ``"odi"``.
            target: target of the PGD variant, ``"printed"`` or ``"shifted"``.
            boxed_start: True brings the first step to ball and box, False to the ball only. Pass
                False for data with many values on the faces of the box, such as MNIST.
            norm: np.inf, "inf", 1 or 2.
            bn_mode: BatchNorm while crafting, ``"eval"``, ``"train"`` or ``"batch"``.
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
