"""The options of ``art-ext craft``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.files import complete, layered, require
from art_ext.configuration.options import COMMAND, check_options, option
from art_ext.configuration.parsing import parse_arguments


@dataclass(frozen=True, kw_only=True)
class CraftConfig(DataOptions):
    """All options of a fixed set of adversarial examples."""

    model: str = option(MISSING, shared.MODEL)
    data: str = option(MISSING, shared.DATA)
    attack: str = option(
        MISSING, "Attack that makes the examples: one of art-ext attacks, or FILE.py:FUNCTION."
    )
    out: Path = option(
        MISSING, "File of the examples, a new one.", hosts=COMMAND, metavar="FILE.npz"
    )
    model_args: Mapping[str, str] = option(dict, replace(shared.MODEL_ARGS, of=("model",)))
    weights: str | None = option(None, replace(shared.WEIGHTS, of=("model",)))
    normalize: str | None = option(None, replace(shared.NORMALIZE, of=("model",)))
    checkpoint: str = option("best", shared.CHECKPOINT)
    untrained: bool = option(False, shared.UNTRAINED)
    trust_checkpoint: bool = option(False, shared.TRUST_CHECKPOINT)
    split: str = option("train", "Split of the data: train or test.", choices=("train", "test"))
    n: int | None = option(
        None, "Number of samples to attack, drawn by the seed (default all).", range=">= 1"
    )
    attack_args: Mapping[str, Any] = option(
        dict,
        "Arguments of the attack: key=value,key=value. NAME.key=value is read too.",
        of=("attack",),
    )
    eps: float | None = option(
        None,
        "Radius in the units of the input, such as 8/255. Attacks without a radius need none.",
        unit=shared.INPUT,
        range="> 0",
    )
    norm: str = option("linf", shared.NORM)
    targeted: str | None = option(
        None,
        "Classes to reach: all wrong classes of each sample, or a random one. By default none.",
        choices=("all", "random"),
    )
    clip_values: tuple[float, float] = option((0.0, 1.0), shared.CLIP_VALUES)
    batch_size: int = option(256, "Most rows in one model call.", range=">= 1")
    seed: int = option(0, shared.SEED)
    device: str | None = option(None, shared.DEVICE)
    overwrite: bool = option(False, "Replace the file if it exists.", hosts=COMMAND)
    quiet: bool = option(False, shared.QUIET)

    def __post_init__(self) -> None:
        check_options(self)


def resolve_craft(given: Mapping[str, Any], **own: Any) -> CraftConfig:
    """Build the options of a fixed set from given values and the defaults.

    Args:
        given: values by the names of ``CraftConfig``. Numbers may be text such as 8/255.
        **own: the options that only the command line has.

    Raises:
        ValueError: for values that do not fit.
    """
    own_names = dict(given)
    if isinstance(given.get("attack_args"), str):
        name = str(given.get("attack") or "")
        own_names["attack_args"] = _without_name(name, given["attack_args"])
    values = layered(CraftConfig, own_names, None)
    require(values, ("model", "data", "attack"))
    return CraftConfig(**complete(CraftConfig, values), **own)


def _without_name(attack: str, text: str) -> dict[str, str]:
    """Return ``key=value,key=value`` as a dict. Keys may have the name of the attack in front.

    Raises:
        ValueError: if the text does not have that form, for the name of another attack, and for a
            key that occurs twice.
    """
    from art_ext.core.checks import same_name

    found: dict[str, str] = {}
    for key, value in parse_arguments(text, "attack-args", key=r"[A-Za-z_][\w:.]*").items():
        name, _, own = key.rpartition(".")
        if name and same_name(name, [attack, attack.rpartition(":")[2]]) is None:
            raise ValueError(
                f"attack-args must be key=value,key=value of the attack {attack!r}, got {key!r}"
            )
        if own in found:
            raise ValueError(f"attack-args must have each key once, got {own!r} twice")
        found[own] = value
    return found
