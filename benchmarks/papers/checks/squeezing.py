"""Tables 11 and 12 of the EAD thesis: attacks against joint feature squeezing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from art_ext.benchmarks.common import network, right
from art_ext.benchmarks.papers.checks.common import Cells, attacked, cells_of
from art_ext.core.detection import FeatureSqueezing
from art_ext.data import load_data


def joint(
    data: str,
    name: str,
    n: int,
    calibrated: int,
    threshold: float,
    common: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Any],
) -> Cells:
    """Count the examples that are misclassified and accepted by the detector of a data set.

    Args:
        data: ``"mnist"`` or ``"cifar10"``.
        name: of the network.
        n: images to attack, the first that it classifies right.
        calibrated: clean images behind them that choose the threshold at 5 %.
        threshold: of the detector. 0 takes the one that they choose.
        common: arguments by the name of the attack.
        rows: for each row ``attack`` and its arguments, and ``aware``, True for an attack that
            knows the detector.
    """
    model, _ = network(name)
    test = load_data(data).first(2 * n + calibrated).in_memory()
    kept = right(test.x, test.y, model).nonzero().squeeze(1)[:n]
    x, y = test.x[kept], test.y[kept]
    detector = FeatureSqueezing(data).fit(model)
    detector.calibrate(test.x[int(kept[-1]) + 1 :], fpr=0.05)
    if threshold:
        detector.threshold = threshold
    found: Cells = {"clean": {"accepted": 100 * float((~detector.detect(x)).double().mean())}}
    for row, setting in rows.items():
        given = {key: value for key, value in setting.items() if key != "aware"}
        known = {"detector": detector} if setting.get("aware") else {}
        result = attacked(model, x, y, given, common, **known)
        passed = result.success & ~detector.detect(result.x_adv)
        found[row] = cells_of(passed, result.distortions())
        found[row]["misclassified"] = 100 * float(result.success.double().mean())
    return found
