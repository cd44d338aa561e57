"""Samples of a run on limits: images of the generator, kept in the run folder."""

from __future__ import annotations

import io

import numpy as np
import torch

from art_ext.core.limits import GeneratorOracle, draw_latents
from art_ext.data import Dataset
from art_ext.evaluation.execution.limits.settings import LimitsSettings, seed_of
from art_ext.storage.limits import SAMPLES, LimitsFolder

NAME = "generated"


def oracle_of(generator: object, settings: LimitsSettings) -> GeneratorOracle:
    """Return the oracle of a run's generator.

    Raises:
        ValueError: as ``GeneratorOracle``.
    """
    return GeneratorOracle(
        generator,  # type: ignore[arg-type]  # checked by the oracle
        image_range=settings.image_range,
        memory_mb=settings.memory_mb,
        device=settings.device,
    )


def generated(generator: object, n: int, settings: LimitsSettings) -> Dataset:
    """Return n fresh images of a generator with their classes, in turn, and latents.

    Args:
        generator: the generator.
        n: number of images.
        settings: of the run.
    """
    oracle = oracle_of(generator, settings)
    every = torch.arange(n)
    y = every % oracle.num_classes
    z = draw_latents(
        oracle.latent_dim, y, every // oracle.num_classes, seed_of("samples", settings.seed)
    )
    with oracle, torch.no_grad():
        parts = [
            oracle(z[rows], y[rows]).cpu() for rows in every.split(max(1, settings.batch_size))
        ]
    return Dataset(NAME, torch.cat(parts), y, latents=z)


def stored(folder: LimitsFolder) -> Dataset | None:
    """Return the images that a run folder holds, or None.

    They are kept, because kernels of another machine would round them otherwise.
    """
    if not folder.store.exists(SAMPLES):
        return None
    with folder.store.reading(SAMPLES) as stream, np.load(stream, allow_pickle=False) as archive:
        x, y, z = (torch.from_numpy(archive[name]) for name in ("x", "y", "z"))
    return Dataset(NAME, x, y, latents=z)


def store(folder: LimitsFolder, data: Dataset) -> None:
    """Keep images in a run folder, in the form of ``art-ext generator sample``."""
    content = io.BytesIO()
    latents = torch.zeros(len(data), 0) if data.latents is None else data.latents
    np.savez(content, x=data.x.numpy(), y=data.y.numpy(), z=latents.numpy())
    folder.store.write(SAMPLES, content.getvalue())
