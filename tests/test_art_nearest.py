"""ElasticNetPyTorch and ZooPyTorch: parameters, the core's numbers, every kind of classifier and
of box.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoAttack, ElasticNet, ZooAttack
from art.defences.preprocessor import FeatureSqueezing, SpatialSmoothing
from art.estimators.classification import (
    BlackBoxClassifier,
    BlackBoxClassifierNeuralNetwork,
    PyTorchClassifier,
    SklearnClassifier,
)
from art.exceptions import EstimatorError
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from art_ext.attacks import ElasticNetPyTorch, ZooPyTorch
from art_ext.core import attacks as core

QUICK: dict[type, dict[str, Any]] = {
    ElasticNetPyTorch: {
        "max_iter": 10,
        "binary_search_steps": 2,
        "initial_const": 1.0,
        "learning_rate": 0.1,
        "beta": 0.01,
    },
    ZooPyTorch: {
        "max_iter": 10,
        "binary_search_steps": 2,
        "initial_const": 2.0,
        "learning_rate": 0.3,
        "nb_parallel": 6,
    },
}
CORE: dict[type, Any] = {ElasticNetPyTorch: core.ead, ZooPyTorch: core.zoo}
CORE_NAMES = {
    "learning_rate": "step_size",
    "binary_search_steps": "search_steps",
    "max_iter": "num_steps",
    "nb_parallel": "coordinates",
    "variable_h": "h",
}
OTHER_VALUES: dict[str, Any] = {
    "confidence": 1.0,
    "targeted": True,
    "learning_rate": 0.02,
    "binary_search_steps": 3,
    "max_iter": 7,
    "beta": 0.0,
    "initial_const": 2.0,
    "batch_size": 5,
    "decision_rule": "L2",
    "verbose": False,
    "abort_early": False,
    "norm": np.inf,
    "eps": 0.3,
    "outputs": "probabilities",
    "max_queries": 70,
    "seed": 3,
    "resize": {0: 4, 5: 8},
    "importance": 2,
    "nb_parallel": 3,
    "variable_h": 0.01,
    "solver": "newton",
    "use_tanh": True,
    "reset_adam": False,
    "abort_window": 2,
    "probe": False,
}
INVALID: list[tuple[str, Any, str]] = [
    ("probe", 1, "probe must be True or False, got 1"),
    ("confidence", -1, "confidence must be a finite number >= 0, got -1"),
    ("targeted", "no", "targeted must be True"),
    ("learning_rate", 0, "step_size must be > 0, got 0"),
    ("binary_search_steps", 0, "search_steps must be an integer"),
    ("max_iter", 2.5, "num_steps must be an integer >= 1, got 2.5"),
    ("beta", -0.1, "beta must be a finite number >= 0, got -0.1"),
    ("initial_const", 0, "initial_const must be > 0"),
    ("batch_size", 0, "batch_size must be an integer >= 1"),
    ("decision_rule", "L0", "decision_rule must be one of 'EN', 'L1', 'L2', got 'L0'"),
    ("verbose", 1, "verbose must be True or False, got 1"),
    ("abort_early", 2, "abort_early must be"),
    ("norm", "l0", "norm must be"),
    ("eps", 0, "eps must be > 0"),
    ("outputs", "scores", "outputs must be one of"),
    ("outputs", "labels", "this attack needs scores"),
    ("max_queries", 0, "max_queries must be an integer >= 1"),
    ("seed", "a", "seed must be an integer"),
    ("resize", 9, "ascending sides of at most the image's 8, got 9"),
    ("resize", True, "resize must be an integer >= 1, got True"),
    ("importance", True, "importance needs resize"),
    ("importance", 0.5, "importance must be an integer >= 1"),
    ("nb_parallel", 0, "coordinates must be an integer"),
    ("variable_h", 0, "h must be > 0"),
    ("solver", "sgd", "solver must be one of"),
    ("use_tanh", None, "use_tanh must be True or False, got None"),
    ("reset_adam", 0, "reset_adam must be True or"),
    ("abort_window", 0, "abort_window must be an integer >= 1"),
]


@pytest.fixture(params=QUICK, ids=lambda shell: shell.__name__)
def shell(request):
    return request.param


def quick(shell: Any, estimator: Any, **options: Any) -> Any:
    return shell(estimator, **{"verbose": False, "seed": 0, **QUICK[shell], **options})


def pytorch(
    network: nn.Module, shape: tuple[int, ...] = (1, 8, 8), **options: Any
) -> PyTorchClassifier:
    options = {"clip_values": (0.0, 1.0), "device_type": "cpu", **options}
    return PyTorchClassifier(network, nn.CrossEntropyLoss(), shape, 10, **options)


def in_core(shell: Any, **options: Any) -> dict[str, Any]:
    options = {"seed": 0, **QUICK[shell], **options}
    return {CORE_NAMES.get(name, name): value for name, value in options.items()}


def arguments(shell: type) -> dict[str, Any]:
    """Names and defaults of what the constructor takes, less the classifier."""
    found = {
        name: argument.default for name, argument in inspect.signature(shell).parameters.items()
    }
    assert next(iter(found)) == "classifier"
    return {name: default for name, default in found.items() if name != "classifier"}


def parameters(attack: Any) -> dict[str, Any]:
    return {name: getattr(attack, name) for name in attack.attack_params}


def check_equal(result: Any, want: Any) -> None:
    """Both results agree in every bit."""
    for name in (
        "x_adv",
        "success",
        "distance",
        "x_nearest",
        "queries",
        "queries_to_success",
        "gradients",
    ):
        assert torch.equal(getattr(result, name), getattr(want, name)), name


# ---- parameters


def test_every_constructor_argument_is_an_attack_parameter(shell, classifier):
    defaults = arguments(shell)
    assert shell.attack_params == list(defaults)
    attack = shell(classifier)
    assert parameters(attack) == defaults
    others = {name: OTHER_VALUES[name] for name in defaults}
    for name, value in others.items():
        attack.set_params(**{name: value})
        assert getattr(attack, name) == value != defaults[name]
        assert f"{name}={value}" in repr(attack)
    assert parameters(attack) == parameters(shell(classifier, **others)) == others


def test_every_parameter_reaches_the_core(shell, classifier, sample, monkeypatch):
    given: dict[str, Any] = {}

    def spy(model, x, y, **options):
        given.clear()
        given.update(options)
        return core.fgsm(model, x, y, eps=0.1)

    monkeypatch.setattr(shell, "_function", staticmethod(spy))
    values = {name: OTHER_VALUES[name] for name in arguments(shell)}
    shell(classifier, **values).generate(*sample, mask=np.ones((8, 8)))
    wanted = {
        CORE_NAMES.get(name, name): value
        for name, value in values.items()
        if name not in ("verbose", "probe")
    }
    assert torch.equal(given.pop("mask"), torch.ones(8, 8))
    assert given == {**wanted, "norm": "linf", "clip_values": (0.0, 1.0), "callback": None}
    theirs = set(inspect.signature(CORE[shell]).parameters)
    assert set(given) <= theirs
    assert theirs - set(given) - {"model", "x", "y", "mask", "momentum"} == {
        "targets",
        "sample_ids",
        "device",
        "detector",
        "detector_weight",
        "detector_loss",
        "pad_rows",
        "channels_last",
        "compile",
        *({"amp"} if shell is ElasticNetPyTorch else ()),
    }


@pytest.mark.parametrize(("name", "value", "message"), INVALID)
def test_a_bad_value_is_refused_and_the_old_one_stays(shell, classifier, name, value, message):
    assert {name for name, _, _ in INVALID} >= set(arguments(shell)), (
        "a parameter without a test of its bad values"
    )
    if name not in arguments(shell):
        return
    with pytest.raises(ValueError, match=re.escape(message)):
        shell(classifier, **{name: value})
    attack = quick(shell, classifier)
    before = parameters(attack)
    with pytest.raises(ValueError, match=re.escape(message)):
        attack.set_params(**{"eps": 0.05, name: value})
    assert parameters(attack) == before


def test_checking_parameters_asks_the_model_nothing(shell):
    class Silent(nn.Module):
        def forward(self, x):
            raise AssertionError("the model was asked")

    attack = shell(pytorch(Silent()))
    attack.set_params(targeted=True, batch_size=3)
    assert attack.last_result is None


@pytest.mark.parametrize(
    ("shell", "theirs", "ours"),
    [
        (ElasticNetPyTorch, ElasticNet, {"batch_size"}),
        # with 10 iterations and one c of .001 hardly any sample falls; batch_size counts rows, not
        # samples
        (
            ZooPyTorch,
            ZooAttack,
            {"max_iter", "binary_search_steps", "initial_const", "abort_early", "batch_size"},
        ),
    ],
)
def test_arts_own_names_order_and_defaults(shell, theirs, ours):
    renamed = {
        "use_resize": "resize",
        "use_importance": "importance",
    }  # where theirs is a switch and means another thing
    own, other = arguments(shell), arguments(theirs)
    assert list(own)[: len(other)] == [renamed.get(name, name) for name in other]
    assert {name for name in other if name not in renamed and own[name] != other[name]} == ours


# ---- classifiers and boxes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": np.inf, "eps": 0.3, "confidence": 0.5},
        {"abort_early": False, "max_queries": 20},
        {"batch_size": 5},
    ],
)
def test_the_same_numbers_as_the_core(shell, classifier, digits_net, sample, options):
    attack = quick(shell, classifier, **options)
    x_adv = attack.generate(*sample)
    norm = {"norm": "linf"} if "norm" in options else {}
    want = CORE[shell](
        digits_net, *map(torch.from_numpy, sample), **in_core(shell, **{**options, **norm})
    )
    check_equal(attack.last_result, want)
    assert np.array_equal(x_adv, want.x_adv.numpy())
    assert attack.last_result.norm == want.norm
    assert np.array_equal(x_adv[~want.success.numpy()], sample[0][~want.success.numpy()])


class Unscaled(nn.Module):
    """Takes inputs in [low, low + width] to [0, 1]; exact for the numbers used here."""

    def __init__(self, network, low, width):
        super().__init__()
        self.network, self.low, self.width = network, low, width

    def forward(self, x):
        return self.network((x - self.low) / self.width)


@pytest.mark.parametrize(("low", "width"), [(-1.0, 2.0), (0.0, 255.0)])
def test_other_boxes(shell, sample, digits_net, low, width):
    x, y = sample
    scaled = x * width + low
    model = Unscaled(digits_net, low, width)
    options = {"initial_const": width**2}
    if shell is ElasticNetPyTorch:
        options["beta"] = 0.01 * width
    else:
        options.update(learning_rate=0.3 * width, variable_h=1e-4 * width)
    attack = quick(shell, pytorch(model, clip_values=(low, low + width)), **options)
    x_adv = attack.generate(scaled, y)
    result = attack.last_result
    assert low <= x_adv.min() < x_adv.max() <= low + width
    fooled = pytorch(model, clip_values=(low, low + width)).predict(x_adv).argmax(1) != y
    assert np.array_equal(fooled, result.success.numpy())
    # the same steps in other units; ZOO draws other numbers for other samples
    if shell is ElasticNetPyTorch:
        options = {"initial_const": 1.0, "beta": 0.01}
        want = quick(shell, pytorch(digits_net), **options).run(x, y)
        assert torch.equal(result.success, want.success)
        torch.testing.assert_close(result.distance / width, want.distance, rtol=0, atol=1e-2)
    else:
        assert int((result.success & ~result.already_adversarial).sum()) >= 2


class Float(nn.Module):
    """ART's FeatureSqueezing answers in float64 on numpy 2, which no float32 network takes."""

    def forward(self, x):
        return x.float()


