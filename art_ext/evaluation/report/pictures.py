"""Originals, adversarials and perturbations as small images: tiles of the page, and one file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import class_name
from art_ext.evaluation.analysis.examples import COLUMNS, Examples, Found
from art_ext.evaluation.report.canvas import STYLE, short, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_ext.evaluation.analysis.records import LoadedRun

SIDE = 64  # pixels of a tile; of larger images every k-th pixel is shown
# pixels of the file
LINE = 20
GAP = 10
MARGIN = 170
DPI = 100
RED = np.array([178, 24, 43]) / 255  # more than the original
BLUE = np.array([33, 102, 172]) / 255  # less than the original


@dataclass(frozen=True, eq=False)
class Tile:
    """An adversarial of one sample.

    Attributes:
        image: (H, W) or (H, W, 3) uint8.
        change: (H, W, 3) uint8, its difference to the original, magnified.
        label: the predicted class.
        distance: from the original.
        success: True if it lies within eps.
    """

    image: np.ndarray
    change: np.ndarray
    label: str
    distance: float
    success: bool


@dataclass(frozen=True, eq=False)
class Sheet:
    """The samples of one model.

    Attributes:
        model: its name.
        originals: each sample's class and image.
        rows: for each attack its name, the change that is shown at full strength, and a tile for
            each sample. The change is None if no adversarial was found, and so is the tile.
    """

    model: str
    originals: list[tuple[str, np.ndarray]]
    rows: list[tuple[str, float | None, list[Tile | None]]]


def sheets(one: LoadedRun, models_together: int = 1) -> list[Sheet]:
    """Pictures of a run. Empty if the samples are not images or no adversarial was found.

    Args:
        one: the run.
        models_together: number of models in the report. With more models, fewer samples of each are
            shown.
    """
    examples = one.examples
    shape = one.run["data"]["shape"]
    if (
        examples is None
        or len(shape) != 3
        or shape[0] not in (1, 3)
        or not any(examples.found.values())
    ):
        return []
    models, attacks = (list(dict.fromkeys(names)) for names in zip(*examples.found, strict=True))
    shown = _shown(examples, max(2, COLUMNS // models_together))
    scales = {attack: max(_changes(examples, attack, shown), default=None) for attack in attacks}
    return [_sheet(examples, model, shown, scales, one.run) for model in models]


def _sheet(
    examples: Examples,
    model: str,
    shown: Sequence[int],
    scales: Mapping[str, float | None],
    run: Mapping[str, Any],
) -> Sheet:
    names = run["data"]["class_names"]
    rows: list[tuple[str, float | None, list[Tile | None]]] = []
    for attack, scale in scales.items():
        kept = examples.found.get((model, attack), {})
        found = [(examples.originals[position].numpy(), kept.get(position)) for position in shown]
        tiles = [
            None if one is None else _tile(image, one, scale or 0.0, names, run)
            for image, one in found
        ]
        rows.append((attack, scale, tiles))
    originals = [
        (
            class_name(examples.labels[position], names),
            _pixels(examples.originals[position].numpy(), run),
        )
        for position in shown
    ]
    return Sheet(model, originals, rows)


def _shown(examples: Examples, most: int) -> list[int]:
    """At most ``most`` samples with the most adversarials, in their own order."""
    finds = {
        position: sum(position in kept for kept in examples.found.values())
        for position in examples.index
    }
    best = sorted(examples.index, key=lambda position: -finds[position])[:most]
    return [position for position in examples.index if position in best]


def _changes(examples: Examples, attack: str, shown: Sequence[int]) -> list[float]:
    """Largest change of a coordinate in each shown adversarial of the attack, over all models."""
    return [
        float((found.x - examples.originals[position]).abs().max())
        for (_, name), kept in examples.found.items()
        if name == attack
        for position, found in kept.items()
        if position in shown
    ]


def _tile(
    image: np.ndarray,
    found: Found,
    scale: float,
    names: Sequence[str] | None,
    run: Mapping[str, Any],
) -> Tile:
    adversarial = found.x.numpy()
    change = _small((adversarial - image) / max(scale, 1e-12))
    if len(change) == 1:  # white is no change
        strength = np.abs(change[0])[..., None]
        colours = 1 - strength * (1 - np.where(change[0][..., None] > 0, RED, BLUE))
    else:  # grey is no change
        colours = 0.5 + change.transpose(1, 2, 0) / 2
    label = class_name(found.label, names)
    return Tile(_pixels(adversarial, run), _bytes(colours), label, found.distance, found.success)


def _pixels(image: np.ndarray, run: Mapping[str, Any]) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of an image (C, H, W) in the box."""
    lower, upper = run["settings"]["clip_values"]
    small = _small((image - lower) / (upper - lower))
    return _bytes(small[0] if len(small) == 1 else small.transpose(1, 2, 0))


