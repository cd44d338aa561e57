"""A model that stops: what is verified so far, in every attack."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import pytest
import torch
from art.estimators.classification import BlackBoxClassifier
from torch import Tensor, nn

import art_ext.torchattacks
from art_ext.attacks import RayS
from art_ext.core import AttackInterrupted, AttackResult, ModelStopped
from art_ext.core.attacks import registry
from art_ext.core.calls import current_scope, described_rows, scope
from art_ext.core.oracle import ScoreOracle
from art_ext.core.streams import fingerprint
from tests.toys import attack_on, samples, small_net

CASES: dict[str, dict[str, Any]] = {
    "rays": {"max_queries": 60, "eps": 0.2},
    "rays all": {"max_queries": 60, "eps": 0.2, "stop_on_success": False},
    "rays ahead": {"max_queries": 60, "eps": 0.2, "speculate": True},
    "nes": {"max_queries": 60, "num_directions": 4, "eps": 0.2},
    "zoo": {"num_steps": 4, "search_steps": 3, "coordinates": 4, "initial_const": 5.0},
    "frank_wolfe_black_box": {"max_queries": 60, "num_directions": 4, "eps": 0.2},
    "square": {"max_queries": 40, "eps": 0.2},
    "square all": {"max_queries": 40, "eps": 0.2, "stop_on_success": False},
    "pgd": {"eps": 0.2, "num_steps": 6, "num_restarts": 2},
    "pgd last": {"eps": 0.05, "num_steps": 6, "on_failure": "last"},
    "auto_pgd": {"eps": 0.2, "num_steps": 8},
    "hmcam": {"eps": 0.2},
    "frank_wolfe": {"eps": 0.2, "num_steps": 8},
    "i_fgm": {"num_steps": 3},
    "cw": {"num_steps": 5, "search_steps": 3},
    "in_distribution": {"num_steps": 5, "search_steps": 2, "init_steps": 20},
    "ead": {"num_steps": 5, "search_steps": 2},
    "ead best": {"num_steps": 4, "search_steps": 2, "targets": "best"},
    "ead worst": {"num_steps": 4, "search_steps": 2, "targets": "worst"},
}


class Capped:
    """A model that answers so many rows, and then stops."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.rows = 0

    def __call__(self, rows: Tensor) -> Tensor:
        if self.rows + len(rows) > self.limit:
            raise ModelStopped("the budget is spent")
        self.rows += len(rows)
        return small_net(rows)


