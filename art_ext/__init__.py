"""art-ext: adversarial attacks and robustness measures for ART, torchattacks and RobustBench.

Importing the package costs nothing: no toolkit is imported before the part that needs it is.
"""

from __future__ import annotations

from importlib import metadata

__all__ = ["__version__"]

try:
    __version__ = metadata.version("art-ext")
except metadata.PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
