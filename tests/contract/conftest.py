"""The contract harness: every attack in every shell, behind one way to run it."""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

import art_ext.attacks
import art_ext.torchattacks
from art_ext.adapters.torchattacks import make as make_torchattacks
from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.result import AttackResult
from art_ext.shells import Plan, art, plan, torchattacks
from art_ext.shells.plan import has_shell
from tests.toys import Counting, Sines, compare, permuted

SHELLS = ("core", "art", "torchattacks")
ART_NORMS: dict[str, Any] = {"linf": np.inf, "l2": 2, "l1": 1}
HOSTS = {"art": art.HOST, "torchattacks": torchattacks.HOST}


@dataclass(frozen=True)
class Kind:
    """The harness entry of an attack: settings that keep it quick, and what they cost.

    The facts of the attack itself come from its ``AttackSpec``.

    Attributes:
        name: of a registered attack.
        settings: the core's keywords that keep the harness quick.
        eps: separates the test samples within the budget: some fall, some do not.
        budget: ``max_queries`` of every run that names none.
        rounds: most rounds after the clean check, by their queries; one that does not fit into the
            budget is not begun.
        unstopped: options with which a sample that never falls takes all of them.
        flat: whether its loss is flat where the goal is met: a gradient of zero there has been
            asked for all the same.
        wanders: whether it moves where there is nothing to climb. Random starts do anyway.
        units: settings that scale with x, and the power of its unit.
        variant: what tells it from another kind of the same attack.
        resources: what its spec names besides the model, made for a number of classes.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    eps: float = 0.1
    budget: int = 150
    rounds: tuple[int, ...] = ()
    unstopped: dict[str, Any] = field(default_factory=dict)
    flat: bool = False
    wanders: bool = False
    units: dict[str, int] = field(default_factory=dict)
    variant: str = ""
    resources: Callable[[int], dict[str, Any]] = lambda classes: {}

    @property
    def spec(self) -> AttackSpec:
        """The facts of the attack."""
        return registry.get(self.name)

    @cached_property
    def shells(self) -> dict[str, Plan]:
        """Its classes, by the host."""
        return {
            name: plan(self.spec, host)
            for name, host in HOSTS.items()
            if has_shell(self.spec, host) or not registry.is_built_in(self.spec)
        }

    def class_of(self, shell: str) -> Any:
        """The class of a host: a generated one, or one that is made of a user's spec."""
        if not registry.is_built_in(self.spec):
            return (art_ext.attacks.make if shell == "art" else make_torchattacks)(self.spec)
        module = art_ext.attacks if shell == "art" else art_ext.torchattacks
        return getattr(module, self.shells[shell].name)

    def names_of(self, shell: str) -> dict[str, str]:
        """What the host calls the core's keywords."""
        return {core_name: name for name, core_name in self.shells[shell].core_names.items()}

    @property
    def gradients(self) -> bool:
        """Whether it needs gradients."""
        return self.spec.access == "gradients"

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers, which depend on the sample."""
        return self.spec.random

    @property
    def random_start(self) -> bool:
        """Whether it starts at a random point, or moves anyway."""
        restarts = self.ball and "num_restarts" in self.spec.parameters
        return self.wanders or (self.spec.random and restarts)

    @property
    def ball(self) -> bool:
        """Whether it is a fixed-radius attack."""
        return self.spec.family == "fixed-radius"

    @property
    def targets(self) -> bool:
        """Whether it reaches given classes from the input alone."""
        return not self.spec.no_targets


ENDLESS = 1000  # more rounds than any budget here allows
BUILT_IN = [
    Kind("rays", eps=0.15, budget=300, rounds=(1,) * ENDLESS),
    Kind(
        "opt",
        settings={"num_starts": 5, "num_directions": 2},
        eps=0.3,
        budget=300,
        rounds=(1,) * ENDLESS,
        unstopped={"num_starts": ENDLESS},
    ),
    Kind(
        "sign_opt",
        settings={"num_starts": 5, "num_directions": 10},
        eps=0.2,
        budget=300,
        rounds=(1,) * ENDLESS,
        unstopped={"num_starts": ENDLESS},
    ),
    Kind("frank_wolfe", settings={"num_steps": 8, "step_fraction": 0.4}, rounds=(1,) * 8),
    Kind(
        "frank_wolfe_black_box",
        settings={"num_directions": 6, "delta": 0.01},
        rounds=(13,) * ENDLESS,
        units={"delta": 1},
    ),
    Kind(
        "nes",
        settings={"num_directions": 6, "step_size": 0.03, "delta": 0.01},
        rounds=(13,) * ENDLESS,
        units={"step_size": 1, "delta": 1},
    ),
    Kind("square", rounds=(1,) * ENDLESS, wanders=True),
    Kind("signhunter", rounds=(1,) * ENDLESS, wanders=True),
    Kind(
        "bandits",
        settings={"step_size": 0.03, "delta": 0.1, "prior_step_size": 10.0},
        budget=300,
        rounds=(3,) * ENDLESS,
        units={"step_size": 1, "delta": 1, "prior_step_size": 1},
    ),
    Kind("hmcam", settings={"num_transitions": 2, "num_steps": 4}, rounds=(1,) * 8),
    Kind("ai_fgsm", settings={"num_steps": 8}, rounds=(1,) * 8),
    Kind("fgsm", rounds=(1,)),
    Kind("sign_gradient", settings={"num_steps": 5}, rounds=(1,) * 5),
    Kind("i_fgsm", settings={"num_steps": 5}, rounds=(1,) * 5),
    Kind("mi_fgsm", settings={"num_steps": 5}, rounds=(1,) * 5),
    Kind("pgd", settings={"num_steps": 5}, rounds=(1,) * 6),
    Kind("m_pgd", settings={"num_steps": 5}, rounds=(1,) * 6),
    Kind("auto_pgd", settings={"num_steps": 6}, rounds=(1,) * 7),
    Kind("pgd", settings={"num_steps": 3, "num_restarts": 2}, rounds=(1,) * 8, variant="-restarts"),
    Kind(
        "ead",
        settings={
            "norm": "linf",
            "num_steps": 8,
            "search_steps": 3,
            "initial_const": 0.5,
            "step_size": 0.1,
            "beta": 0.01,
        },
        eps=0.25,
        rounds=(1, *(2,) * 7) * 3,
        unstopped={"abort_early": False},
        flat=True,
        units={"beta": 1, "initial_const": 2},
    ),
    Kind(
        "cw",
        settings={
            "norm": "linf",
            "num_steps": 8,
            "search_steps": 3,
            "initial_const": 0.5,
            "step_size": 0.2,
        },
        eps=0.3,
        rounds=(1,) * 24,
        unstopped={"abort_early": False},
        flat=True,
        units={"initial_const": 2},
    ),
    Kind(
        "in_distribution",
        settings={
            "num_steps": 8,
            "search_steps": 3,
            "initial_const": 2.0,
            "step_size": 0.1,
            "num_restarts": 2,
            "init_steps": 60,
            "init_step_size": 0.1,
        },
        eps=1.2,
        rounds=(1,) * 24,
        unstopped={"abort_early": False},
        flat=True,
        units={"initial_const": 2},
        resources=lambda classes: {"generator": Sines((1, 8, 8), classes)},
    ),
    Kind(
        "i_fgm",
        settings={"num_steps": 4, "resolution": 0.02},
        rounds=(1,) * 48,
        unstopped={"search": "grid", "resolution": 0.08},
        units={"resolution": 1},
    ),
    Kind(
        "zoo",
        settings={
            "norm": "linf",
            "num_steps": 8,
            "search_steps": 2,
            "initial_const": 2.0,
            "step_size": 0.4,
            "coordinates": 4,
        },
        eps=0.5,
        rounds=(10, *(9,) * 6) * 2,
        unstopped={"abort_early": False},
        units={"initial_const": 2, "step_size": 1, "h": 1},
    ),
]


def entries_of(file: str | None) -> list[Kind]:
    """The entries of the package, or those of a user's file (``ENTRIES``)."""
    if file is None:
        return BUILT_IN
    return [Kind(**entry) for entry in runpy.run_path(file)["ENTRIES"]]


