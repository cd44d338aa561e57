"""Defaults that depend on the data set and the recipe, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from art_ext.configuration.training import LENGTHS
from art_ext.core.geometry import norm_name
from art_ext.training import find_recipe, make_recipe

# as the authors train it; text, as all arguments of a factory
MODEL_ARGS = {"mnist-smallcnn": {"dropout": "0.5"}}
OTHER_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}  # for an optimiser that is not the table's


@dataclass(frozen=True)
class DataDefaults:
    """Defaults of a run on a data set.

    Attributes:
        model: a short name. None if the data do not suggest a network.
        eps: L-infinity radius of crafting and of the figures. None if one must be given.
        natural_epochs: passes over the data of recipes without a radius, such as natural training.
        equivalent_epochs: for all other recipes: epochs as the papers count them. They are not of
            equal cost.
        optimizer, learning_rate, weight_decay, schedule, batch_size: of the weight updates.
        validation: fraction of the training data held out.
        augmentation: augmentation of the training images.
        peak: peak of a cyclic schedule, as a fraction of the run.
        eps_warmup: fraction of the run over which the radius grows. Not used if the length is given
            in updates.
        recipe_args: arguments of recipes by their names.
    """

    model: str | None
    eps: float | None
    natural_epochs: int
    equivalent_epochs: float
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    batch_size: int
    validation: float
    augmentation: str
    peak: float | None = None
    eps_warmup: float = 0.0
    recipe_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


DEFAULTS = {
    # 1,297 samples: 30 epochs of anything take less than a minute on one core
    "digits": DataDefaults(
        "digits-cnn",
        0.15,
        15,
        30,
        "adam",
        4e-3,
        0.0,
        "cyclic",
        64,
        0.05,
        "none",
        recipe_args={"grad-align": {"weight": 0.2}},
    ),
    # rate, peak and Fast's start of Wong et al., 2020; the other methods of one long step need that
    # start too without the warm-up, PGD training can stay at a constant answer
    "mnist": DataDefaults(
        "mnist-conv2",
        0.3,
        10,
        20,
        "adam",
        5e-3,
        0.0,
        "cyclic",
        128,
        0.02,
        "none",
        0.4,
        0.2,
        {
            **{
                name: {"boxed_start": False}
                for name in ("fast", "fast-plus", "fast-trades", "backward-smoothing")
            },
            "grad-align": {"weight": 0.2},
        },
    ),
    # rate, decay and drops of Rice et al., 2020, over fewer epochs
    "cifar10": DataDefaults(
        "preactresnet18", 8 / 255, 40, 40, "sgd", 0.1, 5e-4, "piecewise", 128, 0.02, "crop_flip"
    ),
}
OTHER = DataDefaults(None, None, 40, 40, "sgd", 0.1, 5e-4, "piecewise", 128, 0.05, "none")


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the data set and recipe for values that are missing.

    Raises:
        ValueError: for data of the caller's own without a model or a radius.
    """
    own = DEFAULTS.get(values["data"], OTHER)
    found: dict[str, Any] = {
        "model": own.model,
        "optimizer": own.optimizer,
        "weight_decay": own.weight_decay,
        "batch_size": own.batch_size,
        "validation": own.validation,
        "augmentation": own.augmentation,
        **values,
    }
    if found["model"] is None:
        raise ValueError(
            "model must be given for data of your own, as a short name, FILE.py:FACTORY or"
            f" MODULE:FACTORY, got none for {values['data']!r}"
        )
    if found["model"] in MODEL_ARGS:
        found["model_args"] = {**MODEL_ARGS[found["model"]], **found.get("model_args", {})}
    for name in (found["recipe"], found.get("craft")):  # a craft takes what its recipe takes
        if name is not None and name in own.recipe_args:
            found["recipe_args"] = {**own.recipe_args[name], **found.get("recipe_args", {})}
    _fill_radius(found, own)
    _fill_rate(found, own)
    _fill_length(found, own)
    return found


def takes_radius(recipe: str) -> bool:
    """Return True if a recipe crafts within a radius of its own."""
    return any(one.name == "eps" for one in fields(find_recipe(recipe)))


def takes_craft(recipe: str) -> bool:
    """Return True if the craft of a recipe can be chosen."""
    return any(one.name == "craft" for one in fields(find_recipe(recipe)))


def _fill_radius(found: dict[str, Any], own: DataDefaults) -> None:
    if "eps" in found:
        return
    norm = norm_name(found.get("recipe_args", {}).get("norm", "linf"))
    if own.eps is None or norm != "linf":
        raise ValueError(
            "eps must be given for data of your own and for norms other than linf, "
            f"got none for {found['data']!r} and {norm}"
        )
    found["eps"] = own.eps


def _fill_rate(found: dict[str, Any], own: DataDefaults) -> None:
    if "learning_rate" not in found:
        known = found["optimizer"] == own.optimizer
        found["learning_rate"] = (
            own.learning_rate if known else OTHER_RATES.get(found["optimizer"], own.learning_rate)
        )
        rate = find_recipe(found["recipe"]).sgd_rate
        if found["optimizer"] == "sgd" and rate is not None:
            found["learning_rate"] = rate
    if "schedule" not in found:
        found["schedule"] = own.schedule
        if own.peak is not None:
            found.setdefault("schedule_args", {"peak": own.peak})


def _fill_length(found: dict[str, Any], own: DataDefaults) -> None:
    natural = not takes_radius(found["recipe"]) or (
        takes_craft(found["recipe"]) and found.get("craft") in (None, "none")
    )
    if not any(name in found for name in LENGTHS):
        found.update(
            {"epochs": own.natural_epochs}
            if natural
            else {"equivalent_epochs": own.equivalent_epochs}
        )
    if (
        own.eps_warmup
        and not natural
        and "eps_warmup_epochs" not in found
        and "updates" not in found
    ):
        arguments = {
            name: value for name, value in found.get("recipe_args", {}).items() if name != "eps"
        }
        if found.get("craft") is not None:
            arguments["craft"] = found["craft"]
        recipe = make_recipe(found["recipe"], **arguments)
        worth = {
            "epochs": 1,
            "equivalent_epochs": recipe.worth,
            "passes": recipe.replays
            * (sum(recipe.cost()) + recipe.networks * found.get("clean_forwards", 0)),
        }
        epochs = next(found[name] / worth[name] for name in LENGTHS if name in found)
        found["eps_warmup_epochs"] = own.eps_warmup * epochs
