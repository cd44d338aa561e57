"""Evaluations of services: scopes, limits, exit codes, and what is printed before anything runs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.core import ModelStopped
from art_ext.data import Dataset
from art_ext.evaluation import RunStopped, Watcher, evaluate, read_records, read_run
from art_ext.evaluation.execution.engines import Started, processes
from art_ext.evaluation.execution.engines.slots import Slots
from art_ext.models import RemoteClassifier
from tests.test_workers import Here
from tests.toys import examples, samples, waves

ROOT = Path(__file__).parents[1]
NETWORK = waves(12, frequency=2.0)
BUDGET: dict[str, Any] = {
    "eps": 0.1,
    "attacks": ["rays", "nes"],
    "max_queries": 60,
    "batch_size": 8,
}


class Counting:
    """A service in this process, that counts its rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.keys: list[str] = []

    def __call__(self, rows: np.ndarray, keys: list[str]) -> np.ndarray:
        self.rows += len(rows)
        self.keys += keys
        return NETWORK(torch.from_numpy(rows)).numpy()


class Told(Watcher):
    """An observer that keeps the announced number of rows."""

    rows: int | None = None

    def service(self, model: str, rows: int | None, cost: float | None) -> None:
        assert rows is not None
        assert cost == rows * 0.5
        self.rows = rows


def data_of(count: int = 12) -> Dataset:
    x = samples(count)
    return Dataset("toys", x, NETWORK(x).argmax(dim=1))


def records_of(folder: Path) -> pd.DataFrame:
    order = ["model", "attack", "eps", "index"]
    return read_records(folder).drop(columns="seconds").sort_values(order, ignore_index=True)


def service_of(predict: Any, folder: Path, **options: Any) -> RemoteClassifier:
    return RemoteClassifier(predict, answers=folder, outputs="logits", **options)


def test_a_stopped_run_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    data = data_of()
    evaluate({"m": NETWORK}, data, tmp_path / "whole", chunk_size=5, **BUDGET)
    service = Counting()
    limits = (3, 100, 300, None)
    for limit in limits:
        model = service_of(service, tmp_path / "log", max_rows=limit)
        if limit is None:
            evaluate({"m": model}, data, tmp_path / "run", chunk_size=5, **BUDGET)
            continue
        with pytest.raises(RunStopped, match="the same command goes on, with a larger limit") as e:
            evaluate({"m": model}, data, tmp_path / "run", chunk_size=5, **BUDGET)
        assert service.rows <= limit
        assert f"{model.usage.rows_sent:,} rows sent" in str(e.value)
        assert f"{model.usage.rows_replayed:,} replayed" in str(e.value)
        assert "of 3 chunks finished" in str(e.value)
    pd.testing.assert_frame_equal(
        records_of(tmp_path / "run"), records_of(tmp_path / "whole"), check_exact=True
    )
    assert len(set(service.keys)) == len(service.keys) == service.rows
    again = service_of(service, tmp_path / "log")
    evaluate({"m": again}, data, tmp_path / "another", chunk_size=5, **BUDGET)
    assert again.usage.rows_sent == 0


DETECTORS: dict[str, dict[str, Any]] = {
    "confidence": {"detectors": ["confidence"]},
    "feature_squeezing": {
        "detectors": ["feature_squeezing"],
        "detector_args": {"feature_squeezing": {"squeezers": "bit_depth(3)"}},
    },
}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_of_outputs_serves_a_service(name: str, tmp_path: Path) -> None:
    data = data_of()
    clean = samples(80)[len(data) :]
    options: dict[str, Any] = {**BUDGET, **DETECTORS[name], "attacks": ["rays", "square"]}
    options["calibration"] = 30
    options["calibration_data"] = Dataset("clean", clean, NETWORK(clean).argmax(dim=1))
    evaluate({"m": NETWORK}, data, tmp_path / "whole", chunk_size=5, **options)
    service = Counting()
    told = Told()
    for limit in (3, 20, 100, 500, None):
        model = service_of(service, tmp_path / "log", max_rows=limit, cost_per_row=0.5)
        options["watcher"] = told
        if limit is None:
            evaluate({"m": model}, data, tmp_path / "run", chunk_size=5, **options)
            continue
        with pytest.raises(RunStopped, match="the same command goes on, with a larger limit"):
            evaluate({"m": model}, data, tmp_path / "run", chunk_size=5, **options)
    pd.testing.assert_frame_equal(
        records_of(tmp_path / "run"), records_of(tmp_path / "whole"), check_exact=True
    )
    assert len(set(service.keys)) == len(service.keys) == service.rows
    assert told.rows is not None
    assert 500 < service.rows <= told.rows < 3 * service.rows
    again = service_of(service, tmp_path / "log", cost_per_row=0.5)
    evaluate({"m": again}, data, tmp_path / "another", chunk_size=5, **options)
    assert again.usage.rows_sent == 0


