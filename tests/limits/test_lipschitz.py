"""Lipschitz estimates against spectral norms, each other, and bad input."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from art_ext.configuration.generator import GeneratorOptions
from art_ext.core.limits import draw_latents, generator_lipschitz
from art_ext.core.limits.neighbours import Neighbourhood
from art_ext.data import load_data
from art_ext.training.generators.loop import train_generator
from tests.toys import small_generator

FEATURES = 784
ESTIMATORS = ("sampled", "spectral", "ascent")


class Linear(nn.Module):
    """g(z, y) = A_y z, with a matrix of its own for each class."""

    def __init__(self, latent_dim, num_classes=1, features=FEATURES):
        super().__init__()
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        shape = (num_classes, features, latent_dim)
        stream = torch.Generator().manual_seed(latent_dim)
        self.register_buffer("matrices", torch.randn(shape, generator=stream) / features**0.5)
        self.register_buffer("onehot", torch.eye(num_classes))

    @property
    def norms(self):
        return torch.linalg.matrix_norm(self.matrices.double(), 2)

    def forward(self, z, y):
        if self.num_classes == 1:
            return z @ self.matrices[0].T
        return torch.einsum("cdk,nk,nc->nd", self.matrices, z, self.onehot[y])


class Rowwise(nn.Module):
    """A smooth generator whose rows do not change a bit with their neighbours in a batch."""

    latent_dim = 5
    num_classes = 3

    def __init__(self):
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(12, 5, generator=stream))

    def forward(self, z, y):
        return torch.sin((z[:, None] * self.weight).sum(-1) + y[:, None]) / 2 + 0.5


def linear_estimate(latent_dim, **arguments):
    """Local constants of a linear generator over its spectral norm."""
    generator = Linear(latent_dim)
    found = generator_lipschitz(generator, image_range=None, **arguments)
    return found.local[0, 0].double() / generator.norms[0], found


@functools.lru_cache(maxsize=2)
def digits_generator(epochs, width):
    options = GeneratorOptions(epochs=epochs, width=width, latent_dim=16, seed=0, device="cpu")
    return train_generator(load_data("digits", split="train"), options).generator.eval()


def jacobian_norms(generator, label, count, seed=0):
    """Spectral norms of the explicit Jacobians at the latents of the estimators."""
    index = torch.arange(count)
    y = torch.full_like(index, label)
    z = draw_latents(generator.latent_dim, y, index, seed)

    def image(one, kind):
        return generator(one[None], kind[None])[0].flatten()

    with torch.no_grad():
        explicit = torch.func.vmap(torch.func.jacrev(image))(z, y)
    return torch.linalg.matrix_norm(explicit.double(), 2)


@pytest.mark.parametrize(("latent_dim", "least"), [(4, 0.99), (16, 0.90), (100, 0)])
def test_sampled_is_below_the_spectral_norm(latent_dim, least):
    ball, found = linear_estimate(latent_dim, num_latents=20)
    assert float(ball.max()) <= 1 + 1e-5
    assert float(ball.min()) >= least
    if latent_dim == 100:  # a random direction is far from the one that matters
        assert float(ball.max()) < 0.9
    assert found.rows.tolist() == [20 * 2001]
    assert found.backward_rows.tolist() == [0]
    assert found.residual is None
    assert found.differentiation is None
    orthant, _ = linear_estimate(latent_dim, num_latents=20, neighbours="orthant")
    assert float(orthant.mean()) <= float(ball.mean())


@pytest.mark.parametrize("latent_dim", [4, 16, 100])
@pytest.mark.parametrize(("num_iterations", "least"), [(20, 0.97), (500, 1 - 1e-4)])
def test_spectral_reaches_the_spectral_norm(latent_dim, num_iterations, least):
    ratios, found = linear_estimate(
        latent_dim, estimator="spectral", num_latents=20, num_iterations=num_iterations
    )
    assert float(ratios.max()) <= 1 + 1e-5
    assert float(ratios.mean()) >= least
    assert float(found.residual.max()) < (0.1 if num_iterations == 20 else 1e-3)
    assert found.differentiation == "torch.func"
    # d + 1 iterations span all latents
    products = 2 * min(num_iterations, latent_dim + 1) + 1
    assert found.rows.tolist() == [20 * 2]
    assert found.backward_rows.tolist() == [20 * products]


def test_one_iteration_measures_a_random_direction():
    ratios, found = linear_estimate(16, estimator="spectral", num_latents=20, num_iterations=1)
    assert 0.3 < float(ratios.min()) < float(ratios.max()) < 1
    assert float(found.residual.min()) > 0.01


def test_equal_singular_values_end_the_search_early():
    generator = Linear(8, features=20)
    generator.matrices = torch.linalg.qr(generator.matrices)[0]
    found = generator_lipschitz(generator, estimator="spectral", image_range=None, num_latents=9)
    torch.testing.assert_close(found.local, torch.ones(1, 1, 9), atol=1e-5, rtol=0)
    assert float(found.residual.max()) < 1e-5


def test_a_jacobian_of_rank_one():
    generator = Linear(8, features=20)
    generator.matrices = generator.matrices * torch.eye(8)[2]
    found = generator_lipschitz(generator, estimator="spectral", image_range=None, num_latents=9)
    expected = generator.norms.float().expand(1, 1, 9)
    torch.testing.assert_close(found.local, expected, atol=0, rtol=1e-5)


@pytest.mark.parametrize(
    ("epochs", "width"), [(4, 8), pytest.param(120, 32, marks=pytest.mark.slow)]
)
def test_spectral_equals_the_norm_of_the_explicit_jacobian(epochs, width):
    generator = digits_generator(epochs, width)
    for label in (0, 7):
        found = generator_lipschitz(
            generator, classes=[label], estimator="spectral", num_latents=50, num_iterations=100
        )
        norms = jacobian_norms(generator, label, 50)
        torch.testing.assert_close(found.local[0, 0].double(), norms, atol=0, rtol=1e-3)


def test_ascent_is_at_least_the_others():
    generator = digits_generator(4, 8)
    arguments = {"classes": [1, 4], "num_latents": 12, "num_neighbours": 60}
    sampled, spectral, ascent = (
        generator_lipschitz(generator, estimator=name, **arguments) for name in ESTIMATORS
    )
    assert bool((ascent.local >= torch.maximum(sampled.local, spectral.local) - 1e-4).all())
    # the ratio of two points says more than the slope at one
    assert float((ascent.local / spectral.local).mean()) > 1.01
    assert torch.equal(ascent.residual, spectral.residual)
    for name in ("rows", "backward_rows"):
        steps = {"rows": 2 * 30 + 3, "backward_rows": 2 * 30 + 2}[name]
        others = getattr(sampled, name) + getattr(spectral, name)
        assert torch.equal(getattr(ascent, name), others + 12 * steps)


def test_ascent_finds_a_ratio_that_is_no_slope():
    """g(z) = z^3 has slope 3 z^2. The ratio within r is z^2 + z z' + z'^2 at |z'| = |z| + r."""

    class Cube(nn.Module):
        latent_dim = 1
        num_classes = 1

        def forward(self, z, y):
            return z**3

    found = generator_lipschitz(
        Cube(), estimator="ascent", image_range=None, num_latents=20, num_neighbours=10
    )
    z = draw_latents(1, torch.zeros(20, dtype=torch.int64), torch.arange(20), 0).abs().flatten()
    expected = z**2 + z * (z + 0.5) + (z + 0.5) ** 2
    torch.testing.assert_close(found.local[0, 0], expected, atol=1e-3, rtol=1e-3)


