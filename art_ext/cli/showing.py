"""Progress and result of an evaluation on the screen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import is_first_process, judge
from art_ext.cli.terminal import fitted_markdown, say

if TYPE_CHECKING:
    from art_ext.data import Samples
    from art_ext.evaluation import Outcome, Watcher
    from art_ext.evaluation.execution.estimate import Estimate
    from art_ext.evaluation.execution.progress import RunState

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}{postfix}]"

KEPT = (
    "model",
    "attack",
    "eps",
    "robust acc.",
    "stability",
    "with rejection",
)  # columns that a narrow terminal shows too


@contextmanager
def watching(
    quiet: bool,
    begun: Callable[[], None] | None = None,
    *,
    dry_run: bool = False,
    brief: bool = False,
    units: str = "constants and risks",
) -> Iterator[Watcher]:
    """Yield the progress observer, silent or with a bar. Warnings are shown either way.

    Of several processes of a launcher, the first one shows the bar.

    Args:
        quiet: no bar.
        begun: function called before the first attack, or after the first chunk of workers. The
            run folder exists then.
        dry_run: the plan of the run is the result, which is printed whatever ``quiet`` says.
        brief: of the plan, only the line on all attacks.
        units: title of the bar of a run that has units besides those of attacks.
    """
    from art_ext.cli.progress import Line
    from art_ext.core.wording import counted
    from art_ext.evaluation import Watcher

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")

    class Begun(Watcher):
        """Calls ``begun`` once."""

        waiting = [] if begun is None else [begun]

        def service(self, model: str, rows: int | None, cost: float | None) -> None:
            if rows is None or cost is None:
                say(f"{model}: an attack has no bound on the rows that it sends", err=True)
                return
            paid = f", cost at most {cost:.6g}" if cost else ""
            say(f"{model}: at most {rows:,} rows to send{paid}, but for retries", err=True)

        def planned(self, estimate: Estimate) -> None:
            if dry_run:
                for line in estimate.lines():
                    say(line)

        def start(self, model: str, attack: str, eps: float, samples: int) -> None:
            self.begin()

        def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
            self.begin()

        def begin(self) -> None:
            while self.waiting:
                self.waiting.pop()()

    if quiet:
        yield Begun()
        return
    from tqdm import tqdm

    first = is_first_process()

    class Bar(Begun):
        """A line per clean accuracy, the plan, and one bar for the whole run."""

        line: Line | None = None
        steps: tqdm[Any] | None = None  # of the units of a run on limits, or of transfers

        def training(self, model: str, samples: int) -> None:
            say(f"{model}: training on {counted(samples, 'sample')}", err=True)

        def clean(self, model: str, accuracy: float) -> None:
            say(f"{model}: clean accuracy {100 * accuracy:.1f} %")

        def note(self, text: str) -> None:
            if first:
                typer.echo(text, err=True)

        def planned(self, estimate: Estimate) -> None:
            super().planned(estimate)
            if first and not dry_run:
                for line in estimate.lines()[-1 if brief else 0 :]:
                    say(line, err=True)
                self.line = Line()

        def run(self, state: RunState) -> None:
            if self.line is not None:
                self.line.show(state)

        def units(self, done: int, total: int) -> None:
            if self.steps is None:
                self.close()
                self.steps = tqdm(total=total, desc=units, bar_format=BAR)
            self.steps.update(done - self.steps.n)

        def close(self) -> None:
            for one in (self.line, self.steps):
                if one is not None:
                    one.close()
            self.line = None

    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


def note_reading(watcher: Watcher, samples: Samples, wanted: str | int, default: str | int) -> None:
    """Say in a line how samples were read, and in another one that there are fewer than wanted.

    Args:
        watcher: that is told.
        samples: of the run.
        wanted: number of samples that was given, or all.
        default: of the option. There is no note on it.
    """
    if note := getattr(samples, "note", ""):
        watcher.note(note)
    if wanted not in (default, "all", len(samples)):
        watcher.note(f"n {wanted}: {samples.name} holds {len(samples):,}, and all are taken")


def show(outcome: Outcome, quiet: bool, least: float | None = None) -> None:
    """Print the result of an evaluation. Exit with 1 if it is below ``--fail-under``."""
    from art_ext.core.wording import counted
    from art_ext.evaluation.analysis.table import to_text
    from art_ext.evaluation.analysis.verdict import lines

    if outcome.missing:
        verb = "is" if outcome.missing == 1 else "are"
        typer.echo(
            f"{outcome.folder}: {counted(outcome.missing, 'unit')} of the work {verb} missing, so"
            " there is no report yet. A unit is one attack on one model over one chunk of the"
            " samples"
        )
        if least is not None:
            typer.echo("fail-under: not judged while parts of the work are missing", err=True)
        return
    typer.echo(fitted_markdown(to_text(outcome.rows), KEPT))
    for sentence in lines(outcome.verdicts):
        say(sentence)
    for model, mean in outcome.transfer.items():
        share = "unknown" if mean is None else f"{100 * mean:.1f} %"
        say(f"transfer between members of {model}: {share}, mean off the diagonal")
    for finding in outcome.warnings:
        if finding.level == "warning" or not quiet:
            say(finding.line, err=True)
    if not quiet:
        say(f"report: {outcome.folder / 'index.html'}")
    judge(outcome.verdicts, least)
