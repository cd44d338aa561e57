"""Numbers and nouns in messages and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as 1 sample and 1,000 samples."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_article(noun: str) -> str:
    """Return a noun with its article, such as a model and an attack."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def radius(eps: float) -> str:
    """Return a radius as text: 8/255 for a whole number of grey levels, a decimal otherwise."""
    levels = round(eps * 255)
    short = f"{eps:.3g}"
    if float(short) != eps and math.isclose(levels / 255, eps, rel_tol=1e-9):
        return f"{levels}/255"
    return short if float(short) == eps else f"{eps:.4g}"


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Name of a class, or its number if it has no name."""
    return names[label] if names and 0 <= label < len(names) else str(label)
