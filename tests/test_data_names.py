"""Data sets by name: of torchvision, ImageNet, Hugging Face, files and other packages."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from art_ext.data import LazyDataset, ModelFacts, Transform, load_data
from art_ext.data.cifar import CIFAR100
from art_ext.data.loading import PLUGINS
from tests.test_data_batches import idx

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (20, 3072), dtype=np.uint8)
FINE = GENERATOR.integers(0, 100, 20).tolist()


def images(folder: Path, names: list[str], sizes=((9, 12), (15, 8))):
    """Write an image for each name, of alternating sizes."""
    pillow = pytest.importorskip("PIL.Image")
    for number, name in enumerate(names):
        height, width = sizes[number % len(sizes)]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(pixels).save(folder / name, format="JPEG", quality=95)
    return folder


def whole(source):
    """All items of a dataset of torchvision, as tensors."""
    x, y = zip(*[source[i][:2] for i in range(len(source))], strict=True)
    return torch.stack(x), list(y)


def assert_equal(data, source):
    x, y = whole(source)
    assert torch.equal(data.x, x)
    assert data.y.tolist() == y


class TestTorchvisionsFiles:
    """Pixels, labels and order equal those of torchvision's own classes."""

    def test_cifar100(self, tmp_path, monkeypatch):
        vision = pytest.importorskip("torchvision.datasets")
        from torchvision.transforms import ToTensor

        folder = tmp_path / "cifar-100-python"
        folder.mkdir()
        batch = {"data": PIXELS, "fine_labels": FINE, "coarse_labels": [0] * 20}
        for name in ("train", "test"):
            (folder / name).write_bytes(pickle.dumps(batch))
        meta = {"fine_label_names": list(CIFAR100.classes)}
        (folder / "meta").write_bytes(pickle.dumps(meta))
        monkeypatch.setattr(vision.cifar, "check_integrity", lambda *given: True)
        theirs = vision.CIFAR100(str(tmp_path), train=False, transform=ToTensor())
        data = load_data("cifar100", root=tmp_path)
        assert_equal(data, theirs)
        assert data.class_names == tuple(theirs.classes)
        assert_equal(load_data(folder), theirs)
        assert_equal(load_data("torchvision:CIFAR100", root=tmp_path), theirs)

    def test_cifar100_binary(self, tmp_path):
        records = [
            bytes([7, label]) + row.tobytes() for label, row in zip(FINE, PIXELS, strict=True)
        ]
        (tmp_path / "test.bin").write_bytes(b"".join(records))
        (tmp_path / "fine_label_names.txt").write_text("apple")
        data = load_data("cifar100", root=tmp_path)
        assert data.y.tolist() == FINE
        assert torch.equal(data.x, torch.from_numpy(PIXELS.reshape(-1, 3, 32, 32)).float() / 255)

    def test_fashion_mnist(self, tmp_path):
        vision = pytest.importorskip("torchvision.datasets")
        from torchvision.transforms import ToTensor

        raw = tmp_path / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for name, count in (("train", 6), ("t10k", 4)):
            grey = GENERATOR.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(grey))
            labels = np.arange(count, dtype=np.uint8)
            (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
        for split in ("test", "train"):
            theirs = vision.FashionMNIST(str(tmp_path), split == "train", transform=ToTensor())
            data = load_data("Fashion-MNIST", root=tmp_path, split=split)
            assert_equal(data, theirs)
            assert data.class_names == tuple(theirs.classes)

    def test_folders_of_images_of_all_sizes(self, tmp_path):
        vision = pytest.importorskip("torchvision.datasets")
        from torchvision import transforms

        names = [f"{kind}/{number}.jpg" for kind in ("cat", "ant") for number in range(4)]
        images(tmp_path, names)
        theirs = vision.ImageFolder(
            str(tmp_path),
            transforms.Compose(
                [transforms.Resize(10), transforms.CenterCrop(9), transforms.ToTensor()]
            ),
        )
        data = load_data(tmp_path, transform=Transform(resize=10, crop=9))
        assert isinstance(data, LazyDataset)
        assert_equal(data, theirs)
        with pytest.raises(ValueError, match=r"one size \(give resize and crop: --resize"):
            load_data(tmp_path)
        with pytest.raises(ValueError, match=r"one size .* got 12x9 in .* and 8x15 in"):
            load_data(tmp_path, transform=Transform(resize=10))


class TestTorchvision:
    def test_arguments_and_the_transform(self):
        pytest.importorskip("torchvision")
        arguments = {"size": 6, "image_size": (3, 20, 30), "num_classes": 4}
        data = load_data(
            "torchvision:FakeData", data_args=arguments, transform=Transform(resize=12, crop=10)
        )
        assert (len(data), data.shape, data.name) == (6, (3, 10, 10), "FakeData")

    def test_errors(self, tmp_path):
        pytest.importorskip("torchvision")
        for name, options, message in (
            ("CIFAR1000", {}, r"unknown data set .*'CIFAR1000' \(did you mean 'CIFAR100'\?\)"),
            (
                "CIFAR10",
                {},
                r"cannot be loaded .*not found.*: give the folder .*--root.*--download",
            ),
            ("FakeData", {"data_args": {"sise": 3}}, r"got 'sise' \(did you mean 'size'\?\)"),
            ("FakeData", {"download": True}, "torchvision cannot download FakeData"),
        ):
            with pytest.raises(ValueError, match=message) as caught:
                load_data(f"torchvision:{name}", root=tmp_path, **options)
            assert "\n" not in str(caught.value)

    def test_download_is_for_some(self, tmp_path, monkeypatch):
        for name in ("digits", "imagenet", str(tmp_path)):
            with pytest.raises(
                ValueError, match="cannot be downloaded: torchvision downloads mnist"
            ):
                load_data(name, download=True)
        vision = pytest.importorskip("torchvision.datasets")

        def offline(**arguments):
            raise OSError("no network")

        monkeypatch.setattr(
            vision, "MNIST", type("MNIST", (), {"__init__": lambda self, **_: offline()})
        )
        with pytest.raises(
            ValueError, match=r"download of MNIST cannot be loaded \(OSError: no net"
        ):
            load_data("mnist", root=tmp_path / "new", download=True)

    def test_missing_files_name_the_ways_out(self, tmp_path, monkeypatch):
        for name in ("mnist", "fashion-mnist", "cifar10", "cifar100"):
            with pytest.raises(ValueError, match=rf"no test split of {name} in ") as caught:
                load_data(name, root=tmp_path)
            for word in ("--root", "ART_EXT_DATA", "--download", "npz"):
                assert word in str(caught.value)
        monkeypatch.delenv("ART_EXT_DATA", raising=False)
        with pytest.raises(ValueError, match=r"ART_EXT_DATA .*--root FOLDER.*--download"):
            load_data("cifar100")


class TestImageNet:
    def robustbench(self):
        spec = importlib.util.find_spec("robustbench")
        if spec is None:
            pytest.skip("RobustBench is not installed")
        helpers = Path(spec.origin).parent / "helper_files"
        names = (helpers / "imagenet_test_image_ids.txt").read_text().split()
        return names, json.loads((helpers / "imagenet_class_to_id_map.json").read_text())

    def loaders(self):
        """RobustBench's loaders by themselves, since the package needs autoattack too."""
        file = Path(importlib.util.find_spec("robustbench").origin).parent / "loaders.py"
        spec = importlib.util.spec_from_file_location("robustbench_loaders", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_robustbenchs_list_equals_its_own_loader(self, tmp_path, monkeypatch):
        names, index = self.robustbench()
        pytest.importorskip("pkg_resources")
        loaders = self.loaders()
        vision = pytest.importorskip("torchvision.transforms")
        images(tmp_path / "val", names[:100], ((300, 260), (256, 400), (280, 280)))
        for synset in index:
            (tmp_path / "val" / synset).mkdir(exist_ok=True)
        ours = load_data(
            "imagenet:robustbench", root=tmp_path, transform=Transform(resize=256, crop=224)
        )
        assert len(ours) == 5000
        monkeypatch.setattr(
            loaders,
            "make_custom_dataset",
            lambda root, ids, known: [
                (f"{root}/{name}", known[name.partition("/")[0]]) for name in names[:100]
            ],
        )
        theirs = loaders.CustomImageFolder(
            # PREPROCESSINGS["Res256Crop224"], whose module needs autoattack
            str(tmp_path / "val"),
            vision.Compose([vision.Resize(256), vision.CenterCrop(224), vision.ToTensor()]),
        )
        assert_equal(ours.first(100), theirs)

    def test_folders_of_some_synsets(self, tmp_path):
        names, index = self.robustbench()
        chosen = sorted({name.partition("/")[0] for name in names})[5:8]
        files = [name for name in names if name.partition("/")[0] in chosen]
        images(tmp_path / "imagenet" / "val", files)
        transform = Transform(resize=10, crop=8)
        data = load_data("imagenet", root=tmp_path, transform=transform)
        assert sorted(set(data.y.tolist())) == [index[name] for name in chosen]
        assert len(data.class_names) == 1000
        mapping = {name: place for place, name in enumerate(chosen)}
        own = load_data("imagenet", root=tmp_path, transform=transform, classes=mapping)
        assert own.class_names == tuple(chosen)
        with pytest.raises(ValueError, match="one size"):
            load_data("imagenet", root=tmp_path)

    def test_the_official_flat_folder(self, tmp_path):
        io = pytest.importorskip("scipy.io")
        files = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 4)]
        images(tmp_path / "val", files)
        devkit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
        devkit.mkdir(parents=True)
        # its own numbers are not in the order of the synsets, and inner nodes follow the leaves
        synsets = [
            (1, "n00000003", "c, sea", 0),
            (2, "n00000001", "a", 0),
            (3, "n00000002", "b", 0),
        ]
        kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
        rows = np.array([*synsets, (4, "n00000000", "top", 3)], dtype=kinds)
        io.savemat(devkit / "meta.mat", {"synsets": rows.reshape(-1, 1)})
        (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n3\n2\n1\n")
        data = load_data("imagenet", root=tmp_path, transform=Transform(resize=10, crop=8))
        assert data.y.tolist() == [2, 1, 0, 2]
        assert data.class_names == ("a", "b", "c")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"no test split of imagenet in .*val/SYNSET.*--root"):
            load_data("imagenet", root=tmp_path)


