"""Successes of attacks with gradients beside those of attacks with labels or scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCORE_PARTS = ("square",)  # of AutoAttack: its other parts use gradients

Parts = Mapping[tuple[str, float], Sequence[tuple[str, set[int]]]]


@dataclass(frozen=True)
class Successes:
    """Positions of successes on one model within one radius. Misclassified samples are not
    included.

    Attributes:
        given: positions that an attack with gradients was given at this radius.
        gradients: positions of successes of attacks with gradients.
        others: positions of successes of attacks with labels or scores, by attack.
    """

    given: set[int]
    gradients: set[int]
    others: dict[str, set[int]]

    @property
    def missed(self) -> set[int]:
        """Positions where an attack with labels or scores succeeded, and all given gradients
        failed.
        """
        return (set().union(*self.others.values()) & self.given) - self.gradients

    @property
    def finders(self) -> list[str]:
        """Attacks with a success on a missed sample."""
        missed = self.missed
        return sorted(name for name, positions in self.others.items() if positions & missed)


def successes_within(
    rows: pd.DataFrame, eps: float, with_gradients: Collection[str], parts: Parts
) -> Successes:
    """Sort the successes on one model within eps by the access of the attacks.

    Args:
        rows: records of the model.
        eps: radius. A success within a smaller radius counts. A failure there does not.
        with_gradients: names of the attacks with gradients.
        parts: for attacks that run several, such as AutoAttack, by attack and radius: the parts in
            their order, each with the positions of its successes. Each part counts as an attack.
    """
    found = Successes(set(), set(), {})
    for (attack, own_eps), own in rows[rows["eps"] <= eps].groupby(["attack", "eps"], sort=False):
        successes = set(own.loc[own["success"] & ~own["already_adversarial"], "index"].tolist())
        if attack not in with_gradients:
            found.others.setdefault(attack, set()).update(successes)
            continue
        given = set(own.loc[own["attacked"], "index"].tolist())
        gradients_ran = False
        for part, positions in parts.get((attack, own_eps), ()):
            if part not in SCORE_PARTS:
                gradients_ran = True
                continue
            found.others.setdefault(f"{attack}:{part}", set()).update(positions & successes)
            successes -= positions
            given -= set() if gradients_ran else positions
        found.gradients.update(successes)
        if own_eps == eps:
            found.given.update(given)
    return found


def parts_of(facts: Sequence[Mapping[str, Any]]) -> Parts:
    """Parts of attacks that run several, over all chunks."""
    joined: dict[tuple[str, float], dict[str, set[int]]] = {}
    for fact in facts:
        if "parts" not in fact:
            continue
        own = joined.setdefault((fact["attack"], fact["eps"]), {})
        for part, positions in fact["parts"]:
            own.setdefault(part, set()).update(positions)
    return {key: list(parts.items()) for key, parts in joined.items()}
