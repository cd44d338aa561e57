"""Reverse cross-entropy and Max-Mahalanobis training beside the attacks that know them.

``python -m art_ext.benchmarks.heads mmc`` prints the rows of the slides: clean accuracy, then
robust accuracy under PGD with 10 and 50 steps, targeted at a random class and untargeted. Beside
them are PGD-50 on the margin, descent of the distance to the 3 nearest wrong centres, and RayS.
``--craft pgd`` adds trainings on PGD examples of cross-entropy, untargeted and targeted, and
``--autoattack 100`` the standard version of AutoAttack on the first 100 images.

``python -m art_ext.benchmarks.heads rce`` prints the AUC table of the slides, without JSMA, for
networks trained by cross-entropy and by reverse cross-entropy. The pairs are correctly classified
clean images and the misclassified ones made from them, whatever class a targeted attack wanted.
FGSM, BIM and ILCM (BIM towards the least likely class) have eps .16, BIM and ILCM 10 steps of
eps / 10. C&W and EAD have 4 searches of 60 iterations. C&W-hc needs each of ``--kappas``, with 4
searches of 400. The densities have the authors' bandwidths.

``--aware`` prints in their place robust accuracy with rejection, inside the radius of the data:
PGD-50 on the margin that does not know the detector, and beside it the same with the detector's
penalty. The threshold rejects 5 % of 300 test images, and the next 200 are attacked.

With ``ART_EXT_DATA`` for ``--data mnist``. Networks are trained by Adam at a constant rate.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network, under_autoattack
from art_ext.core.attacks import auto_pgd, cw, ead, fgsm, i_fgsm, pgd, rays
from art_ext.core.detection import Detector, KernelDensity, make_detector
from art_ext.core.metrics import detection_metrics, robust_accuracy
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import Mmc, Mmlda, Natural, Pgd, Rce, Recipe

# by data set: network, training images, radius, epochs
SETTINGS: dict[str, tuple[Callable[[], nn.Module], int | None, float, int]] = {
    "digits": (digits_cnn, None, 0.15, 20),
    "mnist": (mnist_two_conv, 12_000, 0.1, 8),
}
SEED = 0  # of the attacks
DETECTORS = ("confidence", "non_me")
BANDWIDTHS = {"CE": 1 / 0.26, "RCE": 0.1 / 0.26}  # the authors' sigma2
SLIDES_EPS = 0.16  # of the slides' table, in a box of width 1


def main() -> None:
    """Print the table of a defence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defence", choices=("mmc", "rce"))
    parser.add_argument("--data", default="digits", choices=tuple(SETTINGS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--dim", type=int, default=16, help="of the features, for mmc")
    parser.add_argument("--craft", choices=("pgd",), help="train on its examples too, for mmc")
    parser.add_argument("--queries", type=int, default=300, help="of RayS, 0: none, for mmc")
    parser.add_argument("--autoattack", type=int, default=0, help="images of it, for mmc")
    parser.add_argument("--pairs", type=int, default=320, help="images to attack, for rce")
    parser.add_argument("--kappas", default="5,10", help="of C&W-hc, for rce")
    parser.add_argument("--aware", action="store_true", help="attack the detectors, for rce")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print_versions()
    kinds = {"mmc": max_mahalanobis_rows, "rce": aware_rows if options.aware else reverse_rows}
    rows = kinds[options.defence](options)
    for place, row in enumerate(rows):
        if not place:
            print(f"| {' | '.join(row)} |\n{'|---' * len(row)}|")
        print(f"| {' | '.join(row.values())} |", flush=True)


def trained(data: str, recipe: Recipe, seed: int) -> nn.Module:
    """Return a trained network with its head."""
    network, count, _, epochs = SETTINGS[data]
    samples = load_data(data, split="train").first(count)
    model = seeded(network, seed)
    return train_network(model, samples, recipe, epochs=epochs, seed=seed, batch_size=64)


# --- Max-Mahalanobis training ---


def max_mahalanobis_rows(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield a row for each seed and training."""
    test = load_data(options.data).first(options.test)
    eps = SETTINGS[options.data][2]
    for seed in map(int, options.seeds.split(",")):
        for name, recipe in recipes(options, eps).items():
            model = trained(options.data, recipe, seed)
            yield {
                "seed": str(seed),
                "training": name,
                **robustness(model, test.x, test.y, eps, options),
            }


def recipes(options: argparse.Namespace, eps: float) -> dict[str, Recipe]:
    """Return the recipes by the names of their rows."""
    dim = options.dim
    found: dict[str, Recipe] = {
        "cross-entropy": Natural(),
        "mmlda": Mmlda(dim=dim),
        "mmc": Mmc(dim=dim),
        "mmc, random centres": Mmc(dim=dim, centres="random"),
    }
    if options.craft:
        crafted: dict[str, Any] = {"dim": dim, "craft": options.craft, "eps": eps}
        found |= {
            "AT cross-entropy": Pgd(eps=eps),
            "AT_un mmc": Mmc(**crafted),
            "AT_tar mmc": Mmc(**crafted, target="random"),
            "AT_un mmc on the margin": Mmc(**crafted, gain="margin"),
        }
    return found


def robustness(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, options: argparse.Namespace
) -> dict[str, str]:
    """Return clean and robust accuracy by attack, in %."""
    shared: dict[str, Any] = {"eps": eps, "seed": SEED}
    generator = torch.Generator().manual_seed(SEED)
    targets = (y + torch.randint(1, 10, y.shape, generator=generator)) % 10
    found = {"clean": float(right(x, y, model).double().mean())}
    for steps in (10, 50):
        towards = pgd(model, x, targets, targeted=True, num_steps=steps, **shared)
        # whatever class is reached, as the authors count
        found[f"tar{steps}"] = float(right(towards.x_adv, y, model).double().mean())
        found[f"un{steps}"] = robust_accuracy(
            pgd(model, x, y, num_steps=steps, stop_on_success=True, **shared)
        )
    found["margin-50"] = robust_accuracy(
        pgd(model, x, y, num_steps=50, loss="margin", stop_on_success=True, **shared)
    )
    found["3 nearest"] = robust_accuracy(
        auto_pgd(model, x, y, num_steps=50, num_targets=3, loss="score", **shared)
    )
    if options.queries:
        found[f"RayS-{options.queries}"] = robust_accuracy(
            rays(model, x, y, max_queries=options.queries, **shared)
        )
    if options.autoattack:
        few = slice(options.autoattack)
        found["AutoAttack"] = under_autoattack(model, x[few], y[few], eps)
    return {name: f"{100 * value:.1f}" for name, value in found.items()}


# --- reverse cross-entropy ---


def reverse_rows(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield a row for each seed, training and attack."""
    data = load_data(options.data)
    learned = load_data(options.data, split="train").first(SETTINGS[options.data][1])
    kappas = [float(kappa) for kappa in options.kappas.split(",")]
    for seed in map(int, options.seeds.split(",")):
        for name, recipe in (("CE", Natural()), ("RCE", Rce())):
            model = trained(options.data, recipe, seed)
            detectors = slide_detectors(model, learned.x, learned.y, BANDWIDTHS[name])
            fine = right(data.x, data.y, model)
            x, y = data.x[fine][: options.pairs], data.y[fine][: options.pairs]
            for attack, result in slide_attacks(model, x, y, kappas):
                yield {
                    "seed": str(seed),
                    "training": name,
                    "clean": percent(fine),
                    "attack": attack,
                    **separation(model, x, y, result, detectors),
                }


def slide_detectors(model: nn.Module, x: Tensor, y: Tensor, sigma2: float) -> list[Detector]:
    """Return the detectors of the slides' table, fitted to training images x (N, *S)."""
    detectors = [*map(make_detector, DETECTORS), KernelDensity(sigma2=sigma2)]
    for detector in detectors:
        detector.fit(model, x, y)
    return detectors


def slide_attacks(
    model: nn.Module, x: Tensor, y: Tensor, kappas: list[float]
) -> Iterator[tuple[str, AttackResult]]:
    """Yield name and result of each attack of the slides' table, and of EAD."""
    bim: dict[str, Any] = {"eps": SLIDES_EPS, "num_steps": 10, "step_size": SLIDES_EPS / 10}
    search: dict[str, Any] = {"step_size": 0.05, "search_steps": 4, "initial_const": 1.0}
    short = search | {"num_steps": 60}
    with torch.no_grad():
        least = model(x).argmin(dim=1)
    yield "FGSM", fgsm(model, x, y, eps=SLIDES_EPS)
    yield "BIM", i_fgsm(model, x, y, **bim)
    yield "ILCM", i_fgsm(model, x, least, targeted=True, **bim)
    yield "C&W", cw(model, x, y, **short)
    for kappa in kappas:
        result = cw(model, x, y, confidence=kappa, num_steps=400, **search)
        yield f"C&W-hc, kappa {kappa:g}", result
    yield "EAD, beta .001", ead(model, x, y, beta=1e-3, **short)
    yield "EAD, beta 0", ead(model, x, y, beta=0.0, **short)


def separation(
    model: nn.Module, x: Tensor, y: Tensor, result: AttackResult, detectors: list[Detector]
) -> dict[str, str]:
    """Return the number of pairs, and the AUROC of each detector with its interval or the reason
    why there is none.
    """
    wrong = ~right(result.x_adv, y, model)
    found = {"pairs": f"{int(wrong.sum())} of {len(x)}"}
    if not bool(wrong.any()):
        reason = "no success" if len(x) else "no correctly classified image"
        return found | {detector.name: reason for detector in detectors}
    for detector in detectors:
        clean, adversarial = (detector.score(rows[wrong]) for rows in (x, result.x_adv))
        metrics = detection_metrics(clean, adversarial)
        low, high = metrics.auroc_low, metrics.auroc_high
        found[detector.name] = f"{metrics.auroc:.3f} [{low:.3f}, {high:.3f}]"
    return found


def aware_rows(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield a row for each seed, training and detector."""
    data = load_data(options.data)
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    held, attacked = drawn[:300], drawn[300:500]
    x, y = data.x[attacked], data.y[attacked]
    shared: dict[str, Any] = {"eps": SETTINGS[options.data][2], "num_steps": 50, "seed": SEED}
    shared |= {"loss": "margin", "num_restarts": 2}
    for seed in map(int, options.seeds.split(",")):
        for name, recipe in (("CE", Natural()), ("RCE", Rce())):
            model = trained(options.data, recipe, seed)
            plain = pgd(model, x, y, stop_on_success=True, **shared)
            for kind in DETECTORS:
                detector = make_detector(kind)
                detector.fit(model, data.x[held], None)
                detector.calibrate(data.x[held], 0.05)
                fine = right(x, y, model) & ~detector.detect(x)
                passed = plain.success & ~detector.detect(plain.x_adv)
                aware = pgd(model, x, y, detector=detector, detector_weight=5.0, **shared).success
                yield {
                    "seed": str(seed),
                    "training": name,
                    "detector": kind,
                    "clean and accepted": percent(fine),
                    "without detector": f"{100 * robust_accuracy(plain):.1f}",
                    "oblivious": percent(fine & ~passed),
                    "aware": percent(fine & ~passed & ~aware),
                    "aware alone": percent(fine & ~aware),
                }


def percent(marked: Tensor) -> str:
    """Return the share of True in %."""
    return f"{100 * float(marked.double().mean()):.1f}"


if __name__ == "__main__":
    main()
