"""TOML files of a configuration class: the schema is the class. Errors name file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from typing import Any

from art_ext.configuration.options import default_of, kind_of, options_of
from art_ext.configuration.parsing import (
    parse_arguments,
    parse_attack_arguments,
    parse_number,
    parse_numbers,
    parse_target,
    read_toml,
    read_value,
)
from art_ext.configuration.places import place_of


def layered(
    config: type,
    given: Mapping[str, Any],
    file: Path | None,
    exclusive: Iterable[tuple[str, ...]] = (),
    other: type | None = None,
) -> dict[str, Any]:
    """Return given values over those of a file, converted.

    The file's arguments of a recipe, network or schedule are dropped if ``given`` names another
    one.

    Args:
        config: the configuration class.
        given: values by the names of its fields. Numbers may be text such as 8/255, tables
            ``key=value,...``. None counts as not given.
        file: TOML file of the same names. None: no file.
        exclusive: groups of options. If one of a group is given, the file's are dropped.
        other: the configuration class of another command, whose file may be given by mistake.

    Raises:
        ValueError: for unknown names and values of another kind. The message names the file and
            the line, or the nearest name.
    """
    first = read_values(config, given, lambda name: "given", other)
    behind = {} if file is None else _of_file(config, file, other)
    return laid_over(config, first, behind, exclusive)


def laid_over(
    config: type,
    first: Mapping[str, Any],
    behind: Mapping[str, Any],
    exclusive: Iterable[tuple[str, ...]] = (),
    *,
    merged: bool = False,
) -> dict[str, Any]:
    """Return the values of one layer over those of another.

    Arguments of a recipe, network or schedule are dropped from the layer behind if the first one
    names another.

    Args:
        config: the configuration class.
        first: values that win.
        behind: values of the layer behind.
        exclusive: groups of options. If one of a group is in the first layer, those behind are
            dropped.
        merged: True merges tables key by key. False takes the whole table of the first layer.
    """
    dropped = set()
    for name, (_, about) in options_of(config, "toml").items():
        others = [one for one in about.of if one in behind and first.get(one) != behind[one]]
        if others and any(one in first for one in about.of):
            dropped.add(name)
    for group in exclusive:
        if any(name in first for name in group):
            dropped |= set(group)
    found = {**{name: one for name, one in behind.items() if name not in dropped}, **first}
    if merged:
        tables = [name for name in found if isinstance(first.get(name), Mapping)]
        found |= {
            name: {**behind[name], **first[name]}
            for name in tables
            if name in behind and name not in dropped
        }
    return found


def require(values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ValueError if one of these options is neither on the command line nor in the file."""
    for name in names:
        if name not in values:
            raise ValueError(
                f"{name} must be given, by --{name} or in the file that --config names"
            )


