"""Measures of a chain and of transfer against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import nn

from art_ext.core.attacks import hmcam, pgd
from art_ext.core.ensemble import Ensemble
from art_ext.core.metrics import (
    TransferRate,
    acceptance_rate,
    all_or_nothing_success,
    diversity,
    paired_interval,
    transfer_success,
)
from art_ext.core.result import AttackResult


class Threshold(nn.Module):
    """Says class k where the first coordinate, less a shift, lies in [k / 4, (k + 1) / 4)."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = shift

    def forward(self, rows):
        if self.training:
            raise RuntimeError("a model must be asked in eval mode")
        first = rows.flatten(1)[:, 0] - self.shift
        return -(first.unsqueeze(1) - (torch.arange(4) + 0.5) / 4).abs()


def chain(first, already=None, **changes):
    """The result of a chain whose states (S, N) differ in their first coordinate; the second is
    0.5.
    """
    states = torch.tensor(first)
    count = states.shape[1]
    samples = torch.stack([states, torch.full_like(states, 0.5)], dim=2)
    zeros = torch.zeros(count, dtype=torch.int64)
    result = AttackResult(
        x_adv=samples[-1],
        success=torch.ones(count, dtype=torch.bool),
        already_adversarial=torch.tensor(already or [False] * count, dtype=torch.bool),
        distance=torch.zeros(count),
        x_nearest=None,
        queries=zeros,
        queries_to_success=zeros,
        gradients=zeros,
        wasted_rows=zeros,
        norm="linf",
        eps=1.0,
        seed=0,
        stop_on_success=False,
        samples=samples,
    )
    return replace(result, **changes)


# five samples of class 0, three states each
X = torch.tensor([[0.1, 0.5], [0.1, 0.5], [0.2, 0.5], [0.1, 0.5], [0.1, 0.5]])
Y = torch.zeros(5, dtype=torch.int64)
STATES = [[0.3, 0.3, 0.3, 0.1, 0.9], [0.6, 0.1, 0.3, 0.1, 0.9], [0.9, 0.3, 0.3, 0.1, 0.9]]


