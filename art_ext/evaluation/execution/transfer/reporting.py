"""The report of a run of transfers, and the examples that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from art_ext.evaluation.analysis.transfer import summarise_transfer
from art_ext.evaluation.analysis.transfer_examples import transfer_examples
from art_ext.evaluation.execution.description import versions
from art_ext.evaluation.execution.transfer.ensembles import members_of
from art_ext.storage.store import Place
from art_ext.storage.transfer import CRAFTED, TransferFolder

if TYPE_CHECKING:
    from torch import Tensor

    from art_ext.evaluation.execution.transfer.job import Job


def report(job: Job, folder: TransferFolder, baseline: str | None) -> None:
    """Write the report of a complete run into its folder, and what it shows besides records.

    Args:
        job: of the run.
        folder: of the run, with all units and records.
        baseline: name of the attack that others are compared with. None: the first one.

    Raises:
        OSError: if the folder cannot be written.
    """
    settings = job.plan.settings.recorded()
    first = job.plan.chunks[0]
    craftings = {
        (one.source, one.setting.attack.name, one.setting.text): job.crafted_key(one, first)
        for one in reversed(job.plan.craftings)  # so that the first seed stays
    }
    facts = {
        "data": {
            "name": job.data.name,
            "samples": len(job.data),
            "class_names": job.data.class_names,
            "shape": job.data.shape,
        },
        "settings": {name: settings[name] for name in ("norm", "clip_values", "targeted")},
        "versions": versions(),
        "baseline": baseline,
        "ensembles": members_of(job.plan.ensembles),
        "crafted": [[*names, key] for names, key in craftings.items()],
    }
    folder.write_page(facts, job.data.rows(*first)[0])
    rewrite_transfer_report(folder, folder.store)


def rewrite_transfer_report(folder: TransferFolder, out: Place) -> None:
    """Write the report of a complete run again from its folder.

    Args:
        folder: of the run.
        out: folder of the report, that of the run itself or any other.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if the run is not complete, is damaged, or has another format.
        OSError: if a folder cannot be read or written.
    """
    from art_ext.evaluation.report.transfer import TransferMaterial, write_transfer_report

    run = folder.run()
    records = folder.records()
    facts, x = folder.page()
    keys = {tuple(names): key for *names, key in facts["crafted"]}

    def read(source: str, attack: str, setting: str) -> Tensor:
        found = folder.tensors(CRAFTED, keys[source, attack, setting])
        if found is None:
            raise ValueError(
                f"{folder.path} lacks examples of {attack} on {source}: run the same command again"
            )
        return found["x_adv"]

    examples = transfer_examples(records, x, facts["settings"]["norm"], read)
    rows = summarise_transfer(records, facts["baseline"], facts["ensembles"])
    shown = {**facts, "arguments": run["arguments"]}
    write_transfer_report(out, TransferMaterial(shown, rows, records, examples))
