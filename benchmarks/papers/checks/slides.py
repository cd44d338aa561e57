"""Checks of the slides: Max-Mahalanobis training, ADP ensembles, and reverse cross-entropy."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import right, seeded, train_network
from art_ext.benchmarks.papers.checks.common import OfSeeds, over_seeds
from art_ext.core.attacks import auto_pgd, cw, fgsm, i_fgsm, pgd
from art_ext.core.detection import Detector, KernelDensity, make_detector
from art_ext.core.metrics import (
    detection_metrics,
    ensemble_diversity,
    robust_accuracy,
    transfer_matrix,
)
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import digits_cnn, members
from art_ext.training import Adp, Recipe, make_recipe

Settings = Mapping[str, Mapping[str, Any]]
BATCH = 64
ATTACK_SEED = 0


def _percent(marked: Tensor) -> float:
    return 100 * float(marked.double().mean())


def _trained(recipe: Recipe, epochs: int, seed: int) -> nn.Module:
    """Return a network of digits with its head, trained by Adam at 1e-3."""
    model = seeded(digits_cnn, seed)
    data = load_data("digits", split="train")
    return train_network(model, data, recipe, epochs=epochs, seed=seed, batch_size=BATCH)


# --- Max-Mahalanobis training ---


def max_mahalanobis(
    seeds: Sequence[int], n: int, epochs: int, radii: Sequence[float], recipes: Settings
) -> OfSeeds:
    """Measure clean accuracy, and accuracy under PGD on the cross-entropy and on the scores.

    Columns of PGD name steps and radius, such as ``un10`` of the first radius and ``un10_2`` of the
    second. Targeted attacks count as the authors do: any wrong class is a success. ``margin`` is
    PGD-50 on the margin, and ``nearest`` descends the distance to the 3 nearest wrong centres, both
    at the first radius.

    Args:
        seeds: of the trainings.
        n: number of test images.
        epochs: of each training.
        radii: of the attacks. Crafting has the first.
        recipes: name and arguments of the recipe of each row.
    """
    test = load_data("digits").first(n)

    def measure(seed: int) -> dict[str, dict[str, float]]:
        return {
            row: _under_pgd(_trained(_recipe(one), epochs, seed), test.x, test.y, radii)
            for row, one in recipes.items()
        }

    return over_seeds(seeds, measure)


def _recipe(settings: Mapping[str, Any]) -> Recipe:
    return make_recipe(
        settings["recipe"], **{key: one for key, one in settings.items() if key != "recipe"}
    )


def _under_pgd(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float]) -> dict[str, float]:
    generator = torch.Generator().manual_seed(ATTACK_SEED)
    targets = (y + torch.randint(1, 10, y.shape, generator=generator)) % 10
    found = {"clean": _percent(right(x, y, model))}
    for place, eps in enumerate(radii):
        suffix = f"_{place + 1}" if place else ""
        shared: dict[str, Any] = {"eps": eps, "seed": ATTACK_SEED}
        for steps in (10, 50):
            towards = pgd(model, x, targets, targeted=True, num_steps=steps, **shared)
            found[f"tar{steps}{suffix}"] = _percent(right(towards.x_adv, y, model))
            away = pgd(model, x, y, num_steps=steps, stop_on_success=True, **shared)
            found[f"un{steps}{suffix}"] = 100 * robust_accuracy(away)
    shared = {"eps": radii[0], "seed": ATTACK_SEED, "num_steps": 50}
    on_margin = pgd(model, x, y, loss="margin", stop_on_success=True, **shared)
    to_nearest = auto_pgd(model, x, y, num_targets=3, loss="score", **shared)
    found["margin"] = 100 * robust_accuracy(on_margin)
    found["nearest"] = 100 * robust_accuracy(to_nearest)
    return found


# --- ADP ensembles ---


def diverse_ensembles(
    seeds: Sequence[int],
    n: int,
    epochs: int,
    networks: int,
    radii: Sequence[float],
    num_steps: int,
    recipes: Settings,
) -> OfSeeds:
    """Measure transfer among the members of ensembles, and robust accuracy.

    ``transfer`` and ``own`` are the success of PGD on one member, on the others and on itself, at
    the first radius and on images that all members classify right. ``kept`` and ``kept_2`` are what
    the ensemble keeps under PGD on the margin of its mean probability and of its mean logits.

    Args:
        seeds: of the trainings.
        n: number of test images.
        epochs: of each training.
        networks: members of an ensemble.
        radii: of the attacks.
        num_steps: of PGD.
        recipes: arguments of ADP of each row.
    """
    test = load_data("digits").first(n)
    data = load_data("digits", split="train")

    def measure(seed: int) -> dict[str, dict[str, float]]:
        found = {}
        for row, arguments in recipes.items():
            recipe = Adp(members=networks, **arguments)
            ensemble = recipe.build(functools.partial(seeded, digits_cnn), seed)
            model = train_network(
                ensemble, data, recipe, epochs=epochs, seed=seed, batch_size=BATCH
            )
            found[row] = _of_ensemble(model, test.x, test.y, radii, num_steps)
        return found

    return over_seeds(seeds, measure)


def _of_ensemble(
    model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], num_steps: int
) -> dict[str, float]:
    shared: dict[str, Any] = {"num_steps": num_steps, "seed": ATTACK_SEED}
    networks = members(model)
    matrix = transfer_matrix(networks, x, y, eps=radii[0], **shared)
    with torch.no_grad():
        outputs = torch.stack([network(x) for network in networks], dim=1)
    fine = right(x, y, model)
    found = {
        "transfer": 100 * matrix.off_diagonal,
        "own": 100 * matrix.diagonal,
        "clean": _percent(fine),
        "members": _percent(outputs.argmax(2) == y[:, None]),
        "determinant": float(ensemble_diversity(outputs, y).determinant.mean()),
    }
    for place, eps in enumerate(radii):
        kept = fine
        for loss in ("margin", "mean-logits"):
            kept = kept & ~pgd(model, x, y, eps=eps, loss=loss, **shared).success
        found[f"kept_{place + 1}" if place else "kept"] = _percent(kept)
    return found


# --- reverse cross-entropy ---


def reverse_cross_entropy(
    seeds: Sequence[int],
    n: int,
    epochs: int,
    eps: float,
    bim: Mapping[str, Any],
    search: Mapping[str, Any],
    long_search: Mapping[str, Any],
    bandwidths: Mapping[str, float],
) -> OfSeeds:
    """Measure the AUROC of detectors on pairs of a clean image and an adversarial made from it.

    Pairs are correctly classified images whose adversarial is misclassified.

    Args:
        seeds: of the trainings.
        n: number of images to attack.
        epochs: of each training.
        eps: radius of FGSM, BIM and ILCM.
        bim: arguments of BIM and ILCM.
        search: arguments of C&W.
        long_search: arguments of C&W with high confidence.
        bandwidths: sigma squared of the kernel density by recipe, ``natural`` or ``rce``.
    """
    data = load_data("digits")
    learned = load_data("digits", split="train")

    def attacks(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[str, AttackResult]]:
        with torch.no_grad():
            least = model(x).argmin(dim=1)
        yield "fgsm", fgsm(model, x, y, eps=eps)
        yield "bim", i_fgsm(model, x, y, eps=eps, **bim)
        yield "ilcm", i_fgsm(model, x, least, targeted=True, eps=eps, **bim)
        yield "cw", cw(model, x, y, **search)
        yield "cw_hc", cw(model, x, y, **long_search)

    def measure(seed: int) -> dict[str, dict[str, float]]:
        found = {}
        for recipe, sigma2 in bandwidths.items():
            model = _trained(make_recipe(recipe), epochs, seed)
            detectors = [
                *map(make_detector, ("confidence", "non_me")),
                KernelDensity(sigma2=sigma2),
            ]
            for detector in detectors:
                detector.fit(model, learned.x, learned.y)
            fine = right(data.x, data.y, model)
            x, y = data.x[fine][:n], data.y[fine][:n]
            for attack, result in attacks(model, x, y):
                found[f"{attack}_{recipe}"] = _separation(model, x, y, result, detectors)
        return found

    return over_seeds(seeds, measure)


def _separation(
    model: nn.Module, x: Tensor, y: Tensor, result: AttackResult, detectors: Sequence[Detector]
) -> dict[str, float]:
    """Return the number of pairs, and the AUROC of each detector in %. NaN without a pair."""
    wrong = ~right(result.x_adv, y, model)
    found = {"pairs": float(wrong.sum())}
    for detector in detectors:
        found[detector.name] = float("nan")
        if bool(wrong.any()):
            clean, adversarial = (detector.score(rows[wrong]) for rows in (x, result.x_adv))
            found[detector.name] = 100 * detection_metrics(clean, adversarial).auroc
    return found
