"""Mahalanobis distance of the features to the nearest class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_number
from art_ext.core.detection.base import Detector, class_counts, given
from art_ext.core.detection.distances import pieces, squared_distances, widest
from art_ext.core.detection.registry import DetectorSpec, register


class Mahalanobis(Detector):
    """Distance of the features to the nearest class mean, under a covariance that classes share.

    The score is min_c (phi - mu_c)^T Sigma^-1 (phi - mu_c), with phi the features of the input,
    mu_c the class means and Sigma the covariance of phi - mu_y over the training images, shrunk
    towards a multiple of the identity. A row is one query.

    Args:
        shrinkage: ``"ledoit-wolf"``, or the weight of the identity in [0, 1].
        layer: name of the module whose output the features are. None: the input of the last linear
            layer.

    Attributes:
        means: (K, F) float64 whitened means of the classes.
        whitening: (F, F) float64, W with W Sigma W^T = 1.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Lee, Lee, Lee, Shin. A simple unified framework for detecting out-of-distribution samples
        and adversarial attacks. NeurIPS 2018.
    """

    name: ClassVar[str] = "mahalanobis"
    needs_features: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ("means", "whitening")

    means: Tensor
    whitening: Tensor

    def __init__(self, shrinkage: float | str = "ledoit-wolf", layer: str | None = None) -> None:
        super().__init__()
        if isinstance(shrinkage, str):
            check_choice("shrinkage", shrinkage, ("ledoit-wolf",))
        else:
            check_number("shrinkage", shrinkage)
            if not 0 <= shrinkage <= 1:
                raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage!r}")
        self.shrinkage = shrinkage
        self.layer = layer

    def learn(self, outputs: Tensor, features: Tensor | None, y: Tensor) -> None:
        """Take the means and the covariance of training features.

        Raises:
            ValueError: if a class has no training image, or the covariance has no inverse.
        """
        wide = widest(given(features))
        counts = class_counts(self.name, y, outputs.shape[1])
        sums = wide.new_zeros(len(counts), wide.shape[1]).index_add_(0, y, wide)
        means = sums / counts.unsqueeze(1)
        centred = wide - means[y]
        covariance = centred.T @ centred / len(centred)
        share = (
            ledoit_wolf_share(centred, covariance)
            if isinstance(self.shrinkage, str)
            else self.shrinkage
        )
        level = covariance.diagonal().mean()
        covariance = (1 - share) * covariance
        covariance.diagonal().add_(share * level)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed) or not bool(factor.diagonal().min() > 0):
            images = "images of a class with different features"
            if not isinstance(self.shrinkage, str):
                images = (
                    f"shrinkage='ledoit-wolf', or more than {wide.shape[1]} images for"
                    f" {wide.shape[1]} features"
                )
            raise ValueError(f"the covariance of the features has no inverse: take {images}")
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        self.whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        self.means = means @ self.whitening.T

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of features (r, F)."""
        # a file that was written on a device without float64 holds float32
        means = widest(self.means)
        white = widest(given(features)) @ widest(self.whitening).T
        found = [
            squared_distances(part, means).amin(dim=1) for part in pieces(white, len(self.means))
        ]
        return torch.cat(found).float()


def ledoit_wolf_share(centred: Tensor, covariance: Tensor) -> float:
    """Return the weight of the identity that minimises the expected error of the covariance.

    With S the covariance of n rows x_i in p dimensions, m = tr S / p, d^2 = ||S - m 1||^2 and b^2 =
    min(d^2, sum_i ||x_i x_i^T - S||^2 / n^2), it is b^2 / d^2.

    Args:
        centred: (n, p) float64 rows of mean 0.
        covariance: (p, p) S.

    References:
        Ledoit, Wolf. A well-conditioned estimator for large-dimensional covariance matrices.
        Journal of Multivariate Analysis 2004.
    """
    count = len(centred)
    squares = covariance.square().sum()
    level = covariance.diagonal().mean()
    spread = squares - level.square() * covariance.shape[1]
    # sum_i ||x_i x_i^T||^2 = sum_i ||x_i||^4
    error = (centred.square().sum(dim=1).square().sum() / count - squares) / count
    return float((torch.minimum(error, spread) / spread).nan_to_num(0.0).clamp(0, 1))


register(
    DetectorSpec(
        Mahalanobis,
        art="MahalanobisDetector",
        paper="Lee, Lee, Lee, Shin. A simple unified framework for detecting out-of-distribution"
        " samples and adversarial attacks. NeurIPS 2018",
        url="https://arxiv.org/abs/1807.03888",
        page="detectors/mahalanobis.md",
    )
)
