"""Device, sizes, network and images of a card."""

from __future__ import annotations

import functools
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import seeded
from art_ext.core.acceleration import lowered
from art_ext.data import load_data
from art_ext.models import resnet18

Value = TypeVar("Value")
TOOLKITS = {"ART": "art", "torchattacks": "torchattacks", "pyautoattack": "pyautoattack"}
EPS = 8 / 255


@dataclass(frozen=True)
class Sizes:
    """Sizes of the work.

    Attributes:
        width: channels of the first stage of the ResNet-18.
        images: of the part attacks.
        batch: rows of a model call.
        steps: of an attack in the part attacks.
        rays_rows: numbers of images in the part rays.
        rays_queries: of an image there.
        training_images: noise images, if no training images are given.
        training_batch: rows of a minibatch.
        trial_updates: weight updates that tell the time of one.
        judged: test images of the trained network.
        distances: of these, images whose distance to the decision boundary is measured.
        compared: of these, images beside AutoAttack.
    """

    width: int
    images: int
    batch: int
    steps: int
    rays_rows: tuple[int, ...]
    rays_queries: int
    training_images: int
    training_batch: int
    trial_updates: int
    judged: int
    distances: int
    compared: int


FULL = Sizes(64, 2048, 512, 5, (8, 64, 512), 300, 20_480, 256, 20, 1000, 200, 500)
SMALL = Sizes(4, 8, 4, 2, (2, 4), 20, 64, 16, 2, 16, 4, 4)


@dataclass(frozen=True)
class Subject:
    """The subject of a card.

    Attributes:
        device: of networks and images.
        sizes: of the work.
        data: folder of CIFAR-10. None: images are noise.
        weights: file of the trained network.
        recipe: that trains it.
    """

    device: torch.device
    sizes: Sizes
    data: Path | None
    weights: Path
    recipe: str

    def untrained(self) -> nn.Module:
        """Return a ResNet-18 in eval mode on the CPU."""
        return seeded(functools.partial(resnet18, width=self.sizes.width), 0).eval()

    def network(self) -> nn.Module:
        """Return the same network on the device."""
        return self.untrained().to(self.device)

    def noise(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images of noise with labels, on the device. They cost what others cost."""
        x, y = noise(count, seed=0)
        return x.to(self.device), y.to(self.device)

    def training_data(self) -> tuple[Tensor, Tensor]:
        """Return the training images with their labels, on the device."""
        return self._load("train", None if self.sizes is FULL else self.sizes.training_images)

    def test_data(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first test images with their labels, on the device."""
        return self._load("test", count)

    def _load(self, split: str, count: int | None) -> tuple[Tensor, Tensor]:
        if self.data is None:
            return self.noise(count or self.sizes.training_images)
        samples = load_data("cifar10", split=split, root=self.data).first(count).in_memory()
        return samples.x.to(self.device), samples.y.to(self.device)

    def facts(self) -> dict[str, Any]:
        """Return what is true of the machine and of every row."""
        device = self.device
        on_cuda = device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(device) if on_cuda else device.type,
            "torch": torch.__version__,
            "CUDA": torch.version.cuda if on_cuda else None,
            "cuDNN": torch.backends.cudnn.version() if on_cuda else None,
            "TF32 in convolutions": torch.backends.cudnn.allow_tf32 if on_cuda else None,
            "Python": platform.python_version(),
            "art-ext": version_of("art-ext"),
            "images": "noise" if self.data is None else "CIFAR-10",
            "recipe": self.recipe,
            **{name: _here(module) for name, module in TOOLKITS.items()},
            "sizes": {key: _listed(value) for key, value in asdict(self.sizes).items()},
        }


def _here(module: str) -> str:
    return "importable" if importable(module) else "not importable, so its rows are left out"


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def importable(module: str) -> bool:
    """Return True if a toolkit is there."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def noise(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images of uniform noise, with labels that a fixed linear function gives."""
    stream = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 32, 32, generator=stream)
    weights = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(0))
    return x, ((x - 0.5).flatten(1) @ weights).argmax(1)


# --- device ---


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def timed(device: torch.device, call: Callable[[], Value]) -> tuple[float, Value]:
    """Return the wall seconds of a call until the device has done its work, and its value."""
    synchronize(device)
    start = time.perf_counter()
    value = call()
    synchronize(device)
    return time.perf_counter() - start, value


def peak_memory(device: torch.device, call: Callable[[], object]) -> tuple[float, float | None]:
    """Return the wall seconds of a call, and the most gigabytes that it allocates.

    Memory is that beside what is held before. It is None but on CUDA.
    """
    if device.type != "cuda":
        return timed(device, call)[0], None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds, _ = timed(device, call)
    return seconds, (torch.cuda.max_memory_allocated(device) - before) / 1e9


def host_waits(device: torch.device, call: Callable[[], object]) -> int | None:
    """Return how often the processor waits for the device during a call. None but on CUDA."""
    if device.type != "cuda":
        call()
        return None
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    return sum("called a synchronizing" in str(one.message) for one in found)


class Autocast(nn.Module):
    """Network that computes in bfloat16 where autocast does.

    Attributes:
        network: in float32.
        device: of the network.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.device = device

    def forward(self, rows: Tensor) -> Tensor:
        """Return the outputs in float32."""
        with lowered(self.device):
            outputs: Tensor = self.network(rows)
        return outputs.float()


def without_none(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the figures that this device does not give."""
    return {name: value for name, value in figures.items() if value is not None}
