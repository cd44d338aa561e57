"""Black-box services as models: retries, a rate, a budget, and a log of the answers."""

from __future__ import annotations

from art_ext.models.remote.answers import drop_damaged_answers
from art_ext.models.remote.classifier import RemoteClassifier

__all__ = ["RemoteClassifier", "drop_damaged_answers"]
