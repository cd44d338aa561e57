"""Attacks as plain functions of an oracle; one module per method."""

from art_ext.core.attacks.rays import rays

__all__ = ["rays"]
