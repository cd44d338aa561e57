"""Results of tables: JSON files with rows, verdicts, and what measured them."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.scales import SCALES
from art_ext.benchmarks.papers.schema import Scale, Table
from art_ext.benchmarks.papers.tables import FOLDER
from art_ext.benchmarks.papers.verdicts import judge_claim, judge_row, judge_table
from art_ext.storage.files import write_atomically

ROOT = FOLDER.resolve().parents[1]  # of the checkout, whose package has a link to this folder
RESULTS = FOLDER / "results"
RERUN = "run art-ext papers run --table {} again"


@dataclass(frozen=True, eq=False)
class Measured:
    """Cells that a run of a table has found.

    Attributes:
        cells: by row and column.
        reasons: why rows were not run, by row.
        seconds: of the attacks.
    """

    cells: Mapping[tuple[str, str], Cell]
    reasons: Mapping[str, str]
    seconds: float


def result_of(table: Table, scale: Scale, measured: Measured) -> dict[str, Any]:
    """Return the content of the JSON file of a table."""
    shown = {row for row, _ in measured.cells}
    # a row without a reason is one that only the other scale runs
    unmeasured = {name: row for name, row in table.rows.items() if name not in shown}
    reasons = {name: row.not_run or "time" for name, row in unmeasured.items()}
    reasons |= measured.reasons
    rows = [
        judge_row(table, scale, row, measured.cells, reasons.get(name, ""))
        for name, row in table.rows.items()
    ]
    claims = [judge_claim(table, claim, measured.cells) for claim in table.claims]
    return {
        "id": table.id,
        "scale": scale.name,
        "tag": judge_table(rows, claims),
        "rows": rows,
        "claims": claims,
        "n": {name: run.count for name, run in scale.runs.items()} | _of_check(scale),
        "seeds": _seeds(scale),
        "seconds": round(measured.seconds, 1),
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
        "digest": table.digest,
        "date": date.today().isoformat(),
    }


def _of_check(scale: Scale) -> dict[str, int]:
    """Return the number of samples of a check, if it has one."""
    arguments = {} if scale.check is None else scale.check.arguments
    return {"check": arguments["n"]} if "n" in arguments else {}


def _seeds(scale: Scale) -> list[int]:
    """Return the seeds of all runs and of the check."""
    found = {one for run in scale.runs.values() for one in run.seeds}
    found |= {run.options.get("seed", 0) for run in scale.runs.values() if not run.seeds}
    if scale.check is not None:
        found |= {*scale.check.arguments.get("seeds", ())}
    return sorted(found)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide numbers."""
    import numpy
    import torch

    return {
        "art-ext": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def machine() -> dict[str, str | int]:
    """Return the GPU or processor, and the threads of PyTorch."""
    import torch

    from art_ext.benchmarks.common import processor

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = processor()
    return {"processor": name, "threads": torch.get_num_threads()}


def commit() -> str:
    """Return the commit of the checkout, or "unknown" outside one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def is_checkout() -> bool:
    """Return True if the tables lie in a checkout, whose results are committed."""
    return (ROOT / "pyproject.toml").is_file()


def write_result(result: Mapping[str, Any], folder: Path) -> Path:
    """Write the JSON file of a table, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['id']}.{result['scale']}.json"
    write_atomically(path, as_json(result, ("rows", "claims")).encode())
    return path


def as_json(content: Mapping[str, Any], listed: Sequence[str]) -> str:
    """Return JSON with one line for each key, and for each item of the listed ones."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False)
        if key in listed and value:
            inner = ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in value)
            text = f"[\n{inner}\n ]"
        lines.append(f' "{key}": {text}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_results(tables: Mapping[str, Table], folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the results by id. Of two scales the larger one counts.

    Raises:
        ValueError: for a damaged file, a result of no table, and one that was measured with another
            state of the table's file.
    """
    found = {}
    for scale in SCALES:
        for path in sorted(folder.glob(f"*.{scale}.json")):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                name, digest = result["id"], result["digest"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is no result of a table: {error}") from error
            if name not in tables:
                raise ValueError(f"{path} belongs to no table: got the id {name!r}")
            if digest != tables[name].digest:
                raise ValueError(
                    f"{path} was measured with another {tables[name].file.name}:"
                    f" {RERUN.format(name)}"
                )
            found[name] = result
    return found
