"""What training refuses: data, models, options and folders that cannot be meant. Nothing is
written over.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from art_ext.tracking.backends import Wandb
from art_ext.training import Pgd, TrainingOptions, make_recipe, train
from art_ext.training.checkpoints import checkpoints, load_checkpoint
from art_ext.training.recipes import Natural

X = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 3
DATA = (X, Y)


def build(outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Checks that a run is refused with a message, before the folder it was given exists."""

    def check(
        message: str,
        data: Any = DATA,
        model: Any = None,
        recipe: Any = "natural",
        error: type[Exception] = ValueError,
        **options: Any,
    ) -> None:
        folder = tmp_path / "run"
        model = build() if model is None else model
        before = (
            [tensor.clone() for tensor in model.state_dict().values()]
            if isinstance(model, nn.Module)
            else []
        )
        with pytest.raises(error, match=message):
            train(
                model,
                data,
                recipe,
                **{"epochs": 1, "batch_size": 8, "checkpoint_dir": folder, **options},
            )
        assert not folder.exists()
        if isinstance(model, nn.Module):
            assert all(
                torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True)
            )

    return check


# --- data ---

IMAGES = {
    "none": (X[:0], Y[:0], "at least one sample"),
    "no features": (
        X[:, 0, 0, 0],
        Y,
        r"x must have shape \(N, \*S\) with at least one sample, got \(20,\)",
    ),
    "8 bits": ((255 * X).to(torch.uint8), Y, r"must be floating point, got torch.uint8.*255"),
    "outside": (
        255 * X,
        Y,
        r"x must lie in \[0, 1\]; got min=.*Put normalisation inside the model or set clip_values",
    ),
    "NaN": (
        X.masked_fill(X > 0.9, float("nan")),
        Y,
        "x must be finite, got NaN or infinity first in sample",
    ),
    "float labels": (
        X,
        Y.float(),
        "y must be a tensor of integer class indices, got torch.float32",
    ),
    "one-hot": (
        X,
        nn.functional.one_hot(Y),
        r"y must have shape \(20,\), one class per sample of x, got \(20, 3\)",
    ),
    "too few labels": (X, Y[:-1], r"y must have shape \(20,\).*got \(19,\)"),
    "negative": (X, Y - 1, "y must hold class indices >= 0, got -1"),
}


def error_of(name: str) -> type[Exception]:
    return TypeError if name == "8 bits" else ValueError


@pytest.mark.parametrize("name", IMAGES)
def test_tensors_that_are_no_training_data(name: str, refused: Callable[..., None]) -> None:
    x, y, message = IMAGES[name]
    refused(message, (x, y), error=error_of(name))


@pytest.mark.parametrize(
    "name", [name for name in IMAGES if name not in ("none", "no features", "too few labels")]
)
def test_the_same_in_a_loader(name: str, refused: Callable[..., None]) -> None:
    x, y, message = IMAGES[name]
    found = message.replace("x must", "x of batch 0 must").replace("y must", "y of batch 0 must")
    refused(found, [(x, y), (X, Y)], error=error_of(name))


@pytest.mark.parametrize("name", ["8 bits", "outside", "NaN", "negative", "one-hot"])
def test_a_later_batch_of_a_loader_is_named(name: str) -> None:
    x, y, _ = IMAGES[name]
    with pytest.raises(error_of(name), match=r"of batch 2 must"):
        train(build(), [(X, Y), (X, Y), (x, y)], "natural", epochs=1)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], Y[0])] * 3)


class Short(list[Any]):
    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must hold at least one batch, got none"),
        (((X, Y) for _ in range(3)), "must have a length"),
        (DataLoader(Stream(), batch_size=2), "must have a length"),
        (None, "must have a length"),
        ([X, X, X], r"must give pairs \(x, y\), got Tensor in batch 0"),
        ([{"x": X, "y": Y}], r"must give pairs \(x, y\), got dict in batch 0"),
        ([X.numpy()] * 3, r"must give pairs \(x, y\), got ndarray in batch 0"),
        ([(X.numpy(), Y.numpy())], "must be a.* tensor"),
        ([(X[:, 0, 0, 0], Y)], r"got \(20,\)"),
    ],
)
def test_what_is_no_loader(data: Any, message: str, refused: Callable[..., None]) -> None:
    refused(message, data)


