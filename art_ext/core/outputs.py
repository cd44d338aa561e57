"""Read what a model returns: one function makes class scores of it, another one predicted classes.

Every part of the package that asks a model reads the answer here, so that all of them accept the
same models.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from art_ext.core.losses import in_simplex

logger = logging.getLogger("art_ext")

OUTPUTS = ("logits", "probabilities", "labels")
# stands for the label of a row of NaN; ``predicted_classes`` accepts no negative label from a model
NO_LABEL = -1
RANGE_TOLERANCE = 1e-4  # how far outside [0, 1] a probability may lie
SUM_TOLERANCE = 1e-3  # how far from 1 the probabilities of a row may sum up


def read_outputs(outputs: object, rows: int, kind: str) -> Tensor:
    """Turn what a model returned for a batch into (rows, classes) scores or, for labels, into
    (rows,) labels.

    A single column stands for two classes. A logit z is read as the logits (0, z), a probability p
    as (1 - p, p). Autograd passes through, and no row depends on another one. The labels are as the
    model gave them: ``predicted_classes`` checks them.

    Args:
        outputs: what the model returned: a tensor of shape (rows, classes), (rows, 1) or (rows,).
        rows: how many inputs it was given.
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Raises:
        ValueError: if outputs are no tensor, or their shape or type does not fit.
    """
    if not isinstance(outputs, Tensor):
        raise ValueError(f"the model must return a tensor, got {type(outputs).__name__}")
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
            f"one column of {kind} must be floating-point numbers, got {outputs.dtype}: say"
            " outputs='labels' if the model returns class indices"
        )
    column = outputs.reshape(rows, 1)
    if kind == "logits":
        return torch.cat([torch.zeros_like(column), column], dim=1)
    if column.dtype in (torch.float16, torch.bfloat16):
        column = column.float()  # 1 - p would lose every p below the type's machine epsilon
    return torch.cat([1 - column, column], dim=1)


def has_single_column(outputs: object, rows: int) -> bool:
    """True for a tensor of shape (rows, 1) or (rows,), and for a single value if there is one
    row.
    """
    if not isinstance(outputs, Tensor) or outputs.is_complex() or outputs.numel() != rows:
        return False
    return outputs.dim() < 2 or (outputs.dim() == 2 and len(outputs) == rows)


def _misfit(outputs: Tensor, rows: int, wanted: str) -> str:
    kind = f" of {outputs.dtype}" if outputs.is_complex() else ""
    return f"the model must return {wanted}, got shape {tuple(outputs.shape)}{kind} for {rows} rows"


def predicted_classes(outputs: Tensor, kind: str) -> Tensor:
    """(R,) int64 classes that a model predicts; ``NO_LABEL`` for a row with NaN.

    Args:
        outputs: (R, classes) scores or (R,) labels, as ``read_outputs`` gave them.
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Raises:
        ValueError: if a label is no whole number >= 0. The message names the first one, its row and
            the remedy.
    """
    if kind != "labels":
        # a row of NaN has no label: it must never pass for a changed prediction
        return outputs.argmax(dim=1).masked_fill(outputs.isnan().any(dim=1), NO_LABEL)
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
    """What is wrong with the first label that is no class index, and how to mend it."""
    row = int(wrong.to(torch.uint8).argmax())
    value = outputs[row].item()
    shown = f"{value:.6g}" if isinstance(value, float) else value
    if bool(((outputs == 1) | (outputs == -1)).all()):
        remedy = "pass lambda x: (model(x) + 1) // 2 for a model that answers -1 and 1"
    elif outputs.is_floating_point():
        remedy = "threshold the scores, or say outputs='probabilities' or outputs='logits'"
    else:
        remedy = "map the model's answers to class indices"
    return (
        "with outputs='labels' the model must return class indices, whole numbers >= 0, "
        f"got {shown} in row {row}: {remedy}"
    )


class OutputReader:
    """Reads the outputs of one model, and remembers what it learnt of them.

    Args:
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Attributes:
        num_classes: of the scores; None before the first call, and for labels.
        single_column: True if the model returns one column, which is read as two classes.
        output_dtype: in which the model returned them, if that is not the type of the scores.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.num_classes: int | None = None
        self.single_column = False
        self.output_dtype: torch.dtype | None = None

    def __call__(self, outputs: object, rows: int) -> Tensor:
        """``read_outputs``; the first single column is logged."""
        scores = read_outputs(outputs, rows, self.kind)
        if self.kind != "labels":
            self.num_classes = scores.shape[1]
            if scores is not outputs and not self.single_column:
                self.single_column = True
                logger.info(_READINGS[self.kind])
        return scores

    def check_clean(self, scores: Tensor) -> None:
        """Check the scores (R, classes) of clean inputs for what contradicts their kind.

        Raises:
            ValueError: if probabilities leave [0, 1] by more than ``RANGE_TOLERANCE``.
        """
        if self.kind == "probabilities" and len(scores):
            self._check_probabilities(scores)
        elif self.single_column and len(scores) and bool(self.like_probabilities(scores).all()):
            logger.warning(
                "all values of the model's one column lie in [0, 1]: if they are probabilities, say"
                " outputs='probabilities'. As logits, all of them predict class 1"
            )

    def like_probabilities(self, scores: Tensor) -> Tensor:
        """(R,) bool: rows of logits (R, classes) that look like probabilities.

        A single column looks so if all of its values lie in [0, 1].
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
            raise ValueError(
                "with outputs='probabilities' the model must return values in [0, 1], "
                f"got {value:.6g} for sample {row}: say outputs='logits' if these are logits"
            )
        unequal = int(sums_differ(scores, self.output_dtype).sum())
        if unequal:
            logger.warning(
                "the probabilities of %d of %d samples do not sum to 1: losses take them for the"
                " probabilities of classes that exclude each other",
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
    """(R,) bool: rows of probabilities (R, classes) that do not sum to 1 within ``SUM_TOLERANCE``.

    ``output_dtype`` is what the model returned them in, None for their own type. Its machine
    epsilon is tolerated.
    """
    source = output_dtype or probabilities.dtype
    coarse = torch.finfo(source).eps if source.is_floating_point else 0.0
    return (probabilities.float().sum(dim=1) - 1).abs() > max(SUM_TOLERANCE, coarse)
