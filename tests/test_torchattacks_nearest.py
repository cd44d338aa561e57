"""EAD and ZOO as torchattacks attacks: arguments, defaults, the core's numbers, targeted modes."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest
import torch
import torchattacks
from torch import nn

from art_ext.adapters.torchattacks import ATTACKS, EAD, ZOO, register
from art_ext.core import attacks as core

QUICK: dict[type, dict[str, Any]] = {
    EAD: {
        "max_iterations": 8,
        "binary_search_steps": 2,
        "initial_const": 1.0,
        "lr": 0.1,
        "beta": 0.01,
        "eps": 8.0,
    },
    ZOO: {
        "max_iterations": 8,
        "binary_search_steps": 2,
        "initial_const": 2.0,
        "lr": 0.4,
        "n_coordinates": 6,
        "eps": 1.8,
        "seed": 0,
    },
}
CORE: dict[type, Any] = {EAD: core.ead, ZOO: core.zoo}
CORE_NAMES = {
    "kappa": "confidence",
    "lr": "step_size",
    "binary_search_steps": "search_steps",
    "max_iterations": "num_steps",
    "n_coordinates": "coordinates",
}
OTHER_VALUES: dict[str, Any] = {
    "kappa": 1.0,
    "lr": 0.02,
    "binary_search_steps": 3,
    "max_iterations": 7,
    "abort_early": False,
    "beta": 0.0,
    "initial_const": 2.0,
    "decision_rule": "L2",
    "norm": "Linf",
    "eps": 0.3,
    "max_queries": 70,
    "batch_size": 5,
    "n_coordinates": 3,
    "h": 0.01,
    "solver": "newton",
    "use_tanh": True,
    "resize": {0: 4, 5: 8},
    "importance": 2,
    "reset_adam": False,
    "abort_window": 2,
    "seed": 3,
    "probe": False,
}


@pytest.fixture(params=QUICK, ids=lambda shell: shell.__name__)
def shell(request):
    return request.param


@pytest.fixture
def sample(digits):
    """Fourteen digits and their classes."""
    return digits[0][:14], digits[1][:14]


def quick(shell: Any, model: nn.Module, **options: Any) -> Any:
    return shell(model, **{**QUICK[shell], **options})


def labels(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def in_core(options: dict[str, Any]) -> dict[str, Any]:
    return {CORE_NAMES.get(name, name): value for name, value in options.items()}


# ---- arguments


def test_every_argument_reaches_the_core(shell, sample, digits_net, monkeypatch):
    given: dict[str, Any] = {}

    def spy(model, x, y, **options):
        given.update(options)
        return core.fgsm(model, x, y, eps=0.1)

    monkeypatch.setattr(shell, "_function", staticmethod(spy))
    defaults = {
        name: argument.default for name, argument in inspect.signature(shell).parameters.items()
    }
    del defaults["model"]
    values = {name: OTHER_VALUES[name] for name in defaults}
    assert all(value != defaults[name] for name, value in values.items())
    shell(digits_net, **values)(*sample)
    del values["probe"]
    assert given == {
        **in_core(values),
        "norm": "linf",
        "targeted": False,
        "device": torch.device("cpu"),
    }
    theirs = set(inspect.signature(CORE[shell]).parameters)
    assert set(given) <= theirs
    # torchattacks has no masks, lives in [0, 1] and wants logits; the rest belongs to a run
    assert theirs - set(given) - {"model", "x", "y"} == {
        "targets",
        "mask",
        "clip_values",
        "outputs",
        "sample_ids",
        "callback",
        "detector",
        "detector_weight",
        "detector_loss",
        "pad_rows",
        "channels_last",
        "compile",
        *({"seed", "momentum", "amp"} if shell is EAD else ()),
    }


def test_defaults_are_those_of_the_docstring(shell):
    text = inspect.getdoc(shell)
    assert text is not None
    entries = re.split(r"\n    (?=\w+ \([^)]*\): )", text.split("Arguments:")[1].split("\n\n")[0])[
        1:
    ]
    documented = {
        entry.split(" (")[0]: re.findall(r"\(Default: (.*)\)", entry) for entry in entries
    }
    assert documented.pop("model") == []
    defaults = {
        name: argument.default for name, argument in inspect.signature(shell).parameters.items()
    }
    del defaults["model"]
    assert {name: ast.literal_eval(value) for name, [value] in documented.items()} == defaults


@pytest.mark.parametrize("theirs", [torchattacks.EADEN, torchattacks.EADL1])
def test_ead_takes_the_place_of_torchattacks_own(theirs):
    own = list(inspect.signature(EAD).parameters.values())
    for one, other in zip(
        own[1:], list(inspect.signature(theirs).parameters.values())[1:], strict=False
    ):
        assert (one.name, one.default) == (other.name, other.default)
    assert [one.name for one in own].index("decision_rule") == len(
        inspect.signature(theirs).parameters
    )


def test_zoo_names_what_ead_has_too_alike():
    names = [
        [one for one in inspect.signature(shell).parameters if one in CORE_NAMES]
        for shell in (EAD, ZOO)
    ]
    assert names[0] == names[1][:-1]
    assert names[1][-1] == "n_coordinates"


def test_the_facade_and_the_registration_have_both():
    assert ATTACKS["EAD"] is EAD
    assert ATTACKS["ZOO"] is ZOO
    with register():
        assert torchattacks.EAD is EAD
        assert torchattacks.ZOO is ZOO
        assert torchattacks.EADEN is not EAD
    assert not hasattr(torchattacks, "EAD")
    assert not hasattr(torchattacks, "ZOO")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -1}, "confidence must be a finite number >= 0, got -1"),
        ({"lr": 0}, "step_size must be > 0, got 0"),
        ({"binary_search_steps": 0}, "search_steps must be an integer >= 1, got 0"),
        ({"max_iterations": 2.5}, "num_steps must be an integer >= 1, got 2.5"),
        ({"abort_early": "never"}, "abort_early must be True, False or 'always', got 'never'"),
        ({"norm": "L0"}, "norm must be one of"),
    ],
)
def test_bad_values(shell, sample, digits_net, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        quick(shell, digits_net, **options)(*sample)


# ---- what comes back


@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "Linf", "eps": None}, {"kappa": 1.0, "abort_early": False}, {"max_queries": 20}],
)
def test_the_same_numbers_as_the_core(shell, sample, digits_net, options):
    x, y = sample
    attack = quick(shell, digits_net, **options)
    adversarial = attack(x, y)
    settings = in_core({"norm": "l1" if shell is EAD else "l2", **QUICK[shell], **options})
    want = CORE[shell](digits_net, x, y, **{**settings, "norm": settings["norm"].lower()})
    assert torch.equal(adversarial, want.x_adv)
    for name in ("success", "distance", "x_nearest", "queries", "queries_to_success", "gradients"):
        assert torch.equal(getattr(attack.last_result, name), getattr(want, name)), name
    failed = ~want.success
    assert torch.equal(adversarial[failed], x[failed])
    assert torch.equal(
        labels(digits_net, adversarial) != y, want.success | want.already_adversarial
    )


@pytest.mark.parametrize("rule", ["EN", "L1", "L2"])
def test_each_rule_reports_what_is_least_by_it(rule, sample, digits_net):
    x, y = sample

    def value(images):
        offset = (images - x).flatten(1).double()
        absolute, squared = offset.abs().sum(1), offset.square().sum(1)
        return {"EN": squared + 0.01 * absolute, "L1": absolute, "L2": squared}[rule]

    attack = quick(EAD, digits_net, eps=None, binary_search_steps=4, max_iterations=20)
    least = {}
    for other in ("EN", "L1", "L2"):
        attack.decision_rule = other
        least[other] = value(attack(x, y))
        assert bool(attack.last_result.success.all())
    assert all(bool((least[rule] <= values + 1e-6).all()) for values in least.values())
    assert any(bool((least[rule] < values - 1e-3).any()) for values in least.values())


@pytest.mark.parametrize("resize", [4, (2, 4, 8), {0: 4, 3: 8}])
def test_zoo_in_a_smaller_space(resize, sample, digits_net):
    x, y = sample
    attack = quick(ZOO, digits_net, resize=resize, eps=None)
    adversarial = attack(x, y)
    want = core.zoo(digits_net, x, y, resize=resize, **in_core({**QUICK[ZOO], "eps": None}))
    assert torch.equal(adversarial, want.x_adv)
    assert bool((want.success & ~want.already_adversarial).any())
    assert f"resize={resize}" in repr(attack)


# ---- targeted modes


def by_label(shell: Any, model: nn.Module) -> Any:
    attack = quick(shell, model, eps=None)
    attack.set_mode_targeted_by_label(quiet=True)
    return attack


def test_targets_by_label_and_function(shell, sample, digits_net):
    x, y = sample
    attack = by_label(shell, digits_net)
    adversarial = attack(x, (y + 1) % 10)
    result = attack.last_result
    assert torch.equal(labels(digits_net, adversarial) == (y + 1) % 10, result.success)
    assert int((result.success & ~result.already_adversarial).sum()) >= 2
    assert torch.equal(attack(x, nn.functional.one_hot((y + 1) % 10, 10)), adversarial)
    with pytest.raises(ValueError, match="a targeted attack needs the classes to reach"):
        attack(x)
    other = quick(shell, digits_net, eps=None)
    other.set_mode_targeted_by_function(lambda images, given: (given + 1) % 10, quiet=True)
    assert torch.equal(other(x, y), adversarial)
    other.set_mode_default()
    assert torch.equal(labels(digits_net, other(x, y)) != y, other.last_result.success)


def test_targets_least_likely_and_random(shell, sample, digits_net):
    x, y = sample
    attack = quick(shell, digits_net, eps=None)
    attack.set_mode_targeted_least_likely(kth_min=9, quiet=True)
    with torch.no_grad():
        runner_up = digits_net(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    assert torch.equal(attack(x, y), by_label(shell, digits_net)(x, runner_up))
    assert int(attack.last_result.success.sum()) >= 2
    attack.set_mode_targeted_random(quiet=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = attack.get_target_label(x, y)
        torch.manual_seed(0)
        adversarial = attack(x, y)
    assert not bool((targets == y).any())
    assert torch.equal(adversarial, by_label(shell, digits_net)(x, targets))
