"""Originals, adversarials and perturbations as small images: tiles of the page, and one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import class_name
from art_ext.evaluation.analysis.examples import Examples, Found
from art_ext.evaluation.report.canvas import RUNS, STYLE, short, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_ext.evaluation.analysis.records import LoadedRun

SIDE = 64  # pixels of a tile; of larger images every k-th pixel is shown
LEVELS = 31  # of a difference with more pixels, which as noise takes more bytes than the image
# pixels of the file
LINE = 20
GAP = 10
MARGIN = 170
DPI = 100
RED = np.array([178, 24, 43]) / 255  # more than the original
GREY = "#8a9099"
BLUE = np.array([33, 102, 172]) / 255  # less than the original


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of the page.

    Attributes:
        pixels: (H, W) or (H, W, 3) uint8.
    """

    pixels: np.ndarray

    @cached_property
    def content(self) -> bytes:
        """The image file without loss: WebP, or PNG if the installed Pillow cannot write WebP."""
        from PIL import Image

        stream = io.BytesIO()
        options = {"lossless": True, "method": 1, "quality": 20} if self.kind == "webp" else {}
        Image.fromarray(self.pixels).save(stream, self.kind, **options)
        return stream.getvalue()

    @property
    def kind(self) -> str:
        """Format of the file."""
        from PIL import features

        return "webp" if features.check("webp") else "png"

    @property
    def source(self) -> str:
        """The file as a URL."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode('ascii')}"

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.pixels.shape[1]

    def enlarged(self, least: int) -> int:
        """Return the width at which the longer side has at least so many pixels.

        Small images grow by a whole factor. Others are scaled to that size.
        """
        side = max(self.pixels.shape[:2])
        factor = -(-least // side) if side <= SIDE else least / side
        return round(self.width * factor)

    @property
    def crisp(self) -> bool:
        """True if the page enlarges each pixel to a square."""
        return max(self.pixels.shape[:2]) <= SIDE


@dataclass(frozen=True, eq=False)
class Tile:
    """An adversarial of one sample.

    Attributes:
        image: the adversarial.
        change: its difference to the original, times ``factor``.
        factor: whole number by which the difference is magnified, so that the largest change has
            almost full strength.
        label: the predicted class.
        distance: from the original.
        success: True if it lies within eps.
    """

    image: Picture
    change: Picture
    factor: int
    label: str
    distance: float
    success: bool


@dataclass(frozen=True, eq=False)
class Sheet:
    """Samples of one model.

    Attributes:
        model: its name.
        originals: each sample's class and image.
        rows: for each attack its name, and a tile for each sample. The tile is None if no
            adversarial was found.
    """

    model: str
    originals: list[tuple[str, Picture]]
    rows: list[tuple[str, list[Tile | None]]]

    @property
    def weight(self) -> int:
        """Bytes of all its images."""
        tiles = [tile for _, row in self.rows for tile in row if tile is not None]
        pictures = [one for _, one in self.originals]
        pictures += [one for tile in tiles for one in (tile.image, tile.change)]
        return sum(len(one.content) for one in pictures)

    def first(self, count: int) -> Sheet:
        """Return the sheet of the first samples."""
        rows = [(name, tiles[:count]) for name, tiles in self.rows]
        return Sheet(self.model, self.originals[:count], rows)


def sheets(one: LoadedRun) -> list[Sheet]:
    """Pictures of samples of different classes with the adversarials of all attacks.

    Empty if the samples are not images or no adversarial was found.
    """
    examples = one.examples
    if examples is None or not are_images(one.run) or not any(examples.found.values()):
        return []
    models, attacks = (list(dict.fromkeys(names)) for names in zip(*examples.found, strict=True))
    return [
        make_sheet(
            one.run,
            examples,
            model,
            examples.index,
            {attack: examples.found.get((model, attack), {}) for attack in attacks},
        )
        for model in models
    ]


def are_images(run: Mapping[str, Any]) -> bool:
    """Return True if the samples of a run are images of one or three channels."""
    shape = run["data"]["shape"]
    return len(shape) == 3 and shape[0] in (1, 3)


def make_sheet(
    run: Mapping[str, Any],
    examples: Examples,
    model: str,
    positions: Sequence[int],
    rows: Mapping[str, Mapping[int, Found]],
    side: int = SIDE,
) -> Sheet:
    """Return a sheet of some samples of a run.

    Args:
        run: the facts of the run.
        examples: the samples that it kept.
        model: name of the model.
        positions: of the samples.
        rows: by name of a row, the adversarial by position.
        side: most pixels of an image. Of larger images every k-th pixel is shown.
    """
    names = run["data"]["class_names"]
    originals = {position: examples.originals[position].numpy() for position in positions}
    return Sheet(
        model,
        [
            (class_name(examples.labels[position], names), picture_of(image, run, side))
            for position, image in originals.items()
        ],
        [
            (
                row,
                [
                    tile_of(image, kept[position], run, side) if position in kept else None
                    for position, image in originals.items()
                ],
            )
            for row, kept in rows.items()
        ],
    )


def tile_of(image: np.ndarray, found: Found, run: Mapping[str, Any], side: int = SIDE) -> Tile:
    """Return the tile of an adversarial of an image (C, H, W)."""
    adversarial = found.x.numpy()
    lower, upper = run["settings"]["clip_values"]
    change = (adversarial - image) / (upper - lower)
    room = 1.0 if len(change) == 1 else 0.5  # up to full colour, or from grey to black or white
    factor = max(1, int(room / max(float(np.abs(change).max()), 1e-6) + 1e-3))
    strong = np.clip(_small(change, side) * factor, -room, room)
    if len(change) == 1:  # white is no change
        strength = np.abs(strong[0])[..., None]
        colours = 1 - strength * (1 - np.where(strong[0][..., None] > 0, RED, BLUE))
    else:  # grey is no change
        colours = 0.5 + strong.transpose(1, 2, 0)
        if max(strong.shape[1:]) > SIDE:
            colours = np.round(colours * LEVELS) / LEVELS
    return Tile(
        picture_of(adversarial, run, side),
        Picture(_bytes(colours)),
        factor,
        class_name(found.label, run["data"]["class_names"]),
        found.distance,
        found.success,
    )


def picture_of(image: np.ndarray, run: Mapping[str, Any], side: int = SIDE) -> Picture:
    """Return the picture of an image (C, H, W) in the box."""
    small = _small(in_unit_box(image, run), side)
    return Picture(_bytes(small[0] if len(small) == 1 else small.transpose(1, 2, 0)))


def in_unit_box(image: np.ndarray, run: Mapping[str, Any]) -> np.ndarray:
    """Return an image of the run's box in [0, 1]."""
    lower, upper = run["settings"]["clip_values"]
    scaled: np.ndarray = (image - lower) / (upper - lower)
    return scaled


