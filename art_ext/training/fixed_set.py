"""Fixed sets of adversarial examples, which are made once and then trained on."""

from __future__ import annotations

import inspect
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.attacks import registry
from art_ext.core.attacks.engine.cases import drawn_class
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.checks import check_choice, check_count
from art_ext.core.keywords import hint_at
from art_ext.core.oracle import LabelOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_classes, check_samples, reaches_goal
from art_ext.core.streams import fingerprint
from art_ext.data.arrays import damage_of
from art_ext.storage.files import write_atomically

TARGETS = ("all", "random")
NO_TARGET = -1
ROWS = 1024  # attacked at once
FORMAT = 1


@dataclass(frozen=True, eq=False)
class FixedSet:
    """M adversarial examples with the classes of the samples that they were made from.

    Attributes:
        x: (M, *S) float32 examples, on the CPU.
        y: (M,) int64 true classes.
        source: (M,) int64 positions of the samples among those that were given.
        target: (M,) int64 classes to reach, -1 for an untargeted attack.
        success: (M,) bool, misclassified or the target reached. States of a chain may be no
            success.
        failed: rows without success, which are left out.
        about: attack, arguments, targets, seed and number of samples.
    """

    x: Tensor
    y: Tensor
    source: Tensor
    target: Tensor
    success: Tensor
    failed: int
    about: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.x)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file that ``train(append=...)`` and ``load_data`` read, atomically.

        Raises:
            OSError: if the folder does not exist or cannot be written.
        """
        arrays: dict[str, Any] = {
            name: getattr(self, name).numpy() for name in ("x", "y", "source", "target", "success")
        }
        about = json.dumps({"format": FORMAT, **self.about}, default=repr)
        content = io.BytesIO()
        np.savez(content, **arrays, failed=np.int64(self.failed), about=np.array(about))
        write_atomically(Path(path), content.getvalue())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> FixedSet:
        """Read a set that ``save`` wrote. Nothing is unpickled.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if ``save`` did not write it.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                found: dict[str, Any] = {one.name: archive[one.name] for one in fields(FixedSet)}
                about = json.loads(str(found.pop("about")))
                failed = int(found.pop("failed"))
        except FileNotFoundError:
            raise
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} must be a set that art-ext craft wrote: {damage_of(error)}"
            ) from error
        if about.pop("format", None) != FORMAT:
            raise ValueError(f"{path} must be a set of format {FORMAT}")
        tensors = {name: torch.from_numpy(one) for name, one in found.items()}
        return FixedSet(**tensors, failed=failed, about=about)