def test_neighbours_fill_the_ball_or_its_positive_orthant():
    z = torch.randn(2, 3)
    numbers = torch.arange(20_000)
    ball = Neighbourhood(0.5, "ball", len(numbers), seed=0).offsets(z, numbers)
    orthant = Neighbourhood(0.5, "orthant", len(numbers), seed=0).offsets(z, numbers)
    assert not torch.equal(ball[0], ball[1])
    for offsets in (ball, orthant):
        lengths = offsets.norm(dim=2)
        assert float(lengths.max()) <= 0.5 + 1e-6
        # the share of the volume within half the radius
        assert float((lengths < 0.25).float().mean()) == pytest.approx(1 / 8, abs=0.01)
    assert bool((orthant >= 0).all())
    torch.testing.assert_close(ball.mean(dim=1), torch.zeros(2, 3), atol=0.01, rtol=0)
    # chunks of numbers do not change the draws
    parts = [
        Neighbourhood(0.5, "ball", 9, seed=0).offsets(z[1:], some) for some in numbers.split(7001)
    ]
    assert torch.equal(torch.cat(parts, dim=1), ball[1:])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_values_do_not_depend_on_blocks_and_order(estimator):
    arguments = {"estimator": estimator, "num_latents": 3, "num_neighbours": 20, "num_steps": 5}
    for generator, tolerance in ((Rowwise(), 0), (small_generator(num_classes=3), 1e-5)):
        whole = generator_lipschitz(generator, classes=[0, 2], **arguments)
        one_by_one = generator_lipschitz(generator, classes=[2, 0], memory_mb=1e-6, **arguments)
        assert whole.classes == (0, 2)
        torch.testing.assert_close(
            whole.local, one_by_one.local.flip(0), atol=tolerance, rtol=tolerance
        )
        assert torch.equal(whole.rows, one_by_one.rows.flip(0))
        more = generator_lipschitz(generator, classes=[2], **{**arguments, "num_latents": 5})
        torch.testing.assert_close(
            more.local[0, :, :3], whole.local[1], atol=tolerance, rtol=tolerance
        )


