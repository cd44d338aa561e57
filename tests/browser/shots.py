"""Screenshots of the five reports, of their cards, and of the site: ``make shots``.

    python -m tests.browser.shots [--only NAME ...]

They are written to ``runs/shots/``. The runs of the reports are kept there, and a second call only
writes their reports again. Without ``site/`` (``make docs``) its pages are left out.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image

from tests.browser.reports import REPORTS, build

ROOT = Path(__file__).parents[2]
OUT = ROOT / "runs" / "shots"
SIZES = {1280: 800, 390: 844}
SCHEMES = ("light", "dark")
# of the site, if it is there
PAGES = {
    "index": "index.html",
    "tutorial": "tutorials/first-verdict.html",
    "attack": "attacks/rays.html",
    "api": "reference/api/core-attacks.html",
}
PICTURE = "report.png"  # for README
MOST_BYTES = 200_000  # of it
COLOURS = 128  # of it


def views(browser: Any) -> Iterator[tuple[str, Any]]:
    """Yield a page of each size and colour scheme, with the end of the names of its pictures."""
    for width, height in SIZES.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            yield f"{width}-{scheme}", context.new_page()
            context.close()


def shoot_report(browser: Any, name: str) -> None:
    """Write pictures of a report: as it opens, with all sections open, and with its dialog."""
    page = build(name, OUT / "runs" / name)
    for end, view in views(browser):
        view.goto(page.as_uri())
        view.screenshot(path=OUT / f"{name}-{end}.png", full_page=True)
        if view.locator(".zoom").count():
            view.locator(".zoom").first.press("Enter")
            view.screenshot(path=OUT / f"{name}-{end}-dialog.png")
            view.keyboard.press("Escape")
        view.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
        view.screenshot(path=OUT / f"{name}-{end}-open.png", full_page=True)
    card = page.with_name("card.png")
    if card.exists():
        shutil.copy(card, OUT / f"{name}-card.png")


def shoot_site(browser: Any, site: Path) -> None:
    """Write pictures of some pages of the site, from a local server, since search needs one."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, page in PAGES.items():
            for end, view in views(browser) if (site / page).exists() else ():
                view.goto(f"http://127.0.0.1:{server.server_port}/{page}")
                view.wait_for_load_state("networkidle")
                view.screenshot(path=OUT / f"site-{name}-{end}.png", full_page=True)
        server.shutdown()


def shoot_picture(browser: Any) -> None:
    """Write the first screen of the demo in few colours, for README."""
    context = browser.new_context(viewport={"width": 1280, "height": 905})
    view = context.new_page()
    view.goto((OUT / "runs" / "demo" / "index.html").as_uri())
    screen = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    context.close()
    screen.quantize(COLOURS).save(OUT / PICTURE, optimize=True)
    size = (OUT / PICTURE).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{PICTURE} must have at most {MOST_BYTES} bytes, got {size}")


def main() -> None:
    """Write all pictures, or those of some reports."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", choices=[*REPORTS, "site"])
    only = parser.parse_args().only
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name in REPORTS:
            if only is None or name in only:
                shoot_report(browser, name)
        if only is None or "site" in only:
            shoot_site(browser, ROOT / "site")
        if only is None or "demo" in only:
            shoot_picture(browser)
        browser.close()


if __name__ == "__main__":
    main()
