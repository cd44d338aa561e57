"""What every attack within a given ball shares: its options, the clean check, who is still live, what to report."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TypedDict, TypeVar

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_positive
from art_ext.core.geometry import (
    ClipValues,
    attainable_radius,
    check_ball,
    distances,
    free_coordinates,
    project,
    within_ball,
)  # fmt: skip
from art_ext.core.losses import Loss, make_gain
from art_ext.core.oracle import GradientOracle, Judge, Model, ScoreOracle
from art_ext.core.problem import admit, check_classes, check_ids, check_samples, check_width, meets, warn_if_met
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.core.streams import fingerprint, resolve_seed

Function = TypeVar("Function", bound=Callable[..., AttackResult])


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """Keywords of every attack within a given ball.

    Attributes:
        targeted: whether y (or targets) are classes to reach, and not to leave.
        targets: (N,) classes to reach; they make the attack targeted, and y says nothing then.
        loss: what is ascended: ``"ce"``, ``"margin"``, or a callable from the model's outputs (r, K) and the positions
            (r,) of their samples in x to (r,) numbers, such as the inner product with a target's embedding. A callable
            is ascended as it is, targeted or not.
        criterion: from the same to (r,) bool, whether a row is a success, for models whose outputs are no class
            scores. None: the predicted class differs from y, or is the target.
        mask: 0/1 or bool, broadcastable to x; only coordinates where it is nonzero change.
        stop_on_success: a sample leaves at its first success; otherwise its last iterate that succeeded is reported.
        on_failure: what ``x_adv`` holds where nothing succeeded: ``"input"``, or ``"last"``, the last iterate.
        max_queries: most forward rows charged to a sample, the clean check included; None for no limit.
        clip_values: the box (lower, upper), numbers or one value per feature.
        outputs: what the model returns: ``"logits"`` or ``"probabilities"``.
        batch_size: most rows in one model call; never changes a decision.
        sample_ids: (N,) int64 identities that key the random streams; None takes a fingerprint of the float32 bits.
        device: where inputs go for models without parameters.
        callback: called with a ``Progress`` after each round of model calls.
        seed: of the random streams; None draws one and records it in the result.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over batch sizes.
    """

    targeted: bool = False
    targets: Tensor | None = None
    loss: str | Loss = "ce"
    criterion: Judge | None = None
    mask: Tensor | None = None
    stop_on_success: bool = False
    on_failure: str = "input"
    max_queries: int | None = None
    clip_values: ClipValues = (0.0, 1.0)
    outputs: str = "logits"
    batch_size: int = 256
    sample_ids: Tensor | None = None
    device: torch.device | str | None = None
    callback: Callback | None = None
    seed: int | None = None
    pad_rows: int = 0


class SharedKeywords(TypedDict, total=False):
    """The fields of ``Options``, for type checkers, less those that some attacks name themselves."""

    targeted: bool
    targets: Tensor | None
    loss: str | Loss
    criterion: Judge | None
    mask: Tensor | None
    on_failure: str
    clip_values: ClipValues
    outputs: str
    batch_size: int
    sample_ids: Tensor | None
    device: torch.device | str | None
    callback: Callback | None
    seed: int | None
    pad_rows: int


class Keywords(SharedKeywords, total=False):
    """The fields of ``Options``, for type checkers."""

    stop_on_success: bool
    max_queries: int | None


def spelled_out(function: Function) -> Function:
    """Show the fields of ``Options`` in the signature of a function that takes them as ``**options``."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Options)
        if field.default is not MISSING and field.name not in signature.parameters
    ]
    function.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, eq=False)
class Look:
    """What the model said to the iterates of the R live samples.

    Attributes:
        losses: (R,) what the attack ascends.
        gradient: (R, D) of the losses, zero at masked coordinates and where it is not finite; None if not asked for.
        met: (R,) bool, whether the iterate is a success.
    """

    losses: Tensor
    gradient: Tensor | None
    met: Tensor

    def ascent(self) -> Tensor:
        """The gradient, for callers who asked for it."""
        if self.gradient is None:
            raise RuntimeError("the gradient was not asked for")
        return self.gradient


