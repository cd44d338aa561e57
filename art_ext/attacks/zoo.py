"""ZOO for ART."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.estimator import BaseEstimator
from torch import Tensor, nn

from art_ext.attacks.estimator import EstimatorModel
from art_ext.attacks.shell import FunctionAttack
from art_ext.core.attacks import zoo
from art_ext.core.geometry import free_coordinates
from art_ext.core.result import AttackResult


class ZooPyTorch(FunctionAttack):
    """Score-based attack: the objective of C&W, minimised by difference quotients along a few
    coordinates at a time.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.zoo`` says how it runs, which is the paper; ART's own
    ``ZooAttack`` takes no logarithms, can only brighten images in [0, 1], and with ``use_resize``
    attacks copies of them, scaled down and up again. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences; its probes may leave them by ``variable_h``,
    unless ``use_tanh`` or ``resize``.

    | Paper link: https://arxiv.org/abs/1708.03999
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "confidence",
        "targeted",
        "learning_rate",
        "max_iter",
        "binary_search_steps",
        "initial_const",
        "abort_early",
        "resize",
        "importance",
        "nb_parallel",
        "batch_size",
        "variable_h",
        "verbose",
        "solver",
        "use_tanh",
        "reset_adam",
        "abort_window",
        "norm",
        "eps",
        "outputs",
        "max_queries",
        "seed",
        "probe",
    ]
    _switches = ("targeted", "verbose", "use_tanh", "reset_adam")
    _function = staticmethod(zoo)
    _core_names: ClassVar[dict[str, str]] = {
        "learning_rate": "step_size",
        "binary_search_steps": "search_steps",
        "max_iter": "num_steps",
        "nb_parallel": "coordinates",
        "variable_h": "h",
    }

    def __init__(
        self,
        classifier: BaseEstimator,
        confidence: float = 0.0,
        targeted: bool = False,
        learning_rate: float = 1e-2,
        max_iter: int = 1000,
        binary_search_steps: int = 9,
        initial_const: float = 1e-2,
        abort_early: bool | str = "always",
        resize: int | Sequence[int] | Mapping[int, int] | None = None,
        importance: bool | int = False,
        nb_parallel: int = 128,
        batch_size: int = 256,
        variable_h: float = 1e-4,
        verbose: bool = True,
        solver: str = "adam",
        use_tanh: bool = False,
        reset_adam: bool = True,
        abort_window: int | None = None,
        norm: int | float | str = 2,
        eps: float | None = None,
        outputs: str = "logits",
        max_queries: int | None = None,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        The defaults are the paper's, because with those of ART's own (10 iterations, one c of .001)
        hardly any sample falls. They cost up to 2.3 million predictions per sample, fewer where
        ``abort_early`` gives up: ``max_queries`` sets the limit.

        Args:
            classifier: a trained classifier with ``clip_values``.
            confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that
                a success must have.
            targeted: reach y instead of leaving it.
            learning_rate: eta, of Adam or Newton.
            max_iter: iterations of each optimisation; one costs ``2 nb_parallel + 1`` predictions.
            binary_search_steps: optimisations per sample, each with its own c.
            initial_const: the first c.
            abort_early: give a sample's optimisation up where its loss stands still: ``"always"``,
                True: unless it has met the goal by then, or False: never.
            resize: side of a smaller image that is attacked and scaled up; a sequence of sides, or
                a mapping from iterations to sides, to enlarge it on the way (the ``use_resize`` of
                ART's own is ``{0: 32, 2000: 64, 10000: 128}``). None moves the features themselves.
                The estimator's ``channels_first`` says where the channels are.
            importance: with ``resize``, draw coordinates in proportion to the changes so far,
                whenever the small image has been enlarged; a number n > 1 also every n iterations.
            nb_parallel: B, coordinates that a sample probes and moves in one iteration.
            batch_size: most rows in one prediction; 256 hold the probes of one sample.
            variable_h: distance of the probes, in the units of x (of the transformed variable with
                ``use_tanh``).
            verbose: show a progress bar.
            solver: ``"adam"``, ``"newton"`` (with ``variable_h`` of .01 or more) or
                ``"adam-newton"``.
            use_tanh: move in a space without a box rather than clip to ``clip_values``.
            reset_adam: forget the moments of Adam at the first success of an optimisation.
            abort_window: iterations between two comparisons of the loss; None takes a tenth of
                ``max_iter``.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x; None
                counts any.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            max_queries: most predictions per sample, the clean check included; None for no limit.
            seed: of the draws of coordinates; None draws one, which ``last_result`` records.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do; False asks nothing.
        """
        super().__init__(
            classifier,
            confidence=confidence,
            targeted=targeted,
            learning_rate=learning_rate,
            max_iter=max_iter,
            binary_search_steps=binary_search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
            resize=resize,
            importance=importance,
            nb_parallel=nb_parallel,
            batch_size=batch_size,
            variable_h=variable_h,
            verbose=verbose,
            solver=solver,
            use_tanh=use_tanh,
            reset_adam=reset_adam,
            abort_window=abort_window,
            norm=norm,
            eps=eps,
            outputs=outputs,
            max_queries=max_queries,
            seed=seed,
            probe=probe,
        )

    def _attack(
        self, model: nn.Module, x: Tensor, labels: Tensor | None, **options: Any
    ) -> AttackResult:
        if self.resize is None or getattr(self.estimator, "channels_first", True):
            return super()._attack(model, x, labels, **options)
        mask = options.pop("mask")
        if mask is not None:
            mask = free_coordinates(mask, x).view(-1, *x.shape[1:]).movedim(-1, 1)
        box = [
            np.moveaxis(np.broadcast_to(bound, x.shape[1:]), -1, 0).copy()
            if np.ndim(bound)
            else bound
            for bound in self.estimator.clip_values
        ]
        result = super()._attack(
            _ChannelsLast(model),
            x.movedim(-1, 1),
            labels,
            mask=mask,
            clip_values=tuple(box),
            **options,
        )
        return replace(
            result,
            **{name: getattr(result, name).movedim(1, -1) for name in ("x_adv", "x_nearest")},
        )


class _ChannelsLast(nn.Module):
    """A model of images (H, W, C), asked with images (C, H, W)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) scores of rows (R, C, H, W)."""
        scores: Tensor = self.model(rows.movedim(1, -1))
        return scores

    def check_clean_outputs(self, scores: Tensor) -> None:
        """The check of the model inside."""
        EstimatorModel.check_clean_outputs(scores)
