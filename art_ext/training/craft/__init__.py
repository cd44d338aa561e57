"""Ways to craft training examples from a minibatch."""

from art_ext.training.craft.ascent import (
    CrossEntropyAscent,
    DivergenceAscent,
    NormalStart,
    UniformStart,
    ascend,
)
from art_ext.training.craft.backward_smoothing import BackwardSmoothedAscent
from art_ext.training.craft.base import Clean, Craft

__all__ = [
    "BackwardSmoothedAscent",
    "Clean",
    "Craft",
    "CrossEntropyAscent",
    "DivergenceAscent",
    "NormalStart",
    "UniformStart",
    "ascend",
]
