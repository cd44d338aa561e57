"""AutoAttack in one call, over either of its packages, resumable, its outcome checked by us and
its flags as data.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.adapters.autoattack.package import (
    SIGNS,
    Flag,
    Package,
    check_classes_for,
    find_package,
    fit_targets,
    heard_in,
    listening,
)
from art_ext.adapters.autoattack.state import Chunk, StateFolder, describe_model
from art_ext.adapters.external import Counted, Verdict, fenced
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import Box, attainable_radius, exact_mean
from art_ext.core.identity import describe_samples
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.core.result_file import read_fields
from art_ext.core.samples import check_classes, check_samples
from art_ext.core.streams import resolve_seed

VERSIONS = ("standard", "plus", "rand", "custom")
ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
_PARTS = ("apgd", "apgd_targeted", "fab", "square")

Follower = Callable[[Model, Tensor, Tensor], AttackResult]


@dataclass(frozen=True, eq=False)
class AutoAttackResult(AttackResult):
    """An ``AttackResult``, and what AutoAttack says of it.

    Attributes:
        flags: all six, raised or not.
        accuracies: share of samples that stand, by the name of the attack: after it and all before
            it. ``"clean"`` is the first. Attacks of ``then`` come last.
        broken_by: (N,) int64, the position in accuracies of the attack that succeeded on the
            sample. It is 0 for the clean check, and -1 where the sample stands.
        deviations: where the run is not AutoAttack as its authors publish it, in a sentence each:
            fewer targets for a model of fewer than 10 classes, and the settings of ``adjust``.
    """

    flags: tuple[Flag, ...] = ()
    accuracies: dict[str, float] = field(default_factory=dict)
    broken_by: Tensor | None = None
    deviations: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AutoAttackResult:
        """Read a result that ``save`` wrote, as ``AttackResult.load`` does."""
        found = read_fields(path, cls)
        flags = tuple(Flag(**flag) for flag in found.pop("flags"))
        deviations = tuple(found.pop("deviations"))  # JSON holds lists
        return cls(**found, flags=flags, deviations=deviations)


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
    state_dir: str | Path | None = None,
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
            returns.
        callback: is told after each attack of each chunk.

    Returns:
        The result, with the flags and the accuracies. Rows without success are the input.

    Raises:
        ImportError: if the package is not installed.
        ValueError: naming what was given and what was wanted. A model of too few classes raises it
            before any attack, naming what runs there. A state_dir of another configuration raises
            it, naming the differences, a damaged chunk, naming the file, and a package that fails,
            with its warnings.

    References:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020.
    """
    if tuple(clip_values) != (0, 1):
        raise ValueError(f"AutoAttack knows no box but clip_values=(0, 1), got {clip_values}")
    plan = _Plan(
        model=model,
        eps=eps,
        norm=norm,
        version=version,
        attacks=listed_attacks(attacks),
        adjust=adjust or {},
        then=_named(then),
        outputs=outputs,
        batch_size=batch_size,
        seed=resolve_seed(seed),
        device=device,
        package=find_package(backend),
    )
    check_count("chunk_size", chunk_size)
    plan.check(x, y)
    folder = (
        None if state_dir is None else StateFolder(Path(state_dir), plan.identity(x, y, chunk_size))
    )
    tell = callback or (lambda progress: None)
    chunks = []
    for number, start in enumerate(range(0, max(len(x), 1), chunk_size)):
        part = slice(start, start + chunk_size)
        chunk = folder.read(number, x[part], norm, eps, plan.seed) if folder else None
        if chunk is None:
            try:
                chunk = plan.run(x[part], y[part], functools.partial(_tell_of_all, tell, start))
            except ValueError as error:
                if len(x) <= chunk_size:
                    raise
                raise ValueError(
                    f"in the chunk that begins with sample {start}: {error}"
                ) from error
            if folder:
                folder.write(number, chunk)
        chunks.append(chunk)
    return plan.join(chunks)


def _tell_of_all(tell: Callback, start: int, progress: Progress) -> None:
    """Pass on what happened in a chunk, with the positions that its samples have in x."""
    given = {part.name: getattr(progress, part.name) for part in fields(Progress)}
    tell(Progress(**given | {"index": progress.index + start}))


