"""Models named on the command line: ``FILE.py:FACTORY`` or ``MODULE:FACTORY``."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from art_ext.core.checks import nearest
from art_ext.core.wording import with_article
from art_ext.errors import UserCodeError

_FILES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # digests, by the model of a factory


def resolve_factory(
    spec: str, arguments: Mapping[str, object] | None = None, *, eval_mode: bool = True
) -> Any:
    """Import the factory that the spec names, call it, and return its model.

    This runs the code of the file or module, as ``python FILE.py`` would. During the call, the
    file's folder, or for a module the current folder, is on the import path.

    Args:
        spec: ``FILE.py:FACTORY`` or ``MODULE:FACTORY``, for instance
            ``art_ext.models:mnist_two_conv``.
        arguments: keyword arguments of the factory. A text that is a Python literal (``3``,
            ``0.5``, ``(8, 16)``, ``True``) becomes its value. Other text stays text.
        eval_mode: set an ``nn.Module`` to eval mode. False keeps the modes that the factory chose.

    Returns:
        The object that the factory returned: an ``nn.Module``, another callable, or an estimator
        with ``predict``.

    Raises:
        ValueError: if the spec cannot be parsed, the file or module is missing or fails, the
            factory does not exist (the message lists similar names), or the factory does not take
            the arguments, fails or returns no callable. An exception of the user's code is the
            cause.
    """
    with resolve_object(spec, "model", "FACTORY") as factory:
        if isinstance(factory, nn.Module) or not callable(factory):
            raise ValueError(
                f"{spec!r} must name a function or class that makes the model, got an instance of"
                f" {type(factory).__name__}"
            )
        model = call_factory(factory, spec, arguments or {})
    note_file(spec, model)
    return model.eval() if eval_mode and isinstance(model, nn.Module) else model


@contextmanager
def resolve_object(
    spec: str, kind: str, noun: str, wanted: Callable[[object], bool] = callable
) -> Iterator[Any]:
    """Import the object that ``FILE.py:NAME`` or ``MODULE:NAME`` names.

    Inside the context, the folder is on the import path.

    Args:
        spec: the file or module, and the name of the object in it.
        kind: kind of the object, for messages, such as ``"model"``.
        noun: word for the name in messages, such as ``"FACTORY"``.
        wanted: tells the objects that a message about a missing one lists.

    Raises:
        ValueError: if the spec cannot be parsed, the file or module is missing or fails, or the
            object does not exist.
    """
    location, colon, name = spec.rpartition(":")
    if not (colon and location and name):
        raise ValueError(
            f"{with_article(kind)} must be given as FILE.py:{noun} or MODULE:{noun}, got {spec!r}"
        )
    is_file = location.endswith(".py")
    folder = Path(location).resolve().parent if is_file else Path.cwd()
    with _importable(folder):
        module = _import_file(Path(location), kind) if is_file else _import_module(location, kind)
        yield _find(module, name, spec, wanted)


def digest_of_file(file: str | os.PathLike[str]) -> str:
    """Return a digest of a file, which identifies a version of it."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def file_of_model(model: Any) -> str | None:
    """Return the digest of the file whose factory made a model, or a part of it.

    None for a model of other origin.
    """
    parts = model.modules() if isinstance(model, nn.Module) else [model, *_attributes(model)]
    return next(filter(None, map(_digest_of, parts)), None)


def _attributes(model: Any) -> list[Any]:
    return list(vars(model).values()) if hasattr(model, "__dict__") else []


def _digest_of(part: Any) -> str | None:
    try:
        return _FILES.get(part)
    except TypeError:  # an object without weak references or without a hash
        return None


def note_file(spec: str, model: Any) -> None:
    """Keep the digest of the file whose factory made a model."""
    location = spec.rpartition(":")[0]
    if location.endswith(".py"):
        with suppress(TypeError):  # an object without weak references or without a hash
            _FILES[model] = digest_of_file(location)


def literals(arguments: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of Python literals in texts. Other values stay as they are."""
    return {key: _literal(value) for key, value in arguments.items()}


def _literal(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put a folder first on the import path inside a with block."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:  # the user's code may have taken it off
            sys.path.remove(entry)


def _import_file(file: Path, kind: str) -> ModuleType:
    """Run a Python file as a module of its own."""
    if not file.is_file():
        raise ValueError(f"the {kind}'s file must exist, got {file} (current folder: {Path.cwd()})")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"_art_ext_{kind}_{file.stem}_{digest}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"the {kind}'s file must be Python source, got {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UserCodeError(
            f"the {kind}'s file {file} fails on import: {_type_and_message(error)}"
        ) from error
    return module


def _import_module(name: str, kind: str) -> ModuleType:
    """Import a module by its dotted name."""
    importlib.invalidate_caches()  # the module may have been written a moment ago
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and f"{name}.".startswith(f"{error.name}.")
        ):
            raise ValueError(
                f"the {kind}'s module must be installed or lie in the current folder, got {name!r}:"
                f" no module named {error.name!r} (current folder: {Path.cwd()}; a file is given"
                " with its ending .py)"
            ) from error
        raise UserCodeError(
            f"the {kind}'s module {name!r} fails on import: {_type_and_message(error)}"
        ) from error


def _type_and_message(error: BaseException) -> str:
    """Type and message of an exception of the user's code."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _find(
    module: ModuleType, name: str, spec: str, wanted: Callable[[object], bool] = callable
) -> Any:
    """Return the object of that name, or raise ValueError with the reason why there is none."""
    if hasattr(module, name):
        return getattr(module, name)
    public = [known for known, value in vars(module).items() if wanted(value) and known[0] != "_"]
    listed = ", ".join(sorted(public)[:10]) or f"nothing that can be {name!r}"
    raise ValueError(f"there is no {name!r} for {spec!r}{nearest(name, public)}; it has {listed}")


def call_factory(factory: Callable[..., Any], spec: str, given: Mapping[str, object]) -> Any:
    """Call a factory and check its result.

    Args:
        factory: makes the model.
        spec: name of the factory, for messages.
        given: its arguments, as ``resolve_factory`` takes them.

    Raises:
        ValueError: if it does not take the arguments, fails, or returns no model.
    """
    arguments = literals(given)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some classes written in C do not tell
        signature = None
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            unknown = [name for name in arguments if name not in signature.parameters]
            hint = nearest(unknown[0], signature.parameters) if unknown else ""
            raise ValueError(
                f"{spec!r} takes the arguments {signature}, got {arguments}: {error}{hint}"
            ) from error
    try:
        model = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise UserCodeError(
            f"{spec!r} with arguments {arguments} fails: {_type_and_message(error)}"
        ) from error
    if not callable(model) and not hasattr(model, "predict"):
        raise ValueError(
            f"{spec!r} must return a model or another callable, got {type(model).__name__}"
        )
    return model
