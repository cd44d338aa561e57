"""ART trainers: the core's weights bit for bit, labels and data in every guise, preprocessing,
what ART does after.
"""

from __future__ import annotations

import copy
import random
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art import config
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from art.data_generators import DataGenerator, NumpyDataGenerator, PyTorchDataGenerator
from art.defences.preprocessor import CutoutPyTorch, FeatureSqueezing, MixupPyTorch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.defences.trainer import Trainer
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier
from art.exceptions import EstimatorError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext import trainers
from art_ext.data import load_data
from art_ext.models import digits_cnn
from art_ext.trainers import (
    AdversarialTrainerBackwardSmoothingPyTorch,
    AdversarialTrainerWARPyTorch,
)
from art_ext.trainers.classifier import ClassifierNetwork
from art_ext.training import Atcd, BackwardSmoothing, Cat, Fast, Free, GradAlign, War, Yopo, train
from art_ext.training.batches import TensorBatches

EPS = 0.1
TRAINERS: dict[str, tuple[dict[str, Any], Any]] = {
    "CAT": (
        {"nb_replays": 2, "max_iter": 3, "alpha": 0.05, "eps_step": 0.03},
        Cat(eps=EPS, num_replays=2, num_steps=3, alpha=0.05, step_size=0.03),
    ),
    "ATCD, its test": (
        {"shared_test": False, "temperature": 2.0, "kinetic": True},
        Atcd(eps=EPS, shared_test=False, temperature=2.0, kinetic=True),
    ),
    "ATCD": ({"order": "fresh", "lam": 3.0}, Atcd(eps=EPS, order="fresh", lam=3.0)),
    "BackwardSmoothing": (
        {"eps_step": 0.08, "max_iter": 2, "points": 2, "norm": 2, "boxed_start": False},
        BackwardSmoothing(
            eps=EPS, step_size=0.08, num_steps=2, points=2, norm="l2", boxed_start=False
        ),
    ),
    "Free": (
        {"nb_replays": 3, "eps_step": 0.05, "norm": 2},
        Free(eps=EPS, num_replays=3, step_size=0.05, norm="l2"),
    ),
    "Fast": (
        {"eps_step": 0.07, "max_iter": 2, "start": "previous", "bn_mode": "train"},
        Fast(eps=EPS, step_size=0.07, num_steps=2, start="previous", bn_mode="train"),
    ),
    "GradAlign": (
        {"weight": 0.3, "variant": "both", "eps_step": 0.08, "boxed_start": True},
        GradAlign(eps=EPS, weight=0.3, variant="both", step_size=0.08, boxed_start=True),
    ),
    "YOPO": (
        {"nb_outer": 3, "nb_inner": 2, "eps_step": 0.04, "first_gradient": "both"},
        Yopo(eps=EPS, num_outer=3, num_inner=2, step_size=0.04, first_gradient="both"),
    ),
    "WAR": (
        {
            "eps_step": 0.04,
            "max_iter": 3,
            "regulariser": "at",
            "zeta": 5.0,
            "gain": 0.1,
            "hold_epochs": 0.5,
        },
        War(
            eps=EPS,
            step_size=0.04,
            num_steps=3,
            regulariser="at",
            zeta=5.0,
            gain=0.1,
            hold_epochs=0.5,
        ),
    ),
}


class TwoModes(nn.Module):
    """A network that is no ``Sequential``, with BatchNorm and dropout: it is another one in
    train mode.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)
        )
        self.last = nn.Linear(288, 10)

    def forward(self, x):
        return self.last(self.features(x))


class Normalise(nn.Module):
    """The normalisation of ART's ``preprocessing``, inside a network."""

    def forward(self, x):
        return (x - 0.3) / 0.4


class Rounded(PreprocessorPyTorch):
    """A defence without a useful gradient of its own; ART is told to take the identity's."""

    def forward(self, x, y=None):
        return x.round(), y

    def estimate_forward(self, x, y=None):
        return x


class Drawn(DataGenerator):
    """A generator of another kind, which only knows ``get_batch``."""

    def __init__(self, batches):
        super().__init__(sum(len(x) for x, _ in batches), len(batches[0][0]))
        self.batches, self.calls = batches, 0

    def get_batch(self):
        self.calls += 1
        return self.batches[(self.calls - 1) % len(self.batches)]


