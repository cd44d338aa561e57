"""Networks as people have them: frozen layers, auxiliary heads, a last minibatch of one row."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from art_ext.training import Atcd, Pgd, train
from tests.toys import LOGITS, SINGLE, small_recipe

EPS = 0.1
X = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 3
DATA = (X, Y)


def build(*, affine: bool = True) -> nn.Sequential:
    """A backbone with BatchNorm and dropout (layers 0 to 3) and a head with BatchNorm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4, affine=affine),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(64, 8),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Linear(8, 3),
        )


def statistics(model: nn.Sequential, place: int) -> Tensor:
    mean = model[place].running_mean
    assert isinstance(mean, Tensor)
    return mean.clone()


def refreshed(model: nn.Sequential) -> list[bool]:
    """Which of the two BatchNorms have seen training minibatches."""
    return [bool(statistics(model, place).any()) for place in (1, 6)]


# --- frozen layers ---


@pytest.mark.parametrize("name", SINGLE)
def test_layers_in_eval_mode_stay_there(name: str) -> None:
    model = build()
    for layer in model[:4]:
        layer.eval().requires_grad_(False)
    frozen = copy.deepcopy(model[:4].state_dict())
    train(model, DATA, small_recipe(name, EPS), updates=4, batch_size=20, validation=10)
    assert all(torch.equal(frozen[key], value) for key, value in model[:4].state_dict().items())
    assert refreshed(model) == [False, True]
    assert [layer.training for layer in model] == [False] * 4 + [True] * 5


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
@pytest.mark.parametrize("recipe", [Pgd, Atcd])
def test_frozen_layers_stay_so_while_crafting_in_train_mode(recipe: Any, mode: str) -> None:
    model = build()
    for layer in model[:4]:
        layer.eval()
    modes: list[tuple[bool, bool]] = []
    model[1].register_forward_hook(lambda *_: modes.append((model[1].training, model[3].training)))
    used: list[Any] = []
    model[1].register_forward_pre_hook(lambda layer, _: used.append(layer.running_mean.clone()))
    train(model, DATA, recipe(eps=EPS, num_steps=2, bn_mode=mode), updates=2, batch_size=20)
    assert len(modes) >= 6
    assert set(modes) == {(False, False)}
    assert refreshed(model) == [False, True]
    assert model[1].num_batches_tracked == 0


def test_a_block_of_crafting_passes(make_step: Any) -> None:
    model = build()
    modes: list[bool] = []
    model[1].register_forward_hook(lambda *_: modes.append(model[1].training))
    step = make_step(model, X[:8], Y[:8], eps=EPS)
    alone = step.input_gradient(X[:8], step.hard_cross_entropy, "eval")[0]
    with step.crafting("eval"):
        assert torch.equal(step.input_gradient(X[:8], step.hard_cross_entropy, "eval")[0], alone)
        assert not any(weight.requires_grad for weight in model.parameters())
        step.crafting_logits(X[:8], "batch")
        step.crafting_logits(X[:8], "eval")
    step.forward(X[:8])
    assert modes == [False, False, True, False, True]
    assert all(weight.requires_grad for weight in model.parameters())


def test_dropout_in_eval_mode_drops_nothing() -> None:
    def losses(model: nn.Module, **options: Any) -> Tensor:
        return train(model, DATA, "natural", epochs=2, batch_size=20, **options).losses

    off, none = build(), build()
    off[3].eval()
    none[3] = nn.Identity()
    assert torch.equal(losses(off), losses(none))
    again = build()
    again[3].eval()
    assert torch.equal(losses(again, freeze_eval_modules=False), losses(build()))
    assert not torch.equal(losses(build()), losses(none))


