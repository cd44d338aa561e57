"""ART trainers, which train a ``PyTorchClassifier`` in place. They need the extra ``train``."""

from art_ext.trainers.backward_smoothing import AdversarialTrainerBackwardSmoothingPyTorch
from art_ext.trainers.contrastive import AdversarialTrainerATCDPyTorch, AdversarialTrainerCATPyTorch
from art_ext.trainers.war import AdversarialTrainerWARPyTorch

__all__ = [
    "AdversarialTrainerATCDPyTorch",
    "AdversarialTrainerBackwardSmoothingPyTorch",
    "AdversarialTrainerCATPyTorch",
    "AdversarialTrainerWARPyTorch",
]