@pytest.mark.parametrize("kind", ["standardised", "squeezed", "smoothed"])
def test_verdicts_are_the_estimators_own(shell, kind, sample, digits_net):
    x, y = sample
    defence: Any = {
        "standardised": {"preprocessing": (0.25, 0.5)},
        "squeezed": {"preprocessing_defences": FeatureSqueezing(clip_values=(0, 1), bit_depth=3)},
        "smoothed": {
            "preprocessing_defences": SpatialSmoothing(window_size=3, channels_first=True)
        },
    }[kind]
    estimator = pytorch(nn.Sequential(Float(), digits_net), **defence)
    # squeezing hides small probes
    attack = quick(shell, estimator, **({"variable_h": 0.1} if shell is ZooPyTorch else {}))
    x_adv = attack.generate(x, y)
    result = attack.last_result
    assert np.array_equal(estimator.predict(x_adv).argmax(1) != y, result.success.numpy())
    assert np.array_equal(estimator.predict(x).argmax(1) != y, result.already_adversarial.numpy())
    assert bool((result.success & ~result.already_adversarial).any())


def test_zoo_over_a_black_box_of_probabilities(sample, digits_net):
    x, y = sample
    seen: list[int] = []

    def probabilities(rows):
        seen.append(len(rows))
        with torch.no_grad():
            return digits_net(torch.from_numpy(rows)).double().softmax(1).numpy()

    options = {"batch_size": 40, "nb_parallel": 16, "learning_rate": 0.2}
    attack = quick(
        ZooPyTorch,
        BlackBoxClassifier(probabilities, (1, 8, 8), 10, clip_values=(0, 1)),
        outputs="probabilities",
        **options,
    )
    x_adv = attack.generate(x, y)
    result = attack.last_result
    assert sum(seen) == int((result.queries + result.wasted_rows).sum())
    assert result.wasted_rows.tolist() == [3] * 8 + [0] * (len(result) - 8)  # the probe's
    assert max(seen) <= 40
    assert np.array_equal(probabilities(x_adv).argmax(1) != y, result.success.numpy())
    assert int((result.success & ~result.already_adversarial).sum()) >= 5
    assert int(result.gradients.sum()) == 0
    # margins of logarithms are margins of logits; a verdict may differ where rounding turns a
    # choice
    logits = quick(ZooPyTorch, pytorch(digits_net), **options).run(x, y)
    assert abs(int(logits.success.sum()) - int(result.success.sum())) <= 1


