"""The card: one picture with verdict, curve and examples, to be shown outside of the report."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.wording import class_name, counted, one_line, radius, shortened
from art_ext.evaluation.analysis.blocks import NORMS, panel_name
from art_ext.evaluation.analysis.coverage import kinds, not_covered
from art_ext.evaluation.analysis.table import Verdict, decisive, percent
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.canvas import INK, RUNS, SOFT, STYLE, legible, listed, short
from art_ext.evaluation.report.painting import paint
from art_ext.evaluation.report.pictures import are_images, in_unit_box
from art_ext.evaluation.report.rendering import between
from art_ext.storage.store import LocalStore, Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor

    from art_ext.evaluation.analysis.records import LoadedRun
    from art_ext.evaluation.report.material import Material

# units of the card
WIDTH = 1200
HEIGHT = 675
MARGIN = 48
SIDE = 86  # of an example
EXAMPLES_TOP = 470
PNG_BYTES = 500_000
DPI = 200  # at 100 units an inch: twice the units
SUFFIXES = (".png", ".svg")
MARK = "card of art-ext"  # in every file, so that a later one may replace it
MOST_VERDICTS = 3
MOST_EXAMPLES = 6
LETTERS = 60  # of a line on the left
LINE = 22
PRINT = 150  # letters of the small print
WARN = "#7a5200"
LEVELS = (1, 4, 8, 16)  # steps of a colour in 255, tried until the file is small enough


@dataclass(frozen=True, eq=False)
class Example:
    """An original, the nearest adversarial that was found for it, and what is said below them.

    Of several models, ``model`` and ``colour`` tell whose it is.
    """

    original: np.ndarray
    adversarial: np.ndarray | None
    text: str
    model: str = ""
    colour: int = 0


def write_figure(material: Material, place: Path) -> None:
    """Write the card of a report into a file that ``check_figure`` returned."""
    content = to_svg(material) if place.suffix.lower() == ".svg" else to_png(material)
    place.write_bytes(content)


def check_figure(path: str | Path, *, overwrite: bool = False, made: Store | None = None) -> Path:
    """Return the path of a card that can be written.

    Args:
        path: wanted file.
        made: folder that the command makes before the card is written. None: there is none.
        overwrite: True to accept any file that exists.

    Raises:
        ValueError: for another suffix, a folder that does not exist, or a file that is no earlier
            card.
    """
    place = Path(path)
    if not place.name:
        raise ValueError("figure must end in .png or .svg, got no name of a file")
    if place.suffix.lower() not in SUFFIXES:
        raise ValueError(f"figure must end in .png or .svg, got {str(path)!r}")
    makes = isinstance(made, LocalStore) and made.path.resolve() == place.parent.resolve()
    if not (place.parent.is_dir() or makes):
        raise ValueError(f"figure needs a folder that exists, but there is no {place.parent}")
    if place.is_dir():
        raise ValueError(f"figure must name a file, but {place} is a folder")
    if place.exists() and not overwrite and MARK.encode() not in place.read_bytes()[:4096]:
        raise ValueError(
            f"figure must be a new file or an earlier card, but {place} exists: choose another"
            " name, or allow it with --overwrite"
        )
    return place


# ---- facts


def facts(material: Material) -> list[str]:
    """Return the facts of a card as sentences."""
    told = [
        f"{MARK}: {_data(material)}",
        *(
            f"{verdict.model}: {_share(one, verdict)}, {_interval(verdict)}. Clean accuracy"
            f" {percent(verdict.clean_accuracy)}."
            for one, verdict in material.verdicts
        ),
        *(f"{head}: {', '.join(names)}" if names else head for head, names in _noted(material)),
        small_print(material),
    ]
    return list(map(one_line, told))


def _data(material: Material) -> str:
    return ", ".join(dict.fromkeys(one.run["data"]["name"] for one in material.loaded))


def _share(one: LoadedRun, verdict: Verdict) -> str:
    worst = verdict.worst[-1]
    norm = NORMS[one.run["settings"]["norm"]]
    return f"{_kind(verdict)} {percent(decisive(worst)[0])} at eps {radius(worst.eps)} ({norm})"


def _kind(verdict: Verdict) -> str:
    return "Robust accuracy" + (" with rejection" if verdict.detector else "")


def _interval(verdict: Verdict) -> str:
    _, low, high = decisive(verdict.worst[-1])
    return f"{between(low, high)} (95 %, {counted(verdict.samples, 'sample')})"


def _warnings(material: Material) -> list[str]:
    return list(dict.fromkeys(one.kind for one in material.findings if one.level == "warning"))


def _listed(head: str, names: Sequence[str], letters: int) -> str:
    return f"{head}: {listed(names, letters - len(head) - 2)}"


def coverage(material: Material) -> list[tuple[str, list[str]]]:
    """Return what holds for all models: number and kinds of the attacks, and what is missing."""
    every = [(one.blocks, one.run, verdict.model) for one, verdict in material.verdicts]
    if not every:
        return []
    first = kinds(*every[0])
    found = []
    if all(kinds(*own) == first for own in every):
        attacks, _, access = first.partition(": ")
        found.append((attacks, access.split(", ")))
    missing = [not_covered(*own) for own in every]
    shared = [gap for gap in missing[0] if all(gap in own for own in missing)]
    return [*found, ("Not covered", shared)] if shared else found


def small_print(material: Material) -> str:
    """Return version, data, number of samples and panel in one line.

    For runs with the same of these, with the names of the attacks as far as there is room.
    """
    heads: dict[tuple[str, tuple[str, ...]], None] = {}
    for one in material.loaded:
        run = one.run
        attacks = counted(len(run["attacks"]), "attack")
        panel = panel_name(run)
        samples = counted(run["data"]["samples"], "sample")
        version = run["versions"].get("art-ext", "")
        head = f"art-ext {version} · {run['data']['name']}, {samples} · "
        head += attacks if panel is None else f"panel {panel}, {attacks}"
        heads[head, tuple(run["attacks"])] = None
    if len(heads) == 1:
        head, names = next(iter(heads))
        return short(_listed(head, names, max(PRINT, len(head) + 20)), PRINT) if names else head
    return short(" | ".join(dict.fromkeys(head for head, _ in heads)), PRINT)


def examples(material: Material) -> list[Example]:
    """Return up to six examples, evenly from the models whose verdicts the card shows."""
    shown = material.verdicts[:MOST_VERDICTS]
    each = MOST_EXAMPLES // max(1, len(shown))
    return [
        replace(example, model=verdict.model if len(shown) > 1 else "", colour=number)
        for number, (one, verdict) in enumerate(shown)
        for example, _ in zip(_examples(one, verdict.model), range(each), strict=False)
    ]


def _examples(one: LoadedRun, model: str) -> Iterator[Example]:
    kept = one.examples
    if kept is None or not are_images(one.run):
        return
    names = one.run["data"]["class_names"]
    shown = kept.chosen[model]
    for position in (*shown.broken, *shown.held):
        label = class_name(kept.labels[position], names)
        original = _pixels(kept.originals[position], one.run)
        best = kept.nearest(model, one.run["attacks"], position)
        if position in shown.broken and best is not None:
            text = f"{short(label, 12)} → {short(class_name(best.label, names), 12)}"
            yield Example(original, _pixels(best.x, one.run), text)
        else:
            yield Example(original, None, f"{short(label, 16)} holds")


def _pixels(image: Tensor, run: Mapping[str, Any]) -> np.ndarray:
    """Return (H, W, 3) in [0, 1] of an image (C, H, W) in the box."""
    pixels = in_unit_box(image.numpy(), run).clip(0, 1).transpose(1, 2, 0)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


# ---- drawing


def _draw(material: Material) -> Figure:
    from matplotlib.figure import Figure

    card = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=DPI)
    page = card.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    page.set_axis_off()
    shown = examples(material)
    bottom = EXAMPLES_TOP - 40 if shown else HEIGHT - 90
    _verdicts(page, material, bottom)
    chart = material.robust_charts[0]
    if not chart.sentence:
        left, right, top = 630, WIDTH - 145, 64
        axes = card.add_axes(
            (
                left / WIDTH,
                1 - (bottom - 50) / HEIGHT,
                (right - left) / WIDTH,
                (bottom - 50 - top) / HEIGHT,
            )
        )
        paint(axes, chart, points=10.5)
    for number, example in enumerate(shown):
        _example(page, example, MARGIN + number * (2 * SIDE + 14))
    _text(page, MARGIN, HEIGHT - 26, short(small_print(material), 150), 14, SOFT)
    legible(card)
    return card


def _verdicts(page: Axes, material: Material, bottom: int) -> None:
    """Write the verdicts on the left, and the kinds of warnings below them."""
    shown = material.verdicts[:MOST_VERDICTS]
    colours = list(svg.palette()[0].values())
    top = 62
    if len(shown) == 1:
        one, verdict = shown[0]
        lines = labels.wrapped(verdict.model, 2, 26)
        for number, line in enumerate(lines):
            _text(page, MARGIN, top + 38 * number, line, 32, INK, bold=True)
        top += 38 * len(lines) + 74
        _text(page, MARGIN - 4, top, percent(decisive(verdict.worst[-1])[0]), 84, colours[0], True)
        norm = NORMS[one.run["settings"]["norm"]]
        said = f"{_kind(verdict)} at eps {radius(verdict.worst[-1].eps)} ({norm})"
        _text(page, MARGIN, top + 42, said, 22, INK)
        _text(page, MARGIN, top + 72, _interval(verdict), 18, SOFT)
        clean = f"Clean accuracy {percent(verdict.clean_accuracy)}"
        _text(page, MARGIN, top + 106, clean, 18, SOFT)
        top += 140
    else:
        for number, (one, verdict) in enumerate(shown):
            name = "".join(labels.wrapped(verdict.model, 1, 30))
            _text(page, MARGIN, top, name, 22, colours[number], bold=True)
            _text(page, MARGIN, top + 32, _share(one, verdict), 19, INK)
            said = f"{_interval(verdict)}, clean {percent(verdict.clean_accuracy)}"
            _text(page, MARGIN, top + 58, said, 16, SOFT)
            top += 104
        if len(material.verdicts) > len(shown):
            more = counted(len(material.verdicts) - len(shown), "more model")
            _text(page, MARGIN, top - 12, f"and {more}", 16, SOFT)
            top += 16
    _notes(page, material, min(top, bottom - LINE), bottom)


def _notes(page: Axes, material: Material, top: float, bottom: float) -> None:
    """Write warnings and coverage below the verdicts, as far as there is room."""
    for number, (head, names) in enumerate(_noted(material)):
        room = min(2, 1 + int((bottom - top) // LINE))
        if room < 1:
            return
        # a line ends at a whole word
        text = _listed(head, names, room * LETTERS - 16 * (room - 1)) if names else head
        colour = WARN if names and not number else SOFT
        for line in wrap(text, LETTERS, max_lines=room, placeholder="…", break_on_hyphens=False):
            _text(page, MARGIN, top, line, 16, colour)
            top += LINE
        top += LINE / 4


def _noted(material: Material) -> list[tuple[str, list[str]]]:
    warned = _warnings(material)
    return [("Warnings" if warned else "No warnings", warned), *coverage(material)]


def _example(page: Axes, example: Example, left: int) -> None:
    tiles = (example.original, example.adversarial)
    for number, tile in enumerate(tiles):
        if tile is None:
            continue
        x, y = left + number * SIDE, EXAMPLES_TOP
        height, width = (size * SIDE / max(tile.shape[:2]) for size in tile.shape[:2])
        page.imshow(
            tile,
            extent=(x, x + width, y + height, y),
            aspect="auto",
            interpolation="nearest" if max(tile.shape) <= SIDE else "auto",
            zorder=2,
        )
    page.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    _text(page, left, EXAMPLES_TOP + SIDE + 22, short(example.text, 26), 14, INK)
    colour = svg.LIGHT[example.colour]
    _text(page, left, EXAMPLES_TOP + SIDE + 42, shortened(example.model, 22), 14, colour, True)


def _text(
    page: Axes, x: float, y: float, text: str, size: float, colour: str, bold: bool = False
) -> None:
    weight = "bold" if bold else "normal"
    page.text(
        x, y, one_line(text), fontsize=size * 0.72, color=colour, fontweight=weight, va="baseline"
    )


# ---- files


def to_png(material: Material) -> bytes:
    """Return the card as the content of a PNG file, with its facts in the metadata."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL.Image import fromarray
    from PIL.PngImagePlugin import PngInfo

    with rc_context(STYLE):
        canvas = FigureCanvasAgg(_draw(material))
        canvas.draw()
    image = fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    note = PngInfo()
    note.add_itxt("Description", _plain("\n".join(facts(material))))
    return compressed(image, pnginfo=note)


