"""Row-counted access to a conditional generator, and the latents that all measures share."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from art_ext.core.calling import floating_reference
from art_ext.core.checks import check_count, check_positive, check_range
from art_ext.core.geometry import BOX_TOLERANCE
from art_ext.core.networks import frozen_eval, model_device
from art_ext.core.streams import normal, resolve_seed

_PROBES = 4  # latents of a class that check_generator draws
_PROBED = 10  # most classes that it draws them for
_SAME = 1e-4  # images that differ by less are taken as equal
_MEBIBYTE = 1 << 20
_CPU_ROWS = 64, 256  # of a block on the CPU, at least and at most, if they fit
_CPU_VALUES = 1 << 16  # of all images of such a block


class Generator(Protocol):
    """A conditional generator: a module or callable with two attributes.

    Attributes:
        latent_dim: d, the number of standard Gaussian coordinates of a latent.
        num_classes: K, the number of classes.
    """

    latent_dim: int
    num_classes: int

    def __call__(self, z: Tensor, y: Tensor, /) -> Tensor:
        """Return images (N, *S) of latents (N, d) float32 and classes (N,) int64."""
        ...


class GeneratorOracle:
    """Images of a generator in [0, 1], with a count of the rows that it computed.

    Use it as a context manager. Inside, an ``nn.Module`` is in eval mode without parameter
    gradients, and all flags are restored afterwards. The generator is never moved. Latents go to
    its device, in the type of its parameters. Images come back as float32.

    The range of the images is checked at the first call, at ``check_range`` and at the end of the
    context. The calls in between only note their smallest and largest value on the device.

    Args:
        generator: module or callable from latents (N, d) and classes (N,) to images (N, *S), with
            the attributes ``latent_dim`` and ``num_classes``.
        image_range: the range (lower, upper) of the generator's images, mapped to [0, 1]. None:
            neither mapped nor checked. Default: (0, 1).
        memory_mb: mebibytes that the tensors of one block may take, without the generator's own.
            Default: 200.
        device: device of the latents, for generators without parameters.

    Attributes:
        latent_dim: d.
        num_classes: K.
        sample_shape: S, the shape of an image. None before the first call.
        scale: length of ``image_range``. A distance between images times this is the distance
            between the generator's own images.
        rows: forward rows so far.
        backward_rows: backward rows so far. The caller adds them, for only it knows them.

    Raises:
        ValueError: if the generator is no callable or lacks an attribute, or an argument is out of
            range. In a call: if the images have another shape, hold NaN, or lie outside
            ``image_range`` by more than 1e-4.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        image_range: tuple[float, float] | None = (0.0, 1.0),
        memory_mb: float = 200,
        device: torch.device | str | None = None,
    ) -> None:
        if not callable(generator):
            raise ValueError(
                "generator must be a callable of latents and classes,"
                f" got {type(generator).__name__}"
            )
        check_positive("memory_mb", memory_mb)
        self.generator = generator
        self.latent_dim = _attribute(generator, "latent_dim")
        self.num_classes = _attribute(generator, "num_classes")
        self.image_range = _checked_range(image_range)
        self.memory_mb = memory_mb
        self.device = model_device(generator, device, torch.device("cpu"))
        lower, upper = self.image_range or (0.0, 1.0)
        self.scale = upper - lower
        self.sample_shape: torch.Size | None = None
        self.rows = 0
        self.backward_rows = 0
        self._dtype = torch.float32
        self._seen: Tensor | None = None
        self._entered = ExitStack()

    def __enter__(self) -> GeneratorOracle:
        with ExitStack() as stack:
            stack.enter_context(frozen_eval(self.generator))
            reference = floating_reference(self.generator)
            self._dtype = torch.float32 if reference is None else reference.dtype
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, error, trace)
        if error is None:
            self.check_range()

    def __call__(self, z: Tensor, y: Tensor) -> Tensor:
        """Return images (N, *S) in [0, 1] of latents (N, d) and classes (N,).

        They carry a graph if z does. Inside a transform of ``torch.func`` use ``function``.

        Raises:
            ValueError: as the class says.
        """
        z = z.to(self.device)
        y = y.to(self.device)
        first = self._seen is None
        images = self._images(z, y)
        self.note(images)
        if first:
            self.check_range()
        return self._mapped(images)

    def function(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the map from latents (N, d) to images (N, *S) in [0, 1] for classes (N,).

        It is the map of a call without the check of the range, so that ``torch.func`` can transform
        it. Its rows are counted.
        """
        y = y.to(self.device)
        return lambda z: self._mapped(self._images(z, y))

    def note(self, images: Tensor) -> None:
        """Note the smallest and largest value of the generator's own images (N, *S)."""
        if self.image_range is None or not images.numel():
            return
        seen = torch.stack(torch.aminmax(images.detach()))
        if self._seen is not None:  # NaN stays NaN
            seen = torch.stack(
                (torch.minimum(seen[0], self._seen[0]), torch.maximum(seen[1], self._seen[1]))
            )
        self._seen = seen

    def check_range(self) -> None:
        """Raise ValueError if an image so far was outside ``image_range``, or held NaN."""
        if self.image_range is None or self._seen is None:
            return
        lower, upper = self.image_range
        least, most = (float(one) for one in self._seen.cpu())
        if math.isnan(least) or math.isnan(most):
            raise ValueError("the generator's images must be numbers, got NaN")
        if least < lower - BOX_TOLERANCE or most > upper + BOX_TOLERANCE:
            raise ValueError(
                f"the generator's images must lie in image_range=({lower:g}, {upper:g}), got values"
                f" from {least:.4g} to {most:.4g}{_better_range(least, most)}"
            )

    def fitting_rows(self, row_bytes: int) -> int:
        """Return how many rows of so many bytes fit into ``memory_mb``, at least 1."""
        return max(1, int(self.memory_mb * _MEBIBYTE) // row_bytes)

    def block_rows(self, row_bytes: int) -> int:
        """Return the number of rows for one call of the generator.

        They fit into ``memory_mb``. A CPU gets fewer, because it is slower where the tensors leave
        its caches.

        Args:
            row_bytes: bytes that one row takes, without those of the generator.
        """
        rows = self.fitting_rows(row_bytes)
        if self.device.type == "cpu":
            features = math.prod(self.sample_shape or (1,))
            least, most = _CPU_ROWS
            rows = min(rows, max(least, min(most, _CPU_VALUES // features)))
        return rows

    def _images(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the generator's own images as float32."""
        if z.dim() != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(
                f"latents must have shape (N, {self.latent_dim}), got {tuple(z.shape)}"
            )
        self.rows += len(z)
        images = self.generator(z.to(self._dtype), y)
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"the generator must return a tensor of floats, got {kind}")
        if images.dim() < 2 or len(images) != len(z):
            raise ValueError(
                f"the generator must return one image for each of {len(z)} latents, with shape"
                f" ({len(z)}, *S), got shape {tuple(images.shape)}"
            )
        self.sample_shape = images.shape[1:]
        return images.to(device=self.device, dtype=torch.float32)

    def _mapped(self, images: Tensor) -> Tensor:
        """Map images from ``image_range`` to [0, 1]."""
        if self.image_range is None:
            return images
        lower, _ = self.image_range
        if self.image_range != (0.0, 1.0):
            images = (images - lower) / self.scale
        return images.clamp(0.0, 1.0)


def draw_latents(latent_dim: int, y: Tensor, index: Tensor, seed: int) -> Tensor:
    """Draw standard Gaussian latents, keyed by (seed, class, index).

    The Lipschitz estimators, the risk of a classifier and ``art-ext generator sample`` take their
    latents from here. Equal keys give equal bits on every device, in any order and batch.

    Args:
        latent_dim: d.
        y: (N,) int64 classes.
        index: (N,) int64, the number of the latent within its class.
        seed: key of the whole draw, >= 0. None: a fresh one.

    Returns:
        (N, d) float32, on the device of y.

    Raises:
        ValueError: if ``latent_dim`` or ``seed`` is out of range.
    """
    check_count("latent_dim", latent_dim)
    return normal(resolve_seed(seed, least=0), y, index.to(y.device), (latent_dim,))


def check_generator(
    oracle: GeneratorOracle,
    *,
    sample_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> torch.Size:
    """Check on a few latents that a generator is one, and return the shape S of its images.

    Args:
        oracle: of the generator, entered.
        sample_shape: shape of the inputs of a model that shall fit. Default: None, no such check.
        num_classes: number of classes of that model. Default: None, no such check.
        seed: key of the latents.

    Raises:
        ValueError: if the images ignore their class or latent, change from call to call, depend on
            the other latents of a batch, or do not fit the model.
    """
    if num_classes is not None and num_classes != oracle.num_classes:
        raise ValueError(
            f"the model must have the generator's {oracle.num_classes} classes, got {num_classes}"
        )
    probed = min(_PROBED, oracle.num_classes)
    classes = torch.arange(probed, device=oracle.device) * oracle.num_classes // probed
    index = torch.arange(_PROBES, device=oracle.device)
    # the same latents for each class
    z = draw_latents(oracle.latent_dim, torch.zeros_like(index), index, seed).repeat(probed, 1)
    y = classes.repeat_interleave(_PROBES)
    with torch.no_grad():
        images = oracle(z, y)
        again = oracle(z, y)
        alone = oracle(z[:1], y[:1])
    shape = images.shape[1:]
    if sample_shape is not None and tuple(shape) != tuple(sample_shape):
        raise ValueError(
            f"the generator's images must have the model's input shape {tuple(sample_shape)},"
            f" got {tuple(shape)}"
        )
    _check_answers(images, again, alone, probed)
    return shape


def _check_answers(images: Tensor, again: Tensor, alone: Tensor, num_classes: int) -> None:
    """Raise ValueError for images (C * probes, *S) that no generator gives.

    Args:
        images, again: two answers to the same latents, which are equal for all classes.
        alone: (1, *S), the answer to the first latent in a batch of its own.
        num_classes: C, the number of classes tried.
    """
    by_class = images.unflatten(0, (num_classes, _PROBES))
    ignores_z = _largest(by_class - by_class[:, :1]) == 0
    ignores_y = num_classes > 1 and _largest(by_class - by_class[:1]) == 0
    if ignores_z and (ignores_y or num_classes == 1):
        raise ValueError("the generator's output is constant: it ignores both latent and class")
    if ignores_z:
        raise ValueError("the generator ignores its latents z: each class has one image only")
    if ignores_y:
        raise ValueError("the generator ignores its classes y: other classes give the same images")
    changed = _largest(images - again)
    if changed > _SAME:
        raise ValueError(
            "the generator must be a function of latent and class, got images that change from"
            f" call to call by up to {changed:.3g}"
        )
    changed = _largest(images[:1] - alone)
    if changed > _SAME:
        raise ValueError(
            "the generator's image of a latent must not depend on the other latents of the batch,"
            f" got images that change by up to {changed:.3g}"
        )


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def _attribute(generator: Any, name: str) -> int:
    """Return a generator's attribute, an integer >= 1."""
    try:
        value = operator.index(getattr(generator, name))
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"the generator must have an attribute {name}, an integer,"
            f" got {getattr(generator, name, 'none')!r}"
        ) from error
    check_count(name, value)
    return value


def _checked_range(image_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the range as two floats, lower < upper."""
    if image_range is None:
        return None
    check_range("image_range", image_range)
    lower, upper = image_range
    return float(lower), float(upper)


def _better_range(least: float, most: float) -> str:
    """Return a hint at the usual range that holds the values seen."""
    for lower, upper in ((0, 1), (-1, 1), (0, 255)):
        if lower - BOX_TOLERANCE <= least and most <= upper + BOX_TOLERANCE:
            return f": pass image_range=({lower}, {upper})"
    return ": pass the true range, or image_range=None"
