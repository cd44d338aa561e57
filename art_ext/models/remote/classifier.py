"""A black-box service as a model."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_count, check_not_negative, check_positive
from art_ext.core.interruption import ModelStopped
from art_ext.core.outputs import OUTPUTS
from art_ext.models.remote.answers import AnswerLog
from art_ext.models.remote.requests import Pace, Policy, RetryRule, Round, Workers, is_transient
from art_ext.models.remote.service import Calls, Service

if TYPE_CHECKING:
    import numpy as np


class BudgetSpent(ModelStopped):
    """Raised by a service before it is sent more rows than its limits allow."""


@dataclass(frozen=True)
class Usage:
    """Rows that a process sent to a service.

    Attributes:
        rows_sent: rows in all tries.
        rows_replayed: rows that the log answered.
        requests: tries.
        cost: of the rows sent.
    """

    rows_sent: int = 0
    rows_replayed: int = 0
    requests: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.rows_sent + other.rows_sent,
            self.rows_replayed + other.rows_replayed,
            self.requests + other.requests,
            self.cost + other.cost,
        )


class RemoteClassifier:
    """A black-box service as a model: failed requests are tried again, and no answer is paid twice.

    Every answer is appended to a log before the attack sees it. A killed or failed run that is
    started again takes from the log what is there, and sends only the rest. Batch size and order of
    the rows do not matter. An answer is found by the scope (of ``art_ext.core.calls``), the row's
    float32 bits, and how often the row was sent in this scope. So a service with random answers is
    replayed too.

    Use it as a model of tensors, or its method ``predict`` for arrays, as ART's
    ``BlackBoxClassifier`` takes it.

    Args:
        predict: function from rows (R, *S), a float32 array, to outputs (R, classes), or labels
            (R,). An ``nn.Module``, or a function whose first argument is annotated as a tensor,
            gets tensors. If it has a parameter ``timeout``, it gets the seconds. If it has a
            parameter ``keys``, it gets one text of hexadecimal digits per row, which is the same
            whenever this row is sent again: an idempotency key.
        answers: folder of the log.
        outputs: ``"logits"``, ``"probabilities"`` or ``"labels"``. Default: probabilities.
        num_classes: of the outputs. Default: None, as many as the first answer has.
        rows_per_request: most rows of a request.
        concurrency: most requests side by side.
        rate: most rows per second over all threads, evenly spaced. A request has at most a tenth of
            them. Default: None, no limit.
        timeout: seconds after which a request counts as failed.
        retries: further tries of a failed request.
        backoff: (first, largest) seconds: the delay before the n-th retry is uniform up to
            ``first * 2^(n-1)``, at most the largest.
        max_rows: most rows sent, over all tries and over all runs on this folder. Default: None.
        cost_per_row: of each row sent.
        max_cost: largest cost, counted as the rows are. Default: None.
        reuse: answer a row that was sent before from the log, in any scope. Default: False.
        retry_on: exception types, or a function from an exception to bool, of the failures to try
            again. Default: None: connection errors, timeouts, and exceptions with the HTTP status
            408, 425, 429, 500, 502, 503 or 504, whose ``Retry-After`` is obeyed.
        name: of the service, which the log records. Default: None, the name of ``predict``.

    Raises:
        ValueError: if an argument is out of range, or the folder holds the log of another service,
            or a damaged one.

    Calls raise ``ModelStopped`` if the budget is spent, the service fails for good, or an answer
    has a wrong shape or holds NaN. Attacks turn it into ``AttackInterrupted``.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        *,
        answers: str | os.PathLike[str],
        outputs: str = "probabilities",
        num_classes: int | None = None,
        rows_per_request: int = 1,
        concurrency: int = 4,
        rate: float | None = None,
        timeout: float = 30,
        retries: int = 6,
        backoff: tuple[float, float] = (0.5, 60),
        max_rows: int | None = None,
        cost_per_row: float = 0.0,
        max_cost: float | None = None,
        reuse: bool = False,
        retry_on: RetryRule | type[BaseException] | tuple[type[BaseException], ...] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(predict):
            raise ValueError(f"predict must be callable, got {type(predict).__name__}")
        if isinstance(predict, nn.Module) and predict.training:
            raise ValueError("predict must be in eval mode, got a network in training mode")
        check_choice("outputs", outputs, OUTPUTS)
        _check_limits(
            rows_per_request=rows_per_request,
            concurrency=concurrency,
            rate=rate,
            timeout=timeout,
            retries=retries,
            max_rows=max_rows,
            cost_per_row=cost_per_row,
            max_cost=max_cost,
        )
        _check_backoff(backoff)
        if num_classes is not None:
            check_count("num_classes", num_classes)
        self.outputs = outputs
        self.num_classes = num_classes
        self.max_rows = max_rows
        self.cost_per_row = cost_per_row
        self.max_cost = max_cost
        self.reuse = reuse
        self.usage = Usage()
        self.service = Service(predict, timeout)
        self.log = AnswerLog(answers, name or self.service.name, outputs)
        self._policy = Policy(retries, backoff, timeout, _rule(retry_on), concurrency)
        self._pace = Pace(rate)
        self._rows_per_request = self._pace.largest(rows_per_request)
        self._workers = Workers()
        self._lock = threading.RLock()

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the outputs (R, classes), or labels (R,), for rows (R, *S)."""
        array = rows.detach().to("cpu", torch.float32).contiguous().numpy()
        with self._lock:
            found = self._answer(array)
        answers = torch.from_numpy(found).to(rows.device)
        return answers.squeeze(1) if self.outputs == "labels" else answers

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        """Return scores (R, classes) for an array of rows. Labels become one-hot rows.

        Raises:
            ValueError: for labels without ``num_classes``.
        """
        answers = self(torch.as_tensor(x))
        if self.outputs == "labels":
            if self.num_classes is None:
                raise ValueError("predict() of a service with outputs='labels' needs num_classes")
            answers = nn.functional.one_hot(answers, self.num_classes).float()
        elif answers.shape[1] == 1:
            zero = torch.zeros_like(answers) if self.outputs == "logits" else 1 - answers
            answers = torch.cat([zero, answers], dim=1)
        array: np.ndarray = answers.numpy()
        return array

    def _answer(self, rows: np.ndarray) -> np.ndarray:
        """Return the answers (R, width), from the log as far as it has them."""
        import numpy as np

        self.log.check(rows.shape[1:])
        calls = Calls(self, rows)
        found = [self.log.found.answer(key, self.reuse) for key in calls.keys]
        missing = calls.without_answer(found, self.reuse)
        self.usage = replace(
            self.usage, rows_replayed=self.usage.rows_replayed + len(found) - len(missing)
        )
        size = self._rows_per_request
        groups = [missing[start : start + size] for start in range(0, len(missing), size)]
        if groups:
            try:
                Round(
                    self._policy,
                    self._pace,
                    self._workers,
                    groups,
                    call=functools.partial(calls.send, self.service),
                    reserve=self._reserve,
                    accept=functools.partial(self._accept, calls),
                ).run()
            except BaseException:
                calls.forget()
                raise
            for place in range(len(found)):
                if found[place] is None:
                    found[place] = self.log.found.answer(calls.keys[place], self.reuse)
        if not len(rows):
            kind = np.int64 if self.outputs == "labels" else np.float32
            return np.zeros((0, self.log.width or self.num_classes or 1), dtype=kind)
        return np.stack(found)  # type: ignore[arg-type]  # all are there now

    def _reserve(self, rows: int) -> None:
        """Take rows from the budget before they are sent.

        Raises:
            BudgetSpent: if they exceed it.
        """
        sent = self.usage.rows_sent + rows
        cost = sent * self.cost_per_row
        total = self.log.rows_sent + sent
        if self.max_rows is not None and total > self.max_rows:
            raise BudgetSpent(f"max_rows={self.max_rows:,} is spent")
        if self.max_cost is not None and self.log.cost_sent + cost > self.max_cost * (1 + 1e-12):
            before = self.log.cost_sent + self.usage.cost
            raise BudgetSpent(f"max_cost={self.max_cost:g} is spent: {before:.6g} so far")
        self.log.send(sent, cost)
        self.usage = replace(
            self.usage, rows_sent=sent, requests=self.usage.requests + 1, cost=cost
        )

    def _accept(self, calls: Calls, group: Sequence[int], answer: Any) -> None:
        """Check and log the answer for some rows.

        Raises:
            ModelStopped: if it has a wrong shape, or holds NaN.
        """
        try:
            classes = self.num_classes or self.log.width
            array = self.service.read(answer, len(group), self.outputs, classes)
            self.log.begin(calls.rows.shape[1:], array.shape[1])
        except ValueError as error:
            raise ModelStopped(str(error)) from error
        calls.record(self.log, group, array, self.cost_per_row)


def _check_limits(**given: Any) -> None:
    """Raise ValueError unless the options of a service make sense together.

    Args:
        **given: options of ``RemoteClassifier`` by name.
    """
    for name, least in (("rows_per_request", 1), ("concurrency", 1), ("retries", 0)):
        check_count(name, given[name], least)
    check_positive("timeout", given["timeout"])
    check_not_negative("cost_per_row", given["cost_per_row"])
    if given["rate"] is not None:
        check_positive("rate", given["rate"])
    if given["max_rows"] is not None:
        check_count("max_rows", given["max_rows"], 0)
    if given["max_cost"] is not None:
        check_not_negative("max_cost", given["max_cost"])
        if not given["cost_per_row"]:
            raise ValueError("max_cost needs cost_per_row > 0, which says what a row costs")


def _check_backoff(backoff: tuple[float, float]) -> None:
    if (
        not isinstance(backoff, (tuple, list))
        or len(backoff) != 2
        or not all(isinstance(one, (int, float)) and 0 <= one < math.inf for one in backoff)
    ):
        raise ValueError(f"backoff must be (first, largest) seconds >= 0, got {backoff!r}")


def _rule(
    retry_on: RetryRule | type[BaseException] | tuple[type[BaseException], ...] | None,
) -> RetryRule:
    """Return the function that chooses the failures to try again."""
    if retry_on is None:
        return is_transient
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    types = tuple(one for one in kinds if isinstance(one, type))
    if kinds and len(types) == len(kinds):
        return lambda error: isinstance(error, types)
    if isinstance(retry_on, (tuple, type)) or not callable(retry_on):
        raise ValueError(
            f"retry_on must be exception types, or a function of an exception, got {retry_on!r}"
        )
    return retry_on
