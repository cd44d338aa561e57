"""Calls of the attacks of torchattacks, ART and foolbox, and of functions of users.

None of them counts its queries. ``evaluation.external`` runs them.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.core.attacks.registry import AttackSpec, parameters_of
from art_ext.core.checks import nearest, same_name
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    from art_ext.evaluation.panel.attack import Settings

OWN_QUERIES = 2  # the clean check and the check of the outcome
_SETTINGS = ("norm", "seed", "clip_values", "batch_size", "device")
# keywords that a function of a user is given if it takes them
OFFERED = ("eps", "targeted", "verbose", *_SETTINGS)


@dataclass(frozen=True)
class Batch:
    """Samples that an external attack is called with.

    Attributes:
        network: the model as logits, which counts its rows.
        x: (M, *S) the samples. Empty if an attack is only checked.
        goal: (M,) the classes to leave or to reach.
        classes: number of classes.
        radius: of the ball, such that rounding to float32 stays within eps.
        settings: of the evaluation.
    """

    network: nn.Module
    x: Tensor
    goal: Tensor
    classes: int
    radius: float
    settings: Settings

    @property
    def targeted(self) -> bool:
        """True if ``goal`` holds the classes to reach."""
        return self.settings.targeted is not None


@dataclass(frozen=True)
class External(ABC):
    """An attack that does not count its queries.

    Attributes:
        name: in records and messages.
        arguments: its arguments besides the settings.
    """

    name: str
    arguments: Mapping[str, Any]

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The defaults of its class or function by keyword."""

    @property
    def no_targets(self) -> str:
        """The reason why it cannot be targeted, empty if it can."""
        return ""

    @property
    def access(self) -> str:
        """``"gradients"`` if it is known to need gradients, else ``"unknown"``."""
        return "unknown"

    @property
    def minimises(self) -> bool:
        """True for a minimum-norm attack."""
        return False

    def row_limit(self, settings: Settings) -> int | None:
        """Return the most forward rows of a sample, None for no limit."""
        return None

    @abstractmethod
    def norm(self, given: str) -> str:
        """Return the norm of the attack's ball, the given one if it can be chosen."""

    @abstractmethod
    def craft(self, batch: Batch) -> Tensor:
        """Return the tensors (M, *S) that the attack computes from a batch.

        Without samples the attack is constructed and not called, which checks its arguments.
        """

    def options(self, batch: Batch, **offered: Any) -> dict[str, Any]:
        """Return the offered keywords that it takes, with eps, and the user's arguments."""
        offered |= {"eps": batch.radius, "verbose": False}
        taken = {key: value for key, value in offered.items() if key in self.parameters}
        return {**taken, **self.arguments}


