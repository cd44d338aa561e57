"""Workers of an evaluation: the same records as one process, also after a kill."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.data import Samples, load_data
from art_ext.evaluation import Watcher, evaluate
from art_ext.evaluation.execution.engines import Started, Workers, device_of_driver, processes
from art_ext.evaluation.execution.engines.slots import Slots
from art_ext.evaluation.execution.executor import Distribution
from art_ext.evaluation.execution.job import Blueprint, Ended
from art_ext.evaluation.execution.services import WorkersStopped
from art_ext.evaluation.execution.work import ChunkTask
from art_ext.models.remote import Usage
from art_ext.storage.chunks import CHUNKS
from tests._sessions import wait_until_gone

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


pytestmark = pytest.mark.usefixtures("no_report")


class TestProcesses:
    def test_give_the_records_of_one_process(self, tmp_path: Path) -> None:
        heard = []

        class Listener(Watcher):
            def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
                heard.append((done, total, dict(robust)))

        whole = local(tmp_path / "whole")
        shared = local(tmp_path / "shared", rebuild=rebuild, workers=2, watcher=Listener())
        pd.testing.assert_frame_equal(comparable(shared.records), comparable(whole.records))
        assert [(done, total) for done, total, _ in heard] == [(n, 4) for n in (1, 2, 3, 4)]
        last = max(whole.rows, key=lambda row: (row.eps, row.attack == "rays"))
        assert heard[-1][2] == {"model": last.robust_accuracy}, "of the cascade, at the largest eps"

    @pytest.mark.slow
    def test_a_killed_worker_is_replaced(self, tmp_path: Path) -> None:
        mark = tmp_path / "killed"
        shared = local(tmp_path / "shared", rebuild=partial(rebuild, 13, mark), workers=2)
        assert mark.exists(), "a worker died"
        pd.testing.assert_frame_equal(
            comparable(shared.records), comparable(local(tmp_path / "whole").records)
        )

    @pytest.mark.slow
    def test_a_chunk_that_always_kills_is_named_and_the_others_are_kept(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(
            ValueError,
            match=r"^chunk 2 \(samples 12 to 17\) failed 3 times: its worker died.* All others are"
            " kept: run the",
        ):
            local(tmp_path / "shared", rebuild=partial(rebuild, 13), workers=2)
        ended = {path.stem for path in (tmp_path / "shared" / CHUNKS).glob("[0-9]*.parquet")}
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
            from tests.test_workers import local, rebuild
            if __name__ == "__main__":
                local(Path({str(tmp_path / "run")!r}), rebuild=rebuild, workers=2, max_queries=4000)
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
        assert not wait_until_gone(driver.pid), "the workers end with the driver"
        again = local(tmp_path / "run", max_queries=4000)
        whole = local(tmp_path / "whole", max_queries=4000)
        pd.testing.assert_frame_equal(comparable(again.records), comparable(whole.records))


class TestBadInput:
    def test_rebuild_that_other_processes_cannot_load(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"rebuild and the attacks must be functions of"):
            local(tmp_path / "run", rebuild=lambda: rebuild(), workers=2)
        assert not (tmp_path / "run").exists()

    def test_function_of_the_script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("submitit")
        monkeypatch.setattr(sys.modules["__main__"], "build", _failing, raising=False)
        monkeypatch.setattr(_failing, "__module__", "__main__")
        monkeypatch.setattr(_failing, "__qualname__", "build")
        with pytest.raises(ValueError, match=r"a function of the script itself is in no module"):
            local(tmp_path / "run", rebuild=_failing, engine="slurm", workers=2)
        assert not (tmp_path / "run").exists()

    def test_error_of_the_user_is_that_of_one_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "start", lambda *_: Started(Slots([Here()]), 1))
        with pytest.raises(
            ValueError, match=r"failed on \S+: ValueError: rebuild found no weights\. No chunk"
        ):
            local(tmp_path / "run", rebuild=_failing, workers=2)

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            ("_other_weights", r"worker on \S+ built another model 'model' than the run has"),
            ("_other_data", r"worker on \S+ built another data than the run has"),
            ("_model_alone", "a mapping of names to models and a Dataset, got Centroids"),
        ],
    )
    def test_workers_that_build_something_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, message: str
    ) -> None:
        monkeypatch.setattr(processes, "start", lambda *_: Started(Slots([Here()]), 1))
        with pytest.raises(ValueError, match=message):
            local(tmp_path / "run", rebuild=globals()[build], workers=1)
        assert not list((tmp_path / "run" / CHUNKS).glob("[0-9]*"))

    def test_workers_that_load_another_version_of_an_attack(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attacks_as_before: None
    ) -> None:
        file = tmp_path / "mine.py"
        text = (
            "from art_ext.core.attacks import fgsm\n"
            "def own(model, x, y, *, eps):\n    return fgsm(model, x, y, eps=eps)\n"
        )
        file.write_text(text)

        def start(*_: Any) -> Started:
            file.write_text(text.replace("eps=eps", "eps=eps / 2"))  # on the worker's machine
            return Started(Slots([Here()]), 1)

        monkeypatch.setattr(processes, "start", start)
        options = {"attacks": [f"{file}:own"], "attack_args": {}, "mode": "independent"}
        with pytest.raises(
            ValueError,
            match=rf"worker on \S+ loaded another version of {file} than the run has: the file of"
            " the attack 'own' must",
        ):
            local(tmp_path / "run", rebuild=rebuild, workers=1, **options)
        assert not list((tmp_path / "run" / CHUNKS).glob("[0-9]*"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"engine": "rey", "workers": 2}, r"engine must be one of .*, got 'rey'"),
            ({"workers": 0}, "workers must be an integer >= 1, got 0"),
            ({"workers": 2, "threads_per_worker": 0}, "threads_per_worker must be an integer >= 1"),
            ({"workers": 2, "gpus_per_worker": -1}, "gpus_per_worker must be"),
            (
                {"workers": 2, "gpus_per_worker": 1.5},
                "a fraction of one GPU or an integer, got 1.5",
            ),
            ({"workers": 2, "engine_args": {"adress": "x"}}, "engine_args must be"),
            ({"engine": "ray", "engine_args": {"adress": "x"}}, "'address'"),
            ({"engine": "local", "workers": 2}, "workers belongs to an engine with workers"),
            ({"gpus_per_worker": 1}, "gpus_per_worker belongs to an engine with workers"),
            ({"engine": "processes", "rebuild": None}, "'processes' needs a source, because"),
        ],
    )
    def test_options(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            local(tmp_path / "run", **{"rebuild": rebuild, **options})
        assert not (tmp_path / "run").exists()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has GPUs")
    @pytest.mark.parametrize("engine", ["processes", "ray", "slurm", "dask"])
    def test_gpus_that_are_not_there(self, tmp_path: Path, engine: str) -> None:
        library = {"slurm": "submitit", "dask": "distributed"}.get(engine, engine)
        if engine != "processes":
            pytest.importorskip(library)
        cluster = {"cluster": "local"} if engine == "slurm" else {}
        with pytest.raises(ValueError, match=r"gpus_per_worker 0.5 .* this machine has none"):
            local(
                tmp_path / "run",
                rebuild=rebuild,
                engine=engine,
                workers=2,
                gpus_per_worker=0.5,
                engine_args=cluster,
            )
        assert not (tmp_path / "run").exists()


class TestPlacement:
    @pytest.mark.parametrize(
        ("number", "gpus", "listed", "places"),
        [
            (2, 1, None, ["0", "1"]),
            (4, 0.5, None, ["0", "0", "1", "1"]),
            (2, 2, "4,5,6,7", ["4,5", "6,7"]),
            (3, 1 / 3, "7", ["7", "7", "7"]),
            (2, 0, None, [None, None]),
        ],
    )
    def test_of_gpus(
        self,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        gpus: float,
        listed: str | None,
        places: list[str | None],
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4 if listed is None else 9)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if listed is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert Workers("processes", number, gpus).gpu_names() == places

    @pytest.mark.parametrize(
        ("device", "engine", "gpus", "expected"),
        [
            ("cuda", "ray", False, None),
            ("cuda", "ray", True, "cuda"),
            ("cuda", "local", False, "cuda"),  # an error, when the model is moved
            ("cuda", None, False, "cuda"),
            ("cpu", "ray", False, "cpu"),
        ],
    )
    def test_of_the_driver_of_a_cluster(
        self,
        monkeypatch: pytest.MonkeyPatch,
        device: str,
        engine: str | None,
        gpus: bool,
        expected: str | None,
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
        assert device_of_driver(device, engine) == expected

    @pytest.mark.parametrize("device", ["cuda:1", "cuda:2"])
    def test_a_worker_sees_its_own_gpus_only(self, device: str) -> None:
        Workers("processes", 2, 0).check_device(device)
        Workers("processes", 2, 3).check_device(device)
        Workers("processes", 2, 1).check_device("cuda:0")
        with pytest.raises(ValueError, match=f"device must be cuda with .*, got '{device}'"):
            Workers("processes", 2, 0.5).check_device(device)

    def test_a_task_carries_names_only(self) -> None:
        blueprint = Blueprint(rebuild, [], None, "cascade", False)  # type: ignore[arg-type]
        task = ChunkTask(blueprint.pickled(), blueprint.key, "run", 1)
        assert len(pickle.dumps(task)) < 1000


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


class Here:
    """Worker in this process."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments))
        except RuntimeError as error:
            future.set_exception(error)
        return future

    def end(self) -> None:
        pass


