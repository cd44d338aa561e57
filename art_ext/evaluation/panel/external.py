"""Attacks that do not count their queries: other toolkits, AutoAttack, functions of users.

The evaluation checks before and after, and counts rows. External attacks call the model without
sample ids, so the rows of a call are spread evenly over its samples. Their sum is exact. Attacks of
other toolkits end by their own settings: ``max_queries`` does not limit them.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.adapters.external import SCORE_PARTS, Counted, Verdict, fenced
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.registry import AttackSpec, parameters_of
from art_ext.core.checks import nearest, same_name
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.evaluation.panel.arguments import check_arguments
from art_ext.evaluation.panel.attack import MODEL_SETTINGS, Attack, AttackRequest, check_outputs
from art_ext.evaluation.panel.toolkits import OFFERED, TOOLKITS, Batch, External, Function

COUNTED = (
    " A wrapper counts the rows that it sends forward and backward. They are spread evenly over the"
    " samples of a call, since an external attack calls the model without sample ids. The clean"
    " check before and the check of the outcome after are one query each."
)


def external_attack(name: str, arguments: Mapping[str, Any]) -> Attack:
    """Return an external attack as a member of a panel.

    Args:
        name: ``torchattacks:CLASS``, ``art:CLASS`` (of ``art.attacks.evasion``), ``foolbox:CLASS``
            (of ``foolbox.attacks``), a class that takes eps, or ``autoattack``.
        arguments: of its constructor, besides the settings. For AutoAttack those of
            ``run_autoattack`` that change its results.

    Raises:
        ValueError: for an unknown toolkit or class, a class that takes no eps, or arguments that it
            does not take.
        ImportError: if the toolkit is not installed or cannot be imported.
    """
    if name.casefold() == "autoattack":
        return _autoattack(arguments)
    given, _, kind_name = name.partition(":")
    prefix = same_name(given, TOOLKITS)
    if prefix is None:
        raise ValueError(
            f"an external attack must be given as {' or '.join(f'{one}:CLASS' for one in TOOLKITS)}"
            f" or FILE.py:FUNCTION, got {name!r}{nearest(given, TOOLKITS)}"
        )
    found = TOOLKITS[prefix].find(prefix, kind_name, arguments)
    check_arguments(found.name, arguments, found.parameters)
    compares_four = found.name in ("torchattacks:APGDT", "torchattacks:AutoAttack")
    return Attack(
        found.name,
        ExternalRun(found),
        nearest=False,
        minimises=found.minimises,
        arguments=arguments,
        checks_first=True,
        access=found.access,
        about=(
            f"{found.name} is the attack of that toolkit, on the correctly classified samples in"
            f" calls of one batch.{COUNTED}"
        ),
        no_targets=found.no_targets,
        check_classes=functools.partial(_check_four_classes, found.name) if compares_four else None,
    )


def function_member(spec: AttackSpec, arguments: Mapping[str, Any]) -> Attack:
    """Return a registered function of unknown access as a member of a panel.

    Raises:
        ValueError: for arguments that it does not take, or a missing one.
    """
    parameters = spec.parameters
    check_arguments(spec.name, arguments, parameters, [spec.budget])
    for key, default in parameters.items():
        given = key in arguments or key in OFFERED or key == spec.budget
        if default is inspect.Parameter.empty and not given and key not in list(parameters)[:3]:
            raise ValueError(f"{spec.name} needs its argument {key}: give it {spec.name}.{key}")
    found = Function(spec.name, arguments, spec)
    return Attack(
        spec.name,
        ExternalRun(found),
        nearest=False,
        minimises=found.minimises,
        bounded=bool(spec.budget),
        arguments=arguments,
        checks_first=True,
        about=f"{spec.name}: {spec.summary}{COUNTED}",
        no_targets=found.no_targets,
    )


def _check_four_classes(name: str, classes: int) -> None:
    """Raise ValueError unless a model has at least 4 classes, as the targeted DLR loss needs."""
    if classes < 4:
        raise ValueError(
            f"{name} needs a model of at least 4 classes, since its DLR loss compares the third and"
            f" fourth score, got {classes}: use torchattacks:APGD and torchattacks:FAB, or --panel"
            " standard"
        )


@dataclass(frozen=True)
class AutoAttackRun:
    """Callable that runs AutoAttack with the settings. Its flags are part of its result.

    Attributes:
        arguments: its arguments besides the settings.
    """

    arguments: Mapping[str, Any]

    def __call__(self, request: AttackRequest) -> AttackResult:
        """Attack the samples of the request and return the result."""
        from art_ext.adapters.autoattack import run_autoattack

        return run_autoattack(
            request.model,
            request.x,
            request.goal,
            eps=request.eps,
            chunk_size=max(1, len(request.x)),
            callback=request.callback,
            **request.settings.keywords("norm", "seed", *MODEL_SETTINGS),
            **self.arguments,
        )


def _autoattack(arguments: Mapping[str, Any]) -> Attack:
    """Return AutoAttack as a member of a panel. Its flags are part of its result."""
    from art_ext.adapters.autoattack import listed_attacks, run_autoattack
    from art_ext.adapters.autoattack.package import OF_VERSION, check_classes_for, find_package

    own = ("version", "attacks", "adjust", "backend")
    check_arguments(
        "autoattack", arguments, {key: parameters_of(run_autoattack)[key] for key in own}
    )
    find_package(str(arguments.get("backend", "auto")))
    version = arguments.get("version", "standard")
    runs = listed_attacks(arguments.get("attacks")) or OF_VERSION.get(str(version), ())
    return Attack(
        "autoattack",
        AutoAttackRun(arguments),
        nearest=False,
        arguments=arguments,
        checks_first=True,
        access="scores" if set(runs) <= set(SCORE_PARTS) else "gradients",
        check_classes=functools.partial(check_classes_for, runs),
        about=(
            "AutoAttack runs its attacks in turn on the samples of a chunk without success, and"
            " flags signs of doubtful numbers. A wrapper counts the rows of each attack. They are"
            " spread evenly over the samples that it runs on. Our clean check before and our check"
            " of each outcome are one query each. Its apgd-t and fab-t target min(9, K - 1) of a"
            " model's K classes (in L1, apgd-t min(5, K - 1))."
        ),
        no_targets="AutoAttack chooses the target classes itself",
    )


@dataclass(frozen=True)
class ExternalRun:
    """Callable that runs an external attack with the settings.

    Attributes:
        attack: the attack and its way of being called.
        last: report its outputs also where they fail.
    """

    attack: External
    last: bool = False

    def __call__(self, request: AttackRequest) -> AttackResult:
        """Attack the samples of the request and return the result."""
        return _Run(self.attack, request, self.last).result()


@dataclass(frozen=True)
class _Run:
    """One external attack on one chunk of samples."""

    attack: External
    request: AttackRequest
    last: bool = False

    def result(self) -> AttackResult:
        """Run the attack on the samples without success, and check its outcome."""
        request = self.request
        settings = request.settings
        check_outputs(self.attack.name, "scores", settings)
        self._check_norm()
        problem = Problem.of(
            request.model,
            request.x,
            request.goal,
            eps=request.eps,
            norm=settings.norm,
            options=AttackOptions(
                targets=None if settings.targeted is None else request.goal,
                **settings.keywords("seed", *MODEL_SETTINGS),
            ),
            oracle=ScoreOracle,
        )
        with problem.oracle:
            if not len(request.x):
                # the class checks its arguments
                self._craft(problem, problem.index, classes=2)
            return self._attack(problem)

    def _check_norm(self) -> None:
        norm = self.request.settings.norm
        own = self.attack.norm(norm)
        if norm != own:
            raise ValueError(
                f"{self.attack.name} fills a ball of norm={own!r} only, got norm={norm!r}"
            )

    def _attack(self, problem: Problem) -> AttackResult:
        settings = self.request.settings
        verdict = Verdict(self.attack.name, problem, self.request.callback, self.last)
        limit = self.attack.row_limit(settings)
        index = verdict.alive() if limit != 0 else verdict.alive()[:0]
        for step, part in enumerate(index.split(settings.batch_size), start=1):
            if not len(part):
                break
            moved, changed = self._craft(problem, part, int(problem.oracle.num_classes or 0))
            verdict.changed |= dict.fromkeys(changed)
            success = verdict.check(moved, part)
            verdict.tell(step, part, finished=torch.ones_like(success))
        return verdict.result(self.request.x.device, settings.seed)

    def _craft(self, problem: Problem, index: Tensor, classes: int) -> tuple[Tensor, list[str]]:
        """Attack the samples in index (M,), which are charged.

        Returns:
            The attack's tensors (M, *S), and the names of what it changed in the network.
        """
        settings = self.request.settings
        model = self.request.model
        x = problem.shaped(problem.x[index])
        limit = self.attack.row_limit(settings)
        network = Limited(model, settings.outputs, limit, len(x)).eval()
        batch = Batch(network, x, problem.goal.labels[index], classes, problem.radius, settings)
        try:
            with (
                fenced(settings.seed, model, self.attack.name) as changed,
                redirect_stdout(io.StringIO()),
            ):
                moved = self.attack.craft(batch).detach()
        except (AttackInterrupted, ModelStopped):
            raise
        except Exception as error:
            # an external attack may fail in any way on samples, a model or arguments
            raise ValueError(
                f"{self.attack.name} fails: {type(error).__name__}: {error}"
            ) from error
        if network.stop is not None:  # the toolkit may have caught it
            raise network.stop
        if len(index):
            network.charge(problem.oracle, index)
        return moved, changed


class Limited(Counted):
    """A model that counts its rows and raises ValueError before they exceed a budget.

    Args:
        model, outputs: as in ``Counted``.
        limit: most forward rows of a sample. None for no limit.
        samples: number of samples in the batch.

    Attributes:
        stop: raised by the model, or None.
    """

    def __init__(self, model: Model, outputs: str, limit: int | None, samples: int) -> None:
        super().__init__(model, outputs)
        self.limit = limit
        self.samples = samples
        self.stop: ModelStopped | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits (R, K) of rows (R, *S)."""
        sent = self.forwards + len(rows)
        if self.limit is not None and sent > self.limit * self.samples:
            raise ValueError(
                f"its budget is {self.limit} rows per sample, and it sends"
                f" {sent / self.samples:.4g} per sample ({sent} rows for the {self.samples} samples"
                " of this call)"
            )
        try:
            return super().forward(rows)
        except ModelStopped as stop:
            self.stop = stop
            raise
