"""Numbers of runs with a detector: robust accuracy with rejection, and how well scores separate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from art_ext.core.metrics.detection import PROTOCOLS, DetectionMetrics, Rate, detection_metrics
from art_ext.evaluation.analysis.blocks import Blocks, Key, new_success
from art_ext.evaluation.analysis.radii import clean_failure, failures, has_detector
from art_ext.storage.records import success_column

RATES = tuple(percent / 100 for percent in range(1, 21))  # of the curve against the FPR


def detector_of(blocks: Blocks, model: str) -> str:
    """Return the name of the detector of a model."""
    return str(blocks.column(blocks.keys(model)[0], "detector")[0])


def fpr_of(run: Mapping[str, Any], model: str) -> float:
    """Return the false-positive rate at which the threshold of a model's detector was set."""
    return float(facts_of(run, model)["fpr"])


def facts_of(run: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """Return what ``run.json`` tells of the fitted detector of a model."""
    found: Mapping[str, Any] = next(one for one in run["detectors"] if one["model"] == model)
    return found


def decisive_success(blocks: Blocks, key: Key) -> np.ndarray:
    """Return bool by row of a block: the successes that count, with a detector the accepted."""
    return blocks.column(key, success_column(blocks.names(key)))


@dataclass(frozen=True)
class CleanRates:
    """Rates of a detector on the clean samples of one model.

    Attributes:
        accepted: correct and accepted.
        rejected: rejected, of all samples.
        rejected_correct: rejected, of the correctly classified ones.
    """

    accepted: Rate
    rejected: Rate
    rejected_correct: Rate


def clean_rates(blocks: Blocks, model: str) -> CleanRates:
    """Count the clean samples of a model that its detector rejects, and those that it accepts."""
    samples = blocks.samples(model)
    correct = torch.from_numpy((~samples["already_adversarial"]).to_numpy(copy=True))
    accepted = torch.from_numpy(samples["clean_accepted"].to_numpy(copy=True))
    return CleanRates(Rate.of(correct & accepted), Rate.of(~accepted), Rate.of(~accepted[correct]))


def rejected_successes(blocks: Blocks, keys: Sequence[Key]) -> Rate:
    """Return the rate of rejections among successes on correctly classified samples.

    Args:
        blocks: the records.
        keys: blocks whose successes count.
    """
    rejected = [~blocks.column(key, "accepted")[new_success(blocks, key)] for key in keys]
    return Rate.of(torch.from_numpy(np.concatenate([np.zeros(0, dtype=bool), *rejected])))


def separation(blocks: Blocks, key: Key, protocol: str, fpr: float) -> DetectionMetrics | None:
    """Return how well the scores separate clean samples from what an attack returned.

    Args:
        blocks: the records.
        key: of the attack.
        protocol: ``"pairs"``: correctly classified samples with a success, against the returned
            rows. ``"all"``: all samples that the attack was given, against the returned rows.
        fpr: false-positive rate of the true-positive rate.

    Returns:
        None if there is no row of one of the two kinds.
    """
    clean, adversarial = scores_of(blocks, key, protocol)
    if not len(clean) or not len(adversarial):
        return None
    return detection_metrics(
        torch.from_numpy(clean), torch.from_numpy(adversarial), fpr, protocol=protocol
    )


def scores_of(blocks: Blocks, key: Key, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Return clean scores and scores of returned rows, as ``separation`` compares them."""
    clean = blocks.column(key, "clean_score").astype(float)
    score = blocks.column(key, "score").astype(float)
    chosen = ~np.isnan(score)  # the attack was given them
    if protocol == "pairs":
        chosen &= new_success(blocks, key)
    return clean[chosen], score[chosen]


def by_rate(blocks: Blocks, model: str, eps: float) -> list[tuple[float, float]]:
    """Return the robust accuracy with rejection at thresholds of other false-positive rates.

    The thresholds are quantiles of the clean scores of the run itself. The attacks aim at the
    threshold of the run, so that the values elsewhere are upper bounds.

    Args:
        blocks: the records.
        model: one of the models, with a detector.
        eps: radius.

    Returns:
        Rates of ``RATES`` with their robust accuracies.
    """
    samples = blocks.samples(model)
    positions = samples.index.to_numpy()
    clean = samples["clean_score"].to_numpy(dtype=float)
    correct = (~samples["already_adversarial"]).to_numpy()
    lowest = np.full(len(blocks.nothing(model)), np.inf)
    for key in blocks.keys(model, eps=eps):
        score = np.where(blocks.column(key, "success"), blocks.column(key, "score"), np.inf)
        index = blocks.column(key, "index")
        lowest[index] = np.fmin(lowest[index], score)
    found = []
    for rate in RATES:
        threshold = np.sort(clean)[len(clean) - math.floor(len(clean) * rate + 1e-9) - 1]
        robust = correct & (clean <= threshold) & (lowest[positions] > threshold)
        found.append((rate, float(robust.mean())))
    return found


def weaker_aware(
    blocks: Blocks, model: str, run: Mapping[str, Any]
) -> list[tuple[str, str, float, int, int, int]]:
    """Return the attacks whose aware form has fewer accepted successes than the oblivious one.

    They are compared where both were given all samples.

    Returns:
        For each its name, that of the aware form, eps, the numbers of accepted successes of the
        oblivious and the aware form, and the number of samples.
    """
    found = []
    for key in blocks.keys(model):
        base = run["attacks"][key[1]].get("aware_of")
        plain = (model, base, key[2])
        if not base or plain not in blocks:
            continue
        if not (blocks.column(plain, "attacked") & blocks.column(key, "attacked")).all():
            continue
        counted = ~clean_failure(blocks, key)
        counts = [
            int((blocks.column(one, "success_accepted") & counted).sum()) for one in (plain, key)
        ]
        if counts[1] < counts[0]:
            found.append((base, key[1], key[2], *counts, int(counted.sum())))
    return found


def row_fields(
    blocks: Blocks, key: Key, among: Sequence[str], run: Mapping[str, Any], rates: CleanRates
) -> dict[str, Any]:
    """Return the fields of ``Row`` on the detector.

    Args:
        blocks: the records.
        key: of the row.
        among: names of the attacks that count for the rejection accuracy.
        run: the content of ``run.json``.
        rates: of the model, on its clean samples.
    """
    model, _, eps = key
    failed = failures(blocks, model, eps, among)[blocks.column(key, "index")]
    found: dict[str, Any] = {
        "detector": detector_of(blocks, model),
        "clean_accepted": rates.accepted.share,
        **_rejection(failed),
        "rejected_successes": rejected_successes(blocks, [key]).share,
    }
    for protocol in PROTOCOLS:
        one = separation(blocks, key, protocol, fpr_of(run, model))
        for name in ("auroc", "auroc_low", "auroc_high", "tpr"):
            first, _, end = name.partition("_")
            own = "_".join(filter(None, (first, protocol, end)))
            found[own] = math.nan if one is None else getattr(one, name)
    return found


def worst_fields(
    blocks: Blocks, model: str, eps: float, run: Mapping[str, Any]
) -> dict[str, float]:
    """Return the fields of ``Worst`` on the detector. Empty without one."""
    if not has_detector(blocks, model):
        return {}
    positions = blocks.samples(model).index.to_numpy()
    oblivious = [
        key
        for key in blocks.keys(model)
        if key[2] == eps and not run["attacks"][key[1]].get("aware_of")
    ]
    return {
        **_rejection(failures(blocks, model, eps)[positions]),
        "rejected_successes": rejected_successes(blocks, oblivious).share,
    }


def _rejection(failed: np.ndarray) -> dict[str, float]:
    """Return robust accuracy with rejection and its interval, by the fields of both classes."""
    robust = Rate.of(torch.from_numpy(~failed))
    return {
        "rejection_accuracy": robust.share,
        "rejection_low": robust.low,
        "rejection_high": robust.high,
    }


def verdict_fields(blocks: Blocks, model: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Verdict`` on the detector. Empty without one."""
    if not has_detector(blocks, model):
        return {}
    rates = clean_rates(blocks, model)
    return {
        "detector": detector_of(blocks, model),
        "fpr": fpr_of(run, model),
        "clean_accepted": rates.accepted.share,
        "clean_rejected": rates.rejected.share,
        "clean_rejected_low": rates.rejected.low,
        "clean_rejected_high": rates.rejected.high,
        "correct_rejected": rates.rejected_correct.share,
        "correct_rejected_low": rates.rejected_correct.low,
        "correct_rejected_high": rates.rejected_correct.high,
    }
