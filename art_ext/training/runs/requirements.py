"""Check for the extra that training needs, before anything that takes time."""

from __future__ import annotations

from importlib.util import find_spec


def require_training() -> None:
    """Raise ImportError, with the installation command, unless a training has its packages."""
    if find_spec("accelerate") is None or find_spec("tomli_w") is None:
        raise ImportError("training needs the extra `train`: pip install 'art-ext[train]'")
