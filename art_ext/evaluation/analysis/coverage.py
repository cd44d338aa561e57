"""Gaps of a run, as far as its description and records tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from art_ext.core.wording import counted
from art_ext.evaluation.analysis.blocks import Blocks

FEW_QUERIES = 1000  # with a smaller budget, attacks on labels or scores have barely begun
# of attacks, by the answers of the model that they need
NEEDED = {"gradients": "gradients", "scores": "scores", "labels": "labels alone"}


def accesses(blocks: Blocks, run: Mapping[str, Any], model: str) -> dict[str, str]:
    """Return the answers of a model that each attack on it needs, by the attack's name.

    For external attacks of unknown access, the records decide whether they need gradients.
    """
    found = {}
    for name in blocks.attacks(model):
        attack = run["attacks"][name]
        access = attack.get("access", attack.get("asks", "unknown"))
        keys = blocks.keys(model, name)
        if access == "unknown" and any((blocks.column(key, "gradients") > 0).any() for key in keys):
            access = "gradients"
        found[name] = access
    return found


def kinds(blocks: Blocks, run: Mapping[str, Any], model: str) -> str:
    """Return the number and kinds of the attacks on a model in a few words."""
    found = accesses(blocks, run, model)
    counts = Counter(found.values())
    own = [f"{counts[access]} on {text}" for access, text in NEEDED.items() if counts[access]]
    own += [f"{counts['unknown']} of unknown access"] if counts["unknown"] else []
    return f"{counted(len(found), 'attack')}: {', '.join(own)}"


def not_covered(blocks: Blocks, run: Mapping[str, Any], model: str) -> list[str]:
    """Return the parts of a thorough evaluation that a run leaves out for a model.

    Args:
        blocks: the records.
        run: the content of ``run.json``.
        model: one of the models.
    """
    found = accesses(blocks, run, model)
    missing = [
        f"attacks on {text}" for access, text in NEEDED.items() if access not in found.values()
    ]
    if not any("autoattack" in name.lower() for name in found):
        missing.append("AutoAttack")
    if run["settings"]["targeted"] is not None:
        missing.append("classes that are no targets")
    whole = run["data"].get("first_of")
    if whole is not None:
        first = "" if "partial" in run else "the first "  # its chunks may lie anywhere
        samples = f"{run['data']['samples']:,} of {counted(whole, 'sample')}"
        missing.append(f"all but {first}{samples}")
    budget = _largest_budget(run, found)
    if budget is not None and budget < FEW_QUERIES:
        missing.append(f"budgets over {budget:,} queries")
    return missing


def _largest_budget(run: Mapping[str, Any], found: Mapping[str, str]) -> int | None:
    """Return the largest budget of our attacks on labels or scores, None without one."""
    default = run["settings"]["max_queries"]
    budgets = [
        int(run["attacks"][name]["arguments"].get("max_queries") or default)
        for name, access in found.items()
        if access in ("labels", "scores") and ":" not in name
    ]
    return max(budgets, default=None)
