"""Units of work: one attack on one model over one chunk, its progress, records and images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.geometry import DISTORTIONS, within_ball
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult, Progress
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.evaluation.analysis.examples import NOT_SHOWN
from art_ext.evaluation.execution.chains import chains_of
from art_ext.evaluation.execution.chunks import Chunk, CleanPass, make_oracle
from art_ext.evaluation.execution.job import Job, Watcher
from art_ext.evaluation.execution.stability import settled
from art_ext.evaluation.execution.unit_records import distances_at, records_of
from art_ext.evaluation.panel.attack import Attack, AttackRequest, Settings
from art_ext.storage.records import success_column
from art_ext.storage.units import Unit

if TYPE_CHECKING:
    import pyarrow as pa

    from art_ext.evaluation.execution.progress import RunProgress

# of a result, what is spread over a chunk of which only some samples were attacked
_SPREAD = (
    "x_adv",
    "success",
    "distance",
    "lengths",
    "queries",
    "queries_to_success",
    "gradients",
    "wasted_rows",
)


@dataclass(frozen=True, eq=False)
class Done:
    """Result of a unit that has ended.

    Attributes:
        records: its records.
        images: the result of ``keep_images``.
        facts: of the attack, in the types of JSON. None if it reports none.
        states: those to keep, as ``chains_of`` returns them.
    """

    records: pa.Table
    images: dict[str, Tensor]
    facts: dict[str, Any] | None
    states: dict[str, Tensor]


def run_unit(job: Job, chunk: Chunk, unit: Unit, attack: Attack, tally: Tally) -> Done:
    """Run an attack on a chunk, with the largest radius of the unit.

    Raises:
        ValueError: if the attack or the model fails.
        AttackInterrupted, ModelStopped: if the model gives no further answers.
    """
    model = job.models[unit.model]
    clean = chunk.clean[unit.model]
    eps = unit.radii[-1]
    wanted = samples_to_attack(job, clean, unit, attack)
    index = wanted.nonzero().squeeze(1)
    x = chunk.x
    begun = time.perf_counter()
    # a detector judges the successes of a unit after its end
    failed = None if job.detection is not None else ~clean.held
    tally.begin(index, adversarial_before(job, clean, eps), failed)
    try:
        samples = x if attack.keeps_input and len(index) == len(x) else x[index]
        detector = job.detection.of(unit.model) if job.detection and attack.aware_of else None
        goal = clean.goals_of(attack)[index]
        resources = job.resources.rows(slice(chunk.samples.start, chunk.samples.stop)).rows(index)
        request = AttackRequest(model, samples, goal, eps, job.settings, tally, detector, resources)
        found = [attack.run(request)] if len(index) else []
    except (AttackInterrupted, ModelStopped):
        raise
    except Exception as error:
        # the model is the user's, and an external attack may fail in any way
        raise _failure(attack.name, unit.model, error) from error
    seconds = time.perf_counter() - begun
    whole = len(index) == len(x)
    result = found[0] if whole else _spread(x, clean, index, eps, found, attack, job.settings)
    stability = None
    if job.settings.stability:
        own = clean.keeps_predictions(attack)
        result, stability = settled(result, x, clean.wrong, wanted, own)
    further = distances_at(job.marks, attack, found, index, len(x))
    states: dict[str, Tensor] = {}
    if job.chains:
        columns, states = chains_of(job, chunk, unit, attack, found, index)
        further |= columns
    records = records_of(
        unit, chunk, wanted, result, tally.since, seconds, job.detection, stability, further
    )
    tally.end(ended(records, unit), wanted)
    facts = [_facts_of(attack.name, one, index + chunk.samples.start) for one in found]
    images = keep_images(job, chunk, model, result, succeeded(records, unit))
    return Done(records, images, facts[0] if facts else None, states)


def samples_to_attack(job: Job, clean: CleanPass, unit: Unit, attack: Attack) -> Tensor:
    """(K,) bool, the samples that a unit attacks: in a cascade those without a success so far."""
    return clean.wanted(attack, unit.radii[0]) if job.mode == "cascade" else clean.attackable


def adversarial_before(job: Job, clean: CleanPass, eps: float) -> Tensor:
    """(K,) bool, misclassified or rejected samples and, in a cascade, those with an earlier success
    at eps.
    """
    return clean.failed | clean.successes[eps] if job.mode == "cascade" else clean.failed


def ended(records: pa.Table, unit: Unit) -> Tensor:
    """Return (K,) bool from the records of a unit: adversarial at its largest radius."""
    success, already = _at_largest(records, unit)
    return success | already


def succeeded(records: pa.Table, unit: Unit) -> Tensor:
    """Return (K,) bool from the records of a unit: a success at its largest radius that counts, on
    a sample that was classified correctly.
    """
    success, already = _at_largest(records, unit)
    return success & ~already


def _at_largest(records: pa.Table, unit: Unit) -> tuple[Tensor, Tensor]:
    given = records["eps"].to_numpy() == unit.radii[-1]
    column = success_column(records.column_names)
    success, already = (records[name].to_numpy()[given] for name in (column, "already_adversarial"))
    return torch.from_numpy(success), torch.from_numpy(already)


def rows_of(records: pa.Table, unit: Unit) -> tuple[int, int]:
    """Return the rows forward, those in vain included, and backward in the records of a unit."""
    rows = records.slice(0, unit.samples[1] - unit.samples[0])
    forward, wasted, backward = (
        int(rows[name].to_numpy().sum()) for name in ("queries", "wasted_rows", "gradients")
    )
    return forward + wasted, backward


def _spread(
    x: Tensor,
    clean: CleanPass,
    index: Tensor,
    eps: float,
    found: Sequence[AttackResult],
    attack: Attack,
    settings: Settings,
) -> AttackResult:
    """Return the result of a chunk of which some samples were not attacked, without queries.

    Args:
        x: (K, *S) the samples.
        clean: their clean pass.
        index: (M,) positions of the attacked samples.
        eps: radius.
        found: the result on these M samples, if there are any.
        attack: the attack.
        settings: of the run.
    """
    nothing = torch.zeros(len(x), dtype=torch.int64)
    nowhere = torch.full((len(x),), torch.inf)
    whole = AttackResult(
        x_adv=x,
        success=nothing.bool(),
        already_adversarial=clean.wrong,
        distance=nowhere,
        x_nearest=x if attack.nearest else None,
        nearest_distance=nowhere if attack.nearest else None,
        lengths=nowhere.to(geometry.exact_dtype(x.device)).unsqueeze(1).repeat(1, len(DISTORTIONS)),
        queries=nothing,
        queries_to_success=nothing - 1,
        gradients=nothing,
        wasted_rows=nothing,
        norm=settings.norm,
        eps=eps,
        seed=settings.seed,
        stop_on_success=settings.stop_on_success,
    )
    names = [*_SPREAD, *(("x_nearest", "nearest_distance") if attack.nearest else ())]
    for result in found:
        spread = {
            name: getattr(whole, name).index_copy(0, index, getattr(result, name)) for name in names
        }
        whole = replace(whole, **spread)
    return whole


def _facts_of(attack: str, result: AttackResult, index: Tensor) -> dict[str, Any] | None:
    """Facts of an attack on the samples at these positions (M,) of the data, beyond its records.
    None if there are none.

    Returns:
        ``attack`` and ``eps``. ``starts``: of an attack on the images of a generator, the positions
        of the samples, the distances of their best starts, and their rows of the generator.
        ``autoattack``: the raised flags. ``parts``: for each part of AutoAttack its name and the
        positions of its successes. ``outside``: the numbers of ``Outside`` and the positions of its
        rows.
    """
    raised = [flag for flag in getattr(result, "flags", ()) if flag.raised]
    part_of_success = getattr(result, "broken_by", None)
    outside = getattr(result, "outside", None)
    start_distance = getattr(result, "start_distance", None)
    if not raised and part_of_success is None and outside is None and start_distance is None:
        return None
    facts: dict[str, Any] = {
        "attack": attack,
        "eps": result.eps,
        "autoattack": [
            {"name": flag.name, "detail": flag.detail, "eps": result.eps} for flag in raised
        ],
    }
    if start_distance is not None:
        facts["starts"] = {
            "rows": index.tolist(),
            "distance": [one if math.isfinite(one) else None for one in start_distance.tolist()],
            "generator_rows": getattr(result, "generator_rows", start_distance * 0).tolist(),
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


class Tally:
    """Callback of an attack that counts finished samples, and queries at each radius.

    It counts on from chunk to chunk.

    Args:
        watcher: observer of the progress.
        radii: radii of the units, ascending.
        overall: progress of the whole run. None: nobody watches it.
    """

    def __init__(
        self, watcher: Watcher, radii: Sequence[float], overall: RunProgress | None = None
    ) -> None:
        self.watcher = watcher
        self.overall = overall
        self.radii = radii
        # of the chunks that have ended
        self.samples = 0
        self.successes = 0
        self.attacked = torch.zeros(0, dtype=torch.int64)
        self.failed: Tensor | None = None

    def begin(self, attacked: Tensor, adversarial: Tensor, failed: Tensor | None = None) -> None:
        """Start of the attack on a chunk.

        Args:
            attacked: (M,) positions of the attacked samples.
            adversarial: (K,) bool, misclassified samples and, in a cascade, those with a success of
                an earlier attack within the largest of the radii.
            failed: (K,) bool, samples that are known not to be robust. None: successes do not count
                before the end.
        """
        self.attacked = attacked
        self.failed = failed
        self.before = adversarial
        self.adversarial = adversarial.clone()
        self.done = torch.zeros(len(adversarial))
        # of the largest radius the attack itself keeps the account
        self.since = {radius: torch.full((len(adversarial),), -1) for radius in self.radii[:-1]}

    def __call__(self, progress: Progress) -> None:
        """Take in the progress of the attack."""
        position = self.attacked[progress.index.cpu()]
        most = 1 if self.overall is None else self.overall.most_queries
        spent = (progress.queries / most).clamp(max=0.99)  # it may cost more
        self.done[position] = torch.where(progress.finished, 1.0, spent).cpu()
        self.adversarial[position] = progress.success.cpu() | self.before[position]
        for radius, since in self.since.items():
            new = within_ball(progress.distance, radius).cpu() & (since[position] < 0)
            since[position[new]] = progress.queries.cpu()[new]
        self._notify()

    def end(self, adversarial: Tensor, attacked: Tensor) -> None:
        """End of the chunk. Attacks without callbacks are counted here.

        Args:
            adversarial: (K,) bool, misclassified samples and those with a success.
            attacked: (K,) bool, the attacked samples. The others are unchanged.
        """
        self._end(torch.where(attacked, adversarial | self.before, self.before))

    def skip(self, adversarial: Tensor, before: Tensor) -> None:
        """Count a chunk that had ended before this process began.

        Args:
            adversarial: as in ``end``.
            before: (K,) bool, as ``adversarial`` in ``begin``.
        """
        self._end(before | adversarial)

    def _end(self, adversarial: Tensor) -> None:
        self.adversarial = adversarial
        self.done = torch.ones(len(adversarial))
        self._notify()
        self.samples += len(adversarial)
        self.successes += int(adversarial.sum())
        self.done = self.done[:0]
        self.attacked = self.attacked[:0]
        self.failed = None

    def _notify(self) -> None:
        samples = self.samples + len(self.done)
        successes = self.successes + int(self.adversarial.sum())
        robust = 1 - successes / samples
        self.watcher.progress(self.samples + float(self.done.sum()), robust)
        if self.overall is not None:
            work = self.done[self.attacked]
            failures = None if self.failed is None else int((self.failed | self.adversarial).sum())
            self.overall.within(float(work.mean()) if len(work) else 1.0, failures)


def keep_images(
    job: Job, chunk: Chunk, model: Model, result: AttackResult, succeeded: Tensor
) -> dict[str, Tensor]:
    """Images that a unit keeps: the adversarials of the samples to show, or all.

    The samples to show are those of the chunk and the first successes of the unit. The model
    predicts their adversarials once more. This query is not counted.

    Args:
        job: of the run.
        chunk: of K samples.
        model: the model attacked.
        result: of the attack on the K samples.
        succeeded: (K,) bool, the successes that count.

    Returns:
        ``index`` (M,), ``x_adv`` (M, *S), ``label`` (M,), ``distance`` (M,) and ``success`` (M,).
        Empty if M is 0.
    """
    home = result.success.device
    images, distance = result.x_nearest, result.nearest_distance
    # a detector accepts x_adv, and may reject the nearest adversarial
    if images is None or distance is None or job.detection is not None:
        images, distance = result.x_adv, result.distance
    have = distance.isfinite() & ~result.already_adversarial
    first = succeeded.nonzero().squeeze(1)[: chunk.kept_successes]
    to_show = torch.zeros_like(have).index_fill(0, torch.cat([chunk.shown, first]).to(home), True)
    to_show &= have
    rows = (have if job.save_images else to_show).nonzero().squeeze(1)
    if not len(rows):
        return {}
    labels = torch.full_like(rows, NOT_SHOWN)
    to_predict = to_show[rows]
    if bool(to_predict.any()):
        labels[to_predict] = _labels(model, images[rows[to_predict]], job.settings).to(home)
    kept = {
        "index": rows + chunk.samples.start,
        "x_adv": images[rows],
        "label": labels,
        "distance": distance[rows],
        "success": result.success[rows],
    }
    return {name: values.detach().cpu().contiguous() for name, values in kept.items()}


def _labels(model: Model, images: Tensor, settings: Settings) -> Tensor:
    with make_oracle(LabelOracle, model, len(images), settings) as oracle:
        return oracle.clean_labels(images.to(oracle.device))
