"""The report of a run of transfers, and the examples that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from art_ext.evaluation.analysis.transfer_examples import transfer_examples
from art_ext.evaluation.execution.description import versions
from art_ext.storage.transfer import CRAFTED, TransferFolder

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from art_ext.evaluation.analysis.transfer import TransferRow
    from art_ext.evaluation.execution.transfer.job import Job


def report(
    job: Job, folder: TransferFolder, rows: Sequence[TransferRow], records: pd.DataFrame
) -> None:
    """Write the report of a complete run into its folder.

    Args:
        job: of the run.
        folder: of the run, with all units.
        rows: its table.
        records: its records.

    Raises:
        OSError: if the folder cannot be written.
    """
    from art_ext.evaluation.report.transfer import TransferMaterial, write_transfer_report

    settings = job.plan.settings.recorded()
    run = {
        "data": {
            "name": job.data.name,
            "samples": len(job.data),
            "class_names": job.data.class_names,
            "shape": job.data.shape,
        },
        "settings": {name: settings[name] for name in ("norm", "clip_values", "targeted")},
        "arguments": folder.run()["arguments"],
        "versions": versions(),
    }
    first = job.plan.chunks[0]
    craftings = {
        (one.source, one.setting.attack.name, one.setting.text): one
        for one in reversed(job.plan.craftings)  # so that the first seed stays
    }

    def read(source: str, attack: str, setting: str) -> Tensor:
        crafting = craftings[source, attack, setting]
        found = folder.tensors(CRAFTED, job.crafted_key(crafting, first))
        if found is None:
            raise RuntimeError("the report of a run without all of its examples")
        return found["x_adv"]

    x = job.data.rows(*first)[0]
    examples = transfer_examples(records, x, settings["norm"], read)
    write_transfer_report(folder.store, TransferMaterial(run, rows, records, examples))
