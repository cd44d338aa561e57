"""Format versions of everything that a folder holds, and the policy of reading older ones.

The policy: a version of art-ext writes one format of each kind and reads those of its list. A
folder of any other format raises one error that says what to do. A format is added to the list only
with code that gives each of its values the present meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Format:
    """Versions of one kind of content.

    Attributes:
        kind: its name in messages.
        written: version that is written.
        readable: versions that are read.
        advice: action that replaces content that cannot be read.
        unstated: version of content that states none. None if every version states it.
    """

    kind: str
    written: int
    readable: tuple[int, ...]
    advice: str
    unstated: int | None = None

    def check(self, place: Path, manifest: Mapping[str, Any]) -> None:
        """Raise ValueError unless content of this format is read.

        Args:
            place: folder that is named in the message.
            manifest: content of the file that states the format.
        """
        found = self.of(manifest)
        if self.reads(found):
            return
        later = type(found) is int and found > self.written
        cause = f"{_writer(manifest)} wrote it, so install that version or " if later else ""
        raise ValueError(
            f"{place} holds a {self.kind} of format {found}, wanted {self.wanted}:"
            f" {cause}{self.advice}"
        )

    def reads(self, version: Any) -> bool:
        """Return True if content of a version is read."""
        return type(version) is int and version in self.readable

    @property
    def wanted(self) -> str:
        """The versions that are read, for messages."""
        *first, last = map(str, self.readable)
        return f"{', '.join(first)} or {last}" if first else last

    def of(self, manifest: Mapping[str, Any]) -> Any:
        """Return the version that a manifest states."""
        return manifest.get("format", self.unstated)


def _writer(manifest: Mapping[str, Any]) -> str:
    """Return the version of art-ext that a manifest states."""
    versions = manifest.get("versions")
    stated = versions.get("art-ext") if isinstance(versions, Mapping) else None
    return f"art-ext {stated}" if isinstance(stated, str) else "a later version of art-ext"


# 2: the column target, attacks' arguments; 3: which can stop early; 4: units, panels, the column
# attacked; 5: nearest_distance for what distance held, distance and distortions of x_adv;
# 6: files of chunks instead of units
EVALUATION = Format("run", 6, (4, 5, 6), "evaluate it again in a new folder")
TRAINING = Format("training", 1, (1,), "train again in a new folder", unstated=1)
GENERATOR = Format("training of a generator", 1, (1,), "train it again in a new folder")
CHECKPOINT = Format("checkpoint", 1, (1,), "train again in a new folder")
AUTOATTACK = Format("run of AutoAttack", 1, (1,), "attack again in a new folder", unstated=1)
SUBMISSION = Format("submission", 1, (1,), "make it again")
LIMITS = Format("run on limits", 1, (1,), "run it again in a new folder")
SWEEP = Format("sweep", 1, (1,), "sweep again in a new folder")
TRANSFER = Format("run of transfers", 1, (1,), "run it again in a new folder")
