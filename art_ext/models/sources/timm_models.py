"""Image classifiers of timm: ``timm/NAME``."""

from __future__ import annotations

import math
from importlib import metadata
from types import ModuleType
from typing import Any

from art_ext.data.transform import Transform
from art_ext.models.factory import literals
from art_ext.models.sources.libraries import (
    check_reachable,
    check_weights_there,
    import_library,
    only_tensors,
    seeded,
    unknown_name,
    with_weights,
)
from art_ext.models.sources.normalization import Normalization
from art_ext.models.sources.source import ModelSource, Opened

BLIND = (
    "does not see huggingface_hub {hub}: pip install 'timm>=1.0.31' (RobustBench names timm 1.0.9,"
    " and works with this one too)"
)


def names() -> list[str]:
    """Return the names of the classifiers, then those with a tag of their pretrained weights."""
    timm = import_library("timm", "timm", "timm")
    return list(dict.fromkeys([*timm.list_models(), *timm.list_pretrained()]))


def open_model(source: ModelSource) -> Opened:
    """Build a network, with the weights and the preprocessing of ``resolve_model_data_config``.

    ``model_args`` are those of ``timm.create_model``. Among them, ``input_size`` is the shape of a
    sample if the network was trained on images of another size.

    Raises:
        ImportError: without timm, or with a timm that does not see huggingface_hub.
        ValueError: for an unknown name, weights that cannot be downloaded, or a preprocessing that
            ``Transform`` cannot express.
    """
    timm = import_library("timm", source.source, "timm")
    name = source.rest
    if ":" not in name and not _is_known(timm, name):
        raise unknown_name(source, timm.list_models())
    arguments = literals(source.model_args)
    names_of_sizes = ("img_size", "in_chans", "input_size")
    sizes: dict[str, Any] = {key: arguments[key] for key in names_of_sizes if key in arguments}
    arguments.pop("input_size", None)
    pretrained = source.weights is None and not source.untrained
    if pretrained:
        _check_there(timm, source)
    with seeded(source.seed), only_tensors(source.trust_checkpoint):
        model = timm.create_model(name, pretrained=pretrained, **arguments)
    filled = with_weights(model, source)
    config = timm.data.resolve_model_data_config(model, args=sizes)
    class_names, class_ids = _classes(timm, model)
    return Opened(
        filled,
        Normalization(tuple(config["mean"]), tuple(config["std"])),
        tuple(config["input_size"]),
        _transform(source, config),
        class_names,
        class_ids,
    )


def _is_known(timm: ModuleType, name: str) -> bool:
    """Return True for a network of timm, with or without a tag of its weights."""
    return bool(timm.is_model(name)) and ("." not in name or name in timm.list_pretrained())


def _transform(source: ModelSource, config: dict[str, Any]) -> Transform:
    """Return the steps of ``timm.data.create_transform`` for an evaluation.

    Raises:
        ValueError: for steps that ``Transform`` does not have.
    """
    _, height, width = config["input_size"]
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    squashed = config["crop_mode"] == "squash"
    if config["crop_mode"] == "border" or (height != width and not squashed):
        raise ValueError(
            f"the evaluation transform of {source.source!r} (crop mode {config['crop_mode']},"
            f" {height}x{width}) is not supported"
        )
    resize = (scaled[0], scaled[1]) if squashed else scaled[0]
    crop = height if height == width else (height, width)
    return Transform(resize, crop, config["interpolation"])


def _classes(timm: ModuleType, model: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return names and WordNet ids of the classes of an ImageNet model."""
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None:
        return None, None
    info = timm.data.ImageNetInfo(subset)
    described = [info.index_to_description(index) for index in range(info.num_classes())]
    return tuple(one.partition(",")[0] for one in described), tuple(info.label_names())


def _check_there(timm: ModuleType, source: ModelSource) -> None:
    """Raise an error unless the weights are in a cache or their server answers."""
    config = timm.models.get_pretrained_cfg(source.rest) if ":" not in source.rest else None
    hub = source.rest.partition(":")[2] if config is None else config.hf_hub_id
    if config is not None and config.file:
        return
    if not hub:
        url = config.url if config is not None else ""
        if not url:
            raise ValueError(
                f"timm has no pretrained weights of {source.rest!r}: give --weights FILE or"
                " --untrained"
            )
        check_weights_there(source, url)
        return
    hub_library = import_library("huggingface_hub", source.source, "timm")
    if not import_library("timm.models._hub", source.source, "timm").has_hf_hub():
        version = metadata.version("huggingface_hub")
        raise ImportError(
            f"timm {timm.__version__} {BLIND.format(hub=version)}, or give --weights FILE"
        )
    from huggingface_hub import constants

    files = ("model.safetensors", "pytorch_model.bin")
    cached = any(isinstance(hub_library.try_to_load_from_cache(hub, one), str) for one in files)
    if not cached:
        looked = f"{hub} in the cache {constants.HF_HUB_CACHE}"
        check_reachable(source, constants.ENDPOINT, looked)
