"""What every detector promises: one entry each in the harness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.core.detection import Detector, make_detector, registry
from art_ext.core.geometry import BALL_TOLERANCE
from art_ext.data import load_data
from art_ext.testing import check_detector
from tests.accelerator import Accelerator, Remote, held


@dataclass(frozen=True)
class Entry:
    """The harness entry of a detector.

    Attributes:
        name: of the detector.
        settings: arguments that keep the harness quick, or that its model needs.
        rows: rows through the model for one input.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    rows: int = 1


ENTRIES = [
    Entry("confidence"),
    Entry("non_me"),
    Entry("kernel_density", {"num_kernels": 40}),
    Entry("mahalanobis"),
    Entry("knn", {"k": 10, "num_features": 400}),
    Entry("feature_squeezing", rows=3),
]


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request):
    return request.param


@pytest.fixture(scope="module")
def images():
    """Training digits and their classes, calibration digits, and others."""
    train = load_data("digits", split="train").first(800)
    test = load_data("digits").first(400)
    return train.x, train.y, test.x[:200], test.x[200:]


@pytest.fixture
def fitted(entry, images, digits_net):
    detector = make_detector(entry.name, entry.settings).fit(digits_net, *images[:2])
    detector.calibrate(images[2])
    return detector


def test_every_detector_has_an_entry():
    ours = {spec.name for spec in registry.specs() if registry.is_built_in(spec)}
    assert ours == {entry.name for entry in ENTRIES}


def test_the_checks_for_users_pass(entry):
    found = check_detector(entry.name, **entry.settings)
    assert len(found) == 12


def test_scores_do_not_depend_on_batch_or_order(fitted, images):
    x = images[3]
    whole = fitted.score(x)
    spread = float(whole.max() - whole.min())
    assert spread > 0
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert float((fitted.score(x[order]) - whole[order]).abs().max()) <= 1e-5 * spread
    for size in (64, 7):
        fitted.batch_size = size
        assert float((fitted.score(x) - whole).abs().max()) <= 1e-5 * spread


def test_a_threshold_rejects_at_most_its_share_of_the_calibration_images(fitted, images):
    for fpr in (0.01, 0.05, 0.07, 0.2):
        fitted.calibrate(images[2], fpr)
        count = int(fitted.detect(images[2]).sum())
        assert count <= fpr * len(images[2])
        assert count >= fpr * len(images[2]) - 1 or fitted.score(images[2]).unique().numel() < 200


def test_rows_are_what_the_model_gets_and_the_ledger_charges(entry, fitted, images, counting):
    x = images[3][:30]
    model = counting(fitted.model)
    fitted.model = model
    with fitted.oracle(len(x)) as oracle:
        found = fitted.query(oracle, x, torch.arange(len(x)))
    assert fitted.rows == entry.rows
    assert oracle.queries.tolist() == [entry.rows] * 30
    assert model.rows == 30 * entry.rows
    assert not model.training_seen
    assert torch.equal(found.outputs.argmax(1), fitted.model.network(x).argmax(1))


def test_a_budget_holds(fitted, images):
    x = images[3][:4]
    with fitted.oracle(len(x)) as oracle:
        oracle.max_queries = oracle.ledger.max_queries = fitted.rows
        index = torch.arange(len(x))
        fitted.query(oracle, x, index)
        with pytest.raises(RuntimeError, match="used more than max_queries"):
            fitted.query(oracle, x, index)


def test_a_file_gives_the_same_detector(fitted, images, tmp_path):
    file = tmp_path / "detector.safetensors"
    fitted.save(file)
    for kind in (Detector, type(fitted)):
        loaded = kind.load(file, fitted.model)
        assert type(loaded) is type(fitted)
        assert torch.equal(loaded.score(images[3]), fitted.score(images[3]))
        for name in ("threshold", "scale", "fpr", "rows", "layer", "data"):
            assert getattr(loaded, name) == getattr(fitted, name), name
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="was fitted to another model"):
        Detector.load(file, other)


def test_a_gradient_is_that_of_the_score(fitted, images):
    """The slope along a direction equals the difference quotient, but for straight-through ones."""
    rows = images[3][:8].clone().requires_grad_()
    score = differentiable_score(fitted, rows)
    assert torch.allclose(score.float(), fitted.score(rows), atol=1e-4, rtol=1e-4)
    (slope,) = torch.autograd.grad(score.sum(), rows)
    assert bool(slope.isfinite().all())
    assert float(slope.abs().max()) > 0
    if fitted.name == "feature_squeezing":
        return
    with torch.no_grad():
        moved = rows + 1e-3 * slope.sign()
        climbed = differentiable_score(fitted, moved) - score
    assert int((climbed > -BALL_TOLERANCE).sum()) >= 7


