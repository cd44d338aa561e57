"""ADP ensembles: the loss in closed form, members on their own, the head, the radius, the counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core.attacks import pgd
from art_ext.core.detection import make_detector
from art_ext.core.metrics import ensemble_diversity
from art_ext.models import JointEnsemble, members
from art_ext.models.joint import make_ensemble, member_seeds, redrawn
from art_ext.training import Adp, EpochEnd, Natural, Pgd, make_recipe, train
from art_ext.training.heads import MeanProbability, MeanProbabilityHead, adaptive_attacks

Build = Callable[..., nn.Module]
Samples = tuple[Tensor, Tensor]
SGD: dict[str, Any] = {"batch_size": 6, "learning_rate": 0.3}


class Free(nn.Module):
    """Logits (N, K, C) that are parameters, one for each sample and member."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, rows: Tensor) -> Tensor:
        return self.logits + 0 * rows.sum()


def joint(network: Build, count: int = 2, seed: int = 0, kind: str = "smooth") -> JointEnsemble:
    return make_ensemble(lambda one: network(kind, seed=one, scale=3), count, seed)


def by_hand(outputs: Tensor, y: Tensor, alpha: float, beta: float, offset: float) -> Tensor:
    """The loss of each sample, one matrix at a time in float64."""
    losses = []
    for logits, label in zip(outputs.double(), y.tolist(), strict=True):
        p = logits.softmax(1)
        others = [c for c in range(p.shape[1]) if c != label]
        rows = torch.stack([one[others] / one[others].norm() for one in p])
        q = p.mean(0)
        loss = -p[:, label].log().sum() + alpha * (q * q.log()).sum()
        identity = torch.eye(len(p), dtype=torch.float64)
        losses.append(loss - beta * torch.det(rows @ rows.T + offset * identity).log())
    return torch.stack(losses)


# --- the loss ---


def test_free_logits_reach_the_optimum_of_the_paper(make_step: Callable) -> None:
    """1 / F = (alpha / K) log(F (L - 1) / (1 - F)), and each member has three classes of its own."""
    generator = torch.Generator().manual_seed(0)
    model = Free(torch.randn(4, 3, 10, generator=generator, dtype=torch.float64))
    recipe = Adp(alpha=2.0, beta=0.5, members=3)
    x, y = torch.zeros(4, 1), torch.tensor([0, 3, 3, 9])
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for update in range(1200):
        loss = recipe.loss(make_step(model, x, y, eps=0.0, recipe=recipe, update=update))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) == pytest.approx(-1.5726, abs=1e-3)
    p = model.logits.detach().softmax(2)
    own = p.gather(2, y.view(-1, 1, 1).expand(-1, 3, 1))
    assert own.numpy() == pytest.approx(0.5878, abs=5e-3)
    confidence = float(own.mean())
    assert 1 / confidence == pytest.approx(
        2 / 3 * math.log(confidence * 9 / (1 - confidence)), abs=5e-3
    )
    others = p.scatter(2, y.view(-1, 1, 1).expand(-1, 3, 1), 0.0)
    largest = others.topk(3, dim=2)
    assert largest.values.numpy() == pytest.approx(0.1374, abs=8e-3)
    for sample, label in enumerate(y.tolist()):
        shared_out = sorted(largest.indices[sample].flatten().tolist())
        assert shared_out == [c for c in range(10) if c != label]
    found = ensemble_diversity(model.logits.detach(), y)
    assert found.determinant.min() > 0.99


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.5), (0.0, 0.5), (2.0, 0.0), (0.0, 0.0)])
def test_the_loss_is_that_of_one_sample_at_a_time(
    alpha: float, beta: float, make_step: Callable
) -> None:
    generator = torch.Generator().manual_seed(1)
    model = Free(2 * torch.randn(7, 3, 6, generator=generator))
    recipe = Adp(alpha=alpha, beta=beta, det_offset=1e-3)
    y = torch.tensor([0, 1, 2, 3, 4, 5, 5])
    step = make_step(model, torch.zeros(7, 1), y, eps=0.0, recipe=recipe)
    wanted = by_hand(model.logits.detach(), y, alpha, beta, 1e-3)
    loss = recipe.loss(step)
    torch.testing.assert_close(loss, wanted.mean().float())
    found = ensemble_diversity(model.logits, y)
    assert float(step.log["entropy"]) == pytest.approx(float(found.entropy.mean()))
    assert float(step.log["determinant"]) == pytest.approx(
        float(found.determinant.mean()), abs=5e-3
    )


