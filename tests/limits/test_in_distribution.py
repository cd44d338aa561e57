"""The in-distribution attack: closed forms on linear generators, starts, counts, and bad input."""

from __future__ import annotations

import copy
import math
import pickle
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.torchattacks import make as make_torchattacks
from art_ext.attacks import make as make_art
from art_ext.core.attacks import cw, in_distribution, registry
from art_ext.core.limits import draw_latents, not_represented
from art_ext.core.metrics import transfer_matrix
from art_ext.core.result import AttackResult
from art_ext.models.generators import ConditionalGenerator
from art_ext.testing import check_attack
from art_ext.testing.toy import NearestMean
from art_ext.training.fixed_set import fixed_set
from tests.toys import Counting, Sines, compare, permuted

NORMAL = NormalDist()
WIDE: dict[str, Any] = {"clip_values": (-100.0, 100.0), "image_range": None}
QUICK: dict[str, Any] = {
    "num_steps": 12,
    "search_steps": 3,
    "step_size": 0.1,
    "num_restarts": 2,
    "init_steps": 30,
    "init_step_size": 0.1,
    "seed": 5,
}
START = {"num_restarts": 1, "init_steps": 150, "init_step_size": 0.1, "seed": 0}


class LinearGenerator(nn.Module):
    """``A z``, for every class."""

    num_classes = 2

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)
        self.latent_dim = matrix.shape[1]

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return z @ self.matrix.T


class HalfSpace(nn.Module):
    """Two classes: class 1 where ``<w, x> >= b``, with the margin ``<w, x> - b``."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.weight - self.bias
        return torch.stack([-score / 2, score / 2], dim=1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sines(count: int = 10) -> tuple[Sines, Tensor, Tensor, Tensor]:
    """A generator that computes row by row, latents, their images, and classes that a model says.

    The last two images belong to another class than the model says.
    """
    generator = Sines((1, 8, 8), 10)
    latents = random(count, 64, seed=3)
    with torch.no_grad():
        x = generator(latents, torch.zeros(count, dtype=torch.int64))
    y = NearestMean()(x).argmax(1)
    y[-2:] = (y[-2:] + 1) % 10
    return generator, latents, x, y


def convolutional() -> ConditionalGenerator:
    """A generator of digits with random weights and statistics of BatchNorm, in train mode."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        generator = ConditionalGenerator(8, 6)
        generator.train()
        for _ in range(8):  # moves the statistics
            generator(torch.randn(64, 6), torch.randint(0, 10, (64,)))
    return generator


# --- closed forms ---


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(
    "dimension", [pytest.param(5, id="d5"), pytest.param(50, id="d50", marks=pytest.mark.slow)]
)
def test_a_half_space_is_reached_if_and_only_if_it_lies_within_eps(dimension, alpha):
    matrix = torch.linalg.qr(random(2 * dimension, dimension))[0]
    normal = nn.functional.normalize(random(dimension, seed=1), dim=0)
    latents = random(500, dimension, seed=2)
    x = latents @ matrix.T
    threshold = NORMAL.inv_cdf(1 - alpha)
    model = HalfSpace(matrix @ normal, threshold)
    distance = (threshold - latents @ normal).clamp(min=0)
    result = in_distribution(
        model,
        LinearGenerator(matrix),
        x,
        torch.zeros(500, dtype=torch.int64),
        latents=latents,
        initialisation="given",
        num_steps=100,
        search_steps=4,
        step_size=0.03,
        initial_const=3.0,
        **WIDE,
    )
    for eps in (0.5, 1.0, 2.0):
        agree = (result.nearest_distance <= eps + 1e-6) == (distance <= eps)
        assert float(agree.float().mean()) >= 0.98
    assert bool((result.nearest_distance >= distance - 1e-5).all())