def test_classes_have_their_own_constants():
    generator = Linear(4, num_classes=3)
    found = generator_lipschitz(
        generator, classes=[2, 0], estimator="spectral", image_range=None, num_latents=3
    )
    torch.testing.assert_close(found.value, generator.norms[[2, 0]], atol=0, rtol=1e-5)


@pytest.mark.parametrize(
    ("delta", "rank"), [(0.001, 1000), (0.002, 999), (0.01, 991), (0.3, 701), (0, 1001)]
)
def test_the_value_is_an_order_statistic(delta, rank):
    found = generator_lipschitz(
        Rowwise(), classes=[1], num_latents=1001, num_neighbours=2, delta=delta
    )
    assert found.rank == rank
    assert found.is_largest == (rank == 1001)
    assert float(found.value) == float(found.local[0, 0].sort().values[rank - 1])


@pytest.mark.parametrize(("delta", "largest"), [(0.001, False), (0.0009, True)])
def test_a_thousand_latents_and_a_small_delta(delta, largest):
    found = generator_lipschitz(
        Rowwise(), classes=[0], num_latents=1000, num_neighbours=1, delta=delta
    )
    assert found.rank == (1000 if largest else 999)
    assert found.is_largest == largest


def test_repeats_have_latents_of_their_own():
    arguments = {"estimator": "sampled", "num_neighbours": 20, "classes": [1]}
    found = generator_lipschitz(Rowwise(), num_latents=5, repeats=3, **arguments)
    assert found.local.shape == (1, 3, 5)
    once = generator_lipschitz(Rowwise(), num_latents=15, **arguments)
    assert torch.equal(found.local.flatten(), once.local.flatten())
    assert torch.equal(found.repeats[0], found.local[0].amax(dim=1).double())
    assert float(found.value) == pytest.approx(float(found.repeats.mean()))
    assert float(found.deviation) == pytest.approx(float(found.repeats.std()))
    assert math.isnan(float(once.deviation))


def test_a_fresh_seed_is_told():
    arguments = {"classes": [0], "num_latents": 4, "num_neighbours": 5}
    fresh, other = (generator_lipschitz(Rowwise(), seed=None, **arguments) for _ in range(2))
    assert fresh.seed != other.seed
    again = generator_lipschitz(Rowwise(), seed=fresh.seed, **arguments)
    assert torch.equal(again.local, fresh.local)


class Signed(nn.Module):
    latent_dim = 5
    num_classes = 3

    def __init__(self):
        super().__init__()
        self.inner = Rowwise()

    def forward(self, z, y):
        return 2 * self.inner(z, y) - 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_tanh_generator_has_half_the_constant(estimator):
    arguments = {"estimator": estimator, "num_latents": 6, "num_neighbours": 20}
    mapped = generator_lipschitz(Signed(), image_range=(-1, 1), **arguments)
    raw = generator_lipschitz(Signed(), image_range=(-1, 1), lipschitz_units="raw", **arguments)
    unmapped = generator_lipschitz(Signed(), image_range=None, **arguments)
    torch.testing.assert_close(mapped.local * 2, raw.local, atol=0, rtol=1e-6)
    torch.testing.assert_close(raw.local, unmapped.local, atol=0, rtol=1e-4)
    with pytest.raises(ValueError, match=r"image_range=\(-1, 1\)"):
        generator_lipschitz(Signed(), **arguments)


class OldFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clone()


class Changed(nn.Module):
    """A small generator whose latents pass through a function first."""

    latent_dim = 4
    num_classes = 10

    def __init__(self, change):
        super().__init__()
        self.inner = small_generator()
        self.change = change

    def forward(self, z, y):
        return self.inner(self.change(z), y)


def written_in_place(z):
    rows = torch.zeros_like(z)
    rows[:] = z
    return nn.functional.relu(rows + 10, inplace=True) - 10