def test_a_pair_of_arrays_is_taken_like_one_of_tensors() -> None:
    names = ("validation_data", "append", "extra_data")
    pairs: list[Any] = [DATA, (X.numpy(), Y.numpy()), [X.double().numpy(), Y.int().numpy()]]
    losses = [
        train(build(), pair, "natural", epochs=2, **dict.fromkeys(names, pair)).losses
        for pair in pairs
    ]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("recipe", ["natural", "pgd", "free", "fast", "grad-align"])
def test_samples_that_the_network_does_not_take(recipe: str) -> None:
    method = make_recipe(recipe) if recipe == "natural" else make_recipe(recipe, eps=8 / 255)
    message = r"^the model fails on inputs of shape \(1, 1, 3, 4\): RuntimeError: mat1 and mat2"
    with pytest.raises(ValueError, match=message):
        train(build(), (X[:, :, :3], Y), method, epochs=1)


def test_a_loader_that_breaks_its_promise() -> None:
    with pytest.raises(ValueError, match="promised 5 batches and gave 3 in epoch 0"):
        train(build(), Short([(X, Y)] * 3), "natural", epochs=2)


def test_labels_beyond_the_models_outputs() -> None:
    message = "labels must be class indices below 3, the model's outputs, got 7"
    far = torch.where(torch.arange(20) == 13, 7, Y)
    for data in ((X, far), [(X, Y), (X, far)]):
        with pytest.raises(ValueError, match=message):
            train(build(), data, "natural", epochs=1, batch_size=4)
    with pytest.raises(ValueError, match=message):  # before it comes to an attack on them
        train(build(), DATA, Pgd(eps=0.1), epochs=1, validation_data=(X, far))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ((X[:0], Y[:0]), "validation_data must hold samples"),
        ((X[:, :, :3], Y), r"must hold samples of shape \(1, 4, 4\), got \(20, 1, 3, 4\)"),
        ((2 * X, Y), r"x of validation_data must lie in \[0, 1\]"),
        ((X, Y.unsqueeze(1)), r"y of validation_data must have shape \(20,\)"),
        ((X, Y.float()), "y of validation_data must be a tensor of integer class indices"),
        (X, r"validation_data must be a pair of tensors \(x, y\), got Tensor"),
    ],
)
def test_validation_data_that_do_not_fit(
    held: Any, message: str, refused: Callable[..., None]
) -> None:
    refused(message, validation_data=held)


@pytest.mark.parametrize("amount", [20, 0.99, 0.001, 1.5])
def test_validation_must_leave_samples_on_both_sides(
    amount: float, refused: Callable[..., None]
) -> None:
    refused(f"got {amount} of 20", validation=amount)


def test_a_loader_cannot_be_split(refused: Callable[..., None]) -> None:
    refused("pass validation_data instead", [(X, Y)], validation=0.2)
    refused(
        r"a loader drops its own last batch: DataLoader\(..., drop_last=True\)",
        [(X, Y)],
        drop_last=True,
    )


# --- model ---


