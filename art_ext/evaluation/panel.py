"""The attacks that an evaluation can run, by name, and the settings they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.checks import check_choice, check_count, nearest
from art_ext.core.geometry import Box, check_ball, norm_name
from art_ext.core.oracle import Model
from art_ext.core.outputs import OUTPUTS
from art_ext.core.result import AttackResult, Callback
from art_ext.evaluation.targets import check_rule
from art_ext.evaluation.user_attacks import is_file, load_attack


@dataclass(frozen=True)
class Settings:
    """What every attack of a panel is told.

    Attributes:
        eps: radii, ascending, in the units of x.
        max_queries: most forward rows per sample, for the attacks that it binds.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``; every spelling that ``norm_name`` reads becomes one
            of these.
        stop_on_success: whether a sample leaves the search for the nearest adversarial at its first
            success, in the attacks that can be told so.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box.
        batch_size: most rows in one model call.
        device: where inputs go for models without parameters.
        seed: keys every random number.
        targeted: None, or how each sample's target is chosen: ``"random"``, ``"least-likely"``, or
            a class index.
    """

    eps: tuple[float, ...]
    max_queries: int
    norm: str
    stop_on_success: bool
    outputs: str
    clip_values: tuple[float, float]
    batch_size: int
    device: str | None
    seed: int
    targeted: str | int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_name(self.norm))

    def check(self, sample_shape: torch.Size) -> None:
        """Refuse settings that make no sense, before anything is computed.

        Raises:
            ValueError: naming the argument, what was given and what was wanted.
        """
        if not self.eps or not all(math.isfinite(eps) for eps in self.eps):
            raise ValueError(f"eps must hold at least one finite radius, got {self.eps}")
        box = Box.of(self.clip_values, sample_shape, torch.device("cpu"))
        for eps in self.eps:
            check_ball(self.norm, eps, box)
        check_count("max_queries", self.max_queries)
        check_count("batch_size", self.batch_size)
        check_choice("outputs", self.outputs, OUTPUTS)
        check_rule(self.targeted, self.outputs)
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(
                f"device must be a name that torch knows, such as cuda, got {self.device!r}"
            ) from error


AttackFunction = Callable[[Model, Tensor, Tensor, float, Settings, Callback], AttackResult]


@dataclass(frozen=True)
class Attack:
    """A member of the panel.

    Attributes:
        name: how records, tables and the command line call it.
        run: from (model, x, goal, eps, settings, callback) to the result; goal (N,) are the classes
            to leave or, where ``settings.targeted`` is given, to reach.
        nearest: whether it looks for the nearest adversarial; one search that does not stop early
            then serves every eps. Otherwise it fills a given ball, and runs once for each eps.
        about: what it does, in a sentence of the protocol.
        stops_early: whether it looks for the nearest until its budget is spent or, if
            ``settings.stop_on_success``, until the first success. An attack that looks for the
            nearest and does not is one that minimises a distortion, and ends by its own schedule.
        minimises: whether it is a minimum-norm attack, which minimises a distortion of its own: the
            table shows the distances of what it returned.
        bounded: whether ``settings.max_queries`` binds it.
        no_targets: why it cannot be targeted; empty if it can.
        arguments: what was asked of it besides the settings; recorded, and shown in the protocol.
        checks_first: whether a run on no samples makes all its checks and never asks the model.
        access: the answers of the model that it needs: ``"labels"``, ``"scores"``,
            ``"gradients"``, or ``"unknown"``.
        check_classes: raises ValueError if the attack does not exist for a model of so many
            classes; None if it exists for any.
        tanh_steps: most iterations of each of its optimisations, if it moves in a space whose edge
            of the box lies at infinity; None for all other attacks.
        tanh_cost: queries of such an iteration.
        rounds: about how many queries a sample costs that holds out, where ``max_queries`` does not
            say.
        digest: of the file that holds the attack, if it is a user's own.
    """

    name: str
    run: AttackFunction
    nearest: bool
    about: str
    stops_early: bool = False
    minimises: bool = False
    bounded: bool = False
    no_targets: str = "it does not say that it can"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checks_first: bool = False
    access: str = "unknown"
    tanh_steps: int | None = None
    tanh_cost: int = 1
    rounds: int = 1
    check_classes: Callable[[int], None] | None = None
    digest: str = ""

    def cost(self, settings: Settings) -> int:
        """About how many queries a sample costs that holds out."""
        given = self.arguments.get("max_queries")
        return int(given or (settings.max_queries if self.bounded else self.rounds))

    def tanh_iterations(self, settings: Settings) -> int | None:
        """Most iterations that an optimisation in tanh space gets, by its length and its budget;
        None elsewhere.
        """
        if self.tanh_steps is None:
            return None
        budget = self.arguments.get("max_queries") or (
            settings.max_queries if self.bounded else None
        )
        return (
            self.tanh_steps
            if budget is None
            else min(self.tanh_steps, int(budget) // self.tanh_cost)
        )

    def searches(self, settings: Settings) -> list[tuple[float, ...]]:
        """The runs that the settings ask for: each with the radii it serves, the last being the
        one it is given.
        """
        stopped = self.stops_early and settings.stop_on_success
        # while several classes of a sample are attacked, nobody says when it came within one of
        # several radii
        if self.nearest and not stopped and "targets" not in self.arguments:
            return [settings.eps]
        return [(eps,) for eps in settings.eps]

    def check(self, model: Model, x: Tensor, y: Tensor, settings: Settings) -> None:
        """Refuse settings and arguments that the attack cannot work with, before anything is
        computed.

        Args:
            model: what it shall attack.
            x: (N, *S) the samples; only their shape is read.
            y: (N,) their labels.
            settings: what it shall be told.

        Raises:
            ValueError: naming the attack and the trouble.
        """
        if settings.targeted is not None and self.no_targets:
            raise ValueError(f"{self.name} cannot be targeted: {self.no_targets}")
        if not self.checks_first:
            return
        for eps in settings.eps:
            try:
                self.run(model, x[:0], y[:0], eps, settings, lambda progress: None)
            except (TypeError, ValueError) as error:
                if isinstance(error, TypeError) and not self.arguments:
                    raise  # a text among numbers is the user's, anything else a defect
                message = str(error)
                raise ValueError(
                    message if self.name in message else f"{self.name}: {message}"
                ) from error


# what the evaluation's own options say, and what no text can say
_OPTIONS = {
    "eps": "--eps",
    "norm": "--norm",
    "seed": "--seed",
    "clip_values": "--clip-values",
    "outputs": "--outputs",
    "device": "--device",
    "batch_size": "--batch-size",
    "stop_on_success": "--stop-on-success",
    "targeted": "--targeted",
    "targets": "--targeted",
}
_INTERNAL = (
    "model",
    "x",
    "y",
    "x_init",
    "mask",
    "sample_ids",
    "criterion",
    "continue_from",
    "callback",
    "estimator",
    "classifier",
    "n_classes",
    "verbose",
    "summary_writer",
    "trainloader",
)


def check_arguments(
    name: str,
    arguments: Mapping[str, Any],
    parameters: Mapping[str, Any],
    own: Collection[str] = (),
) -> None:
    """Refuse arguments that an attack does not know, and those that the evaluation's own options
    stand for.

    Args:
        name: of the attack.
        arguments: what was asked of it.
        parameters: what its function takes, with defaults.
        own: the keys that are the attack's own, although options of the evaluation have their
            names.

    Raises:
        ValueError: naming the key, and the keys that are known or the option to use.
    """
    known = [
        key for key in parameters if key in own or (key not in _OPTIONS and key not in _INTERNAL)
    ]
    for key in arguments:
        if key in known:
            continue
        if key in _OPTIONS:
            raise ValueError(
                f"{name}.{key} cannot be given to the attack alone: use {_OPTIONS[key]}"
            )
        if key in parameters:
            raise ValueError(f"{name}.{key} is set by the evaluation itself")
        raise ValueError(
            f"{name} takes {', '.join(known) or 'no arguments'}; got {key!r}{nearest(key, known)}"
        )


def _check_values(name: str, arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Refuse values that the functions of the core would take for something else.

    Raises:
        ValueError: naming the key, what was given and what was wanted.
    """
    for key, value in arguments.items():
        if isinstance(parameters[key], bool) and isinstance(value, str):  # every text is true
            raise ValueError(f"{name}.{key} must be true or false, got {value!r}")
    # of the others not every success is a misclassification
    if arguments.get("targets", "best") != "best":
        raise ValueError(
            f"{name}.targets must be 'best', the nearest of all wrong classes, got"
            f" {arguments['targets']!r}: a random or a given class is for --targeted"
        )


