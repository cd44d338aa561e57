"""Attacks of torchattacks, ART and foolbox, and AutoAttack, beside ours: we check before and after,
and count rows.

A peer does not say whose row it sends through the model, so the rows of a call are spread evenly
over its samples; the sum is exact. Peers end by their own settings: ``max_queries`` does not bind
them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import math
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.adapters.external import Counted, Verdict, fenced
from art_ext.core.checks import nearest, same_name
from art_ext.core.geometry import Box, attainable_radius
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.problem import Problem, admit, pose
from art_ext.core.result import AttackResult, Callback
from art_ext.evaluation.panel import Attack, Settings, check_arguments, parameters_of


def peer_attack(name: str, arguments: Mapping[str, Any]) -> Attack:
    """A member of the panel made of a peer's class.

    Args:
        name: ``torchattacks:CLASS``, ``art:CLASS`` (of ``art.attacks.evasion``), ``foolbox:CLASS``
            (of ``foolbox.attacks``), a class that can be given eps; or ``autoattack``.
        arguments: of its constructor, besides what the settings say; of AutoAttack those of
            ``run_autoattack`` that decide what it does.

    Raises:
        ValueError: for an unknown toolkit or class, a class that takes no eps, or arguments that it
            does not take.
        ImportError: if the toolkit is not installed or cannot be imported.
    """
    if name == "autoattack":
        return _autoattack(arguments)
    given, _, kind_name = name.partition(":")
    prefix = same_name(given, _TOOLKITS)
    if prefix is None:
        raise ValueError(
            f"a peer's attack must be given as {' or '.join(_FORMS)}, got"
            f" {name!r}{nearest(given, _TOOLKITS)}"
        )
    toolkit = _TOOLKITS[prefix]
    kind_name, kind = _find(toolkit, kind_name, name)
    name = f"{prefix}:{kind_name}"
    parameters = parameters_of(kind)
    check_arguments(name, arguments, parameters)
    aims = toolkit.aims(parameters)
    compares_four = prefix == "torchattacks" and kind_name in ("APGDT", "AutoAttack")

    def run(
        model: Model, x: Tensor, goal: Tensor, eps: float, settings: Settings, callback: Callback
    ) -> AttackResult:
        return _Run(name, toolkit, kind, arguments, model, x, eps, settings, callback).result(goal)

    return Attack(
        name,
        run,
        nearest=False,
        minimises=toolkit.minimises(kind),
        arguments=arguments,
        checks_first=True,
        about=(
            f"{name} is the attack of that toolkit, on the correctly classified samples in calls of"
            " one batch. A wrapper counts the rows that it sends forward and backward; they are"
            " spread evenly over the samples of a call, since a peer does not say whose row it is."
            " Our clean check before and our check of the outcome after are one query each."
        ),
        no_targets="" if aims else f"{name} has no parameter 'targeted'",
        check_classes=functools.partial(_check_four_classes, name) if compares_four else None,
    )


def _check_four_classes(name: str, classes: int) -> None:
    """Raise ValueError for a model of fewer than 4 classes, for whose scores there is no
    targeted DLR loss.
    """
    if classes < 4:
        raise ValueError(
            f"{name} needs a model of at least 4 classes, since its DLR loss compares the third and"
            f" fourth score, got {classes}: use torchattacks:APGD and torchattacks:FAB, or --panel"
            " standard"
        )


def _autoattack(arguments: Mapping[str, Any]) -> Attack:
    """AutoAttack; its flags travel on its result."""
    from art_ext.adapters.autoattack import listed_attacks, run_autoattack
    from art_ext.adapters.autoattack.package import OF_VERSION, check_classes_for

    own = ("version", "attacks", "adjust", "backend")
    check_arguments(
        "autoattack", arguments, {key: parameters_of(run_autoattack)[key] for key in own}
    )

    def run(
        model: Model, x: Tensor, goal: Tensor, eps: float, settings: Settings, callback: Callback
    ) -> AttackResult:
        return run_autoattack(
            model,
            x,
            goal,
            eps=eps,
            norm=settings.norm,
            outputs=settings.outputs,
            clip_values=settings.clip_values,
            batch_size=settings.batch_size,
            chunk_size=max(1, len(x)),
            seed=settings.seed,
            device=settings.device,
            callback=callback,
            **arguments,
        )

    version = arguments.get("version", "standard")
    runs = listed_attacks(arguments.get("attacks")) or OF_VERSION.get(str(version), ())
    return Attack(
        "autoattack",
        run,
        nearest=False,
        arguments=arguments,
        checks_first=True,
        check_classes=functools.partial(check_classes_for, runs),
        about=(
            "AutoAttack runs its attacks in turn on the samples of a chunk that stand, and flags"
            " what makes its numbers doubtful. A wrapper counts the rows of each attack; they are"
            " spread evenly over the samples that it runs on. Our clean check before and our check"
            " of each outcome are one query each. Its apgd-t and fab-t aim at min(9, K - 1) of a"
            " model's K classes (in L1, apgd-t at min(5, K - 1))."
        ),
        no_targets="AutoAttack aims at every class by itself",
    )


# ---- the toolkits


Craft = Callable[["_Run", nn.Module, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class _Toolkit:
    """What differs between the toolkits.

    Attributes:
        module: where the attacks are.
        base: module and name of the class that all attacks descend from.
        install: what brings it.
        takes_eps: whether a class can be told the radius.
        norm: which norm's ball a class fills, where the settings ask for one; the same one if it
            can fill that too.
        aims: whether a class with these parameters may be targeted.
        minimises: whether a class is a minimum-norm attack.
        craft: from (run, network, x, goal, classes) to the tensors that x (M, *S) ended at; makes
            the attack only, and returns x, if there are no samples.
    """

    module: str
    base: tuple[str, str]
    install: str
    takes_eps: Callable[[type], bool]
    norm: Callable[[type, str], str]
    aims: Callable[[Mapping[str, Any]], bool]
    craft: Craft
    # of classes that fill a ball of radius eps
    minimises: Callable[[type], bool] = lambda kind: False

    def load(self) -> tuple[ModuleType, type]:
        """The module and the base class.

        Raises:
            ImportError: if it is not installed, or fails on import.
        """
        package = self.module.partition(".")[0]
        if find_spec(package) is None:
            raise ImportError(f"{package} is not installed: pip install {self.install}")
        try:
            module = importlib.import_module(self.module)
            return module, getattr(importlib.import_module(self.base[0]), self.base[1])
        except Exception as error:  # whatever a half-built extension raises
            raise ImportError(
                f"{package} is installed but cannot be imported (`art-ext doctor` says more):"
                f" {error}"
            ) from error


def _find(toolkit: _Toolkit, kind_name: str, name: str) -> tuple[str, type]:
    module, base = toolkit.load()
    known = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    own = same_name(kind_name, known)
    if own is None:
        raise ValueError(
            f"there is no attack {name!r} in {toolkit.module}{nearest(kind_name, known)}"
        )
    if not toolkit.takes_eps(known[own]):
        raise ValueError(
            f"{name} takes no eps: only attacks that work within a given eps can be evaluated"
        )
    return own, known[own]


def _takes_eps(kind: type) -> bool:
    return "eps" in parameters_of(kind)


def _norm_by_name(kind: type, asked: str) -> str:
    """Of torchattacks and ART: what the argument says or, without one, the name."""
    if "norm" in parameters_of(kind):
        return asked
    return "l2" if "L2" in kind.__name__ else "linf"


def _norm_of_foolbox(kind: type, asked: str) -> str:
    """What the class says or, where an object chooses, its name; without either the object is
    given the norm.
    """
    if "constraint" in parameters_of(kind):  # HopSkipJump's word, which its class contradicts
        return asked if asked != "l1" else "linf or l2"
    order = getattr(getattr(kind, "distance", None), "p", None)
    named = [
        f"l{mark}"
        for mark in ("inf", "2", "1", "0")
        if kind.__name__.lower().startswith(f"l{mark}")
    ]
    if order is not None:
        return f"l{order:g}"
    return named[0] if named else asked


def _minimises_in_foolbox(kind: type) -> bool:
    from foolbox.attacks.base import MinimizationAttack

    return issubclass(kind, MinimizationAttack)


def _craft_torchattacks(
    run: _Run, network: nn.Module, x: Tensor, goal: Tensor, classes: int
) -> Tensor:
    if run.settings.clip_values != (0.0, 1.0):
        raise ValueError(
            f"torchattacks knows no box but clip_values=(0, 1), got {run.settings.clip_values}"
        )
    norm, seed = run.settings.norm.capitalize(), run.settings.seed  # Linf, L2, L1
    attack = run.kind(network, **run.options(norm=norm, seed=seed, n_classes=classes))
    attack.set_device(x.device)  # it looks at the first parameter, and a callable has none
    if run.settings.targeted is not None:
        attack.set_mode_targeted_by_label(quiet=True)
    crafted: Tensor = attack(x, goal) if len(x) else x
    return crafted


def _craft_art(run: _Run, network: nn.Module, x: Tensor, goal: Tensor, classes: int) -> Tensor:
    from art.estimators.classification import PyTorchClassifier

    settings = run.settings
    norm = {"linf": np.inf, "l2": 2, "l1": 1}[settings.norm]
    classifier = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        classes,
        clip_values=settings.clip_values,
        device_type="cpu" if x.device.type == "cpu" else "gpu",
    )
    aimed = settings.targeted is not None
    attack = run.kind(
        classifier, **run.options(norm=norm, targeted=aimed, batch_size=settings.batch_size)
    )
    if not len(x):
        return x
    one_hot = nn.functional.one_hot(goal, classes).float().cpu().numpy()
    return torch.from_numpy(np.array(attack.generate(x.cpu().numpy(), one_hot), np.float32)).to(
        x.device
    )


def _craft_foolbox(run: _Run, network: nn.Module, x: Tensor, goal: Tensor, classes: int) -> Tensor:
    import foolbox

    distance = foolbox.distances.LpDistance({"linf": math.inf, "l2": 2, "l1": 1}[run.settings.norm])
    attack = run.kind(**run.options(distance=distance, constraint=run.settings.norm))
    if not len(x):
        return x
    aimed = run.settings.targeted is not None
    criterion = (
        foolbox.criteria.TargetedMisclassification if aimed else foolbox.criteria.Misclassification
    )(goal)
    model = foolbox.PyTorchModel(network, bounds=run.settings.clip_values, device=x.device)
    # cut to the ball; whether it fools is for us to say, since a failed search may end at an image
    # of zeros
    _, inside, _ = attack(model, x, criterion, epsilons=run.radius)
    crafted: Tensor = inside
    return crafted


_TOOLKITS = {
    "torchattacks": _Toolkit(
        "torchattacks",
        ("torchattacks.attack", "Attack"),
        "'art-ext[torchattacks]'",
        _takes_eps,
        _norm_by_name,
        lambda parameters: True,  # an object of the class says it, when it is made
        _craft_torchattacks,
    ),
    "art": _Toolkit(
        "art.attacks.evasion",
        ("art.attacks.attack", "EvasionAttack"),
        "adversarial-robustness-toolbox",
        _takes_eps,
        _norm_by_name,
        lambda parameters: "targeted" in parameters,
        _craft_art,
    ),
    "foolbox": _Toolkit(
        "foolbox.attacks",
        ("foolbox.attacks.base", "Attack"),
        "'foolbox>=3.3.3,<4'",
        lambda kind: hasattr(kind, "distance"),  # those are called with epsilons
        _norm_of_foolbox,
        lambda parameters: True,
        _craft_foolbox,
        _minimises_in_foolbox,
    ),
}
_FORMS = [f"{prefix}:CLASS" for prefix in _TOOLKITS]


# ---- one run


@dataclass(frozen=True)
class _Run:
    """One peer on one chunk of samples."""

    name: str
    toolkit: _Toolkit
    kind: type
    arguments: Mapping[str, Any]
    model: Model
    x: Tensor
    eps: float
    settings: Settings
    callback: Callback

    @property
    def radius(self) -> float:
        """The radius at which rounding to float32 keeps within our check of eps."""
        shape = self.x.shape[1:]
        box = Box.of(self.settings.clip_values, shape, torch.device("cpu"))
        return attainable_radius(self.settings.norm, self.eps, box, math.prod(shape))

    def options(self, **offered: Any) -> dict[str, Any]:
        """What the class is made with: what it takes of eps and of what is offered, and the
        user's arguments.
        """
        offered |= {"eps": self.radius, "verbose": False}
        parameters = parameters_of(self.kind)
        return {key: value for key, value in offered.items() if key in parameters} | dict(
            self.arguments
        )

    def result(self, goal: Tensor) -> AttackResult:
        """Run the peer on the samples that do not meet their goal yet, and verify what it made
        of them.
        """
        settings = self.settings
        self._check_norm()
        oracle = ScoreOracle(
            self.model,
            len(self.x),
            outputs=settings.outputs,
            batch_size=settings.batch_size,
            clip_values=settings.clip_values,
            device=settings.device,
            default_device=self.x.device,
        )
        samples, box = admit(oracle, self.x)
        aimed = settings.targeted is not None
        with oracle:
            if not len(samples):
                # the class checks what it is made with
                self._craft(oracle, samples, goal.to(oracle.device), 2)
            problem = pose(oracle, samples, box, None if aimed else goal, goal if aimed else None)
            return self._attack(oracle, problem)

    def _check_norm(self) -> None:
        asked = self.settings.norm
        own = self.toolkit.norm(self.kind, asked)
        if asked != own:
            raise ValueError(f"{self.name} fills a ball of norm={own!r} only, got norm={asked!r}")

    def _attack(self, oracle: ScoreOracle, problem: Problem) -> AttackResult:
        verdict = Verdict(self.name, oracle, problem, self.settings.norm, self.eps, self.callback)
        for step, index in enumerate(verdict.alive().split(self.settings.batch_size), start=1):
            if not len(index):
                break
            x, goal = problem.x[index], problem.goal[index]
            moved = self._craft(oracle, x, goal, int(oracle.num_classes or 0), index)
            hit = verdict.check(moved, index)
            verdict.tell(step, index, finished=torch.ones_like(hit))
        return verdict.result(self.x.device, self.settings.seed)

    def _craft(
        self,
        oracle: ScoreOracle,
        x: Tensor,
        goal: Tensor,
        classes: int,
        index: Tensor | None = None,
    ) -> Tensor:
        """What the peer makes of x (M, *S), the rows charged to the samples in index (M,)."""
        network = Counted(self.model, self.settings.outputs).eval()
        try:
            with fenced(self.settings.seed), redirect_stdout(io.StringIO()):
                moved = self.toolkit.craft(self, network, x.clone(), goal.clone(), classes).detach()
        except Exception as error:
            # a peer may fail in any way on samples, a model or arguments that it did not expect
            raise ValueError(f"{self.name} fails: {type(error).__name__}: {error}") from error
        # a peer may leave the model in the mode of training, and the checks are still to come
        network.eval()
        if index is not None:
            network.charge(oracle, index)
        return moved
