"""Curvature of a model's loss at its inputs: the largest eigenvalue of the input Hessian.

References:
    Jinghui Chen, dissertation, UCLA 2021, section 6.4 and Figure 6.3. Lanczos, "An iteration method
    for the solution of the eigenvalue problem of linear differential and integral operators", 1950.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import ClipValues, exact_dtype, exact_mean
from art_ext.core.keywords import public
from art_ext.core.losses import logits_of
from art_ext.core.metrics.smoothness import check_loss
from art_ext.core.oracle import GradientOracle, Model
from art_ext.core.samples import admit, check_width
from art_ext.core.streams import fingerprint, normal

WHICH = ("algebraic", "magnitude")
Product = Callable[[Tensor], Tensor]  # from vectors (R, D) to H v (R, D), each by its own Hessian


@dataclass(frozen=True, eq=False)
class HessianEigenvalue:
    """Largest eigenvalue of the input Hessian of some samples.

    Attributes:
        mean: mean of ``values``. NaN without a sample.
        values: (N,) one per sample, on the CPU.
        residual: (N,) norm ``||H v - lambda v||_2`` for the unit vector v that belongs to each
            value, on the CPU. An eigenvalue of H lies within this distance of the value.
    """

    mean: float
    values: Tensor
    residual: Tensor


@public()
def hessian_eigenvalue(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    loss: str = "ce",
    num_iterations: int = 30,
    which: str = "algebraic",
    outputs: str = "logits",
    clip_values: ClipValues = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> HessianEigenvalue:
    """Compute the largest eigenvalue of each sample's input Hessian.

    ``lambda = max_{||v||_2 = 1} v^T H v`` with ``H = grad^2_x L(f(x), y)``. A power iteration that
    keeps its coefficients (Lanczos) approximates it by Hessian-vector products. All samples of a
    batch share each product. The value is the largest one in the space of the power iterates. It
    never exceeds lambda but for rounding, and no second iteration on a shifted matrix is needed if
    the eigenvalue of largest magnitude is negative.

    ReLU networks are piecewise linear. Their Hessian is that of the softmax alone, and has no
    negative eigenvalue.

    Args:
        model: an ``nn.Module`` or a differentiable callable, run in eval mode. It must be
            differentiable twice. No query is charged.
        x: (N, *S) floats in the box.
        y: (N,) classes of ``"ce"``. Default: None, the model's predictions.
        loss: L, ``"ce"``, or ``"kl"`` for ``KL(p(x_0) || p(x))`` at ``x = x_0``, whose Hessian is
            the Fisher information. Default: ce.
        num_iterations: number of Hessian-vector products per sample, each of which costs about two
            backwards. Default: 30.
        which: ``"algebraic"``, the largest eigenvalue, or ``"magnitude"``, that of the largest
            magnitude, which may be negative. Default: algebraic.
        outputs: what the model returns: ``"logits"`` or ``"probabilities"``.
        clip_values: the box (lower, upper), as numbers or one value per feature.
        batch_size: maximum number of rows in one model call.
        seed: seed of the first vectors. They are keyed by the samples.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: for arguments out of range, or a model that is not differentiable twice.

    Differences from the paper:
        The dissertation says nothing of its method. Plain power iteration needs a second run for an
        indefinite H, and is slower if two eigenvalues are close.

    References:
        Jinghui Chen, dissertation, UCLA 2021, section 6.4 and Figure 6.3. Lanczos, "An iteration
        method for the solution of the eigenvalue problem of linear differential and integral
        operators", 1950.
    """
    check_count("num_iterations", num_iterations)
    check_loss(loss, y, len(x))
    check_choice("which", which, WHICH)
    oracle = GradientOracle(
        model,
        len(x),
        outputs=outputs,
        batch_size=batch_size,
        clip_values=clip_values,
        device=device,
        default_device=x.device,
    )
    x, _ = admit(oracle, x)
    if not len(x):
        return HessianEigenvalue(torch.nan, torch.zeros(0), torch.zeros(0))
    start = normal(seed, fingerprint(x), 0, tuple(x.shape[1:])).flatten(1)
    values = []
    residuals = []
    with oracle:
        if y is not None:
            oracle.scores(x[:1], torch.zeros(1, dtype=torch.int64, device=x.device))
            check_width("y", y, oracle)
        for rows, index in oracle.passes.slices(x, torch.arange(len(x), device=x.device)):
            labels = None if y is None else y[index.to(y.device)].to(x.device, torch.int64)
            product = _hessian(oracle, rows, index, loss, labels)
            value, residual = extreme_eigenvalue(product, start[index], num_iterations, which)
            values.append(value.cpu())
            residuals.append(residual.cpu())
    found = torch.cat(values)
    return HessianEigenvalue(exact_mean(found), found, torch.cat(residuals))


def _hessian(
    oracle: GradientOracle, rows: Tensor, index: Tensor, loss: str, y: Tensor | None
) -> Product:
    """Return the product with the Hessians at rows (r, *S). Forward and gradient run once."""
    # no other kernel of attention has a second derivative
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaf = rows.detach().requires_grad_(True)
        answer = oracle.passes.read(oracle.passes.model_call(leaf), leaf, index)
        logits = logits_of(answer, oracle.outputs)
        if loss == "kl":
            log_q = log_softmax(logits, dim=1)
            losses = kl_div(log_q, log_q.detach(), reduction="sum", log_target=True)
        else:
            losses = cross_entropy(
                logits, logits.argmax(dim=1) if y is None else y, reduction="sum"
            )
        if not losses.requires_grad:
            raise ValueError(
                "the model's output does not depend on the input through autograd: the Hessian"
                " needs a model that is differentiable twice"
            )
        (gradient,) = torch.autograd.grad(losses, leaf, create_graph=True)

    def product(v: Tensor) -> Tensor:
        try:
            (found,) = torch.autograd.grad(gradient, leaf, v.view_as(leaf), retain_graph=True)
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"the model must be differentiable twice, but its second derivative fails: {error}"
            ) from error
        return found.flatten(1)

    return product


def extreme_eigenvalue(
    product: Product, start: Tensor, num_iterations: int, which: str
) -> tuple[Tensor, Tensor]:
    """Return the extreme eigenvalue of each of R symmetric matrices, and its residual, (R,) both.

    Lanczos' recurrence ``beta_k v_{k+1} = H v_k - alpha_k v_k - beta_{k-1} v_{k-1}`` without new
    orthogonalisation. Rounding then adds copies of eigenvalues that were found already, which
    leaves the extreme ones as they are.

    Args:
        product: multiplies vectors (R, D) by the matrices.
        start: (R, D) first vectors, of any length.
        num_iterations: number of products.
        which: ``"algebraic"`` or ``"magnitude"``.
    """
    v = _unit(start, torch.linalg.vector_norm(start, dim=1))
    before = torch.zeros_like(v)
    beta = start.new_zeros(len(start))
    scale = beta
    tiny = torch.finfo(start.dtype).eps
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    for _ in range(num_iterations):
        w = product(v).addcmul(beta.unsqueeze(1), before, value=-1)
        alpha = torch.linalg.vecdot(w, v)
        if alphas:  # a row whose space is exhausted repeats a value that lies in its spectrum
            alpha = torch.where(beta == 0, alphas[0], alpha)
        w = w.addcmul(alpha.unsqueeze(1), v, value=-1)
        beta = torch.linalg.vector_norm(w, dim=1)
        scale = torch.maximum(scale, alpha.abs() + beta)
        beta = torch.where(beta > tiny * scale, beta, 0.0)
        before = v
        v = _unit(w, beta)
        alphas.append(alpha)
        betas.append(beta)
    return _ritz(torch.stack(alphas, dim=1), torch.stack(betas, dim=1), which)


def _unit(v: Tensor, length: Tensor) -> Tensor:
    """Return vectors (R, D) divided by their lengths (R,), and 0 for the length 0."""
    return v * torch.where(length > 0, length.reciprocal(), 0.0).unsqueeze(1)


def _ritz(alphas: Tensor, betas: Tensor, which: str) -> tuple[Tensor, Tensor]:
    """Return extreme eigenvalues (R,) of tridiagonal matrices, and their residuals (R,).

    Args:
        alphas: (R, K) diagonals.
        betas: (R, K) the K - 1 entries beside each diagonal, and the coefficient that follows.
        which: as of ``extreme_eigenvalue``.
    """
    exact = exact_dtype(alphas.device)
    beside = betas[:, :-1].to(exact)
    matrix = alphas.to(exact).diag_embed()
    matrix = matrix + beside.diag_embed(1) + beside.diag_embed(-1)
    values, vectors = torch.linalg.eigh(matrix)  # ascending
    place = values.abs() if which == "magnitude" else values
    chosen = place.argmax(dim=1, keepdim=True)
    value = values.gather(1, chosen).squeeze(1)
    last = vectors[:, -1].gather(1, chosen).squeeze(1).abs()
    residual = torch.maximum(
        betas[:, -1] * last, torch.finfo(alphas.dtype).eps * values.abs().amax(dim=1)
    )
    return value.to(alphas.dtype), residual.to(alphas.dtype)
