"""Parquet files of records: one row per sample, model, attack and eps."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.core.geometry import DISTORTIONS
from art_ext.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.parquet"
COLUMNS = (
    "index",
    "id",
    "model",
    "attack",
    "eps",
    "label",
    "target",
    "clean_prediction",
    "attacked",
    "success",
    "already_adversarial",
    "distance",
    "nearest_distance",
    *DISTORTIONS,
    "queries",
    "queries_to_success",
    "gradients",
    "wasted_rows",
    "seconds",
)
COLUMNS_OF_FORMAT_4 = tuple(
    name for name in COLUMNS if name not in ("nearest_distance", *DISTORTIONS)
)


def parquet_of(rows: pd.DataFrame) -> bytes:
    """Content of a Parquet file of these rows."""
    content = io.BytesIO()
    rows.to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()


def read_parquet(store: Store, name: str) -> pd.DataFrame:
    """Read a Parquet file of a run folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged. The message names it.
    """
    import pandas as pd

    with damage_named(store.path / name), store.reading(name) as stream:
        return pd.read_parquet(stream, engine="pyarrow")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn errors of a damaged file into a ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise ValueError(
            f"{path} is damaged ({error}). Nothing else is lost: remove this file and run the same"
            " command again, which computes its content anew"
        ) from error


def upgraded(rows: pd.DataFrame, run: Mapping[str, Any]) -> pd.DataFrame:
    """Return the records with the columns of the present format.

    In format 4 ``distance`` was that of the nearest adversarial for minimum-norm attacks and RayS.
    Their x_adv was not measured. Its distances are NaN, which means unknown.

    Args:
        rows: of this format or format 4.
        run: the content of ``run.json``.
    """
    if tuple(rows.columns) != COLUMNS_OF_FORMAT_4:
        return rows
    attacks = {name for name, attack in run["attacks"].items() if attack["nearest"]}
    nearest = rows["attack"].isin(attacks)
    unknown = rows["distance"] * math.nan
    columns = {
        "nearest_distance": rows["distance"].where(nearest, unknown),
        "distance": rows["distance"].where(~nearest, unknown),
        **dict.fromkeys(DISTORTIONS, unknown),
    }
    return rows.assign(**columns)[list(COLUMNS)]
