"""The options of ``art-ext generator train`` and ``art-ext generator sample``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.files import complete, layered, require
from art_ext.configuration.options import COMMAND, check_options, documented, option

# by data set; the other numbers suit images of any origin
BY_DATA: Mapping[str, Mapping[str, int]] = {
    "digits": {"epochs": 120, "latent_dim": 16},
    "mnist": {"epochs": 6, "latent_dim": 64},
}


def _by_data(name: str, other: int) -> str:
    """Return the sentence on the default of an option that depends on the data."""
    own = ", ".join(f"{values[name]} for {data}" for data, values in BY_DATA.items())
    return f"By default {own}, else {other}."


_update = partial(option, panel="Weight updates")


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options of the training of a generator that do not depend on a run folder."""

    epochs: int = option(20, f"Passes over the data. {_by_data('epochs', 20)}", range=">= 1")
    latent_dim: int = option(64, f"Number of latents. {_by_data('latent_dim', 64)}", range=">= 1")
    width: int = option(
        32,
        "Channels between the two convolutions of the generator, and of the discriminator's"
        " first one.",
        range=">= 1",
    )
    seed: int = option(0, "Seed of every random number.", range=">= 0")
    batch_size: int = _update(
        64, "Rows of a minibatch of real or of generated images.", range=">= 2"
    )
    learning_rate: float = _update(1e-3, "Learning rate of the generator.", range="> 0")
    discriminator_rate: float = _update(5e-4, "Learning rate of the discriminator.", range="> 0")
    real_target: float = _update(
        0.9, "Target of the discriminator for real images, in place of 1.", range="> 0"
    )
    class_weight: float = _update(
        1.0, "Weight of the wanted class in the generator's loss.", range=">= 0"
    )
    device: str | None = _update(
        None, f"{shared.DEVICE.help} By default a GPU where there is one.", decides=""
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.real_target > 1:
            raise ValueError(f"real_target must be at most 1, got {self.real_target}")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(DataOptions, GeneratorOptions):
    """All options of a training of a generator."""

    data: str = option(MISSING, shared.with_more(shared.DATA, "It holds both splits."))
    out: str = option(
        MISSING,
        "Run folder: new or empty, or an earlier one with --resume.",
        hosts=COMMAND,
        metavar="FOLDER",
    )
    n: int | None = option(None, "Take the first n training samples.", range=">= 1")
    config: Path | None = option(None, shared.CONFIG)
    resume: bool = option(
        False, "Go on from the newest checkpoint, if there is one.", hosts=COMMAND, decides=""
    )
    quiet: bool = option(False, shared.QUIET)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """All options of a file of generated images."""

    generator: str = option(
        MISSING,
        "Generator of the images: the folder of art-ext generator train, FILE.py:FACTORY[@WEIGHTS],"
        " MODULE:FACTORY[@WEIGHTS] or an entry point of art_ext.models.",
        hosts=("cli", "toml"),
        metavar="RUN",
    )
    out: Path = option(MISSING, "File of the images, a new one.", hosts=COMMAND, metavar="FILE.npz")
    n: int = option(60_000, "Number of images, of all classes in turn.", range=">= 1")
    test_n: int | None = option(
        None,
        "Number of further images for the test split (default n / 6). 0: none, the n images are the"
        " test split.",
        range=">= 0",
    )
    seed: int = option(0, shared.SEED)
    batch_size: int = option(1000, "Most images in one call of the generator.", range=">= 1")
    image_range: tuple[float, float] = option(
        (0.0, 1.0),
        "Range of the generator's own images, which is mapped to 0,1: lower,upper, such as -1,1.",
        shown="0,1",
    )
    device: str | None = option(None, shared.DEVICE)
    overwrite: bool = option(False, "Replace the file if it exists.", hosts=COMMAND)
    quiet: bool = option(False, shared.QUIET)

    def __post_init__(self) -> None:
        from art_ext.core.checks import check_range

        check_options(self)
        check_range("image_range", self.image_range)


GeneratorOptions.__doc__ = f"{GeneratorOptions.__doc__}\n\n{documented(GeneratorOptions)}"


def resolve_generator(
    given: Mapping[str, Any], file: Path | None = None, **own: Any
) -> GeneratorConfig:
    """Build the options of a training from given values, a TOML file and the defaults.

    Args:
        given: values by the names of ``GeneratorConfig``.
        file: TOML file of the same names.
        **own: the options that only the command line has.

    Raises:
        ValueError: for unknown names, and values that do not fit.
    """
    from art_ext.data.loading import data_name

    values = layered(GeneratorConfig, given, file)
    require(values, ("data",))
    values["data"] = data_name(values["data"]) or values["data"]
    values = {**BY_DATA.get(values["data"], {}), **values}
    return GeneratorConfig(**complete(GeneratorConfig, values), **own)


def resolve_sample(given: Mapping[str, Any], **own: Any) -> SampleConfig:
    """Build the options of a file of generated images from given values and the defaults.

    Args:
        given: values by the names of ``SampleConfig``.
        **own: the options that only the command line has.

    Raises:
        ValueError: for values that do not fit.
    """
    values = layered(SampleConfig, given, None)
    require(values, ("generator",))
    return SampleConfig(**complete(SampleConfig, values), **own)
