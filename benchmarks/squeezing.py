"""Tables 11 and 12 of the EAD thesis: attacks against joint feature squeezing, and aware of it.

Run with ``python -m art_ext.benchmarks.squeezing mnist`` (Table 11) or ``cifar10`` (Table 12).
Needs ART_EXT_DATA with the checkpoints, and OpenCV for CIFAR-10. The success of a row of the table
is the share of images whose example is misclassified and accepted by the detector (untargeted),
with the mean distortions of these. Oblivious attacks do not know the detector: C&W and EAD by
confidence, and PGD or I-FGM. Aware attacks get the detector: an example counts if that very row is
accepted.

The threshold is that of the authors for MNIST, .0029. Their value for CIFAR-10 is not in their
program, and the threshold there is chosen on clean test images that are not attacked.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from art_ext.benchmarks.common import network, print_versions, right
from art_ext.core.attacks import cw, ead, i_fgm, pgd
from art_ext.core.detection import Detector, FeatureSqueezing
from art_ext.core.geometry import distortions
from art_ext.core.result import AttackResult
from art_ext.data import load_data

# checkpoint, threshold, confidences, the attack without a confidence
SETTINGS: dict[str, tuple[str, float | None, tuple[int, ...], Callable[..., AttackResult]]] = {
    "mnist": ("mnist_carlini_cnn_fw", 0.0029, (0, 10, 20, 30, 40), partial(pgd, eps=0.9)),
    "cifar10": ("cifar_resnet20_nat", None, (0, 10, 30, 50, 70), i_fgm),
}
CALIBRATED = 500  # clean images that choose a threshold, drawn from behind those attacked
BETA = 0.01


def fitted(data: str, model: nn.Module, clean: Tensor) -> Detector:
    """Return the detector of a data set with its threshold."""
    detector = FeatureSqueezing(data).fit(model)
    threshold = SETTINGS[data][1]
    detector.calibrate(clean, fpr=0.05)
    if threshold is not None:
        detector.threshold = threshold
    return detector


def attacks(
    data: str, detector: Detector, schedule: dict[str, Any]
) -> Iterator[tuple[str, str, Callable[..., AttackResult]]]:
    """Yield attack, confidence and function of each row."""
    _, _, confidences, plain = SETTINGS[data]
    yield ("PGD" if data == "mnist" else "I-FGM"), "-", plain
    for name, attack in (("C&W", cw), ("EAD", partial(ead, beta=BETA, decision_rule="L1"))):
        for kappa in confidences:
            yield name, str(kappa), partial(attack, confidence=float(kappa), **schedule)
    aware = partial(ead, beta=BETA, decision_rule="L1", detector=detector, **schedule)
    for loss in ("penalty", "hinges"):
        yield f"EAD, aware, {loss}", "0", partial(aware, detector_loss=loss)


def main(given: Sequence[str]) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("--n", type=int, default=40, help="images to attack")
    parser.add_argument("--only", default="", help="rows whose attack has this text in its name")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--search-steps", type=int, default=4)
    parser.add_argument("--initial-const", type=float, default=1.0)
    options = parser.parse_args(given)
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("ART_EXT_DATA must name the folder of the checkpoints")
    print_versions()
    model, _ = network(SETTINGS[options.data][0])
    test = load_data(options.data).first(2 * options.n + CALIBRATED).in_memory()
    kept = right(test.x, test.y, model).nonzero().squeeze(1)[: options.n]
    x, y = test.x[kept], test.y[kept]
    detector = fitted(options.data, model, test.x[int(kept[-1]) + 1 :])
    accepted = ~detector.detect(x)
    print(
        f"Joint squeezing on {options.data}, threshold {detector.threshold:.4g}, {len(x)} images,"
        f" {int(accepted.sum())} accepted clean; {options.search_steps} x {options.steps} steps,"
        f" beta {BETA}, untargeted.\n"
    )
    print("| attack | kappa | misclassified % | and accepted % | L1 | L2 | Linf |")
    print("|---|---|---|---|---|---|---|")
    schedule = {
        "num_steps": options.steps,
        "search_steps": options.search_steps,
        "initial_const": options.initial_const,
        "abort_early": False,
        "step_size": 0.05,
    }
    for name, kappa, attack in attacks(options.data, detector, schedule):
        if options.only not in name:
            continue
        found = attack(model, x, y, seed=0)
        passed = found.success & ~detector.detect(found.x_adv)
        lengths = distortions(found.x_adv[passed], x[passed]).mean(0).tolist()[1:]
        cells = [f"{100 * float(one.float().mean()):.0f}" for one in (found.success, passed)]
        cells += [f"{one:.3g}" for one in lengths]
        print(f"| {name} | {kappa} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