def test_a_detector_of_features_needs_a_network(tmp_path: Path) -> None:
    service = Counting()
    model = service_of(service, tmp_path / "log")
    options: dict[str, Any] = {
        "detectors": ["knn"],
        "fit_data": data_of(60),
        "calibration_data": data_of(60),
    }
    with pytest.raises(ValueError, match=r"knn of the model 'm': features need a torch.nn.Module"):
        evaluate({"m": model}, data_of(), tmp_path / "run", **options, **BUDGET)
    assert service.rows == 0


def test_a_failing_service_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    class Failing(Counting):
        def __call__(self, rows: np.ndarray, keys: list[str]) -> np.ndarray:
            if self.rows > 100:
                raise PermissionError("key revoked")
            return super().__call__(rows, keys)

    model = service_of(Failing(), tmp_path / "log")
    wanted = r"fails at once: PermissionError: key revoked\. .* chunks finished: the same command"
    with pytest.raises(RunStopped, match=wanted):
        evaluate({"m": model}, data_of(), tmp_path / "run", **BUDGET)


def test_a_model_that_is_no_service_may_stop_too(tmp_path: Path) -> None:
    def model(rows: Tensor) -> Tensor:
        raise ModelStopped("closed")

    with pytest.raises(RunStopped, match=r"closed\. 0 rows sent"):
        evaluate({"m": model}, data_of(), tmp_path / "run", **BUDGET)


def test_a_service_is_sent_no_more_than_announced(tmp_path: Path) -> None:
    told = Told()
    service = Counting()
    model = service_of(service, tmp_path / "log", cost_per_row=0.5)
    evaluate({"m": model}, data_of(), tmp_path / "run", watcher=told, dry_run=True, **BUDGET)
    assert told.rows is not None
    assert service.rows == 0
    assert not (tmp_path / "run").exists()
    evaluate({"m": model}, data_of(), tmp_path / "run", watcher=told, **BUDGET)
    assert 0 < service.rows <= told.rows
    # 12 samples: clean, 60 queries of two attacks; 8 repeated twice; 12 kept by each attack
    assert told.rows == 12 * 121 + 16 + 24


def test_the_clean_probe_repeats_eight_samples_and_chunks_are_small(tmp_path: Path) -> None:
    service = Counting()
    options = {**BUDGET, "attacks": ["rays"], "batch_size": 256, "max_queries": 1}
    evaluate(
        {"m": service_of(service, tmp_path / "log")}, data_of(100), tmp_path / "run", **options
    )
    assert service.rows == 100 + 16 + 100
    run = read_run(tmp_path / "run")
    assert run is not None
    assert run["plan"]["chunk_size"] == 64


def test_reused_answers_leave_randomness_unchecked(tmp_path: Path) -> None:
    service = Counting()
    model = service_of(service, tmp_path / "log", reuse=True)
    outcome = evaluate({"m": model}, data_of(), tmp_path / "run", **BUDGET)
    assert [one.kind for one in outcome.warnings if one.kind == "not-checked"] == ["not-checked"]
    assert len(set(service.keys)) == len(service.keys)


def build() -> Any:
    """Models and data of a worker."""
    raise AssertionError


def test_bad_input(tmp_path: Path) -> None:
    data = data_of()
    limited = service_of(Counting(), tmp_path / "log", max_rows=5)
    with pytest.raises(ValueError, match="use the engine local"):
        evaluate(
            {"m": limited},
            data,
            tmp_path / "run",
            engine="processes",
            workers=2,
            rebuild=build,
            **BUDGET,
        )
    with pytest.raises(ValueError, match="returns logits, got outputs='probabilities'"):
        evaluate({"m": limited}, data, tmp_path / "run", outputs="probabilities", **BUDGET)
    with pytest.raises(ValueError, match="pgd needs gradients, which the service 'm'"):
        evaluate({"m": limited}, data, tmp_path / "run", attacks=["pgd"], eps=0.1)
    with pytest.raises(ValueError, match="must not speculate on the service 'm'"):
        evaluate(
            {"m": limited},
            data,
            tmp_path / "run",
            eps=0.1,
            attacks=["rays"],
            attack_args={"rays": {"speculate": True}},
        )
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "log").exists()


