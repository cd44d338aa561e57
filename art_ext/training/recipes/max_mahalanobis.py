"""Recipes whose network maps each class to the neighbourhood of a fixed centre."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_positive
from art_ext.training.heads import Head, MaxMahalanobisHead
from art_ext.training.heads.base import heads_of
from art_ext.training.heads.max_mahalanobis import CENTRES
from art_ext.training.heads.networks import with_outputs
from art_ext.training.objectives import ScoreLoss, mmc, mmlda
from art_ext.training.recipes.base import Recipe
from art_ext.training.recipes.scores import ScoreRecipe
from art_ext.training.trial import output_width


class UnfittedHead(Head):
    """The head of a recipe that has not seen its network."""

    def scores(self, raw: Any) -> Tensor:
        """Raise ValueError, because the number of classes and the length of z are not known."""
        raise ValueError(
            "the head needs num_classes and dim: pass both to the recipe, or train, which takes"
            " them from the network"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxMahalanobisRecipe(ScoreRecipe):
    """Recipe with the head ``MaxMahalanobis``, whose scores are ``o_l = -||z_w(x) - mu_l||^2``.

    Attributes:
        num_classes: L. None: the number of outputs of the network.
        dim: d, length of z. None: the number of outputs of the network. If the network has another
            number, its last linear layer is replaced.
        centre_norm: C, norm of the centres.
        centres: ``"simplex"``, which needs ``dim >= num_classes - 1``, ``"random"`` (MMC-rand),
            ``"optimised"``, or a tensor (L, d).
        centre_seed: seed of random and optimised centres.
        factor: of the scores in the loss. 1: the reference implementation. 1/2: their text.
    """

    head: ClassVar[Head] = UnfittedHead()
    sgd_rate: ClassVar[float | None] = 0.01  # the authors'; nothing is learnt at .1
    num_classes: int | None = None
    dim: int | None = None
    centre_norm: float = 10.0
    centres: str | Tensor = "simplex"
    centre_seed: int = 0
    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("factor", self.factor)
        check_positive("centre_norm", self.centre_norm)
        if not isinstance(self.centres, Tensor):
            check_choice("centres", self.centres, CENTRES)
        if self.num_classes is not None and self.dim is not None:
            head = MaxMahalanobisHead(
                self.num_classes, self.dim, self.centre_norm, self.centres, self.centre_seed
            )
            object.__setattr__(self, "head", head)

    def fitted(self, model: nn.Module, rows: Tensor, seed: int) -> Recipe:
        """Return the recipe with the number of classes and the length of z.

        The last linear layer of the network is replaced if its number of outputs is not that
        length.

        Raises:
            ValueError: if the network has another head, fails on the rows, returns no features
                (r, d), or has no last linear layer that can be replaced.
        """
        others = [one for one in heads_of(model) if one.name != MaxMahalanobisHead.name]
        if others:
            raise ValueError(
                f"{self.name} needs a network without a head, got one with {others[0]!r}: pass the"
                " network inside, which is .model"
            )
        width = output_width(model, rows)
        classes = width if self.num_classes is None else self.num_classes
        length = width if self.dim is None else self.dim
        known = (classes, length) == (self.num_classes, self.dim)
        recipe = self if known else replace(self, num_classes=classes, dim=length)
        if length != width:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                if with_outputs(model, length) is not model:
                    raise ValueError(
                        "the network is the linear layer to be replaced: pass an"
                        f" nn.Linear with {length} outputs, got {width}"
                    )
        return recipe

    def settings(self) -> dict[str, Any]:
        """Return name, fields and head, with a digest in place of centres that are a tensor."""
        found = super().settings()
        if isinstance(self.centres, Tensor):
            content = self.centres.detach().cpu().double().contiguous().numpy().tobytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found["centres"] = f"tensor {tuple(self.centres.shape)} {digest}"
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Mmlda(MaxMahalanobisRecipe):
    """Max-Mahalanobis linear discriminant analysis: ``min_w mean -log softmax(factor o)_y``.

    An update costs 1 forward and 1 backward per sample, and the rows of the craft. The centres all
    have one norm, so with ``factor=0.5`` this is the cross-entropy of ``<z, mu_l>``.

    References:
        Pang, Du, Zhu, "Max-Mahalanobis linear discriminant analysis networks", ICML 2018.
    """

    name: ClassVar[str] = "mmlda"
    paper: ClassVar[str] = (
        "Pang, Du, Zhu. Max-Mahalanobis linear discriminant analysis networks. ICML 2018."
    )

    @property
    def score_loss(self) -> ScoreLoss:
        """Cross-entropy of the scores times the factor."""
        return mmlda(self.factor)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mmc(MaxMahalanobisRecipe):
    """Max-Mahalanobis centre training: ``min_w mean factor ||z_w(x) - mu_y||^2``.

    The scores span tens to hundreds, so the cross-entropy of a classified sample has no gradient.
    Robust accuracy must be measured with attacks on the margin. An update costs 1 forward and 1
    backward per sample, and the rows of the craft.

    References:
        Pang, Xu, Dong, Du, Chen, Zhu, "Rethinking softmax cross-entropy loss for adversarial
        robustness", ICLR 2020. Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial
        example defenses", NeurIPS 2020 (which defeats it).
    """

    name: ClassVar[str] = "mmc"
    paper: ClassVar[str] = (
        "Pang, Xu, Dong, Du, Chen, Zhu. Rethinking softmax cross-entropy loss for adversarial"
        " robustness. ICLR 2020."
    )

    @property
    def score_loss(self) -> ScoreLoss:
        """The squared distance to the centre of the label, times the factor."""
        return mmc(self.factor)
