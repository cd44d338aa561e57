"""``transfer``: craftings, answers, both metrics, records, and runs that go on."""

from __future__ import annotations

import errno
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
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.attacks import pgd
from art_ext.core.metrics.intervals import wilson
from art_ext.core.result import Progress
from art_ext.data import Dataset
from art_ext.evaluation import evaluate, merge_transfers, transfer
from art_ext.evaluation.execution.transfer import finish
from art_ext.evaluation.execution.transfer.iterates import Iterates
from art_ext.storage.store import LocalStore
from art_ext.storage.transfer import COLUMNS, CRAFTED, TransferFolder
from tests._killing_transfer import nets_and_data, run

EPS = 0.2


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without a page, which these tests are not about."""
    monkeypatch.setattr(finish, "report", lambda *arguments: None)


class Net(nn.Module):
    """Linear classifier of images that counts its forward rows."""

    def __init__(self, seed: int, classes: int = 4) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        common = torch.Generator().manual_seed(99)
        weight = torch.randn(classes, 12, generator=common)
        weight += 0.5 * torch.randn(classes, 12, generator=drawn)
        self.weight = nn.Parameter(weight)
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return (x.flatten(1) - 0.5) @ self.weight.T


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Samples with the labels of a network of its own, so that each net has some wrong."""
    x = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(5))
    return Dataset("drawn", x, Net(7)(x).argmax(dim=1).detach())


@pytest.fixture(scope="module")
def nets() -> dict[str, Net]:
    return {name: Net(seed) for seed, name in enumerate("abc")}


ARGUMENTS = {"pgd": {"num_steps": 5}, "hmcam": {"num_steps": 3}, "ead": {"num_steps": 5}}
BOTH = {name: ARGUMENTS[name] for name in ("pgd", "hmcam")}


