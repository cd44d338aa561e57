"""The plan of a run of transfers: attacks with their settings, craftings, and what decides them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.checks import check_count, nearest
from art_ext.core.wording import radius
from art_ext.evaluation.panel.arguments import recorded_arguments
from art_ext.evaluation.panel.attack import Attack, Settings
from art_ext.evaluation.panel.external import ExternalRun
from art_ext.evaluation.panel.members import CoreRun, find_attack
from art_ext.evaluation.panel.panels import Panel, assign_arguments
from art_ext.evaluation.panel.user_attacks import name_of
from art_ext.storage.transfer import key_of

Arguments = Mapping[str, Mapping[str, Any]]
CONFIDENCE = "confidence"


@dataclass(frozen=True)
class Setting:
    """An attack with all of its arguments, a radius and a seed.

    Attributes:
        attack: the attack.
        eps: radius. None for an attack without a ball.
        seed: of the attack.
        varied: of its arguments, those that vary in the run.
        at: iterations after which examples are taken, ascending.
    """

    attack: Attack
    eps: float | None
    seed: int
    varied: Mapping[str, Any] = field(default_factory=dict)
    at: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Radius and varied arguments, such as ``"eps=2/255, step_size=0.01"``."""
        parts = [] if self.eps is None else [f"eps={radius(self.eps)}"]
        varied = recorded_arguments(self.attack.name, self.varied)
        return ", ".join([*parts, *(f"{name}={_short(one)}" for name, one in varied.items())])

    @property
    def numbers(self) -> dict[str, Any]:
        """Radius and varied arguments as columns of the records."""
        values = [one for one in self.varied.values() if isinstance(one, (int, float))]
        plain = len(self.varied) == 1 and len(values) == 1 and not isinstance(values[0], bool)
        return {
            "eps": self.eps,
            "varied": ", ".join(self.varied),
            "value": float(values[0]) if plain else None,
        }


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Crafting:
    """An attack on one source, whose examples are tried on targets.

    Attributes:
        source: name of the model.
        setting: of the attack.
        targets: names of the models.
    """

    source: str
    setting: Setting
    targets: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return what ``run.json`` tells of the crafting."""
        attack = self.setting.attack
        return {
            "source": self.source,
            "attack": attack.name,
            "setting": self.setting.text,
            "arguments": recorded_arguments(attack.name, attack.arguments),
            "seed": self.setting.seed,
            "eps": self.setting.eps,
            "varied": recorded_arguments(attack.name, self.setting.varied),
            "at": list(self.setting.at),
            "targets": list(self.targets),
        }

    def key(
        self, source: Any, settings: Settings, chunk: tuple[int, int], target_seed: int | None
    ) -> str:
        """Return the digest of what decides the examples of a chunk.

        Args:
            source: identity of the source.
            settings: of the run on the source.
            chunk: positions of its first sample and the one after its last.
            target_seed: of random classes to reach. None: they are not random.
        """
        content = self.told()
        for name in ("source", "setting", "targets", "varied"):
            del content[name]
        decisive = settings.recorded()
        for name in ("eps", "seed", "batch_size", "device"):
            del decisive[name]
        return key_of(
            {**content, "model": source, "chunk": chunk, "settings": decisive}
            | ({} if target_seed is None else {"target_seed": target_seed})
            | ({"file": self.setting.attack.digest} if self.setting.attack.digest else {})
        )


def spec_of_attack(attack: Attack) -> AttackSpec | None:
    """Return the spec of one of our attacks. None for an external one."""
    return attack.run.spec if isinstance(attack.run, CoreRun) else None


def has_no_ball(attack: Attack) -> bool:
    """Return True for a minimum-norm attack that runs without a radius by default."""
    spec = spec_of_attack(attack)
    return spec is not None and spec.parameters["eps"] is None


class Attacks:
    """The attacks of a run, built with further arguments.

    Args:
        attacks: names or ``Attack`` objects. None: those of the panel.
        panel: a panel. None: attacks are given.
        arguments: by the attack's name, its arguments.
        norm: of the run.
        targeted: True for a run with classes to reach.

    Raises:
        ValueError: for an unknown attack or argument, or attacks beside a panel.
    """

    def __init__(
        self,
        attacks: Sequence[str | Attack] | None,
        panel: Panel | None,
        arguments: Arguments,
        norm: str,
        targeted: bool = False,
    ) -> None:
        if (attacks is None) == (panel is None):
            raise ValueError("transfer needs attacks or a panel, one of the two")
        self._make: dict[str, Callable[[Mapping[str, Any]], Attack]] = {}
        if panel is not None:
            for one in panel.attacks(arguments, norm, targeted):
                self._make[one.name] = _of_panel(panel, one.name, arguments, norm, targeted)
        every = () if attacks is None else attacks
        named = assign_arguments(
            arguments if panel is None else {},
            {name_of(one): one for one in every if isinstance(one, str)},
        )
        for attack in every:
            if isinstance(attack, Attack):
                self._make[attack.name] = _fixed(attack)
            else:
                made = _named(attack, named[name_of(attack)])
                self._make[made({}).name] = made
        if not self._make or len(self._make) < len(every):
            raise ValueError("attacks must be at least one, each with a name of its own")
        self.names = list(self._make)

    def make(self, name: str, further: Mapping[str, Any] | None = None) -> Attack:
        """Return an attack with further arguments. Where it fails, it hands over its last iterate.

        Raises:
            ValueError: for arguments that it does not take.
        """
        made = self._make[name](further or {})
        if isinstance(made.run, ExternalRun):
            return replace(made, run=replace(made.run, last=True))
        spec = spec_of_attack(made)
        if spec is None or "on_failure" not in spec.parameters or "on_failure" in made.arguments:
            return made
        # an example that fails on its source may succeed elsewhere
        with_last = {**made.arguments, "on_failure": "last"}
        return replace(made, run=CoreRun(spec, with_last), arguments=with_last)


def _named(name: str, arguments: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Attack]:
    return lambda further: find_attack(name, {**arguments, **further})


def _fixed(attack: Attack) -> Callable[[Mapping[str, Any]], Attack]:
    def make(further: Mapping[str, Any]) -> Attack:
        if further:
            raise ValueError(
                f"arguments of {attack.name} cannot vary, because it was given as an object: give"
                " its name"
            )
        return attack

    return make


def _of_panel(
    panel: Panel, name: str, arguments: Arguments, norm: str, targeted: bool
) -> Callable[[Mapping[str, Any]], Attack]:
    def make(further: Mapping[str, Any]) -> Attack:
        given = (
            {**arguments, name: {**arguments.get(name, {}), **further}} if further else arguments
        )
        return next(one for one in panel.attacks(given, norm, targeted) if one.name == name)

    return make


def variations(
    attacks: Attacks, kappa: Sequence[float], vary: Mapping[str, Sequence[Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return by attack the arguments of each of its runs that vary, at least an empty one.

    Args:
        attacks: of the run.
        kappa: values of ``confidence``, for each attack that has it.
        vary: values by ``"ATTACK.KEY"``.

    Raises:
        ValueError: for kappa without an attack that has it, or an unknown attack.
    """
    axes: dict[str, dict[str, Sequence[Any]]] = {name: {} for name in attacks.names}
    for key, values in vary.items():
        name, _, argument = key.rpartition(".")
        if name not in axes:
            raise ValueError(
                f"vary must be ATTACK.KEY=V1,V2 with an attack of this run"
                f" ({', '.join(attacks.names)}), got {key!r}{nearest(name, attacks.names)}"
            )
        if not values:
            raise ValueError(f"vary must give at least one value of {key}, got none")
        axes[name][argument] = values
    if kappa:
        having = [name for name in attacks.names if has_confidence(attacks.make(name))]
        if not having:
            raise ValueError(
                f"kappa is the argument confidence of ead, cw and zoo, and {attacks.names[0]} has"
                f" none: leave kappa out, or vary an argument by vary={attacks.names[0]}.KEY=V1,V2"
            )
        for name in having:
            axes[name].setdefault(CONFIDENCE, list(kappa))
    return {
        name: [dict(zip(own, chosen, strict=True)) for chosen in itertools.product(*own.values())]
        for name, own in axes.items()
    }


