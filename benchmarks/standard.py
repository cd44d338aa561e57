"""Name that ``art_ext.benchmarks.rand`` imports until it takes it from ``common``."""

from __future__ import annotations

from art_ext.benchmarks.common import stored_network as network

__all__ = ["network"]
