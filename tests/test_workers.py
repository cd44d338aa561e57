"""Workers of an evaluation: the same records as one process, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.data import Samples, load_data
from art_ext.evaluation import Watcher, Workers, evaluate
from art_ext.evaluation.execution.executor import Distribution
from art_ext.storage.units import CHUNKS

N = 24
OPTIONS: dict[str, Any] = {
    "attacks": ("fgsm", "pgd", "rays"),
    "attack_args": {"pgd": {"num_steps": 3}},
    "mode": "cascade",
    "eps": (0.1, 0.2),
    "max_queries": 30,
    "chunk_size": 6,
    "batch_size": 6,
}


class Centroids(nn.Module):
    """The nearest class mean of the training digits. It may kill its process at a sample."""

    def __init__(self, deadly: int | None = None, once: Path | None = None) -> None:
        super().__init__()
        train = load_data("digits", split="train")
        means = torch.stack(
            [train.x[train.y == label].flatten(1).mean(dim=0) for label in range(10)]
        )
        self.weight = nn.Parameter(2 * means)
        self.bias = nn.Parameter(-means.square().sum(dim=1))
        self.deadly = None if deadly is None else load_data("digits").x[deadly]
        self.once = once

    def forward(self, x: Tensor) -> Tensor:
        killed_before = self.once is not None and self.once.exists()
        if (
            self.deadly is not None
            and not killed_before
            and bool((x == self.deadly).flatten(1).all(dim=1).any())
        ):
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x.flatten(1) @ self.weight.T + self.bias


def rebuild(deadly: int | None = None, once: Path | None = None) -> tuple[dict[str, Any], Samples]:
    torch.set_num_threads(1)
    return {"model": Centroids(deadly, once)}, load_data("digits").first(N)


def local(out: Path, **more: Any) -> Any:
    models, data = rebuild()
    return evaluate(models, data, out, **{**OPTIONS, **more})


def comparable(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns="seconds")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a report: drawing is not what is tested here."""
    monkeypatch.setattr("art_ext.evaluation.report.page.write_report", lambda *_: None)


