"""The figures of the page of a report."""

from __future__ import annotations

from art_ext.core.wording import counted
from art_ext.evaluation.report.material import Material, Section


def curve(material: Material) -> Section:
    """Return the curves of robust accuracy against eps."""
    return Section(
        "curve", "Robust accuracy against eps", {"curve": material.robust_charts}, folded=False
    )


def queries(material: Material) -> Section:
    """Return the curves of success against queries, of traces, and of detectors."""
    charts = [chart for group in material.query_charts for chart in group]
    attacks = {row.attack for row in material.rows}
    gist = f"{counted(len(attacks), 'attack')} by the queries of a sample"
    detection = [chart for group in material.detection_charts for own in group for chart in own]
    traces = [chart for group in material.trace_charts for chart in group]
    content = {"queries": charts, "traces": traces, "detection": detection}
    return Section("queries", "Success against queries", content, gist)
