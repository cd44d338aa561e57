"""The command ``art-ext report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli.shared import FailUnder, Figure, explained, judge, parse_fail_under

if TYPE_CHECKING:
    from art_ext.storage.store import Store

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="FOLDER...",
        help="Run folders of art-ext evaluate, or of art-ext train, or one of art-ext limits or"
        " art-ext transfer.",
    ),
]


def report(
    folders: Folders,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the report: new, empty, or of an earlier one. Several runs need it.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Allow a folder with other things in it.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Take the complete chunks, or epochs, of runs that are not complete."
        ),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare the other models with this one. Default: the first model.",
        ),
    ] = None,
    fail_under: FailUnder = None,
    figure: Figure = None,
) -> None:
    """Write the report of a run again, or one report that compares several runs."""
    with explained():
        from art_ext.evaluation.analysis.records import REPORT, load_run
        from art_ext.evaluation.analysis.table import verdicts
        from art_ext.evaluation.analysis.together import name_apart
        from art_ext.evaluation.execution.finish import load_partial
        from art_ext.evaluation.report.card import check_figure, write_figure
        from art_ext.evaluation.report.material import Material
        from art_ext.evaluation.report.page import write_report
        from art_ext.storage.store import store_of

        least = parse_fail_under(fail_under)
        if out is None and len(folders) > 1:
            raise ValueError(f"a report on {len(folders)} runs needs --out FOLDER")
        stores = [store_of(folder) for folder in folders]
        target = stores[0] if out is None else store_of(out)
        picture = None
        if figure is not None:
            picture = check_figure(figure, overwrite=overwrite, made=target)
        if target.path not in [store.path for store in stores]:
            _check(target, overwrite)
        elif len(folders) > 1:
            raise ValueError(f"out must not be one of the runs, got {out}")
        given = {
            "partial": partial,
            "baseline": baseline,
            "fail-under": least is not None,
            "figure": picture,
        }
        if _write_single(folders, target, given) or _write_trainings(stores, target, given):
            return
        load = load_partial if partial else load_run
        loaded = [load(store) for store in stores]
        write_report(target, loaded, baseline=baseline)
        if picture is not None:
            write_figure(Material(loaded), picture)
            typer.echo(f"figure: {picture}")
        for one in loaded:
            if "partial" in one.run:
                typer.echo(f"{one.folder}: {one.run['partial']}", err=True)
        typer.echo(f"report: {target.path / REPORT}")
        judge(
            [verdict for one in name_apart(loaded) for verdict in verdicts(one.blocks, one.run)],
            least,
        )


def _write_single(folders: Sequence[str], target: Store, given: Mapping[str, object]) -> bool:
    """Write the report of a run on limits or of transfers again. False for other runs.

    Raises:
        ValueError: for several runs or for options of evaluations.
    """
    from art_ext.evaluation.execution.transfer.reporting import rewrite_transfer_report
    from art_ext.evaluation.report.limits import rewrite_limits_report
    from art_ext.storage.evaluation import REPORT
    from art_ext.storage.limits import ATTACKS, LimitsFolder
    from art_ext.storage.transfer import TransferFolder

    limits = [folder for folder in map(LimitsFolder, folders) if folder.is_ours()]
    transfers = [folder for folder in map(TransferFolder, folders) if folder.is_ours()]
    if not limits and not transfers:
        return False
    path = (limits[0] if limits else transfers[0]).path
    command = "art-ext limits" if limits else "art-ext transfer"
    if len(folders) > 1:
        raise ValueError(f"{path} is a run of {command}, whose report takes that folder alone")
    advice = f": give the folder of its attacks, {path / ATTACKS}" if limits else ""
    for option in (name for name, value in given.items() if value):
        raise ValueError(
            f"--{option} is for runs of art-ext evaluate, but {path} is one of {command}{advice}"
        )
    if limits:
        rewrite_limits_report(limits[0], target)
    else:
        rewrite_transfer_report(transfers[0], target)
    typer.echo(f"report: {target.path / REPORT}")
    return True


def _write_trainings(stores: Sequence[Store], target: Store, given: Mapping[str, object]) -> bool:
    """Write the report of trainings, and return False for runs of evaluations.

    Raises:
        ValueError: for a mixture of both, or for options of evaluations.
    """
    from art_ext.evaluation.analysis.trainings import load_training
    from art_ext.evaluation.report.trainings import write_training_report
    from art_ext.storage.training import PAGE, is_training

    kinds = {is_training(store): store.path for store in stores}
    if True not in kinds:
        return False
    if len(kinds) > 1:
        raise ValueError(
            f"a report takes runs of one kind: {kinds[True]} is a run of art-ext train, but"
            f" {kinds[False]} is none"
        )
    for option in (name for name, value in given.items() if value and name != "partial"):
        raise ValueError(
            f"--{option} is for runs of art-ext evaluate, but {kinds[True]} is one of art-ext train"
        )
    loaded = [load_training(store, partial=bool(given["partial"])) for store in stores]
    write_training_report(target, loaded)
    for one in loaded:
        if one.run is None:
            typer.echo(f"{one.folder}: {one.state}", err=True)
    typer.echo(f"report: {target.path / PAGE}")
    return True


def _check(out: Store, overwrite: bool) -> None:
    """Raise ValueError unless a folder is free for a report: new, empty, or of an earlier report.

    Raises:
        ValueError: if the folder holds anything else. The message names one entry.
    """
    from art_ext.storage.evaluation import (
        CARD,
        CURVES,
        DETECTION_PLOTS,
        LIMITS,
        LIMITS_PLOT,
        LIMITS_TABLES,
        PLOTS,
        REPORT,
        RUN,
        TABLES,
        WARNINGS,
    )
    from art_ext.storage.ownership import check_place
    from art_ext.storage.training import PLOT
    from art_ext.storage.transfer import FIGURES

    check_place(out, "out must name a folder")
    if overwrite:
        return
    if out.exists(RUN):
        raise ValueError(
            f"out must not be another run's folder, got {out.path}: choose another folder"
        )
    ours = {REPORT, *TABLES, WARNINGS, CARD, CURVES, LIMITS, *LIMITS_TABLES, LIMITS_PLOT, PLOT}
    ours.add(FIGURES)  # of transfers
    stems = tuple(Path(name).stem for name in (*PLOTS, *DETECTION_PLOTS))
    other_files = sorted(
        name
        for name in out.names()
        if name not in ours and not (name.endswith(".png") and name.startswith(stems))
    )
    if other_files:
        raise ValueError(
            f"out must be a new or empty folder, or that of an earlier report, but {out.path} holds"
            f" {other_files[0]}: choose another folder, or allow it with --overwrite"
        )
