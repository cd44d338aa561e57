"""Curves of runs with a detector: robust accuracy with rejection, ROC, and score histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import radius
from art_ext.evaluation.analysis.radii import failures, has_detector
from art_ext.evaluation.analysis.rejection import (
    by_rate,
    detector_of,
    facts_of,
    fpr_of,
    scores_of,
    separation,
)
from art_ext.evaluation.report.canvas import COLOURS, SOFT, Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from art_ext.evaluation.analysis.blocks import Blocks, Key
    from art_ext.evaluation.analysis.records import LoadedRun

Drawn = tuple[str, str, "Figure"]
BINS = 40
SPAN = 1e3  # ratio of positive scores from which on their axis is logarithmic


def detected(group: Sequence[LoadedRun]) -> Iterator[tuple[LoadedRun, str]]:
    """Yield each model with a detector, and its run."""
    for one in group:
        for model in one.blocks.models:
            if has_detector(one.blocks, model):
                yield one, model


def rejection_by_rate(group: Sequence[LoadedRun]) -> Drawn | None:
    """Draw the robust accuracy with rejection against the false-positive rate."""
    pairs = list(detected(group))
    if not pairs:
        return None
    canvas = Canvas.of([model for _, model in pairs], ["with rejection"])
    for one, model in pairs:
        axes = canvas.axes[model]
        style = dict(canvas.styles[model, "with rejection"])
        del style["marker"]
        radii = one.run["settings"]["eps"]
        samples = one.blocks.samples(model)
        measured = 100 * float((~samples["clean_accepted"]).mean())
        for number, eps in enumerate(radii, start=1):
            values = 100 * np.array(by_rate(one.blocks, model, eps))
            shade = number / len(radii)
            name = canvas.label(model, "eps", f" {radius(eps)}")
            axes.plot(values[:, 0], values[:, 1], alpha=shade, label=name, linewidth=1.8, **style)
            failed = failures(one.blocks, model, eps)[samples.index.to_numpy()]
            place = (max(measured, 1.0), 100 * (~failed).mean())
            axes.plot(*place, "o", color=style["color"], alpha=shade, clip_on=False)
        if len(pairs) == 1:
            axes.set_title(f"detector {detector_of(one.blocks, model)}", fontsize=11)
    canvas.set(
        xlim=(1, 20),
        xticks=(1, 5, 10, 15, 20),
        ylim=(0, 101),
        xlabel="false-positive rate on the clean samples of the run (%)",
        ylabel="robust accuracy with rejection (%)",
    )
    canvas.legend()
    caption = (
        "Share of all samples that are correct and accepted without attack, and for which no attack"
        " of the panel found a misclassified row that is accepted. The threshold is moved so that"
        " it rejects so many clean samples. The attacks aim at the threshold of the run (dot, at"
        " its measured rate), so that values elsewhere are upper bounds."
    )
    return "Robust accuracy with rejection against the false-positive rate", caption, canvas.figure


def roc(group: Sequence[LoadedRun]) -> Drawn | None:
    """Draw the ROC curve of each attack, oblivious and aware."""
    pairs = list(detected(group))
    curves = [
        (model, key[1], _bases(one.run)[key[1]], found)
        for one, model in pairs
        for key in _largest(one, model)
        if (found := separation(one.blocks, key, "pairs", fpr_of(one.run, model))) is not None
    ]
    if not curves:
        return None
    attacks = list(dict.fromkeys(base for one, _ in pairs for base in _bases(one.run).values()))
    canvas = Canvas.of([model for _, model in pairs], attacks)
    for model, attack, base, found in curves:
        canvas.axes[model].plot(
            100 * found.roc_fpr.numpy(),
            100 * found.roc_tpr.numpy(),
            color=canvas.styles[model, base]["color"],
            linestyle="-" if attack == base else "--",
            linewidth=1.8,
            label=canvas.label(model, attack),
        )
    for axes in canvas.every_axes():
        axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.9, linestyle=":")
    canvas.set(
        xlim=(0, 100),
        ylim=(0, 101),
        xlabel="clean samples rejected (%)",
        ylabel="adversarials rejected (%)",
    )
    canvas.legend()
    caption = (
        "ROC curves of the pairs: correctly classified samples with a success at the largest eps,"
        " against what the attack returned for them. Full lines do not know the detector. Dashed"
        " lines know it, and their successes are accepted at the threshold of the run."
    )
    return "Detection of the successes", caption, canvas.figure


def histograms(group: Sequence[LoadedRun]) -> Drawn | None:
    """Draw histograms of the scores of clean samples and of successes."""
    pairs = list(detected(group))
    if not pairs:
        return None
    canvas = Canvas.of([model for _, model in pairs], ["one", "two", "three"])
    for one, model in pairs:
        _histogram(canvas.axes[model], one, model)
    # scores of different detectors have different scales, so that each has labels of its own
    for axes in canvas.every_axes():
        axes.set(xlabel="score (more suspicious to the right)", ylabel="share of the scores (%)")
    canvas.legend()
    caption = (
        "Scores of the clean samples, and of the successes at the largest eps on correctly"
        " classified samples, of attacks that do not know the detector and of those that do. Right"
        " of the dashed line, the threshold, an input is rejected."
    )
    return "Scores", caption, canvas.figure


def _histogram(axes: Axes, one: LoadedRun, model: str) -> None:
    bases = _bases(one.run)
    keys = _largest(one, model)
    parts = {
        " clean": one.blocks.samples(model)["clean_score"].to_numpy(dtype=float),
        " successes, oblivious": _joined(one.blocks, [k for k in keys if bases[k[1]] == k[1]]),
        " successes, aware": _joined(one.blocks, [k for k in keys if bases[k[1]] != k[1]]),
    }
    threshold = float(facts_of(one.run, model)["threshold"])
    every = np.concatenate([*parts.values(), [threshold]])
    every = every[np.isfinite(every)]
    low, high = float(every.min()), float(every.max())
    logarithmic = low > 0 and high > SPAN * low
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        edges = np.geomspace(low, high * (1 + 1e-9), BINS + 1).tolist()
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1).tolist()
    for colour, (name, scores) in zip(COLOURS, parts.items(), strict=False):
        if not len(scores):
            continue
        weights = np.full(len(scores), 100 / len(scores))
        axes.hist(scores, edges, weights=weights, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(
            scores, edges, weights=weights, histtype="step", color=colour, linewidth=1.5, label=name
        )
    axes.axvline(threshold, color=SOFT, linewidth=1.0, linestyle="--")


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


KINDS = (rejection_by_rate, roc, histograms)
