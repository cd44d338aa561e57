"""Largest singular values of a generator's Jacobian, from products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from art_ext.core.limits.generator import GeneratorOracle
from art_ext.core.limits.neighbours import row_bytes
from art_ext.core.streams import fingerprint, normal

TORCH_FUNC = "torch.func"
DOUBLE_BACKWARD = "double backward"
_GRAPH = 8  # a row with its graph takes this many times the bytes of a row without
_ENDED = 1e-5  # relative length of what float32 leaves of a vector inside the space spanned so far
_SMALLEST = 1e-30


class Spectrum(NamedTuple):
    """Largest singular values at S latents.

    Attributes:
        values: (S,) ``||J' u|| / ||u||`` with ``u = J v``, at most the singular value.
        directions: (S, d) the unit vectors v, top right singular vectors.
        residuals: (S,) ``||J' J v - s^2 v|| / s^2`` with ``s = ||J v||``. 0 for a singular vector.
    """

    values: Tensor
    directions: Tensor
    residuals: Tensor


class Products(Protocol):
    """Products of vectors with the Jacobians J of R latents, one vector per latent."""

    def push(self, v: Tensor) -> Tensor:
        """Return J v (R, *S) for v (R, d)."""
        ...

    def pull(self, u: Tensor) -> Tensor:
        """Return J' u (R, d) for u (R, *S)."""
        ...


class FuncProducts:
    """Products by ``torch.func.vjp``.

    u -> J' u is a linear map, so that its own vector-Jacobian product with v is J v. This needs no
    further forward pass, and is faster than forward mode (``torch.func.jvp``).

    Args:
        oracle: of the generator, entered.
        z: (R, d) latents.
        y: (R,) classes.
    """

    def __init__(self, oracle: GeneratorOracle, z: Tensor, y: Tensor) -> None:
        self._oracle = oracle
        images, self._pull = torch.func.vjp(oracle.function(y), z)[:2]
        oracle.backward_rows += len(z)
        self._push = torch.func.vjp(lambda u: self._pull(u)[0], torch.zeros_like(images))[1]

    def push(self, v: Tensor) -> Tensor:
        """Return J v (R, *S) for v (R, d), for one backward row each."""
        self._oracle.backward_rows += len(v)
        change: Tensor = self._push(v)[0]
        return change

    def pull(self, u: Tensor) -> Tensor:
        """Return J' u (R, d) for u (R, *S), for one backward row each."""
        self._oracle.backward_rows += len(u)
        gradient: Tensor = self._pull(u)[0]
        return gradient


class DoubleBackward:
    """Products by ordinary gradients: J v is the gradient of ``<J' u, v>`` by u.

    It serves generators that ``torch.func`` cannot run, such as those with an old-style
    ``autograd.Function``.

    Args:
        oracle: of the generator, entered.
        z: (R, d) latents.
        y: (R,) classes.
    """

    def __init__(self, oracle: GeneratorOracle, z: Tensor, y: Tensor) -> None:
        self._oracle = oracle
        self._z = z.detach().requires_grad_()
        with torch.enable_grad():
            self._images = oracle.function(y)(self._z)
            self._u = torch.zeros_like(self._images, requires_grad=True)
            oracle.backward_rows += len(z)
            (self._pulled,) = torch.autograd.grad(self._images, self._z, self._u, create_graph=True)

    def push(self, v: Tensor) -> Tensor:
        """Return J v (R, *S) for v (R, d), for one backward row each."""
        self._oracle.backward_rows += len(v)
        return torch.autograd.grad(self._pulled, self._u, v, retain_graph=True)[0]

    def pull(self, u: Tensor) -> Tensor:
        """Return J' u (R, d) for u (R, *S), for one backward row each."""
        self._oracle.backward_rows += len(u)
        return torch.autograd.grad(self._images, self._z, u, retain_graph=True)[0]


