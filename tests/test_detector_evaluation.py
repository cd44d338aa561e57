"""Evaluation of models with a detector: fit, records, cascade, resume, shards, table, warnings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.detection import Confidence, Detector, registry
from art_ext.core.metrics.detection import detection_metrics
from art_ext.data import load_data
from art_ext.evaluation import evaluate, load_images, merge, read_records
from art_ext.evaluation.analysis.blocks import blocks_of
from art_ext.evaluation.analysis.compare import compare
from art_ext.evaluation.analysis.defences import of_defences
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.analysis.rejection import by_rate
from art_ext.evaluation.analysis.table import plain, summarise, to_text
from art_ext.evaluation.analysis.verdict import below, lines
from art_ext.evaluation.execution.finish import load_partial
from art_ext.evaluation.panel.user_detectors import find_detector
from art_ext.evaluation.report import write_report
from art_ext.evaluation.report.material import Material
from art_ext.storage.evaluation import DETECTION_PLOTS
from art_ext.storage.records import COLUMNS, DETECTION
from art_ext.training.heads import Head, HeadedModel, MaxMahalanobis
from tests.toys import drop_units, examples

EPS = 0.1
PGD = {"pgd": {"num_steps": 5}}
ATTACKED = 40


class Counting(Confidence):
    """Counts how often it is fitted."""

    name: ClassVar[str] = "counting"
    fits: ClassVar[list[Any]] = []

    def fit(self, model: Any, *data: Any, **options: Any) -> Any:
        Counting.fits.append(model)
        return super().fit(model, *data, **options)


class Brightness(Detector):
    """A score that the model has no part in: the mean of the logits' sum, always 0, plus 1."""

    name: ClassVar[str] = "constant"

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        return outputs.sum(dim=1) * 0 + 1


def run(net: nn.Module, out: Path, **options: Any) -> Any:
    digits = load_data("digits")
    chosen: dict[str, Any] = {
        "eps": EPS,
        "attacks": ("pgd",),
        "attack_args": PGD,
        "detectors": ("confidence",),
        "calibration_data": digits,
        **options,
    }
    return evaluate({"net": net}, digits.first(ATTACKED), out, **chosen)


def comparable(folder: Path) -> pd.DataFrame:
    return read_records(folder).drop(columns="seconds")


