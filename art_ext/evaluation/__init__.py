"""From a model and a data set to a robustness report: a panel of attacks, per-sample records, table, plots, page.

    from art_ext.data import load_data
    from art_ext.evaluation import evaluate
    outcome = evaluate({"mine": model}, load_data("digits").first(100), "runs/mine", eps=0.1)
    outcome.rows[0].robust_accuracy

The folder then holds ``run.json``, ``records.parquet``, ``table.csv``, ``table.json``, plots and ``index.html``.
``art_ext.evaluation.adbd.ADBD`` is the same measure for ART users; it alone imports ART.
"""

from __future__ import annotations

from art_ext.evaluation.panel import ATTACKS, Attack, Settings
from art_ext.evaluation.records import read_records, read_run
from art_ext.evaluation.runner import Outcome, Watcher, evaluate
from art_ext.evaluation.table import Row, summarise

__all__ = [
    "ATTACKS",
    "Attack",
    "Outcome",
    "Row",
    "Settings",
    "Watcher",
    "evaluate",
    "read_records",
    "read_run",
    "summarise",
]