@pytest.mark.parametrize(
    ("dimension", "features", "scale"),
    [(8, 30, 0.5), pytest.param(16, 64, 0.2, marks=pytest.mark.slow)],
)
def test_a_linear_decoder_is_attacked_to_its_closed_form(dimension, features, scale):
    matrix = scale * random(features, dimension, seed=3)
    weight = random(features, seed=4)
    x = random(200, dimension, seed=5) @ matrix.T
    score = x @ weight
    bias = float(score.quantile(0.9))
    y = torch.zeros(200, dtype=torch.int64)
    model = HalfSpace(weight, bias)
    basis = torch.linalg.qr(matrix)[0]
    gap = (bias - score).clamp(min=0)
    distance = gap / (basis.T @ weight).norm()
    result = in_distribution(
        model,
        LinearGenerator(matrix),
        x,
        y,
        initialisation="optimise",
        num_steps=300,
        search_steps=4,
        step_size=0.03,
        **START,
        **WIDE,
    )
    right = gap > 0
    ratio = (result.nearest_distance / distance)[right]
    assert float((ratio <= 1.02).float().mean()) >= 0.95
    assert float(ratio.min()) >= 1 - 1e-5
    unconstrained = gap / weight.norm()
    assert bool((unconstrained <= result.nearest_distance + 1e-5).all())


def test_no_image_of_the_generator_is_nearer_than_the_nearest_adversarial(digits, digits_net):
    """C&W may leave the generator's images, and ends no farther away."""
    generator = convolutional().eval()
    y = digits_net(digits[0]).argmax(1)[:16]
    z = draw_latents(6, y, torch.arange(16), 0)
    with torch.no_grad():
        x = generator(z, y)
    y = digits_net(x).argmax(1)
    options = {"num_steps": 60, "search_steps": 4, "initial_const": 1.0}
    bound = in_distribution(
        digits_net, generator, x, y, step_size=0.05, init_steps=40, seed=0, **options
    )
    free = cw(digits_net, x, y, step_size=0.05, **options)
    assert bool(free.success.all())
    assert bool((free.nearest_distance <= bound.nearest_distance + 0.02).all())


# --- what is returned ---


@pytest.fixture(scope="module")
def attacked() -> tuple[AttackResult, ConditionalGenerator, Tensor, Tensor]:
    """An attack from both starts on a convolutional generator."""
    generator = convolutional()
    y = torch.arange(24) % 10
    z = draw_latents(6, y, torch.arange(24), 1)
    with torch.no_grad():
        x = copy.deepcopy(generator).eval()(z, y)
    options = {**QUICK, "num_steps": 60}
    result = in_distribution(NearestMean(), generator, x, y, latents=z, **options)
    return result, generator, x, y


def test_adversarials_are_images_of_their_latents(attacked):
    result, generator, x, y = attacked
    found = result.success & ~result.already_adversarial
    assert int(found.sum()) >= 3
    with torch.no_grad():
        images = generator.eval()(result.latents[found], y[found])
    torch.testing.assert_close(images, result.x_adv[found], rtol=0, atol=1e-6)
    assert bool((NearestMean()(result.x_adv[found]).argmax(1) != y[found]).all())
    torch.testing.assert_close(
        (result.x_adv - x).flatten(1).norm(dim=1)[found], result.distance[found], rtol=0, atol=1e-5
    )
    assert bool(result.latents[~result.success].isnan().all())


def test_row_by_row_the_images_are_equal_bit_by_bit():
    generator, latents, x, y = sines()
    result = in_distribution(NearestMean(), generator, x, y, latents=latents, **QUICK)
    found = result.success & ~result.already_adversarial
    assert int(found.sum()) == 8
    assert torch.equal(generator(result.latents, y)[found], result.x_adv[found])
    assert torch.equal(result.x_adv[found], result.x_nearest[found])
    assert torch.equal(result.value[found], result.distance[found])


def test_the_distance_never_grows_from_search_to_search(attacked):
    values = attacked[0].trace["value"]
    values = values[:, ~attacked[0].already_adversarial]
    for half in values.split(QUICK["search_steps"]):
        known = half[:, half.isfinite().all(dim=0)]
        assert known.shape[1] >= 3
        assert bool((known[1:] <= known[:-1]).all())
    assert values.shape[0] == 2 * QUICK["search_steps"]


