"""Losses, schedules, warm-up and augmentation against closed forms and torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from art_ext.training import Natural, Pgd, train
from art_ext.training.augmentation import crop_flip
from art_ext.training.objectives import (
    divergence,
    one_hot,
    smoothed_cross_entropy,
    soft_cross_entropy,
)
from art_ext.training.schedules import SCHEDULES, make_schedule, warm_up


@pytest.fixture
def scores():
    """Logits (40, 5) of several sizes, and classes."""
    generator = torch.Generator().manual_seed(2)
    return 4 * torch.randn(40, 5, generator=generator), torch.arange(40) % 5


# --- losses ---


def test_no_smoothing_is_cross_entropy(scores):
    z, y = scores
    assert torch.equal(
        smoothed_cross_entropy(z, y), functional.cross_entropy(z, y, reduction="none")
    )
    assert torch.equal(
        smoothed_cross_entropy(z, y, 0.0), functional.cross_entropy(z, y, reduction="none")
    )
    nearly = smoothed_cross_entropy(z, y, 1e-9)
    torch.testing.assert_close(
        nearly, functional.cross_entropy(z, y, reduction="none"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("s", [0.1, 0.3, 0.8])
def test_label_smoothing_is_that_of_the_slides(s, scores):
    """1 - s on the label and s / (C - 1) on each other class, which torch's has with ``s C / (C
    - 1)``.
    """
    z, y = scores
    q = torch.full((40, 5), s / 4).scatter(1, y[:, None], 1 - s)
    torch.testing.assert_close(q.sum(1), torch.ones(40))
    found = smoothed_cross_entropy(z, y, s)
    torch.testing.assert_close(
        found, functional.cross_entropy(z, q, reduction="none"), rtol=1e-5, atol=1e-5
    )
    if s * 5 / 4 <= 1:
        torchs = functional.cross_entropy(z, y, reduction="none", label_smoothing=s * 5 / 4)
        torch.testing.assert_close(found, torchs, rtol=1e-5, atol=1e-5)
    same = functional.cross_entropy(z, y, reduction="none", label_smoothing=s)
    assert not torch.allclose(found, same, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("s", [0.0, 0.2])
def test_the_weights_of_the_smoothed_label_are_in_its_gradient(s, scores):
    """At the logits the gradient is ``softmax(z) - q``; so q is seen, and sums to 1."""
    z, y = scores
    leaf = z.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(smoothed_cross_entropy(leaf, y, s).sum(), leaf)
    q = z.softmax(1) - gradient
    torch.testing.assert_close(q.sum(1), torch.ones(40), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        q.gather(1, y[:, None]), torch.full((40, 1), 1 - s), rtol=0, atol=1e-5
    )
    others = q.scatter(1, y[:, None], s / 4)
    torch.testing.assert_close(others, torch.full((40, 5), s / 4), rtol=0, atol=1e-5)


def test_soft_cross_entropy_against_torchs(scores):
    z, y = scores
    q = torch.rand(40, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    torch.testing.assert_close(
        soft_cross_entropy(z, q), functional.cross_entropy(z, q, reduction="none")
    )
    hard = soft_cross_entropy(z, one_hot(y, 5))
    torch.testing.assert_close(hard, functional.cross_entropy(z, y, reduction="none"))
    # linear in the target, which need be no distribution
    twice = soft_cross_entropy(z, 2 * q - one_hot(y, 5))
    torch.testing.assert_close(twice, 2 * soft_cross_entropy(z, q) - hard, rtol=1e-4, atol=1e-4)


def test_divergence_against_torchs(scores):
    z, _ = scores
    other = z.flip(0)
    wanted = functional.kl_div(other.log_softmax(1), z.softmax(1), reduction="none").sum(1)
    found = divergence(z, other)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.min() > 0
    assert torch.equal(divergence(z, z), torch.zeros(40))
    # a shift of all logits is no change, and the order of the arguments matters
    torch.testing.assert_close(divergence(z, other + 3), found, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(divergence(other, z), found, rtol=1e-2)


def test_divergence_is_not_negative_near_zero_and_is_finite_at_extremes(scores):
    z, _ = scores
    noise = 1e-4 * torch.randn(40, 5, generator=torch.Generator().manual_seed(4))
    assert divergence(z, z + noise).min() > -1e-6
    sure, opposite = torch.tensor([[500.0, 0.0, 0.0]]), torch.tensor([[0.0, 500.0, 0.0]])
    assert float(divergence(sure, opposite)) == pytest.approx(500)
    assert float(divergence(sure, sure)) == 0


def test_divergence_has_gradients_through_both(scores):
    z, _ = scores
    first, second = z.double().requires_grad_(True), z.double().flip(0).requires_grad_(True)
    assert torch.autograd.gradcheck(divergence, (first[:3], second[:3]))
    (g,) = torch.autograd.grad(divergence(first, second).sum(), second)
    torch.testing.assert_close(g, second.softmax(1) - first.softmax(1))


@pytest.mark.parametrize("recipe", [Natural(), Pgd(eps=0.1, num_steps=2)], ids=["natural", "pgd"])
def test_smoothing_changes_the_outer_loss_and_not_the_crafting(recipe, network, batch, make_step):
    x, y = batch
    model = network(scale=3)
    plain, smoothed = (make_step(model, x, y, eps=0.1, smoothing=s) for s in (0.0, 0.25))
    rows = [
        recipe.craft(make_step(model, x, y, eps=0.1, smoothing=s)) if recipe.radius else x
        for s in (0.0, 0.25)
    ]
    assert torch.equal(*rows)
    target = torch.full((6, 3), 0.125).scatter(1, y[:, None], 0.75)
    logits = model(rows[0])
    torch.testing.assert_close(
        recipe.loss(plain), functional.cross_entropy(logits, y), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        recipe.loss(smoothed), functional.cross_entropy(logits, target), rtol=1e-5, atol=0
    )


# --- schedules ---


@pytest.mark.parametrize(
    ("name", "arguments", "total", "wanted"),
    [
        ("constant", {}, 10, {0: 1, 9.9: 1}),
        ("piecewise", {}, 100, {0: 1, 49.9: 1, 50: 0.1, 74.9: 0.1, 75: 0.01, 99: 0.01}),
        ("piecewise", {"milestones": (30, 36)}, 40, {29.99: 1, 30: 0.1, 35.9: 0.1, 36: 0.01}),
        (
            "piecewise",
            {"milestones": (100, 105), "factor": 0.5},
            110,
            {99: 1, 100: 0.5, 105: 0.25, 109.9: 0.25},
        ),
        ("piecewise", {"milestones": 0.25}, 8, {1.9: 1, 2: 0.1, 7: 0.1}),
        ("piecewise", {"milestones": (79, 90, 100)}, 105, {78: 1, 79: 0.1, 90: 0.01, 100: 0.001}),
        ("cosine", {}, 20, {0: 1, 5: (1 + math.sqrt(0.5)) / 2, 10: 0.5, 20: 0}),
        ("cyclic", {}, 30, {0: 0, 7.5: 0.5, 15: 1, 22.5: 0.5, 30: 0}),
        ("cyclic", {"peak": 0.4}, 10, {0: 0, 2: 0.5, 4: 1, 7: 0.5, 10: 0}),
        (
            "halving",
            {},
            100,
            {0: 1, 74.99: 1, 75: 0.5, 75.9: 0.5, 76: 0.25, 77: 0.125, 99: 0.5**25},
        ),
        ("halving", {"after": 3}, 5, {2.9: 1, 3: 0.5, 4: 0.25}),
        ("halving", {"after": 0}, 5, {0: 0.5, 1: 0.25}),
    ],
    ids=str,
)
def test_schedules_at_given_epochs(name, arguments, total, wanted):
    schedule = make_schedule(name, **arguments)
    assert {t: schedule(t, total) for t in wanted} == pytest.approx(wanted, abs=1e-12)


def test_every_schedule_lies_between_nothing_and_the_full_rate():
    for name in SCHEDULES:
        values = [make_schedule(name)(t / 10, 12) for t in range(120)]
        assert 0 <= min(values) <= max(values) <= 1
        assert max(values) == pytest.approx(1, abs=1e-12)


def test_the_rate_of_each_update_is_the_schedules_at_its_fraction_of_an_epoch(network, data):
    model, rates = network(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.4)
    optimizer.register_step_pre_hook(lambda one, *_: rates.append(one.param_groups[0]["lr"]))
    settings = {"epochs": 4, "batch_size": 6, "optimizer": optimizer, "warmup_epochs": 2.0}
    result = train(
        model, data, Natural(), schedule="piecewise", schedule_args={"milestones": (3,)}, **settings
    )
    times = [update / 3 for update in range(12)]
    wanted = [0.4 * min(1.0, t / 2) * (0.1 if t >= 3 else 1.0) for t in times]
    assert rates == pytest.approx(wanted)
    assert rates[0] == 0
    assert [row["learning_rate"] for row in result.history] == pytest.approx(rates[2::3])


def test_warm_up_starts_at_zero_and_never_overshoots():
    assert warm_up(0.0, 10) == 0
    assert warm_up(5.0, 10) == 0.5
    assert max(warm_up(t / 7, 10) for t in range(200)) == 1
    assert [warm_up(t, 10) for t in (9.99, 10.0, 10.5, 11.0)] == pytest.approx([0.999, 1, 1, 1])
    assert warm_up(0.0, 0) == 1


def test_warm_up_of_the_radius_reaches_the_recipe(network, data):
    radii, reach = [], []

    class Recorder(Pgd):
        def craft(self, step):
            x_adv = super().craft(step)
            radii.append(step.eps)
            reach.append(float((x_adv - step.x).abs().max()))
            return x_adv

    result = train(
        network(),
        data,
        Recorder(eps=0.2, num_steps=3),
        epochs=4,
        batch_size=6,
        eps_warmup_epochs=2.0,
    )
    assert radii == pytest.approx([0.2 * min(1.0, update / 6) for update in range(12)])
    # three steps of five sixths of eps meet the sphere
    assert reach == pytest.approx(radii, abs=1e-6)
    assert [row["eps"] for row in result.history] == pytest.approx(radii[2::3])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cosin", {}, "schedule must be one of constant, .*got 'cosin' .did you mean 'cosine'"),
        ("piecewise", {"milestone": (1, 2)}, "did you mean 'milestones'"),
        ("piecewise", {"milestones": (-1,)}, "milestones must be > 0, got -1"),
        ("piecewise", {"milestones": ("a",)}, "milestones must be a number, got 'a'"),
        ("piecewise", {"factor": 0}, "factor must be > 0, got 0"),
        ("cyclic", {"peak": 1.0}, r"peak must lie in \(0, 1\)"),
        ("cyclic", {"peak": -0.5}, "peak must be > 0, got -0.5"),
        ("halving", {"after": -1}, "after must be a finite number >= 0, got -1"),
        ("constant", {"after": 1}, "the schedule constant takes no argument, got 'after'"),
    ],
    ids=str,
)
def test_bad_schedules_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(name, **arguments)


# --- augmentation ---


@pytest.fixture
def images():
    """Images (64, 2, 6, 5) whose pixels all differ, and none of which is 0, as the padding is."""
    return torch.arange(1, 64 * 60 + 1, dtype=torch.float32).view(64, 2, 6, 5), torch.arange(
        64
    ) * 1_000_003


def place(image, crop, padding):
    """(row, column, mirrored) of a crop in its padded image, by slicing."""
    padded = functional.pad(image, [padding] * 4)
    return [
        (row, column, mirrored)
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
        for mirrored in (False, True)
        if torch.equal(
            crop.flip(2) if mirrored else crop,
            padded[:, row : row + image.shape[1], column : column + image.shape[2]],
        )
    ]


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crops_are_slices_of_the_padded_image(padding, images):
    x, ids = images
    found = crop_flip(x, ids, 0, 0, padding=padding)
    assert found.shape == x.shape
    places = [place(image, crop, padding) for image, crop in zip(x, found, strict=True)]
    # with padding 4 a crop may see only a corner of its image, and still two pixels
    assert all(places)
    if padding == 1:
        offsets = {option[0][:2] for option in places}
        assert offsets == {(row, column) for row in range(3) for column in range(3)}
    if padding == 0:
        assert {option[0][:2] for option in places} == {(0, 0)}


def test_about_half_are_mirrored_and_offsets_are_even():
    x = torch.arange(1.0, 31.0).view(1, 1, 6, 5).expand(2000, 1, 6, 5)
    found = crop_flip(x, torch.arange(2000), 3, 5, padding=1)
    mirrored = (found[:, 0, 2, 2] > found[:, 0, 2, 3]).double()
    assert abs(float(mirrored.mean()) - 0.5) < 4 * 0.5 / 2000**0.5
    inner = torch.where(mirrored.bool()[:, None, None], found[:, 0].flip(2), found[:, 0])
    corner = inner[:, 2, 2] - x[0, 0, 2, 2]  # 5 a row and 1 a column, from -6 to 6
    counts = torch.stack(
        [(corner == 5 * row + column).sum() for row in (-1, 0, 1) for column in (-1, 0, 1)]
    )
    assert int(counts.sum()) == 2000
    assert float(((counts - 2000 / 9) ** 2 / (2000 / 9)).sum()) < 26.1  # chi-square of 8 at .999
    unflipped = crop_flip(x, torch.arange(2000), 3, 5, padding=1, flip=False)
    assert torch.equal(unflipped[:, 0], inner)


def test_a_sample_is_changed_alike_in_any_order_and_any_batch(images):
    x, ids = images
    whole = crop_flip(x, ids, 7, 2)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crop_flip(x[order], ids[order], 7, 2), whole[order])
    parts = [
        crop_flip(rows, keys, 7, 2) for rows, keys in zip(x.split(5), ids.split(5), strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole)
    for seed, epoch in ((8, 2), (7, 3)):
        other = crop_flip(x, ids, seed, epoch)
        assert (other != whole).flatten(1).any(1).double().mean() > 0.8


def test_the_loop_augments_by_sample_and_epoch(network, data):
    """A minibatch is ``crop_flip`` of its rows, keyed by their indices and the epoch."""
    x = data[0]
    seen = []

    class Recorder(Natural):
        def loss(self, step):
            seen.append((step.ids, step.x))
            return super().loss(step)

    train(network(), data, Recorder(), epochs=2, batch_size=6, augmentation="crop_flip", seed=4)
    for update, (ids, rows) in enumerate(seen):
        assert torch.equal(rows, crop_flip(x[ids], ids, 4, update // 3))
        assert not torch.equal(rows, x[ids])