KINDS = entries_of(os.environ.get("ART_EXT_CONTRACT"))


@dataclass(frozen=True)
class Shelled:
    """An attack in one of its shells, run with the core's names of the keywords."""

    kind: Kind
    shell: str

    @property
    def on_failure(self) -> str:
        """What a failed row holds by default: the input in the core and after a search, the last
        iterate in shells.
        """
        return "last" if self.kind.ball and self.shell != "core" else "input"

    def cost(self, budget: int) -> int:
        """Most queries of a sample; all of them if it never falls and nothing else stops it."""
        return max(total for total in accumulate(self.kind.rounds, initial=1) if total <= budget)

    def takes(self, option: str) -> bool:
        """Whether the attack has this keyword in this shell, where it has the core's name."""
        if self.shell == "core":
            return option in self.kind.spec.parameters
        name = self.kind.names_of(self.shell).get(option, option)
        return name in inspect.signature(self.kind.class_of(self.shell)).parameters

    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor | None,
        *,
        targets: Tensor | None = None,
        num_classes: int = 10,
        **options: Any,
    ) -> AttackResult:
        """Attack samples of a model with so many classes."""
        options = {
            "eps": self.kind.eps,
            "max_queries": self.kind.budget,
            **self.kind.settings,
            **options,
        }
        if self.takes("seed"):
            options.setdefault("seed", 0)
        if self.shell == "core":
            spec = self.kind.spec.with_resources(**self.kind.resources(num_classes))
            return spec.function(
                model, x, y, **options, **({} if targets is None else {"targets": targets})
            )
        names = self.kind.names_of(self.shell)
        options = {names.get(name, name): value for name, value in options.items()}
        run = self._run_art if self.shell == "art" else self._run_torchattacks
        return run(model, x, y if targets is None else targets, targets is not None, options)

    def _run_torchattacks(
        self, model: nn.Module, x: Tensor, y: Tensor | None, targeted: bool, options: dict[str, Any]
    ) -> AttackResult:
        attack = self.kind.class_of("torchattacks")(model, **options)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        adversarial = attack(x, y)
        assert torch.equal(adversarial, attack.last_result.x_adv)
        return attack.last_result

    def _run_art(
        self, model: nn.Module, x: Tensor, y: Tensor | None, targeted: bool, options: dict[str, Any]
    ) -> AttackResult:
        keywords = {"mask": options.pop("mask").numpy()} if "mask" in options else {}
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            10,
            clip_values=options.pop("clip_values", (0.0, 1.0)),
            device_type="cpu",
        )
        if "norm" in options:
            options["norm"] = ART_NORMS.get(options["norm"], options["norm"])
        attack = self.kind.class_of("art")(
            classifier, verbose=False, targeted=targeted, **{"batch_size": 256, **options}
        )
        array = x.numpy().copy()
        array.flags.writeable = False  # an attack that writes into its input fails here
        adversarial = attack.generate(array, None if y is None else y.numpy(), **keywords)
        assert isinstance(adversarial, np.ndarray)
        assert adversarial.dtype == np.float32
        assert np.array_equal(adversarial, attack.last_result.x_adv.numpy())
        return attack.last_result


