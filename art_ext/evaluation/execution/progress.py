"""Share of a run that is done, and the time left: the estimate, corrected by what units took."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from art_ext.evaluation.execution.estimate import Estimate, estimate_run

if TYPE_CHECKING:
    from art_ext.evaluation.execution.work import Work

LEAST = 1e-9  # seconds of a sample, so that shares are defined
PRIOR = 0.25  # of a unit: what the pace of other units weighs beside its own
PRIOR_OF_ROWS = 0.02  # of a run: what the estimate weighs beside the pace of its rows


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        share: of the work that is done, in [0, 1]. It never falls.
        left: seconds that the rest takes, by the estimate and by what units took.
        current: what runs now, such as ``"net, rays, eps 8/255"``.
        robust: largest robust accuracy that the model attacked now can reach at the largest eps on
            the samples of this process. Samples that nobody has attacked count as robust, unless
            they are known to be misclassified. None: unknown.
    """

    share: float
    left: float
    current: str
    robust: float | None


@dataclass
class _Pace:
    """Seconds that work took, and those that it was estimated to take."""

    took: float = 0.0
    estimated: float = 0.0

    def add(self, took: float, estimated: float) -> None:
        self.took += took
        self.estimated += estimated

    def ratio(self, prior: float, weight: float) -> float:
        """Return seconds per estimated second, between those measured and a prior one.

        Args:
            prior: ratio to begin with.
            weight: estimated seconds that it counts for.
        """
        whole = self.estimated + weight
        return (self.took + weight * prior) / whole if whole > 0 else prior


@dataclass
class _Unit:
    """The unit that runs now.

    Attributes:
        number: of its chunk.
        place: in the plan.
        attacked: number of its samples that are attacked.
        begun: seconds at its start.
        share: that is done.
    """

    number: int
    place: int
    attacked: int
    begun: float
    share: float = 0.0


