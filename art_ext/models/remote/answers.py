"""A log of the answers of a service: append-only files of records of one size.

Every process appends to a file of its own. A record begins with its key: the scope, the digest of
the row, and how often this row was sent in this scope before.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from art_ext.storage.files import write_atomically

META = "meta.json"
SCOPES = "scopes.txt"
DIGEST_BYTES = 16
KEY_BYTES = 2 * DIGEST_BYTES + 4
FRESH = 1 << 16  # records that are found by a dict before they are sorted
_SENT = struct.Struct("<Qd")  # rows and cost


def digest(content: bytes | memoryview) -> bytes:
    """Return the 128-bit digest of a scope's name or of a row's float32 bits."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def key_of(scope: bytes, row: bytes, occurrence: int) -> bytes:
    """Return the key of a record.

    Args:
        scope: digest of the scope's name.
        row: digest of the row.
        occurrence: how often the row was sent in the scope before.
    """
    return scope + row + occurrence.to_bytes(4, "little")


@functools.cache
def record_type(width: int, labels: bool) -> np.dtype[Any]:
    """Return the layout of a record.

    Args:
        width: numbers of an answer.
        labels: True for class indices, False for scores.
    """
    return np.dtype(
        [
            ("scope", f"V{DIGEST_BYTES}"),
            ("row", f"V{DIGEST_BYTES}"),
            ("occurrence", "<u4"),
            ("query", "<u4"),
            ("sample", "<i8"),
            ("time", "<f8"),
            ("cost", "<f8"),
            ("answer", "<i8" if labels else "<f4", (width,)),
            ("crc", "<u4"),
        ]
    )


class Segment:
    """Records in memory, found by their keys.

    Args:
        records: (M,) of one ``record_type``.
    """

    def __init__(self, records: np.ndarray) -> None:
        self.records = records
        self.raw = records.view(np.uint8).data
        rows = np.frombuffer(records["row"].tobytes(), dtype=np.uint64)[::2]
        self.order = np.argsort(rows, kind="stable").astype(np.uint32)
        self.rows = rows[self.order]

    def __len__(self) -> int:
        return len(self.records)

    def candidates(self, row: bytes) -> np.ndarray:
        """Return the positions of the records whose row may have this digest, oldest first."""
        head = np.frombuffer(row, dtype=np.uint64, count=1)
        first, last = (
            np.searchsorted(self.rows, head[0], "left"),
            np.searchsorted(self.rows, head[0], "right"),
        )
        return self.order[first:last]

    def find(self, key: bytes) -> int | None:
        """Return the position of the record with a key, or None."""
        return self._place(key[DIGEST_BYTES : 2 * DIGEST_BYTES], key, 0)

    def first_of(self, row: bytes) -> int | None:
        """Return the position of the oldest record of a row, whatever its scope, or None."""
        return self._place(row, row, DIGEST_BYTES)

    def _place(self, row: bytes, wanted: bytes, offset: int) -> int | None:
        """Return the position of the oldest record of a row that has these bytes at an offset."""
        size = self.records.itemsize
        for place in self.candidates(row):
            begin = int(place) * size + offset
            if self.raw[begin : begin + len(wanted)] == wanted:
                return int(place)
        return None


