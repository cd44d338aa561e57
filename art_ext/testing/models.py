"""Contract of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.losses import in_simplex
from art_ext.core.networks import frozen_eval
from art_ext.core.outputs import read_outputs
from art_ext.core.probe import ModelProbe, probe_model
from art_ext.models import LoadedModel, load_model
from art_ext.models.sources import short_name
from art_ext.testing.checks import (
    Check,
    World,
    all_passed,
    check_unchanged,
    expect,
    outcomes,
    seed_streams,
)

SAMPLES = 8
SEED = 3
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 224, 224))  # tried for an unknown input
ROUNDING = 1e-4


def check_model(
    model: Any,
    *,
    input_shape: Sequence[int] | None = None,
    outputs: str | None = None,
    **model_args: Any,
) -> list[Check]:
    """Check the contract of a model on random images.

    Args:
        model: a network or another callable from (R, *S) to class scores, what ``load_model``
            returns, or a source as it takes it.
        input_shape: shape S of a sample. Default: what the source declares, or the first of the
            usual shapes that the model takes.
        outputs: ``"logits"``, ``"probabilities"`` or ``"labels"``. Default: what the source
            declares, or logits.
        **model_args: arguments of the factory, for a source.

    Returns:
        The checks, all of which passed.

    Raises:
        AssertionError: with a line for each check that failed.
        ValueError, ImportError: as ``load_model``.
    """
    if isinstance(model, str):
        return all_passed(model, source_checks(model, input_shape, outputs, **model_args))
    name = getattr(model, "name", getattr(model, "__name__", type(model).__name__))
    return all_passed(str(name), model_checks(model, None, input_shape, outputs))


def source_checks(
    source: str,
    input_shape: Sequence[int] | None = None,
    outputs: str | None = None,
    **model_args: Any,
) -> Iterator[Check]:
    """Yield the outcome of each check of the model of a source, as ``check_model`` takes it."""

    def build() -> LoadedModel:
        untrained = short_name(source) is not None  # these have no weights of their own
        return load_model(source, model_args=model_args, untrained=untrained)

    return model_checks(build(), lambda: build().model, input_shape, outputs)


def model_checks(
    model: Any,
    build: Callable[[], Any] | None = None,
    input_shape: Sequence[int] | None = None,
    outputs: str | None = None,
) -> Iterator[Check]:
    """Yield the outcome of each check of a model.

    Args:
        model, input_shape, outputs: as in ``check_model``, but no source.
        build: makes the model a second time.
    """
    if isinstance(model, LoadedModel):
        input_shape = input_shape or model.input_shape
        outputs = outputs or model.outputs
        model = model.model
    shapes = SHAPES if input_shape is None else (tuple(input_shape),)
    return outcomes(CHECKS, _Subject(model, build, shapes, outputs or "logits"))


@dataclass
class _Subject:
    """A model and random images that it takes."""

    model: Any
    build: Callable[[], Any] | None
    shapes: Sequence[tuple[int, ...]]
    kind: str
    x: Tensor = field(init=False)

    def images(self, shape: tuple[int, ...]) -> Tensor:
        """Return random images."""
        found = torch.rand(SAMPLES, *shape, generator=torch.Generator().manual_seed(SEED))
        weights = self.model.parameters() if isinstance(self.model, nn.Module) else iter(())
        first = next(weights, None)
        return found if first is None else found.to(first.device)

    def call(self, x: Tensor, model: Any = None) -> Tensor:
        """Return the scores (R, K) of the model in eval mode, or its labels (R,)."""
        model = self.model if model is None else model
        with frozen_eval(model):
            return read_outputs(model(x.clone()), len(x), self.kind)

    @cached_property
    def probe(self) -> ModelProbe:
        """Comparison of repeated calls, and of other batches."""
        return probe_model(self.model, self.x, outputs=self.kind, device=self.x.device)


def _output(subject: _Subject) -> str:
    """Find the shape of the input, and check the output."""
    errors = []
    for shape in subject.shapes:
        x = subject.images(shape)
        try:
            with torch.no_grad():
                found = subject.call(x)
        except Exception as error:  # a model fails in many ways on images of another shape
            errors.append(f"{shape}: {type(error).__name__}: {error}".partition("\n")[0])
            continue
        wrong = int((~found.isfinite()).reshape(len(x), -1).any(1).sum())
        expect(not wrong, f"{wrong} of {len(x)} rows hold NaN or infinity")
        subject.x = x
        return f"{subject.kind} {tuple(found.shape)} for inputs {tuple(x.shape)}"
    expect(False, f"it takes none of the inputs tried: {'; '.join(errors)}")
    return ""


def _scores(subject: _Subject) -> str:
    """Tell probabilities from logits."""
    with torch.no_grad():
        found = subject.call(subject.x)
    if subject.kind == "labels":
        return f"labels up to {int(found.max())}"
    simplex = bool(in_simplex(found).all())
    if subject.kind == "logits":
        expect(
            not simplex,
            "the rows are probabilities: return logits, or give outputs='probabilities'",
        )
    else:
        expect(simplex, "the rows do not lie in [0, 1] or do not sum to 1: give outputs='logits'")
    return f"{found.shape[1]} classes"


def _input_unchanged(subject: _Subject) -> str:
    x = subject.x.clone()
    with torch.no_grad(), frozen_eval(subject.model):
        subject.model(x)
    expect(torch.equal(x, subject.x), "it changes its input: let it work on x.clone()")
    return "x"


def _determinism(subject: _Subject) -> str:
    differ = int(subject.probe.randomised.sum())
    expect(not differ, f"the outputs of {differ} of {SAMPLES} rows differ in a second call")
    return "two calls agree"


def _batches(subject: _Subject) -> str:
    differ = int(subject.probe.batch_dependent.sum())
    expect(
        not differ,
        f"the outputs of {differ} of {SAMPLES} rows depend on the other rows of the batch",
    )
    return "rows agree in another order and in smaller batches"


def _gradients(subject: _Subject) -> str:
    if subject.kind == "labels":
        return "none: attacks on labels only"
    rows = subject.x.clone().requires_grad_()
    found = subject.call(rows)
    if not found.requires_grad:
        return "none: attacks on labels and scores only"
    label = found.detach().argmax(dim=1, keepdim=True)
    margin = (found.gather(1, label) - found.mean(dim=1, keepdim=True)).sum()
    (slope,) = torch.autograd.grad(margin, rows)
    expect(bool(slope.isfinite().all()), "a gradient holds NaN or infinity")
    flat = int((slope == 0).flatten(1).all(1).sum())
    expect(flat < SAMPLES, "the gradient of every row is zero: robustness would be overestimated")
    return "finite" + (f", zero for {flat} of {SAMPLES} rows" if flat else ", not zero")


def _again(subject: _Subject) -> str:
    """Make the model a second time, as another process does."""
    if subject.build is None:
        return "not checked: the model was given, and no source of it"
    seed_streams(SEED + 1)
    with torch.no_grad():
        known = subject.call(subject.x).double()
        change = (subject.call(subject.x, subject.build()).double() - known).abs().max()
    expect(
        float(change) <= ROUNDING * float(known.abs().max()),
        "its source makes another model the second time: load weights, or seed the initial ones",
    )
    return "its source makes the same model twice"


def _model_restored(subject: _Subject) -> str:
    world = World(subject.model)
    with torch.no_grad():
        subject.call(subject.x)
    check_unchanged(world.model_changes(), "A prediction must leave the model as it is")
    return "parameters, buffers, modes, hooks, requires_grad"


def _streams_restored(subject: _Subject) -> str:
    world = World(subject.model)
    with torch.no_grad():
        subject.call(subject.x)
    check_unchanged(world.stream_changes(), "Draw from a torch.Generator of its own")
    return "torch, NumPy, random"


CHECKS: Mapping[str, Callable[[_Subject], str]] = {
    "output": _output,
    "scores": _scores,
    "input unchanged": _input_unchanged,
    "determinism": _determinism,
    "batch invariance": _batches,
    "gradients": _gradients,
    "same model again": _again,
    "model restored": _model_restored,
    "streams restored": _streams_restored,
}
