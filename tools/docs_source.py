"""Write the source of the site below ``build/site``: pages, generated pages, navigation.

``make docs`` runs this with the package's environment, and MkDocs with one of its own. The
navigation follows the folders of ``docs``: a new page needs no entry. Attacks, recipes and
detectors stand in the order of their registries, other pages in that of their links on
``docs/index.md``.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from art_ext.tables import page_of_recipe
from tools import docs_api

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "site"
API = "reference/api"
SETTINGS = re.compile(r"^## Settings\n", re.MULTILINE)
PARTS = {
    "Tutorials": ("tutorials", "notebooks"),
    "How-to": ("how-to",),
    "Reference": ("attacks", "training", "detectors", "hosts", "reference"),
    "Explanation": ("explanation",),
}
TITLES = {
    "notebooks": "Notebooks",
    "attacks": "Attacks",
    "training": "Training methods",
    "detectors": "Detectors",
    "hosts": "Hosts",
    "reference": "Commands, files and formats",
    API: "API",
}


def main() -> None:
    """Write the source of the site."""
    shutil.rmtree(BUILD, ignore_errors=True)
    source = BUILD / "docs"
    shutil.copytree(DOCS, source)
    shutil.copy(ROOT / "tools" / "site.css", source)
    docs_api.write_stubs(BUILD / "stubs")
    docs_api.write_pages(source / API)
    (source / "reference" / "commands.md").write_text(commands(), encoding="utf-8")
    write_notebooks(source / "notebooks")
    link_settings(source)
    config = {"INHERIT": "../../mkdocs.yml", "nav": navigation(source)}
    (BUILD / "mkdocs.yml").write_text(json.dumps(config, indent=1), encoding="utf-8")


# --- navigation ---


def navigation(source: Path) -> list[Any]:
    """Return the navigation of the pages in a folder."""
    order = reading_order(source)
    placed = {folder for part in PARTS.values() for folder in part}
    nav: list[Any] = [{"Home": "index.md"}]
    for title, folders in PARTS.items():
        if title == "Reference":
            entries = [_section(source, folder, order) for folder in folders]
            entries += [name for name in _pages(source, "", order) if Path(name).stem not in placed]
            entries = [one for one in entries if one not in ("index.md", "faq.md")]
        else:
            first, *others = folders
            entries = _pages(source, first, order)
            entries += [_section(source, folder, order) for folder in others]
        nav.append({title: [one for one in entries if one]})
    return [*nav, *(["faq.md"] if (source / "faq.md").exists() else [])]


def reading_order(source: Path) -> list[str]:
    """Return the pages in the order of the registries, then of their first links on the index."""
    from art_ext.core.attacks import registry
    from art_ext.core.detection import registry as detectors
    from art_ext.training.recipes.registry import CATALOGUE

    ours = [spec.page for spec in registry.specs() if registry.is_built_in(spec)]
    ours += [spec.page for spec in detectors.specs() if detectors.is_built_in(spec)]
    ours += [page_of_recipe(kind.name) for kind in CATALOGUE]
    ours += [f"{API}/{docs_api.page_name(package)}" for package in docs_api.PACKAGES]
    index = (source / "index.md").read_text(encoding="utf-8")
    return list(dict.fromkeys([*ours, *re.findall(r"\]\(([\w/.-]+\.md)", index)]))


def _pages(source: Path, folder: str, order: list[str]) -> list[str]:
    found = [path.relative_to(source).as_posix() for path in (source / folder).glob("*.md")]
    known = [name for name in (f"{folder}/index.md", *order) if name in found]
    return known + sorted(set(found) - {*known})


def _section(source: Path, folder: str, order: list[str]) -> dict[str, Any] | None:
    """Return the entry of a folder: its overview, its pages, and the folders in it."""
    pages: list[Any] = _pages(source, folder, order)
    overview = [f"{folder}.md"] if (source / f"{folder}.md").exists() else []
    below = sorted(path for path in (source / folder).glob("*/") if path.is_dir())
    inner = [_section(source, path.relative_to(source).as_posix(), order) for path in below]
    if folder == API:
        pages = [pages[0], *({Path(page).stem.replace("-", "."): page} for page in pages[1:])]
    entries = [*overview, *pages, *filter(None, inner)]
    return {TITLES.get(folder, Path(folder).name.capitalize()): entries} if entries else None


# --- generated pages ---


def commands() -> str:
    """Return the page of all commands and options, from the command line itself."""
    import typer
    from typer.cli import get_docs_for_click

    from art_ext.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="art-ext")
    text = get_docs_for_click(obj=command, ctx=context, name="art-ext")
    for name, below in command.commands.items():  # type: ignore[attr-defined]
        summary = " ".join((below.help or "").partition("\n\n")[0].split())
        text = re.sub(
            rf"^\* `{name}`:.*$",
            lambda _, name=name, summary=summary: f"* [`{name}`](#art-ext-{name}): {summary}",
            text,
            count=1,
            flags=re.MULTILINE,
        )
    return text.replace("# `art-ext`", "# Commands and options", 1)


def write_notebooks(folder: Path) -> None:
    """Write the notebooks as pages with their outputs."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        return
    from nbconvert import MarkdownExporter

    folder.mkdir(parents=True)
    for notebook in notebooks:
        text, resources = MarkdownExporter().from_filename(str(notebook))
        for name, data in resources["outputs"].items():
            picture = f"{notebook.stem}-{name}"
            (folder / picture).write_bytes(data)
            text = text.replace(f"({name})", f"({picture})")
        (folder / f"{notebook.stem}.md").write_text(text, encoding="utf-8")


def link_settings(source: Path) -> None:
    """Add to the settings of a method's page links to its functions and classes in the API."""
    for page, places in api_of_pages().items():
        path = source / page
        links = [
            f"[`{name}`](../{API}/{docs_api.page_name(package)}#{full})"
            for package, name, full in places
        ]
        line = f"## Settings\n\nAll arguments: {', '.join(links)}.\n"
        text = path.read_text(encoding="utf-8")
        path.write_text(SETTINGS.sub(lambda _, line=line: line, text, count=1), encoding="utf-8")


def api_of_pages() -> dict[str, list[tuple[str, str, str]]]:
    """Return for each method's page the package, name and full name of what it describes."""
    from art_ext.core.attacks import registry
    from art_ext.core.detection import registry as detectors
    from art_ext.training.recipes.registry import CATALOGUE

    found: dict[str, list[tuple[str, str, str]]] = {}
    methods = [
        ("art_ext.core.attacks", spec.page, spec.function)
        for spec in registry.specs()
        if registry.is_built_in(spec)
    ]
    methods += [
        ("art_ext.core.detection", spec.page, spec.kind)
        for spec in detectors.specs()
        if detectors.is_built_in(spec)
    ]
    methods += [("art_ext.training", page_of_recipe(kind.name), kind) for kind in CATALOGUE]
    for package, page, what in methods:
        name = what.__name__
        if name in docs_api.public_names(package) and (DOCS / page).exists():
            full = docs_api.identifier(package, name, what)
            found.setdefault(page, []).append((package, name, full))
    return found


if __name__ == "__main__":
    main()
