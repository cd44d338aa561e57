"""The options of ``art-ext transfer`` and of its configuration file.

Values are checked by ``art_ext.evaluation.transfer``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.files import complete, layered, require, to_toml
from art_ext.configuration.options import option, same_option

Texts = tuple[str, ...]  # of an option that may be given several times
_same = partial(same_option, EvaluationConfig)


@dataclass(frozen=True, kw_only=True)
class TransferConfig(DataOptions):
    """All options of a run of transfers from the command line."""

    source: Texts = option(
        (),
        "Model on which examples are made: [NAME=]MODEL[@WEIGHTS], with MODEL as of art-ext"
        " evaluate --model. May be given several times.",
        metavar="[NAME=]MODEL[@WEIGHTS]",
    )
    target: Texts = option(
        (),
        "Model on which they are tried, in the same form. May be given several times. By default"
        " the sources.",
        metavar="[NAME=]MODEL[@WEIGHTS]",
    )
    data: str = _same("data")
    out: str = _same("out")
    config: Path | None = option(None, shared.CONFIG)
    model_args: Mapping[str, Mapping[str, Any]] = option(
        dict,
        "Arguments of the factories, by the names of models: NAME.KEY=VALUE,NAME.KEY=VALUE.",
        of=("source", "target"),
    )
    normalize: Mapping[str, str] = option(
        dict,
        "Mean and standard deviation of the inputs, by the names of models: NAME=cifar10, with"
        " values as of art-ext evaluate --normalize.",
        metavar="NAME=VALUE,...",
        of=("source", "target"),
    )
    checkpoint: str = option("best", shared.CHECKPOINT)
    trust_checkpoint: bool = option(False, shared.TRUST_CHECKPOINT)
    ensemble: Texts = option(
        (),
        "Further source: NAME=A+B+C or, with weights, NAME=2*A+B, of the names of sources. A source"
        " that is a member is attacked in the ensemble only. May be given several times.",
        metavar="NAME=A+B",
    )
    average: str = option(
        "logits", "Average of an ensemble.", choices=("logits", "probabilities", "losses")
    )
    hold_out: bool = option(
        False, "Each source in turn is the target, and the ensemble of the others the source."
    )
    attacks: tuple[str, ...] | None = option(
        None,
        "Attacks, separated by commas, as of art-ext evaluate. Where a fixed-radius attack fails,"
        " its last iterate is tried.",
        flag="--attack",
    )
    panel: str | None = option(None, "Instead of attacks, a panel, as of art-ext evaluate.")
    attack_args: Mapping[str, Mapping[str, Any]] = _same("attack_args")
    eps: tuple[float, ...] = option(
        (8 / 255,),
        "Radius or radii in the units of the input: 4/255,8/255. Attacks whose own default is no"
        " ball, such as ead and cw, run without one.",
        unit=shared.INPUT,
        shown="8/255",
    )
    norm: str = _same("norm")
    targeted: str | int | None = _same("targeted")
    seeds: tuple[int, ...] = option(
        (0,), "Seeds of the attacks: 0,1,2. Each attack runs with each.", shown="0"
    )
    kappa: tuple[float, ...] = option(
        (), "Values of the argument confidence, for the attacks that have it: 0,5,10."
    )
    vary: Texts = option(
        (),
        "Values of another argument: ATTACK.KEY=V1,V2. May be given several times.",
        metavar="ATTACK.KEY=V1,V2",
    )
    at: tuple[int, ...] = option(
        (),
        "Try the examples after these iterations too: 1,2,4,8. For attacks that tell their"
        " iterates.",
    )
    baseline: str | None = option(
        None, "Attack that the others are compared with. By default the first one."
    )
    n: str | int = _same("n")
    max_queries: int = _same("max_queries")
    outputs: Mapping[str, str] = option(
        dict,
        "Outputs of models that do not say it, by their names: NAME=labels, logits or"
        " probabilities.",
        metavar="NAME=KIND,...",
    )
    clip_values: tuple[float, float] = _same("clip_values")
    batch_size: int = _same("batch_size")
    chunk_size: int | None = option(
        None, "Most samples of a unit of work. By default twice the batch size."
    )
    shard: str | None = _same("shard")
    engine: str | None = _same("engine")
    workers: int | None = _same("workers")
    gpus_per_worker: float = _same("gpus_per_worker")
    threads_per_worker: int | None = _same("threads_per_worker")
    engine_args: str | None = _same("engine_args")
    save_images: bool = option(
        False, "Keep the examples of each attack in a file of the folder examples."
    )
    save_states: bool = option(False, "Keep the states of chains there.")
    device: str | None = option(None, shared.DEVICE)
    quiet: bool = option(False, shared.QUIET)
    dry_run: bool = _same("dry_run")
    overwrite: bool = _same("overwrite")


def resolve_transfer(
    given: Mapping[str, Any], file: Path | None = None, **own: Any
) -> TransferConfig:
    """Build a configuration from given values, a TOML file and the defaults, in this order.

    Args:
        given: values by the names of ``TransferConfig``.
        file: TOML file of the same names.
        **own: values of the options that no file has, such as ``out``.

    Raises:
        ValueError: for unknown names (the nearest match is named), values of another kind, and
            without a source or data.
    """
    values = layered(TransferConfig, given, file, [("attacks", "panel")], EvaluationConfig)
    require(values, ("source", "data"))
    return TransferConfig(**complete(TransferConfig, values), **own)


def transfer_toml(config: TransferConfig) -> str:
    """Return the TOML text that resolves to this configuration."""
    comment = (
        f"art-ext transfer {__version__}; to repeat: art-ext transfer --config THIS_FILE"
        " --out FOLDER"
    )
    return to_toml(TransferConfig, config, comment)
