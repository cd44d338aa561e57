"""Expectations: the average by hand, what it costs, and who decides about a success."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core import Expectation, attacks
from art_ext.core.attacks import registry
from art_ext.core.detection import Confidence
from art_ext.core.expectation import expectation_in
from art_ext.core.oracle import GradientOracle, LabelOracle

NAMES = sorted(set(registry.names()) & set(attacks.__all__) - {"in_distribution"})
QUICK: dict[str, dict[str, Any]] = {
    "auto_pgd": {"num_steps": 10},
    "cw": {"num_steps": 8, "search_steps": 2},
    "ead": {"num_steps": 8, "search_steps": 2},
    "hmcam": {"num_steps": 6},
    "i_fgm": {"num_steps": 3, "resolution": 0.05},
    "zoo": {"num_steps": 4, "search_steps": 2, "coordinates": 3},
}
BUDGET = {
    name: {"max_queries": 60}
    for name in ("opt", "rays", "sign_opt", "square", "nes", "frank_wolfe_black_box", "zoo")
}


class Noisy(nn.Module):
    """Linear classifier with Gaussian noise on its input, which counts its rows."""

    def __init__(self, deviation: float = 0.2) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(6, 4)
        self.deviation = deviation
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        found: Tensor = self.linear(rows + self.deviation * torch.randn_like(rows))
        return found


class Scripted(nn.Module):
    """Model of two classes whose k-th call answers class ``script[k]`` for every row."""

    def __init__(self, *script: int, outputs: str = "logits") -> None:
        super().__init__()
        self.script = list(script)
        self.outputs = outputs
        self.sizes: list[int] = []

    def forward(self, rows: Tensor) -> Tensor:
        label = self.script[len(self.sizes)]
        self.sizes.append(len(rows))
        labels = torch.full((len(rows),), label)
        if self.outputs == "labels":
            return labels
        return functional.one_hot(labels, 2) * 2.0 + 0 * rows.sum(dim=1, keepdim=True)


def samples(count: int = 20) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 6, generator=torch.Generator().manual_seed(1))
    y = Noisy(0.0)(x).argmax(dim=1)
    y[:3] = (y[:3] + 1) % 4
    return x, y


def options(name: str) -> dict[str, Any]:
    spec = registry.get(name)
    radius = {"eps": 0.1} if spec.family == "fixed-radius" else {}
    return {**radius, **QUICK.get(name, {}), **BUDGET.get(name, {}), "seed": 0}


class TestAverage:
    @pytest.mark.parametrize("average", ["probabilities", "logits"])
    def test_value_and_gradient_are_those_of_the_formula(self, average: str) -> None:
        x, y = samples()
        noise = torch.randn(5, *x.shape, generator=torch.Generator().manual_seed(2))
        linear = Noisy().linear
        draws = iter(noise)
        expectation = Expectation(lambda rows: linear(rows + next(draws)), 5, average=average)

        def loss(outputs: Tensor, index: Tensor) -> Tensor:
            return functional.cross_entropy(outputs, y[index], reduction="none")

        with GradientOracle(expectation, len(x)) as oracle:
            found = oracle.gradient(x, torch.arange(len(x)), loss)
        rows = x.clone().requires_grad_()
        z = torch.stack([linear(rows + one) for one in noise])
        mean = z.mean(0) if average == "logits" else z.softmax(2).mean(0).log()
        losses = functional.cross_entropy(mean, y, reduction="none")
        (slope,) = torch.autograd.grad(losses.sum(), rows)
        torch.testing.assert_close(found.outputs, mean.detach())
        torch.testing.assert_close(found.losses, losses.detach())
        torch.testing.assert_close(found.gradient, slope)

    def test_probabilities_are_averaged_and_labels_are_counted(self) -> None:
        x, _ = samples(3)
        shares = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
        draws = iter(shares)
        mean = Expectation(
            lambda rows: next(draws).expand(len(rows), 2), 3, outputs="probabilities"
        )
        torch.testing.assert_close(mean(x), shares.mean(0).expand(3, 2))
        labels = Expectation(Scripted(1, 0, 1, outputs="labels"), 3, outputs="labels")
        assert labels(x).tolist() == [1, 1, 1]

    def test_a_deterministic_model_is_named_once_and_attacked_as_without(self, caplog: Any) -> None:
        x, y = samples()
        model = Noisy(0.0)
        plain = attacks.pgd(model, x, y, eps=0.1, seed=0, num_steps=5)
        expectation = Expectation(model, 4, 3, average="logits")
        with caplog.at_level(logging.WARNING, "art_ext"):
            found = attacks.pgd(expectation, x, y, eps=0.1, seed=0, num_steps=5)
        said = [one for one in caplog.messages if "deterministic" in one]
        assert len(said) == 1
        assert "all 4 draws" in said[0]
        assert torch.equal(found.success, plain.success)
        assert torch.equal(found.queries, plain.queries)
        torch.testing.assert_close(found.x_adv, plain.x_adv)

    def test_a_randomised_model_is_not_called_deterministic(self, caplog: Any) -> None:
        Expectation(Noisy())(samples()[0])
        assert not caplog.messages


class TestSuccess:
    # the clean check draws once, and the clean input is voted on only if it is wrong
    @pytest.mark.parametrize(
        ("votes", "success", "rows"),
        # the last one is dropped after a fifth of the votes. All but a success query once more
        [((1, 1, 0, 0), False, 6), ((1, 0, 1, 1), True, 5), ((0,), False, 3)],
    )
    @pytest.mark.parametrize("outputs", ["logits", "labels"])
    def test_more_than_half_of_the_fresh_draws_decide(
        self, votes: tuple[int, ...], success: bool, rows: int, outputs: str
    ) -> None:
        x, y = samples(3)[0], torch.zeros(3, dtype=torch.int64)
        model = Scripted(1, *votes, *[0] * 200, outputs=outputs)
        expectation = Expectation(model, 1, 4, outputs=outputs)
        result = attacks.rays(expectation, x, y, eps=0.1, max_queries=2, outputs=outputs, seed=0)
        assert result.already_adversarial.tolist() == [success] * 3
        assert result.model_rows is not None
        assert result.model_rows.tolist() == [rows] * 3

    def test_a_lucky_average_does_not_end_a_sample(self) -> None:
        x, y = samples(2)[0], torch.zeros(2, dtype=torch.int64)
        # clean; a lucky candidate with two of five votes; a candidate with four of five
        model = Scripted(0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1)
        result = attacks.pgd(
            Expectation(model, 1, 5), x, y, eps=0.1, num_steps=3, stop_on_success=True, seed=0
        )
        assert result.success.all()
        assert result.queries.tolist() == [3, 3]
        assert result.queries_to_success.tolist() == [3, 3]
        assert result.model_rows is not None
        assert result.model_rows.tolist() == [13, 13]

    def test_without_labels_the_clean_check_costs_no_votes(self) -> None:
        x, _ = samples(3)
        expectation = Expectation(Scripted(1, *[1] * 30), 2, 5)
        result = attacks.rays(expectation, x, eps=0.1, max_queries=1, seed=0)
        assert result.model_rows is not None
        assert result.model_rows.tolist() == [2, 2, 2]
        assert not result.already_adversarial.any()


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_counts_the_rows_of_the_model(name: str) -> None:
    x, y = samples()
    model = Noisy()
    expectation = nn.Sequential(nn.Identity(), Expectation(model, 3, 9, seed=5))
    before = torch.get_rng_state()
    result = attacks.__dict__[name](expectation, x, y, **options(name))
    assert torch.equal(before, torch.get_rng_state())
    assert result.model_rows is not None
    assert int(result.model_rows.sum()) == model.rows
    votes = result.model_rows - 3 * (result.queries + result.wasted_rows)
    assert bool((votes >= 0).all())
    # each success has been voted on
    assert bool((votes[result.success] >= 9).all())
    again = attacks.__dict__[name](expectation, x, y, **options(name))
    for field in ("x_adv", "success", "queries", "model_rows"):
        assert torch.equal(getattr(result, field), getattr(again, field)), field


def test_verified_successes_hold_for_draws_of_their_own() -> None:
    x, y = samples(200)
    model = Noisy(0.1)
    result = attacks.auto_pgd(Expectation(model, 10, 60, seed=1), x, y, eps=0.1, seed=0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        wrong = torch.stack([model(result.x_adv).argmax(1) != y for _ in range(400)])
    share = wrong.double().mean(0)[result.success]
    assert len(share) > 20
    assert float((share > 0.5).double().mean()) > 0.8
    assert float(share.min()) > 0.3  # three standard deviations of 60 votes below a half


class TestSeed:
    def test_an_attack_begins_the_draws_again_and_leaves_the_streams_alone(self) -> None:
        x, y = samples()
        expectation = Expectation(Noisy(), 3, 5, seed=1)
        first = attacks.pgd(expectation, x, y, eps=0.1, num_steps=3, seed=0)
        expectation(x)
        second = attacks.pgd(copy.deepcopy(expectation), x, y, eps=0.1, num_steps=3, seed=0)
        assert torch.equal(first.x_adv, second.x_adv)
        other = Expectation(Noisy(), 3, 5, seed=2)
        third = attacks.pgd(other, x, y, eps=0.1, num_steps=3, seed=0)
        assert not torch.equal(first.x_adv, third.x_adv)

    def test_calls_of_one_seed_draw_again(self) -> None:
        expectation = Expectation(Noisy(), 2, seed=1)
        x, _ = samples()
        first, second = expectation(x), expectation(x)
        assert not torch.equal(first, second)
        expectation.restart()
        assert torch.equal(expectation(x), first)


class TestHosts:
    def test_torchattacks_and_art_take_it_as_the_model(self) -> None:
        torchattacks = pytest.importorskip("torchattacks")
        art = pytest.importorskip("art.estimators.classification")
        from art_ext import torchattacks as ours
        from art_ext.attacks import PGD

        images = samples()[0][:, :, None, None]
        y = samples()[1]
        model = nn.Sequential(nn.Flatten(), Noisy())
        expectation = Expectation(model, 3, 5)
        theirs = torchattacks.PGD(expectation, eps=0.1, steps=2)
        assert theirs(images, y).shape == images.shape
        shell = ours.AIFGSM(expectation, eps=0.1, steps=2)
        shell(images, y)
        assert getattr(shell.last_result, "model_rows", None) is not None
        classifier = art.PyTorchClassifier(
            expectation, nn.CrossEntropyLoss(), (6, 1, 1), 4, clip_values=(0, 1)
        )
        attack = PGD(classifier, eps=0.1, max_iter=2, verbose=False)
        attack.generate(images.numpy(), y.numpy())
        assert getattr(attack.last_result, "model_rows", None) is not None


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"draws": 0}, "draws must be an integer >= 1, got 0"),
            ({"verification_draws": 1.5}, "verification_draws must be an integer"),
            ({"average": "mean"}, "average must be one of"),
            ({"outputs": "scores"}, "outputs must be one of"),
            ({"seed": -1}, "seed must be an integer >= 0"),
        ],
    )
    def test_arguments(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Expectation(Noisy(), **given)

    def test_a_model_must_be_callable(self) -> None:
        with pytest.raises(ValueError, match=r"model must be an nn\.Module or a callable of"):
            Expectation("resnet")  # type: ignore[arg-type]

    def test_kinds_of_outputs_must_agree(self) -> None:
        x, y = samples()
        with pytest.raises(ValueError, match="must have the same outputs, got Expectation"):
            attacks.pgd(Expectation(Noisy()), x, y, eps=0.1, outputs="probabilities")

    @pytest.mark.parametrize("attack", [attacks.rays, attacks.pgd])
    def test_class_indices_need_outputs_of_both(self, attack: Any) -> None:
        x, y = samples()
        expectation = Expectation(lambda rows: torch.zeros(len(rows), dtype=torch.int64))
        with pytest.raises(ValueError, match="class indices: give outputs='labels' to the Expect"):
            attack(expectation, x, y, eps=0.1)

    def test_labels_have_no_gradient(self) -> None:
        x, y = samples()
        with pytest.raises(ValueError, match="needs scores"):
            attacks.pgd(Expectation(Noisy(), outputs="labels"), x, y, eps=0.1, outputs="labels")

    def test_a_detector_and_an_expectation_exclude_each_other(self) -> None:
        x, y = samples(60)
        expectation = Expectation(Noisy(), 2)
        detector = Confidence().fit(expectation)
        detector.calibrate(x)
        with pytest.raises(ValueError, match="needs a model without an Expectation"):
            attacks.pgd(expectation, x, y, eps=0.1, detector=detector)

    def test_the_loss_of_joint_ensembles_needs_a_model_without_expectation(self) -> None:
        x, y = samples()
        with pytest.raises(ValueError, match="without an Expectation"):
            attacks.pgd(Expectation(Noisy()), x, y, eps=0.1, loss="mean-logits")


def test_an_expectation_is_found_inside_a_model() -> None:
    inner = Expectation(Noisy())
    assert expectation_in(nn.Sequential(nn.Identity(), inner)) is inner
    assert expectation_in(Noisy()) is None
    assert expectation_in(lambda rows: rows) is None
    with LabelOracle(inner, 1) as oracle:
        assert oracle.ledger.model_rows is None


def test_expectations_do_not_nest(digits_net):
    inner = Expectation(digits_net, draws=2)
    for model in (inner, nn.Sequential(inner)):
        with pytest.raises(ValueError, match="must not contain an Expectation"):
            Expectation(model, draws=2)
