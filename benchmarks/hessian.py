"""Time of ``hessian_eigenvalue`` over that of its bare Hessian-vector products.

Run with ``python -m art_ext.benchmarks.hessian``. Samples and weights are random. Both run in turn
on one thread, and the times are those of the processor.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import print_versions, seeded, spread
from art_ext.core.metrics import hessian_eigenvalue
from art_ext.models import digits_cnn, mnist_two_conv

PRODUCTS = 30
SAMPLES = 128


def main() -> None:
    """Print ratios of times."""
    print_versions()
    print("| network | products | ratio: median and range | ratio of the fastest |")
    print("|---|---:|---|---:|")
    for name, network, shape in (
        ("mnist_two_conv", mnist_two_conv, (1, 28, 28)),
        ("digits_cnn", digits_cnn, (1, 8, 8)),
    ):
        model = seeded(network, 0).eval().requires_grad_(False)
        x = torch.rand(SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
        y = torch.arange(SAMPLES) % 10
        bare = []
        ours = []
        for _ in range(12):
            start = time.process_time()
            bare_products(model, x, y)
            middle = time.process_time()
            hessian_eigenvalue(model, x, y, num_iterations=PRODUCTS)
            bare.append(middle - start)
            ours.append(time.process_time() - middle)
        # the first run warms up
        ratios = [one / other for one, other in zip(ours[1:], bare[1:], strict=True)]
        fastest = min(ours) / min(bare)
        print(f"| {name} | {PRODUCTS} | {spread(ratios, 2)} | {fastest:.2f} |", flush=True)


def bare_products(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Run the products of a Hessian with fixed vectors."""
    leaf = x.clone().requires_grad_(True)
    loss = functional.cross_entropy(model(leaf), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    for _ in range(PRODUCTS):
        torch.autograd.grad(gradient, leaf, x, retain_graph=True)


if __name__ == "__main__":
    main()
