"""The table of a run, computed from its records alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from art_ext.core.geometry import DISTORTIONS, exact_mean
from art_ext.core.metrics import adbd, clean_accuracy, query_statistics
from art_ext.core.metrics.intervals import wilson
from art_ext.core.result import AttackResult
from art_ext.core.wording import aligned, radius, shortened
from art_ext.evaluation.analysis.blocks import (
    Blocks,
    Key,
    blocks_of,
    in_cascade,
    minimises,
    panel_name,
    stopped_early,
)
from art_ext.evaluation.analysis.chains import FIELDS, chain_fields
from art_ext.evaluation.analysis.radii import adversarial, has_detector, smallest_radii, successes
from art_ext.evaluation.analysis.rejection import (
    clean_rates,
    row_fields,
    verdict_fields,
    worst_fields,
)
from art_ext.evaluation.analysis.stability import stability_fields

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "-"
LETTERS = 40  # of a name in a table of the terminal
HEADS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "L-inf"}
CHAIN_HEADS = ("accepted", "diversity L2", "diversity", "classes", "all states")
DIGITS = {"l0": 1, "l1": 3, "l2": 3, "linf": 4}  # after the point, of mean distortions


@dataclass(frozen=True)
class Row:
    """One model under one attack at one eps. Fractions lie in [0, 1], NaN means unknown.

    Attributes:
        model: name of the model.
        attack: name of the attack.
        eps: radius of the ball.
        samples: number of samples.
        attacked: number of samples that the attack was given. In a cascade those without a success
            of an earlier attack at this eps.
        clean_accuracy: fraction of all samples classified correctly before the attack.
        clean_low: lower end of the Wilson interval of ``clean_accuracy`` at 95 %.
        clean_high: upper end.
        robust_accuracy: fraction of all samples classified correctly without a success within eps:
            of this attack, or in a cascade of this attack or an earlier one. A success that was
            found at another eps counts if its adversarial lies within this one.
        robust_low: lower end of the Wilson interval of ``robust_accuracy`` at 95 %, as if samples
            were drawn at random.
        robust_high: upper end.
        success_rate: fraction of successes within eps among the correctly classified samples that
            the attack was given. With targets, among those of them whose label is not the target.
        mean_queries: queries until success, over the correctly classified samples with a success.
            The clean check is included.
        median_queries: median of the same queries.
        mean_queries_without_check: mean without the clean check.
        median_queries_without_check: median without the clean check.
        mean_gradients: backward rows over the same samples.
        mean_distance: of the nearest adversarial found, inside eps or not, over the correctly
            classified samples with an adversarial. Only of attacks that find the nearest
            adversarial and did not stop early.
        median_distance: median of the same distances.
        left_out: correctly classified samples that were attacked and for which none was found, at
            any distance.
        mean_l0: number of features of x_adv that differ, over the successes on correctly classified
            samples. Only of minimum-norm attacks, at the largest eps.
        mean_l1: L1 distance of x_adv, over the same samples.
        mean_l2: L2 distance of x_adv, over the same samples.
        mean_linf: L-inf distance of x_adv, over the same samples.
        adbd: mean distance with misclassified samples counting 0, if each sample spent a whole
            budget. NaN for an attack that was not given all samples, and with a detector without
            any success among the attacked samples, at any distance.
        queries: forward rows of all samples together.
        gradients: backward rows of all samples together.
        wasted_rows: rows of all samples that were evaluated in vain.
        seconds: wall time of the attack. If one run of the attack serves several radii, each radius
            repeats its queries and seconds.
        adaptive: True if the attack knows the detector, or the head of the model declares it. It
            and the following are None in runs in which no attack does, and then left out of files.
        detector: name of the detector.
        clean_accepted: fraction of all samples that are correct and accepted before the attack.
        rejection_accuracy: robust accuracy with rejection: fraction of all samples that are correct
            and accepted before the attack, without an accepted success within eps: of this attack,
            or in a cascade of this attack or an earlier one.
        rejection_low: lower end of its Wilson interval at 95 %.
        rejection_high: upper end.
        rejected_successes: fraction of the successes that are rejected.
        auroc_pairs: area under the ROC curve of the scores, of correctly classified samples with a
            success against the returned rows.
        auroc_pairs_low: lower end of its bootstrap interval at 95 %.
        auroc_pairs_high: upper end.
        tpr_pairs: fraction of these rows above the threshold of the detector's false-positive rate
            on these samples.
        auroc_all: as ``auroc_pairs``, of all samples that the attack was given against the returned
            rows.
        auroc_all_low: lower end of its bootstrap interval at 95 %.
        auroc_all_high: upper end.
        tpr_all: as ``tpr_pairs``, of all samples that the attack was given.
        stability: fraction of all samples whose prediction, right or wrong, was not changed within
            eps: by this attack, or in a cascade by this attack or an earlier one. None without
            stability, NaN if no attack tried to change wrong predictions.
        stability_low: lower end of its Wilson interval at 95 %.
        stability_high: upper end.
        acceptance: fraction of the transitions of chains that passed the Metropolis-Hastings test.
            This and the following are over the correctly classified samples that the attack was
            given. They are None in runs in which no attack draws several states of a sample, and
            NaN for other attacks.
        diversity_l2: mean L2 distance over the pairs of states.
        diversity: the same in the norm of the run.
        classes: mean number of distinct classes that the model predicts for the states.
        all_or_nothing: fraction of these samples all of whose states are adversarial.
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
    adaptive: bool | None = None
    detector: str | None = None
    clean_accepted: float | None = None
    rejection_accuracy: float | None = None
    rejection_low: float | None = None
    rejection_high: float | None = None
    rejected_successes: float | None = None
    auroc_pairs: float | None = None
    auroc_pairs_low: float | None = None
    auroc_pairs_high: float | None = None
    tpr_pairs: float | None = None
    auroc_all: float | None = None
    auroc_all_low: float | None = None
    auroc_all_high: float | None = None
    tpr_all: float | None = None
    stability: float | None = None
    stability_low: float | None = None
    stability_high: float | None = None
    acceptance: float | None = None
    diversity_l2: float | None = None
    diversity: float | None = None
    classes: float | None = None
    all_or_nothing: float | None = None


