"""Effect of a network's width on robust training: ``python -m art_ext.benchmarks.width``.

On a part of MNIST (from ART_EXT_DATA). zeta is measured on the thinnest network at lambda = 6. Then
each width is trained at that fixed lambda, and with WAR by each of its rules for lambda, whose
lambda is the mean over the last epoch. The table shows clean accuracy, PGD-20, perturbation
stability and the local Lipschitz constants on the first 1,000 test images. On the thinnest network
a working rule returns to lambda = 6.

``--war`` takes arguments of the recipe, one group for each row: ``--war rule=log
rule=printed,lambda_0=6,hold_epochs=1``.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from torch import nn

from art_ext.benchmarks.common import print_versions, seeded
from art_ext.configuration.parsing import parse_arguments, read_value
from art_ext.core.attacks import pgd
from art_ext.core.metrics import (
    clean_accuracy,
    local_lipschitz,
    perturbation_stability,
    robust_accuracy,
)
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv
from art_ext.training import War, measure_zeta, train
from art_ext.training.callbacks import never

LAMBDA = 6.0


def network(width: int, seed: int) -> nn.Module:
    """Return a network with 4 and 8 channels and 25 units, times the width."""
    sizes = partial(mnist_two_conv, channels=(4 * width, 8 * width), hidden=(25 * width,))
    return seeded(sizes, seed)


def measured(model: nn.Module, test: Dataset, eps: float) -> str:
    """Clean accuracy, PGD-20, stability and Lipschitz constants, as cells of a table."""
    model.eval()
    result = pgd(model, test.x, test.y, eps=eps, num_steps=20, seed=0, on_failure="last")
    moved = pgd(
        model, test.x, test.y, eps=eps, num_steps=20, seed=0, on_failure="last", criterion=never
    ).x_adv
    fractions = (
        clean_accuracy(result),
        robust_accuracy(result),
        perturbation_stability(model, test.x, moved),
    )
    lipschitz = (
        local_lipschitz(model, test.x, eps=eps).mean,
        local_lipschitz(model, test.x, eps=eps, loss="ce", y=test.y).mean,
    )
    percent = (f"{100 * fraction:.1f}" for fraction in fractions)
    return " | ".join([*percent, *(f"{one:.3f}" for one in lipschitz)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="1,4")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--eps", type=float, default=0.2)
    parser.add_argument(
        "--war", nargs="+", default=["rule=log", "rule=printed"], metavar="ARGUMENTS"
    )
    options = parser.parse_args()
    print_versions()
    images = load_data("mnist", split="train").first(options.images).in_memory()
    test = load_data("mnist").first(1000).in_memory()
    data = images.x, images.y
    recipe: dict[str, Any] = {"eps": options.eps, "num_steps": 5}
    common: dict[str, Any] = {
        "epochs": options.epochs,
        "optimizer": "adam",
        "learning_rate": 4e-3,
        "weight_decay": 0.0,
        "schedule": "piecewise",
        "eps_warmup_epochs": 1.0,
    }
    widths = [int(width) for width in options.widths.split(",")]
    fixed = War(fixed=LAMBDA, **recipe)
    print(
        f"MNIST, {options.images} images, eps {options.eps}, {options.epochs} epochs, 1000 test"
        " images\n"
    )
    measures = "clean % | PGD-20 % | stability % | Lipschitz, KL | Lipschitz, cross-entropy"
    print(f"| seed | width | WAR | lambda | {measures} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in map(int, options.seeds.split(",")):
        thin = network(widths[0], seed)
        zeta = measure_zeta(thin, data, fixed, seed=seed, **common)
        cells = f"{LAMBDA:.2f} | {measured(thin, test, options.eps)}"
        print(f"| {seed} | {widths[0]} | fixed={LAMBDA:g} | {cells} |", flush=True)
        for width in widths:
            recipes = {} if width == widths[0] else {f"fixed={LAMBDA:g}": fixed}
            for text in options.war:
                read: dict[str, Any] = {
                    name: read_value(one) for name, one in parse_arguments(text, "war").items()
                }
                recipes[f"{text}, zeta {zeta:.2f}"] = War(zeta=zeta, **recipe, **read)
            for name, one in recipes.items():
                model = network(width, seed)
                last = train(model, data, one, seed=seed, **common).history[-1]
                cells = f"{last['lambda']:.2f} | {measured(model, test, options.eps)}"
                print(f"| {seed} | {width} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
