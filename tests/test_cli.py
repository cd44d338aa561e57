"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from art_ext import __version__, cli
from art_ext.cli import app, doctor
from art_ext.cli.doctor import Finding
from art_ext.cli.shared import shard_and_device
from art_ext.cli.terminal import fitted_markdown
from art_ext.configuration.evaluation import EvaluationConfig, resolve_evaluation
from art_ext.configuration.options import default_of, options_of
from art_ext.configuration.parsing import (
    parse_arguments,
    parse_attack_arguments,
    parse_number,
    parse_numbers,
    parse_share,
    parse_target,
    parse_value,
    read_toml,
)
from art_ext.core.detection import FeatureSqueezing
from art_ext.evaluation import PANELS, read_records, read_run
from art_ext.evaluation.panel.detectors import plan_detectors
from art_ext.evaluation.report import plots

MODEL = """
import torch
from torch import nn

def linear(scale: float = 1.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for parameter in network.parameters():
        parameter.data *= scale
    return network

def bright():
    return lambda x: (x.flatten(1).mean(dim=1) > 0.3).long()
"""

OWN: dict[str, Any] = {"out": Path("nowhere")}  # what no file holds


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    """An evaluation of an untrained linear model on 12 digits, into the folder run."""
    file = tmp_path / "nets.py"
    file.write_text(MODEL)
    return [
        "evaluate",
        "--model",
        f"{file}:linear",
        "--data",
        "digits",
        "--n",
        12,
        "--eps",
        "8/255",
        "--max-queries",
        30,
        "--out",
        tmp_path / "run",
    ]


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("8/255", 8 / 255), ("0.3", 0.3), ("1e-2", 0.01), (" 4 / 255 ", 4 / 255), ("-1", -1.0)],
    )
    def test_numbers_and_fractions(self, text: str, value: float) -> None:
        assert parse_number("eps", text) == value

    @pytest.mark.parametrize(
        "text", ["", "8/0", "8/255/2", "inf", "nan", "__import__('os')", "2**3", "8\\255"]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="eps must hold numbers or fractions"):
            parse_number("eps", text)

    def test_lists(self) -> None:
        assert parse_numbers("eps", "8/255,0.1") == [8 / 255, 0.1]
        with pytest.raises(ValueError, match="got ''"):
            parse_numbers("eps", "0.1,")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", {}),
            ("scale=2", {"scale": "2"}),
            (
                "channels=(8, 16),hidden=(256,), name=a=b",
                {"channels": "(8, 16)", "hidden": "(256,)", "name": "a=b"},
            ),
            (
                "squeezers=[median(2),non_local_means(search=7,patch=3)],k=(1",
                {"squeezers": "[median(2),non_local_means(search=7,patch=3)]", "k": "(1"},
            ),
        ],
    )
    def test_factory_arguments(self, text: str, found: dict[str, str]) -> None:
        assert parse_arguments(text) == found

    @pytest.mark.parametrize("text", ["scale", "=2", "2,scale=1", "a=1,a=2"])
    def test_factory_arguments_that_are_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="model-args must be key=value"):
            parse_arguments(text)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("40", 40),
            ("-3", -3),
            ("2/255", 2 / 255),
            ("1e-3", 1e-3),
            ("true", True),
            ("False", False),
            ("none", None),
            ("sphere", "sphere"),
            ("(8, 1/4,)", (8, 0.25)),
            ("[]", ()),
            ("((1,2),3)", "((1,2),3)"),
            ("[(1,2),3]", "[(1,2),3]"),
            ("[a(b(1))]", "[a(b(1))]"),
            ("['a(1, b=2)', \"c\", d(3)]", ("a(1, b=2)", "c", "d(3)")),
            ("{0: 7, 5: 14}", {0: 7, 5: 14}),
            ("{0:none,40: 1/4}", {0: None, 40: 0.25}),
            ("{0}", "{0}"),
            ("{}", "{}"),
            ("{0: 1, 2}", "{0: 1, 2}"),
            ("nan", "nan"),
            ("__import__('os')", "__import__('os')"),
            ("2**3", "2**3"),
        ],
    )
    def test_values_are_read_and_never_evaluated(self, text: str, value: object) -> None:
        found = parse_value(text)
        assert found == value
        assert type(found) is type(value)

    def test_a_list_of_squeezers(self) -> None:
        for given in ("'bit_depth(3)', 'median(size=3)'", "bit_depth(3),median(size=3)"):
            text = f"feature_squeezing.squeezers=[{given}],kernel_density.num_kernels=9"
            found = parse_attack_arguments(text, "detector-args")
            assert found["kernel_density"] == {"num_kernels": 9}
            planned = plan_detectors(["feature_squeezing", "kernel_density"], found)
            assert [one.make().rows for one in planned] == [3, 1]
            detector = planned[0].make()
            assert isinstance(detector, FeatureSqueezing)
            assert [str(one) for one in detector.squeezers] == [
                "bit_depth(bits=3)",
                "median(size=3)",
            ]

    def test_arguments_of_attacks(self) -> None:
        text = "pgd.num_steps=5, torchattacks:PGD.alpha=2/255,pgd.step_size=0.1,art:AutoAttack.attacks=(a,b)"
        assert parse_attack_arguments(text) == {
            "pgd": {"num_steps": 5, "step_size": 0.1},
            "torchattacks:PGD": {"alpha": 2 / 255},
            "art:AutoAttack": {"attacks": ("a", "b")},
        }
        assert parse_attack_arguments(" ") == {}
        assert parse_attack_arguments("pgd.a=3,b=1") == {"pgd": {"a": 3}, "": {"b": 1}}

    @pytest.mark.parametrize("text", ["pgd", ".a=1", "pgd.=1", "a.b=1,a.b=2"])
    def test_arguments_of_attacks_that_are_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"attack-args must be name\.key=value"):
            parse_attack_arguments(text)

    @pytest.mark.parametrize(
        ("text", "share"),
        [("0.64", 0.64), ("64%", 0.64), (" 57.3 % ", 0.573), ("1/2", 0.5), ("1", 1.0), ("0", 0.0)],
    )
    def test_shares_and_percentages(self, text: str, share: float) -> None:
        assert parse_share("fail-under", text) == pytest.approx(share, abs=1e-15)

    def test_targets(self) -> None:
        assert [parse_target(text) for text in (None, "random", "7", "-1")] == [
            None,
            "random",
            7,
            "-1",
        ]