@dataclass(frozen=True)
class CoreRun:
    """A registered attack as a panel runs it, given the settings that its function takes.

    Attributes:
        spec: the attack.
        arguments: what it is given besides the settings.
    """

    spec: AttackSpec
    arguments: Mapping[str, Any]

    def __call__(
        self,
        model: Model,
        x: Tensor,
        goal: Tensor,
        eps: float,
        settings: Settings,
        callback: Callback,
    ) -> AttackResult:
        """Attack the samples x (N, *S) and return the result."""
        parameters = self.spec.parameters
        offered = self._settings(settings) | {"eps": eps}
        if "targets" not in self.arguments:  # it would hear of each class, not of the sample
            offered["callback"] = callback
        taken = {key: value for key, value in offered.items() if key in parameters}
        result = self.spec.function(model, x, goal, **{**taken, **self.arguments})
        if not isinstance(result, AttackResult):
            raise ValueError(
                f"{self.spec.name} must return an AttackResult, got {type(result).__name__}"
            )
        return result

    def _settings(self, settings: Settings) -> dict[str, Any]:
        if settings.norm not in self.spec.norms:
            raise ValueError(
                f"{self.spec.name} supports the norms {', '.join(self.spec.norms)}, got"
                f" {settings.norm!r}"
            )
        offered: dict[str, Any] = {
            "norm": settings.norm,
            "clip_values": settings.clip_values,
            "outputs": settings.outputs,
            "batch_size": settings.batch_size,
            "device": settings.device,
            "seed": settings.seed,
            "targeted": settings.targeted is not None,
        }
        if self.spec.family == "minimum-norm":
            offered["stop_on_success"] = settings.stop_on_success
        if is_bounded(self.spec):
            offered[self.spec.budget] = settings.max_queries
        return offered


