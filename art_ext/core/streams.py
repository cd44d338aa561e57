"""Counter-based random streams, one per sample.

A number is a hash of (seed, sample id, step, coordinate), computed by integer tensor operations.
The bits are equal on every device. They do not depend on the order of the samples, the batch size,
the loader or the shard.

References:
    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 (the mixing function,
    SplitMix64). Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (counter-based
    streams).
"""

from __future__ import annotations

import contextlib
import functools
import math
import secrets
from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import Tensor

from art_ext.core.checks import check_count


def _signed(value: int) -> int:
    """Return the int64 with the same bits as an unsigned 64-bit constant."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_DRAWN_AT_ONCE = 1 << 20  # numbers: 8 MiB of words
_MULTIPLIERS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift logically. int64 shifts in PyTorch copy the sign, so the copies are masked away."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser, a bijection of 64-bit words.

    int64 products wrap around on every device.
    """
    z = _shift_right(z, 30).bitwise_xor_(z).mul_(_MULTIPLIERS[0])
    z = _shift_right(z, 27).bitwise_xor_(z).mul_(_MULTIPLIERS[1])
    return _shift_right(z, 31).bitwise_xor_(z)


def _counter(length: int, device: torch.device) -> Tensor:
    return torch.arange(1, length + 1, device=device, dtype=torch.int64) * _GOLDEN


def resolve_seed(seed: int | None, *, least: int = -(1 << 63)) -> int:
    """Return the seed, or a fresh one from the operating system for None.

    No global stream is used.

    Args:
        seed: the given one, or None.
        least: the smallest seed that is taken.

    Raises:
        ValueError: if the seed is not an integer that fits 64 bits, or is below ``least``.
    """
    if seed is None:
        return secrets.randbits(63)
    check_count("seed", seed, least=least)
    if seed >= 1 << 63:
        raise ValueError(f"seed must fit a signed 64-bit integer, got {seed!r}")
    return int(seed)


@contextlib.contextmanager
def global_streams_kept(device: torch.device) -> Iterator[None]:
    """Restore PyTorch's own random streams of the CPU and of a device after a block.

    A model (dropout) or a loader (its order) may draw from them.
    """
    own = device.type != "cpu" and hasattr(getattr(torch, device.type, None), "get_rng_state")
    kind = device.type if own else "cuda"  # which is not asked without devices
    with torch.random.fork_rng(devices=[device] if own else [], device_type=kind):
        yield


def fingerprint(x: Tensor) -> Tensor:
    """Return (N,) int64 identities of samples: a 64-bit hash of each row's float32 bits.

    Args:
        x: (N, *S), cast to float32 first. Negative zero counts as zero.
    """
    rows = (x.detach().to(torch.float32) + 0.0).flatten(1).contiguous().view(torch.int32)
    identity = torch.empty(len(rows), dtype=torch.int64, device=x.device)
    if len(rows):
        position = _mix(_counter(rows.shape[1], x.device))
        # 64-bit temporaries that stay in the cache
        chunk = max(1, (1 << 17) // max(1, rows.shape[1]))
        for start in range(0, len(rows), chunk):
            words = _mix(rows[start : start + chunk].to(torch.int64) ^ position)
            # wrapping sums are exact in any order
            identity[start : start + chunk] = _mix(words.sum(dim=1))
    return identity


def _words(seed: int, ids: Tensor, step: int | Tensor, length: int) -> Tensor:
    """Return (N, length) int64: the random words of one block per sample."""
    # filled there, because a copy from the host would wait for the device
    key = _mix(torch.full((), seed, dtype=torch.int64, device=ids.device) + _GOLDEN)
    block = step * _GOLDEN if isinstance(step, Tensor) else _signed(step * _GOLDEN % (1 << 64))
    key = _mix(_mix(ids ^ key) + block)
    return _mix(key.unsqueeze(1) + _counter(length, ids.device))


def _in_parts(
    draw: Callable[[Tensor, int | Tensor], Tensor], ids: Tensor, step: int | Tensor, length: int
) -> Tensor:
    """Return what a function of ids and step draws, some samples at a time if blocks are large.

    The words take twice the memory of the numbers, and their temporaries as much again.
    """
    rows = max(1, _DRAWN_AT_ONCE // max(1, length))
    if len(ids) <= rows:
        return draw(ids, step)
    steps = step.split(rows) if isinstance(step, Tensor) else repeat(step)
    return torch.cat([draw(*part) for part in zip(ids.split(rows), steps, strict=False)])


def uniform(seed: int, ids: Tensor, step: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw uniform numbers in [0, 1), one block per sample, float32 with 24 random bits.

    Args:
        seed: key of the whole run.
        ids: (N,) int64 sample identities, for example from ``fingerprint``.
        step: block of the sample's stream, one for all or (N,) int64.
        shape: shape of a block.

    Returns:
        (N, *shape) float32 on the device of ids.
    """
    length = math.prod(shape)

    def draw(ids: Tensor, step: int | Tensor) -> Tensor:
        return _shift_right(_words(seed, ids, step, length), 40).to(torch.float32).mul_(2.0**-24)

    return _in_parts(draw, ids, step, length).view(len(ids), *shape)


def uniform_pairs(
    seed: int, ids: Tensor, step: int | Tensor, shape: tuple[int, ...] = ()
) -> Tensor:
    """Draw from the distribution of ``uniform``, two numbers per random word.

    The numbers are not those of ``uniform``. Training uses this, because it does half the work.
    """
    length = math.prod(shape)
    halves = _words(seed, ids, step, -(-length // 2)).view(torch.int32)[:, :length]
    # the shift keeps the sign
    numbers = (halves >> 8).to(torch.float32).mul_(2.0**-24).add_(0.5)
    return numbers.view(len(ids), *shape)


def normal(seed: int, ids: Tensor, step: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw standard normal numbers, one block per sample.

    Each random word gives four numbers, by a table of 65,536 quantiles. The table makes the bits
    equal on every device, which a logarithm would not. Its values reach 4.3 standard deviations.
    Mean 0 and variance 1 are exact up to rounding.

    Args:
        seed, ids, step, shape: as for ``uniform``. A block has the same random words as there.

    Returns:
        (N, *shape) float32 on the device of ids.
    """
    length = math.prod(shape)
    table = _normal_table(ids.device)

    def draw(ids: Tensor, step: int | Tensor) -> Tensor:
        words = _words(seed, ids, step, -(-length // 4)).view(torch.int16)[:, :length]
        return table.index_select(0, words.to(torch.int32).add_(1 << 15).flatten())

    return _in_parts(draw, ids, step, length).view(len(ids), *shape)


def _normal_quantiles() -> Tensor:
    """Return (65536,) float32 quantiles of the standard normal distribution at variance 1.

    They lie at the midpoints of cells of equal probability.
    """
    cells = (torch.arange(1 << 16, dtype=torch.float64, device="cpu") + 0.5) / (1 << 16)
    quantiles = torch.special.ndtri(cells)
    return (quantiles / quantiles.square().mean().sqrt()).to(torch.float32)


_QUANTILES = _normal_quantiles()


@functools.lru_cache(maxsize=8)
def _normal_table(device: torch.device) -> Tensor:
    """Return the quantiles on a device."""
    return _QUANTILES.to(device)
