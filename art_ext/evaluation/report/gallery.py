"""The samples of each model that a report shows, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.evaluation.analysis.blocks import NORMS
from art_ext.evaluation.analysis.examples import COLUMNS, Examples, choose_by_verdict
from art_ext.evaluation.analysis.radii import has_detector
from art_ext.evaluation.report.pictures import Picture, Sheet, Tile, are_images, make_sheet

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.blocks import Blocks
    from art_ext.evaluation.analysis.records import LoadedRun

LARGE = 224  # pixels of an image; of larger images every k-th pixel is shown
MOST_BYTES = 2_000_000  # of all images; base64 makes a third more of them
# samples of a model and pixels of an image, in the order in which they are tried
SIZES = ((COLUMNS, LARGE), (4, LARGE), (2, LARGE), (2, 64))
NEAREST = "nearest adversarial"


@dataclass(frozen=True, eq=False)
class Example:
    """One sample of a model.

    Attributes:
        position: of the sample in the data.
        label: name of its class.
        original: the sample.
        nearest: its nearest adversarial inside eps. None: no attack succeeded.
        attack: that found it.
        outside: of a sample without a success, the attack that found the nearest adversarial, and
            its distance. None: no attack found any.
    """

    position: int
    label: str
    original: Picture
    nearest: Tile | None
    attack: str
    outside: tuple[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Gallery:
    """The samples of one model: first those with a success, then those without one.

    Attributes:
        model: its name.
        eps: the largest radius.
        norm: of the radius, in words.
        examples: at most six.
        sheet: the same samples as one row of pictures.
        attacks: thumbnails of the adversarials of all attacks.
        most: samples that were wanted.
        thinned: most pixels of a side, if larger images lost pixels. 0: they lost none.
    """

    model: str
    eps: float
    norm: str
    examples: list[Example]
    sheet: Sheet
    attacks: Sheet
    most: int
    thinned: int

    @property
    def weight(self) -> int:
        """Bytes of all its images."""
        tiles = [
            tile for sheet in (self.sheet, self.attacks) for _, row in sheet.rows for tile in row
        ]
        pictures = [one for _, one in self.sheet.originals]
        pictures += [one for tile in tiles if tile for one in (tile.image, tile.change)]
        return sum(len(one.content) for one in pictures)


def galleries(loaded: Sequence[LoadedRun]) -> list[Gallery]:
    """Examples of all models of some runs.

    Of many models with large images fewer samples are shown, so that the page stays small.
    """
    found: list[Gallery] = []
    for most, side in SIZES:
        found = [
            gallery
            for one in loaded
            if one.examples is not None and are_images(one.run)
            for model in one.examples.chosen
            if (gallery := _gallery(one, one.examples, model, most, side)).examples
        ]
        if sum(gallery.weight for gallery in found) <= MOST_BYTES:
            break
    return found


def _gallery(one: LoadedRun, examples: Examples, model: str, most: int, side: int) -> Gallery:
    chosen = choose_by_verdict(examples.chosen[model].broken, examples.chosen[model].held, most)
    attacks = one.blocks.attacks(model)
    nearest, finders = {}, {}
    for position in chosen.broken:
        found = examples.nearest(model, attacks, position)
        if found is not None:
            nearest[position] = found
            finders[position] = next(
                attack
                for attack in attacks
                if examples.found.get((model, attack), {}).get(position) is found
            )
    positions = (*chosen.broken, *chosen.held)
    sheet = make_sheet(one.run, examples, model, positions, {NEAREST: nearest}, side)
    every = {attack: examples.found.get((model, attack), {}) for attack in attacks}
    return Gallery(
        model,
        max(one.run["settings"]["eps"]),
        NORMS[one.run["settings"]["norm"]],
        [
            Example(
                position,
                label,
                original,
                tile,
                finders.get(position, ""),
                None if tile else _outside(one.blocks, model, position),
            )
            for position, (label, original), tile in zip(
                positions, sheet.originals, sheet.rows[0][1], strict=True
            )
        ],
        sheet,
        make_sheet(
            one.run,
            examples,
            model,
            chosen.broken,
            {
                attack: kept
                for attack, kept in every.items()
                if any(position in kept for position in chosen.broken)
            },
        ),
        most,
        side if max(one.run["data"]["shape"]) > side else 0,
    )


def _outside(blocks: Blocks, model: str, position: int) -> tuple[str, float] | None:
    """Return the attack that found the nearest adversarial of a sample, and its distance."""
    if has_detector(blocks, model):  # which may reject it
        return None
    found = [
        (float(blocks.column(key, "nearest_distance")[row]), key[1])
        for key in blocks.keys(model)
        for row in np.flatnonzero(blocks.column(key, "index") == position)
    ]
    distance, attack = min(
        ((distance, attack) for distance, attack in found if np.isfinite(distance)),
        default=(np.inf, ""),
    )
    return (attack, distance) if attack else None
