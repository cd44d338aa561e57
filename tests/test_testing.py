"""The contract checks for users: what is in order passes, and each fault fails its own check."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.core.attacks import registry
from art_ext.testing import Check, check_attack, check_model, check_recipe
from art_ext.testing.attacks import attack_checks
from art_ext.training import RECIPES, Natural, Pgd, Recipe

SLOW = ("rays", "ai_fgsm", "hmcam", "i_fgm", "square", "auto_pgd", "cw", "ead")  # seconds each


def failed(checks: Any) -> list[str]:
    return [check.name for check in checks if not check.passed]


# --- attacks ---


def corner(model: Any, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf") -> Tensor:
    """Move to the upper corner of the ball."""
    if norm != "linf":
        raise ValueError(f"corner supports linf, got {norm!r}")
    return (x + eps).clamp(0, 1)


def signs(model: Any, x: Tensor, y: Tensor, *, eps: float, seed: int = 0) -> Tensor:
    """Move along the sign of the gradient, with leaves of its own."""
    rows = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(rows), y), rows)
    return (x + eps * slope.sign()).clamp(0, 1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(spec.name, marks=pytest.mark.slow if spec.name in SLOW else ())
        for spec in registry.specs()
        if registry.is_built_in(spec) and not spec.resources
    ],
)
def test_every_attack_of_ours_passes(name: str) -> None:
    assert len(check_attack(registry.get(name))) == 11


@pytest.mark.parametrize("function", [corner, signs])
def test_plain_functions_pass(function: Any) -> None:
    found = check_attack(function)
    assert all(check.passed for check in found)
    assert [check.name for check in found][:3] == ["shape and dtype", "ball", "box"]


def wrong_shape(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x.flatten(1)


def wrong_dtype(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x.double()


def not_finite(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x / 0 * 0


def nothing(model: Any, x: Tensor, y: Tensor, *, eps: float) -> None:
    return None


def raising(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    raise KeyError("weights")


def far(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return (x + 2 * eps).clamp(0, 1)


def unclipped(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x - eps


def in_place(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    before = x.clone()
    x += 0.5
    return before


def wandering(model: Any, x: Tensor, y: Tensor, *, eps: float, seed: int = 0) -> Tensor:
    step = eps * torch.rand((), generator=torch.Generator().manual_seed(torch.initial_seed()))
    return (x + step).clamp(0, 1)


def by_batch(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return (x + eps * x.mean()).clamp(0, 1)


def by_position(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + eps * (drawn - 0.5)).clamp(0, 1)


def greedy(model: Any, x: Tensor, y: Tensor, *, eps: float, max_queries: int = 10) -> Tensor:
    for _ in range(max_queries + 1):
        model(x)
    return x


def training(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    model.train()
    return x


def heavier(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    with torch.no_grad():
        model.weight.mul_(1.01)
    return x


def frozen(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    model.requires_grad_(False)
    return x


def drawing(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    torch.rand(1)
    np.random.rand()  # noqa: NPY002
    random.random()
    return x


@pytest.mark.parametrize(
    ("function", "names", "detail"),
    [
        (wrong_shape, ["shape and dtype"], r"must have shape \(24, 1, 8, 8\), got \(24, 64\)"),
        (wrong_dtype, ["shape and dtype"], "must be float32, got torch.float64"),
        (not_finite, ["shape and dtype"], "24 of 24 rows hold NaN"),
        (nothing, ["shape and dtype"], "or an AttackResult, got NoneType"),
        (raising, ["shape and dtype"], "KeyError: 'weights'"),
        (far, ["ball"], r"24 of 24 rows leave the linf ball of eps=0.15, by up to 0.15"),
        (unclipped, ["box"], r"24 of 24 rows leave \[0, 1\], by up to 0.15"),
        (in_place, ["input unchanged"], r"it changes x: let it work on x.clone\(\)"),
        (wandering, ["determinism by seed"], "24 of 24 rows differ in a second run"),
        (by_batch, ["batch invariance"], "24 of 24 rows differ in smaller batches"),
        (by_position, ["order invariance", "batch invariance"], "24 of 24 rows differ in another"),
        (greedy, ["budget"], "151 rows for one sample, with max_queries=150"),
        (training, ["model restored"], "changed: mode of the network, mode of dropout"),
        (heavier, ["model restored"], "changed: weight"),
        (frozen, ["model restored"], "changed: requires_grad of weight, requires_grad of bias"),
        (drawing, ["streams restored"], "changed: torch, NumPy, random"),
    ],
)
def test_each_fault_fails_its_own_check(function: Any, names: list[str], detail: str) -> None:
    found = list(attack_checks(registry.spec_of(function)))
    assert failed(found) == names
    assert re.search(detail, next(check.detail for check in found if not check.passed))
    with pytest.raises(AssertionError, match=f"{function.__name__} fails {len(names)} of "):
        check_attack(function)


def test_a_result_that_counts_wrongly() -> None:
    def generous(model: Any, x: Tensor, y: Tensor, *, eps: float, max_queries: int = 9) -> Any:
        found = registry.get("fgsm").function(model, x, y, eps=eps)
        found.queries.sub_(1)
        found.success.fill_(True)
        return found

    found = list(attack_checks(registry.spec_of(generous)))
    assert failed(found) == ["budget", "success"]
    details = {check.name: check.detail for check in found}
    assert details["budget"] == "the result counts 1 rows, and the model got 2"
    assert re.match(r"\d+ rows are called a success", details["success"])


def test_the_streams_of_the_caller_stay() -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    check_attack(corner)
    with pytest.raises(AssertionError):
        check_attack(drawing)
    drawn = (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002


def test_arguments_of_the_attack() -> None:
    check_attack(registry.get("pgd"), num_steps=2)
    with pytest.raises(ValueError, match="pgd has no argument 'steps'"):
        check_attack(registry.get("pgd"), steps=2)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.chdir(tmp_path)
        head = "import torch\n\n\ndef own(model, x, y, *, eps):\n    "
        (tmp_path / "good.py").write_text(head + "return (x + eps).clamp(0, 1)\n")
        (tmp_path / "bad.py").write_text(head + "return x + eps\n")
        yield
        if "own" in registry.names():
            registry.unregister("own")

    def test_one_line_a_check_and_the_exit_code(self) -> None:
        done = CliRunner().invoke(cli.app, ["attacks", "--check", "good.py:own"])
        assert done.exit_code == 0, done.output
        lines = done.output.splitlines()
        assert len(lines) == 11
        assert all(line.startswith("ok    ") for line in lines)
        done = CliRunner().invoke(cli.app, ["attacks", "--check", "bad.py:own"])
        assert done.exit_code == 1
        assert [line.split()[:2] for line in done.output.splitlines() if line[:4] == "FAIL"] == [
            ["FAIL", "box"]
        ]

    def test_a_name_and_what_is_missing(self) -> None:
        assert CliRunner().invoke(cli.app, ["attacks", "--check", "fgsm"]).exit_code == 0
        done = CliRunner().invoke(cli.app, ["attacks", "--check", "fgms"])
        assert done.exit_code == 2
        assert "did you mean 'fgsm'" in done.output
        done = CliRunner().invoke(cli.app, ["attacks", "--check", "good.py:nothing"])
        assert done.exit_code == 2
        assert "it has own" in done.output

    def test_a_recipe(self) -> None:
        done = CliRunner().invoke(cli.app, ["recipes", "--check", "fast"])
        assert done.exit_code == 0, done.output
        assert len(done.output.splitlines()) == 11


# --- recipes ---

QUICK = ("natural", "fast", "free", "fast-trades", "grad-align")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RECIPES],
)
def test_every_recipe_of_ours_passes(name: str) -> None:
    assert len(check_recipe(name)) == 11


@dataclass(frozen=True, kw_only=True, eq=False)
class Uncounted(Natural):
    """It calls the network itself."""

    def loss(self, step: Any) -> Tensor:
        with torch.no_grad():
            step._engine.plain(step.x)
        return super().loss(step)


@dataclass(frozen=True, kw_only=True, eq=False)
class Remembering(Natural):
    """It keeps a value of its own from update to update."""

    seen: list[float] = field(default_factory=list)

    def loss(self, step: Any) -> Tensor:
        loss = super().loss(step)
        self.seen.append(1.0)
        return loss * len(self.seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wider(Pgd):
    """It trains outside its ball."""

    def craft(self, step: Any) -> Tensor:
        return (super().craft(step) + self.eps).clamp(max=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outside(Pgd):
    """It trains outside the box."""

    def craft(self, step: Any) -> Tensor:
        return super().craft(step) * 0 - self.eps / 2 + step.x


@dataclass(frozen=True, kw_only=True, eq=False)
class Costly(Natural):
    """It states another cost."""

    def cost(self) -> Any:
        return super().cost()._replace(forwards=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Endless(Natural):
    """Its loss is not finite."""

    def loss(self, step: Any) -> Tensor:
        return super().loss(step) * torch.inf


@pytest.mark.parametrize(
    ("recipe", "names", "detail"),
    [
        (Uncounted(), ["rows counted"], r"counts 192 \+ 192 rows, and the network got 384 \+ 192"),
        (Wider(eps=0.1), ["ball"], r"a row is 0.2 from .* image, and eps is 0.1 \(linf\)"),
        (Outside(eps=0.1), ["box"], r"a row leaves \[0, 1\] by 0.05"),
        (Costly(), ["cost"], r"cost\(\) states 2 \+ 1 rows .*, and it sends 1 \+ 1"),
        (Remembering(), ["determinism by seed", "resumed after a kill"], "keep what passes from"),
        (Endless(), ["finite losses"], "finite"),
    ],
)
def test_faults_of_recipes(recipe: Recipe, names: list[str], detail: str) -> None:
    with pytest.raises(AssertionError, match=f"fails {len(names)} of ") as caught:
        check_recipe(recipe)
    lines = str(caught.value).splitlines()[1:]
    assert [line[6:28].strip() for line in lines] == names
    assert re.search(detail, lines[0])


# --- models ---

NETWORKS = """
import torch
from torch import nn


