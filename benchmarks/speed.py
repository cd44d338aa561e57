"""Own cost of every attack, besides the forwards and backwards of its model.

Run with ``python -m art_ext.benchmarks.speed``. For each attack of the registry it prints the time
of a call over the time of the model's passes inside it, own milliseconds for each model call, how
often the host waits for the device in a round, tensor operations for each model call, and the peak
memory in tensors of the size of the samples. Times are processor times, or on CUDA wall times with
the passes between events. Medians are printed, after the range. Waits, operations and memory are
counted on a linear model, and have no noise. All images count as correctly classified, and no
attack inside a ball stops at a success. Weights are third-party ones if ART_EXT_DATA names their
folder, else random ones, which cost the same. ``--others`` adds the time over that of torchattacks
and pyautoattack, where they have the attack and are installed.

``--baseline FILE`` compares the ratios with stored ones, and ends with exit code 1 if one got worse
beyond the noise of both runs, which is half the range of each. ``--store FILE`` writes them.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from art_ext.benchmarks.common import network_and_images, print_versions, spread
from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.wording import markdown

EPS = {"linf": 8 / 255, "l2": 0.5, "l1": 8.0}
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero"}
HEADS = ("attack", "time / passes", "own ms per call", "waits per round", "operations", "memory")
OTHERS = ("at equal steps", "ours / theirs")
# keywords that keep a call short, for the attacks that have them
SHORT: dict[str, Any] = {
    "coordinates": 8,
    "num_directions": 5,
    "search_steps": 1,
    "num_transitions": 1,
    "stop_on_success": False,
    "keep_samples": False,
    "seed": 0,
}


@dataclass
class Row:
    """The costs of one attack.

    Attributes:
        ratios: time of a call over that of its passes, one for each repeat.
        own: milliseconds besides the passes, for each model call.
        waits: of the host for the device, for each round.
        operations: on tensors, for each model call.
        memory: peak, in tensors of the size of the samples, without the caller's.
    """

    ratios: list[float]
    own: float
    waits: float
    operations: float
    memory: float

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    @property
    def noise(self) -> float:
        """Half the range of the repeats."""
        return (max(self.ratios) - min(self.ratios)) / 2


def cases(steps: int) -> dict[str, tuple[AttackSpec, dict[str, Any]]]:
    """Return each attack in its first norm, and those that need another program in the others."""
    found = {}
    for spec in registry.specs():
        if spec.resources:
            continue
        known = spec.parameters
        given = {name: value for name, value in SHORT.items() if name in known}
        if "num_steps" in known:
            given["num_steps"] = steps
        if spec.access != "gradients":
            given[spec.budget] = 4 * steps + 4
        norms = spec.norms if spec.name in ("pgd", "auto_pgd", "frank_wolfe") else spec.norms[:1]
        for norm in norms:
            name = spec.name if norm == spec.norms[0] else f"{spec.name}, {norm}"
            found[name] = spec, {**given, "norm": norm, "eps": EPS[norm]}
    return found


class Clock:
    """Time of a call, and of the passes inside it."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.spans: list[tuple[Any, Any]] = []

    def now(self) -> Any:
        """Return a mark of the present time."""
        if not self.cuda:
            return time.process_time()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    def between(self, start: Any, end: Any) -> float:
        """Return the seconds between two marks."""
        return start.elapsed_time(end) / 1e3 if self.cuda else end - start

    def call(self, function: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds of a call, and those of the passes inside it."""
        self.spans.clear()
        start = self.now()
        function()
        end = self.now()
        if self.cuda:
            torch.cuda.synchronize()
        return self.between(start, end), sum(self.between(*span) for span in self.spans)


class Timed(nn.Module):
    """A network whose forwards and backwards are timed."""

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network = network
        self.clock = clock
        self.calls = 0

    def forward(self, rows: Tensor) -> Tensor:
        """Call the network between two marks. Hooks mark the backward pass."""
        clock = self.clock
        start = clock.now()
        output: Tensor = self.network(rows)
        self.calls += 1
        if output.requires_grad:
            begun: list[Any] = []
            output.register_hook(lambda slope: begun.append(clock.now()))
            rows.register_hook(lambda slope: clock.spans.append((begun[0], clock.now())))
        clock.spans.append((start, clock.now()))
        return output


class Counter(TorchDispatchMode):
    """Counts tensor operations and waits, and the bytes of tensors that exist at the same time.

    Args:
        known: tensors that are not counted.
    """

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.operations = self.waits = self.now = self.peak = 0
        self.sizes: dict[int, int] = {one.untyped_storage().data_ptr(): 0 for one in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations += 1
        self.waits += function._schema.name.removeprefix("aten::") in WAITS
        out = function(*args, **kwargs or {})
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                self._enter(one.untyped_storage())
        return out

    def _enter(self, storage: torch.UntypedStorage) -> None:
        place = storage.data_ptr()
        if place and place not in self.sizes:
            self.sizes[place] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, place)

    def _forget(self, place: int) -> None:
        self.now -= self.sizes.pop(place, 0)


def counted(spec: AttackSpec, given: dict[str, Any], rows: int) -> tuple[float, float, float]:
    """Return the waits for each round, the operations for each model call, and the peak memory."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 3, 64, 64, generator=generator)
    network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).eval()
    with torch.no_grad():
        y = network(x).argmax(1)
    found = []
    budget = "num_steps" if "num_steps" in given else spec.budget
    for factor in (1, 2):
        model = Timed(network, Clock(x.device))
        with Counter(x, y, *network.parameters()) as counter:
            spec.function(model, x, y, **{**given, budget: factor * given.get(budget, 2)})
        found.append((counter, model.calls))
    (once, calls), (twice, more) = found
    waits = (twice.waits - once.waits) / max(1, more - calls)
    return waits, once.operations / calls, once.peak / (4 * x.numel())


