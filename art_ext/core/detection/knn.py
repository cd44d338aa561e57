"""Distance of the features to the k-th nearest training features."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.checks import check_count
from art_ext.core.detection.base import Detector, given
from art_ext.core.detection.distances import pieces, squared_distances, widest
from art_ext.core.detection.registry import DetectorSpec, register
from art_ext.core.streams import resolve_seed, uniform

LEAST = 1e-30  # squared distance, below which the root has no gradient


class KNN(Detector):
    """Distance of the features to the k-th nearest training features.

    The score is the k-th smallest ||phi / ||phi|| - phi_i / ||phi_i|| ||_2 over the kept training
    features phi_i. A row is one query.

    Args:
        k: rank of the neighbour, at least 1. Default: 50.
        num_features: training features to keep, drawn at random. Default: 10,000.
        layer: name of the module whose output the features are. None: the input of the last linear
            layer.
        seed: key of the choice of features. Default: 0.

    Attributes:
        stored: (M, F) normalised training features.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Sun, Ming, Zhu, Li. Out-of-distribution detection with deep nearest neighbors. ICML 2022.
    """

    name: ClassVar[str] = "knn"
    needs_features: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ("stored",)

    stored: Tensor

    def __init__(
        self, k: int = 50, num_features: int = 10_000, layer: str | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        check_count("k", k)
        check_count("num_features", num_features)
        if k > num_features:
            raise ValueError(f"k must be at most num_features={num_features}, got k={k}")
        self.k = k
        self.num_features = num_features
        self.layer = layer
        self.seed = resolve_seed(seed)

    def learn(self, outputs: Tensor, features: Tensor | None, y: Tensor) -> None:
        """Keep training features.

        Raises:
            ValueError: with fewer than k training images.
        """
        found = given(features)
        if len(found) < self.k:
            raise ValueError(f"{self.name} with k={self.k} needs {self.k} images, got {len(found)}")
        keys = uniform(self.seed, torch.arange(len(found), device=found.device), 0)
        order = keys.argsort(stable=True)
        self.stored = functional.normalize(found[order[: self.num_features]], dim=1)

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of features (r, F)."""
        rows = functional.normalize(widest(given(features)), dim=1)
        found = [  # topk, because kthvalue takes five times as long
            squared_distances(part, self.stored).topk(self.k, dim=1, largest=False).values[:, -1]
            for part in pieces(rows, len(self.stored))
        ]
        return torch.cat(found).clamp(min=LEAST).sqrt().float()


register(
    DetectorSpec(
        KNN,
        art="KNNDetector",
        paper="Sun, Ming, Zhu, Li. Out-of-distribution detection with deep nearest neighbors. ICML"
        " 2022",
        url="https://arxiv.org/abs/2204.06507",
        page="detectors/knn.md",
    )
)