class TestModelFacts:
    FOLDERS = ("n02", "n04")

    def folder(self, tmp_path, names=FOLDERS):
        return images(tmp_path / "data", [f"{name}/1.jpg" for name in names])

    def test_folders_named_by_ids_or_names_take_the_models_indices(self, tmp_path):
        facts = ModelFacts(("n01", "n02", "n03", "n04"), tuple("abcd"), Transform(8, 8))
        data = load_data(self.folder(tmp_path), model=facts)
        assert (data.y.tolist(), data.class_names) == ([1, 3], tuple("abcd"))
        assert data.shape == (3, 8, 8)
        assert "take the indices of the model's classes" in data.first(1).note
        by_name = load_data(self.folder(tmp_path / "two", ("d", "a")), model=facts)
        assert by_name.y.tolist() == [0, 3]
        own = load_data(self.folder(tmp_path), model=facts, classes=["n04", "n02"])
        assert own.y.tolist() == [0, 1]
        assert own.note == ""
        other = load_data(self.folder(tmp_path / "three", ("x", "y")), model=facts)
        assert other.y.tolist() == [0, 1]

    def test_unknown_and_ambiguous_folders(self, tmp_path):
        facts = ModelFacts(names=("n02", "crane", "crane"), transform=Transform(8, 8))
        with pytest.raises(ValueError, match=r"knows 1 of the 2 class folders .* no class 'n04'"):
            load_data(self.folder(tmp_path), model=facts)
        with pytest.raises(ValueError, match=r"two classes 'crane': .*--classes FILE"):
            load_data(self.folder(tmp_path / "two", ("crane", "n02")), model=facts)


