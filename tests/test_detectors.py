"""Detectors against closed forms, scikit-learn and SciPy."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage  # SciPy has no types
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import nn

from art_ext.core.attacks import pgd
from art_ext.core.detection import (
    KNN,
    Confidence,
    Detector,
    FeatureSqueezing,
    KernelDensity,
    Mahalanobis,
    NonMaximalEntropy,
    make_detector,
    registry,
    squeezers,
)
from art_ext.core.detection.calibration import drawn, held_out_rate
from art_ext.core.detection.kernel_density import grouped_log_sums, masked_log_sums
from art_ext.core.detection.mahalanobis import ledoit_wolf_share
from art_ext.core.detection.squeezers import bit_depth, median, non_local_means, squeezer_of
from art_ext.core.features import FeatureTap
from art_ext.core.oracle import GradientOracle, ScoreOracle


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


class Plain(nn.Module):
    """Two given tables for one input number: features, and their logits."""

    def __init__(self, features, logits):
        super().__init__()
        self.first = nn.Embedding.from_pretrained(features)
        self.last = nn.Linear(features.shape[1], logits.shape[1])
        self.logits = logits

    def forward(self, x):
        places = x.flatten(1)[:, 0].round().long()
        self.last(self.first(places))
        return self.logits[places]


def learned(detector, features, y, classes=4):
    """A detector that has learnt from given features, by the real path through a network."""
    logits = 10.0 * nn.functional.one_hot(y, classes).float()
    model = Plain(features, logits)
    x = torch.arange(len(features), dtype=torch.float32)[:, None]
    return detector.fit(model, x, y, clip_values=None)


# --- confidence and non-ME ---


def test_confidence_is_the_largest_log_probability():
    logits = 5 * torch.randn(200, 10, generator=stream(), dtype=torch.float64)
    wanted = -logits.log_softmax(1).amax(1)
    assert torch.allclose(Confidence().measure(logits, None, ()), wanted, rtol=1e-12)


def test_confidence_stays_apart_near_one():
    logits = torch.tensor([[0.0, 30.0], [0.0, 40.0], [0.0, 60.0]])
    found = Confidence().measure(logits, None, ())
    assert torch.allclose(found, torch.tensor([-30.0, -40.0, -60.0]).exp(), rtol=1e-5)
    assert bool((-logits.log_softmax(1).amax(1) == 0).all()), "the direct form cannot"


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_non_me_of_one_hot_is_0_and_of_uniform_is_the_logarithm(classes):
    one_hot = torch.full((1, classes), -math.inf, dtype=torch.float64)
    one_hot[0, 0] = 0
    one_hot[0, 1] = -5
    uniform = torch.zeros(1, classes, dtype=torch.float64)
    uniform[0, 0] = 3
    found = NonMaximalEntropy().measure(torch.cat([one_hot, uniform]), None, ())
    assert found[0] == 0
    assert torch.allclose(found[1], -torch.tensor(math.log(classes - 1), dtype=torch.float64))


def test_non_me_is_the_entropy_of_the_others_and_finite_at_certainty():
    logits = 3 * torch.randn(50, 7, generator=stream(), dtype=torch.float64)
    p = logits.softmax(1)
    others = p.scatter(1, p.argmax(1, keepdim=True), 0)
    others = others / others.sum(1, keepdim=True)
    wanted = torch.special.entr(others).sum(1)
    assert torch.allclose(-NonMaximalEntropy().measure(logits, None, ()), wanted)
    certain = torch.tensor([[1000.0, 0.0, 0.0, 0.0]], requires_grad=True)
    found = NonMaximalEntropy().measure(certain, None, ())
    assert torch.allclose(found, torch.tensor([-math.log(3)]))
    assert bool(torch.autograd.grad(found.sum(), certain)[0].isfinite().all())


def test_non_me_needs_three_classes():
    with pytest.raises(ValueError, match="non_me needs at least 3 classes, got 2"):
        NonMaximalEntropy().measure(torch.zeros(2, 2), None, ())


# --- squeezing ---


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_median_is_scipy_s_bit_for_bit(size):
    images = torch.rand(5, 3, 9, 7, generator=stream(size))
    images[0] = (images[0] * 4).round() / 4  # ties
    wanted = ndimage.median_filter(images.numpy(), size=(1, 1, size, size))
    assert np.array_equal(median(size)(images).numpy(), wanted)


def test_the_median_needs_images():
    with pytest.raises(ValueError, match="median must squeeze images"):
        median(2)(torch.rand(4, 9))


@pytest.mark.parametrize("size", [2, 3])
def test_the_median_sends_the_slope_to_the_chosen_pixels(size):
    rows = torch.rand(2, 1, 6, 6, generator=stream()).requires_grad_()
    (slope,) = torch.autograd.grad(median(size)(rows).sum(), rows)
    assert float(slope.sum()) == pytest.approx(72)
    assert int((slope != slope.round()).sum()) == 0


def test_bit_depth_rounds_halves_to_even_and_passes_the_slope():
    rows = torch.tensor([[0.0, 0.5, 0.51, 1.0]], requires_grad=True)
    found = bit_depth(1)(rows)
    assert found.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    (slope,) = torch.autograd.grad((found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(), rows)
    assert slope.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    image = torch.rand(1, 1, 20, 20, generator=stream())
    assert np.array_equal(bit_depth(5)(image).numpy(), np.rint(image.numpy() * 31) / np.float32(31))


def test_non_local_means_is_opencv_s_in_the_authors_order():
    cv2 = pytest.importorskip("cv2", reason="the extra detection installs OpenCV")
    images = torch.rand(3, 3, 16, 16, generator=stream()).requires_grad_()
    for channels, flip in (("rgb", False), ("bgr", True)):
        found = non_local_means(channels=channels)(images)
        for image, squeezed in zip(images.detach(), found, strict=True):
            pixels = np.rint(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8)
            pixels = np.ascontiguousarray(pixels[..., ::-1]) if flip else pixels
            wanted = cv2.fastNlMeansDenoisingColored(pixels, None, 2, 2, 3, 13)
            wanted = wanted[..., ::-1] if flip else wanted
            got = squeezed.detach().permute(1, 2, 0).numpy()
            assert np.array_equal(got, wanted.astype(np.float32) / 255)
    assert torch.equal(torch.autograd.grad(found.sum(), images)[0], torch.ones_like(images))
    assert squeezer_of(str(non_local_means(strength=1.5))) == non_local_means(strength=1.5)
    with pytest.raises(ValueError, match=r"images \(rows, 3, height, width\), got \(2, 1, 8, 8\)"):
        FeatureSqueezing("cifar10").fit(lambda rows: rows.flatten(1)).score(torch.rand(2, 1, 8, 8))


def test_the_missing_opencv_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(squeezers, "find_spec", lambda name: None)
    detector = FeatureSqueezing("cifar10").fit(lambda rows: rows.flatten(1)[:, :4])
    with pytest.raises(ValueError, match="take bit_depth and median for grey images"):
        detector.score(torch.rand(2, 1, 8, 8))
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[detection\]'"):
        detector.score(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"search": 12}, "search must be odd, got 12"),
        ({"patch": 0}, "patch must be an integer >= 1, got 0"),
        ({"strength": 0}, "strength must be > 0, got 0"),
        ({"channels": "gbr"}, "channels must be one of 'rgb', 'bgr', got 'gbr'"),
    ],
)
def test_wrong_filters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        non_local_means(**arguments)


def test_squeezing_is_the_largest_distance_of_probabilities():
    weight = torch.randn(16, 4, generator=stream())
    detector = FeatureSqueezing([bit_depth(1), "median(size=2)", "bit_depth(3)"])
    assert detector.rows == 4

    def model(rows):
        return rows.flatten(1) @ weight

    x = torch.rand(30, 1, 4, 4, generator=stream(1))
    detector.fit(model)
    own = model(x).softmax(1)
    squeezed = [bit_depth(1)(x), median(2)(x), bit_depth(3)(x)]
    wanted = torch.stack([(own - model(one).softmax(1)).abs().sum(1) for one in squeezed])
    assert torch.allclose(detector.score(x), wanted.amax(0))


def test_squeezing_works_in_other_boxes():
    def model(rows):
        return rows.flatten(1)[:, :4]

    x = torch.rand(30, 1, 4, 4, generator=stream())
    inside = FeatureSqueezing().fit(model).score(x)
    outside = FeatureSqueezing().fit(lambda rows: model((rows + 1) / 2), clip_values=(-1.0, 1.0))
    assert torch.allclose(outside.score(2 * x - 1), inside, atol=1e-5)
    with pytest.raises(ValueError, match="clip_values of two numbers"):
        FeatureSqueezing().fit(model, clip_values=None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mnits", r"squeezers must be one of .*, got 'mnits' \(did you mean 'mnist'\?\)"),
        ([], "at least one squeezer"),
        (["media(2)"], r"a squeezer must be one of .*got 'media\(2\)' \(did you mean 'median'\?\)"),
        (["median(bits=2)"], "median has no argument 'bits'"),
        (["bit_depth(99)"], r"bits must lie in \[1, 24\], got 99"),
        (["median(0)"], "size must be an integer >= 1, got 0"),
        (["bit_depth"], "must fit bit_depth"),
        (["bit_depth(x)"], "bits must be an integer >= 1, got 'x'"),
    ],
)
def test_wrong_squeezers_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        FeatureSqueezing(given)


def test_a_squeezer_reads_its_own_text():
    for squeezer in (bit_depth(5), median(3)):
        assert squeezer_of(str(squeezer)) == squeezer


# --- kernel density ---


@pytest.mark.parametrize("sigma2", [0.385, 3.846, 250.0])
def test_kernel_density_equals_a_double_loop(sigma2):
    features = 6 * torch.rand(120, 64, generator=stream())
    y = torch.randint(0, 4, (120,), generator=stream(1))
    detector = learned(KernelDensity(sigma2=sigma2), features, y)
    rows = torch.cat([features[:20], 6 * torch.rand(20, 64, generator=stream(2))])
    logits = torch.randn(40, 4, generator=stream(3))
    found = detector.measure(logits, rows, ())
    for row, predicted, score in zip(rows, logits.argmax(1), found, strict=True):
        own = features[y == predicted].double()
        exponents = [-float((row.double() - one).square().sum()) / sigma2 for one in own]
        largest = max(exponents)
        total = sum(math.exp(one - largest) for one in exponents)
        wanted = -(largest + math.log(total / len(own)))
        assert float(score) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert bool(found.isfinite().all())


def test_a_density_of_one_at_equal_kernels():
    features = torch.ones(12, 3).cumsum(0)[torch.arange(4).repeat(3) % 4]
    y = torch.arange(4).repeat(3)
    detector = learned(KernelDensity(sigma2=1.0), features, y)
    found = detector.log_density(features[:4], y[:4])
    assert torch.allclose(found, torch.zeros(4), atol=1e-6)


def test_the_median_bandwidth_and_the_medians_of_classes():
    features = torch.randn(90, 5, generator=stream())
    y = torch.arange(3).repeat(30)
    detector = learned(KernelDensity(), features, y, classes=3)
    pairs = torch.cat([torch.pdist(features[y == label]).square() for label in range(3)])
    assert float(detector.bandwidth) == pytest.approx(float(pairs.median()), rel=1e-5)
    for label in range(3):
        own = features[y == label]
        exponents = torch.cdist(own, own).square() / -detector.bandwidth
        wanted = (exponents.exp().mean(1).log()).median()
        assert float(detector.log_medians[label]) == pytest.approx(float(wanted), abs=1e-4)


def test_kernels_are_drawn_by_the_seed():
    features = torch.randn(90, 5, generator=stream())
    y = torch.arange(3).repeat(30)
    kept = [
        learned(KernelDensity(num_kernels=7, seed=seed), features, y, classes=3).kernels
        for seed in (0, 0, 1)
    ]
    assert kept[0].shape == (21, 5)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])
    of_class = [(features == one).all(1).nonzero().item() % 3 for one in kept[0]]
    assert of_class == [0] * 7 + [1] * 7 + [2] * 7


def test_densities_of_all_kernels_equal_those_of_one_class_at_a_time():
    """Values and gradients, also where float32 would underflow, and with a class without rows."""
    features = 4 * torch.randn(40, 6, generator=stream(3))
    classes = torch.arange(40) % 3  # of four
    counts = torch.tensor([5, 1, 9, 4])
    kernels = torch.randn(int(counts.sum()), 6, generator=stream(4))
    found = []
    for log_sums in (grouped_log_sums, masked_log_sums):
        leaf = features.clone().requires_grad_()
        sums = log_sums(leaf, classes, kernels, counts, torch.tensor(0.385, dtype=torch.float64))
        found.append((sums.detach(), *torch.autograd.grad(sums.sum(), leaf)))
    assert found[0][0].min() < -200
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_kernel_density_reads_no_value_from_an_accelerator():
    """A meta tensor has no values: whoever reads one fails."""
    features, y = torch.randn(12, 5, generator=stream()), torch.arange(12) % 3
    detector = learned(KernelDensity(), features, y, classes=3)
    for name in detector.learned:
        setattr(detector, name, getattr(detector, name).to("meta"))
    logits, rows = torch.zeros(7, 3, device="meta"), torch.zeros(7, 5, device="meta")
    assert detector.measure(logits, rows, ()).shape == (7,)
    assert detector.class_excess(rows, logits.argmax(dim=1)).shape == (7,)


def test_kernel_density_needs_every_class_and_distinct_images():
    features = torch.randn(8, 5, generator=stream())
    with pytest.raises(ValueError, match="every class, got none of class 2, 3"):
        learned(KernelDensity(), features, torch.arange(2).repeat(4))
    with pytest.raises(ValueError, match="give sigma2 as a number"):
        learned(KernelDensity(), torch.ones(8, 5), torch.arange(2).repeat(4), classes=2)


# --- Mahalanobis and kNN beside scikit-learn ---


def test_mahalanobis_equals_scikit_learn_s():
    mixing = torch.randn(12, 12, generator=stream(5))
    features = (torch.randn(200, 12, generator=stream()) @ mixing).float()
    y = torch.arange(4).repeat(50)
    features = features + y[:, None]
    detector = learned(Mahalanobis(), features, y)
    wide = features.double().numpy()
    means = np.stack([wide[y.numpy() == label].mean(0) for label in range(4)])
    fitted = LedoitWolf(assume_centered=True).fit(wide - means[y.numpy()])
    rows = 3 * torch.randn(60, 12, generator=stream(2))
    wanted = np.stack([fitted.mahalanobis(rows.double().numpy() - mean) for mean in means]).min(0)
    found = detector.measure(torch.zeros(60, 4), rows, ())
    assert np.allclose(found.numpy(), wanted, rtol=1e-5)
    centred = torch.from_numpy(wide - means[y.numpy()])
    share = ledoit_wolf_share(centred, centred.T @ centred / len(centred))
    assert share == pytest.approx(fitted.shrinkage_, rel=1e-9)


def test_mahalanobis_takes_a_share_and_names_a_singular_covariance():
    features = torch.randn(40, 6, generator=stream())
    y = torch.arange(4).repeat(10)
    full = learned(Mahalanobis(shrinkage=1.0), features, y)
    means = torch.stack([features[y == label].mean(0) for label in range(4)])
    level = (features - means[y]).square().mean()
    wanted = torch.cdist(features, means).square().amin(1) / level
    assert torch.allclose(full.measure(torch.zeros(40, 4), features, ()), wanted, rtol=1e-3)
    constant = torch.cat([features, torch.zeros(40, 2)], dim=1)
    with pytest.raises(ValueError, match="has no inverse"):
        learned(Mahalanobis(shrinkage=0.0), constant, y)
    assert learned(Mahalanobis(), constant, y).means.shape == (4, 8)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_knn_equals_scikit_learn_s(k):
    features = torch.randn(150, 8, generator=stream())
    y = torch.arange(3).repeat(50)
    detector = learned(KNN(k=k), features, y, classes=3)
    rows = torch.cat([features[:10], torch.randn(40, 8, generator=stream(2))])
    stored = nn.functional.normalize(features.double(), dim=1).numpy()
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(stored)
    wanted = neighbours.kneighbors(nn.functional.normalize(rows.double(), dim=1).numpy())[0][:, -1]
    found = detector.measure(torch.zeros(50, 3), rows, ())
    assert np.allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_knn_has_a_finite_slope_at_a_training_image():
    features = torch.randn(30, 8, generator=stream())
    detector = learned(KNN(k=1), features, torch.arange(3).repeat(10), classes=3)
    rows = features[:5].clone().requires_grad_()
    score = detector.measure(torch.zeros(5, 3), rows, ())
    (slope,) = torch.autograd.grad(score.sum(), rows)
    assert bool(slope.isfinite().all())
    with pytest.raises(ValueError, match="knn with k=50 needs 50 images, got 30"):
        learned(KNN(), features, torch.arange(3).repeat(10), classes=3)


# --- features ---


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.tokens = nn.Unflatten(1, (16, 16))
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(256, 12), nn.ReLU())
        self.last = nn.Linear(12, 5)

    def forward(self, x):
        return self.last(self.body(self.conv(x)))


def test_features_come_from_the_pass_of_the_scores():
    model = Blocks().eval()
    x = torch.rand(9, 1, 8, 8, generator=stream())
    index = torch.arange(9)
    with ScoreOracle(model, 9) as oracle, oracle.features() as tap:
        scores = oracle.scores(x, index)
        features = tap.take(9)
    assert tap.name == "last"
    assert torch.allclose(features, model.body(model.conv(x)))
    assert torch.allclose(scores, model(x))
    assert oracle.queries.tolist() == [1] * 9
    with ScoreOracle(model, 9, pad_rows=32) as oracle, oracle.features("conv") as tap:
        oracle.scores(x, index)
        assert torch.allclose(tap.take(9), model.conv(x).mean(dim=(2, 3)), atol=1e-6)
    assert not model.conv._forward_hooks


def test_features_have_a_graph_in_the_loss_of_a_gradient():
    model = Blocks().eval()
    x = torch.rand(9, 1, 8, 8, generator=stream())
    with GradientOracle(model, 9, batch_size=4) as oracle, oracle.features("body.1") as tap:
        found = oracle.gradient(x, torch.arange(9), lambda scores, _: tap.take(len(scores)).sum(1))
    rows = x.clone().requires_grad_()
    model.body[1](model.body[0](model.conv(rows))).sum().backward()
    assert torch.allclose(found.gradient, rows.grad, atol=1e-6)


def test_unknown_layers_and_missing_ones_are_named():
    with pytest.raises(ValueError, match=r"layer must be one of conv, .*last, got 'lats' \(did"):
        FeatureTap(Blocks(), "lats")
    with pytest.raises(ValueError, match="has no linear layer"):
        FeatureTap(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()))
    with FeatureTap(Blocks(), "tokens") as tap, pytest.raises(ValueError, match="got nothing"):
        tap.take(3)
    with pytest.raises(ValueError, match="layer must be one of"):
        KernelDensity(layer="nothing").fit(Blocks(), torch.rand(4, 1, 8, 8), torch.arange(4))


# --- the list, thresholds, files ---


def test_a_detector_is_made_by_name():
    assert isinstance(make_detector("KERNEL_density", {"num_kernels": 3}), KernelDensity)
    with pytest.raises(ValueError, match=r"kernel_density has no argument 'kernels'.*it takes num"):
        make_detector("kernel_density", {"kernels": 3})
    with pytest.raises(ValueError, match=r"got 'confidenc' \(did you mean 'confidence'\?\)"):
        make_detector("confidenc")
    with pytest.raises(ValueError, match="must be a subclass of Detector, got Blocks"):
        make_detector(Blocks)
    with pytest.raises(ValueError, match="num_kernels must be an integer >= 1, got 0"):
        make_detector("kernel_density", {"num_kernels": 0})


def test_every_detector_says_what_it_is():
    for spec in registry.specs():
        assert spec.summary.endswith(".")
        assert spec.paper
        assert spec.url.startswith("https://")
        assert spec.rows >= 1


def test_a_nan_score_is_rejected_and_gives_no_threshold():
    detector = Confidence().fit(lambda rows: rows)
    detector.calibrate(torch.rand(100, 3, generator=stream()))
    assert detector.accepts(torch.tensor([math.nan, -1.0])).tolist() == [False, True]
    with pytest.raises(ValueError, match="got NaN"):
        detector.set_threshold(torch.full((30,), math.nan))


def test_fitting_again_drops_the_threshold():
    detector = Confidence().fit(lambda rows: rows)
    detector.calibrate(torch.rand(100, 3, generator=stream()))
    detector.fit(lambda rows: 2 * rows)
    assert detector.threshold is None
    with pytest.raises(ValueError, match="has no threshold"):
        detector.detect(torch.rand(4, 3))


def test_a_file_of_another_kind_or_class_is_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match=r"a file that Detector.save wrote"):
        Detector.load(tmp_path / "text.safetensors", lambda rows: rows)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Detector.load(tmp_path / "none.safetensors", lambda rows: rows)
    Confidence().fit(lambda rows: rows).save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="holds the detector 'confidence', not 'knn'"):
        KNN.load(tmp_path / "c.safetensors", Blocks())


def test_the_head_of_a_network_is_part_of_its_digest(tmp_path):
    from art_ext.training.heads.reverse import ReverseLogits

    network = Blocks().eval()
    detector = Confidence().fit(network)
    detector.save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="was fitted to another model"):
        Detector.load(tmp_path / "c.safetensors", ReverseLogits(network))


def test_calibration_images_are_drawn_at_random():
    places = drawn(1000, 300, seed=4)
    assert torch.equal(places, drawn(1000, 300, seed=4))
    assert not torch.equal(places, drawn(1000, 300, seed=5))
    assert len(places.unique()) == 300
    assert abs(float(places.double().mean()) - 500) < 60
    with pytest.raises(ValueError, match="count must not exceed the 10 samples, got 11"):
        drawn(10, 11)


def test_the_held_out_rate_stands_beside_the_wanted_one():
    rejected = torch.zeros(400, dtype=torch.bool)
    rejected[:40] = True
    correct = torch.ones(400, dtype=torch.bool)
    correct[:20] = False
    rate = held_out_rate(rejected, 0.05, correct)
    assert (rate.every.count, rate.every.total) == (40, 400)
    assert (rate.correct.count, rate.correct.total) == (20, 380)
    assert rate.excludes
    assert not held_out_rate(rejected, 0.1).excludes
    assert "wanted 5 %, held out 10.0 %" in str(rate)


@pytest.mark.parametrize("package", ["detection", "metrics", "attacks", "oracle"])
def test_any_package_of_the_core_may_be_imported_first(package):
    """Importing a package runs the files of its modules, which a list of modules does not show."""
    program = f"import art_ext.core.{package}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- wrong detectors and data ---


class Doubled(Confidence):
    """A detector of a user, whose variants are one darker copy."""

    name = "doubled"

    def variants(self, rows):
        return (0.9 * rows,)


class Counted(Doubled):
    name = "counted"
    rows = 2


def test_variants_that_rows_does_not_count_are_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    x = torch.rand(30, 1, 4, 4, generator=stream(1))
    with pytest.raises(ValueError, match=r"doubled must have rows=2, .* got rows=1"):
        Doubled().fit(model).score(x)
    assert Counted().rows == 2
    detector = Counted().fit(model)
    detector.calibrate(x)
    assert pgd(model, x, torch.zeros(30).long(), eps=0.1, num_steps=1, detector=detector)
    detector.rows = 3
    with pytest.raises(ValueError, match=r"counted must have rows=2, .* got rows=3"):
        pgd(model, x, torch.zeros(30).long(), eps=0.1, num_steps=1, detector=detector)


@pytest.fixture(params=registry.names())
def plain_detector(request):
    """Each detector, a network for it, and 30 images of 3 classes in [0, 1]."""
    options = {"knn": {"k": 3}}.get(request.param, {})
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    return (
        make_detector(request.param, options),
        model,
        torch.rand(30, 1, 4, 4, generator=stream(1)),
        torch.arange(30) % 3,
    )


def test_nan_wrong_shapes_and_values_outside_the_box_are_named(plain_detector, tmp_path):
    detector, model, x, y = plain_detector
    hole = x.clone()
    hole[7, 0, 1, 2] = math.nan
    wrong = [
        (hole, "x must be finite, got NaN or infinity first in sample 7"),
        (255 * x, r"x must lie in \[0, 1\]; got min=.*Put normalisation"),
    ]
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            detector.fit(model, given, y)
    detector.fit(model, x, y)
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            detector.calibrate(given)
    detector.calibrate(x)
    detector.save(tmp_path / "d.safetensors")
    wrong += [(x[:, 0], r"\(samples, 1, 4, 4\).* got \(30, 4, 4\)")]
    for ready in (detector, Detector.load(tmp_path / "d.safetensors", model)):
        for given, message in wrong:
            with pytest.raises(ValueError, match=message):
                ready.detect(given)
        assert torch.allclose(ready.score(x + 5e-5), ready.score(x), rtol=0.1, atol=0.1)
    wide = make_detector(type(detector), {"k": 3} if detector.name == "knn" else {})
    wide.fit(model, 255 * x, y, clip_values=(0.0, 255.0))
    assert bool(wide.score(255 * x).isfinite().all())


def test_mahalanobis_needs_every_class_and_advises_what_is_not_set():
    features = torch.randn(8, 5, generator=stream())
    with pytest.raises(ValueError, match=r"mahalanobis needs .* got none of class 2, 3"):
        learned(Mahalanobis(), features, torch.arange(2).repeat(4))
    with pytest.raises(ValueError, match=r"mahalanobis needs .* got none of class 1"):
        learned(Mahalanobis(), features, torch.zeros(8).long(), classes=2)
    with pytest.raises(ValueError, match="has no inverse: take images of a class with different"):
        learned(Mahalanobis(), torch.ones(8, 5), torch.arange(2).repeat(4), classes=2)
    with pytest.raises(ValueError, match="take shrinkage='ledoit-wolf', or more than 5 images"):
        learned(Mahalanobis(shrinkage=0.0), torch.ones(8, 5), torch.arange(8) % 2, classes=2)


def test_a_k_above_the_stored_features_is_named():
    with pytest.raises(ValueError, match="k must be at most num_features=10000, got k=1000000"):
        KNN(k=10**6)


def test_a_detector_fitted_anew_keeps_no_image_of_an_earlier_model(tmp_path):
    def scores(rows):
        return torch.stack([rows.flatten(1).sum(dim=1), rows.flatten(1)[:, 0]], dim=1)

    detector = Confidence().fit(scores)
    detector.calibrate(torch.rand(20, 3, generator=stream()))
    detector.fit(scores)
    x = torch.rand(20, 5, generator=stream(1))
    threshold = detector.calibrate(x)
    detector.save(tmp_path / "detector.safetensors")
    assert torch.equal(detector.probe, x[:8])
    assert Confidence.load(tmp_path / "detector.safetensors", scores).threshold == threshold
