"""A question to a server, before a library tries a download for minutes."""

from __future__ import annotations

import threading

PATIENCE = 5.0  # seconds that a server has to answer


def failure(url: str) -> str | None:
    """Return why a server does not answer soon, or None if it does.

    Proxies of the environment are used.
    """
    found: list[str | None] = []
    # a name server that is silent holds a thread for longer than any timeout
    thread = threading.Thread(target=lambda: found.append(_contacted(url)), daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    return found[0] if found else f"no answer within {PATIENCE:g} s"


def _contacted(url: str) -> str | None:
    """Return why the server does not answer a HEAD request, None if it does."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()  # noqa: S310  # of a library
    except HTTPError:
        return None  # it did answer
    except (URLError, OSError, RuntimeError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    return None
