"""API pages of the site: a page for each public package, and the stubs that mkdocstrings reads.

mkdocstrings reads source text and imports nothing. Keywords that attacks share, generated classes
and lazy names exist in the imported package only. So its objects are written as stubs: complete
signatures and docstrings, in modules of the names that define them.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = (
    "art_ext.core.attacks",
    "art_ext.core.metrics",
    "art_ext.core.oracle",
    "art_ext.core.result",
    "art_ext.core.detection",
    "art_ext.core.limits",
    "art_ext.core",
    "art_ext.training",
    "art_ext.evaluation",
    "art_ext.data",
    "art_ext.models",
    "art_ext.attacks",
    "art_ext.trainers",
    "art_ext.detectors",
    "art_ext.adapters.torchattacks",
    "art_ext.adapters.robustbench",
    "art_ext.adapters.autoattack",
    "art_ext.adapters.attackbench",
    "art_ext.tracking",
    "art_ext.testing",
    "art_ext.examples",
)
ENTRY = re.compile(r"^ {4}(?=\S)(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:", re.MULTILINE)
ARGUMENTS = ("Args", "Arguments")  # torchattacks writes the latter
SPECIAL = {"__call__", "__iter__", "__len__", "__getitem__"}


def public_names(package: str) -> dict[str, Any]:
    """Return the public objects of a package: those of ``__all__``, or else its own names."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == package
    ]
    return {name: getattr(module, name) for name in sorted(names)}


def identifier(package: str, name: str, found: Any) -> str:
    """Return the full name of an object in the module that defines it."""
    module = getattr(found, "__module__", None)
    if callable(found) and module and module.startswith("art_ext"):
        return f"{module}.{found.__qualname__}"
    return f"{package}.{name}"


# --- parameters ---


def parameters(found: Any) -> list[inspect.Parameter]:
    """Return the parameters of a public object, without self. Protocols and builtins have none."""
    if getattr(found, "_is_protocol", False):
        return []
    try:
        return [*inspect.signature(found).parameters.values()]
    except ValueError:
        return []


