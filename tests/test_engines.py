"""Engines of an evaluation: the records of one process, also after kills, and no process left.

Each driver runs in a session of its own, which is ended after the test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from art_ext.evaluation import read_records
from art_ext.evaluation.execution.engines import ray as ray_engine
from tests import _engine_driver
from tests._sessions import in_session, wait_until_gone

ROOT = Path(__file__).parents[1]
LIBRARIES = {"processes": "torch", "ray": "ray", "slurm": "submitit", "dask": "distributed"}
ENGINES = list(LIBRARIES)
PATIENCE = 600  # seconds, on a machine that others use too
KILLS = 5
N_CHUNKS = 8
PROGRAM = "from tests._engine_driver import main; main()"


pytestmark = pytest.mark.usefixtures("no_report")


class Drivers:
    """Starts drivers, and ends everything that they started."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []
        self.paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]

    def start(self, folder: str | Path, engine: str, **options: Any) -> subprocess.Popen[str]:
        if engine == "slurm":
            options["engine_args"] = {"cluster": "local"}
        given = json.dumps({"engine": engine, **options})
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), given],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(self.paths), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, folder: str | Path, engine: str, **options: Any) -> None:
        process = self.start(folder, engine, **options)
        errors = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0, errors[-2000:]

    def end(self) -> None:
        for process in self.started:
            for living in in_session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(living, signal.SIGKILL)


@pytest.fixture
def drivers() -> Iterator[Drivers]:
    found = Drivers()
    yield found
    found.end()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records of one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    found = Drivers()
    found.run(folder, "local")
    return comparable(folder)


def comparable(folder: Path) -> pd.DataFrame:
    return read_records(folder).drop(columns="seconds")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
class TestRecords:
    def test_are_those_of_one_process_and_no_process_is_left(
        self, tmp_path: Path, drivers: Drivers, whole: pd.DataFrame, engine: str
    ) -> None:
        pytest.importorskip(LIBRARIES[engine])
        drivers.run(tmp_path / "run", engine)
        pd.testing.assert_frame_equal(comparable(tmp_path / "run"), whole)
        assert not wait_until_gone(drivers.started[0].pid)
        assert not (tmp_path / "run" / ".jobs").exists()

    def test_workers_that_are_killed(
        self, tmp_path: Path, drivers: Drivers, whole: pd.DataFrame, engine: str
    ) -> None:
        pytest.importorskip(LIBRARIES[engine])
        chance = random.Random(ENGINES.index(engine))
        moments = [chance.randint(1, 60) for _ in range(KILLS)]
        marks = tmp_path / "marks"
        marks.mkdir()
        drivers.run(tmp_path / "run", engine, marks=str(marks), moments=moments)
        assert len(list(marks.iterdir())) == KILLS
        pd.testing.assert_frame_equal(comparable(tmp_path / "run"), whole)
        assert not wait_until_gone(drivers.started[0].pid)


@pytest.mark.slow
def test_workers_of_dask_that_come_back_late(
    tmp_path: Path, drivers: Drivers, whole: pd.DataFrame
) -> None:
    """Dask gives workers up after 15 s by default. Both die, and need longer to start again."""
    pytest.importorskip("distributed")
    marks = tmp_path / "marks"
    marks.mkdir()
    late = f"import os, time\nif os.listdir({str(marks)!r}):\n    time.sleep(25)\n"
    (tmp_path / "sitecustomize.py").write_text(late)
    drivers.paths.insert(0, str(tmp_path))
    drivers.run(tmp_path / "run", "dask", marks=str(marks), moments=[9, 9])
    assert len(list(marks.iterdir())) == 2
    pd.testing.assert_frame_equal(comparable(tmp_path / "run"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_drivers_that_are_killed(
    tmp_path: Path, drivers: Drivers, whole: pd.DataFrame, engine: str
) -> None:
    """Each goes on with what the last one left. Another engine ends the run."""
    pytest.importorskip(LIBRARIES[engine])
    chance = random.Random(1)
    folder = tmp_path / "run"
    for _ in range(KILLS):
        before = len(list(folder.glob("chunks/*")))
        driver = drivers.start(folder, engine)
        deadline = time.monotonic() + PATIENCE
        while len(list(folder.glob("chunks/*"))) <= before and driver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        driver.kill()
        driver.wait()
        left = wait_until_gone(driver.pid, 10)
        if engine == "processes":
            assert not left
        drivers.end()  # of Ray, agents stay for a minute
    drivers.run(folder, "local")
    pd.testing.assert_frame_equal(comparable(folder), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [("processes", "dask"), ("dask", "slurm"), ("slurm", "ray"), ("ray", "processes")],
)
def test_an_engine_goes_on_with_the_run_of_another(
    tmp_path: Path, drivers: Drivers, whole: pd.DataFrame, first: str, second: str
) -> None:
    for engine in (first, second):
        pytest.importorskip(LIBRARIES[engine])
    folder = tmp_path / "run"
    driver = drivers.start(folder, first)
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("chunks/?????.parquet")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    drivers.end()  # jobs of Slurm would do the rest
    held = {path.name: path.stat().st_mtime_ns for path in folder.glob("chunks/?????.parquet")}
    assert 0 < len(held) < N_CHUNKS
    drivers.run(folder, second)
    pd.testing.assert_frame_equal(comparable(folder), whole)
    found = {path.name: path.stat().st_mtime_ns for path in folder.glob("chunks/?????.parquet")}
    assert {name: found[name] for name in held} == held, "finished chunks are not done again"


@pytest.mark.slow
def test_jobs_of_slurm_go_on_without_their_driver(
    tmp_path: Path, drivers: Drivers, whole: pd.DataFrame
) -> None:
    pytest.importorskip("submitit")
    folder = tmp_path / "run"
    driver = drivers.start(folder, "slurm", chunk_size=12)
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob(".jobs/*_submitted.pkl"))) < 2:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert not wait_until_gone(driver.pid, PATIENCE)
    held = sorted(path.name for path in (folder / "chunks").glob("*.parquet"))
    assert held, "the jobs have written"
    _engine_driver.run(folder, chunk_size=12)
    assert comparable(folder)["success"].tolist() == whole["success"].tolist()


