"""Evaluation of data of other libraries, which are read chunk by chunk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.data import as_dataset, load_data
from art_ext.evaluation import evaluate, load_run
from art_ext.evaluation.execution.job import Job
from tests.toys import drop_units

N = 60
DIGITS = load_data("digits").first(N).in_memory()
SETTINGS = {"eps": 0.1, "attacks": ["rays", "pgd"], "max_queries": 60, "chunk_size": 25}


def model():
    digits = load_data("digits", split="train").in_memory()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with torch.no_grad():
        rows = torch.stack([digits.x[digits.y == c].flatten(1).mean(0) for c in range(10)])
        network[1].weight.copy_(rows - rows.mean(0))
    return network


class Maite:
    """A dataset in the form of MAITE."""

    metadata = {"id": "digits", "index2label": dict(enumerate("0123456789"))}  # noqa: RUF012

    def __init__(self, samples=DIGITS):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples.x[i].numpy(), np.eye(10)[self.samples.y[i]], {"id": i}


def hugging_face(samples=DIGITS):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Array3D(samples.shape, "float32"),
            "label": datasets.ClassLabel(names=list("0123456789")),
        }
    )
    columns = {"image": samples.x.tolist(), "label": samples.y.tolist()}
    source = datasets.Dataset.from_dict(columns, features=features)
    return as_dataset(source, columns=("image", "label"))


def loader(samples=DIGITS):
    return DataLoader(TensorDataset(samples.x, samples.y), batch_size=7, num_workers=2)


SOURCES = {
    "tuple": lambda samples=DIGITS: (samples.x, samples.y),
    "dataset": lambda samples=DIGITS: TensorDataset(samples.x, samples.y),
    "loader": loader,
    "maite": Maite,
    "hugging face": hugging_face,
}


def records(outcome):
    return outcome.records.drop(columns="seconds")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    outcome = evaluate(model(), DIGITS, tmp_path_factory.mktemp("run"), **SETTINGS)
    return records(outcome)


@pytest.mark.parametrize("kind", SOURCES)
def test_records_are_equal_for_every_source(kind, reference, tmp_path):
    outcome = evaluate(model(), SOURCES[kind](), tmp_path, **SETTINGS)
    assert records(outcome).equals(reference)
    # the same command again reads what is there
    assert records(evaluate(model(), SOURCES[kind](), tmp_path, **SETTINGS)).equals(reference)


@pytest.mark.slow
@pytest.mark.usefixtures("art_ext_data")
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_records_of_real_images_are_equal_for_every_source(name, tmp_path):
    data = load_data(name)
    samples = data.first(40).in_memory()
    x, y = data.rows(40, 540)
    network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10, bias=False))
    with torch.no_grad():
        means = torch.stack([x[y == label].flatten(1).mean(0) for label in range(10)])
        network[1].weight.copy_(means - means.mean(0))
    settings = {**SETTINGS, "eps": 0.02, "chunk_size": 15}
    reference = records(evaluate({"m": network}, samples, tmp_path / "name", **settings))
    assert reference["success"].any()
    for kind, source in SOURCES.items():
        outcome = evaluate({"m": network}, source(samples), tmp_path / kind, **settings)
        assert records(outcome).equals(reference), kind


def rebuild():
    torch.set_num_threads(1)
    return {"model": model()}, as_dataset(Maite())


def test_workers_read_their_own_chunks(reference, tmp_path):
    outcome = evaluate(*rebuild(), tmp_path, rebuild=rebuild, workers=2, **SETTINGS)
    assert records(outcome).equals(reference)


class Counted:
    """Counts how often each item is read, and stops at one."""

    def __init__(self, stop=None):
        self.reads = [0] * N
        self.stop = stop

    def __len__(self):
        return N

    def __getitem__(self, i):
        self.reads[i] += 1
        if i == self.stop:
            raise OSError("gone")
        return DIGITS.x[i].numpy(), int(DIGITS.y[i])


def test_each_chunk_is_read_once(reference, tmp_path):
    source = Counted()
    data = as_dataset(source)
    source.reads = [0] * N
    assert records(evaluate(model(), data, tmp_path, **SETTINGS)).equals(reference)
    assert source.reads == [3] * 8 + [1] * (
        N - 8
    )  # the first ones are compared to a second reading


def test_a_run_that_lost_its_data_goes_on(reference, tmp_path):
    source = Counted(stop=40)
    with pytest.raises(ValueError, match="sample 40 of Counted cannot be read: OSError: gone"):
        evaluate(model(), source, tmp_path, **SETTINGS)
    source.stop = None
    assert records(evaluate(model(), source, tmp_path, **SETTINGS)).equals(reference)


class Noisy:
    def __getitem__(self, i):
        return torch.rand(1, 8, 8), 0


def test_items_that_change_and_loaders_that_shuffle(tmp_path):
    noisy = as_dataset([(torch.rand(1, 8, 8), 0)] * 3)
    noisy.items.dataset = Noisy()
    with pytest.raises(ValueError, match=r"sample 0 .* differs when it is read twice"):
        evaluate(model(), noisy, tmp_path, **SETTINGS)
    with pytest.raises(ValueError, match="one that shuffles"):
        evaluate(model(), DataLoader(Maite(), shuffle=True), tmp_path, **SETTINGS)
    assert not list(tmp_path.iterdir())


class TestChangedData:
    def test_of_the_same_identity(self, tmp_path):
        x = DIGITS.x.clone()
        evaluate(model(), TensorDataset(x, DIGITS.y), tmp_path, **SETTINGS)
        drop_units(tmp_path, 1, [0])
        x[31] += 0.001
        with pytest.raises(ValueError, match="of other data: sample 31 is the first that differs"):
            evaluate(model(), TensorDataset(x.clamp(0, 1), DIGITS.y), tmp_path, **SETTINGS)

    def test_in_memory(self, tmp_path):
        evaluate(model(), DIGITS, tmp_path, **SETTINGS)
        y = DIGITS.y.clone()
        y[7] = (y[7] + 1) % 10
        with pytest.raises(ValueError, match=r"data: other .*Sample 7 is the first that differs"):
            evaluate(model(), (DIGITS.x, y), tmp_path, **SETTINGS)


def test_the_first_chunks_alone_keep_examples(tmp_path):
    data = load_data("digits").first(300)
    settings = {**SETTINGS, "attacks": ["pgd"], "eps": 0.3, "chunk_size": 50}
    evaluate(model(), data, tmp_path / "few", **settings)
    files = {file.name for file in (tmp_path / "few" / "chunks").glob("*.safetensors")}
    assert {name[-17:-12] for name in files} == {f"0000{number}" for number in range(4)}
    evaluate(model(), data, tmp_path / "all", save_images=True, **settings)
    few, every = (load_run(tmp_path / name).examples for name in ("few", "all"))
    assert few.index == every.index
    assert len(few.index) == 6
    assert max(few.index) < 192
    assert few.chosen == every.chosen


def test_targets_need_a_known_number_of_classes():
    def classes(targeted=None, **known):
        settings = SimpleNamespace(targeted=targeted)
        return Job({}, as_dataset(Counted(), **known), [], settings, "cascade", False).known_classes

    assert classes("random", class_names=list("0123456789")) == 10
    assert classes() == 0
    with pytest.raises(ValueError, match="targets need the number of classes"):
        classes("random")
