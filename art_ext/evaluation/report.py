"""The report: one self-contained page that works from disk; everything that came from outside is escaped."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.plots import Plot
from art_ext.evaluation.table import Row, number, percent, radius, silent

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        text: what is shown.
        sort: what it is sorted by (None: unknown, always last).
        note: what stands below, in small letters.
    """

    text: str
    sort: float | str | None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        title: its heading.
        meaning: its definition.
        numeric: whether it holds numbers.
        field: of ``Row``, if the column is left out where no row knows it.
    """

    title: str
    meaning: str
    numeric: bool = True
    field: str = ""


COLUMNS = (
    Column("Model", "", False),
    Column("Attack", "", False),
    Column("eps", "Radius of the ball around each sample, in the units of the input."),
    Column("Clean accuracy", "Share of all samples that the model classifies correctly before any attack."),
    Column(
        "Robust accuracy",
        "Share of all samples that are classified correctly and that the attack did not break within eps. It bounds "
        "the true robust accuracy from above.",
    ),
    Column(
        "Success rate",
        "Share of the correctly classified samples that the attack broke within eps (ASR); with targets, of those "
        "among them whose label is not the target.",
    ),
    Column(
        "Mean queries",
        "Mean number of rows through the model until success, over the correctly classified samples that were broken; "
        "the one query of the clean check is included (the RayS authors' program does not count it).",
    ),
    Column("Median queries", "The median over the same samples."),
    Column(
        "Mean gradients",
        "Mean number of rows that were differentiated, over the same samples. An attack with gradients knows more of "
        "the model than one without: their queries do not compare.",
        field="mean_gradients",
    ),
    Column(
        "Distance",
        "Mean distance of the nearest adversarial found, inside eps or not, over the correctly classified samples; "
        "those for which none was found at any distance are left out. Only attacks that look for the nearest "
        "adversarial and did not stop early know it. The median is in table.csv.",
        field="mean_distance",
    ),
    Column(
        "ADBD",
        "Average decision boundary distance: the same mean with misclassified samples counting 0. It needs a search "
        "that spends its whole budget on every sample.",
        field="adbd",
    ),
    Column("Seconds", "Wall time of the attack on all samples."),
)


@dataclass(frozen=True)
class Verdict:
    """What one model comes down to: the share of samples that no attack of the panel broke."""

    model: str
    clean: str
    robust: str
    share: float
    eps: str


def verdicts(records: pd.DataFrame, run: Mapping[str, Any]) -> list[Verdict]:
    """For each model the worst case over all attacks, sample by sample, at the largest eps."""
    eps = max(run["settings"]["eps"])
    found = []
    for model, rows in records[records["eps"] == eps].groupby("model", sort=False):
        broken = (rows["success"] | rows["already_adversarial"]).groupby(rows["index"]).any()
        share = float((~broken).mean())
        clean = float(run["clean_accuracy"][model])
        found.append(Verdict(str(model), percent(clean), percent(share), share, radius(eps)))
    return found


def render(run: Mapping[str, Any], records: pd.DataFrame, rows: Sequence[Row], plots: Sequence[Plot]) -> str:
    """The page as HTML, with the plots inside.

    Args:
        run: the content of ``run.json``.
        records: the content of ``records.parquet``.
        rows: the table.
        plots: the pictures.

    Raises:
        ImportError: without the extra ``report``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("art_ext.evaluation", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    samples = run["data"]["samples"]
    hidden = silent(rows)
    columns = [column for column in COLUMNS if column.field not in hidden]
    cells = [dict(zip(COLUMNS, _cells(row), strict=True)) for row in rows]
    return environment.get_template("report.html.j2").render(
        run=run,
        data=run["data"]["name"],
        samples=samples,
        verdicts=verdicts(records, run),
        columns=columns,
        rows=[[row[column] for column in columns] for row in cells],
        plots=[(plot, base64.b64encode(plot.png).decode("ascii")) for plot in plots],
        error=f"{100 * 0.5 / math.sqrt(samples):.1f}",
        facts={**run["versions"], "started": run["started"], "seconds": run["seconds"]},
        arguments={name: _written(value) for name, value in run["arguments"].items() if value not in (None, {})},
    )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cells(row: Row) -> list[Cell]:
    left_out = f"{row.left_out} left out" if row.left_out else ""
    return [
        Cell(row.model, row.model.lower()),
        Cell(row.attack, row.attack.lower()),
        Cell(radius(row.eps), row.eps),
        Cell(percent(row.clean_accuracy), _known(row.clean_accuracy)),
        Cell(percent(row.robust_accuracy), _known(row.robust_accuracy)),
        Cell(percent(row.success_rate), _known(row.success_rate)),
        Cell(number(row.mean_queries), _known(row.mean_queries)),
        Cell(number(row.median_queries), _known(row.median_queries)),
        Cell(number(row.mean_gradients), _known(row.mean_gradients)),
        Cell(number(row.mean_distance, 4), _known(row.mean_distance), left_out),
        Cell(number(row.adbd, 4), _known(row.adbd)),
        Cell(number(row.seconds), _known(row.seconds)),
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
