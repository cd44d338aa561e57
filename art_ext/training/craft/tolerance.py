"""Tolerance of early-stopped crafting: the number of steps after a misclassification."""

from __future__ import annotations

from collections.abc import Mapping

Tolerance = int | Mapping[int, int | None] | None


def check_tolerance(tolerance: Tolerance) -> None:
    """Raise ValueError unless the tolerance is None, an integer >= 0, or a schedule of these.

    A schedule must begin at epoch 0.
    """
    schedule = tolerance if isinstance(tolerance, Mapping) else {0: tolerance}
    whole = [*schedule, *(value for value in schedule.values() if value is not None)]
    if 0 in schedule and all(
        isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in whole
    ):
        return
    raise ValueError(
        "tolerance must be an integer >= 0, None, or a schedule {epoch: tolerance} of such that"
        f" begins at epoch 0, got {tolerance!r}"
    )


def tolerance_at(tolerance: Tolerance, epoch: int) -> int | None:
    """Return the tolerance of an epoch, which is a schedule's newest entry."""
    if not isinstance(tolerance, Mapping):
        return tolerance
    return tolerance[max(start for start in tolerance if start <= epoch)]