def result_of(
    blocks: Blocks, key: Key, *, norm: str, stop_on_success: bool, nearest: bool
) -> AttackResult:
    """Return the ``AttackResult`` of the records of one model, attack and eps, without images."""

    def column(name: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(blocks.column(key, name), dtype=dtype)

    nothing = torch.empty(len(blocks.column(key, "index")), 0)
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
        eps=key[2],
        seed=None,
        stop_on_success=stop_on_success,
    )


def summarise(records: Blocks | pd.DataFrame, run: Mapping[str, Any]) -> list[Row]:
    """One row for each model, attack and eps, in the order in which they ran.

    Args:
        records: the content of ``records.parquet``, or the records so far of an incomplete run. A
            row then covers the samples that this attack has ended with, whatever the progress of
            the others.
        run: the content of ``run.json``.
    """
    blocks = blocks_of(records)
    rates = {
        model: clean_rates(blocks, model) for model in blocks.models if has_detector(blocks, model)
    }
    rows = []
    for key, failed in failed_counts(blocks, run):
        model, attack, eps = key
        among = counted_attacks(run, attack)
        row = replace(
            _row(blocks, key, failed, run),
            adaptive=_adaptive(run, attack),
            **stability_fields(blocks, model, eps, blocks.column(key, "index"), among),
        )
        if model in rates:
            row = replace(row, **row_fields(blocks, key, among, run, rates[model]))
        rows.append(row)
    return rows


def failed_counts(blocks: Blocks, run: Mapping[str, Any]) -> Iterator[tuple[Key, int]]:
    """Yield the block of each attack, and the number of its samples that are not robust.

    A sample is not robust if it is adversarial without an attack or by this one, and in a cascade
    by one before it.

    Args:
        blocks: the records, or those of some chunks.
        run: the content of ``run.json``.
    """
    for key in blocks:
        model, attack, eps = key
        failed = adversarial(blocks, model, eps, counted_attacks(run, attack))
        yield key, int(failed[blocks.column(key, "index")].sum())


