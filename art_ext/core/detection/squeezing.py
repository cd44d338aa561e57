"""Feature squeezing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import nearest
from art_ext.core.detection.base import Detector
from art_ext.core.detection.registry import DetectorSpec, register
from art_ext.core.detection.squeezers import Squeezer, squeezer_of
from art_ext.core.geometry import number_bounds
from art_ext.core.oracle import Model

PRESETS = {
    "mnist": ("bit_depth(1)", "median(2)"),
    "cifar10": ("bit_depth(5)", "median(2)", "non_local_means(13, 3, 2)"),
}


class FeatureSqueezing(Detector):
    """Disagreement of the model with itself on squeezed copies of the input.

    The score is max_k ||softmax(z(x)) - softmax(z(s_k(x)))||_1 over squeezers s_k, in [0, 2]. One
    row costs 1 + S queries for S squeezers.

    Args:
        squeezers: name of a preset, or squeezers, each as an object or as a text such as
            ``"median(size=2)"``. Presets: ``"mnist"`` is 1 bit and a 2 x 2 median, ``"cifar10"`` 5
            bits, a 2 x 2 median and non-local means (13, 3, 2). Default: ``"mnist"``.

    Raises:
        ValueError: for an unknown preset or squeezer, or none.

    References:
        Xu, Evans, Qi. Feature squeezing: detecting adversarial examples in deep neural networks.
        NDSS 2018.
    """

    name: ClassVar[str] = "feature_squeezing"
    attack_loss: ClassVar[str] = "hinges"

    def __init__(self, squeezers: str | Sequence[Squeezer | str] = "mnist") -> None:
        super().__init__()
        self.squeezers = _squeezers(squeezers)
        self.rows = 1 + len(self.squeezers)

    def check_model(self, model: Model) -> None:
        """Raise ValueError if the box is not one interval for all features."""
        super().check_model(model)
        self._bounds()

    def variants(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the squeezed copies of rows (r, *S). Squeezers work on [0, 1].

        Raises:
            ValueError: if a squeezer does not fit the shape of the images.
            ImportError: if a squeezer needs OpenCV and it is missing.
        """
        low, high = self._bounds()
        if (low, high) == (0.0, 1.0):
            return tuple(squeezer(rows) for squeezer in self.squeezers)
        unit = (rows - low) / (high - low)
        return tuple(squeezer(unit) * (high - low) + low for squeezer in self.squeezers)

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of logits (r, K) and the logits of each squeezed copy."""
        own = outputs.softmax(dim=1)
        distances = [(own - one.softmax(dim=1)).abs().sum(dim=1) for one in further]
        return torch.stack(distances).amax(dim=0)

    def _bounds(self) -> tuple[float, float]:
        bounds = number_bounds(self.clip_values)
        if bounds is None:
            raise ValueError(
                f"{self.name} needs clip_values of two numbers, the range of all pixels, got"
                f" {self.clip_values!r}"
            )
        return bounds


def _squeezers(given: str | Sequence[Squeezer | str]) -> tuple[Squeezer, ...]:
    """Return the squeezers of a preset or a list.

    Raises:
        ValueError: for an unknown name, or an empty list.
    """
    if isinstance(given, str):
        if given in PRESETS:
            return tuple(map(squeezer_of, PRESETS[given]))
        if "(" not in given:
            raise ValueError(
                f"squeezers must be one of {', '.join(PRESETS)}, or a list of squeezers, got"
                f" {given!r}{nearest(given, PRESETS)}"
            )
        given = [given]
    found = tuple(squeezer_of(one) if isinstance(one, str) else one for one in given)
    if not found or not all(isinstance(one, Squeezer) for one in found):
        raise ValueError(f"squeezers must hold at least one squeezer, got {given!r}")
    return found


register(
    DetectorSpec(
        FeatureSqueezing,
        art="FeatureSqueezingDetector",
        paper="Xu, Evans, Qi. Feature squeezing: detecting adversarial examples in deep neural"
        " networks. NDSS 2018",
        url="https://arxiv.org/abs/1704.01155",
        page="detectors/feature-squeezing.md",
    )
)
