"""The module of a network whose output is that of its first layer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall
from art_ext.core.checks import listed, nearest
from art_ext.core.networks import model_device
from art_ext.training.first_layer import forward_hook, output_alone
from art_ext.training.trial import raw_output, trial_copy

Call = Callable[[Tensor], Tensor]


def first_layer(model: nn.Module, rows: Tensor, name: str | None, mode: str) -> str:
    """Return the name of the module to take as the first layer.

    A copy of the network is tried. A module will do if every path from x passes it, and if its
    output is the same when the part of the network up to it runs alone, for each row alone too.

    Args:
        model: the network.
        rows: (r, *S) one or two samples, on any device.
        name: of the module. None: the first one in the order of calls that holds parameters itself.
        mode: ``"eval"``, or ``"train"`` for the mode of weight updates.

    Raises:
        ValueError: if there is no such module, or it will not do. The message lists those that do.
    """
    raw_output(model, rows[:1])  # the network accepts such rows
    pair = torch.cat([rows, rows])[:2].to(model_device(model, None, rows.device))
    with trial_copy(model, ()) as network, torch.enable_grad():
        network.train(mode != "eval")
        call = ModelCall(network)
        prefix = str(getattr(model, "module_prefix", ""))  # of the names in a wrapper
        order = _in_order(network, call, pair, prefix)
        if name is not None:
            name = str(name).removeprefix(prefix)  # a command line reads the name "1" as a number
            _check_name(name, order, network, prefix)
        found = name or next((one for one in order if _holds_weights(order[one])), None)
        if found is not None and not isinstance(call(pair), Tensor):
            return prefix + found  # the training says what is wrong with such a network
        if found is not None and _will_do(order.get(found), call, pair):
            return prefix + found
        others = [one for one, module in order.items() if _will_do(module, call, pair)]
        those = f"it can be one of {listed(others)}" if others else "no module of it can"
        given = f"{name!r}" if name else f"None, which takes {found!r}"
        raise ValueError(
            f"first must name a module that all paths from x pass and that runs alone, row by row,"
            f" got {given}: {those}"
        )


def _check_name(name: str, order: Collection[str], network: nn.Module, prefix: str) -> None:
    named = network.named_modules(remove_duplicate=False)
    known = [one.removeprefix(prefix) for one, _ in named if one.startswith(prefix) and one]
    if name not in known:
        raise ValueError(
            f"first must name a module of the network, one of {listed(order)}, got {name!r}"
            f"{nearest(name, known)}"
        )


def _in_order(network: nn.Module, call: Call, rows: Tensor, prefix: str) -> dict[str, nn.Module]:
    """Return the modules of a network by name, in the order in which a forward calls them."""
    found: dict[str, nn.Module] = {}
    handles = [
        module.register_forward_pre_hook(partial(_note, found, name.removeprefix(prefix)))
        for name, module in network.named_modules()
        if name and name.startswith(prefix)
    ]
    try:
        with torch.no_grad():
            call(rows)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _note(found: dict[str, nn.Module], name: str, module: nn.Module, inputs: Any) -> None:
    found.setdefault(name, module)


def _holds_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _will_do(module: nn.Module | None, call: Call, rows: Tensor) -> bool:
    """Return True if a module can be the first layer."""
    if module is None:
        return False
    try:
        return _runs_alone(module, call, rows) and _is_passed(module, call, rows)
    except Exception:  # a module may fail on one row, or return anything
        return False


def _runs_alone(module: nn.Module, call: Call, rows: Tensor) -> bool:
    """Return True if the output is that within the network, of each row alone too."""
    seen: list[Tensor] = []
    with torch.no_grad():
        with forward_hook(module, lambda output: seen.append(output.clone())):
            call(rows)
        again = output_alone(lambda: call(rows), module)
        single = output_alone(lambda: call(rows[:1]), module)
    whole = seen[0]
    scale = float(whole.abs().nan_to_num(0.0).max())
    # the training says what is wrong with a network that returns NaN
    close = partial(torch.allclose, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)
    return len(whole) == len(rows) and close(again, whole) and close(single, whole[:1])


def _is_passed(module: nn.Module, call: Call, rows: Tensor) -> bool:
    """Return True if the network's output depends on its input through the module only."""
    cut: list[Tensor] = []

    def replace(output: Tensor) -> Tensor:
        if cut:
            return output
        cut.append(output.detach().requires_grad_(True))
        return cut[0].clone()  # the next layer may change it in place

    leaf = rows.detach().requires_grad_(True)
    with forward_hook(module, replace):
        outputs = call(leaf)
    around, through = torch.autograd.grad(outputs.sum(), [leaf, cut[0]], allow_unused=True)
    return around is None and through is not None