def test_given_latents_start_at_distance_zero():
    generator, latents, x, y = sines()
    result = in_distribution(
        NearestMean(), generator, x, y, latents=latents, initialisation="given", **QUICK
    )
    assert result.start_distance[:8].tolist() == [0.0] * 8
    assert bool(result.start_distance[8:].isnan().all()), "misclassified samples do not start"
    assert torch.equal(result.latents[8:], latents[8:])
    assert not bool(not_represented(result, 0.1).any())


def test_both_is_the_minimum_of_each_sample():
    generator, latents, x, y = sines()
    both, given, optimised = (
        in_distribution(
            NearestMean(), generator, x, y, latents=latents, initialisation=kind, **QUICK
        )
        for kind in ("both", "given", "optimise")
    )
    nearest = torch.minimum(given.nearest_distance, optimised.nearest_distance)
    assert torch.equal(both.nearest_distance, nearest)
    assert not torch.equal(given.nearest_distance, optimised.nearest_distance)
    assert torch.equal(both.start_distance[:8], torch.zeros(8))
    assert bool((optimised.start_distance[:8] > 0).all())
    # the clean check is made once
    assert torch.equal(both.queries, given.queries + optimised.queries - 1)
    assert torch.equal(both.gradients[:8], (given.gradients + optimised.gradients - 1)[:8])
    assert torch.equal(both.generator_rows, given.generator_rows + optimised.generator_rows)
    for name, values in both.trace.items():
        steps = torch.cat([given.trace[name], optimised.trace[name]])
        known = steps[: QUICK["search_steps"]]
        assert torch.equal(values[: QUICK["search_steps"], :8], known[:, :8]), name


def test_a_row_of_nan_is_a_sample_without_latents():
    generator, latents, x, y = sines()
    some = latents.clone()
    some[1::2] = torch.nan
    mixed = in_distribution(NearestMean(), generator, x, y, latents=some, **QUICK)
    for places, known in ((slice(0, 8, 2), latents), (slice(1, 8, 2), None)):
        alone = in_distribution(
            NearestMean(),
            generator,
            x[places],
            y[places],
            latents=None if known is None else known[places],
            **QUICK,
        )
        assert torch.equal(mixed.nearest_distance[places], alone.nearest_distance)
        assert torch.equal(mixed.queries[places], alone.queries)
    assert bool(mixed.trace["const"][:3, 1].isnan().all())


def test_without_latents_both_is_optimise():
    generator, _, x, y = sines()
    both, optimised = (
        in_distribution(NearestMean(), generator, x, y, initialisation=kind, **QUICK)
        for kind in ("both", "optimise")
    )
    compare(both, optimised)


@pytest.mark.parametrize("known", [True, False])
def test_neighbours_order_and_batches_change_nothing(known):
    generator, latents, x, y = sines()
    if known:
        latents[4] = torch.nan

    def run(places: Tensor, **options: Any) -> AttackResult:
        given = latents[places] if known else None
        return in_distribution(
            NearestMean(), generator, x[places], y[places], latents=given, **QUICK, **options
        )

    whole = run(torch.arange(10))
    order = torch.tensor([7, 2, 9, 4, 0])
    compare(run(order), permuted(whole, order))
    for size in (3, 7):
        compare(run(torch.arange(10), batch_size=size), whole)
    halves = AttackResult.cat([run(torch.arange(4)), run(torch.arange(4, 10))])
    compare(halves, whole)


def test_padded_calls_make_batches_of_networks_equal_bit_by_bit(digits_net):
    generator = convolutional().eval()
    y = torch.arange(19) % 10
    with torch.no_grad():
        x = generator(draw_latents(6, y, torch.arange(19), 1), y)
    y = digits_net(x).argmax(1)
    one, other = (
        in_distribution(digits_net, generator, x, y, pad_rows=8, batch_size=size, **QUICK)
        for size in (64, 8)
    )
    compare(one, other)


