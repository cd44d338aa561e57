"""Run a panel of attacks over a data set, chunk by chunk, and write the run folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.geometry import within_ball
from art_ext.core.oracle import LabelOracle, Model, ScoreOracle
from art_ext.core.problem import admit, check_classes
from art_ext.core.result import AttackResult, Progress
from art_ext.core.streams import fingerprint, resolve_seed
from art_ext.data import Dataset
from art_ext.evaluation.examples import Examples, choose
from art_ext.evaluation.panel import Attack, Settings, find_attack
from art_ext.evaluation.protocol import protocol
from art_ext.evaluation.records import REPORT, TABLES, RunFolder, require_report
from art_ext.evaluation.table import Row, summarise, to_csv, to_json
from art_ext.evaluation.targets import choose_targets

if TYPE_CHECKING:
    import pandas as pd


_Oracle = TypeVar("_Oracle", bound=LabelOracle)


class Watcher:
    """Told what happens while an evaluation runs; this base class says nothing."""

    def training(self, model: str, samples: int) -> None:
        """The demonstration trains a model on so many samples."""

    def clean(self, model: str, accuracy: float) -> None:
        """The share of samples that the model classifies correctly, before any attack."""

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        """An attack on all samples begins."""

    def progress(self, done: float, robust: float) -> None:
        """An attack went on.

        Args:
            done: samples finished; one under way counts as much as it spent of its budget.
            robust: share of all samples that hold out so far; it starts at the clean accuracy and falls.
        """


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an evaluation found.

    Attributes:
        folder: where the report lies.
        rows: the table.
        records: one row per sample, model, attack and eps.
    """

    folder: Path
    rows: list[Row]
    records: pd.DataFrame


