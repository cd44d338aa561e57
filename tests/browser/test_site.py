"""The site of ``make docs`` in a browser: every page loads, search finds, axe-core is content."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "site"
# markup of the theme that neither a style sheet nor text can mend
THEMES_OWN = {
    "scrollable-region-focusable": ".md-typeset__scrollwrap"  # the frame of a wide table
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    """The site on a local server."""
    if not (SITE / "index.html").is_file():
        reason = "the site is not built (make docs)"
        if os.environ.get("ART_EXT_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    handler = functools.partial(_Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def view(browser, address):
    """A page whose ``trouble`` holds complaints, failures and requests to other places."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.trouble = []
    page.on("console", lambda message: page.trouble.append(message.text))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    # the next page may abort what the one before still loads
    page.on(
        "requestfailed",
        lambda request: "ABORTED" in str(request.failure) or page.trouble.append(request.url),
    )
    page.on("response", lambda answer: answer.status < 400 or page.trouble.append(answer.url))
    page.on(
        "request",
        lambda request: request.url.startswith(address) or page.trouble.append(request.url),
    )
    yield page
    context.close()


def test_every_page_loads_from_the_server_alone(view, address):
    pages = [path for path in sorted(SITE.rglob("*.html")) if path.name != "404.html"]
    assert len(pages) > 60
    # each page would read the whole index again. The tests of the search do
    index = json.loads((SITE / "search" / "search_index.json").read_text(encoding="utf-8"))
    nothing = json.dumps({**index, "docs": []})
    view.route("**/search_index.json", lambda route: route.fulfill(body=nothing))
    for path in pages:
        view.goto(f"{address}/{path.relative_to(SITE).as_posix()}")
        view.wait_for_load_state("load")
        assert view.locator("h1").count() == 1, path
        assert view.trouble == [], path


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("query budget", ("explanation/counting-queries",)),
        ("RayS", ("attacks/rays",)),
        ("resume", ("faq", "how-to/long-runs")),
    ],
)
def test_search_finds_the_page_first(view, address, query, found):
    view.goto(f"{address}/index.html")
    view.click("[data-md-component=search-query]")
    view.keyboard.type(query)
    link = view.wait_for_selector(".md-search-result__item a")
    view.wait_for_timeout(500)  # further letters may change the order
    link = view.query_selector(".md-search-result__item a")
    first = link.get_attribute("href").removeprefix(f"{address}/").partition(".html")[0]
    assert first in found
    assert view.trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "page",
    [
        "index.html",
        "tutorials/first-verdict.html",
        "attacks/rays.html",
        "reference/api/core-oracle.html",
    ],
)
def test_accessibility(browser, address, page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 800}) as one:
        view = one.new_page()
        view.goto(f"{address}/{page}")
        view.wait_for_load_state("networkidle")
        rules = {"runOnly": ["wcag2a", "wcag2aa"]}
        found = Axe().run(view, options=rules).response["violations"]
    ours = Counter(
        f"{rule['id']}: {node['target']} {node['html'][:80]}"
        for rule in found
        for node in rule["nodes"]
        if not str(node["target"][0]).startswith(THEMES_OWN.get(rule["id"], "none"))
    )
    assert ours == {}
