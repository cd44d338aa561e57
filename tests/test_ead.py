"""EAD against its operator, a plain reading of Algorithm 4, closed forms on linear models, and
the paper's claims.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import cw, ead, i_fgm
from art_ext.core.geometry import distances

WHOLE = {"abort_early": False}


class Recorder:
    """Remembers what a model is asked: the iterates x_k, and the points y_k at which it is
    differentiated.
    """

    def __init__(self, model):
        self.model, self.iterates, self.slacks = model, [], []

    def __call__(self, rows):
        (self.slacks if rows.requires_grad else self.iterates).append(rows.detach().clone())
        return self.model(rows)


def steep(rows):
    """Class 0 leads by far, and loses at a slope of its own in every coordinate."""
    weight = torch.linspace(-1.0, 1.0, rows[0].numel())
    total = rows.flatten(1) @ weight
    return torch.stack([50 - total, total], dim=1)


def linear(weight, bias=0.4):
    """Two classes: 0 until <w, x - 1/2> exceeds the bias."""
    return lambda rows: torch.stack(
        [0 * rows[:, 0] + bias, (rows.flatten(1) - 0.5) @ weight], dim=1
    )


@pytest.fixture
def halves():
    """A linear model in 30 coordinates, five inputs well within class 0 and the box, and their
    margins.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator)
    x = (0.5 + 0.1 * torch.randn(40, 30, generator=generator)).clamp(0.3, 0.7)
    scores = linear(weight)(x)
    margin = scores[:, 0] - scores[:, 1]
    chosen = (margin > 0.3).nonzero().squeeze(1)[:5]
    return weight, x[chosen], margin[chosen]


# ---- the operator and its iterates


@pytest.mark.parametrize("beta", [6e-3, 0.05])
def test_a_step_is_the_projected_shrinkage(beta):
    """S_beta (18): nothing where the step is within beta itself, whatever the step size; else
    beta less; in the box.
    """
    x = torch.rand(3, 41, generator=torch.Generator().manual_seed(0))
    x[:, :5], x[:, -5:] = 0.02, 0.98
    recorder = Recorder(steep)
    ead(
        recorder,
        x,
        torch.tensor([0, 0, 0]),
        beta=beta,
        step_size=0.05,
        initial_const=1.0,
        num_steps=1,
        search_steps=1,
    )
    (found,) = recorder.iterates
    # both scores change: the hinge falls by 2 w
    step = (0.05 * 2 * torch.linspace(-1.0, 1.0, 41)).expand(3, 41)
    within = step.abs() <= beta
    assert torch.equal(found[within], x[within])
    assert int(within.sum()) >= 9  # beyond the one coordinate without a slope
    expected = (x + step - beta * step.sign()).clamp(0, 1)
    torch.testing.assert_close(found[~within], expected[~within], rtol=0, atol=1e-6)
    assert bool((found == 1).any())
    assert bool((found == 0).any())


@pytest.mark.parametrize("beta", [1e-3, 1e-2, 5e-2])
def test_pixels_that_did_not_move_are_the_very_same(beta, digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]
    recorder = Recorder(digits_net)
    result = ead(
        recorder, x, y, beta=beta, num_steps=15, search_steps=2, initial_const=1.0, step_size=0.05
    )
    assert all(float(rows.min()) >= 0 and float(rows.max()) <= 1 for rows in recorder.iterates)
    moved = result.success & ~result.already_adversarial
    still = (result.x_adv == x).flatten(1).sum(1)[moved]
    assert bool(moved.any())
    assert int(still.float().mean()) > {1e-3: 15, 1e-2: 25, 5e-2: 40}[beta]


