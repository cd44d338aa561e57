"""Recipes of a loss of class scores: rce, mmlda and mmc, with the craft of any recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core.attacks import pgd
from art_ext.core.losses import margin
from art_ext.models import digits_cnn, load_model
from art_ext.training import Mmc, Mmlda, Pgd, Rce, Trades, make_recipe, train
from art_ext.training.craft import Clean
from art_ext.training.craft.scores import ScoreAscent, wrong_classes
from art_ext.training.heads import MaxMahalanobisHead, ReverseLogits, heads_of
from art_ext.training.objectives import mmc, rce
from art_ext.training.recipes.scores import CRAFTS
from art_ext.training.step import Step
from tests.toys import accuracy

EPS = 0.1
Samples = tuple[Tensor, Tensor]
NAMES = ("rce", "mmlda", "mmc")


@pytest.mark.parametrize("name", NAMES)
def test_the_validation_sees_the_classes_of_the_head(
    name: str, network: Callable[..., nn.Module], samples: Samples
) -> None:
    """A bare network that minimises reverse cross-entropy has an accuracy of 0 %."""
    model = network("linear")
    result = train(
        model,
        samples,
        name,
        epochs=12,
        batch_size=10,
        learning_rate=0.1 if name == "rce" else 0.01,
        validation_data=samples,
        validation_eps=EPS,
    )
    last = result.history[-1]
    assert last["validation_clean"] == accuracy(result.model, samples) > 0.95
    assert heads_of(result.model)[0].name == make_recipe(name).head.name or name != "rce"
    attacked = pgd(
        result.model, *samples, eps=EPS, num_steps=10, loss="margin", stop_on_success=True, seed=1
    )
    robust = 1 - float((attacked.success | attacked.already_adversarial).double().mean())
    assert last["validation_robust"] == pytest.approx(robust)
    if name == "rce":
        assert accuracy(model, samples) < 0.05
    assert result.best is not None
    result.model.load_state_dict(result.best)


def test_reverse_cross_entropy_of_digits() -> None:
    from art_ext.data import load_data

    data = load_data("digits", split="train")
    torch.manual_seed(0)
    network = digits_cnn()
    options: dict[str, Any] = {"optimizer": "adam", "learning_rate": 4e-3, "weight_decay": 0.0}
    result = train(
        network, (data.x, data.y), "rce", epochs=5, batch_size=64, validation=0.1, **options
    )
    test = load_data("digits")
    held = (test.x, test.y)
    assert result.history[-1]["validation_clean"] > 0.9
    assert accuracy(result.model, held) > 0.9
    assert accuracy(network, held) < 0.02


def test_the_loss_of_an_update_is_the_mean_of_the_formula(
    network: Callable[..., nn.Module], batch: Samples
) -> None:
    x, y = batch
    model = network(scale=3)
    outputs = model(x).detach()
    found = train(network(scale=3), batch, Rce(), updates=1, batch_size=6).losses[0]
    assert torch.isclose(found, rce(-outputs, y).mean())
    scores = MaxMahalanobisHead(3, 3, 2.0).scores(outputs)
    for recipe, wanted in (
        (Mmc(centre_norm=2.0, factor=0.5), mmc(0.5)(scores, y)),
        (Mmlda(centre_norm=2.0), functional.cross_entropy(scores, y, reduction="none")),
        (
            Mmlda(centre_norm=2.0, factor=0.5),
            functional.cross_entropy(scores / 2, y, reduction="none"),
        ),
    ):
        found = train(network(scale=3), batch, recipe, updates=1, batch_size=6).losses[0]
        assert torch.isclose(found, wanted.mean()), recipe


# --- crafts ---


def craft(recipe: Any, model: nn.Module, batch: Samples, make_step: Callable[..., Step]) -> Tensor:
    step = make_step(model, *batch, eps=recipe.eps)
    step._engine.head = recipe.head
    found: Tensor = recipe.crafting(step)
    return found


def test_every_composed_recipe_lends_its_craft() -> None:
    names = ["pgd", "trades", "fast", "fast-trades", "backward-smoothing", "war"]
    assert list(CRAFTS) == names
    assert Rce().crafting == Clean()
    for name, kind in CRAFTS.items():
        assert Rce(craft=name, eps=EPS).crafting == kind(eps=EPS).crafting  # type: ignore[call-arg]
    assert Rce(craft="pgd", num_steps=3, step_size=0.01, norm="l2").crafting == (
        Pgd(num_steps=3, step_size=0.01, norm="l2").crafting
    )
    fast: Any = Mmc(craft="fast", boxed_start=False).crafting
    assert fast.start.boxed is False


@pytest.mark.parametrize("name", list(CRAFTS))
def test_the_craft_attacks_the_scores_of_the_head(
    name: str, network: Callable[..., nn.Module], batch: Samples, make_step: Callable[..., Step]
) -> None:
    model = network(scale=3)
    found = craft(Rce(craft=name, eps=EPS), model, batch, make_step)
    plain = CRAFTS[name](eps=EPS)  # type: ignore[call-arg]
    theirs = plain.crafting(make_step(ReverseLogits(model), *batch, eps=EPS))
    assert torch.equal(found, theirs)
    assert not torch.equal(found, batch[0])


@pytest.mark.parametrize("target", ["none", "random"])
@pytest.mark.parametrize("gain", ["ce", "margin", "objective"])
def test_gains_and_targets(
    gain: str,
    target: str,
    network: Callable[..., nn.Module],
    batch: Samples,
    make_step: Callable[..., Step],
    draws: list[Tensor],
) -> None:
    """One step from the start along the sign of the gradient of the loss by its formula."""
    x, y = batch
    model = network(scale=3)
    recipe = Mmc(
        craft="pgd",
        eps=EPS,
        num_steps=1,
        step_size=EPS / 4,
        gain=gain,
        target=target,
        num_classes=3,
        dim=3,
        centre_norm=2.0,
        factor=0.5,
    )
    found = craft(recipe, model, batch, make_step)
    start = draws[0]
    label = y if target == "none" else wrong_classes(y, draws[1].squeeze(1), 3)
    assert bool((label == y).all()) == (target == "none")
    rows = start.clone().requires_grad_(True)
    scores = recipe.head.scores(model(rows))
    formula = {
        "ce": functional.cross_entropy(scores, label, reduction="sum"),
        "margin": margin(scores, label).sum(),
        "objective": (-0.5 * scores.gather(1, label[:, None])).sum(),
    }
    (gradient,) = torch.autograd.grad(formula[gain], rows)
    sign = 1 if target == "none" else -1
    wanted = (start + sign * EPS / 4 * gradient.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    assert torch.allclose(found, wanted, atol=1e-7)


def test_wrong_classes_are_all_others_alike() -> None:
    drawn = torch.linspace(0, 1, 90_001)[:-1]
    y = torch.full((90_000,), 4)
    counts = wrong_classes(y, drawn, 10).bincount(minlength=10)
    assert counts[4] == 0
    assert sorted(counts.tolist())[1:] == pytest.approx([10_000] * 9, abs=2)
    largest = torch.tensor([1 - 2**-24])
    for classes in (2, 3, 10, 101, 1001, 1 << 15):
        assert wrong_classes(torch.tensor([0]), largest, classes).item() == classes - 1


def test_targets_do_not_depend_on_the_order_of_the_rows(
    network: Callable[..., nn.Module], batch: Samples, make_step: Callable[..., Step]
) -> None:
    recipe = Rce(craft="pgd", eps=EPS, num_steps=2, target="random")
    model = network(scale=3)
    x, y = batch
    whole = craft(recipe, model, batch, make_step)
    step = make_step(model, x.flip(0), y.flip(0), eps=EPS)
    step.ids = step.ids.flip(0)
    step._engine.head = recipe.head
    assert torch.allclose(recipe.crafting(step).flip(0), whole, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lent", ["none", *CRAFTS])
def test_rows_are_those_of_the_craft_and_one_more(
    name: str,
    lent: str,
    network: Callable[..., nn.Module],
    batch: Samples,
    count_rows: Callable[..., Any],
) -> None:
    model = network()
    recipe = make_recipe(name, craft=lent, eps=EPS)
    result = train(model, batch, recipe, updates=1, batch_size=6)
    counted = network()
    rows = count_rows(counted)
    again = train(counted, batch, recipe, updates=1, batch_size=6)
    free = CRAFTS[lent](eps=EPS).crafting.cost() if lent in CRAFTS else (0, 0)  # type: ignore[call-arg]
    assert recipe.cost() == (free[0] + 1, free[1] + 1)
    assert (result.forwards, result.backwards) == tuple(6 * one for one in recipe.cost())
    assert (again.forwards, again.backwards) == (result.forwards, result.backwards)
    assert (rows.forwards, rows.backwards) == (result.forwards, result.backwards)


# --- the head of a network ---


def test_classes_and_length_are_those_of_the_network(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = network("linear")
    result = train(model, samples, Mmc(), updates=1)
    assert heads_of(result.model)[0].arguments()["num_classes"] == 3
    assert heads_of(result.model)[0].arguments()["dim"] == 3
    assert result.model.model is model


def test_another_length_replaces_the_last_layer(
    network: Callable[..., nn.Module], samples: Samples
) -> None:
    weights = []
    for state in (1, 2):
        torch.manual_seed(state)
        model = network("smooth")
        before = torch.get_rng_state()
        result = train(model, samples, Mmc(dim=7), updates=1, learning_rate=1e-9, seed=3)
        assert torch.equal(before, torch.get_rng_state())
        assert result.model(samples[0]).shape == (60, 3)
        assert model(samples[0]).shape == (60, 7)
        weights.append(next(reversed(list(model.parameters()))).detach())
    assert torch.allclose(weights[0], weights[1]), "the seed of the run decides"


def test_centres_that_are_given(network: Callable[..., nn.Module], samples: Samples) -> None:
    centres = torch.eye(3)
    recipe = Mmlda(centres=centres)
    result = train(network(), samples, recipe, updates=1)
    head: Any = heads_of(result.model)[0]
    assert torch.equal(head.centres, centres.double())
    settings = recipe.settings()["centres"]
    assert settings.startswith("tensor (3, 3) ")
    assert settings != Mmlda(centres=2 * centres).settings()["centres"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mmc", {"num_classes": 10, "dim": 8}, "dim must be >= num_classes - 1 = 9"),
        ("mmc", {"centres": "cube"}, "centres must be one of 'simplex'.*got 'cube'"),
        ("mmc", {"factor": 0.0}, "factor must be > 0, got 0.0"),
        ("mmlda", {"centre_norm": -1.0}, "centre_norm must be > 0, got -1.0"),
        ("rce", {"craft": "pdg"}, "craft must be one of 'none', 'pgd', .*did you mean 'pgd'"),
        ("rce", {"craft": "free"}, "craft must be one of .*got 'free'"),
        ("rce", {"num_steps": 3}, "num_steps belong to a craft: pass craft, one of pgd"),
        ("rce", {"gain": "margin"}, "gain belong to a craft"),
        ("rce", {"craft": "pgd", "gain": "kl"}, "gain must be one of 'ce', 'margin', 'objective'"),
        ("rce", {"craft": "pgd", "target": "least"}, "target must be one of 'none', 'random'"),
        ("mmc", {"craft": "trades", "gain": "margin"}, "gain and target belong to a craft that"),
        ("mmc", {"craft": "pgd", "num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ("rce", {"dim": 4}, "the recipe rce takes .*got 'dim'"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(name: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_recipe(name, **arguments)
    assert "\n" not in str(caught.value)


def test_networks_that_do_not_fit(network: Callable[..., nn.Module], samples: Samples) -> None:
    with pytest.raises(ValueError, match="dim must be >= num_classes - 1 = 19"):
        train(network(), samples, Mmc(num_classes=20), epochs=1)
    with pytest.raises(ValueError, match="below 2, the classes of the head MaxMahalanobisHead"):
        train(network(), samples, Mmc(num_classes=2), epochs=1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"the last module with parameters must be an nn\.Lin"):
        train(body, samples, Mmc(dim=7), epochs=1)
    with pytest.raises(ValueError, match="the model fails on inputs of shape"):
        train(nn.Linear(3, 3), samples, Mmc(), epochs=1)
    with pytest.raises(ValueError, match="around a network with ReverseLogitsHead"):
        train(ReverseLogits(network()), samples, Rce(), epochs=1)
    with pytest.raises(ValueError, match="label_smoothing does not apply to the loss of rce"):
        train(network(), samples, Rce(), epochs=1, label_smoothing=0.1)
    with pytest.raises(ValueError, match="the head needs num_classes and dim"):
        Mmc().head.scores(samples[0])


def test_a_network_with_a_head_is_trained_further(
    network: Callable[..., nn.Module], samples: Samples, tmp_path: Path
) -> None:
    """The head around it is a part of the model, which another recipe leaves there."""
    model = ReverseLogits(network("linear"))
    train(model, samples, Pgd(eps=EPS, num_steps=1), epochs=1, checkpoint_dir=tmp_path)
    from art_ext.models.weights import read_heads

    assert [one["name"] for one in read_heads(tmp_path / "model.safetensors")] == ["reverse-logits"]


@pytest.mark.parametrize("name", ["mmc", "mmlda"])
@pytest.mark.parametrize("given", [{}, {"dim": 12}, {"num_classes": 10, "dim": 10}])
def test_centres_need_a_network_without_another_head(
    name: str, given: dict[str, Any], network: Callable[..., nn.Module], samples: Samples
) -> None:
    model = nn.Sequential(ReverseLogits(network("linear")))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"^{name} needs a network without a head, got one with ReverseLogitsHead"
    ):
        train(model, samples, make_recipe(name, **given), epochs=1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_a_training_folder_gives_the_model_with_its_head(name: str, tmp_path: Path) -> None:
    from art_ext.training.runs import resolve, run_training

    given: dict[str, Any] = {"recipe": name, "data": "digits", "n": 128, "epochs": 1, "test_n": 50}
    if name != "rce":
        given["recipe_args"] = {"dim": "16"}
    run = run_training(resolve({**given, "craft": "fast"}), tmp_path / "run")
    assert run is not None
    assert [one["name"] for one in run["heads"]] == [
        {"rce": "reverse-logits"}.get(name, "max-mahalanobis")
    ]
    assert run["recipe"]["craft"] == "fast"
    assert run["pgd"]["loss"] == "margin"
    x = torch.rand(4, 1, 8, 8)
    from_folder = load_model(tmp_path / "run", checkpoint="final").model
    from_file = load_model("digits-cnn", weights=tmp_path / "run" / "model.safetensors").model
    assert torch.equal(from_folder(x), from_file(x))
    assert heads_of(from_folder)[0].record() == run["heads"][0]
    again = run_training(resolve({}, tmp_path / "run" / "config.toml"), tmp_path / "again")
    assert again is not None
    assert again["final"]["clean"] == run["final"]["clean"]


def test_options_of_the_command() -> None:
    from art_ext.training.runs import resolve

    assert resolve({"recipe": "rce", "data": "digits"}).epochs == 15
    assert resolve({"recipe": "mmc", "data": "cifar10"}).learning_rate == 0.01
    assert resolve({"recipe": "rce", "data": "cifar10"}).learning_rate == 0.1
    assert resolve({"recipe": "mmc", "data": "digits"}).learning_rate == 4e-3, "of Adam"
    crafted = resolve({"recipe": "mmc", "data": "mnist", "craft": "fast"})
    assert crafted.make_recipe().crafting == Mmc(craft="fast", eps=0.3, boxed_start=False).crafting  # type: ignore[attr-defined]
    assert crafted.equivalent_epochs == 20
    assert crafted.eps_warmup_epochs == 4
    for given, message in (
        ({"recipe": "pgd", "craft": "pgd"}, "the recipe pgd decides itself how examples are"),
        ({"recipe": "rce", "craft": "pgs"}, "craft must be one of .*did you mean 'pgd'"),
        ({"recipe": "rce", "recipe_args": {"craft": "pgd"}}, "craft has an option of its own"),
        ({"recipe": "rce", "label_smoothing": 0.1}, "label_smoothing does not apply"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve({"data": "digits", **given})


def test_ascents_of_scores_are_compared_by_their_fields() -> None:
    one = Rce(craft="pgd", gain="objective").crafting
    assert isinstance(one, ScoreAscent)
    assert one.loss is rce
    assert {part.name for part in fields(one)} >= {"loss", "target", "num_steps"}
    assert not isinstance(Trades().crafting, ScoreAscent)


def trained(out: Path, **given: Any) -> dict[str, Any]:
    """``run.json`` of a short training on digits."""
    from art_ext.training.runs import resolve, run_training

    small = {"data": "digits", "n": 256, "epochs": 1, "test_n": 50, "validation": 40}
    run = run_training(resolve({**small, **given}), out)
    assert run is not None
    return run


@pytest.mark.parametrize(
    ("first", "second", "heads"),
    [
        ("rce", "natural", ["reverse-logits"]),
        ("mmc", "rce", ["reverse-logits", "max-mahalanobis"]),
        ("mmc", "natural", ["max-mahalanobis"]),
        ("adp", "natural", ["mean-probability"]),
    ],
)
def test_a_network_that_brings_its_head_is_loaded_with_it(
    first: str, second: str, heads: list[str], tmp_path: Path
) -> None:
    from art_ext.data import load_data

    trained(tmp_path / "first", recipe=first)
    run = trained(tmp_path / "second", recipe=second, model=str(tmp_path / "first"))
    assert [one["name"] for one in run["heads"]] == heads
    model = load_model(tmp_path / "second", checkpoint="final").model
    assert [head.name for head in heads_of(model)] == heads
    test = load_data("digits").first(50)
    right = (model(test.x).argmax(1) == test.y).double().mean()
    assert float(right) == pytest.approx(run["final"]["clean"])


def test_a_network_that_gets_its_head_from_weights_is_loaded_with_it(tmp_path: Path) -> None:
    from art_ext.data import load_data

    trained(tmp_path / "first", recipe="rce")
    weights = tmp_path / "first" / "model.safetensors"
    run = trained(tmp_path / "second", recipe="natural", model="digits-cnn", weights=str(weights))
    model = load_model(tmp_path / "second", checkpoint="final").model
    assert [head.name for head in heads_of(model)] == ["reverse-logits"]
    test = load_data("digits").first(50)
    right = (model(test.x).argmax(1) == test.y).double().mean()
    assert float(right) == pytest.approx(run["final"]["clean"])


@pytest.mark.parametrize("kept", [20, -4], ids=["in-the-header", "in-a-tensor"])
def test_cut_weights_of_a_folder_are_damaged(kept: int, tmp_path: Path) -> None:
    trained(tmp_path / "run", recipe="rce")
    file = tmp_path / "run" / "best.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"best\.safetensors is a damaged or incomplete safetensors"
    ):
        load_model(tmp_path / "run")
