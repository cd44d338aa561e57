"""Points on a sphere that are far from each other, the class centres of a Max-Mahalanobis head."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.checks import check_count, check_positive

OPTIMISED_STEPS = 2000


def max_mahalanobis_centres(num_classes: int, dim: int, norm: float = 10.0) -> Tensor:
    """Return the vertices of a regular simplex around the origin.

    ``<mu_k, mu_l> = -C^2 / (L - 1)`` for all k != l, and ``||mu_l|| = C``. The centres sum to 0,
    and any two are ``C sqrt(2 L / (L - 1))`` apart, the largest smallest distance there is.

    The paper computes the entries one by one. This is their closed form: entry j of centre j is
    ``C sqrt(L (L - 1 - j) / ((L - 1) (L - j)))``, counted from 0, and entry j of each later centre
    is that over ``-(L - 1 - j)``.

    Args:
        num_classes: L >= 2.
        dim: d >= L - 1, length of a centre.
        norm: C > 0.

    Returns:
        (L, d) centres in float64, on the CPU.

    Raises:
        ValueError: if an argument is out of range. There is no simplex in fewer dimensions.

    References:
        Pang, Du, Zhu, "Max-Mahalanobis linear discriminant analysis networks", ICML 2018.
    """
    check_count("num_classes", num_classes, least=2)
    check_count("dim", dim)
    check_positive("norm", norm)
    if dim < num_classes - 1:
        raise ValueError(
            f"dim must be >= num_classes - 1 = {num_classes - 1} for centres that are all equally"
            f" far from each other, got {dim}: pass centres='optimised'"
        )
    place = torch.arange(num_classes - 1, dtype=torch.float64)
    left = num_classes - 1 - place  # number of later centres
    diagonal = (num_classes * left / ((num_classes - 1) * (left + 1))).sqrt()
    own = torch.diag(diagonal)
    later = torch.tril((-diagonal / left).expand(num_classes - 1, -1), -1)
    centres = torch.zeros(num_classes, dim, dtype=torch.float64)
    centres[:-1, : num_classes - 1] = own + later
    centres[-1, : num_classes - 1] = -diagonal / left
    return norm * centres


def random_centres(num_classes: int, dim: int, norm: float = 10.0, seed: int = 0) -> Tensor:
    """Return (L, d) points in float64, drawn by a seed from the sphere of a norm."""
    check_count("num_classes", num_classes, least=2)
    check_count("dim", dim)
    check_positive("norm", norm)
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(num_classes, dim, dtype=torch.float64, generator=generator)
    return norm * torch.nn.functional.normalize(points)


def optimised_centres(num_classes: int, dim: int, norm: float = 10.0, seed: int = 0) -> Tensor:
    """Return points of a sphere whose largest inner product is made small by gradient descent.

    This serves ``dim < num_classes - 1``, where there is no simplex. The descent starts from
    ``random_centres``. It minimises ``log sum_{k != l} exp(s <mu_k, mu_l>) / s`` over unit vectors,
    which tends to the largest inner product as s grows from 4 to 400.

    Returns:
        (L, d) centres in float64, on the CPU.

    Raises:
        ValueError: if an argument is out of range.
    """
    points = random_centres(num_classes, dim, 1.0, seed)
    itself = torch.eye(num_classes, dtype=torch.bool)
    sharpness = torch.logspace(0.6, 2.6, OPTIMISED_STEPS, dtype=torch.float64)
    for s in sharpness.tolist():
        products = (points @ points.T).masked_fill(itself, -torch.inf)
        weights = torch.softmax((s * products).flatten(), dim=0).view_as(products)
        points = torch.nn.functional.normalize(points - num_classes / s * (weights @ points))
    return norm * points


def smallest_distance(centres: Tensor) -> float:
    """Return the distance of the two of the (L, d) centres that are closest."""
    return float(torch.pdist(centres).min())
