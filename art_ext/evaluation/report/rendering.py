"""The parts of every page of a report: cells, columns and rows of tables, and the templates."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted, radius, shortened
from art_ext.evaluation.analysis.table import LETTERS, number, percent
from art_ext.evaluation.report.svg import palette

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# parts of the style sheet and of the script of every page; each script has names of its own
STYLES = ("report", "figures", "examples", "comparison", "transfer")
SCRIPTS = ("report", "figures", "examples")
LONGEST_PIECE = 24  # letters and digits of a name that stay in one line
_LONG = re.compile(rf"(\S{{{LONGEST_PIECE + 1},}})")
_PLACES = re.compile(r"(?<=[\w/][_:/\\-])(?=\w)(?<!\d[/:-](?=\d))")
SAMPLES_NAMED = 200  # of a warning; the rest are in warnings.json


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: the text.
        sort: the sort key (None: unknown, always last).
        note: a line below, in small letters.
        again: True if it repeats the cell above, which is then shown in a sorted table only.
    """

    text: str
    sort: float | str | None
    note: str = ""
    again: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        meaning: its definition.
        numeric: True if it holds numbers.
        field: of the row's dataclass, if the column is omitted when no row has a value.
    """

    title: str
    meaning: str
    numeric: bool = True
    field: str = ""


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        cells: one for each column.
        data: what the filters of the page compare, by the name of the filter.
        marked: True if the row is marked at its left edge.
    """

    cells: Sequence[Cell]
    data: Mapping[str, object] = field(default_factory=dict)
    marked: bool = False


def render_template(name: str, **content: Any) -> str:
    """Return the page of a template, with the script of all pages and its digest.

    Args:
        name: of the template.
        content: names that the template uses.

    Raises:
        ImportError: without the extra ``report``.
    """
    from markupsafe import Markup

    environment = _environment()
    parts = (environment.get_template(f"{part}.js.j2").render() for part in SCRIPTS)
    script = '"use strict";' + "".join(f"\n{{\n{part}\n}}" for part in parts)
    return environment.get_template(name).render(
        # a script that came with a name would have another digest, and not run even if it were not
        # escaped
        script=Markup(script),  # noqa: S704
        digest=base64.b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii"),
        samples_named=SAMPLES_NAMED,
        styles=STYLES,
        **content,
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("art_ext.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["palette"] = palette()
    environment.filters |= {
        "percent": percent,
        "number": number,
        "radius": radius,
        "interval": interval,
        "between": between,
        "breaks": breaks,
        "brief": brief,
        "shortened": shortened,
        "ended": lambda sentence: (
            sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
        ),
        "counted": counted,
        "png": lambda content: base64.b64encode(content).decode("ascii"),
    }
    return environment


def interval(low: float, high: float) -> str:
    """Two fractions as percentages, such as 49.2 to 55.4."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def between(low: float, high: float) -> str:
    """Two fractions in words, such as between 49.2 and 55.4 %."""
    return f"between {100 * low:.1f} and {100 * high:.1f} %"


def breaks(text: object) -> Markup:
    """Return a text as HTML with the places at which a name may break.

    A line may end after ``_``, ``:``, ``/`` and ``-`` within a name, but not within a fraction.
    A piece of more than 24 letters and digits may end a line anywhere.
    """
    from markupsafe import Markup, escape

    def marked(piece: str) -> Markup:
        parts = _LONG.split(piece)  # every second one is long
        return Markup("").join(
            Markup('<span class="piece">{}</span>').format(part) if number % 2 else escape(part)
            for number, part in enumerate(parts)
        )

    return Markup("<wbr>").join(map(marked, _PLACES.split(str(text))))


def brief(name: str, letters: int = LETTERS) -> Markup:
    """Return a name as HTML: of at most so many letters, with the full one as title."""
    from markupsafe import Markup

    shown = breaks(shortened(name, letters))
    if len(name) <= letters:
        return shown
    return Markup('<span title="{}">{}</span>').format(name, shown)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def told(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of a run as texts, without the empty ones."""
    return {
        name: _written(value) for name, value in arguments.items() if value not in (None, {}, [])
    }


def known(value: float | None) -> float | None:
    """Return a number as a sort key: None if it is unknown or NaN."""
    return None if value is None or math.isnan(value) else value
