"""Settings of an AutoAttack run, and their identity."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.adapters.autoattack.package import Package
from art_ext.adapters.autoattack.state import describe_model
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.checks import check_choice
from art_ext.core.identity import describe_samples
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_classes, check_samples

VERSIONS = ("standard", "plus", "rand", "custom")
ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")

Follower = Callable[[Model, Tensor, Tensor], AttackResult]


@dataclass(frozen=True)
class Plan:
    """Settings of a run, the same for every chunk."""

    model: Model
    eps: float
    norm: str
    version: str
    attacks: tuple[str, ...]
    adjust: Mapping[str, Mapping[str, float]]
    then: Mapping[str, Follower]
    outputs: str
    batch_size: int
    seed: int
    device: torch.device | str | None
    package: Package

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError unless AutoAttack can work with the samples, before the model is
        called.
        """
        check_samples(x)
        if x.dim() != 4:
            raise ValueError(
                f"x must be images of shape (N, C, H, W) for AutoAttack, got {tuple(x.shape)}"
            )
        if y is None:
            raise ValueError(
                "y must be given: AutoAttack attacks the samples that the model gets right, got"
                " None"
            )
        check_classes("y", y, len(x))
        self._check_attacks()

    def _check_attacks(self) -> None:
        check_choice("version", self.version, VERSIONS)
        if (self.version == "custom") != bool(self.attacks):
            raise ValueError(
                "attacks must be given with version='custom', and only then, got"
                f" version={self.version!r} and attacks={self.attacks}"
            )
        for name in self.attacks:
            check_choice("each of attacks", name, ATTACKS)
        if len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f"attacks must hold each attack once, got {', '.join(self.attacks)}")

    def identity(self, x: Tensor, y: Tensor, chunk_size: int) -> dict[str, Any]:
        """Return all that decides the outcome."""
        return {
            "tool": "art-ext autoattack",
            "package": f"{self.package.name} {self.package.version}",
            "model": describe_model(self.model),
            "outputs": self.outputs,
            "data": describe_samples(x, y),
            "norm": self.norm,
            "eps": self.eps,
            "version": self.version,
            "attacks": self.attacks,
            "adjust": {part: dict(settings) for part, settings in self.adjust.items()},
            # a list, since order counts
            "then": [[name, _described(attack)] for name, attack in self.then.items()],
            "seed": self.seed,
            "batch_size": self.batch_size,
            "chunk_size": chunk_size,
        }

    def problem(self, x: Tensor, y: Tensor) -> Problem:
        """Return the samples x (n, C, H, W) and labels y (n,) as a problem of ``core``."""
        options = AttackOptions(
            outputs=self.outputs, batch_size=self.batch_size, device=self.device, seed=self.seed
        )
        return Problem.of(
            self.model, x, y, eps=self.eps, norm=self.norm, options=options, oracle=ScoreOracle
        )


def listed_attacks(attacks: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names that a text separates by commas, or a sequence holds.

    Args:
        attacks: a text, a sequence of names, or None for no name.
    """
    names = attacks.split(",") if isinstance(attacks, str) else attacks or ()
    return tuple(str(name).strip() for name in names)


def named(then: Sequence[Follower | tuple[str, Follower]]) -> dict[str, Follower]:
    """Return the attacks that follow by name: the one given, or that of the function."""
    found: dict[str, Follower] = {}
    for one in then:
        attack = one[1] if isinstance(one, tuple) else one
        name = one[0] if isinstance(one, tuple) else getattr(_function(attack), "__name__", "")
        if not callable(attack) or not name or name in (*found, *ATTACKS, "clean"):
            raise ValueError(
                "then must hold attacks with names of their own, or pairs (name, attack), got"
                f" {one!r} beside {', '.join(found) or 'AutoAttack'}"
            )
        found[name] = attack
    return found


def _function(attack: Any) -> Any:
    return attack.func if isinstance(attack, functools.partial) else attack


def _described(attack: Any) -> str:
    """Describe an attack by its function's name and the arguments fixed in advance."""
    function = _function(attack)
    named = function if hasattr(function, "__qualname__") else type(function)
    fixed = (
        f"{attack.args} {sorted(attack.keywords.items())}"
        if isinstance(attack, functools.partial)
        else ""
    )
    return f"{named.__module__}.{named.__qualname__} {fixed}".strip()
