"""Runs that are killed, shared by processes, united from folders, or given bad input: nothing is
lost or mixed up.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.core import attacks as core_attacks
from art_ext.core.result import AttackResult
from art_ext.data import Dataset, load_data
from art_ext.evaluation import (
    Attack,
    AttackRequest,
    Watcher,
    evaluate,
    load_images,
    load_run,
    merge,
    read_records,
    read_run,
)
from art_ext.evaluation.report import page as report
from art_ext.storage import chunks
from art_ext.storage.chunks import CHUNKS
from art_ext.storage.differences import differences
from art_ext.storage.evaluation import open_run
from art_ext.storage.records import parquet_of, table_of_rows
from art_ext.storage.store import LocalStore
from tests.toys import drop_units

EPS = (0.05, 0.1)
KILLER = Path(__file__).with_name("_killing_evaluation.py")


@pytest.fixture(autouse=True)
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        report, "write_report", lambda folder, loaded: (folder / "index.html").write_text("report")
    )


@pytest.fixture
def run(linear_net: nn.Module, data: Dataset) -> Any:
    def call(out: Path, **options: Any) -> Any:
        settings = {
            "attacks": ("pgd", "rays"),
            "attack_args": {"pgd": {"num_steps": 4}},
            "mode": "cascade",
        }
        more = {"eps": EPS, "max_queries": 40, "chunk_size": 9, **options}
        return evaluate(**{"models": linear_net, "data": data, "out": out, **settings, **more})

    return call


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", digits[0], digits[1])


def comparable(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns="seconds")


def rows_of(outcome: Any) -> str:
    """The table, as text because NaN differs from itself."""
    return repr([replace(row, seconds=0) for row in outcome.rows])


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def interrupted(run: Any, out: Path, after: int, **options: Any) -> None:
    """The run, stopped when so many rounds of attacks have been told."""
    left = [after]

    class Stopper(Watcher):
        def progress(self, done: float, robust: float) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, watcher=Stopper(), **options)


class TestGoingOn:
    @pytest.mark.parametrize("after", [1, 9, 30, 60])
    def test_ends_with_the_same_records(self, tmp_path: Path, run: Any, after: int) -> None:
        whole = run(tmp_path / "whole")
        interrupted(run, tmp_path / "cut", after)
        kept = open_run(tmp_path / "cut")
        before = {number: kept.files.tables(number) for number in range(5)}
        again = run(tmp_path / "cut")
        pd.testing.assert_frame_equal(comparable(again.records), comparable(whole.records))
        pd.testing.assert_frame_equal(read_records(tmp_path / "cut"), again.records)
        assert after < 30 or any(before.values())
        for number, tables in before.items():
            for place, table in tables.items():
                now = kept.files.tables(number)[place]
                assert now.equals(table), "what had ended is not computed again"

    def test_a_complete_run_is_not_computed_again(
        self, tmp_path: Path, run: Any, linear_net: nn.Module
    ) -> None:
        first = run(tmp_path / "run")
        # and what is written at the end is mended
        (tmp_path / "run" / "records.parquet").write_bytes(b"damaged")
        asked = []
        hook = linear_net.register_forward_hook(lambda *_: asked.append(1))
        again = run(tmp_path / "run")
        hook.remove()
        pd.testing.assert_frame_equal(again.records, first.records)
        assert len(asked) == 2 * 5 + 3, (
            "the clean pass only: a look and a gradient for each chunk, one batch repeated"
        )
        pd.testing.assert_frame_equal(load_run(tmp_path / "run").records, first.records)

    def test_a_seed_that_was_drawn_stays(self, tmp_path: Path, run: Any) -> None:
        interrupted(run, tmp_path / "run", 30, seed=None)
        seed = read_run(tmp_path / "run")["settings"]["seed"]  # type: ignore[index]
        again = run(tmp_path / "run", seed=None)
        assert read_run(tmp_path / "run")["settings"]["seed"] == seed  # type: ignore[index]
        whole = run(tmp_path / "whole", seed=seed)
        pd.testing.assert_frame_equal(comparable(again.records), comparable(whole.records))

    def test_a_torn_file_is_named_and_nothing_else_lost(self, tmp_path: Path, run: Any) -> None:
        whole = run(tmp_path / "run")
        torn = sorted((tmp_path / "run" / CHUNKS).glob("00002.parquet"))[0]
        torn.write_bytes(torn.read_bytes()[:100])
        before = content(tmp_path / "run")
        with pytest.raises(
            ValueError,
            match=rf"{torn.name} is damaged .* remove this file and run the same command",
        ):
            run(tmp_path / "run")
        assert content(tmp_path / "run") == before
        torn.unlink()
        pd.testing.assert_frame_equal(
            comparable(run(tmp_path / "run").records), comparable(whole.records)
        )

    def test_a_full_disk_loses_nothing(
        self, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(tmp_path / "whole")
        left, fsync = [9], os.fsync

        def full(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(
                OSError, match=r"No space left on device: cannot write .*run the same command again"
            ):
                run(tmp_path / "run")
        folder = open_run(tmp_path / "run")
        assert 0 < folder.missing() < len(folder.units())
        assert not list((tmp_path / "run" / CHUNKS).glob(".*.tmp"))
        pd.testing.assert_frame_equal(
            comparable(run(tmp_path / "run").records), comparable(whole.records)
        )

    def test_leftovers_of_a_killed_writer_do_not_disturb(self, tmp_path: Path, run: Any) -> None:
        (tmp_path / "run" / CHUNKS).mkdir(parents=True)
        run(tmp_path / "run", overwrite=True)
        leftover = tmp_path / "run" / CHUNKS / ".00001.parquet.0123.tmp"
        leftover.write_bytes(b"half a file")
        run(tmp_path / "run")
        assert not leftover.exists()

    @pytest.mark.slow
    def test_killed_twenty_times(self, tmp_path: Path) -> None:
        outcome = subprocess.run(
            [sys.executable, str(KILLER), str(tmp_path), "20", "6"],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
        )
        assert outcome.returncode == 0, outcome.stderr
        happened = json.loads(outcome.stdout)
        assert happened["statuses"] == [0, 0], outcome.stderr
        assert len(happened["killed"]) >= 12
        assert set(happened["killed"]) >= {
            "attack",
            "torn file",
            "before the rename",
            "after the rename",
        }
        whole, killed = (read_records(tmp_path / name) for name in ("whole", "killed"))
        pd.testing.assert_frame_equal(comparable(killed), comparable(whole))
        names = [
            sorted(path.name for path in (tmp_path / name).rglob("*"))
            for name in ("whole", "killed")
        ]
        assert names[0] == names[1], "no temporary file stays"


class TestAnotherConfiguration:
    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"max_queries": 41}, "max_queries: 40 there, 41 here"),
            ({"eps": (0.05,)}, "eps: 0.05, 0.1 there, 0.05 here"),
            ({"attacks": ("rays",), "attack_args": None}, "attacks: pgd, rays there, rays here"),
            ({"attacks": ("pgd", "nes")}, "attacks: pgd, rays there, pgd, nes here"),
            (
                {"attack_args": {"pgd": {"num_steps": 5}}},
                "attack_args.pgd.num_steps: 4 there, 5 here",
            ),
            ({"mode": "independent"}, "mode: cascade there, independent here"),
            ({"seed": 1}, "seed: 0 there, 1 here"),
            ({"chunk_size": 10}, "chunk_size: 9 there, 10 here"),
        ],
    )
    def test_is_refused_with_the_differences(
        self, tmp_path: Path, run: Any, changed: dict[str, Any], named: str
    ) -> None:
        interrupted(run, tmp_path / "run", 30)
        before = content(tmp_path / "run")
        with pytest.raises(ValueError, match=f"holds another run .*{named}") as refused:
            run(tmp_path / "run", **changed)
        assert "searches" not in str(refused.value)
        assert "plan." not in str(refused.value)
        assert content(tmp_path / "run") == before

    def test_other_weights_or_samples(
        self, tmp_path: Path, run: Any, linear_net: nn.Module, data: Dataset
    ) -> None:
        run(tmp_path / "run")
        other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with pytest.raises(
            ValueError,
            match=r"holds another run \(weights of the model: other values there\): choose",
        ):
            run(tmp_path / "run", models=other)
        with pytest.raises(
            ValueError, match=r"holds another run \(model: model there, mine here\)"
        ):
            run(tmp_path / "run", models={"mine": linear_net})
        with pytest.raises(
            ValueError, match=r"holds another run \(number of samples: 40 there, 30 here\)"
        ):
            run(tmp_path / "run", data=data.first(30))
        with pytest.raises(
            ValueError, match=r"another run \(class of the model: Sequential there, Linear here; "
        ):
            run(tmp_path / "run", models=nn.Linear(64, 10))
        x = data.x.clone()
        x[3, 0, 0, 0] = 0.5
        with pytest.raises(
            ValueError, match=r"holds another run \(data: other samples or labels there\)"
        ):
            run(tmp_path / "run", data=replace(data, x=x))
        with pytest.raises(
            ValueError, match=r"holds another run \(data: other samples or labels there\)"
        ):
            run(tmp_path / "run", data=replace(data, y=(data.y + 1) % 10))

    def test_a_callable_that_answers_otherwise(
        self, tmp_path: Path, run: Any, linear_net: nn.Module
    ) -> None:
        options: dict[str, Any] = {"attacks": ("rays",), "attack_args": None}

        def same(x: Tensor) -> Tensor:
            with torch.no_grad():
                return linear_net(x)

        def rolled(x: Tensor) -> Tensor:
            return same(x).roll(1, dims=1)

        rolled.__name__ = "same"  # or the difference would be seen without asking
        run(tmp_path / "run", models=same, shard=(1, 2), **options)
        with pytest.raises(
            ValueError, match=r"records of another model 'model': sample 9 was answered otherwise"
        ):
            run(tmp_path / "run", models=rolled, **options)
        assert not list((tmp_path / "run" / CHUNKS).glob("00000.*")), "nothing of it was written"
        run(tmp_path / "run", models=same, **options)


class TestFiles:
    """A chunk has at most three files, written at its end or when a pause has passed."""

    @pytest.mark.parametrize("save_images", [False, True])
    def test_of_a_complete_run(self, tmp_path: Path, run: Any, save_images: bool) -> None:
        run(tmp_path / "run", save_images=save_images)
        names = sorted(path.name for path in (tmp_path / "run" / CHUNKS).iterdir())
        kinds = ("json", "parquet", "safetensors")
        assert names == [f"{number:05d}.{kind}" for number in range(5) for kind in kinds]

    def test_are_written_once_a_chunk(
        self, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written: list[str] = []
        write = LocalStore.write

        def counted(store: LocalStore, name: str, content: bytes) -> None:
            written.append(name)
            write(store, name, content)

        monkeypatch.setattr(LocalStore, "write", counted)
        run(tmp_path / "run")
        assert len([name for name in written if name.startswith(CHUNKS)]) == 3 * 5

    def test_a_pause_writes_what_has_ended(
        self, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(tmp_path / "whole")
        monkeypatch.setattr(chunks, "PAUSE", 0.0)
        monkeypatch.setattr(chunks.ChunkWriter, "add", _dying_after(2, chunks.ChunkWriter.add))
        with pytest.raises(SystemExit):
            run(tmp_path / "run")
        held = open_run(tmp_path / "run")
        assert held.files.ended() == {0: {0, 1}}
        assert (tmp_path / "run" / CHUNKS / "00000.part.parquet").exists()
        assert len(read_records(tmp_path / "run")) == 9 * sum(
            len(unit.radii) for unit in held.units_of(0)[:2]
        )
        monkeypatch.undo()
        monkeypatch.setattr(report, "write_report", lambda *_: None)
        again = run(tmp_path / "run")
        pd.testing.assert_frame_equal(comparable(again.records), comparable(whole.records))
        assert not (tmp_path / "run" / CHUNKS / "00000.part.parquet").exists()


def _dying_after(count: int, add: Any) -> Any:
    """``add`` for so many units. Then the process is as good as killed: it writes nothing more."""
    left = [count]

    def limited(writer: Any, *arguments: Any) -> None:
        if not left[0]:
            writer._changed = False
            raise SystemExit
        left[0] -= 1
        add(writer, *arguments)

    return limited


class TestSharing:
    @pytest.mark.parametrize("count", [2, 3])
    def test_shards_in_folders_of_their_own_unite(
        self, tmp_path: Path, run: Any, count: int
    ) -> None:
        whole = run(tmp_path / "whole")
        parts = [run(tmp_path / f"part {part}", shard=(part, count)) for part in range(count)]
        assert all(part.missing for part in parts)
        assert sum(len(read_records(part.folder)) for part in parts) == len(whole.records)
        assert not (tmp_path / "part 0" / "index.html").exists()
        united = merge([part.folder for part in parts], tmp_path / "united")
        assert united.missing == 0
        pd.testing.assert_frame_equal(comparable(united.records), comparable(whole.records))
        assert rows_of(united) == rows_of(whole)
        assert (tmp_path / "united" / "index.html").exists()
        loaded, other = (
            load_run(tmp_path / "united").examples,
            load_run(tmp_path / "whole").examples,
        )
        assert loaded is not None
        assert other is not None
        assert (loaded.index, loaded.labels, loaded.found.keys()) == (
            other.index,
            other.labels,
            other.found.keys(),
        )

    def test_shards_in_one_folder_need_no_merge(self, tmp_path: Path, run: Any) -> None:
        whole = run(tmp_path / "whole")
        assert run(tmp_path / "run", shard=(1, 2)).missing
        assert read_run(tmp_path / "run")["state"] == "running"  # type: ignore[index]
        last = run(tmp_path / "run", shard=(0, 2))
        assert last.missing == 0
        pd.testing.assert_frame_equal(comparable(last.records), comparable(whole.records))
        assert read_run(tmp_path / "run")["state"] == "complete"  # type: ignore[index]

    def test_who_ends_while_others_still_work_counts_what_has_ended(
        self, tmp_path: Path, run: Any
    ) -> None:
        """In a cascade the other process has broken samples that its later attacks have not come
        to.
        """
        whole = run(tmp_path / "whole")
        run(tmp_path / "run", shard=(0, 2))
        late = [
            unit.place for unit in open_run(tmp_path / "run").units_of(0) if unit.attack == "rays"
        ]
        drop_units(tmp_path / "run", 0, late)
        part = run(tmp_path / "run", shard=(1, 2))
        assert part.missing
        fell = whole.records["success"] | whole.records["already_adversarial"]
        hits = whole.records[fell]
        for row in part.rows:
            attacks = ["pgd", "rays"][: 1 + (row.attack == "rays")]
            shown = part.records[
                (part.records["attack"] == row.attack) & (part.records["eps"] == row.eps)
            ]["index"]
            known = hits[hits["attack"].isin(attacks) & (hits["eps"] <= row.eps)]["index"]
            assert row.samples == len(shown)
            assert row.robust_accuracy == pytest.approx(
                1 - len(set(shown) & set(known)) / len(shown)
            )

    def test_processes_that_begin_at_the_same_moment(
        self, tmp_path: Path, run: Any, monkeypatch: Any
    ) -> None:
        """At every file that one process puts in its place, another comes and looks whether the
        folder is its own.
        """
        out, place = tmp_path / "run", os.replace
        looks: list[Any] = []

        def looked(source: Any, target: Any) -> None:
            monkeypatch.setattr(os, "replace", place)
            looks.append(run(out, shard=(1, 2)) if len(looks) < 3 else None)
            monkeypatch.setattr(os, "replace", looked)
            place(source, target)

        monkeypatch.setattr(os, "replace", looked)
        first = run(out, shard=(0, 2))
        monkeypatch.setattr(os, "replace", place)
        assert len(looks) > 3
        assert first.missing == 0
        pd.testing.assert_frame_equal(
            comparable(first.records), comparable(run(tmp_path / "whole").records)
        )

    def test_what_is_missing_after_a_merge_is_done_by_the_same_command(
        self, tmp_path: Path, run: Any
    ) -> None:
        whole = run(tmp_path / "whole", chunk_size=None, batch_size=6)
        folders = []
        for part in (0, 2):
            run(tmp_path / str(part), chunk_size=None, batch_size=6, shard=(part, 3))
            folders.append(tmp_path / str(part))
        assert merge(folders, tmp_path / "united").missing
        # with the chunks that it finds
        rest = run(tmp_path / "united", chunk_size=None, batch_size=6)
        assert rest.missing == 0
        pd.testing.assert_frame_equal(
            comparable(rest.records)[["index", "success"]].groupby("index").any(),
            comparable(whole.records)[["index", "success"]].groupby("index").any(),
        )

    def test_overlapping_folders_are_refused(self, tmp_path: Path, run: Any) -> None:
        for name in "ab":
            run(tmp_path / name, shard=(0, 2))
        with pytest.raises(
            ValueError, match=r"overlap: both hold pgd on model for samples 0 to 8. .*--shard"
        ):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")
        assert not (tmp_path / "united").exists()

    def test_another_run_is_refused_with_the_differences(self, tmp_path: Path, run: Any) -> None:
        run(tmp_path / "a", shard=(0, 2))
        run(tmp_path / "b", shard=(1, 2), max_queries=50)
        with pytest.raises(
            ValueError, match=r"holds another run than .*max_queries: 50 there, 40 here"
        ):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")

    def test_foreign_records_are_refused(self, tmp_path: Path, run: Any) -> None:
        for part, name in enumerate("ab"):
            run(tmp_path / name, shard=(part, 2))
        chunks = tmp_path / "b" / CHUNKS
        shutil.copy(chunks / "00001.parquet", chunks / "00003.parquet")
        with pytest.raises(
            ValueError,
            match=r"00003.parquet holds records of another run: wanted pgd on model for sampl",
        ):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")
        shutil.move(chunks / "00003.parquet", chunks / "00009.parquet")
        with pytest.raises(ValueError, match=r"records of another run: there is no chunk 9"):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")
        (chunks / "00009.parquet").unlink()
        writer = open_run(tmp_path / "b").write_chunk(1)
        rows = writer.tables.pop(1).to_pandas()
        rows["attack"] = "other"
        with_other = [*writer.tables.values(), table_of_rows(rows)]
        (chunks / "00001.parquet").write_bytes(parquet_of(with_other))
        with pytest.raises(
            ValueError, match=r"00001.parquet holds records of another run: there is no such unit"
        ):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")
        rows = rows.assign(attack=writer.files.run["plan"]["searches"][1]["attack"], id=1)
        (chunks / "00001.parquet").unlink()
        (chunks / "00001.part.parquet").write_bytes(
            parquet_of([*writer.tables.values(), table_of_rows(rows)])
        )
        with pytest.raises(
            ValueError, match=r"another run: sample 9 is another one than elsewhere"
        ):
            merge([tmp_path / "a", tmp_path / "b"], tmp_path / "united")
        assert not (tmp_path / "united").exists()

    def test_what_is_no_run_is_refused(self, tmp_path: Path, run: Any) -> None:
        run(tmp_path / "a", shard=(0, 2))
        with pytest.raises(ValueError, match="is not a run folder"):
            merge([tmp_path / "a", tmp_path], tmp_path / "united")
        with pytest.raises(ValueError, match="another folder than those to merge"):
            merge([tmp_path / "a"], tmp_path / "a")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"shard": (2, 2)}, "shard must be i/n with i from 0 to n - 1, such as 0/4, got 2/2"),
            ({"shard": (0, 2), "seed": None}, "shards need one common seed"),
            ({"shard": (0, 2), "overwrite": True}, "must not overwrite"),
        ],
    )
    def test_bad_shares(
        self, tmp_path: Path, run: Any, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_more_shards_than_chunks(self, tmp_path: Path, run: Any) -> None:
        empty = run(tmp_path / "run", shard=(7, 8))
        assert (len(empty.records), empty.missing) == (0, 15)


class TestImages:
    def test_all_are_kept_when_asked_for(
        self, tmp_path: Path, run: Any, linear_net: nn.Module, data: Dataset
    ) -> None:
        outcome = run(tmp_path / "run", save_images=True)
        right = linear_net(data.x).argmax(dim=1) == data.y
        for eps in EPS:
            images = load_images(tmp_path / "run", "model", eps)
            assert images.shape == data.x.shape
            assert float((images - data.x).abs().max()) <= eps + 1e-6
            rows = outcome.records.query("eps <= @eps and success and not already_adversarial")
            broken = torch.zeros(len(data), dtype=torch.bool)
            broken[torch.tensor(rows["index"].unique())] = True
            assert 0 < int(broken.sum()) < int(right.sum())
            assert torch.equal((linear_net(images).argmax(dim=1) != data.y) & right, broken)
            assert torch.equal(images[~broken], data.x[~broken])

    def test_the_report_shows_the_same_samples(self, tmp_path: Path, run: Any) -> None:
        found = []
        for everything in (True, False):
            run(tmp_path / str(everything), save_images=everything)
            examples = load_run(tmp_path / str(everything)).examples
            assert examples is not None
            found.append(examples)
        every, few = found
        assert every.index == few.index
        assert every.labels == few.labels
        assert len(few.found["model", "rays"]) > 0
        for key, mine in few.found.items():
            assert mine.keys() == every.found[key].keys()
            for position, one in mine.items():
                other = every.found[key][position]
                assert torch.equal(one.x, other.x)
                assert (one.label, one.distance, one.success) == (
                    other.label,
                    other.distance,
                    other.success,
                )

    def test_none_are_kept_otherwise(self, tmp_path: Path, run: Any) -> None:
        run(tmp_path / "run")
        with pytest.raises(
            ValueError, match="keeps no images: evaluate in a new folder with --save-images"
        ):
            load_images(tmp_path / "run", "model", 0.1)

    def test_unknown_models_and_radii(self, tmp_path: Path, run: Any) -> None:
        run(tmp_path / "run", save_images=True)
        with pytest.raises(
            ValueError,
            match=r"has the models model and the radii \[0.05, 0.1\], got 'other' and 0.1",
        ):
            load_images(tmp_path / "run", "other", 0.1)


class TestBadInput:
    def test_missing_images(self) -> None:
        with pytest.raises(ValueError, match="nowhere"):
            load_data("nowhere.npz")

    @pytest.mark.parametrize(
        ("label", "message"),
        [(10, "labels must be below 10, the model's width"), (-1, "must be at least 0, got -1")],
    )
    def test_labels_out_of_range(
        self, tmp_path: Path, run: Any, data: Dataset, label: int, message: str
    ) -> None:
        y = data.y.clone()
        y[30] = label
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", data=replace(data, y=y))
        assert not (tmp_path / "run").exists()

    def test_wrong_shape(self, tmp_path: Path, run: Any, data: Dataset) -> None:
        with pytest.raises(ValueError, match=r"the model fails on samples of shape \(1, 4, 4\)"):
            run(tmp_path / "run", data=replace(data, x=data.x[:, :, ::2, ::2]))
        assert not (tmp_path / "run").exists()

    def test_nan_logits(
        self, tmp_path: Path, run: Any, linear_net: nn.Module, data: Dataset
    ) -> None:
        poisoned = data.x[30].clone()

        class Poisoned(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                same = (x == poisoned).flatten(1).all(dim=1)
                return linear_net(x).masked_fill(same.unsqueeze(1), torch.nan)

        with pytest.raises(ValueError, match=r"returns NaN for the clean input, first in sample"):
            run(tmp_path / "run", models=Poisoned())
        assert not (tmp_path / "run").exists()


def test_flags_of_an_attack_become_warnings(tmp_path: Path, run: Any) -> None:
    @dataclass(frozen=True)
    class Flag:
        name: str
        raised: bool
        detail: str

    @dataclass(frozen=True, eq=False)
    class Flagged(AttackResult):
        flags: tuple[Flag, ...] = ()

    def attack(request: AttackRequest) -> AttackResult:
        found = core_attacks.fgsm(request.model, request.x, request.goal, eps=request.eps)
        flags = (Flag("dynamic", True, "seen"), Flag("classes", False, ""))
        return Flagged(**{one.name: getattr(found, one.name) for one in fields(found)}, flags=flags)

    member = Attack("flagged", attack, nearest=False, about="FGSM with flags.")
    outcome = run(tmp_path / "run", attacks=(member,), attack_args=None, eps=0.1)
    assert [(one.kind, one.eps, one.message) for one in outcome.warnings] == [
        ("autoattack:dynamic", 0.1, "seen")
    ]
    # read back from the units
    again = run(tmp_path / "run", attacks=(member,), attack_args=None, eps=0.1)
    facts = [open_run(tmp_path / "run").files.facts(number) for number in range(5)]
    assert all("000" in one for one in facts), "of the unit, for each chunk"
    assert again.warnings == outcome.warnings
    assert [one["kind"] for one in read_run(tmp_path / "run")["warnings"]] == ["autoattack:dynamic"]  # type: ignore[index]


class TestDifferences:
    """In the words of the options; how the work is cut is nobody's word."""

    RUN: ClassVar[dict[str, Any]] = {
        "arguments": {
            "command": "evaluate",
            "models": ["a", "b"],
            "samples": 9,
            "n": 9,
            "path": "x",
        },
        "identity": {
            "models": {"a": {"class": "Net", "state": "1"}, "b": {"class": "Net", "state": "2"}},
            "data": "3",
        },
        "plan": {"samples": 9, "chunk_size": 4, "searches": [1]},
    }

    def changed(self, part: str, **values: Any) -> dict[str, Any]:
        return {**self.RUN, part: {**self.RUN[part], **values}}

    def test_none_between_a_run_and_itself_wherever_things_lie(self) -> None:
        assert differences(self.RUN, self.RUN) == []
        assert (
            differences(self.changed("arguments", path="elsewhere", weights="there"), self.RUN)
            == []
        )

    @pytest.mark.parametrize(
        ("part", "values", "phrases"),
        [
            ("arguments", {"command": "demo", "seed": 3}, ["command: evaluate there, demo here"]),
            (
                "arguments",
                {"attack_args": {"pgd": {"tol": 3}}},
                ["attack_args.pgd.tol: none there, 3 here"],
            ),
            ("arguments", {"seed": 3}, ["seed: none there, 3 here"]),
            ("arguments", {"model": "m" * 80}, ["model: another value there"]),
            ("identity", {"art-ext": "9"}, ["version of art-ext: none there, 9 here"]),
            ("identity", {"data": "4"}, ["data: other samples or labels there"]),
            ("plan", {"samples": 8}, ["number of samples: 9 there, 8 here"]),
            ("plan", {"chunk_size": 8}, ["chunk_size: 4 there, 8 here"]),
            ("plan", {"searches": [2]}, ["attacks: other radii per run of an attack"]),
        ],
    )
    def test_each_has_a_phrase(self, part: str, values: dict[str, Any], phrases: list[str]) -> None:
        assert differences(self.changed(part, **values), self.RUN) == phrases

    def test_of_several_models_the_one_that_differs_is_named(self) -> None:
        models = {"a": {"class": "Net", "state": "1"}, "b": {"class": "Other", "state": "5"}}
        assert differences(self.changed("identity", models=models), self.RUN) == [
            "class of b: Net there, Other here",
            "weights of b: other values there",
        ]
