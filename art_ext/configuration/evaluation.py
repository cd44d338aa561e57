"""The options of ``art-ext evaluate`` and of its configuration file.

A new option is a field here, and the line of code that uses it. Values are checked by
``art_ext.evaluation.evaluate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.files import complete, layered, require, to_toml
from art_ext.configuration.options import COMMAND, option
from art_ext.configuration.training import TrainingConfig

DETECTION = "Detectors"
Texts = tuple[str, ...]  # of an option that may be given several times
EACH = "With several models, once for each, - to leave one out."
Defaults = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(DataOptions):
    """All options of an evaluation from the command line."""

    model: Texts = option((), shared.with_more(shared.MODEL, "May be given several times."))
    models: Path | None = option(
        None,
        "Instead of --model: TOML file with one table for each model, by its name, with model,"
        " model-args, weights, normalize, checkpoint, trust-checkpoint and untrained.",
        metavar="FILE.toml",
    )
    data: str = option(MISSING, shared.DATA)
    out: str = option(
        MISSING,
        "Folder of the report: new, empty, or of an earlier run alike. Or a URL: s3://BUCKET/FOLDER,"
        " gs://BUCKET/FOLDER.",
        hosts=COMMAND,
        metavar="FOLDER",
    )
    config: Path | None = option(None, shared.CONFIG)
    model_args: Mapping[str, str] = option(dict, replace(shared.MODEL_ARGS, of=("model",)))
    weights: Texts = option((), replace(shared.with_more(shared.WEIGHTS, EACH), of=("model",)))
    normalize: Texts = option((), replace(shared.with_more(shared.NORMALIZE, EACH), of=("model",)))
    checkpoint: str = option("best", shared.CHECKPOINT)
    untrained: bool = option(False, shared.UNTRAINED)
    trust_checkpoint: bool = option(False, shared.TRUST_CHECKPOINT)
    attacks: tuple[str, ...] | None = option(
        None,
        "Attacks, separated by commas: those of art-ext attacks, FILE.py:FUNCTION for one of yours,"
        " or external ones: torchattacks:PGD, art:SquareAttack, foolbox:LinfPGD, autoattack."
        " Without a panel, rays.",
        flag="--attack",
    )
    panel: str | None = option(
        None,
        "Instead of attacks, a panel: quick, standard (comparable to AutoAttack), black-box, rand"
        " (for models whose answers are random), paper, or a TOML file. A name alone is the newest"
        " version, standard-2026.11 a certain one.",
    )
    mode: str | None = option(
        None,
        "cascade: each attack is given only the samples without a success of an earlier one."
        " independent: each is given all samples. By default the panel's own, and independent for"
        " --attack.",
        of=("attacks", "panel"),
    )
    attack_args: Mapping[str, Mapping[str, Any]] = option(
        dict, "Arguments of the attacks: name.key=value,name.key=value.", of=("attacks", "panel")
    )
    draws: int | None = option(
        None,
        "For models whose answers are random: attack the average over so many calls, and confirm"
        " each success by fresh ones. By default the panel's own number (rand: 10), or none.",
        range=">= 1",
    )
    stability: bool = option(
        False,
        "Measure the share of samples whose prediction, right or wrong, no attack changes."
        " Fixed-radius attacks then also run on the misclassified samples.",
    )
    targeted: str | int | None = option(
        None,
        "Targets: random, least-likely, next (the label plus 1, modulo the classes), or one class"
        " index.",
    )
    eps: tuple[float, ...] = option(
        (8 / 255,),
        "Radius or radii in the units of the input: 4/255,8/255.",
        unit=shared.INPUT,
        shown="8/255",
    )
    max_queries: int = option(
        10_000,
        "Most queries per sample, for attacks that need labels or scores. A panel that sets its own"
        " value keeps it: change that by --attack-args rays.max_queries=300.",
    )
    n: str | int = option(1000, "Take the first n samples, or all.")
    norm: str = option("linf", shared.NORM)
    stop_on_success: bool | None = option(
        None,
        "For rays: stop on a sample at its first success, or go on to its nearest adversarial"
        " (ADBD, the whole curve). By default a single eps stops early, and one run serves"
        " several.",
    )
    outputs: str | None = option(
        None,
        "Outputs of the model: logits, probabilities or labels. By default logits, and"
        " probabilities for scikit-learn.",
    )
    clip_values: tuple[float, float] = option((0.0, 1.0), shared.CLIP_VALUES)
    batch_size: int = option(256, "Most rows in one model call.")
    amp: bool = option(
        False,
        "Compute the gradients of our attacks in bfloat16, and verify each success in float32 by"
        " one more query.",
    )
    channels_last: bool = option(
        False, "Hand images to networks in channels-last memory, in our attacks."
    )
    compile: bool = option(False, "Call networks through torch.compile, in our attacks.")
    chunk_size: int | None = option(
        None,
        "Most samples between two writes to the disk. By default twice the batch size, less for"
        " shards.",
    )
    shard: str | None = option(
        None,
        "i/n, such as 0/4: work on every n-th chunk only, from the i-th on. art-ext merge unites"
        " the folders.",
        hosts=COMMAND,
    )
    engine: str | None = option(
        None,
        "local: this process does the work. Workers share it that are processes of this machine"
        " (processes), actors of Ray (ray), jobs of Slurm (slurm) or workers of Dask (dask). By"
        " default local, and processes with --workers.",
        hosts=COMMAND,
        choices=("local", "processes", "ray", "slurm", "dask"),
    )
    workers: int | None = option(
        None,
        "Number of workers that share the work. By default one for each core of this machine.",
        hosts=COMMAND,
        range=">= 1",
    )
    gpus_per_worker: float = option(
        0.0,
        "GPUs of a worker, or a fraction of one. Its device is then cuda unless --device says"
        " otherwise.",
        hosts=COMMAND,
        range=">= 0",
    )
    threads_per_worker: int | None = option(
        None,
        "Threads of PyTorch in a worker. By default cores / workers. Records are equal for equal"
        " numbers of threads.",
        hosts=COMMAND,
        range=">= 1",
    )
    engine_args: str | None = option(
        None,
        "Arguments of the engine: address=auto for a cluster of Ray or Dask, cluster=local,"
        " timeout_min=60, slurm_partition=gpu and the like for Slurm.",
        hosts=COMMAND,
        metavar="KEY=VALUE,...",
    )
    answers: str | None = option(
        None,
        "The model is a service: append its answers to a log in this folder, and send no row again"
        " whose answer it holds.",
        of=("model",),
    )
    rows_per_request: int = option(1, "Most rows in a request to the service.", range=">= 1")
    concurrency: int = option(4, "Most requests side by side.", range=">= 1")
    rate: float | None = option(None, "Most rows per second.", range="> 0")
    timeout: float = option(30.0, "Seconds after which a request counts as failed.", range="> 0")
    retries: int = option(6, "Further tries of a failed request.", range=">= 0")
    max_rows: int | None = option(
        None, "Most rows sent to the service, over all runs with this log.", range=">= 0"
    )
    cost_per_row: float = option(0.0, "Cost of a row that is sent.", range=">= 0")
    max_cost: float | None = option(None, "Largest cost, over all runs with this log.")
    reuse_answers: bool = option(
        False, "Answer a row that was sent before from the log, wherever it is sent again."
    )
    dry_run: bool = option(
        False,
        "Print the most rows and the time of each attack, and the largest cost of services, and"
        " stop. Nothing is written.",
        hosts=COMMAND,
    )
    trackers: tuple[str, ...] = option(
        (), shared.with_more(shared.TRACKERS, "They need the extra train.")
    )
    tracker_args: Mapping[str, Mapping[str, Any]] = option(dict, shared.TRACKER_ARGS)
    detectors: tuple[str, ...] = option(
        (),
        "Detectors of adversarial examples, separated by commas: those of art-ext detectors, or"
        " FILE.py:CLASS for one of yours. Each attack runs without and with knowledge of the"
        " detector.",
        flag="--detector",
        panel=DETECTION,
    )
    detector_args: Mapping[str, Mapping[str, Any]] = option(
        dict,
        "Arguments of the detectors: name.key=value,name.key=value.",
        of=("detectors",),
        panel=DETECTION,
    )
    detector_files: tuple[str, ...] = option(
        (),
        "Files of fitted detectors, separated by commas, as art-ext detect --save writes them.",
        flag="--detector-file",
        panel=DETECTION,
        metavar="FILE",
    )
    fpr: float = option(
        0.05, "False-positive rate at which the threshold is set, in (0, 1).", panel=DETECTION
    )
    calibration: int = option(
        1000,
        "Most clean images that set the threshold. They are drawn at random from the data that are"
        " not attacked.",
        panel=DETECTION,
    )
    calibration_data: str | None = option(
        None,
        "Data of these images. By default those of --data that are not attacked.",
        panel=DETECTION,
        metavar="DATA",
    )
    fit_data: str | None = option(
        None,
        "Data whose training part the detectors learn from. By default those of the training whose"
        " folder --model names.",
        panel=DETECTION,
        metavar="DATA",
    )
    adaptive: bool = option(
        True,
        "Run the attacks that know the detector, and those that the head of a model declares"
        " against itself. Without them the results hold a warning.",
        panel=DETECTION,
    )
    members: bool = option(
        False,
        "Attack each member of an ensemble that was trained together, and report how its examples"
        " transfer to the others.",
        panel=DETECTION,
    )
    generator: str | None = option(
        None,
        "Generator of the images, for attacks that need one: the folder of art-ext generator train,"
        " or FILE.py:FACTORY[@WEIGHTS]. With --data FILE.npz of art-ext generator sample, they know"
        " the latents of the images.",
        metavar="RUN",
    )
    save_images: bool = option(False, "Keep every adversarial image.")
    save_states: bool = option(
        False, "Keep all states of attacks that draw several of a sample, such as hmcam."
    )
    picture: str | None = option(
        None,
        "Show the states of these attacks for some samples in the report, on their principal"
        " components or by t-SNE.",
        choices=("pca", "tsne"),
    )
    name: Texts = option(
        (),
        "Name of the model in table and report. By default that of its checkpoint, or the last part"
        f" of its source. {EACH}",
        of=("model",),
    )
    fail_under: str | None = option(None, shared.FAIL_UNDER)
    figure: Path | None = option(None, shared.FIGURE)
    device: str | None = option(None, shared.DEVICE)
    seed: int = option(0, shared.SEED)
    quiet: bool = option(False, shared.QUIET)
    overwrite: bool = option(False, "Begin again, also beside other files.", hosts=COMMAND)


def resolve_evaluation(
    given: Mapping[str, Any],
    file: Path | None = None,
    *,
    defaults: Defaults | None = None,
    **own: Any,
) -> EvaluationConfig:
    """Build a configuration from given values, a TOML file and the defaults, in this order.

    Args:
        given: values by the names of ``EvaluationConfig``, as on the command line or as Python
            values.
        file: TOML file of the same names. If ``given`` has another model, attacks or panel, the
            file's arguments of the old one are ignored.
        defaults: returns defaults that given values suggest, such as the data of a training.
        **own: values of the options that no file has, such as ``out``.

    Raises:
        ValueError: for unknown names (the nearest match is named), values of another kind, and
            without a model or data.
    """
    values = layered(
        EvaluationConfig, given, file, [("attacks", "panel"), ("model", "models")], TrainingConfig
    )
    if values.get("models") and values.get("model"):
        raise ValueError("model and models exclude each other: give --model or --models")
    if not values.get("models"):
        require(values, ("model",))
    values = {**(defaults(values) if defaults is not None else {}), **values}
    require(values, ("data",))
    return EvaluationConfig(**complete(EvaluationConfig, values), **own)


def evaluation_toml(config: EvaluationConfig) -> str:
    """Return the TOML text that resolves to this configuration."""
    comment = (
        f"art-ext evaluate {__version__}; to repeat: art-ext evaluate --config THIS_FILE"
        " --out FOLDER"
    )
    return to_toml(EvaluationConfig, config, comment)
