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
# # Attack a torchvision model
#
# This notebook takes a network of torchvision with its own mean and standard deviation. It attacks the network, reads
# the report and explains the numbers. The network is trained here, on scikit-learn's digits, so that nothing is
# downloaded. With weights of your own the steps are the same.
#
# It needs `pip install 'art-ext[all]' torchvision`, and takes about a minute on one core.

# %%
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate
from torchvision.models import resnet18
from torchvision.transforms import Normalize

from art_ext.data import load_data
from art_ext.evaluation import evaluate, load_run
from art_ext.training import train

torch.set_num_threads(1)
OUT = Path("runs/torchvision")

# %% [markdown]
# ## The images
#
# Digits have 8 x 8 pixels and one channel. We enlarge them to 32 x 32 with three channels, which is what a network for
# photographs expects. **Pixels stay in [0, 1].** The radius eps is measured in these units.


# %%
def enlarged(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    data = load_data("digits", split=split).in_memory()
    x = interpolate(data.x, size=32, mode="bilinear", align_corners=False)
    return x.clamp(0, 1).expand(-1, 3, -1, -1).contiguous(), data.y


x_train, y_train = enlarged("train")
x_test, y_test = enlarged("test")
x_train.shape, x_test.shape

# %% [markdown]
# ## The model, with its normalisation inside
#
# A network of torchvision expects normalised images. **The normalisation belongs into the model.** The attack then
# works on pixels in [0, 1], and eps means what the literature means by it. If you normalise in the data loader instead,
# art-ext raises an error, because the values leave the box.

# %%
network = resnet18(num_classes=10)
network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)  # for small images
mean, std = x_train.mean((0, 2, 3)).tolist(), x_train.std((0, 2, 3)).tolist()
model = nn.Sequential(Normalize(mean, std), network)

trained = train(
    model,
    (x_train, y_train),
    "natural",
    epochs=2,
    batch_size=64,
    optimizer="adam",
    learning_rate=1e-3,
    seed=0,
)
model.eval()
with torch.no_grad():
    clean = (model(x_test).argmax(1) == y_test).float().mean()
print(f"clean accuracy {clean:.1%}")

# %% [markdown]
# ## Attack
#
# The panel `quick` holds a few strong attacks with gradients. In a cascade each attack gets only the samples that no
# earlier attack succeeded on. We attack the first 50 test images at three radii.

# %%
N = 50
outcome = evaluate(
    {"resnet18": model},
    (x_test[:N], y_test[:N]),
    OUT,
    panel="quick",
    eps=(2 / 255, 4 / 255, 8 / 255),
    overwrite=True,
)
for worst in outcome.verdicts[0].worst:
    print(
        f"eps {255 * worst.eps:.0f}/255: robust accuracy {worst.robust_accuracy:.1%},"
        f" 95 % interval {worst.robust_low:.1%} to {worst.robust_high:.1%}"
    )

# %% [markdown]
# ## The report and the card
#
# `runs/torchvision/index.html` is the report: one file that works from disk. `card.png` is a summary of one picture.

# %%
with Image.open(OUT / "card.png") as card:
    small = card.convert("RGB").resize((1000, 1000 * card.height // card.width)).quantize(64)
small

# %% [markdown]
# ## What the numbers mean
#
# * **Clean accuracy** is the share of images that the network classifies correctly without an attack.
# * **Robust accuracy** at eps is the share that is classified correctly and stays so under every attack of the panel. It
#   is an upper bound. A stronger attack can only lower it.
# * **The interval** says how far the number may move with other images of the same kind. 50 images give about
#   13 points to each side. 1,000 images give 3.
# * **Warnings** say what speaks against the numbers. An empty list is what you want.

# %%
for finding in outcome.warnings:
    print(finding.line)

# %% [markdown]
# Every sample has its record: when it was attacked, by what, at which distance, and how many queries it cost.

# %%
run = load_run(OUT)
run.records[["attack", "eps", "label", "success", "distance", "queries", "gradients"]].head()

# %%
# What this notebook claims.
accuracies = [worst.robust_accuracy for worst in outcome.verdicts[0].worst]
assert clean > 0.9
assert accuracies == sorted(accuracies, reverse=True)
assert accuracies[-1] < clean - 0.3  # a network without adversarial training is not robust
inside = run.records[run.records["success"]]
assert (inside["distance"] <= inside["eps"] * (1 + 1e-5)).all()