class Answers(nn.Module):
    """Gives back what a function makes of proper logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = build(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


@pytest.mark.parametrize("recipe", ["natural", "pgd", "free"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda logits: logits[:, 0],
            "labels must be class indices below 2, the model's outputs, got 2",
        ),
        (
            lambda logits: logits[:, :1],
            "labels must be class indices below 2, the model's outputs, got 2",
        ),
        (
            lambda logits: logits[:, :, None],
            r"must return \(rows, classes\) logits.*got shape \(8, 3, 1\) for 8 rows",
        ),
        (lambda logits: logits[:3], r"got shape \(3, 3\)"),
        (lambda logits: (logits, logits), "the model (returns a tuple|must return .*got tuple)"),
        (
            lambda logits: logits[:, :2],
            "labels must be class indices below 2, the model's outputs, got 2",
        ),
    ],
)
def test_models_of_the_wrong_output(change: Any, message: str, recipe: str) -> None:
    model = Answers(change).eval()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=message):
        train(model, DATA, recipe, epochs=1, batch_size=8)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(module.training for module in model.modules())
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )


def test_what_is_no_model_or_recipe(refused: Callable[..., None]) -> None:
    refused("model must be an nn.Module, got function", model=lambda x: x)
    refused("recipe must be a Recipe or the name of one, got 3", recipe=3)
    refused(r"recipe must be one of .*got 'tades' \(did you mean 'trades'\?\)", recipe="tades")
    with pytest.raises(ValueError, match="none that requires a gradient"):
        train(build().requires_grad_(False), DATA, "natural", epochs=1)


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": None}, "pass one of epochs, updates, equivalent_epochs, passes, got none"),
        (
            {"updates": 5},
            "pass one of epochs, updates, equivalent_epochs, passes, got .*epochs.*updates",
        ),
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"epochs": None, "equivalent_epochs": -2.0}, "equivalent_epochs must be > 0, got -2.0"),
        ({"epochs": None, "passes": 0.0}, "passes must be > 0, got 0.0"),
        ({"epochs": None, "passes": "many"}, "passes must be a number, got 'many'"),
        (
            {"passes": 40.0},
            "pass one of epochs, updates, equivalent_epochs, passes, got .*epochs.*passes",
        ),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"optimizer": "sdg"}, "optimizer must be one of 'sgd', 'adam', 'adamw', got 'sdg'"),
        ({"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ({"schedule": "piecewize"}, r"did you mean 'piecewise'\?"),
        (
            {"schedule": "piecewise", "schedule_args": {"milestone": (1,)}},
            r"did you mean 'milestones'\?",
        ),
        ({"schedule": 3}, r"schedule must be a name, a function or have .step\(\), got 3"),
        ({"precision": "fp8"}, "precision must be one of 'no', 'bf16', 'fp16', got 'fp8'"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\), got 1.0"),
        (
            {"validation_eps": -0.1, "validation": 4},
            "validation_eps must be a finite number >= 0, got -0.1",
        ),
        ({"validation_eps": 8.0, "validation": 4}, "eps must not exceed the box width 1"),
        ({"clip_values": (1, 0)}, "lower < upper"),
        ({"drop_last": 1}, "drop_last must be True or False, got 1"),
        ({"drop_last": True, "batch_size": 21}, "batch_size must be at most 20, .*got 21"),
        ({"freeze_eval_modules": "no"}, "freeze_eval_modules must be True or False, got 'no'"),
        (
            {"schedule_metric": "loss"},
            "schedule_metric belongs to a schedule whose .step.. takes a metric.*got 'loss'",
        ),
        ({"track": 3}, "track must be a sequence of names, got 3"),
        ({"checkpoint_dir": None, "resume": True}, "resume and trackers need a checkpoint_dir"),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], message: str, refused: Callable[..., None]
) -> None:
    refused(message, **options)


def test_every_option_is_a_keyword() -> None:
    shown = inspect.signature(train).parameters
    assert {one.name for one in dataclasses.fields(TrainingOptions)} <= set(shown)
    assert shown["schedule_args"].default == {}
    result = train(
        build(), DATA, "natural", epochs=1, schedule="cyclic", schedule_args={"peak": 0.4}
    )
    assert result.updates == 1


@pytest.mark.parametrize("recipe", ["pgd", "trades", "free", "atcd", "backward-smoothing", "war"])
def test_a_radius_of_8_where_8_of_255_is_meant(recipe: str, refused: Callable[..., None]) -> None:
    from art_ext.training import make_recipe

    refused("eps must not exceed the box width 1 .*got 8", recipe=make_recipe(recipe, eps=8))


def test_a_schedule_of_another_optimiser(refused: Callable[..., None]) -> None:
    model = build()
    schedule = torch.optim.lr_scheduler.StepLR(
        torch.optim.SGD(model.parameters(), lr=0.1), step_size=1
    )
    refused("a schedule must be one of the optimiser that trains", model=model, schedule=schedule)
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    warmed = {"schedule": torch.optim.lr_scheduler.StepLR(own, step_size=1), "warmup_epochs": 1.0}
    refused(
        "warmup_epochs needs a named schedule or a function", model=model, optimizer=own, **warmed
    )


def test_an_optimiser_over_other_weights(refused: Callable[..., None]) -> None:
    optimizer = torch.optim.SGD(build().parameters(), lr=0.1)
    refused("the optimizer must be one over the model's parameters", optimizer=optimizer)


def test_trackers_that_are_not_installed(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wandb, "modules", ("no_such_package",))
    refused(
        "the tracker wandb needs no_such_package, which is not installed: pip install",
        error=ImportError,
        trackers=("wandb",),
    )
    refused("tracker must be one of .*did you mean 'wandb'", trackers=("wandbb",))


# --- divergence ---


class Turning(nn.Module):
    """Logits that are NaN from the so-many-th training forward on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.inner, self.left = build(), after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        logits: Tensor = self.inner(x)
        return logits if self.left >= 0 else logits * float("nan")


