"""ART trainers, which train a ``PyTorchClassifier`` in place. They need the extra ``train``."""

from art_ext.trainers.shells import (
    AdversarialTrainerATCDPyTorch,
    AdversarialTrainerBackwardSmoothingPyTorch,
    AdversarialTrainerCATPyTorch,
    AdversarialTrainerWARPyTorch,
)

__all__ = [
    "AdversarialTrainerATCDPyTorch",
    "AdversarialTrainerBackwardSmoothingPyTorch",
    "AdversarialTrainerCATPyTorch",
    "AdversarialTrainerWARPyTorch",
]
