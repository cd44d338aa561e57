"""Curves of a report, as PNG files in memory. matplotlib's global state is not changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import radius
from art_ext.evaluation.analysis.blocks import NORMS, Blocks, Key, in_cascade, stopped_early
from art_ext.evaluation.analysis.radii import clean_failure, has_detector
from art_ext.evaluation.analysis.rejection import accepted_distance, decisive_success
from art_ext.evaluation.analysis.table import Row, Verdict, decisive, given, verdicts
from art_ext.evaluation.analysis.together import comparable, describe, models_of
from art_ext.evaluation.report import detection
from art_ext.evaluation.report.canvas import INK, STYLE, Canvas, label_plainly, to_png
from art_ext.storage.evaluation import DETECTION_PLOTS, PLOTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from art_ext.evaluation.analysis.records import LoadedRun

DODGE = 6.0  # points between marks of attacks at one radius
STEPS = 400  # most steps of a curve: more are finer than the picture


@dataclass(frozen=True)
class Plot:
    """A picture of the report.

    Attributes:
        file: its name in the folder.
        title: its heading.
        caption: explanation of the picture and of its limits.
        png: the file's content.
        axes: number of axes side by side.
    """

    file: str
    title: str
    caption: str
    png: bytes
    axes: int


def draw(loaded: Sequence[LoadedRun]) -> list[Plot]:
    """Curves of runs whose models have different names. Runs that are not comparable have own
    pictures.
    """
    from matplotlib import rc_context

    plots = []
    groups = comparable(loaded)
    with rc_context(STYLE):
        for number, group in enumerate(groups, start=1):
            suffix = "" if number == 1 else f"-{number}"
            where = f": {describe(group[0].run)}" if len(groups) > 1 else ""
            for name, kind in KINDS.items():
                drawn = kind(group)
                if drawn is None:
                    continue
                title, caption, figure = drawn
                file = name.replace(".png", f"{suffix}.png")
                in_line = min(2, len(figure.axes))
                plots.append(Plot(file, title + where, caption, to_png(figure), in_line))
    return plots


def _by_attack(group: Sequence[LoadedRun]) -> Iterator[tuple[LoadedRun, str, str]]:
    """Each model under each attack: its run, and the two names."""
    for one in group:
        for model in one.blocks.models:
            for attack in one.blocks.attacks(model):
                yield one, model, attack


def _attacks(group: Sequence[LoadedRun]) -> list[str]:
    return list(dict.fromkeys(name for one in group for name in one.run["attacks"]))


# ---- robust accuracy


def _robust_accuracy(group: Sequence[LoadedRun]) -> tuple[str, str, Figure]:
    """Robust accuracy as a function of the radius."""
    models = [model for one in group for model in models_of(one)]
    attacks = _attacks(group)
    canvas = Canvas.of(models, attacks)
    right = max(_reach(one) for one in group)
    marked = {name for one in group for name in one.run["attacks"] if not _curved(one.run, name)}
    marks = _Marks(canvas, [name for name in attacks if name in marked])
    for one, model, attack in _by_attack(group):
        style = dict(canvas.styles[model, attack])
        if _curved(one.run, attack):
            del style["marker"]
            stop_on_success = stopped_early(one.run, attack)
            _steps(
                canvas.axes[model],
                one.blocks,
                one.blocks.keys(model, attack)[0],
                right,
                stop_on_success,
                canvas.label(model, attack),
                style,
                bool(one.run["attacks"][attack].get("aware_of")),
            )
        else:
            marks.add(
                model,
                attack,
                [row for row in one.rows if (row.model, row.attack) == (model, attack)],
                style,
            )
    for one in group:
        if len(one.run["attacks"]) > 1 and not in_cascade(one.run):
            for verdict in verdicts(one.blocks, one.run):
                own = canvas.styles[verdict.model, next(iter(one.run["attacks"]))]["color"]
                marks.worst(verdict, own if canvas.shared else INK)
    canvas.mark(
        {f"eps = {radius(eps)}": eps for one in group for eps in one.run["settings"]["eps"]}, right
    )
    norm = NORMS[group[0].run["settings"]["norm"]]
    canvas.set(
        xlim=(0, right),
        ylim=(0, 101),
        ylabel="robust accuracy (%)",
        xlabel=f"radius ({norm}, units of the input)",
    )
    canvas.legend()
    return "Robust accuracy against eps", _robust_caption([one.run for one in group]), canvas.figure


def _curved(run: Mapping[str, Any], attack: str) -> bool:
    """Return True if the distances of an attack give a curve over all radii."""
    return bool(run["attacks"][attack]["nearest"]) and not in_cascade(run)


@dataclass(frozen=True)
class _Marks:
    """Marks for results at single radii, side by side so that they do not hide each other."""

    canvas: Canvas
    attacks: Sequence[str]

    def add(self, model: str, attack: str, rows: Sequence[Row], style: Mapping[str, Any]) -> None:
        """Draw the robust accuracies of one attack, one mark for each eps."""
        values = [(row.eps, *decisive(row)) for row in rows]
        place = self.attacks.index(attack) - (len(self.attacks) - 1) / 2
        self._draw(
            model, values, place, self.canvas.label(model, attack), style["color"], style["marker"]
        )

    def worst(self, verdict: Verdict, colour: str) -> None:
        """Draw the worst case over all attacks."""
        values = [(one.eps, *decisive(one)) for one in verdict.worst]
        label = self.canvas.label(verdict.model, "worst case")
        self._draw(verdict.model, values, (len(self.attacks) + 1) / 2, label, colour, "*")

    def _draw(
        self,
        model: str,
        values: Sequence[tuple[float, ...]],
        place: float,
        label: str,
        colour: str,
        marker: str,
    ) -> None:
        from matplotlib.transforms import ScaledTranslation

        axes = self.canvas.axes[model]
        moved = axes.transData + ScaledTranslation(
            DODGE * place / 72, 0, self.canvas.figure.dpi_scale_trans
        )
        eps, rate, low, high = 100 * np.transpose(values)
        axes.plot(
            eps / 100,
            rate,
            marker=marker,
            markersize=9.5 if marker == "*" else 7,
            color=colour,
            linestyle="none",
            markeredgecolor="white",
            markeredgewidth=0.7,
            label=label,
            zorder=4,
            clip_on=False,
            transform=moved,
        )
        axes.vlines(
            eps / 100, low, high, color=colour, linewidth=1.1, alpha=0.7, transform=moved, zorder=3
        )


def _robust_caption(runs: Sequence[Mapping[str, Any]]) -> str:
    caption = (
        "Share of all samples that are classified correctly and for which no adversarial was found"
        " within the radius. A stronger attack can only lower it."
    )
    curved = list(
        dict.fromkeys(name for run in runs for name in run["attacks"] if _curved(run, name))
    )
    if curved:
        caption += f" Curves ({', '.join(curved)}) begin at the clean accuracy."
    stopped = list(dict.fromkeys(name for run in runs for name in curved if _known_late(run, name)))
    if stopped:
        caption += (
            f" Samples stopped at their first success ({', '.join(stopped)}). Below the attacked"
            " eps their distances are upper bounds, and the lighter part of a curve is an upper"
            " bound on robust accuracy. Run with --no-stop-on-success to measure it."
        )
    minimising = list(
        dict.fromkeys(name for run in runs for name in curved if _minimising(run, name))
    )
    if minimising:
        caption += (
            f" Attacks that minimise a distortion of their own ({', '.join(minimising)}) need not"
            " find small distances in this norm."
        )
    if any(not _curved(run, name) for run in runs for name in run["attacks"]):
        caption += (
            " Marks belong to the eps of the dashed line, beside which they are drawn side by side,"
            " with Wilson intervals at 95 %."
        )
    if any(in_cascade(run) for run in runs):
        caption += (
            " In a cascade each mark is the robust accuracy after this attack and all before it."
            " The last is the worst case."
        )
    if any("detectors" in run for run in runs):
        caption += (
            " With a detector it is the robust accuracy with rejection: rejected clean samples"
            " count as failures, and an adversarial counts where the detector accepts it."
        )
    if any(len(run["attacks"]) > 1 and not in_cascade(run) for run in runs):
        caption += " The star is the worst case over all attacks of the panel."
    return caption


def _known_late(run: Mapping[str, Any], attack: str) -> bool:
    return attack in run["attacks"] and stopped_early(run, attack)


def _minimising(run: Mapping[str, Any], attack: str) -> bool:
    return attack in run["attacks"] and not run["attacks"][attack]["stops_early"]


def _reach(one: LoadedRun) -> float:
    """Right end of the radius axis: past the largest eps, and past the last step of the curves."""
    distances = [
        one.blocks.column(key, "nearest_distance") for key in one.blocks if _curved(one.run, key[1])
    ]
    nearest = np.concatenate(distances) if distances else np.zeros(0)
    found = nearest[np.isfinite(nearest)]
    largest = max(one.run["settings"]["eps"])
    return float(
        min(
            max(1.25 * largest, float(np.quantile(found, 0.995)) * 1.05 if len(found) else 0),
            4 * largest,
        )
    )


def _steps(
    axes: Axes,
    blocks: Blocks,
    key: Key,
    right: float,
    stop_on_success: bool,
    label: str,
    style: Mapping[str, Any],
    aware: bool,
) -> None:
    """Draw the empirical curve of one model under one attack, from the run with the smallest
    radius.

    With a detector the curve is that with rejection. The nearest adversarial of an attack that
    knows it is accepted. Of other attacks, the returned row counts where it is accepted.
    """
    eps = min(radius for _, _, radius in blocks.keys(*key[:2]))
    key = (*key[:2], eps)
    wrong = clean_failure(blocks, key)
    nearest = blocks.column(key, "nearest_distance")
    if has_detector(blocks, key[0]) and not aware:
        nearest = accepted_distance(blocks, key)
    distance = np.sort(np.where(wrong, 0.0, nearest))
    finite = distance[np.isfinite(distance) & (distance <= right)]
    x = np.concatenate([[0.0], _thinned(finite), [right]])
    held = 100 * (1 - np.searchsorted(distance, x, side="right") / len(distance))
    # from the attacked radius on, every sample that stopped early is a success, and the others
    # spent their budget
    if stop_on_success:
        axes.step(x, held, where="post", linewidth=1.8, alpha=0.35, **style)
        known = x > eps
        at_eps = 100 * (~(decisive_success(blocks, key) | wrong)).mean()
        x = np.concatenate([[eps], x[known]])
        held = np.concatenate([[at_eps], held[known]])
    axes.step(x, held, where="post", linewidth=1.8, label=label, **style)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most ``STEPS`` of sorted values, evenly over their ranks."""
    if len(values) <= STEPS:
        return values
    thinned: np.ndarray = values[np.linspace(0, len(values) - 1, STEPS).round().astype(int)]
    return thinned


