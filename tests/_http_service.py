"""An HTTP service of the standard library with seeded faults, and its client.

    python -m tests._http_service PORT RECORD SEED SHARE

serves the digits network on the loopback. RECORD is a file that gets one line per event, so that
counts outlive a killed server: ``KEY time`` for rows that arrive, ``done KEY`` for rows that are
computed, ``lost KEY`` for those whose answer does not arrive in time.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

FAULTS = ("503", "429", "reset before", "reset after", "late")
LATE = 1.0  # seconds, beyond the client's timeout
_LOCAL = threading.local()


class HTTPError(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, headers: Any) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


class Client:
    """The client that a user would write: one connection per thread, kept open."""

    def __init__(self, port: int) -> None:
        self.port = port

    def predict(self, rows: np.ndarray, timeout: float, keys: list[str]) -> np.ndarray:
        """(R, 10) logits of rows."""
        body = json.dumps({"shape": rows.shape, "keys": keys}).encode() + b"\n" + rows.tobytes()
        connection = getattr(_LOCAL, "connection", None)
        if connection is None or connection.port != self.port:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            _LOCAL.connection = connection
        try:
            connection.request("POST", "/", body)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            _LOCAL.connection = None
            raise
        if answer.status != 200:
            raise HTTPError(answer.status, answer.headers)
        return np.frombuffer(content, np.float32).reshape(len(rows), -1)


class Events:
    """Lines of a file, written at once."""

    def __init__(self, path: str | Path) -> None:
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115  # as long as the server
        self._lock = threading.Lock()

    def add(self, lines: list[str]) -> None:
        """Append lines."""
        with self._lock:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


class Handler(BaseHTTPRequestHandler):
    """One request: perhaps a fault, else the outputs."""

    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head, _, content = body.partition(b"\n")
        given = json.loads(head)
        rows = np.frombuffer(content, np.float32).reshape(given["shape"])
        self.server.events.add([f"{key} {time.time()}" for key in given["keys"]])
        fault = self.server.draw()
        if fault in ("503", "429"):
            self._answer(int(fault), b"", {"Retry-After": "0.05"} if fault == "429" else {})
            return
        if fault == "reset before":
            self._reset()
            return
        if self.server.delay:
            time.sleep(self.server.delay)
        outputs = self.server.compute(rows)
        self.server.events.add([f"done {key}" for key in given["keys"]])
        if fault in ("reset after", "late"):
            self.server.events.add([f"lost {key}" for key in given["keys"]])
        if fault == "reset after":
            self._reset()
            return
        if fault == "late":
            time.sleep(LATE)
        self._answer(200, outputs.tobytes(), {})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client went away

    def _reset(self) -> None:
        """Close with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class Service(ThreadingHTTPServer):
    """The server.

    Args:
        compute: from rows to outputs, float32.
        events: the file of the events.
        seed, share: of the faults.
        delay: seconds of each request.
        port: 0 takes any.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        compute: Any,
        events: str | Path,
        seed: int = 0,
        share: float = 0.0,
        delay: float = 0.0,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.events = Events(events)
        self.delay = delay
        self._compute = compute
        self._lock = threading.Lock()
        self._draw = random.Random(seed)
        self._share = share

    def compute(self, rows: np.ndarray) -> np.ndarray:
        """The outputs, one call at a time."""
        with self._lock:
            return np.asarray(self._compute(rows), np.float32)

    def draw(self) -> str | None:
        """A fault, or None."""
        with self._lock:
            if self._draw.random() >= self._share:
                return None
            return self._draw.choice(FAULTS)

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that are gone."""


def digits_network() -> Any:
    """A network for the digits of scikit-learn, from arrays to logits, row by row."""
    generator = np.random.default_rng(3)
    first = generator.normal(size=(64, 32)).astype(np.float32) / 4
    second = generator.normal(size=(32, 10)).astype(np.float32)

    def compute(rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(len(rows), -1)
        # no matrix product: its rounding depends on the number of rows
        hidden = np.tanh((flat[:, :, None] * first).sum(axis=1))
        return (hidden[:, :, None] * second).sum(axis=1)

    return compute


def main() -> None:
    """Serve until the process is killed."""
    port, events, seed, share = sys.argv[1:]
    service = Service(digits_network(), events, int(seed), float(share), port=int(port))
    service.serve_forever()


if __name__ == "__main__":
    main()
