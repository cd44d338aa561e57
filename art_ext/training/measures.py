"""Measures of ``track=``, by name: callbacks on the samples that a run holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from art_ext.training.callbacks import (
    TrackHessian,
    TrackLipschitz,
    TrackLossIncrement,
    TrackStability,
)
from art_ext.training.options import Callback
from art_ext.training.recipes import Recipe
from art_ext.training.validation import Validation

HELD = 256  # samples that are measured in each epoch


def measures(names: Sequence[str], recipe: Recipe, validation: Validation | None) -> list[Callback]:
    """Return the callbacks of the measures.

    Args:
        names: those of ``track``.
        recipe: of the run.
        validation: its held-out samples and their attack, or None.

    Raises:
        ValueError: as ``check_possible``.
    """
    check_possible(names, recipe, None if validation is None else validation.eps)
    found: list[Callback] = []
    for name in dict.fromkeys(names):
        if name == "loss-increment":
            found.append(TrackLossIncrement())
        elif validation is not None:
            found.append(OF_HELD[name](recipe, validation, *_held(validation)))
    return found


def check_possible(names: Sequence[str], recipe: Recipe, radius: float | None) -> None:
    """Raise ValueError for measures that the recipe or the held-out samples do not allow.

    Args:
        names: those of ``track``.
        recipe: of the run.
        radius: of the attack on the held-out samples. None: there are none.
    """
    for name in names:
        if name == "loss-increment":
            if not recipe.radius:
                raise ValueError(
                    "track='loss-increment' needs a recipe that crafts examples, got the recipe"
                    f" {recipe.name} without a radius"
                )
        elif radius is None:
            raise ValueError(f"track={name!r} needs held-out samples: pass validation, got none")
        elif not radius:
            raise ValueError(f"track={name!r} needs a radius: pass validation_eps, got 0")


def check_held(every: int | None, held: bool) -> None:
    """Raise ValueError for validations within epochs without held-out samples.

    Args:
        every: weight updates between them, or None.
        held: True if there are held-out samples.
    """
    if every and not held:
        raise ValueError(f"validation_every={every} needs held-out samples: pass validation")


def _held(validation: Validation) -> tuple[Tensor, Tensor]:
    """Return the first held-out samples (n, *S) and their classes (n,)."""
    few = torch.arange(min(HELD, validation.held.count))
    ((x, y),) = validation.held.read([few])
    return x, y.to(torch.int64)


def _stability(recipe: Recipe, validation: Validation, x: Tensor, y: Tensor) -> Callback:
    options = {
        "norm": validation.norm,
        "loss": recipe.head.attack_loss,
        "clip_values": validation.clip_values,
    }
    return TrackStability(x, y, validation.eps, options=options, labels="own")


def _lipschitz(recipe: Recipe, validation: Validation, x: Tensor, y: Tensor) -> Callback:
    options = {"norm": validation.norm, "clip_values": validation.clip_values}
    return TrackLipschitz(x, validation.eps, options=options, losses=("kl", "ce"), y=y)


def _hessian(recipe: Recipe, validation: Validation, x: Tensor, y: Tensor) -> Callback:
    return TrackHessian(x, y, validation.eps, clip_values=validation.clip_values)


OF_HELD: Mapping[str, Callable[[Recipe, Validation, Tensor, Tensor], Callback]] = {
    "stability": _stability,
    "lipschitz": _lipschitz,
    "hessian": _hessian,
}
