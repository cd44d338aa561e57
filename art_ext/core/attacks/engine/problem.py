"""One attack problem: inputs, goal, box, ball and mask."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.state import SHARED
from art_ext.core.detection.base import Detector
from art_ext.core.expectation import Confirmation, expectation_in
from art_ext.core.geometry import (
    Box,
    attainable_radius,
    check_ball,
    distances,
    free_coordinates,
    project,
    uniform_in_ball,
    within_ball,
)
from art_ext.core.inspection import Columns, Inspector
from art_ext.core.losses import Loss
from art_ext.core.oracle import GradientOracle, Judge, LabelOracle, Model, ScoreOracle
from art_ext.core.samples import admit, check_ids, check_samples, warn_if_reached
from art_ext.core.streams import fingerprint, resolve_seed

START_BLOCK = 1 << 40  # of the samples' streams; the other draws of a chain lie far below
PHASES = 1 << 20  # blocks of one restart, two for each phase


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """The active rows of one attack on N samples, flattened to vectors (D,), and what they share.

    Attributes:
        x: (R, D) clean inputs.
        index: (R,) int64, positions of the rows in the caller's batch.
        ids: (R,) int64, identities for the random streams.
        mask: (R, D) float, 0 at coordinates that must not change. None if all may.
        oracle: counts the queries of all N samples. Its type is the threat model.
        goal: the classes that all N samples are to leave or to reach.
        box: the legal inputs. ``low`` and ``high`` are its bounds, numbers or (D,).
        shape: (N, *S) of the caller's batch.
        norm, eps: the ball, or how distances are measured.
        seed: of the random streams.
        radius: eps less what rounding needs, inf without eps.
        gain: the loss to ascend, from outputs (r, K) and positions (r,) to (r,).
        trace: measurements of the method, by name, each (steps, N).
    """

    x: Tensor
    index: Tensor
    ids: Tensor
    mask: Tensor | None
    oracle: LabelOracle
    goal: Goal = field(metadata=SHARED)
    box: Box = field(metadata=SHARED)
    low: float | Tensor = field(metadata=SHARED)
    high: float | Tensor = field(metadata=SHARED)
    shape: torch.Size = field(metadata=SHARED)
    norm: str
    eps: float | None
    seed: int
    radius: float
    gain: Loss
    trace: dict[str, Tensor]

    @staticmethod
    def of(
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        norm: str,
        options: AttackOptions,
        oracle: type[LabelOracle],
    ) -> Problem:
        """Check the arguments of an attack, and send its samples to the model's device.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what was wanted.
        """
        check_samples(x)
        if options.amp and not issubclass(oracle, GradientOracle):
            raise ValueError("amp needs an attack with gradients: leave amp=False")
        count = len(x)
        ledger = oracle(
            model,
            count,
            outputs=options.outputs,
            batch_size=options.batch_size,
            max_queries=options.max_queries,
            clip_values=options.clip_values,
            pad_rows=options.pad_rows,
            channels_last=options.channels_last,
            compile=options.compile,
            device=options.device,
            default_device=x.device,
            inspector=inspector_of(model, options.detector, options.outputs),
            **({"amp": options.amp} if issubclass(oracle, GradientOracle) else {}),
        )
        goal = Goal.of(y, options, count, ledger.device)
        if isinstance(ledger.inspector, Confirmation):
            ledger.inspector.reaches(goal.labels, goal.targeted)
            ledger.inspector.unknown = count if goal.unlabelled else 0
        samples, box = admit(ledger, x)
        check_ball(norm, eps, box)
        check_ids(options.sample_ids, count)
        ids = options.sample_ids
        ids = ledger.ids = fingerprint(samples) if ids is None else ids
        rows = samples.reshape(count, math.prod(x.shape[1:]))
        low, high = box.flat_bounds(x.shape[1:])
        mask = options.mask
        if mask is not None:
            mask = free_coordinates(mask, samples).to(torch.float32).expand_as(rows)
        return Problem(
            x=rows,
            index=torch.arange(count, device=ledger.device),
            ids=ids.to(ledger.device),
            mask=mask,
            oracle=ledger,
            goal=goal,
            box=box,
            low=low,
            high=high,
            shape=x.shape,
            norm=norm,
            eps=eps,
            seed=resolve_seed(options.seed),
            radius=torch.inf if eps is None else attainable_radius(norm, eps, box, rows.shape[1]),
            gain=no_gain,
            trace={},
        )

    @property
    def scores(self) -> ScoreOracle:
        """The oracle of an attack on scores."""
        if not isinstance(self.oracle, ScoreOracle):
            raise RuntimeError("a hard-label attack needs no scores, but called for them")
        return self.oracle

    @property
    def slopes(self) -> GradientOracle:
        """The oracle of an attack on gradients."""
        if not isinstance(self.oracle, GradientOracle):
            raise RuntimeError("a black-box attack needs no gradient, but called for one")
        return self.oracle

    @property
    def limit(self) -> float:
        """The radius eps of a fixed-radius attack."""
        if self.eps is None:
            raise RuntimeError("the problem has no radius")
        return self.eps

    def check_clean(self) -> Tensor:
        """Make the clean check of an attack on labels, for one query each.

        Returns:
            (N,) bool, True where the clean input is adversarial.

        Raises:
            ValueError: if the model returns NaN for an input, or has no class for a goal.
        """
        if not len(self.x):
            return torch.zeros_like(self.index, dtype=torch.bool)
        outputs = self.oracle.clean_outputs(self.shaped(self.x))
        labels = self.oracle.predict(outputs)
        self.goal.fill(self.oracle.classes(outputs), self.index)
        self.goal.check(self.oracle, self.index)
        reached = self.goal.reached(labels, self.index)
        if self.goal.targeted:
            warn_if_reached(reached)
        return reached

    def shaped(self, rows: Tensor) -> Tensor:
        """Rows (r, D) in the shape of samples, (r, *S)."""
        return rows.view(-1, *self.shape[1:])

    def clip(self, rows: Tensor) -> Tensor:
        """Return the nearest points (R, D) of the box."""
        return torch.clamp(rows, self.low, self.high)  # type: ignore[arg-type]  # both are numbers, or both tensors

    def clip_(self, rows: Tensor) -> Tensor:
        """Return the same as ``clip``. The rows are overwritten."""
        return rows.clamp_(self.low, self.high)  # type: ignore[arg-type]  # as in clip

    def feasible(self, rows: Tensor) -> Tensor:
        """Rows (R, D) brought to the box first and to the ball second, which moves no coordinate
        away from x.

        In L-inf the order does not matter. The clip at the end takes back what rounding adds.
        """
        rows = rows if self.norm == "linf" else self.clip(rows)
        return self.clip(self.x + project(rows - self.x, self.norm, self.radius))

    def feasible_(self, rows: Tensor) -> Tensor:
        """Return the same as ``feasible``. The rows are overwritten, which needs less memory."""
        if self.norm != "linf":
            return self.feasible(rows)
        return self.clip_(rows.sub_(self.x).clamp_(-self.radius, self.radius).add_(self.x))

    def contains(self, rows: Tensor) -> Tensor:
        """(R,) bool, True for rows (R, D) inside the box and within eps of x."""
        length = distances(self.shaped(rows), self.shaped(self.x), self.norm)
        return self.box.contains(self.shaped(rows)) & within_ball(length, self.eps)

    def query(
        self,
        rows: Tensor,
        index: Tensor,
        loss: Loss,
        differentiate: bool,
        judge: Judge | None = None,
        positions: Tensor | None = None,
        verify: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One query for each row (r, D) of the samples in index (r,): outputs, losses and, if
        wanted, gradients (r, D), which are zero at masked coordinates and where not finite.

        Args:
            rows, index, loss, judge, verify: as for the oracle.
            differentiate: True computes the gradient.
            positions: of the samples among the active rows. None: they are all of these.
        """
        shaped = self.shaped(rows)
        if not differentiate:
            return *self.scores.evaluate(shaped, index, loss, judge), None
        outputs, losses, gradient = self.slopes.gradient(shaped, index, loss, judge, verify=verify)
        return outputs, losses, self.sanitised(gradient, positions)

    def sanitised(self, gradient: Tensor, positions: Tensor | slice | None = None) -> Tensor:
        """Return gradients (r, D) of rows (r, *S), zero at masked coordinates and where not finite.

        Args:
            gradient: (r, *S).
            positions: of the samples among the active rows. None: they are all of these.
        """
        flat = torch.nan_to_num(gradient.flatten(1), nan=0.0, posinf=0.0, neginf=0.0)
        return self.masked(flat, positions)

    def masked(self, values: Tensor, positions: Tensor | slice | None = None) -> Tensor:
        """Values (r, D) with zeros at masked coordinates.

        Args:
            values: of the active rows, or of those at these positions.
            positions: (r,) among the active rows. None for all of them.
        """
        if self.mask is None:
            return values
        return values * (self.mask if positions is None else self.mask[positions])

    def random_start(self, restart: int = 0, phase: int = 0) -> Tensor:
        """(R, D) a point drawn uniformly from each ball and clipped to the box.

        Each restart and phase has two blocks of its own in the samples' streams. Masked coordinates
        stay where they are.
        """
        block = START_BLOCK + restart * PHASES + 2 * phase
        offset = uniform_in_ball(
            self.norm, self.radius, self.seed, self.ids, block, self.x.shape[1]
        )
        return self.feasible(self.x + self.masked(offset))

    def record(self, name: str, step: int, values: Tensor) -> None:
        """Enter values (R,) of the active rows into the trace."""
        self.trace[name][step, self.index] = values.to(torch.float32)


def inspector_of(model: Model, detector: Detector | None, outputs: str) -> Columns | None:
    """Return what judges each row of a model besides its class: a detector, or the fresh draws of
    an ``Expectation``.

    Raises:
        ValueError: for both, or as ``Inspector`` and ``Confirmation``.
    """
    expectation = expectation_in(model)
    if detector is None:
        return None if expectation is None else Confirmation(expectation, outputs)
    if expectation is not None:
        raise ValueError(
            f"the detector {detector.name!r} needs a model without an Expectation: attack the"
            " detector, or the expectation alone"
        )
    return Inspector(detector, model, outputs)


def no_gain(outputs: Tensor, index: Tensor) -> Tensor:
    """Take the place of a loss outside of a run."""
    raise RuntimeError("the driver has not chosen the loss yet")
