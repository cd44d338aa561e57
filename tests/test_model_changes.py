"""Attacks that change the network: it is restored, the restored one judges, and a warning says
so.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.network_state import preserved
from art_ext.core.attacks import pgd
from art_ext.data import Dataset
from tests.toys import run

# what an attack does to the network, and the name under which the warning lists it
CHANGES = {
    "statistics": (
        "model.train()\n    for _ in range(30):\n        model(0 * x + 0.9)\n    model.eval()",
        "1.running_mean",
    ),
    "values": ("for p in model.parameters():\n        p.data.zero_()", "0.weight"),
    "one value": ("next(model.parameters()).data.view(-1)[3] += 1e-3", "0.weight"),
    "NaN": ("next(model.parameters()).data.view(-1)[3] = float('nan')", "0.weight"),
    "type": ("model.half()", "0.weight"),
    "mode": ("model.train()", "mode of the network"),
    "a new parameter": (
        "inner = model.model[4]\n    inner.weight = torch.nn.Parameter(0 * inner.weight)",
        "4.weight",
    ),
    "a new module": ("model.model[4] = torch.nn.Flatten()", "4"),
    "a hook": ("model.model.register_forward_hook(lambda m, i, o: -o)", "hooks of the network"),
}


pytestmark = pytest.mark.usefixtures("attacks_as_before", "no_plots")


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", digits[0][:20], digits[1][:20])


@pytest.fixture
def network(data: Dataset) -> nn.Module:
    """A network with batch normalisation that fits the data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
        )
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(data.x), data.y).backward()
            optimiser.step()
    return model.eval()


def state(model: nn.Module) -> list[Any]:
    tensors = [(name, one.clone(), one.dtype) for name, one in model.state_dict().items()]
    return [tensors, [module.training for module in model.modules()], list(model.modules())]


def check_same(model: nn.Module, before: list[Any]) -> None:
    tensors, modes, modules = before
    for (name, one), (known, value, dtype) in zip(model.state_dict().items(), tensors, strict=True):
        assert name == known
        assert one.dtype == dtype
        assert torch.equal(one, value)
    assert [module.training for module in model.modules()] == modes
    assert list(model.modules()) == modules
    assert not model._forward_hooks


@pytest.mark.parametrize("change", CHANGES)
def test_a_function_that_changes_the_network_succeeds_nowhere_and_is_warned_of(
    tmp_path: Path, network: nn.Module, data: Dataset, change: str
) -> None:
    code, named = CHANGES[change]
    file = tmp_path / "mine.py"
    file.write_text(f"import torch\n\ndef spoil(model, x, y, *, eps):\n    {code}\n    return x\n")
    before = state(network)
    alone = run(network, data, tmp_path / "alone", "fgsm")
    after = run(network, data, tmp_path / "after", f"{file}:spoil", "fgsm", batch_size=7)
    check_same(network, before)
    spoilt = after.records.query("attack == 'spoil' and not already_adversarial")
    assert len(spoilt) > 10
    assert not spoilt["success"].any()
    columns = ["index", "success", "distance", "queries"]
    later = after.records.query("attack == 'fgsm'")[columns].reset_index(drop=True)
    assert later.equals(alone.records[columns].reset_index(drop=True))
    (found,) = (one for one in after.warnings if one.kind == "model-changed")
    assert (found.model, found.attack, found.eps, found.level) == ("model", "spoil", 0.1, "warning")
    assert "spoil changed the network (" in found.message
    assert named in found.message
    assert not any(one.kind == "model-changed" for one in alone.warnings)


def test_an_attack_that_fails_leaves_the_network_as_it_was(
    tmp_path: Path, network: nn.Module, data: Dataset
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def spoil(model, x, y, *, eps):\n"
        "    for p in model.parameters():\n        p.data.zero_()\n    raise KeyError('x')\n"
    )
    before = state(network)
    with pytest.raises(ValueError, match="spoil fails: KeyError"):
        run(network, data, tmp_path / "out", f"{file}:spoil")
    check_same(network, before)


def test_a_registered_attack_that_changes_the_network_raises_because_it_judges_itself(
    tmp_path: Path, network: nn.Module, data: Dataset
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from art_ext.core.attacks import fgsm\n"
        "from art_ext.core.attacks.registry import AttackSpec, register\n\n"
        "def own(model, x, y=None, *, eps, norm='linf'):\n"
        "    next(model.parameters()).data.zero_()\n"
        "    return fgsm(model, x, y, eps=eps)\n\n"
        "register(AttackSpec('own', own, 'scores', 'fixed-radius', 'Mine.', budget=''))\n"
    )
    before = state(network)
    with pytest.raises(ValueError, match=r"own changed the network \(0\.weight\), by which it"):
        run(network, data, tmp_path / "out", f"{file}:own")
    check_same(network, before)


@pytest.mark.parametrize("name", ["torchattacks:FGSM", "art:FastGradientMethod"])
def test_a_toolkit_that_changes_the_network_is_warned_of(
    tmp_path: Path, network: nn.Module, data: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(attack: Any, x: Any, *arguments: Any) -> Any:
        for tensor in network.state_dict().values():
            tensor.zero_()
        return x

    toolkit = pytest.importorskip(name.partition(":")[0])
    if name.startswith("art:"):
        from art.attacks.evasion import FastGradientMethod

        monkeypatch.setattr(FastGradientMethod, "generate", spoil)
    else:
        monkeypatch.setattr(toolkit.FGSM, "__call__", spoil)
    before = state(network)
    outcome = run(network, data, tmp_path / "out", name)
    check_same(network, before)
    assert not outcome.records.query("not already_adversarial")["success"].any()
    (found,) = (one for one in outcome.warnings if one.kind == "model-changed")
    assert found.attack == name


def test_autoattack_and_its_followers_raise_a_flag(
    network: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    from art_ext.adapters.autoattack import run_autoattack

    def spoil(model: Any, x: Tensor, y: Tensor) -> Any:
        found = pgd(model, x, y, eps=0.02, num_steps=1)
        for tensor in model.state_dict().values():
            tensor.zero_()
        return found

    before = state(network)
    common = {"eps": 0.02, "version": "custom", "attacks": "square", "batch_size": 20}
    common |= {"adjust": {"square": {"n_queries": 5}}}
    found = run_autoattack(network, *digits, **common, then=[("spoil", spoil)])  # type: ignore[arg-type]
    check_same(network, before)
    (flag,) = (flag for flag in found.flags if flag.name == "model-changed")
    assert flag.raised
    assert flag.detail.startswith("spoil changed the network (0.weight,")
    follower = functools.partial(pgd, eps=0.02, num_steps=1)
    sound = run_autoattack(network, *digits, **common, then=[("pgd", follower)])  # type: ignore[arg-type]
    assert torch.equal(sound.success, found.success)
    assert len(sound.flags) == 6


def test_nan_that_was_there_before_is_no_change() -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("missing", torch.tensor([float("nan"), 1.0]))
    with preserved(network, "attack") as changed:
        network(torch.zeros(1, 2))
    assert changed == []


def test_a_callable_without_state_is_left_alone() -> None:
    with preserved(lambda rows: rows, "attack") as changed:
        pass
    assert changed == []
