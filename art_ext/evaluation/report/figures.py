"""The figures of the page of a report."""

from __future__ import annotations

from art_ext.core.wording import counted
from art_ext.evaluation.report.material import Material, Section
from art_ext.storage.evaluation import PLOTS

CURVE = PLOTS[0].removesuffix(".png")


def curve(material: Material) -> Section:
    """Return the curves of robust accuracy against eps."""
    plots = [plot for plot in material.plots if plot.file.startswith(CURVE)]
    return Section("curve", "Robust accuracy against eps", {"curve": plots}, folded=False)


def queries(material: Material) -> Section:
    """Return the curves of success against queries."""
    plots = [plot for plot in material.plots if not plot.file.startswith(CURVE)]
    attacks = {row.attack for row in material.rows}
    gist = f"{counted(len(attacks), 'attack')} by the queries of a sample"
    return Section("queries", "Success against queries", {"queries": plots}, gist)
