"""Samples that a run keeps and its report shows: three that an attack broke, three that held."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from art_ext.data import Dataset, load_data
from art_ext.evaluation import evaluate, load_run, merge
from art_ext.evaluation.analysis.blocks import blocks_of
from art_ext.evaluation.analysis.examples import (
    COLUMNS,
    KEPT_BYTES,
    Chosen,
    Examples,
    Found,
    choose_by_verdict,
    kept_successes,
)
from art_ext.evaluation.analysis.radii import adversarial
from art_ext.evaluation.report.examples import file
from art_ext.evaluation.report.gallery import MOST_BYTES, galleries
from art_ext.evaluation.report.material import Material
from art_ext.evaluation.report.page import render
from art_ext.evaluation.report.pictures import Picture
from art_ext.storage.chunks import CLEAN, Images
from art_ext.storage.evaluation import open_run
from tests.toys import drop_units


@pytest.fixture
def data() -> Dataset:
    return load_data("digits").in_memory().first(60)


@pytest.fixture(autouse=True)
def _without_report(no_report: None, no_plots: None) -> None:
    """Most tests here are about what is kept."""


def run(out: Path, models: Any, data: Dataset, **options: Any) -> Any:
    settings = {"attacks": ("pgd", "rays"), "eps": (0.05, 0.1), "max_queries": 60}
    return evaluate(models, data, out, **{**settings, "chunk_size": 20, **options})


def kept(out: Path) -> list[dict[str, Images]]:
    folder = open_run(out)
    return [folder.files.images(number) for number in range(len(folder.chunks))]


def by_records(out: Path, model: str, eps: float) -> tuple[list[int], list[int]]:
    """Positions that are broken, and that hold, of all samples."""
    blocks = load_run(out).blocks
    failed = adversarial(blocks, model, eps)
    wrong = blocks.samples(model)["already_adversarial"].to_numpy()
    return (failed & ~wrong).nonzero()[0].tolist(), (~failed).nonzero()[0].tolist()


class TestChoice:
    def test_three_of_each_kind_by_position(self) -> None:
        found = choose_by_verdict([9, 1, 7, 3, 5], [4, 8, 2, 6])
        assert found == Chosen(broken=(1, 3, 5), held=(2, 4, 6))

    @pytest.mark.parametrize(
        ("broken", "held", "counts"),
        [(9, 0, (6, 0)), (9, 1, (5, 1)), (0, 9, (0, 6)), (2, 9, (2, 4)), (1, 1, (1, 1))],
    )
    def test_one_kind_fills_up_the_other(
        self, broken: int, held: int, counts: tuple[int, int]
    ) -> None:
        found = choose_by_verdict(range(broken), range(10, 10 + held))
        assert (len(found.broken), len(found.held)) == counts

    @pytest.mark.parametrize("chunk_size", [20, 60])
    def test_a_run_shows_the_lowest_positions_of_the_records(
        self, tmp_path: Path, linear_net: nn.Module, digits_net: nn.Module, data: Dataset,
        chunk_size: int,
    ) -> None:  # fmt: skip
        models = {"linear": linear_net, "network": digits_net}
        run(tmp_path, models, data, chunk_size=chunk_size)
        examples = load_run(tmp_path).examples
        assert examples is not None
        for model in models:
            broken, held = by_records(tmp_path, model, 0.1)
            assert len(broken) > 3
            assert len(held) > 3
            assert examples.chosen[model] == Chosen(tuple(broken[:3]), tuple(held[:3]))
            for position in broken[:3]:
                found = examples.nearest(model, ("pgd", "rays"), position)
                assert found is not None
                assert found.success
                assert (found.x - examples.originals[position]).abs().max() <= 0.1 + 1e-6
                assert found.label != examples.labels[position]
            assert all(torch.equal(examples.originals[one], data.x[one]) for one in held[:3])

    def test_a_success_at_a_smaller_radius_is_the_nearest(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        run(tmp_path, linear_net, data, attacks=("pgd",), mode="cascade")
        broken_before, _ = by_records(tmp_path, "model", 0.05)
        examples = load_run(tmp_path).examples
        assert examples is not None
        shared = set(broken_before) & set(examples.chosen["model"].broken)
        assert shared
        for position in shared:
            nearest = examples.nearest("model", ["pgd"], position)
            assert nearest is not None
            assert nearest.distance == pytest.approx(0.05, abs=1e-6)


class TestKept:
    def test_a_unit_keeps_its_first_six_successes_and_their_originals(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset
    ) -> None:
        run(tmp_path, linear_net, data)
        records = load_run(tmp_path).records
        for chunk, images in enumerate(kept(tmp_path)):
            originals = set(images[CLEAN]["index"].tolist())
            for unit in open_run(tmp_path).units_of(chunk):
                rows = records[
                    (records["attack"] == unit.attack)
                    & (records["eps"] == unit.radii[-1])
                    & records["success"]
                    & ~records["already_adversarial"]
                    & records["index"].between(unit.samples[0], unit.samples[1] - 1)
                ]
                first = set(rows["index"].sort_values()[:COLUMNS])
                mine = images.get(f"{unit.place:03d}", {"index": torch.arange(0)})
                own = mine["index"].tolist()
                assert first <= set(own) <= originals
            held = by_records(tmp_path, "model", 0.1)[1]
            own = [one for one in held if chunk * 20 <= one < chunk * 20 + 20]
            assert set(own[:COLUMNS]) <= originals

    def test_shards_and_interrupted_runs_keep_the_same(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(tmp_path / "whole", linear_net, data)
        parts = [tmp_path / f"part {part}" for part in range(2)]
        for number, part in enumerate(parts):
            run(part, linear_net, data, shard=(number, 2))
        merge(parts, tmp_path / "merged")
        run(tmp_path / "resumed", linear_net, data)
        drop_units(tmp_path / "resumed", 1, [1, 2])
        run(tmp_path / "resumed", linear_net, data)
        monkeypatch.setattr("art_ext.storage.chunks.PAUSE", 0.0)
        run(tmp_path / "written after each unit", linear_net, data)
        whole = contents(tmp_path / "whole")
        for name in ("merged", "resumed", "written after each unit"):
            assert contents(tmp_path / name) == whole

    def test_folders_without_them_show_what_they_have(
        self, tmp_path: Path, linear_net: nn.Module, data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As earlier versions wrote them: samples of different classes alone."""
        monkeypatch.setattr(
            "art_ext.evaluation.execution.chunks.kept_successes", lambda *arguments: 0
        )
        run(tmp_path, linear_net, data)
        shown = {
            one
            for images in kept(tmp_path)
            for one in images[CLEAN]["index"][images[CLEAN]["shown"]].tolist()
        }
        broken, held = (
            [one for one in own if one in shown] for own in by_records(tmp_path, "model", 0.1)
        )
        examples = load_run(tmp_path).examples
        assert examples is not None
        assert examples.chosen["model"] == choose_by_verdict(broken, held)

    def test_only_what_fits_by_size_is_kept(self) -> None:
        assert kept_successes(0, 0, 4 * 784, 30, 2) == COLUMNS
        assert kept_successes(9, 180, 4 * 784, 30, 2) == COLUMNS
        assert kept_successes(10, 200, 4 * 784, 30, 2) == 0, "of the first chunks only"
        image = 4 * 3 * 224 * 224
        counts = [kept_successes(number, 20 * number, image, 15, 2) for number in range(10)]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == COLUMNS
        assert 0 in counts
        at_once = (2 * 15 + 2) * image
        assert KEPT_BYTES - at_once < sum(counts) * at_once <= KEPT_BYTES
        assert kept_successes(0, 0, 4 * 3 * 2000**2, 30, 2) == 0

    def test_of_a_detector_the_accepted_success_is_kept(
        self, tmp_path: Path, digits_net: nn.Module, data: Dataset
    ) -> None:
        run(
            tmp_path,
            digits_net,
            data,
            attacks=("rays",),
            eps=0.3,
            max_queries=200,
            detectors=("confidence",),
            calibration_data=load_data("digits"),
        )
        loaded = load_run(tmp_path)
        examples = loaded.examples
        assert examples is not None
        rows = loaded.records.set_index("index")
        broken = examples.chosen["model"].broken
        assert broken
        for position in broken:
            assert rows.loc[position, "success_accepted"]
            found = examples.nearest("model", loaded.run["attacks"], position)
            assert found is not None
            assert found.distance == pytest.approx(rows.loc[position, "distance"])
        for position in examples.chosen["model"].held:
            assert not rows.loc[position, "success_accepted"]
            assert rows.loc[position, "clean_accepted"]