def listed_attacks(attacks: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names that a text separates by commas, or a sequence holds."""
    names = attacks.split(",") if isinstance(attacks, str) else attacks or ()
    return tuple(str(name).strip() for name in names)


def _named(then: Sequence[Follower | tuple[str, Follower]]) -> dict[str, Follower]:
    """Return the attacks that follow by name: the one given, or that of the function."""
    named: dict[str, Follower] = {}
    for one in then:
        attack = one[1] if isinstance(one, tuple) else one
        name = one[0] if isinstance(one, tuple) else getattr(_function(attack), "__name__", "")
        if not callable(attack) or not name or name in (*named, *ATTACKS, "clean"):
            raise ValueError(
                "then must hold attacks with names of their own, or pairs (name, attack), got"
                f" {one!r} beside {', '.join(named) or 'AutoAttack'}"
            )
        named[name] = attack
    return named


def _function(attack: Any) -> Any:
    return attack.func if isinstance(attack, functools.partial) else attack


def _described(attack: Any) -> str:
    """Describe an attack by its function's name and the arguments fixed in advance."""
    function = _function(attack)
    named = function if hasattr(function, "__qualname__") else type(function)
    fixed = (
        f"{attack.args} {sorted(attack.keywords.items())}"
        if isinstance(attack, functools.partial)
        else ""
    )
    return f"{named.__module__}.{named.__qualname__} {fixed}".strip()


@dataclass(frozen=True)
class _Plan:
    """Settings of a run, the same for every chunk."""

    model: Model
    eps: float
    norm: str
    version: str
    attacks: tuple[str, ...]
    adjust: Mapping[str, Mapping[str, float]]
    then: Mapping[str, Follower]
    outputs: str
    batch_size: int
    seed: int
    device: torch.device | str | None
    package: Package

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError unless AutoAttack and the attacks after it can work with the samples,
        before the model is called.
        """
        check_samples(x)
        if x.dim() != 4:
            raise ValueError(
                f"x must be images of shape (N, C, H, W) for AutoAttack, got {tuple(x.shape)}"
            )
        if y is None:
            raise ValueError(
                "y must be given: AutoAttack attacks the samples that the model gets right, got"
                " None"
            )
        check_classes("y", y, len(x))
        check_choice("version", self.version, VERSIONS)
        if (self.version == "custom") != bool(self.attacks):
            raise ValueError(
                "attacks must be given with version='custom', and only then, got"
                f" version={self.version!r} and attacks={self.attacks}"
            )
        for name in self.attacks:
            check_choice("each of attacks", name, ATTACKS)
        if len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f"attacks must hold each attack once, got {', '.join(self.attacks)}")
        problem = self._problem(x, y)
        self._adversary(Counted(self.model, self.outputs), problem.oracle.device, x)
        for name, attack in self.then.items():
            self._follow(name, attack, x[:0], y[:0])

    def identity(self, x: Tensor, y: Tensor, chunk_size: int) -> dict[str, Any]:
        """Return all that decides the outcome."""
        return {
            "tool": "art-ext autoattack",
            "package": f"{self.package.name} {self.package.version}",
            "model": describe_model(self.model),
            "outputs": self.outputs,
            "data": describe_samples(x, y),
            "norm": self.norm,
            "eps": self.eps,
            "version": self.version,
            "attacks": self.attacks,
            "adjust": {part: dict(settings) for part, settings in self.adjust.items()},
            # a list, since order counts
            "then": [[name, _described(attack)] for name, attack in self.then.items()],
            "seed": self.seed,
            "batch_size": self.batch_size,
            "chunk_size": chunk_size,
        }

    def _problem(self, x: Tensor, y: Tensor) -> Problem:
        options = AttackOptions(
            outputs=self.outputs, batch_size=self.batch_size, device=self.device, seed=self.seed
        )
        return Problem.of(
            self.model, x, y, eps=self.eps, norm=self.norm, options=options, oracle=ScoreOracle
        )

    def _box(self, x: Tensor) -> Box:
        return Box.of((0.0, 1.0), x.shape[1:], torch.device("cpu"))

    def run(self, x: Tensor, y: Tensor, callback: Callback) -> Chunk:
        """Attack one chunk: all of the package's attacks in turn, and then ours."""
        problem = self._problem(x, y)
        oracle = problem.oracle
        network = Counted(self.model, self.outputs)
        with oracle:
            adversary = self._adversary(network.eval(), oracle.device, x)
            verdict = Verdict("AutoAttack", problem, callback)
            deviations = self._fit(adversary, oracle.num_classes)
            broken_by = torch.where(verdict.already, 0, -1)
            heard: dict[str, str] = {}
            names = [*adversary.attacks_to_run, *self.then]
            for number, name in enumerate(names, start=1):
                index = verdict.alive()
                if not len(index):
                    break
                if name in self.then:
                    success = self._after(name, verdict, index)
                else:
                    moved, complaints = self._attack(
                        adversary, name, verdict.x[index], problem.goal.labels[index]
                    )
                    heard = complaints | heard
                    network.eval()  # an attack may leave the model in the mode of training
                    network.charge(oracle, index)
                    success = verdict.check(moved, index)
                broken_by[index[success]] = number
                verdict.tell(number, index, finished=success | (number == len(names)))
        return Chunk(
            verdict.result(x.device, self.seed),
            broken_by.to(x.device),
            tuple(names),
            heard,
            deviations,
        )

    def _fit(self, adversary: Any, classes: int | None) -> tuple[str, ...]:
        """Adapt the package's object to the number of classes, and say where it is not as
        published then.
        """
        changes = [
            f"{part}.{name} = {value}, by adjust"
            for part, settings in self.adjust.items()
            for name, value in settings.items()
        ]
        if classes is not None:  # known once the model was called
            check_classes_for(adversary.attacks_to_run, classes)
            changes += fit_targets(adversary, adversary.attacks_to_run, classes)
        return tuple(changes)

    def _adversary(self, network: nn.Module, device: torch.device, x: Tensor) -> Any:
        """Return the package's object, adjusted."""
        radius = attainable_radius(self.norm, self.eps, self._box(x), math.prod(x.shape[1:]))
        with listening():
            adversary = self.package.kind(
                network,
                norm=self.norm.capitalize(),
                eps=radius,
                seed=self.seed,
                verbose=False,
                attacks_to_run=list(self.attacks),
                version=self.version,
                device=device,
            )
        for part, settings in self.adjust.items():
            if part not in _PARTS or not isinstance(settings, Mapping):
                raise ValueError(
                    f"adjust must hold settings of {', '.join(_PARTS)}, got {part!r}: {settings!r}"
                )
            for name, value in settings.items():
                if not hasattr(getattr(adversary, part), name) or not isinstance(
                    value, int | float
                ):
                    raise ValueError(
                        f"adjust must hold numbers that the attack has, got {part}.{name}:"
                        f" {value!r}"
                    )
                setattr(getattr(adversary, part), name, value)
        return adversary

    def _attack(
        self, adversary: Any, name: str, x: Tensor, y: Tensor
    ) -> tuple[Tensor, dict[str, str]]:
        """Run one of the package's attacks on x (M, *S). Return its outcome and the package's
        complaints.
        """
        adversary.attacks_to_run = [name]
        # of the whole process: an earlier model's calls must not count for this
        counters = self.package.checks.funcs
        counters.update(dict.fromkeys(counters, 0))
        try:
            with fenced(self.seed), listening() as lines:
                moved = adversary.run_standard_evaluation(x.clone(), y.clone(), bs=self.batch_size)
        except Exception as error:  # it may fail in any way on a model that it did not expect
            warned = "; ".join(heard_in(lines).values())
            raise ValueError(
                f"{self.package.name} fails in {name}: {type(error).__name__}: {error}"
                + (f" (it had warned: {warned})" if warned else "")
            ) from error
        return moved, heard_in(lines)

    def _after(self, name: str, verdict: Verdict, index: Tensor) -> Tensor:
        """Run one of our attacks on the samples that stand. Its own count of rows is taken."""
        goal = verdict.problem.goal.labels[index]
        result = self._follow(name, self.then[name], verdict.x[index], goal)
        for column in ("queries", "gradients", "wasted_rows"):
            getattr(verdict.oracle, column)[index] += getattr(result, column)
        success = result.success.clone()
        success[result.success] = verdict.check(result.x_adv[result.success], index[result.success])
        return success

    def _follow(self, name: str, attack: Follower, x: Tensor, y: Tensor) -> AttackResult:
        result = attack(self.model, x, y)
        if not isinstance(result, AttackResult):
            raise ValueError(
                f"{name} of then must return an AttackResult, got {type(result).__name__}"
            )
        if result.norm != self.norm or result.eps is None or not math.isclose(result.eps, self.eps):
            raise ValueError(
                f"{name} of then must fill the same ball, norm={self.norm!r} and eps={self.eps}, "
                f"got norm={result.norm!r} and eps={result.eps}"
            )
        return result

    def join(self, chunks: Sequence[Chunk]) -> AutoAttackResult:
        """One result of all chunks, with the accuracies and the flags of the whole."""
        result = AttackResult.cat([chunk.result for chunk in chunks])
        broken_by = torch.cat([chunk.broken_by for chunk in chunks])
        names = ["clean", *chunks[0].names]
        stands = [
            exact_mean((broken_by < 0) | (broken_by > number)) for number in range(len(names))
        ]
        accuracies = dict(zip(names, stands, strict=True))
        heard: dict[str, str] = {}
        for chunk in chunks:
            heard = chunk.heard | heard
        with listening() as lines:
            self.package.checks.check_square_sr(
                {name: accuracies[name] for name in names[: -len(self.then) or None]}
            )
        heard |= heard_in(lines)
        unseen = (
            dict.fromkeys(SIGNS, "not checked: no sample to attack")
            if bool((broken_by == 0).all())
            else {}
        )
        if self.version == "rand":
            unseen["randomised"] = "not checked by version='rand'"
        flags = [Flag(name, name in heard, heard.get(name, unseen.get(name, ""))) for name in SIGNS]
        deviations = tuple(dict.fromkeys(one for chunk in chunks for one in chunk.deviations))
        own = {part.name: getattr(result, part.name) for part in fields(AttackResult)}
        return AutoAttackResult(
            **own,
            flags=tuple(flags),
            accuracies=accuracies,
            broken_by=broken_by,
            deviations=deviations,
        )
