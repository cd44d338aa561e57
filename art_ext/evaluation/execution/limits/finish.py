"""End of a run on limits: its results from its folder, and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from art_ext.data import Samples
from art_ext.evaluation.analysis.bounding import LimitsRecords, limits_of
from art_ext.evaluation.analysis.limits import Limits
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.execution.limits.plan import LimitsUnit, constants_of, risks_of
from art_ext.evaluation.execution.limits.settings import LimitsSettings
from art_ext.evaluation.panel.resources import GeneratorSource
from art_ext.storage.chunks import name_of
from art_ext.storage.evaluation import RunFolder, open_run
from art_ext.storage.limits import LimitsFolder

NOT_RUN = ("BigGAN on ImageNet10", "LP-certify")


def facts_of_run(
    source: GeneratorSource,
    generator: Any,
    data: Samples,
    settings: LimitsSettings,
    alpha: float | None,
) -> dict[str, Any]:
    """Return the facts of a run for its page."""
    return {
        "generator": {
            "name": source.name,
            "classes": generator.num_classes,
            "latent_dim": generator.latent_dim,
            "quality": _quality(source),
        },
        "data": {"name": data.name, "samples": len(data)},
        "class_names": None if data.class_names is None else list(data.class_names),
        "radius": settings.radius,
        "delta": settings.delta,
        "alpha": alpha,
        "seed": settings.seed,
        "lipschitz_units": settings.lipschitz_units,
        "not_run": list(NOT_RUN),
    }


def _quality(source: GeneratorSource) -> dict[str, Any] | None:
    """Return the measured quality of a generator that art-ext trained, None of another one."""
    from art_ext.storage.generators import read_quality
    from art_ext.storage.store import LocalStore

    folder = Path(source.name)
    if source.generator is not None or not folder.is_dir():
        return None
    return read_quality(LocalStore(folder))


def finish(
    folder: LimitsFolder,
    units: Sequence[LimitsUnit],
    settings: LimitsSettings,
    alpha: float | None,
    paths: Mapping[str, tuple[str, int]],
    facts: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Limits:
    """Compute the results from the folder, and write them and the page."""
    from art_ext.evaluation.report.limits import pictures_of, write_limits_report

    with folder.locked():
        attacks = load_run(folder.attacks)
        risks, expansions = risks_of(folder, units)
        found = limits_of(
            LimitsRecords(
                blocks=attacks.blocks,
                run=attacks.run,
                starts=_starts(open_run(folder.attacks)),
                lipschitz=constants_of(folder, units),
                risks=risks,
                delta=settings.delta,
                radius=settings.radius,
                priors=settings.priors,
                alpha=alpha,
                paths=paths,
                facts={
                    **facts,
                    "protocol": attacks.run["protocol"],
                    "versions": attacks.run["versions"],
                },
                expansions=expansions,
            )
        )
        write_limits_report(folder.place, found, arguments, pictures_of(attacks, found))
        folder.finish()
    return found


def _starts(run: RunFolder) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return by model and attack the distances of the best starts, and the generator's rows.

    Both are (N,) by position, NaN for samples that were not attacked.
    """
    count = run.run["data"]["samples"]
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for number in range(len(run.chunks)):
        kept = run.files.facts(number)
        for unit in run.units_of(number):
            facts = kept.get(name_of(unit.place)) or {}
            if "starts" not in facts:
                continue
            own = found.setdefault(unit.model, {})
            nothing = (np.full(count, np.nan), np.full(count, np.nan))
            distance, rows = own.setdefault(unit.attack, nothing)
            told = facts["starts"]
            distance[told["rows"]] = [np.nan if one is None else one for one in told["distance"]]
            rows[told["rows"]] = told["generator_rows"]
    return found
