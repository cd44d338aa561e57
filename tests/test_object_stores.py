"""Runs in object stores, on fsspec's store in the memory of this process."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.data import Dataset
from art_ext.evaluation import Outcome, evaluate, load_run, read_records
from art_ext.evaluation.execution.engines import Workers, started
from art_ext.evaluation.report import plots
from art_ext.storage import store as stores
from art_ext.storage.store import LocalStore, ObjectStore, StoreError, local_folder, store_of
from art_ext.training import Natural, train
from art_ext.training.runs import resolve, run_training

pytest.importorskip("upath", reason="universal-pathlib is not installed")
from fsspec.implementations.memory import MemoryFileSystem

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A folder of fsspec's memory, which is empty afterwards."""
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    for file in [file for file in MemoryFileSystem.store if file.startswith(f"/{name}/")]:
        del MemoryFileSystem.store[file]


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:build"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def short_evaluation(place: Any, **options: Any) -> Outcome:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.load_state_dict({"1.weight": torch.eye(64)[:10], "1.bias": torch.zeros(10)})
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset("noise", x, model(x).argmax(dim=1))
    settings: dict[str, Any] = {"attacks": ("pgd", "rays"), "eps": 0.1, "max_queries": 30}
    return evaluate(model, data, place, chunk_size=3, **{**settings, **options})


def without_times(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns="seconds")