class OwnPredict(PyTorchClassifier):
    """What ART's randomized smoothing does: the network is asked in another way than
    ``PyTorchClassifier`` asks it.
    """

    def predict(self, x, **kwargs):
        return super().predict(x, **kwargs)


@pytest.fixture(scope="module")
def data():
    """Images (100, 1, 8, 8) in [0, 1] and their classes, as ART wants them."""
    first = load_data("digits", split="train").first(100)
    return first.x.numpy(), first.y.numpy()


@pytest.fixture(autouse=True)
def _art_writes_here(tmp_path, monkeypatch):
    # deepcopy of a classifier writes files
    monkeypatch.setattr(config, "ART_DATA_PATH", str(tmp_path / "art"))


def network(kind=digits_cnn, *first):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(*first, kind()) if first else kind()


def sgd(module):
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def estimator(module=None, kind=PyTorchClassifier, **options):
    module = network() if module is None else module
    settings = {
        "optimizer": sgd(module),
        "loss": nn.CrossEntropyLoss(),
        "clip_values": (0.0, 1.0),
        **options,
    }
    return kind(module, input_shape=(1, 8, 8), nb_classes=10, device_type="cpu", **settings)


def trainer(name="BackwardSmoothing", classifier=None, **options):
    kind = getattr(trainers, f"AdversarialTrainer{name.partition(',')[0]}PyTorch")
    classifier = estimator() if classifier is None else classifier
    return kind(classifier, **{"eps": EPS, "seed": 4, "verbose": False, **options})


def assert_same_weights(module, other):
    expected = other.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def fitted(data, name="BackwardSmoothing", classifier=None, **options):
    """The module of a classifier after one epoch."""
    one = trainer(name, classifier)
    one.fit(*data, nb_epochs=1, batch_size=32, **options)
    return one.classifier.model


# --- the core's computation ---


def test_the_first_layer_has_the_name_that_the_users_module_gives_it(data):
    shell = trainer("YOPO", first="1", nb_outer=1)
    shell.fit(*data, nb_epochs=1, batch_size=50)
    assert shell.last_result.first_layer_rows == 4 * 100
    with pytest.raises(ValueError, match=r"first must name .*one of 0, 1, 2, .*, got 'conv1'"):
        trainer("YOPO", first="conv1").fit(*data, nb_epochs=1, batch_size=50)


def test_a_budget_of_passes_takes_the_place_of_epochs(data):
    batches = [(data[0][at : at + 25], data[1][at : at + 25]) for at in range(0, 100, 25)]
    for fit in (
        lambda one, **length: one.fit(*data, batch_size=25, **length),
        lambda one, **length: one.fit_generator(batches, **length),
    ):
        shell = trainer("CAT", nb_replays=2, max_iter=1)
        # 1 forward and 2 backwards an update, two updates of each minibatch
        fit(shell, passes=14.0)
        assert (shell.last_result.forwards, shell.last_result.backwards) == (
            4 * 100 + 50,
            8 * 100 + 100,
        )
        with pytest.raises(
            ValueError, match="pass one of nb_epochs and passes, got nb_epochs=2 and passes=14"
        ):
            fit(shell, nb_epochs=2, passes=14.0)
        with pytest.raises(
            ValueError, match=r"passes must be at least 0\.75, the rows of one weight update"
        ):
            fit(shell, passes=0.5)


def test_twenty_epochs_are_the_default(data):
    shell = trainer("CAT", nb_replays=1, max_iter=1)
    shell.fit(data[0][:10], data[1][:10])
    assert len(shell.history) == 20


