"""The report: one self-contained page that works from disk. Text from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from art_ext.evaluation.analysis import curves, findings, verdict
from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.analysis.together import describe
from art_ext.evaluation.report import (
    card,
    cards,
    classes,
    clouds,
    comparison,
    examples,
    figures,
    method,
    results,
)
from art_ext.evaluation.report.material import Material
from art_ext.evaluation.report.rendering import render_template
from art_ext.storage.evaluation import CURVES, REPORT, TABLES, WARNINGS
from art_ext.storage.store import Place, store_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

# in the order of the page; each returns its section, or None if there is nothing to show
SECTIONS = (
    cards.section,
    figures.curve,
    examples.section,
    comparison.section,
    cards.warnings,
    results.section,
    figures.queries,
    clouds.section,
    classes.section,
    method.section,
)


def write_report(
    folder: Place, loaded: Sequence[LoadedRun], *, baseline: str | None = None
) -> None:
    """Write the page, the pictures, the table, the curves and the warnings.

    Each file is written atomically.

    Args:
        folder: that of the run itself, or any other.
        loaded: one run, or several to be compared.
        baseline: name of the model with which the others are compared, as the page shows it. None:
            the first one.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a run is given twice, or no model has the name of the baseline.
        OSError: if the folder cannot be written.
    """
    material = Material(loaded, baseline)
    verdicts = [own for _, own in material.verdicts]
    files = {
        TABLES[0]: verdict.to_csv(material.rows, verdicts).encode("utf-8"),
        TABLES[1]: verdict.to_json(material.rows, verdicts).encode("utf-8"),
        CURVES: curves.to_csv(material.curves).encode("utf-8"),
        WARNINGS: findings.to_json(material.findings).encode("utf-8"),
        **{plot.file: plot.png for plot in material.plots},
        **examples.file(material),
        REPORT: _page(material).encode("utf-8"),
    }
    store = store_of(folder)
    for name, content in files.items():
        store.write(name, content)


def render(loaded: Sequence[LoadedRun], *, baseline: str | None = None) -> str:
    """Return the page as HTML, with the pictures inside.

    Args:
        loaded: one run, or several to be compared.
        baseline: as in ``write_report``.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a run is given twice, or no model has the name of the baseline.
    """
    return _page(Material(loaded, baseline))


def figure(
    loaded: LoadedRun | Sequence[LoadedRun], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write a picture of runs that can be shown without their report.

    It holds names, verdicts with intervals, the curve, up to six examples, the kinds of warnings,
    and in small type version, data, number of samples and panel. The same facts are text in the
    file: in ``<desc>`` of an SVG, in the metadata of a PNG.

    Args:
        loaded: one run, or several to be compared, as ``load_run`` returns them.
        path: file to write, with the suffix .png or .svg.
        overwrite: True to replace a file that is no earlier card. Default: False.

    Returns:
        The path.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: for another suffix, a folder that does not exist, a file that is no earlier
            card, or a run that is given twice.
        OSError: if the file cannot be written.
    """
    require_report()
    place = card.check_figure(path, overwrite=overwrite)
    runs = loaded if isinstance(loaded, Sequence) else [loaded]
    card.write_figure(Material(runs), place)
    return place


def _page(material: Material) -> str:
    sections = [found for make in SECTIONS if (found := make(material)) is not None]
    content = {name: value for section in sections for name, value in section.content.items()}
    return render_template(
        "report.html.j2",
        sections=sections,
        loaded=material.loaded,
        several=material.several,
        data=list(dict.fromkeys(one.run["data"]["name"] for one in material.loaded)),
        describe=describe,
        **content,
    )
