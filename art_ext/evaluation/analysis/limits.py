"""Tables, curves, verdicts and warnings of a run on the limits of robustness.

``Limits`` is the whole result as data. ``art_ext.evaluation.analysis.bounding`` computes it from
the records of the attacks, the Lipschitz constants and the risks. Reports only format it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from art_ext.core.limits.bounds import FORMS
from art_ext.core.limits.lipschitz import ESTIMATORS
from art_ext.core.limits.risk import OVERALL_RISK, PAPERS_READING, SMALLEST_CLASS_RISK, ZERO_RISK
from art_ext.core.metrics import wilson
from art_ext.evaluation.analysis.finding import Finding

__all__ = [
    "ESTIMATORS",
    "FORMS",
    "GIVEN_ALPHA",
    "KINDS",
    "LOWER_ESTIMATE",
    "OVERALL_RISK",
    "PAPERS_READING",
    "SMALLER_RISK",
    "SMALLEST_CLASS_RISK",
    "ZERO_RISK",
    "BoundRow",
    "ClassifierBound",
    "Curve",
    "ExpansionRow",
    "Limits",
    "LipschitzRow",
    "ModelRow",
    "Point",
    "Share",
]
# stands below every bound
LOWER_ESTIMATE = (
    "L is a lower estimate of the local Lipschitz constant, so the printed bound may be too low."
)
GIVEN_ALPHA = "given alpha"  # a reading beside those of ``core.limits.risk``
SMALLER_RISK = "The risk of this classifier is smaller, so the bound does not hold for it."
KINDS = (
    "bound-contradicted",
    "radius-too-small",
    "not-represented",
    "zero-risk",
    "generator-labels",
)


@dataclass(frozen=True)
class Share:
    """A fraction of samples with its Wilson interval at 95 %.

    Attributes:
        count: number of samples with the property.
        samples: number of samples. Without any, value and interval are NaN.
        value: count / samples.
        low, high: the interval.
    """

    count: int
    samples: int
    value: float
    low: float
    high: float

    @staticmethod
    def of(count: int, samples: int) -> Share:
        """Return the share of a count."""
        if not samples:
            return Share(0, 0, math.nan, math.nan, math.nan)
        return Share(count, samples, count / samples, *wilson(count, samples))


@dataclass(frozen=True)
class LipschitzRow:
    """Estimated local Lipschitz constant of the generator for one class (a cell of Table 4.3).

    Attributes:
        estimator: ``"sampled"``, ``"spectral"`` or ``"ascent"``.
        label: the class.
        value: the constant, the mean over repeats.
        deviation: standard deviation over repeats. NaN for a single one.
        largest: largest local value of all latents.
        num_latents: number of latents (S).
        num_neighbours: neighbours of each latent (N), 0 where there are none.
        repeats: number of repeats.
        rows: rows of the generator, forward and backward.
        seconds: wall time.
        note: what the estimator says about itself, such as a fallback. Empty if nothing.
    """

    estimator: str
    label: int
    value: float
    deviation: float
    largest: float
    num_latents: int
    num_neighbours: int
    repeats: int
    rows: int
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class BoundRow:
    """Upper bound on the in-distribution robustness of every classifier with risk >= alpha.

    Attributes:
        form: ``"class-wise"`` or ``"overall"``.
        reading: which risk alpha is: ``"smallest class risk"`` or ``"papers' reading"`` (the
            overall risk) in the class-wise form, ``"overall risk"`` in the overall form, or
            ``"given alpha"``.
        estimator: of the Lipschitz constants.
        lipschitz: the largest constant of the classes.
        eps: radius.
        alpha: the risk. ``alpha_low`` and ``alpha_high`` are the ends of its interval, and equal it
            where alpha was given.
        value: the bound at alpha. ``value_low`` is that at ``alpha_high`` and ``value_high`` that
            at ``alpha_low``. NaN where the theorem says nothing.
        vacuous: True if the value is at least 1.
        radius_ok: False if radius * L of a class is below eps, so that the theorem does not apply.
        note: further sentence, such as that the measured risk is 0. Empty if there is none.
        applies: False if the classifier's risk is below a given alpha, by its interval, so that the
            bound does not hold for it.
    """

    form: str
    reading: str
    estimator: str
    lipschitz: float
    eps: float
    alpha: float
    alpha_low: float
    alpha_high: float
    value: float
    value_low: float
    value_high: float
    vacuous: bool
    radius_ok: bool
    note: str = ""
    applies: bool = True

    @property
    def sentence(self) -> str:
        """The sentences below the bound."""
        return f"{LOWER_ESTIMATE} {self.note}".strip()


@dataclass(frozen=True)
class ClassifierBound:
    """Theorem 4.4.3 for one classifier, from its risks of the classes.

    Attributes:
        estimator: of the Lipschitz constants.
        eps: radius.
        risk: lower bound on the in-distribution adversarial risk.
        robustness: 1 - risk, the upper bound on the in-distribution robustness.
        robustness_low, robustness_high: the same at the upper and lower ends of the intervals of
            all class risks.
        radius_ok: as in ``BoundRow``.
    """

    estimator: str
    eps: float
    risk: float
    robustness: float
    robustness_low: float
    robustness_high: float
    radius_ok: bool

    @property
    def sentence(self) -> str:
        """The sentence below the bound."""
        return LOWER_ESTIMATE


@dataclass(frozen=True)
class ModelRow:
    """Results of one model at one eps (a row of Table 4.5).

    Every robustness is the share of all samples that are classified correctly and for which the
    attacks of its name found no adversarial within eps.

    Attributes:
        model, eps: of the row.
        clean: share of correctly classified samples of the data.
        risk: share of misclassified images of the generator, from ``risk_on``.
        class_risks: the same for each class.
        pgd: robustness under L2 PGD without random start, alone.
        auto_pgd: robustness under Auto-PGD on the margin, alone.
        unconstrained: robustness under all attacks together. In-distribution adversarials are
            adversarials, so it is never above ``in_distribution``.
        optimise, given: in-distribution robustness from optimised latents, and from those that made
            the samples. None where that attack did not run.
        in_distribution: in-distribution robustness under both.
        not_represented: share of samples without a success whose best start is farther than eps.
        represented: in-distribution robustness among the other samples.
        start_distance: median distance from a sample to its optimised start. NaN if unknown.
        bounds: in both forms, with each estimator.
        classifier: Theorem 4.4.3 with each estimator.
        queries, gradients, generator_rows: rows of all attacks on all samples.
    """

    model: str
    eps: float
    clean: Share
    risk: Share
    class_risks: tuple[Share, ...]
    pgd: Share
    auto_pgd: Share
    unconstrained: Share
    optimise: Share | None
    given: Share | None
    in_distribution: Share
    not_represented: Share
    represented: Share
    start_distance: float
    bounds: tuple[BoundRow, ...]
    classifier: tuple[ClassifierBound, ...]
    queries: int = 0
    gradients: int = 0
    generator_rows: int = 0


@dataclass(frozen=True)
class Curve:
    """The bound against alpha at one eps (a line of Figure 4.2).

    Attributes:
        eps, form, estimator: of the bound.
        lipschitz: the largest constant of the classes.
        alphas: ascending.
        values: the bound at each alpha, not clipped. NaN where the theorem says nothing.
    """

    eps: float
    form: str
    estimator: str
    lipschitz: float
    alphas: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """Risk and robustness of one model at one eps (a point of Figure 4.2).

    Attributes:
        model, eps: of the point.
        kind: ``"unconstrained"`` or ``"in-distribution"``.
        risk, robustness: coordinates with their intervals.
        path: name of the training of which the model is a checkpoint. Empty if it is none. Points
            of one path, kind and eps are joined in the order of their steps.
        step: epoch of the checkpoint, 0 if the model is none.
    """

    model: str
    eps: float
    kind: str
    risk: Share
    robustness: Share
    path: str = ""
    step: int = 0


@dataclass(frozen=True)
class ExpansionRow:
    """Latents near the errors of a model, for one class (a check of Lemma 4.4.2).

    Attributes:
        model, label: of the row.
        latents: number of latents of the class.
        risk: share of those whose image is misclassified.
        radius: in the latent space.
        share: share of the latents within this radius of a misclassified one, a lower estimate of
            the expansion of the error region.
        least: Phi(Phi^-1(risk) + radius), which the expansion has at least.
    """

    model: str
    label: int
    latents: int
    risk: float
    radius: float
    share: float
    least: float


@dataclass(frozen=True)
class Limits:
    """All results of a run on the limits of robustness, as data.

    Attributes:
        lipschitz: one row for each estimator and class (Table 4.3).
        rows: one row for each model and eps (Table 4.5).
        curves, points: of Figure 4.2.
        verdicts: sentences on the results, for people.
        warnings: findings, of the kinds in ``KINDS``.
        facts: of the run: ``generator`` (name, classes, latent_dim, quality), ``data`` (name,
            samples), ``radius``, ``delta``, ``alpha``, ``seed``, ``lipschitz_units``,
            ``protocol`` (sentences), ``versions`` and ``not_run`` (what the paper has and this run
            has not).
        expansions: one row for each model and class with an error.
    """

    lipschitz: tuple[LipschitzRow, ...]
    rows: tuple[ModelRow, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    verdicts: tuple[str, ...]
    warnings: tuple[Finding, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    expansions: tuple[ExpansionRow, ...] = ()

    @property
    def models(self) -> list[str]:
        """Names of the models, in their order."""
        return list(dict.fromkeys(row.model for row in self.rows))

    @property
    def estimators(self) -> list[str]:
        """Estimators of the Lipschitz constants that ran, in the order of ``ESTIMATORS``."""
        found = {row.estimator for row in self.lipschitz}
        return [name for name in ESTIMATORS if name in found]

    @property
    def eps(self) -> list[float]:
        """Radii, ascending."""
        return sorted({row.eps for row in self.rows})

    def to_json(self) -> str:
        """Return the content of ``limits.json``. NaN becomes null."""
        return (
            json.dumps(_plain(asdict(self)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Limits:
        """Return the result from the parsed content of ``limits.json``.

        Raises:
            KeyError, TypeError: if it is of another form.
        """
        return Limits(
            lipschitz=_read_all(LipschitzRow, plain["lipschitz"]),
            rows=tuple(_row(one) for one in plain["rows"]),
            curves=_read_all(Curve, plain["curves"]),
            points=tuple(
                _read(Point, {**one, **_shares(one, ("risk", "robustness"))})
                for one in plain["points"]
            ),
            verdicts=tuple(plain["verdicts"]),
            warnings=tuple(Finding.from_plain(one) for one in plain["warnings"]),
            facts=plain["facts"],
            expansions=_read_all(ExpansionRow, plain.get("expansions", ())),
        )


_SHARES = (
    "clean",
    "risk",
    "pgd",
    "auto_pgd",
    "unconstrained",
    "optimise",
    "given",
    "in_distribution",
    "not_represented",
    "represented",
)


def _row(plain: Mapping[str, Any]) -> ModelRow:
    own: dict[str, Any] = {**plain, **_shares(plain, _SHARES)}
    own["class_risks"] = _read_all(Share, plain["class_risks"])
    own["bounds"] = _read_all(BoundRow, plain["bounds"])
    own["classifier"] = _read_all(ClassifierBound, plain["classifier"])
    row: ModelRow = _read(ModelRow, own)
    return row


def _shares(plain: Mapping[str, Any], names: Sequence[str]) -> dict[str, Share | None]:
    return {name: None if plain[name] is None else _read(Share, plain[name]) for name in names}


def _read_all(kind: type, plain: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(_read(kind, one) for one in plain)


def _read(kind: type, plain: Mapping[str, Any]) -> Any:
    """Return a dataclass of numbers, texts and sequences. Null numbers become NaN."""
    numbers = {one.name for one in fields(kind) if one.type == "float"}
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if value is None and name in numbers:
            values[name] = math.nan
        elif isinstance(value, list):
            values[name] = tuple(math.nan if one is None else one for one in value)
        else:
            values[name] = value
    return kind(**values)


def _plain(value: Any) -> Any:
    """Return values in the types of JSON. Numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
