"""The extra that training needs, asked for before anything that takes time."""

from __future__ import annotations

from importlib.util import find_spec


def require_training(tensorboard: bool = False) -> None:
    """Refuse to start a training that could not be run.

    Args:
        tensorboard: whether it logs to TensorBoard too.

    Raises:
        ImportError: naming the missing package and what installs it.
    """
    if find_spec("accelerate") is None:
        raise ImportError("training needs the extra `train`: pip install 'art-ext[train]'")
    if tensorboard and find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise ImportError("--tensorboard needs tensorboard: pip install tensorboard")
