"""The papers' tables as data: schema, verdicts, results and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from art_ext.benchmarks.papers import page, results, verdicts
from art_ext.benchmarks.papers.cells import Cell, Estimate, estimate, exact, margin
from art_ext.benchmarks.papers.checks import hmcam
from art_ext.benchmarks.papers.claims import parse_claim
from art_ext.benchmarks.papers.results import read_results, write_result
from art_ext.benchmarks.papers.running import NotRunError, run_table
from art_ext.benchmarks.papers.scales import function_of
from art_ext.benchmarks.papers.tables import FOLDER, SOURCES, find_tables, read_tables
from art_ext.cli import app
from art_ext.core.metrics import wilson
from art_ext.core.metrics.intervals import paired_difference

ROOT = Path(__file__).parents[1]
TABLES = read_tables()
PUBLISHED = ROOT / "tests" / "golden" / "papers.json"
TOY = """
id = "toy"
source = "own"
number = "Table 1"
caption = "Two steps of PGD on digits."
differences = "None."
claims = ["long.success >= short.success", "increasing: l2 over steps"]
[columns.success]
unit = "%"
tolerance = 5.0
[columns.l2]
tolerance = "10 %"
[rows.short]
at = {steps = 1}
published = {success = 0.0}
[rows.long]
at = {steps = 3}
[rows.absent]
not_run = "method"
[small]
minutes = 0.1
own = true
[small.runs.digits]
model = "digits-cnn"
untrained = true
data = "digits"
n = 30
eps = 0.1
[small.rows.short]
attack = "i_fgsm"
arguments = {num_steps = 1}
[small.rows.long]
attack = "i_fgsm"
arguments = {num_steps = 3}
[full]
minutes = 1
[full.runs.digits]
n = 300
"""


def folder_of(tmp_path: Path, text: str = TOY) -> Path:
    """Return a folder of one table and its paper."""
    (tmp_path / SOURCES).write_text(
        '[papers.own]\ntitle = "Own"\nreference = "Us"\n[not_run.own]\n'
        '"Figure 2" = ["A picture", "weights"]\n'
    )
    (tmp_path / "toy.toml").write_text(text)
    return tmp_path


def command(*arguments: object):
    return CliRunner().invoke(app, ["papers", *map(str, arguments)])


# ---- the files


def test_published_numbers_change_on_purpose_only():
    found = {name: table.published_digest for name, table in TABLES.items() if table.rows}
    assert found == json.loads(PUBLISHED.read_text())


def test_every_table_has_settings_or_a_reason():
    assert len(TABLES) > 100
    for table in TABLES.values():
        assert bool(table.scales) != bool(table.not_run), table.id
        for scale in table.scales.values():
            assert scale.minutes <= 10 or scale.name == "full", table.id
            unused = {*scale.runs} - {one.run for one in scale.rows.values()}
            assert not unused or scale.name == "full", table.id  # it inherits runs
            assert scale.runs or scale.check, table.id
            if scale.check is not None:
                assert callable(function_of(scale.check)), table.id


@pytest.mark.parametrize("name", [table.id for table in TABLES.values() if table.scales])
def test_attacks_and_trainings_of_a_table_exist(name):
    from art_ext.evaluation.panel.members import find_attack
    from art_ext.training.runs import resolve

    for scale in TABLES[name].scales.values():
        for row in scale.rows.values():
            if row.attack and not row.needs:
                find_attack(row.attack, row.arguments)
            if row.options:
                resolve(row.options)


def test_tables_come_in_the_order_of_the_papers():
    numbers = [one.number for one in TABLES.values() if one.source.key == "backward"]
    assert numbers[8:10] == ["Table 6.9", "Table 6.10"]
    assert numbers[-1] == "Figure 6.4"


def test_full_inherits_from_small(tmp_path):
    table = read_tables(folder_of(tmp_path))["toy"]
    small, full = (table.scales[name].runs["digits"] for name in ("small", "full"))
    assert full.options == {**small.options, "n": 300}
    assert table.scales["full"].rows == table.scales["small"].rows
    assert list(read_tables(tmp_path)) == ["toy", "own-figure-2"]


# a change of the file, the line that the message names by its text, and the message
BROKEN = [
    ("attack = ", "atack = ", "atack = ", "unknown key 'atack'.*did you mean 'attack'"),
    ("eps = 0.1", "epss = 0.1", "epss", "unknown option 'epss'.*did you mean 'eps'"),
    ("long.success >", "long.succes >", "claims", "column of the claim .*did you mean 'success'"),
    ("long.success >", "longg.success >", "claims", "row of the claim .*did you mean 'long'"),
    ("over steps", "over step", "claims", "key of the claim .*did you mean 'steps'"),
    ("success >= short", "success beats short", "claims", "a claim must have the form"),
    ("{success = 0.0}", "{sucess = 0.0}", "published", "unknown key 'sucess'.*did you mean"),
    ('"10 %"', '"ten"', "ten", "tolerance must be a number or '10 %', got 'ten'"),
    ("minutes = 0.1", "minutes = true", "minutes", "minutes must be a number, got True"),
    ("minutes = 0.1\n", "", "[small]", "small.minutes must be given"),
    ('not_run = "method"\n', "", "[rows.absent]", "the row 'absent' has a setting, or not_run"),
    ('source = "own"', 'source = "owm"', "owm", "unknown source 'owm'.*did you mean 'own'"),
    ('id = "toy"', 'id = "other"', "other", "id must be the name of the file, got 'other'"),
    ("[columns.l2]\n", '[columns.l2]\nmeasure = "l3"\n', "l3", "unknown measure 'l3'"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), BROKEN)
def test_a_file_that_breaks_the_schema(old, new, line, message, tmp_path):
    assert old in TOY
    text = TOY.replace(old, new, 1)
    number = 1 + next(n for n, one in enumerate(text.splitlines()) if line in one)
    folder_of(tmp_path, text)
    with pytest.raises(ValueError, match=rf"toy\.toml, line {number}: {message}"):
        read_tables(tmp_path)


def test_an_unknown_table():
    with pytest.raises(ValueError, match=r"unknown table 'frank-wolf-2\.1'.*'frank-wolfe-2\.1'"):
        find_tables(["frank-wolf-2.1"], TABLES)
    for arguments in (("show", "rays-3.11"), ("run", "--table", "rays-3.11")):
        done = command(*arguments)
        assert done.exit_code == 2
        assert "unknown table 'rays-3.11'" in done.output
        assert "Traceback" not in done.output


# ---- numbers and verdicts


def cell(kind: str, values: list[float], keys: list[int] | None = None) -> Cell:
    positions = np.arange(len(values)) if keys is None else np.array(keys)
    return Cell(kind, positions, np.array(values, float))


def difference(claim: str, **cells: Cell) -> Estimate:
    found = {(name, "x"): one for name, one in cells.items()}
    (comparison,) = parse_claim(claim, ("x",), {name: {} for name in cells})
    return margin(comparison, found)


def test_shares_have_the_paired_interval():
    a, b = cell("share", [1] * 18 + [0] * 2), cell("share", [1] * 10 + [0] * 10)
    low, high = wilson(18, 20)
    assert estimate(a) == Estimate(90.0, 100 * low, 100 * high, 20)
    found = difference("a.x > b.x", a=a, b=b)
    low, high = paired_difference(10, 8, 0, 2)
    assert (found.value, found.low, found.high) == pytest.approx((40, 100 * low, 100 * high))
    assert verdicts.verdict(found, strict=True) == "holds"
    assert verdicts.verdict(difference("a.x < b.x", a=a, b=b), strict=True) == "does not hold"
    assert verdicts.verdict(difference("a.x > b.x + 40", a=a, b=b), strict=True) == "undecided"


def test_differences_are_of_the_samples_that_both_have():
    a = cell("mean", [1, 2, 9], [0, 1, 5])
    b = cell("mean", [7, 0.5, 1.5], [3, 4, 6])
    assert np.isnan(difference("a.x > b.x", a=a, b=b).low)
    b = cell("mean", [0.5, 1.5, 7], [0, 1, 3])
    found = difference("a.x >= b.x", a=a, b=b)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 2)


def test_bootstraps_cover_the_mean_and_repeat():
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 1.0, 400)
    one = estimate(cell("mean", values.tolist()))
    half = 1.96 * values.std() / 20
    assert one == estimate(cell("mean", values.tolist()))
    assert (one.low, one.high) == pytest.approx((one.value - half, one.value + half), abs=0.02)
    other = cell("median", (values * 2).tolist())
    found = difference("b.x >= 2 * a.x", a=cell("median", values.tolist()), b=other)
    assert (found.value, found.low, found.high) == pytest.approx((0.0, 0.0, 0.0))


def test_trainings_have_the_t_interval():
    a, b = cell("seeds", [80.0, 82.0, 84.0]), cell("seeds", [79.0, 80.0, 81.0])
    found = difference("a.x > b.x", a=a, b=b)
    half = 4.302653 * 1.0 / 3**0.5  # of the differences 1, 2, 3
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))


def test_exact_numbers_need_no_samples():
    assert difference("a.x <= b.x", a=exact(2.0), b=exact(2.0)).low == 0
    assert verdicts.verdict(Estimate(0, 0, 0, 1), strict=False) == "holds"
    assert verdicts.verdict(Estimate(0, 0, 0, 1), strict=True) == "does not hold"
    assert difference("a.x >= 1.5", a=exact(2.0)).value == 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1, 2, 3), "holds"), ((1, 3, 2), "does not hold"), ((1, 2, 2.0), "does not hold")],
)
def test_a_trend_holds_if_all_neighbours_do(values, expected, tmp_path):
    text = TOY.replace("[rows.absent]", "[rows.longer]\nat = {steps = 5}\n[rows.absent]")
    text = text.replace("[full]", '[small.rows.longer]\nattack = "pgd"\n[full]')
    table = read_tables(folder_of(tmp_path, text))["toy"]
    rows = ("short", "long", "longer")
    cells = {(row, "l2"): exact(value) for row, value in zip(rows, values, strict=True)}
    found = verdicts.judge_claim(table, table.claims[1], cells)
    assert (found["verdict"], found["comparisons"]) == (expected, 2)
    assert verdicts.judge_claim(table, table.claims[1], {})["verdict"] == "not run"


TAGS = [
    (["reproduced", "ours"], ["does not hold"], "reproduced"),
    (["reproduced", "differs"], ["holds"], "ordering holds"),
    (["other setting"], ["holds", "undecided"], "ordering holds (in part: 1 of 2 claims)"),
    (["differs"], ["does not hold", "undecided"], "does not hold"),
    (["other setting"], ["undecided"], "undecided"),
]


@pytest.mark.parametrize(("rows", "claims", "tag"), TAGS)
def test_the_tag_of_a_table(rows, claims, tag):
    found = verdicts.judge_table([{"tag": row} for row in rows], [{"verdict": x} for x in claims])
    assert found == tag


def test_the_family_of_sign_gradient_attacks_is_hamiltonian():
    table = TABLES["hmcam-1"]
    result = run_table(table, "small", ROOT)
    rows = {row["row"]: row for row in result["rows"]}
    assert result["tag"] == "reproduced"
    assert {one["verdict"] for one in result["claims"]} == {"holds"}
    assert {name: row["tag"] for name, row in rows.items()} == {
        **dict.fromkeys(("fgsm", "i_fgsm", "pgd", "mi_fgsm"), "reproduced"),
        "hmcam": "ours",
    }
    assert rows["hmcam"]["cells"]["mh"]["value"] == 1


# ---- runs, results and the page


def test_a_table_runs_and_repeats(tmp_path):
    table = read_tables(folder_of(tmp_path))["toy"]
    first = run_table(table, "small", tmp_path / "a")
    again = run_table(table, "small", tmp_path / "a")
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    rows = {row["row"]: row for row in first["rows"]}
    assert rows["absent"]["tag"] == "not run (method)"
    assert rows["long"]["tag"] == "ours"
    assert rows["short"]["tag"] in ("reproduced", "differs")
    count = rows["short"]["cells"]["success"]["n"]
    assert 0 < count <= 30
    assert rows["long"]["cells"]["success"]["n"] == count
    assert first["n"] == {"digits": 30}
    assert first["digest"] == table.digest
    with pytest.raises(NotRunError, match="weights"):
        run_table(read_tables(tmp_path)["own-figure-2"], "small", tmp_path / "a")


TRANSFER = """
id = "toy"
source = "own"
number = "Table 1"
caption = "Transfer on digits."
claims = ["pgd.white >= pgd.transfer"]
[columns.white]
measure = "success"
[columns.transfer]
measure = "success"
target = "b"
[columns.authors]
target = "b"
[rows.pgd]
[rows.fgsm]
[small]
minutes = 0.1
[small.runs.digits]
source = "a=digits-cnn@checkpoints/a.safetensors"
target = ["b=digits-cnn@checkpoints/b.safetensors"]
data = "digits"
n = 40
eps = 0.1
[small.rows.pgd]
attack = "pgd"
arguments = {num_steps = 5}
[small.rows.fgsm]
attack = "i_fgsm"
source = "a"
arguments = {num_steps = 1}
"""


def test_rows_of_transfers(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    from art_ext.models import digits_cnn

    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    for name in "ab":
        # the second network differs little, so that both are right on the same samples
        network = digits_cnn()
        save_file(network.state_dict(), tmp_path / "checkpoints" / f"{name}.safetensors")
        torch.manual_seed(0)
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path))
    table = read_tables(folder_of(tmp_path, TRANSFER))["toy"]
    result = run_table(table, "small", tmp_path / "runs")
    rows = {row["row"]: row["cells"] for row in result["rows"]}
    assert set(rows) == {"pgd", "fgsm"}
    for cells in rows.values():
        # a target of its own loses the samples that it gets wrong, and the authors' metric none
        assert 0 < cells["transfer"]["n"] <= cells["white"]["n"] <= cells["authors"]["n"] == 40
    assert result["claims"][0]["n"] == rows["pgd"]["transfer"]["n"]


TRAINING = """
id = "toy"
source = "own"
number = "Table 1"
caption = "Trainings on digits."
claims = ["fast.clean >= pgd.clean", "increasing: pgd20 over strength"]
[columns.clean]
value = "clean"
unit = "%"
tolerance = 50.0
[columns.pgd20]
value = "pgd20"
[columns.attacked]
value = "fgsm.robust_accuracy"
[columns.time]
value = "minutes"
[columns.half]
measure = "exact"
[rows.pgd]
at = {strength = 2}
published = {clean = 90.0, time = 100.0}
[rows.fast]
at = {strength = 1}
[rows.check]
[rows.later]
[full]
minutes = 1
[full.rows.later]
options = {recipe = "free"}
[small]
minutes = 0.1
own = true
[small.runs.digits]
recipe = "pgd"
recipe_args = {num_steps = 2}
data = "digits"
n = 128
test_n = 40
epochs = 1
eps = 0.1
seeds = [0, 1]
[small.runs.digits.evaluate]
n = 40
[[small.runs.digits.evaluate.attack]]
name = "fgsm"
attack = "fgsm"
[small.rows.pgd]
options = {recipe_args = {step_size = 0.05}}
[small.rows.fast]
options = {recipe = "fast"}
[small.check]
function = "hmcam:family"
"""


def test_rows_of_trainings(tmp_path, monkeypatch):
    monkeypatch.setattr(hmcam, "family", lambda: {"check": {"half": 0.5}})
    table = read_tables(folder_of(tmp_path, TRAINING))["toy"]
    settings = table.scales["small"].rows
    assert settings["pgd"].options["recipe_args"] == {"num_steps": 2, "step_size": 0.05}
    assert "recipe_args" not in settings["fast"].options  # of another recipe
    result = run_table(table, "small", tmp_path / "runs")
    assert (result["seeds"], result["n"]) == ([0, 1], {"digits": 40})
    rows = {row["row"]: row for row in result["rows"]}
    assert rows["check"]["cells"]["half"]["value"] == 0.5
    assert rows["later"]["tag"] == "not run (time)"  # the full scale alone runs it
    for name in ("pgd", "fast"):
        cells = rows[name]["cells"]
        assert {*cells} == {"clean", "pgd20", "attacked", "time"}
        # PGD-20 is not weaker than one step
        assert 0 <= cells["pgd20"]["value"] <= cells["attacked"]["value"] <= cells["clean"]["value"]
        assert cells["clean"]["value"] <= 100
        assert cells["clean"]["n"] == 2
    assert rows["pgd"]["tag"] in ("reproduced", "differs")
    assert "time" not in rows["pgd"].get("off", [])  # times are not compared
    assert {claim["n"] for claim in result["claims"]} == {2}


def test_claims_compare_values_of_one_kind():
    with pytest.raises(ValueError, match=r"a\.x and b\.x must both .* got seeds and share"):
        difference("a.x > b.x", a=cell("seeds", [1, 2]), b=cell("share", [0, 1]))
    found = difference("a.x > b.x", a=cell("seeds", [3, 5]), b=exact(1.0))
    assert (found.value, found.n) == (3, 2)
    assert found.high - found.value == pytest.approx(12.7062, abs=1e-3)  # t times 1


def test_settings_like_others(tmp_path):
    text = TOY.replace(
        '[small.rows.long]\nattack = "i_fgsm"\n', '[small.rows.long]\nlike = "short"\n'
    )
    (short, long) = read_tables(folder_of(tmp_path, text))["toy"].scales["small"].rows.values()
    assert (short.attack, long.attack) == ("i_fgsm", "i_fgsm")
    assert (short.arguments, long.arguments) == ({"num_steps": 1}, {"num_steps": 3})
    folder_of(tmp_path, text.replace('like = "short"', 'like = "long"'))
    with pytest.raises(ValueError, match=r"unknown name 'long'"):
        read_tables(tmp_path)


def test_successes_within_a_number_of_queries(tmp_path):
    text = TOY.replace(
        "[columns.l2]", '[columns.early]\nmeasure = "success"\nwithin = 2\n[columns.l2]', 1
    )
    table = read_tables(folder_of(tmp_path, text))["toy"]
    result = run_table(table, "small", tmp_path / "runs")
    rows = {row["row"]: row["cells"] for row in result["rows"]}
    assert rows["short"]["early"]["value"] == rows["short"]["success"]["value"]
    assert rows["long"]["early"]["value"] <= rows["long"]["success"]["value"]


def test_a_checkout_is_found():
    assert results.ROOT == ROOT
    assert results.is_checkout()


def test_a_result_of_another_file_is_an_error(tmp_path):
    table = read_tables(folder_of(tmp_path))["toy"]
    result = {"id": "toy", "scale": "small", "digest": table.digest}
    write_result(result, tmp_path)
    assert read_results({"toy": table}, tmp_path) == {"toy": result}
    folder_of(tmp_path, TOY.replace("eps = 0.1", "eps = 0.2"))
    changed = read_tables(tmp_path)
    with pytest.raises(ValueError, match=r"measured with another toy\.toml: run art-ext papers"):
        read_results(changed, tmp_path)
    (tmp_path / "toy.small.json").write_text("{")
    with pytest.raises(ValueError, match="is no result of a table"):
        read_results(changed, tmp_path)


def test_results_are_whole():
    for name, result in read_results(TABLES).items():
        assert [row["row"] for row in result["rows"]] == list(TABLES[name].rows)
        assert all(row["tag"] for row in result["rows"])
        assert [one["claim"] for one in result["claims"]] == list(TABLES[name].claims)
        assert {"tag", "n", "seeds", "seconds", "versions", "machine", "commit"} <= {*result}
        assert result["scale"] in results.SCALES


def test_claims_name_rows_and_columns_by_their_titles(tmp_path):
    text = TOY.replace("[rows.short]\n", '[rows.short]\ntitle = "1 step"\n')
    table = read_tables(folder_of(tmp_path, text))["toy"]
    told = {
        "long.success >= short.success - 1.0": 'success: "long" >= "1 step" - 1.0',
        "long.l2 <= 1.15 * short.success": '"long" l2 <= 1.15 x "1 step" success',
        "long.success >= 99": 'success: "long" >= 99',
        "increasing: l2 over steps": "l2 increasing over steps",
    }
    assert {claim: page.claim_text(table, claim) for claim in told} == told


def test_the_page_is_that_of_the_results():
    assert (ROOT / "docs" / "papers.md").read_text(encoding="utf-8") == page.page()


def test_a_table_on_another_page():
    result = read_results(TABLES)["rays-3.1"]
    text = page.excerpt("rays-3.1", "../")
    assert text.startswith(page.rows_table(TABLES["rays-3.1"], result))
    assert "[RayS, Table 3.1](../papers.md#rays-table-31): " in text
    assert "### RayS, Table 3.1\n" in page.page()
    with pytest.raises(ValueError, match=r"rays-3\.3 has no result yet: run art-ext papers"):
        page.excerpt("rays-3.3", "")


def test_the_commands(tmp_path):
    listed = command("list", "--json")
    assert listed.exit_code == 0
    assert [one["id"] for one in json.loads(listed.output)] == list(TABLES)
    shown = command("show", "frank-wolfe-2.1")
    assert "art-ext papers run --table frank-wolfe-2.1 --scale small" in shown.output
    full = command("run", "--scale", "full", "--table", "frank-wolfe-2.1")
    assert "--scale full --start" in full.output
    written = command("page", "--out", tmp_path / "papers.md")
    assert written.exit_code == 0, written.output
    assert (tmp_path / "papers.md").read_text(encoding="utf-8") == page.page()


def test_a_machine_without_the_data(tmp_path, monkeypatch):
    monkeypatch.delenv("ART_EXT_DATA", raising=False)
    done = command(
        "run", "--table", "frank-wolfe-2.1", "--out", tmp_path, "--results", tmp_path / "results"
    )
    assert done.exit_code == 1
    assert "frank-wolfe-2.1: not run: ART_EXT_DATA names no folder" in done.output


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    arguments = ("--out", tmp_path / "runs", "--results", tmp_path / "file")
    done = command("run", "--table", "hmcam-1", *arguments)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert "results cannot be written to" in done.output
    assert not (tmp_path / "runs").exists()


def test_every_file_is_a_table():
    names = {path.stem for path in FOLDER.glob("*.toml")} - {Path(SOURCES).stem}
    assert names == {name for name, table in TABLES.items() if table.rows}


@pytest.mark.slow
def test_processes_share_the_tables(tmp_path):
    chosen = "hmcam-1,rays-3.3"
    done = command(
        *("run", "--table", chosen, "--jobs", 2, "--out", tmp_path, "--results", tmp_path)
    )
    assert done.exit_code == 1  # one of them has no setting
    assert read_results(TABLES, tmp_path).keys() == {"hmcam-1"}
