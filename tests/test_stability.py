"""Stability of predictions in an evaluation: exact identities, records, tables and errors."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.core.attacks import pgd
from art_ext.evaluation import evaluate, load_run, read_records
from art_ext.evaluation.analysis.verdict import lines
from art_ext.storage.records import COLUMNS

FREE = ("seconds", "stable")


def network(kind, seed):
    """A network whose predictions on 6 classes are often wrong."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        "linear": [nn.Linear(12, 6)],
        "relu": [nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6)],
        "tanh": [nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 6)],
        "deep": [nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 6)],
    }[kind]
    made = nn.Sequential(*layers)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    return made


@pytest.fixture(scope="module")
def data():
    """Samples with labels that are right for about half of the predictions of each network."""
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(60, 12, generator=generator)
    y = torch.where(
        torch.arange(60) % 2 == 0, network("relu", 1)(x).argmax(1), torch.arange(60) % 6
    )
    return x, y


def run(model, data, out, **options):
    settings = {"eps": [0.02, 0.06], "attacks": ["fgsm", "pgd"], "chunk_size": 25}
    arguments = {"pgd": {"num_steps": 5}}
    return evaluate(model, data, out, **{**settings, "attack_args": arguments, **options})


@pytest.mark.parametrize("mode", ["independent", "cascade"])
def test_robust_accuracy_is_the_share_that_is_correct_and_stable(data, tmp_path, mode):
    models = {kind: network(kind, 1) for kind in ("linear", "relu", "tanh", "deep")}
    options = {"mode": mode, "attacks": ["fgsm", "rays", "pgd"], "max_queries": 40}
    outcome = run(models, data, tmp_path / "run", stability=True, **options)
    assert [one.model for one in outcome.verdicts] == list(models)
    for verdict in outcome.verdicts:
        own = outcome.records[outcome.records["model"] == verdict.model]
        correct = models[verdict.model](data[0]).argmax(1).numpy() == data[1].numpy()
        for worst in verdict.worst:
            inside = own[own["eps"] <= worst.eps]
            stable = (inside.groupby("index")["stable"].min() == 1).to_numpy()
            assert worst.stability == stable.mean()
            assert worst.robust_accuracy == (correct & stable).mean()
            assert worst.stability_low < worst.stability < worst.stability_high
            assert stable[~correct].any()
        assert not stable[~correct].all()
        rows = [row for row in outcome.rows if row.model == verdict.model]
        last = [row.stability for row in rows if row.attack == "pgd"]
        searched = [row.stability for row in rows if row.attack == "rays"]
        if mode == "cascade":
            assert last == [worst.stability for worst in verdict.worst]
            assert not np.isnan(searched).any(), "fgsm ran before it"
        else:
            assert np.isnan(searched).all(), "rays does not try to change wrong predictions"


@pytest.mark.parametrize("mode", ["independent", "cascade"])
def test_correct_samples_are_as_without_stability(data, tmp_path, mode):
    model = network("relu", 1)
    found, plain = (
        run(model, data, tmp_path / str(stability), mode=mode, stability=stability).records
        for stability in (True, False)
    )
    assert tuple(plain.columns) == COLUMNS
    assert tuple(found.columns) == (*COLUMNS, "stable")
    correct = (found["clean_prediction"] == found["label"]).to_numpy()
    columns = [name for name in found.columns if name not in FREE]
    assert found[columns][correct].equals(plain[columns][correct])
    given = found[correct & found["attacked"]]
    assert ((given["stable"] == 1) == ~given["success"]).all()
    assert found[~found["attacked"]]["stable"].isna().all()
    wrong = found[~correct]
    assert wrong["already_adversarial"].all()
    assert (wrong["attacked"] | (mode == "cascade")).all()
    if mode == "independent":
        free = ("queries", "gradients", *FREE)
        same = [name for name in columns if name not in free]
        assert wrong[same].equals(plain[~correct][same]), "only their rows are counted more"
        assert (wrong["queries"] > plain[~correct]["queries"]).any()


def test_wrong_predictions_are_attacked_as_if_they_were_the_labels(data, tmp_path):
    model, (x, y) = network("deep", 3), data
    found = run(model, data, tmp_path / "run", eps=0.05, attacks=["pgd"], stability=True).records
    own = model(x).argmax(1)
    wrong = own != y
    direct = pgd(model, x[wrong], own[wrong], eps=0.05, num_steps=5, seed=0)
    records = found[wrong.numpy()]
    assert (records["stable"].to_numpy() == (~direct.success).float().numpy()).all()
    assert (records["queries"].to_numpy() == direct.queries.numpy()).all()
    assert 0 < direct.success.sum() < len(direct.success)