class Found:
    """Answers in memory: sorted segments, and the newest ones in a dict."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._fresh: list[np.ndarray] = []
        self._by_key: dict[bytes, np.ndarray] = {}
        self._by_row: dict[bytes, np.ndarray] = {}

    def __len__(self) -> int:
        return sum(map(len, self.segments)) + len(self._by_key)

    def add(self, records: np.ndarray) -> None:
        """Add records. Segments of similar lengths are joined, so that there are few."""
        if len(records) < FRESH:
            size = records.itemsize
            raw = records.tobytes()
            self._fresh.append(records)
            for place, record in enumerate(records):
                key = raw[place * size : place * size + KEY_BYTES]
                self._by_key[key] = record["answer"]
                self._by_row.setdefault(key[DIGEST_BYTES : 2 * DIGEST_BYTES], record["answer"])
            if len(self._by_key) < FRESH:
                return
            records = np.concatenate(self._fresh)
            self._fresh, self._by_key, self._by_row = [], {}, {}
        while self.segments and len(self.segments[-1]) <= 2 * len(records):
            records = np.concatenate([self.segments.pop().records, records])
        self.segments.append(Segment(records))

    def answer(self, key: bytes, reuse: bool) -> np.ndarray | None:
        """Return the answer of the record with a key.

        Args:
            key: of the record.
            reuse: take that of the oldest record with the same row.
        """
        row = key[DIGEST_BYTES : 2 * DIGEST_BYTES]
        for segment in self.segments:
            place = segment.first_of(row) if reuse else segment.find(key)
            if place is not None:
                found: np.ndarray = segment.records["answer"][place]
                return found
        return self._by_row.get(row) if reuse else self._by_key.get(key)


class AnswerLog:
    """The answers of one service in a folder.

    Nothing is written before the first answer. A torn last record of a file is dropped.

    Args:
        folder: of the log.
        name: of the service.
        outputs: ``"logits"``, ``"probabilities"`` or ``"labels"``.

    Raises:
        ValueError: if the log is of another service, or a record is damaged. The message names the
            file and the position.

    Attributes:
        width: numbers of an answer, None before the first one.
        shape: of a row, None before the first answer.
        rows_sent, cost_sent: of earlier processes.
        found: the answers.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, outputs: str) -> None:
        self.folder = Path(folder)
        self.name = name
        self.outputs = outputs
        self.width: int | None = None
        self.shape: tuple[int, ...] | None = None
        self.found = Found()
        self._file: tuple[int, int, int] | None = None  # process, answers, rows sent
        self._scopes: set[bytes] = set()
        self._read_meta()
        self.rows_sent, self.cost_sent = _read_sent(self.folder)
        if self.width is not None:
            for records in _read_all(self.folder, self._type(self.width)):
                self.found.add(records)
        elif any(self.folder.glob("answers-*.log")):
            raise ValueError(f"{self.folder} holds answers, but no {META} says of which service")

    def check(self, shape: tuple[int, ...], width: int | None = None) -> None:
        """Raise ValueError unless the log is of rows of a shape, and of answers of a width."""
        for what, mine, given in (("rows of shape", self.shape, shape), ("", self.width, width)):
            if mine is not None and given is not None and mine != given:
                number = f"{what} {mine}, got {given}" if what else f"{mine} classes, got {given}"
                raise ValueError(f"{self.folder} is the log of another service, of {number}")

    def begin(self, shape: tuple[int, ...], width: int) -> None:
        """Note shape and width with the first answer, and write them down.

        Raises:
            ValueError: if the log is of another service.
        """
        self.check(shape, width)
        if self.width is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            meta = {
                "name": self.name,
                "outputs": self.outputs,
                "shape": list(shape),
                "classes": None if self.outputs == "labels" else width,
            }
            write_atomically(self.folder / META, (json.dumps(meta, indent=2) + "\n").encode())
            self.shape, self.width = shape, width

    def send(self, rows: int, cost: float) -> None:
        """Write down how many rows this process has sent, and their cost, before a request."""
        file = self._files()[1]
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, _SENT.pack(rows, cost))

    def append(
        self,
        scope: str,
        keys: Sequence[bytes],
        answers: np.ndarray,
        *,
        samples: Sequence[int],
        queries: Sequence[int],
        time: float,
        cost: float,
    ) -> None:
        """Append the answers (R, width) of one request, before the attack sees them.

        Args:
            scope: its name.
            keys: of the records.
            answers: of the service.
            samples, queries: identities of the samples and numbers of their queries.
            time: of the request, in seconds since 1970.
            cost: of a row.
        """
        records = np.zeros(len(keys), dtype=self._type(answers.shape[1]))
        size = records.itemsize
        raw = records.view(np.uint8).reshape(len(keys), size)
        raw[:, :KEY_BYTES] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        records["sample"] = samples
        records["query"] = queries
        records["time"] = time
        records["cost"] = cost
        records["answer"] = answers
        records["crc"] = _checksums(records)
        file = self._files()[0]
        self._note_scope(keys[0][:DIGEST_BYTES], scope)
        _write(file, records.tobytes())
        self.found.add(records)

    def _type(self, width: int) -> np.dtype[Any]:
        return record_type(width, self.outputs == "labels")

    def _files(self) -> tuple[int, int]:
        """Return the descriptors of this process's files, which a forked process opens again."""
        if self._file is None or self._file[0] != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
            answers = os.open(self.folder / f"answers-{name}.log", flags | os.O_APPEND, 0o644)
            sent = os.open(self.folder / f"sent-{name}.bin", flags, 0o644)
            self._file = (os.getpid(), answers, sent)
        return self._file[1], self._file[2]

    def _note_scope(self, code: bytes, name: str) -> None:
        """Write down the name of a scope, for readers of the log."""
        if code not in self._scopes:
            self._scopes.add(code)
            with (self.folder / SCOPES).open("a", encoding="utf-8") as stream:
                stream.write(f"{code.hex()} {name}\n")

    def _read_meta(self) -> None:
        place = self.folder / META
        if not place.exists():
            return
        try:
            meta = json.loads(place.read_text(encoding="utf-8"))
            name, outputs = str(meta["name"]), str(meta["outputs"])
            shape, classes = tuple(map(int, meta["shape"])), meta["classes"]
            width = 1 if classes is None else int(classes)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{place} is damaged: {error}") from error
        for what, mine, theirs in (("name", self.name, name), ("outputs", self.outputs, outputs)):
            if mine != theirs:
                raise ValueError(
                    f"{self.folder} is the log of another service: its {what} is {theirs!r}, got"
                    f" {mine!r}. Choose another folder"
                )
        self.shape, self.width = shape, width

    def close(self) -> None:
        """Close the files of this process, after fsync."""
        if self._file is not None and self._file[0] == os.getpid():
            for file in self._file[1:]:
                os.fsync(file)
                os.close(file)
        self._file = None


