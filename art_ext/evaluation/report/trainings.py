"""The report of trainings: one self-contained page, and their curves as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import counted, duration
from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.analysis.table import percent
from art_ext.evaluation.analysis.trainings import LoadedTraining, load_training, named_apart
from art_ext.evaluation.report.canvas import STYLE, to_png
from art_ext.evaluation.report.charts import Chart
from art_ext.evaluation.report.courses import course_charts
from art_ext.evaluation.report.painting import figure_of
from art_ext.evaluation.report.rendering import Cell, Column, Line, interval, render_template, told
from art_ext.storage.differences import flat
from art_ext.storage.ownership import sweep
from art_ext.storage.store import Place, store_of
from art_ext.storage.training import PAGE, PLOT

IN_LINE = 2  # charts of the picture


@dataclass(frozen=True)
class Share:
    """A measured share with its interval."""

    title: str
    value: float
    low: float
    high: float


def write_training_report(folder: Place, loaded: Sequence[LoadedTraining]) -> None:
    """Write the page and the picture of the curves. Each file is written atomically.

    Args:
        folder: that of the training itself, or any other.
        loaded: one training, or several that are drawn together.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a training is given twice.
        OSError: if the folder cannot be written.
    """
    require_page()
    named = named_apart(loaded)
    charts = course_charts(named)
    store = store_of(folder)
    store.write(PLOT, _picture(charts))
    store.write(PAGE, _page(named, charts).encode("utf-8"))


def rewrite_training_report(folder: Place) -> None:
    """Write the report of a training into its own folder.

    Raises:
        ImportError, ValueError, OSError: as ``load_training`` and ``write_training_report``.
    """
    loaded = [load_training(folder)]
    sweep(store_of(folder), (PAGE, PLOT))  # of processes that were killed while they wrote them
    write_training_report(folder, loaded)


def require_page() -> None:
    """Raise ImportError unless the packages that write the page and the picture are installed."""
    require_report(("jinja2", "matplotlib"))


def render_training_report(loaded: Sequence[LoadedTraining]) -> str:
    """Return the page as HTML.

    Args:
        loaded: one training, or several that are drawn together.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a training is given twice.
    """
    named = named_apart(loaded)
    return _page(named, course_charts(named))


def _picture(charts: Sequence[tuple[str, Sequence[Chart]]]) -> bytes:
    """Return the curves as a PNG file. Sentences are left out."""
    from matplotlib import rc_context

    drawn = [one for _, own in charts for one in own if not one.sentence]
    with rc_context(STYLE):
        return to_png(figure_of(drawn, IN_LINE))


def _page(loaded: Sequence[LoadedTraining], charts: Sequence[tuple[str, Sequence[Chart]]]) -> str:
    return render_template(
        "trainings.html.j2",
        loaded=loaded,
        several=len(loaded) > 1,
        cards=[(one, _facts(one), list(_shares(one))) for one in loaded],
        findings=[
            (one.name, finding["kind"], finding["message"])
            for one in loaded
            for finding in (one.run or {}).get("warnings", ())
        ],
        columns=_columns(loaded),
        rows=[line for one in loaded for line in _lines(one, len(loaded) > 1)],
        figures=charts,
        differing=_differing(loaded),
        settings={one.name: told(flat(one.options)) for one in loaded},
    )


# ---- figures of the weights


def _facts(one: LoadedTraining) -> str:
    """Return recipe, data and length of a training in a line."""
    last = one.points[-1]
    parts = [
        " on ".join(part for part in (one.recipe, one.data) if part),
        counted(int(last.epoch), "epoch"),
        counted(last.rows, "row"),
    ]
    if one.run is None:
        parts.append("no figures of the test data")
    return " · ".join(part for part in parts if part)


def _weights(one: LoadedTraining) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield the kinds of weights that have figures."""
    for kind in ("final", "best"):
        found = (one.run or {}).get(kind)
        if found:
            yield kind, found


def _shares(one: LoadedTraining) -> Iterable[Share]:
    """Yield the shares of the test samples that a card shows."""
    run = one.run or {}
    for kind, found in _weights(one):
        if kind == "best" and found["epoch"] == run["final"]["epoch"]:
            continue  # the same weights
        for title, value in _measured(run, found):
            samples = int(run["test_samples"])
            low, high = wilson(round(value * samples), samples)
            yield Share(f"{title}, {kind}", value, low, high)


def _measured(run: Mapping[str, Any], found: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    steps = run["pgd"]["steps"]
    yield "Clean", found["clean"]
    yield f"PGD-{steps}", found[f"pgd{steps}"]
    if found.get("stability") is not None:
        yield "Stability", found["stability"]
    if found["rays"]:
        yield "RayS", found["rays"]["robust_accuracy"]


def _columns(loaded: Sequence[LoadedTraining]) -> list[Column]:
    """Return the columns of the table. Those of one training without a value are left out."""
    shares = dict.fromkeys(
        title
        for one in loaded
        for _, found in _weights(one)
        for title, _ in _measured(one.run or {}, found)
    )
    return [
        *([Column("Run", "Name of the run folder.", False)] if len(loaded) > 1 else []),
        Column("Weights", "Final weights, or those of the best validation.", False),
        Column("Epoch", "Epoch of these weights."),
        *(Column(f"{title} (%)", MEANINGS.get(title, MEANINGS["PGD"])) for title in shares),
        Column("Forwards", "Rows forward up to this epoch."),
        Column("Backwards", "Rows backward up to this epoch."),
        Column("Time", "Wall time up to this epoch."),
    ]


MEANINGS = {
    "Clean": "Share of the test samples that are classified correctly.",
    "PGD": "Share of the test samples that are classified correctly, at every iterate of PGD.",
    "Stability": "Share of the test samples whose prediction, right or wrong, PGD does not change.",
    "RayS": "Share of the test samples that are classified correctly, also after RayS.",
}


def _lines(one: LoadedTraining, several: bool) -> Iterable[Line]:
    """Yield a line of the table for each kind of weights."""
    run = one.run or {}
    for kind, found in _weights(one):
        cells = [Cell(one.name, one.name.lower())] if several else []
        cells += [Cell(kind, kind), Cell(str(found["epoch"]), found["epoch"])]
        for _, value in _measured(run, found):
            ends = wilson(round(value * run["test_samples"]), run["test_samples"])
            cells.append(Cell(percent(value).removesuffix(" %"), value, interval(*ends)))
        cells += [Cell(f"{found[name]:,}", found[name]) for name in ("forwards", "backwards")]
        cells.append(Cell(duration(found["seconds"]), found["seconds"]))
        yield Line(cells)


# ---- configuration


def _differing(loaded: Sequence[LoadedTraining]) -> list[tuple[str, list[str]]]:
    """Return the options in which trainings differ, with their values."""
    every = [told(flat(one.options)) for one in loaded]
    names = dict.fromkeys(name for own in every for name in own)
    return [
        (name, values)
        for name in names
        if len(set(values := [own.get(name, "-") for own in every])) > 1
    ]
