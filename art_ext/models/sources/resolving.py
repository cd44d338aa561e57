"""The resolver: from the name of a model to the model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.core.checks import nearest, same_name
from art_ext.core.networks import usable_device
from art_ext.core.plugins import Plugins
from art_ext.models.factory import call_factory, resolve_factory
from art_ext.models.layers import Normalize, Preprocessed
from art_ext.models.networks import NETWORKS
from art_ext.models.sources.libraries import seeded, with_weights
from art_ext.models.sources.normalization import Normalization, read_normalization
from art_ext.models.sources.source import LoadedModel, ModelSource, Opened

PLUGINS = Plugins("art_ext.models", "model", lambda: [*NETWORKS, *LIBRARIES])
# by prefix, the module whose function open_model opens such a source. A module is imported when it
# is needed, and may lie above this package
LIBRARIES: dict[str, str] = {
    "torchvision": "art_ext.models.sources.torchvision_models",
    "timm": "art_ext.models.sources.timm_models",
    "hf": "art_ext.models.sources.transformers_models",
    "robustbench": "art_ext.adapters.robustbench.source",
}
_ONNX = "art_ext.models.sources.onnx_models"
_TRAINING = "art_ext.training.runs.source"
FORMS = (
    "a short name, the folder of a training, torchvision/NAME, timm/NAME, hf/NAME,"
    " robustbench/NAME, FILE.onnx, FILE.py:FACTORY or MODULE:FACTORY"
)


def load_model(
    source: str | os.PathLike[str] | ModelSource,
    *,
    model_args: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    normalize: str | Normalization | None = None,
    name: str | None = None,
    checkpoint: str = "best",
    trust_checkpoint: bool = False,
    device: str | None = None,
    untrained: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Load a model with its preprocessing.

    The source is one of these:

    * ``FILE.py:FACTORY`` or ``MODULE:FACTORY``: the factory is called.
    * a short name: ``digits-cnn``, ``mnist-conv2``, ``mnist-smallcnn``, ``mnist-lenet5``,
      ``preactresnet18``, ``resnet18``, ``wideresnet``, ``cifar-resnet``, ``cifar-resnet20``, with
      ``weights`` or ``untrained``.
    * the folder of a finished ``art-ext train``.
    * ``torchvision/NAME``, ``timm/NAME``: image classifiers of these libraries.
    * ``hf/NAME`` or ``hf/FOLDER``: image classifiers of transformers.
    * ``robustbench/NAME``, with ``dataset`` and ``threat_model`` in ``model_args``.
    * ``FILE.onnx``: run by onnxruntime, which gives labels and scores only.
    * a name that another package declares in the entry-point group ``art_ext.models``.

    Libraries bring pretrained weights, and mean and standard deviation as the first layer of the
    model. So the model takes pixels in [0, 1], after ``transform``.

    Args:
        source: the model, or a ``ModelSource`` that holds all arguments.
        model_args: arguments of the factory or of the library. Texts are read as Python literals.
        weights: checkpoint file, in place of pretrained weights. No network is needed.
        normalize: mean and standard deviation of the inputs, in place of the source's own:
            ``"imagenet"``, ``"cifar10"``, ``"cifar100"``, ``"mnist"``, ``"none"``, or
            ``"MEAN;STD"`` with commas between the channels.
        name: name in reports. None: the stem of the weights' file, or the last part of the source.
        checkpoint: weights of a training's folder: ``"best"`` or ``"final"``.
        trust_checkpoint: unpickle checkpoints that hold more than tensors. This runs code in them.
        device: device to put the model on. None: where it is made.
        untrained: draw the initial weights by the seed, without pretrained weights.
        seed: seed of the initial weights.

    Raises:
        ValueError: for an unknown source (the nearest name is given), arguments, weights or a
            normalisation that do not fit, or a download without a network.
        ImportError: for a library that is not installed, with the command that installs it.
    """
    if not isinstance(source, ModelSource):
        source = ModelSource(
            os.fspath(source),
            dict(model_args or {}),
            None if weights is None else os.fspath(weights),
            normalize,
            name,
            checkpoint,
            trust_checkpoint,
            device,
            untrained,
            seed,
        )
    return load_source(source)


def load_source(source: ModelSource, *, training: bool = False) -> LoadedModel:
    """Load the model of a source.

    Args:
        source: the source.
        training: keep the modes that the source leaves the submodules in, and draw initial weights
            by the seed. False sets a network to eval mode.

    Raises:
        ValueError, ImportError: as ``load_model``.
    """
    with seeded(source.seed) if training else nullcontext():
        opened = _open(source)
    model, normalization = _normalized(source, opened)
    if isinstance(model, nn.Module):
        if not training:
            model.eval()
        if source.device is not None:
            _move(model, source.device)
    return LoadedModel(
        model=model,
        name=source.name or source.default_name,
        source=source,
        input_shape=opened.input_shape,
        transform=opened.transform,
        class_names=opened.class_names,
        class_ids=opened.class_ids,
        outputs=opened.outputs,
        normalization=normalization,
    )


