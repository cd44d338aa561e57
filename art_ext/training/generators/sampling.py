"""Images of a generator with their classes and latents, and the file that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.limits import Generator, GeneratorOracle, draw_latents
from art_ext.storage.files import atomic

# index of the first training image of a class: the test split, and measures on fresh images, begin
# at 0 and share no latent with what a network was trained on
TRAINING = 1 << 32
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class GeneratedImages:
    """Images of a generator.

    Attributes:
        x: (N, *S) float32 in [0, 1], on the CPU.
        y: (N,) int64 classes that were wanted.
        z: (N, d) float32 latents.
    """

    x: Tensor
    y: Tensor
    z: Tensor

    def __len__(self) -> int:
        return len(self.y)


def sample(
    generator: Generator,
    n: int,
    *,
    seed: int,
    first: int = 0,
    batch_size: int = 1000,
    image_range: tuple[float, float] = (0.0, 1.0),
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> GeneratedImages:
    """Draw images of all classes in turn.

    The i-th image has class i mod K, and the latent that ``draw_latents`` gives for this class and
    the index first + i div K. So a larger n adds images, and changes none.

    Args:
        generator: module or callable of latents z (N, d) and classes y (N,), with ``latent_dim``
            and ``num_classes``.
        n: number of images.
        seed: key of the latents.
        first: index of the first latent of each class.
        batch_size: most images in one call.
        image_range: range of the generator's own images, which is mapped to [0, 1].
        device: device of the latents, for a generator without parameters.
        progress: gets the number of images so far.

    Raises:
        ValueError: for images of another shape or range, or arguments out of range.
    """
    with GeneratorOracle(generator, image_range=image_range, device=device) as oracle:
        places = torch.arange(n)
        y = places % oracle.num_classes
        z = draw_latents(oracle.latent_dim, y, places // oracle.num_classes + first, seed)
        parts: list[Tensor] = []
        with torch.no_grad():
            for rows in places.split(batch_size):
                parts.append(oracle(z[rows], y[rows]).cpu())
                if progress is not None:
                    progress(int(rows[-1]) + 1)
    return GeneratedImages(torch.cat(parts), y, z)


def save_images(file: Path, images: GeneratedImages, test: GeneratedImages | None = None) -> None:
    """Write images to an ``.npz`` file, atomically.

    The file holds x, y and z and, of the test images, x_test, y_test and z_test. With test images,
    x and y are the training split of ``load_data``. Without, they are the test split.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    tensors = {"x": images.x, "y": images.y, "z": images.z}
    if test is not None:
        tensors |= {"x_test": test.x, "y_test": test.y, "z_test": test.z}
    arrays: dict[str, Any] = {name: one.numpy() for name, one in tensors.items()}
    # uncompressed: the bits of floats hardly compress
    with atomic(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
