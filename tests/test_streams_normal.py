"""The normal stream, and the uniform one of pairs: their laws, and what their bits depend on."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from art_ext.core.streams import global_streams_kept, normal, uniform, uniform_pairs
from art_ext.training.environment import seed_streams

IDS = torch.arange(400) * 7919 + 13


class TestLaw:
    def test_moments_are_those_of_the_standard_normal_law(self):
        numbers = normal(0, IDS, 0, (1000,)).double()
        count = numbers.numel()
        # standard errors of the mean, the variance and the fourth moment: sqrt(1, 2, 96) /
        # sqrt(count)
        assert abs(float(numbers.mean())) < 4 / math.sqrt(count)
        assert abs(float(numbers.square().mean()) - 1) < 4 * math.sqrt(2 / count)
        assert abs(float(numbers.pow(3).mean())) < 4 * math.sqrt(15 / count)
        assert abs(float(numbers.pow(4).mean()) - 3) < 4 * math.sqrt(96 / count)

    @pytest.mark.parametrize("share", [0.001, 0.05, 0.25, 0.5, 0.9, 0.99, 0.9999])
    def test_shares_below_a_quantile_are_right(self, share):
        numbers = normal(3, IDS, 5, (1000,))
        below = float((numbers < stats.norm.ppf(share)).double().mean())
        assert abs(below - share) < 4 * math.sqrt(share * (1 - share) / numbers.numel())

    def test_the_table_holds_every_quantile_once_at_mean_0_and_variance_1(self):
        # 4 million draws meet each of the 65,536 values with a probability of 1 - e^-61
        values = normal(1, IDS, 0, (10_000,)).unique().double()
        assert len(values) == 1 << 16
        assert abs(float(values.mean())) < 1e-8
        assert abs(float(values.square().mean()) - 1) < 1e-6
        assert float(values.max()) == pytest.approx(stats.norm.ppf(1 - 2.0**-17), rel=1e-3)
        assert torch.equal(values, -values.flip(0)), "the law is symmetric"
        assert not bool((values == 0).any())

    def test_numbers_are_unrelated_over_coordinates_steps_samples_and_seeds(self):
        numbers = normal(0, IDS, 0, (1000,)).double()
        others = [
            numbers.roll(1, dims=1),
            numbers.roll(4, dims=1),
            numbers.roll(1, dims=0),
            normal(0, IDS, 1, (1000,)).double(),
            normal(1, IDS, 0, (1000,)).double(),
        ]
        for other in others:
            assert abs(float((numbers * other).mean())) < 4 / math.sqrt(numbers.numel())


class TestStreams:
    def test_bits_do_not_depend_on_order_or_chunks(self):
        numbers = normal(5, IDS, 2, (3, 5))
        order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
        assert torch.equal(normal(5, IDS[order], 2, (3, 5)), numbers[order])
        assert torch.equal(
            torch.cat([normal(5, part, 2, (3, 5)) for part in IDS.split(7)]), numbers
        )
        assert torch.equal(normal(5, IDS[9:10], 2, (15,))[0].view(3, 5), numbers[9])

    def test_a_step_per_row_is_a_call_per_step(self):
        steps = torch.arange(len(IDS)) % 6
        together = normal(5, IDS, steps, (11,))
        for step in range(6):
            rows = steps == step
            assert torch.equal(together[rows], normal(5, IDS[rows], step, (11,)))

    def test_a_longer_block_begins_with_the_shorter_one(self):
        assert torch.equal(normal(5, IDS, 2, (13,))[:, :6], normal(5, IDS, 2, (6,)))

    def test_four_numbers_share_a_word(self):
        """The words are written out in plain integers; ``uniform`` shows the upper 24 bits of
        the same ones.
        """

        def mix(z):
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
            return z ^ (z >> 31)

        golden, seed, identity, step = 0x9E3779B97F4A7C15, 7, -3, 2
        key = mix((mix(identity % 2**64 ^ mix((seed + golden) % 2**64)) + step * golden) % 2**64)
        words = [mix((key + place * golden) % 2**64) for place in (1, 2)]
        cells = [((word >> 16 * quarter) + 2**15) % 2**16 for word in words for quarter in range(4)]
        drawn = normal(seed, torch.tensor([identity]), step, (8,))[0]
        assert drawn.tolist() == pytest.approx(
            [stats.norm.ppf((cell + 0.5) / 2**16) for cell in cells], rel=1e-4
        )
        upper = uniform(seed, torch.tensor([identity]), step, (2,))[0]
        assert upper.tolist() == [(word >> 40) / 2**24 for word in words]

    def test_first_values_are_pinned(self):
        """Every device and version must draw these; a change breaks the promise that a seed
        repeats a run.
        """
        drawn = [
            normal(0, torch.tensor([0]), 0, (4,))[0],
            normal(7, torch.tensor([-3]), 2, (4,))[0],
        ]
        assert [[round(float(value), 6) for value in row] for row in drawn] == [
            [-0.778525, 0.017538, 0.094941, 0.454941],
            [0.908995, -0.126808, -0.182711, -2.187581],
        ]

    def test_shapes_and_types(self):
        assert normal(0, IDS, 0).shape == (400,)
        assert normal(0, IDS, 0, (2, 3)).shape == (400, 2, 3)
        assert normal(0, IDS[:0], 0, (5,)).shape == (0, 5)
        assert normal(0, IDS, 0, (3,)).dtype == torch.float32


class TestUniformPairs:
    ids = torch.arange(3000) * 7919

    def test_moments_and_shares_are_those_of_the_uniform_law(self):
        numbers = uniform_pairs(3, self.ids, 2, (101,)).double()
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert abs(float(numbers.mean()) - 0.5) < 4 / math.sqrt(12 * numbers.numel())
        assert abs(12 * float(numbers.var()) - 1) < 0.01
        for share in (0.1, 0.5, 0.9):
            assert abs(float((numbers < share).double().mean()) - share) < 0.004

    def test_the_two_numbers_of_a_word_and_neighbouring_words_are_unrelated(self):
        numbers = uniform_pairs(3, self.ids, 2, (4,)).double()
        related = torch.corrcoef(numbers.T) - torch.eye(4)
        assert related.abs().max() < 4 / math.sqrt(len(self.ids))

    def test_bits_depend_on_seed_sample_and_step_alone(self):
        numbers = uniform_pairs(3, self.ids, 2, (5,))
        assert torch.equal(uniform_pairs(3, self.ids.flip(0), 2, (5,)), numbers.flip(0))
        assert torch.equal(uniform_pairs(3, self.ids[4:5], 2, (5,))[0], numbers[4])
        assert not torch.equal(uniform_pairs(4, self.ids, 2, (5,)), numbers)
        assert not torch.equal(uniform_pairs(3, self.ids, 3, (5,)), numbers)
        assert uniform_pairs(3, self.ids, 2).shape == (3000,)


def test_the_streams_of_a_device_are_kept(monkeypatch):
    """The device of a name whose module of torch has streams of its own, here Apple's."""
    state = torch.tensor([3])
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda device: state)
    restored = []
    monkeypatch.setattr(
        torch.mps, "set_rng_state", lambda state, device: restored.append((state, device))
    )
    before = torch.get_rng_state()
    device = torch.device("mps")
    with global_streams_kept(device):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert restored == [(state, device)]
    with global_streams_kept(torch.device("meta")):  # has none
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_seeds_the_streams_of_its_device(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.mps, "manual_seed", seeded.append)
    with global_streams_kept(torch.device("cpu")):
        seed_streams(1, 2, 0, torch.device("mps"))
        seed_streams(1, 2, 0, torch.device("meta"))
        assert seeded == [torch.default_generator.initial_seed()]
