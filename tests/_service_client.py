"""Work of a client that is killed, in a process of its own.

    python -m tests._service_client WORK PORT FOLDER

does WORK (``rays``, ``nes`` or ``panel``) on the service of tests._http_service at PORT (0: on the
network itself), with the answer log FOLDER/log, and leaves its outcome in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks import nes, rays
from art_ext.models import RemoteClassifier
from tests._http_service import Client, digits_network

CONCURRENCY = 8
ROWS_PER_REQUEST = 8
SIZES = {"rays": (50, 500), "nes": (20, 500), "panel": (8, 150)}  # samples and queries


def samples_of(count: int) -> tuple[Tensor, Tensor]:
    """Inputs, and their labels by the network."""
    x = torch.rand(count, 64, generator=torch.Generator().manual_seed(4))
    return x, torch.from_numpy(digits_network()(x.numpy())).argmax(dim=1)


def run(work: str, model: Any, folder: Path) -> None:
    """Attack or evaluate a model."""
    count, queries = SIZES[work]
    x, y = samples_of(count)
    if work == "panel":
        from art_ext.data import Dataset
        from art_ext.evaluation import evaluate

        data = Dataset("random", x, y)
        sizes = {"chunk_size": 4, "max_queries": queries}
        evaluate({"m": model}, data, folder / "run", panel="black-box", eps=0.03, **sizes)  # type: ignore[arg-type]  # of mixed types
    elif work == "rays":
        rays(model, x, y, eps=0.01, max_queries=queries, seed=1).save(folder / "result")
    else:
        nes(model, x, y, eps=0.02, max_queries=queries, seed=1).save(folder / "result")


def main() -> None:
    """Do the work of the command line."""
    work, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    network = digits_network()
    model: Any = lambda rows: torch.from_numpy(network(rows.numpy()))  # noqa: E731  # a model
    if port:
        model = RemoteClassifier(
            Client(port).predict,
            answers=folder / "log",
            outputs="logits",
            rows_per_request=ROWS_PER_REQUEST,
            concurrency=CONCURRENCY,
            timeout=0.5,
            retries=30,
            backoff=(0.05, 1.0),
        )
    run(work, model, folder)


if __name__ == "__main__":
    main()
