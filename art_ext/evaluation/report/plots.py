"""Figures of a report as PNG files in memory. matplotlib's global state is not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from art_ext.evaluation.report import card
from art_ext.evaluation.report.canvas import STYLE, to_png
from art_ext.evaluation.report.painting import figure_of
from art_ext.storage.evaluation import CARD, DETECTION_PLOTS, PLOTS, TRACE_PLOT

if TYPE_CHECKING:
    from art_ext.evaluation.report.material import Material


class Plot(NamedTuple):
    """A picture of the report: its name in the folder, and the file's content."""

    file: str
    png: bytes


def draw(material: Material) -> list[Plot]:
    """Return the figures of the page, those of traces and detectors, and the card, as files.

    Runs that are not comparable have own pictures.
    """
    from matplotlib import rc_context

    plots = []
    files = (*PLOTS[:2], TRACE_PLOT, *DETECTION_PLOTS)
    with rc_context(STYLE):
        for number in range(len(material.groups)):
            suffix = f"-{number + 1}" if number else ""
            every = (
                [material.robust_charts[number]],
                material.query_charts[number],
                material.trace_charts[number],
                *material.detection_charts[number],
            )
            for file, charts in zip(files, every, strict=False):
                shown = [chart for chart in charts if not chart.sentence]
                if shown:
                    png = to_png(figure_of(shown))
                    plots.append(Plot(file.replace(".png", f"{suffix}.png"), png))
    return [*plots, Plot(CARD, card.to_png(material))]
