"""Analyses in which weight updates take part, and points that recipes craft outside of a run."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count, check_not_negative, check_positive
from art_ext.core.geometry import Box, ClipValues, exact_dtype
from art_ext.core.keywords import public
from art_ext.core.networks import check_no_inference_tensor, model_device
from art_ext.core.samples import check_classes, check_samples
from art_ext.core.streams import fingerprint, global_streams_kept
from art_ext.training.batches import Batch, TensorBatches
from art_ext.training.craft.base import Craft
from art_ext.training.engine import Engine
from art_ext.training.environment import seed_streams
from art_ext.training.heads import Head
from art_ext.training.modes import frozen_modules, set_training
from art_ext.training.recipes import Recipe, make_recipe
from art_ext.training.step import Step

ROWS = 256  # crafted at once
Gradients = dict[str, Tensor]  # by the names of parameters


@dataclass(frozen=True)
class Alone:
    """Stand-in for Accelerate in an ``Engine``, for one process in full precision."""

    mixed_precision: str = "no"
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def autocast(self) -> AbstractContextManager[None]:
        """Change no precision."""
        return nullcontext()


def lone_engine(model: nn.Module, box: Box, head: Head | None = None) -> Engine:
    """Return an engine that needs neither Accelerate nor the loop."""
    alone: Any = Alone()
    device = box.lower.device
    return Engine(alone, model, model, box, device, channels_last=False, head=head)


def crafted_points(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    craft: Craft,
    *,
    eps: float,
    clip_values: ClipValues = (0.0, 1.0),
    seed: int = 0,
) -> Tensor:
    """Return (N, *S) the points that a craft makes of samples, outside of a run.

    Args:
        model: the network, with its head.
        x: (N, *S) samples in the box.
        y: (N,) their classes.
        craft: of a recipe.
        eps: radius.
        clip_values: the box.
        seed: of the draws, which are keyed by the samples.
    """
    device = model_device(model, None, x.device)
    box = Box.of(clip_values, x.shape[1:], device)
    parts = []
    with outside_inference_mode():
        for rows, labels in zip(x.split(ROWS), y.split(ROWS), strict=True):
            rows = box.admit(rows.to(device))
            step = Step(
                lone_engine(model, box),
                rows,
                labels.to(device, torch.int64),
                fingerprint(rows),
                rows=len(rows),
                update=0,
                replay=0,
                eps=eps,
                seed=seed,
                smoothing=0.0,
                memory={},
                carried={},
            )
            parts.append(craft(step).detach())
    return torch.cat(parts) if parts else x.clone()


@dataclass(frozen=True, eq=False)
class TrajectoryShift:
    """Distances of the weight gradients of two lengths of crafting, by parameter.

    Attributes:
        lengths: K and K', the steps of crafting in a weight update.
        batches: number of minibatches in each mean.
        distance: mean of ``||g - g'||_2``, by the name of the parameter.
        relative: mean of ``||g - g'||_2 / ||g'||_2``. NaN where g' alone is 0.
        cosine: mean cosine of g and g'. NaN where one of them alone is 0.
    """

    lengths: tuple[int, int]
    batches: int
    distance: dict[str, float]
    relative: dict[str, float]
    cosine: dict[str, float]


@public()
def trajectory_shift(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    recipe: Recipe | str = "atcd",
    lengths: tuple[int, int] = (2, 10),
    total: int = 10,
    batches: int = 20,
    batch_size: int = 128,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    clip_values: ClipValues = (0.0, 1.0),
    seed: int = 0,
) -> TrajectoryShift:
    """Compare the weight gradients of short and of long crafting (Definition 5.1).

    Two copies of the network start from its weights and see the same minibatches and the same
    noise. On each minibatch one makes ``total / K`` weight updates of K steps of crafting, and the
    other ``total / K'`` of K' steps. The gradients g and g' of a parameter are averages over the
    updates of the minibatch. Their distances are averages over the minibatches (eq. 15). Each copy
    goes on from minibatch to minibatch with its own weights.

    Args:
        model: network from (r, *S) to logits (r, C), with its weights. It is not changed.
        data: (x, y), samples (N, *S) in the box and classes (N,).
        recipe: a recipe with the fields ``num_replays`` and ``num_steps``, which are set here, or
            its name, ``"atcd"`` or ``"cat"``, with its defaults. Default: atcd.
        lengths: K and K', divisors of ``total``. Default: (2, 10).
        total: steps of crafting on a minibatch. Default: 10.
        batches: number of minibatches. More than the data hold begin another epoch. Default: 20.
        batch_size: rows of a minibatch. Default: 128.
        learning_rate: of SGD, constant. 0 keeps the weights, so that only the crafting differs.
            Default: 0.01.
        momentum: of SGD. Default: 0.9.
        clip_values: the box (lower, upper).
        seed: of the order and the noise.

    Raises:
        ValueError: for data or arguments that do not fit, or a recipe without steps and replays.

    Differences from the paper:
        The paper compares whole trainings. It states neither rate nor optimiser of the comparison.
        Those here are our choice.

    References:
        "Adversarial training using contrastive divergence" (ATCD, Definition 5.1, equation 15,
        Figure 1 and appendix A.2), ICLR 2021 submission.
    """
    copies = _recipes(recipe, lengths, total)
    check_count("batches", batches)
    check_count("batch_size", batch_size)
    check_not_negative("learning_rate", learning_rate)
    check_positive("1 - momentum", 1 - momentum)
    check_no_inference_tensor(model)
    x, y = data
    check_samples(x)
    check_classes("y", y, len(x))
    device = model_device(model, None, x.device)
    box = Box.of(clip_values, x.shape[1:], device)
    source = TensorBatches(box.admit(x.to(device)), y.to(device), batch_size, seed)
    with outside_inference_mode(), global_streams_kept(device):
        runs = []
        for one in copies:
            network = copy.deepcopy(model)
            set_training(network, frozen_modules(network).values())
            engine = lone_engine(network, box, one.head)
            optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum)
            minibatches = _first(source, batches)
            runs.append(_gradients(engine, one, optimizer, minibatches, total, seed))
        rows = [_compared(*pair) for pair in zip(*runs, strict=True)]
    means = [
        {name: float(torch.stack([row[name][column] for row in rows]).mean()) for name in rows[0]}
        for column in range(3)
    ]
    return TrajectoryShift((lengths[0], lengths[1]), batches, *means)


def _recipes(recipe: Recipe | str, lengths: tuple[int, int], total: int) -> list[Recipe]:
    """Return the recipe with each length of crafting.

    Raises:
        ValueError: for lengths that do not divide the total, or a recipe that has none.
    """
    check_count("total", total)
    if len(lengths) != 2:
        raise ValueError(f"lengths must be two numbers of steps, got {lengths!r}")
    for length in lengths:
        check_count("lengths", length)
        if total % length:
            raise ValueError(f"lengths must divide total, {total}, got {length}")
    method = make_recipe(recipe) if isinstance(recipe, str) else recipe
    if not (hasattr(method, "num_replays") and hasattr(method, "num_steps")):
        name = getattr(method, "name", repr(method))
        raise ValueError(
            "recipe must craft by steps and reuse its minibatches, such as atcd and cat, got"
            f" {name!r}"
        )
    settings = [{"num_replays": total // length, "num_steps": length} for length in lengths]
    return [replace(method, **one) for one in settings]


def _gradients(
    engine: Engine,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    stride: int,
    seed: int,
) -> Iterator[Gradients]:
    """Train the network of an engine, and yield the mean gradients of each minibatch.

    Args:
        engine: of the network, which is trained in place.
        recipe: crafts, and gives the loss.
        optimizer: of the network.
        batches: the minibatches.
        stride: keys of noise that a minibatch has, so that all recipes draw the same noise at its
            beginning.
        seed: of the noise.
    """
    named = dict(engine.plain.named_parameters())
    carried: dict[str, Tensor] = {}
    for place, batch in enumerate(batches):
        memory: dict[str, Tensor] = {}
        sums: Gradients = {}
        for replay in range(recipe.replays):
            update = place * stride + replay
            seed_streams(seed, update, 0, engine.device)
            step = Step(
                engine,
                engine.place(batch.x),
                batch.y.to(engine.device),
                batch.ids.to(engine.device),
                rows=batch.rows,
                update=update,
                replay=replay,
                eps=recipe.radius,
                seed=seed,
                smoothing=0.0,
                memory=memory,
                carried=carried,
            )
            optimizer.zero_grad(set_to_none=True)
            recipe.loss(step).backward()
            recipe.after_backward(step)
            for name, weight in named.items():
                if weight.grad is not None:
                    sums[name] = sums.get(name, 0) + weight.grad / recipe.replays
            optimizer.step()
        yield sums


def _first(source: TensorBatches, count: int) -> Iterator[Batch]:
    """Yield so many minibatches, over as many epochs as that takes."""
    epoch = 0
    while count:
        for batch in source.epoch(epoch, 0, 0, 1):
            yield batch
            count -= 1
            if not count:
                return
        epoch += 1


def _compared(ours: Gradients, theirs: Gradients) -> dict[str, Tensor]:
    """Return (3,) distance, relative distance and cosine of two gradients, by parameter."""
    found = {}
    for name in ours.keys() & theirs.keys():
        exact = exact_dtype(ours[name].device)
        one = ours[name].flatten().to(exact)
        other = theirs[name].flatten().to(exact)
        distance = torch.linalg.vector_norm(one - other)
        length = torch.linalg.vector_norm(other)
        cosine = (one @ other) / (torch.linalg.vector_norm(one) * length)
        equal = distance == 0  # two gradients of 0 too
        found[name] = torch.stack(
            [
                distance,
                torch.where(equal, 0.0, torch.where(length > 0, distance / length, torch.nan)),
                torch.where(equal, 1.0, cosine),
            ]
        )
    return {name: found[name] for name in ours if name in found}