def differentiable_score(detector, rows):
    model = detector.model
    features = None
    if detector.needs_features:
        with detector.oracle(1).features(detector.layer) as tap:
            outputs = model(rows)
            features = tap.take(len(rows))
    else:
        outputs = model(rows)
    return detector.measure(outputs, features, tuple(model(one) for one in detector.variants(rows)))


@pytest.mark.parametrize("side", ["cpu", "accelerator"])
@pytest.mark.parametrize("float64", [True, False])
def test_an_accelerator_gives_the_scores_of_the_cpu(
    side, float64, entry, fitted, images, digits_net, tmp_path
):
    accelerator = Accelerator(float64=float64)
    far = accelerator.has(digits_net)
    given = images if side == "cpu" else tuple(map(accelerator.has, images))
    file = tmp_path / "detector.safetensors"
    with accelerator.running():
        detector = make_detector(entry.name, entry.settings).fit(far, *given[:2])
        detector.calibrate(given[2])
        scores = detector.score(given[3])
        rejected = detector.detect(given[3])
        detector.save(file)
        again = Detector.load(file, far).score(given[3])
    tolerance = 1e-5 if float64 else 1e-2
    wanted = fitted.score(images[3])
    for found in (scores, again):
        assert isinstance(found, Remote) == (side == "accelerator")
        torch.testing.assert_close(held(found), wanted, rtol=tolerance, atol=tolerance)
    assert isinstance(rejected, Remote) == (side == "accelerator")
    assert torch.equal(held(rejected), held(scores) > detector.threshold)
    back = Detector.load(file, digits_net).score(images[3])
    torch.testing.assert_close(back, wanted, rtol=tolerance, atol=tolerance)


def test_it_names_what_is_missing(entry, images, digits_net):
    detector = make_detector(entry.name, entry.settings)
    with pytest.raises(ValueError, match="must be fitted before use"):
        detector.score(images[3])
    with pytest.raises(ValueError, match="must be fitted before use"):
        detector.save("nowhere")
    if detector.needs_data:
        with pytest.raises(ValueError, match="must be fitted to training data"):
            detector.fit(digits_net)
    detector.fit(digits_net, *images[:2])
    with pytest.raises(ValueError, match="has no threshold"):
        detector.detect(images[3])
    with pytest.raises(ValueError, match="at least 20 clean images, got 19"):
        detector.calibrate(images[2][:19])
    for fpr in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"fpr must lie in \(0, 1\)"):
            detector.calibrate(images[2], fpr)


def test_labels_alone_serve_no_detector(entry, images, digits_net):
    with pytest.raises(ValueError, match=rf"^{entry.name} needs scores, but outputs='labels'"):
        make_detector(entry.name).fit(
            lambda rows: digits_net(rows).argmax(1), *images[:2], outputs="labels"
        )


def test_a_callable_serves_those_without_features(entry, images, digits_net, tmp_path):
    detector = make_detector(entry.name, entry.settings)

    def service(rows):
        return digits_net(rows).detach()

    if detector.needs_features:
        with pytest.raises(ValueError, match=r"features need a torch.nn.Module, got function"):
            detector.fit(service, *images[:2])
        return
    detector.fit(service).calibrate(images[2])
    detector.save(tmp_path / "d.safetensors")
    again = Detector.load(tmp_path / "d.safetensors", service)
    assert torch.equal(again.detect(images[3]), detector.detect(images[3]))
    with pytest.raises(ValueError, match="was fitted to another model"):
        Detector.load(tmp_path / "d.safetensors", lambda rows: service(rows).flip(1))


def test_probabilities_give_the_scores_of_logits(entry, images, digits_net):
    if make_detector(entry.name).needs_features:
        return
    from_logits = make_detector(entry.name).fit(digits_net)
    softmax = nn.Sequential(digits_net, nn.Softmax(1))
    from_probabilities = make_detector(entry.name).fit(softmax, outputs="probabilities")
    x = images[3]
    found = from_probabilities.score(x)
    assert torch.allclose(found, from_logits.score(x), rtol=1e-3, atol=1e-5)
