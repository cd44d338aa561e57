"""Names of attacks, panels, data, recipes, arguments and norms: any case or spelling, and the
nearest for a typo.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext import attacks as art_shells
from art_ext import torchattacks as torch_shells
from art_ext import trainers as art_trainers
from art_ext.adapters.autoattack import run_autoattack
from art_ext.core import attacks
from art_ext.core.attacks import registry
from art_ext.core.checks import nearest, same_name
from art_ext.core.geometry import norm_name
from art_ext.core.keywords import checked_keywords
from art_ext.core.metrics import (
    all_or_nothing_success,
    diversity,
    local_lipschitz,
    perturbation_stability,
    transfer_success,
)
from art_ext.data import load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.adbd import ADBD
from art_ext.evaluation.panel.attack import Settings
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.panel.panels import Member, Panel, assign_arguments, find_panel
from art_ext.models import resolve_factory
from art_ext.training import RECIPES, TrainingOptions, measure_zeta, train
from art_ext.training.runs import resolve
from tests.toys import attack_on

SPELLINGS: dict[str, list[Any]] = {
    "linf": [
        "linf",
        "Linf",
        "LINF",
        "inf",
        "Inf",
        " linf ",
        "l_inf",
        "L-inf",
        np.inf,
        math.inf,
        np.float32(np.inf),
    ],
    "l2": ["l2", "L2", "2", 2, 2.0, np.int64(2), np.float64(2)],
    "l1": ["l1", "L1", "1", 1, 1.0, np.int32(1)],
}
ANY_NORM = [(spelling, name) for name, spellings in SPELLINGS.items() for spelling in spellings]
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(10, 64, generator=generator))

    def forward(self, rows: Tensor) -> Tensor:
        return rows.flatten(1) @ self.weight.T


@pytest.fixture(scope="module")
def classifier() -> PyTorchClassifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer=optimizer, clip_values=(0, 1)
    )


class TestNorms:
    @pytest.mark.parametrize(("spelling", "name"), ANY_NORM)
    def test_every_spelling(self, spelling: Any, name: str) -> None:
        assert norm_name(spelling) == name

    @pytest.mark.parametrize(
        "wrong", ["l3", "l0", "", "infl", "l22", "1inf", 3, 0, -1, -np.inf, np.nan, True, None, [2]]
    )
    def test_anything_else(self, wrong: Any) -> None:
        with pytest.raises(
            ValueError, match=r"norm must be one of 'linf', 'l2', 'l1', got .* are read too"
        ):
            norm_name(wrong)

    @pytest.mark.parametrize("name", attacks.__all__)
    def test_every_attack_of_the_core(self, name: str) -> None:
        attack, options = attack_on(name, X), {"eps": 0.3, "seed": 0}
        short = {
            "num_steps": 2,
            "max_queries": 30,
            "search_steps": 1,
            "num_transitions": 1,
            "init_steps": 2,
        }
        takes = inspect.signature(attack).parameters
        options |= {key: value for key, value in short.items() if key in takes}
        for norm, *others in (("l2", "L2", 2), ("linf", "Linf", np.inf), ("l1", "1", 1)):
            spellings = (norm, *others)
            if norm not in registry.get(name).norms:
                with pytest.raises(ValueError, match=rf"norm must be one of .*, got '{norm}'"):
                    attack(Linear(), X, norm=others[0], **options)
                continue
            results = [attack(Linear(), X, norm=spelling, **options) for spelling in spellings]
            assert [result.norm for result in results] == [norm] * 3
            for result in results[1:]:
                assert torch.equal(result.x_adv, results[0].x_adv)

    def test_metrics(self) -> None:
        spellings: list[Any] = ["l2", "L2", 2]
        found = [
            local_lipschitz(Linear(), X, eps=0.1, norm=norm, num_steps=2).values
            for norm in spellings
        ]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    def test_diversity(self) -> None:
        result = attacks.hmcam(Linear(), X, eps=0.1, num_transitions=2, num_steps=2, seed=0)
        first, *others = [diversity(result, norm=norm).distance for norm in ("l2", "L2", "2")]
        assert all(torch.equal(first, other) for other in others)
        with pytest.raises(ValueError, match="norm must be one of"):
            diversity(result, norm="l3")

    def test_recipes(self) -> None:
        for spelling, name in ANY_NORM:
            assert RECIPES["pgd"](norm=spelling).norm == name  # type: ignore[attr-defined,call-arg]
        with pytest.raises(
            ValueError, match=r"the chain's steps are those of norm='linf', got 'l2'"
        ):
            RECIPES["atcd"](norm="L2")  # type: ignore[call-arg]

    @pytest.mark.parametrize(("spelling", "name"), ANY_NORM)
    def test_settings_of_an_evaluation(self, spelling: Any, name: str) -> None:
        settings = Settings((0.1,), 10, spelling, True, "logits", (0.0, 1.0), 8, None, 0)
        assert settings.norm == name

    def test_autoattack(self) -> None:
        options: dict[str, Any] = {"eps": 0.3, "version": "custom", "attacks": "apgd-ce"}
        options["adjust"] = {"apgd": {"n_iter": 2}}
        result = run_autoattack(Linear(), X, Linear()(X).argmax(1), norm=2, **options)  # type: ignore[arg-type]
        assert result.norm == "l2"

    @pytest.mark.parametrize("spelling", ["Linf", "inf", np.inf, "L2", "2", 2, 1, "L1"])
    def test_shells(self, spelling: Any, classifier: PyTorchClassifier) -> None:
        art = art_shells.FrankWolfe(
            classifier, norm=spelling, eps=0.1, max_iter=2, box="vertex", verbose=False
        )
        assert art.run(X.numpy()).norm == norm_name(spelling)
        torch_shell = torch_shells.RayS(classifier.model, norm=spelling, eps=0.1, max_queries=20)
        torch_shell(X, torch.zeros(3, dtype=torch.int64))
        assert torch_shell.last_result is not None
        assert torch_shell.last_result.norm == norm_name(spelling)
        assert torch_shell.norm == spelling
        measure = ADBD(norm=spelling, max_queries=20, verbose=False)
        measure.evaluate(classifier, X.numpy())
        assert measure.last_result is not None
        assert measure.last_result.norm == norm_name(spelling)
        trainer = art_trainers.AdversarialTrainerWARPyTorch(classifier, norm=spelling)
        assert trainer.recipe.settings()["norm"] == norm_name(spelling)


class TestArgumentNames:
    @pytest.mark.parametrize("name", attacks.__all__)
    def test_every_attack_names_itself_and_the_nearest(self, name: str) -> None:
        attack = getattr(attacks, name)
        for known in list(inspect.signature(attack).parameters)[3:]:
            wrong = known + "z"
            with pytest.raises(
                TypeError, match=rf"^{name}\(\) got an unexpected keyword argument '{wrong}'"
            ) as caught:
                attack(Linear(), X, **{"eps": 0.1, wrong: 1})
            assert str(caught.value).endswith(f"(did you mean '{known}'?)")

    @pytest.mark.parametrize("name", ["pgd", "m_pgd", "auto_pgd", "sign_gradient"])
    def test_restarts(self, name: str) -> None:
        with pytest.raises(
            TypeError, match=rf"^{name}\(\) got .*'num_restart' .did you mean 'num_restarts'"
        ):
            getattr(attacks, name)(Linear(), X, eps=0.1, num_restart=5)

    @pytest.mark.parametrize(
        ("name", "wrong", "meant"),
        [
            ("pgd", "max_iter", "num_steps"),
            ("pgd", "steps", "num_steps"),
            ("pgd", "alpha", "step_size"),
            ("pgd", "nb_random_init", "num_restarts"),
            ("frank_wolfe", "eps_step", "step_fraction"),
            ("cw", "kappa", "confidence"),
            ("cw", "lr", "step_size"),
            ("zoo", "variable_h", "h"),
            ("hmcam", "nb_samples", "num_transitions"),
        ],
    )
    def test_a_keyword_of_a_host_stands_for_the_one_of_the_same_meaning(
        self, name: str, wrong: str, meant: str
    ) -> None:
        with pytest.raises(TypeError, match=rf"'{wrong}' \(did you mean '{meant}'\?\)$"):
            getattr(attacks, name)(Linear(), X, eps=0.1, **{wrong: 3})

    @pytest.mark.parametrize("wrong", ["num_steps", "max_iter", "steps", "step_size", "kappa"])
    def test_without_a_keyword_of_that_meaning_nothing_is_suggested(self, wrong: str) -> None:
        with pytest.raises(TypeError, match=rf"'{wrong}': it takes model, x, y, eps,"):
            attacks.rays(Linear(), X, eps=0.1, **{wrong: 3})  # type: ignore[arg-type]

    def test_keywords_of_the_core_in_the_hosts(self, classifier: PyTorchClassifier) -> None:
        with pytest.raises(TypeError, match=r"'num_steps' \(did you mean 'max_iter'\?\)$"):
            art_shells.PGD(classifier, num_steps=10)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"'step_size' \(did you mean 'eps_step'\?\)$"):
            art_shells.PGD(classifier, step_size=0.1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"'max_iter' \(did you mean 'steps'\?\)$"):
            torch_shells.FW(Linear(), max_iter=10)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match=r"got 'max_iter' \(did you mean 'num_steps'\?\)$"):
            find_attack("pgd", {"max_iter": 3})

    def test_keywords_of_generate(self, classifier: PyTorchClassifier) -> None:
        attack = art_shells.PGD(classifier, eps=0.1, max_iter=1, verbose=False)
        x = X.numpy()
        for call in (attack.generate, attack.run):
            with pytest.raises(
                TypeError, match=r"^PGD\.generate\(\) got .*'masks' .did you mean 'mask'"
            ):
                call(x, None, masks=np.ones_like(x))
        with pytest.raises(TypeError, match=r"'qqqq': it takes mask$"):
            attack.generate(x, qqqq=3)

    def test_what_resembles_nothing_lists_everything(self) -> None:
        message = r"pgd\(\) got an unexpected keyword argument 'qqqqqq': it takes model, x, y, eps, norm, .*seed"
        with pytest.raises(TypeError, match=message):
            attacks.pgd(Linear(), X, eps=0.1, qqqqqq=5)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        ("function", "wrong", "known"),
        [
            (local_lipschitz, "num_step", "num_steps"),
            (perturbation_stability, "batchsize", "batch_size"),
            (transfer_success, "batchsize", "batch_size"),
            (all_or_nothing_success, "output", "outputs"),
            (diversity, "norms", "norm"),
            (run_autoattack, "versio", "version"),
            (evaluate, "attack", "attacks"),
        ],
    )
    def test_other_functions(self, function: Any, wrong: str, known: str) -> None:
        with pytest.raises(
            TypeError, match=rf"^{function.__name__}\(\) got .* '{wrong}' .did you mean '{known}'"
        ):
            function(Linear(), X, X, **{wrong: 3})

    @pytest.mark.parametrize("name", RECIPES)
    def test_recipes(self, name: str) -> None:
        kind = RECIPES[name]
        for known in inspect.signature(kind).parameters:
            with pytest.raises(
                TypeError, match=rf"^{kind.__name__}\(\) got .*'{known}z' .did you mean '{known}'"
            ):
                kind(**{f"{known}z": 1})

    @pytest.mark.parametrize(
        "name",
        [
            "RayS",
            "FrankWolfe",
            "FrankWolfeBlackBox",
            "HMCAM",
            "AIFGSM",
            "ElasticNetPyTorch",
            "ZooPyTorch",
        ],
    )
    def test_art_shells(self, name: str, classifier: PyTorchClassifier) -> None:
        kind = getattr(art_shells, name)
        with pytest.raises(
            TypeError, match=rf"^{name}\(\) got .*'batch_sise' .did you mean 'batch_size'"
        ):
            kind(classifier, batch_sise=3)
        assert "batch_size" in inspect.signature(kind).parameters
        assert set(kind.attack_params) >= {"batch_size", "verbose"}

    @pytest.mark.parametrize("name", ["RayS", "FW", "FWBlack", "HMCAM", "AIFGSM", "EAD", "ZOO"])
    def test_torchattacks_shells(self, name: str) -> None:
        kind = getattr(torch_shells, name)
        with pytest.raises(
            TypeError, match=rf"^{name}\(\) got .*'batch_sise' .did you mean 'batch_size'"
        ):
            kind(Linear(), batch_sise=3)
        assert "batch_size" in inspect.signature(kind).parameters

    @pytest.mark.parametrize("name", art_trainers.__all__)
    def test_art_trainers(self, name: str, classifier: PyTorchClassifier) -> None:
        kind = getattr(art_trainers, name)
        parameters = inspect.signature(kind).parameters
        known = next(one for one in ("eps", "temperature", "alpha") if one in parameters)
        wrong = f"{known[:-1]}z"
        with pytest.raises(
            TypeError, match=rf"^{name}\(\) got .*'{wrong}' .did you mean '{known}'"
        ):
            kind(classifier, **{wrong: 0.1})

    @pytest.mark.parametrize("function", [train, measure_zeta])
    def test_every_field_of_the_training_options_is_a_keyword(self, function: Any) -> None:
        shown = inspect.signature(function).parameters
        assert {one.name for one in dataclasses.fields(TrainingOptions)} <= set(shown)
        assert shown["schedule_args"].default == {}
        with pytest.raises(
            TypeError, match=rf"^{function.__name__}\(\) got .*did you mean 'schedule_args'"
        ):
            function(Linear(), (X, X), "natural", schedule_arg={})

    def test_a_function_of_any_keyword_stays_as_it_is(self) -> None:
        def function(**anything: int) -> int:
            return sum(anything.values())

        assert checked_keywords(function) is function

    def test_arguments_of_a_factory(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"got an unexpected keyword argument 'chanels' .did you mean 'channels'",
        ):
            resolve_factory("art_ext.models:mnist_two_conv", {"chanels": "(8, 16)"})

    @pytest.mark.parametrize(
        ("name", "arguments", "known"),
        [
            ("pgd", {"num_step": 3}, "num_steps"),
            ("rays", {"max_query": 3}, "max_queries"),
            ("torchattacks:PGD", {"step": 1}, "steps"),
            ("art:SquareAttack", {"maxiter": 1}, "max_iter"),
            ("autoattack", {"versio": "plus"}, "version"),
        ],
    )
    def test_arguments_of_a_panel(self, name: str, arguments: dict[str, Any], known: str) -> None:
        with pytest.raises(
            ValueError, match=rf"; got '{next(iter(arguments))}' .did you mean '{known}'"
        ):
            find_attack(name, arguments)


class TestNames:
    def test_nearest_ignores_case(self) -> None:
        assert nearest("PDG", ["pgd", "rays"]) == " (did you mean 'pgd'?)"
        assert nearest("rays", ["RayS"]) == " (did you mean 'RayS'?)"
        assert nearest("qqq", ["pgd", "rays"]) == ""
        assert (same_name("RAYS", ["rays"]), same_name("a", ["A", "a"]), same_name("x", ["a"])) == (
            "rays",
            "a",
            None,
        )

    @pytest.mark.parametrize(
        "name",
        [
            *(spec.name for spec in registry.specs() if not spec.resources),
            "autoattack",
            "torchattacks:PGD",
            "art:SquareAttack",
            "foolbox:LinfPGD",
        ],
    )
    def test_attacks_ignore_case(self, name: str) -> None:
        for given in (name.upper(), name.lower(), name.title()):
            assert find_attack(given).name == name

    @pytest.mark.parametrize(
        ("given", "known"),
        [
            ("ray", "rays"),
            ("PDG", "pgd"),
            ("frank-wolfe", "frank_wolfe"),
            ("auto-attack", "autoattack"),
            ("torchattack:PGD", "torchattacks"),
            ("torchattacks:PGDDD", "PGD"),
            ("foolbox:LinfPDG", "LinfPGD"),
        ],
    )
    def test_attacks(self, given: str, known: str) -> None:
        with pytest.raises(ValueError, match=rf"'{given}'.*did you mean '{known}'"):
            find_attack(given)

    def test_panels(self, tmp_path: Path) -> None:
        for given in ("Standard", "QUICK", "black-Box", "paper"):
            assert find_panel(given).name == given.lower()
        with pytest.raises(ValueError, match=r"got 'standart' .did you mean 'standard'"):
            find_panel("standart")
        file = tmp_path / "p.toml"
        file.write_text("[[attack]]\natack = 'pgd'\n")
        with pytest.raises(ValueError, match=r"got atack .did you mean 'attack'"):
            find_panel(file)
        file.write_text("[[attack]]\nattack = 'PGD'\narguments = { num_step = 3 }\n")
        with pytest.raises(
            ValueError, match=r"pgd takes .*got 'num_step' .did you mean 'num_steps'"
        ):
            find_panel(file).attacks()
        file.write_text("[[attack]]\nattack = 'PGD'\n[[attack]]\nattack = 'Rays'\nname = 'Mine'\n")
        assert [one.name for one in find_panel(file).attacks()] == ["pgd", "Mine"]

    def test_arguments_go_to_their_attack_in_any_case(self) -> None:
        assert assign_arguments(
            {"PGD": {"a": 1}, "pgd": {"b": 2}}, {"Pgd": "pgd", "rays": "rays"}
        ) == {"Pgd": {"a": 1, "b": 2}, "rays": {}}
        (attack,) = Panel("x", "cascade", (Member("pgd"),)).attacks({"PGD": {"num_steps": 3}})
        assert dict(attack.arguments) == {"num_steps": 3}
        with pytest.raises(
            ValueError, match=r"attacks of this run \(pgd\), got 'pdg' .did you mean 'pgd'"
        ):
            Panel("x", "cascade", (Member("pgd"),)).attacks({"pdg": {"num_steps": 3}})

    def test_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert torch.equal(load_data("Digits").x, load_data("digits").x)
        assert load_data("DIGITS").name == "digits"
        for given, known in (("digit", "digits"), ("MNST", "mnist"), ("cifar-10", "cifar10")):
            with pytest.raises(ValueError, match=rf"got '{given}' .did you mean '{known}'"):
                load_data(given)
        monkeypatch.chdir(tmp_path)
        np.savez(tmp_path / "Digits", x=np.zeros((2, 3), np.float32), y=np.zeros(2, int))
        (tmp_path / "Digits.npz").rename(tmp_path / "DIGITS")
        with pytest.raises(ValueError, match=r"a data file must be .npz or .npy, got 'DIGITS'"):
            load_data("DIGITS")  # a path that exists, and is not exactly a name, stays a path
        (tmp_path / "digits").mkdir()
        assert load_data("digits").name == "digits"

    def test_data_of_a_training_run(self) -> None:
        configuration = resolve({"recipe": "pgd", "data": "Digits"})
        assert configuration.data == "digits"
        assert configuration.model == "digits-cnn"

    @pytest.mark.parametrize("spelling", ["Linf", "inf", "linf"])
    def test_the_radius_of_the_data_serves_every_spelling_of_linf(self, spelling: str) -> None:
        configuration = resolve(
            {"recipe": "pgd", "data": "digits", "recipe_args": {"norm": spelling}}
        )
        assert configuration.eps == resolve({"recipe": "pgd", "data": "digits"}).eps
        with pytest.raises(
            ValueError, match=r"eps must be given for .* norms other than linf, got .* l2"
        ):
            resolve({"recipe": "pgd", "data": "digits", "recipe_args": {"norm": 2}})
