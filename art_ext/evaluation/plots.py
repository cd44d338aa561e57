"""The plots of a report, as PNG files in memory; matplotlib's global state is left alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.evaluation.examples import COLUMNS, Examples, Found
from art_ext.evaluation.records import PLOTS
from art_ext.evaluation.table import radius, stopped_early

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito: for all eyes
DASHES = ("-", "--", "-.", ":")
MARKERS = "Xos^DvP<h>"
MOST_TOGETHER = 2  # attacks in axes that models share
DODGE = 6.0  # points between marks of attacks at one radius
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


@dataclass(frozen=True)
class _Canvas:
    """A figure with room for all curves: axes that models share under few attacks, else axes for each model.

    Attributes:
        figure: what is saved.
        axes: by model.
        looks: by model and attack, colour, dash and marker; equal in all plots.
        apart: whether each model has axes of its own.
    """

    figure: Figure
    axes: dict[str, Axes]
    looks: dict[tuple[str, str], dict[str, Any]]
    apart: bool

    @staticmethod
    def of(records: pd.DataFrame) -> _Canvas:
        models, attacks = list(records["model"].unique()), list(records["attack"].unique())
        apart = len(models) > 1 and len(attacks) > MOST_TOGETHER
        if not apart:
            figure = _figure(7.6, 4.4)
            axes = dict.fromkeys(models, figure.add_subplot())
        else:
            lines = -(-len(models) // 2)
            figure = _figure(11.4, 4.1 * lines)
            grid = figure.subplots(lines, 2, squeeze=False, sharey=True).flat
            axes = dict(zip(models, grid, strict=False))
            for unused in list(grid)[len(models) :]:
                unused.set_visible(False)
            for model, own in axes.items():
                own.set_title(_short(str(model), 44), fontsize=11, pad=18)
        by_attack = apart or len(models) == 1
        looks = {
            (model, attack): _look(*((which, 0) if by_attack else (models.index(model), which)), which)
            for model in models
            for which, attack in enumerate(attacks)
        }
        return _Canvas(figure, axes, looks, apart)

    def label(self, model: str, attack: str, more: str = "") -> str:
        """What the legend calls a curve."""
        # a leading space, since matplotlib takes a leading underscore for private and leaves the label out
        return f" {_short(attack, 24)}{more}" if self.apart else f" {_short(model, 32)} · {_short(attack, 24)}{more}"

    def set(self, **properties: Any) -> None:
        """Set properties of all axes; the left ones alone name the vertical axis."""
        for axes in dict.fromkeys(self.axes.values()):
            axes.set(**properties)
            axes.label_outer()

    def legend(self) -> None:
        """A legend below the axes, where it hides no curve."""
        named: dict[str, Artist] = {}
        for axes in self.axes.values():
            handles, labels = axes.get_legend_handles_labels()
            named |= zip(labels, handles, strict=True)
        if named:
            width = self.figure.get_figwidth() * 13  # about so many letters fit into a line
            columns = max(1, min(len(named), 6, int(width / (max(map(len, named)) + 9))))
            self.figure.set_figheight(self.figure.get_figheight() + 0.22 * -(-len(named) // columns))
            self.figure.legend(
                list(named.values()), list(named), loc="outside lower center", ncols=columns, fontsize=9.5
            )


def _look(colour: int, dash: int, marker: int) -> dict[str, Any]:
    return {
        "color": COLOURS[colour % len(COLOURS)],
        "linestyle": DASHES[(dash + colour // len(COLOURS)) % len(DASHES)],
        "marker": MARKERS[marker % len(MARKERS)],
    }


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _robust_accuracy(records: pd.DataFrame, run: Mapping[str, Any]) -> Plot:
    """Share of samples that hold out, as a function of the radius."""
    from matplotlib.transforms import ScaledTranslation

    canvas = _Canvas.of(records)
    right = _reach(records, run)
    filling = [name for name, attack in run["attacks"].items() if not attack["nearest"]]
    for (model, attack), group in records.groupby(["model", "attack"], sort=False):
        axes, style = canvas.axes[str(model)], dict(canvas.looks[str(model), str(attack)])
        label, marker = canvas.label(str(model), str(attack)), style.pop("marker")
        if attack not in filling:
            _steps(axes, group, right, stopped_early(run, str(attack)), label, style)
            continue
        held = [(rows["eps"].iloc[0], 100 * _held(rows).mean()) for _, rows in group.groupby("eps")]
        # side by side about their radius, or they would hide each other
        shift = DODGE * (filling.index(str(attack)) - (len(filling) - 1) / 2)
        axes.plot(
            *np.transpose(held), marker=marker, markersize=7.5, color=style["color"], linestyle="none",
            markeredgecolor="white", label=label, zorder=4, clip_on=False,
            transform=axes.transData + ScaledTranslation(shift / 72, 0, canvas.figure.dpi_scale_trans),
        )  # fmt: skip
    for axes in dict.fromkeys(canvas.axes.values()):
        for eps in run["settings"]["eps"]:
            axes.axvline(eps, color="#8a9099", linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
            axes.annotate(
                f"eps = {radius(eps)}", (eps, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4),
                textcoords="offset points", fontsize=8.5, color="#5b626b", ha="center",
            )  # fmt: skip
    canvas.set(
        xlim=(0, right), ylim=(0, 101), ylabel="robust accuracy (%)",
        xlabel=f"radius ({_UNITS[run['settings']['norm']]}, units of the input)",
    )  # fmt: skip
    canvas.legend()
    return Plot(PLOTS[0], "Robust accuracy against the radius", _robust_caption(run), _png(canvas.figure))


def _robust_caption(run: Mapping[str, Any]) -> str:
    caption = (
        "Share of all samples that are classified correctly and for which no adversarial was found within the radius; "
        "at radius 0 it is the clean accuracy. A stronger attack can only lower these curves."
    )
    stopped = [name for name in run["attacks"] if stopped_early(run, name)]
    if stopped:
        caption += (
            f" Samples left the search at their first success ({', '.join(stopped)}). Below the attacked eps their "
            "distances are upper bounds, and the faint part of a curve only bounds robust accuracy from above; run "
            "with --no-early-stop to know it."
        )
    minimising = [name for name, attack in run["attacks"].items() if attack["nearest"] and not attack["stops_early"]]
    if minimising:
        caption += (
            f" Attacks that minimise a distortion of their own ({', '.join(minimising)}) need not come near in this "
            "norm."
        )
    if not all(attack["nearest"] for attack in run["attacks"].values()):
        caption += (
            " Marks are attacks that fill a given ball: they know the radius at the dashed line, beside which they "
            "stand side by side."
        )
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
    canvas = _Canvas.of(records)
    radii = run["settings"]["eps"]
    most, highest = max(int(records["queries"].max()), 2), 0.0
    for (model, attack, _), group in records.groupby(["model", "attack", "eps"], sort=False):
        eps = float(group["eps"].iloc[0])
        attacked = group[~group["already_adversarial"] & (group["target"] != group["label"])]
        if not len(attacked):
            continue
        queries = np.sort(attacked.loc[attacked["success"], "queries_to_success"])
        share = 100 * np.arange(len(queries) + 1) / len(attacked)
        x = np.concatenate([[1], queries, [most]])
        gradients = " (with gradients)" if bool((attacked["gradients"] > 0).any()) else ""
        more = f" at {radius(eps)}{gradients}" if len(radii) > 1 else gradients
        style = {key: value for key, value in canvas.looks[str(model), str(attack)].items() if key != "marker"}
        canvas.axes[str(model)].step(
            x, np.append(share, share[-1]), where="post", linewidth=1.8, alpha=(1 + radii.index(eps)) / len(radii),
            label=canvas.label(str(model), str(attack), more), **style,
        )  # fmt: skip
        highest = max(highest, share[-1])
    top = min(101, max(10, 1.15 * highest))
    canvas.set(
        xscale="log", xlim=(1, most), ylim=(-0.01 * top, top), xlabel="queries per sample (clean check included)",
        ylabel="success rate (%)",
    )  # fmt: skip
    for axes in canvas.axes.values():
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    canvas.legend()
    caption = (
        "Share of the correctly classified samples that were broken within eps by the time each had been charged so "
        "many queries. Every row through the model is a query, the first one being the clean check."
    )
    if bool((records["gradients"] > 0).any()):
        caption += " Attacks with gradients see more than labels: their queries do not compare with those of RayS."
    return Plot(PLOTS[1], "Success rate against queries", caption, _png(canvas.figure))


# ---- originals and adversarials


def _are_images(shape: list[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _examples(examples: Examples, run: Mapping[str, Any]) -> Plot:
    """Originals on top, a row for each attack with the adversarials beside their perturbations, models side by side."""
    models, attacks = (list(dict.fromkeys(names)) for names in zip(*examples.found, strict=True))
    shown = _shown(examples, max(2, COLUMNS // len(models)))
    block = 2 * len(shown) + 1  # the last column is a gap
    columns, rows = len(models) * block - 1, 2 + len(attacks)
    figure = _figure(0.9 * columns + 2.1, 1.1 * rows - 0.5)
    grid = figure.subplots(
        rows, columns, squeeze=False, height_ratios=[0.3, *[1] * (rows - 1)],
        width_ratios=[0.3 if column % block == block - 1 else 1 for column in range(columns)],
    )  # fmt: skip
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    for axes in grid[0]:
        axes.set_axis_off()  # the line of the models' names
    scales = {attack: max(_changes(examples, attack, shown), default=0.0) for attack in attacks}
    for which, model in enumerate(models):
        cells = grid[:, which * block : which * block + block - 1]
        name = cells[0, 0].text(0, 0.5, _short(model, 12 * len(shown)), fontsize=11, fontweight="bold", va="center")
        name.set_in_layout(False)  # it may reach over the columns beside it
        for column, position in enumerate(shown):
            found = [examples.found[model, attack].get(position) for attack in attacks]
            _show_sample(cells[1:, 2 * column : 2 * column + 2], examples, position, found, list(scales.values()), run)
    _name_row(grid[1, 0], "original")
    for row, (attack, scale) in enumerate(scales.items(), start=2):
        _name_row(grid[row, 0], fill(_short(attack, 44), 22) + (f"\n±{scale:.2g}" if scale else ""))
    nearest = any(attack["nearest"] for attack in run["attacks"].values())
    caption = (
        "Correctly classified samples of different classes (of six, those that most attacks broke), the adversarial "
        "that each attack found for them "
        f"{'(the nearest, if the attack searches for it) ' if nearest else ''}with the class the model takes it for "
        "and its distance, and beside it the perturbation, magnified: each row has a scale of its own, named on the "
        f"left. Grey titles: outside eps = {radius(max(run['settings']['eps']))}, no success. In a perturbation red "
        "(or bright) is more and blue (or dark) is less than the original."
    )
    return Plot(PLOTS[2], "Originals beside their adversarials", caption, _png(figure))


def _shown(examples: Examples, most: int) -> list[int]:
    """At most so many of the samples: those for which most adversarials were found, in their own order."""
    positions: list[int] = examples.index.tolist()
    finds = {position: sum(position in kept for kept in examples.found.values()) for position in positions}
    best = sorted(positions, key=lambda position: -finds[position])[:most]
    return [position for position in positions if position in best]


def _changes(examples: Examples, attack: str, shown: Sequence[int]) -> list[float]:
    """The largest change of a coordinate in each adversarial shown that the attack found, of any model."""
    return [
        float((found.x - examples.data.x[position]).abs().max())
        for (_, name), kept in examples.found.items()
        if name == attack
        for position, found in kept.items()
        if position in shown
    ]


def _show_sample(
    cells: np.ndarray, examples: Examples, position: int, found: Sequence[Found | None], scales: Sequence[float],
    run: Mapping[str, Any],
) -> None:  # fmt: skip
    """One sample and what each attack found for it, in a column of pairs of axes."""
    names = run["data"]["class_names"]
    image = examples.data.x[position].numpy()
    _show(cells[0, 0], image, run)
    cells[0, 0].set_title(_class(int(examples.data.y[position]), names), fontsize=10)
    for pair, one, scale in zip(cells[1:], found, scales, strict=True):
        if one is None:
            pair[0].text(0.5, 0.5, "none\nfound", ha="center", va="center", fontsize=8.5, color="#8a9099")
        else:
            _show_found(pair, image, one, names, run, scale)


def _name_row(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9.5, labelpad=8)


def _class(label: int, names: list[str] | None) -> str:
    return _short(names[label], 14) if names and 0 <= label < len(names) else str(label)


def _show(axes: Axes, image: np.ndarray, run: Mapping[str, Any]) -> None:
    lower, upper = run["settings"]["clip_values"]
    pixels = np.clip((image - lower) / (upper - lower), 0, 1)
    axes.imshow(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1)


def _show_found(
    cells: np.ndarray, image: np.ndarray, found: Found, names: list[str] | None, run: Mapping[str, Any],
    amplitude: float,
) -> None:  # fmt: skip
    """An adversarial beside its difference to the original."""
    _show(cells[0], found.x.numpy(), run)
    title = f"{_class(found.label, names)} at {found.distance:.3f}"
    cells[0].set_title(title, fontsize=8.5, color="black" if found.success else "#8a9099")
    change = (found.x.numpy() - image) / max(amplitude, 1e-12)
    if len(change) == 1:
        cells[1].imshow(change[0], cmap="RdBu_r", vmin=-1, vmax=1)
    else:
        cells[1].imshow(np.clip(0.5 + change.transpose(1, 2, 0) / 2, 0, 1))
