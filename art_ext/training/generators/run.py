"""A run of ``art-ext generator train``: data, training, quality, and the folder that holds them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from art_ext import __version__
from art_ext.configuration.data import data_keywords
from art_ext.configuration.files import to_toml
from art_ext.configuration.generator import GeneratorConfig
from art_ext.data import load_data
from art_ext.storage import formats
from art_ext.storage.generators import PLACE, QUALITY, SHEET, TOOL, judge_remark, read_quality
from art_ext.storage.locking import lock_of
from art_ext.storage.ownership import check_place, write_json
from art_ext.storage.store import LocalStore, local_folder
from art_ext.storage.training import CONFIGURATION
from art_ext.training.generators.loop import classes_of, train_generator
from art_ext.training.generators.quality import measure_quality
from art_ext.training.generators.sampling import sample
from art_ext.training.generators.sheet import COLUMNS, can_draw, sheet
from art_ext.training.runs.requirements import require_training

AGREEMENT = 0.95  # below it, the wanted class is no good label


def run_generator_training(
    config: GeneratorConfig, *, progress: bool = False, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Train a generator, measure it, and write everything to a folder.

    Checkpoints and history are written with the epochs, ``generator.safetensors`` at the end of the
    training, then ``samples.png``, and ``quality.json`` last.

    Args:
        config: the run.
        progress: show a bar.
        say: function that gets the progress messages, one line each.

    Returns:
        The content of ``quality.json``.

    Raises:
        ValueError: for data or a folder that do not fit, or a loss that is not finite.
        ImportError: without the extra ``train``.
    """
    say = say or (lambda line: None)
    require_training()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a generator is trained by one process, got several under torchrun")
    store = LocalStore(local_folder(config.out, "generator train"))
    check_place(store, PLACE)
    keywords = data_keywords(config)
    train = load_data(config.data, split="train", **keywords).first(config.n)
    test = load_data(config.data, **keywords)
    if test.shape != train.shape:
        shapes = f"{tuple(train.shape)} and {tuple(test.shape)}"
        raise ValueError(f"training and test samples must have one shape, got {shapes}")
    comment = f"{TOOL} {__version__}; to repeat: {TOOL} --config THIS_FILE --out FOLDER"
    files = {CONFIGURATION: to_toml(GeneratorConfig, config, comment).encode()}
    with lock_of(store):
        say(f"training on {len(train):,} images of {train.name}, {classes_of(train)} classes")
        result = train_generator(
            train, config, folder=store, resume=config.resume, progress=progress, files=files
        )
        finished = read_quality(store)
        if finished is not None:
            return finished
        say("measuring the images")
        started = time.perf_counter()
        generator = result.generator
        if can_draw():
            images = sample(generator, COLUMNS * generator.num_classes, seed=config.seed).x
            store.write(SHEET, sheet(images, generator.num_classes))
        else:
            say(f"{SHEET} needs Pillow, which is not installed: pip install 'art-ext[report]'")
        measured = measure_quality(generator, train.in_memory(), test.in_memory(), seed=config.seed)
        quality = {
            "tool": TOOL,
            "format": formats.GENERATOR.written,
            "version": __version__,
            "torch": torch.__version__,
            "data": config.data,
            **measured,
            "updates": result.updates,
            "seconds": result.seconds,
            "seconds_of_quality": time.perf_counter() - started,
            "warnings": _warnings(measured),
        }
        write_json(store, QUALITY, quality)
    return quality


def _warnings(quality: dict[str, Any]) -> list[dict[str, str]]:
    """Return reasons to doubt the generator, in the format of an evaluation."""
    agreement = quality["agreement"]
    if agreement >= AGREEMENT:
        return []
    message = (
        f"{agreement:.1%} of the images show the wanted class, needed"
        f" {AGREEMENT:.0%}: risks and robustness on them count wrong labels as errors"
        f"{judge_remark(quality)}"
    )
    return [{"kind": "generator-labels", "message": message}]
