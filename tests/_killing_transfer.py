"""Runs of transfers in child processes that are killed at seeded writes and started again.

A process of its own, because a process that has used autograd must not be forked. Usage: FOLDER
KILLS SEED. The run is made into FOLDER/whole without a kill and into FOLDER/killed with them. The
number of kills is printed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  # children find imported what would cost each of them seconds
import torch
from torch import Tensor, nn

from art_ext.data import Dataset
from art_ext.evaluation import transfer
from art_ext.storage.transfer import TransferFolder


class Net(nn.Module):
    """Linear classifier of images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        common = torch.randn(4, 12, generator=torch.Generator().manual_seed(99))
        own = torch.randn(4, 12, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(common + 0.5 * own)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


def nets_and_data() -> tuple[dict[str, nn.Module], Dataset]:
    """Three networks, and samples with the labels of a fourth one."""
    x = torch.rand(24, 3, 2, 2, generator=torch.Generator().manual_seed(5))
    y = (x.flatten(1) - 0.5) @ Net(7).weight.detach().T
    return {name: Net(seed) for seed, name in enumerate("abc")}, Dataset("drawn", x, y.argmax(1))


def run(out: Path, **keywords: Any) -> Any:
    """Make the run into a folder."""
    nets, data = nets_and_data()
    own: dict[str, Any] = {"pgd": {"num_steps": 4}, "hmcam": {"num_steps": 2}}
    return transfer(
        keywords.pop("models", nets),
        None,
        keywords.pop("data", data),
        ("pgd", "hmcam"),
        str(out),
        eps=0.2,
        attack_args=own,
        chunk_size=10,
        **keywords,
    )


def killed(out: Path, writes: int, place: str) -> bool:
    """Run in a child that is killed at one of its writes. Return True if it was."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    keep = TransferFolder.keep
    left = [writes]

    def counted(self: TransferFolder, kind: str, key: str, tensors: Any) -> None:
        left[0] -= 1
        if left[0] and place != "after":
            keep(self, kind, key, tensors)
            return
        if place == "torn":
            (self.path / kind).mkdir(exist_ok=True)
            (self.path / kind / f".{key}.1.tmp").write_bytes(b"half")
        if place == "after":
            keep(self, kind, key, tensors)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    TransferFolder.keep = counted  # type: ignore[method-assign]
    run(out)
    os._exit(0)


def main() -> None:
    """Kill, go on, and compare nothing: the caller reads both folders."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    drawn = random.Random(seed)
    torch.set_num_threads(1)
    done = sum(
        killed(folder / "killed", drawn.randint(1, 4), drawn.choice(("before", "torn", "after")))
        for _ in range(kills)
    )
    run(folder / "killed")
    run(folder / "whole")
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    main()
