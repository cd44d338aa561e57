"""What tells one network or data set from another: digests that travel with what was computed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from art_ext.core.streams import fingerprint


def digest_of_state(model: nn.Module) -> str:
    """SHA-256, in hexadecimal, of all parameters and buffers of a network, and of what else its
    state holds.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(bytes_of(value))
        else:
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()


def describe_samples(x: Tensor, y: Tensor) -> str:
    """How many samples, and a hash of them, their labels and their order."""
    words = fingerprint(x).cpu() * 31 + y.cpu()
    return f"{len(x)} samples, {hashlib.sha256(bytes_of(words)).hexdigest()[:16]}"


def bytes_of(tensor: Tensor) -> bytes:
    """What a tensor holds, as it lies in memory; NumPy has no bfloat16, so it never sees the
    numbers.
    """
    content: bytes = (
        tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    )
    return content
