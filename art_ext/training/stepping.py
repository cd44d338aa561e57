"""Learning rate schedules with ``.step()``: torch's, timm's, the caller's own."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from art_ext.core.checks import nearest

METRICS = ("metrics", "metric")
EPOCH = "epoch"
Row = Mapping[str, float]


def step_arguments(schedule: Any) -> tuple[str, ...]:
    """Return the names of the arguments of ``schedule.step()``: none, a metric, the epochs done.

    ``.step()`` is called without arguments if possible. Otherwise it gets its required
    parameters, and a metric that it accepts in addition, as timm's schedules do.

    Raises:
        ValueError: if it requires anything else.
    """
    signature = _signature(schedule)
    if signature is None:
        return ()
    required = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    strange = [name for name in required if name not in (*METRICS, EPOCH)]
    if strange:
        raise ValueError(
            f"a schedule's .step() must take no argument, 'metrics' or 'epoch', but "
            f"{type(schedule).__name__}.step() needs {', '.join(map(repr, strange))}"
        )
    if not required:
        return ()
    return tuple(name for name in signature.parameters if name in required or name in METRICS)


def wants_metric(schedule: Any) -> bool:
    """Return True if ``schedule.step()`` gets a metric."""
    return any(name in METRICS for name in step_arguments(schedule))


def call_step(schedule: Any, epoch: int, metric: float | None) -> None:
    """Call ``schedule.step()`` with the arguments that it accepts."""
    wanted = step_arguments(schedule)
    signature = _signature(schedule)
    if signature is None or not wanted:
        schedule.step()
        return
    values = OrderedDict((name, epoch if name == EPOCH else metric) for name in wanted)
    bound = inspect.BoundArguments(signature, values)
    schedule.step(*bound.args, **bound.kwargs)


def metric_of(row: Row, name: str) -> float:
    """Return the column of the history that a schedule follows.

    ``"validation_loss"`` is the training loss in a run without validation.

    Raises:
        ValueError: if there is no such column.
    """
    if name == "validation_loss" and name not in row:
        name = "loss"
    if name not in row:
        raise ValueError(
            f"schedule_metric must be a column of the history, one of {', '.join(row)}, "
            f"got {name!r}{nearest(name, row)}"
        )
    return float(row[name])


def check_metric(name: str, validation: bool, robust: bool) -> None:
    """Raise ValueError for a metric of a validation that the run does not have.

    Args:
        name: ``schedule_metric``.
        validation: True if the run has held-out samples.
        robust: True if they are attacked.
    """
    if name in ("validation_clean", "validation_robust") and not validation:
        raise ValueError(
            f"schedule_metric {name!r} needs held-out samples: pass validation or validation_data"
        )
    if name == "validation_robust" and not robust:
        raise ValueError(
            "schedule_metric 'validation_robust' needs an attack on the held-out samples: pass "
            "validation_eps > 0"
        )


def _signature(schedule: Any) -> inspect.Signature | None:
    """Return the signature of ``schedule.step``, or None if it cannot be inspected."""
    try:
        return inspect.signature(schedule.step)
    except (TypeError, ValueError):
        return None