def test_the_order_of_members_and_of_wrong_classes_does_not_matter(make_step: Callable) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 3, 7, generator=generator)
    y = torch.full((5,), 2)
    recipe = Adp()

    def loss(changed: Tensor) -> Tensor:
        step = make_step(Free(changed), torch.zeros(5, 1), y, eps=0.0, recipe=recipe)
        return recipe.loss(step).detach()

    torch.testing.assert_close(loss(logits[:, [2, 0, 1]]), loss(logits))
    torch.testing.assert_close(loss(logits[:, :, [6, 0, 2, 4, 1, 3, 5]]), loss(logits))
    assert abs(float(loss(logits[:, :, [2, 1, 0, 3, 4, 5, 6]]) - loss(logits))) > 1e-3


def test_sure_members_and_equal_members_give_finite_gradients(make_step: Callable) -> None:
    sure = torch.zeros(3, 3, 10)
    sure[:, :, 4] = 1e4  # the other probabilities are 0 in float32
    sure[1, 0, 2] = 2e4
    sure[2] = torch.linspace(0, 1, 10)  # all members agree
    model = Free(sure)
    recipe = Adp()
    loss = recipe.loss(
        make_step(model, torch.zeros(3, 1), torch.full((3,), 4), eps=0.0, recipe=recipe)
    )
    loss.backward()
    assert loss.isfinite()
    assert model.logits.grad is not None
    assert model.logits.grad.isfinite().all()


def test_without_its_terms_each_member_trains_as_if_alone(network: Build, data: Samples) -> None:
    for kind in ("linear", "smooth", "norm"):
        ensemble = joint(network, 2, seed=5, kind=kind)
        recipe = Adp(alpha=0.0, beta=0.0, members=2)
        options = {**SGD, "epochs": 3, "optimizer": "adam", "learning_rate": 0.02}
        result = train(ensemble, data, recipe, **options)
        for seed, member in zip(member_seeds(5, 2), members(result), strict=True):
            alone = network(kind, seed=seed, scale=3)
            train(alone, data, Natural(), **options)
            for name, weight in alone.state_dict().items():
                assert torch.equal(weight, member.state_dict()[name]), (kind, name)
        assert {"determinant", "entropy"} < result.history[0].keys()


def test_with_its_terms_the_members_differ_more(network: Build, data: Samples) -> None:
    settings: dict[str, Any] = {**SGD, "epochs": 40, "optimizer": "adam", "learning_rate": 0.02}
    kept = {}
    for alpha, beta in ((0.0, 0.0), (2.0, 0.5)):
        ensemble = joint(network)
        result = train(ensemble, data, Adp(alpha=alpha, beta=beta, members=2), **settings)
        with torch.no_grad():
            found = ensemble_diversity(ensemble(data[0]), data[1])
        kept[alpha] = float(found.determinant.mean()), float(found.entropy.mean())
        last = result.history[-1]
        assert 0 <= last["determinant"] <= 1 + 1e-5
        assert 0 <= last["entropy"] <= math.log(3) + 1e-6
    assert kept[2.0][0] > kept[0.0][0] + 0.1
    assert kept[2.0][1] > kept[0.0][1] + 0.1


# --- the measure ---


