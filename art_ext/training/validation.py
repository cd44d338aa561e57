"""Clean and robust accuracy on held-out training samples, for the choice of the best checkpoint.

The test data are never used. Several authors chose checkpoints on them, which raises the reported
numbers by .3 to 1 point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from art_ext.core.attacks import pgd
from art_ext.core.calling import ModelCall
from art_ext.core.checks import check_not_negative
from art_ext.core.geometry import Box, ClipValues, check_ball
from art_ext.core.networks import frozen_eval
from art_ext.core.outputs import read_outputs
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_classes, check_samples
from art_ext.training.engine import Engine
from art_ext.training.history import Row
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import Recipe

# seed of the attack: the same starting points in every epoch, so that epochs can be compared
NOISE = 1


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Samples held out of a data set, which are read again each time.

    Attributes:
        count: N.
        read: function from lists of positions, each (r,), to samples (r, *S) and labels (r,).
    """

    count: int
    read: Callable[[Sequence[Tensor]], Iterable[tuple[Tensor, Tensor]]]


Held = tuple[Tensor, Tensor] | HeldOut


@dataclass(frozen=True, eq=False)
class Validation:
    """The held-out samples and the attack on them.

    Attributes:
        held: the samples.
        largest_label: largest label that is known before they are read.
        eps: radius of the PGD attack. 0 measures clean accuracy only.
        norm, num_steps, clip_values: of the attack.
    """

    held: HeldOut
    largest_label: int
    eps: float
    norm: str
    num_steps: int
    clip_values: ClipValues

    def measure(self, engine: Engine, model: nn.Module) -> dict[str, float]:
        """Measure the network on the held-out samples. The processes share the work.

        Returns:
            ``clean`` and, with a radius, ``robust``: fractions of the samples that are classified
            correctly. ``loss``: mean cross-entropy of the class scores of the clean samples.
        """
        scorer = engine.head.export(model)
        process = engine.accelerator.process_index
        processes = engine.processes
        own = torch.arange(self.held.count)[process::processes]
        sums = torch.zeros(3, device=engine.device)  # right, robust, cross-entropy
        for rows, labels in self.held.read(own.split(256)):
            rows = engine.place(rows)
            labels = labels.to(engine.device)
            gain = engine.head.attack_loss
            attacked = self._attack(scorer, rows, labels, gain) if self.eps else None
            with frozen_eval(scorer), torch.no_grad():
                logits = read_outputs(ModelCall(scorer)(rows), len(rows), "logits").float()
            if attacked is None:
                right = robust = engine.head.decision(logits) == labels
            else:
                right = ~attacked.already_adversarial
                robust = right & ~attacked.success
            loss = cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([right.sum(), robust.sum(), loss])
        means = (engine.total(sums) / self.held.count).tolist()
        found = dict(zip(("clean", "robust", "loss"), means, strict=True))
        return found if self.eps else {"clean": found["clean"], "loss": found["loss"]}

    def first(self, count: int, engine: Engine) -> tuple[Tensor, Tensor, Tensor, int]:
        """Read the first samples, at most ``count``.

        Returns:
            This process' share of them, inputs (r, *S), labels (r,) and positions (r,), and the
            number of rows over all processes.
        """
        count = min(count, self.held.count)
        own = torch.arange(count)[engine.accelerator.process_index :: engine.processes]
        ((rows, labels),) = self.held.read([own])
        device = engine.device
        return engine.place(rows), labels.to(device), own.to(device), count

    def _attack(self, model: nn.Module, rows: Tensor, labels: Tensor, loss: str) -> AttackResult:
        return pgd(
            model,
            rows,
            labels,
            eps=self.eps,
            norm=self.norm,
            loss=loss,
            num_steps=self.num_steps,
            stop_on_success=True,
            clip_values=self.clip_values,
            seed=NOISE,
        )


def make_validation(
    held: Held, options: TrainingOptions, recipe: Recipe, shape: torch.Size, box: Box
) -> Validation:
    """Build the validation of a run whose training samples have shape ``shape``.

    Raises:
        TypeError, ValueError: for samples, labels or a radius that do not fit.
    """
    largest = 0
    if not isinstance(held, HeldOut):
        largest, held = _of_tensors(held, options, shape)
    eps = recipe.radius if options.validation_eps is None else options.validation_eps
    norm = getattr(recipe, "norm", "linf")
    check_not_negative("validation_eps", eps)
    if eps:
        check_ball(norm, eps, box)
    return Validation(held, largest, eps, norm, options.validation_steps, options.clip_values)


def _of_tensors(
    held: tuple[Tensor, Tensor], options: TrainingOptions, shape: torch.Size
) -> tuple[int, HeldOut]:
    """Return the largest label of samples in memory, and the samples, checked."""
    if not isinstance(held, (tuple, list)) or len(held) != 2:
        raise ValueError(
            f"validation_data must be a pair of tensors (x, y), got {type(held).__name__}"
        )
    x, y = held
    check_samples(x)
    if x.shape[1:] != shape or not len(x):
        raise ValueError(
            f"x of validation_data must hold samples of shape {tuple(shape)}, got {tuple(x.shape)}"
        )
    check_classes("y of validation_data", y, len(x))
    x = Box.of(options.clip_values, shape, x.device).admit(x, "x of validation_data")
    y = y.to(x.device, torch.int64)

    def read(parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in parts:
            rows = positions.to(x.device)
            yield x[rows], y[rows]

    return int(y.max()), HeldOut(len(x), read)


def held_count(amount: float, samples: int) -> int:
    """Return the number of held-out samples: a fraction below 1 of all samples, or a number."""
    return round(amount * samples) if amount < 1 else int(amount)


def hold_out(
    x: Tensor, y: Tensor, amount: float, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Split the samples into those to train on and those held out, drawn by the seed.

    Args:
        x, y: all samples.
        amount: a fraction below 1, or a number of samples.
        seed: seed of the draw.

    Raises:
        ValueError: if one of the two parts would be empty.
    """
    count = held_count(amount, len(x))
    if count < 1 or count >= len(x) or (amount > 1 and count != amount):
        raise ValueError(
            "validation must be a fraction below 1 or a number of samples, and both parts must hold"
            f" a sample, got {amount!r} of {len(x)}"
        )
    order = torch.randperm(
        len(x), generator=torch.Generator().manual_seed(seed + 1_000_000_007)
    ).to(x.device)
    kept = order[count:].sort().values
    held = order[:count].sort().values
    return (x[kept], y[kept]), (x[held], y[held])


def better(best: dict[str, Any] | None, row: Row, epoch: int, model: nn.Module) -> dict[str, Any]:
    """Return the better of the best epoch so far and this one, with its weights on the CPU.

    Args:
        best: score, epoch and weights of the best epoch so far, or None.
        row: of this epoch, with its validation. Robust accuracy counts first, then clean accuracy.
        epoch: epochs done.
        model: the network in its current state.
    """
    score = [row.get("validation_robust", row["validation_clean"]), row["validation_clean"]]
    if best is not None and not score > best["score"]:
        return best
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return {"score": score, "epoch": epoch, "weights": weights}
