"""Parsers for values given as text on the command line or in a configuration file.

No parser evaluates code.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def parse_number(name: str, text: str) -> float:
    """Parse a number or a fraction such as 8/255.

    Raises:
        ValueError: for any other text.
    """
    parts = text.split("/")
    try:
        value = float(parts[0]) / float(parts[1]) if len(parts) == 2 else float(text)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{name} must hold numbers or fractions such as 0.1 or 8/255, got {text!r}"
        )
    return value


def parse_share(name: str, text: str) -> float:
    """Parse a fraction such as 0.5 or 1/2, or a percentage such as 50%.

    Raises:
        ValueError: for any other text, or for a value outside [0, 1].
    """
    given = text.strip()
    percent = given.endswith("%")
    try:
        value = parse_number(name, given.removesuffix("%").strip()) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(
            f"{name} must be a share from 0 to 1, or a percentage with its sign such as 50%, got"
            f" {text!r}"
        )
    return value


def parse_numbers(name: str, text: str) -> list[float]:
    """Parse numbers or fractions separated by commas.

    Raises:
        ValueError: if a part is not a number. The message names the part.
    """
    return [parse_number(name, part) for part in text.split(",")]


def parse_arguments(
    text: str, option: str = "model-args", form: str = "key", key: str = r"[A-Za-z_]\w*"
) -> dict[str, str]:
    """Parse ``key=value,key=value`` into a dict.

    A comma inside a value is kept, as in ``channels=(8,16)``, and inside brackets also one before a
    key, as in ``squeezers=[median(2),non_local_means(search=13,patch=3)]``.

    Args:
        text: the text to parse.
        option: name of the option, for the message.
        form: form of a key, for the message.
        key: regular expression that keys match.

    Raises:
        ValueError: if the text does not begin with a key, or if a key occurs twice.
    """
    if not text.strip():
        return {}
    parts: list[str] = []
    for part in split_outside_brackets(text):
        if parts and not re.match(rf"\s*{key}=", part):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    pairs = [re.fullmatch(rf"\s*({key})=(.*)", part, re.DOTALL) for part in parts]
    found = {pair[1]: pair[2].strip() for pair in pairs if pair}
    if len(found) != len(pairs):
        raise ValueError(
            f"{option} must be {form}=value,{form}=value with each {form} once, got {text!r}"
        )
    return found


def split_outside_brackets(text: str) -> list[str]:
    """Split a text at the commas that are in no brackets."""
    parts = [""]
    depth = 0
    for sign in text:
        depth = max(0, depth + (sign in "([{") - (sign in ")]}"))
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def parse_attack_arguments(text: str, option: str = "attack-args") -> dict[str, dict[str, object]]:
    """Parse ``name.key=value,name.key=value`` into a dict of values by attack name and key.

    A key without a name gets the empty name, which no attack has: ``assign_arguments`` knows the
    attacks, and says what may be meant.

    Raises:
        ValueError: if the text does not have that form, or if a key occurs twice.
    """
    found: dict[str, dict[str, object]] = {}
    for key, value in parse_arguments(text, option, "name.key", r"[A-Za-z_][\w:.]*").items():
        name, _, own = key.rpartition(".")
        if not own:
            raise ValueError(f"{option} must be name.key=value,name.key=value, got {key}={value}")
        found.setdefault(name, {})[own] = parse_value(value)
    return found


def parse_value(text: str) -> object:
    """Parse a number, a fraction such as 8/255, true, false, none, or a bracket of these.

    Any other text is returned unchanged. ``{0: 7, 5: 14}`` becomes a dict, ``(1, 2)`` and ``[1,
    2]`` become tuples, and so does ``[median(2), bit_depth(bits=3)]``, whose parts may have quotes.
    """
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"\([^()\[\]]*\)|\[([^()\[\]]|\w\([^()\[\]]*\))*\]", text):
        parts = [part.strip() for part in split_outside_brackets(text[1:-1])]
        return tuple(parse_value(_unquoted(part)) for part in parts if part)
    if re.fullmatch(r"\{[^{}()\[\]:]+:[^{}()\[\]]*\}", text):
        pairs = [part.partition(":") for part in text[1:-1].split(",") if part.strip()]
        if all(colon for _, colon, _ in pairs):
            return {parse_value(key.strip()): parse_value(value.strip()) for key, _, value in pairs}
    try:
        return parse_number("value", text)
    except ValueError:
        return text


def _unquoted(text: str) -> str:
    """Return a text without the quotes around it, if it has some."""
    quoted = re.fullmatch(r"(['\"])(.*)\1", text)
    return text if quoted is None else quoted[2]


def read_value(value: object) -> object:
    """Convert a value of a configuration file.

    Text and keys are parsed as on the command line. A list becomes a tuple.
    """
    if isinstance(value, str):
        return parse_value(value)
    if isinstance(value, Mapping):
        return {read_value(key): read_value(one) for key, one in value.items()}
    return tuple(read_value(part) for part in value) if isinstance(value, (list, tuple)) else value


def parse_target(text: str | None) -> str | int | None:
    """Return a class index as an int. The name of a rule, and None, are returned unchanged."""
    return int(text) if text is not None and re.fullmatch(r"\d+", text) else text


def read_toml(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the content of a TOML file.

    Raises:
        ValueError: if the file is missing or is not TOML.
        ImportError: under Python 3.10 without the extras ``train`` or ``report``.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be TOML, but reading it fails: {error}") from error
