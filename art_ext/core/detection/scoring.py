"""Scores of inputs, from the answers of a model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from art_ext.core.geometry import Box, ClipValues
from art_ext.core.losses import logits_of
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.samples import check_samples


class Answers(NamedTuple):
    """Outputs of the model and scores of a detector for R rows.

    Attributes:
        outputs: (R, K) outputs of the model, of the kind that the model returns.
        scores: (R,) float32 scores. A larger one is more suspicious.
    """

    outputs: Tensor
    scores: Tensor


class Scoring(ABC):
    """A score of an input that is larger for adversarial ones.

    A subclass defines ``measure``, and where it needs them ``variants``. Both are functions of
    tensors inside an autograd graph, so that attacks can use them.

    Attributes:
        name: key of the detector in the list.
        needs_features: whether ``measure`` gets features of the network.
        differentiable: whether the score has a gradient with respect to the input. A
            straight-through one counts.
        layer: name of the module whose output the features are. None: the input of the last linear
            layer.
        rows: number of rows through the model for one row, 1 and one for each variant.
        shape: (*S) of one input. None before ``fit`` to data or ``calibrate``.
        model: the model, None before ``fit``.
    """

    name: ClassVar[str] = ""
    needs_features: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    rows: int = 1

    def __init__(self) -> None:
        self.layer: str | None = None
        self.shape: tuple[int, ...] | None = None
        self.model: Model | None = None
        self.outputs = "logits"
        self.batch_size = 256
        self.clip_values: ClipValues | None = (0.0, 1.0)
        self.device: torch.device | str | None = None

    @abstractmethod
    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores. Row i depends on row i of the arguments only.

        Args:
            outputs: (r, K) logits of the rows.
            features: (r, F) features of the rows, or None for a detector that needs none.
            further: (r, K) logits of each variant of the rows.
        """

    def variants(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return further inputs (r, *S) that the model answers for rows (r, *S). Default: none."""
        return ()

    def copies(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the variants of rows (r, *S), as many as ``self.rows`` counts.

        Raises:
            ValueError: if there are more or fewer, because each is charged as a query.
        """
        found = tuple(self.variants(rows))
        if 1 + len(found) != self.rows:
            raise ValueError(
                f"{self.name} must have rows={1 + len(found)}, one for the row and one for each"
                f" variant, got rows={self.rows}: set self.rows in its constructor"
            )
        return found

    def score(self, x: Tensor) -> Tensor:
        """Return (N,) float32 scores of inputs (N, *S), on their device. A larger one is more
        suspicious.

        Raises:
            ValueError: before ``fit``, or for inputs with NaN, of another shape or outside the box.
        """
        return self.answers(x).scores

    def answers(self, x: Tensor) -> Answers:
        """Return the model's outputs and the scores of inputs (N, *S), from the same passes.

        Raises:
            ValueError: before ``fit``, or for inputs with NaN, of another shape or outside the box.
        """
        with self.oracle(len(x)) as oracle:
            self.check_inputs(x)
            found = self.query(oracle, x.detach(), torch.arange(len(x), device=oracle.device))
            return Answers(*(one.to(x.device) for one in found))

    def check_inputs(self, x: Tensor) -> None:
        """Raise an error unless x is a batch of finite inputs in the box of the detector.

        Raises:
            TypeError: if x is no tensor.
            ValueError: for NaN or infinity, another shape, or values outside the box by more than
                1e-4.
        """
        check_samples(x)
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"x must have shape (samples, {', '.join(map(str, self.shape))}), as the data of"
                f" the detector {self.name!r}, got {tuple(x.shape)}"
            )
        rows = x.detach().float()
        if self.clip_values is None:
            box = Box(torch.tensor(-math.inf), torch.tensor(math.inf))
        else:
            box = Box.of(self.clip_values, rows.shape[1:], rows.device)
        box.admit(rows)

    def oracle(self, num_samples: int) -> ScoreOracle:
        """Return an oracle of the model that the detector was fitted to.

        Raises:
            ValueError: before ``fit``.
        """
        if self.model is None:
            raise ValueError(f"{self.name} must be fitted before use: call fit(model, x, y)")
        return ScoreOracle(
            self.model,
            num_samples,
            outputs=self.outputs,
            batch_size=self.batch_size,
            clip_values=self.clip_values,
            device=self.device,
        )

    def query(self, oracle: ScoreOracle, rows: Tensor, index: Tensor) -> Answers:
        """Return outputs and scores of rows (R, *S), without a graph.

        Each row is charged as many queries as ``self.rows`` says: one for itself and one for each
        variant.

        Args:
            oracle: of the model that the detector was fitted to.
            rows: (R, *S) inputs, on any device.
            index: (R,) int64, the sample each row is charged to.
        """
        if not len(rows):
            return Answers(rows.new_zeros(0, 0), rows.new_zeros(0))
        parts = []
        for part, owner, outputs, features in raw_answers(self, oracle, rows, index):
            further = tuple(
                logits_of(oracle.scores(variant, owner), oracle.outputs)
                for variant in self.copies(part)
            )
            scores = self.measure(logits_of(outputs, oracle.outputs), features, further)
            parts.append(Answers(outputs, scores.float()))
        return Answers(*(torch.cat(column) for column in zip(*parts, strict=True)))


def raw_answers(
    detector: Scoring, oracle: ScoreOracle, rows: Tensor, index: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Yield rows, their samples, outputs and features of each call of the model, without a graph.

    Only the rows of a call are sent to the model's device. The features are None for a detector
    that needs none.
    """
    with ExitStack() as stack:
        tap = (
            stack.enter_context(oracle.features(detector.layer))
            if detector.needs_features
            else None
        )
        for start in range(0, len(rows), oracle.batch_size):
            part = rows[start : start + oracle.batch_size].to(oracle.device).float()
            owner = index[start : start + oracle.batch_size]
            with torch.no_grad():
                outputs = oracle.scores(part, owner)
                features = None if tap is None else tap.take(len(part))
            yield part, owner, outputs, features


def given(features: Tensor | None) -> Tensor:
    """Return the features, which a detector that needs them gets from every caller.

    Raises:
        ValueError: if there are none.
    """
    if features is None:
        raise ValueError("this detector needs features of the network, got None")
    return features
