"""``art-ext models``: the models that can be loaded by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import explained

if TYPE_CHECKING:
    from art_ext.cli.listing import Row

COLUMNS = ("name", "origin", "summary")
PATTERNS = "Names with * for any text, such as 'timm/resnet*'. Without any: the kinds of models."
CHECK = (
    "Check the contract of a model on random images instead: FILE.py:FACTORY, or any other source."
    " Exit with 1 if a check fails."
)
PACKAGES = {"hf": "transformers"}  # of the other libraries, package and prefix are one
EXTRAS = {"torchvision": "vision"}  # of the other libraries, extra and prefix are one
SENTENCES = {
    "torchvision/NAME": "Image classifier of torchvision, with its pretrained weights.",
    "timm/NAME": "Image classifier of timm, with its pretrained weights.",
    "hf/NAME": "Image classifier of transformers, from its hub or from a folder.",
    "robustbench/NAME": "Model of RobustBench's zoo, from its checkpoint file.",
    "FILE.onnx": "Network in the ONNX format. It gives labels and scores only.",
    "FOLDER": "Network of a finished art-ext train, with its best weights.",
    "FILE.py:FACTORY": "Model that a function or class of a file or module makes.",
}


def models(
    patterns: Annotated[list[str] | None, typer.Argument(help=PATTERNS)] = None,
    check: Annotated[str | None, typer.Option(help=CHECK)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that evaluate and train load by name, or search the names of a library."""
    with explained():
        from art_ext.cli.listing import show, show_checks

        if check is not None:
            from art_ext.testing.models import source_checks

            show_checks(source_checks(check))
            return
        rows = [*_own(), *_plugins(), *_kinds()]
        if patterns:
            rows = [row for pattern in patterns for row in _found(pattern, rows)]
        show(COLUMNS, rows, as_json=as_json)


def _own() -> list[Row]:
    """Return the networks of this package."""
    from art_ext import models as package
    from art_ext.cli.listing import OWN, summary_of
    from art_ext.models.networks import NETWORKS

    return [
        {"name": name, "origin": OWN, "summary": summary_of(getattr(package, function))}
        for name, function in NETWORKS.items()
    ]


def _plugins() -> list[dict[str, Any]]:
    from art_ext.cli.listing import plugin_rows, summary_of
    from art_ext.models.sources import PLUGINS

    def described(name: str) -> Mapping[str, Any]:
        return {"name": name, "summary": summary_of(PLUGINS.load(name))}

    return plugin_rows(PLUGINS, described)


def _kinds() -> list[Row]:
    """Return the kinds of sources."""
    from art_ext.cli.listing import OWN

    rows: list[Row] = []
    for name, sentence in SENTENCES.items():
        prefix = name.partition("/")[0] if "/" in name else ""
        package = {"FILE.onnx": "onnxruntime"}.get(name, PACKAGES.get(prefix, prefix))
        rows.append(
            {"name": name, "origin": _version(package) if package else OWN} | {"summary": sentence}
        )
    return rows


def _version(package: str) -> str:
    """Return package and version, or the command that installs it."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package}, not installed"


def _found(pattern: str, rows: list[Row]) -> list[Row]:
    """Return the rows of names that fit a pattern.

    Raises:
        ValueError: for names of a library that lists none.
        ImportError: for a library that is not installed.
    """
    prefix = pattern.partition("/")[0]
    if "/" not in pattern:
        return [row for row in rows if fnmatchcase(row["name"], pattern)]
    names = _names_of(prefix)
    package = PACKAGES.get(prefix, prefix)
    origin = _version(package)
    sentence = SENTENCES[f"{prefix}/NAME"]
    every = (f"{prefix}/{name}" for name in names())
    return [
        {"name": name, "origin": origin, "summary": sentence}
        for name in every
        if fnmatchcase(name, pattern)
    ]


def _names_of(prefix: str) -> Callable[[], list[str]]:
    """Return the function that lists the names of a library.

    Raises:
        ValueError: for another prefix, or a library that lists none.
        ImportError: for a library that is not installed.
    """
    from art_ext.core.checks import nearest
    from art_ext.models.sources import LIBRARIES

    if prefix not in LIBRARIES:
        hint = nearest(prefix, LIBRARIES)
        raise ValueError(f"names are listed of {', '.join(LIBRARIES)}, got {prefix!r}{hint}")
    if prefix == "hf":
        raise ValueError("the names of transformers lie on its hub, which is not searched")
    package = PACKAGES.get(prefix, prefix)
    if find_spec(package) is None:
        extra = EXTRAS.get(prefix, prefix)
        raise ImportError(f"{prefix} is not installed: pip install 'art-ext[{extra}]'")
    names: Callable[[], list[str]] = import_module(LIBRARIES[prefix]).names
    return names
