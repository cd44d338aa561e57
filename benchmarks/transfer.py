"""Transfer of the sign-gradient family between two CIFAR ResNets.

Run with ``python -m art_ext.benchmarks.transfer``. Needs ART_EXT_DATA with CIFAR-10,
``cifar_resnet20_nat`` and ``cifar_resnet32_nat``. Only test images that both networks classify
correctly are counted. An attack on one network transfers if the other misclassifies its x_adv. The
measure of the HMCAM reference implementation is printed too: the fraction of all test images whose
prediction on the target changes, attacked with the predictions of the source as labels. M-PGD runs
with steps of eps / 10 and of eps.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import network, print_versions, right
from art_ext.core.attacks import ai_fgsm, fgsm, hmcam, m_pgd, pgd
from art_ext.core.metrics import TransferRate, paired_interval, transfer_success
from art_ext.core.result import AttackResult
from art_ext.data import load_data

MODELS = ("cifar_resnet32_nat", "cifar_resnet20_nat")


def attacks(steps: int, eps: float) -> dict[str, Callable[..., AttackResult]]:
    """Return the attacks of the HMCAM paper's Table 2 at equal numbers of steps."""
    return {
        "FGSM": fgsm,
        "PGD": functools.partial(pgd, num_steps=steps, step_size=eps / 10),
        "M-PGD, eps / 10": functools.partial(m_pgd, num_steps=steps, step_size=eps / 10),
        "M-PGD, eps": functools.partial(m_pgd, num_steps=steps, step_size=eps),
        "AI-FGSM": functools.partial(ai_fgsm, num_steps=steps),
        "HMCAM": functools.partial(hmcam, num_steps=steps // 2, num_transitions=2),
    }


def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """(N,) classes that the model predicts."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(256)])


def direction(source: str, target: str, count: int, steps: int, eps: float, seed: int) -> None:
    """Print the table of one source and one target."""
    models = {name: network(name)[0] for name in (source, target)}
    data = load_data("cifar10").first(count)
    kept = right(data.x, data.y, *models.values())
    x = data.x[kept]
    y = data.y[kept]
    answers, before = (predictions(models[name], data.x) for name in (source, target))
    print(f"{source} -> {target}: {len(x)} of {count} images right on both,")
    print(f"eps {eps * 255:g}/255, N = {steps}, seed {seed}\n")
    print("| attack | white-box % | transfer % | minus PGD, paired 95 % | authors' % | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    transfers: dict[str, TransferRate] = {}
    for name, attack in attacks(steps, eps).items():
        start = time.perf_counter()
        # a correct prediction of the source equals the label, so one run serves both measures
        result = attack(
            models[source], data.x, answers, eps=eps, seed=seed, batch_size=128, on_failure="last"
        )
        seconds = time.perf_counter() - start
        rate = transfers[name] = transfer_success(result.x_adv[kept], x, y, models[target])
        changed = 100 * float((predictions(models[target], result.x_adv) != before).double().mean())
        against = "-"
        if name not in ("FGSM", "PGD"):
            paired = paired_interval(rate, transfers["PGD"])
            against = (
                f"{100 * paired.difference:+.1f} [{100 * paired.low:+.1f},"
                f" {100 * paired.high:+.1f}]"
            )
        white = 100 * float(result.success[kept].double().mean())
        shown = f"{white:.1f} | {100 * rate.share:.1f} | {against} | {changed:.1f} | {seconds:.0f}"
        print(f"| {name} | {shown} |", flush=True)
    print()


def main() -> None:
    """Print the table of each direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--eps", type=float, default=2.0, help="in 1/255")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=MODELS, help="one direction only")
    arguments = parser.parse_args()
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("ART_EXT_DATA names no folder with CIFAR-10 and the third-party checkpoints")
    print_versions()
    for source, target in (MODELS, MODELS[::-1]):
        if arguments.source in (None, source):
            direction(
                source,
                target,
                arguments.count,
                arguments.steps,
                arguments.eps / 255,
                arguments.seed,
            )


if __name__ == "__main__":
    main()
