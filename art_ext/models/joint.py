"""Ensembles whose members are trained together."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_count
from art_ext.models.layers import Normalize, Preprocessed

STRIDE = 1_000_003  # between the seeds of the first members of two runs
LEAST = 2


class JointEnsemble(nn.Module):
    """K networks with one input, from rows (r, *S) to their logits (r, K, C).

    A head such as ``MeanProbability`` makes class scores of the logits. The members are submodules,
    named ``members.0`` and so on in the state dict.

    Args:
        members: two networks or more, from (r, *S) to logits (r, C). They share no parameter.

    Raises:
        ValueError: for fewer than two members, anything but networks, or shared parameters.
    """

    gives_members = True  # attacks find the members' logits by it

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not isinstance(members, Sequence) or not all(
            isinstance(member, nn.Module) for member in members
        ):
            raise ValueError(f"members must be a list of networks, got {members!r}")
        if len(members) < LEAST:
            raise ValueError(
                f"an ensemble must have at least {LEAST} members, got {len(members)}: to train one"
                " network, take the recipe 'natural'"
            )
        owned = [id(one) for member in members for one in set(member.parameters())]
        if len(set(owned)) < len(owned) or len({id(member) for member in members}) < len(members):
            raise ValueError(
                "the members of an ensemble must share no parameter, but two of them do"
            )
        self.members = nn.ModuleList(members)

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, K, C) logits for rows (r, *S).

        Raises:
            ValueError: if a member returns no (r, C) tensor, or their shapes differ.
        """
        # copies, because a member may work in place on what it is given
        found = [member(rows.clone()) for member in self.members]
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one) for one in found]
        wanted = shapes[0]
        if not isinstance(wanted, tuple) or len(wanted) != 2 or set(shapes) != {wanted}:
            raise ValueError(
                "the members of an ensemble must return logits of one shape (rows, classes), got"
                f" {', '.join(map(str, shapes))}"
            )
        # each member's logits lie together, so that its gradients are those of the member alone
        return torch.stack(found).transpose(0, 1)


def member_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of an ensemble's members. Those of two runs differ."""
    return [seed * STRIDE + member for member in range(count)]


def make_ensemble(make: Callable[[int], nn.Module], count: int, seed: int) -> JointEnsemble:
    """Make an ensemble whose members start from seeds of their own.

    Args:
        make: makes a network from a seed.
        count: K, the number of members.
        seed: of the ensemble. The members' seeds are ``member_seeds(seed, count)``.

    Raises:
        ValueError: for fewer than two members, or if two members start from equal weights.
    """
    check_count("members", count, least=LEAST)
    ensemble = JointEnsemble([make(one) for one in member_seeds(seed, count)])
    states = [list(member.parameters()) for member in ensemble.members]
    first = states[0]
    for other in states[1:]:
        if all(torch.equal(one, two) for one, two in zip(first, other, strict=True)):
            raise ValueError(
                "the members of an ensemble must start from different weights, but two seeds gave"
                " equal ones: train an untrained network (--untrained, without --weights)"
            )
    return ensemble


def redrawn(network: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a network whose parameters are drawn again by a seed.

    Every module with parameters or buffers of its own needs PyTorch's ``reset_parameters``. The
    caller's random stream on the CPU is put back.

    Raises:
        ValueError: if a module has parameters, but no ``reset_parameters``.
    """
    twin = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, module in twin.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise ValueError(
                    "members can be drawn again only for modules with reset_parameters, but"
                    f" {name or 'the network'} ({type(module).__name__}) has none: pass the members"
                    " themselves"
                )
    return twin


def members(run: Any) -> list[nn.Module]:
    """Return the K networks of an ensemble that was trained together.

    Args:
        run: the result of ``train``, the folder of a finished ``art-ext train``, a loaded model, or
            the ensemble itself, with or without its head.

    Returns:
        The networks themselves or, behind a normalisation of the whole ensemble, modules that
        normalise first.

    Raises:
        ValueError: if there is no ``JointEnsemble`` in it.
    """
    found = run
    if isinstance(run, (str, os.PathLike)):
        from art_ext.models.sources import load_model

        found = load_model(Path(run)).model
    before: list[Normalize] = []
    while not isinstance(found, JointEnsemble):
        if isinstance(found, Preprocessed) and found.normalize is not None:
            before.append(found.normalize)
        inner = getattr(found, "model", None)
        if inner is None or inner is found:
            raise ValueError(
                "members needs an ensemble that was trained together, such as by the recipe 'adp',"
                f" got {run if isinstance(run, (str, os.PathLike)) else type(run).__name__}"
            )
        found = inner
    networks = list(found.members)
    for layer in reversed(before):
        networks = [Preprocessed(one, layer) for one in networks]
    return networks
