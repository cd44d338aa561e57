"""Robust training as ART trainers: a ``PyTorchClassifier`` in, the same one trained out. Needs
the extra ``train``.
"""

from art_ext.trainers.backward_smoothing import AdversarialTrainerBackwardSmoothingPyTorch
from art_ext.trainers.contrastive import AdversarialTrainerATCDPyTorch, AdversarialTrainerCATPyTorch
from art_ext.trainers.war import AdversarialTrainerWARPyTorch

__all__ = [
    "AdversarialTrainerATCDPyTorch",
    "AdversarialTrainerBackwardSmoothingPyTorch",
    "AdversarialTrainerCATPyTorch",
    "AdversarialTrainerWARPyTorch",
]
