"""Sources of models, which pickle, and the models that are loaded from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from art_ext.core.checks import check_choice
from art_ext.data.request import ModelFacts
from art_ext.data.transform import Transform
from art_ext.models.sources.normalization import Normalization, read_normalization
from art_ext.storage.training import CHECKPOINT_NAME

CHECKPOINTS = ("best", "final")
Network = nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ModelSource:
    """Everything by which a process loads a model. It holds names and numbers only.

    Attributes:
        source: name of the model, as ``load_model`` takes it.
        model_args: arguments of the factory or of the library. Texts are read as Python literals.
        weights: checkpoint file, in place of pretrained weights.
        normalize: mean and standard deviation, in place of the source's own.
        name: name in reports. None: ``default_name``.
        checkpoint: weights of a training's run folder: ``"best"``, ``"final"``, or the name of a
            checkpoint that it keeps, such as ``"update-000000120"``.
        trust_checkpoint: unpickle checkpoints that hold more than tensors. This runs code in them.
        device: device of the model. None: where it is made.
        untrained: draw the initial weights by the seed, without pretrained weights.
        seed: seed of the initial weights.
    """

    source: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    normalize: str | Normalization | None = None
    name: str | None = None
    checkpoint: str = "best"
    trust_checkpoint: bool = False
    device: str | None = None
    untrained: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.checkpoint.startswith(CHECKPOINT_NAME):
            check_choice("checkpoint", self.checkpoint, CHECKPOINTS)
        if self.name is not None and not self.name.strip():
            raise ValueError("name must hold at least one letter, got an empty text")
        if self.untrained and self.weights is not None:
            raise ValueError("untrained and weights exclude each other")
        if self.normalize is not None:
            read_normalization(self.normalize)

    @property
    def prefix(self) -> str:
        """Name of the library before the first slash, or an empty text."""
        return self.source.partition("/")[0] if "/" in self.source else ""

    @property
    def rest(self) -> str:
        """Part after the first slash."""
        return self.source.partition("/")[2]

    @property
    def default_name(self) -> str:
        """Name of the weights' file without ending, or the last part of the source.

        A factory called ``build`` or ``create_model`` takes the argument ``model_name``, or the
        name of its file.
        """
        if self.weights is not None:
            return Path(self.weights).stem
        location, colon, factory = self.source.rpartition(":")
        if colon and factory in ("build", "create_model"):
            file = Path(location).stem if location.endswith(".py") else location.rpartition(".")[2]
            return str(self.model_args.get("model_name", file))
        if colon:
            return factory.rpartition("/")[2]
        path = Path(self.source)
        return path.stem if path.suffix == ".onnx" else path.resolve().name

    def for_run(self, data: str, norm: str) -> ModelSource:
        """Return the source with arguments that a run decides: data set and norm of RobustBench."""
        if self.prefix != "robustbench":
            return self
        threat = {"linf": "Linf", "l2": "L2"}.get(norm, norm)
        known = {"dataset": data.partition(":")[0], "threat_model": threat}
        return replace(self, model_args={**known, **self.model_args})


@dataclass(frozen=True, eq=False)
class Opened:
    """A model as its library gives it, with the library's preprocessing.

    Attributes:
        model: a network in the mode that its library leaves it in, or another callable.
        normalization: mean and standard deviation of its inputs. None: it takes pixels in [0, 1].
        input_shape: shape (C, H, W) of a sample. None: not known.
        transform: resizing and cropping of images before it.
        class_names: names of its classes.
        class_ids: further identifiers of its classes, such as WordNet's.
        outputs: what it returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        normalizes: True if a normalisation is a part of the network, which no other may replace.
    """

    model: Any
    normalization: Normalization | None = None
    input_shape: tuple[int, ...] | None = None
    transform: Transform | None = None
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None
    outputs: str = "logits"
    normalizes: bool = False


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its preprocessing.

    Attributes:
        model: from pixels in [0, 1] to class scores. The normalisation is its first layer.
        name: name in reports.
        source: the source that it was loaded from.
        input_shape: shape (C, H, W) of a sample. None: not known.
        transform: resizing and cropping of images before it. None: not known.
        class_names: names of its classes. None: not known.
        class_ids: further identifiers of its classes, such as WordNet's.
        outputs: what it returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        normalization: mean and standard deviation that the source or the caller names. None:
            pixels reach the network as they are, or it normalises them itself.
    """

    model: Any
    name: str
    source: ModelSource
    input_shape: tuple[int, ...] | None = None
    transform: Transform | None = None
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None
    outputs: str = "logits"
    normalization: Normalization | None = None

    @property
    def facts(self) -> ModelFacts:
        """Facts on which its data depend: classes and transform."""
        return ModelFacts(self.class_ids or (), self.class_names or (), self.transform)

    def preprocessing(self, transform: Transform | None) -> str:
        """Describe resizing, cropping and normalisation of images, such as a protocol states them.

        Args:
            transform: of the data that the model gets. None: they are taken as they are.
        """
        steps = [] if transform is None else [str(transform)]
        if self.normalization is not None:
            steps.append(f"normalised by {self.normalization}")
        return ", ".join(steps) or "none"
