"""Warnings and verdicts on limits of robustness, from the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from art_ext.core.wording import radius as radius_text
from art_ext.evaluation.analysis.finding import Finding
from art_ext.evaluation.analysis.limits import (
    LOWER_ESTIMATE,
    BoundRow,
    ClassifierBound,
    LipschitzRow,
    ModelRow,
    Share,
)
from art_ext.evaluation.analysis.table import percent
from art_ext.storage.generators import judge_remark

LEAST_AGREEMENT = 0.95  # between the classes asked of a generator and those seen in its images


def findings(
    rows: Sequence[ModelRow],
    lipschitz: Sequence[LipschitzRow],
    radius: float,
    facts: Mapping[str, Any],
) -> list[Finding]:
    """Return the warnings and infos on a run.

    Args:
        rows: one for each model and eps.
        lipschitz: constants of the generator.
        radius: of the latent space in which they hold.
        facts: of the run, among them the ``quality`` of its ``generator``, if that is known.
    """
    return [
        *_labels(facts),
        *_radius(lipschitz, radius, sorted({row.eps for row in rows})),
        *(one for row in rows for one in _contradicted(row)),
        *(one for row in rows for one in _not_represented(row)),
        *_zero_risk(rows),
    ]


def _labels(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a warning if the images of the generator often show another class than asked."""
    quality = facts.get("generator", {}).get("quality") or {}
    agreement = quality.get("agreement")
    if agreement is not None and agreement < LEAST_AGREEMENT:
        yield Finding(
            "generator-labels",
            "",
            None,
            None,
            f"a classifier trained on real data sees the wanted class in {percent(agreement)} of"
            f" the generator's images, wanted at least {percent(LEAST_AGREEMENT)}: risks count"
            " these images as errors of every model. Train the generator longer"
            f"{judge_remark(quality)}",
        )


def _radius(
    lipschitz: Sequence[LipschitzRow], radius: float, eps: Sequence[float]
) -> Iterator[Finding]:
    """Yield a warning for each estimator whose constants hold in too small a ball."""
    for estimator in dict.fromkeys(row.estimator for row in lipschitz):
        smallest = min((row for row in lipschitz if row.estimator == estimator), key=_constant)
        wrong = [one for one in eps if radius * smallest.value < one]
        if wrong:
            yield Finding(
                "radius-too-small",
                "",
                None,
                wrong[-1],
                f"radius * L must be at least eps: class {smallest.label} has L"
                f" {smallest.value:.3g} ({estimator}), so radius {radius:g} covers eps up to"
                f" {radius * smallest.value:.3g}, but eps goes up to {wrong[-1]:g}. A radius of"
                f" {wrong[-1] / smallest.value:.3g} would do: give --radius",
            )


def _constant(row: LipschitzRow) -> float:
    return row.value


def is_contradicted(bound: BoundRow | ClassifierBound, robust: Share) -> bool:
    """Return True if an in-distribution robustness is above a bound by more than both intervals."""
    if isinstance(bound, BoundRow):
        return bound.applies and robust.low > bound.value_high
    return robust.low > bound.robustness_high


def _contradicted(row: ModelRow) -> Iterator[Finding]:
    """Yield a warning if the in-distribution robustness is above a bound, by the intervals."""
    robust = row.in_distribution
    above = [bound for bound in row.bounds if is_contradicted(bound, robust)]
    above_own = [bound for bound in row.classifier if is_contradicted(bound, robust)]
    if not above and not above_own:
        return
    wrong = {one.estimator for one in above} | {one.estimator for one in above_own}
    holding = sorted({bound.estimator for bound in row.bounds} - wrong)
    contrast = f" The bounds with the {' and '.join(holding)} L hold." if holding else ""
    yield Finding(
        "bound-contradicted",
        row.model,
        None,
        row.eps,
        f"in-distribution robustness {_percent(robust)} at eps {radius_text(row.eps)} is above"
        f" {'; '.join([*map(_named, above), *map(_named_own, above_own)])}: L is too small, the"
        " classifier is outside the class of the bound, or the attack is too weak." + contrast,
        count=robust.count,
        samples=robust.samples,
        interval=(robust.low, robust.high),
    )


def _named(bound: BoundRow) -> str:
    return (
        f"the {bound.form} bound {percent(bound.value)} ({bound.reading}, {bound.estimator} L"
        f" {bound.lipschitz:.3g})"
    )