def _small(image: np.ndarray) -> np.ndarray:
    """(C, H, W), every k-th pixel, at most ``SIDE`` a side.

    An average would hide a perturbation that alternates.
    """
    step = -(-max(image.shape[1:]) // SIDE)
    return image[:, ::step, ::step]


def _bytes(colours: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = (255 * np.clip(colours, 0, 1) + 0.5).astype(np.uint8)
    return pixels


def encode(pixels: np.ndarray) -> bytes:
    """Content of a PNG file with these pixels."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def mosaic(pictures: Sequence[Sheet]) -> bytes:
    """All sheets below each other in one PNG file, with names."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = max(len(sheet.originals) for sheet in pictures)
    width = MARGIN + columns * (2 * SIDE + GAP)
    height = sum(LINE + (1 + len(sheet.rows)) * (SIDE + LINE) for sheet in pictures) + GAP
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    with rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        top = 0
        for sheet in pictures:
            top = _paste_sheet(canvas, axes, sheet, top)
        axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
        return to_png(figure)


def _paste_sheet(canvas: np.ndarray, axes: Axes, sheet: Sheet, top: int) -> int:
    """Put a sheet onto the canvas and return the line below it."""
    axes.text(
        GAP, top + LINE / 2 + 4, short(sheet.model, 100), fontweight="bold", fontsize=9, va="center"
    )
    top += LINE
    for column, (label, image) in enumerate(sheet.originals):
        _paste(
            canvas,
            axes,
            image,
            top + LINE,
            MARGIN + column * (2 * SIDE + GAP),
            short(label, 20),
            "black",
        )
    _name(axes, "original", top + LINE)
    for attack, scale, tiles in sheet.rows:
        top += LINE + SIDE
        _name(axes, short(attack, 24) + ("" if scale is None else f"\n±{scale:.2g}"), top + LINE)
        for column, tile in enumerate(tiles):
            left = MARGIN + column * (2 * SIDE + GAP)
            if tile is None:
                axes.text(
                    left + SIDE,
                    top + LINE + SIDE / 2,
                    "none found",
                    color="#8a9099",
                    ha="center",
                    va="center",
                )
            else:
                said = f"{short(tile.label, 14)} at {tile.distance:.3f}"
                _paste(
                    canvas,
                    axes,
                    tile.image,
                    top + LINE,
                    left,
                    said,
                    "black" if tile.success else "#8a9099",
                )
                _paste(canvas, axes, tile.change, top + LINE, left + SIDE)
    return top + LINE + SIDE


def _name(axes: Axes, text: str, top: int) -> None:
    axes.text(MARGIN - GAP, top + SIDE / 2, text, ha="right", va="center")


def _paste(
    canvas: np.ndarray,
    axes: Axes,
    pixels: np.ndarray,
    top: int,
    left: int,
    title: str = "",
    colour: str = "black",
) -> None:
    """Enlarge a tile by a whole number and put it onto the canvas, its title above it."""
    times = SIDE // max(pixels.shape[:2])
    large = np.repeat(np.repeat(pixels, times, axis=0), times, axis=1)
    rows, columns = large.shape[:2]
    canvas[top : top + rows, left : left + columns] = large if large.ndim == 3 else large[..., None]
    axes.text(left, top - 3, title, color=colour)
