"""Data sets by name, from arrays, NumPy files and image folders; the official batches have tests
of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from art_ext.data import Dataset, dataset_from_arrays, load_data

RNG = np.random.default_rng(0)
LABELS = [3, 0, 9]
GREY = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)


def assert_holds(data: Dataset, pixels: np.ndarray, labels=LABELS) -> None:
    """Exactly these bytes as float32 / 255, channels first, and these labels."""
    assert data.x.is_contiguous()
    assert np.array_equal(data.x.numpy(), pixels.astype(np.float32) / np.float32(255))
    assert data.y.tolist() == list(labels)


# --- Dataset


def test_first_and_take_keep_rows_together():
    data = Dataset(
        "d", torch.arange(8.0).reshape(4, 2), torch.tensor([3, 2, 1, 0]), ("a", "b", "c", "d")
    )
    assert len(data) == 4
    assert data.first(None) is data
    assert len(data.first(9)) == 4
    assert data.first(2).x.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    taken = data.take([2, 0])
    assert (taken.x[:, 0].tolist(), taken.y.tolist(), taken.class_names) == (
        [4.0, 0.0],
        [1, 3],
        data.class_names,
    )
    assert data.take(data.y > 1).y.tolist() == [3, 2]
    assert len(data.take([])) == 0
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        data.first(0)
    with pytest.raises(IndexError):
        data.take([4])


@pytest.mark.parametrize(
    ("x", "y", "names", "words"),
    [
        (torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1]), None, "float32"),
        (torch.zeros(2), torch.tensor([0, 1]), None, "shape"),
        (torch.zeros(2, 2), torch.tensor([0, 1, 2]), None, r"int64 of shape \(2,\)"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), None, "int64"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), None, "at least 0, got -1 to 0"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), ("a", "b"), "0 to 1, got 0 to 2"),
    ],
)
def test_dataset_refuses_odd_tensors(x, y, names, words):
    with pytest.raises(ValueError, match=words):
        Dataset("d", x, y, names)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((2, 7), (2, 7)),
        ((2, 8, 9), (2, 1, 8, 9)),
        ((2, 8, 9, 3), (2, 3, 8, 9)),
        ((2, 8, 9, 1), (2, 1, 8, 9)),
        ((2, 3, 8, 9), (2, 3, 8, 9)),
        ((2, 3, 9, 3), (2, 3, 9, 3)),  # ambiguous: kept
        ((2, 8, 9, 4), (2, 8, 9, 4)),
        ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
    ],
)
def test_shapes_become_channels_first_where_that_is_unambiguous(given, wanted):
    array = RNG.random(given, dtype=np.float32)
    x = dataset_from_arrays("d", array, np.array([0, 1])).x
    assert tuple(x.shape) == wanted
    moved = (
        array.transpose(0, 3, 1, 2)
        if len(given) == 4 and wanted != given
        else array.reshape(wanted)
    )
    assert np.array_equal(x.numpy(), moved)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_floats_are_kept_as_they_are(dtype):
    values = np.array([[-3.0, 0.5, 300.0]]).astype(dtype)
    assert dataset_from_arrays("d", values, np.array([0])).x.tolist() == [[-3.0, 0.5, 300.0]]


def test_column_of_labels_is_flattened():
    assert dataset_from_arrays(
        "d", np.zeros((2, 2)), np.array([[4], [1]], np.uint8)
    ).y.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((2, 2)), np.array([0]), "2 rows and 1 labels"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "integer class indices.*float64"),
        (np.zeros((2, 2)), np.eye(2, dtype=int), r"integer class indices.*\(2, 2\)"),
        (np.zeros((2, 2)), np.array([0, -1]), "at least 0"),
        (np.zeros((2, 2), np.int64), np.array([0, 1]), "uint8 .* or floating .* got int64"),
        (np.zeros(2), np.array([0, 1]), r"at least one row, got \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0, int), r"at least one row, got \(0, 2\)"),
        (np.array([[0.0], [np.nan]]), np.array([0, 1]), "finite.*row 1"),
        (np.array([[1e300], [0.0]]), np.array([0, 1]), "finite.*row 0"),
    ],
)
def test_odd_arrays_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        dataset_from_arrays("d", x, y)


# --- digits


def test_digits_are_a_fixed_stratified_split_of_all_images():
    from sklearn.datasets import load_digits

    train, test = load_data("digits", split="train"), load_data("digits")
    assert (train.x.shape, test.x.shape) == ((1297, 1, 8, 8), (500, 1, 8, 8))
    # the draw is the same everywhere
    assert test.y[:12].tolist() == [4, 8, 8, 3, 9, 0, 6, 3, 9, 8, 4, 5]
    assert test.y.bincount().tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    both = {
        (tuple(x.flatten().tolist()), y)
        for d in (train, test)
        for x, y in zip(d.x, d.y.tolist(), strict=True)
    }
    bundle = load_digits()
    assert both == {(tuple(x / 16), y) for x, y in zip(bundle.data, bundle.target, strict=True)}
    assert test.class_names == tuple("0123456789")


# --- npz, npy


@pytest.mark.parametrize("keys", [("x", "y"), ("x_test", "y_test"), ("images", "labels")])
def test_npz_with_other_keys(tmp_path, keys):
    np.savez_compressed(
        tmp_path / "mine.npz", **{keys[0]: COLOUR.transpose(0, 2, 3, 1), keys[1]: LABELS, "more": 1}
    )
    data = load_data(str(tmp_path / "mine.npz"))
    assert_holds(data, COLOUR)
    assert (data.name, data.class_names) == ("mine", None)
    with pytest.raises(
        ValueError, match=r"must hold x_train and y_train for the train split, got .*more"
    ):
        load_data(tmp_path / "mine.npz", split="train")


def test_latents_of_generated_images_keep_to_their_rows(tmp_path):
    z = np.arange(3 * len(LABELS), dtype=np.float64).reshape(len(LABELS), 3)
    np.savez(tmp_path / "generated.npz", x=COLOUR, y=LABELS, z=z)
    data = load_data(tmp_path / "generated.npz")
    assert data.latents.dtype == torch.float32
    assert data.latents.tolist() == z.tolist()
    assert data.take([1, 0]).latents.tolist() == [z[1].tolist(), z[0].tolist()]
    # the same samples, wherever they come from
    np.savez(tmp_path / "plain.npz", x=COLOUR, y=LABELS)
    plain = load_data(tmp_path / "plain.npz")
    assert plain.latents is None
    assert plain.identity == data.identity
    # an array of another form is something else
    np.savez(tmp_path / "other.npz", x=COLOUR, y=LABELS, z=z[:, 0])
    assert load_data(tmp_path / "other.npz").latents is None
    with pytest.raises(ValueError, match=r"latents must be float32 of shape \(\d, d\), one for"):
        Dataset("mine", data.x, data.y, latents=data.latents[:1])


@pytest.mark.parametrize("part", ["", "_test", "_train"])
def test_latents_must_be_one_row_for_each_image(tmp_path, part):
    """Latents of other images were dropped without a word, and the attack's start with them."""
    arrays = {"x_test": COLOUR, "y_test": LABELS} if part == "_train" else {}
    arrays |= {f"x{part}": COLOUR, f"y{part}": LABELS, f"z{part}": np.zeros((1, 3))}
    np.savez(tmp_path / "short.npz", **arrays)
    message = rf"short.npz: z{part} must have one row for each of {len(LABELS)} images, got 1$"
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path / "short.npz", split="train" if part == "_train" else "test")


