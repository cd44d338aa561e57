"""The detectors as ART ``EvasionDetector`` classes."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from art.defences.detector.evasion import EvasionDetector
from art.defences.preprocessor import SpatialSmoothing
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier, SklearnClassifier
from art.exceptions import EstimatorError
from sklearn.linear_model import LogisticRegression
from torch import nn

import art_ext.detectors
from art_ext.core.attacks import pgd
from art_ext.core.detection import registry
from art_ext.core.detection.calibration import drawn
from art_ext.data import load_data
from art_ext.shells.detectors import listed

SPECS = listed()
FEW = {"kernel_density": {"num_kernels": 30}, "knn": {"k": 10}}


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request):
    return request.param


@pytest.fixture(scope="module")
def arrays():
    data = load_data("digits", split="train").first(600)
    return data.x.numpy(), data.y.numpy(), load_data("digits").first(60).x.numpy()


def made(spec, classifier, **parameters):
    kind = getattr(art_ext.detectors, spec.art)
    return kind(classifier, **{**FEW.get(spec.name, {}), **parameters})


def wrapped(network, **options):
    return PyTorchClassifier(
        network, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), **options
    )


def test_every_detector_has_a_class():
    assert [spec.name for spec in SPECS] == registry.names()
    assert sorted(spec.art for spec in SPECS) == sorted(art_ext.detectors.__all__)
    assert all(issubclass(getattr(art_ext.detectors, spec.art), EvasionDetector) for spec in SPECS)


def test_every_argument_is_documented(spec):
    kind = getattr(art_ext.detectors, spec.art)
    text = inspect.getdoc(kind.__init__)
    for name in inspect.signature(kind).parameters:
        assert f"    {name}: " in text, name


def test_it_is_the_core_s_detector(spec, classifier, arrays, digits_net):
    x, y, other = arrays
    detector = made(spec, classifier, seed=3)
    detector.fit(x, y, batch_size=100, nb_epochs=1)
    report, rejected = detector.detect(other, batch_size=32)
    assert sorted(report) == ["predictions", "scores", "threshold"]
    assert isinstance(rejected, np.ndarray)
    assert rejected.dtype == bool
    assert np.array_equal(rejected, report["scores"] > report["threshold"])
    assert np.allclose(report["predictions"], classifier.predict(other), atol=1e-5)

    held = drawn(600, 120, 3)
    kept = np.setdiff1d(np.arange(600), held.numpy())
    core = spec.kind(**FEW.get(spec.name, {}), **({"seed": 3} if "seed" in spec.options else {}))
    core.fit(digits_net, torch.from_numpy(x[kept]), torch.from_numpy(y[kept]))
    core.calibrate(torch.from_numpy(x[held.numpy()]))
    assert np.allclose(report["scores"], core.score(torch.from_numpy(other)), rtol=1e-4, atol=1e-5)
    assert report["threshold"] == pytest.approx(core.threshold, rel=1e-4, abs=1e-6)


def test_one_hot_labels_and_bytes_of_floats_are_read(spec, classifier, arrays):
    x, y, other = arrays
    first = made(spec, classifier)
    first.fit(x, y)
    second = made(spec, classifier)
    second.fit(x.astype(np.float64), np.eye(10)[y])
    assert np.array_equal(first.detect(other)[0]["scores"], second.detect(other)[0]["scores"])


def test_parameters_are_set_checked_and_told(spec, classifier, arrays):
    x, y, other = arrays
    detector = made(spec, classifier)
    assert list(detector.get_params()) == detector.defence_params
    detector.fit(x, y)
    detector.set_params(fpr=0.2)
    assert detector.get_params()["fpr"] == 0.2
    with pytest.raises(ValueError, match="must be fitted before use"):
        detector.detect(other)
    detector.fit(x, y)
    assert detector.detector.fpr == 0.2
    before = detector.get_params()
    for wrong, message in (
        ({"fprs": 0.1}, r"has no parameter 'fprs' \(did you mean 'fpr'\?\)"),
        ({"fpr": 1.0}, r"fpr must lie in \(0, 1\), got 1.0"),
        ({"fpr": 0.1, "calibration": 1.5}, r"calibration must lie in \(0, 1\), got 1.5"),
        ({"outputs": "labels"}, "outputs must be one of 'logits', 'probabilities', got 'labels'"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.set_params(**wrong)
        assert detector.get_params() == before
    assert detector.detector is not None, "what is refused changes nothing"
    with pytest.raises(TypeError, match="fprs"):
        made(spec, classifier, fprs=0.1)


def test_keywords_and_data_that_do_not_fit_are_named(spec, classifier, arrays):
    x, y, other = arrays
    detector = made(spec, classifier)
    with pytest.raises(ValueError, match="must be fitted before use"):
        detector.detect(other)
    with pytest.raises(ValueError, match="fit has no keyword 'epochs'"):
        detector.fit(x, y, epochs=3)
    with pytest.raises(ValueError, match="at least 20 clean images, got 18"):
        detector.fit(x[:90], y[:90])
    if detector._kind.needs_data:
        with pytest.raises(ValueError, match="must be fitted to training data"):
            detector.fit(x)
    detector.fit(x, y)
    with pytest.raises(ValueError, match="detect has no keyword 'nothing'"):
        detector.detect(other, nothing=1)


def test_preprocessing_is_applied(spec, digits_net, arrays):
    x, y, other = arrays
    smoothing = SpatialSmoothing(3, channels_first=True)
    defended = wrapped(digits_net, preprocessing_defences=smoothing)
    detector = made(spec, defended)
    detector.fit(x, y)
    report, _ = detector.detect(other)
    assert np.allclose(report["predictions"], defended.predict(other), atol=1e-5)
    plain = made(spec, wrapped(digits_net))
    plain.fit(x, y)
    assert not np.allclose(report["scores"], plain.detect(other)[0]["scores"])


def test_the_network_stays_as_it_was(spec, classifier, arrays, digits_net):
    x, y, other = arrays
    digits_net.train()
    detector = made(spec, classifier)
    detector.fit(x, y)
    detector.detect(other)
    assert all(module.training for module in digits_net.modules())
    assert not any(module._forward_hooks for module in digits_net.modules())
    assert all(parameter.requires_grad for parameter in digits_net.parameters())
    digits_net.eval()


def test_layers_have_the_user_s_names(digits_net, arrays):
    x, y, other = arrays
    detector = art_ext.detectors.MahalanobisDetector(wrapped(digits_net), layer="4")
    detector.fit(x, y)
    assert detector.detector.layer == "networks.0._model.4"
    assert np.isfinite(detector.detect(other)[0]["scores"]).all()
    with pytest.raises(ValueError, match=r"layer must be one of 0, 1, .*, got '44'"):
        art_ext.detectors.MahalanobisDetector(wrapped(digits_net), layer="44")


def test_other_classifiers_serve_scores_and_no_features(spec, arrays):
    x, y, other = arrays
    model = LogisticRegression(max_iter=200).fit(x.reshape(len(x), -1), y)
    flat = SklearnClassifier(model=model, clip_values=(0, 1))
    box = BlackBoxClassifier(
        lambda rows: model.predict_proba(rows.reshape(len(rows), -1)), (1, 8, 8), 10, (0, 1)
    )
    if spec.kind.needs_features:
        with pytest.raises(EstimatorError):
            made(spec, flat)
        return
    detector = made(spec, box, outputs="probabilities")
    detector.fit(x)
    report, _ = detector.detect(other)
    if spec.name == "confidence":
        largest = model.predict_proba(other.reshape(len(other), -1)).max(1)
        assert np.allclose(report["scores"], -np.log(largest), rtol=1e-3, atol=1e-6)
        same = made(spec, flat, outputs="probabilities")
        same.fit(x.reshape(len(x), -1))
        flat_scores = same.detect(other.reshape(len(other), -1))[0]["scores"]
        assert np.allclose(flat_scores, report["scores"], rtol=1e-3, atol=1e-6)


def test_arrays_with_nan_are_named(spec, classifier, arrays):
    x, y, _ = arrays
    hole = x.copy()
    hole[3, 0, 2, 2] = np.nan
    detector = made(spec, classifier)
    with pytest.raises(ValueError, match="x must be finite, got NaN"):
        detector.fit(hole, y)
    detector.fit(x, y)
    with pytest.raises(ValueError, match="x must be finite, got NaN or infinity first in sample 3"):
        detector.detect(hole)


def test_the_core_s_detector_serves_attacks_on_its_own_model(classifier, arrays):
    """The example of docs/hosts/art-detectors.md."""
    x, y, other = arrays
    detector = art_ext.detectors.ConfidenceDetector(classifier, fpr=0.2)
    detector.fit(x, y)
    own = detector.detector
    few, labels = torch.from_numpy(other), load_data("digits").y[:60]
    result = pgd(own.model, few, labels, eps=0.2, num_steps=8, seed=0, detector=own)
    found = result.x_adv[result.success].numpy()
    assert len(found) > 0
    assert not detector.detect(found)[1].any()
    with pytest.raises(ValueError, match="must be fitted to the model that is attacked"):
        pgd(classifier.model, few, labels, eps=0.2, num_steps=1, detector=own)
