"""Presets: the settings of a paper in one TOML file, for ``art-ext train --preset``.

A file holds the options of ``art-ext train`` by their names, without data and folder, and a table
``about`` with the paper, its data set and the number of training samples. A new preset is a new
file in this folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from art_ext.configuration.files import laid_over, layered
from art_ext.configuration.parsing import read_toml
from art_ext.configuration.training import LENGTHS, TrainingConfig
from art_ext.core.checks import nearest

__all__ = ["Preset", "find_preset", "over_preset", "preset_names"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, eq=False)
class Preset:
    """Settings of a paper.

    Attributes:
        name: that of its file.
        paper: the publication, as ``"Authors. Title. Venue year."``
        data: name of the data set of the paper.
        samples: number of its training samples.
        values: values by the names of ``TrainingConfig``.
    """

    name: str
    paper: str
    data: str
    samples: int
    values: Mapping[str, Any]


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        ValueError: for an unknown name. The nearest one is named.
    """
    names = preset_names()
    if name not in names:
        raise ValueError(
            f"unknown preset {name!r}{nearest(name, names)}. art-ext presets lists all"
        )
    content = read_toml(FOLDER / f"{name}.toml")
    about = content.pop("about")
    return Preset(name=name, values=layered(TrainingConfig, content, None), **about)


def over_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values over those of the preset that they name, without its name.

    Tables of arguments are merged key by key.

    Raises:
        ValueError: as ``find_preset``.
    """
    own = {name: value for name, value in values.items() if name != "preset"}
    if "preset" not in values:
        return own
    behind = find_preset(values["preset"]).values
    return laid_over(TrainingConfig, own, behind, [LENGTHS], merged=True)
