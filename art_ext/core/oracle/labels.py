"""Predicted labels of a model, charged to samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor, nn

from art_ext.core.acceleration import channels_last_weights
from art_ext.core.calling import ModelCall
from art_ext.core.calls import describing
from art_ext.core.checks import SampleError, check_choice, check_count, check_flag
from art_ext.core.expectation import expectation_in
from art_ext.core.geometry import ClipValues
from art_ext.core.inspection import REJECTED, Columns, CopyingCall, accepted, class_scores
from art_ext.core.interruption import ModelStopped
from art_ext.core.ledger import Ledger
from art_ext.core.networks import check_on_device, frozen_eval, model_device
from art_ext.core.outputs import OUTPUTS, OutputReader, predicted_classes
from art_ext.core.passes import Passes

Model = nn.Module | Callable[[Tensor], Tensor]
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
                raise SampleError(
                    "the model returns NaN for the clean input, first in sample {sample}",
                    int(index[has_nan][0]),
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