# --- counts ---


def test_rows_of_both_networks_are_those_of_their_hooks(digits_net):
    generator = Sines((1, 8, 8), 10)
    latents = random(12, 64, seed=3)
    x = generator(latents, torch.zeros(12, dtype=torch.int64))
    y = digits_net(x).argmax(1)
    y[0] = (y[0] + 1) % 10
    latents[3] = torch.nan
    model = Counting(digits_net)
    generator.rows = 0
    result = in_distribution(model, generator, x, y, latents=latents, batch_size=5, **QUICK)
    assert model.rows == int(result.queries.sum())
    assert model.largest <= 5
    assert model.backward_rows <= int(result.gradients.sum()) <= model.differentiated_rows
    assert generator.rows == int(result.generator_rows.sum())
    assert generator.backward_rows == int(result.generator_gradients.sum())
    assert result.queries[0] == 1
    assert result.generator_rows[0] == 1, "the check of its latents"
    iterations = result.queries - 1
    restarts, steps = QUICK["num_restarts"], QUICK["init_steps"]
    started = torch.ones(11, dtype=torch.int64)
    assert torch.equal(result.generator_gradients[1:], iterations[1:] + restarts * steps * started)
    checked = torch.tensor([i != 3 for i in range(1, 12)]).long()
    assert torch.equal(
        result.generator_rows[1:], iterations[1:] + restarts * (steps + 1) * started + checked
    )


@pytest.mark.parametrize("budget", [2, 3, 8, 31])
def test_a_budget_is_shared_evenly_between_the_starts(budget):
    generator, latents, x, y = sines(6)
    y = NearestMean()(x).argmax(1)
    options = {**QUICK, "abort_early": False, "confidence": 100.0}
    both = in_distribution(
        NearestMean(), generator, x, y, latents=latents, max_queries=budget, **options
    )
    assert both.queries.tolist() == [budget] * 6
    assert not bool(both.success.any())
    first = (budget - 1) // 2
    for kind, share in (("given", first), ("optimise", budget - 1 - first)):
        alone = in_distribution(
            NearestMean(),
            generator,
            x,
            y,
            latents=latents,
            initialisation=kind,
            max_queries=1 + share,
            **options,
        )
        assert alone.queries.tolist() == [1 + share] * 6


def test_progress_tells_of_the_end_of_each_sample_once():
    generator, latents, x, y = sines()
    latents[4] = torch.nan
    finished = torch.zeros(10, dtype=torch.int64)
    queries = torch.zeros(10, dtype=torch.int64)

    def watch(progress):
        assert not bool(finished[progress.index].any())
        finished[progress.index] += progress.finished.long()
        queries[progress.index] = progress.queries

    result = in_distribution(
        NearestMean(), generator, x, y, latents=latents, callback=watch, **QUICK
    )
    assert finished.tolist() == [1] * 10
    assert torch.equal(queries, result.queries)


# --- settings ---


