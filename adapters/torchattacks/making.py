"""torchattacks shells of attacks that users register."""

from __future__ import annotations

from art_ext.adapters.torchattacks.shell import FunctionAttack
from art_ext.core.attacks.registry import AttackSpec
from art_ext.shells import build, plan
from art_ext.shells.torchattacks import HOST, attributes, class_lines


def make(spec: AttackSpec) -> type[FunctionAttack]:
    """Make the torchattacks class of an attack, as ``make shells`` writes those of the package.

    Args:
        spec: the attack. Its function returns an ``AttackResult``.

    Raises:
        ValueError: if the spec has no class in torchattacks, or its access is ``"unknown"``.
    """
    found = plan(spec, HOST)
    members = {"_function": staticmethod(spec.function), **attributes(found)}
    doc = "\n".join(class_lines(found))
    made: type[FunctionAttack] = build(found, FunctionAttack, members, __name__, doc)
    return made