@dataclass(frozen=True)
class ToolkitAttack(External):
    """An attack class of a toolkit.

    Attributes:
        kind: the class.
        module: module of the toolkit's attacks.
        base: module and name of the base class of all attacks.
        install: argument of pip that installs the toolkit.
        differentiates: pattern of the calls by which classes of the toolkit compute gradients.
    """

    kind: type[Any]
    module: ClassVar[str]
    base: ClassVar[tuple[str, str]]
    install: ClassVar[str]
    differentiates: ClassVar[str]

    @classmethod
    def find(cls, prefix: str, kind_name: str, arguments: Mapping[str, Any]) -> ToolkitAttack:
        """Return the attack of that class, in any case.

        Raises:
            ValueError: for an unknown class, or one that cannot be given eps.
            ImportError: if the toolkit is not installed or fails on import.
        """
        module, base = cls._load()
        known = {
            key: value
            for key, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, base) and value is not base
        }
        own = same_name(kind_name, known)
        if own is None:
            raise ValueError(
                f"there is no attack '{prefix}:{kind_name}' in"
                f" {cls.module}{nearest(kind_name, known)}"
            )
        found = cls(f"{prefix}:{own}", arguments, known[own])
        if not found._takes_eps():
            raise ValueError(
                f"{found.name} takes no eps: only attacks that work within a given eps can be"
                " evaluated"
            )
        return found

    @classmethod
    def _load(cls) -> tuple[ModuleType, type]:
        """Return the module and the base class."""
        package = cls.module.partition(".")[0]
        if find_spec(package) is None:
            raise ImportError(f"{package} is not installed: pip install {cls.install}")
        try:
            module = importlib.import_module(cls.module)
            return module, getattr(importlib.import_module(cls.base[0]), cls.base[1])
        except Exception as error:  # whatever a half-built extension raises
            raise ImportError(
                f"{package} is installed but cannot be imported (`art-ext doctor` says more):"
                f" {error}"
            ) from error

    @property
    def parameters(self) -> dict[str, Any]:
        """The defaults of its class by keyword."""
        return parameters_of(self.kind)

    @property
    def access(self) -> str:
        """``"gradients"`` if it is known to need gradients, else ``"unknown"``."""
        # a composite, whose default attacks need them
        composite = self.kind.__name__ == "AutoAttack" and "attacks" not in self.arguments
        return "gradients" if composite or self._needs_gradients() else "unknown"

    def _needs_gradients(self) -> bool:
        """Return True if the source of the class, or of a base class, computes gradients."""
        package = self.module.partition(".")[0]
        own = [one for one in self.kind.__mro__ if one.__module__.partition(".")[0] == package]
        try:
            return any(re.search(self.differentiates, inspect.getsource(one)) for one in own)
        except OSError:  # installed without its source
            return False

    def _takes_eps(self) -> bool:
        return "eps" in self.parameters

    def norm(self, given: str) -> str:
        """Return the given norm if the class has the parameter, else the norm in its name."""
        if "norm" in self.parameters:
            return given
        return "l2" if "L2" in self.kind.__name__ else "linf"


class Torchattacks(ToolkitAttack):
    """A class of torchattacks."""

    module = "torchattacks"
    base = ("torchattacks.attack", "Attack")
    install = "'art-ext[torchattacks]'"
    differentiates = r"\bautograd\.|\.backward\("

    def craft(self, batch: Batch) -> Tensor:
        """Return the class's tensors for a batch in [0, 1]."""
        settings = batch.settings
        if settings.clip_values != (0.0, 1.0):
            raise ValueError(
                f"torchattacks knows no box but clip_values=(0, 1), got {settings.clip_values}"
            )
        norm = settings.norm.capitalize()  # Linf, L2, L1
        options = self.options(batch, norm=norm, seed=settings.seed, n_classes=batch.classes)
        attack = self.kind(batch.network, **options)
        # by default it takes the device of the first parameter, and a callable has none
        attack.set_device(batch.x.device)
        if batch.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        crafted: Tensor = attack(batch.x, batch.goal) if len(batch.x) else batch.x
        return crafted


class Art(ToolkitAttack):
    """A class of ``art.attacks.evasion``."""

    module = "art.attacks.evasion"
    base = ("art.attacks.attack", "EvasionAttack")
    install = "adversarial-robustness-toolbox"
    differentiates = r"\b(Loss|Class)GradientsMixin\b"  # in the requirements of a class

    @property
    def no_targets(self) -> str:
        """The reason why it cannot be targeted, empty if it can."""
        known = "targeted" in self.parameters
        return "" if known else f"{self.name} has no parameter 'targeted'"

    def craft(self, batch: Batch) -> Tensor:
        """Return the class's tensors for a batch, through a ``PyTorchClassifier``."""
        from art_ext.attacks.estimator import classifier_on

        settings = batch.settings
        x = batch.x
        classifier = classifier_on(
            x.device,
            batch.network,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=batch.classes,
            clip_values=settings.clip_values,
        )
        norm = {"linf": np.inf, "l2": 2, "l1": 1}[settings.norm]
        options = self.options(
            batch, norm=norm, targeted=batch.targeted, batch_size=settings.batch_size
        )
        attack = self.kind(classifier, **options)
        if not len(x):
            return x
        one_hot = nn.functional.one_hot(batch.goal, batch.classes).float().cpu().numpy()
        crafted = attack.generate(x.cpu().numpy(), one_hot)
        return torch.from_numpy(np.array(crafted, np.float32)).to(x.device)