class TestPlaces:
    def test_urls_of_files_are_local_folders(self, tmp_path: Path) -> None:
        for place in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
            store = store_of(place)
            assert isinstance(store, LocalStore)
            assert store.path == tmp_path
            assert local_folder(place, "train") == tmp_path
        assert isinstance(store_of("C:/folder"), LocalStore), "a drive is no scheme"

    def test_paths_of_universal_pathlib(self, url: str) -> None:
        from upath import UPath

        store = store_of(UPath(url) / "run")
        store.write("chunks/file", b"content")
        assert str(store.path) == f"{url}/run"
        assert store_of(f"{url}/run/").read("chunks/file") == b"content"
        assert (UPath(url) / "run" / "chunks" / "file").read_bytes() == b"content"
        assert store_of(store) is store

    def test_listings_are_not_cached(self, url: str) -> None:
        store = store_of(url)
        assert isinstance(store, ObjectStore)
        assert store._files.dircache.use_listings_cache is False

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("s4://bucket/run", r"unknown scheme 's4' in s4://bucket/run \(did you mean 's3'\?\)"),
            ("https://host/run", "unknown scheme 'https' .*: wanted a folder, or a URL of file"),
            ("memory://", "memory:// names no bucket or folder: wanted SCHEME://BUCKET/FOLDER"),
            (Path("s3://bucket/run"), "s3:/bucket/run lacks a slash: write s3://BUCKET/FOLDER"),
        ],
    )
    def test_bad_places(self, place: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            store_of(place)

    @pytest.mark.parametrize(
        ("missing", "place", "remedy"),
        [
            ("s3fs", "s3://bucket/run", "pip install 'art-ext[s3]'"),
            ("gcsfs", "gs://bucket/run", "pip install 'art-ext[gcs]'"),
            ("upath", "memory://run", "pip install universal-pathlib"),
        ],
    )
    def test_without_the_library(
        self, monkeypatch: pytest.MonkeyPatch, net: str, missing: str, place: str, remedy: str
    ) -> None:
        monkeypatch.setattr(stores, "find_spec", lambda name: None if name == missing else name)
        monkeypatch.setattr("art_ext.data.load_data", None)  # nothing is loaded before the error
        done = call("evaluate", "--model", net, "--data", "digits", "--out", place)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {place} needs universal-pathlib and")
        assert done.stderr.endswith(f"{remedy}\n")
        assert done.stderr.count("\n") == 1


class TestEvaluation:
    def test_after_an_exception_at_each_write(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The run goes on to the same records, and what was written is whole."""
        monkeypatch.setattr(plots, "draw", lambda loaded: [])
        write = MemoryFileSystem.pipe_file
        count = 0
        fatal = 0

        def counted(self: Any, path: str, value: bytes, **options: Any) -> None:
            nonlocal count
            count += 1
            if count == fatal:
                raise ConnectionError("the network is gone")
            write(self, path, value, **options)

        monkeypatch.setattr(MemoryFileSystem, "pipe_file", counted)
        expected = without_times(short_evaluation(f"{url}/whole", attacks=("rays",)).records)
        files = [file for file in MemoryFileSystem.store if "/whole/" in file]
        writes = count
        assert writes >= len(files)
        for fatal in range(1, writes + 1):
            count = 0
            place = f"{url}/{fatal}"
            with pytest.raises(StoreError, match=f"^{place}/.* cannot be written: the network is"):
                short_evaluation(place, attacks=("rays",))
            outcome = short_evaluation(place, attacks=("rays",))
            assert outcome.missing == 0
            pd.testing.assert_frame_equal(without_times(outcome.records), expected)
            pd.testing.assert_frame_equal(without_times(read_records(place)), expected)
            names = {file.replace("/whole/", f"/{fatal}/") for file in files}
            assert {file for file in MemoryFileSystem.store if f"/{fatal}/" in file} == names

    def test_it_continues_and_is_replaced(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plots, "draw", lambda loaded: [])
        short_evaluation(url)
        before = dict(MemoryFileSystem.store)
        with pytest.raises(ValueError, match=f"{url} holds another run .*seed"):
            short_evaluation(url, seed=1)
        assert dict(MemoryFileSystem.store) == before
        short_evaluation(url, seed=1, overwrite=True)
        assert load_run(url).run["settings"]["seed"] == 1
        assert sorted(MemoryFileSystem.store) == sorted(before)

    def test_workers_cannot_open_the_memory_of_this_process(self, url: str) -> None:
        with pytest.raises(ValueError, match="engine 'processes' needs a folder that its workers"):
            short_evaluation(url, engine="processes", workers=2, rebuild=partial(print))
        assert not store_of(url).names()

    def test_jobs_of_slurm_need_a_folder(self, url: str) -> None:
        pytest.importorskip("submitit")
        workers = Workers("slurm", 1, arguments={"cluster": "local"})
        with (
            pytest.raises(ValueError, match=f"{url} is not a disk: --engine-args folder=FOLDER"),
            started(workers, store_of(url).path),
        ):
            pass


class TestCommands:
    def test_evaluate_merge_report_compare(self, url: str, tmp_path: Path, net: str) -> None:
        order = ["evaluate", "--model", net, "--data", "digits", "--n", "20", "--chunk-size", "10"]
        order += ["--attack", "pgd,rays", "--max-queries", "40", "--eps", "0.1"]
        for place in (f"{url}/run", tmp_path / "run"):
            done = call(*order, "--out", place)
            assert done.exit_code == 0, done.stderr
            assert f"report: {place}/index.html\n" in done.stdout
        assert not Path(url).exists()
        records = without_times(read_records(tmp_path / "run"))
        pd.testing.assert_frame_equal(without_times(read_records(f"{url}/run")), records)
        store = store_of(f"{url}/run")
        here = sorted(str(one.relative_to(tmp_path / "run")) for one in _files(tmp_path / "run"))
        assert sorted(_names(store)) == here
        assert _timeless(store.read("index.html")) == _timeless(
            (tmp_path / "run" / "index.html").read_bytes()
        )
        # the same call has nothing left to do
        assert call(*order, "--out", f"{url}/run").exit_code == 0

        for part in (0, 1):
            done = call(*order, "--shard", f"{part}/2", "--out", f"{url}/part{part}")
            assert done.exit_code == 0, done.stderr
        done = call("merge", f"{url}/part0", f"{url}/part1", "--out", f"{url}/merged")
        assert done.exit_code == 0, done.stderr
        pd.testing.assert_frame_equal(without_times(read_records(f"{url}/merged")), records)
        assert "config.toml" in store_of(f"{url}/merged").names()

        before = store.read("index.html")
        store.remove("index.html")
        done = call("report", f"{url}/run")
        assert (done.exit_code, done.stdout) == (0, f"report: {url}/run/index.html\n")
        assert store.read("index.html") == before
        done = call("report", f"{url}/run", f"{url}/merged", "--out", f"{url}/both")
        assert done.exit_code == 0, done.stderr
        assert b"(merged)" in store_of(f"{url}/both").read("index.html")
        done = call("report", tmp_path / "run", "--out", f"{url}/run")
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"out must not be another run's folder, got {url}/run" in done.stderr

        done = call("compare", f"{url}/run", tmp_path / "run", "--out", f"{url}/differences.json")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith(f"A: {url}/run\nB: {tmp_path / 'run'}\n")
        assert json.loads(store_of(url).read("differences.json"))

    def test_errors_of_the_store(self, url: str, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line and exit code 2, and before the data are loaded where the store shows it."""
        order = ["evaluate", "--model", net, "--data", "digits", "--n", "4", "--out", url]

        def denied(*_: Any, **__: Any) -> None:
            raise PermissionError("Access Denied")

        for function, act in (("pipe_file", "written"), ("cat_file", "read"), ("ls", "listed")):
            with monkeypatch.context() as patch:
                patch.setattr(MemoryFileSystem, function, denied)
                if function == "ls":
                    patch.setattr("art_ext.data.load_data", None)
                done = call(*order, "--quiet")
            assert (done.exit_code, done.stdout) == (2, ""), function
            assert re.fullmatch(
                rf"error: .*{url}.* cannot be {act}: Access Denied.*\n", done.stderr
            ), done.stderr
            assert not store_of(url).names()

    def test_errors_of_any_class_name_the_place(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class NoCredentials(Exception):
            """botocore's errors are of no class of Python's."""

        def failing(*_: Any, **__: Any) -> None:
            raise NoCredentials("Unable to\nlocate credentials")

        monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
        with pytest.raises(
            StoreError, match=r"NoCredentials: Unable to locate credentials"
        ) as info:
            load_run(url)
        assert str(info.value).startswith(f"{url}/run.json cannot be read: ")

    def test_what_stays_local(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        place = "s3://bucket/run"
        for order in (
            ("train", "--recipe", "natural", "--data", "digits", "--out", place),
            ("submit", "memory://run", "--out", place),
        ):
            done = call(*order)
            assert (done.exit_code, done.stdout) == (2, "")
            assert done.stderr == (
                f"error: {order[0]} writes into a local folder only, got {place}: give a folder,"
                " and copy it when it is complete\n"
            )
        with pytest.raises(ValueError, match="train writes into a local folder only"):
            train(nn.Linear(2, 2), [], Natural(), epochs=1, checkpoint_dir=place)
        with pytest.raises(ValueError, match="train writes into a local folder only"):
            run_training(resolve({"recipe": "natural", "data": "digits"}), place)
        assert not list(tmp_path.iterdir())


def _files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def _names(store: Any, folder: str = "") -> Iterator[str]:
    """Yield the names of all files of a store."""
    for name in store.names(folder):
        place = f"{folder}/{name}" if folder else name
        inside = list(_names(store, place))
        yield from inside or [place]


def _timeless(page: bytes) -> str:
    """Return a report without times: when it began, and the seconds that things took."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "TIME", page.decode())
    text = re.sub(r'data-sort="[\d.]+" data-title="Seconds"[^>]*><span>[\d.]+', "SECONDS", text)
    return re.sub(r"took [\d.]+ \w+", "SECONDS", text)
