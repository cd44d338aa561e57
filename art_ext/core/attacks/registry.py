"""The list of attacks, and the facts that every host reads about them.

>>> from art_ext.core.attacks import registry
>>> registry.get("rays").access
'labels'
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from art_ext.core.advice import note_attack
from art_ext.core.attacks.hosts import Shell
from art_ext.core.checks import check_choice, listed, nearest
from art_ext.core.geometry import NORMS, norm_name
from art_ext.core.registry import Registry

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
        tanh: True if the attack moves in tanh space, or the keyword that says so.
        resources: what it needs besides model and samples, such as ``("generator",)``. They are the
            arguments of the function between ``model`` and ``x``. Such an attack is in no panel and
            has no generated class.
        hosts: the classes in the host toolkits, by the host's name.

    Raises:
        ValueError: for an unknown access, family, norm, keyword or resource.
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
    tanh: bool | str = False
    resources: tuple[str, ...] = ()
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
        tanh = self.tanh if isinstance(self.tanh, str) else ""
        named = [self.budget, tanh, *self.resources]
        for keyword in filter(None, named):
            if keyword not in parameters:
                raise ValueError(
                    f"{self.name} has no keyword {keyword!r}{nearest(keyword, parameters)}"
                )
        after_model = tuple(parameters)[1 : 1 + len(self.resources)]
        if self.resources != after_model:
            raise ValueError(
                f"{self.name} must take its resources {self.resources} after the model, got"
                f" {inspect.signature(self.function)}"
            )

    def with_resources(self, **resources: Any) -> AttackSpec:
        """Return the spec of the same attack with its resources given.

        Its function is called as ``function(model, x, y, ...)``, as that of any attack. It pickles
        if the resources do.

        Args:
            **resources: one for each name in ``resources``.

        Raises:
            ValueError: if one is missing, or the attack takes no such resource.
        """
        if tuple(sorted(resources)) != tuple(sorted(self.resources)):
            raise ValueError(
                f"{self.name} needs {listed(self.resources) or 'no resource'}, got"
                f" {listed(resources) or 'none'}"
            )
        given = tuple(resources[name] for name in self.resources)
        return replace(self, function=Supplied(self.function, given), resources=())

    def check_supplied(self) -> None:
        """Raise ValueError if the attack needs resources that are not given yet."""
        if self.resources:
            raise ValueError(
                f"{self.name} needs a {' and a '.join(self.resources)} besides the model: run it by"
                " `art-ext evaluate --generator RUN` or `art-ext limits`, or call"
                f" art_ext.core.attacks.{self.name} from Python"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """The defaults of the function by keyword, ``inspect.Parameter.empty`` where required."""
        return parameters_of(self.function)


@dataclass(frozen=True)
class Supplied:
    """Attack whose resources are given, as a function of model, samples and labels.

    Attributes:
        function: the attack, called as ``function(model, *resources, x, y, ...)``.
        resources: in the order of its spec.
    """

    function: Callable[..., Any]
    resources: tuple[Any, ...]

    @property
    def __signature__(self) -> inspect.Signature:
        """Signature of the attack without its resources."""
        signature = inspect.signature(self.function)
        first, *others = signature.parameters.values()
        return signature.replace(parameters=[first, *others[len(self.resources) :]])

    @property
    def __name__(self) -> str:
        """Name of the attack."""
        return self.function.__name__

    def __call__(self, model: Any, x: Any, y: Any = None, **keywords: Any) -> Any:
        """Attack the samples x of a model."""
        return self.function(model, *self.resources, x, y, **keywords)


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


class Attacks(Registry[AttackSpec]):
    """The attacks. Those of art-ext are noted for advice."""

    def is_built_in(self, spec: AttackSpec) -> bool:
        """Return whether an attack belongs to art-ext."""
        return spec.function.__module__.startswith(f"{__package__}.")

    def order(self, spec: AttackSpec) -> tuple[int, int, str]:
        """Return the key by which attacks are sorted."""
        return ACCESS.index(spec.access), FAMILIES.index(spec.family), spec.name

    def read(self, found: Any, name: str, origin: str) -> AttackSpec:
        """Return the spec of an AttackSpec, or of a function as ``spec_of`` takes it.

        Raises:
            ValueError: for anything else.
        """
        if isinstance(found, AttackSpec):
            return found
        if not callable(found):
            raise ValueError(
                f"{origin} must be a function or an AttackSpec, got {type(found).__name__}"
            )
        return spec_of(found, name)

    def register(self, *specs: AttackSpec) -> None:
        """Add attacks to the list.

        Args:
            *specs: the attacks. They replace attacks of the same names, but those of art-ext.

        Raises:
            ValueError: if a name belongs to an attack of art-ext, in any case.
        """
        super().register(*specs)
        for spec in filter(self.is_built_in, specs):
            note_attack(spec.name, spec.access)


_ATTACKS = Attacks("art_ext.attacks", "attack", "AttackSpec")
PLUGINS = _ATTACKS.plugins
register = _ATTACKS.register
unregister = _ATTACKS.unregister
is_built_in = _ATTACKS.is_built_in
get = _ATTACKS.get
load = _ATTACKS.load
specs = _ATTACKS.specs


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
    return [
        spec.name
        for spec in specs()
        if access in (None, spec.access)
        and (norm is None or norm in spec.norms)
        and family in (None, spec.family)
    ]
