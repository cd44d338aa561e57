"""The first layer of a network: gradients at its output, and passes through it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from art_ext.core.calling import finite_or_zero
from art_ext.core.geometry import Ball
from art_ext.training.engine import Engine

if TYPE_CHECKING:
    from art_ext.training.passes import Gain
    from art_ext.training.step import Step


class _Reached(BaseException):
    """Ends a forward at the first layer, whose output it holds."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


@contextmanager
def forward_hook(module: nn.Module, hook: Callable[[Any], Any]) -> Iterator[None]:
    """Let a function see each output of a module, and perhaps replace it, for a block."""
    handle = module.register_forward_hook(lambda _, inputs, output: hook(output))
    try:
        yield
    finally:
        handle.remove()


def output_alone(send: Callable[[], Any], module: nn.Module) -> Any:
    """Return the output of a module, and leave out the rest of the network.

    Args:
        send: sends rows through the network.
        module: of the network. Its first call in a forward counts.

    Raises:
        RuntimeError: if the forward does not come to the module.
    """

    def stop(output: Any) -> None:
        raise _Reached(output)

    with forward_hook(module, stop):
        try:
            send()
        except _Reached as reached:
            return reached.output
    raise RuntimeError("the network's forward does not come to the first layer")


class WeightGradients:
    """Sums of gradients of weights over several passes.

    Args:
        weights: the weights.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self._places = {id(weight): place for place, weight in enumerate(self.weights)}
        self._sums: list[Tensor | None] = [None] * len(self.weights)

    def add(self, weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Add the gradients of some of the weights. None stands for 0."""
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                place = self._places[id(weight)]
                before = self._sums[place]
                # not in place, because autograd may give two weights one tensor
                self._sums[place] = gradient if before is None else before + gradient

    def as_loss(self, value: Tensor) -> Tensor:
        """Return a loss of a value () whose backward gives each weight its sum."""
        # several processes wait for no gradient of a weight that no output depends on
        known = [place for place, one in enumerate(self._sums) if one is not None]
        sums = [self._sums[place] for place in known]
        weights = [self.weights[place] for place in known]
        loss: Tensor = _Sums.apply(value, sums, *weights)
        return loss


