"""How much a model's answer moves within a ball: perturbation stability and the local Lipschitz constant.

References:
    Wu, Chen, Cai, He, Gu, "Do wider neural networks really help adversarial robustness?", NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count, check_positive
from art_ext.core.geometry import Ball, ClipValues, check_ball, exact_mean, row_norms
from art_ext.core.keywords import any_norm, checked_keywords
from art_ext.core.losses import logits_of
from art_ext.core.metrics.chain import predictions
from art_ext.core.oracle import GradientOracle, Model
from art_ext.core.problem import admit
from art_ext.core.streams import fingerprint


@dataclass(frozen=True, eq=False)
class LocalLipschitz:
    """The local Lipschitz constant of a model on some samples.

    Attributes:
        mean: of ``values``; NaN for no sample.
        values: (N,) one for each sample, on the CPU.
    """

    mean: float
    values: Tensor


@checked_keywords
@outside_inference_mode()
def perturbation_stability(
    model: Model,
    x: Tensor,
    x_adv: Tensor,
    *,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> float:
    """Share of samples whose prediction the perturbation leaves: ``P(argmax f(x') = argmax f(x))``, right or wrong.

    Robust accuracy is at least stability + clean accuracy - 1.

    Args:
        model: an ``nn.Module`` or a callable; run in eval mode, without charge.
        x: (N, *S) clean inputs.
        x_adv: (N, *S) the perturbed ones: the last iterates of an attack (``on_failure="last"``), because the inputs
            that an attack hands back where it failed would count as stable.
        outputs, batch_size, device: as for ``transfer_success``.

    A row for which the model returns NaN counts as changed. NaN for no sample.

    Raises:
        ValueError: if the shapes differ.
    """
    if x.shape != x_adv.shape:
        raise ValueError(f"x and x_adv must have one shape, got {tuple(x.shape)} and {tuple(x_adv.shape)}")
    if not len(x):
        return torch.nan
    clean, moved = predictions(model, torch.stack([x, x_adv]), outputs, batch_size, device)
    return exact_mean((clean == moved) & (clean >= 0))


@checked_keywords
@any_norm
@outside_inference_mode()
def local_lipschitz(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    outputs: str = "logits",
    clip_values: ClipValues = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> LocalLipschitz:
    """The largest input gradient that an attack meets: ``max_t ||grad_{x_t} KL(p(x) || p(x_t))||_1`` for each sample.

    x_t are the iterates of a projected ascent of the same divergence, from a point drawn uniformly from the ball. (The
    authors' program sums the batch's gradients before it takes the norm of each; ours are each sample's own.)

    Args:
        model: an ``nn.Module`` or a differentiable callable.
        x: (N, *S) floats in the box.
        eps: radius of the ball.
        norm: of the ball; the gradient is measured in L1 whatever it is, the dual of L-inf.
        num_steps: iterates, each of which costs one forward and one backward.
        step_size: in the units of x; None takes ``2.5 eps / num_steps``.
        outputs, clip_values, batch_size, device: as for the attacks.
        seed: of the starting points.

    Raises:
        ValueError: for arguments that make no sense, or a model without gradients.
    """
    check_count("num_steps", num_steps)
    check_positive("eps", eps)
    oracle = GradientOracle(
        model, len(x), outputs=outputs, batch_size=batch_size, clip_values=clip_values, device=device,
        default_device=x.device,
    )  # fmt: skip
    x, box = admit(oracle, x)
    check_ball(norm, eps, box)
    length = 2.5 * eps / num_steps if step_size is None else step_size
    index = torch.arange(len(x), device=x.device)
    largest = torch.zeros(len(x), device=x.device)
    if not len(x):
        return LocalLipschitz(torch.nan, largest.cpu())
    ball = Ball(x, eps, norm, box)
    rows = ball.into(ball.draw(seed, fingerprint(x), 0))
    with oracle:
        clean = log_softmax(logits_of(oracle.scores(x, index), outputs), dim=1)

        def divergence(answers: Tensor, owner: Tensor) -> Tensor:
            log_q = log_softmax(logits_of(answers, outputs), dim=1)
            return kl_div(log_q, clean[owner], reduction="none", log_target=True).sum(dim=1)

        for _ in range(num_steps):
            gradient = oracle.gradient(rows, index, divergence).gradient
            largest = torch.maximum(largest, row_norms(gradient, "l1"))
            rows = ball.step(rows, gradient, length)
    return LocalLipschitz(exact_mean(largest), largest.cpu())
