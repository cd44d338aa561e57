"""The panel ``rand`` beside AutoAttack rand, on models whose answers are random.

Run with ``python -m art_ext.benchmarks.rand``. The models are networks from the folder that
ART_EXT_DATA names, with Gaussian noise on their input, or with dropout that stays on at test time
before their last layer. Both sides get the same images. Their results are judged by the same fresh
draws: an image is robust if at least half of them give its label. A wrapper around the network
counts its rows, forward and backward.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import print_versions, stored_network
from art_ext.data import load_data
from art_ext.evaluation import AttackRequest, Settings
from art_ext.evaluation.panel.panels import MAX_QUERIES, PANELS

JUDGING_DRAWS = 201
BATCH = 256


class Rows(nn.Module):
    """Wrapper that counts the rows of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forward_rows = 0
        self.backward_rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        """Call the network."""
        output: Tensor = self.network(rows)
        self.forward_rows += len(rows)
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backward_rows += len(gradient)


class InputNoise(nn.Module):
    """Network whose input gets Gaussian noise at each call."""

    def __init__(self, network: nn.Module, deviation: float) -> None:
        super().__init__()
        self.network = network
        self.deviation = deviation

    def forward(self, rows: Tensor) -> Tensor:
        """Call the network on noisy rows."""
        output: Tensor = self.network(rows + self.deviation * torch.randn_like(rows))
        return output


class TestTimeDropout(nn.Module):
    """Layer behind a dropout that is on in eval mode too."""

    def __init__(self, layer: nn.Module, rate: float) -> None:
        super().__init__()
        self.layer = layer
        self.rate = rate

    def forward(self, rows: Tensor) -> Tensor:
        """Call the layer on what the dropout leaves."""
        output: Tensor = self.layer(functional.dropout(rows, self.rate, training=True))
        return output


def with_dropout(network: nn.Module, rate: float) -> nn.Module:
    """Copy of a network with dropout before its last linear layer."""
    found = copy.deepcopy(network)
    name = [name for name, module in found.named_modules() if isinstance(module, nn.Linear)][-1]
    place, _, last = name.rpartition(".")
    parent = found.get_submodule(place)
    setattr(parent, last, TestTimeDropout(parent.get_submodule(last), rate))
    return found


@dataclass(frozen=True)
class Case:
    """A randomised model: its network, data set, radius in L-inf, and what makes it random."""

    network: str
    data: str
    eps: float
    randomise: Callable[[nn.Module, float], nn.Module]
    amount: float

    def model(self) -> nn.Module:
        """Build the model."""
        return self.randomise(stored_network(self.network), self.amount)


CASES = {
    "input-noise": Case("cifar_resnet2b_abcrown", "cifar10", 2 / 255, InputNoise, 0.05),
    "dropout": Case("mnist_conv2_fast_pgd", "mnist", 0.3, with_dropout, 0.3),
}


@dataclass(frozen=True)
class Side:
    """Outcome of one side: robust accuracy by the majority of fresh draws, mean accuracy over them,
    rows of the model, and processor seconds.
    """

    name: str
    robust: float
    mean: float
    forward_rows: int
    backward_rows: int
    seconds: float

    def row(self) -> str:
        """Row of the table."""
        return (
            f"| {self.name} | {100 * self.robust:.1f} % | {100 * self.mean:.1f} % |"
            f" {self.forward_rows:,} | {self.backward_rows:,} | {self.seconds:.0f} |"
        )


def judge(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N,) share of fresh draws, the same at each call, that give the label."""
    votes = torch.zeros(len(x))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(20261130)
        for _ in range(JUDGING_DRAWS):
            votes += (model(x).argmax(dim=1) == y).float()
    return votes / JUDGING_DRAWS


def run_ours(model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> Tensor:
    """(N, *S) the successes of the panel, and the inputs without one."""
    panel = PANELS["rand"]
    settings = Settings(
        eps=(eps,),
        max_queries=MAX_QUERIES,
        norm="linf",
        stop_on_success=True,
        outputs="logits",
        clip_values=(0.0, 1.0),
        batch_size=BATCH,
        device=None,
        seed=seed,
        draws=panel.draws,
    )
    expectation = settings.expected({"model": model})["model"]
    found = x.clone()
    success = torch.zeros(len(x), dtype=torch.bool)
    for attack in panel.attacks(norm="linf"):
        rows = (~success).nonzero().squeeze(1)
        result = attack.run(AttackRequest(expectation, x[rows], y[rows], eps, settings))
        success[rows] = result.success
        found[rows] = result.x_adv
        print(f"  after {attack.name}: {100 * float((~success).double().mean()):.1f} %", flush=True)
    return found


def run_autoattack(model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> Tensor:
    """(N, *S) what AutoAttack rand returns."""
    theirs: Any = import_module("pyautoattack").AutoAttack(
        model, norm="Linf", eps=eps, seed=seed, version="rand"
    )
    found: Tensor = theirs.run_standard_evaluation(x, y, batch_size=BATCH)[0]
    return found


SIDES = {"art-ext rand": run_ours, "AutoAttack rand": run_autoattack}


def compare(case: Case, count: int, seed: int, names: Sequence[str]) -> dict[str, Side]:
    """Run both sides on one model, and print the table."""
    model = Rows(case.model()).eval()
    data = load_data(case.data).first(count)
    print(
        "| | robust accuracy | mean accuracy | rows forward | rows backward | processor seconds |"
    )
    print("|---|---|---|---|---|---|")
    clean = judge(model, data.x, data.y)
    sides = {"clean": Side("clean", _robust(clean), float(clean.mean()), 0, 0, 0.0)}
    print(sides["clean"].row(), flush=True)
    for name in names:
        model.forward_rows = 0
        model.backward_rows = 0
        torch.manual_seed(seed)
        begun = time.process_time()
        found = SIDES[name](model, data.x, data.y, case.eps, seed)
        seconds = time.process_time() - begun
        rows = (model.forward_rows, model.backward_rows)
        shares = judge(model, found, data.y)
        sides[name] = Side(name, _robust(shares), float(shares.mean()), *rows, seconds)
        print(sides[name].row(), flush=True)
    return sides


def _robust(shares: Tensor) -> float:
    return float((shares >= 0.5).double().mean())


def main() -> None:
    """Compare on each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=list(SIDES), help="Run this side only.")
    parser.add_argument("--out", type=Path, help="JSON file of the results.")
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    arguments = parser.parse_args()
    print_versions()
    names = list(SIDES) if arguments.side is None else [arguments.side]
    results = {}
    for name in arguments.cases:
        case = CASES[name]
        print(
            f"\n{name} {case.amount:g} on {case.network}, L-inf {case.eps:.4g}, the first"
            f" {arguments.n} images, seed {arguments.seed}\n"
        )
        sides = compare(case, arguments.n, arguments.seed, names)
        results[name] = {side: asdict(found) for side, found in sides.items()}
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
