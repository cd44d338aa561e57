"""Texts of a submission: the issue to open at RobustBench, in its form, and the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from art_ext.adapters.robustbench.evidence import Evidence
from art_ext.adapters.robustbench.info import format_eps, format_percent
from art_ext.core.metrics.intervals import wilson

WEIGHTS, IMAGES = ("model.safetensors", "model.pt"), "adversarial_images.pt"
ISSUES = "https://github.com/RobustBench/robustbench/issues/new/choose"


def issue_of(facts: Mapping[str, Any]) -> str:
    """Write the text of the issue from submission.json, with its title in the first line."""
    said = {key: one_line(value) for key, value in facts["metadata"].items()}
    form = _external_issue if facts["kind"] == "external" else _model_issue
    return form(facts, said)


def one_line(value: Any) -> str:
    """Text without line breaks, which would end an entry of the form."""
    return " ".join(str(value).split())


def robust_claim(facts: Mapping[str, Any]) -> str:
    """Write the robust accuracy in percent, and the number of images if not all were used."""
    part = (
        ""
        if facts["samples"] == facts["full"]
        else f" (first {facts['samples']} of {facts['full']} test images)"
    )
    return f"{format_percent(facts['robust_accuracy'])}%{part}"


def _method(facts: Mapping[str, Any], said: Mapping[str, str]) -> str:
    attacks = ", ".join(name for name in facts["accuracies"] if name != "clean")
    measured = (
        f"{attacks}; worst case over all, measured with art-ext {facts['version']}, log attached"
    )
    left_out = ", ".join(facts["details"].get("left_out", ()))
    if left_out:
        measured += (
            f"; attacks that the model declares against itself were left out ({left_out}): the"
            " robust accuracy may be too high"
        )
    return f"{said['method']} {measured}".strip()


def _model_issue(facts: Mapping[str, Any], said: Mapping[str, str]) -> str:
    def box(ticked: bool) -> str:
        return "[x]" if ticked else "[ ]"

    here = (
        "https://github.com/RobustBench/robustbench/tree/master/robustbench/model_zoo/architectures"
    )
    where = said["url"] or f"(insert the URL of {facts['model']['file']} and {WEIGHTS[1]})"
    own = said["license"] if said["license"] not in ("", "MIT") else ""
    mit = said["license"] == "MIT"
    return f"""[New Model] {said["name"]}

# Paper Information

- **Paper Title**: {said["paper_title"]}
- **Paper URL**: {said["paper_link"]}
- **Paper authors**: {said["authors"]}

# Leaderboard Claim(s)

## Model 1

- **Architecture**: {said["architecture"]}
- **Threat Model**: {facts["threat_model"]}
- **eps**: {format_eps(facts["eps"])}
- **Clean accuracy**: {format_percent(facts["clean_accuracy"])}%
- **Robust accuracy**: {robust_claim(facts)}
- **Additional data**: {"true" if facts["metadata"]["additional_data"] else "false"}
- **Evaluation method**: {_method(facts, said)}
- **Checkpoint and code**: {where}

# Model Zoo:

- {box(facts["metadata"]["model_zoo"])} I want to add my models to the Model Zoo (check if true)
- {box(facts["metadata"]["new_architecture"])} I use an architecture that is **not** included among
  those [here]({here}) (check if true).
- {box(mit)} I agree to release my model(s) under MIT license (check if true) **OR**
- {box(bool(own))} I want my models to be released under a custom license, located here:
  {own or "(custom license URL here)"}
"""


def _external_issue(facts: Mapping[str, Any], said: Mapping[str, str]) -> str:
    return f"""[New evaluation] {said["name"]}

## Target model
+ **Model identifier(s):** {said["name"]}
+ **Leaderboard(s):** {said["dataset"]}, {facts["threat_model"]}

## New evaluation
+ **Link to adversarial images:** {said["url"] or f"(insert the URL of {IMAGES})"}
+ **Robust accuracy:** {robust_claim(facts)}
+ **Author(s):** {said["authors"]}
+ **Description of the method used:** {_method(facts, said)}
"""


def log_of(facts: Mapping[str, Any], evidence: Evidence) -> str:
    """Write the text of the log: attacks, their settings, and the successes of each."""
    details = facts["details"]
    lines = [
        (
            f"{facts['metadata']['name']} on {facts['metadata']['dataset']},"
            f" {facts['threat_model']}, eps {format_eps(facts['eps'])}, {facts['samples']} of"
            f" {facts['full']} test images"
        ),
        "",
        f"{'attack':32} {'given':>7} {'broke':>7} {'accuracy after it and all before it':>37}",
        (
            f"{'(clean)':32} {facts['samples']:7d} {int(evidence.wrong.sum()):7d}"
            f" {facts['accuracies']['clean']:36.2%}"
        ),
    ]
    for name, broken in evidence.broken.items():
        new = int((broken & ~evidence.wrong).sum())
        lines.append(
            f"{name:32} {int(evidence.attacked[name].sum()):7d} {new:7d}"
            f" {facts['accuracies'][name]:36.2%}"
        )
    low, high = wilson(int((~evidence.fallen).sum()), facts["samples"])
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    lines += ["", f"Robust accuracy {facts['robust_accuracy']:.2%}, {interval}"]
    if facts["autoattack_accuracy"] is not None:
        lines += ["", f"AutoAttack (standard) alone: {facts['autoattack_accuracy']:.2%}"]
    for title, value in details.items():
        if value in ([], {}):
            continue
        if isinstance(value, list):
            said = (
                entry["message"] if isinstance(entry, Mapping) and "message" in entry else entry
                for entry in value
            )
            lines += ["", f"{title}:", *(f"  {one_line(entry)}" for entry in said)]
        elif isinstance(value, Mapping):
            entries = (
                f"  {key}: {json.dumps(entry, ensure_ascii=False)}" for key, entry in value.items()
            )
            lines += ["", f"{title}:", *entries]
        else:
            lines.append(f"{title}: {value}")
    return "\n".join(lines) + f"\n\nHand it in: {ISSUES}\n"