@pytest.mark.parametrize(("momentum", "above", "below"), [("program", 1, 4), ("print", 0, 3)])
def test_momentum_and_rate_are_those_of_the_authors(momentum, above, below):
    """In one dimension, by hand: no shrinkage, a constant slope, no box in reach."""
    recorder = Recorder(lambda rows: torch.stack([10 - rows[:, 0], 0 * rows[:, 0]], dim=1))
    total = 8
    ead(
        recorder,
        torch.tensor([[1.0]]),
        torch.tensor([0]),
        beta=0.0,
        step_size=0.1,
        initial_const=2.0,
        num_steps=total,
        search_steps=1,
        clip_values=(-100.0, 100.0),
        momentum=momentum,
        **WHOLE,
    )
    x = y = 1.0
    for k in range(total):
        new = y - 0.1 * math.sqrt(1 - k / total) * (2.0 * -1.0 + 2 * (y - 1.0))
        y, x = new + (k + above) / (k + below) * (new - x), new
        assert float(recorder.iterates[k]) == pytest.approx(x, abs=1e-5)
        if k + 1 < total:
            # the clean check comes first, and its slope serves the first step
            assert float(recorder.slacks[k + 1]) == pytest.approx(y, abs=1e-5)
    assert len(recorder.slacks) == len(recorder.iterates) == total


@pytest.mark.parametrize("kappa", [0.0, 2.0])
def test_without_the_l1_term_it_is_projected_accelerated_descent(kappa, digits, digits_net):
    """``x_{k+1} = clip(y_k - alpha_k grad g(y_k))``, in float32, sample by sample, against all
    samples at once.
    """
    x, y = digits[0][:6], digits[1][:6]
    x, y = (part[digits_net(x).argmax(1) == y] for part in (x, y))
    steps, const, rate = 12, 2.0, 0.02
    recorder = Recorder(digits_net)
    ead(
        recorder,
        x,
        y,
        beta=0.0,
        confidence=kappa,
        step_size=rate,
        initial_const=const,
        num_steps=steps,
        search_steps=1,
        **WHOLE,
    )
    for sample in range(len(x)):
        clean = x[sample : sample + 1]
        now = ahead = clean
        for k in range(steps):
            point = ahead.clone().requires_grad_(True)
            scores = digits_net(point)[0]
            other = torch.cat([scores[: y[sample]], scores[y[sample] + 1 :]]).max()
            goal = (
                const * functional.relu(scores[y[sample]] - other + kappa)
                + ((point - clean) ** 2).sum()
            )
            (slope,) = torch.autograd.grad(goal, point)
            new = (ahead - rate * (1 - k / steps) ** 0.5 * slope).clamp(0, 1)
            ahead, now = new + (k + 1) / (k + 4) * (new - now), new
            torch.testing.assert_close(recorder.iterates[k][sample], now[0], rtol=0, atol=2e-5)


def test_every_optimisation_begins_at_the_input():
    """The first iterate of each is one step from x with its own c."""
    x = torch.full((1, 20), 0.5)
    recorder = Recorder(steep)
    result = ead(
        recorder,
        x,
        torch.tensor([0]),
        beta=0.0,
        step_size=1e-4,
        num_steps=3,
        search_steps=4,
        **WHOLE,
    )
    firsts = torch.cat(recorder.iterates[::3])
    slope = torch.linspace(-1.0, 1.0, 20)
    torch.testing.assert_close(
        firsts, (0.5 + 1e-4 * result.trace["const"] * 2 * slope).clamp(0, 1), atol=1e-6, rtol=0
    )


# ---- closed forms


@pytest.mark.parametrize("attack", [ead, cw])
def test_the_l2_optimum_of_a_linear_model(attack, halves):
    """margin / ||w||_2 for beta = 0, which C&W minimises too."""
    weight, x, margin = halves
    more = {"beta": 0.0} if attack is ead else {}
    result = attack(
        linear(weight),
        x,
        torch.zeros(5, dtype=torch.int64),
        norm="l2",
        num_steps=100,
        **more,
        **WHOLE,
    )
    optimum = margin / weight.norm()
    assert bool((result.nearest_distance >= optimum * (1 - 1e-5)).all())
    assert bool((result.nearest_distance <= optimum * 1.02).all())


