"""The heads of reverse cross-entropy and Max-Mahalanobis training: closed forms, precision, weights."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.models import ModelSource, digits_cnn, load_model, load_weights, save_weights
from art_ext.models.layers import Normalize, Preprocessed, head_records
from art_ext.models.weights import read_heads
from art_ext.training.heads import (
    HEADS,
    Head,
    MaxMahalanobis,
    MaxMahalanobisHead,
    ReverseLogits,
    adaptive_attacks,
    heads_of,
    max_mahalanobis_centres,
    rebuild_head,
    replace_last_linear,
    with_heads,
)
from art_ext.training.heads.centres import optimised_centres, random_centres, smallest_distance
from art_ext.training.objectives import mmc, mmlda, rce, soft_cross_entropy

NORM = 10.0


def gram(num_classes: int) -> Tensor:
    """The inner products of a simplex: C^2 on the diagonal, -C^2 / (L - 1) elsewhere."""
    eye = torch.eye(num_classes, dtype=torch.float64)
    return NORM**2 * (eye - (1 - eye) / (num_classes - 1))


# --- centres ---


def test_the_centres_are_a_simplex() -> None:
    for num_classes in range(2, 101):
        for dim in (num_classes - 1, num_classes, num_classes + 3):
            centres = max_mahalanobis_centres(num_classes, dim)
            assert centres.shape == (num_classes, dim)
            assert float((centres @ centres.T - gram(num_classes)).abs().max()) < 1e-10
            assert float(centres.sum(dim=0).abs().max()) < 1e-10


def test_the_distance_of_ten_centres() -> None:
    distances = torch.pdist(max_mahalanobis_centres(10, 9))
    assert distances.tolist() == pytest.approx([14.907] * 45, abs=5e-4)
    assert float(distances.min()) == pytest.approx(NORM * math.sqrt(20 / 9))


def test_the_entries_are_those_of_the_papers_recursion() -> None:
    wanted = torch.zeros(6, 7, dtype=torch.float64)
    wanted[0, 0] = 1
    for k in range(1, 6):
        for j in range(k):
            wanted[k, j] = -(1 / 5 + wanted[k] @ wanted[j]) / wanted[j, j]
        wanted[k, k] = (1 - wanted[k].square().sum()).abs().sqrt()
    found = max_mahalanobis_centres(6, 7, norm=3.0)
    assert torch.allclose(found, 3 * wanted, atol=1e-7)  # a root of rounding on the diagonal


@pytest.mark.parametrize(
    ("num_classes", "dim", "best"),
    [
        (3, 2, math.sqrt(3)),
        (4, 2, math.sqrt(2)),  # a square
        (6, 3, math.sqrt(2)),  # an octahedron
        (12, 3, 1.0514622),  # an icosahedron
        (10, 2, 2 * math.sin(math.pi / 10)),
    ],
)
def test_optimised_centres_reach_the_known_optimum(num_classes: int, dim: int, best: float) -> None:
    for seed in range(3):
        centres = optimised_centres(num_classes, dim, NORM, seed)
        assert centres.norm(dim=1).tolist() == pytest.approx([NORM] * num_classes)
        assert smallest_distance(centres) == pytest.approx(NORM * best, rel=1e-3)


def test_drawn_centres_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first = random_centres(5, 3, 2.0, seed=4)
    assert torch.equal(first, random_centres(5, 3, 2.0, seed=4))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, random_centres(5, 3, 2.0, seed=5))
    assert first.norm(dim=1).tolist() == pytest.approx([2.0] * 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 8), r"dim must be >= num_classes - 1 = 9 .*, got 8: pass centres='optimised'"),
        ((1, 8), "num_classes must be an integer >= 2, got 1"),
        ((3, 0), "dim must be an integer >= 1, got 0"),
        ((3, 4, -1.0), "norm must be > 0, got -1.0"),
        ((3, 4, 1.0, "sphere"), "centres must be one of 'simplex', 'random', 'optimised'"),
        ((3, 4, 1.0, torch.zeros(4, 3)), r"centres must be .* shape \(3, 4\), got shape \(4, 3\)"),
        ((3, 4, 1.0, "random", -1), "seed must be an integer >= 0, got -1"),
    ],
    ids=str,
)
def test_centres_that_make_no_sense(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaxMahalanobisHead(*arguments)


def test_the_optimised_head_reports_its_smallest_distance(caplog: Any) -> None:
    with caplog.at_level("INFO", "art_ext"):
        head = MaxMahalanobisHead(4, 2, centres="optimised")
    assert head.smallest_distance == pytest.approx(NORM * math.sqrt(2), rel=1e-3)
    assert f"{head.smallest_distance:.4g} apart" in caplog.text


# --- scores and losses ---


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_half_the_scores_have_the_softmax_of_the_inner_products(num_classes: int) -> None:
    head = MaxMahalanobisHead(num_classes, num_classes - 1)
    generator = torch.Generator().manual_seed(1)
    z = 5 * torch.randn(50, num_classes - 1, dtype=torch.float64, generator=generator)
    scores = head.scores(z)
    products = z @ head.centres.T
    difference = (scores / 2).log_softmax(dim=1) - products.log_softmax(dim=1)
    assert float(difference.abs().max()) < 1e-10
    assert torch.equal(scores.argmax(dim=1), products.argmax(dim=1))
    assert torch.allclose(
        mmlda(0.5)(scores, z.new_zeros(50).long()), -products.log_softmax(1)[:, 0]
    )


def test_the_centre_loss_and_its_gradient() -> None:
    head = MaxMahalanobisHead(4, 5)
    y = torch.arange(4)
    at_centres = head.scores(head.centres.clone())
    assert float(mmc()(at_centres, y).abs().max()) < 1e-12, "0 at the centre of the label"
    assert float((at_centres - at_centres.diag().unsqueeze(1)).max()) < 1e-12
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    loss = mmc(0.5)(head.scores(z), y)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert torch.allclose(loss, 0.5 * (z - head.centres).square().sum(dim=1))
    assert torch.allclose(gradient, z.detach() - head.centres)


def test_reverse_cross_entropy_at_its_optimum() -> None:
    for num_classes in (2, 3, 10):
        y = torch.arange(num_classes)
        scores = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        scores.fill_diagonal_(500.0)  # the network's output of the label is -500
        found = rce(scores, y).tolist()
        assert found == pytest.approx([math.log(num_classes - 1)] * num_classes, abs=1e-12)
        other = scores + torch.linspace(0, 1, num_classes, dtype=torch.float64)
        assert bool((rce(other, y) >= math.log(num_classes - 1) - 1e-12).all())


def test_reverse_cross_entropy_is_that_of_the_reversed_label() -> None:
    scores = 4 * torch.randn(30, 5, dtype=torch.float64)
    y = torch.arange(30) % 5
    reverse = (1 - functional.one_hot(y, 5)) / 4
    assert torch.allclose(rce(scores, y), soft_cross_entropy(-scores, reverse))


def test_with_two_classes_it_is_plain_cross_entropy() -> None:
    z = 3 * torch.randn(40, 2, dtype=torch.float64)
    y = torch.arange(40) % 2
    found = rce(-z, y)
    assert torch.allclose(found, functional.cross_entropy(-z, y, reduction="none"), atol=1e-12)
    assert torch.allclose(found, functional.cross_entropy(z, 1 - y, reduction="none"), atol=1e-12)


def test_no_digit_is_lost_where_the_label_dominates() -> None:
    """float32 keeps about 7 digits of the difference of a sum and its largest term."""
    others = torch.tensor([[0.0, 0.3, -0.2]])
    scores = torch.cat([torch.tensor([[1e4]]), others], dim=1)
    exact = rce(scores.double(), torch.tensor([0]))
    assert float(rce(scores, torch.tensor([0])) - exact) == pytest.approx(0, abs=1e-6)


# --- the modules ---


def batch() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def make_max_mahalanobis(dim: int = 16, **arguments: Any) -> MaxMahalanobis:
    return MaxMahalanobis(replace_last_linear(digits_cnn(), dim), 10, dim, **arguments)


def test_reversed_logits_are_minus_the_outputs() -> None:
    network = digits_cnn()
    x = batch()
    model = ReverseLogits(network)
    assert torch.equal(model(x), -network(x))
    assert list(model.state_dict()) == list(network.state_dict())


def test_the_scores_are_float32_under_autocast_and_for_half_networks() -> None:
    model = make_max_mahalanobis()
    x = batch()
    z = model.model(x)
    exact = -(z.double().unsqueeze(1) - max_mahalanobis_centres(10, 16)).square().sum(dim=2)
    assert torch.equal(model(x), exact.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(x)
        z = model.model(x).float()
    exact = -(z.double().unsqueeze(1) - max_mahalanobis_centres(10, 16)).square().sum(dim=2)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, exact.float())
    model.bfloat16()
    assert model(x.bfloat16()).dtype == torch.float32
    assert torch.equal(model.head.centres, max_mahalanobis_centres(10, 16)), "no digit is lost"


def test_a_device_without_float64_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    head = MaxMahalanobisHead(10, 16)
    monkeypatch.setattr(
        "art_ext.training.heads.max_mahalanobis.exact_dtype", lambda device: torch.float32
    )
    seen: list[torch.dtype] = []

    def move(tensor: Tensor) -> Tensor:
        seen.append(tensor.dtype)
        return tensor.clone()

    head._apply(move)
    assert seen == [torch.float32]
    assert head.centres.dtype == torch.float32
    z = torch.randn(5, 16)
    assert torch.allclose(head.scores(z), MaxMahalanobisHead(10, 16).scores(z), rtol=1e-4)
    monkeypatch.undo()
    assert head.to("cpu").centres.dtype == torch.float64
    meta = MaxMahalanobisHead(10, 16).to("meta")
    # a kind of device without autocast
    assert meta.scores(torch.empty(3, 16, device="meta")).shape == (3, 10)
    assert meta.centres.is_meta


def test_the_scores_of_a_row_do_not_depend_on_the_others() -> None:
    head = MaxMahalanobisHead(10, 16)
    z = 8 * torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
    alone = torch.cat([head.scores(row) for row in z.split(1)])
    assert torch.equal(head.scores(z), alone)


def test_each_model_has_centres_of_its_own() -> None:
    head = MaxMahalanobisHead(10, 10)
    first: Any = head.export(digits_cnn())
    first.head.centres.zero_()
    assert float(head.centres.abs().max()) > 1
    twin = copy.deepcopy(first)
    twin.head.centres.fill_(1)
    assert float(first.head.centres.max()) == 0


def test_a_head_around_a_head_of_the_same_kind() -> None:
    for build in (ReverseLogits, lambda inner: MaxMahalanobis(inner, 10, 10)):
        inner = build(digits_cnn())
        for network in (inner, Preprocessed(inner, None), nn.Sequential(inner)):
            with pytest.raises(ValueError, match=r"without a head of its kind, got .*pass"):
                build(network)
    mixed = MaxMahalanobis(ReverseLogits(digits_cnn()), 10, 10)
    assert [head.name for head in heads_of(mixed)] == ["max-mahalanobis", "reverse-logits"]


def test_the_declared_attacks_are_attacks_with_their_arguments() -> None:
    from art_ext.core.attacks import registry

    model = make_max_mahalanobis()
    x = batch()
    for head in (model, ReverseLogits(digits_cnn())):
        declared = adaptive_attacks(Preprocessed(head, None))
        assert declared
        for name, arguments in declared:
            assert arguments["loss"] != "ce"
            small = {**arguments, "num_steps": 2}
            result = registry.get(name).function(head, x, eps=0.1, **small)
            assert len(result.success) == 6
    assert adaptive_attacks(digits_cnn()) == ()
    assert adaptive_attacks(lambda rows: rows) == ()


# --- networks of another width ---


def test_the_last_linear_layer_is_replaced_in_place() -> None:
    network = digits_cnn().double().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert replace_last_linear(network, 16) is network
    layer: Any = network[-1]
    assert (layer.in_features, layer.out_features, layer.training) == (32, 16, False)
    assert layer.weight.dtype == torch.float64
    after = network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items() if name[0] != "8")
    biasless: Any = replace_last_linear(nn.Sequential(nn.Linear(3, 2, bias=False)), 5)
    assert biasless[0].bias is None


def test_a_network_that_is_a_linear_layer() -> None:
    layer = replace_last_linear(nn.Linear(3, 2), 7)
    assert isinstance(layer, nn.Linear)
    assert layer.out_features == 7


def test_a_network_without_a_last_linear_layer() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4))
    message = r"must be an nn.Linear .* 2 \(BatchNorm1d\), 0 \(Linear\), from the last to the first"
    with pytest.raises(ValueError, match=message):
        replace_last_linear(network, 3)
    with pytest.raises(ValueError, match="with parameters are none"):
        replace_last_linear(nn.Flatten(), 3)


# --- saved weights ---

CASES: dict[str, Callable[[], nn.Module]] = {
    "reverse": lambda: ReverseLogits(digits_cnn()),
    "simplex": make_max_mahalanobis,
    "random": lambda: make_max_mahalanobis(4, centres="random", seed=3),
    "given": lambda: make_max_mahalanobis(12, centres=7 * torch.randn(10, 12)),
    "both": lambda: ReverseLogits(make_max_mahalanobis()),
}


@pytest.mark.parametrize("name", CASES)
def test_loaders_put_the_head_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = CASES[name]().eval()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    loaded = load_model("digits-cnn", weights=file)
    x = batch()
    assert torch.equal(loaded.model(x), model(x))
    assert read_heads(file) == [head.record() for head in heads_of(loaded.model)]
    own = load_weights(with_heads(digits_cnn(), read_heads(file)), file).eval()
    assert torch.equal(own(x), model(x))
    source = ModelSource("art_ext.models:digits_cnn", weights=str(file), normalize="mnist")
    normalised: Any = load_model(source).model
    mean, std = normalised.normalize.mean, normalised.normalize.std
    assert isinstance(normalised.normalize, Normalize)
    assert torch.allclose(normalised(x), model((x - mean) / std))


@pytest.mark.parametrize("name", CASES)
def test_a_bare_network_does_not_take_the_weights(name: str, tmp_path: Path) -> None:
    model = CASES[name]()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    inner: Any = model.model
    bare: nn.Module = copy.deepcopy(inner)
    before = {key: tensor.clone() for key, tensor in bare.state_dict().items()}
    wanted = heads_of(model)[0].name
    with pytest.raises(ValueError, match=rf"the head {wanted}.*, but the model has") as caught:
        load_weights(bare, file)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(one, before[key]) for key, one in bare.state_dict().items())


def test_the_arguments_of_ones_own_head_are_json_values(tmp_path: Path) -> None:
    class Scaled(Head):
        def __init__(self, factors: Tensor) -> None:
            self.factors = factors

        def scores(self, raw: Tensor) -> Tensor:
            return raw * self.factors

    model = Scaled(torch.arange(1.0, 11.0)).export(digits_cnn())
    (record,) = head_records(model)
    assert json.loads(json.dumps(record)) == record
    assert record["arguments"]["factors"].startswith("tensor([")
    save_weights(model, tmp_path / "weights.safetensors")
    assert read_heads(tmp_path / "weights.safetensors") == [record]
    load_weights(model, tmp_path / "weights.safetensors")


def test_weights_of_another_head() -> None:
    record = MaxMahalanobisHead(10, 16).record()
    assert rebuild_head(record).record() == record
    with pytest.raises(ValueError, match=r"the head 'max-mahalanobi' .*did you mean 'max-"):
        rebuild_head({**record, "name": "max-mahalanobi"})
    with pytest.raises(ValueError, match="does not take the arguments"):
        rebuild_head({**record, "arguments": {"width": 3}})
    assert set(HEADS) >= {"reverse-logits", "max-mahalanobis"}


def test_weights_without_a_head_are_those_of_before(tmp_path: Path) -> None:
    from art_ext.storage.files import header_of

    file = tmp_path / "plain.safetensors"
    save_weights(digits_cnn(), file)
    assert "__metadata__" not in header_of(file)
    assert read_heads(file) == []
    torch.save(digits_cnn().state_dict(), tmp_path / "plain.pt")
    assert read_heads(tmp_path / "plain.pt") == []
    load_weights(ReverseLogits(digits_cnn()), file)