class TestHuggingFace:
    @pytest.fixture
    def saved(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        pillow = pytest.importorskip("PIL.Image")
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
        )
        pictures = [pillow.fromarray(row.reshape(32, 32, 3)) for row in PIXELS[:6]]
        one = datasets.Dataset.from_dict(
            {"image": pictures, "label": [0, 1, 0, 1, 0, 1]}, features=features
        )
        one.save_to_disk(tmp_path / "one")
        datasets.DatasetDict({"train": one, "validation": one.select([3, 1])}).save_to_disk(
            tmp_path / "several"
        )
        return tmp_path

    def test_folders_and_splits(self, saved):
        data = load_data(f"hf:{saved / 'one'}")
        wanted = torch.from_numpy(PIXELS[:6].reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2) / 255
        assert torch.equal(data.x, wanted)
        assert (data.name, data.class_names) == ("one", ("a", "b"))
        several = f"hf:{saved / 'several'}"
        assert torch.equal(load_data(several).x, wanted[[3, 1]])
        assert len(load_data(several, split="train")) == 6
        assert len(load_data(f"{several}:train")) == 6
        with pytest.raises(
            ValueError, match=r"splits train, validation, got 'trian' \(did you mean"
        ):
            load_data(f"{several}:trian")
        columns = {"image": "image", "label": "label"}
        assert len(load_data(several, data_args=columns)) == 2

    def test_errors_are_one_line(self, saved, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for options, message in (
            ({}, "cannot be loaded .* fill the cache"),
            ({"download": True}, "downloads by itself|cannot be downloaded"),
        ):
            with pytest.raises(ValueError, match=message) as caught:
                load_data("hf:nobody/nothing-of-this-name", **options)
            assert "\n" not in str(caught.value)


PLUGIN = '''
import torch

def waves(split, root=None, amplitude=1.0):
    """Waves of two kinds."""
    return amplitude * torch.rand(6, 1, 4, 4).round(), torch.arange(6) % 2

def broken(split):
    raise KeyError("gone")
'''


class TestOwn:
    def test_a_function_of_a_file(self, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(PLUGIN)
        data = load_data(f"{file}:waves", data_args={"amplitude": 0.5}, root=tmp_path)
        assert (data.name, len(data), float(data.x.max())) == ("waves", 6, 0.5)
        with pytest.raises(ValueError, match="data set broken cannot be loaded: KeyError: 'gone'"):
            load_data(f"{file}:broken")
        with pytest.raises(ValueError, match=r"there is no 'wave' .*did you mean 'waves'"):
            load_data(f"{file}:wave")

    def test_an_entry_point(self, tmp_path, monkeypatch):
        (tmp_path / "art_ext_waves.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(tmp_path)
        point = EntryPoint("waves", "art_ext_waves:waves", PLUGINS.group)
        monkeypatch.setattr(type(PLUGINS), "_points", lambda self: [point])
        assert load_data("Waves").name == "waves"
        with pytest.raises(ValueError, match=r"got 'wavse' \(did you mean 'waves'\?\)"):
            load_data("wavse")

    def test_arguments_that_a_source_does_not_take(self):
        with pytest.raises(
            ValueError, match=r"data-args are for torchvision, .* 'digits' with size"
        ):
            load_data("digits", data_args={"size": 3})
        with pytest.raises(ValueError, match="classes need a folder"):
            load_data("torchvision:FakeData", classes=["a"])


def test_a_transform_of_data_in_memory(tmp_path):
    x = PIXELS[:4].reshape(4, 32, 32, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4))
    data = load_data(tmp_path / "a.npz", transform=Transform(resize=16))
    assert (data.shape, data.y.tolist()) == ((3, 16, 16), [0, 1, 2, 3])
    assert data.identity != data.take([1, 0, 2, 3]).identity
    with pytest.raises(ValueError, match="resize and crop need images of bytes"):
        load_data("digits", transform=Transform(resize=16))


def test_the_listing(monkeypatch, capsys):
    typer = pytest.importorskip("typer.testing")
    from art_ext.cli import app

    listed = typer.CliRunner().invoke(app, ["data", "--json"])
    rows = json.loads(listed.output)
    assert {row["name"] for row in rows} >= {"digits", "cifar100", "imagenet", "hf:..."}
    assert all(re.match(r"[A-Zs]", row["summary"]) for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "cifra10"], "got 'cifra10' (did you mean 'cifar10'?)"),
        (["--data", "digits", "--download"], "digits cannot be downloaded"),
        (["--data", "digits", "--n", "many"], "n must be a number of samples, or all, got 'many'"),
        (["--data", "digits", "--resize", "16"], "resize and crop need images of bytes"),
        (["--data", "digits", "--resize", "big"], "resize must be a side such as 224"),
        (["--data", "digits", "--interpolation", "bilinear"], "interpolation needs --resize"),
        (["--data", "digits", "--data-args", "a=1"], "data-args are for torchvision"),
        (["--data", "mnist", "--root", "absent"], "root must name an existing folder"),
        (["--data", "mixed"], "all images must have one size"),
        (["--data", "damaged"], "1.png must be a PNG or JPEG image"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(options, message, tmp_path, monkeypatch):
    runner = pytest.importorskip("typer.testing").CliRunner()
    from art_ext.cli import app

    images(tmp_path / "mixed", ["a/1.jpg", "b/2.jpg"])
    (tmp_path / "damaged" / "a").mkdir(parents=True)
    (tmp_path / "damaged" / "a" / "1.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--model", "art_ext.models:digits_cnn", "--out", "run", *options]
    done = runner.invoke(app, command)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_command_reads_and_records_images_of_all_sizes(tmp_path):
    runner = pytest.importorskip("typer.testing").CliRunner()
    from art_ext.cli import app

    names = [f"{kind}/{number}.jpg" for kind in range(2) for number in range(3)]
    images(tmp_path / "data", names)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))\n"
    )
    command = ["evaluate", "--model", f"{tmp_path / 'net.py'}:build", "--data", tmp_path / "data"]
    command += ["--resize", "9", "--crop", "8", "--n", "all", "--attack", "fgsm", "--data-workers"]
    done = runner.invoke(app, [*map(str, command), "1", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["plan"]["samples"] == 6
    recorded = run["data"]["transform"]
    assert Transform(**recorded) == Transform(resize=9, crop=8, interpolation="bilinear")
    assert "resize 9 (bilinear), centre crop 8" in " ".join(run["protocol"])