EVERY = [
    Shelled(kind, shell)
    for kind in KINDS
    for shell in SHELLS
    if shell == "core" or shell in kind.shells
]


def named(shelled: Shelled) -> str:
    return f"{shelled.kind.name}{shelled.kind.variant}-{shelled.shell}"


def representatives() -> set[str]:
    """The first attack of each family in each shell.

    Shells are generated, and these run every path of the generator's templates. The fast tests run
    the shells of these attacks, the slow ones those of all.
    """
    first: dict[tuple[str, str], str] = {}
    for one in EVERY:
        first.setdefault((one.shell, one.kind.spec.family), named(one))
    return set(first.values())


FAST = representatives()


def parameter(one: Shelled) -> Any:
    fast = one.shell == "core" or named(one) in FAST or not registry.is_built_in(one.kind.spec)
    return pytest.param(one, marks=() if fast else pytest.mark.slow)


def fixture_of(chosen: Callable[[Shelled], bool]) -> Any:
    """A fixture that is every attack in every shell for which this holds."""

    def shelled(request: pytest.FixtureRequest) -> Shelled:
        found: Shelled = request.param
        return found

    found = [one for one in EVERY if chosen(one)]
    return pytest.fixture(params=[*map(parameter, found)], ids=[*map(named, found)])(shelled)


attack = fixture_of(lambda shelled: True)
ball_attack = fixture_of(lambda shelled: shelled.kind.ball)  # those within a fixed eps
core_attack = fixture_of(lambda shelled: shelled.shell == "core")
# by a margin
near_attack = fixture_of(lambda shelled: shelled.takes("confidence"))
core_near_attack = fixture_of(
    lambda shelled: shelled.shell == "core" and shelled.takes("confidence")
)
targeted_attack = fixture_of(lambda shelled: shelled.kind.targets)
core_targeted_attack = fixture_of(lambda shelled: shelled.shell == "core" and shelled.kind.targets)
# torchattacks has no mask and lives in [0, 1]
boxed_attack = fixture_of(lambda shelled: shelled.shell != "torchattacks")
masked_attack = fixture_of(
    lambda shelled: shelled.shell != "torchattacks" and "mask" in shelled.kind.spec.parameters
)


@pytest.fixture
def entries() -> set[str]:
    """The attacks that have an entry in the harness."""
    return {kind.name for kind in KINDS}


class RowByRow(nn.Module):
    """A linear model as a product summed along each row: no kernel sees two rows at once."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, rows: Tensor) -> Tensor:
        return (rows.flatten(1)[:, None] * self.weight).sum(-1) + self.bias


@pytest.fixture
def row_by_row(linear_net: nn.Sequential) -> nn.Module:
    """The trained linear model, for which results are promised to be equal bit by bit."""
    linear = linear_net[1]
    assert isinstance(linear, nn.Linear)
    return RowByRow(linear.weight.detach().clone(), linear.bias.detach().clone())


@pytest.fixture
def counting() -> type[Counting]:
    """Wraps a network in the independent counter."""
    return Counting


@pytest.fixture
def check_same() -> Callable[[AttackResult, AttackResult], None]:
    """Asserts that two results agree in every bit and every count; waste may differ."""

    return compare


@pytest.fixture
def reorder() -> Callable[[AttackResult, Tensor], AttackResult]:
    """Puts the rows of a result into another order."""
    return permuted
