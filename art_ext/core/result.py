"""Results of an attack, and its progress while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict, TypeVar

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.geometry import DISTORTIONS
from art_ext.core.oracle import LabelOracle
from art_ext.core.outside import Outside
from art_ext.core.result_file import read_fields, write_result

Self = TypeVar("Self", bound="AttackResult")


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Outcome of one attack on N samples. Every tensor has N rows and lies on the device of the
    input.

    Attributes:
        x_adv: (N, *S) float32 in the box. Where ``success`` holds, the very tensor that was
            verified. Elsewhere the input after the cast to float32 (or, with
            ``on_failure="last"``, the last iterate).
        success: (N,) bool. Misclassified or target reached, inside the box, and ``||x_adv - x|| <=
            eps + 1e-6`` in float64.
        already_adversarial: (N,) bool. The clean input reaches the goal: one query, distance 0.
        distance: (N,) float32, distance of x_adv to x in ``norm``. 0 where the clean input is
            adversarial already, inf where there is no success.
        x_nearest: (N, *S) nearest verified adversarial, inside eps or not, or the input where none
            was found. None for fixed-radius attacks, which never look past eps.
        queries: (N,) int64, forward rows charged to the sample, the clean check included.
        queries_to_success: (N,) int64, the charge at the first success of the sample. -1 without
            success.
        gradients: (N,) int64, backward rows.
        wasted_rows: (N,) int64, rows evaluated in vain: speculation and padding.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius of the ball in the units of x. None if any verified adversarial counts.
        seed: key of the random stream.
        stop_on_success: True if a sample ended at its first success.
        samples: (S, N, *S) the states of a chain, for methods that draw one. The input for rows
            already adversarial.
        trace: measurements of a method on its way, by name, each (steps, N). NaN where a sample had
            ended.
        nearest_distance: (N,) float32, distance of ``x_nearest`` to x in ``norm``, inf where none
            was found. None where ``x_nearest`` is None. Robust accuracy at other radii, curves and
            ADBD read it.
        lengths: (N, 4) L0, L1, L2 and L-inf of ``x_adv - x``, measured in the exact dtype, inf
            without success. ``distortions`` names its columns.
        value: (N,) float32, value of x_adv by the rule of a minimum-norm attack: the elastic net of
            EAD, the squared L2 of C&W, the radius of I-FGM. It is inf without success, and None for
            other attacks.
        outside: candidates of a faulty method, or outputs of an external attack, outside the ball
            or the box. They count as failures. None if there are none.
        latents: (N, d) the generator's latents of ``x_nearest``, for attacks on the images of a
            generator. Where ``success`` holds, x_adv is their image. NaN where no adversarial was
            found. Where the clean input is adversarial, the given latents, or NaN.
        start_distance: (N,) float32, L2 distance of x to the nearest image from which such an
            attack started. NaN where it did not start.
        generator_rows: (N,) int64, forward rows of the generator.
        generator_gradients: (N,) int64, its backward rows. Padding is counted in neither. These
            four fields are None for other attacks.
        model_rows: (N,) int64, forward rows of the model inside an ``Expectation``: ``draws`` for
            each row of ``queries`` and ``wasted_rows``, and those that verify candidates. Backward
            rows are ``draws`` for each of ``gradients``. None for other models.
    """

    x_adv: Tensor
    success: Tensor
    already_adversarial: Tensor
    distance: Tensor
    x_nearest: Tensor | None
    queries: Tensor
    queries_to_success: Tensor
    gradients: Tensor
    wasted_rows: Tensor
    norm: str
    eps: float | None
    seed: int | None
    stop_on_success: bool
    samples: Tensor | None = None
    trace: dict[str, Tensor] | None = None
    nearest_distance: Tensor | None = None
    lengths: Tensor | None = None
    value: Tensor | None = None
    outside: Outside | None = None
    latents: Tensor | None = None
    start_distance: Tensor | None = None
    generator_rows: Tensor | None = None
    generator_gradients: Tensor | None = None
    model_rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.success)

    def distortions(self) -> dict[str, Tensor]:
        """Distances of ``x_adv`` to x in four norms, each (N,): ``"l0"``, ``"l1"``, ``"l2"`` and
        ``"linf"``.

        ``"l0"`` is the number of features that differ. All are inf without success, and 0 where the
        clean input is adversarial already.

        Raises:
            ValueError: if the result was made without ``lengths``.
        """
        if self.lengths is None:
            raise ValueError(
                "distortions need a result with lengths, got lengths=None: take the result of an"
                " attack of art_ext, or measure with art_ext.core.geometry.distortions(x_adv, x)"
            )
        return dict(zip(DISTORTIONS, self.lengths.unbind(dim=1), strict=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all fields to a safetensors file, for ``load``. What is no tensor is JSON in its
        metadata.

        Raises:
            OSError: if the folder does not exist or cannot be written.
        """
        write_result(self, path)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Read a result that ``save`` wrote. Its tensors are on the CPU. Nothing is unpickled.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if ``save`` did not write it.
        """
        found = read_fields(path, cls)
        if found["outside"] is not None:
            found["outside"] = Outside(**found["outside"])
        return cls(**found)

    @staticmethod
    def cat(results: Sequence[AttackResult]) -> AttackResult:
        """Join the results of chunks or shards of one data set, in the order given.

        Raises:
            ValueError: if there is nothing to join, or if norm, eps, seed or stop_on_success
                differ.
        """
        if not results:
            raise ValueError("results must hold at least one AttackResult, got none")
        joined: dict[str, object] = {}
        for name in (field.name for field in fields(AttackResult)):
            values = [getattr(result, name) for result in results]
            if name == "trace" and all(values):
                joined[name] = {
                    key: torch.cat([value[key] for value in values], dim=1) for key in values[0]
                }
            elif name == "outside":
                joined[name] = Outside.cat(values, [len(result) for result in results])
            elif all(isinstance(value, Tensor) for value in values):
                joined[name] = torch.cat(values, dim=1 if name == "samples" else 0)
            elif all(value == values[0] for value in values[1:]):
                joined[name] = values[0]
            else:
                raise ValueError(f"results of one attack must agree in {name}, got {values}")
        return AttackResult(**joined)  # type: ignore[arg-type]


class Measured(TypedDict):
    """The fields of an ``AttackResult`` that follow from its ``x_adv``."""

    distance: Tensor
    lengths: Tensor


def measured(lengths: Tensor, success: Tensor, norm: str, home: torch.device) -> Measured:
    """Return the distances of x_adv as fields of an ``AttackResult``: inf without success.

    Args:
        lengths: (N, 4) of x_adv, by ``geometry.distortions``.
        success: (N,) bool.
        norm: of the result.
        home: the result's device.
    """
    lengths = lengths.masked_fill(~success.unsqueeze(1), torch.inf)
    return {
        "distance": lengths[:, DISTORTIONS.index(norm)].to(device=home, dtype=torch.float32),
        "lengths": lengths.to(device=home, dtype=geometry.exact_dtype(home)),
    }


def build_result(
    oracle: LabelOracle,
    x: Tensor,
    x_adv: Tensor,
    success: Tensor,
    *,
    already: Tensor,
    first: Tensor,
    norm: str,
    eps: float | None,
    seed: int,
    home: torch.device,
    stop_on_success: bool = False,
    lengths: Tensor | None = None,
    x_nearest: Tensor | None = None,
    nearest_distance: Tensor | None = None,
    samples: Tensor | None = None,
    trace: dict[str, Tensor] | None = None,
    value: Tensor | None = None,
    outside: Outside | None = None,
) -> AttackResult:
    """Build the result of an attack in the shape of its inputs, on the caller's device.

    Args:
        oracle: counted the queries.
        x: (N, *S) the clean inputs.
        x_adv: (N, *S) or (N, D).
        success: as ``AttackResult`` has it.
        norm: as ``AttackResult`` has it.
        eps: as ``AttackResult`` has it.
        seed: as ``AttackResult`` has it.
        stop_on_success: as ``AttackResult`` has it.
        x_nearest: (N, *S) or (N, D). None for fixed-radius attacks.
        samples: (S, N, *S) or (S, N, D). None without a chain.
        trace: as ``AttackResult`` has it.
        already: (N,) bool, adversarial from the start.
        first: (N,) queries at the first success. Not read without one.
        home: the caller's device.
        lengths: (N, 4) of x_adv, by ``geometry.distortions``. None measures them.
        nearest_distance: (N,) of x_nearest.
        value: (N,) of x_adv by the attack's own rule.
        outside: outputs outside the ball or the box, if there are any.
    """
    lengths = geometry.distortions(x_adv.view_as(x), x) if lengths is None else lengths
    numbers = torch.float32
    return AttackResult(
        x_adv=x_adv.view_as(x).to(home),
        success=success.to(home),
        already_adversarial=already.to(home),
        x_nearest=None if x_nearest is None else x_nearest.view_as(x).to(home),
        nearest_distance=None if nearest_distance is None else nearest_distance.to(home, numbers),
        queries=oracle.queries.to(home),
        queries_to_success=torch.where(success, first, -1).to(home),
        gradients=oracle.gradients.to(home),
        wasted_rows=oracle.wasted_rows.to(home),
        norm=norm,
        eps=eps,
        seed=seed,
        stop_on_success=stop_on_success,
        samples=None if samples is None else samples.view(len(samples), *x.shape).to(home),
        trace={name: values.to(home) for name, values in (trace or {}).items()} or None,
        value=None if value is None else value.to(home, numbers),
        outside=None if outside is None else outside.to(home),
        model_rows=None if (rows := oracle.ledger.model_rows) is None else rows.to(home),
        **measured(lengths, success, norm, home),
    )


@dataclass(frozen=True, eq=False)
class Progress:
    """State that a callback sees after each round of model calls: one entry per active sample.

    Attributes:
        step: number of the round, from 0 (the clean check, which reports every sample).
        index: (B,) int64, positions of the samples in x.
        distance: (B,) float32, distance of the nearest adversarial so far, inf if none.
        queries: (B,) int64, queries charged so far.
        finished: (B,) bool, the sample ends after this round.
        success: (B,) bool, the sample has a success.
        samples: (B, *S) the states of a chain that has just made a transition, for methods that
            draw one.
        iterates: (B, *S) the candidates of this round, for fixed-radius attacks of gradients. None
            for the clean check, and for other attacks.
        iteration: iterations that led to them, those of earlier trajectories included.
    """

    step: int
    index: Tensor
    distance: Tensor
    queries: Tensor
    finished: Tensor
    success: Tensor
    samples: Tensor | None = None
    iterates: Tensor | None = None
    iteration: int = 0


Callback = Callable[[Progress], None]
