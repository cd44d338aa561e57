"""Every attack on a device that is not the CPU: nothing mixes, results are those of the CPU, lie
where the samples lie, and the host waits seldom.
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from art_ext.core import attacks
from art_ext.core.ensemble import AVERAGES, Ensemble
from tests.accelerator import Accelerator, Remote, held
from tests.contract.conftest import KINDS, Shelled
from tests.toys import compare

SIDES = ("cpu", "accelerator")
SAMPLES = 6
# what changes the path of an attack, beside the settings of the harness
VARIANTS = [
    ("rays", {"speculate": True}),
    ("rays", {"hierarchical": False}),
    ("pgd", {"norm": "l2", "loss": "margin", "num_restarts": 2}),
    ("pgd", {"norm": "l1"}),
    ("hmcam", {"norm": "l2"}),
    ("ai_fgsm", {"norm": "l1"}),
    ("frank_wolfe", {"norm": "l2", "box": "clip"}),
    ("frank_wolfe", {"norm": "l1"}),
    ("frank_wolfe_black_box", {"norm": "l2"}),
    ("nes", {"norm": "l2"}),
    ("square", {"norm": "l2"}),
    ("auto_pgd", {"norm": "l1", "num_targets": 2}),
    ("auto_pgd", {"norm": "l2", "num_restarts": 2}),
    ("ead", {"norm": "l1"}),
    ("ead", {"norm": "l2", "targets": "best"}),
    ("cw", {"norm": "l2", "targets": "average"}),
    ("zoo", {"norm": "l2", "solver": "newton"}),
    ("zoo", {"use_tanh": False, "resize": (4, 8), "importance": True}),
    ("i_fgm", {"norm": "l2", "search": "grid", "resolution": 0.08}),
    ("i_fgm", {"norm": "l1"}),
]
# the host may read whether samples are left, but not the values of a step
FIXED_STEPS = [
    kind
    for kind in KINDS
    if {"stop_on_success", "num_steps"} <= set(kind.spec.parameters)
    and kind.spec.access == "gradients"
]


@pytest.fixture(params=SIDES)
def side(request):
    """The side on which the samples lie. The model is on the accelerator."""
    return request.param


@pytest.fixture
def accelerator():
    """The second of two, on which nothing lands that names the kind of device only."""
    return Accelerator(1)


@pytest.fixture
def few(digits):
    return digits[0][:SAMPLES], digits[1][:SAMPLES]


def moved(thing, accelerator):
    """Move each tensor of an argument."""
    if isinstance(thing, tuple):
        return tuple(moved(one, accelerator) for one in thing)
    return accelerator.has(thing) if isinstance(thing, Tensor) else thing


def run_there(attack, accelerator, net, samples, side, **options):
    """Attack a network on the accelerator. Tensors in ``options`` lie on the other side."""
    far = accelerator.has(net)
    if side == "accelerator":
        samples = moved(samples, accelerator)
    else:
        options = {name: moved(one, accelerator) for name, one in options.items()}
    with accelerator.running():
        return attack.run(far, *samples, **options)


def brought(result, side):
    """Check where each tensor of a result lies, and return the result with CPU tensors."""
    entries = {one.name: getattr(result, one.name) for one in fields(result)}
    trace = result.trace or {}
    for name, value in {**entries, **trace}.items():
        if isinstance(value, Tensor):
            assert isinstance(value, Remote) == (side == "accelerator"), name
    near = {name: held(value) for name, value in entries.items() if isinstance(value, Tensor)}
    return replace(result, **near, trace={name: held(value) for name, value in trace.items()})


def check_there(attack, accelerator, net, samples, side, **options):
    """Compare an attack on the accelerator with the same one on the CPU."""
    near = attack.run(net, *samples, **options)
    found = run_there(attack, accelerator, net, samples, side, **options)
    compare(brought(found, side), replace(near, trace=near.trace or {}))


def check_waits(attack, accelerator, net, samples):
    """Check that the host waits for no step of an attack."""
    waits = {}
    for number in (4, 9):
        options = {"num_steps": number, "stop_on_success": False, "max_queries": None}
        run_there(attack, accelerator, net, samples, "accelerator", **options)
        waits[number] = accelerator.places
    assert waits[9] == waits[4]
    assert accelerator.waits > 0


def test_results_are_those_of_the_cpu(core_attack, side, accelerator, few, digits_net):
    check_there(core_attack, accelerator, digits_net, few, side, max_queries=40)


def all_tensors(attack, x, y):
    """Every argument of an attack that is a tensor."""
    takes = attack.kind.spec.parameters
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[..., 0] = False
    low = torch.zeros_like(x[0])
    given = {
        "mask": mask,
        "sample_ids": torch.arange(len(x)) + 100,
        "clip_values": (low, low + 1),
        "x_init": x.flip(0),
    }
    if not attack.kind.spec.no_targets:
        given["targets"] = (y + 1) % 10
        given.pop("x_init")
    if "latents" in takes:
        given["latents"] = (2 * x - 1).asin().flatten(1)  # whose images are x
        given["initialisation"] = "both"
    flags = {"keep_samples": 3 if attack.kind.name == "mi_fgsm" else True, "stop_on_success": False}
    return {name: one for name, one in {**given, **flags}.items() if name in takes}


def test_arguments_may_lie_on_either_side(core_attack, side, accelerator, few, digits_net):
    given = all_tensors(core_attack, *few)
    check_there(core_attack, accelerator, digits_net, few, side, max_queries=40, **given)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_variants_are_those_of_the_cpu(name, options, accelerator, few, digits_net):
    kind = next(kind for kind in KINDS if kind.name == name)
    given = {"max_queries": 60, **options}
    check_there(Shelled(kind, "core"), accelerator, digits_net, few, "accelerator", **given)


@pytest.mark.parametrize("average", AVERAGES)
def test_an_ensemble_is_on_the_device_of_its_members(average, side, accelerator, few, digits_net):
    other = copy.deepcopy(digits_net)
    other[-1].bias.data += torch.linspace(0, 1, 10)
    ensemble = Ensemble([digits_net, other], [1, 2], average=average)
    attack = Shelled(FIXED_STEPS[-1], "core")
    check_there(attack, accelerator, ensemble, few, side)
    check_waits(attack, accelerator, ensemble, few)


@pytest.mark.parametrize("kind", FIXED_STEPS, ids=lambda kind: kind.name + kind.variant)
def test_the_host_waits_for_no_step(kind, accelerator, few, digits_net):
    check_waits(Shelled(kind, "core"), accelerator, digits_net, few)


def test_a_network_on_another_device_than_the_one_that_is_named(accelerator, few, digits_net):
    far = accelerator.has(digits_net)
    with accelerator.running():
        with pytest.raises(ValueError, match="device must be the model's, cpu, got 'meta:1'"):
            attacks.pgd(digits_net, *few, eps=0.1, device="meta:1")
        with pytest.raises(ValueError, match="device must be the model's, meta:1, got 'meta'"):
            attacks.pgd(far, *few, eps=0.1, device="meta")
        attacks.pgd(far, *few, eps=0.1, num_steps=1, device="meta:1")
