"""Table 8 and Figure 7 of the EAD thesis: distilled networks under C&W and EAD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import right, seeded, train_network
from art_ext.benchmarks.papers.checks.common import NORMS, Cells, attacked, cells_of, cells_of_cases
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import mnist_two_conv
from art_ext.training import Distillation, Natural, Recipe

Settings = Mapping[str, Mapping[str, Any]]


def _trained(recipe: Recipe, images: int, epochs: int) -> nn.Module:
    """Return a network that was trained on the first images of MNIST, from weights of seed 0."""
    data = load_data("mnist", split="train").first(images).in_memory()
    return train_network(seeded(mnist_two_conv, 0), data, recipe, epochs=epochs, seed=0)


def _attackable(n: int, *models: nn.Module) -> tuple[Tensor, Tensor, float]:
    """Return the first test images that all models classify right, and that share in %."""
    data = load_data("mnist").first(1000).in_memory()
    fine = right(data.x, data.y, *models)
    return data.x[fine][:n], data.y[fine][:n], 100 * float(fine.double().mean())


def transfers(
    images: int,
    epochs: int,
    temperature: float,
    n: int,
    confidences: Sequence[float],
    attacks: Settings,
    common: Settings,
) -> Cells:
    """Measure examples of a natural network on a distilled one, in the three cases.

    Args:
        images, epochs: of each training.
        temperature: of the distillation.
        n: test images that both classify right.
        confidences: kappa of each attack.
        attacks: for the first part of the names of rows, ``attack`` and its arguments.
        common: arguments by the name of the attack.
    """
    source = _trained(Natural(), images, epochs)
    student = _trained(Distillation(temperature=temperature), images, epochs)
    x, y, _ = _attackable(n, source, student)
    settings: dict[str, dict[str, Any]] = {
        f"i_fgm_{norm}": {"attack": "i_fgm", "norm": norm} for norm in NORMS
    }
    for name, setting in attacks.items():
        settings |= {f"{name}_{kappa:g}": {**setting, "confidence": kappa} for kappa in confidences}
    found: Cells = {}
    for name, setting in settings.items():
        result = attacked(source, x, y, setting, common, targets="all")
        found[name] = cells_of_cases(_on(student, result), x)
    return found


def _on(target: nn.Module, result: AttackResult) -> AttackResult:
    """Return the examples of all classes, of which those succeed that reach theirs on a model."""
    trace = result.trace or {}
    if result.samples is None:
        raise ValueError("the attack must keep the examples of all classes: targets='all'")
    reached = torch.stack(
        [
            right(examples, classes, target)
            for examples, classes in zip(result.samples, trace["target"], strict=True)
        ]
    )
    return replace(result, trace={**trace, "success": reached & trace["success"]})


def temperatures(
    images: int,
    epochs: int,
    n: int,
    temperatures: Sequence[float],
    attacks: Settings,
    common: Settings,
) -> Cells:
    """Measure attacks on distilled networks of several temperatures, in the average case.

    Args:
        images, epochs: of each training.
        n: test images that a network classifies right.
        temperatures: of the distillations.
        attacks: for the first part of the names of columns, ``attack`` and its arguments.
        common: arguments by the name of the attack.
    """
    found: Cells = {}
    for temperature in temperatures:
        model = _trained(Distillation(temperature=temperature), images, epochs)
        x, y, clean = _attackable(n, model)
        found[f"t_{temperature:g}"] = {"clean": clean}
        for name, setting in attacks.items():
            result = attacked(model, x, y, setting, common, targets="average")
            found[f"t_{temperature:g}"] |= cells_of(
                result.success, result.distortions(), prefix=f"{name}_"
            )
    return found