@pytest.fixture(scope="module")
def whole(nets: dict[str, Net], data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("whole") / "run"
    for net in nets.values():
        net.rows = 0
    outcome = transfer(
        nets, None, data, ("pgd", "hmcam"), str(out), eps=EPS, attack_args=BOTH, chunk_size=15
    )
    return outcome, {name: net.rows for name, net in nets.items()}


def plain(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns="seconds")


class TestRecords:
    def test_columns_and_rows(self, whole: Any) -> None:
        outcome, _ = whole
        assert list(outcome.records.columns) == list(COLUMNS)
        assert len(outcome.records) == 3 * 3 * 2 * 40
        assert len(outcome.rows) == 3 * 3 * 2

    def test_white_box_cells_are_those_of_an_evaluation(
        self, whole: Any, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        outcome, _ = whole
        own = evaluate(
            nets, data, tmp_path / "run", eps=EPS, attacks=("pgd", "hmcam"), attack_args=BOTH
        ).records
        cells = outcome.records.query("source == target")
        joined = own.merge(
            cells, left_on=["model", "attack", "index"], right_on=["source", "attack", "index"]
        )
        right = joined["clean_prediction"] == joined["label_x"]
        assert 0 < right.sum() < len(joined) == 240
        joined = joined[right]
        assert (joined["success"] == joined["strict"].astype(bool)).all()
        for name in ("queries", "gradients"):
            assert (joined[f"{name}_x"] == joined[f"{name}_y"]).all()

    def test_authors_metric(self, whole: Any, nets: dict[str, Net], data: Dataset) -> None:
        outcome, _ = whole
        for source, target in (("a", "b"), ("c", "a")):
            answered = nets[source](data.x).argmax(dim=1)
            made = pgd(
                nets[source], data.x, answered, eps=EPS, num_steps=5, seed=0, on_failure="last"
            )
            before = nets[target](data.x).argmax(dim=1)
            after = nets[target](made.x_adv).argmax(dim=1)
            authors = int((after != before).sum()) / len(data)
            both = (answered == data.y) & (before == data.y)
            strict = int((after != data.y)[both].sum()) / int(both.sum())
            (row,) = (
                one
                for one in outcome.rows
                if (one.source, one.target, one.attack) == (source, target, "pgd")
            )
            assert row.authors == authors
            assert row.strict == strict
            assert (row.strict_low, row.strict_high) == pytest.approx(
                wilson(round(strict * row.counted), row.counted)
            )

    def test_metrics_agree_where_all_are_right(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        answers = [net(data.x).argmax(dim=1) for net in nets.values()]
        right = (answers[0] == data.y) & (answers[1] == data.y) & (answers[2] == data.y)
        outcome = transfer(
            nets,
            None,
            data.take(right.nonzero().flatten()),
            ("fgsm",),
            str(tmp_path / "r"),
            eps=EPS,
        )
        records = outcome.records
        assert records["strict"].notna().all()
        assert (records["strict"].astype(bool) == records["authors"].astype(bool)).all()
        assert 0 < records["authors"].sum() < len(records)

    def test_rows_asked(self, whole: Any) -> None:
        outcome, rows = whole
        records = outcome.records
        crafting = records.query("source == target").groupby("source")["queries"].sum()
        for name, asked in rows.items():
            # pgd has one example, hmcam two states of which one is the example
            answered = 3 * 40 * (1 + 2)
            assert asked == 40 + crafting[name] + answered

    def test_the_baseline_is_the_first_attack(self, whole: Any) -> None:
        outcome, _ = whole
        pgd_row, hmcam_row = (
            next(
                one
                for one in outcome.rows
                if (one.source, one.target, one.attack) == ("a", "b", name)
            )
            for name in ("pgd", "hmcam")
        )
        assert pgd_row.difference is None
        assert hmcam_row.difference == pytest.approx(hmcam_row.strict - pgd_row.strict)
        assert hmcam_row.difference_low <= hmcam_row.difference <= hmcam_row.difference_high
        assert 0 < hmcam_row.p_value <= 1


class TestGoingOn:
    def test_a_target_added_later_costs_its_forwards_only(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        steps = {"pgd": ARGUMENTS["pgd"]}
        keywords: dict[str, Any] = {"eps": EPS, "attack_args": steps, "chunk_size": 15}
        pair = {"a": nets["a"], "b": nets["b"]}
        for targets in (pair, {**pair, "c": nets["c"]}):
            for net in nets.values():
                net.rows = 0
            last = transfer(pair, targets, data, ("pgd",), str(tmp_path / "grown"), **keywords)
        assert (nets["a"].rows, nets["b"].rows) == (0, 0)
        assert nets["c"].rows == 40 + 2 * 40
        at_once = transfer(pair, targets, data, ("pgd",), str(tmp_path / "whole"), **keywords)
        pd.testing.assert_frame_equal(plain(last.records), plain(at_once.records))

    def test_a_smaller_or_another_run_is_an_error(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        out = str(tmp_path / "run")
        transfer(nets, None, data, ("fgsm",), out, eps=EPS)
        with pytest.raises(ValueError, match=r"fgsm .* on the source 'b'.*is not given now"):
            transfer({"a": nets["a"]}, nets, data, ("fgsm",), out, eps=EPS)
        with pytest.raises(ValueError, match="on the target 'c', which is not given now"):
            transfer(nets, {"a": nets["a"], "b": nets["b"]}, data, ("fgsm",), out, eps=EPS)
        with pytest.raises(ValueError, match="another model 'a'"):
            transfer({**nets, "a": Net(9)}, None, data, ("fgsm",), out, eps=EPS)
        with pytest.raises(ValueError, match="another configuration"):
            transfer(nets, None, data.first(10), ("fgsm",), out, eps=EPS)

    def test_a_damaged_file_is_named(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        transfer({"a": nets["a"]}, None, data, ("fgsm",), str(out), eps=EPS)
        (file,) = (out / CRAFTED).iterdir()
        file.write_bytes(b"no tensors")
        (out / "records.parquet").unlink()
        with pytest.raises(ValueError, match=file.name):
            transfer({"a": nets["a"]}, None, data, ("fgsm",), str(out), eps=EPS)

    def test_shards_make_the_whole(
        self, whole: Any, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        for part in range(2):
            outcome = transfer(
                nets,
                None,
                data,
                ("pgd", "hmcam"),
                str(tmp_path / "run"),
                eps=EPS,
                attack_args=BOTH,
                chunk_size=15,
                shard=(part, 2),
            )
            assert (outcome.missing > 0) == (part == 0)
        pd.testing.assert_frame_equal(plain(outcome.records), plain(whole[0].records))


class TestTargeted:
    def test_next(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        outcome = transfer(
            nets, None, data, ("pgd",), str(tmp_path / "run"), eps=0.5, targeted="next"
        )
        records = outcome.records
        assert (records["target_class"] == (records["label"] + 1) % 4).all()
        right = (records["source_prediction"] == records["label"]) & (
            records["target_prediction"] == records["label"]
        )
        assert (records["strict"].notna() == right).all()
        reached = records["adversarial_prediction"] == records["target_class"]
        assert (records["authors"] == reached).all()
        assert 0 < reached.sum() < len(records)

    def test_a_class_that_is_the_label_counts_nowhere(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        records = transfer(
            nets, None, data, ("fgsm",), str(tmp_path / "run"), eps=0.5, targeted=1
        ).records
        own = records["label"] == 1
        assert own.any()
        assert records.loc[own, ["strict", "authors"]].isna().all(axis=None)
        assert (records.loc[own, "queries"] == 1).all()


class TestEnsembles:
    def test_members_are_columns(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        outcome = transfer(
            nets,
            {"c": nets["c"]},
            data,
            ("fgsm",),
            str(tmp_path / "run"),
            eps=EPS,
            ensembles={"ab": "2*a+b"},
        )
        pairs = [(row.source, row.target) for row in outcome.rows]
        assert pairs == [("c", "c"), ("ab", "ab"), ("ab", "a"), ("ab", "b"), ("ab", "c")]
        mean = (2 * nets["a"](data.x) + nets["b"](data.x)) / 3
        found = outcome.records.query("source == 'ab' and target == 'c'")
        assert found["source_prediction"].tolist() == mean.argmax(dim=1).tolist()

    def test_hold_out(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        outcome = transfer(
            nets, None, data, ("fgsm",), str(tmp_path / "run"), eps=EPS, hold_out=True
        )
        held = [(row.source, row.target) for row in outcome.rows if row.target in row.source]
        assert [one for one in held if one[0] == f"all but {one[1]}"] == [
            (f"all but {name}", name) for name in "abc"
        ]


class TestVaried:
    def test_kappa_and_vary(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        outcome = transfer(
            {"a": nets["a"]},
            {"b": nets["b"]},
            data.first(10),
            ("ead", "pgd"),
            str(tmp_path / "run"),
            eps=(0.1, 0.2),
            kappa=(0, 5),
            vary={"pgd.step_size": [0.01, 0.02]},
            attack_args={name: ARGUMENTS[name] for name in ("ead", "pgd")},
            seeds=(0, 1),
        )
        told = [(row.attack, row.setting, row.eps, row.varied, row.value) for row in outcome.rows]
        assert told == [
            ("ead", "confidence=0", None, "confidence", 0.0),
            ("ead", "confidence=5", None, "confidence", 5.0),
            ("pgd", "eps=0.1, step_size=0.01", 0.1, "step_size", 0.01),
            ("pgd", "eps=0.2, step_size=0.01", 0.2, "step_size", 0.01),
            ("pgd", "eps=0.1, step_size=0.02", 0.1, "step_size", 0.02),
            ("pgd", "eps=0.2, step_size=0.02", 0.2, "step_size", 0.02),
        ]
        assert all(row.seeds == 2 for row in outcome.rows)

    def test_at_is_a_run_of_so_many_steps(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        outcome = transfer(
            {"a": nets["a"]},
            {"b": nets["b"]},
            data,
            ("pgd",),
            str(tmp_path / "run"),
            eps=EPS,
            at=(1, 3, 5),
            attack_args={"pgd": {"num_steps": 5, "step_size": 0.05}},
        )
        records = outcome.records
        assert sorted(set(records["at"])) == [0, 1, 3, 5]
        for steps in (1, 3, 5):
            made = pgd(
                nets["a"],
                data.x,
                nets["a"](data.x).argmax(dim=1),
                eps=EPS,
                num_steps=steps,
                step_size=0.05,
                seed=0,
                on_failure="last",
            )
            found = records.query(f"target == 'b' and at == {steps}")
            last = made.success.numpy() & found["whitebox"].to_numpy()
            # a success of an earlier step is kept by the attack, and is no iterate of this step
            both = last | ~made.success.numpy()
            told = nets["b"](made.x_adv).argmax(dim=1).numpy()
            assert both.sum() > 30
            assert (told == found["adversarial_prediction"].to_numpy())[both].all()


def test_external_attacks_hand_over_their_outputs_too(
    nets: dict[str, Net], data: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("torchattacks")
    outcome = transfer(
        nets, None, data, ("fgsm", "torchattacks:FGSM"), str(tmp_path / "run"), eps=EPS
    )
    ours, theirs = (rows for _, rows in outcome.records.groupby("attack", sort=False))
    columns = ["adversarial_prediction", "whitebox", "strict", "authors", "linf"]
    assert not ours["whitebox"].all()
    assert (theirs["linf"] > 0).all()
    for name in columns[:-1]:
        assert (ours[name].to_numpy() == theirs[name].to_numpy())[ours["strict"].notna()].all()


def test_iterates_of_slices() -> None:
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))

    def net(rows: Tensor) -> Tensor:
        return rows @ torch.linspace(-1, 1, 12).view(3, 4)

    found = []
    for rows in (6, 2):
        taken = Iterates(x, (1, 2, 4))
        for start in range(0, 6, rows):
            part = slice(start, start + rows)

            def shifted(progress: Progress, start: int = start, taken: Iterates = taken) -> None:
                taken(replace(progress, index=progress.index + start))

            pgd(net, x[part], eps=0.4, num_steps=4, seed=0, callback=shifted, stop_on_success=True)
        found.append(taken.tensors()["iterates"])
    assert torch.equal(*found)
    assert not torch.equal(found[0][0], found[0][2])


class TestLabels:
    def test_a_target_of_labels(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        def said(x: Tensor) -> Tensor:
            return nets["b"](x).argmax(dim=1)

        keywords: dict[str, Any] = {"eps": EPS}
        one = transfer(
            {"a": nets["a"]}, {"b": said}, data, ("fgsm",), str(tmp_path / "x"), **keywords
        )
        two = transfer(
            {"a": nets["a"]}, {"b": nets["b"]}, data, ("fgsm",), str(tmp_path / "y"), **keywords
        )
        pd.testing.assert_frame_equal(plain(one.records), plain(two.records))
        with pytest.raises(ValueError, match=r"fgsm needs gradients.*class indices only"):
            transfer({"s": said}, None, data, ("fgsm",), str(tmp_path / "z"), **keywords)


class TestErrors:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"hold_out": True}, "at least 3 sources"),
            ({"ensembles": {"e": "a+x"}}, "unknown member 'x'"),
            ({"ensembles": {"e": "0*a+b"}}, "numbers > 0"),
            ({"kappa": (1.0,)}, "kappa is the argument confidence"),
            ({"at": (50,)}, "at must be at most 40"),
            ({"vary": {"pdg.step_size": [1]}}, "did you mean 'pgd'"),
            ({"vary": {"pgd.step": [1]}}, "pgd takes"),
            ({"seeds": ()}, "at least one seed"),
            ({"baseline": "hmcam"}, "baseline"),
            ({"targeted": "nxt"}, "targeted must be"),
        ],
    )
    def test_is_told_before_anything_runs(
        self,
        keywords: dict[str, Any],
        message: str,
        nets: dict[str, Net],
        data: Dataset,
        tmp_path: Path,
    ) -> None:
        pair = {"a": nets["a"], "b": nets["b"]}
        out = tmp_path / "run"
        with pytest.raises(ValueError, match=message):
            transfer(pair, None, data, ("pgd",), str(out), **{"eps": EPS, **keywords})
        assert not out.exists()

    def test_at_needs_iterates(self, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="at needs attacks that tell their iterates"):
            transfer(nets, None, data, ("rays",), str(tmp_path / "r"), eps=EPS, at=(1,))

    def test_other_numbers_of_classes(
        self, nets: dict[str, Net], data: Dataset, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="same number of classes, got a 4, wide 6"):
            transfer(
                {"a": nets["a"], "wide": Net(3, classes=6)},
                None,
                data,
                ("fgsm",),
                str(tmp_path / "r"),
                eps=EPS,
            )


def test_examples_are_kept(nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = transfer(
        {"a": nets["a"]},
        None,
        data,
        ("hmcam",),
        str(out),
        eps=EPS,
        attack_args={"hmcam": ARGUMENTS["hmcam"]},
        chunk_size=15,
        save_images=True,
        save_states=True,
    )
    (file,) = (out / "examples").iterdir()
    kept = TransferFolder(out).tensors("examples", file.stem)
    assert kept is not None
    assert kept["index"].tolist() == list(range(40))
    said = nets["a"](kept["x_adv"]).argmax(dim=1)
    assert said.tolist() == outcome.records["adversarial_prediction"].tolist()
    assert kept["states"].shape == (2, 40, 3, 2, 2)
    distance = (kept["x_adv"] - data.x).abs().amax(dim=(1, 2, 3))
    assert np.allclose(distance.numpy(), outcome.records["linf"], atol=1e-6)


@pytest.mark.parametrize("writes", [1, 40, 81])
def test_a_full_disk_loses_nothing(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 81 files of work and the records, the disk takes some at first."""
    whole = run(tmp_path / "whole").records
    write, writing = LocalStore.write, LocalStore.writing
    left = [writes]

    def full(self: LocalStore, name: str, *content: bytes) -> Any:
        left[0] -= name.endswith((".safetensors", ".parquet"))
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        return write(self, name, *content) if content else writing(self, name)

    monkeypatch.setattr(LocalStore, "write", full)
    monkeypatch.setattr(LocalStore, "writing", full)
    message = "No space left on device: cannot write .* run the same command again to continue$"
    with pytest.raises(OSError, match=message):
        run(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(finish, "report", lambda *arguments: None)
    kept = sorted((tmp_path / "run").rglob("*.safetensors"))
    assert len(kept) == writes
    before = [file.stat().st_mtime_ns for file in kept]
    pd.testing.assert_frame_equal(plain(run(tmp_path / "run").records), plain(whole))
    assert [file.stat().st_mtime_ns for file in kept] == before, "nothing is made twice"


@pytest.mark.slow
class TestOtherProcesses:
    def test_ten_kills_change_nothing(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests._killing_transfer", str(tmp_path), "10", "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "10"
        killed, whole = (TransferFolder(tmp_path / one).records() for one in ("killed", "whole"))
        pd.testing.assert_frame_equal(plain(killed), plain(whole))
        assert not list((tmp_path / "killed").rglob("*.tmp"))

    def test_workers_make_the_same_records(self, tmp_path: Path) -> None:
        alone = run(tmp_path / "alone")
        shared = run(tmp_path / "shared", workers=2, threads_per_worker=1, rebuild=nets_and_data)
        pd.testing.assert_frame_equal(plain(shared.records), plain(alone.records))


def test_merge(whole: Any, nets: dict[str, Net], data: Dataset, tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"eps": EPS, "attack_args": BOTH, "chunk_size": 15}
    places = [str(tmp_path / f"part{part}") for part in range(2)]
    for part, place in enumerate(places):
        transfer(nets, None, data, ("pgd", "hmcam"), place, shard=(part, 2), **keywords)
    merge_transfers(places, tmp_path / "whole")
    for net in nets.values():
        net.rows = 0
    found = transfer(nets, None, data, ("pgd", "hmcam"), str(tmp_path / "whole"), **keywords)
    assert {net.rows for net in nets.values()} == {0}
    pd.testing.assert_frame_equal(plain(found.records), plain(whole[0].records))
    other = str(tmp_path / "other")
    transfer(nets, None, data.first(5), ("fgsm",), other, eps=EPS)
    with pytest.raises(ValueError, match="another configuration"):
        merge_transfers([places[0], other], tmp_path / "no")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--source", "x="), "source must be"),
        (("--source", "mnist-smallcnn", "--vary", "pgd=1"), "vary must be ATTACK.KEY=V1,V2"),
        (("--source", "mnist-smallcnn", "--ensemble", "e"), "ensemble must be NAME=A+B"),
        (("--source", "a=x", "--source", "a=y"), "'a' is given twice"),
        ((), "source must be given"),
    ],
)
def test_the_command_tells_errors_in_one_line(
    given: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    found = CliRunner().invoke(app, ["transfer", *given, "--data", "digits", "--out", str(out)])
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_the_command_goes_on_from_its_file(tmp_path: Path) -> None:
    factory = tmp_path / "nets.py"
    factory.write_text(
        "import torch\nfrom torch import nn\n"
        "def net(seed=0):\n"
        "    torch.manual_seed(seed)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    out = tmp_path / "run"
    command = ["transfer", "--out", str(out), "--quiet"]
    models = [f"--source=a={factory}:net", f"--source=b={factory}:net", "--model-args", "b.seed=1"]
    attack = ["--data=digits", "--n=12", "--eps=0.1", "--attack=fgsm,m_pgd", "--seeds=0,1"]
    varied = ["--vary=m_pgd.num_steps=1,2", "--outputs=a=logits"]
    places = [str(tmp_path / f"part{part}") for part in range(2)]
    for part, place in enumerate(places):
        shard = ["--shard", f"{part}/2", "--out", place]
        made = CliRunner().invoke(app, ["transfer", "--quiet", *models, *attack, *varied, *shard])
        assert made.exit_code == 0, made.output
    whole = str(tmp_path / "merged")
    merged = CliRunner().invoke(app, ["merge", *places, "--out", whole])
    command_told = merged.output.partition(": art-ext ")[2].split()
    completed = CliRunner().invoke(app, [*command_told, "--quiet"])
    first = CliRunner().invoke(app, [*command, *models, *attack, *varied])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, [*command, "--config", str(out / "config.toml")])
    assert again.exit_code == 0, again.output
    assert again.output == first.output == completed.output
    assert "eps=0.1, num_steps=2" in first.output
