"""Attacks in the form of AttackBench, and its own local optimality of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.attackbench import attack
from art_ext.core.attacks import auto_pgd, ead
from tests._overlay import ROOT, overlay

PROGRAM = """
import json, sys, torch
import attackbench
from attackbench.metrics.optimality import compute_local_optimality
from torch.utils.data import DataLoader, TensorDataset
from art_ext.adapters.attackbench import attack
from art_ext.data import load_data
from art_ext.models import load_weights, mnist_small_cnn

torch.set_num_threads(1)
data = load_data("mnist").first(30)
model = load_weights(mnist_small_cnn(), sys.argv[1]).eval()
loader = DataLoader(TensorDataset(data.x, data.y), batch_size=15)
attacks = {
    "ead": dict(num_steps=50, search_steps=3, initial_const=1.0),
    "cw": dict(num_steps=50, search_steps=3, initial_const=1.0),
    "frank_wolfe": dict(eps=2.0),
    "auto_pgd": dict(eps=2.0, num_steps=20),
}
found = {
    name: attackbench.run_attack(
        model, loader, attack(name, **given), "l2", device=torch.device("cpu"), debug=True
    )
    for name, given in attacks.items()
}
table = {
    name: compute_local_optimality(one, list(found.values()), "l2", use_wandb=False)["optimality"]
    for name, one in found.items()
}
success = {name: sum(one["adv_success"]) for name, one in found.items()}
print(json.dumps({"table": table, "success": success}))
"""


def test_the_form_of_attackbench(linear_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x = digits[0][:5]
    y = linear_net(x).argmax(dim=1)
    found: Tensor = attack("auto_pgd", eps=0.2, num_steps=5, seed=0)(linear_net, x, y, norm="l2")
    assert torch.equal(
        found, auto_pgd(linear_net, x, y, eps=0.2, norm="l2", num_steps=5, seed=0).x_adv
    )
    nearest = ead(linear_net, x, y, norm="l2", num_steps=9).x_nearest
    assert nearest is not None
    assert torch.equal(attack("ead", num_steps=9)(linear_net, x, y, norm="l2"), nearest)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "auto_pgd needs eps=RADIUS, got {}"),
        ({"eps": 1, "stepps": 2}, "needs arguments among eps,"),
    ]
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            attack("auto_pgd", **given)
    with pytest.raises(ValueError, match="auto_pg"):
        attack("auto_pg", eps=1)


@pytest.mark.slow
def test_local_optimality_on_mnist(art_ext_data: Path) -> None:
    folder = overlay("attackbench", "--no-deps", "attackbenchlib==2.0.2")
    pytest.importorskip("wandb", reason="wandb, which AttackBench imports, is not installed")
    weights = art_ext_data / "checkpoints" / "mnist_smallcnn_standard.safetensors"
    paths = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(weights)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["table"]) == {"ead", "cw", "frank_wolfe", "auto_pgd"}
    assert all(0 < share <= 1 for share in found["table"].values()), found
    assert found["success"]["ead"] > 25, found
