"""The training of a generator: its losses, its random streams, its quality, and bad input."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.configuration.generator import GeneratorOptions
from art_ext.core.limits import draw_latents
from art_ext.core.streams import normal, uniform
from art_ext.data import Dataset, as_dataset, load_data
from art_ext.models import ConditionalGenerator, Discriminator
from art_ext.storage.store import LocalStore
from art_ext.training.checkpoints import checkpoints
from art_ext.training.environment import seed_streams
from art_ext.training.generators import quality
from art_ext.training.generators.loop import train_generator
from art_ext.training.generators.sampling import sample, save_images
from art_ext.training.generators.sheet import COLUMNS, sheet
from tests.accelerator import Accelerator, Remote
from tests.toys import small_generator


def options(**given: Any) -> GeneratorOptions:
    return GeneratorOptions(**{"epochs": 1, "latent_dim": 4, "width": 4, "device": "cpu", **given})


@pytest.fixture
def digits() -> Dataset:
    return load_data("digits", split="train").first(40).in_memory()


def weights(result: Any) -> dict[str, Tensor]:
    return result.generator.state_dict()


def test_the_first_losses_are_those_of_the_formulas(digits):
    """At a rate of almost 0, one minibatch shows the losses of the initial weights."""
    rates = {"learning_rate": 1e-30, "discriminator_rate": 1e-30}
    wanted = options(batch_size=40, class_weight=0.5, seed=3, **rates)
    row = train_generator(digits, wanted).history[0]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        generator = ConditionalGenerator(8, 4, width=4)
        discriminator = Discriminator(8, width=4)
        seed_streams(3, 0, 0, torch.device("cpu"))
        order = torch.randperm(40, generator=torch.Generator().manual_seed(3 * 1_000_003))
        ids = torch.arange(40)
        y = (uniform(3, ids, 1) * 10).long()
        images = generator(normal(3, ids, 0, (4,)), y)
        logits, classes = discriminator(torch.cat([digits.x[order], images]))
        real = nn.BCEWithLogitsLoss()(logits[:40], torch.full((40,), 0.9))
        generated = nn.BCEWithLogitsLoss()(logits[40:], torch.zeros(40))
        # the classes of real images only
        of_class = nn.CrossEntropyLoss()(classes[:40], digits.y[order])
        assert row["discriminator_loss"] == pytest.approx((real + generated + of_class).item())
        logits, classes = discriminator(images)
        own = nn.BCEWithLogitsLoss()(logits, torch.ones(40))
        own = own + 0.5 * nn.CrossEntropyLoss()(classes, y)
    assert row["generator_loss"] == pytest.approx(own.item())
    assert row["updates"] == 1


def test_weights_depend_on_the_seed_and_on_no_stream_of_the_caller(digits):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = weights(train_generator(digits, options()))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = weights(train_generator(digits, options()))
    other = weights(train_generator(digits, options(seed=1)))
    assert all(torch.equal(one, again[name]) for name, one in first.items())
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_data_that_are_read_one_by_one_give_the_same_generator(digits):
    pairs = [(x.numpy(), int(y)) for x, y in zip(digits.x, digits.y, strict=True)]
    lazy = as_dataset(pairs, name="mine")
    if lazy.labels is None:
        lazy = lazy.with_(class_names=tuple("0123456789"))
    one = weights(train_generator(digits, options()))
    other = weights(train_generator(lazy, options()))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_more_batches_than_one_and_a_last_one_of_one_row(digits):
    result = train_generator(digits, options(batch_size=13, epochs=2))
    assert [row["updates"] for row in result.history] == [4, 8]
    assert result.updates == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[..., :6], y), r"multiples of 4, got \(8, 6\): --resize changes them"),
        (lambda x, y: (x.flatten(1), y), r"needs images \(C, H, W\), got samples \(64,\)"),
        (lambda x, y: (x, 0 * y), "needs two classes or more, got 1"),
        (lambda x, y: (2 * x - 1, y), r"x must lie in .*-1"),
    ],
)
def test_data_that_do_not_fit_are_errors(digits, change, message):
    x, y = change(digits.x, digits.y)
    with pytest.raises(ValueError, match=message):
        train_generator(Dataset("mine", x, y), options())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"batch_size": 1}, "batch_size must be an integer >= 2, got 1"),
        ({"real_target": 1.5}, "real_target must be at most 1, got 1.5"),
        ({"learning_rate": math.nan}, "learning_rate must be > 0, got nan"),
    ],
)
def test_options_out_of_range_are_errors(given, message):
    with pytest.raises(ValueError, match=message):
        options(**given)


def test_a_loss_that_is_not_finite_keeps_earlier_checkpoints(digits, tmp_path):
    train_generator(digits, options(batch_size=40), folder=tmp_path)
    kept = [path.name for path in checkpoints(LocalStore(tmp_path), "checkpoints")]
    with pytest.raises(ValueError, match="holds this very run: pass --resume"):
        train_generator(digits, options(batch_size=40), folder=tmp_path)
    with pytest.raises(ValueError, match=r"another configuration \(seed: 0 there, 1 here\)"):
        train_generator(digits, options(batch_size=40, seed=1), folder=tmp_path, resume=True)
    other = tmp_path / "other"
    with pytest.raises(ValueError, match="a loss is not finite in epoch 0, counted from 0"):
        train_generator(digits, options(discriminator_rate=1e38, batch_size=8), folder=other)
    assert not checkpoints(LocalStore(other), "checkpoints")
    assert kept == [path.name for path in checkpoints(LocalStore(tmp_path), "checkpoints")]


def test_a_disk_that_is_full_loses_no_checkpoint(digits, tmp_path, monkeypatch):
    """The second checkpoint cannot be written. With room again, the run goes on from the first."""
    whole = weights(train_generator(digits, options(epochs=3)))
    with monkeypatch.context() as patched:
        import safetensors.torch as library

        save = library.save_file
        calls: list[int] = []

        def full(*arguments: Any) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            save(*arguments)

        patched.setattr(library, "save_file", full)
        with pytest.raises(OSError, match="No space left on device"):
            train_generator(digits, options(epochs=3), folder=tmp_path)
    assert len(checkpoints(LocalStore(tmp_path), "checkpoints")) == 1
    resumed = weights(train_generator(digits, options(epochs=3), folder=tmp_path, resume=True))
    assert all(torch.equal(one, resumed[name]) for name, one in whole.items())


# --- another device ---


def test_training_on_an_accelerator_waits_once_an_epoch(digits):
    accelerator = Accelerator()
    reads = []
    for batch_size in (8, 40):
        wanted = options(batch_size=batch_size)
        near = weights(train_generator(digits, wanted))
        with accelerator.running():
            far = weights(train_generator(digits, replace(wanted, device="meta")))
        for name, one in near.items():
            assert isinstance(far[name], Remote)
            torch.testing.assert_close(far[name].held, one, atol=1e-6, rtol=1e-5)
        reads.append(accelerator.reads)
    assert reads == [1, 1]
    assert accelerator.doubles == 0


def test_images_of_a_generator_on_an_accelerator_are_those_of_the_cpu():
    generator = small_generator()
    accelerator = Accelerator()
    moved = accelerator.has(generator)
    with accelerator.running():
        found = sample(moved, 25, seed=0, batch_size=10)
    assert not isinstance(found.x, Remote)
    torch.testing.assert_close(found.x, sample(generator, 25, seed=0).x, atol=1e-6, rtol=0)


# --- images ---


def test_images_are_those_of_their_latents_and_more_images_change_none():
    generator = small_generator(num_classes=3)
    few = sample(generator, 7, seed=5, batch_size=2)
    many = sample(generator, 20, seed=5)
    assert few.y.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(few.z, many.z[:7])
    assert torch.allclose(few.x, many.x[:7], atol=1e-6)
    assert torch.equal(few.z[5:6], draw_latents(4, torch.tensor([2]), torch.tensor([1]), 5))
    with torch.no_grad():
        assert torch.equal(many.x, generator(many.z, many.y))
    later = sample(generator, 3, seed=5, first=2)
    assert torch.equal(later.z, many.z[6:9])


def test_images_of_another_range_are_mapped():
    inner = small_generator()

    class Symmetric(nn.Module):
        latent_dim = inner.latent_dim
        num_classes = inner.num_classes

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return 2 * inner(z, y) - 1

    wanted = sample(inner, 10, seed=0)
    mapped = sample(Symmetric(), 10, seed=0, image_range=(-1, 1))
    assert torch.allclose(mapped.x, wanted.x, atol=1e-6)
    with pytest.raises(ValueError, match=r"pass image_range=\(-1, 1\)"):
        sample(Symmetric(), 10, seed=0)


def test_file_of_images_holds_both_splits_with_their_latents(tmp_path):
    generator = small_generator()
    images = sample(generator, 20, seed=0)
    test = sample(generator, 10, seed=0, first=2)
    save_images(tmp_path / "gen.npz", images, test)
    for split, one in (("train", images), ("test", test)):
        data = load_data(tmp_path / "gen.npz", split=split)
        assert torch.equal(data.x, one.x)
        assert torch.equal(data.y, one.y)
        assert torch.equal(data.latents, one.z)
    save_images(tmp_path / "alone.npz", images)
    assert torch.equal(load_data(tmp_path / "alone.npz").latents, images.z)
    with pytest.raises(ValueError, match="must hold x_train and y_train for the train split"):
        load_data(tmp_path / "alone.npz", split="train")


def test_sheet_has_a_row_per_class_and_a_column_per_image():
    from PIL import Image

    x = torch.zeros(2 * COLUMNS, 1, 8, 8)
    x[1::2] = 1  # the second class is white
    picture = Image.open(io.BytesIO(sheet(x, 2)))
    pixels = np.asarray(picture)
    assert pixels.shape == (2 * 34, COLUMNS * 34)
    assert pixels[17, 17] == 0
    assert pixels[17 + 34, 17 + 34 * (COLUMNS - 1)] == 255
    assert pixels[0, 17] == 255  # the line around an image
    coloured = torch.zeros(2 * COLUMNS, 3, 40, 40)
    coloured[:, 1] = 1
    shown = np.asarray(Image.open(io.BytesIO(sheet(coloured, 2))))
    assert shown.shape == (2 * 42, COLUMNS * 42, 3)
    assert shown[20, 20].tolist() == [0, 255, 0]


# --- quality ---


class Memory(nn.Module):
    """A generator that shows one of the images that it has seen of a class.

    With ``collapsed`` each class has one image only, and with ``shift`` those of another class.
    """

    latent_dim = 1

    def __init__(self, data: Dataset, collapsed: bool = False, shift: int = 0) -> None:
        super().__init__()
        self.num_classes = int(data.y.max()) + 1
        self.images = [data.x[data.y == label] for label in range(self.num_classes)]
        self.collapsed = collapsed
        self.shift = shift

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        found = []
        for one, label in zip(z[:, 0], y, strict=True):
            images = self.images[(int(label) + self.shift) % self.num_classes]
            place = 0 if self.collapsed else int(abs(float(one)) * 1e4) % len(images)
            found.append(images[place])
        return torch.stack(found)


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(quality, "ROWS", 12_000)
    monkeypatch.setattr(quality, "TRAINED_ON", (1000, 1000))
    monkeypatch.setattr(quality, "PER_CLASS", 60)


@pytest.mark.usefixtures("quick")
def test_quality_of_a_generator_that_shows_real_images():
    train, test = (load_data("digits", split=split) for split in ("train", "test"))
    found = quality.measure_quality(Memory(train), train, test)
    assert found["agreement"] > 0.95
    assert found["reference_accuracy"] > 0.9
    assert found["spread"]["smallest"] > 0.85
    assert found["spread"]["mean"] == pytest.approx(1, abs=0.05)
    assert found["nearest_real"] == pytest.approx(0, abs=1e-3)
    distances = torch.cdist(test.x.flatten(1), train.x.flatten(1)).amin(1)
    assert found["nearest_real_of_real"] == pytest.approx(float(distances.mean()), rel=1e-5)
    assert found["transfer_accuracy"] > 0.85
    assert found["images"] == 600


@pytest.mark.usefixtures("quick")
def test_quality_of_generators_that_lack_variety_or_labels():
    train, test = (load_data("digits", split=split) for split in ("train", "test"))
    found = quality.measure_quality(Memory(train, collapsed=True), train, test)
    assert found["spread"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["transfer_accuracy"] < 0.8
    found = quality.measure_quality(Memory(train, shift=1), train, test)
    assert found["agreement"] < 0.05
    assert found["transfer_accuracy"] < 0.1
