"""Runs of the papers' tables that a full disk or a kill ends, and that go on."""

import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from art_ext.benchmarks.papers.results import write_result
from art_ext.benchmarks.papers.running import run_table
from art_ext.benchmarks.papers.tables import read_tables
from art_ext.storage import files
from tests.test_papers import TOY, command, folder_of

CHUNKS = TOY.replace("n = 30\n", "n = 30\nchunk_size = 10\n", 1)
KILLED = """
import os, signal, sys
from art_ext.benchmarks.papers.running import run_table
from art_ext.benchmarks.papers.tables import read_tables
from art_ext.storage.store import LocalStore

left, write = int(sys.argv[3]), LocalStore.write

def counted(self, name, content):
    global left
    write(self, name, content)
    left -= name.startswith("chunks/")
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

LocalStore.write = counted
from pathlib import Path
run_table(read_tables(Path(sys.argv[1]))["toy"], "small", Path(sys.argv[2]))
"""


def rows_of(table, out):
    result = run_table(table, "small", out)
    return result["rows"], result["claims"], result["tag"]


@pytest.mark.parametrize("place", ["digits.toml", "00001.parquet", "digits.seconds"])
def test_a_full_disk_loses_nothing(place, tmp_path, monkeypatch):
    table = read_tables(folder_of(tmp_path, CHUNKS))["toy"]
    whole = rows_of(table, tmp_path / "whole")
    replace = files.os.replace

    def full(source, target):
        if Path(target).name == place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=rf"No space left on device.*{place}"):
        run_table(table, "small", tmp_path / "run")
    monkeypatch.undo()
    (folder,) = (tmp_path / "run").iterdir()
    assert not (folder / place).exists()
    assert rows_of(table, tmp_path / "run") == whole


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    table = read_tables(folder_of(tmp_path, CHUNKS))["toy"]
    result = run_table(table, "small", tmp_path / "run")
    path = write_result(result, tmp_path / "results")
    before = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*toy\.small\.json"):
        write_result({**result, "seconds": 7.0}, tmp_path / "results")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_kill_in_the_middle_changes_no_row(tmp_path):
    table = read_tables(folder_of(tmp_path, CHUNKS))["toy"]
    for writes in (1, 2, 1):
        command = [sys.executable, "-c", KILLED, tmp_path, tmp_path / "killed", writes]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert done.returncode == -9, done.stderr
    assert rows_of(table, tmp_path / "killed") == rows_of(table, tmp_path / "whole")


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["papers", "list", "--json"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("art_ext.benchmarks.papers", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == command("list", "--json").output