class TestTransfer:
    def test_states_that_a_model_takes_for_another_class(self):
        found = transfer_success(chain(STATES).samples, X, Y, Threshold())
        assert found.rates.tolist() == pytest.approx([1, 2 / 3, 1, 0, 1])
        assert found.counted.tolist() == [True] * 5
        assert (found.share, found.count) == (pytest.approx((1 + 2 / 3 + 1 + 0 + 1) / 5), 5)

    def test_one_example_for_each_sample(self):
        found = transfer_success(chain(STATES).x_adv, X, Y, Threshold())
        assert found.rates.tolist() == [1, 1, 1, 0, 1]
        assert found.share == pytest.approx(0.8)

    def test_only_samples_that_the_model_has_right_before(self):
        # shifted by -0.1 the third sample is class 1 already; shifted by 0.1 its states 0.3 are
        # class 0
        left = transfer_success(chain(STATES).x_adv, X, Y, Threshold(-0.1))
        assert left.counted.tolist() == [True, True, False, True, True]
        assert (left.share, left.count) == (pytest.approx(3 / 4), 4)
        right = transfer_success(chain(STATES).x_adv, X, Y, Threshold(0.1))
        assert (right.share, right.count) == (pytest.approx(2 / 5), 5)

    def test_only_samples_that_were_attacked(self):
        already = torch.tensor([True, False, False, False, True])
        found = transfer_success(
            chain(STATES).x_adv, X, Y, Threshold(), already_adversarial=already
        )
        assert found.counted.tolist() == [False, True, True, True, False]
        assert (found.share, found.count) == (pytest.approx(2 / 3), 3)

    def test_several_models_must_all_have_it_right_and_count_alike(self):
        found = transfer_success(chain(STATES).x_adv, X, Y, [Threshold(-0.1), Threshold(0.1)])
        assert found.counted.tolist() == [True, True, False, True, True]
        assert found.rates.tolist() == [1, 0.5, 0.5, 0, 1]
        assert found.share == pytest.approx((1 + 0.5 + 0 + 1) / 4)

    def test_targeted_counts_the_target_only(self):
        targets = torch.tensor([3, 3, 1, 1, 0])  # the last one is the true class: nothing to reach
        found = transfer_success(chain(STATES).samples, X, Y, Threshold(), targets=targets)
        assert found.rates[:4].tolist() == pytest.approx([1 / 3, 0, 1, 0])
        assert found.counted.tolist() == [True] * 4 + [False]
        assert found.share == pytest.approx((1 / 3 + 0 + 1 + 0) / 4)

    def test_nan_is_neither_right_nor_fooled(self):
        def broken(rows):
            return torch.where(rows[:, :1] > 0.8, torch.nan, Threshold().eval()(rows))

        found = transfer_success(chain(STATES).samples, X, Y, broken)
        assert found.rates.tolist() == pytest.approx([2 / 3, 2 / 3, 1, 0, 0])
        none = transfer_success(
            chain(STATES).samples, X, Y, lambda rows: Threshold().eval()(rows) * torch.nan
        )
        assert (none.count, math.isnan(none.share)) == (0, True)

    @pytest.mark.parametrize("batch_size", [1, 3, 256])
    def test_models_of_any_output_in_any_batches(self, batch_size):
        def labels(rows):
            assert len(rows) <= batch_size
            rows += 0.0  # may work in place on what it is given
            found = Threshold().eval()(rows).argmax(1)
            rows.zero_()
            return found

        result = chain(STATES)
        before = result.samples.clone()
        expected = transfer_success(result.samples, X, Y, Threshold())
        asked = X.clone()
        found = transfer_success(
            result.samples, asked, Y, labels, outputs="labels", batch_size=batch_size
        )
        assert torch.equal(found.rates, expected.rates)
        assert torch.equal(found.counted, expected.counted)
        assert torch.equal(result.samples, before)
        assert torch.equal(asked, X)

    def test_modules_are_asked_in_eval_mode_and_get_theirs_back(self):
        model = Threshold().train()
        transfer_success(chain(STATES).samples, X, Y, [model, Ensemble([model, Threshold(0.1)])])
        assert model.training

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"examples": torch.zeros(4, 2)},
                r"examples must have shape \(5, 2\), or states of it, got \(1, 4, 2\)",
            ),
            ({"examples": torch.zeros(3, 5, 3)}, r"examples must have shape \(5, 2\)"),
            ({"models": []}, "models must hold at least one model, got none"),
            ({"models": [3]}, "model must be an nn.Module or a callable"),
            ({"y": torch.zeros(4, dtype=torch.int64)}, "y must have shape"),
            ({"targets": torch.zeros(5)}, "targets must be a tensor of integer class indices"),
            (
                {"already_adversarial": torch.zeros(2, dtype=torch.bool)},
                r"already_adversarial must have shape \(5,\)",
            ),
        ],
    )
    def test_arguments_that_do_not_fit(self, changes, message):
        given = {"examples": chain(STATES).x_adv, "x": X, "y": Y, "models": Threshold(), **changes}
        with pytest.raises(ValueError, match=message):
            transfer_success(**given)


class TestAllOrNothing:
    def test_all_states_must_fool(self):
        found = all_or_nothing_success(chain(STATES), X, Y, Threshold())
        assert found.rates.tolist() == [1, 0, 1, 0, 1]
        assert (found.share, found.count) == (pytest.approx(0.6), 5)

    def test_samples_adversarial_already_and_wrong_ones_do_not_count(self):
        found = all_or_nothing_success(
            chain(STATES, already=[True] + [False] * 4), X, Y, [Threshold(), Threshold(-0.1)]
        )
        assert found.counted.tolist() == [False, True, False, True, True]
        assert found.share == pytest.approx(1 / 3)

    def test_all_states_must_reach_the_target(self):
        targets = torch.tensor([3, 1, 1, 1, 3])
        found = all_or_nothing_success(chain(STATES), X, Y, Threshold(), targets=targets)
        assert found.rates.tolist() == [0, 0, 1, 0, 1]

    def test_is_never_above_the_share_of_states(self, digits_net, linear_net, digits):
        x, y = digits
        result = hmcam(digits_net, x, y, eps=0.2, num_steps=4, num_transitions=3, seed=0)
        one_by_one = transfer_success(
            result.samples, x, y, linear_net, already_adversarial=result.already_adversarial
        )
        strict = all_or_nothing_success(result, x, y, linear_net)
        assert strict.count == one_by_one.count > 20
        assert strict.share <= one_by_one.share
        assert torch.equal(strict.rates, one_by_one.rates.floor())
        # on its own model, by hand
        own = all_or_nothing_success(result, x, y, digits_net)
        fools = torch.stack([digits_net(state).argmax(1) != y for state in result.samples]).all(0)
        attacked = ~result.already_adversarial
        assert own.share == pytest.approx(float(fools[attacked].double().mean()))

    def test_refuses_a_result_without_a_chain(self):
        with pytest.raises(
            ValueError,
            match="result must have samples, got none: pass the result of hmcam, or of pgd",
        ):
            all_or_nothing_success(chain(STATES, samples=None), X, Y, Threshold())