@pytest.mark.usefixtures("no_report")
class TestRecords:
    def test_without_a_detector_they_are_as_ever(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "run", detectors=(), calibration_data=None)
        assert tuple(read_records(tmp_path / "run").columns) == COLUMNS
        content = (tmp_path / "run" / "run.json").read_text()
        assert "detector" not in content
        assert "adaptive" not in content
        assert not (tmp_path / "run" / "detectors").exists()

    def test_a_detector_adds_columns_and_changes_none(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "plain", detectors=(), calibration_data=None)
        run(linear_net, tmp_path / "run", adaptive=False)
        found = comparable(tmp_path / "run")
        assert list(found.columns[-len(DETECTION) :]) == list(DETECTION)
        pd.testing.assert_frame_equal(
            found.drop(columns=list(DETECTION)), comparable(tmp_path / "plain")
        )

    def test_scores_are_the_detectors_own(self, linear_net: nn.Module, tmp_path: Path) -> None:
        outcome = run(linear_net, tmp_path / "run", adaptive=False, save_images=True)
        digits = load_data("digits")
        attacked = digits.first(ATTACKED)
        detector = Detector.load(
            tmp_path / "run" / "detectors" / "000" / "detector.safetensors", linear_net
        )
        found = outcome.records
        assert (found["detector"] == "confidence").all()
        clean = detector.score(attacked.x).numpy()
        np.testing.assert_allclose(found["clean_score"], clean, rtol=1e-5)
        assert (found["clean_accepted"] == (found["clean_score"] <= detector.threshold)).all()
        assert (found["accepted"] == (found["score"] <= detector.threshold)).all()
        assert (found["success_accepted"] == (found["success"] & found["accepted"])).all()
        assert found["score"].notna().all()
        assert found["success"].any()

    def test_calibration_leaves_out_the_attacked(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "run", adaptive=False, calibration=10_000)
        facts = json.loads((tmp_path / "run" / "detectors" / "000" / "facts.json").read_text())
        assert facts["calibration"] == 500 - ATTACKED
        others = load_data("digits").take(slice(ATTACKED, None))
        detector = Confidence().fit(linear_net)
        assert detector.calibrate(others.x) == pytest.approx(facts["threshold"], rel=1e-6)

    def test_each_of_several_detectors_has_rows_of_its_own(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        names = ("confidence", "non_me")
        outcome = run(linear_net, tmp_path / "both", detectors=names, adaptive=False)
        for name in names:
            alone = run(linear_net, tmp_path / name, detectors=(name,), adaptive=False)
            mine = outcome.records[outcome.records["detector"] == name]
            assert set(mine["model"]) == {f"net + {name}"}
            pd.testing.assert_frame_equal(
                mine.drop(columns=["seconds", "model"]).reset_index(drop=True),
                alone.records.drop(columns=["seconds", "model"]),
            )

    def test_the_nearest_adversarial_is_judged_at_smaller_radii(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(
            linear_net,
            tmp_path / "run",
            eps=(0.05, 0.1),
            attacks=("rays",),
            attack_args={"rays": {"max_queries": 200}},
            adaptive=False,
        )
        found = outcome.records.pivot(index="index", columns="eps", values="success_accepted")
        small = outcome.records[outcome.records["eps"] == 0.05]
        assert small["score"].notna().all()
        assert found[0.1].sum() >= found[0.05].sum()


@pytest.mark.usefixtures("no_report")
def test_images_are_those_of_accepted_successes(linear_net: nn.Module, tmp_path: Path) -> None:
    outcome = run(linear_net, tmp_path / "run", fpr=0.2, save_images=True)
    x, y = load_data("digits").first(ATTACKED).rows(0, ATTACKED)
    right = linear_net(x).argmax(dim=1) == y
    found = outcome.records.set_index("attack")
    by_attack = {
        (attack, column): torch.from_numpy(found.loc[attack, column].to_numpy(copy=True)) & right
        for attack in ("pgd", "pgd_aware")
        for column in ("success", "success_accepted")
    }
    success, accepted = (
        by_attack["pgd", column] | by_attack["pgd_aware", column]
        for column in ("success", "success_accepted")
    )
    first = by_attack["pgd", "success"] & ~by_attack["pgd", "success_accepted"]
    assert (first & accepted).any(), "a rejected success before an accepted one"
    assert (first & ~accepted).any(), "a rejected success alone"
    detector = Detector.load(
        tmp_path / "run" / "detectors" / "000" / "detector.safetensors", linear_net
    )
    images = load_images(tmp_path / "run", "net", EPS)
    wrong = linear_net(images).argmax(dim=1) != y
    assert torch.equal(wrong & ~detector.detect(images) & right, accepted)
    assert torch.equal(images[~accepted], x[~accepted])
    every = load_images(tmp_path / "run", "net", EPS, rejected=True)
    assert torch.equal((linear_net(every).argmax(dim=1) != y) & right, success)


@pytest.mark.usefixtures("no_report")
class TestForms:
    def test_each_attack_runs_without_and_with_knowledge(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(
            linear_net,
            tmp_path / "run",
            attacks=("pgd", "nes", "rays"),
            attack_args={
                "pgd": {"num_steps": 5, "detector_weight": 3.0},
                "nes": {"max_queries": 50},
                "rays": {"max_queries": 50},
            },
        )
        content = json.loads((tmp_path / "run" / "run.json").read_text())["attacks"]
        aware = {name: one["aware_of"] for name, one in content.items()}
        # of labels, an attack sees the class or the rejection, and nothing else
        assert aware == {
            "pgd": "",
            "pgd_aware": "pgd",
            "nes": "",
            "nes_aware": "nes",
            "rays_aware": "rays",
        }
        assert content["pgd"]["arguments"] == {"num_steps": 5}
        assert content["pgd_aware"]["arguments"] == {"num_steps": 5, "detector_weight": 3.0}
        assert [row.adaptive for row in outcome.rows] == [False, True, False, True, True]
        kinds = [finding.kind for finding in outcome.warnings]
        assert "no-adaptive-attack" not in kinds

    def test_the_oblivious_form_is_the_attack_as_ever(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "plain", detectors=(), calibration_data=None)
        run(linear_net, tmp_path / "run")
        found = comparable(tmp_path / "run")
        oblivious = found[found["attack"] == "pgd"].drop(columns=list(DETECTION))
        pd.testing.assert_frame_equal(oblivious, comparable(tmp_path / "plain"))

    def test_successes_of_the_aware_form_are_accepted(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(linear_net, tmp_path / "run", detectors=("confidence",), fpr=0.2)
        found = outcome.records[outcome.records["attack"] == "pgd_aware"]
        successes = found[found["success"]]
        assert len(successes)
        assert successes["accepted"].all()

    def test_compare_counts_accepted_successes(self, linear_net: nn.Module, tmp_path: Path) -> None:
        for name, fpr in (("low", 0.05), ("high", 0.4)):
            run(linear_net, tmp_path / name, fpr=fpr)
        run(linear_net, tmp_path / "plain", detectors=(), calibration_data=None)
        runs = [load_run(str(tmp_path / name)) for name in ("low", "high", "plain")]
        failed, clean = [], []
        for name in ("low", "high"):
            samples = read_records(tmp_path / name).groupby("index")
            right = ~samples["already_adversarial"].any() & samples["clean_accepted"].all()
            clean.append(float(right.mean()))
            failed.append(~right | samples["success_accepted"].any())
        found = compare(runs[0], runs[1])
        pair = found.pairs[0]
        assert (pair.clean_a, pair.clean_b) == tuple(clean)
        assert (pair.robust_a, pair.robust_b) == tuple(float((~one).mean()) for one in failed)
        assert pair.only_a == int((failed[0] & ~failed[1]).sum())
        assert pair.only_b == int((failed[1] & ~failed[0]).sum())
        assert pair.only_a + pair.only_b > 0
        assert "has a detector in A and B: there the numbers are those with" in found.notes[0]
        named = {one.attacks for one in found.disagreements if one.kind != "clean"}
        assert "misclassified or rejected" in named
        mixed = compare(runs[2], runs[0])
        assert "has a detector in B: there" in mixed.notes[0]
        assert mixed.pairs[0].robust_b == pair.robust_a
        plain = read_records(tmp_path / "plain")
        robust = ~(plain["success"] | plain["already_adversarial"])
        assert mixed.pairs[0].robust_a == float(robust.mean())

    def test_rows_of_the_detector_are_charged(self, digits_net: nn.Module, tmp_path: Path) -> None:
        outcome = run(digits_net, tmp_path / "run", detectors=("feature_squeezing",))
        queries = outcome.records.groupby("attack")["queries"].sum()
        # two squeezed copies of each row
        assert queries["pgd_aware"] == 3 * queries["pgd"]

    def test_a_head_declares_attacks_with_a_detector_and_without(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        model = HeadedModel(linear_net, Declaring())
        digits = load_data("digits")
        for detectors, names in (
            ((), ["pgd", "head_fgsm", "head_pgd"]),
            (
                ("confidence",),
                ["pgd", "pgd_aware", "head_fgsm", "head_fgsm_aware", "head_pgd", "head_pgd_aware"],
            ),
        ):
            outcome = evaluate(
                {"headed": model, "bare": linear_net},
                digits.first(10),
                tmp_path / f"run{len(detectors)}",
                eps=EPS,
                attacks=("pgd",),
                attack_args=PGD,
                detectors=detectors,
                calibration_data=digits if detectors else None,
            )
            rows: dict[str, list[str]] = {"headed": [], "bare": []}
            for row in outcome.rows:
                rows[row.model].append(row.attack)
            assert rows["headed"] == names
            assert rows["bare"] == [name for name in names if not name.startswith("head_")]
            marked = [row.attack for row in outcome.rows if row.adaptive]
            assert set(marked) == {name for name in names if name != "pgd"}

    def test_attacks_of_a_head_that_are_left_out_are_a_warning(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        model = HeadedModel(linear_net, Declaring())
        outcome = evaluate(
            {"headed": model},
            load_data("digits").first(10),
            tmp_path / "run",
            eps=EPS,
            attacks=("fgsm",),
            adaptive=False,
        )
        assert [row.attack for row in outcome.rows] == ["fgsm"]
        (found,) = [one for one in outcome.warnings if one.kind == "no-adaptive-attack"]
        assert "(fgsm, pgd)" in found.message

    def test_a_declared_attack_takes_the_targets_of_the_run(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        """Those that it would choose itself are left out."""
        outcome = evaluate(
            {"mmc": MaxMahalanobis(linear_net, 10, 10)},
            load_data("digits").first(10),
            tmp_path / "run",
            eps=EPS,
            attacks=("fgsm",),
            targeted="random",
        )
        assert [row.attack for row in outcome.rows] == ["fgsm", "head_pgd", "head_auto_pgd"]
        told = json.loads((tmp_path / "run" / "run.json").read_text())["attacks"]
        assert told["head_auto_pgd"]["arguments"]["loss"] == "margin"
        assert "num_targets" not in told["head_auto_pgd"]["arguments"]


class Declaring(Head):
    """A head that changes nothing, and declares two attacks."""

    adaptive: ClassVar[Any] = (("fgsm", {}), ("pgd", {"num_steps": 2, "loss": "margin"}))

    def scores(self, raw: Any) -> Tensor:
        scores: Tensor = raw
        return scores


@pytest.mark.usefixtures("no_report")
class TestResume:
    def test_a_resumed_run_is_the_whole_run_and_does_not_fit_again(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {
            "detectors": (Counting(),),
            "panel": "quick",
            "attacks": None,
            "attack_args": None,
            "chunk_size": 10,
        }
        run(linear_net, tmp_path / "run", **options)
        whole = comparable(tmp_path / "run")
        Counting.fits.clear()
        content = json.loads((tmp_path / "run" / "run.json").read_text())
        (tmp_path / "run" / "run.json").write_text(json.dumps({**content, "state": "running"}))
        for number in range(4):
            drop_units(
                tmp_path / "run", number, range(1 + number % 2, len(content["plan"]["searches"]))
            )
        run(linear_net, tmp_path / "run", **options)
        pd.testing.assert_frame_equal(comparable(tmp_path / "run"), whole)
        assert Counting.fits == []

    def test_shards_merge_to_the_whole_run(self, linear_net: nn.Module, tmp_path: Path) -> None:
        run(linear_net, tmp_path / "whole", chunk_size=10)
        for part in range(2):
            run(linear_net, tmp_path / f"part{part}", chunk_size=10, shard=(part, 2))
        merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
        pd.testing.assert_frame_equal(
            comparable(tmp_path / "merged"), comparable(tmp_path / "whole")
        )
        detectors = [tmp_path / one / "detectors" / "000" for one in ("merged", "whole")]
        contents = [(one / "detector.safetensors").read_bytes() for one in detectors]
        assert contents[0] == contents[1]

    def test_shards_of_other_thresholds_do_not_merge(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        for part in range(2):
            run(linear_net, tmp_path / f"part{part}", chunk_size=10, shard=(part, 2))
        file = tmp_path / "part1" / "detectors" / "000" / "facts.json"
        facts = json.loads(file.read_text())
        file.write_text(json.dumps({**facts, "threshold": 2 * facts["threshold"]}))
        with pytest.raises(ValueError, match="another fitted detector"):
            merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    @pytest.mark.parametrize(
        ("changed", "phrase"),
        [
            ({"fpr": 0.1}, "fpr: 0.05 there, 0.1 here"),
            ({"calibration": 100}, "calibration: 1000 there, 100 here"),
            ({"detectors": ("non_me",)}, "detectors: confidence there, non_me here"),
            ({"adaptive": False}, "adaptive: none there, false here"),
            ({"calibration_data": load_data("digits", split="train")}, "calibration_data: other"),
        ],
    )
    def test_another_run_is_named(
        self, linear_net: nn.Module, tmp_path: Path, changed: dict[str, Any], phrase: str
    ) -> None:
        run(linear_net, tmp_path / "run", attack_args={"pgd": {"num_steps": 1}})
        with pytest.raises(ValueError, match="holds another run") as caught:
            run(linear_net, tmp_path / "run", attack_args={"pgd": {"num_steps": 1}}, **changed)
        assert phrase in str(caught.value)

    def test_a_saved_detector_is_taken_as_it_is(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        digits = load_data("digits")
        detector = Confidence().fit(linear_net)
        detector.calibrate(digits.x, 0.2)
        detector.save(tmp_path / "mine.safetensors")
        options: dict[str, Any] = {"calibration_data": None, "adaptive": False}
        files = [tmp_path / "mine.safetensors"]
        one = run(linear_net, tmp_path / "file", detectors=(), detector_files=files, **options)
        two = run(linear_net, tmp_path / "live", detectors=(detector,), **options)
        assert one.verdicts[0].fpr == 0.2
        pd.testing.assert_frame_equal(
            one.records.drop(columns="seconds"), two.records.drop(columns="seconds")
        )


@pytest.mark.slow
def test_ten_kills_leave_the_records_of_one_run(tmp_path: Path) -> None:
    script = Path(__file__).with_name("_killing_evaluation.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, "10", "3", "confidence", "feature_squeezing"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["killed"]) == 10
    assert set(told["statuses"]) == {0}
    pd.testing.assert_frame_equal(comparable(tmp_path / "killed"), comparable(tmp_path / "whole"))
    for number in ("000", "001"):
        contents = [
            (tmp_path / one / "detectors" / number / "detector.safetensors").read_bytes()
            for one in ("killed", "whole")
        ]
        assert contents[0] == contents[1]


@pytest.mark.slow
def test_workers_leave_the_records_of_one_process(tmp_path: Path) -> None:
    options = {
        "detectors": ["confidence", "feature_squeezing"],
        "calibration_data": "digits",
        "calibration": 200,
    }
    for engine in ("local", "processes"):
        command = "from tests._engine_driver import main; main()"
        told = json.dumps({"engine": engine, **options})
        done = subprocess.run(
            [sys.executable, "-c", command, str(tmp_path / engine), told],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=Path(__file__).parents[1],
        )
        assert done.returncode == 0, done.stderr[-2000:]
    pd.testing.assert_frame_equal(
        comparable(tmp_path / "processes"), comparable(tmp_path / "local")
    )


@pytest.mark.usefixtures("no_report")
class TestCascade:
    def test_a_sample_is_passed_on_until_a_success_is_accepted(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(
            linear_net,
            tmp_path / "run",
            attacks=("fgsm", "pgd"),
            mode="cascade",
            adaptive=False,
            fpr=0.3,
        )
        found = outcome.records.set_index("index")
        first = found[found["attack"] == "fgsm"]
        second = found[found["attack"] == "pgd"]
        wrong = first["clean_prediction"] != first["label"]
        assert (first["success"] & ~first["accepted"] & ~wrong).any()
        assert (second["attacked"] == ~(first["success_accepted"] | wrong)).all()
        assert second["score"].isna().equals(~second["attacked"])


@pytest.mark.usefixtures("no_report")
class TestTable:
    @pytest.mark.parametrize("mode", ["cascade", "independent"])
    def test_robust_accuracy_with_rejection_recomputed(
        self, linear_net: nn.Module, tmp_path: Path, mode: str
    ) -> None:
        outcome = run(
            linear_net,
            tmp_path / "run",
            attacks=("fgsm", "pgd"),
            mode=mode,
            adaptive=False,
            fpr=0.3,
        )
        found = outcome.records
        clean = found[found["attack"] == "fgsm"].set_index("index")
        good = (clean["clean_prediction"] == clean["label"]) & clean["clean_accepted"]
        any_success = found.groupby("index")["success_accepted"].any()
        (verdict,) = outcome.verdicts
        (worst,) = verdict.worst
        assert worst.rejection_accuracy == pytest.approx((good & ~any_success).mean())
        assert verdict.clean_accepted == pytest.approx(good.mean())
        assert verdict.clean_rejected == pytest.approx((~clean["clean_accepted"]).mean())
        success = found.groupby("index")["success"].any()
        right = clean["clean_prediction"] == clean["label"]
        assert worst.robust_accuracy == pytest.approx((right & ~success).mean())
        for row in outcome.rows:
            own = found[found["attack"] == row.attack].set_index("index")
            earlier = ["fgsm"] if row.attack == "fgsm" else ["fgsm", "pgd"]
            among = found[found["attack"].isin(earlier if mode == "cascade" else [row.attack])]
            failed = among.groupby("index")["success_accepted"].any()
            assert row.rejection_accuracy == pytest.approx((good & ~failed).mean())
            counted = own["success"] & (own["clean_prediction"] == own["label"])
            assert row.rejected_successes == pytest.approx((~own["accepted"][counted]).mean())
            pairs = detection_metrics(
                torch.tensor(own["clean_score"][counted].to_numpy()),
                torch.tensor(own["score"][counted].to_numpy()),
                0.3,
            )
            assert row.auroc_pairs == pytest.approx(pairs.auroc)
            assert (row.auroc_pairs_low, row.auroc_pairs_high) == (
                pytest.approx(pairs.auroc_low),
                pytest.approx(pairs.auroc_high),
            )

    @pytest.mark.parametrize("mode", ["cascade", "independent"])
    def test_all_compares_the_samples_that_the_attack_was_given(
        self, linear_net: nn.Module, tmp_path: Path, mode: str
    ) -> None:
        options: dict[str, Any] = {"attacks": ("fgsm", "pgd"), "adaptive": False, "fpr": 0.3}
        outcome = run(linear_net, tmp_path / "run", mode=mode, **options)
        for row in outcome.rows:
            own = outcome.records[outcome.records["attack"] == row.attack]
            given = own[own["attacked"]]
            if mode == "cascade":
                assert 0 < len(given) < ATTACKED
            clean, score = (given[name].to_numpy() for name in ("clean_score", "score"))
            wins = (score[:, None] > clean) + (score[:, None] == clean) / 2
            assert row.auroc_all == pytest.approx(wins.mean())
            threshold = np.sort(clean)[len(clean) - int(len(clean) * 0.3 + 1e-9) - 1]
            assert row.tpr_all == pytest.approx((score > threshold).mean())

    def test_without_any_success_there_is_no_boundary_distance(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {
            "attacks": ("rays",),
            "attack_args": {"rays": {"max_queries": 30}},
            "stop_on_success": False,
        }
        never = Brightness().fit(linear_net)
        never.calibrate(load_data("digits").x)
        never.threshold = 0.5
        nothing = run(
            linear_net, tmp_path / "nothing", detectors=(never,), calibration_data=None, **options
        )
        (row,) = nothing.rows
        assert (row.attack, row.success_rate) == ("rays_aware", 0)
        assert 0 < row.clean_accuracy < 1
        assert row.left_out == round(row.clean_accuracy * ATTACKED)
        assert plain(row)["adbd"] is None
        assert "ADBD" not in to_text(nothing.rows)

        found = run(linear_net, tmp_path / "found", detectors=(Brightness(),), **options)
        distance = found.records["nearest_distance"].where(
            found.records["clean_prediction"] == found.records["label"], 0.0
        )
        assert found.rows[0].adbd == pytest.approx(distance[np.isfinite(distance)].mean())

        # without a detector the misclassified count 0, as ever
        plain_options = {**options, "detectors": (), "calibration_data": None}
        records = run(linear_net, tmp_path / "plain", **plain_options).records
        records["success"] = False
        records["nearest_distance"] = np.inf
        content = json.loads((tmp_path / "plain" / "run.json").read_text())
        assert summarise(records, content)[0].adbd == 0

    def test_the_sentence_and_fail_under_tell_it(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(linear_net, tmp_path / "run", adaptive=False)
        (sentence,) = lines(outcome.verdicts)
        worst = outcome.verdicts[0].worst[0]
        assert sentence.startswith(
            f"robust accuracy with rejection {100 * worst.rejection_accuracy:.1f} %"
        )
        assert "detector confidence: clean correct and accepted" in sentence
        assert "(wanted 5.0 %)" in sentence
        assert below(outcome.verdicts, worst.rejection_accuracy) == []
        assert (
            "with rejection of net" in below(outcome.verdicts, worst.rejection_accuracy + 0.01)[0]
        )

    def test_a_detector_that_accepts_all_leaves_robust_accuracy(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(linear_net, tmp_path / "run", detectors=(Brightness(),), adaptive=False)
        (verdict,) = outcome.verdicts
        assert verdict.worst[0].rejection_accuracy == verdict.worst[0].robust_accuracy
        assert verdict.clean_rejected == 0
        assert verdict.worst[0].rejected_successes == 0
        assert outcome.rows[0].auroc_pairs == 0.5


@pytest.mark.usefixtures("no_report")
class TestWarnings:
    def kinds(self, outcome: Any) -> list[str]:
        return [finding.kind for finding in outcome.warnings]

    def test_no_adaptive_attack(self, linear_net: nn.Module, tmp_path: Path) -> None:
        outcome = run(linear_net, tmp_path / "run", adaptive=False)
        assert "no-adaptive-attack" in self.kinds(outcome)

    def test_few_calibration_images(self, linear_net: nn.Module, tmp_path: Path) -> None:
        outcome = run(linear_net, tmp_path / "few", adaptive=False)
        assert "few-calibration-images" in self.kinds(outcome)
        train = load_data("digits", split="train")
        enough = run(linear_net, tmp_path / "enough", adaptive=False, calibration_data=train)
        assert "few-calibration-images" not in self.kinds(enough)

    @pytest.mark.parametrize("shared", [0, 5])
    def test_calibrated_on_attacked_images(
        self, shared: int, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        digits = load_data("digits")
        detector = Confidence().fit(linear_net)
        detector.calibrate(digits.x[ATTACKED - shared : ATTACKED + 100])
        detector.save(tmp_path / "mine.safetensors")
        options: dict[str, Any] = {"calibration_data": None, "adaptive": False, "detectors": ()}
        for _ in range(2):  # the second reads what the folder holds
            outcome = run(
                linear_net,
                tmp_path / "run",
                detector_files=[tmp_path / "mine.safetensors"],
                **options,
            )
            found = [one for one in outcome.warnings if one.kind == "calibrated-on-attacked"]
            assert [(one.count, one.samples) for one in found] == [(5, ATTACKED)][: bool(shared)]

    def test_false_positive_rate(self, linear_net: nn.Module, tmp_path: Path) -> None:
        digits = load_data("digits")
        confidence = linear_net(digits.x).softmax(dim=1).amax(dim=1)
        sure = digits.take(confidence.argsort(descending=True)[:100])
        outcome = run(linear_net, tmp_path / "run", adaptive=False, calibration_data=sure)
        (found,) = [one for one in outcome.warnings if one.kind == "false-positive-rate"]
        rejected = ~outcome.records["clean_accepted"]
        assert (found.count, found.samples) == (int(rejected.sum()), ATTACKED)
        assert found.interval is not None
        assert found.interval[0] > 0.05

    def test_an_aware_attack_that_is_weaker(self, linear_net: nn.Module, tmp_path: Path) -> None:
        sure = {"detectors": (Brightness(),), "attack_args": {"pgd": {"num_steps": 5}}}
        outcome = run(linear_net, tmp_path / "run", **sure)
        assert "aware-weaker" not in self.kinds(outcome)
        content = json.loads((tmp_path / "run" / "run.json").read_text())
        records = outcome.records
        weak = records["attack"] == "pgd_aware"
        records.loc[weak, ["success", "success_accepted"]] = False
        (found,) = list(of_defences(blocks_of(records), {**content, "left_out": {}}))[-1:]
        assert found.kind == "aware-weaker"
        assert found.attack == "pgd_aware"
        assert found.count == 0
        assert found.samples == int((records["clean_prediction"] == records["label"])[weak].sum())


class TestReport:
    def test_figures_and_columns(self, digits_net: nn.Module, tmp_path: Path) -> None:
        names = ("confidence", "feature_squeezing")
        outcome = run(digits_net, tmp_path / "run", detectors=names)
        page = (tmp_path / "run" / "index.html").read_text()
        for name in DETECTION_PLOTS:
            assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
        for title in (
            "Robust accuracy with rejection against the false-positive rate",
            "Detection of the successes",
            "With rejection",
            "AUROC (pairs)",
            "AUROC (all)",
            "feature_<wbr>squeezing",
            "Clean correct and accepted",
        ):
            assert title in page
        assert 'class="curve' not in page, "figures are inline SVG"
        ((rejection,), (roc,), scores) = Material([load_run(tmp_path / "run")]).detection_charts[0]
        counts = np.cumsum([int(change) for change in rejection.curves[0].counts.split()])
        model = rejection.curves[0].steps.model
        rates = by_rate(outcome.blocks, model, max(row.eps for row in outcome.rows))
        assert counts.tolist() == [round(share * outcome.verdicts[0].samples) for _, share in rates]
        assert {own.steps.model for own in roc.curves} == {one.model for one in outcome.verdicts}
        assert len(scores) == len(names)
        for chart in scores:
            assert all(own.steps.y.sum() == pytest.approx(1) for own in chart.curves)
        assert page.count('class="adaptive"') == len(names)
        table = json.loads((tmp_path / "run" / "table.json").read_text())
        worst = [row for row in table if row["attack"] == "worst_case"]
        assert [row["rejection_accuracy"] for row in worst] == [
            one.worst[0].rejection_accuracy for one in outcome.verdicts
        ]
        assert {row["detector"] for row in table} == set(names)
        head = (tmp_path / "run" / "table.csv").read_text().partition("\n")[0].split(",")
        assert {"rejection_accuracy", "auroc_pairs_low", "tpr_all", "clean_rejected"} < set(head)

    def test_the_curve_against_the_rate_recomputed(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        outcome = run(linear_net, tmp_path / "run", adaptive=False)
        found = outcome.records
        right = found["clean_prediction"] == found["label"]
        for rate, value in by_rate(outcome.blocks, "net", EPS):
            rejected = int(ATTACKED * rate + 1e-9)
            threshold = np.sort(found["clean_score"])[ATTACKED - rejected - 1]
            failed = found["success"] & (found["score"] <= threshold)
            good = right & (found["clean_score"] <= threshold) & ~failed
            assert value == pytest.approx(good.mean())

    def test_one_report_on_a_run_with_and_a_run_without_a_detector(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "with", adaptive=False)
        run(linear_net, tmp_path / "without", detectors=(), calibration_data=None)
        (tmp_path / "both").mkdir()
        loaded = [load_run(tmp_path / one) for one in ("with", "without")]
        write_report(tmp_path / "both", loaded)
        table = json.loads((tmp_path / "both" / "table.json").read_text())
        found = {row["model"]: row["rejection_accuracy"] for row in table}
        assert found["net (without)"] is None
        assert found["net (with)"] == loaded[0].rows[0].rejection_accuracy
        page = (tmp_path / "both" / "index.html").read_text()
        assert "Detection of the successes" in page

    def test_a_run_in_work_has_a_report(self, linear_net: nn.Module, tmp_path: Path) -> None:
        run(linear_net, tmp_path / "run", chunk_size=20, shard=(0, 2))
        partial = load_partial(tmp_path / "run")
        (tmp_path / "report").mkdir()
        write_report(tmp_path / "report", [partial])
        assert (tmp_path / "report" / DETECTION_PLOTS[0]).exists()
        assert partial.rows[0].samples == 20

    def test_runs_without_a_detector_have_neither(
        self, linear_net: nn.Module, tmp_path: Path
    ) -> None:
        run(linear_net, tmp_path / "run", detectors=(), calibration_data=None)
        page = (tmp_path / "run" / "index.html").read_text()
        assert "With rejection" not in page
        assert not any((tmp_path / "run" / name).exists() for name in DETECTION_PLOTS)
        head = (tmp_path / "run" / "table.csv").read_text().partition("\n")[0]
        assert "adaptive" not in head
        assert "reject" not in head


def test_the_script_of_the_guide(tmp_path: Path) -> None:
    (script,) = examples("how-to/evaluate-a-detector.md").values()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    names = "confidence", "kernel_density"
    for line, name in zip(done.stdout.splitlines(), names, strict=True):
        assert re.fullmatch(
            rf"net \+ {name}: with rejection 0\.\d+, without the detector 0\.\d+, clean rejected"
            r" 0\.\d+",
            line,
        )
    assert (tmp_path / "detected" / "index.html").is_file()


CALL = ("evaluate", "--model", "art_ext.models:digits_cnn", "--data", "digits", "--eps", "0.1")


class TestCommand:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (["--detector", "confidenc"], "did you mean 'confidence'?"),
            (["--detector", "kernel_density"], "give fit_data, such as --fit-data digits"),
            (["--detector", "confidence", "--fpr", "1.5"], "fpr must lie in (0, 1), got 1.5"),
            (["--detector", "confidence", "--calibration", "19"], "calibration must be an integer"),
            (["--detector", "confidence", "--n", "all"], "at least 20 clean images that are not"),
            (["--detector", "confidence", "--n", "490"], "are not attacked, got 10"),
            (
                ["--detector", "confidence", "--detector-args", "non_me.x=1"],
                "detector-args must name detectors of this run (confidence), got 'non_me'",
            ),
            (
                ["--detector", "confidence", "--detector-args", "confidence.bits=1"],
                "confidence has no argument 'bits'",
            ),
            (["--fit-data", "digits"], "give --detector too"),
            (["--detector", "confidence", "--outputs", "labels"], "a detector needs scores, and"),
            (
                ["--detector", "confidence", "--detector-args", "confidence.x"],
                "detector-args must be name.key=value",
            ),
            (["--detector", "confidence,Confidence"], "detectors must differ in their names"),
            (["--detector-file", "missing.safetensors"], "detector-file must name the file"),
            (["--detector", "missing.py:Mine"], "the detector's file must exist"),
            (["--detector", "confidence", "--calibration-data", "mnist.npz"], "'mnist.npz'"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        size = () if "--n" in given else ("--n", "40")
        done = CliRunner().invoke(app, [*CALL, *size, *given, "--out", "run", "--quiet"])
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
        assert not (tmp_path / "run").exists()

    def test_options_from_a_file_and_the_run_repeats(
        self, digits_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save_file(digits_net.state_dict(), tmp_path / "net.safetensors")
        file = tmp_path / "mine.toml"
        file.write_text(
            'model = "art_ext.models:digits_cnn"\nweights = "net.safetensors"\ndata = "digits"\nn = 30\neps = 0.1\n'
            'attacks = ["fgsm"]\ndetectors = ["feature_squeezing", "kernel_density"]\n'
            'fit_data = "digits"\nfpr = 0.1\ncalibration = 100\nadaptive = false\n'
            "[detector_args.feature_squeezing]\nsqueezers = ['median(size=3)']\n"
            "[detector_args.kernel_density]\nnum_kernels = 5\n"
        )
        for config, out in ((file, "one"), (tmp_path / "one" / "config.toml", "two")):
            done = CliRunner().invoke(
                app, ["evaluate", "--config", str(config), "--out", out, "--quiet"]
            )
            assert done.exit_code == 0, done.output
        records = [comparable(tmp_path / out) for out in ("one", "two")]
        pd.testing.assert_frame_equal(records[0], records[1])
        assert set(records[0]["detector"]) == {"feature_squeezing", "kernel_density"}
        facts = json.loads((tmp_path / "one" / "run.json").read_text())["detectors"]
        assert [one["calibration"] for one in facts] == [100, 100]
        assert [one["fit"] for one in facts] == [0, 1297]
        assert [one["fpr"] for one in facts] == [0.1, 0.1]


@pytest.mark.parametrize("detectors", [(), ("confidence",)])
def test_a_penalty_that_does_not_fit_is_named_before_anything_runs(
    detectors: tuple[str, ...], linear_net: nn.Module, tmp_path: Path
) -> None:
    penalty = {"detector_loss": "hinge" if detectors else "penalty"}
    message = "did you mean 'hinges'" if detectors else "detector_loss='penalty' needs a detector"
    given: dict[str, Any] = {"detectors": detectors, "attack_args": {"pgd": penalty}}
    if not detectors:
        given["calibration_data"] = None
    with pytest.raises(ValueError, match=message):
        run(linear_net, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("detectors_as_before")
def test_a_saved_detector_of_the_user_s_class_is_read_with_its_file(
    linear_net: nn.Module, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from art_ext.core.detection import Confidence\n\n\n"
        "class Own(Confidence):\n    name = 'own_confidence'\n"
    )
    source = f"{tmp_path}/mine.py:Own"
    detector = find_detector(source).kind().fit(linear_net)
    detector.calibrate(load_data("digits").x, 0.2)
    detector.save(tmp_path / "own.safetensors")
    registry.unregister("own_confidence")
    options: dict[str, Any] = {"calibration_data": None, "adaptive": False}
    files = [tmp_path / "own.safetensors"]
    found = run(linear_net, tmp_path / "run", detectors=(source,), detector_files=files, **options)
    assert [one.fpr for one in found.verdicts] == [0.2]


def test_trackers_follow_a_run_with_a_detector(linear_net: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("accelerate")
    outcome = run(linear_net, tmp_path / "run", trackers=("tensorboard",), chunk_size=ATTACKED // 2)
    assert {row.detector for row in outcome.rows} == {"confidence"}
    assert list((tmp_path / "run" / "art_ext").iterdir())


def test_a_report_of_a_detector_is_written_over_an_earlier_one(
    linear_net: nn.Module, tmp_path: Path
) -> None:
    run(linear_net, tmp_path / "run")
    command = ["report", str(tmp_path / "run"), "--out", str(tmp_path / "report")]
    for _ in range(2):
        found = CliRunner().invoke(app, command)
        assert found.exit_code == 0, found.output
    assert (tmp_path / "report" / DETECTION_PLOTS[0]).exists()
