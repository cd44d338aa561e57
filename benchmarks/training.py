"""Time of a weight update beside its bare passes and ART's trainers.

Run with ``python -m art_ext.benchmarks.training``. Bare passes are the forwards and backwards that
a recipe needs, of the same rows in the same modes, with parameter gradients for weight updates and
input gradients for crafting. They contain no noise, projection or optimiser. A further column adds
the optimiser's step to them. All times of a row come from one run, alternating the candidates.
Printed are medians of ratios with their range, and the ratio of the fastest of both, which a busy
machine affects least. Weights and images are random, which costs the same as trained ones.

A line compares the memory of GradAlign and Fast, as the bytes that autograd keeps for backwards. A
last line compares ATCD's two tests: with ``shared_test`` over without.
"""

from __future__ import annotations

import argparse
import functools
import logging
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import print_versions, seconds, seeded, spread
from art_ext.core.networks import frozen_eval
from art_ext.models import mnist_two_conv, preact_resnet18
from art_ext.training import Recipe, make_recipe, train
from art_ext.training.first_layer import output_alone
from art_ext.training.optimizers import make_optimizer
from art_ext.training.options import TrainingOptions
from art_ext.training.runs.defaults import takes_radius

EPS = 0.1
OPTIMIZER: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.0}


class Plain(nn.Module):
    """A network as one module.

    ART's TRADES trainer takes the first output of a Sequential's layers for its last.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Call the network."""
        logits: Tensor = self.network(rows)
        return logits


@dataclass(frozen=True)
class Passes:
    """The passes of one update.

    Attributes:
        graphless: forwards without a graph, in eval mode.
        crafted: forwards and backwards to the input, in eval mode.
        trained: forwards in train mode, which the weights' backward goes through.
        shared: backwards to the input of such a forward, beside or within that of the weights.
        twice: further forwards in train mode with an input gradient that is differentiated again.
        alone: passes through the first layer only, forward and back to its input.
        alone_trained: the same, back to its weights.
    """

    graphless: int
    crafted: int
    trained: int
    shared: int = 0
    twice: int = 0
    alone: int = 0
    alone_trained: int = 0


RECIPES: dict[str, tuple[Mapping[str, Any], Passes]] = {
    "natural": ({}, Passes(0, 0, 1)),
    "pgd": ({"num_steps": 10}, Passes(0, 10, 1)),
    "trades": ({"num_steps": 10}, Passes(1, 10, 2)),
    "fast": ({}, Passes(0, 1, 1)),
    "fast-trades": ({}, Passes(1, 1, 2)),
    "free": ({}, Passes(0, 0, 1, 1)),
    "grad-align": ({"weight": 0.2, "bn_mode": "eval"}, Passes(0, 1, 1, twice=1)),
    "yopo": ({}, Passes(0, 0, 5, alone=15, alone_trained=5)),
    "yopo-trades": ({}, Passes(1, 3, 2, alone=12)),
    "cat": ({}, Passes(0, 1, 1, 1)),
    "atcd": ({}, Passes(1, 1, 1, 1)),
    "backward-smoothing": ({}, Passes(1, 2, 2)),
    "war": ({"num_steps": 10}, Passes(1, 10, 2)),
    "adp": ({}, Passes(0, 0, 1)),
    "rce": ({}, Passes(0, 0, 1)),
    "mmlda": ({}, Passes(0, 0, 1)),
    "mmc": ({}, Passes(0, 0, 1)),
}


