"""The attacks that an evaluation can run, by name, and the settings they share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core import attacks as core_attacks
from art_ext.core.checks import check_choice, check_count, nearest, same_name
from art_ext.core.geometry import Box, check_ball, norm_name
from art_ext.core.oracle import Model
from art_ext.core.outputs import OUTPUTS
from art_ext.core.result import AttackResult, Callback
from art_ext.evaluation.targets import check_rule


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
        asks: what it asks of the model: ``"labels"``, ``"scores"``, ``"gradients"``, or
            ``"unknown"``.
        check_classes: raises ValueError if the attack does not exist for a model of so many
            classes; None if it exists for any.
        tanh_steps: most iterations of each of its optimisations, if it moves in a space whose edge
            of the box lies at infinity; None for all other attacks.
        tanh_cost: queries of such an iteration.
        rounds: about how many queries a sample costs that holds out, where ``max_queries`` does not
            say.
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
    asks: str = "unknown"
    tanh_steps: int | None = None
    tanh_cost: int = 1
    rounds: int = 1
    check_classes: Callable[[int], None] | None = None

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


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that a function or a class can be given by name, each with its default."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind in named}


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


def _core(name: str, about: str, arguments: Mapping[str, Any]) -> Attack:
    """One of our attacks: told whatever of the settings its function takes."""
    function = getattr(core_attacks, name)
    parameters = parameters_of(function)
    bounded = name in _QUERY_ATTACKS
    nearest = parameters["eps"] is not inspect.Parameter.empty  # who fills a ball must be given one
    own = {
        "max_queries": True,
        "targets": parameters["eps"] is None,
        "stop_on_success": not nearest,
    }
    check_arguments(name, arguments, parameters, [key for key, free in own.items() if free])
    _check_values(name, arguments, parameters)

    def run(
        model: Model, x: Tensor, goal: Tensor, eps: float, settings: Settings, callback: Callback
    ) -> AttackResult:
        offered: dict[str, Any] = {
            "eps": eps,
            "norm": settings.norm,
            "clip_values": settings.clip_values,
            "outputs": settings.outputs,
            "batch_size": settings.batch_size,
            "device": settings.device,
            "callback": callback,
            "seed": settings.seed,
            "targeted": settings.targeted is not None,
        }
        if nearest:
            offered["stop_on_success"] = settings.stop_on_success
        if bounded:
            offered["max_queries"] = settings.max_queries
        if "targets" in arguments:
            offered["callback"] = None  # it would hear of each class, not of the sample
        taken = {key: value for key, value in offered.items() if key in parameters} | dict(
            arguments
        )
        result: AttackResult = function(model, x, goal, **taken)
        return result

    why_not = (
        "its argument targets chooses the classes"
        if "targets" in arguments
        else _NO_TARGETS.get(name, "")
    )
    return Attack(
        name,
        run,
        about=about,
        bounded=bounded,
        stops_early=nearest and "stop_on_success" in parameters,
        nearest=nearest,
        minimises=nearest and "stop_on_success" not in parameters,
        no_targets=why_not,
        arguments=arguments,
        checks_first=True,
        asks="labels" if name == "rays" else "scores" if bounded else "gradients",
        rounds=_rounds({**parameters, **arguments}),
        **_tanh(name, {**parameters, **arguments}),
    )


def _tanh(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``Attack`` on tanh space; a value that makes no sense is left to the
    attack's own check.
    """
    steps, coordinates = values.get("num_steps"), values.get("coordinates", 0)
    if not (name == "cw" or (name == "zoo" and values["use_tanh"])):
        return {}
    if not isinstance(steps, int) or not isinstance(coordinates, int):
        return {}
    return {"tanh_steps": steps, "tanh_cost": 2 * coordinates + 1}


def _rounds(values: Mapping[str, Any]) -> int:
    """The product of the lengths of an attack's loops; what is no length is refused when the
    attack checks it.
    """
    lengths = [values.get(key) for key in _LENGTHS]
    return math.prod(length for length in lengths if isinstance(length, int) and length > 0)


