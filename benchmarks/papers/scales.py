"""The settings of a table: its runs, what measures each row, and its check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from art_ext.benchmarks.papers.parts import Part, merged
from art_ext.benchmarks.papers.schema import Check, Row, Run, Scale, Setting
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.files import laid_over, read_values
from art_ext.configuration.parsing import read_value
from art_ext.configuration.places import place_of
from art_ext.configuration.training import LENGTHS, TrainingConfig
from art_ext.configuration.transfer import TransferConfig
from art_ext.core.checks import nearest

SCALES = ("small", "full")
CONFIGS = {"evaluate": EvaluationConfig, "transfer": TransferConfig, "train": TrainingConfig}
# options of a run that the runner sets itself, or that need more than one model
RUNNERS = ("attacks", "attack_args", "models", "name", "detectors", "detector_files")
CHECKS = "art_ext.benchmarks.papers.checks"


def read_scales(top: Part, rows: Mapping[str, Row]) -> dict[str, Scale]:
    """Return the settings of a file by the name of their scale. The full one inherits.

    Args:
        top: the whole file.
        rows: of the table.
    """
    found: dict[str, Scale] = {}
    before: Mapping[str, Any] = {}
    for name in SCALES:
        if name in top.values:
            part = Part(top.file, (name,), merged(before, top.get(name, dict)))
            found[name] = _scale(part, rows)
            before = part.values
    return found


def function_of(check: Check) -> Callable[[], Any]:
    """Return the function of a check with its arguments.

    Raises:
        ValueError: if the module has no such function, or it takes other arguments.
    """
    module, _, name = check.function.partition(":")
    found = getattr(import_module(f"{CHECKS}.{module}"), name, None)
    if found is None:
        raise ValueError(f"{CHECKS}.{module} has no function {name!r}")
    try:
        inspect.signature(found).bind(**check.arguments)
    except TypeError as error:
        raise ValueError(f"{check.function}: {error}") from error
    return partial(found, **check.arguments)


def _scale(part: Part, rows: Mapping[str, Row]) -> Scale:
    part.check(("minutes", "own", "needs", "runs", "digests", "rows", "check"))
    runs = {name: _run(one) for name, one in part.alike("runs").items()}
    settings = part.alike("rows")
    Part(part.file, (*part.keys, "rows"), settings).check(tuple(rows))
    digests = Part(part.file, (*part.keys, "digests"), part.get("digests", dict, {}))
    return Scale(
        part.keys[-1],
        part.get("minutes", float),
        part.get("own", bool, False),
        part.get("needs", str, ""),
        runs,
        {name: digests.get(name, str) for name in digests.values},
        {name: _setting(one, runs) for name, one in settings.items()},
        _check(part) if "check" in part.values else None,
    )


def _run(part: Part) -> Run:
    """Return a run with its options, converted."""
    values = dict(part.values)
    if "source" in values:
        return Run("transfer", _options("transfer", part, values))
    if not {"recipe", "preset"} & {*values}:
        return Run("evaluate", _options("evaluate", part, values))
    seeds = part.get("seeds", list, [0])
    if not seeds or not all(isinstance(one, int) for one in seeds):
        raise part.error("seeds", f"seeds must be a list of integers, got {seeds!r}")
    inner = Part(part.file, (*part.keys, "evaluate"), part.get("evaluate", dict, {}))
    options = {name: one for name, one in values.items() if name not in ("seeds", "evaluate")}
    evaluate = {name: one for name, one in inner.values.items() if name != "attack"}
    return Run(
        "train",
        _options("train", part, options),
        tuple(seeds),
        _options("evaluate", inner, evaluate),
        tuple(inner.get("attack", list, [])),
    )


def _options(kind: str, part: Part, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command, converted."""
    for name in (*RUNNERS, *(("panel",) if part.keys[-1] != "evaluate" else ())):
        if name in values:
            raise part.error(name, f"{name} is not of a run: rows name their attacks")
    return read_values(CONFIGS[kind], values, lambda name: place_of(part.file, *part.keys, name))


def _setting(part: Part, runs: Mapping[str, Run]) -> Setting:
    run = part.get("run", str, next(iter(runs)) if len(runs) == 1 else None)
    if run not in runs:
        raise part.error("run", f"unknown run {run!r}{nearest(run, runs)}")
    training = runs[run].kind == "train"
    own = ("options",) if training else ("attack", "arguments", "source")
    part.check(("run", "needs", *own))
    options: dict[str, Any] = {}
    if training:
        inner = Part(part.file, (*part.keys, "options"), part.get("options", dict, {}))
        first = _options("train", inner, inner.values)
        options = laid_over(TrainingConfig, first, runs[run].options, [LENGTHS], merged=True)
    arguments = {name: read_value(value) for name, value in part.get("arguments", dict, {}).items()}
    return Setting(
        run,
        part.get("attack", str, "" if training else None),
        arguments,
        tuple(part.get("needs", list, [])),
        part.get("source", str, ""),
        options,
    )


def _check(part: Part) -> Check:
    """Return the check of a scale."""
    inner = Part(part.file, (*part.keys, "check"), part.get("check", dict))
    name = inner.get("function", str)
    module, _, function = name.partition(":")
    if not function or find_spec(f"{CHECKS}.{module}") is None:
        raise inner.error("function", f"function must be MODULE:NAME of {CHECKS}, got {name!r}")
    return Check(name, {key: one for key, one in inner.values.items() if key != "function"})
