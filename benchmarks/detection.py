"""Time and memory of detectors, beside bare passes of the model.

Run with ``python -m art_ext.benchmarks.detection``. Every number is a ratio of times measured in
one run, alternating the candidates. Medians are printed. Weights are third-party ones if
ART_EXT_DATA names their folder, else random ones, which cost the same.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import (
    Meter,
    bare,
    network_and_images,
    print_versions,
    seconds,
    spread,
)
from art_ext.core.attacks import pgd
from art_ext.core.detection import Detector, KernelDensity, make_detector, registry

QUERIES = 10_000
KERNELS = 1_000
FEATURES = 64
EPS = 2 / 255
ROWS = 64


class Passing(nn.Module):
    """Network whose features are its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (r, 10) of inputs (r, F)."""
        scores: Tensor = self.last(x)
        return scores


def densities() -> tuple[KernelDensity, Tensor]:
    """Return a detector with 1,000 kernels in one class, and features to score."""
    torch.manual_seed(0)
    detector = KernelDensity(num_kernels=KERNELS)
    outputs = torch.zeros(KERNELS, 1)
    labels = torch.zeros(KERNELS, dtype=torch.int64)
    detector.learn(outputs, torch.randn(KERNELS, FEATURES), labels)
    return detector, torch.randn(QUERIES, FEATURES)


def memory() -> None:
    """Print the growth of the peak resident memory by one evaluation of the density."""
    torch.set_num_threads(1)
    detector, features = densities()
    classes = torch.zeros(QUERIES, dtype=torch.int64)
    detector.log_density(features[:8], classes[:8])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    detector.log_density(features, classes)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{(after - before) / 1024:.0f}")


def ratios(ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> str:
    """Return the median and the range of the ratios of two times, taken in turn."""
    ours()
    bare()
    return spread([seconds(ours) / seconds(bare) for _ in range(repeats)], digits=2)


def print_density(repeats: int) -> None:
    """Print time and memory of the kernel density beside the distances alone."""
    detector, features = densities()
    classes = torch.zeros(QUERIES, dtype=torch.int64)
    ours = partial(detector.log_density, features, classes)
    code = "from art_ext.benchmarks.detection import memory; memory()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    print(
        f"kernel density, {QUERIES:,} queries, {KERNELS:,} kernels, {FEATURES} features: time /"
        f" torch.cdist {ratios(ours, partial(torch.cdist, features, detector.kernels), repeats)},"
        f" memory {done.stdout.strip()} MB\n"
    )


def fitted(name: str, model: nn.Module, x: Tensor) -> Detector:
    """Return a detector that is fitted and calibrated on images x (N, *S)."""
    with torch.no_grad():
        y = torch.cat([model(part).argmax(1) for part in x.split(256)])
    # every class has images, whatever the model predicts
    y[:10] = torch.arange(10)
    detector = make_detector(name)
    detector.fit(model, x, y)
    detector.calibrate(x)
    return detector


def print_costs(network: str, repeats: int) -> None:
    """Print the time of each detector, and of an attack that knows it, over bare passes."""
    model, x, _, weights = network_and_images(network, 1024)
    print(f"{network} ({weights}), {ROWS} rows")
    print("| detector | rows of a query | score / bare forwards | aware PGD-20 / bare passes |")
    print("|---|---|---|---|")
    for name in (spec.name for spec in registry.specs()):
        detector = fitted(name, model, x)
        calls = [(ROWS, False)] * detector.rows
        y = detector.answers(x[:ROWS]).outputs.argmax(1)
        score = ratios(
            partial(detector.score, x[:ROWS]), partial(bare, model, x, y, calls), repeats
        )
        attacked = aware(detector, model, x[:ROWS], y, repeats)
        print(f"| {name} | {detector.rows} | {score} | {attacked} |")


def aware(detector: Detector, model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> str:
    """Return the time of an aware attack over the bare passes that it makes."""
    meter = Meter(model)
    detector.model = meter
    attack = partial(
        pgd, meter, x, y, eps=EPS, num_steps=20, stop_on_success=False, seed=0, detector=detector
    )
    attack()
    plain = partial(bare, model, x, y, list(meter.calls))
    detector.model = model
    direct = partial(attack.func, model, *attack.args[1:], **attack.keywords)
    return ratios(direct, plain, repeats)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--networks", default="cifar_resnet20_nat")
    arguments = parser.parse_args()
    print_versions()
    print_density(arguments.repeats)
    for network in arguments.networks.split(","):
        print_costs(network, arguments.repeats)


if __name__ == "__main__":
    main()
