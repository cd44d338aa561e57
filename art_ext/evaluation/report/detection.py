"""Figures of runs with a detector: robust accuracy with rejection, ROC, and score histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis.radii import failures, has_detector
from art_ext.evaluation.analysis.rejection import (
    RATES,
    by_rate,
    detector_of,
    facts_of,
    fpr_of,
    scores_of,
    separation,
)
from art_ext.evaluation.analysis.table import percent
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.charts import Chart, joined, left_labels, lower_label
from art_ext.evaluation.report.rendering import interval

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.blocks import Blocks, Key
    from art_ext.evaluation.analysis.curves import Curve
    from art_ext.evaluation.analysis.records import LoadedRun

Group = Sequence[tuple["LoadedRun", Sequence["Curve"]]]
BINS = 40
SPAN = 1e3  # ratio of positive scores from which on their axis is logarithmic
PARTS = ("clean", "successes, oblivious", "successes, aware")


def detected(group: Group) -> list[tuple[LoadedRun, str]]:
    """Return each model with a detector, and its run."""
    return [
        (one, model)
        for one, _ in group
        for model in one.blocks.models
        if has_detector(one.blocks, model)
    ]


def detection_charts(group: Group, where: str) -> list[list[Chart]]:
    """Return the figures on detectors, in the order of ``DETECTION_PLOTS``. Empty without any.

    Args:
        group: comparable runs.
        where: end of their titles, which tells the group from others.
    """
    pairs = detected(group)
    if not pairs:
        return []
    scores = [_scores(one, model, where) for one, model in pairs]
    return [[_rejection(pairs, where)], [_roc(pairs, where)], scores]


def _rejection(pairs: Sequence[tuple[LoadedRun, str]], where: str) -> Chart:
    """Return the robust accuracy with rejection against the false-positive rate."""
    scale = svg.Scale(100 * RATES[0], 100 * RATES[-1])
    stops = 100 * np.array(RATES)
    several = len(pairs) > 1
    drawn = []
    numbers: list[tuple[str, ...]] = []
    for place, (one, model) in enumerate(pairs):
        samples = one.blocks.samples(model)
        measured = 100 * float((~samples["clean_accepted"]).mean())
        largest = max(one.run["settings"]["eps"])
        for eps in one.run["settings"]["eps"]:
            counts = np.array([round(len(samples) * y) for _, y in by_rate(one.blocks, model, eps)])
            failed = failures(one.blocks, model, eps)[samples.index.to_numpy()]
            held = int((~failed).sum())
            mark = svg.Mark(measured, held / len(samples), *wilson(held, len(samples)))
            name = f"eps {radius(eps)}"
            steps = svg.Steps(
                model,
                name,
                stops,
                counts / len(samples),
                scale.right,
                np.zeros(len(stops), dtype=bool),
                counts,
                len(samples),
                place,
                marks=(mark,),
                faint=eps != largest,
                label=(model if several else name) if eps == largest else "",
                choice=name,
            )
            drawn.append(svg.draw(steps, scale, stops))
            numbers += _numbers(steps, stops[:: max(1, len(stops) // 5)])
    return _chart(
        f"Robust accuracy with rejection against the false-positive rate{where}",
        ("false-positive rate (%)", "robust accuracy with rejection (%)"),
        scale,
        drawn,
        stops,
        numbers,
        models=[(model, svg.colour_class(place)) for place, (_, model) in enumerate(pairs)],
        attacks=[(name, "") for name in dict.fromkeys(own.steps.choice for own in drawn)],
        caption=(
            "Share of all samples that are correct and accepted without attack, and for which no"
            " attack of the panel found a misclassified row that is accepted. The threshold is"
            " moved so that it rejects so many clean samples of the run. The attacks aim at the"
            " threshold of the run (mark, at its measured rate), so that values elsewhere are upper"
            " bounds."
        ),
    )


def _roc(pairs: Sequence[tuple[LoadedRun, str]], where: str) -> Chart:
    """Return the ROC curve of each attack, oblivious and aware."""
    title = f"Detection of the successes{where}"
    scale = svg.Scale(0.0, 100.0)
    stops = np.arange(0.0, 100.5, 0.5)
    curves = [
        (model, place, key[1], _bases(one.run)[key[1]], found)
        for place, (one, model) in enumerate(pairs)
        for key in _largest(one, model)
        if (found := separation(one.blocks, key, "pairs", fpr_of(one.run, model))) is not None
    ]
    if not curves:
        return Chart(title, "No attack had a success to detect.")
    attacks = list(dict.fromkeys(base for _, _, _, base, _ in curves))
    drawn = []
    numbers: list[tuple[str, ...]] = []
    for model, place, attack, base, found in curves:
        rates = 100 * found.roc_fpr.numpy()
        share = found.roc_tpr.numpy()
        counts = (share * found.adversarial).round().astype(int)
        steps = svg.Steps(
            model,
            attack,
            rates,
            share,
            scale.right,
            np.full(len(rates), attack == base),
            counts[np.searchsorted(rates, stops, side="right") - 1],
            found.adversarial,
            place if len(pairs) > 1 else attacks.index(base),
            choice=attack,
        )
        drawn.append(svg.draw(steps, scale, stops))
        numbers += _numbers(steps, stops[[2, 10, 20, 40, 100]])
    colours = {own.steps.choice: own.css if len(pairs) == 1 else "" for own in drawn}
    return _chart(
        title,
        ("clean samples rejected (%)", "adversarials rejected (%)"),
        scale,
        drawn,
        stops,
        numbers,
        models=[(model, svg.colour_class(place)) for place, (_, model) in enumerate(pairs)],
        attacks=list(colours.items()),
        dashed="knows the detector",
        caption=(
            "ROC curves of the pairs: correctly classified samples with a success at the largest"
            " eps, against what the attack returned for them. Full lines do not know the detector."
            " Dashed lines know it, and their successes are accepted at the threshold of the run."
        ),
    )


def _scores(one: LoadedRun, model: str, where: str) -> Chart:
    """Return histograms of the scores of clean samples and of successes."""
    bases = _bases(one.run)
    keys = _largest(one, model)
    found = (
        one.blocks.samples(model)["clean_score"].to_numpy(dtype=float),
        _joined(one.blocks, [key for key in keys if bases[key[1]] == key[1]]),
        _joined(one.blocks, [key for key in keys if bases[key[1]] != key[1]]),
    )
    threshold = float(facts_of(one.run, model)["threshold"])
    edges, log = _edges(np.concatenate([*found, [threshold]]))
    counts = [np.histogram(scores, edges)[0] for scores in found]
    shown = [number for number, scores in enumerate(found) if len(scores)]
    top = max(float(counts[number].max() / len(found[number])) for number in shown)
    scale = svg.Scale(float(edges[0]), float(edges[-1]), log, max(top, 0.01))
    stops = edges[:-1]
    drawn = []
    numbers: list[tuple[str, ...]] = []
    for number in shown:
        share = counts[number] / len(found[number])
        steps = svg.Steps(
            model,
            PARTS[number],
            stops,
            share,
            scale.right,
            np.ones(len(stops), dtype=bool),
            counts[number],
            len(found[number]),
            number,
            low=np.zeros(len(stops)),
            high=share,
        )
        drawn.append(svg.draw(steps, scale, stops))
        numbers += _numbers(steps, stops[counts[number] > 0])
    return _chart(
        f"Scores of {detector_of(one.blocks, model)} on {model}{where}",
        ("score (more suspicious to the right)", "share of the scores (%)"),
        scale,
        drawn,
        stops,
        numbers,
        models=[(PARTS[number], svg.colour_class(number)) for number in shown],
        upper=[labels.Label(float(scale.place(threshold)), 0.0, ("threshold",))],
        caption=(
            "Scores of the clean samples, and of the successes at the largest eps on correctly"
            " classified samples, of attacks that do not know the detector and of those that do."
            " Right of the dashed line, the threshold, an input is rejected."
        ),
    )


def _edges(scores: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the edges of the bins of a histogram, and True for a logarithmic axis."""
    every = scores[np.isfinite(scores)]
    low, high = float(every.min()), float(every.max())
    if low > 0 and high > SPAN * low:
        return np.geomspace(low, high * (1 + 1e-9), BINS + 1), True
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1), False


