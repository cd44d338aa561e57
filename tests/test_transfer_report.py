"""The page of a run of transfers, its figures and its examples; ``tests/browser`` opens it."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.metrics.intervals import wilson
from art_ext.evaluation import transfer
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.analysis.transfer import summarise_transfer
from art_ext.evaluation.analysis.transfer_examples import transfer_examples
from art_ext.evaluation.report.transfer import (
    MOST_BYTES,
    TransferMaterial,
    _means,
    render_transfer,
    write_transfer_report,
)
from art_ext.evaluation.report.transfer_charts import curves
from art_ext.evaluation.report.transfer_tables import class_matrices, heat_maps, results
from art_ext.storage.transfer import TransferFolder
from tests._transfer import make_material, make_records, make_run

HOSTILE = "</script><img src=x onerror=alert(1)> _$x^{"


@pytest.fixture(scope="module")
def material() -> TransferMaterial:
    """Three models, one attack with iterations and one with three confidences."""
    return make_material(at=(1, 5, 10))


def test_the_page_works_from_disk_and_runs_one_script(material: TransferMaterial) -> None:
    page = render_transfer(material)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched"
    assert "http" not in page.replace("http-equiv", "")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert f"script-src 'sha256-{digest}';" in page, "no other script may run"
    assert "<dt>workers</dt>" not in page, "an argument that was not given"


def test_names_from_outside_are_escaped() -> None:
    records = make_records([HOSTILE, "b"])
    run = make_run(class_names=[HOSTILE] * 10, name=HOSTILE)
    page = render_transfer(TransferMaterial(run, summarise_transfer(records), records))
    assert "<img src=x" not in page
    assert "alert(1)&gt;" in page
    assert page.count("<script>") == 1


def test_each_cell_of_a_map_is_the_share_of_the_records(material: TransferMaterial) -> None:
    records = material.records
    assert records is not None
    maps = {one.title: one for one in heat_maps(material.ends, "Strict")}
    assert list(maps) == ["pgd, eps=0.1", *(f"ead, confidence={value}" for value in (0, 10, 30))]
    own = records[(records["setting"] == "confidence=10") & (records["source"] == "b")]
    name, cells = maps["ead, confidence=10"].lines[1]
    assert name == "b"
    assert [cell.framed for cell in cells if cell] == [False, True, False]
    for target, cell in zip("abc", cells, strict=True):
        strict = own.loc[own["target"] == target, "strict"].dropna().astype(bool)
        low, high = wilson(int(strict.sum()), len(strict))
        assert cell is not None
        assert cell.text == f"{100 * strict.mean():.1f}"
        assert cell.told == f"{100 * low:.1f} to {100 * high:.1f}, {len(strict)} samples"
    authors = heat_maps(material.ends, "Authors'")[0].lines[0][1][1]
    first = records[(records["attack"] == "pgd") & (records["at"] == 0)]
    changed = first.loc[(first["source"] == "a") & (first["target"] == "b"), "authors"]
    assert authors is not None
    assert authors.text == f"{100 * changed.mean():.1f}"


def test_pairs_without_a_run_or_a_sample_have_no_share() -> None:
    records = make_records(["a", "b"])
    records.loc[records["target"] == "b", "strict"] = None
    rows = [row for row in summarise_transfer(records) if (row.source, row.target) != ("b", "a")]
    (_, of_a), (_, of_b) = heat_maps(rows, "Strict")[0].lines
    assert of_a[1] is not None
    assert of_a[1].text == "-"
    assert of_b[0] is None
    assert render_transfer(TransferMaterial(make_run(), rows))


def test_the_table_omits_what_no_row_has(material: TransferMaterial) -> None:
    columns, lines = results(material.rows)
    titles = [column.title for column in columns]
    assert {"At", "Difference", "L1"} <= {*titles}
    assert not {"Mean state", "All states"} & {*titles}, "no chain has several states"
    assert len(lines) == len(material.rows)
    place = titles.index("At")
    assert [line.cells[place].text for line in lines[:10:9]] == ["end", "1"]
    baseline = material.rows[0]
    assert baseline.difference is None
    assert lines[0].cells[titles.index("Difference")].sort is None
    compared = next(row for row in material.rows if row.difference is not None)
    note = lines[material.rows.index(compared)].cells[titles.index("Difference")].note
    assert note.endswith(f", p {compared.p_value:.3f}")
    chains = [replace(row, num_states=5, at=0, difference=None) for row in material.rows]
    others = [column.title for column in results(chains)[0]]
    assert {"Mean state", "All states"} <= {*others}
    assert not {"At", "Difference"} & {*others}


def test_several_seeds_show_their_range(material: TransferMaterial) -> None:
    row = replace(material.rows[0], seeds=3, strict_least=0.25, strict_most=0.5)
    columns, (line,) = results([row])
    place = [column.title for column in columns].index("Strict")
    assert line.cells[place].note.endswith(", seeds 25.0 to 50.0")


def test_curves_hold_the_numbers_of_the_rows(material: TransferMaterial) -> None:
    found = dict(curves(material.rows))
    assert {*found} == {"iterations", "confidence"}
    titles = [chart.title for chart in found["confidence"]]
    assert titles[:3] == [f"Success against confidence, made on {name}" for name in "abc"]
    assert titles[3:] == ["L1 distance against confidence", "L2 distance against confidence"]
    assert len(found["iterations"]) == 3, "a figure for each source, none of distances"
    chart = found["confidence"][1]
    by_name = {own.steps.model: own.steps for own in chart.curves}
    rows = {
        (row.target, row.value): row for row in material.rows if row.source == "b" and row.varied
    }
    for target, steps in by_name.items():
        assert steps.x.tolist() == [0, 10, 30]
        assert steps.y.tolist() == [rows[target, value].strict for value in (0, 10, 30)]
        assert [round(one * steps.samples) for one in steps.y] == steps.counts.tolist()
    distance = next(own.steps for own in found["confidence"][3].curves if own.steps.model == "b")
    assert distance.y.tolist() == [rows["a", value].l1 for value in (0, 10, 30)]


def test_a_source_that_is_no_target_has_its_success_on_the_samples_of_the_first() -> None:
    rows = [
        row
        for row in summarise_transfer(make_records(["a", "b", "c"]))
        if row.source == "a" and row.target != "a"
    ]
    chart = dict(curves(rows))["confidence"][0]
    own = next(one.steps for one in chart.curves if one.steps.model == "a")
    expected = [row.source_success for row in rows if row.target == "b" and row.varied]
    assert own.y.tolist() == expected
    assert own.samples == next(row.counted for row in rows if row.target == "b")


def test_radii_are_a_curve_and_one_value_is_none() -> None:
    records = make_records(["a", "b"], settings={"pgd": ()})
    assert curves(summarise_transfer(records)) == []
    larger = records.assign(eps=0.2, setting="eps=0.2")
    rows = summarise_transfer(pd.concat([records, larger], ignore_index=True))
    ((varied, charts),) = curves(rows)
    assert varied == "eps"
    assert charts[0].lower[0].lines == ("0.1",)


def test_values_of_a_curve_that_begins_later_stand_at_their_stops() -> None:
    """The script counts stops from the first of the figure, also for such a curve."""
    rows = summarise_transfer(make_records(["a", "b"]))
    kept = [row for row in rows if row.varied and not (row.target == "b" and row.value == 0)]
    chart = dict(curves(kept))["confidence"][0]
    late = next(one for one in chart.curves if one.steps.model == "b")
    assert (late.first, late.steps.x.tolist()) == (1, [10, 30])
    ends = [round(value * late.steps.samples) for value in late.steps.y]
    assert late.steps.counts.tolist() == [ends[0], *ends]


def test_distances_of_no_success_are_left_out(material: TransferMaterial) -> None:
    rows = [replace(row, l1=math.nan) for row in material.rows if row.varied]
    titles = [chart.title for chart in dict(curves(rows))["confidence"]]
    assert not any(title.startswith("L1") for title in titles)


def test_targeted_runs_show_class_and_target_class() -> None:
    material = make_material(True, 200)
    records = material.records
    assert records is not None
    one = class_matrices(records, material.run, material.examples)[0]
    assert one.title == "a, pgd, eps=0.1"
    own = records[
        (records["attack"] == "pgd")
        & (records["source"] == "a")
        & (records["target"] == "a")
        & (records["source_prediction"] == records["label"])
        & (records["label"] == 3)
    ]
    row = one.lines[3][1]
    assert [place for place, cell in enumerate(row) if cell and cell.text] == [4]
    assert row[4] is not None
    assert row[4].text == f"{100 * own['whitebox'].mean():.0f}"
    assert row[4].told.startswith(f"3 to 4: {own['whitebox'].sum()} of {len(own)} on the source, ")
    page = render_transfer(material)
    assert 'id="transfer_classes"' in page
    assert 'id="transfer_classes"' not in render_transfer(make_material())


def test_more_than_twenty_classes_have_no_matrix() -> None:
    records = make_records(samples=100, targeted=True)
    records["label"] = records["index"]
    assert class_matrices(records, make_run(100, True)) == []


def test_examples_are_of_different_classes_that_all_models_classify_right() -> None:
    records = make_records(samples=100, targeted=True)
    x = torch.rand(60, 1, 8, 8)
    asked = []

    def read(source: str, attack: str, setting: str) -> torch.Tensor:
        asked.append((source, attack, setting))
        return x + 0.1

    kept = transfer_examples(records, x, "linf", read)
    assert len(asked) == len({*asked}) == 12
    assert len(kept.index) == 10
    assert len({kept.labels[position] for position in kept.index}) == 10
    wrong = records[
        (records["source_prediction"] != records["label"])
        | (records["target_prediction"] != records["label"])
    ]
    assert not {*kept.index} & {*wrong["index"]}
    found = kept.found["b", "ead, confidence=10"]
    own = records[
        (records["source"] == "b")
        & (records["target"] == "b")
        & (records["setting"] == "confidence=10")
    ].set_index("index")
    for position, one in found.items():
        assert position < 60
        assert torch.equal(one.x, x[position] + 0.1)
        assert one.label == own["adversarial_prediction"][position]
        assert one.distance == own["linf"][position]
        assert one.success == own["whitebox"][position]
    pairs = own[(own.index < 60) & own["whitebox"]].drop_duplicates(["label", "target_class"])
    assert {*pairs.index} <= {*found}, "the first success of each class and class to reach"


def test_figures_are_files_too(tmp_path: Path, material: TransferMaterial) -> None:
    write_transfer_report(tmp_path, material)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"transfer.png", "examples.png", "confidence-1.png", "iterations-3.png"} <= names
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == render_transfer(material)


def test_a_large_run_is_a_small_page() -> None:
    settings: dict[str, Any] = {f"attack-{number}": () for number in range(8)}
    records = make_records([f"model-{number}" for number in range(6)], 50, settings)
    page = render_transfer(TransferMaterial(make_run(50), summarise_transfer(records), records))
    assert page.count('class="framed"') == 2 * 8 * 6
    assert len(page.encode("utf-8")) < 3_000_000


def test_strips_of_large_images_have_fewer_samples() -> None:
    records = make_records(samples=100)
    x = torch.rand(60, 3, 64, 64)  # noise takes most bytes
    examples = transfer_examples(records, x, "linf", lambda *_: x.flip(0))
    run = make_run(100, shape=[3, 64, 64])
    material = TransferMaterial(run, summarise_transfer(records), records, examples)
    assert len(examples.index) == 10
    assert len({len(sheet.originals) for sheet in material.strips}) == 1
    assert 1 <= len(material.strips[0].originals) < 10
    assert all(
        len(row) == len(sheet.originals) for sheet in material.strips for _, row in sheet.rows
    )
    assert sum(sheet.weight for sheet in material.strips) <= 1.1 * MOST_BYTES


def test_other_commands_say_whose_folder_it_is(
    tmp_path: Path, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    out = tmp_path / "moved"
    transfer({"net": net}, None, (digits[0][:8], digits[1][:8]), ["fgsm"], str(out), eps=0.1)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Transfer on" in page
    assert "fgsm, eps=0.1" in page
    assert (out / "figures" / "transfer.png").exists()
    with pytest.raises(ValueError, match="but that of art-ext transfer, which writes its report"):
        load_run(out)


@pytest.fixture(scope="module")
def ensemble(
    tmp_path_factory: pytest.TempPathFactory, digits: tuple[torch.Tensor, torch.Tensor]
) -> Path:
    """A complete run with an ensemble of two of three models."""
    nets = {}
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        nets[name] = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    out = tmp_path_factory.mktemp("ensemble") / "run"
    samples = (digits[0][:30], digits[1][:30])
    names = ["fgsm", "pgd"]
    options: dict[str, Any] = {"eps": 0.1, "ensembles": {"ab": "a+b"}, "baseline": "pgd"}
    transfer(nets, None, samples, names, str(out), arguments={"n": 30}, **options)
    return out


def test_members_of_an_ensemble_are_marked_and_no_transfer(ensemble: Path) -> None:
    rows = json.loads((ensemble / "table.json").read_text())["rows"]
    member = {(row["source"], row["target"]) for row in rows if row["member"]}
    assert member == {("ab", "a"), ("ab", "b")}
    page = (ensemble / "index.html").read_text(encoding="utf-8")
    assert page.count('class="member"') == 2 * 2 * 2
    material = make_material()
    ends = [replace(row, member=row.target == "b") for row in material.rows if row.source == "a"]
    means = {name: (mean, told) for name, mean, told in _means(ends[:3])}
    assert means["Members"] == (pytest.approx(ends[1].strict), "1 pair")
    assert means["Strict"] == (pytest.approx(ends[2].strict), "1 pair")


def test_the_report_is_written_again_without_models(ensemble: Path, tmp_path: Path) -> None:
    page = (ensemble / "index.html").read_text(encoding="utf-8")
    figure = (ensemble / "figures" / "transfer.png").read_bytes()
    (ensemble / "index.html").unlink()
    (ensemble / "figures" / "transfer.png").unlink()
    done = CliRunner().invoke(app, ["report", str(ensemble)])
    assert (done.exit_code, done.output) == (0, f"report: {ensemble / 'index.html'}\n")
    assert (ensemble / "index.html").read_text(encoding="utf-8") == page
    assert (ensemble / "figures" / "transfer.png").read_bytes() == figure
    elsewhere = tmp_path / "elsewhere"
    for _ in range(2):  # an earlier report may be replaced
        done = CliRunner().invoke(app, ["report", str(ensemble), "--out", str(elsewhere)])
        assert done.exit_code == 0, done.output
    assert (elsewhere / "index.html").read_text(encoding="utf-8") == page


def test_a_report_of_transfers_tells_what_it_lacks(ensemble: Path, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(ensemble, lacking)
    (lacking / "page.json").unlink()
    begun = TransferFolder(tmp_path / "begun")
    begun.begin({"craftings": []})
    single = "is a run of art-ext transfer, whose report takes that folder alone"
    cases: dict[str, list[Any]] = {
        f"{lacking} holds no page.json: run the same command again": [lacking],
        "that is not complete: run the same command again": [begun.path],
        single: [ensemble, lacking, "--out", tmp_path / "x"],
        "--baseline is for runs of art-ext evaluate": [ensemble, "--baseline", "pgd"],
    }
    for message, arguments in cases.items():
        done = CliRunner().invoke(app, ["report", *map(str, arguments)])
        assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
        assert message in done.output
