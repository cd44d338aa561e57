"""The list of detectors, and the facts that every host reads about them.

>>> from art_ext.core.detection import registry
>>> registry.get("confidence").rows
1
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from art_ext.core.checks import nearest
from art_ext.core.detection.base import Detector
from art_ext.core.registry import Registry


@dataclass(frozen=True)
class DetectorSpec:
    """The facts about one detector. Most of them stand in its class.

    Attributes:
        kind: the class.
        art: name of the class for ART. Empty: ART has none.
        paper: the publication, as ``"Authors. Title. Venue year"``.
        url: address of the publication.
        page: file of the documentation in ``docs/``.

    Raises:
        ValueError: if the class is no detector, has no name, or is not complete.
    """

    kind: type[Detector]
    art: str = ""
    paper: str = ""
    url: str = ""
    page: str = ""

    def __post_init__(self) -> None:
        check_class(self.kind)

    @property
    def name(self) -> str:
        """Key of the detector on the command line, in panels and in records."""
        return self.kind.name

    @property
    def summary(self) -> str:
        """First sentence of the class."""
        return (inspect.getdoc(self.kind) or "A detector without a description.").partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Defaults of the constructor by keyword, ``inspect.Parameter.empty`` where required."""
        found = inspect.signature(self.kind).parameters
        return {name: parameter.default for name, parameter in found.items()}

    @property
    def rows(self) -> int | None:
        """Rows through the model for one row, by default. None if an option has no default."""
        if inspect.Parameter.empty in self.options.values():
            return None
        return self.kind().rows

    @property
    def needs(self) -> str:
        """``"scores"``, or ``"features"`` of a network."""
        return "features" if self.kind.needs_features else "scores"


def check_class(kind: object) -> None:
    """Raise ValueError unless an object is a complete class of detectors with a name."""
    if not isinstance(kind, type) or not issubclass(kind, Detector):
        shown = kind.__name__ if isinstance(kind, type) else repr(kind)
        raise ValueError(f"a detector must be a subclass of Detector, got {shown}")
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"{kind.__name__} must define {', '.join(missing)}")
    if not isinstance(kind.name, str) or not kind.name:
        raise ValueError(f"{kind.__name__} must have a name, as in name = 'my_detector'")


class Detectors(Registry[DetectorSpec]):
    """The detectors."""

    def is_built_in(self, spec: DetectorSpec) -> bool:
        """Return whether a detector belongs to art-ext."""
        return spec.kind.__module__.startswith(f"{__package__}.")

    def order(self, spec: DetectorSpec) -> tuple[bool, str]:
        """Return the key by which detectors are sorted."""
        return spec.kind.needs_features, spec.name

    def read(self, found: Any, name: str, origin: str) -> DetectorSpec:
        """Return the spec of a DetectorSpec, or of a subclass of ``Detector``.

        Raises:
            ValueError: for anything else.
        """
        try:
            return found if isinstance(found, DetectorSpec) else DetectorSpec(found)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error


_DETECTORS = Detectors("art_ext.detectors", "detector", "class")
PLUGINS = _DETECTORS.plugins
register = _DETECTORS.register
unregister = _DETECTORS.unregister
is_built_in = _DETECTORS.is_built_in
get = _DETECTORS.get
load = _DETECTORS.load
names = _DETECTORS.names
specs = _DETECTORS.specs


def make_detector(
    detector: str | type[Detector], arguments: Mapping[str, Any] | None = None
) -> Detector:
    """Return a detector that is not fitted yet.

    Args:
        detector: name, or a subclass of ``Detector``.
        arguments: of its constructor.

    Raises:
        ValueError: for an unknown name or argument, or a value out of range.
    """
    spec = get(detector) if isinstance(detector, str) else DetectorSpec(detector)
    given = dict(arguments or {})
    known = spec.options
    for name in given:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{spec.name} has no argument {name!r}{nearest(name, known)}: {takes}")
    for name, default in known.items():
        if default is inspect.Parameter.empty and name not in given:
            raise ValueError(f"{spec.name} needs the argument {name!r}")
    return spec.kind(**given)
