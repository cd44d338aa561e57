"""The head of Max-Mahalanobis training: the nearest of fixed class centres decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import exact_dtype
from art_ext.training.heads.base import Adaptive, Head, HeadedModel
from art_ext.training.heads.centres import (
    max_mahalanobis_centres,
    optimised_centres,
    random_centres,
    smallest_distance,
)
from art_ext.training.heads.networks import with_outputs

logger = logging.getLogger("art_ext")
CENTRES = ("simplex", "random", "optimised")
GIVEN = "given"  # in records, for centres that were passed as a tensor


class MaxMahalanobisHead(nn.Module, Head):
    """Class scores ``o_l = -||z - mu_l||^2`` of features z, for fixed centres mu_l.

    They are computed in the widest float type of the device, whatever the precision of the network,
    and returned in float32 for features of float32 or less.

    The scores span tens to hundreds. Their softmax saturates, so an attack on the cross-entropy
    finds no gradient. The declared attacks follow the scores themselves.

    Args:
        num_classes: L, number of centres.
        dim: d, length of z.
        norm: C, of every centre.
        centres: ``"simplex"``, ``"random"``, ``"optimised"``, or a tensor (L, d).
        seed: of random and optimised centres.

    Attributes:
        centres: (L, d) the buffer. Its dtype does not follow that of the network.

    Raises:
        ValueError: if an argument is out of range, or if there is no simplex of L centres in d
            dimensions.

    References:
        Pang, Du, Zhu, "Max-Mahalanobis linear discriminant analysis networks", ICML 2018.
        Pang, Xu, Dong, Du, Chen, Zhu, "Rethinking softmax cross-entropy loss for adversarial
        robustness", ICLR 2020. Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial
        example defenses", NeurIPS 2020 (the attack on the scores).
    """

    name: ClassVar[str] = "max-mahalanobis"
    adaptive: ClassVar[Adaptive] = (
        ("pgd", {"num_steps": 50, "loss": "margin"}),
        ("auto_pgd", {"num_steps": 50, "num_targets": 3, "loss": "score"}),
    )
    takes_rows: ClassVar[bool] = True
    attack_loss: ClassVar[str] = "margin"
    centres: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        norm: float = 10.0,
        centres: str | Tensor = "simplex",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_count("seed", seed, least=0)
        self.num_classes = num_classes
        self.dim = dim
        self.norm = norm
        self.kind = centres if isinstance(centres, str) else GIVEN
        self.seed = seed
        self.register_buffer("centres", make_centres(num_classes, dim, norm, centres, seed))

    @property
    def smallest_distance(self) -> float:
        """Distance of the two centres that are closest."""
        return smallest_distance(self.centres)

    def scores(self, raw: Any) -> Tensor:
        """Return (rows, L) ``-||z - mu_l||^2`` for features z (rows, d)."""
        with _without_autocast(raw.device.type):
            z = raw.to(self.centres.dtype)
            lengths = z.square().sum(dim=1, keepdim=True) + self.centres.square().sum(dim=1)
            scores: Tensor = (2 * z @ self.centres.T - lengths).to(raw.dtype)
        return scores

    def fitted(self, network: nn.Module) -> nn.Module:
        """Return the network with d outputs. Its last linear layer is replaced if it has others."""
        return with_outputs(network, self.dim)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments, without the numbers of centres that were given."""
        found = {name: getattr(self, name) for name in ("num_classes", "dim", "norm")}
        return {**found, "centres": self.kind, "seed": self.seed}

    @classmethod
    def rebuilt(cls, arguments: Mapping[str, Any]) -> Head:
        """Return the head of saved arguments. Its centres are filled when weights are loaded."""
        own = dict(arguments)
        kind = own.pop("centres")
        shape = (own["num_classes"], own["dim"])
        return cls(**own, centres=torch.zeros(shape) if kind == GIVEN else kind)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        """Move the centres as the network, but keep their precision."""
        exact = self.centres
        self.centres = exact.float()  # a device may have no float64
        super()._apply(fn, recurse)
        device = self.centres.device
        if not exact.is_meta:
            self.centres = exact.to(exact_dtype(device)).to(device)
        return self

    __repr__ = Head.__repr__


class MaxMahalanobis(HeadedModel):
    """A network whose nearest centre decides, as a module that returns ``-||z - mu_l||^2``.

    Args:
        network: from rows (r, *S) to features z (r, d). It is not copied. ``replace_last_linear``
            gives a network d outputs.
        num_classes: L, number of centres.
        dim: d, length of z.
        norm: C, of every centre.
        centres: ``"simplex"``, which needs ``d >= L - 1``, ``"random"``, ``"optimised"``, or a
            tensor (L, d).
        seed: of random and optimised centres.

    Raises:
        ValueError: as ``MaxMahalanobisHead``, and if the network has this head.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        dim: int,
        norm: float = 10.0,
        centres: str | Tensor = "simplex",
        seed: int = 0,
    ) -> None:
        super().__init__(network, MaxMahalanobisHead(num_classes, dim, norm, centres, seed))


def make_centres(
    num_classes: int, dim: int, norm: float, centres: str | Tensor, seed: int
) -> Tensor:
    """Return (L, d) centres in float64: of a kind, or those that are given.

    Raises:
        ValueError: for another kind, or arguments that do not fit.
    """
    if isinstance(centres, Tensor):
        check_count("num_classes", num_classes, least=2)
        check_count("dim", dim)
        if centres.shape != (num_classes, dim) or not bool(centres.isfinite().all()):
            raise ValueError(
                f"centres must be finite numbers of shape ({num_classes}, {dim}), got shape"
                f" {tuple(centres.shape)}"
            )
        return centres.detach().to("cpu", torch.float64)
    check_choice("centres", centres, CENTRES)
    if centres == "simplex":
        return max_mahalanobis_centres(num_classes, dim, norm)
    if centres == "random":
        return random_centres(num_classes, dim, norm, seed)
    found = optimised_centres(num_classes, dim, norm, seed)
    logger.info(
        "the closest two of %d optimised centres of norm %g in %d dimensions are %.4g apart",
        *(num_classes, norm, dim, smallest_distance(found)),
    )
    return found


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context without autocast on a kind of device, which may know none."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