def contents(out: Path) -> list[dict[str, dict[str, list[Any]]]]:
    return [
        {
            name: {key: tensor.tolist() for key, tensor in sorted(own.items())}
            for name, own in sorted(images.items())
        }
        for images in kept(out)
    ]


class TestPage:
    """What the page shows of the samples that were kept."""

    def gallery(self, make_run: Any, side: int = 28, channels: int = 1, **options: Any) -> Any:
        """A run with one sample of each kind, of positions 1 and 2, and the other attack's."""
        original = torch.full((channels, side, side), 0.5)
        near, far = original.clone(), original.clone()
        near[:, 0, 0] += 0.08
        far[:, 0, 1] -= 0.1
        found = {
            ("m", "far"): {1: Found(far, 0, 0.1, True)},
            ("m", "near"): {1: Found(near, 2, 0.08, True), 2: Found(far, 2, 0.3, False)},
        }
        examples = Examples(
            [], {1: original, 2: original}, {1: 1, 2: 1}, found, {"m": Chosen((1,), (2,))}
        )
        one = make_run(
            {"m": {"far": {0.1: {1}}, "near": {0.1: {1}}}},
            examples=examples,
            nearest=("near",),
            **{"class_names": ["cat", "dog", "eel"], **options},
        )
        one.run["data"]["shape"] = [channels, side, side]
        return one

    def test_shows_the_nearest_success_with_classes_and_factor(self, make_run: Any) -> None:
        one = self.gallery(make_run)
        (gallery,) = galleries([one])
        broken, held = gallery.examples
        assert (broken.position, broken.label, broken.attack) == (1, "dog", "near")
        assert broken.nearest is not None
        assert (broken.nearest.label, broken.nearest.distance) == ("eel", 0.08)
        assert broken.nearest.factor == 12
        assert (held.position, held.nearest, held.outside) == (2, None, None)
        assert [attack for attack, _ in gallery.attacks.rows] == ["far", "near"]
        far = gallery.attacks.rows[0][1][0]
        assert far is not None
        assert far.label == "cat"
        page = render([one])
        assert "true: <b>dog</b>, predicted: <b>eel</b>" in page
        assert "L-infinity distance 0.080, near" in page
        assert "difference \u00d7 12" in page
        assert "held at eps 0.1" in page
        assert "the first 3 samples by position" in page

    def test_the_nearest_adversarial_of_a_sample_that_held(self, make_run: Any) -> None:
        one = self.gallery(make_run)
        records = one.records
        own = (records["attack"] == "near") & (records["index"] == 2)
        records.loc[own, "nearest_distance"] = 0.31
        one = replace(one, blocks=blocks_of(records))
        (gallery,) = galleries([one])
        assert gallery.examples[1].outside == ("near", 0.31)
        assert "held at eps 0.1, nearest at 0.310, near" in render([one])

    @pytest.mark.parametrize(
        ("side", "large", "small", "crisp"),
        [
            (8, 160, 104, True),
            (28, 168, 112, True),
            (32, 160, 128, True),
            (64, 192, 128, True),
            (96, 160, 100, False),
            (224, 160, 100, False),
        ],
    )
    def test_small_images_grow_by_whole_factors(
        self, side: int, large: int, small: int, crisp: bool
    ) -> None:
        picture = Picture(np.zeros((side, side), dtype=np.uint8))
        assert (picture.enlarged(160), picture.enlarged(100), picture.crisp) == (
            large,
            small,
            crisp,
        )
        wide = Picture(np.zeros((side // 2, side), dtype=np.uint8))
        tall = Picture(np.zeros((side, side // 2), dtype=np.uint8))
        assert (wide.enlarged(160), tall.enlarged(160)) == (large, large // 2)

    @pytest.mark.parametrize(("side", "kept"), [(224, 224), (225, 113), (448, 224)])
    def test_no_pixel_is_lost_up_to_a_side_of_224(
        self, make_run: Any, side: int, kept: int
    ) -> None:
        one = self.gallery(make_run, side=side, channels=3)
        (gallery,) = galleries([one])
        picture = gallery.examples[0].original
        assert picture.pixels.shape == (kept, kept, 3)
        decoded = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB"))
        assert (decoded == picture.pixels).all(), "without loss"
        assert ("Of images over 224 pixels every k-th pixel" in render([one])) == (side > 224)

    def test_photographs_of_many_models_are_fewer(self, make_run: Any) -> None:
        noise = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
        one = self.gallery(make_run, side=224, channels=3)
        examples = one.examples
        found = {
            key: {position: replace(kept, x=noise) for position, kept in own.items()}
            for key, own in examples.found.items()
        }
        models = [f"m{number}" for number in range(6)]
        examples = replace(
            examples,
            originals={1: noise, 2: noise},
            found={(name, attack): own for name in models for (_, attack), own in found.items()},
            chosen=dict.fromkeys(models, Chosen((1,), (2,))),
        )
        attacks = {"far": {0.1: {1}}, "near": {0.1: {1}}}
        several = make_run(dict.fromkeys(models, attacks), examples=examples)
        several.run["data"]["shape"] = [3, 224, 224]
        shown = galleries([several])
        assert {gallery.thinned for gallery in shown} == {64}
        assert sum(gallery.weight for gallery in shown) < MOST_BYTES

    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            ([64], "The samples are no images of one or three channels."),
            ([1, 8, 8], "The run kept no image of a correctly classified sample."),
        ],
    )
    def test_a_run_without_pictures_says_why(
        self, make_run: Any, tmp_path: Path, shape: list[int], reason: str
    ) -> None:
        one = make_run({"m": {"x": {0.1: {1}}}})
        one.run["data"]["shape"] = shape
        assert reason in render([one])
        assert file(Material([one])) == {}
