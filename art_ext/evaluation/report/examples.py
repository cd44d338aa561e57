"""The samples of each model beside their adversarials, on the page of a report."""

from __future__ import annotations

from art_ext.evaluation.report.material import Material, Section


def section(material: Material) -> Section | None:
    """Return the pictures of all models, or None if the runs kept none."""
    if not material.pictures:
        return None
    content = {"pictures": material.pictures}
    return Section("examples", "Originals beside their adversarials", content, folded=False)
