"""The options of ``art-ext limits`` and of its configuration file.

Values are checked by ``art_ext.evaluation.limits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.files import complete, layered, require, to_toml
from art_ext.configuration.options import option, same_option

ESTIMATION = "Lipschitz constants"
Texts = tuple[str, ...]  # of an option that may be given several times
_same = partial(same_option, EvaluationConfig)


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(DataOptions):
    """All options of a run on limits from the command line."""

    generator: str = option(
        MISSING,
        "Generator of the images: the folder of art-ext generator train, or"
        " FILE.py:FACTORY[@WEIGHTS].",
        metavar="RUN",
    )
    model: Texts = _same("model")
    models: Path | None = _same("models")
    out: str = _same("out")
    config: Path | None = option(None, shared.CONFIG)
    data: str | None = option(
        None,
        "Samples to attack. With FILE.npz of art-ext generator sample, the attack starts from their"
        " latents too. By default fresh images of the generator.",
        metavar="DATA",
    )
    eps: tuple[float, ...] = option(
        (1.0, 2.0, 3.0),
        "Radius or radii of the L2 ball, in the units of images in [0, 1].",
        unit=shared.INPUT,
        shown="1,2,3",
    )
    n: str | int = option(1000, "Take n samples, or all of the data.")
    alpha: float | None = option(
        None, "State the bounds for classifiers of this risk too, in [0, 1]."
    )
    checkpoints: bool = option(
        False, "Evaluate every checkpoint that the trainings among the models keep."
    )
    full: bool = option(
        False,
        "The paper's numbers: 1,000 latents with 2,000 neighbours, and 10,000 iterations of .01 of"
        " the in-distribution attack. By default 200 with 500, and 300 of .05.",
    )
    estimators: tuple[str, ...] = option(
        ("sampled", "spectral"),
        "Estimators of the constants, separated by commas: sampled (Algorithm 7), spectral (norm of"
        " the Jacobian) and ascent (at least both).",
        flag="--estimator",
        panel=ESTIMATION,
        shown="sampled,spectral",
    )
    radius: float = option(
        0.5, "Radius of the ball in the latent space in which they hold.", panel=ESTIMATION
    )
    delta: float = option(
        1e-3, "Share of latents that may have a larger local constant, in [0, 1).", panel=ESTIMATION
    )
    num_latents: int | None = option(
        None, "Latents of each class. By default 1,000 for the spectral norm.", panel=ESTIMATION
    )
    num_neighbours: int | None = option(None, "Neighbours of each latent.", panel=ESTIMATION)
    num_iterations: int = option(20, "Iterations of the spectral norm.", panel=ESTIMATION)
    repeats: int | None = option(
        None,
        "Estimates of each constant. By default 3 of the sampled one, 1 of the others.",
        panel=ESTIMATION,
    )
    neighbours: str = option(
        "ball",
        "Neighbours: ball, or orthant as in the reference implementation.",
        choices=("ball", "orthant"),
        panel=ESTIMATION,
    )
    lipschitz_units: str = option(
        "mapped",
        "Units of the images: mapped to [0, 1], or raw as the generator makes them.",
        choices=("mapped", "raw"),
        panel=ESTIMATION,
    )
    image_range: tuple[float, float] = option(
        (0.0, 1.0), "Range of the generator's images, which are mapped to [0, 1]: lower,upper."
    )
    num_samples: int = option(10_000, "Images of the generator on which each risk is measured.")
    priors: tuple[float, ...] | None = option(
        None, "Probabilities of the classes, separated by commas. By default equal."
    )
    attack_args: Mapping[str, Mapping[str, Any]] = option(
        dict,
        "Arguments of sign_gradient, auto_pgd and in_distribution: name.key=value,name.key=value.",
    )
    model_args: Mapping[str, str] = _same("model_args")
    weights: Texts = _same("weights")
    normalize: Texts = _same("normalize")
    checkpoint: str = _same("checkpoint")
    untrained: bool = _same("untrained")
    trust_checkpoint: bool = _same("trust_checkpoint")
    name: Texts = _same("name")
    outputs: str | None = _same("outputs")
    clip_values: tuple[float, float] = _same("clip_values")
    batch_size: int = _same("batch_size")
    chunk_size: int | None = _same("chunk_size")
    memory_mb: float = option(
        200.0,
        "MiB of a block of the estimators, without the generator's own.",
        range="> 0",
        panel=ESTIMATION,
    )
    engine: str | None = _same("engine")
    workers: int | None = _same("workers")
    gpus_per_worker: float = _same("gpus_per_worker")
    threads_per_worker: int | None = _same("threads_per_worker")
    engine_args: str | None = _same("engine_args")
    save_images: bool = _same("save_images")
    device: str | None = _same("device")
    seed: int = _same("seed")
    quiet: bool = _same("quiet")
    overwrite: bool = _same("overwrite")

    @property
    def norm(self) -> str:
        """Norm of the run, for models that depend on one."""
        return "l2"


def resolve_limits(given: Mapping[str, Any], file: Path | None = None, **own: Any) -> LimitsConfig:
    """Build a configuration from given values, a TOML file and the defaults, in this order.

    Args:
        given: values by the names of ``LimitsConfig``, as on the command line or as Python values.
        file: TOML file of the same names.
        **own: values of the options that no file has, such as ``out``.

    Raises:
        ValueError: for unknown names (the nearest match is named), values of another kind, and
            without a model or generator.
    """
    values = layered(LimitsConfig, given, file, [("model", "models")], EvaluationConfig)
    if values.get("models") and values.get("model"):
        raise ValueError("model and models exclude each other: give --model or --models")
    require(values, ("generator",))
    if not values.get("models"):
        require(values, ("model",))
    return LimitsConfig(**complete(LimitsConfig, values), **own)


def limits_toml(config: LimitsConfig) -> str:
    """Return the TOML text that resolves to this configuration."""
    comment = (
        f"art-ext limits {__version__}; to repeat: art-ext limits --config THIS_FILE --out FOLDER"
    )
    return to_toml(LimitsConfig, config, comment)
