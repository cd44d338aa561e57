"""First part of a card: every attack and recipe gives on the device what it gives on the CPU."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import seeded
from art_ext.benchmarks.gpu.card import Figures, Sheet
from art_ext.benchmarks.gpu.subject import Subject
from art_ext.core.attacks import pgd, registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.training import make_recipe, train
from art_ext.training.recipes.registry import RECIPES
from art_ext.training.runs.defaults import takes_radius

EPS = 0.045  # inside the table of weights of GradAlign
ROWS = 16
# of the keywords of an attack, those that make it short
SHORT = {"num_steps": 6, "search_steps": 2, "max_queries": 110, "coordinates": 16, "seed": 0}


class Sequence(nn.Module):
    """Network with a recurrent layer, for rows (R, T, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(8, 16, batch_first=True)
        self.last = nn.Linear(16, 3)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (R, 3)."""
        states, _ = self.recurrent(rows)
        logits: Tensor = self.last(states[:, -1])
        return logits


def small_network(seed: int = 0) -> nn.Module:
    """Return an untrained convolutional network for rows (R, 1, 8, 8), on the CPU."""
    return seeded(_layers, seed).eval()


def _layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 64, 10),
    )


def check_all(subject: Subject, sheet: Sheet) -> None:
    """Add a row for each attack, each recipe, and what people run into on such devices."""
    model = small_network()
    x = torch.rand(ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
    for spec in built_in():
        work = functools.partial(attack_beside_cpu, spec, model, x, y, subject.device)
        sheet.measure(spec.name, work)
    for name in RECIPES:
        work = functools.partial(updates_beside_cpu, name, x, y, subject.device)
        sheet.measure(f"recipe {name}", work)
    odd = {
        "recurrent layer": recurrent,
        "half-precision network": half_precision,
        "bf16 autocast around an attack": within_autocast,
        "second device": second_device,
    }
    for name, check in odd.items():
        sheet.measure(name, functools.partial(check, model, x, y, subject.device))


def built_in() -> list[AttackSpec]:
    """Return the attacks of this package that need a model and samples only."""
    return [spec for spec in registry.specs() if registry.is_built_in(spec) and not spec.resources]


def short_arguments(spec: AttackSpec, **values: Any) -> dict[str, Any]:
    """Return those of the values that are keywords of an attack."""
    return {name: value for name, value in values.items() if name in spec.parameters}


def attack_beside_cpu(
    spec: AttackSpec, model: nn.Module, x: Tensor, y: Tensor, device: torch.device
) -> Figures:
    """Compare the outcomes of an attack on both devices, and with the inputs on the other one."""
    arguments = short_arguments(spec, **SHORT, eps=EPS)
    there = copy.deepcopy(model).to(device)
    here = spec.function(model, x, y, **arguments)
    moved = spec.function(there, x.to(device), y.to(device), **arguments)
    mixed = spec.function(there, x, y, **arguments)
    return {
        "verdicts_equal": share_equal(here.success, moved.success),
        "queries_equal": share_equal(here.queries, moved.queries),
        "on_device": moved.x_adv.device.type == device.type,
        "inputs_on_the_CPU": torch.equal(mixed.success, moved.success.cpu())
        and mixed.x_adv.device.type == "cpu",
    }


def share_equal(one: Tensor, other: Tensor) -> float:
    """Return the share of equal values of two tensors."""
    return float((one.cpu() == other.cpu()).double().mean())


def updates_beside_cpu(name: str, x: Tensor, y: Tensor, device: torch.device) -> Figures:
    """Compare the losses of two weight updates of a recipe on both devices."""
    recipe = make_recipe(name, **({"eps": EPS} if takes_radius(name) else {}))
    losses = []
    for place in (torch.device("cpu"), device):
        model = recipe.build(small_network, 0).to(place)
        result = train(
            model,
            (x.to(place), y.to(place)),
            recipe,
            updates=2 * recipe.replays,
            batch_size=len(x),
            learning_rate=1e-3,
            seed=0,
        )
        losses.append(result.losses)
    on_device = next(model.parameters()).device.type == device.type
    return {
        "loss": float(losses[1][-1]),
        "difference": float((losses[0] - losses[1]).abs().max()),
        "on_device": on_device,
    }


def recurrent(model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Figures:
    """Attack a network with a recurrent layer, which cuDNN differentiates in train mode only."""
    rows = torch.rand(16, 10, 8, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.zeros(16, dtype=torch.int64, device=device)
    network = Sequence().to(device).eval()
    result = pgd(network, rows, labels, eps=0.1, seed=0)
    return {"successes": int(result.success.sum()), "eval_mode_kept": not network.training}


def half_precision(model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Figures:
    """Attack a network whose parameters are float16."""
    network = copy.deepcopy(model).to(device).half()
    result = pgd(network, x.to(device), y.to(device), eps=EPS, seed=0)
    return {"successes": int(result.success.sum())}


def within_autocast(model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Figures:
    """Attack inside a caller's block of autocast."""
    network = copy.deepcopy(model).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        result = pgd(network, x.to(device), y.to(device), eps=EPS, seed=0)
    return {"successes": int(result.success.sum())}


def second_device(model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Figures:
    """Attack a network on the second device of this machine, if there is one."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return {"skipped": "this machine has no second device"}
    network = copy.deepcopy(model).to("cuda:1")
    result = pgd(network, x, y, eps=EPS, seed=0)
    return {"successes": int(result.success.sum())}