class Foolbox(ToolkitAttack):
    """A class of ``foolbox.attacks``."""

    module = "foolbox.attacks"
    base = ("foolbox.attacks.base", "Attack")
    install = "'foolbox>=3.3.3,<4'"
    differentiates = r"value_(aux_)?and_grad"

    @property
    def minimises(self) -> bool:
        """True for a minimum-norm attack."""
        from foolbox.attacks.base import MinimizationAttack

        return inspect.isclass(self.kind) and issubclass(self.kind, MinimizationAttack)

    def _takes_eps(self) -> bool:
        return hasattr(self.kind, "distance")  # those are called with epsilons

    def norm(self, given: str) -> str:
        """Return the norm of the class's distance, or the norm in its name.

        Without either, the class takes the given norm.
        """
        # HopSkipJump's parameter, which contradicts the class attribute
        if "constraint" in parameters_of(self.kind):
            return given if given != "l1" else "linf or l2"
        order = getattr(getattr(self.kind, "distance", None), "p", None)
        if order is not None:
            return f"l{order:g}"
        name = self.kind.__name__.lower()
        named = [f"l{mark}" for mark in ("inf", "2", "1", "0") if name.startswith(f"l{mark}")]
        return named[0] if named else given

    def craft(self, batch: Batch) -> Tensor:
        """Return the class's tensors for a batch, cut to the ball."""
        import foolbox

        settings = batch.settings
        order = {"linf": math.inf, "l2": 2, "l1": 1}[settings.norm]
        distance = foolbox.distances.LpDistance(order)
        attack = self.kind(**self.options(batch, distance=distance, constraint=settings.norm))
        if not len(batch.x):
            return batch.x
        criteria = foolbox.criteria
        kind = criteria.TargetedMisclassification if batch.targeted else criteria.Misclassification
        model = foolbox.PyTorchModel(
            batch.network, bounds=settings.clip_values, device=batch.x.device
        )
        # its own verdict is ignored: a failed attack may end at an image of zeros
        _, inside, _ = attack(model, batch.x, kind(batch.goal), epsilons=batch.radius)
        crafted: Tensor = inside
        return crafted


TOOLKITS: dict[str, type[ToolkitAttack]] = {
    "torchattacks": Torchattacks,
    "art": Art,
    "foolbox": Foolbox,
}


@dataclass(frozen=True)
class Function(External):
    """A function of a user, whose spec does not state its access.

    Attributes:
        spec: the registered attack.
    """

    spec: AttackSpec

    @property
    def parameters(self) -> dict[str, Any]:
        """The defaults of the function by keyword."""
        return self.spec.parameters

    @property
    def no_targets(self) -> str:
        """The reason why it cannot be targeted, empty if it can."""
        return self.spec.no_targets

    @property
    def minimises(self) -> bool:
        """True for a minimum-norm attack."""
        return self.spec.family == "minimum-norm"

    def row_limit(self, settings: Settings) -> int | None:
        """Return the most forward rows of a sample, None if the function has no budget."""
        if not self.spec.budget:
            return None
        budget = self.arguments.get(self.spec.budget, settings.max_queries)
        return max(0, int(budget) - OWN_QUERIES)

    def norm(self, given: str) -> str:
        """Return the given norm if the function supports it, else its norms."""
        return given if given in self.spec.norms else " or ".join(self.spec.norms)

    def craft(self, batch: Batch) -> Tensor:
        """Return the x_adv of the function."""
        settings = batch.settings
        if not len(batch.x):
            return batch.x
        options = self.options(batch, targeted=batch.targeted, **settings.keywords(*_SETTINGS))
        if self.spec.budget:
            options[self.spec.budget] = self.row_limit(settings)
        found = self.spec.function(batch.network, batch.x, batch.goal, **options)
        crafted = found.x_adv if isinstance(found, AttackResult) else found
        if isinstance(crafted, np.ndarray):
            crafted = torch.from_numpy(np.array(crafted, np.float32)).to(batch.x.device)
        if inspect.iscoroutine(crafted):
            crafted.close()  # else Python warns that nothing awaits it
        if not isinstance(crafted, Tensor):
            raise ValueError(
                "it must return x_adv as a tensor or a NumPy array, or an AttackResult, got"
                f" {type(found).__name__}"
            )
        return crafted
