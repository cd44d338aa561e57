"""The measure on a generator from Python: its example in the documentation, and its folder."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from art_ext.evaluation import limits
from art_ext.storage.limits import LimitsFolder

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "limits.md"


def test_the_example_calls_limits_as_it_is_declared():
    blocks = PAGE.read_text(encoding="utf-8").split("```python\n")[1:]
    code = next(one for one in blocks if "import limits" in one).partition("```")[0]
    calls = [one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Call)]
    (call,) = [one for one in calls if ast.unparse(one.func) == "limits"]
    keywords = {one.arg: one.value for one in call.keywords}
    inspect.signature(limits).bind(*call.args, **keywords)


def test_the_table_has_the_names_of_the_file_and_of_the_command():
    table = (DOCS / "reference" / "limits-commands.md").read_text(encoding="utf-8")
    assert "| `estimators` (`--estimator`) | `sampled,spectral` |" in table


def test_the_error_of_a_taken_folder_names_the_keyword(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"allow it with --overwrite \(overwrite=True in Python\)"):
        LimitsFolder(tmp_path).check({})
