"""What every attack with a model of scores shares: its options, the clean check, which samples
are still live.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TypedDict

import torch
from torch import Tensor

from art_ext.core.geometry import ClipValues, check_ball, free_coordinates
from art_ext.core.keywords import Function, any_norm, checked_keywords
from art_ext.core.losses import Loss
from art_ext.core.oracle import GradientOracle, Judge, Model, ScoreOracle
from art_ext.core.problem import (
    admit,
    check_classes,
    check_ids,
    check_samples,
    check_width,
    meets,
    warn_if_met,
)
from art_ext.core.result import AttackResult, Callback, measured
from art_ext.core.streams import fingerprint, resolve_seed


@dataclass(frozen=True, kw_only=True, eq=False)
class RunOptions:
    """Keywords of every attack on a model of scores.

    Attributes:
        targeted: whether y (or targets) are classes to reach, and not to leave.
        targets: (N,) classes to reach; they make the attack targeted, and y says nothing then.
        mask: 0/1 or bool, broadcastable to x; only coordinates where it is nonzero change.
        max_queries: most forward rows charged to a sample, the clean check included; None for no
            limit.
        clip_values: the box (lower, upper), numbers or one value per feature.
        outputs: what the model returns: ``"logits"`` or ``"probabilities"``.
        batch_size: most rows in one model call; never changes a decision.
        sample_ids: (N,) int64 identities that key the random streams; None takes a fingerprint of
            the float32 bits.
        device: where inputs go for models without parameters.
        callback: called with a ``Progress`` after each round of model calls.
        seed: of the random streams; None draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes.
    """

    targeted: bool = False
    targets: Tensor | None = None
    mask: Tensor | None = None
    max_queries: int | None = None
    clip_values: ClipValues = (0.0, 1.0)
    outputs: str = "logits"
    batch_size: int = 256
    sample_ids: Tensor | None = None
    device: torch.device | str | None = None
    callback: Callback | None = None
    seed: int | None = None
    pad_rows: int = 0


class RunKeywords(TypedDict, total=False):
    """The fields of ``RunOptions``, for type checkers, less those that some attacks name
    themselves.
    """

    targeted: bool
    mask: Tensor | None
    clip_values: ClipValues
    outputs: str
    batch_size: int
    sample_ids: Tensor | None
    device: torch.device | str | None
    callback: Callback | None
    seed: int | None
    pad_rows: int


def spelled_out(options: type) -> Callable[[Function], Function]:
    """Decorate a function of ``**options``: its signature shows the fields of a class of options.

    A keyword that is neither its own nor a field raises a TypeError that names the nearest one, and
    ``norm`` takes every spelling.
    """

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default
                if field.default_factory is MISSING
                else field.default_factory(),
                annotation=field.type,
            )
            for field in fields(options)
            if field.name not in signature.parameters
        ]
        function.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        return checked_keywords(any_norm(function))

    return show


class Run:
    """One attack on N samples, which are vectors (D,) here; those that are done leave.

    Attributes:
        oracle: the ledger; a context manager to hold open meanwhile.
        samples: (N, D) all clean inputs.
        index: (R,) int64, positions of the live samples in the input.
        x: (R, D) their clean inputs.
        goal: (N,) int64, the class to leave or, if targeted, to reach.
        ids: (N,) int64 identities of all samples, for the random streams.
        seed: of the random streams.
        norm, eps: the ball, or how distances are measured.
        free: (R or 1, D) float, 0 at masked coordinates; None if all may change.
        low, high: bounds of the box, numbers or (D,).
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        norm: str,
        options: RunOptions,
        oracle: type[ScoreOracle] = GradientOracle,
    ) -> None:
        check_samples(x)
        count = len(x)
        self.oracle = oracle(
            model,
            count,
            outputs=options.outputs,
            batch_size=options.batch_size,
            max_queries=options.max_queries,
            clip_values=options.clip_values,
            pad_rows=options.pad_rows,
            device=options.device,
            default_device=x.device,
        )
        samples, self.box = admit(self.oracle, x)
        check_ball(norm, eps, self.box)
        check_classes("y", y, count)
        check_classes("targets", options.targets, count)
        check_ids(options.sample_ids, count)
        if options.targeted and options.targets is None and y is None:
            raise ValueError(
                "a targeted attack needs the classes to reach: pass them as y or as targets"
            )
        self.norm, self.eps = norm, eps
        self.outputs, self.callback = options.outputs, options.callback
        self.shape, self.result_device = x.shape, x.device
        self.samples = samples.flatten(1) if count else samples.reshape(0, x[0:1].numel() or 1)
        self.low, self.high = self.box.flat_bounds(x.shape[1:])
        self.free = (
            None
            if options.mask is None
            else free_coordinates(options.mask, samples).to(torch.float32)
        )
        self.seed = resolve_seed(options.seed)
        self.ids = (
            fingerprint(samples)
            if options.sample_ids is None
            else options.sample_ids.to(self.oracle.device)
        )
        self._pose(y, options)

    def _pose(self, y: Tensor | None, options: RunOptions) -> None:
        """The goal of each sample, and what is known of it before the model was asked."""
        device, count = self.oracle.device, len(self.samples)
        self.targeted = options.targeted or options.targets is not None
        given = y if options.targets is None else options.targets
        self.goal_name = "y" if options.targets is None else "targets"
        self.unlabelled = given is None
        # a clone, because the goals of unlabelled samples are written into it
        self.goal = (
            torch.zeros(count, dtype=torch.int64, device=device)
            if given is None
            else given.to(device=device, dtype=torch.int64, copy=True)
        )
        self.goals_are_classes = True
        self.already = torch.zeros(count, dtype=torch.bool, device=device)
        self.first = torch.full_like(self.goal, -1)
        self.index = torch.arange(count, device=device)
        self.x = self.samples
        self.rounds = 0

    def clip(self, rows: Tensor) -> Tensor:
        """The nearest points (R, D) of the box."""
        return torch.clamp(rows, self.low, self.high)  # type: ignore[arg-type]  # both are numbers, or both tensors

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, whether outputs reach the goal of their samples; a row of NaN never does."""
        return meets(self.oracle.predict(outputs), self.goal.index_select(0, owner), self.targeted)

    def ask_clean(self, loss: Loss, differentiate: bool) -> tuple[Tensor, Tensor | None]:
        """The clean check, one query a sample: (N,) losses and, if asked for, their gradient (N,
        D).

        Fills ``already``, and the goals of unlabelled samples with the model's own answers.

        Raises:
            ValueError: if the model returns NaN or no scores for an input, or a label has no column
                in its output.
        """

        def judge(outputs: Tensor, owner: Tensor) -> Tensor:
            self.oracle.check_known(outputs, owner)
            if self.unlabelled:
                self.goal[owner] = self.oracle.predict(outputs)
            if self.goals_are_classes:
                check_width(self.goal_name, self.goal[owner], self.oracle)
            met = self.judge(outputs, owner)
            self.already[owner] = met
            return ~met

        if not len(self.samples):
            return self.samples.new_zeros(0), self.samples
        outputs, losses, gradient = self.ask(self.samples, self.index, loss, differentiate, judge)
        self.oracle.check_clean(outputs)
        if self.targeted and self.goals_are_classes:
            warn_if_met(self.already)
        self.first = torch.where(self.already, 1, self.first)
        return losses, gradient

    def ask(
        self,
        rows: Tensor,
        index: Tensor,
        loss: Loss,
        differentiate: bool,
        judge: Judge | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One query for each row (r, D) of the samples in index (r,): outputs, losses and, if asked
        for, gradients.

        The gradient (r, D) is zero at masked coordinates and where it is not finite.

        Args:
            rows, index, loss, judge: as for the oracle.
            differentiate: whether the gradient is wanted.
            positions: of the samples among the live ones; None: they are all of these.
        """
        shaped = rows.view(-1, *self.shape[1:])
        if not differentiate:
            return *self.oracle.evaluate(shaped, index, loss, judge), None
        if not isinstance(self.oracle, GradientOracle):
            raise RuntimeError("a black-box attack asked for a gradient")
        outputs, losses, gradient = self.oracle.gradient(shaped, index, loss, judge)
        gradient = torch.nan_to_num(gradient.flatten(1), nan=0.0, posinf=0.0, neginf=0.0)
        return outputs, losses, self.masked(gradient, positions)

    def masked(self, values: Tensor, positions: Tensor | None = None) -> Tensor:
        """values (r, D) of the live samples, or of those at these positions (r,), zero at masked
        coordinates.
        """
        if self.free is None:
            return values
        return values * (
            self.free if positions is None or len(self.free) == 1 else self.free[positions]
        )

    def report(
        self,
        x_adv: Tensor,
        success: Tensor,
        lengths: Tensor,
        *,
        x_nearest: Tensor | None,
        nearest_distance: Tensor | None,
        stop_on_success: bool,
        trace: dict[str, Tensor],
        chain: Tensor | None = None,
        value: Tensor | None = None,
    ) -> AttackResult:
        """The outcome in the caller's shape and on the caller's device, with the ledger.

        Args:
            x_adv, x_nearest: (N, D), and chain (S, N, D), as ``AttackResult`` has them.
            success, stop_on_success, trace: the same.
            lengths: (N, 4) of x_adv, by ``geometry.distortions``.
            nearest_distance: (N,) of x_nearest, or None.
            value: (N,) of x_adv by the attack's own rule, or None.
        """
        home = self.result_device
        return AttackResult(
            x_adv=x_adv.view(self.shape).to(home),
            success=success.to(home),
            already_adversarial=self.already.to(home),
            x_nearest=None if x_nearest is None else x_nearest.view(self.shape).to(home),
            nearest_distance=None
            if nearest_distance is None
            else nearest_distance.to(device=home, dtype=torch.float32),
            queries=self.oracle.queries.to(home),
            queries_to_success=torch.where(success, self.first, -1).to(home),
            gradients=self.oracle.gradients.to(home),
            wasted_rows=self.oracle.wasted_rows.to(home),
            norm=self.norm,
            eps=self.eps,
            seed=self.seed,
            stop_on_success=stop_on_success,
            samples=None if chain is None else chain.view(len(chain), *self.shape).to(home),
            trace={name: values.to(home) for name, values in trace.items()} or None,
            value=None if value is None else value.to(device=home, dtype=torch.float32),
            **measured(lengths, success, self.norm, home),
        )

    def select(self, stay: Tensor) -> None:
        """Keep the live samples at these positions (R',)."""
        self.index, self.x = self.index[stay], self.x[stay]
        if self.free is not None and len(self.free) > 1:
            self.free = self.free[stay]
