"""Methods of users with faults: candidates outside ball or box, writes into the inputs, and states
that are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import fgsm, registry
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Method
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Optimiser, Search
from art_ext.core.attacks.engine.state import State
from art_ext.core.oracle import GradientOracle, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import evaluate
from art_ext.evaluation.report import plots
from tests.toys import examples, warned

EPS = 0.1
Step = Callable[[Any, Any, Any, int], Any]


class Faulty(Method[State]):
    """A method whose step is a function."""

    needs_gradient = False

    def __init__(self, step: Step, num_steps: int = 3) -> None:
        self.made = step
        self.num_steps = num_steps

    def init(self, problem: Any, trajectory: int) -> State:
        return State(x=problem.x)

    def step(self, problem: Any, state: Any, answers: Any, t: int) -> Any:
        return self.made(problem, state, answers, t)


def attack(model: Any, x: Tensor, y: Tensor, step: Step, **options: Any) -> AttackResult:
    given = {"eps": EPS, "norm": "linf", "oracle": ScoreOracle, "seed": 0, **options}
    return FixedRadius(model, x, y, **given).run(Faulty(step))


OUTSIDE: dict[str, tuple[Step, str]] = {
    "far": (lambda problem, *_: State(x=1 - problem.x), "ball"),
    "NaN": (lambda problem, *_: State(x=problem.x * math.nan), "invalid"),
    "unclipped": (lambda problem, *_: State(x=problem.x + 0.09 * (problem.x - 0.5).sign()), "box"),
}


@pytest.mark.parametrize("stop_on_success", [False, True])
@pytest.mark.parametrize("name", OUTSIDE)
def test_candidates_outside_are_reported(
    linear_net: nn.Module,
    digits: tuple[Tensor, Tensor],
    labels: Tensor,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
    stop_on_success: bool,
) -> None:
    step, reason = OUTSIDE[name]
    x = digits[0]
    found = attack(linear_net, x, labels, step, stop_on_success=stop_on_success)
    attacked = ~found.already_adversarial
    assert not found.success[attacked].any()
    assert torch.equal(found.x_adv, x)
    assert found.outside is not None
    numbers = found.outside.numbers
    assert torch.equal(found.outside.rows, attacked)
    assert numbers["samples"] == int(attacked.sum()) < len(x)
    assert {key for key in ("ball", "box", "invalid") if numbers[key]} >= {reason}
    (message,) = warned(caplog)
    assert f"Faulty: {int(attacked.sum())} of {int(attacked.sum())} outputs lie" in message
    found.save(tmp_path / "result.safetensors")
    loaded = AttackResult.load(tmp_path / "result.safetensors")
    assert loaded.outside is not None
    assert loaded.outside.numbers == numbers
    sound = fgsm(linear_net, x[:3], labels[:3], eps=EPS)
    assert sound.outside is None
    kept: dict[str, Any] = {"stop_on_success": stop_on_success, "seed": 0}
    joined = AttackResult.cat([fgsm(linear_net, x, labels, eps=EPS, **kept), loaded])
    assert joined.outside is not None
    assert joined.outside.rows.tolist() == [False] * len(x) + attacked.tolist()


def test_no_output_outside_is_left_in_x_adv(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
) -> None:
    for step, _ in OUTSIDE.values():
        found = attack(linear_net, digits[0], labels, step, on_failure="last")
        assert torch.equal(found.x_adv, digits[0])


def test_the_check_reads_the_last_candidates_and_the_successes(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
) -> None:
    """It costs nothing in a step. A candidate that is neither changes no outcome."""

    def step(problem: Any, state: Any, answers: Any, t: int) -> State:
        return State(x=problem.x * math.nan) if t < 2 else State(x=problem.x)

    found = attack(linear_net, digits[0], labels, step)
    assert found.outside is None, "the last candidates lie inside, and none was a success"


class Once(Search):
    """A search of one step."""

    begun = None

    def open(self, driver: MinimumNorm) -> None:
        pass

    def enter(self, answers: Any, distortion: Tensor) -> Tensor:
        return torch.ones_like(answers.success)

    def keep(self, rows: Tensor) -> None:
        pass


class Leap(Optimiser[State]):
    """One step to a point outside the box, or to one that is none."""

    needs_gradient = needs_clean_gradient = False

    def __init__(self, value: float) -> None:
        self.value = value

    def init(self, problem: Any, slope: Tensor) -> State:
        return State(x=problem.x)

    def step(self, problem: Any, state: State, answers: Any, search: Any) -> State:
        state.x.copy_(problem.x * 0 + self.value)
        return state

    def measure(self, problem: Any, state: State) -> tuple[Tensor, Tensor]:
        length = (state.x - problem.x).square().sum(dim=1)
        return length, length


@pytest.mark.parametrize(("value", "reason"), [(-9.0, "box"), (math.nan, "invalid")])
def test_a_minimum_norm_attack_that_leaves_the_box_succeeds_nowhere(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor], value: float, reason: str
) -> None:
    x = digits[0]
    y = linear_net(x).argmax(dim=1)
    driver = MinimumNorm(linear_net, x, y, eps=None, norm="l2", confidence=0.0, oracle=ScoreOracle)
    found = driver.run(Leap(value), Once())
    assert not found.success.any()
    assert torch.equal(found.x_adv, x)
    assert found.x_nearest is not None
    assert torch.equal(found.x_nearest, x)
    assert found.nearest_distance is not None
    assert found.nearest_distance.isinf().all()
    assert found.outside is not None
    assert found.outside.numbers[reason]
    assert not found.outside.numbers["ball"]


WRITES: dict[str, Step] = {
    "state": lambda problem, state, *_: State(x=state.x.add_(0.19).clamp_(0, 1)),
    "problem": lambda problem, state, *_: State(x=problem.x.add_(0.19).clamp_(0, 1)),
}


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("on_failure", ["input", "last"])
@pytest.mark.parametrize("name", WRITES)
def test_a_method_that_writes_into_its_tensors_changes_no_input(
    linear_net: nn.Module,
    digits: tuple[Tensor, Tensor],
    labels: Tensor,
    name: str,
    on_failure: str,
    restarts: int,
) -> None:
    x, before = digits[0], digits[0].clone()

    class Writes(Faulty):
        starts_at_input = False

    driver = FixedRadius(
        linear_net, x, labels, eps=EPS, norm="linf", oracle=ScoreOracle, on_failure=on_failure
    )
    found = driver.run(Writes(WRITES[name]), num_restarts=restarts)
    assert torch.equal(x, before)
    assert torch.equal(found.x_adv[~found.success], x[~found.success])
    moved = (found.x_adv - x).flatten(1).abs().amax(dim=1)
    assert float(moved.max()) <= EPS + 1e-6
    assert found.outside is not None
    assert found.outside.numbers["ball"] > 0


def test_the_caller_keeps_the_input_of_the_example(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor], labels: Tensor
) -> None:
    """A step inside the ball, in place: failures are inputs, successes are verified."""
    step: Step = lambda problem, state, *_: State(x=state.x.mul_(0.98))  # noqa: E731
    x = digits[0]
    found = attack(linear_net, x, labels, step)
    assert found.outside is None
    assert not found.success.all()
    assert torch.equal(found.x_adv[~found.success], x[~found.success])
    wrong = linear_net(found.x_adv).argmax(dim=1) != labels
    assert torch.equal(wrong, found.success)


async def _later() -> None:
    """Do nothing."""


RETURNS: dict[str, tuple[Step, str]] = {
    "nothing": (lambda *_: None, "got None"),
    "a coroutine": (lambda *_: _later(), "got a coroutine"),
    "a tensor": (lambda problem, *_: problem.x, r"got a tensor \(4, 64\) float32"),
    "another shape": (
        lambda problem, *_: State(x=problem.shaped(problem.x)),
        r"got x = a tensor \(4, 1, 8, 8\) float32",
    ),
    "fewer rows": (lambda problem, *_: State(x=problem.x[1:]), r"got x = a tensor \(3, 64\) float"),
    "float64": (
        lambda problem, *_: State(x=problem.x.double()),
        r"got x = a tensor \(4, 64\) float64",
    ),
    "no tensor": (lambda problem, *_: State(x=problem.x.numpy()), "got x = a ndarray"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", RETURNS)
def test_what_is_no_state_raises_in_one_line(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor], name: str
) -> None:
    step, got = RETURNS[name]
    x = digits[0][:4]
    y = linear_net(x).argmax(dim=1)
    wanted = r"Faulty\.step must return a State whose x is \(4, 64\) float32, one row for each"
    with pytest.raises(ValueError, match=f"^{wanted} active sample, {got}"):
        attack(linear_net, x, y, step)

    class Begins(Faulty):
        def init(self, problem: Any, trajectory: int) -> Any:
            return step(problem, None, None, 0)

    with pytest.raises(ValueError, match=r"^Begins\.init must return a State"):
        FixedRadius(linear_net, x, y, eps=EPS, norm="linf", oracle=ScoreOracle).run(Begins(step))


def test_a_forgotten_declaration_of_the_gradient_raises_in_one_line(
    linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x = digits[0][:4]
    y = linear_net(x).argmax(dim=1)

    class Wants(Faulty):
        needs_gradient = True

    with pytest.raises(ValueError, match=r"Wants needs gradients, and .* oracle=ScoreOracle"):
        FixedRadius(linear_net, x, y, eps=EPS, norm="linf", oracle=ScoreOracle).run(
            Wants(lambda problem, *_: State(x=problem.x))
        )
    climb: Step = lambda problem, state, answers, t: State(  # noqa: E731
        x=problem.feasible(state.x + answers.gradient.sign())
    )
    with pytest.raises(ValueError, match=r"answers\.gradient was not computed: .*needs_gradient"):
        attack(linear_net, x, y, climb, oracle=GradientOracle)


@pytest.mark.usefixtures("attacks_as_before", "no_plots")
class TestEvaluate:
    @pytest.mark.parametrize(
        "returned", ["1 - problem.x", "problem.x * float('nan')", "problem.x + 0.2"]
    )
    def test_the_example_of_the_documentation_with_a_fault_is_warned_of(
        self, tmp_path: Path, linear_net: nn.Module, digits: tuple[Tensor, Tensor], returned: str
    ) -> None:
        code = examples("how-to/add-an-attack.md")["random_search.py"]
        faulty = code.replace("problem.random_start(restart=t)", returned)
        assert faulty != code
        (tmp_path / "random_search.py").write_text(faulty)
        outcome = evaluate(
            linear_net,
            Dataset("digits", *digits),
            tmp_path / "out",
            eps=EPS,
            attacks=[f"{tmp_path / 'random_search.py'}:random_search"],
            chunk_size=15,
        )
        attacked = outcome.records[~outcome.records["already_adversarial"]]
        (found,) = (one for one in outcome.warnings if one.kind == "outside")
        assert found.attack == "random_search"
        assert list(found.indices) == sorted(attacked["index"])
        assert not attacked["success"].any()


class TestBudgetsBelowOneIteration:
    """Such a budget pays for the clean check only, which is a warning."""

    @pytest.mark.parametrize(
        ("name", "needed", "options"),
        [
            ("nes", 52, {}),
            ("nes", 8, {"num_directions": 3}),
            ("frank_wolfe_black_box", 52, {}),
            ("zoo", 131, {}),
            ("zoo", 13, {"coordinates": 5}),
            ("square", 3, {}),
        ],
    )
    def test_the_function_warns(
        self,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        caplog: pytest.LogCaptureFixture,
        name: str,
        needed: int,
        options: dict[str, Any],
    ) -> None:
        x = digits[0][:3]
        y = linear_net(x).argmax(dim=1)
        function = registry.get(name).function
        found = function(linear_net, x, y, eps=EPS, max_queries=needed, seed=0, **options)
        assert (found.queries > 1).all()
        assert warned(caplog) == []
        found = function(linear_net, x, y, eps=EPS, max_queries=needed - 1, seed=0, **options)
        (message,) = warned(caplog)
        assert message.casefold().startswith(name.replace("_", ""))
        assert f"needs {needed} queries per sample" in message
        assert message.endswith(f"got max_queries={needed - 1}")

    def test_the_evaluation_warns(
        self,
        tmp_path: Path,
        linear_net: nn.Module,
        digits: tuple[Tensor, Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(plots, "draw", lambda *arguments: [])
        outcome = evaluate(
            linear_net,
            Dataset("digits", *digits),
            tmp_path / "out",
            eps=(EPS / 2, EPS),
            attacks=["zoo", "rays"],
            max_queries=40,
        )
        (found,) = (one for one in outcome.warnings if one.kind == "not-attacked")
        attacked = outcome.records.query("attack == 'zoo' and not already_adversarial")
        assert found.attack == "zoo"
        assert list(found.indices) == sorted(set(attacked["index"]))
        assert found.count == found.samples == len(set(attacked["index"]))
        assert set(attacked["queries"]) == {1}
