"""Attacks of torchattacks and ART beside ours: our oracle checks before and after, a wrapper counts their rows.

A peer does not say whose row it sends through the model, so the rows of a call are spread evenly over its samples; the
sum is exact. Peers end by their own settings: ``max_queries`` does not bind them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.core.geometry import distances, within_ball
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.problem import Problem, admit, pose
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.evaluation.panel import Attack, Settings, check_arguments, parameters_of


def peer_attack(name: str, arguments: Mapping[str, Any]) -> Attack:
    """A member of the panel made of a peer's class.

    Args:
        name: ``torchattacks:CLASS`` or ``art:CLASS`` (of ``art.attacks.evasion``), a class that takes eps.
        arguments: of its constructor, besides what the settings say.

    Raises:
        ValueError: for an unknown toolkit or class, a class that takes no eps, or arguments that it does not take.
        ImportError: if the toolkit is not installed or cannot be imported.
    """
    prefix, _, kind_name = name.partition(":")
    if prefix not in _TOOLKITS:
        raise ValueError(f"a peer's attack must be given as {' or '.join(_FORMS)}, got {name!r}")
    toolkit = _TOOLKITS[prefix]
    kind = _find(toolkit, kind_name, name)
    parameters = parameters_of(kind)
    check_arguments(name, arguments, parameters)
    aims = toolkit.aims(parameters)

    def run(model: Model, x: Tensor, goal: Tensor, eps: float, settings: Settings, callback: Callback) -> AttackResult:
        return _Run(name, toolkit, kind, arguments, model, x, eps, settings, callback).result(goal)

    return Attack(
        name, run, nearest=False, arguments=arguments, checks_first=True,
        about=f"{name} is the attack of that toolkit, on the correctly classified samples in calls of one batch. A "
        "wrapper counts the rows that it sends forward and backward; they are spread evenly over the samples of a "
        "call, since a peer does not say whose row it is. Our clean check before and our check of the outcome after "
        "are one query each.",
        no_targets="" if aims else f"{name} has no parameter 'targeted'",
    )  # fmt: skip


# ---- the toolkits


Craft = Callable[["_Run", nn.Module, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class _Toolkit:
    """What differs between the toolkits.

    Attributes:
        module: where the attacks are.
        base: module and name of the class that all attacks descend from.
        install: what brings it.
        aims: whether a class with these parameters may be targeted.
        craft: from (run, network, x, goal, classes) to the tensors that x (M, *S) ended at; makes the attack only, and
            returns x, if there are no samples.
    """

    module: str
    base: tuple[str, str]
    install: str
    aims: Callable[[Mapping[str, Any]], bool]
    craft: Craft

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
                f"{package} is installed but cannot be imported (`art-ext doctor` says more): {error}"
            ) from error


def _find(toolkit: _Toolkit, kind_name: str, name: str) -> type:
    module, base = toolkit.load()
    known = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    if kind_name not in known:
        near = difflib.get_close_matches(kind_name, known, cutoff=0.5)
        hint = f"; near are {', '.join(near)}" if near else ""
        raise ValueError(f"there is no attack {name!r} in {toolkit.module}{hint}")
    if "eps" not in parameters_of(known[kind_name]):
        raise ValueError(f"{name} takes no eps: only attacks that work within a given eps can be evaluated")
    return known[kind_name]


def _craft_torchattacks(run: _Run, network: nn.Module, x: Tensor, goal: Tensor, classes: int) -> Tensor:
    if run.settings.clip_values != (0.0, 1.0):
        raise ValueError(f"torchattacks knows no box but clip_values=(0, 1), got {run.settings.clip_values}")
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[run.settings.norm]
    attack = run.kind(network, **run.options(norm=norm, seed=run.settings.seed, n_classes=classes))
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
        network, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=settings.clip_values,
        device_type="cpu" if x.device.type == "cpu" else "gpu",
    )  # fmt: skip
    aimed = settings.targeted is not None
    attack = run.kind(classifier, **run.options(norm=norm, targeted=aimed, batch_size=settings.batch_size))
    if not len(x):
        return x
    one_hot = nn.functional.one_hot(goal, classes).float().cpu().numpy()
    return torch.from_numpy(np.array(attack.generate(x.cpu().numpy(), one_hot), np.float32)).to(x.device)


_TOOLKITS = {
    "torchattacks": _Toolkit(
        "torchattacks", ("torchattacks.attack", "Attack"), "'art-ext[torchattacks]'",
        lambda parameters: True,  # an object of the class says it, when it is made
        _craft_torchattacks,
    ),
    "art": _Toolkit(
        "art.attacks.evasion", ("art.attacks.attack", "EvasionAttack"), "adversarial-robustness-toolbox",
        lambda parameters: "targeted" in parameters, _craft_art,
    ),
}  # fmt: skip
_FORMS = [f"{prefix}:CLASS" for prefix in _TOOLKITS]


# ---- one run


class _Counted(nn.Module):
    """A model as logits, that counts its rows forward and backward."""

    def __init__(self, model: Model, outputs: str) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs
        self.forwards = self.backwards = 0

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) logits of rows (R, *S)."""
        self.forwards += len(rows)
        outputs = self.model(rows)
        if self.outputs == "probabilities":  # up to a constant per row, which no loss of logits sees
            outputs = outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
        if outputs.requires_grad:
            count = len(rows)

            def passed(gradient: Tensor) -> None:
                self.backwards += count

            outputs.register_hook(passed)
        return outputs


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

    def options(self, **offered: Any) -> dict[str, Any]:
        """What the class is made with: what it takes of eps and of what is offered, and the user's arguments."""
        offered |= {"eps": self.eps, "verbose": False}
        parameters = parameters_of(self.kind)
        return {key: value for key, value in offered.items() if key in parameters} | dict(self.arguments)

    def result(self, goal: Tensor) -> AttackResult:
        """Run the peer on the samples that do not meet their goal yet, and verify what it made of them."""
        settings = self.settings
        self._check_norm()
        oracle = ScoreOracle(
            self.model, len(self.x), outputs=settings.outputs, batch_size=settings.batch_size,
            clip_values=settings.clip_values, device=settings.device, default_device=self.x.device,
        )  # fmt: skip
        samples, box = admit(oracle, self.x)
        aimed = settings.targeted is not None
        with oracle:
            if not len(samples):
                self._craft(oracle, samples, goal.to(oracle.device), 2)  # the class checks what it is made with
            problem = pose(oracle, samples, box, None if aimed else goal, goal if aimed else None)
            return self._attack(oracle, problem)

    def _check_norm(self) -> None:
        if "norm" in parameters_of(self.kind):
            return
        own = "l2" if "L2" in self.kind.__name__ else "linf"
        if self.settings.norm != own:
            raise ValueError(f"{self.name} fills a ball of norm={own!r} only, got norm={self.settings.norm!r}")

    def _attack(self, oracle: ScoreOracle, problem: Problem) -> AttackResult:
        everything = torch.arange(len(problem.x), device=oracle.device)
        already = problem.met(problem.clean, everything)
        success, x_adv = already.clone(), problem.x.clone()
        distance = torch.where(already, 0.0, torch.inf)
        self._tell(0, everything, oracle, distance, success, finished=already)
        for step, index in enumerate((~already).nonzero().squeeze(1).split(self.settings.batch_size), start=1):
            if not len(index):
                break
            x = problem.x[index]
            moved = self._craft(oracle, x, problem.goal[index], int(oracle.num_classes or 0), index)
            met = problem.met(oracle.labels(moved, index), index)
            length = distances(moved, x, self.settings.norm)
            inside = problem.box.contains(moved) & within_ball(length, self.eps)
            hit = index[met & inside]
            success[hit] = True
            distance[hit] = length[met & inside].to(distance.dtype)
            x_adv[hit] = moved[met & inside]
            self._tell(step, index, oracle, distance, success, finished=torch.ones_like(met))
        home = self.x.device
        return AttackResult(
            x_adv=x_adv.to(home), success=success.to(home), already_adversarial=already.to(home),
            distance=distance.to(home), x_nearest=None, queries=oracle.queries.to(home),
            queries_to_success=torch.where(success, oracle.queries, -1).to(home), gradients=oracle.gradients.to(home),
            wasted_rows=oracle.wasted_rows.to(home), norm=self.settings.norm, eps=self.eps, seed=self.settings.seed,
            early_stop=False,
        )  # fmt: skip

    def _craft(self, oracle: ScoreOracle, x: Tensor, goal: Tensor, classes: int, index: Tensor | None = None) -> Tensor:
        """What the peer makes of x (M, *S), the rows charged to the samples in index (M,)."""
        network = _Counted(self.model, self.settings.outputs).eval()
        try:
            with _fenced(self.settings.seed), redirect_stdout(io.StringIO()):
                moved = self.toolkit.craft(self, network, x.clone(), goal.clone(), classes).detach()
        except Exception as error:  # a peer may fail in any way on samples, a model or arguments that it did not expect
            raise ValueError(f"{self.name} fails: {type(error).__name__}: {error}") from error
        network.eval()  # a peer may leave the model in the mode of training, and the checks are still to come
        if moved.shape != x.shape:
            raise ValueError(f"{self.name} must return the shape {tuple(x.shape)}, got {tuple(moved.shape)}")
        if index is not None:
            oracle.queries[index] += _shares(network.forwards, index)
            oracle.gradients[index] += _shares(network.backwards, index)
        return moved

    def _tell(
        self, step: int, index: Tensor, oracle: ScoreOracle, distance: Tensor, success: Tensor, finished: Tensor
    ) -> None:
        self.callback(Progress(step, index, distance[index], oracle.queries[index], finished, success[index]))


def _shares(total: int, index: Tensor) -> Tensor:
    """(M,) int64 that sum to total and differ by one at most."""
    count = len(index)
    return total // count + (torch.arange(count, device=index.device) < total % count).long()


@contextmanager
def _fenced(seed: int) -> Iterator[None]:
    """Seed the global random streams, which peers draw from, and put them back as they were.

    Every call of a peer begins with the same seed: what it does to a batch does not depend on the batches before.
    """
    seed = (seed ^ seed >> 32) % (1 << 32)  # these generators read no more than 32 bits
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the peers' stream, not ours
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
