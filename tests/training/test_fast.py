"""Starting points of Fast adversarial training, by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from art_ext.training import Fast, Free, train
from art_ext.training.craft import PreviousStart

EPS = 0.125
OPTIONS = {"batch_size": 6, "learning_rate": 0.3, "momentum": 0.0, "weight_decay": 0.0}


def sign_step(model, rows, x, y, length):
    """One projected step of sign gradient of the cross-entropy."""
    leaf = rows.clone().requires_grad_(True)
    loss = functional.cross_entropy(model(leaf), y, reduction="sum")
    moved = rows + length * torch.autograd.grad(loss, leaf)[0].sign()
    return (x + (moved - x).clamp(-EPS, EPS)).clamp(0, 1)


@pytest.mark.parametrize("step_size", [None, EPS, 0.05])
def test_zero_start_is_fgsm(step_size, network, data, make_step, draws):
    x, y = data
    model = network(scale=3)
    found = Fast(eps=EPS, start="zero", step_size=step_size).craft(make_step(model, x, y, eps=EPS))
    length = 1.25 * EPS if step_size is None else step_size
    torch.testing.assert_close(found, sign_step(model, x, x, y, length), rtol=0, atol=1e-6)
    assert not draws
    # the projection makes a step of 1.25 eps from the input one of eps
    if step_size is None:
        torch.testing.assert_close(found, sign_step(model, x, x, y, EPS), rtol=0, atol=1e-6)


class Recorder(Fast):
    """Keeps minibatches, starts and examples."""

    def craft(self, step):
        carried = step.carried.get("delta")
        rows = super().craft(step)
        self.seen.append((step.x, step.y, carried, rows))
        return rows


@pytest.mark.parametrize("boxed", [True, False])
def test_previous_start_takes_the_perturbation_of_the_row_before(boxed, network, data):
    """It passes over minibatches and epochs, and a short minibatch moves the first rows."""
    Recorder.seen = []
    recipe = Recorder(eps=EPS, start="previous", boxed_start=boxed)
    model, theirs = network(scale=3), network(scale=3)
    train(model, data, recipe, epochs=2, **OPTIONS)
    assert [len(x) for x, *_ in Recorder.seen] == [6, 6, 2] * 2
    assert Recorder.seen[0][2] is None
    delta = torch.zeros(6, 1, 4, 4)
    for x, y, carried, rows in Recorder.seen:
        if carried is not None:
            torch.testing.assert_close(carried, delta, rtol=0, atol=1e-6)
        start = x + delta[: len(x)]
        start = start.clamp(0, 1) if boxed else start
        wanted = sign_step(theirs, start, x, y, 1.25 * EPS)
        torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-6)
        delta = torch.cat([wanted - x, delta[len(x) :]])
        theirs.zero_grad()
        functional.cross_entropy(theirs(wanted), y).backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= 0.3 * parameter.grad
    for one, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_previous_start_takes_a_longer_minibatch_after_a_shorter_one(network, data):
    Recorder.seen = []
    x, y = data
    loader = [(x[:2], y[:2]), (x[2:8], y[2:8])]
    train(network(scale=3), loader, Recorder(eps=EPS, start="previous"), epochs=1)
    assert len(Recorder.seen[1][2]) == 2
    assert len(Recorder.seen[1][3]) == 6


def test_the_carried_perturbation_has_one_rule(network, data, make_step):
    """Free and Fast begin an update at the same point after the same examples."""
    x, y = data
    step = make_step(network(), x, y, eps=EPS)
    PreviousStart().end(step, (x + EPS).clamp(max=1))
    start = PreviousStart()(step, step.ball("linf"))
    Free(eps=EPS).loss(step)
    assert torch.equal(step.memory["leaf"].detach(), start)
    assert torch.equal(start, (x + ((x + EPS).clamp(max=1) - x)).clamp(0, 1))


def test_an_unknown_start_raises():
    with pytest.raises(ValueError, match="start must be one of 'uniform', 'zero', 'previous'"):
        Fast(start="last")