def test_elastic_net_needs_class_gradients():
    x, y = load_iris(return_X_y=True)
    tree = SklearnClassifier(
        DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y), clip_values=(0, 8)
    )
    black_box = BlackBoxClassifier(lambda rows: np.eye(3)[: len(rows)], (4,), 3, clip_values=(0, 8))
    for estimator in (tree, black_box):
        with pytest.raises(EstimatorError, match="ElasticNetPyTorch"):
            ElasticNetPyTorch(estimator)
    result = quick(ZooPyTorch, tree, outputs="probabilities").run(x[::10], y[::10])
    assert int(result.queries.sum()) >= 15, "any classifier with scores serves"


@pytest.fixture
def iris():
    """Logistic regression on the iris data, its estimator, rows and labels."""
    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(x, y)
    estimator = SklearnClassifier(model, clip_values=(x.min(axis=0), x.max(axis=0)))
    right = model.predict(x) == y
    return model, estimator, x[right][::6].astype(np.float32), y[right][::6]


def test_one_step_on_logistic_regression_is_a_shrunk_gradient_step(iris):
    model, estimator, x, y = iris
    attack = quick(
        ElasticNetPyTorch,
        estimator,
        outputs="probabilities",
        max_iter=1,
        binary_search_steps=1,
        initial_const=1.0,
        learning_rate=0.25,
        beta=0.1,
    )
    x_adv = attack.generate(x, y)
    scores = x @ model.coef_.T + model.intercept_
    runner_up = np.where(np.eye(3)[y] > 0, -np.inf, scores).argmax(1)
    # alpha c times the gradient of log p_j - log p_y
    step = 0.25 * (model.coef_[runner_up] - model.coef_[y])
    lower, upper = estimator.clip_values
    moved = np.clip(x + np.sign(step) * np.maximum(np.abs(step) - 0.1, 0), lower, upper)
    fell = attack.last_result.success.numpy()
    assert np.array_equal(estimator.predict(moved.astype(np.float32)).argmax(1) != y, fell)
    assert 3 <= fell.sum() < len(x)
    assert np.abs(x_adv[fell] - moved[fell]).max() <= 1e-5
    assert np.array_equal(x_adv[~fell], x[~fell])
    assert (x_adv[fell] == x[fell]).any(), "what moves by less than beta does not move"


