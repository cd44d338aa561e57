"""Attacks on many large samples run in slices, and nothing else about them changes."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from art_ext.core import slicing
from art_ext.core.attacks import registry
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.result import AttackResult, Progress
from tests.toys import attack_on, compare, inputs, waves

MODEL = waves(12, seed=5)
N = 11
X, Y = inputs(MODEL, N)
Y[2] = (Y[2] + 1) % 3  # adversarial from the start
SLICE = 4  # samples, two batches
ATTACKS = sorted(spec.name for spec in registry.specs())


def run(name: str, model: Any = MODEL, x: Tensor = X, **options: Any) -> AttackResult:
    spec = registry.get(name)
    given: dict[str, Any] = {"eps": 0.2, "seed": 3, "batch_size": 2, "norm": spec.norms[-1]}
    given[spec.budget] = 40
    if spec.resources:
        given |= {"num_restarts": 2, "init_steps": 2}
    y = options.pop("y", Y)
    return attack_on(name, x, 3)(model, x, y, **{**given, **options})


def sliced(monkeypatch: pytest.MonkeyPatch, name: str, **options: Any) -> AttackResult:
    """The result in slices of four samples."""
    with monkeypatch.context() as patch:
        patch.setattr(slicing, "SLICE_BYTES", 4 * SLICE * 12)
        return run(name, **options)


class Widest:
    """The model, which remembers the widest call and stops after so many."""

    def __init__(self, calls: float = torch.inf) -> None:
        self.calls = calls
        self.rows = 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise ModelStopped("no more")
        self.rows = max(self.rows, len(rows))
        return MODEL(rows)


@pytest.mark.parametrize("name", ATTACKS)
def test_slices_change_no_result(name, monkeypatch):
    whole, parts = run(name), sliced(monkeypatch, name)
    compare(whole, parts)
    assert (parts.norm, parts.eps, parts.seed) == (whole.norm, whole.eps, 3)
    if name != "rays":  # which runs ahead by as many rows as a call has room for
        assert torch.equal(whole.wasted_rows, parts.wasted_rows)
    for given in ("lengths", "nearest_distance", "value"):
        torch.testing.assert_close(getattr(parts, given), getattr(whole, given), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ead", {"targets": "all"}),
        ("cw", {"targets": "average"}),
        ("pgd", {"keep_samples": True, "num_restarts": 2}),
        ("pgd", {"targets": (Y + 1) % 3, "sample_ids": torch.arange(N) * 7}),
        ("pgd", {"mask": torch.arange(12) % 2}),
        ("pgd", {"mask": (torch.arange(N)[:, None] + torch.arange(12)) % 2}),
        ("pgd", {"loss": lambda outputs, index: outputs.gather(1, Y[index, None])[:, 0]}),
        ("pgd", {"criterion": lambda outputs, index: outputs.argmax(1) == (Y[index] + 1) % 3}),
        ("frank_wolfe", {"x_init": (X + 0.1 * X.sign()).clamp(0, 1), "norm": "linf"}),
        ("rays", {"y": None}),
    ],
)
def test_values_of_each_sample_go_with_it(name, options, monkeypatch):
    compare(run(name, **options), sliced(monkeypatch, name, **options))


def test_only_a_slice_is_attacked_at_a_time_and_callbacks_see_positions(monkeypatch):
    seen: list[Progress] = []
    parts = sliced(monkeypatch, "pgd", callback=seen.append, num_steps=3, batch_size=4)
    assert max(len(progress.index) for progress in seen) == SLICE
    everything: list[Progress] = []
    run("pgd", callback=everything.append, num_steps=3, batch_size=4)
    for found in (seen, everything):
        last = torch.zeros(N, dtype=torch.int64)
        for progress in found:
            last[progress.index] = progress.queries
        assert torch.equal(last, parts.queries)
        assert torch.cat([one.index for one in found if one.step == 0]).tolist() == [*range(N)]


def test_a_random_seed_is_drawn_once(monkeypatch):
    parts = sliced(monkeypatch, "pgd", seed=None)
    compare(parts, run("pgd", seed=parts.seed))


@pytest.mark.parametrize("calls", [0, 1, 5, 20])
@pytest.mark.parametrize("name", ["pgd", "hmcam", "ead", "rays"])
def test_an_interruption_tells_what_is_done(name, calls, monkeypatch):
    """Samples of later slices are as those of an attack whose model stops at once."""
    with pytest.raises(AttackInterrupted, match="no more") as at_once:
        run(name, model=Widest(0))
    with pytest.raises(AttackInterrupted, match="no more") as stop:
        sliced(monkeypatch, name, model=Widest(calls))
    done, result = stop.value.finished, stop.value.result
    assert result.queries.sum() <= 2 * calls
    assert len(done) == len(result) == N
    untouched = result.queries == 0
    whole = run(name)
    wanted = replace(
        at_once.value.result,
        **{
            field: torch.where(untouched.view(-1, *[1] * (values.dim() - 1)), values, found)
            for field, values in vars(at_once.value.result).items()
            if isinstance(values, Tensor) and field != "samples"
            for found in [getattr(result, field)]
        },
        trace=result.trace,
        samples=result.samples,
    )
    compare(result, wanted)
    torch.testing.assert_close(result.lengths, wanted.lengths, rtol=0, atol=0)
    assert not done[untouched].any()
    for field in ("x_adv", "success", "queries"):
        before = slice(0, int(done.long().cumprod(0).sum()) // SLICE * SLICE)
        assert torch.equal(getattr(result, field)[before], getattr(whole, field)[before])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": Y[:9]}, r"y must have shape \(11,\)"),
        ({"y": Y - 5}, "y must hold class indices >= 0"),
        ({"sample_ids": torch.arange(4)}, r"sample_ids must have shape \(11,\)"),
        ({"x": X.index_fill(0, torch.tensor([9]), torch.nan)}, "first in sample 9"),
        ({"x": X + 1}, "x must lie in"),
        ({"mask": torch.ones(4, 12)}, r"broadcast to x's shape \(11, 12\)"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"clip_values": (1, 0)}, "lower < upper"),
        ({"x": X.tolist()}, "x must be a torch tensor"),
    ],
)
def test_errors_name_what_was_given(change, message, monkeypatch):
    asked = Widest()
    with pytest.raises((TypeError, ValueError), match=message):
        sliced(monkeypatch, "pgd", **{"model": asked, **change})
    assert not asked.rows


def nan_in_sample_9(rows):
    return MODEL(rows).masked_fill((rows == X[9]).all(dim=1, keepdim=True), torch.nan)


def scores_that_are_large_in_sample_9(rows):
    large = 7.0 * (rows == X[9]).all(dim=1, keepdim=True)
    return MODEL(rows).softmax(dim=1) + large


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("pgd", {"model": nan_in_sample_9}, "NaN for the clean input, first in sample 9"),
        (
            "pgd",
            {"model": scores_that_are_large_in_sample_9, "outputs": "probabilities"},
            "for sample 9: pass",
        ),
        (
            "frank_wolfe",
            {"x_init": X.index_fill(0, torch.tensor([9]), torch.nan)},
            "NaN or infinity first in sample 9",
        ),
        (
            "frank_wolfe",
            {"x_init": X.index_fill(0, torch.tensor([9]), 1.0)},
            "in sample 9: project it first",
        ),
    ],
)
def test_errors_inside_a_slice_name_positions_in_x(name, given, message, monkeypatch):
    with pytest.raises(ValueError, match=message) as found:
        sliced(monkeypatch, name, **given)
    assert str(copy.copy(found.value)) == str(found.value)
    with pytest.raises(ValueError, match=message):
        run(name, **given)


def test_slices_hold_full_batches():
    image = torch.empty(1, 3, 224, 224)
    assert slicing.rows_at_once(image, 256) == 256
    assert slicing.rows_at_once(image, 64) == 3 * 64  # at most 128 MiB, if a batch is that small
    assert slicing.rows_at_once(torch.empty(1, 3, 32, 32), 256) == 42 * 256


def test_attacks_leave_no_tensors_for_the_garbage_collector():
    """A cycle of references keeps the memory of a slice for long after it."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for name in ATTACKS:
            run(name)
        gc.collect()
        assert not [one for one in gc.garbage if isinstance(one, Tensor) and one.numel() > N]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
