"""The spaces of a zeroth order attack: scaling up, its transpose, and the shares of the draws."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks.engine.attack_space import Coordinates, ScaledImage

SHAPES = [
    ((1, 8, 8), 4),
    ((3, 12, 12), 12),
    ((3, 12, 20), 7),
    ((2, 9, 6), 1),
    ((1, 28, 28), 14),
    ((3, 33, 20), 8),
]
CPU = torch.device("cpu")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(shape):
    return shape[0] * shape[1] * shape[2]


def matrix(space, shape):
    """(D, size) the weights of D, from D of every unit vector; in float64."""
    return space.scale_up(torch.eye(space.size)).T.double()


class TestCoordinates:
    def test_it_is_the_identity(self):
        space, y = Coordinates(6), noise(3, 6)
        for same in (space.scale_up, space.transposed, space.transposed_squared):
            assert torch.equal(same(y), y)

    def test_an_amount_is_added_at_one_coordinate(self):
        rows = torch.zeros(3, 6)
        assert (
            Coordinates(6).add_(rows, torch.tensor([0, 5, 2]), torch.tensor([1.0, -2.0, 0.5]))
            is rows
        )
        assert rows.nonzero().tolist() == [[0, 0], [1, 5], [2, 2]]
        assert rows[rows != 0].tolist() == [1.0, -2.0, 0.5]

    def test_it_does_not_grow(self):
        with pytest.raises(RuntimeError, match="does not grow"):
            Coordinates(6).to_size(noise(1, 6), ScaledImage((1, 8, 8), 4, CPU))


@pytest.mark.parametrize(("shape", "side"), SHAPES, ids=str)
class TestScaledImage:
    def test_it_scales_up_as_torch_does(self, shape, side):
        space = ScaledImage(shape, side, CPU)
        y = noise(4, space.size)
        wanted = functional.interpolate(
            y.view(4, shape[0], side, side), size=shape[1:], mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(space.scale_up(y), wanted.flatten(1))
        assert space.size == shape[0] * side * side

    def test_a_constant_stays_constant(self, shape, side):
        space = ScaledImage(shape, side, CPU)
        torch.testing.assert_close(
            space.scale_up(torch.full((1, space.size), 0.3)), torch.full((1, features(shape)), 0.3)
        )

    def test_a_bump_is_a_unit_vector_scaled_up(self, shape, side):
        space = ScaledImage(shape, side, CPU)
        base, amount = noise(space.size, features(shape)), noise(space.size, seed=1)
        rows = base.clone()
        assert space.add_(rows, torch.arange(space.size), amount) is rows
        torch.testing.assert_close(rows, base + space.scale_up(torch.diag(amount)))

    def test_pixels_that_a_bump_does_not_reach_keep_their_bits(self, shape, side):
        space = ScaledImage(shape, side, CPU)
        base = noise(space.size, features(shape))
        rows = space.add_(base.clone(), torch.arange(space.size), torch.ones(space.size))
        outside = matrix(space, shape).T == 0
        assert torch.equal(rows[outside], base[outside])

    def test_the_transpose_is_the_adjoint(self, shape, side):
        """<D y, z> = <y, D^T z>."""
        space = ScaledImage(shape, side, CPU)
        y, z = noise(5, space.size), noise(5, features(shape), seed=1)
        left = (space.scale_up(y).double() * z).sum(1)
        torch.testing.assert_close(
            left, (y.double() * space.transposed(z)).sum(1), rtol=1e-4, atol=1e-3
        )

    def test_the_squared_transpose_is_a_diagonal(self, shape, side):
        """diag(D^T diag(b) D), also for a negative b."""
        space = ScaledImage(shape, side, CPU)
        bend, weights = noise(3, features(shape)), matrix(space, shape)
        wanted = torch.stack(
            [(weights.T @ torch.diag(one.double()) @ weights).diagonal() for one in bend]
        )
        torch.testing.assert_close(
            space.transposed_squared(bend).double(), wanted, rtol=1e-4, atol=1e-4
        )

    def test_a_row_does_not_depend_on_its_neighbours(self, shape, side):
        space = ScaledImage(shape, side, CPU)
        y, z = noise(9, space.size), noise(9, features(shape))
        for function, rows in (
            (space.scale_up, y),
            (space.transposed, z),
            (space.transposed_squared, z),
        ):
            for chosen in ([8, 3, 0], [1], [5, 4, 3, 2]):
                assert torch.equal(function(rows[chosen]), function(rows)[chosen]), (
                    function.__name__
                )


class TestGrowth:
    SMALL, LARGE = ScaledImage((3, 32, 32), 10, CPU), ScaledImage((3, 32, 32), 25, CPU)

    def test_noise_is_carried_over_bilinearly(self):
        y = noise(4, self.SMALL.size)
        wanted = functional.interpolate(
            y.view(4, 3, 10, 10), size=25, mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(self.SMALL.to_size(y, self.LARGE), wanted.flatten(1))

    def test_a_constant_change_of_the_image_stays_what_it_is(self):
        y = torch.full((1, self.SMALL.size), -0.2)
        torch.testing.assert_close(
            self.LARGE.scale_up(self.SMALL.to_size(y, self.LARGE)), self.SMALL.scale_up(y)
        )

    def test_shares_sum_to_one(self):
        shares = self.SMALL.importance(noise(4, self.SMALL.size), self.LARGE)
        assert shares.shape == (4, self.LARGE.size)
        assert bool((shares >= 0).all())
        torch.testing.assert_close(shares.sum(1), torch.ones(4))

    def test_shares_sum_to_one_where_nothing_has_changed_yet(self):
        """There every coordinate is as good as any other."""
        shares = self.SMALL.importance(torch.zeros(2, self.SMALL.size), self.LARGE)
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / self.LARGE.size))

    def test_shares_follow_the_largest_change_of_a_region(self):
        """Side 16: regions of 2 x 2 pixels; each becomes 4 x 4 at side 32, in its own channel."""
        small, large = ScaledImage((2, 32, 32), 16, CPU), ScaledImage((2, 32, 32), 32, CPU)
        y = torch.zeros(2, 16, 16)
        y[0, 4:6, 6:8] = torch.tensor([[0.1, -3.0], [0.2, 0.3]])  # the size counts, not the sign
        y[1, 15, 0] = 1.0
        shares = small.importance(y.view(1, -1), large).view(2, 32, 32)
        wanted = torch.zeros(2, 32, 32)
        wanted[0, 8:12, 12:16] = 3.0
        wanted[1, 28:32, 0:4] = 1.0
        torch.testing.assert_close(shares, wanted / wanted.sum())

    def test_a_side_below_eight_has_a_region_for_every_pixel(self):
        small = ScaledImage((1, 8, 8), 2, CPU)
        shares = small.importance(torch.tensor([[1.0, -2.0, 0.0, 5.0]]), small)
        torch.testing.assert_close(shares, torch.tensor([[1.0, 2.0, 0.0, 5.0]]) / 8)