def test_a_loss_that_is_not_finite_names_its_batch_and_leaves_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    model = Turning(after=8)  # three minibatches an epoch: update 8 is batch 2 of epoch 2
    message = r"the loss is nan in batch 2 of epoch 2, counted from 0 \(weight update 8\).*earlier checkpoints are kept"
    with pytest.raises(ValueError, match=message):
        train(model, DATA, "natural", epochs=5, batch_size=8, checkpoint_dir=tmp_path)
    newest = checkpoints(tmp_path / "checkpoints")[-1]
    assert newest.name == "update-000000006"
    kept = load_checkpoint(newest)
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "model.safetensors").exists()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"batch 2 of epoch 2, counted from 0 \(weight update 8\)"):
        train(
            Turning(after=2),
            DATA,
            "natural",
            epochs=5,
            batch_size=8,
            checkpoint_dir=tmp_path,
            resume=True,
        )
    assert contents(tmp_path) == before
    whole = train(Turning(after=99), DATA, "natural", epochs=5, batch_size=8)
    rest = train(
        Turning(after=99),
        DATA,
        "natural",
        epochs=5,
        batch_size=8,
        checkpoint_dir=tmp_path,
        resume=True,
    )
    assert torch.equal(whole.losses, rest.losses)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Bursting(torch.optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step()
            self.steps += 1
            if self.steps == 6:  # the loss before was fine
                self.param_groups[0]["params"][0].data.fill_(float("inf"))

    model = build()
    with pytest.raises(ValueError, match="the weights are not finite after weight update 5"):
        train(
            model,
            DATA,
            "natural",
            epochs=5,
            batch_size=8,
            optimizer=Bursting(model.parameters(), lr=0.1),
            checkpoint_dir=tmp_path,
        )
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["update-000000003"]


@pytest.mark.parametrize("held", [0, 4])
def test_weights_that_give_no_loss_are_never_saved(held: int, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="the loss is nan after weight update 0: lower the learn"):
        train(
            model,
            DATA,
            "natural",
            updates=1,
            optimizer="sgd",
            learning_rate=1e30,
            schedule="constant",
            validation=held,
            checkpoint_dir=tmp_path,
        )
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    assert not [*tmp_path.rglob("*.safetensors")]


def test_large_weights_that_give_a_loss_are_saved(tmp_path: Path) -> None:
    model = build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1e6)
    rows: list[int] = []
    model.register_forward_hook(Counter(rows))
    result = train(model, DATA, "natural", updates=1, batch_size=20, checkpoint_dir=tmp_path)
    assert bool(result.losses.isfinite().all())
    assert (tmp_path / "model.safetensors").is_file()
    assert rows == [20]  # the trial of a copy counts nothing


class Counter:
    """A hook with a list of its own in a copy of its network."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.rows.append(len(output))


# --- folders ---


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a run of three epochs."""
    train(
        build(),
        DATA,
        Pgd(eps=0.1, num_steps=1),
        epochs=3,
        batch_size=8,
        checkpoint_dir=tmp_path / "run",
    )
    return tmp_path / "run"


