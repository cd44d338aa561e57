"""Training recipes: compositions of craft and objective, and methods whose passes are shared."""

from art_ext.training.cost import Cost
from art_ext.training.recipes.adp import Adp
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
from art_ext.training.recipes.distillation import Distillation
from art_ext.training.recipes.fast_plus import FastPlus
from art_ext.training.recipes.free import Free
from art_ext.training.recipes.grad_align import GradAlign
from art_ext.training.recipes.max_mahalanobis import Mmc, Mmlda
from art_ext.training.recipes.phase import Phase
from art_ext.training.recipes.registry import RECIPES, find_recipe, load_recipe, make_recipe
from art_ext.training.recipes.scores import Rce
from art_ext.training.recipes.war import War
from art_ext.training.recipes.yopo import Yopo, YopoTrades

__all__ = [
    "RECIPES",
    "Adp",
    "Atcd",
    "BackwardSmoothing",
    "BallRecipe",
    "Cat",
    "Composition",
    "Cost",
    "CraftingRecipe",
    "Distillation",
    "Fast",
    "FastPlus",
    "FastTrades",
    "Free",
    "GradAlign",
    "Mmc",
    "Mmlda",
    "Natural",
    "Pgd",
    "Phase",
    "Rce",
    "Recipe",
    "Trades",
    "War",
    "Yopo",
    "YopoTrades",
    "find_recipe",
    "load_recipe",
    "make_recipe",
]
