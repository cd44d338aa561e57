"""Global random streams, from which data sets of other libraries draw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def streams_put_back() -> Iterator[None]:
    """Put the global streams of torch (of the CPU), NumPy and Python back afterwards."""
    of_torch = torch.get_rng_state()
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002  # the stream that data sets draw from
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


@contextmanager
def seeded_streams(seed: int) -> Iterator[None]:
    """Seed the global streams of torch (of the CPU), NumPy and Python, and put them back."""
    with streams_put_back():
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        yield
