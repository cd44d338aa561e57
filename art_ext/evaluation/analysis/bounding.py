"""Tables, curves, verdicts and warnings of a run on limits, computed from its records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from art_ext.core.limits import in_distribution_risk_bound, intrinsic_robustness_bound
from art_ext.core.limits.bounds import FORMS, RATIO_TOLERANCE
from art_ext.core.limits.risk import Alpha, GeneratorRisk, RiskBound, bounds_at_risk
from art_ext.evaluation.analysis.blocks import Blocks
from art_ext.evaluation.analysis.finding import Finding, in_order
from art_ext.evaluation.analysis.limits import (
    ESTIMATORS,
    GIVEN_ALPHA,
    SMALLER_RISK,
    BoundRow,
    ClassifierBound,
    Curve,
    ExpansionRow,
    Limits,
    LipschitzRow,
    ModelRow,
    Point,
    Share,
)
from art_ext.evaluation.analysis.limits_findings import findings, sentences
from art_ext.evaluation.analysis.radii import adversarial
from art_ext.evaluation.analysis.risks import RiskCounts

# names of the attacks in the records
PGD = "pgd_l2"
AUTO_PGD = "auto_pgd_margin"
OPTIMISE = "in_distribution_optimise"
GIVEN = "in_distribution_given"
IN_DISTRIBUTION = (OPTIMISE, GIVEN)
STEPS = 200  # of a curve
NARROWEST = 0.2  # largest alpha of a curve, at least


@dataclass(frozen=True, eq=False)
class LimitsRecords:
    """Everything that a run on limits has measured.

    Attributes:
        blocks: records of the attacks.
        run: ``run.json`` of the attacks.
        starts: by model and attack, (N,) distances of the best starts by position, NaN where there
            is none, and (N,) rows of the generator.
        lipschitz: constants of the generator.
        risks: by model, the counts of misclassified images of the generator.
        delta, radius, priors, alpha: as of ``limits``.
        paths: by model that is a checkpoint, the name of its training and its epoch.
        facts: further facts for ``Limits.facts``.
        expansions: of the errors.
    """

    blocks: Blocks
    run: Mapping[str, Any]
    starts: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    lipschitz: Sequence[LipschitzRow]
    risks: Mapping[str, RiskCounts]
    delta: float
    radius: float
    priors: Sequence[float] | None = None
    alpha: float | None = None
    paths: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    expansions: Sequence[ExpansionRow] = ()

    @property
    def eps(self) -> list[float]:
        """Radii, ascending."""
        return [float(one) for one in self.run["settings"]["eps"]]

    @cached_property
    def constants(self) -> dict[str, torch.Tensor]:
        """(K,) float64 constants of the classes, by estimator."""
        found: dict[str, torch.Tensor] = {}
        for name in ESTIMATORS:
            rows = sorted(
                (row for row in self.lipschitz if row.estimator == name), key=lambda row: row.label
            )
            if rows:
                found[name] = torch.tensor([row.value for row in rows], dtype=torch.float64)
        return found

    def fits(self, estimator: str, eps: float) -> bool:
        """Return True if radius * L is at least eps for all classes."""
        return self.radius * float(self.constants[estimator].min()) >= eps


def limits_of(records: LimitsRecords) -> Limits:
    """Return tables, curves, points, verdicts and warnings of a run."""
    rows = tuple(
        _row(records, model, eps) for model in records.blocks.models for eps in records.eps
    )
    lipschitz = tuple(records.lipschitz)
    warnings = [
        *findings(rows, lipschitz, records.radius, records.facts),
        *map(Finding.from_plain, records.run.get("warnings", ())),  # of the attacks
    ]
    return Limits(
        lipschitz=lipschitz,
        rows=rows,
        curves=tuple(_curves(records, rows)),
        points=tuple(_points(records, rows)),
        verdicts=tuple(sentences(rows)),
        warnings=tuple(in_order(warnings)),
        facts=records.facts,
        expansions=tuple(records.expansions),
    )


def _row(records: LimitsRecords, model: str, eps: float) -> ModelRow:
    """Return the results of a model at one eps."""
    blocks = records.blocks
    samples = blocks.samples(model)
    positions = samples.index.to_numpy()
    count = len(positions)
    ran = blocks.attacks(model)

    def robust(attacks: Sequence[str] | None) -> np.ndarray:
        held: np.ndarray = ~adversarial(blocks, model, eps, attacks)[positions]
        return held

    def share(attacks: Sequence[str] | None) -> Share:
        return Share.of(int(robust(attacks).sum()), count)

    on_images = robust(IN_DISTRIBUTION)
    nearest = _best_start(records, model, blocks.nothing(model).size)[positions]
    hidden = on_images & (nearest > eps)
    counts = records.risks[model]
    optimised = records.starts.get(model, {}).get(OPTIMISE, (nearest,))[0]
    known = optimised[~np.isnan(optimised)]
    keys = [key for key in blocks.keys(model) if key[2] == eps]
    return ModelRow(
        model=model,
        eps=eps,
        clean=Share.of(int((~samples["already_adversarial"]).sum()), count),
        risk=counts.overall,
        class_risks=counts.classes,
        pgd=share((PGD,)),
        auto_pgd=share((AUTO_PGD,)),
        unconstrained=share(None),
        optimise=share((OPTIMISE,)) if OPTIMISE in ran else None,
        given=share((GIVEN,)) if GIVEN in ran else None,
        in_distribution=Share.of(int(on_images.sum()), count),
        not_represented=Share.of(int(hidden.sum()), count),
        represented=Share.of(int((on_images & ~hidden).sum()), count - int(hidden.sum())),
        start_distance=float(np.median(known)) if len(known) else math.nan,
        bounds=tuple(_bounds(records, counts.risk, eps)),
        classifier=tuple(_classifier_bounds(records, counts, eps)),
        queries=sum(int(blocks.column(key, "queries").sum()) for key in keys),
        gradients=sum(int(blocks.column(key, "gradients").sum()) for key in keys),
        generator_rows=sum(
            int(rows[~np.isnan(rows)].sum()) for _, rows in records.starts.get(model, {}).values()
        ),
    )


def _best_start(records: LimitsRecords, model: str, size: int) -> np.ndarray:
    """Return (N,) distances of the best starts of all attacks by position, NaN without any."""
    found = np.full(size, np.nan)
    for distance, _ in records.starts.get(model, {}).values():
        found = np.fmin(found, distance[:size])
    return found


def _bounds(records: LimitsRecords, risk: GeneratorRisk, eps: float) -> Iterator[BoundRow]:
    """Yield the bounds in both forms with each estimator."""
    for estimator, constants in records.constants.items():
        found = bounds_at_risk(
            risk, eps=eps, lipschitz=constants, delta=records.delta, priors=records.priors
        )
        if records.alpha is not None:
            found = (*found, *_at_given_alpha(records, records.alpha, constants, risk, eps))
        for bound in found:
            alpha = bound.alpha
            value = float(bound.value)
            yield BoundRow(
                form=alpha.form,
                reading=alpha.reading,
                estimator=estimator,
                lipschitz=float(constants.max()),
                eps=eps,
                alpha=alpha.value,
                alpha_low=alpha.low,
                alpha_high=alpha.high,
                value=value,
                value_low=float(bound.low),
                value_high=float(bound.high),
                vacuous=value >= 1,
                radius_ok=records.fits(estimator, eps),
                note=bound.remark,
                applies=bound.remark != SMALLER_RISK,
            )


def _at_given_alpha(
    records: LimitsRecords, alpha: float, constants: torch.Tensor, risk: GeneratorRisk, eps: float
) -> Iterator[RiskBound]:
    """Yield the bounds in both forms at an alpha that was given.

    The remark tells a classifier whose risk is smaller.
    """
    measured = {one.form: one for one in reversed(risk.alphas)}  # not the papers' reading
    for form in FORMS:
        value = torch.tensor(_value(records, form, alpha, constants, eps), dtype=torch.float64)
        known = Alpha(form, GIVEN_ALPHA, alpha, alpha, alpha)
        remark = SMALLER_RISK if measured[form].high < alpha else ""
        yield RiskBound(known, value, value, value, remark)


def _value(
    records: LimitsRecords, form: str, alpha: float, constants: torch.Tensor, eps: float
) -> float:
    """Return a bound, NaN where the theorem says nothing."""
    priors = _priors(records, len(constants))
    if form == "overall" and alpha / float(priors.min()) > 1 + RATIO_TOLERANCE:
        return math.nan
    bound = intrinsic_robustness_bound(
        eps=eps, alpha=alpha, lipschitz=constants, delta=records.delta, priors=priors, form=form
    )
    return float(bound.value)


def _priors(records: LimitsRecords, classes: int) -> torch.Tensor:
    equal = [1 / classes] * classes
    return torch.tensor(records.priors or equal, dtype=torch.float64)


def _classifier_bounds(
    records: LimitsRecords, counts: RiskCounts, eps: float
) -> Iterator[ClassifierBound]:
    """Yield Theorem 4.4.3 with each estimator."""
    ends = [[getattr(one, end) for one in counts.classes] for end in ("value", "high", "low")]
    for estimator, constants in records.constants.items():
        found = in_distribution_risk_bound(
            eps=eps,
            risks=torch.tensor(ends, dtype=torch.float64),
            lipschitz=constants,
            priors=records.priors,
            delta=records.delta,
        )
        risk, most, least = found.value.tolist()
        yield ClassifierBound(
            estimator=estimator,
            eps=eps,
            risk=risk,
            robustness=1 - risk,
            robustness_low=1 - most,
            robustness_high=1 - least,
            radius_ok=records.fits(estimator, eps),
        )


def _curves(records: LimitsRecords, rows: Sequence[ModelRow]) -> Iterator[Curve]:
    """Yield the bound against alpha, for each eps, form and estimator."""
    largest = max((row.risk.high for row in rows), default=0.0)
    end = min(1.0, max(NARROWEST, 1.2 * largest, 1.2 * (records.alpha or 0.0)))
    alphas = [end * step / STEPS for step in range(STEPS + 1)]
    for eps in records.eps:
        for form in FORMS:
            for estimator, constants in records.constants.items():
                values = tuple(_value(records, form, alpha, constants, eps) for alpha in alphas)
                largest_constant = float(constants.max())
                yield Curve(eps, form, estimator, largest_constant, tuple(alphas), values)


def _points(records: LimitsRecords, rows: Sequence[ModelRow]) -> Iterator[Point]:
    """Yield the points of each model and eps."""
    for row in rows:
        path, step = records.paths.get(row.model, ("", 0))
        kinds = {"unconstrained": row.unconstrained, "in-distribution": row.in_distribution}
        for kind, robustness in kinds.items():
            yield Point(row.model, row.eps, kind, row.risk, robustness, path, step)
