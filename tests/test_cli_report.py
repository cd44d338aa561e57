"""``art-ext report`` and ``art-ext compare`` on run folders."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.data import load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.report import plots
from art_ext.evaluation.report.limits import write_limits_report
from art_ext.storage.limits import LimitsFolder
from tests._limits import make_limits


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one model, which is right on all digits: few queries and more."""
    folder = tmp_path_factory.mktemp("runs")
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

    def net(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).unsqueeze(2) * weight).sum(dim=1)

    data = load_data("digits").first(30).in_memory()
    data = replace(data, y=net(data.x).argmax(dim=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda loaded: [])
        for name, max_queries in (("few", 3), ("many", 60)):
            evaluate({"net": net}, data, folder / name, eps=0.05, max_queries=max_queries)
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestReport:
    def test_of_several_runs(self, runs: Path, tmp_path: Path) -> None:
        out = tmp_path / "together"
        for _ in range(2):  # an earlier report may be replaced
            done = call("report", runs / "few", runs / "many", "--out", out)
            assert (done.exit_code, done.output.strip()) == (0, f"report: {out / 'index.html'}")
        page = (out / "index.html").read_text(encoding="utf-8")
        assert "net (few)" in page
        assert "net (many)" in page
        rows = json.loads((out / "table.json").read_text())
        assert [row["model"] for row in rows] == [
            "net (few)",
            "net (few)",
            "net (many)",
            "net (many)",
        ]
        assert [row["attack"] for row in rows] == ["rays", "worst_case"] * 2
        assert not list(out.glob(".*")), "temporary files are left"

    def test_of_one_run_is_written_anew_where_it_lies(self, runs: Path, tmp_path: Path) -> None:
        folder = tmp_path / "few"
        shutil.copytree(runs / "few", folder)
        (folder / "index.html").unlink()
        records = (folder / "records.parquet").read_bytes()
        assert call("report", folder).exit_code == 0
        assert (folder / "index.html").read_text(encoding="utf-8").count('<svg class="frame"') == 2
        assert (folder / "records.parquet").read_bytes() == records

    def test_fail_under_judges_every_run(self, runs: Path, tmp_path: Path) -> None:
        out = tmp_path / "together"
        few, many = (
            json.loads((runs / name / "run.json").read_text())["verdict"][0]
            for name in ("few", "many")
        )
        least = few["worst"][0]["robust_accuracy"]
        assert many["worst"][0]["robust_accuracy"] < least
        done = call("report", runs / "few", runs / "many", "--out", out, "--fail-under", least)
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1
        assert "robust accuracy of net (many) at 0.05 is " in done.stderr
        assert (out / "index.html").exists()
        assert (
            call("report", runs / "few", "--out", out, "--fail-under", f"{100 * least}%").exit_code
            == 0
        )
        assert call("report", runs / "few", "--out", out, "--fail-under", "1.5").exit_code == 2

    def test_refusals(self, runs: Path, tmp_path: Path) -> None:
        few, many = runs / "few", runs / "many"
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "thesis.tex").write_text("mine")
        cases = {
            "a report on 2 runs needs --out FOLDER": (few, many),
            "out must not be one of the runs": (few, many, "--out", few),
            "out must not be another run's folder": (few, "--out", many),
            "thesis holds thesis.tex": (few, "--out", tmp_path / "thesis"),
            "thesis.tex, which is a file": (few, "--out", tmp_path / "thesis" / "thesis.tex"),
            "thesis is not a run folder": (tmp_path / "thesis",),
            "folders must differ": (few, few, "--out", tmp_path / "twice"),
        }
        for message, arguments in cases.items():
            done = call("report", *arguments)
            assert done.exit_code == 2, message
            assert message in " ".join(done.output.split())
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"thesis.tex"}


