"""Checks behind the tables of HMCAM and ATCD: states of chains, trainings, counted rows, sources."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from art_ext.benchmarks.papers import running
from art_ext.benchmarks.papers.cells import estimate
from art_ext.benchmarks.papers.checks import chains, contrastive
from art_ext.benchmarks.papers.tables import read_tables
from art_ext.core.attacks import mi_fgsm
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.training import make_recipe, train

TRAINING = {"batch_size": 256, "optimizer": "adam", "learning_rate": 4e-3, "weight_decay": 0.0}
FREE = {"name": "free", "eps": 0.1, "num_replays": 2}


class Steps(nn.Module):
    """Two classes: the second one where the only coordinate is at least a half."""

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        return torch.cat([0.5 - first, first - 0.5], dim=1)


def values(cells):
    return {
        (row, column): estimate(cell).value
        for row, columns in cells.items()
        for column, cell in columns.items()
    }


def test_states_by_hand():
    """Steps of .1 from .25 go to .35, .45, .55, .65, and stay at the end of the ball."""
    x = torch.tensor([[0.25], [0.85]])
    y = torch.tensor([0, 1])
    result = mi_fgsm(Steps(), x, y, eps=0.4, num_steps=5, step_size=0.1, keep_samples=5)
    found = chains._of_states(result, Steps(), y)
    # .35 .45 .55 .65 .65, and .75 .65 .55 .45 .45
    assert found["states"].values.tolist() == [4, 4]
    assert found["classes"].values.tolist() == [2, 2]
    assert found["success"].values.tolist() == [60, 40]
    assert found["largest"].values.tolist() == pytest.approx([60, 60])
    assert "acceptance" not in found


def test_rows_of_a_pass_are_those_of_the_recipes():
    recipes = {
        "cat": {"name": "cat", "eps": 0.1, "num_replays": 2, "num_steps": 1},
        "yopo": {"name": "yopo", "eps": 0.1, "num_outer": 2, "num_inner": 1},
    }
    found = values(contrastive.counted("digits", TRAINING, recipes))
    for row, recipe in recipes.items():
        method = make_recipe(**recipe)
        cost = method.cost()
        assert found[row, "forwards"] == method.replays * cost.forwards
        assert found[row, "backwards"] == method.replays * cost.backwards
        assert found[row, "first_layer"] == method.replays * cost.first_layer_rows


def test_trainings_are_those_of_train():
    attack = {"name": "pgd", "eps": 0.1, "num_steps": 2}
    options = {**TRAINING, "passes": 8}
    cells = contrastive.attacked("digits", 50, options, {"row": FREE}, {"pgd": attack}, [0, 1])
    assert cells["row"]["pgd"].keys.tolist() == [0, 1]
    task = contrastive.Task.of("digits", 50, options)
    model = task.untrained(1)
    result = train(model, (task.x, task.y), make_recipe(**FREE), seed=1, **options)
    found = chains.registry.get("pgd").function(
        model.eval(), task.test_x, task.test_y, eps=0.1, num_steps=2, seed=1, stop_on_success=True
    )
    own = {name: cell.values[1] for name, cell in cells["row"].items()}
    assert own == {
        "rows": (result.forwards + result.backwards) / len(task.x),
        "pgd": 100 * robust_accuracy(found),
        "clean": 100 * clean_accuracy(found),
    }


def test_the_end_of_a_curve_is_the_trained_network():
    options = {**TRAINING, "passes": 8}
    cells = contrastive.along("digits", 50, options, {"row": FREE}, {"row": 3}, [0.5, 1.0], 2, [0])
    task = contrastive.Task.of("digits", 50, options)
    model = task.train(task.untrained(0), FREE, 0).model
    with torch.no_grad():
        share = 100 * float((model(task.test_x).argmax(1) == task.test_y).float().mean())
    assert cells["row"]["clean_100"].values[0] == pytest.approx(share)
    assert cells["row"]["robust_100"].values[0] <= share
    assert cells["row"]["swing"].values[0] >= 0


def test_a_column_names_its_source():
    """Each hold-out has another ensemble as its source."""
    column = read_tables()["hmcam-3"].columns["out_lenet5"]
    records = pd.DataFrame(
        {
            "source": ["all but lenet5", "all but robust"],
            "target": ["lenet5", "robust"],
            "at": 0,
            "label": 1,
            "strict": [True, False],
            "target_prediction": 1,
            "source_prediction": 1,
            "target_class": -1,
            "whitebox": True,
            "queries": 1,
        }
    )
    found = running._on_target(records, column, "all but robust")
    assert found["source"].tolist() == ["all but lenet5"]
    assert found["success"].tolist() == [True]


@pytest.mark.slow
def test_few_samples_and_shift_run():
    training = {**TRAINING, "batch_size": 128}
    rivals = {"pgd": {"name": "pgd", "num_steps": 2}}
    found = values(chains.few_samples("digits", 60, 0.15, 10, [2], 4, rivals, training, 2, 1, [0]))
    assert set(found) == {("s_2", "hmcam"), ("s_2", "pgd")}
    assert all(0 <= one <= 100 for one in found.values())
    options = {**training, "passes": 4}
    shift = chains.shift(
        "digits", options, FREE | {"name": "cat", "num_steps": 1}, FREE, [2, 2], 2, 64, [0]
    )
    # equal lengths: no shift
    assert shift["first_1"]["distance"].values[0] == 0
    assert shift["trained_4"]["cosine"].values[0] == pytest.approx(1)
