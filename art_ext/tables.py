"""Tables in the documentation, and names that a shell completes, written by ``make tables``.

Attacks and detectors come from their registries, options from the configuration classes. A page
holds a table between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. Measured tables stand
behind ``<!-- measured: NAME -->``, see ``art_ext.benchmarks.stored``, and those of the papers that
have a result behind ``<!-- papers: ID -->``.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from functools import partial
from pathlib import Path
from typing import Any

from art_ext import models
from art_ext.attacks.generate import formatted
from art_ext.benchmarks import speed, stored
from art_ext.benchmarks.common import spread
from art_ext.benchmarks.papers import page as papers
from art_ext.cli.listing import summary_of
from art_ext.cli.presets import described as described_preset
from art_ext.cli.recipes import described
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.generator import GeneratorConfig, SampleConfig
from art_ext.configuration.limits import LimitsConfig
from art_ext.configuration.options import Option, default_of, options_of
from art_ext.configuration.parsing import read_toml
from art_ext.configuration.sweep import SweepConfig
from art_ext.configuration.training import TrainingConfig
from art_ext.configuration.transfer import TransferConfig
from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.detection import registry as detectors
from art_ext.core.geometry import NORMS
from art_ext.core.metrics import wilson
from art_ext.core.wording import markdown, radius
from art_ext.data.loading import DATA_NAMES
from art_ext.evaluation.panel.panels import PANELS, VERSIONS, Member
from art_ext.models.networks import NETWORKS
from art_ext.shells import art, torchattacks
from art_ext.shells.plan import Host, Plan, has_shell, plan
from art_ext.training.presets import preset_names
from art_ext.training.recipes.catalogue import CATALOGUE
from art_ext.training.recipes.registry import RECIPES

ROOT = Path(__file__).parents[1]
MARKED = re.compile(
    r"(<!-- (table|measured|papers): (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL
)
VALUES = ROOT / "art_ext" / "configuration" / "values.py"
PAPERS = ROOT / "docs" / "papers.md"
PAGES = ("README.md", "docs/**/*.md")


def main() -> None:
    """Write the tables of all pages, and the names."""
    texts = {page: with_tables(page.read_text(encoding="utf-8"), page) for page in pages()}
    for path, text in {**texts, VALUES: values(), PAPERS: papers.page()}.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


def values() -> str:
    """Return the module of the names of what ships, which imports nothing."""
    names = {
        "ATTACKS": [spec.name for spec in registry.specs() if registry.is_built_in(spec)],
        "DATA": DATA_NAMES,
        "MODELS": NETWORKS,
        "NORMS": NORMS,
        "PANELS": [*PANELS, *VERSIONS],
        "PRESETS": preset_names(),
        "RECIPES": [recipe.name for recipe in CATALOGUE],
    }
    lines = [f"{name} = {tuple(sorted(found))!r}" for name, found in names.items()]
    head = '"""Names for help and completion, written by ``make tables`` from their lists."""'
    text = "\n\n".join([head, "from __future__ import annotations", *lines]) + "\n"
    return formatted(text, VALUES)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]


def with_tables(text: str, page: Path) -> str:
    """Return the text of a page with its tables written again."""
    specs = [spec for spec in registry.specs() if registry.is_built_in(spec)]
    folder = os.path.relpath(ROOT / "docs", page.parent)
    prefix = "" if folder == "." else f"{Path(folder).as_posix()}/"
    here = Path(os.path.relpath(page, ROOT / "docs")).as_posix()

    def table(match: re.Match[str]) -> str:
        kind, name = match[2], match[3]
        if kind == "measured":
            written = stored.shown(name)
        elif kind == "papers":
            written = papers.excerpt(name, prefix)
        elif name in OF_PAGE:
            written = OF_PAGE[name](here)
        else:
            written = TABLES[name](specs, prefix)
        return match[1] + written + match[4]

    return MARKED.sub(table, text)


def _attacks(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of attacks by title."""
    rows = (
        (f"[{spec.title}]({prefix}{spec.page})", f"`{spec.name}`", spec.access, spec.summary)
        for spec in specs
    )
    return markdown(("attack", "name", "needs", "summary"), rows)


