"""Features of a network, taken from the forward pass that also gives its outputs."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from art_ext.core.calling import widened
from art_ext.core.checks import listed, nearest

Self = TypeVar("Self", bound="Tap")


def feature_module(model: object, layer: str | None = None) -> tuple[str, nn.Module]:
    """Return name and module of the layer that features come from.

    Args:
        model: a network.
        layer: name of a module, as ``model.named_modules()`` gives it. None: the last linear layer.

    Raises:
        ValueError: if the model is no ``nn.Module``, has no such module, or no linear layer. The
            message lists the modules.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"features need a torch.nn.Module, got {type(model).__name__}: a callable or a service"
            " shows its outputs only"
        )
    modules = {name: module for name, module in model.named_modules() if name}
    if layer is None:
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(
                "the network has no linear layer whose input could be the features: name a layer,"
                f" one of {listed(modules, 30) or 'none'}"
            )
        return linear[-1], modules[linear[-1]]
    if layer not in modules:
        raise ValueError(
            f"layer must be one of {listed(modules, 30) or 'none'}, got {layer!r}"
            f"{nearest(layer, modules)}"
        )
    return layer, modules[layer]


class Tap:
    """Tensors of the latest forward passes of a module. Use it as a context manager around them.

    Args:
        module: that runs in each pass.
        passes: number of passes to keep.
    """

    def __init__(self, module: nn.Module, passes: int = 1) -> None:
        self._module = module
        self._latest: deque[Any] = deque(maxlen=passes)
        self._handle: RemovableHandle | None = None

    def __enter__(self: Self) -> Self:
        self._handle = self._module.register_forward_hook(self._keep)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._latest.clear()

    def chosen(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return what to keep of a pass. Default: the output."""
        return output

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._latest.append(self.chosen(inputs, output))


class FeatureTap(Tap):
    """The features of the latest forward pass of a network, with its graph.

    Use it as a context manager around the passes. A row that gives outputs and features is
    one query.

    Args:
        model: a network, inside an oracle or not.
        layer: name of a module, whose output is taken. None: the input of the last linear layer.

    Attributes:
        name: name of the module.

    Raises:
        ValueError: as ``feature_module``.
    """

    def __init__(self, model: object, layer: str | None = None) -> None:
        self.name, module = feature_module(model, layer)
        super().__init__(module)
        self._takes_input = layer is None

    def take(self, rows: int) -> Tensor:
        """Return (rows, F) features of the first rows of the latest pass, at least float32.

        Maps (r, C, ...) of more than three axes are averaged over their positions, and sequences
        (r, T, F) over their tokens.

        Raises:
            ValueError: if the latest pass did not run the layer, or gave no tensor of that many
                rows.
        """
        kept = self._latest.pop() if self._latest else None
        if kept is None or kept.dim() < 2 or len(kept) < rows:
            found = "nothing" if kept is None else f"shape {tuple(kept.shape)}"
            raise ValueError(
                f"layer {self.name!r} must give one row of features for each of {rows} inputs, got"
                f" {found}"
            )
        features = widened(kept[:rows])
        if features.dim() == 3:
            return features.mean(dim=1)
        return features.flatten(2).mean(dim=2) if features.dim() > 3 else features

    def chosen(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return the layer's output or its first input. None if that is no tensor."""
        taken = inputs[0] if self._takes_input else output
        return taken if isinstance(taken, Tensor) else None