class Spy(Sines):
    """Keeps the latents of each call."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8), 10)
        self.latents: list[Tensor] = []

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        self.latents.append(z.detach().clone())
        return super().forward(z, y)


@pytest.mark.parametrize("warm", [True, False])
def test_a_search_starts_anew_or_goes_on_from_the_last_latents(warm):
    _, latents, x, y = sines(1)
    generator = Spy()
    y = NearestMean()(x).argmax(1)
    options = {**QUICK, "abort_early": False, "warm_start": warm, "initialisation": "given"}
    in_distribution(NearestMean(), generator, x, y, latents=latents, **options)
    _, *visits = generator.latents  # after the check of the latents
    steps = QUICK["num_steps"]
    assert len(visits) == QUICK["search_steps"] * steps
    assert torch.equal(visits[0], latents)
    for number in range(1, QUICK["search_steps"]):
        last, begun = visits[number * steps - 1], visits[number * steps]
        assert torch.equal(begun, last if warm else latents)
        assert not torch.equal(last, latents)


def test_the_first_steps_are_adam_on_the_objective():
    """The objective and its gradient by the formula, for both forms of the distance."""
    model = NearestMean()
    generator = Spy()
    latents = random(3, 64, seed=3)
    x = generator(latents, torch.zeros(3, dtype=torch.int64)).detach()
    y = model(x).argmax(1)
    for form in ("squared", "plain"):
        generator.latents.clear()
        in_distribution(
            model,
            generator,
            x,
            y,
            latents=latents,
            initialisation="given",
            distance=form,
            initial_const=0.7,
            search_steps=1,
            num_steps=4,
            step_size=0.05,
            abort_early=False,
        )
        _, *visits = generator.latents
        z = latents.clone()
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        for t, visited in enumerate(visits, start=1):
            # 1 % of a step: Adam enlarges the rounding of gradients that are almost 0
            torch.testing.assert_close(visited, z, rtol=0, atol=5e-4)
            leaf = z.clone().requires_grad_()
            image = (leaf.sin() + 1) / 2
            scores = model(image.view(-1, 1, 8, 8))
            own = nn.functional.one_hot(y, 10).bool()
            margin = scores.masked_fill(own, -torch.inf).amax(1) - scores[own]
            length = (image - x.flatten(1)).square().sum(1)
            if form == "plain":
                length = (length + 1e-20).sqrt()
            ((length + 0.7 * (-margin).clamp(min=0)).sum()).backward()
            first = 0.9 * first + 0.1 * leaf.grad
            second = 0.999 * second + 0.001 * leaf.grad.square()
            step = first / (1 - 0.9**t) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
            z = z - 0.05 * step


def test_the_optimised_start_is_the_best_of_all_steps_and_restarts():
    _, _, x, y = sines(4)
    y = NearestMean()(x).argmax(1)
    generator = Spy()
    options = {**QUICK, "max_queries": 2, "num_restarts": 3}
    result = in_distribution(NearestMean(), generator, x, y, **options)
    assert len(generator.latents) == 3 * (QUICK["init_steps"] + 1) + 1
    *searched, visited = generator.latents
    images = torch.stack([(z.sin() + 1) / 2 for z in searched])
    distance = (images - x.flatten(1)).norm(dim=2)
    torch.testing.assert_close(distance.amin(0), result.start_distance, rtol=1e-6, atol=0)
    assert torch.equal(visited, torch.stack(searched)[distance.argmin(0), torch.arange(4)])
    fewer = in_distribution(NearestMean(), generator, x, y, **{**options, "num_restarts": 1})
    assert bool((fewer.start_distance >= result.start_distance).all())
    assert bool((fewer.start_distance > result.start_distance).any())


def test_images_are_mapped_from_their_range_to_the_box():
    generator, latents, x, y = sines()

    class Signed(Sines):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return 2 * super().forward(z, y) - 1

    class Doubled(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return NearestMean()(rows / 2 + 0.5)

    plain = in_distribution(NearestMean(), generator, x, y, latents=latents, **QUICK)
    signed = in_distribution(
        NearestMean(),
        Signed((1, 8, 8), 10),
        x,
        y,
        latents=latents,
        image_range=(-1.0, 1.0),
        **QUICK,
    )
    torch.testing.assert_close(signed.nearest_distance, plain.nearest_distance, rtol=0, atol=1e-3)
    named = {"sample_ids": torch.arange(10)}  # for the same random numbers
    plain = in_distribution(NearestMean(), generator, x, y, latents=latents, **QUICK, **named)
    boxed = in_distribution(
        Doubled(),
        generator,
        2 * x - 1,
        y,
        latents=latents,
        clip_values=(-1.0, 1.0),
        **named,
        **{**QUICK, "initial_const": 4.0},
    )
    torch.testing.assert_close(
        boxed.nearest_distance, 2 * plain.nearest_distance, rtol=1e-2, atol=1e-3
    )


def test_the_box_may_have_bounds_of_each_feature():
    generator, _, _, _ = sines()
    low = -random(1, 8, 8, seed=6).abs()
    high = random(1, 8, 8, seed=7).abs() + 0.1
    latents = random(6, 64, seed=3)
    latents[:, :5] = math.pi / 2  # at the upper edge, where rounding would leave the box
    images = generator(latents, torch.zeros(6, dtype=torch.int64)).detach()
    x = (low + images * (high - low)).clamp(low, high)
    y = NearestMean()(x).argmax(1)
    options = {**QUICK, "num_steps": 40, "clip_values": (low, high)}
    result = in_distribution(NearestMean(), generator, x, y, latents=latents, **options)
    assert result.outside is None
    assert int(result.success.sum()) >= 4
    assert bool(((result.x_adv >= low) & (result.x_adv <= high)).all())


def test_no_samples_are_no_fault():
    generator = Sines((1, 8, 8), 10)
    x = torch.rand(0, 1, 8, 8)
    result = in_distribution(
        NearestMean(), generator, x, x.new_zeros(0).long(), latents=torch.rand(0, 64), **QUICK
    )
    assert len(result) == 0
    assert result.latents.shape == (0, 64)
    assert generator.rows == 0


class Shifted(Sines):
    """Images that depend on the class too."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return super().forward(z + y.unsqueeze(1), y)


