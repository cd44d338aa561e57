"""Readers of model outputs: class scores and predicted classes.

Every part of the package that calls a model reads its outputs here, so that all of them accept the
same models.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import SampleError
from art_ext.core.losses import in_simplex

logger = logging.getLogger("art_ext")

OUTPUTS = ("logits", "probabilities", "labels")
# Label of a row of NaN. ``predicted_classes`` accepts no negative label from a model.
NO_LABEL = -1
RANGE_TOLERANCE = 1e-4  # how far outside [0, 1] a probability may lie
SUM_TOLERANCE = 1e-3  # how far from 1 the probabilities of a row may sum up
SCORE_NAMES = ("logits", "out")  # of the class scores in an output with names
AUXILIARY = "aux"  # begins the names of outputs for a loss of the training


def read_outputs(outputs: object, rows: int, kind: str) -> Tensor:
    """Convert the outputs for a batch to (rows, classes) scores or, for labels, to (rows,) labels.

    A single column stands for two classes. A logit z is read as the logits (0, z), a probability p
    as (1 - p, p). Autograd passes through, and no row depends on another one. Labels are returned
    as they are, and ``predicted_classes`` checks them.

    Args:
        outputs: outputs of the model, a tensor of shape (rows, classes), (rows, 1) or (rows,), or
            an output that holds one, as ``find_scores`` reads it.
        rows: number of inputs.
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Raises:
        ValueError: if the outputs hold no such tensor, or its shape or type does not fit.
    """
    if not isinstance(outputs, Tensor):
        found = find_scores(outputs, rows)
        if found is None:
            raise ValueError(
                f"the model must return a tensor, got {type(outputs).__name__}{_contents(outputs)}"
            )
        outputs = found
    if kind == "labels":
        if outputs.numel() != rows or outputs.is_complex():
            raise ValueError(
                f"with outputs='labels' {_misfit(outputs, rows, '(rows,) class indices')}"
            )
        return outputs.flatten()
    if (
        outputs.dim() == 2
        and len(outputs) == rows
        and outputs.shape[1] >= 2
        and not outputs.is_complex()
    ):
        return outputs
    if not has_single_column(outputs, rows):
        wanted = f"(rows, classes) {kind}, or one column for two classes"
        raise ValueError(_misfit(outputs, rows, wanted))
    if not outputs.is_floating_point():
        raise ValueError(
            f"one column of {kind} must be floating-point numbers, got {outputs.dtype}: pass"
            " outputs='labels' if the model returns class indices, which hard-label attacks such as"
            " rays need"
        )
    column = outputs.reshape(rows, 1)
    if kind == "logits":
        return torch.cat([torch.zeros_like(column), column], dim=1)
    if column.dtype in (torch.float16, torch.bfloat16):
        column = column.float()  # 1 - p would lose every p below the type's machine epsilon
    return torch.cat([1 - column, column], dim=1)


def find_scores(outputs: object, rows: int) -> Tensor | None:
    """Return the tensor of scores in an output that is not a tensor, or None if it is not clear.

    This is a NumPy array, the attribute ``logits`` of an object, the entry ``logits`` or ``out`` of
    a mapping, or the only entry of shape (rows, classes) in a tuple or list. An output with
    auxiliary entries, which networks return in training mode, is not clear.

    Args:
        outputs: output of a model.
        rows: number of inputs.
    """
    array = as_tensor(outputs)
    if array is not None:
        return array
    named = _named_entries(outputs)
    entries = (as_tensor(named.get(name)) for name in SCORE_NAMES)
    scores = next((entry for entry in entries if entry is not None), None)
    if scores is not None:
        auxiliary = [name for name, entry in named.items() if str(name).startswith(AUXILIARY)]
        return None if any(named[name] is not None for name in auxiliary) else scores
    parts = map(as_tensor, outputs if isinstance(outputs, (tuple, list)) else ())
    fitting = [
        part
        for part in parts
        if part is not None and part.dim() == 2 and len(part) == rows and part.shape[1] >= 2
    ]
    return fitting[0] if len(fitting) == 1 else None


def as_tensor(value: object) -> Tensor | None:
    """Return a tensor, or the copy of an array of numbers. None for anything else."""
    if isinstance(value, Tensor):
        return value
    if type(value).__module__.partition(".")[0] != "numpy" or not hasattr(value, "dtype"):
        return None
    try:
        return torch.tensor(value)
    except (TypeError, ValueError):  # texts or objects
        return None


def _named_entries(outputs: object) -> Mapping[Any, Any]:
    """Return the entries of a mapping or a named tuple, or the attributes of an object."""
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, tuple):
        names = getattr(outputs, "_fields", ())
        return {name: getattr(outputs, name) for name in names}
    logits = getattr(outputs, "logits", None)
    return {**getattr(outputs, "__dict__", {}), "logits": logits}


def _contents(outputs: object) -> str:
    """Describe the tensors in an output, for a message."""
    named = _named_entries(outputs)
    parts = outputs if isinstance(outputs, (tuple, list)) else ()
    shown = [f"{name!r}" for name, entry in named.items() if isinstance(entry, Tensor)]
    shown = shown or [str(tuple(entry.shape)) for entry in parts if isinstance(entry, Tensor)]
    if not shown:
        return ""
    return (
        f" with {', '.join(shown)}, of which none is clearly the class scores: return them alone,"
        " and switch auxiliary outputs off"
    )


def has_single_column(outputs: object, rows: int) -> bool:
    """Return True for a tensor of shape (rows, 1) or (rows,).

    A single value counts if there is one row.
    """
    if not isinstance(outputs, Tensor) or outputs.is_complex() or outputs.numel() != rows:
        return False
    return outputs.dim() < 2 or (outputs.dim() == 2 and len(outputs) == rows)


def _misfit(outputs: Tensor, rows: int, wanted: str) -> str:
    kind = f" of {outputs.dtype}" if outputs.is_complex() else ""
    return f"the model must return {wanted}, got shape {tuple(outputs.shape)}{kind} for {rows} rows"


def predicted_classes(outputs: Tensor, kind: str) -> Tensor:
    """Return (R,) int64 predicted classes. A row of NaN gives ``NO_LABEL``.

    Args:
        outputs: (R, classes) scores or (R,) labels, as ``read_outputs`` gave them.
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Raises:
        ValueError: if a label is not an integer >= 0. The message names the first one, its row
            and the remedy.
    """
    if kind != "labels":
        # a row of NaN has no label: it must never pass for a changed prediction. NaN is the maximum
        # of its row, so that one reduction serves for both
        best, classes = outputs.max(dim=1)
        return classes.masked_fill_(best.isnan(), NO_LABEL)
    if outputs.dtype in (torch.bool, torch.uint8):
        return outputs.to(torch.int64)
    classes = outputs.to(torch.int64)
    wrong = classes < 0
    if outputs.is_floating_point():
        unknown = outputs.isnan()
        # also infinite or huge values
        wrong = (wrong | (classes.to(outputs.dtype) != outputs)) & ~unknown
        classes = classes.masked_fill(unknown, NO_LABEL)
    if bool(wrong.any()):
        raise ValueError(_wrong_label(outputs, wrong))
    return classes


def _wrong_label(outputs: Tensor, wrong: Tensor) -> str:
    """Describe the first label that is not a class index, and the remedy."""
    row = int(wrong.to(torch.uint8).argmax())
    value = outputs[row].item()
    shown = f"{value:.6g}" if isinstance(value, float) else value
    if bool(((outputs == 1) | (outputs == -1)).all()):
        remedy = "pass lambda x: (model(x) + 1) // 2 for a model that returns -1 and 1"
    elif outputs.is_floating_point():
        remedy = "threshold the scores, or pass outputs='probabilities' or outputs='logits'"
    else:
        remedy = "map the model's outputs to class indices"
    return (
        "with outputs='labels' the model must return class indices (integers >= 0), "
        f"got {shown} in row {row}: {remedy}"
    )


class OutputReader:
    """Reader of the outputs of one model.

    Args:
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Attributes:
        num_classes: number of classes. None before the first call, and for labels.
        single_column: True if the model returns one column, which is read as two classes.
        output_dtype: dtype of the model's outputs, if the scores have another one.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.num_classes: int | None = None
        self.single_column = False
        self.output_dtype: torch.dtype | None = None

    def __call__(self, outputs: object, rows: int) -> Tensor:
        """Apply ``read_outputs``. The first single column is logged."""
        if not isinstance(outputs, Tensor):
            found = find_scores(outputs, rows)
            outputs = outputs if found is None else found
        scores = read_outputs(outputs, rows, self.kind)
        if self.kind != "labels":
            self.num_classes = scores.shape[1]
            if scores is not outputs and not self.single_column:
                self.single_column = True
                logger.info(_READINGS[self.kind])
        return scores

    def check_clean(self, scores: Tensor) -> None:
        """Raise ValueError if scores (R, classes) of clean inputs contradict their kind.

        Raises:
            ValueError: if probabilities leave [0, 1] by more than ``RANGE_TOLERANCE``.
        """
        if self.kind == "probabilities" and len(scores):
            self._check_probabilities(scores)
        elif self.single_column and len(scores) and bool(self.like_probabilities(scores).all()):
            logger.warning(
                "all values of the model's one column lie in [0, 1]: if they are probabilities,"
                " pass outputs='probabilities'. As logits, all of them predict class 1"
            )

    def like_probabilities(self, scores: Tensor) -> Tensor:
        """Return (R,) bool: rows of logits (R, classes) that look like probabilities.

        A single column does if all of its values lie in [0, 1].
        """
        if not self.single_column:
            return in_simplex(scores)
        column = scores[:, 1]
        return ((column >= 0) & (column <= 1)).all().expand(len(scores))

    def _check_probabilities(self, scores: Tensor) -> None:
        given = scores[:, 1:] if self.single_column else scores
        outside = (given < -RANGE_TOLERANCE) | (given > 1 + RANGE_TOLERANCE)
        if bool(outside.any()):
            row = int(outside.any(dim=1).to(torch.uint8).argmax())
            value = float(given[row][outside[row]][0])
            raise SampleError(
                "with outputs='probabilities' the model must return values in [0, 1], got"
                f" {value:.6g} for sample {{sample}}: pass outputs='logits' if these are logits",
                row,
            )
        unequal = int(sums_differ(scores, self.output_dtype).sum())
        if unequal:
            logger.warning(
                "the probabilities of %d of %d samples do not sum to 1: losses assume classes that"
                " exclude each other",
                unequal,
                len(scores),
            )


_READINGS = {
    "logits": (
        "the model returns one column: each value z is read as the logits (0, z) of two classes"
    ),
    "probabilities": (
        "the model returns one column: each value p is read as probabilities (1 - p, p) of two"
        " classes"
    ),
}


def sums_differ(probabilities: Tensor, output_dtype: torch.dtype | None = None) -> Tensor:
    """Return (R,) bool: rows of probabilities that do not sum to 1 within ``SUM_TOLERANCE``.

    ``output_dtype`` is the dtype in which the model returned them. None: their own. Its machine
    epsilon is tolerated.
    """
    source = output_dtype or probabilities.dtype
    coarse = torch.finfo(source).eps if source.is_floating_point else 0.0
    return (probabilities.float().sum(dim=1) - 1).abs() > max(SUM_TOLERANCE, coarse)
