"""Overhead of an evaluation, gain of a second process, and time of a large report.

    ART_EXT_DATA=... OMP_NUM_THREADS=1 python -m art_ext.benchmarks.evaluation [overhead]
    [detector] [processes] [report]

``overhead``: RayS at 200 queries on a small network, 10,000 images: (run - attack's seconds) /
attack's seconds. ``detector``: PGD-50 without and with knowledge of a kernel density, run / its
attacks and the detector's own calls, with and without the report. ``processes``: the same
command line in one process and with two workers, of one thread each. The records are compared.
``report``: a folder of 8 attacks on 10,000 images, loaded and rendered again.
``python -m art_ext.benchmarks.records`` reports on ten million records.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_ext.benchmarks.common import network_and_images, seconds, spread
from art_ext.core.detection import KernelDensity
from art_ext.data import Dataset
from art_ext.evaluation import Outcome, evaluate, load_run, read_records
from art_ext.evaluation.report.page import write_report

MODEL = "mnist_conv2_fast_pgd"
EPS = 0.3
PGD: dict[str, Any] = {"num_steps": 50, "stop_on_success": False}
REPORT_PACKAGES = (
    "pandas",
    "pyarrow.parquet",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "jinja2",
)
CHEAP = ("fgsm", "i_fgsm", "mi_fgsm", "m_pgd", "pgd", "frank_wolfe", "ai_fgsm", "rays")


def overhead(folder: Path, count: int, queries: int) -> str:
    """Time outside the attack, relative to the attack."""
    network, x, y, weights = network_and_images(MODEL, count)
    begun = time.perf_counter()
    for name in REPORT_PACKAGES:
        importlib.import_module(name)
    imports = time.perf_counter() - begun
    begun = time.perf_counter()
    outcome = evaluate(
        network, Dataset("mnist", x, y), folder, eps=EPS, attacks=("rays",), max_queries=queries
    )
    whole = time.perf_counter() - begun
    own = float(outcome.records["seconds"].sum())
    return (
        f"overhead: {MODEL} ({weights}), n = {count}, rays at {queries} queries: run {whole:.1f} s,"
        f" attack {own:.1f} s, rest / attack {100 * (whole - own) / own:.1f} %, with the imports of"
        f" pandas, pyarrow, matplotlib and Jinja2 {100 * (whole + imports - own) / own:.1f} %"
    )


def with_detector(folder: Path, count: int, repeats: int) -> str:
    """Return the time of a run with a detector over that of its attacks and the detector."""
    for name in REPORT_PACKAGES:
        importlib.import_module(name)
    network, x, y, weights = network_and_images(MODEL, count + 6_000)
    parts = [
        Dataset("mnist", images, labels)
        for images, labels in zip(
            x.split([count, 1_000, 5_000]), y.split([count, 1_000, 5_000]), strict=True
        )
    ]

    def run(number: int, attacked: Dataset) -> Outcome:
        return evaluate(
            network,
            attacked,
            folder / str(number),
            eps=EPS,
            attacks=("pgd",),
            attack_args={"pgd": PGD},
            detectors=("kernel_density",),
            calibration_data=parts[1],
            fit_data=parts[2],
        )

    run(0, parts[0].take(torch.arange(100)))
    found = []
    for number in range(1, repeats + 1):
        begun = time.perf_counter()
        outcome = run(number, parts[0])
        whole = time.perf_counter() - begun
        own = float(outcome.records["seconds"].sum()) + seconds(partial(scores, network, *parts))
        place = folder / str(number)
        drawn = seconds(partial(report_again, place))
        found.append((whole / own, (whole - drawn) / own, drawn))
    texts = map(spread, zip(*found, strict=True))
    return (
        f"detector: {MODEL} ({weights}), n = {count}, PGD-50 without and with knowledge of"
        " kernel_density: run / attacks and scores {}, without the report {}, report {} s".format(
            *texts
        )
    )


def report_again(place: Path) -> None:
    """Load a run, and write its report."""
    write_report(place, [load_run(place)])


def scores(network: nn.Module, attacked: Dataset, clean: Dataset, learned: Dataset) -> None:
    """Make the calls of the detector that a run of two attacks makes."""
    detector = KernelDensity()
    detector.fit(network, learned.x, learned.y)
    detector.calibrate(clean.x)
    for _ in range(3):  # the clean images, and those of each attack
        detector.score(attacked.x)


def processes(folder: Path, count: int, panel: str) -> str:
    """Return the times of one process and of two workers, by the command line."""
    import pandas as pd  # here, because its import is measured elsewhere

    command = [
        "-c",
        "from art_ext.cli import main; main()",
        "evaluate",
        "--model",
        "art_ext.models:mnist_two_conv",
        "--data",
        "mnist",
        "--eps",
        str(EPS),
        "--n",
        str(count),
        "--panel",
        panel,
        "--chunk-size",
        str(-(-count // 8)),
        "--quiet",
        "--weights",
        str(Path(os.environ["ART_EXT_DATA"]) / "checkpoints" / f"{MODEL}.safetensors"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    seconds = []
    for workers in (1, 2):
        shared = [] if workers == 1 else ["--workers", str(workers)]
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, *command, *shared, "--out", str(folder / str(workers))],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds.append(time.perf_counter() - begun)
    one, two = (read_records(folder / str(workers)).drop(columns="seconds") for workers in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    return (
        f"processes: {MODEL}, n = {count}, panel {panel}: one process {seconds[0]:.1f} s, two"
        f" workers {seconds[1]:.1f} s, ratio {seconds[0] / seconds[1]:.2f}; records equal"
    )


def report(folder: Path, count: int) -> str:
    """Return the times to load and render a large folder."""
    network, x, y, _ = network_and_images(MODEL, count)
    small = {name: {"num_steps": 4} for name in ("i_fgsm", "mi_fgsm", "m_pgd", "pgd", "ai_fgsm")}
    evaluate(
        network,
        Dataset("mnist", x, y),
        folder,
        eps=EPS,
        attacks=CHEAP,
        max_queries=60,
        attack_args={**small, "frank_wolfe": {"num_steps": 4}},
    )
    begun = time.perf_counter()
    loaded = load_run(folder)
    read = time.perf_counter() - begun
    write_report(folder, [loaded])
    whole = time.perf_counter() - begun
    size = (folder / "index.html").stat().st_size / 2**20
    return (
        f"report: {len(loaded.records):,} records of {len(CHEAP)} attacks: loaded in {read:.2f} s,"
        f" loaded and rendered in {whole:.2f} s, {size:.2f} MiB of HTML"
    )


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", nargs="*", default=["overhead", "detector", "processes", "report"])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--detector-n", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--panel", default="standard")
    parser.add_argument("--processes-n", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        if "overhead" in arguments.what:
            print(overhead(folder / "overhead", arguments.n, arguments.queries), flush=True)
        if "detector" in arguments.what:
            count, repeats = arguments.detector_n, arguments.repeats
            print(with_detector(folder / "detector", count, repeats), flush=True)
        if "processes" in arguments.what:
            print(
                processes(folder / "processes", arguments.processes_n, arguments.panel), flush=True
            )
        if "report" in arguments.what:
            print(report(folder / "report", arguments.n), flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
