"""Plan of a large evaluation from a small one, and the cost of everything but the attacks.

    python -m art_ext.benchmarks.scale simulate RUN --workers 64 [--samples 50000] [--mean 1.5]
    python -m art_ext.benchmarks.scale noop [--samples 1000000] [--engine processes] [--workers 2]
    python -m art_ext.benchmarks.scale slow-chunk [--engine dask] [--chunks 40] [--slow 20]

``simulate`` takes the seconds of each sample of a run folder, or multiples of them with ``--mean``.
It draws as many samples as wanted from them. Workers take their chunks one after the other, as with
``--engine``. ``noop`` evaluates with attacks that do nothing, and prints the processor time of the
run and of its end, the files and the memory. ``slow-chunk`` evaluates with an attack that sleeps,
in one chunk so many times as long as in the others. It compares the time from the first start of a
chunk to the last end with list scheduling: a free worker takes the next chunk at once.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from art_ext.core.geometry import DISTORTIONS
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import Attack, AttackRequest, evaluate, read_records
from art_ext.evaluation.execution import runner
from art_ext.storage.chunks import CHUNKS
from art_ext.storage.evaluation import open_run

SIZES = (25, 50, 100, 200, 400)  # of chunks
SHAPE = (1, 2, 2)


def seconds_of_samples(run: Path) -> np.ndarray:
    """Return the seconds of each sample of a run, all attacks and models together."""
    records = read_records(run)
    # a run for several eps repeats its seconds in the records of each
    own = records.drop_duplicates(["index", "model", "attack", "seconds"])
    return own.groupby("index")["seconds"].sum().to_numpy()


def simulated(tasks: Sequence[float], workers: int, start: float, driver: float) -> float:
    """Return the seconds until the last task ends. A free worker gets the next task.

    Args:
        tasks: seconds of each.
        workers: number of workers.
        start: seconds until a worker has built models and data.
        driver: seconds of the driver for each task, which it spends one after the other.
    """
    return scheduled(tasks, [start] * workers, driver)


def scheduled(tasks: Sequence[float], free: Sequence[float], driver: float) -> float:
    """Return the time at which the last task ends, if worker i is free from ``free[i]`` on."""
    free = list(free)
    heapq.heapify(free)
    told = 0.0
    for seconds in tasks:
        told = max(told, heapq.heappop(free)) + driver
        heapq.heappush(free, told + seconds)
    return max(free)


def simulate(arguments: argparse.Namespace) -> None:
    """Print one row for each size of a chunk."""
    run = open_run(arguments.run)
    costs = seconds_of_samples(arguments.run)
    if arguments.mean:
        costs = costs * (arguments.mean / costs.mean())
    drawn = np.random.default_rng(0).choice(costs, arguments.samples)
    kept = [
        file for file in (arguments.run / CHUNKS).iterdir() if file.suffix in (".parquet", ".json")
    ]
    written = sum(file.stat().st_size for file in kept) / len(costs)
    # images of the first samples only, unless all are kept
    files = 3 if run.run["arguments"].get("save_images") else 2
    shape = arguments.shape.split(",") if arguments.shape else run.run["data"]["shape"]
    pixels = 4 * int(np.prod([int(one) for one in shape]))
    read = arguments.bytes_per_sample or pixels
    print(
        f"{arguments.samples:,} samples of {costs.mean():.3g} s ({costs.min():.2g} to"
        f" {costs.max():.2g}), {arguments.workers} workers, {arguments.start:g} s to start,"
        f" {1000 * arguments.driver:g} ms of the driver a task"
    )
    print(
        "| chunk | tasks | s a task (most) | read a task | written a task | files, PUTs |"
        " images in memory | driver | hours | tail |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for size in SIZES:
        tasks = [float(drawn[place : place + size].sum()) for place in range(0, len(drawn), size)]
        ends = simulated(tasks, arguments.workers, arguments.start, arguments.driver)
        ideal = arguments.start + sum(tasks) / arguments.workers
        print(
            f"| {size} | {len(tasks):,} | {np.mean(tasks):.3g} ({max(tasks):.3g}) |"
            f" {size * read / 1e6:.3g} MB | {size * written / 1e3:.3g} kB |"
            f" {files * len(tasks):,} | {2 * size * pixels / 1e6:.3g} MB |"
            f" {len(tasks) * arguments.driver:.3g} s | {ends / 3600:.3g} |"
            f" {100 * (ends / ideal - 1):.2g} % |"
        )


def nothing(request: AttackRequest) -> AttackResult:
    """Return the samples as they are, without a query."""
    none = torch.zeros(len(request.x), dtype=torch.int64)
    nowhere = torch.full((len(request.x),), torch.inf)
    return AttackResult(
        x_adv=request.x,
        success=none.bool(),
        already_adversarial=none.bool(),
        distance=nowhere,
        x_nearest=None,
        queries=none,
        queries_to_success=none - 1,
        gradients=none,
        wasted_rows=none,
        norm=request.settings.norm,
        eps=request.eps,
        seed=request.settings.seed,
        stop_on_success=True,
        lengths=nowhere.double().unsqueeze(1).repeat(1, len(DISTORTIONS)),
    )


def build(samples: int) -> tuple[dict[str, nn.Module], Dataset]:
    """Return a small model, and samples that it classifies correctly."""
    torch.set_num_threads(1)
    linear = nn.Linear(4, 10, bias=False)
    nn.init.normal_(linear.weight, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), linear)
    x = torch.rand(samples, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(x).argmax(dim=1)
    return {"model": model.eval()}, Dataset("noise", x, labels)


def noop(arguments: argparse.Namespace) -> None:
    """Print one row."""
    attacks = [
        Attack(f"nothing-{number}", nothing, nearest=False, about="Does nothing.", access="labels")
        for number in range(arguments.attacks)
    ]
    models, data = build(arguments.samples)
    options: dict[str, Any] = {}
    if arguments.engine != "local":
        rebuild = partial(build, arguments.samples)
        options = {"engine": arguments.engine, "workers": arguments.workers, "rebuild": rebuild}
    marks: list[tuple[float, float]] = []
    finish = runner.finish

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    def marked(*given: Any) -> Any:
        mark()
        return finish(*given)

    with tempfile.TemporaryDirectory() as place, mock.patch.object(runner, "finish", marked):
        out = Path(place) / "run"
        mark()
        evaluate(
            models, data, out, attacks=attacks, eps=0.1, chunk_size=arguments.chunk_size, **options
        )
        mark()
        files = sum(1 for _ in out.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    run, end = (
        [after - before for before, after in zip(*pair, strict=True)]
        for pair in (marks[:2], marks[1:])
    )
    chunks = -(-arguments.samples // arguments.chunk_size)
    print(
        f"{arguments.samples:,} samples, {arguments.attacks} attacks that do nothing,"
        f" {chunks:,} chunks, engine {arguments.engine}: run {run[0]:.1f} s ({run[1]:.1f} s of"
        f" processor time in the driver), finish {end[0]:.1f} s ({end[1]:.1f} s), {files:,} files,"
        f" peak memory {peak:.2f} GB"
    )


def build_numbered(chunks: int) -> tuple[dict[str, nn.Module], Dataset]:
    """Return a small model, and one sample for each chunk, whose value tells its number."""
    models, _ = build(1)
    x = (torch.arange(chunks) / chunks).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    return models, Dataset("numbers", x.contiguous(), torch.zeros(chunks, dtype=torch.int64))


def sleeping(request: AttackRequest, seconds: Sequence[float], log: Path) -> AttackResult:
    """Sleep as long as the chunk of the sample wants, and log the times of start and end."""
    number = round(float(request.x.flatten()[0]) * len(seconds))
    begun = time.time()
    time.sleep(seconds[number])
    (log / str(number)).write_text(f"{os.getpid()} {begun} {time.time()}")
    return nothing(request)


def slow_chunk(arguments: argparse.Namespace) -> None:
    """Print one row."""
    seconds = [arguments.seconds] * arguments.chunks
    seconds[arguments.chunks // 3] *= arguments.slow
    models, data = build_numbered(arguments.chunks)
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        log.mkdir()
        run = partial(sleeping, seconds=seconds, log=log)
        evaluate(
            models,
            data,
            Path(place) / "run",
            attacks=[Attack("sleeping", run, nearest=False, about="Sleeps.", access="labels")],
            eps=0.1,
            chunk_size=1,
            engine=arguments.engine,
            workers=arguments.workers,
            rebuild=partial(build_numbered, arguments.chunks),
        )
        times = [file.read_text().split() for file in log.iterdir()]
    starts: dict[str, float] = {}
    for worker, begun, _ in times:
        starts[worker] = min(float(begun), starts.get(worker, float("inf")))
    first = min(starts.values())
    took = max(float(end) for _, _, end in times) - first
    free = [start - first for start in starts.values()]
    ideal = scheduled(seconds, free, 0)
    shared = sum(seconds) / len(free)
    graham = shared + (1 - 1 / len(free)) * max(seconds) + max(free)
    print(
        f"{arguments.chunks} chunks of {arguments.seconds:g} s, one of them {arguments.slow:g}"
        f" times as slow, engine {arguments.engine}, {len(free)} workers that begin within"
        f" {max(free):.1f} s: {took:.2f} s, list scheduling {ideal:.2f} s (ratio"
        f" {took / ideal:.3f}), its bound {graham:.2f} s (ratio {took / graham:.3f})"
    )


def main() -> None:
    """Simulate or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("simulate")
    one.add_argument("run", type=Path, help="folder of a complete run")
    one.add_argument("--workers", type=int, default=64)
    one.add_argument("--samples", type=int, default=50_000)
    one.add_argument("--mean", type=float, help="seconds of a mean sample. Default: the run's")
    one.add_argument("--start", type=float, default=30.0, help="seconds until a worker is ready")
    one.add_argument("--driver", type=float, default=0.005, help="seconds of the driver for a task")
    one.add_argument("--shape", help="of a sample, such as 3,224,224. Default: the run's")
    one.add_argument("--bytes-per-sample", type=float, help="on the disk; default: float32")
    one.set_defaults(run_part=simulate)
    two = parts.add_parser("noop")
    two.add_argument("--samples", type=int, default=1_000_000)
    two.add_argument("--attacks", type=int, default=4)
    two.add_argument("--chunk-size", type=int, default=500)
    two.add_argument("--engine", default="local")
    two.add_argument("--workers", type=int, default=2)
    two.set_defaults(run_part=noop)
    three = parts.add_parser("slow-chunk")
    three.add_argument("--chunks", type=int, default=40)
    three.add_argument("--seconds", type=float, default=0.5, help="of a chunk")
    three.add_argument("--slow", type=float, default=20.0, help="times as slow is one of them")
    three.add_argument("--engine", default="processes")
    three.add_argument("--workers", type=int, default=2)
    three.set_defaults(run_part=slow_chunk)
    arguments = parser.parse_args()
    arguments.run_part(arguments)


if __name__ == "__main__":
    # workers load its functions by the name of the module
    importlib.import_module("art_ext.benchmarks.scale").main()
