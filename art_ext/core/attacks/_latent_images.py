"""Images of a generator as candidates, and gradients that are pulled back to its latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.limits.generator import GeneratorOracle

# from images (r, D) without a graph, and the places of their rows, to a gradient (r, D)
Slope = Callable[[Tensor, slice], Tensor]
NO_GRADIENT = (
    "the generator's images must depend on its latents through autograd, got images without their"
    " gradient: the generator ignores its latents z, or it leaves autograd, as with NumPy or"
    " torch.no_grad() inside"
)


@dataclass(frozen=True, eq=False)
class LatentImages:
    """Images of latents, one generator row each, in slices of at most ``batch_size`` rows.

    Images in [0, 1] are mapped to the box of the attack. No more than one slice has a graph at any
    time, so that memory does not grow with the number of samples.

    Attributes:
        oracle: of the generator.
        whole: the problem with all N samples.
        classes: (N,) int64, the classes to make.
        rows, gradients: (N,) int64, forward and backward rows of each sample, without padding.
        pad_rows: fewest rows of a call, as for the model.
    """

    oracle: GeneratorOracle
    whole: Problem
    classes: Tensor
    rows: Tensor
    gradients: Tensor
    pad_rows: int

    @property
    def latent_dim(self) -> int:
        """Number of coordinates of a latent."""
        return self.oracle.latent_dim

    def images(self, z: Tensor, index: Tensor) -> Tensor:
        """Return the images (R, D) of latents (R, d) of the samples in index (R,)."""
        if not len(z):
            return self.whole.x[:0]
        with torch.no_grad():
            return torch.cat([self._made(z[part], index[part]) for part in self._slices(len(z))])

    def pull(self, z: Tensor, index: Tensor, slope: Slope) -> tuple[Tensor, Tensor]:
        """Return the images (R, D) of latents (R, d), and a gradient pulled back to the latents.

        Args:
            z: (R, d) latents.
            index: (R,) their samples.
            slope: returns the gradient at the images of a slice.

        Returns:
            The images without a graph, and ``J^T slope`` (R, d), zero where it is not finite.

        Raises:
            ValueError: if the images do not depend on the latents through autograd.
        """
        if not len(z):
            return self.whole.x[:0], z
        found = [self._pulled(z[part], index[part], part, slope) for part in self._slices(len(z))]
        if len(found) == 1:
            return found[0]
        images, gradients = zip(*found, strict=True)
        return torch.cat(images), torch.cat(gradients)

    def _pulled(self, z: Tensor, owner: Tensor, part: slice, slope: Slope) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            images = self._made(leaf, owner)
        if not images.requires_grad:
            raise ValueError(NO_GRADIENT)
        self.gradients.index_add_(0, owner, torch.ones_like(owner))
        seen = images.detach()
        (gradient,) = torch.autograd.grad(images, leaf, slope(seen, part), allow_unused=True)
        if gradient is None:  # the graph is that of other tensors
            raise ValueError(NO_GRADIENT)
        return seen, gradient.nan_to_num(0.0, 0.0, 0.0)

    def _made(self, z: Tensor, owner: Tensor) -> Tensor:
        """Return images (r, D) of one slice, with a graph if z has one."""
        count = len(owner)
        self.rows.index_add_(0, owner, torch.ones_like(owner))
        classes = self.classes.index_select(0, owner)
        missing = self.pad_rows - count
        if missing > 0:
            z = torch.cat([z, z[-1:].detach().expand(missing, -1)])
            classes = torch.cat([classes, classes[-1:].expand(missing)])
        images = self.oracle(z, classes)
        wanted = self.whole.shape[1:]
        if images.shape[1:] != wanted:
            raise ValueError(
                f"the generator's images must have the shape of the samples, {tuple(wanted)}, got"
                f" {tuple(images.shape[1:])}"
            )
        return self._in_box(images[:count].flatten(1).to(self.whole.x.device))

    def _in_box(self, images: Tensor) -> Tensor:
        """Map images from [0, 1] to the box."""
        low, high = self.whole.low, self.whole.high
        unit = isinstance(low, float) and low == 0 and high == 1
        if unit or self.oracle.image_range is None:
            return images
        return self.whole.clip(images * (high - low) + low)  # rounding may leave the box

    def _slices(self, count: int) -> list[slice]:
        size = self.whole.oracle.batch_size
        return [slice(start, start + size) for start in range(0, count, size)]