class TestEvaluate:
    def test_prints_clean_accuracy_first_then_the_table(
        self, command: list[object], tmp_path: Path
    ) -> None:
        done = call(*command)
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        clean = read_run(tmp_path / "run")["clean_accuracy"]["linear"]  # type: ignore[index]
        assert lines[0] == f"linear: clean accuracy {100 * clean:.1f} %"
        assert lines[1].startswith("| model")
        assert lines[-1] == f"report: {tmp_path / 'run' / 'index.html'}"
        assert "in all about " in done.stderr, "the time that it takes at most"

    def test_quiet_prints_the_results_and_nothing_else(
        self, command: list[object], tmp_path: Path
    ) -> None:
        done = call(*command, "--quiet")
        assert done.exit_code == 0
        assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
        head, rule, row, verdict = done.stdout.splitlines()
        assert set(rule) <= set("|-:")
        assert verdict.startswith("robust accuracy ")
        cells = dict(
            zip(map(str.strip, head.split("|")), map(str.strip, row.split("|")), strict=True)
        )
        table, _ = json.loads((tmp_path / "run" / "table.json").read_text())
        assert cells["robust acc."] == f"{100 * table['robust_accuracy']:.1f} %"
        assert cells["eps"] == "8/255"

    def test_one_line_for_each_eps_says_the_worst_case(
        self, command: list[object], tmp_path: Path
    ) -> None:
        done = call(*command, "--eps", "2/255,0.1", "--attack", "rays,fgsm")
        assert done.exit_code == 0
        (said,) = read_run(tmp_path / "run")["verdict"]  # type: ignore[index]
        for worst, eps, line in zip(
            said["worst"], ("2/255", "0.1"), done.stdout.splitlines()[-3:-1], strict=True
        ):
            share, low, high = (
                100 * worst[name] for name in ("robust_accuracy", "robust_low", "robust_high")
            )
            warnings = {0: "no warnings", 1: "1 warning"}.get(
                said["warnings"], f"{said['warnings']} warnings"
            )
            assert line == (
                f"robust accuracy {share:.1f} % [{low:.1f}, {high:.1f}] at {eps}: worst case of 2 attacks, {warnings}"
            )

    def test_quiet_keeps_warnings_and_leaves_out_infos(
        self, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from art_ext.evaluation.analysis.findings import Finding
        from art_ext.evaluation.execution import finish

        found = [
            Finding("range", "", None, None, "odd data"),
            Finding("x", "net", None, None, "usual", level="info"),
        ]
        monkeypatch.setattr(finish, "findings", lambda *arguments: found)
        quiet = call(*command, "--quiet", "--name", "net")
        assert quiet.stderr.splitlines() == ["warning: odd data"]
        told = call(*command, "--name", "net", "--out", tmp_path / "told")
        assert told.stderr.splitlines()[-2:] == ["warning: odd data", "info: net: usual"]
        assert "worst case of 1 attack, 1 warning" in quiet.stdout

    def test_the_bar_names_eps_as_the_table_does(
        self, command: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("art_ext.cli.progress.PAUSE_OF_LINES", 0.0)
        assert "linear, rays, eps 8/255, robust <= " in call(*command).stderr

    def test_name_of_the_model(self, command: list[object], tmp_path: Path) -> None:
        assert call(*command, "--name", "mine").exit_code == 0
        assert set(read_records(tmp_path / "run")["model"]) == {"mine"}
        assert "<b>mine</b>" in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
        assert {
            row["model"] for row in json.loads((tmp_path / "run" / "table.json").read_text())
        } == {"mine"}

    @pytest.mark.parametrize(("offset", "code"), [(0.0, 0), (1e-3, 1)])
    def test_fail_under_judges_the_largest_eps(
        self, command: list[object], tmp_path: Path, offset: float, code: int
    ) -> None:
        options = ["--eps", "2/255,0.2", "--attack", "fgsm", "--n", 60]
        call(*command, *options)
        small, large = read_run(tmp_path / "run")["verdict"][0]["worst"]  # type: ignore[index]
        assert small["robust_accuracy"] > large["robust_accuracy"]
        for wanted in (
            str(large["robust_accuracy"] + offset),
            f"{100 * (large['robust_accuracy'] + offset)}%",
        ):
            done = call(*command, *options, "--fail-under", wanted)
            assert done.exit_code == code
            said = f"fail-under: robust accuracy of linear at 0.2 is {100 * large['robust_accuracy']:.1f} %, wanted at"
            assert (said in done.stderr) == (code == 1)
            assert done.stdout.splitlines()[-1].startswith("report: ")

    def test_ctrl_c_says_how_to_go_on(
        self, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from art_ext.evaluation.execution.units import Tally

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Tally, "end", interrupted)
            done = call(*command)
        assert done.exit_code == 130
        last = done.stderr.splitlines()[-1]
        assert (
            last
            == f"interrupted: to go on, run the same command again: what is finished lies in {tmp_path / 'run'}"
        )
        assert call(*command).exit_code == 0

    def test_arguments_reach_the_attack(self, command: list[object], tmp_path: Path) -> None:
        done = call(
            *command,
            "--eps",
            "0.01,0.2",
            "--norm",
            "l2",
            "--batch-size",
            5,
            "--seed",
            3,
            "--no-stop-on-success",
            "--model-args",
            "scale=2",
            "--clip-values",
            "0,2",
        )
        assert done.exit_code == 0, done.output
        said = read_run(tmp_path / "run")
        assert said is not None
        wanted = {
            "eps": [0.01, 0.2],
            "norm": "l2",
            "batch_size": 5,
            "seed": 3,
            "stop_on_success": False,
            "clip_values": [0.0, 2.0],
            "max_queries": 30,
        }
        assert {name: said["settings"][name] for name in wanted} == wanted
        assert said["arguments"]["model_args"] == {"scale": "2"}
        assert len(read_records(tmp_path / "run")) == 24

    def test_attacks_their_arguments_and_targets(
        self, command: list[object], tmp_path: Path
    ) -> None:
        done = call(
            *command,
            "--attack",
            "i_fgsm, nes",
            "--attack-args",
            "i_fgsm.num_steps=3,nes.sensing=sphere",
            "--eps",
            0.3,
            "--targeted",
            "random",
        )
        assert done.exit_code == 0, done.output
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["arguments"]["attack_args"] == {
            "i_fgsm": {"num_steps": 3},
            "nes": {"sensing": "sphere"},
        }
        assert said["settings"]["targeted"] == "random"
        found = read_records(tmp_path / "run").query(
            "target != label and clean_prediction == label"
        )
        assert set(found.query("attack == 'i_fgsm'")["gradients"]) == {3}
        assert set(found["attack"]) == {"i_fgsm", "nes"}
        assert "gradients" in done.stdout

    def test_attacks_that_minimise_a_distortion(
        self, command: list[object], tmp_path: Path
    ) -> None:
        asked = (
            "ead.beta=1e-2,ead.decision_rule=L1,ead.num_steps=20,ead.search_steps=2,ead.initial_const=1,"
            "zoo.resize=(4,8),zoo.use_tanh=true,zoo.importance=5,zoo.coordinates=4"
        )
        done = call(
            *command,
            "--attack",
            "ead,zoo",
            "--attack-args",
            asked,
            "--norm",
            "l1",
            "--eps",
            "1,2",
            "--max-queries",
            25,
        )
        assert done.exit_code == 0, done.output
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["arguments"]["attack_args"]["zoo"] == {
            "resize": [4, 8],
            "use_tanh": True,
            "importance": 5,
            "coordinates": 4,
        }
        assert said["arguments"]["attack_args"]["ead"]["beta"] == 0.01
        found = read_records(tmp_path / "run").query("not already_adversarial")
        assert found.query("attack == 'zoo'")["queries"].max() <= 25
        assert found.query("attack == 'ead'")["queries"].min() > 25
        assert " distance |" in done.stdout.splitlines()[1]

    def test_an_external_attack(self, command: list[object], tmp_path: Path) -> None:
        pytest.importorskip("torchattacks", reason="torchattacks is not installed")
        done = call(
            *command,
            "--attack",
            "torchattacks:PGD",
            "--attack-args",
            "torchattacks:PGD.steps=2",
            "--quiet",
        )
        assert done.exit_code == 0, done.output
        found = read_records(tmp_path / "run").query("not already_adversarial")
        assert set(found["gradients"]) == {2}
        assert set(found["queries"]) == {4}

    def test_a_callable_that_returns_labels(self, command: list[object], tmp_path: Path) -> None:
        command[2] = str(command[2]).replace(":linear", ":bright")
        assert call(*command, "--outputs", "labels").exit_code == 0
        assert set(read_records(tmp_path / "run")["clean_prediction"]) <= {0, 1}

    def test_weights_are_loaded(self, command: list[object], tmp_path: Path) -> None:
        import torch
        from torch import nn

        from art_ext.models import save_weights

        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]
        network[1].bias.data = torch.eye(10)[7]
        save_weights(network, tmp_path / "sevens.safetensors")
        assert call(*command, "--weights", tmp_path / "sevens.safetensors").exit_code == 0
        found = read_records(tmp_path / "run")
        assert set(found["clean_prediction"]) == {7}
        assert set(found["model"]) == {"sevens"}

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (["--eps", "eight"], "eps must hold numbers"),
            (["--eps", "8"], "eps must not exceed the box width 1"),
            (["--attack", "pdg"], "attack must be one of opt, rays"),
            (["--attack", "cleverhans:PGD"], "an external attack must be given as"),
            (["--attack-args", "rays.depth=3"], "rays takes max_queries, tol, "),
            (["--attack-args", "rays.tol=-1"], "tol must be > 0"),
            (["--attack-args", "pgd.num_steps=3"], "attack-args must name attacks of this run"),
            (
                ["--attack", "ead", "--attack-args", "ead.decision_rule=L0"],
                "ead: decision_rule must be one of",
            ),
            (
                ["--attack", "ead", "--attack-args", "ead.abort_early=no"],
                "ead.abort_early must be true or false",
            ),
            (["--attack", "cw", "--attack-args", "cw.targets=worst"], "cw.targets must be 'best'"),
            (
                ["--attack", "zoo", "--attack-args", "zoo.resize=32"],
                "zoo: resize must hold ascending sides of at most",
            ),
            (["--attack", "zoo", "--attack-args", "zoo.max_queries=0"], "max_queries must be"),
            (["--attack-args", "depth=3"], "attack-args must be name.key=value"),
            (
                ["--attack", "fgsm,pgd", "--attack-args", "pgd.step_size=1,num_steps=3"],
                "got 'num_steps' without a name: did you mean pgd.num_steps?",
            ),
            (
                ["--attack", "pgd", "--attack-args", "steps=3"],
                "got 'steps' (did you mean 'num_steps'?)",
            ),
            (
                ["--attack", "pgd", "--attack-args", "pgd.steps=3"],
                "got 'steps' (did you mean 'num_steps'?)",
            ),
            (
                ["--attack", "art:SquareAttack", "--attack-args", "steps=3"],
                "got 'steps' without a name: art:SquareAttack takes adv_criterion, ",
            ),
            (
                ["--panel", "standard", "--attack-args", "num_targets=3"],
                "did you mean auto_pgd_probability.num_targets",
            ),
            (["--targeted", "random"], "rays cannot be targeted"),
            (
                ["--attack", "fgsm", "--targeted", "-1"],
                "targeted must be random, least-likely, next or a class index",
            ),
            (["--norm", "l0"], "norm must be one of"),
            (["--clip-values", "0"], "clip-values must be two numbers"),
            (["--clip-values", "0.5,1"], "x must lie in [0.5, 1]"),
            (["--data", "nowhere"], "'nowhere'"),
            (["--n", "0"], "n must be at least 1"),
            (["--model", "no_such_module:net"], "no_such_module"),
            (
                ["--model", "torch.nn:Flatten", "--weights", "x"],
                "weights must name a checkpoint file",
            ),
            (["--model-args", "depth=3"], "takes the arguments"),
            (["--model-args", "depth"], "model-args must be"),
            (
                ["--model", "torch.nn:Linear", "--model-args", "in_features=3,out_features=2"],
                "the model fails on",
            ),
            (["--max-queries", "0"], "max_queries must be"),
            (["--device", "abacus"], "device must be"),
            (["--out", "nets.py"], "out must name a folder"),
            (
                ["--fail-under", "1.5"],
                "fail-under must be a share from 0 to 1, or a percentage with its sign such as",
            ),
            (["--fail-under", "60"], "such as 50%, got '60'"),
            (["--fail-under", "101%"], "such as 50%, got '101%'"),
            (["--fail-under=-0.1"], "such as 50%, got '-0.1'"),
            (["--fail-under", "half"], "such as 50%, got 'half'"),
            (["--name", " "], "name must hold at least one letter"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(
        self,
        command: list[object],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        changed: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        if changed[0] == "--model":  # a second one would be a further model
            command = [command[0], *command[3:]]
        done = call(*command, *changed, "--quiet")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
        assert not (tmp_path / "run").exists()

    def test_a_missing_extra_is_named_before_anything_runs(
        self, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from art_ext.evaluation.analysis import records

        monkeypatch.setattr(records, "find_spec", lambda name: None)
        command[2] = f"{tmp_path / 'fails.py'}:net"
        done = call(*command)
        assert done.exit_code == 2
        assert "pip install 'art-ext[report]'" in done.stderr

    def test_refuses_to_overwrite_and_overwrites_when_told(
        self, command: list[object], tmp_path: Path
    ) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "index.html").write_text("a page of mine")
        refused = call(*command)
        assert refused.exit_code == 2
        assert "--overwrite" in refused.stderr
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["index.html"]
        assert (tmp_path / "run" / "index.html").read_text() == "a page of mine"
        assert call(*command, "--overwrite").exit_code == 0
        assert call(*command).exit_code == 0, "the same arguments again"
        assert call(*command, "--seed", 1).exit_code == 2

    def test_missing_options_are_usage_errors(self) -> None:
        assert call("evaluate").exit_code == 2

    def test_real_model_on_real_data(self, art_ext_data: Path, tmp_path: Path) -> None:
        weights = art_ext_data / "checkpoints" / "mnist_conv2_fast_pgd.safetensors"
        done = call(
            "evaluate",
            "--model",
            "art_ext.models:mnist_two_conv",
            "--weights",
            weights,
            "--data",
            art_ext_data / "mnist.npz",
            "--eps",
            0.3,
            "--n",
            50,
            "--max-queries",
            100,
            "--out",
            tmp_path / "run",
            "--quiet",
        )
        assert done.exit_code == 0, done.output
        row, _ = json.loads((tmp_path / "run" / "table.json").read_text())
        assert row["clean_accuracy"] >= 0.98
        assert 0.85 <= row["robust_accuracy"] <= row["clean_accuracy"]


class TestNarrowTerminals:
    """Columns from the right go first, and what does not fit then is a list."""

    @pytest.mark.parametrize("columns", [60, 45, 20])
    def test_evaluate(
        self, command: list[object], monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        wide = call(*command, "--attack", "rays,fgsm", "--quiet").stdout
        monkeypatch.setenv("COLUMNS", str(columns))
        done = call(*command, "--attack", "rays,fgsm", "--quiet")
        shown = done.stdout[: done.stdout.index("robust accuracy ")].splitlines()
        assert max(map(len, shown)) <= columns < max(map(len, wide.splitlines()))
        text = " ".join(" ".join(shown).split())
        assert all(word in text for word in ("linear", "rays", "fgsm", "8/255", "robust acc."))
        assert text.startswith("| model") == (columns > 20)
        assert ("seconds" in text) == (columns == 20), "a list leaves nothing out"

    @pytest.mark.parametrize("columns", [60, 15])
    def test_attacks(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        wide = call("attacks").stdout
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = call("attacks").stdout
        assert max(map(len, shown.splitlines())) <= columns < max(map(len, wide.splitlines()))
        assert shown.split()[0] == ("name" if columns == 60 else "name:")
        assert "summary" in wide
        monkeypatch.setenv("COLUMNS", "400")
        assert call("attacks").stdout == wide

    def test_train(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        options = ["--recipe", "natural", "--data", "digits", "--n", 40, "--epochs", 1, "--quiet"]
        run = ["train", *options, "--test-n", 10, "--out", tmp_path / "run"]
        assert call(*run).exit_code == 0
        for columns in (60, 25):
            monkeypatch.setenv("COLUMNS", str(columns))
            shown = call(*run, "--resume").stdout
            assert max(map(len, shown.splitlines())) <= columns
            assert all(word in shown for word in ("final", "clean acc.", "PGD-20"))

    def test_a_cell_with_the_separator(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "5")
        table = "| a | b |\n|---|---|\n| x|y | 2 |"
        assert fitted_markdown(table, ("a",)) == table


def test_python_m_is_the_command() -> None:
    for arguments, code in ((["--version"], 0), (["attacks", "--norm", "l9"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "art_ext", *arguments], capture_output=True, text=True
        )
        assert done.returncode == code
        assert (done.stdout == f"art-ext {__version__}\n") == (code == 0)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate --config nowhere.toml --out x",
        "train --config nowhere.toml --out x",
        "train --recipe pgd --data nowhere --out x",
        "merge nowhere --out x",
        "report nowhere",
        "compare nowhere nowhere",
        "submit nowhere --out x --name A",
        "submit --check nowhere",
        "attacks --access nothing",
        "attacks --attack nowhere.py:f",
        "demo --out file",
    ],
)
def test_user_errors_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    done = call(*arguments.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("no_report")
class TestConfiguration:
    """``--config``, and the file that every run leaves."""

    ATTACKS = (
        "--attack",
        "rays,i_fgsm,nes",
        "--attack-args",
        "i_fgsm.num_steps=3,nes.sensing=sphere,rays.tol=1/100",
        "--eps",
        "8/255,0.3",
        "--model-args",
        "scale=2",
        "--no-stop-on-success",
    )

    def test_a_run_leaves_a_file_that_repeats_its_records(
        self, command: list[object], tmp_path: Path
    ) -> None:
        first = call(*command, *self.ATTACKS, "--quiet")
        assert first.exit_code == 0, first.output
        file = tmp_path / "run" / "config.toml"
        again = call("evaluate", "--config", file, "--out", tmp_path / "again", "--quiet")
        assert again.exit_code == 0, again.output
        assert (
            read_records(tmp_path / "again")
            .drop(columns="seconds")
            .equals(read_records(tmp_path / "run").drop(columns="seconds"))
        )
        runs = [read_run(tmp_path / name) for name in ("run", "again")]
        assert runs[0] is not None
        assert runs[1] is not None
        for part in ("arguments", "settings", "identity"):
            assert runs[0][part] == runs[1][part]
        assert (tmp_path / "again" / "config.toml").read_bytes() == file.read_bytes()
        assert call("evaluate", "--config", file, "--out", tmp_path / "run").exit_code == 0

    def test_the_file_is_complete(self, command: list[object], tmp_path: Path) -> None:
        assert call(*command, *self.ATTACKS, "--quiet").exit_code == 0
        found = read_toml(tmp_path / "run" / "config.toml")
        options = options_of(EvaluationConfig, "toml")
        empty = {name for name, (one, _) in options.items() if default_of(one) in (None, {}, ())}
        assert set(options) - set(found) <= empty
        assert found["attacks"] == ["rays", "i_fgsm", "nes"]
        assert found["attack_args"]["nes"] == {"sensing": "sphere"}
        assert found["eps"] == [8 / 255, 0.3]
        assert found["max_queries"] == 30

    def test_the_command_line_wins_over_the_file(
        self, command: list[object], tmp_path: Path
    ) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(
            f'model = "{command[2]}"\ndata = "digits"\nn = 30\neps = "1/10"\nsave-images = true\n'
            'panel = "quick"\nmode = "independent"\nseed = 3\ntargeted = 4\nclip_values = [0, 2]\n'
            "[attack_args.pgd]\nnum_steps = 2\n[model_args]\nscale = 3\n"
        )
        found = resolve_evaluation({}, file, **OWN)
        assert (found.eps, found.n, found.save_images, found.targeted) == ((0.1,), 30, True, 4)
        assert (found.panel, found.mode, found.attacks) == ("quick", "independent", None)
        assert found.attack_args == {"pgd": {"num_steps": 2}}
        assert (found.model_args, found.clip_values) == ({"scale": "3"}, (0.0, 2.0))
        other = resolve_evaluation({"attacks": "rays", "seed": 0, "eps": "2/255"}, file, **OWN)
        assert (other.panel, other.mode, other.attacks) == (None, None, ("rays",))
        assert (other.attack_args, other.seed, other.eps) == ({}, 0, (2 / 255,))
        same = resolve_evaluation({"panel": "quick", "model": "m:f"}, file, **OWN)
        assert (same.attack_args, same.model_args) == ({"pgd": {"num_steps": 2}}, {})
        options = ["--attack", "fgsm", "--n", 9, "--no-save-images", "--out", tmp_path / "run"]
        done = call("evaluate", "--config", file, *options)
        assert done.exit_code == 0, done.output
        run = read_run(tmp_path / "run")
        assert run is not None
        assert (run["settings"]["targeted"], run["arguments"]["save_images"]) == (4, False)
        assert (len(read_records(tmp_path / "run")), list(run["attacks"])) == (9, ["fgsm"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("n = 3\nmax_query = 3", "bad.toml, line 2: unknown option 'max_query' (did you mean"),
            ("[attacks_args.rays]\ntol = 1", "bad.toml, line 1: unknown option 'attacks_args'"),
            ("\nn = 2.0", "bad.toml, line 2: n must be a text or an integer, got 2.0"),
            ('out = "x"', "'out' belongs on the command line, not here"),
            ("attacks = [1]", "attacks must be a list of texts, got [1]"),
            ("targeted = 1.5", "targeted must be a text or an integer, got 1.5"),
            ("eps = [true]", "eps must be a number"),
            ("eps = 'much'", "eps must hold numbers or fractions"),
            ("attack_args.rays = 3", "attack_args.rays must be a table of arguments, got 3"),
            ("model_args = 3", "model_args must be a table"),
            ('attacks = ["rays"]\npanel = "quick"', "attacks and panel exclude each other"),
            ('data = ""', "data must be a text"),
            ("n = ", "must be TOML"),
        ],
    )
    def test_bad_files(
        self, command: list[object], tmp_path: Path, text: str, message: str
    ) -> None:
        (tmp_path / "bad.toml").write_text(text)
        done = call(*command, "--config", tmp_path / "bad.toml")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("option", ["model", "data"])
    def test_what_has_no_default_must_be_given(self, command: list[object], option: str) -> None:
        place = command.index(f"--{option}")
        done = call(*command[:place], *command[place + 2 :])
        assert done.exit_code == 2
        assert f"{option} must be given, by --{option} or in the file" in done.stderr

    def test_a_killed_run_has_it_and_an_earlier_one_keeps_its_own(
        self, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from art_ext.evaluation.execution.units import Tally

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        folder = tmp_path / "run"
        assert call(*command).exit_code == 0
        earlier = (folder / "config.toml").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(Tally, "end", interrupted)
            assert call(*command, "--seed", 7, "--overwrite", "--quiet").exit_code == 130
        assert (folder / ".previous-run" / "config.toml").read_bytes() == earlier
        assert read_toml(folder / "config.toml")["seed"] == 7
        assert not list(folder.glob("*.tmp"))
        done = call("evaluate", "--config", folder / "config.toml", "--out", folder)
        assert done.exit_code == 0, done.output
        assert not (folder / ".previous-run").exists()

    def test_the_package_that_writes_it_is_named_before_anything_runs(
        self, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tomli_w", None)
        done = call(*command)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "tomli_w: pip install" in done.stderr
        assert not (tmp_path / "run").exists()

    def test_it_is_not_written_beside_other_files(
        self, command: list[object], tmp_path: Path
    ) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.toml").write_text("mine")
        assert call(*command).exit_code == 2
        assert (tmp_path / "run" / "config.toml").read_text() == "mine"


class TestDemo:
    def test_quiet_prints_only_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from art_ext.data import load_data
        from art_ext.evaluation import demo

        few = {
            "NATURAL_EPOCHS": 1,
            "ROBUST_EPOCHS": 1,
            "MAX_QUERIES": 10,
            "PANEL": {"rays": {}, "fgsm": {}},
        }
        for name, value in few.items():
            monkeypatch.setattr(demo, name, value)
        monkeypatch.setattr(
            demo, "load_data", lambda name, **options: load_data(name, **options).first(20)
        )
        quiet = call("demo", "--out", tmp_path / "quiet", "--quiet")
        assert quiet.exit_code == 0
        assert all(line.startswith("warning: ") for line in quiet.stderr.splitlines())
        verdict = r"(natural|adversarially trained): robust accuracy [\d.]+ % \[[\d.]+, [\d.]+\] at 0.2: worst case .*"
        assert all(
            line.startswith("|") or re.fullmatch(verdict, line)
            for line in quiet.stdout.splitlines()
        )
        told = call("demo", "--out", tmp_path / "told", "--seed", 5)
        assert "training" in told.stderr
        assert "clean accuracy" in told.stdout.splitlines()[0]
        assert read_run(tmp_path / "told")["settings"]["seed"] == 5  # type: ignore[index]

    def test_refuses_a_foreign_folder(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        done = call("demo", "--out", tmp_path)
        assert done.exit_code == 2
        assert "thesis" not in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


class TestDoctor:
    @pytest.mark.parametrize(("status", "code"), [("ok", 0), ("info", 0), ("problem", 1)])
    def test_says_what_was_found_and_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, status: doctor.Status, code: int
    ) -> None:
        monkeypatch.setattr(
            doctor,
            "diagnose",
            lambda: [Finding("torch", status, "9.9 (>=2.6)", "pip install torch")],
        )
        done = call("doctor")
        assert done.exit_code == code
        assert done.stdout.split() == [
            status,
            "torch",
            "9.9",
            "(>=2.6)",
            "->",
            "pip",
            "install",
            "torch",
        ]


def test_version() -> None:
    done = call("--version")
    assert (done.exit_code, done.stdout) == (0, f"art-ext {__version__}\n")


@pytest.mark.parametrize(
    ("command", "option"), [("evaluate", "--max-queries"), ("train", "--recipe-args")]
)
def test_help_imports_nothing_heavy(command: str, option: str) -> None:
    code = (
        f"import sys\nfrom art_ext.cli import main\nsys.argv = ['art-ext', '{command}', '--help']\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "print({'torch', 'numpy', 'art', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert option in done.stdout
    assert done.stdout.rstrip().endswith("set()")


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(doctor, "diagnose", broken)
    done = call("doctor")
    assert done.exit_code == 1
    assert isinstance(done.exception, RuntimeError)


@pytest.mark.parametrize(
    ("module", "function", "arguments", "how"),
    [
        (
            "art_ext.evaluation.demo",
            "run_demo",
            "demo --out x",
            "run the same command again: the demo begins again",
        ),
        ("art_ext.evaluation", "merge", "merge x --out y", "run the same command again"),
        ("art_ext.cli.doctor", "diagnose", "doctor", "run the same command again"),
        ("art_ext.core.attacks.registry", "specs", "attacks", "run the same command again"),
        (
            "art_ext.data",
            "load_data",
            "evaluate --model torch.nn:Flatten --data digits --out x",
            "run the same command again: what is finished lies in x",
        ),
        (
            "art_ext.evaluation.analysis.records",
            "load_run",
            "report x",
            "run the same command again",
        ),
        (
            "art_ext.evaluation.analysis.records",
            "load_run",
            "compare x y",
            "run the same command again",
        ),
        (
            "art_ext.adapters.robustbench",
            "check_submission",
            "submit --check x",
            "run the same command again",
        ),
        (
            "art_ext.training.runs",
            "run_training",
            "train --recipe pgd --data digits --out x",
            "run the same command with --resume: checkpoints lie in x",
        ),
    ],
)
def test_ctrl_c_ends_every_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, arguments: str, how: str
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(module), function, interrupted)
    done = call(*arguments.split())
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr == f"interrupted: to go on, {how}\n"


def test_main_is_the_entry_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--model", "x", "--data", "digits", "--out", "y", "--eps", "z"]
    monkeypatch.setattr(sys, "argv", ["art-ext", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert capsys.readouterr().err.startswith("error: eps must hold numbers")


@pytest.mark.usefixtures("no_report")
class TestSharedWork:
    """Panels, shards and merge from the command line; what they do is tested beside
    ``evaluate``.
    """

    def test_a_panel_from_a_file(self, command: list[object], tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(
            '[[attack]]\nattack = "fgsm"\n[[attack]]\nname = "last"\nattack = "rays"\n'
        )
        done = call(
            *command,
            "--panel",
            tmp_path / "mine.toml",
            "--attack-args",
            "last.max_queries=20",
            "--eps",
            "0.1",
        )
        assert done.exit_code == 0, done.stderr
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["panel"] == {"name": "mine", "mode": "cascade", "changed": ["last"]}
        assert list(said["attacks"]) == ["fgsm", "last"]
        assert read_records(tmp_path / "run").query("attack == 'last'")["queries"].max() == 20

    def test_shards_and_merge(self, command: list[object], tmp_path: Path) -> None:
        for part in range(2):
            options = ["--chunk-size", 4, "--shard", f"{part}/2", "--fail-under", "100%"]
            done = call(*command, *options, "--out", tmp_path / str(part))
            assert done.exit_code == 0, done.stderr
            units = {0: "1 unit of the work is missing", 1: "2 units of the work are missing"}[part]
            assert (
                f"{units}, so there is no report yet. A unit is one attack on one model over one"
                in done.stdout
            )
            assert "fail-under: not judged while parts of the work are missing" in done.stderr
        done = call(
            "merge",
            tmp_path / "0",
            tmp_path / "1",
            "--out",
            tmp_path / "united",
            "--fail-under",
            "100%",
        )
        assert done.exit_code == 1, done.stderr
        assert "| rays" in done.stdout
        assert re.search(
            r"^robust accuracy .* at 8/255: worst case of 1 attack, ", done.stdout, re.MULTILINE
        )
        assert "fail-under: robust accuracy of linear at 8/255 is " in done.stderr
        assert len(read_records(tmp_path / "united")) == 12
        united, first = (tmp_path / name / "config.toml" for name in ("united", "0"))
        assert united.read_bytes() == first.read_bytes()
        assert "shard" not in read_toml(united)
        again = call("merge", tmp_path / "0", tmp_path / "0", "--out", tmp_path / "other")
        assert again.exit_code == 2
        assert "overlap" in again.stderr

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (["--shard", "1"], "shard must be i/n, such as 0/4, got '1'"),
            (["--shard", "4/4"], "shard must be i/n with i from 0 to n - 1"),
            (["--panel", "quick", "--attack", "rays"], "attacks and panel exclude each other"),
            (["--panel", "hard"], "panel must be one of quick, standard"),
            (["--panel", "standard-2026.10"], "(did you mean 'standard-2026.1"),
            (["--mode", "all"], "mode must be one of"),
            (["--engine", "rai"], "engine must be one of 'local', 'processes', 'ray', 'slurm'"),
            (["--engine", "local", "--workers", 2], "workers belongs to an engine with workers"),
            (["--workers", 2, "--engine-args", "x"], "engine-args must be key=value"),
            (["--workers", 2, "--engine-args", "address=x"], "engine_args"),
            (["--gpus-per-worker", 0.5], "gpus_per_worker belongs to an engine with workers"),
            (["--workers", 2, "--threads-per-worker", 0], "threads_per_worker must be an integer"),
            (["--workers", 0], "workers must be an integer >= 1, got 0"),
        ],
    )
    def test_bad_input(
        self, command: list[object], tmp_path: Path, changed: list[str], message: str
    ) -> None:
        done = call(*command, *changed, "--quiet")
        assert done.exit_code == 2
        assert message in done.stderr
        assert not (tmp_path / "run").exists()

    def test_a_rank_takes_its_share(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert shard_and_device(None, "cuda") == (None, "cuda")
        for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
            monkeypatch.setenv(name, value)
        assert shard_and_device(None, "cuda") == ((3, 4), "cuda:1")
        assert shard_and_device(None, "cpu") == ((3, 4), "cpu")
        with pytest.raises(ValueError, match="must not be given under torchrun"):
            shard_and_device("0/2", None)

    def test_workers(self, command: list[object], tmp_path: Path) -> None:
        options = ["--chunk-size", 6, "--panel", "quick", "--eps", "0.1", "--quiet"]
        assert call(*command, *options).exit_code == 0
        done = call(*command, *options, "--workers", 2, "--out", tmp_path / "two")
        assert done.exit_code == 0, done.stderr
        alone, shared = (
            read_records(tmp_path / out).drop(columns="seconds") for out in ("run", "two")
        )
        pd.testing.assert_frame_equal(alone, shared)
        one, two = (read_toml(tmp_path / out / "config.toml") for out in ("run", "two"))
        assert one == two, "the number of processes changes nothing"
        assert one["panel"] == PANELS["quick"].full_name, "the file repeats this run"

    @pytest.mark.slow
    def test_two_processes_of_torchrun(self, command: list[object], tmp_path: Path) -> None:
        options = [*map(str, command[1:]), "--chunk-size", "4", "--panel", "quick", "--eps", "0.1"]
        program = Path(sys.executable).with_name("art-ext")
        launch = [
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "--no-python",
            "--",
        ]
        prefixes: dict[str, list[str]] = {"alone": [], "shared": [sys.executable, "-m", *launch]}
        for out, prefix in prefixes.items():
            done = subprocess.run(
                [*prefix, str(program), "evaluate", *options, "--out", str(tmp_path / out)],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert "| rays" in done.stdout, "who finishes last prints the table"
        alone, shared = (
            read_records(tmp_path / out).drop(columns="seconds") for out in ("alone", "shared")
        )
        pd.testing.assert_frame_equal(alone, shared)
        assert (tmp_path / "shared" / "index.html").exists()


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("evaluate", 'recipe = "pgd"', "'recipe' is an option of another command"),
        ("train", 'attacks = ["pgd"]', "'attacks' is an option of another command"),
        ("train", 'out = "x"', "'out' belongs on the command line, not here"),
        ("evaluate", "quiet = true", "'quiet' belongs on the command line, not here"),
    ],
)
def test_a_file_with_options_that_belong_elsewhere(
    tmp_path: Path, command: str, line: str, message: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'data = "digits"\n{line}\n')
    done = CliRunner().invoke(
        cli.app, [command, "--config", str(file), "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 2
    assert f"own.toml, line 2: {message}" in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()