def compressed(image: Image, **options: Any) -> bytes:
    """Return an image as the content of a PNG file of at most ``PNG_BYTES``.

    Its colours are rounded if it would be larger. That takes a tenth of the time of a palette.
    """
    content = b""
    for step in LEVELS:
        table = [min(255, step * round(value / step)) for value in range(256)]
        written = io.BytesIO()
        image.point(3 * table).save(written, "png", compress_type=RUNS, **options)
        content = written.getvalue()
        if len(content) <= PNG_BYTES:
            return content
    written = io.BytesIO()
    image.quantize(64).save(written, "png", **options)
    return written.getvalue()


def to_svg(material: Material) -> bytes:
    """Return the card as the content of an SVG file. Text is paths, its facts are in ``<desc>``."""
    from matplotlib import rc_context

    content = io.StringIO()
    style = {**STYLE, "svg.fonttype": "path", "svg.hashsalt": MARK}
    with rc_context(style):
        _draw(material).savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    end = text.index(">", text.index("<svg")) + 1
    told = escape(_plain("\n".join(facts(material))))
    return f"{text[:end]}\n<desc>{told}</desc>{text[end:]}".encode()


def _plain(text: str) -> str:
    """Return text without characters that XML does not allow."""
    return "".join(one for one in text if one in "\n\t" or one.isprintable())
