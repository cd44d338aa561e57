"""Free, CAT and ATCD at equal rows in several variants: ``python -m
art_ext.benchmarks.contrastive``.

The first 10,000 training images of MNIST (from ART_EXT_DATA), the network and setting of
``benchmarks.robust_training``, 70 rows forward plus backward per training image, PGD-40 on the
first 1,000 test images. ``--passes``, ``--images``, ``--seeds`` and ``--out`` are those of that
benchmark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from art_ext.benchmarks.robust_training import arguments, run_all

VARIATIONS: list[dict[str, Any]] = [
    *({"num_replays": t, "num_steps": k} for t, k in ((8, 1), (2, 4), (1, 8))),
    {"rho": 0.0},
    *({"order": order} for order in ("printed", "fresh")),
]
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("free", {}),
    ("cat", {}),  # (T, K) = (4, 2), without the test
    ("atcd", {}),  # the same with the test
    ("atcd", {"shared_test": False}),
    *((name, variation) for name in ("cat", "atcd") for variation in VARIATIONS),
]


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.set_defaults(
        passes=70.0,
        images=10_000,
        test_images=1000,
        seeds="0,1",
        out=Path("runs/contrastive.jsonl"),
    )
    run_all(parser.parse_args(), RUNS)


if __name__ == "__main__":
    main()
