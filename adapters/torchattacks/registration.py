"""Our attacks put into the torchattacks module, on request."""

from __future__ import annotations

from types import TracebackType

import torchattacks

from art_ext.adapters.torchattacks.attacks import ATTACKS


class Registration:
    """Our shells put into the torchattacks module. ``undo()``, or leaving a ``with`` block,
    takes them out again.

    Args:
        names: of the classes that were put in.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def undo(self) -> None:
        """Take out what this registration put in. A second call does nothing."""
        for name in self._names:
            delattr(torchattacks, name)
            torchattacks.__all__.remove(name)
        self._names = []

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def register() -> Registration:
    """Make ``torchattacks.RayS`` and its siblings available in torchattacks itself, until
    ``undo()``.

    Registering twice does nothing the second time.

    Raises:
        RuntimeError: if torchattacks has a different attack of one of these names. Nothing is
            changed then.
    """
    clashes = [
        name for name, shell in ATTACKS.items() if getattr(torchattacks, name, shell) is not shell
    ]
    if clashes:
        raise RuntimeError(
            f"torchattacks {torchattacks.__version__} already has {', '.join(clashes)} of its own"
        )
    added = [name for name in ATTACKS if not hasattr(torchattacks, name)]
    for name in added:
        setattr(torchattacks, name, ATTACKS[name])
        torchattacks.__all__.append(name)
    return Registration(added)
