"""Image classifiers of torchvision: ``torchvision/NAME``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from art_ext.core.checks import check_choice
from art_ext.data.transform import Transform
from art_ext.models.factory import literals
from art_ext.models.sources.libraries import (
    check_weights_there,
    import_library,
    only_tensors,
    seeded,
    unknown_name,
    with_weights,
)
from art_ext.models.sources.normalization import Normalization
from art_ext.models.sources.source import ModelSource, Opened

# as torchvision builds them for its own weights
_AS_PRETRAINED: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def names() -> list[str]:
    """Return the names of the classifiers."""
    models = import_library("torchvision.models", "torchvision", "vision")
    return list(models.list_models(module=models))


def open_model(source: ModelSource) -> Opened:
    """Build a network, with the weights and the preprocessing of ``weights.transforms()``.

    ``model_args`` are those of the network's function. Among them, ``weights`` names pretrained
    weights other than the default, such as ``"IMAGENET1K_V1"``, and ``input_size`` is the shape of
    a sample if the network was trained on images of another size.

    Raises:
        ImportError: without torchvision.
        ValueError: for an unknown name, or weights that cannot be downloaded.
    """
    models = import_library("torchvision.models", source.source, "vision")
    known = names()
    if source.rest not in known:
        raise unknown_name(source, known)
    kinds = models.get_model_weights(source.rest)
    given = literals(source.model_args)
    size = given.get("input_size")
    chosen = str(given.get("weights", kinds.DEFAULT.name)).rpartition(".")[2]
    check_choice("weights of model_args", chosen, tuple(one.name for one in kinds))
    weights = kinds[chosen]
    pretrained = source.weights is None and not source.untrained
    if pretrained:
        check_weights_there(source, weights.url)
    arguments = network_arguments(source)
    with seeded(source.seed), only_tensors(source.trust_checkpoint):
        model = models.get_model(source.rest, weights=weights if pretrained else None, **arguments)
    filled = with_weights(model, source)
    steps = weights.transforms()
    transform = Transform(
        _size(steps.resize_size), _size(steps.crop_size), steps.interpolation.value
    )
    if size is not None:
        transform = replace(transform, resize=min(size[1:]), crop=tuple(size[1:]))
    categories = tuple(weights.meta["categories"])
    ours = arguments.get("num_classes", len(categories)) == len(categories)
    return Opened(
        filled,
        Normalization(tuple(steps.mean), tuple(steps.std)),
        None if transform.shape is None else (3, *transform.shape),
        transform,
        categories if ours else None,
    )


def network_arguments(source: ModelSource) -> dict[str, Any]:
    """Return the keyword arguments of the function that makes the network of a source."""
    own = ("input_size", "weights")
    given = {key: one for key, one in literals(source.model_args).items() if key not in own}
    return given if source.untrained else {**_AS_PRETRAINED.get(source.rest, {}), **given}


def _size(given: list[int]) -> int | tuple[int, int]:
    return given[0] if len(given) == 1 else (given[0], given[1])
