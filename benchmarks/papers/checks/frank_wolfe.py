"""Rates of Theorems 2.4.4 and 2.4.8: the Frank-Wolfe gap against the number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.benchmarks.papers.cells import Cell
from art_ext.core.attacks import frank_wolfe, frank_wolfe_black_box

FLOOR = 1e-7  # a smaller gap is rounding


def theorem_rates(
    *,
    radii: dict[str, float],
    steps: Sequence[int],
    samples: int,
    inputs: int,
    hidden: int,
    momentum: float,
    black_box: bool,
    seed: int,
) -> dict[str, dict[str, Cell]]:
    """Measure the exponent p of ``T^-p``, which the smallest gap over T steps follows.

    The network is smooth, as the theorems ask. Steps are ``1 / sqrt(T)``. The black-box attack has
    T d directions of length ``1 / (d sqrt(T))``, as Theorem 2.4.8 has.

    Args:
        radii: of the ball, by the norm, which names the row.
        steps: values of T.
        samples: number of random inputs.
        inputs: d.
        hidden: units of the network.
        momentum: beta.
        black_box: True for estimated gradients, whose gap is that of the estimate.
        seed: of network, samples and directions.
    """
    model, x, y = _problem(samples, inputs, hidden, seed)
    found = {}
    for norm, eps in radii.items():
        own: dict[str, Any] = {
            "eps": eps,
            "norm": norm,
            "schedule": "inverse_sqrt",
            "step_fraction": 1.0,
            "momentum": momentum,
            "box": "vertex",
            "stop_on_success": False,
        }
        gaps = []
        for count in steps:
            if black_box:
                pairs = count * inputs
                result = frank_wolfe_black_box(
                    *(model, x, y),
                    num_directions=pairs,
                    delta=1 / (inputs * math.sqrt(count)),
                    max_queries=1 + count * (2 * pairs + 1),
                    seed=seed,
                    **own,
                )
            else:
                result = frank_wolfe(model, x, y, num_steps=count, **own)
            gaps.append((result.trace or {})["gap"].amin(dim=0).clamp(min=FLOOR).double().numpy())
        found[norm] = _columns(steps, np.stack(gaps))
    return found


def _problem(samples: int, inputs: int, hidden: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a smooth network with random weights, and samples with its classes."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(inputs, hidden), nn.Softplus(beta=5), nn.Linear(hidden, 3)
        ).eval()
        for parameter in model.parameters():
            parameter.mul_(3)
        x = torch.rand(samples, inputs)
        return model, x, model(x).argmax(dim=1)


def _columns(steps: Sequence[int], gaps: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Cell]:
    """Return the columns of a row from gaps (numbers of steps, samples)."""
    keys = np.arange(gaps.shape[1])
    logs = np.log(np.array(steps))
    slopes = np.polyfit(logs, np.log(gaps), 1)[0]
    return {
        "first": Cell("mean", keys, gaps[0]),
        "last": Cell("mean", keys, gaps[-1]),
        "exponent": Cell("mean", keys, -slopes),
    }
