"""Lists of specs by name: those of art-ext, of a user's program, and of other packages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from art_ext.core.checks import nearest, same_name
from art_ext.core.plugins import Plugins
from art_ext.core.wording import with_article


class Named(Protocol):
    """The facts about one object, with its name."""

    @property
    def name(self) -> str:
        """Key of the object on the command line, in panels and in records."""
        ...


Spec = TypeVar("Spec", bound=Named)


class Registry(ABC, Generic[Spec]):
    """Specs by name. Names are equal in any case.

    Args:
        group: name of the entry points by which other packages declare such objects.
        kind: word for one object in messages, such as ``"attack"``.
        holder: word in messages for what holds the name of a declared object.

    Attributes:
        plugins: the entry points.
    """

    def __init__(self, group: str, kind: str, holder: str) -> None:
        self.kind = kind
        self.holder = holder
        self.plugins = Plugins(group, kind, self._own_names)
        self._specs: dict[str, Spec] = {}

    @abstractmethod
    def is_built_in(self, spec: Spec) -> bool:
        """Return whether a spec belongs to art-ext."""

    @abstractmethod
    def order(self, spec: Spec) -> tuple[Any, ...]:
        """Return the key by which specs are sorted."""

    @abstractmethod
    def read(self, found: Any, name: str, origin: str) -> Spec:
        """Return the spec of an object that another package declares.

        Args:
            found: the object.
            name: of its entry point.
            origin: words for the object and its package, for messages.

        Raises:
            ValueError: if the object is of another kind.
        """

    def register(self, *specs: Spec) -> None:
        """Add specs to the list.

        Args:
            *specs: they replace specs of the same names, but those of art-ext.

        Raises:
            ValueError: if a name belongs to art-ext, in any case.
        """
        for spec in specs:
            known = same_name(spec.name, self._specs)
            if known is not None:
                if self.is_built_in(self._specs[known]) and not self.is_built_in(spec):
                    raise ValueError(
                        f"art-ext has {with_article(self.kind)} {known!r}: choose another name"
                    )
                del self._specs[known]
            self._specs[spec.name] = spec

    def unregister(self, name: str) -> None:
        """Take the spec of that name from the list."""
        del self._specs[self.get(name).name]

    def get(self, name: str, others: Iterable[str] = ()) -> Spec:
        """Return the spec of that name, in any case.

        Objects that other packages declare as entry points are imported on their first use.

        Args:
            name: of the spec.
            others: what else the caller takes for such a name, for the message.

        Raises:
            ValueError: for an unknown name, with the nearest known one, or an entry point that
                fails.
        """
        known = same_name(name, self._specs)
        if known is not None:
            return self._specs[known]
        declared = self.plugins.names()
        own = same_name(name, declared)
        if own is not None:
            return self.load(own)
        every = [*self.names(), *declared, *others]
        raise ValueError(
            f"{self.kind} must be one of {', '.join(every)}, got {name!r}{nearest(name, every)}"
        )

    def load(self, name: str) -> Spec:
        """Import the object that another package declares, and register its spec.

        Args:
            name: of an entry point, which names a spec of that name, or an object that ``read``
                takes.

        Raises:
            ValueError: if the import fails, finds no such object, or the name is taken.
        """
        found = self.plugins.load(name)
        origin = f"the {self.kind} {name!r} of {self.plugins.origin(name)}"
        spec = self.read(found, name, origin)
        if spec.name != name:
            raise ValueError(
                f"{origin} must have the same name in its {self.holder}, got {spec.name!r}"
            )
        self.register(spec)
        return spec

    def names(self) -> list[str]:
        """Return the names in order, those that need the least of the model first."""
        return [spec.name for spec in self.specs()]

    def specs(self, listed: Iterable[str] | None = None) -> list[Spec]:
        """Return the specs of these names, all of them by default."""
        if listed is None:
            return sorted(self._specs.values(), key=self.order)
        return [self.get(name) for name in listed]

    def _own_names(self) -> list[str]:
        return [spec.name for spec in self._specs.values() if self.is_built_in(spec)]
