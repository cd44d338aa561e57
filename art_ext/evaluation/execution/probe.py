"""The clean pass of a model, and facts about its outputs that affect the attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from art_ext.core.losses import logits_of, margin
from art_ext.core.oracle import GradientOracle, LabelOracle, Model
from art_ext.core.outputs import sums_differ
from art_ext.core.probe import probe_model
from art_ext.core.samples import admit
from art_ext.errors import UserCodeError, describe, is_plain

if TYPE_CHECKING:
    from art_ext.evaluation.panel.attack import Settings

_Oracle = TypeVar("_Oracle", bound=LabelOracle)


@dataclass(frozen=True, eq=False)
class Probe:
    """The clean pass over K samples.

    Attributes:
        labels: (K,) int64 predicted classes, on the CPU.
        classes: number of classes of the model, or None if it returns labels only.
        facts: values for JSON. Positions count from the beginning of the data set. Keys:

            * ``samples`` (K) and ``start`` (position of the first).
            * ``classes``: width of the model's output, or None.
            * ``training``: True if a module was passed in training mode.
            * ``lowest`` and ``highest`` value of the samples.
            * ``values``: the number of values, and ``on_box``: the number on the edge of the box.
            * ``probabilities``: rows that are probabilities although logits were announced.
            * ``unnormalised``: rows of probabilities that do not sum to 1.
            * ``repeated``: samples that were evaluated again.
            * ``randomised``: positions with two different answers.
            * ``batch_dependent``: positions whose answer differs in another batch.
            * ``differentiated``: correctly classified samples whose gradient was computed.
            * ``zero_gradients``: positions where it is zero everywhere.
            * ``not_differentiable``: the reason why there is no gradient, or None.
    """

    labels: Tensor
    classes: int | None
    facts: dict[str, Any]


class _CleanOracle(LabelOracle):
    """Oracle that keeps the outputs of the clean check: ``answers``, (K, classes) or (K,)."""

    answers: Tensor

    def check_clean(self, outputs: Tensor) -> None:
        super().check_clean(outputs)
        self.answers = outputs


def probe(
    model: Model,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    gradients: bool,
    *,
    start: int = 0,
    repeat: bool = True,
) -> Probe:
    """Evaluate a model on the clean samples, before and outside of any attack.

    Costs one forward per sample, two more for those of the first batch if ``repeat`` (one if they
    are fewer than four), and one more with a backward for every sample if ``gradients``. Modules
    are evaluated in eval mode, and their mode is restored.

    Args:
        model: the model that will be attacked.
        x: (K, *S) samples.
        y: (K,) int64 labels.
        settings: of the evaluation.
        gradients: True if an attack uses gradients.
        start: position of the first sample in the data set.
        repeat: True to evaluate the first batch again, as it is and in other batches.

    Raises:
        TypeError, ValueError: for samples outside the box, labels beyond the model's width, or a
            model that returns NaN, has outputs of the wrong shape or fails on the samples.
    """
    training = isinstance(model, nn.Module) and any(module.training for module in model.modules())
    try:
        with make_oracle(_CleanOracle, model, len(x), settings) as oracle:
            admitted = admit(oracle, x)[0]
            labels = oracle.clean_labels(admitted)
        answers = oracle.answers
        part = admitted[: settings.batch_size if repeat else 0]
        again = probe_model(
            model, part, samples=len(part), first=answers[: len(part)], **settings.model_keywords
        )
    except ValueError as error:  # its sample numbers count from the first one here
        if not is_plain(error):
            raise UserCodeError(
                f"the model fails on the clean samples: {describe(error)}"
            ) from error
        raise ValueError(f"{error} (counted from sample {start})" if start else error) from error
    except Exception as error:  # the model is the user's
        raise UserCodeError(
            f"the model fails on samples of shape {tuple(x.shape[1:])}: {describe(error)}"
        ) from error
    if oracle.num_classes is not None and int(y.max()) >= oracle.num_classes:
        raise ValueError(
            f"labels must be below {oracle.num_classes}, the model's width, got {int(y.max())}"
        )
    lower, upper = settings.clip_values
    facts: dict[str, Any] = {
        "samples": len(x),
        "start": start,
        "training": training,
        "classes": oracle.num_classes,
        "lowest": float(admitted.min()),
        "highest": float(admitted.max()),
        "values": admitted.numel(),
        "on_box": int(((admitted == lower) | (admitted == upper)).sum()),
        **_doubtful_rows(oracle, answers),
        "repeated": len(part),
        "randomised": _positions(again.randomised, start),
        "batch_dependent": _positions(again.batch_dependent, start),
    }
    if gradients and settings.outputs != "labels":
        facts |= _gradient_facts(model, admitted, y.to(oracle.device), labels, settings, start)
    return Probe(labels.cpu(), oracle.num_classes, facts)


def make_oracle(kind: type[_Oracle], model: Model, count: int, settings: Settings) -> _Oracle:
    """Oracle of the given kind for ``count`` samples, with the settings of an evaluation."""
    return kind(model, count, **settings.model_keywords)


def _doubtful_rows(oracle: LabelOracle, answers: Tensor) -> dict[str, int]:
    """Numbers of logits rows that sum to 1, as probabilities do, and of probability rows that do
    not.
    """
    kind = oracle.outputs
    reader = oracle.reader
    return {
        "probabilities": int(reader.like_probabilities(answers).sum()) if kind == "logits" else 0,
        "unnormalised": int(sums_differ(answers, reader.output_dtype).sum())
        if kind == "probabilities"
        else 0,
    }


def _positions(flags: Tensor, start: int) -> list[int]:
    return (flags.nonzero().flatten() + start).tolist()


def _gradient_facts(
    model: Model, x: Tensor, y: Tensor, labels: Tensor, settings: Settings, start: int
) -> dict[str, Any]:
    """Positions of correctly classified samples where the gradient of the margin loss is zero."""
    right = labels == y

    def loss(outputs: Tensor, index: Tensor) -> Tensor:
        return margin(logits_of(outputs, settings.outputs), y[index])

    reason = None
    zero = right
    try:
        with make_oracle(GradientOracle, model, len(x), settings) as oracle:
            found = oracle.gradient(
                x, torch.arange(len(x), device=x.device), loss, lambda _, index: right[index]
            )
        zero = right & (found.gradient == 0).flatten(1).all(dim=1)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # no graph from the input to the scores, or a model that works on arrays only
        reason = describe(error)
    return {
        "differentiated": int(right.sum()),
        "zero_gradients": _positions(zero, start),
        "not_differentiable": reason,
    }
