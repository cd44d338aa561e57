"""Contract of an attack."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.attacks.registry import AttackSpec, spec_of
from art_ext.core.geometry import BALL_TOLERANCE, distances
from art_ext.core.result import AttackResult
from art_ext.testing.checks import (
    Check,
    ContractError,
    World,
    all_passed,
    check_unchanged,
    differing_rows,
    expect,
    outcomes,
    seed_streams,
)
from art_ext.testing.toy import NearestMean, digits

SAMPLES = 24
ALONE = 3  # samples that are attacked one by one
BUDGET = 150  # queries of a sample
SEED = 3
EPS = {"linf": 0.15, "l2": 0.9, "l1": 4.0}
ROUNDING = 1e-5  # of an adversarial that is computed in another batch


def check_attack(attack: Callable[..., Any] | AttackSpec, **arguments: Any) -> list[Check]:
    """Check the contract of an attack on a toy problem: digits and a linear classifier.

    Args:
        attack: a function of (model, x, y, *, eps, norm, ...), as an evaluation takes it, or an
            AttackSpec. It returns x_adv (N, *S) or an AttackResult.
        **arguments: further arguments of the attack, such as fewer steps.

    Returns:
        The checks, all of which passed.

    Raises:
        AssertionError: with a line for each check that failed.
        ValueError: if the function cannot be an attack, or does not take the arguments.
    """
    spec = attack if isinstance(attack, AttackSpec) else spec_of(attack)
    return all_passed(spec.name, attack_checks(spec, arguments))


def attack_checks(spec: AttackSpec, arguments: Mapping[str, Any] | None = None) -> Iterator[Check]:
    """Yield the outcome of each check of an attack.

    Raises:
        ValueError: for arguments that the attack does not take.
    """
    subject = _Subject(spec, dict(arguments or {}))
    return outcomes(CHECKS, subject)


@dataclass
class _Subject:
    """An attack on the toy problem."""

    spec: AttackSpec
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        self.spec.check_supplied()
        self.model = NearestMean()
        self.x, self.y = digits(SAMPLES)
        takes = self.spec.parameters
        for name in self.arguments:
            if name not in takes:
                raise ValueError(f"{self.spec.name} has no argument {name!r}")
        first = self.spec.norms[0]
        default = takes.get("norm", first)
        self.norm = default if default in self.spec.norms else first

    def call(self, x: Tensor, y: Tensor, norm: str = "", model: NearestMean | None = None) -> Any:
        """Attack samples of a network, a new one by default, and return what the function does."""
        norm = norm or self.norm
        offered = {
            "norm": norm,
            "seed": SEED,
            "clip_values": (0.0, 1.0),
            "batch_size": SAMPLES,
            "max_queries": BUDGET,
            "verbose": False,
        }
        taken = {name: value for name, value in offered.items() if name in self.spec.parameters}
        if self.spec.budget:
            taken[self.spec.budget] = BUDGET
        keywords = {**taken, "eps": EPS[norm], **self.arguments}
        return self.spec.function(model or copy.deepcopy(self.model), x, y, **keywords)

    def crafted(self, x: Tensor, y: Tensor, norm: str = "") -> Tensor:
        """Attack samples with the same global random streams, and return x_adv."""
        seed_streams(SEED)
        found = self.call(x.clone(), y.clone(), norm)
        return _x_adv(found).detach()

    @functools.cached_property
    def whole(self) -> Tensor:
        """x_adv of all samples in one call, which several checks compare with others."""
        return self.crafted(self.x, self.y)


def _shape_and_dtype(subject: _Subject) -> str:
    found = _x_adv(subject.call(subject.x.clone(), subject.y.clone()))
    expect(
        found.shape == subject.x.shape,
        f"x_adv must have shape {tuple(subject.x.shape)}, got {tuple(found.shape)}",
    )
    expect(found.dtype == torch.float32, f"x_adv must be float32, got {found.dtype}")
    wrong = int((~found.isfinite()).flatten(1).any(1).sum())
    expect(not wrong, f"{wrong} of {len(found)} rows hold NaN or infinity")
    return f"{tuple(found.shape)} float32"


def _ball(subject: _Subject) -> str:
    """Check each norm. A function without a spec may raise ValueError for some."""
    inside = []
    for norm in subject.spec.norms:
        try:
            moved = subject.crafted(subject.x, subject.y, norm)
        except ValueError:
            if subject.spec.access == "unknown" and norm != subject.norm:
                continue
            raise
        lengths = distances(moved, subject.x, norm)
        excess = lengths - EPS[norm]
        outside = int((excess > BALL_TOLERANCE).sum())
        expect(
            not outside,
            f"{outside} of {len(moved)} rows leave the {norm} ball of eps={EPS[norm]}, by up to"
            f" {float(excess.max()):.3g}",
        )
        inside.append(f"{norm} {float(lengths.max()):.3g} <= {EPS[norm]}")
    return ", ".join(inside)


def _box(subject: _Subject) -> str:
    moved = subject.whole
    excess = torch.maximum(-moved, moved - 1).flatten(1).amax(1)
    outside = int((excess > 0).sum())
    expect(
        not outside,
        f"{outside} of {len(moved)} rows leave [0, 1], by up to {float(excess.max()):.3g}",
    )
    return f"[{float(moved.min()):.3g}, {float(moved.max()):.3g}] in [0, 1]"


def _input_unchanged(subject: _Subject) -> str:
    x = subject.x.clone()
    y = subject.y.clone()
    subject.call(x, y)
    expect(torch.equal(x, subject.x), "it changes x: let it work on x.clone()")
    expect(torch.equal(y, subject.y), "it changes y: let it work on y.clone()")
    return "x and y"


def _determinism(subject: _Subject) -> str:
    """Compare two runs with the same seed. The global streams differ if a seed is given."""
    seeded = "seed" in subject.spec.parameters
    once = subject.whole
    seed_streams(SEED + seeded)
    again = _x_adv(subject.call(subject.x.clone(), subject.y.clone())).detach()
    differ = differing_rows(once, again, ROUNDING)
    expect(
        not differ,
        f"{differ} of {len(once)} rows differ in a second run"
        + (" with the same seed: draw from the seed alone" if seeded else ""),
    )
    return "two runs agree" + ("" if seeded else ", without a keyword seed")


def _order(subject: _Subject) -> str:
    order = torch.arange(SAMPLES).flip(0)
    other = subject.crafted(subject.x[order], subject.y[order])
    return _agree(subject, other[order.argsort()], "in another order")


def _batches(subject: _Subject) -> str:
    parts = [
        subject.crafted(x, y)
        for x, y in zip(subject.x.split(SAMPLES // 3), subject.y.split(SAMPLES // 3), strict=True)
    ]
    return _agree(subject, torch.cat(parts), "in smaller batches")


def _agree(subject: _Subject, other: Tensor, how: str) -> str:
    differ = differing_rows(subject.whole, other, ROUNDING)
    expect(
        not differ,
        f"{differ} of {SAMPLES} rows differ {how}: no sample may influence another. Random"
        " numbers of a sample come from art_ext.core.streams",
    )
    return f"{SAMPLES} rows agree {how}"


def _budget(subject: _Subject) -> str:
    """Count the rows of samples that are attacked alone, and compare with the result."""
    if not subject.spec.budget:
        return "none: it has no keyword max_queries"
    spent = []
    for row in range(ALONE):
        model = copy.deepcopy(subject.model)
        part = slice(row, row + 1)
        found = subject.call(subject.x[part].clone(), subject.y[part].clone(), model=model)
        sent = model.rows
        if isinstance(found, AttackResult):
            wasted = int(found.wasted_rows.sum())  # counted apart
            told = int(found.queries.sum()) + wasted
            expect(told == sent, f"the result counts {told} rows, and the model got {sent}")
            sent -= wasted
        spent.append(sent)
    expect(
        max(spent) <= BUDGET,
        f"{max(spent)} rows for one sample, with {subject.spec.budget}={BUDGET}",
    )
    return f"at most {max(spent)} rows for a sample, with {subject.spec.budget}={BUDGET}"


def _success(subject: _Subject) -> str:
    """Compare what a result calls a success with the model's own classes."""
    seed_streams(SEED)
    found = subject.call(subject.x.clone(), subject.y.clone())
    with torch.no_grad():
        wrong = subject.model(_x_adv(found)).argmax(dim=1) != subject.y
    text = f"{int(wrong.sum())} of {SAMPLES} rows are misclassified"
    if isinstance(found, AttackResult):
        differ = int((found.success.cpu() & ~wrong).sum())
        expect(not differ, f"{differ} rows are called a success, and the model has them right")
    return text


