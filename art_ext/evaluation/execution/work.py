"""Execution of a run: clean passes, then the units of work, attack by attack."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext import __version__
from art_ext.core import geometry
from art_ext.core.checks import listed
from art_ext.core.geometry import DISTORTIONS, within_ball
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.core.samples import admit
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.evaluation.execution.examples import choose, keep_images
from art_ext.evaluation.execution.finish import Outcome, finish
from art_ext.evaluation.execution.identity import identity_of_data, identity_of_model
from art_ext.evaluation.execution.probe import make_oracle, probe
from art_ext.evaluation.execution.protocol import protocol
from art_ext.evaluation.execution.watching import Tally, Watcher
from art_ext.evaluation.panel.attack import Attack, AttackRequest, Settings
from art_ext.evaluation.panel.targets import choose_targets
from art_ext.storage.evaluation import RunFolder, Unit, plan, unit_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class Work:
    """State of one run.

    Args:
        models, data, panel, settings, mode, save_images, watcher: as in ``evaluate``, checked.
    """

    models: Mapping[str, Model]
    data: Dataset
    panel: Sequence[Attack]
    settings: Settings
    mode: str
    save_images: bool
    watcher: Watcher

    def __post_init__(self) -> None:
        self.ids = fingerprint(self.data.x)
        self.attack_runs = [
            (name, attack, radii)
            for name in self.models
            for attack in self.panel
            for radii in attack.radii_by_run(self.settings)
        ]
        count = len(self.data)
        self.clean = {name: torch.full((count,), -1) for name in self.models}
        self.targets = {name: self.data.y.to(torch.int64).clone() for name in self.models}
        self.successes = {
            name: {eps: torch.zeros(count, dtype=torch.bool) for eps in self.settings.eps}
            for name in self.models
        }
        self.shown: dict[int, Tensor] = {}

    def run(self, folder: RunFolder, shard: tuple[int, int], overwrite: bool) -> Outcome:
        """Run this process's missing units in the folder, and finish the run if none is missing
        then.
        """
        begun = time.perf_counter()
        self.folder = folder
        self.chunks = dict(
            list(enumerate(slice(*chunk) for chunk in folder.chunks))[shard[0] :: shard[1]]
        )
        self.mine = torch.zeros(len(self.data), dtype=torch.bool)
        for chunk in self.chunks.values():
            self.mine[chunk] = True
        folder.check(overwrite)
        facts = self._probe() if self.chunks else {}  # there may be more shards than chunks
        folder.begin(overwrite)
        units = {unit.name: unit for unit in folder.units()}
        own = [
            {number: units[unit_name(place, number)] for number in self.chunks}
            for place in range(len(self.attack_runs))
        ]
        self._check_answers([unit for mine in own for unit in mine.values()])
        for number in self.chunks:
            self._keep_chunk(number, facts[number])
        for (name, attack, radii), mine in zip(self.attack_runs, own, strict=True):
            if mine:
                self._attack(name, attack, radii, mine)
        return finish(folder, time.perf_counter() - begun)

    # ---- before any attack

    def _probe(self) -> dict[int, dict[str, Any]]:
        """Facts about the clean samples, by chunk and model.

        Also sets the clean predictions and the targets.
        """
        facts: dict[int, dict[str, Any]] = {number: {} for number in self.chunks}
        gradients = any(attack.access == "gradients" for attack in self.panel)
        for name, model in self.models.items():
            classes = 0
            for number, chunk in self.chunks.items():
                found = probe(
                    model,
                    self.data.x[chunk],
                    self.data.y[chunk],
                    self.settings,
                    gradients,
                    start=chunk.start,
                    repeat=number == min(self.chunks),
                )
                self.clean[name][chunk] = found.labels
                facts[number][name] = found.facts
                classes = found.classes or classes
            self._check_members(name, classes, [by_model[name] for by_model in facts.values()])
            known = len(self.data.class_names or ())  # of a model that returns labels only
            self._choose_targets(name, model, classes or max(known, int(self.data.y.max()) + 1))
            right = ~self._wrong(name)[self.mine]
            self.watcher.clean(name, geometry.exact_mean(right))
        return facts

    def _check_members(self, name: str, classes: int, facts: Sequence[Mapping[str, Any]]) -> None:
        """Raise ValueError unless all attacks of the panel can run on a model.

        Args:
            name: of the model.
            classes: number of its classes, or 0 if it returns labels only.
            facts: of the chunks, from ``probe``.
        """
        reason = next(
            (part["not_differentiable"] for part in facts if part.get("not_differentiable")), None
        )
        if reason is not None:
            members = [attack.name for attack in self.panel if attack.access == "gradients"]
            raise ValueError(
                f"{listed(members)} {'needs' if len(members) == 1 else 'need'} gradients, and the"
                f" model {name!r} gives none ({reason}). Attacks that need no gradients: --panel"
                " black-box, or --attack rays"
            )
        for attack in self.panel:
            if attack.check_classes is not None and classes:
                attack.check_classes(classes)

    def _choose_targets(self, name: str, model: Model, classes: int) -> None:
        """Choose the targets. Least likely classes cost one more forward each, outside of any
        attack.
        """
        settings = self.settings
        least_likely = None
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
        """Choose and write the samples of a chunk that the report may show."""
        chunk = self.chunks[number]
        right = torch.stack([self._attackable(name) & ~self._wrong(name) for name in self.models])[
            :, chunk
        ].all(dim=0)
        y = self.data.y[chunk]
        self.shown[number] = choose(y, right)
        shown = torch.zeros_like(right).index_fill(0, self.shown[number], True)
        rows = torch.arange(len(y)) if self.save_images else self.shown[number]
        images = {
            "index": rows + chunk.start,
            "x": self.data.x[chunk][rows].to(torch.float32).contiguous(),
            "y": y[rows],
            "right": right[rows],
            "shown": shown[rows],
        }
        self.folder.write_chunk(number, facts, images)

    def _wrong(self, model: str) -> Tensor:
        """(N,) bool, misclassified before any attack."""
        return self.clean[model] != self.data.y

    def _attackable(self, model: str) -> Tensor:
        """(N,) bool, the samples to attack: all, or with targets those not yet at their target."""
        if self.settings.targeted is None:
            return torch.ones(len(self.data), dtype=torch.bool)
        return ~self._wrong(model) & (self.targets[model] != self.data.y)

    def describe(self, arguments: Mapping[str, Any], panel: str, chunk_size: int) -> dict[str, Any]:
        """Content of ``run.json`` before the run."""
        attack_runs = [(name, attack.name, radii) for name, attack, radii in self.attack_runs]
        return {
            "arguments": dict(arguments),
            "identity": {
                "models": {name: identity_of_model(model) for name, model in self.models.items()},
                "data": identity_of_data(self.ids, self.data.y),
                **self._own_attacks(),
                "art-ext": __version__,
            },
            "settings": asdict(self.settings),
            "panel": {"name": panel, "mode": self.mode},
            "data": {
                "name": self.data.name,
                "samples": len(self.data),
                "shape": list(self.data.x.shape[1:]),
                "class_names": self.data.class_names and list(self.data.class_names),
            },
            "attacks": {
                attack.name: {
                    "nearest": attack.nearest,
                    "stops_early": attack.stops_early,
                    "minimises": attack.minimises,
                    "access": attack.access,
                    "arguments": dict(attack.arguments),
                    **_tanh_iterations(attack, self.settings),
                }
                for attack in self.panel
            },
            "protocol": protocol(self.data, self.panel, self.settings, self.mode),
            "versions": _versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "plan": plan(len(self.data), chunk_size, attack_runs),
        }

    def _own_attacks(self) -> dict[str, Any]:
        """Return digests of the files of the user's own attacks, by their names, if there are."""
        digests = {attack.name: attack.digest for attack in self.panel if attack.digest}
        return {"attacks": digests} if digests else {}

    # ---- attacks

    def _attack(
        self, name: str, attack: Attack, radii: tuple[float, ...], units: Mapping[int, Unit]
    ) -> None:
        """Run an attack on this process's chunks, with the largest of the radii."""
        self.watcher.start(name, attack.name, radii[-1], int(self.mine.sum()))
        cost = attack.cost(self.settings)
        # the bar shows the largest radius
        adversarial = self._wrong(name) | self._earlier_successes(name, radii[-1])
        tally = Tally(self.watcher, radii, cost, self.mine, adversarial)
        for number, unit in units.items():
            if self.folder.holds(unit):
                rows = self.folder.read_unit(unit)
                tally.skip(self.chunks[number], rows)
            else:
                rows = self._attack_chunk(name, attack, number, unit, tally)
            self._count_successes(name, rows)

    def _attack_chunk(
        self, name: str, attack: Attack, number: int, unit: Unit, tally: Tally
    ) -> pd.DataFrame:
        model = self.models[name]
        chunk = self.chunks[number]
        eps = unit.radii[-1]
        goals = self.data.y if self.settings.targeted is None else self.targets[name]
        wanted = self._attackable(name)
        if self.mode == "cascade":
            wanted = wanted & ~self._wrong(name) & ~self._earlier_successes(name, unit.radii[0])
        index = wanted[chunk].nonzero().squeeze(1)
        x = self.data.x[chunk]
        goal = goals[chunk]
        tally.begin(chunk, index)
        begun = time.perf_counter()
        try:
            request = AttackRequest(model, x[index], goal[index], eps, self.settings, tally)
            found = [attack.run(request)] if len(index) else []
        except Exception as error:
            # the model is the user's, and an external attack may fail in any way
            raise _failure(attack.name, name, error) from error
        seconds = time.perf_counter() - begun
        whole = len(index) == len(x)
        result = (
            found[0]
            if whole
            else self._with_left_out(name, chunk, index, eps, found, attack.nearest)
        )
        tally.end(result, wanted[chunk])
        rows = self._rows(unit, chunk, wanted[chunk], result, tally, seconds)
        images = keep_images(
            model, result, self.shown[number], chunk.start, self.settings, self.save_images
        )
        facts = [_facts_of(attack.name, one, index + chunk.start) for one in found]
        self.folder.write_unit(unit, rows, images, facts[0] if facts else None)
        return rows

    def _earlier_successes(self, name: str, eps: float) -> Tensor:
        """(N,) bool, successes of earlier attacks within eps. All False for independent attacks."""
        nothing = torch.zeros(len(self.data), dtype=torch.bool)
        return self.successes[name][eps].clone() if self.mode == "cascade" else nothing

    def _count_successes(self, name: str, rows: pd.DataFrame) -> None:
        """Add the successes of a unit. A success at eps counts as a success at every larger eps."""
        successes = rows[rows["success"]]
        for eps, found in self.successes[name].items():
            index = successes.loc[successes["eps"] <= eps, "index"].to_numpy(copy=True)
            found[torch.from_numpy(index)] = True

    def _check_answers(self, units: Sequence[Unit]) -> None:
        """Raise ValueError unless a callable predicts as in the records. Networks are compared by
        weights.
        """
        for unit in units:
            if isinstance(self.models[unit.model], torch.nn.Module) or not self.folder.holds(unit):
                continue
            before = torch.from_numpy(
                self.folder.read_unit(unit)["clean_prediction"].to_numpy(copy=True)
            )
            now = self.clean[unit.model][slice(*unit.samples)].repeat(len(unit.radii))
            differs = (before != now).nonzero()
            if len(differs):
                sample = unit.samples[0] + int(differs[0]) % (unit.samples[1] - unit.samples[0])
                raise ValueError(
                    f"{self.folder.path} holds records of another model {unit.model!r}: sample"
                    f" {sample} was answered otherwise. Choose another folder, or replace that run"
                    " with --overwrite"
                )

    def _with_left_out(
        self,
        model: str,
        chunk: slice,
        index: Tensor,
        eps: float,
        found: Sequence[AttackResult],
        nearest: bool,
    ) -> AttackResult:
        """Return the result of a chunk of which some samples were not attacked, without queries.

        Args:
            model: the name.
            chunk: K samples.
            index: (M,) positions in the chunk.
            eps: radius.
            found: the result on these M samples, if there are any.
            nearest: True if the attack finds the nearest adversarial.
        """
        x = self.data.x[chunk]
        settings = self.settings
        wrong = self._wrong(model)[chunk]
        nothing = torch.zeros(len(x), dtype=torch.int64)
        nowhere = torch.full((len(x),), torch.inf)
        whole = AttackResult(
            x_adv=x,
            success=nothing.bool(),
            already_adversarial=wrong,
            distance=nowhere,
            x_nearest=x if nearest else None,
            nearest_distance=nowhere if nearest else None,
            lengths=nowhere.to(geometry.exact_dtype(x.device))
            .unsqueeze(1)
            .repeat(1, len(DISTORTIONS)),
            queries=nothing,
            queries_to_success=nothing - 1,
            gradients=nothing,
            wasted_rows=nothing,
            norm=settings.norm,
            eps=eps,
            seed=settings.seed,
            stop_on_success=settings.stop_on_success,
        )
        names = [
            "x_adv",
            "success",
            "distance",
            "lengths",
            "queries",
            "queries_to_success",
            "gradients",
            "wasted_rows",
            *(("x_nearest", "nearest_distance") if nearest else ()),
        ]
        for result in found:
            spread = {
                name: getattr(whole, name).index_copy(0, index, getattr(result, name))
                for name in names
            }
            whole = replace(whole, **spread)
        return whole

    def _rows(
        self,
        unit: Unit,
        chunk: slice,
        attacked: Tensor,
        result: AttackResult,
        tally: Tally,
        seconds: float,
    ) -> pd.DataFrame:
        """Return the records of a unit, one block of rows per radius."""
        import pandas as pd

        unknown = torch.full_like(result.distance, torch.nan)
        nearest = unknown if result.nearest_distance is None else result.nearest_distance
        found = {"distance": result.distance}
        if result.lengths is not None:
            found |= dict(
                zip(DISTORTIONS, result.lengths.to(torch.float32).unbind(dim=1), strict=True)
            )
        cost = (result.queries + result.wasted_rows + result.gradients).cpu().double()
        shared = {
            "index": torch.arange(chunk.start, chunk.start + len(attacked)),
            "id": self.ids[chunk],
            "label": self.data.y[chunk],
            "target": self.targets[unit.model][chunk],
            "clean_prediction": self.clean[unit.model][chunk],
            "attacked": attacked,
            "already_adversarial": result.already_adversarial,
            "nearest_distance": nearest,
            "queries": result.queries,
            "gradients": result.gradients,
            "wasted_rows": result.wasted_rows,
            "seconds": seconds * cost / cost.sum().clamp(min=1),
        }
        blocks = []
        for radius in unit.radii:
            given = radius == unit.radii[-1]
            own = {
                "success": result.success if given else within_ball(nearest, radius),
                "queries_to_success": result.queries_to_success if given else tally.since[radius],
                # x_adv belongs to the radius that the attack was given
                **(found if given else dict.fromkeys(found, unknown)),
            }
            columns = {column: values.cpu().numpy() for column, values in (shared | own).items()}
            blocks.append(
                pd.DataFrame({**columns, "model": unit.model, "attack": unit.attack, "eps": radius})
            )
        return pd.concat(blocks, ignore_index=True)