def test_the_determinant_is_0_if_members_agree_and_1_if_they_share_no_wrong_class() -> None:
    logits = torch.randn(20, 3, 10, generator=torch.Generator().manual_seed(4))
    y = torch.arange(20) % 10
    found = ensemble_diversity(logits, y)
    assert found.determinant.min() >= 0
    assert found.determinant.max() <= 1
    q = logits.double().softmax(2).mean(1)
    torch.testing.assert_close(found.entropy, -(q * q.log()).sum(1))
    rows = logits.double().softmax(2).scatter(2, y.view(-1, 1, 1).expand(-1, 3, 1), 0.0)
    rows = rows / rows.norm(dim=2, keepdim=True)
    torch.testing.assert_close(found.determinant, torch.det(rows @ rows.transpose(1, 2)))
    logits[:, 2] = logits[:, 0] + 3  # a shift of logits changes no probability
    assert ensemble_diversity(logits, y).determinant.max() < 1e-9
    apart = torch.full((1, 3, 10), -60.0)
    for member in range(3):
        apart[0, member, 1 + 3 * member : 4 + 3 * member] = torch.tensor([0.0, 1.0, 2.0])
    apart[0, :, 0] = 3.0
    assert float(ensemble_diversity(apart, torch.zeros(1, dtype=torch.int64)).determinant) == (
        pytest.approx(1.0)
    )


@pytest.mark.parametrize(
    ("outputs", "y", "message"),
    [
        (torch.zeros(4, 10), torch.zeros(4, dtype=torch.int64), r"\(samples, members, classes\)"),
        (torch.zeros(4, 2, 3), torch.full((4,), 3), "class indices below 3, got 3"),
        (torch.zeros(4, 2, 3), torch.zeros(3, dtype=torch.int64), r"y must have shape \(4,\)"),
    ],
)
def test_outputs_that_cannot_be_measured(outputs: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ensemble_diversity(outputs, y)


# --- the ensemble and its head ---


def test_the_head_is_the_logarithm_of_the_mean_probability(network: Build, data: Samples) -> None:
    ensemble = joint(network, 3)
    raw = ensemble(data[0])
    assert raw.shape == (14, 3, 3)
    for place, member in enumerate(ensemble.members):
        assert torch.equal(raw[:, place], member(data[0]))
    scores = MeanProbability(ensemble)(data[0])
    torch.testing.assert_close(scores, raw.softmax(2).mean(1).log())
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(14))
    far = MeanProbabilityHead(2).scores(torch.tensor([[[0.0, 1e4], [0.0, 2e4]]]))
    assert far.tolist()[0] == pytest.approx([-1e4 - math.log(2), 0.0], abs=1e-2)


def test_a_member_that_changes_its_input_does_not_change_that_of_the_next(network: Build) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, rows: Tensor) -> Tensor:
            found: Tensor = self.inner(rows.sub_(0.5))
            return found

    first, second = InPlace(), network(seed=3)
    x = torch.rand(2, 1, 4, 4)
    before = x.clone()
    assert torch.equal(JointEnsemble([first, second])(x)[:, 1], second(before))
    assert torch.equal(x, before)


def test_each_member_has_a_seed_of_its_own(network: Build) -> None:
    assert len({seed for run in range(20) for seed in member_seeds(run, 5)}) == 100
    ensemble = joint(network, 3, seed=2)
    for seed, member in zip(member_seeds(2, 3), ensemble.members, strict=True):
        wanted = network("smooth", seed=seed, scale=3).state_dict()
        assert all(torch.equal(one, wanted[name]) for name, one in member.state_dict().items())
    with pytest.raises(ValueError, match=r"must start from different weights.*--untrained"):
        make_ensemble(lambda seed: network(seed=0), 3, 0)


def test_a_network_drawn_anew_keeps_its_form_and_depends_on_the_seed(network: Build) -> None:
    model = network("norm")
    state = torch.get_rng_state()
    one, same, other = (redrawn(model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in one.named_parameters():
        assert torch.equal(weight, same.get_parameter(name))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    assert not torch.equal(next(one.parameters()), next(model.parameters()))
    with pytest.raises(ValueError, match=r"the network \(Free\) has none: pass the members"):
        redrawn(Free(torch.zeros(1, 2, 3)), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda network: [network()], "at least 2 members, got 1"),
        (lambda network: [], "at least 2 members, got 0"),
        (lambda network: [network()] * 2, "must share no parameter"),
        (lambda network: [network(), lambda rows: rows], "members must be a list of networks"),
        (lambda network: network(), "members must be a list of networks"),
    ],
    ids=["one", "none", "twice", "callable", "network"],
)
def test_what_is_no_ensemble(given: Callable, message: str, network: Build) -> None:
    with pytest.raises(ValueError, match=message):
        JointEnsemble(given(network))


