"""Class folders: numeric and text order, mappings from files, and the commands that take them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.data import load_data

pytest.importorskip("PIL.Image")


def make_folders(root: Path, names: list[str], prefix: str = "") -> Path:
    """One 4 x 4 image per class folder; its pixels hold the position in the list of names."""
    from PIL import Image

    for position, name in enumerate(names):
        folder = root / prefix / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), position, np.uint8)).save(folder / "1.png")
    return root


def class_of_folders(data, names: list[str]) -> dict[str, int]:
    """Class index of each folder, told apart by the pixels."""
    positions = (data.x[:, 0, 0, 0] * 255).round().long().tolist()
    return {
        names[position]: int(label)
        for position, label in zip(positions, data.y.tolist(), strict=True)
    }


NUMBERED = [str(number) for number in range(12)]


class TestOrder:
    def test_numbered_folders_are_taken_by_value(self, tmp_path):
        data = load_data(make_folders(tmp_path, NUMBERED))
        assert class_of_folders(data, NUMBERED) == {str(number): number for number in range(12)}
        assert data.class_names == tuple(NUMBERED)
        assert data.y.tolist() == list(range(12))

    def test_text_order_is_torchvisions(self, tmp_path):
        folders = pytest.importorskip("torchvision.datasets")
        root = make_folders(tmp_path, NUMBERED)
        wanted = folders.ImageFolder(str(root)).class_to_idx
        assert class_of_folders(load_data(root, class_order="text"), NUMBERED) == wanted
        assert wanted["10"] == 2

    @pytest.mark.parametrize(
        ("names", "ordered"),
        [
            (["0100", "020", "003"], ["003", "020", "0100"]),
            (["1", "2", "10"], ["1", "2", "10"]),
            # one name is no number, so all are text
            (["1", "10", "2", "b"], ["1", "10", "2", "b"]),
            (["-1", "1", "10", "9"], ["-1", "1", "10", "9"]),
        ],
    )
    def test_other_names(self, tmp_path, names, ordered):
        assert load_data(make_folders(tmp_path, names)).class_names == tuple(ordered)

    def test_a_gap_in_the_numbers_is_warned_of(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING, "art_ext"):
            load_data(make_folders(tmp_path, ["0", "1", "3"]))
        assert "folder '3' becomes class 2" in caplog.text
        assert "--classes" in caplog.text

    def test_numbers_from_one_are_not(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING, "art_ext"):
            assert load_data(make_folders(tmp_path, ["1", "2", "3"])).y.tolist() == [0, 1, 2]
        assert not caplog.records

    def test_unknown_order(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"class_order must be one of 'numeric', 'text', got 'natural'"
        ):
            load_data(make_folders(tmp_path, ["a"]), class_order="natural")


NAMES = ["ant", "bee", "cat"]
MAPPING = {"cat": 0, "ant": 1, "bee": 2}
FILES = {
    "object.json": json.dumps(MAPPING),
    "list.json": json.dumps(["cat", "ant", "bee"]),
    "imagenet.json": json.dumps(
        {"0": ["cat", "tabby"], "1": ["ant", "emmet"], "2": ["bee", "bumblebee"]}
    ),
    "names.txt": "cat\nant\nbee\n",
    "header.csv": "folder,index\ncat,0\nant,1\nbee,2\n",
    "plain.csv": "bee, 2\ncat, 0\nant, 1\n",
}


class TestMapping:
    @pytest.mark.parametrize("name", FILES)
    def test_files(self, tmp_path, name):
        (tmp_path / name).write_text(FILES[name])
        data = load_data(make_folders(tmp_path / "images", NAMES), classes=tmp_path / name)
        assert class_of_folders(data, NAMES) == MAPPING
        assert data.class_names == ("cat", "ant", "bee")

    @pytest.mark.parametrize("classes", [MAPPING, ["cat", "ant", "bee"], ("cat", "ant", "bee")])
    def test_objects(self, tmp_path, classes):
        assert (
            class_of_folders(load_data(make_folders(tmp_path, NAMES), classes=classes), NAMES)
            == MAPPING
        )

    def test_a_part_of_the_classes_keeps_its_indices(self, tmp_path):
        classes = [f"class{index}" for index in range(5)]
        data = load_data(make_folders(tmp_path, ["class3", "class1"]), classes=classes)
        assert data.y.tolist() == [1, 3]
        assert data.class_names == tuple(classes)

    def test_a_mapping_with_gaps_names_no_classes(self, tmp_path):
        data = load_data(make_folders(tmp_path, ["a", "b"]), classes={"a": 7, "b": 2})
        assert data.y.tolist() == [2, 7]
        assert data.class_names is None

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            (
                "m.json",
                '{"ant": 0, "bee": 1}',
                r"m\.json must give an index to every class folder, but lacks 'cat'",
            ),
            ("m.json", '{"ant": 0.5, "bee": 1, "cat": 2}', r"an integer >= 0, got 0\.5 for 'ant'"),
            ("m.json", '{"ant": true, "bee": 1, "cat": 2}', r"an integer >= 0, got True for 'ant'"),
            ("m.json", '{"ant": -1, "bee": 1, "cat": 2}', r"an integer >= 0, got -1 for 'ant'"),
            ("m.json", '{"0": "ant", "1": "bee"}', r"an integer >= 0, got 'ant' for '0'"),
            ("m.json", '{"ant": 0, "ant": 1}', r"each class folder once, got 'ant' twice"),
            (
                "m.json",
                '{"ant": 0, "bee": 0, "cat": 1}',
                r"class 0 to two folders, 'ant' and 'bee'",
            ),
            ("m.json", "[1, 2, 3]", r"must name class folders, got 1"),
            ("m.json", "3", r"must hold a JSON object .*, got int"),
            ("m.json", "{}", r"must hold a JSON object .*, got nothing"),
            ("m.json", "{", r"cannot be read"),
            ("m.csv", "ant,0\nbee,x\n", r"rows folder,index with an integer >= 0, got 'bee,x'"),
            ("m.csv", "ant\n", r"rows folder,index with an integer >= 0, got 'ant'"),
            ("m.txt", "ant\n\nbee\ncat\n", r"line 2 is empty"),
            ("m.txt", "ant\nbee\nant\ncat\n", r"each class folder once, got 'ant' twice"),
        ],
    )
    def test_bad_files(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            load_data(make_folders(tmp_path / "images", NAMES), classes=tmp_path / name)

    def test_missing_file(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"classes must name a file .*absent\.json', which is not a file"
        ):
            load_data(make_folders(tmp_path, NAMES), classes=tmp_path / "absent.json")

    def test_data_without_class_folders(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.zeros((2, 4), np.float32), y=np.arange(2))
        for data in ("digits", tmp_path / "a.npz"):
            with pytest.raises(ValueError, match="classes need a folder of class folders"):
                load_data(data, classes=MAPPING)


class TestSplits:
    def test_each_split_has_its_folder(self, tmp_path):
        make_folders(tmp_path, NUMBERED, "train")
        make_folders(tmp_path, NUMBERED[::-1], "val")
        assert class_of_folders(load_data(tmp_path, split="train"), NUMBERED)["10"] == 10
        assert class_of_folders(load_data(tmp_path), NUMBERED[::-1])["10"] == 10

    def test_splits_with_other_folders(self, tmp_path):
        make_folders(tmp_path, ["a", "b", "c"], "train")
        make_folders(tmp_path, ["a", "c"], "test")
        with pytest.raises(
            ValueError, match=r"must hold the same class folders, but 'b' is in one of them only"
        ):
            load_data(tmp_path)

    def test_classes_called_train_and_test(self, tmp_path):
        assert load_data(make_folders(tmp_path, ["train", "test"])).class_names == ("test", "train")


@pytest.mark.parametrize("options", [[], ["--class-order", "text"], ["--classes", "MAP"]])
def test_the_command_line_evaluates_and_records_it(tmp_path, options):
    """A model that reads the class off the pixels is right exactly when the folders are numbered
    as it numbers them.
    """
    root = make_folders(tmp_path / "images", NUMBERED)
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return lambda x: torch.nn.functional.one_hot((x[:, 0, 0, 0] * 255).round().long().clamp(0, 11), 12)\n"
    )
    mapping = tmp_path / "map.json"
    mapping.write_text(json.dumps({name: int(name) for name in NUMBERED}))
    options = [str(mapping) if option == "MAP" else option for option in options]
    out = tmp_path / "run"
    command = [
        "evaluate",
        "--model",
        f"{tmp_path / 'net.py'}:build",
        "--data",
        str(root),
        "--out",
        str(out),
    ]
    command += [
        "--attack-args",
        "rays.max_queries=20",
        "--eps",
        ".001",
        "--quiet",
        "--outputs",
        "probabilities",
    ]
    command += ["--attack", "rays", *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    run = json.loads((out / "run.json").read_text())
    assert run["arguments"]["class_order"] == ("text" if "text" in options else "numeric")
    assert run["arguments"]["classes"] == (str(mapping) if "--classes" in options else None)
    right = run["clean_accuracy"]["net"]
    assert right == 1.0 if "text" not in options else right < 0.5


def test_the_command_line_explains_a_bad_mapping(tmp_path):
    root = make_folders(tmp_path / "images", NAMES)
    (tmp_path / "m.json").write_text('{"ant": 0}')
    for command in (
        ["evaluate", "--model", "art_ext.models:digits_cnn"],
        ["train", "--recipe", "natural", "--model", "digits-cnn", "--eps", ".1"],
    ):
        options = [
            "--data",
            str(root),
            "--classes",
            str(tmp_path / "m.json"),
            "--out",
            str(tmp_path / "run"),
        ]
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 2
        assert "Traceback" not in done.output
        assert not (tmp_path / "run").exists()


def test_training_reads_class_folders(tmp_path):
    """Numbered folders are trained in numeric order: the configuration keeps order and mapping."""
    from art_ext.training.runs import resolve, run_training

    pytest.importorskip("accelerate")
    names = [str(number) for number in range(11)]
    for split in ("train", "test"):
        make_folders(tmp_path / "images", names, split)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 11))\n"
    )
    given = {
        "recipe": "natural",
        "data": str(tmp_path / "images"),
        "model": f"{tmp_path / 'net.py'}:build",
        "eps": 0.01,
        "epochs": 1,
        "batch_size": 4,
        "validation": 0,
        "class_order": "text",
        "device": "cpu",
    }
    configuration = resolve(given)
    run = run_training(configuration, tmp_path / "run")
    assert run is not None
    text = (tmp_path / "run" / "config.toml").read_text()
    assert 'class_order = "text"' in text
    with pytest.raises(ValueError, match=r"class_order: 'text' there, 'numeric' here"):
        run_training(resolve({**given, "class_order": "numeric"}), tmp_path / "run", resume=True)
