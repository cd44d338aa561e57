"""Query-counted access to a model.

The type of the oracle is the threat model. A hard-label attack gets a ``LabelOracle``, which has
neither scores nor gradients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from art_ext.core.acceleration import channels_last_weights, check_amp, lowered, unlowered
from art_ext.core.advice import advised
from art_ext.core.calling import ModelCall
from art_ext.core.calls import describing
from art_ext.core.checks import check_choice, check_count, check_flag
from art_ext.core.ensemble import Ensemble
from art_ext.core.expectation import expectation_in
from art_ext.core.features import FeatureTap
from art_ext.core.geometry import ClipValues
from art_ext.core.inspection import REJECTED, Columns, CopyingCall, accepted, class_scores
from art_ext.core.interruption import ModelStopped
from art_ext.core.ledger import Ledger
from art_ext.core.losses import Loss
from art_ext.core.networks import check_on_device, frozen_eval, model_device
from art_ext.core.outputs import OUTPUTS, OutputReader, predicted_classes
from art_ext.core.passes import Passes

logger = logging.getLogger("art_ext")

Model = nn.Module | Callable[[Tensor], Tensor]
Judge = Callable[[Tensor, Tensor], Tensor]
Self = TypeVar("Self", bound="LabelOracle")


class LabelOracle:
    """Predicted labels of a model, charged to the sample that each row belongs to.

    Use it as a context manager. Inside, an ``nn.Module`` is in eval mode without parameter
    gradients. The model is never moved. Inputs go to its device.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to (R, K) scores, one column of scores
            for two classes, or (R,) labels.
        num_samples: N, the number of samples in the ledger.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one call of the model.
        max_queries: maximum number of rows charged to one sample. None: no limit.
        clip_values: the box (lower, upper), as numbers or one value per feature.
        pad_rows: minimum number of rows in one call. Shorter slices are padded, because convolution
            kernels round differently for a few rows. Padding is counted in ``wasted_rows``.
        device: device of the inputs, for models without parameters. A network is on it already.
        default_device: device of the inputs if neither ``device`` nor the model names one.
        inspector: a detector that sees each row, or the confirmation of an ``Expectation``. Its
            columns follow the class scores in all outputs, the variants of a detector are charged
            too, and the predicted class of a rejected row is ``REJECTED``. Default: None.
        channels_last: True hands images (R, C, H, W) to the model in channels-last memory, and
            holds its convolution weights so. Results change by rounding. Default: False.
        compile: True calls the network through ``torch.compile``. Results change by rounding.
            Default: False.

    Attributes:
        ledger: the rows charged to each sample.
        queries: (N,) int64, its column of forward rows.
        wasted_rows: (N,) int64, its column of rows evaluated in vain.
        gradients: (N,) int64, its column of backward rows.
        cost: queries of one answer, more than 1 for a detector with variants.
        ids: (N,) int64 identities of the samples, for models that record their answers, or None.

    Raises:
        ValueError: if an argument is out of range.
    """

    begins_draws = True  # of an ``Expectation`` with a seed

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
        inspector: Columns | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        if not callable(model):
            raise ValueError(
                f"model must be an nn.Module or a callable of a tensor, got {type(model).__name__}"
            )
        check_choice("outputs", outputs, OUTPUTS)
        check_count("batch_size", batch_size)
        check_count("pad_rows", pad_rows, least=0)
        check_flag("channels_last", channels_last)
        check_flag("compile", compile)
        if max_queries is not None:
            check_count("max_queries", max_queries)
        self.model = model
        self.outputs = outputs
        self.batch_size = batch_size
        self.max_queries = max_queries
        self.clip_values = clip_values
        self.device = model_device(model, device, default_device or torch.device("cpu"))
        if device is not None:
            check_on_device(model, self.device)
        self.inspector = inspector
        self.cost = 1 if inspector is None else inspector.cost
        self.ledger = Ledger(num_samples, max_queries, self.device, self.cost)
        self.queries = self.ledger.queries
        self.wasted_rows = self.ledger.wasted_rows
        self.gradients = self.ledger.gradients
        self.reader = OutputReader(outputs)
        self.channels_last = channels_last
        sizes = {"batch_size": batch_size, "pad_rows": pad_rows}
        kind = ModelCall if inspector is None else CopyingCall
        call = kind(model, channels_last=channels_last, compile=compile)
        self.passes = (
            Passes(call, self.reader, self.ledger, **sizes)
            if inspector is None
            else inspector.passes(call, self.reader, self.ledger, **sizes)
        )
        self.ids: Tensor | None = None
        self._expectation = expectation_in(model)
        self._entered = ExitStack()

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a model with scores, known after its first call."""
        return self.reader.num_classes

    def __enter__(self: Self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(frozen_eval(self.model))
            if self.channels_last:
                stack.enter_context(channels_last_weights(self.model))
            stack.enter_context(describing(lambda: self.passes.described(self.ids)))
            if self.inspector is not None and self.inspector.tap is not None:
                stack.enter_context(self.inspector.tap)
            if self._expectation is not None and self.begins_draws:
                self._expectation.restart()
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, ModelStopped):
            self.ledger.take_back()
        self._entered.__exit__(kind, error, trace)

    def labels(
        self, rows: Tensor, index: Tensor, *, speculative: bool = False, fresh: bool = False
    ) -> Tensor:
        """Return (R,) int64 predicted classes of rows (R, *S). A row of NaN gives ``NO_LABEL``.

        Args:
            rows: inputs in the box.
            index: (R,) int64, the sample each row is charged to.
            speculative: count the rows as wasted. The attack then claims those rows that a
                sequential attack would have queried (``ledger.claim``).
            fresh: True if the model may overwrite the rows.

        Raises:
            RuntimeError: if a charge would exceed ``max_queries``. The model is not called then.
            ValueError: if the model returns neither (rows, classes) scores nor class indices.
        """
        if not len(rows):
            return torch.empty_like(index)
        if speculative:
            self.ledger.speculate(index)
        else:
            self.ledger.charge(index)
        return self.predict(self.passes.forward(rows, index, fresh))

    def clean_labels(self, x: Tensor) -> Tensor:
        """Return (N,) predicted classes of the clean inputs, for one query each.

        Raises:
            ValueError: as ``clean_outputs``, or for labels that are no class indices. The message
                names the first sample.
        """
        if not len(x):
            return torch.empty(0, dtype=torch.int64, device=self.device)
        return self.predict(self.clean_outputs(x))

    def clean_outputs(self, x: Tensor) -> Tensor:
        """Return scores (N, K) or labels (N,) of clean inputs (N, *S), for one query each.

        Raises:
            ValueError: if the model returns NaN, or probabilities outside [0, 1].
        """
        index = torch.arange(len(x), device=self.device)
        self.ledger.charge(index)
        outputs = self.passes.forward(x, index)
        self.check_clean(outputs)
        return outputs

    def check_clean(self, outputs: Tensor) -> None:
        """Raise ValueError if outputs for all clean inputs (N, *S) hold NaN or are of another kind.

        A model may have a check of its own, ``check_clean_outputs``, which gets the same outputs.
        """
        self.check_known(outputs, torch.arange(len(outputs), device=self.device))
        outputs = class_scores(outputs, self.inspector)
        self.reader.check_clean(outputs)
        own_check = getattr(self.model, "check_clean_outputs", None)
        if own_check is not None:
            own_check(outputs)

    def check_known(self, outputs: Tensor, index: Tensor) -> None:
        """Raise ValueError if clean outputs of the samples in index (R,) hold NaN."""
        outputs = class_scores(outputs, self.inspector)
        if outputs.is_floating_point():
            has_nan = outputs.isnan().reshape(len(outputs), -1).any(dim=1)
            if bool(has_nan.any()):
                first = int(index[has_nan][0])
                raise ValueError(
                    f"the model returns NaN for the clean input, first in sample {first}"
                )

    def predict(self, outputs: Tensor) -> Tensor:
        """Return (R,) int64 predicted classes of scores or labels. A row of NaN gives ``NO_LABEL``,
        and a row that the detector rejects ``REJECTED``.

        Raises:
            ValueError: if a label is not an integer >= 0.
        """
        classes = self.classes(outputs)
        return classes if self.inspector is None else classes.where(accepted(outputs), REJECTED)

    def classes(self, outputs: Tensor) -> Tensor:
        """Return (R,) int64 classes as ``predict`` does, whatever a detector says."""
        return predicted_classes(class_scores(outputs, self.inspector), self.outputs)


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
        self._averages_losses = isinstance(model, Ensemble) and model.average == "losses"

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
        self, rows: Tensor, index: Tensor, loss: Loss, judge: Judge | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs (R, K) for rows (R, *S), for one query each, and their losses (R,).

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            loss: from the outputs (r, K) of a slice and its samples (r,) to per-row losses (r,).
            judge: called with the same arguments before the loss is computed.
        """
        self.ledger.charge(index)
        outputs = []
        losses = []
        with torch.no_grad():
            for part, owner in self.passes.slices(rows, index):
                output, lose = self._answer(part, owner, loss)
                if judge is not None:
                    judge(output, owner)
                outputs.append(output)
                losses.append(_one_per_row(lose(output, owner), len(part)))
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

    def _answer(self, rows: Tensor, owner: Tensor, loss: Loss) -> tuple[Tensor, Loss]:
        """Return outputs for one slice of rows of the samples in owner (r,), and their loss.

        The loss is the one given, or an average over the members of an ensemble.
        """
        padded = self.passes.pad(rows, owner)
        if not self._averages_losses:
            outputs = self.passes.model_call(padded, fresh=len(padded) > len(owner))
            return self.passes.read(outputs, padded, owner), loss
        ensemble = cast(Ensemble, self.model)
        members = [
            self.passes.checked(logits, padded, len(owner))
            for logits in ensemble.member_logits(padded)
        ]

        def average(_: Tensor, index: Tensor) -> Tensor:
            return ensemble.average_loss(members, index, loss)

        return ensemble.combine(members), average


class Differentiated(NamedTuple):
    """Outputs, losses and input gradients of R rows, all detached.

    Attributes:
        outputs: (R, K).
        losses: (R,).
        gradient: (R, *S), zero for rows that were not differentiated.
    """

    outputs: Tensor
    losses: Tensor
    gradient: Tensor


class GradientOracle(ScoreOracle):
    """A ``ScoreOracle`` that also gives a per-sample loss and its input gradient.

    Args:
        model: as of ``LabelOracle``.
        num_samples: as of ``LabelOracle``.
        amp: True runs the gradient passes in bfloat16, from a call of ``lower`` on. Default: False.
        **options: further arguments of ``LabelOracle``.

    Raises:
        ValueError: also for ``amp`` on a device without bfloat16.
    """

    def __init__(
        self, model: Model, num_samples: int, *, amp: bool = False, **options: object
    ) -> None:
        super().__init__(model, num_samples, **options)
        check_flag("amp", amp)
        if amp:
            check_amp(self.device)
        self.amp = amp
        self._reaches: Judge | None = None
        self._precision: AbstractContextManager[object] = nullcontext()

    def lower(self, reaches: Judge) -> None:
        """Run the gradient passes in bfloat16 from now on, if ``amp`` was given.

        A row whose outputs reach the goal is sent again, in float32, for a further query. Its
        outputs are those of the second pass. All other passes stay in float32.

        Args:
            reaches: from outputs (r, K) and their samples (r,) to (r,) bool, the rows to verify.
        """
        if self.amp:
            self._reaches = reaches
            self._precision = lowered(self.device)
            self.ledger.verified = True

    def gradient(
        self,
        rows: Tensor,
        index: Tensor,
        loss: Loss,
        judge: Judge | None = None,
        *,
        verify: bool = True,
    ) -> Differentiated:
        """Return outputs, losses and the gradient of each row's own loss.

        Each row costs one query and one gradient, and after ``lower`` a further query if it reaches
        the goal. The loss is summed over the batch, never averaged, so a row's gradient does not
        depend on the other rows.

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            loss: from the outputs (r, K) of a slice and its samples (r,) to per-row losses (r,).
            judge: called with the detached outputs and the samples before the loss is computed.
                Returns (r,) bool: the rows to differentiate. The others cost one query and no
                gradient. None: all rows.
            verify: False for rows that are no candidates. None of them is sent again then.

        Raises:
            ValueError: if the loss does not have one entry per row, or does not depend on the input
                through autograd.
        """
        self.ledger.charge(index)
        parts = []
        for part, owner in self.passes.slices(rows, index):
            with torch.enable_grad():
                # the model gets a copy of it, as part of the graph
                leaf = part.detach().requires_grad_(True)
                with self._precision:
                    output, lose = self._answer(leaf, owner, loss)
                if self._reaches is not None and verify:
                    # before the second pass, which replaces the features that a loss may read
                    lose = _known(lose(output, owner))
                    output = self._verified(self._reaches, output, part, owner)
                # before the loss: a caller may learn the labels, which the loss needs, from the
                # clean outputs
                chosen = None if judge is None else judge(output.detach(), owner)
                parts.append(self._differentiated(leaf, output, lose, owner, chosen))
        if len(parts) == 1:
            return parts[0]
        return Differentiated(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _verified(self, reaches: Judge, outputs: Tensor, rows: Tensor, owner: Tensor) -> Tensor:
        """Return outputs (r, K) with float32 answers in the rows that reach the goal."""
        places = reaches(outputs.detach(), owner).nonzero().squeeze(1)
        if not len(places):
            return outputs
        index = owner.index_select(0, places)
        pending = self.ledger.pending
        self.ledger.charge(index)
        try:
            with unlowered(self.device):
                answers = self.passes.forward(rows.index_select(0, places), index, fresh=True)
        except ModelStopped:
            if pending is not None and self.ledger.pending is not None:
                unanswered = pending[len(owner) :]
                self.ledger.pending = torch.cat([self.ledger.pending, unanswered])
            raise
        return outputs.index_copy(0, places, answers.to(outputs.dtype))

    def gradient_sizes(
        self, rows: Tensor, index: Tensor, losses: Loss, measure: Callable[[Tensor, slice], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return C losses of each row, and the size of the gradient of each of them, (R, C) both.

        Each row costs one query and C gradients. One slice of ``batch_size`` rows goes backward at
        a time, for one loss at a time, so that no more memory is needed than for ``gradient``.

        Args:
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
            losses: from the outputs (r, K) of a slice and its samples (r,) to (r, C).
            measure: from gradients (r, *S) of the rows in a slice to (r,).

        Raises:
            ValueError: if the losses do not depend on the input through autograd.
        """
        self.ledger.charge(index)
        values = []
        sizes = []
        start = 0
        for part, owner in self.passes.slices(rows, index):
            place = slice(start, start + len(part))
            start = place.stop
            with torch.enable_grad():
                leaf = part.detach().requires_grad_(True)
                with self._precision:
                    output, lose = self._answer(leaf, owner, losses)
                found = lose(output, owner)
                if not found.requires_grad:
                    raise self._no_gradient(output)
                columns = found.unbind(dim=1)
                slopes = []
                for column, loss in enumerate(columns, start=1):
                    (gradient,) = torch.autograd.grad(
                        loss.sum(), leaf, retain_graph=column < len(columns), allow_unused=True
                    )
                    if gradient is None:
                        raise self._no_gradient(output)
                    slopes.append(measure(gradient, place))
            self.gradients.index_add_(0, owner, torch.full_like(owner, len(columns)))
            values.append(found.detach())
            sizes.append(torch.stack(slopes, dim=1))
        return torch.cat(values), torch.cat(sizes)

    def _differentiated(
        self, leaf: Tensor, output: Tensor, loss: Loss, index: Tensor, chosen: Tensor | None
    ) -> Differentiated:
        """Differentiate the losses of the rows (r, *S).

        ``chosen`` (r,) bool names the rows to differentiate. None: all rows.
        """
        slopes = torch.ones_like(index) if chosen is None else chosen.to(torch.int64)
        self.gradients.index_add_(0, index, slopes)
        losses = _one_per_row(loss(output, index), len(leaf))
        if not losses.requires_grad:
            raise self._no_gradient(output, of_loss=output.requires_grad)
        # not grad_outputs=slopes: PyTorch imports SymPy to check their shape
        total = (losses * slopes.to(losses.dtype)).sum()
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
        if gradient is None:
            raise self._no_gradient(output)
        return Differentiated(output.detach(), losses.detach(), gradient)

    def _no_gradient(self, output: Tensor, *, of_loss: bool = False) -> ValueError:
        """Return the error of a model, or a loss, without gradients, from outputs (r, K).

        Raises:
            ValueError: for one-hot rows, which serve no attack on scores either.
        """
        self._check_soft(class_scores(output.detach(), self.inspector))
        black_box = f"use a black-box attack: {advised('labels', 'scores')}"
        if of_loss:
            return ValueError(
                f"the loss does not depend on the input through autograd: {black_box}"
            )
        return ValueError(
            "the model's output does not depend on the input through autograd, as with int8 layers,"
            f" NumPy or torch.no_grad() inside: {black_box}"
        )


def _known(losses: Tensor) -> Loss:
    """Return a loss that is computed already."""
    return lambda outputs, index: losses


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate the slices of a batch, without a copy if there is one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _one_per_row(losses: Tensor, count: int) -> Tensor:
    if losses.shape != (count,):
        raise ValueError(
            f"loss must return one value for each of {count} rows, got shape {tuple(losses.shape)}"
        )
    return losses
