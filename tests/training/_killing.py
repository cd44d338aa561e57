"""Trains in child processes that are killed at seeded moments and resumed, until a run is through.

A process of its own, because a process that has used autograd must not be forked. Usage: FOLDER
    JSON, the latter a
list of cases {"name", "recipe", "arguments", "options", "kills", "seed", "unusual"}, of which the
recipe "generator" stands for the training of a generator; each case is trained into FOLDER/NAME/whole without a kill and into FOLDER/NAME/killed with them. What happened
is printed as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401  # children find imported what would cost each of them seconds
import safetensors.torch
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from art_ext.configuration.generator import GeneratorOptions
from art_ext.data import Dataset, load_data
from art_ext.storage.files import write_atomically
from art_ext.training import make_recipe, train
from art_ext.training.generators.loop import train_generator

PLACES = (
    "update",
    "torn tensors",
    "before the rename",
    "after the rename",
    "half pruned",
    "before the history",
)


def build(seed: int = 0) -> nn.Sequential:
    """A network with BatchNorm and dropout: both have a state of their own."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(36, 10),
    )


class Unused(nn.Module):
    """A network with a frozen BatchNorm and a layer that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = build()
        self.projection = nn.Linear(36, 5)
        self.body[1].eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


def unusual() -> tuple[nn.Module, dict[str, Any]]:
    """The network, and a plateau scheduler that follows a column which soon stops to rise."""
    model = Unused()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=0, mode="max"
    )
    return model, {"optimizer": optimizer, "schedule": schedule}


def run(folder: Path, case: dict[str, Any], data: tuple[Tensor, Tensor]) -> None:
    """Train, or go on with it."""
    torch.set_num_threads(1)
    if case["recipe"] == "generator":
        options = GeneratorOptions(batch_size=32, **case["options"])
        digits = Dataset("digits", *data)
        train_generator(digits, options, folder=folder, resume=True)
        return
    recipe = make_recipe(case["recipe"], **case["arguments"])
    model, more = unusual() if case["unusual"] else (recipe.build(build, 0), {})
    result = train(
        model,
        data,
        recipe,
        batch_size=32,
        validation=21,
        validation_steps=2,
        checkpoint_dir=folder,
        resume=True,
        **case["options"],
        **more,
    )
    write_atomically(folder / "losses", safetensors.torch.save({"losses": result.losses}))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(place: str, count: int) -> None:
    """Let this process be killed the so-many-th time it comes to a place."""
    left = [count]

    def here() -> bool:
        left[0] -= 1
        return left[0] == 0

    replace, rmtree, save = (os.replace, shutil.rmtree, safetensors.torch.save_file)

    def dying_update(*step: Any) -> None:
        if place == "update" and here():
            die()

    def dying_save(tensors: Any, file: Any) -> None:
        save(tensors, file)
        if place == "torn tensors" and here():
            os.truncate(file, Path(file).stat().st_size // 2)
            die()

    def dying_replace(source: Any, target: Any) -> None:
        checkpoint, history = (
            Path(target).name.startswith("update-"),
            Path(target).name == "history.jsonl",
        )
        if (
            place
            == ("before the rename" if checkpoint else "before the history" if history else "")
            and here()
        ):
            die()
        replace(source, target)
        if place == "after the rename" and checkpoint and here():
            die()

    def dying_rmtree(path: Any, **options: Any) -> None:
        if place == "half pruned" and Path(path).name.startswith("update-") and here():
            next(Path(path).iterdir()).unlink()
            die()
        rmtree(path, **options)

    register_optimizer_step_post_hook(dying_update)
    safetensors.torch.save_file = dying_save  # type: ignore[assignment]
    os.replace = dying_replace  # type: ignore[assignment]
    shutil.rmtree = dying_rmtree  # type: ignore[assignment]


def attempt(
    folder: Path, case: dict[str, Any], data: tuple[Tensor, Tensor], place: str | None, count: int
) -> int:
    """One child process; returns its status, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if place is not None:
                arm(place, count)
            run(folder, case, data)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, cases: list[dict[str, Any]]) -> None:
    digits = load_data("digits", split="train").first(150)
    data, happened = (digits.x, digits.y), {}
    for case in cases:
        chance = random.Random(case["seed"])
        killed: list[str] = []
        statuses = [attempt(folder / case["name"] / "whole", case, data, None, 0)]
        for number in range(3 * case["kills"]):
            if len(killed) == case["kills"]:
                break
            # saves are short: half of the kills would hardly meet one by themselves
            place = "update" if number % 2 == 0 else chance.choice(PLACES[1:])
            count = chance.randint(1, case.get("span", 6)) if place == "update" else 1
            status = attempt(folder / case["name"] / "killed", case, data, place, count)
            if status == -signal.SIGKILL:
                killed.append(place)
            elif status:
                statuses.append(status)
                break
            else:  # through already
                break
        statuses.append(attempt(folder / case["name"] / "killed", case, data, None, 0))
        happened[case["name"]] = {"killed": killed, "statuses": statuses}
    sys.stdout.write(json.dumps(happened) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
