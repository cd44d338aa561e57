"""Models of an evaluation: sources, loaded models, networks, callables and estimators."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.core.oracle import Model
from art_ext.core.outputs import find_scores
from art_ext.data import ModelFacts, Samples, Transform, as_dataset, load_data
from art_ext.data.objects import Data
from art_ext.models.remote import RemoteClassifier
from art_ext.models.sources import LoadedModel, ModelSource, load_source

logger = logging.getLogger("art_ext")


class Estimator(Protocol):
    """An estimator of ART or scikit-learn."""

    def predict(self, x: Any, /) -> Any:
        """Return scores or classes."""


AnyModel = (
    Model | Callable[..., object] | str | os.PathLike[str] | ModelSource | LoadedModel | Estimator
)
Models = AnyModel | Sequence[AnyModel] | Mapping[str, AnyModel]
AnyData = str | os.PathLike[str] | Data


def resolve_models(
    models: Models, *, data: str = "", norm: str = "linf", device: str | None = None
) -> dict[str, Any]:
    """Return models by name, with sources loaded.

    Args:
        models: one model or source, several in a list, or several by name.
        data, norm: data set and norm of the run, for sources that need them.
        device: device of the models that are loaded.

    Raises:
        ValueError, ImportError: as ``load_model``.
    """

    def load(model: Any) -> Any:
        if isinstance(model, str | os.PathLike):
            model = ModelSource(os.fspath(model), device=device)
        return load_source(model.for_run(data, norm)) if isinstance(model, ModelSource) else model

    if isinstance(models, Mapping):
        return {name: load(model) for name, model in models.items()}
    every = [load(model) for model in (models if isinstance(models, list | tuple) else [models])]
    return dict(zip(distinct(_name(model) for model in every), every, strict=True))


def data_name(data: Any) -> str:
    """Return the name or path of data, or an empty text."""
    return os.fspath(data) if isinstance(data, str | os.PathLike) else getattr(data, "name", "")


def samples_of(data: AnyData, models: Mapping[str, Any], split: str = "test") -> Samples:
    """Return data of any kind as a data set. Images by name are resized as the models declare.

    Args:
        data: a name or path as ``load_data`` takes it, or data as ``as_dataset`` takes them.
        models: as ``resolve_models`` returns them.
        split: part of data that are given by name or path.
    """
    if isinstance(data, str | os.PathLike):
        return load_data(data, split=split, model=facts_of(models))
    return as_dataset(data)


def rebuild_of(
    models: Models, data: AnyData, *, device: str | None, norm: str
) -> Callable[[], tuple[Mapping[str, Model], Samples]] | None:
    """Return the function by which a worker builds models and data, or None for live ones."""
    values = list(models.values()) if isinstance(models, Mapping) else models
    every = values if isinstance(values, list | tuple) else [values]
    named = all(isinstance(one, str | os.PathLike | ModelSource) for one in every)
    if not named or not isinstance(data, str | os.PathLike):
        return None
    return partial(_rebuilt, models, os.fspath(data), device, norm)


def _rebuilt(
    models: Models, data: str, device: str | None, norm: str
) -> tuple[Mapping[str, Model], Samples]:
    loaded = resolve_models(models, data=data, norm=norm, device=device)
    return {name: callable_model(model) for name, model in loaded.items()}, samples_of(data, loaded)


def _name(model: Any) -> str:
    return model.name if isinstance(model, LoadedModel) else "model"


def distinct(names: Any) -> list[str]:
    """Return the names, with -2, -3 and so on at those that occurred before."""
    found: list[str] = []
    for name in names:
        number = 1
        while (one := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found.append(one)
    return found


def callable_model(model: Any) -> Model:
    """Return a model that the oracles can call.

    An ART estimator is called through ``EstimatorModel``, a scikit-learn estimator through
    ``predict_proba``. Of another callable the first call decides if it takes tensors or arrays.

    Raises:
        ValueError: for an object of another kind.
    """
    model = model.model if isinstance(model, LoadedModel) else model
    if isinstance(model, nn.Module) or type(model).__module__.startswith("art_ext."):
        return model
    if _is_art_estimator(model):
        return _art_model(model)
    if hasattr(model, "predict_proba"):
        return ScikitModel(model)
    if callable(model):
        return ArrayOrTensor(model)
    raise ValueError(
        "a model must be an nn.Module, a callable, a source such as 'timm/resnet18', or an"
        f" estimator of ART or scikit-learn with predict_proba, got {type(model).__name__}"
    )


def common_outputs(given: str | None, models: Mapping[str, Any]) -> str:
    """Return the kind of the outputs of a run.

    Args:
        given: by the caller. None: what the models declare.
        models: as ``resolve_models`` returns them.

    Raises:
        ValueError: if models declare different kinds.
    """
    if given is not None:
        return given
    kinds = {name: _outputs_of(model) for name, model in models.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise ValueError(f"models of one run must return the same kind of outputs, got {told}")
    return next(iter(kinds.values()), "logits")


def _outputs_of(model: Any) -> str:
    if isinstance(model, LoadedModel) and model.outputs != "logits":
        return model.outputs
    found: Any = callable_model(model)
    return str(found.outputs) if isinstance(found, RemoteClassifier | ScikitModel) else "logits"


def common_transform(models: Mapping[str, Any]) -> Transform | None:
    """Return the resizing and cropping before models, or None if none declares any.

    Raises:
        ValueError: if models take images of different sizes.
    """
    known = {
        name: model.transform
        for name, model in models.items()
        if isinstance(model, LoadedModel) and model.transform is not None
    }
    sizes = {name: transform.shape for name, transform in known.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
        raise ValueError(
            f"models of one run must take images of one size, got {told}: give --resize and --crop,"
            " or evaluate them in runs of their own"
        )
    if len(set(known.values())) > 1:
        first = next(iter(known))
        logger.warning(
            "the models differ in how they resize images. All get those of %s: %s. --resize and"
            " --crop decide",
            first,
            known[first],
        )
    return next(iter(known.values()), None)


def facts_of(models: Mapping[str, Any], sized: bool = False) -> ModelFacts:
    """Return what the data of a run depend on: classes of the first model that names them.

    Args:
        models: as ``resolve_models`` returns them.
        sized: True if the caller gave the size of the images.

    Raises:
        ValueError: if models take images of different sizes, and the caller gave none.
    """
    transform = None if sized else common_transform(models)
    for model in models.values():
        if isinstance(model, LoadedModel) and (model.class_ids or model.class_names):
            return replace(model.facts, transform=transform)
    return ModelFacts(transform=transform)


def _size(size: Sequence[int] | None) -> str:
    return "any size" if size is None else "x".join(map(str, size))


def check_shapes(models: Mapping[str, Any], shape: Sequence[int], sized: bool = False) -> None:
    """Raise ValueError unless the samples have the shape that the models declare.

    Args:
        models: as ``resolve_models`` returns them.
        shape: of a sample.
        sized: True if the caller gave the size of the images. Only channels are compared then.
    """
    for name, model in models.items():
        if not isinstance(model, LoadedModel):
            continue
        wanted = model.input_shape
        if wanted is not None and tuple(wanted) != tuple(shape):
            same_channels = len(shape) == len(wanted) and wanted[0] == shape[0]
            if not (sized and same_channels):
                raise ValueError(
                    f"the model {name} takes samples of shape {tuple(wanted)}, the data have"
                    f" {tuple(shape)}: give images of that size, or a folder of images, which are"
                    " resized and cropped, or tell the size of a network that was trained on others"
                    " by model_args input_size=(C,H,W)"
                )
        if model.normalization is not None and len(shape) == 3:
            model.normalization.check_channels(shape[0])


def check_gradients(models: Mapping[str, Model], attacks: Mapping[str, str]) -> None:
    """Raise ValueError if an attack needs gradients of a model that has none.

    Args:
        models: models to attack, by name.
        attacks: by name, the answers that each attack needs.
    """
    needed = next((name for name, access in attacks.items() if access == "gradients"), None)
    for name, model in models.items():
        if needed is not None and not getattr(model, "gives_gradients", True):
            raise ValueError(
                f"{needed} needs gradients, which the model {name} does not have: choose attacks"
                " that need labels or scores, such as rays or the panel black-box"
            )


def check_box(models: Mapping[str, Model], clip_values: tuple[float, float]) -> None:
    """Raise ValueError if an ART estimator has another box than the run."""
    for name, model in models.items():
        own = getattr(getattr(model, "estimator", None), "clip_values", None)
        if own is not None and tuple(map(float, own)) != tuple(map(float, clip_values)):
            raise ValueError(
                f"the estimator {name} takes inputs in {tuple(map(float, own))}, but clip_values"
                f" are {tuple(clip_values)}: give the same box"
            )


def model_facts(
    models: Mapping[str, Any], transform: Transform | None
) -> dict[str, dict[str, Any]]:
    """Return source and preprocessing of each loaded model, for ``run.json``.

    Args:
        models: as ``resolve_models`` returns them.
        transform: of the data.
    """
    return {
        name: {"source": model.source.source, "preprocessing": model.preprocessing(transform)}
        for name, model in models.items()
        if isinstance(model, LoadedModel)
    }


def class_names_of(models: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes that the first model with names has."""
    known = (model.class_names for model in models.values() if isinstance(model, LoadedModel))
    return next((names for names in known if names), None)


