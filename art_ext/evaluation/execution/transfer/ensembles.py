"""Ensembles of the models of a run as sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from art_ext.core.checks import nearest
from art_ext.core.ensemble import Ensemble
from art_ext.core.oracle import Model

LEAST = 3  # sources of a hold-out: an ensemble of the others has at least two members


@dataclass(frozen=True)
class EnsembleOf:
    """Names and weights of the members of an ensemble.

    Attributes:
        name: of the ensemble.
        members: names of models.
        weights: one number > 0 for each.
    """

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...]

    def built(self, models: Mapping[str, Model], average: str, outputs: str) -> Ensemble:
        """Return the ensemble of these models."""
        members = [models[name] for name in self.members]
        return Ensemble(members, self.weights, average=average, outputs=outputs)


def read_ensemble(name: str, text: str, models: Sequence[str]) -> EnsembleOf:
    """Return the ensemble of a text such as ``"2*A+B"``.

    Args:
        name: of the ensemble.
        text: its members, with weights.
        models: names of the models.

    Raises:
        ValueError: for an unknown member, one that occurs twice, or a weight that is not > 0.
    """
    if name in models:
        raise ValueError(f"ensemble {name!r} must have another name than a model")
    members, weights = [], []
    for part in text.split("+"):
        weight, star, member = part.strip().rpartition("*")
        member = member.strip()
        if member not in models:
            raise ValueError(
                f"ensemble {name!r} has the unknown member {member!r}{nearest(member, models)}."
                f" Sources: {', '.join(models)}"
            )
        number = _number(weight.strip()) if star else 1.0
        if number is None or not number > 0:
            raise ValueError(f"weights of ensemble {name!r} must be numbers > 0, got {weight!r}")
        members.append(member)
        weights.append(number)
    if len(set(members)) < len(members):
        raise ValueError(f"ensemble {name!r} must name each member once, got {text!r}")
    return EnsembleOf(name, tuple(members), tuple(weights))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text) else None


def held_out(sources: Sequence[str]) -> dict[str, EnsembleOf]:
    """Return by each source the ensemble of all others.

    Raises:
        ValueError: for fewer than three sources.
    """
    if len(sources) < LEAST:
        raise ValueError(
            f"hold_out needs at least {LEAST} sources, of which each in turn is the target, got"
            f" {len(sources)}"
        )
    found = {}
    for target in sources:
        members = tuple(name for name in sources if name != target)
        found[target] = EnsembleOf(f"all but {target}", members, (1.0,) * len(members))
    return found


def members_of(ensembles: Sequence[EnsembleOf]) -> dict[str, list[str]]:
    """Return by the name of each ensemble the names of its members."""
    return {one.name: list(one.members) for one in ensembles}
