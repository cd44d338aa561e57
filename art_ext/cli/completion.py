"""Values that the shell completes. Completing imports neither torch nor the registries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from art_ext.configuration import values

# by name of the option or argument
COMPLETED: dict[str, Sequence[str]] = {
    "attack": values.ATTACKS,
    "attacks": values.ATTACKS,
    "panel": values.PANELS,
    "preset": values.PRESETS,
    "recipe": values.RECIPES,
    "data": values.DATA,
    "norm": values.NORMS,
    "model": values.MODELS,
}
Completion = Callable[[str], list[str]]


def completion(name: str, choices: Sequence[str] = ()) -> Completion | None:
    """Return the function that completes an option, None for one without known values.

    Args:
        name: of the option or argument.
        choices: its allowed values, if it has such.
    """
    known = choices or COMPLETED.get(name, ())
    if not known:
        return None

    def complete(incomplete: str) -> list[str]:
        """Complete the last of names that commas separate."""
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{value}" for value in known if value.startswith(last)]

    return complete
