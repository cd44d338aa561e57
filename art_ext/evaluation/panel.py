"""The attacks that an evaluation can run, by name, and the settings they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks import rays
from art_ext.core.checks import check_count
from art_ext.core.geometry import Box, check_ball
from art_ext.core.oracle import OUTPUTS, Model
from art_ext.core.result import AttackResult, Callback


@dataclass(frozen=True)
class Settings:
    """What every attack of a panel is told.

    Attributes:
        eps: radii, ascending, in the units of x.
        max_queries: most forward rows per sample, for attacks that count them.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        early_stop: whether a sample leaves the search at its first success.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box.
        batch_size: most rows in one model call.
        device: where inputs go for models without parameters.
        seed: keys every random number.
    """

    eps: tuple[float, ...]
    max_queries: int
    norm: str
    early_stop: bool
    outputs: str
    clip_values: tuple[float, float]
    batch_size: int
    device: str | None
    seed: int

    def check(self, sample_shape: torch.Size) -> None:
        """Refuse settings that make no sense, before anything is computed.

        Raises:
            ValueError: naming the argument, what was given and what was wanted.
        """
        if not self.eps or not all(math.isfinite(eps) for eps in self.eps):
            raise ValueError(f"eps must hold at least one finite radius, got {self.eps}")
        box = Box.of(self.clip_values, sample_shape, torch.device("cpu"))
        for eps in self.eps:
            check_ball(self.norm, eps, box)
        check_count("max_queries", self.max_queries)
        check_count("batch_size", self.batch_size)
        if self.outputs not in OUTPUTS:
            raise ValueError(f"outputs must be one of {', '.join(map(repr, OUTPUTS))}, got {self.outputs!r}")
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(f"device must be a name that torch knows, such as cuda, got {self.device!r}") from error


AttackFunction = Callable[[Model, Tensor, Tensor, float, Settings, Callback], AttackResult]


@dataclass(frozen=True)
class Attack:
    """A member of the panel.

    Attributes:
        name: how records, tables and the command line call it.
        run: from (model, x, y, eps, settings, callback) to the result.
        nearest: whether it searches the nearest adversarial; one search that does not stop early then serves every
            eps. Otherwise it fills a given ball, and runs once for each eps.
        about: what it does, in a sentence of the protocol.
    """

    name: str
    run: AttackFunction
    nearest: bool
    about: str

    def searches(self, settings: Settings) -> list[tuple[float, ...]]:
        """The runs that the settings ask for: each with the radii it serves, the last being the one it is given."""
        if self.nearest and not settings.early_stop:
            return [settings.eps]
        return [(eps,) for eps in settings.eps]


def _rays(model: Model, x: Tensor, y: Tensor, eps: float, settings: Settings, callback: Callback) -> AttackResult:
    return rays(
        model, x, y, eps=eps, max_queries=settings.max_queries, norm=settings.norm, early_stop=settings.early_stop,
        clip_values=settings.clip_values, outputs=settings.outputs, batch_size=settings.batch_size,
        device=settings.device, callback=callback, seed=settings.seed,
    )  # fmt: skip


ATTACKS = {
    "rays": Attack(
        name="rays",
        run=_rays,
        nearest=True,
        about="RayS asks for predicted labels only and searches the sign direction with the nearest decision boundary; "
        "every row through the model is a query, the clean check and each bisection step included.",
    )
}


def find_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        ValueError: listing the known names.
    """
    if name not in ATTACKS:
        raise ValueError(f"attack must be one of {', '.join(ATTACKS)}, got {name!r}")
    return ATTACKS[name]
