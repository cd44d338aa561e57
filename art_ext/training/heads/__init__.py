"""Heads: the way from a network's raw output to class scores."""

from art_ext.training.heads.base import Head, HeadedModel, IdentityHead, apply_head

__all__ = ["Head", "HeadedModel", "IdentityHead", "apply_head"]
