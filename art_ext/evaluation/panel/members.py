"""The attacks of an evaluation, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from art_ext.adapters.network_state import preserved
from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.checks import listed
from art_ext.core.result import AttackResult
from art_ext.evaluation.panel.arguments import at_radius, check_arguments
from art_ext.evaluation.panel.attack import (
    MODEL_SETTINGS,
    SPEED_SETTINGS,
    Attack,
    AttackRequest,
    Settings,
)
from art_ext.evaluation.panel.external import external_attack, function_member
from art_ext.evaluation.panel.user_attacks import is_file, load_attack


def _check_values(name: str, arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for values that the functions of the core would misread.

    Raises:
        ValueError: naming the key, the given value and the valid ones.
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
    """Callable that runs a registered attack with the settings that its function takes.

    Attributes:
        spec: the attack.
        arguments: its arguments besides the settings. ``"eps/4"`` is a fourth of the radius.
    """

    spec: AttackSpec
    arguments: Mapping[str, Any]

    def __call__(self, request: AttackRequest) -> AttackResult:
        """Attack the samples of the request and return the result."""
        parameters = self.spec.parameters
        offered = self._settings(request.settings) | {"eps": request.eps}
        if request.detector is not None:
            offered["detector"] = request.detector
        if request.resources.latents is not None:
            offered["latents"] = request.resources.latents
        if "targets" not in self.arguments:  # it would be called for each class, not each sample
            offered["callback"] = request.callback
        taken = {key: value for key, value in offered.items() if key in parameters}
        keywords = {**taken, **at_radius(self.arguments, request.eps)}
        if registry.is_built_in(self.spec):
            return self._called(request, keywords)
        with preserved(request.model, self.spec.name) as changed:
            result = self._called(request, keywords)
        if changed:
            raise ValueError(
                f"{self.spec.name} changed the network ({listed(changed)}), by which it judged its"
                " own successes: let it work on a copy.deepcopy of the network"
            )
        return result

    def _called(self, request: AttackRequest, keywords: Mapping[str, Any]) -> AttackResult:
        needed = [getattr(request.resources, name) for name in self.spec.resources]
        result = self.spec.function(request.model, *needed, request.x, request.goal, **keywords)
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
        offered = settings.keywords("norm", "seed", *MODEL_SETTINGS)
        offered |= settings.faster
        offered["targeted"] = settings.targeted is not None
        if self.spec.family == "minimum-norm":
            offered["stop_on_success"] = settings.stop_on_success
        if is_bounded(self.spec):
            offered[self.spec.budget] = settings.max_queries
        return offered


def is_bounded(spec: AttackSpec) -> bool:
    """Return True if ``Settings.max_queries`` is the budget of an attack.

    Attacks with gradients end by a number of steps.
    """
    return bool(spec.budget) and spec.access != "gradients"


def member_of(spec: AttackSpec, arguments: Mapping[str, Any]) -> Attack:
    """Return a registered attack as a member of a panel.

    Args:
        spec: the attack.
        arguments: its arguments besides the settings.

    Raises:
        ValueError: for unknown arguments, or values of the wrong type.
    """
    if spec.access == "unknown":
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
    marks = arguments.get("trace_at")  # checked by the attack itself
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
        keeps_input=spec.function.__module__.startswith("art_ext.core."),
        resources=spec.resources,
        accelerated=tuple(name for name in SPEED_SETTINGS if name in parameters),
        marks=tuple(marks) if isinstance(marks, Sequence) else (),
        chain=bool(values.get("keep_samples")),
        **_tanh(spec, values),
    )


def _tanh(spec: AttackSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Attack`` on tanh space.

    An invalid value is left to the attack's own check.
    """
    steps = values.get("num_steps")
    coordinates = values.get("coordinates", 0)
    if not (values[spec.tanh] if isinstance(spec.tanh, str) else spec.tanh):
        return {}
    if not isinstance(steps, int) or not isinstance(coordinates, int):
        return {}
    return {"tanh_steps": steps, "tanh_cost": 2 * coordinates + 1}


def unused_speed(panel: Sequence[Attack], settings: Settings) -> list[str]:
    """Return a line on each setting for faster passes that no attack of a panel takes."""
    names = ", ".join(attack.name for attack in panel)
    return [
        f"{name} changes nothing: no attack of this run takes it ({names})"
        for name in settings.faster
        if not any(name in attack.accelerated for attack in panel)
    ]


EXTERNAL = ("autoattack", "torchattacks:CLASS", "art:CLASS", "foolbox:CLASS", "FILE.py:FUNCTION")


def find_attack(
    name: str, arguments: Mapping[str, Any] | None = None, label: str | None = None
) -> Attack:
    """Return an attack as a member of a panel.

    Args:
        name: of a registered attack, in any case. ``FILE.py:FUNCTION`` for an attack of your own.
            ``torchattacks:CLASS``, ``art:CLASS``, ``foolbox:CLASS`` or ``autoattack`` for an
            external attack.
        arguments: its arguments besides the settings, by the names of its own parameters.
        label: name in records and tables. Default: the name of the attack.

    Raises:
        ValueError: for an unknown name or argument, with the known ones and the most similar, or
            for a file that cannot be read.
        ImportError: if the toolkit of an external attack is not installed or cannot be imported.
    """
    arguments = dict(arguments or {})
    if is_file(name):
        own = load_attack(name)
        found = replace(member_of(own, arguments), file=own.file, digest=own.digest())
    elif ":" in name or name.casefold() == "autoattack":
        found = external_attack(name, arguments)
    else:
        found = member_of(registry.get(name, EXTERNAL), arguments)
    return found if label is None else replace(found, name=label)
