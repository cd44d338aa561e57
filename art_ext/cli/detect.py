"""The command ``art-ext detect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import (
    Checkpoint,
    Device,
    ModelArgs,
    Normalize,
    Quiet,
    Seed,
    TrustCheckpoint,
    Weights,
    explained,
)
from art_ext.cli.sources import tell_training_defaults, training_defaults
from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions, data_keywords
from art_ext.configuration.options import options_of
from art_ext.configuration.parsing import parse_arguments

if TYPE_CHECKING:
    from art_ext.core.detection.base import Detector
    from art_ext.data import Samples

DETECTOR = "A detector of art-ext detectors, or FILE.py:CLASS for one of yours."
FILE = "A fitted detector that --save wrote. One of yours needs --detector FILE.py:CLASS too."
ARGUMENTS = "Arguments of the detector: key=value,key=value."
FIT = (
    "Data whose training part the detector learns from, and whose test part sets the threshold. By"
    " default those of the training whose folder --model names."
)
CALIBRATION_DATA = "Clean images that set the threshold instead."
CALIBRATION = "Most images that set the threshold, drawn at random. The others measure the rate."
FPR = "False-positive rate at which the threshold is set, in (0, 1). (default: 0.05)"
IMAGES = "Images to score: data as --fit-data names them, or an .npy or .npz file without labels."
OUT = "CSV file with score, rejected and prediction of each image."
EITHER = "detect takes either --detector NAME or --detector-file FILE"


def detect(
    model: Annotated[str, typer.Option(help=shared.MODEL.help)],
    model_args: ModelArgs = "",
    weights: Weights = None,
    normalize: Normalize = None,
    checkpoint: Checkpoint = "best",
    trust_checkpoint: TrustCheckpoint = False,
    outputs: Annotated[
        str | None, typer.Option(help="Outputs of the model: logits or probabilities.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help=DETECTOR)] = None,
    detector_args: Annotated[str, typer.Option(help=ARGUMENTS)] = "",
    detector_file: Annotated[Path | None, typer.Option(help=FILE, metavar="FILE")] = None,
    fit_data: Annotated[str | None, typer.Option(help=FIT, metavar="DATA")] = None,
    calibration_data: Annotated[
        str | None, typer.Option(help=CALIBRATION_DATA, metavar="DATA")
    ] = None,
    calibration: Annotated[int, typer.Option(help=CALIBRATION)] = 1000,
    fpr: Annotated[float | None, typer.Option(help=FPR, show_default=False)] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the fitted detector here.", metavar="FILE")
    ] = None,
    images: Annotated[str | None, typer.Option(help=IMAGES, metavar="DATA")] = None,
    out: Annotated[Path | None, typer.Option(help=OUT, metavar="FILE.csv")] = None,
    root: Annotated[str | None, typer.Option(help="Folder that holds the named data.")] = None,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Fit a detector of adversarial examples, or load one, and score images with it."""
    with explained():
        from art_ext.evaluation.execution.models import callable_model, common_outputs, facts_of
        from art_ext.models import load_model

        of_fitting = {
            "detector-args": detector_args,
            "fit-data": fit_data,
            "calibration-data": calibration_data,
            "fpr": fpr,
        }
        _check_choice(detector, detector_file, of_fitting)
        _check_results(save, images, out)
        loaded = load_model(
            model,
            model_args=parse_arguments(model_args),
            weights=weights,
            normalize=normalize,
            checkpoint=checkpoint,
            trust_checkpoint=trust_checkpoint,
            device=device,
        )
        models = {loaded.name: loaded}
        network: Any = callable_model(loaded)
        data = {"root": root, "model": facts_of(models)}
        if detector_file is not None:
            found = _loaded(detector_file, detector, network, device)
        else:
            found = _fitted(
                str(detector),
                detector_args,
                network,
                data,
                source=model,
                fit=fit_data,
                calibrating=calibration_data,
                calibration=calibration,
                fpr=0.05 if fpr is None else fpr,
                seed=seed,
                outputs=common_outputs(outputs, models),
                device=device,
                quiet=quiet,
            )
        if save is not None:
            found.save(save)
        if images is not None:
            _score(found, images, data, out)


