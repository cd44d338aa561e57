"""What an attacker may ask of a model, and the exact ledger of what was asked.

The type of the oracle is the threat model: a hard-label attack gets a ``LabelOracle`` and cannot
    reach a score or a
gradient, because its oracle has none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall, outside_inference_mode
from art_ext.core.checks import check_choice, check_count
from art_ext.core.ensemble import Ensemble
from art_ext.core.geometry import ClipValues
from art_ext.core.losses import Loss
from art_ext.core.networks import frozen_eval, model_device
from art_ext.core.outputs import OUTPUTS, OutputReader, predicted_classes

logger = logging.getLogger("art_ext")

Model = nn.Module | Callable[[Tensor], Tensor]
Judge = Callable[[Tensor, Tensor], Tensor]
Self = TypeVar("Self", bound="LabelOracle")


class LabelOracle:
    """Predicted labels of a model, charged to the sample that each row belongs to.

    Use it as a context manager: inside, an ``nn.Module`` is in eval mode and its parameters ask for
        no gradient.
    The model is never moved; inputs go to its device.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to (R, K) scores, one column of scores
            for two classes, or (R,) labels.
        num_samples: N, the number of samples in the ledger.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: most rows in one call of the model.
        max_queries: most rows that may be charged to one sample; None for no limit.
        clip_values: the box (lower, upper); numbers, or one value per feature.
        pad_rows: slices of fewer rows are padded to this many, since convolution kernels round
            differently for a few rows; padding is counted in ``wasted_rows``.
        device: where inputs go, for models without parameters.

    Attributes:
        queries, wasted_rows, gradients: (N,) int64, the ledger.

    Raises:
        ValueError: for values that make no sense; the message says what was given and what was
            wanted.
    """

    def __init__(
        self,
        model: Model,
        num_samples: int,
        *,
        outputs: str = "logits",
        batch_size: int = 256,
        max_queries: int | None = None,
        clip_values: ClipValues | None = (0.0, 1.0),
        pad_rows: int = 0,
        device: torch.device | str | None = None,
        default_device: torch.device | None = None,
    ) -> None:
        if not callable(model):
            raise ValueError(
                f"model must be an nn.Module or a callable of a tensor, got {type(model).__name__}"
            )
        check_choice("outputs", outputs, OUTPUTS)
        check_count("batch_size", batch_size)
        check_count("pad_rows", pad_rows, least=0)
        if max_queries is not None:
            check_count("max_queries", max_queries)
        self.model = model
        self._ask_model = ModelCall(model)
        self.outputs = outputs
        self.batch_size = batch_size
        self.max_queries = max_queries
        self.clip_values = clip_values
        self.pad_rows = pad_rows
        self.device = model_device(model, device, default_device or torch.device("cpu"))
        with outside_inference_mode():
            self.queries = torch.zeros(num_samples, dtype=torch.int64, device=self.device)
            self.wasted_rows = torch.zeros_like(self.queries)
            self.gradients = torch.zeros_like(self.queries)
        self.reader = OutputReader(outputs)
        self._hygiene = frozen_eval(model)

    @property
    def num_classes(self) -> int | None:
        """The number of classes of a model with scores, known after its first call."""
        return self.reader.num_classes

    def __enter__(self: Self) -> Self:
        self._hygiene = frozen_eval(self.model)
        self._hygiene.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hygiene.__exit__(kind, error, trace)

    def remaining(self, index: Tensor) -> Tensor:
        """Queries each sample in index (B,) may still ask."""
        if self.max_queries is None:
            return torch.full_like(index, torch.iinfo(torch.int64).max)
        return self.max_queries - self.queries.index_select(0, index)

    def labels(
        self, rows: Tensor, index: Tensor, *, speculative: bool = False, fresh: bool = False
    ) -> Tensor:
        """(R,) int64 predicted classes of rows (R, *S); ``NO_LABEL`` where the model returned NaN.

        Args:
            rows: inputs in the box.
            index: (R,) int64, the sample each row is charged to.
            speculative: enter the rows as wasted, because the attack decides from the answers which
                of them a sequential attacker would have asked, and says so with ``claim``.
            fresh: whether the model may write into these very rows, because nobody needs them
                afterwards.

        Raises:
            RuntimeError: if a charge would exceed ``max_queries``; the model is not called then.
            ValueError: if the model's answer is no (rows, classes) scores, or no class indices.
        """
        if not len(rows):
            return torch.empty_like(index)
        self._charge(index, speculative)
        return self.predict(self._forward(rows, index, fresh))

    def claim(self, index: Tensor, count: Tensor) -> None:
        """Turn ``count`` (B,) speculative rows of each sample in ``index`` (B,) into charged
        queries.
        """
        self.wasted_rows.index_add_(0, index, -count)
        self.queries.index_add_(0, index, count)
        self._check_budget()

    def clean_labels(self, x: Tensor) -> Tensor:
        """The clean check: (N,) predicted classes of the inputs themselves, one query each.

        Raises:
            ValueError: if the model returns NaN, probabilities outside [0, 1], or labels that are
                no class indices. The message names the first sample.
        """
        index = torch.arange(len(x), device=self.device)
        if not len(x):
            return index
        self._charge(index, False)
        outputs = self._forward(x, index)
        self.check_clean(outputs)
        return self.predict(outputs)

    def check_clean(self, outputs: Tensor) -> None:
        """Check the outputs for all clean inputs (N, *S).

        A model may bring a check of its own, ``check_clean_outputs``, which gets the same outputs.

        Raises:
            ValueError: if the model returns NaN, or probabilities outside [0, 1]; the message names
                the first sample.
        """
        self.check_known(outputs, torch.arange(len(outputs), device=self.device))
        self.reader.check_clean(outputs)
        own_check = getattr(self.model, "check_clean_outputs", None)
        if own_check is not None:
            own_check(outputs)

    def check_known(self, outputs: Tensor, index: Tensor) -> None:
        """Refuse NaN among the outputs for the clean inputs of the samples in index (R,)."""
        if outputs.is_floating_point():
            broken = outputs.isnan().reshape(len(outputs), -1).any(dim=1)
            if bool(broken.any()):
                first = int(index[broken][0])
                raise ValueError(
                    f"the model returns NaN for the clean input, first in sample {first}"
                )

    def _charge(self, index: Tensor, speculative: bool) -> None:
        column = self.wasted_rows if speculative else self.queries
        column.index_add_(0, index, torch.ones_like(index))
        if not speculative:
            self._check_budget()

    def _check_budget(self) -> None:
        if (
            self.max_queries is not None
            and len(self.queries)
            and int(self.queries.max()) > self.max_queries
        ):
            sample = int(self.queries.argmax())
            raise RuntimeError(
                f"an attack asked more than max_queries={self.max_queries} of sample {sample}"
            )

    def _slices(self, rows: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size], index[start : start + self.batch_size]

    def _pad(self, rows: Tensor, index: Tensor) -> Tensor:
        """Fill a short slice with copies of its last row, each of them wasted on that row's
        sample.
        """
        missing = self.pad_rows - len(rows)
        if missing <= 0:
            return rows
        self.wasted_rows[index[-1]] += missing
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])

    def _call(self, rows: Tensor, index: Tensor, fresh: bool = False) -> Tensor:
        """What the model says to one padded slice of rows, which belong to the samples in index
        (r,).
        """
        padded = len(rows) > len(index)  # such rows are a copy already
        outputs = self._ask_model(rows, fresh=fresh or padded)
        if self._ask_model.refused_rows:
            self._waste_refused(index)
        self.reader.output_dtype = self._ask_model.output_dtype
        return self._checked(outputs, rows, len(index))

    def _waste_refused(self, index: Tensor) -> None:
        """Enter the rows that the model refused, because they were not of its dtype, as wasted."""
        self.wasted_rows.index_add_(0, index, torch.ones_like(index))
        self.wasted_rows[index[-1]] += self._ask_model.refused_rows - len(index)
        self._ask_model.refused_rows = 0

    def _checked(self, outputs: Tensor, rows: Tensor, count: int) -> Tensor:
        """What came back for one padded slice, read as scores or labels, without the padding."""
        scores = self.reader(outputs, len(rows))
        return (scores if count == len(rows) else scores[:count]).to(self.device)

    def _forward(self, rows: Tensor, index: Tensor, fresh: bool = False) -> Tensor:
        with torch.no_grad():
            parts = [
                self._call(self._pad(part, owner), owner, fresh)
                for part, owner in self._slices(rows, index)
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def predict(self, outputs: Tensor) -> Tensor:
        """(R,) int64 predicted classes of scores or labels that the model gave; ``NO_LABEL`` for a
        row with NaN.

        Raises:
            ValueError: if a label is no whole number >= 0.
        """
        return predicted_classes(outputs, self.outputs)


class ScoreOracle(LabelOracle):
    """Logits or probabilities too; otherwise a ``LabelOracle``.

    Raises:
        ValueError: if the model returns labels only, or (at the clean check) nothing but one-hot
            rows.
    """

    def __init__(self, model: Model, num_samples: int, **options: object) -> None:
        super().__init__(model, num_samples, **options)  # type: ignore[arg-type]
        if self.outputs == "labels":
            raise ValueError(
                "this attack needs scores: outputs='labels' serves hard-label attacks such as rays"
                " only"
            )

    def scores(self, rows: Tensor, index: Tensor) -> Tensor:
        """(R, K) outputs for rows (R, *S), one query each."""
        self._charge(index, False)
        return self._forward(rows, index)

    def evaluate(
        self, rows: Tensor, index: Tensor, loss: Loss, judge: Judge | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs (R, K) for rows (R, *S), one query each, and their losses (R,).

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            loss: from the outputs (r, K) of a slice and its samples (r,) to per-row losses (r,).
            judge: is shown the same before the loss is computed.
        """
        self._charge(index, False)
        outputs, losses = [], []
        with torch.no_grad():
            for part, owner in self._slices(rows, index):
                output, lose = self._answer(self._pad(part, owner), owner)
                if judge is not None:
                    judge(output, owner)
                outputs.append(output)
                losses.append(_one_per_row(lose(loss, owner), len(part)))
        return torch.cat(outputs), torch.cat(losses)

    def check_clean(self, outputs: Tensor) -> None:
        """Refuse NaN and rows that carry no score, and warn of probabilities that pass for
        logits.
        """
        super().check_clean(outputs)
        if len(outputs) and bool(self._hard(outputs).all()):
            raise ValueError(
                "the model returns one-hot rows, which carry no score: use a hard-label attack such"
                " as rays, or hand over the logits"
            )
        if self.outputs == "logits" and len(outputs) and bool((outputs >= 0).all()):
            total = outputs.sum(dim=1)
            if bool(((total - 1).abs() < 1e-4).all()):
                logger.warning(
                    "the model's rows look like probabilities: if they are, say"
                    " outputs='probabilities'"
                )

    def _hard(self, outputs: Tensor) -> Tensor:
        """(R,) bool: rows that are one-hot or, of a single column of logits, hold -1, 0 or 1."""
        if self.reader.single_column and self.outputs == "logits":
            return (outputs[:, 1] == 0) | (outputs[:, 1].abs() == 1)
        binary = ((outputs == 0) | (outputs == 1)).all(dim=1)
        return binary & (outputs.sum(dim=1) == 1)

    def _answer(
        self, rows: Tensor, owner: Tensor
    ) -> tuple[Tensor, Callable[[Loss, Tensor], Tensor]]:
        """The outputs for one padded slice of the samples in owner (r,), and how to apply a loss
        to them.
        """
        if isinstance(self.model, Ensemble) and self.model.average == "losses":
            ensemble = self.model
            members = [
                self._checked(logits, rows, len(owner)) for logits in ensemble.member_logits(rows)
            ]
            return ensemble.combine(members), lambda loss, index: ensemble.average_loss(
                members, index, loss
            )
        output = self._call(rows, owner)
        return output, lambda loss, index: loss(output, index)


