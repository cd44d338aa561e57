"""Claims of a table as data: ``"a.success > b.success"`` and ``"increasing: l1 over beta"``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from art_ext.core.checks import check_choice

_NUMBER = r"\d+(?:\.\d+)?"
_SIDE = re.compile(
    rf"(?:(?P<factor>{_NUMBER}) *\* *)?(?P<row>\w+)\.(?P<column>\w+)"
    rf"(?: *(?P<sign>[+-]) *(?P<offset>{_NUMBER}))?"
)
_COMPARISON = re.compile(r"(?P<left>.+?) *(?P<sign><=|>=|<|>) *(?P<right>.+)")
TREND = re.compile(r"(?P<trend>increasing|decreasing): *(?P<column>\w+) over (?P<key>\w+)")
CELL = re.compile(r"\b([A-Za-z_]\w*)\.([A-Za-z_]\w*)")  # the row and the column of a side
FORMS = (
    "'a.success > b.success', 'a.l2 <= 1.15 * b.l2', 'a.success >= b.success - 1.0',"
    " 'a.success >= 99', 'increasing: l1 over beta' or 'decreasing: l1 over beta'"
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: factor x cell + offset, or the offset alone.

    Attributes:
        row: name of the row. Empty: a number.
        column: name of the column.
        factor: multiplies the cell.
        offset: is added, in the unit of the column.
    """

    row: str = ""
    column: str = ""
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """A comparison of two sides, of which the first is claimed to be the larger one.

    Attributes:
        larger, smaller: the sides.
        strict: False if they may be equal.
    """

    larger: Side
    smaller: Side
    strict: bool

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.larger, self.smaller


def parse_claim(
    text: str, columns: Collection[str], places: Mapping[str, Mapping[str, float]]
) -> list[Comparison]:
    """Return the comparisons that a claim consists of. It holds if all of them hold.

    Args:
        text: the claim.
        columns: names of the columns of its table.
        places: by the name of each row, its place along the keys of trends.

    Raises:
        ValueError: for another form, and for unknown rows, columns and keys. The message names the
            nearest one.
    """
    trend = TREND.fullmatch(text.strip())
    if trend is not None:
        check_choice(f"column of the claim {text!r}", trend["column"], tuple(columns))
        return _of_trend(text, trend["column"], trend["key"], trend["trend"], places)
    comparison = _COMPARISON.fullmatch(text.strip())
    if comparison is None:
        raise ValueError(f"a claim must have the form {FORMS}, got {text!r}")
    sides = [_side(text, comparison[name], columns, places) for name in ("left", "right")]
    if not any(side.row for side in sides):
        raise ValueError(f"a claim must name a cell ROW.COLUMN, got {text!r}")
    larger, smaller = sides if comparison["sign"].startswith(">") else sides[::-1]
    return [Comparison(larger, smaller, not comparison["sign"].endswith("="))]


def _side(text: str, side: str, columns: Collection[str], rows: Collection[str]) -> Side:
    if re.fullmatch(_NUMBER, side):
        return Side(offset=float(side))
    found = _SIDE.fullmatch(side)
    if found is None:
        raise ValueError(f"a claim must have the form {FORMS}, got {text!r}")
    check_choice(f"row of the claim {text!r}", found["row"], tuple(rows))
    check_choice(f"column of the claim {text!r}", found["column"], tuple(columns))
    offset = float(f"{found['sign']}{found['offset']}") if found["sign"] else 0.0
    return Side(found["row"], found["column"], float(found["factor"] or 1), offset)


def _of_trend(
    text: str, column: str, key: str, trend: str, places: Mapping[str, Mapping[str, float]]
) -> list[Comparison]:
    """Return one comparison for each pair of neighbours along a key."""
    check_choice(
        f"key of the claim {text!r}",
        key,
        tuple(sorted({one for at in places.values() for one in at})),
    )
    rows = sorted((row for row in places if key in places[row]), key=lambda row: places[row][key])
    if len(rows) < 2:
        raise ValueError(f"the claim {text!r} needs two rows with a value of {key!r}, got {rows}")
    sides = [Side(row, column) for row in rows]
    pairs: Sequence[tuple[Side, Side]] = list(zip(sides[1:], sides[:-1], strict=True))
    if trend == "decreasing":
        pairs = [(smaller, larger) for larger, smaller in pairs]
    return [Comparison(larger, smaller, strict=True) for larger, smaller in pairs]
