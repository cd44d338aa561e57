"""Source text and docstrings: annotations, values, wrapped paragraphs."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from art_ext.core.geometry import ClipValues
from art_ext.core.losses import Loss
from art_ext.core.oracle import Judge, Model
from art_ext.core.result import Callback

WIDTH = 100
_ALIASES = {"ClipValues": ClipValues, "Loss": Loss, "Judge": Judge, "Model": Model}
_ALIASES["Callback"] = Callback


def spelled(annotation: Any) -> str:
    """Return an annotation as source text, with the names of our type aliases."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    if isinstance(annotation, str):
        return annotation
    text = inspect.formatannotation(annotation)
    for name, alias in _ALIASES.items():
        text = text.replace(inspect.formatannotation(alias), name)
    text = re.sub(r"\b(?:collections\.abc|typing|art_ext(?:\.\w+)*)\.(?=[A-Z])", "", text)
    return re.sub(r"\btorch\.Tensor\b", "Tensor", text).replace("NoneType", "None")


def valued(value: Any) -> str:
    """Return a default as source text."""
    if isinstance(value, float) and math.isinf(value):
        return "np.inf"
    if value == 8 / 255:
        return "8 / 255"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:_}"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value)


def argument_texts(documented: Callable[..., Any], section: str = "Args") -> dict[str, str]:
    """Return the descriptions in a section of a docstring, each on one line."""
    text = inspect.cleandoc(documented.__doc__ or "") + "\n"
    match = re.search(rf"^{section}:\n((?:    .*\n|\n)*)", text, re.MULTILINE)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(match[1]).splitlines() if match else []:
        start = re.match(r"(\*{0,2}\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found.update(dict.fromkeys(names, start[2].strip()))
        elif line.strip() and names:
            found.update(dict.fromkeys(names, f"{found[names[0]]} {line.strip()}"))
    return found


def without_default(text: str) -> str:
    """Return a description without the name of the default. What None stands for stays."""
    text = re.sub(r"Default: None, (?=``|the )", "None: ", text)
    text = re.sub(r"Default: None, which ", "None ", text)
    return re.sub(r"\s*Default: \S+\.(?=\s|$)", "", text)


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a description with the host's names of the keywords, wherever code is meant."""

    def rename(code: re.Match[str]) -> str:
        return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), code[0])

    return re.sub(r"``[^`]*``|\b\w+_\w+\b", rename, text)


def alternatives(words: Sequence[str]) -> str:
    """Return the words as ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def paragraph(text: str, indent: int, hanging: int | None = None) -> str:
    """Wrap a text, its further lines indented by ``hanging``."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def docstring(lines: Iterable[str], indent: int, *, raw: bool = False) -> str:
    """Return a docstring as source text; ``lines`` are indented already but for the first."""
    body = "\n".join(lines).strip()
    quoted = f'{" " * indent}{"r" if raw else ""}"""{body}'
    return f'{quoted}\n{" " * indent}"""'