class RunProgress:
    """Progress of a process through its units, weighted by their estimated cost.

    A unit takes what units of its attack took for each attacked sample, the running one included.
    Without one, it takes what its rows would at the pace of all rows so far. Both paces start at
    what was known before and move away from it by the work that is done, so that a short unit
    changes little.

    Args:
        estimate: of the run.
        chunks: by number, first and one past the last sample of each chunk of this process.
        ended: by number of the chunk, the places of the units that ended before.
        told: function that is called with each new state.
        clock: returns seconds.
    """

    def __init__(
        self,
        estimate: Estimate,
        chunks: Mapping[int, tuple[int, int]],
        ended: Mapping[int, Collection[int]],
        told: Callable[[RunState], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._estimate = estimate
        self._told = told
        self._clock = clock
        self._weights = _weights(estimate)  # estimated seconds of a sample, by place
        self._sizes = {number: end - start for number, (start, end) in chunks.items()}
        places = range(len(self._weights))
        self._waiting = {
            number: [place for place in places if place not in ended.get(number, ())]
            for number in chunks
        }
        self._rows = _Pace()  # of rows, which says how quick this machine is
        self._paces = [_Pace() for _ in places]  # of attacked samples
        self._parts = [1.0 for _ in places]  # share of the samples that is attacked
        self._unit: _Unit | None = None
        self._current = ""
        self._model = ""
        self._failures: dict[str, dict[int, int]] = {}  # by model and number of the chunk
        self._ended = 0  # samples of chunks that workers have ended
        self._robust: float | None = None  # of workers
        whole = sum(self._sizes.values()) * sum(self._weights)
        self._prior = PRIOR_OF_ROWS * whole
        self._earlier = max(whole - self._left() * estimate.workers, 0.0)
        self._share = self._earlier / whole if whole > 0 else 1.0
        self._begun = clock()

    @property
    def state(self) -> RunState:
        """The present state."""
        return RunState(self._share, self._left(), self._current, self._bound())

    @property
    def most_queries(self) -> int:
        """Planned queries of a sample of the unit that runs. 1 where the attack states no plan."""
        rows = None if self._unit is None else self._estimate.runs[self._unit.place].rows
        return 1 if rows is None else rows.forward

    def begin(self, number: int, place: int, attacked: int, current: str) -> None:
        """Start of a unit.

        Args:
            number: of its chunk.
            place: of the attack in the plan.
            attacked: number of samples that are attacked.
            current: what runs.
        """
        self._unit = _Unit(number, place, attacked, self._clock())
        self._current = current
        part = attacked / self._sizes[number]
        model = self._model = self._estimate.runs[place].model
        for later in range(place, len(self._parts)):
            # a later attack of a cascade is given no more samples
            if later == place or (
                self._estimate.runs[later].model == model and not self._paces[later].estimated
            ):
                self._parts[later] = part
        self._tell()

    def within(self, share: float, failures: int | None) -> None:
        """Progress of the unit that runs.

        Args:
            share: that is done.
            failures: samples of its chunk that are not robust, as in ``failed``. None: unknown.
        """
        if self._unit is not None:
            self._unit.share = max(self._unit.share, min(share, 1.0))
            if failures is not None:
                self.failed(self._model, self._unit.number, failures)
        self._tell()

    def failed(self, model: str, number: int, failures: int) -> None:
        """Take in how many samples of a chunk are known not to be robust at the largest eps."""
        self._failures.setdefault(model, {})[number] = failures

    def end(self, forward: int, backward: int) -> None:
        """End of the unit that runs, after so many rows."""
        unit = self._unit
        if unit is None:
            return
        took = self._clock() - unit.begun
        self._paces[unit.place].add(took, self._weights[unit.place] * unit.attacked)
        row = self._estimate.times.get(self._estimate.runs[unit.place].model)
        if row is not None:
            self._rows.add(took, row.seconds(forward, backward))
        self._waiting[unit.number].remove(unit.place)
        self._unit = None
        self._tell()

    def end_chunk(self, number: int, robust: float | None) -> None:
        """End of a chunk on a worker.

        Args:
            number: of the chunk.
            robust: accuracy over all chunks that workers have ended, of the least robust model.
        """
        ended = sum(self._weights[place] for place in self._waiting[number]) * self._sizes[number]
        self._waiting[number] = []
        # workers run side by side: what has ended took all of them until now
        elapsed = (self._clock() - self._begun) * self._estimate.workers
        self._rows = _Pace(elapsed, self._rows.estimated + ended)
        self._ended += self._sizes[number]
        self._robust = robust
        self._tell()

    def _bound(self) -> float | None:
        """Return the attribute ``robust`` of the state."""
        samples = sum(self._sizes.values())
        if self._robust is not None:
            return 1 - (1 - self._robust) * self._ended / samples
        known = self._failures.get(self._model)
        return None if known is None else 1 - sum(known.values()) / samples

    def _pace(self) -> float:
        """Return the pace of all rows."""
        return self._rows.ratio(1.0, self._prior)

    def _left(self) -> float:
        """Return the seconds that are left."""
        total = sum(
            self._left_of(number, place)
            for number, places in self._waiting.items()
            for place in places
        )
        return total / self._estimate.workers

    def _left_of(self, number: int, place: int) -> float:
        """Return the seconds that a unit takes, or that are left of the one that runs."""
        unit = self._unit
        runs = unit is not None and unit.place == place
        weight, pace = self._weights[place], self._paces[place]
        if unit is not None and runs:
            spent = self._clock() - unit.begun
            pace = replace(pace)
            if unit.share > 0:  # before, nothing says how quick it is
                pace.add(spent, weight * unit.attacked * unit.share)
        ratio = pace.ratio(self._pace(), PRIOR * weight * self._sizes[number] * self._parts[place])
        if unit is None or not runs or unit.number != number:
            return weight * self._sizes[number] * self._parts[place] * ratio
        if unit.share > 0:
            return weight * unit.attacked * (1 - unit.share) * ratio
        return max(weight * unit.attacked * ratio - spent, 0.0)

    def _tell(self) -> None:
        workers = self._estimate.workers
        done = self._clock() - self._begun + self._earlier * self._pace() / workers
        whole = done + self._left()
        self._share = max(self._share, done / whole if whole > 0 else 1.0)
        self._told(self.state)


def follow(work: Work, numbers: Sequence[int], workers: int = 1) -> None:
    """Tell the watcher of a run what its chunks take at most, and follow their progress.

    Nothing is timed where all units have ended.

    Args:
        work: that has begun.
        numbers: of the chunks of this process.
        workers: that share them.
    """
    ended = work.folder.files.ended()
    if all(len(ended.get(number, ())) == len(work.job.attack_runs) for number in numbers):
        return
    chunks = {number: work.folder.chunks[number] for number in numbers}
    estimate = estimate_run(work.job, chunks, workers, ended)
    work.watcher.planned(estimate)
    work.progress = RunProgress(estimate, chunks, ended, work.watcher.run)
    for model, number, failures in work.failures():
        work.progress.failed(model, number, failures)


def _weights(estimate: Estimate) -> list[float]:
    """Return the seconds of a sample of each run of an attack. Unknown ones take the mean."""
    known = [run.seconds for run in estimate.runs if run.seconds is not None]
    mean = sum(known) / len(known) if known else 1.0
    return [max(mean if run.seconds is None else run.seconds, LEAST) for run in estimate.runs]