def fixed_set(
    model: Model,
    x: Tensor,
    y: Tensor,
    attack: str | AttackSpec | Callable[..., Any],
    *,
    n: int | None = None,
    targets: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FixedSet:
    """Make adversarial examples of some samples once, to train on them.

    A row is a sample and, in a targeted attack, a wrong class t. It contributes
    ``x' = attack(x, y)`` or ``attack(x, t)``, with the true class y. Rows without success are left
    out and counted. An attack that draws a chain contributes all of its states, each with the class
    of its own sample, whether they succeed or not. (The authors of HMCAM repeat the labels in
    another order than the states, so that most labels are wrong.) A sample that is misclassified
    already is an example itself.

    Args:
        model: nn.Module, or a callable from (R, *S) to class scores (R, K).
        x: (N, *S) samples in the box.
        y: (N,) true classes.
        attack: a name that ``art-ext attacks`` lists, an AttackSpec, or a function of
            ``(model, x, y, eps=..., ...)``.
        n: number of samples to attack, drawn at random by the seed. Default: None, all.
        targets: ``"all"``: each of the K - 1 wrong classes, so n (K - 1) rows. ``"random"``: one of
            them for each sample, by the seed. None: untargeted. Default: None.
        arguments: of the attack, such as ``{"eps": .3}``. Default: None, its own defaults.
        seed: of the draw, the targets and the attack. Default: 0.
        progress: called with the rows that are done and all rows. Default: None.

    Returns:
        A ``FixedSet``. Its queries are those of the attack. States of a chain are asked once more.

    Raises:
        ValueError: for samples, classes or arguments that do not fit, an attack that cannot be
            targeted, or if no row succeeds.

    References:
        Sharma, master's thesis, 2018, section 4.3.5 (1,000 images, all wrong classes). Wang, Li,
        Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack and
        learning", IEEE TPAMI 2022, section 5.4.3 (the states of a chain).
    """
    spec = _spec(attack)
    given = dict(arguments or {})
    _check(spec, given, targets)
    check_samples(x)
    check_classes("y", y, len(x))
    check_count("seed", seed, least=0)
    source = _drawn(len(x), n, seed)
    x = x.detach()[source.to(x.device)]
    y = y[source.to(y.device)].to(x.device, torch.int64)
    rows = _Rows.of(model, x, y, targets, seed, given)
    if "seed" in spec.parameters:
        given.setdefault("seed", seed)
    parts: list[tuple[Tensor, ...]] = []
    failed = 0
    for part in torch.arange(len(rows)).split(ROWS):
        found, left_out = _attacked(model, spec, given, x, y, rows.part(part))
        parts.append(found)
        failed += left_out
        if progress is not None:
            progress(int(part[-1]) + 1, len(rows))
    adversarial, labels, owner, target, success = (
        torch.cat(one).cpu() for one in zip(*parts, strict=True)
    )
    if not len(adversarial):
        raise ValueError(f"{spec.name} found no adversarial example in {failed} rows")
    about = {
        "attack": spec.name,
        "arguments": {name: one for name, one in given.items() if name != "seed"},
        "targets": targets,
        "seed": seed,
        "samples": len(source),
    }
    return FixedSet(adversarial, labels, source[owner], target, success, failed, about)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to attack: the sample of each, (M,), and the class to reach, (M,), or -1."""

    owner: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.owner)

    @staticmethod
    def of(
        model: Model, x: Tensor, y: Tensor, targets: str | None, seed: int, given: Mapping[str, Any]
    ) -> _Rows:
        """Return the rows of samples x (n, *S) of classes y (n,)."""
        owner = torch.arange(len(x), device=x.device)
        classes = _classes(model, x, y, given)
        if targets is None:
            return _Rows(owner, torch.full_like(owner, NO_TARGET))
        if classes is None or classes < 2:
            raise ValueError(f"targets={targets!r} needs a model of at least two classes")
        width = classes - 1
        if targets == "random":
            place = drawn_class(seed, fingerprint(x), width)
        else:
            owner = owner.repeat_interleave(width)
            place = torch.arange(width, device=x.device).repeat(len(x))
        return _Rows(owner, place + (place >= y[owner]).long())

    def part(self, rows: Tensor) -> _Rows:
        """Return some of the rows, by their positions."""
        rows = rows.to(self.owner.device)
        return _Rows(self.owner[rows], self.target[rows])


def _attacked(
    model: Model, spec: AttackSpec, given: Mapping[str, Any], x: Tensor, y: Tensor, rows: _Rows
) -> tuple[tuple[Tensor, ...], int]:
    """Attack some rows, and return examples, classes, samples, targets, success; and failures."""
    targeted = bool((rows.target != NO_TARGET).any())
    goal = rows.target if targeted else y[rows.owner]
    more = {"targeted": True} if targeted else {}
    found = spec.function(model, x[rows.owner], goal, **given, **more)
    states = found.samples if isinstance(found, AttackResult) else None
    if states is not None:
        count = len(states)
        examples = states.transpose(0, 1).flatten(0, 1)
        owner = rows.owner.repeat_interleave(count)
        target = rows.target.repeat_interleave(count)
        success = _success(model, examples, goal.repeat_interleave(count), targeted, given)
        return (examples, y[owner], owner, target, success), 0
    if isinstance(found, AttackResult):
        examples = found.x_adv
        success = found.success.to(x.device)
    else:
        examples = found.to(x)
        success = _success(model, examples, goal, targeted, given)
    kept = (
        examples[success],
        y[rows.owner][success],
        rows.owner[success],
        rows.target[success],
        success[success],
    )
    return kept, int((~success).sum())


def _success(
    model: Model, examples: Tensor, goal: Tensor, targeted: bool, given: Mapping[str, Any]
) -> Tensor:
    """Return (R,) bool, True where the model's class is the target, or not the true class."""
    oracle = LabelOracle(
        model, len(examples), default_device=examples.device, **_model_settings(given)
    )
    index = torch.arange(len(examples), device=oracle.device)
    with oracle:
        labels = oracle.labels(examples.to(oracle.device), index)
    return reaches_goal(labels.to(goal.device), goal, targeted)


def _classes(model: Model, x: Tensor, y: Tensor, given: Mapping[str, Any]) -> int | None:
    """Return the number of classes of the model, None for one that returns labels.

    Raises:
        ValueError: for a label without a column in the model's outputs.
    """
    if given.get("outputs") == "labels":
        return None
    oracle = ScoreOracle(model, 1, default_device=x.device, **_model_settings(given))
    with oracle:
        oracle.clean_labels(x[:1].to(oracle.device))
    if oracle.num_classes is not None and int(y.max()) >= oracle.num_classes:
        raise ValueError(
            f"y must hold class indices below {oracle.num_classes}, the model's width, got"
            f" {int(y.max())}"
        )
    return oracle.num_classes


def _model_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("outputs", "batch_size", "device")
    return {name: given[name] for name in names if name in given}


def _spec(attack: str | AttackSpec | Callable[..., Any]) -> AttackSpec:
    """Return the facts of an attack that is named, given, or a function."""
    if isinstance(attack, AttackSpec):
        return attack
    return registry.get(attack) if isinstance(attack, str) else registry.spec_of(attack)


def _check(spec: AttackSpec, given: Mapping[str, Any], targets: str | None) -> None:
    """Raise ValueError for arguments that an attack does not take, and targets that it cannot."""
    spec.check_supplied()
    known = spec.parameters
    for name in given:
        if name in ("model", "x", "y", "targeted", "targets", "sample_ids", "mask", "x_init"):
            raise ValueError(f"{name} is set by fixed_set itself, not by arguments")
        if name not in known:
            raise ValueError(f"{spec.name} has no argument {name!r}{hint_at(name, list(known))}")
    if "eps" not in given and known["eps"] is inspect.Parameter.empty:
        raise ValueError(f"eps must be given for {spec.name}, in the units of x, got none")
    if targets is None:
        return
    check_choice("targets", targets, TARGETS)
    if spec.no_targets:
        raise ValueError(f"{spec.name} cannot be targeted: {spec.no_targets}")


def _drawn(count: int, n: int | None, seed: int) -> Tensor:
    """Return the positions (n,) of samples that are drawn without replacement, ascending."""
    if n is None:
        n = count
    check_count("n", n)
    if n > count:
        raise ValueError(f"n must be at most {count}, the number of samples, got {n}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:n].sort().values
