"""Results of a run on one model at one radius, their numbers, and the sample to submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_positive
from art_ext.core.geometry import exact_mean
from art_ext.core.samples import check_classes


@dataclass(frozen=True, eq=False)
class Evidence:
    """N samples in the order of the data, and what became of each. Every accuracy is counted from
    here.

    Attributes:
        x: (N, *S) in [0, 1].
        y: (N,) int64 classes.
        wrong: (N,) bool, misclassified before any attack.
        broken: by the name of each attack, in the order in which they ran, (N,) bool: it succeeded
            within eps.
        attacked: by the same names, (N,) bool: it was given the sample.
        norm: ``"linf"`` or ``"l2"``.
        eps: radius in the units of x.
        images: (N, *S), an adversarial within eps where an attack succeeded, x elsewhere. None if
            none were kept.
        details: what else there is to say of the run, fit for JSON: ``data`` (name or path for
            ``load_data``), ``attacks`` (name and arguments), ``left_out`` (attacks that the model's
            head declares and that did not run), ``protocol``, ``versions``, ``seed``,
            ``started``, ``seconds``, ...

    Raises:
        ValueError: if these do not fit together.
    """

    x: Tensor
    y: Tensor
    wrong: Tensor
    broken: Mapping[str, Tensor]
    attacked: Mapping[str, Tensor]
    norm: str
    eps: float
    images: Tensor | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, ("linf", "l2"))
        check_positive("eps", self.eps)
        check_classes("y", self.y, len(self.x))
        if not len(self.x) or not self.broken or list(self.broken) != list(self.attacked):
            raise ValueError(
                f"wanted samples, and the same attacks in broken and attacked, got {len(self.x)}"
                f" samples, {list(self.broken)} and {list(self.attacked)}"
            )
        flags = {"wrong": self.wrong, **self.broken, **self.attacked}
        for name, one in flags.items():
            if one.dtype != torch.bool or one.shape != self.y.shape:
                raise ValueError(
                    f"{name} must be bool of shape ({len(self.x)},), got {one.dtype},"
                    f" {tuple(one.shape)}"
                )
        if self.images is not None and self.images.shape != self.x.shape:
            raise ValueError(
                f"images must have the shape of x, {tuple(self.x.shape)}, got"
                f" {tuple(self.images.shape)}"
            )

    @property
    def fallen(self) -> Tensor:
        """(N,) bool, misclassified, or with a success of any attack."""
        return torch.stack([self.wrong, *self.broken.values()]).any(dim=0)

    @property
    def clean_accuracy(self) -> float:
        """Share that is classified correctly."""
        return exact_mean(~self.wrong)

    @property
    def robust_accuracy(self) -> float:
        """Share that no attack broke."""
        return exact_mean(~self.fallen)

    @property
    def accuracies(self) -> dict[str, float]:
        """Share that stands after each attack and all before it. ``"clean"`` is the first."""
        shares = {"clean": self.clean_accuracy}
        wrong = self.wrong
        for name, broken in self.broken.items():
            wrong = wrong | broken
            shares[name] = exact_mean(~wrong)
        return shares

    @property
    def autoattack_accuracy(self) -> float | None:
        """AutoAttack's own number: its standard version on every correctly classified sample. None
        if it was not run.

        Behind other attacks of a cascade it saw survivors only, and with other settings it is not
        AutoAttack.
        """
        name = "autoattack"
        if name not in self.broken or not bool((self.attacked[name] | self.wrong).all()):
            return None
        arguments = self.details.get("attacks", {}).get(name, {}).get("arguments", {})
        changed = {
            key for key, value in arguments.items() if (key, value) != ("version", "standard")
        }
        if changed & {"version", "attacks", "adjust", "then"}:
            return None
        return exact_mean(~(self.wrong | self.broken[name]))

    def sample(self, count: int) -> dict[str, Tensor]:
        """Every sample's label and verdict, and ``count`` evenly spread samples themselves, as
        tensors for a file.
        """
        index = torch.linspace(0, len(self.x) - 1, min(count, len(self.x))).round().long()
        tensors = {
            "labels": self.y,
            "wrong": self.wrong,
            "fallen": self.fallen,
            "index": index,
            "x": self.x[index],
        }
        if self.images is not None:
            tensors["x_adv"] = self.images[index]
        return tensors
