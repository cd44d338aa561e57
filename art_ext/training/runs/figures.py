"""Figures of a trained network on test data: clean, PGD and, optionally, RayS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.attacks import pgd, rays
from art_ext.core.geometry import ClipValues
from art_ext.core.metrics import adbd, clean_accuracy, query_statistics, robust_accuracy
from art_ext.core.result import AttackResult
from art_ext.data import Dataset, Samples
from art_ext.data.reading import Reader

PART = 512  # samples that are read together, if they are not in memory
PGD_STEPS = 20  # unless the configuration says otherwise
SEED = 0  # PGD's random start is the same for all runs, so that their figures can be compared
HEAD = (
    "weights",
    "epoch",
    "clean acc.",
    "{pgd}",
    "stability",
    "RayS",
    "ADBD",
    "mean queries",
    "forwards",
    "backwards",
    "minutes",
)


def measure(
    model: nn.Module,
    data: Samples,
    *,
    eps: float,
    norm: str,
    clip_values: ClipValues,
    queries: int,
    pgd_steps: int = PGD_STEPS,
    pgd_step_size: float | None = None,
    loss: str = "ce",
) -> dict[str, Any]:
    """Measure fractions of correctly classified samples, as JSON values.

    PGD starts from one point drawn uniformly from the ball, without restarts. It succeeds on a
    sample if any of its iterates, the starting point included, is misclassified.

    Args:
        model: the network, on any device.
        data: test samples. All of them are used.
        eps, norm, clip_values: the ball and the box.
        queries: RayS queries per sample, without a stop at success. 0 omits RayS.
        pgd_steps: number of steps of PGD.
        pgd_step_size: length of each in the units of x. None: ``2.5 eps / pgd_steps``.
        loss: that PGD ascends, ``"ce"`` or ``"margin"``.

    Returns:
        ``clean``, ``pgd20`` (the number is that of the steps), ``stability``, the share of all
        samples whose prediction, right or wrong, PGD does not change, and ``rays``: None, or a dict
        of ``robust_accuracy``, ``adbd``, ``left_out`` (samples without any adversarial, which are
        not in the ADBD), ``mean_queries`` and ``median_queries`` until success. Means of nothing
        are None.
    """
    shared: dict[str, Any] = {"eps": eps, "norm": norm, "clip_values": clip_values, "seed": SEED}
    length = step_size(eps, pgd_steps, pgd_step_size)
    steps = {"num_steps": pgd_steps, "step_size": length, "loss": loss, "stop_on_success": True}
    result = _attacked(pgd, model, data, **steps, **shared)
    found: dict[str, Any] = {
        "clean": clean_accuracy(result),
        f"pgd{pgd_steps}": robust_accuracy(result),
        "stability": _stability(model, data, result, **steps, **shared),
        "rays": None,
    }
    if queries:
        result = _attacked(rays, model, data, max_queries=queries, stop_on_success=False, **shared)
        boundary = adbd(result)
        spent = query_statistics(result)
        found["rays"] = {
            "robust_accuracy": robust_accuracy(result),
            "adbd": _known(boundary.value),
            "left_out": boundary.left_out,
            "mean_queries": _known(spent.mean),
            "median_queries": _known(spent.median),
        }
    return found


def _attacked(
    attack: Callable[..., AttackResult], model: nn.Module, data: Samples, **arguments: Any
) -> AttackResult:
    """Return the result of an attack, without images if the data are not in memory.

    Such data are read and attacked part by part.
    """
    if isinstance(data, Dataset):
        return attack(model, data.x, data.y, **arguments)
    parts = [_without_images(attack(model, x, y, **arguments)) for x, y in _parts(data)]
    whole: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, Tensor)
    }
    return replace(parts[0], **whole)


def _parts(data: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of all samples in parts."""
    ranges = [(start, min(start + PART, len(data))) for start in range(0, len(data), PART)]
    reader = Reader(data, ranges)
    return (reader.rows(*one) for one in ranges)


def _stability(model: nn.Module, data: Samples, result: AttackResult, **arguments: Any) -> float:
    """Return the share of predictions that PGD does not change.

    Args:
        model, data: as in ``measure``.
        result: of PGD with the true labels, which decides on the samples classified correctly. PGD
            attacks the predictions of the others.
        arguments: of PGD.
    """
    wrong = result.already_adversarial.cpu()
    held = int((~result.success).sum())
    start = 0
    for x, _ in _parts(data) if bool(wrong.any()) else ():
        rows = x[wrong[start : start + len(x)].to(x.device)]
        start += len(x)
        if len(rows):
            held += int((~pgd(model, rows, **arguments).success).sum())
    return held / len(wrong)


def _without_images(result: AttackResult) -> AttackResult:
    nothing = torch.empty(len(result.success), 0)
    return replace(result, x_adv=nothing, x_nearest=None, samples=None, trace=None)


def step_size(eps: float, steps: int, given: float | None) -> float:
    """Return the step size of PGD: the given one, or ``2.5 eps / steps``."""
    return 2.5 * eps / steps if given is None else given


def measure_weights(
    model: nn.Module, weights: Mapping[str, torch.Tensor], data: Samples, **settings: Any
) -> dict[str, Any]:
    """Run ``measure`` with other weights. The network's own are restored, also after an error."""
    own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        model.load_state_dict(weights)
        return measure(model, data, **settings)
    finally:
        model.load_state_dict(own)


def to_text(run: Mapping[str, Any]) -> str:
    """Return the table of a run's figures: final and best weights, and their cost."""
    steps = run["pgd"]["steps"]
    rows = [_row(name, run[name], steps) for name in ("final", "best") if run[name] is not None]
    lines = [
        tuple(title.format(pgd=pgd_title(run)) for title in HEAD),
        ("---", *("---:",) * (len(HEAD) - 1)),
        *rows,
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pgd_title(run: Mapping[str, Any]) -> str:
    """Return the heading of the accuracy under PGD. It names another loss than cross-entropy."""
    loss = run["pgd"].get("loss")
    return f"PGD-{run['pgd']['steps']}{'' if loss is None else f' on the {loss}'}"


def _row(name: str, one: Mapping[str, Any], steps: int) -> tuple[str, ...]:
    queried = one["rays"] or {"robust_accuracy": None, "adbd": None, "mean_queries": None}
    return (
        name,
        str(one["epoch"]),
        _percent(one["clean"]),
        _percent(one[f"pgd{steps}"]),
        _percent(one.get("stability")),
        _percent(queried["robust_accuracy"]),
        _number(queried["adbd"], ".4f"),
        _number(queried["mean_queries"], ".1f"),
        f"{one['forwards']:,}",
        f"{one['backwards']:,}",
        f"{one['seconds'] / 60:.1f}",
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _known(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
