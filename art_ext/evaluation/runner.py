"""Run a panel of attacks over a data set, unit by unit, and write the run folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext import __version__
from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import within_ball
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.problem import admit, check_classes
from art_ext.core.result import AttackResult
from art_ext.core.streams import fingerprint, resolve_seed
from art_ext.data import Dataset
from art_ext.evaluation.examples import choose, keep_images
from art_ext.evaluation.finish import Outcome, finish
from art_ext.evaluation.folder import RunFolder, Unit, plan, read_run
from art_ext.evaluation.identity import identity_of_data, identity_of_model
from art_ext.evaluation.panel import Attack, Settings, find_attack
from art_ext.evaluation.panels import MODES, Panel, find_panel
from art_ext.evaluation.probe import make_oracle, probe
from art_ext.evaluation.protocol import protocol
from art_ext.evaluation.records import require_report
from art_ext.evaluation.targets import choose_targets
from art_ext.evaluation.watching import Tally, Watcher

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    models: Model | Mapping[str, Model],
    data: Dataset,
    out: str | os.PathLike[str],
    *,
    eps: float | Sequence[float] = 8 / 255,
    attacks: Sequence[str | Attack] | None = None,
    panel: str | os.PathLike[str] | Panel | None = None,
    mode: str | None = None,
    attack_args: Mapping[str, Mapping[str, Any]] | None = None,
    targeted: str | int | None = None,
    max_queries: int = 10_000,
    norm: str = "linf",
    early_stop: bool | None = None,
    outputs: str = "logits",
    clip_values: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    chunk_size: int | None = None,
    device: str | None = None,
    seed: int | None = 0,
    shard: tuple[int, int] | None = None,
    save_images: bool = False,
    arguments: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Attack every model with every attack, and write records, table, plots and report into a folder.

    The work is cut into units: one search of one attack on one model, over one chunk of samples. Each is written
    atomically when it ends. A run that was killed, called again with the same arguments, does what is missing and ends
    with the same records; so do processes that share the work, in one folder or in folders that ``merge`` unites. Who
    finds all units there writes the report.

    Args:
        models: one model, or several by the names that the report shall use.
        data: N samples in the box, with their labels.
        out: the run folder; new, empty, or that of the same run, which is then completed.
        eps: radius or radii in the units of x.
        attacks: names from ``ATTACKS``, peers' such as ``torchattacks:CLASS``, or attacks of your own; None and no
            panel takes RayS.
        panel: instead of attacks, a built-in panel (``"quick"``, ``"standard"``, ``"black-box"``, ``"paper"``), a TOML
            file, or a ``Panel``.
        mode: ``"cascade"``: each attack gets only the correctly classified samples that those before it did not break
            within eps; ``"independent"``: each gets all. None takes the panel's own, and ``"independent"`` for attacks.
        attack_args: by the attack's name, arguments that it takes besides the ones below.
        targeted: None, or how each sample's target is chosen: ``"random"`` (uniform over the classes other than its
            label), ``"least-likely"`` (lowest clean score), or one class for all. Samples that are misclassified or
            whose label is the target are not attacked then.
        max_queries: most forward rows per sample, for our attacks that ask for labels or scores and have no
            ``max_queries`` of their own.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        early_stop: whether a sample leaves RayS at its first success. None: yes for a single eps, no for several,
            which one search for the nearest adversarial then serves together.
        outputs: what the models return: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box (lower, upper).
        batch_size: most rows in one model call.
        chunk_size: most samples in a unit; None takes twice the batch size, or less for shards, or what the run in the
            folder was begun with.
        device: where inputs go for models without parameters; models are never moved.
        seed: keys every random number; None draws one and records it.
        shard: (i, n), 0 <= i < n: do every n-th chunk only, from the i-th on.
        save_images: keep every adversarial, for ``load_images`` and submissions, not only those that the report shows.
        arguments: what to record as the run's arguments besides the ones above.
        overwrite: begin anew, also in a folder with other things in it; files with the names of ours are replaced.
        watcher: is told of clean accuracies and progress.

    Raises:
        ValueError: for arguments that make no sense, samples outside the box, labels beyond the model's width, a model
            that fails on the samples, a folder with other things in it or with another run, naming the differences, or
            a damaged file, naming it.
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written; what had ended before stays.
    """
    require_report()
    named = dict(models) if isinstance(models, Mapping) else {"model": models}
    chosen, members, mode = _panel(attacks, panel, mode, attack_args or {})
    radii = tuple(sorted({float(radius) for radius in (eps if isinstance(eps, Sequence) else (eps,))}))
    settings = Settings(
        eps=radii, max_queries=max_queries, norm=norm, early_stop=len(radii) == 1 if early_stop is None else early_stop,
        outputs=outputs, clip_values=clip_values, batch_size=batch_size, device=device, seed=resolve_seed(seed),
        targeted=targeted,
    )  # fmt: skip
    _check(named, data, members, settings)
    _check_shard(shard, seed, overwrite)
    size = _chunk_size_of(out) if chunk_size is None and not overwrite else chunk_size
    if size is None:  # shards get several chunks each, since samples differ in what they cost
        size = min(2 * batch_size, -(-len(data) // (4 * shard[1])) if shard else len(data))
    check_count("chunk_size", size)
    asked = {
        "models": list(named), "data": data.name, "samples": len(data), "panel": chosen, "mode": mode,
        "attacks": [attack.name for attack in members],
        "attack_args": {attack.name: dict(attack.arguments) for attack in members if attack.arguments},
        **asdict(settings), "seed": seed, "save_images": save_images, **(arguments or {}),
    }  # fmt: skip
    del asked["device"]  # numbers do not depend on it but for rounding
    work = _Evaluation(named, data, members, settings, mode, save_images, watcher or Watcher())
    folder = RunFolder(out, work.describe(asked, chosen, size))
    return work.run(folder, shard or (0, 1), overwrite)


def _panel(
    attacks: Sequence[str | Attack] | None, panel: str | os.PathLike[str] | Panel | None, mode: str | None,
    arguments: Mapping[str, Mapping[str, Any]],
) -> tuple[str, list[Attack], str]:  # fmt: skip
    """The name of the panel, its attacks, and how they run."""
    if mode is not None:
        check_choice("mode", mode, MODES)
    if panel is not None:
        if attacks is not None:
            raise ValueError("attacks and panel exclude each other: a TOML file can declare any panel")
        found = panel if isinstance(panel, Panel) else find_panel(panel)
        return found.name, found.attacks(arguments), mode or found.mode
    attacks = ("rays",) if attacks is None else attacks
    named = [attack for attack in attacks if isinstance(attack, str)]
    for name in arguments:
        if name not in named:
            raise ValueError(f"attack-args must name attacks of this run ({', '.join(named)}), got {name!r}")
    members = [one if isinstance(one, Attack) else find_attack(one, arguments.get(one)) for one in attacks]
    return "custom", members, mode or "independent"


def _chunk_size_of(out: str | os.PathLike[str]) -> int | None:
    """The size that the run in a folder was begun with, if there is one."""
    size = ((read_run(out) or {}).get("plan") or {}).get("chunk_size")
    return size if isinstance(size, int) else None


def _check(models: Mapping[str, Model], data: Dataset, panel: Sequence[Attack], settings: Settings) -> None:
    if not models or not panel or not len(data):
        raise ValueError(
            f"wanted at least one model, attack and sample, got {len(models)} models, {len(panel)} attacks and "
            f"{len(data)} samples"
        )
    names = [attack.name for attack in panel]
    if len(set(names)) < len(names):
        raise ValueError(f"attacks must differ in their names, got {', '.join(names)}")
    check_classes("y", data.y, len(data))
    settings.check(data.x.shape[1:])
    for attack in panel:
        attack.check(next(iter(models.values())), data.x, data.y, settings)


def _check_shard(shard: tuple[int, int] | None, seed: int | None, overwrite: bool) -> None:
    if shard is None:
        return
    part, count = shard
    if not 0 <= part < count:
        raise ValueError(f"shard must be i/n with i from 0 to n - 1, such as 0/4, got {part}/{count}")
    if seed is None or overwrite:
        raise ValueError("shards need a seed that they share, and do not overwrite: another may work in the folder")


class _Evaluation:
    """One run: what it works on, and how far it is."""

    def __init__(
        self, models: Mapping[str, Model], data: Dataset, panel: Sequence[Attack], settings: Settings, mode: str,
        save_images: bool, watcher: Watcher,
    ) -> None:  # fmt: skip
        self.models, self.data, self.panel, self.settings = models, data, panel, settings
        self.mode, self.save_images, self.watcher = mode, save_images, watcher
        self.ids = fingerprint(data.x)
        self.searches = [
            (name, attack, radii) for name in models for attack in panel for radii in attack.searches(settings)
        ]
        count = len(data)
        self.clean = {name: torch.full((count,), -1) for name in models}
        self.targets = {name: data.y.to(torch.int64).clone() for name in models}
        self.broken = {name: {eps: torch.zeros(count, dtype=torch.bool) for eps in settings.eps} for name in models}
        self.shown: dict[int, Tensor] = {}

    def run(self, folder: RunFolder, shard: tuple[int, int], overwrite: bool) -> Outcome:
        begun = time.perf_counter()
        self.folder = folder
        self.chunks = dict(list(enumerate(slice(*chunk) for chunk in folder.chunks))[shard[0] :: shard[1]])
        self.mine = torch.zeros(len(self.data), dtype=torch.bool)
        for chunk in self.chunks.values():
            self.mine[chunk] = True
        folder.check(overwrite)
        facts = self._probe()
        folder.begin(overwrite)
        units = {unit.name: unit for unit in folder.units()}
        searches = range(len(self.searches))
        own = [{number: units[f"{search:03d}-{number:05d}"] for number in self.chunks} for search in searches]
        self._check_answers([unit for mine in own for unit in mine.values()])
        for number in self.chunks:
            self._keep_chunk(number, facts[number])
        for (name, attack, radii), mine in zip(self.searches, own, strict=True):
            self._attack(name, attack, radii, mine)
        return finish(folder, time.perf_counter() - begun)

    # ---- before any attack

    def _probe(self) -> dict[int, dict[str, Any]]:
        """By chunk and model, what the clean samples tell; fills the clean predictions and the targets."""
        facts: dict[int, dict[str, Any]] = {number: {} for number in self.chunks}
        gradients = any(attack.asks == "gradients" for attack in self.panel)
        for name, model in self.models.items():
            classes = 0
            for number, chunk in self.chunks.items():
                found = probe(
                    model, self.data.x[chunk], self.data.y[chunk], self.settings, gradients,
                    start=chunk.start, repeat=number == min(self.chunks),
                )  # fmt: skip
                self.clean[name][chunk] = found.labels
                facts[number][name] = found.facts
                classes = found.classes or classes
            known = len(self.data.class_names or ())  # of a model that returns labels only
            self._aim(name, model, classes or max(known, int(self.data.y.max()) + 1))
            right = ~self._wrong(name)[self.mine]
            self.watcher.clean(name, float(right.double().mean()))
        return facts

    def _aim(self, name: str, model: Model, classes: int) -> None:
        """The targets; least likely classes cost one more forward each, outside of any attack."""
        settings, least_likely = self.settings, None
        if settings.targeted == "least-likely":
            least_likely = torch.zeros(len(self.data), dtype=torch.int64)
            for chunk in self.chunks.values():
                x = self.data.x[chunk]
                oracle = make_oracle(ScoreOracle, model, len(x), settings)
                with oracle:
                    samples = admit(oracle, x)[0]
                    scores = oracle.scores(samples, torch.arange(len(x), device=oracle.device))
                    least_likely[chunk] = scores.argmin(dim=1).cpu()
        self.targets[name] = choose_targets(
            settings.targeted, self.data.y, self.ids, settings.seed, classes, least_likely
        )

    def _keep_chunk(self, number: int, facts: dict[str, Any]) -> None:
        """Choose the samples of a chunk that the report may show, and keep them."""
        chunk = self.chunks[number]
        right = torch.stack([self._attackable(name) & ~self._wrong(name) for name in self.models])[:, chunk].all(dim=0)
        y = self.data.y[chunk]
        self.shown[number] = choose(y, right)
        shown = torch.zeros_like(right).index_fill(0, self.shown[number], True)
        rows = torch.arange(len(y)) if self.save_images else self.shown[number]
        images = {
            "index": rows + chunk.start, "x": self.data.x[chunk][rows].to(torch.float32).contiguous(), "y": y[rows],
            "right": right[rows], "shown": shown[rows],
        }  # fmt: skip
        self.folder.write_chunk(number, facts, images)

    def _wrong(self, model: str) -> Tensor:
        """(N,) bool, misclassified before any attack."""
        return self.clean[model] != self.data.y

    def _attackable(self, model: str) -> Tensor:
        """(N,) bool, the samples that make sense: all, or with targets those that can still be driven there."""
        if self.settings.targeted is None:
            return torch.ones(len(self.data), dtype=torch.bool)
        return ~self._wrong(model) & (self.targets[model] != self.data.y)

    def describe(self, arguments: Mapping[str, Any], panel: str, chunk_size: int) -> dict[str, Any]:
        """The content of ``run.json`` before the run."""
        searches = [(name, attack.name, radii) for name, attack, radii in self.searches]
        return {
            "arguments": dict(arguments),
            "identity": {
                "models": {name: identity_of_model(model) for name, model in self.models.items()},
                "data": identity_of_data(self.ids, self.data.y), "art-ext": __version__,
            },
            "settings": asdict(self.settings),
            "panel": {"name": panel, "mode": self.mode},
            "data": {
                "name": self.data.name, "samples": len(self.data), "shape": list(self.data.x.shape[1:]),
                "class_names": self.data.class_names and list(self.data.class_names),
            },
            "attacks": {
                attack.name: {
                    "nearest": attack.nearest, "stops_early": attack.stops_early, "asks": attack.asks,
                    "arguments": dict(attack.arguments),
                }
                for attack in self.panel
            },
            "protocol": protocol(self.data, self.panel, self.settings, self.mode),
            "versions": _versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "plan": plan(len(self.data), chunk_size, searches),
        }  # fmt: skip

    # ---- attacks

    def _attack(self, name: str, attack: Attack, radii: tuple[float, ...], units: Mapping[int, Unit]) -> None:
        """One search of an attack on this process's chunks; its largest radius is the one it is given."""
        self.watcher.start(name, attack.name, radii[-1], int(self.mine.sum()))
        most = int(attack.arguments.get("max_queries") or self.settings.max_queries)
        tally = Tally(self.watcher, radii, most, self.mine, self._wrong(name) | self._already_broken(name, radii))
        for number, unit in units.items():
            if self.folder.holds(unit):
                rows = self.folder.read_unit(unit)
                tally.skip(self.chunks[number], rows)
            else:
                rows = self._attack_chunk(name, attack, number, unit, tally)
            self._count_broken(name, rows)

    def _attack_chunk(self, name: str, attack: Attack, number: int, unit: Unit, tally: Tally) -> pd.DataFrame:
        model, chunk, eps = self.models[name], self.chunks[number], unit.radii[-1]
        goals = self.data.y if self.settings.targeted is None else self.targets[name]
        wanted = self._attackable(name)
        if self.mode == "cascade":
            wanted = wanted & ~self._wrong(name) & ~self._already_broken(name, unit.radii)
        index = wanted[chunk].nonzero().squeeze(1)
        x, goal = self.data.x[chunk], goals[chunk]
        tally.begin(chunk, index)
        begun = time.perf_counter()
        found = [attack.run(model, x[index], goal[index], eps, self.settings, tally)] if len(index) else []
        seconds = time.perf_counter() - begun
        result = found[0] if len(index) == len(x) else self._with_left_out(name, chunk, index, eps, found)
        tally.end(result, wanted[chunk])
        rows = self._rows(unit, chunk, wanted[chunk], result, tally, seconds)
        images = keep_images(model, result, self.shown[number], chunk.start, self.settings, self.save_images)
        flags = [asdict(flag) for flag in getattr(found[0], "flags", ()) if flag.raised] if found else []
        self.folder.write_unit(unit, rows, images, flags)
        return rows

    def _already_broken(self, name: str, radii: Sequence[float]) -> Tensor:
        """(N,) bool, the samples that a cascade spares this search: the smallest of its radii is too large already."""
        nothing = torch.zeros(len(self.data), dtype=torch.bool)
        return self.broken[name][radii[0]] if self.mode == "cascade" else nothing

    def _count_broken(self, name: str, rows: pd.DataFrame) -> None:
        """Enter the successes of a unit: who is broken within a radius is so within every larger one."""
        hits = rows[rows["success"]]
        for eps, broken in self.broken[name].items():
            broken[torch.from_numpy(hits.loc[hits["eps"] <= eps, "index"].to_numpy(copy=True))] = True

    def _check_answers(self, units: Sequence[Unit]) -> None:
        """Refuse to go on with a callable that is another one; a network is known by its weights."""
        for unit in units:
            if isinstance(self.models[unit.model], torch.nn.Module) or not self.folder.holds(unit):
                continue
            before = torch.from_numpy(self.folder.read_unit(unit)["clean_prediction"].to_numpy(copy=True))
            now = self.clean[unit.model][slice(*unit.samples)].repeat(len(unit.radii))
            differs = (before != now).nonzero()
            if len(differs):
                sample = unit.samples[0] + int(differs[0]) % (unit.samples[1] - unit.samples[0])
                raise ValueError(
                    f"{self.folder.path} holds records of another model {unit.model!r}: sample {sample} was answered "
                    "otherwise. Choose another folder, or replace that run with --overwrite"
                )

    def _with_left_out(
        self, model: str, chunk: slice, index: Tensor, eps: float, found: Sequence[AttackResult]
    ) -> AttackResult:
        """The result of a whole chunk of which some samples were not attacked: nothing was asked of them.

        Args:
            model: the name.
            chunk: K samples.
            index: (M,) positions in the chunk.
            eps: radius.
            found: the result on these M samples, if there are any.
        """
        x, settings, wrong = self.data.x[chunk], self.settings, self._wrong(model)[chunk]
        nothing = torch.zeros(len(x), dtype=torch.int64)
        whole = AttackResult(
            x_adv=x, success=nothing.bool(), already_adversarial=wrong,
            distance=torch.full((len(x),), torch.inf), x_nearest=None, queries=nothing, queries_to_success=nothing - 1,
            gradients=nothing, wasted_rows=nothing, norm=settings.norm, eps=eps, seed=settings.seed,
            early_stop=settings.early_stop,
        )  # fmt: skip
        for result in found:
            names = ("x_adv", "success", "distance", "queries", "queries_to_success", "gradients", "wasted_rows")
            spread = {name: getattr(whole, name).index_copy(0, index, getattr(result, name)) for name in names}
            nearest = None if result.x_nearest is None else x.index_copy(0, index, result.x_nearest)
            whole = replace(whole, **spread, x_nearest=nearest)
        return whole

    def _rows(
        self, unit: Unit, chunk: slice, attacked: Tensor, result: AttackResult, tally: Tally, seconds: float
    ) -> pd.DataFrame:
        """The records of a unit, one block of rows per radius."""
        import pandas as pd

        cost = (result.queries + result.wasted_rows + result.gradients).double().cpu()
        shared = {
            "index": torch.arange(chunk.start, chunk.start + len(attacked)),
            "id": self.ids[chunk],
            "label": self.data.y[chunk],
            "target": self.targets[unit.model][chunk],
            "clean_prediction": self.clean[unit.model][chunk],
            "attacked": attacked,
            "already_adversarial": result.already_adversarial,
            "distance": result.distance.to(torch.float32),
            "queries": result.queries,
            "gradients": result.gradients,
            "wasted_rows": result.wasted_rows,
            "seconds": seconds * cost / cost.sum().clamp(min=1),
        }
        blocks = []
        for radius in unit.radii:
            given = radius == unit.radii[-1]
            own = {
                "success": result.success if given else within_ball(result.distance, radius),
                "queries_to_success": result.queries_to_success if given else tally.since[radius],
            }
            columns = {column: values.cpu().numpy() for column, values in (shared | own).items()}
            blocks.append(pd.DataFrame({**columns, "model": unit.model, "attack": unit.attack, "eps": radius}))
        return pd.concat(blocks, ignore_index=True)


def _versions() -> dict[str, str]:
    """What the numbers were computed with."""
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in ("art-ext", "torch", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            versions[name] = "unknown"
    return versions
