"""What the commands share: options, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the table.")]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]


@contextmanager
def explained() -> Iterator[None]:
    """Turn bad arguments, bad input and missing extras into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
