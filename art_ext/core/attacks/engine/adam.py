"""The step of Adam, with both bias corrections in its length, and its constant outside the root.

References:
    Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor

BETA1, BETA2, DELTA = 0.9, 0.999, 1e-8


def adam_step(first: Tensor, second: Tensor, t: Tensor, step_size: float) -> Tensor:
    """``-eta sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + delta)``.

    Args:
        first, second: the moments m and v.
        t: number of the step from 1, broadcastable to them, in a float wide enough for ``1 -
            beta2^t``.
        step_size: eta.
    """
    rate = step_size * (1 - BETA2**t).sqrt() / (1 - BETA1**t)
    return -rate.to(first.dtype) * first / (second.sqrt() + DELTA)
