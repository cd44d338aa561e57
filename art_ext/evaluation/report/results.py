"""The table of results of a report, and what belongs beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import in_cascade
from art_ext.evaluation.analysis.table import (
    DIGITS,
    HEADS,
    Row,
    chain_cells,
    decisive,
    number,
    percent,
    silent,
)
from art_ext.evaluation.analysis.together import comparable, meaning
from art_ext.evaluation.report.material import Material, Section
from art_ext.evaluation.report.rendering import Cell, Column, Line, interval, known

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
        "Stability",
        "Share of all samples whose prediction, right or wrong, the attack (in a cascade: this one"
        " and all before it) did not change within eps. Robust accuracy is the share of samples"
        " that are correct and stable. Below it its Wilson interval at 95 %. Only attacks within a"
        " fixed eps try to change wrong predictions.",
        field="stability",
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
        " with a success. The one query of the clean check is included (the RayS reference"
        " implementation does not count it).",
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
    Column(
        "Accepted",
        "Share of the transitions of chains that passed the Metropolis-Hastings test. This and the"
        " next columns are over the correctly classified samples that the attack was given. Only of"
        " attacks that draw several states of a sample.",
        field="acceptance",
    ),
    Column(
        "Diversity (L2)",
        "Mean L2 distance over the pairs of states of a sample.",
        field="diversity_l2",
    ),
    Column("Diversity", "The same in the norm of the run.", field="diversity"),
    Column(
        "Classes",
        "Mean number of distinct classes that the model predicts for the states of a sample.",
        field="classes",
    ),
    Column(
        "All or nothing",
        "Share of these samples all of whose states are adversarial.",
        field="all_or_nothing",
    ),
    Column("Seconds", "Wall time of the attack on all samples."),
)


REPEATED = ("Model", "Clean accuracy")  # not shown again in the next row of a model
MODELS_NAMED = 3  # in the gist


@dataclass(frozen=True)
class Leader:
    """A model in the order of the distances of the decision boundaries."""

    model: str
    attack: str
    adbd: float
    left_out: int
    relative_adbd: float


def section(material: Material) -> Section:
    """Return the table of all attacks, the order of the ADBD, and transfers between members."""
    rows = material.rows
    gist = _gist(material)
    hidden = silent(rows)
    columns = [column for column in COLUMNS if column.field not in hidden]
    cells = [(row, dict(zip(COLUMNS, _cells(row), strict=True))) for row in rows]
    for (row, own), (above, _) in zip(cells[1:], cells, strict=False):
        if row.model == above.model:
            own.update({one: replace(own[one], again=True) for one in own if one.title in REPEATED})
    content: dict[str, Any] = {
        "meaning": meaning([one.run for one in material.loaded]),
        "columns": columns,
        "rows": [
            Line(
                [own[column] for column in columns],
                {"model": row.model, "attack": row.attack, "eps": row.eps},
                marked=bool(row.adaptive),
            )
            for row, own in cells
        ],
        "choices": _choices(rows),
        "leaders": [
            (group, board) for group in comparable(material.loaded) if (board := leaderboard(group))
        ],
        "transfers": [
            (name, one.run["transfer"], found)
            for one in material.loaded
            for name, found in one.run.get("transfer", {"models": {}})["models"].items()
        ],
    }
    return Section("results", "Results", content, gist)


def _gist(material: Material) -> str:
    """Return number and strength of the attacks at the largest eps in a few words."""
    attacks = dict.fromkeys(row.attack for row in material.rows)
    told = []
    for one, verdict in material.verdicts:
        own = [
            row
            for row in one.rows
            if row.model == verdict.model and math.isclose(row.eps, verdict.worst[-1].eps)
        ]
        strongest = min(own, key=lambda row: (decisive(row)[0], row.attack), default=None)
        if strongest is not None:
            name = f" on {verdict.model}" if len(material.verdicts) > 1 else ""
            share = percent(decisive(strongest)[0])
            told.append(
                f"{share} left after {strongest.attack}{name}"
                if in_cascade(one.run)
                else f"strongest {strongest.attack} {share}{name}"
            )
    shown = told if len(told) <= MODELS_NAMED else []
    return ", ".join([counted(len(attacks), "attack"), *shown])


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
            percent(row.stability),
            known(row.stability),
            _between(row.stability_low, row.stability_high),
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
        *(Cell(text, known(value)) for value, text in chain_cells(row)),
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
