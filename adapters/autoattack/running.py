"""AutoAttack in one call, over either of its packages, resumable, its outcome checked by us and
its flags as data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor

from art_ext.adapters.autoattack.chunks import check_plan, run_chunk
from art_ext.adapters.autoattack.package import find_package
from art_ext.adapters.autoattack.plan import Follower, Plan, listed_attacks, named
from art_ext.adapters.autoattack.result import AutoAttackResult, join
from art_ext.adapters.autoattack.state import Chunk, StateFolder
from art_ext.core.checks import check_count
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import Callback, Progress
from art_ext.core.streams import resolve_seed
from art_ext.storage.store import Place


@public()
def run_autoattack(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    version: str = "standard",
    attacks: str | Sequence[str] | None = None,
    adjust: Mapping[str, Mapping[str, float]] | None = None,
    then: Sequence[Follower | tuple[str, Follower]] = (),
    outputs: str = "logits",
    clip_values: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 250,
    chunk_size: int = 1000,
    seed: int | None = 0,
    device: torch.device | str | None = None,
    backend: str = "auto",
    state_dir: Place | None = None,
    callback: Callback | None = None,
) -> AutoAttackResult:
    """Find ``x'`` that the model misclassifies with ``||x' - x|| <= eps`` in [0, 1], by AutoAttack.

    The samples are cut into chunks. In each, every attack runs on the samples that stand after
    those before it, from the same seed. A success is what our own check finds: misclassified,
    inside ball and box. The package is given the radius at which rounding to float32 keeps within
    eps + 1e-6: a little less than eps in L2 and L1.

    Every row that goes through the model is a query, those of the package's own checks and our
    clean check and our check of each outcome included. The package does not say whose row it sends,
    so the rows of an attack are spread evenly over the samples of the chunk that it runs on.

    For K < 10 classes, ``apgd-t`` and ``fab-t`` take K - 1 targets, since the package fails with
    its 9. For 2 or 3 classes ``apgd-t`` does not exist, and for 2 ``apgd-dlr`` does not.

    Args:
        model: an ``nn.Module`` or a callable from images (R, C, H, W) to (R, K) scores.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) class indices.
        eps: radius of the ball in the units of x, such as 8/255.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        version: ``"standard"``, ``"plus"``, ``"rand"`` (for randomised models), or ``"custom"``
            with attacks.
        attacks: of apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square. A text separates them by commas.
        adjust: settings of the package's attack objects, ``{"apgd": {"n_iter": 20}}``. What is not
            AutoAttack's own setting makes a number that must not be called AutoAttack's.
        then: attacks ``(model, x, y) -> AttackResult`` that run on what stands after AutoAttack,
            such as a ``functools.partial`` of ours with the same norm and eps, or pairs of name and
            attack.
        outputs: ``"logits"`` or ``"probabilities"``, whose logarithms are attacked.
        clip_values: the box. AutoAttack knows [0, 1] only.
        batch_size: most rows in one call of the model. The package seeds each batch: its outcome
            depends on it.
        chunk_size: samples attacked together, and kept together in state_dir.
        seed: keys the package's random numbers. None draws one. The global random streams stay as
            they were.
        device: where inputs go for models without parameters.
        backend: ``"autoattack"``, ``"pyautoattack"``, or ``"auto"``, the first of these that is
            installed.
        state_dir: a folder for finished chunks, each written atomically. The same call with the
            same folder goes on where it was stopped, and returns what a call without a stop
            returns. One process at a time may use it.
        callback: is told after each attack of each chunk.

    Returns:
        The result, with the flags and the accuracies. Rows without success are the input.

    Raises:
        ImportError: if the package is not installed.
        ValueError: naming what was given and what was wanted. A model of too few classes raises it
            before any attack, naming what runs there. A state_dir of another configuration raises
            it, naming the differences, one that another process uses, naming the process, a damaged
            chunk, naming the file, and a package that fails, with its warnings.

    References:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020.
    """
    if tuple(clip_values) != (0, 1):
        raise ValueError(f"AutoAttack knows no box but clip_values=(0, 1), got {clip_values}")
    check_count("chunk_size", chunk_size)
    plan = Plan(
        model=model,
        eps=eps,
        norm=norm,
        version=version,
        attacks=listed_attacks(attacks),
        adjust=adjust or {},
        then=named(then),
        outputs=outputs,
        batch_size=batch_size,
        seed=resolve_seed(seed),
        device=device,
        package=find_package(backend),
    )
    check_plan(plan, x, y)
    tell = callback or (lambda progress: None)
    return join(plan, list(_chunks(plan, x, y, chunk_size, state_dir, tell)))


def _chunks(
    plan: Plan, x: Tensor, y: Tensor, chunk_size: int, state_dir: Place | None, tell: Callback
) -> Iterator[Chunk]:
    """Yield the chunks of a run, those in state_dir as they are there."""
    if state_dir is None:
        yield from _chunks_of(plan, x, y, chunk_size, None, tell)
        return
    with StateFolder.opened(state_dir, plan.identity(x, y, chunk_size)) as folder:
        yield from _chunks_of(plan, x, y, chunk_size, folder, tell)


def _chunks_of(
    plan: Plan, x: Tensor, y: Tensor, chunk_size: int, folder: StateFolder | None, tell: Callback
) -> Iterator[Chunk]:
    for number, start in enumerate(range(0, max(len(x), 1), chunk_size)):
        part = slice(start, start + chunk_size)
        chunk = folder.read(number, x[part], plan.norm, plan.eps, plan.seed) if folder else None
        if chunk is None:
            with _placed(start, whole=len(x) <= chunk_size):
                told = functools.partial(_tell_of_all, tell, start)
                chunk = run_chunk(plan, x[part], y[part], told)
            if folder:
                folder.write(number, chunk)
        yield chunk


@contextmanager
def _placed(start: int, whole: bool) -> Iterator[None]:
    """Add the first sample of a chunk to a ValueError, unless the chunk is the whole run."""
    try:
        yield
    except ValueError as error:
        if whole:
            raise
        raise ValueError(f"in the chunk that begins with sample {start}: {error}") from error


def _tell_of_all(tell: Callback, start: int, progress: Progress) -> None:
    """Pass on what happened in a chunk, with the positions that its samples have in x."""
    given = {part.name: getattr(progress, part.name) for part in fields(Progress)}
    tell(Progress(**given | {"index": progress.index + start}))
