"""OPT and Sign-OPT beside a plain search of one image at a time, and facts of both."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import stored_network
from art_ext.core.attacks import opt, sign_opt
from art_ext.core.metrics import adbd
from art_ext.core.result import AttackResult
from art_ext.core.streams import normal
from art_ext.data import Dataset, load_data
from art_ext.evaluation import Panel, evaluate
from art_ext.evaluation.panel.panels import PANELS, Member

BOTH = pytest.mark.parametrize("attack", [opt, sign_opt])
SEED = 3


def single(value: float) -> float:
    """A number rounded to float32."""
    return float(torch.tensor(value))


NEARER = single(0.99)
FARTHER = single(1.01)


class SpentError(Exception):
    """The budget of a port is spent."""


@dataclass
class Port:
    """A search of one image, one query after another, from the formulas of the two papers.

    Attributes:
        decide: True for a misclassified image.
        x: (D,) the image.
        draw: the random directions (D,), by their number.
        starts, samples, beta, least_alpha: the settings.
        budget: most queries, without the clean check.
        asked: the point of each query.
        nearest: the distance of the nearest adversarial at the end of a direction's interval.
    """

    decide: Callable[[Tensor], bool]
    x: Tensor
    draw: Callable[[int], Tensor]
    starts: int
    samples: int
    beta: float
    least_alpha: float
    budget: int
    alpha: float = 0.2
    draws: int = 0
    asked: list[Tensor] = field(default_factory=list)
    nearest: float = math.inf

    def adversarial(self, direction: Tensor, radius: float, sign: bool = False) -> bool:
        """Ask once, for an end of an interval or for a sign."""
        if len(self.asked) == self.budget:
            raise SpentError
        point = torch.addcmul(self.x, direction, torch.tensor(radius)).clamp(0, 1)
        self.asked.append(point)
        answer = self.decide(point)
        if answer and not sign:
            self.nearest = min(self.nearest, float((point - self.x).abs().max()))
        return answer

    def noise(self) -> tuple[Tensor, float]:
        """A random direction of length 1, and its length before."""
        noise = self.draw(self.draws)
        self.draws += 1
        length = noise.abs().max()
        return noise / length, float(length)

    def bisect(self, direction: Tensor, low: float, high: float, tol: float) -> float:
        """The adversarial end of a bisection."""
        while True:
            middle = single((low + high) / 2)
            if single(high - low) <= tol or not low < middle < high:
                return high
            if self.adversarial(direction, middle):
                high = middle
            else:
                low = middle

    def local(self, direction: Tensor, radius: float) -> float:
        """The distance to the boundary, from a radius nearby."""
        tol = single(self.beta / 500)
        if self.adversarial(direction, radius):
            high, low = radius, single(NEARER * radius)
            while self.adversarial(direction, low):
                high, low = low, single(NEARER * low)
            return self.bisect(direction, low, high, tol)
        low, high = radius, single(FARTHER * radius)
        while high <= 20 and not self.adversarial(direction, high):
            low, high = high, single(FARTHER * high)
        return math.inf if high > 20 else self.bisect(direction, low, high, tol)

    def start(self) -> tuple[Tensor, float]:
        """The best of the random directions."""
        best, nearest = torch.zeros_like(self.x), math.inf
        for _ in range(self.starts):
            direction, length = self.noise()
            if not self.adversarial(direction, length):
                continue
            if length > nearest and not self.adversarial(direction, nearest):
                continue
            found = self.bisect(direction, 0.0, min(length, nearest), single(1e-5))
            if found < nearest:
                best, nearest = direction, found
        return best, nearest

    def line_search(self, theta: Tensor, g: float, slope: Tensor) -> tuple[Tensor, float]:
        """The best direction against the slope."""
        best, nearest = theta, g
        for _ in range(15):
            direction = unit(torch.addcmul(theta, slope, torch.tensor(-self.alpha)))
            found = self.local(direction, nearest)
            self.alpha *= 2
            if found >= nearest:
                break
            best, nearest = direction, found
        if nearest < g:
            return best, nearest
        for _ in range(15):
            self.alpha /= 4
            direction = unit(torch.addcmul(theta, slope, torch.tensor(-self.alpha)))
            found = self.local(direction, g)
            if found < g:
                return direction, found
        return theta, g

    def shorten(self) -> None:
        """Take a smaller difference where the line search has shrunk to nothing."""
        if self.alpha < self.least_alpha:
            self.alpha = 1.0
            self.beta = single(self.beta / 10)

    def sign_opt(self) -> None:
        """Run Sign-OPT."""
        theta, g = self.start()
        while g < math.inf:
            slope = torch.zeros_like(theta)
            for _ in range(self.samples):
                noise, _ = self.noise()
                direction = unit(torch.addcmul(theta, noise, torch.tensor(self.beta)))
                nearer = self.adversarial(direction, g, sign=True)
                slope = slope - noise if nearer else slope + noise
            theta, g = self.line_search(theta, g, slope * (1 / self.samples))
            self.shorten()

    def opt(self) -> None:
        """Run OPT."""
        theta, g = self.start()
        gain = math.inf
        while g < math.inf and gain >= 0.005:
            slope = torch.zeros_like(theta)
            sampled, nearest = theta, math.inf
            for _ in range(self.samples):
                noise, _ = self.noise()
                direction = unit(torch.addcmul(theta, noise, torch.tensor(self.beta)))
                found = self.local(direction, g)
                if found < nearest:
                    sampled, nearest = direction, found
                if found < math.inf:
                    slope = torch.addcmul(slope, noise, torch.tensor(single(found - g) / self.beta))
            best, end = self.line_search(theta, g, slope * (1 / self.samples))
            if nearest < end:
                best, end = sampled, nearest
            gain = g - end
            theta, g = best, end
            self.shorten()


def unit(direction: Tensor) -> Tensor:
    """A direction of L-inf length 1."""
    return direction / direction.abs().max()


class RowByRow(nn.Module):
    """A network whose call sees one row at a time, and the rows of each call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.rows: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.rows.append(rows.clone())
        return torch.cat([self.network(row) for row in rows.split(1)])