def test_members_of_other_shapes_are_named() -> None:
    ensemble = JointEnsemble([nn.Linear(4, 3), nn.Linear(4, 2)])
    with pytest.raises(ValueError, match=r"one shape \(rows, classes\), got \(5, 3\), \(5, 2\)"):
        ensemble(torch.zeros(5, 4))


@pytest.mark.parametrize(
    ("count", "arguments", "message"),
    [
        (3, {"members": 3}, "members must be at most 2 for 3 classes.* got 3"),
        (2, {}, r"an art_ext.models.JointEnsemble of 3 members, got \(2, 2, 3\)"),
    ],
)
def test_ensembles_that_the_recipe_cannot_train(
    count: int,
    arguments: dict[str, Any],
    message: str,
    network: Build,
    data: Samples,
    tmp_path: Path,
) -> None:
    options = {**SGD, "epochs": 1, "checkpoint_dir": tmp_path / "run"}
    with pytest.raises(ValueError, match=message):
        train(joint(network, count), data, Adp(**arguments), **options)
    assert not (tmp_path / "run").exists()


def test_a_single_network_needs_to_be_made_an_ensemble(network: Build, data: Samples) -> None:
    with pytest.raises(
        ValueError, match=r"as an art_ext.models.JointEnsemble of 2 members, got \(2, 3\)"
    ):
        train(network(), data, Adp(members=2), epochs=1, **SGD)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": 1}, "members must be an integer >= 2, got 1"),
        ({"members": 2.5}, "members must be an integer >= 2, got 2.5"),
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
        ({"beta": float("nan")}, "beta must be a finite number >= 0, got nan"),
        ({"det_offset": 0.0}, "det_offset must be > 0, got 0.0"),
        ({"adversarial": "full"}, "adversarial must be one of 'none', .* got 'full'"),
        ({"eps_range": (0.05, 0.01)}, r"eps_range must be \(smallest, largest\), got \(0.05, 0.0"),
        ({"eps_range": 0.05}, r"eps_range must be \(smallest, largest\), got 0.05"),
        ({"eps_range": (-0.1, 0.01)}, "each radius of eps_range must be a finite number >= 0"),
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"step_fraction": 0.0}, "step_fraction must be > 0, got 0.0"),
        ({"bn_mode": "test"}, "bn_mode must be one of"),
        ({"eps": 0.1}, "the recipe adp takes .*got 'eps' .did you mean 'eps_range'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe("adp", **arguments)


def test_the_members_of_a_run(network: Build, data: Samples, tmp_path: Path) -> None:
    ensemble = joint(network)
    result = train(ensemble, data, Adp(members=2), epochs=1, **SGD)
    for run in (result, result.model, ensemble):
        assert members(run) == list(ensemble.members)
    with pytest.raises(ValueError, match=r"members needs an ensemble .* got Sequential"):
        members(network())


# --- examples ---


def test_the_radius_is_drawn_uniformly_for_each_update(
    network: Build, batch: Samples, make_step: Callable
) -> None:
    recipe = Adp(members=2, adversarial="plain", eps_range=(0.02, 0.1), num_steps=4)
    model = joint(network)
    reaches = []
    for update in range(200):
        step = make_step(model, *batch, eps=recipe.radius, recipe=recipe, update=update, seed=3)
        moved = (recipe.craft(step) - batch[0]).abs().max()
        radius = float(step.log["radius"])
        assert float(moved) == pytest.approx(radius, abs=1e-6)
        reaches.append(radius)
        if update < 3:
            few = (batch[0][:2], batch[1][:2])
            other = make_step(model, *few, eps=recipe.radius, recipe=recipe, update=update, seed=3)
            recipe.craft(other)
            assert float(other.log["radius"]) == radius, "the rows of a process do not matter"
            half = make_step(
                model, *few, eps=recipe.radius / 2, recipe=recipe, update=update, seed=3
            )
            recipe.craft(half)
            assert float(half.log["radius"]) == pytest.approx(radius / 2), "warm-up"
    drawn = torch.tensor(reaches)
    assert drawn.min() >= 0.02
    assert drawn.max() <= 0.1
    assert float(drawn.mean()) == pytest.approx(0.06, abs=4 * 0.08 / (12 * 200) ** 0.5)
    assert len(set(reaches)) == 200


def test_crafting_ascends_the_loss_of_the_mean_probability(
    network: Build, batch: Samples, make_step: Callable
) -> None:
    recipe = Adp(members=2, adversarial="plain", eps_range=(0.1, 0.1), num_steps=5)
    model = joint(network)
    found = recipe.craft(make_step(model, *batch, eps=0.1, recipe=recipe))

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, rows: Tensor) -> Tensor:
            return self.inner(rows).softmax(2).mean(1).log()

    same = Pgd(eps=0.1, num_steps=5, step_size=0.02)
    # the draw of the radius comes first
    step = make_step(Mean(), *batch, eps=0.1)
    step.uniform_of_update()
    torch.testing.assert_close(found, same.craft(step), rtol=0, atol=1e-6)


