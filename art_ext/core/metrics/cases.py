"""Distortions in the best, average and worst case of targeted attacks."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.attacks.engine.cases import drawn_class
from art_ext.core.checks import check_choice
from art_ext.core.geometry import DISTORTIONS, distortions
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_ids
from art_ext.core.streams import fingerprint

CASES = ("best", "average", "worst")


def case_distortions(
    result: AttackResult, x: Tensor, case: str, *, sample_ids: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute success and distortions of one case over the examples of all wrong classes.

    Each distortion is taken separately, as in the thesis. In the best case the minimum of L1 and
    the minimum of L2 may come from examples of different classes.

    Args:
        result: of ``ead``, ``cw``, ``i_fgm`` or ``zoo`` with ``targets="all"``.
        x: (N, *S) the clean inputs.
        case: ``"best"``: the minimum over the classes that were reached. ``"worst"``: the maximum
            over all classes, a success only if all were reached. ``"average"``: a random wrong
            class, the one that ``targets="average"`` draws with the result's seed.
        sample_ids: (N,) int64 identities that the attack was given. They determine the random
            class.

    Returns:
        ``"success"`` (N,) bool, and ``"l0"``, ``"l1"``, ``"l2"``, ``"linf"`` (N,) in the exact
        dtype, inf without success.

    Raises:
        ValueError: for an unknown case, a result without the examples of all classes, or x of
            another shape.

    References:
        Sharma, master's thesis, 2018, section 4.3. Carlini, Wagner, "Towards evaluating the
        robustness of neural networks", IEEE S&P 2017 (the three cases).
    """
    check_choice("case", case, CASES)
    trace = result.trace or {}
    if result.samples is None or "target" not in trace:
        raise ValueError(
            "case_distortions needs the examples of all classes: run the attack with targets='all'"
        )
    if x.shape != result.x_adv.shape:
        raise ValueError(
            f"x must have the shape of x_adv {tuple(result.x_adv.shape)}, got {tuple(x.shape)}"
        )
    check_ids(sample_ids, len(x))
    x = x.to(result.samples)
    reached = trace["success"]
    table = torch.stack([distortions(examples, x) for examples in result.samples])  # (K - 1, N, 4)
    table = table.masked_fill(~reached.unsqueeze(2), torch.inf)
    if case == "best":
        success = reached.any(dim=0)
        chosen = table.amin(dim=0)
    elif case == "worst":
        success = reached.all(dim=0)
        chosen = table.amax(dim=0)
    else:
        if result.seed is None:
            raise ValueError("the average case needs the seed of the result, got seed=None")
        ids = fingerprint(x) if sample_ids is None else sample_ids.to(x.device)
        drawn = drawn_class(result.seed, ids, len(table))
        samples = torch.arange(len(x), device=x.device)
        success = reached[drawn, samples]
        chosen = table[drawn, samples]
    return {"success": success, **dict(zip(DISTORTIONS, chosen.unbind(dim=1), strict=True))}
