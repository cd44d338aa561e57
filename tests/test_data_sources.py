"""Data sets of other libraries, and data that are read when they are needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Subset, TensorDataset

from art_ext.data import Dataset, LazyDataset, Transform, as_dataset, load_data
from art_ext.data.lazy import check_repeatable
from art_ext.data.reading import Reader

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(20) % 4
WANTED = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).astype(np.float32)) / 255
NAMES = ("a", "b", "c", "d")


class Pictures:
    """A map-style dataset whose items are made by ``make``."""

    classes = NAMES

    def __init__(self, make, label=int):
        self.make = make
        self.label = label

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, place):
        if place >= len(self):
            raise IndexError(place)
        return self.make(PIXELS[place]), self.label(LABELS[place])


def pillow(pixels):
    return pytest.importorskip("PIL.Image").fromarray(pixels)


def floats(pixels):
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) / 255


MAKERS = {
    "Pillow": pillow,
    "bytes, channels last": lambda pixels: pixels,
    "bytes, channels first": lambda pixels: pixels.transpose(2, 0, 1),
    "tensor of bytes": torch.from_numpy,
    "floats": floats,
    "float64, channels last": lambda pixels: pixels / np.float64(255),
}


def assert_same(data, x=WANTED, y=LABELS):
    assert torch.allclose(data.rows(0, len(data))[0], x, rtol=0, atol=1e-7)
    assert data.rows(0, len(data))[1].tolist() == list(y)


class TestItems:
    @pytest.mark.parametrize("kind", MAKERS)
    def test_images_of_every_kind_are_equal(self, kind):
        data = as_dataset(Pictures(MAKERS[kind]))
        assert isinstance(data, LazyDataset)
        assert data.rows(0, 20)[0].dtype == torch.float32
        assert data.shape == (3, 6, 5)
        assert data.class_names == NAMES
        assert_same(data)
        if kind != "float64, channels last":
            assert torch.equal(data.rows(3, 7)[0], WANTED[3:7])

    def test_grey_images_have_one_channel_unless_the_first_has_three(self):
        grey = [(pillow(picture[:, :, 0]), 0) for picture in PIXELS]
        assert as_dataset(grey).shape == (1, 6, 5)
        mixed = as_dataset([(pillow(PIXELS[0]), 0), *grey])
        assert torch.equal(mixed.rows(1, 2)[0][0, 2], WANTED[0, 0])
        with pytest.raises(ValueError, match=r"sample 1 .* must have the shape \(1, 6, 5\)"):
            as_dataset([grey[0], (pillow(PIXELS[0]), 0)]).rows(0, 2)

    def test_vectors_stay_vectors(self):
        x = torch.rand(20, 7)
        data = as_dataset(TensorDataset(x, torch.from_numpy(LABELS)))
        assert data.shape == (7,)
        assert torch.equal(data.rows(0, 20)[0], x)

    def test_a_transform_resizes_and_crops(self):
        transform = Transform(resize=5, crop=4)
        data = as_dataset(Pictures(pillow), transform=transform)
        assert data.shape == (3, 4, 4)
        assert torch.equal(data.rows(2, 3)[0][0], transform(pillow(PIXELS[2])))
        arrays = as_dataset(Pictures(MAKERS["bytes, channels first"]), transform=transform)
        assert torch.equal(data.rows(0, 20)[0], arrays.rows(0, 20)[0])
        with pytest.raises(ValueError, match="resize and crop need images of bytes"):
            as_dataset(Pictures(floats), transform=transform)

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            (PIXELS[0], "must give pairs of an image and a label, got ndarray"),
            (("no image", 0), "must be a Pillow image or an array of bytes or floats, got str"),
            ((PIXELS[0].astype(np.int64), 0), "must be uint8 .* got torch.int64"),
            ((np.full((3, 6, 5), np.nan), 0), "must be finite"),
            ((PIXELS[0], 0.5), r"must be one class index, .* got 0\.5"),
            ((PIXELS[0], -1), "labels of mine must be at least 0, got -1"),
            ((PIXELS[0, :4], 0), r"must have the shape \(3, 6, 5\) of the first, got \(3, 4, 5\)"),
        ],
        ids=lambda one: one if isinstance(one, str) else "",
    )
    def test_an_odd_item_is_named(self, item, message):
        with pytest.raises(ValueError, match=message) as caught:
            as_dataset([(PIXELS[0], 0), item], name="mine").rows(0, 2)
        assert "\n" not in str(caught.value)

    def test_an_error_of_the_source_names_the_sample(self):
        def fail(pixels):
            raise KeyError("gone")

        with pytest.raises(ValueError, match=r"sample 0 of mine cannot be read: KeyError: 'gone'"):
            as_dataset(Pictures(fail), name="mine")


class TestSources:
    def test_a_tuple_is_in_memory(self):
        for pair in ((WANTED, torch.from_numpy(LABELS)), (PIXELS, LABELS)):
            data = as_dataset(pair)
            assert isinstance(data, Dataset)
            assert_same(data)
        assert as_dataset(data) is data

    def test_a_loader_gives_its_dataset_and_order(self):
        data = as_dataset(DataLoader(Pictures(floats), batch_size=6, drop_last=True, num_workers=2))
        assert len(data) == 18
        assert data.workers == 2
        backwards = DataLoader(Pictures(floats), sampler=list(range(19, -1, -1)))
        assert_same(as_dataset(backwards), WANTED.flip(0), LABELS[::-1])

    def test_the_collation_of_a_loader_is_used(self):
        def collate(items):
            return torch.stack([1 - x for x, _ in items]), torch.tensor([y for _, y in items])

        assert_same(as_dataset(DataLoader(Pictures(floats), collate_fn=collate)), 1 - WANTED)

    def test_a_loader_that_shuffles(self):
        state = torch.get_rng_state()
        for loader in (
            DataLoader(Pictures(floats), shuffle=True),
            DataLoader(Pictures(floats), sampler=RandomSampler(range(20))),
        ):
            with pytest.raises(ValueError, match="got one that shuffles"):
                as_dataset(loader)
        assert torch.equal(state, torch.get_rng_state())

    def test_torchvision_datasets_keep_labels_and_names(self):
        vision = pytest.importorskip("torchvision.datasets")
        from torchvision import transforms

        source = vision.FakeData(12, (3, 8, 8), 4, transform=transforms.ToTensor())
        x, y = zip(*[source[i] for i in range(12)], strict=True)
        data = as_dataset(source)
        assert data.name == "FakeData"
        assert torch.equal(data.rows(0, 12)[0], torch.stack(x))
        assert data.rows(0, 12)[1].tolist() == list(map(int, y))

    def test_known_labels_are_those_of_the_items(self):
        pictures = Pictures(floats)
        pictures.targets = LABELS.tolist()
        assert as_dataset(pictures).labels.tolist() == LABELS.tolist()
        part = as_dataset(Subset(pictures, [5, 2]))
        assert part.labels.tolist() == [1, 2]
        assert part.class_names == NAMES
        pictures.targets = [0] * 20  # as of a parent class
        assert as_dataset(pictures).labels is None

    def test_maite(self):
        pictures = Pictures(floats)
        pictures.metadata = {"id": "birds", "index2label": dict(enumerate("wxyz"))}
        one_hot = np.eye(4, dtype=np.float32)
        pictures.__class__ = type(
            "Maite",
            (Pictures,),
            {"__getitem__": lambda self, i: (floats(PIXELS[i]), one_hot[LABELS[i]], {"id": i})},
        )
        data = as_dataset(pictures)
        assert (data.name, data.class_names) == ("birds", tuple("wxyz"))
        assert_same(data)

    @pytest.mark.parametrize("data", [object(), iter([]), 3, {1, 2}])
    def test_other_objects(self, data):
        with pytest.raises(ValueError, match="data must be a tuple"):
            as_dataset(data)

    def test_streams_and_nothing(self):
        class Stream(IterableDataset):
            def __iter__(self):
                return iter([])

        for data in (Stream(), DataLoader(Stream())):
            with pytest.raises(ValueError, match="map-style"):
                as_dataset(data)
        with pytest.raises(ValueError, match="at least one sample"):
            as_dataset([])


class TestHuggingFace:
    @pytest.fixture
    def source(self):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {
                "number": datasets.Value("int64"),
                "pixels": datasets.Image(),
                "kind": datasets.ClassLabel(names=list(NAMES)),
            }
        )
        columns = {
            "number": list(range(20)),
            "pixels": [pillow(picture) for picture in PIXELS],
            "kind": LABELS.tolist(),
        }
        return datasets.Dataset.from_dict(columns, features=features)

    def test_columns_are_found_by_their_types(self, source):
        data = as_dataset(source)
        assert data.class_names == NAMES
        assert data.labels.tolist() == LABELS.tolist()
        assert_same(data)
        assert_same(as_dataset(source.with_format("torch").select([4, 1])), WANTED[[4, 1]], [0, 1])

    def test_columns_by_name(self, source):
        data = as_dataset(source, columns=("pixels", "number"))
        assert data.labels.tolist() == list(range(20))
        assert data.class_names is None
        with pytest.raises(ValueError, match="columns must be among number, pixels, kind, got who"):
            as_dataset(source, columns=("pixels", "who"))
        with pytest.raises(ValueError, match="one column of the type ClassLabel, got none"):
            as_dataset(source.remove_columns("kind"))
        with pytest.raises(ValueError, match="columns are those of a Hugging Face dataset"):
            as_dataset(Pictures(floats), columns=("pixels", "number"))

    def test_identity_follows_the_fingerprint(self, source):
        one, other = as_dataset(source), as_dataset(source.select(range(19, -1, -1)))
        assert one.identity == as_dataset(source).identity != other.identity

    def test_splits(self, source):
        datasets = pytest.importorskip("datasets")
        with pytest.raises(ValueError, match=r"choose one split .* test"):
            as_dataset(datasets.DatasetDict({"test": source}))


class TestLazy:
    def test_take_first_and_ranges(self):
        data = as_dataset(Pictures(floats))
        assert torch.equal(data.first(3).x, WANTED[:3])
        assert_same(data.take([4, 0]).first(9), WANTED[[4, 0]], [0, 0])
        mask = torch.from_numpy(LABELS == 1)
        assert_same(data.take(mask), WANTED[mask], [1] * 5)
        assert data.rows(18, 99)[0].shape == (2, 3, 6, 5)
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            data.first(0)
        assert torch.equal(data.in_memory().x, data.x)

    def test_identity(self):
        data = as_dataset(Pictures(floats))
        assert data.identity == as_dataset(Pictures(floats)).identity
        others = [data.first(5), data.take([1, 0, *range(2, 20)]), data.with_(name="other")]
        assert len({data.identity, *[other.identity for other in others]}) == 4
        in_memory = load_data("digits").first(10)
        assert in_memory.identity != in_memory.take([1, 0, *range(2, 10)]).identity

    def test_random_items_are_found(self):
        check_repeatable(as_dataset(Pictures(floats)))
        noisy = as_dataset(Pictures(lambda pixels: floats(pixels) * torch.rand(()).item()))
        with pytest.raises(ValueError, match=r"sample 0 .* differs when it is read twice"):
            check_repeatable(noisy)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_reader_gives_each_range_and_reads_ahead_by_workers(self, workers):
        state = torch.get_rng_state()
        reader = Reader(as_dataset(Pictures(floats), workers=workers), [(0, 8), (8, 16), (16, 20)])
        for start, stop in ((0, 8), (3, 5), (8, 16), (16, 20), (0, 2)):
            x, y = reader.rows(start, stop)
            assert torch.equal(x, WANTED[start:stop])
            assert y.tolist() == LABELS[start:stop].tolist()
        assert torch.equal(state, torch.get_rng_state())

    def test_an_error_of_a_worker_is_one_line(self):
        items = [(PIXELS[0], 0), (PIXELS[1, :3], 0)]
        reader = Reader(as_dataset(items, workers=1), [(0, 2)])
        with pytest.raises(ValueError, match=r"^sample 1 of list must have the shape") as caught:
            reader.rows(0, 2)
        assert "\n" not in str(caught.value)