class ScikitModel:
    """Probabilities of a scikit-learn estimator for rows (R, *S), which are flattened.

    Its classes are class indices. A class that it has not seen gets probability 0.
    """

    outputs = "probabilities"
    gives_gradients = False

    def __init__(self, estimator: Any) -> None:
        self.__name__ = type(estimator).__name__
        self._estimator = estimator
        classes = np.asarray(getattr(estimator, "classes_", ()))
        self._columns = None
        if classes.dtype.kind in "iu" and not np.array_equal(classes, np.arange(len(classes))):
            self._columns = torch.from_numpy(classes.astype(np.int64))

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (R, classes) probabilities."""
        arrays = rows.detach().flatten(1).cpu().numpy()
        found = torch.from_numpy(np.array(self._estimator.predict_proba(arrays)))
        if self._columns is not None:
            width = int(self._columns.max()) + 1
            found = found.new_zeros(len(found), width).index_copy_(1, self._columns, found)
        return found.to(rows.device)


class ArrayOrTensor:
    """A callable of tensors or of NumPy arrays. Its first call decides."""

    def __init__(self, model: Any) -> None:
        self.__name__ = getattr(model, "__name__", type(model).__name__)
        self._model = model
        self._takes_arrays: bool | None = None

    def __call__(self, rows: Tensor) -> Any:
        """Return the outputs for rows (R, *S)."""
        if self._takes_arrays is None:
            return self._decide(rows)
        return self._of_arrays(rows) if self._takes_arrays else self._model(rows)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._model, name)

    def _decide(self, rows: Tensor) -> Any:
        try:
            outputs = self._model(rows.clone())  # a model may work in place on what it is given
        except torch.OutOfMemoryError:
            raise
        except (TypeError, AttributeError, ValueError, RuntimeError):
            try:
                outputs = self._of_arrays(rows)
            except Exception:
                outputs = None
            if not isinstance(outputs, Tensor):
                raise
            self._takes_arrays = True
            logger.info("the model %s takes NumPy arrays", self.__name__)
            return outputs
        self._takes_arrays = False
        return outputs

    def _of_arrays(self, rows: Tensor) -> Any:
        outputs = self._model(rows.detach().cpu().numpy())
        scores = find_scores(outputs, len(rows))
        return outputs if scores is None else scores.to(rows.device)


def _is_art_estimator(model: object) -> bool:
    return any(kind.__module__.startswith("art.estimators.") for kind in type(model).__mro__)


def _art_model(estimator: Any) -> Model:
    from art_ext.attacks.estimator import EstimatorModel, check_scores

    check_scores(estimator)
    return EstimatorModel(estimator).eval()
