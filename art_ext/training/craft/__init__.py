"""Ways to craft training examples from a minibatch."""

from art_ext.training.craft.ascent import CrossEntropyAscent, DivergenceAscent, ascend
from art_ext.training.craft.backward_smoothing import BackwardSmoothedAscent
from art_ext.training.craft.base import Clean, Craft
from art_ext.training.craft.starts import (
    NormalStart,
    PreviousStart,
    Start,
    UniformStart,
    ZeroStart,
    start_named,
)

__all__ = [
    "BackwardSmoothedAscent",
    "Clean",
    "Craft",
    "CrossEntropyAscent",
    "DivergenceAscent",
    "NormalStart",
    "PreviousStart",
    "Start",
    "UniformStart",
    "ZeroStart",
    "ascend",
    "start_named",
]