@pytest.mark.parametrize("kind", [digits_cnn, TwoModes])
@pytest.mark.parametrize("name", TRAINERS)
def test_weights_and_history_are_those_of_the_core(data, name, kind):
    options, recipe = TRAINERS[name]
    shell, module = trainer(name, estimator(network(kind)), **options), network(kind)
    shell.fit(*data, nb_epochs=2, batch_size=32)
    result = train(
        module,
        tuple(map(torch.from_numpy, data)),
        recipe,
        epochs=2,
        batch_size=32,
        seed=4,
        optimizer=sgd(module),
    )
    assert_same_weights(shell.get_classifier().model, module)
    assert torch.equal(shell.last_result.losses, result.losses)
    for ours, theirs in zip(shell.history, result.history, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert isinstance(shell, Trainer)
    assert shell.last_result.model is shell.classifier.model


@pytest.mark.parametrize("name", TRAINERS)
def test_defaults_are_the_recipes(name):
    kind = getattr(trainers, f"AdversarialTrainer{name.partition(',')[0]}PyTorch")
    recipe = kind(estimator(), verbose=False).recipe
    assert recipe.settings() == type(TRAINERS[name][1])().settings()


def test_training_makes_robust():
    held, learned = load_data("digits").first(100), load_data("digits", split="train").first(800)
    sample = learned.x.numpy(), learned.y.numpy()
    accuracy = []
    for natural in (True, False):
        module = network()
        classifier = estimator(module, optimizer=torch.optim.Adam(module.parameters(), 5e-3))
        trainer(
            classifier=classifier, eps=0.0 if natural else 0.15, beta=0.0 if natural else 4.0
        ).fit(*sample, nb_epochs=6, batch_size=50)
        attack = ProjectedGradientDescentPyTorch(
            classifier, eps=0.15, eps_step=0.02, max_iter=10, verbose=False
        )
        found = classifier.predict(attack.generate(held.x.numpy(), held.y.numpy())).argmax(axis=1)
        accuracy.append((found == held.y.numpy()).mean())
    assert accuracy[1] > accuracy[0] + 0.2


# --- labels ---


@pytest.mark.parametrize(
    "guise", [lambda y: np.eye(10)[y], lambda y: y[:, None], lambda y: y.astype(float), list]
)
def test_labels_in_every_guise(data, guise):
    assert_same_weights(fitted((data[0], guise(data[1]))), fitted(data))


def test_tensors_and_doubles_serve_as_inputs(data):
    expected = fitted(data)
    assert_same_weights(fitted((data[0].astype(np.float64), data[1])), expected)
    assert_same_weights(fitted((torch.from_numpy(data[0]), torch.from_numpy(data[1]))), expected)


def test_inputs_are_not_modified(data):
    x, y = (np.array(part) for part in data)
    x.setflags(write=False)
    fitted((x, y))
    np.testing.assert_array_equal(x, data[0])


# --- schedules ---


def test_step_lr_is_stepped_once_an_epoch(data):
    shell = trainer()
    scheduler = torch.optim.lr_scheduler.StepLR(shell.classifier.optimizer, step_size=2, gamma=0.1)
    shell.fit(*data, nb_epochs=4, scheduler=scheduler)
    np.testing.assert_allclose(
        [row["learning_rate"] for row in shell.history], [0.05, 0.005, 0.005, 0.0005]
    )
    assert scheduler.last_epoch == 4


def test_anything_with_a_step_serves(data):
    class Count:
        steps = 0

        def step(self):
            self.steps += 1

    count = Count()
    trainer().fit_generator([data], nb_epochs=3, scheduler=count)
    assert count.steps == 3
    trainer().fit(*data, nb_epochs=1, batch_size=25, scheduler=count, schedule_every="update")
    assert count.steps == 3 + 4


def test_without_a_schedule_the_rate_stays_what_it_is(data):
    shell = trainer()
    scheduler = torch.optim.lr_scheduler.StepLR(shell.classifier.optimizer, step_size=1, gamma=0.1)
    shell.fit(*data, nb_epochs=1, scheduler=scheduler)
    shell.fit(*data, nb_epochs=1)
    assert shell.history[0]["learning_rate"] == pytest.approx(0.005)


# --- generators ---


def minibatches(data, size=25):
    x, y = data
    return [(x[at : at + size], y[at : at + size]) for at in range(0, len(x), size)]


SOURCES = {
    "list": minibatches,
    "numpy": lambda data: NumpyDataGenerator(*data, batch_size=25),
    "loader": lambda data: DataLoader(TensorDataset(*map(torch.from_numpy, data)), 25),
    "pytorch": lambda data: PyTorchDataGenerator(
        DataLoader(TensorDataset(*map(torch.from_numpy, data)), 25), 100, 25
    ),
    "one-hot": lambda data: NumpyDataGenerator(data[0], np.eye(10)[data[1]], batch_size=25),
    "drawn": lambda data: Drawn(minibatches(data)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_minibatches_of_any_source_train_as_in_the_core(data, kind):
    shell, module = trainer(), network()
    source = SOURCES[kind](data)
    shell.fit_generator(source, nb_epochs=2)
    batches = [tuple(map(torch.from_numpy, batch)) for batch in minibatches(data)]
    train(module, batches, BackwardSmoothing(eps=EPS), epochs=2, seed=4, optimizer=sgd(module))
    assert_same_weights(shell.classifier.model, module)
    assert len(shell.history) == 2
    if kind == "drawn":
        assert source.calls == 2 * 4  # as many as ART draws, and in its order


def test_all_of_an_epoch_is_drawn(data):
    source = Drawn(minibatches(data, 100))
    trainer().fit_generator(source, nb_epochs=3)
    assert source.calls == 3
    source = Drawn(minibatches(data, 40))  # the last minibatch is incomplete
    shell = trainer()
    shell.fit_generator(source, nb_epochs=1)
    assert source.calls == 3
    assert shell.last_result.forwards == 100 * shell.recipe.cost().forwards


def test_generator_and_arrays_differ_by_noise_alone(data):
    # without noise, and on the same minibatches, they are the same computation
    options = {"fixed": 1.0, "start": 0.0, "max_iter": 2, "eps_step": 0.05}
    ours, other = trainer("WAR", **options), trainer("WAR", **options)
    ours.fit(*data, nb_epochs=1, batch_size=25)
    in_order = TensorBatches(*map(torch.from_numpy, data), 25, 4).epoch(0, 0, 0, 1)
    other.fit_generator([(batch.x, batch.y) for batch in in_order], nb_epochs=1)
    assert_same_weights(other.classifier.model, ours.classifier.model)


@pytest.mark.parametrize("kind", ["numpy", "loader"])
def test_a_shuffling_generator_follows_the_seed(data, kind):
    def weights(seed):
        shell = trainer(seed=seed)
        if kind == "numpy":
            source = NumpyDataGenerator(*data, batch_size=25, shuffle=True)
        else:
            source = DataLoader(TensorDataset(*map(torch.from_numpy, data)), 25, shuffle=True)
        first = []

        class Watched:
            """Notes the labels of each epoch's first minibatch."""

            def __len__(self):
                return 4

            def __iter__(self):
                for place, batch in enumerate(source):
                    if place == 0:
                        first.append(np.asarray(batch[1]))
                    yield batch

        shell.fit_generator(Watched(), nb_epochs=2)
        return shell.classifier.model, first[-2:]

    module, (one, two) = weights(1)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    again, _ = weights(1)
    assert_same_weights(module, again)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, weights(2)[1][0])


# --- preprocessing ---


def test_preprocessing_is_a_normalisation_inside_the_network(data):
    outside = fitted(data, classifier=estimator(preprocessing=(0.3, 0.4)))
    inside = fitted(data, classifier=estimator(network(digits_cnn, Normalise())))
    assert_same_weights(outside, inside[1])
    with pytest.raises(AssertionError):
        assert_same_weights(outside, fitted(data))


def test_gradients_pass_by_arts_estimate(data):
    classifier = estimator(preprocessing_defences=Rounded(device_type="cpu"))
    wrapped, x = ClassifierNetwork(classifier), torch.from_numpy(data[0][:6])
    classifier.model.eval()
    leaf, rounded = x.clone().requires_grad_(True), x.round().requires_grad_(True)
    logits, expected = wrapped(leaf), classifier.model(rounded)
    assert torch.equal(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(leaf.grad, rounded.grad)
    assert leaf.grad.abs().max() > 0


def test_each_mode_has_arts_steps(data):
    fit_only = CutoutPyTorch(
        4, channels_first=True, apply_fit=True, apply_predict=False, device_type="cpu"
    )
    wrapped, x = (
        ClassifierNetwork(estimator(preprocessing_defences=fit_only)),
        torch.from_numpy(data[0][:6]),
    )
    assert torch.equal(wrapped.eval()(x), wrapped.network(x)[-1])
    assert not torch.equal(wrapped.train()(x), wrapped.network(x)[-1])


# --- after ---


def test_the_classifier_works_afterwards(data):
    shell = trainer()
    shell.fit(*data, nb_epochs=1)
    classifier, x = shell.get_classifier(), data[0][:8]
    with torch.no_grad():
        expected = classifier.model.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(classifier.predict(x), expected)
    np.testing.assert_array_equal(
        shell.predict(x, batch_size=3).argmax(axis=1), expected.argmax(axis=1)
    )
    twin = copy.deepcopy(classifier)
    np.testing.assert_array_equal(twin.predict(x), expected)
    trainer(classifier=twin).fit(*data, nb_epochs=1)
    assert not np.array_equal(twin.predict(x), expected)
    np.testing.assert_array_equal(classifier.predict(x), expected)
    for attack in (FastGradientMethod, ProjectedGradientDescentPyTorch):
        options = {} if attack is FastGradientMethod else {"max_iter": 3, "verbose": False}
        x_adv = attack(classifier, eps=0.1, **options).generate(x)
        assert 0.09 < np.abs(x_adv - x).max() < 0.1 + 1e-6


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_nothing_stays_on_the_classifier(data, precision):
    classifier = estimator(network(TwoModes))
    classifier.model.features[1].eval()  # frozen by its owner
    modules = [classifier._model, *classifier.model.modules()]
    before = [
        (set(vars(module)), module.training, len(module._forward_pre_hooks)) for module in modules
    ]
    keys, group = set(vars(classifier)), set(classifier.optimizer.param_groups[0])
    fitted(data, classifier=classifier, precision=precision)
    assert [
        (set(vars(module)), module.training, len(module._forward_pre_hooks)) for module in modules
    ] == before
    assert set(vars(classifier)) == keys
    assert set(classifier.optimizer.param_groups[0]) == group
    assert all(
        parameter.grad is None and parameter.requires_grad
        for parameter in classifier.model.parameters()
    )


@pytest.mark.parametrize("kind", ["fit", "numpy", "loader", "error"])
def test_global_random_streams_are_untouched(data, kind):
    shell = trainer(classifier=estimator(network(TwoModes)))
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, data)), 25, shuffle=True)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    if kind == "fit":
        shell.fit(*data, nb_epochs=1, validation_data=data)
    elif kind == "error":
        with pytest.raises(ValueError, match=r"x of batch 0 must lie in \[0, 1\]"):
            shell.fit_generator([(data[0] * 2, data[1])], nb_epochs=1)
    else:
        shell.fit_generator(
            NumpyDataGenerator(*data, batch_size=25, shuffle=True) if kind == "numpy" else loader, 1
        )
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


