"""RayS as a torchattacks attack: labels, counts, normalisation, MultiAttack, and what must stay
as it was.
"""

from __future__ import annotations

import gc
import inspect
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.adapters.torchattacks import ATTACKS, RayS
from art_ext.core.attacks import rays as core_rays

EPS = 0.15  # with the budget it separates the samples: some fall, some do not
BUDGET = 120


@pytest.fixture
def sample(digits):
    """Fourteen digits and their classes."""
    return digits[0][:14], digits[1][:14]


def rays(model: nn.Module, **options: Any) -> Any:
    return RayS(model, **{"eps": EPS, "max_queries": BUDGET, **options})


SHELLS: dict[str, dict[str, Any]] = {
    "RayS": {},
    "FW": {"steps": 8},
    "FWBlack": {"n_directions": 6, "seed": 0},
    "HMCAM": {"steps": 4, "seed": 0},
    "AIFGSM": {"steps": 8},
    "EAD": {
        "norm": "Linf",
        "max_iterations": 8,
        "binary_search_steps": 2,
        "initial_const": 1.0,
        "lr": 0.1,
        "beta": 0.01,
        "eps": 0.25,
    },
    "ZOO": {
        "norm": "Linf",
        "max_iterations": 8,
        "binary_search_steps": 2,
        "initial_const": 2.0,
        "lr": 0.4,
        "n_coordinates": 6,
        "eps": 0.85,
        "seed": 0,
    },
}


@pytest.fixture(params=SHELLS)
def make(request):
    """Builds every shell in turn, quick and with a seed."""

    shell: Any = ATTACKS[request.param]

    def build(model: nn.Module, **options: Any) -> Any:
        return shell(
            model, **{"eps": EPS, "max_queries": BUDGET, **SHELLS[request.param], **options}
        )

    return build


