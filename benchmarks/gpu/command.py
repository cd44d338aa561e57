"""Measure on a device what runs there and at what speed, in one command without network.

Run with ``python -m art_ext.benchmarks.gpu --data FOLDER``, or ``make gpu``. The folder holds
CIFAR-10 in a form that ``load_data`` reads. Each row is printed and saved at once. A part or row
that fails is a row. A second call with the same file runs the parts that the file does not hold.
ART, torchattacks and pyautoattack are not needed. Two of them are compared with if they are there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from art_ext.benchmarks.gpu import attacks, checks, training, verdict
from art_ext.benchmarks.gpu.card import Card, Sheet, described, place_of, read_card, table
from art_ext.benchmarks.gpu.subject import FULL, SMALL, Subject
from art_ext.core.checks import check_choice
from art_ext.core.networks import usable_device
from art_ext.training.recipes.registry import RECIPES


@dataclass(frozen=True)
class Part:
    """A part of the card.

    Attributes:
        run: adds its rows.
        share: of the time, relative to the other parts. Time that a part leaves goes to the later
            ones.
        rehearsed: the same of a rehearsal.
    """

    run: Callable[[Subject, Sheet], None]
    share: float
    rehearsed: float


def beside_autoattack(subject: Subject, sheet: Sheet) -> None:
    """Compare the panel with AutoAttack on the network of the part ``trained``."""
    verdict.compare_with_autoattack(subject, training.trained_network(subject), sheet)


PARTS = {
    "checks": Part(checks.check_all, 20, 30),
    "attacks": Part(attacks.measure_attacks, 50, 25),
    "rays": Part(attacks.measure_rays, 15, 5),
    "training": Part(training.measure_training, 55, 15),
    "trained": Part(training.train_and_judge, 300, 15),
    "autoattack": Part(beside_autoattack, 100, 10),
}


def run_part(name: str, subject: Subject, card: Card, seconds: float) -> None:
    """Run a part in so many seconds, and note how it ended."""
    begun = time.perf_counter()
    sheet = card.begin(name, seconds)
    state = "complete"
    try:
        PARTS[name].run(subject, sheet)
    except Exception as error:  # the other parts go on
        state = "failed"
        sheet.note("the part failed", error=described(error), at=place_of(error))
    sheet.close()
    card.end(name, state, time.perf_counter() - begun)


def context_lost(device: torch.device) -> bool:
    """Return True if an error on the device has made it useless for this process."""
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def run_parts(names: Sequence[str], subject: Subject, card: Card, end: float) -> list[str]:
    """Run parts until a time.

    Returns:
        The parts that are left to a new process. There are some only after an error that made the
        device useless for this one.
    """
    rehearsal = subject.sizes is not FULL
    shares = [PARTS[name].rehearsed if rehearsal else PARTS[name].share for name in names]
    for place, name in enumerate(names):
        seconds = (end - time.perf_counter()) * shares[place] / sum(shares[place:])
        run_part(name, subject, card, seconds)
        if context_lost(subject.device):
            return list(names[place + 1 :])
    return []


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(
        prog="python -m art_ext.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--device", help="default cuda, with --rehearse cpu")
    found.add_argument("--data", type=Path, help="folder of CIFAR-10 (default: noise images)")
    found.add_argument("--out", type=Path, default=Path("runs/gpu.json"))
    found.add_argument("--minutes", type=float, default=9.0, help="of all parts (default 9)")
    found.add_argument("--parts", help=f"to run, by commas (default all: {','.join(PARTS)})")
    found.add_argument("--recipe", default="backward-smoothing", help="of the trained network")
    found.add_argument("--rehearse", action="store_true", help="small sizes, to see that it runs")
    found.add_argument("--show", action="store_true", help="print the table of --out, run nothing")
    return found


def subject_of(options: argparse.Namespace) -> Subject:
    """Return what the options describe.

    Raises:
        ValueError: for a device that this machine lacks, an unknown recipe, or a folder that does
            not exist.
    """
    device = usable_device(options.device or ("cpu" if options.rehearse else "cuda"))
    if device.type == "cpu" and not options.rehearse:
        raise ValueError("the full card takes hours on a CPU: add --rehearse")
    check_choice("recipe", options.recipe, tuple(RECIPES))
    if options.data is not None and not options.data.is_dir():
        raise ValueError(f"--data must be a folder that exists, got {options.data}")
    sizes = SMALL if options.rehearse else FULL
    return Subject(
        device, sizes, options.data, options.out.with_suffix(".safetensors"), options.recipe
    )


def chosen_parts(text: str | None, card: Card) -> list[str]:
    """Return the parts to run: those that are named, or all that the card does not hold."""
    if text is None:
        return [name for name in PARTS if not card.holds(name)]
    names = text.split(",")
    for name in names:
        check_choice("parts", name, tuple(PARTS))
    return [name for name in PARTS if name in names]


def open_card(options: argparse.Namespace, subject: Subject) -> Card:
    """Open the file of the card.

    Raises:
        ValueError: if it cannot be written, is no card, or holds one of another run, and if the
            file of the weights is not of this card.
    """
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out must be in a folder that can be made: {error}") from error
    if subject.weights.exists() and not options.out.exists():
        raise ValueError(f"{subject.weights} exists, and its card does not: give another --out")
    return Card(options.out, subject.facts())


def main(arguments: Sequence[str] | None = None, begun: float | None = None) -> None:
    """Run the parts and print the table.

    Args:
        arguments: of the command line.
        begun: value of `time.perf_counter` from which the minutes count, by default now.
    """
    begun = time.perf_counter() if begun is None else begun
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    try:
        if options.show:
            print(table(read_card(options.out)))
            return
        subject = subject_of(options)
        card = open_card(options, subject)
        names = chosen_parts(options.parts, card)
    except ValueError as error:
        parser().error(str(error))
    end = begun + 60 * options.minutes
    left = run_parts(names, subject, card, end)
    if left:
        minutes = max(0.0, end - time.perf_counter()) / 60
        more = ["--parts", ",".join(left), "--minutes", f"{minutes:.3f}"]
        command = [sys.executable, "-m", "art_ext.benchmarks.gpu", *given, *more]
        sys.stdout.flush()
        os.execv(sys.executable, command)  # noqa: S606  # the same program
    print(f"\n{table(card.content)}\n\n{options.out}")
