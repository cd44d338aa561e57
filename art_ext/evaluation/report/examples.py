"""The samples of each model beside their adversarials, on the page of a report."""

from __future__ import annotations

from art_ext.evaluation.report.material import Material, Section
from art_ext.evaluation.report.pictures import are_images, mosaic
from art_ext.storage.evaluation import PLOTS

LEAST = 160  # pixels of an image in the file


def section(material: Material) -> Section:
    """Return the examples of all models. Without any, the partial states the reason."""
    shown = material.galleries
    broken = [one.original for gallery in shown for one in gallery.examples if one.nearest]
    content = {
        "galleries": shown,
        "models": len(material.verdicts),
        "images": any(are_images(one.run) for one in material.loaded),
        "grey": any(one.pixels.ndim == 2 for one in broken),
        "coloured": any(one.pixels.ndim == 3 for one in broken),
        "broken": bool(broken),
        "held": any(one.outside for gallery in shown for one in gallery.examples),
        "thinned": max((gallery.thinned for gallery in shown), default=0),
    }
    return Section("examples", "Examples", content, folded=False)


def file(material: Material) -> dict[str, bytes]:
    """Return name and content of the file with all examples. Empty if there are none."""
    shown = [gallery.sheet for gallery in material.galleries]
    if not shown:
        return {}
    sides = [max(one.pixels.shape[:2]) for sheet in shown for _, one in sheet.originals]
    return {PLOTS[2]: mosaic(shown, max(LEAST, *sides), "held")}
