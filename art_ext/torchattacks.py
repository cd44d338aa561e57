"""All of torchattacks plus our attacks. torchattacks itself is not changed.

>>> import art_ext.torchattacks as torchattacks  # doctest: +SKIP >>> adv_images =
torchattacks.RayS(model)(images, labels)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import Any

try:
    _torchattacks = importlib.import_module("torchattacks")
except ModuleNotFoundError as error:
    if error.name != "torchattacks":
        raise
    raise ImportError(
        "art_ext.torchattacks needs torchattacks: pip install 'art-ext[torchattacks]'"
    ) from error

from art_ext.adapters.torchattacks import ATTACKS

__all__ = [*(name for name in _torchattacks.__all__ if name not in ATTACKS), *ATTACKS]


def __getattr__(name: str) -> Any:
    """Return our shells by name, and everything else from torchattacks."""
    # with it `import art_ext.torchattacks.attacks` would load every class a second time
    if name == "__path__":
        raise AttributeError(
            "art_ext.torchattacks is not a package: import submodules from torchattacks itself"
        )
    return ATTACKS[name] if name in ATTACKS else getattr(_torchattacks, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_torchattacks), *ATTACKS})