class _Sums(torch.autograd.Function):
    """A value whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, sums: Sequence[Tensor], *weights: Tensor) -> Tensor:
        """Return the value."""
        ctx.sums = sums
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """Return the sums."""
        return None, None, *(scale * one for one in ctx.sums)


class FirstLayer:
    """The first layer of the network of a run: its adjoint, and passes through it alone.

    Rows that go through the layer alone are counted apart from those of the whole network. A row
    counts once, forward and backward together.

    Args:
        engine: of the run.
        name: of the module whose output is that of the layer.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._module = engine.plain.get_submodule(name)
        weights = [weight for weight in engine.plain.parameters() if weight.requires_grad]
        self.sums = WeightGradients(weights)
        self._own: list[Tensor] | None = None  # known after the first training pass

    def adjoint(self, rows: Tensor, gain: Gain) -> Tensor:
        """Return the gradient of summed gains at the layer's output for rows (r, *S).

        Each row costs one forward and one backward of a pass of crafting.
        """
        engine = self._engine
        logits, edge = self._pass(lambda leaf: engine.call(engine.plain, leaf), rows)
        (found,) = torch.autograd.grad(engine.scale * gain(logits).sum(), [edge])
        return self._finite(found)

    def train(self, step: Step, rows: Tensor, own: bool) -> tuple[Tensor, Tensor]:
        """Return the mean loss () of a training pass, and its gradient at the layer's output.

        The gradients of the weights are added to ``sums``. Each row costs one forward and one
        backward.

        Args:
            step: the weight update.
            rows: (r, *S) inputs.
            own: True adds the gradients of the layer's own weights too.
        """
        logits, edge = self._pass(step.forward, rows)
        value = step.mean(step.cross_entropy(logits))
        if self._own is None:
            self._own = _weights_before(edge, self.sums.weights)
        left_out = set() if own else {id(weight) for weight in self._own}
        weights = [weight for weight in self.sums.weights if id(weight) not in left_out]
        scale = self._loss_scale()
        places: Any = [edge, *weights]  # the stubs of PyTorch know lists of one kind only
        found, *gradients = torch.autograd.grad(scale * value, places, allow_unused=True)
        self.sums.add(weights, [_unscaled(one, scale) for one in gradients])
        return value.detach(), self._finite(found)

    def train_alone(self, rows: Tensor, adjoint: Tensor) -> None:
        """Add the gradients of ``<first(x), p>`` to those of the layer's weights.

        Args:
            rows: (r, *S) inputs x.
            adjoint: p, as ``train`` returns it.
        """
        if not self._own:
            return
        scale = self._loss_scale()
        gradients = torch.autograd.grad(self._alone(rows), self._own, adjoint)
        self.sums.add(self._own, [_unscaled(one, scale) for one in gradients])

    def ascend(
        self, rows: Tensor, adjoint: Tensor, ball: Ball, num_steps: int, length: float
    ) -> Tensor:
        """Iterate ``x_{t+1} = P(x_t + length steepest(grad <first(B(x_t)), p>))``.

        B clamps to the box, and P projects onto the ball, then clamps to the box.

        Args:
            rows: (r, *S) inputs x_0, which may lie outside the box.
            adjoint: p.
            ball: the allowed perturbations.
            num_steps, length: number and length of the steps.
        """
        inside = ball.box.clamp(rows)
        for step in range(num_steps):
            leaf = inside.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._alone(leaf), leaf, adjoint)
            gradient = self._finite(gradient)
            if step == 0:  # later points lie in the box
                # by hand, because clamp has no slope on a face of the box in some versions of torch
                gradient = torch.where(inside == rows, gradient, 0.0)
            rows = inside = ball.step(rows, gradient, length)
        return rows.detach()

    def _pass(
        self, forward: Callable[[Tensor], Tensor], rows: Tensor
    ) -> tuple[Tensor, GradientEdge]:
        """Return class scores (r, C), and the place of the layer's output in their graph."""
        seen: list[GradientEdge] = []

        def see(output: Tensor) -> None:
            # a module may be called again, and before that by a trial of the dtype, without a graph
            if not seen and output.requires_grad:
                # an edge, because the next layer may change the output in place
                seen.append(get_gradient_edge(output))

        with forward_hook(self._module, see):
            logits = forward(rows.detach().requires_grad_(True))
        self._engine.backwards += len(rows)
        return logits, seen[0]

    def _alone(self, rows: Tensor) -> Tensor:
        """Return the layer's output for rows (r, *S), and count them."""
        engine = self._engine
        engine.first_layer_rows += len(rows)
        output: Tensor = output_alone(lambda: engine.send(engine.plain, rows), self._module)
        return output

    def _loss_scale(self) -> Tensor | float:
        """Return the factor by which Accelerate scales losses of float16 passes, or 1."""
        scaler = self._engine.accelerator.scaler if self._engine.scale != 1 else None
        return 1.0 if scaler is None else scaler.scale(torch.ones((), device=self._engine.device))

    def _finite(self, gradient: Tensor) -> Tensor:
        """Return a gradient whose overflowed entries are 0."""
        return finite_or_zero(gradient) if self._engine.scale != 1 else gradient


def _unscaled(gradient: Tensor | None, scale: Tensor | float) -> Tensor | None:
    return gradient if gradient is None or isinstance(scale, float) else gradient / scale


def _weights_before(edge: GradientEdge, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return those of the weights that a place in a graph depends on."""
    wanted = {id(weight) for weight in weights}
    found: list[Tensor] = []
    known: set[Any] = set()
    left: list[Any] = [edge.node]
    while left:
        node = left.pop()
        if node is None or node in known:
            continue
        known.add(node)
        weight = getattr(node, "variable", None)
        if weight is not None and id(weight) in wanted:
            found.append(weight)
        left += [before for before, _ in node.next_functions]
    return found
