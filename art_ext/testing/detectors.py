"""Contract of a detector."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.detection.base import Detector
from art_ext.core.detection.registry import DetectorSpec, get, make_detector
from art_ext.core.features import FeatureTap
from art_ext.core.losses import logits_of
from art_ext.testing.checks import (
    Check,
    ContractError,
    World,
    all_passed,
    check_unchanged,
    differing_rows,
    expect,
    outcomes,
    seed_streams,
)
from art_ext.testing.toy import LinearMeans, digits

TRAINING = 600
CALIBRATION = 200
SAMPLES = 24
FPR = 0.05
SEED = 3
ROUNDING = 1e-4  # of a score that is computed in another batch, relative to the spread of scores


def check_detector(detector: type[Detector] | DetectorSpec | str, **arguments: Any) -> list[Check]:
    """Check the contract of a detector on a toy problem: digits and a linear classifier.

    Args:
        detector: a subclass of ``Detector``, its spec, or the name of a detector in the list.
        **arguments: of its constructor.

    Returns:
        The checks, all of which passed.

    Raises:
        AssertionError: with a line for each check that failed.
        ValueError: if the class cannot be a detector, or does not take the arguments.
    """
    spec = detector if isinstance(detector, DetectorSpec) else _spec(detector)
    return all_passed(spec.name, detector_checks(spec, arguments))


def _spec(detector: type[Detector] | str) -> DetectorSpec:
    return get(detector) if isinstance(detector, str) else DetectorSpec(detector)


def detector_checks(
    spec: DetectorSpec, arguments: Mapping[str, Any] | None = None
) -> Iterator[Check]:
    """Yield the outcome of each check of a detector.

    Raises:
        ValueError: for arguments that the detector does not take.
    """
    return outcomes(CHECKS, _Subject(spec, dict(arguments or {})))


class _Subject:
    """A detector on the toy problem."""

    def __init__(self, spec: DetectorSpec, arguments: dict[str, Any]) -> None:
        make_detector(spec.kind, arguments)
        self.spec = spec
        self.arguments = arguments
        self.model = LinearMeans()
        self.training = digits(TRAINING, "train")
        calibration = digits(CALIBRATION + SAMPLES)
        self.calibration = calibration.x[:CALIBRATION]
        self.x = calibration.x[CALIBRATION:]

    def fitted(self, model: nn.Module | None = None) -> Detector:
        """Return a detector that is fitted to a network, a copy by default."""
        detector = make_detector(self.spec.kind, self.arguments)
        seed_streams(SEED)
        found = detector.fit(
            model or copy.deepcopy(self.model), self.training.x.clone(), self.training.y.clone()
        )
        expect(found is detector, "fit must return the detector itself")
        return detector

    @cached_property
    def detector(self) -> Detector:
        """A detector that several checks share, fitted and calibrated."""
        detector = self.fitted()
        detector.calibrate(self.calibration.clone(), FPR)
        return detector

    @cached_property
    def scores(self) -> Tensor:
        """(N,) scores of the samples in one call."""
        return self.detector.score(self.x.clone())


def _shape_and_dtype(subject: _Subject) -> str:
    scores = subject.fitted().score(subject.x.clone())
    expect(
        scores.shape == (SAMPLES,) and scores.dtype == torch.float32,
        f"score must return ({SAMPLES},) float32, got {tuple(scores.shape)} {scores.dtype}",
    )
    wrong = int((~scores.isfinite()).sum())
    expect(not wrong, f"{wrong} of {SAMPLES} scores are NaN or infinite")
    return f"({SAMPLES},) float32"


def _arguments_kept(subject: _Subject) -> str:
    detector = subject.fitted()
    missing = [
        name
        for name in inspect.signature(subject.spec.kind).parameters
        if not hasattr(detector, name)
    ]
    expect(not missing, f"an argument must be an attribute of the same name: {', '.join(missing)}")
    unset = [
        name
        for name in subject.spec.kind.learned
        if not isinstance(getattr(detector, name, None), Tensor)
    ]
    expect(not unset, f"learn must set tensors as 'learned' lists them: {', '.join(unset)}")
    return ", ".join(subject.spec.options) or "no arguments"


def _order(subject: _Subject) -> str:
    order = torch.arange(SAMPLES).flip(0)
    other = subject.detector.score(subject.x[order].clone())[order]
    return _agree(subject, other, "in another order")


def _batches(subject: _Subject) -> str:
    parts = [subject.detector.score(part.clone()) for part in subject.x.split(SAMPLES // 3)]
    return _agree(subject, torch.cat(parts), "in smaller batches")


def _determinism(subject: _Subject) -> str:
    seed_streams(SEED + 1)
    other = subject.fitted().score(subject.x.clone())
    return _agree(subject, other, "in a second detector: draw from art_ext.core.streams")


def _agree(subject: _Subject, other: Tensor, how: str) -> str:
    spread = max(1.0, float(subject.scores.abs().max()))
    differ = differing_rows(subject.scores[:, None], other[:, None], ROUNDING * spread)
    expect(not differ, f"{differ} of {SAMPLES} scores differ {how}")
    return f"{SAMPLES} scores agree"


def _rows(subject: _Subject) -> str:
    """Compare the rows that the model gets with ``rows`` and with the queries of an oracle."""
    model = copy.deepcopy(subject.model)
    detector = subject.fitted(model)
    model.rows = 0
    with detector.oracle(SAMPLES) as oracle:
        detector.query(oracle, subject.x.clone(), torch.arange(SAMPLES))
    wanted = SAMPLES * detector.rows
    expect(
        model.rows == wanted,
        f"the model got {model.rows} rows for {SAMPLES} inputs, and rows={detector.rows}",
    )
    expect(
        int(oracle.queries.sum()) == wanted,
        f"{int(oracle.queries.sum())} queries were charged for {model.rows} rows",
    )
    return f"{detector.rows} for one input"


def _threshold(subject: _Subject) -> str:
    detector = subject.detector
    rejected = detector.detect(subject.calibration.clone())
    expect(
        rejected.shape == (CALIBRATION,) and rejected.dtype == torch.bool,
        f"detect must return ({CALIBRATION},) bool, got {tuple(rejected.shape)} {rejected.dtype}",
    )
    count = int(rejected.sum())
    share = count / CALIBRATION
    expect(
        count <= FPR * CALIBRATION,
        f"{share:.1%} of the calibration images are rejected at fpr={FPR}",
    )
    scores = detector.score(subject.x.clone())
    expect(
        detector.threshold is not None
        and torch.equal(detector.detect(subject.x.clone()), scores > detector.threshold),
        "detect must be score > threshold",
    )
    return f"{share:.1%} of the calibration images rejected at fpr={FPR}"


def _files(subject: _Subject) -> str:
    """Save, load, and load for another model."""
    detector = subject.detector
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.safetensors"
        detector.save(file)
        model = copy.deepcopy(subject.model)
        loaded = type(detector).load(file, model)
        same = torch.equal(loaded.score(subject.x), subject.scores)
        expect(
            same and loaded.threshold == detector.threshold, "a loaded detector scores otherwise"
        )
        with torch.no_grad():
            model.last.weight.mul_(2)
        try:
            type(detector).load(file, model)
        except ValueError:
            return "the same scores, and an error for another model"
    raise ContractError("a detector that was saved for another model is loaded")


def _gradient(subject: _Subject) -> str:
    detector = subject.detector
    if not detector.differentiable:
        return "none: differentiable is False"
    rows = subject.x.clone().requires_grad_()
    model = subject.model
    features = None
    if detector.needs_features:
        with FeatureTap(model, detector.layer) as tap:
            outputs = model(rows)
            features = tap.take(len(rows))
    else:
        outputs = model(rows)
    further = tuple(logits_of(model(one), "logits") for one in detector.variants(rows))
    scores = detector.measure(logits_of(outputs, "logits"), features, further)
    expect(scores.requires_grad, "measure does not depend on the input through autograd")
    (slope,) = torch.autograd.grad(scores.sum(), rows)
    wrong = int((~slope.isfinite()).flatten(1).any(1).sum())
    expect(not wrong, f"the gradients of {wrong} of {SAMPLES} scores hold NaN or infinity")
    return "finite"


def _input_unchanged(subject: _Subject) -> str:
    x = subject.x.clone()
    training = subject.training.x.clone()
    detector = make_detector(subject.spec.kind, subject.arguments)
    detector.fit(copy.deepcopy(subject.model), training, subject.training.y)
    detector.score(x)
    expect(torch.equal(x, subject.x), "score changes x: let it work on x.clone()")
    expect(torch.equal(training, subject.training.x), "fit changes x: let it work on x.clone()")
    return "x of fit and score"


def _model_restored(subject: _Subject) -> str:
    model = copy.deepcopy(subject.model)
    world = World(model)
    subject.fitted(model).score(subject.x.clone())
    check_unchanged(world.model_changes(), "Leave the model as it was")
    return "parameters, buffers, modes, hooks, requires_grad"


def _streams_restored(subject: _Subject) -> str:
    detector = subject.fitted()
    world = World(subject.model)
    detector.fit(copy.deepcopy(subject.model), subject.training.x, subject.training.y)
    detector.score(subject.x.clone())
    check_unchanged(world.stream_changes(), "Draw from art_ext.core.streams instead")
    return "torch, NumPy, random"


CHECKS: Mapping[str, Callable[[_Subject], str]] = {
    "shape and dtype": _shape_and_dtype,
    "arguments kept": _arguments_kept,
    "order invariance": _order,
    "batch invariance": _batches,
    "determinism": _determinism,
    "rows": _rows,
    "threshold": _threshold,
    "files": _files,
    "gradient": _gradient,
    "input unchanged": _input_unchanged,
    "model restored": _model_restored,
    "streams restored": _streams_restored,
}