class TestPairedInterval:
    def rate(self, rates, counted=None):
        rates = torch.tensor(rates, dtype=torch.float64)
        counted = (
            torch.ones(len(rates), dtype=torch.bool) if counted is None else torch.tensor(counted)
        )
        return TransferRate(float(rates[counted].mean()), int(counted.sum()), rates, counted)

    def test_by_hand(self):
        # of 100 samples both fool 30, the first alone 20, the second alone 10
        first = self.rate([1.0] * 50 + [0.0] * 50)
        second = self.rate([1.0] * 30 + [0.0] * 20 + [1.0] * 10 + [0.0] * 40)
        found = paired_interval(first, second)
        assert found.difference == pytest.approx(0.1)
        assert found.count == 100
        reach = 1.96 * math.sqrt((0.3 - 0.1**2) * 100 / 99) / 10
        assert (found.low, found.high) == (
            pytest.approx(0.1 - reach, abs=1e-4),
            pytest.approx(0.1 + reach, abs=1e-4),
        )
        back = paired_interval(second, first)
        assert (back.low, back.high) == (pytest.approx(-found.high), pytest.approx(-found.low))

    def test_only_samples_that_count_in_both(self):
        first = self.rate([1.0, 1.0, 0.0, 1.0], [True, True, True, False])
        second = self.rate([0.0, 1.0, 1.0, 0.0], [True, True, False, True])
        found = paired_interval(first, second)
        assert (found.difference, found.count) == (pytest.approx(0.5), 2)

    def test_equal_rates_have_no_width(self):
        rate = self.rate([1.0, 0.0, 1.0])
        assert paired_interval(rate, rate) == paired_interval(rate, rate)
        found = paired_interval(rate, rate)
        assert (found.difference, found.low, found.high) == (0, 0, 0)

    def test_the_interval_covers_the_truth_nineteen_times_in_twenty(self):
        generator = torch.Generator().manual_seed(0)
        held = 0
        for _ in range(400):
            base = torch.rand(200, generator=generator)
            noise = torch.rand(200, generator=generator)
            first = self.rate((0.7 * base + 0.3 * noise < 0.5).double().tolist())
            second = self.rate((base < 0.5).double().tolist())
            found = paired_interval(first, second)  # the truth is 0, by symmetry
            held += found.low <= 0 <= found.high
        assert stats.binomtest(held, 400, 0.95).pvalue > 1e-3

    def test_too_few_samples(self):
        one = paired_interval(self.rate([1.0]), self.rate([0.0]))
        assert one.difference == 1
        assert math.isnan(one.low)
        assert math.isnan(one.high)
        none = paired_interval(self.rate([1.0], [False]), self.rate([0.0]))
        assert none.count == 0
        assert math.isnan(none.difference)

    def test_refuses_other_samples(self):
        with pytest.raises(ValueError, match="rates of the same samples, got 3 and 2 samples"):
            paired_interval(self.rate([1.0, 0.0, 1.0]), self.rate([1.0, 0.0]))


