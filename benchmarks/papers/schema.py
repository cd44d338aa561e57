"""Published tables and figures in memory: their columns, rows, scales and claims."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.claims import Comparison, parse_claim


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: in claims and rows.
        title: on the page.
        unit: of its numbers.
        measure: that fills it, a key of ``MEASURES``.
        tolerance: largest difference from a published number.
        relative: True if the tolerance is a share of the published number.
        target: model on which transfers are counted. Empty: white-box, on the source.
        source: model on which the examples of a transfer are made. Empty: that of the row.
        value: of a training that fills it, as sweeps name values. Empty: a measure does.
        within: number of queries after which a success does not count. 0: no limit.
        at: iteration of transfers after which a success is counted. 0: the last one.
    """

    name: str
    title: str
    unit: str
    measure: str
    tolerance: float
    relative: bool
    target: str
    source: str
    value: str
    within: int
    at: int

    def allowed(self, published: float) -> float:
        """Return the largest difference from a published number."""
        return self.tolerance * abs(published) if self.relative else self.tolerance


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: in claims.
        title: on the page.
        published: numbers of the paper by the name of the column. Empty: the row is ours.
        at: place along the keys of trends.
        not_run: reason why no scale runs it.
    """

    name: str
    title: str
    published: Mapping[str, float]
    at: Mapping[str, float]
    not_run: str


@dataclass(frozen=True)
class Setting:
    """Attack or training that measures a row.

    Attributes:
        run: name of the run that attacks its samples or trains.
        attack: as ``art-ext evaluate --attack`` takes it. Empty: of trainings.
        arguments: of the attack.
        needs: packages without which the row is left out.
        source: model on which the examples of a transfer are made. Empty: the only one.
        options: of a training, those of its run included.
    """

    run: str
    attack: str
    arguments: Mapping[str, Any]
    needs: tuple[str, ...]
    source: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """Settings that rows of a table share.

    Attributes:
        kind: the command: ``"evaluate"``, ``"transfer"`` or ``"train"``.
        options: of the command.
        seeds: of trainings.
        evaluate: options of ``art-ext evaluate`` on trained weights. Empty: trainings alone.
        attacks: members of the panel that attacks them, as a panel's file has them.
    """

    kind: str
    options: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    attacks: tuple[Mapping[str, Any], ...] = ()

    @property
    def count(self) -> int | None:
        """Number of test samples. None: all."""
        if self.kind != "train":
            return int(self.options.get("n", 1000))
        found: int | None = self.evaluate.get("n", self.options.get("test_n"))
        return found


@dataclass(frozen=True)
class Check:
    """A function that measures rows.

    Attributes:
        function: ``MODULE:NAME`` below ``checks``.
        arguments: of the function.
    """

    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """The settings of a table, small or full.

    Attributes:
        name: ``"small"`` or ``"full"``.
        minutes: expected time on two cores.
        own: True if network and data are the paper's own, or the table is a formula.
        needs: what a machine must have, in words.
        runs: by name.
        digests: SHA-256 of files below ART_EXT_DATA.
        rows: what measures each row of a run.
        check: what measures the other rows. None: there are none.
    """

    name: str
    minutes: float
    own: bool
    needs: str
    runs: Mapping[str, Run]
    digests: Mapping[str, str]
    rows: Mapping[str, Setting]
    check: Check | None


@dataclass(frozen=True)
class Source:
    """A paper.

    Attributes:
        key: in files of tables.
        title: in a few words.
        reference: authors, title, year.
    """

    key: str
    title: str
    reference: str


@dataclass(frozen=True)
class Table:
    """A published table or figure.

    Attributes:
        id: its name.
        source: the paper.
        number: in the paper.
        caption: what it shows, in our words.
        differences: from the paper's setting. Empty: none.
        columns, rows: by name.
        claims: texts.
        scales: settings by name.
        not_run: reason why it has no setting. Empty: it has.
        file: that declares it.
    """

    id: str
    source: Source
    number: str
    caption: str
    differences: str
    columns: Mapping[str, Column]
    rows: Mapping[str, Row]
    claims: tuple[str, ...]
    scales: Mapping[str, Scale]
    not_run: str
    file: Path

    @property
    def title(self) -> str:
        """Paper and number."""
        return f"{self.source.title}, {self.number}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, which results name. Line ends do not count."""
        return hashlib.sha256(self.file.read_text(encoding="utf-8").encode()).hexdigest()

    @cached_property
    def published_digest(self) -> str:
        """SHA-256 of the published rows."""
        numbers = {name: dict(row.published) for name, row in self.rows.items()}
        return hashlib.sha256(repr(numbers).encode()).hexdigest()

    def comparisons(self, claim: str) -> list[Comparison]:
        """Return what a claim of the table compares."""
        return parse_claim(claim, self.columns, {name: row.at for name, row in self.rows.items()})
