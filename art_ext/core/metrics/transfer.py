"""Transfer between models: examples made on each of K models, tried on all of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.attacks import registry
from art_ext.core.metrics.chain import predictions
from art_ext.core.metrics.intervals import wilson
from art_ext.core.oracle import Model
from art_ext.core.samples import check_classes, check_samples

TARGETS = ("targeted", "targets")


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Success of examples on K models. Row k: made on model k. Column j: tried on model j.

    Attributes:
        success: (K, K) share of the ``count`` samples that model j misclassifies. NaN for none.
        low: (K, K) lower ends of the 95 % Wilson intervals.
        high: (K, K) upper ends.
        count: n, the number of samples that all models classify correctly.
        counted: (N,) bool, these samples.
        off_diagonal: mean of ``success`` over the pairs of different models.
        diagonal: mean of ``success`` of each model under its own examples.
    """

    success: Tensor
    low: Tensor
    high: Tensor
    count: int
    counted: Tensor
    off_diagonal: float
    diagonal: float


def transfer_matrix(
    models: Sequence[Model],
    x: Tensor,
    y: Tensor,
    *,
    attack: str = "pgd",
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
    **arguments: Any,
) -> TransferMatrix:
    """Measure how often examples made on one model succeed on another.

    ``success_kj = mean_i [f_j(x'_{k,i}) != y_i]``, where x'_k are the examples of model k. The mean
    is over the samples that all models classify correctly. Each model is attacked once, on these
    samples. Where nothing succeeds, the last iterate counts, if the attack returns it.

    Args:
        models: two models or more, such as ``members(result)``. Each is an ``nn.Module`` or a
            callable of a batch, and runs in eval mode.
        x: (N, *S) clean inputs in the box.
        y: (N,) their true classes.
        attack: name of an attack, as ``art-ext attacks`` lists them. Default: ``"pgd"``.
        outputs: what the models return, ``"logits"``, ``"probabilities"`` or, for attacks of
            labels, ``"labels"``. Default: logits.
        batch_size: most rows in one model call. Default: 256.
        device: device of the inputs, for models without parameters. Default: None, that of x.
        **arguments: of the attack, such as ``eps``, ``num_steps`` and ``seed``. It is untargeted.

    Returns:
        A ``TransferMatrix`` on the CPU. Each model is queried once for each clean sample, by its
        own attack as that attack counts, and once for each example of each model.

    Raises:
        ValueError: for fewer than two models, an unknown attack, targets, samples and labels that
            do not fit, or arguments that the attack rejects, also where no sample counts.
        TypeError: for an argument that the attack does not have.

    References:
        Pang, Xu, Du, Chen, Zhu, "Improving adversarial robustness via promoting ensemble
        diversity", ICML 2019 (transferability among members). Yang et al., "DVERGE: diversifying
        vulnerabilities for enhanced robust generation of ensembles", NeurIPS 2020 (samples that all
        members classify correctly).
    """
    if not isinstance(models, Sequence) or len(models) < 2:
        number = len(models) if isinstance(models, Sequence) else type(models).__name__
        raise ValueError(f"models must be a list of two models or more, got {number}")
    for name in TARGETS:
        if arguments.get(name) not in (None, False):
            raise ValueError(f"transfer_matrix counts misclassified examples, got {name}")
    check_samples(x)
    check_classes("y", y, len(x))
    spec = registry.get(attack)
    spec.check_supplied()
    shared: dict[str, Any] = {"outputs": outputs, "batch_size": batch_size, "device": device}
    given = {"on_failure": "last", **shared, **arguments}
    if "eps" not in arguments and spec.parameters["eps"] is inspect.Parameter.empty:
        raise ValueError(f"the attack {spec.name} needs eps, such as eps=0.1")
    own = {
        name: value for name, value in given.items() if name in spec.parameters or name in arguments
    }
    labels = y.cpu().to(torch.int64)
    counted = torch.ones(len(x), dtype=torch.bool)
    for model in models:
        clean = predictions(model, x.unsqueeze(0), outputs, batch_size, device).squeeze(0)
        counted &= clean == labels
    rows, right = x[counted.to(x.device)], labels[counted]
    success = torch.zeros(len(models), len(models), dtype=torch.int64)
    for made_on, model in enumerate(models):
        # without a row, only the arguments are checked
        found = spec.function(model, rows, right.to(rows.device), **own)
        examples = getattr(found, "x_adv", found).detach().to(x.device).unsqueeze(0)
        for tried_on, other in enumerate(models):
            said = predictions(other, examples, outputs, batch_size, device).squeeze(0)
            success[made_on, tried_on] = ((said != right) & (said >= 0)).sum()
    return _matrix(success, counted)


def _matrix(success: Tensor, counted: Tensor) -> TransferMatrix:
    """Return the shares and intervals of counts (K, K) of the samples that count (N,)."""
    exact = geometry.exact_dtype(torch.device("cpu"))
    total = int(counted.sum())
    ends = [[wilson(one, total) for one in row] for row in success.tolist()]
    shares = success.to(exact) / total if total else torch.full_like(success, math.nan, dtype=exact)
    own = torch.eye(len(success), dtype=torch.bool)
    return TransferMatrix(
        success=shares,
        low=torch.tensor([[one[0] for one in row] for row in ends], dtype=exact),
        high=torch.tensor([[one[1] for one in row] for row in ends], dtype=exact),
        count=total,
        counted=counted,
        off_diagonal=float(shares[~own].mean()),
        diagonal=float(shares[own].mean()),
    )