class TestDiversity:
    def test_mean_distance_over_the_pairs(self):
        found = diversity(chain(STATES))
        # the pairs of 0.3, 0.6, 0.9 are 0.3, 0.6 and 0.3 apart; those of 0.3, 0.1, 0.3 are 0.2, 0
        # and 0.2
        assert found.distance.tolist() == pytest.approx([0.4, 0.4 / 3, 0, 0, 0], abs=1e-6)
        assert found.mean_distance == pytest.approx((0.4 + 0.4 / 3) / 5, abs=1e-6)
        assert found.classes is None
        assert math.isnan(found.mean_classes)

    @pytest.mark.parametrize(("norm", "p"), [("linf", math.inf), ("l2", 2.0), ("l1", 1.0)])
    def test_in_the_result_s_norm(self, norm, p):
        generator = torch.Generator().manual_seed(0)
        samples = torch.rand(5, 4, 2, 3, generator=generator)
        found = diversity(
            chain(STATES, samples=samples, norm=norm, already_adversarial=torch.zeros(4) > 0)
        )
        for k in range(4):
            pairs = [
                float(torch.linalg.vector_norm((a - b).double(), ord=p))
                for a, b in itertools.combinations(samples[:, k].flatten(1), 2)
            ]
            assert float(found.distance[k]) == pytest.approx(sum(pairs) / 10, rel=1e-6)

    def test_distinct_classes(self):
        found = diversity(chain(STATES), Threshold())
        assert found.classes.tolist() == [3, 2, 1, 1, 1]
        assert found.mean_classes == pytest.approx(8 / 5)

    def test_samples_adversarial_already_are_not_in_the_means(self):
        found = diversity(chain(STATES, already=[True, False, False, False, False]), Threshold())
        assert found.mean_distance == pytest.approx(0.4 / 3 / 4, abs=1e-6)
        assert found.mean_classes == pytest.approx(5 / 4)

    def test_a_row_of_nan_is_no_class(self):
        found = diversity(
            chain(STATES),
            lambda rows: torch.where(rows[:, :1] > 0.8, torch.nan, Threshold().eval()(rows)),
        )
        assert found.classes.tolist() == [2, 2, 1, 1, 0]

    def test_a_chain_of_one_has_no_pairs(self):
        found = diversity(chain(STATES[:1]), Threshold())
        assert bool(found.distance.isnan().all())
        assert math.isnan(found.mean_distance)
        assert found.classes.tolist() == [1] * 5

    def test_refuses_a_result_without_a_chain(self, linear_net, digits):
        x, y = digits
        for result in (
            pgd(linear_net, x[:4], y[:4], eps=0.1, num_steps=2, seed=0),
            hmcam(linear_net, x[:4], y[:4], eps=0.1, num_steps=2, seed=0, keep_samples=False),
        ):
            with pytest.raises(ValueError, match="result must have samples, got none"):
                diversity(result)


class TestAcceptance:
    def test_share_of_the_transitions_that_were_made(self):
        nan = math.nan
        accepted = torch.tensor([[1.0, 0.0, nan, 1.0], [0.0, 0.0, nan, nan], [1.0, 1.0, nan, nan]])
        result = chain(STATES, trace={"accepted": accepted})
        assert acceptance_rate(result) == pytest.approx(4 / 7)
        assert math.isnan(
            acceptance_rate(chain(STATES, trace={"accepted": torch.full((2, 4), nan)}))
        )

    def test_hot_chains_accept_more(self, digits_net, digits):
        x, y = digits
        rates = [
            acceptance_rate(
                hmcam(
                    digits_net,
                    x,
                    y,
                    eps=0.3,
                    num_steps=1,
                    num_transitions=8,
                    temperature=tau,
                    seed=0,
                )
            )
            for tau in (0.01, 1e6)
        ]
        assert 0.5 < rates[0] < 1
        assert rates[1] == 1

    @pytest.mark.parametrize("trace", [None, {"loss": torch.zeros(3, 5)}])
    def test_refuses_a_result_that_says_nothing_of_it(self, trace):
        with pytest.raises(ValueError, match=r"result must have trace\['accepted'\]"):
            acceptance_rate(chain(STATES, trace=trace))


def test_of_no_samples():
    empty = chain([[], []])
    x, y = X[:0], Y[:0]
    for found in (
        transfer_success(empty.samples, x, y, Threshold()),
        all_or_nothing_success(empty, x, y, Threshold()),
    ):
        assert found.count == 0
        assert math.isnan(found.share)
    assert math.isnan(diversity(empty, Threshold()).mean_distance)