class TestCompare:
    def test_prints_and_keeps_the_disagreements(self, runs: Path, tmp_path: Path) -> None:
        done = call(
            "compare", runs / "few", runs / "many", "--out", tmp_path / "found.csv", "--most", 1
        )
        assert done.exit_code == 0
        assert f"A: {runs / 'few'}\nB: {runs / 'many'}\n" in done.output
        with (tmp_path / "found.csv").open() as stream:
            lines = list(csv.DictReader(stream))
        assert len(lines) > 1, "more queries break more"
        assert {(line["kind"], line["attacks"]) for line in lines} == {("only B", "rays")}
        assert f"{len(lines) - 1} more disagreements: all are in " in done.output
        assert (
            call("compare", runs / "few", runs / "many", "--out", tmp_path / "found.json").exit_code
            == 0
        )
        (pair,) = json.loads((tmp_path / "found.json").read_text())["pairs"]
        assert (pair["only_a"], pair["only_b"]) == (0, len(lines))

    def test_refusals(self, runs: Path, tmp_path: Path) -> None:
        done = call("compare", runs / "few", runs / "many", "--out", tmp_path / "found.txt")
        assert (done.exit_code, "must end in .csv or .json" in done.output) == (2, True)
        nowhere = tmp_path / "nowhere"
        done = call("compare", runs / "few", runs / "many", "--out", nowhere / "found.csv")
        text = " ".join(done.output.split())
        assert (done.exit_code, "out needs a folder that exists" in text) == (2, True)
        assert not nowhere.exists()
        done = call("compare", runs / "few", tmp_path)
        assert (done.exit_code, "is not a run folder" in done.output) == (2, True)


class TestReportOfLimits:
    @pytest.fixture
    def folder(self, runs: Path, tmp_path: Path) -> Path:
        """A complete run on limits, whose attacks are another run."""
        folder = LimitsFolder(tmp_path / "limits")
        folder.begin({})
        shutil.copytree(runs / "few", folder.attacks)
        write_limits_report(folder.path, make_limits(("net",), (0.5,)), {"n": 200})
        return folder.path

    def test_is_written_anew_where_it_lies_or_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        page = (folder / "index.html").read_text(encoding="utf-8")
        (folder / "index.html").unlink()
        done = call("report", folder)
        assert (done.exit_code, done.output) == (0, f"report: {folder / 'index.html'}\n")
        again = (folder / "index.html").read_text(encoding="utf-8")
        headings = [line for line in page.splitlines() if line.startswith(("<h1", "<h2", "<dt"))]
        for heading in headings:
            assert heading in again
        assert "<dt>n</dt><dd><code>200</code></dd>" in again
        elsewhere = tmp_path / "elsewhere"
        for _ in range(2):  # an earlier report may be replaced
            assert call("report", folder, "--out", elsewhere).exit_code == 0
        assert (elsewhere / "limits.json").read_bytes() == (folder / "limits.json").read_bytes()

    def test_refusals(self, folder: Path, runs: Path, tmp_path: Path) -> None:
        begun = LimitsFolder(tmp_path / "begun")
        begun.begin({})
        attacks = f"give the folder of its attacks, {folder / 'attacks'}"
        cases = {
            "whose report takes that folder alone": (folder, runs / "few", "--out", tmp_path / "x"),
            f"--partial is for runs of art-ext evaluate, but {folder} is": (folder, "--partial"),
            attacks: (folder, "--fail-under", "50%"),
            "is not complete: run the same command again": (begun.path,),
            "out must not be another run's folder": (runs / "few", "--out", folder),
        }
        for message, arguments in cases.items():
            done = call("report", *arguments)
            assert done.exit_code == 2, message
            assert message in " ".join(done.output.split())
            assert done.output.count("\n") == 1
        assert not (tmp_path / "x").exists()

    def test_damaged_results_are_told(self, folder: Path) -> None:
        results = folder / "limits.json"
        content = json.loads(results.read_text())
        del content["rows"][0]["pgd"]
        for damaged, message in (
            (json.dumps(content), "another form (KeyError: 'pgd'): run the same command again"),
            ("{", "must hold the results (run the same command again), but it cannot be read"),
        ):
            results.write_text(damaged)
            done = call("report", folder)
            assert (done.exit_code, done.output.count("\n")) == (2, 1)
            assert message in done.output


class TestBaseline:
    def test_is_one_of_the_models(self, runs: Path, tmp_path: Path) -> None:
        folders = [str(runs / "few"), str(runs / "many")]
        done = call("report", *folders, "--out", tmp_path / "a", "--baseline", "net (mny)")
        assert done.exit_code == 2
        assert "baseline must be one of the models" in done.output
        assert "did you mean 'net (many)'?" in done.output
        assert not (tmp_path / "a").exists()
        done = call("report", *folders, "--out", tmp_path / "a", "--baseline", "net (many)")
        assert done.exit_code == 0
        assert "Comparison with net (many)" in (tmp_path / "a" / "index.html").read_text()
