"""Input gradients of a loss on a model's scores, charged to samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.core.acceleration import check_amp, lowered, unlowered
from art_ext.core.advice import advised
from art_ext.core.checks import check_flag
from art_ext.core.inspection import class_scores
from art_ext.core.interruption import ModelStopped
from art_ext.core.losses import Loss
from art_ext.core.oracle.labels import Model
from art_ext.core.oracle.scores import Judge, ScoreOracle, one_per_row


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
        transform: Judge | None = None,
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
            transform: from rows (r, *S) of a slice and their samples (r,) to rows for the model.
                The gradient is that of the rows before it. None: the rows themselves.

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
                seen = leaf if transform is None else transform(leaf, owner)
                padded = self.passes.pad(seen, owner)
                with self._precision:
                    answer = self._call(padded, fresh=len(padded) > len(owner))
                    output, lose = self._read(answer, padded, owner, loss)
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
                padded = self.passes.pad(leaf, owner)
                with self._precision:
                    answer = self._call(padded, fresh=len(padded) > len(owner))
                    output, lose = self._read(answer, padded, owner, losses)
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
        losses = one_per_row(loss(output, index), len(leaf))
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
