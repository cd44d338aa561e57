"""What the commands share: options, and errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

CLASS_ORDER = (
    "Order of class folders: numeric (whole numbers by value, the default) or text (as torchvision sorts them)."
)
CLASSES = "File with the class index of each class folder: JSON, CSV folder,index, or one folder a line."

ClassOrder = Annotated[str | None, typer.Option(help=CLASS_ORDER)]
ClassFile = Annotated[str | None, typer.Option(metavar="FILE", help=CLASSES)]
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


def share_of_work(shard: str | None, device: str | None) -> tuple[tuple[int, int] | None, str | None]:
    """What this process works on, (i, n), and where: as ``--shard i/n`` says, or its rank under torchrun.

    Under torchrun, or ``accelerate launch``, the device cuda is the GPU of the local rank.

    Raises:
        ValueError: if shard is not of that form, or given to a process that has a rank.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        if shard is not None:
            raise ValueError("shard must not be given under torchrun: its processes share the work by their ranks")
        local = os.environ.get("LOCAL_RANK")
        return (int(os.environ["RANK"]), world), f"cuda:{local}" if device == "cuda" and local else device
    if shard is None:
        return None, device
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if found is None:
        raise ValueError(f"shard must be i/n, such as 0/4, got {shard!r}")
    return (int(found[1]), int(found[2])), device
