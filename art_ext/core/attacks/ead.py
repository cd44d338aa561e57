"""EAD: elastic-net attacks, by the fast iterative shrinkage-thresholding algorithm (FISTA)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.calling import outside_inference_mode
from art_ext.core.cases import with_cases
from art_ext.core.checks import check_choice, check_not_negative, check_positive
from art_ext.core.constant_search import ConstantSearch
from art_ext.core.geometry import row_norms
from art_ext.core.nearest import NearestOptions, NearestRun, spelled_out
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.run import RunKeywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

DECISION_RULES = ("EN", "L1", "L2")
MOMENTA = {"program": (1, 4), "print": (0, 3)}  # a and b of zeta_k = (k + a) / (k + b)


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[RunKeywords],
) -> AttackResult:
    """Find the adversarial of least elastic-net distortion.

    Solves ``min_x' c f(x') + beta ||x' - x||_1 + ||x' - x||_2^2 s.t. x' in the box`` (16) with
    ``f = max(max_{j != t} z_j - z_t, -kappa)`` (9), or ``max(z_y - max_{j != y} z_j, -kappa)``
    untargeted, by Algorithm 4: ``x_{k+1} = S_beta(y_k - alpha_k grad g(y_k))``, ``y_{k+1} = x_{k+1}
    + zeta_k (x_{k+1} - x_k)``, g being the objective without its L1 term, S_beta the projected
    shrinkage (18), ``alpha_k = alpha_0 sqrt(1 - k/I)``. c is searched per sample, each time from x
    itself. With ``beta=0`` it is projected accelerated descent on the objective of C&W.

    Differences from the paper, as in the authors' program: ``zeta_k`` is ``(k+1)/(k+4)``
    (``momentum="print"`` takes the paper's ``k/(k+3)``), and the threshold is beta itself, not
    ``alpha_k beta``, so that the L1 weight that a step applies is ``beta / alpha_k``; published
    numbers depend on both. Differences from that program: an optimisation is given up per sample,
    not per batch, and by default not once it has met the goal (its last iterations shrink the
    perturbation most, while the loss hardly falls); and a failure returns the input, not a grey
    image.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x;
            None counts any.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how ``distance`` and eps are measured.
        beta: weight of the L1 term, >= 0.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have.
        step_size: alpha_0.
        num_steps: I, iterations of each optimisation.
        search_steps: optimisations per sample, each with its own c.
        initial_const: the first c.
        decision_rule: which success is reported: that of least ``beta ||.||_1 + ||.||_2^2``
            (``"EN"``), of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion.
        momentum: zeta_k, k counting from 0: ``"program"``, ``(k+1)/(k+4)``; ``"print"``,
            ``k/(k+3)``, which starts without momentum.
        abort_early: give a sample's optimisation up where its loss, compared every I/10 iterations,
            stands still: True, unless it has met the goal by then; ``"always"``, as the authors'
            program; False, never.
        targets: (N,) classes to reach, or a case. ``"average"``: a random wrong class for each
            sample. ``"best"``: the wrong class of the smallest value by the attack's own rule, here
            ``decision_rule``. ``"worst"``: the one of the largest. ``"all"``: the best case, with
            the examples of all K - 1 wrong classes in ``samples`` (K - 1, N, *S), their classes in
            ``trace["target"]`` and ``trace["success"]``, each (K - 1, N);
            ``art_ext.core.metrics.case_distortions`` reads them. All but ``"average"`` attack all
            wrong classes side by side.
        max_queries: most forward rows per sample, the clean check included (in the best and worst
            case shared evenly among the classes); None for no limit. What is found by then is
            reported.
        **options: the keywords of ``art_ext.core.nearest.NearestOptions``.

    Returns:
        An ``AttackResult``. ``x_adv`` is the success that the rule chose and ``distance`` its
        distance. ``x_nearest`` and ``nearest_distance`` are the nearest in ``norm`` of all that
        were seen (with ``targets`` of several classes, of all of these). A query is one row
        forward: the clean check and, per iteration, the check of x_k and the forward of the
        gradient at y_k; the first gradient of each optimisation is that of the clean check, and
        ``gradients`` counts it once. ``trace["const"]`` and ``trace["value"]`` (search_steps, N)
        hold each c and the best value of the rule so far.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Chen, Sharma, Zhang, Yi, Hsieh, "EAD: elastic-net attacks to deep neural networks via
        adversarial examples", AAAI 2018. Sharma, master's thesis, 2018, chapter 4 (the equation and
        algorithm numbers).
    """
    check_not_negative("beta", beta)
    check_positive("step_size", step_size)
    check_choice("decision_rule", decision_rule, DECISION_RULES)
    check_choice("momentum", momentum, tuple(MOMENTA))
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
        slope = run.open(run.hinge, differentiate=max_queries != 1)
        search = ConstantSearch(
            run,
            num_steps=num_steps,
            search_steps=search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
        )
        path = _Fista(run, search, slope, beta, step_size, MOMENTA[momentum])
        while len(run.index):
            path.advance()
            met, hinge, _ = run.look(path.x, run.hinge, differentiate=False)
            offset = path.x - run.x
            absolute, squared = row_norms(offset, "l1"), row_norms(offset, "l2").square()
            elastic = squared + beta * absolute
            _, ended = search.judge(search.const * hinge + elastic, met)
            run.record(path.x, met, {"EN": elastic, "L1": absolute, "L2": squared}[decision_rule])
            finished = search.close(ended)
            stay = run.drop(finished | run.short_of(2 - ended.to(torch.int64)))
            path.select(stay)
            search.select(stay)
            path.restart(ended if stay is None else ended[stay])
    return run.result()


class _Fista:
    """Algorithm 4 for the live samples, each at an iteration of its own.

    Attributes:
        x: (R, D) the iterates x_k.
        ahead: (R, D) the slack y_k, which momentum has carried further; it may lie outside the box.
    """

    def __init__(
        self,
        run: NearestRun,
        search: ConstantSearch,
        slope: Tensor | None,
        beta: float,
        step_size: float,
        momentum: tuple[int, int],
    ) -> None:
        self.momentum = momentum
        self.run, self.search, self.beta, self.step_size = run, search, beta, step_size
        self.x = self.ahead = run.x
        # of the hinge, at the clean input
        self.first_slope = torch.zeros_like(run.x) if slope is None else slope
        self.begun = torch.ones_like(search.hit)

    def restart(self, begun: Tensor) -> None:
        """Put the samples marked in begun (R,) back to their inputs."""
        self.begun = begun
        if bool(begun.any()):
            back = begun.unsqueeze(1)
            self.x = torch.where(back, self.run.x, self.x)
            self.ahead = torch.where(back, self.run.x, self.ahead)

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is not None:
            self.x, self.ahead, self.first_slope = (
                self.x[stay],
                self.ahead[stay],
                self.first_slope[stay],
            )

    def advance(self) -> None:
        """One iteration: x_{k+1} and y_{k+1}."""
        k = self.search.iteration.unsqueeze(1).to(torch.float32)
        rate = self.step_size * (1 - k / self.search.num_steps).sqrt()
        # y - alpha (c grad f + 2 (y - x_0)), as an offset from x_0
        offset = (self.ahead - self.run.x) * (1 - 2 * rate) - self._slope() * (
            rate * self.search.weight
        )
        new = self.run.clip(self.run.x + functional.softshrink(offset, self.beta))
        above, below = self.momentum
        self.ahead = new + (k + above) / (k + below) * (new - self.x)
        self.x = new

    def _slope(self) -> Tensor:
        """(R, D) gradients of the hinge at y_k; those at the clean input are known."""
        going = (~self.begun).nonzero().squeeze(1)
        if not len(going):
            return self.first_slope
        if len(going) == len(self.begun):
            return self.run.slope(self.ahead, self.run.hinge, going)
        return self.first_slope.index_copy(
            0, going, self.run.slope(self.ahead[going], self.run.hinge, going)
        )


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
        page="ead.md",
        lengths=("num_steps", "search_steps"),
        url="https://arxiv.org/abs/1709.04114",
        hosts={
            "art": Shell(
                name="ElasticNetPyTorch",
                model="classifier",
                summary=("White-box attack of least elastic-net distortion: few features change."),
                notes=(
                    "It follows the authors' program. ART's own ``ElasticNet`` has another"
                    " momentum, drops the distortion from the gradient where the goal is met, and"
                    " has no ``confidence`` in its test of success."
                ),
                parameters=(
                    "confidence targeted learning_rate binary_search_steps max_iter beta"
                    " initial_const batch_size decision_rule verbose abort_early norm eps outputs"
                    " max_queries seed probe"
                ),
                defaults={"max_iter": 100},
                texts={
                    "confidence": (
                        "kappa >= 0, the margin between logits (or logarithms of probabilities)"
                        " that a success must have."
                    ),
                    "learning_rate": "alpha_0, of the first step.",
                    "binary_search_steps": "optimisations per sample, each with its own c.",
                    "max_iter": (
                        "iterations of each optimisation, by ART's custom 100 (the paper takes"
                        " 1000)."
                    ),
                    "beta": "weight of the L1 term, >= 0.",
                    "initial_const": "the first c.",
                    "batch_size": "most rows in one prediction. ART's own takes 1.",
                    "decision_rule": (
                        "which success is reported: that of least ``beta L1 + L2^2``"
                        ' (``"EN"``), of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion.'
                    ),
                    "abort_early": (
                        "end a sample's optimisation where its loss stands still: True, unless it"
                        ' has reached the goal by then, ``"always"``, or False, never, as ART\'s'
                        " own."
                    ),
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
                    "kappa": "margin between logits that a success must have.",
                    "lr": "alpha_0, of the first step.",
                    "binary_search_steps": "optimisations per image, each with its own c.",
                    "max_iterations": (
                        "iterations of each optimisation, by torchattacks' custom. The paper's"
                        " 1000 come nearer."
                    ),
                    "abort_early": (
                        "end an image's optimisation where its loss stands still: True, unless it"
                        " has reached the goal by then, 'always', or False, never."
                    ),
                    "initial_const": "the first c.",
                    "beta": "weight of the L1 term.",
                    "decision_rule": (
                        "which success is reported: that of least beta L1 + L2^2 ('EN'), of least"
                        " L1 ('L1') or of least L2 ('L2')."
                    ),
                },
                example="kappa=0, lr=0.01, max_iterations=1000",
                shown="attack.last_result.distance",
            ),
        },
    )
)