def test_weights_of_frozen_modules_are_trained_unless_they_are_frozen_too() -> None:
    """The usual fine-tuning: BatchNorm by its running statistics, all weights trained."""
    model = build()
    before = copy.deepcopy(model.state_dict())
    model[1].eval()
    train(model, DATA, Pgd(eps=EPS, num_steps=1), epochs=1, batch_size=20)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {"0.weight", "1.weight", "1.bias", "5.weight", "6.running_mean"} <= changed
    assert not {"1.running_mean", "1.running_var", "1.num_batches_tracked"} & changed


def wrapped(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), model)


@pytest.mark.parametrize("wrap", [lambda model: model, wrapped])
@pytest.mark.parametrize(
    ("freeze", "affine", "expected"),
    [
        (lambda model: None, True, [True, True]),
        (lambda model: model[1].requires_grad_(False), True, [False, True]),
        (lambda model: model[1].bias.requires_grad_(False), True, [True, True]),
        (lambda model: model[0].requires_grad_(False), True, [True, True]),
        (lambda model: None, False, [True, True]),  # no parameter, so none that is frozen
    ],
)
def test_a_network_wholly_in_eval_mode_is_trained_but_for_frozen_normalisation(
    wrap: Callable[[nn.Module], nn.Module], freeze: Any, affine: bool, expected: list[bool]
) -> None:
    """ART's ``predict``, and most loaders, leave a network so; a wrapper around it changes
    nothing.
    """
    model, twin = build(affine=affine).eval(), build(affine=affine)
    for one in (model, twin):
        freeze(one)
    result = train(wrap(model), DATA, Pgd(eps=EPS, num_steps=1), epochs=1, batch_size=20)
    assert refreshed(model) == expected
    assert not any(module.training for module in model.modules())
    if expected == [True, True]:
        assert torch.equal(
            train(wrap(twin), DATA, Pgd(eps=EPS, num_steps=1), epochs=1, batch_size=20).losses,
            result.losses,
        )


class OwnNorm(nn.Module):
    """A normalisation layer that is none of torch's classes."""

    running_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("running_mean", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean = 0.5 * self.running_mean + 0.5 * x.detach().mean()
        return self.weight * (x - self.running_mean)


def test_normalisation_layers_of_other_classes() -> None:
    model = nn.Sequential(OwnNorm(), nn.Flatten(), nn.Linear(16, 3)).eval()
    train(model, DATA, "natural", epochs=1, batch_size=20)
    assert model[0].running_mean == 0


def test_one_log_line_names_the_frozen_layers(caplog: pytest.LogCaptureFixture) -> None:
    def lines(model: nn.Module, **options: Any) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "art_ext"):
            train(model, DATA, "natural", updates=1, **options)
        return [
            record.getMessage() for record in caplog.records if "eval mode" in record.getMessage()
        ]

    nested = nn.Sequential(build()[:4], build()[4:])
    nested[0].eval()
    assert lines(nested) == ["these modules stay in eval mode while training: 0"]
    assert lines(nested, freeze_eval_modules=False) == []
    assert lines(build()) == []
    assert lines(build().eval()) == []
    frozen = build().eval()
    frozen[1].requires_grad_(False)
    assert lines(frozen) == ["these modules stay in eval mode while training: 1"]
    many = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), *(nn.Identity() for _ in range(9)))
    many[2:].eval()
    assert lines(many)[0].endswith(": 2, 3, 4, 5, 6, 7 and 3 more")


def test_other_frozen_layers_are_another_run(tmp_path: Path) -> None:
    model = build()
    model[1].eval()
    train(model, DATA, "natural", epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"frozen: \['1'\] there, None here"):
        train(build(), DATA, "natural", epochs=1, checkpoint_dir=tmp_path, resume=True)


# --- outputs in training mode ---


