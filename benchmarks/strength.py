"""Strength and cost of a panel beside AutoAttack standard, image by image.

Run with ``python -m art_ext.benchmarks.strength --panel standard --n 500 --seeds 0,1``. On each
network, norm and radius of ``CASES`` one process on one thread runs the members of the panel as a
cascade, each on the images without an earlier success, and one call of AutoAttack's standard
version from the wheel pyautoattack. It prints tables in Markdown: robust accuracies, images that
only one side breaks, the ratio of the times, and the stage at which each image falls. ``--each``
also gives every member all images, and lists those that only one member breaks.

Times are processor times, which other processes change little. A ratio of times in passes divides
each side's time by that of a forward and a backward measured right before and after it, which takes
out the load of the machine where the sides ran at different times. Each run is written into
``--out`` when it ends, and read again by later calls. Networks and images come from the folder that
ART_EXT_DATA names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from art_ext.benchmarks.common import autoattack_stages, print_versions, right, stored_network
from art_ext.benchmarks.strength_runs import CASES, CLEAN, Case, Run, Stage
from art_ext.benchmarks.strength_tables import report
from art_ext.core.checks import check_choice, check_positive, nearest
from art_ext.core.geometry import NORMS
from art_ext.core.streams import fingerprint
from art_ext.evaluation import AttackRequest, Panel, Settings
from art_ext.evaluation.panel.panels import MAX_QUERIES, resolve_panel
from art_ext.storage.files import write_atomically

AUTOATTACK = "AutoAttack"


def members(
    panel: Panel, each: bool, model: nn.Module, x: Tensor, y: Tensor, case: Case, seed: int
) -> Iterator[Stage]:
    """Yield the stages of a panel.

    Args:
        panel: whose members run as a cascade.
        each: True to give every member all correctly classified images instead.
        model, x, y: network, images and labels.
        case: norm and radius.
        seed: of all random numbers.
    """
    settings = Settings(
        (case.radius,), MAX_QUERIES, case.norm, True, "logits", (0.0, 1.0), 256, None, seed
    )
    begun = time.process_time()
    correct = right(x, y, model)
    yield Stage(CLEAN, time.process_time() - begun, _positions(~correct))
    rows = correct.nonzero().squeeze(1)
    for attack in panel.attacks(norm=case.norm):
        if not len(rows):
            return
        begun = time.process_time()
        result = attack.run(AttackRequest(model, x[rows], y[rows], case.radius, settings))
        seconds = time.process_time() - begun
        charged = int(result.queries.sum()), int(result.gradients.sum())
        yield Stage(attack.name, seconds, tuple(rows[result.success].tolist()), *charged)
        rows = rows if each else rows[~result.success]


class Recorder:
    """Processor times of AutoAttack's stages, and what its attacks were given and returned.

    Args:
        attack: the package's object. It is changed in place.
    """

    def __init__(self, attack: Any) -> None:
        self.last = time.process_time()
        self.seconds: dict[str, float] = {}
        self.moved: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._calls: list[tuple[Tensor, Tensor]] = []
        for part in ("apgd", "apgd_targeted", "fab", "square"):
            own = getattr(attack, part)
            own.perturb = partial(self._perturb, own.perturb)

    def _perturb(self, perturb: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
        moved = perturb(x, y)
        self._calls.append((x, moved))
        return moved

    def end(self, stage: str | None, robust: float) -> None:
        """End a stage. None is the clean check."""
        now = time.process_time()
        name = stage or CLEAN
        self.seconds[name] = now - self.last
        self.last = now
        self.moved[name] = self._calls
        self._calls = []


def autoattack(model: nn.Module, x: Tensor, y: Tensor, case: Case, seed: int) -> Iterator[Stage]:
    """Yield the stages of AutoAttack's standard version."""
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[case.norm]
    theirs: Any = import_module("pyautoattack").AutoAttack(
        model, norm=norm, eps=case.radius, seed=seed, version="standard"
    )
    recorder = Recorder(theirs)
    with autoattack_stages(recorder.end):
        theirs.run_standard_evaluation(x, y, batch_size=250)
    position = {own: place for place, own in enumerate(fingerprint(x).tolist())}
    fallen = ~right(x, y, model)
    yield Stage(CLEAN, recorder.seconds.pop(CLEAN), _positions(fallen))
    for name, seconds in recorder.seconds.items():
        found = torch.zeros_like(fallen)
        for given, moved in recorder.moved[name]:
            rows = torch.tensor([position[own] for own in fingerprint(given).tolist()])
            found[rows] |= ~right(moved, y[rows], model)
        yield Stage(name, seconds, _positions(found & ~fallen))
        fallen |= found


def _positions(chosen: Tensor) -> tuple[int, ...]:
    """Return the positions of True in (N,) bool."""
    return tuple(chosen.nonzero().flatten().tolist())


