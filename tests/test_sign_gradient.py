"""FGSM, I-FGSM, PGD, MI-FGSM, M-PGD and AI-FGSM against the textbook, iterate by iterate, and
against closed forms.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional

from art_ext.core.attacks import ai_fgsm, fgsm, i_fgsm, m_pgd, mi_fgsm, pgd, sign_gradient
from art_ext.core.result import AttackResult
from tests.toys import Recorder, inputs, linear, small_net, waves

WAVES = waves(12, seed=5)
EPS = 0.1
FRONTS = {
    "fgsm": fgsm,
    "i_fgsm": i_fgsm,
    "mi_fgsm": mi_fgsm,
    "pgd": pgd,
    "m_pgd": m_pgd,
    "ai_fgsm": ai_fgsm,
}
FROM_INPUT = ["fgsm", "i_fgsm", "mi_fgsm", "ai_fgsm"]
RANDOM = ["pgd", "m_pgd"]


def gradient(model, rows, y, sign=1.0):
    """The gradient of each row's own cross-entropy."""
    rows = rows.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(
        sign * functional.cross_entropy(model(rows), y, reduction="sum"), rows
    )
    return g


def into_ball(rows, x, eps, norm="linf"):
    """Textbook projection: onto the ball around x by the definition of each norm, then to the
    box.
    """
    delta = rows.clamp(0, 1) - x if norm != "linf" else rows - x
    if norm == "linf":
        delta = delta.clamp(-eps, eps)
    elif norm == "l2":
        delta = delta / (delta.norm(dim=1, keepdim=True) / eps).clamp(min=1)
    else:
        # L1: shrink all coordinates by the one threshold at which the norm is eps, found by
        # bisection
        low, high = (
            torch.zeros(len(x), 1, dtype=torch.float64),
            delta.abs().amax(1, keepdim=True).double(),
        )
        for _ in range(60):
            middle = (low + high) / 2
            long = (delta.abs() - middle).clamp(min=0).sum(1, keepdim=True) > eps
            low, high = torch.where(long, middle, low), torch.where(long, high, middle)
        shrunk = (delta.sign() * (delta.abs() - high).clamp(min=0)).float()
        delta = torch.where(delta.abs().sum(1, keepdim=True) > eps, shrunk, delta)
    return (x + delta).clamp(0, 1)


def direction(v, norm="linf"):
    if norm == "linf":
        return v.sign()
    return v / v.norm(p={"l2": 2, "l1": 1}[norm], dim=1, keepdim=True)


# The textbook methods: each gives the iterates after the starting point.


def textbook_fgsm(model, x, y, start, eps):
    return [(x + eps * gradient(model, x, y).sign()).clamp(0, 1)]


def textbook_i_fgsm(model, x, y, start, eps, steps, alpha, norm="linf", sign=1.0):
    iterates = [start]
    for _ in range(steps):
        g = gradient(model, iterates[-1], y, sign)
        iterates.append(into_ball(iterates[-1] + alpha * direction(g, norm), x, eps, norm))
    return iterates[1:]


def textbook_mi_fgsm(
    model, x, y, start, eps, steps, alpha, mu, normalise=lambda g: g.abs().sum(1, keepdim=True)
):
    iterates, v = [start], torch.zeros_like(x)
    for _ in range(steps):
        g = gradient(model, iterates[-1], y)
        v = mu * v + g / normalise(g)
        iterates.append(into_ball(iterates[-1] + alpha * v.sign(), x, eps))
    return iterates[1:]


def textbook_ai_fgsm(
    model, x, y, start, eps, steps, alpha, beta1=0.95, beta2=0.999, corrected=False
):
    iterates, v, e, e_max = [start], torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, steps + 1):
        g = gradient(model, iterates[-1], y)
        v, e = beta1 * v + (1 - beta1) * g, beta2 * e + (1 - beta2) * g**2
        e_max = torch.maximum(e_max, e)
        root = 1 if corrected else (e_max / (1 - beta2**t)).sqrt() + 1e-7
        length = torch.as_tensor(alpha / (1 - beta1**t) / root).clamp(max=eps)
        iterates.append(into_ball(iterates[-1] + length * v.sign(), x, eps))
    return iterates[1:]


