"""Calls of a model: the rows it gets are its own copy, in a dtype that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

HALF_TYPES = (torch.float16, torch.bfloat16)
# Lifts the gradients of float16 passes above the smallest numbers of that type. A power of 2 is
# exact.
HALF_SCALE = 1024.0


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave ``torch.inference_mode()`` for a while. The gradient mode of other callers stays as
    it is.
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False):
        yield


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if it was made in ``torch.inference_mode()``: autograd takes no
    inference tensor.
    """
    return tensor.clone() if tensor.is_inference() else tensor


def finite_or_zero(gradient: Tensor) -> Tensor:
    """0 where a float16 pass overflowed: the sign of a NaN would stay in a perturbation for
    good.
    """
    return gradient.nan_to_num(0.0, 0.0, 0.0)


def widened(outputs: Tensor) -> Tensor:
    """Outputs of a half type in float32, others as they are. Losses compare and subtract, which
    halves round away.
    """
    return outputs.float() if outputs.dtype in HALF_TYPES else outputs


def floating_reference(model: object) -> Tensor | None:
    """The first floating-point parameter of a network, else its first floating-point buffer,
    else None.
    """
    if not isinstance(model, nn.Module):
        return None
    tensors = chain(model.parameters(), model.buffers(), _frozen_constants(model))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _frozen_constants(model: nn.Module) -> Iterator[Tensor]:
    """The parameters of ScriptModules that ``torch.jit.freeze`` made constants of their graphs."""
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule) and not hasattr(module, "training"):
            for node in module.graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
                if node.hasAttribute("value") and node.kindOf("value") == "t":
                    yield node.t("value")


class ModelCall:
    """A model, called with a copy of the rows in a dtype that it takes.

    A model may work in place on what it is given. A network that refuses float32 rows gets them in
    the dtype of its first floating-point parameter. Its first call decides this, and a call after
    the parameter's dtype has changed. The cast is part of the graph. Outputs of a half type come
    back in float32. Gradients of passes in float16 are multiplied by ``HALF_SCALE`` at the outputs
    and divided by it at the rows.

    A wrapper that calls the model inside in this way, and says so with ``copies_rows = True``, gets
    the rows as they are. What the model inside refused is found by the wrapper's ``call``, that
    ``ModelCall``.

    Args:
        model: a network, or any callable of a batch.
        network: whose parameters decide; None takes the model itself.

    Attributes:
        output_dtype: of the latest outputs, before they were widened; None before the first call.
        cast: the dtype that the network gets rows in, as its last call decided; None for their own.
        refused_rows: rows that the model refused since this was last set to 0.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], network: nn.Module | None = None) -> None:
        self.model = model
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
        """Outputs for rows (R, *S).

        Args:
            rows: in float32, with or without a graph.
            fresh: whether the model may write into these very rows.
        """
        if self._copies:
            outputs = self.model(rows)
        else:
            outputs = self._copied(rows, fresh)
        for inner in self._inner:
            self.output_dtype = inner.output_dtype
            self.refused_rows += inner.refused_rows
            inner.refused_rows = 0
        return outputs

    def _copied(self, rows: Tensor, fresh: bool) -> Tensor:
        own = None if self._reference is None else self._reference.dtype
        if own is None or own == rows.dtype:
            return self._ask(rows, None, fresh)
        if own != self._decided_for:
            return self._decide(rows, own)
        return self._ask(rows, self.cast, fresh)

    def wants_other_dtype(self, rows: Tensor) -> bool:
        """True if the network's own dtype is not that of the rows. It may take them all the
        same.
        """
        return self._reference is not None and self._reference.dtype != rows.dtype

    def _decide(self, rows: Tensor, own: torch.dtype) -> Tensor:
        """The first call: in the rows' dtype and, if the network refuses that, in its own."""
        try:
            outputs = self._ask(rows, None, False)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a network may refuse in any way
            self.refused_rows += len(rows)
            outputs = self._ask(rows, own, False)
            self.cast = own
        else:
            self.cast = None
        self._decided_for = own
        return outputs

    def _ask(self, rows: Tensor, dtype: torch.dtype | None, fresh: bool) -> Tensor:
        lift = None
        if self._in_half is not False and rows.requires_grad and torch.is_grad_enabled():
            lift = _Lift()
            rows = rows.view_as(rows)
            rows.register_hook(lift.lower)
        if dtype is not None:
            rows = rows.to(dtype)
        elif not fresh or lift is not None:
            rows = rows.clone()
        outputs = self.model(rows)
        if not isinstance(outputs, Tensor):
            return outputs  # the caller's to refuse
        self.output_dtype = outputs.dtype
        self._in_half = torch.float16 in (dtype, outputs.dtype)
        outputs = widened(outputs)
        if lift is not None and self._in_half and outputs.requires_grad:
            lift.factor = HALF_SCALE
            outputs.register_hook(lift.raise_)
        return outputs


class _Lift:
    """Multiplies the gradient of one pass at its outputs, and divides it again at its rows."""

    def __init__(self) -> None:
        self.factor = 1.0

    def raise_(self, gradient: Tensor) -> Tensor:
        return gradient * self.factor

    def lower(self, gradient: Tensor) -> Tensor:
        return gradient if self.factor == 1 else finite_or_zero(gradient) / self.factor