def test_both_come_near_the_boundary_of_logistic_regression(shell, iris):
    model, estimator, x, y = iris
    # the distance to the nearest of the planes between y and another class, with no regard to the
    # box
    scores = x @ model.coef_.T + model.intercept_
    gaps = scores[np.arange(len(y)), y][:, None] - scores
    lengths = np.linalg.norm(model.coef_[y][:, None] - model.coef_[None], axis=2)
    bound = np.where(np.eye(3)[y] > 0, np.inf, gaps / np.maximum(lengths, 1e-12)).min(1)
    options: dict[str, Any] = (
        {"beta": 0.0, "decision_rule": "L2"} if shell is ElasticNetPyTorch else {}
    )
    attack = quick(
        shell,
        estimator,
        outputs="probabilities",
        norm=2,
        max_iter=60,
        binary_search_steps=6,
        initial_const=1.0,
        learning_rate=0.1,
        **options,
    )
    x_adv = attack.generate(x, y)
    assert bool(attack.last_result.success.all())
    ratio = np.linalg.norm(x_adv.astype(np.float64) - x, axis=1) / bound
    assert ratio.min() >= 1 - 1e-3
    assert np.median(ratio) <= 1.1


# ---- targets, margins, smaller images


def test_targets_one_hot(shell, classifier, sample):
    x, y = sample
    targets = (y + 1) % 10
    attack = quick(shell, classifier, targeted=True)
    x_adv = attack.generate(x, np.eye(10)[targets])
    result = attack.last_result
    assert np.array_equal(classifier.predict(x_adv).argmax(1) == targets, result.success.numpy())
    assert bool((result.success & ~result.already_adversarial).any())
    assert np.array_equal(attack.generate(x, targets), x_adv)
    with pytest.raises(
        ValueError, match=r"^Target labels `y` need to be provided for a targeted attack\.$"
    ):
        attack.generate(x)


