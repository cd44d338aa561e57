"""art-ext: adversarial attacks and robustness measures for ART, torchattacks and RobustBench.

    from art_ext import evaluate, load_data, pgd, rays

Importing the package costs nothing: a name is imported when it is used, and no toolkit before the
part that needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

# written by ``make shells``
_PACKAGES = (
    "attacks",
    "core",
    "data",
    "detectors",
    "evaluation",
    "examples",
    "models",
    "testing",
    "torchattacks",
    "trainers",
    "training",
)
_MODULES = {
    "AttackResult": "core.result",
    "adbd": "core.metrics",
    "ai_fgsm": "core.attacks",
    "auto_pgd": "core.attacks",
    "bandits": "core.attacks",
    "cw": "core.attacks",
    "ead": "core.attacks",
    "evaluate": "evaluation",
    "fgsm": "core.attacks",
    "frank_wolfe": "core.attacks",
    "frank_wolfe_black_box": "core.attacks",
    "hmcam": "core.attacks",
    "i_fgm": "core.attacks",
    "i_fgsm": "core.attacks",
    "in_distribution": "core.attacks",
    "load_data": "data",
    "load_model": "models",
    "m_pgd": "core.attacks",
    "mi_fgsm": "core.attacks",
    "nes": "core.attacks",
    "opt": "core.attacks",
    "pgd": "core.attacks",
    "rays": "core.attacks",
    "sign_gradient": "core.attacks",
    "sign_opt": "core.attacks",
    "signhunter": "core.attacks",
    "square": "core.attacks",
    "train": "training",
    "zoo": "core.attacks",
}
# end of what is written

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Import an attack, another function of the front, or a package, on its first use."""
    if name == "__version__":
        value: Any = _version()
    elif name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("art-ext")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
