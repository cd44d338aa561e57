"""ART shells of attacks that users register."""

from __future__ import annotations

from typing import Any

from art.attacks.attack import EvasionAttack

from art_ext.attacks.shell import GRADIENT_REQUIREMENTS, FunctionAttack, ResizingAttack
from art_ext.core.attacks.registry import AttackSpec
from art_ext.shells import build, plan
from art_ext.shells.art import HOST, attributes, class_lines


def make(spec: AttackSpec) -> type[FunctionAttack]:
    """Make the ART class of an attack, as ``make shells`` writes those of the package.

    Args:
        spec: the attack. Its function returns an ``AttackResult``.

    Raises:
        ValueError: if the spec has no class in ART, or its access is ``"unknown"``.
    """
    found = plan(spec, HOST)
    names = [one.name for one in found.keywords]
    members: dict[str, Any] = {
        "attack_params": [*EvasionAttack.attack_params, *names],
        "_function": staticmethod(spec.function),
        **attributes(found),
    }
    if spec.access == "gradients":
        members["_estimator_requirements"] = GRADIENT_REQUIREMENTS
    base = ResizingAttack if "resize" in names else FunctionAttack
    made: type[FunctionAttack] = build(
        found, base, members, __name__, "\n".join(class_lines(found))
    )
    return made
