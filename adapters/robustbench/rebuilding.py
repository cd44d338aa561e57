"""The Python file of a submission, from which RobustBench rebuilds a model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.adapters.robustbench.writing import Source
from art_ext.core.oracle import ScoreOracle
from art_ext.models import resolve_factory
from art_ext.models.factory import literals
from art_ext.models.networks import NETWORKS
from art_ext.models.sources import (
    LoadedModel,
    ModelSource,
    Normalization,
    is_run_folder,
    load_source,
    short_name,
)

MADE = "art_ext_model"  # name of the function that is written
TOLERANCE = 1e-4  # of a score: another device may round differently
_NORMALIZED = '''

import torch
from torch import nn


class Normalized(nn.Module):
    """A network behind the normalisation of its inputs, which are pixels in [0, 1]."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x):
        return self.network((x - self.mean) / self.std)
'''


@dataclass(frozen=True)
class _Recipe:
    """A Python file, and the call in it that makes a network without its weights.

    Attributes:
        text: of the file.
        factory: function or class in it.
        given: positional arguments of the factory.
        arguments: keyword arguments of the factory.
        file: name of the file.
    """

    text: str
    factory: str
    given: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: str = "model.py"

    @property
    def call(self) -> str:
        """The call as an expression."""
        named = [f"{key}={value!r}" for key, value in literals(self.arguments).items()]
        return f"{self.factory}({', '.join([*map(repr, self.given), *named])})"


def check_submitted(source: str) -> None:
    """Raise ValueError unless a submission can hold a model of a source. Nothing is loaded.

    Args:
        source: as of ``load_model``.
    """
    known = short_name(source) is not None or _is_file(source) or is_run_folder(source)
    if not known and source.partition("/")[0] not in ("timm", "torchvision"):
        raise _unknown(source)


def submitted(loaded: LoadedModel, rows: Tensor) -> Source:
    """Return the source of a loaded model, as a submission holds it.

    A file of the user is submitted as it is, with its normalisation appended if there is one. The
    file is written for the folder of a training, and for networks of art-ext, timm and
    torchvision.

    Args:
        loaded: the model.
        rows: (R, *S) samples in [0, 1], on which the network of a written file must return what
            the model returns.

    Raises:
        ValueError: if the model is no ``nn.Module``, RobustBench cannot rebuild its source, or the
            file makes another network.
    """
    source, normalization = loaded.source, loaded.normalization
    if not isinstance(loaded.model, nn.Module):
        raise ValueError(
            f"{source.source!r} must make an nn.Module, got {type(loaded.model).__name__}"
        )
    heads = _added_heads(loaded)
    if normalization is None and not heads and _is_file(source.source):
        file, _, factory = source.source.rpartition(":")
        return Source(loaded.model, Path(file), factory, source.model_args)
    if is_run_folder(source.source):
        source = _source_of_training(source)
        normalization = load_source(replace(source, weights=None, untrained=True)).normalization
    recipe = _recipe(source)
    if normalization is not None and normalization.is_identity:
        normalization = None
    text = _text(recipe, normalization, heads)
    # the network lies inside the normalisation, or under its own names
    inner = "" if normalization is None else "network."
    model = _rebuilt(text, recipe.file, inner, loaded, rows)
    return Source(model, Path(recipe.file), MADE, content=text)


def _is_file(source: str) -> bool:
    return source.rpartition(":")[0].endswith(".py")


def _added_heads(loaded: LoadedModel) -> list[dict[str, Any]]:
    """Return the records of the heads of a model that its source does not make, outermost first.

    Raises:
        ValueError: for a head that is not of art-ext.
    """
    from art_ext.training.heads import HEADS, heads_of

    heads = heads_of(loaded.model)
    strange = [head for head in heads if head.name not in HEADS]
    if strange and is_run_folder(loaded.source.source):
        raise ValueError(
            f"{loaded.source.source} was trained with the head {strange[0]!r}, which RobustBench"
            " cannot rebuild: write a file whose FACTORY makes network and head, and evaluate that"
        )
    if heads and _is_file(loaded.source.source):
        made = resolve_factory(loaded.source.source, loaded.source.model_args)
        heads = [] if heads_of(made) else heads
    return [head.record() for head in heads]


def _source_of_training(source: ModelSource) -> ModelSource:
    """Return the source of the network of a training."""
    from art_ext.training.runs.networks import source_of
    from art_ext.training.runs.source import read_configuration

    return source_of(read_configuration(Path(source.source)))


def _recipe(source: ModelSource) -> _Recipe:
    """Return the file that makes the network of a source, without a normalisation.

    Raises:
        ValueError: for a source that RobustBench cannot rebuild.
    """
    given = source.source
    network = short_name(given)
    if network is not None:
        function = NETWORKS[network]
        return _Recipe(
            f"from art_ext.models import {function}\n", function, arguments=source.model_args
        )
    if _is_file(given):
        file, _, factory = given.rpartition(":")
        text = Path(file).read_text(encoding="utf-8")
        return _Recipe(text, factory, arguments=source.model_args, file=Path(file).name)
    if source.prefix == "timm":
        arguments = literals(source.model_args)
        arguments.pop("input_size", None)
        arguments = {"pretrained": False, **arguments}
        return _Recipe("import timm\n", "timm.create_model", (source.rest,), arguments)
    if source.prefix == "torchvision":
        from art_ext.models.sources.torchvision_models import network_arguments

        arguments = {"weights": None, **network_arguments(source)}
        factory = "torchvision.models.get_model"
        return _Recipe("import torchvision\n", factory, (source.rest,), arguments)
    raise _unknown(given)


def _unknown(given: str) -> ValueError:
    return ValueError(
        "model must be one that RobustBench can rebuild: FILE.py:FACTORY, the folder of a"
        f" training, timm/NAME, torchvision/NAME or a short name, got {given!r}. For another one,"
        " write a file whose FACTORY makes it, and evaluate that"
    )


def _text(recipe: _Recipe, normalization: Normalization | None, heads: list[dict[str, Any]]) -> str:
    """Return the content of a file whose function ``MADE`` makes the network of a recipe.

    Args:
        recipe: of the network.
        normalization: of its inputs.
        heads: records of the heads around it.
    """
    text, made = recipe.text.rstrip(), recipe.call
    if normalization is not None:
        text += _NORMALIZED.rstrip()
        mean, std = (list(part) for part in (normalization.mean, normalization.std))
        made = f"Normalized({made}, {mean}, {std})"
    if heads:
        text += "\n\nfrom art_ext.training.heads import with_heads"
        made = f"with_heads({made}, {heads})"
    return f"{text}\n\n\ndef {MADE}():\n    return {made}\n"


def _rebuilt(text: str, file: str, inner: str, loaded: LoadedModel, rows: Tensor) -> nn.Module:
    """Return the network of a written file, with the weights of a model.

    Args:
        text: of the file.
        file: its name.
        inner: prefix that the file puts before the names of the model's tensors.
        loaded: the model.
        rows: as in ``submitted``.

    Raises:
        ValueError: if it takes other weights, or gives other scores.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / file
        place.write_text(text, encoding="utf-8")
        model: nn.Module = resolve_factory(f"{place}:{MADE}")
    state = loaded.model.state_dict()
    own = {name: state.get(name.removeprefix(inner)) for name in model.state_dict()}
    given = f"the file that art-ext writes for {loaded.source.source!r} makes another network"
    hint = "Write a file whose FACTORY makes it, and evaluate that"
    try:
        model.load_state_dict({name: one for name, one in own.items() if one is not None})
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{given}: {first} {hint}") from error
    model.to(next(iter(state.values())).device)
    far = (_scores(model, rows) - _scores(loaded.model, rows)).abs().max()
    if not float(far) <= TOLERANCE:
        raise ValueError(f"{given}: its scores differ by {float(far):.3g}. {hint}")
    return model


def _scores(model: nn.Module, rows: Tensor) -> Tensor:
    with ScoreOracle(model, len(rows)) as oracle:
        return oracle.scores(rows.to(oracle.device), torch.arange(len(rows), device=oracle.device))
