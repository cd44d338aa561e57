"""The folder of a training of a generator: layout and ownership.

``generator.json``, which states everything that decides the weights, is written first, and
``quality.json`` last.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from art_ext.storage.differences import check_configuration
from art_ext.storage.formats import GENERATOR as FORMAT
from art_ext.storage.ownership import is_free, read_manifest, sweep, write_json
from art_ext.storage.store import LocalStore, Store
from art_ext.storage.training import CHECKPOINTS

TOOL = "art-ext generator train"
MANIFEST = "generator.json"
GENERATOR = "generator.safetensors"
QUALITY = "quality.json"
SHEET = "samples.png"
JUDGE = 0.9  # below this accuracy, the classifier that judges the images is doubtful itself
PLACE = "out must name a folder"  # demand of every check of the folder's path


def begin_generator(store: Store, configuration: Mapping[str, Any], resume: bool) -> None:
    """Write ``generator.json`` into the folder of a training, or check that it is the same.

    Args:
        store: of the folder.
        configuration: everything that decides the weights, in the types of JSON.
        resume: whether an earlier process of this training may have been here.

    Raises:
        ValueError: if the folder holds other files, a run of another configuration (the
            differences are named) or, without ``resume``, this very run. Nothing is written then.
    """
    found = read_manifest(store, MANIFEST, TOOL)
    if found is None:
        if not is_free(store):
            raise ValueError(
                f"out must be a new or empty folder, or that of a run of {TOOL}, but {store.path}"
                " holds other files: choose another folder"
            )
        sweep(store)  # of a process that was killed at once
        content = {"tool": TOOL, "format": FORMAT.written, **configuration}
        write_json(store, MANIFEST, content)
        return
    FORMAT.check(store.path, found)
    facts = {name: value for name, value in found.items() if name not in ("tool", "format")}
    check_configuration(store.path, configuration, facts, ": choose another folder")
    if not resume:
        raise ValueError(
            f"{store.path} holds this very run: pass --resume to continue it or to show its quality"
        )
    sweep(store)
    sweep(store, folder=CHECKPOINTS)


def read_quality(store: Store) -> dict[str, Any] | None:
    """Return the content of the ``quality.json`` of a finished training, or None."""
    return read_manifest(store, QUALITY, TOOL)


def check_finished(folder: Path) -> None:
    """Raise ValueError unless a folder holds a finished training of a generator."""
    store = LocalStore(folder)
    if read_manifest(store, MANIFEST, TOOL) is None:
        raise ValueError(
            f"{folder} must be the folder of a finished {TOOL}, but it holds no {MANIFEST} of one"
        )
    if read_quality(store) is None or not store.exists(GENERATOR):
        raise ValueError(
            f"{folder} holds a generator whose training is not finished: go on with {TOOL}"
            f" --resume --out {folder}"
        )


def judge_remark(quality: Mapping[str, Any]) -> str:
    """Return the end of a warning on label agreement: a doubt about the judge, or nothing."""
    accuracy = quality.get("reference_accuracy")
    if accuracy is None or accuracy >= JUDGE:
        return ""
    return (
        ". The classifier that judges the images is doubtful itself: its accuracy on real test"
        f" images is {accuracy:.1%}, below {JUDGE:.0%}, so more real images may help it"
    )


def quality_figures(quality: Mapping[str, Any]) -> dict[str, str]:
    """Return the quality of a generator as texts, by the names of the figures."""
    spread = quality["spread"]
    of_spread = (
        "not measured: each class needs two real images"
        if spread["mean"] is None
        else f"{spread['smallest']:.3f} in the smallest class, {spread['mean']:.3f} on average"
    )
    return {
        "label agreement": f"{quality['agreement']:.3f}, by a classifier with"
        f" {quality['reference_accuracy']:.3f} on real test images",
        "spread over real": of_spread,
        "nearest real image": f"{quality['nearest_real']:.3f} on average, that of a real test image"
        f" {quality['nearest_real_of_real']:.3f}",
        "accuracy on real": f"{quality['transfer_accuracy']:.3f}, of a classifier trained on"
        " generated images",
    }
