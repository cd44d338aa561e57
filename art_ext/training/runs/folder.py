"""Checks of the run folder of ``art-ext train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from art_ext.configuration.options import options_of
from art_ext.models.factory import digest_of_file
from art_ext.storage.differences import check_configuration
from art_ext.storage.locking import check_unlocked, is_main_process
from art_ext.storage.ownership import check_place, is_free
from art_ext.storage.store import LocalStore
from art_ext.storage.training import (
    CONFIGURATION,
    check_origin,
    has_checkpoints,
    read_run,
    recorded_files,
)
from art_ext.training.runs.configuration import Configuration, resolve
from art_ext.training.runs.figures import PGD_STEPS


def check_folder(
    folder: Path, wanted: Configuration, resume: bool, overwrite: bool = False
) -> dict[str, Any] | None:
    """Raise ValueError unless a run may write into a folder.

    Returns:
        The content of ``run.json`` of a finished run, else None.

    Raises:
        ValueError: if the folder is a file or holds other files. Without ``overwrite``, also for a
            run of another configuration (the differences are named). Without ``resume``, also for
            this very run, if it has begun. Always for a folder that another process writes into.
    """
    if resume and overwrite:
        raise ValueError(
            "pass --resume to continue the run of the folder, or --overwrite to start again, not"
            " both"
        )
    store = LocalStore(folder)
    check_place(store, "out must name a folder")
    if is_main_process():
        check_unlocked(folder)
    if is_free(store):
        return None
    try:
        found = resolve({}, folder / CONFIGURATION)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"out must be a new or empty folder, or that of a run of art-ext train, but {folder}"
            " holds other files: choose another folder"
        ) from error
    if overwrite:
        check_origin(store)
        return None
    here, there = (
        {
            name: getattr(one, name)
            for name, (_, about) in options_of(Configuration).items()
            if about.decides == "weights"
        }
        for one in (wanted, found)
    )
    advice = ": choose another folder, or replace that run with --overwrite"
    files = _own_files(wanted)
    recorded = recorded_files(store)
    known = [name for name in files if name in recorded]
    here |= {name: files[name] for name in known}
    there |= {name: recorded[name] for name in known}
    check_configuration(folder, here, there, advice)
    finished = read_run(store)
    if not resume and (finished is not None or has_checkpoints(store)):
        raise ValueError(
            f"{folder} holds this very run: pass --resume to continue it or to show its figures, "
            "or --overwrite to start again"
        )
    return finished


def _own_files(wanted: Configuration) -> dict[str, str]:
    """Return digests of the files of the user's own recipe and network, where there are any."""
    sources = {"recipe_file": wanted.recipe, "model_file": wanted.model}
    places = {name: source.rpartition(":")[0] for name, source in sources.items()}
    return {
        name: digest_of_file(place)
        for name, place in places.items()
        if place.endswith(".py") and Path(place).is_file()
    }


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