def measure(
    spec: AttackSpec,
    given: dict[str, Any],
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    repeats: int,
) -> Row:
    """Return the costs of an attack."""
    x, y = data
    clock = Clock(x.device)
    spec.function(model, x[:2], y[:2], **given)  # warm up
    ratios = []
    own = []
    for _ in range(repeats):
        timed = Timed(model, clock)
        whole, passes = clock.call(functools.partial(spec.function, timed, x, y, **given))
        ratios.append(whole / passes)
        own.append(1e3 * (whole - passes) / timed.calls)
    return Row(ratios, statistics.median(own), *counted(spec, given, 32))


def others(
    model: nn.Module, data: tuple[Tensor, Tensor], steps: int, repeats: int
) -> dict[str, list[float]]:
    """Return our time over that of another toolkit, at equal steps and without stops.

    Toolkits that are not installed are left out.
    """
    x, y = data
    eps, alpha = EPS["linf"], 2 / 255
    shared: dict[str, Any] = {"eps": eps, "num_steps": steps, "stop_on_success": False, "seed": 0}
    shared["batch_size"] = len(x)
    sized = {**shared, "step_size": alpha}
    pairs: dict[str, tuple[str, dict[str, Any], Callable[[], object]]] = {}
    if find_spec("torchattacks") is not None:
        toolkit = import_module("torchattacks")
        for ours, theirs in (("i_fgsm", "BIM"), ("pgd", "PGD"), ("mi_fgsm", "MIFGSM")):
            attack = getattr(toolkit, theirs)(model, eps=eps, alpha=alpha, steps=steps)
            pairs[f"torchattacks {theirs}"] = ours, sized, functools.partial(attack, x, y)
    if find_spec("pyautoattack") is not None:
        kind = import_module("pyautoattack.autopgd_base").APGDAttack
        apgd = kind(model, n_iter=steps, eps=eps, seed=0, device=str(x.device))
        # its single run, which does not stop at a success either
        apgd.init_hyperparam(x)
        pairs["pyautoattack APGD"] = (
            "auto_pgd",
            shared,
            functools.partial(apgd.attack_single_run, x, y),
        )
    clock = Clock(x.device)
    found = {}
    for name, (ours, given, other) in pairs.items():
        attack = functools.partial(registry.get(ours).function, model, x, y, **given)
        other()
        found[f"{ours} / {name}"] = [
            clock.call(attack)[0] / clock.call(other)[0] for _ in range(repeats)
        ]
    return found