def complete(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all options of a file, with the defaults of the class."""
    found = dict(values)
    for name, (one, about) in options_of(config, "toml").items():
        default = about.off if about.off is not None else default_of(one)
        if default is not MISSING:
            found.setdefault(name, default)
    return found


def to_toml(config: type, values: object, comment: str) -> str:
    """Return the TOML text of a configuration, which reads back as the same one.

    Args:
        config: its class.
        values: an instance. None is left out.
        comment: the first line.

    Raises:
        ImportError: without the extras ``train`` and ``report``.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise ImportError(
            "config.toml is written by tomli-w: pip install tomli-w, which the extras train and"
            " report hold"
        ) from error

    held = {name: getattr(values, name) for name in options_of(config, "toml")}
    kinds = {name: kind_of(one) for name, (one, _) in options_of(config, "toml").items()}
    plain = {
        name: toml_value(one[0] if kinds[name] == "Texts" and len(one) == 1 else one)
        for name, one in held.items()
        if one is not None and one not in ({}, ())
    }
    return f"# {comment}\n{tomli_w.dumps(plain)}"


def _of_file(config: type, file: Path, other: type | None) -> dict[str, Any]:
    """Return the converted content of a TOML file. Dashes in names count as underscores."""
    if not file.is_file():
        raise ValueError(
            f"config must name a TOML file, got {file}, which does not exist or is a folder"
        )
    content = {name.replace("-", "_"): one for name, one in read_toml(file).items()}
    return read_values(config, content, partial(place_of, file), other)


def read_values(
    config: type, values: Mapping[str, Any], place: Callable[[str], str], other: type | None = None
) -> dict[str, Any]:
    """Convert values to the kinds of the class. None counts as not given.

    Args:
        config: the configuration class.
        values: by the names of its fields.
        place: function from a name to the place of its value, for messages. ``"given"`` stands for
            the command line.
        other: the configuration class of another command, see ``layered``.

    Raises:
        ValueError: for unknown names and values of another kind.
    """
    from art_ext.core.checks import nearest

    kinds = {name: kind_of(one) for name, (one, _) in options_of(config, "toml").items()}
    found = {}
    for name, value in values.items():
        if name not in kinds:
            if name in options_of(config):
                raise ValueError(f"{place(name)}: {name!r} belongs on the command line, not here")
            if other is not None and name in options_of(other, "toml"):
                raise ValueError(
                    f"{place(name)}: {name!r} is an option of another command: is this file its"
                    " configuration?"
                )
            raise ValueError(
                f"{place(name)}: unknown option {name!r}{nearest(name, kinds)}. Known options:"
                f" {', '.join(kinds)}"
            )
        if value is None:
            continue
        try:
            found[name] = _converter(kinds[name])(name, value)
        except ValueError as error:
            where = place(name)
            if where == "given":
                raise
            raise ValueError(f"{where}: {error}") from error
    return found


def _converter(kind: str) -> Callable[[str, Any], Any]:
    """Return the function that reads a value of a kind. Of several types the first one counts."""
    return _KINDS.get(kind) or _KINDS[kind.split(" | ")[0]]


def _wrong(name: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{name} must be {wanted}, got {value!r}")


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(name, "a text", value)
    return value


def _as_path(name: str, value: object) -> Path:
    return value if isinstance(value, Path) else Path(_as_text(name, value))


def _as_int(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an integer", value)
    return value


def _as_float(name: str, value: object) -> float:
    if isinstance(value, str):
        return parse_number(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "a number, or a fraction in quotes such as '8/255'", value)
    return float(value)


def _as_bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _as_numbers(name: str, value: object) -> tuple[float, ...]:
    if isinstance(value, str):
        return tuple(parse_numbers(name, value))
    given = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(_as_float(name, one) for one in given)


def _as_integers(name: str, value: object) -> tuple[int, ...]:
    given: Any = value
    if isinstance(value, str):
        given = [read_value(one.strip()) for one in value.split(",")]
    elif not isinstance(value, (list, tuple)):
        given = (value,)
    return tuple(_as_int(f"each value of {name}", one) for one in given)


def _as_pair(name: str, value: object) -> tuple[float, float]:
    parts = parse_numbers(name, value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        # a text is the option's, which has dashes
        spelled = name.replace("_", "-") if isinstance(value, str) else name
        raise _wrong(spelled, "two numbers lower,upper", value)
    return _as_float(name, parts[0]), _as_float(name, parts[1])


def _as_names(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(one.strip() for one in value.split(","))
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise _wrong(name, "a list of texts", value)
    return tuple(value)


def _as_texts_each(name: str, value: object) -> tuple[str, ...]:
    """Read an option that may be given several times. A text is one value."""
    given = (value,) if isinstance(value, (str, bytes)) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        raise _wrong(name, "a text or a list of texts", value)
    return tuple(_as_text(name, one) for one in given)


def _as_target(name: str, value: object) -> str | int:
    found = parse_target(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise _wrong(name, "a text or an integer", value)
    return found


def _as_table(name: str, value: object) -> dict[str, Any]:
    return {key: read_value(one) for key, one in _table(name, value).items()}


def _as_texts(name: str, value: object) -> dict[str, str]:
    """Read arguments of a factory, which it parses itself."""
    table = _table(name, value)
    return {key: one if isinstance(one, str) else repr(one) for key, one in table.items()}


def _as_tables(name: str, value: object) -> dict[str, dict[str, Any]]:
    if isinstance(value, str):
        return parse_attack_arguments(value, name.replace("_", "-"))
    tables = _table(name, value)
    for key, one in tables.items():
        if not isinstance(one, Mapping):
            raise _wrong(f"{name}.{key}", "a table of arguments", one)
    return {key: _as_table(f"{name}.{key}", one) for key, one in tables.items()}


def _table(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return dict(parse_arguments(value, name.replace("_", "-")))
    if not isinstance(value, Mapping):
        raise _wrong(name, "a table, or key=value,key=value", value)
    return dict(value)


_KINDS: dict[str, Callable[[str, Any], Any]] = {
    "str": _as_text,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "str | int": _as_target,
    "tuple[float, float]": _as_pair,
    "tuple[float, ...]": _as_numbers,
    "tuple[int, ...]": _as_integers,
    "tuple[str, ...]": _as_names,
    "Texts": _as_texts_each,
    "Path": _as_path,
    "Mapping[str, Any]": _as_table,
    "Mapping[str, str]": _as_texts,
    "Mapping[str, Mapping[str, Any]]": _as_tables,
}


def toml_value(value: object) -> Any:
    """Return a value in the types of TOML. TOML has no None: the text "none" is read as None."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return {str(key): toml_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [toml_value(one) for one in value]
    return str(value) if isinstance(value, Path) else value
