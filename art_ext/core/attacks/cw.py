"""The L2 attack of Carlini and Wagner: Adam on the inverse hyperbolic tangent of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.adam import BETA1, BETA2, adam_step
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.calling import outside_inference_mode
from art_ext.core.cases import with_cases
from art_ext.core.checks import check_not_negative, check_positive
from art_ext.core.constant_search import ConstantSearch
from art_ext.core.geometry import row_norms
from art_ext.core.nearest import NearestOptions, NearestRun, spelled_out
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.run import RunKeywords
from art_ext.core.tanh_space import TanhSpace

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out
@outside_inference_mode()
@with_cases
def cw(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l2",
    beta: float = 0.0,
    confidence: float = 0.0,
    step_size: float = 1e-2,
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 1e-3,
    abort_early: bool | str = True,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Unpack[RunKeywords],
) -> AttackResult:
    """Find the adversarial of least L2 distortion, in a space without a box.

    Solves ``min_w c f(x') + ||x' - x||_2^2`` with ``x' = (1 + tanh w) / 2``, stretched to the box,
    and the f of ``ead``, by Adam, with a search over c per sample. The comparator of ``ead``, whose
    ``beta=0`` minimises the same objective. With ``beta > 0`` the objective is that of ``ead``,
    ``beta ||x' - x||_1`` included, and so is the rule that chooses x_adv: the change of variable
    (COV) of the thesis' Table 5, which finds no sparse perturbations.

    Where a value of x lies on the edge of the box, w starts at ``atanh(.9999995)`` = 7.6, where the
    slope of tanh is 1e-6: give such images, MNIST among them, several hundred iterations.

    Differences from the authors' program: the distortion is measured to x itself, not to its image
    under tanh, which differs by 1e-6; and an optimisation is given up per sample, as in ``ead``.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x;
            None counts any.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how ``distance`` and eps are measured.
        beta: weight of an L1 term, >= 0; 0 is the attack of Carlini and Wagner.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have.
        step_size: of Adam.
        num_steps: iterations of each optimisation.
        search_steps: optimisations per sample, each with its own c.
        initial_const: the first c.
        abort_early: as in ``ead``.
        targets: as in ``ead``.
        max_queries: most forward rows per sample, the clean check included; None for no limit.
        **options: the keywords of ``art_ext.core.nearest.NearestOptions``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one for each iteration,
            whose forward
        checks the iterate and serves its gradient. ``trace`` is as in ``ead``.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
    """
    check_not_negative("beta", beta)
    check_positive("step_size", step_size)
    ConstantSearch.check(num_steps, search_steps, initial_const, abort_early)
    run = NearestRun(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        confidence=confidence,
        options=NearestOptions(targets=targets, max_queries=max_queries, **options),
    )
    with run.oracle:
        run.open(run.hinge, differentiate=False)
        search = ConstantSearch(
            run,
            num_steps=num_steps,
            search_steps=search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
        )
        path = _Adam(run, search, step_size, beta)
        while len(run.index):
            met, hinge, slope = run.look(path.x, run.hinge, differentiate=True)
            distortion = path.distortion()
            _, ended = search.judge(search.const * hinge + distortion, met)
            run.record(path.x, met, distortion)
            path.advance(slope)
            finished = search.close(ended)
            stay = run.drop(finished | run.short_of(1))
            path.select(stay)
            search.select(stay)
            path.restart(ended if stay is None else ended[stay])
    return run.result()


class _Adam:
    """Adam on w for the live samples, each at an iteration of its own.

    Attributes:
        x: (R, D) the iterates.
    """

    def __init__(
        self, run: NearestRun, search: ConstantSearch, step_size: float, beta: float
    ) -> None:
        self.run, self.search, self.step_size, self.beta = run, search, step_size, beta
        self.space = TanhSpace(run.low, run.high)
        self.anchor = self.space.inverse(run.x)
        self.w, self.first, self.second = (
            self.anchor,
            torch.zeros_like(run.x),
            torch.zeros_like(run.x),
        )
        self.x = self._image()

    def _image(self) -> Tensor:
        image = self.space.image(self.w)
        return (
            image if self.run.free is None else torch.where(self.run.free != 0, image, self.run.x)
        )

    def distortion(self) -> Tensor:
        """(R,) ``||x' - x||_2^2 + beta ||x' - x||_1`` of the iterates."""
        offset = self.x - self.run.x
        squared = row_norms(offset, "l2").square()
        return squared + self.beta * row_norms(offset, "l1") if self.beta else squared

    def advance(self, slope: Tensor | None) -> None:
        """One step of Adam from the gradient (R, D) of the hinge at x; ``search`` has counted
        its iteration.
        """
        if slope is None:
            raise RuntimeError("the gradient was not asked for")
        gradient = slope * self.search.weight + 2 * (self.x - self.run.x)
        # the sign of x' - x, and 0 at the start, where rounding would make it a random one
        if self.beta:
            gradient = gradient + self.beta * (self.w - self.anchor).sign()
        gradient = gradient * self.space.slope(self.w)
        self.first = torch.lerp(gradient, self.first, BETA1)
        self.second = torch.lerp(gradient.square(), self.second, BETA2)
        t = self.search.iteration.to(self.search.const.dtype).unsqueeze(1)
        self.w = self.w + adam_step(self.first, self.second, t, self.step_size)
        self.x = self._image()

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is not None:
            for name in ("anchor", "w", "first", "second", "x"):
                setattr(self, name, getattr(self, name)[stay])

    def restart(self, begun: Tensor) -> None:
        """Put the samples marked in begun (R,) back to their inputs, and forget their moments."""
        if bool(begun.any()):
            back = begun.unsqueeze(1)
            self.w = torch.where(back, self.anchor, self.w)
            self.first, self.second = (
                self.first.masked_fill(back, 0.0),
                self.second.masked_fill(back, 0.0),
            )
            self.x = self._image()


register(
    AttackSpec(
        "cw",
        cw,
        title="C&W",
        access="gradients",
        family="minimum-norm",
        summary=(
            "Minimises the L2 distortion with Adam in tanh space, where the box needs no clipping."
        ),
        paper=(
            "Carlini, Wagner. Towards evaluating the robustness of neural networks. IEEE S&P 2017."
        ),
        page="ead.md",
        lengths=("num_steps", "search_steps"),
        tanh=True,
        url="https://arxiv.org/abs/1608.04644",
        hosts={
            "art": Shell(name="CarliniWagner"),
            "torchattacks": Shell(reason="torchattacks has CW itself"),
        },
    )
)
