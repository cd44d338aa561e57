"""RobustBench's models from checkpoint files on the disk, read without running code from them."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # nothing is unpickled with it
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from art_ext.adapters.robustbench.importing import import_robustbench
from art_ext.core.checks import check_choice
from art_ext.models.weights import read_tensors as read_safely
from art_ext.models.weights import read_trusted

DRIVE = "https://drive.google.com/uc?id={}"


def load_zoo_model(
    name: str,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    *,
    model_dir: str | os.PathLike[str] = "./models",
    weights: str | os.PathLike[str] | None = None,
    trust_checkpoint: bool = False,
    download: bool = False,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Load a model of RobustBench's zoo in eval mode, from checkpoints in
    ``<model_dir>/<dataset>/<threat_model>``.

    Architecture and treatment of the checkpoint are those of RobustBench's own ``load_model``,
    which runs here with its reading and downloading replaced. The file is ``<name>.pt`` or
    ``<name>.safetensors``. An ensemble has one for each member, ``<name>_m0.pt`` and so on
    (RobustBench itself calls them ``<name>.pt_m0.pt``).

    Args:
        name: as in the model zoo, such as ``"Wong2020Fast"``.
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"imagenet"``.
        threat_model: ``"Linf"``, ``"L2"``, ``"corruptions"`` or ``"corruptions_3d"``.
        model_dir: the folder of all checkpoints.
        weights: one checkpoint file in place of those in ``model_dir``.
        trust_checkpoint: unpickle a file that holds more than tensors, which runs whatever code is
            in it.
        download: let RobustBench fetch what is missing. Otherwise the network is never used.
        device: where to put the model.

    Raises:
        ValueError: for an unknown name (similar ones are named), a missing file (with the places
            looked at and where to get it), a web page in place of a checkpoint, a pickle that is
            not trusted, and weights that do not fit.
        ImportError: if RobustBench cannot be imported.
    """
    import_robustbench()
    utils = importlib.import_module("robustbench.utils")
    zoo = _Zoo(utils, name, dataset, threat_model, Path(model_dir))
    files = zoo.files(download) if weights is None else zoo.instead(Path(weights))

    def read(place: Path) -> Any:
        return _read(files.get(place, place), zoo.origin(place), trust_checkpoint)

    load_model = _with_globals(utils.load_model, _replacements(utils, files, read))
    try:
        model = load_model(name, model_dir, dataset, threat_model)
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        # of load_state_dict, and of its preparation
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{', '.join(map(str, files.values()))} does not fit {name}: {said}"
        ) from error
    return model if device is None else model.to(device)


class _Zoo:
    """One model of the zoo: where its checkpoints lie, and where they come from."""

    def __init__(
        self, utils: ModuleType, name: str, dataset: str, threat_model: str, model_dir: Path
    ) -> None:
        check_choice("dataset", dataset, tuple(one.value for one in utils.BenchmarkDataset))
        check_choice("threat_model", threat_model, tuple(one.value for one in utils.ThreatModel))
        # the zoo has one list for both kinds of corruptions
        threat = threat_model.replace("_3d", "")
        self.name, self.folder = name, model_dir / dataset / threat
        shelves = utils.all_models[utils.BenchmarkDataset(dataset)]
        models = shelves.get(utils.ThreatModel(threat), {})
        if name not in models:
            raise ValueError(_unknown(utils, name, models, f"{dataset}, {threat}"))
        self.timm_name = f"{name.lower().replace('-', '_')}_{dataset}_{threat.lower()}"
        self.timm = utils.timm
        self.is_timm = bool(utils.timm.is_model(self.timm_name))
        drive = models[name]["gdrive_id"]
        self.drive: list[str] = drive if isinstance(drive, list) else [drive or ""]
        # without a file: RobustBench takes these weights from torchvision
        self.has_file = not (dataset == "imagenet" and "Standard" in name)
        single = self.folder / f"{name}.pt"
        members = [Path(f"{single}_m{number}.pt") for number in range(len(self.drive))]
        self.places = members if isinstance(drive, list) else [single]  # as RobustBench calls them

    def files(self, download: bool) -> dict[Path, Path]:
        """Return the checkpoints that are there, by RobustBench's names of them.

        Raises:
            ValueError: if one is missing and must not be downloaded.
        """
        if not self.has_file:
            if download:
                return {}
            raise ValueError(
                f"{self.name} has no checkpoint file: torchvision downloads it, with download=True"
                " only"
            )
        found = {}
        for number, place in enumerate(self.places):
            stem = self.name if place.name == f"{self.name}.pt" else f"{self.name}_m{number}"
            looked = [place, self.folder / f"{stem}.pt", self.folder / f"{stem}.safetensors"]
            there = next((file for file in looked if file.is_file()), None)
            if there is not None:
                found[place] = there
            elif not download:
                raise ValueError(
                    f"{self.name} needs its checkpoint, looked for"
                    f" {', '.join(map(str, dict.fromkeys(looked)))}: put it there from"
                    f" {self.origin(place)}, or allow the network with download=True"
                )
        return found

    def instead(self, file: Path) -> dict[Path, Path]:
        """Return a checkpoint that the caller names, by RobustBench's name of it.

        Raises:
            ValueError: if it does not exist, or the model has several or none.
        """
        if not self.has_file or len(self.places) > 1:
            raise ValueError(f"{self.name} is not read from one checkpoint: weights do not apply")
        if not file.is_file():
            raise ValueError(
                f"weights must name a checkpoint file, got {file}, which does not exist or is a"
                " folder"
            )
        return {self.places[0]: file}

    def origin(self, place: Path) -> str:
        """Origin of a checkpoint."""
        if self.is_timm:
            return str(self.timm.models.get_pretrained_cfg(self.timm_name).url)
        return DRIVE.format(self.drive[self.places.index(place)])


