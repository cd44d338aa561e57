"""False-positive rates of all detectors on held-out clean images, at five random splits.

Run with ``python -m art_ext.benchmarks.detector_rates``. Each detector is fitted once. At each
split a threshold at 5 % is set on images that are drawn at random, and measured on others. MNIST
needs ART_EXT_DATA.
"""

from __future__ import annotations

import argparse
from statistics import mean

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import network, print_versions
from art_ext.core.detection import make_detector, registry
from art_ext.core.detection.calibration import drawn
from art_ext.core.metrics.detection import Rate
from art_ext.core.thresholds import threshold_of
from art_ext.data import Samples, load_data
from art_ext.models import digits_cnn

FPR = 0.05
SPLITS = 5
TRAINING = 12_000  # images that a detector learns from, at most
SIZES = {"digits": (300, 200), "mnist": (1000, 4000)}  # calibration and held-out images
ALLOWED = {"digits": (0.03, 0.08), "mnist": (0.04, 0.06)}


def main() -> None:
    """Print the rate at each split, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=tuple(SIZES), default="digits")
    data = parser.parse_args().data
    print_versions()
    train = load_data(data, split="train").first(TRAINING)
    test = load_data(data)
    model = trained(train) if data == "digits" else network("mnist_carlini_cnn_fw")[0]
    x, y = train.rows(0, len(train))
    for name in registry.names():
        detector = make_detector(name).fit(model, x, y)
        scores = detector.score(test.rows(0, len(test))[0])
        shares = [rate(scores, data, split).share for split in range(SPLITS)]
        low, high = ALLOWED[data]
        verdict = "inside" if low <= mean(shares) <= high else "OUTSIDE"
        values = " ".join(f"{100 * share:.2f}" for share in shares)
        print(f"{name:20} {values}  mean {100 * mean(shares):.2f} %, {verdict} {low}..{high}")


def trained(data: Samples) -> nn.Module:
    """Return a network that is trained on digits."""
    torch.manual_seed(0)
    model = digits_cnn()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = data.rows(0, len(data))
    for _ in range(20):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval()


def rate(scores: Tensor, data: str, split: int) -> Rate:
    """Return the rate of rejections on held-out images, at a random split of clean scores (N,)."""
    calibration, held_out = SIZES[data]
    places = drawn(len(scores), calibration + held_out, split)
    threshold = threshold_of(scores[places[:calibration]], FPR)
    return Rate.of(scores[places[calibration:]] > threshold)


if __name__ == "__main__":
    main()
