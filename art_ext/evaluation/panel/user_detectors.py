"""Detectors by name or ``FILE.py:CLASS``."""

from __future__ import annotations

from art_ext.core.detection import registry
from art_ext.core.detection.base import Detector
from art_ext.core.detection.registry import DetectorSpec
from art_ext.evaluation.panel.user_attacks import is_file
from art_ext.models.factory import digest_of_file, resolve_object

# by source and digest of its file: a file that has not changed is not run again
_LOADED: dict[tuple[str, str], DetectorSpec] = {}


def find_detector(name: str) -> DetectorSpec:
    """Return the detector of a name, or the one that a Python file holds.

    Args:
        name: of a detector in the list, or ``FILE.py:CLASS``, a subclass of ``Detector``.

    Raises:
        ValueError: for an unknown name, a file that is missing or fails, or one that holds no such
            class.
    """
    return load_detector_class(name) if is_file(name) else registry.get(name)


def load_detector_class(source: str) -> DetectorSpec:
    """Run a Python file, and register the detector that it holds.

    A file that has not changed is not run again.

    Args:
        source: ``FILE.py:CLASS``.

    Raises:
        ValueError: if the file is missing or fails, holds no such class, or if a detector of
            art-ext has the same name.
    """
    key = (source, detector_digest(source))
    if key not in _LOADED:
        with resolve_object(source, "detector", "CLASS", _is_own_detector) as found:
            try:
                spec = found if isinstance(found, DetectorSpec) else DetectorSpec(found)
            except ValueError as error:
                raise ValueError(f"the detector {source!r}: {error}") from error
        _LOADED[key] = spec
    registry.register(_LOADED[key])
    return _LOADED[key]


def detector_digest(source: str) -> str:
    """Return a digest of the file of a detector ``FILE.py:CLASS``. Empty for a name."""
    location = source.rpartition(":")[0]
    try:
        return digest_of_file(location) if location else ""
    except OSError:  # the message about a missing file comes later
        return ""


def _is_own_detector(value: object) -> bool:
    """Return True for a class of detectors that a file of a user holds."""
    return (
        isinstance(value, type)
        and issubclass(value, Detector)
        and not value.__module__.startswith("art_ext.")
    )
