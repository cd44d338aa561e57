"""Notebooks are what their sources say, and small. `make slow` runs them."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))


def test_all_notebooks_have_a_source() -> None:
    assert len(SOURCES) >= 3
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == [path.stem for path in SOURCES]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_source_and_their_outputs(source: Path) -> None:
    file = source.with_suffix(".ipynb")
    wanted = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    notebook = nbformat.read(file, as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == wanted, (
        "run make notebooks"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any(output.output_type == "stream" for cell in code for output in cell.outputs)
    assert "assert" in code[-1].source
    assert file.stat().st_size <= 300_000
    assert "site-packages" not in file.read_text(encoding="utf-8")
