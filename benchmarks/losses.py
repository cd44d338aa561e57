"""One Auto-PGD ascent on each loss, beside the ascents at nine classes.

Run with ``python -m art_ext.benchmarks.losses``. Each row attacks all images, on one thread.
Times are processor times. Networks and images come from the folder that ART_EXT_DATA names.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, stored_network
from art_ext.benchmarks.strength_runs import CASES
from art_ext.core.attacks import auto_pgd
from art_ext.core.losses import LOSSES

NETWORKS = {case.name: case for case in CASES if case.norm == "linf"}
DEFAULT = ("cifar_resnet4b_abcrown", "cifar_resnet2b2_bn_mnbab_sadv8")
ROWS: dict[str, dict[str, Any]] = {
    **{loss: {"loss": loss} for loss in LOSSES},
    "margin of 9 classes": {"num_targets": 9},
}


def print_table(model: nn.Module, x: Tensor, y: Tensor, eps: float, seeds: int) -> None:
    """Print a row for each loss: robust accuracy by seed, images that only it breaks, seconds."""
    failures = {}
    spent = {}
    for name, arguments in ROWS.items():
        start = time.process_time()
        found = [auto_pgd(model, x, y, eps=eps, seed=seed, **arguments) for seed in range(seeds)]
        spent[name] = (time.process_time() - start) / seeds
        failures[name] = torch.stack([~one.success for one in found])
    robust = {name: rows.all(dim=0) for name, rows in failures.items()}
    print("| loss | robust accuracy, seed by seed | success of no other row | processor seconds |")
    print("|---|---|---|---|")
    for name, rows in failures.items():
        others = torch.stack([one for other, one in robust.items() if other != name]).all(dim=0)
        shares = ", ".join(f"{100 * float(row.double().mean()):.1f}" for row in rows)
        print(f"| {name} | {shares} | {int((others & ~robust[name]).sum())} | {spent[name]:.0f} |")


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("networks", nargs="*", default=list(DEFAULT), help=", ".join(NETWORKS))
    arguments = parser.parse_args()
    print_versions()
    for name in arguments.networks:
        case = NETWORKS[name]
        x, y = case.samples(arguments.n)
        print(f"\n{name}, L-inf {case.eps}, the first {len(x)} images\n", flush=True)
        print_table(stored_network(name), x, y, case.radius, arguments.seeds)


if __name__ == "__main__":
    main()