class Differentiated(NamedTuple):
    """What a model says to R rows, and how the loss of each changes with its input; all detached.

    Attributes:
        outputs: (R, K).
        losses: (R,).
        gradient: (R, *S); zero for rows that were not differentiated.
    """

    outputs: Tensor
    losses: Tensor
    gradient: Tensor


class GradientOracle(ScoreOracle):
    """A per-sample loss and its input gradient too; otherwise a ``ScoreOracle``."""

    def gradient(
        self, rows: Tensor, index: Tensor, loss: Loss, judge: Judge | None = None
    ) -> Differentiated:
        """Outputs and losses at rows, and the gradient of each row's own loss: one query and one
        gradient per row.

        The loss is summed, never averaged, over the batch: a row's gradient does not depend on its
            neighbours.

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            loss: from the outputs (r, K) of a slice and its samples (r,) to per-row losses (r,).
            judge: from the same, detached, and before the loss is computed, to (r,) bool: which
                rows the attacker, having seen the outputs, wants to differentiate. The others cost
                one query and no gradient. None wants all.

        Raises:
            ValueError: if the loss has not one entry per row, or does not depend on the input
                through autograd.
        """
        self._charge(index, False)
        parts = [
            self._differentiate(part, owner, loss, judge)
            for part, owner in self._slices(rows, index)
        ]
        if len(parts) == 1:
            return parts[0]
        return Differentiated(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _differentiate(
        self, rows: Tensor, index: Tensor, loss: Loss, judge: Judge | None
    ) -> Differentiated:
        with torch.enable_grad():
            # the model gets a copy of it, as part of the graph
            leaf = rows.detach().requires_grad_(True)
            output, lose = self._answer(self._pad(leaf, index), index)
            # before the loss: a caller may learn the labels, which the loss needs, from the clean
            # outputs
            chosen = (
                torch.ones_like(index)
                if judge is None
                else judge(output.detach(), index).to(torch.int64)
            )
            self.gradients.index_add_(0, index, chosen)
            losses = _one_per_row(lose(loss, index), len(rows))
            if not losses.requires_grad:
                raise ValueError(_NO_GRADIENT if not output.requires_grad else _NO_GRADIENT_OF_LOSS)
            slopes = chosen.to(losses.dtype)
            (gradient,) = torch.autograd.grad(losses, leaf, grad_outputs=slopes, allow_unused=True)
            if gradient is None:
                raise ValueError(_NO_GRADIENT)
        return Differentiated(output.detach(), losses.detach(), gradient)


_BLACK_BOX = "take a black-box attack: rays, nes, frank_wolfe_black_box or zoo"
_NO_GRADIENT = (
    "the model's output does not depend on the input through autograd, as with int8 layers, NumPy"
    f" or torch.no_grad() inside: {_BLACK_BOX}"
)
_NO_GRADIENT_OF_LOSS = f"the loss does not depend on the input through autograd: {_BLACK_BOX}"


def _one_per_row(losses: Tensor, count: int) -> Tensor:
    if losses.shape != (count,):
        raise ValueError(
            f"loss must return one value for each of {count} rows, got shape {tuple(losses.shape)}"
        )
    return losses