def compare_with_port(
    attack: Any, network: nn.Module, x: Tensor, y: Tensor, budget: int, **settings: Any
) -> None:
    """Assert that every sample asks the same points, and reaches the same distance, as the port."""
    names = torch.arange(len(x)) + 40
    model = RowByRow(network.eval())
    sent: list[Tensor] = []  # the samples of each round
    result = attack(
        model,
        x,
        y,
        eps=None,
        stop_on_success=False,
        max_queries=budget + 1,
        seed=SEED,
        sample_ids=names,
        callback=lambda progress: sent.append(progress.index),
        **settings,
    )
    assert not bool(result.already_adversarial.any()), "choose samples that are classified right"
    rows = torch.cat(model.rows).flatten(1)
    owners = torch.cat(sent)
    for number in range(len(x)):
        port = port_of(attack, network, x[number], y[number], names[number], budget, settings)
        with contextlib.suppress(SpentError):
            getattr(port, attack.__name__)()
        asked = rows[owners == number][1:]
        assert int(result.queries[number]) == len(asked) + 1 == len(port.asked) + 1
        torch.testing.assert_close(asked, torch.stack(port.asked), rtol=0, atol=1e-5)
        assert float(result.nearest_distance[number]) == pytest.approx(port.nearest, abs=1e-5)


def port_of(
    attack: Any,
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    name: Tensor,
    budget: int,
    settings: dict[str, Any],
) -> Port:
    """The port with the attack's settings and random numbers."""
    by_signs = attack is sign_opt

    def decide(point: Tensor) -> bool:
        with torch.no_grad():
            return int(network(point.view(1, *x.shape)).argmax()) != int(y)

    def draw(number: int) -> Tensor:
        return normal(SEED, name.view(1), number, (x.numel(),))[0]

    return Port(
        decide,
        x.flatten(),
        draw,
        settings.get("num_starts", 100 if by_signs else 10),
        settings.get("num_directions", 200 if by_signs else 5),
        single(1e-3 if by_signs else 1e-2),
        1e-6 if by_signs else 1e-4,
        budget,
    )


