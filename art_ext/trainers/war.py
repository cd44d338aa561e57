"""The ART trainer of width adjusted regularisation."""

from __future__ import annotations

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_ext.trainers.shell import CoreTrainer
from art_ext.training import War


class AdversarialTrainerWARPyTorch(CoreTrainer):
    """Width adjusted regularisation: TRADES with a weight lambda adapted minibatch by minibatch.

    ``art_ext.training.War`` documents the method and its differences from the paper.
    ``history`` holds lambda.

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
        start: float = 1e-3,
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
            eps_step: length of each step. None: ``2.5 eps / max_iter``.
            max_iter: steps of crafting.
            regulariser: ``"trades"``, or ``"at"`` for generalised adversarial training.
            zeta: the ratio of natural and robust loss to reach, as measured on a thin network.
            rule: ``"log"``, which is ours, or ``"printed"``, the paper's Algorithm 8.
            lambda_0: initial lambda. None: 6 (log) or 0 (printed).
            hold_epochs: epochs over which lambda stays at lambda_0. None: 1 (log) or 0 (printed).
            gain: log rule: the largest change of log(lambda) in an update. None: .02.
            alpha: printed rule: step size of lambda. None: .1.
            cap: printed rule: bound of the ratio in multiples of zeta. None: 10. Infinity: no
                bound.
            ema: printed rule: decay of an average of the ratio that replaces the ratio. None: 0.
            fixed: a constant lambda.
            start: standard deviation of the initial noise of crafting, with ``"trades"``.
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
