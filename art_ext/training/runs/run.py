"""A training run: data, network, training, figures, and the folder that holds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.configuration.data import data_keywords
from art_ext.core.geometry import Box, check_ball
from art_ext.core.networks import usable_device
from art_ext.core.outputs import read_outputs
from art_ext.data import Dataset, LazyDataset, load_data
from art_ext.models import load_model
from art_ext.storage.differences import flat
from art_ext.storage.locking import is_main_process
from art_ext.storage.ownership import drop_previous, sweep, write_json
from art_ext.storage.store import LocalStore, local_folder
from art_ext.storage.training import (
    CONFIGURATION,
    HISTORY_TABLE,
    RUN,
    configuration_of,
    locked_training,
    put_training_aside,
)
from art_ext.tracking import Trackers, key
from art_ext.training import Recipe, TrainingOptions
from art_ext.training.appending import appended
from art_ext.training.augmentation import check_padding
from art_ext.training.batches import OrderedBatches
from art_ext.training.extra import ExtraRows
from art_ext.training.loop import train_tracked
from art_ext.training.modes import frozen_modules
from art_ext.training.options import updates_within
from art_ext.training.runs.configuration import Configuration
from art_ext.training.runs.folder import check_folder
from art_ext.training.runs.networks import build_network
from art_ext.training.runs.record import (
    has_figures,
    has_weights,
    measured_again,
    norm_of,
    record_of,
    warnings_of,
)
from art_ext.training.runs.requirements import require_training
from art_ext.training.runs.source import load_teacher
from art_ext.training.trial import check_one_row, raw_output
from art_ext.training.validation import held_count, hold_out

Say = Callable[[str], None]
AnyData = Dataset | LazyDataset


def run_training(
    configuration: Configuration,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    say: Say | None = None,
) -> dict[str, Any] | None:
    """Train, measure, and write everything to a folder.

    ``config.toml`` is written at the start, history and checkpoints with the epochs,
    ``model.safetensors`` and ``best.safetensors`` at the end of the training, and ``run.json``
    last.

    Args:
        configuration: the run.
        out: the run folder. It is new or empty or, with ``resume``, that of the same run or, with
            ``overwrite``, that of any run of art-ext train.
        resume: continue from the newest checkpoint. A finished run is not trained again. Its
            figures are measured again only if other figures are wanted (``rays``, ``test_n``,
            ``pgd_steps``, ``pgd_step_size``), from its weights and the test data alone.
        overwrite: start again. An earlier run is kept in the hidden folder ``.previous-run`` until
            this one is complete. Files of other origin stay.
        progress: show a bar.
        say: function that gets the progress messages, one line each.

    Returns:
        The content of ``run.json``. None on all but the main process.

    Raises:
        ValueError: before anything is written, for a folder with other files or of another run, and
            for data, network and settings that do not fit each other. Later, if a loss is not
            finite.
        ImportError: without the extra ``train``.
    """
    folder = local_folder(out, "train")
    say = say or (lambda line: None)
    # torchrun's rank, because Accelerate's is known only in the training
    main = is_main_process()
    finished = check_folder(folder, configuration, resume, overwrite)
    if finished is not None and (not main or has_figures(finished, configuration)):
        return finished if main else None
    require_training()
    trackers = Trackers(
        configuration.tracker_names(),
        configuration.tracker_args,
        folder,
        driver=main,
        facts={"config": configuration.facts()},
    )
    if finished is not None and has_weights(finished, folder):
        device = _device(configuration)
        with locked_training(folder), closing(trackers):
            check_folder(folder, configuration, resume)  # it may have changed meanwhile
            return _measured_again(configuration, finished, folder, device, trackers, say)
    recipe = configuration.make_recipe()
    loaded, model = build_network(configuration, recipe)
    options = {**data_keywords(configuration), "model": loaded.facts}
    data = load_data(configuration.data, split="train", **options).first(configuration.n)
    recipe = recipe.fitted(model, data.rows(0, 2)[0], configuration.seed)
    test = load_data(configuration.data, **options).first(configuration.test_n)
    device = _device(configuration)
    classes = _check_fit(configuration, recipe, model, data, test)
    teacher = _teacher(configuration, classes, data)
    # other processes wait for this one when Accelerate creates the group, so none writes before
    with locked_training(folder), closing(trackers):
        if main:
            check_folder(folder, configuration, resume, overwrite)  # it may have changed meanwhile
            _begin(folder, configuration, overwrite)
            weights = sum(parameter.numel() for parameter in model.parameters())
            say(
                f"{configuration.recipe} on {len(data)} samples of {data.name}:"
                f" {configuration.model}, {weights:,} weights"
            )
        trained = TrainingOptions(
            **configuration.options(),
            checkpoint_dir=folder,
            resume=resume,
            device=device,
            teacher=teacher,
            progress=progress,
        )
        result = train_tracked(model, data, recipe, trained, trackers)
        if not main:
            return None
        say(f"measuring on {len(test)} test samples")
        run = record_of(configuration, recipe, result, test, device)
        if configuration.validation:
            run["validation_samples"] = held_count(configuration.validation, len(data))
        run["warnings"] = warnings_of(run, test, classes)
        _finish(folder, run, trackers)
    return run


def _measured_again(
    configuration: Configuration,
    finished: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    trackers: Trackers,
    say: Say,
) -> dict[str, Any]:
    """Measure the weights of a finished run for other figures. Training data are not needed.

    Args:
        configuration: of the run, with the wanted figures.
        finished: the content of its ``run.json``.
        folder: of the run.
        device: to measure on.
        trackers: of the run. They are started here.
        say: as in ``run_training``.
    """
    loaded = load_model(folder, checkpoint="final", device=str(device))
    options = {**data_keywords(configuration), "model": loaded.facts}
    test = load_data(configuration.data, **options).first(configuration.test_n)
    _begin(folder, configuration, overwrite=False)
    trackers.start(configuration_of(LocalStore(folder)))
    say(f"measuring on {len(test)} test samples")
    run = measured_again(configuration, finished, loaded.model, folder, test, device)
    run["warnings"] = warnings_of(run, test, _classes(loaded.model, test.rows(0, 2)[0], "model"))
    _finish(folder, run, trackers)
    return run


def _final_values(run: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the figures of ``run.json``, and the warnings, for trackers."""
    figures = flat({name: run[name] for name in ("final", "best") if run[name]})
    numbers = {key(*name.split(".")): one for name, one in figures.items() if one is not None}
    return {**numbers, "warnings": "\n".join(one["message"] for one in run["warnings"]) or "none"}


