"""What a network's width does to robust training: ``python -m art_ext.benchmarks.width``.

On a part of MNIST (from ART_EXT_DATA): zeta is measured on the thinnest network at lambda = 6; then each width is
trained at that fixed lambda, for its perturbation stability and local Lipschitz constant, and with WAR, for the lambda
at which it settles (the mean over the last epoch). The claims: at fixed lambda stability falls with width, and
the lambda of WAR rises with it.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

from art_ext.benchmarks.common import print_versions
from art_ext.core.attacks import pgd
from art_ext.core.metrics import clean_accuracy, local_lipschitz, perturbation_stability, robust_accuracy
from art_ext.core.training import War, measure_zeta, train
from art_ext.core.training.callbacks import never
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv

LAMBDA = 6.0


def network(width: int, seed: int) -> nn.Module:
    """4 and 8 channels and 25 units, times the width."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mnist_two_conv(channels=(4 * width, 8 * width), hidden=(25 * width,))


def measured(model: nn.Module, test: Dataset, eps: float) -> str:
    """Clean accuracy, PGD-20, stability and Lipschitz constant, as cells of a table."""
    model.eval()
    result = pgd(model, test.x, test.y, eps=eps, num_steps=20, seed=0, on_failure="last")
    moved = pgd(model, test.x, test.y, eps=eps, num_steps=20, seed=0, on_failure="last", criterion=never).x_adv
    shares = (clean_accuracy(result), robust_accuracy(result), perturbation_stability(model, test.x, moved))
    lipschitz = local_lipschitz(model, test.x, eps=eps).mean
    return " | ".join([*(f"{100 * share:.1f}" for share in shares), f"{lipschitz:.3f}"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="1,8")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--eps", type=float, default=0.2)
    options = parser.parse_args()
    print_versions()
    images, test = load_data("mnist", split="train").first(options.images), load_data("mnist").first(1000)
    data, recipe = (images.x, images.y), {"eps": options.eps, "num_steps": 5}
    common: dict[str, Any] = {
        "epochs": options.epochs, "optimizer": "adam", "learning_rate": 4e-3, "weight_decay": 0.0,
        "schedule": "piecewise", "eps_warmup_epochs": 1.0,
    }  # fmt: skip
    widths = [int(width) for width in options.widths.split(",")]
    print(f"MNIST, {options.images} images, eps {options.eps}, {options.epochs} epochs, 1000 test images\n")
    print("| seed | width | lambda | clean % | PGD-20 % | stability % | Lipschitz |\n|---|---|---|---|---|---|---|")
    for seed in map(int, options.seeds.split(",")):
        zeta = measure_zeta(network(widths[0], seed), data, War(fixed=LAMBDA, **recipe), seed=seed, **common)
        for width in widths:
            fixed, free = network(width, seed), network(width, seed)
            train(fixed, data, War(fixed=LAMBDA, **recipe), seed=seed, **common)
            print(f"| {seed} | {width} | {LAMBDA:g}, fixed | {measured(fixed, test, options.eps)} |", flush=True)
            last = train(free, data, War(zeta=zeta, **recipe), seed=seed, **common).history[-1]
            found = f"{last['lambda']:.2f} (zeta {zeta:.1f})"
            print(f"| {seed} | {width} | {found} | {measured(free, test, options.eps)} |", flush=True)


if __name__ == "__main__":
    main()
