"""The folder of an evaluation: layout and ownership.

``run.json`` states the arguments and the units of work, see ``units``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from art_ext.storage.chunks import CHUNKS, is_chunk_file
from art_ext.storage.detectors import DETECTORS
from art_ext.storage.differences import differences
from art_ext.storage.formats import EVALUATION
from art_ext.storage.locking import PATIENCE, lock_of
from art_ext.storage.ownership import (
    LOGS,
    OVERWRITE,
    TRACKERS,
    check_place,
    drop_previous,
    is_free,
    put_aside,
    read_manifest,
    sweep,
    write_json,
)
from art_ext.storage.records import RECORDS
from art_ext.storage.store import Place, store_of
from art_ext.storage.training import TRAINING
from art_ext.storage.units import Units

TOOL = "art-ext"
TRANSFER_TOOL = "art-ext transfer"
RUN = "run.json"
CONFIGURATION = "config.toml"  # of the command, which repeats the run
REPORT = "index.html"
WARNINGS = "warnings.json"
TABLES = ("table.csv", "table.json")
TRANSFER = "transfer.json"  # between the members of ensembles
CURVES = "curves.csv"  # of robust accuracy against the radius
CARD = "card.png"
TRACE_PLOT = "distance_queries.png"  # of runs with a trace
PLOTS = ("robust_accuracy.png", "success_queries.png", "examples.png", TRACE_PLOT)
# of runs with a detector
DETECTION_PLOTS = ("rejection.png", "detection_roc.png", "detection_scores.png")
# of runs on the limits of robustness
LIMITS = "limits.json"
LIMITS_TABLES = ("lipschitz.csv", "robustness.csv", "bounds.csv", "figure.csv")
LIMITS_PLOT = "limits.png"
# whose the folder is: last
OWN = (
    CONFIGURATION,
    DETECTORS,
    RECORDS,
    REPORT,
    WARNINGS,
    TRANSFER,
    *TABLES,
    CURVES,
    CARD,
    *PLOTS,
    *DETECTION_PLOTS,
    LOGS,
    OVERWRITE,
    TRACKERS,
    RUN,
)


def read_run(folder: Place) -> dict[str, Any] | None:
    """Content of a run folder's ``run.json``, or None if the folder is not a run folder.

    Args:
        folder: the run folder, a path or the URL of an object store.
    """
    run = read_manifest(store_of(folder), RUN, TOOL)
    if run is None:
        return None
    settings = run.get("settings")
    if isinstance(settings, dict) and "early_stop" in settings:  # its name in earlier versions
        settings["stop_on_success"] = settings.pop("early_stop")
    return run


def open_run(folder: Place) -> RunFolder:
    """Open an existing run folder, to read or to continue it.

    Raises:
        ValueError: if it is not a run folder, or has another format.
    """
    run = read_run(folder)
    store = store_of(folder)
    if run is None:
        other = " evaluate, but a training" if store.exists(TRAINING) else ""
        if read_manifest(store, RUN, TRANSFER_TOOL) is not None:
            other = f" evaluate, but that of {TRANSFER_TOOL}, which writes its report by itself"
        raise ValueError(f"{store.path} is not a run folder: it holds no {RUN} of art-ext{other}")
    EVALUATION.check(store.path, run)
    return RunFolder(folder, run)


class RunFolder(Units):
    """The folder of one run.

    Several processes may work on the units of one run. Its lock is therefore held only while the
    run is begun and while it is completed.

    Args:
        place: the folder, or the store that stands for it. It need not exist.
        run: the content of ``run.json``, with the plan.
    """

    def __init__(self, place: Place, run: Mapping[str, Any]) -> None:
        super().__init__(store_of(place), run)
        self.place = place

    @property
    def path(self) -> Path:
        """The folder, as messages name it."""
        return self.store.path

    # ---- ownership

    def check(self, overwrite: bool = False) -> bool:
        """Raise ValueError unless the folder is free for this run. No file in it is changed.

        Args:
            overwrite: allow a folder with other files in it. Only files with our names are
                replaced.

        Returns:
            True if it holds the beginning, or all, of this very run.

        Raises:
            ValueError: if the path is not a folder, or if it holds anything but an earlier run of
                the same arguments. The message lists the differences.
        """
        self._check_place()
        if overwrite or is_free(self.store):
            return False
        earlier = read_run(self.store)
        if earlier is None:
            raise ValueError(
                f"out must be a new or empty folder, or a run folder, but {self.path} holds other"
                f" files: choose another folder, or allow it with {OVERWRITE}"
            )
        self._check_format(earlier)
        changed = differences(json.loads(json.dumps(self.run)), earlier)
        if changed:
            raise ValueError(
                f"{self.path} holds another run ({'; '.join(changed)}): "
                f"choose another folder, or replace that run with {OVERWRITE}"
            )
        return True

    def _check_place(self) -> None:
        check_place(self.store, "out must name a folder")

    def _check_format(self, earlier: Mapping[str, Any]) -> None:
        """Raise ValueError unless the run of the folder can be continued by this one.

        A merge of folders of an earlier format makes a folder of that format.
        """
        if EVALUATION.of(earlier) == self.run.get("format", EVALUATION.written):
            return
        if EVALUATION.of(earlier) not in EVALUATION.readable:
            EVALUATION.check(self.path, earlier)
        raise ValueError(
            f"{self.path} holds a run of an earlier version of art-ext: choose another folder, or"
            " replace that run with --overwrite. Only its report can still be made: art-ext report"
            f" {self.path} --out FOLDER"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder, and wait for processes of this run that hold it."""
        with lock_of(self.store, PATIENCE):
            yield

    def begin(self, overwrite: bool = False) -> None:
        """Make the folder and its ``run.json``, or continue an earlier process of this run.

        With overwrite, an earlier run is kept in the hidden folder ``.previous-run`` until this one
        is complete.

        Raises:
            ValueError: as ``check``.
        """
        self._check_place()
        with self.locked():
            if self.check(overwrite):  # another process may just have begun it
                self.run = read_run(self.store) or self.run
                return
            if overwrite:
                self._put_aside()
            self.run = {"tool": TOOL, "format": EVALUATION.written, "state": "running", **self.run}
            # first of all, since it tells other processes of this run that the folder is theirs too
            self._write_run()

    def finish(self, **facts: Any) -> None:
        """Mark the run as complete, add its final facts, and remove the run before it.

        The lock of the folder is held meanwhile.
        """
        self.run = {**self.run, "state": "complete", **facts}
        self._write_run()
        # of processes that were killed while they wrote; the command writes its file at any time
        sweep(self.store, folder=CHUNKS)
        sweep(self.store, [name for name in OWN if name != CONFIGURATION])
        drop_previous(self.store)

    def _write_run(self) -> None:
        write_json(self.store, RUN, self.run)

    def _put_aside(self) -> None:
        """Move an earlier run of ours out of the way. Of two, the complete one is kept."""
        earlier = read_run(self.store)
        units = [f"{CHUNKS}/{name}" for name in self.store.names(CHUNKS) if is_chunk_file(name)]
        if earlier is None:  # files of other origin are replaced one by one, at the end
            for name in units:
                self.store.remove(name)
        else:
            complete = earlier.get("state") == "complete"
            put_aside(self.store, [*units, *OWN], complete=complete)
        if not self.store.names(CHUNKS):
            self.store.remove(CHUNKS)
