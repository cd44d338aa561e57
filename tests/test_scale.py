"""The plan of a large run, and its parts against closed forms."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from art_ext.benchmarks.scale import (
    SHAPE,
    build,
    build_numbered,
    nothing,
    scheduled,
    simulated,
    sleeping,
)
from art_ext.core.geometry import DISTORTIONS
from art_ext.evaluation import AttackRequest
from tests.toys import settings


class TestSimulation:
    def test_equal_tasks_take_their_rounds(self) -> None:
        assert simulated([2.0] * 10, 4, start=1, driver=0) == 1 + 3 * 2

    def test_one_worker_does_all(self) -> None:
        assert simulated([1.0, 2.0, 3.0], 1, start=5, driver=0.5) == pytest.approx(5 + 6 + 1.5)

    def test_the_driver_limits_short_tasks(self) -> None:
        """A task cannot start before the driver has told the ones before it."""
        assert simulated([0.001] * 1000, 500, start=0, driver=0.1) == pytest.approx(100.001)

    def test_workers_that_begin_later(self) -> None:
        assert scheduled([1.0, 1.0, 1.0], [0.0, 2.5], driver=0) == 3.0
        assert scheduled([1.0, 1.0, 4.0, 1.0], [0.0, 1.0], driver=0) == 5.0

    @pytest.mark.parametrize("seed", range(5))
    def test_is_within_the_bound_of_list_scheduling(self, seed: int) -> None:
        chance = random.Random(seed)
        tasks = [chance.expovariate(1) for _ in range(200)]
        found = simulated(tasks, 8, start=0, driver=0)
        assert max(max(tasks), sum(tasks) / 8) <= found <= sum(tasks) / 8 + max(tasks) * 7 / 8


SETTINGS = settings(max_queries=1, batch_size=5)


def test_the_attack_sleeps_as_long_as_its_chunk_wants(tmp_path: Path) -> None:
    models, data = build_numbered(7)
    seconds = [0.0, 0.0, 0.0, 0.0, 0.0, 0.05, 0.0]
    for number in (2, 5):
        x, y = data.rows(number, number + 1)
        request = AttackRequest(models["model"], x, y, 0.1, SETTINGS, lambda _: None)
        assert not sleeping(request, seconds, tmp_path).success.any()
    took = {}
    for file in tmp_path.iterdir():
        _, begun, ended = map(float, file.read_text().split())
        took[file.name] = ended - begun
    assert set(took) == {"2", "5"}
    assert took["5"] >= 0.05


def test_the_attack_does_nothing() -> None:
    models, data = build(5)
    found = nothing(AttackRequest(models["model"], data.x, data.y, 0.1, SETTINGS, lambda _: None))
    assert found.x_adv.equal(data.x)
    assert data.x.shape[1:] == SHAPE
    assert not found.success.any()
    assert not found.queries.any()
    assert found.lengths is not None
    assert found.lengths.shape == (5, len(DISTORTIONS))
