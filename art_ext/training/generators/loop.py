"""Training loop of a conditional generator: two networks, two optimisers.

It is no recipe: a recipe trains one classifier. Batches, history, progress, checkpoints and random
streams are those of the other trainings.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.configuration.generator import GeneratorOptions
from art_ext.configuration.options import options_of
from art_ext.core.geometry import Box
from art_ext.core.networks import usable_device
from art_ext.core.streams import global_streams_kept, normal, uniform
from art_ext.data import Dataset, LazyDataset
from art_ext.models.generators import ConditionalGenerator, Discriminator, generator_metadata
from art_ext.models.sources.libraries import seeded
from art_ext.storage.files import safetensors_of
from art_ext.storage.generators import GENERATOR, PLACE, begin_generator
from art_ext.storage.locking import lock_of
from art_ext.storage.ownership import check_place
from art_ext.storage.store import Place, Store, store_of
from art_ext.storage.training import CHECKPOINTS
from art_ext.tracking import Trackers
from art_ext.training.batches import Batch, TensorBatches
from art_ext.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from art_ext.training.datasets import DatasetBatches
from art_ext.training.environment import seed_streams
from art_ext.training.history import Row, write_history
from art_ext.training.reporting import Reporter

logger = logging.getLogger("art_ext")
BETAS = (0.5, 0.999)  # of both Adam optimisers
BOX = (0.0, 1.0)  # of the images
AnyData = Dataset | LazyDataset


@dataclass(frozen=True, eq=False)
class GeneratorResult:
    """A trained generator.

    Attributes:
        generator: the network, in eval mode.
        history: a row per epoch: losses of both networks, accuracy of the discriminator's classes
            on real images, weight updates and seconds.
        updates: weight updates of each network.
        seconds: wall time of all parts of the run.
    """

    generator: ConditionalGenerator
    history: list[Row]
    updates: int
    seconds: float


@dataclass(eq=False)
class _Run:
    """The parts of a run, and its progress."""

    options: GeneratorOptions
    device: torch.device
    batches: TensorBatches | DatasetBatches
    generator: ConditionalGenerator
    discriminator: Discriminator
    of_generator: torch.optim.Optimizer
    of_discriminator: torch.optim.Optimizer
    store: Store | None
    reporter: Reporter
    update: int = 0
    history: list[Row] = field(default_factory=list)
    earlier: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.started


def train_generator(
    data: AnyData,
    options: GeneratorOptions,
    *,
    folder: Place | None = None,
    resume: bool = False,
    progress: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> GeneratorResult:
    """Train a conditional generator as an auxiliary classifier GAN.

    The discriminator minimises BCE(D(x), t) + BCE(D(G(z, y')), 0) + CE(C(x), y), and then the
    generator minimises BCE(D(G(z, y')), 1) + w CE(C(G(z, y')), y'). Here x, y are real images and
    classes, t is ``real_target``, w is ``class_weight``, z is standard Gaussian and y' uniform.

    Args:
        data: N labelled images (C, H, W) in [0, 1]. H and W are multiples of 4.
        options: length, networks and optimisers.
        folder: run folder, for checkpoints, history and ``generator.safetensors``. None writes
            nothing.
        resume: continue from the newest checkpoint of the folder, if there is one. The result is
            the same, bit for bit, as without the interruption.
        progress: show a bar.
        files: further files of the folder, by name, which are written at the beginning.

    Returns:
        The generator and its history.

    Raises:
        ValueError: for data or a folder that do not fit, and for a loss that is not finite.
            Earlier checkpoints are kept.

    Differences from the paper:
        The discriminator learns classes from real images only. With the generated ones too, it
        learns them from images whose class is not yet visible, and fewer images show the class that
        was wanted. The rates of the two optimisers differ.

    References:
        Odena, Olah, Shlens. Conditional image synthesis with auxiliary classifier GANs. 2017.
    """
    store = None if folder is None else store_of(folder)
    if store is None:
        return _train(data, options, None, resume, progress, {})
    check_place(store, PLACE)
    with lock_of(store):
        return _train(data, options, store, resume, progress, files or {})


def _train(
    data: AnyData,
    options: GeneratorOptions,
    store: Store | None,
    resume: bool,
    progress: bool,
    files: Mapping[str, bytes],
) -> GeneratorResult:
    device = usable_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batches = _batches(data, options, device)
    networks = _networks(data, options, device)
    if store is not None:
        begin_generator(store, identity(options, networks[0], batches), resume)
        for name, content in files.items():
            if not store.exists(name):
                store.write(name, content)
    trackers = Trackers((), {}, None)
    with global_streams_kept(device):
        run = _Run(
            options,
            device,
            batches,
            *networks,
            torch.optim.Adam(networks[0].parameters(), options.learning_rate, BETAS),
            torch.optim.Adam(networks[1].parameters(), options.discriminator_rate, BETAS),
            store,
            Reporter("generator", progress, trackers),
        )
        _resume(run)
        with run.reporter.bar(options.epochs * len(batches), run.update):
            while len(run.history) < options.epochs:
                _train_epoch(run)
        if store is not None:
            write_history(store, run.history)  # a killed run may not have written it
            content = safetensors_of(run.generator.state_dict(), generator_metadata(run.generator))
            store.write(GENERATOR, content)
    return GeneratorResult(run.generator.eval(), run.history, run.update, run.seconds)


def identity(
    options: GeneratorOptions,
    generator: ConditionalGenerator,
    batches: TensorBatches | DatasetBatches,
) -> dict[str, Any]:
    """Return everything that decides the weights, as JSON values."""
    own = {
        name: getattr(options, name)
        for name, (_, about) in options_of(GeneratorOptions).items()
        if about.decides == "weights"
    }
    found: dict[str, Any] = json.loads(json.dumps({**own, **generator.arguments}))
    return {**found, "samples": batches.describe()}


# --- begin ---


def _batches(
    data: AnyData, options: GeneratorOptions, device: torch.device
) -> TensorBatches | DatasetBatches:
    """Return the minibatches of real images.

    Raises:
        ValueError: for data that are no images, or lie outside the box.
    """
    if len(data.shape) != 3:
        raise ValueError(f"a generator needs images (C, H, W), got samples {tuple(data.shape)}")
    if any(side % 4 for side in data.shape[1:]):
        raise ValueError(
            "height and width of the images must be multiples of 4, got"
            f" {tuple(data.shape[1:])}: --resize changes them"
        )
    if isinstance(data, LazyDataset):
        rows = torch.arange(len(data))
        pin = device.type == "cuda"
        return DatasetBatches(data, rows, BOX, options.batch_size, options.seed, pin=pin)
    x = Box.of(BOX, data.shape, torch.device("cpu")).admit(data.x).to(device)
    return TensorBatches(x, data.y, options.batch_size, options.seed)


def classes_of(data: AnyData) -> int:
    """Return the number of classes of a data set.

    Raises:
        ValueError: if it has neither labels in memory nor names of classes, or one class only.
    """
    if data.class_names is not None:
        found = len(data.class_names)
    elif data.labels is not None:
        found = int(data.labels.max()) + 1
    else:
        raise ValueError(f"{data.name} must have names of classes, or labels in memory")
    if found < 2:
        raise ValueError(f"a conditional generator needs two classes or more, got {found}")
    return found


def _networks(
    data: AnyData, options: GeneratorOptions, device: torch.device
) -> tuple[ConditionalGenerator, Discriminator]:
    """Return both networks with initial weights of the seed."""
    channels, height, columns = data.shape
    classes = classes_of(data)
    size = (height, columns)
    with seeded(options.seed):
        generator = ConditionalGenerator(size, options.latent_dim, classes, options.width, channels)
        discriminator = Discriminator(size, classes, options.width, channels)
    return generator.to(device), discriminator.to(device)


# --- train ---


def _train_epoch(run: _Run) -> None:
    """Train on the minibatches of an epoch, and save."""
    run.generator.train()
    run.discriminator.train()
    sums = torch.zeros(3, device=run.device)
    before = run.update
    for batch in run.batches.epoch(len(run.history), 0, 0, 1):
        sums += _update(run, batch)
        run.update += 1
        run.reporter.advance(run.update)
    means = (sums / (run.update - before)).cpu().tolist()  # the one wait for the device
    if not all(map(math.isfinite, means)):
        raise ValueError(
            f"a loss is not finite in epoch {len(run.history)}, counted from 0: lower the learning"
            " rates; earlier checkpoints are kept"
        )
    row: Row = {
        "epoch": len(run.history) + 1,
        "updates": run.update,
        "discriminator_loss": means[0],
        "generator_loss": means[1],
        "class_accuracy": means[2],
        "seconds": run.seconds,
    }
    run.history.append(row)
    run.reporter.report(row, run.update)
    _save(run)


def _update(run: _Run, batch: Batch) -> Tensor:
    """Make one weight update of each network.

    Returns:
        (3,) losses of discriminator and generator, and the share of real images whose class the
        discriminator finds.
    """
    options = run.options
    generator = run.generator
    seed_streams(options.seed, run.update, 0, run.device)  # of dropout
    x = batch.x.to(run.device, non_blocking=True)
    y = batch.y.to(run.device, non_blocking=True)
    ids = torch.arange(options.batch_size, device=run.device)
    z = normal(options.seed, ids, 2 * run.update, (options.latent_dim,))
    share = uniform(options.seed, ids, 2 * run.update + 1)
    wanted = (share * generator.num_classes).long()
    generated = generator(z, wanted)

    real, classes = run.discriminator(torch.cat([x, generated.detach()]))
    of_real = real[: len(x)]
    of_generated = real[len(x) :]
    targets = torch.full_like(of_real, options.real_target)
    loss = (
        functional.binary_cross_entropy_with_logits(of_real, targets)
        + functional.softplus(of_generated).mean()
        + functional.cross_entropy(classes[: len(x)], y)
    )
    run.of_discriminator.zero_grad()
    loss.backward()
    run.of_discriminator.step()

    real, found = run.discriminator(generated)
    of_class = functional.cross_entropy(found, wanted)
    generator_loss = functional.softplus(-real).mean() + options.class_weight * of_class
    run.of_generator.zero_grad()
    generator_loss.backward(inputs=list(generator.parameters()))
    run.of_generator.step()
    accuracy = (classes[: len(x)].argmax(1) == y).to(loss.dtype).mean()
    return torch.stack([loss.detach(), generator_loss.detach(), accuracy])


# --- checkpoints ---


def _parts(run: _Run) -> Mapping[str, nn.Module | torch.optim.Optimizer]:
    """Return what a checkpoint holds the state of, by name."""
    return {
        "generator": run.generator,
        "discriminator": run.discriminator,
        "of_generator": run.of_generator,
        "of_discriminator": run.of_discriminator,
    }


def _save(run: _Run) -> None:
    """Write a checkpoint and the history, if there is a folder."""
    if run.store is None:
        return
    state = {name: part.state_dict() for name, part in _parts(run).items()}
    progress = {"update": run.update, "history": run.history, "seconds": run.seconds}
    save_checkpoint(run.store, run.update, {**state, **progress}, CHECKPOINTS)
    write_history(run.store, run.history)


def _resume(run: _Run) -> None:
    """Restore the newest checkpoint of the folder, if there is one."""
    found = [] if run.store is None else checkpoints(run.store, CHECKPOINTS)
    if run.store is None or not found:
        return
    saved = load_checkpoint(run.store, f"{CHECKPOINTS}/{found[-1].name}")
    for name, part in _parts(run).items():
        part.load_state_dict(saved[name])
    run.update = saved["update"]
    run.history = saved["history"]
    run.earlier = saved["seconds"]
    logger.info("resumed from %s after %d epochs", found[-1].name, len(run.history))
