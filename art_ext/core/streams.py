"""Randomness that depends on a sample and nothing else: a counter-based stream per sample.

A number is a hash of (seed, sample id, step, coordinate), computed by integer tensor operations, so the bits are equal
on every device and do not depend on the order of the samples, the batch size, the loader or the shard.

References:
    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 (the mixing function, SplitMix64).
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (counter-based streams).
"""

from __future__ import annotations

import math
import secrets

import torch
from torch import Tensor

from art_ext.core.checks import check_count


def _signed(value: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit constant."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MULTIPLIERS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: int64 shifts in PyTorch copy the sign, so the copies are masked away."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of 64-bit words; int64 products wrap around on every device."""
    z = (z ^ _shift_right(z, 30)) * _MULTIPLIERS[0]
    z = (z ^ _shift_right(z, 27)) * _MULTIPLIERS[1]
    return z ^ _shift_right(z, 31)


def _counter(length: int, device: torch.device) -> Tensor:
    return torch.arange(1, length + 1, device=device, dtype=torch.int64) * _GOLDEN


def resolve_seed(seed: int | None) -> int:
    """The seed itself, or, for None, a fresh one from the operating system; no global stream is touched.

    Raises:
        ValueError: if the seed is no integer that fits 64 bits.
    """
    if seed is None:
        return secrets.randbits(63)
    check_count("seed", seed, least=-(1 << 63))
    if seed >= 1 << 63:
        raise ValueError(f"seed must fit a signed 64-bit integer, got {seed!r}")
    return int(seed)


def fingerprint(x: Tensor) -> Tensor:
    """(N,) int64 identities of samples: a 64-bit hash of each row's float32 bits.

    Args:
        x: (N, *S), cast to float32 first; negative zero counts as zero.
    """
    rows = (x.detach().to(torch.float32) + 0.0).flatten(1).contiguous().view(torch.int32)
    identity = torch.empty(len(rows), dtype=torch.int64, device=x.device)
    if len(rows):
        position = _mix(_counter(rows.shape[1], x.device))
        chunk = max(1, (1 << 22) // max(1, rows.shape[1]))  # 64-bit temporaries are eight times the data: cut them
        for start in range(0, len(rows), chunk):
            words = _mix(rows[start : start + chunk].to(torch.int64) ^ position)
            identity[start : start + chunk] = _mix(words.sum(dim=1))  # wrapping sums are exact in any order
    return identity


def uniform(seed: int, ids: Tensor, step: int, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform numbers in [0, 1), one block per sample, float32 with 24 random bits.

    Args:
        seed: key of the whole run.
        ids: (N,) int64 sample identities, for example from ``fingerprint``.
        step: which block of the sample's stream.
        shape: shape of a block.

    Returns:
        (N, *shape) float32 on the device of ids.
    """
    key = _mix(torch.tensor(seed, dtype=torch.int64, device=ids.device) + _GOLDEN)
    key = _mix(_mix(ids ^ key) + _signed(step * _GOLDEN % (1 << 64)))
    bits = _mix(key.unsqueeze(1) + _counter(math.prod(shape), ids.device))
    return (_shift_right(bits, 40).to(torch.float32) * 2.0**-24).view(len(ids), *shape)
