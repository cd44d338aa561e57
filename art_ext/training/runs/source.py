"""The folder of a finished ``art-ext train`` as the source of a model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.configuration.data import DataOptions, transform_of
from art_ext.configuration.options import default_of, options_of
from art_ext.core.checks import listed
from art_ext.core.geometry import norm_name
from art_ext.models import load_weights
from art_ext.models.layers import head_records
from art_ext.models.sources import ModelSource, Opened, is_run_folder, load_source
from art_ext.models.weights import read_heads
from art_ext.storage.store import LocalStore
from art_ext.storage.training import (
    BEST,
    CHECKPOINT_NAME,
    CHECKPOINTS,
    CONFIGURATION,
    RUN,
    TEACHER,
    TRAINING,
    WEIGHTS,
    read_run,
)
from art_ext.training.checkpoints import checkpoints, load_checkpoint
from art_ext.training.heads import HEADS, with_heads
from art_ext.training.runs.configuration import Configuration, resolve
from art_ext.training.runs.networks import network_of, source_of

logger = logging.getLogger("art_ext")


def open_model(source: ModelSource) -> Opened:
    """Return the network of a training with its weights and the head of its recipe.

    Raises:
        ValueError: for a folder of other files, a training that is not finished, or arguments of
            another kind of source.
    """
    folder = Path(source.source)
    configuration = read_configuration(folder)
    for option in ("model_args", "untrained"):
        if getattr(source, option):
            raise ValueError(f"{folder} holds a trained network: {option} does not apply")
    file = folder / (BEST if source.checkpoint == "best" else WEIGHTS)
    if source.checkpoint == "best" and not file.is_file():
        logger.info(
            "%s holds no %s, because it chose none: its final weights are used", folder, BEST
        )
        file = folder / WEIGHTS
    loaded = load_source(source_of(configuration), training=True)
    weights = source.weights or file
    model = _headed(loaded.model, configuration, read_heads(weights))
    if source.checkpoint.startswith(CHECKPOINT_NAME):
        _load_kept(model, folder, source.checkpoint)
    else:
        load_weights(model, weights, trust_checkpoint=source.trust_checkpoint)
    return Opened(
        model,
        transform=transform_of(configuration) or loaded.transform,
        class_names=loaded.class_names,
        class_ids=loaded.class_ids,
        normalizes=True,
    )


def kept_checkpoints(folder: Path) -> list[tuple[str, int]]:
    """Return the checkpoints that a finished training keeps, oldest first: name and epoch.

    Raises:
        ValueError: for a folder of other files, or one without any checkpoint.
    """
    read_configuration(folder)
    found = checkpoints(folder, CHECKPOINTS)
    if not found:
        raise ValueError(f"{folder} holds no checkpoints: train it again, or leave out checkpoints")
    return [
        (one.name, int(load_checkpoint(folder, f"{CHECKPOINTS}/{one.name}")["epoch"]))
        for one in found
    ]


def _load_kept(model: nn.Module, folder: Path, name: str) -> None:
    """Load the weights of a checkpoint that a training keeps. Buffers of its head stay.

    Raises:
        ValueError: if there is no such checkpoint, or its weights do not fit.
    """
    known = [one.name for one in checkpoints(folder, CHECKPOINTS)]
    if name not in known:
        raise ValueError(
            f"checkpoint must be best, final or one that {folder} keeps"
            f" ({', '.join(known) or 'it keeps none'}), got {name!r}"
        )
    saved = load_checkpoint(folder, f"{CHECKPOINTS}/{name}")["model"]
    own = model.state_dict()
    kept = {key: value for key, value in own.items() if key not in saved}
    wrong = [key for key in kept if not key.startswith("head.")] + [*(saved.keys() - own.keys())]
    if wrong:
        raise ValueError(
            f"the checkpoint {name} of {folder} does not fit the network: {listed(wrong)}"
        )
    model.load_state_dict({**kept, **saved})


def _headed(
    network: nn.Module, configuration: Configuration, records: list[dict[str, Any]]
) -> nn.Module:
    """Return the network with the heads of its weights, or else with the head of the recipe.

    Heads that the network brings from its source are not added again. Only the recipe has a head
    that is not one of art-ext. Weights of earlier versions name none.
    """
    own = head_records(network)
    further = records[: len(records) - len(own)] if _ends_with(records, own) else records
    if records and all(record["name"] in HEADS for record in further):
        return with_heads(network, further)
    return configuration.make_recipe().head.export(network)


def _ends_with(records: list[dict[str, Any]], own: list[dict[str, Any]]) -> bool:
    """Return True if the innermost of these heads are the own ones."""
    return len(own) <= len(records) and records[len(records) - len(own) :] == own


def load_teacher(source: str) -> nn.Module:
    """Return the network that gives soft labels, in eval mode.

    Args:
        source: a model, as ``load_model`` takes it. Of the folder of a distillation it is the
            teacher, of that of another training the best weights.

    Raises:
        ValueError: as ``load_model``, and for a model that is no network.
    """
    file = Path(source) / TEACHER
    trained = is_run_folder(source) and file.is_file()
    return network_of(load_source(ModelSource(source, weights=str(file) if trained else None)))


def run_defaults(folder: Path) -> dict[str, Any]:
    """Return data, norm, eps and box of a training, by the names of evaluate's options.

    Raises:
        ValueError: as ``open_model``.
    """
    configuration = read_configuration(folder)
    norm = norm_name(configuration.recipe_args.get("norm", "linf"))
    found = {"data": configuration.data, "norm": norm, "eps": (configuration.eps,)}
    return {**found, "clip_values": configuration.clip_values, **_places(configuration)}


def _places(configuration: Configuration) -> dict[str, Any]:
    """Return where and how the data are read, where that is not the default."""
    given = {name: getattr(configuration, name) for name in options_of(DataOptions)}
    defaults = {name: default_of(one) for name, (one, _) in options_of(DataOptions).items()}
    return {
        name: value
        for name, value in given.items()
        if value != defaults[name] and name not in ("download", "data_workers")
    }


def read_configuration(folder: Path) -> Configuration:
    """Return the configuration of a finished training.

    Raises:
        ValueError: for a folder of other files, or a training that is not finished.
    """
    store = LocalStore(folder)
    if not store.exists(CONFIGURATION) or not (store.exists(TRAINING) or store.exists(RUN)):
        hint = f" (write hf/{folder} for transformers)" if store.exists("config.json") else ""
        raise ValueError(
            f"{folder} must be the folder of a finished art-ext train, but it holds no"
            f" {CONFIGURATION} of one{hint}"
        )
    if read_run(store) is None:
        if store.exists(RUN):
            raise ValueError(
                f"{folder / RUN} must be that of a finished art-ext train, but it is damaged: write"
                f" it again with art-ext train --resume --out {folder}"
            )
        raise ValueError(
            f"{folder} holds a training that is not finished: go on with art-ext train --resume"
            f" --out {folder}"
        )
    return resolve({}, folder / CONFIGURATION)
