"""Checkpoints of a run: what is saved, and how a run continues from it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.storage.training import CHECKPOINTS
from art_ext.training.averaging import WeightAverage
from art_ext.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from art_ext.training.engine import Engine
from art_ext.training.folder import RunFolder
from art_ext.training.history import write_history
from art_ext.training.rates import Rate
from art_ext.training.state import Losses, TrainState

logger = logging.getLogger("art_ext")


@dataclass(frozen=True, eq=False)
class Checkpointing:
    """Saves and restores a run.

    Attributes:
        folder: of the run. None saves nothing.
        model, optimizer, rate, average, engine: the parts whose state is saved.
    """

    folder: RunFolder | None
    model: nn.Module
    optimizer: torch.optim.Optimizer
    rate: Rate
    average: WeightAverage
    engine: Engine

    def save(self, state: TrainState) -> None:
        """Write a checkpoint and the history, if there is a folder. All processes take part."""
        if self.folder is None:
            return
        state.losses.average(self.engine)
        rows = self.engine.ledger()
        carried = {name: _gathered(self.engine, value) for name, value in state.carried.items()}
        accelerator = self.engine.accelerator
        if accelerator.is_main_process:
            scaler = accelerator.scaler
            save_checkpoint(
                self.folder.store,
                state.update,
                {
                    "update": state.update,
                    "epoch": state.epoch,
                    "batch": state.batch,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "carried": carried,
                    "history": state.history,
                    "schedule": self.rate.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "average": self.average.state_dict(),
                    "losses": state.losses.stacked(),
                    "logged": state.logged,
                    "best": state.best,
                    "forwards": rows.forwards,
                    "backwards": rows.backwards,
                    "first_layer_rows": rows.first_layer_rows,
                    "seconds": state.seconds,
                    **({"kept": state.kept} if state.kept else {}),
                    **({"measured": state.measured} if state.measured else {}),
                    **({"validations": state.validations} if state.validations else {}),
                },
                CHECKPOINTS,
            )
            write_history(self.folder.store, state.history, state.validations)
        accelerator.wait_for_everyone()

    def resume(self) -> TrainState:
        """Return the state of the newest checkpoint of the folder, or of a run that begins.

        The parts are restored too.

        Raises:
            ValueError: if the checkpoint is damaged, or the schedule cannot be restored.
        """
        store = None if self.folder is None else self.folder.store
        found = [] if store is None else checkpoints(store, CHECKPOINTS)
        if store is None or not found:
            return TrainState()
        saved = load_checkpoint(store, f"{CHECKPOINTS}/{found[-1].name}")
        engine = self.engine
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.rate.load_state_dict(saved["schedule"])
        if saved["scaler"] is not None and engine.accelerator.scaler is not None:
            engine.accelerator.scaler.load_state_dict(saved["scaler"])
        self.average.load_state_dict(saved["average"])
        if engine.accelerator.is_main_process:  # those of all processes
            engine.forwards = saved["forwards"]
            engine.backwards = saved["backwards"]
            engine.first_layer_rows = saved.get("first_layer_rows", 0)  # older runs have none
        state = TrainState(
            update=saved["update"],
            epoch=saved["epoch"],
            batch=saved["batch"],
            carried={name: _own_rows(engine, value) for name, value in saved["carried"].items()},
            history=saved["history"],
            validations=saved.get("validations", []),
            losses=Losses(saved["losses"].to(engine.device).unbind()),
            logged={name: value.to(engine.device) for name, value in saved["logged"].items()},
            measured={
                name: value.to(engine.device) for name, value in saved.get("measured", {}).items()
            },
            best=saved["best"],
            kept=saved.get("kept", {}),
            earlier=saved["seconds"],
            started=time.perf_counter(),
        )
        logger.info("resumed from %s after %d weight updates", found[-1].name, state.update)
        return state


def _gathered(engine: Engine, value: Tensor) -> Tensor:
    """Gather a carried tensor over the processes. Row i belongs to process i modulo P."""
    if engine.processes == 1 or not value.dim():
        return value
    gather = engine.accelerator.gather
    counts = gather(torch.tensor([len(value)], device=value.device))
    # the last ones may have a row less
    missing = value.new_zeros(int(counts.max()) - len(value), *value.shape[1:])
    parts = gather(torch.cat([value, missing]).unsqueeze(0))
    return parts.transpose(0, 1).reshape(-1, *value.shape[1:])[: int(counts.sum())]


def _own_rows(engine: Engine, value: Tensor) -> Tensor:
    """Return this process' rows of a gathered tensor, on its device."""
    rows = value[engine.accelerator.process_index :: engine.processes] if value.dim() else value
    return rows.to(engine.device)