def test_inside_arts_auto_attack(shell, classifier, sample):
    x, y = sample
    y = np.concatenate([(y[:2] + 1) % 10, y[2:]])
    options = {"norm": np.inf, "eps": 0.25 if shell is ElasticNetPyTorch else 0.85, "max_iter": 20}
    alone = quick(shell, classifier, **options).run(x, y)
    x_adv = AutoAttack(
        classifier, eps=options["eps"], attacks=[quick(shell, classifier, **options)]
    ).generate(x, y)
    fell = alone.success & ~alone.already_adversarial
    assert 0 < int(fell.sum()) < 12
    assert np.array_equal(classifier.predict(x_adv).argmax(1) != y, alone.success.numpy())
    assert np.array_equal(x_adv[fell], alone.x_adv.numpy()[fell])


def test_confidence_is_a_margin(shell, classifier, sample):
    x, y = sample
    far = None
    for confidence in (0.0, 1.0, 3.0):
        attack = quick(shell, classifier, confidence=confidence, initial_const=10.0, max_iter=20)
        scores = classifier.predict(attack.generate(x, y))
        found = (attack.last_result.success & ~attack.last_result.already_adversarial).numpy()
        own = np.eye(10)[y] > 0
        margin = np.where(own, -np.inf, scores).max(1) - scores[own]
        assert found.sum() >= 5
        assert margin[found].min() >= confidence - 1e-5
        mean = float(np.median(margin[found]))
        assert far is None or mean > far
        far = mean


@pytest.mark.parametrize("resize", [4, {0: 2, 3: 4}])
def test_smaller_images_with_channels_first_and_last(resize):
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 2 * 8 * 8, generator=draw)
    x = torch.rand(12, 2, 8, 8, generator=draw).numpy()
    mask = (torch.rand(12, 2, 8, 8, generator=draw) < 0.8).numpy()
    low, high = np.zeros((2, 1, 1), np.float32), np.array([1.0, 1.25], np.float32).reshape(2, 1, 1)

    def first(rows):
        return (torch.from_numpy(np.ascontiguousarray(rows)).flatten(1) @ weight.T).numpy()

    def last(rows):
        assert rows.shape[1:] == (8, 8, 2)
        return first(np.moveaxis(rows, -1, 1))

    found = []
    for predict, channels_first in ((first, True), (last, False)):
        turn = (
            (lambda value: value) if channels_first else (lambda value: np.moveaxis(value, -3, -1))
        )
        estimator = BlackBoxClassifierNeuralNetwork(
            predict,
            turn(x[0]).shape,
            10,
            channels_first=channels_first,
            clip_values=(turn(low), turn(high)),
        )
        attack = quick(ZooPyTorch, estimator, resize=resize, norm=2)
        given = turn(x).copy()
        x_adv = attack.generate(given, mask=turn(mask))
        assert x_adv.shape == given.shape
        assert np.array_equal(given, turn(x))
        assert bool((turn(mask) | (x_adv == given)).all())
        assert x_adv.flags.c_contiguous
        found.append((attack.last_result, x_adv))
    assert np.array_equal(np.moveaxis(found[1][1], -1, 1), found[0][1])
    assert torch.equal(found[1][0].x_nearest.movedim(-1, 1), found[0][0].x_nearest)
    assert torch.equal(found[1][0].queries, found[0][0].queries)
    assert int(found[0][0].success.sum()) >= 5
    with pytest.raises(ValueError, match="mask must broadcast to x's shape"):
        attack.generate(given, mask=np.ones((5, 8, 8, 2)))


def test_smaller_images_need_images():
    estimator = BlackBoxClassifier(lambda rows: rows, (10,), 10, clip_values=(0, 1))
    with pytest.raises(ValueError, match=r"resize needs images .* got samples of shape \(10,\)"):
        ZooPyTorch(estimator, resize=4)
    attack = ZooPyTorch(estimator)
    with pytest.raises(ValueError, match="resize needs images"):
        attack.set_params(resize=4)
    assert attack.resize is None


def test_an_estimator_that_does_not_know_its_shape(shell, sample, digits_net):
    for shape in ((None, 8, 8), (3, 5)):  # ART never looks at it
        estimator = pytorch(
            digits_net, shape, clip_values=(np.zeros((1, 8, 8)), np.ones((1, 8, 8)))
        )
        result = quick(shell, estimator).run(*sample)
        assert bool((result.success & ~result.already_adversarial).any())
