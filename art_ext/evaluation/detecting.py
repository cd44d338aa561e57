"""One detector for one model: fitted, calibrated, measured on held-out images, and applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.detection.base import LEAST_CALIBRATION, Detector
from art_ext.core.detection.calibration import ENOUGH, HeldOutRate, drawn, held_out_rate
from art_ext.core.detection.registry import DetectorSpec, make_detector
from art_ext.core.metrics.detection import Rate
from art_ext.core.oracle import Model
from art_ext.core.outputs import predicted_classes
from art_ext.core.wording import counted
from art_ext.data import Samples
from art_ext.data.arrays import DAMAGE, damage_of
from art_ext.data.dataset import Dataset, dataset_from_arrays
from art_ext.evaluation.analysis.table import csv_rows
from art_ext.storage.files import write_atomically

HELD_OUT = 4000  # clean images that a rate is measured on, at most
ROWS = 1024  # images that are read at once


@dataclass(frozen=True)
class Prepared:
    """A fitted and calibrated detector, and its rate on clean images that it has not seen.

    Attributes:
        detector: with its threshold.
        calibration: number of images that the threshold was set on.
        rate: on held-out images.
    """

    detector: Detector
    calibration: int
    rate: HeldOutRate

    @property
    def warnings(self) -> list[str]:
        """Sentences on what makes the threshold doubtful."""
        found = []
        if self.calibration < ENOUGH:
            found.append(
                f"few-calibration-images: the threshold comes from"
                f" {counted(self.calibration, 'image')}, and is not reliable below {ENOUGH:,}"
            )
        if self.rate.excludes:
            found.append(
                f"false-positive-rate: wanted {100 * self.rate.wanted:g} %, and held-out images"
                f" show {self.rate.every}: calibrate on more images, drawn at random"
            )
        return found


def prepare_detector(
    spec: DetectorSpec,
    arguments: Mapping[str, Any],
    model: Model,
    *,
    fit_data: Samples | None,
    calibration_data: Samples,
    calibration: int = ENOUGH,
    fpr: float = 0.05,
    seed: int = 0,
    outputs: str = "logits",
    device: str | None = None,
) -> Prepared:
    """Fit a detector, set its threshold, and measure its false-positive rate on other images.

    Args:
        spec: the detector.
        arguments: of its class.
        model: a network or another callable.
        fit_data: clean training data. None: the detector needs none.
        calibration_data: clean images that the model was not trained on. At most 60 %, drawn
            at random, set the threshold. Of the others at most 4,000 measure the rate.
        calibration: most images that set the threshold. Default: 1,000.
        fpr: wanted false-positive rate. Default: 0.05.
        seed: key of the draw. Default: 0.
        outputs: what the model returns.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: if the detector cannot be fitted or calibrated.
    """
    check_count("calibration", calibration, least=LEAST_CALIBRATION)
    detector = make_detector(spec.kind, arguments)
    x, y = None, None
    if spec.kind.needs_data:
        if fit_data is None:
            raise ValueError(f"the detector {spec.name} learns from training data: give fit-data")
        x, y = fit_data.rows(0, len(fit_data))
    detector.fit(model, x, y, outputs=outputs, device=device)
    total = len(calibration_data)
    count = min(calibration, 3 * total // 5)
    places = drawn(total, min(total, count + HELD_OUT), seed)
    images = calibration_data.take(places[:count])
    detector.calibrate(images.rows(0, count)[0], fpr)
    found = list(scored(detector, calibration_data.take(places[count:])))
    rejected = ~detector.accepts(torch.cat([one.scores for one in found]))
    correct = torch.cat([one.predictions == one.labels for one in found])
    return Prepared(detector, count, held_out_rate(rejected, fpr, correct))


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of R images, on the CPU.

    Attributes:
        scores: (R,) float32.
        predictions: (R,) int64 classes.
        labels: (R,) int64 true classes, or zeros if they are not known.
    """

    scores: Tensor
    predictions: Tensor
    labels: Tensor


def scored(detector: Detector, data: Samples) -> Iterator[Scored]:
    """Yield scores and predictions of a data set, in parts."""
    for start in range(0, len(data), ROWS):
        x, y = data.rows(start, min(start + ROWS, len(data)))
        found = detector.answers(x)
        predictions = predicted_classes(found.outputs, detector.outputs)
        yield Scored(found.scores.cpu(), predictions.cpu(), y)


@dataclass(frozen=True)
class Detected:
    """Result of a detector on a data set.

    Attributes:
        rows: columns ``index, score, rejected, prediction`` and, if it is known, ``label``.
        rejected: of all images.
        correct, wrong: of the correctly classified and of the misclassified images. None if the
            classes are not known.
    """

    rows: list[dict[str, Any]]
    rejected: Rate
    correct: Rate | None
    wrong: Rate | None

    def write(self, file: Path) -> None:
        """Write the rows as CSV. The write is atomic."""
        write_atomically(file, csv_rows(list(self.rows[0]), self.rows).encode("utf-8"))


def detect(detector: Detector, data: Samples, *, labelled: bool) -> Detected:
    """Score each image of a data set, and reject those above the threshold.

    Args:
        detector: fitted and calibrated.
        data: the images.
        labelled: True if the labels of the data set are true classes.
    """
    parts = list(scored(detector, data))
    scores = torch.cat([part.scores for part in parts])
    predictions = torch.cat([part.predictions for part in parts])
    labels = torch.cat([part.labels for part in parts])
    rejected = ~detector.accepts(scores)
    columns: dict[str, list[Any]] = {
        "index": list(range(len(scores))),
        "score": scores.tolist(),
        "rejected": rejected.tolist(),
        "prediction": predictions.tolist(),
    }
    if labelled:
        columns["label"] = labels.tolist()
    right = predictions == labels
    return Detected(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        Rate.of(rejected),
        Rate.of(rejected[right]) if labelled else None,
        Rate.of(rejected[~right]) if labelled else None,
    )


def read_unlabelled(file: Path) -> Dataset | None:
    """Return the images of a NumPy file that holds no labels, or None for any other data.

    Args:
        file: ``.npy`` without labels beside it, or ``.npz`` with one array.

    Raises:
        ValueError: if the file is damaged.
    """
    lone = file.suffix == ".npy" and not file.with_name(f"{file.stem}_labels.npy").is_file()
    if not file.is_file() or not (lone or file.suffix == ".npz"):
        return None
    try:
        with file.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.ndarray):
                names = content.files
                if len(names) != 1:
                    return None
                content = content[names[0]]
    except DAMAGE as error:
        raise ValueError(
            f"{file} must be a NumPy file of plain arrays: {damage_of(error)}"
        ) from error
    return dataset_from_arrays(file.stem, content, np.zeros(len(content), dtype=np.int64))
