"""Tables of a transfer run: heat maps of sources and targets, the table of results, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import class_name, counted
from art_ext.evaluation.analysis.table import DIGITS, HEADS, UNKNOWN, number, percent
from art_ext.evaluation.report.comparison import SMALL
from art_ext.evaluation.report.pictures import Picture, are_images, picture_of
from art_ext.evaluation.report.rendering import Cell, Column, Line, interval, known

if TYPE_CHECKING:
    import pandas as pd

    from art_ext.evaluation.analysis.examples import Examples
    from art_ext.evaluation.analysis.transfer import TransferRow

MOST_CLASSES = 20  # of a matrix of classes
IMAGED = 6  # matrices with images


def name_of(row: TransferRow) -> str:
    """Return the name of an attack with its setting."""
    return titled(row.attack, row.setting)


def titled(*names: str) -> str:
    """Return names as a title, without the empty ones."""
    return ", ".join(filter(None, names))


@dataclass(frozen=True)
class Square:
    """One cell of a heat map.

    Attributes:
        level: its share in [0, 1], as text for the style sheet.
        text: its share in percent.
        told: its interval and samples.
        framed: True for a white-box cell, or a class that is its own target.
        member: True for a target that is a member of the source.
        image: shown above the text, if there is one.
    """

    level: str
    text: str
    told: str
    framed: bool = False
    member: bool = False
    image: Picture | None = None


@dataclass(frozen=True)
class Heat:
    """A heat map.

    Attributes:
        title: its heading.
        corner: heading of the column of names.
        columns: names of the columns.
        lines: each line's name, with a cell for each column. None: nothing was measured.
        first: an image of it, from which all have their size. None: it has no images.
    """

    title: str
    corner: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Square | None]]]
    first: Picture | None = None


METRICS = {
    "Strict": "Share of the samples that source and target classify right and whose example is"
    " adversarial on the target.",
    "Authors'": "Share of all samples whose prediction on the target changes, misclassified ones"
    " included (the metric of the HMCAM reference implementation).",
}
TARGETED = {
    "Strict": "Share of the samples that source and target classify right, and not as the target"
    " class, whose example has the target class on the target.",
    "Authors'": "Share of all samples whose example has the target class on the target.",
}


def heat_maps(rows: Sequence[TransferRow], metric: str) -> list[Heat]:
    """Return a map of sources and targets for each attack and setting.

    Args:
        rows: of all of them.
        metric: a name in ``METRICS``.
    """
    places = {(name_of(row), row.source, row.target): row for row in rows}
    names, sources, targets = (list(dict.fromkeys(own)) for own in zip(*places, strict=True))
    return [
        Heat(
            name,
            "made on",
            targets,
            [
                (
                    source,
                    [
                        None if row is None else _square(row, metric)
                        for target in targets
                        for row in [places.get((name, source, target))]
                    ],
                )
                for source in sources
            ],
        )
        for name in names
    ]


def _square(row: TransferRow, metric: str) -> Square:
    share, *ends, total = (
        (row.strict, row.strict_low, row.strict_high, row.counted)
        if metric == "Strict"
        else (row.authors, row.authors_low, row.authors_high, row.samples)
    )
    if not total:
        return Square("0", UNKNOWN, "no sample counts", row.white_box, row.member)
    told = f"{interval(*ends)}, {counted(total, 'sample')}"
    return Square(f"{share:.3f}", f"{100 * share:.1f}", told, row.white_box, row.member)


# ---- the table of results

NOTE = " Below it its Wilson interval at 95 %, and the lowest and highest of seeds that differ."
COLUMNS = (
    Column("Source", "Model or ensemble that the examples were made on.", False),
    Column("Target", "Model that the examples were tried on.", False),
    Column("Attack", "", False),
    Column("Setting", "Radius, and arguments that vary.", False, field="setting"),
    Column("At", "Iterations after which the examples were taken.", field="at"),
    Column(
        "On source",
        "Share of the samples that source and target classify right whose example is adversarial"
        " on the source. Below it the number of these samples.",
    ),
    Column("Strict", METRICS["Strict"] + NOTE),
    Column(
        "Difference",
        "Strict transfer minus that of the baseline on the same samples, in percentage points, with"
        " its paired interval at 95 % below it, and p of McNemar's exact test. With several seeds p"
        " is the largest of them.",
        field="difference",
    ),
    Column("Authors'", METRICS["Authors'"] + NOTE),
    Column(
        "Mean state",
        "Mean share of the states of a chain that succeed on the target.",
        field="num_states",
    ),
    Column(
        "All states",
        "Share of the same samples of which all states succeed on the target.",
        field="num_states",
    ),
    *(
        Column(
            head, f"Mean {head} distance of the examples that succeed on the target.", field=name
        )
        for name, head in HEADS.items()
    ),
    Column("Queries", "Mean number of queries of crafting an example."),
    Column("Gradients", "Mean number of gradients of crafting an example.", field="gradients"),
)
FILTERS = ("source", "target", "attack", "setting", "at")


def results(rows: Sequence[TransferRow]) -> tuple[list[Column], list[Line]]:
    """Return the columns and the lines of the table. Optional columns without a value are left
    out.
    """
    every = [_cells(row) for row in rows]
    shown = [
        number
        for number, column in enumerate(COLUMNS)
        if not column.field or any(cells[number].sort for cells in every)
    ]
    lines = [
        Line(
            [cells[number] for number in shown],
            {name: getattr(row, name) for name in FILTERS},
            marked=row.white_box,
        )
        for row, cells in zip(rows, every, strict=True)
    ]
    return [COLUMNS[number] for number in shown], lines


def _cells(row: TransferRow) -> list[Cell]:
    distances = {name: getattr(row, f"transferred_{name}") for name in DIGITS}
    return [
        *(Cell(name, name.lower()) for name in (row.source, row.target, row.attack)),
        Cell(row.setting, row.setting.lower()),
        Cell(str(row.at or "end"), row.at),
        Cell(percent(row.source_success), known(row.source_success), f"of {row.counted:,}"),
        _share(row, "strict"),
        _difference(row),
        _share(row, "authors"),
        *(
            Cell(percent(one), known(one)) if row.num_states > 1 else Cell(UNKNOWN, None)
            for one in (row.mean_states, row.all_states)
        ),
        *(Cell(number(one, DIGITS[name]), known(one)) for name, one in distances.items()),
        Cell(number(row.queries), known(row.queries)),
        Cell(number(row.gradients), known(row.gradients)),
    ]


def _share(row: TransferRow, metric: str) -> Cell:
    share, *ends, least, most = (
        getattr(row, metric + end) for end in ("", "_low", "_high", "_least", "_most")
    )
    if known(share) is None:
        return Cell(UNKNOWN, None)
    seeds = f", seeds {interval(least, most)}" if most > least else ""
    return Cell(percent(share), share, interval(*ends) + seeds)


def _difference(row: TransferRow) -> Cell:
    low, high = row.difference_low, row.difference_high
    if known(row.difference) is None or low is None or high is None:
        return Cell(UNKNOWN, None)
    note = f"{100 * low:+.1f} to {100 * high:+.1f}{_p(row.p_value)}"
    return Cell(f"{100 * (row.difference or 0.0):+.1f}", row.difference, note)


def _p(value: float | None) -> str:
    if value is None or known(value) is None:
        return ""
    return f", p {value:.3f}" if value >= SMALL else f", p < {SMALL}"


# ---- classes of targeted runs


def class_matrices(
    records: pd.DataFrame, run: Mapping[str, Any], examples: Examples | None = None
) -> list[Heat]:
    """Return the matrix of class and target class of each source, attack and setting.

    Empty for untargeted runs, and for more than 20 classes.

    Args:
        records: one row per source, target, attack, setting, seed and sample.
        run: the facts of the run.
        examples: images that were kept, for the cells.
    """
    goals = records["target_class"]
    records = records[(goals >= 0) & (goals != records["label"]) & (records["at"] == 0)]
    classes = sorted({*records["label"].unique(), *records["target_class"].unique()})
    if not 0 < len(classes) <= MOST_CLASSES:
        return []
    names = {label: class_name(int(label), run["data"]["class_names"]) for label in classes}
    found: list[Heat] = []
    for group, own in records.groupby(["source", "attack", "setting"], sort=False):
        key = tuple(map(str, group))
        counted = own[own["source_prediction"] == own["label"]]
        once = counted.drop_duplicates(["eps", "seed", "index"])
        moved = counted[(counted["target"] != key[0]) & counted["strict"].notna()]
        pairs = ["label", "target_class"]
        white = once.groupby(pairs)["whitebox"].agg(["sum", "count"])
        transfer = moved.groupby(pairs)["strict"].agg(["sum", "count"])
        images = _images(key, once, run, examples if len(found) < IMAGED else None)
        lines = [
            (
                names[label],
                [_pair(names, (label, goal), white, transfer, images) for goal in classes],
            )
            for label in classes
        ]
        title = titled(*key)
        first = next(iter(images.values()), None)
        found.append(Heat(title, "class", list(names.values()), lines, first))
    return found


def _pair(
    names: Mapping[Any, str],
    pair: tuple[Any, Any],
    white: pd.DataFrame,
    transfer: pd.DataFrame,
    images: Mapping[tuple[Any, Any], Picture],
) -> Square | None:
    image = images.get(pair)
    if pair not in white.index:
        return Square("0", "", names[pair[0]], pair[0] == pair[1], image=image) if image else None
    count, total = map(int, white.loc[pair])
    told = f"{names[pair[0]]} to {names[pair[1]]}: {count:,} of {total:,} on the source"
    if pair in transfer.index:
        moved, tried = map(int, transfer.loc[pair])
        told += f", {moved:,} of {tried:,} on other models"
    return Square(f"{count / total:.3f}", f"{100 * count / total:.0f}", told, image=image)


def _images(
    key: tuple[str, ...], records: pd.DataFrame, run: Mapping[str, Any], examples: Examples | None
) -> dict[tuple[Any, Any], Picture]:
    """Return an image of a success for each class and target class, and originals between them."""
    if examples is None or not are_images(run):
        return {}
    kept = examples.found.get((key[0], titled(*key[1:])), {})
    found: dict[tuple[Any, Any], Picture] = {}
    for index, label, goal, success in records[
        ["index", "label", "target_class", "whitebox"]
    ].itertuples(index=False):
        if index in kept and success:
            original = examples.originals[index].numpy()
            found.setdefault((label, label), picture_of(original, run))
            found.setdefault((label, goal), picture_of(kept[index].x.numpy(), run))
    return found
