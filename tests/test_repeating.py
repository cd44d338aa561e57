"""The command line of a report: it repeats the run, whatever its options hold."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.configuration.evaluation import evaluation_toml, resolve_evaluation
from art_ext.configuration.repeating import command_line, configuration
from art_ext.evaluation import evaluate, read_records
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.panel.panels import PANELS
from art_ext.evaluation.report.method import repeat
from art_ext.models import load_model
from tests.test_cli import MODEL

HOSTILE = "a b'c\"$(touch x)`<script>"
PANEL = """
mode = "independent"
[[attack]]
name = "fw"
attack = "frank_wolfe"
arguments = { loss = "margin", step_fraction = "1/2" }
[[attack]]
attack = "rays"
"""


def call(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output


def words_of(command: str, out: Path) -> list[str]:
    """Arguments of a command as a shell reads them, with another folder."""
    script = 'show() { printf "%s\\0" "$@"; }\n' + command.replace("art-ext", "show", 1)
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert done.stderr == ""
    words = done.stdout.removesuffix("\0").split("\0")
    return [str(out) if word == "FOLDER" else word for word in words]


def written(**values: Any) -> str:
    return evaluation_toml(resolve_evaluation({"data": "digits", **values}, out="anywhere"))


def read_back(command: str) -> Any:
    """Configuration of a command line, as the command itself reads it."""
    import typer

    click = typer.main.get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    context = click.make_context("evaluate", words_of(command, Path("anywhere"))[1:])
    from art_ext.cli.shared import given_values
    from art_ext.configuration.evaluation import EvaluationConfig

    return resolve_evaluation(given_values(context, EvaluationConfig), out="anywhere")


@pytest.mark.parametrize(
    "values",
    [
        {"model": ("m.py:f",)},
        {"model": ("m.py:f", "m.py:g"), "name": ("one", HOSTILE), "eps": (8 / 255, 0.1, 1 / 3)},
        {"model": (HOSTILE,), "model_args": {"path": HOSTILE, "scale": "2"}, "targeted": 3},
        {"model": ("m",), "attacks": ("pgd", "rays"), "stop_on_success": False, "n": "all"},
        {
            "model": ("m",),
            "attacks": ("pgd", "zoo"),
            "attack_args": {"pgd": {"num_steps": 3, "step_size": 2 / 255}, "zoo": {"loss": "ce"}},
        },
        {"model": ("m",), "clip_values": (-1.0, 1.0), "norm": "l2", "eps": (1e-7,), "untrained": 1},
        {"model": ("m",), "save_images": True, "adaptive": False, "fpr": 0.1, "resize": "20x30"},
    ],
)
def test_a_command_line_reads_back_as_its_configuration(values: dict[str, Any]) -> None:
    values = {**values, **({"untrained": True} if "untrained" in values else {})}
    text = written(**values)
    command = command_line(text)
    assert command is not None
    assert "\n" not in command.replace(" \\\n  ", " ")
    assert read_back(command) == resolve_evaluation({"data": "digits", **values}, out="anywhere")


def test_radii_are_grey_levels() -> None:
    command = command_line(written(model=("m",), eps=(8 / 255, 0.25)))
    assert command is not None
    assert "--eps 8/255,0.25 " in command


def test_values_that_no_command_line_holds_have_none() -> None:
    nested = {"pgd": {"loss": "a,num_steps=3"}}
    assert command_line(written(model=("m",), attacks=("pgd",), attack_args=nested)) is None


def command_in(out: Path) -> str:
    """The command line on the page of a run."""
    page = (out / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r"<pre><code>(.*?)</code></pre>", page, flags=re.DOTALL)[0]
    return html.unescape(re.sub(r"<wbr>|</?span[^>]*>", "", shown))


def equal_records(first: Path, second: Path) -> None:
    one, other = (read_records(out).drop(columns="seconds") for out in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["options", "panel in TOML"])
def test_the_command_line_of_a_report_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "my nets.py"
    file.write_text(MODEL)
    panel = tmp_path / "panel.toml"
    panel.write_text(PANEL)
    own = {
        "options": [
            *("--model", f"{file}:linear", "--name", HOSTILE, "--model-args", "scale=2"),
            *("--attack", "rays,pgd", "--attack-args", "pgd.num_steps=3,pgd.step_size=2/255"),
            *("--n", "12", "--eps", "8/255,0.1", "--seed", "3"),
        ],
        "panel in TOML": ["--model", f"{file}:linear", "--panel", str(panel), "--eps", "0.1"],
    }
    shared = ["--data", "digits", "--n", "12", "--max-queries", "30", "--quiet"]
    call("evaluate", *own[kind], *shared, "--out", str(tmp_path / "first"))
    command = command_in(tmp_path / "first")
    assert ("--panel" in command) == (kind == "panel in TOML")
    call(*words_of(command, tmp_path / "second"))
    equal_records(tmp_path / "first", tmp_path / "second")


@pytest.mark.slow
def test_the_configuration_of_a_run_from_python_gives_the_same_records(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(MODEL)
    arguments = {"pgd": {"num_steps": 3}}
    evaluate(
        {"linear": load_model(f"{file}:linear")},
        "digits",
        tmp_path / "first",
        eps=(4 / 255, 0.1),
        attacks=("pgd", "fgsm"),
        attack_args=arguments,
    )
    command, name, text = repeat(load_run(tmp_path / "first"))
    assert 'eps = [\n    "4/255",\n    0.1,\n]' in text
    config = tmp_path / name
    config.write_text(text.replace("FILE.py:FACTORY", f"{file}:linear"))
    call(*words_of(command.replace(name, str(config)), tmp_path / "second"))
    equal_records(tmp_path / "first", tmp_path / "second")


def test_a_built_in_panel_is_named_and_another_told_by_its_attacks() -> None:
    given = {"samples": 5, "data": "digits", "eps": [0.1], "attacks": ["pgd"], "command": None}
    assert 'panel = "quick"' in configuration({**given, "panel": "quick"}, "m", PANELS)
    told = configuration({**given, "panel": "custom"}, "m\n[evil]", PANELS)
    assert "attacks = [" in told
    assert "panel" not in told
    assert "\n[evil]" not in told