def is_bounded(spec: AttackSpec) -> bool:
    """Return whether ``Settings.max_queries`` is the budget of an attack.

    Attacks that follow gradients end by a number of steps.
    """
    return bool(spec.budget) and spec.access != "gradients"


def member_of(spec: AttackSpec, arguments: Mapping[str, Any]) -> Attack:
    """Return a registered attack as a member of a panel.

    Args:
        spec: the attack.
        arguments: what it is given besides the settings.

    Raises:
        ValueError: for unknown arguments, or values of the wrong kind.
    """
    if spec.access == "unknown":
        from art_ext.evaluation.external import function_member

        return function_member(spec, arguments)
    parameters = spec.parameters
    nearest = spec.family == "minimum-norm"
    own = {
        spec.budget: bool(spec.budget),
        "targets": parameters["eps"] is None,
        "stop_on_success": not nearest,
    }
    check_arguments(spec.name, arguments, parameters, [key for key, free in own.items() if free])
    _check_values(spec.name, arguments, parameters)
    values = {**parameters, **arguments}
    chosen = "its argument targets chooses the classes" if "targets" in arguments else ""
    return Attack(
        spec.name,
        CoreRun(spec, arguments),
        about=f"{spec.name}: {spec.summary}",
        bounded=is_bounded(spec),
        stops_early=nearest and "stop_on_success" in parameters,
        nearest=nearest,
        minimises=nearest and "stop_on_success" not in parameters,
        no_targets=chosen or spec.no_targets,
        arguments=arguments,
        checks_first=True,
        access=spec.access,
        rounds=_rounds(values[key] for key in spec.lengths),
        **_tanh(spec, values),
    )


def _tanh(spec: AttackSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Attack`` on tanh space.

    A value that makes no sense is left to the attack's own check.
    """
    steps = values.get("num_steps")
    coordinates = values.get("coordinates", 0)
    if not (values[spec.tanh] if isinstance(spec.tanh, str) else spec.tanh):
        return {}
    if not isinstance(steps, int) or not isinstance(coordinates, int):
        return {}
    return {"tanh_steps": steps, "tanh_cost": 2 * coordinates + 1}


def _rounds(lengths: Iterable[object]) -> int:
    """Return the product of the lengths of an attack's loops.

    A length that makes no sense is left to the attack's own check.
    """
    return math.prod(length for length in lengths if isinstance(length, int) and length > 0)


EXTERNAL = ("autoattack", "torchattacks:CLASS", "art:CLASS", "foolbox:CLASS", "FILE.py:FUNCTION")


def find_attack(
    name: str, arguments: Mapping[str, Any] | None = None, label: str | None = None
) -> Attack:
    """Return an attack as a member of a panel.

    Args:
        name: of a registered attack, in any case. ``FILE.py:FUNCTION`` for an attack of your own.
            ``torchattacks:CLASS``, ``art:CLASS``, ``foolbox:CLASS`` or ``autoattack`` for an
            external attack.
        arguments: what to give it besides the settings, by the names of its own parameters.
        label: name in records and tables. Default: the name of the attack.

    Raises:
        ValueError: for an unknown name or argument, listing the known ones and naming the nearest,
            or a file that cannot be read.
        ImportError: if the toolkit of an external attack is not installed or cannot be imported.
    """
    arguments = dict(arguments or {})
    if is_file(name):
        own = load_attack(name)
        found = replace(member_of(own, arguments), digest=own.digest())
    elif ":" in name or name.casefold() == "autoattack":
        from art_ext.evaluation.external import external_attack

        found = external_attack(name, arguments)
    else:
        found = member_of(registry.get(name, EXTERNAL), arguments)
    return found if label is None else replace(found, name=label)
