"""Models of RobustBench's zoo by name: ``robustbench/NAME``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from art_ext.adapters.robustbench.importing import import_robustbench
from art_ext.adapters.robustbench.zoo import load_zoo_model
from art_ext.data.transform import Transform
from art_ext.models.factory import literals
from art_ext.models.sources import ModelSource, Opened

SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}


def names() -> list[str]:
    """Return the names of the zoo."""
    import_robustbench()
    zoo = importlib.import_module("robustbench.model_zoo").model_dicts
    return sorted(
        {name for shelves in zoo.values() for models in shelves.values() for name in models}
    )


def open_model(source: ModelSource) -> Opened:
    """Load a model of the zoo, whose normalisation is its own.

    ``model_args`` holds ``dataset`` and ``threat_model``, and may hold ``model_dir`` and
    ``download``, see ``load_zoo_model``.

    Raises:
        ValueError: as ``load_zoo_model``, and without data set or threat model.
        ImportError: if RobustBench cannot be imported.
    """
    arguments = {"model_dir": "./models", **literals(source.model_args)}
    for name, option in (("dataset", "--data"), ("threat_model", "--norm")):
        if name not in arguments:
            raise ValueError(
                f"{source.source!r} needs {name}: give {option}, or --model-args {name}=..."
            )
    if source.untrained:
        raise ValueError(f"{source.source!r} has weights of its own: --untrained does not apply")
    model = load_zoo_model(
        source.rest, weights=source.weights, trust_checkpoint=source.trust_checkpoint, **arguments
    )
    data = arguments["dataset"]
    transform = None
    if data == "imagenet":
        transform = _transform(importlib.import_module("robustbench.data"), source.rest, arguments)
    shape = SHAPES.get(data)
    if transform is not None and transform.shape is not None:
        shape = (3, *transform.shape)
    return Opened(model, None, shape, transform, normalizes=True)


def _transform(library: ModuleType, name: str, arguments: Mapping[str, Any]) -> Transform:
    """Return the resizing and cropping that RobustBench uses for a model of ImageNet.

    Raises:
        ValueError: for steps that ``Transform`` does not have.
    """
    threat = library.ThreatModel(arguments["threat_model"])
    steps = library.get_preprocessing(library.BenchmarkDataset.imagenet, threat, name, None)
    found: dict[str, Any] = {}
    for step in steps.transforms:
        kind = type(step).__name__
        if kind == "Resize":
            found |= {"resize": _size(step.size), "interpolation": step.interpolation.value}
        elif kind == "CenterCrop":
            found["crop"] = _size(step.size)
        elif kind != "ToTensor":
            raise ValueError(f"the preprocessing of {name} is not supported: {steps}")
    return Transform(**found)


def _size(given: int | Sequence[int]) -> int | tuple[int, int]:
    """Return a size of torchvision. The pair of a crop may be a square."""
    if isinstance(given, int):
        return given
    return given[0] if len(given) == 1 else (given[0], given[1])