def _named_own(bound: ClassifierBound) -> str:
    return f"Theorem 4.4.3 {percent(bound.robustness)} ({bound.estimator} L)"


def _not_represented(row: ModelRow) -> Iterator[Finding]:
    """Yield a warning if the generator cannot make some samples."""
    share = row.not_represented
    if share.count:
        yield Finding(
            "not-represented",
            row.model,
            None,
            row.eps,
            f"{share.count} of {share.samples} samples are not represented at eps"
            f" {radius_text(row.eps)}: the generator's best image is farther than eps, and no"
            f" adversarial was found. They count as robust: in-distribution robustness"
            f" {_percent(row.in_distribution)} with them, {_percent(row.represented)} without",
            count=share.count,
            samples=share.samples,
            interval=(share.low, share.high),
        )


def _zero_risk(rows: Sequence[ModelRow]) -> Iterator[Finding]:
    """Yield a warning for each model without any error on images of the generator."""
    for row in {row.model: row for row in rows}.values():
        if row.risk.count == 0:
            yield Finding(
                "zero-risk",
                row.model,
                None,
                None,
                f"no error in {row.risk.samples:,} images of the generator (risk at most"
                f" {100 * row.risk.high:.2f} %): the printed bounds hold for other classifiers"
                " only",
                samples=row.risk.samples,
                interval=(row.risk.low, row.risk.high),
            )
        elif any(one.count == 0 for one in row.class_risks):
            free = [label for label, one in enumerate(row.class_risks) if one.count == 0]
            yield Finding(
                "zero-risk",
                row.model,
                None,
                None,
                f"no error in the images of {len(free)} of {len(row.class_risks)} classes"
                f" ({', '.join(map(str, free))}): the smallest class risk is 0, and the class-wise"
                " bound says nothing about this classifier",
                level="info",
            )


def sentences(rows: Sequence[ModelRow]) -> Iterator[str]:
    """Yield one sentence for each model and eps, and one on each estimator's bounds."""
    for row in rows:
        hidden = row.not_represented
        without = (
            f", {_percent(row.represented)} without the {percent(hidden.value)} not represented"
            if hidden.count
            else ""
        )
        yield (
            f"{row.model} at eps {radius_text(row.eps)}: robust accuracy"
            f" {_percent(row.unconstrained)} unconstrained (PGD alone {percent(row.pgd.value)}),"
            f" {_percent(row.in_distribution)} in-distribution{without}; risk"
            f" {_percent(row.risk, 2)}"
        )
        yield from _on_bounds(row)


def _on_bounds(row: ModelRow) -> Iterator[str]:
    """Yield one sentence for each form and reading of the bounds, with every estimator."""
    readings = dict.fromkeys((bound.form, bound.reading) for bound in row.bounds)
    for form, reading in readings:
        own = [one for one in row.bounds if (one.form, one.reading) == (form, reading)]
        told = "; ".join(_told(bound, row) for bound in own)
        notes = " ".join(dict.fromkeys(bound.note for bound in own if bound.note))
        yield (
            f"{row.model} at eps {radius_text(row.eps)}: {form} bound at alpha {own[0].alpha:.3g}"
            f" ({reading}): {told}. {LOWER_ESTIMATE} {notes}".strip()
        )
    own_bounds = "; ".join(
        f"{one.robustness:.4f} [{one.robustness_low:.4f}, {one.robustness_high:.4f}] with the"
        f" {one.estimator} L"
        for one in row.classifier
    )
    yield (
        f"{row.model} at eps {radius_text(row.eps)}: Theorem 4.4.3 for this classifier:"
        f" {own_bounds}. {LOWER_ESTIMATE}"
    )


def _told(bound: BoundRow, row: ModelRow) -> str:
    """Return a bound, and how it stands to the in-distribution robustness."""
    name = f"with the {bound.estimator} L {bound.lipschitz:.3g}"
    if bound.value != bound.value:
        return f"the theorem says nothing {name}"
    relation = "above" if bound.value >= row.in_distribution.value else "below"
    vacuous = "vacuous, " if bound.vacuous else ""
    return (
        f"{bound.value:.4f} [{bound.value_low:.4f}, {bound.value_high:.4f}] {name} ({vacuous}"
        f"{relation} the in-distribution robustness)"
    )


def _percent(share: Share, digits: int = 1) -> str:
    """Return a share with its interval."""
    value, low, high = (f"{100 * one:.{digits}f}" for one in (share.value, share.low, share.high))
    return f"{value} % [{low}, {high}]" if share.samples else "unknown"
