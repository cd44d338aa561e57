"""Records of a run by model, attack and eps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str, float]
Columns = dict[str, np.ndarray]
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

    def samples(self, model: str) -> pd.DataFrame:
        """Return the samples of a model by position, ascending: label, target, clean results."""
        import pandas as pd

        names = ("index", "id", "label", "target", "clean_prediction", "already_adversarial")
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


def successes(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> np.ndarray:
    """Return bool by position: a success of an attack within eps.

    Args:
        blocks: the records.
        model: one of the models.
        eps: radius. A success within a smaller radius counts.
        attacks: names of the attacks that count. None: all.
    """
    found = blocks.nothing(model)
    for key in blocks.keys(model, eps=eps):
        if attacks is None or key[1] in attacks:
            found |= blocks.spread(key, new_success(blocks, key))
    return found


def adversarial(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> np.ndarray:
    """Return bool by position: misclassified, or a success of an attack within eps.

    Args:
        blocks, model, eps, attacks: as in ``successes``.
    """
    found = successes(blocks, model, eps, attacks)
    for key in blocks.keys(model):
        found |= blocks.spread(key, blocks.column(key, "already_adversarial"))
    return found


def fingerprints(blocks: Blocks) -> pd.Series:
    """Return the fingerprints of all samples by position."""
    import pandas as pd

    ids = pd.concat([blocks.samples(model)["id"] for model in blocks.models])
    return ids[~ids.index.duplicated()]


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
