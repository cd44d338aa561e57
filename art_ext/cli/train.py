"""The command ``art-ext train``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import typer

from art_ext.cli.shared import explained, given_values, with_options
from art_ext.cli.terminal import fitted_markdown
from art_ext.configuration.training import TrainingConfig


@with_options(TrainingConfig)
def train(context: typer.Context, **options: Any) -> None:
    """Train a robust network by the method of a paper, and measure it."""
    out = options["out"]
    config = options["config"]
    resume = options["resume"]
    given = given_values(context, TrainingConfig)
    with explained(f"run the same command with --resume: checkpoints lie in {out}"):
        from art_ext.core.wording import counted, radius
        from art_ext.storage.locking import is_main_process
        from art_ext.storage.store import local_folder
        from art_ext.storage.training import CONFIGURATION, TRAINING
        from art_ext.training.runs import resolve, run_training
        from art_ext.training.runs.figures import pgd_title, to_text

        folder = local_folder(out, "train")
        complete = "data" in given and ("preset" in given or "recipe" in given)
        if config is None and not complete:
            if resume and not (folder / CONFIGURATION).is_file():
                raise ValueError(
                    f"{out} holds no run to resume. A new run needs --recipe or --preset, and"
                    " --data"
                )
            if resume:
                config = folder / CONFIGURATION  # no option needs to be repeated
            elif (folder / TRAINING).is_file() and not options["overwrite"]:
                raise ValueError(
                    f"{out} holds a run: pass --resume to continue it or to show its figures. A new"
                    " run needs another folder, --recipe or --preset, and --data"
                )
        main = is_main_process()
        tells = main and not options["quiet"]
        _configure_logging(main, tells)
        run = run_training(
            resolve(given, config),
            folder,
            resume=resume,
            overwrite=options["overwrite"],
            progress=tells,
            say=_say if tells else None,
        )
        if run is None:  # not the main process
            return
        _write_report(folder)
        # every terminal shows the first and the accuracies
        keep = ("weights", "clean acc.", pgd_title(run))
        typer.echo(fitted_markdown(to_text(run), keep))
        for warning in run.get("warnings", ()):
            typer.echo(f"warning: {warning['message']}", err=True)
        if tells:
            samples = counted(run["test_samples"], "test sample")
            typer.echo(f"{samples}, {run['norm']} {radius(run['eps'])}; run: {out}")


def _write_report(folder: Path) -> None:
    """Write the page of a training. A line on stderr says why there is none."""
    from art_ext.evaluation.report.trainings import require_page, rewrite_training_report
    from art_ext.storage.training import PAGE

    try:
        require_page()
        rewrite_training_report(folder)
    except (ImportError, ValueError) as error:  # the figures are complete without it
        _say(f"{PAGE} is not written: {error}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _configure_logging(main: bool, tells: bool) -> None:
    """Show warnings in the main process, and messages of the training loop unless quiet."""
    logging.basicConfig(
        level=logging.WARNING if main else logging.ERROR, format="%(levelname)s: %(message)s"
    )
    if tells:
        logging.getLogger("art_ext").setLevel(logging.INFO)