def spectral_norms(
    oracle: GeneratorOracle, z: Tensor, y: Tensor, *, num_iterations: int, seed: int
) -> tuple[Spectrum, str]:
    """Estimate the spectral norm of the Jacobian at each latent, from below.

    Each iteration is one product with J and one with J'. Power iteration uses the last vector only.
    This one keeps all of them and takes the best vector that they span (Lanczos), which is never
    worse. The last iteration measures that vector. After d + 1 iterations there is nothing left to
    find.

    Args:
        oracle: of the generator, entered.
        z: (S, d) latents.
        y: (S,) classes.
        num_iterations: number of iterations, at least 1.
        seed: key of the start vectors.

    Returns:
        The spectrum, and how the products were made: ``"torch.func"``, or ``"double backward"`` if
        it could not run the generator.

    Raises:
        ValueError: if no way gives finite products.
    """
    dimension = z.shape[1]
    steps = min(num_iterations - 1, dimension)
    size = oracle.block_rows(_GRAPH * row_bytes(oracle) + 8 * steps * dimension)
    kinds: list[tuple[str, Callable[[GeneratorOracle, Tensor, Tensor], Products]]] = [
        (TORCH_FUNC, FuncProducts),
        (DOUBLE_BACKWARD, DoubleBackward),
    ]
    parts = []
    for latents, classes in zip(z.split(size), y.split(size), strict=True):
        with torch.no_grad():
            oracle(latents, classes)  # checks shape and range
        while True:
            try:
                products = kinds[0][1](oracle, latents, classes)
                parts.append(_spectrum(products, latents, steps, seed))
                break
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                if len(kinds) == 1:
                    raise _no_products(error) from error
                kinds = kinds[1:]
    found = Spectrum(*(torch.cat(column) for column in zip(*parts, strict=True)))
    if not bool(found.values.any()):
        raise ValueError(
            "the generator's images do not depend on its latents through autograd: use"
            " estimator='sampled'"
        )
    return found, kinds[0][0]


def _no_products(error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(
        "the generator must be differentiable in its latents, got"
        f" {type(error).__name__}: {reason[:200]}: use estimator='sampled'"
    )


def _spectrum(products: Products, z: Tensor, steps: int, seed: int) -> Spectrum:
    """Estimate the top singular vectors at a block of latents, and measure them."""
    v = _top_vectors(products, z, steps, seed)
    u = products.push(v)
    w = products.pull(u)
    length = _norms(u.flatten(1)).clamp_min(_SMALLEST)
    norms = _norms(w)
    square = length.square().clamp_min(_SMALLEST)
    residual = _norms(w - square.unsqueeze(1) * v) / square
    return Spectrum(norms / length, w / norms.clamp_min(_SMALLEST).unsqueeze(1), residual)


def _top_vectors(products: Products, z: Tensor, steps: int, seed: int) -> Tensor:
    """Return unit vectors (R, d) close to the top eigenvectors of J' J, by Lanczos steps.

    In exact arithmetic the steps make J' J tridiagonal. A latent whose vectors span an invariant
    space goes on with a random vector outside it.
    """
    owner = fingerprint(z)
    dimension = z.shape[1]
    start = normal(seed, owner, -1, (dimension,))
    if not steps:
        return start / _norms(start).unsqueeze(1)
    basis = z.new_zeros(len(z), steps, dimension)
    diagonal = z.new_zeros(len(z), steps)
    beside = z.new_zeros(len(z), steps)  # the entry after each diagonal one
    scale = z.new_zeros(len(z))
    basis[:, 0] = start / _norms(start).unsqueeze(1)
    for k in range(steps):
        v = basis[:, k]
        w = products.pull(products.push(v)).detach()
        diagonal[:, k] = (w * v).sum(dim=1)
        if k + 1 == steps:
            break
        scale = torch.maximum(scale, _norms(w))
        known = basis[:, : k + 1]
        w = _outside(w, known)
        length = _norms(w)
        ended = length <= _ENDED * scale
        other = _outside(normal(seed, owner, -2 - k, (dimension,)), known)
        following = torch.where(ended.unsqueeze(1), other, w)
        basis[:, k + 1] = following / _norms(following).clamp_min(_SMALLEST).unsqueeze(1)
        beside[:, k] = torch.where(ended, 0.0, length)
    weights = _top_weights(diagonal, beside)
    v = (weights.unsqueeze(1) @ basis).squeeze(1)
    return v / _norms(v).clamp_min(_SMALLEST).unsqueeze(1)


def _outside(w: Tensor, basis: Tensor) -> Tensor:
    """Return the part of w (R, d) orthogonal to orthonormal vectors (R, k, d)."""
    for _ in range(2):  # the second time removes what rounding left
        w = w - ((basis @ w.unsqueeze(2)) * basis).sum(dim=1)
    return w


def _top_weights(diagonal: Tensor, beside: Tensor) -> Tensor:
    """Return the top eigenvectors (R, k) of symmetric tridiagonal matrices."""
    # on the CPU, because not every device has float64 or eigenvectors
    main = diagonal.cpu().double()
    matrix = torch.diag_embed(main) + torch.diag_embed(beside.cpu().double()[:, :-1], offset=-1)
    if not bool(matrix.isfinite().all()):
        raise ValueError("its Jacobian is not finite")
    return torch.linalg.eigh(matrix).eigenvectors[:, :, -1].to(diagonal)


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)
