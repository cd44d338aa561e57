"""Kinds of trackers: Accelerate's classes, and what these leave to their users."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from art_ext.storage.ownership import LOGS
from art_ext.storage.store import LocalStore, Store

PROJECT = "art_ext"  # of Weights & Biases, and the experiment of MLflow
Values = Mapping[str, float | str]


class Backend:
    """One kind of tracker: Accelerate's class, and what the class leaves to its users.

    Attributes:
        modules: names of modules, one of which must be installed.
        install: command that installs it.
        restates: True if a continued run states its configuration again.
    """

    modules: tuple[str, ...]
    install: str
    restates: bool = False

    def check(self, store: Store) -> None:
        """Raise ValueError if the tracker cannot work here."""

    def starter(self) -> Callable[..., Any]:
        """Return the function whose keywords are the arguments of the tracker."""
        raise NotImplementedError

    def make(self, store: Store, arguments: dict[str, Any], run: str | None) -> Any:
        """Return Accelerate's tracker, which goes on with a run if one is named."""
        raise NotImplementedError

    def run_of(self, tracker: Any) -> str | None:
        """Return the id of the run of a started tracker."""

    def log(self, tracker: Any, values: Values, step: int) -> None:
        """Log numbers at a step."""
        tracker.log(values, step=step)

    def conclude(self, tracker: Any, values: Values, step: int) -> None:
        """Log the final values, numbers and texts."""
        raise NotImplementedError

    def attach(self, tracker: Any, files: Sequence[Path], step: int) -> None:
        """Keep files with the run."""
        raise NotImplementedError


class TensorBoard(Backend):
    """Event files in the folder ``art_ext`` of the run folder. Files are shown as far as it can."""

    modules = ("tensorboard", "tensorboardX")
    install = "pip install tensorboard"

    def check(self, store: Store) -> None:
        """Raise ValueError for a run folder that is not on this machine."""
        if not isinstance(store, LocalStore):
            raise ValueError(
                f"the tracker tensorboard needs a local folder, got {store.path}: choose wandb or"
                " mlflow, or a local --out"
            )

    def starter(self) -> Callable[..., Any]:
        """Return the class of the writer."""
        try:
            tensorboard = import_module("torch.utils.tensorboard")
        except ModuleNotFoundError:
            tensorboard = import_module("tensorboardX")  # as Accelerate does
        writer: Callable[..., Any] = tensorboard.SummaryWriter
        return writer

    def make(self, store: Store, arguments: dict[str, Any], run: str | None) -> Any:
        """Return the tracker. All event files of the folder are one run."""
        from accelerate.tracking import TensorBoardTracker

        return TensorBoardTracker(LOGS, str(store.path), **arguments)

    def conclude(self, tracker: Any, values: Values, step: int) -> None:
        """Log numbers as scalars, texts as texts."""
        tracker.log(values, step=step)

    def attach(self, tracker: Any, files: Sequence[Path], step: int) -> None:
        """Log pictures as images, tables as text. The page lies in the run folder."""
        for file in files:
            if file.suffix == ".png":
                import numpy as np
                from PIL import Image

                with Image.open(file) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                tracker.tracker.add_image(file.name, pixels, step, dataformats="HWC")
            elif file.suffix != ".html":
                indented = "\n".join(f"    {line}" for line in file.read_text().splitlines())
                tracker.tracker.add_text(file.name, indented, step)
        tracker.tracker.flush()


class Wandb(Backend):
    """A run of Weights & Biases, whose id is drawn here."""

    modules = ("wandb",)
    install = "pip install 'art-ext[wandb]'"
    restates = True  # a killed process loses what wandb had not written to the disk

    def starter(self) -> Callable[..., Any]:
        """Return the function that starts a run."""
        import wandb

        return wandb.init

    def make(self, store: Store, arguments: dict[str, Any], run: str | None) -> Any:
        """Return the tracker."""
        from accelerate.tracking import WandBTracker

        project = arguments.pop("project", None) or os.environ.get("WANDB_PROJECT") or PROJECT
        # without a network there is nothing to resume: both parts of the run carry its id
        own = {"id": uuid4().hex[:12]} if run is None else {"id": run, "resume": "allow"}
        return WandBTracker(project, **{**own, **arguments})

    def run_of(self, tracker: Any) -> str | None:
        """Return the id of the run."""
        return str(tracker.tracker.id)

    def log(self, tracker: Any, values: Values, step: int) -> None:
        """Log numbers at a step, at once rather than with the next step."""
        tracker.log(values, step=step, commit=True)

    def conclude(self, tracker: Any, values: Values, step: int) -> None:
        """Enter the values into the summary of the run."""
        tracker.tracker.summary.update(dict(values))

    def attach(self, tracker: Any, files: Sequence[Path], step: int) -> None:
        """Keep the files as one artefact."""
        import wandb

        artifact = wandb.Artifact(f"report-{tracker.tracker.id}", type="report")
        for file in files:
            artifact.add_file(str(file), name=file.name)
        tracker.tracker.log_artifact(artifact)


class Mlflow(Backend):
    """A run of MLflow."""

    modules = ("mlflow",)
    install = "pip install 'art-ext[mlflow]'"

    def check(self, store: Store) -> None:
        """Raise ValueError if the store of MLflow cannot be opened."""
        import mlflow

        try:
            mlflow.search_experiments(max_results=1)
        except Exception as error:  # each store raises errors of its own
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise ValueError(
                f"the tracker mlflow cannot open the store {mlflow.get_tracking_uri()} ({reason})."
                " Set MLFLOW_TRACKING_URI to a server or, together with"
                " MLFLOW_ALLOW_FILE_STORE=true, to file:FOLDER"
            ) from error

    def starter(self) -> Callable[..., Any]:
        """Return Accelerate's class, which starts the run."""
        from accelerate.tracking import MLflowTracker

        return MLflowTracker

    def make(self, store: Store, arguments: dict[str, Any], run: str | None) -> Any:
        """Return the tracker."""
        from accelerate.tracking import MLflowTracker

        own = {"experiment_name": PROJECT, **({} if run is None else {"run_id": run})}
        return MLflowTracker(**{**own, **arguments})

    def run_of(self, tracker: Any) -> str | None:
        """Return the id of the run."""
        return str(tracker.tracker.info.run_id)

    def conclude(self, tracker: Any, values: Values, step: int) -> None:
        """Log numbers as metrics, texts as tags."""
        import mlflow

        tracker.log({name: one for name, one in values.items() if not isinstance(one, str)}, step)
        mlflow.set_tags({name: one for name, one in values.items() if isinstance(one, str)})

    def attach(self, tracker: Any, files: Sequence[Path], step: int) -> None:
        """Keep the files as artefacts of the run."""
        import mlflow

        for file in files:
            mlflow.log_artifact(str(file))


BACKENDS: dict[str, Backend] = {"tensorboard": TensorBoard(), "wandb": Wandb(), "mlflow": Mlflow()}
