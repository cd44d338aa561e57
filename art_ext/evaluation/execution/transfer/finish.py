"""Completion of a run of transfers: records, table, and the examples that are to be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from art_ext.evaluation.analysis.transfer import (
    TransferRow,
    plain_rows,
    summarise_transfer,
    transfer_csv,
)
from art_ext.evaluation.execution.transfer.columns import records_of
from art_ext.evaluation.execution.transfer.ensembles import members_of
from art_ext.evaluation.execution.transfer.job import Job
from art_ext.evaluation.execution.transfer.reporting import report
from art_ext.storage.evaluation import TABLES
from art_ext.storage.ownership import write_json
from art_ext.storage.transfer import CLEAN, CRAFTED, EXAMPLES, TransferFolder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TransferOutcome:
    """Result of a run of transfers.

    Attributes:
        folder: of the run.
        rows: the table. Empty while units are missing.
        missing: number of units that other processes have not finished.
        place: the folder with its records. None while units are missing.
    """

    folder: Path
    rows: list[TransferRow] = field(default_factory=list)
    missing: int = 0
    place: TransferFolder | None = None

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row per source, target, attack, setting, seed, ``at`` and sample."""
        if self.place is None:
            raise ValueError(f"{self.folder} lacks units: run the missing shards first")
        return self.place.records()


def finish(
    job: Job, folder: TransferFolder, baseline: str | None, images: bool, states: bool
) -> TransferOutcome:
    """Write records, table and report of a complete run.

    Args:
        job: of the run.
        folder: of the run, with all units.
        baseline: name of the attack that others are compared with. None: the first one.
        images: keep the examples of each attack in a file.
        states: keep the chains too.
    """
    with folder.locked():
        folder.write_records(records_of(job, folder))
        rows = summarise_transfer(folder.records(), baseline, members_of(job.plan.ensembles))
        csv, plain = TABLES
        folder.store.write(csv, transfer_csv(rows).encode("utf-8"))
        write_json(folder.store, plain, {"rows": plain_rows(rows)})
        report(job, folder, baseline)
        if images or states:
            _keep_examples(job, folder, images, states)
        folder.finish()
    return TransferOutcome(folder.path, rows, 0, folder)


def _keep_examples(job: Job, folder: TransferFolder, images: bool, states: bool) -> None:
    """Write one file for each crafting: ``index``, ``label``, ``x_adv`` and ``states``."""
    wanted = [*(["x_adv"] if images else []), *(["states"] if states else [])]
    for number, crafting in enumerate(job.plan.craftings):
        parts = []
        for chunk in job.plan.chunks:
            crafted = folder.tensors(CRAFTED, job.crafted_key(crafting, chunk)) or {}
            clean = folder.tensors(CLEAN, job.clean_key(crafting.source, chunk)) or {}
            own = {name: crafted[name] for name in wanted if name in crafted}
            parts.append({**own, "index": torch.arange(*chunk), "label": clean["label"]})
        joined = {
            name: torch.cat([part[name] for part in parts], dim=1 if name == "states" else 0)
            for name in parts[0]
        }
        setting = crafting.setting
        told = f"{crafting.source}-{setting.attack.name}-{setting.text}-seed{setting.seed}"
        folder.keep(EXAMPLES, f"{number:03d}-{re.sub(r'[^A-Za-z0-9.=]+', '-', told)}", joined)
