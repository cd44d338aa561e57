"""Row tensors that live and go together."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
SHARED = {"shared": True}  # metadata of a field whose tensor has no axis of rows


@dataclass(eq=False)
class State:
    """Base of the state of a method: a dataclass of tensors whose first axis is the active rows.

    Attributes:
        x: (R, D) the candidates, which the driver sends to the model next.
    """

    x: Tensor


def keep(state: S, rows: Tensor) -> S:
    """Return a copy of a dataclass of row tensors with some of its rows.

    Nested dataclasses, lists and tuples are reduced too. Whatever is no tensor stays as it is, and
    so do fields with the metadata ``SHARED``.

    Args:
        state: a dataclass whose tensors have the active rows as their first axis.
        rows: (R',) int64 positions to keep.
    """
    kept = copy.copy(state)
    for field in fields(state):
        if not field.metadata.get("shared"):
            object.__setattr__(kept, field.name, _kept(getattr(state, field.name), rows))
    return kept


def _kept(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, rows)
    if isinstance(value, (list, tuple)):
        return type(value)([_kept(one, rows) for one in value])
    return keep(value, rows) if is_dataclass(value) and not isinstance(value, type) else value
