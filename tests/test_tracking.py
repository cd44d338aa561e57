"""Trackers of trainings and evaluations: what they get, and that they change nothing."""

from __future__ import annotations

import logging
import os
import signal
import struct
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.data import load_data
from art_ext.evaluation import Watcher, evaluate
from art_ext.storage.ownership import TRACKERS
from art_ext.tracking import Trackers, backends, key, trackers
from art_ext.tracking.trackers import scalars
from art_ext.training import train
from tests._overlay import overlay

tracking: Any = pytest.importorskip("accelerate.tracking", reason="accelerate is not installed")

DATA = load_data("digits").first(24)
OPTIONS: dict[str, Any] = {
    "attacks": ("fgsm", "pgd"),
    "attack_args": {"pgd": {"num_steps": 2}},
    "mode": "cascade",
    "eps": (0.1, 0.2),
    "chunk_size": 6,
}
STEPS = [6, 12, 18, 24]


def build() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


class Stop(Watcher):
    """Ends a run with an error before a chunk."""

    def __init__(self, starts: int) -> None:
        self.starts = starts

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        self.starts -= 1
        if self.starts < 0:
            raise KeyboardInterrupt


class Recorder(backends.Backend):
    """A tracker that notes all calls. It is started by Accelerate, as any other.

    Attributes:
        calls: what it was told.
        fails: name of the method that raises.
    """

    modules = ("json",)
    install = "pip install recorder"

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, Any, int | None]] = []
        self.fails = fails

    def starter(self) -> Callable[..., Any]:
        return lambda project: project

    def make(self, store: Any, arguments: dict[str, Any], run: str | None) -> Any:
        self.note("make", {"run": run, **arguments})
        return _Tracker(self)

    def run_of(self, tracker: Any) -> str | None:
        return "the run"

    def conclude(self, tracker: Any, values: Any, step: int) -> None:
        self.note("conclude", dict(values), step)

    def attach(self, tracker: Any, files: Any, step: int) -> None:
        self.note("attach", {file.name: file.read_bytes() for file in files}, step)

    def note(self, name: str, values: Any, step: int | None = None) -> None:
        self.calls.append((name, values, step))
        if name == self.fails:
            raise ConnectionError("the server is gone")

    def of(self, name: str) -> list[Any]:
        return [values for call, values, _ in self.calls if call == name]

    def steps(self) -> list[int | None]:
        return [step for call, _, step in self.calls if call == "log"]


class _Tracker(tracking.GeneralTracker):
    name = "recorder"
    requires_logging_directory = False

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @property
    def tracker(self) -> Recorder:
        return self.recorder

    def store_init_configuration(self, values: Any) -> None:
        self.recorder.note("configuration", values)

    def log(self, values: Any, step: int | None = None, **kwargs: Any) -> None:
        self.recorder.note("log", dict(values), step)

    def finish(self) -> None:
        self.recorder.note("finish", None)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Stand in for wandb by a recorder."""
    one = Recorder()
    monkeypatch.setitem(backends.BACKENDS, "wandb", one)
    return one


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records of the run without trackers."""
    folder = tmp_path_factory.mktemp("plain")
    evaluate(build(), DATA, folder, **OPTIONS)
    return records(folder)


def records(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "records.parquet").drop(columns="seconds")


def stopped(folder: Path, starts: int, **more: Any) -> None:
    """Run an evaluation that ends before an attack."""
    with pytest.raises(KeyboardInterrupt):
        evaluate(build(), DATA, folder, **OPTIONS, watcher=Stop(starts), **more)


# --- evaluation ---


