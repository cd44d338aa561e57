"""Calls of a model with a copy of the rows in a dtype that it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from art_ext.core.acceleration import Compiled
from art_ext.core.interruption import ModelStopped
from art_ext.core.outputs import find_scores

HALF_TYPES = (torch.float16, torch.bfloat16)
# Lifts the gradients of float16 passes above the smallest numbers of that type. A power of 2 is
# exact.
HALF_SCALE = 1024.0


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Disable ``torch.inference_mode()`` for a block. The caller's gradient mode is kept."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False):
        yield


def ordinary(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy if it was made in ``torch.inference_mode()``.

    Autograd does not accept inference tensors.
    """
    return tensor.clone() if tensor.is_inference() else tensor


def finite_or_zero(gradient: Tensor) -> Tensor:
    """Replace overflowed entries of a gradient by 0.

    The sign of a NaN would stay in a perturbation for good.
    """
    return gradient.nan_to_num(0.0, 0.0, 0.0)


def widened(outputs: Tensor) -> Tensor:
    """Convert outputs of a half type to float32. Losses subtract, which half types round away."""
    return outputs.float() if outputs.dtype in HALF_TYPES else outputs


def floating_reference(model: object) -> Tensor | None:
    """Return a network's first floating-point parameter, else its first such buffer, else None."""
    if not isinstance(model, nn.Module):
        return None
    tensors = chain(model.parameters(), model.buffers(), _frozen_constants(model))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _frozen_constants(model: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters that ``torch.jit.freeze`` turned into graph constants."""
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule) and not hasattr(module, "training"):
            for node in module.graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
                if node.hasAttribute("value") and node.kindOf("value") == "t":
                    yield node.t("value")


class ModelCall:
    """Call of a model with a copy of the rows in a dtype that it accepts.

    A model may change its input in place. A network that rejects float32 rows gets them in the
    dtype of its first floating-point parameter. The first call decides this, and a call after that
    dtype has changed. The cast is part of the graph. Outputs of a half type are converted to
    float32. Gradients of passes in float16 are multiplied by ``HALF_SCALE`` at the outputs and
    divided by it at the rows.

    A wrapper that calls its inner model through a ``ModelCall`` sets ``copies_rows = True`` and
    gets the rows uncopied. The rows that the inner model rejected are found in that ``ModelCall``.

    Args:
        model: a network, or any callable of a batch.
        network: the network whose parameters decide. None: the model itself.
        channels_last: True hands images (R, C, H, W) over in channels-last memory.
        compile: True calls the model through ``torch.compile``.

    Attributes:
        output_dtype: dtype of the latest outputs before conversion. None before the first call.
        cast: dtype that the network gets rows in, as its last call decided. None: their own.
        refused_rows: number of rows that the model rejected since this was last set to 0.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        network: nn.Module | None = None,
        *,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        self.model = Compiled(model) if compile else model
        self._channels_last = channels_last
        self.output_dtype: torch.dtype | None = None
        self.refused_rows = 0
        self._copies = getattr(model, "copies_rows", False)
        modules = model.modules() if isinstance(model, nn.Module) else ()
        self._inner = [
            call
            for call in (getattr(one, "call", None) for one in modules)
            if isinstance(call, ModelCall)
        ]
        self._reference = floating_reference(model if network is None else network)
        self._decided_for: torch.dtype | None = None
        self.cast: torch.dtype | None = None
        self._in_half: bool | None = None  # known after the first call

    def __call__(self, rows: Tensor, *, fresh: bool = False) -> Tensor:
        """Return the outputs for rows (R, *S).

        Args:
            rows: float32 rows, with or without a graph.
            fresh: True if the model may overwrite the rows.
        """
        if self._copies:
            formatted = self._formatted(rows, rows.dtype)
            outputs = self.model(rows if formatted is None else formatted)
        elif self._undecided(rows):
            outputs = self._decide(rows)
        else:  # no further frame between an attack and its model
            dtype = self.cast if self.wants_other_dtype(rows) else None
            rows, lift = self._copied(rows, dtype, fresh)
            outputs = self._read(self.model(rows), rows, dtype, lift)
        for inner in self._inner:
            self.output_dtype = inner.output_dtype
            self.refused_rows += inner.refused_rows
            inner.refused_rows = 0
        return outputs

    def wants_other_dtype(self, rows: Tensor) -> bool:
        """Return True if the network's dtype is not that of the rows. It may still accept them."""
        return self._reference is not None and self._reference.dtype != rows.dtype

    def _undecided(self, rows: Tensor) -> bool:
        return (
            self._reference is not None
            and self._reference.dtype != rows.dtype
            and self._reference.dtype != self._decided_for
        )

    def _decide(self, rows: Tensor) -> Tensor:
        """Call with the rows' own dtype, and with the network's if the network rejects it."""
        own = None if self._reference is None else self._reference.dtype
        try:
            outputs = self._run(rows, None)
        except (torch.OutOfMemoryError, ModelStopped):
            raise
        except Exception:  # a network may refuse in any way
            self.refused_rows += len(rows)
            outputs = self._run(rows, own)
            self.cast = own
        else:
            self.cast = None
        self._decided_for = own
        return outputs

    def _run(self, rows: Tensor, dtype: torch.dtype | None) -> Tensor:
        rows, lift = self._copied(rows, dtype, fresh=False)
        return self._read(self.model(rows), rows, dtype, lift)

    def _copied(
        self, rows: Tensor, dtype: torch.dtype | None, fresh: bool
    ) -> tuple[Tensor, _Lift | None]:
        """Return the rows for the model, and the lift of their gradients if there may be one."""
        lift = None
        if self._in_half is not False and rows.requires_grad and torch.is_grad_enabled():
            lift = _Lift()
            rows = rows.view_as(rows)
            rows.register_hook(lift.lower)
        formatted = self._formatted(rows, rows.dtype if dtype is None else dtype)
        if formatted is not None:
            return formatted, lift
        if dtype is not None:
            return rows.to(dtype), lift
        return (rows if fresh and lift is None else rows.clone()), lift

    def _formatted(self, rows: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return a channels-last copy of images. None: the rows stay as they are."""
        if not self._channels_last or rows.dim() != 4:
            return None
        return rows.to(dtype, memory_format=torch.channels_last, copy=True)

    def _read(
        self, outputs: Tensor, rows: Tensor, dtype: torch.dtype | None, lift: _Lift | None
    ) -> Tensor:
        """Return the outputs for rows that were cast to this dtype, widened."""
        if not isinstance(outputs, Tensor):
            scores = find_scores(outputs, len(rows))
            if scores is None:
                return outputs  # the caller's to refuse
            outputs = scores
        self.output_dtype = outputs.dtype
        self._in_half = torch.float16 in (dtype, outputs.dtype)
        outputs = widened(outputs)
        if lift is not None and self._in_half and outputs.requires_grad:
            lift.factor = HALF_SCALE
            outputs.register_hook(lift.raise_)
        return outputs


class _Lift:
    """Scaling of the gradient of one pass: up at its outputs, down again at its rows."""

    def __init__(self) -> None:
        self.factor = 1.0

    def raise_(self, gradient: Tensor) -> Tensor:
        return gradient * self.factor

    def lower(self, gradient: Tensor) -> Tensor:
        return gradient if self.factor == 1 else finite_or_zero(gradient) / self.factor