FACTORY = """
import numpy as np
from art_ext.models import RemoteClassifier

def network(rows):
    flat = rows.reshape(len(rows), -1)
    weight = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    return (flat[:, :, None] * weight).sum(axis=1)

def service():
    return network

def logged():
    return RemoteClassifier(network, answers="log", outputs="logits")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_cli(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments)


COMMAND = ["evaluate", "--model", "mine.py:service", "--data", "digits", "--n", "10", "--eps", "0.1",
           "--max-queries", "20", "--out", "run", "--quiet"]  # fmt: skip


def test_the_command_line_ends_with_3_and_goes_on(folder: Path) -> None:
    first = run_cli([*COMMAND, "--answers", "log", "--max-rows", "60", "--cost-per-row", "0.01"])
    assert first.exit_code == 3, first.output
    assert "service: at most 236 rows to send, cost at most 2.36, but for retries" in first.output
    line = first.output.strip().splitlines()[-1]
    assert line == (
        "stopped: max_rows=60 is spent. 60 rows sent, 0 replayed, cost 0.6, 0 of"
        " 1 chunks finished: the same command goes on, with a larger limit"
    )
    second = run_cli([*COMMAND, "--answers", "log", "--max-rows", "600"])
    assert second.exit_code == 0, second.output


FAILING = """
import os
import time
from pathlib import Path
import torch
from art_ext.data import load_data

TRAIN = load_data("digits", split="train")
MEANS = torch.stack([TRAIN.x[TRAIN.y == one].flatten(1).mean(dim=0) for one in range(10)])

def service():
    def answer(rows: torch.Tensor):
        if Path("revoked").exists():
            raise PermissionError("key revoked")
        if len(list(Path().glob("row-*"))) > 150:
            Path("revoked").touch()
        for _ in rows:
            Path(f"row-{os.getpid()}-{time.monotonic_ns()}").touch()
        return -torch.cdist(rows.flatten(1), MEANS)
    return answer
