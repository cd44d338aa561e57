"""Work of a run as data, the identity of models and data, and the observer of the progress."""

from __future__ import annotations

import hashlib
import pickle
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from art_ext.core.identity import bytes_of, digest_of_state
from art_ext.core.oracle import Model
from art_ext.data import Samples
from art_ext.evaluation.panel.resources import (
    NO_RESOURCES,
    GeneratorSource,
    Resources,
    resources_of,
)
from art_ext.models.factory import file_of_model
from art_ext.models.remote import RemoteClassifier, Usage

if TYPE_CHECKING:
    from art_ext.evaluation.execution.detection import Detection
    from art_ext.evaluation.execution.estimate import Estimate
    from art_ext.evaluation.execution.progress import RunState
    from art_ext.evaluation.panel.attack import Attack, Settings
    from art_ext.evaluation.panel.detectors import Planned


# errors of arguments, of the user's code and of the disk: another attempt would end with them too
FINAL_ERRORS = (ValueError, TypeError, ImportError, OSError)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides the results of a run.

    Attributes:
        models, data, panel, settings, mode, save_images: as in ``evaluate``, checked.
        detection: detectors of the models. None: there are none.
        resources: what attacks need besides model and samples.
        save_states: True keeps all states of attacks that draw several of a sample.
        picture: ``"pca"`` or ``"tsne"`` keeps those that the report shows. None: none.
    """

    models: Mapping[str, Model]
    data: Samples
    panel: Sequence[Attack]
    settings: Settings
    mode: str
    save_images: bool
    detection: Detection | None = None
    resources: Resources = NO_RESOURCES
    save_states: bool = False
    picture: str | None = None

    @cached_property
    def known_classes(self) -> int:
        """Number of classes that the data tell, for a model that returns labels only.

        Raises:
            ValueError: if targets need it and the data do not tell.
        """
        labels = self.data.labels
        known = len(self.data.class_names or ())
        if labels is not None:
            known = max(known, int(labels.max()) + 1)
        if not known and self.settings.targeted is not None:
            raise ValueError(
                "targets need the number of classes, which neither the model nor the data tell:"
                " give as_dataset(data, class_names=...)"
            )
        return known

    @cached_property
    def marks(self) -> tuple[int, ...]:
        """Numbers of queries at which an attack of the panel keeps distances, ascending."""
        return tuple(sorted({mark for attack in self.panel for mark in attack.marks}))

    @cached_property
    def chains(self) -> bool:
        """True if an attack of the panel draws several states of a sample."""
        return any(attack.chain for attack in self.panel)

    @cached_property
    def attack_runs(self) -> list[tuple[str, Attack, tuple[float, ...]]]:
        """Model, attack and radii of each run of an attack, in their order."""
        return [
            (name, attack, radii)
            for name in self.models
            for attack in self.panel
            if attack.models is None or name in attack.models
            for radii in attack.radii_by_run(self.settings)
        ]


Rebuild = Callable[[], tuple[Mapping[str, Model], Samples]]


@dataclass(frozen=True)
class Blueprint:
    """The names from which a worker builds the job of a run. It pickles without a model.

    Attributes:
        rebuild: function without arguments that returns models and data.
        panel, settings, mode, save_images: as in ``Job``.
        detectors: the detectors, without anything fitted.
        generator: of the run. None: it has none.
        save_states, picture: as in ``Job``.
        key: of the run, by which a worker keeps what it has built.
    """

    rebuild: Rebuild
    panel: Sequence[Attack]
    settings: Settings
    mode: str
    save_images: bool
    detectors: tuple[Planned, ...] = ()
    generator: GeneratorSource | None = None
    save_states: bool = False
    picture: str | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def job(self) -> Job:
        """Return the job, without the detectors.

        Raises:
            ValueError: if ``rebuild`` returns anything but models by name and a ``Dataset``.
        """
        built = self.rebuild()
        if not (
            isinstance(built, tuple)
            and len(built) == 2
            and isinstance(built[0], Mapping)
            and isinstance(built[1], Samples)
        ):
            parts = built if isinstance(built, tuple) else (built,)
            raise ValueError(
                "the function that workers build by must return a mapping of names to models and a"
                f" Dataset, got {' and '.join(type(part).__name__ for part in parts) or 'nothing'}"
            )
        models, data = built
        models = self.settings.expected(models)
        generator = None if self.generator is None else self.generator.load()
        resources = resources_of(generator, data)
        return Job(
            models,
            data,
            self.panel,
            self.settings,
            self.mode,
            self.save_images,
            resources=resources,
            save_states=self.save_states,
            picture=self.picture,
        )

    def pickled(self, script: bool = True) -> bytes:
        """Return the blueprint for other processes.

        Args:
            script: True if they load the script of this process too.

        Raises:
            ValueError: unless they can load it.
        """
        return pickled(self, script)


def pickled(content: object, script: bool = True) -> bytes:
    """Return what a worker builds a run from for other processes, as ``Blueprint.pickled``."""
    try:
        found = pickle.dumps(content)
        if b"__main__" in found and not script:
            raise TypeError("a function of the script itself is in no module")
    except Exception as error:  # pickle raises errors of many kinds
        raise ValueError(
            "workers build models and data by themselves: rebuild and the attacks must be"
            f" functions of importable modules, but pickling them fails ({error})"
        ) from error
    return found


@dataclass(frozen=True)
class Ended:
    """The end of a chunk in a worker.

    Attributes:
        number: of the chunk.
        host: of the worker. Empty if the worker died.
        robust: by model, the number of its samples, and of those without a success within the
            largest eps.
        error: message, None without an error.
        final: True if another attempt would end with the same error.
        trace: traceback of the error.
        stopped: True if the model gives no further answers. ``error`` is its message.
        process: number of the worker's process on its host.
        usage: of the services, by this process so far.
    """

    number: int
    host: str
    robust: Mapping[str, tuple[int, int]]
    error: str | None = None
    final: bool = False
    trace: str = ""
    stopped: bool = False
    process: int = 0
    usage: Usage = field(default_factory=Usage)


def identity_of_model(model: Model) -> dict[str, Any]:
    """Class of a model, and a digest of its parameters and buffers (None for a callable)."""
    if isinstance(model, RemoteClassifier):
        return {"class": model.log.name, "state": None}
    if not isinstance(model, nn.Module):
        name = getattr(model, "__name__", type(model).__name__)
        return {"class": name, "state": getattr(model, "digest", None)}
    known = getattr(model, "identity", {"class": type(model).__name__})
    return {**known, "state": digest_of_state(model)}


def identity_of_job(job: Job) -> dict[str, Any]:
    """Digests of the models, by their names, of the data and of the resources of a run."""
    return {
        "models": {name: identity_of_model(model) for name, model in job.models.items()},
        "data": job.data.identity,
        **identity_of_resources(job.resources),
    }


def identity_of_resources(resources: Resources) -> dict[str, Any]:
    """Digests of the generator of a run, and of the latents of its data. Empty without them."""
    found: dict[str, Any] = {}
    if resources.generator is not None:
        found["generator"] = identity_of_model(resources.generator)
    if resources.latents is not None:
        found["latents"] = hashlib.sha256(bytes_of(resources.latents)).hexdigest()
    return found


def files_of_models(job: Job) -> dict[str, str]:
    """Digests of the files whose factories made models, by the names of the models.

    The file of a service is left out. A larger limit in it must not stop a run from going on.
    """
    files = {
        name: None if isinstance(model, RemoteClassifier) else file_of_model(model)
        for name, model in job.models.items()
    }
    return {name: digest for name, digest in files.items() if digest is not None}


class Watcher:
    """Observer of an evaluation. This base class does nothing."""

    def training(self, model: str, samples: int) -> None:
        """Start of the training of a model, in the demonstration."""

    def clean(self, model: str, accuracy: float) -> None:
        """Clean accuracy of a model on this process's samples."""

    def note(self, text: str) -> None:
        """Line on an option that a run takes otherwise than one may expect, before it begins."""

    def planned(self, estimate: Estimate) -> None:
        """Rows and time that the run takes at most, before its first attack."""

    def run(self, state: RunState) -> None:
        """Progress of the whole run, and the time that is left."""

    def service(self, model: str, rows: int | None, cost: float | None) -> None:
        """Largest number of rows that a service is sent, and their cost, before the first one.

        None if an attack of the panel has no bound.
        """

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        """Start of an attack on a chunk. ``samples`` is the number of all chunks together."""

    def progress(self, done: float, robust: float) -> None:
        """Progress of an attack.

        Args:
            done: finished samples. An unfinished one counts by the used fraction of its budget.
            robust: fraction, of the samples of all chunks that have begun, without a success so
                far. In a chunk it starts at the clean accuracy, in a cascade at the robust accuracy
                after the earlier attacks, and falls.
        """

    def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
        """Progress of workers.

        Args:
            done: chunks that are finished.
            total: chunks to do.
            robust: by model, the fraction of their samples that is classified correctly and without
                a success within the largest eps.
        """

    def units(self, done: int, total: int) -> None:
        """Progress of the units of a run on limits besides its attacks, or of transfers."""