def bare(
    model: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    passes: Passes,
    separate: bool,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Run the passes of one update for each batch.

    Args:
        model, batches, passes: the network, its minibatches, and the passes of one.
        separate: True takes a separate backward to the input of the training forward.
        optimizer: takes a step after each batch. None: the weights stay.
    """
    for x, y in batches:
        if passes.alone:
            _first_layer_alone(model, x, passes)
        with frozen_eval(model):
            for _ in range(passes.graphless):
                with torch.no_grad():
                    model(x)
            for _ in range(passes.crafted):
                leaf = x.detach().requires_grad_(True)
                torch.autograd.grad(_cross_entropy(model(leaf), y, "sum"), leaf)
        model.train()
        model.zero_grad(set_to_none=True)
        leaf = x.detach().requires_grad_(passes.shared > 0)
        losses = [_cross_entropy(model(leaf), y, "mean") for _ in range(passes.trained)]
        if separate:
            torch.autograd.grad(losses[0], leaf, retain_graph=True)
        losses += [_of_gradient(model, x, y) for _ in range(passes.twice)]
        torch.stack(losses).sum().backward()
        if optimizer is not None:
            optimizer.step()


def _of_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared length of an input gradient, with its graph."""
    leaf = x.detach().requires_grad_(True)
    loss = _cross_entropy(model(leaf), y, "sum")
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return gradient.square().sum()


def _first_layer_alone(model: nn.Module, x: Tensor, passes: Passes) -> None:
    """Run the passes through the first layer, for a gradient of ones at its output."""
    layer = next(one for one in model.modules() if list(one.parameters(recurse=False)))
    for _ in range(passes.alone):
        leaf = x.detach().requires_grad_(True)
        outputs = output_alone(functools.partial(model, leaf), layer)  # normalisation comes before
        torch.autograd.grad(outputs, leaf, torch.ones_like(outputs))
    for _ in range(passes.alone_trained):
        outputs = output_alone(functools.partial(model, x), layer)
        torch.autograd.grad(outputs, list(layer.parameters()), torch.ones_like(outputs))


def _cross_entropy(outputs: Tensor, y: Tensor, reduction: str) -> Tensor:
    """Cross-entropy of logits (r, C), or of the logits (r, K, C) of an ensemble's members."""
    if outputs.dim() == 3:
        y = y.repeat_interleave(outputs.shape[1])
        outputs = outputs.flatten(0, 1)
    return functional.cross_entropy(outputs, y, reduction=reduction)


def ours(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, updates: int, batch: int) -> float:
    """Seconds of ``updates`` updates of our loop, with the end of the epoch.

    The set-up takes 20 ms more.
    """
    return train(model, (x, y), recipe, updates=updates, batch_size=batch, **OPTIMIZER).seconds


def shared_over_apart(
    network: Callable[[], nn.Module], x: Tensor, y: Tensor, batch: int, repeats: int
) -> str:
    """Time of ATCD's update with the shared test over that with a separate test."""
    updates = len(x) // batch
    model = network()
    recipes = [make_recipe("atcd", eps=EPS, shared_test=shared) for shared in (True, False)]
    ratios = []
    for _ in range(repeats):
        shared, apart = (ours(model, x, y, recipe, updates, batch) for recipe in recipes)
        ratios.append(shared / apart)
    return spread(ratios)


class _Kept:
    """A tensor that autograd keeps for a backward, counted while it lives."""

    def __init__(self, tensor: Tensor, held: dict[int, list[int]], peak: list[int]) -> None:
        self.tensor = tensor
        self._held = held
        storage = tensor.untyped_storage()
        self._key = storage.data_ptr()
        held.setdefault(self._key, [0, storage.nbytes()])[0] += 1
        peak[0] = max(peak[0], sum(size for _, size in held.values()))

    def __del__(self) -> None:
        self._held[self._key][0] -= 1
        if not self._held[self._key][0]:
            del self._held[self._key]


def kept_bytes(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> int:
    """Return the largest number of bytes that autograd keeps at once in an update.

    Parameters are not counted.
    """
    held: dict[int, list[int]] = {}
    peak = [0]

    def pack(tensor: Tensor) -> Any:
        return tensor if isinstance(tensor, nn.Parameter) else _Kept(tensor.detach(), held, peak)

    def unpack(kept: Any) -> Tensor:
        tensor: Tensor = kept.tensor if isinstance(kept, _Kept) else kept
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        ours(model, x, y, recipe, 1, len(x))
    return peak[0]


def art_trainer(
    name: str, model: nn.Module, x: Tensor, y: Tensor, batch: int, steps: int
) -> Callable[[], object]:
    """One epoch of ART's trainer on the same network."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.defences.trainer import AdversarialTrainerMadryPGD, AdversarialTrainerTRADESPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        10,
        torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    images = x.numpy()
    labels = functional.one_hot(y, 10).numpy()
    length = 2.5 * EPS / steps
    if name == "pgd":
        trainer = AdversarialTrainerMadryPGD(
            classifier,
            nb_epochs=1,
            batch_size=batch,
            eps=EPS,
            eps_step=length,
            max_iter=steps,
            num_random_init=1,
        )
        return lambda: trainer.fit(images, labels)
    attack = ProjectedGradientDescent(
        classifier,
        eps=EPS,
        eps_step=length,
        max_iter=steps,
        num_random_init=1,
        batch_size=batch,
        verbose=False,
    )
    trades = AdversarialTrainerTRADESPyTorch(classifier, attack, beta=6.0)
    return lambda: trades.fit(images, labels, nb_epochs=1, batch_size=batch)


def measure(
    label: str,
    network: Callable[[], nn.Module],
    shape: tuple[int, ...],
    batch: int,
    updates: int,
    repeats: int,
    names: list[str],
) -> None:
    """Print one row for each recipe."""
    torch.manual_seed(0)
    x = torch.rand(batch * updates, *shape)
    y = torch.randint(0, 10, (batch * updates,))
    batches = list(zip(x.split(batch), y.split(batch), strict=True))
    print(f"{label}, batches of {batch}, {updates} updates, {repeats} repeats\n")
    columns = (
        "recipe",
        "ms per update",
        "ours / bare",
        "fastest / fastest",
        "ours / bare and step",
        "ART / bare",
        "ours / ART",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in names:
        arguments, passes = RECIPES[name]
        radius = {"eps": EPS} if takes_radius(name) else {}
        recipe = make_recipe(name, **radius, **arguments)
        model = recipe.build(functools.partial(seeded, network), 0)
        separate = name in ("cat", "atcd")
        ours(model, x, y, recipe, 1, batch)  # warm up
        optimizer = make_optimizer(TrainingOptions(updates=updates, **OPTIMIZER), model)
        passing = functools.partial(bare, model, batches, passes, separate)
        mine = []
        stepped = []
        theirs = []
        for _ in range(repeats):
            floor = seconds(passing)
            mine.append((ours(model, x, y, recipe, updates, batch), floor))
            stepped.append(seconds(functools.partial(passing, optimizer)))
            if name in ("pgd", "trades"):
                theirs.append(seconds(art_trainer(name, Plain(network()), x, y, batch, 10)))
        ratios = [one / floor for one, floor in mine]
        cells = [f"{1e3 * statistics.median(one for one, _ in mine) / updates:.1f}"]
        cells.append(spread(ratios))
        cells.append(f"{min(one for one, _ in mine) / min(floor for _, floor in mine):.3f}")
        with_step = (one / more for (one, _), more in zip(mine, stepped, strict=True))
        cells.append(f"{statistics.median(with_step):.3f}")
        if theirs:
            pairs = list(zip(theirs, mine, strict=True))
            cells.append(f"{statistics.median(t / floor for t, (_, floor) in pairs):.3f}")
            cells.append(f"{statistics.median(one / t for t, (one, _) in pairs):.3f}")
        print(f"| {name} | {' | '.join(cells + ['-'] * (6 - len(cells)))} |", flush=True)
    model = network()
    kept = {
        name: kept_bytes(
            model, x[:batch], y[:batch], make_recipe(name, eps=EPS, **RECIPES[name][0])
        )
        for name in ("fast", "grad-align")
    }
    print(
        "\nkept for the backward by grad-align over fast:"
        f" {kept['grad-align'] / kept['fast']:.2f} (of {kept['fast'] / 2**20:.1f} MiB)"
    )
    print(
        "\natcd, shared test over a test apart:"
        f" {shared_over_apart(network, x, y, batch, repeats)}\n",
        flush=True,
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="of the table")
    parser.add_argument("--updates", type=int, default=30, help="on MNIST, a fifth of it on CIFAR")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print_versions()
    names = [name for name in options.recipes.split(",") if name in RECIPES]
    measure(
        "16 and 32 channels, MNIST",
        mnist_two_conv,
        (1, 28, 28),
        128,
        options.updates,
        options.repeats,
        names,
    )
    narrow = functools.partial(preact_resnet18, width=16)
    few = max(1, options.updates // 5)
    measure(
        "PreActResNet-18 of width 16, CIFAR", narrow, (3, 32, 32), 32, few, options.repeats, names
    )


if __name__ == "__main__":
    main()
