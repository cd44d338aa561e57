"""The way of a run from phase to phase: weights to begin with, a fresh optimiser, soft labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall
from art_ext.core.networks import frozen_eval, model_device
from art_ext.core.outputs import read_outputs
from art_ext.models.layers import weights_metadata
from art_ext.storage.files import plain_tensors, safetensors_of
from art_ext.storage.training import TARGETS, TEACHER
from art_ext.training.averaging import WeightAverage
from art_ext.training.batches import LoaderBatches
from art_ext.training.datasets import Batches
from art_ext.training.engine import Engine
from art_ext.training.folder import RunFolder
from art_ext.training.length import Length
from art_ext.training.options import TrainingOptions
from art_ext.training.rates import Rate
from art_ext.training.recipes import Recipe
from art_ext.training.recipes.phase import INITIAL, Phase
from art_ext.training.state import TrainState

LABELLED = 256  # samples that a teacher labels at once


def phases_of(recipe: Recipe, options: TrainingOptions) -> tuple[Phase, ...]:
    """Return the phases of a run.

    Raises:
        ValueError: as ``check_phases``.
    """
    taught = options.teacher is not None
    check_phases(recipe, options, taught)
    return recipe.phases(taught)


def check_phases(recipe: Recipe, options: TrainingOptions, taught: bool) -> None:
    """Raise ValueError for options that a recipe of several phases, or of one, does not take.

    Args:
        recipe, options: of the run.
        taught: True if the caller has a teacher.
    """
    phases = recipe.phases(taught)
    if taught and not any(phase.targets for phase in phases):
        raise ValueError(f"teacher is for a recipe with soft labels, got the recipe {recipe.name}")
    if len(phases) == 1:
        return
    if options.passes is not None:
        raise ValueError(
            f"passes must not be given with the recipe {recipe.name}, whose phases have a length"
            " each: give epochs, equivalent_epochs or updates"
        )
    if options.rate() is None and not hasattr(options.schedule, "state_dict"):
        raise ValueError(
            f"a schedule must have state_dict() and load_state_dict() for the recipe {recipe.name},"
            " whose phases begin with it again"
        )


def check_labelled(phases: Sequence[Phase], batches: Batches) -> None:
    """Raise ValueError if a teacher cannot label the samples before training."""
    if isinstance(batches, LoaderBatches) and any(phase.targets for phase in phases):
        raise ValueError(
            "soft labels need samples that are read by their positions: pass tensors or a dataset,"
            " got a loader"
        )


@dataclass(eq=False)
class Phases:
    """The phases of a run and the current one.

    Attributes:
        phases: in their order.
        lengths: of each.
        model, optimizer, rate, average, engine: the parts that a phase begins with.
        batches: the training samples.
        folder: of the run, or None.
        given: the caller's teacher, or None.
        place: position of the current phase.
        targets: (N, C) target rows of the samples in the current phase, on the CPU. None: none.
        teacher: state dict of the teacher that the run trained, on the CPU. None: none so far.
    """

    phases: Sequence[Phase]
    lengths: Sequence[Length]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    rate: Rate
    average: WeightAverage
    engine: Engine
    batches: Batches
    folder: RunFolder | None
    given: nn.Module | None = None
    place: int = 0
    targets: Tensor | None = None
    teacher: dict[str, Tensor] | None = None
    _first: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.phases) > 1:
            scaler = self.engine.accelerator.scaler
            self._first = copy.deepcopy(
                {
                    "optimizer": self.optimizer.state_dict(),
                    "schedule": self.rate.state_dict(),
                    "scaler": None if scaler is None else scaler.state_dict(),
                }
            )

    @property
    def recipe(self) -> Recipe:
        """Recipe of the current phase."""
        return self.phases[self.place].recipe

    @property
    def length(self) -> Length:
        """Length of the current phase."""
        return self.lengths[self.place]

    @property
    def total(self) -> int:
        """Weight updates of the run."""
        return self.lengths[-1].end

    def facts(self) -> dict[str, float]:
        """Return the number of the phase for the history, if there are several."""
        return {"phase": float(self.place)} if len(self.phases) > 1 else {}

    def targets_of(self, ids: Tensor) -> Tensor | None:
        """Return the target rows (r, C) of samples, by their positions (r,)."""
        return None if self.targets is None else self.engine.place(self.targets[ids.cpu()])

    def enter(self, place: int, state: TrainState) -> None:
        """Begin a phase, or go on with it after a resume.

        Args:
            place: position of the phase.
            state: progress of the run.
        """
        self.place = place
        phase = self.phases[place]
        begins = state.update == self.length.first
        self.targets = None
        if phase.targets is not None:
            self.targets = self._labelled(phase.targets) if begins else self._stored_targets()
        if begins and len(self.phases) > 1:
            self._begin(phase, state)

    def _begin(self, phase: Phase, state: TrainState) -> None:
        """Set weights, optimiser, rate and average to those that the phase begins with."""
        before = self.phases[self.place - 1].name if self.place else INITIAL
        if any(one.start == before for one in self.phases[self.place :]):
            state.kept[before] = plain_tensors(self.model.state_dict())
        if phase.start is not None:
            self.model.load_state_dict(state.kept[phase.start])
        later = {one.start for one in self.phases[self.place + 1 :]}
        state.kept = {name: weights for name, weights in state.kept.items() if name in later}
        if not self.place:
            return
        first = copy.deepcopy(self._first)  # an optimiser may keep the tensors that it loads
        self.optimizer.load_state_dict(first["optimizer"])
        self.rate.load_state_dict(first["schedule"])
        scaler = self.engine.accelerator.scaler
        if scaler is not None:
            scaler.load_state_dict(first["scaler"])
        self.average.restart()
        state.carried = {}
        state.logged = {}
        state.measured = {}
        state.best = None

    def _labelled(self, soften: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the targets (N, C) that the teacher gives, and write it and them to the folder."""
        if self.given is None:
            self.teacher = plain_tensors(self.average.current.state_dict())
        targets = self._targets(soften)
        if self.folder is not None and self.engine.accelerator.is_main_process:
            if self.teacher is not None:
                metadata = weights_metadata(self.engine.head.export(self.model))
                self.folder.store.write(TEACHER, safetensors_of(self.teacher, metadata))
            self.folder.store.write(TARGETS, safetensors_of({"targets": targets}))
        return targets

    def _targets(self, soften: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the target rows (N, C) of all samples. The processes share the work."""
        engine = self.engine
        network = self.average.current if self.given is None else self.given
        own = torch.arange(self.batches.samples())
        own = own[engine.accelerator.process_index :: engine.processes]
        parts = own.split(LABELLED)
        with frozen_eval(network), torch.no_grad():
            found = [
                soften(self._scores(network, engine.place(rows)))
                for rows in self.batches.unaugmented(parts)
            ]
        table = found[0].new_zeros(self.batches.samples(), found[0].shape[1])
        table[own.to(table.device)] = torch.cat(found)
        return engine.total(table).cpu()

    def _scores(self, network: nn.Module, rows: Tensor) -> Tensor:
        """Return the class scores (r, C) of the teacher, and count the rows."""
        engine = self.engine
        if self.given is None:
            return engine.call(engine.plain if network is self.model else network, rows)
        engine.forwards += len(rows)
        scores = ModelCall(network)(rows.to(model_device(network, None, rows.device)))
        return read_outputs(scores, len(rows), "logits").float().to(engine.device)

    def _stored_targets(self) -> Tensor:
        """Return the targets in the folder.

        Raises:
            ValueError: if the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        if self.folder is None:
            raise RuntimeError("a run without a folder is not resumed")
        store = self.folder.store
        try:
            return load(store.read(TARGETS))["targets"]
        except (OSError, KeyError, SafetensorError) as error:
            raise ValueError(
                f"{store.path} must hold {TARGETS}, the soft labels of the run to resume, but"
                f" reading it fails: {error}"
            ) from error

    def trained_teacher(self) -> dict[str, Tensor] | None:
        """Return the state dict of the teacher that the run trained, or None."""
        from safetensors.torch import load

        store = None if self.folder is None or len(self.phases) == 1 else self.folder.store
        if self.teacher is None and store is not None and store.exists(TEACHER):
            self.teacher = load(store.read(TEACHER))
        return self.teacher
