"""RayS as an ART attack: every kind of classifier, ART's own callers, labels, samples and masks
in every guise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoAttack
from art.defences.postprocessor.postprocessor import Postprocessor
from art.defences.preprocessor import FeatureSqueezing
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import (
    BlackBoxClassifier,
    BlackBoxClassifierNeuralNetwork,
    EnsembleClassifier,
    PyTorchClassifier,
    SklearnClassifier,
)
from art.metrics import adversarial_accuracy
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from art_ext.attacks import RayS
from art_ext.attacks.estimator import EstimatorModel

EPS = 0.15  # with the budget it separates the samples: some fall, some do not
BUDGET = 120


class NextClass(Postprocessor):
    """A postprocessing defence that answers with the class after the model's."""

    def __call__(self, preds):
        return np.roll(preds, 1, axis=1)


class Binary(PreprocessorPyTorch):
    """A preprocessing defence written in PyTorch."""

    def forward(self, x, y=None):
        return x.round(), y


class Float(nn.Module):
    """ART's FeatureSqueezing answers in float64 on numpy 2, which no float32 network takes."""

    def forward(self, x):
        return x.float()


class OwnPredict(PyTorchClassifier):
    """What ART's randomized smoothing does: the network is asked in another way than
    ``PyTorchClassifier`` asks it.
    """

    def predict(self, x, **kwargs):
        return np.roll(super().predict(x, **kwargs), 1, axis=1)


def pytorch(
    network: nn.Module, kind: type = PyTorchClassifier, **options: Any
) -> PyTorchClassifier:
    options = {"clip_values": (0.0, 1.0), "device_type": "cpu", **options}
    return kind(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, **options)


