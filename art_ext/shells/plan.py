"""The plan of a shell class: its keywords, and the core's keywords behind them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, specs
from art_ext.shells.text import alternatives, argument_texts, renamed, spelled, without_default

EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Keyword:
    """One argument of a shell's constructor.

    Attributes:
        name: the host's.
        core: the keyword of the function. Empty: the shell alone uses it.
        default: in this host.
        annotation: as source text.
        text: description for the docstring.
    """

    name: str
    core: str
    default: Any
    annotation: str
    text: str


@dataclass(frozen=True)
class Host:
    """The conventions of a toolkit.

    Attributes:
        name: key in ``AttackSpec.hosts``.
        model: name, annotation and description of the constructor's first argument.
        names: by family of attacks, the host's name of the function's keywords.
        norms: the host's value of each norm.
        norm_type: annotation of ``norm``.
        spellings: the source texts of each norm, in the order in which descriptions list them.
        defaults: by host keyword. ``eps`` holds where the function requires one.
        hidden: keywords of the function that the host does not pass on.
        own: keywords of the shells themselves.
        tail: host keywords that come last, where the function or the host has them.
        texts: by family of attacks, and ``""`` for all, descriptions by host keyword. They hold
            ``{norms}`` in the place of the attack's norms.
    """

    name: str
    model: tuple[str, str, str]
    names: Mapping[str, Mapping[str, str]]
    norms: Mapping[str, Any]
    norm_type: str
    spellings: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any]
    hidden: frozenset[str]
    own: Mapping[str, Keyword]
    tail: tuple[str, ...]
    texts: Mapping[str, Mapping[str, str]]
    summary: Callable[[AttackSpec], str] = field(default=lambda spec: spec.summary)


@dataclass(frozen=True)
class Plan:
    """A shell class before it is made or written.

    Attributes:
        spec: the attack.
        shell: the host's part of the spec.
        host: the conventions.
        model: name, annotation and description of the first argument.
        keywords: the others, in order.
    """

    spec: AttackSpec
    shell: Shell
    host: Host
    model: tuple[str, str, str]
    keywords: tuple[Keyword, ...]

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.shell.name

    @property
    def core_names(self) -> dict[str, str]:
        """The function's keywords by the host's, where they differ."""
        return {one.name: one.core for one in self.keywords if one.core not in ("", one.name)}

    @property
    def switches(self) -> tuple[str, ...]:
        """Keywords that are True or False."""
        return tuple(one.name for one in self.keywords if one.annotation == "bool")

    @property
    def signature(self) -> inspect.Signature:
        """Signature of the constructor, with annotations as text."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = inspect.Parameter(self.model[0], kind, annotation=self.model[1])
        others = [
            inspect.Parameter(one.name, kind, default=one.default, annotation=one.annotation)
            for one in self.keywords
        ]
        return inspect.Signature([first, *others], return_annotation="None")


def plan(spec: AttackSpec, host: Host) -> Plan:
    """Plan the class of an attack in a host.

    Raises:
        ValueError: if the host has no class of this attack, or its part names an unknown keyword.
    """
    shell = spec.hosts.get(host.name) or Shell()
    if shell.reason:
        raise ValueError(f"there is no shell of {spec.name} for {host.name}: {shell.reason}")
    spec.check_supplied()
    if spec.access == "unknown":
        raise ValueError(
            f"a shell needs an attack that counts its queries, and {spec.name} has access"
            " 'unknown': let it return an AttackResult of a driver, and register it with an"
            " AttackSpec that states its access (docs/how-to/add-an-attack.md)"
        )
    if not shell.name:
        shell = replace(shell, name="".join(part.title() for part in spec.name.split("_")))
    found = _passed_on(spec, host)
    order = tuple(shell.parameters.split()) or _ordered(found, host)
    unknown = [name for name in order if name not in found and name not in host.own]
    unknown += [name for name in {**shell.defaults, **shell.texts} if name not in order]
    if unknown:
        raise ValueError(f"the shell of {spec.name} for {host.name} has no keyword {unknown[0]!r}")
    texts = argument_texts(spec.function)
    first = (shell.model or host.model[0], *host.model[1:])
    keywords = tuple(
        _keyword(name, found[name], spec, shell, host, texts)
        if name in found
        else _changed(host.own[name], shell)
        for name in order
    )
    return Plan(spec, shell, host, first, keywords)


