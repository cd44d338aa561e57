"""Black-box services as models: retries, a rate, a budget, and a log of the answers."""

from __future__ import annotations

from art_ext.models.remote.answers import drop_damaged_answers
from art_ext.models.remote.classifier import BudgetSpent, RemoteClassifier, Usage

__all__ = ["BudgetSpent", "RemoteClassifier", "Usage", "drop_damaged_answers"]
