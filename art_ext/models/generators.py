"""The conditional generator of the chapter on limits, its discriminator, and user generators.

A generator maps latents z (N, d), standard Gaussian, and classes y (N,) to images (N, C, H, W).

    from art_ext.models import load_generator
    generator = load_generator("runs/gan")
    images = generator(torch.randn(2, generator.latent_dim), torch.tensor([3, 8]))
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_count, nearest, same_name
from art_ext.core.limits import Generator
from art_ext.models.factory import call_factory, note_file, resolve_object
from art_ext.models.sources.resolving import PLUGINS
from art_ext.models.weights import load_weights
from art_ext.storage.files import header_of
from art_ext.storage.generators import GENERATOR, check_finished

ARGUMENTS = "art_ext_generator"  # key of a generator's arguments in the metadata of its weights
FORMS = (
    "the folder of an art-ext generator train, FILE.safetensors of one,"
    " FILE.py:FACTORY[@WEIGHTS], MODULE:FACTORY[@WEIGHTS] or an entry point of art_ext.models"
)


class ConditionalGenerator(nn.Module):
    """Generator of images from latents and classes.

    G(z, y) = (1 + tanh(T_2 r(T_1 r(A [z, onehot(y)])))) / 2 with an affine map A, transposed 4x4
    convolutions T of stride 2, and r = ReLU after BatchNorm. It is the generator of an auxiliary
    classifier GAN (ACGAN). The weights are drawn from torch's random stream.

    Args:
        size: height and width of an image, multiples of 4, or one number for both.
        latent_dim: d, the number of latents.
        num_classes: K.
        width: channels between the two convolutions. The first one has twice as many.
        channels: C of an image.

    Attributes:
        latent_dim: as given.
        num_classes: as given.
        shape: (C, H, W) of an image.

    Raises:
        ValueError: if a size is no multiple of 4, or another argument is below 1.

    References:
        Odena, Olah, Shlens. Conditional image synthesis with auxiliary classifier GANs. 2017.
    """

    onehot: Tensor

    def __init__(
        self,
        size: int | Sequence[int],
        latent_dim: int,
        num_classes: int = 10,
        width: int = 32,
        channels: int = 1,
    ) -> None:
        super().__init__()
        check_count("latent_dim", latent_dim)
        self.shape = _shape(size, channels, width, num_classes)
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.width = width
        rows, columns = (side // 4 for side in self.shape[1:])
        self.register_buffer("onehot", torch.eye(num_classes), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim + num_classes, 2 * width * rows * columns),
            nn.BatchNorm1d(2 * width * rows * columns),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, rows, columns)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that build a generator of this form."""
        return {
            "size": list(self.shape[1:]),
            "latent_dim": self.latent_dim,
            "num_classes": self.num_classes,
            "width": self.width,
            "channels": self.shape[0],
        }

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for latents z (N, d) and classes y (N,) int64."""
        images: Tensor = self.layers(torch.cat([z, self.onehot[y].to(z.dtype)], dim=1))
        return images / 2 + 0.5


class Discriminator(nn.Module):
    """Network that tells real from generated images, and their classes.

    Two 4x4 convolutions of stride 2 with leaky ReLU (0.2) and dropout, then two linear heads.

    Args:
        size: height and width of an image, as of ``ConditionalGenerator``.
        num_classes: K.
        channels: C of an image.
        width: channels of the first convolution. The second one has twice as many.
        dropout: fraction of the channels' values that is dropped in train mode.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        num_classes: int = 10,
        width: int = 32,
        channels: int = 1,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        _, height, columns = _shape(size, channels, width, num_classes)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Flatten(),
        )
        features = 2 * width * (height // 4) * (columns // 4)
        self.real = nn.Linear(features, 1)
        self.classes = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return for images x (N, C, H, W) in [0, 1] the logits.

        Returns:
            (N,) logits of being real, and (N, K) logits of the classes.
        """
        features = self.layers(2 * x - 1)
        return self.real(features).squeeze(1), self.classes(features)


def _shape(
    size: int | Sequence[int], channels: int, width: int, num_classes: int
) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of an image. Raise ValueError for arguments out of range."""
    for name, value in (("channels", channels), ("width", width), ("num_classes", num_classes)):
        check_count(name, value)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(
        isinstance(side, bool) or not isinstance(side, int) or side < 4 or side % 4
        for side in sides
    ):
        raise ValueError(f"size must be one or two positive multiples of 4, got {size!r}")
    return channels, sides[0], sides[1]


def generator_metadata(generator: ConditionalGenerator) -> dict[str, str]:
    """Return the metadata of a file of a generator's weights: the arguments that build it."""
    return {ARGUMENTS: json.dumps(generator.arguments)}


# --- generators by name ---


def load_generator(
    name: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> Generator:
    """Load a generator for the limits of robustness.

    The name is one of these:

    * the folder of a finished ``art-ext generator train``, or the ``generator.safetensors`` of one.
    * ``FILE.py:FACTORY`` or ``MODULE:FACTORY``: the factory is called. ``@WEIGHTS`` after it names
      a checkpoint.
    * a name that another package declares in the entry-point group ``art_ext.models``.

    A generator of the user is a module or another callable of latents z (N, d), standard Gaussian,
    and classes y (N,), with the attributes ``latent_dim`` and ``num_classes``. Latents of another
    distribution are a matter of the user's wrapper.

    Args:
        name: the generator.
        weights: checkpoint file, safetensors or a ``torch.save`` file of tensors. No code in it is
            executed.

    Returns:
        The generator. A module is in eval mode.

    Raises:
        ValueError: for an unknown name, a training that is not finished, weights that do not fit,
            or an object without ``latent_dim`` and ``num_classes``.
    """
    given = os.fspath(name)
    if os.path.exists(given):
        if weights is not None:
            raise ValueError(f"{given} holds a trained generator: weights do not apply")
        generator: Any = _of_run(Path(given))
    else:
        generator = _of_factory(given, weights)
    for attribute in ("latent_dim", "num_classes"):
        value = getattr(generator, attribute, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"the generator {given} must have the attribute {attribute}, an integer >= 1, got"
                f" {value!r}"
            )
    if isinstance(generator, nn.Module):
        generator.eval()
    found: Generator = generator
    return found


def _of_run(place: Path) -> ConditionalGenerator:
    """Return the generator of a run folder, or of its file of weights."""
    if place.is_dir():
        check_finished(place)
    file = place / GENERATOR if place.is_dir() else place
    try:
        arguments = json.loads(header_of(file)["__metadata__"][ARGUMENTS])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"a generator must be {FORMS}, got {place}, which holds no generator of art-ext"
        ) from error
    with torch.random.fork_rng(devices=[]):  # the first weights, which are replaced
        generator = ConditionalGenerator(**arguments)
    load_weights(generator, file)
    return generator


def _of_factory(given: str, weights: str | os.PathLike[str] | None) -> Any:
    """Return what a factory of the user or of another package makes."""
    form = re.fullmatch(r"(?s)(.+:[^\W\d]\w*|[^:@/\\]+)(?:@(.+))?", given)
    if form is None:
        raise ValueError(f"a generator must be {FORMS}, got {given!r}")
    source = form[1]
    if form[2] is not None and weights is not None:
        raise ValueError(f"weights must be given once, got {given!r} and {os.fspath(weights)}")
    file = weights if form[2] is None else form[2]
    if ":" in source:
        with resolve_object(source, "generator", "FACTORY") as factory:
            generator = _made(factory, source)
        note_file(source, generator)
    else:
        own = same_name(source, PLUGINS.names())
        if own is None:
            hint = nearest(source, PLUGINS.names())
            raise ValueError(f"a generator must be {FORMS}, got {given!r}{hint}")
        generator = _made(PLUGINS.load(own), f"{own} of {PLUGINS.origin(own)}")
    if file is None:
        return generator
    if not isinstance(generator, nn.Module):
        raise ValueError(
            f"weights need an nn.Module, but {source!r} made a {type(generator).__name__}"
        )
    return load_weights(generator, file)


def _made(factory: Callable[..., Any], origin: str) -> Any:
    """Call a factory that takes no arguments."""
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ValueError(
            f"{origin} must name a function or class that makes the generator, got an instance of"
            f" {type(factory).__name__}"
        )
    arguments: Mapping[str, object] = {}
    return call_factory(factory, origin, arguments)
