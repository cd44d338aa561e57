"""Models whose answers depend on chance or on their neighbours: the probe, its warnings, its
cost in every shell.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier
from torch import Tensor, nn

import art_ext.attacks as art_shells
import art_ext.torchattacks as torch_shells
from art_ext.core.probe import ModelProbe, probe_model
from art_ext.models import digits_cnn
from tests.toys import warned


class Around(nn.Module):
    """A network with something done to its input and output."""

    def __init__(self, network: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows if self.before is None else self.before(rows)
        outputs: Tensor = self.network(rows)
        return outputs if self.after is None else self.after(outputs)


def batch_norm() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8, track_running_stats=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        ).eval()


def attention(scores: Tensor) -> Tensor:
    """Each row looks at the others."""
    return (scores @ scores.T / 1000).softmax(dim=1) @ scores


RANDOM: dict[str, Callable[[nn.Module], Any]] = {
    "noisy input": lambda net: Around(net, lambda x: x + 0.3 * torch.randn_like(x)),
    "dropout that stays on": lambda net: Around(
        net, lambda x: nn.functional.dropout(x, 0.3, training=True)
    ),
    "noisy scores": lambda net: Around(net, None, lambda z: z + torch.randn_like(z)),
    "callable": lambda net: lambda x: net(x) + torch.rand(len(x), 1) * torch.arange(10),
    "one noisy column": lambda net: lambda x: net(x)[:, 0] + torch.rand(len(x)),
}
DEPENDENT: dict[str, Callable[[nn.Module], Any]] = {
    "batch normalisation without statistics": lambda net: batch_norm(),
    "centring by the batch": lambda net: Around(net, lambda x: x - x.mean(dim=0)),
    "attention over the batch": lambda net: Around(net, None, attention),
    "scaling by the batch": lambda net: Around(net, None, lambda z: z / z.abs().max()),
    "ranks in the batch": lambda net: lambda x: net(x).argsort(dim=0).float(),
}
SOUND: dict[str, Callable[[nn.Module], Any]] = {
    "network": lambda net: net,
    "callable": lambda net: lambda x: net(x),
    "in place": lambda net: Around(net, lambda x: x.sub_(0.5).div_(0.5)),
    "in training mode": lambda net: nn.Sequential(net, nn.Dropout(0.5)).train(),
    "float16": lambda net: copy.deepcopy(net).to(torch.float16),
    "bfloat16": lambda net: copy.deepcopy(net).to(torch.bfloat16),
    "float64": lambda net: copy.deepcopy(net).double(),
    "rounded to bfloat16": lambda net: lambda x: net(x).bfloat16(),
    "NaN": lambda net: lambda x: net(x) / 0 * 0,
    "masked classes": lambda net: lambda x: net(x).masked_fill(torch.arange(10) > 7, -torch.inf),
    "constant": lambda net: lambda x: torch.zeros(len(x), 10),
    # near a tie, one column's range is small beside the rounding of what it is summed from
    "near a tie": lambda net: lambda x: 3 * x.flatten(1).argmax(1).float() - 40 + 1e-6 * len(x),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_randomised_models(kind: str, digits_net: nn.Module, digits: Any) -> None:
    found = probe_model(RANDOM[kind](digits_net), digits[0])
    assert found.randomised.tolist() == [True] * 8
    assert found.batch_dependent.tolist() == [False] * 8
    assert found.largest_change > 1e-2
    assert found.rows == 24


@pytest.mark.parametrize("samples", [4, 7, 8, 40])
@pytest.mark.parametrize("kind", DEPENDENT)
def test_models_that_look_at_the_batch(
    kind: str, samples: int, digits_net: nn.Module, digits: Any
) -> None:
    found = probe_model(DEPENDENT[kind](digits_net), digits[0], samples=samples)
    assert not bool(found.randomised.any())
    assert int(found.batch_dependent.sum()) >= samples // 2  # one half may keep what decides
    assert found.largest_change > 1e-4
    assert found.rows == 3 * samples


@pytest.mark.parametrize("batch_size", [256, 3])
@pytest.mark.parametrize("kind", SOUND)
def test_sound_models(kind: str, batch_size: int, digits_net: nn.Module, digits: Any) -> None:
    model = SOUND[kind](digits_net)
    modes = [part.training for part in model.modules()] if isinstance(model, nn.Module) else []
    x, before = digits[0], digits[0].clone()
    found = probe_model(model, x, batch_size=batch_size)
    assert not bool(found.randomised.any() | found.batch_dependent.any())
    assert found.largest_change <= (0.07 if "16" in kind else 1e-4 if kind != "near a tie" else 1)
    assert found.rows == 24 + (
        min(batch_size, 8) if kind in ("float16", "bfloat16", "float64") else 0
    )
    assert torch.equal(x, before)
    assert modes == (
        [part.training for part in model.modules()] if isinstance(model, nn.Module) else []
    )


def test_only_some_samples_are_random(linear_net: nn.Module, digits: Any) -> None:
    x = digits[0].clone()
    x[:, 0, 0, 0] = 0
    x[[1, 6], 0, 0, 0] = 1
    noisy = Around(linear_net, lambda x: x + x[:, :1, :1, :1] * torch.randn_like(x))
    assert probe_model(noisy, x).randomised.nonzero().flatten().tolist() == [1, 6]


def test_labels(digits_net: nn.Module, digits: Any) -> None:
    x = digits[0]
    sound = probe_model(lambda rows: digits_net(rows).argmax(1), x, outputs="labels", samples=40)
    assert not bool(sound.randomised.any() | sound.batch_dependent.any())
    assert sound.largest_change == 0
    random = probe_model(
        lambda rows: torch.randint(0, 10, (len(rows),)), x, outputs="labels", samples=40
    )
    assert int(random.randomised.sum()) > 20
    assert not bool(random.batch_dependent.any()), "labels that agreed by chance say nothing"
    assert random.largest_change == 1
    rank = probe_model(
        lambda rows: digits_net(rows)[:, 0].argsort().argsort(), x, outputs="labels", samples=40
    )
    assert not bool(rank.randomised.any())
    assert int(rank.batch_dependent.sum()) > 20


def test_probabilities_and_other_boxes(linear_net: nn.Module, digits: Any) -> None:
    softmax = nn.Sequential(linear_net, nn.Softmax(1))
    assert probe_model(softmax, digits[0], outputs="probabilities").largest_change < 1e-4
    scaled = Around(softmax, lambda x: x / 255)
    found = probe_model(scaled, 255 * digits[0], outputs="probabilities", clip_values=(0, 255))
    assert not bool(found.randomised.any() | found.batch_dependent.any())
    with pytest.raises(ValueError, match=r"clip_values|\[0"):
        probe_model(scaled, 255 * digits[0])


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 2), (3, 6), (4, 12), (8, 24), (40, 24)])
def test_cost(count: int, rows: int, digits_net: nn.Module, digits: Any) -> None:
    seen: list[int] = []
    hook = digits_net.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = probe_model(digits_net, digits[0][:count], batch_size=5)
    hook.remove()
    assert sum(seen) == found.rows == rows
    assert max(seen, default=0) <= 5
    assert found.rows_of_sample.tolist() == [rows // max(1, min(count, 8))] * min(count, 8)


def test_random_streams_stay_as_they_were(digits_net: nn.Module, digits: Any) -> None:
    model = RANDOM["noisy input"](digits_net)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    probe_model(model, digits[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_known_answers_are_not_asked_again(digits_net: nn.Module, digits: Any) -> None:
    x = digits[0][:8]
    assert probe_model(digits_net, x, first=digits_net(x).detach()).rows == 16
    assert bool(
        probe_model(digits_net, x, first=digits_net(x).detach() + torch.arange(10)).randomised.all()
    )


# ---- shells

ART: dict[str, dict[str, Any]] = {
    "RayS": {"max_queries": 20},
    "FrankWolfe": {"max_iter": 3},
    "FrankWolfeBlackBox": {"max_queries": 60},
    "HMCAM": {"max_iter": 3},
    "AIFGSM": {"max_iter": 3},
    "ElasticNetPyTorch": {"max_iter": 3, "binary_search_steps": 2},
    "ZooPyTorch": {"max_iter": 3, "binary_search_steps": 1, "nb_parallel": 4},
}
TORCH: dict[str, dict[str, Any]] = {
    "RayS": {"max_queries": 20},
    "FW": {"steps": 3},
    "FWBlack": {"max_queries": 60},
    "HMCAM": {"steps": 3},
    "AIFGSM": {"steps": 3},
    "EAD": {"max_iterations": 3, "binary_search_steps": 2},
    "ZOO": {"max_iterations": 3, "binary_search_steps": 1, "n_coordinates": 4},
}
SHELLS = [("art", name) for name in ART] + [("torchattacks", name) for name in TORCH]
Run = Callable[[], Any]


def shelled(
    shell: str, name: str, model: nn.Module, x: Tensor, y: Tensor, **options: Any
) -> tuple[Any, Run]:
    """An attack object, and a call of it that gives its result."""
    if shell == "torchattacks":
        attack = getattr(torch_shells, name)(model, **TORCH[name], **options)
        return attack, lambda: (attack(x, y), attack.last_result)[1]
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = getattr(art_shells, name)(classifier, verbose=False, **ART[name], **options)
    return attack, lambda: attack.run(x.numpy(), y.numpy())


@pytest.mark.parametrize(("shell", "name"), SHELLS)
def test_shells_warn_once_and_count_the_probe(
    shell: str, name: str, digits_net: nn.Module, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = digits[0][:12], digits[1][:12]
    model = RANDOM["noisy input"](digits_net)
    seen: list[int] = []
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    _, run = shelled(shell, name, model, x, y)
    for wasted in ([3] * 8 + [0] * 4, [0] * 12):
        seen.clear()
        result = run()
        assert sum(seen) == int((result.queries + result.wasted_rows).sum())
        assert result.wasted_rows.tolist() == wasted
    (message,) = warned(caplog)
    assert message.startswith(
        "8 of 8 samples: the model's outputs change when the same samples are repeated"
    )
    caplog.clear()
    seen.clear()
    result = shelled(shell, name, model, x, y, probe=False)[1]()
    assert sum(seen) == int(result.queries.sum())
    assert int(result.wasted_rows.sum()) == 0
    assert not warned(caplog)


@pytest.mark.parametrize(("shell", "name"), SHELLS)
def test_shells_warn_of_models_that_look_at_the_batch(
    shell: str, name: str, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shelled(shell, name, batch_norm(), *digits)[1]()
    (message,) = warned(caplog)
    assert message.startswith(
        "8 of 8 samples: the model's outputs change with the other samples of a batch"
    )
    assert "Verdicts hold for the batch that they were found in" in message


@pytest.mark.parametrize(("shell", "name"), SHELLS)
def test_the_probe_changes_no_result(
    shell: str, name: str, digits_net: nn.Module, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = digits[0][:10], digits[1][:10]
    model = RANDOM["noisy scores"](digits_net)  # draws from PyTorch's stream
    results = []
    for probe in (True, False):
        attack, run = shelled(shell, name, model, x, y, probe=probe)
        if hasattr(attack, "seed"):
            attack.seed = 0
        torch.manual_seed(0)
        results.append(run())
    for column in ("x_adv", "success", "distance", "queries", "gradients"):
        assert torch.equal(getattr(results[0], column), getattr(results[1], column)), column
    caplog.clear()
    shelled(shell, name, digits_net, x, y)[1]()
    assert not warned(caplog), "a sound model is not warned of"


def test_each_model_of_an_attack_object_is_probed_once(
    digits_net: nn.Module, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = digits[0][:8], digits[1][:8]
    attack, run = shelled("torchattacks", "FW", RANDOM["noisy input"](digits_net), x, y)
    run()
    first = attack.model
    attack.model = batch_norm()
    run()
    attack.model = first
    run()
    assert ["repeated" in message for message in warned(caplog)] == [True, False]
    caplog.clear()
    attack, run = shelled("art", "FrankWolfe", RANDOM["noisy input"](digits_net), x, y)
    run()
    twin = copy.deepcopy(attack)
    twin.run(x.numpy(), y.numpy())
    attack.run(x.numpy(), y.numpy())
    assert len(warned(caplog)) == 2, "the copy is an attack object of its own"


@pytest.mark.parametrize("shell", ["art", "torchattacks"])
def test_attack_objects_can_be_pickled(shell: str, digits: Any) -> None:
    x, y = digits[0][:8], digits[1][:8]
    attack, run = shelled(shell, "RayS", digits_cnn(), x, y)
    run()
    again = pickle.loads(pickle.dumps(attack))  # noqa: S301 - our own
    assert again.probe is True
    assert int(run().wasted_rows.sum()) == 0


def test_bad_switch(digits_net: nn.Module) -> None:
    for shell, name in SHELLS:
        with pytest.raises(ValueError, match="probe must be True or False, got 1"):
            shelled(
                shell, name, digits_net, torch.zeros(1, 1, 8, 8), torch.zeros(1).long(), probe=1
            )


def test_black_boxes_are_probed(
    digits_net: nn.Module, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def predict(x: Any) -> Any:
        with torch.no_grad():
            return (digits_net(torch.from_numpy(x)) + torch.randn(len(x), 10)).numpy()

    classifier = BlackBoxClassifier(predict, (1, 8, 8), 10, clip_values=(0, 1))
    attack = art_shells.RayS(classifier, max_queries=9, verbose=False)
    attack.generate(digits[0].numpy(), digits[1].numpy())
    assert "outputs change when the same samples are repeated" in caplog.text


def test_warnings_are_seen_without_any_set_up() -> None:
    code = """
import torch
from art_ext.torchattacks import FW

class Noise(torch.nn.Module):
    def forward(self, rows):
        return rows + torch.rand(len(rows), 4)

attack = FW(torch.nn.Sequential(torch.nn.Flatten(), Noise()), steps=1)
attack(torch.rand(8, 1, 2, 2), torch.zeros(8).long())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        "8 of 8 samples: the model's outputs change when the same samples are repeated"
        in done.stderr
    )


def test_a_probe_is_charged_to_the_first_samples(digits_net: nn.Module, digits: Any) -> None:
    from art_ext.core.attacks import pgd

    result = pgd(digits_net, *digits, eps=0.1, num_steps=2, seed=0)
    found = probe_model(digits_net, digits[0])
    assert isinstance(found, ModelProbe)
    assert found.charge(result).wasted_rows.tolist() == [3] * 8 + [0] * 32
    assert int(result.wasted_rows.sum()) == 0
