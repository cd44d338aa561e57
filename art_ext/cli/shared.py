"""Options of the commands, derived from configuration classes, and errors in one line."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from art_ext.cli.completion import completion
from art_ext.cli.terminal import say
from art_ext.configuration import shared
from art_ext.configuration.options import Option, default_of, kind_of, options_of
from art_ext.configuration.parsing import parse_share
from art_ext.errors import describe, is_plain

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.table import Verdict

Command = TypeVar("Command", bound=Callable[..., None])
# of values that are written as they are; everything else is text that is parsed later
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "Path": Path,
    "Texts": list[str],  # an option that may be given several times
}


def shown(about: Option) -> Any:
    """Return Typer's option for a shared one."""
    return typer.Option(help=about.help, metavar=about.metavar)


ClassOrder = Annotated[str | None, shown(shared.CLASS_ORDER)]
ClassFile = Annotated[str | None, shown(shared.CLASSES)]
ModelArgs = Annotated[str, shown(shared.MODEL_ARGS)]
Weights = Annotated[Path | None, shown(shared.WEIGHTS)]
Normalize = Annotated[str | None, shown(shared.NORMALIZE)]
Checkpoint = Annotated[str, shown(shared.CHECKPOINT)]
TrustCheckpoint = Annotated[
    bool, typer.Option("--trust-checkpoint", help=shared.TRUST_CHECKPOINT.help)
]
Device = Annotated[str | None, shown(shared.DEVICE)]
Quiet = Annotated[bool, typer.Option("--quiet", help=shared.QUIET.help)]
FailUnder = Annotated[str | None, shown(shared.FAIL_UNDER)]
Figure = Annotated[Path | None, shown(shared.FIGURE)]
Seed = Annotated[int, shown(shared.SEED)]


def with_options(config: type) -> Callable[[Command], Command]:
    """Decorate a command so that it takes the options of a configuration class.

    The command is a function of ``context: typer.Context`` and ``**options``.
    """

    def decorate(command: Command) -> Command:
        context = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        own = [
            _parameter(name, one, about) for name, (one, about) in options_of(config, "cli").items()
        ]
        # Typer reads both
        vars(command)["__signature__"] = inspect.Signature([context, *own])
        command.__annotations__ = {one.name: one.annotation for one in (context, *own)}
        return command

    return decorate


def given_values(context: typer.Context, config: type) -> dict[str, Any]:
    """Return the values on the command line of the options that a file may hold too."""
    return {
        name: value
        for name, value in context.params.items()
        if name in options_of(config, "toml") and _is_given(context, name)
    }


def command_values(options: Mapping[str, Any], config: type) -> dict[str, Any]:
    """Return the values of the options that only the command line has."""
    files = options_of(config, "toml")
    return {name: options[name] for name in options_of(config, "cli") if name not in files}


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _parameter(name: str, one: Field[Any], about: Option) -> inspect.Parameter:
    """Return the parameter of a command for an option."""
    kind = TYPES.get(kind_of(one), str)
    if kind is float and about.unit:
        kind = str  # a fraction such as 8/255
    default = _default(one, about)
    needed = default is MISSING and about.hosts == ("cli",)
    flag = about.flag or f"--{name.replace('_', '-')}"
    # a file may switch something on, which the command line must be able to switch off
    both = kind is bool and "toml" in about.hosts
    info = typer.Option(
        ... if needed else None if default is MISSING else default,
        f"{flag}/--no-{flag[2:]}" if both else flag,
        help=f"{about.help} ({about.range})" if about.range else about.help,
        metavar=about.metavar,
        rich_help_panel=about.panel,
        autocompletion=completion(name, about.choices),
    )
    annotation: Any = kind if needed or default not in (None, MISSING) else kind | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=annotation
    )


def _default(one: Field[Any], about: Option) -> Any:
    """Return the default that the help shows."""
    default = default_of(one)
    if about.by_data or isinstance(default, Mapping):
        return None
    if default is not MISSING and about.shown:
        return about.shown
    return about.off if about.off is not None else default


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
        say(f"fail-under: {sentence}", err=True)
    if failed:
        raise typer.Exit(1)


@contextmanager
def interruptible(go_on: str = "run the same command again") -> Iterator[None]:
    """End a command with exit code 130 and one line on stderr after Ctrl-C.

    Args:
        go_on: instruction to continue.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted: to go on, {go_on}", err=True)
        raise typer.Exit(130) from error


@contextmanager
def explained(go_on: str = "run the same command again") -> Iterator[None]:
    """Print an exception that ends a command as one line on stderr.

    Errors end with exit code 2, Ctrl-C with 130. With ART_EXT_TRACEBACK=1 in the environment, the
    traceback is printed too.

    Args:
        go_on: instruction to continue after Ctrl-C.
    """
    try:
        with interruptible(go_on):
            yield
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


def is_first_process() -> bool:
    """Return True unless a launcher such as torchrun has started an earlier process."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


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
