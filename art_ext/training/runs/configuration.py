"""Configuration of a training run, read from options and a TOML file and written to TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.configuration.parsing import (
    parse_arguments,
    parse_number,
    parse_numbers,
    read_toml,
    read_value,
)
from art_ext.core.checks import check_choice, check_count, check_positive, nearest
from art_ext.data.classes import CLASS_ORDERS
from art_ext.data.loading import data_name
from art_ext.training import RECIPES, Recipe, TrainingOptions, make_recipe
from art_ext.training.augmentation import AUGMENTATIONS
from art_ext.training.runs.defaults import LENGTHS, filled
from art_ext.training.runs.networks import check_network

BELONGS = {"recipe_args": "recipe", "model_args": "model", "schedule_args": "schedule"}
OPTIONS = (  # keywords that the loop has under the same name
    "epochs",
    "updates",
    "equivalent_epochs",
    "passes",
    "batch_size",
    "drop_last",
    "optimizer",
    "learning_rate",
    "momentum",
    "nesterov",
    "weight_decay",
    "schedule",
    "schedule_args",
    "warmup_epochs",
    "eps_warmup_epochs",
    "label_smoothing",
    "validation",
    "validation_eps",
    "validation_steps",
    "freeze_eval_modules",
    "precision",
    "channels_last",
    "compile",
    "clip_values",
    "seed",
    "checkpoint_every",
)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A training run with every default filled in. Other options are those of ``TrainingOptions``.

    Attributes:
        recipe, recipe_args: the method's name, and its arguments except eps.
        data: a name or a path, as for ``load_data``. Its "train" and its "test" split are
            used.
        model, model_args: a short name, ``FILE.py:FACTORY`` or ``MODULE:FACTORY``, and the
            factory's arguments as text.
        eps: radius of crafting and of the figures. Natural training uses it for the figures only.
        weights: checkpoint to start from. None draws the weights by the seed.
        class_order: order of class folders, ``"numeric"`` or ``"text"``, see ``load_data``.
        classes: file with the class index of each class folder. None: that order.
        n: number of training samples, taken from the start. None: all.
        augmentation: ``"none"`` or ``"crop_flip"``.
        ema: decay of an average of the weights. 0: no average.
        device: device to train on. None: a GPU if torch finds one.
        tensorboard: log to TensorBoard too, in the folder ``art_ext`` of the run folder.
        rays: queries per sample of the RayS figures. 0 omits them.
        test_n: number of test samples, taken from the start. None: all.
        pgd_steps, pgd_step_size: of PGD for the figures. None: ``2.5 eps / pgd_steps``.
    """

    recipe: str
    data: str
    model: str
    eps: float
    recipe_args: dict[str, Any] = field(default_factory=dict)
    model_args: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    class_order: str = "numeric"
    classes: str | None = None
    n: int | None = None
    augmentation: str
    epochs: int | None = None
    updates: int | None = None
    equivalent_epochs: float | None = None
    passes: float | None = None
    batch_size: int
    drop_last: bool = False
    optimizer: str
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float
    schedule: str
    schedule_args: dict[str, Any] = field(default_factory=dict)
    warmup_epochs: float = 0.0
    eps_warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    validation: float
    validation_eps: float | None = None
    validation_steps: int = 10
    ema: float = 0.0
    freeze_eval_modules: bool = True
    precision: str = "no"
    channels_last: bool = False
    compile: bool = False
    clip_values: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    device: str | None = None
    checkpoint_every: int | None = None
    tensorboard: bool = False
    rays: int = 0
    test_n: int | None = None
    pgd_steps: int = 20
    pgd_step_size: float | None = None

    def __post_init__(self) -> None:
        check_network(self.model)
        for name, least in (("n", 1), ("test_n", 1), ("rays", 0), ("pgd_steps", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)
        check_choice("class_order", self.class_order, CLASS_ORDERS)
        if self.pgd_step_size is not None:
            check_positive("pgd_step_size", self.pgd_step_size)
        check_choice("augmentation", self.augmentation, ("none", *AUGMENTATIONS))
        self.make_recipe()
        TrainingOptions(**self.options())

    def make_recipe(self) -> Recipe:
        """Create the recipe. Natural training, which perturbs nothing, has no eps."""
        if "eps" in self.recipe_args:
            raise ValueError("eps has an option of its own: --eps, not --recipe-args eps=...")
        known = RECIPES.get(self.recipe)
        radius = (
            {"eps": self.eps}
            if known is not None and any(one.name == "eps" for one in fields(known))
            else {}
        )
        return make_recipe(self.recipe, **radius, **self.recipe_args)

    def options(self) -> dict[str, Any]:
        """Return the keywords of ``TrainingOptions``, except those of the run folder."""
        return {
            **{name: getattr(self, name) for name in OPTIONS},
            "augmentation": None if self.augmentation == "none" else self.augmentation,
            "ema": self.ema or None,
        }

    def to_toml(self) -> str:
        """Write the TOML text that resolves to this configuration."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        lines = [
            f"# art-ext train {__version__}; to repeat: art-ext train --config THIS_FILE"
            " --out FOLDER"
        ]
        tables = {name: value for name, value in values.items() if isinstance(value, dict)}
        lines += [
            f"{name} = {_toml(one)}"
            for name, one in values.items()
            if one is not None and name not in tables
        ]
        for name, table in tables.items():
            if table:
                lines += [
                    "",
                    f"[{name}]",
                    *(f"{_key(key)} = {_toml(one)}" for key, one in table.items()),
                ]
        return "\n".join(lines) + "\n"


def resolve(given: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Build a configuration from given values, a TOML file and the defaults, in this order.

    Args:
        given: values by the names of ``Configuration``. Numbers may be text such as 8/255, tables
            ``key=value,...``.
        file: TOML file of the same names. Its arguments of a recipe, network or schedule are
            ignored if ``given`` names another one. Its length of the run is ignored if ``given``
            has any.

    Raises:
        ValueError: for unknown names (the nearest match is named), values of another kind, and
            values that the recipe or the training options do not accept.
    """
    first = _read(given, "given")
    behind = {} if file is None else _read(_load(file), str(file))
    for name, owner in BELONGS.items():
        if owner in behind and first.get(owner, behind[owner]) != behind[owner]:
            behind.pop(name, None)
    if any(name in first for name in LENGTHS):
        behind = {name: value for name, value in behind.items() if name not in LENGTHS}
    values = {**behind, **first}
    for name in ("recipe", "data"):
        if name not in values:
            raise ValueError(
                f"{name} must be given, by --{name} or in the file that --config names"
            )
    if values["recipe"] not in RECIPES:
        make_recipe(values["recipe"])  # raises an error that lists the recipes
    values["data"] = data_name(values["data"]) or values["data"]
    return Configuration(**filled(values))


# --- reading ---


def _load(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Dashes in names count as underscores."""
    if not file.is_file():
        raise ValueError(
            f"config must name a TOML file, got {file}, which does not exist or is a folder"
        )
    return {name.replace("-", "_"): value for name, value in read_toml(file).items()}


def _read(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Convert values to the right kinds, by known names. None counts as not given."""
    kinds = {one.name: str(one.type).removesuffix(" | None") for one in fields(Configuration)}
    found = {}
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(
                f"{where}: unknown option {name!r}{nearest(name, kinds)}. Known options:"
                f" {', '.join(kinds)}"
            )
        if value is not None:
            found[name] = _KINDS[kinds[name]](name, value)
    for name, one in found.items():
        if isinstance(one, dict):
            read = _argument_text if name == "model_args" else read_value
            found[name] = {key: read(value) for key, value in one.items()}
    return found


def _wrong(name: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{name} must be {wanted}, got {value!r}")


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(name, "a text", value)
    return value


def _as_int(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an integer", value)
    return value


def _as_float(name: str, value: object) -> float:
    if isinstance(value, str):
        return parse_number(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "a number, or a fraction in quotes such as '8/255'", value)
    return float(value)


def _as_bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _as_pair(name: str, value: object) -> tuple[float, float]:
    parts = parse_numbers(name, value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        raise _wrong(name, "two numbers lower,upper", value)
    return _as_float(name, parts[0]), _as_float(name, parts[1])


def _as_table(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return dict(parse_arguments(value, name.replace("_", "-")))
    if not isinstance(value, Mapping):
        raise _wrong(name, "a table, or key=value,key=value", value)
    return dict(value)


def _argument_text(value: object) -> str:
    """Return an argument of a factory as text, which the factory parses itself."""
    return value if isinstance(value, str) else repr(value)


_KINDS: dict[str, Callable[[str, Any], Any]] = {
    "str": _as_text,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "tuple[float, float]": _as_pair,
    "dict[str, Any]": _as_table,
}


# --- writing ---


def _toml(value: object) -> str:
    """Write a number, truth value, text or list of these in TOML.

    TOML has no None. The text "none" is read as None.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(one) for one in value)}]"
    text = "none" if value is None else str(value)
    # JSON's escapes are TOML's, which wants one for DEL as well
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
