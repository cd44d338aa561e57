"""EAD: elastic-net attacks, by the fast iterative shrinkage-thresholding algorithm (FISTA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.attacks.engine.cases import with_cases
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Optimiser
from art_ext.core.attacks.engine.options import MinimumNormOptions
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_not_negative, check_positive
from art_ext.core.geometry import row_norms
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

DECISION_RULES = ("EN", "L1", "L2")
MOMENTA = {"program": (1, 4), "print": (0, 3)}  # a and b of zeta_k = (k + a) / (k + b)


@dataclass(eq=False)
class FistaState(State):
    """The iterates x_k, and the points that momentum has carried further.

    Attributes:
        ahead: (R, D) the slack y_k. It may lie outside the box.
        clean_slope: (R, D) the gradient of the hinge at the clean inputs.
    """

    ahead: Tensor
    clean_slope: Tensor


@dataclass(frozen=True, kw_only=True)
class Fista(Optimiser[FistaState]):
    """Algorithm 4, with each row at an iteration of its own.

    Attributes:
        beta: weight of the L1 term, >= 0. Default: 1e-3.
        step_size: alpha_0, > 0. Default: 1e-2.
        decision_rule: the success that is reported: that of least ``beta ||.||_1 + ||.||_2^2``
            (``"EN"``), of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion. Default: EN.
        momentum: zeta_k, k counting from 0: ``"program"``, ``(k+1)/(k+4)``, or ``"print"``,
            ``k/(k+3)``, which starts without momentum. Default: program.
    """

    beta: float
    step_size: float
    decision_rule: str
    momentum: str
    needs_gradient = False

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)
        check_positive("step_size", self.step_size)
        check_choice("decision_rule", self.decision_rule, DECISION_RULES)
        check_choice("momentum", self.momentum, tuple(MOMENTA))

    def init(self, problem: Problem, slope: Tensor) -> FistaState:
        """Return the inputs."""
        return FistaState(problem.x, problem.x, slope)

    def step(
        self, problem: Problem, state: FistaState, answers: Answers | None, search: ConstantSearch
    ) -> FistaState:
        """x_{k+1} and y_{k+1}."""
        x, ahead = state.x, state.ahead
        if search.begun is not None:
            begun = search.begun.unsqueeze(1)
            x = torch.where(begun, problem.x, x)
            ahead = torch.where(begun, problem.x, ahead)
        k = search.at.iteration.unsqueeze(1).to(torch.float32)
        rate = self.step_size * (1 - k / search.num_steps).sqrt()
        slope = self._slope(problem, ahead, state.clean_slope, search.begun)
        # y - alpha (c grad f + 2 (y - x_0)), as an offset from x_0
        offset = (ahead - problem.x) * (1 - 2 * rate) - slope * (rate * search.weight)
        new = problem.clip(problem.x + functional.softshrink(offset, self.beta))  # (18)
        above, below = MOMENTA[self.momentum]
        return FistaState(new, new + (k + above) / (k + below) * (new - x), state.clean_slope)

    def measure(self, problem: Problem, state: FistaState) -> tuple[Tensor, Tensor]:
        """Return the elastic net, and the value of the decision rule."""
        offset = state.x - problem.x
        absolute = row_norms(offset, "l1")
        squared = row_norms(offset, "l2").square()
        elastic = squared + self.beta * absolute
        return elastic, {"EN": elastic, "L1": absolute, "L2": squared}[self.decision_rule]

    def cost(self, begun: Tensor | None) -> Tensor | int:
        """One query for the gradient, unless it is that of the clean check, and one for x_k."""
        return 2 if begun is None else 2 - begun.to(torch.int64)

    def planned_rows(self, search: ConstantSearch) -> PlannedRows:
        """Two answers for each iteration, one of them with a gradient, and the clean check, whose
        gradient is the first of each optimisation.
        """
        slopes = search.most_steps - search.most_optimisations
        return PlannedRows(1 + search.most_steps + slopes, 1 + slopes)

    def _slope(
        self, problem: Problem, ahead: Tensor, clean_slope: Tensor, begun: Tensor | None
    ) -> Tensor:
        """(R, D) gradients of the hinge at y_k. Those at the clean input are known."""
        if begun is None:
            return problem.query(ahead, problem.index, problem.gain, True, verify=False)[2]  # type: ignore[return-value]  # as asked
        going = (~begun).nonzero().squeeze(1)
        if not len(going):
            return clean_slope
        index = problem.index[going]
        slope = problem.query(
            ahead[going], index, problem.gain, True, positions=going, verify=False
        )[2]
        return clean_slope.index_copy(0, going, slope)  # type: ignore[arg-type]  # as asked


@public(MinimumNormOptions, Fista, ConstantSearch, MinimumNorm)
@with_cases
def ead(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l1",
    beta: float = 1e-3,
    confidence: float = 0.0,
    step_size: float = 1e-2,
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 1e-3,
    decision_rule: str = "EN",
    momentum: str = "program",
    abort_early: bool | str = True,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Any,
) -> AttackResult:
    """EAD minimum-norm attack: the adversarial of least elastic-net distortion.

    Solves ``min_x' c f(x') + beta ||x' - x||_1 + ||x' - x||_2^2 s.t. x' in the box`` (16) with
    ``f = max(max_{j != t} z_j - z_t, -kappa)`` (9), or ``max(z_y - max_{j != y} z_j, -kappa)``
    untargeted, by Algorithm 4: ``x_{k+1} = S_beta(y_k - alpha_k grad g(y_k))``, ``y_{k+1} = x_{k+1}
    + zeta_k (x_{k+1} - x_k)``, g being the objective without its L1 term, S_beta the projected
    shrinkage (18), ``alpha_k = alpha_0 sqrt(1 - k/I)``. c is searched per sample, each time from x
    itself. With ``beta=0`` it is projected accelerated descent on the objective of C&W.

    Args:
        norm: of ``distance`` and eps, ``"linf"``, ``"l2"`` or ``"l1"``. Default: l1.
        num_steps: I, iterations of each optimisation. Default: 1000.
        initial_const: the first c, > 0. Default: 1e-3.

    Returns:
        An ``AttackResult``. ``x_adv`` is the success that the rule chose and ``distance`` its
        distance. ``x_nearest`` and ``nearest_distance`` are the nearest in ``norm`` of all that
        were seen (with ``targets`` of several classes, of all of these). A query is one row
        forward: the clean check and, per iteration, the check of x_k and the forward of the
        gradient at y_k. The first gradient of each optimisation is that of the clean check, and
        ``gradients`` counts it once. ``trace["const"]`` and ``trace["value"]`` (search_steps, N)
        hold each c and the best value of the rule so far. With ``max_queries`` what is found by
        then is reported.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        As in the reference implementation, ``zeta_k`` is ``(k+1)/(k+4)`` (``momentum="print"``
        takes the paper's ``k/(k+3)``), and the threshold is beta itself, not ``alpha_k beta``, so
        that the L1 weight that a step applies is ``beta / alpha_k``. Published numbers depend on
        both. Unlike the reference implementation, an optimisation is given up per sample, not per
        batch, and by default not once it has succeeded (its last iterations shrink the perturbation
        most, while the loss hardly falls). A failure returns the input, not a grey image.

    References:
        Chen, Sharma, Zhang, Yi, Hsieh, "EAD: elastic-net attacks to deep neural networks via
        adversarial examples", AAAI 2018. Sharma, master's thesis, 2018, chapter 4 (the equation and
        algorithm numbers).
    """
    method = Fista(beta=beta, step_size=step_size, decision_rule=decision_rule, momentum=momentum)
    search = ConstantSearch(
        num_steps=num_steps,
        search_steps=search_steps,
        initial_const=initial_const,
        abort_early=abort_early,
    )
    driver = MinimumNorm(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        confidence=confidence,
        targets=targets,
        max_queries=max_queries,
        **options,
    )
    return driver.run(method, search)


register(
    AttackSpec(
        "ead",
        ead,
        title="EAD",
        access="gradients",
        family="minimum-norm",
        summary=(
            "Minimises the elastic net beta L1 + L2^2 of the perturbation by shrinkage-"
            "thresholding."
        ),
        paper=(
            "Chen, Sharma, Zhang, Yi, Hsieh. EAD: elastic-net attacks to deep neural "
            "networks via adversarial examples. AAAI 2018."
        ),
        page="attacks/ead.md",
        url="https://arxiv.org/abs/1709.04114",
        hosts={
            "art": Shell(
                name="ElasticNetPyTorch",
                model="classifier",
                summary=("White-box attack of least elastic-net distortion: few features change."),
                notes=(
                    "It follows the reference implementation. ART's own ``ElasticNet`` has another"
                    " momentum, drops the distortion from the gradient where the goal is reached,"
                    " and has no ``confidence`` in its test of success."
                ),
                parameters=(
                    "confidence targeted learning_rate binary_search_steps max_iter beta"
                    " initial_const batch_size decision_rule verbose abort_early norm eps outputs"
                    " max_queries seed probe"
                ),
                defaults={"max_iter": 100},
                texts={
                    "max_iter": (
                        "iterations of each optimisation, by ART's custom 100 (the paper takes"
                        " 1000)."
                    ),
                    "batch_size": "most rows in one prediction. ART's own takes 1.",
                    "seed": "recorded only. This attack draws no random number.",
                },
            ),
            "torchattacks": Shell(
                name="EAD",
                summary="EAD (Chen et al., 2018): elastic-net attack, FISTA in a search over c.",
                measure="L1 and L2",
                notes=(
                    "The arguments are those of torchattacks' own EADEN and EADL1, which carry"
                    " iterates over from one c to the next and measure distances to an image that"
                    " drifts."
                ),
                parameters=(
                    "kappa lr binary_search_steps max_iterations abort_early initial_const beta"
                    " decision_rule norm eps max_queries batch_size probe"
                ),
                defaults={"kappa": 0, "max_iterations": 100},
                texts={
                    "max_iterations": (
                        "iterations of each optimisation, by torchattacks' custom. The paper's"
                        " 1000 come nearer."
                    )
                },
                example="kappa=0, lr=0.01, max_iterations=1000",
                shown="attack.last_result.distance",
            ),
        },
    )
)
