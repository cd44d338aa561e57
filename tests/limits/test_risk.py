"""The risk on a generator's images against closed forms, the bounds at it, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from art_ext.core.limits import bounds_at_risk, draw_latents, intrinsic_robustness_bound, risk_on
from art_ext.core.limits.risk import (
    NO_STATEMENT,
    OVERALL_RISK,
    PAPERS_READING,
    SMALLEST_CLASS_RISK,
    ZERO_RISK,
)
from art_ext.core.metrics import wilson

DIM = 6
CLASSES = 3
RISKS = (0.02, 0.1, 0.3)


class Planes(nn.Module):
    """Images (z, one-hot class): the classifier may err on a half-space of each class."""

    latent_dim = DIM
    num_classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm1d(DIM, affine=False)  # the identity in eval mode

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        ones = nn.functional.one_hot(y, CLASSES).to(z)
        return torch.cat([self.scale * self.norm(z), ones], dim=1)


class Errs(nn.Module):
    """Class i, but the next one where z_0 >= t_i, which has the probability of RISKS."""

    threshold: Tensor

    def __init__(self, risks: tuple[float, ...] = RISKS) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(norm.isf(risks), dtype=torch.float32))
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        y = x[:, DIM:].argmax(1)
        wrong = x[:, 0] >= self.threshold[y]
        return nn.functional.one_hot((y + wrong) % CLASSES, CLASSES).to(x) * 5 + x[:, DIM:]


def measured(model: object, **arguments: object):
    return risk_on(model, Planes(), image_range=None, **arguments)  # type: ignore[arg-type]


def test_class_risks_cover_the_closed_form():
    model = Errs()
    generator = Planes().train()
    risk = risk_on(model, generator, image_range=None, num_samples=30_000, seed=1)
    assert model.rows == risk.queries == 30_000 == risk.generator_rows
    for rate, expected in zip(risk.classes, RISKS, strict=True):
        assert rate.total == 10_000
        assert (rate.low, rate.high) == wilson(rate.count, rate.total)
        assert rate.low <= expected <= rate.high
    assert risk.overall.count == sum(rate.count for rate in risk.classes)
    assert risk.overall.low <= sum(RISKS) / 3 <= risk.overall.high
    assert generator.training
    assert all(one.requires_grad for one in generator.parameters())


def test_the_latents_of_an_image_are_those_of_draw_latents():
    risk = measured(Errs(), num_samples=500, seed=4)
    z = draw_latents(DIM, risk.y, risk.index, risk.seed)
    images = Planes().eval()(z, risk.y)
    assert torch.equal(Errs()(images).argmax(1), risk.predictions)
    assert torch.equal(risk.wrong, risk.predictions != risk.y)


def test_neither_blocks_nor_the_number_of_samples_change_a_prediction():
    whole = measured(Errs(), num_samples=300, seed=0)
    blocks = measured(Errs(), num_samples=300, seed=0, batch_size=7)
    assert torch.equal(whole.predictions, blocks.predictions)
    more = measured(Errs(), num_samples=600, seed=0)
    first = more.index < 100
    assert torch.equal(more.predictions[first], whole.predictions)


def test_priors_share_out_the_samples():
    risk = measured(Errs(), num_samples=1001, priors=[0.5, 0.3, 0.2])
    assert [rate.total for rate in risk.classes] == [501, 300, 200]


def test_images_are_mapped_from_their_range():
    class Tanh(Planes):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return super().forward(z, y).tanh()

    class Positive(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert float(x.min()) >= 0
            assert float(x.max()) <= 1
            return x[:, DIM:]

    risk = risk_on(Positive(), Tanh(), image_range=(-1, 1), num_samples=90)
    assert risk.overall.count == 0
    with pytest.raises(ValueError, match=r"image_range=\(-1, 1\)"):
        risk_on(Positive(), Tanh(), num_samples=90)


def test_readings_of_alpha():
    risk = measured(Errs(), num_samples=3000)
    smallest, overall, papers = risk.alphas
    assert [one.reading for one in risk.alphas] == [
        SMALLEST_CLASS_RISK,
        OVERALL_RISK,
        PAPERS_READING,
    ]
    assert [one.form for one in risk.alphas] == ["class-wise", "overall", "class-wise"]
    assert smallest.value == risk.classes[0].share
    assert (smallest.low, smallest.high) == (risk.classes[0].low, risk.classes[0].high)
    assert overall.value == papers.value == risk.overall.share
    assert not any(one.remark for one in risk.alphas)


def test_bounds_at_both_ends_of_the_interval():
    risk = measured(Errs(), num_samples=3000)
    eps = torch.tensor([0.5, 1.0])
    for found in bounds_at_risk(risk, eps=eps, lipschitz=[1.0, 2.0, 1.5], delta=0.01):
        for name, alpha in (("value", found.alpha.value), ("low", found.alpha.high)):
            expected = intrinsic_robustness_bound(
                eps=eps,
                alpha=alpha,
                lipschitz=2.0,
                delta=0.01,
                num_classes=3,
                form=found.alpha.form,
            )
            assert torch.equal(getattr(found, name), expected.value)
        assert bool((found.low < found.value).all())
        assert bool((found.value < found.high).all())
        assert found.remark == ""
    # a smaller alpha allows more: the papers' reading claims less robustness than is proven
    honest, _, papers = bounds_at_risk(risk, eps=1.0, lipschitz=2.0)
    assert float(papers.value) < float(honest.value)


def test_a_risk_of_zero_is_remarked():
    risk = measured(Errs((0.0, 0.6, 0.6)), num_samples=300)
    smallest, overall, _ = bounds_at_risk(risk, eps=1.0, lipschitz=1.0)
    assert smallest.alpha.value == 0
    assert smallest.remark == ZERO_RISK
    assert float(smallest.value) == 1 + 1e-3
    assert float(smallest.low) < 1  # the interval of 0 in 100 allows a positive risk
    assert overall.remark == NO_STATEMENT


def test_where_the_theorem_says_nothing_the_bound_is_nan():
    risk = measured(Errs((0.31, 0.31, 0.31)), num_samples=600)
    _, overall, _ = bounds_at_risk(risk, eps=[1.0, 2.0], lipschitz=1.0)
    assert overall.alpha.value < 1 / 3 < overall.alpha.high
    assert not overall.value.isnan().any()
    assert overall.low.isnan().all()
    assert overall.remark == ""
    _, overall, _ = bounds_at_risk(risk, eps=1.0, lipschitz=1.0, priors=[0.6, 0.3, 0.1])
    assert math.isnan(float(overall.value))
    assert overall.remark == NO_STATEMENT


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, : CLASSES + 1]


class Missing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, :1] > 0, torch.nan, x[:, :CLASSES])


class Constant(Planes):
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.ones(len(z), 4)


class Unconditional(Planes):
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return z


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"num_samples": 2}, "got 2 for 3 classes, which leaves none for class 2"),
        ({"priors": [0.5, 0.5]}, r"priors must hold one number per class, shape \(3,\)"),
        ({"priors": [0.5, 0.5, 0.5]}, "priors must sum to 1, got the sum 1.5"),
        ({"priors": [0.5, 0.5, 0.0]}, "priors must be > 0 where the risk is .* got 0 for class 2"),
        ({"priors": [0.5, 0.49, 0.01], "num_samples": 10}, "leaves none for class 2"),
        ({"model": Wide()}, "the model must have the generator's 3 classes, got 4"),
        ({"model": Missing()}, "the model returns NaN for an image of the generator"),
        ({"model": nn.Linear(5, 3)}, r"images must fit the model's input, got shape \(9,\)"),
        ({"generator": Constant()}, "the generator's output is constant"),
        ({"generator": Unconditional()}, "the generator ignores its classes y"),
        ({"generator": nn.Linear(6, 9)}, "the generator must have an attribute latent_dim"),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"outputs": "scores"}, "outputs must be one of"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
    ],
)
def test_bad_input(arguments, message):
    arguments = {"model": Errs(), "generator": Planes(), "image_range": None, **arguments}
    with pytest.raises(ValueError, match=message) as error:
        risk_on(arguments.pop("model"), arguments.pop("generator"), **arguments)
    assert "\n" not in str(error.value)
