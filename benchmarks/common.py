"""Common parts of the benchmarks: networks with weights, images, and a meter of model calls."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.core.metrics import robust_accuracy
from art_ext.core.networks import frozen_eval
from art_ext.data import Samples, load_data
from art_ext.models import (
    cifar_resnet,
    cifar_resnet20,
    load_weights,
    mnist_lenet5,
    mnist_small_cnn,
    mnist_two_conv,
)
from art_ext.training import Recipe, train

# name of the checkpoint -> builder, data set
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mnist_conv2_fast_pgd": (mnist_two_conv, "mnist"),
    "mnist_smallcnn_standard": (mnist_small_cnn, "mnist"),
    "mnist_smallcnn_bn_rays_nat": (lambda: mnist_small_cnn(batch_norm=True), "mnist"),
    "mnist_conv2_kw_0.1": (mnist_two_conv, "mnist"),
    "mnist_lenet5_advertorch_nat": (mnist_lenet5, "mnist"),
    "mnist_carlini_cnn_fw": (lambda: mnist_small_cnn(mean=0.5), "mnist"),
    "cifar_resnet20_nat": (cifar_resnet20, "cifar10"),
    "cifar_resnet32_nat": (lambda: cifar_resnet(32), "cifar10"),
}


class Meter(nn.Module):
    """Wrapper that records the rows of each call, its use of gradients, and the time inside the
    model.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, bool]] = []
        self.seconds = 0.0

    @property
    def sizes(self) -> list[int]:
        """Rows of each call."""
        return [size for size, _ in self.calls]

    def forward(self, rows: Tensor) -> Tensor:
        """Call the network and measure the time."""
        start = time.perf_counter()
        output: Tensor = self.network(rows)
        self.seconds += time.perf_counter() - start
        self.calls.append((len(rows), rows.requires_grad))
        return output


def network(name: str) -> tuple[nn.Module, str]:
    """Return a network with third-party weights from ART_EXT_DATA, or with random weights."""
    folder = os.environ.get("ART_EXT_DATA")
    torch.manual_seed(0)
    model = NETWORKS[name][0]().eval()
    if not folder:
        return model, "random weights"
    load_weights(model, Path(folder) / "checkpoints" / f"{name}.safetensors")
    return model, "third-party weights"


def stored_network(name: str) -> nn.Module:
    """Return a third-party network with its weights, by the definitions of the folder of the data.

    Raises:
        ValueError: if ART_EXT_DATA names no folder with ``architectures.py``.
    """
    path = Path(os.environ.get("ART_EXT_DATA", "")) / "architectures.py"
    spec = importlib.util.spec_from_file_location("architectures", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(
            f"ART_EXT_DATA must name a folder with architectures.py, got {str(path.parent)!r}"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.load(name)
    return model.requires_grad_(False)


def seeded(network: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a network with initial weights that depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network()


def train_network(
    model: nn.Module, data: Samples, recipe: str | Recipe, *, epochs: int, seed: int, **options: Any
) -> nn.Module:
    """Return a network in eval mode, with its head, after training by Adam at the rate 1e-3."""
    return train(
        model,
        data.rows(0, len(data)),
        recipe,
        epochs=epochs,
        seed=seed,
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        **options,
    ).model.eval()


def network_and_images(name: str, count: int) -> tuple[nn.Module, Tensor, Tensor, str]:
    """Return a network, images (noise without ART_EXT_DATA), labels, and origin of the weights."""
    model, weights = network(name)
    data_set = NETWORKS[name][1]
    if weights == "random weights":
        x = torch.rand(count, *((1, 28, 28) if data_set == "mnist" else (3, 32, 32)))
        with torch.no_grad():
            return model, x, model(x).argmax(1), weights
    data = load_data(data_set).first(count)
    return model, data.x, data.y, weights


def right(x: Tensor, y: Tensor, *models: nn.Module) -> Tensor:
    """(N,) bool, the images that every model classifies correctly."""
    with torch.no_grad():
        verdicts = [
            torch.cat([model(part).argmax(1) for part in x.split(256)]) == y for model in models
        ]
    return torch.stack(verdicts).all(0)


def under_autoattack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> float:
    """Return the robust accuracy under AutoAttack's standard version in L-inf.

    Its DLR loss does not depend on the scale of the scores, which heads change.

    Raises:
        ImportError: without the extra ``robustbench``.
    """
    from art_ext.adapters.autoattack import run_autoattack

    return robust_accuracy(run_autoattack(model, x, y, eps=eps))


class _StageLines(logging.Handler):
    """Handler that reads the lines in which AutoAttack reports an accuracy."""

    FORM = re.compile(r"(?:initial accuracy|robust accuracy after (\S+)): ([\d.]+)%")

    def __init__(self, ended: Callable[[str | None, float], None]) -> None:
        super().__init__()
        self.ended = ended

    def emit(self, record: logging.LogRecord) -> None:
        """Read one line."""
        found = self.FORM.match(record.getMessage())
        if found is not None:
            self.ended(found[1], float(found[2]))


@contextmanager
def autoattack_stages(ended: Callable[[str | None, float], None]) -> Iterator[None]:
    """Listen to AutoAttack's log for a block, and keep it from the terminal.

    Args:
        ended: called at the end of each stage with its name, None for the clean check, and the
            robust accuracy in %.
    """
    log = logging.getLogger("auto-attack")
    handler = _StageLines(ended)
    kept = (log.level, log.propagate)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(kept[0])
        log.propagate = kept[1]


def classified_right(data_set: str, count: int, *models: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the first ``count`` test images that all models classify correctly, with labels."""
    data = load_data(data_set)
    images = []
    labels = []
    found = 0
    for start in range(0, len(data), 500):
        x = data.x[start : start + 500]
        y = data.y[start : start + 500]
        kept = right(x, y, *models)
        images.append(x[kept])
        labels.append(y[kept])
        found += int(kept.sum())
        if found >= count:
            break
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def bare(model: nn.Module, x: Tensor, y: Tensor, calls: list[tuple[int, bool]]) -> None:
    """Run the forwards and backwards that a ``Meter`` recorded, without an attack."""
    with frozen_eval(model):
        for size, differentiate in calls:
            leaf = x[:size].clone().requires_grad_(differentiate)
            with torch.set_grad_enabled(differentiate):
                output = model(leaf)
                if differentiate:
                    loss = functional.cross_entropy(output, y[:size], reduction="sum")
                    torch.autograd.grad(loss, leaf)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median of numbers and their range as text."""
    middle, low, high = (
        f"{one:.{digits}f}" for one in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def print_versions() -> None:
    """Set one thread, and print the versions."""
    # on a busy machine, barriers between threads cost more than the work
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, one thread,"
        f" {os.cpu_count()} cores\n"
    )


def processor() -> str:
    """Return the name of the processor, or its architecture where the system tells none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(named), platform.machine())
