"""Generators: the network of the package, and generators by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from art_ext.models import ConditionalGenerator, Discriminator, load_generator
from art_ext.models.generators import generator_metadata
from art_ext.storage.files import write_state_dict
from tests.toys import small_generator

FILE = """
from torch import nn

class Plain(nn.Module):
    latent_dim = 3
    num_classes = 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, z, y):
        return self.layer(z).sigmoid() * (1 + y[:, None]) / 2

def function():
    def generator(z, y):
        return z
    generator.latent_dim = 3
    generator.num_classes = 2
    return generator

def nameless():
    return nn.Linear(3, 4)
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_generator.py"
    file.write_text(FILE)
    return file


def run_folder(folder: Path, generator: ConditionalGenerator, finished: bool = True) -> Path:
    folder.mkdir()
    manifest = json.dumps({"tool": "art-ext generator train", "format": 1})
    (folder / "generator.json").write_text(manifest)
    metadata = generator_metadata(generator)
    write_state_dict(folder / "generator.safetensors", generator.state_dict(), metadata)
    if finished:
        (folder / "quality.json").write_text(manifest)
    return folder


def test_images_lie_in_the_box_and_depend_on_latent_and_class():
    generator = small_generator(latent_dim=5)
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6)
    images = generator(z, y)
    assert images.shape == (6, 1, 8, 8)
    assert generator.shape == (1, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert not torch.equal(images, generator(z, y + 1))
    assert not torch.equal(images, generator(-z, y))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), ((8, 12), 3)])
def test_generator_and_discriminator_fit_each_other(size, channels):
    generator = ConditionalGenerator(size, 7, num_classes=4, width=2, channels=channels)
    discriminator = Discriminator(size, num_classes=4, width=2, channels=channels)
    images = generator(torch.zeros(3, 7), torch.tensor([0, 1, 3]))
    height, width = (size, size) if isinstance(size, int) else size
    assert images.shape == (3, channels, height, width)
    real, classes = discriminator(images)
    assert real.shape == (3,)
    assert classes.shape == (3, 4)


def test_generator_runs_under_forward_differentiation():
    generator = small_generator()
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
    y = torch.tensor([1, 9])
    v = torch.ones_like(z)
    _, along = torch.func.jvp(lambda one: generator(one, y), (z,), (v,))
    h = 1e-3
    difference = (generator(z + h * v, y) - generator(z - h * v, y)) / (2 * h)
    assert torch.allclose(along, difference, atol=1e-3)


def test_a_class_without_a_row_of_the_onehot_matrix_is_an_error():
    with pytest.raises(IndexError):
        small_generator()(torch.zeros(1, 4), torch.tensor([10]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 10}, "size must be one or two positive multiples of 4, got 10"),
        ({"size": (8, 8, 8)}, r"size must be one or two positive multiples of 4, got \(8, 8, 8\)"),
        ({"latent_dim": 0}, "latent_dim must be an integer >= 1, got 0"),
        ({"width": 0}, "width must be an integer >= 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConditionalGenerator(**{"size": 8, "latent_dim": 4, **arguments})


def test_run_folder_gives_the_very_generator(tmp_path):
    generator = small_generator(size=12, latent_dim=3, num_classes=5)
    folder = run_folder(tmp_path / "gan", generator)
    before = torch.random.get_rng_state()
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([0, 1, 2, 4])
    for place in (folder, folder / "generator.safetensors"):
        loaded = load_generator(place)
        assert not loaded.training
        assert (loaded.latent_dim, loaded.num_classes, loaded.shape) == (3, 5, (1, 12, 12))
        assert torch.equal(loaded(z, y), generator(z, y))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_unfinished_and_other_folders_are_errors(tmp_path):
    folder = run_folder(tmp_path / "gan", small_generator(), finished=False)
    with pytest.raises(ValueError, match="not finished: go on with art-ext generator train"):
        load_generator(folder)
    with pytest.raises(ValueError, match=r"holds no generator\.json of one"):
        load_generator(tmp_path)
    (tmp_path / "notes.txt").write_text("no generator")
    with pytest.raises(ValueError, match=r"notes\.txt, which holds no generator of art-ext"):
        load_generator(tmp_path / "notes.txt")
    finished = run_folder(tmp_path / "gan2", small_generator())
    with pytest.raises(ValueError, match="weights do not apply"):
        load_generator(finished, weights="other.safetensors")


def test_factory_of_a_file_with_and_without_weights(user_file, tmp_path):
    weights = tmp_path / "w@1.safetensors"
    made = load_generator(f"{user_file}:Plain")
    state = {name: one + 1 for name, one in made.state_dict().items()}
    write_state_dict(weights, state)
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(4))
    wanted = nn.functional.linear(z, state["layer.weight"], state["layer.bias"]).sigmoid() / 2
    y = torch.zeros(2, dtype=torch.int64)
    for loaded in (
        load_generator(f"{user_file}:Plain@{weights}"),
        load_generator(f"{user_file}:Plain", weights=weights),
    ):
        assert not loaded.training
        assert torch.equal(loaded(z, y), wanted)
    assert load_generator(f"{user_file}:function")(z, y) is z


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{file}:nameless", "must have the attribute latent_dim, an integer >= 1, got None"),
        ("{file}:Plane", r"no 'Plane'.*did you mean 'Plain'"),
        ("{file}:function@{file}", "weights need an nn.Module, but"),
        ("{file}:Plain@missing.pt", "which does not exist"),
        ("nowhere.py:Plain", "the generator's file must exist"),
        ("runs/no/such", "a generator must be the folder of an art-ext generator train"),
        ("unheard", "or an entry point of art_ext.models, got 'unheard'"),
    ],
)
def test_names_that_give_no_generator_are_errors(given, message, user_file):
    with pytest.raises(ValueError, match=message):
        load_generator(given.format(file=user_file))


def test_entry_point_gives_a_generator(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint("clouds", "tests.toys:small_generator", "art_ext.models")
    monkeypatch.setattr("art_ext.core.plugins.entry_points", lambda group: [point])
    loaded = load_generator("Clouds")
    assert (loaded.latent_dim, loaded.num_classes) == (4, 10)
