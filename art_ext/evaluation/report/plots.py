"""Figures of a report as PNG files in memory. matplotlib's global state is not changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from art_ext.evaluation.analysis.together import describe
from art_ext.evaluation.report import card, detection
from art_ext.evaluation.report.canvas import STYLE, to_png
from art_ext.evaluation.report.painting import figure_of
from art_ext.storage.evaluation import CARD, DETECTION_PLOTS, PLOTS

if TYPE_CHECKING:
    from art_ext.evaluation.report.material import Material


@dataclass(frozen=True)
class Plot:
    """A picture of the report.

    Attributes:
        file: its name in the folder.
        title: its heading.
        caption: explanation of the picture and of its limits.
        png: the file's content.
        axes: number of axes side by side.
    """

    file: str
    title: str
    caption: str
    png: bytes
    axes: int


def draw(material: Material) -> list[Plot]:
    """Return the figures of the page, those of detectors, and the card, as files.

    Runs that are not comparable have own pictures.
    """
    from matplotlib import rc_context

    plots = []
    with rc_context(STYLE):
        for number, group in enumerate(material.groups, start=1):
            suffix = "" if number == 1 else f"-{number}"
            runs = [one for one, _ in group]
            where = f": {describe(runs[0].run)}" if len(material.groups) > 1 else ""
            charts = (
                (PLOTS[0], [material.robust_charts[number - 1]]),
                (PLOTS[1], material.query_charts[number - 1]),
            )
            drawn = [
                (file, shown[0].title, shown[0].caption, figure_of(shown))
                for file, every in charts
                if (shown := [chart for chart in every if not chart.sentence])
            ]
            for file, kind in zip(DETECTION_PLOTS, detection.KINDS, strict=True):
                if (found := kind(runs)) is not None:
                    drawn.append((file, found[0] + where, *found[1:]))
            plots += [
                Plot(
                    file.replace(".png", f"{suffix}.png"),
                    title,
                    caption,
                    to_png(figure),
                    min(2, len(figure.axes)),
                )
                for file, title, caption, figure in drawn
            ]
    return [*plots, Plot(CARD, "Card", "", card.to_png(material), 1)]
