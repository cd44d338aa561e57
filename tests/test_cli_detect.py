"""``art-ext detectors`` and ``art-ext detect``, and detectors of users and other packages."""

from __future__ import annotations

import csv
import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.core.detection import Detector, registry
from art_ext.core.detection.saving import read_content
from art_ext.data import load_data
from art_ext.evaluation.detecting import prepare_detector, read_unlabelled
from art_ext.evaluation.panel.user_detectors import find_detector
from art_ext.models import save_weights
from art_ext.testing import check_detector

BRIGHTNESS = '''
from art_ext.core.detection import Detector


class Brightness(Detector):
    """Distance of the mean pixel from a usual one."""

    name = "brightness"
    learned = ("usual",)
    needs_data = True

    def __init__(self, power: float = 1.0):
        super().__init__()
        self.power = power

    def learn(self, outputs, features, y):
        self.usual = outputs.mean(dim=0)

    def measure(self, outputs, features, further):
        return (outputs - self.usual).abs().mean(dim=1) ** self.power
'''


DIGITS = ("--images", "digits", "--fit-data", "digits")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def place(tmp_path: Path, digits_net: nn.Module) -> Path:
    """A folder with a model and a detector of the user's."""
    save_weights(digits_net, tmp_path / "net.safetensors")
    (tmp_path / "mine.py").write_text(BRIGHTNESS)
    return tmp_path


def model_options(place: Path) -> list[object]:
    return ["--model", "digits-cnn", "--weights", place / "net.safetensors"]


# --- the listing ---


def test_the_listing_shows_each_detector(tmp_path):
    found = call("detectors")
    assert found.exit_code == 0
    lines = found.output.splitlines()
    assert lines[0].split() == ["name", "rows", "needs", "origin", "summary"]
    assert [line.split()[0] for line in lines[1:]] == registry.names()
    rows = json.loads(call("detectors", "--json").output)
    by_name = {row["name"]: row for row in rows}
    assert by_name["feature_squeezing"]["rows"] == 3
    assert by_name["kernel_density"]["options"]["sigma2"] == "median"
    assert by_name["knn"]["needs"] == "features"


@pytest.mark.usefixtures("detectors_as_before")
def test_a_file_of_a_user_is_listed_checked_and_found(place):
    source = f"{place / 'mine.py'}:Brightness"
    rows = json.loads(call("detectors", "--detector", source, "--json").output)
    assert rows[-1]["name"] == "brightness"
    assert rows[-1]["origin"] == source
    assert rows[-1]["summary"] == "Distance of the mean pixel from a usual one."
    assert rows[-1]["options"] == {"power": 1.0}
    checked = call("detectors", "--check", source)
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("ok  ") == 12
    spec = find_detector(source)
    assert find_detector(source).kind is spec.kind, "the file runs once"
    (place / "mine.py").write_text(BRIGHTNESS.replace("1.0", "2.0"))
    assert find_detector(source).options == {"power": 2.0}
    assert check_detector(spec, power=0.5)


@pytest.mark.usefixtures("detectors_as_before")
def test_an_entry_point_of_another_package_is_found(place, monkeypatch):
    point = EntryPoint("brightness", "mine:Brightness", "art_ext.detectors")
    broken = EntryPoint("wrong", "mine:Nothing", "art_ext.detectors")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(
        "art_ext.core.plugins.entry_points",
        lambda group: [point, broken] if group == "art_ext.detectors" else [],
    )
    assert registry.get("BRIGHTNESS").name == "brightness"
    rows = json.loads(call("detectors", "--json").output)
    assert [row["name"] for row in rows[-2:]] == ["brightness", "wrong"]
    assert "cannot be imported" in rows[-1]["error"]


class Wrong(Detector):
    """Scores that a detector must not give."""

    name = "wrong"

    def __init__(self, fault: str = ""):
        super().__init__()
        self.fault = fault
        self.rows = 2 if fault == "rows" else 1

    def measure(self, outputs: Any, features: Any, further: Any) -> Any:
        scores = -outputs.amax(dim=1)
        if self.fault == "batch":
            return scores - scores.mean()
        if self.fault == "nan":
            return scores / 0 * 0
        if self.fault == "shape":
            return scores[:, None]
        if self.fault == "random":
            return scores + torch.randn(len(scores))
        if self.fault == "graph":
            return scores.detach()
        if self.fault == "in place":
            outputs.mul_(0)
        return scores


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ("batch", {"batch invariance"}),
        ("nan", {"shape and dtype"}),
        ("shape", {"shape and dtype"}),
        ("rows", {"rows"}),
        ("random", {"order invariance", "batch invariance", "determinism"}),
        ("graph", {"gradient"}),
    ],
)
def test_each_fault_fails_its_own_check(fault, failing):
    with pytest.raises(AssertionError) as caught:
        check_detector(Wrong, fault=fault)
    lines = str(caught.value).splitlines()[1:]
    found = {name for name in failing if any(name in line for line in lines)}
    assert found == failing
    assert "wrong fails" in str(caught.value)


