"""Auto-PGD in bfloat16, in channels-last memory and compiled, beside the same ascent in float32.

Run with ``python -m art_ext.benchmarks.precision``. The forms take turns. Their times are processor
times on the CPU, and times until the device is idle elsewhere: medians of the ratios to float32 in
the same turn. Networks and images come from the folder that ART_EXT_DATA names.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, stored_network
from art_ext.core.attacks import auto_pgd
from art_ext.core.result import AttackResult
from art_ext.data import load_data

# name of the checkpoint -> data set, eps in L-inf
NETWORKS = {
    "cifar_resnet4b_abcrown": ("cifar10", 2 / 255),
    "cifar_resnet2b2_bn_mnbab_sadv8": ("cifar10", 2 / 255),
    "mnist_conv2_fast_pgd": ("mnist", 0.3),
}
FORMS: dict[str, dict[str, bool]] = {
    "float32": {},
    "channels_last": {"channels_last": True},
    "amp": {"amp": True},
    "amp, channels_last": {"amp": True, "channels_last": True},
    "compile": {"compile": True},
    "amp, compile": {"amp": True, "compile": True},
}


def timed(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, options: Mapping[str, bool]
) -> tuple[AttackResult, float]:
    """Return the result of an ascent, and its seconds."""
    on_cpu = x.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    begun = clock()
    result = auto_pgd(model, x, y, eps=eps, num_steps=steps, seed=0, **options)  # type: ignore[arg-type]  # flags
    result.success.cpu()  # waits for the device
    return result, clock() - begun


def print_table(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, arguments: argparse.Namespace
) -> None:
    """Print a row for each form."""
    forms = {name: FORMS[name] for name in arguments.forms}
    for options in forms.values():
        if options.get("compile"):  # compiles before the clock starts
            timed(model, x, y, eps, 2, options)
    ratios: dict[str, list[float]] = {name: [] for name in forms}
    results = {}
    for _ in range(arguments.turns):
        seconds = {}
        for name, options in forms.items():
            results[name], seconds[name] = timed(model, x, y, eps, arguments.steps, options)
            ratios[name].append(seconds[name] / seconds["float32"])
    exact = results["float32"].success
    print("| form | robust accuracy | successes of it alone | of float32 alone | queries | time |")
    print("|---|---|---|---|---|---|")
    for name, result in results.items():
        robust = 100 * float((~result.success).double().mean())
        own, other = int((result.success & ~exact).sum()), int((exact & ~result.success).sum())
        queries = float(result.queries.double().mean())
        ratio = statistics.median(ratios[name])
        print(f"| {name} | {robust:.1f} | {own} | {other} | {queries:.1f} | {ratio:.2f} |")


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    arguments = parser.parse_args()
    if "float32" not in arguments.forms:
        arguments.forms.insert(0, "float32")
    print_versions()
    for name in arguments.networks:
        data_set, eps = NETWORKS[name]
        data = load_data(data_set).first(arguments.n)
        device = torch.device(arguments.device)
        model = stored_network(name).to(device)
        print(f"\n{name}, L-inf {eps:.4g}, the first {len(data.x)} images\n", flush=True)
        print_table(model, data.x.to(device), data.y.to(device), eps, arguments)


if __name__ == "__main__":
    main()