def worse(rows: dict[str, Row], baseline: dict[str, Row]) -> list[str]:
    """Describe what costs more than in the baseline, beyond the noise of both."""
    found = []
    for name, row in rows.items():
        before = baseline.get(name)
        if before is None:
            continue
        noise = row.noise + before.noise
        if row.ratio > before.ratio + noise:
            found.append(
                f"{name}: ratio {row.ratio:.3f}, before {before.ratio:.3f}, noise {noise:.3f}"
            )
        for field in ("waits", "operations", "memory"):
            now, then = getattr(row, field), getattr(before, field)
            if now > then * 1.001 + 0.01:
                found.append(f"{name}: {field} {now:.2f}, before {then:.2f}")
    return found


def cells(row: Row) -> tuple[str, ...]:
    """Return the costs of an attack as text, in the order of ``HEADS`` after the name."""
    counts = (f"{row.own:.2f}", f"{row.waits:.1f}", f"{row.operations:.0f}", f"{row.memory:.1f}")
    return (spread(row.ratios), *counts)


def read(path: Path) -> dict[str, Row]:
    """Return the stored rows."""
    return {name: Row(**row) for name, row in json.loads(path.read_text())["rows"].items()}


def main() -> None:
    """Print the tables, and compare with the baseline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="of model and images. Default: cpu.")
    parser.add_argument("--rows", type=int, default=64, help="images. Default: 64.")
    parser.add_argument("--steps", type=int, default=5, help="of each attack. Default: 5.")
    parser.add_argument("--repeats", type=int, default=5, help="calls of each. Default: 5.")
    parser.add_argument("--attacks", nargs="*", help="names. Default: all.")
    parser.add_argument("--others", action="store_true", help="compare with other toolkits.")
    parser.add_argument("--store", type=Path, help="file to write the rows to.")
    parser.add_argument("--baseline", type=Path, help="file of the rows to compare with.")
    arguments = parser.parse_args()
    if arguments.baseline and not arguments.baseline.exists():
        parser.error(f"there is no baseline {arguments.baseline}: write one with --store")
    print_versions()
    model, x, _, weights = network_and_images("cifar_resnet20_nat", arguments.rows)
    model, x = model.to(arguments.device), x.to(arguments.device)
    with torch.no_grad():
        y = model(x).argmax(1)  # every row is correctly classified
    print(f"cifar_resnet20_nat ({weights}), {len(x)} images, {arguments.steps} steps\n")
    print(markdown(HEADS, ()), end="")
    rows = {}
    for name, (spec, given) in cases(arguments.steps).items():
        if arguments.attacks and spec.name not in arguments.attacks:
            continue
        row = rows[name] = measure(spec, given, model, (x, y), arguments.repeats)
        print(f"| {name} | {' | '.join(cells(row))} |", flush=True)
    facts: dict[str, Any] = {"rows": {name: asdict(row) for name, row in rows.items()}}
    if arguments.others:
        found = others(model, (x, y), arguments.steps, arguments.repeats)
        facts["others"] = found
        print(f"\n{markdown(OTHERS, ((name, spread(one)) for name, one in found.items()))}")
    if arguments.store:
        arguments.store.write_text(json.dumps(facts, indent=1) + "\n")
    if arguments.baseline:
        losses = worse(rows, read(arguments.baseline))
        print("\n" + "\n".join(losses or ["nothing got worse"]))
        sys.exit(bool(losses))


if __name__ == "__main__":
    main()
