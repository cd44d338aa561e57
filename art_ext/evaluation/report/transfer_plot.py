"""Figures of a transfer run as PNG files: heat maps, curves, and the sheets of examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from art_ext.evaluation.report.canvas import INK, STYLE, short, to_png
from art_ext.evaluation.report.painting import figure_of
from art_ext.evaluation.report.pictures import Sheet, mosaic
from art_ext.evaluation.report.svg import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_ext.evaluation.report.charts import Chart
    from art_ext.evaluation.report.transfer_tables import Heat

MOST_ACROSS = 4  # heat maps
MOST_TILES = 240  # of the file of examples; each takes about 4 ms to draw
SIDE = 0.55  # inches of a cell
NAMES = 1.1  # inches for the names of sources, and of targets
LETTERS = 14  # of these names
DEEPEST = 0.45  # share of the colour in a cell of 100 %, as in the style sheet


def draw_transfer(
    maps: Sequence[Heat], curves: Sequence[tuple[str, Sequence[Chart]]], sheets: Sequence[Sheet]
) -> dict[str, bytes]:
    """Return names and contents of the PNG files.

    Args:
        maps: heat maps of one metric.
        curves: the charts of each varied argument, by its name.
        sheets: of examples.
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        files = {"transfer.png": _maps(maps)}
        for varied, charts in curves:
            name = re.sub(r"\W+", "-", varied)
            for number, chart in enumerate(charts, 1):
                if not chart.sentence:
                    files[f"{name}-{number}.png"] = to_png(figure_of([chart]))
    if sheets:
        count = max(1, MOST_TILES // sum(len(sheet.rows) for sheet in sheets))
        files["examples.png"] = mosaic([sheet.first(count) for sheet in sheets])
    return files


def _maps(maps: Sequence[Heat]) -> bytes:
    from matplotlib.figure import Figure

    across = min(len(maps), MOST_ACROSS)
    down = -(-len(maps) // across)
    wide = NAMES + SIDE * max(len(one.columns) for one in maps)
    high = NAMES + SIDE * max(len(one.lines) for one in maps)
    figure = Figure(figsize=(across * wide, down * high), dpi=130, layout="constrained")
    for number, one in enumerate(maps, 1):
        _paint(figure.add_subplot(down, across, number), one)
    return to_png(figure)


def _paint(axes: Axes, one: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb
    from matplotlib.patches import Rectangle

    levels = [[float(cell.level) if cell else 0.0 for cell in cells] for _, cells in one.lines]
    white = np.ones(3)
    deepest = white + DEEPEST * (np.array(to_rgb(LIGHT[0])) - white)
    shades = LinearSegmentedColormap.from_list("share", [white, deepest])
    axes.imshow(np.array(levels), cmap=shades, vmin=0, vmax=1)
    for row, (_, cells) in enumerate(one.lines):
        for column, cell in enumerate(cells):
            if cell is None:
                continue
            axes.text(column, row, cell.text, ha="center", va="center", fontsize=8, color=INK)
            if cell.framed or cell.member:
                line = "-" if cell.framed else ":"
                corner = (column - 0.45, row - 0.45)
                axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, linestyle=line))
    axes.set_title(short(one.title, 34), fontsize=9)
    axes.set_xticks(range(len(one.columns)), [short(name, LETTERS) for name in one.columns])
    axes.set_yticks(range(len(one.lines)), [short(name, LETTERS) for name, _ in one.lines])
    axes.tick_params(labelsize=8, length=0)
    axes.tick_params(axis="x", rotation=45)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
