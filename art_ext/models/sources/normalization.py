"""Mean and standard deviation of a model's inputs, from a name or from numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from art_ext.configuration.parsing import parse_numbers
from art_ext.core.checks import nearest
from art_ext.models.building import CIFAR10_MEAN, CIFAR10_STD
from art_ext.models.cifar import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, in units of pixels in [0, 1].

    Raises:
        ValueError: if the two differ in length, or a number is not finite, or a deviation not > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(one) for one in getattr(self, name)))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                "normalize must have as many means as standard deviations, got"
                f" {len(self.mean)} and {len(self.std)}"
            )
        if not all(math.isfinite(one) for one in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(
                f"normalize must have finite means and standard deviations > 0, got {self}"
            )

    def __str__(self) -> str:
        """Show mean and standard deviation as ``read_normalization`` reads them."""
        return ";".join(",".join(f"{one:g}" for one in part) for part in (self.mean, self.std))

    @property
    def is_identity(self) -> bool:
        """True if pixels stay as they are."""
        return set(self.mean) == {0.0} and set(self.std) == {1.0}

    def check_channels(self, channels: int) -> None:
        """Raise ValueError unless there is one number for all channels, or one for each."""
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"normalize must have one mean, or one for each of the {channels} channels, got"
                f" {len(self.mean)}"
            )


NORMALIZATIONS = {
    "none": Normalization((0.0,), (1.0,)),
    "imagenet": Normalization(IMAGENET_MEAN, IMAGENET_STD),
    "cifar10": Normalization(CIFAR10_MEAN, CIFAR10_STD),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": Normalization((0.1307,), (0.3081,)),
}


def read_normalization(given: str | Normalization) -> Normalization:
    """Return the normalisation that a text stands for.

    Args:
        given: a name of ``NORMALIZATIONS``, or ``MEAN;STD`` with commas between the channels, such
            as ``0.5,0.5,0.5;0.5,0.5,0.5``. Numbers may be fractions such as 123/255.

    Raises:
        ValueError: for another text, or numbers out of range.
    """
    if isinstance(given, Normalization):
        return given
    if given in NORMALIZATIONS:
        return NORMALIZATIONS[given]
    parts = given.split(";")
    try:
        numbers = [tuple(parse_numbers("normalize", part)) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 2:
        raise ValueError(
            f"normalize must be {', '.join(NORMALIZATIONS)} or 'MEAN;STD' with commas between the"
            f" channels, got {given!r}{nearest(given, NORMALIZATIONS)}"
        )
    return Normalization(*numbers)
