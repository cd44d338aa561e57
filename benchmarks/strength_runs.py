"""Runs of a panel or of AutoAttack on one network, for ``art_ext.benchmarks.strength``."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from art_ext.data import load_data

CLEAN = "misclassified"  # stage of the images that need no attack


@dataclass(frozen=True)
class Case:
    """A network under one norm and radius.

    Attributes:
        name: of the checkpoint.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius as text, such as ``"2/255"``.
    """

    name: str
    norm: str
    eps: str

    @property
    def radius(self) -> float:
        """The radius as a number."""
        return float(Fraction(self.eps))

    def samples(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first test images of the data set of the network, with labels."""
        data = load_data("cifar10" if self.name.startswith("cifar") else "mnist").first(count)
        return data.x, data.y


CASES = (
    Case("mnist_conv2_lirpa_robust", "linf", "0.3"),
    Case("mnist_conv2_fast_pgd", "linf", "0.3"),
    Case("mnist_conv2_fast_fgsm", "linf", "0.3"),
    Case("mnist_conv2_kw_0.1", "linf", "0.1"),
    Case("mnist_smallcnn_bn_rays_nat", "linf", "0.1"),
    Case("mnist_lenet5_advertorch_adv", "linf", "0.3"),
    Case("mnist_smallcnn_trades", "linf", "0.3"),
    Case("cifar_conv2_sdp_adv4", "linf", "2/255"),
    Case("cifar_conv2_oval_wide_kw", "linf", "2/255"),
    Case("cifar_resnet2b_abcrown", "linf", "2/255"),
    Case("cifar_resnet2b2_bn_mnbab_sadv8", "linf", "2/255"),
    Case("cifar_resnet4b_abcrown", "linf", "2/255"),
    Case("cifar_resnet3b2_bn_mnbab_adv4", "linf", "2/255"),
    Case("cifar_resnet2b_abcrown", "l2", "36/255"),
    Case("cifar_resnet4b_abcrown", "l2", "36/255"),
    Case("mnist_smallcnn_ddn_l2", "l2", "1.5"),
    Case("cifar_resnet2b2_bn_mnbab_sadv8", "l1", "3"),
    Case("cifar_conv2_sdp_adv4", "l1", "3"),
    Case("cifar_resnet2b_abcrown", "l1", "3"),
)


@dataclass(frozen=True)
class Stage:
    """One attack of a run.

    Attributes:
        name: of the attack, ``CLEAN`` for the misclassified images.
        seconds: processor time.
        fell: images with a success, by position. In a cascade, those without an earlier one.
        queries, gradients: rows forward and backward that were charged. None where unknown.
    """

    name: str
    seconds: float
    fell: tuple[int, ...]
    queries: int | None = None
    gradients: int | None = None


@dataclass(frozen=True)
class Run:
    """Results of one side on the first n images.

    Attributes:
        by: full name of a panel, or ``"AutoAttack"``.
        case, n, seed: of the run.
        stages: in their order. ``CLEAN`` is the first.
        row_seconds: processor time of a row forward and backward, before and after the run.
        versions: of the software.
    """

    by: str
    case: Case
    n: int
    seed: int
    stages: tuple[Stage, ...]
    row_seconds: tuple[float, float]
    versions: str = ""

    @classmethod
    def read(cls, path: Path) -> Run:
        """Return the run that a file holds."""
        found = json.loads(path.read_text(encoding="utf-8"))
        stages = tuple(Stage(**{**one, "fell": tuple(one["fell"])}) for one in found["stages"])
        case = Case(**found["case"])
        rows = tuple(found["row_seconds"])
        return cls(**{**found, "case": case, "stages": stages, "row_seconds": rows})

    @property
    def seconds(self) -> float:
        """Processor time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def passes(self) -> float:
        """The same time in rows forward and backward of the bare network."""
        return self.seconds / statistics.mean(self.row_seconds)

    @property
    def fell(self) -> set[int]:
        """Images that are misclassified or fell to an attack."""
        return {image for stage in self.stages for image in stage.fell}
