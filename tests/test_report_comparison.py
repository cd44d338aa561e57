"""The comparison in a report: differences, the grid of distances, and lost samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.core.metrics.intervals import paired_difference
from art_ext.data import load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.analysis.baseline import CELLS
from art_ext.evaluation.analysis.curves import MARGIN
from art_ext.evaluation.analysis.records import kept_examples, load_run
from art_ext.evaluation.report.comparison import GRID, section
from art_ext.evaluation.report.material import Material
from art_ext.evaluation.report.page import render

HOSTILE = "<script>alert('x')</script>"
BROKEN = {"natural": {"x": {0.1: {1, 2}, 0.2: {1, 2, 3}}}, "robust": {"x": {0.1: {1}, 0.2: {1, 4}}}}


def content_of(one: Any, baseline: str | None = None) -> Any:
    found = section(Material([one], baseline))
    assert found is not None
    return found


def texts(lines: Any) -> list[list[str]]:
    return [[cell.text for cell in line.cells] for line in lines]


def test_a_single_model_has_no_comparison(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}}})
    assert section(Material([one])) is None
    assert 'id="comparison"' not in render([one])


def test_differences_have_intervals_and_a_test(make_run: Any) -> None:
    found = content_of(make_run(BROKEN, wrong={"robust": {0}}, samples=20))
    rows = texts(found.content["differences"])
    assert [row[:5] for row in rows] == [
        ["robust", "clean", "95.0 %", "100.0 %", "-5.0"],
        ["robust", "0.1", "90.0 %", "90.0 %", "+0.0"],
        ["robust", "0.2", "85.0 %", "85.0 %", "+0.0"],
    ]
    low, high = paired_difference(19, 0, 1, 0)
    note = found.content["differences"][0].cells[4].note
    assert note == f"{100 * low:+.1f} to {100 * high:+.1f}"
    assert rows[0][5] == "1.000"
    assert found.gist == "robust +0.0 points"
    assert found.folded


def test_the_baseline_can_be_chosen(make_run: Any) -> None:
    one = make_run(BROKEN, samples=20)
    found = content_of(one, "robust")
    assert found.title == "Comparison with robust"
    assert {row[0] for row in texts(found.content["differences"])} == {"natural"}
    with pytest.raises(ValueError, match=r"baseline must be one of .*did you mean 'robust'"):
        render([one], baseline="robst")


def test_what_is_not_comparable_has_its_reason(make_run: Any) -> None:
    first = make_run({"m": {"x": {0.1: {1}}}}, name="a")
    second = make_run({"n": {"x": {0.1: {1}}}}, name="b", ids=list(range(10)))
    found = section(Material([first, second]))
    assert found is not None
    assert found.gist == "n not comparable"
    cells = [line.cells[4] for line in found.content["differences"]]
    assert {cell.text for cell in cells} == {"not comparable"}
    assert cells[0].note == "other samples: 0 of 10 are those of the baseline"
    page = render([first, second])
    assert "Nearest adversarials of each sample" not in page
    assert "Samples that only one model loses" not in page


def test_the_grid_is_read_back_from_its_paths(make_run: Any) -> None:
    (grid,) = content_of(make_run(BROKEN, samples=20)).content["grids"]
    near, far = (int(0.9 * eps / (MARGIN * 0.2) * CELLS) for eps in (0.1, 0.2))
    found = re.findall(r"M(\d+) (\d+)h(\d)v(\d)h-(\d)z", "".join(grid.shades))
    cells = {
        (int(left), int(top)): (int(width), int(height)) for left, top, width, height, _ in found
    }
    assert cells == {
        (near, GRID - 1 - near): (1, 1),  # 1, at the same distance
        (near, 0): (1, 3),  # 2, for natural alone
        (far, 0): (1, 3),  # 3
        (CELLS + 1, GRID - 1 - far): (3, 1),  # 4, for robust alone
    }
    assert dict(grid.numbers) == {
        "farther for robust": 0,
        "farther for natural": 0,
        "in the same cell": 1,
        "found for natural only": 2,
        "found for robust only": 1,
        "found for neither": 16,
    }


def test_lost_samples_are_named_by_position_and_class(make_run: Any) -> None:
    names = ["cat", "dog"]
    one = make_run(BROKEN, labels=[0] * 4 + [1] * 6, class_names=names)
    (losses,) = content_of(one).content["losses"]
    assert losses.said == "At eps 0.2 robust alone loses 1 sample, natural alone 2 samples."
    assert losses.shown == ()
    assert [(one.loser, one.position, one.label) for one in losses.listed] == [
        ("robust", "4", "dog"),
        ("natural", "2", "cat"),
        ("natural", "3", "cat"),
    ]
    assert "--save-images" in render([one])


def test_names_from_outside_are_escaped(make_run: Any) -> None:
    page = render(
        [
            make_run(
                {"good": BROKEN["natural"], HOSTILE: BROKEN["robust"]}, class_names=[HOSTILE, "dog"]
            )
        ]
    )
    assert HOSTILE not in page


def test_images_of_lost_samples_are_those_that_the_run_kept(
    tmp_path: Path, linear_net: nn.Module
) -> None:
    """Of each model the adversarial that it predicts as another class, and the same in the grid."""
    data = load_data("digits").first(40)
    models: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "m": linear_net,
        "n": lambda x: linear_net(0.5 * x),
    }
    evaluate(models, data, tmp_path, eps=0.1, attacks=("pgd", "fgsm"), save_images=True)
    one = load_run(tmp_path)
    (losses,) = content_of(one).content["losses"]
    assert losses.listed == ()
    assert losses.shown
    for loss in losses.shown:
        kept = kept_examples(one, loss.loser, 0.1, [int(loss.position)])
        assert kept is not None
        found = kept.nearest(loss.loser, ("pgd", "fgsm"), int(loss.position))
        if found is None:
            assert loss.distance == 0
            continue
        assert loss.tile is not None
        assert found.distance == pytest.approx(loss.distance, abs=1e-6)
        assert found is kept.found[loss.loser, loss.attack][int(loss.position)]
        assert torch.equal(kept.originals[int(loss.position)], data.x[int(loss.position)])
        with torch.no_grad():
            predicted = models[loss.loser](found.x.unsqueeze(0)).argmax()
        assert predicted != data.y[int(loss.position)]
