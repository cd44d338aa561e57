"""The report: one self-contained page that works from disk. Text from outside is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis import findings, verdict
from art_ext.evaluation.analysis.rejection import decisive_failures
from art_ext.evaluation.analysis.table import DIGITS, HEADS, Row, number, percent, silent, verdicts
from art_ext.evaluation.analysis.together import (
    comparable,
    describe,
    meaning,
    models_of,
    name_apart,
    notes,
)
from art_ext.evaluation.report import plots
from art_ext.evaluation.report.pictures import Sheet, class_name, mosaic, sheets
from art_ext.evaluation.report.plots import Plot
from art_ext.evaluation.report.rendering import (
    Cell,
    Column,
    Line,
    interval,
    known,
    render_template,
    told,
)
from art_ext.storage.evaluation import PLOTS, REPORT, TABLES, WARNINGS
from art_ext.storage.store import Place, store_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


COLUMNS = (
    Column("Model", "", False),
    Column("Attack", "", False),
    Column("eps", "Radius of the ball around each sample, in the units of the input."),
    Column(
        "Clean accuracy",
        "Share of all samples that the model classifies correctly before any attack.",
    ),
    Column(
        "Robust accuracy",
        "Share of all samples that are classified correctly and that the attack (in a cascade: this"
        " one and all before it) did not succeed on within eps. It bounds the true robust accuracy"
        " from above. Below it its Wilson interval at 95 %, the range for other samples of the same"
        " kind.",
    ),
    Column(
        "With rejection",
        "Robust accuracy with rejection: share of all samples that are correct and accepted by the"
        " detector without attack, and for which the attack (in a cascade: this one and all before"
        " it) found no row within eps that is misclassified and accepted. Below it its Wilson"
        " interval at 95 %.",
        field="rejection_accuracy",
    ),
    Column(
        "Success rate",
        "Share of successes within eps among the correctly classified samples given to the attack"
        " (ASR). With targets, among those of them whose label is not the target.",
    ),
    Column(
        "Rejected",
        "Share of the successes on correctly classified samples that the detector rejects. The"
        " successes of an attack that knows the detector are accepted.",
        field="rejected_successes",
    ),
    Column(
        "AUROC (pairs)",
        "Area under the ROC curve of the detector's scores in the protocol pairs: correctly"
        " classified clean samples with a success, against what the attack returned for them. Below"
        " it its bootstrap interval at 95 %, and the share of these rows that is rejected at the"
        " detector's false-positive rate on these samples (TPR).",
        field="auroc_pairs",
    ),
    Column(
        "AUROC (all)",
        "The same in the protocol all: all samples that the attack was given, against all that it"
        " returned for them, successful or not.",
        field="auroc_all",
    ),
    Column(
        "Mean queries",
        "Mean number of rows through the model until success, over the correctly classified samples"
        " with a success. The one query of the clean check is included (the RayS authors' program"
        " does not count it).",
    ),
    Column("Median queries", "The median over the same samples."),
    Column(
        "Mean gradients",
        "Mean number of rows that were differentiated, over the same samples. An attack with"
        " gradients uses more of the model than one without, so their queries are not comparable.",
        field="mean_gradients",
    ),
    Column(
        "Distance",
        "Mean distance of the nearest adversarial found, inside eps or not, over the correctly"
        " classified samples given to the attack. Those for which none was found at any distance"
        " are left out. Only attacks that find the nearest adversarial and did not stop early have"
        " it. The median is in table.csv.",
        field="mean_distance",
    ),
    *(
        Column(
            head,
            f"Mean {head} distance between the input and the adversarial that the attack returned,"
            " over its successes among the correctly classified samples at the largest eps. Only"
            " of minimum-norm attacks, which minimise a distortion."
            + (" L0 is the number of features that differ." if name == "l0" else ""),
            field=f"mean_{name}",
        )
        for name, head in HEADS.items()
    ),
    Column(
        "ADBD",
        "Average decision boundary distance: the same mean with misclassified samples counting 0."
        " It needs an attack that spends its whole budget on every sample, and with a detector a"
        " success.",
        field="adbd",
    ),
    Column("Seconds", "Wall time of the attack on all samples."),
)


@dataclass(frozen=True)
class ClassRow:
    """One class under one model: samples, clean and robust accuracy, and the interval."""

    name: str
    count: int
    clean: float
    robust: float
    low: float
    high: float


@dataclass(frozen=True)
class Leader:
    """A model in the order of the distances of the decision boundaries."""

    model: str
    attack: str
    adbd: float
    left_out: int
    relative_adbd: float


def write_report(folder: Place, loaded: Sequence[LoadedRun]) -> None:
    """Write the page, the pictures, the table as CSV and JSON, and the warnings as JSON.

    Each file is written atomically.

    Args:
        folder: that of the run itself, or any other.
        loaded: one run, or several to be compared.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a run is given twice.
        OSError: if the folder cannot be written.
    """
    loaded = name_apart(loaded)
    curves = plots.draw(loaded)
    pictures = _pictures(loaded)
    rows = [row for one in loaded for row in one.rows]
    found = [own for one in loaded for own in verdicts(one.blocks, one.run)]
    files = {
        TABLES[0]: verdict.to_csv(rows, found).encode("utf-8"),
        TABLES[1]: verdict.to_json(rows, found).encode("utf-8"),
        WARNINGS: findings.to_json(_findings(loaded)).encode("utf-8"),
        **{plot.file: plot.png for plot in curves},
        **({PLOTS[2]: mosaic(pictures)} if pictures else {}),
        REPORT: _page(loaded, curves, pictures).encode("utf-8"),
    }
    store = store_of(folder)
    for name, content in files.items():
        store.write(name, content)


def render(loaded: Sequence[LoadedRun]) -> str:
    """Return the page as HTML, with the pictures inside.

    Args:
        loaded: one run, or several to be compared.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if a run is given twice.
    """
    loaded = name_apart(loaded)
    return _page(loaded, plots.draw(loaded), _pictures(loaded))


def _findings(loaded: Sequence[LoadedRun]) -> list[findings.Finding]:
    """Return the warnings of all runs, and then the infos."""
    return findings.in_order(
        findings.Finding.from_plain(plain) for one in loaded for plain in one.run["warnings"]
    )


def _pictures(loaded: Sequence[LoadedRun]) -> list[Sheet]:
    together = sum(len(models_of(one)) for one in loaded)
    return [sheet for one in loaded for sheet in sheets(one, together)]


def _page(loaded: Sequence[LoadedRun], curves: Sequence[Plot], pictures: Sequence[Sheet]) -> str:
    rows = [row for one in loaded for row in one.rows]
    hidden = silent(rows)
    columns = [column for column in COLUMNS if column.field not in hidden]
    cells = [(row, dict(zip(COLUMNS, _cells(row), strict=True))) for row in rows]
    return render_template(
        "report.html.j2",
        loaded=loaded,
        data=list(dict.fromkeys(one.run["data"]["name"] for one in loaded)),
        targeted=any(one.run["settings"]["targeted"] is not None for one in loaded),
        notes=notes(loaded),
        meaning=meaning([one.run for one in loaded]),
        describe=describe,
        cards=[(one, own) for one in loaded for own in verdicts(one.blocks, one.run)],
        findings=_findings(loaded),
        columns=columns,
        rows=[
            Line(
                [own[column] for column in columns],
                {"model": row.model, "attack": row.attack, "eps": row.eps},
                marked=bool(row.adaptive),
            )
            for row, own in cells
        ],
        choices=_choices(rows),
        leaders=[(group, board) for group in comparable(loaded) if (board := leaderboard(group))],
        classes=[table for one in loaded for table in by_class(one)],
        transfers=[
            (name, one.run["transfer"], found)
            for one in loaded
            for name, found in one.run.get("transfer", {"models": {}})["models"].items()
        ],
        curves=curves,
        pictures=pictures,
        arguments={one.folder: told(one.run["arguments"]) for one in loaded},
        facts={one.folder: _facts(one.run) for one in loaded},
    )


def _choices(rows: Sequence[Row]) -> dict[str, list[tuple[str, str]]]:
    """Return filters of the table: by name of the control, values and their labels."""
    eps = sorted({row.eps for row in rows})
    choices = {
        "model": [(name, name) for name in dict.fromkeys(row.model for row in rows)],
        "attack": [(name, name) for name in dict.fromkeys(row.attack for row in rows)],
        "eps": [(str(value), radius(value)) for value in eps],
    }
    return {name: values for name, values in choices.items() if len(values) > 1}


def leaderboard(group: Sequence[LoadedRun]) -> list[Leader]:
    """Models of comparable runs with an ADBD, the largest first."""
    measured = {
        (row.model, row.attack): row
        for one in group
        for row in one.rows
        if not math.isnan(row.adbd)
    }
    farthest = max((row.adbd for row in measured.values()), default=0.0) or 1.0
    return [
        Leader(row.model, row.attack, row.adbd, row.left_out or 0, row.adbd / farthest)
        for row in sorted(measured.values(), key=lambda row: -row.adbd)
    ]


def by_class(one: LoadedRun) -> list[tuple[str, float, list[ClassRow]]]:
    """For each model its name, the largest eps, and the accuracies of each class."""
    eps = max(one.run["settings"]["eps"])
    names = one.run["data"]["class_names"]
    tables = []
    for model in one.blocks.models:
        samples = one.blocks.samples(model)
        worst = decisive_failures(one.blocks, model, eps)[samples.index.to_numpy()]
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


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    seconds = {} if run["seconds"] is None else {"seconds": run["seconds"]}
    return {**run["versions"], "started": run["started"], **seconds}


def _cells(row: Row) -> list[Cell]:
    left_out = f"{row.left_out} left out" if row.left_out else ""
    return [
        Cell(row.model, row.model.lower()),
        Cell(
            row.attack,
            row.attack.lower(),
            ", ".join(
                [
                    *(["adaptive"] if row.adaptive else []),
                    *([] if row.attacked == row.samples else [f"given {row.attacked:,}"]),
                ]
            ),
        ),
        Cell(radius(row.eps), row.eps),
        Cell(percent(row.clean_accuracy), known(row.clean_accuracy)),
        Cell(
            percent(row.robust_accuracy),
            known(row.robust_accuracy),
            interval(row.robust_low, row.robust_high),
        ),
        Cell(
            percent(row.rejection_accuracy),
            known(row.rejection_accuracy),
            _between(row.rejection_low, row.rejection_high),
        ),
        Cell(percent(row.success_rate), known(row.success_rate)),
        Cell(percent(row.rejected_successes), known(row.rejected_successes)),
        _area(row, "pairs"),
        _area(row, "all"),
        Cell(number(row.mean_queries), known(row.mean_queries)),
        Cell(number(row.median_queries), known(row.median_queries)),
        Cell(number(row.mean_gradients), known(row.mean_gradients)),
        Cell(number(row.mean_distance, 4), known(row.mean_distance), left_out),
        *(_distortion(getattr(row, f"mean_{name}"), digits) for name, digits in DIGITS.items()),
        Cell(number(row.adbd, 4), known(row.adbd)),
        Cell(number(row.seconds), known(row.seconds)),
    ]


def _distortion(mean: float, digits: int) -> Cell:
    return Cell(number(mean, digits), known(mean))


def _area(row: Row, protocol: str) -> Cell:
    """Return the cell of an area under the ROC curve, with its interval and the TPR."""
    area, low, high = (getattr(row, f"auroc_{protocol}{end}") for end in ("", "_low", "_high"))
    if known(area) is None:
        return Cell(number(area, 3), None)
    tpr = percent(getattr(row, f"tpr_{protocol}"))
    return Cell(number(area, 3), area, f"{low:.3f} to {high:.3f}, TPR {tpr}")


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else interval(low, high)
