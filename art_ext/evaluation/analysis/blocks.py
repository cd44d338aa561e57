"""Records of a run in blocks, the successes in them, and facts of ``run.json`` about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.adapters.external import SCORE_PARTS

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str, float]
Columns = dict[str, np.ndarray]
Parts = Mapping[tuple[str, float], Sequence[tuple[str, set[int]]]]
NORMS = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}
# stands for an attack in the rows that sum up a panel, so no attack may have this name
WORST_CASE = "worst_case"
CUSTOM = "custom"  # name of the panel of a run whose attacks were given one by one
NAMES = ("model", "attack", "eps")
ROW = "row"  # position in the records
# in 32 bits here: a large run has millions of rows
_COUNTS = (
    "index",
    "label",
    "target",
    "clean_prediction",
    "queries",
    "queries_to_success",
    "gradients",
    "wasted_rows",
)


class Blocks:
    """Records in blocks: the rows of one model, attack and eps, in the order of the records.

    Columns that are equal in the blocks of a model, such as the labels, are kept once.

    Args:
        columns: columns of each block, in the order of the blocks, with ``ROW``.
        types: type of each column of the records.
    """

    def __init__(self, columns: dict[Key, Columns], types: Mapping[str, Any]) -> None:
        self._columns = columns
        self._types = dict(types)
        # smallest radii by model, attack and whether a detector is ignored, see radii.py
        self.radii: dict[tuple[str, str, bool], np.ndarray] = {}
        # by model, one past the last position of its samples
        self._ends: dict[str, int] = {}
        for key in self:
            end = int(self.column(key, "index").max()) + 1
            self._ends[key[0]] = max(end, self._ends.get(key[0], 0))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of records."""
        return sum(len(columns["index"]) for columns in self._columns.values())

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the records."""
        return list(dict.fromkeys(model for model, _, _ in self))

    def attacks(self, model: str) -> list[str]:
        """Return the names of the attacks on a model, in the order of the records."""
        return list(dict.fromkeys(attack for own, attack, _ in self if own == model))

    def keys(self, model: str, attack: str | None = None, eps: float | None = None) -> list[Key]:
        """Return the blocks of a model, of one attack only, and within eps, where given."""
        return [
            key
            for key in self
            if key[0] == model
            and (attack is None or key[1] == attack)
            and (eps is None or key[2] <= eps)
        ]

    def column(self, key: Key, name: str) -> np.ndarray:
        """Return a column of a block."""
        return self._columns[key][name]

    def names(self, key: Key) -> Collection[str]:
        """Return the names of the columns of a block."""
        return self._columns[key].keys()

    def samples(self, model: str) -> pd.DataFrame:
        """Return the samples of a model by position, ascending: label, target, clean results."""
        import pandas as pd

        names = (
            "index",
            "id",
            "label",
            "target",
            "clean_prediction",
            "already_adversarial",
            "clean_score",
            "clean_accepted",
        )
        found: dict[str, list[np.ndarray]] = {name: [] for name in names if name in self._types}
        seen = self.nothing(model)
        for key in self.keys(model):
            index = self.column(key, "index")
            new = ~seen[index]
            if not new.any():
                continue
            seen[index] = True
            for name, values in found.items():
                values.append(self.column(key, name)[new])
        joined = {name: np.concatenate(values) for name, values in found.items()}
        return pd.DataFrame(joined).set_index("index").sort_index()

    def nothing(self, model: str) -> np.ndarray:
        """Return False for each position up to the last one of a model's samples."""
        return np.zeros(self._ends[model], dtype=bool)

    def spread(self, key: Key, values: np.ndarray) -> np.ndarray:
        """Return bool by position of bool by row of a block."""
        found = self.nothing(key[0])
        found[self.column(key, "index")] = values
        return found

    def renamed(self, names: Mapping[str, str]) -> Blocks:
        """Return the blocks with other names of models."""
        columns = {
            (names.get(model, model), attack, eps): columns
            for (model, attack, eps), columns in self._columns.items()
        }
        return Blocks(columns, self._types)

    def frame(self) -> pd.DataFrame:
        """Return all records as they were given."""
        import pandas as pd

        if not self._columns:
            return pd.DataFrame()
        parts = []
        for (model, attack, eps), columns in self._columns.items():
            whole = {**columns, "model": model, "attack": attack, "eps": eps}
            parts.append(pd.DataFrame({name: whole[name] for name in self._types}))
        rows = np.concatenate([columns[ROW] for columns in self._columns.values()])
        whole_frame = pd.concat(parts, ignore_index=True).astype(self._types)
        return whole_frame.iloc[np.argsort(rows)].reset_index(drop=True)