def _model_restored(subject: _Subject) -> str:
    model = copy.deepcopy(subject.model)
    world = World(model)
    subject.call(subject.x.clone(), subject.y.clone(), model=model)
    check_unchanged(world.model_changes(), "Let it work on copy.deepcopy(model)")
    return "parameters, buffers, modes, hooks, requires_grad"


def _streams_restored(subject: _Subject) -> str:
    world = World(subject.model)
    subject.call(subject.x.clone(), subject.y.clone())
    check_unchanged(world.stream_changes(), "Draw from torch.Generator().manual_seed(seed) instead")
    return "torch, NumPy, random"


def _x_adv(found: Any) -> Tensor:
    """Return x_adv of what an attack returned."""
    if isinstance(found, AttackResult):
        return found.x_adv
    if isinstance(found, np.ndarray):
        return torch.from_numpy(found)
    if not isinstance(found, Tensor):
        if inspect.iscoroutine(found):
            found.close()
        raise ContractError(
            "it must return x_adv as a tensor or a NumPy array, or an AttackResult, got"
            f" {type(found).__name__}"
        )
    return found


CHECKS: Mapping[str, Callable[[_Subject], str]] = {
    "shape and dtype": _shape_and_dtype,
    "ball": _ball,
    "box": _box,
    "input unchanged": _input_unchanged,
    "determinism by seed": _determinism,
    "order invariance": _order,
    "batch invariance": _batches,
    "budget": _budget,
    "success": _success,
    "model restored": _model_restored,
    "streams restored": _streams_restored,
}