@pytest.mark.parametrize("kappa", [0.5, 2.0])
def test_a_margin_moves_the_optimum_by_its_length(kappa, halves):
    weight, x, margin = halves
    y = torch.zeros(5, dtype=torch.int64)
    result = ead(
        linear(weight), x, y, norm="l2", beta=0.0, confidence=kappa, num_steps=100, **WHOLE
    )
    optimum = (margin + kappa) / weight.norm()
    assert bool((result.nearest_distance >= optimum * (1 - 1e-5)).all())
    assert bool((result.nearest_distance <= optimum * 1.02).all())


def l1_optimum(weight, x, margin):
    """The coordinates of largest weight first, each as far as the box allows."""
    total = 0.0
    for position in weight.abs().argsort(descending=True).tolist():
        room = float(1 - x[position] if weight[position] > 0 else x[position])
        step = min(room, margin / abs(float(weight[position])))
        total, margin = total + step, margin - step * abs(float(weight[position]))
    return total


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_l1_optimum_of_a_linear_model(scale, halves):
    """By the L1 rule, with little L2 in the way; the box stops the largest weights where the
    margin is large.
    """
    weight, x, margin = halves
    bias = 0.4 * scale
    margin = margin + bias - 0.4
    y = torch.zeros(5, dtype=torch.int64)
    result = ead(linear(weight, bias), x, y, beta=1e-2, decision_rule="L1", num_steps=150, **WHOLE)
    optimum = torch.tensor(
        [l1_optimum(weight, x[sample], float(margin[sample])) for sample in range(5)]
    )
    length = distances(result.x_adv, x, "l1").float()
    torch.testing.assert_close(length, result.nearest_distance, rtol=1e-5, atol=0)
    assert bool((length >= optimum * (1 - 1e-5)).all())
    assert bool((length <= optimum * 1.06).all())
    assert bool(((result.x_adv != x).sum(1) <= 8).all())
    # C&W and the L1 gradient method go far beyond
    for other in (
        cw(linear(weight, bias), x, y, num_steps=60),
        i_fgm(linear(weight, bias), x, y, norm="l1"),
    ):
        assert bool((distances(other.x_adv, x, "l1") > 1.3 * optimum).all())


