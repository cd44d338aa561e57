"""The entry of public functions: keywords in any understandable spelling, complete signatures and
docstrings.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

import torch

from art_ext.core.checks import nearest
from art_ext.core.geometry import norm_name
from art_ext.core.result import AttackResult
from art_ext.core.slicing import in_slices

Function = TypeVar("Function", bound=Callable[..., Any])
ENTRY = re.compile(r"^ {4}(?=\S)(\*{0,2}\w+(?:, \w+)*):", re.MULTILINE)
# by host and family of attacks or training, the host's name of our keywords
HOST_KEYWORDS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "art": {
        "fixed-radius": {
            "step_size": "eps_step",
            "step_fraction": "eps_step",
            "num_steps": "max_iter",
            "num_restarts": "nb_random_init",
            "num_transitions": "nb_samples",
            "num_directions": "nb_directions",
            "num_targets": "nb_targets",
        },
        "minimum-norm": {
            "step_size": "learning_rate",
            "num_steps": "max_iter",
            "search_steps": "binary_search_steps",
            "coordinates": "nb_parallel",
            "h": "variable_h",
        },
        "training": {
            "step_size": "eps_step",
            "num_steps": "max_iter",
            "num_replays": "nb_replays",
            "num_outer": "nb_outer",
            "num_inner": "nb_inner",
            "members": "nb_members",
        },
    },
    "torchattacks": {
        "fixed-radius": {
            "step_size": "alpha",
            "step_fraction": "alpha",
            "num_steps": "steps",
            "num_restarts": "n_restarts",
            "num_transitions": "n_samples",
            "num_directions": "n_directions",
            "num_targets": "n_targets",
        },
        "minimum-norm": {
            "confidence": "kappa",
            "step_size": "lr",
            "num_steps": "max_iterations",
            "search_steps": "binary_search_steps",
            "coordinates": "n_coordinates",
        },
    },
}
LEAST_SIMILARITY = 0.6  # of a keyword that is suggested for a misspelt one
RAISES = re.compile(r"^Raises:\n.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
AFTER_RAISES = re.compile(r"^(Differences from the paper|References|Example\w*):$", re.MULTILINE)
SECTION = re.compile(r"^[A-Z][\w ]*:$", re.MULTILINE)


def hint_at(name: str, known: Iterable[str]) -> str:
    """Return a hint at the keyword that is meant by an unknown one, for a message.

    A keyword of another toolkit, or of the core, stands for the one of the same meaning. Without
    one of that meaning the hint is empty, since a similar name means something else.
    """
    listed = list(known)
    tables = [table for families in HOST_KEYWORDS.values() for table in families.values()]
    meanings = {core for table in tables for core, host in table.items() if name in (core, host)}
    spellings = [
        spelling
        for core in sorted(meanings)
        for spelling in (core, *(table[core] for table in tables if core in table))
    ]
    same = next((one for one in spellings if one in listed), None)
    if same is not None:
        return f" (did you mean {same!r}?)"
    return "" if meanings else nearest(name, listed, least=LEAST_SIMILARITY)


def check_keywords(called: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for a keyword that is not among the known ones.

    Args:
        called: name of what was called.
        given: the keywords that it was called with.
        known: the keywords that it takes.

    Raises:
        TypeError: naming the keyword and the nearest known one or, if none is near, all of them.
    """
    for name in given:
        if name not in known:
            hint = hint_at(name, known) or f": it takes {', '.join(known) or 'none'}"
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}{hint}")


