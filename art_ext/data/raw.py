"""What every reader of a file layout returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt


class Raw(NamedTuple):
    """Arrays as the file holds them: x (N, *S), y (N,), and the names of the classes where the
    layout has them.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    class_names: tuple[str, ...] | None = None