def test_the_generator_is_given_the_true_class_also_with_targets():
    generator = Shifted((1, 8, 8), 10)
    latents = random(6, 64, seed=3)
    x = generator(latents, torch.zeros(6, dtype=torch.int64)).detach()
    y = NearestMean()(x).argmax(1)
    x = generator(latents - y.unsqueeze(1), y).detach()
    given = latents - y.unsqueeze(1)
    targets = (y + 3) % 10
    options = {**QUICK, "num_steps": 40, "latents": given}
    result = in_distribution(NearestMean(), generator, x, y, targets=targets, **options)
    assert bool(result.success.any())
    found = result.success
    assert torch.equal(NearestMean()(result.x_adv[found]).argmax(1), targets[found])
    assert torch.equal(generator(result.latents, y)[found], result.x_adv[found])
    # y are the targets: the classes are those that the model says
    again = in_distribution(NearestMean(), generator, x, targets, targeted=True, **options)
    assert torch.equal(again.x_adv, result.x_adv)
    best = in_distribution(NearestMean(), generator, x, y, targets="best", **options)
    assert torch.equal(generator(best.latents, y)[best.success], best.x_adv[best.success])
    assert bool((best.nearest_distance <= result.nearest_distance).all())
    assert int(best.generator_rows.min()) > int(result.generator_rows.max())


