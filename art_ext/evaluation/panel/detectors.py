"""Detectors of an evaluation, by name, with their arguments."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from art_ext.core.checks import nearest, same_name
from art_ext.core.detection import Detector, make_detector
from art_ext.core.detection.saving import read_content
from art_ext.core.oracle import Model
from art_ext.evaluation.panel.attack import Settings
from art_ext.evaluation.panel.user_attacks import is_file
from art_ext.evaluation.panel.user_detectors import detector_digest, find_detector
from art_ext.models.factory import digest_of_file


@dataclass(frozen=True)
class Planned:
    """A detector of a run, before it is fitted to a model.

    Attributes:
        name: name in records and tables.
        source: name of a registered detector, or ``FILE.py:CLASS``. Empty without one.
        arguments: of its class.
        saved: file of a fitted detector. None: it has to be fitted.
        ready: an object of the caller, fitted or not. None: there is none.
        own: class of ``ready``.
    """

    name: str
    source: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    saved: Path | None = None
    ready: Detector | None = field(default=None, compare=False)
    own: type[Detector] | None = None

    @property
    def kind(self) -> type[Detector]:
        """Its class. ``Detector`` for a file, which names it."""
        if self.own is not None:
            return self.own
        return find_detector(self.source).kind if self.source else Detector

    @property
    def rows(self) -> int:
        """Rows through the model for one row."""
        if self.saved is None:
            return self.make().rows
        content = read_content(self.saved)[0]
        return make_detector(
            self.kind if self.source else str(content["name"]), content["settings"]
        ).rows

    @property
    def fits(self) -> bool:
        """True if it has to be fitted."""
        return self.saved is None and (self.ready is None or self.ready.model is None)

    def make(self) -> Detector:
        """Return a detector that is not fitted, or a copy of the caller's."""
        if self.ready is not None:
            return copy.copy(self.ready)
        return make_detector(self.kind, self.arguments)

    def load(self, file: Path, model: Model, settings: Settings) -> Detector:
        """Return the fitted detector of a file.

        Args:
            file: that ``Detector.save`` wrote.
            model: the model that it was fitted to.
            settings: of the evaluation.

        Raises:
            ValueError: if it was fitted to another model.
        """
        return self.kind.load(file, model, **settings.keywords("batch_size", "device"))

    def for_workers(self) -> Planned:
        """Return the plan without what another process cannot load."""
        return replace(self, ready=None)

    def digest(self) -> str:
        """Return a digest of the file that holds the detector. Empty if there is none."""
        if self.saved is not None:
            return digest_of_file(self.saved)
        return detector_digest(self.source)


def plan_detectors(
    detectors: Sequence[str | Detector],
    arguments: Mapping[str, Mapping[str, Any]],
    files: Sequence[str | os.PathLike[str]] = (),
) -> list[Planned]:
    """Return the detectors of a run.

    Args:
        detectors: names of ``art-ext detectors``, ``FILE.py:CLASS``, or objects.
        arguments: by name, arguments of the classes.
        files: of fitted detectors.

    Raises:
        ValueError: for an unknown name or argument, a file that does not exist, or two detectors of
            one name.
    """
    found = _with_classes(
        [_planned(one, arguments) for one in detectors], [_saved(Path(file)) for file in files]
    )
    names = [one.name for one in found]
    for name in arguments:
        if same_name(name, names) is None:
            raise ValueError(
                f"detector-args must name detectors of this run ({', '.join(names) or 'none'}), got"
                f" {name!r}{nearest(name, names)}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"detectors must differ in their names, got {', '.join(names)}")
    return found


def _with_classes(planned: list[Planned], saved: list[Planned]) -> list[Planned]:
    """Return all detectors. A class ``FILE.py:CLASS`` of a saved one's name reads its file."""
    classes = {one.name: one for one in planned if is_file(one.source) and not one.arguments}
    read = {one.name for one in saved} & classes.keys()
    return [
        *(one for one in planned if one.name not in read),
        *(
            replace(one, source=classes[one.name].source) if one.name in read else one
            for one in saved
        ),
    ]


def digests(planned: Sequence[Planned]) -> dict[str, dict[str, str]]:
    """Return the entry of the identity of a run on files that hold detectors. Empty without one."""
    found = {one.name: one.digest() for one in planned if one.digest()}
    return {"detectors": found} if found else {}


def _planned(detector: str | Detector, arguments: Mapping[str, Mapping[str, Any]]) -> Planned:
    if isinstance(detector, Detector):
        return Planned(detector.name, ready=detector, own=type(detector))
    location, _, kind = detector.rpartition(":")
    source = f"{Path(location).resolve()}:{kind}" if is_file(detector) else detector
    name = find_detector(source).name
    planned = Planned(name, source, _arguments_of(name, arguments))
    planned.make()  # wrong arguments raise an error here
    return planned


def _arguments_of(name: str, arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = same_name(name, arguments)
    return dict(arguments[own]) if own is not None else {}


def _saved(file: Path) -> Planned:
    if not file.is_file():
        raise ValueError(f"detector-file must name the file of a fitted detector, got {file}")
    return Planned(str(read_content(file)[0]["name"]), saved=file)
