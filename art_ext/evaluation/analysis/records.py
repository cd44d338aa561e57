"""Reading of run folders: records, examples, images."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted
from art_ext.evaluation.analysis.blocks import Blocks, collect, new_success
from art_ext.evaluation.analysis.clouds import States, states_to_show
from art_ext.evaluation.analysis.examples import Examples, Found, gather, holds_examples
from art_ext.evaluation.analysis.radii import radii_of_rows
from art_ext.evaluation.analysis.table import Row, summarise
from art_ext.storage.chunks import CHUNKS, CLEAN, name_of
from art_ext.storage.evaluation import (
    OWN,
    PLOTS,
    REPORT,
    RUN,
    TABLES,
    WARNINGS,
    RunFolder,
    open_run,
    read_run,
)
from art_ext.storage.formats import EVALUATION
from art_ext.storage.joined import ended_records, joined_records, record_parts
from art_ext.storage.records import COLUMNS, RECORDS, read_parquet, upgraded
from art_ext.storage.store import Place, store_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = [
    "CHUNKS",
    "COLUMNS",
    "OWN",
    "PLOTS",
    "RECORDS",
    "REPORT",
    "RUN",
    "TABLES",
    "WARNINGS",
    "LoadedRun",
    "RunFolder",
    "load_images",
    "load_run",
    "open_run",
    "read_records",
    "read_run",
    "require_report",
]


def require_report(
    names: Sequence[str] = ("pandas", "pyarrow", "jinja2", "matplotlib", "tomli_w"),
) -> None:
    """Raise ImportError unless the packages that write the report are installed.

    Args:
        names: of the packages.

    Raises:
        ImportError: the message names the missing packages and the extra that contains them.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ImportError(f"the report needs {', '.join(missing)}: pip install 'art-ext[report]'")
    if "pyarrow" not in names:
        return
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:  # pip does not see that a pyarrow was built for another numpy
        raise ImportError(
            f"the installed pyarrow fails ({error}): with numpy 1.26 take 'pyarrow<22'"
        ) from error


def read_records(folder: Place) -> pd.DataFrame:
    """Return the records of a run folder: one row per sample, model, attack and eps.

    Args:
        folder: the run folder, a path or the URL of an object store.

    Raises:
        ImportError: without the extra ``report``.
        FileNotFoundError: if no chunk has ended yet.
        ValueError: if a file is damaged, which the message names, or for a run of another format.
    """
    require_report()
    store = store_of(folder)
    if store.exists(RECORDS):
        run = read_run(store)
        if run is None:
            return read_parquet(store, RECORDS)
        EVALUATION.check(store.path, run)
        return upgraded(read_parquet(store, RECORDS), run)
    existing = open_run(store)
    records = ended_records(existing)
    if not len(records):
        raise FileNotFoundError(f"{store.path} holds no records yet: no chunk has ended")
    return records


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A complete run, read from its folder.

    Attributes:
        folder: path of the run folder.
        run: the content of ``run.json``.
        blocks: the records, by model, attack and eps.
        rows: the table.
        examples: the samples to show, with the adversarials that each attack found for them, or
            None if the folder holds none.
        states: of chains, for the picture. Empty without one.
    """

    folder: Path
    run: dict[str, Any]
    blocks: Blocks
    rows: list[Row]
    examples: Examples | None
    states: Sequence[States] = ()

    @cached_property
    def records(self) -> pd.DataFrame:
        """The records, one row per sample, model, attack and eps."""
        return self.blocks.frame()


def load_run(folder: Place) -> LoadedRun:
    """Load a complete run folder.

    Args:
        folder: the run folder, a path or the URL of an object store.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if it is not a run folder, if its run is not complete, or if a file is damaged.
    """
    existing = _complete(folder)
    blocks = collect(record_parts(existing))
    return LoadedRun(
        existing.path,
        existing.run,
        blocks,
        summarise(blocks, existing.run),
        load_examples(existing, blocks),
        states_to_show(existing),
    )


def _complete(folder: Place) -> RunFolder:
    require_report()
    existing = open_run(folder)
    if existing.run.get("state") != "complete":
        missing = existing.missing()
        if not missing:
            raise ValueError(
                f"the run in {existing.path} stopped before its last step, though all of its units"
                " of work have ended: run the same command again"
            )
        raise ValueError(
            f"the run in {existing.path} is not complete: {missing} of"
            f" {counted(len(existing.units()), 'unit')} of the work"
            f" {'is' if missing == 1 else 'are'} missing, each one attack on one model over one"
            " chunk of the samples. Run the same command again, or unite its shards with art-ext"
            " merge"
        )
    return existing


def load_examples(
    folder: RunFolder, blocks: Blocks, complete: Container[int] | None = None
) -> Examples | None:
    """Examples of a run whose units have all ended, or of some complete chunks.

    Args:
        folder: of the run.
        blocks: its records.
        complete: numbers of the complete chunks. None: all.
    """
    numbers = [
        number
        for number, (start, _) in enumerate(folder.chunks)
        if holds_examples(start) and (complete is None or number in complete)
    ]
    kept = [folder.files.images(number) for number in numbers]
    if not all(CLEAN in images for images in kept):
        return None
    units = [
        (unit.model, unit.attack, unit.radii[-1], images.get(name_of(unit.place), {}))
        for units in zip(*map(folder.units_of, numbers), strict=True)
        for unit, images in zip(units, kept, strict=True)
    ]
    eps = max(folder.run["settings"]["eps"])
    return gather([images[CLEAN] for images in kept], units, blocks, eps)


def load_images(folder: Place, model: str, eps: float, *, rejected: bool = False) -> Tensor:
    """(N, *S) images of a complete run that kept all: an adversarial within eps, or the original.

    The original is returned if no attack succeeded within eps, or if the model misclassifies it
    without an attack. With a detector, only a success that it accepts counts. Rows are in the order
    of the data.

    Args:
        folder: of the run, evaluated with ``save_images=True``.
        model: one of its models.
        eps: one of its radii.
        rejected: True to let successes count that a detector rejects. Default: False.

    Raises:
        ValueError: if the run kept no images, or has no such model or radius.
    """
    import torch

    existing = _complete(folder)
    run = existing.run
    if not run["arguments"].get("save_images"):
        raise ValueError(
            f"{existing.path} keeps no images: evaluate in a new folder with --save-images"
        )
    if model not in run["clean_accuracy"] or eps not in run["settings"]["eps"]:
        known = ", ".join(run["clean_accuracy"])
        raise ValueError(
            f"{existing.path} has the models {known} and the radii {run['settings']['eps']}, got"
            f" {model!r} and {eps}"
        )
    chunks = [existing.files.images(number) for number in range(len(existing.chunks))]
    images = torch.cat([chunk[CLEAN]["x"] for chunk in chunks])
    blocks = collect([joined_records(existing)])
    # in reverse, so that the first successful attack on a sample is written last
    for unit in reversed(existing.units_of(0)):
        if unit.model != model:
            continue
        radii = [radius for radius in unit.radii if radius <= eps] or [unit.radii[0]]
        key = (model, unit.attack, radii[-1])
        found = radii_of_rows(blocks, key, rejected=rejected) <= eps
        success = torch.from_numpy(blocks.spread(key, found & new_success(blocks, key)))
        for kept in (chunk.get(name_of(unit.place)) for chunk in chunks):
            if kept:
                inside = success[kept["index"]]
                images[kept["index"][inside]] = kept["x_adv"][inside]
    return images


def load_states(
    folder: Place, model: str, attack: str, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the states that an attack drew of each sample, of a run with ``save_states=True``.

    Args:
        folder: of the run.
        model: one of its models.
        attack: one of its attacks that draw several states.
        eps: radius that the attack was given. None: the largest.

    Returns:
        (M,) int64 positions of the samples that were attacked, and (S, M, *S) their states.

    Raises:
        ValueError: if the run kept no such states, or is not complete.
    """
    import torch

    existing = _complete(folder)
    kept_all = existing.run["arguments"].get("save_states")
    radius = max(existing.run["settings"]["eps"]) if eps is None else eps
    wanted = [
        unit.place
        for unit in existing.units_of(0)
        if (unit.model, unit.attack) == (model, attack) and unit.radii[-1] == radius
    ]
    found = []
    for number in range(len(existing.chunks)):
        for place in wanted if kept_all else ():
            with suppress(FileNotFoundError):  # none of its samples was attacked
                found.append(existing.files.states(place, number))
    if not found:
        raise ValueError(
            f"{existing.path} keeps no states of {attack} on {model!r} at eps {radius}: evaluate in"
            " a new folder with --save-states and an attack that draws several states of a sample"
        )
    index = torch.cat([one["index"] for one in found])
    return index, torch.cat([one["samples"] for one in found], dim=1)


