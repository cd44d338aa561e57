"""Parts of a card on attacks: their time beside the bare passes, and RayS with speculation."""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import Meter, bare
from art_ext.benchmarks.gpu.card import Deadline, Figures, Sheet
from art_ext.benchmarks.gpu.checks import built_in, short_arguments
from art_ext.benchmarks.gpu.subject import (
    EPS,
    Autocast,
    Subject,
    host_waits,
    importable,
    peak_memory,
    timed,
    without_none,
)
from art_ext.core.attacks import rays
from art_ext.core.attacks.registry import AttackSpec

REPEATS = 3
PATIENCE = 6  # an attack is stopped after so many times its share of the part
# these come first, because a slow device may reach no others
FIRST = ("pgd", "auto_pgd", "hmcam", "frank_wolfe", "ead", "square")
TORCHATTACKS = {"pgd": "PGD", "i_fgsm": "BIM", "mi_fgsm": "MIFGSM", "fgsm": "FGSM"}
# of an attack on scores
FEW: dict[str, Any] = {"max_queries": 41, "num_directions": 4, "coordinates": 4}


@dataclass(frozen=True)
class Form:
    """Precision and layout of an attack.

    Attributes:
        name: in rows.
        amp: True to compute gradients in bfloat16.
        channels_last: True for that memory layout.
        only: names of the attacks that are measured so. Empty: all that compute gradients.
    """

    name: str
    amp: bool = False
    channels_last: bool = False
    only: tuple[str, ...] = ()

    def suits(self, spec: AttackSpec) -> bool:
        """Return True if an attack is measured so."""
        fits = "amp" in spec.parameters or not self.amp
        return fits and spec.access != "labels" and (not self.only or spec.name in self.only)


FORMS = (
    Form("fp32"),
    Form("bf16", amp=True),
    Form("bf16, channels last", amp=True, channels_last=True, only=("pgd", "auto_pgd")),
)


@dataclass(frozen=True)
class Job:
    """An attack in one form.

    Attributes:
        subject: device and sizes.
        spec: of the attack.
        form: precision and layout.
    """

    subject: Subject
    spec: AttackSpec
    form: Form

    @property
    def name(self) -> str:
        """Name of the row."""
        return f"{self.spec.name} ({self.form.name})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        """Run the attack with all rows active to the end, as far as it has a keyword for that."""
        sizes = self.subject.sizes
        arguments = short_arguments(
            self.spec,
            eps=EPS,
            num_steps=sizes.steps,
            search_steps=1,
            stop_on_success=False,
            abort_early=False,
            batch_size=sizes.batch,
            seed=0,
        )
        if self.spec.access != "gradients":
            arguments |= short_arguments(self.spec, **FEW)
        for name in ("amp", "channels_last"):
            if getattr(self.form, name):
                arguments[name] = True
        return self.spec.function(model, x, y, **arguments)

    def bare(self, model: nn.Module, x: Tensor, y: Tensor, calls: list[tuple[int, bool]]) -> None:
        """Run the passes of the attack, those with gradients in its precision."""
        if not self.form.amp:
            bare(model, x, y, calls)
            return
        bare(Autocast(model, self.subject.device), x, y, [call for call in calls if call[1]])
        bare(model, x, y, [call for call in calls if not call[1]])


def measure_attacks(subject: Subject, sheet: Sheet) -> None:
    """Add a row for each attack on gradients and scores, in float32 and in bfloat16."""
    network = subject.network()
    x, _ = subject.noise(subject.sizes.images)
    y = predictions(network, x, subject.sizes.batch)
    jobs = [
        Job(subject, spec, form)
        for spec in sorted(built_in(), key=_rank)
        for form in FORMS
        if form.suits(spec)
    ]
    for number, job in enumerate(jobs):
        seconds = sheet.left / (len(jobs) - number)
        sheet.measure(job.name, functools.partial(cost, job, network, x, y, seconds))


def _rank(spec: AttackSpec) -> tuple[bool, int, bool]:
    """Return the place of an attack among the rows."""
    place = FIRST.index(spec.name) if spec.name in FIRST else len(FIRST)
    return spec.name not in FIRST, place, spec.access != "gradients"


def predictions(network: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Return the predicted classes, which make every image correctly classified."""
    with torch.no_grad():
        return torch.cat([network(part).argmax(1) for part in x.split(batch)])


