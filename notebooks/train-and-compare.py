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
# # Train and compare
#
# This notebook trains the same network three times on scikit-learn's digits: naturally, by PGD adversarial training, and
# by Backward Smoothing. It compares them under the same attacks. It takes about a minute on one core.

# %%
from pathlib import Path

import torch
from PIL import Image

from art_ext.data import load_data
from art_ext.evaluation import evaluate
from art_ext.models import digits_cnn
from art_ext.training import BackwardSmoothing, Natural, Pgd, train

torch.set_num_threads(1)
OUT = Path("runs/compare")
EPS = 0.2
data = load_data("digits", split="train").in_memory()
test = load_data("digits").first(200)

# %% [markdown]
# ## Train
#
# A recipe says how training examples are made and which loss is minimised. Everything else is an option of the loop. The
# three runs share all options, so that only the recipe differs.

# %%
RECIPES = {
    "natural": Natural(),
    "pgd": Pgd(eps=EPS, num_steps=5),
    "backward-smoothing": BackwardSmoothing(eps=EPS),
}
models, results = {}, {}
for name, recipe in RECIPES.items():
    torch.manual_seed(0)
    models[name] = digits_cnn()
    results[name] = train(
        models[name],
        (data.x, data.y),
        recipe,
        epochs=20,
        batch_size=128,
        optimizer="adam",
        learning_rate=4e-3,
        schedule="cyclic",
        seed=0,
    )
    rows = results[name].forwards + results[name].backwards
    print(f"{name:20} {rows / len(data) / 20:5.1f} forward and backward rows per image and epoch")

# %% [markdown]
# The cost is counted in rows, not in seconds. It is therefore the same on every machine. Backward Smoothing crafts its
# examples in one step, so it costs less than PGD training with five.

# %% [markdown]
# ## Compare
#
# All models are attacked in one run, on the same 200 test digits. The attacks are independent here: each one gets all
# samples, so that the curves of single attacks can be compared too.

# %%
outcome = evaluate(
    models, test, OUT, attacks=("pgd", "auto_pgd", "rays"), eps=EPS, max_queries=300, overwrite=True
)
robust = {}
for verdict in outcome.verdicts:
    (worst,) = verdict.worst
    robust[verdict.model] = worst.robust_accuracy
    print(
        f"{verdict.model:20} clean {verdict.clean_accuracy:.1%}, robust {worst.robust_accuracy:.1%}"
        f" [{worst.robust_low:.1%}, {worst.robust_high:.1%}]"
    )

# %% [markdown]
# ## Is the difference real?
#
# The models were attacked on the same images. So count the images on which only one of two models is robust. McNemar's
# test asks whether these counts differ by more than chance. `art-ext compare` and the comparison page do this for you:
#
# ```text
# art-ext report runs/compare --baseline natural
# ```

# %%
with Image.open(OUT / "card.png") as card:
    small = card.convert("RGB").resize((1000, 1000 * card.height // card.width)).quantize(64)
small

# %%
# What this notebook claims.
assert robust["pgd"] > robust["natural"] + 0.2
assert robust["backward-smoothing"] > robust["natural"] + 0.2
assert results["backward-smoothing"].backwards < results["pgd"].backwards
assert all(verdict.clean_accuracy > 0.85 for verdict in outcome.verdicts)
