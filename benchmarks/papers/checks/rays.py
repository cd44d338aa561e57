"""RayS' tables: HopSkipJump of foolbox at a budget of queries, and RayS along its budget."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import right, stored_network
from art_ext.benchmarks.papers.cells import Cell
from art_ext.core.attacks import rays
from art_ext.core.geometry import within_ball
from art_ext.data import load_data

Row = dict[str, Cell]


class _EndError(Exception):
    """Every sample of a call has its success, or no query left."""


class _Watch(nn.Module):
    """A network that notes queries and adversarials of its N samples, which foolbox does not tell.

    Args:
        network: to call.
        x, y: samples (N, *S) with their classes (N,).
        eps: radius of a success.
        max_queries: of each sample, the clean check included.
        stop_on_success: end a sample at its first success.

    Attributes:
        index: samples whose rows the next calls hold.
        nearest: (N,) distance of the nearest adversarial so far, or inf.
        first: (N,) queries at the first success, or inf.
    """

    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        eps: float,
        max_queries: int,
        stop_on_success: bool,
    ) -> None:
        super().__init__()
        self.network, self.x, self.y = network, x, y
        self.eps, self.max_queries, self.stop_on_success = eps, max_queries, stop_on_success
        self.index = torch.arange(len(x))
        self.queries = torch.zeros(len(x))
        self.nearest = torch.full((len(x),), torch.inf)
        self.first = self.nearest.clone()

    def forward(self, rows: Tensor) -> Tensor:
        """Return the scores of one row for each sample of ``index``."""
        own = self.index
        ended = self.queries[own] >= self.max_queries
        if self.stop_on_success:
            ended |= self.first[own].isfinite()
        if ended.all():
            raise _EndError
        scores: Tensor = self.network(rows)
        self.queries[own] += (~ended).float()
        distance = (rows - self.x[own]).abs().flatten(1).amax(dim=1)
        distance[ended | (scores.argmax(dim=1) == self.y[own])] = torch.inf
        self.nearest[own] = torch.minimum(self.nearest[own], distance)
        within = within_ball(distance, self.eps)
        self.first[own] = torch.where(
            within, torch.minimum(self.first[own], self.queries[own]), self.first[own]
        )
        return scores


def _samples(network: str, data: str, n: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a network, the first n samples, and (N,) bool those that it classifies right."""
    model, samples = stored_network(network), load_data(data).first(n)
    return model, samples.x, samples.y, right(samples.x, samples.y, model)


def first_success(
    *,
    rows: Mapping[str, Mapping[str, Any]],
    max_queries: int,
    seed: int,
    batch: int,
    stop_on_success: bool = True,
    within: Sequence[int] = (),
) -> dict[str, Row]:
    """Count the queries of attacks up to the first adversarial inside the ball, at a budget.

    Args:
        rows: settings by the name of the row: ``attack`` (``"hop_skip_jump"`` of foolbox, or
            ``"rays"``), ``network`` of the data's checkpoints, ``data``, ``n`` and ``eps``.
        max_queries: of each sample, the clean check included.
        seed: of the attack.
        batch: samples that foolbox attacks together. All wait for the slowest search of an
            iteration.
        stop_on_success: False goes on to the nearest adversarial.
        within: numbers of queries, which give the columns ``within_N``.
    """
    found = {}
    for name, row in rows.items():
        model, x, y, correct = _samples(row["network"], row["data"], row["n"])
        watch = _Watch(
            model, x, y, eps=row["eps"], max_queries=max_queries, stop_on_success=stop_on_success
        ).eval()
        attacked = correct.nonzero().flatten()
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # foolbox warns where noise is never adversarial
            torch.manual_seed(seed)
            _ATTACKS[row["attack"]](watch, attacked, batch)
        found[name] = _row(correct, watch, within)
    return found


def _hop_skip_jump(watch: _Watch, attacked: Tensor, batch: int) -> None:
    from foolbox import PyTorchModel
    from foolbox.attacks import HopSkipJumpAttack, LinearSearchBlendedUniformNoiseAttack

    shown = PyTorchModel(watch, bounds=(0, 1), device="cpu")
    # foolbox's default, which fails for all samples of a call if it fails for one
    start = LinearSearchBlendedUniformNoiseAttack(steps=50)
    attack = HopSkipJumpAttack(steps=1000, constraint="linf")

    def run(method: Any, index: Tensor, **given: Any) -> Tensor:
        watch.index = index
        try:
            ended: Tensor = method.run(shown, watch.x[index], watch.y[index], **given)
        except _EndError:
            return watch.x[index]
        return ended

    watch.queries += 1  # the clean check
    starts = torch.cat([run(start, one) for one in attacked.split(1)])
    found = watch.nearest[attacked].isfinite()
    for rows in found.nonzero().flatten().split(batch):
        run(attack, attacked[rows], starting_points=starts[rows])


def _rays(watch: _Watch, attacked: Tensor, batch: int) -> None:
    for one in attacked.split(1):
        watch.index = one
        with suppress(_EndError):
            rays(watch, watch.x[one], watch.y[one], eps=watch.eps, max_queries=watch.max_queries)


_ATTACKS = {"hop_skip_jump": _hop_skip_jump, "rays": _rays}


def _row(correct: Tensor, watch: _Watch, within: Sequence[int]) -> Row:
    """Return the cells of a row, as those of an evaluation."""
    keys = correct.nonzero().flatten()
    first = watch.first[correct]
    success = first.isfinite()
    nearest = torch.where(correct, watch.nearest, 0.0)
    return {
        "success": _cell("share", keys, success),
        "queries": _cell("mean", keys[success], first[success]),
        "median_queries": _cell("median", keys[success], first[success]),
        "queries_all": _cell("mean", keys, watch.queries[correct]),
        "first_queries": _cell("first", keys, first),
        **{f"within_{count}": _cell("share", keys, first <= count) for count in within},
        **_distances(nearest, watch.eps, ""),
    }


def _distances(nearest: Tensor, eps: float, suffix: str) -> Row:
    """Return robust accuracy and mean distance of the nearest adversarials, 0 if misclassified."""
    every = torch.arange(len(nearest))
    reached = nearest.isfinite()
    return {
        f"robust{suffix}": _cell("share", every, ~within_ball(nearest, eps)),
        f"adbd{suffix}": _cell("mean", every[reached], nearest[reached]),
    }


def _cell(kind: str, keys: Tensor, values: Tensor) -> Cell:
    return Cell(kind, keys.numpy().astype(np.int64), values.numpy().astype(np.float64))


def along_the_budget(
    *, rows: Mapping[str, Mapping[str, Any]], queries: Sequence[int]
) -> dict[str, Row]:
    """Return robust accuracy and ADBD of RayS after numbers of queries.

    Args:
        rows: settings by the name of the row: ``network``, ``data``, ``n`` and ``eps``.
        queries: increasing numbers. The last one is the budget.
    """
    return {name: _along(queries, **row) for name, row in rows.items()}


def _along(queries: Sequence[int], *, network: str, data: str, n: int, eps: float) -> Row:
    model, x, y, correct = _samples(network, data, n)
    result = rays(
        model, x, y, eps=eps, max_queries=queries[-1], stop_on_success=False, trace_at=queries
    )
    found: Row = {}
    for count, distance in zip(queries, (result.trace or {})["distance"], strict=True):
        found |= _distances(torch.where(correct, distance, 0.0), eps, f"_{count}")
    return found
