"""The change of variable that removes a box: there and back, and its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian

from art_ext.core.attacks.engine.tanh_space import TanhSpace

LOW, HIGH = torch.tensor([-1.0, 0.0, 0.25, -3.0]), torch.tensor([1.0, 1.0, 0.5, 0.0])
BOXES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (LOW, HIGH)]


def bounds(low, high):
    """(4,) each."""
    return torch.as_tensor(low).expand(4), torch.as_tensor(high).expand(4)


def points(low, high, count=50):
    """(count, 4) points of the box, the first two its corners."""
    low, high = bounds(low, high)
    share = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    share[0], share[1] = 0.0, 1.0
    return torch.clamp(low + (high - low) * share, low, high)


@pytest.mark.parametrize("box", BOXES, ids=str)
class TestBoxes:
    def test_there_and_back(self, box):
        """Edges and inside: off by at most a millionth of half the width."""
        x, space = points(*box), TanhSpace(*box)
        low, high = bounds(*box)
        u = space.inverse(x)
        assert bool(u.isfinite().all())
        assert bool(((space.image(u) - x).abs() <= 1e-6 * (high - low) / 2).all())

    def test_every_image_lies_in_the_box(self, box):
        low, high = bounds(*box)
        u = torch.linspace(-40, 40, 801).unsqueeze(1).expand(-1, 4)
        image = TanhSpace(*box).image(u)
        assert bool(((image >= low) & (image <= high)).all())
        torch.testing.assert_close(image[-1], high, rtol=0, atol=0)
        torch.testing.assert_close(image[400], (low + high) / 2)

    def test_slope_and_curvature_are_what_autograd_finds(self, box):
        space = TanhSpace(*(torch.as_tensor(bound, dtype=torch.float64) for bound in box))
        u = torch.linspace(-3, 3, 13, dtype=torch.float64).unsqueeze(1).expand(-1, 4)

        def derivative(function):
            """(13, 4) of an elementwise function."""
            whole = jacobian(lambda u: function(u).sum(dim=0), u)  # (4, 13, 4)
            return whole.diagonal(dim1=0, dim2=2)

        torch.testing.assert_close(space.slope(u), derivative(space.image))
        torch.testing.assert_close(space.curvature(u), derivative(space.slope))


def test_order_is_kept_up_to_the_edges():
    """Neighbouring values stay apart: eight bits of grey come back as they were."""
    grey = torch.arange(256).unsqueeze(1) / 255
    back = TanhSpace(0.0, 1.0).image(TanhSpace(0.0, 1.0).inverse(grey))
    assert torch.equal((back * 255).round(), grey * 255)
    assert bool((back.diff(dim=0) > 0).all())
