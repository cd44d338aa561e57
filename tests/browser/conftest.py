"""A browser for all tests of this folder, and the reports that they open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.reports import REPORTS, build


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as slow."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """The Chromium of the system. It is closed after the tests of this folder."""
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "Chromium is not installed (the system's package `chromium`)"
        if os.environ.get("ART_EXT_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file and return its page, whose ``trouble`` collects complaints and requests.

    Arguments of a browser context are passed on: ``viewport``, ``color_scheme``,
    ``java_script_enabled``.
    """
    contexts = []

    def open_file(file: Path, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        view = context.new_page()
        view.set_default_timeout(8000)
        view.trouble = []
        view.on("console", lambda message: view.trouble.append(message.text))
        view.on("pageerror", lambda error: view.trouble.append(str(error)))
        view.on("requestfailed", lambda request: view.trouble.append(request.url))
        view.on("dialog", lambda dialog: view.trouble.append(dialog.message))
        view.requests = []
        view.on("request", lambda request: view.requests.append(request.url))
        view.goto(file.as_uri())
        view.wait_for_load_state("networkidle")
        return view

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the page of one of the five reports by its name. Each is built once."""
    kept = os.environ.get("ART_EXT_BROWSER_RUNS")
    root = Path(kept) if kept else tmp_path_factory.mktemp("reports")
    built: dict[str, Path] = {}

    def page_of(name: str) -> Path:
        if name not in built:
            built[name] = build(name, root / name)
        return built[name]

    return page_of


@pytest.fixture(params=REPORTS)
def each_report(request: pytest.FixtureRequest, reports: Callable[[str], Path]) -> Path:
    """The page of each of the five reports in turn."""
    return reports(request.param)
