"""Recipes by name: those of art-ext, of other packages, and of the user's own files."""

from __future__ import annotations

import inspect
from typing import Any

from art_ext.core.checks import same_name
from art_ext.core.keywords import checked_keywords
from art_ext.core.plugins import Plugins
from art_ext.models.factory import digest_of_file, resolve_object
from art_ext.training.heads import Head
from art_ext.training.naming import check_known, construct
from art_ext.training.recipes.base import Recipe
from art_ext.training.recipes.catalogue import CATALOGUE

PLUGINS = Plugins("art_ext.recipes", "recipe", lambda: [recipe.name for recipe in CATALOGUE])
RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in CATALOGUE}
_DIGESTS: dict[type[Recipe], str] = {}

# dataclass writes __init__ after the class body, so no base class can do this
for _recipe in CATALOGUE:
    setattr(_recipe, "__init__", checked_keywords(_recipe.__init__, _recipe.__name__))  # noqa: B010  # for mypy


def make_recipe(name: str, **arguments: Any) -> Recipe:
    """Create a recipe by name.

    Args:
        name: a name that ``art-ext recipes`` lists, such as ``"trades"``: a recipe of art-ext, or
            one that another package declares as an entry point of the group ``art_ext.recipes``.
            Or ``FILE.py:CLASS`` or ``MODULE:CLASS``, a recipe of your own.
        **arguments: of the recipe.

    Raises:
        ValueError: for an unknown name or argument (the nearest match is named), a value out of
            range, or a file or package that fails or holds no such recipe.
    """
    recipe: Recipe = construct("recipe", {name: find_recipe(name)}, name, arguments)
    return recipe


def find_recipe(name: str) -> type[Recipe]:
    """Return the recipe class of a name, as ``make_recipe`` takes it.

    Args:
        name: a built-in recipe, a plug-in's, or ``FILE.py:CLASS``.

    Raises:
        ValueError: as ``make_recipe`` does.
    """
    if isinstance(name, str) and ":" in name:
        return load_recipe(name)
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name]
    listed = [one for one in RECIPES if ":" not in one]
    check_known("recipe", dict.fromkeys([*listed, *PLUGINS.names()]), name)
    return load(name)


def load_recipe(source: str) -> type[Recipe]:
    """Run a Python file or import a module, and register the recipe class that it holds.

    Args:
        source: ``FILE.py:CLASS`` or ``MODULE:CLASS``.

    Raises:
        ValueError: if the file or module is missing or fails, holds no such recipe, or if the
            recipe has the name of one of art-ext.
    """
    with resolve_object(source, "recipe", "CLASS", _is_own_recipe) as found:
        kind = _checked(found, source)
    location = source.rpartition(":")[0]
    if location.endswith(".py"):
        _DIGESTS[kind] = digest_of_file(location)
    RECIPES[source] = kind
    return kind


def load(name: str) -> type[Recipe]:
    """Import the recipe that another package declares, and register it.

    Args:
        name: of an entry point, which names a recipe class of that name.

    Raises:
        ValueError: if the import fails, finds no such recipe class, or the name is taken.
    """
    origin = PLUGINS.origin(name)
    kind = _checked(PLUGINS.load(name), f"{name} of {origin}")
    if kind.name != name:
        raise ValueError(
            f"the recipe {name!r} of {origin} must have this name in the class, got {kind.name!r}"
        )
    RECIPES[name] = kind
    return kind


def file_digest(recipe: Recipe) -> str | None:
    """Return a digest of the file of a recipe that was loaded from one, or None."""
    return _DIGESTS.get(type(recipe))


def _checked(found: Any, source: str) -> type[Recipe]:
    """Return the recipe class of a source, or raise ValueError."""
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise ValueError(f"{source!r} must name a subclass of Recipe, got {_described(found)}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"the recipe {source!r} must implement {missing}")
    if not isinstance(found.head, Head):
        raise ValueError(
            f"the head of the recipe {source!r} must be an instance of Head, got"
            f" {_described(found.head)}"
        )
    for part in ("crafting", "objective"):
        value = getattr(found, part, None)
        if isinstance(value, type):
            raise ValueError(
                f"{part} of the recipe {source!r} must be an instance, got the class"
                f" {value.__name__}: write {value.__name__}()"
            )
    taken = same_name(found.name, [recipe.name for recipe in CATALOGUE])
    if taken is not None and found not in CATALOGUE:
        raise ValueError(f"art-ext has a recipe {taken!r}: give {source!r} a name of its own")
    return found


def _described(found: object) -> str:
    kind = "the class" if isinstance(found, type) else "an instance of"
    return f"{kind} {(found if isinstance(found, type) else type(found)).__name__}"


def _is_own_recipe(value: object) -> bool:
    """Return True for a recipe class that a user's file can provide."""
    return (
        isinstance(value, type)
        and issubclass(value, Recipe)
        and not value.__module__.startswith("art_ext.")
    )
