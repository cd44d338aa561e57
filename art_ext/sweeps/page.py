"""The page of a sweep: its table, and a figure for each value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted
from art_ext.evaluation.report.canvas import COLOURS, INK, STYLE, grid, short, to_png
from art_ext.evaluation.report.limits_plot import Plot
from art_ext.evaluation.report.rendering import Cell, Column, Line, known, render_template, told
from art_ext.sweeps.grid import short_names, shown
from art_ext.sweeps.table import Group, counted_cells, grids, title
from art_ext.sweeps.values import is_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from art_ext.sweeps.run import Results

MOST_PARTS = 6  # axes of a figure
IN_LINE = 3
LETTERS = 18  # of a value on an axis
ROW = 0.25  # inches of a row of texts
SPREAD = "Bars are the standard deviation over"


def page(results: Results) -> str:
    """Return the page as HTML.

    Raises:
        ImportError: without the extra ``report``.
    """
    sweep = results.sweep
    groups = results.groups
    keys = sweep.free
    failed = [(sweep.cells[number].label, text) for number, text in results.errors.items()]
    return render_template(
        "sweep.html.j2",
        command=sweep.command.name,
        title=" and ".join(short_names(sweep.free or sweep.keys).values()),
        cells=len(sweep.cells),
        done=len(sweep.cells) - len(results.missing()),
        failed=failed,
        columns=_columns(results, keys),
        rows=[_line(results, keys, group) for group in groups],
        plots=_plots(results, groups),
        base=told(sweep.base),
        axes=[
            (key, ", ".join(map(shown, values)))
            for axis in sweep.axes
            for key, values in axis.plain().items()
        ],
    )


def _columns(results: Results, keys: Sequence[str]) -> list[Column]:
    over = ", ".join(results.sweep.over)
    short = short_names(results.sweep.keys)
    return [
        *(Column(short[key], f"Option {key}.", False) for key in keys),
        Column("Runs", f"Finished cells. They differ in {over} only."),
        *(
            Column(
                f"{name}{_unit(name)}",
                f"Mean over these runs. Below it the standard deviation over {over}.",
            )
            for name in results.names
        ),
    ]


def _unit(name: str) -> str:
    return " (%)" if is_share(name) else ""


def _line(results: Results, keys: Sequence[str], group: Group) -> Line:
    cells = [Cell(shown(group.settings[key]), _sort(group.settings[key])) for key in keys]
    cells.append(Cell(counted_cells(group), group.cells[1]))
    for name in results.names:
        one = group.values[name]
        mean, _, spread = one.text(is_share(name)).removesuffix(" %").partition(" ± ")
        key = known(one.mean) if isinstance(one.mean, float) else one.mean
        cells.append(Cell(mean, key, f"± {spread}" if spread else ""))
    return Line(cells)


def _sort(value: Any) -> float | str:
    """Return a value of the grid as a sort key."""
    return value if isinstance(value, (int, float)) else _number(shown(value))


def _number(text: str) -> float | str:
    """Return the number that a text is, a fraction too, else the text."""
    upper, _, lower = text.partition("/")
    try:
        return float(upper) / float(lower or 1)
    except (ValueError, ZeroDivisionError):
        return text.lower()


# ---- figures


def _plots(results: Results, groups: Sequence[Group]) -> list[Plot]:
    """Return a figure for each value that is a number in some cell."""
    from matplotlib import rc_context

    sweep = results.sweep
    if not sweep.rows:
        return []
    parts = grids(sweep, groups)
    found = []
    with rc_context(STYLE):
        for name in results.names:
            drawn = [
                (rest, cells)
                for rest, cells in parts
                if any(isinstance(one.values[name].mean, float) for one in cells.values())
            ]
            if drawn:
                found.append(_plot(results, name, drawn[:MOST_PARTS], len(drawn)))
    return found


def _plot(results: Results, name: str, parts: Sequence[Any], whole: int) -> Plot:
    sweep = results.sweep
    titles = short_names(sweep.keys)
    unit = _unit(name)
    names = [
        ", ".join(f"{titles[key]} {shown(value)}" for key, value in rest.items()) or name
        for rest, _ in parts
    ]
    in_line = min(len(parts), IN_LINE)
    figure, places = grid(names, in_line)
    scale = 100.0 if is_share(name) else 1.0
    means = [
        scale * one.values[name].mean
        for _, cells in parts
        for one in cells.values()
        if isinstance(one.values[name].mean, float)
    ]
    for own, (rest, cells) in zip(names, parts, strict=True):
        axes = places[own]
        if rest:
            axes.set_title(short(own, 40), fontsize=11)
        if sweep.columns:
            _heat(axes, cells, name, scale, (min(means), max(means)))
            axes.set(xlabel=title(sweep, sweep.columns), ylabel=title(sweep, sweep.rows))
        else:
            labels = title(sweep, sweep.rows), f"{name}{unit}"
            if _lines(axes, cells, name, scale):
                # one row for each text
                figure.set_figheight(max(figure.get_figheight(), ROW * len(cells) + 1))
                labels = labels[1], labels[0]
            axes.set(xlabel=labels[0], ylabel=labels[1])
    caption = f"{name}{unit}: mean over {', '.join(sweep.over)}."
    if not sweep.columns:
        caption += f" {SPREAD} {', '.join(sweep.over)}."
    if whole > len(parts):
        caption += f" The table has {counted(whole - len(parts), 'more setting')}."
    return Plot("", f"{name}{unit}", caption, to_png(figure), in_line)


def _lines(axes: Axes, cells: dict[tuple[str, str], Group], name: str, scale: float) -> bool:
    """Draw means and spreads against the values of one key. Texts are rows: return True."""
    groups = [
        (row, one.values[name])
        for (row, _), one in cells.items()
        if isinstance(one.values[name].mean, float)
    ]
    numbers = [_number(row) for row, _ in groups]
    plain = [one for one in numbers if isinstance(one, float)]
    texts = len(plain) < len(numbers)
    x = list(range(len(groups))) if texts else plain
    means = [scale * float(one.mean or 0.0) for _, one in groups]
    spreads = [scale * (one.spread or 0.0) for _, one in groups]
    style: Any = {"color": COLOURS[0], "marker": "o", "capsize": 3}
    if texts:
        axes.errorbar(means, x, xerr=spreads, linestyle="none", **style)
        axes.set_yticks(x, [short(row, 2 * LETTERS) for row, _ in groups])
        axes.invert_yaxis()
        return True
    axes.errorbar(x, means, yerr=spreads, **style)
    if min(plain) > 0 and max(plain) / min(plain) > 30:
        axes.set_xscale("log")
    return False


def _heat(
    axes: Axes,
    cells: dict[tuple[str, str], Group],
    name: str,
    scale: float,
    limits: tuple[float, float],
) -> None:
    """Draw means as shades, with their numbers, for the values of two keys."""
    import numpy as np

    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    shades = np.full((len(rows), len(columns)), np.nan)
    for (row, column), group in cells.items():
        one = group.values[name]
        if isinstance(one.mean, float):
            place = rows.index(row), columns.index(column)
            shades[place] = scale * one.mean
            text = one.text(is_share(name)).removesuffix(" %").replace(" ±", "\n±")
            axes.text(place[1], place[0], text, ha="center", va="center", color=INK)
    low, high = limits
    # the darkest blues would hide the numbers
    top = high + 0.6 * (high - low) + 1e-12
    axes.imshow(shades, cmap="Blues", vmin=low, vmax=top, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [short(column, LETTERS) for column in columns])
    axes.set_yticks(range(len(rows)), [short(row, LETTERS) for row in rows])
