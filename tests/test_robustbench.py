"""RobustBench itself, imported through the bridge and run on a small model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.robustbench import autoattack_bridge, import_robustbench

# RobustBench and timm warn of their own imports; none of it is ours
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def robustbench() -> ModuleType:
    return import_robustbench()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A random network over 8x8 images: its own predictions are the truth."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
        ).eval()


@pytest.fixture(scope="module")
def images(model: nn.Module) -> tuple[Tensor, Tensor]:
    """16 images; the model is right on the first twelve."""
    x = torch.rand((16, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    y[12:] = (y[12:] + 1) % 10
    return x, y


@pytest.fixture
def adversary(model: nn.Module) -> Callable[..., Any]:
    """AutoAttack called as RobustBench calls it, with few iterations."""

    def build(**arguments: object) -> Any:
        with autoattack_bridge():
            from autoattack import AutoAttack

            attack = AutoAttack(
                model, "Linf", 0.1, 0, False, version="custom", device="cpu", **arguments
            )
        attack.apgd.n_iter = 5
        attack.apgd.n_restarts = 1
        return attack

    return build


def test_it_is_robustbench_and_no_name_stays_behind(robustbench: ModuleType) -> None:
    assert callable(robustbench.benchmark)
    assert robustbench is sys.modules["robustbench"]
    assert not [name for name in sys.modules if name.split(".")[0] == "autoattack"]


def test_its_clean_accuracy_equals_our_count(
    robustbench: ModuleType, model: nn.Module, images: tuple[Tensor, Tensor]
) -> None:
    from robustbench.utils import clean_accuracy

    x, y = images
    assert clean_accuracy(model, x, y, batch_size=5) == pytest.approx(12 / 16)


def test_bridged_autoattack_returns_only_images(
    adversary: Callable[..., Any], model: nn.Module, images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    adversarial = adversary(attacks_to_run=["apgd-ce"]).run_standard_evaluation(x, y, bs=8)
    assert isinstance(adversarial, Tensor)
    assert adversarial.shape == x.shape
    assert (adversarial - x).abs().max() <= 0.1 + 1e-6
    assert torch.equal(adversarial[12:], x[12:])  # wrong before: not attacked
    fooled = model(adversarial)[:12].argmax(dim=1) != y[:12]
    assert fooled.any()
    # failures come back unchanged
    assert torch.equal((adversarial != x).flatten(1).any(dim=1)[:12], fooled)


def test_bridged_autoattack_returns_labels_on_request(
    adversary: Callable[..., Any], model: nn.Module, images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    adversarial, labels = adversary(attacks_to_run=["apgd-ce"]).run_standard_evaluation(
        x, y, bs=8, return_labels=True
    )
    assert torch.equal(labels, model(adversarial).argmax(dim=1))
    assert torch.equal(
        adversarial, adversary(attacks_to_run=["apgd-ce"]).run_standard_evaluation(x, y, bs=8)
    )


def test_attacks_one_by_one(adversary: Callable[..., Any], images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    attack = adversary()
    # callers of the old package set the list afterwards
    attack.attacks_to_run = ["apgd-ce", "apgd-dlr"]
    results = attack.run_standard_evaluation_individual(x, y, bs=16)
    assert list(results) == attack.attacks_to_run == ["apgd-ce", "apgd-dlr"]
    assert torch.equal(
        results["apgd-ce"],
        adversary(attacks_to_run=["apgd-ce"]).run_standard_evaluation(x, y, bs=16),
    )


def test_trace_function_survives(
    adversary: Callable[..., Any], images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    before = sys.gettrace()

    def trace(*_: object) -> None:
        return None

    try:
        sys.settrace(trace)
        adversary(attacks_to_run=["apgd-ce"]).run_standard_evaluation(x, y)
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is trace


@pytest.mark.parametrize("unsupported", [{"is_tf_model": True}, {"log_path": "log.txt"}])
def test_what_pyautoattack_lacks_is_refused(
    unsupported: dict[str, object], adversary: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(unsupported))):
        adversary(**unsupported)


def test_real_autoattack_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "autoattack.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with autoattack_bridge():
            import autoattack

            assert autoattack.real
        assert sys.modules["autoattack"] is autoattack  # a name that the bridge did not make stays
    finally:
        sys.modules.pop("autoattack", None)


def test_names_go_away_when_the_block_fails() -> None:
    def fail() -> None:
        with autoattack_bridge():
            assert "autoattack.state" in sys.modules
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "autoattack" not in sys.modules
    assert "autoattack.state" not in sys.modules


def import_with(site: Path) -> str:
    """Error text of import_robustbench in a new process that finds the folder first."""
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from art_ext.adapters.robustbench import import_robustbench\n"
        "try:\n    import_robustbench()\nexcept ImportError as error:\n    print(error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_torchattacks_stub_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "robustbench").mkdir()
    (tmp_path / "robustbench" / "__init__.py").write_text("# from .eval import benchmark\n")
    assert "pip install --no-deps --force-reinstall robustbench==1.1.1" in import_with(tmp_path)


def test_missing_dependency_points_to_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "robustbench.py").write_text("import not_to_be_found\n")
    message = import_with(tmp_path)
    assert "not_to_be_found" in message
    assert "art-ext doctor" in message
