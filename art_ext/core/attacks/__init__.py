"""Attacks: functions of a model, samples and labels.

Every public module of this package registers its attacks. They are exported here by their names.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from art_ext.core.attacks import registry


def _functions() -> dict[str, Any]:
    """Import every module of the package, and return the attacks that they have registered."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return {spec.name: spec.function for spec in registry.specs()}


# an attack may have the name of its module: `art_ext.core.attacks.rays` is the function
_FUNCTIONS = _functions()
globals().update(_FUNCTIONS)
__all__ = sorted(_FUNCTIONS)
