"""What happens to a network while it is used: threads, modes, frozen ScriptModules, dtypes."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from art_ext.core import metrics
from art_ext.core.attacks import fgsm, hmcam, pgd, rays
from art_ext.core.ensemble import Ensemble
from art_ext.core.networks import NetworkInUseError, frozen_eval, in_use
from art_ext.core.oracle import GradientOracle
from art_ext.data import load_data
from tests.toys import settings


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
    return [module.training for module in network.modules()], [
        one.requires_grad for one in network.parameters()
    ]


WRAPPED = {
    "itself": lambda network: network,
    "a wrapper": lambda network: nn.Sequential(network),
    "an ensemble": lambda network: Ensemble([network, copy.deepcopy(network)]),
    "a part of it": lambda network: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), *list(network)[5:]
    ),
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
            with pytest.raises(
                RuntimeError, match=r"another thread attacks.*copy\.deepcopy\(model\)"
            ):
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
    from art_ext.training import train

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


# ---- dtypes

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (*HALVES, torch.float64)


@pytest.fixture
def as_dtype(digits_net):
    return lambda dtype: copy.deepcopy(digits_net).to(dtype)


def confirm(network, dtype, result, y):
    """Every verdict is what the network says to the float32 tensor that came back."""
    said = torch.cat([network(row.to(dtype)) for row in result.x_adv.split(1)]).argmax(1)
    assert torch.equal(said != y, result.success)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_networks_are_as_robust_as_float32(digits_net, as_dtype, dtype):
    data = load_data("digits").first(200)
    exact, half = (
        metrics.robust_accuracy(pgd(network, data.x, data.y, eps=0.1, num_steps=40, seed=0))
        for network in (digits_net, as_dtype(dtype))
    )
    assert 0.02 < exact < 0.98
    assert abs(exact - half) <= 0.02


def test_tiny_gradients_of_a_float16_pass_are_lifted(linear_net, digits):
    """The slopes of this loss, 2e-8, are 0 in float16."""

    def slope(model):
        oracle = GradientOracle(model, 4)
        with oracle:
            found = oracle.gradient(
                digits[0][:4], torch.arange(4), lambda z, i: 2e-8 * (z[:, 1] - z[:, 0])
            )
        return found.gradient

    exact = slope(linear_net)
    half = copy.deepcopy(linear_net).half()
    close = 0.01 * float(exact.abs().max())
    assert close > 1e-11
    torch.testing.assert_close(slope(half), exact, rtol=0, atol=close)
    torch.testing.assert_close(slope(lambda rows: half(rows.half())), exact, rtol=0, atol=close)
    torch.testing.assert_close(slope(Ensemble([half, linear_net])), exact, rtol=0, atol=close)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_defences_of_art_before_a_network_of_another_dtype(digits, as_dtype, dtype):
    from art.defences.postprocessor import ReverseSigmoid
    from art.defences.preprocessor import FeatureSqueezing
    from art.estimators.classification import PyTorchClassifier

    import art_ext.attacks

    x, y = digits[0][:6], digits[1][:6]
    settings = {
        "plain": {},
        "normalised": {"preprocessing": (0.5, 2.0)},
        "numpy": {"preprocessing_defences": FeatureSqueezing(clip_values=(0, 1), bit_depth=4)},
        "postprocessed": {"postprocessing_defences": ReverseSigmoid(beta=0.1, gamma=0.1)},
    }
    for name, setting in settings.items():
        network = as_dtype(dtype)
        classifier = PyTorchClassifier(
            network,
            nn.CrossEntropyLoss(),
            (1, 8, 8),
            10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
            **setting,
        )
        for shell in ("RayS", "HMCAM"):
            keywords = {"max_iter": 5} if shell == "HMCAM" else {}
            attack = getattr(art_ext.attacks, shell)(
                classifier, eps=0.2, max_queries=40, verbose=False, **keywords
            )
            result = attack.run(x.numpy(), y.numpy())
            assert bool(result.success.any()), (name, shell)
            if name == "plain":
                confirm(network, dtype, result, y)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torchattacks_normalises_before_a_network_of_another_dtype(digits, as_dtype, dtype):
    import art_ext.torchattacks

    x, y = digits[0][:6], digits[1][:6]
    network = as_dtype(dtype)
    attack = art_ext.torchattacks.FW(network, eps=0.2, steps=5)
    attack.set_normalization_used(mean=[0.5], std=[0.5])
    attack.set_mode_targeted_least_likely(quiet=True)
    given = 2 * x - 1
    moved = attack(given, y)
    assert moved.dtype == torch.float32
    assert torch.equal(given, 2 * x - 1)
    attack.set_mode_default()
    moved = attack(given, y)
    said = torch.cat([network(row.to(dtype)) for row in moved.split(1)]).argmax(1)
    assert torch.equal(said != y, attack.last_result.success)


def test_an_ensemble_of_three_dtypes(digits, as_dtype):
    x, y = digits[0][:6], digits[1][:6]
    networks = [as_dtype(dtype) for dtype in (torch.float16, torch.float32, torch.float64)]
    for average in ("logits", "probabilities", "losses"):
        model = Ensemble(networks, average=average)
        result = pgd(model, x, y, eps=0.15, num_steps=10)
        with torch.no_grad():
            said = torch.cat([model(row) for row in result.x_adv.split(1)]).argmax(1)
        assert torch.equal(said != y, result.success)
        assert bool(result.success.any())
    networks[0].float()  # members may change their dtype later
    assert len(pgd(model, x, y, eps=0.15, num_steps=2)) == 6


def test_a_network_of_another_dtype_with_external_attacks_and_metrics(digits, as_dtype):
    from art_ext.evaluation.panel.attack import AttackRequest
    from art_ext.evaluation.panel.external import external_attack

    x, y = digits[0][:6], digits[1][:6]
    chosen = settings(eps=(0.2,), batch_size=64)
    for dtype in DTYPES:
        network = as_dtype(dtype)
        for name in ("torchattacks:PGD", "art:ProjectedGradientDescent"):
            attack = external_attack(name, {})
            result = attack.run(AttackRequest(network, x, y, 0.2, chosen))
            confirm(network, dtype, result, y)
            assert bool(result.success.any())
        assert metrics.perturbation_stability(network, x, result.x_adv) < 1
        assert metrics.local_lipschitz(network, x, eps=0.1, num_steps=2).mean > 0
        assert metrics.transfer_success(result.x_adv, x, y, network).share > 0


@pytest.mark.parametrize(
    "recipe", ["natural", "pgd", "trades", "free", "atcd", "cat", "backward-smoothing", "war"]
)
def test_a_double_network_trains_as_a_float32_one(recipe, digits):
    from art_ext.training import RECIPES, make_recipe, train

    assert recipe in RECIPES
    x, y = digits

    def run(dtype):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(
            dtype
        )
        settings = {} if recipe == "natural" else {"eps": 0.1}
        method = make_recipe(recipe, **settings, **({"zeta": 5.0} if recipe == "war" else {}))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        return train(
            network,
            (x, y),
            method,
            updates=8,
            batch_size=20,
            optimizer=optimizer,
            progress=False,
            validation=8,
        )

    double, single = run(torch.float64), run(torch.float32)
    assert {parameter.dtype for parameter in double.model.parameters()} == {torch.float64}
    assert double.forwards == single.forwards
    torch.testing.assert_close(double.losses.float(), single.losses, rtol=2e-2, atol=2e-2)


# ---- ScriptModules, int8 layers, labels of other types, boxes per feature


@pytest.fixture
def linear_digits(linear_net, digits):
    return linear_net, digits[0][:8], linear_net(digits[0][:8]).argmax(1)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, *DTYPES], ids=str)
@pytest.mark.parametrize("wrap", [lambda frozen: frozen, nn.Sequential], ids=["itself", "inside"])
def test_frozen_script_modules(linear_digits, dtype, wrap):
    network, x, y = linear_digits
    frozen = torch.jit.freeze(torch.jit.script(copy.deepcopy(network).to(dtype).eval()))
    model = wrap(frozen)
    for attack in (
        lambda: rays(model, x, y, eps=0.1, max_queries=40),
        lambda: pgd(model, x, y, eps=0.1),
    ):
        result = attack()
        said = torch.cat([frozen(row.to(dtype)) for row in result.x_adv.split(1)]).argmax(1)
        assert torch.equal(said != y, result.success)
        assert bool(result.success.any())
        assert not hasattr(frozen, "training"), "it had no mode before"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_int8_layers_have_no_gradient(linear_digits):
    network, x, y = linear_digits
    int8 = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(network), {nn.Linear}, dtype=torch.qint8
    )
    message = (
        r"output does not depend on the input through autograd, as with int8 layers.*rays, .*nes"
    )
    models = {
        "int8": int8,
        "behind a float layer": nn.Sequential(nn.Identity(), int8),
        "detached": lambda rows: network(rows.detach()),
        "beside a parameter": lambda rows: (
            network(rows.detach()) + torch.zeros(10, requires_grad=True)
        ),
    }
    for name, model in models.items():
        for attack in (pgd, hmcam):
            with pytest.raises(ValueError, match=message):
                attack(model, x, y, eps=0.1)
        assert len(rays(model, x, y, eps=0.1, max_queries=5)) == 8, name
    with pytest.raises(ValueError, match="the loss does not depend on the input through autograd"):
        pgd(network, x, y, eps=0.1, loss=lambda z, index: z.detach()[:, 0])


LABELS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_labels_of_any_integer_type(linear_digits, dtype):
    network, x, y = linear_digits
    wanted = pgd(network, x, y, eps=0.1, seed=0)
    given = y.to(dtype)
    assert torch.equal(pgd(network, x, given, eps=0.1, seed=0).x_adv, wanted.x_adv)
    goal = (y + 1) % 10
    aimed = pgd(network, x, given, targets=goal.to(dtype), eps=0.1, seed=0)
    assert torch.equal(aimed.x_adv, pgd(network, x, targets=goal, eps=0.1, seed=0).x_adv)
    assert torch.equal(
        rays(network, x, given, max_queries=30).x_adv, rays(network, x, y, max_queries=30).x_adv
    )
    assert metrics.transfer_success(wanted.x_adv, x, given, network).share == success_share(wanted)


def success_share(result):
    return float(result.success.double().mean())


def test_labels_of_two_classes_may_be_bool(digits):
    x = digits[0][:8]
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    y = network(x).argmax(1)
    for attack in (pgd, fgsm):
        assert torch.equal(
            attack(network, x, y.bool(), eps=0.1).success, attack(network, x, y, eps=0.1).success
        )
    assert torch.equal(
        rays(network, x, y.bool(), max_queries=30).x_adv, rays(network, x, y, max_queries=30).x_adv
    )
    negative = -1 - 0 * y.to(torch.int8)
    with pytest.raises(ValueError, match=r"y must hold class indices >= 0, got -1"):
        rays(network, x, negative, max_queries=30)


def test_a_box_per_feature_names_the_first_features_without_width(linear_digits):
    network, x, y = linear_digits
    lower, upper = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    upper[0, 2, 3:7] = 0.0
    with pytest.raises(ValueError, match=r"got \(0, 0\) in feature \(0, 2, 3\), .* and 1 more"):
        pgd(network, x, y, eps=0.1, clip_values=(lower, upper))
    flat = torch.tensor([0.0, 0.5, 1.0])
    with pytest.raises(
        ValueError, match=r"everywhere, got \(0\.5, 0\.5\) in feature 1, \(1, 0\.5\) in feature 2$"
    ):
        rays(lambda rows: rows, torch.zeros(2, 3), clip_values=(flat, 0.5))
    with pytest.raises(ValueError, match=r"got \(0, inf\) in feature 0"):
        rays(
            lambda rows: rows, torch.zeros(2, 3), clip_values=(0.0, torch.tensor([torch.inf, 1, 1]))
        )
