"""Clean and robust accuracy as RobustBench measures them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from art_ext.adapters.robustbench.info import NORMS
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import exact_mean
from art_ext.core.networks import frozen_eval

if TYPE_CHECKING:
    import torch

    from art_ext.adapters.autoattack import AutoAttackResult

logger = logging.getLogger("art_ext")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of ``evaluate``. It unpacks into the pair of RobustBench's ``benchmark``.

    Attributes:
        clean_accuracy: share of the samples that the model classifies correctly.
        robust_accuracy: share that stays correct under every attack.
        dataset: name of the data.
        samples: how many there were.
        threat_model: ``"Linf"`` or ``"L2"``.
        eps: radius in the units of x.
        version: of AutoAttack.
        result: of AutoAttack, with the adversarial images, the accuracy after each attack, and its
            flags.
    """

    clean_accuracy: float
    robust_accuracy: float
    dataset: str
    samples: int
    threat_model: str
    eps: float
    version: str
    result: AutoAttackResult

    def __iter__(self) -> Iterator[float]:
        yield self.clean_accuracy
        yield self.robust_accuracy


@outside_inference_mode()
def evaluate(
    model: nn.Module,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    eps: float = 8 / 255,
    *,
    n_examples: int = 10_000,
    data_dir: str | os.PathLike[str] | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    batch_size: int = 250,
    device: torch.device | str | None = None,
    version: str = "standard",
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """Clean and robust accuracy as RobustBench's ``benchmark`` measures them: AutoAttack on the
    first test samples.

    Unlike there, data come from local files or from tensors, nothing is downloaded or written, the
    model is neither moved nor left in another mode: one in training mode is evaluated in eval mode,
    with a warning.

    Args:
        model: from (R, *S) in [0, 1] to (R, K) logits.
        dataset: a name or path, as ``load_data`` takes it. With x and y, their name in the
            report.
        threat_model: ``"Linf"`` or ``"L2"``. Corruptions are not measured here.
        eps: radius in the units of x.
        n_examples: the first so many samples, or all where there are fewer. The result tells how
            many.
        data_dir: the folder of a named data set. Default: that of the environment variable
            ART_EXT_DATA.
        x: (N, *S) in [0, 1], in place of the files.
        y: (N,) int64, their classes.
        batch_size: most rows in one model call.
        device: where inputs go, for models without parameters.
        version: of AutoAttack: ``"standard"``, ``"plus"``, ``"rand"`` or ``"custom"`` (with
            ``attacks=[...]``).
        seed: of AutoAttack.
        **options: passed on to :func:`art_ext.adapters.autoattack.run_autoattack`, such as
            ``state_dir``.

    Raises:
        ValueError: for values that make no sense, and data that are not found.
        ImportError: without AutoAttack.
    """
    check_choice("threat_model", threat_model, tuple(NORMS))
    check_count("n_examples", n_examples)
    if (x is None) != (y is None):
        raise ValueError(f"x and y go together, got {'y' if x is None else 'x'} alone")
    if x is None or y is None:
        from art_ext.data import load_data

        data = load_data(dataset, root=data_dir)
        x, y, dataset = data.x, data.y, data.name
    from art_ext.adapters.autoattack import run_autoattack

    if isinstance(model, nn.Module) and model.training:
        logger.warning(
            "the model is in training mode: it is evaluated in eval mode, and put back afterwards"
        )
    x, y = x[:n_examples], y[:n_examples]
    with frozen_eval(model):
        result = run_autoattack(
            model,
            x,
            y,
            norm=NORMS[threat_model],
            eps=eps,
            version=version,
            seed=seed,
            batch_size=batch_size,
            device=device,
            **options,
        )
    wrong = result.already_adversarial
    return Evaluation(
        clean_accuracy=exact_mean(~wrong),
        robust_accuracy=exact_mean(~(wrong | result.success)),
        dataset=dataset,
        samples=len(x),
        threat_model=threat_model,
        eps=eps,
        version=version,
        result=result,
    )
