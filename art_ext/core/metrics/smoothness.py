"""Sensitivity of a model inside a ball: stability, increment of the loss, local Lipschitz constant.

References:
    Wu, Chen, Cai, He, Gu, "Do wider neural networks really help adversarial robustness?", NeurIPS
    2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import Ball, ClipValues, check_ball, exact_mean, row_norms
from art_ext.core.keywords import public
from art_ext.core.losses import Loss, logits_of
from art_ext.core.metrics.chain import predictions
from art_ext.core.oracle import GradientOracle, Model, ScoreOracle
from art_ext.core.samples import admit, check_classes, check_width
from art_ext.core.streams import fingerprint

LOSSES = ("kl", "ce")


@dataclass(frozen=True, eq=False)
class LocalLipschitz:
    """Local Lipschitz constant of a model on some samples.

    Attributes:
        mean: mean of ``values``. NaN without a sample.
        values: (N,) one per sample, on the CPU.
    """

    mean: float
    values: Tensor


@public()
def perturbation_stability(
    model: Model,
    x: Tensor,
    x_adv: Tensor,
    *,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> float:
    """Compute the fraction of unchanged predictions ``P(argmax f(x') = argmax f(x))``.

    A prediction counts whether it is correct or not. Robust accuracy is at least stability + clean
    accuracy - 1. A row for which the model returns NaN counts as changed. Without a sample the
    result is NaN.

    Args:
        model: an ``nn.Module`` or a callable, run in eval mode. No query is charged.
        x: (N, *S) clean inputs.
        x_adv: (N, *S) the perturbed ones. Pass the last iterates of an attack
            (``on_failure="last"``), because inputs that an attack returns unchanged after a failure
            would count as stable.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_one_shape(x, x_adv)
    if not len(x):
        return torch.nan
    clean, moved = predictions(model, torch.stack([x, x_adv]), outputs, batch_size, device)
    return exact_mean((clean == moved) & (clean >= 0))


def check_loss(loss: str, y: Tensor | None, count: int) -> None:
    """Raise ValueError unless the loss is known, and y (count,) classes that it takes, or None."""
    check_choice("loss", loss, LOSSES)
    if y is not None:
        if loss == "kl":
            raise ValueError("y belongs to loss='ce'; the divergence needs no classes")
        check_classes("y", y, count)


def _check_one_shape(x: Tensor, x_adv: Tensor) -> None:
    if x.shape != x_adv.shape:
        raise ValueError(
            f"x and x_adv must have one shape, got {tuple(x.shape)} and {tuple(x_adv.shape)}"
        )


@public()
def loss_increment(
    model: Model,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    *,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> Tensor:
    """Compute the increment of the loss of each sample, ``L(f(x'), y) - L(f(x), y)``.

    L is the cross-entropy. The dissertation draws the mean over training examples against the
    epochs (Figure 6.1). Examples that lower the loss were crafted in vain.

    Args:
        model: an ``nn.Module`` or a callable, run in eval mode. No query is charged.
        x: (N, *S) clean inputs.
        x_adv: (N, *S) the perturbed ones.
        y: (N,) true classes.
        outputs: what the model returns: ``"logits"`` or ``"probabilities"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Returns:
        (N,) increments, on the CPU.

    Raises:
        ValueError: if the shapes differ, or a class has no column in the model's outputs.

    References:
        Jinghui Chen, dissertation, UCLA 2021, Figure 6.1.
    """
    _check_one_shape(x, x_adv)
    check_classes("y", y, len(x))
    if not len(x):
        return torch.zeros(0)
    oracle = ScoreOracle(
        model,
        len(x),
        outputs=outputs,
        batch_size=batch_size,
        device=device,
        default_device=x.device,
    )
    index = torch.arange(len(x), device=oracle.device)
    labels = y.to(oracle.device, torch.int64)
    with oracle, torch.no_grad():
        clean, moved = (
            oracle.scores(rows.detach().to(oracle.device, torch.float32), index)
            for rows in (x, x_adv)
        )
        check_width("y", y, oracle)
        lose = _cross_entropy(clean, labels, outputs)
        return (lose(moved, index) - lose(clean, index)).cpu()


@public()
def local_lipschitz(
    model: Model,
    x: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    loss: str = "kl",
    y: Tensor | None = None,
    outputs: str = "logits",
    clip_values: ClipValues = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> LocalLipschitz:
    """Compute the largest L1 norm of the loss' input gradient along an attack, for each sample.

    ``max_t ||grad_{x_t} L(x_t)||_1`` with L the divergence ``KL(p(x) || p(x_t))``, or the
    cross-entropy. x_t are the iterates of a projected ascent of L, from a point drawn uniformly
    from the ball.

    The reference implementation takes each sample's own norm too. It logs the sum of these over a
    batch, which is the batch size times the mean.

    Args:
        model: an ``nn.Module`` or a differentiable callable.
        x: (N, *S) floats in the box.
        eps: radius of the ball.
        norm: norm of the ball. The gradient is always measured in L1, the dual of L-inf.
        num_steps: number of iterates, each of which costs one forward and one backward.
        step_size: in the units of x. None: ``2.5 eps / num_steps``.
        loss: L, ``"kl"`` or, for networks that TRADES did not train, ``"ce"``.
        y: (N,) classes of ``"ce"``. None: the model's predictions.
        outputs: what the model returns: ``"logits"`` or ``"probabilities"``.
        clip_values: the box (lower, upper), as numbers or one value per feature.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.
        seed: seed of the starting points.

    Raises:
        ValueError: for arguments out of range, or a model without gradients.
    """
    check_count("num_steps", num_steps)
    check_positive("eps", eps)
    check_loss(loss, y, len(x))
    oracle = GradientOracle(
        model,
        len(x),
        outputs=outputs,
        batch_size=batch_size,
        clip_values=clip_values,
        device=device,
        default_device=x.device,
    )
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
        clean = oracle.scores(x, index)
        if y is not None:
            check_width("y", y, oracle)
        ascended = (
            _divergence(clean, outputs) if loss == "kl" else _cross_entropy(clean, y, outputs)
        )
        for _ in range(num_steps):
            gradient = oracle.gradient(rows, index, ascended).gradient
            largest = torch.maximum(largest, row_norms(gradient, "l1"))
            rows = ball.step(rows, gradient, length)
    return LocalLipschitz(exact_mean(largest), largest.cpu())


def _divergence(clean: Tensor, outputs: str) -> Loss:
    """Return the loss ``KL(p(x) || p(x_t))`` of clean outputs (N, K) and those of an iterate."""
    log_p = log_softmax(logits_of(clean, outputs), dim=1)

    def divergence(answers: Tensor, owner: Tensor) -> Tensor:
        log_q = log_softmax(logits_of(answers, outputs), dim=1)
        return kl_div(log_q, log_p[owner], reduction="none", log_target=True).sum(dim=1)

    return divergence


def _cross_entropy(clean: Tensor, y: Tensor | None, outputs: str) -> Loss:
    """Return the cross-entropy of the classes y (N,), or of those predicted from clean outputs."""
    labels = clean.argmax(dim=1) if y is None else y.to(clean.device, torch.int64)
    return lambda answers, owner: cross_entropy(
        logits_of(answers, outputs), labels[owner], reduction="none"
    )
