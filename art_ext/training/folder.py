"""Run folder of a training: ownership and contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.storage.files import check_configuration, write_atomically, write_state_dict
from art_ext.training.checkpoints import checkpoints
from art_ext.training.datasets import Batches
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import Recipe
from art_ext.training.recipes.registry import file_digest

CONFIGURATION = "training.json"
CHECKPOINTS = "checkpoints"
OURS = (
    CONFIGURATION,
    CHECKPOINTS,
    "history.jsonl",
    "history.csv",
    "model.safetensors",
    "best.safetensors",
)


@dataclass(frozen=True)
class RunFolder:
    """A folder that this run may write into.

    Attributes:
        path: the folder.
        configuration: everything that decides the weights, as JSON values.
    """

    path: Path
    configuration: Mapping[str, Any]

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

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
        path = Path(options.checkpoint_dir)
        if path.exists() and not path.is_dir():
            raise ValueError(f"checkpoint_dir must be a folder, got {path}, which is a file")
        wanted = json.loads(json.dumps(configuration(options, recipe, model, batches, frozen)))
        file = path / CONFIGURATION
        # the configuration does not count: another process of this run may just have written it
        strange = [name for name in OURS if name != CONFIGURATION and (path / name).exists()]
        if file.is_file():
            check_configuration(file, wanted)
            if options.resume:
                _sweep(path)
            elif checkpoints(path / CHECKPOINTS) or strange not in ([], [CHECKPOINTS]):
                raise ValueError(
                    f"{path} holds checkpoints of an earlier run: resume it, or choose another"
                    " folder"
                )
        else:
            if strange:
                raise ValueError(
                    f"{path} holds {', '.join(strange)}, but not of a run of art-ext:"
                    " choose another folder"
                )
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(wanted, indent=1).encode())
        return RunFolder(path, wanted)

    def write_weights(self, model: nn.Module, best: Mapping[str, Any] | None) -> None:
        """Write the final weights and, if there are any, those of the best validation.

        The files are ``model.safetensors`` and ``best.safetensors``.
        """
        write_state_dict(self.path / "model.safetensors", model.state_dict())
        if best is not None:
            write_state_dict(self.path / "best.safetensors", best["weights"])


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
    digest = file_digest(recipe)
    return {
        "tool": "art-ext train",
        "recipe": recipe.settings(),
        **({"recipe_file": digest} if digest else {}),
        "options": options.identity(),
        "model": f"{type(model).__name__} {hashlib.sha256(shapes.encode()).hexdigest()[:16]}",
        "data": batches.describe(),
        **({"frozen": list(frozen)} if frozen else {}),
    }


def _sweep(path: Path) -> None:
    """Remove the temporary files of a killed process.

    Those of the configuration are kept, because another process of the resumed run may be writing
    it.
    """
    for name in OURS:
        for file in path.glob(f".{name}.*.tmp") if name != CONFIGURATION else ():
            file.unlink(missing_ok=True)
