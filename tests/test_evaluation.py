"""The evaluation: records, run folder, table, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays
from art_ext.core.metrics import wilson
from art_ext.core.streams import fingerprint
from art_ext.core.wording import radius
from art_ext.data import Dataset
from art_ext.evaluation import Watcher, evaluate, read_records, read_run
from art_ext.evaluation.analysis import records
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.report import plots

N, EPS = 20, 0.03


def samples(shape: tuple[int, ...] = (1, 4, 4)) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.15 * (2 * torch.rand(N, *shape, generator=generator) - 1)
    return Dataset(
        "squares", x, classifier()(x).argmax(dim=1) if shape == (1, 4, 4) else torch.zeros(N).long()
    )


def classifier(seed: int = 0) -> nn.Module:
    """Three classes, computed row by row; the same weights for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(16, 3, generator=generator, dtype=torch.float32)

    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x.flatten(1) - 0.5).unsqueeze(2) * weight).sum(dim=1)

    return Rows()


def run(out: Path, **options: Any) -> Any:
    """A quick evaluation: three wrong labels, budget 60, chunks of 7."""
    data = samples()
    y = data.y.clone()
    y[:3] = (y[:3] + 1) % 3
    return evaluate(
        **{
            "models": {"linear": classifier()},
            "data": replace(data, y=y),
            "out": out,
            "eps": EPS,
            "max_queries": 60,
            "chunk_size": 7,
            **options,
        }
    )


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Records without what the clock says, in the order of the samples."""
    return frame.drop(columns="seconds").sort_values(
        ["model", "attack", "eps", "index"], ignore_index=True
    )


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else, and most tests are not about it."""
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


@pytest.mark.usefixtures("without_plots")
class TestRecords:
    def test_one_row_per_sample_with_the_numbers_of_the_attack(self, tmp_path: Path) -> None:
        found = run(tmp_path / "run").records
        assert tuple(found.columns) == records.COLUMNS
        assert found["index"].tolist() == list(range(N))
        data = samples()
        assert found["id"].tolist() == fingerprint(data.x).tolist()
        assert (found["clean_prediction"] == data.y.numpy()).all()
        assert (found["label"] != data.y.numpy()).tolist() == [True] * 3 + [False] * (N - 3)
        core = rays(classifier(), data.x, torch.tensor(found["label"]), eps=EPS, max_queries=60)
        for name in (
            "success",
            "already_adversarial",
            "distance",
            "nearest_distance",
            "queries",
            "queries_to_success",
            "gradients",
        ):
            assert np.array_equal(found[name], getattr(core, name).numpy()), name
        for name, lengths in core.distortions().items():
            assert np.array_equal(found[name], lengths.float().numpy()), name
        assert found["already_adversarial"].sum() == 3
        assert 3 < found["success"].sum() < N
        assert (found["seconds"] > 0).all()

    def test_the_file_holds_what_the_outcome_holds(self, tmp_path: Path) -> None:
        outcome = run(tmp_path / "run")
        pd.testing.assert_frame_equal(read_records(tmp_path / "run"), outcome.records)
        assert not list((tmp_path / "run").glob(".*")), "temporary files are left"

    @pytest.mark.parametrize("chunk_size", [1, 20, 1000])
    def test_chunks_change_nothing(self, tmp_path: Path, chunk_size: int) -> None:
        whole, cut = run(tmp_path / "whole"), run(tmp_path / "cut", chunk_size=chunk_size)
        pd.testing.assert_frame_equal(comparable(whole.records), comparable(cut.records))

    def test_one_search_serves_several_radii_as_searches_of_their_own_would(
        self, tmp_path: Path
    ) -> None:
        radii = (0.01, 0.03, 0.05)
        together = run(tmp_path / "together", eps=radii).records
        alone = run(tmp_path / "alone", eps=radii, stop_on_success=True).records
        assert len(together) == len(alone) == 3 * N
        for name in ("success", "queries_to_success", "already_adversarial"):
            assert comparable(together)[name].tolist() == comparable(alone)[name].tolist(), name
        right = ~together["already_adversarial"]
        assert (together.loc[right, "queries"] == 60).all()
        assert alone.loc[right, "queries"].min() < 60
        broken = together.groupby("eps")["success"].sum().tolist()
        assert broken == sorted(broken)
        assert broken[0] < broken[-1]

    def test_a_killed_run_leaves_its_finished_chunks(self, tmp_path: Path) -> None:
        class Killed(Watcher):
            def progress(self, done: float, robust: float) -> None:
                if done > 14:  # the third chunk is under way
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", watcher=Killed())
        kept = read_records(tmp_path / "run")
        assert kept["index"].tolist() == list(range(14))
        state = read_run(tmp_path / "run")
        assert state is not None
        assert state["state"] == "running"
        assert not (tmp_path / "run" / "index.html").exists()
        again = run(tmp_path / "run")
        pd.testing.assert_frame_equal(comparable(again.records).head(14), comparable(kept))
        assert read_run(tmp_path / "run")["state"] == "complete"  # type: ignore[index]

    def test_a_write_that_fails_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = records.RunFolder(tmp_path / "run", {})
        folder.begin()
        folder.store.write("table.csv", b"old")

        def full(descriptor: int) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            folder.store.write("table.csv", b"new and longer")
        assert (tmp_path / "run" / "table.csv").read_text() == "old"