def _facts_of(attack: str, result: AttackResult, index: Tensor) -> dict[str, Any] | None:
    """Facts of an external attack on the samples at these positions (M,) of the data. None if there
    are none.

    Returns:
        ``attack`` and ``eps``. ``autoattack``: the raised flags. ``parts``: for each part of
        AutoAttack its name and the positions of its successes. ``outside``: the numbers of
        ``Outside`` and the positions of its rows.
    """
    raised = [flag for flag in getattr(result, "flags", ()) if flag.raised]
    part_of_success = getattr(result, "broken_by", None)
    outside = getattr(result, "outside", None)
    if not raised and part_of_success is None and outside is None:
        return None
    facts: dict[str, Any] = {
        "attack": attack,
        "eps": result.eps,
        "autoattack": [
            {"name": flag.name, "detail": flag.detail, "eps": result.eps} for flag in raised
        ],
    }
    if outside is not None:
        facts["outside"] = {**outside.numbers, "rows": index[outside.rows].tolist()}
    if part_of_success is not None:
        names = list(getattr(result, "accuracies", {}))[1:]  # the first is the clean check
        facts["parts"] = [
            [name, index[part_of_success.cpu() == number].tolist()]
            for number, name in enumerate(names, start=1)
        ]
    return facts


def _failure(attack: str, model: str, error: Exception) -> ValueError:
    """Error for an attack that ended with an exception."""
    if is_plain(error):
        message = describe(error)
        return ValueError(message if attack in message else f"{attack}: {message}")
    return UserCodeError(f"{attack} fails on the model {model!r}: {describe(error)}")


def _tanh_iterations(attack: Attack, settings: Settings) -> dict[str, int]:
    """Entry of ``run.json`` for an attack in tanh space. Empty for others."""
    most = attack.tanh_iterations(settings)
    return {} if most is None else {"tanh_iterations": most}


def _versions() -> dict[str, str]:
    """Versions of the software."""
    versions = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in ("art-ext", "torch", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            versions[name] = "unknown"
    return versions
