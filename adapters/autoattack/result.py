"""The result of an AutoAttack run, joined from those of its chunks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from art_ext.adapters.autoattack.package import SIGNS, heard_in, listening
from art_ext.adapters.autoattack.plan import Plan
from art_ext.adapters.autoattack.state import Chunk
from art_ext.adapters.external import MODEL_CHANGED, Flag
from art_ext.core.geometry import exact_mean
from art_ext.core.result import AttackResult


@dataclass(frozen=True, eq=False)
class AutoAttackResult(AttackResult):
    """An ``AttackResult``, and what AutoAttack says of it.

    Attributes:
        flags: AutoAttack's own six, raised or not, and ``"model-changed"`` if one of its attacks
            changed the network.
        accuracies: share of samples that stand, by the name of the attack: after it and all before
            it. ``"clean"`` is the first. Attacks of ``then`` come last.
        broken_by: (N,) int64, the position in accuracies of the attack that succeeded on the
            sample. It is 0 for the clean check, and -1 where the sample stands.
        deviations: where the run is not AutoAttack as its authors publish it, in a sentence each:
            fewer targets for a model of fewer than 10 classes, and the settings of ``adjust``.
    """

    flags: tuple[Flag, ...] = ()
    accuracies: dict[str, float] = field(default_factory=dict)
    broken_by: Tensor | None = None
    deviations: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AutoAttackResult:
        """Read a result that ``save`` wrote, as ``AttackResult.load`` does."""
        found = vars(super().load(path))
        found["flags"] = tuple(Flag(**flag) for flag in found["flags"])
        found["deviations"] = tuple(found["deviations"])  # JSON holds lists
        return cls(**found)


def join(plan: Plan, chunks: Sequence[Chunk]) -> AutoAttackResult:
    """Return one result of all chunks, with the accuracies and the flags of the whole."""
    result = AttackResult.cat([chunk.result for chunk in chunks])
    broken_by = torch.cat([chunk.broken_by for chunk in chunks])
    names = ["clean", *chunks[0].names]
    accuracies = {
        name: exact_mean((broken_by < 0) | (broken_by > number))
        for number, name in enumerate(names)
    }
    own = {part.name: getattr(result, part.name) for part in fields(AttackResult)}
    return AutoAttackResult(
        **own,
        flags=_flags(plan, chunks, accuracies, attacked=not bool((broken_by == 0).all())),
        accuracies=accuracies,
        broken_by=broken_by,
        deviations=tuple(dict.fromkeys(one for chunk in chunks for one in chunk.deviations)),
    )


def _flags(
    plan: Plan, chunks: Sequence[Chunk], accuracies: dict[str, float], attacked: bool
) -> tuple[Flag, ...]:
    """Return AutoAttack's flags, raised or not, and those that are raised by our own checks.

    Args:
        plan: settings of the run.
        chunks: its chunks.
        accuracies: by the name of the attack, in order.
        attacked: False if no sample was attacked.
    """
    heard: dict[str, str] = {}
    for chunk in chunks:
        heard = chunk.heard | heard
    attacks = list(accuracies)
    with listening() as lines:
        plan.package.checks.check_square_sr(
            {name: accuracies[name] for name in attacks[: -len(plan.then) or None]}
        )
    heard |= heard_in(lines)
    details = {} if attacked else dict.fromkeys(SIGNS, "not checked: no sample to attack")
    if plan.version == "rand":
        details["randomised"] = "not checked by version='rand'"
    details |= heard
    names = [*SIGNS, *([MODEL_CHANGED] if MODEL_CHANGED in heard else [])]
    return tuple(Flag(name, name in heard, details.get(name, "")) for name in names)
