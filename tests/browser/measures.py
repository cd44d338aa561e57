"""Scripts that measure a page in the browser."""

from __future__ import annotations

from typing import Any

# parts of the page that do not lie in the first screen, or are not there at all
FIRST_SCREEN = """(selectors) => selectors.filter((selector) => {
  const found = [...document.querySelectorAll(selector)];
  return !found.length || found.some((one) => {
    const box = one.getBoundingClientRect();
    return box.top < 0 || box.bottom > innerHeight || !box.height;
  });
})"""

# runs of letters and digits, 24 at most, that end a line within
BROKEN_WORDS = r"""() => {
  const broken = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest("script, style, svg")) continue;
    for (const found of node.data.matchAll(/[\p{L}\p{N}]+/gu)) {
      if (found[0].length > 24) continue;
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      const tops = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (tops.size > 1) broken.push(found[0] + " in " + node.data.trim().slice(0, 60));
    }
  }
  return broken;
}"""

# elements that are cut by an edge of the page or by a box that hides what overflows
CUT = """() => {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")].filter((one) => {
    if (one.closest("svg") && one.tagName !== "svg") return false;
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    if (!box.width || style.clipPath !== "none" || one.closest(".scroll")) return false;
    return box.right > width + 1 || box.left < -1;
  }).map((one) => one.tagName + "." + one.className + ": " + one.textContent.slice(0, 40));
}"""

SCROLLS = "document.documentElement.scrollWidth > innerWidth"


def folded_text() -> str:
    """Return a script that names the sections whose content is not shown."""
    return """[...document.querySelectorAll('.inside')]
      .filter((one) => !one.checkVisibility({contentVisibilityAuto: true}) || !one.clientHeight)
      .map((one) => one.id)"""


def unfold(page: Any) -> None:
    """Open all sections and folds of a page."""
    page.eval_on_selector_all("details", "folds => folds.forEach((one) => { one.open = true; })")


def violations(page: Any, tags: tuple[str, ...] = ()) -> list[str]:
    """Return what axe-core finds against the page: rule and nodes, one line for each rule."""
    from axe_playwright_python.sync_playwright import Axe

    wanted = tags or ("wcag2a", "wcag2aa", "wcag21aa", "best-practice")
    options = {"runOnly": {"type": "tag", "values": list(wanted)}}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]} ({len(one['nodes'])})"
        for one in found
    ]
