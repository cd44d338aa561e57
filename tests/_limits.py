"""Results of an invented run on limits, for tests of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from art_ext.evaluation.analysis.finding import Finding
from art_ext.evaluation.analysis.limits import (
    OVERALL_RISK,
    PAPERS_READING,
    SMALLEST_CLASS_RISK,
    ZERO_RISK,
    BoundRow,
    ClassifierBound,
    Curve,
    Limits,
    LipschitzRow,
    ModelRow,
    Point,
    Share,
)
from art_ext.evaluation.analysis.limits_findings import sentences

NORMAL = NormalDist()
DELTA = 0.001
CLASSES = 10
CONSTANTS = {"sampled": 1.05, "spectral": 1.41}
QUALITY = {
    "agreement": 0.998,
    "reference_accuracy": 0.984,
    "spread": {"smallest": 0.565, "mean": 0.636},
    "nearest_real": 1.325,
    "nearest_real_of_real": 1.077,
    "transfer_accuracy": 0.848,
}
READINGS = (
    ("overall", OVERALL_RISK),
    ("class-wise", SMALLEST_CLASS_RISK),
    ("class-wise", PAPERS_READING),
)


def bound(form: str, alpha: float, eps: float, lipschitz: float) -> float:
    """Bound of ten equal classes. NaN where the theorem says nothing."""
    measure = CLASSES * alpha if form == "overall" else alpha
    if measure >= 1:
        return math.nan
    share = 1 / CLASSES if form == "overall" else 1
    if measure == 0:
        return 1 + DELTA
    return 1 + DELTA - share * NORMAL.cdf(NORMAL.inv_cdf(measure) + eps / lipschitz)


def make_limits(
    models: Sequence[str] = ("natural", "l2-trained"),
    eps: Sequence[float] = (0.5, 0.75, 1.0),
    samples: int = 200,
    checkpoints: Sequence[int] = (),
    name: str = "generator",
) -> Limits:
    """Results of models that differ in robustness. The first has no error on the generator.

    Args:
        models: their names.
        eps: the radii.
        samples: number of samples.
        checkpoints: epochs of the last model's training whose checkpoints are models too.
        name: of the generator, of the data and in the texts.
    """
    rows = [
        _row(model, place, radius, eps, samples)
        for place, model in enumerate(models)
        for radius in eps
    ]
    trained = [row for row in rows if row.model == models[-1]]
    rows += [one for row in trained for one in _checkpoints(row, checkpoints)]
    warnings = (
        Finding("zero-risk", models[0], None, None, f"no image of {name} is misclassified"),
        Finding(
            "not-represented",
            models[-1],
            "in_distribution",
            eps[-1],
            f"samples of {name} are farther than eps from the images of the generator",
            indices=(3, 5),
            ids=(11, 12),
            count=2,
            samples=samples,
            interval=(0.002, 0.036),
        ),
    )
    return Limits(
        lipschitz=tuple(_constants()),
        rows=tuple(rows),
        curves=tuple(_curves(eps)),
        points=tuple(_points(rows)),
        verdicts=tuple(sentences(rows)),
        warnings=warnings,
        facts={
            "generator": {
                "name": name,
                "classes": CLASSES,
                "latent_dim": 16,
                "quality": QUALITY if name == "generator" else None,
            },
            "data": {"name": name, "samples": samples},
            "radius": 0.5,
            "delta": DELTA,
            "alpha": None,
            "seed": 0,
            "lipschitz_units": "unit",
            "protocol": ["The label of an image is the class that the generator was to make."],
            "not_run": ["BigGAN", "LP-certify"],
        },
    )


def _constants() -> list[LipschitzRow]:
    rows = []
    for estimator, constant in CONSTANTS.items():
        sampled = estimator == "sampled"
        rows += [
            LipschitzRow(
                estimator=estimator,
                label=label,
                value=constant * (1 - 0.03 * label),
                deviation=0.02 if sampled else math.nan,
                largest=constant * (1 - 0.02 * label),
                num_latents=200 if sampled else 1000,
                num_neighbours=500 if sampled else 0,
                repeats=3 if sampled else 1,
                rows=300_000 if sampled else 40_000,
                seconds=1.5,
            )
            for label in range(CLASSES)
        ]
    return rows


def _row(model: str, place: int, radius: float, eps: Sequence[float], samples: int) -> ModelRow:
    rank = 1 + list(eps).index(radius)
    risk = Share.of(50 * place, 10_000)
    unconstrained = round(samples * max(0.02, 1 - 0.3 * rank / (1 + place)))
    manifold = round(samples * (1 - 0.04 * rank / (1 + place)))
    return ModelRow(
        model=model,
        eps=radius,
        clean=Share.of(samples - place, samples),
        risk=risk,
        class_risks=tuple(Share.of(place * label, 1000) for label in range(CLASSES)),
        pgd=Share.of(unconstrained + 2, samples),
        auto_pgd=Share.of(unconstrained, samples),
        unconstrained=Share.of(unconstrained, samples),
        optimise=Share.of(manifold + 1, samples),
        given=None,
        in_distribution=Share.of(manifold, samples),
        not_represented=Share.of(2, samples),
        represented=Share.of(manifold - 2, samples - 2),
        start_distance=0.013,
        bounds=tuple(_bounds(risk, place, radius)),
        classifier=tuple(
            ClassifierBound(estimator, radius, 0.012 * rank, 1 - 0.012 * rank, 0.9, 0.999, True)
            for estimator in CONSTANTS
        ),
        queries=100 * samples,
        gradients=99 * samples,
        generator_rows=300 * samples,
    )


def _bounds(risk: Share, place: int, radius: float) -> list[BoundRow]:
    found = []
    for form, reading in READINGS:
        none = reading == SMALLEST_CLASS_RISK
        ends = (0.0, 0.0, 0.004) if none else (risk.value, risk.low, risk.high)
        for estimator, constant in CONSTANTS.items():
            value, high, low = (bound(form, alpha, radius, constant) for alpha in ends)
            found.append(
                BoundRow(
                    form=form,
                    reading=reading,
                    estimator=estimator,
                    lipschitz=constant,
                    eps=radius,
                    alpha=ends[0],
                    alpha_low=ends[1],
                    alpha_high=ends[2],
                    value=value,
                    value_low=low,
                    value_high=high,
                    vacuous=value >= 1,
                    radius_ok=radius < 1 or estimator == "spectral",
                    note="" if place and not none else ZERO_RISK,
                )
            )
    return found


def _curves(eps: Sequence[float]) -> list[Curve]:
    alphas = tuple(0.001 * step for step in range(121))
    return [
        Curve(
            radius,
            form,
            estimator,
            constant,
            alphas,
            tuple(bound(form, alpha, radius, constant) for alpha in alphas),
        )
        for radius in eps
        for form in ("class-wise", "overall")
        for estimator, constant in CONSTANTS.items()
    ]


def _checkpoints(row: ModelRow, steps: Sequence[int]) -> list[ModelRow]:
    """Rows of the checkpoints of a model, which make more errors the earlier they are."""
    found = []
    for place, step in enumerate(steps):
        behind = 1 - place / len(steps)
        held = [
            Share.of(round(one.count * (1 - 0.3 * behind)), one.samples)
            for one in (row.unconstrained, row.in_distribution)
        ]
        found.append(
            replace(
                row,
                model=f"{row.model} epoch {step}",
                risk=Share.of(round(50 + 900 * behind), 10_000),
                unconstrained=held[0],
                in_distribution=held[1],
            )
        )
    return found


def _points(rows: Sequence[ModelRow]) -> list[Point]:
    points = []
    for row in rows:
        path, _, step = row.model.partition(" epoch ")
        for kind, share in (
            ("unconstrained", row.unconstrained),
            ("in-distribution", row.in_distribution),
        ):
            training = (path, int(step)) if step else ("", 0)
            points.append(Point(row.model, row.eps, kind, row.risk, share, *training))
    return points
