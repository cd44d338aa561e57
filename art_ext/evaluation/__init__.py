"""From a model and a data set to a robustness report: a panel of attacks, per-sample records,
table, plots, page.

    from art_ext.data import load_data
    from art_ext.evaluation import evaluate
    outcome = evaluate({"mine": model}, load_data("digits").first(100), "runs/mine", eps=0.1)
    outcome.rows[0].robust_accuracy

The folder then holds ``run.json``, ``records.parquet``, ``table.csv``, ``table.json``,
``warnings.json``, plots and ``index.html``, and in ``chunks`` what each unit of the work left.
``panel="standard"`` runs a declared list of attacks. ``limits`` measures robustness on the images
of a generator beside the bounds for any classifier. ``transfer`` tries examples that were made on
one model on others. ``art_ext.evaluation.adbd.ADBD`` is the same
measure for ART users; it alone imports ART.
"""

from __future__ import annotations

from art_ext.evaluation.analysis.records import (
    load_images,
    load_run,
    load_states,
    read_records,
    read_run,
)
from art_ext.evaluation.analysis.table import Row, summarise
from art_ext.evaluation.execution.finish import Outcome
from art_ext.evaluation.execution.job import Watcher
from art_ext.evaluation.execution.limits.run import limits
from art_ext.evaluation.execution.runner import evaluate, merge
from art_ext.evaluation.execution.services import RunStopped
from art_ext.evaluation.execution.transfer.finish import TransferOutcome
from art_ext.evaluation.execution.transfer.run import transfer
from art_ext.evaluation.panel.attack import Attack, AttackRequest, Settings
from art_ext.evaluation.panel.panels import PANELS, Member, Panel, find_panel
from art_ext.evaluation.report.page import figure
from art_ext.storage.transfer import merge_transfers

__all__ = [
    "PANELS",
    "Attack",
    "AttackRequest",
    "Member",
    "Outcome",
    "Panel",
    "Row",
    "RunStopped",
    "Settings",
    "TransferOutcome",
    "Watcher",
    "evaluate",
    "figure",
    "find_panel",
    "limits",
    "load_images",
    "load_run",
    "load_states",
    "merge",
    "merge_transfers",
    "read_records",
    "read_run",
    "summarise",
    "transfer",
]
