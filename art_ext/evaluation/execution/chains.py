"""States of the samples of a unit: their statistics for the records, and those that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_flag
from art_ext.core.metrics import chain_statistics
from art_ext.core.result import AttackResult
from art_ext.evaluation.analysis.clouds import METHODS, pictured
from art_ext.storage.records import CHAIN

if TYPE_CHECKING:
    from art_ext.evaluation.execution.chunks import Chunk
    from art_ext.evaluation.execution.job import Job
    from art_ext.evaluation.panel.attack import Attack
    from art_ext.storage.units import Unit


def check_chains(job: Job) -> None:
    """Raise ValueError if states are to be kept or shown and no attack draws any."""
    check_flag("save_states", job.save_states)
    if job.picture is not None:
        check_choice("picture", job.picture, METHODS)
    if (job.save_states or job.picture) and not job.chains:
        names = ", ".join(attack.name for attack in job.panel)
        wanting = "save_states" if job.save_states else "picture"
        raise ValueError(
            f"{wanting} needs an attack with several states of a sample, got {names}: give hmcam,"
            " pgd with keep_samples=true and num_restarts, or mi_fgsm with keep_samples=S"
        )


def chains_of(
    job: Job, chunk: Chunk, unit: Unit, attack: Attack, found: Sequence[AttackResult], index: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the columns of ``CHAIN`` of the K samples of a chunk, and the states to keep.

    The model predicts each state once. These queries are not counted. Without states the columns
    are 0 or NaN, and nothing is kept.

    Args:
        job: of the run.
        chunk: the samples.
        unit: of the attack.
        attack: that ran.
        found: its result on some samples, if there are any.
        index: (M,) positions of these samples in the chunk.

    Returns:
        The columns, and ``index`` (M,), ``samples`` (S, M, *S) and ``classes`` (S, M) of the kept
        samples: all, or with a picture only those that it shows.
    """
    columns = {
        name: torch.full((len(chunk.y),), nothing, dtype=_dtype(nothing))
        for name, nothing in CHAIN.items()
    }
    clean = chunk.clean[unit.model]
    goal = clean.goals_of(attack)[index]
    kept: dict[str, Tensor] = {}
    for result in found:
        if not attack.chain or result.samples is None:
            continue
        chain = chain_statistics(
            result,
            job.models[unit.model],
            y=None if clean.targeted else goal,
            targets=goal if clean.targeted else None,
            **job.settings.keywords("outputs", "batch_size", "device"),
        )
        own = {
            "states": torch.full_like(index, chain.states),
            "adversarial_states": chain.adversarial,
            "transitions": chain.transitions,
            "accepted_transitions": chain.accepted,
            "diversity": chain.distance,
            "diversity_l2": chain.distance_l2,
            "state_classes": chain.distinct,
        }
        for name, values in own.items():
            if values is not None:
                columns[name][index] = values.to(columns[name].dtype)
        if chain.labels is not None:
            kept = _kept(job, chunk, result.samples, chain.labels, index)
    return columns, kept


def _dtype(nothing: float) -> torch.dtype:
    return torch.int64 if isinstance(nothing, int) else torch.float64


def _kept(
    job: Job, chunk: Chunk, samples: Tensor, labels: Tensor, index: Tensor
) -> dict[str, Tensor]:
    """Return the states to keep, of samples (S, M, *S) with predictions (S, M)."""
    wanted = torch.full_like(index, job.save_states, dtype=torch.bool)
    if job.picture and not chunk.number:
        wanted |= torch.isin(index, pictured(chunk.shown))
    rows = wanted.nonzero().squeeze(1)
    if not len(rows):
        return {}
    return {
        "index": index[rows] + chunk.samples.start,
        "samples": samples.detach().to("cpu", torch.float32)[:, rows].contiguous(),
        "classes": labels[:, rows].contiguous(),
    }
