"""The science: PyTorch and the standard library only. It knows no toolkit, no file and no
screen.
"""

from art_ext.core.expectation import Expectation
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.oracle import GradientOracle, LabelOracle, ScoreOracle
from art_ext.core.result import AttackResult, Progress

__all__ = [
    "AttackInterrupted",
    "AttackResult",
    "Expectation",
    "GradientOracle",
    "LabelOracle",
    "ModelStopped",
    "Progress",
    "ScoreOracle",
]
