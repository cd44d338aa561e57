"""Networks to train: any source of ``load_model``. Initial weights depend on a seed only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from art_ext.models.sources import LoadedModel, ModelSource, load_source, short_name
from art_ext.models.sources.libraries import seeded

if TYPE_CHECKING:
    from art_ext.training.recipes import Recipe
    from art_ext.training.runs.configuration import Configuration

__all__ = ["build_network", "make_network", "network_of", "source_of"]


def source_of(configuration: Configuration) -> ModelSource:
    """Return the source of the network of a training, before its weights are trained.

    A network of this package has no pretrained weights. Those of a library have, unless
    ``untrained`` is set.
    """
    own = short_name(configuration.model) is not None
    return ModelSource(
        configuration.model,
        configuration.model_args,
        configuration.weights,
        configuration.normalize,
        trust_checkpoint=configuration.trust_checkpoint,
        untrained=configuration.untrained or (own and configuration.weights is None),
        seed=configuration.seed,
    )


def build_network(configuration: Configuration, recipe: Recipe) -> tuple[LoadedModel, nn.Module]:
    """Return the loaded source of a training, and the network that the recipe builds of it.

    Raises:
        ValueError, ImportError: as ``load_model``, and if the recipe cannot train the source.
    """
    source = source_of(configuration)
    loaded = load_source(source, training=True)

    def make(seed: int) -> nn.Module:
        own = seed == configuration.seed
        return network_of(loaded if own else load_source(replace(source, seed=seed), training=True))

    with seeded(configuration.seed):  # a recipe may draw new layers
        return loaded, recipe.build(make, configuration.seed)


def network_of(loaded: LoadedModel) -> nn.Module:
    """Return the network of a loaded source.

    Raises:
        ValueError: if it is no ``nn.Module``.
    """
    model = loaded.model
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"a model to train must be an nn.Module, but {loaded.source.source!r} made a"
            f" {type(model).__name__}"
        )
    return model


def make_network(name: str, arguments: Mapping[str, str], seed: int) -> nn.Module:
    """Create an untrained network by its name. torch's global random stream is not changed.

    Raises:
        ValueError, ImportError: as ``load_model``, and if the source is no ``nn.Module``.
    """
    source = ModelSource(name, arguments, untrained=True, seed=seed)
    return network_of(load_source(source, training=True))