"""


@pytest.mark.parametrize(
    "engine", ["local", "here", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_a_service_that_fails_for_good_ends_with_3_under_every_engine(
    engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text(FAILING)
    if engine == "here":
        monkeypatch.setattr(processes, "start", lambda *_: Started(Slots([Here()]), 1))
    workers = [] if engine == "local" else ["--workers", "2"]
    command = [*COMMAND, "--answers", "log", "--chunk-size", "3", *workers]
    first = run_cli(command)
    assert first.exit_code == 3, first.output
    line = first.output.strip().splitlines()[-1]
    fails = "stopped: the service fails at once: PermissionError: key revoked. "
    found = re.fullmatch(
        re.escape(fails)
        + r"(\d+) rows sent, \d+ replayed, cost 0, \d of 4 chunks finished: the same"
        " command goes on",
        line,
    )
    assert found is not None, line
    answered = len(list(folder.glob("row-*")))
    assert answered < int(found[1]) <= answered + 8, "the requests on their way failed"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    (folder / "revoked").rename(folder / "row-revoked")
    (folder / "mine.py").write_text(FAILING.replace("> 150", "> 1500"))
    assert run_cli([*COMMAND, "--answers", "log", "--chunk-size", "3"]).exit_code == 0


def test_a_larger_limit_in_the_file_goes_on(folder: Path) -> None:
    text = FACTORY.replace('outputs="logits")', 'outputs="logits", max_rows=60)')
    (folder / "mine.py").write_text(text)
    command = [one.replace("mine.py:service", "mine.py:logged") for one in COMMAND]
    assert run_cli(command).exit_code == 3
    (folder / "mine.py").write_text(text.replace("max_rows=60", "max_rows=600"))
    assert run_cli(command).exit_code == 0


def test_a_dry_run_sends_and_writes_nothing(folder: Path) -> None:
    found = run_cli([*COMMAND, "--answers", "log", "--dry-run"])
    assert found.exit_code == 0, found.output
    assert "at most 236 rows to send" in found.output
    assert not (folder / "run").exists()
    assert not (folder / "log").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "3"], "rate is of a service: give --answers FOLDER too"),
        (["--answers", "log", "--max-cost", "3"], "max_cost needs cost_per_row > 0"),
        (["--answers", "log", "--max-rows", "9", "--workers", "2"], "use the engine local"),
        (["--answers", "log", "--rate", "0"], "rate must be > 0, got 0"),
        (["--answers", "log", "--model", "mine.py:logged"], "has the answer log log already"),
        (
            ["--model", "mine.py:logged", "--outputs", "probabilities"],
            "returns logits, got outputs",
        ),
    ],
)
def test_mistakes_on_the_command_line(options: list[str], message: str, folder: Path) -> None:
    found = run_cli([*COMMAND, *options])
    assert found.exit_code == 2, found.output
    assert message in found.output
    assert len(found.output.strip().splitlines()) == 1, found.output
    assert not (folder / "run").exists()
    assert not (folder / "log").exists()


def test_a_damaged_log_is_a_mistake(folder: Path) -> None:
    assert run_cli([*COMMAND, "--answers", "log"]).exit_code == 0
    path = max((folder / "log").glob("*.log"))
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    found = run_cli([*COMMAND, "--out", "other", "--answers", "log"])
    assert found.exit_code == 2
    assert "is damaged at byte 0, in record 0" in found.output
    assert not (folder / "other").exists()


def test_a_partial_report_says_so_everywhere(folder: Path) -> None:
    command = [*COMMAND, "--chunk-size", "4", "--answers", "log", "--attack", "rays,nes"]
    command += ["--max-queries", "60"]
    for limit in range(100, 2000, 50):
        stopped = run_cli([*command, "--max-rows", str(limit)])
        if ", 1 of 3 chunks finished" in stopped.output:
            break
    assert stopped.exit_code == 3
    refused = run_cli(["report", "run"])
    assert refused.exit_code == 2
    mark = "partial: 4 of 10 samples"
    found = run_cli(["report", "--partial", "run"])
    assert found.exit_code == 0, found.output
    assert f"run: {mark}" in found.output
    page = (folder / "run" / "index.html").read_text()
    assert f"<h2>service ({mark})</h2>" in page
    assert f", {mark}" in page.partition("<body>")[2].partition('id="curve"')[0]
    assert re.search(r"Not covered: [^<]*all but 4 of \d+ samples", page)
    assert "all but the first" not in page
    assert "<li>4 of the 10 samples of " in page, "method"
    with Image.open(folder / "run" / "card.png") as card:
        told = str(card.info["Description"])
    assert ", 4 samples · " in told
    assert "10 samples" not in re.sub("4 of (the )?10 samples", "", told)
    table = json.loads((folder / "run" / "table.json").read_text())
    assert {row["model"] for row in table} == {f"service ({mark})"}
    assert {row["samples"] for row in table} == {4}
    assert mark in (folder / "run" / "table.csv").read_text()
    beside = run_cli(["report", "--partial", "run", "--out", "page"])
    assert beside.exit_code == 0, beside.output
    assert run_cli([*command, "--max-rows", "9999"]).exit_code == 0
    whole = run_cli(["report", "--partial", "run"])
    assert whole.exit_code == 0
    assert "partial" not in (folder / "run" / "index.html").read_text()


def test_a_partial_report_needs_a_complete_chunk(folder: Path) -> None:
    assert run_cli([*COMMAND, "--answers", "log", "--max-rows", "30"]).exit_code == 3
    found = run_cli(["report", "--partial", "run"])
    assert found.exit_code == 2
    assert found.output.strip() == "error: no chunk of the run in run is complete yet"


@pytest.mark.slow
def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    files = examples("how-to/services.md")
    assert list(files) == ["server.py", "client.py", "attack.py", "art_attack.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "DIGITS_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": path}
    command = ["-m", "art_ext", "evaluate", "--model", "client.py:service", "--data", "digits"]
    command += ["--outputs", "probabilities", "--attack", "rays", "--max-queries", "100"]
    command += ["--n", "5", "--eps", "0.1", "--out", "run"]
    server = subprocess.Popen([sys.executable, "server.py", str(port)], cwd=tmp_path)
    try:
        for arguments in (["attack.py"], ["art_attack.py"], [*command, "--dry-run"], command):
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    finally:
        server.kill()
        server.wait()
    assert "service: at most 520 rows to send, cost at most 0.052, but for retries" in done.stderr
    assert (tmp_path / "run" / "index.html").exists()
