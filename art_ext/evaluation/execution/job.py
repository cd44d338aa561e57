"""Work of a run as data."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from art_ext.core.oracle import Model
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset

if TYPE_CHECKING:
    from art_ext.evaluation.panel.attack import Attack, Settings


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides the results of a run.

    Attributes:
        models, data, panel, settings, mode, save_images: as in ``evaluate``, checked.
    """

    models: Mapping[str, Model]
    data: Dataset
    panel: Sequence[Attack]
    settings: Settings
    mode: str
    save_images: bool

    @cached_property
    def ids(self) -> Tensor:
        """(N,) fingerprints of the samples."""
        return fingerprint(self.data.x)

    @cached_property
    def attack_runs(self) -> list[tuple[str, Attack, tuple[float, ...]]]:
        """Model, attack and radii of each run of an attack, in their order."""
        return [
            (name, attack, radii)
            for name in self.models
            for attack in self.panel
            for radii in attack.radii_by_run(self.settings)
        ]


Rebuild = Callable[[], tuple[Mapping[str, Model], Dataset]]


@dataclass(frozen=True)
class Blueprint:
    """The names from which a worker builds the job of a run. It pickles without a model.

    Attributes:
        rebuild: function without arguments that returns models and data.
        panel, settings, mode, save_images: as in ``Job``.
        key: of the run, by which a worker keeps what it has built.
    """

    rebuild: Rebuild
    panel: Sequence[Attack]
    settings: Settings
    mode: str
    save_images: bool
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def job(self) -> Job:
        """Return the job.

        Raises:
            ValueError: if ``rebuild`` returns anything but models by name and a ``Dataset``.
        """
        built = self.rebuild()
        if not (
            isinstance(built, tuple)
            and len(built) == 2
            and isinstance(built[0], Mapping)
            and isinstance(built[1], Dataset)
        ):
            parts = built if isinstance(built, tuple) else (built,)
            raise ValueError(
                "the function that workers build by must return a mapping of names to models and a"
                f" Dataset, got {' and '.join(type(part).__name__ for part in parts) or 'nothing'}"
            )
        models, data = built
        return Job(models, data, self.panel, self.settings, self.mode, self.save_images)

    def check(self) -> None:
        """Raise ValueError unless other processes can load the blueprint."""
        try:
            pickle.dumps(self)
        except Exception as error:  # pickle raises errors of many kinds
            raise ValueError(
                "workers build models and data by themselves: rebuild and the attacks must be"
                f" functions of importable modules, but pickling them fails ({error})"
            ) from error