def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def unseeded():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def detached():
    return lambda x: x.detach().flatten(1)[:, :10]


class Images(nn.Module):
    def forward(self, x):
        return x[:, :3, :16, :16].mean((2, 3))[:, [0, 1, 2]]


class Broken(nn.Module):
    def forward(self, x):
        raise KeyError("weights")


class Noisy(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] + torch.rand(len(x), 10)


class Centred(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] - x.mean()


class Soft(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].softmax(1)


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].mul(1e9).round()


class Writing(nn.Module):
    def forward(self, x):
        rows = x.detach()
        rows += 0.1
        return x.flatten(1)[:, :10] * 2


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x.flatten(1)[:, :10]
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with networks in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORKS)


@pytest.mark.usefixtures("networks")
class TestModels:
    @pytest.mark.parametrize("name", ["good", "detached"])
    def test_those_in_order_pass(self, name: str) -> None:
        assert len(check_model(f"nets.py:{name}")) == 9

    @pytest.mark.parametrize(
        ("name", "names", "detail"),
        [
            ("Broken", ["output"], r"none of the inputs tried: \(1, 8, 8\): KeyError: 'weights'; "),
            ("Noisy", ["determinism", "same model again", "streams restored"], "8 of 8 rows"),
            ("Centred", ["batch invariance"], "8 of 8 rows depend on the other rows"),
            ("Soft", ["scores"], "give outputs='probabilities'"),
            ("Flat", ["gradients"], "gradient of every row is zero"),
            ("Writing", ["input unchanged"], "it changes its input"),
            ("Counting", ["model restored"], "changed: calls"),
            ("unseeded", ["same model again"], "makes another model the second time"),
        ],
    )
    def test_each_fault_fails_its_own_check(self, name: str, names: list[str], detail: str) -> None:
        with pytest.raises(AssertionError) as caught:
            check_model(f"nets.py:{name}")
        lines = str(caught.value).splitlines()[1:]
        assert [line[6:28].strip() for line in lines] == names
        assert re.search(detail, lines[0])

    def test_live_ones_and_their_outputs(self) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softmax(dim=1)).train()
        found = check_model(network, input_shape=(3, 2, 2), outputs="probabilities")
        assert found[0].detail == "probabilities (8, 4) for inputs (8, 3, 2, 2)"
        assert network.training
        labels = check_model(lambda x: x.flatten(1).argmax(1), outputs="labels")
        assert next(one for one in labels if one.name == "gradients").detail.startswith("none")

    def test_the_input_is_found(self) -> None:
        assert check_model("nets.py:Images")[0].detail == "logits (8, 3) for inputs (8, 3, 32, 32)"

    def test_the_command(self) -> None:
        done = CliRunner().invoke(cli.app, ["models", "--check", "nets.py:good"])
        assert done.exit_code == 0, done.output
        assert len(done.output.splitlines()) == 9
        done = CliRunner().invoke(cli.app, ["models", "--check", "nets.py:Soft"])
        assert done.exit_code == 1
        assert "FAIL  scores" in done.output
        done = CliRunner().invoke(cli.app, ["models", "--check", "nets.py:godo"])
        assert done.exit_code == 2
        assert "did you mean 'good'" in done.output


def test_a_check_as_a_line() -> None:
    assert str(Check("ball", True, "linf")) == f"ok    {'ball':22}  linf"
    assert str(Check("ball", False, "linf")) == f"FAIL  {'ball':22}  linf"
