"""Chains in an evaluation: columns, saved states, resumption and errors."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from art_ext.core.attacks import hmcam
from art_ext.core.metrics import acceptance_rate, all_or_nothing_success, diversity
from art_ext.evaluation import evaluate, load_run, load_states, merge, read_records
from art_ext.evaluation.analysis.clouds import plane
from art_ext.storage.chunks import CHUNKS
from art_ext.storage.records import CHAIN, COLUMNS

EPS = 0.1
CHAINS = {
    "hmcam": {"num_steps": 3, "num_transitions": 4, "step_size": 2e-3},
    "pgd": {"num_steps": 2, "num_restarts": 3, "keep_samples": True},
    "mi_fgsm": {"num_steps": 4, "keep_samples": 2},
}


def network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def data():
    x = torch.rand(30, 12, generator=torch.Generator().manual_seed(1))
    y = network()(x).argmax(1)
    y[::5] = (y[::5] + 1) % 6
    return x, y


def run(data, out, **options):
    settings = {"eps": EPS, "attacks": ["fgsm", *CHAINS], "attack_args": CHAINS}
    return evaluate(network(), data, out, chunk_size=12, **{**settings, **options})


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory):
    return run(data, tmp_path_factory.mktemp("chains") / "run", save_states=True)


def test_the_table_is_that_of_the_functions_on_the_saved_states(data, outcome):
    x, y = data
    model = network()
    name = outcome.rows[0].model
    drawn = hmcam(model, x, y, eps=EPS, seed=0, **CHAINS["hmcam"])
    for row in outcome.rows[1:]:
        index, samples = load_states(outcome.folder, name, row.attack)
        assert torch.equal(index, torch.arange(30))
        result = replace(drawn, samples=samples, already_adversarial=model(x).argmax(1) != y)
        apart = diversity(result, model)
        assert row.diversity == pytest.approx(apart.mean_distance, rel=1e-12)
        assert row.classes == pytest.approx(apart.mean_classes, rel=1e-12)
        assert row.diversity_l2 == pytest.approx(
            diversity(result, norm="l2").mean_distance, rel=1e-12
        )
        assert row.all_or_nothing == all_or_nothing_success(result, x, y, model).share
        if row.attack == "hmcam":
            assert torch.equal(samples, drawn.samples)
            assert row.acceptance == acceptance_rate(drawn)
            assert 0 < row.acceptance <= 1
        else:
            assert math.isnan(row.acceptance)
    assert [len(load_states(outcome.folder, name, attack)[1]) for attack in CHAINS] == [4, 3, 2]


def test_records_tables_and_report_have_the_columns(outcome):
    records = outcome.records
    assert tuple(records.columns) == (*COLUMNS, *CHAIN)
    assert (records[records["attack"] == "fgsm"]["states"] == 0).all()
    assert records[records["attack"] == "fgsm"]["diversity"].isna().all()
    told = pd.read_csv(outcome.folder / "table.csv").set_index("attack")
    rows = {row["attack"]: row for row in json.loads((outcome.folder / "table.json").read_text())}
    for row in outcome.rows[1:]:
        assert told.loc[row.attack, "all_or_nothing"] == row.all_or_nothing
        assert rows[row.attack]["diversity_l2"] == row.diversity_l2
    page = (outcome.folder / "index.html").read_text()
    assert "All or nothing" in page
    assert "Metropolis-Hastings" in page


def test_runs_without_chains_are_as_before(data, tmp_path):
    plain = run(data, tmp_path / "run", attacks=["fgsm"], attack_args={})
    assert tuple(plain.records.columns) == COLUMNS
    assert "acceptance" not in pd.read_csv(tmp_path / "run" / "table.csv").columns
    assert not list((tmp_path / "run" / CHUNKS).glob("*states*"))


def test_a_run_resumes_and_merges_to_the_same_states(data, outcome, tmp_path):
    name = outcome.rows[0].model
    parts = [
        run(data, tmp_path / str(part), save_states=True, shard=(part, 2)).folder for part in (0, 1)
    ]
    merged = merge(parts, tmp_path / "merged")
    for folder in (merged.folder,):
        columns = [column for column in read_records(folder).columns if column != "seconds"]
        pd.testing.assert_frame_equal(read_records(folder)[columns], outcome.records[columns])
        for attack in CHAINS:
            there = load_states(folder, name, attack)
            here = load_states(outcome.folder, name, attack)
            assert all(torch.equal(*pair) for pair in zip(there, here, strict=True))
    # a killed run: the second chunk is missing
    lost = tmp_path / "0" / CHUNKS / "00000.parquet"
    lost.unlink()
    again = run(data, tmp_path / "0", save_states=True, shard=(0, 2))
    assert again.missing == 4  # of the other shard
    assert lost.exists()


def test_a_cascade_counts_the_samples_that_were_given(data, tmp_path):
    found = run(
        data,
        tmp_path / "run",
        mode="cascade",
        attacks=["fgsm", "hmcam"],
        attack_args={"hmcam": CHAINS["hmcam"]},
        save_states=True,
    )
    row = found.rows[-1]
    assert 0 < row.attacked < 30
    index, samples = load_states(found.folder, row.model, "hmcam")
    assert samples.shape == (4, row.attacked, 12)
    labels = network()(samples.flatten(0, 1)).argmax(1).view(4, -1)
    assert row.all_or_nothing == pytest.approx(
        float((labels != data[1][index]).all(0).double().mean())
    )


def test_targets_count_states_that_reach_them(data, tmp_path):
    found = run(
        data,
        tmp_path / "run",
        attacks=["hmcam"],
        targeted=2,
        eps=0.4,
        attack_args={"hmcam": CHAINS["hmcam"]},
        save_states=True,
    )
    index, samples = load_states(found.folder, found.rows[0].model, "hmcam")
    reached = network()(samples.flatten(0, 1)).argmax(1).view(4, -1) == 2
    records = found.records.set_index("index").loc[index.tolist()]
    assert records["adversarial_states"].tolist() == reached.sum(0).tolist()


def test_what_keeps_no_states_is_named(data, outcome, tmp_path):
    with pytest.raises(ValueError, match="save_states needs an attack with several states"):
        run(data, tmp_path / "run", attacks=["fgsm"], attack_args={}, save_states=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="keeps no states of fgsm"):
        load_states(outcome.folder, outcome.rows[0].model, "fgsm")


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_report_shows_the_states(data, tmp_path, method):
    found = run(data, tmp_path / "run", picture=method)
    page = (found.folder / "index.html").read_text()
    start = page.index("States of chains</h2>")
    own = page[start : page.index('</details>\n<details class="section">', start)].replace(
        "<wbr>", ""
    )
    loaded = load_run(found.folder)
    assert [states.attack for states in loaded.states] == list(CHAINS)
    shown = loaded.states[0].index
    assert 0 < len(shown) <= 4
    assert own.count("<svg viewBox") == len(shown)
    # each state is one mark, and so are the keys
    marks = [own.count(f"<td>{attack}</td>") for attack in CHAINS]
    assert marks == [len(shown)] * 3
    assert own.count("Z") == len(shown) * (4 + 3 + 2 + 3)
    for states in loaded.states:
        assert torch.equal(states.x, data[0][states.index])
        labels = network()(states.samples.flatten(0, 1)).argmax(1).view(len(states.samples), -1)
        assert torch.equal(states.classes, labels)
    with pytest.raises(ValueError, match="keeps no states of hmcam"):
        load_states(found.folder, loaded.states[0].model, "hmcam")


def test_principal_components_are_those_of_the_singular_values():
    generator = torch.Generator().manual_seed(0)
    for shape in ((7, 40), (40, 7)):
        points = torch.randn(shape, generator=generator, dtype=torch.float64)
        centred = points - points.mean(dim=0)
        left, values, _ = torch.linalg.svd(centred, full_matrices=False)
        wanted = left[:, :2] * values[:2]
        found = torch.from_numpy(plane(points.numpy(), "pca", 0))
        assert torch.allclose(found.abs(), wanted.abs(), atol=1e-9)
        assert bool((found.gather(0, found.abs().argmax(dim=0)[None]) > 0).all())
    alone = plane(torch.ones(3, 5, dtype=torch.float64).numpy(), "pca", 0)
    assert alone.shape == (3, 2)
    assert not alone.any()


def test_an_unknown_picture_is_named(data, tmp_path):
    with pytest.raises(ValueError, match="picture must be one of 'pca', 'tsne', got 'umap'"):
        run(data, tmp_path / "run", picture="umap")
    with pytest.raises(ValueError, match="picture needs an attack with several states"):
        run(data, tmp_path / "run", picture="pca", attacks=["fgsm"], attack_args={})
