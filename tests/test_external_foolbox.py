"""foolbox's attacks and AutoAttack as members of a panel: what is asked, counted, checked, and
refused.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.autoattack import AutoAttackResult, run_autoattack
from art_ext.core.geometry import distances
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import Settings, evaluate
from art_ext.evaluation.panel.attack import AttackRequest
from art_ext.evaluation.panel.external import external_attack
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.report import plots

SETTINGS = Settings((0.06,), 60, "linf", False, "logits", (0.0, 1.0), 16, None, 0)
RADII = {"linf": 0.08, "l2": 0.5, "l1": 2.0}


@pytest.fixture
def foolbox() -> ModuleType:
    return pytest.importorskip("foolbox", reason="foolbox is not installed")


class Rows(nn.Module):
    """A model that counts its rows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += len(x)
        outputs: Tensor = self.network(x)
        return outputs


def attack(
    name: str, model: Any, x: Tensor, goal: Tensor, settings: Settings = SETTINGS, **arguments: Any
) -> AttackResult:
    return external_attack(name, arguments).run(
        AttackRequest(model, x, goal, settings.eps[-1], settings)
    )


def within(norm: str) -> Settings:
    return replace(SETTINGS, norm=norm, eps=(RADII[norm],))


@pytest.mark.usefixtures("foolbox")
class TestFoolbox:
    @pytest.mark.parametrize(
        ("name", "norm", "arguments"),
        [
            ("LinfPGD", "linf", {"steps": 7}),
            ("L1FastGradientAttack", "l1", {}),
            ("DDNAttack", "l2", {"steps": 10}),
            ("EADAttack", "l1", {"steps": 10, "binary_search_steps": 3}),
            ("L2CarliniWagnerAttack", "l2", {"steps": 10, "binary_search_steps": 2}),
            ("LInfFMNAttack", "linf", {"steps": 10}),
            ("LinearSearchBlendedUniformNoiseAttack", "l2", {"steps": 10}),
        ],
    )
    def test_both_kinds_are_counted_and_checked_by_us(
        self,
        name: str,
        norm: str,
        arguments: dict[str, Any],
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        labels: Tensor,
    ) -> None:
        x = digits[0]
        model = Rows(linear_net)
        found = attack(f"foolbox:{name}", model, x, labels, within(norm), **arguments)
        assert found.already_adversarial.tolist() == [True] * 3 + [False] * (len(x) - 3)
        assert model.count == int(found.queries.sum())
        assert (found.queries[3:] > 2).all()
        assert (found.gradients[3:] > 0).tolist() == [
            name != "LinearSearchBlendedUniformNoiseAttack"
        ] * (len(x) - 3)
        assert found.success.tolist() == (linear_net(found.x_adv).argmax(dim=1) != labels).tolist()
        length = distances(found.x_adv, x, norm)
        assert float(length.max()) <= RADII[norm] + 1e-6
        assert torch.equal(found.success, found.distance.isfinite())
        assert torch.equal(found.x_adv[~found.success], x[~found.success])

    @pytest.mark.parametrize(
        ("name", "minimises"),
        [
            ("DDNAttack", True),
            ("LInfFMNAttack", True),
            ("L2CarliniWagnerAttack", True),
            ("LinfPGD", False),
            ("L1FastGradientAttack", False),
        ],
    )
    def test_minimum_norm_attacks_are_known(self, name: str, minimises: bool) -> None:
        assert external_attack(f"foolbox:{name}", {}).minimises == minimises

    def test_the_distortions_of_a_minimum_norm_attack_are_shown(
        self,
        tmp_path: Path,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(plots, "draw", lambda loaded: [])
        data = Dataset("digits", digits[0], digits[1])
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=(0.5, 1.5),
            norm="l2",
            attacks=("foolbox:DDNAttack", "pgd"),
            attack_args={
                "foolbox:DDNAttack": {"steps": 20},
                "pgd": {"num_steps": 3, "step_size": 0.5},
            },
        )
        shown = {(row.attack, row.eps): row.mean_l2 for row in outcome.rows}
        won = outcome.records.query("attack == 'foolbox:DDNAttack' and eps == 1.5 and success")
        won = won[~won["already_adversarial"]]
        assert shown["foolbox:DDNAttack", 1.5] == pytest.approx(won["l2"].mean(), rel=1e-6)
        assert (won["l2"] <= 1.5 + 1e-6).all()
        assert {key for key, mean in shown.items() if not math.isnan(mean)} == {
            ("foolbox:DDNAttack", 1.5)
        }

    def test_it_is_what_foolbox_itself_does(
        self, foolbox: Any, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
    ) -> None:
        x = digits[0][:16]
        y = linear_net(x).argmax(dim=1)
        found = attack("foolbox:LinfPGD", linear_net, x, y, replace(SETTINGS, eps=(0.12,)), steps=7)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = foolbox.PyTorchModel(Rows(linear_net).eval(), bounds=(0, 1), device="cpu")
            _, own, fooled = foolbox.attacks.LinfPGD(steps=7)(model, x, y, epsilons=0.12)
        assert found.success.tolist() == fooled.tolist()
        assert 0 < int(found.success.sum()) < 16
        assert torch.equal(found.x_adv[found.success], own[found.success])

    def test_the_black_image_of_a_failed_search_is_no_success(
        self, foolbox: Any, digits: tuple[Tensor, Tensor]
    ) -> None:
        x = digits[0][:16]

        class FoolsInTheDark(nn.Module):
            """Class 1 for black images, class 0 for all else."""

            def forward(self, rows: Tensor) -> Tensor:
                light = rows.flatten(1).sum(dim=1, keepdim=True)
                return torch.cat([light - 0.5, 0.5 - light], dim=1)

        y = torch.zeros(16, dtype=torch.int64)
        options = {"steps": 5, "binary_search_steps": 1, "initial_const": 1e-6}
        model = foolbox.PyTorchModel(FoolsInTheDark().eval(), bounds=(0, 1), device="cpu")
        raw, _, theirs = foolbox.attacks.EADAttack(**options)(model, x, y, epsilons=None)
        assert bool((raw == 0).all()), "otherwise there is no trap to fall into"
        assert bool(theirs.all())
        found = attack("foolbox:EADAttack", FoolsInTheDark(), x, y, within("l1"), **options)
        assert not bool(found.success.any())
        assert torch.equal(found.x_adv, x)

    def test_towards_targets(self, linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
        x = digits[0]
        targets = (linear_net(x).argmax(dim=1) + 1) % 10
        settings = replace(SETTINGS, eps=(0.3,), targeted="random")
        found = attack("foolbox:LinfPGD", linear_net, x, targets, settings)
        assert (
            linear_net(found.x_adv[found.success]).argmax(dim=1) == targets[found.success]
        ).all()
        assert found.success.sum() > len(x) / 2
        with pytest.raises(
            ValueError, match="foolbox:NewtonFoolAttack fails: ValueError: unsupported criterion"
        ):
            attack("foolbox:NewtonFoolAttack", linear_net, x, targets, replace(settings, norm="l2"))

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            (
                "foolbox:LinfPDG",
                {},
                "no attack 'foolbox:LinfPDG' in foolbox.attacks .did you mean 'LinfPGD'",
            ),
            ("foolbox:Attack", {}, "no attack"),
            ("foolbox:SpatialAttack", {}, "foolbox:SpatialAttack takes no eps"),
            (
                "foolbox:LinfPGD",
                {"step": 1},
                "takes rel_stepsize, abs_stepsize, steps, random_start; got 'step'",
            ),
        ],
    )
    def test_refused_when_named(self, name: str, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            external_attack(name, arguments)

    @pytest.mark.parametrize(
        ("name", "norm", "message"),
        [
            ("LinfPGD", "l2", "fills a ball of norm='linf' only, got norm='l2'"),
            ("EADAttack", "linf", "fills a ball of norm='l1' only"),
            ("L2AdditiveGaussianNoiseAttack", "linf", "fills a ball of norm='l2' only"),
            ("L0FMNAttack", "l2", "fills a ball of norm='l0' only"),
            ("HopSkipJumpAttack", "l1", "fills a ball of norm='linf or l2' only, got norm='l1'"),
        ],
    )
    def test_refused_before_the_model_is_asked(
        self, name: str, norm: str, message: str, digits: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            external_attack(f"foolbox:{name}", {}).check(
                lambda rows: pytest.fail("asked"), *digits, within(norm)
            )

    def test_a_norm_that_an_object_chooses_is_the_one_asked_for(
        self, digits: tuple[Tensor, Tensor]
    ) -> None:
        for norm in ("linf", "l2"):
            external_attack("foolbox:HopSkipJumpAttack", {}).check(
                lambda rows: rows, *digits, within(norm)
            )
        for norm in RADII:
            external_attack("foolbox:InversionAttack", {}).check(
                lambda rows: rows, *digits, within(norm)
            )


class TestAutoAttack:
    SMALL = {"apgd": {"n_iter": 6, "n_restarts": 1}, "square": {"n_queries": 30}}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def pyautoattack(self) -> None:
        pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")

    def test_is_run_autoattack_with_the_settings(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        x = digits[0]
        given: dict[str, Any] = {
            "version": "custom",
            "attacks": ("apgd-ce", "square"),
            "adjust": self.SMALL,
        }
        found = attack("autoattack", linear_net, x, labels, replace(SETTINGS, seed=4), **given)
        own = run_autoattack(linear_net, x, labels, eps=0.06, seed=4, batch_size=16, **given)
        assert isinstance(found, AutoAttackResult)
        assert torch.equal(found.x_adv, own.x_adv)
        assert (found.flags, found.accuracies) == (own.flags, own.accuracies)
        assert torch.equal(found.queries, own.queries)

    def test_its_flags_travel(
        self, linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
    ) -> None:
        softmax = nn.Sequential(linear_net, nn.Softmax(dim=1))
        given: dict[str, Any] = {"version": "custom", "attacks": "apgd-ce", "adjust": self.SMALL}
        found: Any = attack("autoattack", softmax, digits[0], labels, **given)
        assert "probabilities" in [flag.name for flag in found.flags if flag.raised]
        said = replace(SETTINGS, outputs="probabilities")
        found = attack("autoattack", softmax, digits[0], labels, said, **given)
        assert not any(flag.raised for flag in found.flags)

    def test_the_panel_finds_it(self) -> None:
        member = find_attack("autoattack", {"version": "rand"})
        assert (member.name, member.nearest, member.bounded) == ("autoattack", False, False)

    @pytest.mark.parametrize(
        ("arguments", "settings", "message"),
        [
            ({"version": "fast"}, {}, "autoattack: version must be one of"),
            ({"version": "custom"}, {}, "autoattack: attacks must be given"),
            (
                {"adjust": {"apgd": {"steps": 3}}},
                {},
                "autoattack: adjust must hold numbers that the attack has",
            ),
            (
                {},
                {"clip_values": (0.0, 2.0)},
                r"autoattack: AutoAttack knows no box but clip_values=\(0, 1\)",
            ),
            (
                {},
                {"outputs": "labels"},
                "autoattack needs gradients, and a model with outputs='labels'",
            ),
            ({}, {"targeted": "random"}, "autoattack cannot be targeted"),
        ],
    )
    def test_refused_before_the_model_is_asked(
        self,
        arguments: dict[str, Any],
        settings: dict[str, Any],
        message: str,
        digits: tuple[Tensor, Tensor],
    ) -> None:
        member = external_attack("autoattack", arguments)
        with pytest.raises(ValueError, match=message):
            member.check(lambda rows: pytest.fail("asked"), *digits, replace(SETTINGS, **settings))

    def test_arguments_that_it_does_not_take(self) -> None:
        with pytest.raises(
            ValueError, match="autoattack takes version, attacks, adjust, backend; got 'state_dir'"
        ):
            external_attack("autoattack", {"state_dir": "here"})
