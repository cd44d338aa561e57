"""The content of ``run.json``: the run, and the figures of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_ext import __version__
from art_ext.core.metrics import chance_warning
from art_ext.data import Dataset, LazyDataset
from art_ext.models import load_model
from art_ext.models.layers import head_records
from art_ext.storage import formats
from art_ext.storage.training import BEST, TOOL, WEIGHTS
from art_ext.training import Recipe, TrainingResult
from art_ext.training.optimizers import used_rate
from art_ext.training.runs.configuration import Configuration
from art_ext.training.runs.figures import SEED, measure, measure_weights, step_size
from art_ext.training.runs.folder import figure_settings

EFFORT = ("epoch", "forwards", "backwards", "seconds")


def record_of(
    configuration: Configuration,
    recipe: Recipe,
    result: TrainingResult,
    test: Dataset | LazyDataset,
    device: torch.device,
) -> dict[str, Any]:
    """Measure the weights of a run that has just ended, and return the content of ``run.json``."""
    settings = _settings(configuration, norm_of(recipe), recipe.head.attack_loss)
    final = {**_effort(result, len(result.history)), **measure(result.model, test, **settings)}
    best = None
    heads = head_records(result.model)
    if result.best is not None and result.best_epoch is not None:
        measured = measure_weights(result.model, result.best, test, **settings)
        best = {**_effort(result, result.best_epoch), **measured}
    return {
        "tool": TOOL,
        "format": formats.TRAINING.written,
        **_versions(device),
        "recipe": recipe.settings(),
        "data": configuration.data,
        "model": configuration.model,
        "seed": configuration.seed,
        "learning_rate": used_rate(configuration),
        **({"heads": heads} if heads else {}),
        "updates": result.updates,
        "seconds": result.seconds,
        "forwards": result.forwards,
        "backwards": result.backwards,
        **_figures(configuration, settings, len(test)),
        "final": final,
        "best": best,
    }


def measured_again(
    configuration: Configuration,
    finished: Mapping[str, Any],
    model: nn.Module,
    folder: Path,
    test: Dataset | LazyDataset,
    device: torch.device,
) -> dict[str, Any]:
    """Measure the weights of a finished run again, and return the content of ``run.json``.

    Args:
        configuration: of the run, with the wanted figures.
        finished: the earlier content.
        model: the network with the final weights.
        folder: of the run, which holds the best weights.
        test: the test data.
        device: to measure on.
    """
    settings = _settings(configuration, finished["norm"], finished["pgd"].get("loss", "ce"))
    final = {**_kept(finished["final"]), **measure(model, test, **settings)}
    best = None
    if finished["best"] is not None:
        model = load_model(folder, device=str(device)).model
        best = {**_kept(finished["best"]), **measure(model, test, **settings)}
    return {
        **finished,
        "format": formats.TRAINING.written,
        **_versions(device),
        **_figures(configuration, settings, len(test)),
        "final": final,
        "best": best,
    }


def has_figures(run: Mapping[str, Any], configuration: Configuration) -> bool:
    """Return True if a ``run.json`` holds the figures that a configuration wants."""
    # not by config.toml, which is written first if other figures are wanted
    return bool(run.get("figures") == figure_settings(configuration))


def has_weights(run: Mapping[str, Any], folder: Path) -> bool:
    """Return True if a folder holds the weights whose figures a ``run.json`` states."""
    names = [WEIGHTS] if run["best"] is None else [WEIGHTS, BEST]
    return all((folder / name).is_file() for name in names)


def warnings_of(
    run: Mapping[str, Any], test: Dataset | LazyDataset, classes: int
) -> list[dict[str, str]]:
    """Return reasons to doubt the figures, in the format of an evaluation."""
    correct = round(run["final"]["clean"] * len(test))
    message = chance_warning(correct, test.y.bincount().tolist(), classes)
    return [] if message is None else [{"kind": "chance-level", "message": message}]


def norm_of(recipe: Recipe) -> str:
    """Return the norm of a recipe's ball."""
    return str(getattr(recipe, "norm", "linf"))


def _settings(configuration: Configuration, norm: str, loss: str) -> dict[str, Any]:
    """Return the keywords of ``measure``."""
    return {
        "eps": configuration.eps,
        "norm": norm,
        "clip_values": configuration.clip_values,
        "queries": configuration.rays,
        "pgd_steps": configuration.pgd_steps,
        "pgd_step_size": configuration.pgd_step_size,
        "loss": loss,
    }


def _figures(
    configuration: Configuration, settings: Mapping[str, Any], samples: int
) -> dict[str, Any]:
    """Return the entries on how the figures are measured."""
    steps, length, loss = settings["pgd_steps"], settings["pgd_step_size"], settings["loss"]
    return {
        "test_samples": samples,
        "eps": settings["eps"],
        "norm": settings["norm"],
        "pgd": {
            "steps": steps,
            "step_size": step_size(settings["eps"], steps, length),
            "starts": 1,
            "seed": SEED,
            **({} if loss == "ce" else {"loss": loss}),
        },
        "figures": figure_settings(configuration),
    }


def _versions(device: torch.device) -> dict[str, str]:
    return {"version": __version__, "torch": torch.__version__, "device": str(device)}


def _effort(result: TrainingResult, epoch: int) -> dict[str, Any]:
    """Return the cost up to the end of an epoch."""
    row = result.history[epoch - 1]
    return {
        "epoch": epoch,
        "forwards": int(row["forwards"]),
        "backwards": int(row["backwards"]),
        "seconds": row["seconds"],
    }


def _kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost that earlier figures state."""
    return {name: figures[name] for name in EFFORT}
