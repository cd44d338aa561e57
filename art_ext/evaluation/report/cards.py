"""The verdict of each model, at the top of the page of a report, and the warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted
from art_ext.evaluation.analysis.blocks import NORMS
from art_ext.evaluation.analysis.coverage import kinds, not_covered
from art_ext.evaluation.analysis.finding import Finding
from art_ext.evaluation.analysis.table import Verdict, Worst, decisive, number
from art_ext.evaluation.analysis.together import describe, notes
from art_ext.evaluation.report.material import Material, Section

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True)
class Card:
    """The facts of one model on the first screen.

    Attributes:
        verdict: its numbers.
        norm: the norm of the radii, in words.
        largest: the worst case at the largest eps.
        others: the worst cases at the other eps.
        attacks: number and kinds of the attacks.
        warnings: the warnings that concern it, or all models.
        infos: number of infos.
        missing: what the run does not cover.
    """

    verdict: Verdict
    norm: str
    largest: Worst
    others: Sequence[Worst]
    attacks: str
    warnings: Sequence[Finding]
    infos: int
    missing: Sequence[str]


def section(material: Material) -> Section:
    """Return the verdict cards, and notes on runs that are not comparable."""
    content = {
        "cards": [_card(one, own, material.findings) for one, own in material.verdicts],
        "decisive": decisive,
        "notes": notes(material.loaded),
        "targeted": any(one.run["settings"]["targeted"] is not None for one in material.loaded),
        "lines": lines(material.loaded),
    }
    return Section("verdict", "", content, folded=False)


def _card(one: LoadedRun, verdict: Verdict, findings: Sequence[Finding]) -> Card:
    *others, largest = verdict.worst
    own = [finding for finding in findings if finding.model in ("", verdict.model)]
    return Card(
        verdict,
        NORMS[one.run["settings"]["norm"]],
        largest,
        others,
        kinds(one.blocks, one.run, verdict.model),
        [finding for finding in own if finding.level == "warning"],
        sum(finding.level == "info" for finding in own),
        not_covered(one.blocks, one.run, verdict.model),
    )


def lines(loaded: Sequence[LoadedRun]) -> list[str]:
    """Return one line on all runs, and a second one on what differs between them."""
    every = [facts(one.run) for one in loaded]
    shared = [text for text in every[0] if all(text in own for own in every)]
    others = [[text for text in own if text not in shared] for own in every]
    told = [
        f"{one.folder.name}: {', '.join(own)}"
        for one, own in zip(loaded, others, strict=True)
        if own
    ]
    return [" · ".join(line) for line in (shared, told) if line]


def facts(run: Mapping[str, Any]) -> list[str]:
    """Return data, settings, date, versions and time of a run in a few words each."""
    versions = run["versions"]
    seconds = run["seconds"]
    return [
        describe(run),
        str(run["started"])[:10],
        *(f"{name} {versions[name]}" for name in ("art-ext", "torch") if name in versions),
        *([] if seconds is None else [f"took {duration(seconds)}"]),
    ]


def duration(seconds: float) -> str:
    """Return a time in words, such as 4.2 s, 3 min and 2 h 5 min."""
    if seconds < 100:
        return f"{number(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def warnings(material: Material) -> Section | None:
    """Return the warnings and infos of all runs."""
    if not material.findings:
        return None
    levels = Counter(finding.level for finding in material.findings)
    names = dict.fromkeys(finding.kind for finding in material.findings)
    told = [counted(levels[level], level) for level in ("warning", "info") if levels[level]]
    content = {"findings": material.findings}
    return Section("warnings", "Warnings", content, f"{', '.join(told)}: {', '.join(names)}")
