"""The page of trainings, their curves, and ``art-ext report`` on their folders."""

from __future__ import annotations

import base64
import json
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.core.metrics.intervals import wilson
from art_ext.evaluation.analysis.trainings import LoadedTraining, Point, load_training
from art_ext.evaluation.report import svg, trainings
from art_ext.evaluation.report.courses import course_charts
from art_ext.evaluation.report.trainings import render_training_report, write_training_report
from art_ext.models import digits_cnn
from art_ext.training import train
from art_ext.training.runs import resolve, run_training

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished trainings on a few digits."""
    folder = tmp_path_factory.mktemp("runs")
    shared = {"data": "digits", "n": 60, "validation": 20, "test_n": 30, "batch_size": 20}
    for recipe, more in (("natural", {"epochs": 2}), ("free", {"epochs": 1, "eps": 0.1})):
        run_training(resolve({**shared, **more, "recipe": recipe}), folder / recipe)
    return folder


@pytest.fixture
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else."""
    monkeypatch.setattr(trainings, "_picture", lambda charts: b"")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def made(values: dict[str, list[float]], **about: Any) -> LoadedTraining:
    """Return a training with these columns, one value for each epoch."""
    count = len(next(iter(values.values())))
    points = [
        Point(n + 1.0, 3 * n + 3, 100 * n + 100, {key: own[n] for key, own in values.items()})
        for n in range(count)
    ]
    known: dict[str, Any] = {
        "folder": Path("runs/mine"),
        "name": "mine",
        "run": None,
        "options": {"recipe": "pgd", "data": "digits", "validation": 50},
        "text": "",
    }
    return LoadedTraining(points=points, **{**known, **about})


# ---- the page


def test_the_page_fetches_nothing_and_runs_no_other_script(runs: Path, tmp_path: Path) -> None:
    write_training_report(tmp_path, [load_training(runs / "natural")])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in page.replace("http-equiv", "")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert f"script-src 'sha256-{digest}';" in page


def test_the_page_states_the_figures_of_run_json(runs: Path) -> None:
    run = json.loads((runs / "natural" / "run.json").read_text())
    page = render_training_report([load_training(runs / "natural")])
    clean = run["final"]["clean"]
    low, high = wilson(round(30 * clean), 30)
    assert run["validation_samples"] == 20
    assert f"<strong>{100 * clean:.1f} %</strong>" in page
    assert f"{100 * low:.1f} to {100 * high:.1f}" in page
    assert "<dt>batch_<wbr>size</dt><dd>20</dd>" in page, "the configuration"


def test_text_from_outside_is_escaped() -> None:
    one = made(
        {"loss": [1.0, 0.5], HOSTILE: [1.0, 2.0]},
        name=HOSTILE,
        options={"recipe": HOSTILE, "data": HOSTILE, HOSTILE: HOSTILE},
    )
    page = render_training_report([one, made({"loss": [1.0]}, folder=Path("runs/other"))])
    assert HOSTILE not in page
    assert "&lt;img" in page


def test_the_same_folder_twice_is_an_error(runs: Path) -> None:
    one = load_training(runs / "natural")
    with pytest.raises(ValueError, match="folders must differ"):
        render_training_report([one, one])


# ---- the figures


def test_each_value_stands_at_its_epoch_and_at_its_rows(runs: Path) -> None:
    rows = rows_of(runs / "natural")
    figures = dict(course_charts([load_training(runs / "natural")]))
    by_epoch, by_rows = figures["Validation accuracy"]
    clean = by_epoch.curves[0].steps
    assert clean.y.tolist() == [row["validation_clean"] for row in rows]
    assert clean.x.tolist() == [1, 2]
    sent = [row["forwards"] + row["backwards"] for row in rows]
    assert by_rows.curves[0].steps.x.tolist() == sent
    assert clean.counts.tolist() == [round(20 * row["validation_clean"]) for row in rows]
    low, high = wilson(int(clean.counts[0]), 20)
    assert clean.low is not None
    assert clean.high is not None
    assert (clean.low[0], clean.high[0]) == (low, high)
    loss = figures["Loss"][0].curves[0].steps
    assert loss.y.tolist() == [row["loss"] for row in rows]


def test_a_constant_rate_is_a_sentence() -> None:
    (chart,) = dict(course_charts([made({"learning_rate": [0.1, 0.1]})]))["Learning rate"]
    assert chart.sentence == "Learning rate 0.1 throughout the training."


