"""Fitted detectors as files: tensors in safetensors, everything else as JSON in the metadata."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from art_ext.core import geometry
from art_ext.core.detection.base import Detector
from art_ext.core.detection.registry import get, make_detector
from art_ext.core.identity import digest_of_state
from art_ext.core.networks import model_device
from art_ext.core.oracle import Model

KEY = "art_ext.Detector"  # key of the metadata, where safetensors holds texts only
TOLERANCE = 1e-2  # of the outputs of a callable, relative to the largest
OWN_WORDS = ("identity", "head")  # attributes of modules that their state does not hold
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
Found = TypeVar("Found", bound=Detector)


def digest_of_model(model: Model) -> str | None:
    """Return a digest of a network: its state, and what its modules say of themselves.

    A callable has none.
    """
    if not isinstance(model, nn.Module):
        return None
    parts = [ADDRESS.sub("", repr(model)), digest_of_state(model)]
    for name, module in model.named_modules():
        parts += [f"{name} {getattr(module, key)!r}" for key in OWN_WORDS if hasattr(module, key)]
    return hashlib.sha256("\n".join(ADDRESS.sub("", part) for part in parts).encode()).hexdigest()


def settings_of(detector: Detector) -> dict[str, Any]:
    """Return the arguments of a detector's constructor in the types of JSON."""
    found = {}
    for name in inspect.signature(type(detector)).parameters:
        value = getattr(detector, name)
        found[name] = [str(one) for one in value] if isinstance(value, tuple) else value
    return found


def write_detector(detector: Detector, path: str | os.PathLike[str]) -> None:
    """Write a fitted detector. The write is atomic.

    Raises:
        ValueError: if the detector was not fitted.
        OSError: if the folder does not exist or cannot be written.
    """
    from art_ext.storage.files import write_state_dict

    if detector.model is None:
        raise ValueError(f"{detector.name} must be fitted before use: call fit(model, x, y)")
    tensors = {name: getattr(detector, name).detach().cpu() for name in detector.learned}
    if detector.calibration_ids is not None:
        tensors["calibration_ids"] = detector.calibration_ids
    digest = digest_of_model(detector.model)
    if digest is None and detector.probe is not None:
        tensors["probe"] = detector.probe
        tensors["probe_outputs"] = detector.answers(detector.probe).outputs.cpu()
    content = {
        "name": detector.name,
        "class": type(detector).__qualname__,
        "settings": settings_of(detector),
        "threshold": detector.threshold,
        "scale": detector.scale,
        "fpr": detector.fpr,
        "outputs": detector.outputs,
        "clip_values": _plain_box(detector),
        "shape": detector.shape,
        "model": digest,
        "data": detector.data,
    }
    write_state_dict(Path(path), tensors, {KEY: json.dumps(content)})


def _plain_box(detector: Detector) -> tuple[float, float] | None:
    """Return the box as two numbers. None without a box.

    Raises:
        ValueError: for bounds of each feature.
    """
    bounds = geometry.number_bounds(detector.clip_values)
    if bounds is None and detector.clip_values is not None:
        raise ValueError(
            f"a detector can be saved with clip_values of two numbers, got {detector.clip_values!r}"
        )
    return bounds


def read_content(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON and the tensors of a saved detector, on the CPU. Nothing is unpickled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ``write_detector`` did not write it.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        content: dict[str, Any] = json.loads(metadata[KEY])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"path must name a file that Detector.save wrote, got {os.fspath(path)}"
        ) from error
    return content, tensors


def read_detector(
    kind: type[Found],
    path: str | os.PathLike[str],
    model: Model,
    *,
    batch_size: int,
    device: torch.device | str | None,
) -> Found:
    """Read a detector of a class, or of any class in the list for ``Detector``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no detector, or one of another class or model.
    """
    content, tensors = read_content(path)
    own = kind if kind.name else _listed(content, path)
    if own.name != content["name"]:
        raise ValueError(
            f"{os.fspath(path)} holds the detector {content['name']!r}, not {own.name!r}"
        )
    detector = make_detector(own, content["settings"])
    assert isinstance(detector, kind)  # noqa: S101  # for type checkers: the class is one of kind
    box = content["clip_values"]
    detector.model = model
    detector.outputs = content["outputs"]
    detector.batch_size = batch_size
    detector.clip_values = None if box is None else (box[0], box[1])
    detector.device = device
    shape = content.get("shape")  # files of earlier versions have none
    detector.shape = None if shape is None else tuple(shape)
    _check_model(detector, content, tensors, path)
    place = model_device(model, device, torch.device("cpu"))
    for name in detector.learned:
        tensor = tensors[name]
        if tensor.dtype == torch.float64:
            tensor = tensor.to(geometry.exact_dtype(place))
        setattr(detector, name, tensor.to(place))
    detector.threshold = content["threshold"]
    detector.scale = content["scale"]
    detector.fpr = content["fpr"]
    detector.data = content["data"]
    detector.probe = tensors.get("probe")
    detector.calibration_ids = tensors.get("calibration_ids")  # earlier versions wrote none
    return detector


def _listed(content: dict[str, Any], path: str | os.PathLike[str]) -> type[Detector]:
    """Return the class in the list that a file names.

    Raises:
        ValueError: if the list has none of that name.
    """
    try:
        return get(content["name"]).kind
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(path)} holds the detector {content['name']!r}, which is not in the list:"
            f" call {content['class']}.load(file, model), or on the command line give"
            f" --detector FILE.py:{content['class']} too"
        ) from error


def _check_model(
    detector: Detector,
    content: dict[str, Any],
    tensors: dict[str, Tensor],
    path: str | os.PathLike[str],
) -> None:
    """Raise ValueError unless the model is the one that the detector was fitted to."""
    model = detector.model
    assert model is not None  # noqa: S101  # for type checkers: the caller has set it
    detector.check_model(model)
    same = digest_of_model(model) == content["model"]
    if same and "probe" in tensors:
        found = detector.answers(tensors["probe"]).outputs.cpu()
        wanted = tensors["probe_outputs"]
        largest = wanted.abs().max()
        same = found.shape == wanted.shape and bool(
            (found - wanted).abs().max() <= TOLERANCE * largest
        )
    if not same:
        raise ValueError(
            f"the detector in {os.fspath(path)} was fitted to another model: fit it to this one"
        )