def _chart(
    title: str,
    axes: tuple[str, str],
    scale: svg.Scale,
    drawn: Sequence[svg.Drawn],
    stops: np.ndarray,
    numbers: Sequence[Sequence[str]],
    **more: Any,
) -> Chart:
    ticks = labels.between(scale.left, scale.right, scale.log)
    return Chart(
        title,
        "",
        *axes,
        axes[0].partition(" (")[0],
        scale,
        drawn,
        left_labels(scale),
        [lower_label(scale, tick, f"{tick:g}") for tick in ticks],
        ends=labels.nearby(drawn, scale),
        stops=joined(scale.place(stops)),
        texts=" ".join(f"{stop:.4g}" for stop in stops),
        heads=("Model", "Curve", axes[0], axes[1], "95 % interval", "Samples"),
        numbers=numbers,
        **more,
    )


def _numbers(steps: svg.Steps, places: np.ndarray) -> Iterator[tuple[str, ...]]:
    """Yield lines of the table: the value of a curve at these places."""
    for place in places.tolist():
        step = int(np.searchsorted(steps.x, place, side="right")) - 1
        count = round(float(steps.y[step]) * steps.samples)
        yield (
            steps.model,
            steps.attack,
            f"{place:.4g}",
            percent(count / steps.samples),
            interval(*wilson(count, steps.samples)),
            f"{count:,} of {steps.samples:,}",
        )


def _joined(blocks: Blocks, keys: Sequence[Key]) -> np.ndarray:
    scores = [scores_of(blocks, key, "pairs")[1] for key in keys]
    return np.concatenate([np.zeros(0), *scores])


def _largest(one: LoadedRun, model: str) -> list[Key]:
    """Return the blocks of a model at the largest eps."""
    eps = max(one.run["settings"]["eps"])
    return [key for key in one.blocks.keys(model) if math.isclose(key[2], eps)]


def _bases(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the oblivious attack of each attack, itself for those that know no detector."""
    return {name: one.get("aware_of") or name for name, one in run["attacks"].items()}