def test_an_evaluation_tells_its_configuration_progress_table_and_report(
    recorder: Recorder, tmp_path: Path
) -> None:
    outcome = evaluate(
        build(),
        DATA,
        tmp_path,
        **OPTIONS,
        trackers=["wandb"],
        tracker_args={"wandb": {"project": "mine"}},
    )
    assert recorder.of("make") == [{"run": None, "project": "mine"}]
    (configuration,) = recorder.of("configuration")
    assert configuration["settings.max_queries"] == 10_000
    assert configuration["arguments.attack_args.pgd.num_steps"] == 2
    assert configuration["plan.chunk_size"] == 6
    assert configuration["panel.mode"] == "cascade"
    assert recorder.steps() == STEPS
    progress = recorder.of("log")
    for row in outcome.rows:
        name = key(row.model, row.attack, row.eps, "robust_accuracy")
        assert progress[-1][name] == pytest.approx(row.robust_accuracy)
    first = outcome.records[outcome.records["index"] < 6]
    failed = first[first["success"] | first["already_adversarial"]]
    share = 1 - failed["index"].nunique() / 6
    assert progress[0]["model/pgd/eps_0.2/robust_accuracy"] == pytest.approx(share)
    (final,) = recorder.of("conclude")
    (verdict,) = outcome.verdicts
    assert final["final/model/worst_case/eps_0.2/robust_low"] == verdict.worst[-1].robust_low
    assert final["final/model/worst_case/eps_0.1/clean_accuracy"] == verdict.clean_accuracy
    assert final["final/model/fgsm/eps_0.1/success_rate"] == outcome.rows[0].success_rate
    assert "final/model/fgsm/eps_0.1/adbd" not in final, "unknown"
    assert "warning: " in final["warnings"]
    (files,) = recorder.of("attach")
    assert set(files) >= {"index.html", "table.csv", "table.json", "warnings.json"}
    assert files["table.csv"] == (tmp_path / "table.csv").read_bytes()
    assert recorder.calls[-1][0] == "finish"


def test_a_continued_run_goes_on_with_its_tracker_and_repeats_no_step(
    recorder: Recorder, no_report: None, plain: pd.DataFrame, tmp_path: Path
) -> None:
    stopped(tmp_path / "run", 7, trackers=["wandb"])
    assert recorder.steps() == STEPS[:1]
    assert recorder.calls[-1][0] == "finish"
    for _ in range(3):  # the last two have nothing to do
        evaluate(build(), DATA, tmp_path / "run", **OPTIONS, trackers=["wandb"])
    assert recorder.of("make") == [{"run": None}, {"run": "the run"}]
    assert len(recorder.of("configuration")) == 1
    assert recorder.steps() == STEPS
    assert len(recorder.of("conclude")) == len(recorder.of("attach")) == 1
    pd.testing.assert_frame_equal(records(tmp_path / "run"), plain)


def test_a_tracker_of_a_continued_run_gets_the_earlier_steps_too(
    recorder: Recorder, no_report: None, tmp_path: Path
) -> None:
    stopped(tmp_path, 7)
    evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["wandb"])
    assert recorder.steps() == STEPS


def test_overwriting_begins_another_run_of_the_tracker(
    recorder: Recorder, no_report: None, tmp_path: Path
) -> None:
    for _ in range(2):
        evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["wandb"], overwrite=True)
    assert recorder.of("make") == [{"run": None}] * 2
    assert recorder.steps() == STEPS * 2


@pytest.mark.parametrize("method", ["log", "conclude", "attach", "finish"])
def test_a_tracker_that_fails_warns_once_and_changes_no_record(
    method: str,
    recorder: Recorder,
    no_report: None,
    plain: pd.DataFrame,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder.fails = method
    with caplog.at_level(logging.WARNING, logger="art_ext"):
        outcome = evaluate(build(), DATA, tmp_path / "run", **OPTIONS, trackers=["wandb"])
    told = [one.getMessage() for one in caplog.records if "tracker" in one.getMessage()]
    expected = (
        "the tracker wandb fails and gets no more values: ConnectionError: the server is gone"
    )
    assert told == [expected]
    assert outcome.missing == 0
    pd.testing.assert_frame_equal(records(tmp_path / "run"), plain)
    assert recorder.of("log") if method != "log" else len(recorder.of("log")) == 1


def test_a_tracker_that_failed_gets_the_missing_steps_later(
    recorder: Recorder, no_report: None, tmp_path: Path
) -> None:
    recorder.fails = "log"
    stopped(tmp_path, 7, trackers=["wandb"])
    recorder.fails = ""
    evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["wandb"])
    assert recorder.steps() == STEPS, "the failed step is not repeated"


def test_a_tracker_that_does_not_start_is_an_error(recorder: Recorder, tmp_path: Path) -> None:
    recorder.fails = "configuration"
    message = "the tracker wandb does not start: ConnectionError: the server is gone"
    with pytest.raises(ValueError, match=message):
        evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["wandb"])
    assert recorder.calls[-1][0] == "configuration"


