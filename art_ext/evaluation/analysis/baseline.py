"""Models of a report against a baseline: paired differences, distances, samples that one loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.checks import nearest
from art_ext.core.metrics.intervals import paired_difference
from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import NORMS, samples_of
from art_ext.evaluation.analysis.compare import mcnemar
from art_ext.evaluation.analysis.curves import MARGIN
from art_ext.evaluation.analysis.radii import smallest_radii
from art_ext.evaluation.analysis.together import matched, models_of

if TYPE_CHECKING:
    import pandas as pd

    from art_ext.evaluation.analysis.records import LoadedRun

CELLS = 64  # of a grid of distances, in each direction, besides those without an adversarial
MOST = 12  # samples that only one of two models loses, of all pairs


@dataclass(frozen=True)
class Paired:
    """Difference of two robust or clean accuracies over the same samples.

    Attributes:
        difference: of the model minus the baseline, a fraction.
        low, high: its interval at 95 % over paired samples.
        p_value: of McNemar's exact test.
    """

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Entry:
    """One model before any attack or at one eps, against the baseline.

    Attributes:
        eps: radius. None: before any attack.
        value: accuracy of the model, a fraction of its samples. With a detector, misclassified and
            rejected samples count as failures.
        baseline: the same of the baseline. None if it has no value there.
        paired: their difference. None if they are not comparable.
        reason: why they are not. Empty if they are.
    """

    eps: float | None
    value: float
    baseline: float | None
    paired: Paired | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Distances:
    """Numbers of samples by the distances of their nearest verified adversarials for two models.

    Attributes:
        counts: (C + 1, C + 1) int, by the cell of the baseline and that of the model. The cells
            ``0 ... C - 1`` divide the distances up to ``end``. The last one is for samples without
            an adversarial up to there.
        end: largest distance.
    """

    counts: np.ndarray
    end: float


@dataclass(frozen=True)
class Lost:
    """A sample that only one of two models loses.

    Attributes:
        model: the model that loses it.
        index, other_index: its positions in the data of that model's run and of the other's.
        label: its class.
        distance: of the nearest verified adversarial. 0 if no attack was needed.
    """

    model: str
    index: int
    other_index: int
    label: int
    distance: float


@dataclass(frozen=True, eq=False)
class Against:
    """A model against the baseline.

    Attributes:
        model: its name.
        one: its run.
        entries: before any attack, and at each eps of its run.
        distances: None if the distances are not comparable.
        eps: the largest eps of both runs, for ``lost``. None if they are not comparable.
        lost: samples that only one of the two loses at ``eps``, a part of them.
        lost_by_model, lost_by_baseline: numbers of all of them.
    """

    model: str
    one: LoadedRun
    entries: tuple[Entry, ...]
    distances: Distances | None = None
    eps: float | None = None
    lost: tuple[Lost, ...] = ()
    lost_by_model: int = 0
    lost_by_baseline: int = 0


def find_baseline(loaded: Sequence[LoadedRun], name: str | None) -> tuple[LoadedRun, str]:
    """Return the baseline of a report and its run.

    Args:
        loaded: runs whose models have different names.
        name: of the baseline, as the report shows it. None: the first model.

    Raises:
        ValueError: if no model has that name.
    """
    models = [(one, model) for one in loaded for model in models_of(one)]
    for one, model in models:
        if name in (None, model):
            return one, model
    known = [model for _, model in models]
    listed = ", ".join(map(repr, known))
    raise ValueError(
        f"baseline must be one of the models {listed}, got {name!r}{nearest(str(name), known)}"
    )


def against(loaded: Sequence[LoadedRun], name: str | None = None) -> list[Against]:
    """Compare each model of a report with its baseline. Empty for a single model.

    Args:
        loaded, name: as in ``find_baseline``.

    Raises:
        ValueError: if no model has that name.
    """
    base = find_baseline(loaded, name)
    others = [(one, model) for one in loaded for model in models_of(one) if (one, model) != base]
    each = max(2, MOST // max(1, len(others)))
    return [_against(base, other, each) for other in others]


def _against(base: tuple[LoadedRun, str], other: tuple[LoadedRun, str], most: int) -> Against:
    """Compare a model with the baseline, each given as its run and its name."""
    first, second = base[0], other[0]
    samples = matched(first, second)
    reason = _other_samples(first, second, samples)
    ours, theirs = (smallest_radii(one.blocks, name) for one, name in (base, other))
    pair = (ours[samples["index_a"]], theirs[samples["index_b"]])
    whole = tuple(
        radii[one.blocks.samples(name).index.to_numpy()]
        for radii, (one, name) in ((ours, base), (theirs, other))
    )
    entries = [_entry(None, pair, whole, reason)]
    reason = reason or _other_norm(first, second)
    attacked = first.run["settings"]["eps"]
    for eps in second.run["settings"]["eps"]:
        missing = "" if eps in attacked else f"the baseline was not attacked at {radius(eps)}"
        entries.append(_entry(eps, pair, whole, reason or missing))
    common = [eps for eps in second.run["settings"]["eps"] if eps in attacked]
    found = Against(other[1], second, tuple(entries))
    if reason:
        return found
    end = MARGIN * max(*attacked, *second.run["settings"]["eps"])
    found = replace(found, distances=distances_of(*pair, end))
    return _with_lost(found, base[1], samples, pair, common[-1], most) if common else found


def _other_samples(a: LoadedRun, b: LoadedRun, samples: pd.DataFrame) -> str:
    """Return why accuracies of two runs are not comparable, or an empty text."""
    counts = [len(samples_of(one.blocks, ["id"])) for one in (a, b)]
    if not counts[0] == counts[1] == len(samples):
        return f"other samples: {len(samples):,} of {counts[1]:,} are those of the baseline"
    labels = int((samples["label_a"] != samples["label_b"]).sum())
    if labels:
        return f"other labels of {counted(labels, 'sample')}"
    if a.run["settings"]["targeted"] != b.run["settings"]["targeted"]:
        return "other targets"
    return ""


def _other_norm(a: LoadedRun, b: LoadedRun) -> str:
    norms = [NORMS[one.run["settings"]["norm"]] for one in (a, b)]
    return "" if norms[0] == norms[1] else f"{norms[1]} instead of {norms[0]}"


def _entry(
    eps: float | None, pair: Sequence[np.ndarray], whole: Sequence[np.ndarray], reason: str
) -> Entry:
    """Return the accuracies at one eps.

    Args:
        eps: radius. None: before any attack.
        pair: (M,) radii of the matched samples, of the baseline and of the model.
        whole: (N,) radii of all their samples.
        reason: why they are not comparable.
    """
    within = 0.0 if eps is None else eps
    baseline, value = (float((radii > within).mean()) for radii in whole)
    if reason:
        return Entry(eps, value, None, None, reason)
    ours, theirs = (radii > within for radii in pair)
    both, neither = int((ours & theirs).sum()), int((~ours & ~theirs).sum())
    only_model, only_baseline = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    paired = Paired(
        (only_model - only_baseline) / len(ours),
        *paired_difference(both, only_model, only_baseline, neither),
        mcnemar(only_model, only_baseline),
    )
    return Entry(eps, value, baseline, paired)


def distances_of(baseline: np.ndarray, model: np.ndarray, end: float) -> Distances:
    """Count samples by their distances for the baseline (N,) and for a model (N,)."""
    cells = [
        np.where(far <= end, np.minimum(far / end * CELLS, CELLS - 1), CELLS).astype(int)
        for far in (baseline, model)
    ]
    counts = np.zeros((CELLS + 1, CELLS + 1), dtype=int)
    np.add.at(counts, tuple(cells), 1)
    return Distances(counts, end)


def _with_lost(
    found: Against,
    baseline: str,
    samples: pd.DataFrame,
    pair: tuple[np.ndarray, np.ndarray],
    eps: float,
    most: int,
) -> Against:
    """Add the first samples by position that only one of the two loses within eps."""
    ours, theirs = (radii <= eps for radii in pair)
    by_model = np.flatnonzero(theirs & ~ours)
    by_baseline = np.flatnonzero(ours & ~theirs)
    few = by_model[: max(most // 2, most - len(by_baseline))]
    indices = samples[["index_a", "index_b"]].to_numpy()
    labels = samples["label_b"].to_numpy()
    lost = []
    for side, model, rows in ((1, found.model, few), (0, baseline, by_baseline[: most - len(few)])):
        for row in rows.tolist():
            own, other = int(indices[row, side]), int(indices[row, 1 - side])
            lost.append(Lost(model, own, other, int(labels[row]), float(pair[side][row])))
    return replace(
        found,
        eps=eps,
        lost=tuple(lost),
        lost_by_model=len(by_model),
        lost_by_baseline=len(by_baseline),
    )
