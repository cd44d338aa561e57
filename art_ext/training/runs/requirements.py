"""Check for the extra that training needs, before anything that takes time."""

from __future__ import annotations

from importlib.util import find_spec


def require_training(tensorboard: bool = False) -> None:
    """Raise ImportError unless the packages of a training are installed.

    Args:
        tensorboard: True if the run logs to TensorBoard too.

    Raises:
        ImportError: naming the missing package and its installation command.
    """
    if find_spec("accelerate") is None or find_spec("tomli_w") is None:
        raise ImportError("training needs the extra `train`: pip install 'art-ext[train]'")
    if tensorboard and find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise ImportError("--tensorboard needs tensorboard: pip install tensorboard")
