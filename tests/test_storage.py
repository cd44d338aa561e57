"""Run folders: atomic files, ownership, formats, differences, locks."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import nn
from typer.testing import CliRunner

from art_ext.adapters.autoattack.state import StateFolder
from art_ext.cli import app
from art_ext.core.geometry import DISTORTIONS
from art_ext.data import Dataset
from art_ext.evaluation import Outcome, evaluate, load_images, load_run, merge, read_run
from art_ext.evaluation.analysis.records import read_records
from art_ext.evaluation.report import write_report
from art_ext.storage import evaluation, formats
from art_ext.storage.differences import check_configuration, flat, value_differences
from art_ext.storage.evaluation import RunFolder, open_run
from art_ext.storage.files import metadata_of, safetensors_of
from art_ext.storage.locking import OWN_FILES, check_unlocked, locked
from art_ext.storage.ownership import PREVIOUS, is_free, put_aside, read_manifest, sweep
from art_ext.storage.records import COLUMNS, parquet_of, table_of_columns, table_of_rows
from art_ext.storage.store import LocalStore, Place, Store, store_of
from art_ext.storage.training import locked_training
from art_ext.storage.units import plan
from art_ext.training import train

HOLD = """
import sys, time
from pathlib import Path
from art_ext.storage.locking import locked
with locked(Path(sys.argv[1])):
    {more}
    print("held", flush=True)
    sys.stdin.read()
