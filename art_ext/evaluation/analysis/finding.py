"""One finding of a run as data: a warning that its numbers may be wrong, or an info."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

LEVELS = ("warning", "info")


@dataclass(frozen=True)
class Finding:
    """A warning that numbers of the run may be wrong, or an info that helps to read them.

    Attributes:
        kind: ``"chance-level"``, ``"classes"``, ``"falsely-robust"``, ``"missed-by-gradients"``,
            ``"randomised"``, ``"batch-dependent"``, ``"probabilities"``, ``"zero-gradients"``,
            ``"gradients-not-finite"``,
            ``"range"``, ``"training-mode"``, ``"eps-unit"``, ``"few-iterations"``,
            ``"outside"``, ``"model-changed"``, ``"not-attacked"``, ``"not-checked"``,
            ``"deterministic"``,
            ``"autoattack:<flag>"`` or, of detectors, heads and members,
            ``"no-adaptive-attack"``, ``"few-calibration-images"``, ``"calibrated-on-attacked"``,
            ``"false-positive-rate"``, ``"aware-weaker"`` or ``"few-transfer-images"``.
        model: the model that it concerns. Empty if it concerns the data or the settings, and so all
            models.
        attack: the attack that it concerns, if it is one attack.
        eps: radius, if it depends on one.
        message: finding and remedy, for people.
        indices: positions in the data set of the samples concerned, ascending. Empty if it concerns
            no particular samples.
        ids: their 64-bit fingerprints, in the same order.
        count: number of samples with the finding, out of ``samples``. Both are 0 if nothing is
            counted.
        samples: number of samples examined.
        interval: Wilson interval at 95 % of count / samples, or None if nothing is counted.
        level: ``"warning"``, or ``"info"`` for a finding that is expected on sound models too.
    """

    kind: str
    model: str
    attack: str | None
    eps: float | None
    message: str
    indices: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    count: int = 0
    samples: int = 0
    interval: tuple[float, float] | None = None
    level: str = "warning"

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Finding:
        """Return a finding from its ``asdict``, also after a JSON round trip.

        Runs of earlier versions have no level. All their findings are warnings.
        """
        interval = plain["interval"]
        return Finding(
            **{
                **plain,
                "indices": tuple(plain["indices"]),
                "ids": tuple(plain["ids"]),
                "interval": None if interval is None else (interval[0], interval[1]),
            }
        )

    @property
    def line(self) -> str:
        """Level, model and message in one line."""
        subject = f"{self.model}: " if self.model else ""
        return f"{self.level}: {subject}{self.message}"


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Return findings with the warnings first, otherwise in the given order."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def to_json(found: Iterable[Finding]) -> str:
    """Content of ``warnings.json``: a list of objects with the attributes of :class:`Finding`."""
    return (
        json.dumps(
            [asdict(finding) for finding in found], indent=2, ensure_ascii=False, allow_nan=False
        )
        + "\n"
    )
