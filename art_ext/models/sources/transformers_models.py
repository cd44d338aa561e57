"""Image classifiers of transformers: ``hf/NAME`` or ``hf/FOLDER``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from art_ext.data.classes import names_in_order
from art_ext.data.transform import INTERPOLATIONS, Size, Transform
from art_ext.models.factory import literals
from art_ext.models.sources.libraries import (
    check_reachable,
    import_library,
    only_tensors,
    seeded,
    with_weights,
)
from art_ext.models.sources.normalization import Normalization
from art_ext.models.sources.source import ModelSource, Opened

PROCESSOR = "preprocessor_config.json"
TOLERANCE = 3 / 255  # of a pixel: the library resizes whole bytes by another program
PROBES = ((61, 89), (90, 60))  # height and width of images by which steps are compared


def open_model(source: ModelSource) -> Opened:
    """Load a network, with the preprocessing of its image processor.

    ``model_args`` are those of ``from_pretrained``. Code of the repository never runs.

    Raises:
        ImportError: without transformers.
        ValueError: for a folder or a name of another kind of model, files that cannot be
            downloaded or do not fit, or a processor whose steps ``Transform`` cannot express.
    """
    library = import_library("transformers", source.source, "hf")
    folder = Path(source.rest)
    is_folder = folder.is_dir()
    if not is_folder and (source.rest.startswith((".", "/", "~")) or source.rest.count("/") > 1):
        raise ValueError(f"{source.source!r} must name a folder that exists, got {source.rest}")
    place = str(folder) if is_folder else source.rest
    with _quiet(library):
        return _open(source, library, place, is_folder)


def _open(source: ModelSource, library: ModuleType, place: str, is_folder: bool) -> Opened:
    with _errors_in_one_line(source):
        config = _from_files(source, library.AutoConfig, place)
    _check_images(source, library, config)
    arguments = {"trust_remote_code": False, **literals(source.model_args)}
    kind = library.AutoModelForImageClassification
    with seeded(source.seed), only_tensors(source.trust_checkpoint), _errors_in_one_line(source):
        if source.untrained or source.weights is not None:
            model = kind.from_config(config, **arguments)
        else:
            files = {"weights_only": not source.trust_checkpoint}
            model = _from_files(source, kind, place, config=config, **files, **arguments)
    filled = with_weights(model, source)
    processor = _processor(source, library, place, is_folder)
    names = getattr(model.config, "id2label", None) or {}
    class_names = None if _are_numbers(names) else names_in_order(names)
    channels = getattr(config, "num_channels", 3)
    if processor is None:
        side = getattr(config, "image_size", None)
        shape = (channels, side, side) if isinstance(side, int) else None
        return Opened(filled, None, shape, None, class_names)
    transform, normalization = _steps(source, processor)
    return Opened(
        filled,
        normalization,
        None if transform.shape is None else (channels, *transform.shape),
        transform,
        class_names,
    )


def _are_numbers(names: Mapping[int, str]) -> bool:
    """Return True for the names that the library makes up, ``LABEL_0`` and so on."""
    return all(name == f"LABEL_{index}" for index, name in names.items())


def _from_files(source: ModelSource, kind: Any, place: str, **arguments: Any) -> Any:
    """Call ``from_pretrained`` on local files, and on the network only if it answers.

    Raises:
        ValueError: if the files are not there, and the server does not answer.
        OSError: as the library raises it.
    """
    try:
        return kind.from_pretrained(place, local_files_only=True, **arguments)
    except OSError:
        if Path(place).is_dir():
            raise
    from huggingface_hub import constants

    looked = f"a folder {place} and the cache {constants.HF_HUB_CACHE}"
    check_reachable(source, constants.ENDPOINT, looked, ", a local folder as hf/FOLDER")
    return kind.from_pretrained(place, **arguments)


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Hide the bars and infos of the library inside a with block."""
    logging = library.utils.logging
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _errors_in_one_line(source: ModelSource) -> Iterator[None]:
    """Turn errors of the library about files and arguments into ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError:
        raise
    except (OSError, TypeError, RuntimeError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"the model {source.source!r} cannot be loaded: {first}") from error


def _check_images(source: ModelSource, library: ModuleType, config: Any) -> None:
    """Raise ValueError unless a configuration is that of an image classifier."""
    mapping = library.AutoModelForImageClassification._model_mapping
    if type(config) not in mapping:
        built = ", ".join(config.architectures or ()) or config.model_type
        raise ValueError(
            f"{source.source!r} must be an image classifier of transformers, got {built}"
        )


def _processor(source: ModelSource, library: ModuleType, place: str, is_folder: bool) -> Any:
    """Return the image processor, or None for a folder without one if ``normalize`` is given.

    Raises:
        ValueError: if there is none.
    """
    if is_folder and not os.path.exists(os.path.join(place, PROCESSOR)):
        if source.normalize is not None:
            return None
        raise ValueError(
            f"{place} holds no {PROCESSOR}, which tells mean and standard deviation: give"
            " --normalize 'MEAN;STD'"
        )
    with _errors_in_one_line(source):
        return _from_files(source, library.AutoImageProcessor, place)


def _steps(source: ModelSource, processor: Any) -> tuple[Transform, Normalization]:
    """Return resizing, cropping and normalisation of an image processor.

    They are compared with the processor itself on a small image.

    Raises:
        ValueError: if the processor does anything else.
    """
    resize, crop = _sizes(processor)
    interpolation = _interpolation(getattr(processor, "resample", None))
    transform = Transform(resize, crop, interpolation, floor_crop=True)
    normalization = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if getattr(processor, "do_normalize", False):
        normalization = Normalization(tuple(processor.image_mean), tuple(processor.image_std))
    unequal = max(_difference(processor, transform, normalization, size) for size in PROBES)
    if not unequal <= TOLERANCE:
        raise ValueError(
            f"the image processor of {source.source!r} ({type(processor).__name__}) does more than"
            f" to resize, crop and normalise: its pixels differ by {unequal:.3g}, at most"
            f" {TOLERANCE:.3g} is rounding"
        )
    return transform, normalization


def _sizes(processor: Any) -> tuple[Size | None, Size | None]:
    """Return the sizes to resize and to crop to."""
    size = dict(getattr(processor, "size", None) or {})
    crop_size = dict(getattr(processor, "crop_size", None) or {})
    crop = _side(crop_size) if getattr(processor, "do_center_crop", False) else None
    if not getattr(processor, "do_resize", False):
        return None, crop
    resize = _side(size)
    share = getattr(processor, "crop_pct", None)
    if share is not None and isinstance(resize, int):  # as ConvNeXt: squashed from 384 pixels on
        return (int(resize / share), resize) if resize < 384 else ((resize, resize), None)
    return resize, crop


def _side(size: Mapping[str, Any]) -> Size | None:
    short = size.get("shortest_edge")
    if short is not None:
        return int(short)
    height, width = size.get("height"), size.get("width")
    return None if height is None or width is None else (int(height), int(width))


def _interpolation(resample: Any) -> str:
    """Return the name of a filter of Pillow, which transformers gives as a number."""
    if resample is None:
        return "bilinear"
    from PIL import Image

    name = Image.Resampling(int(resample)).name.lower()
    return name if name in INTERPOLATIONS else "bilinear"


def _difference(
    processor: Any, transform: Transform, normalization: Normalization, size: tuple[int, int]
) -> float:
    """Return the largest difference of a pixel in [0, 1] from what the processor makes of it."""
    from PIL import Image

    height, width = size
    rows = np.linspace(0, 255, height)[:, None, None]
    columns = np.linspace(255, 0, width)[None, :, None]
    mixed = np.concatenate([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2], axis=2)
    image = Image.fromarray(mixed.astype(np.uint8))
    theirs = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"][0]))
    ours = transform(image)
    if theirs.shape != ours.shape:
        return float("inf")
    mean, std = (
        torch.tensor(part).view(-1, 1, 1) for part in (normalization.mean, normalization.std)
    )
    return float((theirs * std + mean - ours).abs().max())
