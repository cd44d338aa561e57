"""Operations of a recipe on the network: counted forwards, input gradients and means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from art_ext.core.calling import HALF_SCALE, ModelCall, finite_or_zero, ordinary, widened
from art_ext.core.geometry import Ball, Box, exact_dtype
from art_ext.core.networks import frozen_eval
from art_ext.core.outputs import OutputReader
from art_ext.core.streams import normal, uniform_pairs
from art_ext.training.modes import crafting_mode, settled_norms
from art_ext.training.objectives.losses import smoothed_cross_entropy

if TYPE_CHECKING:
    from accelerate import Accelerator

DRAWS = 1 << 10  # blocks of a sample's random stream that one weight update may use
Gain = Callable[[Tensor], Tensor]


class Engine:
    """A network under Accelerate, with a ledger of the rows that were sent through it.

    Attributes:
        wrapped: the network for weight gradients, which are averaged over the processes.
        plain: the same network without averaging, for crafting and the further forwards of an
            update.
        frozen: modules that stay in eval mode.
        forwards, backwards: rows of this process so far.
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
    ) -> None:
        self.frozen = frozen
        self.accelerator = accelerator
        self.plain = plain
        self.wrapped = wrapped
        self.box = box
        self.device = device
        self.channels_last = channels_last
        self.largest_label = 0
        self.scale = HALF_SCALE if accelerator.mixed_precision == "fp16" else 1.0
        self.forwards = self.backwards = 0
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
        """Return (r, C) logits, at least in float32, and count the rows."""
        self.forwards += len(rows)
        if self._rows_dtype is None:
            self._rows_dtype = self._try_dtype(rows.detach())
        with self.accelerator.autocast():
            # a copy, because a network may work in place on what it is given
            logits: Tensor = network(rows.to(self._rows_dtype, copy=True))
        return widened(self._read(logits, len(rows)))

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

    def _read(self, answer: object, rows: int) -> Tensor:
        """Return (r, C) logits of the network's outputs.

        All outputs are checked, because a network may return other outputs in train mode than in
        eval mode, in which most recipes craft first.

        Raises:
            ValueError: for outputs that recipes cannot use.
        """
        known = self.classes
        try:
            logits = self.reader(answer, rows)
        except ValueError as error:
            if not any(module.training for module in self.plain.modules()):
                raise
            if isinstance(answer, (tuple, list, Mapping)):
                raise ValueError(
                    f"in training mode the model returns a {_kind(answer)}; recipes need logits: "
                    "switch auxiliary heads off, or return the logits alone"
                ) from error
            raise ValueError(f"in training mode {error}") from error
        if known is None:
            self.expect(self.largest_label)
        elif logits.shape[1] != known:
            raise ValueError(
                "the model must return logits of the same classes in eval and in training mode,"
                f" got {known} and {logits.shape[1]} classes"
            )
        return logits

    @property
    def classes(self) -> int | None:
        """Number of classes of the network's outputs, known after its first call."""
        return self.reader.num_classes

    def expect(self, largest_label: int) -> None:
        """Raise ValueError if a label has no output of the model.

        Before the model's first call, the check is made in that call.
        """
        self.largest_label = largest_label
        if self.classes is not None and largest_label >= self.classes:
            raise ValueError(
                f"labels must be class indices below {self.classes}, the model's outputs, got"
                f" {largest_label}"
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

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, detached."""
        value = value.detach()
        return value if self.processes == 1 else self.accelerator.reduce(value, reduction="sum")


class Step:
    """One weight update of a recipe.

    Attributes:
        x: (r, *S) this process' rows of the minibatch.
        y: (r,) their classes.
        ids: (r,) int64 keys of their random streams.
        rows: number of rows of the minibatch, over all processes.
        update: index of the weight update in the run.
        replay: index of the update among those of this minibatch, from 0.
        eps: the radius after warm-up.
        epoch: number of completed passes over the data.
        time: the same as a fraction, within a pass too.
        spare: True if the budget of the run has room for rows that are sent again.
        memory: values that the recipe keeps from one replay of the minibatch to the next.
        carried: values that it keeps over the whole run: tensors whose rows are those of the
            process' minibatch, or of no row.
        log: values for the history, without rows. Their means over an epoch are entered.
    """

    def __init__(
        self,
        engine: Engine,
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        *,
        rows: int,
        update: int,
        replay: int,
        eps: float,
        seed: int,
        smoothing: float,
        memory: dict[str, Tensor],
        carried: dict[str, Tensor],
        epoch: int = 0,
        time: float = 0.0,
        spare: bool = True,
    ) -> None:
        self._engine = engine
        self._seed = seed
        self._smoothing = smoothing
        self.x = x
        self.y = y
        self.ids = ids
        self.rows = rows
        self.update = update
        self.replay = replay
        self.eps = eps
        self.epoch = epoch
        self.time = time
        self.spare = spare
        self.memory = memory
        self.carried = carried
        self.log = dict[str, Tensor]()
        self._armed = False
        self._draws = 0

    # --- the network ---

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, C) logits of a training forward, with the graph of the parameters."""
        network = self._engine.plain if self._armed else self._engine.wrapped
        # gradients are averaged over the processes once, by the first forward's hooks
        self._armed = True
        return self._engine.call(network, rows)

    def forward_again(self, rows: Tensor) -> Tensor:
        """Return (r, C) logits of a second training forward, of a few rows of the minibatch.

        BatchNorm uses its running statistics and does not change them. The statistics of a few rows
        would be useless, and one row has none.
        """
        with settled_norms(self._engine.plain):
            return self.forward(rows)

    def _crafting(self, mode: str) -> AbstractContextManager[None]:
        return crafting_mode(self._engine.plain, mode, self._engine.frozen)

    def crafting_logits(self, rows: Tensor, mode: str) -> Tensor:
        """Return (r, C) logits of a forward without any graph, in a mode of crafting."""
        with self._crafting(mode), torch.no_grad():
            return self._engine.call(self._engine.plain, rows)

    def input_gradient(self, rows: Tensor, gain: Gain, mode: str) -> tuple[Tensor, Tensor]:
        """Return the gradient (r, *S) of each row's own gain, and the logits (r, C).

        Each row costs one forward and one backward.

        Args:
            rows: (r, *S) inputs.
            gain: from logits (r, C) to (r,) values, which are summed, never averaged.
            mode: ``"eval"``, ``"train"`` or ``"batch"``, see ``crafting_mode``.
        """
        with self._crafting(mode):
            leaf = rows.detach().requires_grad_(True)
            logits = self._engine.call(self._engine.plain, leaf)
            gradient = self.gradient_of(gain(logits), leaf)
        return gradient, logits.detach()

    def gradient_of(self, gains: Tensor, leaf: Tensor, keep_graph: bool = False) -> Tensor:
        """Return the gradient (r, *S) of summed gains with respect to the input of a forward.

        Each row costs one backward.
        """
        return self.gradients_of(gains, (leaf,), keep_graph)[0]

    def gradients_of(
        self, gains: Tensor, inputs: Sequence[Tensor], keep_graph: bool = False
    ) -> list[Tensor]:
        """Return the gradients of summed gains with respect to the inputs of several forwards.

        Each row costs one backward.
        """
        self._engine.backwards += sum(len(rows) for rows in inputs)
        scale = self._engine.scale
        gradients = torch.autograd.grad(scale * gains.sum(), inputs, retain_graph=keep_graph)
        return [finite_or_zero(one) / scale if scale != 1 else one for one in gradients]

    def weights_input_gradient(self, leaf: Tensor) -> Tensor:
        """Return the gradient (r, *S) of the weights' backward at the input of its forward."""
        if leaf.grad is None:
            raise ValueError("the model's output must depend on its input through autograd")
        return finite_or_zero(leaf.grad) if self._engine.scale != 1 else leaf.grad

    def count_backward(self, rows: Tensor) -> None:
        """Count rows whose forward is part of the loss that this update differentiates."""
        self._engine.backwards += len(rows)

    # --- crafting ---

    def ball(self, norm: str) -> Ball:
        """Return the allowed perturbations around this minibatch."""
        return Ball(self.x, self.eps, norm, self._engine.box)

    # --- noise ---

    def _block(self) -> int:
        """Return the next block of the samples' streams. Each draw of each update has its own."""
        block = self.update * DRAWS + self._draws
        self._draws += 2  # a draw in a ball of L2 or L1 takes two
        return block

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Draw (r, *shape) uniform numbers in [0, 1), keyed by the sample and the update."""
        return uniform_pairs(self._seed, self.ids, self._block(), shape)

    def normal_like_x(self) -> Tensor:
        """Draw (r, *S) standard normal numbers, keyed by the sample and the update."""
        return normal(self._seed, self.ids, self._block(), tuple(self.x.shape[1:]))

    def uniform_start(self, ball: Ball, boxed: bool = True) -> Tensor:
        """Draw (r, *S) a point uniformly from each sample's ball, clamped to the box if wanted."""
        drawn = ball.draw(self._seed, self.ids, self._block())
        return ball.into(drawn) if boxed else drawn

    # --- loss ---

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Return (r,) the outer loss: cross-entropy with the run's label smoothing."""
        return smoothed_cross_entropy(logits, self.y, self._smoothing)

    def hard_cross_entropy(self, logits: Tensor) -> Tensor:
        """Return (r,) cross-entropy of the labels themselves, which crafting ascends."""
        return smoothed_cross_entropy(logits, self.y)

    def mean(self, values: Tensor) -> Tensor:
        """Return this process' part of the mean over the whole minibatch.

        Accelerate averages gradients over P processes, so a process adds ``P / rows`` times its own
        sum.
        """
        return values.sum() * (self._engine.processes / self.rows)

    def total_mean(self, values: Tensor) -> Tensor:
        """Return the mean over the whole minibatch, the same on every process, detached."""
        return self._engine.total(values.sum()) / self.rows


def _kind(output: object) -> str:
    """Return the container type of an output, and the name of its own class if it differs."""
    for kind in (tuple, list):
        if isinstance(output, kind):
            own = type(output).__name__
            return kind.__name__ if own == kind.__name__ else f"{kind.__name__} ({own})"
    return f"dict ({type(output).__name__})"