def counted_attacks(run: Mapping[str, Any], attack: str) -> list[str]:
    """Return the attacks whose successes an attack's robust accuracy counts.

    They are the attack itself, and in a cascade those before it too.
    """
    if not in_cascade(run):
        return [attack]
    panel = list(run["attacks"])
    return panel[: panel.index(attack) + 1]


def _adaptive(run: Mapping[str, Any], attack: str) -> bool | None:
    """Return True for an attack that knows the detector or the head, None where none could."""
    known = any("aware_of" in one or "adaptive" in one for one in run["attacks"].values())
    entry = run["attacks"][attack]
    return bool(entry.get("aware_of") or entry.get("adaptive")) if known else None


def given(blocks: Blocks, key: Key, run: Mapping[str, Any]) -> np.ndarray:
    """Return bool by row of a block: the attack was given the sample at this eps.

    In a cascade, a unit with several eps is given the samples without a success at the smallest
    one. At a larger eps, samples with a success of an earlier attack do not count as given. With a
    detector, an earlier success counts where it was accepted.
    """
    attacked = blocks.column(key, "attacked")
    if not in_cascade(run):
        return attacked
    model, attack, eps = key
    panel = list(run["attacks"])
    before = panel[: panel.index(attack)]
    earlier = successes(blocks, model, eps, before)
    return attacked & ~earlier[blocks.column(key, "index")]


def _row(blocks: Blocks, key: Key, failures: int, run: Mapping[str, Any]) -> Row:
    model, attack, eps = key
    nearest = run["attacks"][attack]["nearest"]
    stop_on_success = stopped_early(run, attack)
    result = result_of(
        blocks, key, norm=run["settings"]["norm"], stop_on_success=stop_on_success, nearest=nearest
    )
    told = torch.from_numpy(given(blocks, key, run))
    every = torch.tensor(blocks.column(key, "attacked"))
    attackable = (
        torch.tensor(blocks.column(key, "target") != blocks.column(key, "label"))
        & ~result.already_adversarial
    )
    attacked = every & attackable
    success = result.success & told & ~result.already_adversarial
    radii = smallest_radii(blocks, model, [attack], rejected=True)[blocks.column(key, "index")]
    statistics = query_statistics(replace(result, success=success))
    measured = nearest and not stop_on_success
    distance = torch.full_like(result.distance, torch.inf)
    if measured and result.nearest_distance is not None:
        distance = result.nearest_distance
    found = attacked & distance.isfinite()
    compact = eps == max(run["settings"]["eps"]) and minimises(run, attack)
    # of survivors it would be another mean
    whole = bool((every | result.already_adversarial).all())
    # a detector may leave no success at all, and the mean of the misclassified alone misleads
    reached = bool(found.any()) or not has_detector(blocks, model)
    count = len(result)
    low, high = wilson(count - failures, count)
    clean_low, clean_high = wilson(int((~result.already_adversarial).sum()), count)
    return Row(
        model=model,
        attack=attack,
        eps=eps,
        samples=count,
        attacked=int(told.sum()),
        clean_accuracy=clean_accuracy(result),
        clean_low=clean_low,
        clean_high=clean_high,
        robust_accuracy=(count - failures) / count,
        robust_low=low,
        robust_high=high,
        success_rate=_mean(torch.from_numpy(radii <= eps), told & attackable),
        mean_queries=statistics.mean,
        median_queries=statistics.median,
        mean_queries_without_check=statistics.mean_without_check,
        median_queries_without_check=statistics.median_without_check,
        mean_gradients=_mean(result.gradients, success),
        mean_distance=_mean(distance, found),
        median_distance=_median(distance[found]),
        left_out=int((attacked & ~found).sum()) if measured else None,
        **_mean_distortions(result, success if compact else torch.zeros_like(success)),
        adbd=(
            adbd(result).value
            if measured and whole and reached and run["attacks"][attack]["stops_early"]
            else math.nan
        ),
        queries=int(result.queries.sum()),
        gradients=int(result.gradients.sum()),
        wasted_rows=int(result.wasted_rows.sum()),
        seconds=float(blocks.column(key, "seconds").sum()),
        **chain_fields(blocks, key, (told & attackable).numpy()),
    )


