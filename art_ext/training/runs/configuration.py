"""Configuration of a training run, read from options and a TOML file and written to TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext import __version__
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.files import complete, layered, require, to_toml
from art_ext.configuration.options import check_options, class_for, options_of
from art_ext.configuration.places import placed
from art_ext.configuration.training import LENGTHS, TrainingConfig
from art_ext.data.loading import data_name
from art_ext.models.sources import check_source
from art_ext.tracking import check_trackers
from art_ext.training import Recipe, TrainingOptions, make_recipe
from art_ext.training.measures import check_held, check_possible
from art_ext.training.phases import check_phases
from art_ext.training.presets import over_preset
from art_ext.training.recipes import find_recipe
from art_ext.training.runs.defaults import filled, takes_craft, takes_radius

if TYPE_CHECKING:
    _Fields = TrainingConfig
else:
    _Fields = class_for(TrainingConfig, "toml")


@dataclass(frozen=True, kw_only=True)
class Configuration(_Fields):
    """A training run with every default filled in: the fields of ``TrainingConfig`` in a file.

    None of ``ema`` and ``augmentation`` is 0 and ``"none"`` here, as in the file. The values of a
    preset are filled in, so it is not named.
    """

    def __post_init__(self) -> None:
        check_source(self.model)
        check_options(self, text=True)
        if self.teacher is not None:
            check_source(str(self.teacher))
        check_trackers(self.tracker_names(), self.tracker_args)
        recipe = self.make_recipe()
        recipe.check_losses(self.label_smoothing, self.outer_loss, self.craft_loss)
        recipe.check_compile(self.compile)
        check_phases(recipe, TrainingOptions(**self.options()), self.teacher is not None)
        radius = recipe.radius if self.validation_eps is None else self.validation_eps
        check_possible(self.track, recipe, radius if self.validation else None)
        check_held(self.validation_every, bool(self.validation))

    def make_recipe(self) -> Recipe:
        """Create the recipe. Natural training, which perturbs nothing, has no eps."""
        if "eps" in self.recipe_args:
            raise ValueError("eps has an option of its own: --eps, not --recipe-args eps=...")
        if "craft" in self.recipe_args:
            raise ValueError("craft has an option of its own: --craft, not --recipe-args craft=...")
        own: dict[str, Any] = {"eps": self.eps} if takes_radius(self.recipe) else {}
        if self.craft is not None:
            if not takes_craft(self.recipe):
                raise ValueError(
                    f"the recipe {self.recipe} decides itself how examples are crafted, got"
                    f" craft={self.craft!r}"
                )
            own["craft"] = self.craft
        return make_recipe(self.recipe, **own, **self.recipe_args)

    def options(self) -> dict[str, Any]:
        """Return the keywords of ``TrainingOptions``, except those of the run folder."""
        found = {}
        for name, (_, about) in options_of(type(self), "loop").items():
            value = getattr(self, name)
            # run_training decides these
            if name not in ("device", "teacher", "trackers", "tracker_args"):
                found[name] = None if value == about.off else value
        return found

    def tracker_names(self) -> tuple[str, ...]:
        """Return the names of the trackers."""
        more = ("tensorboard",) if self.tensorboard else ()
        return tuple(dict.fromkeys((*self.trackers, *more)))

    def facts(self) -> dict[str, Any]:
        """Return all values by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def to_toml(self) -> str:
        """Return the TOML text that resolves to this configuration."""
        comment = (
            f"art-ext train {__version__}; to repeat: art-ext train --config THIS_FILE --out FOLDER"
        )
        return to_toml(TrainingConfig, self, comment)


def resolve(given: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Build a configuration from given values, a TOML file, a preset and the defaults.

    An earlier one of these wins over the later ones. The preset is named by one of the first two.

    Args:
        given: values by the names of ``TrainingConfig``. Numbers may be text such as 8/255, tables
            ``key=value,...``.
        file: TOML file of the same names. Its arguments of a recipe, network or schedule are
            ignored if ``given`` names another one. Its length of the run is ignored if ``given``
            has any. The same holds for a preset, whose other arguments are kept.

    Raises:
        ValueError: for unknown names (the nearest match is named), values of another kind, and
            values that the recipe or the training options do not accept.
    """
    values = layered(TrainingConfig, given, file, [LENGTHS], EvaluationConfig)
    with placed(file, given=given):
        values = over_preset(values)
    require(values, ("recipe", "data"))
    with placed(file, given=given):
        find_recipe(values["recipe"])  # raises an error that lists the recipes
        values["data"] = data_name(values["data"]) or values["data"]
        return Configuration(**complete(TrainingConfig, filled(values)))
