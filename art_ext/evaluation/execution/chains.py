"""States of the samples of a unit: their statistics for the records, and those that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.checks import check_flag
from art_ext.core.metrics import chain_statistics
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.storage.records import CHAIN

if TYPE_CHECKING:
    from art_ext.evaluation.execution.chunks import CleanPass
    from art_ext.evaluation.execution.job import Job
    from art_ext.evaluation.panel.attack import Attack


def check_chains(job: Job) -> None:
    """Raise ValueError if states are to be kept and no attack draws any."""
    check_flag("save_states", job.save_states)
    if job.save_states and not job.chains:
        names = ", ".join(attack.name for attack in job.panel)
        raise ValueError(
            f"save_states needs an attack with several states of a sample, got {names}: give hmcam,"
            " pgd with keep_samples=true and num_restarts, or mi_fgsm with keep_samples=S"
        )


def chain_columns(
    job: Job,
    model: Model,
    clean: CleanPass,
    attack: Attack,
    found: Sequence[AttackResult],
    index: Tensor,
) -> dict[str, Tensor]:
    """Return the columns of ``CHAIN`` of the K samples of a chunk, 0 or NaN without states.

    The model predicts each state once. These queries are not counted.

    Args:
        job: of the run.
        model: the model attacked.
        clean: the clean pass of the samples.
        attack: that ran.
        found: its result on some samples, if there are any.
        index: (M,) positions of these samples.
    """
    columns = {
        name: torch.full((len(clean.labels),), nothing, dtype=_dtype(nothing))
        for name, nothing in CHAIN.items()
    }
    settings = job.settings
    goal = clean.goals_of(attack)[index]
    for result in found:
        if not attack.chain or result.samples is None:
            continue
        chain = chain_statistics(
            result,
            model,
            **{"targets" if clean.targeted else "y": goal},
            **settings.keywords("outputs", "batch_size", "device"),
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
    return columns


def _dtype(nothing: float) -> torch.dtype:
    return torch.int64 if isinstance(nothing, int) else torch.float64


def states_of(found: Sequence[AttackResult], positions: Tensor) -> dict[str, Tensor]:
    """Return the states to keep: ``index`` (M,) and ``samples`` (S, M, *S). Empty without any.

    Args:
        found: the result on M samples, if there are any.
        positions: (M,) of these samples in the data.
    """
    for result in found:
        if result.samples is not None:
            samples = result.samples.detach().to("cpu", torch.float32).contiguous()
            return {"index": positions, "samples": samples}
    return {}
