"""Time and memory of Lipschitz estimates and of the in-distribution attack, beside bare passes.

Run with ``python -m art_ext.benchmarks.limits``. Every number is a ratio of times measured in one
run, alternating the candidates. Medians are printed. The generator has random weights, or those of
``--generator``, which cost the same.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import print_versions, seconds, spread
from art_ext.core.attacks import in_distribution
from art_ext.core.limits import draw_latents, generator_lipschitz
from art_ext.core.networks import frozen_eval
from art_ext.core.result import AttackResult
from art_ext.models import ConditionalGenerator, load_generator, mnist_small_cnn

CLASSES = 10
LATENTS = 20
NEIGHBOURS = 500
JACOBIANS = 200
ITERATIONS = 20
SAMPLES = 64
SIZE = 128  # of the images whose memory is measured
MEMORY_MB = 200
ALL_ROWS = 2000  # whose memory is measured


class GeneratorMeter(nn.Module):
    """Wrapper of a generator that records the rows of each call, and its use of gradients."""

    latent_dim: int
    num_classes: int

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator = generator
        self.latent_dim = generator.latent_dim
        self.num_classes = generator.num_classes
        self.calls: list[tuple[int, bool]] = []

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return images (r, *S) of latents (r, d) and classes (r,)."""
        self.calls.append((len(z), z.requires_grad))
        images: Tensor = self.generator(z, y)
        return images


def drawn(generator: Any, count: int) -> tuple[Tensor, Tensor]:
    """Return latents (n, d) and classes (n,)."""
    index = torch.arange(count)
    y = index % CLASSES
    return draw_latents(generator.latent_dim, y, index, seed=1), y


def bare_generator(generator: nn.Module, calls: Sequence[tuple[int, bool]]) -> None:
    """Run the forwards and backwards that a meter recorded, and nothing else."""
    z, y = drawn(generator, max(size for size, _ in calls))
    with frozen_eval(generator):
        for size, differentiate in calls:
            leaf = z[:size].clone().requires_grad_(differentiate)
            with torch.set_grad_enabled(differentiate):
                images = generator(leaf, y[:size])
                if differentiate:
                    torch.autograd.grad(images, leaf, torch.ones_like(images))


def bare_attack(generator: nn.Module, network: nn.Module, result: AttackResult) -> None:
    """Run the forwards and backwards of an attack in which all rows stay active.

    The numbers are those of its first sample.
    """
    count = len(result.queries)
    steps = int(result.gradients[0]) - 1
    pulls = int(result.generator_gradients[0])  # type: ignore[index]  # of this attack they exist
    forwards = int(result.generator_rows[0]) - pulls  # type: ignore[index]
    z, _ = drawn(generator, count)
    y = torch.zeros(count, dtype=torch.int64)
    with frozen_eval(generator), frozen_eval(network):
        with torch.no_grad():
            x = [generator(z, y) for _ in range(forwards + 1)][-1]
        _input_gradient(network, x, y)
        for step in range(pulls):
            leaf = z.clone().requires_grad_()
            images = generator(leaf, y)
            slope = torch.ones_like(images)
            if step < steps:
                slope = _input_gradient(network, images.detach(), y)
            torch.autograd.grad(images, leaf, slope)


