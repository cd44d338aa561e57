"""One chunk of an AutoAttack run: the attacks of the package in turn, and then ours."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from art_ext.adapters.autoattack.package import check_classes_for, fit_targets, heard_in, listening
from art_ext.adapters.autoattack.plan import Plan
from art_ext.adapters.autoattack.state import Chunk
from art_ext.adapters.external import MODEL_CHANGED, Counted, Verdict, fenced
from art_ext.adapters.network_state import describe_changes, preserved
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.interruption import ModelStopped
from art_ext.core.outside import describe_outside
from art_ext.core.result import AttackResult, Callback

logger = logging.getLogger("art_ext")

_PARTS = ("apgd", "apgd_targeted", "fab", "square")


class Adversary:
    """The package's object, adjusted.

    Args:
        plan: settings of the run.
        network: the model as logits.
        problem: the samples. Only its device and radius are read.

    Attributes:
        names: the attacks that it runs, in order.
    """

    def __init__(self, plan: Plan, network: nn.Module, problem: Problem) -> None:
        self._plan = plan
        with listening():
            self._own = plan.package.kind(
                network,
                norm=plan.norm.capitalize(),
                eps=problem.radius,
                seed=plan.seed,
                verbose=False,
                attacks_to_run=list(plan.attacks),
                version=plan.version,
                device=problem.oracle.device,
            )
        self.names = tuple(self._own.attacks_to_run)
        for part, settings in plan.adjust.items():
            self._adjust(part, settings)

    def _adjust(self, part: str, settings: Mapping[str, float]) -> None:
        """Set the attributes of one of the package's attack objects.

        Raises:
            ValueError: for an unknown object or attribute, or a value that is not a number.
        """
        if part not in _PARTS or not isinstance(settings, Mapping):
            raise ValueError(
                f"adjust must hold settings of {', '.join(_PARTS)}, got {part!r}: {settings!r}"
            )
        attack = getattr(self._own, part)
        for name, value in settings.items():
            if not hasattr(attack, name) or not isinstance(value, int | float):
                raise ValueError(
                    f"adjust must hold numbers that the attack has, got {part}.{name}: {value!r}"
                )
            setattr(attack, name, value)

    def fit(self, classes: int | None) -> tuple[str, ...]:
        """Adapt the targeted attacks to the number of classes.

        Args:
            classes: None if the model was not called.

        Returns:
            The deviations from AutoAttack as published, in a sentence each.
        """
        changes = [
            f"{part}.{name} = {value}, by adjust"
            for part, settings in self._plan.adjust.items()
            for name, value in settings.items()
        ]
        if classes is not None:
            check_classes_for(self.names, classes)
            changes += fit_targets(self._own, self.names, classes)
        return tuple(changes)

    def attack(self, name: str, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, str]]:
        """Run one of the package's attacks.

        Args:
            name: of the attack.
            x: (M, C, H, W) samples.
            y: (M,) their labels.

        Returns:
            The outputs (M, C, H, W), and the complaints by the name of their flag.
        """
        package = self._plan.package
        self._own.attacks_to_run = [name]
        # of the whole process: an earlier model's calls must not count for this
        counters = package.checks.funcs
        counters.update(dict.fromkeys(counters, 0))
        try:
            with (
                fenced(self._plan.seed, self._plan.model, f"AutoAttack's {name}") as changed,
                listening() as lines,
            ):
                moved = self._own.run_standard_evaluation(
                    x.clone(), y.clone(), bs=self._plan.batch_size
                )
        except ModelStopped:
            raise
        except Exception as error:  # it may fail in any way on a model that it did not expect
            warned = "; ".join(heard_in(lines).values())
            raise ValueError(
                f"{package.name} fails in {name}: {type(error).__name__}: {error}"
                + (f" (it had warned: {warned})" if warned else "")
            ) from error
        complaints = heard_in(lines)
        if changed:
            complaints[MODEL_CHANGED] = describe_changes(f"AutoAttack's {name}", changed)
        return moved, complaints


def check_plan(plan: Plan, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless a run can work with the samples, before the model is called."""
    plan.check(x, y)
    Adversary(plan, Counted(plan.model, plan.outputs), plan.problem(x, y))
    for name in plan.then:
        with preserved(plan.model, name):
            _follow(plan, name, x[:0], y[:0])


def run_chunk(plan: Plan, x: Tensor, y: Tensor, callback: Callback) -> Chunk:
    """Attack the samples x (n, C, H, W) with labels y (n,): the package's attacks, then ours."""
    problem = plan.problem(x, y)
    oracle = problem.oracle
    network = Counted(plan.model, plan.outputs)
    with oracle:
        adversary = Adversary(plan, network.eval(), problem)
        verdict = Verdict("AutoAttack", problem, callback)
        deviations = adversary.fit(oracle.num_classes)
        broken_by = torch.where(verdict.already, 0, -1)
        heard: dict[str, str] = {}
        names = (*adversary.names, *plan.then)
        for number, name in enumerate(names, start=1):
            index = verdict.alive()
            if not len(index):
                break
            if name in plan.then:
                success, complaints = _after(plan, name, verdict, index)
            else:
                goal = problem.goal.labels[index]
                moved, complaints = adversary.attack(name, verdict.x[index], goal)
                network.eval()  # an attack may leave the model in the mode of training
                network.charge(oracle, index)
                success = verdict.check(moved, index)
            heard = complaints | heard
            broken_by[index[success]] = number
            verdict.tell(number, index, finished=success | (number == len(names)))
    result = verdict.result(x.device, plan.seed)
    if result.outside is not None:
        count = int(result.outside.rows.sum())
        logger.warning("AutoAttack: %s", describe_outside(count, **result.outside.numbers))
    return Chunk(result, broken_by.to(x.device), names, heard, deviations)


def _after(plan: Plan, name: str, verdict: Verdict, index: Tensor) -> tuple[Tensor, dict[str, str]]:
    """Run one of our attacks on the samples without success. Its own count of rows is taken.

    Returns:
        (M,) bool successes, and the complaints by the name of their flag.
    """
    goal = verdict.problem.goal.labels[index]
    with preserved(plan.model, name) as changed:
        result = _follow(plan, name, verdict.x[index], goal)
    for column in ("queries", "gradients", "wasted_rows"):
        getattr(verdict.oracle, column)[index] += getattr(result, column)
    success = result.success.clone()
    success[result.success] = verdict.check(result.x_adv[result.success], index[result.success])
    complaints = {MODEL_CHANGED: describe_changes(name, changed)} if changed else {}
    return success, complaints


def _follow(plan: Plan, name: str, x: Tensor, y: Tensor) -> AttackResult:
    """Run one of our attacks.

    Raises:
        ValueError: if it returns anything but an AttackResult of the same ball.
    """
    result = plan.then[name](plan.model, x, y)
    if not isinstance(result, AttackResult):
        raise ValueError(f"{name} of then must return an AttackResult, got {type(result).__name__}")
    if result.norm != plan.norm or result.eps is None or not math.isclose(result.eps, plan.eps):
        raise ValueError(
            f"{name} of then must fill the same ball, norm={plan.norm!r} and eps={plan.eps}, got"
            f" norm={result.norm!r} and eps={result.eps}"
        )
    return result
