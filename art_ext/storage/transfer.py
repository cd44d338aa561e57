"""The folder of a run of ``art-ext transfer``: layout, ownership, and the columns of its records.

``run.json`` states everything that decides the examples, and is written first. Work is kept by the
digest of what decides it, so that a later run with another target finds it:

* ``clean/KEY.safetensors``: predictions of one model on the clean samples of a chunk.
* ``crafted/KEY.safetensors``: examples of one attack on one source, over a chunk.
* ``answers/KEY.safetensors``: predictions of one target on such examples.

``page.json`` and ``page.safetensors`` hold what the page shows besides records: facts of the run,
and the samples of the first chunk. So the page can be written again without models and data.

``records.parquet`` has one row for each source, target, attack, setting, seed, ``at`` and sample:

* ``source``, ``target``: names of models. An ensemble is a model.
* ``attack``, ``setting``: name of the attack, and what varies between its runs, as text.
* ``eps``: radius, null for an attack without a ball. ``varied`` and ``value``: name and number of
  the argument that varies, empty and null without one.
* ``seed``, ``at``: seed of the attack. Iterations after which the example was taken, 0 for its end.
* ``index``, ``label``, ``target_class``: position of the sample, its class, and the class to reach,
  -1 for none.
* ``source_prediction``, ``target_prediction``: of the clean sample.
* ``adversarial_prediction``: of the target on the example. -1 for a row of NaN.
* ``whitebox``: the example succeeds on the source, which the attack was told to leave.
* ``strict``: it succeeds on the target. Null unless source and target classify the sample
  correctly, and not as the class to reach.
* ``authors``: the prediction of the target changes or, with a class to reach, is that class. Null
  only where the label is the class to reach.
* ``states``, ``num_states``: states of the example's chain that succeed on the target, of how many.
  1 example is 1 state.
* ``l0``, ``l1``, ``l2``, ``linf``: distances of the example to the sample, also of a failure.
* ``queries``, ``gradients``, ``seconds``: cost of crafting the example.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.storage.differences import check_configuration, flat
from art_ext.storage.evaluation import CONFIGURATION, REPORT, RUN, TABLES, WARNINGS
from art_ext.storage.evaluation import TRANSFER_TOOL as TOOL
from art_ext.storage.formats import TRANSFER as FORMAT
from art_ext.storage.locking import PATIENCE, lock_of
from art_ext.storage.ownership import (
    OVERWRITE,
    check_place,
    drop_previous,
    is_free,
    is_temporary,
    put_aside,
    read_json,
    read_manifest,
    sweep,
    units_kept,
    write_json,
)
from art_ext.storage.records import RECORDS, read_parquet, read_tensors
from art_ext.storage.store import LocalStore, store_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

CLEAN = "clean"
CRAFTED = "crafted"
ANSWERS = "answers"
EXAMPLES = "examples"  # by --save-images and --save-states
FOLDERS = (CLEAN, CRAFTED, ANSWERS)
FIGURES = "figures"
FACTS = "page.json"
SAMPLES = "page.safetensors"
OWN = (
    CONFIGURATION,
    *FOLDERS,
    EXAMPLES,
    FIGURES,
    RECORDS,
    WARNINGS,
    *TABLES,
    FACTS,
    SAMPLES,
    REPORT,
    RUN,
)
# what may grow from one run in a folder to the next: names of models, and craftings with targets
GROWING = ("models", "craftings")
TEXTS = ("source", "target", "attack", "setting", "varied")
COLUMNS = {
    "source": "string",
    "target": "string",
    "attack": "string",
    "setting": "string",
    "eps": "float64",
    "varied": "string",
    "value": "float64",
    "seed": "int64",
    "at": "int64",
    "index": "int64",
    "label": "int64",
    "target_class": "int64",
    "source_prediction": "int64",
    "target_prediction": "int64",
    "adversarial_prediction": "int64",
    "whitebox": "bool",
    "strict": "bool",
    "authors": "bool",
    "states": "int64",
    "num_states": "int64",
    "l0": "float64",
    "l1": "float64",
    "l2": "float64",
    "linf": "float64",
    "queries": "int64",
    "gradients": "int64",
    "seconds": "float64",
}


def key_of(content: Mapping[str, Any]) -> str:
    """Return the digest of everything that decides a piece of work, in the types of JSON."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class TransferFolder:
    """The folder of one run.

    Args:
        place: the folder or its URL. It need not exist.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = os.fspath(place)
        self.store = store_of(self.place)

    @property
    def path(self) -> Path:
        """The folder, as messages name it."""
        return self.store.path

    @property
    def home(self) -> str:
        """The folder for other processes, which may be in another one."""
        return str(self.path.absolute()) if isinstance(self.store, LocalStore) else self.place

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the folder, and wait for processes of this run that hold it."""
        return lock_of(self.store, PATIENCE)

    def run(self) -> dict[str, Any]:
        """Return the content of ``run.json``.

        Raises:
            ValueError: if the folder holds no such run, or one of another format.
        """
        found = read_manifest(self.store, RUN, TOOL)
        if found is None:
            raise ValueError(f"{self.path} is not a run folder: it holds no {RUN} of {TOOL}")
        FORMAT.check(self.path, found)
        return found

    def is_ours(self) -> bool:
        """Return True if the folder holds such a run, complete or not."""
        return read_manifest(self.store, RUN, TOOL) is not None

    def check(self, configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        """Raise ValueError unless the folder is free for this run, or holds it or a part of it.

        A part has fewer models, targets or craftings. No file is changed.

        Args:
            configuration: everything that decides the examples, in the types of JSON.
            overwrite: allow a folder with other files in it.

        Raises:
            ValueError: if the path is no folder, or holds anything else. The message lists the
                differences.
        """
        check_place(self.store, "out must name a folder")
        if overwrite or is_free(self.store):
            return
        if read_manifest(self.store, RUN, TOOL) is None:
            raise ValueError(
                f"out must be a new or empty folder, or that of a run of {TOOL}, but {self.path}"
                f" holds other files: choose another folder, or allow it with {OVERWRITE}"
            )
        found = self.run()["configuration"]
        given = json.loads(json.dumps(configuration))
        advice = f": choose another folder, or replace that run with {OVERWRITE}"
        fixed = [
            {key: one for key, one in part.items() if key not in GROWING} for part in (given, found)
        ]
        check_configuration(self.path, flat(fixed[0]), flat(fixed[1]), advice)
        self._check_grown(given, found)

    def _check_grown(self, given: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        advice = f"give it too, choose another folder, or replace that run with {OVERWRITE}"
        for name, identity in found["models"].items():
            if given["models"].get(name, identity) != identity:
                raise ValueError(
                    f"{self.path} holds a run with another model {name!r}: choose another name or"
                    f" folder, or replace that run with {OVERWRITE}"
                )
        targets = {_title(one): one["targets"] for one in given["craftings"]}
        for one in found["craftings"]:
            title = _title(one)
            if title not in targets:
                raise ValueError(f"{self.path} holds {title}, which is not given now: {advice}")
            for name in one["targets"]:
                if name not in targets[title]:
                    raise ValueError(
                        f"{self.path} holds {title} on the target {name!r}, which is not given"
                        f" now: {advice}"
                    )

    def begin(
        self,
        configuration: Mapping[str, Any],
        overwrite: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``run.json`` into the folder, or continue or extend an earlier run in it.

        Args:
            configuration: as of ``check``.
            overwrite: as of ``check``. An earlier run is kept aside until this one is complete.
            arguments: of the command, which decide nothing.

        Raises:
            ValueError: as ``check``.
        """
        with self.locked():
            self.check(configuration, overwrite)
            if overwrite and self.is_ours():
                put_aside(self.store, OWN, complete=self.store.exists(RECORDS))
            elif self.is_ours() and self.run()["configuration"] == json.loads(
                json.dumps(configuration)
            ):
                return
            self.store.remove(RECORDS)  # of the smaller run
            content = {
                "tool": TOOL,
                "format": FORMAT.written,
                "arguments": dict(arguments or {}),
                "configuration": configuration,
            }
            write_json(self.store, RUN, content)

    def tensors(self, kind: str, key: str) -> dict[str, Tensor] | None:
        """Return the tensors of a piece of work. None if it has not ended.

        Raises:
            ValueError: if its file is damaged. The message names it.
        """
        try:
            return read_tensors(self.store, f"{kind}/{key}.safetensors")
        except FileNotFoundError:
            return None

    def has(self, kind: str, key: str) -> bool:
        """Return True if a piece of work has ended."""
        return self.store.exists(f"{kind}/{key}.safetensors")

    def keep(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a piece of work atomically."""
        from safetensors.torch import save

        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
        file = f"{kind}/{key}.safetensors"
        with units_kept(self.store, file):
            self.store.write(file, save(plain))

    def write_records(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Write ``records.parquet``.

        Args:
            parts: rows by the names of ``COLUMNS``, arrays or one value for all rows.
        """
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
        schema = pa.schema(fields)
        with (
            units_kept(self.store, RECORDS),
            self.store.writing(RECORDS) as stream,
            ParquetWriter(stream, schema) as writer,
        ):
            for part in parts:
                writer.write_table(_table(part, schema))

    def records(self) -> pd.DataFrame:
        """Return the records.

        Raises:
            ValueError: if the run is not complete, or the file is damaged.
        """
        try:
            return read_parquet(self.store, RECORDS)
        except FileNotFoundError:
            raise ValueError(
                f"{self.path} holds a run of {TOOL} that is not complete: run the same command"
                " again"
            ) from None

    def write_page(self, facts: Mapping[str, Any], x: Tensor) -> None:
        """Write what the page shows besides records.

        Args:
            facts: of the run, in the types of JSON.
            x: (K, *S) samples of the first chunk.
        """
        from safetensors.torch import save

        self.store.write(SAMPLES, save({"x": x.contiguous()}))
        write_json(self.store, FACTS, facts)

    def page(self) -> tuple[dict[str, Any], Tensor]:
        """Return what ``write_page`` was given.

        Raises:
            ValueError: if it is missing or damaged. The message names the file.
        """
        for name in (FACTS, SAMPLES):
            if not self.store.exists(name):
                raise ValueError(f"{self.path} holds no {name}: run the same command again")
        facts = read_json(self.store, FACTS, "hold what the page shows")
        return facts, read_tensors(self.store, SAMPLES)["x"]

    def finish(self) -> None:
        """Remove what killed processes left, and the run before this one."""
        for folder in (*FOLDERS, FIGURES):
            sweep(self.store, folder=folder)
        sweep(self.store, [name for name in OWN if name != CONFIGURATION])
        drop_previous(self.store)


def merge_transfers(
    folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> TransferFolder:
    """Put the finished work of several folders of one run of transfers into one folder.

    The command of the run, with ``--out`` naming that folder and without ``--shard``, makes what is
    missing, and writes records, table and report. The merged folders are not changed.

    Args:
        folders: at least one run folder.
        out: a new or empty folder, or one that an interrupted merge of the same folders left.

    Raises:
        ValueError: if a folder holds no such run, or another one (the message lists the
            differences).
    """
    parts = [TransferFolder(folder) for folder in folders]
    if not parts:
        raise ValueError("wanted at least one run folder to merge, got none")
    first = parts[0].run()
    for part in parts[1:]:
        configuration = flat(part.run()["configuration"])
        check_configuration(parts[0].path, configuration, flat(first["configuration"]))
    target = TransferFolder(out)
    if target.path.resolve() in {part.path.resolve() for part in parts}:
        raise ValueError(f"out must be another folder than those to merge, got {target.path}")
    target.begin(first["configuration"], arguments=first["arguments"])
    for part in parts:
        for kind in FOLDERS:
            known = set(target.store.names(kind))
            for name in part.store.names(kind):
                if not is_temporary(name) and name not in known:
                    target.store.write(f"{kind}/{name}", part.store.read(f"{kind}/{name}"))
    return target


def _title(crafting: Mapping[str, Any]) -> str:
    setting = f" ({crafting['setting']})" if crafting["setting"] else ""
    arguments = ", ".join(f"{name}={one}" for name, one in crafting["arguments"].items())
    with_arguments = f" with {arguments}" if arguments else ""
    return (
        f"{crafting['attack']}{setting}{with_arguments} on the source {crafting['source']!r} with"
        f" seed {crafting['seed']}"
    )


def _table(part: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    rows = len(part["index"])
    arrays = []
    for field in schema:
        value = part[field.name]
        if value is None or isinstance(value, (str, int, float)):
            arrays.append(pa.repeat(pa.scalar(value, field.type), rows))
        elif isinstance(value, tuple):  # values, and where they are null
            arrays.append(pa.array(value[0], field.type, mask=value[1]))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
