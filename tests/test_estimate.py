"""Time before a run, and the progress of the whole run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.cli.progress import Line, described
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.wording import duration
from art_ext.data import Dataset
from art_ext.evaluation import Attack, Watcher, evaluate, read_records, transfer
from art_ext.evaluation.execution import timing
from art_ext.evaluation.execution.estimate import Estimate, PlannedRun
from art_ext.evaluation.execution.progress import RunProgress, RunState
from art_ext.evaluation.execution.timing import RowTime, time_rows
from art_ext.evaluation.panel.attack import Settings
from art_ext.examples import digits
from tests.toys import examples

SETTINGS = Settings((0.1,), 50, "linf", True, "logits", (0.0, 1.0), 256, None, 0)


class Constant(nn.Module):
    """Returns the same scores for every input, and counts its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        scores = torch.zeros(len(rows), 3)
        scores[:, 0] = 2
        return scores + 0 * rows.flatten(1).sum(dim=1, keepdim=True)


def data(count: int = 12) -> Dataset:
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Dataset("toys", x, torch.zeros(count, dtype=torch.int64))


def nothing_found(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    """Return the inputs."""
    return x


class Told(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.estimates: list[Estimate] = []
        self.states: list[RunState] = []

    def planned(self, estimate: Estimate) -> None:
        self.estimates.append(estimate)

    def run(self, state: RunState) -> None:
        self.states.append(state)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.1 s"),
        (0.44, "0.4 s"),
        (12.2, "12 s"),
        (2.0, "2 s"),
        (210, "3.5 min"),
        (5000, "83 min"),
        (7200, "2 h"),
        (400_000, "111 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class TestEstimate:
    def test_a_dry_run_tells_rows_and_time_and_writes_nothing(self, tmp_path: Path) -> None:
        told = Told()
        found = evaluate(
            Constant(),
            data(),
            tmp_path / "run",
            eps=0.1,
            attacks=["pgd", "auto_pgd", "rays"],
            max_queries=70,
            watcher=told,
            dry_run=True,
        )
        assert found.missing == 3
        assert list(tmp_path.iterdir()) == []
        (estimate,) = told.estimates
        assert [run.rows for run in estimate.runs] == [
            PlannedRows(42, 40),
            PlannedRows(102, 100),
            PlannedRows(70, 0),
        ]
        pgd, auto, rays, total = estimate.lines()
        assert pgd.startswith("pgd: at most 42 forward and 40 backward rows a sample, about ")
        assert auto.startswith("auto_pgd: at most 102 forward and 100 backward rows a sample, ")
        assert rays.startswith("rays: at most 70 forward and 0 backward rows a sample, about ")
        assert total.startswith("in all about ")
        assert total.endswith(" for 12 samples")
        assert told.states == []

    @pytest.mark.usefixtures("attacks_as_before")
    def test_attacks_without_a_plan_are_unknown(self, tmp_path: Path) -> None:
        told = Told()
        own = tmp_path / "own.py"
        own.write_text("def mine(model, x, y, *, eps):\n    return x\n")
        options: dict[str, Any] = {"watcher": told, "dry_run": True, "eps": 0.1}
        evaluate(Constant(), data(), tmp_path / "a", attacks=[f"{own}:mine", "fgsm"], **options)
        evaluate(Constant(), data(), tmp_path / "b", attacks=["torchattacks:PGD"], **options)
        some, none = told.estimates
        assert some.lines()[0] == "mine: rows and time unknown"
        assert some.lines()[-1].endswith(" for 12 samples, without mine, whose time is unknown")
        assert none.lines() == [
            "torchattacks:PGD: rows and time unknown",
            "in all for 12 samples: time unknown",
        ]

    @pytest.mark.usefixtures("attacks_as_before")
    def test_an_attack_of_a_user_with_a_driver_is_planned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = examples("how-to/add-an-attack.md")["random_search.py"]
        Path("random_search.py").write_text(text, encoding="utf-8")
        told = Told()
        source = "random_search.py:random_search"
        evaluate(Constant(), data(), "run", eps=0.1, attacks=[source], watcher=told, dry_run=True)
        assert told.estimates[0].runs[0].rows == PlannedRows(21, 0)

    def test_radii_and_models_add_up(self) -> None:
        row = PlannedRows(10, 5)
        runs = tuple(PlannedRun(model, "pgd", row, 0.5) for model in ("a", "a", "b", "b"))
        found = Estimate(runs, samples=20, workers=4, times={}, reasons={})
        assert found.lines() == [
            "pgd: at most 20 forward and 10 backward rows a sample, about 10 s",
            "in all about 10 s for 20 samples and 2 models, shared by 4 workers",
        ]

    def test_a_model_that_fails_is_not_timed(self, tmp_path: Path) -> None:
        def failing(rows: Tensor) -> Tensor:
            raise RuntimeError("out of order")

        told = Told()
        evaluate(
            {"net": failing},
            data(),
            tmp_path / "run",
            eps=0.1,
            attacks=["rays"],
            watcher=told,
            dry_run=True,
        )
        first, total, reason = told.estimates[0].lines()
        assert first.endswith("rows a sample, time unknown")
        assert total == "in all for 12 samples: time unknown"
        assert reason.startswith("net is not timed: ")
        assert "out of order" in reason

    def test_no_dry_run_overwrites(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="dry_run writes nothing, and overwrite replaces"):
            evaluate(Constant(), data(), tmp_path, attacks=["fgsm"], dry_run=True, overwrite=True)

    def test_timing_is_in_no_record(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"eps": 0.1, "attacks": ["pgd", "rays"], "max_queries": 40}
        evaluate(Constant(), data(), tmp_path / "a", **options)
        told = Told()
        evaluate(Constant(), data(), tmp_path / "b", watcher=told, **options)
        left, right = (read_records(tmp_path / name) for name in ("a", "b"))
        columns = [name for name in left if name != "seconds"]
        assert left[columns].equals(right[columns])
        assert len(told.estimates) == 1

    def test_timing_leaves_streams_and_modes(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)).train()
        before = torch.get_rng_state()
        found = time_rows(model, data().x, SETTINGS, True)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert found.forward > 0
        assert found.classes == 3
        assert found.seconds(2, 1) == pytest.approx(2 * found.forward + found.backward)

    def test_a_slow_model_is_timed_on_few_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()

        class Slow(Constant):
            def forward(self, rows: Tensor) -> Tensor:
                clock.now += 0.25 * len(rows)
                return super().forward(rows)

        monkeypatch.setattr(timing.time, "perf_counter", clock)
        model = Slow()
        found = time_rows(model, data(64).x, SETTINGS, False)
        assert found.forward == pytest.approx(0.25)
        assert model.rows == 2 * timing.FIRST

    def test_what_is_done_is_not_counted_again(self) -> None:
        row = PlannedRows(10, 5)
        runs = tuple(PlannedRun("a", attack, row, 0.5) for attack in ("pgd", "rays"))
        found = Estimate(runs, 20, 1, {}, {}, ended={0: 20, 1: 4}, units=(6, 10))
        assert found.lines() == [
            "pgd: at most 10 forward and 5 backward rows a sample, done",
            "rays: at most 10 forward and 5 backward rows a sample, about 8 s",
            "6 of 10 units are done, the rest takes about 8 s",
        ]

    def test_a_dry_run_and_a_resumed_run_tell_the_rest(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"eps": 0.1, "attacks": ["pgd", "fgsm"], "chunk_size": 6}
        evaluate(Constant(), data(), tmp_path / "run", shard=(0, 2), **options)
        told = Told()
        dry = {"watcher": told, "dry_run": True, **options}
        assert evaluate(Constant(), data(), tmp_path / "run", **dry).missing == 2
        evaluate(Constant(), data(), tmp_path / "run", watcher=told, **options)
        for estimate in told.estimates:
            assert estimate.units == (2, 4)
            assert estimate.seconds == pytest.approx(
                6 * sum(run.seconds or 0 for run in estimate.runs)
            )
            assert estimate.lines()[-1].startswith("2 of 4 units are done, the rest takes about ")
        assert evaluate(Constant(), data(), tmp_path / "run", **dry).missing == 0
        assert told.estimates[-1].lines() == ["4 of 4 units are done: nothing is left to do"]

    def test_a_complete_run_is_not_timed_again(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"eps": 0.1, "attacks": ["fgsm"]}
        evaluate(Constant(), data(), tmp_path / "run", **options)
        told = Told()
        evaluate(Constant(), data(), tmp_path / "run", watcher=told, **options)
        assert told.estimates == []

    def test_rows_of_draws_are_told(self, tmp_path: Path) -> None:
        told = Told()
        options: dict[str, Any] = {"watcher": told, "dry_run": True, "eps": 0.1}
        evaluate(Constant(), data(), tmp_path, attacks=["fgsm"], draws=4, **options)
        assert (
            told.estimates[-1]
            .lines()[-1]
            .startswith(
                "model answers at random: each row is 4 rows of it, and each candidate is verified by"
            )
        )

    def test_a_dry_run_of_transfers_tells_rows_and_what_is_left(self, tmp_path: Path) -> None:
        told = Told()
        nets = {name: Constant() for name in "ab"}
        arguments = {"hmcam": {"num_steps": 3, "num_transitions": 2}, "pgd": {"num_steps": 5}}
        options: dict[str, Any] = {
            "eps": (0.1, 0.2),
            "seeds": (0, 1),
            "attack_args": arguments,
            "chunk_size": 6,
        }
        dry = {"watcher": told, "dry_run": True, **options}
        out = tmp_path / "run"
        found = transfer(nets, None, data(), ["pgd", "hmcam"], str(out), **dry)
        assert found.missing == 2 * 2 * 2 * 2 * 2
        assert list(tmp_path.iterdir()) == []
        run = transfer(nets, None, data(), ["pgd", "hmcam"], str(out), shard=(0, 2), **options)
        assert (nets["a"].rows, run.missing) > (0, 0)
        transfer(nets, None, data(), ["pgd", "hmcam"], str(out), **dry)
        whole, rest = told.estimates
        clean, pgd, tried, hmcam, total = whole.lines()
        assert clean.startswith("clean samples: at most 1 forward and 0 backward rows a sample, ")
        assert pgd.startswith("pgd: at most 28 forward and 20 backward rows a sample, about ")
        assert hmcam.startswith("hmcam: at most 28 forward and 24 backward rows a sample, about ")
        assert tried.startswith(
            "examples on targets: at most 32 forward and 0 backward rows a sample, about "
        )  # of each crafting 1, and of hmcam's 2 states too
        assert total.startswith("in all about ")
        assert total.endswith(" for 12 samples and 2 models")
        assert rest.units == (16, 32)
        crafted = [place for place, one in enumerate(rest.runs) if one.attack == "pgd"]
        assert [rest.ended[place] for place in crafted] == [12, 0] * 4
        transfer(nets, None, data(), ["pgd", "hmcam"], str(out), **options)
        transfer(nets, None, data(), ["pgd", "hmcam"], str(out), **dry)
        assert told.estimates[-1].lines() == ["32 of 32 units are done: nothing is left to do"]
        with pytest.raises(ValueError, match="dry_run writes nothing, and overwrite replaces"):
            transfer(nets, None, data(), ["pgd"], str(out), dry_run=True, overwrite=True)


def estimate_of(*seconds: float, workers: int = 1) -> Estimate:
    """Estimate of attacks on one model, each row of which takes a second."""
    runs = tuple(
        PlannedRun("net", f"a{place}", PlannedRows(round(one)), one)
        for place, one in enumerate(seconds)
    )
    return Estimate(runs, 20, workers, {"net": RowTime(1.0, 0.0, 3)}, {})


def followed(
    estimate: Estimate,
    clock: Clock,
    ended: Mapping[int, Any] | None = None,
    sizes: tuple[int, ...] = (10, 10),
) -> tuple[RunProgress, list[RunState]]:
    states: list[RunState] = []
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    chunks = {
        number: (start, start + size)
        for number, (start, size) in enumerate(zip(starts, sizes, strict=True))
    }
    return RunProgress(estimate, chunks, ended or {}, states.append, clock), states


class TestProgress:
    def test_the_estimate_is_corrected_by_what_units_took(self) -> None:
        clock = Clock()
        run, states = followed(estimate_of(1.0, 3.0), clock)
        assert run.state == RunState(0.0, 80.0, "", None)
        run.begin(0, 0, 10, "net, a0, eps 0.1")
        clock.now += 20  # for ten seconds of rows
        run.end(10, 0)
        # twice as slow: 60 s for the second attack, and all of it again for the second chunk
        assert states[-1].left == pytest.approx(60 + 80, rel=0.07)
        assert states[-1].share == pytest.approx(20 / 160, rel=0.1)
        run.begin(0, 1, 5, "net, a1, eps 0.1")
        # half of the samples are left to the second attack
        assert states[-1].left == pytest.approx(30 + 20 + 30, rel=0.07)
        clock.now += 10
        run.within(0.5, 4)
        # quicker than its rows say, which the second chunk will be too
        assert 7.5 + 20 + 20 < states[-1].left < 15 + 20 + 30
        assert states[-1].robust == 0.8  # of both chunks
        assert states[-1].current == "net, a1, eps 0.1"
        shares = [state.share for state in states]
        assert shares == sorted(shares)

    def test_samples_that_end_early_do_not_make_rows_quicker(self) -> None:
        clock = Clock()
        run, states = followed(estimate_of(1.0, 3.0), clock, sizes=(10,))
        run.begin(0, 0, 10, "")
        clock.now += 2
        run.end(2, 0)  # a fifth of the rows
        assert states[-1].left == pytest.approx(30)

    def test_the_time_left_moves_within_a_unit_and_has_no_jumps(self) -> None:
        clock = Clock()
        run, states = followed(estimate_of(0.1, 10.0), clock, sizes=(10, 10, 10, 10))
        left = []
        for number in range(4):
            run.begin(number, 0, 10, "a0")
            clock.now += 8  # eight times as long as its rows say
            run.end(10, 0)
            run.begin(number, 1, 10, "a1")
            for step in range(1, 101):
                clock.now += 0.1  # a tenth of the estimate
                run.within(step / 100, number)
                left.append(states[-1].left)
            run.end(10, 0)
        assert left[0] < 8 * 400  # the short unit is not taken for the whole
        changes = [after / before for before, after in pairwise(left[:390])]
        assert max(changes) < 1.3
        assert min(changes) > 0.6  # where eight seconds pass too
        assert len({round(one, 3) for one in left[:100]}) > 90, "it moves within the first unit"
        assert 3 * 18 < left[99] < 2 * 3 * 18  # and 404 at the beginning
        assert left[-1] == pytest.approx(0, abs=0.01)

    def test_robust_is_a_bound_over_all_samples(self) -> None:
        run, states = followed(estimate_of(1.0, 3.0), Clock())
        run.failed("net", 0, 1)
        run.failed("other", 0, 9)
        run.begin(0, 0, 10, "")
        assert states[-1].robust == 0.95
        run.within(0.5, 8)
        assert states[-1].robust == 0.6
        run.within(0.6, None)  # a detector has not judged its successes
        assert states[-1].robust == 0.6
        run.end(10, 0)
        run.begin(1, 0, 10, "")
        run.within(0.5, 2)
        assert states[-1].robust == 0.5

    @pytest.mark.parametrize("mode", ["cascade", "independent"])
    def test_no_verdict_is_above_the_bound(self, tmp_path: Path, mode: str) -> None:
        model, x, y = digits(n=40, robust=True)
        told = Told()
        options: dict[str, Any] = {"eps": (0.05, 0.15), "chunk_size": 10, "mode": mode}
        outcome = evaluate(
            model, (x, y), tmp_path / "run", attacks=["fgsm", "pgd"], watcher=told, **options
        )
        bounds = [state.robust for state in told.states if state.robust is not None]
        verdict = outcome.verdicts[0].worst[-1].robust_accuracy
        assert bounds == sorted(bounds, reverse=True)
        assert bounds[-1] == pytest.approx(verdict)
        assert bounds[0] > verdict

    def test_a_resumed_run_starts_where_it_is(self) -> None:
        clock = Clock()
        run, states = followed(estimate_of(1.0, 3.0), clock, ended={0: [0, 1], 1: [0]})
        assert run.state.share == pytest.approx(50 / 80)
        assert run.state.left == pytest.approx(30)
        run.begin(1, 1, 10, "")
        clock.now += 30
        run.end(30, 0)
        assert states[-1].share == pytest.approx(1.0)
        assert states[-1].left == 0

    def test_workers_end_whole_chunks(self) -> None:
        clock = Clock()
        run, states = followed(estimate_of(1.0, 3.0, workers=2), clock, sizes=(5, 5, 5, 5))
        assert run.state.left == pytest.approx(40)
        clock.now += 20
        run.end_chunk(0, 0.7)
        run.end_chunk(1, 0.7)
        assert states[-1].robust == pytest.approx(0.85)  # the other half may hold
        assert states[-1].left == pytest.approx(20)
        assert states[-1].share == pytest.approx(0.5)
        clock.now += 20
        run.end_chunk(2, 0.7)
        run.end_chunk(3, None)
        assert states[-1].share == pytest.approx(1.0)

    def test_unknown_times_weigh_as_much_as_the_mean(self) -> None:
        runs = (PlannedRun("net", "a", None, None), PlannedRun("net", "b", PlannedRows(2), 2.0))
        run, _ = followed(Estimate(runs, 20, 1, {}, {}), Clock())
        assert run.state.left == pytest.approx(80)
        nobody, _ = followed(Estimate(runs[:1], 20, 1, {}, {}), Clock())
        assert nobody.state.share == 0.0

    def test_a_run_goes_from_nothing_to_all(self, tmp_path: Path) -> None:
        told = Told()
        panel: list[str | Attack] = ["pgd", "rays"]
        options: dict[str, Any] = {"eps": (0.1, 0.2), "max_queries": 30, "chunk_size": 5}
        evaluate(
            {"net": Constant()}, data(), tmp_path / "run", attacks=panel, watcher=told, **options
        )
        shares = [state.share for state in told.states]
        assert shares == sorted(shares)
        assert shares[0] < 0.2
        assert shares[-1] == pytest.approx(1.0)
        assert told.states[-1].left == 0
        assert told.states[-1].robust == 1.0
        names = {state.current for state in told.states}
        assert names == {"net, pgd, eps 0.1", "net, pgd, eps 0.2", "net, rays, eps 0.2"}

    def test_workers_of_this_machine_share_one_bar(self, tmp_path: Path) -> None:
        told = Told()
        evaluate(
            {"net": Constant()},
            data(),
            tmp_path / "run",
            eps=0.1,
            attacks=["fgsm"],
            workers=1,
            chunk_size=6,
            rebuild=rebuilt,
            watcher=told,
        )
        assert told.estimates[0].workers == 1
        assert [state.robust for state in told.states] == [1.0, 1.0]
        assert told.states[-1].share == pytest.approx(1.0)


def rebuilt() -> tuple[dict[str, nn.Module], Dataset]:
    return {"net": Constant()}, data()


class TestLine:
    state = RunState(0.25, 75.0, "net, rays, eps 0.1", 0.612)

    def test_off_a_terminal_a_line_every_half_minute(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        clock = Clock()
        line = Line(clock)
        for _ in range(130):
            line.show(self.state)
            clock.now += 0.5
        line.close()
        shown = capsys.readouterr().err.splitlines()
        assert shown == ["25 %, 75 s left, net, rays, eps 0.1, robust <= 61.2 %"] * 2

    def test_on_a_terminal_one_bar(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        clock = Clock()
        line = Line(clock)
        for share in (0.1, 0.25):
            line.show(RunState(share, 75.0, "net, rays, eps 0.1", 0.612))
            clock.now += 0.3
        line.close()
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        last = shown.split("\r")[-1]
        assert last.startswith(" 25%|")
        assert "75 s left, net, rays, eps 0.1, robust <= 61.2 %" in last

    def test_what_is_unknown_is_left_out(self) -> None:
        assert described(RunState(0.0, 0.2, "", None)) == "0.2 s left"


FACTORY = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""


class TestCommand:
    @pytest.fixture
    def command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "net.py").write_text(FACTORY)
        given = "evaluate --model net.py:build --data digits --n 8 --eps 0.1 --panel quick"
        return [*given.split(), "--out", "run"]

    def test_a_dry_run_prints_the_plan(self, command: list[str]) -> None:
        for quiet in ([], ["--quiet"]):
            done = CliRunner().invoke(app, [*command, "--dry-run", *quiet])
            assert done.exit_code == 0, done.output
            lines = done.stdout.splitlines()
            assert [line.partition(":")[0] for line in lines[:3]] == ["pgd", "frank_wolfe", "rays"]
            assert "at most 22 forward and 20 backward rows a sample" in lines[0]
            assert lines[3].startswith("in all about ")
            assert len(lines) == 4
            assert not Path("run").exists()

    def test_a_dry_run_overwrites_nothing(self, command: list[str]) -> None:
        Path("run").mkdir()
        Path("run/notes.txt").write_text("mine")
        done = CliRunner().invoke(app, [*command, "--dry-run", "--overwrite"])
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert "dry_run writes nothing, and overwrite replaces an earlier run" in done.stderr
        assert os.listdir("run") == ["notes.txt"]

    @pytest.mark.parametrize(("rank", "shown"), [("0", True), ("1", False)])
    def test_the_first_process_shows_the_plan(
        self, command: list[str], rank: str, shown: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        done = CliRunner().invoke(app, [*command, "--chunk-size", "4"])
        assert done.exit_code == 0, done.output
        assert ("in all about" in done.stderr) == shown


class TestNotes:
    """A line before the run where an option is not taken as one may expect."""

    @pytest.fixture
    def call(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "net.py").write_text(FACTORY)
        given = "evaluate --model net.py:build --data digits --out run --dry-run"
        return lambda text: CliRunner().invoke(app, [*given.split(), *text.split()])

    def test_a_panel_keeps_its_own_budget(self, call: Any) -> None:
        note = (
            "panel standard: rays keeps its own max_queries 200. --attack-args"
            " rays.max_queries=300 changes it"
        )
        panel = "--n 4 --eps 0.1 --panel standard"
        kept = call(f"{panel} --max-queries 300")
        assert note in kept.stderr.splitlines()
        assert "rays: at most 200 forward" in kept.stdout
        changed = call(f"{panel} --max-queries 300 --attack-args RayS.max_queries=300")
        assert "keeps its own" not in changed.stderr
        assert "rays: at most 300 forward" in changed.stdout
        for other in (f"{panel} --max-queries 200", panel, f"{panel} --max-queries 9 --quiet"):
            assert "keeps its own" not in call(other).stderr

    def test_a_panel_without_own_budgets_takes_that_of_the_run(self, call: Any) -> None:
        done = call("--n 4 --eps 0.1 --panel black-box --max-queries 300")
        assert "keeps" not in done.stderr
        assert "rays: at most 300 forward" in done.stdout

    def test_fewer_samples_and_radii_than_given(self, call: Any) -> None:
        lines = call("--n 5000 --eps 0.1,1/10,0.2 --attack fgsm").stderr.splitlines()
        assert "eps 0.1 was given more than once, and is attacked once" in lines
        (line,) = [one for one in lines if one.startswith("n 5000: ")]
        assert line.endswith(", and all are taken")
        usual = call("--n all --eps 0.1 --attack fgsm").stderr + call("--eps 0.1").stderr
        assert "all are taken" not in usual
        assert "more than once" not in usual
