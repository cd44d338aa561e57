"""Results that the files and the page of a report share, and the sections of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.analysis import curves, findings
from art_ext.evaluation.analysis.table import Row, Verdict, verdicts
from art_ext.evaluation.analysis.together import models_of, name_apart
from art_ext.evaluation.report import pictures, plots

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        name: of its partial, ``templates/NAME.html.j2``, and of its anchor.
        title: its heading. A section without one stands at the top of the page.
        content: names that the partial uses. All partials share one name space.
        gist: its result in a few words, beside the heading.
        folded: True if the section is closed when the page opens.
    """

    name: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)
    gist: str = ""
    folded: bool = True


class Material:
    """Runs and what is computed from them. Each part is computed once, when it is needed.

    Args:
        loaded: one run, or several to be compared.

    Raises:
        ValueError: if a run is given twice.
    """

    def __init__(self, loaded: Sequence[LoadedRun]) -> None:
        self.loaded = name_apart(loaded)

    @property
    def several(self) -> bool:
        """True for a report on several runs."""
        return len(self.loaded) > 1

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the table, of all runs."""
        return [row for one in self.loaded for row in one.rows]

    @cached_property
    def verdicts(self) -> list[tuple[LoadedRun, Verdict]]:
        """The verdict of each model, and its run."""
        return [(one, own) for one in self.loaded for own in verdicts(one.blocks, one.run)]

    @cached_property
    def findings(self) -> list[findings.Finding]:
        """The warnings of all runs, and then the infos."""
        return findings.in_order(
            findings.Finding.from_plain(plain)
            for one in self.loaded
            for plain in one.run["warnings"]
        )

    @cached_property
    def curves(self) -> list[curves.Curve]:
        """The curves of each model: the worst case, then those of the attacks."""
        return [curve for one in self.loaded for curve in curves.curves(one)]

    @cached_property
    def plots(self) -> list[plots.Plot]:
        """The figures as PNG files."""
        return plots.draw(self.loaded)

    @cached_property
    def pictures(self) -> list[pictures.Sheet]:
        """The samples of each model, with their adversarials."""
        together = sum(len(models_of(one)) for one in self.loaded)
        return [sheet for one in self.loaded for sheet in pictures.sheets(one, together)]
