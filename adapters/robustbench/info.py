"""RobustBench's model_info files: what they must say, and writing one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.storage.ownership import write_json
from art_ext.storage.store import Place, store_of

# images in each leaderboard's test set
FULL = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}
# the leaderboards that attacks are measured on, and our names of their norms
NORMS = {"Linf": "linf", "L2": "l2"}
IDENTIFIER = re.compile(r"[A-Z][A-Za-z-]*(19|20)\d\d[A-Z][A-Za-z0-9-]*(_[\w.-]+)?")
# what a file of these leaderboards holds: always, and where there is something to say
ALWAYS: dict[str, type] = {
    "link": str,
    "name": str,
    "authors": str,
    "additional_data": bool,
    "number_forward_passes": int,
    "dataset": str,
    "venue": str,
    "architecture": str,
    "eps": str,
    "clean_acc": str,
    "reported": str,
}
SOMETIMES: dict[str, type] = {
    "autoattack_acc": str,
    "external": str,
    "footnote": str,
    "unreliable": bool,
}
PERCENTAGES = ("clean_acc", "reported", "autoattack_acc", "external")


def format_percent(share: float) -> str:
    """Format a share as RobustBench does: in percent, with two decimals, as text."""
    if not (isinstance(share, (int, float)) and 0 <= share <= 1):
        raise ValueError(f"an accuracy must be a share in [0, 1], got {share!r}")
    return f"{100 * share:.2f}"


def format_eps(eps: float) -> str:
    """Format a radius as RobustBench does: ``"8/255"``, or a short decimal such as ``"0.5"``."""
    check_positive("eps", eps)
    short = f"{eps:.4g}"
    if float(short) == eps:
        return short
    steps = round(eps * 255)
    return (
        f"{steps}/255"
        if steps and math.isclose(eps, steps / 255, rel_tol=1e-6)
        else repr(float(eps))
    )


def check_identifier(name: str) -> None:
    """Raise ValueError unless the name is a model id in RobustBench's form.

    Raises:
        ValueError: naming the form.
    """
    if not isinstance(name, str) or IDENTIFIER.fullmatch(name) is None:
        raise ValueError(
            "a model id must be <Name><Year><FirstWordOfTitle>, such as Wong2020Fast or"
            f" Wang2023Better_WRN-28-10, got {name!r}"
        )


def problems_of(info: Mapping[str, Any]) -> list[str]:
    """Return the violations of RobustBench's schema in a model_info file, as sentences."""
    found = [f"{name} is missing" for name in ALWAYS if name not in info]
    for name, value in info.items():
        wanted = ALWAYS.get(name) or SOMETIMES.get(name)
        if wanted is None:
            found.append(f"{name} is unknown")
        elif not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            found.append(f"{name} must be {wanted.__name__}, got {value!r}")
        elif name in PERCENTAGES and not _is_percentage(value):
            found.append(
                f"{name} must be a percentage with two decimals such as '53.42', got {value!r}"
            )
    if info.get("dataset") not in FULL:
        found.append(f"dataset must be one of {', '.join(FULL)}, got {info.get('dataset')!r}")
    return found


def _is_percentage(value: object) -> bool:
    return re.fullmatch(r"\d{1,3}\.\d\d", str(value)) is not None and float(str(value)) <= 100


def write_model_info(
    folder: Place,
    identifier: str,
    *,
    title: str,
    link: str,
    authors: str,
    architecture: str,
    additional_data: bool,
    eps: float,
    clean_accuracy: float,
    reported: float,
    autoattack_accuracy: float | None = None,
    external: float | None = None,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    venue: str = "",
    number_forward_passes: int = 1,
    footnote: str = "",
    unreliable: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write ``model_info/<dataset>/<threat_model>/<identifier>.json`` below a folder, in
    RobustBench's schema.

    Accuracies go in as shares and come out as text in percent ("53.42"), the radius as "8/255".
    What was not measured is left out: RobustBench's table takes the key itself for a number.

    Args:
        folder: in which ``model_info`` lies or is made.
        identifier: of the model, ``<Name><Year><FirstWordOfTitle>``.
        title: of the paper.
        link: URL of the paper.
        authors: of the paper.
        venue: of the paper. An empty one is "Unpublished" in the table.
        architecture: such as ``"WideResNet-28-10"``.
        additional_data: whether training used more than the data set.
        eps: radius in the units of x.
        clean_accuracy: share of the test set.
        reported: robust accuracy that the authors claim, a share.
        autoattack_accuracy: of AutoAttack's standard version, where it was run.
        external: of the best attack known, where that is better than AutoAttack.
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"imagenet"``.
        threat_model: ``"Linf"`` or ``"L2"``.
        number_forward_passes: of one prediction.
        footnote: shown below the table.
        unreliable: whether AutoAttack's number is known to be too high.
        overwrite: replace a file of that name.

    Returns:
        The path of the file, which is whole at any moment.

    Raises:
        ValueError: for values that make no sense, or a file of that name.
    """
    check_identifier(identifier)
    check_choice("dataset", dataset, tuple(FULL))
    check_choice("threat_model", threat_model, tuple(NORMS))
    check_count("number_forward_passes", number_forward_passes)
    accuracies = {"autoattack_acc": autoattack_accuracy, "external": external}
    info = {
        "link": link,
        "name": title,
        "authors": authors,
        "additional_data": additional_data,
        "number_forward_passes": number_forward_passes,
        "dataset": dataset,
        "venue": venue,
        "architecture": architecture,
        "eps": format_eps(eps),
        "clean_acc": format_percent(clean_accuracy),
        "reported": format_percent(reported),
        **{name: format_percent(share) for name, share in accuracies.items() if share is not None},
        "footnote": footnote,
        "unreliable": unreliable,
    }
    wrong = problems_of(info)
    if wrong:
        raise ValueError(f"model_info of {identifier}: {'; '.join(wrong)}")
    store = store_of(folder)
    name = f"model_info/{dataset}/{threat_model}/{identifier}.json"
    file = store.path / name
    if store.exists(name) and not overwrite:
        raise ValueError(f"{file} exists: choose another folder, or replace it with overwrite=True")
    write_json(store, name, info)
    return file
