"""Run folder of ``art-ext train``: ownership checks, and what happens to an earlier run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from art_ext.configuration.options import options_of
from art_ext.training.checkpoints import checkpoints
from art_ext.training.folder import CHECKPOINTS, OURS
from art_ext.training.folder import CONFIGURATION as TRAINING
from art_ext.training.runs.configuration import Configuration, resolve
from art_ext.training.runs.figures import PGD_STEPS

TOOL = "art-ext train"
CONFIGURATION = "config.toml"
RUN = "run.json"
PREVIOUS = ".previous-run"
LOGS = "art_ext"  # of TensorBoard


def check_folder(
    folder: Path, wanted: Configuration, resume: bool, overwrite: bool = False
) -> dict[str, Any] | None:
    """Raise ValueError unless a run may write into a folder.

    Returns:
        The content of ``run.json`` if there is nothing left to do, else None.

    Raises:
        ValueError: if the folder is a file or holds other files. Without ``overwrite``, also for a
            run of another configuration (the differences are named). Without ``resume``, also for
            this very run, if it has begun.
    """
    if resume and overwrite:
        raise ValueError(
            "pass --resume to continue the run of the folder, or --overwrite to start anew, not"
            " both"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must name a folder, got the file {folder}")
    held = [path.name for path in folder.iterdir()] if folder.exists() else []
    leftovers = [
        name
        for name in held
        if name == PREVIOUS or (name.startswith(".") and name.endswith(".tmp"))
    ]
    if leftovers == held:  # of a start that was killed
        return None
    try:
        found = resolve({}, folder / CONFIGURATION)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"out must be a new or empty folder, or that of a run of art-ext train, but {folder}"
            " holds other files: choose another folder"
        ) from error
    if overwrite:
        _check_origin(folder)
        return None
    ours = {
        name: (getattr(found, name), getattr(wanted, name))
        for name, (_, about) in options_of(Configuration).items()
        if about.decides == "weights"
    }
    differ = {name: pair for name, pair in ours.items() if pair[0] != pair[1]}
    if differ:
        listed = "; ".join(
            f"{name}: {there!r} there, {here!r} here" for name, (there, here) in differ.items()
        )
        raise ValueError(
            f"{folder} holds a run of another configuration ({listed}): choose another folder, or"
            " replace that run with --overwrite"
        )
    finished = read_run(folder)
    if not resume and (finished is not None or checkpoints(folder / CHECKPOINTS)):
        raise ValueError(
            f"{folder} holds this very run: pass --resume to continue it or to show its figures, "
            "or --overwrite to start anew"
        )
    # by run.json, not by config.toml, which is written first if other figures are wanted
    return (
        finished
        if finished is not None and finished.get("figures") == figure_settings(wanted)
        else None
    )


def _check_origin(folder: Path) -> None:
    """Raise ValueError if files have our names, but no record of a training of ours is there."""
    strange = [name for name in OURS if (folder / name).exists()]
    try:
        tool = json.loads((folder / TRAINING).read_text(encoding="utf-8")).get("tool")
    except (OSError, ValueError, AttributeError):
        tool = None
    if strange and tool != TOOL:
        raise ValueError(
            f"{folder} holds {', '.join(strange)}, but not of a run of art-ext train: choose"
            " another folder"
        )


def figure_settings(configuration: Configuration) -> dict[str, Any]:
    """Return the settings of the figures, apart from the weights."""
    found = {
        name: getattr(configuration, name)
        for name, (_, about) in options_of(Configuration).items()
        if about.decides == "figures"
    }
    # runs of earlier versions do not record these
    usual = {"pgd_steps": PGD_STEPS, "pgd_step_size": None}
    return {
        name: value for name, value in found.items() if name not in usual or value != usual[name]
    }


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the content of the ``run.json`` of a finished training, or None."""
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) and run.get("tool") == TOOL else None


def put_aside(folder: Path) -> None:
    """Move the run of a folder into the hidden folder ``.previous-run``. Other files stay.

    Of two earlier runs, the complete one is kept.
    """
    # the last two show other processes that the folder is ours
    names = [*(name for name in OURS if name != TRAINING), LOGS, RUN, TRAINING, CONFIGURATION]
    if read_run(folder) is not None:
        drop_previous(folder)
        (folder / PREVIOUS).mkdir()
        for name in names:
            if (folder / name).exists():
                os.replace(folder / name, folder / PREVIOUS / name)
        return
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def drop_previous(folder: Path) -> None:
    """Remove the run that ``put_aside`` kept."""
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)