def test_a_detector_without_a_name_or_measure_is_named(place):
    class Nameless(Detector):
        def measure(self, outputs, features, further):
            return outputs[:, 0]

    with pytest.raises(ValueError, match="Nameless must have a name"):
        check_detector(Nameless)
    with pytest.raises(ValueError, match="Detector must define measure"):
        check_detector(Detector)
    (place / "none.py").write_text("class Brightness:\n    pass\n")
    found = call("detectors", "--check", f"{place / 'none.py'}:Brightness")
    assert found.exit_code == 2
    assert "must be a subclass of Detector, got Brightness" in found.output


@pytest.mark.usefixtures("detectors_as_before")
def test_a_name_of_ours_cannot_be_taken(place):
    (place / "mine.py").write_text(BRIGHTNESS.replace('"brightness"', '"Confidence"'))
    found = call("detectors", "--check", f"{place / 'mine.py'}:Brightness")
    assert found.exit_code == 2
    assert "art-ext has a detector 'confidence': choose another name" in found.output


# --- detect ---


@pytest.mark.usefixtures("detectors_as_before")
@pytest.mark.parametrize("name", ["kernel_density", "feature_squeezing", "mine.py:Brightness"])
def test_images_are_scored_and_the_file_does_the_same_again(place, digits_net, name):
    name = name if ":" not in name else f"{place}/{name}"
    first = call(
        *("detect", *model_options(place), "--detector", name, "--fit-data", "digits"),
        *("--save", place / "d.safetensors", "--images", "digits", "--out", place / "all.csv"),
    )
    assert first.exit_code == 0, first.output
    assert "threshold" in first.output
    assert "from 300 images" in first.output
    assert "held out" in first.output
    assert "warning: few-calibration-images" in first.output
    rows = list(csv.DictReader((place / "all.csv").open()))
    data = load_data("digits")
    assert len(rows) == len(data)
    with torch.no_grad():
        predictions = digits_net(data.x).argmax(1)
    assert [int(row["prediction"]) for row in rows] == predictions.tolist()
    assert [int(row["label"]) for row in rows] == data.y.tolist()
    rejected = [row["rejected"] == "True" for row in rows]
    assert f"({sum(rejected)} of 500)" in first.output
    threshold = max(float(row["score"]) for row in rows if row["rejected"] == "False")
    assert all(float(row["score"]) > threshold for row in rows if row["rejected"] == "True")

    np.save(place / "few.npy", data.x[:40].numpy())
    again = call(
        *("detect", *model_options(place), "--detector-file", place / "d.safetensors"),
        *("--images", place / "few.npy", "--out", place / "few.csv"),
    )
    assert again.exit_code == 0, again.output
    few = list(csv.DictReader((place / "few.csv").open()))
    assert list(few[0]) == ["index", "score", "rejected", "prediction"]
    assert [row["rejected"] for row in few] == [row["rejected"] for row in rows[:40]]
    assert "classified" not in again.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --detector NAME or --detector-file FILE"),
        (["--detector", "confidence"], "must score --images DATA, or --save FILE"),
        (["--detector", "confidence", "--save", "d", "--out", "o"], "give --images DATA too"),
        (["--detector", "confidense", "--images", "digits"], "did you mean 'confidence'?"),
        (["--detector", "confidence", "--images", "digits"], "give --fit-data DATA"),
        (
            ["--detector", "knn", "--images", "digits", "--calibration-data", "digits"],
            "the detector knn learns from training data: give fit-data",
        ),
        (["--detector", "confidence", *DIGITS, "--fpr", "1.5"], "fpr must lie in (0, 1), got 1.5"),
        (
            ["--detector", "confidence", *DIGITS, "--calibration", "19"],
            "calibration must be an integer >= 20, got 19",
        ),
        (["--detector", "knn", "--detector-args", "n=3", *DIGITS], "knn has no argument 'n'"),
        (["--detector", "knn", "--detector-args", "layer=fc9", *DIGITS], "layer must be one of"),
        (["--detector-file", "none.st", "--images", "digits"], "there is no file none.st"),
        (["--detector", "confidence", "--save", "none/d", "--images", "digits"], "must exist"),
    ],
)
def test_mistakes_end_in_one_line(place, options, message):
    found = call("detect", *model_options(place), *options)
    assert found.exit_code == 2
    assert message in found.output
    assert "Traceback" not in found.output
    assert len(found.output.strip().splitlines()) == 1


