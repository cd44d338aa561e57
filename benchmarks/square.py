"""Square beside AutoAttack's Square at equal budgets.

Run with ``python -m art_ext.benchmarks.square``. Both get the same images, as many queries and the
same share of pixels in the first window, one after the other in one process on one thread. The one
that begins alternates. AutoAttack's Square, from the wheel pyautoattack, gets batches of 250 images
as its evaluation does. Times are processor times, which other processes change little. Networks and
images come from the folder that ART_EXT_DATA names.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, stored_network
from art_ext.benchmarks.strength_runs import Case
from art_ext.core.attacks import square

CASES = (
    Case("mnist_conv2_fast_pgd", "linf", "0.3"),
    Case("mnist_conv2_lirpa_robust", "linf", "0.3"),
    Case("cifar_resnet2b_abcrown", "linf", "2/255"),
    Case("cifar_conv2_sdp_adv4", "linf", "2/255"),
    Case("mnist_conv2_fast_pgd", "l2", "1.5"),
    Case("mnist_conv2_lirpa_robust", "l2", "1.5"),
    Case("cifar_resnet2b_abcrown", "l2", "36/255"),
    Case("cifar_conv2_sdp_adv4", "l2", "36/255"),
)
P_INIT = 0.8  # of AutoAttack
BATCH = 250  # images, as in AutoAttack's evaluation

Attack = Callable[[nn.Module, Tensor, Tensor, Case, int, int], Tensor]


def ours(model: nn.Module, x: Tensor, y: Tensor, case: Case, max_queries: int, seed: int) -> Tensor:
    """Return the adversarial images of ``square``."""
    result = square(
        model,
        x,
        y,
        eps=case.radius,
        norm=case.norm,
        p_init=P_INIT,
        max_queries=max_queries,
        seed=seed,
    )
    return result.x_adv


def theirs(
    model: nn.Module, x: Tensor, y: Tensor, case: Case, max_queries: int, seed: int
) -> Tensor:
    """Return the adversarial images of AutoAttack's Square."""
    attack = import_module("pyautoattack.square").SquareAttack(
        model,
        norm={"linf": "Linf", "l2": "L2"}[case.norm],
        n_queries=max_queries,
        eps=case.radius,
        p_init=P_INIT,
        seed=seed,
        device=x.device,
    )
    pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
    return torch.cat([attack.perturb(images, labels) for images, labels in pairs])


def measure(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, case: Case, max_queries: int, seed: int
) -> tuple[float, float]:
    """Return the robust accuracy in percent, and the processor seconds."""
    start = time.process_time()
    with torch.no_grad():
        images = attack(model, x, y, case, max_queries, seed)
    seconds = time.process_time() - start
    return 100 * float(right(images, y, model).float().mean()), seconds


def row(case: Case, seeds: Sequence[int], count: int, max_queries: int) -> str:
    """Return the row of a case: both robust accuracies and the ratio of times, one per seed."""
    model = stored_network(case.name)
    x, y = case.samples(count)
    accuracies: tuple[list[str], list[str]] = ([], [])
    ratios = []
    for number, seed in enumerate(seeds):
        found = {}
        for attack in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            found[attack] = measure(attack, model, x, y, case, max_queries, seed)
        accuracies[0].append(f"{found[ours][0]:.1f}")
        accuracies[1].append(f"{found[theirs][0]:.1f}")
        ratios.append(found[ours][1] / found[theirs][1])
    cells = (
        f"`{case.name}`",
        f"{case.norm} {case.eps}",
        ", ".join(accuracies[0]),
        ", ".join(accuracies[1]),
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Compare in each case, and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="number of images")
    parser.add_argument("--max-queries", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("networks", nargs="*", help="names of checkpoints. Default: all")
    arguments = parser.parse_args()
    print_versions()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print("| network | ball | robust accuracy in %, here | AutoAttack's Square | time, ratio |")
    print("|---|---|---|---|---|")
    for case in CASES:
        if not arguments.networks or case.name in arguments.networks:
            print(row(case, seeds, arguments.n, arguments.max_queries), flush=True)


if __name__ == "__main__":
    main()
