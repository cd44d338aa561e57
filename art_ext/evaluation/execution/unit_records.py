"""Records of a unit of work: columns of its samples, one block of rows for each radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from art_ext.core.geometry import DISTORTIONS, within_ball
from art_ext.core.result import AttackResult
from art_ext.evaluation.execution.chunks import Chunk
from art_ext.evaluation.execution.judging import judged
from art_ext.evaluation.execution.stability import Stability
from art_ext.evaluation.panel.attack import Attack
from art_ext.storage.records import DISTANCE_AT, STABLE, table_of_columns
from art_ext.storage.units import Unit

if TYPE_CHECKING:
    import pyarrow as pa

    from art_ext.evaluation.execution.detection import Detection


def distances_at(
    marks: Sequence[int], attack: Attack, found: Sequence[AttackResult], index: Tensor, samples: int
) -> dict[str, Tensor]:
    """Return the columns of the distances after numbers of queries, NaN where there are none.

    Args:
        marks: of the run.
        attack: with its own marks.
        found: its result on some samples, if there are any.
        index: (M,) positions of these samples.
        samples: K.
    """
    columns = {mark: torch.full((samples,), torch.nan) for mark in marks}
    for result in found:
        kept = (result.trace or {}).get("distance")
        if attack.marks and kept is not None:
            for mark, distance in zip(attack.marks, kept.cpu(), strict=True):
                columns[mark][index] = distance
    return {f"{DISTANCE_AT}{mark}": column for mark, column in columns.items()}


def records_of(
    unit: Unit,
    chunk: Chunk,
    attacked: Tensor,
    result: AttackResult,
    since: Mapping[float, Tensor],
    seconds: float,
    detection: Detection | None,
    stability: Stability | None,
    further: Mapping[str, Tensor],
) -> pa.Table:
    """Return the records of a unit, one block of rows per radius.

    Args:
        unit: of the records.
        chunk: its K samples.
        attacked: (K,) bool.
        result: of the attack on the chunk.
        since: by each radius but the largest, (K,) queries at the first success within it.
        seconds: wall time of the attack.
        detection: of the run, or None.
        stability: of the predictions, or None.
        further: columns that all radii share.
    """
    clean = chunk.clean[unit.model]
    unknown = torch.full_like(result.distance, torch.nan)
    nearest = unknown if result.nearest_distance is None else result.nearest_distance
    found = {"distance": result.distance}
    if result.lengths is not None:
        found |= dict(zip(DISTORTIONS, result.lengths.to(torch.float32).unbind(dim=1), strict=True))
    cost = (result.queries + result.wasted_rows + result.gradients).cpu().double()
    shared: Mapping[str, Tensor] = {
        "index": torch.arange(*unit.samples),
        "id": chunk.ids,
        "label": chunk.y,
        "target": clean.targets,
        "clean_prediction": clean.predictions,
        "attacked": attacked,
        "already_adversarial": result.already_adversarial,
        "nearest_distance": nearest,
        "queries": result.queries,
        "gradients": result.gradients,
        "wasted_rows": result.wasted_rows,
        "seconds": seconds * cost / cost.sum().clamp(min=1),
        **further,
    }
    blocks = []
    for radius in unit.radii:
        given = radius == unit.radii[-1]
        own = {
            "success": result.success if given else within_ball(nearest, radius),
            "queries_to_success": result.queries_to_success if given else since[radius],
            # x_adv belongs to the radius that the attack was given
            **(found if given else dict.fromkeys(found, unknown)),
        }
        if stability is not None:
            own[STABLE] = stability.column(own["success"])
        columns = {column: values.cpu().numpy() for column, values in ({**shared, **own}).items()}
        blocks.append({**columns, "eps": np.full(len(attacked), radius)})
    # a copy, which later changes of the tensors do not reach
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    if detection is not None:
        joined |= judged(joined["success"], detection, unit, chunk, attacked, result)
    return table_of_columns({**joined, "model": unit.model, "attack": unit.attack})