def drop_damaged_answers(folder: str | os.PathLike[str]) -> int:
    """Remove the damaged records of an answer log, whose rows are sent again then.

    Args:
        folder: the folder of the log.

    Returns:
        The number of records that were removed.
    """
    place = Path(folder)
    meta = json.loads((place / META).read_text(encoding="utf-8"))
    labels = meta["outputs"] == "labels"
    layout = record_type(1 if labels else int(meta["classes"]), labels)
    removed = 0
    for path in sorted(place.glob("answers-*.log")):
        records = _read_records(path, layout)
        bad = _damaged(records)
        if len(bad):
            write_atomically(path, np.delete(records, bad).tobytes())
            removed += len(bad)
    return removed


def _read_all(folder: Path, layout: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Yield the sound records of each file.

    Raises:
        ValueError: if a record before the last one is damaged.
    """
    for path in sorted(folder.glob("answers-*.log"), key=lambda one: (one.stat().st_mtime, one)):
        records = _read_records(path, layout)
        bad = _damaged(records)
        if len(bad) and bad[0] < len(records) - 1:
            raise ValueError(
                f"{path} is damaged at byte {int(bad[0]) * layout.itemsize}, in record"
                f" {int(bad[0])} of {len(records)}. The answers before and after it are kept:"
                " art_ext.models.drop_damaged_answers(FOLDER) removes it, and its row is sent again"
            )
        yield records[: len(records) - len(bad)]


def _read_records(path: Path, layout: np.dtype[Any]) -> np.ndarray:
    """Return the whole records of a file, which may end in a torn one."""
    count = path.stat().st_size // layout.itemsize
    return np.fromfile(path, dtype=layout, count=count)


def _damaged(records: np.ndarray) -> np.ndarray:
    """Return the positions of the records whose checksum differs."""
    return np.flatnonzero(_checksums(records) != records["crc"])


def _checksums(records: np.ndarray) -> np.ndarray:
    """Return the checksum of each record, without its last four bytes, which hold it."""
    size = records.itemsize
    view = records.view(np.uint8).reshape(-1).data
    return np.fromiter(
        (zlib.crc32(view[start : start + size - 4]) for start in range(0, len(view), size)),
        dtype=np.uint32,
        count=len(records),
    )


def _read_sent(folder: Path) -> tuple[int, float]:
    """Return the rows that earlier processes have sent, and their cost."""
    parts = [path.read_bytes() for path in folder.glob("sent-*.bin")]
    known = [_SENT.unpack(part) for part in parts if len(part) == _SENT.size]
    return sum(rows for rows, _ in known), sum(cost for _, cost in known)


def _write(file: int, content: bytes) -> None:
    """Write all of the content. A short write goes on where it ended."""
    view = memoryview(content)
    while len(view):
        view = view[os.write(file, view) :]
