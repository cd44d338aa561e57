"""Results that the files and the page of a report share, and the sections of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.analysis import findings
from art_ext.evaluation.analysis.baseline import find_baseline
from art_ext.evaluation.analysis.curves import Curve, curves
from art_ext.evaluation.analysis.table import Row, Verdict, verdicts
from art_ext.evaluation.analysis.together import comparable, describe, name_apart
from art_ext.evaluation.report import charts, detection, plots, traces
from art_ext.evaluation.report.gallery import Gallery, galleries

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
        baseline: name of the model with which the others are compared, as the page shows it. None:
            the first one.

    Raises:
        ValueError: if a run is given twice, or no model has the name of the baseline.
    """

    def __init__(self, loaded: Sequence[LoadedRun], baseline: str | None = None) -> None:
        self.loaded = name_apart(loaded)
        self.baseline = find_baseline(self.loaded, baseline)[1]

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
    def groups(self) -> list[list[tuple[LoadedRun, list[Curve]]]]:
        """Comparable runs, each with its curves of robust accuracy."""
        return [[(one, curves(one)) for one in group] for group in comparable(self.loaded)]

    @property
    def curves(self) -> list[Curve]:
        """All curves of robust accuracy."""
        return [curve for group in self.groups for _, own in group for curve in own]

    @cached_property
    def robust_charts(self) -> list[charts.Chart]:
        """The figure of robust accuracy of each group."""
        return [charts.robust_chart(group, self._named(group)) for group in self.groups]

    @cached_property
    def query_charts(self) -> list[list[charts.Chart]]:
        """The figures of success against queries of each group."""
        return [charts.query_charts(group, self._named(group)) for group in self.groups]

    @cached_property
    def trace_charts(self) -> list[list[charts.Chart]]:
        """The figures of searches with a trace of each group."""
        return [traces.trace_charts(group, self._named(group)) for group in self.groups]

    @cached_property
    def detection_charts(self) -> list[list[list[charts.Chart]]]:
        """The figures on detectors of each group, one list for each file."""
        return [detection.detection_charts(group, self._named(group)) for group in self.groups]

    def _named(self, group: charts.Group) -> str:
        """Return what tells a group from others in the titles of its figures."""
        return f": {describe(group[0][0].run)}" if len(self.groups) > 1 else ""

    @cached_property
    def plots(self) -> list[plots.Plot]:
        """The figures as PNG files."""
        return plots.draw(self)

    @cached_property
    def galleries(self) -> list[Gallery]:
        """The samples of each model, with their adversarials."""
        return galleries(self.loaded)
