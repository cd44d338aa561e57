"""Detectors of adversarial examples: a score of an input, and a threshold.

Every public module of this package registers its detectors. Their classes are exported here.
"""

from __future__ import annotations

import importlib
import pkgutil

from art_ext.core.detection import registry
from art_ext.core.detection.base import Answers, Detector
from art_ext.core.detection.registry import DetectorSpec, make_detector

_BASE = (Answers, Detector, DetectorSpec, make_detector)


def _classes() -> dict[str, type[Detector]]:
    """Import every module of the package, and return the classes that they have registered."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return {spec.kind.__name__: spec.kind for spec in registry.specs()}


_CLASSES = _classes()
globals().update(_CLASSES)
__all__ = sorted([*(one.__name__ for one in _BASE), *_CLASSES])
