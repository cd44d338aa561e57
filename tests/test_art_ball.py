"""The ART attacks within a given ball: parameters, what they need of an estimator, gradients
through its defences.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoAttack
from art.defences.postprocessor import Rounded
from art.defences.preprocessor import FeatureSqueezing, SpatialSmoothing
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import (
    BlackBoxClassifier,
    EnsembleClassifier,
    PyTorchClassifier,
    SklearnClassifier,
)
from art.estimators.regression import ScikitlearnRegressor
from art.exceptions import EstimatorError
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.nn.functional import cross_entropy

from art_ext.attacks import AIFGSM, HMCAM, FrankWolfe, FrankWolfeBlackBox
from art_ext.attacks.estimator import EstimatorModel
from art_ext.core import attacks as core

EPS = 0.1  # separates the samples: some fall, some do not


def pytorch(
    network: nn.Module, kind: type = PyTorchClassifier, **options: Any
) -> PyTorchClassifier:
    options = {"clip_values": (0.0, 1.0), "device_type": "cpu", **options}
    return kind(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, **options)


QUICK: dict[type, dict[str, Any]] = {
    FrankWolfe: {"max_iter": 8},
    FrankWolfeBlackBox: {"nb_directions": 6, "max_queries": 150},
    HMCAM: {"max_iter": 4},
    AIFGSM: {"max_iter": 8},
}
WHITE_BOX = [FrankWolfe, HMCAM, AIFGSM]
CORE: dict[type, Any] = {
    FrankWolfe: core.frank_wolfe,
    FrankWolfeBlackBox: core.frank_wolfe_black_box,
    HMCAM: core.hmcam,
    AIFGSM: core.ai_fgsm,
}
CORE_NAMES = {
    "max_iter": "num_steps",
    "eps_step": "step_size",
    "nb_samples": "num_transitions",
    "nb_directions": "num_directions",
    "nb_random_init": "num_restarts",
}


@pytest.fixture(params=QUICK, ids=lambda shell: shell.__name__)
def shell(request):
    return request.param


@pytest.fixture(params=WHITE_BOX, ids=lambda shell: shell.__name__)
def white_box(request):
    return request.param


def quick(shell: Any, estimator: Any, **options: Any) -> Any:
    return shell(estimator, **{"eps": EPS, "verbose": False, "seed": 0, **QUICK[shell], **options})


# ---- parameters

OTHER_VALUES: dict[str, Any] = {
    "norm": 2,
    "eps": 0.2,
    "eps_step": 0.25,
    "momentum": 0.5,
    "max_iter": 7,
    "targeted": True,
    "loss": "margin",
    "schedule": "inverse_sqrt",
    "momentum_init": "gradient",
    "box": "vertex",
    "outputs": "probabilities",
    "on_failure": "input",
    "max_queries": 70,
    "batch_size": 5,
    "seed": 3,
    "verbose": False,
    "nb_directions": 3,
    "delta": 0.02,
    "sensing": "sphere",
    "nb_samples": 3,
    "beta1": 0.5,
    "beta2": 0.9,
    "step_rule": "corrected",
    "start": "uniform",
    "temperature": 2.0,
    "nb_random_init": 3,
}
INVALID: list[tuple[str, Any, str]] = [
    ("nb_random_init", 0, "num_restarts must be an integer >= 1, got 0"),
    ("probe", 1, "probe must be True or False, got 1"),
    ("norm", "l0", "norm must be"),
    ("eps", None, "got None"),
    ("eps", -1, "eps must be > 0"),
    ("eps", 8, "8/255"),
    ("eps_step", 0, "must"),
    ("eps_step", "far", "must be a number"),
    ("momentum", 1, "momentum must lie in [0, 1), got 1"),
    ("targeted", "no", "targeted must be True or False"),
    ("schedule", "cosine", "schedule must be one of"),
    ("momentum_init", None, "momentum_init must be"),
    ("box", "none", "box must be"),
    ("loss", "mse", "loss must be one of"),
    ("outputs", "scores", "outputs must be one of"),
    ("outputs", "labels", "this attack needs scores"),
    ("stop_on_success", 1, "stop_on_success must be True or False, got 1"),
    ("on_failure", "first", "on_failure must be"),
    ("max_queries", 0, "max_queries must be an integer >= 1, got 0"),
    ("batch_size", 2.5, "batch_size must be"),
    ("seed", "a", "seed must be an integer"),
    ("verbose", 1, "verbose must be True or False"),
    ("nb_directions", 0, "num_directions must be an integer >= 1, got 0"),
    ("delta", 0, "delta must be > 0"),
    ("sensing", "sobol", "sensing must be one of"),
    ("nb_samples", 0, "num_transitions must be an integer >= 1"),
    ("beta1", 1.0, "beta1 must lie in [0, 1), got 1.0"),
    ("beta2", -0.1, "beta2 must lie in [0, 1)"),
    ("step_rule", "newton", "step_rule must be one of"),
    ("start", "zero", "start must be one of"),
    ("temperature", 0, "temperature must be > 0"),
    ("keep_samples", "yes", "keep_samples must be True or False"),
    ("clip_probes", 0, "clip_probes must be True or False, got 0"),
    ("max_iter", 0, "must be an integer >= 1, got 0"),
]


def arguments(shell: type) -> dict[str, Any]:
    """Names and defaults of what the constructor takes, less the estimator."""
    found = {
        name: argument.default for name, argument in inspect.signature(shell).parameters.items()
    }
    assert next(iter(found)) == "estimator"
    return {name: default for name, default in found.items() if name != "estimator"}


def parameters(attack: Any) -> dict[str, Any]:
    return {name: getattr(attack, name) for name in attack.attack_params}


def test_every_constructor_argument_is_an_attack_parameter(shell, classifier):
    defaults = arguments(shell)
    assert shell.attack_params == list(defaults)
    attack = shell(classifier)
    assert parameters(attack) == defaults
    # the rest are switches
    others = {name: OTHER_VALUES.get(name, not defaults[name]) for name in defaults}
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
    values = {
        name: OTHER_VALUES.get(name, not default) for name, default in arguments(shell).items()
    }
    shell(classifier, **values).generate(*sample, mask=np.ones((8, 8)))
    names = dict(CORE_NAMES)
    if shell in (FrankWolfe, FrankWolfeBlackBox):
        names["eps_step"] = "step_fraction"
    wanted = {
        names.get(name, name): value
        for name, value in values.items()
        if name not in ("verbose", "probe")
    }
    assert torch.equal(given.pop("mask"), torch.ones(8, 8))
    assert given == {**wanted, "norm": "l2", "clip_values": (0.0, 1.0), "callback": None}
    theirs = set(inspect.signature(CORE[shell]).parameters)
    # what belongs to a run, and what only imitates the authors' program, is the core's alone
    assert theirs - set(given) - {"model", "x", "y", "mask"} <= {
        "targets",
        "criterion",
        "sample_ids",
        "device",
        "detector",
        "detector_weight",
        "detector_loss",
        "pad_rows",
        "amp",
        "channels_last",
        "compile",
        "delta",
        "delta_inside",
        "grad_scale",
        "kinetic",
        "continue_from",
        "x_init",
        "transform",
    }
    assert set(given) <= theirs


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


# ---- estimators


def test_white_box_attacks_need_class_gradients(white_box, sample):
    rows, classes = sample[0].reshape(14, 64), sample[1]
    tree = DecisionTreeClassifier(random_state=0).fit(rows, classes)
    black_box = BlackBoxClassifier(lambda x: np.eye(10)[: len(x)], (64,), 10, clip_values=(0, 1))
    for estimator in (SklearnClassifier(tree, clip_values=(0, 1)), black_box):
        with pytest.raises(EstimatorError, match=white_box.__name__):
            white_box(estimator)


def test_regressors_and_estimators_without_a_box_are_refused(shell, digits_net):
    rows = np.random.default_rng(0).random((20, 3))
    with pytest.raises(EstimatorError, match=shell.__name__):
        shell(ScikitlearnRegressor(LinearRegression().fit(rows, rows[:, 0]), clip_values=(0, 1)))
    with pytest.raises(ValueError, match="the estimator needs clip_values"):
        shell(pytorch(digits_net, clip_values=None))


class Float(nn.Module):
    """ART's FeatureSqueezing answers in float64 on numpy 2, which no float32 network takes."""

    def forward(self, x):
        return x.float()


