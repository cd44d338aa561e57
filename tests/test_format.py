"""Run folders of the formats before the present one: their reports still work."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.data import load_data
from art_ext.evaluation import evaluate, load_images, load_run, read_records
from art_ext.evaluation.execution.runner import merge
from art_ext.evaluation.report import plots
from art_ext.storage.evaluation import open_run

EPS = (0.02, 0.05)
NEWER = ["nearest_distance", "l0", "l1", "l2", "linf"]


def outcome(folder: Path) -> Any:
    """RayS and I-FGM look for the nearest adversarial, PGD does not."""
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

    def net(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).unsqueeze(2) * weight).sum(dim=1)

    data = load_data("digits").first(20).in_memory()
    data = replace(data, y=net(data.x).argmax(dim=1))
    return evaluate(
        {"net": net},
        data,
        folder,
        eps=EPS,
        max_queries=40,
        stop_on_success=False,
        attacks=("rays", "pgd", "i_fgm"),
        attack_args={"pgd": {"num_steps": 3}},
        chunk_size=10,
        save_images=True,
    )


def split(folder: Path) -> None:
    """Make of a run folder what format 5 held: files of units instead of chunks."""
    run = open_run(folder)
    chunks = folder / "chunks"
    for number in range(len(run.chunks)):
        tables = run.files.tables(number)
        facts = run.files.facts(number)
        images = run.files.images(number)
        for path in chunks.glob(f"{number:05d}.*"):
            path.unlink()
        for place, table in tables.items():
            table.to_pandas().to_parquet(chunks / f"{place:03d}-{number:05d}.parquet", index=False)
        for name in {*facts, *images}:
            old = chunks / f"{name}-{number:05d}"
            if name in facts:
                old.with_suffix(".json").write_text(json.dumps(facts[name]))
            if name in images:
                save_file(images[name], old.with_suffix(".safetensors"))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, "format": 5}))


def downgrade(folder: Path) -> None:
    """Make of a run folder what format 4 held: ``distance`` was that of the nearest, where an
    attack looked for it.
    """
    for path in [folder / "records.parquet", *(folder / "chunks").glob("[0-9]*.parquet")]:
        rows = pd.read_parquet(path)
        rows["distance"] = rows["nearest_distance"].where(rows["attack"] != "pgd", rows["distance"])
        rows.drop(columns=NEWER).to_parquet(path, index=False)
    run = json.loads((folder / "run.json").read_text())
    for attack in run["attacks"].values():
        del attack["minimises"]
    run["settings"]["early_stop"] = run["settings"].pop("stop_on_success")
    (folder / "run.json").write_text(json.dumps({**run, "format": 4}))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run in the present format and in format 4."""
    folder = tmp_path_factory.mktemp("formats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda loaded: [])
        for name in ("new", "old"):
            outcome(folder / name)
    split(folder / "old")
    downgrade(folder / "old")
    return folder / "new", folder / "old"


def test_the_numbers_are_those_of_the_present_format(both: tuple[Path, Path]) -> None:
    new, old = (load_run(folder) for folder in both)
    assert new.run["format"] == 6
    assert old.run["format"] == 4
    assert list(old.records.columns) == list(new.records.columns)
    searching = new.records["attack"] != "pgd"
    assert np.array_equal(
        old.records["nearest_distance"], new.records["nearest_distance"], equal_nan=True
    )
    assert old.records.loc[searching, "distance"].isna().all(), "x_adv was not measured"
    assert np.array_equal(
        old.records.loc[~searching, "distance"], new.records.loc[~searching, "distance"]
    )
    assert old.records["l2"].isna().all()
    norms: dict[str, Any] = {f"mean_{name}": math.nan for name in NEWER[1:]}
    for one, other in zip(new.rows, old.rows, strict=True):
        assert repr(replace(other, seconds=0.0)) == repr(replace(one, seconds=0.0, **norms))
    assert {row.attack for row in new.rows if not math.isnan(row.mean_l2)} == {"i_fgm"}
    assert any(not math.isnan(row.adbd) for row in old.rows)


def test_report_and_compare_work(both: tuple[Path, Path], tmp_path: Path) -> None:
    new, old = both
    for command in (
        ["report", str(old), "--out", str(tmp_path / "one")],
        ["report", str(old), str(new), "--out", str(tmp_path / "two")],
        ["compare", str(old), str(new)],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "one" / "table.csv")
    assert table["mean_l2"].isna().all()
    known = pd.read_csv(new / "table.csv")
    for column in ("attack", "eps", "robust_accuracy", "mean_distance", "adbd"):
        pd.testing.assert_series_equal(table[column], known[column])
    assert len(pd.read_csv(tmp_path / "two" / "table.csv")) == 2 * len(known)


def test_parts_images_and_records_are_read(both: tuple[Path, Path], tmp_path: Path) -> None:
    new, old = both
    merge([old], tmp_path / "united")
    assert load_run(tmp_path / "united").run["format"] == 6
    assert read_records(tmp_path / "united").equals(read_records(old))
    assert torch.equal(load_images(old, "net", 0.05), load_images(new, "net", 0.05))


def test_it_is_not_gone_on_with_and_older_ones_are_not_read(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    before = (both[1] / "run.json").read_bytes()
    with pytest.raises(
        ValueError, match="holds a run of an earlier version of art-ext: choose another folder"
    ):
        outcome(both[1])
    assert (both[1] / "run.json").read_bytes() == before
    (tmp_path / "run.json").write_text(json.dumps({"tool": "art-ext", "format": 3}))
    with pytest.raises(
        ValueError,
        match="holds a run of format 3, wanted 4, 5 or 6: evaluate it again in a new folder",
    ):
        load_run(tmp_path)


def test_format_5_is_read(both: tuple[Path, Path], tmp_path: Path) -> None:
    new, _ = both
    old = tmp_path / "old"
    shutil.copytree(new, old)
    split(old)
    assert not list((old / "chunks").glob("00000*"))
    one, other = load_run(new), load_run(old)
    pd.testing.assert_frame_equal(one.records, other.records)
    assert one.examples is not None
    assert other.examples is not None
    assert torch.equal(load_images(old, "net", 0.05), load_images(new, "net", 0.05))
    (old / "records.parquet").unlink()
    pd.testing.assert_frame_equal(read_records(old), one.records)
    merge([old], tmp_path / "united")
    pd.testing.assert_frame_equal(load_run(tmp_path / "united").records, one.records)
    with pytest.raises(ValueError, match="holds a run of an earlier version of art-ext"):
        outcome(old)