TEXTBOOK = {
    "fgsm": (fgsm, {}, textbook_fgsm, ()),
    "i_fgsm": (i_fgsm, {"num_steps": 7}, textbook_i_fgsm, (7, EPS / 7)),
    "i_fgsm step": (i_fgsm, {"num_steps": 7, "step_size": 0.04}, textbook_i_fgsm, (7, 0.04)),
    "pgd": (pgd, {"num_steps": 8}, textbook_i_fgsm, (8, 2.5 * EPS / 8)),
    "mi_fgsm": (mi_fgsm, {"num_steps": 8}, textbook_mi_fgsm, (8, EPS / 8, 1.0)),
    "mi_fgsm decay": (mi_fgsm, {"num_steps": 8, "decay": 0.5}, textbook_mi_fgsm, (8, EPS / 8, 0.5)),
    "m_pgd": (m_pgd, {"num_steps": 8}, textbook_mi_fgsm, (8, 2.5 * EPS / 8, 1.0)),
    "m_pgd mean": (
        m_pgd,
        {"num_steps": 8, "normaliser": "mean"},
        textbook_mi_fgsm,
        (8, 2.5 * EPS / 8, 1.0, lambda g: g.abs().mean(1, keepdim=True)),
    ),
    "ai_fgsm": (ai_fgsm, {"num_steps": 12, "step_size": 1e-3}, textbook_ai_fgsm, (12, 1e-3)),
    "ai_fgsm saturated": (ai_fgsm, {"num_steps": 6}, textbook_ai_fgsm, (6, 5e-3)),
    "ai_fgsm betas": (
        ai_fgsm,
        {"num_steps": 9, "step_size": 2e-3, "beta1": 0.5, "beta2": 0.9},
        textbook_ai_fgsm,
        (9, 2e-3, 0.5, 0.9),
    ),
    "ai_fgsm corrected": (
        ai_fgsm,
        {"num_steps": 9, "step_size": 4e-3, "step_rule": "corrected"},
        textbook_ai_fgsm,
        (9, 4e-3, 0.95, 0.999, True),
    ),
}


def check_iterates(asked, expected, exact):
    assert len(asked) == len(expected)
    for mine, theirs in zip(asked, expected, strict=True):
        assert (
            torch.equal(mine, theirs) if exact else torch.allclose(mine, theirs, rtol=0, atol=1e-6)
        )
    moved = (expected[-1] - expected[0]).abs().max() if len(expected) > 1 else 1
    assert moved > 0.01  # the path is one, not a standstill