def is_run_folder(source: str) -> bool:
    """Return True if a source names an existing folder, which must be that of a training."""
    return source not in NETWORKS and ":" not in source and Path(source).is_dir()


def short_name(source: str) -> str | None:
    """Return the short name of a network that a source names, in any case, or None."""
    return same_name(source, NETWORKS)


def check_source(given: str) -> None:
    """Raise ValueError unless a text has the form of a source. Nothing is loaded."""
    library = given.partition("/")[0] in LIBRARIES and "/" in given
    known = library or ":" in given or given.endswith(".onnx") or is_run_folder(given)
    if not known and short_name(given) is None and same_name(given, PLUGINS.names()) is None:
        raise _unknown(given)


def _open(source: ModelSource) -> Opened:
    """Return the model of a source as it is, in the mode that its origin leaves it in."""
    given = source.source
    check_source(given)
    network = short_name(given)
    if network is not None:
        return _open_network(source, network)
    if source.prefix in LIBRARIES:
        return _opened_by(LIBRARIES[source.prefix], source)
    if given.endswith(".onnx"):
        return _opened_by(_ONNX, source)
    if ":" in given:
        model = resolve_factory(given, source.model_args, eval_mode=False)
        return _filled(source, model)
    if is_run_folder(given):
        return _opened_by(_TRAINING, source)
    return _open_plugin(source)


def _opened_by(module: str, source: ModelSource) -> Opened:
    opened: Opened = importlib.import_module(module).open_model(source)
    return opened


def _open_network(source: ModelSource, network: str) -> Opened:
    if source.weights is None and not source.untrained:
        raise ValueError(
            f"the network {network!r} has no weights of its own: give --weights FILE, or"
            " --untrained for weights drawn by the seed"
        )
    with seeded(source.seed):
        model = resolve_factory(
            f"art_ext.models:{NETWORKS[network]}", source.model_args, eval_mode=False
        )
    return replace(_filled(source, model), normalizes=True)


def _open_plugin(source: ModelSource) -> Opened:
    """Return the model of another package: what its factory makes, or an ``Opened``."""
    factory = PLUGINS.load(source.source)
    origin = f"{source.source} of {PLUGINS.origin(source.source)}"
    model = factory
    if isinstance(factory, type) or not isinstance(factory, (nn.Module, Opened)):
        if not callable(factory):
            raise ValueError(
                f"{origin} must name a function or class that makes the model, got an instance of"
                f" {type(factory).__name__}"
            )
        model = call_factory(factory, origin, source.model_args)
    if isinstance(model, Opened):
        return replace(model, model=_filled(source, model.model).model)
    return _filled(source, model)


def _filled(source: ModelSource, model: Any) -> Opened:
    """Return a model of a factory, with the weights of the source."""
    if source.weights is not None:
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"weights need an nn.Module, but {source.source!r} made a {type(model).__name__}"
            )
        model = with_weights(model, source)
    return Opened(model)


def _normalized(source: ModelSource, opened: Opened) -> tuple[Any, Normalization | None]:
    """Return the model with its normalisation in front, and the normalisation."""
    wanted = opened.normalization
    if source.normalize is not None:
        if opened.normalizes:
            raise ValueError(
                f"{source.source!r} normalises its inputs itself: --normalize does not apply"
            )
        wanted = read_normalization(source.normalize)
    if wanted is not None and opened.input_shape:
        wanted.check_channels(opened.input_shape[0])
    if wanted is None:
        return opened.model, None
    layer = None if wanted.is_identity else Normalize(wanted.mean, wanted.std)
    if isinstance(opened.model, nn.Module):
        return Preprocessed(opened.model, layer).train(opened.model.training), wanted
    return (opened.model if layer is None else _NormalizedCallable(opened.model, layer)), wanted


class _NormalizedCallable:
    """A callable that normalises its inputs first."""

    def __init__(self, model: Any, normalize: Normalize) -> None:
        self.__name__ = getattr(model, "__name__", type(model).__name__)
        self._model = model
        self._normalize = normalize

    def __call__(self, rows: Any) -> Any:
        return self._model(self._normalize.to(rows.device)(rows))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._model, name)


def _move(model: nn.Module, device: str) -> None:
    found = usable_device(device)
    try:
        model.to(found)
    except (RuntimeError, TypeError) as error:  # out of memory, or no such numbers there
        raise ValueError(f"the model cannot be moved to {device!r}: {error}") from error


def _unknown(given: str) -> ValueError:
    """Return the error for a source of no known form."""
    path = Path(given)
    if path.is_file():
        return ValueError(
            f"a model must be {FORMS}, got the file {given}: give weights as --weights {given}"
        )
    prefix = given.partition("/")[0]
    if "/" in given and not given.startswith((".", "/")):
        close = nearest(prefix, LIBRARIES, least=0.6)
        if close:
            return ValueError(f"a model must be {FORMS}, got {given!r}: unknown prefix{close}")
    known = [*NETWORKS, *PLUGINS.names()]
    return ValueError(f"a model must be {FORMS}, got {given!r}{nearest(given, known)}")
