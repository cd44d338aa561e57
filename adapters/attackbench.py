"""Attacks for AttackBench (``attackbenchlib``), which ranks them by their distance to the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from art_ext.core.attacks import registry
from art_ext.core.result import AttackResult


def attack(name: str, **arguments: Any) -> Callable[..., Tensor]:
    """Return an attack in the form that ``attackbench.run_attack`` takes.

    The function is ``f(model, inputs, labels, norm) -> x_adv``. It returns the nearest adversarial
    of each sample, and the sample itself where there is none. AttackBench gives the norm. It counts
    queries by the sample nearest to each row, which miscounts attacks such as RayS whose rows lie
    far from their sample.

    Args:
        name: of a registered attack, such as ``"ead"``, ``"cw"``, ``"frank_wolfe"`` or
            ``"auto_pgd"``.
        **arguments: of the attack, such as ``eps`` for an attack inside a ball.

    Raises:
        ValueError: for an unknown attack or argument, or a missing ``eps``.
    """
    spec = registry.get(name)
    known = list(spec.parameters)[3:]  # after model, x, y
    unknown = not set(arguments) <= set(known)
    if unknown or (spec.family == "fixed-radius" and "eps" not in arguments):
        wanted = f"arguments among {', '.join(known)}" if unknown else "eps=RADIUS"
        raise ValueError(f"{spec.name} needs {wanted}, got {arguments}")

    def run(model: nn.Module, inputs: Tensor, labels: Tensor, norm: str = "linf") -> Tensor:
        own = {"norm": norm} if "norm" in spec.parameters else {}
        result: AttackResult = spec.function(model, inputs, labels, **{**own, **arguments})
        found = result.x_adv if result.x_nearest is None else result.x_nearest
        return found.clone()  # AttackBench detaches it in place, which a view does not allow

    run.__name__ = spec.name
    return run