class BallRun:
    """One attack within a given ball. Samples are vectors (D,) here; those that are done leave.

    A method calls ``open`` once, then, until no sample is live, ``look`` at the next iterates and ``drop`` those that
    are done. The forward that a gradient needs is at the same time the check of its iterate, so nothing is asked twice,
    the clean check included.

    Attributes:
        oracle: the ledger; a context manager to hold open meanwhile.
        index: (R,) int64, positions of the live samples in the input.
        x: (R, D) their clean inputs.
        ids: (N,) int64 identities of all samples, for the random streams.
        seed: of the random streams.
        norm, radius: the ball to stay in; the radius leaves room for rounding.
        spent: queries charged to each live sample so far; the same for all of them.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float,
        norm: str,
        options: Options,
        oracle: type[ScoreOracle] = GradientOracle,
    ) -> None:
        check_samples(x)
        count = len(x)
        self.oracle = oracle(
            model, count, outputs=options.outputs, batch_size=options.batch_size, max_queries=options.max_queries,
            clip_values=options.clip_values, pad_rows=options.pad_rows, device=options.device,
            default_device=x.device,
        )  # fmt: skip
        samples, self.box = admit(self.oracle, x)
        check_positive("eps", eps)  # None, which check_ball lets pass, is no ball to fill
        check_ball(norm, eps, self.box)
        check_classes("y", y, count)
        check_classes("targets", options.targets, count)
        check_ids(options.sample_ids, count)
        check_choice("on_failure", options.on_failure, ("input", "last"))
        if options.targeted and options.targets is None and y is None:
            raise ValueError("a targeted attack needs the classes to reach: pass them as y or as targets")
        self.norm, self.eps, self.options = norm, eps, options
        self.shape, self.result_device = x.shape, x.device
        self.samples = samples.flatten(1) if count else samples.reshape(0, x[0:1].numel() or 1)
        self.radius = attainable_radius(norm, eps, self.box, self.samples.shape[1])
        self.low, self.high = self.box.flat_bounds(x.shape[1:])
        self.free = None if options.mask is None else free_coordinates(options.mask, samples).to(torch.float32)
        self.seed = resolve_seed(options.seed)
        self.ids = fingerprint(samples) if options.sample_ids is None else options.sample_ids.to(self.oracle.device)
        self._pose(y, count)
        self.gain = make_gain(options.loss, self.goal, targeted=self.targeted, outputs=options.outputs)
        self.spent = 0
        self._rounds = 0
        self._trace: dict[str, Tensor] = {}

    def _pose(self, y: Tensor | None, count: int) -> None:
        """The goal of each sample, and what is known of it before the model was asked."""
        device = self.oracle.device
        self.targeted = self.options.targeted or self.options.targets is not None
        given = y if self.options.targets is None else self.options.targets
        self.unlabelled = given is None
        # a clone, because the goals of unlabelled samples are written into it
        self.goal = torch.zeros(count, dtype=torch.int64, device=device) if given is None else given.to(
            device=device, dtype=torch.int64, copy=True
        )  # fmt: skip
        self.already = torch.zeros(count, dtype=torch.bool, device=device)
        self.fooled = torch.zeros_like(self.already)
        self.first = torch.full_like(self.goal, -1)
        self.x_adv = self.samples.clone()
        self.index = torch.arange(count, device=device)
        self.x = self.held = self.rows = self.samples
        self.met = self.already

    @property
    def remaining(self) -> int:
        """Queries that each live sample may still ask."""
        limit = self.options.max_queries
        return torch.iinfo(torch.int64).max if limit is None else limit - self.spent

    def clip(self, rows: Tensor) -> Tensor:
        """The nearest points (R, D) of the box."""
        return torch.clamp(rows, self.low, self.high)  # type: ignore[arg-type]  # both are numbers, or both tensors

    def feasible(self, rows: Tensor) -> Tensor:
        """Rows (R, D) brought to the box first and to the ball second, which moves no coordinate away from x.

        In L-inf the order does not matter. The clip at the end takes back what rounding adds.
        """
        rows = rows if self.norm == "linf" else self.clip(rows)
        return self.clip(self.x + project(rows - self.x, self.norm, self.radius))

    def open(self, differentiate: bool, *, last: bool = False) -> Look:
        """The clean check, one query a sample, and the gradient at the clean input; samples that are done leave.

        Args:
            differentiate: whether a step from the clean input follows.
            last: whether the method ends here.

        Raises:
            ValueError: if the model returns NaN or no scores for an input, or a label has no column in its output.
        """

        def judge(outputs: Tensor, owner: Tensor) -> Tensor:
            self.oracle.check_known(outputs, owner)
            if self.unlabelled:
                self.goal[owner] = self.oracle.predict(outputs)
            if self.options.criterion is None:
                check_width("y" if self.options.targets is None else "targets", self.goal[owner], self.oracle)
            met = self._judge(outputs, owner)
            self.already[owner] = met
            return ~met

        if not len(self.index):
            return Look(self.samples.new_zeros(0), self.samples, self.already)
        outputs, losses, gradient = self._ask(self.samples, differentiate, judge)
        self.oracle.check_clean(outputs)
        if self.targeted and self.options.criterion is None:
            warn_if_met(self.already)
        self.met = self.already
        self.first = torch.where(self.already, 1, self.first)
        leave = self.already | last
        self._tell(leave, None)
        return self._keep(Look(losses, gradient, self.already), (~leave).nonzero().squeeze(1))

    def look(self, rows: Tensor, differentiate: bool) -> Look:
        """One query for the next iterate (R, D) of each live sample, in ball and box.

        Args:
            rows: the iterates.
            differentiate: whether a further step follows; samples that are done are not differentiated.
        """
        stop = self.options.stop_on_success
        met = torch.zeros(len(self.goal), dtype=torch.bool, device=self.oracle.device)

        def judge(outputs: Tensor, owner: Tensor) -> Tensor:
            hit = self._judge(outputs, owner)
            met[owner] = hit
            return ~hit if stop else torch.ones_like(hit)

        _, losses, gradient = self._ask(rows, differentiate, judge)
        self.met = met.index_select(0, self.index)
        self.rows = rows
        self.held = torch.where(self.met.unsqueeze(1), rows, self.held)
        self.fooled.index_copy_(0, self.index, self.fooled.index_select(0, self.index) | self.met)
        since = self.first.index_select(0, self.index)
        self.first.index_copy_(0, self.index, torch.where((since < 0) & self.met, self.spent, since))
        return Look(losses, gradient, self.met)

    def drop(self, look: Look, *, last: bool = False, chain: Tensor | None = None) -> tuple[Look, Tensor | None]:
        """Tell the callback, and let the samples that are done leave: all if last, else the successes if they stop.

        Args:
            look: at the iterates of the live samples.
            last: whether the method ends here.
            chain: (R, D) states of a chain to show to the callback.

        Returns:
            the look at the samples that stay, and their positions (R',) among the live ones, with which a method
            selects from its own state; None instead if all stay.
        """
        leave = torch.full_like(self.met, last)
        if self.options.stop_on_success:
            leave = leave | self.met
        self._tell(leave, chain)
        if not last and not (self.options.stop_on_success and bool(leave.any())):
            return look, None
        done = leave.nonzero().squeeze(1)
        fallback = self.rows if self.options.on_failure == "last" else self.x
        kept = self.fooled.index_select(0, self.index).unsqueeze(1)
        self.x_adv[self.index[done]] = torch.where(kept, self.held, fallback)[done]
        stay = (~leave).nonzero().squeeze(1)
        return self._keep(look, stay), stay

    def hold(self, rows: Tensor, mask: Tensor) -> None:
        """Report rows (R, D) where mask (R,) holds, rather than the last iterate that succeeded; before ``drop``."""
        self.held = torch.where(mask.unsqueeze(1), rows, self.held)

    def trace(self, steps: int, *names: str) -> None:
        """Open these rows of the trace, (steps, N) each."""
        self._trace = {name: self.samples.new_full((steps, len(self.goal)), torch.nan) for name in names}

    def record(self, name: str, step: int, values: Tensor) -> None:
        """Enter values (R,) of the live samples into the trace."""
        self._trace[name][step, self.index] = values.to(torch.float32)

    def result(self, chain: Tensor | None = None) -> AttackResult:
        """The outcome; chain (S, N, D) are the states of a method that draws several."""
        home = self.result_device
        x, x_adv = (flat.view(self.shape) for flat in (self.samples, self.x_adv))
        length = distances(x_adv, x, self.norm)
        hit = self.fooled & self.box.contains(x_adv) & within_ball(length, self.eps)
        success = hit | self.already
        # an iterate that succeeded outside the ball can only come from rounding; it is a failure all the same
        lost = (self.fooled & ~hit).unsqueeze(1)
        x_adv = torch.where(lost, self.samples, self.x_adv).view(self.shape)
        distance = torch.where(self.fooled, length, torch.inf).masked_fill(self.already, 0.0).to(torch.float32)
        trace = {name: values.to(home) for name, values in self._trace.items()} or None
        return AttackResult(
            x_adv=x_adv.to(home), success=success.to(home), already_adversarial=self.already.to(home),
            distance=distance.to(home), x_nearest=None, queries=self.oracle.queries.to(home),
            queries_to_success=torch.where(success, self.first, -1).to(home),
            gradients=self.oracle.gradients.to(home), wasted_rows=self.oracle.wasted_rows.to(home),
            norm=self.norm, eps=self.eps, seed=self.seed, early_stop=self.options.stop_on_success,
            samples=None if chain is None else chain.view(len(chain), *self.shape).to(home), trace=trace,
        )  # fmt: skip

    def _judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, whether outputs reach the goal of their samples; a row of NaN never does."""
        if self.options.criterion is not None:
            met = self.options.criterion(outputs, owner)
            if met.shape != (len(outputs),) or met.dtype != torch.bool:
                given = f"{tuple(met.shape)} of {met.dtype}"
                raise ValueError(f"criterion must return ({len(outputs)},) of torch.bool, got {given}")
            return met
        return meets(self.oracle.predict(outputs), self.goal.index_select(0, owner), self.targeted)

    def _ask(self, rows: Tensor, differentiate: bool, judge: Judge) -> tuple[Tensor, Tensor, Tensor | None]:
        self.spent += 1
        shaped = rows.view(-1, *self.shape[1:])
        if not differentiate:
            return *self.oracle.evaluate(shaped, self.index, self.gain, judge), None
        if not isinstance(self.oracle, GradientOracle):
            raise RuntimeError("a black-box attack asked for a gradient")
        outputs, losses, gradient = self.oracle.gradient(shaped, self.index, self.gain, judge)
        gradient = torch.nan_to_num(gradient.flatten(1), nan=0.0, posinf=0.0, neginf=0.0)
        return outputs, losses, gradient if self.free is None else gradient * self.free

    def _keep(self, look: Look, stay: Tensor) -> Look:
        if len(stay) == len(self.index):
            return look
        self.index, self.x, self.held, self.rows, self.met = (
            kept[stay] for kept in (self.index, self.x, self.held, self.rows, self.met)
        )
        if self.free is not None and len(self.free) > 1:
            self.free = self.free[stay]
        gradient = None if look.gradient is None else look.gradient[stay]
        return Look(look.losses[stay], gradient, look.met[stay])

    def _tell(self, finished: Tensor, chain: Tensor | None) -> None:
        if self.options.callback is not None:
            fooled = self.fooled[self.index] | self.already[self.index]
            length = distances(self.held, self.x, self.norm)
            self.options.callback(
                Progress(
                    step=self._rounds,
                    index=self.index,
                    distance=torch.where(fooled, length, torch.inf).to(torch.float32),
                    queries=self.oracle.queries[self.index],
                    finished=finished,
                    success=fooled,
                    samples=None if chain is None else chain.view(-1, *self.shape[1:]),
                )
            )
        self._rounds += 1
