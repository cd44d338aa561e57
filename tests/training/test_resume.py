"""A run that is killed anywhere and resumed ends as one that was not: weights, losses, history,
bit for bit.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from art_ext.training import (
    RECIPES,
    Atcd,
    Fast,
    Free,
    GradAlign,
    Mmc,
    Mmlda,
    Pgd,
    Rce,
    TrackLossIncrement,
    TrainingResult,
    War,
    train,
)
from art_ext.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from art_ext.training.runs.defaults import takes_radius
from tests.training._stopping import Stopped, stop_at_save

WORKER = Path(__file__).with_name("_killing.py")
SIX_SAVES = {"epochs": 6}  # of five minibatches each
# the last layer is replaced, and a wrong centre is drawn for each sample and update
MMC: dict[str, Any] = {
    "craft": "pgd",
    "num_steps": 2,
    "gain": "objective",
    "target": "random",
    "dim": 12,
    "centre_norm": 2.0,
}
# checks often, and repairs after any fall
PLUS: dict[str, Any] = {"check_every": 3, "drop": 0.0, "num_steps": 2}
MANY_SAVES = {"epochs": 6, "checkpoint_every": 4}
TRICKS: dict[str, Any] = {
    "gradient_centralisation": "all",
    "decay": "weights",
    "clean_forwards": 2,
    "outer_loss": "dlr",
    "craft_loss": "cw",
}


def extra_data(folder: Path) -> dict[str, Any]:
    """Write samples with pseudo-labels, and return the options of a run with them."""
    generator = np.random.default_rng(4)
    file = folder / "extra.npz"
    x = generator.random((50, 1, 8, 8), dtype=np.float32)
    np.savez(file, x=x, y=np.arange(50) % 10)
    return {"extra_data": [str(file)], "extra_share": 0.3, "extra_weight": 0.5}


def rows(folder: Path) -> list[dict[str, float]]:
    """The history, less what a clock says."""
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


def kill_and_compare(folder: Path, cases: list[dict[str, Any]], timeout: float) -> set[str]:
    """Run the cases; returns the places of the kills."""
    outcome = subprocess.run(
        [sys.executable, str(WORKER), str(folder), json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
    )
    assert outcome.returncode == 0, outcome.stderr
    happened = json.loads(outcome.stdout)
    places = set()
    for case in cases:
        found = happened[case["name"]]
        assert found["statuses"] == [0, 0], outcome.stderr
        assert len(found["killed"]) == case["kills"]
        places |= set(found["killed"])
        whole, killed = folder / case["name"] / "whole", folder / case["name"] / "killed"
        for name in case.get("files", ("model.safetensors", "best.safetensors", "losses")):
            assert (whole / name).read_bytes() == (killed / name).read_bytes(), (case["name"], name)
        assert rows(whole) == rows(killed)
        names = [
            sorted(path.name for path in (at / "checkpoints").iterdir()) for at in (whole, killed)
        ]
        assert names[0] == names[1]  # no temporary folder, no old checkpoint
        assert len(names[0]) == 2
        assert not list(killed.glob(".*"))
    return places


def case(
    recipe: str, options: dict[str, Any], kills: int, unusual: bool = False, **arguments: Any
) -> dict[str, Any]:
    """A run to kill; ``unusual`` has a frozen BatchNorm, an unused layer and a plateau
    scheduler.
    """
    return {
        "name": recipe + "-".join(options) + "-unusual" * unusual,
        "recipe": recipe,
        "arguments": {
            **({"eps": 0.1} if recipe in RECIPES and takes_radius(recipe) else {}),
            **arguments,
        },
        "options": options,
        "kills": kills,
        "seed": len(recipe) + kills,
        "unusual": unusual,
    }


def test_killed_a_few_times(tmp_path: Path) -> None:
    options = {**MANY_SAVES, "epochs": 4}
    cases = [
        case("free", options, 3, num_replays=2),
        case("free", options, 3, unusual=True, num_replays=2),
    ]
    places = kill_and_compare(tmp_path, cases, 240)
    for folder in ("whole", "killed"):
        rates = {row["learning_rate"] for row in rows(tmp_path / cases[1]["name"] / folder)}
        assert min(rates) < 0.02  # the scheduler is at work
    assert len(places) > 1  # while training, and inside a save


def labels_are_equal(folder: Path) -> bool:
    """Return True if teacher and soft labels of a killed run are those of the whole one."""
    pairs = [
        [(folder / one / f"{name}.safetensors").read_bytes() for one in ("whole", "killed")]
        for name in ("teacher", "soft_labels")
    ]
    return all(whole == killed for whole, killed in pairs)


def test_a_distillation_killed_a_few_times(tmp_path: Path) -> None:
    one = case("distillation", {**MANY_SAVES, "epochs": 2}, 3)
    kill_and_compare(tmp_path, [one], 240)
    assert labels_are_equal(tmp_path / one["name"])


def of_generator(epochs: int, kills: int) -> dict[str, Any]:
    """The training of a generator, of whose steps ten make an epoch."""
    options = {"epochs": epochs, "latent_dim": 4, "width": 4}
    wanted = {"files": ("generator.safetensors", "generator.json"), "span": 25}
    return {**case("generator", options, kills), **wanted}


def checkpoint_tensors(folder: Path) -> dict[str, bytes]:
    """The tensors of the checkpoints of a run, both optimisers' among them, by place."""
    found = sorted((folder / "checkpoints").glob("*/tensors.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def kill_generator(folder: Path, epochs: int, kills: int) -> set[str]:
    one = of_generator(epochs, kills)
    places = kill_and_compare(folder, [one], 600)
    whole, killed = (checkpoint_tensors(folder / one["name"] / at) for at in ("whole", "killed"))
    assert len(whole) == 2
    assert whole == killed
    return places


def test_a_generator_killed_a_few_times(tmp_path: Path) -> None:
    kill_generator(tmp_path, 6, 3)


@pytest.mark.slow
def test_a_generator_killed_ten_times(tmp_path: Path) -> None:
    places = kill_generator(tmp_path, 16, 10)
    assert len(places) > 3  # while training, and inside a save


@pytest.mark.slow
def test_a_distillation_killed_ten_times_in_both_phases(tmp_path: Path) -> None:
    options = {"epochs": 9, "ema": 0.5}
    cases = [
        case("distillation", {**MANY_SAVES, **options}, 10, temperature=20.0),
        case("distillation", options, 10, temperature=20.0),
        case("distillation", {**MANY_SAVES, **options}, 10, unusual=True, warm_epochs=0),
    ]
    places = kill_and_compare(tmp_path, cases, 900)
    assert len(places) > 3  # while training, and inside a save
    assert all(labels_are_equal(tmp_path / one["name"]) for one in cases)


@pytest.mark.slow
def test_an_ensemble_killed_ten_times(tmp_path: Path) -> None:
    options = {"epochs": 9, "ema": 0.5}
    arguments: dict[str, Any] = {"adversarial": "regularised", "num_steps": 2}
    cases = [
        case("adp", {**MANY_SAVES, **options}, 10, **arguments),
        case("adp", options, 10, members=2),
    ]
    places = kill_and_compare(tmp_path, cases, 900)
    assert len(places) > 2  # while training, and inside a save


@pytest.mark.slow
def test_tricks_killed_ten_times(tmp_path: Path) -> None:
    one = case("pgd", {**MANY_SAVES, **TRICKS, "epochs": 16}, 10, num_steps=2, mixture=0.5)
    places = kill_and_compare(tmp_path, [one], 900)
    assert len(places) > 2  # while training, and inside a save


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    long = {"epochs": 16}
    cases = [
        case("atcd", {**MANY_SAVES, **long}, 10, num_replays=2, num_steps=2),
        case("free", {**SIX_SAVES, **long}, 10, num_replays=3),
        case("free", {**MANY_SAVES, **long}, 10, num_replays=3),
        case(
            "war", {**SIX_SAVES, **long}, 10, num_steps=2, rule="printed", zeta=1000.0, alpha=1e-3
        ),
        case("war", {**MANY_SAVES, **long}, 10, num_steps=2, zeta=20.0, hold_epochs=2.5),
        case("backward-smoothing", {**MANY_SAVES, **long}, 10),
        case("fast", {**MANY_SAVES, **long}, 10, start="previous"),
        case("grad-align", {**MANY_SAVES, **long}, 10, weight=0.2),
        case("yopo", {**MANY_SAVES, **long}, 10, num_outer=2),
        case("yopo-trades", {**SIX_SAVES, **long}, 10, num_outer=1),
        case("fast-plus", {**MANY_SAVES, **long}, 10, **PLUS),
        case("pgd", {**SIX_SAVES, **long}, 10, unusual=True, num_steps=2),
        case("trades", {**MANY_SAVES, **long, **extra_data(tmp_path)}, 10, num_steps=2),
        case("mmc", {**MANY_SAVES, **long, "learning_rate": 0.01}, 10, **MMC),
        case("mmc", {**SIX_SAVES, **long, "learning_rate": 0.01}, 10, craft="fast", gain="margin"),
        case("atcd", {**MANY_SAVES, **long}, 10, unusual=True, num_replays=2, num_steps=2),
        case("war", {**MANY_SAVES, **long}, 10, unusual=True, num_steps=2, zeta=20.0),
    ]
    places = kill_and_compare(tmp_path, cases, 900)
    assert len(places) == 6  # while training, and at every place of a save


# --- stopped within this process ---


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    """Forty images (40, 1, 4, 4) of three classes."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(40, 1, 4, 4, generator=generator), torch.arange(40) % 3


def build() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64, 3),
        )


def check_stopped_and_resumed(
    go: Callable[..., TrainingResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> tuple[TrainingResult, TrainingResult]:
    """Train once as a whole and once in two parts; all that comes out must be equal."""
    whole = go(checkpoint_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at_save(patch, number)
        with pytest.raises(Stopped):
            go(checkpoint_dir=tmp_path / "parts")
    parts = go(checkpoint_dir=tmp_path / "parts", resume=True)
    assert torch.equal(whole.losses, parts.losses)
    assert whole.losses[0] != whole.losses[-1]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, parts.model.state_dict()[name]), name
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert [row | {"seconds": 0} for row in parts.history] == [
        row | {"seconds": 0} for row in rows(tmp_path / "parts")
    ]
    assert (whole.updates, whole.forwards, whole.backwards) == (
        parts.updates,
        parts.forwards,
        parts.backwards,
    )
    assert whole.best_epoch == parts.best_epoch
    if whole.best is not None and parts.best is not None:
        assert all(torch.equal(whole.best[name], parts.best[name]) for name in whole.best)
    return whole, parts


CASES: dict[str, dict[str, Any]] = {
    "momentum": {},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "ema": {"ema": 0.8, "validation": 8},
    "validation": {"validation": 8, "learning_rate": 0.5},
    "schedule": {"schedule": "cosine", "warmup_epochs": 2, "eps_warmup_epochs": 3},
    "augmentation": {
        "augmentation": lambda x, ids, seed, epoch: x.roll(epoch, dims=3),
        "label_smoothing": 0.1,
    },
    "bf16": {"precision": "bf16"},
    "measures": {
        "validation": 8,
        "track": ("stability", "hessian"),
        "callbacks": [TrackLossIncrement(every=1)],
    },
}


@pytest.mark.parametrize("every", [None, 3])
@pytest.mark.parametrize("passes", [40.0, 54.0])
def test_stopped_with_a_budget_of_passes(
    passes: float,
    every: int | None,
    samples: tuple[Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Moves of half the box on steep losses: rows are rejected and sent again, so the run ends
    before its plan.
    """

    def go(**options: Any) -> TrainingResult:
        recipe = Atcd(eps=0.5, num_replays=2, num_steps=1)
        return train(
            build(),
            samples,
            recipe,
            passes=passes,
            batch_size=16,
            learning_rate=1.0,
            checkpoint_every=every,
            **options,
        )

    whole, _ = check_stopped_and_resumed(go, tmp_path, monkeypatch, 2)
    assert any(row["acceptance"] < 1 for row in whole.history)
    assert passes - 4 * 16 / 40 < (whole.forwards + whole.backwards) / 40 <= passes
    again = go(checkpoint_dir=tmp_path / "whole", resume=True)
    assert again.updates == whole.updates
    assert len(again.history) == len(whole.history)


@pytest.mark.parametrize("every", [None, 3])
@pytest.mark.parametrize("name", CASES)
def test_stopped_with(
    name: str,
    every: int | None,
    samples: tuple[Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def go(**options: Any) -> TrainingResult:
        recipe = Free(eps=0.1, num_replays=2)
        return train(
            build(),
            samples,
            recipe,
            epochs=4,
            batch_size=16,
            checkpoint_every=every,
            **CASES[name],
            **options,
        )

    check_stopped_and_resumed(go, tmp_path, monkeypatch, 2)


@pytest.mark.parametrize(
    "recipe",
    [
        Atcd(eps=0.1, num_replays=2),
        Atcd(eps=0.1, num_replays=2, order="fresh", rho=0.0),
        War(eps=0.1, num_steps=2, rule="printed", zeta=1000.0, alpha=1e-3, ema=0.5),
        War(eps=0.1, num_steps=2, rule="printed", zeta=1000.0, alpha=1e-3, regulariser="at"),
        War(eps=0.1, num_steps=2, zeta=20.0, hold_epochs=1.5),
        War(eps=0.1, num_steps=2, zeta=20.0, hold_epochs=0.3, regulariser="at"),
        Pgd(eps=0.1, num_steps=2, bn_mode="train"),
        Fast(eps=0.1, start="previous"),
        GradAlign(eps=0.1, weight=0.2),
        GradAlign(eps=0.1, weight=0.2, variant="both"),
        Rce(eps=0.1, craft="pgd", num_steps=2),
        Mmc(eps=0.1, **MMC),
        Mmlda(centres="optimised", dim=2, num_classes=3, centre_norm=2.0),
    ],
)
def test_stopped_in_mid_epoch(
    recipe: Any, samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> TrainingResult:
        return train(
            build(), samples, recipe, epochs=3, batch_size=8, checkpoint_every=2, **options
        )

    whole, _ = check_stopped_and_resumed(go, tmp_path, monkeypatch, 3)
    if isinstance(recipe, War):
        assert whole.history[-1]["lambda"] > 0  # the carried weight is at work


@pytest.mark.parametrize("every", ["epoch", "update"])
def test_stopped_with_the_callers_schedule(
    every: str, samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> TrainingResult:
        model = build()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=2, gamma=0.5)
        return train(
            model,
            samples,
            Pgd(eps=0.1, num_steps=1),
            epochs=4,
            batch_size=16,
            optimizer=optimiser,
            schedule=schedule,
            schedule_every=every,
            checkpoint_every=4,
            **options,
        )

    whole, _ = check_stopped_and_resumed(go, tmp_path, monkeypatch, 2)
    assert whole.history[-1]["learning_rate"] < 0.02


def test_a_schedule_without_a_state_is_not_resumed(
    samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        def step(self) -> None:
            pass

    def go(**options: Any) -> TrainingResult:
        return train(
            build(),
            samples,
            "natural",
            epochs=4,
            schedule=Nothing(),
            checkpoint_dir=tmp_path,
            **options,
        )

    stop_at_save(monkeypatch, 2)
    with pytest.raises(Stopped):
        go()
    with pytest.raises(
        ValueError, match=r"must have state_dict\(\) and load_state_dict\(\) to be resumed"
    ):
        go(resume=True)


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """A data set whose augmentation draws from torch's global stream, as torchvision's
    transforms do.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        return (self.x[at] + 0.1 * torch.rand_like(self.x[at])).clamp(0, 1), self.y[at]


@pytest.mark.parametrize("kind", [TensorDataset, Noisy])
def test_stopped_with_a_shuffling_loader(
    kind: Any, samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> TrainingResult:
        loader = DataLoader(kind(*samples), batch_size=8, shuffle=True)
        return train(
            build(), loader, Pgd(eps=0.1, num_steps=1), epochs=3, checkpoint_every=2, **options
        )

    check_stopped_and_resumed(go, tmp_path, monkeypatch, 3)


def test_an_error_inside_a_save_leaves_the_checkpoint_before(
    samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> TrainingResult:
        return train(
            build(), samples, Free(eps=0.1, num_replays=2), epochs=4, batch_size=16, **options
        )

    whole = go()
    calls = [0]

    def fail(path: Path) -> None:
        calls[0] += 1
        # tensors, rest, folder and parent of the first save; then within the second
        if calls[0] == 7:
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("art_ext.storage.store.to_disk", fail)
        with pytest.raises(OSError, match="no space left"):
            go(checkpoint_dir=tmp_path)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["update-000000006"]
    parts = go(checkpoint_dir=tmp_path, resume=True)
    assert torch.equal(whole.losses, parts.losses)
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_resuming_a_finished_run_gives_its_result_again(
    samples: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    def go(**options: Any) -> TrainingResult:
        recipe = Free(eps=0.1, num_replays=2)
        return train(
            build(),
            samples,
            recipe,
            epochs=3,
            batch_size=16,
            ema=0.5,
            validation=8,
            checkpoint_dir=tmp_path,
            **options,
        )

    first = go()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # as if it had been killed right after its last checkpoint
    (tmp_path / "history.jsonl").unlink()
    again = go(resume=True)
    assert torch.equal(first.losses, again.losses)
    assert (again.history, again.best_epoch) == (first.history, first.best_epoch)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True)
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_final_and_best_weights_lie_in_the_folder(
    samples: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    model = build()
    result = train(
        model,
        samples,
        "natural",
        epochs=3,
        batch_size=16,
        validation=8,
        ema=0.5,
        checkpoint_dir=tmp_path,
    )
    final, best = (
        load_file(tmp_path / "model.safetensors"),
        load_file(tmp_path / "best.safetensors"),
    )
    assert result.best is not None
    assert all(torch.equal(tensor, final[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, best[name]) for name, tensor in result.best.items())
    assert build().load_state_dict(final)


def test_seconds_add_up_over_the_parts(
    samples: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(**options: Any) -> TrainingResult:
        return train(
            build(), samples, "natural", epochs=3, batch_size=16, checkpoint_dir=tmp_path, **options
        )

    with monkeypatch.context() as patch:
        stop_at_save(patch, 2)
        with pytest.raises(Stopped):
            go()
    before = load_checkpoint(checkpoints(tmp_path / "checkpoints")[-1])["seconds"]
    result = go(resume=True)
    assert result.history[-1]["seconds"] > before > result.history[0]["seconds"]


def test_checkpoints_give_back_what_they_were_given(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(2, 3)
    state = {
        "numbers": [1, 0.1, 1e-300, float("inf"), True, None, "text"],
        "state": {0: {"step": torch.tensor(3.0), "buffer": tied.t()}, 7: {}},
        "same": [tied, tied],
        "empty": torch.zeros(0, 2),
        "whole": torch.tensor([1 << 40]),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    kept = copy.deepcopy(state)
    for update in (3, 20, 100):
        save_checkpoint(tmp_path, update, state)
    assert [path.name for path in checkpoints(tmp_path)] == ["update-000000020", "update-000000100"]
    found = load_checkpoint(tmp_path / "update-000000100")
    assert found["numbers"] == kept["numbers"]
    assert list(found["state"]) == [0, 7]
    assert torch.equal(found["state"][0]["buffer"], tied.t())
    assert torch.equal(found["same"][1], tied)
    assert found["empty"].shape == (0, 2)
    assert found["whole"].item() == 1 << 40
    assert found["half"].dtype == torch.bfloat16