def scores(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def predict(x):
        assert isinstance(x, np.ndarray)
        assert x.dtype == np.float32
        with torch.no_grad():
            return network(torch.from_numpy(x)).numpy()

    return predict


# classifier over a network -> whether it is asked with tensors, and whether it answers otherwise
# than the network
KINDS: dict[str, tuple[Callable[[nn.Module], Any], bool, bool]] = {
    "pytorch": (pytorch, True, False),
    "subclass": (lambda net: pytorch(net, type("Plain", (PyTorchClassifier,), {})), True, False),
    "pytorch preprocessing": (
        lambda net: pytorch(net, preprocessing_defences=Binary()),
        True,
        True,
    ),
    "numpy preprocessing": (
        lambda net: pytorch(
            nn.Sequential(Float(), net),
            preprocessing_defences=FeatureSqueezing(clip_values=(0, 1), bit_depth=1),
        ),
        False,
        True,
    ),
    "postprocessing": (lambda net: pytorch(net, postprocessing_defences=NextClass()), False, True),
    "own predict": (lambda net: pytorch(net, OwnPredict), False, True),
    "ensemble": (
        lambda net: EnsembleClassifier(
            [pytorch(net), pytorch(net)], clip_values=(0, 1), channels_first=True
        ),
        False,
        False,
    ),
    "black box": (
        lambda net: BlackBoxClassifier(scores(net), (1, 8, 8), 10, clip_values=(0, 1)),
        False,
        False,
    ),
    "black box network": (
        lambda net: BlackBoxClassifierNeuralNetwork(scores(net), (1, 8, 8), 10, clip_values=(0, 1)),
        False,
        False,
    ),
}


def rays(classifier: Any, **options: Any) -> Any:
    return RayS(classifier, **{"eps": EPS, "max_queries": BUDGET, "verbose": False, **options})


def check_verdicts(
    classifier: Any, attack: Any, x: np.ndarray, x_adv: np.ndarray, labels: np.ndarray
) -> None:
    """The verdicts are those of ``classifier.predict`` on what came back, and both kinds of
    verdict occur.
    """
    result = attack.last_result
    success, already = result.success.numpy(), result.already_adversarial.numpy()
    assert np.array_equal(classifier.predict(x_adv).argmax(1) != labels, success)
    assert np.array_equal(classifier.predict(x).argmax(1) != labels, already)
    assert np.abs(x_adv.astype(np.float64) - x).max() <= attack.eps + 1e-6
    assert (success & ~already).any()
    assert success.sum() < len(x)


# ---- the classifiers


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_are_the_classifiers_own(kind, sample, digits_net):
    x, _ = sample
    make, keeps_tensors, differs = KINDS[kind]
    classifier = make(digits_net)
    assert EstimatorModel(classifier).keeps_tensors == keeps_tensors
    predicted = classifier.predict(x).argmax(1)
    assert differs == bool((predicted != pytorch(digits_net).predict(x).argmax(1)).any())
    attack = rays(classifier)
    # a missing y is what the classifier says
    check_verdicts(classifier, attack, x, attack.generate(x), predicted)
    labels = np.concatenate([(predicted[:2] + 1) % 10, predicted[2:]])
    check_verdicts(classifier, attack, x, attack.generate(x, labels), labels)
    assert attack.last_result.already_adversarial.numpy().tolist() == [True] * 2 + [False] * 12


@pytest.mark.parametrize(
    "model", [LogisticRegression(max_iter=500), DecisionTreeClassifier(), LinearSVC()]
)
def test_scikit_learn_on_tabular_rows(model):
    x, y = load_iris(return_X_y=True)
    model.set_params(random_state=0).fit(x, y)
    lower, upper = x.min(axis=0), x.max(axis=0)
    classifier = SklearnClassifier(model, clip_values=(lower, upper))
    rows, labels = x[::10], y[::10]
    attack = rays(classifier, eps=0.8)
    x_adv = attack.generate(rows, labels)
    assert x_adv.shape == (15, 4)
    check_verdicts(classifier, attack, rows, x_adv, labels)
    assert bool(((x_adv >= lower.astype(np.float32)) & (x_adv <= upper.astype(np.float32))).all())


def test_an_estimator_that_answers_with_a_read_only_mirrored_array(sample, digits_net):
    class Mirrored(BlackBoxClassifier):
        def predict(self, x, **kwargs):
            answer = super().predict(x, **kwargs)[:, ::-1]
            answer.flags.writeable = False
            return answer

    classifier = Mirrored(scores(digits_net), (1, 8, 8), 10, clip_values=(0, 1))
    attack = rays(classifier)
    labels = 9 - pytorch(digits_net).predict(sample[0]).argmax(1)
    check_verdicts(classifier, attack, sample[0], attack.generate(sample[0]), labels)


@pytest.mark.parametrize("speculate", [False, True])
def test_queries_are_the_rows_that_predict_saw(sample, digits_net, speculate):
    seen: list[np.ndarray] = []

    def counted(x):
        seen.append(x.copy())
        return scores(digits_net)(x)

    x, y = sample
    classifier = BlackBoxClassifier(counted, (1, 8, 8), 10, clip_values=(0, 1))
    attack = rays(classifier, batch_size=8, speculate=speculate, probe=False)
    attack.generate(x, y)
    result = attack.last_result
    assert sum(map(len, seen)) == int((result.queries + result.wasted_rows).sum())
    assert max(map(len, seen)) == 8
    assert (int(result.wasted_rows.sum()) > 0) == speculate
    assert np.array_equal(np.concatenate(seen)[:14], x), "the clean check comes first"
    seen.clear()
    # besides the probe, the default asks no row in vain: a prediction may cost money
    rays(attack.estimator, probe=False).generate(x, y)
    assert sum(map(len, seen)) == int(result.queries.sum())


# ---- ART's own callers


def test_inside_adversarial_accuracy(make, classifier, sample):
    x, y = sample
    attack = make(classifier)
    y = np.concatenate([(y[:2] + 1) % 10, y[2:]])
    fell = make(classifier).run(x).success.numpy()
    assert 0 < fell.mean() < 1
    assert adversarial_accuracy(classifier, x, attack_crafter=attack) == pytest.approx(
        1 - fell.mean()
    )
    right = classifier.predict(x).argmax(1) == y
    assert adversarial_accuracy(classifier, x, y, attack_crafter=attack) == pytest.approx(
        1 - fell[right].mean()
    )


def test_inside_arts_auto_attack(classifier, sample):
    x, y = sample
    y = np.concatenate([(y[:2] + 1) % 10, y[2:]])
    alone = rays(classifier).run(x, y)
    weak, strong = rays(classifier, max_queries=2), rays(classifier)
    x_adv = AutoAttack(classifier, eps=EPS, attacks=[weak, strong]).generate(x, y)
    right = ~alone.already_adversarial.numpy()
    assert len(weak.last_result) == right.sum() < 14
    assert len(strong.last_result) == right.sum() - int(weak.last_result.success.sum())
    assert np.array_equal(classifier.predict(x_adv).argmax(1) != y, alone.success.numpy())
    assert np.array_equal(x_adv[right], alone.x_adv.numpy()[right])
    # its targeted round cannot give starting points: RayS explains itself and AutoAttack goes on
    again = AutoAttack(classifier, eps=EPS, attacks=[rays(classifier)], targeted=True).generate(
        x, y
    )
    assert np.array_equal(again, x_adv)


# ---- labels, samples, masks


def test_labels_as_indices_column_one_hot_and_list(make, classifier, sample):
    x, y = sample
    y = np.concatenate([(y[:2] + 1) % 10, y[2:]])
    want = make(classifier).generate(x, y)
    assert not np.array_equal(want, make(classifier).generate(x)), (
        "the labels make no difference: nothing is tested"
    )
    for labels in (
        y[:, None],
        np.eye(10)[y],
        np.eye(10, dtype=np.int64)[y],
        y.astype(np.float32),
        y.tolist(),
    ):
        assert np.array_equal(make(classifier).generate(x, labels), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda y: y[:3],
            r"y must have shape \(14,\), \(14, 1\) or, one-hot, \(14, 10\), got \(3,\)",
        ),
        (lambda y: np.eye(11)[y], r"got \(14, 11\)"),
        (lambda y: y[:, None, None], r"got \(14, 1, 1\)"),
        (lambda y: y + 0.5, "integer class indices"),
        (lambda y: y * np.nan, "integer class indices"),
        (lambda y: y.astype(str), "integer class indices"),
    ],
)
def test_bad_labels(make, classifier, sample, change, message):
    with pytest.raises(ValueError, match=message):
        make(classifier).generate(sample[0], change(sample[1]))