_NO_TARGETS = {
    "rays": (
        "the search needs a starting image of the target class for every sample (x_init of the"
        " Python function)"
    )
}
_LENGTHS = (  # of loops inside each other
    "num_steps",
    "num_targets",
    "num_transitions",
    "num_restarts",
    "search_steps",
)
# the others end by a number of steps
_QUERY_ATTACKS = ("rays", "frank_wolfe_black_box", "nes", "zoo")
_OURS = {
    "rays": (
        "RayS asks for predicted labels only and searches the sign direction with the nearest"
        " decision boundary; every row through the model is a query, the clean check and each"
        " bisection step included."
    ),
    "frank_wolfe": (
        "Frank-Wolfe moves by convex steps towards the vertex of the ball that its averaged"
        " gradient points to, so that it needs no projection; an iteration is one query and one"
        " gradient, and a sample leaves at its first success."
    ),
    "frank_wolfe_black_box": (
        "Frank-Wolfe black-box estimates the gradient from the scores at pairs of points around the"
        " iterate; every one of them and each check of success is a query, and a sample leaves at"
        " its first success."
    ),
    "nes": (
        "NES estimates the gradient from scores as Frank-Wolfe black-box does and takes projected"
        " sign steps: the baseline of that attack."
    ),
    "hmcam": (
        "HMCAM draws a chain of adversarial candidates by Hamiltonian dynamics with accumulated"
        " momentum, and keeps the sample of highest loss among those that fool."
    ),
    "ai_fgsm": (
        "AI-FGSM takes sign steps along a momentum that is accumulated and scaled as Adam's: HMCAM"
        " with a chain of one sample, without its test of acceptance."
    ),
    "fgsm": "FGSM takes one step of length eps along the sign of the gradient.",
    "i_fgsm": "I-FGSM repeats FGSM with small steps from the input itself.",
    "mi_fgsm": "MI-FGSM is I-FGSM along a momentum of normalised gradients.",
    "pgd": (
        "PGD takes sign steps of the gradient from a random start in the ball, and projects"
        " onto it."
    ),
    "auto_pgd": (
        "Auto-PGD takes momentum steps that halve, sample by sample, where they bring no progress,"
        " and then returns to the point of highest loss; with num_targets it attacks that many"
        " classes in turn."
    ),
    "m_pgd": "M-PGD is PGD along a momentum of normalised gradients.",
    "ead": (
        "EAD minimises the elastic net beta L1 + L2^2 of the perturbation by accelerated"
        " shrinkage-thresholding, with a search over the weight of the loss; it changes few pixels,"
        " but these by much."
    ),
    "cw": (
        "C&W minimises the L2 distortion by Adam in a space without a box, with the search of EAD."
    ),
    "i_fgm": (
        "I-FGM takes a few normalised gradient steps that add up to a radius, and searches the"
        " smallest radius at which they succeed."
    ),
    "zoo": (
        "ZOO minimises the L2 distortion from scores, by difference quotients along a few"
        " coordinates at a time: two queries for each of them and one for each iterate, of which a"
        " small budget allows few."
    ),
}
ATTACKS = {name: _core(name, about, {}) for name, about in _OURS.items()}


def find_attack(
    name: str, arguments: Mapping[str, Any] | None = None, label: str | None = None
) -> Attack:
    """The attack of that name: one of ours, or a peer's, such as ``torchattacks:CLASS`` or
    ``autoattack``.

    Args:
        name: of the attack, in any case.
        arguments: what to give it besides the settings, by the names of its own parameters.
        label: what records and tables call it; None takes the name.

    Raises:
        ValueError: for an unknown name or argument, listing the known ones and naming the nearest.
        ImportError: if the toolkit of a peer is not installed or cannot be imported.
    """
    arguments = dict(arguments or {})
    own = same_name(name, [*ATTACKS, "autoattack"])
    if ":" in name or own == "autoattack":
        from art_ext.evaluation.peers import peer_attack

        found = peer_attack(own or name, arguments)
    elif own is not None:
        found = _core(own, _OURS[own], arguments) if arguments else ATTACKS[own]
    else:
        raise ValueError(
            f"attack must be one of {', '.join(ATTACKS)}, autoattack, or torchattacks:CLASS,"
            f" art:CLASS or foolbox:CLASS, got {name!r}{nearest(name, [*ATTACKS, 'autoattack'])}"
        )
    return found if label is None else replace(found, name=label)
