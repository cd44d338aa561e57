"""Contract of a training recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.geometry import BALL_TOLERANCE, distances
from art_ext.models.joint import JointEnsemble
from art_ext.testing.checks import (
    Check,
    World,
    all_passed,
    check_unchanged,
    expect,
    outcomes,
    seed_streams,
)
from art_ext.testing.toy import SmallNet, digits
from art_ext.training import EpochEnd, Recipe, TrainingResult, make_recipe, train

SAMPLES = 96
BATCH = 32
EPOCHS = 2
SEED = 3


class _Killed(Exception):
    """Stands for a training that is killed."""


def check_recipe(
    recipe: Recipe | type[Recipe] | str,
    *,
    network: Callable[[], nn.Module] = SmallNet,
    **arguments: Any,
) -> list[Check]:
    """Check the contract of a recipe on a toy problem: two epochs on 96 digits.

    Args:
        recipe: a recipe, its class, or its name as ``make_recipe`` takes it.
        network: makes the network, for (R, 1, 8, 8) inputs and 10 classes.
        **arguments: of the recipe, for a class or a name.

    Returns:
        The checks, all of which passed.

    Raises:
        AssertionError: with a line for each check that failed.
        ValueError: for arguments that do not fit.
    """
    if isinstance(recipe, str):
        recipe = make_recipe(recipe, **arguments)
    elif isinstance(recipe, type):
        recipe = recipe(**arguments)
    return all_passed(recipe.name, recipe_checks(recipe, network))


def recipe_checks(recipe: Recipe, network: Callable[[], nn.Module] = SmallNet) -> Iterator[Check]:
    """Yield the outcome of each check of a recipe."""
    subject = _Subject(recipe, network)
    return outcomes(CHECKS, subject)


class _Rows:
    """Watches the rows that go through a network, by hooks.

    Attributes:
        forwards, backwards: number of rows.
        outside: how far a row has left the box [0, 1].
        distance: largest distance of a row to its nearest training sample.
    """

    def __init__(self, model: nn.Module, x: Tensor, norm: str) -> None:
        self.forwards = 0
        self.backwards = 0
        self.outside = 0.0
        self.distance = 0.0
        self._x = x
        self._norm = norm
        # each member of an ensemble counts its rows
        for network in model.members if isinstance(model, JointEnsemble) else [model]:
            network.register_forward_pre_hook(self._enter)
            network.register_forward_hook(self._forward)
            network.register_full_backward_pre_hook(self._backward)

    def _enter(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].detach()
        self.outside = max(self.outside, float(torch.maximum(-rows, rows - 1).max()))
        lengths = [distances(rows, one.expand_as(rows), self._norm) for one in self._x]
        self.distance = max(self.distance, float(torch.stack(lengths).amin(dim=0).max()))

    def _forward(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.forwards += len(inputs[0])  # of whole forwards: those that end early have no output

    def _backward(self, module: nn.Module, gradients: tuple[Tensor, ...]) -> None:
        self.backwards += max(len(one) for one in gradients if one is not None)


@dataclass
class _Subject:
    """A recipe on the toy problem."""

    recipe: Recipe
    network: Callable[[], nn.Module]

    def __post_init__(self) -> None:
        self.x, self.y = digits(SAMPLES, "train")
        self.norm = str(getattr(self.recipe, "norm", "linf"))

    def build(self) -> nn.Module:
        """Return the network, with the same weights each time."""

        def make(seed: int) -> nn.Module:
            seed_streams(seed)
            return self.network()

        return self.recipe.build(make, SEED)

    def train(self, model: nn.Module, **options: Any) -> TrainingResult:
        """Train a network for two epochs."""
        usual: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "seed": SEED}
        data = options.pop("data", (self.x.clone(), self.y.clone()))
        return train(model, data, self.recipe, **usual, **options)

    @cached_property
    def whole(self) -> tuple[TrainingResult, _Rows]:
        """The result of an undisturbed run, and its rows."""
        model = self.build()
        rows = _Rows(model, self.x, self.norm)
        result = self.train(model)
        return result, copy(rows)  # the model goes on counting


def _losses(subject: _Subject) -> str:
    losses = subject.whole[0].losses
    expect(bool(losses.isfinite().all()), "a loss is NaN or infinite")
    return f"{len(losses)} updates, from {float(losses[0]):.3g} to {float(losses[-1]):.3g}"


def _scores(subject: _Subject) -> str:
    with torch.no_grad():
        found = subject.whole[0].model.eval()(subject.x)
    wanted = (SAMPLES, 10)
    expect(
        isinstance(found, Tensor) and found.shape == wanted,
        f"the head must make scores of shape {wanted}, got {getattr(found, 'shape', found)}",
    )
    return f"{wanted}"


def _ball(subject: _Subject) -> str:
    radius = subject.recipe.radius
    distance = subject.whole[1].distance
    if not radius:
        return "none: the recipe has no radius"
    expect(
        distance <= radius + BALL_TOLERANCE,
        f"a row is {distance:.4g} from the nearest training image, and eps is {radius:.4g}"
        f" ({subject.norm})",
    )
    return f"{subject.norm} {distance:.4g} <= {radius:.4g}"


def _box(subject: _Subject) -> str:
    outside = subject.whole[1].outside
    boxed = getattr(subject.recipe, "boxed_start", True)
    allowed = 0.0 if boxed else subject.recipe.radius  # of the random start
    expect(outside <= allowed, f"a row leaves [0, 1] by {outside:.3g}")
    return "rows in [0, 1]" if boxed else "rows in [0, 1], but for the random start"


def _rows(subject: _Subject) -> str:
    """Compare the rows that the result states with those of hooks."""
    result, rows = subject.whole
    sent = (rows.forwards, rows.backwards)
    told = (result.forwards, result.backwards)
    expect(
        told == sent,
        f"the result counts {told[0]} + {told[1]} rows, and the network got {sent[0]} +"
        f" {sent[1]}: use step.forward and step.count_backward",
    )
    return f"{sent[0]} forward, {sent[1]} backward"


def _cost(subject: _Subject) -> str:
    """Compare the rows of a sample and update with what the recipe states."""
    result, _ = subject.whole
    updates = len(result.losses) * BATCH  # of single samples, since every minibatch is full
    spent = (result.forwards / updates, result.backwards / updates)
    least = subject.recipe.cost()
    most = subject.recipe.largest_cost()
    expect(
        all(a <= b <= c for a, b, c in zip(least, spent, most, strict=True)),
        f"cost() states {least[0]} + {least[1]} rows a sample and update, and it sends"
        f" {spent[0]:.4g} + {spent[1]:.4g}",
    )
    return f"{spent[0]:.4g} + {spent[1]:.4g} rows a sample and update"


def _input_unchanged(subject: _Subject) -> str:
    x = subject.x.clone()
    y = subject.y.clone()
    subject.train(subject.build(), data=(x, y))
    expect(torch.equal(x, subject.x), "it changes the training images")
    expect(torch.equal(y, subject.y), "it changes the labels")
    return "x and y"


def _determinism(subject: _Subject) -> str:
    model = subject.build()
    seed_streams(SEED + 1)  # a run depends on its own seed only
    _agree(subject, subject.train(model), "in a second run with the same seed")
    return "equal weights in two runs"


def _resumed(subject: _Subject) -> str:
    """Stop in the second epoch, go on, and compare with the undisturbed run."""

    def kill(end: EpochEnd) -> dict[str, float]:
        if stop and end.epoch == EPOCHS:
            raise _Killed
        return {}

    with tempfile.TemporaryDirectory() as folder:
        stop = True
        options: dict[str, Any] = {"checkpoint_dir": folder, "callbacks": [kill]}
        try:
            subject.train(subject.build(), **options)
        except _Killed:
            stop = False
        _agree(subject, subject.train(subject.build(), resume=True, **options), "after a kill")
    return "equal weights, stopped in the second epoch"


def _agree(subject: _Subject, other: TrainingResult, when: str) -> None:
    weights = subject.whole[0].model.state_dict()
    differ = [
        name
        for name, tensor in other.model.state_dict().items()
        if not torch.equal(tensor, weights[name])
    ]
    expect(
        not differ,
        f"{len(differ)} of {len(weights)} tensors differ {when}: keep what passes from update"
        " to update in step.carried, and draw by step.uniform and step.normal_like_x",
    )


def _modes_restored(subject: _Subject) -> str:
    model = subject.build()
    before = _flags(model)
    subject.train(model)
    changes = [name for name, value in _flags(model).items() if before.get(name) != value]
    check_unchanged(changes, "A recipe must leave them")
    return "modes, requires_grad"


def _flags(model: nn.Module) -> dict[str, bool]:
    """Return the modes of a network's parts and which parameters need gradients."""
    modes = {
        f"mode of {name or 'the network'}": module.training
        for name, module in model.named_modules()
    }
    needs = {
        f"requires_grad of {name}": one.requires_grad for name, one in model.named_parameters()
    }
    return {**modes, **needs}


def _streams_restored(subject: _Subject) -> str:
    model = subject.build()
    world = World(model)
    subject.train(model)
    check_unchanged(world.stream_changes(), "Draw by step.uniform and step.normal_like_x")
    return "torch, NumPy, random"


CHECKS: Mapping[str, Callable[[_Subject], str]] = {
    "finite losses": _losses,
    "shape of scores": _scores,
    "ball": _ball,
    "box": _box,
    "rows counted": _rows,
    "cost": _cost,
    "input unchanged": _input_unchanged,
    "determinism by seed": _determinism,
    "resumed after a kill": _resumed,
    "modes restored": _modes_restored,
    "streams restored": _streams_restored,
}