def row_seconds(model: nn.Module, x: Tensor, y: Tensor, least: float = 0.5) -> float:
    """Return the processor time of a row forward and backward, a median over ``least`` seconds."""
    rows = x[:200]
    labels = y[:200]
    times: list[float] = []
    while sum(times) < least or len(times) < 3:
        begun = time.process_time()
        leaf = rows.clone().requires_grad_(True)
        torch.autograd.grad(functional.cross_entropy(model(leaf), labels), leaf)
        times.append(time.process_time() - begun)
    return statistics.median(times[1:]) / len(rows)


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison.

    Attributes:
        panel: that it runs. None: AutoAttack.
        each: whether every member is given all images.
    """

    panel: Panel | None = None
    each: bool = False

    @property
    def by(self) -> str:
        """Name in tables and files."""
        return AUTOATTACK if self.panel is None else self.panel.full_name

    def stages(
        self, model: nn.Module, x: Tensor, y: Tensor, case: Case, seed: int
    ) -> Iterator[Stage]:
        """Yield the stages on a network and its images."""
        if self.panel is None:
            return autoattack(model, x, y, case, seed)
        return members(self.panel, self.each, model, x, y, case, seed)

    def digest(self, norm: str) -> str:
        """Return what the names of its files say about the members that run in a norm."""
        if self.panel is None:
            return ""
        told = [
            [one.label, one.attack, dict(one.arguments)]
            for one in self.panel.members
            if norm in one.norms
        ]
        digest = hashlib.sha1(json.dumps(told).encode(), usedforsecurity=False).hexdigest()[:8]
        return f"-{digest}{'-each' if self.each else ''}"

    def run(self, case: Case, count: int, seed: int, folder: Path, stored: bool) -> Run | None:
        """Return the run that the folder holds, or make it and write it.

        Args:
            case: network, norm and radius.
            count: number of images.
            seed: of all random numbers.
            folder: of the files.
            stored: True to return None instead of making a run.
        """
        eps = case.eps.replace("/", "_")
        by = f"{self.by}{self.digest(case.norm)}"
        name = f"{case.name}-{case.norm}-{eps}-n{count}-seed{seed}-{by}.json"
        if (folder / name).is_file():
            return Run.read(folder / name)
        if stored:
            return None
        model = stored_network(case.name)
        x, y = case.samples(count)
        before = row_seconds(model, x, y)
        stages = tuple(self.stages(model, x, y, case, seed))
        after = row_seconds(model, x, y)
        stages = tuple(replace(one, seconds=round(one.seconds, 4)) for one in stages)
        versions = f"torch {torch.__version__}, one thread, {os.cpu_count()} cores"
        run = Run(self.by, case, count, seed, stages, (before, after), versions)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, (json.dumps(asdict(run)) + "\n").encode())
        left = count - len(run.fell)
        print(f"{name}: {left} of {count} stand, {run.seconds:.1f} s", flush=True)
        return run


def chosen_cases(names: Sequence[str]) -> list[Case]:
    """Return the cases of these names, all of them without any.

    Args:
        names: each the name of a network, a norm, or ``NETWORK:NORM:EPS`` for any other case.

    Raises:
        ValueError: for an unknown name.
    """
    if not names:
        return list(CASES)
    found: list[Case] = []
    for name in names:
        network, *rest = name.split(":")
        if len(rest) == 2:
            check_choice("norm", rest[0], NORMS)
            found.append(Case(network, *rest))
            check_positive("eps", found[-1].radius)
            continue
        own = [case for case in CASES if name in (case.name, case.norm)]
        if not own:
            known = [*NORMS, *dict.fromkeys(case.name for case in CASES)]
            raise ValueError(
                f"a case must be a norm, a network or NETWORK:NORM:EPS, got {name!r}"
                f"{nearest(name, known)}"
            )
        found += own
    return list(dict.fromkeys(found))


def image_counts(text: str, cases: Sequence[Case]) -> dict[Case, int]:
    """Return the number of images of each case.

    Args:
        text: a number, and others for networks: ``"200,mnist_smallcnn_trades=300"``.
        cases: all cases.

    Raises:
        ValueError: for another text, or a network that is not among the cases.
    """
    first, *others = text.split(",")
    named = dict(part.partition("=")[::2] for part in others)
    if not all(number.isdecimal() and int(number) for number in (first, *named.values())):
        raise ValueError(f"n must be NUMBER or NUMBER,NETWORK=NUMBER, got {text!r}")
    networks = {case.name for case in cases}
    for name in named:
        check_choice("a network of n", name, tuple(sorted(networks)))
    return {case: int(named.get(case.name, first)) for case in cases}


def main() -> None:
    """Compare on each case, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", help="norms, networks, or NETWORK:NORM:EPS")
    parser.add_argument("--panel", action="append", help="name, name-version, or a TOML file")
    parser.add_argument("--n", default="500", help="images: NUMBER or NUMBER,NETWORK=NUMBER")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--out", type=Path, default=Path("runs/strength"))
    parser.add_argument("--each", action="store_true", help="also every member on all images")
    parser.add_argument(
        "--stored",
        choices=("autoattack", "all"),
        help="runs that are read from --out only: cases without one are left out of a comparison",
    )
    arguments = parser.parse_args()
    try:
        panels = [resolve_panel(name) for name in arguments.panel or ["standard"]]
        counts = image_counts(arguments.n, chosen_cases(arguments.cases))
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
    except ValueError as error:
        parser.error(str(error))
    print_versions()
    sides = [Side(), *map(Side, panels)]
    sides += [Side(panel, each=True) for panel in panels if arguments.each]
    runs: dict[Side, list[Run]] = {side: [] for side in sides}
    for seed in seeds:
        for case, count in counts.items():
            for side in sides:
                stored = arguments.stored == "all" or (side.by == AUTOATTACK and arguments.stored)
                run = side.run(case, count, seed, arguments.out, bool(stored))
                runs[side] += [] if run is None else [run]
    theirs, *ours = sides
    for side in ours:
        print(report(runs[side], runs[theirs], side.each))


if __name__ == "__main__":
    main()
