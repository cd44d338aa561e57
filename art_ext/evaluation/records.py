"""The folder of a run: who may write into it, and files that are whole at any moment.

``run.json`` says what was run, ``records.parquet`` holds one row per sample, model, attack and eps; both are replaced
atomically as each chunk ends, so a killed run leaves every finished chunk.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

TOOL = "art-ext"
FORMAT = 3  # 2: the column target, and each attack's arguments; 3: which attacks can stop early
RUN, RECORDS, REPORT = "run.json", "records.parquet", "index.html"
PREVIOUS = ".previous-run"
TABLES = ("table.csv", "table.json")
PLOTS = ("robust_accuracy.png", "success_queries.png", "examples.png")
OWN = (RUN, RECORDS, REPORT, *TABLES, *PLOTS)
COLUMNS = (
    "index", "id", "model", "attack", "eps", "label", "target", "clean_prediction", "success", "already_adversarial",
    "distance", "queries", "queries_to_success", "gradients", "wasted_rows", "seconds",
)  # fmt: skip


def require_report() -> None:
    """Refuse to start work whose report could not be written.

    Raises:
        ImportError: naming the missing packages and the extra that holds them.
    """
    missing = [name for name in ("pandas", "pyarrow", "jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ImportError(f"the report needs {', '.join(missing)}: pip install 'art-ext[report]'")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:  # pip does not see that a pyarrow was built for another numpy
        raise ImportError(f"the installed pyarrow fails ({error}): with numpy 1.26 take 'pyarrow<22'") from error


def read_run(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The content of a run folder's ``run.json``; None if this is no run folder."""
    try:
        run = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) and run.get("tool") == TOOL else None


def read_records(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The records of a run folder, finished or not: one row per sample, model, attack and eps.

    Raises:
        ImportError: without the extra ``report``.
        FileNotFoundError: if no chunk has ended yet.
    """
    require_report()
    import pandas as pd

    return pd.read_parquet(Path(folder) / RECORDS, engine="pyarrow")


def _clear(folder: Path) -> None:
    """Remove our files from a folder, and nothing else."""
    for name in OWN:
        (folder / name).unlink(missing_ok=True)


class RunFolder:
    """The folder of one run, claimed but not touched before ``begin``.

    Args:
        path: the folder; it may be missing.
        arguments: what the run was asked to do, fit for JSON.
        overwrite: allow a folder with other things in it; only files with the names of ours are replaced.

    Raises:
        ValueError: if the folder holds anything but an earlier run of the same arguments and overwrite is False, or if
            the path is no folder.
    """

    def __init__(self, path: str | os.PathLike[str], arguments: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = Path(path)
        self._frames: list[pd.DataFrame] = []
        self._run: dict[str, Any] = {}
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must name a folder, got the file {self.path}")
        if overwrite or not self.path.exists() or not any(self.path.iterdir()):
            return
        earlier = read_run(self.path)
        if earlier is None:
            raise ValueError(
                f"out must be a new or empty folder, or a run folder, but {self.path} holds other files: "
                "choose another folder, or allow it with --overwrite"
            )
        asked = json.loads(json.dumps(dict(arguments)))
        if earlier.get("arguments") != asked:
            before = earlier.get("arguments") or {}
            changed = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
            raise ValueError(
                f"{self.path} holds a run with other arguments ({', '.join(changed)}): "
                "choose another folder, or replace that run with --overwrite"
            )

    def begin(self, run: Mapping[str, Any]) -> None:
        """Make the folder, put aside what an earlier run of ours left there, and write ``run.json``.

        A complete run is kept in the hidden folder ``.previous-run`` until this one is complete too.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = read_run(self.path)
        if earlier is not None:
            if earlier.get("state") == "complete":
                _clear(self.path / PREVIOUS)
                (self.path / PREVIOUS).mkdir(exist_ok=True)
                for name in OWN:
                    if (self.path / name).exists():
                        os.replace(self.path / name, self.path / PREVIOUS / name)
            _clear(self.path)
        self._run = {"tool": TOOL, "format": FORMAT, "state": "running", **run}
        self._write_run()

    def append(self, rows: pd.DataFrame) -> None:
        """Add the records of a chunk that ended; the file on the disk is the old one or the new one, never a part."""
        self._frames.append(rows[list(COLUMNS)])
        content = io.BytesIO()
        self.records.to_parquet(content, engine="pyarrow", index=False)
        self.write(RECORDS, content.getvalue())

    @property
    def records(self) -> pd.DataFrame:
        """All records so far."""
        import pandas as pd

        return pd.concat(self._frames, ignore_index=True)

    @property
    def run(self) -> dict[str, Any]:
        """The content of ``run.json``."""
        return self._run

    def finish(self, **facts: Any) -> None:
        """Mark the run as complete, add what is known only now, and drop the run before it."""
        self._run = {**self._run, "state": "complete", **facts}
        self._write_run()
        if (self.path / PREVIOUS).is_dir():
            _clear(self.path / PREVIOUS)
            (self.path / PREVIOUS).rmdir()

    def _write_run(self) -> None:
        self.write(RUN, json.dumps(self._run, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write(self, name: str, content: bytes | str) -> None:
        """Put a file into the folder; it is the old one or the new one at any moment."""
        write_atomically(self.path / name, content.encode("utf-8") if isinstance(content, str) else content)
