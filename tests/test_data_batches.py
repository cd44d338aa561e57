"""MNIST's idx files and CIFAR-10's batches: exact pixels and labels; damaged and hostile files
are refused.
"""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from art_ext.data import Dataset, load_data
from art_ext.data.cifar import _Inert

RNG = np.random.default_rng(0)
LABELS = [3, 0, 9]
LABEL_BYTES = np.array(LABELS, np.uint8)
GREY = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)


def assert_holds(data: Dataset, pixels: np.ndarray, labels=LABELS) -> None:
    """Exactly these bytes as float32 / 255, channels first, and these labels."""
    assert np.array_equal(data.x.numpy(), pixels.astype(np.float32) / np.float32(255))
    assert data.y.tolist() == list(labels)


# --- MNIST


def idx(array: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_idx(folder: Path, prefix: str = "t10k", compress: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (
        (f"{prefix}-images-idx3-ubyte", GREY),
        (f"{prefix}-labels-idx1-ubyte", LABEL_BYTES),
    ):
        content = idx(array)
        (folder / (name + ".gz" * compress)).write_bytes(
            gzip.compress(content) if compress else content
        )


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
def test_mnist_idx_by_name_and_by_path(tmp_path, compress, place):
    write_idx(tmp_path / place, compress=compress)
    named = load_data("mnist", root=tmp_path)
    assert_holds(named, GREY[:, None])
    assert named.class_names == tuple("0123456789")
    assert_holds(load_data(tmp_path / place), GREY[:, None])
    with pytest.raises(ValueError, match=r"no train split of mnist in .*train-\.\.\..*mnist\.npz"):
        load_data("mnist", root=tmp_path, split="train")


def test_mnist_train_split_and_environment_variable(tmp_path, monkeypatch):
    write_idx(tmp_path, "train")
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path))
    assert_holds(load_data("mnist", split="train"), GREY[:, None])


def test_mnist_npz_in_keras_layout(tmp_path):
    some = {"x_train": GREY[:2], "y_train": np.array([1, 2], np.uint8)}
    np.savez(tmp_path / "mnist.npz", **some, x_test=GREY, y_test=LABEL_BYTES)
    for data in (load_data("mnist", root=tmp_path), load_data(tmp_path / "mnist.npz")):
        assert_holds(data, GREY[:, None])
    assert_holds(load_data("mnist", root=tmp_path, split="train"), GREY[:2, None], [1, 2])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t10k-images-idx3-ubyte", idx(GREY)[:-1], "2368 bytes long .* got 2367: truncated"),
        ("t10k-images-idx3-ubyte", idx(GREY) + b"x", "2368 bytes long .* got 2369"),
        ("t10k-images-idx3-ubyte", idx(GREY)[:6], "truncated"),
        ("t10k-images-idx3-ubyte", idx(GREY[0]), "magic number 2051 .* got 2050"),
        ("t10k-images-idx3-ubyte", b"", "magic number 2051"),
        ("t10k-labels-idx1-ubyte", idx(GREY), "magic number 2049 .* got 2051"),
        ("t10k-labels-idx1-ubyte", idx(np.array([1, 2], np.uint8)), "3 rows and 2 labels"),
        (
            "t10k-labels-idx1-ubyte",
            idx(np.array([1, 2, 10], np.uint8)),
            "must be 0 to 9, got 1 to 10",
        ),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, name, content, words):
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_data("mnist", root=tmp_path)


def test_idx_without_labels_and_damaged_gzip_are_refused(tmp_path):
    write_idx(tmp_path, compress=True)
    images, labels = tmp_path / "t10k-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or truncated"):
        load_data(tmp_path)
    labels.unlink()
    with pytest.raises(ValueError, match="must have its labels beside it"):
        load_data(tmp_path)


# --- CIFAR-10


def write_binary(file: Path, pixels: np.ndarray = COLOUR, labels=LABELS) -> None:
    rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels.reshape(len(pixels), -1)], 1)
    file.write_bytes(rows.tobytes())


