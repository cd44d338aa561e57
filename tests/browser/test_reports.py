"""What holds for every report, on five that differ in what they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_opens_without_complaint_or_request(each_report: Path, opened: Callable[..., Any]) -> None:
    page = opened(each_report)
    assert page.trouble == []
    fetched = [url for url in page.requests if not url.startswith("data:")]
    assert fetched == [each_report.as_uri()]
