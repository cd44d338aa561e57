"""Checks of the bag of tricks: cross-sections of the decision boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import seeded
from art_ext.benchmarks.papers.checks.common import OfSeeds, over_seeds
from art_ext.benchmarks.papers.networks import digits_bn
from art_ext.core.attacks import pgd
from art_ext.data import load_data
from art_ext.training import Pgd, train


def cross_sections(
    seeds: Sequence[int],
    n: int,
    eps: float,
    decays: Mapping[str, float],
    recipe: Mapping[str, Any],
    training: Mapping[str, Any],
    furthest: float,
    points: int,
    lines: int,
) -> OfSeeds:
    """Measure where lines along the perturbation of PGD-10 leave the class of an image.

    A line is x + a v + b r, with the perturbation v and a random sign vector r of length eps.
    ``distance`` is the mean a at which the class changes for b = 0, ``bend`` the mean spread of
    this a over b in [-1, 1].

    Args:
        seeds: of the trainings.
        n: number of test images.
        eps: radius of crafting and of the perturbations.
        decays: weight decay of each row.
        recipe: arguments of PGD training.
        training: arguments of ``train``.
        furthest: largest a.
        points: number of values of a.
        lines: number of values of b.
    """
    data = load_data("digits", split="train").in_memory()
    test = load_data("digits").first(n)
    generator = torch.Generator().manual_seed(0)
    across = eps * (2.0 * torch.randint(0, 2, test.x.shape, generator=generator) - 1)

    def measure(seed: int) -> dict[str, dict[str, float]]:
        found = {}
        for row, decay in decays.items():
            model = train(
                seeded(digits_bn, seed),
                (data.x, data.y),
                Pgd(eps=eps, **recipe),
                seed=seed,
                weight_decay=decay,
                **training,
            ).model.eval()
            attacked = pgd(
                model,
                test.x,
                test.y,
                eps=eps,
                num_steps=10,
                step_size=eps / 4,
                seed=0,
                on_failure="last",
            )
            normal = attacked.x_adv - test.x
            ends = torch.stack(
                [
                    _end(model, test.x + b * across, test.y, normal, furthest, points)
                    for b in torch.linspace(-1, 1, lines)
                ]
            )
            found[row] = {
                "distance": float(ends[lines // 2].mean()),
                "bend": float(ends.std(dim=0).mean()),
            }
        return found

    return over_seeds(seeds, measure)


def _end(
    model: nn.Module, x: Tensor, y: Tensor, normal: Tensor, furthest: float, points: int
) -> Tensor:
    """(N,) smallest multiple of the normals at which the class is not y, at most the furthest."""
    found = torch.full((len(x),), furthest)
    with torch.no_grad():
        for a in torch.linspace(furthest, 0, points):
            wrong = model(x + a * normal).argmax(1) != y
            found = torch.where(wrong, a, found)
    return found
