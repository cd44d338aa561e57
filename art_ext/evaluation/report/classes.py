"""Accuracies of each class, for the page of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import class_name
from art_ext.evaluation.analysis.radii import failures
from art_ext.evaluation.analysis.table import percent
from art_ext.evaluation.report.material import Material, Section

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True)
class ClassRow:
    """One class under one model: samples, clean and robust accuracy, and the interval."""

    name: str
    count: int
    clean: float
    robust: float
    low: float
    high: float


def section(material: Material) -> Section:
    """Return the table of classes of each model."""
    tables = [table for one in material.loaded for table in by_class(one)]
    return Section("classes", "Classes", {"classes": tables}, _gist(tables))


def _gist(tables: Sequence[tuple[str, float, Sequence[ClassRow]]]) -> str:
    """Return the number of classes and the weakest one in a few words."""
    count = max(len(rows) for _, _, rows in tables)
    told = f"{count:,} class{'' if count == 1 else 'es'}"
    if len(tables) > 1:
        return told
    weakest = min(tables[0][2], key=lambda row: row.robust)
    return f"{told}, weakest {weakest.name} {percent(weakest.robust)}"


def by_class(one: LoadedRun) -> list[tuple[str, float, list[ClassRow]]]:
    """For each model its name, the largest eps, and the accuracies of each class."""
    eps = max(one.run["settings"]["eps"])
    names = one.run["data"]["class_names"]
    tables = []
    for model in one.blocks.models:
        samples = one.blocks.samples(model)
        worst = failures(one.blocks, model, eps)[samples.index.to_numpy()]
        samples = samples.assign(broken=worst)
        rows = []
        for label, own in samples.groupby("label"):
            count = len(own)
            held = int((~own["broken"]).sum())
            clean = float((~own["already_adversarial"]).mean())
            rows.append(
                ClassRow(
                    class_name(int(label), names), count, clean, held / count, *wilson(held, count)
                )
            )
        tables.append((model, eps, rows))
    return tables
