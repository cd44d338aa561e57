"""What every attack within a given ball keeps to on hard inputs: nothing live, odd dtypes, tiny
and missing numbers.
"""

from __future__ import annotations

import inspect
import logging
import math
from dataclasses import fields

import pytest
import torch
from torch import nn

from art_ext.core import attacks
from art_ext.core.attacks import (
    fgsm,
    frank_wolfe,
    frank_wolfe_black_box,
    hmcam,
    nes,
    pgd,
    registry,
    sign_gradient,
)
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Method
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions
from art_ext.core.attacks.engine.state import State
from art_ext.core.geometry import linear_minimiser, row_norms, unit
from art_ext.core.result import AttackResult

NEAREST = ("rays", "opt", "sign_opt", "ead", "cw", "i_fgm", "zoo", "in_distribution")
BALL = [name for name in attacks.__all__ if name not in NEAREST]
BLACK_BOX = {"nes": nes, "frank_wolfe_black_box": frank_wolfe_black_box}


class Leaps(Method[State]):
    """A faulty method: one step of three times eps."""

    num_steps = 1

    def init(self, problem, trajectory):
        return State(problem.x)

    def step(self, problem, state, answers, t):
        return State(state.x + 3 * problem.limit)


def test_a_candidate_outside_the_ball_is_no_success():
    x = torch.full((3, 4), 0.5)
    y = torch.zeros(3, dtype=torch.int64)

    def model(rows):
        mean = rows.mean(1)
        return torch.stack([0.7 - mean, mean - 0.7], dim=1)

    found = FixedRadius(model, x, y, eps=0.1, norm="linf").run(Leaps())
    assert not bool(found.success.any())
    assert torch.equal(found.x_adv, x)
    assert found.queries_to_success.tolist() == [-1] * 3


@pytest.mark.parametrize("name", BALL)
class TestEvery:
    def test_nothing_to_do(self, name, digits, digits_net):
        """Samples that are all wrong cost one query each, and none at all cost nothing."""
        x, y = digits[0][:4], digits[1][:4]
        attack = getattr(attacks, name)
        for options in (
            ({}, {"start": "uniform"}) if name in ("sign_gradient", "hmcam", "ai_fgsm") else ({},)
        ):
            wrong = attack(digits_net, x, (y + 1) % 10, eps=0.1, seed=0, **options)
            assert wrong.queries.tolist() == [1] * 4
            assert wrong.gradients.tolist() == [0] * 4
            assert torch.equal(wrong.x_adv, x)
            assert len(attack(digits_net, x[:0], y[:0], eps=0.1, **options)) == 0

    def test_chunks_join_whatever_they_hold(self, name, digits, digits_net):
        x, y = digits[0][:6], digits[1][:6]
        shifted = torch.cat([y[:3], (y[3:] + 1) % 10])
        attack = getattr(attacks, name)
        parts = [
            attack(digits_net, x[part], shifted[part], eps=0.1, seed=0)
            for part in (slice(0, 3), slice(3, 6))
        ]
        joined = AttackResult.cat(parts)
        assert len(joined) == 6
        if joined.trace is not None:
            assert all(
                values.shape[1] == 6 and bool(values[:, 3:].isnan().all())
                for values in joined.trace.values()
            )

    def test_signature_names_every_option(self, name):
        shown = inspect.signature(getattr(attacks, name)).parameters
        assert not [
            parameter for parameter in shown.values() if parameter.kind is parameter.VAR_KEYWORD
        ]
        wanted = {field.name for field in fields(FixedRadiusOptions)}
        if registry.get(name).access != "gradients":
            wanted -= set(NEEDS_GRADIENTS)
            assert not set(NEEDS_GRADIENTS) & set(shown)
        assert wanted <= set(shown)

    @pytest.mark.parametrize(
        ("eps", "message"),
        [
            (math.inf, "eps must be finite, got inf"),
            (None, "eps must be a number"),
            ("1", "eps must"),
        ],
    )
    def test_radii_that_are_none(self, name, eps, message, digits, digits_net):
        with pytest.raises(ValueError, match=message):
            getattr(attacks, name)(digits_net, *digits, eps=eps, norm="l2")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", BALL)
def test_scores_of_other_precisions(name, dtype, digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_net

        def forward(self, rows):
            return self.network(rows).to(dtype)

    result = getattr(attacks, name)(Other(), x, y, eps=0.3, seed=0)
    with torch.no_grad():
        fooled = digits_net(result.x_adv).to(dtype).argmax(1) != y
    assert torch.equal(fooled, result.success)
    assert bool((result.success & ~result.already_adversarial).any())


@pytest.mark.parametrize("scale", [1e-44, 4.5e-23, 1e-10, 1.0, 1e25])
def test_unit_vectors_of_any_length(scale):
    direction = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]]) * scale
    for norm, length in (("l2", 5.0), ("l1", 7.0)):
        found = unit(direction, norm)
        assert float(row_norms(found, norm)[0]) == pytest.approx(
            1, abs=1e-6 if scale > 1e-40 else 0.2
        )
        if scale > 1e-40:
            torch.testing.assert_close(found[0], torch.tensor([3.0, -4.0, 0.0]) / length)
        assert found[1].tolist() == [0.0] * 3


