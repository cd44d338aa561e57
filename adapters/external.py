"""Frame in which an external attack runs: its rows are counted, its random numbers fenced, and its
outcome is checked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.adapters.network_state import describe_changes, preserved
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.calling import ModelCall
from art_ext.core.geometry import distances, within_ball
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.outputs import read_outputs
from art_ext.core.outside import Outside
from art_ext.core.result import AttackResult, Callback, Progress, build_result

SCORE_PARTS = ("square",)  # of AutoAttack: its other parts use gradients


class Counted(nn.Module):
    """A model as logits, that counts its rows forward and backward.

    Args:
        model: what is attacked.
        outputs: ``"logits"`` or ``"probabilities"``, what it returns.

    Attributes:
        forwards, backwards: rows so far.
    """

    copies_rows = True

    def __init__(self, model: Model, outputs: str) -> None:
        super().__init__()
        self.model = model
        self._call = ModelCall(model)
        self.outputs = outputs
        self.forwards = self.backwards = 0

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) logits of rows (R, *S)."""
        answer = self._call(rows)
        self.forwards += len(rows) + self._call.refused_rows
        self._call.refused_rows = 0
        outputs = read_outputs(answer, len(rows), self.outputs)
        # up to a constant per row, which no loss of logits sees
        if self.outputs == "probabilities":
            outputs = outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
        if outputs.requires_grad:
            count = len(rows)

            def passed(gradient: Tensor) -> None:
                self.backwards += count

            outputs.register_hook(passed)
        return outputs

    def charge(self, oracle: LabelOracle, index: Tensor) -> None:
        """Spread the rows so far evenly over the samples in index (M,), and begin again. Their
        sum is exact.
        """
        oracle.queries[index] += _shares(self.forwards, index)
        oracle.gradients[index] += _shares(self.backwards, index)
        self.forwards = self.backwards = 0


def _shares(total: int, index: Tensor) -> Tensor:
    """(M,) int64 that sum to total and differ by one at most."""
    count = len(index)
    return total // count + (torch.arange(count, device=index.device) < total % count).long()


@contextmanager
def fenced(seed: int, model: Model, name: str) -> Iterator[list[str]]:
    """Seed the global random streams, which toolkits draw from, and restore them and the network.

    Every call of a toolkit begins with the same seed and the same network: what it does to a batch
    does not depend on the batches before.

    Args:
        seed: of the streams.
        model: what is attacked.
        name: of the attack, for messages.

    Yields:
        A list that holds the names of what the attack changed in the network, once the block has
        ended.

    Raises:
        ValueError: if the network cannot be restored.
    """
    seed = (seed ^ seed >> 32) % (1 << 32)  # these generators read no more than 32 bits
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the toolkits' stream, not ours
    with (
        preserved(model, name) as changed,
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
    ):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield changed
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


MODEL_CHANGED = "model-changed"


@dataclass(frozen=True)
class Flag:
    """A sign that the numbers of an external attack cannot be trusted.

    Attributes:
        name: ``"model-changed"`` (the attack changed the network), or one of AutoAttack's own
            checks: ``"randomised"``, ``"probabilities"`` (instead of logits),
            ``"zero-gradients"``, ``"square-better"`` (than the attacks that follow gradients),
            ``"dynamic"`` (the model differentiates while it predicts) or ``"classes"`` (too few for
            the attacks).
        raised: True if the numbers are doubtful.
        detail: the first message, or why the check did not run.
    """

    name: str
    raised: bool
    detail: str


@dataclass(frozen=True, eq=False)
class ExternalResult(AttackResult):
    """An ``AttackResult`` of an external attack.

    Attributes:
        flags: signs that its numbers cannot be trusted.
    """

    flags: tuple[Flag, ...] = ()


class Verdict:
    """Successes so far, each checked here and not by the toolkit.

    Args:
        name: of the attack, for messages.
        problem: the samples and their goals. Each check costs one query per sample.
        callback: is told of each step, the clean check first.
        last: report outputs inside ball and box as x_adv also where they fail.

    Attributes:
        x: (N, *S) the samples.
        changed: names of what the attack changed in the network, as keys.
        already, success: (N,) bool, the samples already adversarial, and the successes by now.
    """

    def __init__(self, name: str, problem: Problem, callback: Callback, last: bool = False) -> None:
        self.name = name
        self.last = last
        self.problem = problem
        self.oracle = problem.oracle
        self.callback = callback
        self.changed: dict[str, None] = {}
        self.x = problem.shaped(problem.x)
        self.already = problem.check_clean()
        self.success = self.already.clone()
        self._x_adv = self.x.clone()
        self._distance = torch.where(self.already, 0.0, torch.inf)
        self._outside = Outside.none(len(self.x), self.x.device)
        self.tell(0, problem.index, finished=self.already)

    def alive(self) -> Tensor:
        """(M,) int64, the samples that do not meet their goals yet."""
        return (~self.success).nonzero().squeeze(1)

    def check(self, moved: Tensor, index: Tensor) -> Tensor:
        """(M,) bool, the rows of moved (M, *S) that are adversarial inside ball and box. They are
        kept.

        Args:
            moved: what the attack made of the samples.
            index: (M,) int64, which samples these are.

        Raises:
            ValueError: if moved has not the shape of the samples.
        """
        x = self.x[index]
        if moved.shape != x.shape:
            raise ValueError(
                f"{self.name} must return the shape {tuple(x.shape)}, got {tuple(moved.shape)}"
            )
        if not len(index):
            return torch.zeros_like(index, dtype=torch.bool)
        moved = moved.detach().to(x)  # as float32 it is kept, so as float32 it is judged
        reached = self.problem.goal.reached(self.oracle.labels(moved, index), index)
        length = distances(moved, x, self.problem.norm)
        inside = within_ball(length, self.problem.eps)
        legal = self.problem.box.contains(moved)
        problem = self.problem
        self._outside.enter(moved, x, index, box=problem.box, norm=problem.norm, eps=problem.eps)
        success = reached & legal & inside
        self.success[index[success]] = True
        self._distance[index[success]] = length[success].to(self._distance.dtype)
        kept = legal & inside if self.last else success
        self._x_adv[index[kept]] = moved[kept]
        return success

    def outside(self) -> Outside | None:
        """Return the outputs outside the ball or the box, None if there are none."""
        return self._outside if bool(self._outside.rows.any()) else None

    def tell(self, step: int, index: Tensor, finished: Tensor) -> None:
        """Let the callback know of the samples in index (M,), and which of them are finished
        (M,).
        """
        queries = self.oracle.queries[index]
        self.callback(
            Progress(step, index, self._distance[index], queries, finished, self.success[index])
        )

    def result(self, home: torch.device, seed: int) -> ExternalResult:
        """Build the outcome, with its tensors on the caller's device."""
        result = build_result(
            self.oracle,
            self.x,
            self._x_adv,
            self.success,
            already=self.already,
            first=self.oracle.queries,
            norm=self.problem.norm,
            eps=self.problem.eps,
            seed=seed,
            home=home,
            outside=self.outside(),
        )
        own = {part.name: getattr(result, part.name) for part in fields(AttackResult)}
        flags = (
            (Flag(MODEL_CHANGED, True, describe_changes(self.name, list(self.changed))),)
            if self.changed
            else ()
        )
        return ExternalResult(**own, flags=flags)