def cost(job: Job, network: nn.Module, x: Tensor, y: Tensor, seconds: float) -> Figures:
    """Return the time of an attack, and its ratio to the bare passes of the same shapes."""
    device = job.subject.device
    part = slice(0, job.subject.sizes.batch)
    waits, calls = _waits(job, network, x[part], y[part])
    begun = time.perf_counter()  # the first calls of a process take seconds of their own
    meter = Meter(Deadline(network, begun + PATIENCE * seconds))
    many = x
    plain = network
    if job.form.channels_last:
        many = x.contiguous(memory_format=torch.channels_last)
        plain = copy.deepcopy(network).to(memory_format=torch.channels_last)
    own = []
    ratios = []
    others: list[float] = []
    for _ in range(REPEATS):
        meter.calls.clear()
        attack = functools.partial(job, meter, x, y)
        took, peak = peak_memory(device, attack)
        passes, _ = timed(device, functools.partial(job.bare, plain, many, y, meter.calls))
        own.append(took)
        ratios.append(took / passes)
        other = _torchattacks(job, network)
        if other is not None:
            others.append(took / timed(device, functools.partial(other, x, y))[0])
        if time.perf_counter() + took + passes > begun + seconds:
            break
    return without_none(
        {
            "images_per_s": len(x) / statistics.median(own),
            "seconds": statistics.median(own),
            "over_bare": statistics.median(ratios),
            "over_other": statistics.median(others) if others else None,
            "calls": len(meter.calls),
            "host_waits_per_call": None if waits is None else waits / calls,
            "peak_GB": peak,
            "repeats": len(own),
        }
    )


def _waits(job: Job, network: nn.Module, x: Tensor, y: Tensor) -> tuple[int | None, int]:
    """Return how often one slice waits for the device, and its model calls. It also warms up."""
    job(network, x, y)
    meter = Meter(network)
    waits = host_waits(job.subject.device, functools.partial(job, meter, x, y))
    return waits, len(meter.calls)


def _torchattacks(job: Job, network: nn.Module) -> Callable[[Tensor, Tensor], None] | None:
    """Return torchattacks' form of an attack at equal steps, slice by slice, or None."""
    name = TORCHATTACKS.get(job.spec.name)
    if name is None or job.form.amp or not importable("torchattacks"):
        return None
    arguments: dict[str, Any] = {"eps": EPS}
    if name != "FGSM":
        arguments |= {"alpha": EPS / 4, "steps": job.subject.sizes.steps}
    attack = getattr(import_module("torchattacks"), name)(network, **arguments)

    def run(x: Tensor, y: Tensor) -> None:
        batch = job.subject.sizes.batch
        for rows, labels in zip(x.split(batch), y.split(batch), strict=True):
            attack(rows, labels)

    return run


# --- RayS ---


def measure_rays(subject: Subject, sheet: Sheet) -> None:
    """Add rows of RayS with and without speculation, for few and many images."""
    network = subject.network()
    for count in subject.sizes.rays_rows:
        x, _ = subject.noise(count)
        y = predictions(network, x, subject.sizes.batch)
        plain: Figures | None = None
        for speculate in (False, True):
            work = functools.partial(rays_cost, subject, network, x, y, speculate, plain, sheet.end)
            name = f"{count} images ({'speculative' if speculate else 'sequential'})"
            found = sheet.measure(name, work)
            plain = None if speculate else found


def rays_cost(
    subject: Subject,
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    speculate: bool,
    plain: Figures | None,
    end: float,
) -> Figures:
    """Return model calls and seconds of RayS, which ends no search early."""
    device = subject.device
    sizes = subject.sizes

    def attack(model: nn.Module, max_queries: int) -> Any:
        return rays(
            model,
            x,
            y,
            eps=1e-6,
            max_queries=max_queries,
            stop_on_success=False,
            speculate=speculate,
            batch_size=sizes.batch,
        )

    attack(network, 10)  # warm up
    meter = Meter(Deadline(network, end))
    took, result = timed(device, functools.partial(attack, meter, sizes.rays_queries))
    # the bare passes take rows from the images, repeated to the size of the largest call
    many = x.repeat(-(-max(meter.sizes) // len(x)), 1, 1, 1)
    passes, _ = timed(device, functools.partial(bare, network, many, many, meter.calls))
    figures = {
        "images_per_s": len(x) / took,
        "seconds": took,
        "over_bare": took / passes,
        "calls": len(meter.calls),
        "queries_per_image": float(result.queries.double().mean()),
        "wasted_rows": int(result.wasted_rows.sum()),
    }
    if plain is not None:
        figures["seconds_over_sequential"] = took / float(plain["seconds"])
    return figures
