"""Errors raised by code outside this package, described in one line with the cause chained."""

from __future__ import annotations

import traceback


class UserCodeError(ValueError):
    """Error of a model, a factory or another toolkit. ``__cause__`` is the original exception."""


def is_plain(error: BaseException) -> bool:
    """Return True if this package raised the error itself, with a message for its user."""
    if isinstance(error, UserCodeError) or not isinstance(
        error, (ValueError, ImportError, OSError)
    ):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not frames or str(frames[-1].f_globals.get("__name__")).startswith("art_ext.")


def describe(error: BaseException) -> str:
    """Return an error's message in one line.

    The type of the exception comes first, unless this package wrote the message.
    """
    message = " ".join(str(error).split())
    if isinstance(error, UserCodeError) or is_plain(error):
        return message
    return typed(error)


def typed(error: BaseException) -> str:
    """Return the type of an exception and its message in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
