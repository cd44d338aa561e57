"""What happens to a network while it is used: threads, modes, frozen ScriptModules, dtypes."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from art_ext.core.attacks import pgd, rays
from art_ext.core.ensemble import Ensemble
from art_ext.core.networks import NetworkInUseError, frozen_eval, in_use


class Waiting(nn.Module):
    """A network whose first forward waits until it is told to go on."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.entered, self.go_on = threading.Event(), threading.Event()

    def forward(self, rows):
        self.entered.set()
        assert self.go_on.wait(60)
        return self.network(rows)


class Holder:
    """Attacks a network in another thread, and holds it there until the end of the block."""

    def __init__(self, network, x, y):
        self.model = Waiting(network)
        self.thread = threading.Thread(target=lambda: pgd(self.model, x, y, eps=0.1, num_steps=2))

    def __enter__(self):
        self.thread.start()
        assert self.model.entered.wait(60)
        return self

    def __exit__(self, *error):
        self.model.go_on.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def state(network):
    return [module.training for module in network.modules()], [one.requires_grad for one in network.parameters()]


WRAPPED = {
    "itself": lambda network: network,
    "a wrapper": lambda network: nn.Sequential(network),
    "an ensemble": lambda network: Ensemble([network, copy.deepcopy(network)]),
    "a part of it": lambda network: nn.Sequential(nn.Flatten(), nn.Linear(64, 512), *list(network)[5:]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_another_thread_is_refused_and_changes_nothing(name, digits, digits_net):
    network = copy.deepcopy(digits_net).train()
    network[2].eval()
    x, y = digits[0][:4], digits[1][:4]
    other = WRAPPED[name](network)
    before = state(network)
    with Holder(network, x, y):
        during = state(network)
        for attack in (lambda: rays(other, x, y, max_queries=3), lambda: pgd(other, x, y, eps=0.1)):
            with pytest.raises(RuntimeError, match=r"in use in another thread.*copy\.deepcopy\(model\)"):
                attack()
        assert state(network) == during
        assert pgd(copy.deepcopy(network), x, y, eps=0.1, num_steps=2).success.shape == (4,)
    assert state(network) == before
    assert before[1] == [True] * len(before[1])
    rays(other, x, y, max_queries=3)  # free again


def test_the_shells_are_refused_in_another_thread(make, digits, digits_net):
    from art.estimators.classification import PyTorchClassifier

    x, y = digits[0][:4], digits[1][:4]
    classifier = PyTorchClassifier(
        digits_net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    shell = make(classifier)
    with Holder(digits_net, x, y), pytest.raises(NetworkInUseError, match="copy of its own"):
        shell.generate(x.numpy(), y.numpy())
    assert shell.generate(x.numpy(), y.numpy()).shape == x.shape


def test_torchattacks_and_training_are_refused_in_another_thread(digits, digits_net):
    import art_ext.torchattacks
    from art_ext.core.training import train

    x, y = digits[0][:4], digits[1][:4]
    network = copy.deepcopy(digits_net)
    attack = art_ext.torchattacks.RayS(network, max_queries=3)
    with Holder(network, x, y):
        with pytest.raises(NetworkInUseError):
            attack(x, y)
        with pytest.raises(NetworkInUseError):
            train(network, (x, y), "natural", epochs=1, batch_size=4, progress=False)
    assert state(network)[1] == [True] * 8


def test_four_threads_leave_every_flag_as_it_was(digits, digits_net):
    network, outcomes = copy.deepcopy(digits_net), []

    def attack():
        try:
            outcomes.append(len(pgd(network, *digits, eps=0.1, num_steps=4)))
        except NetworkInUseError:
            outcomes.append(0)

    threads = [threading.Thread(target=attack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert max(outcomes) == 40
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_one_thread_may_nest(digits_net):
    with frozen_eval(digits_net), in_use(digits_net), frozen_eval(nn.Sequential(digits_net)):
        assert not any(parameter.requires_grad for parameter in digits_net.parameters())
    assert all(parameter.requires_grad for parameter in digits_net.parameters())
