"""The work of a run as data, and its description for ``run.json``."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib import metadata
from typing import Any

from torch import Tensor

from art_ext import __version__
from art_ext.core.oracle import Model
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset
from art_ext.evaluation.execution.identity import identity_of_data, identity_of_model
from art_ext.evaluation.execution.protocol import protocol
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.storage.evaluation import plan


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

    def describe(self, arguments: Mapping[str, Any], panel: str, chunk_size: int) -> dict[str, Any]:
        """Content of ``run.json`` before the run."""
        attack_runs = [(name, attack.name, radii) for name, attack, radii in self.attack_runs]
        return {
            "arguments": dict(arguments),
            "identity": {
                "models": {name: identity_of_model(model) for name, model in self.models.items()},
                "data": identity_of_data(self.ids, self.data.y),
                **self._own_attacks(),
                "art-ext": __version__,
            },
            "settings": asdict(self.settings),
            "panel": {"name": panel, "mode": self.mode},
            "data": {
                "name": self.data.name,
                "samples": len(self.data),
                "shape": list(self.data.x.shape[1:]),
                "class_names": self.data.class_names and list(self.data.class_names),
            },
            "attacks": {
                attack.name: {
                    "nearest": attack.nearest,
                    "stops_early": attack.stops_early,
                    "minimises": attack.minimises,
                    "access": attack.access,
                    "arguments": dict(attack.arguments),
                    **_tanh_iterations(attack, self.settings),
                }
                for attack in self.panel
            },
            "protocol": protocol(self.data, self.panel, self.settings, self.mode),
            "versions": _versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "plan": plan(len(self.data), chunk_size, attack_runs),
        }

    def _own_attacks(self) -> dict[str, Any]:
        """Return digests of the files of the user's own attacks, by their names, if there are."""
        digests = {attack.name: attack.digest for attack in self.panel if attack.digest}
        return {"attacks": digests} if digests else {}


def _tanh_iterations(attack: Attack, settings: Settings) -> dict[str, int]:
    """Entry of ``run.json`` for an attack in tanh space. Empty for others."""
    most = attack.tanh_iterations(settings)
    return {} if most is None else {"tanh_iterations": most}


def _versions() -> dict[str, str]:
    """Versions of the software."""
    versions = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in ("art-ext", "torch", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            versions[name] = "unknown"
    return versions