def _begin(folder: Path, configuration: Configuration, overwrite: bool) -> None:
    """Put an earlier run aside and write ``config.toml``, which says whose the folder is."""
    store = LocalStore(folder)
    if overwrite:
        put_training_aside(store)
    sweep(store, (CONFIGURATION, RUN))
    store.write(CONFIGURATION, configuration.to_toml().encode())


def _finish(folder: Path, run: Mapping[str, Any], trackers: Trackers) -> None:
    """Write ``run.json``, which says that the run is complete, and conclude the trackers."""
    store = LocalStore(folder)
    write_json(store, RUN, run)
    drop_previous(store)
    trackers.conclude(_final_values(run), (CONFIGURATION, HISTORY_TABLE, RUN), run["updates"])


# --- checks ---


def _device(configuration: Configuration) -> torch.device:
    """Return the device to train on.

    Raises:
        ValueError: for a device that this machine does not have, or a precision that the device
            does not support.
    """
    name = configuration.device or ("cuda" if torch.cuda.is_available() else "cpu")
    # each process of a group gets a device of its own later
    device = usable_device(name, tried="WORLD_SIZE" not in os.environ)
    if configuration.precision == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU, got the device cpu: pass bf16 or no")
    return device


def _check_fit(
    configuration: Configuration, recipe: Recipe, model: nn.Module, data: AnyData, test: AnyData
) -> int:
    """Raise ValueError unless data, network and settings fit each other.

    This is done before the folder is written.

    Returns:
        The number of classes of the network.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if configuration.batch_size % processes:
        raise ValueError(
            f"batch_size must be a multiple of the {processes} processes, got"
            f" {configuration.batch_size}"
        )
    check_padding(configuration.crop_padding, data.shape)
    box = Box.of(configuration.clip_values, data.shape, torch.device("cpu"))
    check_ball(norm_of(recipe), configuration.eps, box)
    recipe.check(box)
    for split, part in (("training", data), ("test", test)):
        # what is not in memory is checked when it is read
        few = part.x if isinstance(part, Dataset) else part.rows(0, 2)[0]
        box.admit(few, f"x of the {split} data")
    if test.shape != data.shape:
        shapes = f"{tuple(data.shape)} and {tuple(test.shape)}"
        raise ValueError(f"training and test samples must have one shape, got {shapes}")
    rows = data.rows(0, 2)[0]
    classes = _classes(recipe.head.export(model), rows, "model")
    batches = _batches(configuration, data, box, classes)
    if configuration.passes is not None:
        cost = TrainingOptions(**configuration.options()).cost(recipe)
        first = batches.sizes(processes)[:1]
        updates_within(configuration.passes, cost, recipe.replays, first, batches.samples())
    labels = [part.labels for part in (data, test) if part.labels is not None]
    largest = max((int(one.max()) for one in labels), default=0)
    if largest >= classes:
        raise ValueError(f"labels must be below {classes}, the model's outputs, got {largest}")
    check_one_row(
        model,
        rows[:1],
        samples=sum(batches.sizes(1)),
        batch_size=configuration.batch_size,
        drop_last=configuration.drop_last,
        processes=processes,
        frozen=frozen_modules(model) if configuration.freeze_eval_modules else (),
    )
    return classes


def _batches(configuration: Configuration, data: AnyData, box: Box, classes: int) -> OrderedBatches:
    """Return the places of the samples of a run in its minibatches.

    Raises:
        ValueError: for samples to add, or a batch size, that do not fit.
    """
    kept = torch.arange(len(data))
    if configuration.validation:
        (kept, _), _ = hold_out(kept, kept, configuration.validation, configuration.seed)
    counts = []
    for name in ("append", "extra_data"):
        more = appended(getattr(configuration, name), data.shape, box, classes, name)
        counts.append(0 if more is None else len(more[0]))
    samples = len(kept) + counts[0]
    size = configuration.batch_size
    share, weight = configuration.extra_share, configuration.extra_weight
    extra = ExtraRows.of(samples, counts[1], size, share, weight)
    total = samples + counts[1]
    return OrderedBatches(total, size, configuration.seed, configuration.drop_last, extra)


def _classes(model: nn.Module, rows: Tensor, name: str) -> int:
    """Return the number of classes of a network.

    Raises:
        ValueError: if it fails on the rows (r, *S), or returns no class scores.
    """
    return read_outputs(raw_output(model, rows, name), len(rows), "logits").shape[1]


def _teacher(configuration: Configuration, classes: int, data: AnyData) -> nn.Module | None:
    """Return the teacher that the configuration names, or None.

    Raises:
        ValueError: unless it has the classes of the network.
    """
    if configuration.teacher is None:
        return None
    teacher = load_teacher(str(configuration.teacher))
    found = _classes(teacher, data.rows(0, 2)[0], "teacher")
    if found != classes:
        raise ValueError(f"the teacher must have the {classes} classes of the model, got {found}")
    return teacher
