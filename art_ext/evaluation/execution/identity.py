"""Digests that identify the models and the data of a run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.identity import bytes_of, digest_of_state
from art_ext.core.oracle import Model

if TYPE_CHECKING:
    from art_ext.evaluation.execution.job import Job


def identity_of_model(model: Model) -> dict[str, Any]:
    """Class of a model, and a digest of its parameters and buffers (None for a callable)."""
    if not isinstance(model, nn.Module):
        return {"class": getattr(model, "__name__", type(model).__name__), "state": None}
    return {"class": type(model).__name__, "state": digest_of_state(model)}


def identity_of_data(ids: Tensor, y: Tensor) -> str:
    """Digest of the samples' fingerprints (N,) and of their labels (N,), in order."""
    digest = hashlib.sha256()
    for name, tensor in (("ids", ids), ("y", y.to(torch.int64))):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def identity_of_job(job: Job) -> dict[str, Any]:
    """Digests of the models, by their names, and of the data of a run."""
    return {
        "models": {name: identity_of_model(model) for name, model in job.models.items()},
        "data": identity_of_data(job.ids, job.data.y),
    }
