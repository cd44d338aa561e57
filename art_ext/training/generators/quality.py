"""Quality of a generator: do its images show the classes, and as many forms as real ones?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.limits import Generator
from art_ext.core.networks import model_device
from art_ext.data import Dataset
from art_ext.training.generators.sampling import sample

PER_CLASS = 500  # generated images that agreement, spread and distance are measured on
NEAREST = 1000  # images whose nearest real image is searched
ROWS = 150_000  # that a classifier is trained on, counted over its epochs
TRAINED_ON = (10_000, 60_000)  # generated images to train a classifier on: at least, at most
BATCH = 500


def measure_quality(
    generator: Generator, train: Dataset, test: Dataset, *, seed: int = 0
) -> dict[str, Any]:
    """Measure the images of a generator beside real ones.

    Args:
        generator: module or callable of latents z (N, d) and classes y (N,), with ``latent_dim``
            and ``num_classes``.
        train: the real images that it was trained on.
        test: real images that it has not seen.
        seed: seed of the latents and of the classifiers.

    Returns:
        JSON values. ``agreement``: share of generated images that a classifier, trained on the real
        ones, assigns to the class that was wanted, overall and by class.
        ``reference_accuracy``: its accuracy on the real test images. ``spread``: standard deviation
        of a pixel within a class, averaged over pixels, over that of the real images, by class,
        with the smallest and the mean. A class with fewer than two real images has none.
        ``nearest_real``: mean L2 distance of generated images to the nearest real training image,
        and ``nearest_real_of_real`` that of real test images. ``transfer_accuracy``: accuracy on
        the real test images of a classifier that is trained on generated ones.
    """
    device = model_device(generator, None, torch.device("cpu"))
    classes = generator.num_classes
    images = sample(generator, PER_CLASS * classes, seed=seed)
    x = images.x
    y = images.y
    reference = _classifier(train.x, train.y, classes, seed, device)
    agrees = (_labels(reference, x) == y).view(PER_CLASS, classes).float()
    spread = [_spread(x[y == label], train.x[train.y == label]) for label in range(classes)]
    known = [one for one in spread if one is not None]
    return {
        "agreement": float(agrees.mean()),
        "agreement_by_class": agrees.mean(0).tolist(),
        "reference_accuracy": _accuracy(reference, test),
        "spread": {
            "smallest": min(known, default=None),
            "mean": sum(known) / len(known) if known else None,
            "by_class": spread,
        },
        "nearest_real": _nearest(x[:NEAREST], train.x, device),
        "nearest_real_of_real": _nearest(test.x[:NEAREST], train.x, device),
        "transfer_accuracy": _transfer(generator, len(train), test, seed, device),
        "images": len(x),
        "seed": seed,
    }


# --- the classifiers that judge ---


def _classifier(x: Tensor, y: Tensor, classes: int, seed: int, device: torch.device) -> nn.Module:
    """Return a small network that is trained naturally."""
    from art_ext.training.loop import train

    model = _network(x.shape[1:], classes, seed).to(device)
    epochs = min(30, max(3, round(ROWS / len(x))))
    train(
        model,
        (x, y),
        "natural",
        epochs=epochs,
        batch_size=128,
        optimizer="adam",
        learning_rate=4e-3,
        weight_decay=0.0,
        schedule="cyclic",
        seed=seed,
        drop_last=len(x) > 128,
        device=device,
    )
    return model.eval()


def _network(shape: Sequence[int], classes: int, seed: int) -> nn.Sequential:
    """Return a small network of another form than the discriminator, for images (C, H, W)."""
    from art_ext.models.sources.libraries import seeded

    channels, height, width = shape
    stride = 2 if min(height, width) >= 16 else 1
    features = 32 * (height // (2 * stride)) * (width // (2 * stride))
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=stride, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(features, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )


def _labels(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted classes (N,) of images, on the CPU."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([model(part.to(device)).argmax(1) for part in x.split(BATCH)]).cpu()


def _accuracy(model: nn.Module, test: Dataset) -> float:
    return float((_labels(model, test.x) == test.y).float().mean())


def _transfer(
    generator: Generator, real: int, test: Dataset, seed: int, device: torch.device
) -> float:
    """Return the accuracy on real images of a classifier that has seen generated ones only."""
    least, most = TRAINED_ON
    # other images than those that agreement and spread are measured on
    images = sample(generator, min(max(real, least), most), seed=seed, first=PER_CLASS)
    model = _classifier(images.x, images.y, generator.num_classes, seed, device)
    return _accuracy(model, test)


# --- spread and distance ---


def _spread(x: Tensor, real: Tensor) -> float | None:
    """Return the mean standard deviation of a pixel over that of real images of the class."""
    if len(real) < 2:
        return None
    own, other = (float(one.std(0).mean()) for one in (x, real))
    return own / other if other else None


def _nearest(x: Tensor, real: Tensor, device: torch.device) -> float:
    """Return the mean L2 distance of images to the nearest real one."""
    rows = real.flatten(1).to(device)
    parts = x.flatten(1).to(device).split(BATCH)
    nearest = [torch.cdist(part, rows).amin(1) for part in parts]
    return float(torch.cat(nearest).mean())
