"""In-place, half and double networks, and inference mode, outside of single attacks: evaluation,
training, metrics.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from art_ext.core import metrics
from art_ext.core.attacks import pgd
from art_ext.core.ensemble import Ensemble
from art_ext.data import load_data
from art_ext.evaluation import evaluate, read_records, read_run
from art_ext.training import make_recipe, train

RECIPES = (
    "natural",
    "pgd",
    "trades",
    "free",
    "atcd",
    "cat",
    "backward-smoothing",
    "fast-trades",
    "war",
)


class Centred(nn.Module):
    """A small network of digits behind ``2 x - 1``, in place or not."""

    def __init__(self, inplace, seed=0):
        super().__init__()
        self.inplace = inplace
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 32), nn.ReLU(inplace), nn.Linear(32, 10)
            )

    def forward(self, rows):
        return self.body(rows.mul_(2).sub_(1) if self.inplace else 2 * rows - 1)


def trained(network, recipe, x, y):
    settings = {} if recipe == "natural" else {"eps": 0.1}
    method = make_recipe(recipe, **settings, **({"zeta": 5.0} if recipe == "war" else {}))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return train(
        network,
        (x, y),
        method,
        updates=8,
        batch_size=16,
        optimizer=optimizer,
        progress=False,
        validation=8,
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_network_that_works_in_place_trains_to_the_same_weights(recipe, digits):
    before = digits[0].clone()
    in_place, plain = (trained(Centred(inplace), recipe, *digits) for inplace in (True, False))
    assert torch.equal(digits[0], before)
    assert torch.equal(in_place.losses, plain.losses)
    for left, right in zip(in_place.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert in_place.history[-1]["validation_clean"] == plain.history[-1]["validation_clean"]


@pytest.mark.parametrize("recipe", ["natural", "trades"])
def test_training_in_inference_mode(recipe, digits):
    network = Centred(False)
    with torch.inference_mode():
        inside = trained(network, recipe, digits[0].clone(), digits[1].clone())
    assert torch.equal(inside.losses, trained(Centred(False), recipe, *digits).losses)
    with torch.inference_mode():
        made = Centred(False)
    with pytest.raises(ValueError, match=r"made outside (?:of )?torch\.inference_mode"):
        trained(made, recipe, *digits)


def test_minibatches_of_inference_tensors(digits):
    with torch.inference_mode():
        batches = [
            (digits[0][part].clone(), digits[1][part].clone())
            for part in (slice(16), slice(16, 32))
        ]
    result = train(Centred(False), batches, make_recipe("pgd", eps=0.1), epochs=2, progress=False)
    assert bool(result.losses.isfinite().all())


def test_members_of_an_ensemble_do_not_see_what_others_wrote(digits):
    x, y = digits[0][:8], digits[1][:8]
    for average in ("logits", "losses"):
        results = [
            pgd(
                Ensemble([Centred(inplace, seed) for seed in (0, 1)], average=average),
                x,
                y,
                eps=0.1,
                seed=0,
            )
            for inplace in (True, False)
        ]
        assert torch.equal(results[0].x_adv, results[1].x_adv)


def test_metrics_in_place_and_in_inference_mode(digits):
    x, y = digits[0][:12], digits[1][:12]

    def measure(network):
        result = pgd(network, x, y, eps=0.1, seed=0)
        stable = metrics.perturbation_stability(network, x, result.x_adv)
        moved = metrics.transfer_success(result.x_adv, x, y, network).share
        return stable, moved, metrics.local_lipschitz(network, x, eps=0.1, num_steps=2).values

    plain = measure(Centred(False))
    before = x.clone()
    network = Centred(False)
    with torch.inference_mode():
        inside = measure(network)
    for other in (measure(Centred(True)), inside):
        assert other[0] == plain[0]
        assert other[1] == pytest.approx(plain[1], nan_ok=True)
        assert torch.equal(other[2], plain[2])
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str
)
def test_an_evaluation_of_networks_as_people_have_them(dtype, digits_net, tmp_path):
    data = load_data("digits").first(24)
    network = copy.deepcopy(digits_net).to(dtype)
    members = ["rays", "pgd", "torchattacks:PGD", "art:ProjectedGradientDescent"]
    if dtype == torch.float32:
        network = nn.Sequential(nn.ReLU(inplace=True), network).eval()
    with torch.inference_mode():
        evaluate(network, data, tmp_path, attacks=members, eps=0.1, max_queries=60)
    records = read_records(tmp_path)
    assert set(records["attack"]) == set(members)
    share = (
        1
        - records.groupby("attack")["success"].mean()
        - records.groupby("attack")["already_adversarial"].mean()
    )
    half = dtype in (torch.float16, torch.bfloat16)
    reference = metrics.robust_accuracy(
        pgd(digits_net, data.x, data.y, eps=0.1, seed=0, num_steps=20)
    )
    assert share["pgd"] == pytest.approx(reference, abs=0.15 if half else 0.09)
    assert {finding["kind"] for finding in read_run(tmp_path)["warnings"]} <= {
        "falsely-robust",
        "missed-by-gradients",
    }


@pytest.mark.parametrize("version", ["apgd-ce", "square"])
def test_autoattack_on_a_half_network_that_works_in_place(version, digits_net, digits):
    pytest.importorskip("pyautoattack")
    from art_ext.adapters.autoattack import run_autoattack

    x, y = digits[0][:6], digits[1][:6]
    network = nn.Sequential(nn.ReLU(inplace=True), copy.deepcopy(digits_net).half())
    with torch.inference_mode():
        result = run_autoattack(
            network,
            x,
            y,
            eps=0.2,
            version="custom",
            attacks=version,
            adjust={"apgd": {"n_iter": 5}, "square": {"n_queries": 50}},
        )
    said = torch.cat([network(row.half()) for row in result.x_adv.split(1)]).argmax(1)
    assert torch.equal(said != y, result.success)