def test_samples_that_the_generator_cannot_make_are_not_represented():
    class Dark(Sines):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return 0.3 * super().forward(z, y)

    x = torch.cat([torch.full((3, 1, 8, 8), 0.9), torch.full((2, 1, 8, 8), 0.2)])

    class Never(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return 5 - 0.01 * rows.flatten(1).sum(1, keepdim=True) * torch.eye(10)[3]

    y = Never()(x).argmax(1)
    result = in_distribution(Never(), Dark((1, 8, 8), 10), x, y, eps=1.0, **QUICK)
    assert not bool(result.success.any())
    assert not_represented(result).tolist() == [True] * 3 + [False] * 2
    assert torch.allclose(result.start_distance[:3], torch.full((3,), 8 * 0.6), atol=0.05)
    assert not bool(not_represented(result, 6.0).any())
    with pytest.raises(ValueError, match="eps must be given"):
        not_represented(in_distribution(Never(), Dark((1, 8, 8), 10), x, y, **QUICK))
    with pytest.raises(ValueError, match="without start_distance"):
        not_represented(cw(NearestMean(), x, y, num_steps=2, search_steps=1), 1.0)


def test_modes_flags_and_random_streams_come_back(digits_net):
    generator = convolutional()
    generator.layers[1].eval()
    generator.layers[4].weight.requires_grad_(False)
    modes = [one.training for one in generator.modules()]
    wanted = [one.requires_grad for one in generator.parameters()]
    weights = copy.deepcopy(generator.state_dict())
    x = torch.rand(3, 1, 8, 8)
    state = torch.get_rng_state()
    in_distribution(digits_net, generator, x, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert [one.training for one in generator.modules()] == modes
    assert [one.requires_grad for one in generator.parameters()] == wanted
    assert all(one.grad is None for one in generator.parameters())
    for name, value in generator.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_result_comes_back_from_its_file(tmp_path):
    generator, latents, x, y = sines(4)
    result = in_distribution(NearestMean(), generator, x, y, latents=latents, **QUICK)
    result.save(tmp_path / "result.safetensors")
    again = AttackResult.load(tmp_path / "result.safetensors")
    for name in ("latents", "start_distance", "generator_rows", "generator_gradients"):
        torch.testing.assert_close(
            getattr(again, name), getattr(result, name), rtol=0, atol=0, equal_nan=True
        )


def test_a_spec_with_its_generator_is_an_attack_like_any_other():
    spec = registry.get("in_distribution")
    assert spec.resources == ("generator",)
    generator, _, x, y = sines(3)
    bound = pickle.loads(pickle.dumps(spec.with_resources(generator=generator)))  # noqa: S301
    assert bound.resources == ()
    assert list(bound.parameters)[:3] == ["model", "x", "y"]
    direct = in_distribution(NearestMean(), generator, x, y, **QUICK)
    assert torch.equal(bound.function(NearestMean(), x, y, **QUICK).x_adv, direct.x_adv)
    with pytest.raises(ValueError, match="in_distribution needs generator, got none"):
        spec.with_resources()
    with pytest.raises(ValueError, match="pgd needs no resource, got generator"):
        registry.get("pgd").with_resources(generator=generator)


def test_uses_without_a_generator_say_how_to_get_one():
    spec = registry.get("in_distribution")
    x = torch.rand(4, 1, 8, 8)
    y = torch.zeros(4, dtype=torch.int64)
    uses = (
        lambda: transfer_matrix([NearestMean(), NearestMean()], x, y, attack=spec.name, eps=1.0),
        lambda: fixed_set(NearestMean(), x, y, spec.name, arguments={"eps": 1.0}),
        lambda: check_attack(spec),
        lambda: make_art(spec),
        lambda: make_torchattacks(spec),
    )
    for use in uses:
        with pytest.raises(ValueError, match=r"in_distribution.* needs? a generator") as caught:
            use()
        assert "\n" not in str(caught.value)


# --- bad input ---


def latents_for(count: int = 4) -> Tensor:
    return random(count, 64, seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialisation": "given"}, "initialisation='given' needs the latents"),
        ({"initialisation": "givn"}, r"initialisation must be one of .*\(did you mean 'given'"),
        ({"latents": latents_for()[:, :5]}, r"latents must have shape \(4, 64\), .* \(4, 5\)"),
        ({"latents": latents_for(3)}, r"latents must have shape \(4, 64\), .* got \(3, 64\)"),
        ({"latents": [1.0]}, "latents must be a tensor of floats, got list"),
        ({"latents": latents_for().long()}, "latents must be a tensor of floats, got torch.int64"),
        (
            {"latents": latents_for() + torch.tensor([[0.0], [0.0], [0.4], [0.0]])},
            r"up to 0\.\d+, most in sample 2",
        ),
        (
            {"latents": latents_for().index_fill(0, torch.tensor([1]), torch.inf)},
            "latents must be finite, got NaN or infinity first in sample 1",
        ),
        (
            {
                "latents": latents_for().index_fill(0, torch.tensor([1]), torch.nan),
                "initialisation": "given",
            },
            "latents must be finite, got NaN or infinity first in sample 1",
        ),
        ({"num_restarts": 0}, "num_restarts must be an integer >= 1, got 0"),
        ({"init_steps": -1}, "init_steps must be an integer >= 0, got -1"),
        ({"init_step_size": 0.0}, "init_step_size must be > 0, got 0.0"),
        ({"step_size": -1.0}, "step_size must be > 0, got -1.0"),
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"search_steps": 0}, "search_steps must be an integer >= 1, got 0"),
        ({"initial_const": 0}, "initial_const must be > 0, got 0"),
        ({"confidence": -1}, "confidence must be a finite number >= 0, got -1"),
        ({"distance": "l2"}, "distance must be one of 'squared', 'plain', got 'l2'"),
        ({"warm_start": 1}, "warm_start must be True or False, got 1"),
        ({"abort_early": "never"}, "abort_early must be True, False or 'always'"),
        ({"norm": "linf"}, "norm must be one of 'l2', got 'linf'"),
        ({"eps": -1.0}, "eps must be > 0, got -1.0"),
        ({"image_range": (1, 0)}, "image_range must be finite with lower < upper"),
        ({"image_range": (0, 0.5)}, r"must lie in image_range=\(0, 0.5\), got values from"),
    ],
)
def test_bad_arguments(options, message):
    generator, _, x, y = sines(4)
    y = NearestMean()(x).argmax(1)
    with pytest.raises(ValueError, match=message) as caught:
        in_distribution(NearestMean(), generator, x, y, **{**QUICK, **options})
    assert "\n" not in str(caught.value)