def labels(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


class Affine(nn.Module):
    """x * scale + shift; the numbers used here make it exact on sixteenths."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x):
        return x * self.scale + self.shift


def test_labels_one_hot_and_bad(make, sample, digits_net):
    x, y = sample
    y = torch.cat([(y[:2] + 1) % 10, y[2:]])
    want = make(digits_net)(x, y)
    assert not torch.equal(want, make(digits_net)(x)), (
        "the labels make no difference: nothing is tested"
    )
    for one_hot in (nn.functional.one_hot(y, 10), nn.functional.one_hot(y, 10).float()):
        assert torch.equal(make(digits_net)(x, one_hot), want)
    with pytest.raises(ValueError, match=r"y must have shape \(14,\).*got \(14, 1\)"):
        make(digits_net)(x, y[:, None])  # not one-hot rows of a single class
    with pytest.raises(ValueError, match="y must be a tensor of integer class indices, got list"):
        make(digits_net)(x, y.tolist())


def test_every_argument_reaches_the_search(sample, digits_net, spy_on):
    given = spy_on(RayS)
    options = {
        "eps": 0.2,
        "max_queries": 7,
        "stop_on_success": False,
        "tol": 0.01,
        "hierarchical": False,
        "speculate": True,
        "batch_size": 5,
    }
    assert {"model", "norm", "probe", *options} == set(inspect.signature(RayS).parameters)
    RayS(digits_net, norm="L2", **options)(*sample)
    assert {**given, **options, "norm": "l2"} == given


@pytest.mark.parametrize(("norm", "core"), [("Linf", "linf"), ("L2", "l2"), ("l1", "l1")])
def test_torchattacks_names_of_the_norms(make, sample, digits_net, norm, core):
    attack = make(digits_net, norm=norm, max_queries=1)
    attack(*sample)
    assert attack.last_result.norm == core


@pytest.mark.parametrize("norm", [3, None, "L0"])
def test_bad_norms(make, sample, digits_net, norm):
    with pytest.raises(ValueError, match="norm must be one of"):
        make(digits_net, norm=norm)(*sample)


def test_last_result_counts_what_the_model_saw(sample, digits_net):
    rows = 0

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_net

        def forward(self, x):
            nonlocal rows
            rows += len(x)
            return self.network(x)

    attack = rays(Counting(), speculate=True)
    assert attack.last_result is None
    for part in (slice(14), slice(5)):
        rows = 0
        adversarial = attack(sample[0][part], sample[1][part])
        result = attack.last_result
        assert len(result) == len(adversarial)
        assert rows == int((result.queries + result.wasted_rows).sum())
        assert int(result.wasted_rows.sum()) > 0
        assert int(result.queries.max()) <= BUDGET
        assert torch.equal(labels(digits_net, adversarial) != sample[1][part], result.success)
    adversarial.zero_()  # the tensor belongs to the caller
    assert float(attack.last_result.x_adv.abs().max()) > 0


def test_targeted_mode_is_refused(sample, digits_net):
    attack = rays(digits_net)
    for mode in (
        attack.set_mode_targeted_by_label,
        attack.set_mode_targeted_random,
        attack.set_mode_targeted_least_likely,
        lambda: attack.set_mode_targeted_by_function(lambda images, labels: labels),
    ):
        with pytest.raises(ValueError, match=r"Targeted mode is not supported\."):
            mode()
    assert attack.targeted is False
    assert torch.equal(attack(*sample), rays(digits_net)(*sample))


def test_normalised_images(make, sample, digits_net):
    x, y = sample
    model = nn.Sequential(Affine(0.25, 0.5), digits_net)  # a network that wants (x - 0.5) / 0.25
    normalise = Affine(4.0, -2.0)
    attack = make(model)
    attack.set_normalization_used(mean=[0.5], std=[0.25])
    inputs = normalise(x)
    before = inputs.clone()
    reference = make(nn.Sequential(normalise, model))
    for given in (y, None):
        adversarial = attack(inputs, given)
        assert torch.equal(adversarial, normalise(reference(x, given)))
        assert torch.equal(attack.last_result.x_adv, reference.last_result.x_adv)
        assert torch.equal(attack.last_result.queries, reference.last_result.queries)
    assert torch.equal(inputs, before)
    result = attack.last_result
    assert 0 < int(result.success.sum()) < 14
    assert 0 <= float(result.x_adv.min()) < float(result.x_adv.max()) <= 1
    assert torch.equal(labels(model, adversarial) != labels(model, inputs), result.success)
    assert float((adversarial - inputs).abs().max()) <= attack.eps / 0.25 + 1e-5, (
        "eps is in units of [0, 1]"
    )


def test_normalisation_stays_in_force_after_an_error(make, sample, digits_net):
    model = nn.Sequential(Affine(0.25, 0.5), digits_net)
    attack = make(model)
    attack.set_normalization_used(mean=[0.5], std=[0.25])
    inputs = Affine(4.0, -2.0)(sample[0])
    want = attack(inputs, sample[1])
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        attack(inputs + 1, sample[1])
    assert torch.equal(attack(inputs, sample[1]), want)


class Recorded(torchattacks.PGD):
    """PGD that remembers its latest batch and answer."""

    def forward(self, images, labels):
        adversarial = super().forward(images, labels)
        object.__setattr__(self, "seen", (images.clone(), adversarial.clone()))
        return adversarial


@pytest.mark.parametrize("normalised", [False, True])
def test_inside_multi_attack(make, sample, digits_net, normalised):
    x, y = sample
    model = nn.Sequential(Affine(0.25, 0.5), digits_net) if normalised else digits_net
    network = digits_net.eval()
    pgd, ours = Recorded(model, eps=0.08, alpha=0.03, steps=4, random_start=False), make(model)
    multi = torchattacks.MultiAttack([pgd, ours])
    if normalised:
        multi.set_normalization_used(mean=[0.5], std=[0.25])
    undo = Affine(0.25, 0.5) if normalised else nn.Identity()
    images = Affine(4.0, -2.0)(x) if normalised else x
    adversarial = undo(multi(images, y))
    survived = labels(network, pgd.seen[1]) == y
    assert 0 < int(survived.sum()) < 14
    assert len(ours.last_result) == int(survived.sum())
    assert torch.allclose(adversarial[~survived], pgd.seen[1][~survived], atol=1e-6)
    alone = make(digits_net)
    alone(x[survived], y[survived])
    assert torch.equal(ours.last_result.success, alone.last_result.success)
    assert torch.equal(ours.last_result.queries, alone.last_result.queries)
    fell = survived.clone()
    fell[survived] = ours.last_result.success
    assert 0 < int(fell.sum()) < int(survived.sum())
    assert torch.equal(labels(network, adversarial) != y, ~survived | fell)

    multi = torchattacks.MultiAttack([ours, pgd])
    multi(images, y)
    assert len(ours.last_result) == 14
    assert len(pgd.seen[0]) == int((~ours.last_result.success).sum())


def test_save_and_load(make, sample, digits_net, tmp_path, capsys):
    x, y = sample
    attack = make(digits_net)
    path = tmp_path / "adversarial.pt"
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    accuracy, _, _ = attack.save(loader, save_path=path, return_verbose=True, save_predictions=True)
    assert "Robust accuracy" in capsys.readouterr().out
    loaded = RayS.load(path, batch_size=20, load_predictions=True)
    adversarial, classes, predicted = next(iter(loaded))
    want = torch.cat([attack(images, classes) for images, classes in loader])
    assert torch.equal(adversarial, want)
    assert torch.equal(classes, y)
    assert torch.equal(predicted, labels(digits_net, want))
    assert accuracy == pytest.approx(100 * float((predicted == y).float().mean()))


def test_a_model_without_parameters(capsys):
    class Brightness(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1)
            return torch.stack([mean, 0.55 - mean], dim=1)

    images = torch.linspace(0.2, 0.8, 12).view(12, 1, 1, 1).expand(12, 1, 4, 4)
    attack = rays(Brightness())
    assert "try set_device()" in capsys.readouterr().out, (
        "torchattacks itself says that it found no device"
    )
    assert attack.device is None
    adversarial = attack(images)
    want = core_rays(Brightness(), images, eps=EPS, max_queries=BUDGET)
    assert torch.equal(adversarial, want.x_adv)
    assert 0 < int(want.success.sum()) < 12
    attack.set_device(torch.device("cpu"))
    assert torch.equal(attack(images), adversarial)


# ---- what stays as it was


def test_modes_come_back_submodule_by_submodule(make, sample, digits_net):
    broken = False

    class Breaks(nn.Module):
        def forward(self, x):
            assert not self.training
            if broken:
                raise RuntimeError("the model broke")
            return x

    network = nn.Sequential(digits_net, nn.BatchNorm1d(10), nn.Dropout(), Breaks()).train()
    digits_net.eval()  # frozen layers inside a training network
    network[1].eval()
    modes = [module.training for module in network.modules()]
    assert set(modes) == {True, False}
    attack = make(network, max_queries=20)
    attack.set_model_training_mode(
        model_training=True, batchnorm_training=True, dropout_training=True
    )
    attack(*sample)  # still in eval mode: otherwise the answers would be random
    assert [module.training for module in network.modules()] == modes
    broken = True
    with pytest.raises(RuntimeError, match="the model broke"):
        attack(*sample)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_an_old_result_is_freed_at_once(make, sample, digits_net):
    attack = make(digits_net, max_queries=5)
    attack(*sample)
    old = weakref.ref(attack.last_result)
    gc.disable()
    try:
        attack(*sample)
        assert old() is None
    finally:
        gc.enable()


def test_repr_shows_settings_and_no_tensors(sample, digits_net):
    attack = rays(digits_net)
    attack.set_normalization_used(mean=[0.0], std=[1.0])
    attack(*sample)
    text = repr(attack)
    assert "tensor" not in text
    assert "normalization_used=True" in text
    assert f"eps={EPS}, max_queries={BUDGET}, stop_on_success=True" in text


def test_images_that_are_no_tensor_are_named(digits_net: nn.Module) -> None:
    attack = rays(digits_net)
    with pytest.raises(TypeError, match=r"^images must be a torch tensor, got ndarray$"):
        attack(np.zeros((2, 1, 8, 8), np.float32), torch.zeros(2, dtype=torch.int64))
