"""Transfer between the members of the ensembles of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from art_ext.core.metrics import TransferMatrix, transfer_matrix
from art_ext.core.oracle import Model
from art_ext.data import Samples
from art_ext.models.joint import members
from art_ext.storage.evaluation import TRANSFER
from art_ext.storage.ownership import write_json

if TYPE_CHECKING:
    from art_ext.evaluation.panel.attack import Settings
    from art_ext.storage.evaluation import RunFolder

SAMPLES = 1000  # first samples of the data that are attacked on each member
STEPS = 20  # of PGD, each of 2.5 eps / STEPS


def ensembles_of(models: Mapping[str, Model]) -> dict[str, list[nn.Module]]:
    """Return the members of each ensemble among models.

    Raises:
        ValueError: if no model is an ensemble that was trained together.
    """
    found = {}
    for name, model in models.items():
        try:
            found[name] = members(model)
        except ValueError:
            continue
    if not found:
        raise ValueError(
            "members needs a model that is an ensemble trained together, such as by the recipe"
            f" adp, got {', '.join(models)}"
        )
    return found


def measure_transfer(
    folder: RunFolder, ensembles: Mapping[str, list[nn.Module]], data: Samples, settings: Settings
) -> None:
    """Attack each member and write how its examples transfer, unless the folder holds it.

    The attack is PGD at the largest eps, on the first samples of the data.

    Args:
        folder: of the run.
        ensembles: members of each model that is an ensemble.
        data, settings: of the run.
    """
    if folder.store.exists(TRANSFER):
        return
    x, y = data.rows(0, min(SAMPLES, len(data)))
    arguments: dict[str, Any] = {
        "eps": max(settings.eps),
        "norm": settings.norm,
        "num_steps": STEPS,
        "seed": settings.seed,
    }
    found = {
        name: transfer_matrix(
            networks,
            x,
            y,
            attack="pgd",
            batch_size=settings.batch_size,
            clip_values=settings.clip_values,
            **arguments,
        )
        for name, networks in ensembles.items()
    }
    told = {
        "attack": "pgd",
        "arguments": arguments,
        "samples": len(x),
        "models": {name: _plain(matrix) for name, matrix in found.items()},
    }
    write_json(folder.store, TRANSFER, told)


def _plain(matrix: TransferMatrix) -> dict[str, Any]:
    """Return a matrix in the types of JSON. Shares of no sample are None."""
    known = matrix.count > 0
    tables = {name: getattr(matrix, name).tolist() for name in ("success", "low", "high")}
    return {
        "members": len(matrix.success),
        "count": matrix.count,
        "off_diagonal": matrix.off_diagonal if known else None,
        "diagonal": matrix.diagonal if known else None,
        **{name: table if known else None for name, table in tables.items()},
    }
