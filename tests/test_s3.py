"""Runs on S3: engines on a moto server of this machine, which counts their requests."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pandas as pd
import pytest

from tests._overlay import ROOT, overlay
from tests._sessions import wait_until_gone
from tests.test_engines import PATIENCE, Drivers

REQUEST = re.compile(r"(GET|PUT|HEAD|POST|DELETE) (/\S*) HTTP/1.1")
KILLS = 5
WORKERS = 2
CHUNKS = 8
pytestmark = pytest.mark.slow


class Server:
    """A moto server with the bucket ``bucket``."""

    def __init__(self, folder: Path, **environment: str) -> None:
        packages = overlay("s3", "universal-pathlib", "s3fs", "moto[server]")
        self.log = folder / "requests"
        self.environment = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)]),
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", "0"],
            env={**os.environ, **self.environment},
            stderr=self.log.open("w"),
            stdout=subprocess.DEVNULL,
        )
        self.url = self._started()
        self.environment["AWS_ENDPOINT_URL"] = self.url
        assert self.ask("PUT", "/bucket")[0] == 200

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _started(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(r"Running on (http://[\d.]+:\d+)", self.log.read_text())
            if found is not None:
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def requests(self, folder: str = "") -> Counter[str]:
        """Count the listings of all folders, and by method the requests about one."""
        found: Counter[str] = Counter()
        for method, path in REQUEST.findall(self.log.read_text()):
            if "list-type=2" in path:
                found["LIST"] += 1
            elif path.startswith(f"/bucket/{folder}/chunks/"):
                found[f"{method} chunks"] += 1
            elif path.startswith(f"/bucket/{folder}/"):
                found[method] += 1
        return found

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection(self.url.removeprefix("http://"))
        connection.request(method, path, headers={"Authorization": "AWS id:signature"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def records(self, folder: str) -> pd.DataFrame:
        status, content = self.ask("GET", f"/bucket/{folder}/records.parquet")
        assert status == 200
        return pd.read_parquet(io.BytesIO(content)).drop(columns="seconds")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("moto"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found
    found.end()


@pytest.fixture
def drivers() -> Iterator[Drivers]:
    found = Drivers()
    yield found
    found.end()


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records of one process in a local folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    Drivers().run(folder, "local")
    return pd.read_parquet(folder / "records.parquet").drop(columns="seconds")


def test_records_and_requests(server: Server, drivers: Drivers, whole: pd.DataFrame) -> None:
    listings = {}
    for engine in ("local", "processes"):
        before = server.requests()["LIST"]
        drivers.run(f"s3://bucket/{engine}", engine)
        pd.testing.assert_frame_equal(server.records(engine), whole)
        assert server.requests(engine)["PUT chunks"] <= 3 * CHUNKS
        listings[engine] = server.requests()["LIST"] - before
    # those of the driver are as many without workers
    assert listings["processes"] - listings["local"] <= 2 * WORKERS
    assert listings["local"] <= 20


def test_errors_are_one_line(server: Server, tmp_path: Path) -> None:
    """No bucket, no rights, no network."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    command = [
        sys.executable,
        "-m",
        "art_ext",
        "evaluate",
        "--model",
        f"{tmp_path / 'net.py'}:build",
    ]
    command += ["--data", "digits", "--n", "4", "--quiet"]
    stranger = Server(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="1")  # the bucket's
    try:
        for place, endpoint, message in (
            ("s3://other/run", server.url, "s3://other/run cannot be listed: The specified bucket"),
            ("s3://bucket/run", stranger.url, "s3://bucket/run cannot be listed: "),
            ("s3://bucket/run", "http://127.0.0.1:9", "s3://bucket/run cannot be listed: "),
        ):
            done = subprocess.run(
                [*command, "--out", place],
                env={**os.environ, "AWS_ENDPOINT_URL": endpoint},
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"error: {message}")
            assert done.stderr.count("\n") == 1
    finally:
        stranger.end()
    assert not server.requests("run")["PUT"]


def test_workers_that_are_killed(
    server: Server, drivers: Drivers, whole: pd.DataFrame, tmp_path: Path
) -> None:
    chance = random.Random(0)
    moments = [chance.randint(1, 60) for _ in range(KILLS)]
    drivers.run("s3://bucket/workers", "processes", marks=str(tmp_path), moments=moments)
    assert len(list(tmp_path.iterdir())) == KILLS
    pd.testing.assert_frame_equal(server.records("workers"), whole)


def test_drivers_that_are_killed(server: Server, drivers: Drivers, whole: pd.DataFrame) -> None:
    chance = random.Random(1)
    for _ in range(KILLS):
        before = server.requests("drivers")["PUT chunks"]
        driver = drivers.start("s3://bucket/drivers", "processes")
        deadline = time.monotonic() + PATIENCE
        while server.requests("drivers")["PUT chunks"] <= before and driver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not wait_until_gone(driver.pid, 10)
    drivers.run("s3://bucket/drivers", "local")
    pd.testing.assert_frame_equal(server.records("drivers"), whole)
