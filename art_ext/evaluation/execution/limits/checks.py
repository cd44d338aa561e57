"""Checks of a run on limits that need no folder, so that a rejected run leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from art_ext.core.attacks._latent_images import NO_GRADIENT
from art_ext.core.attacks._latent_starts import check_images
from art_ext.core.geometry import Box
from art_ext.core.limits import check_generator
from art_ext.core.oracle import LabelOracle, Model
from art_ext.data import Dataset, Samples
from art_ext.errors import describe
from art_ext.evaluation.execution.chunks import check_members, gradient_facts
from art_ext.evaluation.execution.limits.samples import generated, oracle_of
from art_ext.evaluation.execution.limits.settings import LimitsSettings
from art_ext.evaluation.execution.models import check_gradients
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.evaluation.panel.resources import resources_of


def check_images_of(generator: Any, settings: LimitsSettings) -> int:
    """Return the number of classes of a generator, after all checks that need no model.

    Raises:
        ValueError: if the generator or the settings are invalid.
    """
    oracle = oracle_of(generator, settings)
    settings.check(oracle.num_classes)
    with oracle, torch.enable_grad():
        check_generator(oracle)
        z = torch.zeros(1, oracle.latent_dim, device=oracle.device, requires_grad=True)
        images = oracle(z, torch.zeros(1, dtype=torch.int64, device=oracle.device))
        if not images.requires_grad:
            raise ValueError(NO_GRADIENT)
        (gradient,) = torch.autograd.grad(images.sum(), z, allow_unused=True)
        if gradient is None:
            raise ValueError(NO_GRADIENT)
    return oracle.num_classes


def check_models(
    models: Mapping[str, Model], generator: Any, attacks: Sequence[Attack], settings: LimitsSettings
) -> None:
    """Raise ValueError unless each model takes the images of a generator, and has its classes.

    Each model gets one image, and one more with a gradient.

    Args:
        models: by name.
        generator: of the run.
        attacks: of the run.
        settings: of the run.
    """
    check_gradients(models, {attack.name: attack.access for attack in attacks})
    image = generated(generator, 1, settings)
    one = Settings(
        eps=(1.0,),
        max_queries=1,
        norm="l2",
        stop_on_success=False,
        outputs=settings.outputs,
        clip_values=(0.0, 1.0),
        batch_size=1,
        device=settings.device,
        seed=0,
    )
    for name, model in models.items():
        try:
            with LabelOracle(model, 1, outputs=settings.outputs, device=settings.device) as oracle:
                oracle.clean_labels(image.x.to(oracle.device))
        except RuntimeError as error:
            raise ValueError(
                f"the generator's images of shape {tuple(image.shape)} do not fit the model"
                f" {name!r}: {describe(error)}"
            ) from error
        check_members(attacks, generator, name, oracle.num_classes)
        if settings.outputs != "labels":
            x, y = image.x.to(oracle.device), image.y.to(oracle.device)
            reason = gradient_facts(model, x, y, y, one, 0)["not_differentiable"]
            check_members(attacks, generator, name, oracle.num_classes, reason)


def check_data(
    data: Samples, generator: Any, settings: LimitsSettings, clip_values: tuple[float, float]
) -> None:
    """Raise ValueError unless samples lie among the images of a generator, in shape and class.

    Values and latents are checked for samples in memory.

    Args:
        data: the samples.
        generator: of the run.
        settings: of the run.
        clip_values: the box.
    """
    oracle = oracle_of(generator, settings)
    shape = generated(generator, 1, settings).shape
    if tuple(data.shape) != tuple(shape):
        raise ValueError(
            f"the data {data.name!r} have samples of shape {tuple(data.shape)}, but the generator"
            f" makes images of shape {tuple(shape)}"
        )
    labels = data.labels
    if labels is not None and len(labels) and int(labels.max()) >= oracle.num_classes:
        raise ValueError(
            f"labels of the data {data.name!r} must be below {oracle.num_classes}, the number of"
            f" the generator's classes, got {int(labels.max())}"
        )
    latents = resources_of(generator, data).latents
    if not isinstance(data, Dataset):
        return
    box = Box.of(clip_values, data.shape, torch.device("cpu"))
    box.admit(data.x)
    is_unit = tuple(clip_values) == (0, 1) or settings.image_range is None
    if latents is None or not is_unit:
        return  # the attack compares the images in its box
    known = (~latents.isnan().any(dim=1)).nonzero().squeeze(1)
    with oracle, torch.no_grad():
        for part in known.split(settings.batch_size):
            made = oracle(latents[part], data.y[part]).cpu()
            check_images(made.flatten(1), data.x[part].flatten(1), part, box.width)
