"""The benchmark of own costs: what it counts, and what it calls worse."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from art_ext.benchmarks import speed
from art_ext.benchmarks.speed import Clock, Counter, Row, Timed, cases, worse
from art_ext.core.attacks import registry


def row(*ratios: float, waits: float = 0.0, operations: float = 50.0, memory: float = 6.0) -> Row:
    return Row(list(ratios), 1.0, waits, operations, memory)


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (row(1.02, 1.03, 1.04), []),
        (row(1.04, 1.05, 1.06), []),  # 0.02 above, and half the ranges are 0.02
        (row(1.05, 1.06, 1.07), ["pgd: ratio 1.060, before 1.030, noise 0.020"]),
        (row(1.0, 1.0, 1.0), []),
        (row(1.03, waits=1), ["pgd: waits 1.00, before 0.00"]),
        (row(1.03, operations=51), ["pgd: operations 51.00, before 50.00"]),
        (row(1.03, memory=7), ["pgd: memory 7.00, before 6.00"]),
    ],
)
def test_worse_is_what_lies_beyond_the_noise_of_both_runs(now, found):
    before = {"pgd": row(1.02, 1.03, 1.04)}
    assert worse({"pgd": now, "new": row(9.0)}, before) == found


def test_the_counter_knows_operations_waits_and_the_peak():
    known = torch.ones(1000)
    with Counter(known) as counter:
        first = known + 1
        second = first * 2
        del first
        second.view(10, 100).add_(1)
        third = second - 1
        del second
        assert float(third.sum()) == 4000
    assert counter.waits == 1
    assert counter.peak == 2 * 4000
    assert counter.now == 4000


def test_passes_are_the_forwards_and_backwards_of_the_model():
    clock = Clock(torch.device("cpu"))
    model = Timed(torch.nn.Linear(2000, 2000), clock)
    x = torch.rand(400, 2000, requires_grad=True)
    whole, passes = clock.call(lambda: model(x.clone()).sum().backward())
    assert model.calls == 1
    assert len(clock.spans) == 2
    assert 0.5 * whole < passes <= whole


def test_every_attack_has_a_row():
    names = {spec.name for spec, _ in cases(3).values()}
    assert names == {spec.name for spec in registry.specs() if not spec.resources}


def test_the_command_ends_with_1_if_something_got_worse(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ART_EXT_DATA", raising=False)
    monkeypatch.setattr(speed, "print_versions", lambda: None)
    path = tmp_path / "speed.json"
    small = ["speed", "--rows", "2", "--steps", "1", "--repeats", "1", "--attacks", "fgsm"]
    monkeypatch.setattr(sys, "argv", [*small, "--store", str(path)])
    speed.main()
    stored = json.loads(path.read_text())
    stored["rows"]["fgsm"]["ratios"] = [0.0, 100.0]
    path.write_text(json.dumps(stored))
    monkeypatch.setattr(sys, "argv", [*small, "--baseline", str(path)])
    with pytest.raises(SystemExit) as end:
        speed.main()
    assert end.value.code == 0
    stored["rows"]["fgsm"]["memory"] -= 1
    path.write_text(json.dumps(stored))
    with pytest.raises(SystemExit) as end:
        speed.main()
    assert end.value.code == 1
    assert "fgsm: memory" in capsys.readouterr().out