def _input_gradient(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    loss = functional.cross_entropy(network(leaf), y, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


def bare_products(generator: nn.Module, count: int, iterations: int) -> None:
    """Multiply with the Jacobian and its transpose, for count latents at once."""
    z, y = drawn(generator, count)
    vector = torch.ones_like(z)
    with frozen_eval(generator):
        pull = torch.func.vjp(lambda one: generator(one, y), z)[1]
        for _ in range(iterations):
            change = torch.func.jvp(lambda one: generator(one, y), (z,), (vector,))[1]
            pull(change)


def ratios(ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> str:
    """Return the median and the range of the ratios of two times, taken in turn."""
    ours()
    bare()
    return spread([seconds(ours) / seconds(bare) for _ in range(repeats)], digits=2)


def print_estimators(generator: nn.Module, repeats: int) -> None:
    """Print the time of both estimators over that of their bare passes."""
    meter = GeneratorMeter(generator)
    sampled = partial(
        generator_lipschitz, classes=[0], num_latents=LATENTS, num_neighbours=NEIGHBOURS
    )
    sampled(meter)
    passes = partial(bare_generator, generator, list(meter.calls))
    print(
        f"sampled, {LATENTS} latents, {NEIGHBOURS} neighbours: time / bare forwards"
        f" {ratios(partial(sampled, generator), passes, repeats)}"
    )
    spectral = partial(
        generator_lipschitz,
        classes=[0],
        estimator="spectral",
        num_latents=JACOBIANS,
        num_iterations=ITERATIONS,
    )
    products = partial(bare_products, generator, JACOBIANS, ITERATIONS)
    print(
        f"spectral, {JACOBIANS} latents, {ITERATIONS} iterations: time / bare jvp and vjp"
        f" {ratios(partial(spectral, generator), products, repeats)}"
    )


def network_of_class() -> nn.Module:
    """Return a network with random weights that assigns all images to class 0.

    No image of that class is misclassified, before the attack or after it, so that all rows stay
    active.
    """
    network = mnist_small_cnn().eval()
    last = [one for one in network.modules() if isinstance(one, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[0] += 100
    return network


def print_attack(generator: Any, repeats: int) -> None:
    """Print the time of the attack over that of its bare passes of generator and classifier."""
    network = network_of_class()
    z, y = drawn(generator, SAMPLES)
    y = torch.zeros_like(y)
    with frozen_eval(generator), torch.no_grad():
        x = generator(z, y)
    for initialisation in ("given", "optimise"):
        attack = partial(
            in_distribution,
            network,
            generator,
            x,
            y,
            latents=z if initialisation == "given" else None,
            initialisation=initialisation,
            init_steps=50,
            num_steps=50,
            search_steps=2,
            abort_early=False,
            seed=0,
        )
        passes = partial(bare_attack, generator, network, attack())
        print(
            f"in_distribution, {initialisation}, {SAMPLES} samples: time / bare passes"
            f" {ratios(attack, passes, repeats)}"
        )


def large_generator() -> ConditionalGenerator:
    """Return a generator of images with 3 x 128 x 128 numbers."""
    torch.manual_seed(0)
    return ConditionalGenerator(SIZE, latent_dim=64, channels=3)


def memory(rows: int) -> None:
    """Print the growth of the peak memory in MiB, and the rows of the largest block.

    Args:
        rows: of each bare forward pass, of 2,000 rows in all. 0 measures an estimate.
    """
    torch.set_num_threads(1)
    meter = GeneratorMeter(large_generator())
    bare_generator(meter, [(2, False)])
    meter.calls.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if rows:
        bare_generator(meter, [(rows, False)] * (ALL_ROWS // rows))
    else:
        generator_lipschitz(
            meter, classes=[0], num_latents=1, num_neighbours=ALL_ROWS, memory_mb=MEMORY_MB
        )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) // 1024, max(size for size, _ in meter.calls))


def print_memory(repeats: int) -> None:
    """Print the memory of estimates, and that of bare passes of the generator in equal blocks."""
    ours = [_measured_memory(0) for _ in range(repeats)]
    block = ours[0][1]
    bare = [_measured_memory(block)[0] for _ in range(repeats)]
    print(
        f"sampled, images of 3 x {SIZE} x {SIZE}, {ALL_ROWS:,} neighbours, memory_mb={MEMORY_MB}:"
        f" {spread([mebibytes for mebibytes, _ in ours], digits=0)} MiB, bare passes of {block}"
        f" rows: {spread(bare, digits=0)} MiB"
    )


def _measured_memory(rows: int) -> tuple[int, int]:
    """Return what ``memory`` prints, from a fresh process.

    Large tensors get pages of their own there, which go back when a tensor is freed. By default the
    C library keeps some of them, so that the peak is between 170 and 540 MiB from run to run.
    """
    code = f"from art_ext.benchmarks.limits import memory; memory({rows})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    mebibytes, block = done.stdout.split()
    return int(mebibytes), int(block)


def main() -> None:
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--generator", help="a run of art-ext generator train on MNIST")
    arguments = parser.parse_args()
    print_versions()
    # first, because a process inherits the peak memory of the one that starts it
    print_memory(arguments.repeats)
    torch.manual_seed(0)
    generator: Any = ConditionalGenerator(28, latent_dim=64)
    if arguments.generator:
        generator = load_generator(arguments.generator)
    print_estimators(generator, arguments.repeats)
    print_attack(generator, arguments.repeats)


if __name__ == "__main__":
    main()
