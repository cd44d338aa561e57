"""Small models, their inputs, and a model that remembers what it was asked: what tests of
several attacks share.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import registry
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.models import ConditionalGenerator
from art_ext.storage.chunks import CHUNKS
from art_ext.storage.evaluation import open_run
from art_ext.training import RECIPES, IdentityHead, Recipe, make_recipe
from art_ext.training.runs.defaults import takes_radius

if TYPE_CHECKING:
    from art_ext.evaluation import Settings

Rows = Callable[[Tensor], Tensor]


def small_net(rows: Tensor) -> Tensor:
    """A smooth network of fixed weights, from (R, 12) to three logits."""
    generator = torch.Generator().manual_seed(7)
    first, second = (
        torch.randn(12, 16, generator=generator),
        torch.randn(16, 3, generator=generator),
    )
    return torch.tanh(rows.flatten(1) @ first - 1) @ second


class Sines(nn.Module):
    """A generator whose images cover the whole box, edges included. It computes row by row.

    Args:
        shape: of an image.
        num_classes: K. The images do not depend on the class.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.latent_dim = math.prod(shape)
        self.num_classes = num_classes
        self.rows = 0
        self.backward_rows = 0

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        self.rows += len(z)
        images = ((z.sin() + 1) / 2).view(-1, *self.shape)
        if images.requires_grad:
            images.register_hook(self._backward)
        return images

    def _backward(self, slope: Tensor) -> None:
        self.backward_rows += len(slope)


def attack_on(name: str, x: Tensor, num_classes: int = 10) -> Callable[..., AttackResult]:
    """The attack of a name as a function of model, samples such as x, and labels."""
    spec = registry.get(name)
    if spec.resources:
        spec = spec.with_resources(generator=Sines(tuple(x.shape[1:]), num_classes))
    return spec.function


class Counting(nn.Module):
    """The independent counter of what the model sees: rows, the most rows of one call, training
    mode.

    ``backward_rows`` are those with a slope, ``differentiated_rows`` all rows of the calls that
    were differentiated.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.rows = 0
        self.backward_rows = 0
        self.differentiated_rows = 0
        self.largest = 0
        self.training_seen = False

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.largest = max(self.largest, len(x))
        self.training_seen |= any(module.training for module in self.network.modules())
        output: Tensor = self.network(x)
        if output.requires_grad:
            output.register_hook(self._backward)
        return output

    def _backward(self, slope: Tensor) -> None:
        self.differentiated_rows += len(slope)
        self.backward_rows += int((slope != 0).any(dim=1).sum())


def compare(left: AttackResult, right: AttackResult) -> None:
    """Assert that two results agree in every bit and every count. Waste may differ."""
    for name in (
        "x_adv",
        "x_nearest",
        "success",
        "already_adversarial",
        "distance",
        "queries",
        "queries_to_success",
        "gradients",
        "samples",
        "latents",
        "start_distance",
        "generator_rows",
        "generator_gradients",
    ):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        same = a is None or bool(((a == b) | (a != a) & (b != b)).all())
        assert same, f"{name} differs in {int((a != b).sum())} places"
    torch.testing.assert_close(left.trace, right.trace, rtol=0, atol=0, equal_nan=True)


def permuted(result: AttackResult, order: Tensor) -> AttackResult:
    """The rows of a result in another order."""
    rows: dict[str, Any] = {
        name: value[order]
        for name, value in vars(result).items()
        if isinstance(value, Tensor) and name != "samples"
    }
    if result.samples is not None:
        rows["samples"] = result.samples[:, order]
    if result.trace is not None:
        rows["trace"] = {name: values[:, order] for name, values in result.trace.items()}
    return replace(result, **rows)


def waves(features: int, seed: int = 0, classes: int = 3, frequency: float = 3.0) -> Rows:
    """A smooth model that computes row by row, so that neighbours in a batch do not change a
    bit.
    """
    generator = torch.Generator().manual_seed(seed)
    weight, bias = (
        torch.randn(classes, features, generator=generator),
        torch.randn(classes, generator=generator),
    )
    return lambda rows: (torch.sin(frequency * rows.flatten(1))[:, None] * weight).sum(-1) + bias


def small_generator(
    size: int = 8, latent_dim: int = 4, seed: int = 0, num_classes: int = 10, width: int = 4
) -> ConditionalGenerator:
    """A generator of seeded weights in eval mode, whose BatchNorms have followed some batches."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        generator = ConditionalGenerator(size, latent_dim, num_classes, width)
        with torch.no_grad():
            for _ in range(20):
                generator(torch.randn(64, latent_dim), torch.randint(num_classes, (64,)))
    return generator.eval()


