"""Trackers of one run, which go on where an earlier process of the run stopped."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from art_ext.core.checks import check_choice, nearest
from art_ext.errors import describe
from art_ext.storage.differences import flat
from art_ext.storage.ownership import TRACKERS, write_json
from art_ext.storage.store import Place, Store, store_of
from art_ext.tracking.backends import BACKENDS, PROJECT, Values

logger = logging.getLogger("art_ext")
# variables by which Accelerate finds that a process is one of several
_LAUNCH = re.compile(r"((LOCAL_)?(RANK|WORLD_SIZE)$)|PMI_|OMPI_COMM_WORLD_|MV2_COMM_WORLD_")


def key(*parts: str | float) -> str:
    """Return the name of a value from its parts, in letters that every tracker takes.

    A number among the parts is a radius.

    Args:
        *parts: texts and radii, joined by ``/``.
    """
    texts = [part if isinstance(part, str) else f"eps_{part:.6g}" for part in parts]
    return re.sub(r"[^\w\-./]", "_", "/".join(texts))


def scalars(configuration: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Return a nested configuration as plain scalars by dotted names, as trackers take it.

    Lists are written as text, and None as "none".
    """

    def scalar(value: Any) -> int | float | str:
        if isinstance(value, (int, float, str)):
            return value
        return "none" if value is None else str(value)

    return {key(name): scalar(value) for name, value in flat(configuration).items()}


def check_trackers(
    names: Sequence[str], arguments: Mapping[str, Mapping[str, Any]], place: Place | None = None
) -> None:
    """Raise an error for trackers that a run cannot have.

    Args:
        names: of the trackers.
        arguments: by tracker, arguments of its start.
        place: the run folder. None checks names only, without importing a tracker.

    Raises:
        ValueError: for unknown names or arguments, or a store of MLflow that cannot be opened.
        ImportError: for a package that is not installed. The message has the command.
    """
    if isinstance(names, str):
        raise ValueError(f"trackers must be a list of names such as ['wandb'], got {names!r}")
    for name in names:
        check_choice("tracker", name, tuple(BACKENDS))
    for name in arguments:
        if not name:
            raise ValueError("tracker-args must be name.key=value, such as wandb.project=NAME")
        check_choice("tracker of tracker_args", name, tuple(BACKENDS))
        if name not in names:
            raise ValueError(f"tracker_args of {name} need the tracker: --tracker {name}")
    if place is None:
        return
    for name in names:
        _check_installed(name)
        _check_arguments(name, arguments.get(name, {}))
        BACKENDS[name].check(store_of(place))


