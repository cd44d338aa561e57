"""Sources, targets and ensembles of a run of transfers, and who is tried on whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.core.checks import check_choice
from art_ext.core.oracle import Model
from art_ext.core.outputs import OUTPUTS
from art_ext.errors import describe
from art_ext.evaluation.execution.models import ArrayOrTensor, Models, common_outputs, distinct
from art_ext.evaluation.execution.transfer.ensembles import EnsembleOf, held_out, read_ensemble
from art_ext.models.sources import LoadedModel, ModelSource

Outputs = str | Mapping[str, str] | None


def named_models(models: Models, kind: str) -> dict[str, Any]:
    """Return models by name, as they were given.

    Args:
        models: one model, several in a list, or several by name.
        kind: ``"source"`` or ``"target"``, for models without a name.
    """
    if isinstance(models, Mapping):
        return dict(models)
    every = list(models) if isinstance(models, (list, tuple)) else [models]
    names = []
    for one in every:
        if isinstance(one, ModelSource):
            names.append(one.name or one.default_name)
        elif isinstance(one, LoadedModel):
            names.append(one.name)
        else:
            names.append(ModelSource(one).default_name if isinstance(one, str) else kind)
    return dict(zip(distinct(names), every, strict=True))


def united(sources: Mapping[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
    """Return sources and targets by name. A name stands for one model.

    Raises:
        ValueError: without a source, or for a name of two models.
    """
    if not sources:
        raise ValueError("transfer needs at least one source, got none")
    for name, model in targets.items():
        other = sources.get(name, model)
        if other is not model and (isinstance(model, nn.Module) or other != model):
            raise ValueError(
                f"source and target {name!r} must be the same model, or have names of their own"
            )
    return {**targets, **sources}


def outputs_of(
    given: Outputs, resolved: Mapping[str, Any], models: Mapping[str, Model], x: Tensor
) -> dict[str, str]:
    """Return the kind of the outputs of each model.

    A callable that declares nothing is called with one row: it may return class indices.

    Args:
        given: for all models, or by name. None: what the models declare.
        resolved: models as ``resolve_models`` returns them.
        models: the same, callable.
        x: (1, *S) a sample.

    Raises:
        ValueError: for an unknown kind or name.
    """
    if isinstance(given, str):
        given = dict.fromkeys(models, given)
    given = given or {}
    for name, kind in given.items():
        check_choice("outputs of", name, tuple(models))
        check_choice("outputs", kind, OUTPUTS)
    found = {}
    for name, model in models.items():
        kind = given.get(name) or common_outputs(None, {name: resolved[name]})
        if name not in given and kind == "logits" and isinstance(model, ArrayOrTensor):
            kind = _told_kind(name, model, x)
        found[name] = kind
    return found


def _told_kind(name: str, model: ArrayOrTensor, x: Tensor) -> str:
    try:
        with torch.no_grad():
            outputs = model(x)
    except Exception as error:  # the model is the user's
        raise ValueError(f"the model {name!r} fails on a sample: {describe(error)}") from error
    shape = getattr(outputs, "shape", None)
    whole = isinstance(outputs, Tensor) and not outputs.is_floating_point()
    whole |= isinstance(outputs, np.ndarray) and outputs.dtype.kind in "iu"
    return "labels" if whole and tuple(shape or ()) == (len(x),) else "logits"


def pairs_of(
    sources: Sequence[str],
    targets: Sequence[str] | None,
    ensembles: Mapping[str, str],
    hold_out: bool,
) -> tuple[dict[str, tuple[str, ...]], tuple[EnsembleOf, ...]]:
    """Return by source the names of its targets, and the ensembles among the sources.

    A source that is a member of an ensemble is attacked in it only. An ensemble is tried on itself
    and on its members too.

    Args:
        sources: names of models.
        targets: names of models. None: the sources.
        ensembles: by name, members such as ``"2*A+B"``.
        hold_out: each source in turn is the target of the ensemble of the others.

    Raises:
        ValueError: for an invalid ensemble, fewer than three sources of a hold-out, or a hold-out
            with targets or ensembles.
    """
    if hold_out:
        if targets is not None or ensembles:
            raise ValueError(
                "hold_out makes targets and ensembles of the sources: give no target and ensemble"
            )
        found = held_out(sources)
        pairs = {one.name: (one.name, *one.members, name) for name, one in found.items()}
        return pairs, tuple(found.values())
    read = tuple(read_ensemble(name, text, sources) for name, text in ensembles.items())
    members = {name for one in read for name in one.members}
    tried = tuple(sources if targets is None else targets)
    pairs = {name: tried for name in sources if name not in members}
    for one in read:
        pairs[one.name] = tuple(dict.fromkeys((one.name, *one.members, *tried)))
    return pairs, read


def check_ensembles(ensembles: Sequence[EnsembleOf], outputs: Mapping[str, str]) -> None:
    """Raise ValueError unless the members of an ensemble return scores of one kind."""
    for one in ensembles:
        kinds = {name: outputs[name] for name in one.members}
        if len(set(kinds.values())) > 1 or "labels" in kinds.values():
            told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise ValueError(
                f"members of ensemble {one.name!r} must return all logits or all probabilities, got"
                f" {told}"
            )


def check_classes(classes: Mapping[str, int]) -> None:
    """Raise ValueError unless all models have the same number of classes, as far as it is known."""
    known = {name: number for name, number in classes.items() if number}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} {number}" for name, number in known.items())
        raise ValueError(f"models must have the same number of classes, got {told}")
