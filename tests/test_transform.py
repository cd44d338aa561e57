"""The transform of images against torchvision's, and its errors."""

import pickle

import numpy as np
import pytest
import torch

from art_ext.data.transform import INTERPOLATIONS, Transform

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
# torchvision has no InterpolationMode.BOX for tensors, but for PIL images it has all of these
transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is not installed")


def picture(width, height, mode="RGB"):
    bands = 3 if mode == "RGB" else 1
    rows = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, bands))
    return Image.fromarray(rows.astype(np.uint8).squeeze()).convert(mode)


def reference(resize, crop, interpolation):
    steps = (
        []
        if resize is None
        else [transforms.Resize(resize, transforms.InterpolationMode(interpolation))]
    )
    steps += [] if crop is None else [transforms.CenterCrop(crop)]
    return transforms.Compose([*steps, transforms.ToTensor()])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(300, 260), (260, 300), (31, 90), (90, 31), (64, 64), (7, 5)])
@pytest.mark.parametrize(
    ("resize", "crop"),
    [(64, 56), (65, 56), (48, None), (None, 33), ((40, 50), (32, 48)), (20, 64), (None, None)],
)
def test_equals_torchvision_bit_for_bit(interpolation, size, resize, crop):
    image = picture(*size)
    wanted = reference(resize, crop, interpolation)(image)
    got = Transform(resize, crop, interpolation)(image)
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


def test_grey_and_palette_images_become_rgb():
    grey = picture(40, 30, "L")
    got = Transform(24, 20)(grey)
    assert got.shape == (3, 20, 20)
    assert torch.equal(got, reference(24, 20, "bilinear")(grey.convert("RGB")))
    assert Transform(24, 20).apply(grey).mode == "L"


def test_equals_torchvision_on_the_jpegs(art_ext_data):
    files = sorted((art_ext_data / "imagenet_samples").glob("*.jpg"))
    assert len(files) == 20
    for file in files:
        with Image.open(file) as image:
            for interpolation in ("bilinear", "bicubic"):
                wanted = reference(256, 224, interpolation)(image.convert("RGB"))
                assert torch.equal(Transform(256, 224, interpolation)(image), wanted), file.name


def test_shape_text_and_pickle():
    assert Transform(256, 224).shape == (224, 224)
    assert Transform((40, 50)).shape == (40, 50)
    assert Transform(256).shape is None
    assert str(Transform(256, 224, "bicubic")) == "resize 256 (bicubic), centre crop 224"
    assert str(Transform((40, 50))) == "resize 40x50 (bilinear)"
    assert str(Transform()) == "none"
    one = Transform([40, 50], 32)
    assert one == Transform((40, 50), 32) == pickle.loads(pickle.dumps(one))  # noqa: S301


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": 0}, "resize must be an integer >= 1, got 0"),
        ({"crop": (3, 0)}, "crop must be an integer >= 1, got 0"),
        ({"crop": (3, 3, 3)}, r"crop must be an integer or \(height, width\)"),
        ({"interpolation": "bicubik"}, "did you mean 'bicubic'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transform(**arguments)
