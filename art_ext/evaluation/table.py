"""The table of a run, computed from its records alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from art_ext.core.geometry import DISTORTIONS, exact_mean
from art_ext.core.metrics import adbd, clean_accuracy, query_statistics
from art_ext.core.metrics.intervals import wilson
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "-"
HEADS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "L-inf"}
DIGITS = {"l0": 1, "l1": 3, "l2": 3, "linf": 4}  # after the point, of mean distortions
# stands for an attack in the rows that sum up a panel, so no attack may have this name
WORST_CASE = "worst_case"
NORMS = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True)
class Row:
    """One model under one attack at one eps; shares lie in [0, 1], NaN stands for what is not
    known.

    Attributes:
        model, attack, eps: what was attacked, how, and the radius of the ball.
        samples: how many.
        attacked: how many of them the attack was given; in a cascade those that the attacks before
            it left at this eps.
        clean_accuracy: share of all samples classified correctly before the attack.
        clean_low, clean_high: the Wilson interval of ``clean_accuracy`` at 95 %.
        robust_accuracy: share of all samples classified correctly and not broken inside eps: by
            this attack, or in a cascade by this attack or one before it.
        robust_low, robust_high: the Wilson interval of ``robust_accuracy`` at 95 %, as if samples
            were drawn at random.
        success_rate: share of the correctly classified samples it was given that it broke inside
            eps; with targets, of those among them whose label is not the target.
        mean_queries, median_queries: until success, over the correctly classified samples broken;
            clean check included.
        mean_queries_without_check, median_queries_without_check: the same without the clean check.
        mean_gradients: backward rows over the same samples.
        mean_distance, median_distance: of the nearest adversarial found, inside eps or not, over
            the correctly classified samples for which there is one; of attacks that look for it and
            did not stop early.
        left_out: correctly classified samples that were attacked and for which none was found, at
            any distance.
        mean_l0, mean_l1, mean_l2, mean_linf: distances of x_adv, in four norms, over the correctly
            classified samples broken; of minimum-norm attacks, at the largest eps. L0 is the number
            of features that differ.
        adbd: the same mean with the misclassified samples counting 0, where each sample spent a
            whole budget; not of an attack that was given survivors only.
        queries, gradients, wasted_rows: rows of all samples together.
        seconds: wall time of the attack. Radii read from one search repeat its queries and its
            seconds.
    """

    model: str
    attack: str
    eps: float
    samples: int
    attacked: int
    clean_accuracy: float
    clean_low: float
    clean_high: float
    robust_accuracy: float
    robust_low: float
    robust_high: float
    success_rate: float
    mean_queries: float
    median_queries: float
    mean_queries_without_check: float
    median_queries_without_check: float
    mean_gradients: float
    mean_distance: float
    median_distance: float
    left_out: int | None
    mean_l0: float
    mean_l1: float
    mean_l2: float
    mean_linf: float
    adbd: float
    queries: int
    gradients: int
    wasted_rows: int
    seconds: float


def result_of(
    records: pd.DataFrame, *, norm: str, stop_on_success: bool, nearest: bool
) -> AttackResult:
    """The ``AttackResult`` behind the records of one model, attack and eps, without its images."""

    def column(name: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(records[name].to_numpy(copy=True), dtype=dtype)

    nothing = torch.empty(len(records), 0)
    return AttackResult(
        x_adv=nothing,
        success=column("success", torch.bool),
        already_adversarial=column("already_adversarial", torch.bool),
        distance=column("distance", torch.float32),
        x_nearest=nothing if nearest else None,
        nearest_distance=column("nearest_distance", torch.float32) if nearest else None,
        lengths=torch.stack([column(name, torch.float32) for name in DISTORTIONS], dim=1),
        queries=column("queries", torch.int64),
        queries_to_success=column("queries_to_success", torch.int64),
        gradients=column("gradients", torch.int64),
        wasted_rows=column("wasted_rows", torch.int64),
        norm=norm,
        eps=float(records["eps"].iloc[0]),
        seed=None,
        stop_on_success=stop_on_success,
    )


def broken(records: pd.DataFrame, eps: float) -> pd.Series:
    """For each sample of one model whether it is misclassified, or any attack broke it inside eps.

    A success inside a smaller ball is one inside a larger ball, so records of smaller radii count
    too.

    Args:
        records: of one model: all its attacks for the worst case, or some of them.
        eps: radius of the ball.

    Returns:
        bool by ``index``, the position in the data, ascending.

    Raises:
        ValueError: if no attack was run inside eps.
    """
    inside = records[records["eps"] <= eps]
    if not len(inside):
        raise ValueError(
            f"eps must be at least the smallest radius attacked, {records['eps'].min():g}, got"
            f" {eps:g}"
        )
    fell = (inside["success"] | inside["already_adversarial"]).groupby(inside["index"]).any()
    return fell.rename("broken")


def in_cascade(run: Mapping[str, Any]) -> bool:
    """Whether each attack of the run was given only what those before it left."""
    return bool(run["panel"]["mode"] == "cascade")


def summarise(records: pd.DataFrame, run: Mapping[str, Any]) -> list[Row]:
    """One row for each model, attack and eps, in the order in which they ran.

    Args:
        records: the content of ``records.parquet``, or of a run that is not complete the records
            there are: a row then speaks of the samples that this attack has ended with, however far
            the others are.
        run: the content of ``run.json``.
    """
    rows = []
    panel = list(run["attacks"])
    records = with_given(records, run)
    for model, own in records.groupby("model", sort=False):
        for (attack, _), group in own.groupby(["attack", "eps"], sort=False):
            if in_cascade(run):
                earlier = own["attack"].isin(panel[: panel.index(str(attack)) + 1])
                ended = own["index"].isin(group["index"])
                fallen = int(broken(own[earlier & ended], float(group["eps"].iloc[0])).sum())
            else:
                fallen = int((group["success"] | group["already_adversarial"]).sum())
            rows.append(_row(str(model), str(attack), group, fallen, run))
    return rows


def with_given(records: pd.DataFrame, run: Mapping[str, Any]) -> pd.DataFrame:
    """Records with a column ``given``: bool, whether the attack was given the sample at this eps.

    In a cascade one search that serves several eps is given what is left at the smallest one. At a
    larger eps, samples that an attack before it broke do not count as given.
    """
    if not in_cascade(run):
        return records.assign(given=records["attacked"])
    place = records["attack"].map(list(run["attacks"]).index)
    won = records["success"] & ~records["already_adversarial"]
    broken_before = won & False
    for eps, rows in records.groupby("eps"):
        within = records[won & (records["eps"] <= eps)]
        first = place[within.index].groupby([within["model"], within["index"]]).min()
        # NaN where nothing broke it
        own = first.reindex(list(zip(rows["model"], rows["index"], strict=True)))
        broken_before[rows.index] = own.to_numpy() < place[rows.index].to_numpy()
    return records.assign(given=records["attacked"] & ~broken_before)


def _row(
    model: str, attack: str, records: pd.DataFrame, fallen: int, run: Mapping[str, Any]
) -> Row:
    nearest, stop_on_success = run["attacks"][attack]["nearest"], stopped_early(run, attack)
    result = result_of(
        records, norm=run["settings"]["norm"], stop_on_success=stop_on_success, nearest=nearest
    )
    given = torch.tensor(records["given"].to_numpy(copy=True))
    aimable = (
        torch.tensor((records["target"] != records["label"]).to_numpy(copy=True))
        & ~result.already_adversarial
    )
    attacked = torch.tensor(records["attacked"].to_numpy(copy=True)) & aimable
    won = result.success & given & ~result.already_adversarial
    statistics = query_statistics(replace(result, success=won))
    measured = nearest and not stop_on_success
    distance = torch.full_like(result.distance, torch.inf)
    if measured and result.nearest_distance is not None:
        distance = result.nearest_distance
    found = attacked & distance.isfinite()
    largest = float(records["eps"].iloc[0]) == max(run["settings"]["eps"])
    compact = largest and minimises(run, attack)
    # of survivors it would be another mean
    whole = bool((records["attacked"] | records["already_adversarial"]).all())
    count = len(result)
    low, high = wilson(count - fallen, count)
    clean_low, clean_high = wilson(int((~result.already_adversarial).sum()), count)
    return Row(
        model=model,
        attack=attack,
        eps=float(records["eps"].iloc[0]),
        samples=count,
        attacked=int(given.sum()),
        clean_accuracy=clean_accuracy(result),
        clean_low=clean_low,
        clean_high=clean_high,
        robust_accuracy=(count - fallen) / count,
        robust_low=low,
        robust_high=high,
        success_rate=_share(won, given & aimable),
        mean_queries=statistics.mean,
        median_queries=statistics.median,
        mean_queries_without_check=statistics.mean_without_check,
        median_queries_without_check=statistics.median_without_check,
        mean_gradients=_share(result.gradients, won),
        mean_distance=_share(distance, found),
        median_distance=_median(distance[found]),
        left_out=int((attacked & ~found).sum()) if measured else None,
        **_mean_distortions(result, won if compact else torch.zeros_like(won)),
        adbd=(
            adbd(result).value
            if measured and whole and run["attacks"][attack]["stops_early"]
            else math.nan
        ),
        queries=int(result.queries.sum()),
        gradients=int(result.gradients.sum()),
        wasted_rows=int(result.wasted_rows.sum()),
        seconds=float(records["seconds"].sum()),
    )


@dataclass(frozen=True)
class Worst:
    """What all attacks of a panel together left at one eps: share of all samples, and its Wilson
    interval at 95 %.
    """

    eps: float
    robust_accuracy: float
    robust_low: float
    robust_high: float


@dataclass(frozen=True)
class Verdict:
    """What one model comes down to.

    Attributes:
        model: its name.
        samples, attacks: how many.
        clean_accuracy, clean_low, clean_high: share classified correctly before any attack, and its
            interval.
        worst: for each eps, ascending, what no attack of the panel broke.
        warnings, infos: numbers of findings of each level that concern this model, or all models.
    """

    model: str
    samples: int
    attacks: int
    clean_accuracy: float
    clean_low: float
    clean_high: float
    worst: tuple[Worst, ...]
    warnings: int
    infos: int


def verdicts(records: pd.DataFrame, run: Mapping[str, Any]) -> list[Verdict]:
    """For each model the worst case over all attacks, sample by sample, at each eps."""
    found = []
    for model, own in records.groupby("model", sort=False):
        wrong = own.groupby("index")["already_adversarial"].first()
        count, right = len(wrong), int((~wrong).sum())
        worst = []
        for eps in run["settings"]["eps"]:
            held = int((~broken(own, eps)).sum())
            worst.append(Worst(float(eps), held / count, *wilson(held, count)))
        levels = [
            one.get("level", "warning") for one in run["warnings"] if one["model"] in ("", model)
        ]
        found.append(
            Verdict(
                str(model),
                count,
                own["attack"].nunique(),
                right / count,
                *wilson(right, count),
                tuple(worst),
                warnings=levels.count("warning"),
                infos=levels.count("info"),
            )
        )
    return found


def stopped_early(run: Mapping[str, Any], attack: str) -> bool:
    """Whether samples left this attack's search for the nearest adversarial at their first
    success.
    """
    return bool(run["attacks"][attack]["stops_early"] and run["settings"]["stop_on_success"])


def minimises(run: Mapping[str, Any], attack: str) -> bool:
    """Whether an attack of the run is a minimum-norm attack that minimises a distortion of its
    own.
    """
    entry = run["attacks"][attack]
    # format 4 does not say it
    return bool(entry.get("minimises", entry["nearest"] and not entry["stops_early"]))


def _mean_distortions(result: AttackResult, among: torch.Tensor) -> dict[str, float]:
    """The four means over some samples (N,) bool, by the fields of ``Row``."""
    return {f"mean_{name}": _share(values, among) for name, values in result.distortions().items()}


def _median(values: torch.Tensor) -> float:
    """The median of values (N,), of an even number the mean of the middle two; NaN if there are
    none.
    """
    return float(values.double().quantile(0.5)) if len(values) else math.nan


def _share(values: torch.Tensor, among: torch.Tensor) -> float:
    """The mean of values (N,) among some samples (N,) bool; NaN if there are none."""
    return exact_mean(values[among])


def plain(row: Row) -> dict[str, Any]:
    """A row as JSON has it: None where a number is not known."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def csv_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows by the names of their columns as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def percent(share: float) -> str:
    """A share as a percentage with one decimal; a dash for NaN."""
    return UNKNOWN if math.isnan(share) else f"{100 * share:.1f} %"