def evaluate(
    models: Model | Mapping[str, Model],
    data: Dataset,
    out: str | os.PathLike[str],
    *,
    eps: float | Sequence[float] = 8 / 255,
    attacks: Sequence[str | Attack] = ("rays",),
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
    arguments: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Attack every model with every attack, and write records, table, plots and report into a folder.

    The records are replaced atomically whenever a chunk ends: a killed run leaves those of its finished chunks.

    Args:
        models: one model, or several by the names that the report shall use.
        data: N samples in the box, with their labels.
        out: the run folder; new, empty, or that of an earlier run with the same arguments, which is then replaced.
        eps: radius or radii in the units of x.
        attacks: names from ``ATTACKS``, peers' as ``torchattacks:CLASS`` or ``art:CLASS``, or attacks of your own.
        attack_args: by the attack's name, arguments that it takes besides the ones below.
        targeted: None, or how each sample's target is chosen: ``"random"`` (uniform over the classes other than its
            label), ``"least-likely"`` (lowest clean score), or one class for all. Samples that are misclassified or
            whose label is the target are not attacked then.
        max_queries: most forward rows per sample, for our attacks that ask for labels or scores.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        early_stop: whether a sample leaves RayS at its first success. None: yes for a single eps, no for several,
            which one search for the nearest adversarial then serves together.
        outputs: what the models return: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box (lower, upper).
        batch_size: most rows in one model call.
        chunk_size: samples between two writes of the records; None takes twice the batch size.
        device: where inputs go for models without parameters; models are never moved.
        seed: keys every random number; None draws one and records it.
        arguments: what to record as the run's arguments besides the ones above.
        overwrite: allow a folder with other things in it; files with the names of ours are replaced.
        watcher: is told of clean accuracies and progress.

    Raises:
        ValueError: for arguments that make no sense, samples outside the box, labels beyond the model's width, a model
            that fails on the samples, or a folder with other things in it.
        ImportError: without the extra ``report``.
    """
    require_report()
    named = dict(models) if isinstance(models, Mapping) else {"model": models}
    panel = _panel(attacks, attack_args or {})
    radii = tuple(sorted({float(radius) for radius in (eps if isinstance(eps, Sequence) else (eps,))}))
    settings = Settings(
        eps=radii, max_queries=max_queries, norm=norm, early_stop=len(radii) == 1 if early_stop is None else early_stop,
        outputs=outputs, clip_values=clip_values, batch_size=batch_size, device=device, seed=resolve_seed(seed),
        targeted=targeted,
    )  # fmt: skip
    _check(named, data, panel, settings)
    size = 2 * batch_size if chunk_size is None else chunk_size
    check_count("chunk_size", size)
    asked = {
        "models": list(named), "data": data.name, "samples": len(data), "attacks": [attack.name for attack in panel],
        "attack_args": {attack.name: dict(attack.arguments) for attack in panel if attack.arguments},
        **asdict(settings), "seed": seed, **(arguments or {}),
    }  # fmt: skip
    folder = RunFolder(out, asked, overwrite)
    return _Evaluation(named, data, panel, settings, size, folder, watcher or Watcher()).run(asked)


def _panel(attacks: Sequence[str | Attack], arguments: Mapping[str, Mapping[str, Any]]) -> list[Attack]:
    named = [attack for attack in attacks if isinstance(attack, str)]
    for name in arguments:
        if name not in named:
            raise ValueError(f"attack-args must name attacks of this run ({', '.join(named)}), got {name!r}")
    return [attack if isinstance(attack, Attack) else find_attack(attack, arguments.get(attack)) for attack in attacks]


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


class _Evaluation:
    """One run: what it works on, and how far it is."""

    def __init__(
        self, models: Mapping[str, Model], data: Dataset, panel: Sequence[Attack], settings: Settings, chunk_size: int,
        folder: RunFolder, watcher: Watcher,
    ) -> None:  # fmt: skip
        self.models, self.data, self.panel, self.settings = models, data, panel, settings
        self.chunks = [slice(start, start + chunk_size) for start in range(0, len(data), chunk_size)]
        self.folder, self.watcher = folder, watcher
        self.ids = fingerprint(data.x)
        self.clean: dict[str, Tensor] = {}
        self.targets: dict[str, Tensor] = {}

    def run(self, arguments: Mapping[str, Any]) -> Outcome:
        begun = time.perf_counter()
        for name, model in self.models.items():
            self.clean[name], width = self._clean_predictions(model)
            self.targets[name] = self._targets(model, width)
            self.watcher.clean(name, self._accuracy(name))
        self.folder.begin(self._describe(arguments))
        right = torch.stack([self._attacked(name) & ~self._wrong(name) for name in self.models]).all(dim=0)
        examples = Examples(self.data, choose(self.data.y, right), self.settings)
        for name, model in self.models.items():
            for attack in self.panel:
                for radii in attack.searches(self.settings):
                    self._attack(name, model, attack, radii, examples)
        rows = summarise(self.folder.records, self.folder.run)
        self.folder.write(TABLES[0], to_csv(rows))
        self.folder.write(TABLES[1], to_json(rows))
        facts = {"seconds": round(time.perf_counter() - begun, 3), "records": len(self.folder.records)}
        self._report({**self.folder.run, **facts}, rows, examples)
        self.folder.finish(**facts)
        return Outcome(self.folder.path, rows, self.folder.records)

    def _report(self, run: Mapping[str, Any], rows: Sequence[Row], examples: Examples) -> None:
        from art_ext.evaluation.plots import draw
        from art_ext.evaluation.report import render

        plots = draw(self.folder.records, run, examples)
        for plot in plots:
            self.folder.write(plot.file, plot.png)
        self.folder.write(REPORT, render(run, self.folder.records, rows, plots))

    def _oracle(self, kind: type[_Oracle], model: Model, count: int) -> _Oracle:
        settings = self.settings
        return kind(
            model, count, outputs=settings.outputs, batch_size=settings.batch_size, clip_values=settings.clip_values,
            device=settings.device,
        )  # fmt: skip

    def _clean_predictions(self, model: Model) -> tuple[Tensor, int]:
        """(N,) int64 predictions of the samples themselves, and the number of classes that the model tells apart.

        One forward each, before and outside of any attack.
        """
        labels = []
        width: int | None = None
        for chunk in self.chunks:
            x = self.data.x[chunk]
            oracle = self._oracle(LabelOracle, model, len(x))
            try:
                with oracle:
                    labels.append(oracle.clean_labels(admit(oracle, x)[0]).cpu())
            except ValueError as error:  # its sample numbers count from the beginning of the chunk
                raise ValueError(f"{error} (counted from sample {chunk.start})" if chunk.start else error) from error
            except (RuntimeError, TypeError) as error:  # what a network says to images of another shape
                raise ValueError(f"the model fails on samples of shape {tuple(x.shape[1:])}: {error}") from error
            width = oracle.num_classes
            if width is not None and int(self.data.y[chunk].max()) >= width:
                found = int(self.data.y[chunk].max())
                raise ValueError(f"labels must be below {width}, the model's width, got {found}")
        known = len(self.data.class_names or ())  # of a model that returns labels only
        return torch.cat(labels), width or max(known, int(self.data.y.max()) + 1)

    def _targets(self, model: Model, classes: int) -> Tensor:
        """(N,) int64 targets; least likely classes cost one more forward each, outside of any attack."""
        rule, least_likely = self.settings.targeted, None
        if rule == "least-likely":
            lowest = []
            for chunk in self.chunks:
                x = self.data.x[chunk]
                with self._oracle(ScoreOracle, model, len(x)) as oracle:
                    samples = admit(oracle, x)[0]
                    lowest.append(oracle.scores(samples, torch.arange(len(x), device=oracle.device)).argmin(dim=1))
            least_likely = torch.cat(lowest).cpu()
        return choose_targets(rule, self.data.y, self.ids, self.settings.seed, classes, least_likely)

    def _wrong(self, model: str) -> Tensor:
        """(N,) bool, misclassified before any attack."""
        return self.clean[model] != self.data.y

    def _attacked(self, model: str) -> Tensor:
        """(N,) bool, the samples that attacks are given: all, or with targets those that can still be driven there."""
        if self.settings.targeted is None:
            return torch.ones(len(self.data), dtype=torch.bool)
        return ~self._wrong(model) & (self.targets[model] != self.data.y)

    def _accuracy(self, model: str) -> float:
        return float((~self._wrong(model)).double().mean())

    def _describe(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "arguments": dict(arguments),
            "settings": asdict(self.settings),
            "data": {
                "name": self.data.name, "samples": len(self.data), "shape": list(self.data.x.shape[1:]),
                "class_names": self.data.class_names and list(self.data.class_names),
            },
            "attacks": {
                attack.name: {
                    "nearest": attack.nearest, "stops_early": attack.stops_early, "arguments": dict(attack.arguments),
                }
                for attack in self.panel
            },
            "clean_accuracy": {name: self._accuracy(name) for name in self.models},
            "protocol": protocol(self.data, self.panel, self.settings),
            "versions": _versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }  # fmt: skip

    def _attack(self, name: str, model: Model, attack: Attack, radii: tuple[float, ...], examples: Examples) -> None:
        """One attack on all samples; its largest radius is the one it is given."""
        self.watcher.start(name, attack.name, radii[-1], len(self.data))
        tally = _Tally(self.watcher, radii, self.settings.max_queries, self._wrong(name))
        goals = self.data.y if self.settings.targeted is None else self.targets[name]
        for chunk in self.chunks:
            index = self._attacked(name)[chunk].nonzero().squeeze(1)
            x, goal = self.data.x[chunk], goals[chunk]
            tally.begin(chunk, index)
            begun = time.perf_counter()
            found = [attack.run(model, x[index], goal[index], radii[-1], self.settings, tally)] if len(index) else []
            result = found[0] if len(index) == len(x) else self._with_left_out(name, chunk, index, radii[-1], found)
            seconds = time.perf_counter() - begun
            tally.end(result)
            self.folder.append(self._rows(name, attack.name, radii, chunk, result, tally, seconds))
            examples.collect(name, attack.name, chunk.start, model, result)

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
        x, settings = self.data.x[chunk], self.settings
        nothing = torch.zeros(len(x), dtype=torch.int64)
        whole = AttackResult(
            x_adv=x, success=nothing.bool(), already_adversarial=self._wrong(model)[chunk],
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
        self, model: str, attack: str, radii: Sequence[float], chunk: slice, result: AttackResult, tally: _Tally,
        seconds: float,
    ) -> pd.DataFrame:  # fmt: skip
        """The records of one chunk, one block of rows per radius."""
        import pandas as pd

        cost = (result.queries + result.wasted_rows + result.gradients).double().cpu()
        shared = {
            "index": torch.arange(len(self.data))[chunk],
            "id": self.ids[chunk],
            "label": self.data.y[chunk],
            "target": self.targets[model][chunk],
            "clean_prediction": self.clean[model][chunk],
            "already_adversarial": result.already_adversarial,
            "distance": result.distance.to(torch.float32),
            "queries": result.queries,
            "gradients": result.gradients,
            "wasted_rows": result.wasted_rows,
            "seconds": seconds * cost / cost.sum().clamp(min=1),
        }
        blocks = []
        for radius in radii:
            given = radius == radii[-1]
            own = {
                "success": result.success if given else within_ball(result.distance, radius),
                "queries_to_success": result.queries_to_success if given else tally.since[radius],
            }
            columns = {column: values.cpu().numpy() for column, values in (shared | own).items()}
            blocks.append(pd.DataFrame({**columns, "model": model, "attack": attack, "eps": radius}))
        return pd.concat(blocks, ignore_index=True)


class _Tally:
    """The callback of an attack: how many samples are done and hold out, and when each came within each radius."""

    def __init__(self, watcher: Watcher, radii: Sequence[float], max_queries: int, wrong: Tensor) -> None:
        self.watcher, self.radii, self.max_queries = watcher, radii, max_queries
        self.done, self.fallen = torch.zeros(len(wrong)), wrong.clone()

    def begin(self, chunk: slice, attacked: Tensor) -> None:
        """The attack on a chunk begins, on the samples at these positions (M,) of it."""
        self.chunk, self.attacked = chunk, attacked
        count = len(self.done[chunk])
        # of the largest radius the attack itself keeps the account
        self.since = {radius: torch.full((count,), -1) for radius in self.radii[:-1]}

    def __call__(self, progress: Progress) -> None:
        position = self.attacked[progress.index.cpu()]
        spent = (progress.queries / self.max_queries).clamp(max=0.99)  # not every attack keeps to this budget
        self.done[self.chunk][position] = torch.where(progress.finished, 1.0, spent).cpu()
        self.fallen[self.chunk][position] = progress.success.cpu()
        for radius, since in self.since.items():
            new = within_ball(progress.distance, radius).cpu() & (since[position] < 0)
            since[position[new]] = progress.queries.cpu()[new]
        self._tell()

    def end(self, result: AttackResult) -> None:
        """The chunk ended; attacks that tell nothing on their way are counted here."""
        self.done[self.chunk] = 1.0
        self.fallen[self.chunk] = (result.success | result.already_adversarial).cpu()
        self._tell()

    def _tell(self) -> None:
        self.watcher.progress(float(self.done.sum()), 1 - float(self.fallen.double().mean()))


def _versions() -> dict[str, str]:
    """What the numbers were computed with."""
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in ("art-ext", "torch", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            versions[name] = "unknown"
    return versions