def _small(image: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W), every k-th pixel, at most ``side`` a side.

    An average would hide a perturbation that alternates.
    """
    step = -(-max(image.shape[1:]) // side)
    return image[:, ::step, ::step]


def _bytes(colours: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = (255 * np.clip(colours, 0, 1) + 0.5).astype(np.uint8)
    return pixels


def mosaic(pictures: Sequence[Sheet], side: int = SIDE, none: str = "none") -> bytes:
    """All sheets below each other in one PNG file, with names.

    Args:
        pictures: the sheets.
        side: most pixels of an image in the file.
        none: text where there is no adversarial.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = max(len(sheet.originals) for sheet in pictures)
    width = MARGIN + columns * (2 * side + GAP)
    height = sum(LINE + (1 + len(sheet.rows)) * (side + LINE) for sheet in pictures) + GAP
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    with rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        top = 0
        for sheet in pictures:
            top = _paste_sheet(canvas, axes, sheet, top, side, none)
        axes.set(xlim=(0, width), ylim=(height, 0))
        figure.figimage(canvas, origin="upper", zorder=-1)  # without resampling
        return to_png(figure, compress_type=RUNS)


def _paste_sheet(
    canvas: np.ndarray, axes: Axes, sheet: Sheet, top: int, side: int, none: str
) -> int:
    """Put a sheet onto the canvas and return the line below it."""
    axes.text(
        GAP, top + LINE / 2 + 4, short(sheet.model, 100), fontweight="bold", fontsize=9, va="center"
    )
    top += LINE
    lefts = [MARGIN + column * (2 * side + GAP) for column in range(len(sheet.originals))]
    for left, (label, image) in zip(lefts, sheet.originals, strict=True):
        _paste(canvas, axes, image, top + LINE, left, side, short(label, 20))
    _name(axes, "original", top + LINE, side)
    for row, tiles in sheet.rows:
        top += LINE + side
        _name(axes, short(row, 24), top + LINE, side)
        for left, tile in zip(lefts, tiles, strict=True):
            if tile is None:
                x, y = left + side, top + LINE + side / 2
                axes.text(x, y, none, color=GREY, ha="center", va="center")
                continue
            colour = "black" if tile.success else GREY
            said = f"{short(tile.label, 14)} at {tile.distance:.3f}"
            _paste(canvas, axes, tile.image, top + LINE, left, side, said, colour)
            factor = f"x {tile.factor}"
            _paste(canvas, axes, tile.change, top + LINE, left + side, side, factor, GREY)
    return top + LINE + side


def _name(axes: Axes, text: str, top: int, side: int) -> None:
    axes.text(MARGIN - GAP, top + side / 2, text, ha="right", va="center")


def _paste(
    canvas: np.ndarray,
    axes: Axes,
    picture: Picture,
    top: int,
    left: int,
    side: int,
    title: str,
    colour: str = "black",
) -> None:
    """Enlarge a picture by a whole number and put it onto the canvas, its title above it."""
    times = max(1, side // max(picture.pixels.shape[:2]))
    large = np.repeat(np.repeat(picture.pixels, times, axis=0), times, axis=1)
    rows, columns = large.shape[:2]
    canvas[top : top + rows, left : left + columns] = large if large.ndim == 3 else large[..., None]
    axes.text(left, top - 3, title, color=colour)
