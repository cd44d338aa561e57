"""Run folder of a training, and the configuration by which it is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch import nn

from art_ext.configuration.options import default_of, options_of
from art_ext.core.identity import digest_of_state
from art_ext.models.factory import file_of_model
from art_ext.models.layers import weights_metadata
from art_ext.storage.files import safetensors_of
from art_ext.storage.store import Store, store_of
from art_ext.storage.training import BEST, WEIGHTS, begin_training
from art_ext.training.datasets import Batches
from art_ext.training.options import TrainingOptions, described
from art_ext.training.recipes import Recipe
from art_ext.training.recipes.registry import file_digest


@dataclass(frozen=True)
class RunFolder:
    """A folder that this run may write into.

    Attributes:
        store: of the folder.
        configuration: everything that decides the weights, as JSON values.
    """

    store: Store
    configuration: Mapping[str, Any]

    @staticmethod
    def open(
        options: TrainingOptions,
        recipe: Recipe,
        model: nn.Module,
        batches: Batches,
        frozen: Collection[str] = (),
    ) -> RunFolder | None:
        """Open the folder of ``options.checkpoint_dir`` and write the run's configuration into it.

        Return None without a folder.

        Raises:
            ValueError: if the folder holds an earlier run that is not to be resumed, a run of
                another configuration (the differences are named), or other files with our names.
                Nothing is written then.
        """
        if options.checkpoint_dir is None:
            return None
        wanted = json.loads(json.dumps(configuration(options, recipe, model, batches, frozen)))
        folder = RunFolder(store_of(options.checkpoint_dir), wanted)
        begin_training(folder.store, wanted, options.resume, _usual(recipe))
        return folder

    def write_weights(self, model: nn.Module, best: Mapping[str, Any] | None) -> None:
        """Write the final weights and, if there are any, those of the best validation.

        The files are ``model.safetensors`` and ``best.safetensors``. Their metadata name the heads.

        Args:
            model: the exported network, with the head of the recipe.
            best: the weights of the best validation.
        """
        metadata = weights_metadata(model)
        self.store.write(WEIGHTS, safetensors_of(model.state_dict(), metadata))
        if best is not None:
            self.store.write(BEST, safetensors_of(best["weights"], metadata))


def configuration(
    options: TrainingOptions,
    recipe: Recipe,
    model: nn.Module,
    batches: Batches,
    frozen: Collection[str] = (),
) -> dict[str, Any]:
    """Return everything that decides the weights, as JSON values.

    Args:
        options, recipe, model, batches: of the run.
        frozen: names of the modules that stay in eval mode.
    """
    shapes = repr([(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()])
    teacher = options.given_teacher()
    files = {"recipe_file": file_digest(recipe), "model_file": file_of_model(model)}
    return {
        "recipe": recipe.settings(),
        **{name: digest for name, digest in files.items() if digest},
        **({"teacher": digest_of_state(teacher)} if teacher is not None else {}),
        "options": options.identity(),
        "model": f"{type(model).__name__} {hashlib.sha256(shapes.encode()).hexdigest()[:16]}",
        "data": batches.describe(),
        **({"frozen": list(frozen)} if frozen else {}),
    }


def _usual(recipe: Recipe) -> dict[str, Any]:
    """Return the defaults of recipe and options, as JSON values."""
    own = {one.name: one.default for one in fields(recipe) if one.default is not MISSING}
    options = {
        name: described(default_of(one))
        for name, (one, about) in options_of(TrainingOptions).items()
        if about.decides == "weights"
    }
    usual: dict[str, Any] = json.loads(json.dumps({"recipe": own, "options": options}))
    return usual
