"""Records of a run by model, attack and eps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
        parts: parts of the records, one after the other.
    """

    def __init__(self, parts: Iterable[pd.DataFrame]) -> None:
        collected: dict[Key, list[Columns]] = {}
        self._types: dict[str, Any] = {}
        start = 0
        for rows in parts:
            self._types = self._types or dict(rows.dtypes)
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
        self._columns: dict[Key, Columns] = {}
        for key in sorted(collected, key=self._order(collected)):
            self._columns[key] = self._shared(key[0], _joined(collected.pop(key)))
        # by model, one past the last position of its samples
        self._ends: dict[str, int] = {}
        for key in self:
            end = int(self.column(key, "index").max()) + 1
            self._ends[key[0]] = max(end, self._ends.get(key[0], 0))

    @classmethod
    def of(cls, records: Blocks | pd.DataFrame) -> Blocks:
        """Return records as blocks."""
        return records if isinstance(records, Blocks) else cls([records])

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
        seen = np.zeros(self._ends[model], dtype=bool)
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

    def ids(self) -> pd.Series:
        """Return the fingerprints of all samples by position."""
        import pandas as pd

        ids = pd.concat([self.samples(model)["id"] for model in self.models])
        return ids[~ids.index.duplicated()]

    def new_success(self, key: Key) -> np.ndarray:
        """Return bool by row of a block: a success on a sample that was classified correctly."""
        return self.column(key, "success") & ~self.column(key, "already_adversarial")

    def spread(self, key: Key, values: np.ndarray) -> np.ndarray:
        """Return bool by position of bool by row of a block."""
        found = np.zeros(self._ends[key[0]], dtype=bool)
        found[self.column(key, "index")] = values
        return found

    def successes(
        self, model: str, eps: float, attacks: Collection[str] | None = None
    ) -> np.ndarray:
        """Return bool by position: a success of an attack within eps.

        Args:
            model: one of the models.
            eps: radius. A success within a smaller radius counts.
            attacks: names of the attacks that count. None: all.
        """
        found = np.zeros(self._ends[model], dtype=bool)
        for key in self.keys(model, eps=eps):
            if attacks is None or key[1] in attacks:
                found |= self.spread(key, self.new_success(key))
        return found

    def adversarial(
        self, model: str, eps: float, attacks: Collection[str] | None = None
    ) -> np.ndarray:
        """Return bool by position: misclassified, or a success of an attack within eps.

        Args:
            model, eps, attacks: as in ``successes``.
        """
        found = self.successes(model, eps, attacks)
        for key in self.keys(model):
            found |= self.spread(key, self.column(key, "already_adversarial"))
        return found

    def renamed(self, names: dict[str, str]) -> Blocks:
        """Return the blocks with other names of models."""
        other = Blocks([])
        other._types = self._types
        other._columns = {
            (names.get(model, model), attack, eps): columns
            for (model, attack, eps), columns in self._columns.items()
        }
        other._ends = {names.get(model, model): end for model, end in self._ends.items()}
        return other

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

    def _shared(self, model: str, columns: Columns) -> Columns:
        """Return columns of which those that an earlier block of the model has are the same."""
        earlier = next((own for key, own in self._columns.items() if key[0] == model), None)
        if earlier is None:
            return columns
        return {
            name: earlier[name] if np.array_equal(earlier[name], values) else values
            for name, values in columns.items()
        }

    @staticmethod
    def _order(keys: Iterable[Key]) -> Any:
        """Return the sorting key that puts models, and then attacks, together as they came."""
        models: dict[str, int] = {}
        attacks: dict[tuple[str, str], int] = {}
        radii: dict[Key, int] = {}
        for key in keys:
            models.setdefault(key[0], len(models))
            attacks.setdefault(key[:2], len(attacks))
            radii.setdefault(key, len(radii))
        return lambda key: (models[key[0]], attacks[key[:2]], radii[key])


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