@dataclass
class Tasks:
    """Task whose chunks die or fail so many times, or for good with a ValueError."""

    deaths: dict[int, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)
    wrong: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()
    log: list[tuple[int, ...]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def __call__(self, numbers: Sequence[int]) -> list[Ended]:
        self.log.append(tuple(numbers))
        ends = []
        for number in numbers:
            if self.deaths.get(number, 0):
                self.deaths[number] -= 1
                raise RuntimeError("died")
            if self.errors.get(number, 0):
                self.errors[number] -= 1
                ends.append(Ended(number, "host", {}, "RuntimeError: out of memory"))
            elif number in self.stops:
                ends.append(
                    Ended(number, "host", {}, "revoked", stopped=True, usage=Usage(5, 2, 3))
                )
                break
            elif number in self.wrong:
                ends.append(Ended(number, "host", {}, "no such weights", final=True))
            else:
                self.done.append(number)
                ends.append(Ended(number, "host", {"model": (4, 2 + number)}))
        return ends

    def run(self, chunks: int, most_tasks: int | None = None, workers: int = 1) -> list[Any]:
        heard: list[Any] = []

        class Listener(Watcher):
            def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
                heard.append((done, total, robust))

        Distribution(
            Workers("processes", workers),
            Started(Slots([Here()]), 1, most_tasks),
            self,
            {number: f"chunk {number}" for number in range(chunks)},
            self.done.__contains__,
            Listener(),
        ).run()
        return heard


class TestDistribution:
    def test_tells_the_robust_share_of_what_is_done(self) -> None:
        heard = Tasks().run(3)
        assert heard == [
            (1, 3, {"model": 2 / 4}),
            (2, 3, {"model": 5 / 8}),
            (3, 3, {"model": 9 / 12}),
        ]

    @pytest.mark.parametrize("kind", ["deaths", "errors"])
    def test_tries_again_twice(self, kind: str) -> None:
        tasks = Tasks()
        getattr(tasks, kind)[1] = 2
        tasks.run(3)
        assert sorted(tasks.done) == [0, 1, 2]
        assert tasks.log.count((1,)) == 3

    def test_names_what_fails_for_good_and_does_the_rest(self) -> None:
        tasks = Tasks(deaths={1: 9}, errors={2: 9}, wrong=(3, 5))
        with pytest.raises(ValueError, match="All others are kept: run the same") as error:
            tasks.run(7)
        assert tasks.done == [0, 4, 6]
        assert tasks.log.count((3,)) == 1, "a ValueError is not tried again"
        assert str(error.value).startswith(
            "chunk 1 failed 3 times: its worker died, killed or out of memory (RuntimeError: died);"
            " chunk 2 failed 3 times on host: RuntimeError: out of memory;"
            " chunk 3, chunk 5 failed on host: no such weights."
        )

    def test_a_fault_of_everything_ends_the_run(self) -> None:
        tasks = Tasks(wrong=tuple(range(1000)))
        with pytest.raises(ValueError, match="No chunk succeeded"):
            tasks.run(1000, workers=2)
        assert len(tasks.log) <= 1000

    def test_a_model_that_stops_ends_the_run(self) -> None:
        tasks = Tasks(stops=(2,))
        held = Held()
        waiting = [held.submit(int) for _ in range(4)]
        futures = iter(waiting)

        class Handed(Executor):
            def submit(self, task: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
                return next(futures)

        order = Distribution(
            Workers("processes", 2),
            Started(Handed(), 1),
            tasks,
            {number: f"chunk {number}" for number in range(4)},
            tasks.done.__contains__,
            Watcher(),
        )
        waiting[0].set_running_or_notify_cancel()
        one = Ended(1, "host", {"model": (4, 2)}, process=7, usage=Usage(1, 1, 1))
        waiting[1].set_result([one])
        waiting[2].set_result(tasks((2,)))
        end_later = threading.Timer(0.2, lambda: waiting[0].set_result([replace(one, number=0)]))
        end_later.start()
        with pytest.raises(WorkersStopped, match=r"^revoked$") as stop:
            order.run()
        assert stop.value.usage == Usage(6, 3, 4), "of two workers, the newest of each"
        assert waiting[3].cancelled()
        assert waiting[0].done(), "what runs is awaited"

    def test_groups_are_few_and_a_death_costs_one_chunk_an_attempt(self) -> None:
        tasks = Tasks(deaths={2: 1}, wrong=(4,))
        with pytest.raises(ValueError, match=r"^chunk 4 failed on host"):
            tasks.run(10, most_tasks=2)
        assert tasks.log[:2] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
        assert sorted(tasks.log[2:]) == [(2,), (3,), (4,)], "0 and 1 were complete"
        assert sorted(tasks.done) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


class Held:
    """Worker whose tasks end when they are told to."""

    def __init__(self) -> None:
        self.running: list[Future[Any]] = []
        self.ended = False

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        self.running.append(Future())
        return self.running[-1]

    def end(self) -> None:
        self.ended = True


class TestSlots:
    def test_a_free_worker_gets_the_next_task(self) -> None:
        one, two = Held(), Held()
        slots = Slots([one])
        futures = [slots.submit(int) for _ in range(4)]
        assert (len(one.running), len(two.running)) == (1, 0)
        slots.add(two)
        assert (len(one.running), len(two.running)) == (1, 1)
        two.running[0].set_result("b")
        two.running[1].set_exception(RuntimeError("died"))
        assert len(two.running) == 3
        assert futures[1].result() == "b"
        with pytest.raises(RuntimeError, match="died"):
            futures[2].result()
        assert not futures[0].done()

    def test_the_end_cancels_what_waits(self) -> None:
        worker = Held()
        closed: list[bool] = []
        slots = Slots([worker], lambda: closed.append(True))
        futures = [slots.submit(int) for _ in range(3)]
        slots.shutdown()
        assert [future.cancelled() for future in futures] == [False, True, True]
        assert worker.ended
        assert closed == [True]
        with pytest.raises(RuntimeError, match="have ended"):
            slots.submit(int)
