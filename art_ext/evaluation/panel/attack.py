"""Members of a panel, the requests that they serve, and the settings of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks import registry
from art_ext.core.checks import check_choice, check_count, check_flag
from art_ext.core.detection import Detector
from art_ext.core.expectation import Expectation
from art_ext.core.geometry import Box, check_ball, norm_name
from art_ext.core.networks import usable_device
from art_ext.core.oracle import Model
from art_ext.core.outputs import OUTPUTS
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.evaluation.panel.resources import NO_RESOURCES, Resources
from art_ext.models.remote import RemoteClassifier

# the settings that every function takes that calls the model
MODEL_SETTINGS = ("outputs", "batch_size", "clip_values", "device")
# the settings that make passes faster, for the attacks of art-ext that take them
SPEED_SETTINGS = ("amp", "channels_last", "compile")
# the settings that older run folders do not know
LATER_SETTINGS = (*SPEED_SETTINGS, "draws", "stability")
TARGET_RULES = ("random", "least-likely", "next")
NO_GENERATOR = (
    "{} needs a generator, got none: give --generator RUN, the folder of art-ext generator train,"
    " or --generator FILE.py:FACTORY"
)


@dataclass(frozen=True)
class Settings:
    """The settings of all attacks of a panel.

    Attributes:
        eps: radii, ascending, in the units of x.
        max_queries: most forward rows per sample, for the attacks that it limits.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``. Every spelling that ``norm_name`` reads becomes one
            of these.
        stop_on_success: True to stop at a sample's first success, in attacks that have this option
            and search for the nearest adversarial.
        outputs: type of the model's outputs: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box.
        batch_size: most rows in one model call.
        device: device of the inputs for models without parameters.
        seed: key of every random number.
        targeted: None, or the rule for each sample's target: ``"random"``, ``"least-likely"``,
            ``"next"``, or a class index.
        amp: True for gradients in bfloat16, with each success verified in float32.
        channels_last: True for images and convolution weights in channels-last memory.
        compile: True for networks behind ``torch.compile``.
        draws: calls of a randomised model that each answer averages. None: models answer as they
            are.
        stability: True if fixed-radius attacks also try to change wrong predictions.
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
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    draws: int | None = None
    stability: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_name(self.norm))

    def keywords(self, *names: str) -> dict[str, Any]:
        """Return the settings of these names, for a function whose keywords have the same names."""
        return {name: getattr(self, name) for name in names}

    def recorded(self) -> dict[str, Any]:
        """Return the settings for ``run.json``.

        Those of ``LATER_SETTINGS`` are left out at their defaults, which change nothing, so that a
        folder without them is of the same run.
        """
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in LATER_SETTINGS or value != getattr(Settings, name)
        }

    def expected(self, models: Mapping[str, Model]) -> dict[str, Model]:
        """Return the models that are attacked: with draws, the expectation of each.

        Raises:
            ValueError: for a service, which is charged for each draw.
        """
        if self.draws is None:
            return dict(models)
        for name, model in models.items():
            if isinstance(model, RemoteClassifier):
                raise ValueError(
                    f"draws need a model of this process, and {name!r} is a service: leave draws"
                    " and the panel rand out"
                )
        options: dict[str, Any] = {"outputs": self.outputs, "seed": self.seed}
        return {name: Expectation(model, self.draws, **options) for name, model in models.items()}

    @property
    def model_keywords(self) -> dict[str, Any]:
        """The settings that every function takes that calls the model."""
        return self.keywords(*MODEL_SETTINGS)

    @property
    def faster(self) -> dict[str, bool]:
        """The settings that make passes faster, of those that are on."""
        return {name: True for name in SPEED_SETTINGS if getattr(self, name)}

    def check(self, sample_shape: torch.Size) -> None:
        """Raise ValueError unless the settings are valid, before anything is computed.

        Raises:
            ValueError: naming the argument, the given value and the valid ones.
        """
        if not self.eps or not all(math.isfinite(eps) for eps in self.eps):
            raise ValueError(f"eps must hold at least one finite radius, got {self.eps}")
        box = Box.of(self.clip_values, sample_shape, torch.device("cpu"))
        for eps in self.eps:
            check_ball(self.norm, eps, box)
        check_count("max_queries", self.max_queries)
        if self.draws is not None:
            check_count("draws", self.draws)
        check_count("batch_size", self.batch_size)
        for name in (*SPEED_SETTINGS, "stability"):
            check_flag(name, getattr(self, name))
        check_choice("outputs", self.outputs, OUTPUTS)
        check_rule(self.targeted, self.outputs)
        if self.device is not None:
            usable_device(self.device)


def _no_callback(progress: Progress) -> None:
    """Do nothing."""


@dataclass(frozen=True, eq=False)
class AttackRequest:
    """The samples that a member of the panel is to attack, and the settings of the attack.

    Attributes:
        model: the model to attack.
        x: (N, *S) the samples. Without samples, a member only checks its settings.
        goal: (N,) the classes to leave or, if ``settings.targeted`` is given, to reach.
        eps: radius of the ball, in the units of x.
        settings: of the evaluation.
        callback: is called after each step of the attack.
        detector: the fitted detector of the model, for an attack that knows it. None: the attack
            knows none.
        resources: of the samples, for an attack that needs more than the model.
    """

    model: Model
    x: Tensor
    goal: Tensor
    eps: float
    settings: Settings
    callback: Callback = _no_callback
    detector: Detector | None = None
    resources: Resources = NO_RESOURCES


AttackFunction = Callable[[AttackRequest], AttackResult]