# --- networks and schedulers as they are ---


def test_a_classifier_that_has_predicted_trains_like_a_new_one(data):
    """ART's ``predict`` leaves the whole network in eval mode, which is no wish to freeze it."""
    asked = estimator(network(TwoModes))
    asked.predict(data[0][:4])
    assert not any(module.training for module in asked.model.modules())
    assert_same_weights(
        fitted(data, classifier=asked), fitted(data, classifier=estimator(network(TwoModes)))
    )
    assert not any(module.training for module in asked.model.modules())


@pytest.mark.parametrize("predicts", [False, True])
def test_frozen_normalisation_keeps_its_statistics(data, predicts):
    def statistics(**options):
        classifier = estimator(network(TwoModes))
        norm = classifier.model.features[1]
        norm.requires_grad_(False).eval()
        if predicts:
            classifier.predict(data[0][:4])
        return fitted(data, classifier=classifier, **options).features[1].running_mean

    assert not statistics().any()
    assert statistics(freeze_eval_modules=False).any()


@pytest.mark.parametrize("metric", [None, "loss", "validation_clean"])
def test_a_plateau_scheduler_follows_a_column(data, metric):
    shell = trainer(classifier=estimator(network(TwoModes)))
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        shell.classifier.optimizer, mode="max", patience=0
    )
    options = {} if metric is None else {"schedule_metric": metric}
    shell.fit(*data, validation_data=data, nb_epochs=3, batch_size=32, scheduler=plateau, **options)
    assert plateau.best == max(row[metric or "validation_loss"] for row in shell.history)
    module = network(TwoModes)
    optimizer = sgd(module)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0)
    tensors = tuple(map(torch.from_numpy, data))
    result = train(
        module,
        tensors,
        shell.recipe,
        epochs=3,
        batch_size=32,
        seed=4,
        optimizer=optimizer,
        schedule=twin,
        validation_data=tensors,
        **options,
    )
    assert_same_weights(shell.classifier.model, module)
    assert [row["learning_rate"] for row in shell.history] == [
        row["learning_rate"] for row in result.history
    ]
    if metric is None:
        assert shell.history[-1]["learning_rate"] < 0.05


