"""The plots of a report, as PNG files in memory; matplotlib's global state is left alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.evaluation.examples import Examples, Found
from art_ext.evaluation.records import PLOTS
from art_ext.evaluation.table import radius

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito: for all eyes
DASHES = ("-", "--", "-.", ":")
STYLE: Any = {
    "text.parse_math": False,  # a model's name may hold dollar signs
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e5e8",
    "axes.edgecolor": "#8a9099",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
_UNITS = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True)
class Plot:
    """A picture of the report.

    Attributes:
        file: its name in the run folder.
        title: its heading.
        caption: what is drawn, and what it does not say.
        png: the file's content.
    """

    file: str
    title: str
    caption: str
    png: bytes


def draw(records: pd.DataFrame, run: Mapping[str, Any], examples: Examples) -> list[Plot]:
    """All plots of a run; the examples are left out where samples are no images or nothing was found."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        plots = [_robust_accuracy(records, run), _success_queries(records, run)]
        if _are_images(run["data"]["shape"]) and any(examples.found.values()):
            plots.append(_examples(examples, run))
    return plots


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=144, layout="constrained")


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _looks(records: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """Colour by model, dash by attack; equal in all plots."""
    models, attacks = list(records["model"].unique()), list(records["attack"].unique())
    return {
        (model, attack): {
            "color": COLOURS[models.index(model) % len(COLOURS)],
            "linestyle": DASHES[attacks.index(attack) % len(DASHES)],
        }
        for model in models
        for attack in attacks
    }


def _legend(figure: Figure, axes: Axes) -> None:
    """A legend below the axes, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 2 if max(map(len, labels)) <= 40 else 1  # two longer ones would not fit side by side
        figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(labels) // columns))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9.5)


def _label(model: str, attack: str, more: str = "") -> str:
    # a leading space, since matplotlib takes a leading underscore for private and leaves the label out
    return f" {_short(model, 32)} · {_short(attack, 24)}{more}"


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[:length - 1]}…"


def _robust_accuracy(records: pd.DataFrame, run: Mapping[str, Any]) -> Plot:
    """Share of samples that hold out, as a function of the radius."""
    figure = _figure(7.6, 4.4)
    axes = figure.add_subplot()
    looks = _looks(records)
    right = _reach(records, run)
    for (model, attack), group in records.groupby(["model", "attack"], sort=False):
        style = looks[str(model), str(attack)]
        if run["attacks"][attack]["nearest"]:
            _steps(axes, group, right, run["settings"]["early_stop"], _label(str(model), str(attack)), style)
        else:
            held = [(rows["eps"].iloc[0], 100 * _held(rows).mean()) for _, rows in group.groupby("eps")]
            axes.plot(
                *np.transpose(held), marker="X", markersize=8, color=style["color"], linestyle="none",
                markeredgecolor="white", label=_label(str(model), str(attack)), zorder=4,
            )  # fmt: skip
    for eps in run["settings"]["eps"]:
        axes.axvline(eps, color="#8a9099", linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            f"eps = {radius(eps)}", (eps, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", fontsize=8.5, color="#5b626b", ha="center",
        )  # fmt: skip
    axes.set(
        xlim=(0, right), ylim=(0, 101), ylabel="robust accuracy (%)",
        xlabel=f"radius ({_UNITS[run['settings']['norm']]}, units of the input)",
    )  # fmt: skip
    _legend(figure, axes)
    return Plot(PLOTS[0], "Robust accuracy against the radius", _robust_caption(run), _png(figure))


def _robust_caption(run: Mapping[str, Any]) -> str:
    caption = (
        "Share of all samples that are classified correctly and for which no adversarial was found within the radius; "
        "at radius 0 it is the clean accuracy. A stronger attack can only lower these curves."
    )
    searching = any(attack["nearest"] for attack in run["attacks"].values())
    if searching and run["settings"]["early_stop"]:
        caption += (
            " Samples left the search at their first success. Below the attacked eps their distances are upper bounds, "
            "and the faint part of a curve only bounds robust accuracy from above; run with --no-early-stop to know it."
        )
    if not all(attack["nearest"] for attack in run["attacks"].values()):
        caption += " Crosses are attacks that fill a given ball: they know one radius each."
    return caption


def _held(rows: pd.DataFrame) -> pd.Series:
    return ~(rows["success"] | rows["already_adversarial"])


def _reach(records: pd.DataFrame, run: Mapping[str, Any]) -> float:
    """How far the radius axis goes: past the largest eps, and to where the last curve has come down."""
    nearest = [name for name, attack in run["attacks"].items() if attack["nearest"]]
    found = records.loc[records["attack"].isin(nearest) & np.isfinite(records["distance"]), "distance"]
    largest = max(run["settings"]["eps"])
    return float(min(max(1.25 * largest, found.quantile(0.995) * 1.05 if len(found) else 0), 4 * largest))


def _steps(
    axes: Axes, group: pd.DataFrame, right: float, early_stop: bool, label: str, style: Mapping[str, Any]
) -> None:
    """The empirical curve of one model under one attack, from the search that was given the smallest radius."""
    eps = group["eps"].min()
    rows = group[group["eps"] == eps]
    distance = np.sort(np.where(rows["already_adversarial"], 0.0, rows["distance"]))
    finite = distance[np.isfinite(distance) & (distance <= right)]
    x = np.concatenate([[0.0], finite, [right]])
    held = 100 * (1 - np.searchsorted(distance, x, side="right") / len(distance))
    if early_stop:  # from the attacked radius on, whatever stopped early is broken anyway and the rest spent its budget
        axes.step(x, held, where="post", linewidth=1.8, alpha=0.35, **style)
        known, at_eps = x > eps, 100 * _held(rows).mean()
        x, held = np.concatenate([[eps], x[known]]), np.concatenate([[at_eps], held[known]])
    axes.step(x, held, where="post", linewidth=1.8, label=label, **style)


def _success_queries(records: pd.DataFrame, run: Mapping[str, Any]) -> Plot:
    """Share of the correctly classified samples that were broken with at most so many queries."""
    figure = _figure(7.6, 4.4)
    axes = figure.add_subplot()
    looks = _looks(records)
    radii = run["settings"]["eps"]
    most, highest = max(int(records["queries"].max()), 2), 0.0
    for (model, attack, _), group in records.groupby(["model", "attack", "eps"], sort=False):
        eps = float(group["eps"].iloc[0])
        attacked = group[~group["already_adversarial"]]
        if not len(attacked):
            continue
        queries = np.sort(attacked.loc[attacked["success"], "queries_to_success"])
        share = 100 * np.arange(len(queries) + 1) / len(attacked)
        x = np.concatenate([[1], queries, [most]])
        gradients = " (with gradients)" if bool((attacked["gradients"] > 0).any()) else ""
        more = f" at {radius(eps)}{gradients}" if len(radii) > 1 else gradients
        axes.step(
            x, np.append(share, share[-1]), where="post", linewidth=1.8, alpha=(1 + radii.index(eps)) / len(radii),
            label=_label(str(model), str(attack), more), **looks[str(model), str(attack)],
        )  # fmt: skip
        highest = max(highest, share[-1])
    top = min(101, max(10, 1.15 * highest))
    axes.set(
        xscale="log", xlim=(1, most), ylim=(-0.01 * top, top), xlabel="queries per sample (clean check included)",
        ylabel="success rate (%)",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _legend(figure, axes)
    caption = (
        "Share of the correctly classified samples that were broken within eps by the time each had been charged so "
        "many queries. Every row through the model is a query, the first one being the clean check."
    )
    if bool((records["gradients"] > 0).any()):
        caption += " Attacks with gradients see more than labels: their queries do not compare with those of RayS."
    return Plot(PLOTS[1], "Success rate against queries", caption, _png(figure))


# ---- originals and adversarials


def _are_images(shape: list[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _examples(examples: Examples, run: Mapping[str, Any]) -> Plot:
    """Originals on top, then for each model and attack the adversarials and their differences."""
    blocks = [(key, found) for key, found in examples.found.items() if found]
    columns, rows = len(examples.index), 1 + 2 * len(blocks)
    figure = _figure(0.95 * columns + 2.1, 1.08 * rows + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    names = run["data"]["class_names"]
    amplitude = max(_largest_change(examples, position, item) for _, kept in blocks for position, item in kept.items())
    for column, position in enumerate(examples.index.tolist()):
        image = examples.data.x[position].numpy()
        _show(grid[0, column], image, run)
        grid[0, column].set_title(_class(int(examples.data.y[position]), names), fontsize=10)
        for block, (_, kept) in enumerate(blocks):
            if position in kept:
                _show_found(grid[1 + 2 * block : 3 + 2 * block, column], image, kept[position], names, run, amplitude)
            else:
                grid[1 + 2 * block, column].set_title("none found", fontsize=8.5, color="#8a9099")
    _name_row(grid[0, 0], "original")
    for block, ((model, attack), _) in enumerate(blocks):
        _name_row(grid[1 + 2 * block, 0], f"{fill(_short(model, 44), 22)}\n{fill(_short(attack, 44), 22)}")
        _name_row(grid[2 + 2 * block, 0], f"difference\n±{amplitude:.2g}")
    caption = (
        "The first correctly classified sample of each class, the nearest adversarial that each attack found for it, "
        "with the class the model takes it for and its distance, and the difference, all on one scale. Grey titles: "
        f"outside eps = {radius(max(run['settings']['eps']))}, no success. "
        "In a difference red (or bright) is more and blue (or dark) is less than the original."
    )
    return Plot(PLOTS[2], "Originals beside their adversarials", caption, _png(figure))


def _name_row(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9.5, labelpad=8)


def _class(label: int, names: list[str] | None) -> str:
    return _short(names[label], 14) if names and 0 <= label < len(names) else str(label)


def _largest_change(examples: Examples, position: int, found: Found) -> float:
    return float((found.x - examples.data.x[position]).abs().max())


def _show(axes: Axes, image: np.ndarray, run: Mapping[str, Any]) -> None:
    lower, upper = run["settings"]["clip_values"]
    pixels = np.clip((image - lower) / (upper - lower), 0, 1)
    axes.imshow(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1)


def _show_found(
    cells: np.ndarray, image: np.ndarray, found: Found, names: list[str] | None, run: Mapping[str, Any],
    amplitude: float,
) -> None:  # fmt: skip
    """An adversarial above its difference to the original."""
    _show(cells[0], found.x.numpy(), run)
    title = f"{_class(found.label, names)} at {found.distance:.3f}"
    cells[0].set_title(title, fontsize=8.5, color="black" if found.success else "#8a9099")
    change = (found.x.numpy() - image) / max(amplitude, 1e-12)
    if len(change) == 1:
        cells[1].imshow(change[0], cmap="RdBu_r", vmin=-1, vmax=1)
    else:
        cells[1].imshow(np.clip(0.5 + change.transpose(1, 2, 0) / 2, 0, 1))
