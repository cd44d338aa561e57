"""Package list for the mapped folders, and the description for a package index.

Everything else is in pyproject.toml.
"""

import pathlib
import re

from setuptools import find_packages, setup

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parent
MAPPED = ("adapters", "benchmarks")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
MARK = re.compile(r"<!--.*?-->\n?", re.DOTALL)


def describe():
    """Return README without relative links, which are dead on a package index.

    With an address in ``docs-url``, links to pages and pictures of ``docs/`` become absolute.
    Without one, a link becomes its text with the command that shows the page, and pictures go.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    site = settings["tool"]["art-ext"]["docs-url"].rstrip("/")

    def replace(found):
        picture, text, target = found.groups()
        name, _, anchor = target.partition("#")
        path = pathlib.PurePosixPath(name)
        if "://" in target:
            return found.group()
        if path.parts[:1] != ("docs",):
            return "" if picture else text
        if site:
            page = path.relative_to("docs")
            address = page.with_suffix(".html") if page.suffix == ".md" else page
            return f"{picture}[{text}]({site}/{address}{'#' if anchor else ''}{anchor})"
        return "" if picture else f"{text} (`art-ext docs {path.stem}`)"

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return LINK.sub(replace, MARK.sub("", readme))


for name in MAPPED:
    link = ROOT / "art_ext" / name
    if link.is_file():  # git writes a small text file where it may not make a symbolic link
        raise SystemExit(
            f"art_ext/{name} is a plain file, but must be a symbolic link to ../{name}: "
            "enable links (git config core.symlinks true) and check the repository out again."
        )

excluded = [f"art_ext.{name}{tail}" for name in MAPPED for tail in ("", ".*")]
packages = find_packages(include=["art_ext", "art_ext.*"], exclude=excluded)
for name in MAPPED:
    packages += [f"art_ext.{name}"] + [f"art_ext.{name}.{sub}" for sub in find_packages(name)]
packages += ["art_ext.docs"]  # no module: the pages that `art-ext docs` prints
setup(packages=packages, long_description=describe(), long_description_content_type="text/markdown")
