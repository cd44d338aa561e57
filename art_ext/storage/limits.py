"""The folder of a run on limits: layout and ownership.

``run.json`` states everything that decides the constants and risks, and is written first. The
attacks have a run folder of their own inside. ``limits.json`` with the results is written last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from art_ext.storage.differences import check_configuration, flat
from art_ext.storage.evaluation import (
    CONFIGURATION,
    LIMITS,
    LIMITS_PLOT,
    LIMITS_TABLES,
    PLOTS,
    REPORT,
    RUN,
    WARNINGS,
)
from art_ext.storage.formats import LIMITS as FORMAT
from art_ext.storage.locking import PATIENCE, lock_of
from art_ext.storage.ownership import (
    OVERWRITE,
    check_place,
    drop_previous,
    is_free,
    put_aside,
    read_json,
    read_manifest,
    sweep,
    write_json,
)
from art_ext.storage.store import LocalStore, store_of

TOOL = "art-ext limits"
ATTACKS = "attacks"  # run folder of the attacks
LIPSCHITZ = "lipschitz"
RISKS = "risks"
SAMPLES = "samples.npz"  # images that the run made itself
OWN = (
    CONFIGURATION,
    ATTACKS,
    LIPSCHITZ,
    RISKS,
    SAMPLES,
    WARNINGS,
    *LIMITS_TABLES,
    LIMITS_PLOT,
    PLOTS[2],
    REPORT,
    LIMITS,
    RUN,
)


class LimitsFolder:
    """The folder of one run on limits.

    Args:
        place: the folder or its URL. It need not exist.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = os.fspath(place)
        self.store = store_of(self.place)

    @property
    def path(self) -> Path:
        """The folder, as messages name it."""
        return self.store.path

    @property
    def home(self) -> str:
        """The folder for other processes, which may be in another one."""
        return str(self.path.absolute()) if isinstance(self.store, LocalStore) else self.place

    @property
    def attacks(self) -> str:
        """Place of the run folder of the attacks."""
        return f"{self.place.rstrip('/')}/{ATTACKS}"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the folder, and wait for processes of this run that hold it."""
        return lock_of(self.store, PATIENCE)

    def check(self, configuration: Mapping[str, Any], overwrite: bool = False) -> bool:
        """Raise ValueError unless the folder is free for this run. No file in it is changed.

        Args:
            configuration: everything that decides constants and risks, in the types of JSON.
            overwrite: allow a folder with other files in it. Only files with our names are
                replaced.

        Returns:
            True if it holds the beginning, or all, of this very run.

        Raises:
            ValueError: if the path is not a folder, or if it holds anything else. The message lists
                the differences.
        """
        check_place(self.store, "out must name a folder")
        if overwrite or is_free(self.store):
            return False
        found = read_manifest(self.store, RUN, TOOL)
        if found is None:
            raise ValueError(
                f"out must be a new or empty folder, or that of a run of {TOOL}, but {self.path}"
                f" holds other files: choose another folder, or allow it with {OVERWRITE}"
            )
        FORMAT.check(self.path, found)
        advice = f": choose another folder, or replace that run with {OVERWRITE}"
        given = json.loads(json.dumps(configuration))
        check_configuration(self.path, flat(given), flat(found["configuration"]), advice)
        return True

    def begin(self, configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        """Write ``run.json`` into the folder, or continue an earlier process of this run.

        With overwrite, an earlier run is kept in ``.previous-run`` until this one is complete.

        Raises:
            ValueError: as ``check``.
        """
        with self.locked():
            if self.check(configuration, overwrite):
                return
            if overwrite:
                complete = self.store.exists(LIMITS)
                put_aside(self.store, OWN, complete=complete)
            content = {"tool": TOOL, "format": FORMAT.written, "configuration": configuration}
            write_json(self.store, RUN, content)

    def is_ours(self) -> bool:
        """Return True if the folder holds a run on limits, complete or not."""
        return read_manifest(self.store, RUN, TOOL) is not None

    def results(self) -> dict[str, Any]:
        """Return the content of ``limits.json``.

        Raises:
            ValueError: if the folder holds no such run, or one that is not complete, is damaged or
                has another format.
        """
        found = read_manifest(self.store, RUN, TOOL)
        if found is None:
            raise ValueError(f"{self.path} is not a run folder: it holds no {RUN} of {TOOL}")
        FORMAT.check(self.path, found)
        if not self.store.exists(LIMITS):
            raise ValueError(
                f"{self.path} holds a run of {TOOL} that is not complete: run the same command"
                " again"
            )
        return read_json(self.store, LIMITS, "hold the results (run the same command again)")

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the content of a unit's file, or None if the unit has not ended.

        Raises:
            ValueError: if it is damaged. The message names it.
        """
        if not self.store.exists(name):
            return None
        return read_json(self.store, name, "hold a unit of the run (remove it to compute it again)")

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write the file of a unit atomically."""
        write_json(self.store, name, content)

    def finish(self) -> None:
        """Remove what killed processes left, and the run before this one."""
        for folder in (LIPSCHITZ, RISKS):
            sweep(self.store, folder=folder)
        sweep(self.store, [name for name in OWN if name != CONFIGURATION])
        drop_previous(self.store)
