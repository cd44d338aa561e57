"""Heads: networks whose raw output is not class scores are trained, validated and exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import pgd
from art_ext.training import Cost, EpochEnd, Head, IdentityHead, Natural, Pgd, Recipe, Trades, train
from art_ext.training.objectives import one_hot, soft_cross_entropy
from art_ext.training.step import Step
from tests.toys import accuracy

Samples = tuple[Tensor, Tensor]
EPS = 0.05


class Negated(Head):
    def scores(self, raw: Tensor) -> Tensor:
        return -raw


class Mean(Head):
    def scores(self, raw: Tensor) -> Tensor:
        return raw.mean(dim=1)


class First(Head):
    def scores(self, raw: Any) -> Tensor:
        scores: Tensor = raw["main"]
        return scores


class Narrow(Head):
    def scores(self, raw: Tensor) -> Tensor:
        return raw[:, :2]


class Failing(Head):
    def scores(self, raw: Tensor) -> Tensor:
        return raw.sum(dim=4)


class Wrong(Head):
    def scores(self, raw: Any) -> Any:
        return raw[0]


class ReverseCrossEntropy(Recipe):
    """Raises the raw outputs of all classes but the label."""

    head = Negated()

    def cost(self) -> Cost:
        return Cost(1, 1)

    def loss(self, step: Step) -> Tensor:
        raw = step.forward_raw(step.x)
        step.count_backward(step.x)
        return step.mean(soft_cross_entropy(raw, 1 - one_hot(step.y, raw.shape[1])))


class Members(nn.Module):
    """An ensemble of two networks, (r, 2, C)."""

    def __init__(self, build: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList([build(seed=1, scale=3), build(seed=2, scale=3)])

    def forward(self, rows: Tensor) -> Tensor:
        return torch.stack([member(rows) for member in self.members], dim=1)


class Averaged(Members):
    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows).mean(dim=1)


class Auxiliary(nn.Module):
    """A network that returns a dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"main": self.inner(rows), "other": rows.flatten(1)}


def test_a_network_that_decides_by_the_smallest_output(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = network("linear")
    seen = []

    def note(end: EpochEnd) -> dict[str, float]:
        end.model.eval()
        seen.append(accuracy(end.model, samples))
        return {}

    result = train(
        model,
        samples,
        ReverseCrossEntropy(),
        epochs=8,
        batch_size=10,
        learning_rate=0.5,
        validation_data=samples,
        validation_eps=EPS,
        callbacks=[note],
    )
    assert result.history[-1]["validation_clean"] == accuracy(result.model, samples) > 0.95
    assert accuracy(model, samples) < 0.1, "the raw outputs mean the opposite"
    assert seen == [row["validation_clean"] for row in result.history]
    attacked = pgd(result.model, *samples, eps=EPS, num_steps=10, stop_on_success=True, seed=1)
    robust = 1 - float((attacked.success | attacked.already_adversarial).double().mean())
    assert result.history[-1]["validation_robust"] == pytest.approx(robust)


def test_the_exported_model_has_the_weights_of_the_network(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = network("norm")
    result = train(
        model, samples, ReverseCrossEntropy(), epochs=2, batch_size=10, validation_data=samples
    )
    assert list(result.model.state_dict()) == list(model.state_dict())
    assert result.best is not None
    fresh = network("norm", seed=4)
    exported = Negated().export(fresh)
    exported.load_state_dict(result.best)
    assert all(torch.equal(fresh.state_dict()[name], one) for name, one in result.best.items())
    exported.eval()
    assert torch.equal(exported(samples[0]), -fresh(samples[0]))
    assert exported.training is fresh.training is False


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanPgd(Pgd):
    head: ClassVar[Head] = Mean()


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanTrades(Trades):
    head: ClassVar[Head] = Mean()


@pytest.mark.parametrize(("headed", "plain"), [(MeanPgd, Pgd), (MeanTrades, Trades)])
def test_an_ensemble_with_a_head_trains_as_the_network_that_averages(
    headed: type[Pgd], plain: type[Pgd], network: Callable[..., nn.Module], samples: Samples
) -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 10, "validation": 12, "ema": 0.9}
    ours = train(Members(network), samples, headed(eps=EPS, num_steps=2), **settings)
    theirs = train(Averaged(network), samples, plain(eps=EPS, num_steps=2), **settings)
    weights = theirs.model.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in ours.model.state_dict().items())
    assert [row["validation_robust"] for row in ours.history] == [
        row["validation_robust"] for row in theirs.history
    ]
    assert ours.model(samples[0]).shape == (60, 3)


def with_head(head: Any) -> Recipe:
    class Own(Natural):
        pass

    Own.head = head
    return Own()


def test_a_head_may_choose_among_several_outputs(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = Auxiliary(network("linear"))
    twin = network("linear")
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 10, "validation_data": samples}
    result = train(model, samples, with_head(First()), **settings)
    train(twin, samples, "natural", **settings)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True)
    )
    assert result.history[-1]["validation_clean"] == accuracy(result.model, samples)


def test_the_identity_exports_the_network_itself(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = network()
    assert train(model, samples, "natural", updates=1).model is model
    assert IdentityHead().export(model) is model
    assert "head" not in Natural().settings()
    assert with_head(Negated()).settings()["head"] == "Negated()"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            Narrow(),
            r"labels must be class indices below 2, the classes of the head Narrow\(\), got 2",
        ),
        (
            Wrong(),
            r"the head Wrong\(\) must return scores of shape \(10, classes\) .* got shape \(3,\)",
        ),
        (
            Failing(),
            r"the head Failing\(\) fails on the model's raw output, shape \(10, 3\): IndexError",
        ),
        (None, "the head of the recipe Own must be a Head, got None"),
    ],
    ids=["classes", "shape", "failure", "kind"],
)
def test_heads_that_do_not_fit(
    head: Any, message: str, network: Callable[..., nn.Module], samples: Samples
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        train(network(), samples, with_head(head), epochs=1, batch_size=10)
    assert "\n" not in str(caught.value)


def test_labels_are_checked_before_an_objective_of_raw_outputs_uses_them(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    x, y = samples
    with pytest.raises(ValueError, match=r"below 3, the classes of the head Negated\(\), got 7"):
        train(network(), (x, y + 5), ReverseCrossEntropy(), epochs=1)
