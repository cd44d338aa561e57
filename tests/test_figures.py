"""Figures of a report: geometry of the inline SVG, their texts, the PNG files and the card."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from art_ext.core.wording import one_line, radius
from art_ext.evaluation import figure
from art_ext.evaluation.analysis.blocks import WORST_CASE, blocks_of
from art_ext.evaluation.analysis.curves import Curve, curves, to_csv, value_at
from art_ext.evaluation.analysis.finding import Finding
from art_ext.evaluation.report import card, charts, labels, plots, svg
from art_ext.evaluation.report.canvas import legible, listed
from art_ext.evaluation.report.material import Material
from art_ext.evaluation.report.page import render

HOSTILE = '<img src=x onerror=alert(1)> _$x^{ "]]> --> &lt;'
PIXELS = np.array([1200.0, svg.HEIGHT])  # largest plot area


def vertices(path: str) -> list[np.ndarray]:
    """Return the polylines of a path of M, H and V in units, each (V, 2)."""
    lines: list[list[list[float]]] = []
    for command, numbers in re.findall(r"([MHV])([-\d. ]+)", path):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            lines.append([values])
        else:
            x, y = lines[-1][-1]
            lines[-1].append([values[0], y] if command == "H" else [x, values[0]])
    return [np.array(line) for line in lines]


def distance(points: np.ndarray, lines: list[np.ndarray]) -> float:
    """Return the largest distance of points from polylines, in pixels."""
    starts = np.concatenate([line[:-1] for line in lines]) * PIXELS / svg.UNITS
    ends = np.concatenate([line[1:] for line in lines]) * PIXELS / svg.UNITS
    along = ends - starts
    own = points[:, None] * PIXELS / svg.UNITS
    length = np.maximum((along**2).sum(-1), 1e-12)
    share = (((own - starts) * along).sum(-1) / length).clip(0, 1)
    nearest = starts + share[..., None] * along
    return float(np.sqrt(((own - nearest) ** 2).sum(-1)).min(1).max())


def corners(curve: Curve, scale: svg.Scale) -> np.ndarray:
    """Return the corners of a step curve in units, as a polyline (V, 2)."""
    x = scale.place(curve.radius)
    y = np.array([scale.height(value) for value in curve.robust])
    ends = np.append(x[1:], scale.place(curve.end))
    return np.stack([np.stack([x, ends], 1).ravel(), np.stack([y, y], 1).ravel()], 1)


def random_curve(seed: int, samples: int, attack: str = WORST_CASE) -> Curve:
    """Return a curve of random radii, measured in places."""
    random = np.random.default_rng(seed)
    found = np.where(random.random(samples) < 0.8, random.exponential(0.1, samples), np.inf)
    end = 0.22
    steps = np.unique(np.concatenate([[0, 0.1, 0.2, end], found[found < end]]))
    held = np.array([(found > step).sum() for step in steps])
    measured = random.random(len(steps)) < 0.5
    curve = Curve("m", attack, samples, steps, held, measured, (), end, None)
    return replace(curve, points=(value_at(curve, 0.1), value_at(curve, 0.2)))


@pytest.mark.parametrize("samples", [1, 7, 500, 2_000])
def test_paths_are_the_curve_within_half_a_pixel(samples: int) -> None:
    curve = random_curve(samples, samples)
    scale = svg.Scale(0.0, curve.end)
    drawn = svg.draw(charts._steps(curve, 0, np.array([0.0]), 1), scale, np.array([0.0]))
    lines = vertices(drawn.solid) + vertices(drawn.dashed)
    exact = corners(curve, scale)
    assert distance(exact, lines) < 0.5
    assert distance(np.concatenate(lines), [exact]) < 0.5
    dashed = [line[:, 0].max() - line[:, 0].min() for line in vertices(drawn.dashed)]
    wanted = np.diff(scale.place(curve.radius))[~curve.measured[:-1]].sum()
    assert sum(dashed) == pytest.approx(wanted, abs=svg.COLUMN * len(dashed) + 0.1)
    assert len(drawn.solid + drawn.dashed) < 60_000


def test_values_at_the_stops_are_those_of_the_curve() -> None:
    curve = random_curve(3, 200)
    chart = charts.robust_chart([(run_like(), [curve])], "")
    (own,) = chart.curves
    counts = np.cumsum([int(change) for change in own.counts.split()])
    texts = chart.texts.split()
    assert len(counts) == len(texts) == len(chart.stops.split())
    assert len(counts) > 220
    assert {"0", "0.1", "0.2"} <= set(texts)
    assert [value_at(curve, float(text)).held for text in texts] == counts.tolist()
    turns = [int(turn) for turn in own.turns.split()]
    kinds = np.cumsum(np.isin(np.arange(len(texts)), turns)) % 2 == 1
    radii = [float(text) for text in texts]
    steps = np.searchsorted(curve.radius, radii, side="right") - 1
    exact = np.isin(radii, [0.0, 0.1, 0.2])
    assert kinds.tolist() == (curve.measured[steps] | exact).tolist()
    told = {float(line[2]): line[-1] == "measured" for line in chart.numbers}
    assert {0.0, 0.1, 0.2} <= {place for place, measured in told.items() if measured}
    assert all(kinds[radii.index(place)] == measured for place, measured in told.items())


@pytest.mark.parametrize("needed", [True, False], ids=["whole budget", "stops early"])
def test_readout_numbers_and_file_agree_on_what_is_measured(make_run: Any, needed: bool) -> None:
    one = make_run({"m": {"x": {0.1: {1}, 8 / 255: {1}}}})
    one.run["attacks"]["x"] |= {"nearest": needed, "stops_early": needed}
    found = curves(one)
    (chart,) = Material([one]).robust_charts
    (own,) = chart.curves
    stops = labels.stops(chart.scale.right, [8 / 255, 0.1])
    turns = [int(turn) for turn in own.turns.split()]
    kinds = np.cumsum(np.isin(np.arange(len(stops)), turns)) % 2 == 1
    for row in csv.DictReader(io.StringIO(to_csv(found))):
        place = float(row["radius"])
        if row["attack"] == WORST_CASE and place in stops:
            assert bool(kinds[stops.tolist().index(place)]) is (row["measured"] == "1"), place
    assert {0.0, 8 / 255, 0.1} <= set(stops[kinds])
    worst = [line for line in chart.numbers if line[1] == "worst case"]
    assert [line[2] for line in worst if line[-1] == "measured" and "/" in line[2]] == ["8/255"]
    assert stops[kinds].max() == 0.1
    assert kinds[stops <= 0.1].all() == needed


def test_a_pointer_at_a_mark_finds_its_eps() -> None:
    stops = labels.stops(8.8 / 255, [4 / 255, 8 / 255])
    assert {0.0, 4 / 255, 8 / 255} <= set(stops)
    for eps in (4 / 255, 8 / 255):
        gap = np.sort(np.abs(stops - eps))[1] / stops[-1] * PIXELS[0]
        assert gap / 2 > 0.5, "half a pixel, as far as a pointer is from a mark"


def run_like() -> Any:
    """Return what figures read of a run, but for its records."""
    return SimpleNamespace(run={"settings": {"norm": "linf"}, "panel": {"mode": "independent"}})


@given(right=st.floats(1e-6, 1e6))
def test_ticks_and_stops_are_round(right: float) -> None:
    ticks = labels.ticks(right)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= right * (1 + 1e-6)
    stops = labels.grid(right)
    assert 250 <= len(stops) <= 630
    assert stops[-1] <= right * (1 + 1e-6)
    assert all(float(f"{stop:g}") == stop for stop in stops)


@given(name=st.text(min_size=1, max_size=200))
def test_labels_have_short_lines(name: str) -> None:
    for lines in (1, 2):
        found = labels.wrapped(name, lines)
        assert 1 <= len(found) <= lines
        assert max(map(len, found)) <= labels.LETTERS
        if "…" not in "".join(found):
            assert "".join(found) == one_line(name)


def test_names_break_where_their_parts_end() -> None:
    assert labels.wrapped("digits_cnn") == ("digits_cnn",)
    assert labels.wrapped("digits_cnn_trained") == ("digits_cnn_", "trained")


@pytest.mark.parametrize("models", [1, 2, 6, 7, 15, 40])
def test_labels_at_the_ends_do_not_overlap(models: int) -> None:
    every = [
        (run_like(), [replace(random_curve(number, 50), model=f"network_of_{number}_layers")])
        for number in range(models)
    ]
    chart = charts.robust_chart(every, "")
    ends = chart.ends
    assert len(ends) == min(models, int((svg.HEIGHT + labels.LINE) // (labels.LINE + 1)))
    for upper, lower in pairwise(ends):
        assert upper.y + labels.LINE * len(upper.lines) <= lower.y
    assert ends[0].y >= -labels.LINE
    assert ends[-1].y + labels.LINE * len(ends[-1].lines) <= svg.HEIGHT + labels.LINE
    assert [css for _, css in chart.models[:8]] == [
        f"k{n}" if n < 6 else "kgrey" for n in range(min(models, 8))
    ]


@pytest.mark.parametrize("attacks", [3, 6, 7, 22])
def test_labels_of_query_curves_hide_nothing(attacks: int) -> None:
    scale = svg.Scale(1.0, 1000.0, True)
    rng = np.random.default_rng(attacks)
    curves = []
    for number in range(attacks):
        x = np.unique(rng.integers(2, int(10 ** rng.uniform(1, 3)), 20)).astype(float)
        y = np.sort(rng.random(len(x)))
        counts = np.zeros(1, dtype=int)
        steps = svg.Steps(
            "m", f"x{number}", x, y, x[-1], y > -1, counts, 9, 0, label=f"attack_{number}"
        )
        curves.append(svg.draw(steps, scale, np.ones(1)))
    found = sorted(labels.nearby(curves, scale), key=lambda one: one.y)
    assert found
    for upper, lower in pairwise(found):
        assert upper.y + labels.LINE * len(upper.lines) + labels.GAP <= lower.y + 0.1
    for label in found if attacks > labels.MANY else ():
        for one in curves:
            place = label.x + 5 * 1000 / labels.NARROW  # pixels from the end of its curve
            x = scale.place(one.steps.x)
            if x[0] <= place < x[-1]:
                y = one.steps.y[np.searchsorted(x, place, side="right") - 1]
                y = svg.HEIGHT * (1 - y)
                assert not label.y < y < label.y + labels.LINE * len(label.lines)


def test_close_eps_keep_the_labels_that_fit() -> None:
    scale = svg.Scale(0.0, 0.33)
    radii = [1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.3]
    found = labels.apart([(eps, radius(eps)) for eps in radii], scale)
    assert found[0].lines == ("0.3",)
    assert all(right.x - left.x >= labels.APART for right, left in pairwise(found))


def test_attacks_with_few_radii_are_ticks_and_others_lines(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}, 0.2: {1, 2}}, "y": {0.1: {3}, 0.2: {3}}}})
    (chart,) = Material([one]).robust_charts
    by_attack = {own.steps.attack: own for own in chart.curves}
    assert set(by_attack) == {"x", "y", "worst case"}
    assert all(by_attack[name].css == "k0 faint" for name in ("x", "y"))
    assert by_attack["x"].steps.ticks
    assert by_attack["x"].solid == by_attack["x"].dashed == ""
    assert by_attack["worst case"].band
    assert [name for name, _ in chart.attacks] == ["x", "y"]
    (alone,) = Material([make_run({"m": {"x": {0.1: {1}}}})]).robust_charts
    assert [own.steps.attack for own in alone.curves] == ["worst case"], "it would hide itself"


def test_numbers_are_those_of_the_table(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}, "y": {0.1: {2, 3}}}})
    (chart,) = Material([one]).robust_charts
    at_eps = {line[1]: line[3:6] for line in chart.numbers if line[2] == "0.1"}
    rows = {row.attack: row for row in one.rows}
    assert at_eps["worst case"] == ("70.0 %", "39.7 to 89.2", "7 of 10")
    assert at_eps["y"][0] == f"{100 * rows['y'].robust_accuracy:.1f} %"


# ---- success against queries


def test_attacks_that_need_gradients_are_apart(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}, "y": {0.1: {2, 3}}}})
    records = one.records
    records.loc[records["attack"] == "y", "gradients"] = 5
    one.run["attacks"]["y"]["access"] = "gradients"
    one = replace(one, blocks=blocks_of(records))
    ((without, needed),) = Material([one]).query_charts
    assert [own.steps.attack for own in without.curves] == ["x"]
    assert [own.steps.attack for own in needed.curves] == ["y"]
    assert "differentiate" in needed.caption


def test_an_attack_that_was_given_no_sample_at_the_largest_eps_is_in_the_legend(
    make_run: Any,
) -> None:
    one = make_run({"m": {"x": {0.1: {1}, 0.2: {1, 2}}, "y": {0.1: {2, 3}}}})
    chart = next(own for own in Material([one]).query_charts[0] if not own.sentence)
    assert [name for name, _ in chart.attacks] == ["x", "y"]
    assert "y at eps 0.1" in {own.steps.attack for own in chart.curves}


def test_a_figure_without_data_is_a_sentence(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}}}, wrong={"m": set(range(10))})
    material = Material([one])
    ((chart,),) = material.query_charts
    assert chart.sentence == "No attack was given a correctly classified sample."
    assert [plot.file for plot in plots.draw(material)] == ["robust_accuracy.png", "card.png"]
    assert chart.sentence in render([one])


@pytest.mark.parametrize("most", [2, 7, 40, 1500, 200_000])
def test_logarithmic_axes_have_powers_of_ten(make_run: Any, most: int) -> None:
    one = make_run({"m": {"x": {0.1: {1, 2}}}})
    records = one.records
    records["queries"] = most
    records.loc[records["success"], "queries_to_success"] = most
    one = replace(one, blocks=blocks_of(records))
    chart = next(one for one in Material([one]).query_charts[0] if not one.sentence)
    assert [label.lines[0] for label in chart.lower] == [
        f"{10**power:,}" for power in range(len(str(most)))
    ]
    texts = chart.texts.split()
    assert (texts[0], texts[-1]) == ("1", str(most))
    (own,) = chart.curves
    assert sum(int(change) for change in own.counts.split()) == 2


# ---- the card


@pytest.fixture
def named(make_run: Any) -> Any:
    warning = asdict(Finding("chance", HOSTILE, None, None, "low"))
    return make_run(
        {HOSTILE: {"x": {0.1: {1}}, "y": {0.1: {2, 3}}}}, data=HOSTILE, warnings=(warning,)
    )


def test_card_as_png(named: Any, tmp_path: Path) -> None:
    place = figure(named, tmp_path / "card.png")
    content = place.read_bytes()
    assert len(content) <= card.PNG_BYTES
    image = Image.open(io.BytesIO(content))
    assert image.size == (2400, 1350)
    told = image.info["Description"]
    assert told.splitlines() == card.facts(Material([named]))
    for fact in (HOSTILE, "Robust accuracy 70.0 %", "between 39.7 and 89.2 %", "chance", "0.1"):
        assert fact in told
    assert figure(named, place) == place, "an earlier card is replaced"


def test_card_as_svg(named: Any, tmp_path: Path) -> None:
    place = figure([named], tmp_path / "card.svg")
    root = ElementTree.parse(place).getroot()  # noqa: S314
    tag = "{http://www.w3.org/2000/svg}"
    assert root.attrib["viewBox"] == "0 0 864 486"
    assert root[0].tag == f"{tag}desc"
    assert (root[0].text or "").splitlines() == card.facts(Material([named]))
    assert not list(root.iter(f"{tag}text")), "text is paths"
    assert not list(root.iter(f"{tag}script"))
    assert not list(root.iter(f"{tag}img"))
    figure([named], place)
    assert place.read_bytes() == figure([named], tmp_path / "again.svg").read_bytes()


def test_card_of_many_models(make_run: Any, tmp_path: Path) -> None:
    attacks = {"x": {0.1: {1}}, "y": {0.1: {2}}}
    one = make_run({f"model_{number}_" + "long" * 50: attacks for number in range(9)})
    assert len(card.facts(Material([one]))) == 14, "all are in the text"
    assert Image.open(figure(one, tmp_path / "card.png")).size == (2400, 1350)


def test_lists_of_a_card_end_at_whole_names(make_run: Any) -> None:
    names = [f"attack_number_{number}" for number in range(15)]
    one = make_run({"m": {name: {0.1: {1}} for name in names}})
    said = card.small_print(Material([one]))
    assert len(said) <= card.PRINT
    *shown, last = said.partition("15 attacks: ")[2].split(", ")
    last, more = last.removesuffix(" more").split(" and ")
    assert [*shown, last] == names[: len(shown) + 1]
    assert int(more) == 15 - len(shown) - 1
    assert listed(["pgd", "fgsm"], 9) == "pgd, fgsm"
    assert listed(["pgd", "elastic_net"], 15) == "pgd and 1 more"
    assert listed(["a" * 50, "b"], 20) == "a" * 8 + "… and 1 more"


def test_a_card_tells_attacks_by_kind_and_gaps(make_run: Any) -> None:
    attacks = {"x": {0.1: {1}}}
    one = make_run({"same": attacks, "other": attacks})
    (head, kinds), (gaps, missing) = card.coverage(Material([one]))
    assert (head, len(kinds), gaps) == ("1 attack", 1, "Not covered")
    assert "AutoAttack" in missing
    other = replace(make_run({"more": {**attacks, "y": {0.1: {1}}}}), folder=Path("other"))
    assert card.coverage(Material([one, other])) == [(gaps, missing)], "only what all share"
    said = card.small_print(Material([one, other]))
    assert "1 attack | " in said
    assert said.endswith("2 attacks")


def test_a_card_with_noise_is_small_and_fast() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1350, 2400, 3), dtype=np.uint8)
    page = np.full_like(noise, 255)
    page[930:1102, 96:2160] = noise[930:1102, 96:2160]
    content = card.compressed(Image.fromarray(page))
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert len(content) <= card.PNG_BYTES
    assert (image[:930] == 255).all(), "white stays white"
    plain = Image.new("RGB", (20, 10), (1, 2, 3))
    assert Image.open(io.BytesIO(card.compressed(plain))).getpixel((3, 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("card.jpg", "figure must end in .png or .svg, got "),
        ("card", "figure must end in .png or .svg, got "),
        ("nowhere/card.png", "figure needs a folder that exists, but there is no "),
        ("folder.png", "figure must name a file, but "),
        ("mine.png", "figure must be a new file or an earlier card, but "),
    ],
)
def test_bad_places_of_a_card(named: Any, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=re.escape(message)):
        figure(named, tmp_path / name)
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_file_of_the_user_is_replaced_on_demand(named: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    figure(named, tmp_path / "mine.png", overwrite=True)
    assert Image.open(tmp_path / "mine.png").size == (2400, 1350)


ODD_NAMES = ("line\nbreak\ttab", "مرحبا 模型 \U0001f600")


def test_names_that_no_font_holds_are_drawn_without_a_warning(
    make_run: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    one = make_run({name: {f"attack of\n{name}": {0.1: {1, 2}}} for name in ODD_NAMES})
    place = tmp_path / "card.svg"
    figure(one, place)
    plots.draw(Material([one]))
    assert [str(own.message) for own in recwarn] == []
    assert not re.search(r"[\t\x1b]", place.read_text(encoding="utf-8"))
    drawn = card._draw(Material([one]))
    texts = {text.get_text() for text in drawn.findobj(Text)}
    assert "line break tab" in texts
    assert any(re.fullmatch("مرحبا [?]{2} .", text) for text in texts), "of the model"
    told = ElementTree.parse(place).getroot()[0].text  # noqa: S314
    assert told is not None
    assert all(" ".join(name.split()) in told for name in ODD_NAMES)


def test_letters_that_the_font_holds_are_kept() -> None:
    drawn = Figure()
    drawn.suptitle("größer β → é\n2")
    legible(drawn)
    assert drawn.get_suptitle() == "größer β → é\n2"


def test_examples_of_several_models_name_their_models(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((8, 8, 3))
    monkeypatch.setattr(
        card, "_examples", lambda one, model: iter([card.Example(pixels, None, "")])
    )
    names = ["m", "n" * 60]
    verdicts = [(None, SimpleNamespace(model=name)) for name in names]
    several: Any = SimpleNamespace(verdicts=verdicts)
    single: Any = SimpleNamespace(verdicts=verdicts[:1])
    found = card.examples(several)
    assert [(own.model, own.colour) for own in found] == [(name, n) for n, name in enumerate(names)]
    (alone,) = card.examples(single)
    assert alone.model == ""
    drawn = Figure()
    card._example(drawn.add_axes((0, 0, 1, 1)), found[1], 0)
    told = {text.get_text(): text.get_color() for text in drawn.findobj(Text)}
    assert told[f"{'n' * 11}…{'n' * 10}"] == svg.LIGHT[1], "as its verdict"
