"""Arguments of attacks: the parameters that a user may give to an attack of a panel."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from art_ext.core.keywords import hint_at

# parameters that options of the evaluation set, and parameters that text cannot express
_OPTIONS = {
    "eps": "--eps",
    "norm": "--norm",
    "seed": "--seed",
    "clip_values": "--clip-values",
    "outputs": "--outputs",
    "device": "--device",
    "detector": "--detector",
    "generator": "--generator",
    "batch_size": "--batch-size",
    "stop_on_success": "--stop-on-success",
    "targeted": "--targeted",
    "targets": "--targeted",
}
_INTERNAL = (
    "model",
    "x",
    "y",
    "x_init",
    "mask",
    "latents",
    "sample_ids",
    "criterion",
    "continue_from",
    "callback",
    "estimator",
    "classifier",
    "n_classes",
    "verbose",
    "summary_writer",
    "trainloader",
)
_SHARE = re.compile(r"eps(?: */ *(\d+(?:\.\d+)?))?")


def at_radius(arguments: Mapping[str, Any], eps: float) -> dict[str, Any]:
    """Return arguments with the numbers that ``"eps"`` and ``"eps/4"`` mean at a radius.

    Raises:
        ValueError: for a division by 0.
    """
    found = dict(arguments)
    for key, value in arguments.items():
        share = _SHARE.fullmatch(value) if isinstance(value, str) else None
        if share is not None:
            divisor = float(share[1] or 1)
            if not divisor:
                raise ValueError(f"{key} must divide eps by a number > 0, got {value!r}")
            found[key] = eps / divisor
    return found


def check_arguments(
    name: str,
    arguments: Mapping[str, Any],
    parameters: Mapping[str, Any],
    own: Collection[str] = (),
) -> None:
    """Raise ValueError unless an attack takes the arguments, and no option of the evaluation sets
    them.

    Args:
        name: of the attack.
        arguments: the given arguments.
        parameters: parameters of its function, with defaults.
        own: keys that are the attack's own, although options of the evaluation have the same names.

    Raises:
        ValueError: naming the key, and the known keys or the option to use.
    """
    known = [
        key for key in parameters if key in own or (key not in _OPTIONS and key not in _INTERNAL)
    ]
    for key in arguments:
        if key in known:
            continue
        if key in _OPTIONS:
            raise ValueError(
                f"{name}.{key} cannot be given to the attack alone: use {_OPTIONS[key]}"
            )
        if key in parameters:
            raise ValueError(f"{name}.{key} is set by the evaluation itself")
        raise ValueError(
            f"{name} takes {', '.join(known) or 'no arguments'}; got {key!r}{hint_at(key, known)}"
        )