def public(
    options: type | None = None, *documents: type, without: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Decorate a public function: one frame that reads its keywords, and a complete signature.

    A keyword that it does not take raises a TypeError that names the nearest one. ``norm`` takes
    every spelling. ``torch.inference_mode()`` is left for the call. Its signature shows the fields
    of ``options`` in the place of ``**options``, its annotations are types, and each parameter has
    a line in the section ``Args`` of its docstring. A docstring without a section ``Raises`` gets
    that of the first class which has one. An attack on many large samples runs in slices
    (``core.slicing``).

    Args:
        options: dataclass of the keywords that the function takes as ``**options``.
        *documents: classes whose docstrings describe parameters that the function's does not.
        without: fields of ``options`` that the function does not take.
    """

    def decorate(function: Function) -> Function:
        signature = _signature(function, options, without)
        known = [
            one.name for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD
        ]
        called = function.__name__
        hints = _hints(function, options)
        is_attack = hints.get("return") in (AttackResult, "AttackResult")
        defaults = {one.name: one.default for one in signature.parameters.values()}

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in known:
                    check_keywords(called, keywords, known)
            if keywords.get("norm") is not None:
                keywords["norm"] = norm_name(keywords["norm"])
            inference = torch.is_inference_mode_enabled()
            with torch.inference_mode(False) if inference else nullcontext():
                if is_attack:
                    given = {**dict(zip(defaults, arguments, strict=False)), **keywords}
                    found = in_slices(function, given, defaults)
                    if found is not None:
                        return found
                return function(*arguments, **keywords)

        sources = [one for one in (*documents, options) if one is not None]
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: kind for name, kind in hints.items() if name not in without}
        text = _documented(function.__doc__, known, sources)
        call.__doc__ = _with_raises(text, sources)
        return cast(Function, call)

    return decorate


def _signature(
    function: Callable[..., Any], options: type | None, without: Collection[str]
) -> inspect.Signature:
    """Return the signature with the fields of options in the place of ``**options``."""
    signature = inspect.signature(function)
    if options is None or not is_dataclass(options):
        return signature
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default if field.default_factory is MISSING else field.default_factory(),
            annotation=field.type,
        )
        for field in fields(options)
        if field.name not in signature.parameters and field.name not in without
    ]
    return signature.replace(parameters=[*own, *shared])


def _hints(function: Callable[..., Any], options: type | None) -> dict[str, Any]:
    """Return the types of all parameters. Names only for type checkers remain texts."""
    try:
        own = get_type_hints(function)
        shared = {} if options is None else get_type_hints(options)
    except NameError:
        return function.__annotations__
    own.pop("options", None)
    return {**shared, **own}


def described(text: str | None, section: str) -> dict[str, str]:
    """Return the entries of a docstring's section such as ``Args``, by their first names."""
    found = re.search(rf"^{section}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(text or ""), re.M | re.S)
    if found is None:
        return {}
    starts = [*ENTRY.finditer(found.group(1))]
    ends = [one.start() for one in starts[1:]] + [len(found.group(1))]
    return {
        entry.group(1): found.group(1)[entry.start() : end].rstrip()
        for entry, end in zip(starts, ends, strict=True)
    }


def _documented(text: str | None, names: list[str], sources: list[type]) -> str | None:
    """Add a line for each parameter to the docstring, from ``sources`` where it has none."""
    if text is None or not sources:
        return text
    text = inspect.cleandoc(text)
    entries: dict[str, str] = {}
    for given in [described(text, "Args"), *_descriptions(sources)]:
        for spelled, entry in given.items():
            for name in spelled.split(", "):
                entries.setdefault(name, entry)
    body = "\n".join(dict.fromkeys(entries[name] for name in names if name in entries))
    if "\nArgs:\n" in text:
        return re.sub(
            r"^Args:\n.*?(?=^\S|\Z)", lambda _: f"Args:\n{body}\n\n", text, flags=re.M | re.S
        ).rstrip()
    place = SECTION.search(text)
    split = len(text) if place is None else place.start()
    return f"{text[:split].rstrip()}\n\nArgs:\n{body}\n\n{text[split:]}".rstrip()


def _with_raises(text: str | None, sources: list[type]) -> str | None:
    """Add the section ``Raises`` of the first source that has one, unless the docstring has it."""
    found = (RAISES.search(inspect.cleandoc(one.__doc__ or "")) for one in sources)
    section = next((one.group(0).rstrip() for one in found if one is not None), None)
    if text is None or section is None or RAISES.search(text):
        return text
    place = AFTER_RAISES.search(text)
    split = len(text) if place is None else place.start()
    return f"{text[:split].rstrip()}\n\n{section}\n\n{text[split:]}".rstrip()


def _descriptions(sources: list[type]) -> Iterator[dict[str, str]]:
    for source in sources:
        for one in source.__mro__:
            yield {**described(one.__doc__, "Args"), **described(one.__doc__, "Attributes")}


def checked_keywords(function: Function, called: str | None = None) -> Function:
    """Decorate a function so that a misspelt keyword raises a TypeError that names the nearest one.

    A function that takes any keyword stays as it is.

    Args:
        function: what is called.
        called: its name in messages. None takes its own.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [
        one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    name = called or function.__name__
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return function

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        check_keywords(name, keywords, known)
        return function(*arguments, **keywords)

    return cast(Function, call)


class CheckedKeywords:
    """Base of classes whose constructors name the nearest argument where one is misspelt."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", checked_keywords(cls.__init__, cls.__name__))  # noqa: B010  # for mypy
