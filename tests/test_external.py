"""Attacks of torchattacks and ART in an evaluation: what is asked, counted, checked, and
refused.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import random
import re
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.external import Counted
from art_ext.core.attacks.registry import spec_of
from art_ext.core.result import AttackResult, Progress
from art_ext.evaluation import Attack, Settings
from art_ext.evaluation.panel import toolkits
from art_ext.evaluation.panel.attack import AttackRequest
from art_ext.evaluation.panel.external import function_member
from art_ext.evaluation.panel.members import find_attack

EPS = 0.05
SETTINGS = Settings((EPS,), 60, "linf", False, "logits", (0.0, 1.0), 16, None, 0)


@pytest.fixture(autouse=True)
def torchattacks() -> ModuleType:
    return pytest.importorskip("torchattacks", reason="torchattacks is not installed")


class Calls:
    """Rows that a model was asked, counted by a hook of its own."""

    def __init__(self, model: nn.Module) -> None:
        self.forwards: list[int] = []
        model.register_forward_hook(
            lambda module, inputs, outputs: self.forwards.append(len(inputs[0]))
        )


def attack(
    name: str, model: Any, x: Tensor, goal: Tensor, settings: Settings = SETTINGS, **arguments: Any
) -> AttackResult:
    return find_attack(name, arguments).run(
        AttackRequest(model, x, goal, settings.eps[-1], settings)
    )


def _streams() -> tuple[Any, ...]:
    """The states of the global random streams."""
    numpy: Any = np.random.get_state()  # noqa: NPY002 - what toolkits draw from
    return torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2:], random.getstate()


class Linear(nn.Module):
    """A copy of the linear model, to hang hooks on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = self.network(rows)
        return outputs


