"""The common return type of the file readers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt


class Raw(NamedTuple):
    """Arrays of a file: x (N, *S), y (N,), and the class names if the layout has them.

    ``latents`` (N, d) are those from which a generator made x, if the file has them.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    class_names: tuple[str, ...] | None = None
    latents: npt.NDArray[Any] | None = None
