"""The rows of a card, in a file that is written after each of them."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.storage.files import write_atomically

FORMAT = "art-ext GPU card 1"
RUNNING = "running"
COLUMNS = {
    "images_per_s": "images/s",
    "seconds": "seconds",
    "over_bare": "/ bare passes",
    "over_other": "/ other toolkit",
}
# facts that the rows of one card have in common
COMMON = ("device", "torch", "art-ext", "images", "recipe", "sizes")
OUT_OF_TIME = "the time of the part is over"
Figures = Mapping[str, Any]


class Card:
    """Rows by part.

    Args:
        file: JSON file of the card. One that exists is read, and its parts are kept.
        facts: of the machine and the run.

    Raises:
        ValueError: if the file exists and is no card, or one with other facts.
    """

    def __init__(self, file: Path, facts: Mapping[str, Any]) -> None:
        self.file = file
        self.content: dict[str, Any] = {"format": FORMAT, "facts": dict(facts), "parts": {}}
        if file.exists():
            self.content = read_card(file)
            _check_facts(file, self.content["facts"], facts)

    def holds(self, part: str) -> bool:
        """Return True if a part has ended, in this or an earlier call."""
        return bool(self.content["parts"].get(part, {"state": RUNNING})["state"] != RUNNING)

    def begin(self, part: str, seconds: float) -> Sheet:
        """Return the empty sheet of a part that may take so many seconds."""
        self.content["parts"][part] = {"state": RUNNING, "budget": seconds, "rows": []}
        self.save()
        return Sheet(self, part, time.perf_counter() + seconds)

    def end(self, part: str, state: str, seconds: float) -> None:
        """Note how a part has ended, and its time."""
        self.content["parts"][part] |= {"state": state, "seconds": seconds}
        self.save()

    def add(self, part: str, row: Mapping[str, Any]) -> None:
        """Add a row, save it, and print it."""
        self.content["parts"][part]["rows"].append(dict(row))
        self.save()
        print(line_of(part, row), flush=True)

    def save(self) -> None:
        """Write the file."""
        write_atomically(self.file, (json.dumps(self.content, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Sheet:
    """The part of a card that is at work.

    Attributes:
        card: that holds it.
        part: its name.
        end: time on ``time.perf_counter`` at which it should end.
        left_out: names of rows for which no time was left.
    """

    card: Card
    part: str
    end: float
    left_out: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.perf_counter()

    def note(self, name: str, **figures: Any) -> None:
        """Add a row of given figures."""
        self.card.add(self.part, {"name": name, **figures})

    def close(self) -> None:
        """Add a row with the names of all rows for which no time was left, if there are any."""
        if self.left_out:
            self.note("left out", rows=", ".join(self.left_out), skipped=OUT_OF_TIME)

    def measure(self, name: str, work: Callable[[], Figures]) -> Figures | None:
        """Add a row with the figures that a function returns.

        An error becomes the row. Without time left, the function is not called.

        Returns:
            The figures, or None.
        """
        if self.left <= 0:
            self.left_out.append(name)
            return None
        try:
            figures = work()
        except (AttackInterrupted, ModelStopped) as stop:
            self.note(name, skipped=str(stop))
            return None
        except Exception as error:  # a part goes on after a row that fails
            self.note(name, error=described(error), at=place_of(error))
            return None
        self.note(name, **figures)
        return figures


class Deadline(nn.Module):
    """Network that gives no answer after a time.

    Attributes:
        network: that answers before.
        end: time on ``time.perf_counter``.
    """

    def __init__(self, network: nn.Module, end: float) -> None:
        super().__init__()
        self.network = network
        self.end = end

    def forward(self, rows: Any) -> Any:
        """Call the network.

        Raises:
            ModelStopped: after the end.
        """
        if time.perf_counter() > self.end:
            raise ModelStopped(OUT_OF_TIME)
        return self.network(rows)


def read_card(file: Path) -> dict[str, Any]:
    """Return the content of a card's file.

    Raises:
        ValueError: if it is no card.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} must be a file that this command wrote: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{file} must be a file that this command wrote, and it is none")
    return content


def _check_facts(file: Path, held: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for name in COMMON:
        if held.get(name) != facts.get(name):
            raise ValueError(
                f"{file} holds a card with {name} {held.get(name)!r}, and this run has"
                f" {facts.get(name)!r}: give another --out"
            )


def described(error: BaseException) -> str:
    """Return type and message of an error in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:200]}"


def place_of(error: BaseException) -> str:
    """Return the innermost line of this package that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


# --- table ---


def line_of(part: str, row: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    cells = [part, str(row["name"])]
    cells += [shown(row[key]) if key in row else "" for key in COLUMNS]
    cells.append(", ".join(_remark(key, row[key]) for key in row if key not in ("name", *COLUMNS)))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _remark(key: str, value: Any) -> str:
    if value is True:
        return key.replace("_", " ")
    return f"{key.replace('_', ' ')}: {shown(value)}"


def shown(value: Any) -> str:
    """Return a figure as text, with at least three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(content: Mapping[str, Any]) -> str:
    """Return a card as text: its facts, and one table in Markdown."""
    facts = [f"* {name}: {value}" for name, value in content["facts"].items()]
    columns: Sequence[str] = ["part", "row", *COLUMNS.values(), "remarks"]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = [line_of(part, row) for part, held in content["parts"].items() for row in held["rows"]]
    return "\n".join([*facts, "", *head, *rows])
