"""Digests that identify a network or a data set in records."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from art_ext.core.streams import fingerprint


def digest_of_state(model: nn.Module) -> str:
    """Return the SHA-256, in hexadecimal, of a network's parameters, buffers and other state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(bytes_of(value))
        else:
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()


def describe_samples(x: Tensor, y: Tensor) -> str:
    """Return the number of samples and a hash of them, their labels and their order."""
    words = fingerprint(x).cpu() * 31 + y.cpu()
    return f"{len(x)} samples, {hashlib.sha256(bytes_of(words)).hexdigest()[:16]}"


def bytes_of(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor in memory. The dtype may be bfloat16, which NumPy lacks."""
    content: bytes = (
        tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    )
    return content