class Trackers:
    """Trackers of one run. Without names, every method does nothing.

    A tracker that fails after its start is left out of the rest of the run, with one warning.

    Args:
        names: ``"tensorboard"``, ``"wandb"`` and ``"mlflow"``, or some of them.
        arguments: by tracker, arguments of its start.
        place: the run folder.
        driver: False in a process that must not log.
        facts: of the run, nested, that its configuration does not state.

    Raises:
        ValueError, ImportError: as ``check_trackers``.
    """

    def __init__(
        self,
        names: Sequence[str],
        arguments: Mapping[str, Mapping[str, Any]] | None,
        place: Place | None,
        driver: bool = True,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        check_trackers(names, arguments or {}, place if driver else None)
        self._arguments = {name: dict((arguments or {}).get(name, {})) for name in names}
        self._store = None if place is None else store_of(place)
        self._names = tuple(self._arguments) if driver and place is not None else ()
        self._facts = dict(facts or {})
        self._started: dict[str, Any] = {}
        self._active: list[str] = []

    def __bool__(self) -> bool:
        """Return True if there is any."""
        return bool(self._names)

    @property
    def concluded(self) -> bool:
        """True if every tracker has got the final values and files of the run."""
        state = _read(self._store)
        return all(state.get(name, {}).get("concluded") for name in self._names)

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Start the trackers, or go on with their runs.

        Args:
            configuration: of the run, nested, in the types of JSON.

        Raises:
            ValueError: if one does not start.
        """
        if not self._names or self._started or self._store is None:
            return
        self._state = _read(self._store)
        facts = {**self._facts, **configuration}
        for name in self._names:
            state = self._state.setdefault(name, {"run": None, "step": -1})
            known = "started" in state and not BACKENDS[name].restates
            try:
                with _alone():
                    self._started[name] = self._start(name, self._store, None if known else facts)
            except Exception as error:  # each package raises errors of its own
                self.close()
                raise ValueError(f"the tracker {name} does not start: {describe(error)}") from error
            self._active.append(name)
            state.update(run=BACKENDS[name].run_of(self._started[name]), started=True)
            self._write()

    def log(self, values: Values, step: int) -> None:
        """Log numbers at a step, unless a step as late was logged before."""
        due = [name for name in self._active if step > self._state[name]["step"]]
        if not due:
            return
        for name in due:
            self._state[name]["step"] = step
        with self._guarded(*due):  # written first: a killed process may lose a step, not repeat it
            self._write()
        for name in [name for name in due if name in self._active]:
            with self._guarded(name):
                BACKENDS[name].log(self._started[name], values, step)

    def conclude(self, values: Values, files: Sequence[str], step: int) -> None:
        """Log the final values, and keep files of the run folder with the trackers' runs.

        Values of the same names are logged once, even by a continued run.
        """
        if not self._active or self._store is None:
            return
        names = sha256("\n".join(sorted(values)).encode()).hexdigest()[:16]
        due = [name for name in self._active if self._state[name].get("final") != names]
        for name in due:
            self._state[name]["final"] = names
        with self._guarded(*due):
            self._write()
        for name in [name for name in due if name in self._active]:
            with self._guarded(name):
                BACKENDS[name].conclude(self._started[name], values, step)
        with self._guarded(*self._active), TemporaryDirectory() as temporary:
            kept = [Path(temporary) / name for name in files if self._store.exists(name)]
            for file in kept:
                file.write_bytes(self._store.read(file.name))
            for name in list(self._active):
                with self._guarded(name):
                    BACKENDS[name].attach(self._started[name], kept, step)
                    self._state[name]["concluded"] = True
            self._write()

    def close(self) -> None:
        """Let the trackers finish."""
        for name, tracker in self._started.items():
            with self._guarded(name):
                tracker.finish()
        self._started = {}
        self._active = []

    def _start(self, name: str, store: Store, facts: Mapping[str, Any] | None) -> Any:
        """Start a tracker with facts of the run, or go on with its run without any."""
        from accelerate import Accelerator

        run = self._state[name]["run"]
        tracker = BACKENDS[name].make(store, dict(self._arguments[name]), run)
        tracker.main_process_only = False  # only the driver has trackers
        accelerator = Accelerator(cpu=True, log_with=tracker)
        accelerator.init_trackers(PROJECT, config=None if facts is None else scalars(facts))
        return tracker

    def _write(self) -> None:
        if self._store is not None:
            write_json(self._store, TRACKERS, self._state)

    @contextmanager
    def _guarded(self, *names: str) -> Iterator[None]:
        """Turn an error of trackers into one warning, and leave them out from then on."""
        try:
            with _alone():
                yield
        except Exception as error:  # each package raises errors of its own
            failed = [name for name in names if name in self._active]
            self._active = [name for name in self._active if name not in failed]
            if failed:
                logger.warning(
                    "the tracker %s fails and gets no more values: %s",
                    ", ".join(failed),
                    describe(error),
                )


def _read(store: Store | None) -> dict[str, Any]:
    """Return the state of the trackers of a run folder. A damaged one counts as none."""
    try:
        found = json.loads(store.read(TRACKERS)) if store is not None else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_installed(name: str) -> None:
    """Raise ImportError unless the packages of a tracker are installed."""
    if find_spec("accelerate") is None:
        raise ImportError("trackers need the extra `train`: pip install 'art-ext[train]'")
    # trackers leave folders of their names, which Python takes for packages without files
    specs = [find_spec(module) for module in BACKENDS[name].modules]
    if not any(spec is not None and spec.origin is not None for spec in specs):
        raise ImportError(
            f"the tracker {name} needs {BACKENDS[name].modules[0]}, which is not installed:"
            f" {BACKENDS[name].install}"
        )


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument that a tracker does not take."""
    known = inspect.signature(BACKENDS[name].starter()).parameters
    for argument in arguments:
        if argument not in known:
            raise ValueError(
                f"{name} has no argument {argument!r}{nearest(argument, known)}: choose from"
                f" {', '.join(known)}"
            )


@contextmanager
def _alone() -> Iterator[None]:
    """Give Accelerate a state of this process alone, whose trackers need one, for a block.

    The state of a run that trains is restored afterwards. The variables of torchrun are hidden,
    because Accelerate would wait for the other processes.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState

    memories = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(memory) for memory in memories]
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _LAUNCH.match(name)}
    try:
        for memory in memories:
            memory.clear()
        PartialState(cpu=True)
        yield
    finally:
        os.environ.update(hidden)
        for memory, content in zip(memories, before, strict=True):
            memory.clear()
            memory.update(content)
