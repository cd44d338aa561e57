"""Figures for the curves of many models and attacks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import one_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: for all eyes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C99")
DASHES = ("-", "--", "-.", ":")
INK = "#1c2128"
SOFT = "#5b626b"
RUNS = 3  # zlib's strategy for runs of equal bytes: twice as fast, and no larger for photographs
WIDTHS = {1: 6.6, 2: 10.6, 3: 13.2}  # inches, by the number of axes in a line
STYLE: Any = {
    "text.parse_math": False,  # a model's name may hold dollar signs
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e5e8",
    "axes.edgecolor": "#8a9099",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def grid(names: Sequence[str], columns: int) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure and the axes of each name, so many in a line."""
    lines = -(-len(names) // columns)
    figure = _figure(WIDTHS[columns], 4.0 * lines)
    places = [figure.add_subplot(lines, columns, number + 1) for number in range(len(names))]
    return figure, dict(zip(names, places, strict=True))


@dataclass(frozen=True)
class Canvas:
    """A figure with several axes.

    Attributes:
        figure: the figure to save.
        axes: by name.
    """

    figure: Figure
    axes: dict[str, Axes]

    def set(self, **properties: Any) -> None:
        """Set properties of all axes.

        Only the left axes show the label of the vertical axis, only the lowest that of the
        horizontal.
        """
        for axes in self.every_axes():
            axes.set(**properties)
            place = axes.get_subplotspec()
            if place is None or not place.is_first_col():
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
            if axes not in self._lowest():
                axes.set_xlabel("")
                axes.tick_params(axis="x", which="both", labelbottom=False)

    def every_axes(self) -> list[Axes]:
        """All axes, each once."""
        return list(dict.fromkeys(self.axes.values()))

    def _lowest(self) -> list[Axes]:
        """Return the last axes of each column. With an odd number of models their lines differ."""
        by_column: dict[int, Axes] = {}
        for axes in self.every_axes():
            place = axes.get_subplotspec()
            by_column[0 if place is None else place.colspan.start] = axes
        return list(by_column.values())

    def legend(self) -> None:
        """Add a legend below the axes, where it hides no curve."""
        named: dict[str, Artist] = {}
        for axes in self.axes.values():
            handles, labels = axes.get_legend_handles_labels()
            named |= zip(labels, handles, strict=True)
        if named:
            width = self.figure.get_figwidth() * 13  # about so many letters fit into a line
            columns = max(1, min(len(named), 6, int(width / (max(map(len, named)) + 9))))
            self.figure.set_figheight(
                self.figure.get_figheight() + 0.22 * -(-len(named) // columns)
            )
            self.figure.legend(
                list(named.values()),
                list(named),
                loc="outside lower center",
                ncols=columns,
                fontsize=9.5,
            )


def to_png(figure: Figure, **options: Any) -> bytes:
    """Content of a PNG file of the figure. Options are passed on to Pillow."""
    legible(figure)
    engine = figure.get_layout_engine()
    # once: savefig would lay the figure out twice, which takes longer than to draw it
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    content = io.BytesIO()
    figure.savefig(content, format="png", pil_kwargs=options)
    return content.getvalue()


def legible(figure: Figure) -> None:
    """Replace what the fonts of a figure cannot draw by question marks, in all of its texts."""
    from matplotlib.text import Text

    texts: Any = figure.findobj(Text)
    for text in texts:
        own = text.get_text()
        known = _drawable(text.get_fontweight())
        drawn = "".join(one if one == "\n" or ord(one) in known else "?" for one in own)
        if drawn != own:
            text.set_text(drawn)


@cache
def _drawable(weight: str | int) -> frozenset[int]:
    """Return the letters that matplotlib's fonts of a weight hold."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont, get_font

    found: set[int] = set()
    style: Any = rcParams
    for family in style["font.family"]:
        for name in style.get(f"font.{family}", [family]):
            try:
                path = findfont(FontProperties(family=name, weight=weight), "ttf", None, False)
            except ValueError:  # it is not installed
                continue
            found |= set(get_font(path).get_charmap())
    return frozenset(found)


def short(name: str, length: int) -> str:
    """Name in one line, cut to at most ``length`` letters."""
    name = one_line(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def listed(names: Sequence[str], letters: int, comma: str = ", ") -> str:
    """Return names in at most so many letters, cut at a whole name: ``pgd, fgsm and 9 more``."""
    for count in range(len(names), 0, -1):
        more = f" and {len(names) - count} more" if count < len(names) else ""
        text = comma.join(names[:count]) + more
        if len(text) <= letters:
            return text
    return short(text.removesuffix(more), max(1, letters - len(more))) + more