class Bad(Sines):
    """A generator with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__((1, 8, 8), 3 if fault == "classes" else 10)
        self.fault = fault

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        images = super().forward(z, y)
        if self.fault == "range":
            return 3 * images
        if self.fault == "shape":
            return images[:, :, :4]
        if self.fault == "gradient":
            return images.detach()
        if self.fault == "constant":
            return torch.full_like(images, 0.5).detach()
        if self.fault == "other":  # a graph of a tensor that is no parameter of a module
            return images.detach() * torch.ones((), requires_grad=True)
        return images * math.nan if self.fault == "nan" else images


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("range", r"must lie in image_range=\(0, 1\), got values from .* to "),
        ("shape", r"must have the shape of the samples, \(1, 8, 8\), got \(1, 4, 8\)"),
        ("gradient", r"through autograd, .* ignores its latents z, or it leaves autograd"),
        ("constant", r"through autograd, .* ignores its latents z, or it leaves autograd"),
        ("other", r"through autograd, .* ignores its latents z, or it leaves autograd"),
        ("nan", "the generator's images must be numbers, got NaN"),
        ("classes", "the model must have the generator's 3 classes, got 10 classes"),
    ],
)
def test_bad_generators(fault, message):
    _, _, x, y = sines(4)
    with pytest.raises(ValueError, match=message):
        in_distribution(NearestMean(), Bad(fault), x, y, **QUICK)


def test_bad_models_and_labels():
    generator, _, x, y = sines(4)

    def no_gradient(rows: Tensor) -> Tensor:
        return NearestMean()(rows).detach()

    generator.rows = 0
    with pytest.raises(ValueError, match="does not depend on the input through autograd"):
        in_distribution(no_gradient, generator, x, y, **QUICK)
    assert generator.rows == 0, "known before the generator is used"
    with pytest.raises(ValueError, match="y must hold class indices below 10"):
        in_distribution(
            NearestMean(), generator, x, torch.full_like(y, 12), targets=(y + 1) % 10, **QUICK
        )
    with pytest.raises(ValueError, match="an attribute latent_dim"):
        in_distribution(NearestMean(), lambda z, y: z, x, y, **QUICK)
    with pytest.raises(TypeError, match="unexpected keyword argument 'mask'"):
        in_distribution(NearestMean(), generator, x, y, mask=torch.ones(8, 8))
