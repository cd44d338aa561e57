"""Small trained networks and images for examples, with no download.

    from art_ext.examples import digits
    model, x, y = digits(n=100)

The pages of the documentation begin with these two lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_count, check_flag
from art_ext.data import Dataset, load_data
from art_ext.training import BackwardSmoothing, Natural, train
from art_ext.training.runs import make_network, require_training
from art_ext.training.runs.defaults import DEFAULTS

__all__ = ["digits"]

EPS = 0.2  # the radius that the robust network is trained for, and that the demo attacks within
NATURAL_EPOCHS = 15
ROBUST_EPOCHS = 30


def digits(n: int = 100, robust: bool = False) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained on scikit-learn's digits, and test images with their classes.

    The first call trains for about two seconds (``robust``: five) on one thread. Later calls in the
    same process copy the network. The same version gives the same weights on the same machine.

    Args:
        n: number of test images, from 1 to 500. The first ones are taken. Default: 100.
        robust: train by Backward Smoothing at L-infinity 0.2 instead of naturally. Default: False.

    Returns:
        ``(model, x, y)``. The model maps images to 10 logits and is in eval mode. ``x`` has shape
        (n, 1, 8, 8), float32 in [0, 1]. ``y`` has shape (n,), int64.

    Raises:
        ValueError: if n is not a whole number from 1 to 500, or robust is not a bool.
        ImportError: without the extra ``train``.

    Example:
        >>> from art_ext.examples import digits
        >>> model, x, y = digits(n=20)
        >>> accuracy = (model(x).argmax(1) == y).float().mean()
    """
    check_flag("robust", robust)
    check_count("n", n)
    test = load_data("digits").in_memory()
    if n > len(test):
        raise ValueError(f"n must be at most {len(test)}, the number of test digits, got {n}")
    return deepcopy(_trained(robust)), test.x[:n].clone(), test.y[:n].clone()


@cache
def _trained(robust: bool) -> nn.Module:
    samples = load_data("digits", split="train").in_memory()
    eps = EPS if robust else 0.0
    with one_thread():
        return train_digits(
            samples, eps=eps, epochs=ROBUST_EPOCHS if robust else NATURAL_EPOCHS, seed=0
        )


def train_digits(data: Dataset, *, eps: float, epochs: int, seed: int) -> nn.Module:
    """Train the digits network: naturally with eps = 0, else by Backward Smoothing.

    Optimiser, rate, schedule and batch size are those of ``art-ext train --data digits``. No global
    random stream is touched, and the same seed gives the same weights.

    Args:
        data: training samples, in memory.
        eps: radius in L-infinity.
        epochs: number of epochs.
        seed: of weights, order of batches and random starts.

    Raises:
        ImportError: without the extra ``train``.
    """
    require_training()
    recipe = BackwardSmoothing(eps=eps) if eps else Natural()
    names = ("optimizer", "learning_rate", "weight_decay", "schedule", "batch_size")
    updates = {name: getattr(DEFAULTS["digits"], name) for name in names}
    model = make_network("digits-cnn", {}, seed)
    train(model, (data.x, data.y), recipe, epochs=epochs, seed=seed, **updates)
    return model.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread, so that sums round alike on every number of cores.

    For networks this small, one thread is as fast as several.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
