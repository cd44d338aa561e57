"""The demonstration: its training, its PGD, and the folder it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from art_ext.data import load_data
from art_ext.evaluation import ATTACKS, Settings, demo, read_run
from art_ext.evaluation.demo import PGD_STEPS, TORCHATTACKS_PGD, pgd, run_demo, train_digits

EPS = 0.05


def test_training_depends_on_the_seed_and_on_nothing_else() -> None:
    few = load_data("digits", split="train").first(70)
    before = torch.get_rng_state()
    first, same, other = (train_digits(few, eps=0.1, epochs=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [nn.utils.parameters_to_vector(model.parameters()) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_pgd_climbs_the_loss_within_the_ball_and_the_box(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    moved = pgd(linear_net, x, y, torch.full_like(x, 9.0), eps=0.3, step=0.1, steps=8)
    assert float((moved - x).abs().max()) <= 0.3 + 1e-6
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    loss = nn.CrossEntropyLoss(reduction="none")
    assert bool((loss(linear_net(moved), y) > loss(linear_net(x), y)).all())


def test_torchattacks_pgd_is_counted_and_checked(linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    x, calls = digits[0], 0
    y = linear_net(x).argmax(dim=1)
    y[:3] = (y[:3] + 1) % 10  # three misclassified samples

    def count(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal calls
        calls += len(inputs[0])

    settings = Settings((EPS,), 60, "linf", False, "logits", (0.0, 1.0), 256, None, 0)
    before = torch.get_rng_state()
    handle = linear_net.register_forward_hook(count)
    found = TORCHATTACKS_PGD.run(linear_net, x, y, EPS, settings, lambda progress: None)
    handle.remove()
    assert torch.equal(torch.get_rng_state(), before)
    attacked = len(x) - 3
    assert found.queries.tolist() == [1] * 3 + [PGD_STEPS + 2] * attacked
    assert found.gradients.tolist() == [0] * 3 + [PGD_STEPS] * attacked
    assert calls == int(found.queries.sum())
    fooled = linear_net(found.x_adv).argmax(dim=1) != y
    assert fooled.tolist() == found.success.tolist()
    assert 3 < int(found.success.sum()) < len(x)
    assert float((found.x_adv - x).abs().max()) <= EPS + 1e-6
    assert torch.equal(found.success, found.distance.isfinite())
    assert ATTACKS.keys() == {"rays"}, "the demonstration adds nothing to the registry"


def test_leaves_out_a_torchattacks_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(demo, "find_spec", lambda name: object())
    monkeypatch.setattr(demo.importlib, "import_module", broken)
    assert not demo._has_torchattacks()
    assert "torchvision::nms" in caplog.text
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    caplog.clear()
    assert not demo._has_torchattacks()
    assert caplog.text == "", "not installed is no fault"


def test_replaces_only_an_earlier_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NATURAL_EPOCHS": 1, "ROBUST_EPOCHS": 1, "MAX_QUERIES": 20}.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "load_data", lambda name, **options: load_data(name, **options).first(40))
    mine = tmp_path / "mine" / "run.json"
    mine.parent.mkdir()
    mine.write_text('{"tool": "art-ext", "arguments": {"command": "evaluate"}}')
    before = mine.read_bytes()
    with pytest.raises(ValueError, match="other arguments"):
        run_demo(mine.parent)
    assert mine.read_bytes() == before
    run_demo(tmp_path / "demo", seed=0)
    (tmp_path / "demo" / "notes.txt").write_text("mine")
    outcome = run_demo(tmp_path / "demo", seed=1)
    assert read_run(tmp_path / "demo")["arguments"]["seed"] == 1  # type: ignore[index]
    assert (tmp_path / "demo" / "notes.txt").read_text() == "mine"
    assert {row.model for row in outcome.rows} == {"natural", "adversarially trained"}


@pytest.mark.slow
def test_the_natural_network_breaks_and_the_robust_one_holds(tmp_path: Path) -> None:
    outcome = run_demo(tmp_path / "demo")
    for row in outcome.rows:
        assert row.clean_accuracy > 0.95
        if row.model == "natural":
            assert row.robust_accuracy < 0.05
        else:
            assert 0.4 < row.robust_accuracy < 0.7
    boundary = {row.model: row.adbd for row in outcome.rows if row.attack == "rays"}
    assert boundary["adversarially trained"] > 1.5 * boundary["natural"]
