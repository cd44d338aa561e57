"""The part of an ``AttackSpec`` that a host toolkit needs, where its conventions do not suffice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shell:
    """The class of an attack in a host toolkit.

    Everything but ``name`` has a default, which follows from the attack's function and from the
    conventions of the host (``art_ext.shells``).

    Attributes:
        name: of the class. Empty: the host has no class of this attack, for the ``reason``.
        reason: why there is no class. Shown by the documentation.
        summary: first sentence of the class docstring. Default: title and summary of the spec.
        notes: further sentences of the class docstring.
        parameters: the host's keywords in their order, separated by blanks. Default: all that the
            host passes on.
        defaults: by host keyword, where they differ from those of host and function.
        texts: descriptions by host keyword, where they differ from those of host and function.
        inputs: further arrays that the call takes besides samples and labels: the keyword of the
            function by the host's keyword.
        replaced: by host keyword, values that reach the function as another value.
        model: name of the constructor's first argument. Default: the host's.
        measure: the norms in words. Default: those of the spec.
        example: arguments of the call in the docstring's example.
        shown: expression of ``attack`` that the example ends with.
    """

    name: str = ""
    reason: str = ""
    summary: str = ""
    notes: str = ""
    parameters: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    model: str = ""
    measure: str = ""
    example: str = ""
    shown: str = ""
