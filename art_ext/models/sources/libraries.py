"""Model libraries: their import, their downloads, and errors that tell the way out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import urlsplit

import torch
from torch import nn

from art_ext.core.checks import nearest
from art_ext.data import servers
from art_ext.models.layers import Preprocessed, head_records
from art_ext.models.sources.source import ModelSource
from art_ext.models.weights import load_weights, read_heads

_HEADS = "art_ext.training.heads"  # above this package, and imported when it is needed
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # of torch.load, whoever calls it


def import_library(module: str, source: str, extra: str) -> ModuleType:
    """Import a library that a source needs.

    Raises:
        ImportError: if it is missing, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        why = "" if isinstance(error, ModuleNotFoundError) else f", whose import fails ({error})"
        raise ImportError(
            f"the model {source!r} needs {name}{why}: pip install 'art-ext[{extra}]'"
        ) from error


def unknown_name(source: ModelSource, known: list[str]) -> ValueError:
    """Return the error for a name that a library does not have."""
    hint = nearest(source.rest, known)
    pattern = f"{source.prefix}/{source.rest[:4]}*"
    return ValueError(
        f"{source.prefix} has no model {source.rest!r}{hint}; art-ext models {pattern!r} lists"
        " names"
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights by a seed. The caller's random stream on the CPU is put back."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would set the streams of GPUs too
        torch.default_generator.manual_seed(seed)
        yield


def with_weights(model: nn.Module, source: ModelSource) -> nn.Module:
    """Return a model with the weights of a source, and with the heads that they name.

    A model that has heads already gets no others.

    Raises:
        ValueError: as ``load_weights``, and for a head that the model does not fit.
    """
    if source.weights is None:
        return model
    records = [] if head_records(model) else read_heads(source.weights)
    if records:
        heads = importlib.import_module(_HEADS)
        model = heads.with_heads(Preprocessed(model, None), records)  # the scores as a tensor
    return load_weights(model, source.weights, trust_checkpoint=source.trust_checkpoint)


@contextmanager
def only_tensors(trust: bool) -> Iterator[None]:
    """Let libraries unpickle nothing but tensors inside a with block, unless files are trusted."""
    before = os.environ.get(_FORCE)
    if not trust:
        os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FORCE, None)
        if before is not None:
            os.environ[_FORCE] = before


def check_reachable(source: ModelSource, url: str, looked: str, folder: str = "") -> None:
    """Raise ValueError unless the server of a download answers soon.

    Libraries try for minutes. Proxies of the environment are used.

    Args:
        source: the model to download.
        url: of a file, or of the server.
        looked: what was looked for first, such as ``"its weights in the cache FOLDER"``.
        folder: a further way out, beginning with a comma.
    """
    parts = urlsplit(url)
    reason = servers.failure(f"{parts.scheme}://{parts.netloc}")
    if reason is not None:
        raise ValueError(
            f"{source.prefix} cannot download {source.rest!r}: looked for {looked}, and"
            f" {parts.netloc} does not answer ({reason}). Give --weights FILE{folder}, or fill the"
            " cache where there is a network"
        )


def check_weights_there(source: ModelSource, url: str) -> None:
    """Raise ValueError unless torch has the file of weights in its cache, or its server answers."""
    file = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if not os.path.exists(file):
        check_reachable(source, url, f"its weights in {file}")
