"""Networks of another output width: the search for their last linear layer, and its replacement."""

from __future__ import annotations

from torch import nn

from art_ext.core.checks import check_count, listed


def replace_last_linear(network: nn.Module, dim: int) -> nn.Module:
    """Replace the last linear layer by a new one with ``dim`` outputs, in place.

    The layer is the last module that holds parameters. The new one has the device, dtype and mode
    of the old one, and a bias if that has one. Its weights are drawn on the CPU, from torch's
    global stream.

    Args:
        network: the network. If it is the linear layer itself, a new one is returned.
        dim: number of outputs.

    Returns:
        The network.

    Raises:
        ValueError: if the last module with parameters is no ``nn.Linear``. The message lists the
            modules.
    """
    check_count("dim", dim)
    name, layer = _last_linear(network)
    # drawn on the CPU, so that the weights are those of a seed on every device
    new = nn.Linear(layer.in_features, dim, layer.bias is not None, dtype=layer.weight.dtype)
    new.to(layer.weight.device).train(layer.training)
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
    return network


def with_outputs(network: nn.Module, dim: int) -> nn.Module:
    """Return the network with ``dim`` outputs. Its last linear layer is replaced if it has others.

    Raises:
        ValueError: as ``replace_last_linear``.
    """
    _, layer = _last_linear(network)
    return network if layer.out_features == dim else replace_last_linear(network, dim)


def _last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name of the last linear layer, and the layer."""
    named = [
        (name, module)
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    name, layer = named[-1] if named else ("", network)
    if not isinstance(layer, nn.Linear):
        found = (f"{name or 'the network'} ({type(module).__name__})" for name, module in named)
        raise ValueError(
            "the last module with parameters must be an nn.Linear to be replaced, but the modules"
            f" of the network with parameters are {listed(reversed(list(found))) or 'none'}, from"
            " the last to the first"
        )
    return name, layer
