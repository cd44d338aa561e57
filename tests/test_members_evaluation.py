"""Evaluation of an ensemble that was trained together: its own attacks, and transfer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.metrics import transfer_matrix
from art_ext.data import load_data
from art_ext.evaluation import evaluate, merge
from art_ext.models import digits_cnn, load_model, members
from art_ext.models.joint import make_ensemble
from art_ext.models.layers import Normalize, Preprocessed
from art_ext.storage.evaluation import TRANSFER
from art_ext.training import Adp, train
from art_ext.training.heads import MeanProbability

SETTINGS: dict[str, Any] = {"eps": (0.05, 0.1), "attacks": ["fgsm"], "seed": 3}
N = 60


def seeded(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return digits_cnn()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    digits = load_data("digits", split="train").first(400)
    ensemble = make_ensemble(seeded, 3, 0)
    options: dict[str, Any] = {"optimizer": "adam", "learning_rate": 4e-3, "weight_decay": 0.0}
    recipe = Adp(alpha=0.5, beta=0.1)
    found = train(ensemble, (digits.x, digits.y), recipe, epochs=8, batch_size=64, **options)
    return found.model.eval()


def transfer_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["transfer"]
    return found


def test_the_report_of_an_ensemble_holds_the_matrix_of_its_members(
    model: nn.Module, tmp_path: Path
) -> None:
    data = load_data("digits").first(N)
    out = tmp_path / "run"
    evaluate({"adp": model}, data, out, members=True, **SETTINGS)
    wanted = transfer_matrix(members(model), data.x, data.y, eps=0.1, num_steps=20, seed=3)
    found = transfer_of(out)
    assert (found["attack"], found["samples"]) == ("pgd", N)
    assert found["arguments"] == {"eps": 0.1, "norm": "linf", "num_steps": 20, "seed": 3}
    own = found["models"]["adp"]
    assert 0 < own["count"] == wanted.count <= N
    for name in ("success", "low", "high"):
        torch.testing.assert_close(torch.tensor(own[name]).double(), getattr(wanted, name))
    assert own["off_diagonal"] == pytest.approx(wanted.off_diagonal)
    page = (out / "index.html").read_text()
    assert "Transfer between members" in page
    assert f"{100 * wanted.off_diagonal:.1f} %" in page
    written = (out / TRANSFER).stat().st_mtime_ns
    (out / "index.html").unlink()
    evaluate({"adp": model}, data, out, members=True, **SETTINGS)
    assert (out / TRANSFER).stat().st_mtime_ns == written, "it is measured once"
    assert "Transfer between members" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (0, "0 of 30 images are right for all members: the transfer matrix is empty"),
        (1, "1 of 30 images is right for all members: the transfer matrix rests on fewer than 20"),
        (20, None),
    ],
)
def test_few_images_that_all_members_classify_right_are_a_warning(
    model: nn.Module, right: int, message: str | None, tmp_path: Path
) -> None:
    found = load_data("digits").first(N)
    every = torch.stack([one(found.x).argmax(1) for one in members(model)])
    agreed = (every == found.y).all(dim=0).nonzero().squeeze(1)
    x = found.x[agreed[:30]]
    y = found.y[agreed[:30]].clone()
    assert len(x) == 30
    y[right:] = (y[right:] + 1) % 10
    outcome = evaluate({"adp": model}, (x, y), tmp_path / "run", members=True, **SETTINGS)
    texts = [one.message for one in outcome.warnings if one.kind == "few-transfer-images"]
    assert [text.split(". ")[0] for text in texts] == ([message] if message else [])
    told = json.loads((tmp_path / "run" / "warnings.json").read_text())
    assert len([one for one in told if one["kind"] == "few-transfer-images"]) == len(texts)
    assert (outcome.transfer["adp"] is None) == (right == 0)


def test_the_head_adds_its_attacks_to_the_panel(model: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "run"
    data = load_data("digits").first(20)
    outcome = evaluate({"adp": model}, data, out, **{**SETTINGS, "eps": 0.1})
    adaptive = [row.attack for row in outcome.rows if row.adaptive]
    assert len(adaptive) == 2
    assert "transfer" not in json.loads((out / "run.json").read_text())
    assert not (out / TRANSFER).exists()
    assert "Transfer between members" not in (out / "index.html").read_text()


def test_shards_that_are_merged_keep_the_matrix(model: nn.Module, tmp_path: Path) -> None:
    data = load_data("digits").first(N)
    settings = {**SETTINGS, "members": True, "chunk_size": 20, "adaptive": False}
    for place in range(2):
        evaluate({"adp": model}, data, tmp_path / str(place), shard=(place, 2), **settings)
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "both")
    evaluate({"adp": model}, data, tmp_path / "whole", **settings)
    assert transfer_of(tmp_path / "both") == transfer_of(tmp_path / "whole")


def test_models_without_members(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"members needs a model that is an ensemble .* got plain"):
        evaluate({"plain": seeded(0)}, load_data("digits").first(4), out, members=True, **SETTINGS)
    with pytest.raises(ValueError, match="members must be True or False, got 'yes'"):
        evaluate({"plain": seeded(0)}, load_data("digits").first(4), out, members="yes")  # type: ignore[arg-type]  # a mistake
    assert not out.exists()


def test_members_behind_a_normalisation_of_the_ensemble(model: nn.Module) -> None:
    layer = Normalize(0.1, 0.5)
    whole = Preprocessed(model, layer).eval()
    x = load_data("digits").first(8).x
    networks = members(whole)
    raw = torch.stack([network(x) for network in networks], dim=1)
    torch.testing.assert_close(raw.softmax(2).mean(1).log(), whole(x))
    torch.testing.assert_close(networks[1](x), members(model)[1](layer(x)))


def test_from_the_command_line(tmp_path: Path) -> None:
    run = CliRunner().invoke
    trained = tmp_path / "adp"
    arguments = ["train", "--recipe", "adp", "--data", "digits", "--n", "300", "--test-n", "40"]
    done = run(app, [*arguments, "--epochs", "3", "--out", str(trained), "--quiet"])
    assert done.exit_code == 0, done.output
    assert len(members(trained)) == 3
    head = load_model(trained, checkpoint="final").model
    bare = load_model("digits-cnn", weights=trained / "model.safetensors").model
    x = load_data("digits").first(8).x
    assert isinstance(head.model, nn.Module)
    assert torch.equal(head(x), bare.eval()(x))
    out = tmp_path / "run"
    given = ["evaluate", "--model", str(trained), "--n", "30", "--eps", "0.1", "--attack", "fgsm"]
    done = run(app, [*given, "--members", "--no-adaptive", "--quiet", "--out", str(out)])
    assert done.exit_code == 0, done.output
    matrix = transfer_of(out)["models"][trained.name]
    assert matrix["members"] == 3
    mean = "unknown" if matrix["count"] == 0 else f"{100 * matrix['off_diagonal']:.1f} %"
    line = f"transfer between members of {trained.name}: {mean}, mean off the diagonal"
    assert line in done.output.splitlines()
    other = ["evaluate", "--model", "digits-cnn", "--untrained", "--data", "digits", "--members"]
    done = run(app, [*other, "--out", str(tmp_path / "other"), "--quiet"])
    assert done.exit_code == 2
    assert "members needs a model that is an ensemble" in done.output


def test_a_file_of_weights_needs_its_head(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="MeanProbability is put around a JointEnsemble, got Seq"):
        MeanProbability(digits_cnn())
