"""Oracles, streams and geometry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from art_ext.core import GradientOracle, LabelOracle, ScoreOracle, attacks
from art_ext.core.geometry import Box, check_ball, distances, free_coordinates, within_ball
from art_ext.core.result import AttackResult
from art_ext.core.streams import fingerprint, resolve_seed, uniform


def index(count):
    return torch.arange(count)


def cross_entropy(y):
    return lambda outputs, samples: nn.functional.cross_entropy(
        outputs, y[samples], reduction="none"
    )


class TestOracles:
    def test_each_type_can_be_asked_no_more_than_its_threat_model(self, linear_net):
        assert not hasattr(LabelOracle(linear_net, 1), "scores")
        assert not hasattr(ScoreOracle(linear_net, 1), "gradient")
        assert issubclass(GradientOracle, ScoreOracle)
        assert issubclass(ScoreOracle, LabelOracle)

    def test_every_row_is_charged_to_its_sample(self, linear_net, digits):
        x, _ = digits
        oracle = GradientOracle(linear_net, 40, batch_size=7)
        owner = torch.tensor([0, 0, 3, 39])
        with oracle:
            oracle.labels(x[owner], owner)
            oracle.scores(x[:2], index(2))
            oracle.gradient(x[:3], index(3), cross_entropy(digits[1]))
        assert oracle.queries[[0, 1, 2, 3, 39]].tolist() == [4, 2, 1, 1, 1]
        assert int(oracle.queries.sum()) == 9
        assert oracle.gradients[:4].tolist() == [1, 1, 1, 0]

    def test_the_budget_is_refused_before_the_model_is_asked(self, digits):
        asked = []

        def model(rows):
            asked.append(len(rows))
            return torch.zeros(len(rows), 3)

        oracle = LabelOracle(model, 4, max_queries=2)
        oracle.labels(digits[0][:4], index(4))
        assert oracle.ledger.remaining(index(4)).tolist() == [1] * 4
        with pytest.raises(RuntimeError, match="more than max_queries=2 rows for sample 1"):
            oracle.labels(digits[0][:2], torch.tensor([1, 1]))
        assert asked == [4]

    def test_speculative_rows_are_wasted_until_claimed(self, linear_net, digits):
        oracle = LabelOracle(linear_net, 2, max_queries=3)
        oracle.labels(digits[0][:4], torch.tensor([0, 0, 0, 1]), speculative=True)
        assert oracle.queries.tolist() == [0, 0]
        assert oracle.wasted_rows.tolist() == [3, 1]
        oracle.ledger.claim(index(2), torch.tensor([2, 1]))
        assert oracle.queries.tolist() == [2, 1]
        assert oracle.wasted_rows.tolist() == [1, 0]

    def test_padding_is_wasted_and_changes_no_answer(self, digits_net, digits):
        x, _ = digits
        plain = LabelOracle(digits_net, 40, batch_size=16)
        padded = LabelOracle(digits_net, 40, batch_size=16, pad_rows=12)
        assert torch.equal(plain.labels(x, index(40)), padded.labels(x, index(40)))
        assert torch.equal(padded.queries, plain.queries)
        assert int(padded.wasted_rows.sum()) == 4  # slices of 16, 16 and 8
        assert int(plain.wasted_rows.sum()) == 0

    def test_gradients_do_not_depend_on_the_batch(self, digits_net, digits):
        x, y = digits
        whole, single = (GradientOracle(digits_net, 40, batch_size=size) for size in (40, 1))
        with whole, single:
            _, _, together = whole.gradient(x, index(40), cross_entropy(y))
            outputs, _, alone = single.gradient(x, index(40), cross_entropy(y))
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        leaf = x.clone().requires_grad_()
        nn.functional.cross_entropy(digits_net(leaf), y, reduction="sum").backward()
        torch.testing.assert_close(together, leaf.grad, rtol=1e-4, atol=1e-5)
        assert outputs.shape == (40, 10)
        assert not outputs.requires_grad

    def test_fgsm_through_the_gradient_oracle_reaches_the_linear_optimum(self, linear_net, digits):
        # x + eps sgn(grad) minimises the margin of a linear model over the L-inf ball: its change
        # is eps ||w||_1
        x, y = digits
        weight, eps = linear_net[1].weight.detach(), 0.05
        rival = (y + 1) % 10

        def margin(outputs, samples):
            return (
                outputs[range(len(samples)), rival[samples]]
                - outputs[range(len(samples)), y[samples]]
            )

        oracle = GradientOracle(linear_net, len(x))
        with oracle:
            outputs, _, gradient = oracle.gradient(x, index(len(x)), margin)
            attacked = oracle.scores(x + eps * gradient.sign(), index(len(x)))
        change = margin(attacked, index(len(x))) - margin(outputs, index(len(x)))
        torch.testing.assert_close(
            change, eps * (weight[rival] - weight[y]).abs().sum(1), rtol=1e-4, atol=1e-5
        )

    def test_scores_are_refused_where_there_are_none(self, linear_net, digits):
        with pytest.raises(ValueError, match="outputs='labels'"):
            ScoreOracle(linear_net, 1, outputs="labels")
        with pytest.raises(ValueError, match="one-hot rows"):
            ScoreOracle(lambda rows: torch.eye(10)[:1].expand(len(rows), 10), 40).clean_labels(
                digits[0]
            )

    def test_a_model_without_gradients_is_named(self, digits):
        oracle = GradientOracle(lambda rows: rows.detach().flatten(1)[:, :10], 40)
        with pytest.raises(ValueError, match="autograd"):
            oracle.gradient(digits[0], index(40), cross_entropy(digits[1]))

    @pytest.mark.parametrize("shape", [(40,), (40, 1)])
    def test_labels_may_come_as_floats_and_columns(self, digits, shape):
        oracle = LabelOracle(lambda rows: digits[1].double().view(shape), 40, outputs="labels")
        assert torch.equal(oracle.clean_labels(digits[0]), digits[1])
        nothing = LabelOracle(lambda rows: torch.full(shape, math.nan), 40, outputs="labels")
        assert nothing.labels(digits[0], index(40)).tolist() == [-1] * 40
        with pytest.raises(ValueError, match="NaN for the clean input, first in sample 0"):
            nothing.clean_labels(digits[0])

    def test_what_the_model_returns_is_checked(self, digits):
        with pytest.raises(ValueError, match="must return a tensor, got list"):
            LabelOracle(lambda rows: [0] * len(rows), 40).labels(digits[0], index(40))
        with pytest.raises(ValueError, match="class indices"):
            LabelOracle(lambda rows: rows.flatten(1), 40, outputs="labels").labels(
                digits[0], index(40)
            )
        with pytest.raises(ValueError, match="callable"):
            LabelOracle("resnet", 1)


class TestStreams:
    def test_numbers_depend_on_seed_sample_step_and_nothing_else(self):
        ids = fingerprint(torch.rand(50, 3, 4, generator=torch.Generator().manual_seed(0)))
        numbers = uniform(5, ids, 2, (3, 4))
        order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
        assert torch.equal(uniform(5, ids[order], 2, (3, 4)), numbers[order])
        assert torch.equal(uniform(5, ids[7:8], 2, (3, 4))[0], numbers[7])
        assert not torch.equal(uniform(6, ids, 2, (3, 4)), numbers)
        assert not torch.equal(uniform(5, ids, 3, (3, 4)), numbers)

    def test_numbers_look_uniform_and_unrelated(self):
        numbers = uniform(0, torch.arange(200), 0, (500,)).double()
        assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
        # standard errors of mean and variance over 1e5 draws are 9e-4 and 2.4e-4
        assert abs(float(numbers.mean()) - 0.5) < 5e-3
        assert abs(float(numbers.var()) - 1 / 12) < 1.5e-3
        counts = torch.histc(numbers, 20, 0, 1)
        # chi squared, 19 degrees of freedom: 50 is 1e-4
        assert float(((counts - 5000) ** 2 / 5000).sum()) < 50
        for a, b in (
            (numbers[:-1], numbers[1:]),
            (numbers[:, :-1], numbers[:, 1:]),
            (numbers, uniform(0, torch.arange(200), 1, (500,)).double()),
        ):
            related = float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
            assert abs(related) < 0.02

    def test_bits_are_those_of_plain_integer_arithmetic(self):
        word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

        def mix(z):
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
            return z ^ (z >> 31)

        def number(seed, identity, step, coordinate):
            key = mix((seed + golden) & word)
            key = mix((mix((identity & word) ^ key) + step * golden) & word)
            return mix((key + (coordinate + 1) * golden) & word) >> 40

        for seed, identity, step in ((1, 42, 0), (2**62, -7, 3), (-5, 2**63 - 1, 10**6)):
            expected = [number(seed & word, identity, step, coordinate) for coordinate in range(5)]
            drawn = uniform(seed, torch.tensor([identity]), step, (5,))
            assert (drawn.double() * 2**24).long().tolist() == [expected]

    def test_fingerprints_tell_samples_apart(self):
        x = torch.rand(3000, 16, generator=torch.Generator().manual_seed(0))
        assert len(fingerprint(x).unique()) == 3000
        assert torch.equal(fingerprint(x), fingerprint(x.double()))
        assert fingerprint(x[:1]) != fingerprint(x[:1].flip(1)), "the place of a value counts"
        assert torch.equal(fingerprint(torch.zeros(1, 2)), fingerprint(-torch.zeros(1, 2)))

    def test_seeds(self):
        state = torch.get_rng_state()
        assert resolve_seed(3) == 3
        assert resolve_seed(None) != resolve_seed(None)
        assert torch.equal(torch.get_rng_state(), state)
        with pytest.raises(ValueError, match="64-bit"):
            resolve_seed(1 << 64)


class TestGeometry:
    def test_box_of_numbers_and_of_features(self):
        box = Box.of((0.0, [1.0, 2.0]), torch.Size([2]), torch.device("cpu"))
        assert torch.equal(box.admit(torch.tensor([[1.00005, 2.0]])), torch.tensor([[1.0, 2.0]]))
        assert box.width == 2
        with pytest.raises(ValueError, match=r"x must lie in \[0, 2\]"):
            box.admit(torch.tensor([[1.1, 2.0]]))
        with pytest.raises(
            ValueError, match=r"broadcast to a sample's shape \(2,\), got shape \(3,\)"
        ):
            Box.of((0.0, [1.0, 2.0, 3.0]), torch.Size([2]), torch.device("cpu"))

    def test_balls(self):
        box = Box.of((0.0, 1.0), torch.Size([4]), torch.device("cpu"))
        check_ball("l2", 1.9, box)
        check_ball("linf", 1.0, box)
        with pytest.raises(ValueError, match="8/255"):
            check_ball("linf", 8, box)
        with pytest.raises(ValueError, match=r"eps must be > 0, got -0\.1"):
            check_ball("l1", -0.1, box)
        inside = within_ball(torch.tensor([0.1, 0.1 + 9e-7, 0.1 + 2e-6, math.inf]).double(), 0.1)
        assert inside.tolist() == [True, True, False, False]
        assert within_ball(torch.tensor([5.0, math.inf]), None).tolist() == [True, False]

    @pytest.mark.parametrize(("norm", "length"), [("linf", 4.0), ("l2", 5.0), ("l1", 7.0)])
    def test_distances(self, norm, length):
        assert distances(torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 5.0]]), norm).tolist() == [
            length
        ]

    def test_masks(self):
        x = torch.zeros(2, 1, 2)
        assert free_coordinates(torch.tensor([1, 0]), x).tolist() == [[True, False]]
        own = torch.tensor([[[0.5, 0.0]], [[0.0, 0.0]]])
        assert free_coordinates(own, x).tolist() == [[True, False], [False, False]]


def test_results_join_and_disagreeing_ones_are_refused(digits, linear_net):
    from art_ext.core.attacks import rays

    x, y = digits
    options = {"eps": 0.1, "max_queries": 30, "seed": 1}
    parts = [
        rays(linear_net, x[rows], y[rows], **options) for rows in torch.arange(len(x)).split(15)
    ]
    whole = rays(linear_net, x, y, **options)
    joined = AttackResult.cat(parts)
    assert torch.equal(joined.queries, whole.queries)
    assert torch.equal(joined.success, whole.success)
    with pytest.raises(ValueError, match="agree in eps"):
        AttackResult.cat([parts[0], rays(linear_net, x, y, eps=0.2, max_queries=30, seed=1)])
    with pytest.raises(ValueError, match="at least one"):
        AttackResult.cat([])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    model = torch.nn.Flatten()
    with pytest.raises(ValueError, match=rf"^device must be .*, got '{device}'"):
        attacks.pgd(model, torch.rand(2, 3), eps=0.1, device=device)
