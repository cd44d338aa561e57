"""What ART's estimators do in their own ways: integer arrays, labels of their own, boosters,
float64 defences.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from art.defences.preprocessor import FeatureSqueezing
from art.estimators.classification import PyTorchClassifier, SklearnClassifier, XGBoostClassifier
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from art_ext.attacks import (
    AIFGSM,
    HMCAM,
    ElasticNetPyTorch,
    FrankWolfe,
    FrankWolfeBlackBox,
    RayS,
    ZooPyTorch,
)
from art_ext.cli import doctor
from art_ext.core.attacks import pgd, rays
from art_ext.evaluation.adbd import ADBD
from art_ext.trainers import AdversarialTrainerWARPyTorch

DIGITS = load_digits()
ATTACKS: dict[str, Any] = {
    "rays": lambda c: RayS(c, eps=40.0, max_queries=60, verbose=False),
    "frank_wolfe": lambda c: FrankWolfe(c, eps=40.0, max_iter=4, verbose=False),
    "frank_wolfe_black_box": lambda c: FrankWolfeBlackBox(
        c, eps=40.0, max_queries=60, nb_directions=4, seed=0, verbose=False
    ),
    "hmcam": lambda c: HMCAM(c, eps=40.0, max_iter=3, nb_samples=2, seed=0, verbose=False),
    "ai_fgsm": lambda c: AIFGSM(c, eps=40.0, max_iter=3, seed=0, verbose=False),
    "ead": lambda c: ElasticNetPyTorch(
        c, learning_rate=2.0, initial_const=1e3, max_iter=10, binary_search_steps=2, verbose=False
    ),
    "zoo": lambda c: ZooPyTorch(
        c,
        learning_rate=20.0,
        initial_const=1e3,
        max_iter=10,
        binary_search_steps=1,
        nb_parallel=64,
        seed=0,
        verbose=False,
    ),
}
KINDS: list[tuple[str, Any]] = [(name, np.uint8) for name in ATTACKS]
KINDS += [("frank_wolfe", kind) for kind in (np.int64, np.int16, np.uint16, np.bool_)]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A linear network on pixels of 0 to 255, trained on the digits."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x, y = torch.tensor(DIGITS.images * 15).float()[:, None], torch.tensor(DIGITS.target)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def wrapped(network: nn.Module) -> PyTorchClassifier:
    optimizer = torch.optim.SGD(network.parameters(), 1e-4)
    loss = nn.CrossEntropyLoss()
    return PyTorchClassifier(
        network, loss, (1, 8, 8), 10, optimizer=optimizer, clip_values=(0, 255)
    )


class TestIntegers:
    """Integers and bool are numbers in ``clip_values``: the result is that of the same numbers
    as floats.
    """

    @pytest.mark.parametrize(("name", "kind"), KINDS)
    def test_every_shell(self, name: str, kind: Any, network: nn.Module) -> None:
        x = (DIGITS.images[:6, None] * 15).round().astype(kind)
        classifier = wrapped(network)
        crafted = ATTACKS[name](classifier).generate(x, DIGITS.target[:6])
        assert crafted.dtype == np.float32
        expected = ATTACKS[name](classifier).generate(x.astype(np.float32), DIGITS.target[:6])
        assert np.array_equal(crafted, expected)
        assert (crafted != x).any()

    def test_mask_and_starting_points(self, network: nn.Module) -> None:
        x = (DIGITS.images[:6, None] * 15).astype(np.uint8)
        mask = np.zeros((1, 8, 8), np.uint8)
        mask[:, 2:6] = 1
        start = (DIGITS.images[10:16, None] * 15).astype(np.uint8)
        for options in ({"mask": mask}, {"mask": mask.astype(bool)}, {"x_adv_init": start}):
            given = ATTACKS["rays"](wrapped(network)).generate(x, DIGITS.target[:6], **options)
            floats = {key: value.astype(np.float32) for key, value in options.items()}
            expected = ATTACKS["rays"](wrapped(network)).generate(
                x.astype(np.float32), DIGITS.target[:6], **floats
            )
            assert np.array_equal(given, expected)

    def test_values_outside_the_box_are_still_refused(self, network: nn.Module) -> None:
        with pytest.raises(ValueError, match=r"x must lie in \[0, 255\]; got min=0, max=300"):
            ATTACKS["rays"](wrapped(network)).generate(
                np.full((2, 1, 8, 8), [[[[300]]], [[[0]]]]), np.zeros(2, int)
            )

    @pytest.mark.parametrize("kind", [np.uint8, np.int64])
    def test_trainers(self, kind: Any) -> None:
        x, y = (DIGITS.images[:40, None] * 15).round(), DIGITS.target[:40]
        weights = []
        for given in (x.astype(np.float32), x.astype(kind)):
            torch.manual_seed(0)
            classifier = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
            trainer = AdversarialTrainerWARPyTorch(classifier, eps=20.0, max_iter=1, fixed=6.0)
            trainer.fit(given, y, nb_epochs=1, batch_size=20)
            weights.append(classifier.model[1].weight)
        assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (
            torch.uint8,
            r"got torch.uint8; for 8-bit images pass x.float\(\) / 255 with clip_values=\(0, 1\)",
        ),
        (torch.int64, r"got torch.int64; pass x.float\(\), with clip_values in the same units"),
        (torch.int16, r"got torch.int16; pass x.float\(\), with"),
        (torch.bool, r"got torch.bool; pass x.float\(\), with"),
    ],
)
def test_the_core_speaks_of_255_only_to_bytes(
    kind: torch.dtype, wanted: str, network: nn.Module
) -> None:
    x = torch.ones(2, 1, 8, 8, dtype=kind)
    with pytest.raises(TypeError, match=wanted):
        pgd(network, x, torch.zeros(2, dtype=torch.int64), eps=0.1)
    with pytest.raises(TypeError, match=wanted):
        rays(network, x, torch.zeros(2, dtype=torch.int64))


FLAT = (DIGITS.data / 16).astype(np.float32)
NAMES = np.array(["one", "two", "three"])
MODELS: dict[str, Any] = {
    "forest": lambda: RandomForestClassifier(20, random_state=0),
    "logistic": lambda: LogisticRegression(max_iter=200),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
}


class TestClassesOfScikitLearn:
    """The scores of an estimator are in the order of ``classes_``, whatever the labels are
    called.
    """

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize(
        ("label", "shown"),
        [
            (lambda y: y % 3 + 1, r"\[1, 2, 3\]"),
            (lambda y: y % 3 * 2 - 2, r"\[-2, 0, 2\]"),
            (lambda y: NAMES[y % 3], r"\['one', 'three', 'two'\]"),
        ],
    )
    def test_labels_that_are_no_positions(self, name: str, label: Any, shown: str) -> None:
        y = label(DIGITS.target)
        model = MODELS[name]().fit(FLAT, y)
        # in this batch the largest label may be missing
        right = (model.predict(FLAT) == y).nonzero()[0][:8]
        attack = RayS(
            SklearnClassifier(model, clip_values=(0, 1)), eps=0.01, max_queries=20, verbose=False
        )
        x, labels = FLAT[right], y[right]
        for given in (labels, labels[:, None]):
            with pytest.raises(
                ValueError,
                match=rf"in the order of classes_ = {shown}: pass one-hot rows in this ord",
            ):
                attack.generate(x, given)
        with pytest.raises(ValueError, match="in the order of classes_"):
            ADBD(max_queries=20, verbose=False).evaluate(attack.estimator, x, labels)
        one_hot = (labels.reshape(-1, 1) == model.classes_).astype(float)
        with_labels = attack.run(x, one_hot)
        assert not bool(with_labels.already_adversarial.any())
        assert torch.equal(attack.run(x).x_adv, with_labels.x_adv)

    @pytest.mark.parametrize("kind", [np.int64, np.float32, np.bool_])
    def test_labels_that_are_positions(self, kind: Any) -> None:
        y = (DIGITS.target % 2).astype(kind)
        model = RandomForestClassifier(20, random_state=0).fit(FLAT, y)
        attack = RayS(
            SklearnClassifier(model, clip_values=(0, 1)), eps=0.01, max_queries=20, verbose=False
        )
        assert not bool(attack.run(FLAT[:8], y[:8]).already_adversarial.any())

    def test_targets_are_labels_too(self) -> None:
        y = DIGITS.target % 3 + 1
        model = LogisticRegression(max_iter=200).fit(FLAT, y)
        classifier = SklearnClassifier(model, clip_values=(0, 1))
        attack = FrankWolfe(
            classifier, eps=0.5, targeted=True, outputs="probabilities", verbose=False
        )
        target = y[:8] % 3 + 1
        with pytest.raises(ValueError, match=r"classes_ = \[1, 2, 3\]"):
            attack.generate(FLAT[:8], target)
        crafted = attack.generate(FLAT[:8], (target[:, None] == model.classes_).astype(float))
        assert (model.predict(crafted) == target).all()


class TestXGBoost:
    """ART reads the probability that a booster returns as a class index."""

    MESSAGE = "booster with objective '{}' to whole numbers, .* wrap an XGBClassifier instead of the Booster"

    @pytest.mark.parametrize(
        "objective", ["binary:logistic", "binary:logitraw", "reg:logistic", "reg:squarederror"]
    )
    def test_boosters_of_one_number(self, objective: str) -> None:
        xgboost = pytest.importorskip("xgboost")
        booster = xgboost.train(
            {"objective": objective}, xgboost.DMatrix(FLAT, label=DIGITS.target % 2), 3
        )
        classifier = XGBoostClassifier(booster, clip_values=(0, 1), nb_features=64, nb_classes=2)
        with pytest.raises(ValueError, match=self.MESSAGE.format(objective)):
            RayS(classifier, verbose=False)

    @pytest.mark.parametrize(
        ("objective", "classes"),
        [("multi:softprob", 10), ("multi:softmax", 10), ("binary:hinge", 2)],
    )
    def test_boosters_that_art_reads_right(self, objective: str, classes: int) -> None:
        xgboost = pytest.importorskip("xgboost")
        y = DIGITS.target % classes
        more = {} if classes == 2 else {"num_class": classes}
        booster = xgboost.train(
            {"objective": objective, **more}, xgboost.DMatrix(FLAT, label=y), 10
        )
        classifier = XGBoostClassifier(
            booster, clip_values=(0, 1), nb_features=64, nb_classes=classes
        )
        attack = RayS(classifier, eps=0.05, max_queries=20, verbose=False)
        assert float(attack.run(FLAT[:40], y[:40]).already_adversarial.double().mean()) <= 0.15

    def test_the_remedy(self) -> None:
        xgboost = pytest.importorskip("xgboost")
        y = DIGITS.target % 2
        classifier = XGBoostClassifier(
            xgboost.XGBClassifier(n_estimators=10).fit(FLAT, y),
            clip_values=(0, 1),
            nb_features=64,
            nb_classes=2,
        )
        attack = RayS(classifier, eps=0.05, max_queries=20, verbose=False)
        assert float(attack.run(FLAT[:40], y[:40]).already_adversarial.double().mean()) <= 0.05

    @pytest.mark.parametrize(
        ("objective", "classes", "fails"),
        [
            ("binary:logistic", 0, True),
            ("reg:squarederror", 0, True),
            ("reg:squarederror", 3, False),
            ("multi:softprob", 3, False),
        ],
    )
    def test_without_xgboost(
        self, objective: str, classes: int, fails: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stand-in with the part of the booster's interface that ART and the check read."""

        class Booster:
            def save_config(self) -> str:
                learner = {
                    "learner_train_param": {"objective": objective},
                    "learner_model_param": {"num_class": str(classes)},
                }
                return json.dumps({"learner": learner})

        module = types.ModuleType("xgboost")
        module.Booster, module.XGBClassifier = Booster, type("XGBClassifier", (), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "xgboost", module)
        classifier = XGBoostClassifier(
            Booster(), clip_values=(0, 1), nb_features=64, nb_classes=max(2, classes)
        )
        if fails:
            with pytest.raises(ValueError, match=self.MESSAGE.format(objective)):
                RayS(classifier, verbose=False)
        else:
            RayS(classifier, verbose=False)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 keeps float32")
def test_numpy_defences_fail_in_art_itself(network: nn.Module) -> None:
    """The trap that doctor and the page name; it is ART's own ``predict`` that fails."""
    defence = FeatureSqueezing(clip_values=(0, 255), bit_depth=4)
    classifier = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        clip_values=(0, 255),
        preprocessing_defences=defence,
    )
    with pytest.raises(RuntimeError, match="dtype"):
        classifier.predict(np.zeros((2, 1, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("version", "status"), [("1.26.4", "ok"), ("2.0.0", "info"), ("2.4.6", "info")]
)
def test_doctor_tells_of_numpy_defences(
    version: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: version if name == "numpy" else real(name))
    (finding,) = [
        one for one in doctor.diagnose() if one.name == "ART's numpy preprocessing defences"
    ]
    assert finding.status == status
    assert ("FeatureSqueezing" in finding.detail) == (status == "info")
