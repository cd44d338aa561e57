"""Trains on as many processes as ``torchrun`` starts, or on one, and writes down what came out.

Usage: FOLDER. Into FOLDER/runs/P go NAME.json and NAME.safetensors for each run on P processes;
    runs that stop half-way
leave their checkpoints in FOLDER/stopped/P/NAME.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.training import EpochEnd, TrainingResult, make_recipe, train
from art_ext.training.runs.defaults import takes_radius

# of TRADES: nearer to x, the divergence is so flat that rounding decides signs of its gradient
START = 0.05
RECIPES: dict[str, dict[str, Any]] = {
    "natural": {},
    "pgd": {"num_steps": 3},
    "trades": {"num_steps": 2, "start": START},
    "fast": {},
    "free": {"num_replays": 4},
    "grad-align": {"weight": 0.5},
    "fast-plus": {"check_every": 4, "drop": 0.0, "num_steps": 2},
    "cat": {"num_replays": 2, "num_steps": 2},
    "atcd": {"num_replays": 2, "num_steps": 2},
    "backward-smoothing": {},
    "war": {
        "num_steps": 2,
        "rule": "printed",
        "zeta": 1000.0,
        "alpha": 3e-4,
        "ema": 0.5,
        "start": START,
    },
    "yopo": {"num_outer": 3, "num_inner": 2},
    "yopo-trades": {"num_outer": 2, "num_inner": 2, "start": START},
    "distillation": {"temperature": 5.0},
    "rce": {},
    "mmlda": {"centre_norm": 2.0},
    # a wrong centre is drawn for each sample; centres of norm 10 would be far off at this rate
    "mmc": {
        "craft": "pgd",
        "num_steps": 3,
        "gain": "margin",
        "target": "random",
        "centre_norm": 2.0,
    },
    "adp": {"members": 2, "adversarial": "regularised", "num_steps": 2, "eps_range": (0.05, 0.1)},
}
ENSEMBLES = ("adp",)  # of three classes and two members, with radii of their own
RESUMED = ("free", "war", "atcd")
TRICKS: dict[str, Any] = {
    "gradient_centralisation": "all",
    "decay": "weights",
    "clean_forwards": 2,
    "outer_loss": "cw",
    "craft_loss": "cw",
    "scale_rate": True,
}
SPLITS = {"epoch": {}, "mid": {"checkpoint_every": 6}}


class Stopped(Exception):
    pass


def build(seed: int = 0) -> nn.Module:
    """A network without BatchNorm, whose statistics would be those of a process' own rows."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3))


class Unusual(nn.Module):
    """A network with a frozen BatchNorm and a layer that no output depends on, kept from
    pretraining.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), norm, nn.Tanh(), nn.Flatten())
        self.projection = nn.Linear(36, 5)
        self.head = nn.Linear(36, 3)
        for name, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0)):
            norm.get_buffer(name).uniform_(low, high)
        norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def unusual() -> dict[str, Any]:
    """The network, and a plateau scheduler that soon halves its rate."""
    model = Unusual()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=0, mode="max"
    )
    return {"model": model, "optimizer": optimizer, "schedule": schedule}


def samples(count: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 8, 8) images of three classes."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(3, (count,), generator=generator)
    x = 0.7 * torch.rand(count, 1, 8, 8, generator=generator)
    x[torch.arange(count), 0, 2 * y] += 0.3
    return x, y


def go(
    root: Path,
    name: str,
    data: Any,
    recipe: str,
    *,
    eps: float = 0.1,
    model: Any = None,
    arguments: Any = None,
    **options: Any,
) -> TrainingResult:
    radius = {"eps": eps} if takes_radius(recipe) else {}
    method = make_recipe(recipe, **radius, **RECIPES[recipe], **(arguments or {}))
    result = train(
        model or method.build(build, 0),
        data,
        method,
        # a determinant close to 0 has steep gradients, which at .05 magnify rounding
        **{"batch_size": 24, "learning_rate": 0.01 if recipe in ENSEMBLES else 0.05, **options},
    )
    process, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if process == 0:
        folder = root / "runs" / str(processes)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {"losses": result.losses, **result.model.state_dict()}, folder / f"{name}.safetensors"
        )
        kept = {
            "history": result.history,
            "updates": result.updates,
            "forwards": result.forwards,
            "backwards": result.backwards,
            "best_epoch": result.best_epoch,
        }
        (folder / f"{name}.json").write_text(json.dumps(kept))
    return result


def stop(end: EpochEnd) -> dict[str, float]:
    """Stops a run at the end of its second epoch, before the checkpoint of that."""
    if end.epoch == 2:
        raise Stopped
    return {}


def whole(root: Path) -> None:
    """Runs from beginning to end."""
    processes = os.environ.get("WORLD_SIZE", "1")
    data = samples(101)  # minibatches of 24, and a last one of 5: an uneven share for two
    for recipe in RECIPES:
        go(root, recipe, data, recipe, updates=20, validation_data=samples(33))
        if recipe in ENSEMBLES:
            continue
        go(
            root,
            f"unusual-{recipe}",
            data,
            recipe,
            epochs=3,
            validation_data=samples(33),
            **unusual(),
        )
    loader = list(zip(data[0].split(25), data[1].split(25), strict=True))[:4]
    go(root, "loader", loader, "free", updates=20)
    go(root, "uneven", samples(11), "free", epochs=3, checkpoint_dir=root / "uneven" / processes)
    go(root, "passes", data, "atcd", passes=25.3)
    go(root, "previous", data, "fast", arguments={"start": "previous"}, updates=20)
    go(root, "tricks", data, "pgd", epochs=4, **TRICKS)
    more: dict[str, Any] = {"extra_data": samples(31), "extra_share": 0.25, "extra_weight": 0.5}
    go(root, "extra", data, "pgd", updates=20, **more)
    go(root, "left-out", samples(25), "natural", epochs=3)
    go(
        root,
        "averaged",
        data,
        "pgd",
        epochs=2,
        ema=0.8,
        warmup_epochs=1,
        eps_warmup_epochs=1,
        label_smoothing=0.1,
    )


def stopped(root: Path) -> None:
    """Runs that stop in the second epoch."""
    for recipe in RESUMED:
        for split, options in SPLITS.items():
            folder = root / "stopped" / os.environ.get("WORLD_SIZE", "1") / f"{recipe}-{split}"
            with contextlib.suppress(Stopped):
                go(
                    root,
                    "never",
                    samples(101),
                    recipe,
                    epochs=4,
                    callbacks=[stop],
                    checkpoint_dir=folder,
                    **options,
                )


def resumed(root: Path, other: str) -> None:
    """Goes on with the runs that so many processes have left; each in a copy of its folder."""
    for recipe in RESUMED:
        for split, options in SPLITS.items():
            name, processes = f"{recipe}-{split}", os.environ.get("WORLD_SIZE", "1")
            folder = root / "resumed" / processes / other / name
            if os.environ.get("RANK", "0") == "0":
                shutil.copytree(root / "stopped" / other / name, folder)
            if processes != "1":
                torch.distributed.barrier()
            go(
                root,
                f"{name}-from-{other}",
                samples(101),
                recipe,
                epochs=4,
                checkpoint_dir=folder,
                resume=True,
                **options,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    whole(Path(sys.argv[1]))
    stopped(Path(sys.argv[1]))
    for number in ("1", "2"):
        resumed(Path(sys.argv[1]), number)