def _check_choice(detector: str | None, file: Path | None, of_fitting: Mapping[str, Any]) -> None:
    """Raise ValueError unless a detector is to be fitted, or the file of a fitted one is given.

    With a file, the detector may be the user's class that the file holds.

    Args:
        detector: its name, or ``FILE.py:CLASS``.
        file: of a fitted detector.
        of_fitting: options by name that a fitted detector does not take.
    """
    from art_ext.evaluation.panel.user_attacks import is_file

    lone = [name for name, value in of_fitting.items() if value]
    if detector is None and file is None:
        raise ValueError(EITHER)
    if file is not None and detector is not None and not is_file(detector):
        raise ValueError(EITHER)
    if file is not None and lone:
        raise ValueError(f"{lone[0]} is of a detector that is fitted: give --detector")


def _check_results(save: Path | None, images: str | None, out: Path | None) -> None:
    """Raise ValueError unless there is something to write, in folders that exist."""
    if images is None and save is None:
        raise ValueError("detect must score --images DATA, or --save FILE, or both")
    if out is not None and images is None:
        raise ValueError("out holds scores of images: give --images DATA too")
    for file in (save, out):
        if file is not None and not file.resolve().parent.is_dir():
            raise ValueError(f"the folder of {file} must exist")


def _loaded(file: Path, own: str | None, model: Any, device: str | None) -> Detector:
    """Return a saved detector with a threshold. ``own`` is the user's class ``FILE.py:CLASS``."""
    from art_ext.core.detection.base import Detector
    from art_ext.evaluation.panel.user_detectors import find_detector

    kind = Detector if own is None else find_detector(own).kind
    found = kind.load(file, model, device=device)
    if found.threshold is None:
        raise ValueError(f"the detector in {file} has no threshold: it was not calibrated")
    return found


def _fitted(
    name: str,
    arguments: str,
    model: Any,
    options: dict[str, Any],
    *,
    source: str,
    fit: str | None,
    calibrating: str | None,
    quiet: bool,
    **rates: Any,
) -> Detector:
    """Return a fitted and calibrated detector of the model of a source, and tell its rates."""
    from art_ext.data import load_data
    from art_ext.evaluation.detecting import prepare_detector
    from art_ext.evaluation.panel.user_detectors import find_detector
    from art_ext.models.factory import literals

    spec = find_detector(name)
    needed = spec.kind.needs_data
    learning = options
    if fit is None and (needed or calibrating is None):
        fit, learning = _of_training(source, options, quiet)
    if calibrating is None and fit is None:
        raise ValueError(f"{spec.name} is calibrated on clean images: give --fit-data DATA")
    prepared = prepare_detector(
        spec,
        literals(parse_arguments(arguments, "detector-args")),
        model,
        fit_data=None if fit is None or not needed else load_data(fit, split="train", **learning),
        calibration_data=(
            load_data(str(fit), **learning)
            if calibrating is None
            else load_data(calibrating, **options)
        ),
        **rates,
    )
    detector = prepared.detector
    if not quiet:
        typer.echo(
            f"{spec.name}: threshold {detector.threshold:.6g} from {prepared.calibration} images"
        )
        typer.echo(str(prepared.rate))
    for warning in prepared.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return detector


def _of_training(
    source: str, options: dict[str, Any], quiet: bool
) -> tuple[str | None, dict[str, Any]]:
    """Return the data of a training, with the keywords that read them. None without a training."""
    found = training_defaults({"model": (source,)})
    if "data" not in found:
        return None, options
    if not quiet:
        tell_training_defaults({"fit_data": found["data"]})
    own = {name: one for name, one in found.items() if name in options_of(DataOptions)}
    given = {name: one for name, one in options.items() if one is not None}
    return found["data"], data_keywords(DataOptions(**own)) | given


def _score(detector: Detector, images: str, options: dict[str, Any], out: Path | None) -> None:
    """Score images, write the file, and tell the rates."""
    from art_ext.data import load_data
    from art_ext.evaluation.detecting import detect as apply
    from art_ext.evaluation.detecting import read_unlabelled

    plain = read_unlabelled(Path(images))
    data: Samples = load_data(images, **options) if plain is None else plain
    found = apply(detector, data, labelled=plain is None)
    if out is not None:
        found.write(out)
    typer.echo(f"rejected: {found.rejected}")
    if found.correct is not None:
        typer.echo(f"of correctly classified images: {found.correct}")
        typer.echo(f"of misclassified images: {found.wrong}")