def test_of_shards_the_first_logs_and_the_last_concludes(
    recorder: Recorder, no_report: None, tmp_path: Path
) -> None:
    more: dict[str, Any] = {**OPTIONS, "trackers": ["wandb"]}
    evaluate(build(), DATA, tmp_path, **more, shard=(0, 2))
    assert recorder.steps() == [6, 12], "of its own samples"
    assert recorder.of("conclude") == []
    outcome = evaluate(build(), DATA, tmp_path, **more, shard=(1, 2))
    assert outcome.missing == 0
    assert recorder.steps() == [6, 12]
    assert recorder.of("make") == [{"run": None}, {"run": "the run"}]
    assert len(recorder.of("conclude")) == len(recorder.of("attach")) == 1


def test_under_torchrun_accelerate_waits_for_no_other_process(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["wandb"], shard=(0, 2))
    assert recorder.steps() == [6, 12]
    assert {name: os.environ[name] for name in launch} == launch
    from accelerate.state import PartialState

    assert PartialState._shared_state == {}


def test_without_trackers_nothing_of_them_is_used(
    no_report: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_alone", None)
    evaluate(build(), DATA, tmp_path, **OPTIONS)
    assert not (tmp_path / TRACKERS).exists()


# --- training ---


def test_a_continued_training_repeats_no_step(recorder: Recorder, tmp_path: Path) -> None:
    def stop(end: Any) -> dict[str, float]:
        if end.epoch == 3:
            raise KeyboardInterrupt
        return {}

    options: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 12,
        "checkpoint_dir": tmp_path,
        "trackers": ("wandb",),
    }
    data = (DATA.x, DATA.y)
    with pytest.raises(KeyboardInterrupt):
        train(build(), data, "natural", **options, callbacks=[stop])
    assert recorder.steps() == [2, 4]
    result = train(build(), data, "natural", **options, resume=True)
    assert recorder.steps() == [2, 4, 6, 8]
    assert [row["loss"] for row in recorder.of("log")] == [row["loss"] for row in result.history]
    assert recorder.of("make") == [{"run": None}, {"run": "the run"}]
    (configuration,) = recorder.of("configuration")
    assert configuration["options.epochs"] == 4
    assert recorder.calls[-1][0] == "finish"


