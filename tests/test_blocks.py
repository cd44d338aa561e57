"""Records in blocks: nothing is lost, and what is read of them is what the frame says."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from art_ext.evaluation.analysis.blocks import blocks_of, collect
from art_ext.evaluation.analysis.radii import adversarial

BROKEN = {
    "m": {"x": {0.1: {1}, 0.2: {2}}, "y": {0.1: {3}, 0.2: {3, 4, 5}}},
    "n": {"x": {0.1: {1, 8}, 0.2: {8}}, "y": {0.1: set(), 0.2: {4}}},
}


@pytest.fixture
def records(make_run: Any) -> pd.DataFrame:
    return make_run(BROKEN, wrong={"m": {0}, "n": {9}}).records


@pytest.mark.parametrize("parts", [1, 3])
def test_the_frame_comes_back_in_its_order_and_types(records: pd.DataFrame, parts: int) -> None:
    shuffled = records.sample(frac=1, random_state=0).reset_index(drop=True)
    cuts = np.linspace(0, len(shuffled), parts + 1).astype(int)
    blocks = collect(shuffled[a:b] for a, b in itertools.pairwise(cuts))
    pd.testing.assert_frame_equal(blocks.frame(), shuffled)
    assert len(blocks) == len(records)


@pytest.mark.parametrize("model", ["m", "n"])
@pytest.mark.parametrize("eps", [0.1, 0.2])
def test_adversarial_samples_are_those_of_the_frame(
    records: pd.DataFrame, model: str, eps: float
) -> None:
    own = records[(records["model"] == model) & (records["eps"] <= eps)]
    blocks = blocks_of(records)
    for attacks in (["x", "y"], ["x"]):
        rows = own[own["attack"].isin(attacks)]
        failed = rows["success"] | rows["already_adversarial"]
        by_sample = failed.groupby(rows["index"]).any()
        assert adversarial(blocks, model, eps, attacks).tolist() == by_sample.tolist()


def test_what_a_model_has_once_is_kept_once(records: pd.DataFrame) -> None:
    blocks = blocks_of(records)
    first, *others = blocks.keys("m")
    for name in ("index", "id", "label", "already_adversarial"):
        assert all(blocks.column(key, name) is blocks.column(first, name) for key in others)


def test_counts_beyond_32_bits_stay_exact(records: pd.DataFrame) -> None:
    large = records.assign(queries=2**40 + records["index"])
    assert blocks_of(large).frame()["queries"].tolist() == large["queries"].tolist()


def test_samples_are_complete_if_attacks_ended_with_different_ones(records: pd.DataFrame) -> None:
    part = records[~((records["attack"] == "x") & (records["index"] > 4))]
    samples = blocks_of(part).samples("m")
    assert samples.index.tolist() == list(range(10))
    assert samples["already_adversarial"].tolist() == [True] + [False] * 9
