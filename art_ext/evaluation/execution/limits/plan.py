"""Plan of the units besides the attacks, and what they have left in the run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.evaluation.analysis.limits import ExpansionRow, LipschitzRow
from art_ext.evaluation.analysis.risks import RiskCounts
from art_ext.evaluation.execution.limits.settings import LimitsSettings
from art_ext.storage.limits import LIPSCHITZ, RISKS, LimitsFolder


@dataclass(frozen=True)
class LimitsUnit:
    """One unit of work: the constant of a class by one estimator, or the risk of a model.

    Attributes:
        file: in the run folder.
        title: in messages.
        estimator: of the constant. Empty for a risk.
        label: the class. -1 for a risk.
        model: name of the model. Empty for a constant.
    """

    file: str
    title: str
    estimator: str = ""
    label: int = -1
    model: str = ""


def units_of(settings: LimitsSettings, classes: int, models: Sequence[str]) -> list[LimitsUnit]:
    """Return the units of a run, in their order."""
    risks = [
        LimitsUnit(f"{RISKS}/{number:05d}.json", f"risk of {name}", model=name)
        for number, name in enumerate(models)
    ]
    constants = [
        LimitsUnit(
            f"{LIPSCHITZ}/{estimator}-{label:05d}.json",
            f"{estimator} Lipschitz constant of class {label}",
            estimator,
            label,
        )
        for estimator in settings.estimators
        for label in range(classes)
    ]
    return [*risks, *constants]


def constants_of(folder: LimitsFolder, units: Sequence[LimitsUnit]) -> list[LipschitzRow]:
    """Return the constants of the units that have ended."""
    constants = [unit for unit in units if unit.estimator]
    return [_row(content) for content in _contents(folder, constants)]


def _contents(folder: LimitsFolder, units: Sequence[LimitsUnit]) -> Iterator[dict[str, Any]]:
    """Yield the contents of the units that have ended."""
    for unit in units:
        content = folder.read(unit.file)
        if content is not None:
            yield content


def _row(content: Mapping[str, Any]) -> LipschitzRow:
    notes = []
    if content["is_largest"]:
        notes.append("The value is the largest local constant, because delta * S is below 1.")
    if content["differentiation"] == "double backward":
        notes.append("By double backward, because torch.func cannot run the generator.")
    return LipschitzRow(
        estimator=content["estimator"],
        label=content["label"],
        value=content["value"],
        deviation=math.nan if content["deviation"] is None else content["deviation"],
        largest=max(max(one) for one in content["local"]),
        num_latents=content["num_latents"],
        num_neighbours=content["num_neighbours"],
        repeats=len(content["repeats"]),
        rows=content["rows"],
        seconds=content["seconds"],
        note=" ".join(notes),
    )


def risks_of(
    folder: LimitsFolder, units: Sequence[LimitsUnit]
) -> tuple[dict[str, RiskCounts], list[ExpansionRow]]:
    """Return the risks of the units that have ended, by model, and the expansions of the errors."""
    risks: dict[str, RiskCounts] = {}
    expansions: list[ExpansionRow] = []
    for content in _contents(folder, [unit for unit in units if unit.model]):
        model = content["model"]
        risks[model] = RiskCounts(tuple(content["wrong"]), tuple(content["samples"]))
        expansions += [ExpansionRow(model=model, **one) for one in content.get("expansion", ())]
    return risks, expansions
