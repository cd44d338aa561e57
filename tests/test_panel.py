"""The panel: which settings reach which attack, arguments of attacks, and targets."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.core import attacks as core_attacks
from art_ext.core.attacks import registry
from art_ext.core.result import AttackResult
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset
from art_ext.evaluation import Attack, Settings, Watcher, evaluate, read_run
from art_ext.evaluation.analysis.table import to_text
from art_ext.evaluation.panel.attack import AttackRequest
from art_ext.evaluation.panel.members import find_attack, member_of
from art_ext.evaluation.panel.targets import choose_targets
from art_ext.evaluation.report import plots

EPS = 0.1
SETTINGS = Settings((EPS,), 300, "linf", True, "logits", (0.0, 1.0), 16, None, 3)
# those that need a generator are in test_limits_evaluation.py
NAMES = tuple(spec.name for spec in registry.specs() if not spec.resources)
BLACK_BOX = tuple(name for name in NAMES if registry.get(name).access in ("labels", "scores"))
HARD_LABEL = {"opt", "rays", "sign_opt"}
MINIMISING: dict[str, dict[str, Any]] = {
    "ead": {"num_steps": 30, "search_steps": 3, "initial_const": 0.5},
    "cw": {"num_steps": 30, "search_steps": 3, "initial_const": 0.5, "step_size": 0.05},
    "i_fgm": {"num_steps": 5},
    "zoo": {
        "num_steps": 9,
        "search_steps": 1,
        "initial_const": 3.0,
        "step_size": 0.1,
        "coordinates": 16,
    },
}  # enough to find an adversarial of most samples


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


def test_settings_are_recorded_unless_older_folders_mean_the_same_without_them() -> None:
    known = {
        "eps": (EPS,),
        "max_queries": 300,
        "norm": "linf",
        "stop_on_success": True,
        "outputs": "logits",
        "clip_values": (0.0, 1.0),
        "batch_size": 16,
        "device": None,
        "seed": 3,
        "targeted": None,
    }
    assert SETTINGS.recorded() == known
    later: dict[str, Any] = {"amp": True, "channels_last": True, "compile": True, "draws": 2}
    assert replace(SETTINGS, **later).recorded() == {**known, **later}


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", *digits)


def attack(
    name: str, model: Any, data: Dataset, settings: Settings = SETTINGS, **arguments: Any
) -> AttackResult:
    return find_attack(name, arguments).run(
        AttackRequest(model, data.x, data.y, settings.eps[-1], settings)
    )


class TestAttacks:
    def test_the_panel_is_what_the_core_has(self) -> None:
        members = [find_attack(name) for name in NAMES]
        assert [member.name for member in members] == list(NAMES)
        assert {one.name for one in members if one.nearest} == {*HARD_LABEL, *MINIMISING}
        assert {one.name for one in members if one.stops_early} == HARD_LABEL
        assert {one.name for one in members if one.bounded} == set(BLACK_BOX)

    @pytest.mark.parametrize("name", NAMES)
    def test_settings_reach_the_attack(
        self, name: str, linear_net: nn.Module, data: Dataset
    ) -> None:
        function, given = getattr(core_attacks, name), {}

        def spy(*samples: Any, **options: Any) -> AttackResult:
            given.update(options)
            result: AttackResult = function(*samples, **options)
            return result

        spy.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        spied = replace(registry.get(name), function=spy)
        member = member_of(spied, {"pad_rows": 0, **MINIMISING.get(name, {})})
        member.run(AttackRequest(linear_net, data.x[:4], data.y[:4], EPS, SETTINGS))
        shared = {
            "eps": EPS,
            "norm": "linf",
            "clip_values": (0.0, 1.0),
            "outputs": "logits",
            "batch_size": 16,
            "seed": 3,
        }
        assert {key: given[key] for key in shared} == shared
        assert given.get("max_queries") == (300 if name in BLACK_BOX else None)
        assert given.get("stop_on_success") == (True if name in HARD_LABEL else None)

    @pytest.mark.parametrize("name", NAMES)
    def test_finds_what_the_function_itself_finds(
        self, name: str, linear_net: nn.Module, data: Dataset
    ) -> None:
        quick = MINIMISING.get(name, {})
        options = {**quick, **({"max_queries": 300} if name in BLACK_BOX else {})}
        own = getattr(core_attacks, name)(
            linear_net, data.x, data.y, eps=EPS, norm="linf", seed=3, **options
        )
        found = attack(name, linear_net, data, **quick)
        assert torch.equal(found.success, own.success)
        assert torch.equal(found.queries, own.queries)
        assert torch.equal(found.gradients, own.gradients)
        assert (found.x_nearest is not None) == find_attack(name).nearest

    def test_a_budget_of_its_own(self, linear_net: nn.Module, data: Dataset) -> None:
        few = replace(SETTINGS, max_queries=5)
        assert int(attack("pgd", linear_net, data, few).queries.max()) > 5
        assert int(attack("pgd", linear_net, data, few, max_queries=7).queries.max()) == 7
        assert int(attack("nes", linear_net, data, few).queries.max()) <= 5
        assert int(attack("nes", linear_net, data, few, max_queries=60).queries.max()) > 5
        assert int(attack("cw", linear_net, data, few, max_queries=7).queries.max()) == 7

    @pytest.mark.parametrize(
        ("name", "key", "message"),
        [
            ("pgd", "steps", "pgd takes num_steps, step_size, .*; got 'steps'"),
            ("pgd", "eps", "pgd.eps cannot be given to the attack alone: use --eps"),
            ("hmcam", "seed", "use --seed"),
            ("rays", "stop_on_success", "use --stop-on-success"),
            ("frank_wolfe", "targets", "use --targeted"),
            ("rays", "targets", "use --targeted"),
            ("ead", "norm", "use --norm"),
            ("frank_wolfe", "callback", "frank_wolfe.callback is set by the evaluation itself"),
        ],
    )
    def test_arguments_it_does_not_take(self, name: str, key: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            find_attack(name, {key: 1})

    @pytest.mark.parametrize(
        ("name", "key", "value", "message"),
        [
            ("ead", "abort_early", "no", "ead.abort_early must be true or false, got 'no'"),
            ("zoo", "importance", "often", "zoo.importance must be true or false, got 'often'"),
            (
                "ead",
                "targets",
                "worst",
                "ead.targets must be 'best', the nearest of all wrong classes, got 'worst': a",
            ),
            (
                "zoo",
                "targets",
                3,
                "zoo.targets must be 'best', .* got 3: a random or a given class is for --targeted",
            ),
        ],
    )
    def test_values_it_would_take_for_something_else(
        self, name: str, key: str, value: object, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            find_attack(name, {key: value})


class TestMinimising:
    """EAD, C&W, I-FGM and ZOO: one search for all radii, and distances of their own."""

    @pytest.mark.parametrize("stop_on_success", [False, True])
    @pytest.mark.parametrize("name", MINIMISING)
    def test_one_search_serves_every_radius_whatever_stop_on_success_says(
        self, name: str, stop_on_success: bool, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        function, quick, calls = getattr(core_attacks, name), MINIMISING[name], []

        def counted(*samples: Any, **options: Any) -> AttackResult:
            calls.append((len(samples[1]), options["eps"]))
            result: AttackResult = function(*samples, **options)
            return result

        counted.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        counting = member_of(replace(registry.get(name), function=counted), quick)
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=(0.08, 0.15),
            attacks=(counting,),
            stop_on_success=stop_on_success,
            max_queries=300,
            chunk_size=25,
        )
        assert [call for call in calls if call[0]] == [(25, 0.15), (15, 0.15)]
        options = {
            **quick,
            "norm": "linf",
            "seed": 0,
            **({"max_queries": 300} if name == "zoo" else {}),
        }
        for row in outcome.rows:
            records = outcome.records.query("eps == @row.eps")
            own = function(linear_net, data.x, data.y, eps=row.eps, **options)
            for field in (
                "success",
                "queries_to_success",
                "queries",
                "gradients",
                "already_adversarial",
                "nearest_distance",
            ):
                assert np.array_equal(records[field], getattr(own, field).numpy()), field
            right = ~own.already_adversarial
            near = own.nearest_distance <= row.eps
            assert row.robust_accuracy == pytest.approx(float((right & ~near).double().mean()))
            found = right & own.nearest_distance.isfinite()
            assert row.mean_distance == pytest.approx(float(own.nearest_distance[found].mean()))
            assert row.median_distance == pytest.approx(np.median(own.nearest_distance[found]))
            assert row.left_out == int((right & ~found).sum())
            assert np.isnan(row.adbd), "no whole budget was spent on it"
        assert outcome.rows[0].success_rate < outcome.rows[1].success_rate

    @pytest.mark.parametrize("name", MINIMISING)
    def test_distortions_of_what_was_returned_stand_in_the_row_of_the_largest_radius(
        self, name: str, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=(0.08, 0.15),
            attacks=(name, "pgd", "rays"),
            attack_args={name: MINIMISING[name]},
            stop_on_success=False,
            max_queries=300,
        )
        more: dict[str, Any] = {"max_queries": 300} if name == "zoo" else {}
        own = getattr(core_attacks, name)(
            linear_net, data.x, data.y, eps=0.15, norm="linf", seed=0, **MINIMISING[name], **more
        )
        won = own.success & ~own.already_adversarial
        given = outcome.records.query("attack == @name and eps == 0.15")
        smaller = outcome.records.query("attack == @name and eps == 0.08")
        row = next(row for row in outcome.rows if row.attack == name and row.eps == 0.15)
        assert bool(won.any())
        for norm, lengths in own.distortions().items():
            assert np.array_equal(given[norm], lengths.float().numpy())
            assert smaller[norm].isna().all(), "x_adv answers to the largest radius"
            assert getattr(row, f"mean_{norm}") == pytest.approx(
                float(lengths[won].mean()), rel=1e-6
            )
        assert np.array_equal(given["distance"], own.distance.numpy())
        assert float(own.distance[won].mean()) > float(
            own.nearest_distance[won].mean()
        ) or name in ("i_fgm", "zoo")
        for other in outcome.rows:
            assert np.isnan(other.mean_l2) == (other is not row), (
                "of other radii and other kinds of attacks"
            )
        shown = to_text(outcome.rows)
        assert "| L0 |" in " ".join(shown.split())
        assert " L-inf " in shown
        assert f"{row.mean_l2:.3f}" in shown
        page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
        assert f"{row.mean_l1:,.3f}" in page
        kept = json.loads((tmp_path / "run" / "table.json").read_text(encoding="utf-8"))
        assert [one["mean_linf"] for one in kept if one["attack"] == name] == [
            None,
            pytest.approx(row.mean_linf),
        ]
        assert "mean_l0,mean_l1,mean_l2,mean_linf" in (tmp_path / "run" / "table.csv").read_text(
            encoding="utf-8"
        )

    def test_distances_are_measured_as_the_settings_say(
        self, linear_net: nn.Module, data: Dataset
    ) -> None:
        for norm, order in (("linf", torch.inf), ("l2", 2), ("l1", 1)):
            found = attack(
                "ead",
                linear_net,
                data,
                replace(SETTINGS, norm=norm, eps=(1.0,)),
                **MINIMISING["ead"],
            )
            assert found.x_nearest is not None
            assert found.nearest_distance is not None
            length = torch.linalg.vector_norm(
                (found.x_nearest - data.x).flatten(1).double(), ord=order, dim=1
            )
            fooled = found.nearest_distance.isfinite()
            assert torch.allclose(
                found.nearest_distance[fooled].double(), length[fooled], rtol=1e-6
            )
            assert (linear_net(found.x_nearest).argmax(dim=1) != data.y)[fooled].all()

    def test_what_the_records_charge(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        asked: dict[str, dict[str, Any]] = {
            "ead": {"num_steps": 7, "search_steps": 3, "abort_early": False},
            "cw": {"num_steps": 7, "search_steps": 3, "abort_early": False},
            "zoo": {"num_steps": 100, "search_steps": 1, "coordinates": 4, "abort_early": False},
        }
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=EPS,
            attacks=tuple(asked),
            attack_args=asked,
            max_queries=40,
        )
        right = outcome.records.query("not already_adversarial")
        columns = right.groupby("attack")[["queries", "gradients"]]
        charged = {name: set(rows.itertuples(index=False, name=None)) for name, rows in columns}
        assert charged == {
            "ead": {(1 + 3 * (2 * 7 - 1), 1 + 3 * (7 - 1))},
            "cw": {(1 + 3 * 7, 3 * 7)},
            # the fifth look, and no probes for which 40 would not do
            "zoo": {(1 + 4 * (1 + 2 * 4) + 1, 0)},
        }
        protocol = read_run(tmp_path / "run")["protocol"]  # type: ignore[index]
        assert "At most 40 queries per sample (zoo)." in protocol
        assert any(
            "minimise a distortion (ead, cw, zoo) end by their own schedule" in said
            for said in protocol
        )

    def test_only_rays_is_said_to_have_stopped_early(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        panel = {"attacks": ("rays", "i_fgm"), "max_queries": 60}
        (rays, i_fgm) = evaluate(linear_net, data, tmp_path / "run", eps=EPS, **panel).rows  # type: ignore[arg-type]
        assert (rays.left_out, i_fgm.left_out) == (None, 0)
        assert np.isnan(rays.mean_distance)
        assert i_fgm.mean_distance > 0
        said = read_run(tmp_path / "run")
        assert said is not None
        assert {name: found["stops_early"] for name, found in said["attacks"].items()} == {
            "rays": True,
            "i_fgm": False,
        }
        assert any(
            "A sample stops at its first success (rays)" in sentence
            for sentence in said["protocol"]
        )

    def test_towards_targets(self, tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
        quick = MINIMISING["ead"]
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=(0.1, 0.2),
            attacks=("ead",),
            attack_args={"ead": quick},
            targeted="random",
        )
        found = outcome.records.query("eps == 0.1")
        attacked = torch.tensor((found["clean_prediction"] == found["label"]).tolist())
        target = torch.tensor(found["target"].tolist())[attacked]
        own = core_attacks.ead(
            linear_net,
            data.x[attacked],
            target,
            eps=0.1,
            norm="linf",
            targeted=True,
            seed=0,
            **quick,
        )
        for field in ("nearest_distance", "success", "queries", "queries_to_success"):
            assert np.array_equal(
                found.loc[attacked.tolist(), field], getattr(own, field).numpy()
            ), field
        assert own.x_nearest is not None
        assert own.nearest_distance is not None
        reached = own.nearest_distance.isfinite()
        assert torch.equal(linear_net(own.x_nearest).argmax(dim=1)[reached], target[reached])
        assert outcome.rows[0].left_out == int((~reached).sum())
        assert not found.loc[(~attacked).tolist(), "success"].any()

    def test_the_nearest_of_all_wrong_classes(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        few = replace(data, x=data.x[:12], y=data.y[:12])
        asked = {"ead": {**MINIMISING["ead"], "targets": "best"}}
        told: list[tuple[float, float]] = []

        class Listener(Watcher):
            def progress(self, done: float, robust: float) -> None:
                told.append((done, robust))

        outcome = evaluate(
            linear_net,
            few,
            tmp_path / "run",
            eps=(0.08, 0.15),
            attacks=("ead",),
            attack_args=asked,
            watcher=Listener(),
        )
        assert told == [(12, pytest.approx(row.robust_accuracy)) for row in outcome.rows], (
            "nothing of single classes"
        )
        for row in outcome.rows:
            own = core_attacks.ead(
                linear_net, few.x, few.y, eps=row.eps, norm="linf", seed=0, **asked["ead"]
            )
            records = outcome.records.query("eps == @row.eps")
            for field in (
                "success",
                "queries_to_success",
                "queries",
                "nearest_distance",
                "already_adversarial",
            ):
                assert np.array_equal(records[field], getattr(own, field).numpy()), field
            assert row.clean_accuracy == pytest.approx(
                float((~own.already_adversarial).double().mean())
            )
        assert any(
            sentence.startswith("ead attacks all wrong classes of a sample, and again for each eps")
            for sentence in read_run(tmp_path / "run")["protocol"]  # type: ignore[index]
        )


class TestEvaluation:
    def test_arguments_are_recorded_and_said(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        asked = {"i_fgsm": {"num_steps": 3, "step_size": 0.05}}
        outcome = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=EPS,
            attacks=("rays", "i_fgsm"),
            attack_args=asked,
            max_queries=60,
        )
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["arguments"]["attack_args"] == asked
        assert said["attacks"]["i_fgsm"] == {
            "nearest": False,
            "stops_early": False,
            "minimises": False,
            "access": "gradients",
            "arguments": asked["i_fgsm"],
        }
        assert "i_fgsm runs with num_steps = 3, step_size = 0.05." in said["protocol"]
        steps = outcome.records.query("attack == 'i_fgsm' and not already_adversarial")
        assert set(steps["gradients"]) == {3}
        (rays, i_fgsm) = outcome.rows
        assert (rays.mean_gradients, i_fgsm.mean_gradients) == (0, 3)
        assert "gradients" in to_text(outcome.rows)
        assert "gradients" not in to_text([rays])
        assert "distance" not in to_text(outcome.rows), (
            "of no attack that stopped early or fills a ball"
        )
        page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
        assert "Mean gradients" in page

    def test_attacks_that_fill_a_ball_run_once_for_each_radius(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = evaluate(linear_net, data, tmp_path / "run", eps=(0.02, EPS), attacks=("fgsm",))
        for row in outcome.rows:
            own = core_attacks.fgsm(linear_net, data.x, data.y, eps=row.eps)
            assert row.robust_accuracy == pytest.approx(float((~own.success).double().mean()))
        assert outcome.rows[0].robust_accuracy > outcome.rows[1].robust_accuracy

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"attack_args": {"pgd": {"num_steps": 3}}},
                r"attack-args must name attacks of this run \(rays\), got 'pgd'",
            ),
            (
                {"attacks": ("pgd",), "attack_args": {"pgd": {"num_steps": "many"}}},
                "num_steps must be",
            ),
            (
                {"attacks": ("pgd",), "outputs": "labels"},
                "pgd needs gradients, and a model with outputs",
            ),
            (
                {"attacks": ("ead",), "attack_args": {"ead": {"beta": -1}}},
                "ead: beta must be .* got -1",
            ),
            (
                {"attacks": ("ead",), "attack_args": {"ead": {"decision_rule": "L0"}}},
                "ead: decision_rule must be one of 'EN', 'L1', 'L2', got 'L0'",
            ),
            (
                {"attacks": ("zoo",), "attack_args": {"zoo": {"resize": 32}}},
                "at most the image's 8, got 32",
            ),
            (
                {"attacks": ("i_fgm",), "attack_args": {"i_fgm": {"search": "random"}}},
                "i_fgm: search must be one of",
            ),
            (
                {"attacks": ("zoo",), "outputs": "labels"},
                "zoo needs scores, and a model with outputs",
            ),
            (
                {"attacks": ("cw",), "attack_args": {"cw": {"targets": "best"}}, "targeted": 3},
                "cw cannot be targeted: its argument targets chooses the classes",
            ),
            ({"targeted": "random"}, "rays cannot be targeted: the search needs a starting image"),
            (
                {"targeted": "previous", "attacks": ("pgd",)},
                "targeted must be random, least-likely, next or a class index",
            ),
            ({"targeted": -1, "attacks": ("pgd",)}, "targeted must be an integer >= 0"),
            (
                {"targeted": 10, "attacks": ("pgd",)},
                "targeted must be below 10, the number of classes",
            ),
            (
                {"targeted": "least-likely", "outputs": "labels", "attacks": ("pgd",)},
                "needs scores",
            ),
        ],
    )
    def test_refused_before_anything_is_written(
        self,
        tmp_path: Path,
        linear_net: nn.Module,
        data: Dataset,
        options: dict[str, Any],
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            evaluate(linear_net, data, tmp_path / "run", eps=EPS, **options)
        assert not (tmp_path / "run").exists()

    def test_an_attack_of_ones_own_says_that_it_can_be_targeted(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        own = replace(find_attack("fgsm"), name="own", no_targets=Attack.no_targets)
        with pytest.raises(ValueError, match="own cannot be targeted: it does not say that it can"):
            evaluate(linear_net, data, tmp_path / "run", eps=EPS, attacks=(own,), targeted=3)


class TestTargets:
    def test_random_ones_are_uniform_over_the_other_classes(self) -> None:
        ids = torch.arange(9000)
        y = ids % 10
        targets = choose_targets("random", y, ids, 0, 10, None)
        assert not bool((targets == y).any())
        counts = torch.bincount(targets[y == 4], minlength=10)
        assert counts[4] == 0
        others = counts[torch.arange(10) != 4].double()
        statistic = float(((others - 100) ** 2 / 100).sum())
        assert statistic < 26.1, "chi squared of 8 degrees of freedom, 0.1 %"

    def test_random_ones_depend_on_seed_and_sample_alone(self, data: Dataset) -> None:
        ids = fingerprint(data.x)
        targets = choose_targets("random", data.y, ids, 0, 10, None)
        order = torch.arange(len(data)).flip(0)
        assert torch.equal(
            choose_targets("random", data.y[order], ids[order], 0, 10, None), targets[order]
        )
        assert not torch.equal(choose_targets("random", data.y, ids, 1, 10, None), targets)

    def test_of_two_classes_it_is_the_other_one(self) -> None:
        y = torch.tensor([0, 1, 1])
        assert choose_targets("random", y, torch.arange(3), 0, 2, None).tolist() == [1, 0, 0]

    @pytest.mark.parametrize("rule", ["random", "least-likely", "next", 3])
    def test_shares_recomputed_from_the_records(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset, rule: str | int
    ) -> None:
        y = data.y.clone()
        y[:3] = (y[:3] + 1) % 10
        wrong = (linear_net(data.x).argmax(dim=1) != y).numpy()
        outcome = evaluate(
            linear_net,
            replace(data, y=y),
            tmp_path / "run",
            eps=0.3,
            attacks=("pgd",),
            targeted=rule,
            chunk_size=7,
        )
        (row,), found = outcome.rows, outcome.records
        target, label = found["target"].to_numpy(), found["label"].to_numpy()
        if rule == 3:
            assert (target == 3).all()
        elif rule == "least-likely":
            assert (target == linear_net(data.x).argmin(dim=1).numpy()).all()
        elif rule == "next":
            assert (target == (label + 1) % 10).all()
        attacked = ~wrong & (target != label)
        assert (found["clean_prediction"].to_numpy() != label).tolist() == wrong.tolist()
        assert (found["queries"].to_numpy() > 0).tolist() == attacked.tolist(), (
            "the others are asked nothing"
        )
        assert found["already_adversarial"].tolist() == wrong.tolist()
        own = core_attacks.pgd(
            linear_net,
            data.x[attacked],
            torch.tensor(target[attacked]),
            eps=0.3,
            targeted=True,
            seed=0,
        )
        success = found["success"].to_numpy()
        assert success[attacked].tolist() == own.success.tolist()
        assert not success[~attacked].any()
        assert row.clean_accuracy == pytest.approx(1 - wrong.mean())
        assert row.success_rate == pytest.approx(success.sum() / attacked.sum())
        assert row.robust_accuracy == pytest.approx((~wrong & ~success).mean())
        assert 0 < row.success_rate <= 1
        protocol = read_run(tmp_path / "run")["protocol"]  # type: ignore[index]
        assert any("did not drive to their target" in sentence for sentence in protocol)

    def test_nobody_to_attack(self, tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
        seven = replace(data, y=torch.full_like(data.y, 7))
        (row,) = evaluate(
            linear_net, seven, tmp_path / "run", eps=EPS, attacks=("fgsm",), targeted=7
        ).rows
        assert np.isnan(row.success_rate)
        assert (
            row.robust_accuracy
            == row.clean_accuracy
            == pytest.approx(float((linear_net(data.x).argmax(dim=1) == 7).double().mean()))
        )
        assert row.queries == 0

    def test_untargeted_records_say_so(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        found = evaluate(linear_net, data, tmp_path / "run", eps=EPS, attacks=("fgsm",)).records
        assert set(found["target"]) == {-1}
