"""Cost of every attack and panel at its defaults, and the robust accuracy that it leaves.

Run with ``python -m art_ext.benchmarks.cost``. The results go to ``benchmarks/cost.json``, from
which ``make tables`` writes the table of the documentation. Networks and images come from the
folder that ART_EXT_DATA names, and from scikit-learn and pyautoattack.

The number of samples is the largest, up to ``--n``, for which the planned rows take ``--seconds``
of processor time at most. Each attack runs alone on one thread. Times are processor times, which
other processes change little. What the file holds already, for as many samples, is not run again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import processor, stored_network
from art_ext.core.attacks import registry
from art_ext.core.attacks.engine.planning import PlannedRows, planning
from art_ext.core.wording import duration
from art_ext.data import load_data
from art_ext.evaluation import AttackRequest, Settings
from art_ext.evaluation.execution import timing
from art_ext.evaluation.execution.timing import RowTime, time_rows
from art_ext.evaluation.panel.attack import Attack
from art_ext.evaluation.panel.members import find_attack
from art_ext.evaluation.panel.panels import PANELS
from art_ext.examples import digits

FILE = Path(__file__).with_name("cost.json")
LEAST = 4  # samples


@dataclass(frozen=True)
class Case:
    """A network, its samples and eps.

    Attributes:
        load: function of the number of samples that returns network, samples and labels.
        eps: radius in L-infinity.
        robust: True if it was trained to be robust.
    """

    load: Callable[[int], tuple[nn.Module, Tensor, Tensor]]
    eps: float
    robust: bool


def _loaded(name: str, data: str) -> Callable[[int], tuple[nn.Module, Tensor, Tensor]]:
    def load(count: int) -> tuple[nn.Module, Tensor, Tensor]:
        return (stored_network(name), *load_data(data).first(count).rows(0, count))

    return load


def _resnet18(count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the naturally trained ResNet-18 of pyautoattack, with test images of CIFAR-10."""
    package = importlib.util.find_spec("pyautoattack")
    if package is None or package.origin is None:
        raise ImportError("the ResNet-18 needs pyautoattack: pip install 'art-ext[robustbench]'")
    folder = Path(package.origin).parent / "examples"
    spec = importlib.util.spec_from_file_location("pyautoattack_resnet", folder / "resnet.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {folder / 'resnet.py'}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.ResNet18()
    weights = torch.load(folder / "model_test.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    images = load_data("cifar10").first(count).rows(0, count)
    return (model.eval().requires_grad_(False), *images)


CASES = {
    "digits_cnn": Case(digits, 0.1, False),
    "mnist_smallcnn_trades": Case(_loaded("mnist_smallcnn_trades", "mnist"), 0.3, True),
    "cifar_resnet4b_abcrown": Case(_loaded("cifar_resnet4b_abcrown", "cifar10"), 2 / 255, True),
    "resnet18_natural": Case(_resnet18, 8 / 255, False),
}


@dataclass
class Sums:
    """Rows, processor seconds and successes of the attacks of a panel on N samples."""

    success: Tensor
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


def run(
    attacks: list[Attack], cascade: bool, model: nn.Module, x: Tensor, y: Tensor, eps: float
) -> Sums:
    """Run attacks on samples: in a cascade each is given those without a success."""
    found = Sums(torch.zeros(len(x), dtype=torch.bool))
    with torch.no_grad():
        wrong = torch.cat([model(part).argmax(1) for part in x.split(256)]) != y
    found.success |= wrong
    for attack in attacks:
        rows = (~found.success).nonzero().squeeze(1) if cascade else torch.arange(len(x))
        if not len(rows):
            continue
        begun = time.process_time()
        result = attack.run(AttackRequest(model, x[rows], y[rows], eps, settings_of(eps)))
        found.seconds += time.process_time() - begun
        found.forward += int(result.queries.sum() + result.wasted_rows.sum())
        found.backward += int(result.gradients.sum())
        found.success[rows] |= result.success
    return found


def settings_of(eps: float) -> Settings:
    """Return the settings that ``art-ext evaluate --eps`` has."""
    return Settings((eps,), 10_000, "linf", True, "logits", (0.0, 1.0), 256, None, 0)


def planned(attacks: list[Attack], model: nn.Module, x: Tensor, eps: float) -> PlannedRows:
    """Return the most rows of a sample."""
    total = PlannedRows(0)
    for attack in attacks:
        labels = torch.zeros(0, dtype=torch.int64)
        with planning(10) as found:
            attack.run(AttackRequest(model, x[:0], labels, eps, settings_of(eps)))
        if found.rows is None:
            raise ValueError(f"{attack.name} states no plan")
        total = total.plus(found.rows)
    return total


def subjects() -> dict[str, tuple[list[Attack], bool]]:
    """Return attacks and panels by name, each with its members and whether it is a cascade.

    Attacks that need more than a model and samples are left out.
    """
    attacks = {
        spec.name: ([find_attack(spec.name)], False)
        for spec in registry.specs()
        if registry.is_built_in(spec) and not spec.resources and "linf" in spec.norms
    }
    panels = {
        f"panel {name}": (panel.attacks(norm="linf"), panel.mode == "cascade")
        for name, panel in PANELS.items()
    }
    return panels | attacks


def measure(
    case: Case, row: RowTime, name: str, most: int, limit: float, known: int
) -> dict[str, Any] | None:
    """Return the measurements of one attack or panel on one network.

    None if they are known for as many samples.
    """
    attacks, cascade = subjects()[name]
    model, x, y = case.load(most)
    plan = planned(attacks, model, x, case.eps)
    count = int(min(most, max(LEAST, limit / row.seconds(plan.forward, plan.backward))))
    if count <= 1.2 * known:  # the time of a row differs from run to run
        return None
    x, y = x[:count], y[:count]
    found = run(attacks, cascade, model, x, y, case.eps)
    return {
        "n": count,
        "most_forward": plan.forward,
        "most_backward": plan.backward,
        "forward": round(found.forward / count, 1),
        "backward": round(found.backward / count, 1),
        "passes": round(found.seconds / (count * row.forward), 1),
        "seconds_per_1000": round(1000 * found.seconds / count, 2),
        "robust": round(float((~found.success).double().mean()), 4),
    }


def read() -> dict[str, Any]:
    """Return the file's content, or an empty one."""
    if not FILE.is_file():
        return {"networks": {}}
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def write(content: Mapping[str, Any]) -> None:
    """Write the file."""
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Return processor and versions."""
    return f"{processor()}, one thread, torch {torch.__version__.partition('+')[0]}"


def main() -> None:
    """Measure what the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("networks", nargs="*", default=list(CASES), metavar="NETWORK")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--subjects", default="", help="names, separated by commas. Default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    timing.time.perf_counter = time.process_time  # of this process alone
    for name in arguments.networks:
        case = CASES[name]
        model, x, _ = case.load(min(arguments.n, 256))
        row = time_rows(model, x, settings_of(case.eps), True)
        for subject in arguments.subjects.split(",") if arguments.subjects else subjects():
            content = read() | {"machine": machine()}
            known = content["networks"].setdefault(
                name, {"eps": case.eps, "robust": case.robust, "subjects": {}}
            )
            before = known["subjects"].get(subject, {"n": 0})["n"]
            found = measure(case, row, subject, arguments.n, arguments.seconds, before)
            if found is None:
                continue
            known["subjects"][subject] = found
            known["forward_ms"] = round(1000 * row.forward, 4)
            known["backward_ms"] = round(1000 * row.backward, 4)
            write(content)
            took = duration(found["n"] * found["seconds_per_1000"] / 1000)
            print(f"{name} {subject}: {found} in {took}", flush=True)


if __name__ == "__main__":
    main()