def branching(z):
    return z.clone() if float(z.detach().sum()) > 0 else z * 1.0


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (OldFunction.apply, "double backward"),
        (written_in_place, "torch.func"),
        (branching, "torch.func"),
    ],
)
def test_generators_that_are_hard_to_differentiate(change, how):
    arguments = {"classes": [3], "estimator": "spectral", "num_latents": 6}
    plain = generator_lipschitz(small_generator(), **arguments)
    found = generator_lipschitz(Changed(change), **arguments)
    assert found.differentiation == how
    torch.testing.assert_close(found.local, plain.local, atol=0, rtol=1e-4)


def test_rows_are_those_that_a_hook_counts():
    for estimator in ESTIMATORS:
        generator = small_generator()
        counted = []
        generator.register_forward_hook(
            lambda module, given, images, counted=counted: counted.append(len(images))
        )
        found = generator_lipschitz(
            generator, classes=[0, 5], estimator=estimator, num_latents=3, num_neighbours=40
        )
        assert sum(counted) == int(found.rows.sum()) + found.probe_rows


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("num_neighbours", [1, 700])
def test_no_call_is_larger_than_the_memory_allows(estimator, num_neighbours):
    generator = small_generator(num_classes=2)
    counted = []
    generator.register_forward_hook(lambda module, given, images: counted.append(len(images)))
    generator_lipschitz(
        generator,
        classes=[0],
        estimator=estimator,
        num_latents=40,
        num_neighbours=num_neighbours,
        num_iterations=2,
        num_steps=1,
        memory_mb=0.1,
    )
    after_probes = counted[3:]
    image = 64 * 4  # bytes
    assert 5 < max(after_probes) <= 0.1 * 2**20 / image / 6


def test_a_generator_keeps_its_modes():
    generator = small_generator().train()
    generator_lipschitz(generator, classes=[0], num_latents=2, num_neighbours=2)
    assert generator.training
    assert all(one.requires_grad for one in generator.parameters())


class Root(nn.Module):
    """A generator whose slope is infinite at 0, and whose images are 0 for half of the latents."""

    latent_dim = 2
    num_classes = 1

    def forward(self, z, y):
        return z.clamp_min(0).sqrt() * torch.where(z < 0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("generator", "arguments", "message"),
    [
        (Rowwise(), {"estimator": "spectrum"}, "did you mean 'spectral'"),
        (Rowwise(), {"neighbours": "sphere"}, "'ball', 'orthant', got 'sphere'"),
        (Rowwise(), {"lipschitz_units": "pixels"}, "'mapped', 'raw', got 'pixels'"),
        (Rowwise(), {"radius": 0}, "radius must be > 0, got 0"),
        (Rowwise(), {"radius": math.nan}, "radius must be > 0, got nan"),
        (Rowwise(), {"delta": 1}, r"delta must lie in \[0, 1\), got 1"),
        (Rowwise(), {"num_latents": 0}, "num_latents must be an integer >= 1, got 0"),
        (Rowwise(), {"num_neighbours": 2.5}, "num_neighbours must be an integer >= 1, got 2.5"),
        (Rowwise(), {"repeats": True}, "repeats must be an integer >= 1, got True"),
        (Rowwise(), {"memory_mb": -1}, "memory_mb must be > 0, got -1"),
        (Rowwise(), {"classes": [0, 3]}, "among the generator's, 0 to 2, got 3"),
        (Rowwise(), {"classes": [1, 1]}, r"each once, got \(1, 1\)"),
        (Rowwise(), {"classes": []}, "at least one class"),
        (Rowwise(), {"classes": [0.5]}, "a class must be an integer >= 0, got 0.5"),
        (Changed(lambda z: z.detach()), {"estimator": "spectral"}, "latents through autograd"),
        (
            Changed(lambda z: torch.from_numpy(z.detach().numpy().copy())),
            {"estimator": "ascent"},
            "differentiable in its latents, got RuntimeError.*estimator='sampled'",
        ),
        (
            Root(),
            {"estimator": "spectral", "image_range": None},
            "local constants must be finite, got NaN or infinity at [1-9] of 9 latents of class 0",
        ),
    ],
)
def test_bad_input(generator, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        generator_lipschitz(generator, **{"num_latents": 9, "num_neighbours": 2, **arguments})
    assert "\n" not in str(caught.value)


def test_a_misspelt_keyword_names_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'num_neighbours'"):
        generator_lipschitz(Rowwise(), num_neighbors=3)