def blocks_of(records: Blocks | pd.DataFrame) -> Blocks:
    """Return records as blocks."""
    return records if isinstance(records, Blocks) else collect([records])


def collect(parts: Iterable[pd.DataFrame]) -> Blocks:
    """Return the blocks of parts of the records, which come one after the other."""
    collected: dict[Key, list[Columns]] = {}
    types: dict[str, Any] = {}
    start = 0
    for rows in parts:
        types = types or dict(rows.dtypes)
        groups: Any = rows.groupby(list(NAMES), sort=False).indices
        for (model, attack, eps), positions in groups.items():
            columns = {
                name: _compact(name, rows[name].to_numpy()[positions])
                for name in rows.columns
                if name not in NAMES
            }
            columns[ROW] = (positions + start).astype(np.int32)
            collected.setdefault((str(model), str(attack), float(eps)), []).append(columns)
        start += len(rows)
    shared: dict[Key, Columns] = {}
    first: dict[str, Columns] = {}
    for key in _ordered(collected):
        columns = _joined(collected.pop(key))
        earlier = first.setdefault(key[0], columns)
        shared[key] = {
            name: earlier[name] if np.array_equal(earlier[name], values) else values
            for name, values in columns.items()
        }
    return Blocks(shared, types)


def new_success(blocks: Blocks, key: Key) -> np.ndarray:
    """Return bool by row of a block: a success on a sample that was classified correctly."""
    return blocks.column(key, "success") & ~blocks.column(key, "already_adversarial")


def fingerprints(blocks: Blocks) -> pd.Series:
    """Return the fingerprints of all samples by position."""
    return samples_of(blocks, ["id"])["id"]


def samples_of(blocks: Blocks, columns: list[str]) -> pd.DataFrame:
    """Return columns of all samples by position, each once."""
    import pandas as pd

    found = pd.concat([blocks.samples(model)[columns] for model in blocks.models])
    return found[~found.index.duplicated()]


def _ordered(keys: Iterable[Key]) -> list[Key]:
    """Return the keys with models, and then attacks, together as they came."""
    models: dict[str, int] = {}
    attacks: dict[tuple[str, str], int] = {}
    every = list(keys)
    for key in every:
        models.setdefault(key[0], len(models))
        attacks.setdefault(key[:2], len(attacks))
    return sorted(every, key=lambda key: (models[key[0]], attacks[key[:2]]))


def _compact(name: str, values: np.ndarray) -> np.ndarray:
    """Return counts in 32 bits, if they fit."""
    if name not in _COUNTS or not len(values):
        return values
    limits = np.iinfo(np.int32)
    fits = limits.min <= values.min() and values.max() <= limits.max
    return values.astype(np.int32) if fits else values


def _joined(parts: list[Columns]) -> Columns:
    """Return the columns of several parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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


def panel_name(run: Mapping[str, Any]) -> str | None:
    """Return the panel of a run with its version, and the members with other arguments.

    None for attacks that were given one by one.
    """
    panel = run["panel"]
    if panel["name"] == CUSTOM:
        return None
    name = f"{panel['name']}-{panel['version']}" if "version" in panel else panel["name"]
    changed = panel.get("changed", [])
    return f"{name} with other arguments of {', '.join(changed)}" if changed else str(name)


def in_cascade(run: Mapping[str, Any]) -> bool:
    """Return True if each attack was given only the samples without an earlier success."""
    return bool(run["panel"]["mode"] == "cascade")


def stopped_early(run: Mapping[str, Any], attack: str) -> bool:
    """Return True if the attack stopped on each sample at its first success."""
    return bool(run["attacks"][attack]["stops_early"] and run["settings"]["stop_on_success"])


def minimises(run: Mapping[str, Any], attack: str) -> bool:
    """Return True for a minimum-norm attack that minimises a distortion of its own."""
    entry = run["attacks"][attack]
    # format 4 does not say it
    return bool(entry.get("minimises", entry["nearest"] and not entry["stops_early"]))
