"""Calls of a service: the keys of their rows, and the answers as arrays."""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.calls import current_scope, described_rows
from art_ext.models.remote.answers import AnswerLog, digest, key_of

if TYPE_CHECKING:
    import numpy as np


class Service:
    """The user's function, called with what it takes, and the reader of its answers.

    Args:
        predict: the function.
        timeout: seconds, for a function that has this parameter.

    Attributes:
        name: of the function.
    """

    def __init__(self, predict: Callable[..., Any], timeout: float) -> None:
        self.predict = predict
        plain = predict
        while isinstance(plain, functools.partial):
            plain = plain.func
        self.name = str(getattr(plain, "__qualname__", type(plain).__qualname__))
        try:
            parameters = inspect.signature(predict).parameters
        except (TypeError, ValueError):  # a built-in function may have none
            parameters = {}  # type: ignore[assignment]
        self.takes_keys = "keys" in parameters
        self.options = {"timeout": timeout} if "timeout" in parameters else {}
        first = next(iter(parameters.values()), None)
        named = (
            "" if first is None else str(getattr(first.annotation, "__name__", first.annotation))
        )
        self.takes_tensors = isinstance(predict, nn.Module) or named.split(".")[-1] == "Tensor"

    def __call__(self, rows: np.ndarray, keys: list[str]) -> Any:
        """Send rows (r, *S), with their idempotency keys."""
        options: dict[str, Any] = dict(self.options)
        if self.takes_keys:
            options["keys"] = keys
        if not self.takes_tensors:
            return self.predict(rows, **options)
        with torch.no_grad():
            return self.predict(torch.from_numpy(rows), **options)

    @staticmethod
    def read(answer: Any, rows: int, outputs: str, classes: int | None) -> np.ndarray:
        """Return an answer as an array (r, classes) of float32, or (r, 1) of int64 labels.

        Raises:
            ValueError: if its shape or type does not fit, or it holds NaN.
        """
        import numpy as np

        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().numpy()
        try:
            array = np.asarray(answer)
            if array.dtype.kind not in "biuf":
                array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the service must return an array of numbers, got {type(answer).__name__}"
            ) from error
        wanted = f"({rows},) labels" if outputs == "labels" else f"({rows}, {classes or 'classes'})"
        one = outputs == "labels" or classes in (None, 1)
        if array.shape == (rows,) and one:
            array = array.reshape(rows, 1)
        fits = array.ndim == 2 and len(array) == rows and array.shape[1] > 0
        if outputs == "labels":
            fits = fits and array.shape[1] == 1
        elif classes is not None:
            fits = fits and array.shape[1] == classes
        if not fits:
            raise ValueError(f"the service must return {wanted}, got shape {array.shape}")
        if array.dtype.kind == "f" and bool(np.isnan(array).any()):
            raise ValueError("the service returns NaN")
        if outputs != "labels":
            return array.astype(np.float32)
        whole = array.astype(np.int64)
        if bool((whole != array).any()) or bool((whole < 0).any()):
            raise ValueError("the service must return labels that are integers >= 0")
        return whole


class Calls:
    """The rows of one call of a model, and their keys in the log.

    Args:
        model: that is called, whose rows are numbered on their own.
        rows: (R, *S) float32.
    """

    def __init__(self, model: object, rows: np.ndarray) -> None:
        self.rows = rows
        scope = current_scope()
        self.scope = scope.name
        self.counts: Counter[bytes] = scope.memory.setdefault(model, Counter())
        flat = rows.reshape(len(rows), -1).data.cast("B") if rows.size else b""
        size = len(flat) // max(1, len(rows))
        starts = range(0, size * len(rows), size) if size else [0] * len(rows)
        self.digests = [digest(flat[start : start + size]) for start in starts]
        code = digest(scope.name.encode())
        self.keys = []
        for one in self.digests:
            self.keys.append(key_of(code, one, self.counts[one]))
            self.counts[one] += 1
        samples, queries = described_rows()
        self.samples = [*samples, *[0] * (len(rows) - len(samples))]
        self.queries = [*queries, *[0] * (len(rows) - len(queries))]

    def without_answer(self, found: Sequence[Any], reuse: bool) -> list[int]:
        """Return the positions of the rows to send: each row once, if answers are reused."""
        missing = [place for place, answer in enumerate(found) if answer is None]
        if not reuse:
            return missing
        first: dict[bytes, int] = {}
        for place in missing:
            first.setdefault(self.digests[place], place)
        return list(first.values())

    def send(self, service: Service, group: Sequence[int]) -> Any:
        """Send some rows to the service, in a worker."""
        keys = [digest(self.keys[place]).hex() for place in group]
        return service(self.rows[list(group)], keys)

    def record(
        self, log: AnswerLog, group: Sequence[int], answers: np.ndarray, cost: float
    ) -> None:
        """Log the answers (r, width) for some rows."""
        log.append(
            self.scope,
            [self.keys[place] for place in group],
            answers,
            samples=[self.samples[place] for place in group],
            queries=[self.queries[place] for place in group],
            time=time.time(),
            cost=cost,
        )

    def forget(self) -> None:
        """Count the rows as not sent, because the attack does not see their answers."""
        for one in self.digests:
            self.counts[one] -= 1
