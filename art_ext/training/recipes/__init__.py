"""Training recipes: compositions of craft and objective, and methods whose passes are shared."""

from __future__ import annotations

from typing import Any

from art_ext.core.keywords import checked_keywords
from art_ext.training.cost import Cost
from art_ext.training.naming import construct
from art_ext.training.recipes.atcd import Atcd, Cat
from art_ext.training.recipes.base import BallRecipe, Composition, CraftingRecipe, Recipe
from art_ext.training.recipes.catalogue import (
    BackwardSmoothing,
    Fast,
    FastTrades,
    Natural,
    Pgd,
    Trades,
)
from art_ext.training.recipes.free import Free
from art_ext.training.recipes.war import War

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (Natural, Pgd, Trades, Fast, FastTrades, Free, Cat, Atcd, BackwardSmoothing, War)
}

# dataclass writes __init__ after the class body, so no base class can do this
for _recipe in RECIPES.values():
    setattr(_recipe, "__init__", checked_keywords(_recipe.__init__, _recipe.__name__))  # noqa: B010  # for mypy


def make_recipe(name: str, **arguments: Any) -> Recipe:
    """Create a recipe by name.

    The names are natural, pgd, trades, fast, fast-trades, free, cat, atcd, backward-smoothing and
    war.

    Raises:
        ValueError: for an unknown name or argument (the nearest match is named), or a value out of
            range.
    """
    recipe: Recipe = construct("recipe", RECIPES, name, arguments)
    return recipe


__all__ = [
    "RECIPES",
    "Atcd",
    "BackwardSmoothing",
    "BallRecipe",
    "Cat",
    "Composition",
    "Cost",
    "CraftingRecipe",
    "Fast",
    "FastTrades",
    "Free",
    "Natural",
    "Pgd",
    "Recipe",
    "Trades",
    "War",
    "make_recipe",
]
