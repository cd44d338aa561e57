"""Table of a run of transfers: both metrics with intervals, and differences from a baseline."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from art_ext.core.geometry import DISTORTIONS
from art_ext.core.metrics.chain import QUANTILE
from art_ext.core.metrics.intervals import paired_difference, wilson
from art_ext.core.wording import aligned
from art_ext.evaluation.analysis.compare import mcnemar
from art_ext.evaluation.analysis.table import csv_rows, percent

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

GROUP = ("source", "target", "attack", "setting", "at")


@dataclass(frozen=True)
class TransferRow:
    """Results of one attack on one source, tried on one target. NaN stands for "of no sample".

    Shares are means over the seeds, of which the lowest and the highest are given too.

    Attributes:
        source, target: names of models.
        attack, setting: name of the attack, and its radius and varied arguments.
        eps: radius. None: no ball.
        varied, value: name and number of the argument that varies. Empty and None without one.
        at: iterations after which the examples were taken. 0: at the end.
        white_box: True if the target is the source.
        member: True if the target is a member of the source, an ensemble.
        seeds: number of seeds.
        counted: samples that source and target classify correctly, and not as the class to reach.
        strict: share of these with a success on the target.
        strict_low, strict_high: its 95 % Wilson interval, with several seeds that of the mean.
        strict_least, strict_most: lowest and highest share of a seed.
        samples: samples that count for the authors' metric.
        authors: share of these whose prediction on the target changes, or is the class to reach.
        authors_low, authors_high: its interval.
        authors_least, authors_most: lowest and highest share of a seed.
        source_success: share of ``counted`` with a success on the source.
        mean_states: mean share of the states of a chain that succeed on the target.
        all_states: share of ``counted`` of which all states succeed on the target.
        num_states: states of a sample.
        difference: ``strict`` minus that of the baseline, on the same samples. None for the
            baseline.
        difference_low, difference_high: its paired 95 % interval.
        p_value: of McNemar's exact test. With several seeds the largest of the seeds.
        l0, l1, l2, linf: mean distances of the examples with a success on the source.
        transferred_l0, transferred_l1, transferred_l2, transferred_linf: those of the examples
            with a success on the target.
        queries, gradients: mean cost of crafting an example.
        seconds: of crafting all examples.
    """

    source: str
    target: str
    attack: str
    setting: str
    eps: float | None
    varied: str
    value: float | None
    at: int
    white_box: bool
    member: bool
    seeds: int
    counted: int
    strict: float
    strict_low: float
    strict_high: float
    strict_least: float
    strict_most: float
    samples: int
    authors: float
    authors_low: float
    authors_high: float
    authors_least: float
    authors_most: float
    source_success: float
    mean_states: float
    all_states: float
    num_states: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    l0: float
    l1: float
    l2: float
    linf: float
    transferred_l0: float
    transferred_l1: float
    transferred_l2: float
    transferred_linf: float
    queries: float
    gradients: float
    seconds: float


NAMES = tuple(field.name for field in fields(TransferRow))


def summarise_transfer(
    records: pd.DataFrame,
    baseline: str | None = None,
    ensembles: Mapping[str, Collection[str]] | None = None,
) -> list[TransferRow]:
    """Return the table of records, in their order.

    Args:
        records: of a run, with the columns of ``art_ext.storage.transfer``.
        baseline: name of the attack that others are compared with. None: the first one.
        ensembles: by name of a source, names of its members. None: no source has any.

    Raises:
        ValueError: for a baseline that is no attack of the records.
    """
    from art_ext.core.checks import check_choice

    known = list(dict.fromkeys(records["attack"]))
    if baseline is None:
        baseline = known[0]
    check_choice("baseline", baseline, tuple(known))
    groups = {
        key: _Group(rows) for key, rows in records.groupby(list(GROUP), sort=False, observed=True)
    }
    rows = [
        _row(dict(zip(GROUP, key, strict=True)), group, _reference(key, groups, baseline))
        for key, group in groups.items()
    ]
    members = ensembles or {}
    return [replace(row, member=row.target in members.get(row.source, ())) for row in rows]


class _Group:
    """Records of one attack on one source and target, as arrays of seeds and samples."""

    def __init__(self, rows: pd.DataFrame) -> None:
        import numpy as np

        self.rows = rows
        seeds = list(dict.fromkeys(rows["seed"]))
        self.seeds = len(seeds)
        self.eps = _number(rows["eps"].iloc[0])
        shape = (self.seeds, len(rows) // self.seeds)
        ordered = rows if self.seeds == 1 else _by_seed(rows, seeds)
        self.rows = ordered
        # null is False, in no sum
        strict = ordered["strict"]
        authors = ordered["authors"]
        self.counted = strict.notna().to_numpy().reshape(shape)[0]
        self.possible = authors.notna().to_numpy().reshape(shape)[0]
        self.strict = np.asarray(strict == True).reshape(shape)  # noqa: E712  # null is False
        self.authors = np.asarray(authors == True).reshape(shape)  # noqa: E712
        self.whitebox = ordered["whitebox"].to_numpy(bool).reshape(shape)

    def column(self, name: str) -> np.ndarray[Any, Any]:
        return self.rows[name].to_numpy().reshape(self.strict.shape)


def _by_seed(rows: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    order = rows["seed"].map({seed: place for place, seed in enumerate(seeds)})
    return rows.assign(_order=order).sort_values(["_order", "index"], kind="stable")


def _reference(
    key: tuple[Any, ...], groups: Mapping[tuple[Any, ...], _Group], baseline: str
) -> _Group | None:
    """Return the group of the baseline that a group is compared with, None for itself.

    It has the same radius where the baseline has one, and is the first of those that vary.
    """
    source, target, _, _, at = key
    own = [
        (other, group)
        for other, group in groups.items()
        if other[:3] == (source, target, baseline) and other[4] == at
    ]
    same = [one for one in own if one[1].eps == groups[key].eps] or own
    return None if not same or same[0][0] == key else same[0][1]


def _row(key: Mapping[str, Any], group: _Group, reference: _Group | None) -> TransferRow:
    first = group.rows.iloc[0]
    strict = _share(group.strict, group.counted)
    authors = _share(group.authors, group.possible)
    states = group.column("states")[:, group.counted]
    number = int(first["num_states"])
    seconds = float(group.rows["seconds"].sum())
    return TransferRow(
        **key,
        eps=group.eps,
        varied=str(first["varied"]),
        value=_number(first["value"]),
        white_box=key["source"] == key["target"],
        member=False,
        seeds=group.seeds,
        counted=int(group.counted.sum()),
        **_named("strict", strict),
        samples=int(group.possible.sum()),
        **_named("authors", authors),
        source_success=_mean(group.whitebox[:, group.counted]),
        mean_states=_mean(states / number),
        all_states=_mean(states == number),
        num_states=number,
        **_compared(group, reference),
        **_distances(group, group.whitebox, ""),
        **_distances(group, group.strict & group.counted, "transferred_"),
        queries=_mean(group.column("queries")),
        gradients=_mean(group.column("gradients")),
        seconds=seconds,
    )


def _share(
    success: np.ndarray[Any, Any], counted: np.ndarray[Any, Any]
) -> tuple[float, float, float, float, float]:
    """Return the mean share of (seeds, samples), its interval, and the range over seeds."""
    total = int(counted.sum())
    if not total:
        return (math.nan,) * 5
    shares = success[:, counted].mean(axis=1)
    mean = float(shares.mean())
    low, high = wilson(round(mean * total), total)
    return mean, min(low, mean), max(high, mean), float(shares.min()), float(shares.max())


def _named(metric: str, share: tuple[float, ...]) -> dict[str, Any]:
    ends = ("", "_low", "_high", "_least", "_most")
    return {f"{metric}{end}": one for end, one in zip(ends, share, strict=True)}


def _compared(group: _Group, reference: _Group | None) -> dict[str, Any]:
    names = ("difference", "difference_low", "difference_high", "p_value")
    if reference is None or reference.strict.shape != group.strict.shape:
        return dict.fromkeys(names)
    both = group.counted & reference.counted
    if not both.any():
        return dict.fromkeys(names, math.nan)
    own, other = group.strict[:, both], reference.strict[:, both]
    p_value = max(
        mcnemar(int((one & ~two).sum()), int((two & ~one).sum()))
        for one, two in zip(own, other, strict=True)
    )
    difference = float(own.mean() - other.mean())
    if group.seeds == 1:
        counts = (own & other, own & ~other, other & ~own, ~own & ~other)
        low, high = paired_difference(*(int(one.sum()) for one in counts))
    else:
        each = own.mean(axis=0) - other.mean(axis=0)
        reach = QUANTILE * each.std(ddof=1) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        low, high = difference - reach, difference + reach
    return dict(zip(names, (difference, float(low), float(high), p_value), strict=True))


def _distances(group: _Group, success: np.ndarray[Any, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": _mean(group.column(name)[success]) for name in DISTORTIONS}


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def plain_rows(rows: Sequence[TransferRow]) -> list[dict[str, Any]]:
    """Return rows in the types of JSON. NaN is None."""
    return [
        {
            name: None if isinstance(one, float) and math.isnan(one) else one
            for name, one in asdict(row).items()
        }
        for row in rows
    ]


def transfer_csv(rows: Sequence[TransferRow]) -> str:
    """Return the table as CSV."""
    return csv_rows(NAMES, plain_rows(rows))


def transfer_text(rows: Sequence[TransferRow]) -> str:
    """Return the table as Markdown, for the console."""
    heads = ["source", "target", "attack", "setting"]
    heads += ["at"] if any(row.at for row in rows) else []
    heads += ["n", "success", "95 %", "minus baseline", "p", "authors'", "on source"]
    chains = any(row.num_states > 1 for row in rows)
    heads += ["mean state", "all states"] if chains else []
    lines = []
    for row in rows:
        cells = [row.source, row.target, row.attack, row.setting]
        cells += [str(row.at or "end")] if "at" in heads else []
        cells += [
            str(row.counted),
            percent(row.strict),
            _between(row.strict_low, row.strict_high),
            _signed(row),
            "-" if row.p_value is None else f"{row.p_value:.2g}",
            percent(row.authors),
            percent(row.source_success),
        ]
        cells += [percent(row.mean_states), percent(row.all_states)] if chains else []
        lines.append(cells)
    return aligned(heads, lines, words=range(4))


def _between(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def _signed(row: TransferRow) -> str:
    if row.difference is None or row.difference_low is None or row.difference_high is None:
        return "-"
    if math.isnan(row.difference):
        return "-"
    low, high = 100 * row.difference_low, 100 * row.difference_high
    return f"{100 * row.difference:+.1f} [{low:+.1f}, {high:+.1f}]"