@dataclass(frozen=True)
class Worst:
    """Worst case over all attacks of a panel at one eps: robust accuracy and interval at 95 %.

    With a detector ``robust_accuracy`` is that without it, and ``rejection_accuracy`` that with
    rejection, with its interval. ``rejected_successes`` is the fraction of the successes of attacks
    that do not know the detector which it rejects. They are None without a detector. ``stability``
    is the fraction of the samples whose prediction no attack changed, with its interval. It is None
    in runs without it.
    """

    eps: float
    robust_accuracy: float
    robust_low: float
    robust_high: float
    rejection_accuracy: float | None = None
    rejection_low: float | None = None
    rejection_high: float | None = None
    rejected_successes: float | None = None
    stability: float | None = None
    stability_low: float | None = None
    stability_high: float | None = None


def decisive(values: Row | Worst) -> tuple[float, float, float]:
    """Return robust accuracy and its interval, with rejection if there is a detector."""
    share, low, high = values.rejection_accuracy, values.rejection_low, values.rejection_high
    if share is None or low is None or high is None:
        return values.robust_accuracy, values.robust_low, values.robust_high
    return share, low, high


@dataclass(frozen=True)
class Verdict:
    """Summary of the results of one model.

    Attributes:
        model: its name.
        samples, attacks: numbers of samples and attacks.
        clean_accuracy, clean_low, clean_high: clean accuracy and its interval.
        worst: for each eps, ascending, the worst case over all attacks of the panel.
        warnings, infos: numbers of findings of each level that concern this model, or all models.
        panel: name and version of the panel, and the members that were given other arguments. None
            for attacks that were given one by one.
        detector, fpr: name of the detector, and its wanted false-positive rate. They and the
            following are None without a detector.
        clean_accepted: fraction of samples that are correct and accepted without attack.
        clean_rejected: fraction of clean samples that are rejected, the measured false-positive
            rate.
        clean_rejected_low, clean_rejected_high: its Wilson interval at 95 %.
        correct_rejected, correct_rejected_low, correct_rejected_high: the same of the correctly
            classified samples.
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
    panel: str | None = None
    detector: str | None = None
    fpr: float | None = None
    clean_accepted: float | None = None
    clean_rejected: float | None = None
    clean_rejected_low: float | None = None
    clean_rejected_high: float | None = None
    correct_rejected: float | None = None
    correct_rejected_low: float | None = None
    correct_rejected_high: float | None = None


def verdicts(records: Blocks | pd.DataFrame, run: Mapping[str, Any]) -> list[Verdict]:
    """For each model the worst case over all attacks, sample by sample, at each eps."""
    blocks = blocks_of(records)
    found = []
    for model in blocks.models:
        samples = blocks.samples(model)
        count = len(samples)
        right = int((~samples["already_adversarial"]).sum())
        positions = samples.index.to_numpy()
        radii = smallest_radii(blocks, model, rejected=True)[positions]
        worst = []
        for eps in run["settings"]["eps"]:
            held = int((radii > eps).sum())
            one = Worst(float(eps), held / count, *wilson(held, count))
            further = stability_fields(blocks, model, eps, positions)
            worst.append(replace(one, **worst_fields(blocks, model, eps, run), **further))
        levels = [
            one.get("level", "warning") for one in run["warnings"] if one["model"] in ("", model)
        ]
        found.append(
            Verdict(
                model,
                count,
                len(blocks.attacks(model)),
                right / count,
                *wilson(right, count),
                tuple(worst),
                warnings=levels.count("warning"),
                infos=levels.count("info"),
                panel=panel_name(run),
                **verdict_fields(blocks, model, run),
            )
        )
    return found


def plain_verdict(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict in the types of JSON, without the fields on a detector if there is none."""
    return {**_known(verdict), "worst": [_known(worst) for worst in verdict.worst]}


def _known(values: Verdict | Worst) -> dict[str, Any]:
    """Return the fields in the types of JSON, without those on a detector if there is none."""
    optional = {one.name for one in fields(values) if one.default is None}
    return {
        name: None if value != value else value
        for name, value in asdict(values).items()
        if value is not None or name not in optional
    }


def _mean_distortions(result: AttackResult, among: torch.Tensor) -> dict[str, Any]:
    """Return the four means over some samples (N,) bool, by the fields of ``Row``."""
    return {f"mean_{name}": _mean(values, among) for name, values in result.distortions().items()}


