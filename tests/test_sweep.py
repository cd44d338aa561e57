"""``art-ext sweep``: grids, cells that are ordinary runs, tables, and what goes on after a kill."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.configuration.sweep import SweepConfig
from art_ext.sweeps.commands import COMMANDS
from art_ext.sweeps.grid import Axis, axes_of, label, parse_axis, settings_of, shown
from art_ext.sweeps.plan import EXAMPLES, read_sweep_plan
from art_ext.sweeps.table import Summary, summary
from art_ext.sweeps.values import is_share, values_of
from art_ext.training.runs import resolve, run_training

# one short epoch on 80 digits
CELL = ("train", "--data", "digits", "--n", 80, "--epochs", 1, "--test-n", 20, "--device", "cpu")
EVALUATION = ("evaluate", "--model", "digits-cnn", "--data", "digits", "--attack", "pgd")
GRID = ("--grid", "recipe=fast,natural", "--grid", "seed=0,1")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sweep(out: Path, *options: object, cell: Sequence[object] = CELL) -> Result:
    return call("sweep", "--out", out, *options, "--", *cell)


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def runs(out: Path) -> list[Path]:
    return sorted((out / "cells").iterdir())


# ---- the grid


def test_the_last_axis_changes_first() -> None:
    axes = axes_of({"recipe_args": {"beta": [6, 9]}, "seed": [0, 1, 2]})
    assert axes == [Axis(("recipe_args.beta",), ((6,), (9,))), Axis(("seed",), ((0,), (1,), (2,)))]
    found = [tuple(one.values()) for one in settings_of(axes)]
    assert found == list(itertools.product((6, 9), (0, 1, 2)))


def test_values_that_go_together_are_one_axis() -> None:
    axes = axes_of({"seed": [0]}, [{"recipe_args": {"num_replays": [1, 2], "num_steps": [8, 4]}}])
    assert [dict(one) for one in settings_of(axes)] == [
        {"seed": 0, "recipe_args.num_replays": 1, "recipe_args.num_steps": 8},
        {"seed": 0, "recipe_args.num_replays": 2, "recipe_args.num_steps": 4},
    ]


def test_brackets_keep_their_commas() -> None:
    assert parse_axis("model_args.channels=(4,8),(16,32)", "grid") == (
        "model_args.channels",
        ["(4,8)", "(16,32)"],
    )
    assert shown([4, 8]) == "(4,8)"
    assert label({"recipe_args.beta": 6.0, "eps": "8/255"}) == "beta=6, eps=8/255"
    assert label({"recipe_args.eps": 1, "eps": 2}) == "recipe_args.eps=1, eps=2"


def test_a_cell_has_the_options_of_the_base_with_its_own_over_them() -> None:
    base = {"recipe": "trades", "recipe_args": {"num_steps": 3}, "epochs": 8, "data": "digits"}
    settings = {"recipe_args.beta": "9", "model_args.channels": "(4,8)", "eps": "8/255"}
    found = COMMANDS["train"].values_of(base, {**settings, "updates": "5", "seed": 2})
    assert found == {
        "recipe": "trades",
        "recipe_args": {"num_steps": 3, "beta": 9},
        "model_args": {"channels": "(4,8)"},
        "eps": 8 / 255,
        "updates": 5,  # instead of the epochs
        "seed": 2,
        "data": "digits",
    }
    assert base["recipe_args"] == {"num_steps": 3}
    found = COMMANDS["evaluate"].values_of({}, {"attack_args.pgd.num_steps": "20", "model": "a"})
    assert found == {"attack_args": {"pgd": {"num_steps": 20}}, "model": ("a",)}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda one: one.stem)
def test_examples_have_cells_that_their_command_accepts(example: Path, tmp_path: Path) -> None:
    more = ("model=digits-cnn", "data=digits") if example.stem.startswith("evaluation") else ()
    config = SweepConfig(out=str(tmp_path / "out"), config=Path(example.stem), grid=more)
    found = read_sweep_plan(config)
    assert len(found.cells) == len({cell.folder for cell in found.cells}) > 4
    assert not (tmp_path / "out").exists()


def test_the_table_of_widths_is_that_of_the_dissertation(tmp_path: Path) -> None:
    config = SweepConfig(out=str(tmp_path / "out"), config=Path("trades-width"))
    found = read_sweep_plan(config)
    assert (found.rows, found.columns) == ("recipe_args.beta", "model_args.widen_factor")
    first = found.cells[0].config
    assert first.recipe_args["beta"] == 6
    assert first.model_args == {"depth": "34", "widen_factor": "1"}
    assert len(found.cells) == 6 * 3 * 3


def test_options_after_the_dashes_replace_those_of_a_file(tmp_path: Path) -> None:
    """The length, and the arguments of the network and the schedule of the file, go too."""
    config = SweepConfig(out=str(tmp_path), config=Path("atcd-balance"))
    own = {"data": "digits", "model": "digits-cnn", "updates": 5, "schedule": "cyclic"}
    first = read_sweep_plan(config, "train", own).cells[0].config
    assert (first.updates, first.equivalent_epochs) == (5, None)
    assert (first.model_args, first.schedule_args) == ({}, {})
    assert first.recipe_args == {"rho": 1, "lam": 1 / 32}


def test_the_grid_lies_over_a_preset(tmp_path: Path) -> None:
    grid = ("preset=rice2020,zhang2019-trades", "recipe_args.num_steps=3,5")
    cells = read_sweep_plan(
        SweepConfig(out=str(tmp_path), grid=grid), "train", {"data": "cifar10"}
    ).cells
    assert [cell.config.recipe for cell in cells] == ["pgd", "pgd", "trades", "trades"]
    assert [cell.config.recipe_args["num_steps"] for cell in cells] == [3, 5, 3, 5]
    beta = resolve({"preset": "zhang2019-trades", "data": "cifar10"}).recipe_args.get("beta", 6.0)
    assert cells[2].config.recipe_args.get("beta", 6.0) == beta


# ---- cells and tables


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four cells."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    result = sweep(out, *GRID)
    assert result.exit_code == 0, result.output
    return out


def test_a_cell_is_an_ordinary_run(swept: Path, tmp_path: Path) -> None:
    given = {"data": "digits", "n": 80, "epochs": 1, "test_n": 20, "device": "cpu"}
    run = run_training(resolve({**given, "recipe": "fast", "seed": 1}), tmp_path / "run")
    assert run is not None
    (cell,) = (one for one in runs(swept) if one.name.startswith("recipe=fast_seed=1-"))
    ours, wanted = (load_file(one / "model.safetensors") for one in (cell, tmp_path / "run"))
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
    assert values_of("train", cell, ["clean", "PGD-20"]) == {
        "clean": run["final"]["clean"],
        "PGD-20": run["final"]["pgd20"],
    }


def test_tables_hold_mean_and_spread_over_the_seeds(swept: Path) -> None:
    cells = table(swept / "cells.csv")
    assert [(one["recipe"], one["seed"]) for one in cells] == [
        ("fast", "0"),
        ("fast", "1"),
        ("natural", "0"),
        ("natural", "1"),
    ]
    assert {one["folder"] for one in cells} == {one.name for one in runs(swept)}
    for row in table(swept / "table.csv"):
        own = [float(one["clean"]) for one in cells if one["recipe"] == row["recipe"]]
        assert row["runs"] == "2"
        assert float(row["clean"]) == pytest.approx(statistics.fmean(own))
        assert float(row["clean_spread"]) == pytest.approx(statistics.stdev(own))
    found = json.loads((swept / "sweep.json").read_text())
    assert [one["state"] for one in found["cells"]] == ["finished"] * 4
    assert found["axes"] == [{"recipe": ["fast", "natural"]}, {"seed": ["0", "1"]}]
    text = (swept / "table.md").read_text()
    assert text.startswith("| recipe")
    assert "±" in text
    page = (swept / "index.html").read_text()
    assert "Sweep over recipe" in page
    assert "http" not in page.partition("<body>")[2].replace("http-equiv", "")


def test_a_summary_is_that_of_its_numbers() -> None:
    assert summary([0.5, 0.7]) == Summary(0.6, statistics.stdev([0.5, 0.7]), 2)
    assert summary([0.5, 0.7]).text(share=True) == "60.0 ± 14.1 %"
    assert summary([2, None]).text(share=False) == "2"
    assert summary(["cpu", "cpu"]).text(share=False) == "cpu"
    assert summary([]).text(share=True) == "-"
    shares = ("clean", "PGD-20", "pgd20", "best.pgd100", "rays.robust_accuracy", "pgd.success_rate")
    assert all(map(is_share, shares))
    others = ("minutes", "lambda", "rays.adbd", "pgd.mean_queries", "hessian_clean")
    assert not any(map(is_share, others))


def test_a_finished_cell_is_never_run_again_and_a_larger_grid_adds_cells(swept: Path) -> None:
    before = {one: (one / "run.json").stat().st_mtime_ns for one in runs(swept)}
    text = (swept / "table.csv").read_bytes()
    again = sweep(swept, *GRID)
    assert again.exit_code == 0
    assert "[" not in again.stderr
    assert (swept / "table.csv").read_bytes() == text
    larger = sweep(swept, *GRID, "--grid", "label_smoothing=0.0,0.1", "--values", "clean,minutes")
    assert larger.exit_code == 0, larger.output
    assert larger.stderr.count("label_smoothing=0.1: clean") == larger.stderr.count("/8]") == 4
    assert len(runs(swept)) == 8
    assert {one: (one / "run.json").stat().st_mtime_ns for one in before} == before
    assert len(table(swept / "cells.csv")) == 8
    assert sweep(swept, *GRID).exit_code == 0
    assert (swept / "table.csv").read_bytes() == text


def test_a_failed_cell_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("--grid", "learning_rate=1e30,1e-3", "--grid", "recipe=natural")
    result = sweep(out, *grid)
    assert result.exit_code == 1
    assert "learning_rate=1e30, recipe=natural: failed: " in result.stderr
    assert "1 cell failed" in result.stderr
    rows = table(out / "cells.csv")
    assert [one["folder"] == "" for one in rows] == [True, False]
    found = json.loads((out / "sweep.json").read_text())
    assert [one["state"] for one in found["cells"]] == ["failed", "finished"]
    assert "failed" in (out / "index.html").read_text()
    again = sweep(out, *grid)  # it is tried again, the other one is not
    assert (again.exit_code, again.stderr.count("/2]")) == (1, 1)


def test_values_that_go_together_are_rows_of_one_axis(tmp_path: Path) -> None:
    zipped = ("--zip", "recipe=fast,natural", "--zip", "batch_size=40,80")
    result = sweep(tmp_path, *zipped, "--values", "clean,updates,best.epoch,lr,minutes")
    assert result.exit_code == 2
    assert "unknown value 'lr'" in result.stderr
    assert [one["lr"] for one in table(tmp_path / "table.csv")] == ["", ""]
    result = sweep(tmp_path, *zipped, "--values", "clean,updates,learning_rate", "--over", "seed")
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "table.csv")
    assert [(one["recipe"], one["batch_size"], one["updates"]) for one in rows] == [
        ("fast", "40", "2.0"),
        ("natural", "80", "1.0"),
    ]


def test_a_dry_run_tells_rows_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = sweep(out, *GRID, "--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert not out.exists()
    assert len(lines) == 5
    assert lines[0].startswith("recipe=fast, seed=0: 152 forward and 152 backward rows, ")
    assert lines[3].startswith("recipe=natural, seed=1: 76 forward and 76 backward rows, ")
    assert lines[4].startswith("4 cells: about ")


def test_cells_of_an_evaluation(swept: Path, tmp_path: Path) -> None:
    models = ",".join(str(one) for one in runs(swept)[:2])
    cell = ("evaluate", "--attack", "pgd", "--n", 20, "--device", "cpu", "--attack-args")
    arguments = (*cell, "pgd.num_steps=3")
    values = ("--values", "clean_accuracy,robust_accuracy,pgd.success_rate")
    grid = ("--grid", f"model={models}", "--grid", "eps=0.05,0.1")
    result = sweep(tmp_path / "out", *grid, *values, cell=arguments)
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "out" / "cells.csv")
    assert len(rows) == 4
    for row in rows:
        folder = tmp_path / "out" / "cells" / row["folder"]
        (found,) = [one for one in table(folder / "table.csv") if one["attack"] == "pgd"]
        assert float(row["robust_accuracy"]) == float(found["robust_accuracy"])
        assert float(found["eps"]) == float(row["eps"])
        assert float(row["robust_accuracy"]) <= float(row["clean_accuracy"])
    again = sweep(tmp_path / "out", *grid, *values, cell=arguments)
    assert again.exit_code == 0
    assert "/4]" not in again.stderr


# ---- errors before anything is written


@pytest.mark.parametrize(
    ("options", "cell", "message"),
    [
        (("--grid", "recipe_arg.beta=6"), CELL, "unknown key 'recipe_arg.beta' (did you mean"),
        (("--grid", "recipe_args.betta=6,9"), CELL, "beta"),
        (("--grid", "seed.x=6"), CELL, "seed holds no further keys"),
        ((), CELL, "a sweep needs a grid"),
        (("--grid", "seed="), CELL, "must have values between its commas"),
        (("--grid", "seed"), CELL, "grid must be KEY=VALUE,VALUE"),
        (("--grid", "seed=1,1"), CELL, "each value once"),
        (("--grid", "seed=1", "--grid", "seed=2"), CELL, "seed is given twice"),
        (("--grid", "seed=one"), CELL, "seed must be an integer"),
        (("--zip", "seed=1,2", "--zip", "n=5"), CELL, "lists must have one length"),
        (("--grid", "n=5,6"), CELL, "n is given twice"),
        (("--grid", f"seed={','.join(map(str, range(1001)))}"), CELL, "1,001 cells"),
        (("--grid", "eps=8/255,0.03137254901960784"), CELL, "two cells are the same run"),
        (("--grid", "seed=0,1", "--rows", "sed"), CELL, "rows must be a key of the grid"),
        (
            ("--grid", "seed=0,1", "--over", "sed"),
            CELL,
            "over must name keys of the grid, got 'sed'",
        ),
        (("--grid", "seed=0,1", "--values", "PGD-200"), CELL, "'PGD-200': the cells have pgd20"),
        (("--grid", "seed=0", "--config", "trade-width"), CELL, "did you mean 'trades-width'"),
        (("--grid", "seed=0"), ("trian",), "did you mean 'train'"),
        (("--grid", "seed=0"), (), "a sweep needs a command"),
        (("--grid", "seed=0"), (*CELL, "--recipee", "pgd"), "train: "),
        (("--grid", "seed=0"), (*CELL, "--resume"), "--resume is not for cells"),
        (("--grid", "seed=0"), (*CELL, "--out", "x"), "--out is not for cells"),
        (("--grid", "seed=0", "--engine", "slrum"), CELL, "did you mean 'slurm'"),
        (("--grid", "eps=0.1"), ("evaluate", "--model", "a,b"), "data must be given"),
        (("--grid", "attack_args.pgd.num_stps=5"), EVALUATION, "did you mean 'num_steps'"),
        (("--grid", "eps=0"), EVALUATION, "eps must be > 0"),
        (("--grid", "eps=0.1", "--values", "robust_acuracy"), EVALUATION, "did you mean 'robust_a"),
        (("--grid", "recipe=fast", "--values", "recipe"), CELL, "values: recipe is a key"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], cell: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    recipe = () if "recipe=" in " ".join(options) or cell != CELL else ("--recipe", "trades")
    result = sweep(tmp_path / "out", *options, cell=(*cell, *recipe))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('comand = "train"', "line 1: unknown key 'comand' (did you mean 'command'"),
        ('command = "train"\n[base]\nrecip = "pgd"', "line 3: unknown option 'recip'"),
        ('command = "train"\n[grid]\nseed = 3', "seed must be a list of values"),
        ('command = "train"\n[grid]\nseed = []', "seed must have values"),
        ('command = "train"\n[table]\nvalue = "clean"', "line 3: unknown key 'value' of the table"),
        (
            'command = "evaluate"\n[grid]\nseed = [1]',
            "is a sweep of evaluate, got the command train",
        ),
    ],
)
def test_errors_of_a_file_name_its_line(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(content)
    result = sweep(tmp_path / "out", "--config", file, cell=(*CELL, "--recipe", "pgd"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_sweep_names_the_differences(swept: Path, tmp_path: Path) -> None:
    text = (swept / "sweep.json").read_bytes()
    result = sweep(swept, *GRID, cell=(*CELL, "--label-smoothing", 0.2))
    assert result.exit_code == 2
    assert "holds another sweep (label_smoothing: None there, 0.2 here)" in result.stderr
    assert (swept / "sweep.json").read_bytes() == text
    (tmp_path / "note.txt").write_text("mine")
    result = sweep(tmp_path, *GRID)
    assert result.exit_code == 2
    assert "holds other files and no sweep.json" in result.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["note.txt"]
    (tmp_path / "sweep.json").write_bytes(text[:20])
    result = sweep(tmp_path, *GRID)
    assert result.exit_code == 2
    assert "holds other files and a sweep.json that cannot be read" in result.stderr


# ---- other processes


def start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [
        "sweep",
        "--out",
        out,
        "--grid",
        "recipe=fast,trades",
        "--grid",
        "seed=0,1",
        *options,
    ]
    epochs = ("--epochs", 6, "--checkpoint-every", 1)
    words = [sys.executable, "-m", "art_ext", *command, "--", *CELL, *epochs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(one) for one in words], env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "whole"
    assert start(out).wait() == 0
    return out


def assert_equal(out: Path, wanted: Path) -> None:
    for name in ("table.csv", "cells.csv", "table.md"):
        assert (out / name).read_bytes() == (wanted / name).read_bytes()
    for one, other in zip(runs(out), runs(wanted), strict=True):
        ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
        assert one.name == other.name
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_sweep_goes_on(seed: int, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out)
    while not out.is_dir() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0, 4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(out).wait() == 0
    assert_equal(out, whole)


@pytest.mark.slow
def test_workers_give_the_same_tables(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert start(out, "--workers", "2", "--threads-per-worker", "1").wait() == 0
    assert_equal(out, whole)