def test_negative_values_and_columns_of_callbacks_are_drawn() -> None:
    found = dict(course_charts([made({"mine": [-2.0, 4.0, float("nan")]})]))
    chart, _ = found["mine"]
    steps = chart.curves[0].steps
    assert steps.y.tolist() == [-2, 4]
    assert chart.scale.bottom < -2 < 4 < chart.scale.top
    assert chart.scale.height(chart.scale.bottom) == svg.UNITS
    assert chart.scale.height(chart.scale.top) == 0
    assert (steps.counts / steps.samples).tolist() == [-2, 4]


def test_of_several_trainings_each_has_a_curve_in_every_figure(runs: Path) -> None:
    loaded = [load_training(runs / name) for name in ("natural", "free")]
    figures = dict(course_charts(loaded))
    chart = figures["Validation accuracy: clean"][0]
    assert [own.steps.model for own in chart.curves] == ["natural", "free"]
    assert [own.css for own in chart.curves] == ["k0", "k1"]
    assert [name for name, _ in chart.models] == ["natural", "free"]


def test_between_its_points_a_curve_is_a_straight_line() -> None:
    two = [made({"loss": [4.0, 2.0]}), made({"loss": [1.0] * 3}, name="other")]
    steps = svg.Steps(
        "m",
        "a",
        np.array([1.0, 3.0]),
        np.array([4.0, 2.0]),
        3.0,
        np.ones(2, bool),
        np.array([4, 3, 2]),
        1,
        0,
        joined=True,
        sure=np.array([True, False, True]),
    )
    drawn = svg.draw(steps, svg.Scale(0, 4, top=4), np.array([0.5, 1.0, 2.0, 3.0]))
    assert drawn.solid == "M250 0L750 500"
    assert drawn.first == 1, "it has no value before its first point"
    assert len(course_charts(two)) == 1


# ---- the command


def test_the_command_writes_the_page_and_replaces_it(
    runs: Path, tmp_path: Path, without_picture: None
) -> None:
    out = tmp_path / "both"
    for _ in range(2):
        done = call("report", runs / "natural", runs / "free", "--out", out)
        assert (done.exit_code, done.output.strip()) == (0, f"report: {out / 'index.html'}")
    assert {path.name for path in out.iterdir()} == {"index.html", "curves.png"}


@pytest.mark.parametrize(
    ("option", "value"), [("--baseline", "m"), ("--fail-under", "0.5"), ("--figure", "x.svg")]
)
def test_options_of_evaluations_are_errors(runs: Path, option: str, value: str) -> None:
    done = call("report", runs / "free", option, value)
    assert done.exit_code == 2
    assert f"{option} is for runs of art-ext evaluate" in done.output.replace("\n", " ")


def test_a_training_beside_another_folder_is_an_error(runs: Path, tmp_path: Path) -> None:
    done = call("report", runs / "free", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "a report takes runs of one kind" in done.output
    assert not (tmp_path / "out").exists()


def test_an_unfinished_training_needs_partial(
    runs: Path, tmp_path: Path, without_picture: None
) -> None:
    folder = tmp_path / "natural"
    shutil.copytree(runs / "natural", folder)
    (folder / "run.json").unlink()
    done = call("report", folder)
    assert done.exit_code == 2
    assert "not finished" in done.output
    done = call("report", folder, "--partial")
    assert done.exit_code == 0
    assert "2 epochs so far, 4 updates" in done.output


@pytest.mark.parametrize("line", ["{", '{"epoch": 1}', "[1]"])
def test_a_damaged_history_is_an_error(runs: Path, tmp_path: Path, line: str) -> None:
    folder = tmp_path / "natural"
    shutil.copytree(runs / "natural", folder)
    (folder / "history.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"history\.jsonl must hold a row"):
        load_training(folder)


def test_the_folder_of_a_training_from_python(
    digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    result = train(digits_cnn(), digits, "natural", epochs=1, checkpoint_dir=tmp_path / "mine")
    one = load_training(tmp_path / "mine")
    assert (one.recipe, one.data, one.run) == ("natural", "", None)
    assert one.column("loss")[0][1] == result.history[0]["loss"]
    assert one.state == "1 epoch, 1 update"
    (tmp_path / "mine" / "model.safetensors").unlink()  # as in a run that has not ended
    assert one.state == "1 epoch so far, 1 update"
    assert "Training by natural" in render_training_report([one])