class TestProcesses:
    def test_give_the_records_of_one_process(self, tmp_path: Path) -> None:
        heard = []

        class Listener(Watcher):
            def chunks(self, done: int, total: int) -> None:
                heard.append((done, total))

        whole = local(tmp_path / "whole")
        shared = local(tmp_path / "shared", workers=Workers(rebuild, 2), watcher=Listener())
        pd.testing.assert_frame_equal(comparable(shared.records), comparable(whole.records))
        assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]

    @pytest.mark.slow
    def test_a_killed_worker_is_replaced(self, tmp_path: Path) -> None:
        mark = tmp_path / "killed"
        workers = Workers(partial(rebuild, 13, mark), 2)
        shared = local(tmp_path / "shared", workers=workers)
        assert mark.exists(), "a worker died"
        pd.testing.assert_frame_equal(
            comparable(shared.records), comparable(local(tmp_path / "whole").records)
        )

    @pytest.mark.slow
    def test_a_chunk_that_always_kills_is_named_and_the_others_are_kept(
        self, tmp_path: Path
    ) -> None:
        workers = Workers(partial(rebuild, 13), 2, retries=1)
        with pytest.raises(
            ValueError,
            match=r"^chunk 2 \(samples 12 to 17\) failed 2 times .*All others are kept: run the",
        ):
            local(tmp_path / "shared", workers=workers)
        ended = {path.stem[-5:] for path in (tmp_path / "shared" / CHUNKS).glob("[0-9]*.parquet")}
        assert ended == {"00000", "00001", "00003"}
        again = local(tmp_path / "shared")
        pd.testing.assert_frame_equal(
            comparable(again.records), comparable(local(tmp_path / "whole").records)
        )

    @pytest.mark.slow
    def test_a_killed_driver_takes_its_workers_along_and_the_run_goes_on(
        self, tmp_path: Path
    ) -> None:
        program = textwrap.dedent(
            f"""
            from pathlib import Path
            from art_ext.evaluation import Workers
            from tests.test_workers import local, rebuild
            if __name__ == "__main__":
                local(Path({str(tmp_path / "run")!r}), workers=Workers(rebuild, 2), max_queries=4000)
            """
        )
        (tmp_path / "driver.py").write_text(program)
        root = str(Path(__file__).parents[1])
        paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        driver = subprocess.Popen(
            [sys.executable, str(tmp_path / "driver.py")],
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,
        )
        chunks = tmp_path / "run" / CHUNKS
        while not list(chunks.glob("[0-9]*.parquet")):
            assert driver.poll() is None
            time.sleep(0.05)
        driver.kill()
        driver.wait()
        deadline = time.monotonic() + 30
        while _in_session(driver.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not _in_session(driver.pid), "the workers end with the driver"
        again = local(tmp_path / "run", max_queries=4000)
        whole = local(tmp_path / "whole", max_queries=4000)
        pd.testing.assert_frame_equal(comparable(again.records), comparable(whole.records))


def _in_session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


class TestBadInput:
    def test_rebuild_that_other_processes_cannot_load(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"rebuild and the attacks must be functions of"):
            local(tmp_path / "run", workers=Workers(lambda: rebuild(), 2))
        assert not (tmp_path / "run").exists()

    def test_error_of_the_user_is_that_of_one_process(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"^rebuild found no weights$"):
            local(tmp_path / "run", workers=Workers(_failing, 2))

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            ("_other_weights", "workers build another model 'model' than the run has"),
            ("_other_data", "workers build another data than the run has"),
            ("_model_alone", "a mapping of names to models and a Dataset, got Centroids"),
        ],
    )
    def test_workers_that_build_something_else(
        self, tmp_path: Path, build: str, message: str
    ) -> None:
        class Here(Executor):
            def submit(self, task: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
                future: Future[Any] = Future()
                try:
                    future.set_result(task(*arguments))
                except ValueError as error:
                    future.set_exception(error)
                return future

        with pytest.raises(ValueError, match=message):
            local(
                tmp_path / "run",
                workers=Workers(globals()[build], 1, make_executor=lambda _: Here()),
            )
        assert not list((tmp_path / "run" / CHUNKS).glob("[0-9]*"))

    def test_a_number_of_workers(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"workers must be Workers\(build, 2\), .* got 2"):
            local(tmp_path / "run", workers=2)

    @pytest.mark.parametrize("options", [{"number": 0}, {"retries": -1}])
    def test_numbers(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be"):
            Workers(rebuild, **options)


def _other_weights() -> Any:
    models, data = rebuild()
    with torch.no_grad():
        models["model"].bias += 1
    return models, data


def _other_data() -> Any:
    return rebuild()[0], load_data("digits").first(N - 1)


def _model_alone() -> Any:
    return Centroids()


def _failing() -> Any:
    raise ValueError("rebuild found no weights")


class Dying(Executor):
    """Executor that runs a task when its future is asked, and breaks on deadly tasks."""

    def __init__(self, deadly: set[int], log: list[tuple[int, ...]]) -> None:
        self.deadly = deadly
        self.log = log
        self.waiting: list[tuple[int, Future[None]]] = []

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((arguments[0], future))
        if len(self.waiting) == 2 or arguments[0] in self.deadly:
            self.log.append(tuple(number for number, _ in self.waiting))
            broken = any(number in self.deadly for number, _ in self.waiting)
            for number, one in self.waiting:
                one.set_exception(BrokenExecutor("died")) if broken else one.set_result(
                    task(number)
                )
            self.waiting = []
        return future


class TestDistribution:
    def test_charges_the_chunk_that_kills_and_no_other(self) -> None:
        log: list[tuple[int, ...]] = []
        done: list[int] = []
        names = {number: f"chunk {number}" for number in (0, 1)}

        class Solo(Dying):
            def submit(self, task: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
                future: Future[Any] = Future()
                log.append(arguments)
                if arguments[0] in self.deadly:
                    future.set_exception(BrokenExecutor("died"))
                else:
                    future.set_result(task(*arguments))
                return future

        made = iter([Dying({1}, log), *[Solo({1}, log) for _ in range(9)]])
        workers = Workers(rebuild, 2, 2, lambda number: next(made))
        with pytest.raises(ValueError, match=r"^chunk 1 failed 3 times"):
            Distribution(workers, done.append, names, Watcher()).run()
        assert done == [0]
        assert log == [(0, 1), (0,), (1,), (1,), (1,)]

    def test_other_errors_are_charged_at_once(self) -> None:
        calls: list[int] = []

        def task(number: int) -> None:
            calls.append(number)
            if number == 1 and calls.count(1) < 3:
                raise RuntimeError("out of memory")

        class Direct(Executor):
            def submit(self, task: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
                future: Future[Any] = Future()
                try:
                    future.set_result(task(*arguments))
                except RuntimeError as error:
                    future.set_exception(error)
                return future

        names = {number: f"chunk {number}" for number in range(3)}
        Distribution(Workers(rebuild, 2, 2, lambda _: Direct()), task, names, Watcher()).run()
        assert sorted(calls) == [0, 1, 1, 1, 2]
