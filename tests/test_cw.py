"""The L2 attack of Carlini and Wagner against torch's Adam, its change of variable, and what it
is compared with.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import cw, ead
from art_ext.core.geometry import distances
from tests.toys import Recorder


def other_best(scores, y):
    return scores.scatter(1, y[:, None], -torch.inf).amax(1)


@pytest.mark.parametrize("clip_values", [(0.0, 1.0), (-3.0, 2.0)])
@pytest.mark.parametrize(("kappa", "beta"), [(0.0, 0.0), (1.5, 0.0), (0.0, 0.3)])
def test_iterates_are_those_of_torch(clip_values, kappa, beta, digits, digits_net):
    """``torch.optim.Adam`` on w, for inputs off the edges of the box, where its small constant
    plays no part.
    """
    low, high = clip_values
    y = digits[1][:5]

    def model(rows):
        return digits_net((rows - low) / (high - low))

    x = (digits[0][:5] * 0.6 + 0.2) * (high - low) + low
    y = model(x).argmax(1)
    const, steps = 3.0, 15
    recorder = Recorder(model)
    cw(
        recorder,
        x,
        y,
        confidence=kappa,
        initial_const=const,
        step_size=0.02,
        num_steps=steps,
        search_steps=1,
        abort_early=False,
        clip_values=clip_values,
        beta=beta,
    )
    assert len(recorder.rows) == steps + 1
    w = torch.atanh(2 * (x - low) / (high - low) - 1).requires_grad_(True)
    start = w.detach().clone()
    optimiser = torch.optim.Adam([w], lr=0.02)
    for k in range(steps):
        image = low + (high - low) * (torch.tanh(w) + 1) / 2
        torch.testing.assert_close(recorder.rows[k + 1], image.detach(), rtol=0, atol=5e-5)
        scores = model(image)
        hinge = functional.relu(
            scores.gather(1, y[:, None]).squeeze(1) - other_best(scores, y) + kappa
        )
        loss = (const * hinge + ((image - x) ** 2).flatten(1).sum(1)).sum()
        # the L1 term, 0 at the start
        loss = loss + beta * ((image - x) * (w.detach() - start).sign()).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_every_optimisation_begins_at_the_input_with_fresh_moments(digits, digits_net):
    """The second of two is, iterate by iterate, the first of another run that begins with its c."""
    x = digits[0][:4] * 0.6 + 0.2
    y = digits_net(x).argmax(1)
    options = {"step_size": 1e-3, "num_steps": 4, "abort_early": False}
    both, second = Recorder(digits_net), Recorder(digits_net)
    result = cw(both, x, y, initial_const=0.3, search_steps=2, **options)
    assert not bool(result.success.any())
    cw(second, x, y, initial_const=3.0, search_steps=1, **options)
    for left, right in zip(both.rows[5:], second.rows[1:], strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)
    torch.testing.assert_close(both.rows[5], x, rtol=0, atol=1e-6)
    assert float((both.rows[4] - x).abs().max()) > 1e-3


def test_the_box_is_never_left_and_its_edges_are_not_stuck():
    """Inputs on the edge lie at infinity: they are drawn in by 1e-6, and move from there."""
    x, y = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0])

    def model(rows):
        moved = rows[:, :2].sum(1) - rows[:, 2:].sum(1) + 2
        return torch.stack([3 - moved, moved], dim=1)

    recorder = Recorder(model)
    result = cw(
        recorder,
        x,
        y,
        initial_const=5.0,
        step_size=0.2,
        num_steps=120,
        search_steps=2,
        abort_early=False,
    )
    assert all(float(rows.min()) >= 0 and float(rows.max()) <= 1 for rows in recorder.rows)
    torch.testing.assert_close(recorder.rows[1], x, rtol=0, atol=1e-6)
    assert bool(result.success.all())
    # the four share the way of 3/2 evenly; the distance is that to x itself
    assert float(result.nearest_distance) == pytest.approx(2 * 0.375, rel=0.02)
    measured = distances(result.x_nearest, x, "l2").float()
    torch.testing.assert_close(measured, result.nearest_distance, rtol=1e-6, atol=0)


def test_what_is_reported_is_the_nearest_in_l2(digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]
    result = cw(digits_net, x, y, initial_const=1.0, step_size=0.05, num_steps=40, search_steps=3)
    assert torch.equal(result.x_adv, result.x_nearest)
    torch.testing.assert_close(
        result.trace["value"][-1].sqrt()[~result.already_adversarial],
        result.nearest_distance[~result.already_adversarial],
        rtol=1e-4,
        atol=0,
    )


def test_ead_without_its_l1_term_minimises_the_same_objective(digits, digits_net):
    """Two methods and one optimum: within one step of Adam, the distances agree."""
    x = digits[0][:8] * 0.6 + 0.2
    y = digits_net(x).argmax(1)
    common = {
        "norm": "l2",
        "num_steps": 100,
        "search_steps": 5,
        "initial_const": 0.1,
        "abort_early": False,
    }
    carlini = cw(digits_net, x, y, **common)
    fista = ead(digits_net, x, y, beta=0.0, decision_rule="L2", **common)
    assert bool((carlini.success & fista.success).all())
    ratio = carlini.nearest_distance / fista.nearest_distance
    assert float(ratio.median()) == pytest.approx(1, abs=0.01)
    assert bool((ratio > 0.98).all())
    assert bool((carlini.nearest_distance - fista.nearest_distance < 0.02).all())


@pytest.mark.parametrize("targeted", [False, True])
def test_confidence_buys_margin_with_distance(targeted, digits, digits_net):
    x = digits[0][:6] * 0.6 + 0.2
    y = digits_net(x).argmax(1)
    goal = (y + 1) % 10 if targeted else y
    lengths, margins = [], []
    for kappa in (0.0, 2.0, 5.0):
        result = cw(
            digits_net,
            x,
            goal,
            targeted=targeted,
            confidence=kappa,
            initial_const=1.0,
            step_size=0.1,
            num_steps=50,
            search_steps=4,
        )
        assert bool(result.success.all())
        with torch.no_grad():
            scores = digits_net(result.x_adv)
        margin = other_best(scores, goal) - scores.gather(1, goal[:, None]).squeeze(1)
        margin = -margin if targeted else margin
        assert bool((margin >= kappa - 1e-4).all())
        lengths.append(float(result.nearest_distance.mean()))
        margins.append(float(margin.mean()))
    assert lengths == sorted(lengths)
    assert margins == sorted(margins)


# ---- the L1 term


def test_without_the_l1_term_nothing_changes(digits, digits_net):
    x, y = digits[0][:6], digits[1][:6]
    settings = {"num_steps": 20, "search_steps": 2, "initial_const": 1.0, "step_size": 0.05}
    plain, zero = cw(digits_net, x, y, **settings), cw(digits_net, x, y, beta=0.0, **settings)
    assert torch.equal(plain.x_adv, zero.x_adv)
    torch.testing.assert_close(
        plain.value[plain.success], plain.distortions()["l2"][plain.success].square().float()
    )


def test_the_rule_goes_by_the_elastic_net(digits, digits_net):
    x, y = digits[0][:6], digits[1][:6]
    settings = {"num_steps": 40, "search_steps": 3, "initial_const": 1.0, "step_size": 0.05}
    found = cw(digits_net, x, y, beta=0.05, **settings)
    won, lengths = found.success & ~found.already_adversarial, found.distortions()
    elastic = (0.05 * lengths["l1"] + lengths["l2"].square()).float()
    assert int(won.sum()) >= 4
    torch.testing.assert_close(found.value[won], elastic[won], rtol=1e-4, atol=0)
    for bad in (-1.0, math.nan, "1"):
        with pytest.raises(ValueError, match="beta must be"):
            cw(digits_net, x, y, beta=bad)


def test_several_hundred_iterations_from_the_edge_of_the_box():
    """Pixels at 0 lie at atanh(.9999995) in w: fifty iterations hardly move them, eight hundred
    do.
    """

    def model(rows):
        return torch.stack([0 * rows[:, 0] + 2.0, 4 * rows.sum(1) + 1.0], dim=1)

    x, y = torch.zeros(2, 8), torch.tensor([0, 0])
    settings = {"search_steps": 1, "initial_const": 10.0, "abort_early": False}
    shares = [
        float(cw(model, x, y, num_steps=steps, **settings).success.float().mean())
        for steps in (50, 800)
    ]
    assert shares == [0.0, 1.0]
