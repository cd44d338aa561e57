"""Examples of one attack on one source over a chunk, and the answers of models to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from art_ext.core.geometry import distortions
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.metrics.chain import predictions
from art_ext.core.oracle import LabelOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult
from art_ext.core.samples import admit
from art_ext.core.streams import fingerprint
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.evaluation.execution.chunks import make_oracle
from art_ext.evaluation.execution.transfer.iterates import Iterates
from art_ext.evaluation.execution.transfer.plan import Setting
from art_ext.evaluation.panel.attack import AttackRequest, Settings
from art_ext.evaluation.panel.targets import choose_targets

Tensors = dict[str, Tensor]


def clean_pass(name: str, model: Model, x: Tensor, y: Tensor, settings: Settings) -> Tensors:
    """Return ``prediction`` (K,) and ``classes`` (), 0 if unknown, of clean samples (K, *S).

    Costs one forward each.

    Raises:
        ValueError: if the model fails on them, or labels lie beyond its width.
    """
    try:
        with make_oracle(LabelOracle, model, len(x), settings) as oracle:
            labels = oracle.clean_labels(admit(oracle, x)[0])
    except ModelStopped:
        raise
    except Exception as error:  # the model is the user's
        raise failure(f"the model {name!r} fails on the clean samples", error) from error
    classes = oracle.num_classes or 0
    if classes and int(y.max()) >= classes:
        raise ValueError(
            f"labels must be below {classes}, the width of the model {name!r}, got {int(y.max())}"
        )
    return {"prediction": labels.cpu(), "classes": torch.tensor(classes)}


def targets_of(
    model: Model, x: Tensor, y: Tensor, classes: int, settings: Settings, seed: int
) -> Tensor:
    """(K,) int64 classes to reach, -1 for none. Least likely ones cost one more forward each."""
    least = None
    if settings.targeted == "least-likely":
        with make_oracle(ScoreOracle, model, len(x), settings) as oracle:
            index = torch.arange(len(x), device=oracle.device)
            least = oracle.scores(admit(oracle, x)[0], index).argmin(dim=1).cpu()
    return choose_targets(settings.targeted, y, fingerprint(x), seed, classes, least)


def craft(
    source: str,
    model: Model,
    x: Tensor,
    y: Tensor,
    setting: Setting,
    settings: Settings,
    clean: Tensors,
    target_seed: int,
) -> Tensors:
    """Run an attack on the samples (K, *S) of a chunk.

    The classes to leave are the source's own predictions, which are the labels of all samples that
    it classifies correctly. So one run serves both metrics.

    Args:
        source: name of the model.
        model: the source.
        x, y: the samples and their labels.
        setting: of the attack.
        settings: of the run on this source.
        clean: the clean pass of the source.
        target_seed: of random classes to reach.

    Returns:
        ``x_adv`` (K, *S), ``success``, ``target_class``, ``queries``, ``gradients`` and
        ``seconds`` (K,), ``lengths`` (K, 4) of ``x_adv``, ``states`` (S, K, *S) of a chain, and
        ``iterates`` (A, K, *S) with their ``iterate_lengths`` (A, K, 4).

    Raises:
        ValueError: if the attack or the model fails.
    """
    own = clean["prediction"]
    classes = int(clean["classes"]) or int(max(y.max(), own.max())) + 1
    target = targets_of(model, x, y, classes, settings, target_seed)
    # a sample whose label is the class to reach is one query, and left as it is
    goal = own if settings.targeted is None else torch.where(target == y, own, target)
    begun = time.perf_counter()
    iterates = Iterates(x, setting.at)
    eps = cast(float, setting.eps)  # None for a minimum-norm attack without a ball
    request = AttackRequest(model, x, goal, eps, settings)
    if setting.at:
        request = replace(request, callback=iterates)
    try:
        result = setting.attack.run(request)
    except (AttackInterrupted, ModelStopped):
        raise
    except Exception as error:  # the model is the user's, and an external attack may fail too
        place = f"{setting.attack.name} fails on the source {source!r}"
        raise failure(place, error) from error
    seconds = time.perf_counter() - begun
    return {**_tensors(result, x, seconds), "target_class": target, **iterates.tensors()}


def _tensors(result: AttackResult, x: Tensor, seconds: float) -> Tensors:
    cost = (result.queries + result.wasted_rows + result.gradients).cpu().double()
    x_adv = result.x_adv.cpu().to(torch.float32)
    found = {
        "x_adv": x_adv,
        "success": result.success.cpu(),
        "queries": result.queries.cpu(),
        "gradients": result.gradients.cpu(),
        "seconds": seconds * cost / cost.sum().clamp(min=1),
        "lengths": distortions(x_adv, x.to(torch.float32)),
    }
    return found if result.samples is None else {**found, "states": result.samples.cpu()}


def answers(name: str, model: Model, crafted: Tensors, settings: Settings) -> Tensors:
    """Return the predictions of a model on examples: one row for each, and for each state.

    A state that is the example itself costs no second row.

    Returns:
        ``x_adv`` (K,), ``states`` (S, K) and ``iterates`` (A, K), all int64. -1 for a row of NaN.

    Raises:
        ValueError: if the model fails.
    """

    def classes_of(rows: Tensor) -> Tensor:
        return predictions(
            model, rows.unsqueeze(0), settings.outputs, settings.batch_size, settings.device
        ).squeeze(0)

    try:
        found: Tensors = {
            key: torch.stack([classes_of(rows) for rows in crafted[key]])
            for key in ("states", "iterates")
            if key in crafted
        }
        return {"x_adv": _of_examples(crafted, found, classes_of), **found}
    except ModelStopped:
        raise
    except Exception as error:  # the model is the user's
        raise failure(f"the target {name!r} fails on examples", error) from error


def _of_examples(
    crafted: Tensors, found: Tensors, classes_of: Callable[[Tensor], Tensor]
) -> Tensor:
    x_adv = crafted["x_adv"]
    if "states" not in found:
        return classes_of(x_adv)
    same = torch.stack([(one == x_adv).flatten(1).all(dim=1) for one in crafted["states"]])
    known = same.any(dim=0)
    labels = found["states"].gather(0, same.to(torch.int8).argmax(dim=0, keepdim=True)).squeeze(0)
    if not bool(known.all()):
        labels[~known] = classes_of(x_adv[~known])
    return labels


def failure(place: str, error: Exception) -> ValueError:
    """Return the error for code of the user's that ended with an exception."""
    if is_plain(error):
        return ValueError(f"{place}: {describe(error)}")
    return UserCodeError(f"{place}: {describe(error)}")
