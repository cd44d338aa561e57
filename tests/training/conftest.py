"""Small networks and data, a counter of rows, and single weight updates for the tests of
training.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.geometry import Box
from art_ext.models import JointEnsemble
from art_ext.training import Natural, Recipe
from art_ext.training.engine import Engine
from art_ext.training.step import Step

CLASSES = 3


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    """Fourteen images (14, 1, 4, 4) in [0, 1], some pixels on its faces: minibatches of 6, 6 and
    2; three classes.
    """
    generator = torch.Generator().manual_seed(11)
    x = torch.rand(14, 1, 4, 4, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    return x, torch.arange(14) % CLASSES


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """One minibatch of six images (6, 1, 4, 4), away from the faces of the box, on a grid of 64ths;
    three classes.

    Radii of a power of two keep sums with such pixels exact.
    """
    generator = torch.Generator().manual_seed(3)
    return torch.randint(20, 45, (6, 1, 4, 4), generator=generator) / 64, torch.arange(6) % CLASSES


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    """Sixty separable images (60, 1, 4, 4): pixel y is bright."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(60) % 3
    x = 0.4 * torch.rand(60, 1, 4, 4, generator=generator)
    x[torch.arange(60), 0, 0, y] += 0.5
    return x, y


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """Networks from (r, 1, 4, 4) to three logits: ``"linear"``, ``"smooth"`` (tanh) or
    ``"norm"`` (with BatchNorm).
    """

    def build(kind: str = "smooth", seed: int = 0, scale: float = 1.0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            body: dict[str, Callable[[], list[nn.Module]]] = {
                "linear": lambda: [nn.Linear(16, CLASSES)],
                "smooth": lambda: [nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, CLASSES)],
                "norm": lambda: [
                    nn.Linear(16, 8),
                    nn.BatchNorm1d(8),
                    nn.Tanh(),
                    nn.Linear(8, CLASSES),
                ],
            }
            model = nn.Sequential(nn.Flatten(), *body[kind]())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        return model

    return build


class Rows:
    """Counts the rows that go through a network, or through each member of an ensemble, forward
    and backward, by hooks of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        self.forwards = self.backwards = 0
        for network in model.members if isinstance(model, JointEnsemble) else [model]:
            network.register_forward_hook(self._forward)
            network.register_full_backward_pre_hook(self._backward)

    def _forward(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.forwards += len(output)

    def _backward(self, module: nn.Module, gradients: Any) -> None:
        self.backwards += len(gradients[0])


@pytest.fixture
def count_rows() -> type[Rows]:
    """Watches a network: ``.forwards`` and ``.backwards`` are the rows that went through it
    since.
    """
    return Rows


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """One weight update as a recipe sees it, without the loop around it."""

    def build(
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        eps: float,
        seed: int = 0,
        recipe: Recipe | None = None,
        **state: Any,
    ) -> Step:
        alone: Any = SimpleNamespace(mixed_precision="no", num_processes=1, autocast=nullcontext)
        box = Box.of((0.0, 1.0), x.shape[1:], x.device)
        method = Natural() if recipe is None else recipe
        parts: Any = {"head": method.head, "networks": method.networks}
        engine = Engine(alone, model, model, box, x.device, False, **parts)
        known = {"update": 0, "replay": 0, "smoothing": 0.0, "memory": {}, "carried": {}, **state}
        return Step(engine, x, y, torch.arange(len(x)), rows=len(x), eps=eps, seed=seed, **known)

    return build


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The random numbers that recipes draw from now on, in order; ``uniform`` ones in [0, 1) and
    points of balls.
    """
    drawn: list[Tensor] = []
    for name in ("uniform", "normal_like_x", "uniform_start"):
        original = getattr(Step, name)

        def watch(step: Step, *arguments: Any, original: Any = original) -> Tensor:
            drawn.append(original(step, *arguments))
            return drawn[-1]

        monkeypatch.setattr(Step, name, watch)
    return drawn