def test_the_command_tells_the_figures_and_keeps_files(recorder: Recorder, tmp_path: Path) -> None:
    command = "train --recipe natural --data digits --n 60 --test-n 20 --epochs 2 --quiet"
    more = "--batch-size 32 --device cpu --tracker wandb --tracker-args wandb.project=mine"
    done = CliRunner().invoke(app, [*command.split(), *more.split(), "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (configuration,) = recorder.of("configuration")
    assert configuration["config.data"] == "digits"
    assert configuration["config.test_n"] == 20
    assert configuration["recipe.name"] == "natural"
    (final,) = recorder.of("conclude")
    assert 0 <= final["final/clean"] <= 1
    assert "final/pgd20" in final
    (files,) = recorder.of("attach")
    assert set(files) == {"config.toml", "history.csv", "run.json"}
    assert [call for call, _, _ in recorder.calls[-3:]] == ["conclude", "attach", "finish"]


# --- TensorBoard ---


def test_tensorboard_is_read_back(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    stopped(tmp_path, 7, trackers=["tensorboard"])
    outcome = evaluate(build(), DATA, tmp_path, **OPTIONS, trackers=["tensorboard"])
    read = events.EventAccumulator(str(tmp_path / "art_ext"), size_guidance={"images": 0})
    read.Reload()
    for row in outcome.rows:
        points = read.Scalars(key(row.model, row.attack, row.eps, "robust_accuracy"))
        assert [point.step for point in points] == STEPS
        assert points[-1].value == pytest.approx(row.robust_accuracy)
    (worst,) = read.Scalars("final/model/worst_case/eps_0.2/robust_accuracy")
    assert worst.value == pytest.approx(outcome.verdicts[0].worst[-1].robust_accuracy)
    texts = read.Tags()["tensors"]
    assert {"warnings/text_summary", "table.csv/text_summary"} <= set(texts)
    assert "robust_accuracy.png" in read.Tags()["images"]
    (settings,) = (tmp_path / "art_ext").rglob("hparams.yml")
    assert "settings.norm: linf" in settings.read_text()


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tracker", "wanbd"], "did you mean 'wandb'?"),
        (["--tracker", "wandb", "--tracker-args", "project=x"], "wandb.project=NAME"),
        (["--tracker", "tensorboard", "--tracker-args", "wandb.project=x"], "--tracker wandb"),
        (["--tracker", "wandb", "--tracker-args", "wandb.projet=x"], "did you mean 'project'?"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_bad_trackers_are_an_error_before_anything_is_written(
    command: str, options: list[str], message: str, recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text("import torch\nbuild = lambda: torch.nn.Flatten()\n")
    own = (
        ["--model", f"{tmp_path / 'net.py'}:build"]
        if command == "evaluate"
        else ["--recipe", "natural"]
    )
    out = tmp_path / "run"
    done = CliRunner().invoke(app, [command, *own, "--data", "digits", "--out", str(out), *options])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tensorboard", "pip install tensorboard"),
        ("wandb", "pip install 'art-ext[wandb]'"),
        ("mlflow", "pip install 'art-ext[mlflow]'"),
    ],
)
def test_a_tracker_that_is_not_installed_names_the_command(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a folder that the tracker left is no package
    found = {"accelerate": SimpleNamespace(origin="here"), name: SimpleNamespace(origin=None)}
    monkeypatch.setattr(trackers, "find_spec", found.get)
    with pytest.raises(ImportError) as error:
        evaluate(build(), DATA, tmp_path / "run", **OPTIONS, trackers=[name])
    assert str(error.value).endswith(command)
    found.clear()
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[train\]'"):
        evaluate(build(), DATA, tmp_path / "run", **OPTIONS, trackers=[name])
    assert not (tmp_path / "run").exists()


def test_a_closed_file_store_of_mlflow_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(**kwargs: Any) -> None:
        raise RuntimeError("The filesystem backend is in maintenance mode. Please migrate")

    stand_in = SimpleNamespace(search_experiments=closed, get_tracking_uri=lambda: "file:./runs")
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    spec = SimpleNamespace(origin="here")
    monkeypatch.setattr(trackers, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match=r"store file:\./runs .*MLFLOW_ALLOW_FILE_STORE=true"):
        evaluate(build(), DATA, tmp_path / "run", **OPTIONS, trackers=["mlflow"])
    assert not (tmp_path / "run").exists()


def test_tensorboard_needs_a_local_folder() -> None:
    store = SimpleNamespace(path="s3://bucket/run")
    with pytest.raises(ValueError, match="needs a local folder, got s3://bucket/run"):
        backends.TensorBoard().check(store)


def test_names_and_configurations_are_what_every_tracker_takes() -> None:
    assert key("net (1)", "torchattacks:PGD", 8 / 255) == "net__1_/torchattacks_PGD/eps_0.0313725"
    nested = {"a": {"b": 1, "c": {"d": None}}, "box": [0.0, 1.0], "on": True, "x:y": "z"}
    assert scalars(nested) == {
        "a.b": 1,
        "a.c.d": "none",
        "box": "[0.0, 1.0]",
        "on": True,
        "x_y": "z",
    }


def test_a_damaged_state_counts_as_none(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / TRACKERS).write_text("[")
    one = Trackers(["wandb"], None, tmp_path)
    one.start({})
    one.log({"loss": 1.0}, 3)
    one.close()
    assert recorder.steps() == [3]


# --- the packages themselves, in processes of their own that are killed ---

PROGRAM = """
import os, signal, sys
import torch
from torch import nn
from art_ext.data import load_data
from art_ext.evaluation import Watcher, evaluate
from art_ext.training import train

kind, folder, tracker, last = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.manual_seed(3)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
data = load_data("digits").first(24)


class Killing(Watcher):
    starts = 0

    def start(self, *arguments):
        self.starts += 1
        if self.starts == last:
            os.kill(os.getpid(), signal.SIGKILL)


def kill(end):
    if end.epoch == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


arguments = {tracker: {"project": "mine"}} if tracker == "wandb" else {}
if __name__ == "__main__":
    if kind == "evaluate":
        evaluate(
            model, data, folder, attacks=["fgsm"], eps=(0.1, 0.2), chunk_size=6,
            watcher=Killing(), trackers=[tracker], tracker_args=arguments,
        )
    else:
        train(
            model, (data.x, data.y), "natural", epochs=4, batch_size=12, checkpoint_dir=folder,
            resume=True, callbacks=[kill], trackers=(tracker,), tracker_args=arguments,
        )
"""
EXPECTED = {"evaluate": STEPS, "train": [2, 4, 6, 8]}


def killed_and_continued(kind: str, tracker: str, home: Path, **variables: str) -> None:
    """Run the program twice: it kills itself within the third chunk or epoch, then it goes on."""
    (home / "program.py").write_text(PROGRAM)
    # a chunk starts two attacks, one for each eps
    for last, code in ((5 if kind == "evaluate" else 3, -signal.SIGKILL), (-1, 0)):
        done = subprocess.run(
            [sys.executable, "program.py", kind, "run", tracker, str(last)],
            cwd=home,
            env={**os.environ, "WANDB_SILENT": "true", **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stderr


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a file of wandb: a header of 7 bytes, then blocks as LevelDB writes them."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = file.read_bytes()
    place = 7
    parts = b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block is padding
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        if kind == 0:
            return
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def items(found: Any) -> dict[str, str]:
    return {one.key or "/".join(one.nested_key): one.value_json for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["evaluate", "train"])
def test_wandb_offline_is_one_run_after_a_kill(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    killed_and_continued(kind, "wandb", tmp_path, WANDB_MODE="offline")
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2, "a part before the kill, and one after it"
    found = [one for file in files for one in wandb_records(file)]
    assert len({(one.run.run_id, one.run.project) for one in found if one.HasField("run")}) == 1
    steps = [one.history.step.num for one in found if one.HasField("history")]
    # wandb loses what it had not written to the disk. Nothing is repeated
    assert steps == sorted(set(steps))
    assert set(EXPECTED[kind][2:]) <= set(steps) <= set(EXPECTED[kind])
    settings = items(one for record in found for one in record.config.update)
    name = "plan.chunk_size" if kind == "evaluate" else "options.batch_size"
    assert settings[name] == ("6" if kind == "evaluate" else "12")
    if kind == "evaluate":
        final = items(one for record in found for one in record.summary.update)
        (worst,) = pd.read_json(tmp_path / "run" / "table.json").query(
            "attack == 'worst_case' and eps == 0.2"
        )["robust_accuracy"]
        reached = float(final["final/model/worst_case/eps_0.2/robust_accuracy"])
        assert reached == pytest.approx(worst)
        (artifact,) = [one.artifact for one in found if one.HasField("artifact")]
        assert {one.path for one in artifact.manifest.contents} >= {"index.html", "table.csv"}


@pytest.fixture(scope="session")
def mlflow_folder() -> Path:
    """Return a folder with MLflow, whose requirements clash with those of torchattacks."""
    return overlay("mlflow", "mlflow-skinny")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["evaluate", "train"])
def test_mlflow_is_one_run_after_a_kill(kind: str, mlflow_folder: Path, tmp_path: Path) -> None:
    variables = {
        "PYTHONPATH": os.pathsep.join((str(mlflow_folder), os.environ.get("PYTHONPATH", ""))),
        "MLFLOW_TRACKING_URI": f"file:{tmp_path / 'store'}",
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    killed_and_continued(kind, "mlflow", tmp_path, **variables)
    (run,) = [file.parent for file in (tmp_path / "store").glob("[0-9]*/[0-9a-f]*/meta.yaml")]

    def points(name: str) -> list[tuple[float, int]]:
        lines = (run / "metrics" / name).read_text().splitlines()
        return [(float(value), int(step)) for _, value, step in map(str.split, lines)]

    name = "plan.chunk_size" if kind == "evaluate" else "options.batch_size"
    assert (run / "params" / name).read_text() == ("6" if kind == "evaluate" else "12")
    progress = "model/fgsm/eps_0.2/robust_accuracy" if kind == "evaluate" else "loss"
    assert [step for _, step in points(progress)] == EXPECTED[kind]
    if kind == "evaluate":
        ((value, step),) = points("final/model/worst_case/eps_0.2/robust_accuracy")
        assert (value, step) == (points(progress)[-1][0], 24)
        assert (run / "tags" / "warnings").read_text()
        kept = {file.name for file in (run / "artifacts").iterdir()}
        assert kept >= {"index.html", "table.csv", "warnings.json"}


@pytest.mark.slow
def test_workers_are_followed_by_the_driver(recorder: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            def build():
                torch.manual_seed(3)
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
            """
        )
    )
    command = f"evaluate --model {file}:build --data digits --n 24 --chunk-size 6 --attack fgsm"
    more = f"--workers 2 --quiet --tracker wandb --out {tmp_path / 'run'}"
    done = CliRunner().invoke(app, [*command.split(), *more.split()])
    assert done.exit_code == 0, done.output
    assert recorder.steps() == STEPS
    (final,) = recorder.of("conclude")
    (last,) = {value for name, value in recorder.of("log")[-1].items()}
    assert final["final/net/fgsm/eps_0.0313725/robust_accuracy"] == last
    assert Counter(call for call, _, _ in recorder.calls)["finish"] == 1
