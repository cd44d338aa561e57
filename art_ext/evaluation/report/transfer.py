"""The page of a transfer run: heat maps, table, curves and pictures of examples on other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from art_ext.core.geometry import exact_mean
from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import NORMS
from art_ext.evaluation.report.material import Section
from art_ext.evaluation.report.pictures import Sheet, are_images, make_sheet
from art_ext.evaluation.report.rendering import render_template, told
from art_ext.evaluation.report.transfer_charts import curves
from art_ext.evaluation.report.transfer_plot import draw_transfer
from art_ext.evaluation.report.transfer_tables import (
    FILTERS,
    METRICS,
    TARGETED,
    Heat,
    class_matrices,
    heat_maps,
    name_of,
    results,
)
from art_ext.storage.evaluation import REPORT
from art_ext.storage.store import Place, store_of
from art_ext.storage.transfer import FIGURES

if TYPE_CHECKING:
    import pandas as pd

    from art_ext.evaluation.analysis.examples import Examples
    from art_ext.evaluation.analysis.transfer import TransferRow
    from art_ext.evaluation.report.charts import Chart

PROTOCOL = (
    "Examples are made once for each source, attack, setting and seed, and then tried on every"
    " target.",
    "Attacks leave the predictions of the source. For samples that the source classifies right"
    " these are the labels.",
    "Where an attack within a radius fails on the source, its last iterate is tried.",
    "Intervals of shares are Wilson intervals at 95 %, as if the samples had been drawn at random."
    " Differences are between attacks on the same samples, with paired intervals.",
)
MOST_BYTES = 1_000_000  # of the images of strips; base64 makes a third more of them
MOST_MATRICES = 24  # of classes
MOST_CARDS = 12  # attacks and settings that have a card


@dataclass(frozen=True, eq=False)
class TransferMaterial:
    """A transfer run and what its page shows.

    Attributes:
        run: its facts, with ``data``, ``settings``, ``arguments`` and ``versions``.
        rows: the table of the run.
        records: of the run. Only targeted runs show more of them than ``rows`` holds. None: nothing
            of them is shown.
        examples: originals, and for each source and attack with its setting the kept examples.
    """

    run: Mapping[str, Any]
    rows: Sequence[TransferRow]
    records: pd.DataFrame | None = None
    examples: Examples | None = None

    @property
    def targeted(self) -> bool:
        """True for a run with target classes."""
        return self.run["settings"]["targeted"] is not None

    @cached_property
    def ends(self) -> list[TransferRow]:
        """The rows of examples at the end of their attack."""
        return [row for row in self.rows if not row.at]

    @cached_property
    def names(self) -> list[str]:
        """The attacks with their settings, each once."""
        return list(dict.fromkeys(map(name_of, self.ends)))

    @cached_property
    def maps(self) -> dict[str, list[Heat]]:
        """By metric, the heat maps of sources and targets."""
        return {metric: heat_maps(self.ends, metric) for metric in METRICS}

    @cached_property
    def curves(self) -> list[tuple[str, list[Chart]]]:
        """The figures of each varied argument, and of iterations."""
        return curves(self.rows)

    @cached_property
    def strips(self) -> list[Sheet]:
        """A sheet for each source: rows are attacks with their settings, columns samples.

        Of many or large images fewer samples are shown, so that the page stays small.
        """
        examples = self.examples
        if examples is None or not are_images(self.run):
            return []
        found = [
            make_sheet(
                self.run,
                examples,
                source,
                examples.index,
                {name: kept for name in self.names if (kept := examples.found.get((source, name)))},
            )
            for source in dict.fromkeys(source for source, _ in examples.found)
        ]
        weight = sum(sheet.weight for sheet in found)
        if weight <= MOST_BYTES:
            return found
        count = max(1, len(examples.index) * MOST_BYTES // weight)
        return [sheet.first(count) for sheet in found]


def write_transfer_report(folder: Place, material: TransferMaterial) -> None:
    """Write the page, and its figures as PNG files into the folder ``figures``.

    Each file is written atomically. Tables and records are those of the run itself.

    Args:
        folder: that of the run itself, or any other.
        material: what the page shows.

    Raises:
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written.
    """
    store = store_of(folder)
    for name, content in draw_transfer(
        material.maps["Strict"], material.curves, material.strips
    ).items():
        store.write(f"{FIGURES}/{name}", content)
    store.write(REPORT, render_transfer(material).encode("utf-8"))


def render_transfer(material: TransferMaterial) -> str:
    """Return the page as HTML, with its pictures inside.

    Raises:
        ImportError: without the extra ``report``.
    """
    sections = [found for make in SECTIONS if (found := make(material)) is not None]
    content = {name: value for section in sections for name, value in section.content.items()}
    run = material.run
    settings = run["settings"]
    sources, targets = (
        len({getattr(row, name) for row in material.rows}) for name in ("source", "target")
    )
    radii = sorted({row.eps for row in material.rows if row.eps is not None})
    facts = [
        counted(run["data"]["samples"], "sample"),
        f"{counted(sources, 'source')}, {counted(targets, 'target')}",
        *([f"eps {', '.join(map(radius, radii))}"] if radii else []),
        NORMS[settings["norm"]],
        "targeted" if material.targeted else "untargeted",
    ]
    return render_template(
        "transfer.html.j2",
        sections=sections,
        data=run["data"]["name"],
        names=list(dict.fromkeys(row.source for row in material.rows)),
        told=facts,
        targeted=material.targeted,
        **content,
    )


# ---- the sections of the page


def _verdict(material: TransferMaterial) -> Section:
    """Return a card for each attack with its mean white-box success and transfer."""
    cards = [
        {
            "title": name,
            "means": list(_means([row for row in material.ends if name_of(row) == name])),
        }
        for name in material.names[:MOST_CARDS]
    ]
    more = max(0, len(material.names) - MOST_CARDS)
    return Section("transfer_verdict", "", {"cards": cards, "more": more}, folded=False)


def _means(rows: Sequence[TransferRow]) -> Iterator[tuple[str, float, str]]:
    """Yield the name of a mean, the mean over pairs, and of how many pairs it is."""
    import torch

    own = {row.source: row.strict for row in rows if row.white_box and row.counted}
    for row in rows:
        if row.counted:
            own.setdefault(row.source, row.source_success)
    moved = [row for row in rows if not row.white_box and not row.member]
    members = [row.strict for row in rows if row.member and row.counted]
    parts = {
        "White-box": (list(own.values()), "source"),
        "Members": (members, "pair"),
        "Strict": ([row.strict for row in moved if row.counted], "pair"),
        "Authors'": ([row.authors for row in moved if row.samples], "pair"),
    }
    for name, (shares, noun) in parts.items():
        if shares:
            yield name, exact_mean(torch.tensor(shares)), counted(len(shares), noun)


def _maps(material: TransferMaterial) -> Section:
    """Return the heat maps of sources and targets."""
    meanings = TARGETED if material.targeted else METRICS
    metrics = [(name, meanings[name], maps) for name, maps in material.maps.items()]
    return Section("transfer_maps", "Sources and targets", {"metrics": metrics}, folded=False)


def _results(material: TransferMaterial) -> Section:
    """Return the table of all rows."""
    columns, lines = results(material.rows)
    choices = {
        name: [(str(one), str(one) if one != 0 else "end") for one in dict.fromkeys(values)]
        for name in FILTERS
        for values in [[getattr(row, name) for row in material.rows]]
    }
    content = {
        "columns": columns,
        "rows": lines,
        "choices": {name: values for name, values in choices.items() if len(values) > 1},
    }
    return Section("transfer_results", "Results", content, counted(len(lines), "row"))


def _curves(material: TransferMaterial) -> Section | None:
    """Return success and distortion against varied arguments. None without any."""
    if not material.curves:
        return None
    return Section("transfer_curves", "Curves", {"curves": material.curves}, folded=False)


def _strips(material: TransferMaterial) -> Section | None:
    """Return the images of each source. None if none were kept."""
    if not material.strips:
        return None
    return Section("transfer_strips", "Examples", {"strips": material.strips}, folded=False)


def _classes(material: TransferMaterial) -> Section | None:
    """Return the matrices of class and target class. None for untargeted runs."""
    if material.records is None:
        return None
    found = class_matrices(material.records, material.run, material.examples)
    if not found:
        return None
    content = {"matrices": found[:MOST_MATRICES], "left_out": max(0, len(found) - MOST_MATRICES)}
    return Section("transfer_classes", "Classes", content, counted(len(found), "map"))


def _method(material: TransferMaterial) -> Section:
    """Return protocol, arguments and versions."""
    run = material.run
    content = {
        "protocol": PROTOCOL,
        "tables": [("Arguments", told(run["arguments"])), ("Versions", told(run["versions"]))],
    }
    return Section("transfer_method", "Method and versions", content, "protocol, versions")


# in the order of the page; each returns its section, or None if there is nothing to show
SECTIONS = (_verdict, _maps, _results, _curves, _strips, _classes, _method)
