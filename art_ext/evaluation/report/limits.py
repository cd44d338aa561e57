"""The page of a run on limits: constants of the generator, robustness of the models, and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import radius
from art_ext.evaluation.analysis.bounding import IN_DISTRIBUTION
from art_ext.evaluation.analysis.examples import Found
from art_ext.evaluation.analysis.finding import Finding, in_order, to_json
from art_ext.evaluation.analysis.limits import LOWER_ESTIMATE, Limits
from art_ext.evaluation.analysis.limits_findings import sentences
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.report.limits_plot import draw_limits
from art_ext.evaluation.report.limits_tables import (
    bounds_table,
    constants_table,
    costs,
    expansion_table,
    robustness_table,
    to_csv,
)
from art_ext.evaluation.report.pictures import Sheet, mosaic, sheets
from art_ext.evaluation.report.rendering import render_template, told
from art_ext.storage.evaluation import LIMITS, PLOTS, REPORT, WARNINGS
from art_ext.storage.generators import quality_figures
from art_ext.storage.limits import LimitsFolder
from art_ext.storage.store import Place, store_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun
    from art_ext.evaluation.report.limits_plot import Plot

ON_MANIFOLD = "on the manifold"
UNCONSTRAINED = "without constraint"
SENTENCES_SHOWN = 12  # of the verdict; the rest unfold


def write_limits_report(
    folder: Place,
    limits: Limits,
    arguments: Mapping[str, Any] | None = None,
    pictures: Sequence[Sheet] = (),
) -> None:
    """Write the page, its figure and pictures, the tables as CSV and the results as JSON.

    Each file is written atomically.

    Args:
        folder: that of the run itself, or any other.
        limits: the results.
        arguments: of the run, which are kept in the results. Default: None, those that the results
            hold already. Empty ones are left out of the page.
        pictures: those of ``strips``.

    Raises:
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written.
    """
    limits = _with_arguments(limits, arguments)
    plot = draw_limits(limits)
    files = {
        LIMITS: limits.to_json().encode("utf-8"),
        WARNINGS: to_json(in_order(limits.warnings)).encode("utf-8"),
        **{name: text.encode("utf-8") for name, text in to_csv(limits).items()},
        plot.file: plot.png,
        **({PLOTS[2]: mosaic(pictures)} if pictures else {}),
        REPORT: _page(limits, plot, pictures).encode("utf-8"),
    }
    store = store_of(folder)
    for name, content in files.items():
        store.write(name, content)


def render_limits(
    limits: Limits, arguments: Mapping[str, Any] | None = None, pictures: Sequence[Sheet] = ()
) -> str:
    """Return the page as HTML, with the figure and the pictures inside.

    Args:
        limits, arguments, pictures: as of ``write_limits_report``.

    Raises:
        ImportError: without the extra ``report``.
    """
    limits = _with_arguments(limits, arguments)
    return _page(limits, draw_limits(limits), pictures)


def _with_arguments(limits: Limits, arguments: Mapping[str, Any] | None) -> Limits:
    if arguments is None:
        return limits
    return replace(limits, facts={**limits.facts, "arguments": dict(arguments)})


def rewrite_limits_report(folder: LimitsFolder, out: Place) -> None:
    """Write the report of a complete run again from its folder.

    Args:
        folder: of the run.
        out: folder of the report, that of the run itself or any other.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if the run is not complete, is damaged, or has another format.
        OSError: if a folder cannot be read or written.
    """
    try:
        limits = Limits.from_plain(folder.results())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder.path / LIMITS} must hold the results of this version of art-ext, but it has"
            f" another form ({type(error).__name__}: {error}): run the same command again"
        ) from error
    write_limits_report(out, limits, pictures=pictures_of(load_run(folder.attacks), limits))


# ---- pictures


def pictures_of(attacks: LoadedRun, limits: Limits) -> list[Sheet]:
    """Return pictures of the models of a run on limits. Its checkpoints have none."""
    others = [name for name in attacks.run["attacks"] if name not in IN_DISTRIBUTION]
    headings = {ON_MANIFOLD: IN_DISTRIBUTION, UNCONSTRAINED: others}
    return strips(attacks, headings, _models(limits))


def _models(limits: Limits) -> list[str]:
    """Return the names of the models without those of checkpoints."""
    checkpoints = {point.model for point in limits.points if point.path}
    return [name for name in limits.models if name not in checkpoints]


def strips(
    one: LoadedRun, attacks: Mapping[str, Sequence[str]], models: Sequence[str] | None = None
) -> list[Sheet]:
    """Return pictures of samples beside their adversarials on and off the manifold.

    Args:
        one: the run of the attacks.
        attacks: the names of the attacks under each heading. Of their adversarials of a sample, the
            nearest success is shown, or the nearest adversarial where none is a success.
        models: names of those to show. Default: None, all models of the run.
    """
    if one.examples is None:
        return []
    found: dict[tuple[str, str], dict[int, Found]] = {}
    attacked = dict.fromkeys(model for model, _ in one.examples.found)
    for model in attacked if models is None else models:
        for heading, names in attacks.items():
            nearest = {
                position: one.examples.nearest(model, names, position)
                for position in one.examples.index
            }
            found[model, heading] = {
                position: own for position, own in nearest.items() if own is not None
            }
    return sheets(replace(one, examples=replace(one.examples, found=found)))


# ---- the page


def _page(limits: Limits, plot: Plot, pictures: Sequence[Sheet]) -> str:
    facts = limits.facts
    generator = facts["generator"]
    quality = generator.get("quality")
    models = _models(limits)
    told_of_models = list(sentences([row for row in limits.rows if row.model in models]))
    found = in_order(limits.warnings)
    return render_template(
        "limits.html.j2",
        limits=limits,
        generator={**generator, "name": _short_name(generator)},
        data=facts["data"],
        lower_estimate=LOWER_ESTIMATE,
        models=models,
        cards=[_card(limits, model) for model in models],
        verdicts=[one for one in told_of_models if LOWER_ESTIMATE not in one],
        on_bounds=[one for one in told_of_models if LOWER_ESTIMATE in one],
        sentences_shown=SENTENCES_SHOWN,
        findings=[one for one in found if one.model in ("", *models)],
        of_checkpoints=[one for one in found if one.model not in ("", *models)],
        robustness=robustness_table(limits),
        choices=_choices(limits),
        constants=constants_table(limits),
        costs=list(costs(limits.lipschitz)),
        expansion=expansion_table(limits, models),
        bounds=bounds_table(limits, models),
        curves=[plot],
        pictures=pictures,
        quality=quality_figures(quality) if quality else {},
        protocol=list(dict.fromkeys(facts.get("protocol", ()))),
        not_run=facts.get("not_run", ()),
        arguments=told(facts.get("arguments", {})),
        facts=told({**_plain_facts(facts), **facts.get("versions", {})}),
    )


def _short_name(generator: Mapping[str, Any]) -> str:
    """Return the name of a generator, without the path of its run folder."""
    name: str = generator["name"]
    # the quality is that of a run folder
    return PurePath(name).name if generator.get("quality") else name


def _plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in _PLAIN_FACTS if name in facts}


_PLAIN_FACTS = ("radius", "delta", "alpha", "seed", "lipschitz_units")


def _choices(limits: Limits) -> dict[str, list[tuple[str, str]]]:
    """Return filters of the table: by name of the control, values and their labels."""
    choices = {
        "model": [(name, name) for name in limits.models],
        "eps": [(str(eps), radius(eps)) for eps in limits.eps],
    }
    return {name: values for name, values in choices.items() if len(values) > 1}


def _card(limits: Limits, model: str) -> dict[str, Any]:
    """Return what the card of a model shows: its rows, and the number of its findings."""
    own = [one for one in limits.warnings if one.model in ("", model)]
    rows = [row for row in limits.rows if row.model == model]
    return {
        "model": model,
        "first": rows[0],
        "rows": rows,
        "warnings": _count(own, "warning"),
        "infos": _count(own, "info"),
    }


def _count(found: Iterable[Finding], level: str) -> int:
    return sum(one.level == level for one in found)
