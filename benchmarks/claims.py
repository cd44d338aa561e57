"""Claims of the papers about robust training, one command each.

Run with ``python -m art_ext.benchmarks.claims NAME``:

* ``increment``: Figure 6.1 of the dissertation. Loss increment of the training examples at one
  step from the input, one step from a random point, and PGD-10.
* ``curvature``: Figure 6.3. Largest eigenvalue of the input Hessian at clean, uniformly perturbed
  and backward-smoothed points of test samples, after Fast TRADES.
* ``width``: Table 5.1 and Figure 5.4. Stability and local Lipschitz constants at two widths and a
  fixed lambda.
* ``cost``: time of ``hessian_eigenvalue`` over that of its bare Hessian-vector products.

``+-`` is the half width of a 95 % interval of the mean (Student's t over the seeds).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import print_versions, seeded, spread
from art_ext.core.attacks import pgd
from art_ext.core.metrics import (
    clean_accuracy,
    hessian_eigenvalue,
    local_lipschitz,
    perturbation_stability,
    robust_accuracy,
)
from art_ext.data import Dataset, load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import (
    EpochEnd,
    Fast,
    FastTrades,
    Pgd,
    Recipe,
    TrackHessian,
    TrackLossIncrement,
    Trades,
    TrainingResult,
    train,
)
from art_ext.training.callbacks import never

QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # of Student's t, two-sided 95 %, by seeds
LAMBDA = 6.0


@dataclass(frozen=True)
class Setting:
    """A data set with its network, radius, length and keywords of ``train``.

    Attributes:
        network: makes a network.
        eps: radius.
        images: training images.
        tests: test images.
        epochs: passes over the data.
        options: of ``train``.
    """

    network: Callable[[], nn.Module]
    eps: float
    images: int | None
    tests: int
    epochs: int
    options: Mapping[str, Any]


ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0, "schedule": "cyclic"}
SETTINGS = {
    "digits": Setting(
        digits_cnn, 0.15, None, 500, 30, {**ADAM, "learning_rate": 4e-3, "batch_size": 64}
    ),
    "mnist": Setting(
        mnist_two_conv,
        0.3,
        10_000,
        1000,
        8,
        {
            **ADAM,
            "learning_rate": 5e-3,
            "batch_size": 128,
            "schedule_args": {"peak": 0.4},
            "eps_warmup_epochs": 1.6,
        },
    ),
}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*COMMANDS, *ALONE))
    parser.add_argument("--data", choices=SETTINGS, default="digits")
    parser.add_argument("--eps", type=float, help="another radius than that of the data")
    parser.add_argument("--epochs", type=int, help="another length than that of the data")
    parser.add_argument("--seeds", default="0,1,2")
    arguments = parser.parse_args()
    print_versions()
    if arguments.name in ALONE:
        ALONE[arguments.name]()
        return
    setting = SETTINGS[arguments.data]
    eps = setting.eps if arguments.eps is None else arguments.eps
    epochs = setting.epochs if arguments.epochs is None else arguments.epochs
    images = load_data(arguments.data, split="train").first(setting.images).in_memory()
    test = load_data(arguments.data).first(setting.tests).in_memory()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(
        f"{arguments.data}, {len(images)} images, {len(test)} test images, eps {eps:g}, {epochs}"
        f" epochs, seeds {arguments.seeds}\n"
    )
    COMMANDS[arguments.name](Trial(setting, images, test, eps, epochs, seeds))


@dataclass(frozen=True)
class Trial:
    """Data, radius, length and seeds of a table."""

    setting: Setting
    images: Dataset
    test: Dataset
    eps: float
    epochs: int
    seeds: Sequence[int]

    def train(
        self,
        recipe: Recipe,
        seed: int,
        network: Callable[[], nn.Module] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> TrainingResult:
        """Train a network, and put it in eval mode."""
        result = train(
            seeded(network or self.setting.network, seed),
            (self.images.x, self.images.y),
            recipe,
            seed=seed,
            epochs=self.epochs,
            callbacks=callbacks,
            **self.setting.options,
        )
        result.model.eval()
        return result

    def accuracies(self, model: nn.Module) -> tuple[float, float]:
        """Return clean accuracy and that under PGD-20, in percent."""
        attacked = pgd(
            model, self.test.x, self.test.y, eps=self.eps, num_steps=20, stop_on_success=True
        )
        return 100 * clean_accuracy(attacked), 100 * robust_accuracy(attacked)


def mean(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean of the seeds and the half width of its interval, as text.

    A quantity may be undefined for a seed, such as the cosine of a gradient of 0.
    """
    if not all(map(math.isfinite, values)):
        return "undefined"
    middle = f"{statistics.mean(values):.{digits}f}"
    if len(values) not in QUANTILES:
        return middle
    half = QUANTILES[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{middle} +- {half:.{digits}f}"


def verdict(differences: Sequence[float], name: str) -> str:
    """Say if a difference that a claim calls positive is so for all seeds together."""
    middle = statistics.mean(differences)
    if len(differences) not in QUANTILES:
        return f"{name}: {middle:.3f}"
    half = QUANTILES[len(differences)] * statistics.stdev(differences)
    half /= math.sqrt(len(differences))
    found = "holds" if middle > half else "reversed" if middle < -half else "not resolved"
    return f"{name}: {middle:.3f} +- {half:.3f}, {found}"


def print_row(*cells: object) -> None:
    """Print a line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_head(*titles: str) -> None:
    """Print the head of a table."""
    print_row(*titles)
    print_row(*["---"] * len(titles))


# --- Figure 6.1 ---


def print_increments(trial: Trial) -> None:
    """Print the loss increment at the beginning, in the middle and at the end."""
    eps = trial.eps
    recipes: dict[str, Recipe] = {
        "one step, zero start": Fast(eps=eps, start="zero"),
        "one step, uniform start": Fast(eps=eps, boxed_start=False),
        "PGD-10": Pgd(eps=eps),
    }
    quarter = max(1, trial.epochs // 4)
    print_head(
        "training",
        f"increment, epoch {quarter}",
        f"epoch {2 * quarter}",
        f"epoch {trial.epochs}",
        "negative minibatches %",
        "clean %",
        "PGD-20 %",
    )
    for name, recipe in recipes.items():
        columns: list[list[float]] = []
        for seed in trial.seeds:
            result = trial.train(recipe, seed, callbacks=[TrackLossIncrement(every=5)])
            rows = result.history
            increments = [rows[place - 1]["loss_increment"] for place in (quarter, 2 * quarter, 0)]
            negative = statistics.mean(row["loss_increment_negative"] for row in rows)
            columns.append([*increments, 100 * negative, *trial.accuracies(result.model)])
        print_row(name, *(mean(one) for one in zip(*columns, strict=True)))


# --- Figure 6.3 ---


def print_curvature(trial: Trial) -> None:
    """Print the mean largest eigenvalues, with ReLU and with Softplus."""
    points = ("clean", "uniform", "backward")
    print_head("activation", *(f"{point} points" for point in points), "clean %", "PGD-20 %")
    track = TrackHessian(trial.test.x[:256], trial.test.y[:256], trial.eps, points)
    networks: dict[str, Callable[[], nn.Module]] = {
        "ReLU": trial.setting.network,
        "Softplus": partial(softened, trial.setting.network),
    }
    for name, network in networks.items():
        columns: list[list[float]] = []
        for seed in trial.seeds:
            recipe = FastTrades(eps=trial.eps, boxed_start=False)
            model = trial.train(recipe, seed, network).model
            found = track(EpochEnd(model, 0, {}))
            eigenvalues = [found[f"hessian_{point}"] for point in points]
            columns.append([*eigenvalues, *trial.accuracies(model)])
        print_row(name, *(mean(one) for one in zip(*columns, strict=True)))
        for place, point in ((0, "clean"), (1, "uniform")):
            flatter = [row[place] - row[2] for row in columns]
            print(verdict(flatter, f"  {name}: backward below {point}"))


def softened(network: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with Softplus in place of each ReLU."""
    model = network()
    for name, layer in list(model.named_children()):
        if isinstance(layer, nn.ReLU):
            setattr(model, name, nn.Softplus())
    return model


# --- Table 5.1 and Figure 5.4 ---


def print_widths(trial: Trial) -> None:
    """Print the measures at two widths, lambda fixed."""
    print_head(
        *(
            "width",
            "clean %",
            "PGD-20 %",
            "stability %",
            "Lipschitz, KL",
            "Lipschitz, cross-entropy",
        )
    )
    found: dict[int, list[list[float]]] = {}
    for width in (1, 4):
        network = partial(thin_network, width, trial.images.x.shape[-1])
        found[width] = []
        for seed in trial.seeds:
            recipe = Trades(eps=trial.eps, beta=LAMBDA, num_steps=5)
            model = trial.train(recipe, seed, network).model
            found[width].append([*trial.accuracies(model), *sensitivity(model, trial)])
        columns = list(zip(*found[width], strict=True))
        print_row(width, *map(mean, columns[:3]), *(mean(one, 3) for one in columns[3:]))
    for name, place, sign in (
        ("stability falls with width", 2, -1),
        ("Lipschitz constant of KL grows", 3, 1),
        ("Lipschitz constant of cross-entropy grows", 4, 1),
    ):
        pairs = zip(found[1], found[4], strict=True)
        print(verdict([sign * (wide[place] - thin[place]) for thin, wide in pairs], f"  {name}"))


def thin_network(width: int, pixels: int) -> nn.Module:
    """Return a network with 4 and 8 channels and 25 units, times the width."""
    if pixels == 28:
        return mnist_two_conv(channels=(4 * width, 8 * width), hidden=(25 * width,))
    return nn.Sequential(
        nn.Conv2d(1, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4 * width, 8 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width * (pixels // 2) ** 2, 25 * width),
        nn.ReLU(),
        nn.Linear(25 * width, 10),
    )


def sensitivity(model: nn.Module, trial: Trial) -> tuple[float, float, float]:
    """Return stability in percent, and the local Lipschitz constants of both losses."""
    x = trial.test.x
    settings: dict[str, Any] = {"eps": trial.eps, "num_steps": 20}
    # the network's own predictions are attacked, so that the fraction is that of samples that hold
    moved = pgd(model, x, **settings, on_failure="last", criterion=never).x_adv
    return (
        100 * perturbation_stability(model, x, moved),
        local_lipschitz(model, x, eps=trial.eps).mean,
        local_lipschitz(model, x, eps=trial.eps, loss="ce", y=trial.test.y).mean,
    )


# --- cost of the Hessian ---


def print_cost() -> None:
    """Print ratios of times, from runs that alternate."""
    print_head("network", "products", "ratio: median and range", "ratio of the fastest")
    for name, network, shape in (
        ("mnist_two_conv", mnist_two_conv, (1, 28, 28)),
        ("digits_cnn", digits_cnn, (1, 8, 8)),
    ):
        model = seeded(network, 0).eval().requires_grad_(False)
        x = torch.rand(128, *shape, generator=torch.Generator().manual_seed(0))
        y = torch.arange(128) % 10
        bare = []
        ours = []
        for _ in range(12):
            start = time.process_time()
            bare_products(model, x, y, 30)
            middle = time.process_time()
            hessian_eigenvalue(model, x, y, num_iterations=30)
            bare.append(middle - start)
            ours.append(time.process_time() - middle)
        # the first run warms up
        ratios = [one / other for one, other in zip(ours[1:], bare[1:], strict=True)]
        print_row(name, 30, spread(ratios, 2), f"{min(ours) / min(bare):.2f}")


def bare_products(model: nn.Module, x: Tensor, y: Tensor, count: int) -> None:
    """Run the products of a Hessian with fixed vectors."""
    leaf = x.clone().requires_grad_(True)
    loss = functional.cross_entropy(model(leaf), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    for _ in range(count):
        torch.autograd.grad(gradient, leaf, x, retain_graph=True)


COMMANDS: dict[str, Callable[[Trial], None]] = {
    "increment": print_increments,
    "curvature": print_curvature,
    "width": print_widths,
}
ALONE: dict[str, Callable[[], None]] = {"cost": print_cost}

if __name__ == "__main__":
    main()
