"""The command line that repeats an evaluation, or the configuration file where none can."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from art_ext.configuration.evaluation import EvaluationConfig, resolve_evaluation
from art_ext.configuration.files import toml_value
from art_ext.configuration.options import default_of, kind_of, options_of

NEW_FOLDER = "FOLDER"
# what a training among the models would suggest otherwise is always told
SUGGESTED = ("data", "eps", "norm", "clip_values")
# of the first run only: no record depends on them
LEFT_OUT = ("quiet", "fail_under", "trackers", "tracker_args", "overwrite")
NUMBER_OF = {"samples": "n", "path": "data"}  # recorded names of options


def command_line(text: str) -> str | None:
    """Return the command line of an evaluation, quoted for a shell, with one option a line.

    Args:
        text: the content of its ``config.toml``.

    Returns:
        the command, or None if the command line cannot hold the values of the file.

    Raises:
        ValueError: if the text is no configuration of an evaluation.
    """
    config = resolve_evaluation(parsed(text), out=NEW_FOLDER)
    given: dict[str, Any] = {}
    for name, (one, _) in options_of(EvaluationConfig, "toml").items():
        value = getattr(config, name)
        if name not in LEFT_OUT and (name in SUGGESTED or value not in (None, default_of(one))):
            given[name] = _told(kind_of(one), value)
    again = resolve_evaluation(given, out=NEW_FOLDER)
    kept = [name for name in options_of(EvaluationConfig, "toml") if name not in LEFT_OUT]
    if any(getattr(again, name) != getattr(config, name) for name in kept):
        return None
    lines = ["art-ext evaluate", *(line for name in given for line in _lines(name, given[name]))]
    return " \\\n  ".join([*lines, f"--out {NEW_FOLDER}"])


def configuration(arguments: Mapping[str, Any], models: str, panels: Mapping[str, object]) -> str:
    """Return the TOML configuration of a run that was started from Python.

    Args:
        arguments: that the run recorded.
        models: names of the models, for a comment.
        panels: built-in panels, by name. Another panel is told by its attacks.

    Raises:
        ImportError: without the extra ``report``.
    """
    import tomli_w

    known = {NUMBER_OF.get(name, name): value for name, value in arguments.items()}
    # the models of a run from Python are objects, and a built-in panel has attacks of its own
    left_out = ("models", "attacks" if known.get("panel") in panels else "panel")
    values = {
        name: _radii(known[name]) if name == "eps" else toml_value(known[name])
        for name, (one, _) in options_of(EvaluationConfig, "toml").items()
        if known.get(name) not in (None, {}, [], ())
        and name not in left_out
        and (name in SUGGESTED or known[name] != default_of(one))
    }
    if "model" in values:
        return tomli_w.dumps(values)
    shown = " ".join(models.split())
    comment = f"# started from Python with {shown}: put the source of the model in place of FILE.py"
    return f"{comment}\n{tomli_w.dumps({'model': 'FILE.py:FACTORY', **values})}"


def parsed(text: str) -> dict[str, Any]:
    """Return the values of a ``config.toml``, by the names of the options.

    Raises:
        ValueError: if the text is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config.toml must be TOML, but reading it fails: {error}") from error
    return {name.replace("-", "_"): value for name, value in content.items()}


def _told(kind: str, value: Any) -> Any:
    """Return a value as the command line takes it."""
    if kind == "Texts":
        return tuple(value)
    if kind == "tuple[str, ...]":
        return ",".join(value)
    if kind in ("tuple[float, ...]", "tuple[float, float]"):
        return ",".join(map(_number, value))
    if kind == "Mapping[str, Mapping[str, Any]]":
        pairs = (
            f"{name}.{key}={_text(one)}" for name, own in value.items() for key, one in own.items()
        )
        return ",".join(pairs)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_text(one)}" for key, one in value.items())
    return value if isinstance(value, (bool, int)) else _text(value)


def _lines(name: str, value: Any) -> list[str]:
    """Return the flags of an option, quoted for a shell."""
    flag = options_of(EvaluationConfig)[name][1].flag or f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"{flag} {shlex.quote(str(one))}" for one in values]


def _text(value: Any) -> str:
    """Return a value as text that reads back as the same value."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in value.items()) + "}"
    return str(value)


def _number(value: float) -> str:
    """Return a number as text: 8/255 for a whole number of grey levels, else all its digits."""
    levels = round(value * 255)
    decimal = repr(float(value)).removesuffix(".0")
    return f"{levels}/255" if levels / 255 == value and len(decimal) > len("0.005") else decimal


def _radii(eps: Any) -> list[Any]:
    """Return radii for TOML, where a fraction is a text."""
    told = [_number(one) for one in (eps if isinstance(eps, (list, tuple)) else [eps])]
    return [text if "/" in text else float(text) for text in told]
