"""Description of a run for ``run.json``: identity, settings, protocol, versions and plan."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from art_ext import __version__
from art_ext.evaluation.execution.identity import identity_of_job
from art_ext.evaluation.execution.job import Job
from art_ext.evaluation.execution.protocol import protocol
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.storage.units import plan


def describe(job: Job, arguments: Mapping[str, Any], panel: str, chunk_size: int) -> dict[str, Any]:
    """Content of ``run.json`` before the run."""
    attack_runs = [(name, attack.name, radii) for name, attack, radii in job.attack_runs]
    return {
        "arguments": dict(arguments),
        "identity": {**identity_of_job(job), **_own_attacks(job), "art-ext": __version__},
        "settings": asdict(job.settings),
        "panel": {"name": panel, "mode": job.mode},
        "data": {
            "name": job.data.name,
            "samples": len(job.data),
            "shape": list(job.data.x.shape[1:]),
            "class_names": job.data.class_names and list(job.data.class_names),
        },
        "attacks": {
            attack.name: {
                "nearest": attack.nearest,
                "stops_early": attack.stops_early,
                "minimises": attack.minimises,
                "access": attack.access,
                "arguments": dict(attack.arguments),
                **_tanh_iterations(attack, job.settings),
            }
            for attack in job.panel
        },
        "protocol": protocol(job.data, job.panel, job.settings, job.mode),
        "versions": _versions(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "plan": plan(len(job.data), chunk_size, attack_runs),
    }


def _own_attacks(job: Job) -> dict[str, Any]:
    """Return digests of the files of the user's own attacks, by their names, if there are."""
    digests = {attack.name: attack.digest for attack in job.panel if attack.digest}
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
