"""Recurrent layers, which cuDNN does not differentiate in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.core.attacks import auto_pgd, pgd, rays
from art_ext.core.networks import frozen_eval
from art_ext.training.modes import crafting_mode

KINDS = [nn.RNN, nn.LSTM, nn.GRU]


class Reader(nn.Module):
    """Two recurrent layers over the rows of an image, and a classifier with dropout."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(3)
        self.layers = kind(5, 7, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(7, 3))
        self.seen = []

    def forward(self, rows):
        self.seen.append((self.layers.training, self.layers.dropout, self.head[0].training))
        return self.head(self.layers(rows)[0][:, -1])


def samples():
    torch.manual_seed(4)
    return torch.rand(6, 4, 5), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [pgd, auto_pgd])
def test_the_gradient_passes_of_an_attack_are_in_train_mode_without_dropout(kind, attack):
    """cuDNN raises in the backward pass of a layer that was not in train mode."""
    model = Reader(kind)
    model.layers.register_forward_hook(_as_cudnn)
    x, y = samples()
    first = attack(model, x, y, eps=0.3, num_steps=3, seed=0)
    assert set(model.seen) == {(True, 0.0, False)}
    assert model.training
    assert model.layers.training
    assert model.layers.dropout == 0.5
    assert torch.equal(first.x_adv, attack(model, x, y, eps=0.3, num_steps=3, seed=0).x_adv)
    with torch.no_grad():
        assert torch.equal(model.eval()(first.x_adv).argmax(1) != y, first.success)


def _as_cudnn(module, given, outputs):
    if torch.is_grad_enabled() and not module.training:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [True, False])
def test_outputs_are_those_of_eval_mode(kind, grad):
    model = Reader(kind).eval()
    x = samples()[0]
    with torch.set_grad_enabled(grad):
        wanted = model(x)
        with frozen_eval(model):
            # matrix products round by where the memory lies
            torch.testing.assert_close(model(x), wanted, rtol=0, atol=1e-6)


def test_the_modes_come_back_after_an_error():
    model = Reader(nn.LSTM).eval()

    def fail(module, given):
        raise ValueError("no answer")

    handle = model.head.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="no answer"):
        rays(model, *samples(), eps=0.3)
    handle.remove()
    assert (model.layers.training, model.layers.dropout) == (False, 0.5)
    with frozen_eval(model), frozen_eval(nn.Sequential(model)):
        assert model.layers.dropout == 0
    assert (model.layers.training, model.layers.dropout) == (False, 0.5)


def test_a_layer_with_a_forward_of_its_own_stays_in_eval_mode():
    class Dropping(nn.LSTM):
        def forward(self, rows):
            return super().forward(nn.functional.dropout(rows, 0.5, self.training))

    model = Reader(Dropping)
    with frozen_eval(model):
        model(samples()[0])
    assert model.seen == [(False, 0.5, False)]


def test_crafting_for_training_does_the_same_in_eval_mode_only():
    model = Reader(nn.GRU)
    x = samples()[0]
    with crafting_mode(model, "eval"):
        model(x)
    with crafting_mode(model, "train"):
        model(x)
    assert model.seen == [(True, 0.0, False), (True, 0.5, True)]