"""
# a child of the holder, such as a worker that loads data, which outlives it
FORK = "import os; os.fork() or time.sleep(5)"


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def held_elsewhere(folder: Path, more: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a folder until its input is closed."""
    program = [sys.executable, "-c", HOLD.format(more=more), str(folder)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


class MemoryStore(Store):
    """A store that is no folder. Each write is one step, and nothing else is atomic."""

    def __init__(self, name: str = "memory") -> None:
        self.path = Path("no-such-folder") / name
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = bytes(content)

    def exists(self, name: str) -> bool:
        return name in self.files or any(one.startswith(f"{name}/") for one in self.files)

    def names(self, folder: str = "") -> list[str]:
        start = f"{folder}/" if folder else ""
        inside = [one.removeprefix(start) for one in self.files if one.startswith(start)]
        return sorted({one.split("/")[0] for one in inside})

    def remove(self, name: str) -> None:
        start = f"{name}/" if name else ""
        for one in [one for one in self.files if one == name or one.startswith(start)]:
            del self.files[one]


@pytest.fixture(params=["local", "memory", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "url":
        pytest.importorskip("upath", reason="universal-pathlib is not installed")
        return store_of(f"memory://{tmp_path}")
    return LocalStore(tmp_path / "new") if request.param == "local" else MemoryStore()


class TestStore:
    def test_files_and_folders(self, store: Store) -> None:
        assert store.names() == []
        store.write("deep/in/file", b"content")
        assert store.read("deep/in/file") == b"content"
        assert store.names("deep") == ["in"]
        store.rename("deep/in/file", "other/file")
        assert (store.names("deep/in"), store.names("other")) == ([], ["file"])
        store.remove("deep")
        store.remove("never there")
        assert store.names() == ["other"]
        with store.writing("stream") as stream:
            stream.write(b"1")
            assert not store.exists("stream"), "until it is whole"
            stream.write(b"2")
        with store.reading("stream") as found:
            assert found.read() == b"12"
        with pytest.raises(FileNotFoundError):
            store.read("never there")

    def test_folders_that_appear_at_once(self, store: Store) -> None:
        store.write("kept", b"")
        for content in (b"first", b"second"):
            with store.folder("deep/folder") as place:
                (place / content.decode()).write_bytes(content)
                (place / "in").mkdir()
                (place / "in" / "file").write_bytes(content)
                assert not store.exists(f"deep/folder/{content.decode()}"), "until it is whole"
            assert store.names("deep/folder") == sorted([content.decode(), "in"])
            assert store.read("deep/folder/in/file") == content
        with pytest.raises(FileNotFoundError), store.folder("deep/folder") as place:
            (place / "never there").read_bytes()
        assert (store.names(), store.names("deep")) == (["deep", "kept"], ["folder"])
        assert store.names("deep/folder") == ["in", "second"]
        with store.folder("") as place:
            (place / "whole").write_bytes(b"")
        assert store.names() == ["whole"]

    def test_a_stream_that_fails_leaves_the_old_file(self, store: Store) -> None:
        store.write("file", b"old")
        with pytest.raises((OSError, ValueError)), store.writing("file") as stream:
            stream.seek(-1)
        assert (store.read("file"), store.names()) == (b"old", ["file"])

    def test_metadata_of_tensors(self) -> None:
        tied = torch.arange(6.0).view(2, 3)
        content = safetensors_of({"a": tied, "b": tied.t()}, {"run": "1"})
        assert metadata_of(content) == {"run": "1"}
        assert torch.equal(load_tensors(content)["b"], tied.t())
        assert metadata_of(safetensors_of({})) == {}

    def test_a_write_that_fails_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path)
        store.write("file", b"old")

        def full(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                store.write("file", b"new")
        assert content(tmp_path) == {"file": b"old"}

    def test_a_folder_is_removed_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is killed while it removes a folder leaves a temporary name only."""
        store = LocalStore(tmp_path)
        store.write("folder/file", b"")
        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", lambda *arguments, **options: None)
            store.remove("folder")
        assert not store.exists("folder")
        assert is_free(store)
        sweep(store)
        assert store.names() == []


def short_evaluation(place: Place, **options: Any) -> Outcome:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.load_state_dict({"1.weight": torch.eye(64)[:10], "1.bias": torch.zeros(10)})
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset("noise", x, model(x).argmax(dim=1))
    settings: dict[str, Any] = {"attacks": ("pgd", "rays"), "eps": (0.05, 0.1)}
    more = {"max_queries": 30, "chunk_size": 5, "save_images": True, **options}
    return evaluate(model, data, place, **settings, **more)


@pytest.fixture(scope="module")
def evaluated() -> MemoryStore:
    store = MemoryStore()
    short_evaluation(store)
    return store


class TestAnyStore:
    """Runs in a store that is no folder."""

    def test_an_evaluation_with_its_report(self, evaluated: MemoryStore, tmp_path: Path) -> None:
        here = short_evaluation(tmp_path / "run")
        loaded = load_run(evaluated)
        for found in (read_records(evaluated), loaded.records):
            pd.testing.assert_frame_equal(
                found.drop(columns="seconds"), here.records.drop(columns="seconds")
            )
        assert sorted(evaluated.files) == sorted(content(tmp_path / "run"))
        assert read_run(evaluated) == loaded.run
        assert loaded.run["verdict"] == read_run(tmp_path / "run")["verdict"]  # type: ignore[index]
        images = load_images(tmp_path / "run", "model", 0.1)
        assert torch.equal(load_images(evaluated, "model", 0.1), images)
        assert not evaluated.path.exists()

    def test_it_continues_and_it_is_another_run_than_others(self, evaluated: MemoryStore) -> None:
        store = MemoryStore()
        store.files = dict(evaluated.files)
        for name in ("records.parquet", "index.html", "chunks/00000.parquet"):
            store.remove(name)
        with pytest.raises(ValueError, match=f"{store.path} holds another run .*seed"):
            short_evaluation(store, seed=1)
        assert short_evaluation(store).missing == 0
        assert sorted(store.files) == sorted(evaluated.files)
        same = [name for name in store.files if name.endswith(".safetensors")]
        assert {name: store.files[name] for name in same} == {
            name: evaluated.files[name] for name in same
        }

    def test_a_run_is_replaced(self, evaluated: MemoryStore) -> None:
        store = MemoryStore()
        store.files = {**evaluated.files, "mine": b""}
        short_evaluation(store, seed=1, overwrite=True)
        assert sorted(store.files) == sorted([*evaluated.files, "mine"])
        assert load_run(store).run["settings"]["seed"] == 1

    def test_a_report_on_two_runs(self, evaluated: MemoryStore) -> None:
        other, out = MemoryStore("other"), MemoryStore("out")
        short_evaluation(other, seed=1)
        write_report(out, [load_run(evaluated), load_run(other)])
        assert {"index.html", "table.csv", "table.json", "warnings.json"} <= set(out.files)
        assert b"other" in out.files["index.html"]

    def test_shards_are_merged(self, evaluated: MemoryStore) -> None:
        parts, out = [MemoryStore(name) for name in ("first", "second")], MemoryStore("out")
        for number, part in enumerate(parts):
            assert short_evaluation(part, shard=(number, 2)).missing == 3
        assert merge(parts, out).missing == 0
        pd.testing.assert_frame_equal(
            read_records(out).drop(columns="seconds"),
            read_records(evaluated).drop(columns="seconds"),
        )
        with pytest.raises(ValueError, match="out must be another folder than those to merge"):
            merge(parts, parts[0])

    def test_a_training(self, tmp_path: Path) -> None:
        store: Any = MemoryStore()
        short_training(store)
        short_training(tmp_path)
        here = content(tmp_path)
        assert sorted(store.files) == sorted(here)
        assert store.files["model.safetensors"] == here["model.safetensors"]
        before = dict(store.files)
        short_training(store, resume=True)
        assert store.files["model.safetensors"] == before["model.safetensors"]
        with pytest.raises(ValueError, match="holds checkpoints of an earlier run: resume it"):
            short_training(store)
        assert not store.path.exists()

    def test_a_state_of_autoattack(self) -> None:
        store = MemoryStore()
        with StateFolder.opened(store, {"eps": 0.1}):
            pass
        assert list(store.files) == ["autoattack.json"]
        with (
            pytest.raises(ValueError, match=r"eps: 0\.1 there, 0\.2 here"),
            StateFolder.opened(store, {"eps": 0.2}),
        ):
            pass


class TestOwnership:
    @pytest.mark.parametrize(
        "names", [(), (".run.json.0123.tmp",), OWN_FILES, (f"{PREVIOUS}/run.json",)]
    )
    def test_folders_that_are_free(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        store = LocalStore(tmp_path)
        assert is_free(LocalStore(tmp_path / "new"))
        for name in names:
            store.write(name, b"")
        assert is_free(store)
        store.write("thesis.tex", b"")
        assert not is_free(store)

    def test_whose_a_folder_is(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        assert read_manifest(store, "run.json", "art-ext") is None
        for text, ours in (
            ('{"tool": "art-ext"}', True),
            ('{"tool": "other"}', False),
            ("[]", False),
            ("{", False),
            ("\xff", False),
        ):
            store.write("run.json", text.encode("latin-1"))
            assert (read_manifest(store, "run.json", "art-ext") is not None) == ours

    def test_temporary_files_of_some_names(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        for name in (".a.json.1.tmp", ".b.json.1.tmp", "a.json", "mine.tmp"):
            store.write(name, b"")
        sweep(store, ["a.json"])
        assert store.names() == [".b.json.1.tmp", "a.json", "mine.tmp"]
        sweep(store)
        assert store.names() == ["a.json", "mine.tmp"]

    def test_an_incomplete_run_does_not_replace_the_complete_one(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        for number, complete in enumerate((True, False, True)):
            store.write("manifest", f"{number}".encode())
            put_aside(store, ["data", "manifest"], complete)
            assert store.names() == [PREVIOUS]
            assert store.read(f"{PREVIOUS}/manifest") == (b"0", b"0", b"2")[number]

    @pytest.mark.parametrize("moves", range(4))
    def test_moving_aside_goes_on_after_a_kill(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
    ) -> None:
        store = LocalStore(tmp_path)
        names = ["a", "b", "manifest"]
        for kept in ("old", "new"):  # the old run was put aside before
            for name in names:
                store.write(name, kept.encode())
            if kept == "old":
                put_aside(store, names, complete=True)
        real = LocalStore.rename
        count = iter(range(9))

        def rename(self: LocalStore, name: str, target: str) -> None:
            if next(count) == moves:
                raise KeyboardInterrupt
            real(self, name, target)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "rename", rename)
            if moves < len(names):
                with pytest.raises(KeyboardInterrupt):
                    put_aside(store, names, complete=True)
                assert store.exists("manifest"), "still says whose the folder is"
        put_aside(store, names, complete=True)
        assert store.names() == [PREVIOUS]
        found = {name: store.read(f"{PREVIOUS}/{name}") for name in store.names(PREVIOUS)}
        assert found == dict.fromkeys(names, b"new")

    def test_units_of_another_run_do_not_survive_an_overwrite(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        unit = "chunks/00000.parquet"
        store.write(unit, b"of a run without its run.json")
        store.write("chunks/notes.txt", b"mine")
        folder = RunFolder(tmp_path, {"plan": plan(2, 2, [("model", "pgd", (0.1,))])})
        folder.begin(overwrite=True)
        assert folder.missing() == 1
        assert store.read("chunks/notes.txt") == b"mine"

    def test_what_killed_processes_left_goes_at_the_end(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        folder = RunFolder(tmp_path, {"plan": plan(2, 2, [])})
        folder.begin()
        for name in (".run.json.1.tmp", ".table.csv.1.tmp", "chunks/.00000.parquet.1.tmp"):
            store.write(name, b"half a file")
        store.write(".previous-run.1.tmp/run.json", b"half a folder")
        store.write(".config.toml.1.tmp", b"another process is writing it")
        folder.finish()
        assert store.names() == [".config.toml.1.tmp", "chunks", "run.json"]
        assert store.names("chunks") == []


def old_evaluation(folder: Path, version: Any) -> None:
    run = {"tool": "art-ext", "format": version, "plan": plan(2, 2, [])}
    LocalStore(folder).write("run.json", json.dumps(run).encode())


class TestFormats:
    KINDS: ClassVar[list[formats.Format]] = [
        formats.EVALUATION,
        formats.TRAINING,
        formats.CHECKPOINT,
        formats.AUTOATTACK,
        formats.SUBMISSION,
    ]

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
    def test_what_is_written_is_read_and_nothing_unknown(
        self, kind: formats.Format, tmp_path: Path
    ) -> None:
        assert kind.reads(kind.written)
        for known in kind.readable:
            kind.check(tmp_path, {"format": known})
        for version in (min(kind.readable) - 1, str(kind.written), True, 1.0, None):
            with pytest.raises(ValueError, match=f"of format {version}, wanted") as error:
                kind.check(tmp_path, {"format": version})
            assert str(error.value).startswith(f"{tmp_path} holds a {kind.kind} of format")
            assert str(error.value).endswith(f": {kind.advice}")
        with pytest.raises(ValueError, match="a later version of art-ext wrote it, so install"):
            kind.check(tmp_path, {"format": kind.written + 1})

    def test_older_versions_stated_none(self, tmp_path: Path) -> None:
        for kind in (formats.TRAINING, formats.AUTOATTACK):
            kind.check(tmp_path, {})
        for kind in (formats.EVALUATION, formats.SUBMISSION):
            with pytest.raises(ValueError, match="of format None, wanted"):
                kind.check(tmp_path, {})

    @pytest.mark.parametrize("version", [3, 7, None])
    def test_evaluations(self, tmp_path: Path, version: Any) -> None:
        old_evaluation(tmp_path, version)
        LocalStore(tmp_path).write("records.parquet", b"which must not be read")
        before = content(tmp_path)
        run = {"plan": plan(2, 2, [])}
        message = f"holds a run of format {version}, wanted 4, 5 or 6: .*evaluate it again in a new"
        for read in (open_run, read_records, lambda folder: RunFolder(folder, run).begin()):
            with pytest.raises(ValueError, match=message):
                read(tmp_path)
        assert content(tmp_path) == before

    def test_evaluations_that_are_read_but_not_continued(self, tmp_path: Path) -> None:
        old_evaluation(tmp_path, 4)
        before = content(tmp_path)
        assert open_run(tmp_path).run["format"] == 4
        message = (
            "holds a run of an earlier version of art-ext: choose another folder, or replace that"
            " run with --overwrite. Only its report can still be made: art-ext report"
        )
        with pytest.raises(ValueError, match=message):
            RunFolder(tmp_path, {"plan": plan(2, 2, [])}).begin()
        assert content(tmp_path) == before

    def test_trainings(self, tmp_path: Path) -> None:
        short_training(tmp_path)
        file = tmp_path / "training.json"
        manifest = json.loads(file.read_text())
        assert (manifest["tool"], manifest.pop("format")) == ("art-ext train", 1)
        file.write_text(json.dumps(manifest))  # as earlier versions wrote it
        short_training(tmp_path, resume=True)
        for version in (0, 2):
            file.write_text(json.dumps({**manifest, "format": version}))
            before = content(tmp_path)
            with pytest.raises(
                ValueError, match=f"holds a training of format {version}, wanted 1: .*train again"
            ):
                short_training(tmp_path, resume=True)
            assert content(tmp_path) == before
        file.write_text(json.dumps({**manifest, "tool": "other"}))
        with pytest.raises(ValueError, match=r"holds training\.json, but not of a run of art-ext"):
            short_training(tmp_path, resume=True)

    def test_trainings_of_the_command(self, tmp_path: Path) -> None:
        command = command_of(tmp_path / "run")
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        file = tmp_path / "run" / "run.json"
        run = json.loads(file.read_text())
        assert run.pop("format") == 1
        file.write_text(json.dumps(run))  # as earlier versions wrote it
        again = CliRunner().invoke(app, [*command, "--resume"])
        assert (again.exit_code, again.stdout) == (0, done.stdout)
        file.write_text(json.dumps({**run, "format": 2}))
        before = content(tmp_path)
        refused = CliRunner().invoke(app, [*command, "--resume"])
        assert refused.exit_code == 2
        assert "holds a training of format 2, wanted 1" in refused.stderr
        assert content(tmp_path) == before

    def test_states_of_autoattack(self, tmp_path: Path) -> None:
        file = tmp_path / "autoattack.json"
        file.write_text(json.dumps({"tool": "art-ext autoattack", "eps": 0.1}))
        identity = {"tool": "art-ext autoattack", "eps": 0.1}
        with StateFolder.opened(tmp_path, identity):
            pass
        file.write_text(json.dumps({**identity, "format": 2}))
        with (
            pytest.raises(ValueError, match=r"holds a run of AutoAttack of format 2, wanted 1: "),
            StateFolder.opened(tmp_path, identity),
        ):
            pass
        with StateFolder.opened(tmp_path / "new", identity):
            pass
        assert json.loads((tmp_path / "new" / "autoattack.json").read_text())["format"] == 1


class TestDifferences:
    def test_one_phrase_for_each_option(self) -> None:
        here = flat({"eps": 0.1, "attack_args": {"pgd": {"num_steps": 5}}, "same": 1, "empty": {}})
        there = flat({"eps": 0.2, "attack_args": {}, "same": 1, "seed": 3})
        assert value_differences(here, there) == [
            "eps: 0.2 there, 0.1 here",
            "attack_args.pgd.num_steps: None there, 5 here",
            "seed: 3 there, None here",
        ]
        assert value_differences(here, here) == []

    def test_long_values_are_not_shown(self) -> None:
        assert value_differences({"then": "a" * 99}, {"then": "b"}) == ["then: another value there"]

    def test_the_error_names_folder_and_differences(self, tmp_path: Path) -> None:
        check_configuration(tmp_path, {"eps": 0.1}, {"eps": 0.1})
        message = (
            f"{tmp_path} holds a run of another configuration (eps: 0.2 there, 0.1 here): choose"
            " another folder"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check_configuration(tmp_path, {"eps": 0.1}, {"eps": 0.2}, ": choose another folder")


def short_training(folder: Path, **options: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    data = (torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2)
    usual: dict[str, Any] = {"epochs": 1, "batch_size": 4, "checkpoint_dir": folder}
    train(model, data, "natural", **usual | options)


def command_of(folder: Path) -> list[str]:
    options = "--recipe natural --data digits --n 40 --test-n 20 --epochs 1 --validation 0 --quiet"
    return ["train", *options.split(), "--device", "cpu", "--out", str(folder)]


class TestLocks:
    def test_the_error_names_folder_process_and_host(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        with held_elsewhere(folder) as other:
            message = (
                f"{folder} is in use by process {other.pid} on host {socket.gethostname()}: wait"
                " until that run ends, or choose another folder"
            )
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                check_unlocked(folder)
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), locked(folder):
                pass

    @pytest.mark.parametrize("more", ["pass", FORK])
    def test_a_dead_process_holds_no_lock(self, tmp_path: Path, more: str) -> None:
        with held_elsewhere(tmp_path, more) as other:
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert set(os.listdir(tmp_path)) == set(OWN_FILES)
            with locked(tmp_path):
                assert is_free(LocalStore(tmp_path))
        assert os.listdir(tmp_path) == []

    def test_it_may_be_taken_again_but_not_by_another_thread(self, tmp_path: Path) -> None:
        errors: list[Exception] = []

        def other() -> None:
            try:
                with locked(tmp_path, patience=0.05):
                    pass
            except ValueError as error:
                errors.append(error)

        with locked(tmp_path):
            with locked(tmp_path):
                pass
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert set(os.listdir(tmp_path)) == set(OWN_FILES), "still held"
        assert f"in use by process {os.getpid()} on host" in str(errors[0])
        assert os.listdir(tmp_path) == []

    def test_a_folder_in_which_nothing_was_written_goes(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
            raise KeyError
        assert os.listdir(tmp_path) == []
        with locked(tmp_path / "a" / "b"):
            (tmp_path / "a" / "b" / "file").write_text("")
        assert os.listdir(tmp_path / "a" / "b") == ["file"]

    def test_two_trainings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with held_elsewhere(tmp_path / "run") as other:
            before = set(os.listdir(tmp_path / "run"))
            named = f"run is in use by process {other.pid} on host .*: wait until that run ends"
            with pytest.raises(ValueError, match=named):
                short_training(tmp_path / "run")
            for more in ([], ["--resume"], ["--overwrite"]):
                done = CliRunner().invoke(app, [*command_of(tmp_path / "run"), *more])
                assert done.exit_code == 2
                assert f"is in use by process {other.pid} on host" in done.stderr
            assert set(os.listdir(tmp_path / "run")) == before
            monkeypatch.setenv("RANK", "1")  # whose main process holds the lock
            with locked_training(tmp_path / "run"):
                pass
        monkeypatch.delenv("RANK")
        short_training(tmp_path / "run")
        assert not set(OWN_FILES) & set(os.listdir(tmp_path / "run"))

    def test_a_training_holds_the_lock_to_its_end(self, tmp_path: Path) -> None:
        seen: list[subprocess.CompletedProcess[str]] = []

        def second(end: Any) -> dict[str, float]:
            program = (
                "import sys; from pathlib import Path; from art_ext.storage.locking import locked\n"
                "locked(Path(sys.argv[1])).__enter__()"
            )
            command = [sys.executable, "-c", program, str(tmp_path)]
            seen.append(subprocess.run(command, capture_output=True, text=True, check=False))
            return {}

        short_training(tmp_path, callbacks=[second])
        assert f"is in use by process {os.getpid()} on host" in seen[0].stderr

    def test_two_runs_of_autoattack(self, tmp_path: Path) -> None:
        with (
            held_elsewhere(tmp_path) as other,
            pytest.raises(ValueError, match=f"in use by process {other.pid} on host"),
            StateFolder.opened(tmp_path, {}),
        ):
            pass

    def test_evaluations_wait_for_each_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = {"plan": plan(2, 2, [])}
        with held_elsewhere(tmp_path) as other:
            with monkeypatch.context() as patch:
                patch.setattr(evaluation, "PATIENCE", 0.05)
                with pytest.raises(ValueError, match=f"in use by process {other.pid} on host"):
                    RunFolder(tmp_path, run).begin()
            threading.Timer(0.3, other.kill).start()
            RunFolder(tmp_path, run).begin()
        RunFolder(tmp_path, run).begin()  # another process of this run
        assert sorted(os.listdir(tmp_path)) == ["run.json"]


# --- records ---


@pytest.mark.parametrize("distances", [np.float32, np.float64])
def test_records_are_those_of_a_frame(distances: type) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {name: rng.integers(0, 9, 12) for name in COLUMNS}
    for name in ("attacked", "success", "already_adversarial"):
        columns[name] = columns[name] > 4
    for name in ("distance", "nearest_distance", *DISTORTIONS):
        columns[name] = rng.random(12).astype(np.float32)
        columns[name][:2] = np.inf, np.nan
    columns["distance"] = columns["distance"].astype(distances)
    columns["nearest_distance"] = np.full(12, np.nan, np.float32)  # unknown everywhere
    columns |= {"eps": np.repeat([0.1, 0.2], 6), "seconds": rng.random(12)}
    columns |= {"model": "a name", "attack": "fgsm"}
    wanted = table_of_rows(pd.DataFrame(columns))
    found = table_of_columns(columns)
    assert found.schema.equals(wanted.schema, check_metadata=True)
    assert parquet_of([found]) == parquet_of([wanted])
    pd.testing.assert_frame_equal(found.to_pandas(), pd.DataFrame(columns)[list(COLUMNS)])