def test_npy_with_its_labels(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1.5, -2.0], [0.0, 7.0]]))
    with pytest.raises(ValueError, match=r"rows_labels\.npy, which does not exist"):
        load_data(tmp_path / "rows.npy")
    np.save(tmp_path / "rows_labels.npy", np.array([1, 0]))
    data = load_data(tmp_path / "rows.npy")
    assert (data.x.tolist(), data.y.tolist()) == ([[1.5, -2.0], [0.0, 7.0]], [1, 0])
    with pytest.raises(ValueError, match="but split='train' was given"):
        load_data(tmp_path / "rows.npy", split="train")


class Payload:
    """Calls what it is given when unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_objects_in_numpy_files_are_not_unpickled(tmp_path):
    marker = tmp_path / "ran"
    hostile = np.array([Payload(os.system, f"touch {marker}")], dtype=object)
    np.savez(tmp_path / "bad.npz", x=hostile, y=np.array([0]))
    np.save(tmp_path / "bad.npy", hostile)
    np.save(tmp_path / "bad_labels.npy", np.array([0]))
    for name in ("bad.npz", "bad.npy"):
        with pytest.raises(ValueError, match="plain array"):
            load_data(tmp_path / name)
    assert not marker.exists()
    np.load(tmp_path / "bad.npy", allow_pickle=True)
    assert marker.exists()  # the payload does work


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html></html>"])
@pytest.mark.parametrize("name", ["bad.npz", "bad.npy"])
def test_damaged_numpy_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "bad_labels.npy", np.array([0]))
    with pytest.raises(ValueError, match=rf"{name} must be an"):
        load_data(tmp_path / name)


def test_numpy_files_under_the_wrong_name_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 2)))
    np.savez(tmp_path / "b.npz", x=np.zeros((1, 2)), y=np.array([0]))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    np.save(tmp_path / "b_labels.npy", np.array([0]))
    with pytest.raises(ValueError, match=r"an \.npy file under that name"):
        load_data(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"an \.npz archive under that name"):
        load_data(tmp_path / "b.npy")


# --- image folders


def save_image(file: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    image = pytest.importorskip("PIL.Image").fromarray(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    (image.convert(mode) if mode else image).save(file)


def test_image_folders_give_sorted_classes_and_exact_pixels(tmp_path):
    for name, picture in (("zebra/1.png", 0), ("ant/b.PNG", 1), ("ant/a.png", 2)):
        save_image(tmp_path / name, COLOUR[picture].transpose(1, 2, 0))
    (tmp_path / ".cache").mkdir()
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / "._a.png").write_text("no image")
    data = load_data(tmp_path)
    assert_holds(data, COLOUR[[2, 1, 0]], [0, 0, 1])
    assert (data.name, data.class_names) == (tmp_path.name, ("ant", "zebra"))
    with pytest.raises(ValueError, match="no train split in the folder"):
        load_data(tmp_path, split="train")


def test_grey_images_have_one_channel_and_mixtures_three(tmp_path):
    save_image(tmp_path / "a" / "1.png", GREY[0])
    save_image(tmp_path / "b" / "1.png", GREY[1])
    assert_holds(load_data(tmp_path), GREY[:2, None], [0, 1])
    save_image(tmp_path / "b" / "2.png", GREY[2], mode="RGB")
    assert_holds(load_data(tmp_path), GREY[:, None].repeat(3, 1), [0, 1, 1])


def test_jpeg_is_read_and_images_of_two_sizes_are_refused(tmp_path):
    save_image(tmp_path / "a" / "1.jpg", np.full((5, 7, 3), 120, np.uint8))
    data = load_data(tmp_path)
    assert data.x.shape == (1, 3, 5, 7)
    assert float((data.x * 255 - 120).abs().max()) <= 2
    save_image(tmp_path / "a" / "2.jpeg", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"one size .*7x5 in .*1\.jpg and 6x5 in .*2\.jpeg"):
        load_data(tmp_path)


def test_odd_images_and_empty_classes_are_refused(tmp_path):
    save_image(tmp_path / "a" / "1.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match="8 bits per channel"):
        load_data(tmp_path)
    save_image(tmp_path / "a" / "1.png", GREY[0])
    whole = (tmp_path / "a" / "1.png").read_bytes()
    for content in (b"<html>", whole[:200]):
        (tmp_path / "a" / "1.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"1\.png must be a PNG or JPEG image"):
            load_data(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"got none in: .*empty"):
        load_data(tmp_path)


def test_missing_pillow_is_explained(tmp_path, monkeypatch):
    save_image(tmp_path / "a" / "1.png", GREY[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"art-ext\[report\]"):
        load_data(tmp_path)


# --- finding


def test_errors_of_finding_say_where_and_what(tmp_path, monkeypatch):
    monkeypatch.delenv("ART_EXT_DATA", raising=False)
    with pytest.raises(ValueError, match=r"root= or set the environment variable ART_EXT_DATA"):
        load_data("mnist")
    with pytest.raises(
        ValueError, match=r"no test split of cifar10 in .*test_batch\.bin.*cifar10_test\.npz"
    ):
        load_data("cifar10", root=tmp_path)
    with pytest.raises(ValueError, match=r"root must name an existing folder, got .*absent"):
        load_data("mnist", root=tmp_path / "absent")
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="variable ART_EXT_DATA must name an existing folder"):
        load_data("mnist")
    with pytest.raises(
        ValueError, match=r"digits, mnist, .* or an existing file or folder, got 'minst'"
    ):
        load_data("minst")
    with pytest.raises(ValueError, match="split must be 'test' or 'train', got 'val'"):
        load_data("digits", split="val")
    with pytest.raises(ValueError, match=r"no test split in the folder .*class_name/\*\.png"):
        load_data(tmp_path)
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "cat.png").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match="loose holds images without labels: put them into one folder for each class",
    ):
        load_data(tmp_path / "loose")
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"must be \.npz or \.npy, got .*data\.csv"):
        load_data(tmp_path / "data.csv")


def test_real_mnist_and_cifar10():
    folder = os.environ.get("ART_EXT_DATA")
    if not folder:
        pytest.skip("ART_EXT_DATA names no folder with MNIST and CIFAR-10")
    mnist, cifar10 = load_data("mnist"), load_data("cifar10")
    assert mnist.x.shape == (10_000, 1, 28, 28)
    # the well-known first test images
    assert mnist.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert mnist.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert float(mnist.x.mean()) == pytest.approx(0.1325, abs=1e-4)
    assert cifar10.x.shape[1:] == (3, 32, 32)
    assert cifar10.y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert (float(cifar10.x.min()), float(cifar10.x.max())) == (0.0, 1.0)
    with np.load(Path(folder) / "mnist.npz") as archive:
        assert np.array_equal(
            (mnist.x[:, 0] * 255).round().numpy().astype(np.uint8), archive["x_test"]
        )
