"""Successes of attacks with gradients beside those of attacks with labels or scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from art_ext.adapters.external import SCORE_PARTS
from art_ext.evaluation.analysis.blocks import Blocks, new_success

Parts = Mapping[tuple[str, float], Sequence[tuple[str, set[int]]]]


@dataclass(frozen=True)
class Successes:
    """Successes on one model within one radius, bool by position.

    Misclassified samples are not included.

    Attributes:
        given: samples that an attack with gradients was given at this radius.
        gradients: successes of attacks with gradients.
        others: successes of attacks with labels or scores, by attack.
    """

    given: np.ndarray
    gradients: np.ndarray
    others: dict[str, np.ndarray]

    @cached_property
    def missed(self) -> np.ndarray:
        """Positions, ascending, where an attack with labels or scores succeeded, and all given
        gradients failed.
        """
        any_other = np.logical_or.reduce([np.zeros_like(self.given), *self.others.values()])
        return np.flatnonzero(any_other & self.given & ~self.gradients)

    @property
    def finders(self) -> list[str]:
        """Attacks with a success on a missed sample."""
        return sorted(name for name, found in self.others.items() if found[self.missed].any())


def successes_within(
    blocks: Blocks, model: str, eps: float, with_gradients: Collection[str], parts: Parts
) -> Successes:
    """Sort the successes on one model within eps by the access of the attacks.

    Args:
        blocks: records of the run.
        model: the model.
        eps: radius. A success within a smaller radius counts. A failure there does not.
        with_gradients: names of the attacks with gradients.
        parts: for attacks that run several, such as AutoAttack, by attack and radius: the parts in
            their order, each with the positions of its successes. Each part counts as an attack.
    """
    nothing = blocks.nothing(model)
    found = Successes(nothing.copy(), nothing.copy(), {})
    for key in blocks.keys(model, eps=eps):
        _, attack, own_eps = key
        successes = blocks.spread(key, new_success(blocks, key))
        if attack not in with_gradients:
            _add(found.others, attack, successes)
            continue
        given = blocks.spread(key, blocks.column(key, "attacked"))
        gradients_ran = False
        for part, positions in parts.get((attack, own_eps), ()):
            if part not in SCORE_PARTS:
                gradients_ran = True
                continue
            own = nothing.copy()
            own[list(positions)] = True
            _add(found.others, f"{attack}:{part}", own & successes)
            successes &= ~own
            if not gradients_ran:
                given &= ~own
        found.gradients[successes] = True
        if own_eps == eps:
            found.given[given] = True
    return found


def _add(others: dict[str, np.ndarray], name: str, successes: np.ndarray) -> None:
    """Add the successes of an attack to those that it has."""
    others[name] = others[name] | successes if name in others else successes


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
