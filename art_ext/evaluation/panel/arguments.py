"""Arguments of attacks: the parameters that a user may give to an attack of a panel."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from types import FunctionType
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


def recorded_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in the types of JSON, so that a run folder can recognise them.

    A dataclass, such as ``input_diversity()``, is its fields. A function is its name and the digest
    of its source.

    Args:
        name: of the attack.
        arguments: of the attack.

    Raises:
        ValueError: for a value that has no such form. The message names its key.
    """
    return {key: _recorded(f"{name}.{key}", value) for key, value in arguments.items()}


def _recorded(key: str, value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        fields = recorded_arguments(key, asdict(value))
        return f"{type(value).__name__}({', '.join(f'{one}={fields[one]!r}' for one in fields)})"
    if isinstance(value, FunctionType) and value.__closure__ is None:
        with suppress(OSError):  # of a function that was typed in
            digest = hashlib.sha256(inspect.getsource(value).encode()).hexdigest()[:16]
            return f"{value.__module__}:{value.__qualname__} ({digest})"
    try:
        json.dumps(value)
    except TypeError:
        raise ValueError(
            f"{key} must be a value that a run folder can recognise later: a number, a text, a"
            f" list, a dataclass or a plain function, got {value!r}"
        ) from None
    return value