# ---- success against queries


def _success_queries(group: Sequence[LoadedRun]) -> tuple[str, str, Figure] | None:
    """Success rate among the correctly classified samples, against the number of queries.

    None if no attack was given a sample. A model without one has no axes.
    """
    by_attack = list(_attacked(group))
    if not by_attack:
        return None
    canvas = Canvas.of(list(dict.fromkeys(key[0] for _, key, _ in by_attack)), _attacks(group))
    most = max(
        2, *(int(one.blocks.column(key, "queries").max()) for one in group for key in one.blocks)
    )
    highest = 0.0
    for one, key, counts in by_attack:
        model, attack, eps = key
        radii = one.run["settings"]["eps"]
        success = one.blocks.column(key, "success")[counts]
        queries = np.sort(one.blocks.column(key, "queries_to_success")[counts][success])
        x = np.concatenate([[1], _thinned(queries), [most]])
        rate = 100 * np.searchsorted(queries, x, side="right") / int(counts.sum())
        style = {
            name: value for name, value in canvas.styles[model, attack].items() if name != "marker"
        }
        uses = bool((one.blocks.column(key, "gradients")[counts] > 0).any())
        gradients = " (with gradients)" if uses else ""
        canvas.axes[model].step(
            x,
            rate,
            where="post",
            linewidth=1.8,
            alpha=(1 + radii.index(eps)) / len(radii),
            label=canvas.label(model, attack, gradients) if eps == radii[-1] else None,
            **style,
        )
        highest = max(highest, rate[-1])
    top = min(101, max(10, 1.15 * highest))
    canvas.set(
        xscale="log",
        xlim=(1, most),
        ylim=(-0.01 * top, top),
        xlabel="queries per sample (clean check included)",
        ylabel="success rate (%)",
    )
    for axes in canvas.every_axes():
        label_plainly(axes.xaxis)
    canvas.legend()
    return "Success rate against queries", _queries_caption(group), canvas.figure


