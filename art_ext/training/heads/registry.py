"""The heads of art-ext by name, and networks that get their heads back from a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from art_ext.core.checks import nearest
from art_ext.training.heads.base import Head
from art_ext.training.heads.distilled import DistilledHead
from art_ext.training.heads.max_mahalanobis import MaxMahalanobisHead
from art_ext.training.heads.mean_probability import MeanProbabilityHead
from art_ext.training.heads.reverse import ReverseLogitsHead

HEADS: dict[str, type[Head]] = {
    one.name: one
    for one in (ReverseLogitsHead, MaxMahalanobisHead, DistilledHead, MeanProbabilityHead)
}


def rebuild_head(record: Mapping[str, Any]) -> Head:
    """Return the head of a record, as ``Head.record`` makes it.

    Raises:
        ValueError: for a head that is not of art-ext, or arguments that do not fit.
    """
    name = record["name"]
    if name not in HEADS:
        raise ValueError(
            f"the head {name!r} is not one of art-ext, {', '.join(HEADS)}{nearest(name, HEADS)}:"
            " load the folder of its training, or pass the network with this head"
        )
    try:
        return HEADS[name].rebuilt(record["arguments"])
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"the head {name!r} does not take the arguments {record['arguments']}: {error}"
        ) from error


def with_heads(network: nn.Module, records: Iterable[Mapping[str, Any]]) -> nn.Module:
    """Return the network with the heads of saved records, which list the outermost first.

    Raises:
        ValueError: as ``rebuild_head``, and if the network does not fit a head.
    """
    for record in reversed(list(records)):
        head = rebuild_head(record)
        network = head.export(head.fitted(network))
    return network
