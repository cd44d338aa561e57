"""bfloat16 gradients with verified successes, channels-last memory and compilation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.core import attacks
from art_ext.core.acceleration import check_amp
from art_ext.core.attacks import registry
from art_ext.core.attacks.engine.planning import planning
from art_ext.core.ensemble import Ensemble
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.oracle import GradientOracle

GRADIENTS = [
    name for name in registry.names(access="gradients") if not registry.get(name).resources
]
SHORT = {
    "cw": {"num_steps": 8, "search_steps": 2, "initial_const": 10.0, "step_size": 0.05},
    "ead": {"num_steps": 6, "search_steps": 2, "initial_const": 10.0, "step_size": 0.05},
    "hmcam": {"num_steps": 4},
    "fgsm": {},
    "i_fgm": {"num_steps": 6},
}


class Seen(nn.Module):
    """A network that notes for each call its rows, and whether it computes in bfloat16."""

    def __init__(self, shift=0.0):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4)
        )
        x = torch.rand(64, 2, 6, 6)
        with torch.no_grad():  # all classes are predicted
            self.layers[3].bias -= self.layers(x).mean(dim=0)
            self.layers[3].weight *= 4
            self.layers[3].bias *= 4
        self.shift = shift
        self.calls = []

    def forward(self, rows):
        low = torch.is_autocast_enabled("cpu")
        self.calls.append((len(rows), low))
        outputs = self.layers(rows)
        return outputs + self.shift * torch.tensor([1.0, 0, 0, 0]) if low else outputs

    def rows(self, low):
        return sum(rows for rows, in_bfloat16 in self.calls if in_bfloat16 == low)


def samples(model, count=12):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(count, 2, 6, 6, generator=generator)
    with torch.no_grad():
        y = model.layers(x).argmax(1)
    return x, y


def run(name, model, x, y, **options):
    spec = registry.get(name)
    radius = {"eps": 0.04} if spec.family == "fixed-radius" else {}
    given = {**radius, **SHORT.get(name, {"num_steps": 5}), "seed": 0, **options}
    return spec.function(model, x, y, **given)


def wrong(model, result, y):
    with torch.no_grad():
        return model.layers(result.x_adv).argmax(1) != y


@pytest.mark.parametrize("budget", [None, 1, 7])
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_success_is_one_in_float32_and_every_row_is_charged(name, budget):
    model = Seen()
    x, y = samples(model)
    options = {} if budget is None else {"max_queries": budget}
    result = run(name, model, x, y, amp=True, **options)
    # the one step of FGSM has the gradient of the clean check
    assert bool(model.rows(low=True)) == (name != "fgsm" and budget != 1)
    assert torch.equal(wrong(model, result, y), result.success)
    assert int(result.queries.sum()) == model.rows(low=True) + model.rows(low=False)
    assert int(result.wasted_rows.sum()) == 0
    assert bool((result.queries_to_success <= result.queries).all())
    if budget is not None:
        assert int(result.queries.max()) <= budget
    if budget is None:
        plain = run(name, Seen(), x, y)
        assert abs(int(result.success.sum()) - int(plain.success.sum())) <= 2


@pytest.mark.parametrize("name", [name for name in GRADIENTS if name != "fgsm"])
def test_a_success_in_bfloat16_alone_is_none(name):
    """All rows seem to be successes in bfloat16. Each of them costs a second query."""
    model = Seen(shift=1000.0)
    x, y = samples(model)
    x, y = x[y != 0], y[y != 0]
    result = run(name, model, x, y, amp=True)
    assert torch.equal(wrong(model, result, y), result.success)
    assert int(result.queries.sum()) == model.rows(low=True) + model.rows(low=False)
    assert model.rows(low=False) > len(x)


def test_the_first_success_of_a_sample_that_stops_there_is_its_last_query():
    model = Seen()
    x, y = samples(model, 30)
    result = attacks.pgd(model, x, y, eps=0.1, num_steps=8, seed=0, amp=True, stop_on_success=True)
    success = result.success & ~result.already_adversarial
    assert int(success.sum()) > 10
    assert torch.equal(result.queries_to_success[success], result.queries[success])


def test_the_clean_check_and_the_last_candidate_are_in_float32():
    model = Seen()
    x, y = samples(model)
    attacks.i_fgsm(model, x, y, eps=1e-6, num_steps=3, amp=True)
    assert [low for _, low in model.calls] == [False, True, True, False]


def test_unlabelled_samples_get_the_predictions_of_float32():
    model = Seen(shift=1000.0)
    x, y = samples(model)
    result = attacks.pgd(model, x, eps=1e-6, num_steps=2, amp=True)
    assert not bool(result.success.any())
    assert len(torch.unique(y)) > 1


def test_a_surrounding_autocast_does_not_reach_the_verification():
    model = Seen(shift=1000.0)
    x, y = samples(model)
    x, y = x[y != 0], y[y != 0]
    oracle = GradientOracle(model, len(x), amp=True)
    index = torch.arange(len(x))
    with torch.autocast("cpu", dtype=torch.bfloat16), oracle:
        oracle.lower(lambda outputs, owner: outputs.argmax(1) != y[owner])
        found = oracle.gradient(x, index, lambda outputs, owner: outputs[:, 1])
    assert torch.equal(found.outputs.argmax(1), y)
    assert oracle.queries.tolist() == [2] * len(x)
    assert oracle.gradients.tolist() == [1] * len(x)


def test_an_oracle_that_was_not_lowered_computes_in_float32():
    model = Seen()
    x, _ = samples(model)
    with GradientOracle(model, len(x), amp=True) as oracle:
        oracle.gradient(x, torch.arange(len(x)), lambda outputs, owner: outputs[:, 1])
    assert model.rows(low=True) == 0


def test_members_of_an_ensemble_are_called_in_bfloat16():
    members = [Seen(), Seen()]
    x, y = samples(members[0])
    ensemble = Ensemble(members, average="losses")
    result = attacks.pgd(ensemble, x, y, eps=0.04, num_steps=4, amp=True, seed=0)
    for member in members:
        assert member.rows(low=True) > len(x)
        assert int(result.queries.sum()) == member.rows(low=True) + member.rows(low=False)


@pytest.mark.parametrize("name", ["auto_pgd", "cw", "pgd"])
def test_the_planned_rows_hold(name):
    model = Seen(shift=1000.0)
    x, y = samples(model)
    x, y = x[y != 0], y[y != 0]
    with planning(4) as plan:
        run(name, model, x[:0], y[:0], amp=True)
    result = run(name, model, x, y, amp=True)
    assert int(result.queries.max()) <= plan.rows.forward
    assert int(result.gradients.max()) <= plan.rows.backward


@pytest.mark.parametrize("stops_at", [2, 3, 4, 5])
def test_a_model_that_stops_leaves_an_exact_ledger(stops_at):
    """Calls of at most five rows: the model may stop in a verification between two of them."""
    model = Seen(shift=1000.0)
    x, y = samples(model)
    x, y = x[y != 0], y[y != 0]
    assert len(x) > 5
    answered = []

    def stop(module, given):
        if len(model.calls) == stops_at:
            raise ModelStopped("the budget is spent")

    model.register_forward_pre_hook(stop)
    with pytest.raises(AttackInterrupted) as found:
        attacks.pgd(model, x, y, eps=1e-6, num_steps=9, amp=True, batch_size=5)
    answered = model.rows(low=True) + model.rows(low=False)
    assert int(found.value.result.queries.sum()) == answered


def test_a_device_without_bfloat16_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match="amp needs a device with bfloat16, which 'meta' has not"):
        check_amp(torch.device("meta"))
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    model = Seen()
    with pytest.raises(ValueError, match="leave amp=False"):
        attacks.pgd(model, *samples(model), eps=0.1, amp=True)


def test_an_autocast_that_stays_in_float32_is_an_error(monkeypatch):
    monkeypatch.setattr(
        "art_ext.core.acceleration.lowered", lambda device: torch.autocast("cpu", enabled=False)
    )
    with pytest.raises(ValueError, match=r"its autocast computes in torch\.float32"):
        check_amp(torch.device("cpu"))


@pytest.mark.parametrize("name", ["rays", *registry.names(access="scores")])
def test_attacks_without_gradients_take_no_amp(name):
    model = Seen()
    with pytest.raises(TypeError, match="amp"):
        registry.get(name).function(model, *samples(model), eps=0.1, amp=True)


# ---- channels-last


class Formats(Seen):
    def forward(self, rows):
        here = [rows, self.layers[0].weight]
        self.formats.append([one.is_contiguous(memory_format=torch.channels_last) for one in here])
        return super().forward(rows)


@pytest.mark.parametrize("name", ["rays", "square", "auto_pgd", "cw"])
def test_channels_last_reaches_rows_and_weights_and_leaves_no_trace(name):
    model = Formats()
    model.formats = []
    x, y = samples(model)
    before = [(one.data_ptr(), one.stride()) for one in model.parameters()]
    options = {"max_queries": 40} if name in ("rays", "square") else SHORT.get(name, {})
    eps = {} if name == "cw" else {"eps": 0.05}
    function = registry.get(name).function
    result = function(model, x, y, seed=0, channels_last=True, **eps, **options)
    assert model.formats
    assert all(all(one) for one in model.formats)
    assert torch.equal(wrong(model, result, y), result.success)
    assert [(one.data_ptr(), one.stride()) for one in model.parameters()] == before
    assert result.x_adv.is_contiguous()
    plain = function(model, x, y, seed=0, **eps, **options)
    torch.testing.assert_close(result.x_adv, plain.x_adv, atol=1e-4, rtol=0)


def test_channels_last_comes_back_after_an_error():
    model = Seen()
    x, y = samples(model)
    stride = model.layers[0].weight.stride()
    model.layers[3] = nn.Linear(5, 4)
    with pytest.raises(RuntimeError):
        attacks.rays(model, x, y, channels_last=True)
    assert model.layers[0].weight.stride() == stride


def test_channels_last_leaves_rows_that_are_no_images():
    model = nn.Linear(5, 3)
    x = torch.rand(4, 5)
    y = model(x).argmax(1)
    plain = attacks.pgd(model, x, y, eps=0.1, seed=0)
    assert torch.equal(
        attacks.pgd(model, x, y, eps=0.1, seed=0, channels_last=True).x_adv, plain.x_adv
    )


# ---- compilation


def test_compile_calls_the_network_through_torch_compile(monkeypatch):
    seen = []

    def fake(model):
        seen.append(model)
        return model

    monkeypatch.setattr(torch, "compile", fake)
    model = Seen()
    x, y = samples(model)
    plain = attacks.pgd(model, x, y, eps=0.05, seed=0)
    assert seen == []
    result = attacks.pgd(model, x, y, eps=0.05, seed=0, compile=True)
    assert seen == [model]
    assert torch.equal(result.x_adv, plain.x_adv)


def test_what_cannot_be_compiled_is_an_error(monkeypatch):
    model = Seen()
    x, y = samples(model)
    scripted = torch.jit.trace(model.layers, x)
    for other, message in (
        (lambda rows: model(rows), "compile needs an nn.Module in Python code, got function"),
        (scripted, "compile needs an nn.Module in Python code, got TopLevelTracedModule"),
        (Ensemble([model]), "compile needs the network itself, got the wrapper Ensemble"),
    ):
        with pytest.raises(ValueError, match=message):
            attacks.rays(other, x, y, compile=True)

    def fails(rows):
        from torch._dynamo.exc import BackendCompilerFailed

        raise BackendCompilerFailed("inductor", RuntimeError("no compiler"), None)

    monkeypatch.setattr(torch, "compile", lambda network: fails)
    with pytest.raises(ValueError, match=r"torch\.compile fails on the network .*compile=False"):
        attacks.rays(model, x, y, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("amp", [False, True])
def test_a_compiled_network_gives_the_same_successes(amp):
    model = Seen().layers
    x = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = model(x).argmax(1)
    plain = attacks.auto_pgd(model, x, y, eps=0.04, num_steps=5, seed=0, amp=amp)
    result = attacks.auto_pgd(model, x, y, eps=0.04, num_steps=5, seed=0, amp=amp, compile=True)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) != y, result.success)
    assert abs(int(result.success.sum()) - int(plain.success.sum())) <= 1
