"""Passes of a recipe through the network: training forwards, crafting, and input gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from art_ext.core.calling import finite_or_zero, widened
from art_ext.training.engine import Engine
from art_ext.training.first_layer import FirstLayer
from art_ext.training.modes import crafting_mode, settled_norms

Gain = Callable[[Tensor], Tensor]


class Passes:
    """Passes of one weight update. Every row forward and backward is counted.

    Attributes:
        trained: inputs and raw outputs of the training forwards so far, whose losses are minimised.
    """

    def __init__(self, engine: Engine) -> None:
        self.trained: list[tuple[Tensor, Any]] = []
        self._engine = engine
        self._armed = False
        self._crafting: str | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, C) class scores of a training forward, with the graph of the parameters."""
        return self._engine.scores(self._sent(rows), len(rows))

    def forward_raw(self, rows: Tensor) -> Any:
        """Return the raw output of a training forward, for objectives of it.

        A tensor is at least float32.
        """
        raw = self._sent(rows)
        if self._engine.classes is None:  # labels are checked once their number is known
            with torch.no_grad():
                self._engine.scores(raw, len(rows))
        return widened(raw) if isinstance(raw, Tensor) else raw

    def scores(self, raw: Any, rows: Tensor) -> Tensor:
        """Return (r, C) class scores that the recipe's head makes of the raw output for rows."""
        return self._engine.scores(raw, len(rows))

    def _sent(self, rows: Tensor) -> Any:
        """Return the raw output of a training forward.

        Gradients are averaged over the processes once, by the first forward's hooks.
        """
        network = self._engine.plain if self._armed else self._engine.wrapped
        self._armed = True
        raw = self._engine.raw(network, rows)
        self.trained.append((rows, raw.detach() if isinstance(raw, Tensor) else raw))
        return raw

    def observe(self, rows: Tensor) -> None:
        """Send rows forward without a graph, of which only the statistics of BatchNorm take note.

        The network is in train mode.
        """
        with torch.no_grad():
            self._engine.raw(self._engine.plain, rows)

    def forward_again(self, rows: Tensor) -> Tensor:
        """Return (r, C) class scores of a second training forward, of a few rows of the minibatch.

        BatchNorm uses its running statistics and does not change them. The statistics of a few rows
        would be useless, and one row has none.
        """
        with settled_norms(self._engine.plain):
            return self.forward(rows)

    @contextmanager
    def crafting(self, mode: str) -> Iterator[None]:
        """Keep the network in a mode of crafting for a block, whose passes then switch no mode.

        Args:
            mode: ``"eval"``, ``"train"`` or ``"batch"``, see ``crafting_mode``.
        """
        before = self._crafting
        if mode == before:
            yield
            return
        self._crafting = mode
        try:
            with crafting_mode(self._engine.plain, mode, self._engine.frozen):
                yield
        finally:
            self._crafting = before

    def crafting_logits(self, rows: Tensor, mode: str) -> Tensor:
        """Return (r, C) class scores of a forward without any graph, in a mode of crafting."""
        with self.crafting(mode), torch.no_grad():
            return self._engine.call(self._engine.plain, rows)

    def input_gradient(self, rows: Tensor, gain: Gain, mode: str) -> tuple[Tensor, Tensor]:
        """Return the gradient (r, *S) of each row's own gain, and the class scores (r, C).

        Each row costs one forward and one backward.

        Args:
            rows: (r, *S) inputs.
            gain: from class scores (r, C) to (r,) values, which are summed, never averaged.
            mode: as of ``crafting``.
        """
        with self.crafting(mode):
            leaf = rows.detach().requires_grad_(True)
            logits = self._engine.call(self._engine.plain, leaf)
            (gradient,) = self.gradients_of(gain(logits), (leaf,))
        return gradient, logits.detach()

    def training_gradient(self, rows: Tensor, gain: Gain) -> Tensor:
        """Return the gradient (r, *S) of each row's own gain, with the graph of the parameters.

        The forward is a training forward, and the loss must differentiate the gradient again. Each
        row costs one forward and two backwards.

        Args:
            rows: (r, *S) inputs.
            gain: as of ``input_gradient``.
        """
        leaf = rows.detach().requires_grad_(True)
        self.count_backward(leaf)
        with sdpa_kernel(SDPBackend.MATH):  # no other kernel has a second derivative
            gains = gain(self.forward(leaf))
            (gradient,) = self.gradients_of(gains, (leaf,), differentiable=True)
        self.trained.pop()  # no example of the recipe
        return gradient

    def gradients_of(
        self,
        gains: Tensor,
        inputs: Sequence[Tensor],
        keep_graph: bool = False,
        differentiable: bool = False,
    ) -> list[Tensor]:
        """Return the gradients of summed gains with respect to the inputs of several forwards.

        Each row costs one backward.

        Args:
            gains: (r,) values.
            inputs: leaves of the graph.
            keep_graph: True if the graph is differentiated again.
            differentiable: True records the graph of the gradients too.
        """
        self._engine.backwards += sum(len(rows) for rows in inputs) * self._engine.networks
        scale = self._engine.scale
        gradients = torch.autograd.grad(
            scale * gains.sum(),
            inputs,
            retain_graph=keep_graph or differentiable,
            create_graph=differentiable,
        )
        return [finite_or_zero(one) / scale if scale != 1 else one for one in gradients]

    def weights_input_gradient(self, leaf: Tensor) -> Tensor:
        """Return the gradient (r, *S) of the weights' backward at the input of its forward."""
        if leaf.grad is None:
            raise ValueError("the model's output must depend on its input through autograd")
        return finite_or_zero(leaf.grad) if self._engine.scale != 1 else leaf.grad

    def first_layer(self, name: str | None) -> FirstLayer:
        """Return the layer that a module of the network ends, for recipes that run it alone."""
        if name is None:
            raise RuntimeError("Recipe.fitted names the first layer, and was not called")
        return FirstLayer(self._engine, name)

    def count_backward(self, rows: Tensor) -> None:
        """Count rows whose forward is part of the loss that this update differentiates."""
        self._engine.backwards += len(rows) * self._engine.networks
