"""A service that fails, is killed and comes back, and a client that is killed: nothing is paid twice.

The tables that ``-s`` shows are those of ``docs/how-to/services.md``.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from art_ext.core import AttackResult
from art_ext.evaluation import read_records
from tests._http_service import digits_network
from tests._service_client import CONCURRENCY, ROWS_PER_REQUEST, run
from tests.test_remote import logged

ROOT = Path(__file__).parents[1]
CLIENT_KILLS = 10
SERVER_KILLS = 3
LINE = 52  # bytes of an event, about
pytestmark = pytest.mark.slow


def start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process of its own."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Served:
    """The server, which may be killed and started again."""

    def __init__(self, events: Path) -> None:
        self.events = events
        self.port = free_port()
        self.starts = 0
        self.begin()

    def begin(self) -> None:
        self.process = start("tests._http_service", self.port, self.events, self.starts, 0.1)
        self.starts += 1

    @property
    def size(self) -> int:
        return self.events.stat().st_size if self.events.exists() else 0


@pytest.mark.parametrize("work", ["rays", "nes", "panel"])
def test_kills_change_no_number_and_pay_nothing_twice(work: str, tmp_path: Path) -> None:
    network = digits_network()
    whole = tmp_path / "whole"
    whole.mkdir()
    rows = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal rows
        rows += len(x)
        return torch.from_numpy(network(x.numpy()))

    run(work, counted, whole)
    draw = random.Random(7)  # of the moments
    served = Served(tmp_path / "events")
    begun = time.monotonic()
    servers_killed = clients_killed = 0
    try:
        for number in range(CLIENT_KILLS):
            client = start("tests._service_client", work, served.port, tmp_path)
            until = served.size + int(LINE * 2 * draw.uniform(0, 1.5) * rows / (CLIENT_KILLS + 1))
            middle = (served.size + until) // 2
            kill_server = number % 3 == 1
            while client.poll() is None and served.size < until:
                if kill_server and served.size >= middle:
                    kill_server = False
                    servers_killed += 1
                    kill(served.process)
                    time.sleep(0.5)
                    served.begin()
                time.sleep(0.002)
            if client.poll() is None:
                clients_killed += 1
            kill(client)
        last = start("tests._service_client", work, served.port, tmp_path)
        assert last.wait(timeout=300) == 0
    finally:
        kill(served.process)
    seconds = time.monotonic() - begun
    compare(work, tmp_path, whole)
    known = logged(tmp_path / "log")
    lines = [line.split() for line in served.events.read_text().splitlines()]
    again = sum(
        float(at) > known.get(key, float("inf")) for key, at in lines if key not in ("done", "lost")
    )
    computed = Counter(key for kind, key in lines if kind == "done")
    lost = sum(kind == "lost" for kind, _ in lines)
    twice = sum(computed.values()) - len(computed)
    flying = (clients_killed + servers_killed) * CONCURRENCY * ROWS_PER_REQUEST
    sys.stdout.write(
        f"\n{work}: {rows} rows undisturbed, {sum(computed.values())} computed, {twice} of them"
        f" again ({lost} answers lost on the way, at most {flying} in flight at"
        f" {clients_killed} + {servers_killed} kills), logged rows requested again: {again},"
        f" {seconds:.0f} s\n"
    )
    assert again == 0
    assert twice <= flying + lost
    assert clients_killed >= CLIENT_KILLS // 2
    assert servers_killed >= SERVER_KILLS - 1


def compare(work: str, folder: Path, whole: Path) -> None:
    """The outcome equals the undisturbed one in every field but seconds."""
    if work == "panel":
        mine, theirs = (
            read_records(one / "run").drop(columns="seconds") for one in (folder, whole)
        )
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
        return
    one, other = (AttackResult.load(place / "result") for place in (folder, whole))
    for name in (field.name for field in fields(AttackResult)):
        left, right = getattr(one, name), getattr(other, name)
        equal = torch.equal(left, right) if isinstance(left, Tensor) else left == right
        assert equal, name
