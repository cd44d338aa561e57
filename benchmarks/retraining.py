"""Table 7 of the EAD thesis: retraining with fixed sets of adversarial examples.

Run with ``python -m art_ext.benchmarks.retraining``. A natural network is trained. C&W, EAD by its
L1 rule and EAD by its elastic-net rule each make examples of some training images for all wrong
classes, once. Networks are then trained from the same initial weights on the training images and
one or two of these sets, with the true classes. Each is attacked by C&W and EAD (L1 rule) in the
average case on the test images that it classifies correctly.

``--data mnist`` needs ART_EXT_DATA. The thesis takes 55,000 images, 1,000 of which are attacked, 9
searches of 1,000 steps, and a network of 7 layers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network
from art_ext.core.attacks import cw, ead
from art_ext.core.result import AttackResult
from art_ext.data import Dataset, load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import FixedSet, fixed_set

NETWORKS: dict[str, Callable[[], nn.Module]] = {"digits": digits_cnn, "mnist": mnist_two_conv}
ATTACKS: dict[str, Callable[..., AttackResult]] = {
    "C&W": cw,
    "EAD, L1 rule": partial(ead, decision_rule="L1"),
}
# name of the set: attack, arguments
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "L2": ("cw", {}),
    "L1": ("ead", {"decision_rule": "L1"}),
    "EN": ("ead", {"decision_rule": "EN"}),
}
VARIANTS = ((), ("L2",), ("L1",), ("EN",), ("L2", "L1"), ("L2", "EN"))


def trained(
    data: str, images: Dataset, sets: Sequence[FixedSet], epochs: int, seed: int
) -> nn.Module:
    """Return a network trained on the images and some sets, from weights of the seed."""
    append = None
    if sets:
        append = (torch.cat([one.x for one in sets]), torch.cat([one.y for one in sets]))
    model = seeded(NETWORKS[data], seed)
    return train_network(model, images, "natural", epochs=epochs, seed=seed, append=append)


def made(
    model: nn.Module, images: Dataset, count: int, schedule: Mapping[str, Any]
) -> dict[str, FixedSet]:
    """Make the fixed sets on a network, and print their sizes."""
    found = {}
    for name, (attack, arguments) in SETS.items():
        start = time.perf_counter()
        found[name] = fixed_set(
            model,
            images.x,
            images.y,
            attack,
            n=count,
            targets="all",
            arguments={**arguments, **schedule},
        )
        print(
            f"{name}: {len(found[name])} examples, {found[name].failed} rows left out,"
            f" {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return found


def attacked(
    model: nn.Module, x: Tensor, y: Tensor, schedule: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return success in % and mean L1, L2 and L-inf of the average case, by attack."""
    rows = {}
    for name, attack in ATTACKS.items():
        found = attack(model, x, y, targets="average", seed=0, **schedule)
        lengths = found.distortions()
        means = [float(lengths[one][found.success].mean()) for one in ("l1", "l2", "linf")]
        success = 100 * float(found.success.float().mean())
        rows[name] = [f"{success:.1f}", *(f"{one:.3f}" for one in means)]
    return rows


def main(given: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=NETWORKS, default="digits")
    parser.add_argument("--images", type=int, help="training images (default all)")
    parser.add_argument("--crafted", type=int, default=50, help="training images that are attacked")
    parser.add_argument("--attacked", type=int, default=100, help="test images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--search-steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    print_versions()
    images = load_data(options.data, split="train").first(options.images).in_memory()
    test = load_data(options.data).in_memory()
    schedule = {
        "num_steps": options.steps,
        "search_steps": options.search_steps,
        "initial_const": 1.0,
        "step_size": 0.05,
    }
    natural = trained(options.data, images, (), options.epochs, options.seed)
    sets = made(natural, images, options.crafted, schedule)
    print(
        f"\nTable 7: {len(images)} images of {options.data}, {options.crafted} attacked for all"
        f" wrong classes, {options.epochs} epochs, {options.search_steps} x {options.steps} steps\n"
    )
    print("| trained with | clean % | attack | success % | L1 | L2 | Linf |")
    print("|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        chosen = [sets[name] for name in variant]
        model = trained(options.data, images, chosen, options.epochs, options.seed)
        fine = right(test.x, test.y, model)
        clean = 100 * float(fine.float().mean())
        x, y = test.x[fine][: options.attacked], test.y[fine][: options.attacked]
        for name, cells in attacked(model, x, y, schedule).items():
            label = "+".join(variant) or "natural"
            print(f"| {label} | {clean:.1f} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