def entries(text: str | None, *sections: str) -> dict[str, str]:
    """Return the entries of a docstring's sections by name, each with all of its lines."""
    text = inspect.cleandoc(text or "")
    bodies = re.findall(rf"^(?:{'|'.join(sections)}):\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
    found = {}
    for body in bodies:
        starts = [*ENTRY.finditer(body)]
        ends = [one.start() for one in starts[1:]] + [len(body)]
        for entry, end in zip(starts, ends, strict=True):
            found[entry[1].lstrip("*")] = body[entry.start() : end].rstrip()
    return found


def documented(found: Any) -> dict[str, str]:
    """Return the entries of a callable: of a class with those of its bases and constructor."""
    if not inspect.isclass(found):
        return entries(found.__doc__, *ARGUMENTS)
    texts: dict[str, str] = {}
    for base in found.__mro__:
        if base is found or base.__module__.startswith("art_ext"):
            own = {
                **entries(base.__doc__, *ARGUMENTS, "Attributes"),
                **entries(vars(base).get("__init__", base).__doc__, *ARGUMENTS),
            }
            texts = {**own, **texts}
    return texts


def undocumented(found: Any) -> list[str]:
    """Return the parameters of a callable without an entry of their own."""
    return [one.name for one in parameters(found) if one.name not in documented(found)]


def unknown(found: Any) -> list[str]:
    """Return the arguments that a docstring describes and a callable does not take.

    An entry for several parameters is one of them. A class may describe attributes besides.
    """
    names = {one.name for one in parameters(found)}
    described = entries(found.__doc__, *ARGUMENTS)
    grouped = [name for name in documented(found) if "," in name]
    return [name for name in {**described, **dict.fromkeys(grouped)} if name not in names]


def attributes(kind: type) -> dict[str, Any]:
    """Return the annotated attributes of a class and its bases of this package."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("art_ext"):
            found |= vars(base).get("__annotations__", {})
    return found


# --- stubs ---


def write_stubs(folder: Path) -> None:
    """Write the stubs of all public objects, each in the module that defines it."""
    modules: dict[str, list[str]] = {}
    written = set()
    for package in PACKAGES:
        modules.setdefault(package, [])
        for name, found in public_names(package).items():
            full = identifier(package, name, found)
            if full not in written:
                written.add(full)
                modules.setdefault(full.rpartition(".")[0], []).append(
                    stub(full.rpartition(".")[2], found)
                )
    for module, stubs in modules.items():
        parent = any(other.startswith(f"{module}.") for other in modules)
        path = folder / module.replace(".", "/")
        file = path / "__init__.py" if parent else path.with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n\n".join(stubs) + "\n", encoding="utf-8")
        for above in [path, *path.parents]:
            if above == folder:
                break
            if above.is_dir():
                (above / "__init__.py").touch()


def stub(name: str, found: Any) -> str:
    """Return the source text of an object without its body."""
    if inspect.isclass(found):
        return _class(name, found)
    if callable(found):
        return _function(name, found)
    return f"{name}: {type(found).__name__}\n{_quoted(_constant(found))}"


def _constant(found: Any) -> str:
    names = [f"`{one}`" for one in found] if isinstance(found, (dict, list, tuple)) else []
    return f"Names: {', '.join(names)}." if names else repr(found)


def _function(name: str, found: Any, kind: str = "") -> str:
    lines = [f"@{kind}"] if kind else []
    text = inspect.cleandoc(found.__doc__ or "")
    return "\n".join([*lines, f"def {name}{_signature(found)}:", _indented(_quoted(text))])


def _class(name: str, kind: type) -> str:
    bases = [base.__name__ for base in kind.__bases__ if base is not object]
    text = _class_text(kind)
    lines = [f"class {name}({', '.join(bases)}):", _indented(_quoted(text))]
    lines += [f"    {one}: {_annotation(what)}" for one, what in attributes(kind).items()]
    if parameters(kind):
        lines += [f"    def __init__{_signature(kind, first='self')}: ..."]
    lines += [_indented(text) for text in _members(kind)]
    return "\n".join(lines)


def _class_text(kind: type) -> str:
    """Return the docstring of a class with an entry for each parameter and described attribute."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    if text.startswith(f"{kind.__name__}("):  # a dataclass without a docstring
        text = ""
    known = documented(kind)
    names = [one.name for one in parameters(kind)]
    text = re.sub(
        r"^(?:Args|Arguments|Attributes):\n.*?(?=^\S|\Z)", "", text, flags=re.M | re.S
    ).rstrip()
    args = [known[name] for name in names if name in known]
    rest = [entry for name, entry in known.items() if name not in names and hasattr(kind, name)]
    rest += [
        known[one]
        for one in attributes(kind)
        if one in known and one not in names and not hasattr(kind, one)
    ]
    for title, body in (("Args", args), ("Attributes", rest)):
        if body:
            text += f"\n\n{title}:\n" + "\n".join(body)
    return text


def _members(kind: type) -> Iterator[str]:
    """Yield the public methods and properties that a class has from this package."""
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("art_ext"):
            continue
        for name, value in vars(base).items():
            if name in seen or (name.startswith("_") and name not in SPECIAL):
                continue
            seen.add(name)
            decorator = ""
            if isinstance(value, property):
                value, decorator = value.fget, "property"
            elif isinstance(value, (classmethod, staticmethod)):
                value, decorator = value.__func__, type(value).__name__
            if inspect.isfunction(value) and value.__doc__:
                yield _function(name, value, decorator)


def _signature(found: Any, first: str = "") -> str:
    """Return a signature as source text."""
    texts = [first] if first else []
    seen_star = False
    for one in parameters(found):
        if one.kind is one.KEYWORD_ONLY and not seen_star:
            texts.append("*")
        seen_star |= one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        stars = "*" if one.kind is one.VAR_POSITIONAL else ""
        stars = "**" if one.kind is one.VAR_KEYWORD else stars
        kind = "" if one.annotation is one.empty else f": {_annotation(one.annotation)}"
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        texts.append(f"{stars}{one.name}{kind}{default}")
    returned = inspect.Signature.empty
    if not inspect.isclass(found):
        returned = inspect.signature(found).return_annotation
    arrow = "" if returned is inspect.Signature.empty else f" -> {_annotation(returned)}"
    return f"({', '.join(texts)}){arrow}"


def _annotation(found: Any) -> str:
    from art_ext.shells.text import spelled

    text = re.sub(r"<class '([\w.]+)'>", r"\1", spelled(found))
    return text if _is_source(text) else "Any"


def _default(value: Any) -> str:
    from art_ext.shells.text import valued

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}()"
    text = getattr(value, "__name__", None) or valued(value)
    return text if _is_source(text) else "..."


def _is_source(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}\n"""'


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))


# --- pages ---


def page_name(package: str) -> str:
    """Return the file of a package's page in ``reference/api``."""
    return f"{package.removeprefix('art_ext.').replace('.', '-')}.md"


def write_pages(folder: Path) -> None:
    """Write a page for each package, and one that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# API reference",
        "",
        "Attacks and other common names can be imported from `art_ext` itself.",
        "",
    ]
    lines += ["| package | for | names |", "|---|---|---|"]
    places: dict[str, str] = {}  # pages of the names, each of which has one entry
    for package in PACKAGES:
        names = public_names(package)
        text = inspect.cleandoc(importlib.import_module(package).__doc__ or "")
        summary = " ".join(text.partition("\n\n")[0].split()).rstrip(":")
        lines.append(f"| [`{package}`]({page_name(package)}) | {summary} | {len(names)} |")
        page = _page(package, summary, names, places)
        (folder / page_name(package)).write_text(page, encoding="utf-8")
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _page(package: str, summary: str, names: dict[str, Any], places: dict[str, str]) -> str:
    # the pages of the methods come first in a search
    lines = ["---", "search:", "  boost: 0.3", "---", "", f"# {package}", "", summary, ""]
    for name, found in names.items():
        full = identifier(package, name, found)
        if full in places:
            lines += [f"## {name}", "", f"See [`{name}`]({places[full]}#{full}).", ""]
            continue
        places[full] = page_name(package)
        lines += [f"::: {full}", "    options:"]
        lines += [f"      heading: {name}", f"      toc_label: {name}", ""]
    return "\n".join(lines)