def again(folder: Path, **options: Any) -> Any:
    recipe = Pgd(eps=options.pop("eps", 0.1), num_steps=1)
    return train(
        options.pop("model", None) or build(),
        options.pop("data", DATA),
        options.pop("recipe", recipe),
        **{"epochs": 3, "batch_size": 8, "checkpoint_dir": folder, "resume": True, **options},
    )


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"eps": 0.2}, "recipe.eps: 0.1 there, 0.2 here"),
        ({"recipe": Natural()}, "recipe.name: 'pgd' there, 'natural' here"),
        ({"epochs": 4}, "options.epochs: 3 there, 4 here"),
        ({"learning_rate": 0.2}, "options.learning_rate: 0.1 there, 0.2 here"),
        ({"seed": 1}, "options.seed: 0 there, 1 here"),
        ({"data": (X.flip(3), Y)}, "data: "),
        ({"data": (X, Y.flip(0))}, "data: "),
        ({"model": build(4)}, "model: "),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_the_folder_of_another_configuration(
    change: dict[str, Any], difference: str, resume: bool, finished: Path
) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match=re.escape(difference)) as error:
        again(finished, resume=resume, **change)
    assert "another configuration" in str(error.value)
    assert contents(finished) == before


def test_a_finished_run_is_not_run_over(finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match="of an earlier run: resume it, or choose another folder"):
        again(finished, resume=False)
    assert contents(finished) == before
    for folder in checkpoints(finished / "checkpoints"):  # its weights alone are work, too
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    before = contents(finished)
    with pytest.raises(ValueError, match="of an earlier run"):
        again(finished, resume=False)
    assert contents(finished) == before


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tensors.safetensors", truncate),
        ("state.json", truncate),
        ("tensors.safetensors", Path.unlink),
        ("state.json", Path.unlink),
        ("state.json", lambda file: file.write_bytes(b"\xff\xfe\x00")),
        ("state.json", lambda file: file.write_text("[]")),
        ("state.json", lambda file: file.write_text('{"format": 1, "state": {"a": 1, "b": 2}}')),
        ("tensors.safetensors", lambda file: file.write_bytes(b"")),
    ],
)
def test_damaged_checkpoints(name: str, damage: Callable[[Path], Any], finished: Path) -> None:
    newest = checkpoints(finished / "checkpoints")[-1]
    damage(newest / name)
    before = contents(finished)
    with pytest.raises(
        ValueError,
        match=f"{newest.name} must be a complete checkpoint of art-ext, but reading it fails",
    ):
        again(finished)
    assert contents(finished) == before


def test_a_checkpoint_of_another_version(finished: Path) -> None:
    file = checkpoints(finished / "checkpoints")[-1] / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="is a checkpoint of format 99, this version reads 1"):
        again(finished)


def test_a_configuration_that_cannot_be_read(finished: Path) -> None:
    for content in (b"{", b"\xff\xfe\x00"):
        (finished / "training.json").write_bytes(content)
        before = contents(finished)
        with pytest.raises(
            ValueError, match="must hold the configuration of a run, but it cannot be read"
        ):
            again(finished)
        assert contents(finished) == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "history.csv", "history.jsonl", "best.safetensors", "checkpoints"]
)
@pytest.mark.parametrize("resume", [True, False])
def test_files_of_other_origin_that_have_our_names(name: str, resume: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text("of other origin")
    with pytest.raises(
        ValueError, match=f"holds {name}, but not of a run of art-ext: choose another folder"
    ):
        again(tmp_path, resume=resume)
    assert contents(tmp_path) == {name: b"of other origin"}


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    again(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "model.safetensors").is_file()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    with pytest.raises(
        ValueError, match=r"checkpoint_dir must be a folder, got .*file, which is a file"
    ):
        again(file)
    assert file.read_text() == "content"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match="ermission"):
        again(folder)


def test_an_optimiser_whose_state_cannot_be_saved(tmp_path: Path) -> None:
    class Strange(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "extra": object()}

    model = build()
    with pytest.raises(
        ValueError,
        match="a checkpoint holds numbers, texts, tensors, lists and dicts, got object at",
    ):
        train(
            model,
            DATA,
            "natural",
            epochs=2,
            optimizer=Strange(model.parameters(), lr=0.1),
            checkpoint_dir=tmp_path,
        )
    assert not checkpoints(tmp_path / "checkpoints")
    assert not list((tmp_path / "checkpoints").glob("*"))