def test_samples_in_every_guise(make, classifier, sample):
    x, y = sample  # sixteenths: every float type holds them exactly
    want = make(classifier).generate(x, y)
    frozen = x.astype(np.float64)
    frozen.flags.writeable = False
    mirrored = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    guises = (
        frozen,
        x.tolist(),
        mirrored,
        np.asfortranarray(x),
        x.astype(">f4"),
        x.astype(np.float16),
        x.astype("g"),
    )
    for guise in guises:
        x_adv = make(classifier).generate(guise, y)
        assert x_adv.dtype == np.float32
        assert np.array_equal(x_adv, want)
    assert np.array_equal(frozen, x)


def test_masks_in_every_guise(make, classifier, sample):
    x, y = sample
    rows = np.zeros((8, 8), dtype=bool)
    rows[2:6] = True
    options = {"eps": 0.9}
    want = make(classifier, **options).generate(x, y, mask=rows[None])
    assert np.array_equal(want[..., ~rows], x[..., ~rows])
    assert not np.array_equal(want, x)
    full = np.broadcast_to(rows, x.shape)
    for mask in (
        rows,
        rows[:, :1],
        full,
        full[:1],
        full.astype(np.float64),
        0.5 * rows,
        rows.astype(int).tolist(),
    ):
        assert np.array_equal(make(classifier, **options).generate(x, y, mask=mask), want)
    chosen = (np.arange(14) % 2).reshape(14, 1, 1, 1)
    x_adv = make(classifier, **options).generate(x, y, mask=chosen)
    assert np.array_equal(x_adv[::2], x[::2])
    assert np.array_equal(x_adv[1::2], make(classifier, **options).generate(x, y)[1::2])


@pytest.mark.parametrize(
    ("mask", "message"),
    [(-np.ones((8, 8)), "no negative value"), (np.ones((5, 1, 8, 8)), "must broadcast to x's")],
)
def test_bad_masks(make, classifier, sample, mask, message):
    with pytest.raises(ValueError, match=message):
        make(classifier).generate(*sample, mask=mask)


def test_a_mask_binds_starting_points_too(classifier, sample):
    x, y = sample
    rows = np.arange(8)[:, None] < 4
    start = np.roll(x, 1, axis=0)
    x_adv = rays(classifier, eps=None, max_queries=4).generate(x, y, mask=rows, x_adv_init=start)
    assert not np.array_equal(x_adv, x)
    assert np.array_equal(x_adv[:, :, 4:], x[:, :, 4:])


def test_a_predict_function_that_overwrites_its_input(sample, digits_net):
    def careless(x):
        x *= 2
        x -= 1
        return scores(digits_net)((x + 1) / 2)

    x, y = sample
    want = rays(BlackBoxClassifier(scores(digits_net), (1, 8, 8), 10, clip_values=(0, 1))).generate(
        x, y
    )
    classifier = BlackBoxClassifier(careless, (1, 8, 8), 10, clip_values=(0, 1), preprocessing=None)
    assert np.array_equal(rays(classifier).generate(x, y), want)
