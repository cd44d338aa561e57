"""Scores of a model, and losses of them, charged to samples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from art_ext.core.advice import advised
from art_ext.core.ensemble import Ensemble
from art_ext.core.features import FeatureTap
from art_ext.core.inspection import class_scores
from art_ext.core.losses import Loss
from art_ext.core.oracle.labels import LabelOracle, Model

logger = logging.getLogger("art_ext")

Judge = Callable[[Tensor, Tensor], Tensor]


class ScoreOracle(LabelOracle):
    """A ``LabelOracle`` that also gives logits or probabilities.

    Args:
        model: as of ``LabelOracle``.
        num_samples: as of ``LabelOracle``.
        **options: further arguments of ``LabelOracle``.

    Raises:
        ValueError: if the model returns labels only, or one-hot rows only (at the clean check).
    """

    def __init__(self, model: Model, num_samples: int, **options: object) -> None:
        super().__init__(model, num_samples, **options)  # type: ignore[arg-type]
        if self.outputs == "labels":
            raise ValueError(
                "this attack needs scores: outputs='labels' serves hard-label attacks such as"
                f" {advised('labels')} only"
            )
        averages = isinstance(model, Ensemble) and model.average == "losses"
        self._members = cast(Ensemble, self.model) if averages else None

    def scores(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return (R, K) outputs for rows (R, *S), for one query each."""
        self.ledger.charge(index)
        return self.passes.forward(rows, index)

    def features(self, layer: str | None = None) -> FeatureTap:
        """Return a tap of features, in the same passes as the scores. They cost no query.

        Enter it around calls of this oracle, inside the oracle's own context. After a call with at
        most ``batch_size`` rows, and in the loss of ``gradient``, ``take(rows)`` gives the features
        of those rows.

        Args:
            layer: name of a module. None: the input of the last linear layer.

        Raises:
            ValueError: if the model is no network, or has no such module.
        """
        return FeatureTap(self.model, layer)

    def evaluate(
        self,
        rows: Tensor,
        index: Tensor,
        loss: Loss,
        judge: Judge | None = None,
        *,
        transform: Judge | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return outputs (R, K) for rows (R, *S), for one query each, and their losses (R,).

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            loss: from the outputs (r, K) of a slice and its samples (r,) to per-row losses (r,).
            judge: called with the same arguments before the loss is computed.
            transform: from rows (r, *S) of a slice and their samples (r,) to rows for the model.
                None: the rows themselves.
        """
        self.ledger.charge(index)
        outputs = []
        losses = []
        with torch.no_grad():
            for part, owner in self.passes.slices(rows, index):
                seen = part if transform is None else transform(part, owner)
                padded = self.passes.pad(seen, owner)
                answer = self._call(padded, fresh=len(padded) > len(owner))
                output, lose = self._read(answer, padded, owner, loss)
                if judge is not None:
                    judge(output, owner)
                outputs.append(output)
                losses.append(one_per_row(lose(output, owner), len(part)))
        return _joined(outputs), _joined(losses)

    def check_clean(self, outputs: Tensor) -> None:
        """Raise ValueError for NaN or one-hot rows. Warn of logits that look like probabilities."""
        super().check_clean(outputs)
        outputs = class_scores(outputs, self.inspector)
        self._check_soft(outputs)
        if self.outputs == "logits" and len(outputs) and bool((outputs >= 0).all()):
            total = outputs.sum(dim=1)
            if bool(((total - 1).abs() < 1e-4).all()):
                logger.warning(
                    "the model's rows look like probabilities: if they are, pass"
                    " outputs='probabilities'"
                )

    def _check_soft(self, outputs: Tensor) -> None:
        """Raise ValueError for one-hot rows (R, K)."""
        if len(outputs) and bool(self._hard(outputs).all()):
            raise ValueError(
                "the model returns one-hot rows, which carry no score: use a hard-label attack such"
                f" as {advised('labels')}, or return the logits"
            )

    def _hard(self, outputs: Tensor) -> Tensor:
        """Return (R,) bool: one-hot rows, or -1, 0 or 1 in a single column of logits."""
        if self.reader.single_column and self.outputs == "logits":
            return (outputs[:, 1] == 0) | (outputs[:, 1].abs() == 1)
        binary = ((outputs == 0) | (outputs == 1)).all(dim=1)
        return binary & (outputs.sum(dim=1) == 1)

    @property
    def _call(self) -> Callable[..., Any]:
        """The model, or the members of an ensemble, to be called with one padded slice of rows.

        The caller calls it by itself, so that no further frame lies between an attack and its
        model.
        """
        return self.passes.model_call if self._members is None else self._member_scores

    def _member_scores(self, rows: Tensor, *, fresh: bool) -> list[Tensor]:
        """Return the logits of each member of an ensemble for one padded slice of rows."""
        return cast(Ensemble, self._members).member_logits(rows)

    def _read(self, answer: Any, rows: Tensor, owner: Tensor, loss: Loss) -> tuple[Tensor, Loss]:
        """Return outputs from the answer for one padded slice, and the loss of them.

        The loss is the one given, or an average over the members of an ensemble.
        """
        ensemble = self._members
        if ensemble is None:
            return self.passes.read(answer, rows, owner), loss
        members = [self.passes.checked(logits, rows, len(owner)) for logits in answer]

        def average(_: Tensor, index: Tensor) -> Tensor:
            return ensemble.average_loss(members, index, loss)

        return ensemble.combine(members), average


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate the slices of a batch, without a copy if there is one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def one_per_row(losses: Tensor, count: int) -> Tensor:
    """Return losses, and raise ValueError unless there is one for each of the rows."""
    if losses.shape != (count,):
        raise ValueError(
            f"loss must return one value for each of {count} rows, got shape {tuple(losses.shape)}"
        )
    return losses
