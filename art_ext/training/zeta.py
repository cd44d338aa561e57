"""Measurement of zeta, the target ratio of width adjusted regularisation, on a thin network."""

from __future__ import annotations

from typing import Any

from torch import nn

from art_ext.core.keywords import public
from art_ext.training.loop import train
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import War
from art_ext.training.sources import Data


@public(TrainingOptions)
def measure_zeta(model: nn.Module, data: Data, recipe: War, **options: Any) -> float:
    """Train a thin network at a fixed lambda, and return its final ratio ``l_nat / l_rob``.

    The ratio is the mean over the minibatches of the last epoch, with l_rob *without* lambda, as in
    the update of lambda. The dissertation takes a network of half the base width at lambda
    = 6 and finds zeta = 30 (section 5.5).

    Args:
        model: the thin network, trained in place.
        data: as for ``train``.
        recipe: ``War(fixed=6.0, ...)`` with the radius, steps and regulariser of the runs that zeta
            is for.
        **options: the keywords of ``TrainingOptions``.

    Raises:
        ValueError: if lambda is not fixed, and as ``train`` does.
    """
    if not isinstance(recipe, War) or recipe.fixed is None:
        raise ValueError(
            "measure_zeta needs a War recipe with a fixed lambda, such as War(fixed=6.0), got"
            f" {recipe!r}"
        )
    return float(train(model, data, recipe, **options).history[-1]["ratio"])
