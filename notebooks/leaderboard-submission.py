# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A leaderboard submission
#
# This notebook makes a complete submission to RobustBench, from an evaluation to the checked folder. RobustBench's
# CIFAR leaderboards take images of the shape (3, 32, 32). We enlarge scikit-learn's digits to this shape, so that nothing
# is downloaded. A real submission names CIFAR-10 and all 10,000 test images.
#
# It needs `pip install 'art-ext[all]'`, and takes about a minute on one core.

# %%
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from art_ext.data import load_data
from art_ext.training import train

torch.set_num_threads(1)
OUT = Path("runs/submission")
OUT.mkdir(parents=True, exist_ok=True)


def art_ext(*arguments: object) -> str:
    """Run the command line, as in a terminal: art-ext ARGUMENTS."""
    command = [sys.executable, "-m", "art_ext", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# %% [markdown]
# ## A model in a file of its own
#
# RobustBench wants a file that builds the network, and its weights. The file may import installed packages.

# %%
SOURCE = '''"""A small network for 32 x 32 images."""

from torch import nn


def build():
    return nn.Sequential(
        nn.AvgPool2d(4),
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
'''
(OUT / "mine.py").write_text(SOURCE)
namespace: dict = {}
exec(compile(SOURCE, "mine.py", "exec"), namespace)  # noqa: S102 our own text above


def enlarged(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_data("digits", split=split).in_memory()
    return interpolate(digits.x, size=32).expand(-1, 3, -1, -1).contiguous(), digits.y


x, y = enlarged("train")
model = namespace["build"]()
train(
    model, (x, y), "fast", epochs=15, batch_size=128, optimizer="adam", learning_rate=3e-3, seed=0
)
save_file(model.state_dict(), OUT / "net.safetensors")
x, y = enlarged("test")
np.savez(OUT / "digits.npz", x_test=x.numpy(), y_test=y.numpy())

# %% [markdown]
# ## Evaluate with the panel `standard`
#
# `--save-images` keeps every adversarial. The submission needs them as evidence.

# %%
print(
    art_ext(
        *("evaluate", "--model", OUT / "mine.py:build", "--weights", OUT / "net.safetensors"),
        *("--data", OUT / "digits.npz", "--n", 100, "--eps", "8/255", "--panel", "standard"),
        *("--save-images", "--overwrite", "--quiet", "--out", OUT / "run"),
    )
)

# %% [markdown]
# ## Make the submission
#
# The TOML file says what the records cannot know. `--allow-partial` accepts a part of the test set. The text of the
# issue then says which part.

# %%
(OUT / "mine.toml").write_text(
    """\
name = "Mine2026Robust"
authors = "A. Author, B. Author"
paper_title = "Robust networks of mine"
paper_link = "https://arxiv.org/abs/..."
venue = "unpublished"
architecture = "two convolutions"
additional_data = false
license = "MIT"
url = "https://example.org/mine"
"""
)
folder = OUT / "submission"
shutil.rmtree(folder, ignore_errors=True)
print(
    art_ext(
        *("submit", OUT / "run", "--model", OUT / "mine.py:build"),
        *("--weights", OUT / "net.safetensors", "--metadata", OUT / "mine.toml"),
        *("--allow-partial", "--dataset", "cifar10", "--out", folder),
    )
)

# %%
print((folder / "issue.md").read_text()[:1500])

# %% [markdown]
# ## Check it
#
# The check loads the model as RobustBench would, and compares every number with the records. It recomputes the
# accuracies on the stored samples.

# %%
checked = art_ext("submit", "--check", folder)
print(checked)

# %%
# What this notebook claims.
assert "failed" not in checked
assert (folder / "model.safetensors").is_file()
