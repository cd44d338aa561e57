"""Inputs of attacks besides model and samples: a generator and latents."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from art_ext.core.limits.generator import Generator
from art_ext.core.networks import usable_device
from art_ext.data import Samples

logger = logging.getLogger("art_ext")


@dataclass(frozen=True, eq=False)
class Resources:
    """Inputs of attacks besides model and samples.

    Attributes:
        generator: a callable from latents (N, d) and classes (N,) to images (N, *S). None: there is
            none.
        latents: (N, d) those from which the generator made the samples. None: they are not known.
    """

    generator: Any = None
    latents: Tensor | None = None

    def rows(self, index: Tensor | slice) -> Resources:
        """Return the resources of the samples at these positions."""
        return self if self.latents is None else replace(self, latents=self.latents[index])


NO_RESOURCES = Resources()


@dataclass(frozen=True, eq=False)
class GeneratorSource:
    """Place from which processes load the generator of a run.

    Attributes:
        name: as ``load_generator`` takes it, or the class of a given generator.
        weights: file of its weights. None: those of the source.
        device: for the generator. None: it stays where it is.
        generator: the generator itself. None: it is loaded.
    """

    name: str
    weights: str | os.PathLike[str] | None = None
    device: str | None = None
    generator: Any = None

    def load(self) -> Any:
        """Return the generator.

        Raises:
            ValueError: for a source that is none, as ``load_generator``, or a generator
                without ``latent_dim`` and ``num_classes``.
        """
        generator = self.generator
        if generator is None:
            from art_ext.models import load_generator

            generator = load_generator(self.name, self.weights)
        if self.device is not None and isinstance(generator, nn.Module):
            generator = generator.to(usable_device(self.device))
        for attribute in ("latent_dim", "num_classes"):
            if not isinstance(getattr(generator, attribute, None), int):
                raise ValueError(
                    f"the generator {self.name} must be callable as generator(z, y) and tell its"
                    f" latent_dim and num_classes as integers, got a {type(generator).__name__}"
                    f" without {attribute}"
                )
        return generator

    def check_rebuilds(self, engine: str) -> None:
        """Raise ValueError unless a worker of an engine can load the generator."""
        if self.generator is not None:
            raise ValueError(
                f"engine {engine!r} needs a source of the generator, because workers load it by"
                " themselves: give the folder of art-ext generator train, or FILE.py:FACTORY"
            )


AnyGenerator = str | os.PathLike[str] | GeneratorSource | Generator


def source_of(generator: AnyGenerator | None, device: str | None = None) -> GeneratorSource | None:
    """Return the source of a generator that is given by name, as a source or as an object.

    None without one.
    """
    if generator is None or isinstance(generator, GeneratorSource):
        return generator
    if isinstance(generator, str | os.PathLike):
        return GeneratorSource(os.fspath(generator), device=device)
    return GeneratorSource(type(generator).__name__, generator=generator)


def resources_of(generator: Any, data: Samples) -> Resources:
    """Return the resources of a run. Latents of the data count with a generator only.

    Raises:
        ValueError: if the latents have another number of columns than the generator takes.
    """
    latents = None if generator is None else getattr(data, "latents", None)
    wanted = getattr(generator, "latent_dim", None)
    if latents is not None and wanted is not None and latents.shape[1] != wanted:
        raise ValueError(
            f"the data {data.name!r} hold latents (key z) of {latents.shape[1]} columns, but the"
            f" generator takes {wanted}: give the data that it made, or data without latents"
        )
    return Resources(generator, latents)


def note_unused(source: GeneratorSource | None, needed: Iterable[tuple[str, ...]]) -> None:
    """Log a warning if a generator is given and no attack uses it.

    Args:
        source: of the generator. None: none is given.
        needed: names of the resources of each attack.
    """
    if source is not None and not any("generator" in names for names in needed):
        logger.warning(
            "no attack of this run uses the generator %s. in_distribution needs one", source.name
        )
