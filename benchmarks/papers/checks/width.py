"""Chapter 5 of the dissertation: networks of several widths, and rates of its schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from art_ext.training.schedules import make_schedule


def digits_network(width: int) -> nn.Module:
    """Return a network for digits with 4 and 8 channels and 25 units, times the width."""
    return nn.Sequential(
        nn.Conv2d(1, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4 * width, 8 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width * 16, 25 * width),
        nn.ReLU(),
        nn.Linear(25 * width, 10),
    )


# networks that runs name without arguments, which a full run would inherit
digits_1 = partial(digits_network, 1)
digits_2 = partial(digits_network, 2)
digits_4 = partial(digits_network, 4)


def learning_rates(
    rate: float, epochs: int, shown: Sequence[int], schedules: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return the learning rate of each schedule in some epochs, which count from 1 (Figure 5.5).

    Args:
        rate: at the beginning.
        epochs: length of the training.
        shown: epochs, one for each row.
        schedules: by column, name and arguments of a schedule.
    """
    made = {column: make_schedule(**one) for column, one in schedules.items()}
    return {
        f"epoch_{epoch}": {
            column: rate * schedule(float(epoch - 1), float(epochs))
            for column, schedule in made.items()
        }
        for epoch in shown
    }
