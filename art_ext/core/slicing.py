"""Attacks on many large samples, one slice after another, because that needs less memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import SampleError
from art_ext.core.geometry import Box
from art_ext.core.interruption import AttackInterrupted
from art_ext.core.outside import Outside
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.core.samples import check_classes, check_ids
from art_ext.core.streams import resolve_seed

SLICE_BYTES = 1 << 27  # of the samples that are attacked at the same time, in float32
PER_SAMPLE = ("y", "targets", "sample_ids", "x_init", "latents", "mask")
UNKNOWN = ("distance", "nearest_distance", "lengths", "value")  # inf without success


def rows_at_once(x: Tensor, batch_size: int) -> int:
    """Return how many samples of x are attacked at the same time: full batches, at least one.

    Args:
        x: (N, *S).
        batch_size: most rows in one model call.
    """
    size = 4 * x[:1].numel()
    return max(1, SLICE_BYTES // max(1, size * batch_size)) * batch_size


def in_slices(
    attack: Callable[..., AttackResult], given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> AttackResult | None:
    """Attack the samples in slices and join the results. None if one slice holds all of them.

    No sample influences another, so that the results are those of one call, and so are those of an
    attack that is interrupted. A callback is called for one slice after another: ``Progress.step``
    counts the rounds of the samples that it shows. Wrong arguments are left to the attack itself.

    Args:
        attack: called with keywords only.
        given: the arguments of the call, by name.
        defaults: of all parameters of the attack.
    """
    x = given.get("x")
    batch_size = given.get("batch_size", defaults.get("batch_size"))
    if not isinstance(x, Tensor) or not isinstance(batch_size, int) or batch_size < 1:
        return None
    if x.dim() < 2 or 4 * x.numel() <= SLICE_BYTES:
        return None
    rows = rows_at_once(x, batch_size)
    clip_values = given.get("clip_values", defaults.get("clip_values"))
    if len(x) <= rows or not _well_formed(given, x, rows, clip_values):
        return None
    shared = {**given, "seed": resolve_seed(given.get("seed"))} if "seed" in defaults else given
    whole = _Whole(len(x))
    finished = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), rows):
        end = min(start + rows, len(x))
        try:
            found = attack(**_part(shared, start, end))
        except SampleError as error:
            error.move(start)
            raise
        except AttackInterrupted as stop:
            whole.enter(stop.result, start)
            finished[:start] = True
            finished[start:end] = stop.finished
            whole.enter_untouched(stop.result, x, end)
            raise AttackInterrupted(str(stop), whole.result(), finished) from stop.__cause__
        whole.enter(found, start)
    return whole.result()


def _well_formed(given: Mapping[str, Any], x: Tensor, rows: int, clip_values: Any) -> bool:
    """Return whether the tensors of the samples fit, and all samples lie in the box.

    The attack reports what is wrong. It can name the sample if it gets all of them.
    """
    count = len(x)
    for name in PER_SAMPLE:
        value = given.get(name)
        if isinstance(value, Tensor) and len(value) != count and name != "mask":
            return False
    mask = given.get("mask")
    if mask is not None:
        mask = torch.as_tensor(mask)
        if mask.dim() == x.dim() and len(mask) not in (1, count):
            return False
    try:
        for name in ("y", "targets"):
            if not isinstance(given.get(name), str):
                check_classes(name, given.get(name), count)
        check_ids(given.get("sample_ids"), count)
        box = Box.of(clip_values, x.shape[1:], x.device)
        for part in x.split(rows):
            box.admit(part)
    except (TypeError, ValueError):
        return False
    return True


def _part(given: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
    """Return the arguments for the samples from start to end."""
    x = given["x"]
    part = {**given, "x": x[start:end]}
    for name in PER_SAMPLE:
        value = given.get(name)
        if name == "mask" and value is not None:
            value = torch.as_tensor(value)
            if value.dim() < x.dim() or len(value) == 1:
                continue  # of all samples
        if isinstance(value, Tensor):
            part[name] = value[start:end]
    for name in ("loss", "criterion"):
        if callable(given.get(name)):
            part[name] = _at(given[name], start)
    if given.get("callback") is not None:
        part["callback"] = _shown(given["callback"], start)
    return part


def _at(function: Callable[..., Tensor], start: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Make a function of outputs and positions in a slice from one of positions in x."""
    return lambda outputs, index: function(outputs, index + start)


def _shown(callback: Callback, start: int) -> Callback:
    """Make a callback that is shown positions in x."""

    def call(progress: Progress) -> None:
        callback(replace(progress, index=progress.index + start))

    return call


class _Whole:
    """The result of N samples, which is filled one slice at a time.

    A large result is never held twice.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.found: dict[str, Any] = {}
        self.outside: list[Outside | None] = []
        self.lengths: list[int] = []

    def enter(self, result: AttackResult, start: int) -> None:
        """Enter the result of the samples that begin at a position."""
        self.outside.append(result.outside)
        self.lengths.append(len(result))
        for name in (field.name for field in fields(result)):
            value = getattr(result, name)
            if name == "trace" and value is not None:
                before = self.found.get(name) or {}
                self.found[name] = {
                    key: self._filled(before.get(key), values, start, 1)
                    for key, values in value.items()
                }
            elif isinstance(value, Tensor):
                axis = int(name == "samples")
                self.found[name] = self._filled(self.found.get(name), value, start, axis)
            else:
                self.found[name] = value

    def enter_untouched(self, like: AttackResult, x: Tensor, start: int) -> None:
        """Enter the samples from a position on, which were not attacked.

        Args:
            like: result of other samples.
            x: (N, *S) all samples.
            start: the position.
        """
        left = self.count - start
        self.outside.append(None)
        self.lengths.append(left)
        for name, value in self.found.items():
            if name == "trace" and value is not None:
                for values in value.values():
                    values[:, start:] = torch.nan if values.is_floating_point() else 0
            elif name in ("x_adv", "x_nearest") and value is not None:
                value[start:] = x[start:]
            elif name == "samples" and value is not None:
                value[:, start:] = x[start:]
            elif isinstance(value, Tensor):
                unknown = torch.inf if name in UNKNOWN else torch.nan
                value[start:] = unknown if value.is_floating_point() else 0
        self.found["queries_to_success"][start:] = -1

    def result(self) -> AttackResult:
        """Return the result of all samples."""
        return AttackResult(**{**self.found, "outside": Outside.cat(self.outside, self.lengths)})

    def _filled(self, whole: Tensor | None, part: Tensor, start: int, axis: int) -> Tensor:
        """Enter a part into a tensor of all samples, which is made for the first part."""
        if whole is None:
            shape = list(part.shape)
            shape[axis] = self.count
            whole = part.new_empty(shape)
        whole.narrow(axis, start, part.shape[axis]).copy_(part)
        return whole
