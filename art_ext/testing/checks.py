"""Checks that pass or fail with one line each, and what several of them share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.adapters.network_state import NetworkState
from art_ext.core.checks import listed
from art_ext.core.oracle import Model
from art_ext.data.streams import streams_put_back
from art_ext.errors import describe

Subject = TypeVar("Subject")
WIDTH = 22  # letters of the longest name, for aligned lines


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: property that was checked, such as ``"ball"``.
        passed: True if it holds.
        detail: evidence, or what fails.
    """

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAIL':4}  {self.name:{WIDTH}}  {self.detail}"


class ContractError(Exception):
    """A property does not hold. The message is the detail of the check."""


def outcomes(checks: Mapping[str, Callable[[Subject], str]], subject: Subject) -> Iterator[Check]:
    """Yield the outcome of each check. If the first one fails, the others do not run.

    Args:
        checks: functions by name. They return their evidence, or raise.
        subject: what they check.
    """
    first = next(iter(checks))
    for name, holds in checks.items():
        check = _outcome(name, holds, subject)
        yield check
        if name == first and not check.passed:
            return


def _outcome(name: str, holds: Callable[[Subject], str], subject: Subject) -> Check:
    with streams_put_back():  # the code of a user may draw from them
        try:
            return Check(name, True, holds(subject))
        except ContractError as error:
            return Check(name, False, str(error))
        except Exception as error:  # the code of a user may fail in any way
            return Check(name, False, describe(error))


def all_passed(name: str, checks: Iterable[Check]) -> list[Check]:
    """Return the checks, or raise AssertionError with a line for each that failed."""
    found = list(checks)
    failed = [str(check) for check in found if not check.passed]
    if failed:
        lines = "\n".join(failed)
        raise AssertionError(f"{name} fails {len(failed)} of {len(found)} checks\n{lines}")
    return found


def expect(holds: bool, detail: str) -> None:
    """Raise ContractError with the detail unless the property holds."""
    if not holds:
        raise ContractError(detail)


class World:
    """State that user code must leave as it was: a network and the global random streams.

    Args:
        model: the network, or any callable, of which nothing is kept.
    """

    def __init__(self, model: Model) -> None:
        self._network = NetworkState(model)
        self._parameters = list(model.named_parameters()) if isinstance(model, nn.Module) else []
        self._needs = [parameter.requires_grad for _, parameter in self._parameters]
        self._streams = _streams()
        self._gradients = torch.is_grad_enabled()

    def model_changes(self) -> list[str]:
        """Restore the network, and return the names of what had changed."""
        changes = self._network.restore()
        for (name, parameter), needed in zip(self._parameters, self._needs, strict=True):
            if parameter.requires_grad != needed:
                changes.append(f"requires_grad of {name}")
                parameter.requires_grad_(needed)
        return changes

    def stream_changes(self) -> list[str]:
        """Return the names of the global random streams and switches that have changed."""
        now = _streams()
        changes = [name for name, state in self._streams.items() if now[name] != state]
        if torch.is_grad_enabled() != self._gradients:
            changes.append("torch.is_grad_enabled()")
            torch.set_grad_enabled(self._gradients)
        return changes


def _streams() -> dict[str, object]:
    name, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002  # user code draws there
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": (name, np.asarray(keys).tobytes(), *position),
        "random": random.getstate(),
    }


def check_unchanged(changes: Iterable[str], remedy: str) -> None:
    """Raise ContractError if anything has changed."""
    names = list(changes)
    expect(not names, f"changed: {listed(names)}. {remedy}")


def seed_streams(seed: int) -> None:
    """Seed the global random streams that user code may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # user code draws there
    random.seed(seed)


def differing_rows(left: Tensor, right: Tensor, tolerance: float) -> int:
    """Return the number of rows of two tensors (N, *S) that differ by more than the tolerance."""
    change = (left.double() - right.double()).abs().flatten(1).amax(1)
    return int((change.nan_to_num(nan=torch.inf) > tolerance).sum())