def test_another_model_and_a_detector_without_a_threshold_are_named(place, digits_net):
    file = place / "d.safetensors"
    find_detector("confidence").kind().fit(digits_net).save(file)
    found = call("detect", *model_options(place), "--detector-file", file, "--images", "digits")
    assert found.exit_code == 2
    assert "has no threshold" in found.output
    with torch.no_grad():
        digits_net[0].weight.add_(1e-3)
        save_weights(digits_net, place / "net.safetensors")
        digits_net[0].weight.sub_(1e-3)
    found = call("detect", *model_options(place), "--detector-file", file, "--images", "digits")
    assert found.exit_code == 2
    assert "was fitted to another model" in found.output


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_the_held_out_rate_of_digits(name, digits_net):
    """At 5 %, the mean rate over 5 draws of 300 and 200 images lies between 3 and 8 %."""
    train = load_data("digits", split="train")
    rates = [
        prepare_detector(
            registry.get(name),
            {},
            digits_net,
            fit_data=train,
            calibration_data=load_data("digits"),
            seed=seed,
        ).rate.every
        for seed in range(5)
    ]
    assert [rate.total for rate in rates] == [200] * 5
    mean = sum(rate.share for rate in rates) / 5
    assert 0.03 <= mean <= 0.08, [rate.share for rate in rates]


def test_a_list_of_squeezers_is_given_as_on_its_page(place):
    """The command of docs/detectors/feature-squeezing.md."""
    found = call(
        *("detect", *model_options(place), "--detector", "feature_squeezing", *DIGITS),
        *("--detector-args", "squeezers=['bit_depth(3)', 'median(size=3)']"),
        *("--save", place / "d.safetensors", "--quiet"),
    )
    assert found.exit_code == 0, found.output
    content, _ = read_content(place / "d.safetensors")
    assert content["settings"] == {"squeezers": ["bit_depth(bits=3)", "median(size=3)"]}


def test_images_of_another_shape_or_range_are_named(place):
    detect = ("detect", *model_options(place), "--detector", "confidence", "--fit-data", "digits")
    np.save(place / "bytes.npy", 255 * np.ones((3, 1, 8, 8), np.float32))
    np.save(place / "large.npy", np.ones((3, 1, 9, 9), np.float32))
    for name, message in (
        ("bytes", "x must lie in [0, 1]; got min=255, max=255"),
        ("large", "x must have shape (samples, 1, 8, 8)"),
    ):
        found = call(*detect, "--images", place / f"{name}.npy", "--quiet")
        assert found.exit_code == 2
        assert message in found.output
        assert "Traceback" not in found.output


@pytest.mark.usefixtures("detectors_as_before")
def test_a_saved_detector_of_the_user_s_class_is_read_with_its_file(place, digits_net):
    file = place / "d.safetensors"
    own = find_detector(f"{place}/mine.py:Brightness").kind()
    data = load_data("digits")
    own.fit(digits_net, data.x, data.y).calibrate(data.x)
    own.save(file)
    registry.unregister("brightness")
    with pytest.raises(ValueError, match=r"'brightness', .* call Brightness.load\(file, model\)"):
        Detector.load(file, digits_net)
    given = ("detect", *model_options(place), "--detector-file", file, "--images", "digits")
    alone = call(*given)
    assert alone.exit_code == 2
    assert "give --detector FILE.py:Brightness too" in alone.output
    found = call(*given, "--detector", f"{place}/mine.py:Brightness")
    assert found.exit_code == 0, found.output
    assert f"({int(own.detect(data.x).sum())} of 500)" in found.output


@pytest.mark.usefixtures("detectors_as_before")
def test_a_class_that_comes_with_the_file_of_another_detector_is_named(place, digits_net):
    file = place / "d.safetensors"
    detector = find_detector("confidence").kind().fit(digits_net)
    detector.calibrate(load_data("digits").x)
    detector.save(file)
    found = call(
        *("detect", *model_options(place), "--detector-file", file, "--images", "digits"),
        *("--detector", f"{place}/mine.py:Brightness"),
    )
    assert found.exit_code == 2
    assert "holds the detector 'confidence', not 'brightness'" in found.output


def test_damaged_compressed_images_are_named(tmp_path):
    file = tmp_path / "images.npz"
    np.savez_compressed(file, x=np.random.default_rng(0).random((50, 1, 8, 8)))
    content = bytearray(file.read_bytes())
    content[60:200] = bytes(255 - one for one in content[60:200])
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{file} must be a NumPy file of plain arrays")):
        read_unlabelled(file)
