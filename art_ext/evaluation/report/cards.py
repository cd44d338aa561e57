"""The verdict of each model, at the top of the page of a report."""

from __future__ import annotations

from art_ext.evaluation.analysis.together import notes
from art_ext.evaluation.report.material import Material, Section


def section(material: Material) -> Section:
    """Return the verdict cards, and notes on runs that are not comparable."""
    content = {
        "cards": material.verdicts,
        "notes": notes(material.loaded),
        "targeted": any(one.run["settings"]["targeted"] is not None for one in material.loaded),
    }
    return Section("verdict", "", content, folded=False)


def warnings(material: Material) -> Section | None:
    """Return the warnings and infos of all runs."""
    if not material.findings:
        return None
    return Section("warnings", "Warnings", {"findings": material.findings})
