"""Checkpoints of trainings as models of a run on limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from art_ext.evaluation.execution.models import Models, distinct
from art_ext.models.sources import ModelSource, is_run_folder


def with_checkpoints(models: Models) -> tuple[dict[str, ModelSource], dict[str, tuple[str, int]]]:
    """Return the models, each followed by the checkpoints that its training keeps.

    Args:
        models: as of ``limits``, given by name.

    Returns:
        The sources by name, and by the name of a checkpoint the name of its training and its epoch.

    Raises:
        ValueError: unless all models are folders of trainings that keep checkpoints.
    """
    from art_ext.training.runs.source import kept_checkpoints

    found: dict[str, ModelSource] = {}
    paths: dict[str, tuple[str, int]] = {}
    for name, source in _sources(models).items():
        if not is_run_folder(source.source):
            raise ValueError(
                f"checkpoints are those of a training's folder, got the model {source.source!r}"
            )
        found[name] = source
        for checkpoint, epoch in kept_checkpoints(Path(source.source)):
            own = f"{name} epoch {epoch}"
            found[own] = replace(source, checkpoint=checkpoint, name=own)
            paths[own] = (name, epoch)
    return found, paths


def _sources(models: Models) -> dict[str, ModelSource]:
    """Return the sources of models that are given by name."""
    if isinstance(models, Mapping):
        return {name: _source(one) for name, one in models.items()}
    every = [_source(one) for one in (models if isinstance(models, list | tuple) else [models])]
    return dict(zip(distinct(one.name or one.default_name for one in every), every, strict=True))


def _source(model: Any) -> ModelSource:
    if isinstance(model, ModelSource):
        return model
    if isinstance(model, str | os.PathLike):
        return ModelSource(os.fspath(model))
    raise ValueError(
        f"checkpoints are those of a training's folder, got a {type(model).__name__}: give the"
        " folder of the training"
    )
