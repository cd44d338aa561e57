"""Networks as people have them, in every attack and shell: in-place layers, inference mode."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn


class Shifted(nn.Module):
    """A network behind ``2 x - 1``, and behind a ReLU, in place or not."""

    def __init__(self, network, inplace):
        super().__init__()
        self.network, self.inplace = network, inplace
        self.relu = nn.ReLU(inplace)

    def forward(self, rows):
        shifted = rows.mul_(2).sub_(1) if self.inplace else 2 * rows - 1
        return self.network((self.relu(shifted) + 1) / 2)


@pytest.fixture
def few(digits):
    return digits[0][:12], digits[1][:12]


def test_a_network_that_works_in_place_gives_the_same_results(attack, check_same, few, digits_net):
    in_place, plain = (
        attack.run(Shifted(digits_net, inplace), *few, max_queries=60) for inplace in (True, False)
    )
    check_same(in_place, plain)
    assert torch.equal(in_place.wasted_rows, plain.wasted_rows)
    predictions = Shifted(digits_net, False)(plain.x_adv).argmax(1)
    assert torch.equal(predictions != few[1], plain.success)


def test_an_attack_works_in_inference_mode(attack, check_same, few, digits_net):
    with torch.inference_mode():
        x, y = few[0].clone(), few[1].clone()
        inside = attack.run(digits_net, x, y, max_queries=60)
        assert torch.is_inference_mode_enabled()
    check_same(inside, attack.run(digits_net, *few, max_queries=60))
    assert not inside.x_adv.is_inference()
    assert all(parameter.requires_grad for parameter in digits_net.parameters())


def test_a_network_made_in_inference_mode_is_named(attack, few):
    with torch.inference_mode():
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(
        ValueError,
        match=r"made outside (?:of )?torch.inference_mode\(\), got '.*1.weight' made inside",
    ):
        attack.run(made, *few)


DTYPES = (torch.float16, torch.bfloat16, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_network_of_another_dtype_confirms_every_verdict(
    attack, counting, few, digits_net, dtype
):
    network = copy.deepcopy(digits_net).to(dtype)
    counter = counting(network)
    result = attack.run(counter, *few, max_queries=60)
    assert result.x_adv.dtype == torch.float32
    predictions = torch.cat([network(row.to(dtype)) for row in result.x_adv.split(1)]).argmax(1)
    assert torch.equal(predictions != few[1], result.success)
    assert int((result.queries + result.wasted_rows).sum()) == counter.rows
    if attack.kind.name == "zoo" and dtype != torch.float64:
        return  # its differences over h = 1e-4 vanish in the rounding of halves
    reference = attack.run(digits_net, *few, max_queries=60)
    assert abs(int(result.success.sum()) - int(reference.success.sum())) <= 2


class Casting(nn.Module):
    """A network that casts by itself; its parameters are not float32, but it takes float32 rows."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = set()

    def forward(self, rows):
        self.seen.add(rows.dtype)
        return self.network(rows.half())


def test_a_network_that_takes_float32_gets_float32(attack, few, digits_net):
    network = Casting(copy.deepcopy(digits_net).half())
    result = attack.run(network, *few, max_queries=30)
    assert network.seen == {torch.float32}
    predictions = torch.cat([network(row) for row in result.x_adv.split(1)]).argmax(1)
    assert torch.equal(predictions != few[1], result.success)


def test_no_grad_changes_nothing(attack, check_same, few, digits_net):
    with torch.no_grad():
        inside = attack.run(digits_net, *few, max_queries=40)
        assert not torch.is_grad_enabled()
    check_same(inside, attack.run(digits_net, *few, max_queries=40))


class OneColumn(nn.Module):
    """Whether a digit is below five, as one logit."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows):
        scores = self.network(rows)
        return scores[:, 5:].amax(dim=1, keepdim=True) - scores[:, :5].amax(dim=1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool], ids=str)
def test_one_column_and_labels_of_other_types(attack, few, digits_net, dtype):
    x, y = few[0], (few[1] > 4).to(dtype)
    network = OneColumn(digits_net)
    eps = 1.0 if attack.kind.name == "zoo" else 0.3  # which moves few pixels within its budget
    result = attack.run(network, x, y, eps=eps, num_classes=2)
    said = torch.cat([network(row) for row in result.x_adv.split(1)]).flatten() > 0
    assert torch.equal(said != y.bool(), result.success)
    assert int(result.success.sum()) > int(result.already_adversarial.sum())
