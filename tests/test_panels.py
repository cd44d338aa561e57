"""Panels: what is built in, what a TOML file may say, and what a cascade gives to whom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pyarrow import parquet
from torch import Tensor, nn

from art_ext.core import attacks as core_attacks
from art_ext.data import Dataset
from art_ext.evaluation import PANELS, Member, Panel, Watcher, evaluate, find_panel, read_run
from art_ext.evaluation.analysis.together import describe
from art_ext.evaluation.analysis.verdict import lines, table
from art_ext.evaluation.panel import panels
from art_ext.evaluation.panel.arguments import at_radius
from art_ext.evaluation.panel.panels import VERSIONS, resolve_panel

EPS = 0.08
SMALL = Panel(
    "small",
    "cascade",
    (
        Member("pgd", {"num_steps": 5}),
        Member("frank_wolfe", {"loss": "margin"}, "fw_margin"),
        Member("rays", {"max_queries": 80}),
    ),
)


pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", digits[0], digits[1])


def broken_at(records: pd.DataFrame, attack: str, eps: float) -> set[int]:
    """The positions of the samples that an attack broke at a radius."""
    rows = records[(records["attack"] == attack) & (records["eps"] == eps) & records["success"]]
    return set(rows.loc[~rows["already_adversarial"], "index"])


def given_to(records: pd.DataFrame, attack: str, eps: float) -> set[int]:
    rows = records[(records["attack"] == attack) & (records["eps"] == eps) & records["attacked"]]
    return set(rows["index"])


class TestBuiltIn:
    @pytest.mark.parametrize("name", PANELS)
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_every_panel_runs_in_every_norm(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset, name: str, norm: str
    ) -> None:
        few: dict[str, dict[str, Any]] = {
            "auto_pgd": {"num_steps": 3},
            "pgd": {"num_steps": 3},
            "hmcam": {"num_transitions": 2, "num_steps": 2},
            "ead": {"num_steps": 3, "search_steps": 1},
            "zoo": {"num_steps": 2, "search_steps": 1},
            "rays": {"max_queries": 20},
            "nes": {"max_queries": 60},
            "frank_wolfe_black_box": {"max_queries": 60},
            "autoattack": {"version": "custom", "attacks": "apgd-ce"},
        }
        panel = PANELS[name]
        members = [one for one in panel.members if norm in one.norms and not one.missing]
        quick: dict[str, dict[str, Any]] = {one.label: few.get(one.attack, {}) for one in members}
        outcome = evaluate(
            linear_net,
            data.first(12),
            tmp_path / "run",
            eps={"linf": 0.1, "l2": 0.5, "l1": 2.0}[norm],
            norm=norm,
            panel=name,
            attack_args=quick,
        )
        assert [row.attack for row in outcome.rows] == [one.label for one in members]
        assert all(row.robust_accuracy <= row.clean_accuracy for row in outcome.rows)
        told = read_run(tmp_path / "run")["panel"]  # type: ignore[index]
        changed = [one.label for one in members if one.attack in few]
        wanted = {"name": name, "version": panel.version, "mode": panel.mode}
        assert told == {**wanted, **({"changed": changed} if changed else {})}


class TestCascade:
    def test_each_attack_gets_what_those_before_it_left(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        radii = (0.04, EPS)
        records = evaluate(
            linear_net, data, tmp_path / "run", eps=radii, stop_on_success=True, panel=SMALL
        ).records
        right = set(records.loc[~records["already_adversarial"], "index"])
        fallen: dict[float, set[int]] = {eps: set() for eps in radii}
        for attack in ("pgd", "fw_margin", "rays"):
            for eps in radii:
                assert given_to(records, attack, eps) == right - fallen[eps], (attack, eps)
                for radius in radii:
                    # who is broken within a radius is so within every larger one
                    fallen[radius] |= broken_at(records, attack, eps) if eps <= radius else set()
        spared = records[~records["attacked"]]
        assert len(spared)
        assert not spared["success"].any()
        assert (spared[["queries", "gradients", "wasted_rows", "seconds"]] == 0).all(axis=None)

    def test_finds_what_the_attacks_find_alone(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        cascade = evaluate(linear_net, data, tmp_path / "cascade", eps=EPS, panel=SMALL)
        alone = evaluate(
            linear_net, data, tmp_path / "alone", eps=EPS, panel=SMALL, mode="independent"
        )
        both = [
            set().union(*(broken_at(outcome.records, one.label, EPS) for one in SMALL.members))
            for outcome in (cascade, alone)
        ]
        assert both[0] == both[1]
        assert len(both[0]) > 5
        last = cascade.rows[-1].robust_accuracy
        assert last == pytest.approx(cascade.rows[0].clean_accuracy - len(both[0]) / len(data))
        assert [row.attacked for row in alone.rows] == [40, 40, 40]

    def test_an_attack_is_told_its_members_arguments(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        records = evaluate(
            linear_net,
            data,
            tmp_path / "run",
            eps=EPS,
            panel=SMALL,
            mode="independent",
            attack_args={"rays": {"max_queries": 30}},
        ).records
        own = core_attacks.frank_wolfe(linear_net, data.x, data.y, eps=EPS, loss="margin", seed=0)
        rows = records[records["attack"] == "fw_margin"]
        assert rows["queries"].tolist() == own.queries.tolist()
        assert records.loc[records["attack"] == "rays", "queries"].max() == 30

    def test_targets_are_aimed_at_by_the_survivors_only(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        panel = Panel("aimed", "cascade", (Member("fgsm"), Member("pgd", {"num_steps": 5})))
        records = evaluate(
            linear_net, data, tmp_path / "run", eps=0.2, panel=panel, targeted=3
        ).records
        aimable = records[(records["label"] != 3) & ~records["already_adversarial"]]
        assert given_to(records, "fgsm", 0.2) == set(aimable["index"])
        assert given_to(records, "pgd", 0.2) == set(aimable["index"]) - broken_at(
            records, "fgsm", 0.2
        )

    def test_a_targeted_run_leaves_out_what_cannot_be_targeted(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        notes: list[str] = []
        watcher = Watcher()
        watcher.note = notes.append  # type: ignore[method-assign, assignment]
        options: dict[str, Any] = {"eps": EPS, "panel": "standard", "targeted": "next"}
        outcome = evaluate(linear_net, data, tmp_path / "run", watcher=watcher, **options)
        names = ["auto_pgd_probability", "auto_pgd_targeted", "auto_pgd_searched"]
        assert list(dict.fromkeys(outcome.records["attack"])) == names
        assert any("standard goes on without rays: it cannot be targeted" in one for one in notes)
        own = next(
            one for one in find_panel("standard").attacks(targeted=True) if one.name == names[1]
        )
        assert own.arguments == {"loss": "margin", "num_steps": 100}
        with pytest.raises(ValueError, match="panel lone has no attack that can be targeted"):
            Panel("lone", "cascade", (Member("rays"),)).attacks(targeted=True)


class TestFiles:
    def declare(self, tmp_path: Path, text: str) -> Path:
        file = tmp_path / "mine.toml"
        file.write_text(text, encoding="utf-8")
        return file

    def test_a_panel_of_ones_own(self, tmp_path: Path) -> None:
        panel = find_panel(
            self.declare(
                tmp_path,
                """
            mode = "independent"
            [[attack]]
            attack = "pgd"
            arguments = { step_size = "2/255", num_steps = 5 }
            [[attack]]
            name = "fw"
            attack = "frank_wolfe"
            arguments = { loss = "margin", box = "vertex" }
            [[attack]]
            attack = "rays"
        """,
            )
        )
        assert panel == Panel(
            "mine",
            "independent",
            (
                Member("pgd", {"step_size": 2 / 255, "num_steps": 5}),
                Member("frank_wolfe", {"loss": "margin", "box": "vertex"}, "fw"),
                Member("rays"),
            ),
        )
        assert [attack.name for attack in panel.attacks()] == ["pgd", "fw", "rays"]
        assert [attack.access for attack in panel.attacks()] == ["gradients", "gradients", "labels"]

    def test_a_cascade_unless_it_says_otherwise(self, tmp_path: Path) -> None:
        assert find_panel(self.declare(tmp_path, '[[attack]]\nattack = "fgsm"')).mode == "cascade"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("attack = 3", r"attacks must be listed as \[\[attack\]\] tables"),
            ("", r"attacks must be listed as \[\[attack\]\] tables"),
            ("[[attack]]\nname = 'x'", r"line 1: attack of an \[\[attack\]\] must be a text"),
            (
                "modus = 'x'\n[[attack]]\nattack = 'fgsm'",
                "line 1: wanted name, version, mode, draws, attack only, got modus",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\nsteps = 3",
                "line 3: wanted name, attack, arguments, norms, optional only, got steps",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\nnorms = 'l1'",
                "line 3: norms of fgsm must be a list of norms, got 'l1'",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\nnorms = ['l1', 'l3']",
                "line 3: norms must be one of 'linf', 'l2', 'l1', got 'l3'",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\nnorms = []",
                "line 3: norms of fgsm must hold at least one norm, got none",
            ),
            (
                "mode = 'both'\n[[attack]]\nattack = 'fgsm'",
                "mode must be one of 'cascade', 'independent', got 'both'",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\n[[attack]]\nattack = 'fgsm'",
                "each with a name of its own",
            ),
            (
                "[[attack]]\nattack = 'fgsm'\narguments = 3",
                "arguments of fgsm must be a table, got 3",
            ),
            ("= 3", "must be TOML, but reading it fails"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            find_panel(self.declare(tmp_path, text))

    def test_members_run_in_their_norms(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        panel = self.declare(
            tmp_path,
            """
            [[attack]]
            attack = "PGD"
            norms = ["linf"]
            [[attack]]
            attack = "fgsm"
            norms = ["linf", "l2"]
            arguments = { steps = 3 }
        """,
        )

        def ran(norm: str, **arguments: Any) -> list[str]:
            outcome = evaluate(
                linear_net,
                data.first(4),
                tmp_path / norm,
                eps=0.1,
                norm=norm,
                panel=panel,
                **arguments,
            )
            return [row.attack for row in outcome.rows]

        with pytest.raises(ValueError, match=r"mine.toml, line 8: fgsm takes .*got 'steps'"):
            ran("l2")
        panel.write_text(panel.read_text().replace("arguments = { steps = 3 }", ""))
        assert ran("linf") == ["pgd", "fgsm"]
        assert ran("l2") == ["fgsm"]
        with pytest.raises(ValueError, match="panel mine has no attack that runs in norm 'l1'"):
            ran("l1")
        with pytest.raises(ValueError, match=r"attacks of this run \(fgsm\), got 'pgd'"):
            ran("l2", attack_args={"pgd": {"num_steps": 3}})

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError,
            match="panel must be one of quick, standard, black-box, hard-label, adversarial-",
        ):
            find_panel("standart")
        with pytest.raises(ValueError, match=r"existing \.toml file"):
            find_panel(tmp_path / "nowhere.toml")


class TestAdversarialTraining:
    def test_the_step_is_a_fourth_of_each_radius(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        few = {"num_steps": 3, "stop_on_success": False}
        shares = dict.fromkeys(("pgd_20", "m_pgd_20", "cw_20"), few)
        few_rows: dict[str, Any] = {
            "autoattack": {"version": "custom", "attacks": "apgd-ce"},
            "rays": {"max_queries": 9},
        }
        if any(one.missing for one in PANELS["adversarial-training"].members):
            few_rows.pop("autoattack")
        arguments = {**shares, **few_rows}

        def records(name: str, eps: tuple[float, ...], given: Any) -> pd.DataFrame:
            outcome = evaluate(
                linear_net,
                data.first(6),
                tmp_path / name,
                eps=eps,
                panel="adversarial-training",
                attack_args=given,
            )
            return outcome.records.drop(columns="seconds").reset_index(drop=True)

        both = records("both", (0.08, 0.2), arguments)
        for eps in (0.08, 0.2):
            fixed = {name: {**few, "step_size": eps / 4} for name in shares}
            own = records(f"own{eps}", (eps,), {**fixed, **few_rows})
            found = both[both["eps"] == eps].reset_index(drop=True)
            ascents = own["attack"].isin(shares)
            assert ascents.sum() == 3 * 6
            pd.testing.assert_frame_equal(found[ascents], own[ascents])

    def test_it_goes_on_without_autoattack(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("art_ext.adapters.autoattack.package.find_spec", lambda name: None)
        panel = PANELS["adversarial-training"]
        assert panels.skipped(panel, "linf") == [
            "panel adversarial-training goes on without autoattack: neither autoattack nor"
            " pyautoattack found: pip install 'art-ext[robustbench]'"
        ]
        assert [one.name for one in panel.attacks()] == ["pgd_20", "m_pgd_20", "cw_20", "rays"]

    def test_a_share_without_a_number(self) -> None:
        with pytest.raises(ValueError, match="step_size must divide eps by a number > 0, got 'eps"):
            at_radius({"step_size": "eps/0"}, 0.1)
        given = {"step_size": "eps / 2.5", "loss": "ce", "num_steps": 3, "other": "eps"}
        wanted = {"step_size": 0.04, "loss": "ce", "num_steps": 3, "other": 0.1}
        assert at_radius(given, 0.1) == pytest.approx(wanted)


class TestVersions:
    def test_the_name_alone_means_the_newest(self) -> None:
        for name in PANELS:
            versions = [one for one in VERSIONS.values() if one.name == name]
            assert max(versions, key=lambda one: one.version) is PANELS[name] is find_panel(name)
        assert all(find_panel(name.upper()) is panel for name, panel in VERSIONS.items())

    def test_a_released_version_keeps_its_members(self) -> None:
        panel = VERSIONS["standard-2026.11"]
        assert panel.mode == "cascade"
        assert [(one.label, one.attack, dict(one.arguments)) for one in panel.members] == [
            ("auto_pgd_ce", "auto_pgd", {"loss": "ce", "num_steps": 100}),
            (
                "auto_pgd_targeted",
                "auto_pgd",
                {"num_targets": 9, "num_steps": 100, "target_ranking": "score"},
            ),
            ("frank_wolfe", "frank_wolfe", {"loss": "margin"}),
            ("rays", "rays", {"max_queries": 1500}),
        ]

    def test_a_version_that_does_not_exist(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"panel standard has the versions standard-2026\.11.*, got 'standard-2026\.10'"
            r" \(did you mean 'standard-2026\.1[12]'\?\)$",
        ):
            find_panel("standard-2026.10")

    def test_stands_in_everything_that_a_run_writes(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = evaluate(
            {"net": linear_net}, data.first(8), tmp_path / "run", eps=EPS, panel="Quick", seed=3
        )
        full = PANELS["quick"].full_name
        run = read_run(tmp_path / "run")
        assert run is not None
        assert run["panel"] == {
            "name": "quick",
            "version": PANELS["quick"].version,
            "mode": "cascade",
        }
        assert run["arguments"]["panel"] == full
        assert [one["panel"] for one in run["verdict"]] == [full]
        assert f"worst case of 3 attacks ({full}), " in lines(outcome.verdicts)[0]
        (worst,) = (row for row in table(outcome.rows, outcome.verdicts) if row["panel"])
        assert (worst["attack"], worst["panel"]) == ("worst_case", full)
        assert f"panel {full} (cascade)" in describe(run)
        metadata = parquet.read_schema(tmp_path / "run" / "records.parquet").metadata
        assert json.loads(metadata[b"art-ext.panel"]) == run["panel"]

    def test_other_arguments_are_told(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        args = {"RayS": {"max_queries": 20}, "pgd": {"num_steps": 20}}
        outcome = evaluate(
            linear_net, data.first(4), tmp_path / "run", eps=EPS, panel="quick", attack_args=args
        )
        assert outcome.verdicts[0].panel == (
            f"{PANELS['quick'].full_name} with other arguments of rays"
        )

    def test_attacks_without_a_panel(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = evaluate(
            linear_net, data.first(4), tmp_path / "run", eps=EPS, attacks=["fgsm"], seed=0
        )
        assert outcome.verdicts[0].panel is None
        assert "worst case of 1 attack, " in lines(outcome.verdicts)[0]
        assert read_run(tmp_path / "run")["panel"]["name"] == "custom"  # type: ignore[index]

    def test_a_file_may_state_a_version(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('version = "2"\n[[attack]]\nattack = "fgsm"', encoding="utf-8")
        assert find_panel(file).full_name == "mine-2"

    @pytest.mark.parametrize(
        "panel",
        [
            replace(PANELS["standard"], members=(Member("fgsm"),)),
            Panel("STANDARD", "cascade", (Member("fgsm"),)),
            Panel("standard-2026.11", "cascade", (Member("fgsm"),)),
        ],
    )
    def test_no_other_panel_takes_a_name(self, panel: Panel) -> None:
        with pytest.raises(ValueError, match="which is a panel of art-ext: choose another name"):
            resolve_panel(panel)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"panel": "quick", "attacks": ("fgsm",)}, "attacks and panel exclude each other"),
            ({"panel": "quick", "mode": "both"}, "mode must be one of"),
            (
                {"panel": "quick", "attack_args": {"nes": {}}},
                r"of this run \(pgd, frank_wolfe, rays\), got 'nes'",
            ),
            (
                {"panel": "quick", "attack_args": {"pgd": {"steps": 3}}},
                "pgd takes num_steps, .*; got 'steps'",
            ),
            (
                {"panel": Panel("x", "cascade", (Member("pdg"),))},
                "attack must be one of opt, rays, ",
            ),
        ],
    )
    def test_before_anything_is_written(
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


def test_a_panel_leaves_the_model_as_it_was(
    tmp_path: Path, digits_net: nn.Module, data: Dataset
) -> None:
    digits_net.train()
    before = [tensor.clone() for tensor in digits_net.state_dict().values()]
    evaluate(digits_net, data.first(8), tmp_path / "run", eps=EPS, panel=SMALL)
    assert digits_net.training
    assert all(
        torch.equal(*pair) for pair in zip(before, digits_net.state_dict().values(), strict=True)
    )
    digits_net.eval()


class TestMemberNames:
    @pytest.mark.parametrize("name", ["rays", "RayS", "pgd"])
    @pytest.mark.parametrize("attack", ["mine.py:shake", "fgsm", "torchattacks:FGSM"])
    def test_a_member_cannot_take_the_name_of_another_attack(self, name: str, attack: str) -> None:
        message = (
            rf"'{name}' of a panel runs '{attack}', and art-ext has an attack '{name.lower()}'"
        )
        with pytest.raises(ValueError, match=message):
            Panel("own", "cascade", (Member(attack, {}, name),))

    def test_its_own_name_and_new_ones_are_free(self) -> None:
        members = (Member("rays", {}, "rays"), Member("PGD", {}, "pgd"), Member("pgd", {}, "long"))
        assert [one.label for one in Panel("own", "cascade", members).members] == [
            "rays",
            "pgd",
            "long",
        ]


@pytest.mark.parametrize("mode", ["cascade", "independent"])
@pytest.mark.parametrize("radii", [(0.1,), (0.1, 0.2)])
def test_the_method_of_a_cascade_is_about_the_samples_that_were_given(mode, radii):
    from art_ext.evaluation.execution.description import protocol
    from art_ext.evaluation.panel.attack import Settings
    from art_ext.evaluation.panel.members import find_attack

    data = Dataset("toys", torch.rand(2, 3), torch.zeros(2, dtype=torch.int64))
    settings = Settings(radii, 50, "linf", False, "logits", (0.0, 1.0), 256, None, 0)
    text = " ".join(protocol(data, [find_attack("fgsm"), find_attack("rays")], settings, mode))
    given = "Each sample that the attack is given spends all its queries" in text
    assert given == (mode == "cascade")
    assert ("without an earlier success at 0.1, the smallest eps" in text) == (
        mode == "cascade" and len(radii) == 2
    )