class TestTextbook:
    @pytest.mark.parametrize("name", TEXTBOOK)
    def test_every_iterate_asked_is_the_textbook_s(self, name):
        attack, options, textbook, arguments = TEXTBOOK[name]
        x, y = inputs(small_net)
        spy = Recorder(small_net)
        attack(spy, x, y, eps=EPS, seed=3, **options)
        # the clean check, and the check of a random start
        before = 2 if attack in (pgd, m_pgd) else 1
        assert torch.equal(spy.rows[0], x)
        expected = textbook(small_net, x, y, spy.rows[before - 1], EPS, *arguments)
        # the same float operations in the same order, except where a formula is evaluated in
        # another order
        exact = name.startswith(("i_fgsm", "pgd", "mi_fgsm", "m_pgd"))
        check_iterates(spy.rows[before:], expected, exact)

    @pytest.mark.parametrize(("eps", "alpha"), [(1.0, 0.1), (2.0, 0.3), (3.0, 0.5)])
    def test_the_l2_pgd_of_the_dissertation(self, eps, alpha, digits, digits_net):
        x, y = digits
        spy = Recorder(digits_net)
        options = {"norm": "l2", "step_size": alpha, "num_steps": 100, "projection": "ball-first"}
        sign_gradient(spy, x, y, eps=eps, start="input", **options)
        right = digits_net(x).argmax(1) == y
        rows, start = x[right], x[right].flatten(1)
        expected = []
        for _ in range(100):
            g = gradient(digits_net, rows, y[right]).flatten(1)
            moved = rows.flatten(1) + alpha * g / (g.norm(dim=1, keepdim=True) + 1e-32)
            length = (moved - start).norm(dim=1, keepdim=True)
            moved = start + (moved - start) * (eps / length).clamp(max=1)
            rows = moved.clamp(0, 1).view_as(rows)
            expected.append(rows)
        assert torch.equal(spy.rows[0], x)
        # gradients of the same rows differ in their last bits, and the steps carry that on
        assert len(spy.rows) == 101
        for mine, theirs in zip(spy.rows[1:6], expected[:5], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
        wrong = (digits_net(rows).argmax(1) != y[right]).float().mean()
        mine = (digits_net(spy.rows[-1]).argmax(1) != y[right]).float().mean()
        assert abs(float(wrong - mine)) <= 0.05

    @pytest.mark.parametrize("norm", ["l2", "l1"])
    @pytest.mark.parametrize("attack", [i_fgsm, pgd])
    def test_in_the_other_norms(self, attack, norm):
        x, y = inputs(small_net)
        eps, alpha = (0.3, 0.08) if norm == "l2" else (0.6, 0.2)
        spy = Recorder(small_net)
        attack(spy, x, y, eps=eps, norm=norm, num_steps=9, step_size=alpha, seed=3)
        before = 2 if attack is pgd else 1
        expected = textbook_i_fgsm(small_net, x, y, spy.rows[before - 1], eps, 9, alpha, norm)
        check_iterates(spy.rows[before:], expected, exact=False)
        length = (spy.rows[-1] - x).norm(p={"l2": 2, "l1": 1}[norm], dim=1)
        assert bool((length > 0.99 * eps).any())  # or nothing was projected

    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_fgsm_in_the_other_norms(self, norm):
        x, y = inputs(small_net)
        spy = Recorder(small_net)
        fgsm(spy, x, y, eps=0.3, norm=norm)
        step = 0.3 * direction(gradient(small_net, x, y), norm)
        assert torch.allclose(spy.rows[1], (x + step).clamp(0, 1), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("how", ["targeted", "targets"])
    def test_targeted_descends_the_target_s_cross_entropy(self, how):
        x, y = inputs(small_net)
        aim = (y + 1) % 3
        spy = Recorder(small_net)
        options = {"targeted": True} if how == "targeted" else {"targets": aim}
        i_fgsm(spy, x, aim if how == "targeted" else y, eps=EPS, num_steps=5, **options)
        check_iterates(
            spy.rows[1:],
            textbook_i_fgsm(small_net, x, aim, x, EPS, 5, EPS / 5, sign=-1.0),
            exact=True,
        )

    def test_the_last_iterate_that_fools_is_reported(self):
        x, y = inputs(small_net, count=64)
        spy = Recorder(small_net)
        result = pgd(spy, x, y, eps=0.2, num_steps=8, seed=0)
        met = torch.stack([small_net(rows).argmax(1) != y for rows in spy.rows])
        assert torch.equal(result.success, met.any(0))
        assert 0 < int(result.success.sum()) < 64
        for k in range(64):
            hits = met[:, k].nonzero().flatten()
            wanted = spy.rows[int(hits[-1])][k] if len(hits) else x[k]
            assert torch.equal(result.x_adv[k], wanted)
            assert int(result.queries_to_success[k]) == (int(hits[0]) + 1 if len(hits) else -1)


class TestTorchattacks:
    """The same images as torchattacks', of digits that the network classifies right."""

    @pytest.fixture
    def right(self, digits_net, digits):
        x, y = digits
        keep = (digits_net(x).argmax(1) == y).nonzero().flatten()[:32]
        assert len(keep) == 32  # a power of two: the mean loss is then the sum, scaled exactly
        return digits_net, x[keep], y[keep]

    @pytest.mark.parametrize(
        ("theirs", "options", "attack", "ours"),
        [
            ("FGSM", {"eps": 0.1}, fgsm, {"eps": 0.1}),
            (
                "PGD",
                {"eps": 0.1, "alpha": 0.02, "steps": 7, "random_start": False},
                i_fgsm,
                {"eps": 0.1, "step_size": 0.02, "num_steps": 7},
            ),
            (
                "MIFGSM",
                {"eps": 0.1, "alpha": 0.02, "steps": 7, "decay": 1.0},
                mi_fgsm,
                {"eps": 0.1, "step_size": 0.02, "num_steps": 7},
            ),
        ],
    )
    def test_the_same_images(self, theirs, options, attack, ours, right):
        torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
        network, x, y = right
        expected = getattr(torchattacks, theirs)(network, **options)(x, y)
        spy = Recorder(network)
        attack(spy, x, y, **ours)
        assert torch.allclose(spy.rows[-1], expected, rtol=0, atol=1e-6)


class TestStart:
    def start(self, norm, features):
        """Where 2,000 samples at the middle of the box start, in units of the radius."""
        x, y = torch.full((2000, features), 0.5), torch.zeros(2000, dtype=torch.int64)
        spy = Recorder(lambda rows: functional.pad(rows[:, :1], (0, 1)))
        pgd(
            spy,
            x,
            y,
            eps=0.3,
            norm=norm,
            num_steps=1,
            sample_ids=torch.arange(2000),
            seed=1,
            batch_size=2000,
        )
        return (spy.rows[1] - 0.5) / 0.3

    def test_uniform_in_the_linf_ball(self):
        drawn = self.start("linf", 4).flatten().numpy()
        assert stats.kstest(drawn, stats.uniform(-1, 2).cdf).pvalue > 1e-3

    @pytest.mark.parametrize(("norm", "p"), [("l2", 2), ("l1", 1)])
    def test_uniform_in_the_other_balls(self, norm, p):
        # in D dimensions the D-th power of the radius is uniform, and the direction has no
        # preferred side
        drawn = self.start(norm, 3)
        assert stats.kstest((drawn.norm(p=p, dim=1) ** 3).numpy(), stats.uniform.cdf).pvalue > 1e-3
        assert bool((drawn.mean(0).abs() < 4 * drawn.std(0) / math.sqrt(2000)).all())

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("name", RANDOM)
    def test_inside_ball_and_box(self, name, norm):
        x, y = inputs(WAVES, count=64)
        spy = Recorder(WAVES)
        FRONTS[name](spy, x, y, eps=0.25, norm=norm, num_steps=1, seed=0)
        start = spy.rows[1]
        length = torch.linalg.vector_norm(
            (start.double() - x), ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1
        )
        assert bool((length <= 0.25 + 1e-6).all())
        assert float(start.min()) >= 0
        assert float(start.max()) <= 1
        assert bool((length > 0).all())

    def test_a_sample_s_start_is_its_own(self):
        x, y = inputs(WAVES, count=20)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        spies = [Recorder(WAVES) for _ in range(4)]
        pgd(spies[0], x, y, eps=EPS, num_steps=1, seed=5)
        pgd(spies[1], x[order], y[order], eps=EPS, num_steps=1, seed=5)
        pgd(spies[2], x[3:7], y[3:7], eps=EPS, num_steps=1, seed=5)
        pgd(spies[3], x, y, eps=EPS, num_steps=1, seed=6)
        starts = [spy.rows[1] for spy in spies]
        assert torch.equal(starts[0][order], starts[1])
        assert torch.equal(starts[0][3:7], starts[2])
        assert bool((starts[0] != starts[3]).flatten(1).any(1).all())

    def test_a_seed_that_was_drawn_is_recorded_and_serves_again(self):
        x, y = inputs(WAVES)
        state = torch.random.get_rng_state()
        first = pgd(WAVES, x, y, eps=EPS, num_steps=3, on_failure="last")
        assert torch.equal(torch.random.get_rng_state(), state)
        again = pgd(WAVES, x, y, eps=EPS, num_steps=3, on_failure="last", seed=first.seed)
        other = pgd(WAVES, x, y, eps=EPS, num_steps=3, on_failure="last")
        assert torch.equal(first.x_adv, again.x_adv)
        assert other.seed != first.seed

    def test_the_mask_holds_at_the_start_too(self):
        x, y = inputs(WAVES)
        mask = torch.zeros(12)
        mask[2:5] = 1
        spy = Recorder(WAVES)
        pgd(spy, x, y, eps=EPS, num_steps=3, mask=mask, seed=0)
        for rows in spy.rows:
            assert torch.equal(rows[:, mask == 0], x[:, mask == 0])
        assert bool((spy.rows[1][:, mask == 1] != x[:, mask == 1]).any())


def run(name, x, y, model=WAVES, **options) -> AttackResult:
    if name != "fgsm":
        options.setdefault("num_steps", 6)
    return FRONTS[name](model, x, y, **{"eps": EPS, "seed": 2, **options})


class TestInvariants:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("name", FRONTS)
    def test_all_iterates_stay_in_ball_and_box(self, name, norm):
        x, y = inputs(WAVES, count=24)
        spy = Recorder(WAVES)
        run(name, x, y, model=spy, norm=norm, eps=0.2)
        assert len(spy.rows) > 1
        for rows in spy.rows:
            delta = rows.double() - x
            length = torch.linalg.vector_norm(
                delta, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1
            )
            assert bool((length <= 0.2 + 1e-6).all())
            assert bool(((rows >= 0) & (rows <= 1)).all())

    def test_without_memory_and_saturated_ai_fgsm_is_i_fgsm_with_steps_of_eps(self):
        x, y = inputs(small_net)
        spies = [Recorder(small_net), Recorder(small_net)]
        ai_fgsm(spies[0], x, y, eps=EPS, num_steps=6, step_size=1e30, beta1=0.0, beta2=0.0)
        i_fgsm(spies[1], x, y, eps=EPS, num_steps=6, step_size=EPS)
        for mine, theirs in zip(spies[0].rows, spies[1].rows, strict=True):
            assert torch.equal(mine, theirs)

    def test_one_saturated_step_of_ai_fgsm_is_fgsm(self):
        x, y = inputs(small_net)
        mine = ai_fgsm(small_net, x, y, eps=EPS, num_steps=1, step_size=1e30, on_failure="last")
        theirs = fgsm(small_net, x, y, eps=EPS, on_failure="last")
        assert torch.equal(mine.x_adv, theirs.x_adv)
        assert torch.equal(mine.success, theirs.success)

    def test_the_corrected_step_does_not_know_the_scale_of_the_loss(self):
        x, y = inputs(small_net)
        spies = [Recorder(small_net), Recorder(small_net)]
        for spy, scale in zip(spies, (1.0, 1 / 64), strict=True):
            ai_fgsm(
                spy,
                x,
                y,
                eps=EPS,
                num_steps=6,
                step_size=2e-3,
                step_rule="corrected",
                grad_scale=scale,
            )
        for mine, theirs in zip(spies[0].rows, spies[1].rows, strict=True):
            assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("scale", [4.0, 0.25])
    def test_the_unsaturated_adaptive_step_scales_with_one_over_the_loss(self, scale):
        x, y = inputs(small_net)
        x = x.clamp(0.2, 0.8)  # off the faces of the box, which would cut a step
        y = small_net(x).argmax(1)
        first = []
        for factor in (1.0, scale):
            spy = Recorder(small_net)
            ai_fgsm(spy, x, y, eps=EPS, num_steps=1, step_size=1e-5, delta=1e-30, grad_scale=factor)
            first.append(spy.rows[1] - x)
        far = first[0].abs() < EPS / 8  # neither of the two is cut there
        assert float(far.double().mean()) > 0.8
        assert torch.allclose(first[1][far] * scale, first[0][far], rtol=1e-2, atol=0)

    @pytest.mark.parametrize("name", FRONTS)
    def test_batch_size_and_order_change_nothing(self, name):
        x, y = inputs(WAVES, count=20)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
        whole = run(name, x, y, on_failure="last")
        for size in (1, 3, 7):
            parts = run(name, x, y, on_failure="last", batch_size=size)
            assert torch.equal(parts.x_adv, whole.x_adv)
            assert torch.equal(parts.success, whole.success)
        turned = run(name, x[order], y[order], on_failure="last")
        assert torch.equal(turned.x_adv, whole.x_adv[order])
        assert torch.equal(turned.queries_to_success, whole.queries_to_success[order])

    @pytest.mark.parametrize("name", FROM_INPUT)
    def test_nothing_is_random_without_a_random_start(self, name):
        x, y = inputs(WAVES)
        assert torch.equal(run(name, x, y, seed=1).x_adv, run(name, x, y, seed=2).x_adv)


class TestLedger:
    @pytest.mark.parametrize("name", FRONTS)
    def test_one_query_a_step_and_one_clean_check(self, name):
        x, y = inputs(WAVES, count=12)
        y[:3] = (y[:3] + 1) % 3  # wrong from the start: they leave at once
        spy = Recorder(WAVES)
        result = run(name, x, y, model=spy)
        steps = 1 if name == "fgsm" else 6
        wrong = result.already_adversarial
        assert wrong.tolist() == [True] * 3 + [False] * 9
        assert bool((result.queries[~wrong] == 1 + steps + (name in RANDOM)).all())
        assert bool((result.gradients[~wrong] == steps).all())
        assert bool((result.queries[wrong] == 1).all())
        assert bool((result.gradients[wrong] == 0).all())
        assert sum(map(len, spy.rows)) == int(result.queries.sum() + result.wasted_rows.sum())
        assert torch.equal(result.x_adv[wrong], x[wrong])

    @pytest.mark.parametrize("name", FRONTS)
    @pytest.mark.parametrize("budget", [1, 2, 3, 5])
    def test_the_budget_cuts_the_path_and_changes_no_step_before(self, name, budget):
        x, y = inputs(WAVES, count=12)
        spies = [Recorder(WAVES), Recorder(WAVES)]
        whole = run(name, x, y, model=spies[0])
        cut = run(name, x, y, model=spies[1], max_queries=budget)
        planned = int(whole.queries[0])
        spent = min(budget, planned)
        assert bool((cut.queries == spent).all())
        checks = 2 if name in RANDOM else 1
        assert bool((cut.gradients == max(0, spent - checks)).all())
        assert len(spies[1].rows) == spent
        for mine, theirs in zip(spies[1].rows, spies[0].rows, strict=False):
            assert torch.equal(mine, theirs)

    def test_without_labels_the_clean_check_gives_them(self):
        x, y = inputs(WAVES)
        with_y, without = run("i_fgsm", x, y), run("i_fgsm", x, None)
        assert torch.equal(with_y.x_adv, without.x_adv)
        assert torch.equal(with_y.queries, without.queries)


class TestSuccess:
    """One-dimensional paths along a linear model: the step of the first success is known."""

    weight = torch.tensor([1.0, -2.0, 0.5, 1.0])

    def samples(self):
        # at margins that steps of 0.02 close after 1, 2, 3, ... of them, the last one never within
        # eps = 0.1
        lengths = torch.tensor([0.01, 0.03, 0.05, 0.07, 0.15])
        x = 0.5 + lengths.unsqueeze(1) * self.weight.sign()
        return x, torch.ones(5, dtype=torch.int64)

    def test_a_success_stops_its_sample(self):
        x, y = self.samples()
        result = i_fgsm(
            linear(self.weight), x, y, eps=EPS, num_steps=5, step_size=0.02, stop_on_success=True
        )
        assert result.success.tolist() == [True] * 4 + [False]
        assert result.queries.tolist() == [2, 3, 4, 5, 6]
        assert result.gradients.tolist() == [1, 2, 3, 4, 5]
        assert result.queries_to_success.tolist() == [2, 3, 4, 5, -1]
        assert result.stop_on_success
        moved = torch.tensor([0.02, 0.04, 0.06, 0.08]).unsqueeze(1) * self.weight.sign()
        assert torch.allclose(result.x_adv[:4], x[:4] - moved, rtol=0, atol=1e-6)
        assert result.distance[:4].tolist() == pytest.approx([0.02, 0.04, 0.06, 0.08], abs=1e-6)
        assert math.isinf(float(result.distance[4]))

    def test_by_default_it_does_not(self):
        x, y = self.samples()
        result = i_fgsm(linear(self.weight), x, y, eps=EPS, num_steps=5, step_size=0.02)
        assert result.queries.tolist() == [6] * 5
        assert result.queries_to_success.tolist() == [2, 3, 4, 5, -1]
        assert torch.allclose(result.x_adv[:4], x[:4] - EPS * self.weight.sign(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("on_failure", ["input", "last"])
    def test_what_a_failure_shows(self, on_failure):
        x, y = self.samples()
        result = i_fgsm(
            linear(self.weight), x, y, eps=EPS, num_steps=5, step_size=0.02, on_failure=on_failure
        )
        wanted = x[4] if on_failure == "input" else x[4] - EPS * self.weight.sign()
        assert torch.allclose(result.x_adv[4], wanted, rtol=0, atol=1e-6)
        assert not bool(result.success[4])

    @pytest.mark.parametrize("name", FRONTS)
    def test_linf_optimum_of_a_linear_model(self, name):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(12, generator=generator)
        x = 0.1 + 0.8 * torch.rand(40, 12, generator=generator)  # the ball lies inside the box
        model = linear(weight)
        y = model(x).argmax(1)
        options = {} if name == "fgsm" else {"num_steps": 8}
        result = FRONTS[name](model, x, y, eps=EPS, on_failure="last", seed=0, **options)
        margin = ((x - 0.5) @ weight).abs()
        assert torch.equal(result.success, margin < EPS * weight.abs().sum())
        away = torch.where(y.unsqueeze(1) == 1, -1.0, 1.0) * weight.sign()
        assert torch.allclose(result.x_adv, x + EPS * away, rtol=0, atol=1e-6)
        assert 0 < int(result.success.sum()) < 40

    @pytest.mark.parametrize("attack", [i_fgsm, pgd])
    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_optimum_of_a_linear_model_in_the_other_norms(self, attack, norm):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(12, generator=generator)
        x = 0.5 + 0.02 * torch.randn(40, 12, generator=generator).clamp(-3, 3)
        model = linear(weight)
        y = model(x).argmax(1)
        result = attack(
            model,
            x,
            y,
            eps=EPS,
            norm=norm,
            num_steps=120,
            step_size=EPS / 2,
            on_failure="last",
            seed=0,
        )
        margin = ((x - 0.5) @ weight).abs()
        # the dual norm: L1's optimum is one coordinate
        dual = weight.norm() if norm == "l2" else weight.abs().max()
        assert torch.equal(result.success, margin < EPS * dual)
        gained = ((result.x_adv - x) @ weight).abs()
        assert torch.allclose(gained, EPS * dual.expand(40), rtol=1e-3)


class TestParts:
    @pytest.mark.parametrize(
        ("name", "known"),
        [
            ("momentum_rule", ["none", "accumulated", "average"]),
            ("normaliser", ["none", "l1", "mean"]),
            ("step_rule", ["sign", "adaptive", "corrected"]),
            ("start", ["input", "uniform"]),
        ],
    )
    def test_an_unknown_part_is_refused_with_the_known_ones(self, name, known):
        x, y = inputs(WAVES)
        with pytest.raises(ValueError, match=f"{name} must be one of") as error:
            sign_gradient(WAVES, x, y, eps=EPS, **{name: "nesterov"})
        assert all(repr(one) in str(error.value) for one in [*known, "nesterov"])

    @pytest.mark.parametrize(
        ("front", "parts"),
        [
            ("i_fgsm", {"step_size": EPS / 6}),
            ("pgd", {"start": "uniform"}),
            ("mi_fgsm", {"step_size": EPS / 6, "momentum_rule": "accumulated", "normaliser": "l1"}),
            ("m_pgd", {"start": "uniform", "momentum_rule": "accumulated", "normaliser": "l1"}),
            ("ai_fgsm", {"step_size": 5e-3, "momentum_rule": "average", "step_rule": "adaptive"}),
        ],
    )
    def test_a_front_is_a_choice_of_parts(self, front, parts):
        x, y = inputs(small_net)
        spies = [Recorder(small_net), Recorder(small_net)]
        FRONTS[front](spies[0], x, y, eps=EPS, num_steps=6, seed=1)
        sign_gradient(spies[1], x, y, eps=EPS, num_steps=6, seed=1, **parts)
        for mine, theirs in zip(spies[0].rows, spies[1].rows, strict=True):
            assert torch.equal(mine, theirs)

    @pytest.mark.parametrize(("normaliser", "size"), [("none", 3.0), ("l1", 1 / 12), ("mean", 1.0)])
    def test_what_a_normaliser_makes_of_a_gradient(self, normaliser, size):
        """An adaptive first step is alpha / (1 - beta1) / |g|; here all coordinates of g are 3
        in magnitude.
        """
        weight = 3.0 * torch.tensor([1.0, -1.0] * 6)
        x = torch.tensor([0.3, 0.4]).unsqueeze(1).expand(2, 12) + torch.arange(12) / 40
        spy = Recorder(linear(weight))
        sign_gradient(
            spy,
            x,
            eps=0.4,
            num_steps=1,
            step_size=1e-3,
            momentum_rule="average",
            step_rule="adaptive",
            normaliser=normaliser,
            beta1=0.5,
            loss=lambda logits, index: logits[:, 1] - logits[:, 0],
        )
        assert torch.allclose(spy.rows[1], x + 2e-3 / size * weight.sign(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"step_size": 0.0}, "step_size must be > 0, got 0.0"),
            ({"step_size": "large"}, "step_size must be a number, got 'large'"),
            ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
            ({"decay": -0.1}, "decay must be >= 0, got -0.1"),
            ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
            ({"beta2": -0.5}, r"beta2 must lie in \[0, 1\), got -0.5"),
            ({"delta": 0}, "delta must be > 0, got 0"),
            ({"grad_scale": math.nan}, "grad_scale must be > 0, got nan"),
            ({"on_failure": "best"}, "on_failure must be one of 'input', 'last', got 'best'"),
            ({"projection": "ball"}, "projection must be one of 'box-first', 'ball-first', got 'b"),
            ({"loss": "hinge"}, "loss must be one of 'ce', 'margin', .* a callable, got 'hinge'"),
            ({"norm": "l0"}, "norm must be one of"),
            ({"eps": 1.5}, "eps must not exceed the box width"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options, message):
        x, y = inputs(WAVES)
        with pytest.raises(ValueError, match=message):
            sign_gradient(WAVES, x, y, **{"eps": EPS, **options})

    @pytest.mark.parametrize("front", FRONTS)
    @pytest.mark.parametrize("eps", [0.0, -0.1, None, "8/255"])
    def test_a_radius_that_is_none_is_refused_by_name(self, front, eps):
        x, y = inputs(WAVES)
        with pytest.raises(ValueError, match="eps must be"):
            FRONTS[front](WAVES, x, y, eps=eps)

    @pytest.mark.parametrize("momentum_rule", ["none", "accumulated", "average"])
    @pytest.mark.parametrize("normaliser", ["none", "l1", "mean"])
    @pytest.mark.parametrize("step_rule", ["sign", "adaptive", "corrected"])
    def test_a_flat_loss_moves_nothing(self, momentum_rule, normaliser, step_rule):
        x, y = inputs(WAVES)
        result = sign_gradient(
            lambda rows: (
                WAVES(rows) * 0
                + functional.one_hot(torch.zeros(len(rows), dtype=torch.int64), 3) * 2.0
            ),
            x,
            torch.zeros_like(y),
            eps=EPS,
            num_steps=3,
            step_size=0.05,
            momentum_rule=momentum_rule,
            normaliser=normaliser,
            step_rule=step_rule,
            on_failure="last",
        )
        assert torch.equal(result.x_adv, x)


def test_the_adaptive_step_has_no_default_by_the_radius():
    with pytest.raises(ValueError, match="step_size must be a number, got None"):
        ai_fgsm(WAVES, torch.full((1, 4), 0.5), eps=0.1, step_size=None)
