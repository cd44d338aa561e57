"""Options: fields of a configuration class, with the facts that every host reads.

A host takes options: ``"cli"`` is the command line, ``"toml"`` the configuration file, ``"loop"``
the keywords of ``art_ext.training.train``, and ``"art"`` the keywords of ``fit`` of the ART
trainers. Help texts, choices, the TOML schema, signatures and the tables of the documentation are
derived from the fields.
"""

# A dataclass with metadata rather than pydantic: the base installation stays small, and the values
# are already checked by functions whose messages use the user's words.

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from typing import Any, get_type_hints

COMMAND = ("cli",)
RUN = ("cli", "toml")
LOOP = ("cli", "toml", "loop")
EVERY = ("cli", "toml", "loop", "art")
KEY = "option"  # of the metadata of a field


@dataclass(frozen=True)
class Option:
    """Facts of an option that its name, type and default do not say.

    Attributes:
        help: effect in one line, for the command line and the tables of the documentation.
        doc: effect in more words, for docstrings. Empty: ``help``.
        hosts: hosts that take it.
        panel: heading in the help of the command. None: the general one.
        choices: allowed names. A text of another name is an error.
        range: of numbers: ``">= 0"``, ``">= 1"``, ``"> 0"``, ``"[0, 1)"``, ``"[0, 1]"`` or, of
            integers, ``"0 to 2"``.
        unit: unit of a number. A number in units of the input may be a fraction such as 8/255.
        off: value that stands for None in text, where leaving the option out means its default.
        by_data: the command takes its default from the data set.
        flag: name on the command line. Empty: the field's name with dashes.
        of: options whose arguments these are. Others on the command line drop those of the file.
        decides: ``"weights"`` (or records), ``"figures"`` or nothing: the part of a result that
            depends on it.
        metavar: form of the value in the help. None: the type.
        shown: the default as text. Empty: the default itself.
    """

    help: str
    doc: str = ""
    hosts: tuple[str, ...] = RUN
    panel: str | None = None
    choices: tuple[str, ...] = ()
    range: str = ""
    unit: str = ""
    off: Any = None
    by_data: bool = False
    flag: str = ""
    of: tuple[str, ...] = ()
    decides: str = "weights"
    metavar: str | None = None
    shown: str = ""


def option(default: Any, help: str | Option, **facts: Any) -> Any:
    """Declare a field of a configuration class.

    Args:
        default: its default. ``MISSING`` if there is none, a class such as ``dict`` to call it.
        help: one line, or an ``Option`` that several classes share.
        **facts: the attributes of ``Option``.
    """
    about = help if isinstance(help, Option) else Option(help, **facts)
    if isinstance(default, type):
        return field(default_factory=default, metadata={KEY: about})
    return field(default=default, metadata={KEY: about})


def same_option(config: type, name: str) -> Any:
    """Declare a field as that of another configuration class."""
    one = next(one for one in fields(config) if one.name == name)
    if one.default_factory is not MISSING:
        return field(default_factory=one.default_factory, metadata=one.metadata)
    return field(default=one.default, metadata=one.metadata)


def options_of(config: type, host: str | None = None) -> dict[str, tuple[Field[Any], Option]]:
    """Return the fields of a configuration class with their facts, by name.

    Args:
        config: the class.
        host: only fields that this host takes. None: all.
    """
    return {
        one.name: (one, one.metadata[KEY])
        for one in fields(config)
        if host is None or host in one.metadata[KEY].hosts
    }


def kind_of(one: Field[Any]) -> str:
    """Return the type of a field as its class declares it, without ``| None``."""
    return str(one.metadata.get("kind", one.type)).removesuffix(" | None")


def default_of(one: Field[Any]) -> Any:
    """Return the default of a field, ``MISSING`` without one."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def class_for(config: type, host: str, types: Mapping[str, Any] | None = None) -> Any:
    """Return a dataclass of the fields that a host takes, as a base of the host's own class.

    Args:
        config: the configuration class.
        host: the host.
        types: types that its annotations name. None leaves the annotations as texts.
    """
    hints = None if types is None else get_type_hints(config, localns=dict(types))
    members = []
    for name, (one, about) in options_of(config, host).items():
        default: dict[str, Any] = {"default": one.default}
        if one.default_factory is not MISSING:
            default = {"default_factory": one.default_factory}
        kind = one.type if hints is None else hints[name]
        facts = {KEY: about, "kind": one.type}
        members.append((name, kind, field(**default, metadata=facts)))
    return make_dataclass(f"{config.__name__}_{host}", members, frozen=True, kw_only=True)


def documented(config: type) -> str:
    """Return the section ``Attributes`` of the docstring of a configuration class."""
    lines = ["Attributes:"]
    for name, (_, about) in options_of(config).items():
        text = about.doc or about.help[0].lower() + about.help[1:]
        lines += textwrap.wrap(
            f"{name}: {' '.join(text.split())}",
            96,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
        )
    return "\n".join(lines)


def check_options(values: Any, text: bool = False) -> None:
    """Raise ValueError unless numbers, truth values and names are what the options allow.

    Args:
        values: an instance of a configuration class.
        text: accept the values that stand for None in text.
    """
    from art_ext.core import checks

    of_numbers = {
        ">= 0": checks.check_not_negative,
        "> 0": checks.check_positive,
        "[0, 1)": checks.check_share,
        "(0, 1)": checks.check_inner_share,
        "[0, 1]": checks.check_fraction,
    }
    for name, (one, about) in options_of(type(values)).items():
        value = getattr(values, name)
        kind = kind_of(one)
        if value is None and default_of(one) is None:
            continue
        if about.choices and isinstance(value, str):
            off = (about.off,) if text and about.off is not None else ()
            checks.check_choice(name, value, (*off, *about.choices))
        elif kind == "bool":
            checks.check_flag(name, value)
        elif about.range and kind == "int":
            least, _, most = about.range.removeprefix(">= ").partition(" to ")
            checks.check_count(name, value, int(least), int(most) if most else None)
        elif about.range:
            of_numbers[about.range](name, value)
