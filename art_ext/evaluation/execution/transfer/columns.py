"""Records of a run of transfers: one row for each example on a target, by both metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext.core.geometry import DISTORTIONS
from art_ext.evaluation.execution.transfer.craft import Tensors
from art_ext.evaluation.execution.transfer.plan import Crafting
from art_ext.evaluation.panel.targets import NO_TARGET
from art_ext.storage.transfer import ANSWERS, CLEAN, CRAFTED, TransferFolder

if TYPE_CHECKING:
    from art_ext.evaluation.execution.transfer.job import Chunk, Job

IMAGES = ("x_adv", "states", "iterates")  # of a crafting


def records_of(job: Job, folder: TransferFolder) -> Iterator[dict[str, Any]]:
    """Yield the rows of each crafting on each target, over each chunk, by column.

    Raises:
        ValueError: if a file is damaged or missing.
    """
    for crafting in job.plan.craftings:
        # all targets share these files, which hold images too
        crafted = {
            chunk: _without_images(_known(folder, CRAFTED, job.crafted_key(crafting, chunk)))
            for chunk in job.plan.chunks
        }
        for target in crafting.targets:
            for chunk in job.plan.chunks:
                yield from _rows(job, folder, crafting, crafted[chunk], target, chunk)


def _without_images(crafted: Tensors) -> Tensors:
    return {name: one for name, one in crafted.items() if name not in IMAGES}


def _rows(
    job: Job,
    folder: TransferFolder,
    crafting: Crafting,
    crafted: Tensors,
    target: str,
    chunk: Chunk,
) -> Iterator[dict[str, Any]]:
    source = crafting.source
    found = _known(folder, ANSWERS, job.answers_key(target, crafting, chunk))
    own = _known(folder, CLEAN, job.clean_key(source, chunk))
    other = _known(folder, CLEAN, job.clean_key(target, chunk))["prediction"]
    goal = Goal(own["label"], own["prediction"], other, crafted["target_class"])
    cost = {name: crafted[name] for name in ("queries", "gradients", "seconds")}
    setting = crafting.setting
    shared: dict[str, Any] = {
        "source": source,
        "target": target,
        "attack": setting.attack.name,
        "setting": setting.text,
        **setting.numbers,
        "seed": setting.seed,
        "index": torch.arange(*chunk),
        "label": goal.label,
        "target_class": goal.target,
        "source_prediction": goal.source,
        "target_prediction": goal.other,
    }
    states = found.get("states", found["x_adv"].unsqueeze(0))
    end = {
        "at": 0,
        "whitebox": crafted["success"],
        **goal.metrics(found["x_adv"], crafted["success"] if source == target else None),
        "states": goal.reached(states).sum(dim=0),
        "num_states": len(states),
        **_lengths(crafted["lengths"]),
    }
    yield _arrays({**shared, **end, **cost})
    if not setting.at:
        return
    on_source = _known(folder, ANSWERS, job.answers_key(source, crafting, chunk))["iterates"]
    for place, mark in enumerate(setting.at):
        said = found["iterates"][place]
        taken = {
            "at": mark,
            "whitebox": goal.reached_on_source(on_source[place]),
            **goal.metrics(said, None),
            "states": goal.reached(said).to(torch.int64),
            "num_states": 1,
            **_lengths(crafted["iterate_lengths"][place]),
        }
        yield _arrays({**shared, **taken, **cost})


class Goal:
    """Rule by which the samples of a chunk count as successes on a target.

    Args:
        label: (K,) classes of the samples.
        source: (K,) predictions of the source on the clean samples.
        other: (K,) those of the target.
        target: (K,) classes to reach, -1 for none.
    """

    def __init__(self, label: Tensor, source: Tensor, other: Tensor, target: Tensor) -> None:
        self.label = label
        self.source = source
        self.other = other
        self.target = target
        self.targeted = target != NO_TARGET
        self.possible = target != label

    def reached(self, said: Tensor) -> Tensor:
        """(..., K) bool, predictions (..., K) that succeed against the labels."""
        wrong = (said != self.label) & (said >= 0)
        return torch.where(self.targeted, said == self.target, wrong)

    def reached_on_source(self, said: Tensor) -> Tensor:
        """(K,) bool, predictions that succeed against what the attack was told to leave."""
        changed = (said != self.source) & (said >= 0)
        return torch.where(self.targeted, said == self.target, changed)

    def metrics(self, said: Tensor, verified: Tensor | None) -> dict[str, Any]:
        """Return prediction and both metrics of predictions (K,), with the rows that are null.

        Args:
            said: predictions of the target on the examples.
            verified: (K,) successes that the attack itself verified, where the target is the
                source. Another batch may round otherwise.
        """
        counted = (self.source == self.label) & (self.other == self.label) & self.possible
        strict = self.reached(said) if verified is None else verified
        changed = (said != self.other) & (said >= 0)
        authors = torch.where(self.targeted, said == self.target, changed)
        return {
            "adversarial_prediction": said,
            "strict": (strict.numpy(), ~counted.numpy()),
            "authors": (authors.numpy(), ~self.possible.numpy()),
        }


def _lengths(lengths: Tensor) -> dict[str, Tensor]:
    return dict(zip(DISTORTIONS, lengths.unbind(dim=1), strict=True))


def _arrays(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: one.numpy() if isinstance(one, Tensor) else one for name, one in columns.items()}


def _known(folder: TransferFolder, kind: str, key: str) -> Tensors:
    found = folder.tensors(kind, key)
    if found is None:
        raise ValueError(f"{folder.path} lacks {kind}/{key}: run the same command again")
    return found