@pytest.mark.parametrize("adversarial", ["regularised", "plain"])
def test_the_losses_with_examples(
    adversarial: str, network: Build, batch: Samples, make_step: Callable
) -> None:
    recipe = Adp(members=2, adversarial=adversarial, eps_range=(0.1, 0.2), num_steps=2)
    model = joint(network)
    x, y = batch
    x_adv = recipe.craft(make_step(model, x, y, eps=0.2, recipe=recipe))
    wanted = by_hand(model(x).detach(), y, 2.0, 0.5, 1e-6)
    outputs = model(x_adv).detach()
    if adversarial == "regularised":
        wanted = wanted + by_hand(outputs, y, 2.0, 0.5, 1e-6)
    else:
        for place in range(2):
            wanted = wanted + functional.cross_entropy(outputs[:, place], y, reduction="none")
    step = make_step(model, x, y, eps=0.2, recipe=recipe)
    torch.testing.assert_close(recipe.loss(step), wanted.mean().float(), rtol=1e-3, atol=1e-4)
    assert ("determinant_adversarial" in step.log) == (adversarial == "regularised")


@pytest.mark.parametrize("adversarial", ["none", "plain", "regularised"])
def test_rows_are_counted_for_each_member(
    adversarial: str, network: Build, data: Samples, count_rows: Callable
) -> None:
    recipe = Adp(members=2, adversarial=adversarial, eps_range=(0.1, 0.2), num_steps=3)
    passes = 1 if adversarial == "none" else 3 + 2
    assert recipe.cost() == (2 * passes, 2 * passes)
    ensemble = joint(network)
    watched = [count_rows(member) for member in ensemble.members]
    result = train(ensemble, data, recipe, epochs=2, **SGD)
    assert result.forwards == sum(rows.forwards for rows in watched) == 2 * 14 * 2 * passes
    assert result.backwards == sum(rows.backwards for rows in watched) == result.forwards
    assert result.history[-1]["eps"] == recipe.radius == (0.0 if adversarial == "none" else 0.2)


def test_the_log_mean_is_validated_called_back_and_exported(network: Build, data: Samples) -> None:
    ensemble = joint(network)
    seen = []

    def note(end: EpochEnd) -> dict[str, float]:
        end.model.eval()
        with torch.no_grad():
            seen.append(end.model(data[0]))
        return {}

    recipe = Adp(members=2)
    result = train(ensemble, data, recipe, epochs=2, validation_data=data, callbacks=[note], **SGD)
    assert seen[-1].shape == (14, 3)
    assert torch.equal(result.model.eval()(data[0]), seen[-1])
    right = (seen[-1].argmax(1) == data[1]).float().mean()
    assert result.history[-1]["validation_clean"] == pytest.approx(float(right))
    assert result.best is not None
    assert list(result.best) == list(ensemble.state_dict())
    loss = functional.cross_entropy(seen[-1], data[1])
    assert result.history[-1]["validation_loss"] == pytest.approx(float(loss))


