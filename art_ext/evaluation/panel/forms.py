"""Forms of the attacks on a model with a detector, and the attacks that heads declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from art_ext.core.attacks.engine.options import check_penalty
from art_ext.core.oracle import Model
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.evaluation.panel.members import CoreRun, find_attack
from art_ext.evaluation.panel.targets import with_given_targets

AWARE = "_aware"  # ends the name of the form of an attack that knows the detector
OF_HEAD = "head_"  # begins the name of an attack that a head declares
# arguments of attacks that only this form takes
ONLY_AWARE = frozenset({"detector_weight", "detector_loss"})


def in_forms(panel: Sequence[Attack], adaptive: bool) -> list[Attack]:
    """Return each attack in its oblivious and its aware form, for models with a detector.

    The aware form knows the detector: its success must be accepted. Attacks on labels have the
    aware form only, because all that they see is the class or the rejection. External attacks have
    the oblivious form only.

    Args:
        panel: the attacks.
        adaptive: False for the oblivious forms only.
    """
    found = []
    for attack in panel:
        aware = adaptive and takes_detector(attack)
        if not aware or attack.access != "labels":
            found.append(oblivious(attack))
        if aware:
            found.append(_aware(attack))
    return found


def takes_detector(attack: Attack) -> bool:
    """Return True if an attack has a form that knows the detector."""
    return isinstance(attack.run, CoreRun) and "detector" in attack.run.spec.parameters


def oblivious(attack: Attack) -> Attack:
    """Return an attack without the arguments that only its aware form takes.

    Raises:
        ValueError: if one of them is out of range.
    """
    given = ONLY_AWARE & attack.arguments.keys()
    if not given or not isinstance(attack.run, CoreRun):
        return attack
    check_penalty(**{name: attack.arguments[name] for name in given})
    others = {name: value for name, value in attack.arguments.items() if name not in given}
    return replace(attack, run=replace(attack.run, arguments=others), arguments=others)


def _aware(attack: Attack) -> Attack:
    name = f"{attack.name}{AWARE}"
    return replace(
        attack,
        name=name,
        about=f"{name}: {attack.name} on model and detector. It knows the detector, and its"
        " successes are accepted by it.",
        aware_of=attack.name,
    )


@dataclass(frozen=True)
class Declared:
    """Attacks that the heads of models declare.

    Attributes:
        attacks: for the panel, each with the names of its models.
        unfit: by model, the attacks that cannot run with the settings, each with the reason.
    """

    attacks: tuple[Attack, ...]
    unfit: Mapping[str, tuple[str, ...]]

    def left_out(self, adaptive: bool) -> dict[str, list[str]]:
        """Return by model the declared attacks that do not run, with the reasons.

        Args:
            adaptive: False if none runs.
        """
        found = {model: list(reasons) for model, reasons in self.unfit.items()}
        for attack in () if adaptive else self.attacks:
            for model in sorted(attack.models or ()):
                found.setdefault(model, []).append(attack.name.removeprefix(OF_HEAD))
        return found


def declared_by_heads(models: Mapping[str, Model], settings: Settings) -> Declared:
    """Return the attacks that heads declare against themselves.

    Args:
        models: by name.
        settings: of the evaluation.

    Raises:
        ValueError: if a head declares an unknown attack or argument.
    """
    owners: dict[str, list[str]] = {}
    attacks: dict[str, Attack] = {}
    unfit: dict[str, tuple[str, ...]] = {}
    for model, name, declared in _declarations(models):
        arguments = declared if settings.targeted is None else with_given_targets(declared)
        attack = find_attack(name, arguments)
        reason = _unfit(attack, settings)
        if reason:
            unfit[model] = (*unfit.get(model, ()), f"{name} ({reason})")
            continue
        key = repr((name, sorted(arguments.items())))
        attacks.setdefault(key, attack)
        owners.setdefault(key, []).append(model)
    found = []
    seen: Counter[str] = Counter()
    for key, attack in attacks.items():
        seen[attack.name] += 1
        number = seen[attack.name]
        name = f"{OF_HEAD}{attack.name}{f'_{number}' if number > 1 else ''}"
        found.append(
            replace(
                attack,
                name=name,
                about=f"{name}: {attack.name}, which the head of the model declares against"
                " itself.",
                adaptive=True,
                models=frozenset(owners[key]),
            )
        )
    return Declared(tuple(found), unfit)


def _declarations(models: Mapping[str, Model]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield model, name and arguments of each attack that a head declares."""
    from art_ext.training.heads import adaptive_attacks

    for name, model in models.items():
        for attack, arguments in adaptive_attacks(model):
            yield name, attack, dict(arguments)


def _unfit(attack: Attack, settings: Settings) -> str:
    """Return the reason why an attack cannot run with the settings. Empty if it can."""
    if isinstance(attack.run, CoreRun) and settings.norm not in attack.run.spec.norms:
        return f"it does not support the norm {settings.norm}"
    if settings.targeted is not None and attack.no_targets:
        return f"it cannot be targeted: {attack.no_targets}"
    if settings.outputs == "labels" and attack.access != "labels":
        return f"it needs {attack.access}"
    return ""