@dataclass(frozen=True)
class Attack:
    """A member of the panel.

    Attributes:
        name: name in records, tables and on the command line.
        run: function of an AttackRequest that returns the result.
        nearest: True if it finds the nearest adversarial. One run that does not stop early then
            serves every eps. False if it runs once for each eps, inside the ball.
        about: description in a sentence of the protocol.
        stops_early: True if it works on the nearest adversarial until its budget is spent or, with
            ``settings.stop_on_success``, until the first success. A nearest attack without it
            minimises a distortion, and ends by its own schedule.
        minimises: True for a minimum-norm attack that minimises a distortion of its own. The table
            shows the distances of its x_adv.
        bounded: True if ``settings.max_queries`` limits it.
        no_targets: reason why it cannot be targeted. Empty if it can.
        arguments: arguments besides the settings, recorded and shown in the protocol.
        checks_first: True if a run on no samples makes all its checks and never calls the model.
        access: the answers of the model that it needs: ``"labels"``, ``"scores"``, ``"gradients"``,
            or ``"unknown"``.
        check_classes: raises ValueError if the attack does not exist for a model of so many
            classes. None if it exists for any.
        tanh_steps: most iterations of each of its optimisations, if it moves in a space in which
            the edge of the box lies at infinity. None for all other attacks.
        tanh_cost: queries of such an iteration.
        file: that holds the attack, if it is a user's own.
        digest: of this file.
        keeps_input: True if it is known never to write into the samples, which are then not copied.
        aware_of: name of the oblivious attack of which this is the form that knows the detector.
            Empty: it knows no detector.
        adaptive: True if a model's head declares it.
        models: names of the models that it attacks. None: all.
        resources: what it needs besides model and samples, as in ``AttackSpec``.
        accelerated: names of the settings for faster passes that it takes.
        marks: numbers of queries at which its trace holds distances, ascending.
        chain: True if its result holds several states of each sample.
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
    check_classes: Callable[[int], None] | None = field(default=None, compare=False)
    file: str = ""
    digest: str = ""
    keeps_input: bool = False
    aware_of: str = ""
    adaptive: bool = False
    models: frozenset[str] | None = None
    resources: tuple[str, ...] = ()
    accelerated: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()
    chain: bool = False

    def budget(self, settings: Settings) -> int | None:
        """Return the most queries of a sample. None without a limit."""
        given = self.arguments.get("max_queries")
        return int(given) if given else settings.max_queries if self.bounded else None

    def tanh_iterations(self, settings: Settings) -> int | None:
        """Return the most iterations of an optimisation in tanh space, by its length and its
        budget.

        None for other attacks.
        """
        if self.tanh_steps is None:
            return None
        budget = self.budget(settings)
        return self.tanh_steps if budget is None else min(self.tanh_steps, budget // self.tanh_cost)

    def radii_by_run(self, settings: Settings) -> list[tuple[float, ...]]:
        """Return the radii that each run of the attack serves, ascending. A run is given the last
        one.
        """
        stopped = self.stops_early and settings.stop_on_success
        # with several classes of a sample, the first success within each radius is not known
        if self.nearest and not stopped and "targets" not in self.arguments:
            return [settings.eps]
        return [(eps,) for eps in settings.eps]

    def check(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        settings: Settings,
        resources: Resources = NO_RESOURCES,
    ) -> None:
        """Raise ValueError unless the attack can work with settings and arguments.

        Nothing is computed.

        Args:
            model: the model to attack.
            x: (N, *S) the samples. Only their shape is read.
            y: (N,) their labels.
            settings: the settings of the evaluation.
            resources: of the evaluation.

        Raises:
            ValueError: naming the attack and the reason.
        """
        if settings.targeted is not None and self.no_targets:
            raise ValueError(f"{self.name} cannot be targeted: {self.no_targets}")
        if self.access in ("scores", "gradients"):
            check_outputs(self.name, self.access, settings)
        if "generator" in self.resources and resources.generator is None:
            raise ValueError(NO_GENERATOR.format(self.name))
        if not self.checks_first:
            return
        none = resources.rows(slice(0))
        for eps in settings.eps:
            try:
                self.run(AttackRequest(model, x[:0], y[:0], eps, settings, resources=none))
            except (TypeError, ValueError) as error:
                if isinstance(error, TypeError) and not self.arguments:
                    raise  # a text among numbers is the user's, anything else a defect
                message = str(error)
                raise ValueError(
                    message if self.name in message else f"{self.name}: {message}"
                ) from error


def check_rule(rule: str | int | None, outputs: str) -> None:
    """Raise ValueError unless the rule can choose targets.

    Raises:
        ValueError: for an unknown rule, and for ``"least-likely"`` with a model that returns labels
            only.
    """
    if rule is None:
        return
    if isinstance(rule, str) and rule not in TARGET_RULES:
        raise ValueError(
            f"targeted must be random, least-likely, next or a class index, got {rule!r}"
        )
    if not isinstance(rule, str):
        check_count("targeted", rule, least=0)
    if rule == "least-likely" and outputs == "labels":
        raise ValueError("targeted='least-likely' needs scores, but outputs='labels' was given")


def check_outputs(name: str, access: str, settings: Settings) -> None:
    """Raise ValueError if an attack needs more than the class indices that a model returns.

    Args:
        name: of the attack.
        access: the answers that it needs, ``"scores"`` or ``"gradients"``.
        settings: of the evaluation.
    """
    if settings.outputs == "labels":
        raise ValueError(
            f"{name} needs {access}, and a model with outputs='labels' returns class indices only:"
            f" run {' or '.join(registry.names(access='labels'))}, or hand over a model that"
            " returns logits or probabilities"
        )
