"""Attacks on a model with a detector: successes, queries, budgets, losses and errors."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core import attacks
from art_ext.core.attacks import ead, pgd, rays
from art_ext.core.attacks import registry as attack_list
from art_ext.core.attacks.engine.awareness import LEAD, Hinges, Selective
from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.calls import described_rows
from art_ext.core.detection import Confidence, FeatureSqueezing, make_detector
from art_ext.core.detection import registry as detector_list
from art_ext.core.detection.base import Detector
from art_ext.core.inspection import REJECTED, Evidence, Inspector
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.oracle import LabelOracle, ScoreOracle
from art_ext.data import load_data
from art_ext.testing.toy import NearestMean
from tests.toys import attack_on

EPS = {"linf": 0.2, "l2": 1.2, "l1": 6.0}
BUDGET = 91  # of attacks without gradients; no multiple of 3, the rows of an answer with squeezers
QUICK: dict[str, dict[str, Any]] = {
    "ai_fgsm": {"num_steps": 8},
    "auto_pgd": {"num_steps": 10},
    "cw": {"num_steps": 15, "search_steps": 2, "initial_const": 1.0, "step_size": 0.1},
    "ead": {"num_steps": 15, "search_steps": 2, "initial_const": 1.0, "step_size": 0.1},
    "frank_wolfe_black_box": {"num_directions": 4},
    "hmcam": {"num_steps": 6},
    "i_fgm": {"num_steps": 3, "resolution": 0.02},
    "nes": {"num_directions": 4},
    "pgd": {"num_steps": 8, "num_restarts": 2},
    "in_distribution": {
        "num_steps": 15,
        "search_steps": 2,
        "step_size": 0.1,
        "num_restarts": 1,
        "init_steps": 40,
        "init_step_size": 0.1,
    },
    "m_pgd": {"num_steps": 8},
    "sign_gradient": {"num_steps": 8},
    "zoo": {"num_steps": 5, "search_steps": 2, "coordinates": 6, "initial_const": 1.0},
}
BOUNDED = ("opt", "rays", "sign_opt", "square", "nes", "frank_wolfe_black_box", "zoo")
NAMES = sorted(name for name in attack_list.names() if name in attacks.__all__)
DETECTORS = detector_list.names()


def fitted(name: str, model: nn.Module, fpr: float = 0.2) -> Detector:
    train = load_data("digits", split="train").first(400)
    options: dict[str, Any] = (
        {"layer": "dropout"} if detector_list.get(name).needs == "features" else {}
    )
    if name == "feature_squeezing":
        options = {"squeezers": ["bit_depth(2)", "median(2)"]}
    detector = make_detector(name, options).fit(model, train.x, train.y)
    detector.calibrate(load_data("digits").x[100:300], fpr)
    return detector


@pytest.fixture(scope="module")
def model() -> NearestMean:
    """A classifier that computes row by row, and counts its rows."""
    return NearestMean()


@pytest.fixture(scope="module")
def detectors(model: NearestMean) -> dict[str, Detector]:
    return {name: fitted(name, model) for name in DETECTORS}


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    data = load_data("digits").first(12)
    return data.x, data.y


def settings(name: str, **more: Any) -> dict[str, Any]:
    spec = attack_list.get(name)
    norm = spec.parameters.get("norm", "linf")
    given = {"eps": EPS[norm], **QUICK.get(name, {}), **more}
    if "seed" in spec.parameters:
        given["seed"] = 0
    if name in BOUNDED:
        given["max_queries"] = BUDGET
    return given


@pytest.mark.parametrize("detector_name", DETECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_queries_and_successes_are_accepted(
    name: str,
    detector_name: str,
    model: NearestMean,
    detectors: dict[str, Detector],
    samples: tuple[Tensor, Tensor],
) -> None:
    x, y = samples
    detector = detectors[detector_name]
    model.rows = 0
    result = attack_on(name, x)(model, x, y, detector=detector, **settings(name))
    assert model.rows == int((result.queries + result.wasted_rows).sum())
    assert bool((result.queries % detector.rows == 0).all())
    if name in BOUNDED:
        assert int(result.queries.max()) <= BUDGET
    first = result.queries_to_success[result.success]
    assert bool(((first >= detector.rows) & (first <= result.queries[result.success])).all())
    found = result.x_adv[result.success]
    assert bool((model(found).argmax(1) != y[result.success]).all())
    assert not bool(detector.detect(found).any())
    assert bool(
        (result.already_adversarial == ((model(x).argmax(1) != y) & ~detector.detect(x))).all()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_that_accepts_all_changes_nothing_but_the_price(
    name: str, model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    more = {} if attack_list.get(name).access == "labels" else {"detector_loss": "none"}
    given = settings(name)
    attack = attack_on(name, x)
    bare = attack(model, x, y, **given)
    for detector in (Confidence(), FeatureSqueezing(["bit_depth(2)", "median(2)"])):
        detector.fit(model)
        detector.threshold = math.inf
        if "max_queries" in given:
            given["max_queries"] = BUDGET * detector.rows
        aware = attack(model, x, y, detector=detector, **given, **more)
        for field in ("x_adv", "success", "distance", "already_adversarial", "gradients"):
            assert torch.equal(getattr(aware, field), getattr(bare, field)), field
        assert torch.equal(aware.queries, bare.queries * detector.rows)
        first = torch.where(bare.success, bare.queries_to_success * detector.rows, -1)
        assert torch.equal(aware.queries_to_success, first)


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_that_rejects_all_leaves_no_success(
    name: str, model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    detector = Confidence().fit(model)
    detector.threshold = -1.0
    result = attack_on(name, x)(model, x, (y + 1) % 10, detector=detector, **settings(name))
    assert not bool(result.success.any())
    assert bool(result.distance.isinf().all())
    assert bool((result.queries_to_success == -1).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_ten_thousand_rows_are_what_they_are_reported_as(
    name: str, model: NearestMean, detectors: dict[str, Detector]
) -> None:
    data = load_data("digits", split="train")
    rows = torch.arange(10_000) % len(data)
    noise = 0.1 * torch.rand(10_000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = (data.x[rows] + noise).clamp(0, 1)
    y = data.y[rows]
    detector = detectors[name]
    result = pgd(model, x, y, eps=0.2, num_steps=10, seed=0, detector=detector, batch_size=1000)
    assert int(result.success.sum()) > 1000
    found = result.x_adv[result.success]
    assert bool((model(found).argmax(1) != y[result.success]).all())
    assert not bool(detector.detect(found).any())


@pytest.mark.parametrize("name", ["kernel_density", "non_me"])
def test_an_attack_that_knows_the_detector_succeeds_more_often(
    name: str, digits_net: nn.Module
) -> None:
    train = load_data("digits", split="train")
    test = load_data("digits")
    detector = make_detector(name).fit(digits_net, train.x, train.y)
    detector.calibrate(test.x[:300])
    x = test.x[300:400]
    y = test.y[300:400]
    common: dict[str, Any] = {"eps": 0.15, "num_steps": 20, "seed": 0}
    bare = pgd(digits_net, x, y, **common)
    oblivious = bare.success & ~detector.detect(bare.x_adv)
    tested = pgd(digits_net, x, y, detector=detector, detector_loss="none", **common).success
    aware = pgd(digits_net, x, y, detector=detector, **common).success
    assert int(oblivious.sum()) <= int(tested.sum()) < int(aware.sum())


def test_all_classes_are_attacked_side_by_side(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    detector = detectors["feature_squeezing"]
    given: dict[str, Any] = {**QUICK["ead"], "num_steps": 8, "detector": detector}
    model.rows = 0
    result = ead(model, x, y, targets="best", **given)
    assert model.rows == int((result.queries + result.wasted_rows).sum())
    assert not bool(detector.detect(result.x_adv[result.success]).any())
    bounded = ead(model, x, y, targets="best", max_queries=100, **given)
    assert int(bounded.queries.max()) <= 100
    with pytest.raises(ValueError, match="max_queries must be > 29, one for each class"):
        ead(model, x, y, targets="best", max_queries=29, **given)


def test_the_models_class_stands_in_for_a_missing_label(
    model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    detector = Confidence().fit(model)
    detector.threshold = -1.0  # rejects the clean inputs too
    x, _ = samples
    for result in (
        rays(model, x, eps=0.1, max_queries=5, detector=detector),
        pgd(model, x, eps=0.1, num_steps=2, detector=detector),
    ):
        assert not bool(result.already_adversarial.any())


def test_rejected_rows_have_a_class_that_is_no_goal(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x = torch.cat([samples[0], torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))])
    detector = detectors["confidence"]
    index = torch.arange(len(x))
    with LabelOracle(model, len(x), inspector=Inspector(detector, model, "logits")) as oracle:
        labels = oracle.labels(x, index)
    rejected = detector.detect(x)
    assert 0 < int(rejected.sum()) < len(x)
    assert torch.equal(labels == REJECTED, rejected)
    assert torch.equal(labels[~rejected], model(x).argmax(1)[~rejected])
    goal = Goal.of(torch.full_like(index, 99), AttackOptions(), len(x), index.device)
    assert torch.equal(goal.reached(labels, index), ~rejected)


def test_a_criterion_needs_acceptance_too(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    detector = detectors["confidence"]
    result = pgd(
        model,
        x,
        y,
        eps=0.2,
        num_steps=5,
        seed=0,
        detector=detector,
        loss=lambda scores, index: scores[:, 3] + 0 * scores.sum(dim=1),
        criterion=lambda scores, index: (scores.argmax(1) == 3) & (scores.shape[1] == 10),
    )
    assert 0 < int(result.success.sum()) < len(x)
    assert bool((model(result.x_adv[result.success]).argmax(1) == 3).all())
    assert not bool(detector.detect(result.x_adv[result.success]).any())


@pytest.mark.parametrize("stop", [5, 17, 40, 101])
def test_a_model_that_stops_is_charged_for_the_rows_that_it_answered(
    stop: int, model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    answered = 0

    class Stopping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, rows: Tensor) -> Tensor:
            nonlocal answered
            if answered + len(rows) > stop:
                raise ModelStopped("the budget is spent")
            answered += len(rows)
            return self.inner(rows)

    network = Stopping()
    detector = FeatureSqueezing(["bit_depth(2)", "median(2)"]).fit(network)
    detector.threshold = 0.5
    with pytest.raises(AttackInterrupted) as stopped:
        pgd(network, x, y, eps=0.2, num_steps=20, seed=0, batch_size=5, detector=detector)
    assert answered <= int(stopped.value.result.queries.sum()) == answered


def test_each_row_has_a_number_of_its_own(
    model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    seen: list[tuple[int, int]] = []

    class Listening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, rows: Tensor) -> Tensor:
            ids, numbers = described_rows()
            assert len(ids) in (0, len(rows))
            seen.extend(zip(ids, numbers, strict=True))
            return self.inner(rows)

    network = Listening()
    detector = FeatureSqueezing(["bit_depth(2)", "median(2)"]).fit(network)
    detector.threshold = 0.5
    ids = torch.arange(len(x)) + 100
    result = pgd(
        network, x, y, eps=0.2, num_steps=3, seed=0, batch_size=5, sample_ids=ids, detector=detector
    )
    for sample, queries in zip(ids.tolist(), result.queries.tolist(), strict=True):
        assert sorted(number for one, number in seen if one == sample) == [*range(1, queries + 1)]


def test_rays_comes_nearer_where_all_far_rows_are_rejected(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    given: dict[str, Any] = {"max_queries": 300, "detector": detectors["mahalanobis"]}
    result = rays(model, x, y, eps=0.2, **given)
    assert int((result.success & ~result.already_adversarial).sum()) > 0
    # without a ball there is no radius to go to
    far = rays(model, x, y, eps=None, **given)
    assert not bool((far.success & ~far.already_adversarial).any())


@pytest.mark.parametrize("name", ["feature_squeezing", "kernel_density", "mahalanobis"])
def test_padding_and_speculation_are_counted_apart(
    name: str, model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    given: dict[str, Any] = {"eps": 0.2, "max_queries": BUDGET, "detector": detectors[name]}
    plain = rays(model, x, y, **given)
    ways: list[dict[str, Any]] = [
        {"pad_rows": 8, "batch_size": 5},
        {"speculate": True, "batch_size": 64},
    ]
    for more in ways:
        model.rows = 0
        result = rays(model, x, y, **given, **more)
        assert model.rows == int((result.queries + result.wasted_rows).sum())
        assert int(result.wasted_rows.sum()) > 0
        for field in ("x_adv", "success", "queries", "queries_to_success"):
            assert torch.equal(getattr(result, field), getattr(plain, field)), (more, field)


def test_probabilities_serve_as_well_as_logits(
    model: NearestMean, samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    soft = nn.Sequential(model, nn.Softmax(dim=1))
    for name in ("confidence", "kernel_density"):
        data = load_data("digits", split="train").first(400)
        options = {"layer": "0.dropout"} if name == "kernel_density" else {}
        detector = make_detector(name, options)
        detector.fit(soft, data.x, data.y, outputs="probabilities")
        detector.calibrate(load_data("digits").x[100:300], 0.2)
        result = pgd(
            soft, x, y, eps=0.2, num_steps=8, seed=0, outputs="probabilities", detector=detector
        )
        found = result.x_adv[result.success]
        assert len(found) > 0
        assert bool((soft(found).argmax(1) != y[result.success]).all())
        assert not bool(detector.detect(found).any())


# --- the losses ---


def test_rows_with_the_margin_of_the_hinges_agree_within_the_threshold() -> None:
    stream = torch.Generator().manual_seed(0)
    goal = Goal.of(torch.zeros(2000, dtype=torch.int64), AttackOptions(), 2000, torch.device("cpu"))
    for classes, threshold in ((10, 0.0029), (10, 1.14), (100, 0.01), (10, 1.9)):
        detector = FeatureSqueezing()
        detector.threshold = threshold
        loss = Hinges(detector, 1.0, goal, lambda scores, index: scores[:, 0] > 0, True)
        wanted = loss.margin(classes)
        rows = 10 * torch.rand(2, 2000, classes, generator=stream, dtype=torch.float64)
        rows[:, :, 3] = rows.amax(dim=2) + wanted  # the margin to all others
        score = detector.measure(rows[0], None, (rows[1],))
        assert float(score.max()) <= threshold


@pytest.mark.parametrize(("threshold", "counted"), [(1.9, 0), (0.1, 1)])
def test_hinges_of_a_large_threshold_are_for_rejected_rows(threshold: float, counted: int) -> None:
    goal = Goal.of(torch.zeros(3, dtype=torch.int64), AttackOptions(), 3, torch.device("cpu"))
    detector = FeatureSqueezing()
    detector.threshold = threshold
    loss = Hinges(detector, 2.0, goal, lambda scores, index: scores[:, 0] > 0, True)
    logits = torch.tensor([[5.0, 0.0, 0.0]]).expand(3, 3)  # the margin of class 0 is 5
    excess = torch.tensor([-1.0, 1e-6, torch.nan])
    seen = Evidence(logits, logits, None, (logits,), excess)
    wanted = 2 * 2 * (loss.margin(3) + 5)
    found = loss.term(seen, torch.arange(3)).tolist()
    assert found == pytest.approx([counted * wanted, wanted, wanted])


def test_a_row_that_reaches_the_goal_outranks_all_that_do_not() -> None:
    goal = Goal.of(torch.zeros(4, dtype=torch.int64), AttackOptions(), 4, torch.device("cpu"))
    loss = Selective(Confidence(), 1.0, goal, lambda scores, index: scores[:, 0] > 0, True)
    outputs = torch.zeros(4, 12)
    outputs[:, -2] = torch.tensor([-1.0, -1.0, 1.0, 3e38])  # the excess
    outputs[:, -1] = torch.tensor([0.0, 5.0, 1.0, 3e38])  # the term counts for rejected rows only
    reached = torch.tensor([False, True, True, True])
    found = loss.ascended(torch.full((4,), math.log(10)), outputs, reached)
    assert found.argsort(descending=True).tolist() == [1, 2, 3, 0]
    assert float(found[1]) == LEAD


def test_the_excess_has_the_sign_of_the_decision(
    model: NearestMean, detectors: dict[str, Detector]
) -> None:
    """Also for a score one unit of the last place above the threshold, over a large scale."""
    x = load_data("digits").x[:40]
    index = torch.arange(40)
    detector = copy.copy(detectors["confidence"])
    detector.scale = 1e30
    scores = detector.score(x)
    detector.threshold = float(scores.sort().values[20])
    with ScoreOracle(model, 40, inspector=Inspector(detector, model, "logits")) as oracle:
        outputs = oracle.scores(x, index)
    assert outputs.shape == (40, 12)
    assert torch.equal(outputs[:, 10] > 0, detector.detect(x))


# --- bad input ---


def test_bad_detectors_are_errors_before_a_query(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    other = NearestMean()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"detector": Confidence()}, "'confidence' must be fitted and calibrated"),
        ({"detector": Confidence().fit(model)}, "must be fitted and calibrated"),
        ({"detector": "confidence"}, "detector must be a Detector"),
        ({"detector": detectors["confidence"], "detector_loss": "hinges"}, "squeezes its inputs"),
        ({"detector_loss": "penalty"}, r"detector_loss='penalty' needs a detector"),
        ({"detector_weight": 2.0}, r"detector_weight=2.0 needs a detector: give detector= too"),
        ({"detector_loss": "hinge"}, "did you mean 'hinges'"),
        ({"detector_weight": 0}, "detector_weight must be > 0"),
        (
            {"detector": detectors["feature_squeezing"], "max_queries": 2},
            "max_queries must be >= 3, the rows of one answer with feature_squeezing, got 2",
        ),
    ]
    model.rows = 0
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            pgd(model, x, y, eps=0.1, **given)
    with pytest.raises(ValueError, match="fitted to the model that is attacked"):
        pgd(other, x, y, eps=0.1, detector=detectors["confidence"])
    with pytest.raises(ValueError, match="needs scores, got outputs='labels'"):
        rays(model, x, y, outputs="labels", detector=detectors["knn"])
    assert model.rows == other.rows == 0


def test_a_network_is_left_as_it_was(
    model: NearestMean, detectors: dict[str, Detector], samples: tuple[Tensor, Tensor]
) -> None:
    x, y = samples
    pgd(model, x, y, eps=0.1, num_steps=1, detector=detectors["mahalanobis"])
    assert not any(module._forward_hooks for module in model.modules())