@pytest.mark.parametrize("attack", [ead, cw])
def test_a_wider_box_is_a_change_of_units(attack, digits, digits_net):
    """With beta times the width and c times its square the same iterates are found, so much
    farther apart.
    """
    x, y = digits[0][:6], digits[1][:6]
    common = {"norm": "l1", "num_steps": 25, "search_steps": 3}
    unit = attack(
        digits_net, x, y, initial_const=0.5, **common, **({"beta": 0.01} if attack is ead else {})
    )
    wide = attack(
        lambda rows: digits_net(rows / 4),
        x * 4,
        y,
        initial_const=8.0,
        clip_values=(0.0, 4.0),
        **common,
        **({"beta": 0.04} if attack is ead else {}),
    )
    assert torch.equal(wide.success, unit.success)
    assert int(unit.success.sum()) >= 3
    torch.testing.assert_close(
        wide.nearest_distance, 4 * unit.nearest_distance, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(wide.trace["const"], 16 * unit.trace["const"], equal_nan=True)


# ---- what the paper says


@pytest.fixture
def swept(digits, digits_net):
    """Mean L1, L2 and L-inf of the successes common to all, by beta and decision rule."""
    x, y = digits[0][:12], digits[1][:12]
    results = {
        (beta, rule): ead(
            digits_net,
            x,
            y,
            beta=beta,
            decision_rule=rule,
            num_steps=50,
            search_steps=4,
            initial_const=0.1,
            **WHOLE,
        )
        for beta in (0.0, 1e-3, 1e-2)
        for rule in ("EN", "L1")
    }
    common = torch.stack(
        [result.success & ~result.already_adversarial for result in results.values()]
    ).all(0)
    assert int(common.sum()) >= 10
    return {
        key: tuple(distances(one.x_adv, x, norm)[common] for norm in ("l1", "l2", "linf"))
        for key, one in results.items()
    }


def test_a_larger_beta_buys_less_l1_with_more_linf(swept):
    """Table 5: sparser and stronger changes; and Table 6: the L1 rule ends at less L1 than the
    elastic net.
    """
    rising = [swept[beta, "EN"] for beta in (0.0, 1e-3, 1e-2)]
    for less, more in itertools.pairwise(rising):
        assert float(more[0].mean()) < float(less[0].mean())
        assert float(more[2].mean()) > float(less[2].mean())
    for beta in (0.0, 1e-3, 1e-2):
        # the same iterates, of which each rule takes its own
        l1, l2, _ = swept[beta, "L1"]
        own_l1, own_l2, _ = swept[beta, "EN"]
        assert bool((l1 <= own_l1 + 1e-6).all())
        assert bool((own_l2**2 + beta * own_l1 <= l2**2 + beta * l1 + 1e-6).all())
        assert float(l1.mean()) < float(own_l1.mean())


@pytest.mark.parametrize("rule", ["EN", "L1", "L2"])
def test_each_rule_reports_its_own_least_value(rule, digits, digits_net):
    """Over all the iterates that the model saw and that fooled it."""
    x, y = digits[0][:1], digits[1][:1]
    recorder, beta = Recorder(digits_net), 1e-2
    result = ead(
        recorder,
        x,
        y,
        beta=beta,
        decision_rule=rule,
        num_steps=40,
        search_steps=4,
        initial_const=0.1,
    )
    rows = torch.cat(recorder.iterates)
    fooled = torch.stack([digits_net(row[None]).argmax() != y[0] for row in rows])

    def value(images):
        l1, l2 = (
            distances(images, x.expand_as(images), "l1"),
            distances(images, x.expand_as(images), "l2"),
        )
        return {"EN": l2**2 + beta * l1, "L1": l1, "L2": l2}[rule]

    assert bool(fooled.any())
    assert float(value(result.x_adv)) == pytest.approx(float(value(rows[fooled]).min()), rel=1e-6)
    least = float(distances(rows[fooled], x.expand_as(rows[fooled]), "l1").min())
    assert float(result.nearest_distance) == pytest.approx(least, rel=1e-6)
    traced = float(result.trace["value"][-1])
    assert traced == pytest.approx(
        float(value(result.x_adv)) ** (2 if rule == "L2" else 1), rel=1e-5
    )


def test_confidence_buys_margin_with_distance(digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]
    margins, lengths = [], []
    for kappa in (0.0, 2.0, 5.0):
        result = ead(
            digits_net,
            x,
            y,
            confidence=kappa,
            num_steps=50,
            search_steps=3,
            initial_const=1.0,
            step_size=0.03,
        )
        assert bool(result.success.all())
        with torch.no_grad():
            scores = digits_net(result.x_adv)
        own = scores.gather(1, y[:, None]).squeeze(1)
        margin = scores.scatter(1, y[:, None], -torch.inf).amax(1) - own
        assert bool((margin >= kappa - 1e-4).all())
        margins.append(float(margin.mean()))
        lengths.append(float(result.nearest_distance.mean()))
    assert margins == sorted(margins)
    assert lengths == sorted(lengths)


# ---- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1e-3}, r"beta must be .*>= 0.*, got -0\.001"),
        ({"beta": math.inf}, "beta must be .*finite.*, got inf"),
        ({"beta": math.nan}, "beta must be .*, got nan"),
        ({"beta": "0.1"}, "beta must be a number, got '0.1'"),
        ({"decision_rule": "L0"}, "decision_rule must be one of 'EN', 'L1', 'L2', got 'L0'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, digits, digits_net):
    with pytest.raises(ValueError, match=message):
        ead(digits_net, *digits, **options)


def test_the_programs_momentum_is_the_default(digits, digits_net):
    x, y = digits[0][:4], digits[1][:4]
    settings = {"num_steps": 10, "search_steps": 2, "initial_const": 1.0}
    default, program, printed = (
        ead(digits_net, x, y, **settings, **more)
        for more in ({}, {"momentum": "program"}, {"momentum": "print"})
    )
    assert torch.equal(default.x_adv, program.x_adv)
    assert not torch.equal(default.x_adv, printed.x_adv)
    with pytest.raises(ValueError, match="momentum must be one of 'program', 'print', got 'none'"):
        ead(digits_net, x, y, momentum="none")