def _unknown(utils: ModuleType, name: str, models: Mapping[str, Any], shelf: str) -> str:
    """Return the message for a name that is not in the zoo."""
    elsewhere = [
        f"{dataset.value}, {threat.value}"
        for dataset, shelves in utils.all_models.items()
        for threat, others in shelves.items()
        if name in others
    ]
    if elsewhere:
        return f"{name} is no model of ({shelf}), but one of ({'), ('.join(elsewhere)})"
    by_lower = {known.lower(): known for known in models}
    similar = [
        by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, n=5, cutoff=0.5)
    ]
    return (
        f"name must be a model of RobustBench's zoo ({shelf}), got {name!r}; similar:"
        f" {', '.join(similar) or 'none'}"
    )


def _read(file: Path, origin: str, trust: bool) -> Any:
    """Read the content of a checkpoint: tensors only, or anything where the file is trusted."""
    if not file.is_file():  # a download that left nothing
        raise ValueError(f"{file} does not exist: get it from {origin}")
    try:
        return read_safely(file)
    except ValueError as error:
        if not isinstance(error.__cause__, UnpicklingError):  # damaged, or no checkpoint at all
            raise ValueError(f"{error}; it comes from {origin}") from error
        if not trust:
            raise ValueError(
                f"{error}. If you trust its origin, trust_checkpoint=True unpickles it, which runs"
                " the code in it"
            ) from error
    return read_trusted(file)


def _replacements(
    utils: ModuleType, files: Mapping[Path, Path], read: Callable[[Path], Any]
) -> dict[str, Any]:
    """Return replacements of functions that RobustBench's ``load_model`` calls."""

    def load(path: str | os.PathLike[str], map_location: object = None) -> Any:
        return read(Path(path))

    def download(drive: str, path: str | os.PathLike[str]) -> None:
        if Path(path) not in files:  # there under another name
            utils.download_gdrive_new(drive, path)

    def create_model(name: str, **options: Any) -> nn.Module:
        options.pop("checkpoint_path", None)
        if files:  # timm knows how to fit the weights of a URL, and takes them from memory as well
            (place,) = files
            options["pretrained_cfg_overlay"] = {"state_dict": dict(read(place))}
        return utils.timm.create_model(name, **options)

    return {
        "torch": SimpleNamespace(load=load, device=torch.device),
        "timm": SimpleNamespace(is_model=utils.timm.is_model, create_model=create_model),
        "download_gdrive_new": download,
    }


def _with_globals(function: FunctionType, replacements: Mapping[str, Any]) -> Callable[..., Any]:
    """Copy a function into a namespace of its own, so that its module is not changed."""
    return FunctionType(
        function.__code__,
        {**function.__globals__, **replacements},
        function.__name__,
        function.__defaults__,
    )