def number(value: float, digits: int = 1) -> str:
    """A number with so many decimals and thousands apart; a dash for NaN."""
    return UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as 1 sample and 1,000 samples."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def radius(eps: float) -> str:
    """A radius as people write it: 8/255 where it is a whole number of grey levels, a decimal
    otherwise.
    """
    levels = round(eps * 255)
    short = f"{eps:.3g}"
    if float(short) != eps and math.isclose(levels / 255, eps, rel_tol=1e-9):
        return f"{levels}/255"
    return short if float(short) == eps else f"{eps:.4g}"


def silent(rows: Sequence[Row]) -> set[str]:
    """The fields that only some attacks know, less those that an attack of these rows knows:
    tables leave them out.
    """
    known = {
        "mean_gradients": any(row.gradients for row in rows),
        "mean_distance": any(row.left_out is not None for row in rows),
        "adbd": not all(math.isnan(row.adbd) for row in rows),
        **{
            f"mean_{name}": not all(math.isnan(getattr(row, f"mean_{name}")) for row in rows)
            for name in DISTORTIONS
        },
    }
    return {name for name, any_row in known.items() if not any_row}


def to_text(rows: Sequence[Row]) -> str:
    """The table for a terminal or a README: columns aligned, and Markdown."""
    heads = [
        "model",
        "clean acc.",
        "attack",
        "eps",
        "robust acc.",
        "success rate",
        "mean queries",
        "median",
        "gradients",
        "distance",
        *(HEADS[name] for name in DISTORTIONS),
        "ADBD",
        "seconds",
    ]
    cells = [
        [
            row.model,
            percent(row.clean_accuracy),
            row.attack,
            radius(row.eps),
            percent(row.robust_accuracy),
            percent(row.success_rate),
            number(row.mean_queries),
            number(row.median_queries),
            number(row.mean_gradients),
            number(row.mean_distance, 4),
            *(number(getattr(row, f"mean_{name}"), digits) for name, digits in DIGITS.items()),
            number(row.adbd, 4),
            number(row.seconds),
        ]
        for row in rows
    ]
    optional = {
        "gradients": "mean_gradients",
        "distance": "mean_distance",
        "ADBD": "adbd",
        **{HEADS[name]: f"mean_{name}" for name in DISTORTIONS},
    }
    hidden = silent(rows)
    shown = [column for column, head in enumerate(heads) if optional.get(head) not in hidden]
    heads, *cells = [[values[column] for column in shown] for values in (heads, *cells)]
    return aligned(heads, cells, words=(0, 2))


def aligned(heads: Sequence[str], cells: Sequence[Sequence[str]], words: Sequence[int]) -> str:
    """A Markdown table that also reads well as it stands.

    Args:
        heads: of the columns.
        cells: line by line.
        words: the columns of words, which stand on the left; numbers stand on the right.
    """
    widths = [max(len(line[column]) for line in (heads, *cells)) for column in range(len(heads))]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.ljust(width) if column in words else value.rjust(width)
            for column, (value, width) in enumerate(zip(values, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rules = (
        "-" * (width + 1) + ("-" if column in words else ":") for column, width in enumerate(widths)
    )
    return "\n".join([line(heads), f"|{'|'.join(rules)}|", *(line(values) for values in cells)])
