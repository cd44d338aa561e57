"""What tells one model or data set from another: digests that travel with the records."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.oracle import Model


def identity_of_model(model: Model) -> dict[str, Any]:
    """The class of a model, and a digest of all its parameters and buffers; None for callables that have none."""
    if not isinstance(model, nn.Module):
        return {"class": getattr(model, "__name__", type(model).__name__), "state": None}
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            _enter(digest, name, tensor)
    return {"class": type(model).__name__, "state": digest.hexdigest()}


def identity_of_data(ids: Tensor, y: Tensor) -> str:
    """A digest of the samples, by their fingerprints (N,), and of their labels (N,), in order."""
    digest = hashlib.sha256()
    _enter(digest, "ids", ids)
    _enter(digest, "y", y.to(torch.int64))
    return digest.hexdigest()


def _enter(digest: Any, name: str, tensor: Tensor) -> None:
    # as bytes, since NumPy knows no bfloat16
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(content.numpy().tobytes())
