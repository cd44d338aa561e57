"""Costs of ``RemoteClassifier``: per request, per row, of its log, and what concurrency brings.

python -m art_ext.benchmarks.services
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from art_ext.models import RemoteClassifier
from art_ext.models.remote.answers import AnswerLog, key_of

CLASSES = 10


def instant(rows: np.ndarray) -> np.ndarray:
    """Return an answer without work."""
    return np.zeros((len(rows), CLASSES), np.float32)


def slow(rows: np.ndarray) -> np.ndarray:
    """Return an answer after 20 ms."""
    time.sleep(0.02)
    return instant(rows)


def seconds(
    predict: Callable[[np.ndarray], np.ndarray], rows: int, **options: int
) -> tuple[float, float]:
    """Return the seconds of one call with so many new rows of 3x32x32: wall, and processor."""
    x = torch.rand(rows + 64, 3, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        model = RemoteClassifier(predict, answers=folder, outputs="logits", **options)  # type: ignore[arg-type]  # options of one type
        model(x[:64])
        begun = time.perf_counter()
        worked = time.process_time()
        model(x[64:])
        return time.perf_counter() - begun, time.process_time() - worked


def fill(folder: Path, records: int) -> None:
    """Write a log of so many answers."""
    log = AnswerLog(folder, "instant", "logits")
    log.begin((3, 32, 32), CLASSES)
    draw = np.random.default_rng(0)
    block = 10_000
    for _ in range(records // block):
        digests = draw.bytes(16 * block)
        keys = [key_of(bytes(16), digests[16 * n : 16 * n + 16], 0) for n in range(block)]
        answers = np.zeros((block, CLASSES), np.float32)
        none = [0] * block
        log.append("", keys, answers, samples=none, queries=none, time=0.0, cost=0.0)
    log.close()


def opened(folder: Path) -> str:
    """Return seconds and growth of the resident memory of opening a log, in a new process."""
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from art_ext.models.remote.answers import AnswerLog\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(status.read_text().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before, begun = peak(), time.perf_counter()\n"
        f"log = AnswerLog({str(folder)!r}, 'instant', 'logits')\n"
        "took = time.perf_counter() - begun\n"
        "print(f'{len(log.found):,} answers in {took:.1f} s, {peak() - before:.0f} MB')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Print all costs, the best of three."""
    for what, count, size in (("request of one row", 1000, 1), ("row of 3x32x32", 2048, 256)):
        runs = [seconds(instant, count, rows_per_request=size) for _ in range(3)]
        wall, worked = (1e6 * min(one) / count for one in zip(*runs, strict=True))
        print(f"own cost of a {what}: {wall:.0f} us, of the processor {worked:.0f} us")
    times = {n: min(seconds(slow, 200, concurrency=n)[0] for _ in range(3)) for n in (1, 8)}
    print(f"concurrency 8 against 1 at 20 ms a request: {times[1] / times[8]:.1f} times")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), 1_000_000)
        print(f"log opened: {opened(Path(folder))}")


if __name__ == "__main__":
    main()
