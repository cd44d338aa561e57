"""Options that several commands use, and errors in one line."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.configuration.parsing import parse_share
from art_ext.errors import describe, is_plain

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.table import Verdict

CLASS_ORDER = (
    "Order of class folders: numeric (whole numbers by value, the default) or text (as torchvision"
    " sorts them)."
)
CLASSES = (
    "File with the class index of each class folder: JSON, CSV folder,index, or one folder a line."
)

ClassOrder = Annotated[str | None, typer.Option(help=CLASS_ORDER)]
ClassFile = Annotated[str | None, typer.Option(metavar="FILE", help=CLASSES)]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print results and warnings only: no progress, no infos.")
]
FailUnder = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help=(
            "Exit with 1 if the worst case at the largest eps is below this share (0.5) or"
            " percentage (50%)."
        ),
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]


def parse_fail_under(text: str | None) -> float | None:
    """Parse the value of ``--fail-under``, if it was given.

    Raises:
        ValueError: if the value is not a fraction or a percentage.
    """
    return None if text is None else parse_share("fail-under", text)


def judge(found: Sequence[Verdict], least: float | None) -> None:
    """Exit with 1 if the worst case of a model is below ``--fail-under``, and say so on stderr."""
    from art_ext.evaluation.analysis.verdict import below

    failed = [] if least is None else below(found, least)
    for sentence in failed:
        typer.echo(f"fail-under: {sentence}", err=True)
    if failed:
        raise typer.Exit(1)


@contextmanager
def explained(go_on: str = "run the same command again") -> Iterator[None]:
    """Print an exception that ends a command as one line on stderr.

    Errors end with exit code 2, Ctrl-C with 130. With ART_EXT_TRACEBACK=1 in the environment, the
    traceback is printed too.

    Args:
        go_on: instruction to continue after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted: to go on, {go_on}", err=True)
        raise typer.Exit(130) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        # the model, the factory and the data are the user's: anything may come out of them
        shown = os.environ.get("ART_EXT_TRACEBACK") == "1"
        if shown:
            traceback.print_exception(error)
        # an OSError of Python itself names the file, and says enough
        plain = is_plain(error) or isinstance(error, (ImportError, OSError))
        message = " ".join(str(error).split()) if plain else describe(error)
        hint = "" if plain or shown else " (ART_EXT_TRACEBACK=1 shows where)"
        typer.echo(f"error: {message}{hint}", err=True)
        raise typer.Exit(2) from error


def shard_and_device(
    shard: str | None, device: str | None
) -> tuple[tuple[int, int] | None, str | None]:
    """Return the shard (i, n) of this process, and its device.

    The shard is ``--shard i/n``, or rank and world size under torchrun. Under torchrun, or
    ``accelerate launch``, the device cuda is the GPU of the local rank.

    Raises:
        ValueError: if shard does not have that form, or is given under torchrun.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        if shard is not None:
            raise ValueError(
                "shard must not be given under torchrun: each process takes its shard from its rank"
            )
        local = os.environ.get("LOCAL_RANK")
        return (int(os.environ["RANK"]), world), (
            f"cuda:{local}" if device == "cuda" and local else device
        )
    if shard is None:
        return None, device
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if found is None:
        raise ValueError(f"shard must be i/n, such as 0/4, got {shard!r}")
    return (int(found[1]), int(found[2])), device