class Invert(PreprocessorPyTorch):
    """A preprocessing defence written in PyTorch."""

    def forward(self, x, y=None):
        return 1 - x, y


class Round(PreprocessorPyTorch):
    """One that names the identity as its differentiable estimate."""

    def forward(self, x, y=None):
        return (x * 8).round() / 8, y

    def estimate_forward(self, x, y=None):
        return 1 * x


class Scaled(PyTorchClassifier):
    """A classifier with a ``predict`` and a ``class_gradient`` of its own."""

    def predict(self, x, **kwargs):
        return 2 * super().predict(x, **kwargs)

    def class_gradient(self, x, *args, **kwargs):
        return 2 * super().class_gradient(x, *args, **kwargs)


def squeezing() -> FeatureSqueezing:
    return FeatureSqueezing(clip_values=(0, 1), bit_depth=3)


def ensemble(network: nn.Module) -> EnsembleClassifier:
    members = [pytorch(network), pytorch(nn.Sequential(network, Halve()))]
    return EnsembleClassifier(
        members, classifier_weights=[0.5, 0.5], clip_values=(0, 1), channels_first=True
    )


class Halve(nn.Module):
    def forward(self, x):
        return x / 2


# estimator over a network -> the network's input as a function of x, for the gradient by hand;
# scores times a factor
KINDS: dict[str, tuple[Any, Any, float]] = {
    "pytorch": (pytorch, lambda x: x, 1),
    "standardised": (
        lambda net: pytorch(net, preprocessing=(0.25, 0.5)),
        lambda x: (x - 0.25) / 0.5,
        1,
    ),
    "pytorch preprocessing": (
        lambda net: pytorch(net, preprocessing_defences=Invert()),
        lambda x: 1 - x,
        1,
    ),
    "estimated pytorch preprocessing": (
        lambda net: pytorch(net, preprocessing_defences=Round()),
        lambda x: x + ((x * 8).round() / 8 - x).detach(),
        1,
    ),
    "squeezed": (
        lambda net: pytorch(nn.Sequential(Float(), net), preprocessing_defences=squeezing()),
        lambda x: x + ((x * 7).round() / 7 - x).detach(),
        1,
    ),
    "squeezed and standardised": (
        lambda net: pytorch(
            nn.Sequential(Float(), net),
            preprocessing_defences=squeezing(),
            preprocessing=(0.25, 0.5),
        ),
        lambda x: (x + ((x * 7).round() / 7 - x).detach() - 0.25) / 0.5,
        1,
    ),
    "smoothed": (
        lambda net: pytorch(
            net, preprocessing_defences=SpatialSmoothing(window_size=3, channels_first=True)
        ),
        lambda x: (
            x
            + (
                torch.from_numpy(SpatialSmoothing(3, channels_first=True)(x.detach().numpy())[0])
                - x
            ).detach()
        ),
        1,
    ),
    "postprocessing": (
        lambda net: pytorch(net, postprocessing_defences=Rounded(decimals=3)),
        lambda x: x,
        1,
    ),
    "own predict": (lambda net: pytorch(net, Scaled), lambda x: x, 2),
    "ensemble": (ensemble, lambda x: x, 0.75),
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_predict_and_gradients_those_by_hand(kind, sample, digits_net):
    make, inputs, factor = KINDS[kind]
    estimator = make(digits_net)
    x, y = torch.from_numpy(sample[0]), torch.from_numpy(sample[1])
    rows = (x + 0.01).clamp(max=1).requires_grad_(True)
    scores = EstimatorModel(estimator)(rows)
    predicted = estimator.predict(rows.detach().numpy())
    assert np.array_equal(scores.detach().numpy(), predicted)
    assert np.array_equal(EstimatorModel(estimator)(rows.detach()).detach().numpy(), predicted)
    (found,) = torch.autograd.grad(cross_entropy(scores, y, reduction="sum"), rows)
    by_hand = factor * digits_net(inputs(rows))
    (wanted,) = torch.autograd.grad(cross_entropy(by_hand, y, reduction="sum"), rows)
    assert float(wanted.abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_are_the_estimators_own(white_box, kind, sample, digits_net):
    x, _ = sample
    estimator = KINDS[kind][0](digits_net)
    predicted = estimator.predict(x).argmax(1)
    attack = quick(white_box, estimator)
    x_adv = attack.generate(x)
    success = attack.last_result.success.numpy()
    assert np.array_equal(estimator.predict(x_adv).argmax(1) != predicted, success)
    assert np.abs(x_adv.astype(np.float64) - x).max() <= EPS + 1e-6
    assert success.any()
    labels = np.concatenate([(predicted[:2] + 1) % 10, predicted[2:]])
    x_adv = attack.generate(x, labels)
    assert np.array_equal(
        estimator.predict(x_adv).argmax(1) != labels, attack.last_result.success.numpy()
    )
    assert attack.last_result.already_adversarial.numpy().tolist() == [True] * 2 + [False] * 12


def test_class_gradient_is_asked_for_live_rows_only(sample, digits_net):
    asked: list[int] = []

    class Counted(Scaled):
        def class_gradient(self, x, *args, **kwargs):
            asked.append(len(x))
            return super().class_gradient(x, *args, **kwargs)

    attack = quick(FrankWolfe, pytorch(digits_net, Counted), batch_size=8)
    attack.generate(*sample)
    assert sum(asked) == int(attack.last_result.gradients.sum()) > 14
    assert max(asked) <= 8


@pytest.mark.parametrize("kind", ["network", "float64"])
def test_black_box_attack_on_probabilities(kind, sample, digits_net):
    x, y = sample

    def probabilities(rows):
        with torch.no_grad():
            found = digits_net(torch.from_numpy(rows)).softmax(1).numpy()
        return found.astype(np.float64) if kind == "float64" else found

    seen: list[int] = []

    def counted(rows):
        seen.append(len(rows))
        return probabilities(rows)

    estimator = BlackBoxClassifier(counted, (1, 8, 8), 10, clip_values=(0, 1))
    attack = quick(FrankWolfeBlackBox, estimator, outputs="probabilities", eps=0.2, delta=0.05)
    x_adv = attack.generate(x, y)
    result = attack.last_result
    assert sum(seen) == int((result.queries + result.wasted_rows).sum())
    assert result.wasted_rows.tolist() == [3] * 8 + [0] * (len(result) - 8)  # the probe's
    assert int(result.queries.max()) <= 150
    assert max(seen) <= 32
    assert np.array_equal(probabilities(x_adv).argmax(1) != y, result.success.numpy())
    assert 0 < int(result.success.sum()) < 14
    # the same loss
    logits = quick(FrankWolfeBlackBox, pytorch(digits_net), eps=0.2, delta=0.05).run(x, y)
    assert torch.equal(logits.success, result.success)


# ---- scikit-learn


@pytest.fixture(params=[2, 3], ids=["two classes", "three classes"])
def iris(request):
    """Logistic regression on the iris data, its estimator, rows and labels."""
    x, y = load_iris(return_X_y=True)
    x, y = x[50 * (3 - request.param) :], y[50 * (3 - request.param) :]
    y = y - y.min()
    model = LogisticRegression(max_iter=2000).fit(x, y)
    estimator = SklearnClassifier(model, clip_values=(x.min(axis=0), x.max(axis=0)))
    return model, estimator, x[::4].astype(np.float32), y[::4]


@pytest.mark.parametrize("targeted", [False, True])
def test_one_step_on_logistic_regression_is_the_fast_gradient_sign_method(iris, targeted):
    model, estimator, x, y = iris
    classes = len(model.classes_)
    goal = (y + 1) % classes if targeted else y
    options = {"eps": 0.3, "outputs": "probabilities", "targeted": targeted, "on_failure": "last"}
    attack = FrankWolfe(estimator, eps_step=1.0, max_iter=1, verbose=False, **options)
    x_adv = attack.generate(x, goal)
    result = attack.last_result
    # the gradient of the cross-entropy is W^T (p - e_goal)
    weights = np.concatenate([-model.coef_, model.coef_]) / 2 if classes == 2 else model.coef_
    slope = (model.predict_proba(x) - np.eye(classes)[goal]) @ weights
    lower, upper = estimator.clip_values
    stepped = np.clip(x + (-0.3 if targeted else 0.3) * np.sign(slope), lower, upper)
    live = ~result.already_adversarial.numpy()
    assert live.any()
    assert np.abs(x_adv[live] - stepped[live]).max() <= 1e-6
    assert np.array_equal(x_adv[~live], x[~live])
    predicted = estimator.predict(x_adv).argmax(1)
    assert np.array_equal(
        predicted == goal if targeted else predicted != goal, result.success.numpy()
    )
    assert result.gradients.tolist() == live.astype(int).tolist()


def test_every_attack_on_logistic_regression(iris, shell):
    _, estimator, x, y = iris
    attack = quick(shell, estimator, outputs="probabilities", eps=0.8)
    x_adv = attack.generate(x, y)
    result = attack.last_result
    assert x_adv.shape == x.shape
    assert np.array_equal(estimator.predict(x_adv).argmax(1) != y, result.success.numpy())
    assert bool((result.success & ~result.already_adversarial).any())


def test_one_hot_answers_are_refused_with_the_reason(shell):
    x, y = load_iris(return_X_y=True)
    estimator = SklearnClassifier(
        LinearSVC(random_state=0).fit(x, y), clip_values=(x.min(), x.max())
    )
    with pytest.raises(ValueError, match="one-hot rows, which carry no score"):
        quick(shell, estimator, outputs="probabilities").generate(x[::10], y[::10])


# ---- targets, chains, ART's AutoAttack


def test_targets(shell, classifier, sample):
    x, _ = sample
    predicted = classifier.predict(x).argmax(1)
    targets = np.roll(predicted, 1)
    attack = quick(shell, classifier, targeted=True, eps=0.25)
    x_adv = attack.generate(x, np.eye(10)[targets])
    result = attack.last_result
    assert np.array_equal(classifier.predict(x_adv).argmax(1) == targets, result.success.numpy())
    assert np.array_equal(result.already_adversarial.numpy(), targets == predicted)
    assert bool((result.success & ~result.already_adversarial).any())
    assert np.array_equal(attack.generate(x, targets), x_adv)
    with pytest.raises(
        ValueError, match=r"^Target labels `y` need to be provided for a targeted attack\.$"
    ):
        attack.generate(x)


def test_the_chain(classifier, sample):
    x, y = sample
    attack = quick(HMCAM, classifier, nb_samples=3)
    x_adv = attack.generate(x, y)
    chain = attack.last_result.samples.numpy()
    assert chain.shape == (3, 14, 1, 8, 8)
    assert np.abs(chain.astype(np.float64) - x).max() <= EPS + 1e-6
    found = attack.last_result.success.numpy()
    assert (x_adv[found] == chain[:, found]).all(axis=(2, 3, 4)).any(axis=0).all(), (
        "what is reported is a state"
    )
    kept = quick(HMCAM, classifier, nb_samples=3, keep_samples=False)
    assert np.array_equal(kept.generate(x, y), x_adv)
    assert kept.last_result.samples is None


@pytest.mark.parametrize("targeted", [False, True])
def test_inside_arts_auto_attack(shell, classifier, sample, targeted):
    x, y = sample
    y = np.concatenate([(y[:2] + 1) % 10, y[2:]])
    alone = quick(shell, classifier).run(x, y)
    right = ~alone.already_adversarial.numpy()
    attack = quick(shell, classifier)
    x_adv = AutoAttack(classifier, eps=EPS, attacks=[attack], targeted=targeted).generate(x, y)
    fooled = classifier.predict(x_adv).argmax(1) != y
    assert 0 < alone.success.numpy()[right].sum() < right.sum()
    if targeted:
        assert attack.targeted, "its second round tries the other classes"
        assert (fooled | ~alone.success.numpy()).all()
    else:
        assert np.array_equal(fooled, alone.success.numpy())
        assert np.array_equal(x_adv[fooled & right], alone.x_adv.numpy()[fooled & right])