def kept_examples(
    one: LoadedRun, model: str, eps: float, positions: Collection[int]
) -> Examples | None:
    """Return some samples with their adversarials within eps, as far as a run kept both.

    Args:
        one: the run. Its models may have other names than in its folder.
        model: name of the model.
        eps: one of its radii. With a detector, only adversarials that it accepts count.
        positions: of the samples.

    Returns:
        The samples of which an image was kept. The class of an adversarial is ``NOT_SHOWN`` if the
        run did not record it. None if the folder is gone.
    """
    try:
        existing = open_run(one.folder)
    except ValueError:
        return None
    models = dict.fromkeys(unit.model for unit in existing.units_of(0))
    names = dict(zip(models, one.blocks.models, strict=True))
    kept = Examples([], {}, {})
    for number, (start, end) in enumerate(existing.chunks):
        inside = [position for position in positions if start <= position < end]
        images = existing.files.images(number) if inside else {}
        if CLEAN not in images:
            continue
        clean = images[CLEAN]
        for row, position in enumerate(clean["index"].tolist()):
            if position in inside:
                kept.originals[position] = clean["x"][row]
                kept.labels[position] = int(clean["y"][row])
        for unit in existing.units_of(number):
            found = images.get(name_of(unit.place))
            if found and names[unit.model] == model:
                _add_within(kept, one.blocks, (model, unit.attack), unit.radii, eps, found)
    return kept


def _add_within(
    kept: Examples,
    blocks: Blocks,
    name: tuple[str, str],
    radii: Sequence[float],
    eps: float,
    images: Mapping[str, Tensor],
) -> None:
    """Add the adversarials within eps that a unit kept of the samples of some examples.

    Args:
        kept: the examples.
        blocks: the records.
        name: of the model and of the attack.
        radii: of the unit.
        eps: radius.
        images: the result of ``keep_images``.
    """
    inside = [radius for radius in radii if radius <= eps] or [radii[0]]
    key = (*name, inside[-1])
    within = blocks.spread(key, radii_of_rows(blocks, key) <= eps)
    mine = kept.found.setdefault(name, {})
    columns = [images[column].tolist() for column in ("index", "label", "distance")]
    for row, (position, label, distance) in enumerate(zip(*columns, strict=True)):
        nearer = position not in mine or distance < mine[position].distance
        if position in kept.originals and within[position] and nearer:
            mine[position] = Found(images["x_adv"][row], label, distance, True)
