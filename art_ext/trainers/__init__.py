"""ART trainers, which train a ``PyTorchClassifier``. They need the extra ``train``.

``AdversarialTrainer...`` train it in place. Those whose network gets a head train a copy.
"""

from art_ext.trainers.shells import (
    AdversarialTrainerATCDPyTorch,
    AdversarialTrainerBackwardSmoothingPyTorch,
    AdversarialTrainerCATPyTorch,
    AdversarialTrainerFastPyTorch,
    AdversarialTrainerFreePyTorch,
    AdversarialTrainerGradAlignPyTorch,
    AdversarialTrainerWARPyTorch,
    AdversarialTrainerYOPOPyTorch,
    TrainerADPPyTorch,
    TrainerDistillationPyTorch,
    TrainerMaxMahalanobisPyTorch,
    TrainerReverseCrossEntropyPyTorch,
)

__all__ = [
    "AdversarialTrainerATCDPyTorch",
    "AdversarialTrainerBackwardSmoothingPyTorch",
    "AdversarialTrainerCATPyTorch",
    "AdversarialTrainerFastPyTorch",
    "AdversarialTrainerFreePyTorch",
    "AdversarialTrainerGradAlignPyTorch",
    "AdversarialTrainerWARPyTorch",
    "AdversarialTrainerYOPOPyTorch",
    "TrainerADPPyTorch",
    "TrainerDistillationPyTorch",
    "TrainerMaxMahalanobisPyTorch",
    "TrainerReverseCrossEntropyPyTorch",
]
