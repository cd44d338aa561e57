"""Fast AT+: when it checks and repairs, what that costs, and that it resumes."""

from __future__ import annotations

import logging

import pytest
import torch

from art_ext.training import Fast, FastPlus, Pgd, train
from tests.training._stopping import Stopped, stop_at_save

EPS = 0.125
QUICK = {"batch_size": 6, "epochs": 4}


class Scripted(FastPlus):
    """Takes the accuracies of its checks from a list."""

    script = ()

    def _accuracy(self, held):
        self.seen.append((held.x, held.y, held.eps, held.rows))
        super()._accuracy(held)
        return self.script[len(self.seen) - 1]


def scripted(script, **arguments):
    Scripted.script = script
    Scripted.seen = []
    return Scripted(eps=EPS, num_steps=3, **arguments)


def test_without_held_out_samples_it_is_fast_training_and_says_so(network, data, caplog):
    models = network(), network()
    with caplog.at_level(logging.WARNING, "art_ext"):
        train(models[0], data, FastPlus(eps=EPS, check_every=1), **QUICK)
    assert "monitors nothing without held-out samples" in caplog.text
    train(models[1], data, Fast(eps=EPS), **QUICK)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_repairs_from_a_drop_until_the_accuracy_is_back(network, data, count_rows, caplog):
    """Checks before updates 2, 5, 8 and 11: the short minibatches leave theirs to the next one."""
    held = data[0][:4], data[1][:4]
    recipe = scripted([0.9, 0.79, 0.5, 0.81], check_every=2)
    model = network("norm")
    rows = count_rows(model)
    with caplog.at_level(logging.INFO, "art_ext"):
        result = train(model, data, recipe, validation_data=held, validation_eps=0.0, **QUICK)
    assert result.updates == 12
    sizes = [6, 6, 2] * 4
    checks = [3, 6, 9]  # update 2 has two rows only, and so on
    repairs = [update for update in range(12) if update >= 6]
    assert len(Scripted.seen) == len(checks)
    assert all(torch.equal(x, held[0]) and eps == EPS for x, _, eps, _ in Scripted.seen)
    forwards = sum(2 * size for size in sizes) + 2 * sum(sizes[at] for at in repairs)
    assert result.forwards == forwards + 4 * 4 * len(checks)
    assert result.backwards == forwards + 3 * 4 * len(checks)
    # hooks see the clean validation at the end of each epoch too
    assert rows.forwards == result.forwards + 4 * 4
    assert rows.backwards == result.backwards
    assert [row["repairing"] for row in result.history] == [0, 0, 1, 1]
    assert caplog.text.count("PGD training from update 6 on") == 1


def test_it_ends_a_repair(network, data):
    recipe = scripted([0.9, 0.5, 0.81, 0.9], check_every=3)
    held = data[0][:4], data[1][:4]
    result = train(network(), data, recipe, validation_data=held, batch_size=6, epochs=5)
    assert [row["repairing"] for row in result.history] == [0, 0, 1, 0, 0]


def test_examples_are_those_of_the_two_crafts(network, data, make_step):
    x, y = data
    model = network(scale=3)
    recipe = FastPlus(eps=EPS, num_steps=4)
    found = [part(make_step(model, x, y, eps=EPS)) for part in (recipe.single, recipe.repair)]
    others = Fast(eps=EPS), Pgd(eps=EPS, num_steps=4)
    for one, other in zip(found, others, strict=True):
        assert torch.equal(one, other.craft(make_step(model, x, y, eps=EPS)))


def test_the_accuracy_is_that_of_pgd_on_the_held_out_samples(network, data):
    held = data[0][:5], data[1][:5]
    model = network(scale=3)
    found = []

    class Watched(FastPlus):
        def _accuracy(self, step):
            accuracy = super()._accuracy(step)
            step._draws = 0  # the same start again
            rows = self.repair(step)
            with torch.no_grad():
                right = model(rows).argmax(dim=1) == held[1]
            found.append((accuracy, float(right.float().mean())))
            assert (rows - held[0]).abs().max() <= EPS + 1e-6
            return accuracy

    recipe = Watched(eps=EPS, check_every=1)
    train(model, data, recipe, epochs=3, batch_size=6, validation_data=held)
    assert len(found) == 6 - 1  # the first update and the short minibatches check nothing
    assert all(one == pytest.approx(other) for one, other in found)


@pytest.mark.parametrize("passes", [30.0, 61.0])
def test_a_budget_holds_with_checks_and_repairs(passes, network, data):
    held = data[0][:4], data[1][:4]
    recipe = scripted([0.9, *[0.1] * 40], check_every=2)
    result = train(network(), data, recipe, passes=passes, batch_size=6, validation_data=held)
    spent = (result.forwards + result.backwards) / 14
    assert passes - 4 * 6 / 14 < spent <= passes
    assert any(row["repairing"] for row in result.history)


def test_it_resumes_in_the_middle_of_a_repair(network, data, tmp_path, monkeypatch):
    held = data[0][:4], data[1][:4]

    def go(folder, **options):
        model = network("norm")
        # accuracies fall by more than nothing sooner or later
        recipe = FastPlus(eps=EPS, num_steps=2, check_every=2, drop=0.0)
        rate = {"learning_rate": 0.5, "momentum": 0.0, "batch_size": 6}
        return train(
            model,
            data,
            recipe,
            epochs=8,
            checkpoint_dir=tmp_path / folder,
            checkpoint_every=1,
            validation_data=held,
            **rate,
            **options,
        )

    whole = go("whole")
    assert 0 < sum(row["repairing"] for row in whole.history) < 8
    with monkeypatch.context() as patch:
        stop_at_save(patch, 11)
        with pytest.raises(Stopped):
            go("parts")
    parts = go("parts", resume=True)
    assert torch.equal(whole.losses, parts.losses)
    assert (whole.forwards, whole.backwards) == (parts.forwards, parts.backwards)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, parts.model.state_dict()[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"check_every": 0}, "check_every must be an integer >= 1, got 0"),
        ({"drop": -0.1}, "drop must be a finite number >= 0, got -0.1"),
        ({"start": "one"}, "start must be one of"),
        ({"num_steps": 0}, "num_steps must be"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        FastPlus(**arguments)
