"""``art-ext attacks``: the attacks that an evaluation can run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import explained

if TYPE_CHECKING:
    from art_ext.core.attacks.registry import AttackSpec

COLUMNS = ("name", "access", "family", "norms", "targets", "origin", "summary")
ACCESS = "Only attacks that need labels, scores or gradients, or of unknown access."
CHECK = (
    "Check the contract of an attack on a toy problem instead: FILE.py:FUNCTION, or a name. Exit"
    " with 1 if a check fails."
)
FILES = "An attack of your own, FILE.py:FUNCTION, to list with the others. May be repeated."


def attacks(
    access: Annotated[str | None, typer.Option(help=ACCESS)] = None,
    norm: Annotated[
        str | None, typer.Option(help="Only attacks that support linf, l2 or l1.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Only fixed-radius or minimum-norm attacks.")
    ] = None,
    attack: Annotated[list[str] | None, typer.Option(help=FILES)] = None,
    check: Annotated[str | None, typer.Option(help=CHECK)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the parameters of each attack.")
    ] = False,
) -> None:
    """List the attacks: what they need of the model, and where they come from."""
    with explained():
        from art_ext.cli.listing import OWN, plugin_rows, show, show_checks
        from art_ext.core.attacks import registry
        from art_ext.evaluation.panel.user_attacks import load_attack

        if check is not None:
            from art_ext.testing.attacks import attack_checks

            show_checks(attack_checks(find_spec(check)))
            return
        origins = dict.fromkeys(registry.names(), OWN)
        origins |= {load_attack(source).name: source for source in attack or ()}
        declared = plugin_rows(registry.PLUGINS, lambda name: described(registry.load(name)))
        origins |= {row["name"]: row["origin"] for row in declared if "error" not in row}
        found = registry.specs(registry.names(access=access, norm=norm, family=family))
        rows = [{**described(spec), "origin": origins[spec.name]} for spec in found]
        show(COLUMNS, [*rows, *(row for row in declared if "error" in row)], as_json=as_json)


def find_spec(attack: str) -> AttackSpec:
    """Return the attack of a name or of ``FILE.py:FUNCTION``."""
    from art_ext.core.attacks import registry
    from art_ext.evaluation.panel.user_attacks import is_file, load_attack

    return load_attack(attack) if is_file(attack) else registry.get(attack)


def described(spec: AttackSpec) -> dict[str, Any]:
    """Return the facts of an attack for a listing, in the types of JSON."""
    return {
        "name": spec.name,
        "access": spec.access,
        "family": spec.family,
        "norms": list(spec.norms),
        "targets": not spec.no_targets,
        "hosts": {host: shell.name for host, shell in spec.hosts.items() if shell.name},
        "paper": spec.paper,
        "summary": spec.summary,
        "random": spec.random,
        "budget": spec.budget,
        "resources": list(spec.resources),
        "parameters": {
            name: None if default is inspect.Parameter.empty else default
            for name, default in spec.parameters.items()
        },
    }
