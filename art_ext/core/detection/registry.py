"""The list of detectors, and the facts that every host reads about them.

>>> from art_ext.core.detection import registry
>>> registry.get("confidence").rows
1
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from art_ext.core.checks import nearest, same_name
from art_ext.core.detection.base import Detector
from art_ext.core.plugins import Plugins


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


_SPECS: dict[str, DetectorSpec] = {}
PLUGINS = Plugins(
    "art_ext.detectors",
    "detector",
    lambda: [spec.name for spec in _SPECS.values() if is_built_in(spec)],
)


def register(*detectors: DetectorSpec) -> None:
    """Add detectors to the list.

    Args:
        *detectors: the detectors. They replace detectors of the same names, but those of art-ext.

    Raises:
        ValueError: if a name belongs to a detector of art-ext, in any case.
    """
    for spec in detectors:
        known = same_name(spec.name, _SPECS)
        if known is not None and is_built_in(_SPECS[known]) and not is_built_in(spec):
            raise ValueError(f"art-ext has a detector {known!r}: choose another name")
        if known is not None:
            del _SPECS[known]
        _SPECS[spec.name] = spec


def unregister(name: str) -> None:
    """Take a detector from the list."""
    del _SPECS[get(name).name]


def is_built_in(spec: DetectorSpec) -> bool:
    """Return whether a detector belongs to art-ext."""
    return spec.kind.__module__.startswith(f"{__package__}.")


def get(name: str) -> DetectorSpec:
    """Return the detector of that name, in any case.

    Detectors that other packages declare as entry points of the group ``art_ext.detectors`` are
    imported when they are needed.

    Raises:
        ValueError: for an unknown name, with the nearest known one, or an entry point that fails.
    """
    known = same_name(name, _SPECS)
    if known is not None:
        return _SPECS[known]
    declared = PLUGINS.names()
    own = same_name(name, declared)
    if own is not None:
        return load(own)
    every = [*names(), *declared]
    raise ValueError(
        f"detector must be one of {', '.join(every)}, got {name!r}{nearest(name, every)}"
    )


def load(name: str) -> DetectorSpec:
    """Import the detector that another package declares, and register it.

    Args:
        name: of an entry point, which names a subclass of ``Detector`` of that name, or a
            DetectorSpec.

    Raises:
        ValueError: if the import fails, finds no such class, or the name is taken.
    """
    found = PLUGINS.load(name)
    try:
        spec = found if isinstance(found, DetectorSpec) else DetectorSpec(found)
    except ValueError as error:
        raise ValueError(f"the detector {name!r} of {PLUGINS.origin(name)}: {error}") from error
    if spec.name != name:
        raise ValueError(
            f"the detector {name!r} of {PLUGINS.origin(name)} must have the same name in its class,"
            f" got {spec.name!r}"
        )
    register(spec)
    return spec


def names() -> list[str]:
    """Return the names of the detectors, those that need the least of the model first."""
    return sorted(_SPECS, key=lambda name: (_SPECS[name].kind.needs_features, name))


def specs(listed: Iterable[str] | None = None) -> list[DetectorSpec]:
    """Return the detectors of these names, all detectors by default."""
    return [get(name) for name in (names() if listed is None else listed)]


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
