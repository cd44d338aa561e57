"""Auto-PGD at nine of a thousand classes, ranked by MALT and by score.

Run with ``python -m art_ext.benchmarks.ranking``. The network is SqueezeNet, with 20 photographs,
from the folder that ART_EXT_DATA names. Times are processor times of one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, stored_network
from art_ext.core.attacks import auto_pgd
from art_ext.core.attacks.engine.rivals import RANKINGS
from art_ext.data.transform import Transform


def photographs(folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """Return SqueezeNet, photographs (20, 3, 227, 227), and their classes."""
    from PIL import Image

    files = sorted((folder / "imagenet_samples").glob("*.jpg"))
    transform = Transform(resize=256, crop=227)
    x = torch.stack([transform(Image.open(one)) for one in files])
    y = torch.tensor([int(one.stem.rpartition("_")[2]) for one in files])
    return stored_network("imagenet_squeezenet_dc_nat"), x, y


def main() -> None:
    """Print a row for each ranking."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eps", type=float, default=0.1, help="times 255")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    print_versions()
    model, x, y = photographs(Path(os.environ["ART_EXT_DATA"]))
    shared = {"eps": options.eps / 255, "num_steps": options.steps, "num_targets": 9, "seed": 0}
    print("| ranking | right | robust | success at the first class | rows back | seconds |")
    print("|---|---|---|---|---|---|")
    for ranking in RANKINGS:
        start = time.process_time()
        found = auto_pgd(model, x, y, target_ranking=ranking, batch_size=10, **shared)
        spent = time.process_time() - start
        right = ~found.already_adversarial
        first = found.queries_to_success - int(ranking == "malt") <= options.steps + 2
        print(
            f"| {ranking} | {int(right.sum())} | {int((~found.success).sum())} |"
            f" {int((first & found.success & right).sum())} | {int(found.gradients.sum())} |"
            f" {spent:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
