"""The list of attacks, and the facts that every host reads about them.

>>> from art_ext.core.attacks import registry
>>> registry.get("rays").access
'labels'
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from art_ext.core.checks import check_choice, nearest, same_name

ACCESS = ("labels", "scores", "gradients", "unknown")
FAMILIES = ("fixed-radius", "minimum-norm")
NORMS = ("linf", "l2", "l1")


@dataclass(frozen=True)
class AttackSpec:
    """The facts about one attack.

    A spec pickles if its function does.

    Attributes:
        name: key of the attack on the command line, in panels and in records.
        function: the public function, called as ``function(model, x, y, eps=..., norm=..., ...)``.
            It returns an AttackResult. With access ``"unknown"`` it may also return x_adv alone.
        access: the answers of the model that it needs: ``"labels"``, ``"scores"`` or
            ``"gradients"``. ``"unknown"`` marks a function that does not count its own queries:
            the evaluation counts them from outside, as for external attacks.
        family: ``"fixed-radius"`` or ``"minimum-norm"``.
        summary: one sentence for listings, reports and documentation.
        title: name in text. Default: ``name``.
        paper: the publication, as ``"Authors. Title. Venue year."``
        page: file of the documentation in ``docs/``.
        norms: the norms that it supports.
        no_targets: reason why it cannot reach a given class from the input alone. Empty if it can.
        random: whether it draws random numbers by default.
        budget: the keyword that limits the queries of a sample. Empty if there is none.
        lengths: the keywords whose product is the number of iterations.
        tanh: True if the attack moves in tanh space, or the keyword that says so.
        hosts: what the hosts call the attack and its keywords.

    Raises:
        ValueError: for an unknown access, family, norm or keyword.
    """

    name: str
    function: Callable[..., Any]
    access: str
    family: str
    summary: str
    title: str = ""
    paper: str = ""
    page: str = ""
    norms: tuple[str, ...] = NORMS
    no_targets: str = ""
    random: bool = False
    budget: str = "max_queries"
    lengths: tuple[str, ...] = ()
    tanh: bool | str = False
    hosts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("access", self.access, ACCESS)
        check_choice("family", self.family, FAMILIES)
        for norm in self.norms:
            check_choice("norms", norm, NORMS)
        object.__setattr__(self, "title", self.title or self.name)
        parameters = self.parameters
        named = [self.budget, *self.lengths, self.tanh if isinstance(self.tanh, str) else ""]
        for keyword in filter(None, named):
            if keyword not in parameters:
                raise ValueError(
                    f"{self.name} has no keyword {keyword!r}{nearest(keyword, parameters)}"
                )

    @property
    def parameters(self) -> dict[str, Any]:
        """The defaults of the function by keyword, ``inspect.Parameter.empty`` where required."""
        return parameters_of(self.function)


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function or class by keyword, ``Parameter.empty`` where required."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind in named}


_SPECS: dict[str, AttackSpec] = {}


def register(*specs: AttackSpec) -> None:
    """Add attacks to the list.

    Args:
        *specs: the attacks. One that is listed already, by a reloaded module, is replaced.

    Raises:
        ValueError: if a name belongs to another function, in any case.
    """
    for spec in specs:
        known = same_name(spec.name, _SPECS)
        if known is not None and _origin(_SPECS[known]) != _origin(spec):
            raise ValueError(
                f"there is an attack {known!r} already, {'.'.join(_origin(_SPECS[known]))}: choose"
                " another name"
            )
        _SPECS[known or spec.name] = spec


def _origin(spec: AttackSpec) -> tuple[str, str]:
    function: Any = spec.function
    return str(function.__module__), str(getattr(function, "__qualname__", function))


def get(name: str) -> AttackSpec:
    """Return the attack of that name, in any case.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    known = same_name(name, _SPECS)
    if known is None:
        raise ValueError(
            f"attack must be one of {', '.join(names())}, got {name!r}{nearest(name, _SPECS)}"
        )
    return _SPECS[known]


def names(
    *, access: str | None = None, norm: str | None = None, family: str | None = None
) -> list[str]:
    """Return the names of the attacks, those that need the least of the model first.

    Args:
        access: only attacks of this access. None takes all.
        norm: only attacks that support this norm. None takes all.
        family: only attacks of this family. None takes all.

    Raises:
        ValueError: for an unknown access, norm or family.
    """
    for argument, value, known in (
        ("access", access, ACCESS),
        ("norm", norm, NORMS),
        ("family", family, FAMILIES),
    ):
        if value is not None:
            check_choice(argument, value, known)
    found = [
        spec
        for spec in _SPECS.values()
        if access in (None, spec.access)
        and (norm is None or norm in spec.norms)
        and family in (None, spec.family)
    ]
    return [spec.name for spec in sorted(found, key=_order)]


def _order(spec: AttackSpec) -> tuple[int, int, str]:
    return ACCESS.index(spec.access), FAMILIES.index(spec.family), spec.name


def specs(listed: Iterable[str] | None = None) -> list[AttackSpec]:
    """Return the attacks of these names, all attacks by default."""
    return [get(name) for name in (names() if listed is None else listed)]
