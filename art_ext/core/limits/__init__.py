"""Limits of robustness on the distribution of a conditional generator.

Bounds for any classifier, Lipschitz constants of the generator, and attacks that stay on its
images. A name is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

# name: module. ``__init__.pyi`` lists the same for editors and type checkers
_MODULES = {
    "Alpha": "risk",
    "Bound": "bounds",
    "Expansion": "expansion",
    "GaussianSet": "expansion",
    "Generator": "generator",
    "GeneratorLipschitz": "lipschitz",
    "GeneratorOracle": "generator",
    "GeneratorRisk": "risk",
    "RiskBound": "risk",
    "bounds_at_risk": "risk",
    "check_generator": "generator",
    "draw_latents": "generator",
    "empirical_expansion": "expansion",
    "gaussian_expansion": "bounds",
    "generator_lipschitz": "lipschitz",
    "in_distribution_risk_bound": "bounds",
    "intrinsic_robustness_bound": "bounds",
    "not_represented": "representation",
    "risk_on": "risk",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Import a function or class of the package when it is needed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
