"""The frame of a worker's task: pieces of work one by one, with their errors as data."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.errors import UserCodeError, describe
from art_ext.evaluation.execution.job import FINAL_ERRORS, Ended
from art_ext.models.remote import Usage

Robust = Mapping[str, tuple[int, int]]


def end_each(
    numbers: Sequence[int],
    threads: int,
    do: Callable[[int], Robust | None],
    usage: Callable[[], Usage] = Usage,
) -> list[Ended]:
    """Do pieces of work in a worker. Errors are returned, so that other pieces go on.

    A model that gives no further answers ends the task. An error of the user's code is final by its
    original cause.

    Args:
        numbers: of the pieces.
        threads: of PyTorch.
        do: function that does one, and returns ``robust`` of ``Ended``. None: there is none.
        usage: function that returns the rows that this worker sent to services.
    """
    ended = partial(Ended, host=socket.gethostname(), process=os.getpid())
    torch.set_num_threads(threads)
    ends = []
    for number in numbers:
        try:
            robust = do(number)
        except (ModelStopped, AttackInterrupted) as stop:
            ends.append(ended(number, robust={}, error=str(stop), stopped=True, usage=usage()))
            break
        except Exception as error:
            final = isinstance(_cause(error), FINAL_ERRORS)
            trace = "".join(traceback.format_exception(error))
            ends.append(ended(number, robust={}, error=describe(error), final=final, trace=trace))
        else:
            ends.append(ended(number, robust=robust or {}, usage=usage()))
    return ends


def _cause(error: Exception) -> BaseException:
    """Return the original exception of an error of the user's code."""
    return error.__cause__ or error if isinstance(error, UserCodeError) else error