def check_outcome(found: AttackResult, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    """What is called a success fools the model, inside ball and box; all else is the input."""
    fooled = model(found.x_adv).argmax(dim=1) != y
    assert fooled.tolist() == found.success.tolist()
    assert float((found.x_adv.double() - x).abs().max()) <= eps + 1e-6
    assert 0 <= float(found.x_adv.min()) <= float(found.x_adv.max()) <= 1
    assert torch.equal(found.success, found.distance.isfinite())
    assert torch.equal(found.x_adv[~found.success], x[~found.success])


class TestCounting:
    def test_pgd_of_torchattacks(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        model = Linear(linear_net)
        calls = Calls(model)
        found = attack("torchattacks:PGD", model, digits[0], labels, alpha=0.01, steps=7)
        attacked = len(labels) - 3
        assert found.already_adversarial.tolist() == [True] * 3 + [False] * attacked
        assert found.queries.tolist() == [1] * 3 + [7 + 2] * attacked
        assert found.gradients.tolist() == [0] * 3 + [7] * attacked
        assert sum(calls.forwards) == int(found.queries.sum())
        assert max(calls.forwards) <= 16
        assert 3 < int(found.success.sum()) < len(labels)
        check_outcome(found, linear_net, digits[0], labels, EPS)

    def test_it_is_what_torchattacks_itself_does(
        self, torchattacks: ModuleType, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x = digits[0][:16]
        y = linear_net(x).argmax(dim=1)
        found = attack("torchattacks:PGD", linear_net, x, y, alpha=0.01, steps=7)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            own = torchattacks.PGD(Linear(linear_net), eps=EPS, alpha=0.01, steps=7)(x, y)
        assert torch.equal(found.x_adv[found.success], own[found.success])
        assert int(found.success.sum()) == int((linear_net(own).argmax(dim=1) != y).sum())

    def test_square_of_art_asks_scores_and_spreads_its_rows(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        model = Linear(linear_net)
        calls = Calls(model)
        found = attack(
            "art:SquareAttack", model, digits[0], labels, replace(SETTINGS, eps=(0.1,)), max_iter=20
        )
        assert sum(calls.forwards) == int(found.queries.sum())
        assert int(found.gradients.sum()) == 0
        for part in found.queries[3:].split(16):  # one call of the attack each
            assert int(part.max()) - int(part.min()) <= 1
        assert 3 < int(found.success.sum()) < len(labels)
        check_outcome(found, linear_net, digits[0], labels, 0.1)

    def test_pgd_of_art_takes_gradients(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        found = attack(
            "art:ProjectedGradientDescentPyTorch",
            linear_net,
            digits[0],
            labels,
            max_iter=5,
            eps_step=0.02,
        )
        assert (found.gradients[3:] == 5).all()
        check_outcome(found, linear_net, digits[0], labels, EPS)

    def test_every_backward_through_one_forward_counts(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        network = Counted(linear_net, "logits")
        rows = digits[0][:4].clone().requires_grad_(True)
        outputs = network(rows)
        for column in range(3):
            torch.autograd.grad(outputs[:, column].sum(), rows, retain_graph=True)
        with torch.no_grad():
            network(rows)
        assert (network.forwards, network.backwards) == (8, 12)


class TestOutcome:
    def test_what_leaves_the_ball_or_fools_nobody_is_no_success(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, y = digits[0], linear_net(digits[0]).argmax(dim=1)
        for moved in (x + 2 * EPS, x.clone(), torch.full_like(x, torch.nan), x - EPS):

            def craft(attack: Any, batch: Any, moved: Tensor = moved) -> Tensor:
                return moved[(x[:, None] == batch.x[None]).flatten(2).all(dim=2).nonzero()[:, 0]]

            monkeypatch.setattr(toolkits.Torchattacks, "craft", craft)
            found = attack("torchattacks:PGD", linear_net, x, y)
            allowed = (moved >= 0) & (moved <= 1) & ((moved.double() - x).abs() <= EPS + 1e-6)
            fooled = linear_net(moved).argmax(dim=1) != y
            assert found.success.tolist() == (allowed.flatten(1).all(dim=1) & fooled).tolist()
            assert (found.queries == 2).all(), "the clean check, and the check of the outcome"

    def test_towards_targets(self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
        x = digits[0]
        targets = (linear_net(x).argmax(dim=1) + 1) % 10
        targets[0] = (targets[0] - 1) % 10  # met already
        settings = replace(SETTINGS, eps=(0.3,), targeted="random")
        for name, steps in {
            "torchattacks:PGD": {"alpha": 0.05},
            "art:BasicIterativeMethod": {"eps_step": 0.05},
        }.items():
            found = attack(name, linear_net, x, targets, settings, **steps)
            assert found.already_adversarial.tolist() == [True] + [False] * (len(x) - 1)
            assert (
                linear_net(found.x_adv[found.success]).argmax(dim=1) == targets[found.success]
            ).all()
            assert found.success.sum() > len(x) / 2

    def test_probabilities_are_turned_into_logits(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x = digits[0]
        y = linear_net(x).argmax(dim=1)
        softmax = nn.Sequential(linear_net, nn.Softmax(dim=1))
        said = replace(SETTINGS, outputs="probabilities")
        logits = attack("torchattacks:PGD", linear_net, x, y, alpha=0.01)
        probabilities = attack("torchattacks:PGD", softmax, x, y, said, alpha=0.01)
        assert probabilities.success.tolist() == logits.success.tolist()


class TestHygiene:
    def test_global_random_streams_model_and_samples_stay_as_they_were(
        self,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        labels: Tensor,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        x = digits[0].clone()
        model = nn.Sequential(nn.Dropout(0.5), linear_net).train()
        model[1].eval()
        before = _streams()
        attack("torchattacks:PGD", model, x, labels)
        attack("torchattacks:Square", model, x, labels, n_queries=5)
        attack("art:SquareAttack", model, x, labels, max_iter=3)
        assert _streams() == before
        assert torch.equal(x, digits[0])
        assert [module.training for module in model] == [True, False]
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("name", ["torchattacks:PGD", "art:SquareAttack"])
    def test_depends_on_the_seed_and_on_nothing_else(
        self, name: str, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        other = replace(SETTINGS, seed=1 << 40)
        first = attack(name, linear_net, digits[0], labels)
        torch.rand(3)
        assert torch.equal(attack(name, linear_net, digits[0], labels).x_adv, first.x_adv)
        assert not torch.equal(
            attack(name, linear_net, digits[0], labels, other).x_adv, first.x_adv
        )

    def test_a_callable_that_is_no_module(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        wrapped = attack("torchattacks:PGD", lambda rows: linear_net(rows), digits[0], labels)
        assert torch.equal(
            wrapped.x_adv, attack("torchattacks:PGD", linear_net, digits[0], labels).x_adv
        )

    def test_tells_how_far_it_is(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        heard: list[Progress] = []
        find_attack("torchattacks:FGSM").run(
            AttackRequest(linear_net, digits[0], labels, EPS, SETTINGS, heard.append)
        )
        assert [len(progress.index) for progress in heard] == [40, 16, 16, 5]
        done = torch.cat([progress.index[progress.finished] for progress in heard])
        assert sorted(done.tolist()) == list(range(40))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("cleverhans:PGD", {}, "foolbox:CLASS or FILE.py:FUNCTION, got 'cleverhans:PGD'"),
            (
                "torchattacks:PDG",
                {},
                "no attack 'torchattacks:PDG' in torchattacks .did you mean 'PGD'",
            ),
            ("torchattacks:nn", {}, "no attack"),
            ("torchattacks:CW", {}, "takes no eps"),
            ("art:HopSkipJump", {}, "art:HopSkipJump takes no eps"),
            ("art:NoSuchAttack", {}, "no attack 'art:NoSuchAttack' in art.attacks.evasion"),
            ("torchattacks:PGD", {"step": 1}, "takes alpha, steps, random_start; got 'step'"),
            ("torchattacks:PGD", {"eps": 1}, "torchattacks:PGD.eps cannot be given .*: use --eps"),
            ("torchattacks:APGD", {"seed": 1}, "use --seed"),
            ("art:SquareAttack", {"batch_size": 1}, "use --batch-size"),
            ("art:SquareAttack", {"estimator": 1}, "is set by the evaluation itself"),
        ],
    )
    def test_before_anything_is_made(
        self, name: str, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            find_attack(name, arguments)

    @pytest.mark.parametrize(
        ("name", "arguments", "settings", "message"),
        [
            (
                "torchattacks:PGD",
                {},
                {"norm": "l2"},
                "fills a ball of norm='linf' only, got norm='l2'",
            ),
            ("torchattacks:PGDL2", {}, {}, "fills a ball of norm='l2' only"),
            (
                "torchattacks:PGD",
                {},
                {"clip_values": (0.0, 2.0)},
                r"knows no box but clip_values=\(0, 1\)",
            ),
            (
                "torchattacks:PGD",
                {},
                {"outputs": "labels"},
                "PGD needs gradients.*: run opt or rays or sign_opt",
            ),
            (
                "art:SquareAttack",
                {},
                {"outputs": "labels"},
                "SquareAttack needs scores.*: run opt or rays or sign_opt",
            ),
            (
                "art:BasicIterativeMethod",
                {"eps_step": -1},
                {},
                "art:BasicIterativeMethod fails: ValueError: .*eps_step",
            ),
            ("art:SquareAttack", {}, {"targeted": "random"}, "has no parameter 'targeted'"),
            (
                "torchattacks:AutoAttack",
                {},
                {"targeted": "random"},
                "Targeted mode is not supported",
            ),
        ],
    )
    def test_before_the_model_is_asked(
        self,
        name: str,
        arguments: dict[str, Any],
        settings: dict[str, Any],
        message: str,
        digits: tuple[Tensor, Tensor],
    ) -> None:
        member = find_attack(name, arguments)
        with pytest.raises(ValueError, match=message):
            member.check(lambda rows: pytest.fail("asked"), *digits, replace(SETTINGS, **settings))

    def test_an_attack_that_fails_is_named(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        flat = digits[0].flatten(1)
        with pytest.raises(
            ValueError, match="art:SquareAttack fails: ValueError: Unrecognized input dimension"
        ):
            attack("art:SquareAttack", linear_net[1], flat, digits[1])  # type: ignore[index]

    def test_a_toolkit_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toolkits, "find_spec", lambda name: None)
        with pytest.raises(
            ImportError,
            match=r"torchattacks is not installed: pip install 'art-ext\[torchattacks\]'",
        ):
            find_attack("torchattacks:PGD")

    def test_a_toolkit_that_cannot_be_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(name: str) -> Callable[..., None]:
            raise RuntimeError("operator torchvision::nms does not exist")

        monkeypatch.setattr(toolkits.importlib, "import_module", broken)
        with pytest.raises(
            ImportError, match=r"cannot be imported \(`art-ext doctor` says more\): operator"
        ):
            find_attack("torchattacks:PGD")


def runnable(toolkit: str) -> list[Attack]:
    """Return the classes of a toolkit that can be members of a panel."""
    pytest.importorskip(toolkit, reason=f"{toolkit} is not installed")
    kind = toolkits.TOOLKITS[toolkit]
    members = []
    for name, value in vars(importlib.import_module(kind.module)).items():
        if inspect.isclass(value):
            with contextlib.suppress(ValueError):  # a class without eps, or no attack
                members.append(find_attack(f"{toolkit}:{name}"))
    return members


@pytest.mark.parametrize(
    ("toolkit", "least", "unknown"),
    [
        ("torchattacks", 20, r"SPSA|Square"),
        (
            "art",
            12,
            r"(Targeted)?UniversalPerturbation|VirtualAdversarialMethod|SquareAttack|SNAL"
            r"|OverloadPyTorch|ImperceptibleASRPyTorch",
        ),
        (
            "foolbox",
            30,
            r".*(Noise|ContrastReduction|Inversion|GaussianBlur|Dataset|Boundary|HopSkipJump|Gen"
            r"|Pointwise|BinarizationRefinement)Attack",
        ),
    ],
)
def test_the_access_of_a_class_is_that_of_its_source(
    toolkit: str, least: int, unknown: str
) -> None:
    members = runnable(toolkit)
    needing = {member.name for member in members if member.access == "gradients"}
    assert len(needing) >= least
    others = {member.name.partition(":")[2] for member in members if member.name not in needing}
    assert others
    assert all(re.fullmatch(unknown, name) for name in others), others
    assert not any(re.fullmatch(unknown, name.partition(":")[2]) for name in needing), needing


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torchattacks:FGSM", {}),
        ("torchattacks:Square", {"n_queries": 5}),
        ("torchattacks:SPSA", {"nb_iter": 1}),
        ("art:FastGradientMethod", {}),
        ("art:SquareAttack", {"max_iter": 5}),
        ("foolbox:LinfPGD", {"steps": 2}),
        ("foolbox:L2CarliniWagnerAttack", {"steps": 2, "binary_search_steps": 1}),
        ("foolbox:L2RepeatedAdditiveUniformNoiseAttack", {"repeats": 3}),
    ],
)
def test_the_access_of_a_class_is_what_it_asks_for(
    name: str,
    arguments: dict[str, Any],
    linear_net: nn.Module,
    digits: tuple[Tensor, Tensor],
    labels: Tensor,
) -> None:
    toolkit = name.partition(":")[0]
    pytest.importorskip(toolkit, reason=f"{toolkit} is not installed")
    settings = replace(SETTINGS, norm="l2") if ":L2" in name else SETTINGS
    member = find_attack(name, arguments)
    found = attack(name, linear_net, digits[0][:8], labels[:8], settings, **arguments)
    assert (member.access == "gradients") == bool(found.gradients.any())


def test_the_access_of_autoattack_is_that_of_its_parts() -> None:
    pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    for parts, access in (("square", "scores"), ("square,apgd-ce", "gradients")):
        member = find_attack("autoattack", {"version": "custom", "attacks": parts})
        assert member.access == access
    assert find_attack("autoattack").access == "gradients"


def test_an_attack_that_leaves_the_mode_of_training_is_checked_in_eval_mode(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    modes = []

    class Noting(Linear):
        def forward(self, rows: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(rows)

    def careless(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
        model.train()
        return x

    x, y = digits[0][:4], digits[1][:4]
    member = function_member(spec_of(careless), {})
    member.run(AttackRequest(Noting(linear_net), x, y, EPS, SETTINGS))
    assert len(modes) >= 2, "the clean check and the check of the outcome"
    assert not any(modes)
