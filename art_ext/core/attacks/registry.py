"""The list of attacks, and the facts that every host reads about them.

>>> from art_ext.core.attacks import registry
>>> registry.get("rays").access
'labels'
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from art_ext.core.advice import note_attack
from art_ext.core.attacks.hosts import Shell
from art_ext.core.checks import check_choice, nearest, same_name
from art_ext.core.geometry import NORMS, norm_name
from art_ext.core.plugins import Plugins

ACCESS = ("labels", "scores", "gradients", "unknown")
FAMILIES = ("fixed-radius", "minimum-norm")


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
        url: address of the publication.
        page: file of the documentation in ``docs/``.
        norms: the norms that it supports.
        no_targets: reason why it cannot reach a given class from the input alone. Empty if it can.
        random: whether it draws random numbers by default.
        budget: the keyword that limits the queries of a sample. Empty if there is none.
        lengths: the keywords whose product is the number of iterations.
        tanh: True if the attack moves in tanh space, or the keyword that says so.
        hosts: the classes in the host toolkits, by the host's name.

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
    url: str = ""
    page: str = ""
    norms: tuple[str, ...] = NORMS
    no_targets: str = ""
    random: bool = False
    budget: str = "max_queries"
    lengths: tuple[str, ...] = ()
    tanh: bool | str = False
    hosts: Mapping[str, Shell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("access", self.access, ACCESS)
        check_choice("family", self.family, FAMILIES)
        for norm in self.norms:
            check_choice("norms", norm, NORMS)
        _check_plain(self.name, self.function)
        object.__setattr__(self, "title", self.title or self.name)
        parameters = self.parameters
        if "eps" not in parameters:
            raise ValueError(
                f"{self.name} must name the keyword eps, got {inspect.signature(self.function)}"
            )
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


def _check_plain(name: str, function: Callable[..., Any]) -> None:
    """Raise ValueError if a call returns a coroutine or a generator instead of a result."""
    called = _unwrapped(function)
    if not inspect.isroutine(called):
        called = type(called).__call__
    kinds = {
        "an async function": inspect.iscoroutinefunction,
        "a generator function": inspect.isgeneratorfunction,
        "an async generator function": inspect.isasyncgenfunction,
    }
    for kind, is_kind in kinds.items():
        if is_kind(called):
            raise ValueError(
                f"{name} must be a plain function that returns x_adv or an AttackResult, got {kind}"
            )


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside ``functools.partial``, and any other callable unchanged."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function or class by keyword, ``Parameter.empty`` where required."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind in named}


def spec_of(function: Callable[..., Any], name: str = "") -> AttackSpec:
    """Return the spec of a function that says nothing about itself but its parameters.

    Args:
        function: called as ``function(model, x, y, eps=..., ...)`` with those of the keywords norm,
            targeted, max_queries, seed, clip_values, batch_size and device that it has. It returns
            x_adv (N, *S) or an AttackResult. The evaluation counts its queries from outside.
        name: key of the attack. Default: the name of the function, or the class of a callable
            object.

    Raises:
        ValueError: unless the function takes a model, samples, labels and eps, returns a result,
            and has a name.
    """
    own = _unwrapped(function)
    name = name or getattr(own, "__name__", type(own).__name__)
    if name == "<lambda>":
        raise ValueError("a lambda has no name of its own: give the attack one, as name")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a function with a signature: {error}") from error
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if sum(parameter.kind in positional for parameter in found) < 3:
        raise ValueError(
            f"{name} must take (model, x, y, *, eps, norm, ...), got {inspect.signature(function)}"
        )
    known = parameters_of(function)
    return AttackSpec(
        name,
        function,
        "unknown",
        "fixed-radius",
        (inspect.getdoc(own) or "An attack without a description.").partition("\n")[0],
        norms=NORMS if "norm" in known else NORMS[:1],
        no_targets="" if "targeted" in known else "it has no parameter 'targeted'",
        budget="max_queries" if "max_queries" in known else "",
    )


_SPECS: dict[str, AttackSpec] = {}
PLUGINS = Plugins(
    "art_ext.attacks",
    "attack",
    lambda: [spec.name for spec in _SPECS.values() if is_built_in(spec)],
)


def register(*attacks: AttackSpec) -> None:
    """Add attacks to the list.

    Args:
        *attacks: the attacks. They replace attacks of the same names, but those of art-ext.

    Raises:
        ValueError: if a name belongs to an attack of art-ext, in any case.
    """
    for spec in attacks:
        known = same_name(spec.name, _SPECS)
        if known is not None and is_built_in(_SPECS[known]) and not is_built_in(spec):
            raise ValueError(f"art-ext has an attack {known!r}: choose another name")
        if known is not None:
            del _SPECS[known]
        _SPECS[spec.name] = spec
        if is_built_in(spec):
            note_attack(spec.name, spec.access)


def unregister(name: str) -> None:
    """Take an attack from the list."""
    del _SPECS[get(name).name]


def is_built_in(spec: AttackSpec) -> bool:
    """Return whether an attack belongs to art-ext."""
    return spec.function.__module__.startswith(f"{__package__}.")


def get(name: str, others: Iterable[str] = ()) -> AttackSpec:
    """Return the attack of that name, in any case.

    Attacks that other packages declare as entry points of the group ``art_ext.attacks`` are
    imported when they are asked for.

    Args:
        name: of the attack.
        others: what else the caller takes for an attack, for the message.

    Raises:
        ValueError: for an unknown name, with the nearest known one, or an entry point that fails.
    """
    known = same_name(name, _SPECS)
    if known is not None:
        return _SPECS[known]
    declared = PLUGINS.names()
    own = same_name(name, declared)
    if own is not None:
        return load(own)
    known_names = [*names(), *declared, *others]
    raise ValueError(
        f"attack must be one of {', '.join(known_names)}, got {name!r}{nearest(name, known_names)}"
    )


def load(name: str) -> AttackSpec:
    """Import the attack that another package declares, and register it.

    Args:
        name: of an entry point, which names an AttackSpec of that name, or a function as
            ``spec_of`` takes it.

    Raises:
        ValueError: if the import fails, finds no such attack, or the name is taken.
    """
    found = PLUGINS.load(name)
    if not callable(found) and not isinstance(found, AttackSpec):
        raise ValueError(
            f"the attack {name!r} of {PLUGINS.origin(name)} must be a function or an AttackSpec,"
            f" got {type(found).__name__}"
        )
    spec = found if isinstance(found, AttackSpec) else spec_of(found, name)
    if spec.name != name:
        raise ValueError(
            f"the attack {name!r} of {PLUGINS.origin(name)} must have the same name in its"
            f" AttackSpec, got {spec.name!r}"
        )
    register(spec)
    return spec


def names(
    *, access: str | None = None, norm: str | None = None, family: str | None = None
) -> list[str]:
    """Return the names of the attacks, those that need the least of the model first.

    Args:
        access: only attacks of this access. None takes all.
        norm: only attacks that support this norm, in any usual spelling. None takes all.
        family: only attacks of this family. None takes all.

    Raises:
        ValueError: for an unknown access, norm or family.
    """
    norm = None if norm is None else norm_name(norm)
    for argument, value, known in (("access", access, ACCESS), ("family", family, FAMILIES)):
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