def right(network: nn.Module, x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first samples that a network classifies right."""
    with torch.no_grad():
        kept = (network(x).argmax(1) == y).nonzero().flatten()[:count]
    return x[kept], y[kept]


@pytest.mark.parametrize(
    ("attack", "settings"), [(opt, {}), (sign_opt, {"num_starts": 10, "num_directions": 20})]
)
def test_decisions_are_those_of_a_plain_search(
    attack: Any, settings: dict[str, Any], digits: tuple[Tensor, Tensor], digits_net: nn.Module
) -> None:
    x, y = right(digits_net, *digits, 4)
    compare_with_port(attack, digits_net, x, y, 300, **settings)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("mnist_smallcnn_bn_rays_nat", "mnist"),
        ("mnist_conv2_fast_pgd", "mnist"),
        ("mnist_smallcnn_trades", "mnist"),
        ("cifar_resnet20_nat", "cifar10"),
    ],
)
def test_decisions_on_networks_are_those_of_a_plain_search(
    attack: Any, name: str, data: str, art_ext_data: Path
) -> None:
    assert art_ext_data.is_dir()
    network = stored_network(name)
    found = load_data(data).first(40)
    x, y = right(network, found.x, found.y, 20)
    compare_with_port(attack, network, x, y, 500)


@BOTH
def test_linear_boundaries_are_approached(attack: Any) -> None:
    """The nearest boundary of w x = b lies at |w x - b| / ||w||_1."""
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    x = torch.full((3, 4), 0.5) + torch.tensor([[0.05], [0.0], [-0.05]])
    bias = float(x.mv(weight).max()) + 0.3

    def decide(rows: Tensor) -> Tensor:
        return (rows.mv(weight) > bias).long()

    result = attack(
        decide,
        x,
        torch.zeros(3, dtype=torch.int64),
        outputs="labels",
        eps=None,
        stop_on_success=False,
        max_queries=4000,
        seed=0,
    )
    exact = (bias - x.mv(weight)) / weight.abs().sum()
    # OPT ends where an iteration gains less than .005
    worst = 1.2 if attack is sign_opt else 1.5
    assert bool((result.nearest_distance >= exact - 1e-6).all())
    assert bool((result.nearest_distance <= worst * exact).all())
    assert adbd(result).value == pytest.approx(float(result.nearest_distance.mean()))


@BOTH
def test_a_success_ends_the_sample_and_a_budget_keeps_the_verified_end(
    attack: Any, digits: tuple[Tensor, Tensor], digits_net: nn.Module
) -> None:
    x, y = digits
    whole = attack(digits_net, x, y, eps=0.3, max_queries=400, seed=0, stop_on_success=False)
    short = attack(digits_net, x, y, eps=0.3, max_queries=400, seed=0)
    assert torch.equal(whole.success, short.success)
    assert bool((short.queries_to_success[short.success] == short.queries[short.success]).all())
    assert bool((short.nearest_distance[short.success] <= 0.3 + 1e-6).all())
    before = torch.full((len(x),), math.inf)
    for budget in (7, 11, 12, 13, 20, 60):
        cut = attack(digits_net, x, y, eps=None, max_queries=budget, seed=0, stop_on_success=False)
        assert int(cut.queries.max()) <= budget
        assert bool((cut.nearest_distance <= before).all()), "more queries lose nothing"
        before = cut.nearest_distance
    assert bool(before.isfinite().any())


@BOTH
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"targets": torch.zeros(40, dtype=torch.int64)},
            "cannot be targeted: random directions hardly ever reach",
        ),
        ({"norm": "l2"}, "norm must be one of 'linf', got 'l2'"),
        ({"num_starts": 0}, "num_starts must be an integer >= 1, got 0"),
        ({"num_directions": 1.5}, "num_directions must be an integer >= 1, got 1.5"),
        ({"beta": 0.0}, "beta must be > 0, got 0.0"),
        ({"step_size": -1.0}, "step_size must be > 0, got -1.0"),
        ({"max_queries": None}, "max_queries must be an integer >= 1, got None"),
    ],
)
def test_bad_arguments(
    attack: Any,
    given: dict[str, Any],
    message: str,
    digits: tuple[Tensor, Tensor],
    digits_net: nn.Module,
) -> None:
    with pytest.raises(ValueError, match=message):
        attack(digits_net, *digits, **{"eps": 0.1, **given})


def found_by(attack: Any, *given: Any, **options: Any) -> AttackResult:
    """Run an attack with few random directions."""
    return attack(*given, eps=None, num_starts=5, num_directions=5, seed=1, **options)


@BOTH
def test_scores_are_never_read(
    attack: Any, digits: tuple[Tensor, Tensor], digits_net: nn.Module
) -> None:
    x, y = digits

    def labels(rows: Tensor) -> Tensor:
        return digits_net(rows).argmax(1)

    scores = found_by(attack, digits_net, x, y, max_queries=80)
    alone = found_by(attack, labels, x, y, max_queries=80, outputs="labels")
    assert torch.equal(scores.x_adv, alone.x_adv)
    assert torch.equal(scores.queries, alone.queries)


def test_the_panel_goes_on_without_a_missing_toolkit(
    tmp_path: Path, digits: tuple[Tensor, Tensor], digits_net: nn.Module, monkeypatch: Any
) -> None:
    from art_ext.evaluation.panel import panels

    def find(name: str, *given: Any) -> Any:
        if name.startswith("foolbox:"):
            raise ImportError("foolbox is not installed: pip install foolbox")
        return original(name, *given)

    original = panels.find_attack
    monkeypatch.setattr(panels, "find_attack", find)
    assert panels.skipped("hard-label", "linf") == [
        "panel hard-label goes on without foolbox:HopSkipJumpAttack: foolbox is not installed:"
        " pip install foolbox"
    ]
    assert panels.skipped("hard-label", "l1") == []
    outcome = evaluate(
        {"digits": digits_net},
        Dataset("digits", digits[0][:6], digits[1][:6]),
        panel="hard-label",
        eps=0.2,
        max_queries=30,
        out=tmp_path / "run",
    )
    assert {row.attack for row in outcome.rows} >= {"rays", "sign_opt"}
    needed = Panel("own", "cascade", (Member("foolbox:HopSkipJumpAttack"),))
    with pytest.raises(ImportError, match="foolbox is not installed"):
        needed.attacks()
    assert [member.label for member in PANELS["hard-label"].members][:2] == ["rays", "sign_opt"]