def test_linear_model_has_the_stability_of_its_closed_form(tmp_path):
    weight = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])
    model = nn.Linear(3, 2, bias=False)
    model.weight.data = weight
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator)
    y = torch.randint(0, 2, (200,), generator=generator)
    found = run(
        model, (x, y), tmp_path / "run", attacks=["fgsm"], attack_args={}, eps=0.3,
        clip_values=(-9.0, 9.0), stability=True,
    )  # fmt: skip
    margin = (x @ weight[0]).abs()
    wanted = margin > 0.3 * weight[0].abs().sum()
    assert (found.records["stable"].to_numpy() == wanted.float().numpy()).all()
    correct = model(x).argmax(1) == y
    worst = found.verdicts[0].worst[0]
    assert worst.stability == wanted.double().mean().item()
    assert worst.robust_accuracy == pytest.approx((wanted & correct).double().mean().item())


def test_a_run_that_goes_on_ends_with_the_same_records(data, tmp_path):
    model = network("tanh", 2)
    options = {"mode": "cascade", "attacks": ["fgsm", "pgd"], "stability": True}
    whole = run(model, data, tmp_path / "whole", **options).records
    run(model, data, tmp_path / "parts", shard=(1, 3), **options)
    # of the first chunk only the first unit
    run(model, data, tmp_path / "parts", shard=(0, 3), **options)
    again = run(model, data, tmp_path / "parts", **options).records
    assert whole.drop(columns="seconds").equals(again.drop(columns="seconds"))
    assert read_records(tmp_path / "parts")["stable"].equals(whole["stable"])
    with pytest.raises(ValueError, match="stability: true there, none here"):
        run(model, data, tmp_path / "parts", **{**options, "stability": False})


def test_table_verdict_and_report_show_it(data, tmp_path):
    folder = tmp_path / "run"
    outcome = run(network("relu", 1), data, folder, stability=True)
    worst = outcome.verdicts[0].worst[-1]
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = [row for row in rows if row["attack"] == "worst_case"][-1]
    told = json.loads((folder / "table.json").read_text())[-1]
    for name in ("stability", "stability_low", "stability_high"):
        assert float(last[name]) == told[name] == getattr(worst, name)
    assert json.loads((folder / "run.json").read_text())["verdict"][0]["worst"][-1][
        "stability"
    ] == pytest.approx(worst.stability)
    line = lines(outcome.verdicts)[-1]
    assert f"stability {100 * worst.stability:.1f} % [{100 * worst.stability_low:.1f}, " in line
    page = (folder / "index.html").read_text()
    assert "Stability at eps 0.06" in page
    assert "also ran on the misclassified samples" in page
    assert load_run(folder).rows == outcome.rows
    plain = run(network("relu", 1), data, tmp_path / "plain")
    assert "stability" not in lines(plain.verdicts)[-1]
    assert "stability" not in (tmp_path / "plain" / "table.csv").read_text()
    assert "Stability" not in (tmp_path / "plain" / "index.html").read_text()


def test_external_attacks_measure_it_too(data, tmp_path):
    pytest.importorskip("torchattacks")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 3, 2, 2, generator=generator)
    model = nn.Sequential(nn.Flatten(), network("relu", 1))
    y = (model(x).argmax(1) + torch.arange(20) % 2) % 6
    options = {"attacks": ["torchattacks:FGSM"], "attack_args": {}, "eps": 0.05}
    found = run(model, (x, y), tmp_path / "run", stability=True, **options)
    own = run(model, (x, model(x).argmax(1)), tmp_path / "own", **options)
    assert found.verdicts[0].worst[0].stability == own.verdicts[0].worst[0].robust_accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targeted": "random"}, "stability needs attacks without targets, got targeted='random'"),
        ({"attacks": ["rays"], "attack_args": {}}, "a fixed-radius attack such as pgd, got rays"),
        ({"detectors": ["confidence"]}, "stability is of models without a detector"),
        ({"stability": "yes"}, "stability must be True or False, got 'yes'"),
    ],
)
def test_settings_without_a_stability(data, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(network("relu", 1), data, tmp_path / "run", **{"stability": True, **change})
    assert not (tmp_path / "run").exists()
