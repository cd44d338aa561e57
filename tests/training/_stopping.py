"""A run that stops after one of its checkpoints, to be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from art_ext.training import saving
from art_ext.training.checkpoints import save_checkpoint


class Stopped(Exception):
    pass


def stop_at_save(
    monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException] = Stopped
) -> None:
    """Let the next run stop after its so-many-th checkpoint."""
    saved = [0]

    def save(*arguments: Any) -> Path:
        target = save_checkpoint(*arguments)
        saved[0] += 1
        if saved[0] == number:
            raise error
        return target

    monkeypatch.setattr(saving, "save_checkpoint", save)