def has_confidence(attack: Attack) -> bool:
    """Return True for one of our attacks with the argument that kappa sets."""
    spec = spec_of_attack(attack)
    return spec is not None and CONFIDENCE in spec.parameters


def settings_of(
    attacks: Attacks,
    eps: Sequence[float],
    seeds: Sequence[int],
    varied: Mapping[str, Sequence[Mapping[str, Any]]],
    at: Sequence[int] = (),
) -> list[Setting]:
    """Return all settings of a run: attacks, their varied arguments, radii, and seeds.

    Raises:
        ValueError: for arguments that an attack does not take, ``at`` beyond its steps, or of an
            attack that tells no iterates.
    """
    found = []
    for name in attacks.names:
        for further in varied[name]:
            attack = attacks.make(name, further)
            marks = marks_of(attack, at)
            for one in (None,) if has_no_ball(attack) else eps:
                found += [Setting(attack, one, seed, dict(further), marks) for seed in seeds]
    texts = [(one.attack.name, one.text, one.seed) for one in found]
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"settings must differ, got {text[0]} ({text[1]}) more than once")
    return found


def marks_of(attack: Attack, at: Sequence[int]) -> tuple[int, ...]:
    """Return the iterations of an attack after which examples are taken, ascending.

    Raises:
        ValueError: for iterations beyond its steps, or an attack that tells no iterates.
    """
    if not at:
        return ()
    spec = spec_of_attack(attack)
    tells = spec is not None and spec.family == "fixed-radius" and "num_steps" in spec.parameters
    if spec is None or not tells:
        raise ValueError(
            f"at needs attacks that tell their iterates, such as pgd and hmcam, got {attack.name}"
        )
    for one in at:
        check_count("at", one)
    values = {**spec.parameters, **attack.arguments}
    steps = values["num_steps"] * math.prod(
        values[name] for name in ("num_transitions", "num_restarts") if name in values
    )
    if max(at) > steps:
        raise ValueError(
            f"at must be at most {steps}, the iterations of {attack.name}, got {max(at)}"
        )
    return tuple(sorted(set(at)))
