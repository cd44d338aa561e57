"""The network of a run: placed inputs, counted forwards, and sums over the processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import HALF_SCALE, ModelCall, ordinary, widened
from art_ext.core.geometry import Box, exact_dtype
from art_ext.core.networks import frozen_eval
from art_ext.core.outputs import OutputReader
from art_ext.training.cost import Cost
from art_ext.training.heads import Head, IdentityHead, apply_head
from art_ext.training.heads.base import on_device

if TYPE_CHECKING:
    from accelerate import Accelerator


class Engine:
    """A network under Accelerate, with a ledger of the rows that were sent through it.

    Attributes:
        wrapped: the network for weight gradients, which are averaged over the processes.
        plain: the same network without averaging, for crafting and the further forwards of an
            update.
        frozen: modules that stay in eval mode.
        head: makes class scores of the network's raw output.
        networks: number of networks that a row is sent through, of an ensemble. Each one counts.
        forwards, backwards: rows of this process so far.
        first_layer_rows: rows of this process that were sent to the first layer alone.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        plain: nn.Module,
        wrapped: nn.Module,
        box: Box,
        device: torch.device,
        channels_last: bool,
        frozen: Collection[nn.Module] = (),
        head: Head | None = None,
        networks: int = 1,
    ) -> None:
        self.frozen = frozen
        self.networks = networks
        self.head = IdentityHead() if head is None else on_device(head, device)
        self.accelerator = accelerator
        self.plain = plain
        self.wrapped = wrapped
        self.box = box
        self.device = device
        self.channels_last = channels_last
        self.largest_label = 0
        self.scale = HALF_SCALE if accelerator.mixed_precision == "fp16" else 1.0
        self.forwards = self.backwards = self.first_layer_rows = 0
        self.reader = OutputReader("logits")
        self._rows_dtype: torch.dtype | None = None  # known after the first call

    def place(self, x: Tensor) -> Tensor:
        """Move inputs to the network's device and memory layout."""
        x = ordinary(x.to(self.device, non_blocking=True))
        return (
            x.contiguous(memory_format=torch.channels_last)
            if self.channels_last and x.dim() == 4
            else x
        )

    def call(self, network: nn.Module, rows: Tensor) -> Tensor:
        """Return (r, C) class scores, at least in float32, and count the rows."""
        return self.scores(self.raw(network, rows), len(rows))

    def raw(self, network: nn.Module, rows: Tensor) -> Any:
        """Return the network's raw output, and count the rows."""
        self.forwards += len(rows) * self.networks
        return self.send(network, rows)

    def send(self, network: nn.Module, rows: Tensor) -> Any:
        """Return the network's raw output for rows that the caller counts."""
        if self._rows_dtype is None:
            self._rows_dtype = self._try_dtype(rows.detach())
        with self.accelerator.autocast():
            # a copy, because a network may work in place on what it is given
            return network(rows.to(self._rows_dtype, copy=True))

    def _try_dtype(self, rows: Tensor) -> torch.dtype:
        """Return the dtype in which the network accepts rows (r, *S).

        A network with parameters of another dtype is tried in eval mode, where it draws no random
        number. The trial is neither recorded for autograd nor counted.
        """
        call = ModelCall(self.plain)
        if not call.wants_other_dtype(rows):
            return rows.dtype
        with frozen_eval(self.plain), torch.no_grad(), self.accelerator.autocast():
            call(rows)
        return call.cast or rows.dtype

    def scores(self, raw: Any, rows: int) -> Tensor:
        """Return (r, C) class scores of a raw output, at least in float32.

        All outputs are checked, because a network may return other outputs in train mode than in
        eval mode, in which most recipes craft first.

        Raises:
            ValueError: for outputs that recipes cannot use.
        """
        known = self.classes
        try:
            scores = widened(self.reader(apply_head(self.head, raw, rows), rows))
        except ValueError as error:
            if not any(module.training for module in self.plain.modules()):
                raise
            takes_tensor = isinstance(self.head, IdentityHead) or self.head.takes_rows
            if takes_tensor and isinstance(raw, (tuple, list, Mapping)):
                raise ValueError(
                    f"in training mode the model returns a {_kind(raw)}; recipes need logits: "
                    "switch auxiliary heads off, or return the logits alone"
                ) from error
            raise ValueError(f"in training mode {error}") from error
        if known is None:
            self.expect(self.largest_label)
        elif scores.shape[1] != known:
            raise ValueError(
                "the model must return logits of the same classes in eval and in training mode,"
                f" got {known} and {scores.shape[1]} classes"
            )
        return scores

    @property
    def classes(self) -> int | None:
        """Number of classes of the scores, known after the network's first call."""
        return self.reader.num_classes

    def expect(self, largest_label: int) -> None:
        """Raise ValueError if a label has no output of the model.

        Before the model's first call, the check is made in that call.
        """
        self.largest_label = largest_label
        if self.classes is not None and largest_label >= self.classes:
            source = (
                "the model's outputs"
                if isinstance(self.head, IdentityHead)
                else f"the classes of the head {self.head!r}"
            )
            raise ValueError(
                f"labels must be class indices below {self.classes}, {source}, got {largest_label}"
            )

    @property
    def processes(self) -> int:
        """Number of processes that share a minibatch."""
        return int(self.accelerator.num_processes)

    def agreed(self, value: float) -> float:
        """Return the number of the first process, on every process."""
        if self.processes == 1:
            return value
        from accelerate.utils import broadcast

        number = torch.tensor(value, dtype=exact_dtype(self.device), device=self.device)
        return float(broadcast(number, from_process=0))

    def ledger(self) -> Cost:
        """Return the rows of all processes."""
        own = [self.forwards, self.backwards, self.first_layer_rows]
        if self.processes == 1:
            return Cost(*own)
        return Cost(*self.total(torch.tensor(own, device=self.device)).tolist())

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, detached."""
        value = value.detach()
        return value if self.processes == 1 else self.accelerator.reduce(value, reduction="sum")


def _kind(output: object) -> str:
    """Return the container type of an output, and the name of its own class if it differs."""
    for kind in (tuple, list):
        if isinstance(output, kind):
            own = type(output).__name__
            return kind.__name__ if own == kind.__name__ else f"{kind.__name__} ({own})"
    return f"dict ({type(output).__name__})"