@pytest.mark.usefixtures("without_plots")
class TestTable:
    def test_numbers_recomputed_from_the_records(self, tmp_path: Path) -> None:
        outcome = run(
            tmp_path / "run", models={"a": classifier(), "b": classifier(1)}, eps=(0.01, 0.03)
        )
        assert [(row.model, row.eps) for row in outcome.rows] == [
            ("a", 0.01),
            ("a", 0.03),
            ("b", 0.01),
            ("b", 0.03),
        ]
        for row in outcome.rows:
            found = outcome.records.query("model == @row.model and eps == @row.eps")
            right = (found["clean_prediction"] == found["label"]).to_numpy()
            near = (found["nearest_distance"] <= row.eps).to_numpy()
            broken = right & near
            cost = found["queries_to_success"].to_numpy()[broken]
            assert row.samples == N
            assert row.clean_accuracy == pytest.approx(right.mean())
            assert row.robust_accuracy == pytest.approx((right & ~near).mean())
            assert row.success_rate == pytest.approx(broken.sum() / right.sum())
            assert row.mean_queries == pytest.approx(cost.mean())
            assert row.median_queries == pytest.approx(np.median(cost))
            assert row.mean_queries_without_check == pytest.approx(cost.mean() - 1)
            finite = np.isfinite(found["nearest_distance"])
            assert row.adbd == pytest.approx(
                np.where(right, found["nearest_distance"], 0.0)[finite].mean(), rel=1e-6
            )
            assert row.mean_distance == pytest.approx(
                found["nearest_distance"][finite & right].mean(), rel=1e-6
            )
            assert row.median_distance == pytest.approx(
                np.median(found["nearest_distance"][finite & right]), rel=1e-6
            )
            assert row.left_out == (~finite & right).sum()
            assert row.queries == found["queries"].sum()
            assert row.seconds == pytest.approx(found["seconds"].sum())

    def test_csv_and_json_hold_the_same_table(self, tmp_path: Path) -> None:
        outcome = run(tmp_path / "run")
        row, _ = json.loads((tmp_path / "run" / "table.json").read_text())
        with (tmp_path / "run" / "table.csv").open() as stream:
            line, _ = csv.DictReader(stream)
        assert (
            row["robust_accuracy"]
            == float(line["robust_accuracy"])
            == outcome.rows[0].robust_accuracy
        )
        for name in ("adbd", "mean_distance", "median_distance", "left_out"):
            assert row[name] is None, "a search that stopped early knows upper bounds only"
            assert line[name] == ""

    def test_rows_of_the_worst_case(self, tmp_path: Path) -> None:
        models = {"a": classifier(), "b": classifier(1)}
        outcome = run(tmp_path / "run", models=models, eps=(0.01, 0.03), attacks=("rays", "fgsm"))
        rows = json.loads((tmp_path / "run" / "table.json").read_text())
        with (tmp_path / "run" / "table.csv").open() as stream:
            lines = list(csv.DictReader(stream))
        assert [(row["model"], row["attack"]) for row in rows] == [
            (model, attack)
            for model in "ab"
            for attack in ("rays", "rays", "fgsm", "fgsm", "worst_case", "worst_case")
        ]
        worst = [row for row in rows if row["attack"] == "worst_case"]
        for row in worst:
            found = outcome.records[outcome.records["model"] == row["model"]]
            broken = found[found["success"] | found["already_adversarial"]].query(
                "eps <= @row['eps']"
            )["index"]
            held = N - broken.nunique()
            right = N - found[found["already_adversarial"]]["index"].nunique()
            assert (row["robust_accuracy"], row["clean_accuracy"]) == (held / N, right / N)
            assert (row["robust_low"], row["robust_high"]) == pytest.approx(wilson(held, N))
            assert (row["clean_low"], row["clean_high"]) == pytest.approx(wilson(right, N))
            assert (row["samples"], row["attacks"]) == (N, 2)
            levels = [one.level for one in outcome.warnings if one.model in ("", row["model"])]
            assert (row["warnings"], row["infos"]) == (
                levels.count("warning"),
                levels.count("info"),
            )
            assert row["mean_queries"] is None
        assert any(row["warnings"] for row in worst)
        assert {row["attacks"] for row in rows if row["attack"] != "worst_case"} == {None}
        numbers = [float(line["robust_accuracy"]) for line in lines]
        assert numbers == [row["robust_accuracy"] for row in rows]
        said = read_run(tmp_path / "run")["verdict"]  # type: ignore[index]
        assert [(one["model"], len(one["worst"]), one["attacks"]) for one in said] == [
            ("a", 2, 2),
            ("b", 2, 2),
        ]
        told = [one["robust_accuracy"] for verdict in said for one in verdict["worst"]]
        assert told == [row["robust_accuracy"] for row in worst]

    def test_nothing_broken_is_unknown_cost_not_zero(self, tmp_path: Path) -> None:
        (row,) = run(tmp_path / "run", eps=1e-4).rows
        assert row.robust_accuracy == row.clean_accuracy == pytest.approx(17 / 20)
        assert math.isnan(row.mean_queries)
        assert '"mean_queries": null' in (tmp_path / "run" / "table.json").read_text()

    @pytest.mark.parametrize(
        ("eps", "text"),
        [
            (8 / 255, "8/255"),
            (0.3, "0.3"),
            (0.2, "0.2"),
            (1 / 255, "1/255"),
            (0.12345678, "0.1235"),
        ],
    )
    def test_radii_as_people_write_them(self, eps: float, text: str) -> None:
        assert radius(eps) == text


