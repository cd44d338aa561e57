"""Training runs of ``art-ext train``: configuration, network, run folder, figures.

    from art_ext.training.runs import resolve, run_training

    run = run_training(resolve({"recipe": "atcd", "data": "digits"}), "runs/atcd")
    run["final"]["pgd20"]

The loop and the recipes are in ``art_ext.training``, which uses no file name and no data set.
"""

from __future__ import annotations

from art_ext.models.networks import NETWORKS
from art_ext.training.runs.configuration import Configuration, resolve
from art_ext.training.runs.networks import make_network
from art_ext.training.runs.requirements import require_training
from art_ext.training.runs.run import run_training

__all__ = [
    "NETWORKS",
    "Configuration",
    "make_network",
    "require_training",
    "resolve",
    "run_training",
]