def test_the_last_minibatch_may_be_left_out(data):
    shell = trainer(classifier=estimator(network(TwoModes)))
    shell.fit(*data, nb_epochs=2, batch_size=33, drop_last=True)
    assert shell.last_result.updates == 6
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    shell = trainer(classifier=estimator(flat))
    with pytest.raises(
        ValueError, match=r"minibatch of one row .*pass drop_last=True, .*\(1 of 100 samples\)"
    ):
        shell.fit(*data, nb_epochs=1, batch_size=33)
    with pytest.raises(ValueError, match="a loader drops its own last batch"):
        shell.fit_generator(minibatches(data), nb_epochs=1, drop_last=True)


# --- history and folder ---


def test_history_validation_and_callbacks(data):
    shell = trainer("WAR", max_iter=2)
    assert shell.history == []
    assert shell.last_result is None

    def accuracy(end):
        return {"art": float((shell.classifier.predict(data[0]).argmax(axis=1) == data[1]).mean())}

    one_hot = np.eye(10)[data[1]]
    shell.fit(
        *data,
        validation_data=(data[0], one_hot),
        nb_epochs=2,
        callbacks=[accuracy],
        validation_steps=3,
    )
    assert [row["epoch"] for row in shell.history] == [1, 2]
    assert {"loss", "learning_rate", "lambda", "ratio", "forwards", "backwards"} <= shell.history[
        0
    ].keys()
    for row in shell.history:
        # predict in a callback sees the same network
        assert row["art"] == pytest.approx(row["validation_clean"])
        assert row["validation_robust"] <= row["validation_clean"]
    assert shell.last_result.best.keys() == shell.classifier.model.state_dict().keys()
    shell.fit(*data, nb_epochs=1)
    assert len(shell.history) == 1