def _attacked(group: Sequence[LoadedRun]) -> Iterator[tuple[LoadedRun, Key, np.ndarray]]:
    """Each block with samples that count for the success rate, bool by row."""
    for one in group:
        for key in sorted(one.blocks, key=_radius_last(one.blocks)):
            counts = (
                given(one.blocks, key, one.run)
                & ~one.blocks.column(key, "already_adversarial")
                & (one.blocks.column(key, "target") != one.blocks.column(key, "label"))
            )
            if counts.any():
                yield one, key, counts


def _radius_last(blocks: Blocks) -> Callable[[Key], tuple[int, float]]:
    """Return the sorting key by which the radii of an attack ascend."""
    order = {pair: place for place, pair in enumerate(dict.fromkeys(key[:2] for key in blocks))}
    return lambda key: (order[key[:2]], key[2])


def _queries_caption(group: Sequence[LoadedRun]) -> str:
    caption = (
        "Success rate within eps among the correctly classified samples given to the attack, as a"
        " function of the queries charged to each sample. Every row through the model is a query,"
        " and the first one is the clean check."
    )
    if any(len(one.run["settings"]["eps"]) > 1 for one in group):
        caption += " Lighter curves belong to smaller eps."
    if any(in_cascade(one.run) for one in group):
        caption += " In a cascade later attacks are given the more robust samples."
    if any((one.blocks.column(key, "gradients") > 0).any() for one in group for key in one.blocks):
        caption += (
            " Attacks with gradients use more than labels: their queries are not comparable to"
            " those of RayS."
        )
    return caption


KINDS = {
    PLOTS[0]: _robust_accuracy,
    PLOTS[1]: _success_queries,
    **dict(
        zip(
            DETECTION_PLOTS,
            (detection.rejection_by_rate, detection.roc, detection.histograms),
            strict=True,
        )
    ),
}