def plans(host: Host) -> list[Plan]:
    """Plan all classes of a host, by the names of the attacks."""
    named = sorted(specs(), key=lambda spec: spec.name)
    return [plan(spec, host) for spec in named if has_shell(spec, host)]


def has_shell(spec: AttackSpec, host: Host) -> bool:
    """Return True if the attack has a generated class in this host."""
    shell = spec.hosts.get(host.name)
    return shell is not None and bool(shell.name)


def _passed_on(spec: AttackSpec, host: Host) -> dict[str, inspect.Parameter]:
    """Return the function's parameters that the host passes on, by the host's keyword."""
    names = host.names.get(spec.family, {})
    found = {}
    for core, parameter in list(inspect.signature(spec.function).parameters.items())[3:]:
        hidden = core in host.hidden or parameter.kind is parameter.VAR_KEYWORD
        if not hidden:
            found[names.get(core, core)] = parameter
    return found


def _ordered(found: Mapping[str, Any], host: Host) -> tuple[str, ...]:
    front = [name for name in ("norm", "eps") if name in found]
    tail = [name for name in host.tail if name in found or name in host.own]
    middle = [name for name in found if name not in front and name not in tail]
    return (*front, *middle, *tail)


def _changed(own: Keyword, shell: Shell) -> Keyword:
    """Return a keyword of the shells themselves, as this one has it."""
    return replace(
        own,
        default=shell.defaults.get(own.name, own.default),
        text=shell.texts.get(own.name, own.text),
    )


def _keyword(
    name: str,
    parameter: inspect.Parameter,
    spec: AttackSpec,
    shell: Shell,
    host: Host,
    texts: Mapping[str, str],
) -> Keyword:
    default = parameter.default
    if name == "norm":
        default = host.norms[default]
    elif name in host.defaults and (name != "eps" or default is EMPTY):
        default = host.defaults[name]
    default = shell.defaults.get(name, default)
    family = host.texts.get(spec.family, {})
    text = shell.texts.get(name) or family.get(name) or host.texts[""].get(name)
    if text is None:
        text = texts.get(parameter.name, "")
        if default != parameter.default:
            text = without_default(text)
        text = renamed(text, host.names.get(spec.family, {}))
    if name == "norm":
        known = [host.spellings[norm] for norm in host.spellings if norm in spec.norms]
        text = text.replace("{norms}", alternatives(sum(known, ())))
    annotation = host.norm_type if name == "norm" else spelled(parameter.annotation)
    return Keyword(name, parameter.name, default, annotation, text)


def build(found: Plan, base: type, attributes: Mapping[str, Any], module: str, doc: str) -> type:
    """Make the class of a plan.

    Args:
        found: the plan.
        base: base class, whose constructor takes the model and the keywords.
        attributes: of the class.
        module: the class says that it comes from there.
        doc: docstring of the class.
    """
    signature = found.signature

    def __init__(self: Any, *args: Any, **given: Any) -> None:
        bound = signature.bind(*args, **given)
        bound.apply_defaults()
        model, *_ = bound.args
        keywords = {name: bound.arguments[name] for name in signature.parameters}
        del keywords[found.model[0]]
        base.__init__(self, model, **keywords)  # type: ignore[misc]  # the base of a shell

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [own, *signature.parameters.values()]
    __init__.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    members = {"__doc__": doc, "__module__": module, "__init__": __init__, **attributes}
    return type(found.name, (base,), members)