def linear(weight: Tensor) -> Rows:
    """Two classes: z_1 - z_0 is ``weight @ (x - 0.5)``, row by row."""

    def model(rows: Tensor) -> Tensor:
        score = ((rows.flatten(1) - 0.5) * weight).sum(1)
        return torch.stack([-score / 2, score / 2], dim=1)

    return model


def identity(rows: Tensor) -> Tensor:
    """The features are the logits."""
    return rows.flatten(1)


def samples(
    count: int = 8, features: int = 12, seed: int = 1, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Samples (count, features), uniform in [low, high]."""
    return low + (high - low) * torch.rand(
        count, features, generator=torch.Generator().manual_seed(seed)
    )


def inputs(model: Rows, count: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Samples (count, 12), many of them on the faces of the box, and the classes that the model
    gives them.
    """
    x = samples(count, seed=seed, low=-0.2, high=1.2).clamp(0, 1)
    return x, model(x).argmax(1)


def never(outputs: Tensor, index: Tensor) -> Tensor:
    """A criterion that nothing meets: every sample takes all steps."""
    return torch.zeros(len(outputs), dtype=torch.bool)


def accuracy(model: nn.Module, samples: tuple[Tensor, Tensor]) -> float:
    """Return the fraction of samples that a network classifies correctly. It is set to eval mode."""
    with torch.no_grad():
        return float((model.eval()(samples[0]).argmax(dim=1) == samples[1]).float().mean())


class Recorder:
    """Remembers the rows of every model call."""

    def __init__(self, model: Rows) -> None:
        self.model = model
        self.rows: list[Tensor] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.rows.append(rows.detach().clone())
        return self.model(rows)

    @property
    def sizes(self) -> list[int]:
        """How many rows each call had."""
        return [len(rows) for rows in self.rows]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that were logged, without lines of a lower level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def run(model: nn.Module, data: Dataset, out: Path, *attacks: str, **options: Any) -> Any:
    """Evaluate a model with these attacks at eps 0.1."""
    from art_ext.evaluation import evaluate

    return evaluate(model, data, out, eps=0.1, attacks=attacks, **options)


def examples(page: str) -> dict[str, str]:
    """The files that a page of the documentation shows, by name."""
    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    title = r"^```(?:python|toml) title=\"(\S+)\"\n(.*?)^```"
    mark = r"<!-- example: (\S+) -->\n```(?:python|toml)\n(.*?)```"
    return dict(
        re.findall(title, text, re.DOTALL | re.MULTILINE) + re.findall(mark, text, re.DOTALL)
    )


def settings(**changes: Any) -> Settings:
    """Usual settings of attacks, but for the changes."""
    from art_ext.evaluation import Settings

    return Settings(
        **{
            "eps": (0.1,),
            "max_queries": 100,
            "norm": "linf",
            "stop_on_success": True,
            "outputs": "logits",
            "clip_values": (0.0, 1.0),
            "batch_size": 16,
            "device": None,
            "seed": 0,
            **changes,
        }
    )


def drop_units(folder: Path, number: int, places: Collection[int]) -> None:
    """Make of a complete chunk one whose units at these places have not ended."""
    writer = open_run(folder).write_chunk(number)
    (folder / CHUNKS / f"{number:05d}.parquet").unlink()
    for place, table in sorted(writer.tables.items()):
        if place in places:
            del writer.tables[place]
        else:
            writer.add(place, table, {})
    writer.write()


def small_recipe(name: str, eps: float, **arguments: Any) -> Recipe:
    """A recipe with a radius, if it has one, and with as few members as an ensemble can have.

    A weight that the radius does not give is .2.
    """
    usual = {"eps": eps, "members": 2, "weight": 0.2}
    known = {one.name for one in fields(RECIPES[name])}
    return make_recipe(name, **{**{k: v for k, v in usual.items() if k in known}, **arguments})


# recipes that train one network, one whose outputs are logits, and those that take a radius
SINGLE = [name for name in RECIPES if make_recipe(name).networks == 1]
LOGITS = [name for name in SINGLE if isinstance(make_recipe(name).head, IdentityHead)]
RADIUS = [name for name in RECIPES if takes_radius(name)]