def run(case: str, model: Capped, x: Tensor, y: Tensor) -> AttackResult:
    """The result of an attack, which may raise."""
    attack = attack_on(case.split()[0], x, 3)
    return attack(model, x, y, seed=5, batch_size=7, **CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_attack_hands_over_what_is_verified(case: str) -> None:
    x = samples(10)
    y = small_net(x).argmax(dim=1)
    y[0] = (y[0] + 1) % 3  # adversarial from the start
    whole = Capped()
    undisturbed = run(case, whole, x, y)
    for share in (0.0, 0.01, 0.05, 0.3, 0.6, 0.95):
        model = Capped(share * whole.rows)
        with pytest.raises(AttackInterrupted, match="the budget is spent") as caught:
            run(case, model, x, y)
        result, finished = caught.value.result, caught.value.finished
        assert finished.shape == (10,)
        assert finished.dtype == torch.bool
        assert isinstance(caught.value.__cause__, ModelStopped)
        # every row that the model answered is counted, and no other
        assert int((result.queries + result.wasted_rows).sum()) == model.rows
        labels = small_net(result.x_adv).argmax(dim=1)
        assert bool((labels != y)[result.success].all())
        assert torch.equal(
            result.x_adv[~result.success & ~finished], x[~result.success & ~finished]
        )
        assert bool((result.queries_to_success[result.success] >= 1).all())
        assert bool((result.queries_to_success <= result.queries).all())
        if result.x_nearest is not None and result.nearest_distance is not None:
            found = result.nearest_distance.isfinite()
            assert bool((small_net(result.x_nearest).argmax(dim=1) != y)[found].all())
        for name in (field.name for field in fields(AttackResult)):
            now, later = getattr(result, name), getattr(undisturbed, name)
            if name in ("samples", "trace", "outside") or not isinstance(later, Tensor):
                continue
            torch.testing.assert_close(
                now[finished], later[finished], rtol=0, atol=0, equal_nan=True, msg=name
            )


def test_the_exception_can_be_pickled() -> None:
    with pytest.raises(AttackInterrupted) as caught:
        run("rays", Capped(0), samples(2), torch.zeros(2, dtype=torch.int64))
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
    assert str(copy) == "the budget is spent"
    assert torch.equal(copy.result.x_adv, samples(2))


def test_a_model_learns_whose_rows_it_is_called_with() -> None:
    seen: list[tuple[list[int], list[int]]] = []

    def model(rows: Tensor) -> Tensor:
        seen.append(described_rows())
        return small_net(rows)

    x = samples(3)
    assert described_rows() == ([], [])
    with ScoreOracle(model, 3, batch_size=4) as oracle:
        oracle.ids = fingerprint(x)
        oracle.scores(x, torch.arange(3))
        oracle.scores(x[[0, 0, 1, 0, 2]], torch.tensor([0, 0, 1, 0, 2]))
    ids = oracle.ids.tolist()
    assert seen == [
        (ids, [1, 1, 1]),
        ([ids[0], ids[0], ids[1], ids[0]], [2, 3, 2, 4]),
        ([ids[2]], [2]),
    ]
    assert described_rows() == ([], [])


def test_the_rows_of_an_attack_are_numbered_by_its_samples() -> None:
    numbers: dict[int, list[int]] = {}

    def model(rows: Tensor) -> Tensor:
        for one, number in zip(*described_rows(), strict=True):
            numbers.setdefault(one, []).append(number)
        return small_net(rows)

    x = samples(4)
    result = registry.get("rays").function(model, x, eps=0.05, max_queries=20)
    assert list(numbers) == fingerprint(x).tolist()
    for one, count in zip(numbers.values(), result.queries.tolist(), strict=True):
        assert one == list(range(1, count + 1))


def test_scopes_nest_and_begin_anew() -> None:
    assert current_scope().name == ""
    with scope("a") as first:
        first.memory[Capped] = 1
        with scope("b"):
            assert current_scope().name == "b"
        assert current_scope() is first
    with scope("a") as second:
        assert Capped not in second.memory


def test_shells_keep_the_result_of_an_interrupted_attack() -> None:
    x = samples(6)
    y = small_net(x).argmax(dim=1)
    model = Capped(60)
    classifier = BlackBoxClassifier(
        lambda rows: model(torch.from_numpy(rows)).numpy(), (12,), 3, clip_values=(0, 1)
    )
    attack = RayS(classifier, eps=0.2, max_queries=40)
    with pytest.raises(AttackInterrupted) as caught:
        attack.generate(x.numpy(), y.numpy())
    result = attack.last_result
    assert result is not None
    assert int((result.queries + result.wasted_rows).sum()) == model.rows
    assert torch.equal(result.success, caught.value.result.success)


def test_a_shell_whose_model_stops_in_the_probe_says_so() -> None:
    x = samples(6)
    classifier = BlackBoxClassifier(
        lambda rows: Capped(0)(torch.from_numpy(rows)), (12,), 3, clip_values=(0, 1)
    )
    attack = RayS(classifier, eps=0.2, max_queries=40)
    with pytest.raises(AttackInterrupted):
        attack.generate(x.numpy())
    assert attack.last_result is not None
    assert int(attack.last_result.queries.sum()) == 0


def test_a_shell_of_torchattacks_keeps_the_result() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Capped(60)

        def forward(self, rows: Tensor) -> Tensor:
            return self.model(rows)

    network = Network()
    x = samples(6)
    attack = art_ext.torchattacks.RayS(network, eps=0.2, max_queries=40)
    with pytest.raises(AttackInterrupted):
        attack(x, small_net(x).argmax(dim=1))
    result = attack.last_result
    assert result is not None
    assert int((result.queries + result.wasted_rows).sum()) == network.model.rows