def _methods(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the short table of attacks and recipes: one row for each kind."""
    kinds: dict[str, list[str]] = {}
    for spec in specs:
        shown = f"[`{spec.name}`]({prefix}{spec.page})"
        kinds.setdefault(f"attacks on {spec.access}, {spec.family}", []).append(shown)
    kinds["training"] = [f"[`{name}`]({prefix}{page_of_recipe(name)})" for name in RECIPES]
    return markdown(("", "methods"), ((kind, ", ".join(shown)) for kind, shown in kinds.items()))


def page_of_recipe(recipe: str) -> str:
    """Return the page of a recipe: the one of its name, or else the one whose title has it."""
    folder = ROOT / "docs" / "training"
    if (folder / f"{recipe}.md").is_file():
        return f"training/{recipe}.md"
    texts = {page.name: page.read_text(encoding="utf-8") for page in folder.glob("*.md")}
    titles = {name: text.partition("\n")[0] for name, text in texts.items()}
    (page,) = (name for name, title in titles.items() if recipe.upper() in title.split())
    return f"training/{page}"


def _functions(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of attacks by the name of the function."""
    rows = (
        (
            f"[`{spec.name}`]({prefix}{spec.page})",
            spec.access,
            spec.family,
            f"`{spec.budget}`" if spec.access != "gradients" else "its steps",
            "no" if spec.no_targets else "yes",
        )
        for spec in specs
    )
    return markdown(("attack", "needs", "family", "ends by", "targets"), rows)


def _pages(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of pages with the attacks that each describes."""
    by_page: dict[str, list[AttackSpec]] = {}
    for spec in specs:
        by_page.setdefault(spec.page, []).append(spec)
    rows = (
        (f"[{', '.join(spec.title for spec in of_page)}]({prefix}{page})", _kind(of_page))
        for page, of_page in by_page.items()
    )
    return markdown(("page", "attacks"), rows)


def _kind(specs: Sequence[AttackSpec]) -> str:
    return " and ".join(dict.fromkeys(f"{spec.family}, from {spec.access}" for spec in specs))


def _classes(host: Host, specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of attacks with their class in a host, or the reason why there is none."""
    rows = []
    for spec in specs:
        shell = spec.hosts.get(host.name)
        shown = f"`{shell.name}`" if shell and shell.name else (shell.reason if shell else "-")
        ends = failed = ""
        if has_shell(spec, host):
            ends, failed = _ends_by(spec, plan(spec, host)), _on_failure(plan(spec, host))
        link = f"[{spec.title}]({prefix}{spec.page})"
        rows.append((link, shown, spec.access, spec.family, ends, failed))
    return markdown(("attack", "class", "needs", "family", "ends by", "without success"), rows)


def _ends_by(spec: AttackSpec, found: Plan) -> str:
    """Return the keyword of a class that ends the attack, with its default."""
    by_core = {one.core: one for one in found.keywords if one.default is not None}
    own = by_core.get("num_steps", by_core.get(spec.budget))
    return "one step" if own is None else f"`{own.name}={own.default}`"


def _on_failure(found: Plan) -> str:
    """Return what a class returns for a sample without success, by default."""
    own = next((one for one in found.keywords if one.name == "on_failure"), None)
    return "the last iterate" if own is not None and own.default == "last" else "the input"


def _cost(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return a table of measured costs for each network of ``art_ext.benchmarks.cost``."""
    found = json.loads((ROOT / "benchmarks" / "cost.json").read_text(encoding="utf-8"))
    order = {spec.name: number for number, spec in enumerate(specs)}
    parts = []
    for network, known in found["networks"].items():
        kind = "robust" if known["robust"] else "natural"
        head = (
            f"`{network}` ({kind}), eps {radius(known['eps'])}: a row forward takes"
            f" {known['forward_ms']:.2g} ms, a row backward {known['backward_ms']:.2g} ms more"
            f" ({found['machine']}).\n"
        )
        rows = [
            (
                f"`{name}`",
                str(one["n"]),
                f"{one['most_forward']:,} / {one['most_backward']:,}",
                f"{one['forward']:,.0f} / {one['backward']:,.0f}",
                f"{one['passes']:,.0f}",
                f"{one['seconds_per_1000']:,.3g}"
                if one["seconds_per_1000"] < 100
                else f"{one['seconds_per_1000']:,.0f}",
                f"{100 * one['robust']:.1f} %",
            )
            for name, one in sorted(
                known["subjects"].items(), key=lambda item: order.get(item[0], -1)
            )
        ]
        parts.append(f"{head}\n{markdown(COST_HEADER, rows)}")
    return "\n".join(parts)


COST_HEADER = (
    "attack or panel",
    "n",
    "most rows",
    "rows",
    "forward passes",
    "s per 1,000",
    "robust accuracy left",
)


def _own_cost(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the own cost of every attack, as ``art_ext.benchmarks.speed`` has stored it."""
    found = speed.read(ROOT / "benchmarks" / "speed.json")
    return markdown(speed.HEADS, ((name, *speed.cells(row)) for name, row in found.items()))


def _others(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the times over those of other toolkits, which ``art_ext.benchmarks.speed`` stored."""
    found = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))["others"]
    return markdown(speed.OTHERS, ((name, spread(ratios)) for name, ratios in found.items()))


def _wilson(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the 95 % intervals of three shares by the number of samples."""
    rows = []
    for n in (100, 500, 1000, 10_000):
        ends = ([f"{100 * end:.1f}" for end in wilson(share * n // 10, n)] for share in (9, 5, 1))
        rows.append((f"{n:,}", *(" to ".join(pair) for pair in ends)))
    return markdown(("samples", "90 %", "50 %", "10 %"), rows, range(1))


def _widths(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the width of the 95 % interval of one half by the number of samples."""
    rows = []
    for n in (100, 200, 500, 1000, 10_000):
        low, high = wilson(n // 2, n)
        rows.append((f"{n:,}", f"{100 * (high - low):.0f} points"))
    return markdown(("samples", "width of the 95 % interval at 50 %"), rows, range(2))


def _detectors(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of detectors, which are no attacks."""
    rows = (
        (
            f"[`{spec.name}`]({prefix}{spec.page})",
            str(spec.rows),
            spec.needs,
            ", ".join(f"`{name}`" for name in spec.options) or "none",
            f"`{spec.art}`",
            spec.summary,
        )
        for spec in detectors.specs()
        if detectors.is_built_in(spec)
    )
    return markdown(("detector", "rows", "needs", "options", "in ART", "rejects"), rows)


FACTS = ("attack", "needs", "family", "norms", "targets", "random", "in ART", "in torchattacks")


def _threat_model(page: str) -> str:
    """Return the table of the attacks that a page describes."""
    ours = filter(registry.is_built_in, registry.specs())
    return markdown(FACTS, (_facts(spec, "") for spec in ours if spec.page == page))


def _threat_models(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of all attacks, each with a link to its page."""
    return markdown(FACTS, (_facts(spec, prefix) for spec in specs))


def _facts(spec: AttackSpec, prefix: str) -> tuple[str, ...]:
    name = f"`{spec.name}`"
    return (
        f"[{name}]({prefix}{spec.page})" if prefix else name,
        spec.access,
        spec.family,
        ", ".join(spec.norms),
        "no" if spec.no_targets else "yes",
        "yes" if spec.random else "no",
        *(_class_name(spec, host) for host in ("art", "torchattacks")),
    )


def _panels(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of panels with what all members of each need and can do."""
    rows = []
    for panel in sorted(VERSIONS.values(), key=lambda one: PANELS[one.name] is not one):
        own = registry.names()  # external attacks have no spec
        members = [(one, registry.get(one.attack)) for one in panel.members if one.attack in own]
        norms = [
            norm
            for norm in NORMS
            if all(norm in spec.norms for one, spec in members if norm in one.norms)
        ]
        specs_of = {one.label: spec for one, spec in members}
        without = dict.fromkeys(
            f"`{one.label}`"
            for one in panel.members
            if one.attack == "autoattack"
            or one.arguments.get("num_targets")
            or (one.label in specs_of and specs_of[one.label].no_targets)
        )
        rows.append(
            (
                f"`{panel.name if PANELS[panel.name] is panel else panel.full_name}`",
                panel.version,
                panel.mode if panel.draws is None else f"{panel.mode}, {panel.draws} draws",
                ", ".join(dict.fromkeys(spec.access for _, spec in members)),
                ", ".join(norms),
                f"not {', '.join(without)}" if without else "yes",
                ", ".join(_member(one) for one in panel.members),
            )
        )
    header = ("panel", "version", "mode", "needs", "norms", "targets", "members, in this order")
    return markdown(header, rows)


def _reasons(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of the members of panels, each with the reason why it is there."""
    rows = [
        (f"`{panel.full_name}`", f"`{member.label}`", member.why)
        for panel in VERSIONS.values()
        for member in panel.members
        if member.why
    ]
    return markdown(("panel", "member", "why it is there"), rows)


def _member(one: Member) -> str:
    shown = [f"`{name}={value}`" for name, value in one.arguments.items()]
    if one.norms != NORMS:
        shown.append(f"in {', '.join(one.norms)} only")
    if one.optional:
        shown.append("if it is installed")
    return f"`{one.attack}` ({', '.join(shown)})" if shown else f"`{one.attack}`"


def _recipes(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of recipes with the cost of an update by their default arguments."""
    rows = []
    for name, kind in RECIPES.items():
        facts = described(kind)
        counts = [str(facts[key] or "-") for key in ("rows", "updates", "epochs")]
        rows.append((f"[`{name}`]({prefix}{page_of_recipe(name)})", *counts, facts["needs"]))
    rows_of = "forward + backward rows a sample"
    header = ("recipe", rows_of, "updates of a minibatch", "epochs a pass counts", "needs")
    return markdown(header, rows)


def _presets(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of presets with what a run costs."""
    rows = []
    for facts in map(described_preset, preset_names()):
        cells = [facts[key] for key in ("data", "network", "length")]
        passes = f"{facts['passes']:,.0f}"
        rows.append((f"`{facts['name']}`", *cells, facts["rows"], passes, facts["paper"]))
    header = ("preset", "data of the paper", "network", "length", "rows an update", "passes")
    return markdown((*header, "paper"), rows)


def _networks(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of the networks of this package with their arguments."""
    rows = []
    for name, function in NETWORKS.items():
        made = getattr(models, function)
        arguments = ", ".join(f"`{one}`" for one in inspect.signature(made).parameters)
        rows.append((f"`{name}`", summary_of(made), arguments))
    return markdown(("network", "", "arguments"), rows)


def _class_name(spec: AttackSpec, host: str) -> str:
    shell = spec.hosts.get(host)
    return f"`{shell.name}`" if shell and shell.name else "-"


def _of_detector(page: str) -> str:
    """Return the table of the detectors that a page describes."""
    rows = (
        (f"`{spec.name}`", spec.needs, str(spec.rows), f"`{spec.art}`")
        for spec in detectors.specs()
        if detectors.is_built_in(spec) and spec.page == page
    )
    return markdown(("detector", "needs", "rows an input", "in ART"), rows)


def _options(config: type, specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of the options of a configuration class."""
    rows = []
    for name, (one, about) in options_of(config).items():
        hosts = [HOSTS[host] for host in about.hosts]
        range_ = f" ({about.range})" if about.range else ""
        flag = f" (`{about.flag}`)" if about.flag else ""  # another name on the command line
        rows.append(
            (
                f"`{name}`{flag}",
                _default(one, about),
                ", ".join(hosts),
                about.help.replace("``", "`") + range_,
            )
        )
    return markdown(("option", "default", "where", "effect"), rows)


def _default(one: Field[Any], about: Option) -> str:
    """Return the default of an option as the table shows it."""
    default = default_of(one)
    if about.by_data:
        # the loop has a default of its own
        own = "" if "loop" not in about.hosts or default is None else f", `{default}` in Python"
        return f"[by data](#defaults-of-the-command-line){own}"
    if default is MISSING:
        return "needed"
    if default is None or default in ({}, ()):
        return "none"
    return f"`{about.shown or default}`"


def _features(specs: Sequence[AttackSpec], prefix: str) -> str:
    """Return the table of features beside those of other toolkits."""
    content = read_toml(ROOT / "docs" / "features.toml")
    toolkits = content["toolkits"]
    rows = [
        (one["title"], *(one[toolkit]["answer"] for toolkit in toolkits))
        for one in content["feature"]
    ]
    return markdown(("", *toolkits.values()), rows)


HOSTS = {"cli": "command", "toml": "file", "loop": "`train`", "art": "ART"}
TABLES: dict[str, Callable[[Sequence[AttackSpec], str], str]] = {
    "attacks": _attacks,
    "methods": _methods,
    "functions": _functions,
    "threat_models": _threat_models,
    "panels": _panels,
    "reasons": _reasons,
    "recipes": _recipes,
    "presets": _presets,
    "networks": _networks,
    "pages": _pages,
    "features": _features,
    "cost": _cost,
    "own_cost": _own_cost,
    "others": _others,
    "wilson": _wilson,
    "widths": _widths,
    "detectors": _detectors,
    "art": partial(_classes, art.HOST),
    "torchattacks": partial(_classes, torchattacks.HOST),
    "limits": partial(_options, LimitsConfig),
    "training": partial(_options, TrainingConfig),
    "evaluation": partial(_options, EvaluationConfig),
    "transfer": partial(_options, TransferConfig),
    "sweep": partial(_options, SweepConfig),
    "generator": partial(_options, GeneratorConfig),
    "generated": partial(_options, SampleConfig),
}
# tables of the methods that a page describes
OF_PAGE: dict[str, Callable[[str], str]] = {"threat_model": _threat_model, "detector": _of_detector}

if __name__ == "__main__":
    main()
