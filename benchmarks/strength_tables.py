"""Tables of ``art_ext.benchmarks.strength`` in Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from art_ext.benchmarks.strength_runs import Case, Run, Stage
from art_ext.core.checks import listed

NORMS = {"linf": "L-inf", "l2": "L2", "l1": "L1"}
Runs = Mapping[tuple[Case, int], Run]  # by case and seed


def report(ours: Sequence[Run], theirs: Sequence[Run], each: bool = False) -> str:
    """Return the tables of a panel.

    Args:
        ours: runs of one panel.
        theirs: runs of AutoAttack.
        each: True if every member was given all images, not only those that were left.
    """
    if not ours:
        return "no runs are stored"
    mine, other = ({(run.case, run.seed): run for run in runs} for runs in (ours, theirs))
    if each:
        return members_table(mine)
    both = {key: run for key, run in mine.items() if key in other}
    parts = [stages_table(mine)]
    if both:
        other = {key: other[key] for key in both}
        parts = [strength_table(both, other), *parts, stages_table(other)]
    return "\n\n".join(parts)


def strength_table(ours: Runs, theirs: Runs) -> str:
    """Return robust accuracies and times of both sides, with a summary of all cases."""
    name = next(iter(ours.values())).by
    rows = []
    time_ratios: list[float] = []
    more: Counter[str] = Counter()
    for case in _cases(ours):
        mine, other = _of(ours, case), _of(theirs, case)
        only_mine = _only(mine, other)
        only_other = _only(other, mine)
        time_ratios.append(_ratio([run.seconds for run in mine], [run.seconds for run in other]))
        passes = _ratio([run.passes for run in mine], [run.passes for run in other])
        difference = len(only_mine) - len(only_other)
        more["more" if difference > 0 else "fewer" if difference < 0 else "equally many"] += 1
        rows.append(
            [
                *_named(case, mine),
                f"{_standing(mine):.2f}",
                f"{_standing(other):.2f}",
                _images(only_mine),
                _images(only_other),
                f"{time_ratios[-1]:.3f}",
                f"{passes:.3f}",
            ]
        )
    header = [
        *NAMED,
        f"{name}, robust accuracy",
        "AutoAttack",
        f"only {name} breaks",
        "only AutoAttack breaks",
        "time ratio",
        "in passes",
    ]
    mean = math.exp(sum(map(math.log, time_ratios)) / len(time_ratios))
    counts = ", ".join(f"{kind} on {more[kind]}" for kind in ("more", "equally many", "fewer"))
    return (
        f"{_table(header, rows)}\n\n{name} breaks {counts} of {len(rows)} networks. Time ratio:"
        f" geometric mean {mean:.3f}, largest {max(time_ratios):.3f}."
    )


def stages_table(runs: Runs) -> str:
    """Return the images that fall at each stage, with its processor seconds, over all seeds."""
    stages = list(dict.fromkeys(stage.name for run in runs.values() for stage in run.stages))
    rows = []
    for case in _cases(runs):
        own = _of(runs, case)
        found = [stage for run in own for stage in run.stages]
        cells = [_cell([stage for stage in found if stage.name == name]) for name in stages]
        left = sum(run.n - len(run.fell) for run in own)
        rows.append([*_named(case, own), *cells, str(left), f"{sum(r.seconds for r in own):.1f}"])
    by = next(iter(runs.values())).by
    return f"{by}:\n\n{_table([*NAMED, *stages, 'stand', 'seconds'], rows)}"


def members_table(runs: Runs) -> str:
    """Return the images that each member breaks, and those that no other member breaks."""
    members = list(dict.fromkeys(one.name for run in runs.values() for one in run.stages[1:]))
    rows = []
    for case in _cases(runs):
        own = _of(runs, case)
        cells = []
        for name in members:
            alone: list[int] = []
            broken = 0
            for run in own:
                found = {stage.name: set(stage.fell) for stage in run.stages[1:]}
                others = set().union(*(fell for key, fell in found.items() if key != name))
                broken += len(found.get(name, ()))
                alone += found.get(name, set()) - others
            cells += [str(broken), _images(alone)]
        rows.append([*_named(case, own), *cells])
    header = [part for name in members for part in (name, f"only {name}")]
    by = next(iter(runs.values())).by
    return f"Each member of {by} on all images:\n\n{_table([*NAMED, *header], rows)}"


def _cell(stages: Sequence[Stage]) -> str:
    """Return the images that fall at a stage, and its seconds. Empty where it did not run."""
    if not stages:
        return ""
    seconds = sum(stage.seconds for stage in stages)
    return f"{sum(len(stage.fell) for stage in stages)} ({seconds:.1f} s)"


NAMED = ("network", "norm, eps", "images x seeds", "clean")


def _named(case: Case, runs: Sequence[Run]) -> list[str]:
    """Return the first columns of a row."""
    count = runs[0].n
    clean = 100 * (1 - len(runs[0].stages[0].fell) / count)
    return [
        f"`{case.name}`",
        f"{NORMS[case.norm]} {case.eps}",
        f"{count} x {len(runs)}",
        f"{clean:.1f}",
    ]


def _cases(runs: Runs) -> list[Case]:
    return list(dict.fromkeys(case for case, _ in runs))


def _of(runs: Runs, case: Case) -> list[Run]:
    return [run for (own, _), run in runs.items() if own == case]


def _standing(runs: Sequence[Run]) -> float:
    """Return the robust accuracy in percent, the mean over seeds."""
    return 100 * sum(1 - len(run.fell) / run.n for run in runs) / len(runs)


def _only(runs: Sequence[Run], others: Sequence[Run]) -> list[int]:
    """Return the images that fell in a run and not in the other of its seed, over all seeds."""
    return [
        image for run, other in zip(runs, others, strict=True) for image in run.fell - other.fell
    ]


def _images(images: Sequence[int]) -> str:
    """Return a number of images over all seeds, and their positions."""
    if not images:
        return "0"
    return f"{len(images)}: {listed(map(str, sorted(set(images))), 8)}"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return sum(ours) / sum(theirs)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