class TwoHeads(nn.Module):
    """Returns something else in train mode, as Inception and GoogLeNet do."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.change = nn.Linear(16, 3), change

    def forward(self, x: Tensor) -> Any:
        logits = self.body(x.flatten(1))
        return self.change(logits) if self.training else logits


class HeadOutputs(NamedTuple):
    logits: Tensor
    aux: Tensor


HEADS: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda z: (z, z), "returns a tuple; recipes need logits: switch auxiliary heads off"),
    (lambda z: [z, z], "returns a list; recipes need logits: switch auxiliary heads off"),
    (lambda z: HeadOutputs(z, z), r"returns a tuple \(HeadOutputs\); recipes need logits"),
    (lambda z: {"out": z, "aux": z}, r"returns a dict \(dict\); recipes need logits"),
    (lambda z: None, "must return a tensor, got NoneType"),
    (
        lambda z: z.unsqueeze(2),
        r"must return \(rows, classes\) logits, .*got shape \(20, 3, 1\) for 20 rows",
    ),
]


@pytest.mark.parametrize(("change", "message"), HEADS)
@pytest.mark.parametrize("name", LOGITS)
def test_what_is_no_logits_in_training_mode(name: str, change: Any, message: str) -> None:
    model = TwoHeads(change)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"in training mode the model {message}"):
        train(model, DATA, small_recipe(name, EPS), epochs=1, batch_size=20)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_classes_in_training_mode() -> None:
    with pytest.raises(
        ValueError, match="same classes in eval and in training mode, got 3 and 6 classes"
    ):
        train(TwoHeads(lambda z: torch.cat([z, z], dim=1)), DATA, Pgd(eps=EPS), epochs=1)


def test_crafting_in_train_mode_says_the_same() -> None:
    with pytest.raises(ValueError, match="in training mode the model returns a tuple"):
        train(TwoHeads(lambda z: (z, z)), DATA, Pgd(eps=EPS, bn_mode="train"), epochs=1)


# --- minibatches of one ---


def rows_of(seen: list[int], model: nn.Module) -> nn.Module:
    """Note the rows of each training forward."""
    model.register_forward_pre_hook(
        lambda module, x: seen.append(len(x[0])) if module.training else None
    )
    return model


@pytest.mark.parametrize("recipe", ["natural", Pgd(eps=EPS, num_steps=1)])
@pytest.mark.parametrize("rest", [1, 2, 7])
def test_a_short_last_minibatch_is_left_out(recipe: Any, rest: int) -> None:
    data = (X[: 32 + rest], Y[: 32 + rest])
    seen: list[int] = []
    result = train(rows_of(seen, build()), data, recipe, epochs=2, batch_size=8, drop_last=True)
    assert result.updates == 8
    assert set(seen) == {8}
    whole = train(build(), (X[:32], Y[:32]), recipe, epochs=2, batch_size=8)
    assert (
        whole.updates
        == train(build(), (X[:32], Y[:32]), recipe, epochs=2, batch_size=8, drop_last=True).updates
    )


def test_each_epoch_leaves_out_other_samples() -> None:
    seen: list[Tensor] = []
    model = build()
    model.register_forward_pre_hook(
        lambda module, x: seen.append(x[0].flatten(1)) if module.training else None
    )
    train(model, DATA, "natural", epochs=2, batch_size=16, drop_last=True)
    epochs = [
        {tuple(row.tolist()) for batch in seen[at : at + 2] for row in batch} for at in (0, 2)
    ]
    assert [len(rows) for rows in epochs] == [32, 32]
    assert epochs[0] != epochs[1]


BATCHNORM = r"in training mode the model fails on a minibatch of one row \(ValueError: Expected more than 1 value"


def test_a_last_minibatch_of_one_row_is_refused_before_the_first_update(tmp_path: Path) -> None:
    """The right value of a10."""
    model = build()
    before = copy.deepcopy(model.state_dict())
    message = (
        BATCHNORM
        + r".*pass drop_last=True, which leaves out the last minibatch \(1 of 33 samples\)"
    )
    with pytest.raises(ValueError, match=message):
        train(
            model,
            (X[:33], Y[:33]),
            "natural",
            epochs=1,
            batch_size=8,
            checkpoint_dir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # held-out samples are not trained on: 33 of 40 are left
    with pytest.raises(ValueError, match=message):
        train(build(), DATA, "natural", epochs=1, batch_size=8, validation=7)
    with pytest.raises(ValueError, match=BATCHNORM + ".*pass a larger batch_size than 1"):
        train(build(), DATA, "natural", epochs=1, batch_size=1, drop_last=True)
    with pytest.raises(ValueError, match=BATCHNORM + ".*pass a larger batch_size than 8"):
        train(build(), (X[:1], Y[:1]), "natural", epochs=1, batch_size=8)


def test_frozen_layers_take_one_row() -> None:
    model = build()
    model[6].eval()
    assert train(model, (X[:33], Y[:33]), "natural", epochs=1, batch_size=8).updates == 5


class Counting(nn.Module):
    """Takes any number of rows; its statistics, its attribute, its hooks and its noise betray
    each call.
    """

    def __init__(self, *, copies: bool = True) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten()
        )
        self.last, self.calls = nn.Linear(32, 3), 0
        self.copies = copies

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.last(self.inner(x))
        return logits

    def __getstate__(self) -> Any:
        if not self.copies:
            raise TypeError("cannot be copied")
        return self.__dict__


@pytest.mark.parametrize("copies", [True, False])
def test_the_trial_leaves_no_trace(copies: bool) -> None:
    def go(count: int) -> tuple[Counting, Tensor]:
        torch.manual_seed(3)
        model = Counting(copies=copies)
        torch.manual_seed(4)
        state = torch.get_rng_state()
        result = train(model, (X[:count], Y[:count]), "natural", updates=4, batch_size=8)
        assert torch.equal(torch.get_rng_state(), state)
        return model, result.losses

    tried, losses = go(33)  # a last minibatch of one row, which the four updates never come to
    plain, expected = go(34)
    order = [
        torch.randperm(count, generator=torch.Generator().manual_seed(0))[:32] for count in (33, 34)
    ]
    # so losses differ, and statistics are compared by the number of batches
    assert not torch.equal(*order)
    assert tried.inner[1].num_batches_tracked == plain.inner[1].num_batches_tracked == 4
    if copies:
        assert tried.calls == plain.calls == 4
    assert losses.isfinite().all()
    assert expected.isfinite().all()


def test_statistics_are_those_of_a_run_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    from art_ext.training import loop

    def go() -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = Counting()
        train(
            model,
            (X[:33], Y[:33]),
            Pgd(eps=EPS, num_steps=1, bn_mode="train"),
            epochs=2,
            batch_size=8,
        )
        return model.state_dict()

    tried = go()
    monkeypatch.setattr(loop, "check_one_row", lambda *arguments, **options: None)
    assert all(torch.equal(value, tried[name]) for name, value in go().items())


def test_a_network_that_fails_on_anything_gets_no_advice_on_minibatches() -> None:
    with pytest.raises(ValueError, match=r"^the model fails on inputs of shape .*: mat1 and mat2"):
        train(
            nn.Sequential(nn.Flatten(), nn.Linear(5, 3)),
            (X[:33], Y[:33]),
            "natural",
            epochs=1,
            batch_size=8,
        )


@pytest.mark.parametrize("recipe", ["natural", Pgd(eps=EPS, num_steps=1)])
def test_a_loaders_minibatch_of_one_row_is_named(recipe: Any) -> None:
    loader = [(X[:8], Y[:8]), (X[8:16], Y[8:16]), (X[16:17], Y[16:17])]
    message = BATCHNORM + r".*leave out batch 2 of epoch 0, counted from 0 \(drop_last=True\)"
    with pytest.raises(ValueError, match=message):
        train(build(), loader, recipe, epochs=1)
    assert train(build(), loader[:2], recipe, epochs=1).updates == 2