def test_nothing_is_written_without_a_folder(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted(data, validation_data=data, validation_steps=1)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("source", ["fit", "fit_generator"])
def test_resumes_to_the_same_weights(data, tmp_path, source):
    folder = tmp_path / "run"

    def run(stop=None, **options):
        shell = trainer("WAR", estimator(preprocessing=(0.3, 0.4)), max_iter=2)
        scheduler = torch.optim.lr_scheduler.StepLR(
            shell.classifier.optimizer, step_size=1, gamma=0.5
        )

        def interrupt(end):
            if end.epoch == stop:
                raise KeyboardInterrupt
            return {}

        options = {"nb_epochs": 3, "callbacks": [interrupt], "ema": 0.9, **options}
        if source == "fit":
            shell.fit(*data, batch_size=32, scheduler=scheduler, **options)
        else:
            shell.fit_generator(NumpyDataGenerator(*data, batch_size=25, shuffle=True), **options)
        return shell.classifier.model

    with pytest.raises(KeyboardInterrupt):
        run(stop=2, checkpoint_dir=folder)
    resumed = run(checkpoint_dir=folder, resume=True)
    assert_same_weights(resumed, run())
    from safetensors.torch import load_file

    module = network()
    # under the names of the user's module
    module.load_state_dict(load_file(folder / "model.safetensors"))
    assert_same_weights(module, resumed)


# --- errors ---


@pytest.mark.parametrize("name", TRAINERS)
def test_other_estimators_are_refused(name):
    black_box = BlackBoxClassifier(
        lambda x: np.eye(10)[:1].repeat(len(x), 0), (1, 8, 8), 10, clip_values=(0, 1)
    )
    for given in (black_box, digits_cnn()):
        with pytest.raises(EstimatorError, match="PyTorchClassifier"):
            trainer(name, given)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clip_values": None}, "clip_values"),
        ({"optimizer": None}, "needs an optimizer"),
        ({"loss": nn.NLLLoss()}, r"must be torch.nn.CrossEntropyLoss\(\) of logits, got NLLLoss"),
        ({"loss": nn.CrossEntropyLoss(weight=torch.ones(10))}, "without class weights"),
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, r"fit\(label_smoothing=...\)"),
        (
            {"preprocessing_defences": FeatureSqueezing((0, 1))},
            "written in PyTorch .* got FeatureSqueezing",
        ),
        (
            {"preprocessing_defences": MixupPyTorch(10, device_type="cpu")},
            "got MixupPyTorch, which mixes labels",
        ),
        ({"kind": OwnPredict}, "OwnPredict predicts in a way of its own"),
    ],
)
def test_classifiers_that_cannot_be_trained_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        trainer(classifier=estimator(**options))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"eps": -0.1}, "eps must be a finite number >= 0, got -0.1"),
        ({"norm": 3}, "norm must be one of 'linf', 'l2', 'l1', got 3"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"verbose": 1}, "verbose must be True or False, got 1"),
        ({"variant": "free"}, "variant must be one of"),
    ],
)
def test_bad_parameters_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        trainer(**options)


