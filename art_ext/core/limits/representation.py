"""Samples that a generator cannot make."""

from __future__ import annotations

from torch import Tensor

from art_ext.core.checks import check_positive
from art_ext.core.geometry import within_ball
from art_ext.core.result import AttackResult


def not_represented(result: AttackResult, eps: float | None = None) -> Tensor:
    """Mark the samples that an in-distribution attack could not come close to.

    They have no adversarial within eps, and ``||G(z, y) - x||_2 > eps`` for the best start z. The
    failure of the attack then says nothing about robustness. No query is made.

    Args:
        result: of ``in_distribution``, on N samples.
        eps: L2 radius, > 0, in the units of x. Default: None, the radius of the result.

    Returns:
        (N,) bool. False where the attack did not start, as for inputs that are misclassified.

    Raises:
        ValueError: if no radius is known, or the result is of another attack.

    References:
        Jinghui Chen, "Evaluating and understanding adversarial robustness in deep learning",
        dissertation, UCLA 2021, section 4.7.2.
    """
    if result.start_distance is None or result.nearest_distance is None:
        raise ValueError(
            "result must be that of an attack on a generator's images, such as in_distribution,"
            " got one without start_distance"
        )
    radius = result.eps if eps is None else eps
    if radius is None:
        raise ValueError("eps must be given, since the attack ran without a radius")
    check_positive("eps", radius)
    return ~within_ball(result.nearest_distance, radius) & (result.start_distance > radius)
