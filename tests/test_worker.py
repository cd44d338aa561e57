"""The frame of a worker's task."""

from collections.abc import Mapping
from typing import Any

import pytest

from art_ext.core.interruption import ModelStopped
from art_ext.errors import UserCodeError
from art_ext.evaluation.execution.limits import units
from art_ext.evaluation.execution.limits.units import UnitTask as LimitsTask
from art_ext.evaluation.execution.transfer import job
from art_ext.evaluation.execution.transfer.job import UnitTask
from art_ext.evaluation.execution.work import ChunkTask
from art_ext.evaluation.execution.worker import end_each


def raising(number: int) -> Mapping[str, tuple[int, int]] | None:
    """Fail by number: 1 passes, 2 may pass later, 3 never does, 4 ends the task."""
    if number == 1:
        return None
    if number == 4:
        raise ModelStopped("the budget is spent")
    cause = RuntimeError("out of memory") if number == 2 else ValueError("wrong")
    raise UserCodeError(f"pgd fails: {cause}") from cause


def test_errors_are_final_by_their_cause() -> None:
    ends = end_each([1, 2, 3, 4, 5], 1, raising)
    assert [one.number for one in ends] == [1, 2, 3, 4]
    assert [bool(one.error) for one in ends] == [False, True, True, True]
    assert [one.final for one in ends] == [False, False, True, False]
    assert [one.stopped for one in ends] == [False, False, False, True]


@pytest.mark.parametrize("kind", ["chunk", "transfer", "limits"])
def test_all_tasks_retry_alike(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        do = staticmethod(raising)
        __call__ = staticmethod(raising)

    task: Any
    if kind == "chunk":
        task = ChunkTask(b"", "key", "folder", 1)
        monkeypatch.setattr(ChunkTask, "_work", lambda self: Done())
    elif kind == "transfer":
        task = UnitTask(b"", "key", "folder", 1)
        monkeypatch.setitem(job._BUILT, "key", Done())
    else:
        task = LimitsTask(b"", "key", "folder")
        monkeypatch.setitem(units._BUILT, "key", Done())
    assert [(one.number, one.final, one.stopped) for one in task([2, 3, 4, 1])] == [
        (2, False, False),
        (3, True, False),
        (4, False, True),
    ]
