"""Findings of runs with a detector, or with a model whose head declares attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from art_ext.core.detection.calibration import ENOUGH, held_out_rate
from art_ext.core.metrics import wilson
from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import Blocks
from art_ext.evaluation.analysis.finding import Finding
from art_ext.evaluation.analysis.radii import has_detector
from art_ext.evaluation.analysis.rejection import facts_of, weaker_aware

FEW_RIGHT = 20  # images that all members classify right: with fewer, the intervals say nothing


def of_defences(blocks: Blocks, run: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the findings on detectors, heads and members of ensembles.

    Args:
        blocks: records of the run, finished or not.
        run: its ``run.json``.
    """
    for model, attacks in run.get("left_out", {}).items():
        yield Finding(
            "no-adaptive-attack",
            model,
            None,
            None,
            "attacks that the head of the model declares against itself were left out"
            f" ({', '.join(attacks)}): the robust accuracy may be too high",
        )
    yield from _of_transfer(run)
    for model in blocks.models:
        if has_detector(blocks, model):
            yield from _of_detector(blocks, run, model)


def _of_transfer(run: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding for each matrix of transfer that few samples decide."""
    told = run.get("transfer", {"models": {}})
    for model, matrix in told["models"].items():
        count, samples = matrix["count"], told["samples"]
        if count >= FEW_RIGHT:
            continue
        verb = "is" if count == 1 else "are"
        result = f"rests on fewer than {FEW_RIGHT}" if count else "is empty"
        yield Finding(
            "few-transfer-images",
            model,
            None,
            None,
            f"{count} of {counted(samples, 'image')} {verb} right for all members: the transfer"
            f" matrix {result}. Take more images, or members that are trained longer",
            count=count,
            samples=samples,
            interval=wilson(count, samples),
        )


def _of_detector(blocks: Blocks, run: Mapping[str, Any], model: str) -> Iterator[Finding]:
    facts = facts_of(run, model)
    name = facts["detector"]
    if not any(run["attacks"][attack].get("aware_of") for attack in blocks.attacks(model)):
        yield Finding(
            "no-adaptive-attack",
            model,
            None,
            None,
            f"no attack of the panel knows the detector {name}: the robust accuracy with rejection"
            " says little. Run attacks of art-ext, and leave out --no-adaptive",
        )
    if facts["calibration"] < ENOUGH:
        yield Finding(
            "few-calibration-images",
            model,
            None,
            None,
            f"the threshold of {name} was set on {counted(facts['calibration'], 'clean image')},"
            f" fewer than {ENOUGH:,}: another draw may give another one",
        )
    if attacked := facts.get("attacked", 0):  # earlier versions count none
        samples = len(blocks.samples(model))
        yield Finding(
            "calibrated-on-attacked",
            model,
            None,
            None,
            f"{attacked} of {counted(samples, 'attacked image')} also set the threshold of {name}:"
            " its rates are not those of unseen images. Calibrate it on images that are not"
            " attacked",
            count=attacked,
            samples=samples,
            interval=wilson(attacked, samples),
        )
    yield from _false_positives(blocks, model, facts)
    for base, aware, eps, *numbers in weaker_aware(blocks, model, run):
        oblivious, knowing, samples = numbers
        yield Finding(
            "aware-weaker",
            model,
            aware,
            float(eps),
            f"at eps {radius(eps)} {aware} has {knowing} accepted successes, and {base}, which does"
            f" not know the detector, {oblivious}: the attack is not tuned. Give it more steps or"
            " restarts, or another detector_weight or detector_loss",
            count=knowing,
            samples=samples,
            interval=wilson(knowing, samples),
        )


def _false_positives(blocks: Blocks, model: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    samples = blocks.samples(model)
    rejected = torch.from_numpy((~samples["clean_accepted"]).to_numpy(copy=True))
    rate = held_out_rate(rejected, facts["fpr"])
    if rate.excludes:
        yield Finding(
            "false-positive-rate",
            model,
            None,
            None,
            f"{facts['detector']} rejects {100 * rate.every.share:.1f} % of the clean samples, and"
            f" its threshold was set at {100 * facts['fpr']:g} %: calibrate it on more images of"
            " the same kind",
            count=rate.every.count,
            samples=rate.every.total,
            interval=(rate.every.low, rate.every.high),
        )
