"""Recipes as compositions of a craft and an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from art_ext.training import Fast, Natural, Pgd, Trades, train
from art_ext.training.craft import Clean, CrossEntropyAscent, UniformStart
from art_ext.training.objectives import CrossEntropy, Regularised, generalised_terms
from art_ext.training.recipes import Composition, CraftingRecipe
from art_ext.training.step import Step

EPS = 0.1
Samples = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed(Composition, CraftingRecipe):
    """The craft of PGD training with the generalised objective at a fixed weight."""

    name: ClassVar[str] = "mixed"
    steps: int = 2

    @property
    def crafting(self) -> CrossEntropyAscent:
        return CrossEntropyAscent(
            norm=self.norm, bn_mode=self.bn_mode, num_steps=self.steps, start=UniformStart()
        )

    @property
    def objective(self) -> Regularised:
        return Regularised(generalised_terms, 1.5)


def test_cost_is_the_sum_of_the_parts_and_what_is_counted(
    network: Callable[..., nn.Module], batch: Samples, count_rows: Callable
) -> None:
    model = network()
    rows = count_rows(model)
    recipe = Mixed(eps=EPS)
    result = train(model, batch, recipe, updates=1, batch_size=6)
    assert recipe.cost() == (2 + 2, 2 + 2)
    assert (result.forwards, result.backwards) == (24, 24)
    assert (rows.forwards, rows.backwards) == (24, 24)


def test_parts_check_their_arguments_when_the_recipe_is_made() -> None:
    with pytest.raises(ValueError, match="num_steps must be an integer >= 1, got 0"):
        Mixed(steps=0)


def test_a_recipe_names_its_parts(
    network: Callable[..., nn.Module], batch: Samples, make_step: Callable[..., Step]
) -> None:
    assert Natural().crafting == Clean()
    assert Pgd().objective == Fast().objective == CrossEntropy()
    assert Pgd(num_steps=3, eps=EPS).crafting == Mixed(steps=3, eps=EPS).crafting
    assert Fast(boxed_start=False).crafting.start == UniformStart(boxed=False)
    recipe = Trades(eps=EPS, num_steps=2)
    model = network(scale=3)
    found = recipe.craft(make_step(model, *batch, eps=EPS))
    assert torch.equal(found, recipe.crafting(make_step(model, *batch, eps=EPS)))
    assert not torch.equal(found, batch[0])