# --- the attack on the mean logits ---


class MeanLogitsModel(nn.Module):
    """An ensemble as the mean of its members' logits."""

    def __init__(self, ensemble: nn.Module) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.ensemble(rows)
        return logits.mean(dim=1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("batch_size", [5, 256])
def test_the_attack_on_the_mean_logits_follows_their_margin(
    targeted: bool, batch_size: int, network: Build, data: Samples
) -> None:
    """Its iterates are those of an attack on the mean logits, its verdicts those of the ensemble."""
    x = data[0]
    ensemble = joint(network, 3)
    model = MeanProbability(ensemble).eval()
    settings: dict[str, Any] = {"eps": 0.05, "num_steps": 4, "seed": 1, "on_failure": "last"}
    with torch.no_grad():
        y = ensemble(x).mean(1).argmax(1)
    goal = (y + 1) % 3 if targeted else y
    settings.update({"targeted": targeted, "batch_size": batch_size})
    ours = pgd(model, x, goal, loss="mean-logits", **settings)
    theirs = pgd(MeanLogitsModel(ensemble).eval(), x, goal, loss="margin", **settings)
    attacked = ~(ours.already_adversarial | theirs.already_adversarial)
    same = attacked & ~ours.success & ~theirs.success
    assert same.any()
    torch.testing.assert_close(ours.x_adv[same], theirs.x_adv[same])
    with torch.no_grad():
        said = model(ours.x_adv).argmax(1)
    reached = said == goal if targeted else said != goal
    assert torch.equal(reached & attacked, ours.success & attacked)
    assert int(ours.queries.max()) == 6


def test_the_attack_on_the_mean_logits_moves_members_that_are_sure(network: Build) -> None:
    """The probabilities of such members are 1 and 0 in float32, and have no gradient."""
    x = torch.full((4, 1, 4, 4), 0.5)
    ensemble = JointEnsemble([network("linear", seed=seed, scale=1e5) for seed in (1, 2)])
    model = MeanProbability(ensemble).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
        before = ensemble(x).mean(1)
    found = pgd(model, x, y, eps=0.01, num_steps=3, loss="mean-logits", on_failure="last", seed=0)
    with torch.no_grad():
        after = ensemble(found.x_adv).mean(1)
    own = y.unsqueeze(1)
    lead = [
        one.gather(1, own).squeeze(1) - one.scatter(1, own, -torch.inf).amax(1)
        for one in (before, after)
    ]
    assert (lead[1] < lead[0]).all()


def test_the_attack_on_the_mean_logits_with_a_detector(network: Build, data: Samples) -> None:
    x = data[0]
    model = MeanProbability(joint(network)).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    squeezing = make_detector("feature_squeezing", {"squeezers": "mnist"}).fit(model, x, y)
    squeezing.calibrate(x.repeat(2, 1, 1, 1))
    settings: dict[str, Any] = {"eps": 0.05, "num_steps": 3, "seed": 0, "on_failure": "last"}
    settings["loss"] = "mean-logits"
    alone = pgd(model, x, y, **settings)
    aware = {
        loss: pgd(model, x, y, detector=squeezing, detector_loss=loss, **settings)
        for loss in ("none", "auto")
    }
    for found in aware.values():
        assert int(found.queries.max()) == 5 * squeezing.rows
    # the squeezed copies go through the ensemble too, and the loss is that of the row itself
    same = ~(alone.already_adversarial | alone.success | aware["none"].already_adversarial)
    assert same.any()
    assert torch.equal(aware["none"].x_adv[same], alone.x_adv[same])


def test_the_loss_of_mean_logits_needs_an_ensemble(network: Build, data: Samples) -> None:
    with pytest.raises(ValueError, match=r"loss='mean-logits' needs an ensemble .* got Sequential"):
        pgd(network(), *data, eps=0.1, loss="mean-logits")


def test_the_head_declares_its_attacks(network: Build) -> None:
    found = adaptive_attacks(MeanProbability(joint(network)))
    assert [arguments["loss"] for _, arguments in found] == ["margin", "mean-logits"]