def _median(values: torch.Tensor) -> float:
    """Median of values (N,). An even number gives the mean of the middle two, none gives NaN."""
    return float(values.double().quantile(0.5)) if len(values) else math.nan


def _mean(values: torch.Tensor, among: torch.Tensor) -> float:
    """Mean of values (N,) over some samples (N,) bool. NaN if there are none."""
    return exact_mean(values[among])


def plain(row: Row) -> dict[str, Any]:
    """Return a row in the types of JSON, with None for unknown numbers."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def csv_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows by the names of their columns as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash for NaN and None."""
    return UNKNOWN if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f} %"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with ``digits`` decimals and separated thousands, or a dash for NaN and
    None.
    """
    return UNKNOWN if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def chain_cells(row: Row) -> list[tuple[float | None, str]]:
    """Return value and text of each field of ``FIELDS``."""
    values = [getattr(row, name) for name in FIELDS]
    texts = [
        percent(row.acceptance),
        number(row.diversity_l2, 3),
        number(row.diversity, 4),
        number(row.classes, 2),
        percent(row.all_or_nothing),
    ]
    return list(zip(values, texts, strict=True))


def silent(rows: Sequence[Row]) -> set[str]:
    """Return optional fields of ``Row`` that are unknown in all rows. Tables omit them."""
    known = {
        "mean_gradients": any(row.gradients for row in rows),
        "mean_distance": any(row.left_out is not None for row in rows),
        "adbd": not all(math.isnan(row.adbd) for row in rows),
        **{
            f"mean_{name}": not all(math.isnan(getattr(row, f"mean_{name}")) for row in rows)
            for name in DISTORTIONS
        },
        **{
            name: any(getattr(row, name) is not None for row in rows)
            for name in (
                "stability",
                "rejection_accuracy",
                "rejected_successes",
                "auroc_pairs",
                "auroc_all",
            )
        },
        **{
            name: any(value is not None and not math.isnan(value) for value in values)
            for name, values in ((one, [getattr(row, one) for row in rows]) for one in FIELDS)
        },
    }
    return {name for name, any_row in known.items() if not any_row}


def to_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal or a README, as aligned Markdown."""
    heads = [
        "model",
        "clean acc.",
        "attack",
        "eps",
        "robust acc.",
        "stability",
        "with rejection",
        "success rate",
        "successes rejected",
        "AUROC pairs",
        "AUROC all",
        "mean queries",
        "median",
        "gradients",
        "distance",
        *(HEADS[name] for name in DISTORTIONS),
        "ADBD",
        *CHAIN_HEADS,
        "seconds",
    ]
    cells = [
        [
            shortened(row.model, LETTERS),
            percent(row.clean_accuracy),
            shortened(row.attack, LETTERS),
            radius(row.eps),
            percent(row.robust_accuracy),
            percent(row.stability),
            percent(row.rejection_accuracy),
            percent(row.success_rate),
            percent(row.rejected_successes),
            number(row.auroc_pairs, 3),
            number(row.auroc_all, 3),
            number(row.mean_queries),
            number(row.median_queries),
            number(row.mean_gradients),
            number(row.mean_distance, 4),
            *(number(getattr(row, f"mean_{name}"), digits) for name, digits in DIGITS.items()),
            number(row.adbd, 4),
            *(text for _, text in chain_cells(row)),
            number(row.seconds),
        ]
        for row in rows
    ]
    optional = {
        "stability": "stability",
        "with rejection": "rejection_accuracy",
        "successes rejected": "rejected_successes",
        "AUROC pairs": "auroc_pairs",
        "AUROC all": "auroc_all",
        "gradients": "mean_gradients",
        "distance": "mean_distance",
        "ADBD": "adbd",
        **{HEADS[name]: f"mean_{name}" for name in DISTORTIONS},
        **dict(zip(CHAIN_HEADS, FIELDS, strict=True)),
    }
    hidden = silent(rows)
    shown = [column for column, head in enumerate(heads) if optional.get(head) not in hidden]
    heads, *cells = [[values[column] for column in shown] for values in (heads, *cells)]
    return aligned(heads, cells, words=(0, 2))
