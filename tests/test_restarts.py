"""Restarts of the attacks that begin at a random point: ledger, superset, the best outcome, the
ends that are kept.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import Tensor, nn

from art_ext import torchattacks
from art_ext.attacks import AIFGSM
from art_ext.core.attacks import (
    ai_fgsm,
    auto_pgd,
    hmcam,
    i_fgsm,
    m_pgd,
    mi_fgsm,
    pgd,
    sign_gradient,
)
from art_ext.core.metrics import all_or_nothing_success, diversity, transfer_success
from art_ext.core.result import AttackResult, Progress
from art_ext.data import load_data
from art_ext.evaluation.panel.attack import AttackRequest, Settings
from art_ext.evaluation.panel.members import find_attack
from art_ext.models import mnist_small_cnn
from tests.toys import Recorder, inputs, never, small_net, waves

STEPS = 5
EPS = 0.1
WIGGLY = waves(12, seed=5, frequency=40.0)  # where an ascent ends depends on where it begins
Attack = Callable[..., AttackResult]


def uniform_sign(*arguments: Any, **options: Any) -> AttackResult:
    return sign_gradient(*arguments, start="uniform", momentum_rule="accumulated", **options)


def uniform_ai(*arguments: Any, **options: Any) -> AttackResult:
    return ai_fgsm(*arguments, start="uniform", **options)


ATTACKS: dict[str, Attack] = {
    "sign_gradient": uniform_sign,
    "pgd": pgd,
    "m_pgd": m_pgd,
    "ai_fgsm": uniform_ai,
    "auto_pgd": auto_pgd,
}
EVERY = pytest.mark.parametrize("name", ATTACKS)
BOTH = pytest.mark.parametrize("stop_on_success", [False, True])


def run(name: str, model: Any, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
    given = {"eps": EPS, "num_steps": STEPS, "seed": 0, "stop_on_success": False, **options}
    return ATTACKS[name](model, x, y, **given)


def same(one: AttackResult, other: AttackResult) -> bool:
    names = ("x_adv", "success", "distance", "queries", "queries_to_success", "gradients")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def losses(model: Any, rows: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(rows), y, reduction="none").detach()


# --- ledger ---


@EVERY
@pytest.mark.parametrize("restarts", [1, 2, 5])
def test_every_restart_costs_a_start_and_its_steps(name: str, restarts: int) -> None:
    x, y = inputs(small_net)
    asked = Recorder(small_net)
    found = run(name, asked, x, y, num_restarts=restarts, criterion=never)
    assert found.queries.tolist() == [1 + restarts * (STEPS + 1)] * len(x)
    assert found.gradients.tolist() == [restarts * STEPS] * len(x)
    assert sum(asked.sizes) == int(found.queries.sum())
    assert not bool(found.success.any())
    starts = [asked.rows[1 + restart * (STEPS + 1)] for restart in range(restarts)]
    for restart, start in enumerate(starts):
        assert float((start - x).abs().max()) <= EPS + 1e-6
        assert not any(torch.equal(start, other) for other in starts[:restart])


def test_every_restart_of_every_target_costs_a_start_and_its_steps() -> None:
    x, y = inputs(small_net)
    found = run("auto_pgd", small_net, x, y, eps=1e-4, num_targets=2, num_restarts=3)
    assert not bool(found.success.any())
    assert found.queries.tolist() == [1 + 2 * 3 * (STEPS + 1)] * len(x)
    assert found.gradients.tolist() == [2 * 3 * STEPS] * len(x)


@EVERY
def test_a_sample_that_stops_pays_for_no_further_restart(name: str) -> None:
    x, y = inputs(WIGGLY, count=64)
    found = run(name, WIGGLY, x, y, eps=0.02, stop_on_success=True, num_restarts=4)
    full = 1 + 4 * (STEPS + 1)
    assert torch.equal(found.queries, torch.where(found.success, found.queries_to_success, full))
    late = found.success & (found.queries > 1 + STEPS + 1)
    assert bool(late.any())  # some succeed in a later restart only
    assert bool((found.success & ~late).any())
    assert bool((~found.success).any())


@EVERY
@BOTH
def test_the_budget_cuts_restarts_anywhere(name: str, stop_on_success: bool) -> None:
    x, y = inputs(small_net)
    options: dict[str, Any] = {"num_restarts": 3, "stop_on_success": stop_on_success}
    whole = run(name, small_net, x, y, **options)
    for budget in range(1, 1 + 3 * (STEPS + 1) + 2):
        asked = Recorder(small_net)
        found = run(name, asked, x, y, **options, max_queries=budget)
        assert torch.equal(found.queries, whole.queries.clamp(max=budget))
        assert sum(asked.sizes) == int(found.queries.sum())
        in_time = whole.success & (whole.queries_to_success <= budget)
        assert torch.equal(found.success, in_time)
    exact = 1 + STEPS + 1
    assert same(
        run(name, small_net, x, y, **options, max_queries=exact),
        run(name, small_net, x, y, stop_on_success=stop_on_success),
    )


# --- best outcome ---


@EVERY
@BOTH
@pytest.mark.parametrize("on_failure", ["input", "last"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_first_restart_is_the_attack_with_one(
    norm: str, on_failure: str, stop_on_success: bool, name: str
) -> None:
    x, y = inputs(small_net)
    options: dict[str, Any] = {
        "norm": norm,
        "eps": {"linf": 0.1, "l2": 0.3, "l1": 0.8}[norm],
        "on_failure": on_failure,
        "stop_on_success": stop_on_success,
    }
    plain = run(name, small_net, x, y, **options)
    assert plain.samples is None
    assert same(plain, run(name, small_net, x, y, **options, num_restarts=1, keep_samples=True))
    several = run(name, small_net, x, y, **options, num_restarts=3, keep_samples=True)
    assert several.samples is not None
    last = run(name, small_net, x, y, **{**options, "on_failure": "last"})
    assert torch.equal(several.samples[0], last.x_adv)
    assert bool((several.success | ~plain.success).all())
    again = run(name, small_net, x, y, **options, num_restarts=2, keep_samples=True)
    assert again.samples is not None
    assert torch.equal(several.samples[:2], again.samples)


@EVERY
def test_a_success_comes_before_a_failure_and_then_the_higher_loss_counts(name: str) -> None:
    x, y = inputs(small_net, count=64)
    found = run(name, small_net, x, y, num_restarts=6, keep_samples=True, on_failure="last")
    assert found.samples is not None
    table = torch.stack([losses(small_net, rows, y) for rows in found.samples])
    fools = torch.stack([small_net(rows).argmax(1) != y for rows in found.samples])
    assert torch.equal(fools.any(0) | found.already_adversarial, found.success)
    mixed = fools.any(0) & ~fools.all(0)
    assert bool(mixed.any())
    assert bool((~fools.any(0)).any())
    ranked = torch.where(fools | ~fools.any(0), table, -torch.inf)
    best = ranked.max(0).values
    reported = losses(small_net, found.x_adv, y)
    attacked = ~found.already_adversarial
    torch.testing.assert_close(reported[attacked], best[attacked], rtol=0, atol=1e-6)
    assert torch.equal(small_net(found.x_adv).argmax(1) != y, found.success)
    winners = {int(one) for one in ranked.argmax(0)}
    assert len(winners) > 2  # not always the first or the last
    # a failure that has a higher loss than another restart's success would lose
    kept = run(name, small_net, x, y, num_restarts=6)
    assert torch.equal(kept.x_adv[~kept.success], x[~kept.success])


def test_a_later_target_wins_over_an_earlier_one_as_without_restarts() -> None:
    x, y = inputs(small_net, count=64)
    options: dict[str, Any] = {"num_targets": 2, "on_failure": "last", "eps": 0.15}
    found = run("auto_pgd", small_net, x, y, **options, num_restarts=3, keep_samples=True)
    assert found.samples is not None
    assert len(found.samples) == 2 * 3
    fools = torch.stack([small_net(rows).argmax(1) != y for rows in found.samples])
    second = fools[3:].any(0)
    for i in range(len(x)):
        phase = (
            found.samples[3:, i] if second[i] or not fools[:3, i].any() else found.samples[:3, i]
        )
        assert any(torch.equal(found.x_adv[i], one) for one in phase)
    assert bool(second.any())
    assert bool((fools[:3].any(0) & ~second).any())


@pytest.mark.parametrize("name", ["pgd", "auto_pgd"])
@BOTH
def test_more_restarts_lose_no_success_on_three_networks(
    stop_on_success: bool,
    name: str,
    digits_net: nn.Module,
    linear_net: nn.Module,
    digits: tuple[Tensor, Tensor],
) -> None:
    x, y = digits
    waved = waves(64, seed=3, classes=10)
    gained = 0
    for model, labels, eps in (
        (digits_net, y, 0.1),
        (linear_net, y, 0.05),
        (waved, waved(x).argmax(1), 0.02),
    ):
        before = torch.zeros(len(x), dtype=torch.bool)
        for restarts in (1, 2, 4, 8):
            found = run(
                name,
                model,
                x,
                labels,
                eps=eps,
                num_steps=3,
                num_restarts=restarts,
                stop_on_success=stop_on_success,
            )
            assert bool((found.success | ~before).all())
            gained += int((found.success & ~before).sum()) if restarts > 1 else 0
            before = found.success
            wrong = model(found.x_adv).argmax(1) != labels
            assert bool(wrong[found.success].all())
            assert float((found.x_adv - x).abs().max()) <= eps + 1e-6
    assert gained > 0


def test_targets_are_reached_by_more_restarts() -> None:
    x, y = inputs(small_net, count=64)
    goal = (y + 1) % 3
    one, many = (
        run("pgd", small_net, x, y, targets=goal, num_restarts=restarts, num_steps=2, eps=0.3)
        for restarts in (1, 8)
    )
    assert bool((many.success | ~one.success).all())
    assert int(many.success.sum()) > int(one.success.sum())
    assert torch.equal(small_net(many.x_adv).argmax(1)[many.success], goal[many.success])


def test_a_loss_that_is_not_a_number_is_below_every_other() -> None:
    x, y = inputs(small_net)
    calls: list[int] = []

    def loss(outputs: Tensor, index: Tensor) -> Tensor:
        calls.append(1)
        value = nn.functional.cross_entropy(outputs, y[index], reduction="none")
        # the clean check and one restart
        return value * (torch.nan if len(calls) <= 1 + STEPS + 1 else 1.0)

    found = run(
        "pgd",
        small_net,
        x,
        y,
        loss=loss,
        num_restarts=2,
        keep_samples=True,
        on_failure="last",
        eps=1e-4,
    )
    assert found.samples is not None
    assert not bool(found.success.any())
    assert torch.equal(found.x_adv, found.samples[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("name", "options"), [("pgd", {}), ("auto_pgd", {}), ("auto_pgd", {"num_targets": 2})]
)
def test_networks_of_another_dtype(
    name: str,
    options: dict[str, Any],
    dtype: torch.dtype,
    digits_net: nn.Module,
    digits: tuple[Tensor, Tensor],
) -> None:
    x, y = digits
    model = copy.deepcopy(digits_net).to(dtype)
    for stop in (False, True):
        found = run(
            name, model, x, y, **options, num_restarts=2, keep_samples=True, stop_on_success=stop
        )
        assert int(found.success.sum()) > 0
        with torch.no_grad():
            wrong = model(found.x_adv.to(dtype)).argmax(1) != y
        assert bool(wrong[found.success].all())


# --- what else depends on ---


def test_callbacks_hear_of_each_sample_until_its_last_restart() -> None:
    x, y = inputs(small_net, count=32)
    heard: list[Progress] = []
    found = run("pgd", small_net, x, y, num_restarts=3, stop_on_success=True, callback=heard.append)
    finished = torch.zeros(len(x), dtype=torch.int64)
    for progress in heard:
        finished[progress.index[progress.finished]] += 1
        assert torch.equal(progress.success, progress.distance.isfinite())
    assert finished.tolist() == [1] * len(x)
    assert [progress.step for progress in heard] == list(range(1 + 3 * (STEPS + 1)))
    heard.clear()
    found = run("pgd", small_net, x, y, num_restarts=3, callback=heard.append)
    for one, other in itertools.pairwise(heard):
        if len(one.index) == len(other.index):
            # a success of an earlier restart stays one
            assert bool((other.success | ~one.success).all())
    assert torch.equal(heard[-1].success, found.success[heard[-1].index])


@EVERY
def test_a_sample_depends_on_no_other_one(name: str) -> None:
    model = waves(12, seed=5)
    x, y = inputs(model, count=24)
    options: dict[str, Any] = {"num_restarts": 3, "keep_samples": True}
    for stop in (False, True):
        whole = run(name, model, x, y, **options, stop_on_success=stop, batch_size=7)
        parts = [
            run(name, model, x[at : at + 5], y[at : at + 5], **options, stop_on_success=stop)
            for at in range(0, 24, 5)
        ]
        joined = AttackResult.cat(parts)
        assert same(whole, joined)
        assert whole.samples is not None
        assert joined.samples is not None
        assert torch.equal(whole.samples, joined.samples)


def test_a_sample_that_left_repeats_its_end() -> None:
    x, y = inputs(small_net, count=64)
    y[:4] = (y[:4] + 1) % 3  # adversarial already
    found = run("pgd", small_net, x, y, num_restarts=4, stop_on_success=True, keep_samples=True)
    assert found.samples is not None
    assert found.samples.shape == (4, *x.shape)
    restart = (found.queries_to_success - 2) // (STEPS + 1)
    for i in torch.nonzero(found.success & ~found.already_adversarial).flatten().tolist():
        ends = found.samples[int(restart[i]) :, i]
        assert bool((ends == found.x_adv[i]).all())
    assert torch.equal(found.samples[:, :4], x[:4].expand(4, 4, 12))


def test_chains_and_restarts_are_compared_by_the_same_measures(
    digits_net: nn.Module, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    found = pgd(digits_net, x, y, eps=0.1, num_steps=5, num_restarts=3, keep_samples=True, seed=0)
    chain = hmcam(digits_net, x, y, eps=0.1, num_steps=5, num_transitions=3, seed=0)
    assert found.samples is not None
    assert chain.samples is not None
    assert found.samples.shape == chain.samples.shape
    for norm, p in (("linf", torch.inf), ("l2", 2.0), ("l1", 1.0)):
        a, b, c = (state.flatten(1).double() for state in found.samples)
        pairs = [torch.linalg.vector_norm(one, ord=p, dim=1) for one in (a - b, a - c, b - c)]
        measured = diversity(found, digits_net, norm=norm)
        torch.testing.assert_close(measured.distance, sum(pairs) / 3, rtol=1e-6, atol=0)
        assert diversity(chain, norm=norm).mean_distance > 0
    assert torch.equal(diversity(found).distance, diversity(found, norm="linf").distance)
    counted = ~found.already_adversarial & (digits_net(x).argmax(1) == y)
    fools = torch.stack([digits_net(rows).argmax(1) != y for rows in found.samples])
    share = all_or_nothing_success(found, x, y, digits_net).share
    assert share == pytest.approx(float(fools.all(0)[counted].double().mean()))
    moved = transfer_success(
        found.samples, x, y, linear_net, already_adversarial=found.already_adversarial
    )
    assert 0 < moved.share < 1
    with pytest.raises(ValueError, match="norm must be one of 'linf', 'l2', 'l1', got 'Linf2'"):
        diversity(found, norm="Linf2")
    with pytest.raises(
        ValueError, match=r"result must have samples, got none: .*keep_samples=True"
    ):
        diversity(pgd(digits_net, x, y, eps=0.1, num_steps=1, num_restarts=2, seed=0))


# --- bad input ---


@EVERY
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_a_number_of_restarts_that_is_none(value: Any, name: str) -> None:
    x, y = inputs(small_net)
    with pytest.raises(ValueError, match=f"num_restarts must be an integer >= 1, got {value!r}"):
        run(name, small_net, x, y, num_restarts=value)


@pytest.mark.parametrize("attack", [sign_gradient, ai_fgsm])
def test_restarts_from_the_input_would_all_be_the_same(attack: Attack) -> None:
    x, y = inputs(small_net)
    message = "num_restarts must be 1 with start='input', .* got 2; start='uniform' draws a point for each restart"
    with pytest.raises(ValueError, match=message):
        attack(small_net, x, y, eps=EPS, num_steps=2, num_restarts=2)
    one = attack(small_net, x, y, eps=EPS, num_steps=2, num_restarts=1, keep_samples=True)
    assert one.samples is not None
    assert len(one.samples) == 1


@pytest.mark.parametrize("attack", [i_fgsm, mi_fgsm])
def test_attacks_that_only_start_at_the_input_have_no_restarts(attack: Attack) -> None:
    x, y = inputs(small_net)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_restarts'"):
        attack(small_net, x, y, eps=EPS, num_restarts=2)


def test_restarts_of_no_samples() -> None:
    x, y = inputs(small_net)
    found = pgd(small_net, x[:0], y[:0], eps=EPS, num_restarts=3, keep_samples=True, seed=0)
    assert len(found) == 0
    assert found.samples is not None
    assert found.samples.shape == (3, 0, 12)


# --- shells ---


def test_the_shells_make_the_restarts_of_the_core(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    core = ai_fgsm(
        digits_net,
        x,
        y,
        eps=EPS,
        num_steps=4,
        start="uniform",
        num_restarts=3,
        keep_samples=True,
        seed=0,
        on_failure="last",
    )
    assert core.samples is not None
    theirs = torchattacks.AIFGSM(
        digits_net, eps=EPS, steps=4, start="uniform", n_restarts=3, keep_samples=True, seed=0
    )
    assert torch.equal(theirs(x, y), core.x_adv)
    assert theirs.last_result is not None
    assert theirs.last_result.samples is not None
    assert torch.equal(theirs.last_result.samples, core.samples)
    classifier = PyTorchClassifier(
        digits_net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = AIFGSM(
        classifier,
        eps=EPS,
        max_iter=4,
        start="uniform",
        nb_random_init=3,
        keep_samples=True,
        seed=0,
        batch_size=256,
        verbose=False,
    )
    assert np.array_equal(attack.generate(x.numpy(), y.numpy()), core.x_adv.numpy())
    assert attack.last_result is not None
    assert attack.last_result.samples is not None
    assert torch.equal(attack.last_result.samples, core.samples)
    with pytest.raises(ValueError, match="num_restarts must be 1 with start='input'"):
        torchattacks.AIFGSM(digits_net, n_restarts=2)(x, y)


def test_a_panel_takes_restarts() -> None:
    options: dict[str, Any] = {
        "eps": (EPS,),
        "max_queries": 100,
        "norm": "linf",
        "stop_on_success": False,
        "outputs": "logits",
        "clip_values": (0.0, 1.0),
        "batch_size": 64,
        "device": None,
        "seed": 0,
    }
    settings = Settings(**options)
    x, y = inputs(small_net)
    attack = find_attack("pgd", {"num_steps": 10, "num_restarts": 3})
    found = attack.run(AttackRequest(small_net, x, y, EPS, settings))
    assert same(found, pgd(small_net, x, y, eps=EPS, num_steps=10, num_restarts=3, seed=0))
    with pytest.raises(ValueError, match="pgd: num_restarts must be an integer >= 1, got 0"):
        find_attack("pgd", {"num_restarts": 0}).check(small_net, x, y, settings)


# --- real data ---


@pytest.mark.slow
def test_eight_restarts_of_pgd_on_a_robust_network() -> None:
    """About 96.5 % robust with one start; the union of eight seeds from outside is 93.5 %."""
    folder = os.environ.get("ART_EXT_DATA")
    if not folder:
        pytest.skip("ART_EXT_DATA names no folder with checkpoints")
    model = mnist_small_cnn()
    model.load_state_dict(
        load_file(Path(folder) / "checkpoints" / "mnist_smallcnn_trades.safetensors")
    )
    test = load_data("mnist").first(200)
    options: dict[str, Any] = {
        "eps": 0.3,
        "num_steps": 40,
        "step_size": 0.01,
        "seed": 0,
        "stop_on_success": True,
    }
    one = pgd(model, test.x, test.y, **options)
    many = pgd(model, test.x, test.y, **options, num_restarts=8)
    assert 1 - float(one.success.double().mean()) == pytest.approx(0.965, abs=0.01)
    assert 1 - float(many.success.double().mean()) <= 0.945
    assert bool((many.success | ~one.success).all())
