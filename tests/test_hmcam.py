"""HMCAM against the textbook: the adaptive step (11), the Metropolis-Hastings test on losses we
dictate, the chain.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import ai_fgsm, fgsm, hmcam, i_fgsm
from art_ext.core.result import AttackResult
from art_ext.core.streams import uniform
from tests.toys import Recorder, inputs, small_net, waves

WAVES = waves(12, seed=5)
EPS = 0.1


def ce(model, rows, y):
    return functional.cross_entropy(model(rows), y, reduction="none")


class Dictated:
    """A loss and a verdict that are read from tables, one row per model call: values, slopes and
    successes (L, N).

    The loss of call t is ``values[t]``; its gradient is ``slopes[t]`` times the direction ``(1, -1,
    1, ...)``.
    """

    def __init__(self, values, slopes=None, met=None):
        self.values = values
        self.slopes = torch.ones_like(values) if slopes is None else slopes
        self.met = torch.zeros_like(values, dtype=torch.bool) if met is None else met
        self.call = -1
        self.asked = []

    def model(self, rows):
        self.call += 1
        self.asked.append(rows.detach().clone())
        ramp = 1.0 - 2.0 * (torch.arange(rows.shape[1]) % 2)
        return functional.pad((rows * ramp).sum(1, keepdim=True), (0, 1), value=0.5)

    def loss(self, outputs, index):
        change = outputs[:, 0] - outputs[:, 0].detach()  # zero, with a gradient
        return self.values[self.call, index] + self.slopes[self.call, index] * change

    def criterion(self, outputs, index):
        return self.met[self.call, index]

    def attack(self, x, **options):
        return hmcam(self.model, x, eps=EPS, loss=self.loss, criterion=self.criterion, **options)


def dictated(transitions, steps=1, count=64, spread=1.0, met=None, slopes=None):
    """Tables of 1 + S T calls: the losses are normal numbers, so that about half of the
    proposals are worse.
    """
    generator = torch.Generator().manual_seed(11)
    return Dictated(
        spread * torch.randn(1 + transitions * steps, count, generator=generator), slopes, met
    )


def middle(count=64, features=6):
    """Distinct inputs away from the faces of the box."""
    return 0.3 + 0.4 * torch.rand(count, features, generator=torch.Generator().manual_seed(3))


def check_equal(first: AttackResult, second: AttackResult, leave_out=()):
    for field in fields(AttackResult):
        mine, theirs = getattr(first, field.name), getattr(second, field.name)
        if field.name in leave_out:
            continue
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs), field.name
        else:
            assert mine == theirs, field.name


class TestTrajectory:
    """One trajectory, T steps of the adaptive rule."""

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("start", ["input", "uniform"])
    @pytest.mark.parametrize(
        "options", [{}, {"stop_on_success": True}, {"on_failure": "last", "max_queries": 5}]
    )
    def test_one_transition_is_ai_fgsm_to_the_bit(self, norm, start, options):
        x, y = inputs(small_net, count=32)
        given = {
            "eps": EPS,
            "norm": norm,
            "num_steps": 8,
            "step_size": 1e-3,
            "start": start,
            "seed": 4,
            **options,
        }
        spies = [Recorder(small_net), Recorder(small_net)]
        chain = hmcam(spies[0], x, y, num_transitions=1, **given)
        plain = ai_fgsm(spies[1], x, y, **given)
        check_equal(chain, plain, leave_out=("samples", "trace"))
        for mine, theirs in zip(spies[0].rows, spies[1].rows, strict=True):
            assert torch.equal(mine, theirs)
        if chain.trace:
            reached = chain.trace["accepted"]
            assert bool((reached.isnan() | (reached == 1)).all())  # without a test all is accepted

    def test_the_one_state_is_where_ai_fgsm_ends(self):
        x, y = inputs(small_net, count=32)
        spy = Recorder(small_net)
        chain = hmcam(spy, x, y, eps=EPS, num_steps=8, num_transitions=1, step_size=1e-3)
        assert torch.equal(chain.samples[0], spy.rows[-1])

    @pytest.mark.parametrize("inside", [False, True])
    @pytest.mark.parametrize("delta", [1e-7, 0.3])
    def test_the_adaptive_step_is_formula_11(self, inside, delta):
        x, y = inputs(small_net)
        alpha, beta1, beta2 = 2e-3, 0.9, 0.99
        spy = Recorder(small_net)
        hmcam(
            spy,
            x,
            y,
            eps=EPS,
            num_steps=10,
            num_transitions=1,
            step_size=alpha,
            beta1=beta1,
            beta2=beta2,
            delta=delta,
            delta_inside=inside,
        )
        rows, v, e, top = x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        free = 0
        for t in range(1, 11):
            leaf = rows.clone().requires_grad_(True)
            (g,) = torch.autograd.grad(ce(small_net, leaf, y).sum(), leaf)
            v = beta1 * v + (1 - beta1) * g  # line 7 of Algorithm 2
            e = beta2 * e + (1 - beta2) * g**2  # line 8
            top = torch.maximum(top, e)  # line 9
            b1, b2 = 1 - beta1**t, 1 - beta2**t  # line 6
            root = (
                torch.sqrt(top / b2 + delta) if inside else torch.sqrt(top) / math.sqrt(b2) + delta
            )
            length = (alpha / (b1 * root)).clamp(max=EPS)  # line 10; grad K(v) = sgn v
            rows = (x + (rows + length * v.sign() - x).clamp(-EPS, EPS)).clamp(0, 1)  # line 11
            free += int((length < EPS / 2).sum())
            assert torch.allclose(spy.rows[t], rows, rtol=0, atol=1e-6)
        assert free > x.numel()  # most of the steps were not cut to eps

    def test_where_delta_stands_matters_for_small_gradients(self):
        x, y = inputs(small_net)
        ends = [
            hmcam(
                small_net,
                x,
                y,
                eps=EPS,
                num_steps=3,
                num_transitions=1,
                step_size=1e-7,
                grad_scale=1e-4,
                delta=1e-7,
                delta_inside=inside,
            ).samples[0]
            for inside in (False, True)
        ]
        # inside the root its floor is sqrt(1e-7) = 3e-4, above these gradients: the steps are
        # shorter
        assert float((ends[1] - x).abs().mean()) < 0.5 * float((ends[0] - x).abs().mean())

    def test_grad_scale_imitates_the_mean_over_a_batch(self):
        x, y = inputs(small_net, count=16)
        options = {"eps": EPS, "num_steps": 6, "num_transitions": 1, "step_size": 1e-4}
        spy = Recorder(small_net)
        hmcam(spy, x, y, grad_scale=1 / 16, **options)
        mean = Recorder(small_net)

        def loss(outputs, index):
            # whose sum is the mean
            return functional.cross_entropy(outputs, y, reduction="none") / 16

        hmcam(mean, x, y, loss=loss, **options)
        whole = Recorder(small_net)
        hmcam(whole, x, y, **options)
        for mine, theirs in zip(spy.rows, mean.rows, strict=True):
            assert torch.equal(mine, theirs)
        assert float((whole.rows[-1] - spy.rows[-1]).abs().mean()) > 1e-3

    def test_the_corrected_step_forgets_the_second_moment(self):
        # a gradient of its own size for each of four samples
        slopes = 10.0 ** torch.arange(-2.0, 2.0).repeat(5, 1)
        source = Dictated(torch.zeros(5, 4), slopes)
        x = middle(4)
        source.attack(
            x, num_steps=4, num_transitions=1, step_size=2e-3, beta1=0.8, step_rule="corrected"
        )
        ramp = torch.tensor([1.0, -1.0] * 3)
        rows = x
        for t in range(1, 5):
            rows = rows + min(EPS, 2e-3 / (1 - 0.8**t)) * ramp
            assert torch.allclose(source.asked[t], rows, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("step_rule", ["adaptive", "corrected"])
    def test_no_step_is_longer_than_eps(self, step_rule):
        slopes = torch.tensor([1.0, -1.0, 1.0, -1.0]).unsqueeze(1).expand(4, 4)
        source, x = Dictated(torch.zeros(4, 4), slopes), middle(4)
        source.attack(
            x, num_steps=3, num_transitions=1, step_size=10.0, beta1=0.0, step_rule=step_rule
        )
        ramp = EPS * torch.tensor([1.0, -1.0] * 3)
        # there, back to the middle of the ball and not to its other side, and there again
        for rows, wanted in zip(source.asked[1:], (x + ramp, x, x + ramp), strict=True):
            assert torch.allclose(rows, wanted, rtol=0, atol=1e-6)

    def test_without_memory_and_saturated_it_is_i_fgsm_with_steps_of_eps(self):
        x, y = inputs(small_net)
        spies = [Recorder(small_net), Recorder(small_net)]
        hmcam(
            spies[0],
            x,
            y,
            eps=EPS,
            num_steps=6,
            num_transitions=1,
            step_size=1e30,
            beta1=0.0,
            beta2=0.0,
        )
        i_fgsm(spies[1], x, y, eps=EPS, num_steps=6, step_size=EPS)
        for mine, theirs in zip(spies[0].rows, spies[1].rows, strict=True):
            assert torch.equal(mine, theirs)

    def test_one_saturated_step_is_fgsm(self):
        x, y = inputs(small_net)
        chain = hmcam(small_net, x, y, eps=EPS, num_steps=1, num_transitions=1, step_size=1e30)
        assert torch.equal(
            chain.samples[0], fgsm(small_net, x, y, eps=EPS, on_failure="last").x_adv
        )

    def test_moments_start_from_zero_in_every_transition(self):
        x, y = inputs(small_net)
        spy, second = Recorder(small_net), Recorder(small_net)
        options = {"eps": EPS, "num_steps": 4, "step_size": 1e-3}
        # so hot that everything but the seldomest draw is accepted
        chain = hmcam(spy, x, y, num_transitions=2, temperature=1e9, seed=0, **options)
        assert bool((chain.trace["accepted"] == 1).all())
        state = chain.samples[0]
        hmcam(
            second,
            state,
            y,
            eps=1.0,
            num_steps=1,
            num_transitions=1,
            step_size=1e-3,
            criterion=lambda outputs, index: torch.zeros_like(index, dtype=torch.bool),
        )
        step = (second.rows[1] - state).clamp(-EPS, EPS)  # line 10, with this attack's eps
        expected = (x + (state + step - x).clamp(-EPS, EPS)).clamp(0, 1)
        assert torch.allclose(spy.rows[5], expected, rtol=0, atol=1e-6)


class TestInvariance:
    @pytest.mark.parametrize("scale", [8.0, 0.125])
    def test_the_scale_of_the_loss(self, scale):
        x, y = inputs(small_net)
        options = {"eps": EPS, "num_steps": 5, "num_transitions": 1}
        runs = {
            rule: [
                hmcam(
                    small_net,
                    x,
                    y,
                    grad_scale=c,
                    step_rule=rule,
                    step_size=step,
                    delta=1e-30,
                    **options,
                ).samples[0]
                for c in (1.0, scale)
            ]
            for rule, step in (("corrected", 2e-3), ("adaptive", 1e-4))
        }
        assert torch.equal(*runs["corrected"])
        lengths = [float((end - x).abs().mean()) for end in runs["adaptive"]]
        # a smaller loss makes longer steps, though not in proportion once the ball cuts some
        assert (lengths[1] < lengths[0]) == (scale > 1)

    @pytest.mark.parametrize("scale", [8.0, 0.125])
    def test_the_first_adaptive_step_scales_with_one_over_the_loss(self, scale):
        x = middle(4)
        ends = []
        for c in (1.0, scale):
            source = Dictated(torch.zeros(2, 4), torch.full((2, 4), c))
            source.attack(x, num_steps=1, num_transitions=1, step_size=1e-4, delta=1e-30)
            ends.append((source.asked[1] - x).abs())
        assert ends[0].flatten().tolist() == pytest.approx([1e-4 / (1 - 0.95)] * 24, rel=1e-3)
        assert torch.allclose(ends[1] * scale, ends[0], rtol=2e-3)

    def test_the_chain_depends_on_seed_and_sample_alone(self):
        x, y = inputs(WAVES, count=20)
        options = {
            "eps": EPS,
            "num_steps": 3,
            "num_transitions": 6,
            "step_size": 1e-3,
            "temperature": 0.002,
        }
        whole = hmcam(WAVES, x, y, seed=9, **options)
        assert 0 < float(whole.trace["accepted"].nanmean()) < 1  # or the draws decide nothing
        for size in (1, 3, 64):
            check_equal(
                hmcam(WAVES, x, y, seed=9, batch_size=size, **options), whole, leave_out=("trace",)
            )
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        turned = hmcam(WAVES, x[order], y[order], seed=9, **options)
        assert torch.equal(turned.samples, whole.samples[:, order])
        assert torch.equal(turned.trace["accepted"], whole.trace["accepted"][:, order])
        part = hmcam(WAVES, x[4:9], y[4:9], seed=9, **options)
        assert torch.equal(part.samples, whole.samples[:, 4:9])
        assert not torch.equal(hmcam(WAVES, x, y, seed=10, **options).samples, whole.samples)
        drawn = hmcam(WAVES, x, y, **options)
        assert torch.equal(hmcam(WAVES, x, y, seed=drawn.seed, **options).samples, drawn.samples)

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize(
        "options", [{}, {"start": "uniform"}, {"continue_from": "proposal", "kinetic": True}]
    )
    def test_all_states_lie_in_ball_and_box(self, norm, options):
        x, y = inputs(WAVES, count=24)
        chain = hmcam(
            WAVES, x, y, eps=0.2, norm=norm, num_steps=3, num_transitions=4, seed=0, **options
        )
        delta = (chain.samples.double() - x).flatten(0, 1)
        length = torch.linalg.vector_norm(
            delta, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1
        )
        assert bool((length <= 0.2 + 1e-6).all())
        assert bool(((chain.samples >= 0) & (chain.samples <= 1)).all())
        assert float(length.max()) > 0.1

    def test_accepted_states_are_distinct_arrays(self):
        x, y = inputs(small_net)
        chain = hmcam(
            small_net,
            x,
            y,
            eps=EPS,
            num_steps=3,
            num_transitions=3,
            step_size=2e-4,
            temperature=1e9,
            seed=0,
        )
        assert bool((chain.trace["accepted"] == 1).all())
        for one, other in itertools.combinations(chain.samples, 2):
            assert bool((one != other).any(1).all())
            assert one.data_ptr() != other.data_ptr()


def reference_chain(x, source, seed, ids, transitions, temperature, kinetic, from_state):
    """Algorithm 2 with T = 1 as a plain loop over samples; (S, N) accepted and the states (S, N,
    D).

    With one step a transition moves by min(eps, alpha / (|slope| + delta)) along the ramp; alpha is
    large enough for it to be eps, so that the state lies on the sphere. One step of beta1 = 3/4
    makes the momentum a quarter of it.
    """
    features = x.shape[1]
    ramp = torch.tensor([1.0, -1.0] * (features // 2))
    accepted = torch.zeros(transitions, len(x))
    states = torch.zeros(transitions, *x.shape)
    for k in range(len(x)):
        position, value, slope, speed = (
            x[k],
            source.values[0, k],
            source.slopes[0, k],
            torch.tensor(0.0),
        )
        for s in range(transitions):
            proposal = x[k] + (position + EPS * ramp * slope.sign() - x[k]).clamp(-EPS, EPS)
            new = source.values[s + 1, k]
            energy = slope.abs() / 4  # mean |v|, all |ramp| being 1
            rise = new - value + (energy - speed if kinetic else 0.0)
            u = uniform(seed, ids[k : k + 1], s)[0]
            accepted[s, k] = float(u.log() < rise / temperature)
            passed = bool(accepted[s, k])
            states[s, k] = proposal if passed else position
            if passed or not from_state:
                position, value, speed, slope = proposal, new, energy, source.slopes[s + 1, k]
    return accepted, states


class TestMetropolisHastings:
    @pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0])
    @pytest.mark.parametrize("kinetic", [False, True])
    @pytest.mark.parametrize("continue_from", ["state", "proposal"])
    def test_accepted_exactly_where_log_u_is_below_the_rise_over_tau(
        self, temperature, kinetic, continue_from
    ):
        x, ids = middle(), torch.arange(64) * 17
        generator = torch.Generator().manual_seed(2)
        slopes = (1 + 4 * torch.rand(6, 64, generator=generator)) * torch.randn(
            6, 64, generator=generator
        ).sign()
        source = dictated(5, slopes=slopes)
        chain = source.attack(
            x,
            num_steps=1,
            num_transitions=5,
            seed=21,
            sample_ids=ids,
            temperature=temperature,
            kinetic=kinetic,
            continue_from=continue_from,
            beta1=0.75,
            step_size=10.0,
        )
        accepted, states = reference_chain(
            x, source, 21, ids, 5, temperature, kinetic, continue_from == "state"
        )
        assert torch.equal(chain.trace["accepted"], accepted)
        assert torch.allclose(chain.samples, states, rtol=0, atol=1e-6)
        assert 0.1 < float(accepted.mean()) < 0.99  # both outcomes occur

    def test_a_rise_is_always_accepted(self):
        values = torch.linspace(0, 1, 9).unsqueeze(1).expand(9, 64)
        for table in (values, torch.zeros(9, 64)):  # a loss that stays the same passes as well
            chain = Dictated(table).attack(
                middle(), num_steps=2, num_transitions=4, temperature=1e-6, seed=0
            )
            assert bool((chain.trace["accepted"] == 1).all())

    def test_a_deep_fall_never_is(self):
        values = -1e3 * torch.arange(5.0).unsqueeze(1).expand(5, 64)
        x = middle()
        chain = Dictated(values).attack(x, num_steps=1, num_transitions=4, seed=0)
        assert bool((chain.trace["accepted"] == 0).all())
        assert torch.equal(chain.samples, x.expand(4, -1, -1))
        assert torch.equal(chain.trace["loss"], torch.zeros(4, 64))

    def test_a_fall_of_log_two_passes_half_of_the_time(self):
        values = torch.tensor([0.0, -math.log(2)]).unsqueeze(1).expand(2, 4000)
        values = torch.cat([values, torch.full((1, 4000), 100.0)])
        chain = Dictated(values).attack(
            torch.rand(4000, 2),
            num_steps=1,
            num_transitions=2,
            seed=0,
            sample_ids=torch.arange(4000),
            batch_size=4000,
        )
        assert float(chain.trace["accepted"][0].mean()) == pytest.approx(
            0.5, abs=4 * 0.5 / math.sqrt(4000)
        )

    def test_after_a_rejection_the_next_transition_proposes_the_same_point(self):
        x, steps = middle(), 3
        source = dictated(4, steps, spread=3.0)
        chain = source.attack(x, num_steps=steps, num_transitions=4, step_size=1e-3, seed=1)
        accepted = chain.trace["accepted"]
        proposals = torch.stack(source.asked[steps::steps])
        for s in range(4):
            before = x if s == 0 else chain.samples[s - 1]
            passed = accepted[s].bool().unsqueeze(1)
            assert torch.equal(chain.samples[s], torch.where(passed, proposals[s], before))
            if s < 3:
                turned_down = accepted[s] == 0
                assert bool(turned_down.any())
                assert torch.equal(proposals[s + 1][turned_down], proposals[s][turned_down])

    def test_continue_from_proposal_moves_on_all_the_same(self):
        x = middle()
        source = dictated(3, spread=3.0)
        # one step of alpha / (1 - beta1) / |g| = 0.02 a transition
        chain = source.attack(
            x, num_steps=1, num_transitions=3, step_size=1e-3, seed=1, continue_from="proposal"
        )
        ramp = torch.tensor([1.0, -1.0] * 3)
        for s in range(3):
            assert torch.allclose(source.asked[s + 1], x + 0.02 * (s + 1) * ramp, rtol=0, atol=1e-6)
            refused = chain.trace["accepted"][s] == 0
            assert bool(refused.any())
            # what a rejection emits is where the transition began
            assert torch.allclose(
                chain.samples[s][refused], source.asked[s][refused], rtol=0, atol=0
            )

    @pytest.mark.parametrize("targeted", [False, True])
    def test_the_sign_is_the_attacker_s(self, targeted):
        x, y = inputs(WAVES, count=64)
        goal = (y + 1) % 3 if targeted else y
        sign, steps, tau = (-1.0 if targeted else 1.0), 2, 0.02
        spy = Recorder(WAVES)
        chain = hmcam(
            spy,
            x,
            goal,
            eps=0.3,
            num_steps=steps,
            num_transitions=5,
            step_size=2e-2,
            targeted=targeted,
            temperature=tau,
            seed=3,
            sample_ids=torch.arange(64),
        )
        gain = [sign * ce(WAVES, rows, goal) for rows in spy.rows]
        state = gain[0]
        for s in range(5):
            new = gain[steps * (s + 1)]
            passed = uniform(3, torch.arange(64), s).log() < (new - state) / tau
            assert torch.equal(chain.trace["accepted"][s].bool(), passed)
            assert bool(passed[new >= state].all())
            state = torch.where(passed, new, state)
            assert torch.allclose(chain.trace["loss"][s], state)
        assert int((chain.trace["accepted"] == 0).sum()) > 5

    def test_targeted_the_cross_entropy_of_the_target_falls(self):
        x, y = inputs(small_net, count=64)
        aim = (y + 1) % 3
        chain = hmcam(small_net, x, y, targets=aim, eps=EPS, num_steps=8, num_transitions=3, seed=0)
        before = float(ce(small_net, x, aim).mean())
        after = [float(ce(small_net, state, aim).mean()) for state in chain.samples]
        assert max(after) < 0.7 * before
        assert torch.equal(
            chain.success, (small_net(chain.x_adv).argmax(1) == aim) | chain.already_adversarial
        )
        assert bool(chain.success.any())


class TestReport:
    """What comes back of the chain."""

    def test_the_state_of_highest_loss_among_those_that_succeed(self):
        x, transitions = middle(), 5
        generator = torch.Generator().manual_seed(8)
        met = torch.rand(1 + 2 * transitions, 64, generator=generator) < 0.3
        met[0] = False
        source = dictated(transitions, 2, met=met)
        chain = source.attack(x, num_steps=2, num_transitions=transitions, step_size=3e-4, seed=1)
        accepted = chain.trace["accepted"].bool()
        kinds = set()
        for k in range(64):
            value, fools, best, wanted = source.values[0, k], False, -math.inf, None
            for s in range(transitions):
                if accepted[s, k]:
                    value, fools = source.values[2 * s + 2, k], met[2 * s + 2, k]
                assert chain.trace["loss"][s, k] == value
                if fools and value > best:
                    best, wanted = value, chain.samples[s, k]
            on_the_way = met[:, k].nonzero().flatten()
            if wanted is None:  # no state succeeds: the last iterate that did, or the input
                wanted = source.asked[int(on_the_way[-1])][k] if len(on_the_way) else x[k]
                kinds.add("iterate" if len(on_the_way) else "input")
            else:
                kinds.add("state")
            assert torch.equal(chain.x_adv[k], wanted)
            assert bool(chain.success[k]) == bool(len(on_the_way))
        assert kinds == {"state", "iterate", "input"}

    def test_on_a_network(self):
        x, y = inputs(small_net, count=64)
        chain = hmcam(
            small_net, x, y, eps=EPS, num_steps=4, num_transitions=4, temperature=0.05, seed=0
        )
        losses = torch.stack([ce(small_net, state, y) for state in chain.samples])
        assert torch.allclose(chain.trace["loss"], losses, atol=1e-5)
        fools = torch.stack([small_net(state).argmax(1) != y for state in chain.samples])
        assert 5 < int(fools.any(0).sum()) < 64
        for k in fools.any(0).nonzero().flatten().tolist():
            best = int(torch.where(fools[:, k], losses[:, k], -torch.inf).argmax())
            assert torch.equal(chain.x_adv[k], chain.samples[best, k])

    def test_streamed_states_are_those_that_would_be_kept(self):
        x, y = inputs(WAVES, count=20)
        y[2] = (y[2] + 1) % 3  # wrong from the start: never streamed
        options = {"eps": EPS, "num_steps": 3, "num_transitions": 4, "temperature": 0.05, "seed": 6}
        kept = hmcam(WAVES, x, y, **options)
        streamed, rounds = x.expand(4, -1, -1).clone(), []

        def watch(progress):
            if progress.samples is not None:
                streamed[len(rounds), progress.index] = progress.samples
                rounds.append(progress.step)

        slim = hmcam(WAVES, x, y, keep_samples=False, callback=watch, **options)
        assert slim.samples is None
        assert rounds == [3, 6, 9, 12]
        assert torch.equal(streamed, kept.samples)
        check_equal(slim, kept, leave_out=("samples", "trace"))
        for name in ("loss", "accepted"):
            assert torch.equal(slim.trace[name].nan_to_num(), kept.trace[name].nan_to_num())
            assert bool(slim.trace[name][:, 2].isnan().all())
        assert torch.equal(kept.samples[:, 2], x[2].expand(4, -1))

    @pytest.mark.parametrize("start", ["input", "uniform"])
    def test_the_ledger(self, start):
        x, y = inputs(WAVES, count=12)
        y[:3] = (y[:3] + 1) % 3
        spy = Recorder(WAVES)
        chain = hmcam(spy, x, y, eps=EPS, num_steps=3, num_transitions=4, start=start, seed=0)
        wrong = chain.already_adversarial
        assert wrong.tolist() == [True] * 3 + [False] * 9
        assert chain.queries.tolist() == [1] * 3 + [13 + (start == "uniform")] * 9
        assert chain.gradients.tolist() == [0] * 3 + [12] * 9
        assert sum(map(len, spy.rows)) == int(chain.queries.sum())

    @pytest.mark.parametrize("start", ["input", "uniform"])
    @pytest.mark.parametrize("budget", range(1, 15))
    def test_a_budget_repeats_the_state_it_cuts_at(self, budget, start):
        """Also where it ends exactly at the end of a transition."""
        x, steps, transitions = middle(), 3, 4
        whole = dictated(transitions, steps, spread=3.0)
        cut = dictated(transitions, steps, spread=3.0)
        extra = int(start == "uniform")
        if extra:  # a random start is one call more
            for source in (whole, cut):
                source.values = torch.cat([source.values, source.values[:1]])
                source.slopes, source.met = (
                    torch.ones_like(source.values),
                    torch.zeros_like(source.values).bool(),
                )
        options = {
            "num_steps": steps,
            "num_transitions": transitions,
            "step_size": 1e-3,
            "seed": 1,
            "start": start,
        }
        chain, short = whole.attack(x, **options), cut.attack(x, max_queries=budget, **options)
        spent = min(budget, 1 + extra + steps * transitions)
        assert bool((short.queries == spent).all())
        assert bool((short.gradients == max(0, spent - 1 - extra)).all())
        done = max(0, spent - 1 - extra) // steps
        assert torch.equal(short.samples[:done], chain.samples[:done])
        if done:
            last = chain.samples[done - 1]
        else:
            # where the chain starts, once it has made a step
            last = whole.asked[extra] if spent > 1 + extra else x
        assert torch.equal(short.samples[done:], last.expand(transitions - done, -1, -1))
        if short.trace:
            assert bool(short.trace["accepted"][done:].isnan().all())

    def test_a_budget_that_cuts_on_the_way_keeps_the_best_state(self):
        met = torch.ones(7, 64, dtype=torch.bool)
        met[0] = False
        source = dictated(2, 3, met=met)
        chain = source.attack(
            middle(), num_steps=3, num_transitions=2, step_size=1e-3, seed=1, max_queries=6
        )
        # the first state succeeds unless rejected (the input does not); the fifth iterate is on the
        # way to a second
        passed = chain.trace["accepted"][0].bool()
        assert 0 < int(passed.sum()) < 64
        assert torch.equal(chain.x_adv[passed], chain.samples[0][passed])
        assert torch.equal(chain.x_adv[~passed], source.asked[5][~passed])

    def test_a_success_that_stops_its_sample_fills_the_chain(self):
        x, steps, transitions = middle(), 2, 3
        met = torch.zeros(7, 64, dtype=torch.bool)
        for k in range(56):
            met[1 + k % 6, k] = True
        source = dictated(transitions, steps, spread=3.0, met=met)
        chain = source.attack(
            x,
            num_steps=steps,
            num_transitions=transitions,
            step_size=1e-3,
            seed=1,
            stop_on_success=True,
        )
        assert chain.success.tolist() == [True] * 56 + [False] * 8
        for k in range(56):
            call = 1 + k % 6
            assert int(chain.queries[k]) == int(chain.queries_to_success[k]) == call + 1
            since = (call - 1) // steps  # of the transition in which it succeeded
            assert torch.equal(
                chain.samples[since:, k], chain.x_adv[k].expand(transitions - since, -1)
            )
        assert chain.queries[56:].tolist() == [7] * 8
        assert chain.stop_on_success

    def test_a_random_start_that_succeeds_fills_the_chain(self):
        met = torch.zeros(6, 8, dtype=torch.bool)
        met[1, :4] = True
        source = Dictated(torch.zeros(6, 8), met=met)
        chain = source.attack(
            middle(8), num_steps=2, num_transitions=2, seed=1, start="uniform", stop_on_success=True
        )
        assert chain.success.tolist() == [True] * 4 + [False] * 4
        assert chain.queries.tolist() == [2] * 4 + [6] * 4
        assert torch.equal(chain.x_adv[:4], source.asked[1][:4])
        assert torch.equal(chain.samples[:, :4], chain.x_adv[:4].expand(2, -1, -1))

    def test_failures_show_the_input_or_the_last_iterate(self):
        x = middle()
        for on_failure in ("input", "last"):
            source = dictated(2, 2)
            chain = source.attack(
                x, num_steps=2, num_transitions=2, step_size=1e-3, seed=1, on_failure=on_failure
            )
            assert not bool(chain.success.any())
            assert torch.equal(chain.x_adv, x if on_failure == "input" else source.asked[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_transitions": 0}, "num_transitions must be an integer >= 1, got 0"),
        ({"num_steps": 2.5}, "num_steps must be an integer >= 1, got 2.5"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        (
            {"continue_from": "start"},
            "continue_from must be one of 'state', 'proposal', got 'start'",
        ),
        (
            {"step_rule": "adam"},
            "step_rule must be one of 'sign', 'adaptive', 'corrected', got 'adam'",
        ),
        ({"start": "middle"}, "start must be one of 'input', 'uniform', got 'middle'"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps must be > 0, got 0.0"),
        ({"eps": None}, "eps must be a number, got"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    x, y = inputs(WAVES)
    with pytest.raises(ValueError, match=message):
        hmcam(WAVES, x, y, **{"eps": EPS, **options})
