"""Kernel density of the features of the predicted class."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.detection.base import Detector, class_counts, given
from art_ext.core.detection.distances import pieces, squared_distances, widest
from art_ext.core.detection.registry import DetectorSpec, register
from art_ext.core.streams import resolve_seed, uniform

BANDWIDTH_PAIRS = 8_000_000  # distances that a median bandwidth is taken from, at most


class KernelDensity(Detector):
    """Low density of the features among training features of the predicted class.

    The score is -log mean_i exp(-||phi - phi_i||^2 / sigma2) over the kernels phi_i of the
    predicted class, with phi the features of the input. It is a log-sum-exp, so that it stays
    finite far from all kernels. A row is one query.

    Args:
        num_kernels: kernels of a class, drawn at random from its training images. A class with
            fewer gives all. Default: 1000.
        sigma2: bandwidth, the square of a length in the units of the features, or ``"median"``: the
            median of the squared distances between kernels of one class. The authors use 3.846 for
            networks trained by cross-entropy and 0.385 for reverse cross-entropy.
        layer: name of the module whose output the features are. None: the input of the last linear
            layer.
        seed: key of the choice of kernels. Default: 0.

    Attributes:
        kernels: (M, F) features, ordered by class.
        counts: (K,) int64, kernels of each class.
        bandwidth: () float64, sigma2 as a number.
        log_medians: (K,) median of the log density over the training images of each class.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Feinman, Curtin, Shintre, Gardner. Detecting adversarial samples from artifacts. 2017.
        Pang, Du, Dong, Zhu. Towards robust detection of adversarial examples. NeurIPS 2018.
    """

    name: ClassVar[str] = "kernel_density"
    attack_loss: ClassVar[str] = "density"
    needs_features: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ("kernels", "counts", "bandwidth", "log_medians")

    kernels: Tensor
    counts: Tensor
    bandwidth: Tensor
    log_medians: Tensor

    def __init__(
        self,
        num_kernels: int = 1000,
        sigma2: float | str = "median",
        layer: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_count("num_kernels", num_kernels)
        if isinstance(sigma2, str):
            check_choice("sigma2", sigma2, ("median",))
        else:
            check_positive("sigma2", sigma2)
        self.num_kernels = num_kernels
        self.sigma2 = sigma2
        self.layer = layer
        self.seed = resolve_seed(seed)

    def learn(self, outputs: Tensor, features: Tensor | None, y: Tensor) -> None:
        """Keep kernels of each class, and take the bandwidth and the medians from them.

        Raises:
            ValueError: if a class has no training image.
        """
        features = given(features)
        order = class_order(y, self.seed)
        found = class_counts(self.name, y, outputs.shape[1])
        ordered = features[order]
        rank = torch.arange(len(y), device=y.device) - (found.cumsum(0) - found)[y[order]]
        self.kernels = ordered[rank < self.num_kernels]
        self.counts = found.clamp(max=self.num_kernels)
        self.bandwidth = self._median() if self.sigma2 == "median" else self._number()
        densities = self.log_density(ordered, y[order])
        self.log_medians = torch.stack(
            [own.median() for own in densities.split(found.cpu().tolist())]
        )

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of features (r, F), by the predictions of logits (r, K)."""
        return -self.log_density(given(features), outputs.argmax(dim=1))

    def class_excess(self, features: Tensor | None, classes: Tensor) -> Tensor:
        """Return (r,) how far the log density at the kernels of classes (r,) lies below the median
        of their training images.
        """
        return self.log_medians[classes] - self.log_density(given(features), classes)

    def log_density(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return (r,) float32 log densities of features (r, F) at the kernels of classes (r,)."""
        # on the CPU each row meets the kernels of its class only. Elsewhere it meets all of them,
        # because how many rows a class has would be read from the device
        sums = grouped_log_sums if features.device.type == "cpu" else masked_log_sums
        return sums(features, classes, self.kernels, self.counts, self.bandwidth)

    def _number(self) -> Tensor:
        return widest(self.kernels.new_tensor(float(self.sigma2)))

    def _median(self) -> Tensor:
        """Return the median squared distance of two kernels of one class.

        Raises:
            ValueError: if most kernels of a class are equal.
        """
        most = max(2, int((2 * BANDWIDTH_PAIRS / len(self.counts)) ** 0.5))
        found = []
        for stored in self.kernels.split(self.counts.cpu().tolist()):
            kept = stored[:most]
            first, second = torch.triu_indices(len(kept), len(kept), 1, device=kept.device)
            found.append(squared_distances(kept, kept)[first, second].float())
        pairs = torch.cat(found)
        median = pairs.median() if len(pairs) else pairs.new_zeros(())
        if not bool(median > 0):
            raise ValueError(
                "sigma2='median' needs distinct features of two images of a class: give sigma2 as a"
                " number, or more images"
            )
        return widest(median)


def class_order(y: Tensor, seed: int) -> Tensor:
    """Return (N,) places ordered by class, and at random within a class."""
    places = torch.arange(len(y), device=y.device)
    order = uniform(seed, places, 0).argsort(stable=True)
    return order[y[order].argsort(stable=True)]


def grouped_log_sums(
    features: Tensor, classes: Tensor, kernels: Tensor, counts: Tensor, bandwidth: Tensor
) -> Tensor:
    """Return (r,) float32 ``log mean_i exp(-||phi - phi_i||^2 / sigma2)``, class by class.

    Args:
        features: (r, F), the phi.
        classes: (r,) int64, whose kernels count.
        kernels: (M, F), the phi_i, ordered by class.
        counts: (K,) int64, kernels of each class.
        bandwidth: (), sigma2.
    """
    # rows of one class share their kernels; their numbers are read from the device once
    rows_of_class = torch.bincount(classes, minlength=len(counts))
    numbers, stored_numbers = torch.stack([rows_of_class, counts]).cpu().tolist()
    order = classes.argsort()
    found = []
    parts = zip(features[order].split(numbers), kernels.split(stored_numbers), strict=True)
    for own, stored in parts:
        for part in pieces(own, len(stored)):
            exponent = squared_distances(part, stored) / -bandwidth
            found.append(exponent.float().logsumexp(dim=1) - math.log(len(stored)))
    return torch.cat(found)[order.argsort()]


def masked_log_sums(
    features: Tensor, classes: Tensor, kernels: Tensor, counts: Tensor, bandwidth: Tensor
) -> Tensor:
    """Return the numbers of ``grouped_log_sums`` without reading a value from the device."""
    labels = torch.arange(len(counts), device=counts.device)
    labels = labels.repeat_interleave(counts, output_size=len(kernels))
    found = []
    for part, own in zip(
        pieces(features, len(kernels)), pieces(classes, len(kernels)), strict=True
    ):
        exponent = (squared_distances(part, kernels) / -bandwidth).float()
        exponent = exponent.masked_fill(labels != own[:, None], -math.inf)
        found.append(exponent.logsumexp(dim=1) - counts[own].log())
    return torch.cat(found)


register(
    DetectorSpec(
        KernelDensity,
        art="KernelDensityDetector",
        paper="Feinman, Curtin, Shintre, Gardner. Detecting adversarial samples from artifacts."
        " 2017",
        url="https://arxiv.org/abs/1703.00410",
        page="detectors/kernel-density.md",
    )
)
