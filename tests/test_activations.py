"""Activations of the networks by name, their arguments, and other ReLUs replaced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.models import (
    cifar_resnet20,
    cifar_seven_layer,
    densenet_bc,
    digits_cnn,
    mnist_lenet5,
    mnist_small_cnn,
    mnist_two_conv,
    preact_resnet18,
    replace_activations,
    resnet18,
    resnet50,
    resnext29,
    resolve_factory,
    vgg16,
    wide_resnet,
)

CLOSED_FORMS = {
    "celu": ({"alpha": 1.2}, lambda x: x if x > 0 else 1.2 * ((x / 1.2).exp() - 1)),
    "elu": ({}, lambda x: x if x > 0 else x.exp() - 1),
    "leaky_relu": ({"negative_slope": 0.1}, lambda x: x if x > 0 else 0.1 * x),
    "relu": ({}, lambda x: x.clamp(min=0)),
    "silu": ({}, lambda x: x / (1 + (-x).exp())),
    "softplus": ({"beta": 10}, lambda x: (1 + (10 * x).exp()).log() / 10),
    "tanh": ({}, torch.tanh),
}
NETWORKS = {
    "digits_cnn": (digits_cnn, (1, 8, 8)),
    "mnist_two_conv": (mnist_two_conv, (1, 28, 28)),
    "mnist_small_cnn": (lambda **options: mnist_small_cnn(True, **options), (1, 28, 28)),
    "mnist_lenet5": (mnist_lenet5, (1, 28, 28)),
    "resnet18": (lambda **options: resnet18(width=4, **options), (3, 32, 32)),
    "resnet50": (lambda **options: resnet50(width=4, **options), (3, 32, 32)),
    "preact_resnet18": (lambda **options: preact_resnet18(width=4, **options), (3, 32, 32)),
    "wide_resnet": (lambda **options: wide_resnet(10, 1, **options), (3, 32, 32)),
    "resnext29": (lambda **options: resnext29(2, width=4, **options), (3, 32, 32)),
    "densenet_bc": (lambda **options: densenet_bc(10, 4, **options), (3, 32, 32)),
    "vgg16": (lambda **options: vgg16(width=4, **options), (3, 32, 32)),
    "cifar_seven_layer": (lambda **options: cifar_seven_layer(width=4, **options), (3, 32, 32)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_arguments_reach_the_function(name):
    arguments, formula = CLOSED_FORMS[name]
    layer = replace_activations(nn.Sequential(nn.ReLU()), name, **arguments).double()
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)
    assert torch.allclose(layer(x), torch.stack([formula(one) for one in x]), rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_factory_s_option_and_the_replacement_make_the_same_network(name):
    factory, shape = NETWORKS[name]
    arguments = {"negative_slope": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = factory().eval()
        chosen = factory(activation="leaky_relu", activation_args=arguments).eval()
        x = torch.rand(2, *shape)
    chosen.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad():
        before = plain(x)
        assert replace_activations(plain, "leaky_relu", **arguments) is plain
        assert torch.equal(plain(x), chosen(x))
        assert not torch.equal(plain(x), before)
    kinds = {type(layer) for model in (plain, chosen) for layer in model.modules()}
    assert nn.ReLU not in kinds


def test_every_relu_of_another_network_is_replaced():
    shared = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared, nn.ReLU6())
    model.eval()
    keys = list(model.state_dict())
    replace_activations(model, "softplus", beta=5)
    assert [type(one) for one in model[1::2]] == [nn.Softplus, nn.Softplus]
    assert model[1] is not model[3]
    assert not any(one.training for one in model.modules())
    assert type(model[4]) is nn.ReLU6
    assert list(model.state_dict()) == keys


def test_no_activation_of_the_cifar_resnet_is_left():
    model = replace_activations(cifar_resnet20().eval(), "softplus", beta=2)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    _, hessian = torch.autograd.functional.vjp(model.double(), x, torch.ones(1, 10).double())
    assert hessian.isfinite().all()
    assert sum(isinstance(one, nn.Softplus) for one in model.modules()) == 19


def test_arguments_come_as_text_from_the_command_line():
    texts = {"activation": "leaky_relu", "activation_args": "{'negative_slope': 0.1}"}
    model = resolve_factory("art_ext.models:digits_cnn", texts)
    assert [one.negative_slope for one in model if isinstance(one, nn.LeakyReLU)] == [0.1] * 3


# --- bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slope": 0.1}, r"'leaky_relu' are negative_slope, got 'slope' \(did you mean 'neg.*'"),
        ({"inplace": True}, "'leaky_relu' are negative_slope, got 'inplace'"),
        ({"negative_slope": "steep"}, "'leaky_relu' must give finite values, got .*'steep'"),
        ({"negative_slope": float("nan")}, "'leaky_relu' must give finite values, got .*nan"),
        (0.1, r"activation_args must be a mapping such as .*, got 0\.1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        digits_cnn(activation="leaky_relu", activation_args=arguments)


def test_alpha_of_zero_and_arguments_of_none_are_refused():
    with pytest.raises(ValueError, match="'celu' must give finite values"):
        digits_cnn("celu", {"alpha": 0})
    with pytest.raises(ValueError, match="activation_args of 'silu' are none, got 'beta'"):
        digits_cnn("silu", {"beta": 1})
    with pytest.raises(ValueError, match="activation_args of 'tanh' are none, got 'beta'"):
        replace_activations(digits_cnn(), "tanh", beta=1)


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match=r"^model must be an nn\.Module, got int"):
        replace_activations(3, "tanh")


def test_an_unknown_activation_is_refused_with_the_nearest():
    model = digits_cnn()
    with pytest.raises(ValueError, match=r"one of .*'softplus'.*got 'soft_plus' .*'softplus'\?"):
        replace_activations(model, "soft_plus")
    assert sum(isinstance(one, nn.ReLU) for one in model) == 3


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(2, 2)), nn.ReLU()])
def test_a_network_without_a_relu_inside_is_refused(model):
    with pytest.raises(ValueError, match=r"must have nn\.ReLU modules to replace, got "):
        replace_activations(model, "silu")