@pytest.mark.parametrize("confidence", [40.0, 48.0, 60.0])
def test_a_confident_model_is_left_by_a_full_step(confidence):
    """The gradient of cross-entropy there is of the order exp(-confidence), whose square float32
    cannot hold.
    """
    w = torch.randn(784, generator=torch.Generator().manual_seed(0))

    def model(rows):
        return torch.stack([confidence + 0 * rows[:, 0], (rows - 0.5) @ w * 0.1], dim=1)

    x = torch.full((1, 784), 0.5)
    result = frank_wolfe(
        model,
        x,
        torch.tensor([0]),
        eps=2.0,
        norm="l2",
        step_fraction=1.0,
        num_steps=1,
        on_failure="last",
    )
    length = float((result.x_adv.double() - x).norm())
    assert length == pytest.approx(2.0, abs=1e-4)
    assert length <= 2.0 + 1e-6


@pytest.mark.parametrize("small", [1e-4, 1e-7, 1e-12])
def test_l2_vertex_of_ball_and_box_where_slopes_differ_widely(small):
    m = torch.tensor([[1e6, small, small]])
    vertex = linear_minimiser(m, "l2", 0.1, torch.tensor([[0.01, 1.0, 1.0]]))
    assert float(vertex[0, 0]) == pytest.approx(-0.01)
    assert float(vertex.double().norm()) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("name", BLACK_BOX)
def test_probes_outside_the_domain_of_a_model(name, caplog):
    """Roots of negative pixels are NaN, for one of the two probes at a pixel 0: clipped probes
    stay in the domain.
    """
    w = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    x = torch.rand(6, 12, generator=torch.Generator().manual_seed(1)).clamp(min=0.05)
    x[:, 0] = 0.0
    seen = []

    def model(rows):
        seen.append(float(rows.min()))
        return (rows**0.45 - 0.7) @ w

    options = {"eps": 0.4, "max_queries": 4000, "seed": 0}
    stuck = BLACK_BOX[name](model, x, on_failure="last", **options)
    assert min(seen) < 0
    assert "clip_probes=True" in caplog.text
    assert bool(stuck.x_adv.isfinite().all())
    seen.clear()
    assert int(BLACK_BOX[name](model, x, clip_probes=True, **options).success.sum()) >= 4
    assert min(seen) >= 0


def test_a_criterion_must_answer_for_each_row(digits, digits_net):
    for answer in (
        lambda outputs, index: outputs > 0,
        lambda outputs, index: torch.zeros(len(index)),
    ):
        with pytest.raises(ValueError, match="criterion must return"):
            fgsm(digits_net, *digits, eps=0.1, criterion=answer)


def test_a_zero_head_is_not_taken_for_labels(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    result = pgd(model, digits[0][:4], eps=0.1, seed=0, num_steps=2)
    assert result.success.tolist() == [False] * 4


def test_one_hot_rows_are_refused(digits):
    with pytest.raises(ValueError, match="one-hot rows, which carry no score"):
        nes(
            lambda rows: torch.eye(10)[torch.zeros(len(rows), dtype=torch.int64)],
            digits[0],
            eps=0.1,
        )


def test_probabilities_that_pass_for_logits_are_noticed(digits, digits_net, caplog):
    def model(rows):
        return digits_net(rows).softmax(1)

    with caplog.at_level(logging.WARNING, logger="art_ext"):
        fgsm(model, *digits, eps=0.1)
        assert "look like probabilities" in caplog.text
        caplog.clear()
        fgsm(model, *digits, eps=0.1, outputs="probabilities")
        fgsm(digits_net, *digits, eps=0.1)
    assert caplog.text == ""


def test_models_that_work_in_place_do_not_change_what_is_reported(digits, digits_net):
    x, y = digits

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_net

        def forward(self, rows):
            if not rows.requires_grad:
                return (
                    self.network(rows.mul_(1.0).sub_(0.25)) - 0 * rows.add_(0.25).flatten(1)[:, :1]
                )
            return self.network(rows - 0.25)

    before = x.clone()
    result = sign_gradient(InPlace(), x, y, eps=0.2, num_steps=3)
    assert torch.equal(x, before)
    assert float((result.x_adv - x).abs().max()) <= 0.2 + 1e-6


def test_hmcam_shows_a_start_that_succeeds(digits, digits_net):
    """A random start that fools at once ends the chain: all its states are that start."""
    x, y = digits
    result = hmcam(
        digits_net,
        x,
        y,
        eps=0.9,
        start="uniform",
        stop_on_success=True,
        num_steps=2,
        num_transitions=3,
        seed=0,
    )
    at_once = result.success & (result.queries == 2) & ~result.already_adversarial
    assert bool(at_once.any())
    for state in result.samples:
        assert torch.equal(state[at_once], result.x_adv[at_once])
