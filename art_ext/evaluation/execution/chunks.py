"""Chunks of samples: their clean pass, their targets, and the successes on them so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext.core.checks import listed
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.samples import admit
from art_ext.evaluation.analysis.examples import choose
from art_ext.evaluation.execution.job import Job
from art_ext.evaluation.execution.probe import make_oracle, probe
from art_ext.evaluation.panel.targets import choose_targets

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class CleanPass:
    """The clean samples of a chunk (K of them) before one model.

    Attributes:
        labels: (K,) int64 labels of the samples.
        predictions: (K,) int64 predicted classes.
        targets: (K,) int64 target classes, -1 for none.
        targeted: True if the attacks have targets.
        facts: of the probe, in the types of JSON.
        successes: by eps, (K,) bool: samples with a success of an attack that has run.
    """

    labels: Tensor
    predictions: Tensor
    targets: Tensor
    targeted: bool
    facts: Mapping[str, Any]
    successes: dict[float, Tensor] = field(default_factory=dict)

    @property
    def wrong(self) -> Tensor:
        """(K,) bool, misclassified before any attack."""
        return self.predictions != self.labels

    @property
    def goals(self) -> Tensor:
        """(K,) int64, the classes to leave or, with targets, to reach."""
        return self.targets if self.targeted else self.labels

    @property
    def attackable(self) -> Tensor:
        """(K,) bool, the samples to attack: all, or with targets those not yet at their target."""
        if not self.targeted:
            return torch.ones_like(self.wrong)
        return ~self.wrong & (self.targets != self.labels)

    def count(self, rows: pd.DataFrame, start: int) -> None:
        """Add the successes of a unit. A success at eps counts as a success at every larger eps.

        Args:
            rows: its records.
            start: position of the chunk's first sample.
        """
        found = rows[rows["success"]]
        for eps, successes in self.successes.items():
            index = found.loc[found["eps"] <= eps, "index"].to_numpy(copy=True)
            successes[torch.from_numpy(index) - start] = True


@dataclass(frozen=True, eq=False)
class Chunk:
    """Samples that are attacked together.

    Attributes:
        number: of the chunk.
        samples: their positions in the data.
        clean: by model, the clean pass.
        shown: positions in the chunk of the samples that the report may show.
    """

    number: int
    samples: slice
    clean: Mapping[str, CleanPass]
    shown: Tensor

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the clean samples, by model."""
        return {name: dict(clean.facts) for name, clean in self.clean.items()}


def clean_pass(job: Job, number: int, samples: slice) -> Chunk:
    """Return a chunk after one clean pass of each model.

    Only the first chunk of the data is evaluated more than once, to find models whose answers
    depend on chance or on the batch. So the result depends on the samples alone.

    Raises:
        TypeError, ValueError: as ``probe``, and if an attack of the panel cannot run on a model.
    """
    clean = {
        name: _clean_pass(job, name, model, samples, repeat=number == 0)
        for name, model in job.models.items()
    }
    right = _right(clean)
    return Chunk(number, samples, clean, choose(job.data.y[samples], right))


def images_of(job: Job, chunk: Chunk) -> dict[str, Tensor]:
    """Return the samples of a chunk to keep: those that the report may show, or all."""
    right = _right(chunk.clean)
    y = job.data.y[chunk.samples]
    shown = torch.zeros_like(right).index_fill(0, chunk.shown, True)
    rows = torch.arange(len(y)) if job.save_images else chunk.shown
    return {
        "index": rows + chunk.samples.start,
        "x": job.data.x[chunk.samples][rows].to(torch.float32).contiguous(),
        "y": y[rows],
        "right": right[rows],
        "shown": shown[rows],
    }


def _right(clean: Mapping[str, CleanPass]) -> Tensor:
    """Return bool (K,), the samples to attack that every model classifies correctly."""
    return torch.stack([one.attackable & ~one.wrong for one in clean.values()]).all(dim=0)


def _clean_pass(job: Job, name: str, model: Model, samples: slice, repeat: bool) -> CleanPass:
    """Return the clean pass of one model over a chunk."""
    x = job.data.x[samples]
    y = job.data.y[samples].to(torch.int64)
    gradients = any(attack.access == "gradients" for attack in job.panel)
    found = probe(model, x, y, job.settings, gradients, start=samples.start, repeat=repeat)
    _check_members(job, name, found.classes, found.facts)
    known = len(job.data.class_names or ())  # of a model that returns labels only
    classes = found.classes or max(known, int(job.data.y.max()) + 1)
    targets = choose_targets(
        job.settings.targeted,
        y,
        job.ids[samples],
        job.settings.seed,
        classes,
        _least_likely(job, model, x),
    )
    return CleanPass(
        labels=y,
        predictions=found.labels,
        targets=targets,
        targeted=job.settings.targeted is not None,
        facts=found.facts,
        successes={eps: torch.zeros(len(y), dtype=torch.bool) for eps in job.settings.eps},
    )


def _least_likely(job: Job, model: Model, x: Tensor) -> Tensor | None:
    """Return the classes (K,) of the lowest clean score, if the targets need them.

    This costs one more forward each, outside of any attack.
    """
    if job.settings.targeted != "least-likely":
        return None
    with make_oracle(ScoreOracle, model, len(x), job.settings) as oracle:
        samples = admit(oracle, x)[0]
        scores = oracle.scores(samples, torch.arange(len(x), device=oracle.device))
        return scores.argmin(dim=1).cpu()


def _check_members(job: Job, name: str, classes: int | None, facts: Mapping[str, Any]) -> None:
    """Raise ValueError unless all attacks of the panel can run on a model.

    Args:
        job: of the run.
        name: of the model.
        classes: number of its classes, or None if it returns labels only.
        facts: from ``probe``.
    """
    reason = facts.get("not_differentiable")
    if reason:
        members: Sequence[str] = [
            attack.name for attack in job.panel if attack.access == "gradients"
        ]
        raise ValueError(
            f"{listed(members)} {'needs' if len(members) == 1 else 'need'} gradients, and the"
            f" model {name!r} gives none ({reason}). Attacks that need no gradients: --panel"
            " black-box, or --attack rays"
        )
    for attack in job.panel:
        if attack.check_classes is not None and classes:
            attack.check_classes(classes)
