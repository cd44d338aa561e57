"""The torchattacks shells of attacks within a given ball: arguments, targeted modes, counts."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.adapters.torchattacks import AIFGSM, FW, HMCAM, FWBlack
from art_ext.core import attacks as core
from art_ext.core.ensemble import Ensemble

EPS = 0.2  # with it some samples reach their targets, and some do not
QUICK: dict[type, dict[str, Any]] = {
    FW: {"steps": 8},
    FWBlack: {"n_directions": 6, "max_queries": 150, "seed": 0},
    HMCAM: {"steps": 4, "seed": 0},
    AIFGSM: {"steps": 8},
}
CORE: dict[type, Any] = {
    FW: core.frank_wolfe,
    FWBlack: core.frank_wolfe_black_box,
    HMCAM: core.hmcam,
    AIFGSM: core.ai_fgsm,
}
CORE_NAMES = {
    "alpha": "step_size",
    "steps": "num_steps",
    "n_samples": "num_transitions",
    "n_directions": "num_directions",
    "n_restarts": "num_restarts",
}
OTHER_VALUES: dict[str, Any] = {
    "norm": "L2",
    "eps": 0.3,
    "alpha": 0.25,
    "steps": 7,
    "momentum": 0.5,
    "schedule": "inverse_sqrt",
    "momentum_init": "gradient",
    "box": "vertex",
    "loss": "margin",
    "on_failure": "input",
    "max_queries": 70,
    "batch_size": 5,
    "n_directions": 3,
    "delta": 0.02,
    "sensing": "sphere",
    "n_samples": 3,
    "beta1": 0.5,
    "beta2": 0.9,
    "step_rule": "corrected",
    "start": "uniform",
    "temperature": 2.0,
    "seed": 3,
    "n_restarts": 3,
}


def core_names(shell):
    """The core's names of the shell's parameters; Frank-Wolfe steps a share of the way."""
    fractions = {"alpha": "step_fraction"} if shell in (FW, FWBlack) else {}
    return {**CORE_NAMES, **fractions}


@pytest.fixture(params=QUICK, ids=lambda shell: shell.__name__)
def shell(request):
    return request.param


@pytest.fixture
def sample(digits):
    """Fourteen digits and their classes."""
    return digits[0][:14], digits[1][:14]


def quick(shell: Any, model: nn.Module, **options: Any) -> Any:
    return shell(model, **{"eps": EPS, **QUICK[shell], **options})


def labels(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def test_every_argument_reaches_the_core(shell, sample, digits_net, monkeypatch):
    given: dict[str, Any] = {}

    def spy(model, x, y, **options):
        given.update(options)
        return core.fgsm(model, x, y, eps=0.1)

    monkeypatch.setattr(shell, "_function", staticmethod(spy))
    arguments = inspect.signature(shell).parameters
    values = {
        name: OTHER_VALUES.get(name, not argument.default)
        for name, argument in arguments.items()
        if name != "model"
    }
    assert all(value != arguments[name].default for name, value in values.items())
    shell(digits_net, **values)(*sample)
    names = core_names(shell)
    wanted = {names.get(name, name): value for name, value in values.items() if name != "probe"}
    assert given == {**wanted, "norm": "l2", "targeted": False, "device": torch.device("cpu")}
    theirs = set(inspect.signature(CORE[shell]).parameters)
    assert set(given) <= theirs
    # torchattacks has no masks, lives in [0, 1] and wants logits; the rest belongs to a run, or
    # only imitates a program
    assert theirs - set(given) - {"model", "x", "y"} <= {
        "targets",
        "criterion",
        "mask",
        "clip_values",
        "outputs",
        "sample_ids",
        "callback",
        "detector",
        "detector_weight",
        "detector_loss",
        "pad_rows",
        "amp",
        "channels_last",
        "compile",
        "delta",
        "delta_inside",
        "grad_scale",
        "kinetic",
        "continue_from",
        "x_init",
        "transform",
        *({"seed"} if shell is FW else ()),
    }


def test_targets_by_label(shell, sample, digits_net):
    x, y = sample
    targets = (y + 1) % 10
    attack = quick(shell, digits_net)
    attack.set_mode_targeted_by_label(quiet=True)
    adversarial = attack(x, targets)
    result = attack.last_result
    assert torch.equal(labels(digits_net, adversarial) == targets, result.success)
    assert 0 < int((result.success & ~result.already_adversarial).sum()) < 14
    assert torch.equal(attack(x, nn.functional.one_hot(targets, 10)), adversarial)
    with pytest.raises(ValueError, match="a targeted attack needs the classes to reach"):
        attack(x)
    attack.set_mode_default()
    assert torch.equal(labels(digits_net, attack(x, y)) != y, attack.last_result.success)


def test_targets_by_function_and_least_likely(shell, sample, digits_net):
    x, y = sample
    by_label = quick(shell, digits_net)
    by_label.set_mode_targeted_by_label(quiet=True)
    attack = quick(shell, digits_net)
    attack.set_mode_targeted_by_function(lambda images, given: (given + 1) % 10, quiet=True)
    assert torch.equal(attack(x, y), by_label(x, (y + 1) % 10))
    attack.set_mode_targeted_least_likely(kth_min=2, quiet=True)
    with torch.no_grad():
        second = digits_net(x).scatter(1, y[:, None], torch.inf).argsort(dim=1)[:, 1]
    assert torch.equal(attack(x, y), by_label(x, second))
    with torch.no_grad():
        predicted = digits_net(x).argmax(1)
        second = digits_net(x).scatter(1, predicted[:, None], torch.inf).argsort(dim=1)[:, 1]
    assert torch.equal(attack(x), by_label(x, second)), (
        "without labels the model's own are left out"
    )


def test_random_targets(shell, sample, digits_net):
    x, y = sample
    attack = quick(shell, digits_net)
    attack.set_mode_targeted_random(quiet=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = attack.get_target_label(x, y)
        torch.manual_seed(0)
        adversarial = attack(x, y)
    assert not bool((targets == y).any())
    assert torch.equal(labels(digits_net, adversarial) == targets, attack.last_result.success)


def test_choosing_targets_leaves_every_mode_as_it_was(shell, sample, digits_net):
    network = nn.Sequential(copy.deepcopy(digits_net), nn.BatchNorm1d(10), nn.Dropout()).train()
    network[1].eval()  # a frozen layer inside a training network
    modes = [module.training for module in network.modules()]
    attack = quick(shell, network)
    attack.set_mode_targeted_least_likely(quiet=True)
    attack(*sample)
    assert [module.training for module in network.modules()] == modes


def test_last_result_counts_what_the_model_saw(shell, sample, digits_net):
    seen = {"rows": 0, "slopes": 0}

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_net

        def forward(self, x):
            seen["rows"] += len(x)
            scores = self.network(x)
            if scores.requires_grad:
                scores.register_hook(
                    lambda slope: seen.update(slopes=seen["slopes"] + int(slope.any(1).sum()))
                )
            return scores

    attack = quick(shell, Counting())
    assert attack.last_result is None
    adversarial = attack(*sample)
    result = attack.last_result
    rows = int((result.queries + result.wasted_rows).sum())
    assert seen == {"rows": rows, "slopes": int(result.gradients.sum())}
    assert result.wasted_rows.tolist() == [3] * 8 + [0] * 6  # the probe's
    assert (seen["slopes"] > 0) == (shell is not FWBlack)
    adversarial.zero_()  # the tensor belongs to the caller
    assert float(result.x_adv.abs().max()) > 0


def test_what_an_image_that_cannot_be_fooled_comes_back_as(shell, sample, digits_net):
    x, y = sample
    for on_failure in ("last", "input"):
        attack = quick(shell, digits_net, eps=0.05, on_failure=on_failure)
        failed = (
            ~((adversarial := attack(x, y)) != x).flatten(1).any(1) & ~attack.last_result.success
        )
        assert bool((~attack.last_result.success).any())
        assert torch.equal(failed, ~attack.last_result.success & (on_failure == "input"))
        assert float((adversarial - x).abs().max()) <= 0.05 + 1e-6


def test_the_same_numbers_as_the_core(shell, sample, digits_net):
    x, y = sample
    attack = quick(shell, digits_net)
    names = core_names(shell)
    options = {names.get(name, name): value for name, value in QUICK[shell].items()}
    want = CORE[shell](digits_net, x, y, eps=EPS, on_failure="last", **options)
    assert torch.equal(attack(x, y), want.x_adv)
    assert torch.equal(attack.last_result.queries, want.queries)
    if shell is HMCAM:
        assert torch.equal(attack.last_result.samples, want.samples)


class TestEnsembles:
    """An ensemble that averages losses has no single output; the shell hands it to the core as
    it is.
    """

    @staticmethod
    def members() -> list[nn.Module]:
        nets: list[nn.Module] = []
        for seed in (1, 2):
            generator = torch.Generator().manual_seed(seed)
            net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            net[1].weight.data = torch.randn(10, 64, generator=generator)
            nets.append(net)
        return nets

    @pytest.mark.parametrize("average", ["losses", "logits", "probabilities"])
    @pytest.mark.parametrize("shell", [HMCAM, AIFGSM, FW])
    def test_as_in_the_core(self, shell, average, sample):
        ensemble = Ensemble(self.members(), [0.7, 0.3], average=average)
        attack = quick(shell, ensemble)
        labels = ensemble(sample[0]).argmax(dim=1)
        crafted = attack(sample[0], labels)
        options = {name: value for name, value in QUICK[shell].items() if name != "steps"}
        given = {"eps": EPS, "num_steps": QUICK[shell]["steps"], **options}
        if shell is not FW:
            given |= {"step_size": 5e-3, "on_failure": "last"}
        else:
            given |= {"on_failure": "last"}
        expected = CORE[shell](ensemble, *(sample[0], labels), **given)
        assert torch.equal(crafted, expected.x_adv)
        assert torch.equal(attack.last_result.queries, expected.queries)
        assert bool(attack.last_result.success.any())

    def test_normalised_first(self, sample):
        members = self.members()
        inside = Ensemble([nn.Sequential(Scale(), net) for net in members], average="losses")
        outside = quick(HMCAM, Ensemble(members, average="losses"))
        outside.set_normalization_used(mean=[0.25], std=[0.5])
        within = quick(HMCAM, inside)
        labels = inside(sample[0]).argmax(dim=1)
        # as torchattacks wants it then, and gives it back
        crafted = outside((sample[0] - 0.25) / 0.5, labels)
        assert torch.allclose(0.5 * crafted + 0.25, within(sample[0], labels), atol=1e-6)
        assert torch.equal(outside.last_result.success, within.last_result.success)

    def test_targets_and_callables(self, sample):
        members = self.members()
        attack = quick(
            HMCAM, Ensemble([members[0], lambda rows: members[1](rows)], average="losses")
        )
        attack.set_mode_targeted_by_label(quiet=True)
        attack(sample[0], torch.zeros(14, dtype=torch.int64))
        assert attack.last_result is not None
        moved = Ensemble(members, average="losses")(attack.last_result.x_adv).argmax(dim=1)
        assert torch.equal(moved == 0, attack.last_result.success)


class Scale(nn.Module):
    """The normalisation of the test as a layer."""

    def forward(self, rows):
        return (rows - 0.25) / 0.5