def python2_batch(pixels: np.ndarray = COLOUR, labels=LABELS) -> bytes:
    """Write a batch as the official files were written: Python 2, protocol 2, NumPy 1."""

    def text(words: str) -> bytes:
        return b"U" + bytes([len(words)]) + words.encode()

    content = pixels.tobytes()
    dtype = (
        b"cnumpy\ndtype\n("
        + text("u1")
        + b"K\x00K\x01tR(K\x03"
        + text("|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    state = b"(K\x01(M" + struct.pack("<H", len(pixels)) + b"M\x00\x0ct" + dtype + b"K\x00tb\x89"
    state += b"T" + struct.pack("<i", len(content)) + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + state + text("labels") + numbers + b"u."


def test_hand_written_batch_is_what_numpy_reads():
    read = pickle.loads(python2_batch(), encoding="bytes")  # noqa: S301
    assert np.array_equal(read[b"data"], COLOUR.reshape(3, -1))


@pytest.mark.parametrize("place", ["", "cifar-10-batches-bin", "cifar10"])
def test_cifar10_binary_batches(tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    write_binary(tmp_path / place / "test_batch.bin")
    for number in range(1, 6):
        write_binary(
            tmp_path / place / f"data_batch_{number}.bin", COLOUR[:1] + np.uint8(number), [number]
        )
    named = load_data("cifar10", root=tmp_path)
    assert_holds(named, COLOUR)
    assert named.class_names is not None
    assert named.class_names[3] == "cat"
    assert_holds(load_data(tmp_path / place), COLOUR)
    train = np.concatenate([COLOUR[:1] + np.uint8(number) for number in range(1, 6)])
    assert_holds(load_data("cifar10", root=tmp_path, split="train"), train, [1, 2, 3, 4, 5])


def test_odd_binary_batches_are_refused(tmp_path):
    write_binary(tmp_path / "test_batch.bin", labels=[1, 2, 10])
    with pytest.raises(ValueError, match="0 to 9, got 1 to 10"):
        load_data(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(ValueError, match=r"records of 3073 bytes .* got 3072"):
        load_data(tmp_path)
    write_binary(tmp_path / "data_batch_2.bin")
    with pytest.raises(ValueError, match=r"missing: data_batch_1\.bin, data_batch_3\.bin"):
        load_data(tmp_path, split="train")


@pytest.mark.parametrize("writer", ["python 2", 3, 4])
def test_cifar10_python_batches(tmp_path, writer):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    if writer == "python 2":
        content = python2_batch()
    else:
        content = pickle.dumps(
            {"data": np.asfortranarray(COLOUR.reshape(3, -1)), "labels": LABELS}, protocol=writer
        )
    (folder / "test_batch").write_bytes(content)
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(
            python2_batch(COLOUR[number % 3][None], [number])
        )
    assert_holds(load_data("cifar10", root=tmp_path), COLOUR)
    assert_holds(load_data(folder, split="train"), COLOUR[[1, 2, 0, 1, 2]], [1, 2, 3, 4, 5])


class Payload:
    """Calls what it is given when unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", ["system", "exec", "numpy"])
def test_hostile_pickle_runs_nothing(tmp_path, kind, protocol):
    marker = tmp_path / "ran"
    payload = {
        "system": Payload(os.system, f"touch {marker}"),
        "exec": Payload(exec, f"open({str(marker)!r}, 'w').close()"),
        "numpy": Payload(np.savetxt, str(marker), [1.0]),
    }[kind]
    content = pickle.dumps({"data": payload, "labels": LABELS}, protocol=protocol)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"it names \S+, which no CIFAR batch needs; nothing was run"
    ):
        load_data(tmp_path)
    assert not marker.exists()
    pickle.loads(content)  # noqa: S301
    assert marker.exists()  # the payload does work


INERT = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    "data",
    [
        INERT,  # the stand-in class itself
        INERT + b")R",  # called without a state
        INERT + b")\x81",  # made by __new__, without __init__
        INERT + b")RK\x01b",  # a state that is no tuple
        # BUILD on the class: would set an attribute if __setstate__ let it
        INERT + b"}U\x04evilK\x01sb",
        INERT + b")RN}U\x04evilK\x01s\x86b",  # slot state, set by setattr without __setstate__
        INERT + b")R)R",  # an instance is not callable
        b"cnumpy\ndtype.__class__\n",
        b"K\x01",
        b"Ppersistent\n",
    ],
)
def test_odd_pickles_are_refused_and_change_nothing(tmp_path, data):
    before = dict(vars(_Inert))
    (tmp_path / "test_batch").write_bytes(b"\x80\x02}(U\x04data" + data + b"U\x06labels]u.")
    with pytest.raises(ValueError, match="test_batch must"):
        load_data(tmp_path)
    assert dict(vars(_Inert)) == before


def test_legitimate_batch_calls_no_numpy_unpickling(tmp_path, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("called from the file")

    name = (
        "numpy._core.multiarray"
        if "numpy._core.multiarray" in sys.modules
        else "numpy.core.multiarray"
    )
    monkeypatch.setattr(sys.modules[name], "_reconstruct", forbidden)
    (tmp_path / "test_batch").write_bytes(python2_batch())
    assert_holds(load_data(tmp_path), COLOUR)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (python2_batch()[:-40], "must be a CIFAR-10 Python batch"),
        (b"<html>", "must be a CIFAR-10 Python batch"),
        (pickle.dumps([1]), "dictionary .* got list"),
        (python2_batch(labels=[1, 2, 10]), "integers from 0 to 9"),
        (python2_batch(labels=[1, 2]), "3 rows and 2 labels"),
        (python2_batch(COLOUR[:, :2]), "array of bytes"),
    ],
)
def test_damaged_python_batches_are_refused(tmp_path, content, words):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_data(tmp_path)


def test_cifar10_npz_by_name(tmp_path):
    np.savez(tmp_path / "cifar10_test.npz", x_test=COLOUR, y_test=LABEL_BYTES)
    np.savez(tmp_path / "cifar10_train.npz", x_train=COLOUR[:1], y_train=np.array([7], np.uint8))
    assert_holds(load_data("cifar10", root=tmp_path), COLOUR)
    assert_holds(load_data("cifar10", root=tmp_path, split="train"), COLOUR[:1], [7])
    np.savez(tmp_path / "cifar10_test.npz", x_test=COLOUR[:, :, :8], y_test=LABEL_BYTES)
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\), got \(3, 8, 32\)"):
        load_data("cifar10", root=tmp_path)
