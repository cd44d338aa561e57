"""The attacks of a run on limits: named settings of registered attacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from art_ext.core.checks import check_choice
from art_ext.core.result import AttackResult
from art_ext.evaluation.analysis.bounding import AUTO_PGD, GIVEN, OPTIMISE, PGD
from art_ext.evaluation.panel.attack import Attack, AttackFunction, AttackRequest
from art_ext.evaluation.panel.members import CoreRun, find_attack

# eps and step size of the authors' L2 PGD on MNIST
STEPS = ((0.0, 0.0), (1.0, 0.1), (2.0, 0.3), (3.0, 0.5))
ATTACKS = ("sign_gradient", "auto_pgd", "in_distribution")
RESTARTS = {False: 2, True: 5}  # of Auto-PGD, in short and in full
# the paper's, of the in-distribution attack
FULL = {"num_steps": 10_000, "step_size": 0.01}


def step_size(eps: float) -> float:
    """Return the step of L2 PGD: .1, .3 and .5 at eps 1, 2 and 3, and linear between and beyond."""
    for (left, low), (right, high) in pairwise(STEPS):
        if eps <= right:
            return low + (high - low) * (eps - left) / (right - left)
    return STEPS[-1][1] * eps / STEPS[-1][0]


@dataclass(frozen=True)
class SteppedRun:
    """Callable that runs an attack with the step size of the radius.

    Attributes:
        run: the attack without a step size.
    """

    run: CoreRun

    def __call__(self, request: AttackRequest) -> AttackResult:
        """Attack the samples of the request and return the result."""
        arguments = {**self.run.arguments, "step_size": step_size(request.eps)}
        return replace(self.run, arguments=arguments)(request)


def attacks_of(
    latents: bool,
    *,
    full: bool = False,
    image_range: tuple[float, float] | None = (0.0, 1.0),
    attack_args: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Attack]:
    """Return the attacks of a run on limits.

    They are L2 PGD of the authors, Auto-PGD on the margin, and the in-distribution attack from
    optimised latents and, where they are known, from those that made the samples.

    Args:
        latents: True if the latents of the samples are known.
        full: as of ``limits``.
        image_range: of the generator.
        attack_args: by attack, further arguments.

    Raises:
        ValueError: for arguments of another attack, or that an attack does not take.
    """
    given = _by_attack({} if attack_args is None else attack_args)
    for name in given:
        check_choice("attack_args", name, ATTACKS)
    own = given.get("in_distribution", {})
    for name in ("initialisation", "image_range"):
        if name in own:
            raise ValueError(
                f"attack_args in_distribution.{name} is set by the run, which attacks from"
                f" optimised and from given latents, got {own[name]!r}"
            )

    def found(attack: str, label: str, **arguments: Any) -> Attack:
        return find_attack(attack, {**arguments, **given.get(attack, {})}, label)

    steps = {"num_steps": 100, "start": "input", "projection": "ball-first"}
    pgd = found("sign_gradient", PGD, stop_on_success=True, **steps)
    auto = found("auto_pgd", AUTO_PGD, loss="margin", num_restarts=RESTARTS[full])
    images = {**(FULL if full else {}), "image_range": image_range}
    starts = {OPTIMISE: "optimise", **({GIVEN: "given"} if latents else {})}
    on_images = [
        found("in_distribution", name, initialisation=start, **images)
        for name, start in starts.items()
    ]
    if "step_size" not in pgd.arguments:
        pgd = replace(pgd, run=_stepped(pgd.run), about=f"{pgd.about} {_ABOUT}")
    return [pgd, auto, *on_images]


def _by_attack(attack_args: Any) -> dict[str, dict[str, Any]]:
    """Return arguments by attack.

    Raises:
        ValueError: unless they are mappings of names to arguments, by attack.
    """
    if not isinstance(attack_args, Mapping):
        raise ValueError(
            "attack_args must map attacks to their arguments, such as"
            f" {{'auto_pgd': {{'num_steps': 10}}}}, got {attack_args!r}"
        )
    for name, one in attack_args.items():
        if not isinstance(one, Mapping):
            raise ValueError(f"attack_args {name} must map names to arguments, got {one!r}")
    return {name: dict(one) for name, one in attack_args.items()}


_ABOUT = (
    "Its start is the input, and its step .1, .3 and .5 at eps 1, 2 and 3, linear between and"
    " beyond."
)


def _stepped(run: AttackFunction) -> AttackFunction:
    if not isinstance(run, CoreRun):
        raise TypeError(f"wanted a registered attack, got {type(run).__name__}")
    return SteppedRun(run)