@pytest.mark.slow
def test_interrupted_driver_cancels_and_keeps(tmp_path: Path, drivers: Drivers) -> None:
    folder = tmp_path / "run"
    # many slow chunks: the run must not be over when the signal comes, on a busy machine either
    options: dict[str, Any] = {"panel": "standard", "chunk_size": 1}
    driver = drivers.start(folder, "processes", **options)
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("chunks/*")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in driver.communicate(timeout=PATIENCE)[1]
    assert not wait_until_gone(driver.pid)
    drivers.run(folder, "local", **options)
    drivers.run(tmp_path / "whole", "local", **options)
    pd.testing.assert_frame_equal(comparable(folder), comparable(tmp_path / "whole"))


class TestClusters:
    def test_ray_that_does_not_answer(self, tmp_path: Path) -> None:
        pytest.importorskip("ray")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            begun = time.monotonic()
            with pytest.raises(
                ValueError, match=f"address={address}: no Ray cluster answers"
            ) as error:
                _engine_driver.run(
                    tmp_path / "run",
                    engine="ray",
                    workers=1,
                    engine_args={"address": address},
                    rebuild=_engine_driver.rebuild,
                )
        assert "\n" not in str(error.value)
        assert time.monotonic() - begun < 60  # 10 s of them for the answer
        assert not (tmp_path / "run").exists()

    def test_dask_that_does_not_answer(self, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"address={address}: no Dask scheduler answers"):
            _engine_driver.run(
                tmp_path / "run",
                engine="dask",
                workers=1,
                engine_args={"address": address},
                rebuild=_engine_driver.rebuild,
            )
        assert not (tmp_path / "run").exists()

    def test_another_version_on_the_cluster(self) -> None:
        errors = (
            "Traceback ...\nRuntimeError: Version mismatch: The cluster was started with:\n"
            "    Ray: 2.9.0\n    Python: 3.10.1\nThis process on 10.0.0.1 was started with:\n"
            "    Ray: 2.60.0\n    Python: 3.11.7\n"
        )
        assert ray_engine.problem_of(errors) == (
            "workers need the versions of this process. The cluster was started with: Ray: 2.9.0"
            " Python: 3.10.1 This process on 10.0.0.1 was started with: Ray: 2.60.0 Python: 3.11.7"
        )

    @pytest.mark.parametrize("name", ["slurm_partitoin", "timeout"])
    def test_unknown_parameters_of_slurm(self, tmp_path: Path, name: str) -> None:
        pytest.importorskip("submitit")
        with pytest.raises(ValueError, match=name):
            _engine_driver.run(
                tmp_path / "run",
                engine="slurm",
                workers=1,
                engine_args={"cluster": "local", name: 1},
                rebuild=_engine_driver.rebuild,
            )
        assert not (tmp_path / "run").exists()

    def test_machines_too_small_for_a_worker(self) -> None:
        machines = [{"CPU": 4.0, "memory": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
        ray_engine.check_machines(machines, {"CPU": 8, "GPU": 0.5})
        with pytest.raises(ValueError, match=r"needs 2 CPUs .* 2 GPUs .* has 8 CPUs and 1 GPUs"):
            ray_engine.check_machines(machines, {"CPU": 2, "GPU": 2})
