"""Two processes share each minibatch and get what one gets, but for rounding; checkpoints pass
between them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from art_ext.training.checkpoints import checkpoints, load_checkpoint

WORKER = Path(__file__).with_name("_sharing.py")


def load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_sharing", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORK = load_worker()


def launch(script: Path, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Start two processes of a script on this machine's CPU."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
        str(script),
        *arguments,
    ]
    surroundings = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=surroundings
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs, on one process and on two, in one launch."""
    root = tmp_path_factory.mktemp("sharing")
    WORK.whole(root)
    WORK.stopped(root)
    outcome = launch(WORKER, str(root))
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    for other in ("1", "2"):
        WORK.resumed(root, other)
    return root


def results(folder: Path, processes: int, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    at = folder / "runs" / str(processes)
    return load_file(at / f"{name}.safetensors"), json.loads((at / f"{name}.json").read_text())


def check_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Losses as promised; weights less so, since rounding turns a sign of an input gradient here
    and there.
    """
    assert list(one) == list(other)
    for name in one:
        within = tolerance if name == "losses" else 10 * tolerance
        assert one[name].shape == other[name].shape
        assert float((one[name] - other[name]).abs().max()) < within, name


def check_same_history(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (one["updates"], one["forwards"], one["backwards"]) == (
        other["updates"],
        other["forwards"],
        other["backwards"],
    )
    for a, b in zip(one["history"], other["history"], strict=True):
        assert {n: v for n, v in a.items() if n != "seconds"} == pytest.approx(
            {n: v for n, v in b.items() if n != "seconds"}, rel=1e-3, abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", WORK.RECIPES)
def test_losses_and_weights_are_those_of_one_process(recipe: str, folder: Path) -> None:
    one, other = results(folder, 1, recipe), results(folder, 2, recipe)
    assert len(one[0]["losses"]) == (45 if recipe == "distillation" else 20)
    check_close(one[0], other[0])
    check_same_history(one[1], other[1])
    assert float(one[0]["losses"][0]) != float(one[0]["losses"][-1])
    if recipe == "war":
        assert [row["lambda"] for row in one[1]["history"]] != [0.0] * len(one[1]["history"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["loader", "uneven", "averaged", "passes", "previous", "tricks", "extra"]
)
def test_other_runs_are_those_of_one_process(name: str, folder: Path) -> None:
    one, other = results(folder, 1, name), results(folder, 2, name)
    check_close(one[0], other[0])
    check_same_history(one[1], other[1])


@pytest.mark.slow
def test_a_budget_of_passes_holds_over_both_processes(folder: Path) -> None:
    for processes in (1, 2):
        run = results(folder, processes, "passes")[1]
        spent = (run["forwards"] + run["backwards"]) / 101
        assert 25.3 - 6 * 24 / 101 < spent <= 25.3


@pytest.mark.slow
def test_a_perturbation_of_uneven_shares_is_gathered_in_order(folder: Path) -> None:
    deltas = []
    for processes in ("1", "2"):
        state = load_checkpoint(checkpoints(folder / "uneven" / processes / "checkpoints")[-1])
        deltas.append(state["carried"]["delta"])
    assert deltas[0].shape == (11, 1, 8, 8)
    assert float(deltas[0].abs().max()) == pytest.approx(0.1)
    torch.testing.assert_close(*deltas)


@pytest.mark.slow
def test_a_last_minibatch_with_a_row_for_one_process_only_is_left_out(folder: Path) -> None:
    assert results(folder, 1, "left-out")[1]["updates"] == 6
    found = results(folder, 2, "left-out")[1]
    assert (found["updates"], found["forwards"]) == (3, 72)
    assert [row["epoch"] for row in found["history"]] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("split", WORK.SPLITS)
@pytest.mark.parametrize("recipe", WORK.RESUMED)
def test_checkpoints_pass_from_any_number_of_processes_to_any(
    recipe: str, split: str, folder: Path
) -> None:
    name = f"{recipe}-{split}"
    reference = results(folder, 1, f"{name}-from-1")
    at = checkpoints(folder / "stopped" / "2" / name / "checkpoints")[-1]
    assert 0 < load_checkpoint(at)["update"] < reference[1]["updates"]
    assert (load_checkpoint(at)["batch"] > 0) == (split == "mid")
    for before, after in ((1, 2), (2, 1), (2, 2)):
        found = results(folder, after, f"{name}-from-{before}")
        check_close(reference[0], found[0], 5e-4)
        check_same_history(reference[1], found[1])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_both_processes(tmp_path: Path) -> None:
    script = tmp_path / "diverging.py"
    script.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from art_ext.training import train\n"
        "model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
        "train(model, (torch.rand(64, 4), torch.arange(64) % 2), 'natural', epochs=50, batch_size=32,\n"
        "      learning_rate=1e30)\n"
    )
    outcome = launch(script, timeout=120)
    assert outcome.returncode != 0
    assert "not finite" in outcome.stderr or "the loss is" in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [one for one in WORK.RECIPES if one not in WORK.ENSEMBLES])
def test_frozen_and_unused_layers_and_a_plateau_scheduler(recipe: str, folder: Path) -> None:
    """The right value of a16, for every recipe."""
    one, other = results(folder, 1, f"unusual-{recipe}"), results(folder, 2, f"unusual-{recipe}")
    check_close(one[0], other[0])
    check_same_history(one[1], other[1])
    begin = WORK.Unusual().state_dict()
    for name, value in begin.items():
        changes = (
            not name.startswith("projection")
            and "running" not in name
            and "num_batches" not in name
        )
        assert torch.equal(one[0][name], value) != changes, name
    # the loss of a student at T = 1 rises, and the scheduler waits for that
    assert one[1]["history"][-1]["learning_rate"] < 0.05 or recipe == "distillation"
    assert [row["learning_rate"] for row in one[1]["history"]] == [
        row["learning_rate"] for row in other[1]["history"]
    ]