class WantsRate:
    """A scheduler that needs an argument nobody can know."""

    def step(self, rate):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y": None}, "y must hold the labels"),
        ({"y": np.full(100, 10)}, r"y must hold class indices in \[0, 10\), got 10 to 10"),
        ({"y": np.full(100, -1)}, r"got -1 to -1"),
        ({"y": np.zeros(99, int)}, r"y must have shape \(100,\)"),
        ({"y": np.full(100, 0.5)}, "integer class indices"),
        ({"x": np.full((100, 1, 8, 8), 255.0)}, r"x must lie in \[0, 1\]"),
        ({"scheduler": 3}, "scheduler must have .step"),
        (
            {"scheduler": WantsRate()},
            r"must take no argument, 'metrics' or 'epoch', but WantsRate.step.. needs 'rate'",
        ),
        (
            {"schedule_metric": "loss"},
            "schedule_metric belongs to a schedule whose .step.. takes a metric",
        ),
        ({"drop_last": True, "batch_size": 101}, "batch_size must be at most 100, .*got 101"),
        ({"label_smothing": 0.1}, "no keyword 'label_smothing' .did you mean 'label_smoothing'?"),
        ({"optimizer": "adam"}, "no keyword 'optimizer'"),
        ({"resume": True}, "resume and trackers need a checkpoint_dir"),
        ({"nb_epochs": 0}, "epochs must be an integer >= 1, got 0"),
        (
            {"validation_data": (np.zeros((2, 1, 8, 8)), [1, 11])},
            "y of validation_data must hold class indices",
        ),
    ],
)
def test_bad_fits_are_refused_before_a_weight_changes(data, change, match):
    shell = trainer()
    change = {"x": data[0], "y": data[1], **change}
    with pytest.raises(ValueError, match=match):
        shell.fit(**change)
    assert_same_weights(shell.classifier.model, network())
    assert shell.history == []


def test_a_radius_of_another_scale_is_refused(data):
    shell = trainer(eps=8)
    with pytest.raises(ValueError, match="eps"):
        shell.fit(*data, nb_epochs=1)


def test_bad_generators_are_refused(data):
    for source, match in (
        (iter([data]), "must be a DataGenerator or have a length, got list_iterator"),
        ([data[0]], "pairs .x, y., got ndarray in batch 0"),
        ([(data[0], np.full(100, 12))], "y of batch 0 must hold class indices"),
        ([], "at least one batch"),
    ):
        with pytest.raises(ValueError, match=match):
            trainer().fit_generator(source, nb_epochs=1)
    with pytest.raises(ValueError, match="the generator decides"):
        trainer().fit_generator([data], batch_size=8)
    endless = Drawn(minibatches(data))
    endless._size = None
    with pytest.raises(ValueError, match="must know its size"):
        trainer().fit_generator(endless)


def test_the_names_of_the_package():
    kinds = [name for name in TRAINERS if "," not in name]
    listed = [name for name in trainers.__all__ if name.startswith("AdversarialTrainer")]
    assert sorted(listed) == sorted(f"AdversarialTrainer{name}PyTorch" for name in kinds)
    # written once
    assert AdversarialTrainerBackwardSmoothingPyTorch.fit is AdversarialTrainerWARPyTorch.fit


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs/hosts/art-trainers.md").read_text(encoding="utf-8")
    (example,) = [
        text
        for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "art_ext.trainers" in text
    ]
    (tmp_path / "example.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = runpy.run_path("example.py")
    assert names["robust"] is names["classifier"]
    losses = [row["loss"] for row in names["trainer"].history]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert (names["robust"].predict(names["x"]).argmax(axis=1) == names["y"]).mean() > 0.7
    assert [file.name for file in tmp_path.iterdir()] == ["example.py"]
