"""The driver of minimum-norm attacks whose candidates are images of a generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks._latent_descent import LatentAdam, LatentState
from art_ext.core.attacks._latent_images import LatentImages
from art_ext.core.attacks._latent_starts import Starts, check_images, read_latents
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.state import keep
from art_ext.core.geometry import row_norms
from art_ext.core.limits.generator import Generator, GeneratorOracle
from art_ext.core.losses import Loss
from art_ext.core.networks import model_device
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult


class LatentMinimumNorm(MinimumNorm):
    """Runs ``LatentAdam`` inside a constant search, from each kind of starting latents.

    The generator gets the true class of each sample: y or, where y is not given or holds the
    classes to reach, the model's prediction of x.

    Args:
        model, x, y, eps, confidence, **options: as for ``MinimumNorm``.
        generator: a module or callable from standard Gaussian latents (R, d) and classes (R,) to
            images (R, *S), with the attributes ``latent_dim`` and ``num_classes``.
        latents: (N, d) float, the latents that made the samples. A row of NaN stands for a sample
            without latents. Default: None, no sample has any.
        image_range: range (lower, upper) of the generator's own images, which are mapped to
            ``clip_values``. None neither maps nor checks them. Default: (0, 1).
        starts: the choice of starting latents.

    Attributes:
        images: of the generator.
        given: (N, d) the latents to start from. None if there are none.
        latents: (N, d) of the nearest adversarials, NaN where there is none.
        start_distance: (N,) of the nearest start.
        waiting: (N,) bool, samples with a later start.
        reserve: (N,) int64, answers of the budget that are kept for it.
        earlier: the trace of the earlier start.
    """

    def __init__(
        self,
        model: Model,
        generator: Generator,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        confidence: float,
        latents: Tensor | None,
        image_range: tuple[float, float] | None,
        starts: Starts,
        **options: Any,
    ) -> None:
        super().__init__(model, x, y, eps=eps, norm="l2", confidence=confidence, **options)
        whole = self.whole
        device = model_device(generator, None, whole.oracle.device)
        oracle = GeneratorOracle(generator, image_range=image_range, device=device)
        count = len(whole.x)
        self.starts = starts
        self.given = read_latents(
            latents, starts.initialisation, (count, oracle.latent_dim), whole.oracle.device
        )
        classes = torch.zeros_like(whole.index)
        self.predicts_classes = y is None or self.options.targeted
        if y is not None and not self.predicts_classes:
            classes.copy_(y)
        self.images = LatentImages(
            oracle=oracle,
            whole=whole,
            classes=classes,
            rows=torch.zeros_like(whole.index),
            gradients=torch.zeros_like(whole.index),
            pad_rows=self.options.pad_rows,
        )
        self.latents = whole.x.new_full((count, oracle.latent_dim), torch.nan)
        self.start_distance = whole.x.new_full((count,), torch.nan)
        self.waiting = torch.zeros_like(self.already)
        self.reserve = torch.zeros_like(whole.index)
        self.earlier: dict[str, Tensor] = {}
        # the rule prefers the nearest: both are the same tensors
        self.found.best = self.found.nearest
        self.found.best_value = self.found.distance

    @contextmanager
    def running(self) -> Iterator[None]:
        """Enter the oracles of the generator and of the model."""
        with self.images.oracle, super().running():
            yield

    def most(self, answers: PlannedRows) -> PlannedRows:
        """As the base does, for the starts that a sample may have."""
        both = self.given is not None and self.starts.initialisation == "both"
        search = PlannedRows(answers.forward - 1, answers.backward - 1)
        return answers.plus(search) if both else answers

    def unfinished(self) -> Tensor:
        """(N,) bool, samples that the attack goes on with, now or from a later start."""
        return super().unfinished() | self.waiting

    def judge_clean(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """As the base does, and note the predicted classes where the true ones are unknown."""
        wanted = super().judge_clean(outputs, owner)
        if self.predicts_classes:
            self.images.classes[owner] = self.whole.oracle.classes(outputs)
        return wanted

    def open(self, loss: Loss, *, differentiate: bool, least: Tensor | int = 1) -> Tensor | None:
        """As the base does, and compare classes and given latents with the generator.

        Raises:
            ValueError: also if the model has another number of classes than the generator, or if
                the images of given latents are not the samples.
        """
        slope = super().open(loss, differentiate=differentiate, least=least)
        _check_classes(self.images)
        if self.given is not None:
            self._check_given(self.given)
        return slope

    def optimise(  # type: ignore[override]  # it runs this method and this search only
        self, method: LatentAdam, search: ConstantSearch, slope: Tensor | None
    ) -> None:
        """Run the search from the given latents, and then from the optimised ones."""
        opened = self.problem
        if self.given is not None:
            here = _exist(self.given[opened.index]) & ~self.short_of(1)
            self.problem = keep(opened, here.nonzero().squeeze(1))
            start = self.given[self.problem.index]
            super().optimise(replace(method, start=start), search, None)
            self.earlier = dict(self.whole.trace)
        if self.starts.initialisation != "given":
            self.problem = opened
            self.waiting = torch.zeros_like(self.waiting)
            self.reserve = torch.zeros_like(self.reserve)
            start, distance = self.starts.optimised(self.images, opened)
            self._note_start(opened.index, distance)
            super().optimise(replace(method, start=start), search, None)

    def record(  # type: ignore[override]  # the state of this method only
        self, state: LatentState, answers: Answers, value: Tensor
    ) -> None:
        """Keep the nearest successes, and their latents."""
        places = answers.success.nonzero().squeeze(1)
        if not len(places):
            return
        index = self.problem.index[places]
        nearer = self.found.enter(index, self.whole.x[index], state.x[places])
        kept = torch.where(nearer.unsqueeze(1), state.z[places], self.latents[index])
        self.latents[index] = kept

    def short_of(self, cost: Tensor | int) -> Tensor:
        """(R,) bool, rows whose share of the budget does not hold so many more queries."""
        index = self.problem.index
        return self.problem.oracle.ledger.remaining(index) - self.reserve[index] < cost

    def tell(self, finished: Tensor, success: Tensor, distance: Tensor, *further: Any) -> None:
        """Call the callback. A sample with a later start is not finished."""
        super().tell(finished & ~self.waiting[self.problem.index], success, distance, *further)

    def result(self) -> AttackResult:
        """Build the result, with the latents of the adversarials."""
        found = super().result()
        exists = self.found.distance.isfinite().unsqueeze(1)
        trace = found.trace
        if trace is not None and self.earlier and self.starts.initialisation == "both":
            trace = {
                name: torch.cat([self.earlier[name].to(self.home), values])
                for name, values in trace.items()
            }
        return replace(
            found,
            trace=trace,
            latents=self.latents.where(exists, torch.nan).to(self.home),
            start_distance=self.start_distance.to(self.home),
            generator_rows=self.images.rows.to(self.home),
            generator_gradients=self.images.gradients.to(self.home),
        )

    def _check_given(self, given: Tensor) -> None:
        """Check that the images of given latents (N, d) are the samples, and plan their starts."""
        whole = self.whole
        index = _exist(given).nonzero().squeeze(1)
        made = self.images.images(given[index], index)
        check_images(made, whole.x[index], index, whole.box.width)
        self.latents[self.already] = given[self.already]
        active = self.unfinished()[index]
        self._note_start(index[active], row_norms(made - whole.x[index], "l2")[active])
        if self.starts.initialisation == "both":
            self.waiting[index] = active
            # the later start has the odd answer
            left = whole.oracle.ledger.remaining(index)
            self.reserve[index] = left - left // 2

    def _note_start(self, index: Tensor, distance: Tensor) -> None:
        """Note the distances (r,) of starts of the samples in index (r,)."""
        self.start_distance[index] = torch.fmin(self.start_distance[index], distance)


def _exist(latents: Tensor) -> Tensor:
    """(R,) bool, rows of latents (R, d) that are no NaN."""
    return ~latents.isnan().any(dim=1)


def _check_classes(images: LatentImages) -> None:
    """Raise ValueError unless the model and the labels have the classes of the generator.

    Call it after the clean check.
    """
    width = images.whole.oracle.num_classes
    known = images.oracle.num_classes
    if width is not None and width != known:
        raise ValueError(
            f"the model must have the generator's {known} classes, got {width} classes"
        )
    classes = images.classes
    if len(classes) and int(classes.max()) >= known:
        raise ValueError(
            f"y must hold class indices below {known}, the generator's classes, got"
            f" {int(classes.max())}"
        )