@pytest.mark.usefixtures("without_plots")
class TestFolder:
    def test_run_json_says_what_was_run(self, tmp_path: Path) -> None:
        run(tmp_path / "run", seed=7, arguments={"command": "test"})
        said = read_run(tmp_path / "run")
        assert said is not None
        assert said["arguments"]["command"] == "test"
        assert said["settings"]["seed"] == 7
        assert said["settings"]["eps"] == [EPS]
        assert said["clean_accuracy"] == {"linear": 17 / 20}
        assert said["records"] == N
        assert said["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
        assert any("upper bound" in sentence for sentence in said["protocol"])

    def test_run_json_holds_no_default_that_older_folders_do_not_know(self, tmp_path: Path) -> None:
        run(tmp_path / "run")
        said = read_run(tmp_path / "run")
        assert said is not None
        settings = {
            "eps": [EPS],
            "max_queries": 60,
            "norm": "linf",
            "stop_on_success": True,
            "outputs": "logits",
            "clip_values": [0.0, 1.0],
            "batch_size": 256,
            "seed": 0,
            "targeted": None,
        }
        assert said["settings"] == {**settings, "device": None}
        assert said["arguments"] == {
            "models": ["linear"],
            "data": "squares",
            "samples": N,
            "panel": "custom",
            "mode": "independent",
            "attacks": ["rays"],
            "attack_args": {},
            **settings,
            "save_images": False,
        }

    @pytest.mark.parametrize("kind", ["foreign file", "other arguments", "not ours", "a file"])
    def test_refuses_what_is_not_its_own(self, tmp_path: Path, kind: str) -> None:
        out = tmp_path / "run"
        if kind == "a file":
            out.write_text("mine")
        elif kind == "other arguments":
            run(out, max_queries=50)
        else:
            out.mkdir()
            (out / ("run.json" if kind == "not ours" else "thesis.tex")).write_text(
                '{"tool": "another"}'
            )
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        message = (
            r"another run \(max_queries: 50 there, 60 here\)"
            if kind == "other arguments"
            else "out must"
        )
        with pytest.raises(ValueError, match=message):
            run(out)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_the_same_arguments_may_run_again(self, tmp_path: Path) -> None:
        first, second = run(tmp_path / "run"), run(tmp_path / "run")
        pd.testing.assert_frame_equal(comparable(first.records), comparable(second.records))

    def test_overwrite_keeps_what_is_not_ours(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        run(out, max_queries=50)
        (out / "notes.txt").write_text("mine")
        run(out, overwrite=True)
        assert (out / "notes.txt").read_text() == "mine"
        assert read_run(out)["settings"]["max_queries"] == 60  # type: ignore[index]

    def test_a_new_run_that_is_killed_keeps_the_complete_run_before_it(
        self, tmp_path: Path
    ) -> None:
        class Killed(Watcher):
            def progress(self, done: float, robust: float) -> None:
                raise KeyboardInterrupt

        out = tmp_path / "run"
        first = run(out)
        # the second finds an incomplete run, which must not take the place of the complete one
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(out, max_queries=50, overwrite=True, watcher=Killed())
            assert read_run(out)["state"] == "running"  # type: ignore[index]
            assert not (out / "index.html").exists()
            pd.testing.assert_frame_equal(read_records(out / ".previous-run"), first.records)
            assert (out / ".previous-run" / "index.html").exists()
        run(out, max_queries=50)
        assert not (out / ".previous-run").exists()
        assert (out / "index.html").exists()

    def test_a_refused_run_leaves_the_earlier_one(self, tmp_path: Path) -> None:
        run(tmp_path / "run")
        before = (tmp_path / "run" / "records.parquet").read_bytes()
        broken = nn.Sequential(nn.Flatten(), nn.Linear(5, 3))
        with pytest.raises(
            ValueError, match=r"another run \(class of the model: .*; weights of the model: other"
        ):
            run(tmp_path / "run", models={"linear": broken})
        with pytest.raises(ValueError, match="model fails on samples of shape"):
            run(tmp_path / "run", models={"linear": broken}, overwrite=True)
        assert (tmp_path / "run" / "records.parquet").read_bytes() == before
        assert (tmp_path / "run" / "index.html").exists()

    def test_without_the_extra_nothing_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            records, "find_spec", lambda name: None if name in ("pandas", "jinja2") else object()
        )
        with pytest.raises(ImportError, match=r"pandas, jinja2: pip install 'art-ext\[report\]'"):
            run(
                tmp_path / "run",
                models={"never asked": lambda x: pytest.fail("the model was asked")},
            )
        assert not (tmp_path / "run").exists()

    def test_a_pyarrow_for_another_numpy_stops_the_run_before_it_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ImportError, match=r"with numpy 1\.26 take 'pyarrow<22'"):
            run(
                tmp_path / "run",
                models={"never asked": lambda x: pytest.fail("the model was asked")},
            )
        assert not (tmp_path / "run").exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"eps": ()}, "at least one finite radius"),
            ({"eps": (0.1, math.inf)}, "finite radius"),
            ({"eps": -1}, "eps must be > 0, got -1"),
            ({"eps": 8}, "eps must not exceed the box width"),
            ({"norm": "l0"}, "norm must be one of"),
            (
                {"attacks": ("pdg",)},
                "attack must be one of opt, rays, .*, autoattack, torchattacks:CLASS, .*got 'pdg'",
            ),
            ({"attacks": ("rays", "rays")}, "differ in their names"),
            (
                {"attacks": (replace(find_attack("rays"), name="worst_case"),)},
                "no attack may be called 'worst_case'",
            ),
            ({"max_queries": 0}, "max_queries must be an integer >= 1"),
            ({"batch_size": 0}, "batch_size must be"),
            ({"chunk_size": 0}, "chunk_size must be"),
            ({"outputs": "scores"}, "outputs must be one of"),
            ({"clip_values": (1.0, 0.0)}, "clip_values"),
            ({"clip_values": (0.5, 1.0)}, r"x must lie in \[0.5, 1\]"),
            ({"device": "abacus"}, "device must be a name that torch knows"),
            ({"models": {}}, "at least one model"),
            (
                {"models": nn.Sequential(nn.Flatten(), nn.Linear(16, 2))},
                "labels must be below 2, the model's width",
            ),
        ],
    )
    def test_before_anything_is_written(
        self, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("without_plots")
class TestWatcher:
    def test_hears_the_clean_accuracy_first_and_a_falling_robust_accuracy(
        self, tmp_path: Path
    ) -> None:
        heard: list[tuple[Any, ...]] = []

        class Listener(Watcher):
            def clean(self, model: str, accuracy: float) -> None:
                heard.append(("clean", model, accuracy))

            def start(self, model: str, attack: str, eps: float, samples: int) -> None:
                heard.append(("start", model, attack, eps, samples))

            def progress(self, done: float, robust: float) -> None:
                heard.append((done, robust))

        (row,) = run(tmp_path / "run", watcher=Listener(), chunk_size=N).rows
        assert heard[:2] == [("clean", "linear", 17 / 20), ("start", "linear", "rays", EPS, N)]
        done, robust = zip(*heard[2:], strict=True)
        assert list(done) == sorted(done)
        assert list(robust) == sorted(robust, reverse=True)
        assert robust[0] == pytest.approx(17 / 20)
        assert heard[-1] == (N, pytest.approx(row.robust_accuracy))

    @pytest.mark.parametrize("mode", ["cascade", "independent"])
    @pytest.mark.parametrize("stop_on_success", [True, False])
    def test_the_last_number_of_a_bar_is_that_of_the_table(
        self, tmp_path: Path, mode: str, stop_on_success: bool
    ) -> None:
        # by attack, the numbers of each chunk
        bars: dict[tuple[str, float], list[list[float]]] = {}

        class Listener(Watcher):
            def start(self, model: str, attack: str, eps: float, samples: int) -> None:
                self.bar = bars.setdefault((attack, eps), [])
                self.bar.append([])

            def progress(self, done: float, robust: float) -> None:
                self.bar[-1].append(robust)

        few = find_attack("rays", {"max_queries": 12}, "few")
        options: dict[str, Any] = {
            "stop_on_success": stop_on_success,
            "mode": mode,
            "eps": (0.01, 0.02, 0.03),
        }
        rows = run(
            tmp_path / "run", attacks=("fgsm", few, "rays", "i_fgm"), watcher=Listener(), **options
        ).rows
        table = {(row.attack, row.eps): row.robust_accuracy for row in rows}
        assert table["fgsm", 0.01] > table["fgsm", 0.03], "or it would show nothing"
        assert {key: bar[-1][-1] for key, bar in bars.items()} == pytest.approx(
            {key: table[key] for key in bars}
        )
        chunks = [chunk for bar in bars.values() for chunk in bar]
        assert len(chunks) > len(bars)
        assert all(chunk == sorted(chunk, reverse=True) for chunk in chunks)


def test_importing_the_evaluation_does_not_import_art_or_pandas() -> None:
    code = "import sys, art_ext.evaluation.demo; print({'art', 'pandas', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
