"""Keywords that the attacks of a family share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.detection.base import Detector
from art_ext.core.geometry import ClipValues
from art_ext.core.losses import Loss
from art_ext.core.oracle import Judge
from art_ext.core.result import Callback
from art_ext.core.transforms import Transform

DETECTOR_LOSSES = ("auto", "penalty", "hinges", "none")


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackOptions:
    """Keywords of every attack on a model of scores.

    Attributes:
        targeted: True if y (or ``targets``) are classes to reach, not classes to leave. Default:
            False.
        targets: classes to reach, (N,) int64. They make the attack targeted, and y is not used
            then. Default: None.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero change. Default:
            None, all may change.
        max_queries: most forward rows charged to a sample, the clean check included. None: no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature. Default: (0, 1).
        outputs: what the model returns, ``"logits"`` or ``"probabilities"``. Default: logits.
        batch_size: most rows in one model call. It never changes a decision. Default: 256.
        sample_ids: (N,) int64 identities that key the random streams. Default: None, a fingerprint
            of each sample's float32 bits.
        device: where inputs go for models without parameters. Default: None, the device of x.
        callback: called with a ``Progress`` after each round of model calls. Default: None.
        seed: of the random streams. Default: None, which draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes. Default: 0.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.
        amp: True computes gradients in bfloat16 under ``torch.autocast``. Each success is verified
            by a forward in float32, for a further query, and ``max_queries`` pays for both. The
            clean check and candidates without a gradient are in float32. Default: False.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, and each row that the detector needs is a query: with S squeezed copies one
            answer costs 1 + S queries. Default: None.
        detector_weight: factor, > 0, of the penalty that the loss gets for rejected rows.
            Default: 1.
        detector_loss: that penalty. ``"penalty"``: ``max(0, score - threshold)`` over the
            interquartile range of the clean scores, once a row reaches the goal. ``"hinges"``: the
            margins of a row and of all its squeezed copies, below ``log((K - 1) (2 - t) / t)`` for
            the threshold t. If that is negative, of rejected rows only.
            ``"none"``: an attack that does not know the detector, with the same test of success.
            ``"auto"``: the form that the detector names. Attacks inside a ball then ascend their
            own loss until a row reaches the goal, and descend the penalty alone from then on.
            Default: ``"auto"``.
    """

    targeted: bool = False
    targets: Tensor | None = None
    mask: Tensor | None = None
    max_queries: int | None = None
    clip_values: ClipValues = (0.0, 1.0)
    outputs: str = "logits"
    batch_size: int = 256
    sample_ids: Tensor | None = None
    device: torch.device | str | None = None
    callback: Callback | None = None
    seed: int | None = None
    pad_rows: int = 0
    channels_last: bool = False
    compile: bool = False
    amp: bool = False
    detector: Detector | None = None
    detector_weight: float = 1.0
    detector_loss: str = "auto"

    def __post_init__(self) -> None:
        check_penalty(self.detector_weight, self.detector_loss)
        if self.detector is None:
            for name in ("detector_weight", "detector_loss"):
                if getattr(self, name) != getattr(AttackOptions, name):
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} needs a detector: give detector= too"
                    )
        elif not isinstance(self.detector, Detector):
            raise ValueError(
                f"detector must be a Detector, fitted and calibrated, got {self.detector!r}"
            )
        if self.max_queries is not None:
            check_count("max_queries", self.max_queries)
            if self.detector is not None and self.max_queries < self.detector.rows:
                raise ValueError(
                    f"max_queries must be >= {self.detector.rows}, the rows of one answer with"
                    f" {self.detector.name}, got {self.max_queries}"
                )

    @property
    def max_answers(self) -> int | None:
        """The most answers that max_queries pays for. None: no limit."""
        if self.max_queries is None:
            return None
        answers = affordable(self.max_queries, self.detector)
        # the clean check needs no second one
        return 1 + (answers - 1) // 2 if self.amp else answers

    def remaining(self, spent: int) -> float:
        """Return the answers left to a sample after so many. Without a limit, infinity."""
        return math.inf if self.max_answers is None else self.max_answers - spent


def check_penalty(detector_weight: float = 1.0, detector_loss: str = "auto") -> None:
    """Raise ValueError unless both keywords have values that ``AttackOptions`` takes."""
    check_positive("detector_weight", detector_weight)
    check_choice("detector_loss", detector_loss, DETECTOR_LOSSES)


# keywords that need gradients: finite differences vanish in bfloat16, and mix two transforms
NEEDS_GRADIENTS = ("amp", "transform")


def affordable(max_queries: int, detector: object) -> int:
    """Return the number of answers that so many queries pay for, with a detector or None."""
    return max_queries // int(getattr(detector, "rows", 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedRadiusOptions(AttackOptions):
    """Keywords of every fixed-radius attack: those of ``AttackOptions``, and these.

    Attributes:
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            ``"mean-logits"``, or a callable from the model's outputs (r, K) and the positions (r,)
            of their samples in x to (r,) numbers, such as the inner product with a target's
            embedding. A callable is ascended as it is, targeted or not. The probability margin is
            ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the margin over the difference
            of the largest and third largest score, and with fewer than four classes the margin.
            ``"mean-logits"`` is the margin of the mean logits of the members of a
            ``JointEnsemble`` inside the model. Default: ``"ce"``.
        criterion: callable from the same to (r,) bool, True for a success, for models whose outputs
            are no class scores. Default: None, the predicted class differs from y, or is the
            target.
        stop_on_success: True stops a sample at its first success. Otherwise its last iterate that
            succeeded is reported. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            last iterate. Default: ``"input"``.
        transform: differentiable callable in front of the model for the loss only, from rows (r,
            *S), their identities (r,), the number of the step and the seed to r rows, such as
            ``input_diversity()``, whose defaults are ``"input-diversity"``. Success is checked on
            the plain rows, so that each gradient costs a further query, and so does the last loss
            of a trajectory if losses are compared (``hmcam``, ``auto_pgd``, restarts).
            ``max_queries`` pays for two queries an answer. Default: None.
    """

    loss: str | Loss = "ce"
    criterion: Judge | None = None
    stop_on_success: bool = False
    on_failure: str = "input"
    transform: str | Transform | None = None

    @property
    def max_answers(self) -> int | None:
        """The most answers that max_queries pays for, each with its transform. None: no limit."""
        if self.transform is None or self.max_queries is None:
            return super().max_answers
        return affordable(self.max_queries, self.detector) // 2


@dataclass(frozen=True, kw_only=True, eq=False)
class MinimumNormOptions(AttackOptions):
    """Keywords of every minimum-norm attack: those of ``AttackOptions``.

    Attributes:
        targets: classes to reach, (N,) int64, or a case. ``"average"``: a random wrong class for
            each sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in ``trace["target"]``
            and ``trace["success"]``, each (K - 1, N). ``art_ext.core.metrics.case_distortions``
            reads them. All but ``"average"`` attack all wrong classes side by side, and share
            max_queries evenly among them. Default: None.
    """

    targets: Tensor | str | None = None  # type: ignore[assignment]  # a text is resolved before
