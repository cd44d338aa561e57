"""Detectors inside an oracle: each answer of the model carries the verdict on its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from art_ext.core.calling import ModelCall
from art_ext.core.features import FeatureTap
from art_ext.core.ledger import Ledger
from art_ext.core.losses import logits_of
from art_ext.core.outputs import OutputReader
from art_ext.core.passes import Passes

if TYPE_CHECKING:
    from art_ext.core.detection.base import Detector

REJECTED = -2  # the class of a row that a detector rejects, which is no goal
FURTHER = 2  # columns behind the class scores: the excess and the term


class Evidence(NamedTuple):
    """The evidence on r rows.

    Attributes:
        outputs: (r, K) class scores, of the kind that the model returns.
        logits: (r, K) the same as logits.
        features: (r, F), or None for a detector that needs none.
        further: (r, K) logits of each variant of the rows.
        excess: (r,) ``(score - threshold) / scale``, positive for rejected rows and no others.
    """

    outputs: Tensor
    logits: Tensor
    features: Tensor | None
    further: tuple[Tensor, ...]
    excess: Tensor


Term = Callable[[Evidence, Tensor], Tensor]


class Columns:
    """Columns that an oracle appends to the class scores of each row: an excess and a term.

    A row with a positive excess is no success.

    Args:
        outputs: what the model returns.

    Attributes:
        kind: the same.
        cost: queries of one answer.
        tap: features of the latest pass. None: they are not needed.
    """

    cost = 1
    tap: FeatureTap | None = None

    def __init__(self, outputs: str) -> None:
        self.kind = outputs

    def passes(
        self, model_call: ModelCall, reader: OutputReader, ledger: Ledger, **sizes: int
    ) -> Passes:
        """Return passes of the model whose outputs carry the columns."""
        raise NotImplementedError


class Inspector(Columns):
    """A detector that sees each row of an attack.

    To the class scores (r, K) of the model it appends the excess (r,) and a term (r,) of the
    rows.

    Args:
        detector: fitted to the model, and calibrated.
        model: that is attacked.
        outputs: what the model returns.

    Attributes:
        term: from the evidence and the samples (r,) of its rows to the (r,) terms in the loss of an
            attack. None: zeros.
        tap: the features of the latest pass. None for a detector that needs none.

    Raises:
        ValueError: if the detector is not ready, belongs to another model, or needs more than the
            model shows.
    """

    def __init__(self, detector: Detector, model: object, outputs: str) -> None:
        name = detector.name
        if outputs == "labels":
            raise ValueError(f"the detector {name!r} needs scores, got outputs='labels'")
        if detector.model is None or detector.threshold is None:
            raise ValueError(
                f"the detector {name!r} must be fitted and calibrated before an attack: call"
                " fit(model, x, y) and calibrate(x)"
            )
        if detector.model is not model:
            raise ValueError(
                f"the detector {name!r} must be fitted to the model that is attacked, got one of"
                f" another {type(detector.model).__name__}: call fit(model, x, y)"
            )
        if getattr(model, "average", None) == "losses":
            raise ValueError(
                f"the detector {name!r} needs one output of the ensemble, got average='losses':"
                " take average='probabilities'"
            )
        super().__init__(outputs)
        self.detector = detector
        self.cost = detector.rows  # one for the row and one for each variant
        self.term: Term | None = None
        self.tap = FeatureTap(model, detector.layer) if detector.needs_features else None

    def passes(
        self, model_call: ModelCall, reader: OutputReader, ledger: Ledger, **sizes: int
    ) -> Passes:
        """Return passes that send the variants of each row too."""
        return InspectingPasses(self, model_call, reader, ledger, **sizes)

    def append(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...], owner: Tensor
    ) -> Tensor:
        """Return the outputs (r, K) with the columns excess and term, (r, K + 2).

        Args:
            outputs: of the rows.
            features: of the rows.
            further: (r, K) outputs of each variant.
            owner: (r,) the samples of the rows.
        """
        detector = self.detector
        logits = logits_of(outputs, self.kind)
        others = tuple(logits_of(one, self.kind) for one in further)
        scores = detector.measure(logits, features, others).float()
        excess = (scores - float(detector.threshold or 0.0)) / detector.scale
        # the sign is the detector's own decision, whatever the division rounds to
        least = torch.finfo(excess.dtype).tiny
        accepted = detector.accepts(scores.detach())
        excess = torch.where(accepted, excess.clamp(max=0), excess.clamp(min=least))
        if self.term is None:
            term = torch.zeros_like(excess)
        else:
            term = self.term(Evidence(outputs, logits, features, others, excess), owner)
        columns = torch.stack([excess, term.to(excess.dtype)], dim=1)
        return torch.cat([outputs, columns.to(outputs.dtype)], dim=1)


def class_scores(outputs: Tensor, inspector: Columns | None) -> Tensor:
    """Return the class scores (r, K), or labels (r,), of outputs without the columns."""
    if inspector is None:
        return outputs
    return outputs[:, 0] if inspector.kind == "labels" else outputs[:, :-FURTHER]


def accepted(outputs: Tensor) -> Tensor:
    """Return (r,) bool, True where outputs (r, K + 2) have no positive excess."""
    return outputs[:, -FURTHER] <= 0


def term_of(outputs: Tensor) -> Tensor:
    """Return (r,) the detector's term in the loss for the rows of outputs (r, K + 2)."""
    return outputs[:, -1]


class CopyingCall(ModelCall):
    """Call of a model that never overwrites the rows, which a detector looks at afterwards."""

    def __call__(self, rows: Tensor, *, fresh: bool = False) -> Tensor:
        """Return the outputs for rows (R, *S)."""
        return super().__call__(rows)


class InspectingPasses(Passes):
    """Passes whose outputs carry the columns of a detector.

    The variants of the rows of a call follow in calls of their own.

    Args:
        inspector: the detector.
        model_call: of the model that is attacked, which never overwrites the rows.
        *arguments, **options: as for ``Passes``, behind ``model_call``.
    """

    def __init__(
        self, inspector: Inspector, model_call: ModelCall, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(model_call, *arguments, **options)
        self.inspector = inspector

    def slices(self, rows: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows of each call, and the samples that they belong to."""
        for part, owner in super().slices(rows, index):
            self.ledger.answered = (len(part), 0)
            yield part, owner
        self.ledger.answered = (0, 0)

    def read(self, outputs: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Read the model's outputs for one padded slice, and send the variants of its rows."""
        count = len(index)
        found = super().read(outputs, rows, index)
        tap = self.inspector.tap
        features = None if tap is None else tap.take(count)
        further = []
        for number, variant in enumerate(self.inspector.detector.copies(rows[:count])):
            self.ledger.answered = (count, 1 + number)
            padded = self.pad(variant, index)
            further.append(super().read(self.model_call(padded), padded, index))
        return self.inspector.append(found, features, tuple(further), index)
