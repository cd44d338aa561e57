"""RayS keeps ART's conventions: parameters, errors, keywords, logs, bars, targets, copies."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import logging
import re
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from art import config
from art.defences.postprocessor import Rounded
from art.estimators.classification import EnsembleClassifier, PyTorchClassifier
from art.estimators.regression import BlackBoxRegressor, ScikitlearnRegressor
from art.exceptions import EstimatorError
from sklearn.linear_model import LinearRegression
from torch import nn

from art_ext.attacks import RayS

EPS = 0.15  # with the budget it separates the samples: some fall, some do not
BUDGET = 120


def pytorch(network: nn.Module, **options: Any) -> PyTorchClassifier:
    options = {"clip_values": (0.0, 1.0), "device_type": "cpu", **options}
    return PyTorchClassifier(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, **options)


def rays(classifier: Any, **options: Any) -> Any:
    return RayS(classifier, **{"eps": EPS, "max_queries": BUDGET, "verbose": False, **options})


# ---- parameters

OTHER_VALUES: dict[str, Any] = {
    "eps": 0.2,
    "max_queries": 7,
    "norm": 2,
    "batch_size": 5,
    "stop_on_success": False,
    "tol": 0.01,
    "hierarchical": False,
    "speculate": True,
    "targeted": True,
    "seed": 3,
    "verbose": False,
    "probe": False,
}
INVALID: list[tuple[str, Any, str]] = [
    ("eps", 0, "eps must be > 0"),
    ("eps", -0.1, "eps must be > 0"),
    ("eps", np.nan, "eps must be > 0"),
    ("eps", 8, "8/255"),
    ("eps", "8/255", "eps must be a number, got '8/255'"),
    ("eps", True, "must be a number"),
    ("max_queries", 0, "must be an integer >= 1"),
    ("max_queries", 10.5, "must be an integer >= 1"),
    ("max_queries", None, "must be an integer >= 1"),
    ("batch_size", 0, "must be an integer >= 1"),
    ("batch_size", "64", "must be an integer >= 1"),
    ("norm", 3, "norm must be one of 'linf', 'l2', 'l1', got 3"),
    ("norm", "l0", "norm must be"),
    ("norm", None, "norm must be"),
    ("norm", [2], "norm must be"),
    ("norm", True, "norm must be"),
    ("tol", 0, "tol must be > 0"),
    ("tol", "fine", "tol must be a number"),
    ("tol", None, "tol must be a number"),
    ("speculate", "yes", "speculate must be 'auto', True or False, got 'yes'"),
    ("speculate", None, "speculate must be"),
    ("stop_on_success", 1, "stop_on_success must be True or False, got 1"),
    ("hierarchical", None, "hierarchical must be True or False"),
    ("targeted", "no", "targeted must be True or False"),
    ("verbose", 1, "verbose must be True or False"),
    ("seed", 1.5, "seed must be an integer"),
    ("seed", "a", "seed must be an integer"),
    ("seed", 1 << 63, "seed must fit a signed 64-bit integer"),
    ("probe", 1, "probe must be True or False, got 1"),
]


def parameters(attack: Any) -> dict[str, Any]:
    return {name: getattr(attack, name) for name in attack.attack_params}


def test_every_constructor_argument_is_an_attack_parameter(classifier):
    arguments = list(inspect.signature(RayS).parameters)
    assert arguments[0] == "estimator"
    assert sorted(RayS.attack_params) == sorted(arguments[1:]) == sorted(OTHER_VALUES)
    assert {name for name, _, _ in INVALID} == set(OTHER_VALUES), (
        "a parameter without a test of its bad values"
    )
    defaults = {
        name: argument.default for name, argument in inspect.signature(RayS).parameters.items()
    }
    attack = RayS(classifier)
    assert {"estimator": inspect.Parameter.empty, **parameters(attack)} == defaults
    for name, value in OTHER_VALUES.items():
        attack.set_params(**{name: value})
        assert getattr(attack, name) == value != defaults[name]
        assert f"{name}={value}" in repr(attack)
    assert parameters(attack) == parameters(RayS(classifier, **OTHER_VALUES)) == OTHER_VALUES


def test_every_parameter_reaches_the_search(classifier, sample, spy_on):
    given = spy_on(RayS)
    RayS(classifier, **{**OTHER_VALUES, "targeted": False}).generate(*sample)
    own = ("targeted", "verbose", "norm", "probe")
    wanted = {name: value for name, value in OTHER_VALUES.items() if name not in own}
    assert {**given, **wanted, "norm": "l2", "clip_values": (0.0, 1.0)} == given


@pytest.mark.parametrize(("name", "value", "message"), INVALID)
def test_a_bad_value_is_refused_and_the_old_one_stays(classifier, name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RayS(classifier, **{name: value})
    attack = rays(classifier)
    before = parameters(attack)
    with pytest.raises(ValueError, match=re.escape(message)):
        attack.set_params(**{"max_queries": 9, name: value})
    assert parameters(attack) == before


def test_an_unknown_parameter_is_refused_and_nothing_changes(make, classifier):
    attack = make(classifier)
    before = parameters(attack)
    with pytest.raises(ValueError, match='The attribute "query_limit" cannot be set'):
        attack.set_params(eps=0.3, query_limit=5)
    assert parameters(attack) == before
    with pytest.raises(TypeError, match="query_limit"):
        make(classifier, query_limit=5)


@pytest.mark.parametrize(
    ("norm", "core"),
    [(np.inf, "linf"), ("inf", "linf"), ("Linf", "linf"), (2, "l2"), (2.0, "l2"), ("1", "l1")],
)
def test_arts_names_of_the_norms(make, classifier, sample, norm, core):
    assert make(classifier, norm=norm, max_queries=1).run(sample[0]).norm == core


def test_wrong_estimators(digits_net):
    rows = np.random.default_rng(0).random((20, 3))
    for regressor in (
        ScikitlearnRegressor(LinearRegression().fit(rows, rows[:, 0]), clip_values=(0, 1)),
        BlackBoxRegressor(lambda x: x[:, :1], (3,), clip_values=(0, 1)),
    ):
        with pytest.raises(EstimatorError, match="RayS"):
            RayS(regressor)
    with pytest.raises(ValueError, match="the estimator needs clip_values"):
        RayS(pytorch(digits_net, clip_values=None))
    with pytest.raises(ValueError, match="finite"):
        RayS(pytorch(digits_net, clip_values=(0, np.inf)))


def test_unknown_keywords_of_generate_are_ignored_with_a_word_in_the_log(
    make, classifier, sample, caplog
):
    want = make(classifier).generate(*sample)
    with caplog.at_level(logging.DEBUG, logger="art_ext"):
        assert np.array_equal(
            make(classifier).generate(*sample, x_init=sample[0], resume=True), want
        )
    records = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert [record.getMessage() for record in records] == [
        f"{type(make(classifier)).__name__} ignores the keywords resume, x_init"
    ]


# ---- targets


def test_targets(classifier, sample):
    x, _ = sample
    predicted = classifier.predict(x).argmax(1)
    targets = np.roll(predicted, 1)
    start = np.roll(x, 1, axis=0).astype(np.float64)  # each sample starts from the one before it
    reachable = targets != predicted
    attack = rays(classifier, targeted=True, eps=0.3, max_queries=400, stop_on_success=False)
    x_adv = attack.generate(x, np.eye(10)[targets], x_adv_init=start)
    success = attack.last_result.success.numpy()
    assert np.array_equal(attack.last_result.already_adversarial.numpy(), ~reachable)
    assert np.array_equal(classifier.predict(x_adv).argmax(1) == targets, success)
    assert np.array_equal(x_adv[~success], x[~success])
    assert (success & reachable).sum() >= 5
    assert not success.all()
    assert bool(attack.last_result.nearest_distance.isfinite().all()), (
        "every starting point is of its target class"
    )


def test_targets_without_what_they_need(classifier, sample):
    attack = rays(classifier, targeted=True)
    with pytest.raises(
        ValueError, match=r"^Target labels `y` need to be provided for a targeted attack\.$"
    ):
        attack.generate(sample[0], x_adv_init=sample[0])
    with pytest.raises(ValueError, match=r"targeted RayS needs generate\(\.\.\., x_adv_init"):
        attack.generate(*sample, x_init=sample[0])
    with pytest.raises(
        ValueError, match=r"x_adv_init must have x's shape \(14, 1, 8, 8\), got \(3, 1, 8, 8\)"
    ):
        attack.generate(*sample, x_adv_init=sample[0][:3])
    assert attack.last_result is None


# ---- what stays as it was


@pytest.mark.parametrize("kind", ["tensors", "numpy", "ensemble"])
def test_training_modes_come_back(make, kind, sample, digits_net):
    broken = False

    class Breaks(nn.Module):
        def forward(self, x):
            assert not self.training
            if broken:
                raise RuntimeError("the model broke")
            return x

    network = nn.Sequential(copy.deepcopy(digits_net), nn.BatchNorm1d(10), Breaks())
    classifier: Any = pytorch(
        network, postprocessing_defences=[Rounded(decimals=4)] if kind == "numpy" else None
    )
    if kind == "ensemble":
        classifier = EnsembleClassifier(
            [classifier, pytorch(network)], clip_values=(0, 1), channels_first=True
        )
    wrappers = [one._model for one in getattr(classifier, "classifiers", [classifier])]
    for wrapper in wrappers:
        wrapper.train()
    network[1].eval()  # a frozen layer inside a training network
    modules = [module for wrapper in wrappers for module in wrapper.modules()]
    modes = [module.training for module in modules]
    assert modes.count(False) == len(wrappers)
    make(classifier, max_queries=20).generate(*sample)
    assert [module.training for module in modules] == modes
    broken = True
    with pytest.raises(RuntimeError, match="the model broke"):
        make(classifier).generate(*sample)
    assert [module.training for module in modules] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_only_a_terminal_sees_a_bar(make, classifier, sample, capfd, monkeypatch):
    for verbose in (False, True):
        make(classifier, verbose=verbose, max_queries=20).generate(*sample)
        assert capfd.readouterr() == ("", "")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for verbose in (False, True):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        make(classifier, verbose=verbose, max_queries=20).generate(*sample)
        assert (f"{type(make(classifier)).__name__}: 100%" in terminal.getvalue()) == verbose
        assert ("14/14" in terminal.getvalue()) == verbose


def test_copies_of_an_attack(make, classifier, sample, tmp_path, monkeypatch):
    # ART writes the weights there to copy a classifier
    monkeypatch.setattr(config, "ART_DATA_PATH", str(tmp_path))
    attack = make(classifier)
    x_adv = attack.generate(*sample)
    twin = copy.deepcopy(attack)
    assert parameters(twin) == parameters(attack)
    assert torch.equal(twin.last_result.queries, attack.last_result.queries)
    assert np.array_equal(twin.generate(*sample), x_adv)
    before = parameters(attack)
    twin.set_params(eps=0.01)
    assert parameters(attack) == before
    assert attack.estimator is classifier is not twin.estimator


def test_run_equals_generate_and_last_result_keeps_it(make, classifier, sample):
    # the rows of the probe are those of the first call only
    attack = make(classifier, seed=5, probe=False)
    assert attack.last_result is None
    x_adv = attack.generate(*sample)
    first = attack.last_result
    assert np.array_equal(first.x_adv.numpy(), x_adv)
    result = attack.run(*sample)
    assert attack.last_result is result is not first
    for name, value in vars(first).items():
        if isinstance(value, torch.Tensor | dict):
            torch.testing.assert_close(value, getattr(result, name), rtol=0, atol=0, equal_nan=True)
        else:
            assert value == getattr(result, name)
    x_adv = attack.generate(*sample)
    x_adv[:] = -1  # the array belongs to the caller
    assert torch.equal(attack.last_result.x_adv, first.x_adv)


def test_an_old_result_is_freed_at_once(make, classifier, sample):
    attack = make(classifier, max_queries=5)
    old = weakref.ref(attack.run(*sample))
    gc.disable()
    try:
        attack.generate(*sample)
        assert old() is None
    finally:
        gc.enable()
